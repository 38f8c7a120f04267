//! Judging a task: gathers what the rules of [`planexe_engine::staleness`] ask for, from the run's files. Reads
//! only; the same code serves `build`, `build -n`, `status` and `explain`.

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::Value;

use planexe_base::failure_class::FailureClass;
use planexe_base::fs;
use planexe_base::message::Message;
use planexe_base::record::{Digest, Done, Failure, InputRecord, MadeWith, Marker, Status};
use planexe_base::style;
use planexe_engine::fingerprint::Fingerprint;
use planexe_engine::graph::{self, Graph, Task, TaskId};
use planexe_engine::staleness::{self, Content, Decision, Facts, Rules, Seen, StaleReason};
use planexe_llm::attachment::Attachment;
use planexe_pipeline::check::{self, CompiledCheck};
use planexe_pipeline::input_files::{Files, Finder};
use planexe_pipeline::project::{Project, Recipe, Spec};
use planexe_pipeline::task_inputs::{InputError, Inputs, KEPT_TASKS, KeptTask, SAMPLES};
use planexe_pipeline::template as render;
use planexe_store::index::Index;
use planexe_store::sidecar::{Sidecar, StatusRead};
use planexe_store::{Anew, Asked, Store, Why};

mod claims;
mod items;
mod parts;
mod prepared;
mod stamp;

pub use items::no_such_item;
pub use prepared::{Prepared, call_digest};

/// What is wrong with a file that a power cut may have left.
const LOST: &str = "the power went before it was synced";

/// Judges the tasks of one project.
pub struct StaleCheck<'a> {
    /// The pipeline and its run.
    pub project: &'a Project,
    /// The run's records.
    pub store: &'a Store,
    /// What is known of file contents.
    pub index: &'a Index,
    /// Matches globs.
    pub finder: &'a Finder<'a>,
    /// How to judge.
    pub rules: Rules,
    /// What is to be made anew since a former build was told so and did not come to it.
    pub anew: Arc<Anew>,
    /// Kept answers are not looked for (`--no-reuse`).
    pub no_reuse: bool,
    /// The environment, for variables that count as input.
    pub env: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// What judging found.
#[derive(Debug)]
pub struct Judgement {
    /// What is to be done.
    pub decision: Decision,
    /// What an attempt is given; none if the decision needs none.
    pub prepared: Option<Prepared>,
    /// The condition is false.
    pub skipped: bool,
    /// It cannot be judged: an input is missing or malformed, a template fails.
    pub failure: Option<Failure>,
    /// Its `.DONE`, as found.
    pub marker: Marker,
    /// Its `.status`, as found.
    pub status: Option<Box<Status>>,
    /// There is a `.status` that cannot be believed.
    pub torn: bool,
    /// Its `.status` is of an unknown state, which is an error, never done.
    pub unknown_state: Option<String>,
    /// Outputs as found.
    pub seen: Vec<Seen>,
}

/// What a recipe would be made from.
struct Made {
    fingerprint: Fingerprint,
    system: String,
    prompt: String,
    check: Option<Arc<CompiledCheck>>,
    attached: Arc<[Attachment]>,
}

