//! `planexe done`: a person is finished, or passes a paused gate.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe done` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DoneArgs {
    /// The task that waits
    #[arg(value_name = "TASK")]
    pub task: String,
}

/// Passes a task that waits.
pub fn run(_session: &Session, _args: &DoneArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe done` is not in this version yet"))
}
