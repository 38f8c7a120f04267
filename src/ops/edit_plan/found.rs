//! What an edit of the plan makes stale, what of it is kept, and what the rest is expected to take.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::Answer;
use super::carried::Carried;
use crate::ops::Session;
use crate::ops::names::find_task;
use planexe_base::exit::{Error, Kind};
use planexe_build::check_staleness::Judgement;
use planexe_build::touch;
use planexe_engine::graph::{Graph, TaskId};
use planexe_engine::staleness::Decision;
use planexe_pipeline::input_files::has_outputs;
use planexe_pipeline::open::{Named, Opened};
use planexe_pipeline::project::{Project, Recipe};
use planexe_query::selection::{Part, Unit, Units, judge};
use planexe_query::task_state::reasons;
use planexe_store::index::Index;
use planexe_ui::views::Reason;
use planexe_ui::views::edit_plan::{EditPlanView, StaleView};

/// A task the edit makes stale.
pub(super) struct Hit {
    pub(super) id: TaskId,
    pub(super) name: String,
    decl: usize,
    reasons: Vec<Reason>,
    pub(super) judgement: Judgement,
}

/// What an edit makes stale.
pub struct Found {
    pub(super) graph: Graph,
    /// By the edit alone, in topological order.
    pub(super) hits: Vec<Hit>,
    /// Tasks that were up to date before it.
    fresh: BTreeSet<String>,
    stale_before: Vec<String>,
    /// What each task took and cost when it was made last.
    former: Vec<Former>,
    /// Templates between the plan and what is asked of it: they cost nothing, and are made again in any case.
    carried: HashSet<String>,
}

/// What a task took and cost when it was made last, as far as known.
struct Former {
    id: TaskId,
    seconds: Option<f64>,
    cost_usd: Option<f64>,
}

impl Found {
    /// Judges every task by what lies there, and again with the new text, in `edited`, in the plan's place.
    pub(super) fn new(session: &Session, opened: &Opened, plan: &str, edited: &Path) -> Result<Found, Error> {
        let env = |name: &str| session.variable(name);
        let store = &opened.store;
        let index = Index::load(store);
        let (mut fresh, mut stale_before) = (BTreeSet::new(), Vec::new());
        {
            let units = Units::new(&opened.project, store);
            let judge = judge(&opened.project, store, &index, &units.finder, &env);
            for id in in_order(&units.graph) {
                match judge.judge(&units.graph, id, false).decision {
                    Decision::Fresh { .. } | Decision::Adopt => {
                        fresh.insert(units.graph[id].name.clone());
                    }
                    Decision::Stale { .. } => stale_before.push(units.graph[id].name.clone()),
                    _ => {}
                }
            }
        }
        let mut then = session.open(false)?;
        let mut carried = Carried::new(plan, edited);
        loop {
            let project = Arc::get_mut(&mut then.project)
                .ok_or_else(|| Error::new(Kind::Internal, "BUG: a project that was just opened is shared"))?;
            project.in_place_of = carried.in_place_of.clone();
            let units = Units::new(&then.project, store);
            let judge = judge(&then.project, store, &index, &units.finder, &env);
            let was_stale: HashSet<&String> = stale_before.iter().collect();
            let (mut hits, mut former) = (Vec::new(), Vec::new());
            for id in in_order(&units.graph) {
                let judgement = judge.judge(&units.graph, id, false);
                let task = &units.graph[id];
                let status = judgement.status.as_deref();
                let took = index.durations(&task.name).last().copied();
                former.push(Former {
                    id,
                    seconds: took.or(status.and_then(|status| status.last.duration_s)),
                    cost_usd: status
                        .and_then(|status| status.result.usage.as_ref())
                        .map(|usage| usage.cost_usd),
                });
                let stale =
                    matches!(judgement.decision, Decision::Stale { .. }) || judgement.failure.is_some();
                // Up to date before, or not there at all.
                if stale && !was_stale.contains(&task.name) {
                    let (name, decl) = (task.name.clone(), task.decl);
                    hits.push(Hit { id, name, decl, reasons: reasons(&judgement), judgement });
                }
            }
            drop(was_stale);
            if !carried.add(&then.project, &units.graph, &hits, &fresh)? {
                let graph = units.graph.clone();
                let carried = carried.tasks.iter().cloned().collect();
                return Ok(Found { graph, hits, fresh, stale_before, former, carried });
            }
        }
    }

