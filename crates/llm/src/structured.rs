//! Asking for data: what of a JSON Schema each vendor takes, what is put into the prompt where one takes
//! none, and how the answer is read back. The full schema is validated elsewhere, on every answer.

use crate::shape;
use serde_json::{Map, Value, json};

/// Depth at which a schema is no longer followed: recursion, or nonsense.
const DEPTH: usize = 64;

/// JSON text with the keys of every object sorted and no white space, for digests.
pub fn canonical(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(object) => {
                let mut keys: Vec<&String> = object.keys().collect();
                keys.sort_unstable();
                out.push('{');
                for (index, key) in keys.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(&object[key], out);
                }
                out.push('}');
            }
            Value::Array(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            plain => out.push_str(&plain.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// What is said before a schema in words.
const ONLY: &str =
    "Answer with one JSON value and nothing else: no explanation before or after it, no code fence.";

/// The words that ask for JSON where the server cannot be made to write it.
pub fn in_words(schema: &Value) -> String {
    format!("{ONLY} It must be valid under this JSON Schema:\n\n{schema}")
}

/// The same in as few words as will do after a prompt.
pub fn in_few_words(schema: &Value, prompt: &str) -> String {
    match shape::of(schema, prompt) {
        Some(shape) => format!("{ONLY} Its shape, `?` after what may be absent:\n\n{shape}"),
        None => in_words(schema),
    }
}

/// A name for a schema as servers allow it: `[a-zA-Z0-9_-]`, 1 to 64 of them.
pub fn name(task: &str) -> String {
    let name: String = task
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
        .take(64)
        .collect();
    if name.is_empty() { "answer".into() } else { name }
}

/// Whose rules a schema is brought under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    OpenAi,
    Anthropic,
}

/// The schema as OpenAI's strict mode takes it: every object closed, every property required (an optional
/// one may be null instead, see [`without_made_nulls`]), unsupported keywords told in the description.
/// None if it cannot be said there: an object of free keys, a root that is no object, several `allOf`.
pub fn openai_strict(schema: &Value) -> Option<Value> {
    let root = schema.as_object()?;
    if root.get("type").and_then(Value::as_str) != Some("object") && !root.contains_key("$ref") {
        return None;
    }
    let strict = Walk { root: schema, rules: Rules::OpenAi }.schema(schema, 0)?;
    (strict.get("type").and_then(Value::as_str) == Some("object")).then_some(strict)
}

/// The schema as Anthropic's `output_config.format` takes it. None if it cannot be said there.
pub fn anthropic_subset(schema: &Value) -> Option<Value> {
    schema.as_object()?;
    Walk { root: schema, rules: Rules::Anthropic }.schema(schema, 0)
}

/// A schema with what stands beside a keyword that leads to it.
fn merged(schema: &Value, beside: &Map<String, Value>, keyword: &str) -> Option<Value> {
    let mut merged = schema.as_object()?.clone();
    let beside = beside.iter().filter(|(key, _)| *key != keyword);
    merged.extend(beside.map(|(key, value)| (key.clone(), value.clone())));
    Some(Value::Object(merged))
}

fn is_object(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => schema.contains_key("properties"),
    }
}

struct Walk<'a> {
    root: &'a Value,
    rules: Rules,
}

