//! What an evaluator's answer comes to: a score and notes, and what follows from them. Pure.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::check::{self, CompiledSchema, Violation};
use crate::project::EvalSpec;
pub use planexe_base::record::Evaluation;

/// What an evaluator said.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// From 0 to 1.
    pub score: f64,
    /// What is good and what is not.
    pub notes: String,
}

/// The schema an evaluator's answer is asked for in, and held against. Notes are asked for, since the next round goes by
/// them; a score without them is a verdict all the same.
pub fn schema() -> &'static Arc<CompiledSchema> {
    static SCHEMA: LazyLock<Arc<CompiledSchema>> = LazyLock::new(|| {
        let schema = |notes: Value, required: &[&str]| {
            json!({
                "type": "object",
                "properties": { "score": { "type": "number", "minimum": 0, "maximum": 1 }, "notes": { "type": notes } },
                "required": required
            })
        };
        let lenient = CompiledSchema::compile(schema(json!(["string", "null"]), &["score"]));
        let mut compiled = lenient.expect("BUG: the evaluator's schema does not compile");
        compiled.value = schema("string".into(), &["score", "notes"]);
        Arc::new(compiled)
    });
    &SCHEMA
}

/// Reads an evaluator's answer; else what is wrong with it.
pub fn read(answer: &str) -> Result<Score, Vec<Violation>> {
    let valid = check::validate(answer, Some(schema()), None)?;
    let value = valid.value.unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    Ok(Score { score: value["score"].as_f64().unwrap_or_default(), notes: text(&value["notes"]) })
}

/// What follows from a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The task is done.
    Done,
    /// It is made again, with the notes.
    Round,
    /// It failed.
    Failed,
}

/// What follows from a score in a round. `failed`: what made it exited with an error.
pub fn next(score: f64, spec: &EvalSpec, round: u32, failed: bool) -> Next {
    let passes = score >= spec.threshold;
    let enough = match spec.refine {
        // Outputs that are there already had their rounds.
        Some(until) => round == 0 || until.0.is_some_and(|until| score >= until),
        None => true,
    };
    match (passes, round < spec.max_rounds) {
        (true, rounds) if enough || !rounds => Next::Done,
        (false, _) if failed => Next::Failed,
        (_, true) => Next::Round,
        (_, false) => Next::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{CommandSpec, Evaluator, Line, Until};
    use planexe_base::record::Digest;

    #[test]
    fn a_score_is_a_number_from_0_to_1() {
        let score = |answer: &str| read(answer).ok().map(|score| score.score);
        for (answer, wanted) in [
            (r#"{"score": 0.7, "notes": ""}"#, Some(0.7)),
            (r#"{"score": 0, "notes": "bad"}"#, Some(0.0)),
            (r#"{"score": 1, "notes": "good"}"#, Some(1.0)),
            ("Here it is:\n```json\n{\"score\": 0.5, \"notes\": \"\"}\n```", Some(0.5)),
            (r#"{"score": 0.5, "notes": "", "more": 1}"#, Some(0.5)),
            (r#"{"score": 0.8}"#, Some(0.8)),
            (r#"{"score": 0.8, "notes": null}"#, Some(0.8)),
            (r#"{"score": 0.8, "notes": 3}"#, None),
            (r#"{"score": 1.2, "notes": ""}"#, None),
            (r#"{"score": -0.1, "notes": ""}"#, None),
            (r#"{"score": NaN, "notes": ""}"#, None),
            (r#"{"score": 1e999, "notes": ""}"#, None),
            (r#"{"score": null, "notes": ""}"#, None),
            (r#"{"score": "high", "notes": ""}"#, None),
            (r#"{"score": "0.8", "notes": ""}"#, None),
            (r#"{"score": 0.1, "score": 0.9, "notes": ""}"#, None),
            (r#"{"notes": ""}"#, None),
            ("0.8", None),
            ("It is very good.", None),
            ("", None),
        ] {
            assert_eq!(score(answer), wanted, "{answer}");
        }
    }

    #[test]
    fn what_follows_from_a_score() {
        let spec = |max_rounds: u32, refine: Option<Option<f64>>| EvalSpec {
            by: Evaluator::Command(CommandSpec {
                line: Line::Shell(String::new()),
                stdout: true,
                in_place: false,
                cwd: None,
                env_names: Vec::new(),
                env_set: Vec::new(),
                calls: None,
            }),
            threshold: 0.7,
            rescue: true,
            max_rounds,
            refine: refine.map(Until),
            max_bytes: 1,
            timeout: None,
            digest: Digest::default(),
        };
        use Next::{Done, Failed, Round};
        for (score, rounds, refine, round, failed, wanted) in [
            (0.7, 2, None, 1, false, Done),
            (0.6999, 2, None, 1, false, Round),
            (0.6999, 2, None, 2, false, Failed),
            (0.6999, 1, None, 1, false, Failed),
            // Outputs that were there count as no round.
            (0.1, 1, None, 0, false, Round),
            // A command that failed has one.
            (0.7, 2, None, 1, true, Done),
            (0.6, 2, None, 1, true, Failed),
            // Refined: whether or not it passes, and the last round decides.
            (0.8, 3, Some(None), 0, false, Done),
            (0.8, 3, Some(None), 1, false, Round),
            (0.1, 3, Some(None), 2, false, Round),
            (0.8, 3, Some(None), 1, true, Round),
            (0.1, 3, Some(None), 1, true, Failed),
            (1.0, 3, Some(None), 3, false, Done),
            (0.6, 3, Some(None), 3, false, Failed),
            (0.9, 3, Some(Some(0.9)), 1, false, Done),
            (0.89, 3, Some(Some(0.9)), 1, false, Round),
            // `until` below the threshold lets nothing pass.
            (0.6, 3, Some(Some(0.5)), 1, false, Round),
        ] {
            let found = next(score, &spec(rounds, refine), round, failed);
            assert_eq!(found, wanted, "{score} in round {round} of {rounds}, {refine:?}, {failed}");
        }
    }
}
