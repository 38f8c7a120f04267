//! Who does it, and who decides: roles, contracts, bodies.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::folder::words;
use super::{Answer, Ids, Old, joined, list, one, text, texts, wanted};

type Made = Result<Vec<Answer>, String>;

/// The roles: their ids here, and their titles, in their order.
pub fn roles(from: &Old<'_>) -> Result<Vec<(String, String)>, String> {
    let answer = from.answer("find_team_members_raw.json")?;
    let mut ids = Ids::default();
    let all = list(&answer, "brainstorm_of_needed_team_members")?.iter().enumerate();
    all.map(|(at, it)| {
        let title = wanted(it, "job_category_title")?;
        Ok((ids.make(&title, at + 1), title))
    })
    .collect()
}

/// The answers on roles by the numbers they have there, from one.
fn by_number(from: &Old<'_>, name: &str) -> Result<Vec<(String, Value)>, String> {
    let (answer, roles) = (from.answer(name)?, roles(from)?);
    let member = |it: &Value| {
        let number = it.get("id").and_then(Value::as_u64).unwrap_or(0) as usize;
        let role = number.checked_sub(1).and_then(|at| roles.get(at));
        role.map(|(id, _)| (id.clone(), it.clone()))
            .ok_or_else(|| "names a role that is not there".to_owned())
    };
    list(&answer, "team_members")?.iter().map(member).collect()
}

const FULL: &str = "full_time_employee";
const PART: &str = "part_time_employee";

/// How many people a role wants, and in which words: a number, or `min 1, max 3, depending on …`, of which the least
/// counts and the words are kept.
fn people(of: &Value) -> Option<(u64, String)> {
    let told = match of.get("people_needed")? {
        Value::String(told) => words(told),
        other => return Some((other.as_u64()?, String::new())),
    };
    let Some(least) = told.strip_prefix("min ") else { return Some((told.parse().ok()?, String::new())) };
    Some((least.split(',').next()?.trim().parse().ok()?, told))
}

/// The roles. Full time or part time is told by the contract.
pub fn team(from: &Old<'_>) -> Made {
    let answer = from.answer("find_team_members_raw.json")?;
    let contracts: HashMap<String, Value> = by_number(from, "enrich_team_members_contract_type_raw.json")
        .unwrap_or_default()
        .into_iter()
        .collect();
    let mut members = Vec::new();
    for ((id, title), it) in roles(from)?.iter().zip(list(&answer, "brainstorm_of_needed_team_members")?) {
        let (least, told) =
            people(it).ok_or_else(|| format!("does not say in a number how many `{title}` are needed"))?;
        let commitment = match contracts.get(id).map(|it| text(it, "contract_type")).as_deref() {
            Some(FULL) => "full time",
            Some(PART) => "part time",
            _ => "",
        };
        let commitment =
            [commitment, told.as_str()].iter().filter(|it| !it.is_empty()).copied().collect::<Vec<_>>();
        members.push(json!({
            "id": id,
            "title": title,
            "explanation": text(it, "short_explanation"),
            "people_needed": least,
            "commitment": commitment.join(", "),
            "without": text(it, "consequences_of_not_having_this_role"),
        }));
    }
    one(json!({ "members": members }))
}

/// The contracts.
pub fn contracts(from: &Old<'_>) -> Made {
    let mut members = Vec::new();
    for (id, it) in by_number(from, "enrich_team_members_contract_type_raw.json")? {
        let kind = match text(&it, "contract_type").as_str() {
            FULL | PART => "employee",
            "independent_contractor" => "contractor",
            "agency_temp" => "agency",
            other => return Err(format!("has the contract `{other}`, which is not known here")),
        };
        members
            .push(json!({ "id": id, "contract_type": kind, "contract_reason": text(&it, "justification") }));
    }
    one(json!({ "members": members }))
}

/// Who can fill each role.
pub fn backgrounds(from: &Old<'_>) -> Made {
    let mut members = Vec::new();
    for (id, it) in by_number(from, "enrich_team_members_background_story_raw.json")? {
        let background = text(&it, "job_background_story_of_employee");
        members.push(
            json!({ "id": id, "background": background, "activities": texts(&it, "typical_job_activities") }),
        );
    }
    one(json!({ "members": members }))
}

/// What each role works with.
pub fn environments(from: &Old<'_>) -> Made {
    let mut members = Vec::new();
    for (id, it) in by_number(from, "enrich_team_members_environment_info_raw.json")? {
        let (equipment, facilities) = (texts(&it, "equipment_needs"), texts(&it, "facility_needs"));
        members.push(json!({ "id": id, "equipment": equipment, "facilities": facilities }));
    }
    one(json!({ "members": members }))
}

