//! The smallest value that satisfies a JSON Schema, for the fake server's default answers.

use serde_json::{Map, Value, json};

/// A value that satisfies `schema`, its strings made from `word`.
pub(super) fn minimal(schema: &Value, word: &str) -> Value {
    value(schema, schema, word, 0)
}

fn value(schema: &Value, root: &Value, word: &str, depth: usize) -> Value {
    assert!(depth < 40, "the schema is recursive without end");
    let next = |schema: &Value| value(schema, root, word, depth + 1);
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    if let Some(target) = schema["$ref"].as_str() {
        return next(root.pointer(target.trim_start_matches('#')).expect("a local $ref"));
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[choice].as_array().and_then(|all| all.first()) {
            return next(first);
        }
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    };
    match kind {
        "object" => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            let members = properties.iter().map(|(name, schema)| (name.clone(), next(schema)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(1);
            let item = |n| value(&schema["items"], root, &format!("{word}-{n}"), depth + 1);
            Value::Array((0..count).map(item).collect())
        }
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(1)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(0.5)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => {
            let least = schema["minLength"].as_u64().unwrap_or(0) as usize;
            let mut text = format!("text {word}");
            while text.len() < least {
                text.push_str(" and more of it");
            }
            Value::String(text)
        }
    }
}
