//! `planexe schema`: prints the JSON Schema of pipeline.toml.

use clap::Args;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_pipeline::manifest::schema::json_schema;

/// What `planexe schema` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct SchemaArgs {}

/// Prints the schema.
pub fn run(session: &Session, _args: &SchemaArgs) -> Result<u8, Error> {
    session.print(&json_schema())?;
    Ok(exit::DONE)
}
