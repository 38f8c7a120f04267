//! `planexe explain`: says why a task is stale, or why it is not.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe explain` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ExplainArgs {
    /// The task, an output of it, or one instance: `review[ann]`
    #[arg(value_name = "TASK", required = true)]
    pub tasks: Vec<String>,
}

/// Explains.
pub fn run(_session: &Session, _args: &ExplainArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe explain` is not in this version yet"))
}
