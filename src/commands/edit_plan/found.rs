//! What an edit of the plan makes stale, what of it is kept, and what the rest is expected to take.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Value;
use serde::Serialize;

use super::Answer;
use crate::commands::Session;
use crate::ops::names::find_task;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::style::{self, GREEN, RED, Style, YELLOW, clean, clean_lines, count, elapsed, money};
use planexe_build::check_staleness::Judgement;
use planexe_build::touch;
use planexe_engine::graph::{Graph, Task, TaskId};
use planexe_engine::staleness::Decision;
use planexe_pipeline::input_files::has_outputs;
use planexe_pipeline::open::{Named, Opened};
use planexe_pipeline::project::{Project, Recipe, Template};
use planexe_query::selection::{Part, Unit, Units, judge};
use planexe_query::task_state::reasons;
use planexe_store::index::Index;
use planexe_ui::views::{Reason, some_names};

/// A task the edit makes stale.
pub(super) struct Hit {
    pub(super) id: TaskId,
    pub(super) name: String,
    decl: usize,
    reasons: Vec<Reason>,
    pub(super) judgement: Judgement,
}

/// What an edit makes stale, and what that is expected to take.
#[derive(Debug, Default, Serialize)]
pub(super) struct View {
    /// Whether the plan was changed.
    pub(super) changed: bool,
    /// The plan, relative to the run directory.
    plan: String,
    /// The unified difference.
    diff: String,
    /// Tasks that the edit itself makes stale, and those that are made again because they were named.
    pub(super) stale: Vec<StaleView>,
    /// Tasks that depend on those, and run if what they read comes out different.
    depends: Vec<String>,
    /// Tasks that were stale before.
    stale_before: Vec<String>,
    /// Of the stale, those that are kept, marked done on the new text.
    pub(super) kept: Vec<String>,
    /// Calls of the stale tasks that are not kept.
    calls_expected: u32,
    /// Calls if all that depends on them runs too.
    calls_at_most: u32,
    /// What those cost when they were made last, USD.
    cost_usd: Option<f64>,
    /// Seconds those took when they were made last, one after the other.
    duration_s: Option<f64>,
}

/// A task that is stale, and why.
#[derive(Debug, Serialize)]
pub(super) struct StaleView {
    task: String,
    reasons: Vec<Reason>,
}

/// What an edit makes stale.
pub(super) struct Found {
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

/// What templates between the plan and its readers will come to with the new text. Who reads them is judged by that,
/// and what is kept is kept on it: else a task that is made again would be asked with the text from before the edit.
struct Carried {
    /// The plan and the outputs of the templates, and where their new text is.
    in_place_of: Vec<(String, PathBuf)>,
    /// The templates.
    tasks: BTreeSet<String>,
    /// The folder of the new texts.
    dir: PathBuf,
}

impl Carried {
    fn new(plan: &str, edited: &Path) -> Carried {
        let dir = edited.parent().unwrap_or(edited).join("carried");
        Carried { in_place_of: vec![(plan.to_owned(), edited.to_owned())], tasks: BTreeSet::new(), dir }
    }

