//! The graph of a pipeline as data, and how its tasks stand.

use std::collections::HashMap;

use planexe_base::pattern;
use planexe_engine::graph::{Graph, Kind, TaskId};
use planexe_pipeline::project::{Project, Spec};
use planexe_ui::views::{GraphEdge, GraphNode, GraphView, SCHEMA, Server, TaskView};

/// The graph as data: all of it, or the named tasks and what they need.
pub fn view(server: Server, project: &Project, named: &[TaskId]) -> GraphView {
    let graph = &project.graph;
    let mask = if named.is_empty() { vec![true; graph.len()] } else { graph.upstream(named) };
    let order = || graph.order().iter().copied().filter(|id| mask[id.index()]);
    GraphView {
        schema: SCHEMA,
        server,
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
        items: Default::default(),
        critical: false,
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

/// Adds the state of each task, of a fan-out also how many of its items are in which, and the critical path.
pub fn judge(view: &mut GraphView, tasks: &[TaskView]) {
    let at: HashMap<String, usize> =
        view.nodes.iter().enumerate().map(|(at, node)| (node.task.clone(), at)).collect();
    let mut takes = vec![0.0_f64; view.nodes.len()];
    for task in tasks {
        let seconds = task.last.duration_s.or(task.expected_s).unwrap_or(0.0);
        if let Some(&at) = at.get(&task.task) {
            view.nodes[at].state = Some(task.state);
            takes[at] = takes[at].max(seconds);
        }
        if let Some(&at) = task.family.as_ref().and_then(|family| at.get(family)) {
            *view.nodes[at].items.entry(task.state).or_default() += 1;
            // Its items run side by side.
            takes[at] = takes[at].max(seconds);
        }
    }
    mark_critical(view, &at, &takes);
}

/// Marks the path that took longest, by what each task took. None, if nothing is known to have taken any time.
fn mark_critical(view: &mut GraphView, at: &HashMap<String, usize>, takes: &[f64]) {
    // Tasks stand in topological order.
    let mut needs: Vec<Vec<usize>> = vec![Vec::new(); takes.len()];
    for edge in &view.edges {
        if let (Some(&from), Some(&to)) = (at.get(&edge.from), at.get(&edge.to)) {
            needs[to].push(from);
        }
    }
    let mut ends: Vec<(f64, Option<usize>)> = Vec::with_capacity(takes.len());
    for (to, seconds) in takes.iter().enumerate() {
        let known = needs[to].iter().filter(|from| **from < to);
        let last = known.copied().max_by(|a, b| ends[*a].0.total_cmp(&ends[*b].0));
        ends.push((last.map_or(0.0, |from| ends[from].0) + seconds, last));
    }
    let mut on =
        (0..ends.len()).max_by(|a, b| ends[*a].0.total_cmp(&ends[*b].0)).filter(|at| ends[*at].0 > 0.0);
    while let Some(at) = on {
        view.nodes[at].critical = true;
        on = ends[at].1.filter(|from| ends[*from].0 > 0.0);
    }
}
