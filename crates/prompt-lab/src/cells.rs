//! The pipeline that is made up for trials, and what became of them. Reads only.

use std::path::Path;

use crate::{Cell, Reference, Variant};
use planexe_base::failure_class::{Class, FailureClass};
use planexe_base::pattern;
use planexe_base::record::{AttemptResult, Digest, Failure, State, Status};
use planexe_engine::graph::TaskId;
use planexe_pipeline::eval_score::Evaluation;
use planexe_pipeline::load::{self, Locations};
use planexe_pipeline::manifest::inputs;
use planexe_pipeline::manifest::names::loose;
use planexe_pipeline::manifest::types::{
    Inputs, Map, OneOrMany, Output, Pipeline, RenderedOutput, Tables, Task,
};
use planexe_pipeline::manifest::{Diagnostics, ReadOptions};
use planexe_pipeline::project::{Evaluator, Project, PromptSpec, Spec, StandsFor};
use planexe_query::selection::Units;
use planexe_store::Store;
use planexe_store::sidecar::StatusRead;

/// Failures that are the prompt's doing: a trial that ends so has the score 0. After any other it is tried again.
const OWN: [FailureClass; 9] = [
    FailureClass::Call(Class::Validation),
    FailureClass::Call(Class::Truncated),
    FailureClass::Call(Class::EmptyResponse),
    FailureClass::Call(Class::Degenerate),
    FailureClass::Call(Class::Refusal),
    FailureClass::Output,
    FailureClass::Template,
    FailureClass::Call(Class::ContextOverflow),
    FailureClass::Call(Class::PromptTruncated),
];

/// The task whose prompt is tried.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its pipeline.
    pub project: &'a Project,
    /// The task.
    pub id: TaskId,
}

