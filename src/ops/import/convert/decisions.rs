//! What can be decided: levers, scenarios and the choice of one.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Answer, Ids, Old, list, one, text, texts, wanted};

type Made = Result<Vec<Answer>, String>;

/// A lever.
struct Lever {
    id: String,
    name: String,
    options: Vec<String>,
    consequences: String,
    review: String,
}

/// The levers, in their order, and their places by the ids they have there.
fn all(from: &Old<'_>) -> Result<(Vec<Lever>, HashMap<String, usize>), String> {
    let answer = from.json("potential_levers_raw.json")?;
    let (mut ids, mut levers, mut by_id) = (Ids::default(), Vec::new(), HashMap::new());
    for (at, it) in list(&answer, "levers")?.iter().enumerate() {
        let name = wanted(it, "name")?;
        let options = texts(it, "options");
        if options.len() != 3 {
            return Err(format!(
                "has a lever with {}; 3 are wanted",
                planexe_base::style::count(options.len() as u64, "option")
            ));
        }
        by_id.insert(wanted(it, "lever_id")?, at);
        levers.push(Lever {
            id: ids.make(&name, at + 1),
            name,
            options,
            consequences: text(it, "consequences"),
            review: text(it, "review"),
        });
    }
    Ok((levers, by_id))
}

/// A lever by the id it has there.
fn known<'a>(levers: &'a (Vec<Lever>, HashMap<String, usize>), of: &Value) -> Result<&'a Lever, String> {
    let id = wanted(of, "lever_id")?;
    levers.1.get(&id).map(|&at| &levers.0[at]).ok_or_else(|| "names a lever that is not there".to_owned())
}

/// The levers. `Controls A vs. B. Weakness: C` is the tension and the blind spot; a review of another form is the blind spot.
pub fn levers(from: &Old<'_>) -> Made {
    let answer = from.json("potential_levers_raw.json")?;
    let rationale: Vec<String> = answer
        .get("responses")
        .and_then(Value::as_array)
        .map(|all| all.iter().map(|it| text(it, "strategic_rationale")).filter(|it| !it.is_empty()).collect())
        .unwrap_or_default();
    let (levers, _) = all(from)?;
    let lever = |it: Lever| {
        let (tension, blind_spot) = split(&it.review);
        json!({
            "id": it.id,
            "name": it.name,
            "tension": tension,
            "options": it.options,
            "consequences": it.consequences,
            "blind_spot": blind_spot,
        })
    };
    let levers: Vec<Value> = levers.into_iter().map(lever).collect();
    one(json!({ "strategic_rationale": rationale.join(" "), "levers": levers }))
}

fn split(review: &str) -> (String, String) {
    let parts = review.strip_prefix("Controls ").and_then(|rest| rest.split_once("Weakness:"));
    let Some((tension, weakness)) = parts else { return (String::new(), review.to_owned()) };
    (tension.trim().trim_end_matches('.').to_owned(), weakness.trim().to_owned())
}

/// Which levers are worth keeping.
pub fn triage(from: &Old<'_>) -> Made {
    let (answer, levers) = (from.json("triaged_levers_raw.json")?, all(from)?);
    let mut decisions = Vec::new();
    for it in list(&answer, "response")? {
        let classification = text(it, "classification");
        if !["primary", "secondary", "remove"].contains(&classification.as_str()) {
            return Err("does not say which of the levers it keeps are the primary ones".to_owned());
        }
        decisions.push(json!({
            "lever_id": known(&levers, it)?.id,
            "classification": classification,
            "justification": text(it, "justification"),
        }));
    }
    one(json!({ "decisions": decisions, "summary": "" }))
}

/// Levers in depth, an answer each.
pub fn enriched(from: &Old<'_>) -> Made {
    let (answer, levers) = (from.json("enriched_levers_raw.json")?, all(from)?);
    let mut answers = Vec::new();
    for it in list(&answer, "characterized_levers")? {
        answers.push(Answer {
            key: Some(known(&levers, it)?.id.clone()),
            value: json!({
                "description": wanted(it, "description")?,
                "synergy": wanted(it, "synergy_text")?,
                "conflict": wanted(it, "conflict_text")?,
                "decide_by": "",
            }),
        });
    }
    Ok(answers)
}

/// The id of a lever here, how much it matters, and why.
type Weight = (String, String, String);

/// How much each lever matters, in their order, and a summary.
fn weights(from: &Old<'_>) -> Result<(Vec<Weight>, String), String> {
    let (answer, levers) = (from.answer("vital_few_levers_raw.json")?, all(from)?);
    let mut weights = Vec::new();
    for it in list(&answer, "lever_assessments")? {
        let importance = text(it, "strategic_importance").to_lowercase();
        if !["critical", "high", "medium", "low"].contains(&importance.as_str()) {
            return Err(format!("has `{importance}` as an importance, which is not known"));
        }
        weights.push((known(&levers, it)?.id.clone(), importance, text(it, "justification")));
    }
    Ok((weights, text(&answer, "summary")))
}

