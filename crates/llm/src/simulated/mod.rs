//! Made-up answers: for a dry run of a pipeline's shape, for demonstrations and tests. The same prompt of
//! the same task gives the same answer, shaped by the schema if there is one.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::recorded::Pace;
use super::rng::Rng;
use super::{
    CallContext, CallError, Class, Health, Provider, Reply, Request, Usage, estimate, is_evaluation,
};
use crate::config::{Fail, FailShares, Model};

mod pattern;
mod prose;
mod schema;

use prose::prose;
use schema::Maker;

/// Words of a text answer where the table does not say.
const WORDS: u32 = 120;

/// The provider that makes them up.
pub struct Simulated {
    seed: u64,
    fail: FailShares,
    words: u32,
    price: Option<crate::config::Price>,
    pace: Pace,
    /// How often each prompt was asked, so that a call that failed may pass the next time.
    asked: Mutex<HashMap<String, u64>>,
}

impl Simulated {
    /// Reads the model's table; answers follow from its seed.
    pub fn new(model: &Model) -> Simulated {
        Simulated {
            seed: model.seed.unwrap_or(0),
            fail: match model.fail {
                None => FailShares::default(),
                Some(Fail::Error(error)) => FailShares { error, cut: 0.0 },
                Some(Fail::Shares(shares)) => shares,
            },
            words: model.words.unwrap_or(WORDS).max(1),
            price: model.price,
            pace: Pace::of(model),
            asked: Mutex::default(),
        }
    }
}

/// A random source for these parts.
fn rng_of(seed: u64, parts: &[&str]) -> Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Rng::new(u64::from_le_bytes(bytes))
}

