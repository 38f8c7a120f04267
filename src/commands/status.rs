//! `planexe status`: shows the state of every task; judges, runs nothing.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe status` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// Show again as it changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
}

/// Shows the state of every task.
pub fn run(_session: &Session, _args: &StatusArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe status` is not in this version yet"))
}
