//! `planexe resume`: says where a run goes on, then builds.

use clap::Args;

use crate::commands::Session;
use crate::commands::build::HowArgs;
use crate::exit::{Error, Kind};

/// What `planexe resume` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ResumeArgs {
    /// Only say where it would go on: changes nothing in the run, not even a time stamp
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Go on with a run that was aborted
    #[arg(long)]
    pub force: bool,

    /// How the build is carried out.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Resumes.
pub fn run(_session: &Session, _args: &ResumeArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe resume` is not in this version yet"))
}
