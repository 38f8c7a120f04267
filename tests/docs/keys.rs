//! `docs/keys.md` is what the schema of `pipeline.toml` says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// `docs/keys.md`, as the schema of `pipeline.toml` tells it.
struct Keys<'a> {
    schema: &'a Value,
    text: String,
    told: BTreeSet<String>,
}

impl<'a> Keys<'a> {
    fn named(&self, name: &str) -> &'a Value {
        &self.schema["$defs"][name]
    }

    /// The type that is referred to, if it is a table of its own.
    fn table(&self, value: &'a Value) -> Option<&'a str> {
        let own = value["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
        if let Some(name) = own {
            let of = self.named(name);
            let inner = of["anyOf"].as_array().and_then(|any| any.iter().find_map(|one| self.table(one)));
            return if of["properties"].is_object() { Some(name) } else { inner };
        }
        let inside =
            [&value["items"], &value["additionalProperties"]].into_iter().filter(|it| it.is_object());
        let any = value["anyOf"].as_array().into_iter().flatten();
        any.chain(inside).find_map(|one| self.table(one))
    }

    /// What a value may be, in a few words.
    fn form(&self, value: &'a Value) -> BTreeSet<String> {
        let one = |word: &str| BTreeSet::from([word.to_owned()]);
        if let Some(name) = value["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            return if name == "Duration" { one("time") } else { self.form(self.named(name)) };
        }
        if let Some(word) = value["const"].as_str() {
            return one(&format!("`{word}`"));
        }
        for several in ["anyOf", "oneOf"] {
            if let Some(list) = value[several].as_array() {
                return list.iter().flat_map(|one| self.form(one)).collect();
            }
        }
        let types = match &value["type"] {
            Value::Array(types) => types.clone(),
            other => vec![other.clone()],
        };
        let word = |name: &Value| match name.as_str()? {
            "null" => None,
            "string" => Some("text".to_owned()),
            "integer" => Some("number".to_owned()),
            "boolean" => Some("true or false".to_owned()),
            "array" => Some("list".to_owned()),
            "object" => Some("table".to_owned()),
            other => Some(other.to_owned()),
        };
        let words: BTreeSet<String> = types.iter().filter_map(word).collect();
        if words.is_empty() && !types.contains(&"null".into()) { one("any") } else { words }
    }

    fn one_line(value: &Value) -> String {
        let text = value["description"].as_str().unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
    }

    fn section(&mut self, title: &str, table: &'a str) {
        if !self.told.insert(table.to_owned()) {
            return;
        }
        let definition = self.named(table);
        self.text += &format!("\n## {title}\n\n| key | is | |\n|---|---|---|\n");
        let properties = definition["properties"].as_object().expect("properties");
        for (key, value) in properties {
            let mut about = Keys::one_line(value);
            let default = match &value["default"] {
                Value::String(word) if !word.is_empty() => format!("`{word}`"),
                Value::Bool(true) => "`true`".to_owned(),
                Value::Number(number) if number.as_f64() != Some(0.0) => number.to_string(),
                _ => String::new(),
            };
            if !default.is_empty() && !about.contains("default") {
                about = format!("{} (default {default}).", about.trim_end_matches('.'));
            }
            let form = self.form(value).into_iter().collect::<Vec<_>>().join(", ");
            self.text += &format!("| `{key}` | {form} | {about} |\n");
        }
        for (key, value) in properties {
            if let Some(table) = self.table(value) {
                self.section(&format!("`{key}`"), table);
            }
        }
    }

    fn page(schema: &'a Value) -> String {
        let mut keys = Keys {
            schema,
            text: "# Keys of pipeline.toml\n\nEvery table and key. This page is made from the schema that `planexe schema` prints, \
                   by which editors complete the file:\n`UPDATE_SNAPSHOTS=1 cargo test --test docs`. Times are `\"90s\"`, \
                   `\"15m\"`, `\"1h30m\"`, or seconds. Keys that are not here are faults.\n\n| table | |\n|---|---|\n"
                .to_owned(),
            told: BTreeSet::new(),
        };
        let tables = schema["properties"].as_object().expect("tables");
        let is_many = |value: &Value| value["additionalProperties"]["$ref"].is_string();
        let title = |name: &str, value: &Value| match keys_of_many(value) && is_many(value) {
            true => format!("`[{name}.NAME]`"),
            false => format!("`[{name}]`"),
        };
        for (name, value) in tables {
            keys.text += &format!("| {} | {} |\n", title(name, value), Keys::one_line(value));
        }
        for (name, value) in tables {
            if let Some(table) = keys.table(value) {
                keys.section(&title(name, value), table);
            }
        }
        keys.text
    }
}

/// Whether the members of a table are tables themselves.
fn keys_of_many(value: &Value) -> bool {
    value["additionalProperties"]["$ref"].as_str().is_some_and(|name| !name.ends_with("/Duration"))
}

#[test]
fn the_page_of_keys_is_what_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../pipeline.schema.json")).expect("JSON");
    let page = Keys::page(&schema);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys.md");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &page).expect("docs/keys.md");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == page, "docs/keys.md is out of date: UPDATE_SNAPSHOTS=1 cargo test --test docs");
}
