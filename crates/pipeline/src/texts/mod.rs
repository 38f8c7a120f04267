//! The texts a manifest names (prompts, templates, schemas, lists of words): read once, compiled,
//! and checked against what each task has to fill them with.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::check::{CompiledCheck, CompiledSchema};
use crate::key_path;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::types::{Api, Eval, Task};
use crate::manifest::{Manifest, Step, TablePath};
use crate::template::{self as render, Source};
use planexe_base::cores;

mod check;
mod file;
mod schema;
mod template;

pub use schema::place_in_json;

/// What a template names the tasks before its own by that are done with an answer to another prompt.
pub const SAMPLES: &str = "samples";

/// What a template names those by that a person kept though what they were made from changed.
pub const KEPT_TASKS: &str = "kept_tasks";

/// Largest text file that is read.
const LARGEST: u64 = 64 << 20;

/// A file a manifest names, as it was read.
#[derive(Debug, Clone)]
pub struct TextFile {
    /// The path as the manifest writes it, relative to the pipeline's folder.
    pub written: String,
    /// The file.
    pub path: PathBuf,
    /// What it holds, without a byte order mark.
    pub text: Arc<str>,
}

/// Everything read for a manifest.
#[derive(Debug, Default)]
pub struct Texts {
    files: BTreeMap<String, TextFile>,
    inline: HashMap<String, Source>,
    schemas: HashMap<String, Arc<CompiledSchema>>,
    checks: HashMap<String, Arc<CompiledCheck>>,
    /// What each template uses.
    names: HashMap<Arc<str>, BTreeSet<String>>,
    trim: bool,
}

/// Whether the value of `prompt`, `system` or `template` is the text itself rather than a path.
pub fn is_inline(value: &str) -> bool {
    value.contains(char::is_whitespace) || value.contains("{{")
}

impl Texts {
    /// Reads every text of a manifest and checks it. Files must lie, links followed, in the
    /// pipeline's folder or under one of `allow_outside`.
    pub fn load(manifest: &Manifest, allow_outside: &[PathBuf]) -> (Texts, Vec<Diagnostic>) {
        let mut allowed = vec![manifest.folder.clone()];
        allowed.extend(allow_outside.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())));
        let mut loader = Loader {
            manifest,
            allowed,
            texts: Texts { trim: manifest.tables.pipeline.trim_blocks, ..Texts::default() },
            faults: Vec::new(),
            missing: BTreeSet::new(),
        };
        loader.load();
        (loader.texts, loader.faults)
    }

    /// The text a `prompt`, `system` or `template` stands for: itself, or its file's.
    pub fn source(&self, written: &str) -> Option<Source> {
        if let Some(source) = self.inline.get(written) {
            return Some(source.clone());
        }
        let file = self.files.get(written)?;
        Some(Source::new(written, file.text.clone()).trimmed(self.trim))
    }

    /// The names a template uses and does not set itself ([`render::undeclared`]).
    pub fn names_in(&self, template: &Source) -> BTreeSet<String> {
        let known = self.names.get(&template.text).cloned();
        known.unwrap_or_else(|| render::undeclared(template).unwrap_or_default())
    }

    /// A compiled schema, by the path the manifest gives.
    pub fn schema(&self, written: &str) -> Option<&Arc<CompiledSchema>> {
        self.schemas.get(written)
    }

    /// A task's compiled checks.
    pub fn check(&self, task: &str) -> Option<&Arc<CompiledCheck>> {
        self.checks.get(task)
    }

    /// A file's text, by the path the manifest gives.
    pub fn file(&self, written: &str) -> Option<&TextFile> {
        self.files.get(written)
    }

    /// Every file read, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &TextFile> {
        self.files.values()
    }
}

struct Loader<'a> {
    manifest: &'a Manifest,
    allowed: Vec<PathBuf>,
    texts: Texts,
    faults: Vec<Diagnostic>,
    missing: BTreeSet<String>,
}

