//! The texts a manifest names (prompts, templates, schemas, lists of words): read once, compiled,
//! and checked against what each task has to fill them with.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::{CompiledCheck, CompiledSchema, WordLists};
use crate::cores;
use crate::key_path;
use crate::manifest::fault::{At, Fault, list_of, shown_path, suggest};
use crate::manifest::inputs::{NamedInput, named};
use crate::manifest::types::{Api, Check, Eval, Task};
use crate::manifest::{KeyPath, Manifest, Step, near_file, nearest, paths};
use crate::render::{self, RenderError, Source};
use crate::words;

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
    pub fn load(manifest: &Manifest, allow_outside: &[PathBuf]) -> (Texts, Vec<Fault>) {
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
    faults: Vec<Fault>,
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
                if let Err(mut fault) = self.locate(&at, file, "file of answers") {
                    if fault.message.starts_with("there is no") {
                        fault.hint = Some(format!("`planexe record {file}` writes one from a finished run"));
                    }
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
        let at = KeyPath::task(name);
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
            let here = at.then("gate").then("fail_if");
            if !gate.fail_if.trim().is_empty() {
                let source = Source::new(here.to_string(), gate.fail_if.as_str());
                self.template(&here, &gate.fail_if, &source, name, &names, task, true);
            }
            if let Some(warn_if) = &gate.warn_if {
                let here = at.then("gate").then("warn_if");
                let source = Source::new(here.to_string(), warn_if.as_str());
                self.template(&here, warn_if, &source, name, &names, task, true);
            }
            if let Some(message) = &gate.message {
                let here = at.then("gate").then("message");
                let source = Source::new(here.to_string(), message.as_str());
                self.template(&here, message, &source, name, &names, task, false);
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
    fn eval(&mut self, at: &KeyPath, eval: &Eval, name: &str, names: &BTreeSet<String>, task: &Task) {
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

    /// What an answer must hold: its texts, and the check in the form it is applied in.
    fn check(
        &mut self,
        check: &Check,
        name: &str,
        names: &BTreeSet<String>,
        with_answer: &BTreeSet<String>,
        task: &Task,
    ) {
        let at = KeyPath::task(name).then("check");
        let words = self.words(&at, check);
        for (pointer, source) in &check.refs {
            self.ref_source(&at.then("refs").then(pointer), source, name, names, task);
        }
        for (index, rule) in check.require.iter().enumerate() {
            let at = at.then("require").then(index);
            let that = rule.that.as_ref().map(|that| ("that", that, true));
            for (key, text, condition) in that.into_iter().chain([("message", &rule.message, false)]) {
                let at = at.then(key);
                let source = Source::new(at.to_string(), text.as_str());
                self.template(&at, text, &source, name, with_answer, task, condition);
            }
        }
        match CompiledCheck::compile(check, &words) {
            Ok(compiled) => {
                self.texts.checks.insert(name.to_owned(), Arc::new(compiled));
            }
            Err(errors) => {
                for error in errors {
                    let mut at = at.then(error.key.0);
                    if let Some(pointer) = &error.key.1 {
                        at = at.then(pointer);
                    }
                    if let Some(index) = error.index {
                        at = at.then(index);
                    }
                    let mut fault = Fault::at(at, error.message).maybe_hint(error.hint);
                    fault.on_key = error.key.1.is_some() && error.key.0 != "matches";
                    self.faults.push(fault);
                }
            }
        }
    }

    /// The words its files list.
    fn words(&mut self, at: &KeyPath, check: &Check) -> WordLists {
        let mut lists = WordLists::default();
        for (key, index, written) in check.word_files() {
            let at = index.map_or(at.then(key), |index| at.then(key).then(index));
            let path = match paths::substitute_vars(written, &self.manifest.tables.vars) {
                Ok(path) => path,
                Err(fault) => {
                    let found = Fault::at(&at, fault.message);
                    self.faults.push(match fault.wanted {
                        Some(wanted) => found.wanted(wanted),
                        None => found,
                    });
                    continue;
                }
            };
            let Some(file) = self.resolve(&at, &path, "list of words") else { continue };
            let list = if key == "banned_words" { &mut lists.banned } else { &mut lists.allowed };
            list.extend(words::listed(&file.text));
        }
        lists
    }

    /// The input that `check.refs` takes ids from must be one of the task, and JSON.
    fn ref_source(&mut self, at: &KeyPath, source: &str, name: &str, names: &BTreeSet<String>, task: &Task) {
        let Some((input, _)) = source.split_once(':').filter(|(input, _)| !input.contains('/')) else {
            return;
        };
        if input == "item" && names.contains(input) {
            return;
        }
        let inputs = named(&task.inputs, &KeyPath::task(name));
        let Some(found) = inputs.iter().find(|one| one.name == input) else {
            let known: Vec<&str> = inputs.iter().map(|one| one.name.as_str()).collect();
            let mut fault =
                Fault::at(at, format!("task `{name}` has no input `{input}`")).wanted("no such input");
            fault.hint = match names.contains(input) {
                true => Some("ids come from an input, or from the answer: \"/list/*/id\"".to_owned()),
                false => suggest(input, known),
            };
            self.faults.push(fault);
            return;
        };
        if !found.pattern.ends_with(".json") || paths::is_glob(&found.pattern) {
            let message = format!("input `{input}` is `{}`, and ids come from one JSON file", found.pattern);
            self.faults.push(Fault::at(at, message).wanted("wanted an input that ends in `.json`"));
        }
    }

    /// What means something in every template would be that, and not the input.
    fn names_of_inputs(&mut self, at: &KeyPath, task: &Task) {
        for NamedInput { name, pattern, key_path } in named(&task.inputs, at) {
            if render::means_something(&name) {
                let message = format!("an input named `{name}`, which means something else in templates");
                let better = format!("inputs = {{ my_{} = \"{pattern}\" }}", name.to_lowercase());
                let fault = Fault::at(key_path, message).wanted(format!("`{name}` is taken"));
                self.faults.push(fault.hint(format!("give it a name of its own: `{better}`")));
            }
        }
    }

    /// The names a task's templates may use.
    fn names(&self, name: &str, task: &Task) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            named(&task.inputs, &KeyPath::task(name)).into_iter().map(|input| input.name).collect();
        names.extend(["inputs", "vars", "task"].map(str::to_owned));
        if task.foreach.is_some() {
            names.extend(["item", "key", "index"].map(str::to_owned));
            if task.sequential {
                names.insert("previous".to_owned());
            }
        }
        names
    }

    /// The text of a `prompt`, `system` or `template`.
    fn source(&mut self, at: &KeyPath, written: &str) -> Option<Source> {
        if written.trim().is_empty() {
            self.faults.push(
                Fault::at(at, format!("`{at}` is empty")).wanted("wanted a text, or the path of a file"),
            );
            return None;
        }
        if is_inline(written) {
            if !written.contains(['\n', '{']) && self.manifest.folder.join(written.trim()).is_file() {
                self.faults.push(
                    Fault::at(
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
            self.faults
                .push(Fault::at(at, format!("the {what} file `{written}` is empty")).wanted("an empty file"));
            return None;
        }
        Some(Source::new(written, text).trimmed(self.texts.trim))
    }

    /// Reads a file the manifest names, once.
    fn resolve(&mut self, at: &KeyPath, written: &str, what: &str) -> Option<&TextFile> {
        if self.missing.contains(written) {
            // Told once, at the first place; others are shown there too.
            let again = self.faults.iter_mut().find(|fault| fault.message.contains(&format!("`{written}`")));
            if let Some(fault) = again
                && fault.related.len() < 3
                && fault.path() != Some(at)
            {
                fault.related.push((At::Path(at.clone()), "also named here".to_owned()));
            }
            return None;
        }
        if !self.texts.files.contains_key(written) {
            match self.read(at, written, what) {
                Ok(file) => {
                    self.texts.files.insert(written.to_owned(), file);
                }
                Err(fault) => {
                    self.missing.insert(written.to_owned());
                    self.faults.push(*fault);
                    return None;
                }
            }
        }
        self.texts.files.get(written)
    }

    /// Where a file the manifest names lies, and, links followed, really lies.
    fn locate(&self, at: &KeyPath, written: &str, what: &str) -> Result<(PathBuf, PathBuf), Box<Fault>> {
        if written.trim().is_empty() {
            return Err(Box::new(
                Fault::at(at, format!("`{at}` is empty")).wanted(format!("wanted the path of a {what}")),
            ));
        }
        if written.contains('\0') {
            return Err(Box::new(
                Fault::at(at, format!("`{at}` holds a NUL character")).wanted("wanted a path"),
            ));
        }
        let path = self.manifest.folder.join(written);
        let real = path.canonicalize();
        if let Err(error) = &real
            && error.kind() == ErrorKind::PermissionDenied
        {
            return Err(Box::new(
                Fault::at(at, format!("`{written}` cannot be read: permission denied"))
                    .wanted(format!("wanted a {what}"))
                    .hint("the file and the folders it lies in must let you read them"),
            ));
        }
        let Ok(real) = real else {
            let near = near_file(&path)
                .map(|near| Path::new(written).with_file_name(near).display().to_string())
                .or_else(|| self.elsewhere(written));
            let fault = Fault::at(at, format!("there is no {what} `{written}`")).wanted("no such file");
            return Err(Box::new(fault.hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if what == "prompt" || what == "template" || what == "system prompt" => format!(
                    "paths are relative to `{}`; a text with a space or `{{{{` in it would be taken as it is",
                    shown_path(&self.manifest.folder)
                ),
                None => format!("paths are relative to `{}`", shown_path(&self.manifest.folder)),
            })));
        };
        if !self.allowed.iter().any(|folder| real.starts_with(folder)) {
            let link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
            let leads = if link { format!(", a link to `{}`,", shown_path(&real)) } else { String::new() };
            return Err(Box::new(
                Fault::at(at, format!("`{written}`{leads} is outside the pipeline's folder"))
                    .wanted(format!("wanted a file in `{}`", shown_path(&self.manifest.folder)))
                    .hint(format!(
                        "copy it here, or allow its folder: `--allow-outside {}`",
                        real.parent().map(shown_path).unwrap_or_default()
                    )),
            ));
        }
        match fs::metadata(&real) {
            Ok(meta) if meta.is_file() => Ok((path, real)),
            Ok(meta) => {
                let kind = if meta.is_dir() { "a folder" } else { "not a regular file" };
                Err(Box::new(
                    Fault::at(at, format!("`{written}` is {kind}")).wanted(format!("wanted a {what}")),
                ))
            }
            Err(error) => Err(Box::new(Fault::at(at, format!("`{written}` cannot be read: {error}")))),
        }
    }

    fn read(&self, at: &KeyPath, written: &str, what: &str) -> Result<TextFile, Box<Fault>> {
        let (path, real) = self.locate(at, written, what)?;
        let unreadable =
            |error: std::io::Error| Fault::at(at, format!("`{written}` cannot be read: {error}"));
        let mut bytes = Vec::new();
        fs::File::open(&real)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Box::new(Fault::at(at, format!("`{written}` is larger than {} MiB", LARGEST >> 20))));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Fault::at(at, format!("`{written}` is not UTF-8 (line {line})"))
                .wanted("wanted a text file in UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Ok(TextFile { written: written.to_owned(), path, text: Arc::from(text) })
    }

    /// A file of the same name elsewhere in the pipeline's folder, two levels down at most.
    fn elsewhere(&self, written: &str) -> Option<String> {
        let name = Path::new(written).file_name()?;
        let folder = &self.manifest.folder;
        if folder.join(name).is_file() {
            return Some(name.to_string_lossy().into_owned());
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && !entry.file_name().to_string_lossy().starts_with('.')
            {
                folders.push(entry.path());
            }
        }
        folders.sort();
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())?;
        Some(found.strip_prefix(folder).unwrap_or(&found).to_string_lossy().into_owned())
    }

    fn schema(&mut self, at: &KeyPath, written: &str) {
        if self.texts.schemas.contains_key(written) {
            return;
        }
        if written.trim_start().starts_with('{') {
            self.faults.push(
                Fault::at(at, "a schema is the path of a file".to_owned())
                    .wanted("wanted a path")
                    .hint("write it to a file, say `schemas/answer.json`, and name that"),
            );
            return;
        }
        let Some(file) = self.resolve(at, written, "schema") else { return };
        let (text, path) = (file.text.clone(), file.path.clone());
        match serde_json::from_str(&text) {
            Err(error) => {
                let start = offset(&text, error.line(), error.column());
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or(&message);
                let mut end = start + 1;
                while end < text.len() && !text.is_char_boundary(end) {
                    end += 1;
                }
                self.faults.push(
                    Fault::at(
                        At::Text { file: path, text: text.clone(), span: start..end.min(text.len()) },
                        format!("the schema is not valid JSON: {message}"),
                    )
                    .wanted("here")
                    .related(at, "named here"),
                );
                self.missing.insert(written.to_owned());
            }
            Ok(value) => match CompiledSchema::compile(value) {
                Ok(schema) => {
                    self.texts.schemas.insert(written.to_owned(), Arc::new(schema));
                }
                Err(error) => {
                    let span = place_in_json(&text, &error.pointer);
                    let pointer = if error.pointer.is_empty() {
                        String::new()
                    } else {
                        format!(" at `{}`", error.pointer)
                    };
                    self.faults.push(
                        Fault::at(
                            At::Text { file: path, text: text.clone(), span },
                            format!("the schema cannot be used{pointer}: {}", error.message),
                        )
                        .related(at, "named here"),
                    );
                    self.missing.insert(written.to_owned());
                }
            },
        }
    }

    /// Checks that a template can be parsed and uses only names it is given.
    #[expect(clippy::too_many_arguments, reason = "one call per kind of template, all in one place")]
    fn template(
        &mut self,
        at: &KeyPath,
        written: &str,
        source: &Source,
        task_name: &str,
        names: &BTreeSet<String>,
        task: &Task,
        condition: bool,
    ) {
        if condition && let Err(error) = render::condition(source) {
            self.faults.push(self.render_fault(at, written, source, &error));
            return;
        }
        // One text may be the template of many tasks.
        if !self.texts.names.contains_key(&source.text) {
            match render::undeclared(source) {
                Ok(used) => self.texts.names.insert(source.text.clone(), used),
                Err(error) => {
                    self.faults.push(self.render_fault(at, written, source, &error));
                    return;
                }
            };
        }
        let used = &self.texts.names[&source.text];
        let vars = &self.manifest.tables.vars;
        let here = KeyPath::task(task_name);
        let unsure =
            ["inputs", "foreach", "sequential"].iter().any(|key| self.manifest.is_damaged(&here.then(*key)));
        let vars_unsure = self.manifest.is_damaged(&key_path!["vars"]);
        for name in used {
            let root = name.split('.').next().unwrap_or(name);
            if root == "vars" {
                let Some(var) = name.split('.').nth(1) else { continue };
                if !vars.contains_key(var) && !vars_unsure {
                    let short = format!("vars.{var}");
                    let hint = suggest(var, vars.keys().map(String::as_str))
                        .unwrap_or_else(|| format!("add `{var} = \"…\"` to `[vars]`"));
                    let fault = self
                        .placed(
                            at,
                            written,
                            source,
                            &short,
                            format!("no `{var}` in `[vars]`, used by task `{task_name}`"),
                        )
                        .wanted("no such variable")
                        .hint(hint);
                    self.faults.push(fault);
                }
                continue;
            }
            if names.contains(root) || unsure {
                continue;
            }
            let hint = match root {
                "item" | "key" | "index" if task.foreach.is_none() => {
                    format!("`{root}` is there only in a task with `foreach`")
                }
                "previous" => "`previous` is there only with `foreach` and `sequential = true`".to_owned(),
                "answer" => {
                    "`answer` is there only in the templates of a prompt task's further outputs".to_owned()
                }
                _ if vars.contains_key(root) => format!("did you mean `vars.{root}`?"),
                _ => match nearest(root, names.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "add an input of that name: `inputs = {{ {root} = \"…\" }}`; names here are {}",
                        list_of(names.iter().map(String::as_str)).unwrap_or_default()
                    ),
                },
            };
            let fault = self
                .placed(
                    at,
                    written,
                    source,
                    root,
                    format!("no input of task `{task_name}` is named `{root}`"),
                )
                .wanted("no such name")
                .hint(hint);
            self.faults.push(fault);
        }
    }

    /// A fault at a name in a template, in its file or in the manifest.
    fn placed(&self, at: &KeyPath, written: &str, source: &Source, name: &str, message: String) -> Fault {
        let span = render::find_name(&source.text, name);
        self.spanned(at, written, source, span, message)
    }

    fn spanned(
        &self,
        at: &KeyPath,
        written: &str,
        source: &Source,
        span: Option<std::ops::Range<usize>>,
        message: String,
    ) -> Fault {
        match self.texts.files.get(written) {
            Some(file) => Fault::at(
                At::Text { file: file.path.clone(), text: source.text.clone(), span: span.unwrap_or(0..0) },
                message,
            )
            .related(at, "used here"),
            None => match span.and_then(|span| self.manifest.place_within(at, written, &span)) {
                Some(place) => Fault::at(place, message),
                None => Fault::at(at, message),
            },
        }
    }

    fn render_fault(&self, at: &KeyPath, written: &str, source: &Source, error: &RenderError) -> Fault {
        let span = error.span.clone().or_else(|| {
            let line = error.line?;
            let start = offset(&source.text, line, 1);
            let length = source.text[start..].lines().next().map_or(0, str::len);
            Some(start..start + length)
        });
        self.spanned(at, written, source, span, error.message.clone()).maybe_hint(error.hint.clone())
    }
}

/// The byte at a line and column (from 1, in bytes) of a text.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => break,
        }
    }
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// About where a JSON pointer leads in a text: each step's key is looked for after the former.
pub(crate) fn place_in_json(text: &str, pointer: &str) -> std::ops::Range<usize> {
    let mut at = 0;
    let mut span = 0..0;
    for step in pointer.split('/').skip(1) {
        let quoted = format!("{:?}", step.replace("~1", "/").replace("~0", "~"));
        if let Some(found) = text[at..].find(&quoted) {
            span = at + found..at + found + quoted.len();
            at = span.end;
        }
    }
    span
}
