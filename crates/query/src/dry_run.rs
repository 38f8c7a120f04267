//! Judging without running: what a build would do, and the state of every task. Reads only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;

use planexe_base::record::Failure;
use planexe_build::check_staleness::{self as judge, Judgement, StaleCheck};
use planexe_engine::graph::{Graph, TaskId, Why};
use planexe_engine::scheduler::{Action, Engine, Event, Judged, Mode, Options, Resolution, Target, TaskInfo};
use planexe_engine::slots::Slots;
use planexe_engine::staleness::{Decision, Rules};
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_store::index::Index;

/// What was found.
#[derive(Debug)]
pub struct Survey {
    /// The graph, with the instances that are known.
    pub graph: Graph,
    /// Judgements by task; none of groups and fan-outs, or of tasks not asked for.
    pub judgements: HashMap<TaskId, Judgement>,
    /// How each task would end.
    pub settled: HashMap<TaskId, Resolution>,
    /// Fan-outs whose items cannot be known, and why.
    pub unknown_items: HashMap<TaskId, Failure>,
}

/// What to look at.
pub struct Look<'a> {
    /// The pipeline and its run.
    pub project: &'a Project,
    /// The run's records.
    pub store: &'a Store,
    /// What is known of file contents.
    pub index: &'a Index,
    /// How to judge.
    pub rules: Rules,
    /// `--no-reuse`.
    pub no_reuse: bool,
    /// `--only`.
    pub only: bool,
    /// The environment.
    pub env: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// Judges the targets and all they need.
pub fn survey(look: &Look<'_>, targets: &[Target]) -> Survey {
    let project = look.project;
    let finder = Finder::new(look.store);
    let judge = StaleCheck {
        project,
        store: look.store,
        index: look.index,
        finder: &finder,
        rules: look.rules,
        anew: Arc::new(look.store.read_anew()),
        no_reuse: look.no_reuse,
        env: look.env,
    };
    // What `planexe retry` asked of a build that did not come to it: the next one makes it anew.
    let retried: HashSet<String> = look.store.asked_retries().into_iter().collect();
    let retry =
        StaleCheck { anew: Arc::clone(&judge.anew), rules: Rules { force: true, ..look.rules }, ..judge };
    let infos = vec![TaskInfo::default(); project.specs.len()];
    let options = Options { only: look.only, ..Options::default() };
    let slots = Slots::new(&[], &[], 1, 1);
    let mut engine = Engine::new(project.graph.clone(), Mode::Plan, options, infos, slots);
    engine.want(targets);
    let mut judgements = HashMap::new();
    let mut unknown_items = HashMap::new();
    // Tasks that may come out skipped: nothing tells yet whether they run.
    let mut open: HashSet<TaskId> = HashSet::new();
    let now = Duration::ZERO;
    loop {
        let actions = engine.poll(now);
        if actions.is_empty() {
            break;
        }
        let mut batch = Vec::new();
        for action in actions {
            match action {
                Action::Judge { task, shallow } => batch.push((task, shallow)),
                Action::Expand(family) => {
                    let items = judge.wanted_items(engine.graph(), family, targets);
                    let items = items.map_err(|failure| unknown_items.insert(family, failure)).ok();
                    engine.on(Event::Expanded(family, items), now);
                }
                Action::Start { .. } | Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => {}
            }
        }
        let graph = engine.graph();
        let is_open = |task: TaskId| {
            let mut reads = graph[task].needs.iter().filter(|need| need.why == Why::Reads);
            project.spec(&graph[task]).when.is_some() || reads.any(|need| open.contains(&need.task))
        };
        let found: Vec<(TaskId, Judgement, bool)> = batch
            .par_iter()
            .map(|&(task, shallow)| {
                let check = if retried.contains(&graph[task].name) { &retry } else { &judge };
                (task, check.judge_to_make(graph, task, shallow), shallow && is_open(task))
            })
            .collect();
        for (task, judgement, is_open) in found {
            let judged = match verdict(&judgement) {
                Judged::Stale(_) if is_open => Judged::DependsOn,
                judged => judged,
            };
            if is_open {
                open.insert(task);
            }
            engine.on(Event::Judged(task, judged), now);
            judgements.insert(task, judgement);
        }
    }
    judge::name_taken_away(engine.graph(), judgements.iter_mut(), || look.store.gone());
    let settled = engine.graph().ids().filter_map(|id| Some((id, engine.settled(id)?))).collect();
    Survey { graph: engine.graph().clone(), judgements, settled, unknown_items }
}

/// What a judgement means for those that depend on the task.
fn verdict(judgement: &Judgement) -> Judged {
    if judgement.failure.is_some() {
        return Judged::Failed;
    }
    if judgement.skipped {
        return Judged::Skipped;
    }
    match judgement.decision {
        Decision::Fresh { .. } | Decision::Adopt => Judged::Fresh,
        Decision::KeptFailed => Judged::Failed,
        Decision::Stale { .. } => Judged::Stale(Default::default()),
        Decision::DependsOn => Judged::DependsOn,
    }
}