impl<'a> Subject<'a> {
    /// Its declaration.
    pub fn spec(&self) -> &'a Spec {
        self.project.spec(&self.project.graph[self.id])
    }

    /// What it asks.
    pub fn prompt(&self) -> Option<&'a PromptSpec> {
        self.spec().recipe.prompt()
    }

    /// As written.
    pub fn table(&self) -> &'a Task {
        &self.project.tables.task[self.spec().name.as_str()]
    }

    /// Digest of all a trial is made from, but for the text, the model and the inputs.
    pub(super) fn frame(&self) -> Digest {
        let (spec, table) = (self.spec(), self.table());
        let Some(prompt) = spec.recipe.prompt() else { return Digest::of(b"") };
        let text = |template: &planexe_pipeline::project::Template| template.source.text.to_string();
        let templates: Vec<_> = spec.templates.iter().map(|one| one.as_deref().map(text)).collect();
        let outputs: Vec<&str> = table.outputs.iter().map(Output::path).collect();
        let asked = (prompt.system.as_ref().map(text), prompt.schema.as_ref().map(|it| &it.value));
        let checked =
            (&prompt.check_digest, prompt.max_validation_retries, &prompt.params, &prompt.params_extra);
        let rest = (&table.inputs, &table.foreach, spec.sequential, &self.project.vars);
        let all = (&spec.name, outputs, templates, asked, checked, rest);
        let all = match &prompt.tools {
            // As it was before a task could have tools, so that results stay.
            None => serde_json::to_vec(&all),
            Some(tools) => serde_json::to_vec(&(all, tools)),
        };
        Digest::of(&all.unwrap_or_default())
    }

    /// Digest of who evaluates, and how.
    pub fn evaluator(&self) -> Option<Digest> {
        let eval = self.spec().eval.as_ref()?;
        let models: Vec<&str> =
            self.evaluator_models().iter().map(|&at| self.project.endpoints[at].name.as_str()).collect();
        let all = serde_json::to_vec(&(&eval.digest, eval.max_bytes, models)).unwrap_or_default();
        Some(Digest::of(&all))
    }

    /// The models that score, whichever models are compared.
    pub(super) fn evaluator_models(&self) -> &'a [usize] {
        self.spec().eval.as_ref().and_then(|eval| eval.prompt()).map_or(&[], |prompt| &prompt.models)
    }

    /// The identity of a trial.
    pub fn cell_id(&self, variant: &Variant, model: &str, run: &Reference, sample: u32) -> String {
        let endpoint = self.project.endpoints.iter().find(|endpoint| endpoint.name == model);
        let model = endpoint.map(|endpoint| (&endpoint.name, endpoint.model_name()));
        let made_from = (self.frame(), &variant.blake3, model, &run.id);
        // The first draw is what it was before there were others.
        let all = match sample {
            1 => serde_json::to_vec(&made_from),
            sample => serde_json::to_vec(&(made_from, sample)),
        };
        Digest::of(&all.unwrap_or_default()).short().to_owned()
    }

    /// The identity of an experiment: what is compared with what, and by whom, but for the challengers and the number of
    /// draws, so that others can be added. `judge`: what the judge is made from, if there is one.
    pub fn experiment_id(
        &self,
        champion: &Variant,
        models: &[String],
        runs: &[Reference],
        judge: Option<&Digest>,
    ) -> String {
        let runs: Vec<&Digest> = runs.iter().map(|run| &run.id).collect();
        let frame = self.frame();
        let all = match judge {
            None => serde_json::to_vec(&(frame, &champion.blake3, models, runs, self.evaluator())),
            Some(judge) => serde_json::to_vec(&(frame, &champion.blake3, models, runs, "pairwise", judge)),
        };
        Digest::of(&all.unwrap_or_default()).short().to_owned()
    }

    /// The pipeline of these trials, to be built in `run`. `text`: the file of a text, relative to the pipeline's folder.
    pub fn pipeline(
        &self,
        run: &Path,
        cells: &[Cell],
        runs: &[Reference],
        text: impl Fn(&Digest) -> String,
        options: &ReadOptions,
    ) -> Result<Project, Diagnostics> {
        let tables = &self.project.tables;
        let one = |cell: &Cell| {
            let reference = runs.iter().find(|run| run.name == cell.run)?;
            Some((cell.name.clone(), self.trial(cell, reference, text(&cell.variant))))
        };
        let mut project =
            self.load(run, tables.pipeline.trim_blocks, cells.iter().filter_map(one).collect(), options)?;
        for spec in &mut project.specs {
            let cell = cells.iter().find(|cell| cell.name == spec.name);
            let reference = cell.and_then(|cell| runs.iter().find(|run| run.name == cell.run));
            let folders = cell
                .into_iter()
                .flat_map(|cell| std::iter::once(cell.folder()).chain(reference.map(Reference::folder)));
            let task = self.spec().name.clone();
            let without = reference.map(|run| run.skipped.clone()).unwrap_or_default();
            spec.stands_for = Some(Box::new(StandsFor { task, folders: folders.collect(), without }));
            // A program that scores runs where it does in a build of that run, and finds its files by the same names.
            if let Some(Evaluator::Command(command)) = spec.eval.as_mut().map(|it| &mut it.by) {
                let place = reference.map_or(&self.project.run, |run| &run.dir);
                command.cwd = Some(place.display().to_string());
            }
        }
        Ok(project)
    }

    /// The pipeline that has new texts written: name, brief and output of each task.
    pub fn proposer(
        &self,
        run: &Path,
        asked: &[(String, String, String)],
        ask: &str,
        options: &ReadOptions,
    ) -> Result<Project, Diagnostics> {
        let set = &self.project.tables.optimize;
        let model = set.propose_model.clone().or(self.project.tables.defaults.model.clone());
        let task = |(name, brief, output): &(String, String, String)| {
            let task = Task {
                inputs: Inputs::Table([("brief".to_owned(), brief.clone())].into_iter().collect()),
                outputs: vec![Output::Path(output.clone())],
                prompt: Some(set.propose.clone().unwrap_or_else(|| ask.to_owned())),
                model: model.clone().or_else(|| self.table().model.clone()),
                ..Task::default()
            };
            (name.clone(), task)
        };
        self.load(run, true, asked.iter().map(task).collect(), options)
    }

    /// A pipeline of other tasks over the same models.
    pub(super) fn load(
        &self,
        run: &Path,
        trim_blocks: bool,
        tasks: Map<Task>,
        options: &ReadOptions,
    ) -> Result<Project, Diagnostics> {
        let tables = &self.project.tables;
        let name = Some(format!("experiments of {}", self.spec().name));
        let made = Tables {
            pipeline: Pipeline { name, trim_blocks, ..Pipeline::default() },
            vars: tables.vars.clone(),
            models: tables.models.clone(),
            defaults: tables.defaults.clone(),
            pools: tables.pools.clone(),
            budget: tables.budget,
            jobserver: tables.jobserver,
            task: tasks.into_iter().map(|(name, task)| (name, Box::new(task))).collect(),
            ..Tables::default()
        };
        let pipeline = self.project.file.clone();
        let locations = Locations { run: run.to_owned(), pipeline, options: options.clone(), parent: None };
        load::load_tables(&locations, made)
    }

    /// The task, with another text, in a folder of its own.
    pub(super) fn trial(&self, cell: &Cell, reference: &Reference, text: String) -> Task {
        let table = self.table();
        let inputs_in = reference.folder();
        // What the run says, not what its condition would say here.
        let when = (!reference.skipped.is_empty())
            .then(|| format!("{{{{ key not in {} }}}}", serde_json::json!(reference.skipped)));
        let vars = &self.project.tables.vars;
        let path = |written: &str| match planexe_pipeline::manifest::paths::substitute_vars(written, vars) {
            Ok(filled) => pattern::normalize(&filled),
            Err(_) => pattern::normalize(written),
        };
        let input = |written: &str| format!("{inputs_in}{}", path(written));
        let output = |output: &Output| {
            let path = format!("{}{}", cell.folder(), path(output.path()));
            match output {
                Output::Path(_) => Output::Path(path),
                Output::Rendered(it) => {
                    Output::Rendered(RenderedOutput { path, template: it.template.clone() })
                }
            }
        };
        let named: Vec<(String, &str)> = inputs::names(&table.inputs);
        let optional = |wanted: &String| {
            let of = named.iter().find(|(name, written)| name == wanted || path(written) == path(wanted));
            of.map(|(name, _)| name.clone())
        };
        let foreach = table.foreach.clone().map(|mut foreach| {
            foreach.file = foreach.file.as_deref().map(input);
            foreach.glob = foreach.glob.as_deref().map(input);
            foreach
        });
        let timeouts = &self.project.tables.timeouts;
        let by_name = timeouts.iter().find(|(name, _)| loose(name) == loose(&self.spec().name));
        let default = self.project.tables.defaults.timeout.or(timeouts.get("default").copied());
        let eval = table.eval.clone().map(|mut eval| {
            // Every score is one; it is not for the evaluator to have the task made again.
            eval.threshold = Some(0.0);
            eval.max_rounds = Some(1);
            eval.rescue = None;
            let models = self.evaluator_models().iter().map(|&at| self.project.endpoints[at].name.clone());
            eval.model = eval.prompt.is_some().then(|| OneOrMany::Many(models.collect()));
            eval
        });
        Task {
            description: None,
            inputs: Inputs::Table(
                named.iter().map(|(name, written)| (name.clone(), input(written))).collect::<Map<String>>(),
            ),
            optional: table.optional.iter().filter_map(optional).collect(),
            outputs: table.outputs.iter().map(output).collect(),
            after: Vec::new(),
            foreach,
            min_success: None,
            when,
            timeout: table.timeout.or(by_name.map(|(_, span)| *span)).or(default),
            model: Some(OneOrMany::One(cell.model.clone())),
            prompt: Some(text),
            eval,
            refine: None,
            ..table.clone()
        }
    }
}

