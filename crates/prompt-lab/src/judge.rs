//! The pipeline that is made up for a judge: two tasks a comparison, one for each order. Reads only.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cells::{Became, Subject, first_outputs, is_own};
use crate::pairs::{Orders, Said};
use crate::{Cell, Reference};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FsError};
use planexe_base::record::{Digest, State};
use planexe_pipeline::check::CompiledSchema;
use planexe_pipeline::manifest::types::{Inputs, Map, OneOrMany, Output, Task};
use planexe_pipeline::manifest::{Diagnostics, ReadOptions};
use planexe_pipeline::project::{Project, Recipe, StandsFor};
use planexe_pipeline::template::Source;
use planexe_pipeline::texts::is_inline;
use planexe_query::selection::Units;
use planexe_store::Store;
use planexe_store::sidecar::StatusRead;

/// What a judge is asked, unless the pipeline says something else.
const ASK: &str = include_str!("judge.md");
/// What its prompt calls the answers.
pub const ANSWERS: [&str; 2] = ["first", "second"];

/// Who compares answers, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    /// As a task's prompt: a file of the pipeline, or the text.
    prompt: String,
    text: String,
    /// Its models, in order of fallback.
    pub models: Vec<String>,
    params: Option<Map<Value>>,
    /// Digest of all that.
    pub digest: Digest,
}

impl Judge {
    /// The judge of a task's texts.
    pub fn new(subject: &Subject<'_>) -> Result<Judge, FsError> {
        let (project, set) = (subject.project, &subject.project.tables.optimize);
        let prompt = set.judge.clone().unwrap_or_else(|| ask(subject));
        let text = match is_inline(&prompt) {
            true => prompt.clone(),
            false => planexe_pipeline::task_inputs::json_of(&fs::linked::read_to_string(
                &project.folder.join(&prompt),
            )?)
            .to_owned(),
        };
        let positions: &[usize] = match subject.evaluator_models() {
            [] => subject.prompt().map_or(&[], |prompt| &prompt.models),
            models => models,
        };
        let own = || positions.iter().map(|&at| project.endpoints[at].name.clone()).collect();
        let named = |models: &OneOrMany| models.as_slice().to_vec();
        let default =
            project.tables.defaults.model.as_ref().filter(|_| subject.evaluator_models().is_empty());
        let models: Vec<String> = set.judge_model.as_ref().or(default).map_or_else(own, named);
        let endpoints: Vec<_> = models
            .iter()
            .filter_map(|name| project.endpoints.iter().find(|endpoint| endpoint.name == *name))
            .map(|endpoint| (&endpoint.name, endpoint.model_name()))
            .collect();
        let all = serde_json::to_vec(&(&text, endpoints, &set.judge_params, &schema().value));
        let digest = Digest::of(&all.unwrap_or_default());
        Ok(Judge { prompt, text, models, params: set.judge_params.clone(), digest })
    }

    /// What it is asked, to be looked at.
    pub fn source(&self) -> Source {
        let name = if is_inline(&self.prompt) { "optimize.judge" } else { self.prompt.as_str() };
        Source::new(name, self.text.as_str())
    }
}

/// What is asked by default, with the description of the task in it: as text, not as a template.
fn ask(subject: &Subject<'_>) -> String {
    let description = subject.spec().description.as_deref().unwrap_or_default();
    let text = serde_json::to_string(description).unwrap_or_default();
    let item = match subject.table().foreach {
        Some(_) => "==== The item that both were made for:\n{{ item }}\n",
        None => "",
    };
    format!("{{% set description = {text} %}}{}", ASK.replace("ITEM\n", item))
}

/// What a judge is to answer.
fn schema() -> &'static Arc<CompiledSchema> {
    static SCHEMA: LazyLock<Arc<CompiledSchema>> = LazyLock::new(|| {
        let schema = json!({
            "type": "object",
            "properties": {
                "reason": { "type": "string" },
                "winner": { "type": "string", "enum": ["first", "second", "tie"] }
            },
            "required": ["reason", "winner"]
        });
        Arc::new(CompiledSchema::compile(schema).expect("BUG: the judge's schema does not compile"))
    });
    &SCHEMA
}

/// A comparison of what two trials made.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Digest of all it is made from, shortened: the same answers are compared once, whoever gave them.
    pub id: String,
    /// The name of its tasks, for people.
    pub name: String,
    /// The run.
    pub run: String,
    /// The trial whose answer is shown first in the first task.
    pub a: Cell,
    /// The other.
    pub b: Cell,
}

impl Pair {
    /// Where the verdicts lie, below the folder of experiments, with a slash.
    pub fn folder(&self) -> String {
        format!("pairs/{}/", self.id)
    }

