//! JSON Schema: compiled once, its errors in plain words.

use std::fmt;
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use regex::RegexBuilder;
use serde_json::Value;

use super::measure::{Measure, measure};
use super::{CHECK_TIME, Violation, ViolationKind, shortened};
use crate::items::escape;
use planexe_base::style::count;
use planexe_base::time_boxed as apart;

/// A schema ready to be used.
pub struct CompiledSchema {
    /// The schema itself, as it is sent to servers.
    pub value: Value,
    validator: Arc<Validator>,
    measure: Measure,
}

/// A schema with no more forms, in so many bytes, is made ready in no time to speak of.
const FEW_FORMS: u64 = 2_000;
const SMALL: usize = 32 * 1024;
/// So many forms times bytes of an answer are held against each other in no time to speak of.
const QUICK: u64 = 4_000_000;

impl fmt::Debug for CompiledSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledSchema").field("value", &self.value).finish_non_exhaustive()
    }
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// Where in the schema.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl CompiledSchema {
    /// Compiles a schema of draft 2020-12 (or the one it names). `$ref` may point only into the
    /// schema itself; `format` is not enforced.
    pub fn compile(value: Value) -> Result<CompiledSchema, SchemaError> {
        if !value.is_object() && !value.is_boolean() {
            return Err(SchemaError { pointer: String::new(), message: "a schema is an object".to_owned() });
        }
        let measure = measure(&value)?;
        if measure.forms <= FEW_FORMS && value.to_string().len() <= SMALL {
            let validator = Arc::new(build(&value, measure)?);
            return Ok(CompiledSchema { value, validator, measure });
        }
        let made =
            apart::run(CHECK_TIME, &|| false, move || build(&value, measure).map(|made| (made, value)));
        let (validator, value) = made.unwrap_or_else(|_| {
            let message = "it is too much to be made ready in time".to_owned();
            Err(SchemaError { pointer: String::new(), message })
        })?;
        Ok(CompiledSchema { value, validator: Arc::new(validator), measure })
    }

    /// What is wrong with a value.
    #[cfg(test)]
    fn violations(&self, value: &Value) -> Vec<Violation> {
        self.rules().violations(value)
    }

    /// What values are held against, for a thread of its own.
    pub(super) fn rules(&self) -> SchemaRules {
        SchemaRules(self.validator.clone())
    }

    /// Whether to hold so many bytes of JSON against it takes no time to speak of.
    pub(super) fn is_quick(&self, bytes: usize) -> bool {
        self.measure.forms.saturating_mul(bytes as u64) <= QUICK
    }
}

/// What a schema wants of a value.
pub(super) struct SchemaRules(Arc<Validator>);

/// All regular expressions of a schema, once compiled, take no more memory than this; one of a few no more than
/// [`PATTERN`], and one of many has at least [`SMALL_PATTERN`].
const PATTERNS: usize = 128 << 20;
const PATTERN: usize = 10 << 20;
const SMALL_PATTERN: usize = 256 << 10;

fn build(value: &Value, measure: Measure) -> Result<Validator, SchemaError> {
    let each = (PATTERNS / measure.patterns.max(1)).clamp(SMALL_PATTERN, PATTERN);
    let mut options = jsonschema::options()
        .offline()
        .should_validate_formats(false)
        .with_pattern_options(PatternOptions::fancy_regex().size_limit(each));
    if value.get("$schema").is_none() {
        options = options.with_draft(Draft::Draft202012);
    }
    options.build(value).map_err(|error| {
        let pointer = error.instance_path().as_str().to_owned();
        let message = match error.kind() {
            ValidationErrorKind::Referencing(inner) => {
                format!("{inner}; `$ref` may point only into this file")
            }
            ValidationErrorKind::Format { format } if format == "regex" => {
                let pattern = error.instance().as_str().unwrap_or_default();
                let too_large = RegexBuilder::new(&without_look_around(pattern)).size_limit(each).build();
                match too_large {
                    Err(regex::Error::CompiledTooBig(_)) => format!(
                        "{} is too large when compiled: more than the {} KiB that a pattern of this schema may take",
                        super::shown(error.instance()),
                        each >> 10
                    ),
                    _ => format!("{} is not a regular expression", super::shown(error.instance())),
                }
            }
            ValidationErrorKind::Type { .. } | ValidationErrorKind::AnyOf { .. } => {
                format!("{} is not allowed here", super::shown(error.instance()))
            }
            _ => shortened(&error.to_string()),
        };
        SchemaError { pointer, message }
    })
}