/// What became of a trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Became {
    /// Its score; of a fan-out the mean over its items.
    pub score: Option<f64>,
    /// What the evaluator said.
    pub notes: String,
    /// The class of its failure.
    pub class: Option<FailureClass>,
    /// Its message.
    pub message: Option<String>,
    /// Digest of what was made.
    pub answer: Option<Digest>,
    /// Whether it will not be made again: it is done, or failed by its text's own fault.
    pub is_settled: bool,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// USD.
    pub cost_usd: f64,
    /// Calls.
    pub calls: u64,
    /// Seconds.
    pub seconds: f64,
}

/// What became of a trial, by the records of its task, or of its items.
pub fn became(project: &Project, store: &Store, units: &Units<'_>, name: &str) -> Became {
    let Some(id) = project.graph.find(name) else { return Became::default() };
    let task = &project.graph[id];
    let Some(first) = task.outputs.first() else { return Became::default() };
    if project.spec(task).foreach.is_none() {
        return one(store, first);
    }
    let outputs = first_outputs(project, units, name);
    let items: Vec<Became> = outputs.iter().map(|(_, output)| one(store, output)).collect();
    sum(&items)
}

/// How many answers of a trial, of those its task wants, are not made yet.
pub fn unmade(project: &Project, store: &Store, units: &Units<'_>, name: &str) -> u64 {
    let outputs = first_outputs(project, units, name);
    outputs.iter().filter(|(_, output)| !one(store, output).is_settled).count() as u64
}