    /// Renders the templates that the edit makes stale and all of whose inputs are known; whether there were any.
    fn add(
        &mut self,
        project: &Project,
        graph: &Graph,
        hits: &[Hit],
        fresh: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let stale: HashSet<&String> =
            hits.iter().map(|hit| &hit.name).filter(|name| !self.tasks.contains(*name)).collect();
        let (before, order) = (self.tasks.len(), in_order(graph));
        let is_template = |hit: &&Hit| matches!(project.spec(&graph[hit.id]).recipe, Recipe::Template(_));
        for hit in hits.iter().filter(|hit| stale.contains(&hit.name)).filter(is_template) {
            let task = &graph[hit.id];
            if task.readers.is_empty() || !fresh.contains(&hit.name) {
                continue;
            }
            let needs = graph.upstream(&[hit.id]);
            let mut others = order.iter().filter(|id| needs[id.index()] && **id != hit.id);
            if !others.all(|&id| fresh.contains(&graph[id].name) && !stale.contains(&graph[id].name)) {
                continue;
            }
            let Some(outputs) = rendered(project, task, &hit.judgement) else { continue };
            fs::make_dirs(&self.dir, Durability::Unsynced)?;
            for (path, text) in outputs {
                let file = self.dir.join(self.in_place_of.len().to_string());
                fs::write_atomic(&file, text.as_bytes(), Durability::Unsynced)?;
                self.in_place_of.push((path, file));
            }
            self.tasks.insert(hit.name.clone());
        }
        Ok(self.tasks.len() > before)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        for (_, file) in &self.in_place_of[1..] {
            let _ = fs::remove(file);
        }
        let _ = fs::remove_empty_dir(&self.dir);
    }
}

/// The outputs of a template as a build would render them; none of another recipe, or if it cannot be rendered.
fn rendered(project: &Project, task: &Task, judgement: &Judgement) -> Option<Vec<(String, String)>> {
    let spec = project.spec(task);
    let Recipe::Template(first) = &spec.recipe else { return None };
    let inputs = &judgement.prepared.as_ref()?.inputs;
    let render = |template: &Template, answer: Option<&str>| {
        let mut values = inputs.context(project, task, &template.names).ok()?;
        values.extend(answer.map(|answer| ("answer".to_owned(), answer.into())));
        template.render(&Value::from_iter(values)).ok()
    };
    let text = render(first, None)?;
    let mut outputs = vec![(task.outputs.first()?.clone(), text)];
    for (path, template) in task.outputs.iter().zip(&spec.templates).skip(1) {
        let more = render(template.as_ref()?, Some(&outputs[0].1))?;
        outputs.push((path.clone(), more));
    }
    Some(outputs)
}

/// What a task took and cost when it was made last, as far as known.
struct Former {
    id: TaskId,
    seconds: Option<f64>,
    cost_usd: Option<f64>,
}

impl Found {
    /// Judges every task by what lies there, and again with the new text, in `edited`, in the plan's place.
    pub(super) fn of(session: &Session, opened: &Opened, plan: &str, edited: &Path) -> Result<Found, Error> {
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
                    seconds: took.or(status.and_then(|status| status.duration_s)),
                    cost_usd: status.and_then(|status| status.usage.as_ref()).map(|usage| usage.cost_usd),
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

    /// All of it as data, before anything is settled.
    pub(super) fn view(&self, opened: &Opened, plan: &str, diff: &str) -> View {
        let stale = |hit: &Hit| StaleView { task: hit.name.clone(), reasons: hit.reasons.clone() };
        let mut view = View {
            plan: plan.to_owned(),
            diff: diff.to_owned(),
            stale: self.hits.iter().map(stale).collect(),
            stale_before: self.stale_before.clone(),
            ..View::default()
        };
        self.estimate(opened, &mut view, &[]);
        view
    }

    /// Calls, money and time of what is not kept, and of what is made again because it was named.
    fn estimate(&self, opened: &Opened, view: &mut View, again: &[Unit]) {
        let calls =
            |id: TaskId| u32::from(matches!(opened.project.spec(&self.graph[id]).recipe, Recipe::Prompt(_)));
        let called = |hit: &&Hit| {
            let prepared = hit.judgement.prepared.as_ref();
            let paid =
                prepared.is_some_and(|prepared| prepared.kept.is_some() || prepared.existing.is_some());
            if paid { 0 } else { calls(hit.id) }
        };
        let kept: HashSet<&String> = view.kept.iter().collect();
        let left: Vec<&Hit> = self.hits.iter().filter(|hit| !kept.contains(&hit.name)).collect();
        let again: Vec<TaskId> = again.iter().filter_map(|unit| self.graph.find(&unit.name)).collect();
        let expected = left.iter().map(called).chain(again.iter().map(|&id| calls(id))).sum();
        let begun: Vec<TaskId> = left.iter().map(|hit| hit.id).chain(again).collect();
        let mask = self.graph.downstream(&begun);
        let by_itself: HashSet<TaskId> =
            begun.iter().copied().chain(self.hits.iter().map(|hit| hit.id)).collect();
        let follows = |id: &TaskId| {
            mask[id.index()] && !by_itself.contains(id) && self.fresh.contains(&self.graph[*id].name)
        };
        let after: Vec<TaskId> = in_order(&self.graph).into_iter().filter(follows).collect();
        view.calls_expected = expected;
        view.calls_at_most = expected + after.iter().map(|&id| calls(id)).sum::<u32>();
        view.depends = after.iter().map(|id| self.graph[*id].name.clone()).collect();
        let all: HashSet<TaskId> = begun.into_iter().chain(after).collect();
        let known = || self.former.iter().filter(|former| all.contains(&former.id));
        let sum = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum());
        view.duration_s = sum(known().filter_map(|former| former.seconds).collect());
        view.cost_usd = sum(known().filter_map(|former| former.cost_usd).collect());
    }

