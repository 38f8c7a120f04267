//! What is done, found out and written: work breakdown, durations, data, documents.

use std::collections::HashMap;

use planexe_pipeline::items;
use serde_json::{Value, json};

use super::{Answer, Ids, Old, bounded, joined, list, one, people, text, texts, wanted};

type Made = Result<Vec<Answer>, String>;

/// What has to be found out. The owner is a role if one of those named there is one.
pub fn data(from: &Old<'_>) -> Made {
    let (answer, roles) = (from.answer("data_collection_raw.json")?, people::roles(from)?);
    let (mut ids, mut all) = (Ids::default(), Vec::new());
    for (at, it) in list(&answer, "data_collection_list")?.iter().enumerate() {
        let title = wanted(it, "title")?;
        let named: Vec<String> =
            texts(it, "responsible_parties").iter().map(|it| it.to_lowercase()).collect();
        let owner = roles.iter().find(|(_, title)| named.contains(&title.to_lowercase()));
        let method = [joined(it, "simulation_steps"), joined(it, "expert_validation_steps")].join("; ");
        all.push(json!({
            "id": ids.make(&title, at + 1),
            "question": title,
            "decides": text(it, "rationale"),
            "data": texts(it, "data_to_collect"),
            "method": method.trim_matches([';', ' ']),
            "owner": owner.map_or("", |(id, _)| id),
            "due": text(it, "smart_validation_objective"),
            "cost": "",
            "assumption_id": "",
        }));
    }
    one(json!({ "items": all, "summary": text(&answer, "summary") }))
}

/// Documents to find and to write. Those that the filter kept count: critical ones are essential.
pub fn documents(from: &Old<'_>) -> Made {
    let answer = from.answer("identified_documents_raw.json")?;
    let find = weights(from, "filter_documents_to_find")?;
    let create = weights(from, "filter_documents_to_create")?;
    let (mut ids, mut to_find) = (Ids::default(), Vec::new());
    for (at, it) in both(&answer, "documents_to_find")?.into_iter().enumerate() {
        let name = wanted(it, "document_name")?;
        let (weight, reason) = weight(&find, at, &name)?;
        to_find.push(json!({
            "id": ids.make(&name, at + 1),
            "name": name,
            "why": text(it, "description"),
            "source": joined(it, "steps_to_find"),
            "needed_by": "",
            "weight": weight,
            "reason": reason,
        }));
    }
    let (mut ids, mut to_create) = (Ids::default(), Vec::new());
    for (at, it) in both(&answer, "documents_to_create")?.into_iter().enumerate() {
        let name = wanted(it, "document_name")?;
        let (weight, reason) = weight(&create, at, &name)?;
        to_create.push(json!({
            "id": ids.make(&name, at + 1),
            "name": name,
            "why": text(it, "description"),
            "owner": text(it, "responsible_role_type"),
            "needed_by": "",
            "weight": weight,
            "reason": reason,
        }));
    }
    one(json!({ "to_find": to_find, "to_create": to_create }))
}

/// A list and its second part, which some versions have.
fn both<'a>(of: &'a Value, key: &str) -> Result<Vec<&'a Value>, String> {
    let second = of.get(format!("{key}_part2")).and_then(Value::as_array);
    let mut all: Vec<&Value> = list(of, key)?.iter().collect();
    if let Some(second) = second {
        all.extend(bounded(second)?);
    }
    Ok(all)
}

/// What a filter says of documents by their places, and the names of those it kept.
struct Weights {
    rated: HashMap<usize, (String, String)>,
    kept: Vec<String>,
}

fn weights(from: &Old<'_>, filter: &str) -> Result<Weights, String> {
    let (raw, clean) =
        (from.answer(&format!("{filter}_raw.json"))?, from.json(&format!("{filter}_clean.json"))?);
    let mut rated = HashMap::new();
    for it in list(&raw, "document_list")? {
        let place = it.get("id").and_then(Value::as_u64).ok_or("has a document without a number")?;
        rated.insert(place as usize, (text(it, "impact_rating"), text(it, "rationale")));
    }
    let kept = bounded(clean.as_array().ok_or("has no list of the documents kept")?)?;
    Ok(Weights { rated, kept: kept.iter().map(|it| text(it, "document_name")).collect() })
}

fn weight(of: &Weights, place: usize, name: &str) -> Result<(&'static str, String), String> {
    let rated = of.rated.get(&place).cloned();
    let (rating, reason) = rated.ok_or_else(|| format!("has a document that nobody rated: {name}"))?;
    let weight = match of.kept.iter().any(|kept| kept == name) {
        true if rating == "Critical" => "essential",
        true => "useful",
        false => "leave out",
    };
    Ok((weight, reason))
}

