//! What tools take. Each has a struct: its schema is shown to clients, and reading it checks the arguments, so both say
//! the same.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::tool_error::ToolError;
use planexe_pipeline::manifest::suggest;

/// A text with something in it.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Texts, at least one of them.
#[derive(Debug, Clone)]
pub struct Texts(pub Vec<String>);

/// What a flag is unless it is said otherwise, where that is not `false`.
pub fn yes() -> bool {
    true
}

/// Most texts at once.
const MOST: usize = 500;

/// A whole number between two others.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct Number<const LEAST: u64, const MOST: u64, const DEFAULT: u64>(pub u64);

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64> Default for Number<LEAST, MOST, DEFAULT> {
    fn default() -> Self {
        Number(DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim().is_empty() {
            return Err(D::Error::invalid_value(Unexpected::Str(&text), &"a text that is not empty"));
        }
        Ok(Text(text))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        let texts = Vec::<Text>::deserialize(deserializer)?;
        match texts.len() {
            1..=MOST => Ok(Texts(texts.into_iter().map(|text| text.0).collect())),
            length => Err(D::Error::invalid_length(length, &"a list of 1 to 500 texts")),
        }
    }
}

impl<'de, const LEAST: u64, const MOST: u64, const DEFAULT: u64> Deserialize<'de>
    for Number<LEAST, MOST, DEFAULT>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole<const LEAST: u64, const MOST: u64>;
        impl<const LEAST: u64, const MOST: u64> Visitor<'_> for Whole<LEAST, MOST> {
            type Value = u64;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(to, "a whole number from {LEAST} to {MOST}")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
                match (LEAST..=MOST).contains(&number) {
                    true => Ok(number),
                    false => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }

            /// A whole number that was written with a fraction of nothing is one.
            fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
                match number.fract() == 0.0 && (0.0..9e15).contains(&number) {
                    true => self.visit_u64(number as u64),
                    false => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Whole::<LEAST, MOST>).map(Number)
    }
}

/// The schema of a type is written into that of each argument.
macro_rules! inline_schema {
    ($schema:expr) => {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> std::borrow::Cow<'static, str> {
            "argument".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            $schema
        }
    };
}

impl JsonSchema for Text {
    inline_schema!(json_schema!({ "type": "string", "minLength": 1 }));
}

impl JsonSchema for Texts {
    inline_schema!(json_schema!({
        "type": "array",
        "items": { "type": "string", "minLength": 1 },
        "minItems": 1,
        "maxItems": MOST,
    }));
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64> JsonSchema for Number<LEAST, MOST, DEFAULT> {
    inline_schema!(json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST }));
}

/// The JSON Schema of arguments, as clients are shown it.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    // The tool has a name and a description of its own.
    schema.remove("title");
    schema.remove("description");
    schema.insert(
        "properties".to_owned(),
        schema.get("properties").cloned().unwrap_or_else(|| Map::new().into()),
    );
    // An argument that is null is left out: clients need not be told.
    RecursiveTransform(|schema: &mut Schema| {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
    })
    .transform(&mut schema);
    schema.to_value()
}

/// The arguments of a call.
#[derive(Debug)]
pub struct Given {
    tool: &'static str,
    /// Those that are null count as left out.
    arguments: Map<String, Value>,
}

