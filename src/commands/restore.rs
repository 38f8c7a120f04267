//! `planexe restore`: brings former outputs back.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe restore` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RestoreArgs {
    /// The task; `TASK@N` for its Nth version as `planexe history` counts them [default: the latest kept]
    #[arg(value_name = "TASK[@N]", required_unless_present = "checkpoint")]
    pub task: Option<String>,

    /// All outputs as they were at a checkpoint
    #[arg(long, value_name = "ID", conflicts_with = "task")]
    pub checkpoint: Option<String>,

    /// Only say what would be changed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Brings former outputs back.
pub fn run(_session: &Session, _args: &RestoreArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe restore` is not in this version yet"))
}
