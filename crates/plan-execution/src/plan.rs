//! The plan that is to be carried out, read from the files its run made: phases, tasks and steps with their dates, and
//! what waits for what. Read without trust: these files are a model's answers, laid out by templates.

use std::collections::HashMap;

use jiff::civil::Date;
use serde_json::Value;

use planexe_base::style::clean;

/// The work breakdown, to its third level.
pub const TREE: &str = "wbs_project_level1_and_level2_and_level3.json";
/// Dates, and what waits for what.
pub const SCHEDULE: &str = "schedule.json";
/// The plan for machines: verdict, goal, course.
pub const SUMMARY: &str = "plan_summary.json";
/// What the gate on the verdict found.
pub const GATE: &str = "go_no_go.json";

/// Most steps a plan may have.
pub const MOST: usize = 10_000;
/// Most tasks that one waits for.
const MOST_BEFORE: usize = 100;
/// Characters of one text that are kept.
const LONGEST: usize = 4_000;

/// A plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Its title.
    pub title: String,
    /// What is there at the end.
    pub deliverable: String,
    /// What is wanted.
    pub goal: String,
    /// The course chosen, in a line.
    pub course: String,
    /// The money it is counted in.
    pub currency: String,
    /// `go`, `go-with-conditions`, `no-go`.
    pub verdict: String,
    /// Its phases, in order.
    pub phases: Vec<Phase>,
    /// Days that must be kept: task, day, why.
    pub deadlines: Vec<(String, Date, String)>,
    /// What the plan's own schedule could not use.
    pub ignored: Vec<String>,
}

/// The first level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Phase {
    /// Its id in the plan.
    pub id: String,
    /// Its number.
    pub number: String,
    /// Its title.
    pub title: String,
    /// What it is for.
    pub objective: String,
    /// Its tasks.
    pub tasks: Vec<PlanTask>,
}

/// The second level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanTask {
    /// Its id in the plan.
    pub id: String,
    /// Its number.
    pub number: String,
    /// Its title.
    pub title: String,
    /// What is done.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// How one knows that it is done.
    pub done_when: String,
    /// First and last day, from the schedule.
    pub dates: Option<(Date, Date)>,
    /// Whether the end of the plan hangs on it.
    pub critical: bool,
    /// Ids of tasks that come before it.
    pub waits_for: Vec<String>,
    /// Its steps; none if the plan has none for it.
    pub steps: Vec<Step>,
}

/// The third level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Its number.
    pub number: String,
    /// Its title.
    pub title: String,
    /// What is done.
    pub description: String,
    /// What is there afterwards.
    pub result: String,
    /// Working days.
    pub days: f64,
}

/// Reads a plan from the three files.
pub fn read(tree: &Value, schedule: &Value, summary: &Value) -> Result<Plan, String> {
    let phases = list(tree, "phases").ok_or_else(|| format!("`{TREE}` has no list `phases`"))?;
    let rows = list(schedule, "tasks").ok_or_else(|| format!("`{SCHEDULE}` has no list `tasks`"))?;
    let scenario = |key: &str| summary.pointer(&format!("/scenario/{key}")).map(plain).unwrap_or_default();
    let course = match (scenario("stance"), scenario("name")) {
        (stance, name) if stance.is_empty() || name.is_empty() => stance + &name,
        (stance, name) => format!("{name} ({stance})"),
    };
    let mut plan = Plan {
        title: text(tree, "project_title"),
        deliverable: text(tree, "final_deliverable"),
        goal: text(summary, "goal"),
        course,
        currency: text(summary, "currency"),
        verdict: summary.pointer("/go_no_go/verdict").map(plain).unwrap_or_default(),
        phases: phases.iter().map(phase_of).collect(),
        deadlines: Vec::new(),
        ignored: texts(schedule, "ignored"),
    };
    if plan.title.is_empty() {
        plan.title = "untitled plan".to_owned();
    }
    let steps: usize = plan.tasks().map(|task| task.steps.len().max(1)).sum();
    match steps {
        0 => return Err(format!("`{TREE}` has no tasks")),
        steps if steps > MOST => {
            return Err(format!("`{TREE}` has {steps} steps; more than {MOST} are not carried out"));
        }
        _ => {}
    }
    // Of two rows with one id the first counts.
    let rows: HashMap<String, &Value> = rows.iter().rev().map(|row| (text(row, "id"), row)).collect();
    for phase in &mut plan.phases {
        for task in &mut phase.tasks {
            let Some(row) = rows.get(&task.id) else {
                plan.ignored
                    .push(format!("{} is not in the schedule: no dates, waits for nothing", clean(&task.id)));
                continue;
            };
            let days = date(row, "start").zip(date(row, "finish"));
            task.dates = days.map(|(start, finish)| (start, finish.max(start)));
            task.critical = row.get("critical").and_then(Value::as_bool).unwrap_or_default();
            task.waits_for = texts(row, "waits_for");
            if task.waits_for.len() > MOST_BEFORE {
                let all = task.waits_for.len();
                plan.ignored.push(format!(
                    "{} waits for {all} tasks; the first {MOST_BEFORE} count",
                    clean(&task.id)
                ));
                task.waits_for.truncate(MOST_BEFORE);
            }
        }
    }
    for deadline in list(schedule, "deadlines").unwrap_or_default() {
        if let Some(day) = date(deadline, "date") {
            plan.deadlines.push((text(deadline, "task_id"), day, text(deadline, "reason")));
        }
    }
    Ok(plan)
}