    /// Settles what is kept; an error if something cannot be. Returns what is to be made again though the edit does
    /// not touch it.
    pub(super) fn settle(
        &self,
        opened: &Opened,
        view: &mut View,
        answer: &Answer,
    ) -> Result<Vec<Unit>, Error> {
        let Choice { goes, untouched } = self.choose(opened, answer)?;
        let (mut kept, mut cannot) = (Vec::new(), Vec::new());
        for hit in self.hits.iter().filter(|hit| !goes(hit) && !self.carried.contains(&hit.name)) {
            let faults = touch::faults(&opened.project, &opened.store, &self.graph[hit.id], &hit.judgement);
            match faults.into_iter().next() {
                None => kept.push(hit.name.clone()),
                Some(fault) => cannot.push(format!("`{}`: {fault}", hit.name)),
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

/// What an answer means.
struct Choice {
    /// Whether a task that the edit makes stale is made again.
    goes: Box<dyn Fn(&Hit) -> bool>,
    /// What is made again though the edit does not touch it.
    untouched: Vec<Part>,
}

impl View {
    /// Of a plan that stays as it is.
    pub(super) fn unchanged(plan: &str) -> View {
        View { plan: plan.to_owned(), ..View::default() }
    }

    /// The difference and what follows from it, for people.
    pub(super) fn text(&self, style: &Style) -> String {
        let mut text = String::new();
        for line in clean_lines(&self.diff).lines() {
            let line = match line.chars().next() {
                Some('+') => style.paint(GREEN, line),
                Some('-') => style.paint(RED, line),
                Some('@') => style.dim(line),
                _ => line.to_owned(),
            };
            text += &format!("{line}\n");
        }
        text.push('\n');
        if self.stale.is_empty() {
            text += match self.stale_before.is_empty() {
                true => "The edit makes nothing stale: no prompt comes out different by it.\n",
                false => "The edit makes nothing stale that was not stale before it.\n",
            };
        } else {
            let names =
                self.stale.iter().map(|one| style::width(&clean(&one.task))).max().unwrap_or(0).min(40);
            text += &format!("{}\n", style.bold("Stale by the edit:"));
            for one in &self.stale {
                let why: Vec<String> = one.reasons.iter().map(|reason| clean(&reason.message)).collect();
                let name = style::pad(&clean(&one.task), names);
                text += &format!("  {} {name}  {}\n", style.paint(YELLOW, "·"), style.dim(&why.join("; ")));
            }
        }
        if !self.depends.is_empty() {
            let names: Vec<String> = self.depends.iter().map(|name| clean(name)).collect();
            let names = style.wrap(&format!("  {}", names.join(", ")), 2);
            text += &format!("{}\n{names}\n", style.bold("Depend on them:"));
        }
        if !self.stale_before.is_empty() {
            let names = some_names(&self.stale_before, 10);
            text +=
                &format!("{}\n  {names}\n", style.bold("Stale before the edit, and made again in any case:"));
        }
        if !self.stale.is_empty() {
            text += &format!("{}\n", self.expected());
        }
        text
    }

    /// What is expected of making all that is stale again.
    fn expected(&self) -> String {
        let mut text = match (self.calls_expected, self.calls_at_most) {
            (_, 0) => "No calls".to_owned(),
            (expected, most) if most > expected => {
                format!("{} expected, at most {most}", count(expected.into(), "call"))
            }
            (expected, _) => format!("{} expected", count(expected.into(), "call")),
        };
        if let Some(seconds) = self.duration_s.filter(|seconds| *seconds >= 1.0) {
            text += &format!(", {} of work when made last", elapsed(seconds));
        }
        if let Some(cost) = self.cost_usd.filter(|cost| *cost > 0.0) {
            text += &format!(", {} when made last", money(cost));
        }
        text + "."
    }

    /// A line for each task that is kept.
    pub(super) fn kept_text(&self, how: &str) -> String {
        self.kept.iter().map(|name| format!("{}: {how}\n", clean(name))).collect()
    }
}

/// Tasks with outputs of their own, each after what it needs.
fn in_order(graph: &Graph) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for &id in graph.order() {
        let instances = graph.instances(id);
        let own = instances.is_empty().then_some(id);
        ids.extend(own.into_iter().chain(instances.iter().copied()).filter(|&id| has_outputs(&graph[id])));
    }
    ids
}
