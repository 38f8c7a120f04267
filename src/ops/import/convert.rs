//! Answers of PlanExe and PlanExe2 in the form that the flagship asks for: only where each field that is wanted is one of
//! theirs, or follows from one. Nothing is made up.

use serde_json::{Map, Value, json};

/// What PlanExe adds to an answer: how it was asked, by whom it was answered.
pub const ADDED: [&str; 4] = ["metadata", "system_prompt", "user_prompt", "query"];

/// An answer without what was added to it.
pub fn plain(answer: &Map<String, Value>) -> Map<String, Value> {
    let own = answer.iter().filter(|(key, _)| !ADDED.contains(&key.as_str()));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The answer for the output of a task; none if there is no way. The error says what the folder's answer lacks.
pub fn convert(output: &str, answer: &Map<String, Value>) -> Option<Result<Value, String>> {
    match output {
        "redline_gate_raw.json" => Some(redline(answer)),
        "plan_type_raw.json" => Some(plan_type(answer)),
        _ => None,
    }
}

fn text<'a>(answer: &'a Map<String, Value>, key: &str) -> &'a str {
    answer.get(key).and_then(Value::as_str).map_or("", str::trim)
}

/// PlanExe refuses more than the flagship does, and its refusal is advice where ours ends the run: only that nothing
/// stands against the plan means the same in both.
fn redline(answer: &Map<String, Value>) -> Result<Value, String> {
    let explanation = text(answer, "rationale_short");
    let concern = answer.get("violation_category").is_some_and(|category| !category.is_null());
    match text(answer, "verdict") {
        "ALLOW" if explanation.is_empty() => Err("gives no reason (`rationale_short`)".to_owned()),
        "ALLOW" if concern => Err("allows the plan and names a violation".to_owned()),
        "ALLOW" => {
            Ok(json!({ "verdict": "allow", "concern": "none", "explanation": explanation, "safeguards": [] }))
        }
        "ALLOW_WITH_SAFETY_FRAMING" => Err("names no safeguards, which `allow-with-care` wants".to_owned()),
        "REFUSE" => Err("refuses by other rules; there that is advice, here it would end the run".to_owned()),
        _ => Err("has no verdict that is known".to_owned()),
    }
}

/// A digital plan has no places. Those of a physical one are not told there.
fn plan_type(answer: &Map<String, Value>) -> Result<Value, String> {
    let explanation = text(answer, "explanation");
    match text(answer, "plan_type") {
        _ if explanation.is_empty() => Err("gives no `explanation`".to_owned()),
        "digital" => Ok(
            json!({ "explanation": explanation, "plan_type": "digital", "places": [], "physical_needs": [] }),
        ),
        "physical" => Err("names neither the places nor the physical needs that are wanted".to_owned()),
        _ => Err("has no `plan_type` that is known".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_is_converted() {
        let of = |output: &str, answer: Value| {
            let answer = answer.as_object().cloned().unwrap_or_default();
            convert(output, &answer).unwrap().map_err(|_| ())
        };
        let redline = |verdict: &str, why: &str, category: Value| {
            of(
                "redline_gate_raw.json",
                json!({ "verdict": verdict, "rationale_short": why, "violation_category": category }),
            )
        };
        assert_eq!(
            redline("ALLOW", "A bakery.", Value::Null),
            Ok(
                json!({ "verdict": "allow", "concern": "none", "explanation": "A bakery.", "safeguards": [] })
            )
        );
        for (verdict, why, category) in [
            ("ALLOW", "", Value::Null),
            ("ALLOW", "A bakery.", json!("Weapons")),
            ("ALLOW_WITH_SAFETY_FRAMING", "Knives.", Value::Null),
            ("REFUSE", "A bomb.", json!("Weapons")),
            ("allow", "A bakery.", Value::Null),
        ] {
            assert!(redline(verdict, why, category).is_err(), "{verdict} {why}");
        }
        let kind =
            |kind: &str| of("plan_type_raw.json", json!({ "plan_type": kind, "explanation": "It is." }));
        assert_eq!(kind("digital").unwrap()["places"], json!([]));
        assert!(kind("physical").is_err() && kind("").is_err());
        assert!(convert("swot_analysis_raw.json", &Map::new()).is_none());
    }

    #[test]
    fn what_was_added_goes() {
        let answer = json!({ "a": 1, "metadata": {}, "user_prompt": "x" });
        assert_eq!(Value::Object(plain(answer.as_object().unwrap())), json!({ "a": 1 }));
    }
}