impl StaleCheck<'_> {
    /// Judges a task. `shallow`: something it needs is not up to date, so only its own records count.
    pub fn judge(&self, graph: &Graph, id: TaskId, shallow: bool) -> Judgement {
        let task = &graph[id];
        let spec = self.project.spec(task);
        let first = task.outputs.first().map_or("", String::as_str);
        let (status, torn, unknown_state) = match self.store.read_status(first) {
            StatusRead::Valid(status) => (Some(status), false, None),
            StatusRead::UnknownState(state) => (None, false, Some(state)),
            StatusRead::Missing => (None, false, None),
            StatusRead::Damaged(_) | StatusRead::Newer(_) => (None, true, None),
        };
        let mut judgement = Judgement {
            decision: Decision::DependsOn,
            prepared: None,
            skipped: false,
            failure: None,
            marker: self.store.read_done(first),
            status,
            torn,
            unknown_state,
            seen: Vec::new(),
        };
        if let (Some(state), false) = (&judgement.unknown_state, matches!(judgement.marker, Marker::Valid(_)))
        {
            judgement.failure = Some(self::unknown_state(state, &task.name));
            return judgement;
        }
        if let Some(failure) = self.not_its_own(graph, id) {
            judgement.failure = Some(failure);
            return judgement;
        }
        if spec.isolate.is_some() && self.is_unmerged(task, &judgement.marker) {
            judgement.marker = Marker::Missing;
        }
        let in_doubt = spec.is_synced_late() && self.in_doubt(&self.store.sidecar_path(first, Sidecar::Done));
        if in_doubt && judgement.marker == Marker::Empty {
            judgement.marker = Marker::Damaged(LOST.to_owned());
        }
        judgement.seen = self.look(task, spec, &judgement.marker, in_doubt);
        let made = if shallow { Ok(None) } else { self.make(graph, task, spec, &mut judgement) };
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                judgement.failure = Some(failure);
                return judgement;
            }
        };
        if judgement.skipped {
            return judgement;
        }
        let rules = self.rules_of(first);
        let models = self.made_with(spec);
        let newer = match (&made, self.rules.by_mtime) {
            (Some((_, inputs)), true) => self.newer(task, inputs),
            _ => None,
        };
        let status_facts = judgement.status.as_ref().map(|status| {
            (status.state, status.result.failure.as_ref().map(|failure| failure.class.clone()))
        });
        let facts = Facts {
            marker: &judgement.marker,
            status: status_facts,
            outputs: &judgement.seen,
            fingerprint: made.as_ref().map(|(made, _)| &made.fingerprint),
            models: &models,
            rules,
            newer,
        };
        judgement.decision = staleness::judge(&facts);
        if shallow && judgement.decision == Decision::DependsOn {
            let changed = self.own_changes(graph, id, spec, &mut judgement, &models, rules);
            judgement.decision = changed.unwrap_or(Decision::DependsOn);
        }
        if let (Recipe::Human(_), Decision::Stale { edited, .. }) = (&spec.recipe, &mut judgement.decision) {
            // What a person wrote stays until a person writes something else.
            edited.clear();
        }
        if let Some((made, inputs)) = made {
            name_files(&mut judgement, &inputs);
            match self.prepare(task, spec, made, inputs, &judgement) {
                Ok(prepared) => judgement.prepared = Some(prepared),
                Err(error) => judgement.failure = Some(InputError::Fs(error).into_failure()),
            }
        }
        judgement
    }

    /// What it is to be made from besides what it reads, if that changed: then it runs whatever comes out of what it needs.
    /// Nothing where the files it reads are not those it read, since the two cannot be told apart then, and where the
    /// answer there may do.
    fn own_changes(
        &self,
        graph: &Graph,
        id: TaskId,
        spec: &Spec,
        judgement: &mut Judgement,
        models: &[MadeWith],
        rules: Rules,
    ) -> Option<Decision> {
        if rules.by_mtime || spec.when.is_some() || spec.uses_records() {
            return None;
        }
        let (made, inputs) = self.make(graph, &graph[id], spec, judgement).ok()??;
        let Marker::Valid(done) = &judgement.marker else { return None };
        if !changed_files(&done.inputs, &inputs.records()).is_empty() {
            return None;
        }
        let facts = Facts {
            marker: &judgement.marker,
            status: None,
            outputs: &judgement.seen,
            fingerprint: Some(&made.fingerprint),
            models,
            rules,
            newer: None,
        };
        match staleness::judge(&facts) {
            Decision::Stale { reasons, redraw, try_existing: false, edited } => {
                let reasons: Vec<StaleReason> = reasons.into_iter().filter(StaleReason::is_own).collect();
                (!reasons.is_empty()).then_some(Decision::Stale {
                    reasons,
                    redraw,
                    try_existing: false,
                    edited,
                })
            }
            _ => None,
        }
    }

    /// How a task is judged, by its first output: as all are, or as a former build was told.
    pub fn rules_of(&self, first: &str) -> Rules {
        match self.anew.asked(self.store, first) {
            Some(Asked::Always) => Rules { force: true, ..self.rules },
            Some(Asked::Model) if !self.rules.model => Rules { model: true, model_asked: true, ..self.rules },
            _ => self.rules,
        }
    }

    /// [`StaleCheck::judge`] for a build, or for what one would do: an item is not made over what is not its own.
    pub fn judge_to_make(&self, graph: &Graph, id: TaskId, shallow: bool) -> Judgement {
        let mut judgement = self.judge(graph, id, shallow);
        if judgement.failure.is_none() {
            judgement.failure = self.in_the_way(graph, id, &judgement);
        }
        judgement
    }

    /// Whether an isolated task succeeded since its record was written, and is to be merged.
    fn is_unmerged(&self, task: &Task, marker: &Marker) -> bool {
        let success =
            self.store.to_be_merged(&task.name).ok().flatten().and_then(|candidate| candidate.success);
        success.is_some_and(|success| match marker {
            Marker::Valid(done) => done.checkpoint_id.as_ref() != Some(&success.checkpoint_id),
            _ => true,
        })
    }

    /// What this task's answers would be recorded as made with, by model.
    fn made_with(&self, spec: &Spec) -> Vec<MadeWith> {
        spec.recipe.prompt().map_or(Vec::new(), |prompt| {
            prompt.models.iter().map(|&at| prompt.made_with(&self.project.endpoints[at])).collect()
        })
    }

    /// Whether the power went between the last change of a file and its sync.
    fn in_doubt(&self, path: &std::path::Path) -> bool {
        let batch = self.store.batch();
        batch.has_doubts()
            && fs::signature(path).ok().flatten().is_some_and(|signature| batch.doubts(signature.ctime_ns))
    }

    /// Looks at the outputs. Content that is not the recorded one is held against schema and checks, or is
    /// damage if the power may have left it so. `in_doubt`: so may the record.
    fn look(&self, task: &Task, spec: &Spec, marker: &Marker, in_doubt: bool) -> Vec<Seen> {
        let recorded = |path: &str| match marker {
            Marker::Valid(done) => done.outputs.iter().find(|output| output.path == path),
            _ => None,
        };
        let mut all = Vec::with_capacity(task.outputs.len());
        for (n, path) in task.outputs.iter().enumerate() {
            let content = match self.index.digest(&self.store.path(path)) {
                Ok(None) => Content::Missing,
                Ok(Some((_, 0))) => Content::Empty,
                Ok(Some((digest, _))) => {
                    let same = recorded(path).is_some_and(|output| output.blake3 == digest);
                    let lost = || {
                        let late = spec.is_synced_late();
                        late && (in_doubt || self.in_doubt(&self.store.path(path)))
                    };
                    let invalid = if same {
                        None
                    } else if lost() {
                        Some(LOST.to_owned())
                    } else if n > 0 {
                        None
                    } else {
                        self.fault_of(spec, path)
                    };
                    Content::File { digest, invalid }
                }
                Err(error) => Content::Unreadable(error.reason()),
            };
            all.push(Seen { path: path.clone(), content });
        }
        all
    }

    /// What is wrong with a first output under its schema and checks.
    fn fault_of(&self, spec: &Spec, path: &str) -> Option<String> {
        let (schema, check) = spec.recipe.form();
        if spec.recipe.prompt().is_none() && check.is_none() {
            return None;
        }
        let text = match fs::read_to_string(&self.store.path(path)) {
            Ok(text) => text,
            Err(error) => return Some(error.reason()),
        };
        let violations = check::validate(&text, schema, check).err()?;
        violations.first().map(ToString::to_string)
    }

    /// What the task would be made from now, or that its condition is false.
    fn make(
        &self,
        graph: &Graph,
        task: &Task,
        spec: &Spec,
        judgement: &mut Judgement,
    ) -> Result<Option<(Made, Inputs)>, Failure> {
        let mut files = self.finder.resolve(graph, task).map_err(|e| InputError::Fs(e).into_failure())?;
        if let Some(previous) = previous(graph, task) {
            files.push(previous);
        }
        let found = files.iter().filter(|files| files.glob || task.item.is_some());
        self.stays_inside(found.flat_map(|files| &files.paths))?;
        let inputs = match (&spec.recipe, items::file_of(spec, task)) {
            (Recipe::Command(_), Some(path)) => Inputs::hash(self.project, files, self.index)
                .and_then(|inputs| inputs.with_item(self.project, path, self.index)),
            (Recipe::Command(_), None) => Inputs::hash(self.project, files, self.index),
            _ => Inputs::read(self.project, files),
        };
        let mut inputs = inputs.map_err(InputError::into_failure)?;
        if spec.uses(SAMPLES) {
            inputs.samples = self.samples(graph, task);
        }
        if spec.uses(KEPT_TASKS) {
            inputs.kept = self.kept_tasks(graph, task);
        }
        if let Some(when) = &spec.when {
            let context =
                inputs.context(self.project, task, &when.names).map_err(InputError::into_failure)?;
            let context = Value::from_iter(context);
            let holds = render::eval_condition(&when.source, &context).map_err(|e| render_failure(&e))?;
            if !holds {
                judgement.skipped = true;
                return Ok(None);
            }
        }
        let made = self.fingerprint(task, spec, &inputs)?;
        Ok(Some((made, inputs)))
    }

    /// The tasks before a task that are done with an answer to another prompt.
    fn samples(&self, graph: &Graph, task: &Task) -> Vec<String> {
        let sample = |other: &Task, done: Box<Done>| {
            let of_prompt = self.project.spec(other).recipe.prompt().is_some();
            (of_prompt && done.sample).then(|| other.name.clone())
        };
        let mut names = self.done_before(graph, task, sample);
        names.sort();
        names
    }

    /// The tasks before a task that a person kept though what they were made from changed. Not those that only put
    /// together what others said.
    fn kept_tasks(&self, graph: &Graph, task: &Task) -> Vec<KeptTask> {
        let kept = |other: &Task, done: Box<Done>| {
            let says = !matches!(self.project.spec(other).recipe, Recipe::Template(_) | Recipe::Gate(_));
            let kept = done.kept.filter(|_| says)?;
            Some(KeptTask { task: other.name.clone(), gone: kept.gone })
        };
        let mut tasks = self.done_before(graph, task, kept);
        tasks.sort_by(|one, other| one.task.cmp(&other.task));
        tasks
    }

    /// What the records of the tasks before a task tell, direct and indirect ones.
    fn done_before<T>(
        &self,
        graph: &Graph,
        task: &Task,
        tell: impl Fn(&Task, Box<Done>) -> Option<T>,
    ) -> Vec<T> {
        let needs: Vec<TaskId> = task.needs.iter().map(|need| need.task).collect();
        let mask = graph.upstream(&needs);
        let before = graph.ids().filter(|id| match graph[*id].kind {
            graph::Kind::Instance { family } => mask[id.index()] || mask[family.index()],
            graph::Kind::Single => mask[id.index()],
            _ => false,
        });
        let told = |id: TaskId| match self.store.read_done(graph[id].outputs.first()?) {
            Marker::Valid(done) => tell(&graph[id], done),
            _ => None,
        };
        before.filter_map(told).collect()
    }

    /// make's rule: an input newer than an output.
    fn newer(&self, task: &Task, inputs: &Inputs) -> Option<(String, String)> {
        let mtime = |path: std::path::PathBuf| {
            fs::linked::signature(&path).ok().flatten().map(|signature| signature.mtime_ns)
        };
        let outputs = task.outputs.iter();
        let oldest = outputs.filter_map(|path| Some((mtime(self.store.path(path))?, path))).min()?;
        let paths = inputs.files.iter().flat_map(|input| &input.paths);
        let newest = paths.filter_map(|path| Some((mtime(self.project.input(path))?, path))).max()?;
        (newest.0 > oldest.0).then(|| (newest.1.clone(), oldest.1.clone()))
    }

    /// What a glob or a key finds is read only where files may be.
    fn stays_inside<'p>(&self, paths: impl IntoIterator<Item = &'p String>) -> Result<(), Failure> {
        let Some((path, real)) = self.project.outside(paths) else { return Ok(()) };
        let folder = real.parent().unwrap_or(&real).display();
        let why = format!(
            "is outside the run and the pipeline's folder; if it may be read, say so: `--allow-outside {folder}`"
        );
        Err(InputError::Malformed { path: path.to_owned(), why }.into_failure())
    }
}

