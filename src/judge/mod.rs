//! Judging a task: gathers what the rules of [`crate::staleness`] ask for, from the run's files. Reads
//! only; the same code serves `build`, `build -n`, `status` and `explain`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use minijinja::Value;

use crate::check::{self, CompiledCheck};
use crate::context::{self, InputError, Inputs};
use crate::fingerprint::{EVAL, Fingerprint, ORDER, PATHS};
use crate::fs;
use crate::graph::{Graph, Item, Kind, Task, TaskId};
use crate::inputs::{Files, Finder};
use crate::items;
use crate::llm;
use crate::manifest;
use crate::project::{CommandSpec, EvalSpec, Line, Project, PromptSpec, Recipe, Spec, Template};
use crate::record::{Digest, Failure, InputRecord, MadeWith, Marker, Status};
use crate::render;
use crate::staleness::{self, Content, Decision, Facts, Rules, Seen, StaleReason};
use crate::store::Store;
use crate::store::calls::KeptCall;
use crate::store::candidates::Candidate;
use crate::store::index::{Index, is_racy};
use crate::store::sidecar::{Sidecar, StatusRead};

/// What is wrong with a file that a power cut may have left.
const LOST: &str = "the power went before it was synced";

/// Judges the tasks of one project.
pub struct Judge<'a> {
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

/// What an attempt is made from.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The inputs.
    pub inputs: Inputs,
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// Rendered system prompt.
    pub system: String,
    /// Rendered prompt.
    pub prompt: String,
    /// The checks of the answer, with what they look at.
    pub check: Option<Arc<CompiledCheck>>,
    /// A kept answer to this very prompt.
    pub kept: Option<Box<KeptCall>>,
    /// The answer there is, if it passes the changed schema and checks.
    pub existing: Option<String>,
    /// Only the evaluation of a command's outputs changed: they are taken as they are.
    pub as_it_is: bool,
    /// What an attempt made from the same, which waits for its verdict or was found wanting.
    pub candidate: Option<Box<Candidate>>,
    /// What the attempt is decided on: digest of inputs, prompt, model and parameters.
    pub decision_id: String,
}

impl Prepared {
    /// The files given and their digests.
    pub fn records(&self) -> Vec<InputRecord> {
        self.inputs.records()
    }

    /// Digest of what an attempt makes its outputs from: who evaluates them is left out.
    pub fn made_from(&self) -> Digest {
        let records = self.records();
        Digest::of(&serde_json::to_vec(&(self.fingerprint.without(EVAL), records)).unwrap_or_default())
    }

    /// Whether an attempt needs nothing but a verdict on what is there, if that.
    pub fn has_answer(&self, no_rescue: bool) -> bool {
        let open = self.open_candidate(no_rescue).is_some();
        open || self.kept.is_some() || self.existing.is_some() || self.as_it_is
    }

    /// What there is will not do: it is made anew.
    pub fn make_anew(&mut self) {
        (self.existing, self.kept, self.candidate, self.as_it_is) = (None, None, None, false);
    }

    /// The candidate that waits for its verdict. `no_rescue`: one of a command that failed is none.
    pub fn open_candidate(&self, no_rescue: bool) -> Option<&Candidate> {
        let open =
            |it: &&Candidate| !it.spent && (it.failure.is_none() || !no_rescue || it.success.is_some());
        self.candidate.as_deref().filter(open)
    }
}

/// What a recipe would be made from.
struct Made {
    fingerprint: Fingerprint,
    system: String,
    prompt: String,
    check: Option<Arc<CompiledCheck>>,
}