impl Walk<'_> {
    fn schema(&self, schema: &Value, depth: usize) -> Option<Value> {
        let source = match schema {
            Value::Object(source) if depth < DEPTH => source,
            // `true` takes anything, which neither can say.
            _ => return None,
        };
        if let (Some(target), 1) = (source.get("$ref"), source.len()) {
            return Some(json!({ "$ref": target }));
        }
        // What stands beside a reference is lost there, so the reference is written out.
        if let Some(target) = source.get("$ref") {
            return self.schema(&merged(self.resolve(target)?, source, "$ref")?, depth + 1);
        }
        match source.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([one]) => return self.schema(&merged(one, source, "allOf")?, depth + 1),
            Some(_) if self.rules == Rules::OpenAi => return None,
            _ => {}
        }
        let mut out = Map::new();
        let mut told = Vec::new();
        for (key, value) in source {
            self.keyword(key, value, depth, &mut out, &mut told)?;
        }
        if is_object(source) {
            self.close(source, &mut out)?;
        }
        if !told.is_empty() {
            let told = format!("{{{}}}", told.join(", "));
            let text = match out.get("description").and_then(Value::as_str) {
                Some(text) => format!("{text}\n\n{told}"),
                None => told,
            };
            out.insert("description".into(), Value::String(text));
        }
        Some(Value::Object(out))
    }

    /// Takes one keyword over, leaves it out, or has it told in words. None if it can be neither.
    fn keyword(
        &self,
        key: &str,
        value: &Value,
        depth: usize,
        out: &mut Map<String, Value>,
        told: &mut Vec<String>,
    ) -> Option<()> {
        let openai = self.rules == Rules::OpenAi;
        let (key, taken) = match key {
            "type" | "enum" | "const" | "title" | "description" => (key, value.clone()),
            "anyOf" | "oneOf" | "allOf" => {
                let list = value.as_array()?.iter().map(|item| self.schema(item, depth + 1));
                let list = list.collect::<Option<Vec<_>>>()?;
                (if key == "oneOf" { "anyOf" } else { key }, Value::Array(list))
            }
            "$defs" | "definitions" | "properties" => (key, Value::Object(self.map(value, depth)?)),
            "items" => (key, self.schema(value, depth + 1)?),
            "required" if !openai => (key, value.clone()),
            "format" if value.as_str().is_some_and(|format| FORMATS.contains(&format)) => {
                (key, value.clone())
            }
            "minItems" if openai || value.as_u64().is_some_and(|least| least <= 1) => (key, value.clone()),
            "pattern" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
            | "maxItems"
                if openai =>
            {
                (key, value.clone())
            }
            "additionalProperties"
            | "required"
            | "$schema"
            | "$id"
            | "$comment"
            | "default"
            | "examples"
            | "deprecated"
            | "readOnly"
            | "writeOnly" => return Some(()),
            "patternProperties" | "prefixItems" | "$dynamicRef" => return None,
            _ => {
                told.push(format!("{key}: {value}"));
                return Some(());
            }
        };
        out.insert(key.to_owned(), taken);
        Some(())
    }

    /// Closes an object; under OpenAI's rules every property is required, and an optional one may be null instead.
    /// None of an object of free keys.
    fn close(&self, source: &Map<String, Value>, out: &mut Map<String, Value>) -> Option<()> {
        let properties = source.get("properties").and_then(Value::as_object);
        let free = matches!(source.get("additionalProperties"), Some(Value::Object(_) | Value::Bool(true)));
        if free || (properties.is_none() && source.get("additionalProperties") != Some(&json!(false))) {
            return None;
        }
        out.insert("additionalProperties".into(), json!(false));
        if self.rules != Rules::OpenAi {
            return Some(());
        }
        let required = source.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
        let is_nullable =
            |name: &str| properties.and_then(|p| p.get(name)).is_some_and(|p| self.takes_null(p, 0));
        if let Some(Value::Object(written)) = out.get_mut("properties") {
            for (name, property) in written.iter_mut() {
                if !is_required(name) && !is_nullable(name) {
                    let inner = property.take();
                    *property = json!({ "anyOf": [inner, { "type": "null" }] });
                }
            }
        } else {
            out.insert("properties".into(), json!({}));
        }
        let names: Vec<&String> = properties.map(|p| p.keys().collect()).unwrap_or_default();
        out.insert("required".into(), json!(names));
        Some(())
    }

    fn map(&self, value: &Value, depth: usize) -> Option<Map<String, Value>> {
        value
            .as_object()?
            .iter()
            .map(|(name, schema)| Some((name.clone(), self.schema(schema, depth + 1)?)))
            .collect()
    }

    fn resolve(&self, target: &Value) -> Option<&Value> {
        self.root.pointer(target.as_str()?.strip_prefix('#')?)
    }

    /// Whether null is valid under a schema.
    fn takes_null(&self, schema: &Value, depth: usize) -> bool {
        let Value::Object(source) = schema else { return schema == &json!(true) };
        if depth > DEPTH {
            return false;
        }
        let any = |list: &Value| {
            list.as_array().is_some_and(|list| list.iter().any(|item| self.takes_null(item, depth + 1)))
        };
        let kind = match source.get("type") {
            Some(Value::String(kind)) => kind == "null",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "null"),
            _ => true,
        };
        kind && source
            .get("enum")
            .is_none_or(|list| list.as_array().is_some_and(|l| l.contains(&Value::Null)))
            && source.get("const").is_none_or(Value::is_null)
            && source.get("anyOf").is_none_or(any)
            && source.get("oneOf").is_none_or(any)
            && source
                .get("allOf")
                .and_then(Value::as_array)
                .is_none_or(|list| list.iter().all(|item| self.takes_null(item, depth + 1)))
            && source.get("$ref").is_none_or(|target| {
                self.resolve(target).is_some_and(|target| self.takes_null(target, depth + 1))
            })
    }

    /// Takes out the members that are null only because strict mode requires every property.
    fn prune(&self, value: &mut Value, schema: &Value, depth: usize) -> bool {
        let Value::Object(source) = schema else { return false };
        if depth > DEPTH {
            return false;
        }
        let mut pruned = false;
        if let Some(target) = source.get("$ref").and_then(|target| self.resolve(target)) {
            pruned |= self.prune(value, target, depth + 1);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            for branch in source.get(key).and_then(Value::as_array).into_iter().flatten() {
                pruned |= self.prune(value, branch, depth + 1);
            }
        }
        match value {
            Value::Object(object) => {
                let required = source.get("required").and_then(Value::as_array);
                for (name, property) in
                    source.get("properties").and_then(Value::as_object).into_iter().flatten()
                {
                    let optional = !required.is_some_and(|list| list.iter().any(|n| n == name));
                    match object.get_mut(name) {
                        Some(Value::Null) if optional && !self.takes_null(property, 0) => {
                            object.shift_remove(name);
                            pruned = true;
                        }
                        Some(inner) => pruned |= self.prune(inner, property, depth + 1),
                        None => {}
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = source.get("items") {
                    for item in list {
                        pruned |= self.prune(item, items, depth + 1);
                    }
                }
            }
            _ => {}
        }
        pruned
    }
}

/// String formats both vendors take.
const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// An answer to [`openai_strict`] without the nulls that stand for absent optional members, so that it is
/// valid under the schema that was meant. None if there are none: then the text is left as it arrived.
pub fn without_made_nulls(answer: &str, schema: &Value) -> Option<String> {
    let mut value: Value = serde_json::from_str(answer).ok()?;
    let walk = Walk { root: schema, rules: Rules::OpenAi };
    walk.prune(&mut value, schema, 0).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_sorted_and_stable() {
        let value: Value =
            serde_json::from_str(r#"{ "b": [1, {"z": null, "a": "é\n"}], "a": 1.50 }"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":1.5,"b":[1,{"a":"é\n","z":null}]}"#);
    }

    #[test]
    fn strict_mode_closes_objects_and_requires_all() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "name": { "type": "string", "minLength": 3, "description": "Full name" },
                "age": { "type": "integer", "minimum": 0, "default": 3 },
                "note": { "type": ["string", "null"] },
                "kind": { "oneOf": [{ "const": "a" }, { "const": "b" }] },
                "site": { "$ref": "#/$defs/site", "description": "where" }
            },
            "required": ["name", "kind", "site"],
            "$defs": { "site": { "type": "object", "properties": { "x": { "type": "number" } }, "required": ["x"] } }
        });
        let strict = openai_strict(&schema).unwrap();
        assert_eq!(
            strict,
            json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string", "description": "Full name\n\n{minLength: 3}" },
                    "age": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "null" }] },
                    "note": { "type": ["string", "null"] },
                    "kind": { "anyOf": [{ "const": "a" }, { "const": "b" }] },
                    "site": {
                        "type": "object", "properties": { "x": { "type": "number" } }, "required": ["x"],
                        "additionalProperties": false, "description": "where"
                    }
                },
                "$defs": { "site": {
                    "type": "object", "properties": { "x": { "type": "number" } },
                    "additionalProperties": false, "required": ["x"]
                } },
                "additionalProperties": false,
                "required": ["name", "age", "note", "kind", "site"]
            })
        );
        let answer = r#"{"name":"Ada","age":null,"note":null,"kind":"a","site":{"x":1}}"#;
        let pruned = without_made_nulls(answer, &schema).unwrap();
        assert_eq!(pruned, r#"{"name":"Ada","note":null,"kind":"a","site":{"x":1}}"#);
        assert_eq!(without_made_nulls(&pruned, &schema), None);
    }

    #[test]
    fn made_nulls_go_from_lists_and_through_references_and_meant_ones_stay() {
        let schema = json!({
            "type": "object",
            "properties": {
                "people": { "type": "array", "items": { "$ref": "#/$defs/person" } },
                "place": { "allOf": [{ "$ref": "#/$defs/place" }] },
                "note": { "oneOf": [{ "type": "string" }, { "$ref": "#/$defs/nothing" }] },
                "always": { "const": null },
                "word": { "enum": ["a", "b"] }
            },
            "required": ["people"],
            "$defs": {
                "person": {
                    "type": "object",
                    "properties": { "name": { "type": "string" }, "age": { "type": "integer" } },
                    "required": ["name"]
                },
                "place": { "type": "object", "properties": { "x": { "type": "number" } } },
                "nothing": { "type": "null" }
            }
        });
        assert!(openai_strict(&schema).is_some());
        let answer = r#"{"people":[{"name":"Ada","age":null},{"name":"Bo","age":7}],"place":{"x":null},"note":null,"always":null,"word":null}"#;
        assert_eq!(
            without_made_nulls(answer, &schema).unwrap(),
            r#"{"people":[{"name":"Ada"},{"name":"Bo","age":7}],"place":{},"note":null,"always":null}"#
        );
    }

    #[test]
    fn what_strict_mode_cannot_say_is_not_said() {
        for schema in [
            json!({ "type": "array", "items": { "type": "string" } }),
            json!({ "type": "object" }),
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            json!({ "type": "object", "properties": { "a": true } }),
            json!({ "type": "object", "properties": { "a": { "type": "object", "patternProperties": {} } } }),
            json!({ "type": "object", "properties": {}, "allOf": [{ "type": "object" }, {}] }),
            json!(true),
        ] {
            assert_eq!(openai_strict(&schema), None, "{schema}");
        }
        assert!(openai_strict(&json!({ "type": "object", "additionalProperties": false })).is_some());
    }

    #[test]
    fn anthropic_gets_its_subset() {
        let schema = json!({
            "type": "object",
            "properties": {
                "tags": { "type": "array", "items": { "type": "string", "format": "uri" }, "minItems": 3 },
                "rate": { "type": "number", "minimum": 0, "maximum": 1 }
            },
            "required": ["tags"]
        });
        assert_eq!(
            anthropic_subset(&schema).unwrap(),
            json!({
                "type": "object",
                "properties": {
                    "tags": {
                        "type": "array",
                        "items": { "type": "string", "description": "{format: \"uri\"}" },
                        "description": "{minItems: 3}"
                    },
                    "rate": { "type": "number", "description": "{minimum: 0, maximum: 1}" }
                },
                "required": ["tags"],
                "additionalProperties": false
            })
        );
    }

    #[test]
    fn recursion_ends() {
        let schema = json!({
            "type": "object",
            "properties": { "child": { "$ref": "#", "description": "again" } },
            "required": ["child"]
        });
        assert_eq!(openai_strict(&schema), None);
        let answer = r#"{"child":{"child":{"child":null}}}"#;
        assert_eq!(without_made_nulls(answer, &schema), None);
    }

    #[test]
    fn a_name_is_as_servers_allow_it() {
        assert_eq!(name("weird task/näme"), "weird_task_n_me");
        assert_eq!(name(""), "answer");
    }
}