/// Says of tasks without a record that they were built before, where that is known.
pub fn name_taken_away<'j>(
    graph: &Graph,
    judgements: impl Iterator<Item = (&'j TaskId, &'j mut Judgement)>,
    gone: impl FnOnce() -> HashMap<String, Why>,
) {
    let (mut gone, mut known) = (Some(gone), None);
    for (&id, judgement) in judgements {
        let Decision::Stale { reasons, .. } = &mut judgement.decision else { continue };
        if reasons[..] != [StaleReason::NeverBuilt] {
            continue;
        }
        let gone = known.get_or_insert_with(|| gone.take().map(|read| read()).unwrap_or_default());
        if let Some(&why) = graph[id].outputs.first().and_then(|first| gone.get(first)) {
            *reasons = vec![StaleReason::TakenAway { why }];
        }
    }
}

/// The former item's first output, for a sequential fan-out; none if that item is skipped.
fn previous(graph: &Graph, task: &Task) -> Option<Files> {
    let need = task.needs.iter().find(|need| need.why == planexe_engine::graph::Why::Previous)?;
    if graph.is_skipped(need.task) {
        return None;
    }
    let path = graph[need.task].outputs.first()?.clone();
    Some(Files {
        name: "previous".into(),
        pattern: path.clone(),
        paths: vec![path],
        glob: false,
        optional: false,
    })
}

