//! The README of a project of work: what it is, how to go on, what of the plan could not be used.

use std::fmt::Write as _;

use super::plan::Plan;
use super::project::Project;
use super::rules::By;
use planexe_base::style::{clean, count};

/// Lines of what was left out that are shown.
const SHOWN: usize = 40;

/// The text.
pub fn text(plan: &Plan, project: &Project<'_>) -> String {
    let items = project.items().count() as u64;
    let mut text = format!("# {}\n\n{}\n\n", plain(&plan.title), plain(&plan.goal));
    let _ = writeln!(
        text,
        "A plan carried out: {} in {} and {}. {} a model's to write, {} a program's, {} a person's.\n",
        count(items, "step"),
        count(project.works().count() as u64, "task"),
        count(project.stages.len() as u64, "phase"),
        project.count(By::Ai),
        project.count(By::Command),
        project.count(By::Human),
    );
    text += "\
```console
$ planexe build          # what a model or a program can do now; exit 3: a person is waited for
$ planexe status         # who is waited for
$ planexe done STEP      # a step is done; write what came of it into its file under deliverables/ first
$ planexe gantt          # the schedule: planned, done, late
```

| | |
|---|---|
| `execution.toml` | who does which step: yours, never written over |
| `models.toml` | the models that are asked: yours, never written over |
| `pipeline.toml`, `items/`, `prompts/`, `schedule.json`, `plan/`, this file | made from the plan; `planexe execute` makes them again when the plan or the rules changed |
| `deliverables/` | what the steps deliver |
| `approvals/` | who let what begin, or accepted it |

";
    text += "| phase | from | to | tasks | steps |\n|---|---|---|---:|---:|\n";
    for stage in &project.stages {
        let days = || stage.works.iter().filter_map(|work| work.of.dates);
        let day = |day: Option<jiff::civil::Date>| day.map_or_else(|| "–".to_owned(), |day| day.to_string());
        let steps: usize = stage.works.iter().map(|work| work.items.len()).sum();
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} | {steps} |",
            plain(&stage.of.number),
            plain(&stage.of.title),
            day(days().map(|days| days.0).min()),
            day(days().map(|days| days.1).max()),
            stage.works.len(),
        );
    }
    if !project.dropped.is_empty() {
        text += "\nOf the plan this could not be used:\n\n";
        for line in project.dropped.iter().take(SHOWN) {
            let _ = writeln!(text, "- {}", plain(line));
        }
        if project.dropped.len() > SHOWN {
            let _ = writeln!(text, "- and {} more", project.dropped.len() - SHOWN);
        }
    }
    text
}

/// A text as Markdown shows it: one line, and nothing in it is markup.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' | '$' | '>' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