impl Judge<'_> {
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
        let models = self.made_with(spec);
        let newer = match (&made, self.rules.by_mtime) {
            (Some((_, inputs)), true) => self.newer(task, inputs),
            _ => None,
        };
        let status_facts = judgement
            .status
            .as_ref()
            .map(|status| (status.state, status.failure.as_ref().map(|failure| failure.class.clone())));
        let facts = Facts {
            marker: &judgement.marker,
            status: status_facts,
            outputs: &judgement.seen,
            fingerprint: made.as_ref().map(|(made, _)| &made.fingerprint),
            models: &models,
            rules: self.rules,
            newer,
        };
        judgement.decision = staleness::judge(&facts);
        if let (Recipe::Human(_), Decision::Stale { edited, .. }) = (&spec.recipe, &mut judgement.decision) {
            // What a person wrote stays until a person writes something else.
            edited.clear();
        }
        if let Some((made, inputs)) = made {
            name_files(&mut judgement, &inputs);
            judgement.prepared = Some(self.prepare(task, spec, made, inputs, &judgement));
        }
        judgement
    }

    /// Whether an isolated task succeeded since its record was written, and is to be merged.
    fn is_unmerged(&self, task: &Task, marker: &Marker) -> bool {
        let success = self.store.to_be_merged(&task.name).and_then(|candidate| candidate.success);
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
        let inputs = match &spec.recipe {
            Recipe::Command(_) => Inputs::hash(self.project, files, self.index),
            _ => Inputs::read(self.project, files),
        };
        let inputs = inputs.map_err(InputError::into_failure)?;
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

    fn fingerprint(&self, task: &Task, spec: &Spec, inputs: &Inputs) -> Result<Made, Failure> {
        let mut made = Made {
            fingerprint: Fingerprint::new(),
            system: String::new(),
            prompt: String::new(),
            check: None,
        };
        match &spec.recipe {
            Recipe::Group => {}
            Recipe::Prompt(prompt) => self.prompt_parts(task, prompt, inputs, &mut made)?,
            Recipe::Command(command) => self.command_parts(task, command, inputs, &mut made.fingerprint),
            Recipe::Template(source) => {
                self.template_parts("template", source, task, inputs, &mut made.fingerprint, true)
            }
            Recipe::Gate(gate) => {
                self.template_parts("template", &gate.fail_if, task, inputs, &mut made.fingerprint, true);
                made.fingerprint.add("gate", format!("{:?}", gate.action).as_bytes());
                if let Some(warn_if) = &gate.warn_if {
                    self.template_parts("warn_if", warn_if, task, inputs, &mut made.fingerprint, true);
                }
                if let Some(message) = &gate.message {
                    self.template_parts("message", message, task, inputs, &mut made.fingerprint, true);
                }
            }
            Recipe::Human(human) => {
                self.template_parts("human", &human.ask, task, inputs, &mut made.fingerprint, true);
                if let Some(check) = &human.check {
                    let seen = inputs.context(self.project, task, &check.names());
                    let with = check.with(&seen.map_err(InputError::into_failure)?);
                    made.check = Some(with.map_or_else(|| check.clone(), |(check, _)| Arc::new(check)));
                }
            }
        }
        for (n, template) in spec.templates.iter().enumerate() {
            if let Some(source) = template {
                self.template_parts(
                    &format!("output.{n}"),
                    source,
                    task,
                    inputs,
                    &mut made.fingerprint,
                    false,
                );
            }
        }
        if let Some(eval) = &spec.eval {
            let digest = self.eval_part(eval, task, inputs);
            made.fingerprint.add_digest(EVAL, digest);
        }
        Ok(made)
    }

    /// One part for all that an evaluation rests on beside the outputs: where it changes they are evaluated again.
    fn eval_part(&self, eval: &EvalSpec, task: &Task, inputs: &Inputs) -> Digest {
        let mut parts = Fingerprint::new();
        if let Some(prompt) = eval.prompt() {
            for (part, template) in [("system", prompt.system.as_ref()), ("prompt", Some(&prompt.prompt))] {
                if let Some(template) = template {
                    self.template_parts(part, template, task, inputs, &mut parts, false);
                }
            }
        }
        parts.add_digest("how", eval.digest.clone());
        parts.digest()
    }

    fn prompt_parts(
        &self,
        task: &Task,
        prompt: &PromptSpec,
        inputs: &Inputs,
        made: &mut Made,
    ) -> Result<(), Failure> {
        let mut used = prompt.prompt.names.clone();
        used.extend(prompt.system.iter().flat_map(|system| system.names.iter().cloned()));
        used.extend(prompt.check.iter().flat_map(|check| check.names()));
        let context = inputs.context(self.project, task, &used).map_err(InputError::into_failure)?;
        let with = prompt.check.as_ref().and_then(|check| check.with(&context));
        let mut context = context;
        for name in ["notes", "former"].into_iter().filter(|name| prompt.prompt.uses(name)) {
            // What an evaluator says of a round counts as no part of the prompt.
            context.entry(name.to_owned()).or_insert_with(|| Value::from(""));
        }
        let context = Value::from_iter(context);
        if let Some(system) = &prompt.system {
            made.system = system.render(&context).map_err(|e| render_failure(&e))?;
            made.fingerprint.add("system", made.system.as_bytes());
        }
        made.prompt = prompt.prompt.render(&context).map_err(|e| render_failure(&e))?;
        made.fingerprint.add("prompt", made.prompt.as_bytes());
        if let Some(schema) = &prompt.schema {
            made.fingerprint.add("schema", items::canonical(&schema.value).as_bytes());
        }
        if let Some(digest) = &prompt.check_digest {
            let digest = match &with {
                Some((_, seen)) => Digest::of(format!("{}\n{seen}", digest.0).as_bytes()),
                None => digest.clone(),
            };
            made.fingerprint.add_digest("check", digest);
        }
        made.check = with.map(|(check, _)| Arc::new(check)).or_else(|| prompt.check.clone());
        Ok(())
    }

    fn command_parts(
        &self,
        task: &Task,
        command: &CommandSpec,
        inputs: &Inputs,
        fingerprint: &mut Fingerprint,
    ) {
        let line = match &command.line {
            Line::Argv(argv) => argv.join("\0"),
            Line::Shell(line) => line.clone(),
        };
        let place = command.cwd.as_deref().unwrap_or("");
        let how = format!("{line}\0{place}\0{}\0{}", command.stdout, command.in_place);
        fingerprint.add("command", how.as_bytes());
        for name in &command.env_names {
            fingerprint.add(format!("env.{name}"), (self.env)(name).unwrap_or_default().as_bytes());
        }
        for (name, value) in &command.env_set {
            fingerprint.add(format!("env.{name}"), value.as_bytes());
        }
        let labelled = inputs.labelled();
        for (input, label) in &labelled {
            fingerprint.add_digest(format!("input.{label}"), inputs.digest_of(input));
        }
        add_arguments(labelled, fingerprint);
        add_item(task, fingerprint);
        fingerprint.add("outputs", task.outputs.join("\0").as_bytes());
    }

    /// The parts of a template: its text, the variables it uses, its inputs (`all`, or those it uses).
    fn template_parts(
        &self,
        part: &str,
        template: &Template,
        task: &Task,
        inputs: &Inputs,
        fingerprint: &mut Fingerprint,
        all: bool,
    ) {
        fingerprint.add(part, template.source.text.as_bytes());
        if template.source.trim {
            fingerprint.add("trim_blocks", b"true");
        }
        let uses = |name: &str| template.uses(name);
        let labelled = inputs.labelled();
        for (input, label) in &labelled {
            if all || uses(&input.name) || uses("inputs") {
                fingerprint.add_digest(format!("input.{label}"), inputs.digest_of(input));
            }
        }
        if uses("inputs") {
            add_arguments(labelled, fingerprint);
        }
        for (name, value) in &self.project.vars {
            if template.uses(&format!("vars.{name}")) || template.names.contains("vars") {
                fingerprint.add(format!("var.{name}"), items::canonical(value).as_bytes());
            }
        }
        if uses("item") || uses("key") || uses("index") {
            add_item(task, fingerprint);
        }
        if let (true, Some(item)) = (uses("index"), &task.item) {
            fingerprint.add("index", item.index.to_string().as_bytes());
        }
    }

    /// make's rule: an input newer than an output.
    fn newer(&self, task: &Task, inputs: &Inputs) -> Option<(String, String)> {
        let mtime = |path: std::path::PathBuf| {
            fs::signature(&path).ok().flatten().map(|signature| signature.mtime_ns)
        };
        let outputs = task.outputs.iter();
        let oldest = outputs.filter_map(|path| Some((mtime(self.store.path(path))?, path))).min()?;
        let paths = inputs.files.iter().flat_map(|input| &input.paths);
        let newest = paths.filter_map(|path| Some((mtime(self.project.input(path))?, path))).max()?;
        (newest.0 > oldest.0).then(|| (newest.1.clone(), oldest.1.clone()))
    }

    /// What an attempt is given beside what it is made from: an answer that need not be paid for.
    fn prepare(
        &self,
        task: &Task,
        spec: &Spec,
        made: Made,
        inputs: Inputs,
        judgement: &Judgement,
    ) -> Prepared {
        let decision_id = decision_id(self.project, spec, &made.fingerprint, &inputs);
        let mut prepared = Prepared {
            inputs,
            fingerprint: made.fingerprint,
            system: made.system,
            prompt: made.prompt,
            check: made.check,
            kept: None,
            existing: None,
            as_it_is: false,
            candidate: None,
            decision_id,
        };
        let Decision::Stale { redraw, try_existing, .. } = &judgement.decision else { return prepared };
        if spec.isolate.is_some() && !redraw {
            // What it was made from then is recorded with it, and is no matter any more.
            prepared.candidate = self.store.to_be_merged(&task.name).map(Box::new);
        }
        if spec.eval.is_some() && !redraw && !self.no_reuse && prepared.candidate.is_none() {
            let candidate = self.store.candidate(&task.name).map(Box::new);
            prepared.candidate = candidate.filter(|it| it.made_from == prepared.made_from());
        }
        let Some(prompt) = spec.recipe.prompt() else {
            prepared.as_it_is = *try_existing && matches!(spec.recipe, Recipe::Command(_));
            return prepared;
        };
        if *try_existing {
            prepared.existing = self.existing(task, prompt, &prepared);
        }
        if !redraw && !self.no_reuse && prepared.existing.is_none() {
            prepared.kept = self.kept(task, prompt, &prepared);
        }
        prepared
    }

    /// The answer there is, if it passes.
    fn existing(&self, task: &Task, prompt: &PromptSpec, prepared: &Prepared) -> Option<String> {
        let text = fs::read_to_string(&self.store.path(task.outputs.first()?)).ok()?;
        check::validate(&text, prompt.schema.as_deref(), prepared.check.as_deref()).ok().map(|_| text)
    }

    /// A kept answer to this prompt by any of the task's models that passes.
    fn kept(&self, task: &Task, prompt: &PromptSpec, prepared: &Prepared) -> Option<Box<KeptCall>> {
        prompt.models.iter().find_map(|&at| {
            let endpoint = &self.project.endpoints[at];
            let digest = call_digest(prompt, endpoint, &prepared.system, &prepared.prompt);
            let kept = self.store.calls().find_named(&task.name, &digest)?;
            let text = &kept.record.reply.as_ref()?.text;
            check::validate(text, prompt.schema.as_deref(), prepared.check.as_deref()).ok()?;
            Some(Box::new(kept))
        })
    }

    /// The items of a fan-out for a build of these targets. One that is named by a key no item has is a fault: to make
    /// nothing is no success.
    pub fn wanted_items(
        &self,
        graph: &Graph,
        family: TaskId,
        targets: &[(TaskId, Option<HashSet<String>>)],
    ) -> Result<Vec<Item>, Failure> {
        let items = self.items(graph, family)?;
        let named = targets.iter().filter(|(id, _)| *id == family).filter_map(|(_, keys)| keys.as_ref());
        let missing = named.flatten().filter(|key| items.iter().all(|item| item.key != **key)).min();
        match missing {
            None => Ok(items),
            Some(key) => Err(Failure {
                class: "items".into(),
                message: no_such_item(&graph[family].name, key, items.iter().map(|item| item.key.as_str())),
                recoverable: true,
                ..Failure::default()
            }),
        }
    }

    /// The items of a fan-out, from its file or its glob.
    pub fn items(&self, graph: &Graph, family: TaskId) -> Result<Vec<Item>, Failure> {
        let task = &graph[family];
        let spec = self.project.spec(task);
        let Some(foreach) = &spec.foreach else { return Ok(Vec::new()) };
        let fail = |message: String| Failure {
            class: "items".into(),
            message,
            recoverable: true,
            ..Failure::default()
        };
        if let Some(glob) = &foreach.glob {
            let files = Files {
                name: "item".into(),
                paths: self.glob(graph, glob)?,
                glob: true,
                optional: false,
                pattern: glob.clone(),
            };
            return self.file_items(spec, glob, files);
        }
        let path = foreach.file.clone().unwrap_or_default();
        let text = fs::read_to_string(&self.project.input(&path))
            .map_err(|error| fail(format!("the items of `{}`: {error}", task.name)))?;
        let value: serde_json::Value = serde_json::from_str(context::json_of(&text)).map_err(|error| {
            fail(format!("the items of `{}`: `{path}` is not valid JSON: {error}", task.name))
        })?;
        let describe =
            |error: items::ItemError| fail(format!("the items of `{}` in `{path}`: {error}", task.name));
        let found = items::items(&value, foreach.items.as_deref()).map_err(describe)?;
        let batched: Vec<serde_json::Value>;
        let found = match foreach.batch {
            Some(size) => {
                batched = items::batches(&found, size);
                batched.iter().collect()
            }
            None => found,
        };
        let keys = items::keys(&found, foreach.key.as_deref()).map_err(describe)?;
        let item = |(index, (value, key)): (usize, (&&serde_json::Value, String))| Item {
            key,
            index,
            value: (*value).clone(),
        };
        Ok(found.iter().zip(keys).enumerate().map(item).collect())
    }

    fn glob(&self, graph: &Graph, glob: &str) -> Result<Vec<String>, Failure> {
        let found = self.finder.matches(graph, glob, "");
        let found = found.map_err(|error| InputError::Fs(error).into_failure())?;
        self.stays_inside(&found)?;
        Ok(found)
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

    fn file_items(&self, spec: &Spec, glob: &str, files: Files) -> Result<Vec<Item>, Failure> {
        let paths: Vec<&str> = files.paths.iter().map(String::as_str).collect();
        let keys = items::file_keys(glob, &paths).map_err(|error| Failure {
            class: "items".into(),
            message: error.to_string(),
            ..Failure::default()
        })?;
        let mut list = Vec::with_capacity(keys.len());
        for (index, (path, key)) in files.paths.iter().zip(keys).enumerate() {
            let text = fs::read_to_string(&self.project.input(path))
                .map_err(|e| InputError::Fs(e).into_failure())?;
            let value = serde_json::json!({ "path": spec.shown_path(path), "text": text });
            list.push(Item { key, index, value });
        }
        Ok(list)
    }

    /// A number that stands for all the files a fresh verdict rested on: while it is the same, the
    /// verdict is. None if a file is missing or so young at `at_ns` that a change since might leave the
    /// same times: of a verdict that was just found, the moment before it was.
    pub fn stamp(&self, graph: &Graph, id: TaskId, at_ns: i64) -> Option<u128> {
        let task = &graph[id];
        let first = task.outputs.first()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.project.digest.0.as_bytes());
        hasher.update(&[u8::from(self.rules.model), u8::from(self.rules.by_mtime)]);
        if let Some(item) = &task.item {
            hasher.update(items::canonical(&item.value).as_bytes());
            hasher.update(&(item.index as u64).to_le_bytes());
        }
        if let Recipe::Command(command) = &self.project.spec(task).recipe {
            for name in &command.env_names {
                hasher.update((self.env)(name).unwrap_or_default().as_bytes());
            }
        }
        let mut add = |name: &str| {
            let s = fs::signature(&self.store.path(name)).ok().flatten()?;
            if is_racy(&s, at_ns) {
                return None;
            }
            // A folder that was renamed leaves no trace in the files below it.
            hasher.update(name.as_bytes());
            hasher.update(&[0]);
            for number in [s.size, s.mtime_ns as u64, s.ctime_ns as u64, s.ino, u64::from(s.mode)] {
                hasher.update(&number.to_le_bytes());
            }
            Some(())
        };
        let marker = self.store.sidecar_path(first, Sidecar::Done);
        add(marker.strip_prefix(self.store.run_dir()).ok()?.to_str()?)?;
        for output in &task.outputs {
            add(output)?;
        }
        for files in self.finder.resolve(graph, task).ok()? {
            // Nor does one that a link took the place of.
            if files.glob || task.item.is_some() {
                self.stays_inside(&files.paths).ok()?;
            }
            for path in &files.paths {
                if files.optional && fs::signature(&self.store.path(path)).ok().flatten().is_none() {
                    continue;
                }
                add(path)?;
            }
        }
        if let Some(previous) = previous(graph, task) {
            add(&previous.paths[0])?;
        }
        let digest = hasher.finalize();
        Some(u128::from_le_bytes(digest.as_bytes()[..16].try_into().ok()?))
    }
}