impl Loader<'_> {
    fn load(&mut self) {
        let manifest = self.manifest;
        let tables = &manifest.tables;
        if let Some(system) = &tables.defaults.system {
            self.source(&key_path!["defaults", "system"], system);
        }
        for (key, text) in [("propose", &tables.optimize.propose), ("judge", &tables.optimize.judge)] {
            if let Some(text) = text {
                self.source(&key_path!["optimize", key], text);
            }
        }
        self.look_at_inline();
        for (name, task) in &tables.task {
            self.task(name, task);
        }
        let used: BTreeSet<&str> = tables
            .task
            .values()
            .flat_map(|task| {
                [task.prompt.as_ref().map(|_| None), task.eval.as_ref().map(|eval| eval.model.as_ref())]
                    .into_iter()
                    .flatten()
                    .map(move |own| own.or(task.model.as_ref()))
            })
            .filter_map(|models| models.or(tables.defaults.model.as_ref()))
            .flat_map(|models| models.as_slice().iter().map(String::as_str))
            .collect();
        for (name, model) in &tables.models {
            if let (Some(Api::Recorded), Some(file), true) =
                (model.api, &model.file, used.contains(name.as_str()))
            {
                let at = key_path!["models", name, "file"];
                // It may be large and is read by its provider, so only its place is looked at.
                if let Err(fault) = self.locate(&at, file, file::ANSWERS) {
                    self.faults.push(*fault);
                }
            }
        }
    }

    /// What prompts and templates in the pipeline itself use, on all cores: there may be one to each task.
    fn look_at_inline(&mut self) {
        let texts = self.manifest.tables.task.values().flat_map(|task| [&task.prompt, &task.template]);
        let texts: Vec<&String> = texts.flatten().filter(|text| is_inline(text)).collect();
        let found = cores::map(&texts, |text| {
            let source = Source::new("", text.as_str()).trimmed(self.texts.trim);
            // What is wrong with it is told where it stands.
            render::undeclared(&source).ok().map(|names| (source.text, names))
        });
        self.texts.names.extend(found.into_iter().flatten());
    }

    fn task(&mut self, name: &str, task: &Task) {
        let recipe = task.prompt.is_some() || task.template.is_some() || task.gate.is_some();
        if !recipe
            && task.system.is_none()
            && task.when.is_none()
            && task.schema.is_none()
            && task.check.is_none()
            && task.eval.is_none()
        {
            return;
        }
        let at = TablePath::task(name);
        if recipe || task.eval.is_some() {
            self.names_of_inputs(&at, task);
        }
        let names = self.names(name, task);
        let mut with_notes = names.clone();
        if task.eval.is_some() {
            with_notes.extend(["notes", "former"].map(str::to_owned));
        }
        let system = task.prompt.is_some().then_some(self.manifest.tables.defaults.system.as_ref()).flatten();
        // Keys that do not fit the recipe are faults already; what they hold does not matter.
        let prompt = task.prompt.is_some();
        for (key, text, fits) in [
            ("system", &task.system, prompt),
            ("prompt", &task.prompt, true),
            ("template", &task.template, true),
        ] {
            let Some(text) = text.as_ref().filter(|_| fits) else { continue };
            let at = at.then(key);
            if let Some(source) = self.source(&at, text) {
                let names = if key == "prompt" { &with_notes } else { &names };
                self.template(&at, text, &source, name, names, task, false);
            }
        }
        if let Some(eval) = &task.eval {
            self.eval(&at.then("eval"), eval, name, &names, task);
        }
        if let (None, Some(system)) = (&task.system, system)
            && let Some(source) = self.texts.source(system)
        {
            self.template(&key_path!["defaults", "system"], system, &source, name, &names, task, false);
        }
        let mut with_answer = names.clone();
        if task.prompt.is_some() || task.human.is_some() {
            with_answer.insert("answer".to_owned());
        }
        for (index, output) in task.outputs.iter().enumerate() {
            let Some(text) = output.template().filter(|_| prompt || task.template.is_some()) else {
                continue;
            };
            let at = at.then("outputs").then(index).then("template");
            if let Some(source) = self.source(&at, text) {
                self.template(&at, text, &source, name, &with_answer, task, false);
            }
        }
        if let Some(when) = &task.when {
            let at = at.then("when");
            let source = Source::new(at.to_string(), when.as_str());
            self.template(&at, when, &source, name, &names, task, true);
        }
        if let Some(gate) = &task.gate {
            let fail_if = Some(&gate.fail_if).filter(|text| !text.trim().is_empty());
            for (key, text, condition) in [
                ("fail_if", fail_if, true),
                ("warn_if", gate.warn_if.as_ref(), true),
                ("message", gate.message.as_ref(), false),
            ] {
                let Some(text) = text else { continue };
                let at = at.then("gate").then(key);
                let source = Source::new(at.to_string(), text.as_str());
                self.template(&at, text, &source, name, &names, task, condition);
            }
        }
        if let Some(schema) = task.schema.as_ref().filter(|_| prompt) {
            self.schema(&at.then("schema"), schema);
        }
        if let Some(check) = task.check.as_ref().filter(|_| prompt || task.human.is_some()) {
            self.check(check, name, &names, &with_answer, task);
        }
    }

    /// What an evaluator is asked.
    fn eval(&mut self, at: &TablePath, eval: &Eval, name: &str, names: &BTreeSet<String>, task: &Task) {
        let mut names = names.clone();
        names.extend(["outputs", "answer", "round", "error"].map(str::to_owned));
        for (key, text) in [("system", &eval.system), ("prompt", &eval.prompt)] {
            let Some(text) = text else { continue };
            let at = at.then(key);
            if let Some(source) = self.source(&at, text) {
                self.template(&at, text, &source, name, &names, task, false);
            }
        }
    }

    /// The text of a `prompt`, `system` or `template`.
    fn source(&mut self, at: &TablePath, written: &str) -> Option<Source> {
        if written.trim().is_empty() {
            self.faults.push(
                Diagnostic::at(at, format!("`{at}` is empty")).wanted("wanted a text, or the path of a file"),
            );
            return None;
        }
        if is_inline(written) {
            if !written.contains(['\n', '{']) && self.manifest.folder.join(written.trim()).is_file() {
                self.faults.push(
                    Diagnostic::at(
                        at,
                        format!("the path `{written}` has a space in it, so it would be taken for text"),
                    )
                    .wanted("wanted a path without white space, or a text")
                    .hint("rename the file"),
                );
                return None;
            }
            let source = Source::new(at.to_string(), written).trimmed(self.texts.trim);
            return Some(self.texts.inline.entry(written.to_owned()).or_insert(source).clone());
        }
        let what = match at.0.last() {
            Some(Step::Key(key)) if key.as_ref() == "template" => "template",
            Some(Step::Key(key)) if key.as_ref() == "system" => "system prompt",
            _ => "prompt",
        };
        let text = self.resolve(at, written, what)?.text.clone();
        if text.trim().is_empty() {
            self.faults.push(
                Diagnostic::at(at, format!("the {what} file `{written}` is empty")).wanted("an empty file"),
            );
            return None;
        }
        Some(Source::new(written, text).trimmed(self.texts.trim))
    }
}
