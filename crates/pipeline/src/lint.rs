//! What is no fault in a pipeline and still most likely a mistake: an input that no prompt or template
//! mentions, a field of an answer that no instruction explains, an answer of any text under a name for JSON, a
//! variable that nothing uses.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::key_path;
use crate::manifest::diagnostic::{At, Diagnostic};
use crate::manifest::inputs::named;
use crate::manifest::types::{Output, Task};
use crate::manifest::{Manifest, TablePath};
use crate::template::{self as render, Source};
use crate::texts::{Texts, place_in_json};

/// Everything worth a warning, in the order of the pipeline.
pub fn lint(manifest: &Manifest, texts: &Texts) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, task) in &manifest.tables.task {
        let linter = TaskLinter { manifest, texts, name, task, at: TablePath::task(name) };
        linter.unused_inputs(&mut found);
        linter.unexplained_fields(&mut found);
        linter.text_named_json(&mut found);
    }
    unused_vars(manifest, texts, &mut found);
    found.into_iter().map(Diagnostic::warning).collect()
}

struct TaskLinter<'a> {
    manifest: &'a Manifest,
    texts: &'a Texts,
    name: &'a str,
    task: &'a Task,
    at: TablePath,
}

impl TaskLinter<'_> {
    /// The names that anything of the task uses.
    fn used(&self) -> BTreeSet<String> {
        let task = self.task;
        let defaults = &self.manifest.tables.defaults;
        let mut used = BTreeSet::new();
        let system = task.system.as_ref().or(defaults.system.as_ref()).filter(|_| task.prompt.is_some());
        let outputs = task.outputs.iter().filter_map(Output::template);
        let eval = task.eval.iter().flat_map(|eval| [eval.prompt.as_ref(), eval.system.as_ref()]);
        let texts = [task.prompt.as_ref(), task.template.as_ref(), system].into_iter().chain(eval).flatten();
        for written in texts.map(String::as_str).chain(outputs) {
            let names = self.texts.source(written).and_then(|source| render::undeclared(&source).ok());
            used.extend(names.unwrap_or_default());
        }
        let gate = task.gate.as_ref();
        let of_gate = [gate.map(|gate| &gate.fail_if), gate.and_then(|gate| gate.warn_if.as_ref())];
        for condition in [task.when.as_ref()].into_iter().chain(of_gate).flatten() {
            used.extend(render::undeclared_in_condition(&inline(condition)).unwrap_or_default());
        }
        if let Some(message) = gate.and_then(|gate| gate.message.as_ref()) {
            used.extend(render::undeclared(&inline(message)).unwrap_or_default());
        }
        if let Some(check) = self.texts.check(self.name) {
            used.extend(check.names());
        }
        used
    }

    /// Inputs that cost a wait and a new build when they change, and are not looked at.
    fn unused_inputs(&self, found: &mut Vec<Diagnostic>) {
        let task = self.task;
        // Who reads the files itself, or only gathers them, need not name them.
        if task.prompt.is_none() && task.template.is_none() && task.gate.is_none() {
            return;
        }
        let used = self.used();
        if used.iter().any(|name| name == "inputs" || name.starts_with("inputs.")) {
            return;
        }
        for input in named(&task.inputs, &self.at) {
            if !crate::project::uses(&used, &input.name) {
                let what = if task.prompt.is_some() { "prompt" } else { "template" };
                found.push(
                    Diagnostic::at(input.key_path, format!("task `{}` never uses its input `{}`", self.name, input.name))
                        .wanted(format!("not in its {what}"))
                        .hint(format!("use it as `{{{{ {} }}}}`, or remove it: as it is, a change of `{}` only makes the task wait", input.name, input.pattern)),
                );
            }
        }
    }

    /// An answer that may be any text, in a file that its readers parse: they would fail on it.
    fn text_named_json(&self, found: &mut Vec<Diagnostic>) {
        let Some(path) = self.task.outputs.first().map(Output::path) else { return };
        if self.task.prompt.is_some() && self.task.schema.is_none() && path.ends_with(".json") {
            found.push(
                Diagnostic::at(
                    self.at.then("outputs").then(0),
                    format!("the answer of `{}` may be any text", self.name),
                )
                .wanted("a name for JSON")
                .hint(
                    "give the task a `schema`, so that JSON is asked for; or name the output `.md` or `.txt`",
                ),
            );
        }
    }

    /// Required fields of the schema that neither prompt nor system prompt names.
    fn unexplained_fields(&self, found: &mut Vec<Diagnostic>) {
        let (Some(prompt), Some(written)) = (&self.task.prompt, &self.task.schema) else { return };
        let (Some(schema), Some(file)) = (self.texts.schema(written), self.texts.file(written)) else {
            return;
        };
        let system = self.task.system.as_ref().or(self.manifest.tables.defaults.system.as_ref());
        let mut said = String::new();
        for source in [Some(prompt), system].into_iter().flatten().filter_map(|text| self.texts.source(text))
        {
            said.push_str(&plain(&source.text));
            said.push('\n');
        }
        let said: Vec<String> = words(&said);
        let mut fields = Vec::new();
        required(&schema.value, &schema.value, "", 0, &mut fields);
        let mut told = BTreeSet::new();
        for (pointer, field) in fields {
            if is_named(&said, &field) || !told.insert(field.clone()) {
                continue;
            }
            let span = place_in_json(&file.text, &pointer);
            let at = At::Text { file: file.path.clone(), text: Arc::clone(&file.text), span };
            found.push(
                Diagnostic::at(
                    at,
                    format!("the prompt of task `{}` does not say what `{field}` is to hold", self.name),
                )
                .wanted("a required field")
                .related(self.at.then("prompt"), "not named here")
                .hint(format!(
                    "write `- {field}: …` into the prompt; not every server shows the schema to the model"
                )),
            );
        }
    }
}

