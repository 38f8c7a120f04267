//! `planexe schema`: prints the JSON Schema of pipeline.toml.

use clap::Args;

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe schema` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct SchemaArgs {}

/// Prints the schema.
pub fn run(_session: &Session, _args: &SchemaArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe schema` is not in this version yet"))
}
