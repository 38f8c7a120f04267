//! `planexe stop`, `pause`, `abort`: what was asked of whom.

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::Server;
use crate::views::news::News;
use crate::views::status::some_names;
use planexe_base::run_phase::RunPhase;

/// What was asked of a running build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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

/// `planexe wait`: how the wait ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// As in `status`.
    pub phase: RunPhase,
    /// The time was over first.
    pub timed_out: bool,
    /// Tasks that failed.
    pub failed: Vec<String>,
    /// Tasks that wait for a person.
    pub waiting: Vec<String>,
    /// What happened since the look before.
    pub news: Vec<News>,
    /// What has been seen by now, for the next wait.
    pub cursor: String,
    /// The exit code.
    pub exit_code: u8,
}

impl WaitView {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.phase.to_string();
        for (what, names) in [("failed", &self.failed), ("waiting for a person", &self.waiting)] {
            if !names.is_empty() {
                text += &format!("; {what}: {}", some_names(names, 5));
            }
        }
        if self.timed_out {
            text += "; time ran out";
        }
        text
    }
}
