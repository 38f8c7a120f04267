//! What an answer must hold: texts and lists of words of a `check`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Loader;
use crate::check::{CompiledCheck, WordLists};
use crate::manifest::diagnostic::{Diagnostic, suggest, worth_a_search};
use crate::manifest::inputs::named;
use crate::manifest::types::{Check, Task};
use crate::manifest::{TablePath, paths};
use crate::template::{Source, WORDS};
use crate::text as words;

impl Loader<'_> {
    /// What an answer must hold: its texts, and the check in the form it is applied in.
    pub(super) fn check(
        &mut self,
        check: &Check,
        name: &str,
        names: &BTreeSet<String>,
        with_answer: &BTreeSet<String>,
        task: &Task,
    ) {
        let at = TablePath::task(name).then("check");
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
                    let mut fault = Diagnostic::at(at, error.message).maybe_hint(error.hint);
                    fault.on_key = error.key.1.is_some() && error.key.0 != "matches";
                    self.faults.push(fault);
                }
            }
        }
    }

    /// The words its files list.
    fn words(&mut self, at: &TablePath, check: &Check) -> WordLists {
        let mut lists = WordLists::default();
        for (key, index, written) in check.word_files() {
            let at = index.map_or(at.then(key), |index| at.then(key).then(index));
            let path = match paths::substitute_vars(written, &self.manifest.tables.vars) {
                Ok(path) => path,
                Err(fault) => {
                    let found = Diagnostic::at(&at, fault.message);
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
            // Each becomes a pattern of its own, and is looked for in every answer.
            let count = list.len();
            if count > WORDS {
                list.clear();
                let message = format!("`{path}` makes it {count} words, at most {WORDS} can be looked for");
                self.faults.push(Diagnostic::at(&at, message).wanted("too many words"));
            }
        }
        lists
    }

    /// The input that `check.refs` takes ids from must be one of the task, and JSON.
    fn ref_source(
        &mut self,
        at: &TablePath,
        source: &str,
        name: &str,
        names: &BTreeSet<String>,
        task: &Task,
    ) {
        let Some((input, _)) = source.split_once(':').filter(|(input, _)| !input.contains('/')) else {
            return;
        };
        if input == "item" && names.contains(input) {
            return;
        }
        let inputs = named(&task.inputs, &TablePath::task(name));
        let Some(found) = inputs.iter().find(|one| one.name == input) else {
            let known: Vec<&str> = inputs.iter().map(|one| one.name.as_str()).collect();
            let mut fault =
                Diagnostic::at(at, format!("task `{name}` has no input `{input}`")).wanted("no such input");
            fault.hint = match names.contains(input) {
                true => Some("ids come from an input, or from the answer: \"/list/*/id\"".to_owned()),
                false if worth_a_search(self.faults.len(), known.len()) => suggest(input, known),
                false => None,
            };
            self.faults.push(fault);
            return;
        };
        if !found.pattern.ends_with(".json") || paths::is_glob(&found.pattern) {
            let message = format!("input `{input}` is `{}`, and ids come from one JSON file", found.pattern);
            self.faults.push(Diagnostic::at(at, message).wanted("wanted an input that ends in `.json`"));
        }
    }
}
