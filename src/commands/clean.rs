//! `planexe clean`: makes tasks be made again, their outputs kept in history.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe clean` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CleanArgs {
    /// The tasks
    #[arg(value_name = "TASK", required_unless_present_any = ["orphans", "all"])]
    pub tasks: Vec<String>,

    /// Also everything that depends on them
    #[arg(long, visible_alias = "cascade")]
    pub downstream: bool,

    /// Files of tasks and items that are no longer in the pipeline
    #[arg(long)]
    pub orphans: bool,

    /// Every task
    #[arg(long, conflicts_with_all = ["tasks", "downstream"])]
    pub all: bool,

    /// Only list the files
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Cleans.
pub fn run(_session: &Session, _args: &CleanArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe clean` is not in this version yet"))
}
