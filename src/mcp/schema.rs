//! What a tool takes, as JSON Schema, and whether arguments fit it. Each description of an argument is written once: the
//! schema shown to clients is the one that is checked.

use serde_json::{Map, Value, json};

use planexe_pipeline::manifest::suggest;

/// An object with these members; `required` are those without which nothing can be done.
pub fn object(members: Vec<(&str, Value)>, required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A text.
pub fn text(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": description })
}

/// One of some words.
pub fn choice(description: &str, words: &[&str], default: &str) -> Value {
    json!({ "type": "string", "enum": words, "default": default, "description": description })
}

/// A whole number.
pub fn number(description: &str, least: u64, most: u64, default: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "default": default, "description": description })
}

/// Yes or no.
pub fn flag(description: &str, default: bool) -> Value {
    json!({ "type": "boolean", "default": default, "description": description })
}

/// Texts.
pub fn texts(description: &str, least: u64) -> Value {
    let item = json!({ "type": "string", "minLength": 1 });
    json!({ "type": "array", "items": item, "minItems": least, "maxItems": 500, "description": description })
}

/// What is wrong with arguments, and what may help.
pub type Wrong = (String, Option<String>);

/// Checks arguments; those that are null count as left out.
pub fn check(schema: &Value, given: &Map<String, Value>) -> Result<Map<String, Value>, Wrong> {
    let empty = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&empty);
    let names = || known.keys().map(String::as_str).collect::<Vec<_>>();
    let mut fit = Map::new();
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let Some(wanted) = known.get(name) else {
            let hint = suggest(name, names()).unwrap_or_else(|| "it takes no arguments".to_owned());
            return Err((format!("there is no argument `{name}`"), Some(hint)));
        };
        let value = whole(wanted, value);
        fits(wanted, &value).map_err(|wrong| (format!("`{name}` {wrong}"), None))?;
        fit.insert(name.clone(), value);
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !fit.contains_key(name) {
            let hint = known[name]["description"].as_str().map(|text| format!("`{name}`: {text}"));
            return Err((format!("`{name}` is missing"), hint));
        }
    }
    Ok(fit)
}

/// A whole number that was written with a fraction of nothing is one.
fn whole(wanted: &Value, value: &Value) -> Value {
    let number = value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..9e15).contains(number));
    match number {
        Some(number) if wanted["type"] == "integer" && !value.is_u64() => json!(number as u64),
        _ => value.clone(),
    }
}

fn fits(wanted: &Value, value: &Value) -> Result<(), String> {
    let shown = || {
        let text = value.to_string();
        match text.chars().count() {
            0..=60 => text,
            _ => text.chars().take(60).collect::<String>() + "…",
        }
    };
    let bound = |name: &str| wanted[name].as_u64();
    match wanted["type"].as_str().unwrap_or_default() {
        "string" => {
            let Some(text) = value.as_str() else { return Err(format!("must be a string, not {}", shown())) };
            if text.trim().is_empty() && bound("minLength").is_some() {
                return Err("must not be empty".to_owned());
            }
            if let Some(words) = wanted["enum"].as_array()
                && !words.contains(value)
            {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                return Err(format!("must be one of {}, not {}", words.join(", "), shown()));
            }
        }
        "boolean" if !value.is_boolean() => return Err(format!("must be true or false, not {}", shown())),
        "integer" => {
            let (least, most) = (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u64::MAX));
            if value.as_u64().is_none_or(|number| number < least || number > most) {
                return Err(format!("must be a whole number from {least} to {most}, not {}", shown()));
            }
        }
        "array" => {
            let Some(items) = value.as_array() else {
                return Err(format!("must be a list, not {}", shown()));
            };
            if (items.len() as u64) < bound("minItems").unwrap_or(0) {
                return Err("must name at least one".to_owned());
            }
            if items.len() as u64 > bound("maxItems").unwrap_or(u64::MAX) {
                return Err("names too many at once".to_owned());
            }
            for item in items {
                fits(&wanted["items"], item).map_err(|wrong| format!("has an item that {wrong}"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked() {
        let schema = object(
            vec![
                ("plan_id", text("The plan")),
                ("limit", number("How many", 1, 50, 10)),
                ("for", choice("What", &["any", "done"], "any")),
                ("full", flag("All", false)),
                ("tasks", texts("Which", 1)),
            ],
            &["plan_id"],
        );
        let check = |value: Value| check(&schema, value.as_object().unwrap());
        assert!(
            check(json!({ "plan_id": "a", "limit": 50, "for": "done", "full": true, "tasks": ["a"] }))
                .is_ok()
        );
        assert_eq!(check(json!({ "plan_id": "a", "limit": null })).unwrap().len(), 1);
        assert_eq!(check(json!({ "plan_id": "a", "limit": 10.0 })).unwrap()["limit"], json!(10));
        for (value, wrong) in [
            (json!({}), "`plan_id` is missing"),
            (json!({ "plan_id": null }), "`plan_id` is missing"),
            (json!({ "plan_id": 3 }), "`plan_id` must be a string, not 3"),
            (json!({ "plan_id": " " }), "`plan_id` must not be empty"),
            (json!({ "plan_id": "a", "limit": 51 }), "`limit` must be a whole number from 1 to 50, not 51"),
            (json!({ "plan_id": "a", "limit": -1 }), "`limit` must be a whole number from 1 to 50, not -1"),
            (json!({ "plan_id": "a", "limit": 1.5 }), "`limit` must be a whole number from 1 to 50, not 1.5"),
            (json!({ "plan_id": "a", "for": "x" }), "`for` must be one of any, done, not \"x\""),
            (json!({ "plan_id": "a", "full": "yes" }), "`full` must be true or false, not \"yes\""),
            (json!({ "plan_id": "a", "tasks": "a" }), "`tasks` must be a list, not \"a\""),
            (json!({ "plan_id": "a", "tasks": [] }), "`tasks` must name at least one"),
            (json!({ "plan_id": "a", "tasks": [1] }), "`tasks` has an item that must be a string, not 1"),
        ] {
            assert_eq!(check(value.clone()).unwrap_err().0, wrong, "{value}");
        }
        let (wrong, hint) = check(json!({ "planid": "a" })).unwrap_err();
        assert_eq!(wrong, "there is no argument `planid`");
        assert!(hint.unwrap().contains("`plan_id`"));
    }
}
