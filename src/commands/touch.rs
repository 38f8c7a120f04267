//! `planexe touch`: marks tasks done as they are.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe touch` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct TouchArgs {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    pub tasks: Vec<String>,

    /// Only say what would be marked
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Marks tasks done.
pub fn run(_session: &Session, _args: &TouchArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe touch` is not in this version yet"))
}
