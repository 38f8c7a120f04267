//! `planexe graph`: draws the tasks and the files between them.

use clap::{Args, ValueEnum};

use crate::commands::Session;
use crate::ops::build::targets;
use crate::ops::status::{every_task, look};
use planexe_base::exit::{self, Error};
use planexe_base::pattern;
use planexe_engine::graph::{Graph, Kind, TaskId};
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Spec;
use planexe_store::index::Index;
use planexe_ui::views::{GraphEdge, GraphNode, GraphView};

/// What `planexe graph` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GraphArgs {
    /// Only these tasks and what they need
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// The language to draw in: dot (Graphviz), mermaid (Markdown viewers), json; --json is the last
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    pub format: GraphFormat,

    /// Colour each task by its state
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
    /// Nodes and edges as data
    Json,
}

/// Draws. A fan-out is drawn once.
pub fn run(session: &Session, args: &GraphArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let named: Vec<TaskId> = targets(&opened, &args.targets)?.into_iter().map(|(id, _)| id).collect();
    let mut view = view(session, &opened, &named);
    if args.state {
        let index = Index::load(&opened.store);
        let seen = look(session, &opened, &index, &every_task(&opened));
        for node in &mut view.nodes {
            node.state =
                opened.project.graph.find(&node.task).and_then(|id| Some(seen.standing.of(id)?.state));
        }
    }
    match args.format {
        _ if session.globals.json => session.print_json(&view)?,
        GraphFormat::Json => session.print_json(&view)?,
        GraphFormat::Dot => session.print(&view.dot())?,
        GraphFormat::Mermaid => session.print(&view.mermaid())?,
    }
    Ok(exit::DONE)
}

/// The graph as data: all of it, or the named tasks and what they need.
fn view(session: &Session, opened: &Opened, named: &[TaskId]) -> GraphView {
    let project = &opened.project;
    let graph = &project.graph;
    let mask = if named.is_empty() { vec![true; graph.len()] } else { graph.upstream(named) };
    let order = || graph.order().iter().copied().filter(|id| mask[id.index()]);
    GraphView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        pipeline: project.name.clone(),
        nodes: order().map(|id| node(graph, id, project.spec(&graph[id]))).collect(),
        edges: order().flat_map(|id| edges(graph, id, project.spec(&graph[id]))).collect(),
    }
}

fn node(graph: &Graph, id: TaskId, spec: &Spec) -> GraphNode {
    let task = &graph[id];
    let sources = read_by(graph, id, spec).filter(|path| !graph.is_produced(path));
    GraphNode {
        task: task.name.clone(),
        recipe: spec.recipe.name().to_owned(),
        foreach: task.kind == Kind::Family,
        sources: sources.map(str::to_owned).collect(),
        outputs: task.outputs.clone(),
        state: None,
    }
}

/// What a task reads, the file or glob of its items included.
fn read_by<'a>(graph: &'a Graph, id: TaskId, spec: &'a Spec) -> impl Iterator<Item = &'a str> {
    let items = spec.foreach.as_ref().and_then(|foreach| foreach.file.as_deref().or(foreach.glob.as_deref()));
    graph[id].inputs.iter().map(|input| input.pattern.as_str()).chain(items)
}

/// One edge for each file a task reads of another, or one without a file for `after`.
fn edges(graph: &Graph, id: TaskId, spec: &Spec) -> Vec<GraphEdge> {
    let mut edges = Vec::new();
    for need in graph.direct_needs(id) {
        let read = |output: &&String| read_by(graph, id, spec).any(|path| pattern::could_match(path, output));
        let files: Vec<&String> = graph[need].outputs.iter().filter(read).collect();
        let edge = |file: Option<&String>| GraphEdge {
            from: graph[need].name.clone(),
            to: graph[id].name.clone(),
            file: file.cloned(),
        };
        if files.is_empty() {
            edges.push(edge(None));
        }
        edges.extend(files.into_iter().map(|file| edge(Some(file))));
    }
    edges
}
