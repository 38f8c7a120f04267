//! `planexe check`: reads the pipeline and reports every fault.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe check` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {}

/// Checks the pipeline.
pub fn run(_session: &Session, _args: &CheckArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe check` is not in this version yet"))
}