impl Given {
    /// Of a call of a tool.
    pub fn new(tool: &'static str, arguments: &Map<String, Value>) -> Given {
        let given = arguments.iter().filter(|(_, value)| !value.is_null());
        Given { tool, arguments: given.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// The arguments, if they are those that the tool takes.
    pub fn read<T: DeserializeOwned + JsonSchema>(self) -> Result<T, ToolError> {
        let Given { tool, arguments } = self;
        let wrong = |text: String| ToolError::new("INVALID_ARGUMENT", format!("{tool}: {text}"));
        let schema = schema_of::<T>();
        let known = schema["properties"].as_object().into_iter().flatten();
        let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
        if let Some(name) = arguments.keys().find(|name| !known.contains(&name.as_str())) {
            let hint = suggest(name, known).unwrap_or_else(|| "it takes no arguments".to_owned());
            return Err(wrong(format!("there is no argument `{name}`")).hint(hint));
        }
        let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(name) = required.find(|name| !arguments.contains_key(*name)) {
            let text = schema["properties"][name]["description"].as_str().unwrap_or_default();
            return Err(wrong(format!("`{name}` is missing")).hint(format!("`{name}`: {text}")));
        }
        // One is read after the other: that which was begun last is the one that does not fit.
        let at = RefCell::new(String::new());
        let arguments = arguments.into_iter().inspect(|(name, _)| at.borrow_mut().clone_from(name));
        T::deserialize(MapDeserializer::new(arguments))
            .map_err(|error: serde_json::Error| wrong(format!("`{}`: {error}", at.borrow())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum What {
        #[default]
        Any,
        Done,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Taken {
        /// The plan
        plan_id: Text,
        /// How many
        #[serde(default)]
        limit: Number<1, 50, 10>,
        /// What
        #[serde(default, rename = "for")]
        _what: What,
        /// All
        #[serde(default)]
        _full: bool,
        /// Which
        _tasks: Option<Texts>,
    }

    #[test]
    fn arguments_are_checked_as_their_schema_says() {
        let read = |value: Value| Given::new("tool", value.as_object().unwrap()).read::<Taken>();
        let whole = json!({ "plan_id": "a", "limit": 50, "for": "done", "_full": true, "_tasks": ["a"] });
        let taken = read(whole).unwrap();
        assert_eq!((taken.plan_id.0.as_str(), taken.limit.0), ("a", 50));
        assert_eq!(read(json!({ "plan_id": "a", "limit": null })).unwrap().limit.0, 10);
        assert_eq!(read(json!({ "plan_id": "a", "limit": 11.0 })).unwrap().limit.0, 11);
        let number = "a whole number from 1 to 50";
        for (value, name, wanted) in [
            (json!({}), "plan_id", "is missing"),
            (json!({ "plan_id": null }), "plan_id", "is missing"),
            (json!({ "plan_id": 3 }), "plan_id", "integer `3`, expected a string"),
            (json!({ "plan_id": " " }), "plan_id", "string \" \", expected a text that is not empty"),
            (json!({ "plan_id": "a", "limit": 51 }), "limit", number),
            (json!({ "plan_id": "a", "limit": -1 }), "limit", number),
            (json!({ "plan_id": "a", "limit": 1.5 }), "limit", number),
            (json!({ "plan_id": "a", "for": "x" }), "for", "`x`, expected `any` or `done`"),
            (json!({ "plan_id": "a", "_full": "yes" }), "_full", "string \"yes\", expected a boolean"),
            (json!({ "plan_id": "a", "_tasks": "a" }), "_tasks", "string \"a\", expected a sequence"),
            (json!({ "plan_id": "a", "_tasks": [] }), "_tasks", "expected a list of 1 to 500 texts"),
            (json!({ "plan_id": "a", "_tasks": [1] }), "_tasks", "integer `1`, expected a string"),
        ] {
            let fault = read(value.clone()).unwrap_err();
            let begin = format!("tool: `{name}`");
            assert!(
                fault.message.starts_with(&begin) && fault.message.contains(wanted),
                "{value}: {fault:?}"
            );
            let schema = jsonschema::validator_for(&schema_of::<Taken>()).unwrap();
            assert!(!schema.is_valid(&value) || value["plan_id"] == " ", "{value}");
        }
        let fault = read(json!({ "planid": "a" })).unwrap_err();
        assert_eq!(fault.message, "tool: there is no argument `planid`");
        assert!(fault.hint.unwrap().contains("`plan_id`"));
    }
}