/// How each document that was kept is found.
pub fn drafts_to_find(from: &Old<'_>) -> Made {
    let named = documents(from)?.remove(0).value;
    let drafts = from.json("draft_documents_to_find.json")?;
    let mut answers = Vec::new();
    for it in bounded(drafts.as_array().ok_or("is no list")?)? {
        let name = wanted(it, "document_name")?;
        let of = list(&named, "to_find")?.iter().find(|of| of["name"] == name.as_str());
        let of = of.ok_or_else(|| format!("drafts a document that is not there: {name}"))?;
        let missing = [text(it, "worst_case_scenario"), joined(it, "fallback_alternative_approaches")];
        answers.push(Answer {
            key: Some(text(of, "id")),
            value: json!({
                "essential": texts(it, "essential_information"),
                "steps": texts(it, "steps_to_find"),
                "quality": joined(it, "risks_of_poor_quality"),
                "if_missing": missing.join(" ").trim(),
                "effort": text(it, "access_difficulty"),
            }),
        });
    }
    Ok(answers)
}

/// A phase as it is there.
struct Phase {
    uuid: String,
    id: String,
    title: String,
    /// The tasks: uuid, id, title.
    tasks: Vec<(String, String, String)>,
}

/// Phases and tasks. A task that repeats an id of an earlier phase has the phase's in front, as in the tree here.
fn tree(from: &Old<'_>) -> Result<Vec<Phase>, String> {
    let found = from.json("wbs_level2.json")?;
    let all = bounded(found.as_array().ok_or("`wbs_level2.json` is no list")?)?;
    let (mut ids, mut phases) = (Ids::default(), Vec::new());
    let mut seen: Vec<String> = Vec::new();
    for (at, it) in all.iter().enumerate() {
        let title = wanted(it, "major_phase_title")?;
        let id = ids.make(&title, at + 1);
        let (mut within, mut tasks) = (Ids::default(), Vec::new());
        for (at, task) in list(it, "subtasks")?.iter().enumerate() {
            let title = wanted(task, "description")?;
            let own = within.make(&title, at + 1);
            let own = if seen.contains(&own) { format!("{id}-{own}") } else { own };
            let own = if seen.contains(&own) { format!("{own}-{}", at + 1) } else { own };
            seen.push(own.clone());
            tasks.push((wanted(task, "id")?, own, title));
        }
        phases.push(Phase { uuid: wanted(it, "id")?, id, title, tasks });
    }
    Ok(phases)
}

/// Title and phases. From which month to which a phase lasts is what its chart says (`schedule_gantt_machai.csv`).
pub fn phases(from: &Old<'_>) -> Made {
    let (answer, tree) = (from.answer("wbs_level1_raw.json")?, tree(from)?);
    let chart = from.text("wbs.csv").or_else(|_| from.text("schedule_gantt_machai.csv"))?;
    let mut dates: HashMap<String, (Month, Month)> = HashMap::new();
    let mut first = None;
    for row in rows(&chart).into_iter().skip(1) {
        let cell = |at: usize| row.get(at).map_or("", String::as_str);
        let (Some(start), Some(end)) = (month(cell(3)), month(cell(4))) else { continue };
        first = Some(first.map_or(start, |first: Month| first.min(start)));
        dates.insert(cell(0).to_owned(), (start, end));
    }
    let first = first.ok_or("`schedule_gantt_machai.csv`, wanted beside it, has no dates")?;
    let mut phases = Vec::new();
    for it in tree {
        let found = dates.get(&it.uuid);
        let (start, end) = *found.ok_or_else(|| format!("has a phase without dates: {}", it.title))?;
        phases.push(json!({
            "id": it.id,
            "title": it.title,
            "objective": "",
            "start_month": start.0 - first.0 + 1,
            "end_month": end.0 - first.0 + 1,
            "calendar": format!("{} to {}", start.name(), end.name()),
            "deliverables": [],
        }));
    }
    one(json!({
        "project_title": wanted(&answer, "project_title")?,
        "final_deliverable": text(&answer, "final_deliverable"),
        "phases": phases,
    }))
}

/// The tasks of each phase.
pub fn tasks(from: &Old<'_>) -> Made {
    let task = |(_, id, title): (String, String, String)| json!({ "id": id, "title": title, "description": "", "owner": "", "done_when": "" });
    let phase = |it: Phase| Answer {
        key: Some(it.id),
        value: json!({ "tasks": it.tasks.into_iter().map(task).collect::<Vec<_>>() }),
    };
    Ok(tree(from)?.into_iter().map(phase).collect())
}

