//! What a plan stands on: the red line, places, money, risks, comparable projects, strengths and weaknesses.

use serde_json::{Value, json};

use super::super::folder::words;
use super::{Answer, Ids, Old, joined, list, one, text, texts, wanted};

type Made = Result<Vec<Answer>, String>;

/// PlanExe refuses more than the flagship does, and its refusal is advice where ours ends the run: only that nothing
/// stands against the plan means the same in both.
pub fn redline(from: &Old<'_>) -> Made {
    let answer = from.answer("redline_gate_raw.json")?;
    let concern = answer.get("violation_category").is_some_and(|category| !category.is_null());
    match text(&answer, "verdict").as_str() {
        "ALLOW" if concern => Err("allows the plan and names a violation".to_owned()),
        "ALLOW" => {
            let explanation = wanted(&answer, "rationale_short")?;
            one(
                json!({ "verdict": "allow", "concern": "none", "explanation": explanation, "safeguards": [] }),
            )
        }
        "ALLOW_WITH_SAFETY_FRAMING" => Err("names no safeguards, which `allow-with-care` wants".to_owned()),
        "REFUSE" => Err("refuses by other rules; there that is advice, here it would end the run".to_owned()),
        _ => Err("has no verdict that is known".to_owned()),
    }
}

/// A digital plan has no places; those of a physical one are told beside it.
pub fn plan_type(from: &Old<'_>) -> Made {
    let answer = from.answer("plan_type_raw.json")?;
    let explanation = wanted(&answer, "explanation")?;
    let (kind, places, needs) = match text(&answer, "plan_type").as_str() {
        "digital" => ("digital", Vec::new(), Vec::new()),
        "physical" => {
            let located = from.answer("physical_locations_raw.json")?;
            let places = list(&located, "physical_locations")?.iter().map(place).collect();
            ("physical", places, texts(&located, "requirements_for_the_physical_locations"))
        }
        _ => return Err("has no `plan_type` that is known".to_owned()),
    };
    one(json!({ "explanation": explanation, "plan_type": kind, "places": places, "physical_needs": needs }))
}

/// A place, from near to far, each part once.
fn place(of: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for key in ["physical_location_specific", "physical_location_detailed", "physical_location_broad"] {
        let part = text(of, key);
        if !part.is_empty() && !parts.iter().any(|known| known.contains(&part)) {
            parts.retain(|known| !part.contains(known.as_str()));
            parts.push(part);
        }
    }
    parts.join(", ")
}

/// Places. One that the plan names is given, any other was suggested.
pub fn locations(from: &Old<'_>) -> Made {
    let answer = from.answer("physical_locations_raw.json")?;
    let (mut ids, mut locations) = (Ids::default(), Vec::new());
    let plan = words(from.plan).to_lowercase();
    for (at, it) in list(&answer, "physical_locations")?.iter().enumerate() {
        let name = Some(place(it)).filter(|name| !name.is_empty()).ok_or("has a place without a name")?;
        let named = ["physical_location_specific", "physical_location_detailed"]
            .iter()
            .map(|key| text(it, key).to_lowercase())
            .any(|part| !part.is_empty() && plan.contains(&part));
        locations.push(json!({
            "id": ids.make(&name, at + 1),
            "name": name,
            "role": "",
            "origin": if named { "given" } else { "suggested" },
            "why": text(it, "rationale_for_suggestion"),
            "check_first": "",
        }));
    }
    let requirements = texts(&answer, "requirements_for_the_physical_locations");
    one(json!({
        "requirements": requirements,
        "locations": locations,
        "summary": text(&answer, "location_summary"),
    }))
}

/// The money a plan is counted in.
pub fn currency(from: &Old<'_>) -> Made {
    let answer = from.answer("currency_strategy_raw.json")?;
    let primary = wanted(&answer, "primary_currency")?;
    let all = answer.get("currency_list").and_then(Value::as_array).cloned().unwrap_or_default();
    let others: Vec<Value> = all
        .iter()
        .map(|it| json!({ "currency": text(it, "currency"), "use": text(it, "consideration"), "protection": "" }))
        .filter(|it| it["currency"] != primary.as_str() && it["currency"] != "")
        .collect();
    let reason = wanted(&answer, "currency_strategy")?;
    one(json!({ "primary": primary, "reason": reason, "others": others, "price_basis": "" }))
}