/// The first outputs of a trial's task, one for each item that is tried.
pub fn first_outputs(project: &Project, units: &Units<'_>, name: &str) -> Vec<(Option<String>, String)> {
    let Some(id) = project.graph.find(name) else { return Vec::new() };
    let task = &project.graph[id];
    match (task.outputs.first(), &project.spec(task).foreach) {
        (None, _) => Vec::new(),
        (Some(first), None) => vec![(None, first.clone())],
        (Some(first), Some(_)) => {
            let without = project.spec(task).stands_for.as_ref().map_or(&[][..], |it| &it.without);
            let keys = units.declared_keys(id).into_iter().filter(|key| !without.contains(key));
            keys.map(|key| (Some(key.clone()), pattern::fill_key(first, &key))).collect()
        }
    }
}

/// Whether a failure is the prompt's doing.
pub fn is_own(failure: &Failure) -> bool {
    OWN.contains(&failure.class) && !failure.of_evaluator
}

fn one(store: &Store, output: &str) -> Became {
    let StatusRead::Valid(status) = store.read_status(output) else { return Became::default() };
    let Status { state, last, quality, result, .. } = *status;
    let AttemptResult { failure, usage, outputs } = result;
    let evaluation = Evaluation::from_value(quality.eval.as_ref());
    let usage = usage.unwrap_or_default();
    let own = failure.as_ref().is_some_and(is_own);
    let mut became = Became {
        class: failure.as_ref().map(|failure| failure.class.clone()),
        message: failure.map(|failure| failure.message.text),
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost_usd: usage.cost_usd,
        calls: usage.calls,
        seconds: last.duration_s.unwrap_or_default(),
        ..Became::default()
    };
    match state {
        State::Done => {
            let digests: Vec<&str> = outputs.iter().map(|output| output.blake3.0.as_str()).collect();
            became.is_settled = true;
            became.answer = Some(Digest::of(digests.join("\n").as_bytes()));
            became.score = evaluation.as_ref().and_then(|it| it.score);
            became.notes = evaluation.map(|it| it.notes).unwrap_or_default();
            (became.class, became.message) = (None, None);
        }
        State::Failed => {
            became.is_settled = own;
            became.score = own.then_some(0.0);
        }
        _ => {}
    }
    became
}

fn sum(items: &[Became]) -> Became {
    let mut all = Became::default();
    let scores: Option<Vec<f64>> = items.iter().map(|item| item.score).collect();
    all.score = scores
        .filter(|scores| !scores.is_empty())
        .map(|scores| scores.iter().sum::<f64>() / scores.len() as f64);
    let answers: Option<Vec<&str>> =
        items.iter().map(|item| item.answer.as_ref().map(|answer| answer.0.as_str())).collect();
    all.is_settled = !items.is_empty() && items.iter().all(|item| item.is_settled);
    all.answer = answers.map(|answers| Digest::of(answers.join("\n").as_bytes()));
    let notes: Vec<&str> =
        items.iter().map(|item| item.notes.as_str()).filter(|notes| !notes.is_empty()).collect();
    all.notes = notes.join("\n");
    let failed = items.iter().find(|item| item.class.is_some());
    all.class = failed.and_then(|item| item.class.clone());
    all.message = failed.and_then(|item| item.message.clone());
    for item in items {
        all.input_tokens += item.input_tokens;
        all.output_tokens += item.output_tokens;
        all.cost_usd += item.cost_usd;
        all.calls += item.calls;
        all.seconds += item.seconds;
    }
    all
}

#[cfg(test)]
mod tests {
    use planexe_base::call::Usage;
    use planexe_base::fs::Durability;
    use planexe_base::record::OutputRecord;
    use serde_json::json;