/// A pattern with plain groups in the place of look-around, which alone takes as much memory: `regex` has none, and so
/// cannot say of a pattern with look-around whether it is too large or no pattern.
fn without_look_around(pattern: &str) -> String {
    ["(?=", "(?!", "(?<=", "(?<!"].iter().fold(pattern.to_owned(), |text, open| text.replace(open, "(?:"))
}

impl SchemaRules {
    /// What is wrong with a value.
    pub(super) fn violations(&self, value: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        for error in self.0.iter_errors(value).take(100) {
            describe(&error, &mut found, 0);
        }
        found.dedup();
        found
    }
}

fn describe(error: &ValidationError<'_>, found: &mut Vec<Violation>, depth: usize) {
    use ValidationErrorKind as Kind;
    let path = error.instance_path().as_str().to_owned();
    let invalid = |message: String| {
        Violation::new(path.clone(), ViolationKind::Invalid, message).found(error.instance())
    };
    let violation = match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let at = format!("{path}/{}", escape(name));
            Violation::new(at, ViolationKind::Missing, format!("`{name}` is missing"))
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                let at = format!("{path}/{}", escape(name));
                found.push(Violation::new(
                    at,
                    ViolationKind::Invalid,
                    format!("`{}` is not an allowed key", shortened(name)),
                ));
            }
            return;
        }
        Kind::Type { kind } => invalid(format!(
            "wanted {}",
            match kind {
                TypeKind::Single(one) => type_name(one.as_str()).to_owned(),
                TypeKind::Multiple(many) => {
                    many.iter().map(|one| type_name(one.as_str())).collect::<Vec<_>>().join(" or ")
                }
            }
        )),
        Kind::Enum { options } => {
            let list: Vec<String> = options
                .as_array()
                .map(|list| list.iter().map(Value::to_string).collect())
                .unwrap_or_default();
            invalid(format!("wanted one of {}", shortened_list(&list)))
        }
        Kind::Constant { expected_value } => invalid(format!("wanted {}", super::shown(expected_value))),
        Kind::MinItems { limit } => invalid(format!("wanted at least {}", count(*limit, "item"))),
        Kind::MaxItems { limit } => invalid(format!("wanted at most {}", count(*limit, "item"))),
        Kind::MinLength { limit } => invalid(format!("wanted at least {}", count(*limit, "character"))),
        Kind::MaxLength { limit } => invalid(format!("wanted at most {}", count(*limit, "character"))),
        Kind::MinProperties { limit } => invalid(format!("wanted at least {}", count(*limit, "member"))),
        Kind::MaxProperties { limit } => invalid(format!("wanted at most {}", count(*limit, "member"))),
        Kind::Minimum { limit } => invalid(format!("wanted {limit} or more")),
        Kind::Maximum { limit } => invalid(format!("wanted {limit} or less")),
        Kind::ExclusiveMinimum { limit } => invalid(format!("wanted more than {limit}")),
        Kind::ExclusiveMaximum { limit } => invalid(format!("wanted less than {limit}")),
        Kind::Pattern { pattern } => invalid(format!("wanted text that matches `{}`", shortened(pattern))),
        Kind::UniqueItems => invalid("wanted items that all differ".to_owned()),
        Kind::FalseSchema => invalid("nothing is allowed here".to_owned()),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } if depth < 8 => {
            // If all forms but one fail by the type of the value itself, that one was meant.
            let meant: Vec<_> = context
                .iter()
                .filter(|errors| {
                    !errors.iter().any(|inner| {
                        matches!(inner.kind(), Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. })
                            && inner.instance_path().as_str() == path
                    })
                })
                .collect();
            match meant.as_slice() {
                [errors] => {
                    for inner in errors.iter() {
                        describe(inner, found, depth + 1);
                    }
                    return;
                }
                _ => invalid(format!("fits none of the {} allowed forms", context.len())),
            }
        }
        Kind::OneOfMultipleValid { .. } => invalid("fits more than one of the allowed forms".to_owned()),
        _ => invalid(shortened(&error.masked().to_string())),
    };
    found.push(violation);
}