/// How long tasks take, in the batches of four that are asked here. A batch without any is asked.
pub fn durations(from: &Old<'_>) -> Made {
    let found = from.json("task_durations.json")?;
    let mut known: HashMap<String, &Value> = HashMap::new();
    for it in bounded(found.as_array().ok_or("is no list")?)? {
        known.insert(wanted(it, "task_id")?, it);
    }
    let (mut shown, mut estimates) = (Vec::new(), Vec::new());
    for (phase, it) in tree(from)?.iter().enumerate() {
        for (task, (uuid, id, title)) in it.tasks.iter().enumerate() {
            // As in `wbs_project_level1_and_level2.json`: the batch is found by what it holds.
            shown.push(json!({
                "wbs": format!("{}.{}", phase + 1, task + 1), "id": id, "title": title, "description": "",
                "owner": "", "owner_title": "", "done_when": "",
            }));
            // What it says of a task that nobody could estimate (-1 days) is no estimate.
            let told = known.get(uuid).and_then(|of| {
                let days = |key: &str| of.get(key).and_then(Value::as_u64).filter(|&days| days > 0);
                Some((days("days_min")?, days("days_realistic")?, days("days_max")?, text(of, "delay_risks")))
            });
            let Some((least, likely, most, drives)) = told.filter(|(.., drives)| !drives.is_empty()) else {
                estimates.push(None);
                continue;
            };
            estimates.push(Some(json!({
                "task_id": id, "days_min": least, "days_likely": likely, "days_max": most, "drives": drives,
            })));
        }
    }
    let batches = items::batches(&shown.iter().collect::<Vec<_>>(), BATCH);
    let keys = items::keys(&batches.iter().collect::<Vec<_>>(), None).map_err(|why| why.message)?;
    let answer = |(key, of): (String, &[Option<Value>])| {
        let told: Vec<&Value> = of.iter().flatten().collect();
        (!told.is_empty()).then(|| Answer { key: Some(key), value: json!({ "durations": told }) })
    };
    Ok(keys.into_iter().zip(estimates.chunks(BATCH)).filter_map(answer).collect())
}

/// Tasks whose durations are asked for at once.
const BATCH: usize = 4;

/// Which tasks wait for which.
pub fn dependencies(from: &Old<'_>) -> Made {
    let answer = from.answer("task_dependencies_raw.json")?;
    let tree = tree(from)?;
    let ids: HashMap<&str, &str> =
        tree.iter().flat_map(|it| &it.tasks).map(|(uuid, id, _)| (uuid.as_str(), id.as_str())).collect();
    let id = |uuid: &str| {
        ids.get(uuid).copied().ok_or_else(|| "names a task that is not there, or a whole phase".to_owned())
    };
    let mut all = Vec::new();
    for it in list(&answer, "task_dependency_details")? {
        let waits = texts(it, "depends_on_task_id_list");
        if waits.is_empty() {
            continue;
        }
        let waits = waits.iter().map(|uuid| id(uuid)).collect::<Result<Vec<_>, _>>()?;
        let task = id(&wanted(it, "dependent_task_id")?)?;
        let reason = joined(it, "depends_on_task_explanation_list");
        all.push(json!({ "task_id": task, "depends_on": waits, "reason": reason }));
    }
    one(json!({ "dependencies": all, "dates": [] }))
}

/// A month, counted from the year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month(u32);

const NAMES: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Month {
    fn name(self) -> String {
        format!("{} {}", NAMES[(self.0 % 12) as usize], self.0 / 12)
    }
}

/// The month of a day written `3/10/2026`.
fn month(day: &str) -> Option<Month> {
    let (month, rest) = day.split_once('/')?;
    let (day, year) = rest.split_once('/')?;
    let (month, day, year) =
        (month.parse::<u32>().ok()?, day.parse::<u32>().ok()?, year.parse::<u32>().ok()?);
    ((1..=12).contains(&month) && (1..=31).contains(&day) && (1000..=9999).contains(&year))
        .then(|| Month(year * 12 + month - 1))
}

/// The rows of a table with commas and quotes.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell).trim_end_matches('\r').to_owned());
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_quotes_and_lines_within_them() {
        let table = rows("a,b\r\n\"x, \"\"y\"\"\nz\",2\nlast,");
        assert_eq!(table, [vec!["a", "b"], vec!["x, \"y\"\nz", "2"], vec!["last", ""]]);
        assert_eq!(rows(""), Vec::<Vec<String>>::new());
    }

    #[test]
    fn months_of_days() {
        assert_eq!(month("3/10/2026").map(Month::name), Some("Mar 2026".to_owned()));
        for day in ["", "13/1/2026", "3/10", "3/10/99999999999", "2026-03-10"] {
            assert_eq!(month(day), None, "{day}");
        }
    }
}
