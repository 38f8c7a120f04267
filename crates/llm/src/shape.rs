//! A schema in few words: the shape of the answer, as types are written.
//!
//! It stands at the end of a prompt, where no server's cache reads it, so it is short: what the prompt says of a field itself
//! is not said again. The answer is checked against the whole schema all the same.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Levels of a shape at most: a schema that refers to itself has no end.
const DEPTH: usize = 12;

/// The shape of what a schema allows; none if it says what a shape cannot.
pub(crate) fn of(schema: &Value, prompt: &str) -> Option<String> {
    let mut text = String::new();
    Writer { root: schema, prompt }.value(schema, 0, &mut text)?;
    Some(text)
}

struct Writer<'a> {
    root: &'a Value,
    prompt: &'a str,
}

impl Writer<'_> {
    fn value(&self, schema: &Value, depth: usize, text: &mut String) -> Option<()> {
        let schema = schema.as_object().filter(|_| depth < DEPTH)?;
        if !schema.keys().all(|key| is_known(key)) {
            return None;
        }
        if let Some(place) = schema.get("$ref") {
            let place = place.as_str()?.strip_prefix('#')?;
            return self.value(self.root.pointer(place)?, depth + 1, text);
        }
        if let Some(only) = schema.get("const") {
            text.push_str(&only.to_string());
            return Some(());
        }
        if let Some(values) = schema.get("enum") {
            let values: Vec<String> = values.as_array()?.iter().map(Value::to_string).collect();
            text.push_str(&values.join(" | "));
            return Some(());
        }
        if let Some(any) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            return self.each(any.as_array()?.iter(), text, |one, text| self.value(one, depth + 1, text));
        }
        match schema.get("type")? {
            Value::String(kind) => self.typed(kind, schema, depth, text),
            Value::Array(kinds) => {
                self.each(kinds.iter(), text, |kind, text| self.typed(kind.as_str()?, schema, depth, text))
            }
            _ => None,
        }
    }

    fn each<'v>(
        &self,
        all: impl Iterator<Item = &'v Value>,
        text: &mut String,
        write: impl Fn(&'v Value, &mut String) -> Option<()>,
    ) -> Option<()> {
        for (nth, one) in all.enumerate() {
            if nth > 0 {
                text.push_str(" | ");
            }
            write(one, text)?;
        }
        Some(())
    }

    fn typed(&self, kind: &str, schema: &Map<String, Value>, depth: usize, text: &mut String) -> Option<()> {
        match kind {
            "object" => self.object(schema, depth, text),
            "array" => {
                text.push('[');
                match schema.get("items") {
                    Some(items) => self.value(items, depth + 1, text)?,
                    None => text.push_str("any"),
                }
                text.push(']');
                Some(())
            }
            kind => {
                text.push_str(kind);
                Some(())
            }
        }
    }

    fn object(&self, schema: &Map<String, Value>, depth: usize, text: &mut String) -> Option<()> {
        let none = Map::new();
        let fields = schema.get("properties").map_or(Some(&none), Value::as_object)?;
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !required.iter().all(|name| fields.contains_key(*name)) {
            return None;
        }
        text.push_str("{\n");
        for (name, field) in fields {
            let mark = if required.contains(&name.as_str()) { "" } else { "?" };
            let _ = write!(text, "{:depth$} {}{mark}: ", "", Value::from(name.as_str()));
            self.value(field, depth + 1, text)?;
            let notes = self.notes(name, field);
            text.push_str(if notes.is_empty() { ",\n" } else { ", // " });
            if !notes.is_empty() {
                text.push_str(&notes.join("; "));
                text.push('\n');
            }
        }
        if let Some(other @ Value::Object(_)) = schema.get("additionalProperties") {
            let _ = write!(text, "{:depth$} [name]: ", "");
            self.value(other, depth + 1, text)?;
            text.push_str(",\n");
        }
        let _ = write!(text, "{:depth$}}}", "");
        Some(())
    }

    /// What is to be said of a field beside its type.
    fn notes(&self, name: &str, field: &Value) -> Vec<String> {
        let mut notes = Vec::new();
        let said = field.get("description").and_then(Value::as_str).filter(|_| !self.is_named(name));
        notes.extend(said.map(|said| said.split_whitespace().collect::<Vec<_>>().join(" ")));
        for schema in [field, &field["items"]] {
            for (key, words) in LIMITS {
                if let Some(limit) = schema.get(key) {
                    notes.push(format!("{words} {limit}"));
                }
            }
        }
        notes
    }

    /// Whether the prompt speaks of a field.
    fn is_named(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.prompt.match_indices(name).any(|(at, _)| {
            !self.prompt[..at].chars().next_back().is_some_and(is_word)
                && !self.prompt[at + name.len()..].chars().next().is_some_and(is_word)
        })
    }
}

/// What is said after a field, and how.
const LIMITS: [(&str, &str); 11] = [
    ("minItems", "items at least:"),
    ("maxItems", "items at most:"),
    ("minLength", "characters at least:"),
    ("maxLength", "characters at most:"),
    ("minimum", "at least"),
    ("maximum", "at most"),
    ("exclusiveMinimum", "more than"),
    ("exclusiveMaximum", "less than"),
    ("multipleOf", "multiple of"),
    ("pattern", "matches"),
    ("format", "format"),
];

fn is_known(key: &str) -> bool {
    const OTHER: [&str; 16] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "description",
        "title",
        "default",
        "$schema",
        "$id",
        "$ref",
        "$defs",
    ];
    OTHER.contains(&key) || LIMITS.iter().any(|(limit, _)| *limit == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_shape_is_short_and_says_what_the_prompt_does_not() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A review", "type": "object",
            "properties": {
                "grade": { "type": "string", "enum": ["sound", "gap"], "description": "How good it is" },
                "points": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/point" } },
                "sum": { "type": ["number", "null"], "description": "In euro,\n  without tax", "minimum": 0 },
                "by": { "anyOf": [{ "const": "us" }, { "type": "boolean" }] },
                "more": { "type": "object", "additionalProperties": { "type": "integer" } }
            },
            "required": ["grade", "points"], "additionalProperties": false,
            "$defs": { "point": { "type": "object", "required": ["why"],
                "properties": { "why": { "type": "string", "pattern": "^A" } } } }
        });
        let wanted = r#"{
 "grade": "sound" | "gap",
 "points": [{
    "why": string, // matches "^A"
   }], // items at least: 1
 "sum"?: number | null, // In euro, without tax; at least 0
 "by"?: "us" | boolean,
 "more"?: {
  [name]: integer,
 },
}"#;
        assert_eq!(of(&schema, "- grade: how good.\nsummary").as_deref(), Some(wanted));
        assert!(of(&schema, "").unwrap().contains("// How good it is"));
    }

    #[test]
    fn what_a_shape_cannot_say_is_left_to_the_schema() {
        let itself = json!({ "$ref": "#" });
        let missing = json!({ "type": "object", "properties": {}, "required": ["a"] });
        for schema in [
            json!({ "allOf": [{ "type": "string" }] }),
            json!({ "type": "object", "properties": { "a": { "not": { "type": "string" } } } }),
            json!({ "type": "object", "patternProperties": {} }),
            json!({ "$ref": "https://example.org/schema" }),
            json!({ "type": "object", "properties": { "a": itself } }),
            json!(true),
            json!({}),
            missing,
        ] {
            assert_eq!(of(&schema, ""), None, "{schema}");
        }
    }
}
