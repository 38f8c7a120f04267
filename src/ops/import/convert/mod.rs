//! Answers of PlanExe and PlanExe2 in the form that the flagship asks for: only where each field that is wanted is one of
//! theirs, or follows from one. What they do not tell and may be empty is empty; nothing is made up.

mod decisions;
mod ground;
mod people;
mod work;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::folder::{Folder, words};

/// What PlanExe adds to an answer: how it was asked, by whom it was answered.
const ADDED: [&str; 4] = ["metadata", "system_prompt", "user_prompt", "query"];
/// Most answers made of one file.
const MOST: usize = 500;

/// An answer for a task, or for one item of it.
#[derive(Debug)]
pub struct Answer {
    /// The item's key.
    pub key: Option<String>,
    /// The answer.
    pub value: Value,
}

/// What can be made of a file.
type Convert = fn(&Old<'_>) -> Result<Vec<Answer>, String>;

/// How a file answers a task here.
pub struct Conversion {
    file: &'static str,
    /// The task.
    pub task: &'static str,
    /// The task whose ids it names; it is taken only if that one is.
    pub names: Option<&'static str>,
    /// What is made of it.
    pub convert: Convert,
}

const fn row(
    file: &'static str,
    task: &'static str,
    names: Option<&'static str>,
    convert: Convert,
) -> Conversion {
    Conversion { file, task, names, convert }
}

/// All of them; what names the ids of another comes after it.
const CONVERSIONS: &[Conversion] = &[
    row("redline_gate_raw.json", "redline_gate", None, ground::redline),
    row("plan_type_raw.json", "plan_type", None, ground::plan_type),
    row("physical_locations_raw.json", "physical_locations", None, ground::locations),
    row("currency_strategy_raw.json", "currency_strategy", None, ground::currency),
    row("identify_risks_raw.json", "identify_risks", None, ground::risks),
    row("review_assumptions_raw.json", "review_assumptions", None, ground::review),
    row("related_resources_raw.json", "related_resources", None, ground::resources),
    row("swot_analysis_raw.json", "swot_analysis", None, ground::swot),
    row("potential_levers_raw.json", "potential_levers", None, decisions::levers),
    row("triaged_levers_raw.json", "triage_levers", Some("potential_levers"), decisions::triage),
    row("enriched_levers_raw.json", "enrich_levers", Some("potential_levers"), decisions::enriched),
    row("vital_few_levers_raw.json", "focus_on_vital_few_levers", Some("potential_levers"), decisions::vital),
    row(
        "candidate_scenarios_raw.json",
        "candidate_scenarios",
        Some("focus_on_vital_few_levers"),
        decisions::scenarios,
    ),
    row("selected_scenario_raw.json", "select_scenario", Some("candidate_scenarios"), decisions::selected),
    row("governance_phase1_audit_raw.json", "governance_phase1_audit", None, people::audit),
    row("governance_phase2_bodies_raw.json", "governance_phase2_bodies", None, people::bodies),
    row("governance_phase3_impl_plan_raw.json", "governance_phase3_impl_plan", None, people::steps),
    row(
        "governance_phase4_decision_escalation_matrix_raw.json",
        "governance_phase4_decision_escalation_matrix",
        Some("governance_phase2_bodies"),
        people::matrix,
    ),
    row("find_team_members_raw.json", "find_team_members", None, people::team),
    row(
        "enrich_team_members_contract_type_raw.json",
        "enrich_team_members_contract_type",
        Some("find_team_members"),
        people::contracts,
    ),
    row(
        "enrich_team_members_background_story_raw.json",
        "enrich_team_members_background_story",
        Some("find_team_members"),
        people::backgrounds,
    ),
    row(
        "enrich_team_members_environment_info_raw.json",
        "enrich_team_members_environment_info",
        Some("find_team_members"),
        people::environments,
    ),
    row("review_team_raw.json", "review_team", Some("find_team_members"), people::review),
    row("data_collection_raw.json", "data_collection", Some("find_team_members"), work::data),
    row("identified_documents_raw.json", "identify_documents", None, work::documents),
    row(
        "draft_documents_to_find.json",
        "draft_documents_to_find",
        Some("identify_documents"),
        work::drafts_to_find,
    ),
    row("wbs_level1_raw.json", "create_wbs_level1", None, work::phases),
    row("wbs_level2.json", "create_wbs_level2", Some("create_wbs_level1"), work::tasks),
    row("task_durations.json", "estimate_task_durations", Some("create_wbs_level2"), work::durations),
    row(
        "task_dependencies_raw.json",
        "identify_task_dependencies",
        Some("create_wbs_level2"),
        work::dependencies,
    ),
];

/// The conversion of a file of this name, and its place among all.
pub fn conversion(output: &str) -> Option<(usize, &'static Conversion)> {
    CONVERSIONS.iter().enumerate().find(|(_, of)| of.file == output)
}

/// The files of a folder by the names they have here, and which of them were looked at.
pub struct Old<'a> {
    folder: &'a Folder,
    /// The name in the folder, by the name here.
    names: &'a BTreeMap<String, String>,
    /// The text of the plan.
    pub plan: &'a str,
    used: RefCell<BTreeMap<String, Value>>,
}

