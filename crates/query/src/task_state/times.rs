//! How long tasks take, and how long the rest of a build.

use std::collections::HashMap;

use super::Standing;
use planexe_base::cores;
use planexe_base::record::State;
use planexe_build::eta::{self, Known};
use planexe_engine::graph::{Graph, Kind};
use planexe_engine::slots::AtOnce;
use planexe_pipeline::project::Project;
use planexe_store::index::Index;
use planexe_ui::views::Verdict;

/// What tasks take, by `index` and by what this run's records say.
pub fn durations(project: &Project, standing: &Standing, index: &Index) -> Known<f64> {
    let recorded = standing.tasks.iter().filter_map(|view| Some((view.task.clone(), view.last.duration_s?)));
    let mut seconds: HashMap<String, f64> = recorded.collect();
    seconds.extend(index.usual_durations::<Vec<_>>(|_| true));
    Known::new(project, seconds, |&seconds| seconds)
}

/// Seconds until everything is done that a build can do which runs so many tasks `at_once`, if that is known.
pub fn time_left(
    project: &Project,
    graph: &Graph,
    standing: &Standing,
    known: &Known<f64>,
    at_once: Option<AtOnce>,
) -> f64 {
    let at_once = at_once.unwrap_or(AtOnce { cores: cores::count() as u32, all: u32::MAX });
    eta::time_left(project, graph, at_once, |id| {
        let Some(view) = standing.of(id) else { return 0.0 };
        let up_to_date = view.state.is_complete() && view.verdict == Some(Verdict::Fresh);
        let cannot_run = matches!(view.state, State::Failed | State::Blocked | State::Waiting);
        if up_to_date || cannot_run || graph[id].kind == Kind::Group {
            return 0.0;
        }
        (known.seconds(project, &graph[id]) - view.elapsed_s.unwrap_or(0.0)).max(0.0)
    })
}

/// Says of each running task how long it is expected to take, where that is known: by what it, or others of its
/// declaration, took.
pub fn expect(graph: &Graph, standing: &mut Standing, known: &Known<f64>) {
    for id in graph.ids() {
        let Some(&at) = standing.at.get(&id) else { continue };
        let view = &mut standing.tasks[at];
        if view.state == State::Running && view.elapsed_s.is_some() {
            view.expected_s = known.of_decl(&graph[id]);
        }
    }
}