/// The former item's first output, for a sequential fan-out; none if that item is skipped.
fn previous(graph: &Graph, task: &Task) -> Option<Files> {
    let need = task.needs.iter().find(|need| need.why == crate::graph::Why::Previous)?;
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

/// `$in` and `inputs` have the inputs in order, and by their paths.
fn add_arguments(mut labelled: Vec<(&Files, &str)>, fingerprint: &mut Fingerprint) {
    if labelled.len() > 1 {
        let labels: Vec<&str> = labelled.iter().map(|(_, label)| *label).collect();
        fingerprint.add(ORDER, labels.join("\0").as_bytes());
    }
    // What a glob matched is part of what it holds.
    labelled.retain(|(input, _)| !input.glob);
    labelled.sort_by_key(|(_, label)| *label);
    if !labelled.is_empty() {
        let paths: Vec<&str> = labelled.iter().map(|(input, _)| input.pattern.as_str()).collect();
        fingerprint.add(PATHS, paths.join("\0").as_bytes());
    }
}

fn add_item(task: &Task, fingerprint: &mut Fingerprint) {
    if let (Some(item), Kind::Instance { .. }) = (&task.item, task.kind) {
        fingerprint.add("item", items::canonical(&item.value).as_bytes());
    }
}

/// The failure of a template.
pub fn render_failure(error: &render::RenderError) -> Failure {
    Failure { class: "template".into(), message: error.to_string(), ..Failure::default() }
}

/// What an attempt is decided on: inputs, what it is made from, models and parameters.
fn decision_id(project: &Project, spec: &Spec, fingerprint: &Fingerprint, inputs: &Inputs) -> String {
    let models: Vec<MadeWith> = spec.recipe.prompt().map_or(Vec::new(), |prompt| {
        prompt.models.iter().map(|&at| prompt.made_with(&project.endpoints[at])).collect()
    });
    let text = serde_json::to_vec(&(fingerprint.digest(), inputs.records(), models)).unwrap_or_default();
    Digest::of(&text).short().to_string()
}

/// The digest a kept answer is found by: of what is sent to a model.
pub fn call_digest(
    spec: &PromptSpec,
    endpoint: &crate::project::Endpoint,
    system: &str,
    prompt: &str,
) -> Digest {
    let schema = spec.schema.as_ref().map(|schema| &schema.value);
    let sent = llm::prompt_digest(system, prompt, schema);
    let text = serde_json::to_vec(&(sent, spec.made_with(endpoint))).unwrap_or_default();
    Digest::of(&text)
}

/// What is said of a key that no item has, with the nearest one or those there are.
pub fn no_such_item<'k>(family: &str, key: &str, keys: impl Iterator<Item = &'k str>) -> String {
    let keys: Vec<&str> = keys.collect();
    match manifest::suggest(key, keys) {
        None => format!("`{family}` has no items"),
        Some(hint) => format!("`{family}` has no item `{key}`; {hint}"),
    }
}