impl Provider for Simulated {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let started = Instant::now();
        let digest = request.digest();
        let key = request.key.as_deref().unwrap_or_default();
        let who = [request.task.as_str(), key, &digest];
        let time = {
            let mut asked = self.asked.lock();
            let time = asked.entry(who.concat()).or_default();
            *time += 1;
            *time
        };
        let draw = rng_of(self.seed, &[who[0], who[1], who[2], &time.to_string()]).unit();
        let usage = |output: &str| Usage {
            input_tokens: estimate::request_tokens(request) + crate::attachment::tokens(&request.files),
            output_tokens: estimate::tokens(output),
            calls: 1,
            ..Usage::default()
        };
        if draw < self.fail.error {
            self.pace.play("", context)?;
            let mut error = CallError::new(Class::ServerError, "a made-up server error (`fail`)");
            error.status = Some(500);
            return Err(error);
        }
        let mut rng = rng_of(self.seed, &who);
        let text = match &request.schema {
            Some(schema) => {
                let mut value = Maker { root: schema, rng: &mut rng }.value(schema, 0);
                // Not of a pipeline that fails at every other task: one that its evaluators are content with.
                if is_evaluation(&request.task)
                    && let Some(score) = value.get_mut("score")
                {
                    *score = json!((75.0 + 25.0 * rng.unit()).round() / 100.0);
                }
                if let Some(check) = &request.check {
                    check.adjust(&mut value, &mut |n| (rng.bits() % n.max(1) as u64) as usize);
                }
                serde_json::to_string_pretty(&value).unwrap_or_default()
            }
            None => {
                let mut whole = Value::String(prose(&mut rng, &request.task, self.words));
                if let Some(check) = &request.check {
                    check.adjust(&mut whole, &mut |n| (rng.bits() % n.max(1) as u64) as usize);
                }
                match whole {
                    Value::String(text) => text,
                    other => other.to_string(),
                }
            }
        };
        if draw < self.fail.error + self.fail.cut {
            let mut half = text.len() / 2;
            while !text.is_char_boundary(half) {
                half += 1;
            }
            self.pace.play(&text[..half], context)?;
            let mut error = CallError::new(Class::Cut, "a made-up cut (`fail`)");
            error.partial = text[..half].to_owned();
            error.usage = usage(&text[..half]);
            return Err(error);
        }
        let first_token_s = self.pace.play(&text, context)?;
        let mut usage = usage(&text);
        if let Some(price) = &self.price {
            usage.cost_usd = super::whole::cost(&usage, price);
        }
        Ok(Reply {
            text,
            usage,
            model: Some("simulated".into()),
            finish: Some("stop".into()),
            first_token_s: Some(first_token_s),
            duration_s: started.elapsed().as_secs_f64(),
            ..Reply::default()
        })
    }

    fn health(&self) -> Health {
        Health::Up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallProgress;
    use planexe_base::cancel::Cancel;

    fn ask(
        simulated: &Simulated,
        task: &str,
        prompt: &str,
        schema: Option<Value>,
    ) -> Result<Reply, CallError> {
        let request = Request { task: task.into(), prompt: prompt.into(), schema, ..Request::default() };
        let context =
            CallContext { cancel: &Cancel::new(), progress: &CallProgress::default(), time_left: None };
        simulated.call(&request, &context)
    }

    #[test]
    fn data_is_valid_under_its_schema() {
        let schemas = [
            json!({ "type": "object", "properties": {
                "name": { "type": "string", "minLength": 40, "maxLength": 60 },
                "short": { "type": "string", "maxLength": 5 },
                "code": { "type": "string", "pattern": "^[A-Z]{2,3}-\\d{4}(a|b)?$" },
                "day": { "type": "string", "format": "date" },
                "at": { "type": "string", "format": "date-time" },
                "id": { "type": "string", "format": "uuid" },
                "mail": { "type": "string", "format": "email" },
                "kind": { "enum": ["a", "b", 3] },
                "fixed": { "const": { "x": 1 } },
                "rate": { "type": "number", "minimum": 0, "maximum": 1 },
                "odd": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5, "multipleOf": 0.25 },
                "count": { "type": "integer", "minimum": 7, "maximum": 7 },
                "year": { "type": "integer", "exclusiveMinimum": 2020 },
                "tags": { "type": "array", "items": { "type": "string" }, "minItems": 5, "uniqueItems": true },
                "few": { "type": "array", "items": { "type": "integer" }, "maxItems": 1 },
                "maybe": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                "nullable": { "type": ["null", "integer"] },
                "map": { "type": "object", "additionalProperties": { "type": "integer" }, "minProperties": 2 },
                "any": true
            }, "required": ["name", "extra"], "additionalProperties": { "type": "boolean" } }),
            json!({ "$ref": "#/$defs/node", "$defs": { "node": {
                "type": "object",
                "properties": {
                    "name": { "type": "string" },
                    "children": { "type": "array", "items": { "$ref": "#/$defs/node" } }
                },
                "required": ["name", "children"], "additionalProperties": false
            } } }),
            json!({ "allOf": [
                { "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] },
                { "properties": { "b": { "type": "string" } }, "required": ["b"] }
            ] }),
            json!({ "type": "array", "items": { "oneOf": [{ "type": "integer" }, { "type": "string" }] } }),
            json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "string" }], "items": false, "maxItems": 2 }),
            json!({ "type": "boolean" }),
            json!({}),
        ];
        for schema in schemas {
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
            for seed in 0..30 {
                let simulated = Simulated::new(&Model { seed: Some(seed), ..Model::default() });
                let reply = ask(&simulated, "t", "p", Some(schema.clone())).unwrap();
                let value: Value = serde_json::from_str(&reply.text).unwrap();
                let faults: Vec<String> =
                    validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
                assert!(faults.is_empty(), "{faults:?}\n{schema}\n{value}");
            }
        }
    }

    #[test]
    fn answers_vary_with_what_is_asked_and_are_the_same_again() {
        let simulated = Simulated::new(&Model { words: Some(30), ..Model::default() });
        let text = |task: &str, prompt: &str| ask(&simulated, task, prompt, None).unwrap().text;
        assert_eq!(text("a", "p"), text("a", "p"));
        assert_ne!(text("a", "p"), text("a", "q"));
        assert_ne!(text("a", "p"), text("b", "p"));
        let other = Simulated::new(&Model { words: Some(30), seed: Some(1), ..Model::default() });
        assert_ne!(text("a", "p"), ask(&other, "a", "p", None).unwrap().text);
        let words = text("a", "p").split_whitespace().count();
        assert!((30..45).contains(&words), "{words}");
    }

    #[test]
    fn the_set_share_goes_wrong_and_passes_on_another_try() {
        let fail = Some(Fail::Shares(FailShares { error: 0.3, cut: 0.2 }));
        let simulated = Simulated::new(&Model { fail, ..Model::default() });
        let results: Vec<_> = (0..400).map(|i| ask(&simulated, "t", &i.to_string(), None)).collect();
        let share = |class| results.iter().filter(|r| r.as_ref().is_err_and(|e| e.class == class)).count();
        assert!((80..160).contains(&share(Class::ServerError)), "{}", share(Class::ServerError));
        assert!((50..110).contains(&share(Class::Cut)), "{}", share(Class::Cut));
        for (index, result) in results.iter().enumerate() {
            if result.is_err() {
                assert!((0..40).any(|_| ask(&simulated, "t", &index.to_string(), None).is_ok()));
            }
        }
    }

    #[derive(Debug)]
    struct Says(Value);

    impl crate::Adjust for Says {
        fn adjust(&self, value: &mut Value, _: &mut dyn FnMut(usize) -> usize) {
            *value = self.0.clone();
        }
    }

    #[test]
    fn a_text_is_mended_as_its_check_wants_it() {
        let simulated = Simulated::new(&Model::default());
        for (mended, text) in [(json!("yes"), "yes"), (json!(2), "2")] {
            let check = Some(std::sync::Arc::new(Says(mended)) as std::sync::Arc<dyn crate::Adjust>);
            let request = Request { task: "t".into(), check, ..Request::default() };
            let context =
                CallContext { cancel: &Cancel::new(), progress: &CallProgress::default(), time_left: None };
            assert_eq!(simulated.call(&request, &context).unwrap().text, text);
        }
    }
}