    /// The names of its two tasks: A shown first, and B shown first.
    fn tasks(&self) -> [String; 2] {
        [format!("{}.1", self.name), format!("{}.2", self.name)]
    }
}

/// A verdict, or that there is none that can be used.
#[derive(Debug, Clone)]
struct Heard {
    said: Said,
    reason: String,
}

/// What became of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// What was said, item by item; of a task that is no fan-out there is one. None as long as verdicts are missing.
    pub items: Option<Vec<Item>>,
    /// Why there is none, if that is known.
    pub failure: Option<(FailureClass, String)>,
}

/// The two verdicts on one item.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its key.
    pub key: Option<String>,
    /// What was said.
    pub orders: Orders,
    /// Why, in each order.
    pub reasons: [String; 2],
}

impl Subject<'_> {
    /// The identity of a comparison, and whose answer comes first in it; none as long as an answer is missing.
    pub fn pair_id(
        &self,
        judge: &Judge,
        run: &Reference,
        one: &Became,
        other: &Became,
    ) -> Option<(String, bool)> {
        let (one, other) = (one.answer.as_ref()?, other.answer.as_ref()?);
        let turned = one.0 > other.0;
        let (a, b) = if turned { (other, one) } else { (one, other) };
        let all = serde_json::to_vec(&(&judge.digest, self.frame(), &run.id, a, b)).unwrap_or_default();
        Some((Digest::of(&all).short().to_owned(), turned))
    }

    /// The pipeline of some comparisons, to be built in `run`.
    pub fn judging(
        &self,
        run: &Path,
        pairs: &[Pair],
        judge: &Judge,
        runs: &[Reference],
        options: &ReadOptions,
    ) -> Result<Project, Diagnostics> {
        let mut tasks = Map::new();
        for pair in pairs {
            let Some(reference) = runs.iter().find(|run| run.name == pair.run) else { continue };
            for (at, (name, (first, second))) in
                pair.tasks().into_iter().zip([(&pair.a, &pair.b), (&pair.b, &pair.a)]).enumerate()
            {
                let shown = [first, second].map(|cell| self.trial(cell, reference, String::new()));
                tasks.insert(name, self.comparison(pair, at + 1, shown, judge));
            }
        }
        let tables = &self.project.tables;
        let trim_blocks = tables.optimize.judge.is_none() || tables.pipeline.trim_blocks;
        let mut project = self.load(run, trim_blocks, tasks, options)?;
        for spec in &mut project.specs {
            if let Recipe::Prompt(prompt) = &mut spec.recipe {
                prompt.schema = Some(schema().clone());
            }
            // A judge is told the task's name, and never whose answer it sees.
            let pair = pairs.iter().find(|pair| pair.tasks().contains(&spec.name));
            spec.stands_for = pair.map(|pair| {
                let run = runs.iter().find(|run| run.name == pair.run);
                let folders = [pair.folder(), pair.a.folder(), pair.b.folder()];
                Box::new(StandsFor {
                    task: self.spec().name.clone(),
                    folders: folders.into_iter().chain(run.map(Reference::folder)).collect(),
                    without: run.map(|run| run.skipped.clone()).unwrap_or_default(),
                })
            });
        }
        Ok(project)
    }

    /// The task that has two answers compared, made from the tasks that gave them.
    fn comparison(&self, pair: &Pair, order: usize, shown: [Task; 2], judge: &Judge) -> Task {
        let answers = shown.each_ref().map(|task| task.outputs.first().map(Output::path).unwrap_or_default());
        let mut inputs = match &shown[0].inputs {
            Inputs::Table(table) => table.clone(),
            Inputs::List(_) => Map::new(),
        };
        for (name, path) in ANSWERS.iter().zip(answers) {
            inputs.insert((*name).to_owned(), path.to_owned());
        }
        let folder = pair.folder();
        let output = match shown[0].foreach {
            Some(_) => format!("{folder}{order}/{{{{ key }}}}.json"),
            None => format!("{folder}{order}.json"),
        };
        let [task, _] = shown;
        Task {
            inputs: Inputs::Table(inputs),
            outputs: vec![Output::Path(output)],
            optional: task.optional,
            foreach: task.foreach,
            when: task.when,
            timeout: task.timeout,
            stall_timeout: task.stall_timeout,
            retry: task.retry,
            model: Some(OneOrMany::Many(judge.models.clone())),
            params: judge.params.clone().map(Box::new),
            prompt: Some(judge.prompt.clone()),
            ..Task::default()
        }
    }
}

