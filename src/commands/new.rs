//! `planexe new`: makes a run directory.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe new` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct NewArgs {
    /// The folder to make
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The pipeline it runs [default: pipeline.toml here or above]
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// Text of the plan, the file that `plan = …` names; `-` reads standard input
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,

    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
}

/// Makes a run directory.
pub fn run(_session: &Session, _args: &NewArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe new` is not in this version yet"))
}
