//! `planexe stop`, `pause`, `abort`: what was asked of whom.

use serde::Serialize;

use crate::report::Server;

/// What was asked of a running build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SteerView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// stop, pause, resume, abort.
    pub asked: String,
    /// The build's process; none if none was running.
    pub pid: Option<u32>,
    /// One line for people.
    pub message: String,
}