/// What became of a comparison, by the records of its tasks.
pub fn compared(project: &Project, store: &Store, units: &Units<'_>, pair: &Pair) -> Compared {
    let [one, two] = pair.tasks().map(|task| {
        let outputs = first_outputs(project, units, &task);
        outputs.into_iter().map(|(key, output)| (key, heard(store, &output))).collect::<Vec<_>>()
    });
    let mut items = Vec::new();
    for ((key, one), (_, two)) in one.into_iter().zip(two) {
        match (one, two) {
            (Ok(one), Ok(two)) => items.push(Item {
                key,
                orders: Orders { a_first: one.said, b_first: two.said },
                reasons: [one.reason, two.reason],
            }),
            (Err(failure), _) | (_, Err(failure)) => return Compared { items: None, failure },
        }
    }
    Compared { items: Some(items).filter(|items| !items.is_empty()), failure: None }
}

/// How many items of a comparison lack a verdict in either order.
pub fn unheard(project: &Project, store: &Store, units: &Units<'_>, pair: &Pair) -> u64 {
    let [one, two] = pair.tasks().map(|task| first_outputs(project, units, &task));
    let is_open = |output: &str| heard(store, output).is_err();
    let items = one.iter().zip(&two);
    items.filter(|((_, one), (_, two))| is_open(one) || is_open(two)).count() as u64
}

/// The first outputs of a comparison's tasks.
pub fn verdict_files(project: &Project, units: &Units<'_>, pair: &Pair) -> Vec<String> {
    let tasks = pair.tasks();
    let each = tasks.iter().flat_map(|task| first_outputs(project, units, task));
    each.map(|(_, output)| output).collect()
}

#[derive(Deserialize)]
struct Answer {
    winner: String,
    reason: String,
}

/// What was said, or class and message of what kept it from being said.
fn heard(store: &Store, output: &str) -> Result<Heard, Option<(FailureClass, String)>> {
    let StatusRead::Valid(status) = store.read_status(output) else { return Err(None) };
    match (status.state, status.result.failure) {
        (State::Done, _) => {
            let bytes = fs::read(&store.path(output)).map_err(|_| None)?;
            let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| None)?;
            let said = match answer.winner.as_str() {
                "first" => Said::First,
                "second" => Said::Second,
                _ => Said::Tie,
            };
            Ok(Heard { said, reason: answer.reason })
        }
        (State::Failed, Some(it)) if is_own(&it) => {
            Ok(Heard { said: Said::Unusable, reason: it.message.text })
        }
        (_, failure) => Err(failure.map(|it| (it.class, it.message.text))),
    }
}

#[cfg(test)]
mod tests {
    use planexe_base::call::Usage;
    use planexe_base::failure_class::Class;
    use planexe_base::fs::Durability;
    use planexe_base::record::{Failure, Status};

    use super::*;

    /// What is heard of a verdict with this `.status` and this file.
    fn heard_of(status: Option<(State, Option<Failure>)>, file: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        if let Some((state, failure)) = status {
            let mut status = Status::new("a.1", state);
            status.result.failure = failure;
            status.result.usage = Some(Usage::default());
            store.write_status("1.json", &status, Durability::Synced).unwrap();
            fs::write_atomic(&store.path("1.json"), file.as_bytes(), Durability::Synced).unwrap();
        }
        match heard(&store, "1.json") {
            Ok(heard) => format!("{:?}: {}", heard.said, heard.reason),
            Err(Some((class, message))) => format!("none: {class} {message}"),
            Err(None) => "none".to_owned(),
        }
    }

    #[test]
    fn a_verdict_is_one_of_three_or_cannot_be_used() {
        let failed = |class: Class| {
            let failure = Failure { class: class.into(), message: "m".into(), ..Failure::default() };
            Some((State::Failed, Some(failure)))
        };
        let done = || Some((State::Done, None));
        for (status, file, expected) in [
            (None, "", "none"),
            (done(), r#"{"winner":"first","reason":"r"}"#, "First: r"),
            (done(), r#"{"winner":"second","reason":"r"}"#, "Second: r"),
            (done(), r#"{"winner":"tie","reason":"r"}"#, "Tie: r"),
            (done(), r#"{"winner":"first"}"#, "none"),
            (done(), "no JSON", "none"),
            // It asked, and what it got is no verdict: that is one too.
            (failed(Class::Validation), "", "Unusable: m"),
            (failed(Class::Timeout), "", "none: timeout m"),
            (Some((State::Running, None)), "", "none"),
        ] {
            assert_eq!(heard_of(status.clone(), file), expected, "{status:?} {file}");
        }
    }
}