/// The levers that decide most. The tension between them is told with the scenarios.
pub fn vital(from: &Old<'_>) -> Made {
    let (weights, summary) = weights(from)?;
    let tension = wanted(&from.answer("candidate_scenarios_raw.json")?, "core_tension")?;
    let assessment = |(id, importance, why): &Weight| json!({ "lever_id": id, "importance": importance, "justification": why });
    let assessments: Vec<Value> = weights.iter().map(assessment).collect();
    one(json!({ "lever_assessments": assessments, "core_tension": tension, "summary": summary }))
}

/// The names PlanExe's scenarios have here: it asks for them in this order, the most ambitious first.
const STANCES: [&str; 3] = ["bold", "balanced", "cautious"];

/// Three scenarios. What is set has to be one of the options, letter by letter, of a lever that counts among the vital few.
pub fn scenarios(from: &Old<'_>) -> Made {
    let (answer, levers) = (from.answer("candidate_scenarios_raw.json")?, all(from)?.0);
    let vital: Vec<String> = weights(from)?
        .0
        .into_iter()
        .filter(|(_, importance, _)| ["critical", "high"].contains(&importance.as_str()))
        .map(|(id, ..)| id)
        .collect();
    let mut made = json!({ "core_tension": wanted(&answer, "core_tension")? });
    for (stance, it) in STANCES.iter().zip(three(&answer, "scenarios")?) {
        let Some(set) = it.get("lever_settings").and_then(Value::as_object) else {
            return Err("has a scenario without settings".to_owned());
        };
        let mut settings = Vec::new();
        for (name, chosen) in set.iter().take(super::MOST) {
            let chosen = super::words(chosen.as_str().unwrap_or_default());
            let lever = levers.iter().find(|it| it.name == super::words(name));
            let lever = lever.filter(|it| vital.contains(&it.id)).ok_or("sets a lever that is not vital")?;
            let option = lever.options.iter().position(|option| *option == chosen);
            let option = option.ok_or_else(|| format!("sets `{}` to none of its options", lever.name))?;
            settings.push(json!({ "lever_id": lever.id, "option": option + 1, "reason": "" }));
        }
        made[*stance] = json!({
            "name": wanted(it, "scenario_name")?,
            "strategic_logic": text(it, "strategic_logic"),
            "lever_settings": settings,
        });
    }
    one(made)
}

/// The three scenarios.
fn three<'a>(of: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    let all = list(of, key)?;
    match all.len() {
        3 => Ok(all),
        other => Err(format!("has {other} scenarios; 3 are wanted")),
    }
}

/// The choice. Each scenario is one of the three by its name.
pub fn selected(from: &Old<'_>) -> Made {
    let answer = from.answer("selected_scenario_raw.json")?;
    let candidates = from.answer("candidate_scenarios_raw.json")?;
    let mut names = Vec::new();
    for it in three(&candidates, "scenarios")? {
        names.push(wanted(it, "scenario_name")?);
    }
    let stance = |of: &Value, key: &str| {
        let name = wanted(of, key)?;
        let at = names.iter().position(|it| *it == name);
        at.map(|at| STANCES[at]).ok_or_else(|| format!("names a scenario that is not there: {name}"))
    };
    let mut fit = json!({});
    for it in three(&answer, "scenario_assessments")? {
        let score = it.get("fit_score").and_then(Value::as_u64).ok_or("gives no `fit_score`")?;
        fit[stance(it, "scenario_name")?] =
            json!({ "score": score, "assessment": text(it, "fit_assessment") });
    }
    let choice = answer.get("final_choice").ok_or("gives no `final_choice`")?;
    let told = answer.get("plan_characteristics").cloned().unwrap_or_default();
    let characteristic = |key: &str| text(&told, key);
    one(json!({
        "plan_characteristics": {
            "ambition_and_scale": characteristic("ambition_and_scale"),
            "risk_and_novelty": characteristic("risk_and_novelty"),
            "complexity_and_constraints": characteristic("complexity_and_constraints"),
            "domain_and_tone": characteristic("domain_and_tone"),
        },
        "fit": fit,
        "choice": stance(choice, "chosen_scenario_name")?,
        "justification": wanted(choice, "justification")?,
        "would_change": "",
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_review_of_the_known_form_is_a_tension_and_a_blind_spot() {
        let split = |review: &str| super::split(review);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            split("Controls Cost vs. Quality. Weakness: No price."),
            pair("Cost vs. Quality", "No price.")
        );
        assert_eq!(split("The options lack a price."), pair("", "The options lack a price."));
    }
}