impl<'a> Old<'a> {
    /// A look at the folder.
    pub fn new(folder: &'a Folder, names: &'a BTreeMap<String, String>, plan: &'a str) -> Old<'a> {
        Old { folder, names, plan, used: RefCell::default() }
    }

    /// The files that were looked at, by their names in the folder.
    pub fn used(self) -> BTreeMap<String, Value> {
        self.used.into_inner()
    }

    /// The bytes of a file, and its name in the folder.
    fn bytes(&self, name: &str) -> Result<(Vec<u8>, &'a str), String> {
        let Some(file) = self.names.get(name) else { return Err(format!("`{name}` is wanted beside it")) };
        let bytes =
            self.folder.read(file).map_err(|(_, why)| format!("`{name}`, wanted beside it, {why}"))?;
        Ok((bytes, file))
    }

    /// What a file holds, without what PlanExe adds.
    pub fn json(&self, name: &str) -> Result<Value, String> {
        let (bytes, file) = self.bytes(name)?;
        let Ok(found) = serde_json::from_slice::<Value>(&bytes) else { return Err("is no JSON".to_owned()) };
        self.used.borrow_mut().insert(file.to_owned(), found.clone());
        Ok(match found {
            Value::Object(own) => Value::Object(plain(&own)),
            other => other,
        })
    }

    /// The answer in a file: some have it under `response`.
    pub fn answer(&self, name: &str) -> Result<Value, String> {
        let mut found = self.json(name)?;
        Ok(match found.get_mut("response") {
            Some(response @ Value::Object(_)) => response.take(),
            _ => found,
        })
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> Result<String, String> {
        let (bytes, file) = self.bytes(name)?;
        self.used.borrow_mut().insert(file.to_owned(), Value::Null);
        String::from_utf8(bytes).map_err(|_| format!("`{name}` is no UTF-8 text"))
    }
}

/// An answer without what was added to it.
pub fn plain(answer: &Map<String, Value>) -> Map<String, Value> {
    let own = answer.iter().filter(|(key, _)| !ADDED.contains(&key.as_str()));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The one answer of a file.
fn one(value: Value) -> Result<Vec<Answer>, String> {
    Ok(vec![Answer { key: None, value }])
}

/// A text, on one line.
fn text(of: &Value, key: &str) -> String {
    of.get(key).and_then(Value::as_str).map(words).unwrap_or_default()
}

/// A text that must be there.
fn wanted(of: &Value, key: &str) -> Result<String, String> {
    Some(text(of, key)).filter(|text| !text.is_empty()).ok_or_else(|| format!("gives no `{key}`"))
}

/// A list that must be there, with something in it.
fn list<'a>(of: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    let found = of.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
    bounded(found.ok_or_else(|| format!("has no list `{key}`"))?)
}

/// A list of a length that is looked at.
fn bounded(list: &Vec<Value>) -> Result<&Vec<Value>, String> {
    match list.len() {
        0..=MOST => Ok(list),
        more => Err(format!("has a list of {more}; at most {MOST} are looked at")),
    }
}

/// Texts of a list; a text alone is a list of one. Empty ones go.
fn texts(of: &Value, key: &str) -> Vec<String> {
    let all: Vec<&Value> = match of.get(key) {
        Some(Value::Array(list)) => list.iter().take(MOST).collect(),
        Some(other) => vec![other],
        None => Vec::new(),
    };
    all.into_iter().filter_map(Value::as_str).map(words).filter(|text| !text.is_empty()).collect()
}

/// The texts of a list in one.
fn joined(of: &Value, key: &str) -> String {
    texts(of, key).join("; ")
}

/// A text as an id, as the flagship's templates make it.
fn id_of(text: &str) -> String {
    let mut id = String::new();
    for c in text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }) {
        if c != '-' || (!id.is_empty() && !id.ends_with('-')) {
            id.push(c);
        }
    }
    id.truncate(60);
    id.trim_end_matches('-').to_owned()
}

/// Ids of a list, no two alike.
#[derive(Default)]
struct Ids(HashSet<String>);

impl Ids {
    /// The id of a thing by its name; its place in the list, from one, tells it from one of the same name.
    fn make(&mut self, name: &str, place: usize) -> String {
        let own = Some(id_of(name)).filter(|id| !id.is_empty()).unwrap_or_else(|| "n".to_owned());
        let id = match self.0.contains(&own) {
            true => format!("{own}-{place}"),
            false => own,
        };
        self.0.insert(id.clone());
        id
    }
}

#[cfg(test)]
mod test;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_added_goes() {
        let answer = json!({ "a": 1, "metadata": {}, "user_prompt": "x" });
        assert_eq!(Value::Object(plain(answer.as_object().unwrap())), json!({ "a": 1 }));
    }

    #[test]
    fn ids_are_those_of_the_templates_and_differ() {
        let mut ids = Ids::default();
        let made: Vec<String> = ["Rail & Road: A", "Rail / Road – A", "…", "…"]
            .iter()
            .enumerate()
            .map(|(at, name)| ids.make(name, at + 1))
            .collect();
        assert_eq!(made, ["rail-road-a", "rail-road-a-2", "n", "n-4"]);
        assert_eq!(id_of(&"ab ".repeat(40)).len(), 59);
    }
}
