//! The files of a project of work: the same plan and the same rules give the same bytes.

use jiff::civil::Date;
use serde_json::{Value, json};

use super::plan::Plan;
use super::project::{CONTEXT, Item, Project, SCHEDULE, Stage, Work};
use super::rules::Ruler;
use super::{pipeline, readme};

/// What git is not to look at: records that are nobody's work, and logs.
const IGNORED: &str = "/.planexe/\n/*.jsonl\n/activity_overview.json\n";

/// What is needed beside the plan and the rules.
#[derive(Debug, Clone, Default)]
pub struct Besides {
    /// The language answers are wanted in.
    pub language: String,
    /// `plan_summary.json`, to be copied.
    pub summary: String,
    /// The plan's own text, to be copied.
    pub text: Option<String>,
}

impl Project<'_> {
    /// Its files: paths and texts, the pipeline last.
    pub fn files(&self, plan: &Plan, ruler: &Ruler, besides: &Besides) -> Vec<(String, String)> {
        let mut files = vec![
            (".gitignore".to_owned(), IGNORED.to_owned()),
            ("README.md".to_owned(), readme::text(plan, self)),
            ("prompts/system.md".to_owned(), include_str!("system.md").to_owned()),
            ("prompts/deliver.md".to_owned(), include_str!("deliver.md").to_owned()),
            ("plan/plan_summary.json".to_owned(), besides.summary.clone()),
            (CONTEXT.to_owned(), pretty(&context(plan, &besides.language))),
            (SCHEDULE.to_owned(), pretty(&schedule(plan, &self.stages))),
        ];
        files.extend(besides.text.iter().map(|text| ("plan/plan.txt".to_owned(), text.clone())));
        files.extend(self.items().map(|item| (item.given_path(), pretty(&item.given))));
        files.push(("pipeline.toml".to_owned(), pipeline::text(plan, self, ruler.rules.git)));
        files
    }
}

fn context(plan: &Plan, language: &str) -> Value {
    json!({
        "title": plan.title,
        "goal": plan.goal,
        "final_deliverable": plan.deliverable,
        "course": plan.course,
        "currency": plan.currency,
        "language": language,
    })
}

/// Planned dates in the form `planexe gantt` reads.
fn schedule(plan: &Plan, stages: &[Stage<'_>]) -> Value {
    let row = |level: u32, task: &str, number: &str, title: &str, dates: Option<(Date, Date)>| {
        let mut row = json!({ "level": level, "task": task, "title": format!("{number} {title}").trim() });
        if let Some((start, finish)) = dates {
            row["start"] = json!(start.to_string());
            row["finish"] = json!(finish.to_string());
        }
        row
    };
    let mut rows = Vec::new();
    for stage in stages {
        let days = || stage.works.iter().filter_map(|work| work.of.dates);
        let dates = days().map(|days| days.0).min().zip(days().map(|days| days.1).max());
        rows.push(row(1, &stage.name, &stage.of.number, &stage.of.title, dates));
        if let Some(gate) = &stage.gate {
            rows.push(row(2, gate, &stage.of.number, "May it begin?", dates.map(|days| (days.0, days.0))));
        }
        for Work { of, name, items } in &stage.works {
            let mut one = row(2, name, &of.number, &of.title, of.dates);
            one["owner"] = json!(of.owner);
            one["critical"] = json!(of.critical);
            if let Some((_, day, why)) = plan.deadlines.iter().find(|(id, ..)| *id == of.id) {
                one["deadline"] = json!(day.to_string());
                one["deadline_reason"] = json!(why);
            }
            rows.push(one);
            for item in items {
                let Item { number, dates, .. } = item;
                if let Some(gate) = &item.approve {
                    rows.push(row(3, gate, number, "May it begin?", dates.map(|days| (days.0, days.0))));
                }
                // A task that is one step has a row already.
                if item.name != *name {
                    rows.push(row(3, &item.name, number, &item.title, *dates));
                }
                if let Some(gate) = &item.accept {
                    rows.push(row(3, gate, number, "Is it good enough?", dates.map(|days| (days.1, days.1))));
                }
            }
        }
    }
    json!({ "schema": 1, "title": plan.title, "rows": rows })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