/// Says of a changed prompt which input files changed since it was made.
fn name_files(judgement: &mut Judgement, inputs: &Inputs) {
    let (Marker::Valid(done), Decision::Stale { reasons, .. }) = (&judgement.marker, &mut judgement.decision)
    else {
        return;
    };
    let of_prompt = reasons.iter_mut().filter_map(|reason| match reason {
        StaleReason::Changed { part, files, .. } if part == "prompt" || part == "system" => Some(files),
        _ => None,
    });
    for files in of_prompt {
        *files = changed_files(&done.inputs, &inputs.records());
    }
}

/// The files that are others than they were, those that are new, and then those that are gone.
fn changed_files(before: &[InputRecord], now: &[InputRecord]) -> Vec<String> {
    fn by_path(records: &[InputRecord]) -> HashMap<&str, &Digest> {
        records.iter().map(|record| (record.path.as_str(), &record.blake3)).collect()
    }
    let (known, there) = (by_path(before), by_path(now));
    let changed = now.iter().filter(|record| known.get(record.path.as_str()) != Some(&&record.blake3));
    let gone = before.iter().filter(|record| !there.contains_key(record.path.as_str()));
    changed.chain(gone).map(|record| record.path.clone()).collect()
}

/// The failure of a task whose `.status` has a state that nobody knows.
pub fn unknown_state(state: &str, task: &str) -> Failure {
    let message = Message::new(format!(
        "its .status has the state `{}`, which this version of planexe does not know",
        style::clean(state)
    ))
    .hint("build with the newer version that wrote it")
    .hint(format!(
        "`planexe clean {}` makes it again; what is there goes to history",
        style::shell_word(task)
    ));
    Failure { class: FailureClass::State, message, ..Failure::default() }
}

/// The failure of a template.
pub fn render_failure(error: &render::RenderError) -> Failure {
    Failure { class: FailureClass::Template, message: error.to_string().into(), ..Failure::default() }
}