/// Names of areas there, as part of theirs, and the area here. Any other is of how the thing is run.
const AREAS: [(&str, &str); 30] = [
    ("financ", "financial"),
    ("economic", "financial"),
    ("regulat", "legal and permits"),
    ("legal", "legal and permits"),
    ("permit", "legal and permits"),
    ("complian", "legal and permits"),
    ("environment", "environmental"),
    ("suppl", "supply"),
    ("market", "market"),
    ("competit", "market"),
    ("security", "safety"),
    ("safety", "safety"),
    ("health", "safety"),
    ("technic", "technical"),
    ("technolog", "technical"),
    ("integration", "technical"),
    ("data", "technical"),
    ("social", "social"),
    ("politic", "social"),
    ("reputation", "social"),
    ("ethic", "social"),
    ("community", "social"),
    ("cultur", "social"),
    ("currency", "financial"),
    ("vendor", "supply"),
    ("procure", "supply"),
    ("logistic", "supply"),
    ("staff", "organisation"),
    ("operation", "operational"),
    ("organi", "organisation"),
];

/// Risks. Three steps there are the first, third and fifth of ours; the area is the title, in the words it has there.
pub fn risks(from: &Old<'_>) -> Made {
    let answer = from.answer("identify_risks_raw.json")?;
    let step = |of: &Value, key: &str| match text(of, key).as_str() {
        "low" => Ok(1),
        "medium" => Ok(3),
        "high" => Ok(5),
        other => Err(format!("has `{other}` as a `{key}`; `low`, `medium` and `high` are known")),
    };
    let (mut ids, mut risks) = (Ids::default(), Vec::new());
    for (at, it) in list(&answer, "risks")?.iter().enumerate() {
        let name = wanted(it, "risk_area")?;
        let lower = name.to_lowercase();
        let known = AREAS.iter().filter_map(|(part, area)| lower.find(part).map(|at| (at, *area))).min();
        let area = known.map_or("operational", |(_, area)| area);
        risks.push(json!({
            "id": ids.make(&name, at + 1),
            "area": area,
            "title": name,
            "description": wanted(it, "risk_description")?,
            "impact_text": text(it, "potential_impact"),
            "likelihood": step(it, "likelihood")?,
            "impact": step(it, "severity")?,
            "action": text(it, "action"),
            "owner": "",
        }));
    }
    one(json!({ "risks": risks, "summary": wanted(&answer, "risk_assessment_summary")? }))
}

/// The review of the assumptions. It names none of them by an id.
pub fn review(from: &Old<'_>) -> Made {
    let answer = from.answer("review_assumptions_raw.json")?;
    let issue = |it: &Value| {
        json!({
            "assumption_id": "",
            "issue": text(it, "issue"),
            "explanation": text(it, "explanation"),
            "recommendation": text(it, "recommendation"),
            "sensitivity": text(it, "sensitivity"),
        })
    };
    one(json!({
        "expert_domain": wanted(&answer, "expert_domain")?,
        "domain_considerations": texts(&answer, "domain_specific_considerations"),
        "issues": list(&answer, "issues")?.iter().map(issue).collect::<Vec<_>>(),
        "conclusion": wanted(&answer, "conclusion")?,
    }))
}

/// Comparable projects. Nobody looked whether they are as told.
pub fn resources(from: &Old<'_>) -> Made {
    let answer = from.answer("related_resources_raw.json")?;
    let mut resources = Vec::new();
    for it in list(&answer, "suggestion_list")? {
        resources.push(json!({
            "name": wanted(it, "project_name")?,
            "kind": "project",
            "what": text(it, "project_description"),
            "learn": joined(it, "risks_and_challenges_faced"),
            "differs": "",
            "find": joined(it, "where_to_find_more_information"),
            "certainty": "to be checked",
        }));
    }
    one(json!({ "resources": resources }))
}

/// Strengths, weaknesses, opportunities, threats: a sentence each.
pub fn swot(from: &Old<'_>) -> Made {
    let mut answer = from.answer("swot_analysis_raw.json")?;
    if let Some(conduct) = answer.get_mut("response_conduct").filter(|it| it.is_object()) {
        answer = conduct.take();
    }
    let points = |key: &str| -> Vec<Value> {
        texts(&answer, key).into_iter().map(|title| json!({ "title": title, "detail": "" })).collect()
    };
    let advice: Vec<Value> = texts(&answer, "recommendations")
        .into_iter()
        .map(|action| json!({ "action": action, "because": "" }))
        .collect();
    one(json!({
        "strengths": points("strengths"),
        "weaknesses": points("weaknesses"),
        "opportunities": points("opportunities"),
        "threats": points("threats"),
        "recommendations": advice,
        "missing_information": texts(&answer, "missing_information"),
        "questions": texts(&answer, "user_questions"),
    }))
}