/// Variables that no text and no key mentions.
fn unused_vars(manifest: &Manifest, texts: &Texts, found: &mut Vec<Diagnostic>) {
    let written = manifest.sources().map(|source| &*source.text);
    // All that is mentioned, once: there may be as many variables as lines.
    let mut mentioned: BTreeSet<&str> = BTreeSet::new();
    for text in written.chain(texts.files().map(|file| &*file.text)) {
        for (at, before) in text.match_indices("vars.") {
            let rest = &text[at + before.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            mentioned.insert(&rest[..end]);
        }
    }
    for name in manifest.tables.vars.keys().filter(|name| !mentioned.contains(name.as_str())) {
        let fault = Diagnostic::at(key_path!["vars", name], format!("nothing uses the variable `{name}`"));
        found.push(fault.on_key().wanted(format!("`{{{{ vars.{name} }}}}` is nowhere")));
    }
}

fn inline(text: &str) -> Source {
    Source::new("a condition", text)
}

/// A template's own words: without tags, comments and marks such as `<plan>`.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find(['{', '<']) {
        out.push_str(&rest[..open]);
        let inside = &rest[open..];
        let close = match inside.as_bytes().get(1) {
            Some(b'{') if inside.starts_with('{') => "}}",
            Some(b'%') if inside.starts_with('{') => "%}",
            Some(b'#') if inside.starts_with('{') => "#}",
            _ if inside.starts_with('<') => ">",
            _ => "{",
        };
        let end = inside.find(close).map_or(inside.len(), |at| at + close.len());
        out.push(' ');
        rest = &inside[end.max(1)..];
    }
    out.push_str(rest);
    out
}

/// The words of a text, in lower case; `_` is part of a word.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Whether a field is named: as it is written, or as words (`core_tension`, "core tension"), in the
/// singular or the plural.
fn is_named(said: &[String], field: &str) -> bool {
    let field = field.to_lowercase();
    let same = |a: &str, b: &str| a == b || a.strip_suffix('s') == Some(b) || b.strip_suffix('s') == Some(a);
    if said.iter().any(|word| same(word, &field)) {
        return true;
    }
    let parts: Vec<&str> = field.split(['_', '-']).filter(|part| !part.is_empty()).collect();
    parts.len() > 1
        && said.windows(parts.len()).any(|window| window.iter().zip(&parts).all(|(a, b)| same(a, b)))
}

/// Most levels of a schema that are looked at.
const DEEPEST: usize = 32;

/// Pointer and name of every required member of a schema that is not a constant.
fn required(root: &Value, schema: &Value, pointer: &str, depth: usize, found: &mut Vec<(String, String)>) {
    if depth > DEEPEST {
        return;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
        if let Some(value) = root.pointer(target) {
            required(root, value, target, depth + 1, found);
        }
        return;
    }
    let wanted: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let here = format!("{pointer}/properties/{}", crate::items::escape(name));
        if wanted.contains(&name.as_str()) && property.get("const").is_none() {
            found.push((here.clone(), name.clone()));
        }
        required(root, property, &here, depth + 1, found);
    }
    if let Some(items) = schema.get("items") {
        required(root, items, &format!("{pointer}/items"), depth + 1, found);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for (n, branch) in schema.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            required(root, branch, &format!("{pointer}/{key}/{n}"), depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn own_words_of_a_template() {
        assert_eq!(
            plain("a {{ b }}{% if c %} d {# e #} <f>g</f> {h}").split_whitespace().collect::<Vec<_>>(),
            ["a", "d", "g", "h}"]
        );
        assert_eq!(plain("{{ never closed"), " ");
    }

    #[test]
    fn fields_are_named_in_many_ways() {
        let said = words("- core tension: one sentence.\n- days_min, Levers and `blind_spot`");
        for (field, named) in [
            ("core_tension", true),
            ("days_min", true),
            ("lever", true),
            ("levers", true),
            ("blind_spot", true),
            ("tension", true),
            ("core", true),
            ("days", false),
            ("spot", false),
            ("summary", false),
            ("tension_core", false),
        ] {
            assert_eq!(is_named(&said, field), named, "{field}");
        }
    }

    #[test]
    fn required_fields_at_every_depth() {
        let schema = json!({
            "properties": {
                "a": {"type": "string"}, "fixed": {"const": 1}, "loose": {"type": "string"},
                "list": {"items": {"$ref": "#/$defs/item"}},
                "either": {"anyOf": [{"type": "null"}, {"properties": {"deep": {}}, "required": ["deep"]}]},
            },
            "required": ["a", "fixed", "list", "either"],
            "$defs": {"item": {"properties": {"n": {}, "again": {"$ref": "#/$defs/item"}}, "required": ["n"]}},
        });
        let mut found = Vec::new();
        required(&schema, &schema, "", 0, &mut found);
        let names: BTreeSet<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "deep", "either", "list", "n"]);
        assert!(found.contains(&("/$defs/item/properties/n".to_owned(), "n".to_owned())));
    }
}