/// What the team lacks.
pub fn review(from: &Old<'_>) -> Made {
    let answer = from.answer("review_team_raw.json")?;
    let points = |key: &str| -> Result<Vec<Value>, String> {
        let point = |it: &Value| {
            let (issue, explanation) = (wanted(it, "issue")?, text(it, "explanation"));
            Ok(
                json!({ "issue": issue, "explanation": explanation, "recommendation": text(it, "recommendation") }),
            )
        };
        list(&answer, key)?.iter().map(point).collect()
    };
    one(json!({ "omissions": points("omissions")?, "improvements": points("potential_improvements")? }))
}

/// What could go wrong with money and power.
pub fn audit(from: &Old<'_>) -> Made {
    let answer = from.answer("governance_phase1_audit_raw.json")?;
    let risks = texts(&answer, "corruption_list").into_iter();
    let audits = texts(&answer, "audit_procedures").into_iter();
    one(json!({
        "corruption_risks": risks.map(|risk| json!({ "risk": risk, "where": "", "sign": "" })).collect::<Vec<_>>(),
        "misallocation_risks": texts(&answer, "misallocation_list"),
        "audits": audits.map(|audit| json!({ "audit": audit, "when": "", "by": "" })).collect::<Vec<_>>(),
        "transparency": texts(&answer, "transparency_measures"),
    }))
}

/// The bodies: their ids here, and their names.
fn names(from: &Old<'_>) -> Result<(Vec<(String, String)>, Value), String> {
    let answer = from.answer("governance_phase2_bodies_raw.json")?;
    let mut ids = Ids::default();
    let mut names = Vec::new();
    for (at, it) in list(&answer, "internal_governance_bodies")?.iter().enumerate() {
        let name = wanted(it, "name")?;
        names.push((ids.make(&name, at + 1), name));
    }
    Ok((names, answer))
}

/// The one body that a text names; none if it names none, or several.
fn named<'a>(bodies: &'a [(String, String)], text: &str, but: &str) -> &'a str {
    let text = text.to_lowercase();
    let mut found =
        bodies.iter().filter(|(id, name)| id != but && text.contains(&name.to_lowercase())).map(|(id, _)| id);
    match (found.next(), found.next()) {
        (Some(id), None) => id,
        _ => "",
    }
}

/// Who decides what. Where it goes up is kept in the words there, too.
pub fn bodies(from: &Old<'_>) -> Made {
    let (names, answer) = names(from)?;
    let mut bodies = Vec::new();
    for ((id, name), it) in names.iter().zip(list(&answer, "internal_governance_bodies")?) {
        let path = text(it, "escalation_path");
        let up = named(&names, &path, id);
        let rule = text(it, "decision_mechanism");
        let rule = if path.is_empty() { rule } else { format!("{rule} Goes up: {path}") };
        bodies.push(json!({
            "id": id,
            "name": name,
            "why": text(it, "rationale_for_inclusion"),
            "members": texts(it, "membership"),
            "responsibilities": texts(it, "responsibilities"),
            "authority": text(it, "decision_rights"),
            "rule": rule.trim(),
            "meets": text(it, "meeting_cadence"),
            "escalates_to": up,
        }));
    }
    one(json!({ "bodies": bodies }))
}

/// How the bodies come into being.
pub fn steps(from: &Old<'_>) -> Made {
    let answer = from.answer("governance_phase3_impl_plan_raw.json")?;
    let mut steps = Vec::new();
    for it in list(&answer, "governance_implementation_plan")? {
        steps.push(json!({
            "step": wanted(it, "step_description")?,
            "responsible": text(it, "responsible_body_or_role"),
            "due": text(it, "suggested_timeframe"),
            "output": joined(it, "key_outputs_deliverables"),
            "needs": joined(it, "dependencies"),
        }));
    }
    one(json!({ "steps": steps }))
}

/// Which decision goes where. What is no body of the plan is told in words.
pub fn matrix(from: &Old<'_>) -> Made {
    let (answer, bodies) =
        (from.answer("governance_phase4_decision_escalation_matrix_raw.json")?, names(from)?.0);
    let mut rows = Vec::new();
    for it in list(&answer, "decision_escalation_matrix")? {
        let to = text(it, "escalation_level");
        let rationale = format!("{} {}", text(it, "rationale"), text(it, "approval_process"));
        let up = named(&bodies, &to, "");
        let threshold = match up.is_empty() && !to.is_empty() {
            true => format!("Goes to: {to}. {rationale}"),
            false => rationale,
        };
        rows.push(json!({
            "issue": wanted(it, "issue_type")?,
            "decided_by": "",
            "threshold": threshold.trim(),
            "escalates_to": up,
            "answer_within": "",
            "if_not": text(it, "negative_consequences"),
        }));
    }
    one(json!({ "rows": rows }))
}