    use super::*;

    /// What became of a trial whose `.status` is this.
    fn became_of(status: Option<&Status>) -> Became {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        if let Some(status) = status {
            store.write_status("a.txt", status, Durability::Synced).unwrap();
        }
        one(&store, "a.txt")
    }

    fn status(state: State, failure: Option<Failure>) -> Status {
        let mut status = Status::new("a", state);
        status.last.duration_s = Some(2.5);
        status.result.failure = failure;
        status.result.usage = Some(Usage { calls: 3, input_tokens: 7, ..Usage::default() });
        status
    }

    #[test]
    fn a_trial_counts_if_it_is_done_or_failed_by_its_own_text() {
        let failed = |class: FailureClass, of_evaluator| {
            let failure = Failure { class, message: "m".into(), of_evaluator, ..Failure::default() };
            status(State::Failed, Some(failure))
        };
        for (status, settled, score, class) in [
            (None, false, None, None),
            (Some(status(State::Running, None)), false, None, None),
            (Some(failed(Class::Validation.into(), false)), true, Some(0.0), Some("validation")),
            (Some(failed(Class::Validation.into(), true)), false, None, Some("validation")),
            (Some(failed(Class::Timeout.into(), false)), false, None, Some("timeout")),
            (Some(failed(FailureClass::Template, false)), true, Some(0.0), Some("template")),
        ] {
            let became = became_of(status.as_ref());
            assert_eq!((became.is_settled, became.score), (settled, score), "{status:?}");
            assert_eq!(became.class.as_ref().map(FailureClass::name), class);
            let paid = status.map_or((0, 0, 0.0), |_| (3, 7, 2.5));
            assert_eq!((became.calls, became.input_tokens, became.seconds), paid);
        }
    }

    #[test]
    fn a_trial_that_is_done_has_a_score_and_no_failure() {
        let mut done = status(State::Done, Some(Failure::default()));
        done.quality.eval = Some(json!({ "score": 0.75, "notes": "short" }));
        let output = |content: &str| OutputRecord {
            path: "a.txt".into(),
            bytes: 1,
            blake3: Digest::of(content.as_bytes()),
        };
        done.result.outputs = vec![output("x"), output("y")];
        let one = became_of(Some(&done));
        assert_eq!((one.score, one.notes.as_str(), &one.class), (Some(0.75), "short", &None));
        done.result.outputs.swap(0, 1);
        assert_ne!(became_of(Some(&done)).answer, one.answer);
    }

    #[test]
    fn a_fan_out_is_the_sum_of_its_items() {
        let item = |score: Option<f64>, answer: Option<&str>, notes: &str, class: Option<Class>| Became {
            score,
            answer: answer.map(|text| Digest::of(text.as_bytes())),
            notes: notes.into(),
            class: class.map(FailureClass::from),
            message: class.map(|class| class.name().to_owned()),
            is_settled: score.is_some(),
            calls: 1,
            input_tokens: 2,
            output_tokens: 3,
            cost_usd: 0.5,
            seconds: 4.0,
        };
        let (good, bad) = (item(Some(1.0), Some("x"), "good", None), item(Some(0.5), Some("y"), "", None));
        let open = item(None, None, "late", Some(Class::Timeout));
        for (items, score, notes, class, settled) in [
            (vec![], None, "", None, false),
            (vec![good.clone(), bad.clone()], Some(0.75), "good", None, true),
            (vec![good.clone(), open.clone()], None, "good\nlate", Some("timeout"), false),
        ] {
            let all = sum(&items);
            assert_eq!((all.score, all.notes.as_str(), all.is_settled), (score, notes, settled));
            assert_eq!(all.class.as_ref().map(FailureClass::name), class);
            assert_eq!(all.message.as_deref(), class);
            let n = items.len() as u64;
            assert_eq!((all.calls, all.input_tokens, all.output_tokens), (n, 2 * n, 3 * n));
            assert_eq!((all.cost_usd, all.seconds), (0.5 * n as f64, 4.0 * n as f64));
        }
        // Which item made what counts; without one of them there is no answer to compare.
        assert_ne!(sum(&[good.clone(), bad.clone()]).answer, sum(&[bad, good.clone()]).answer);
        assert_eq!(sum(&[good, open]).answer, None);
    }
}