    /// Whether the edit makes nothing stale that was not stale before.
    pub fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// All of it as data, before anything is settled.
    pub(super) fn view(&self, opened: &Opened, plan: &str, diff: &str) -> EditPlanView {
        let stale = |hit: &Hit| StaleView { task: hit.name.clone(), reasons: hit.reasons.clone() };
        let mut view = EditPlanView {
            plan: plan.to_owned(),
            diff: diff.to_owned(),
            stale: self.hits.iter().map(stale).collect(),
            stale_before: self.stale_before.clone(),
            ..EditPlanView::default()
        };
        self.estimate(opened, &mut view, &[]);
        view
    }

    /// Calls, money and time of what is not kept, and of what is made again because it was named.
    fn estimate(&self, opened: &Opened, view: &mut EditPlanView, again: &[Unit]) {
        let calls = |id: TaskId| opened.project.spec(&self.graph[id]).asks();
        let called = |hit: &&Hit| {
            let prepared = hit.judgement.prepared.as_ref();
            let paid =
                prepared.is_some_and(|prepared| prepared.kept.is_some() || prepared.existing.is_some());
            if paid { (0, 0) } else { calls(hit.id) }
        };
        let kept: HashSet<&String> = view.kept.iter().collect();
        let left: Vec<&Hit> = self.hits.iter().filter(|hit| !kept.contains(&hit.name)).collect();
        let again: Vec<TaskId> = again.iter().filter_map(|unit| self.graph.find(&unit.name)).collect();
        let begin: Vec<(u32, u32)> =
            left.iter().map(called).chain(again.iter().map(|&id| calls(id))).collect();
        let begun: Vec<TaskId> = left.iter().map(|hit| hit.id).chain(again).collect();
        let mask = self.graph.downstream(&begun);
        let by_itself: HashSet<TaskId> =
            begun.iter().copied().chain(self.hits.iter().map(|hit| hit.id)).collect();
        let follows = |id: &TaskId| {
            mask[id.index()] && !by_itself.contains(id) && self.fresh.contains(&self.graph[*id].name)
        };
        let after: Vec<TaskId> = in_order(&self.graph).into_iter().filter(follows).collect();
        view.calls_expected = begin.iter().map(|(sure, _)| sure).sum();
        view.calls_at_most =
            begin.iter().copied().chain(after.iter().map(|&id| calls(id))).map(|(_, most)| most).sum();
        view.depends = after.iter().map(|id| self.graph[*id].name.clone()).collect();
        let all: HashSet<TaskId> = begun.into_iter().chain(after).collect();
        let known = || self.former.iter().filter(|former| all.contains(&former.id));
        let sum = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum());
        view.duration_s = sum(known().filter_map(|former| former.seconds).collect());
        view.cost_usd = sum(known().filter_map(|former| former.cost_usd).collect());
    }

    /// Settles what is kept; an error if something cannot be. Returns what is to be made again though the edit does
    /// not touch it.
    pub fn settle(
        &self,
        opened: &Opened,
        view: &mut EditPlanView,
        answer: &Answer,
    ) -> Result<Vec<Unit>, Error> {
        let Choice { goes, untouched } = self.choose(opened, answer)?;
        let (mut kept, mut cannot) = (Vec::new(), Vec::new());
        let stays = |hit: &&Hit| {
            !goes(hit) && !self.carried.contains(&hit.name) && !is_free(&opened.project, &self.graph, hit.id)
        };
        for hit in self.hits.iter().filter(stays) {
            let faults = touch::faults(&opened.project, &opened.store, &self.graph[hit.id], &hit.judgement);
            match faults.into_iter().next() {
                None => kept.push(hit.name.clone()),
                Some(fault) => cannot.push(format!("`{}`: {}", hit.name, fault.text)),
            }
        }
        if !cannot.is_empty() {
            let mut error =
                Error::new(Kind::Task, "some tasks cannot be kept, so nothing was changed").code("not_whole");
            error.causes = cannot;
            return Err(error.hint("`--all` makes all again"));
        }
        let again = Units::new(&opened.project, &opened.store).of_all(untouched)?;
        let named = |unit: &Unit| StaleView {
            task: unit.name.clone(),
            reasons: vec![Reason::new("forced", "asked for by name")],
        };
        view.kept = kept;
        view.stale.extend(again.iter().map(named));
        self.estimate(opened, view, &again);
        Ok(again)
    }

    /// What an answer means for the tasks there are.
    fn choose(&self, opened: &Opened, answer: &Answer) -> Result<Choice, Error> {
        let graph = &opened.project.graph;
        let hit = |task: TaskId| self.hits.iter().any(|hit| hit.decl == graph[task].decl);
        Ok(match answer {
            Answer::All => Choice { goes: Box::new(|_| true), untouched: Vec::new() },
            Answer::None => Choice { goes: Box::new(|_| false), untouched: Vec::new() },
            Answer::Remake(names) => {
                let named: Vec<Named> =
                    names.iter().map(|name| find_task(opened, name)).collect::<Result<_, _>>()?;
                let untouched = named.iter().filter(|named| !hit(named.task));
                let untouched = untouched.map(|named| (named.task, named.key.clone())).collect();
                // By declaration, and the one item that is meant, if one is.
                let meant: Vec<(usize, Option<String>)> = named
                    .iter()
                    .map(|named| {
                        let task = &graph[named.task];
                        (task.decl, named.key.as_ref().map(|key| format!("{}[{key}]", task.name)))
                    })
                    .collect();
                let goes = move |hit: &Hit| {
                    let is = |(decl, item): &(usize, Option<String>)| {
                        *decl == hit.decl && item.as_ref().is_none_or(|item| *item == hit.name)
                    };
                    meant.iter().any(is)
                };
                Choice { goes: Box::new(goes), untouched }
            }
            Answer::From(name) => {
                let task = find_task(opened, name)?.task;
                let mask = graph.downstream(&[task]);
                let mut decls: HashSet<usize> =
                    graph.ids().filter(|id| mask[id.index()]).map(|id| graph[id].decl).collect();
                decls.insert(graph[task].decl);
                let untouched = if hit(task) { Vec::new() } else { vec![(task, None)] };
                Choice { goes: Box::new(move |hit| decls.contains(&hit.decl)), untouched }
            }
        })
    }
}

/// Whether it costs nothing to make a task again, nor anything that follows from it: so it is never kept, and what it shows
/// is of the plan as it is.
fn is_free(project: &Project, graph: &Graph, id: TaskId) -> bool {
    let costs = |id: TaskId| {
        let spec = project.spec(&graph[id]);
        spec.eval.is_some() || !matches!(spec.recipe, Recipe::Template(_) | Recipe::Gate(_))
    };
    let after = graph.downstream(&[id]);
    !costs(id) && !graph.ids().any(|other| after[other.index()] && costs(other))
}

/// What an answer means.
struct Choice {
    /// Whether a task that the edit makes stale is made again.
    goes: Box<dyn Fn(&Hit) -> bool>,
    /// What is made again though the edit does not touch it.
    untouched: Vec<Part>,
}

/// Tasks with outputs of their own, each after what it needs.
pub(super) fn in_order(graph: &Graph) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for &id in graph.order() {
        let instances = graph.instances(id);
        let own = instances.is_empty().then_some(id);
        ids.extend(own.into_iter().chain(instances.iter().copied()).filter(|&id| has_outputs(&graph[id])));
    }
    ids
}
