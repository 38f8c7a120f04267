//! `planexe history`: lists what is kept of former outputs.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe history` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct HistoryArgs {
    /// Only of this task
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
}

/// Lists former outputs.
pub fn run(_session: &Session, _args: &HistoryArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe history` is not in this version yet"))
}
