//! `planexe record`: packs the answers of a run into one file.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe record` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RecordArgs {
    /// The file to write, for a model with `api = "recorded"`
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
}

/// Packs answers.
pub fn run(_session: &Session, _args: &RecordArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe record` is not in this version yet"))
}
