//! `planexe graph`: draws the tasks and the files between them.

use clap::{Args, ValueEnum};

use crate::commands::Session;
use crate::ops::build::targets;
use crate::ops::status::{every_task, look};
use planexe_base::exit::{self, Error};
use planexe_engine::graph::TaskId;
use planexe_query::graph_view;
use planexe_store::index::Index;
use planexe_ui::page;

/// What `planexe graph` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GraphArgs {
    /// Only these tasks and what they need
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// What to draw: dot (Graphviz), mermaid (Markdown viewers), svg (a picture), json; --json is the last
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    pub format: GraphFormat,

    /// Colour each task by its state; svg always does
    #[arg(long)]
    pub state: bool,
}

/// A language for graphs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz
    #[default]
    Dot,
    /// Mermaid, as Markdown viewers draw it
    Mermaid,
    /// A picture in layers
    Svg,
    /// Nodes and edges as data
    Json,
}

/// Draws. A fan-out is drawn once.
pub fn run(session: &Session, args: &GraphArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let named: Vec<TaskId> = targets(&opened, &args.targets)?.into_iter().map(|(id, _)| id).collect();
    let mut view = graph_view::view(session.server(), &opened.project, &named);
    // A drawing without states says little of a run.
    if args.state || args.format == GraphFormat::Svg {
        let index = Index::load(&opened.store);
        let seen = look(session, &opened, &index, &every_task(&opened));
        graph_view::judge(&mut view, &seen.standing.tasks);
    }
    match args.format {
        _ if session.globals.json => session.print_json(&view)?,
        GraphFormat::Json => session.print_json(&view)?,
        GraphFormat::Dot => session.print(&view.dot())?,
        GraphFormat::Mermaid => session.print(&view.mermaid())?,
        GraphFormat::Svg => session.print(&page::graph::file(&view))?,
    }
    Ok(exit::DONE)
}