impl Plan {
    /// All tasks, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &PlanTask> {
        self.phases.iter().flat_map(|phase| &phase.tasks)
    }
}

fn phase_of(value: &Value) -> Phase {
    Phase {
        id: text(value, "id"),
        number: text(value, "wbs"),
        title: text(value, "title"),
        objective: text(value, "objective"),
        tasks: list(value, "tasks").unwrap_or_default().iter().map(task_of).collect(),
    }
}

fn task_of(value: &Value) -> PlanTask {
    let owner = Some(text(value, "owner_title")).filter(|owner| !owner.is_empty());
    PlanTask {
        id: text(value, "id"),
        number: text(value, "wbs"),
        title: text(value, "title"),
        description: text(value, "description"),
        owner: owner.unwrap_or_else(|| text(value, "owner")),
        done_when: text(value, "done_when"),
        dates: None,
        critical: false,
        waits_for: Vec::new(),
        steps: list(value, "subtasks").unwrap_or_default().iter().map(step_of).collect(),
    }
}

fn step_of(value: &Value) -> Step {
    let days = value.get("days").and_then(Value::as_f64).unwrap_or_default();
    Step {
        number: text(value, "wbs"),
        title: text(value, "title"),
        description: text(value, "description"),
        result: text(value, "result"),
        days: if days.is_finite() { days.clamp(0.0, 4000.0) } else { 0.0 },
    }
}

fn list<'v>(value: &'v Value, key: &str) -> Option<&'v [Value]> {
    value.get(key)?.as_array().map(Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).map(plain).unwrap_or_default()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    list(value, key).unwrap_or_default().iter().map(plain).collect()
}

/// A string or number as text, no longer than is sound.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.trim(),
        Value::Number(number) => return number.to_string(),
        _ => return String::new(),
    };
    text.chars().take(LONGEST).collect()
}

fn date(value: &Value, key: &str) -> Option<Date> {
    value.get(key)?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_of_the_shape_is_said_or_left_out() {
        let none = json!({});
        assert!(read(&none, &none, &none).unwrap_err().contains("no list `phases`"));
        let tree = json!({"phases": [{"id": 3, "tasks": [{"id": "a", "subtasks": [{"title": ["x"], "days": 1e300}]}, 7]}]});
        assert!(read(&json!({"phases": []}), &json!({"tasks": []}), &none).unwrap_err().contains("no tasks"));
        let schedule = json!({"tasks": [{"id": "a", "start": "2027-03-09", "finish": "2027-03-01", "waits_for": ["b", null]}]});
        let plan = read(&tree, &schedule, &none).unwrap();
        assert_eq!(plan.title, "untitled plan");
        let tasks: Vec<&PlanTask> = plan.tasks().collect();
        assert_eq!((tasks[0].steps[0].title.as_str(), tasks[0].steps[0].days), ("", 4000.0));
        assert_eq!(tasks[0].dates.unwrap().1, jiff::civil::date(2027, 3, 9), "no end before its start");
        assert_eq!(tasks[0].waits_for, ["b", ""]);
        assert_eq!(plan.ignored.len(), 1, "the task without an id has no row: {:?}", plan.ignored);
    }

    #[test]
    fn very_long_texts_are_cut() {
        let tree = json!({"project_title": "x".repeat(100_000), "phases": [{"tasks": [{"id": "a"}]}]});
        let plan = read(&tree, &json!({"tasks": []}), &json!({})).unwrap();
        assert_eq!(plan.title.len(), LONGEST);
    }
}
