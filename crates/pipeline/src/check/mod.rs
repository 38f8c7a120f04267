//! Whether an answer is what was asked for: JSON, its schema, and the checks of `[task.X.check]`.
//! What is wrong is listed with where and what was wanted, for people and for asking again.

mod hollow;
mod inputs;
mod json;
mod measure;
mod ranges_texts;
mod rules;
mod schema;

pub use json::{NoJson, after_thinking, extract_json, pretty, read as read_json};
pub use rules::{CompiledCheck, RuleError, WordLists};
pub use schema::{CompiledSchema, SchemaError};

use std::io;
use std::time::Duration;

use schema::SchemaRules;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use planexe_base::time_boxed::{self as apart, Left};

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViolationKind {
    /// A field that must be there is not.
    Missing,
    /// A value is not what the schema allows, or the answer is no JSON.
    Invalid,
    /// A check is not satisfied.
    Check,
}

/// One thing wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// JSON pointer of it; empty for the answer as a whole.
    pub path: String,
    /// What kind of thing.
    pub kind: ViolationKind,
    /// What was wanted.
    pub message: String,
    /// What was found, shortened.
    pub found: Option<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.found {
            Some(found) => write!(f, " (found {found})"),
            None => Ok(()),
        }
    }
}

/// The names of the fields that JSON pointers lead to, each once: of an element of a list, or of what is in it, the name
/// of the field it is in. The answer as a whole has none.
pub fn field_names(pointers: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for pointer in pointers {
        let is_index = |step: &&str| !step.bytes().all(|byte| byte.is_ascii_digit());
        let Some(name) = pointer.split('/').skip(1).filter(is_index).last() else { continue };
        let name = name.replace("~1", "/").replace("~0", "~");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Violation {
    fn new(path: impl Into<String>, kind: ViolationKind, message: impl Into<String>) -> Violation {
        Violation { path: path.into(), kind, message: message.into(), found: None }
    }

    fn found(mut self, value: &Value) -> Violation {
        self.found = Some(shown(value));
        self
    }
}

/// An answer that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Valid {
    /// The parsed value, if JSON was asked for.
    pub value: Option<Value>,
    /// What is written: JSON in two-space indent, or the text, with a final newline.
    pub text: String,
}

/// Most violations listed; a model is not helped by more.
const MOST: usize = 30;

/// Longest piece of a found value that is shown.
const LONGEST_FOUND: usize = 120;

/// Cuts a text for showing.
fn shortened(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST_FOUND).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// A value as JSON, cut for showing: of a large one no more is written than is shown.
fn shown(value: &Value) -> String {
    struct Room(Vec<u8>);
    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(&bytes[..bytes.len().min(8 * LONGEST_FOUND)]);
            match self.0.len() > 8 * LONGEST_FOUND {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut room = Room(Vec::new());
    let _ = serde_json::to_writer(&mut room, value);
    shortened(&String::from_utf8_lossy(&room.0))
}

/// Longest that an answer is held against its schema and checks, and that a schema is made ready. It counts as the
/// time of the task, where that has less left.
pub const CHECK_TIME: Duration = Duration::from_secs(20);

/// An answer of so many bytes is held against checks in no time to speak of.
const SMALL: usize = 16 * 1024;

/// Whether an answer is valid under a schema and checks, as [`validate_within`] tells in [`CHECK_TIME`]. One that
/// cannot be told in time is not. Without a thread it is told here, however long that takes: what was paid for is not
/// given up since there is no memory at the moment.
pub fn validate(
    answer: &str,
    schema: Option<&CompiledSchema>,
    check: Option<&CompiledCheck>,
) -> Result<Valid, Vec<Violation>> {
    validate_within(answer, schema, check, CHECK_TIME, &|| false).unwrap_or_else(|left| {
        let message = match left {
            Left::NoThread => return held_against(answer, schema.map(CompiledSchema::rules).as_ref(), check),
            Left::TimeOver | Left::Unwanted => format!("cannot be checked in {} s", CHECK_TIME.as_secs()),
            Left::Failed => "cannot be checked: the check broke down".to_owned(),
        };
        Err(vec![Violation::new("", ViolationKind::Check, message)])
    })
}

/// Whether an answer is valid under a schema and checks. JSON is wanted if there is a schema, or a check that looks
/// inside the answer. Answers come from models, and nobody knows how long their check takes: it is left when its time is
/// over, or when nobody wants it any more.
pub fn validate_within(
    answer: &str,
    schema: Option<&CompiledSchema>,
    check: Option<&CompiledCheck>,
    time: Duration,
    unwanted: &dyn Fn() -> bool,
) -> Result<Result<Valid, Vec<Violation>>, Left> {
    let unchecked = schema.is_none() && check.is_none();
    let quick = answer.len() <= SMALL && schema.is_none_or(|schema| schema.is_quick(answer.len()));
    let rules = schema.map(CompiledSchema::rules);
    if unchecked || quick && check.is_none_or(CompiledCheck::is_quick) {
        return Ok(held_against(answer, rules.as_ref(), check));
    }
    let (answer, check) = (answer.to_owned(), check.cloned());
    apart::run(time, unwanted, move || held_against(&answer, rules.as_ref(), check.as_ref()))
}

fn held_against(
    answer: &str,
    schema: Option<&SchemaRules>,
    check: Option<&CompiledCheck>,
) -> Result<Valid, Vec<Violation>> {
    let invalid = |message: String| vec![Violation::new("", ViolationKind::Invalid, message)];
    let mut violations = Vec::new();
    let valid = if schema.is_some() || check.is_some_and(CompiledCheck::looks_inside) {
        if answer.trim().is_empty() {
            return Err(invalid("the answer is empty".to_owned()));
        }
        let found = extract_json(answer).map_err(|error| invalid(error.to_string()))?;
        let (value, twice) =
            read_json(found).map_err(|error| invalid(format!("the JSON is not valid: {error}")))?;
        for path in twice {
            violations.push(Violation::new(
                path,
                ViolationKind::Invalid,
                "the key is given twice in one object",
            ));
        }
        if let Some(schema) = schema {
            violations.extend(schema.violations(&value));
        }
        Valid { value: Some(value), text: pretty(found) }
    } else {
        let text = after_thinking(answer)
            .map_err(|_| invalid("the answer ends in the middle of its reasoning".to_owned()))?;
        // A byte order mark is no part of a text.
        let text = text.trim_start_matches(['\u{feff}', '\n', '\r']).trim_end();
        if text.is_empty() {
            return Err(invalid("the answer is empty".to_owned()));
        }
        Valid { value: None, text: format!("{text}\n") }
    };
    if let Some(check) = check {
        violations.extend(check.violations(&valid));
    }
    if violations.is_empty() {
        return Ok(valid);
    }
    violations.truncate(MOST);
    Err(violations)
}

/// What a model is told when it is asked again.
pub fn feedback(violations: &[Violation]) -> String {
    let mut out = String::from("Your last answer was not accepted. What is wrong with it:\n");
    for violation in violations.iter().take(MOST) {
        let place =
            if violation.path.is_empty() { "the answer".to_owned() } else { format!("`{}`", violation.path) };
        out.push_str(&format!("- {place}: {}", violation.message));
        if let Some(found) = &violation.found {
            out.push_str(&format!(" (found {})", shortened(found)));
        }
        out.push('\n');
    }
    out.push_str(
        "Answer again in full, with this put right and everything else kept. Give only the answer itself.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_is_named_once_and_without_its_place() {
        for (pointers, names) in [
            (&["/title"][..], &["title"][..]),
            (&["/options/0/name", "/options/1/name", "/options/2"], &["name", "options"]),
            (&["", "/0", "/a~1b/3/0"], &["a/b"]),
        ] {
            let pointers: Vec<String> = pointers.iter().map(|&pointer| pointer.to_owned()).collect();
            assert_eq!(field_names(&pointers), names, "{pointers:?}");
        }
    }

    fn schema() -> CompiledSchema {
        CompiledSchema::compile(json!({
            "type": "object",
            "properties": {
                "title": { "type": "string", "minLength": 3 },
                "items": { "type": "array", "minItems": 2, "items": { "$ref": "#/$defs/item" } },
                "kind": { "enum": ["a", "b"] },
                "extra": { "anyOf": [{ "type": "null" }, { "type": "object", "required": ["x"] }] }
            },
            "required": ["title", "items"],
            "additionalProperties": false,
            "$defs": { "item": { "type": "object", "properties": { "n": { "type": "integer", "minimum": 1 } }, "required": ["n"] } }
        }))
        .unwrap()
    }

    fn wrong(answer: &str) -> Vec<(String, ViolationKind)> {
        validate(answer, Some(&schema()), None).unwrap_err().into_iter().map(|v| (v.path, v.kind)).collect()
    }

    #[test]
    fn good_answers_are_kept_as_they_are() {
        let valid = validate(
            "Sure!\n```json\n{\"items\":[{\"n\":1},{\"n\":2.0}],\"title\":\"abc\"}\n```",
            Some(&schema()),
            None,
        )
        .unwrap();
        assert_eq!(
            valid.text,
            "{\n  \"items\": [\n    {\n      \"n\": 1\n    },\n    {\n      \"n\": 2.0\n    }\n  ],\n  \"title\": \"abc\"\n}\n"
        );
        let text = validate("<think>hm</think>\n\n  indented\nline\n\n", None, None).unwrap();
        assert_eq!(text.text, "  indented\nline\n");
    }

    #[test]
    fn what_is_wrong_is_placed() {
        use ViolationKind::{Invalid, Missing};
        let at = |path: &str, kind| (path.to_owned(), kind);
        assert_eq!(wrong(r#"{"title": "abc"}"#), [at("/items", Missing)]);
        assert_eq!(wrong(r#"{"title": "a", "items": [{"n": 1}, {"n": 0}], "kind": "c"}"#).len(), 3);
        assert_eq!(wrong(r#"{"title": "abc", "items": [{"n": 1}, {}]}"#), [at("/items/1/n", Missing)]);
        assert_eq!(
            wrong(r#"{"title": "abc", "items": [{"n": 1}, {"n": 2}], "more": 1}"#),
            [at("/more", Invalid)]
        );
        assert_eq!(
            wrong(r#"{"title": "abc", "title": "abd", "items": [{"n": 1}, {"n": 2}]}"#),
            [at("/title", Invalid)]
        );
        assert_eq!(
            wrong(r#"{"title": "abc", "items": [{"n": 1}, {"n": 2}], "extra": {}}"#),
            [at("/extra/x", Missing)]
        );
        assert_eq!(wrong(r#"{"title": "abc", "items": [{"n": 1}, "#), [at("", Invalid)]);
        assert_eq!(wrong(""), [at("", Invalid)]);
        let all = validate(r#"{"title": 5, "items": []}"#, Some(&schema()), None).unwrap_err();
        let text = feedback(&all);
        assert!(text.contains("`/title`: wanted a string (found 5)"), "{text}");
        assert!(text.contains("`/items`: wanted at least 2 items (found [])"), "{text}");
    }

    #[test]
    fn schemas_that_cannot_be() {
        for (schema, pointer) in [
            (json!({"type": "objekt"}), "/type"),
            (json!({"properties": {"a": {"minLength": "3"}}}), "/properties/a/minLength"),
            (json!({"$ref": "https://example.com/x.json"}), ""),
            (json!({"$ref": "#/$defs/none"}), ""),
            (json!({"pattern": "("}), "/pattern"),
        ] {
            let error = CompiledSchema::compile(schema.clone()).unwrap_err();
            assert_eq!(error.pointer, pointer, "{schema}: {}", error.message);
        }
    }
}