fn type_name(name: &str) -> &str {
    match name {
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "object" => "an object",
        "string" => "a string",
        other => other,
    }
}

fn shortened_list(list: &[String]) -> String {
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if out.len() > 400 {
            out.push_str(&format!("… ({} in all)", list.len()));
            break;
        }
        out.push_str(item);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a model is told of a value that does not fit.
    fn told(schema: Value, value: Value) -> String {
        let compiled = CompiledSchema::compile(schema).expect("a schema");
        let said: Vec<String> = compiled.violations(&value).iter().map(|one| one.to_string()).collect();
        said.join("; ")
    }

    #[test]
    fn every_keyword_is_told_in_words() {
        let many: Vec<String> = (0..60).map(|n| format!("choice number {n}")).collect();
        for (schema, value, wanted) in [
            (json!({"type": ["string", "null"]}), json!(3), "wanted null or a string (found 3)"),
            (json!({"type": "boolean"}), json!("x"), "wanted true or false (found \"x\")"),
            (json!({"type": "integer"}), json!(1.5), "wanted a whole number (found 1.5)"),
            (json!({"const": "yes"}), json!("no"), "wanted \"yes\" (found \"no\")"),
            (json!({"enum": ["a", "b"]}), json!("c"), "wanted one of \"a\", \"b\" (found \"c\")"),
            (json!({"enum": many}), json!("c"), "… (60 in all)"),
            (json!({"minItems": 1}), json!([]), "wanted at least 1 item"),
            (json!({"maxItems": 2}), json!([1, 2, 3]), "wanted at most 2 items"),
            (json!({"minLength": 2}), json!("x"), "wanted at least 2 characters"),
            (json!({"maxLength": 1}), json!("xy"), "wanted at most 1 character"),
            (json!({"minProperties": 1}), json!({}), "wanted at least 1 member"),
            (json!({"maxProperties": 1}), json!({"a": 1, "b": 2}), "wanted at most 1 member"),
            (json!({"minimum": 1}), json!(0), "wanted 1 or more"),
            (json!({"maximum": 1}), json!(2), "wanted 1 or less"),
            (json!({"exclusiveMinimum": 1}), json!(1), "wanted more than 1"),
            (json!({"exclusiveMaximum": 1}), json!(1), "wanted less than 1"),
            (json!({"pattern": "^a"}), json!("b"), "wanted text that matches `^a`"),
            (json!({"uniqueItems": true}), json!([1, 1]), "wanted items that all differ"),
            (json!({"properties": {"a": false}}), json!({"a": 1}), "`/a`: nothing is allowed here"),
            (json!({"required": ["a/b"]}), json!({}), "`/a~1b`: `a/b` is missing"),
            (
                json!({"properties": {"a": {}}, "additionalProperties": false}),
                json!({"x": 1}),
                "`/x`: `x` is not an allowed key",
            ),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
                json!(1),
                "fits none of the 2 allowed forms",
            ),
            (
                json!({"anyOf": [{"type": "null"}, {"type": "object", "required": ["a"]}]}),
                json!({}),
                "`/a`: `a` is missing",
            ),
            (
                json!({"oneOf": [{"minimum": 1}, {"minimum": 2}]}),
                json!(3),
                "fits more than one of the allowed forms",
            ),
            (json!({"multipleOf": 2}), json!(3), "multiple of 2"),
        ] {
            let said = told(schema.clone(), value);
            assert!(said.contains(wanted), "{schema}: {said}");
        }
        assert_eq!(told(json!({"type": "object"}), json!({})), "");
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let refused = |schema: Value| CompiledSchema::compile(schema).expect_err("no schema");
        assert_eq!(refused(json!(3)).message, "a schema is an object");
        assert_eq!(refused(json!({"properties": {"a": {"type": "text"}}})).pointer, "/properties/a/type");
    }
}
