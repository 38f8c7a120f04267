//! `planexe graph`: draws the tasks and the files between them.

use clap::{Args, ValueEnum};

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe graph` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GraphArgs {
    /// Only these tasks and what they need
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// The language to draw in
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: GraphFormat,
}

/// A language for graphs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz
    #[default]
    Dot,
    /// Mermaid, as Markdown viewers draw it
    Mermaid,
    /// Nodes and edges as data
    Json,
}

/// Draws.
pub fn run(_session: &Session, _args: &GraphArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe graph` is not in this version yet"))
}
