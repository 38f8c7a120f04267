//! What a run keeps, as lists: checkpoints, failures, usage.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use crate::views::{Server, table, time};
use planexe_base::failure_class::FailureClass;
use planexe_base::style::{self, Style, clean};
use planexe_store::Checkpoint;
use planexe_store::logs::FailureLine;
use planexe_store::usage::UsageLine;

/// `planexe checkpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CheckpointsView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// Completions, oldest first.
    pub checkpoints: Vec<Checkpoint>,
}

impl CheckpointsView {
    /// For people.
    pub fn text(&self, style: &Style) -> String {
        if self.checkpoints.is_empty() {
            return "no checkpoints\n".to_owned();
        }
        let heads = ["checkpoint", "step", "task", "attempt", "decision", "completed", "outputs"];
        let rows = self.checkpoints.iter().map(|point| {
            vec![
                clean(&point.id),
                (point.step + 1).to_string(),
                clean(&point.task),
                point.attempt.to_string(),
                clean(&point.decision_id),
                time(&point.time_utc),
                point.outputs.iter().map(|output| clean(&output.path)).collect::<Vec<_>>().join(" "),
            ]
        });
        headed(heads, rows, style)
    }
}

/// Rows under their heads.
pub fn headed<'a>(
    heads: impl AsRef<[&'a str]>,
    rows: impl Iterator<Item = Vec<String>>,
    style: &Style,
) -> String {
    let first = heads.as_ref().iter().map(|head| style.dim(head)).collect();
    let rows: Vec<Vec<String>> = std::iter::once(first).chain(rows).collect();
    table(&rows, style)
}

/// `planexe failures`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FailuresView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// Failed attempts, oldest first.
    pub failures: Vec<FailureLine>,
    /// How many of each class.
    pub by_class: IndexMap<FailureClass, u32>,
    /// How each model does.
    pub by_model: Vec<ModelScore>,
}

/// How a model does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ModelScore {
    /// Its name at its server.
    pub model: String,
    /// Calls made.
    pub calls: u32,
    /// Of those, calls without a whole answer.
    pub failed_calls: u32,
    /// Attempts of tasks that failed with it, for whatever reason.
    pub failed_attempts: u32,
    /// Of those, by class.
    pub by_class: IndexMap<FailureClass, u32>,
}

impl FailuresView {
    /// Counts failures, and the calls they are to be seen against.
    pub fn new(server: Server, failures: Vec<FailureLine>, calls: &[UsageLine]) -> FailuresView {
        let mut by_class: IndexMap<FailureClass, u32> = IndexMap::new();
        let mut models: IndexMap<String, ModelScore> = IndexMap::new();
        for call in calls {
            let score = score(&mut models, model_of(&call.model));
            score.calls += 1;
            score.failed_calls += u32::from(!call.success);
        }
        for failure in &failures {
            *by_class.entry(failure.class.clone()).or_default() += 1;
            if let Some(model) = &failure.model {
                let score = score(&mut models, model);
                score.failed_attempts += 1;
                *score.by_class.entry(failure.class.clone()).or_default() += 1;
            }
        }
        by_class.sort_by(|a, x, b, y| y.cmp(x).then(a.name().cmp(b.name())));
        let mut by_model: Vec<ModelScore> = models.into_values().collect();
        by_model.sort_by(|a, b| {
            b.failed_attempts.cmp(&a.failed_attempts).then(b.calls.cmp(&a.calls)).then(a.model.cmp(&b.model))
        });
        FailuresView { schema: crate::views::SCHEMA, server, failures, by_class, by_model }
    }

    /// For people. `verbose`: all of them, not the last twenty.
    pub fn text(&self, style: &Style, verbose: bool) -> String {
        const MOST: usize = 20;
        if self.failures.is_empty() {
            return "no failures\n".to_owned();
        }
        let skipped = if verbose { 0 } else { self.failures.len().saturating_sub(MOST) };
        let shown = &self.failures[skipped..];
        let many_runs = self.failures.iter().any(|failure| failure.run_id_dir != self.failures[0].run_id_dir);
        let row = |failure: &FailureLine| {
            let mut row = vec![
                time(&failure.timestamp_utc).trim_end_matches(" UTC").to_owned(),
                clean(&failure.task),
                failure.attempt.to_string(),
                failure.model.as_deref().map_or_else(|| "-".to_owned(), clean),
                style.paint(style::RED, &clean(failure.class.name())),
            ];
            if many_runs {
                row.insert(1, clean(&failure.run_id_dir));
            }
            row
        };
        let message = |failure: &FailureLine| {
            clean(if failure.message.text.is_empty() {
                failure.raw_error.as_deref().unwrap_or_default()
            } else {
                // What to do about it is said where one failure is shown.
                &failure.message.text
            })
        };
        let mut heads = vec!["UTC", "task", "attempt", "model", "class", "message"];
        if many_runs {
            heads.insert(1, "run");
        }
        let rows = shown.iter().map(|failure| row(failure).into_iter().chain([message(failure)]).collect());
        let mut text = headed(&heads, rows, &Style { width: None, ..*style });
        if text.lines().any(|line| style.width.is_some_and(|columns| style::width(line) > columns)) {
            // Too wide for the terminal: the messages below their lines, each once for the same again.
            let table = headed(&heads[..heads.len() - 1], shown.iter().map(row), style);
            let mut lines = table.lines();
            text = format!("{}\n", lines.next().unwrap_or_default());
            for (at, (line, failure)) in lines.zip(shown).enumerate() {
                text += &format!("{line}\n");
                let said = message(failure);
                let again =
                    shown.get(at + 1).is_some_and(|next| next.task == failure.task && message(next) == said);
                if !again && !said.is_empty() {
                    text += &format!("{}\n", style.wrap(&format!("    {said}"), 4));
                }
            }
        }
        if skipped > 0 {
            text += &format!("{}\n", style.dim(&format!("({skipped} earlier ones: -v shows all)")));
        }
        text.push('\n');
        let rows = self.by_class.iter().map(|(class, count)| vec![clean(class.name()), count.to_string()]);
        text += &headed(["class", "failures"], rows, style);
        if !self.by_model.is_empty() {
            text.push('\n');
            let heads = ["model", "calls", "without an answer", "failed attempts", "most often"];
            text += &headed(heads, self.by_model.iter().map(ModelScore::row), style);
        }
        text
    }
}

impl ModelScore {
    fn row(&self) -> Vec<String> {
        let share = match self.calls {
            0 => String::new(),
            calls => format!(" ({:.0}%)", 100.0 * f64::from(self.failed_calls) / f64::from(calls)),
        };
        let most = self.by_class.iter().max_by_key(|(_, count)| **count);
        vec![
            clean(&self.model),
            self.calls.to_string(),
            format!("{}{share}", self.failed_calls),
            self.failed_attempts.to_string(),
            most.map_or_else(String::new, |(class, _)| clean(class.name())),
        ]
    }
}

fn score<'a>(models: &'a mut IndexMap<String, ModelScore>, model: &str) -> &'a mut ModelScore {
    models
        .entry(model.to_owned())
        .or_insert_with(|| ModelScore { model: model.to_owned(), ..ModelScore::default() })
}

/// The model's name, of `provider:model`.
fn model_of(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, model)| model)
}

/// `planexe usage`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UsageView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// All calls.
    pub total: UsageRow,
    /// By `provider:model`, the costliest first.
    pub by_model: Vec<UsageRow>,
    /// By task, the costliest first.
    pub by_task: Vec<UsageRow>,
    /// By run directory, the costliest first.
    pub by_run: Vec<UsageRow>,
    /// What the prompts have in common, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<super::Prefixes>,
}

/// What some calls used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct UsageRow {
    /// Whose: a model, a task, a run; empty for all.
    pub name: String,
    /// Calls.
    pub calls: u64,
    /// Of those, calls without a whole answer.
    pub failed: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// Of those, spent on reasoning.
    pub thinking_tokens: u64,
    /// USD.
    pub cost_usd: f64,
    /// Seconds, calls at the same time counted each.
    pub duration_s: f64,
}

impl UsageRow {
    fn add(&mut self, line: &UsageLine) {
        self.calls += 1;
        self.failed += u64::from(!line.success);
        self.input_tokens += line.input_tokens;
        self.output_tokens += line.output_tokens;
        self.thinking_tokens += line.thinking_tokens;
        self.cost_usd += line.cost_usd;
        self.duration_s += line.duration_seconds;
    }

    fn row(&self) -> Vec<String> {
        vec![
            if self.name.is_empty() { "all".to_owned() } else { clean(&self.name) },
            self.calls.to_string(),
            self.failed.to_string(),
            style::tokens(self.input_tokens),
            style::tokens(self.output_tokens),
            style::money(self.cost_usd),
            style::duration(self.duration_s),
        ]
    }
}

impl UsageView {
    /// Sums calls up.
    pub fn new(server: Server, calls: &[UsageLine]) -> UsageView {
        let mut total = UsageRow::default();
        let mut models: IndexMap<&str, UsageRow> = IndexMap::new();
        let mut tasks: IndexMap<&str, UsageRow> = IndexMap::new();
        let mut runs: IndexMap<&str, UsageRow> = IndexMap::new();
        for call in calls {
            total.add(call);
            runs.entry(&call.run_id_dir).or_default().add(call);
            models.entry(&call.model).or_default().add(call);
            tasks.entry(&call.task).or_default().add(call);
        }
        let sorted = |rows: IndexMap<&str, UsageRow>| {
            let named = |(name, row): (&str, UsageRow)| UsageRow { name: name.to_owned(), ..row };
            let mut rows: Vec<UsageRow> = rows.into_iter().map(named).collect();
            let tokens = |row: &UsageRow| row.input_tokens + row.output_tokens;
            rows.sort_by(|a, b| {
                b.cost_usd.total_cmp(&a.cost_usd).then(tokens(b).cmp(&tokens(a))).then(a.name.cmp(&b.name))
            });
            rows
        };
        UsageView {
            schema: crate::views::SCHEMA,
            server,
            total,
            by_model: sorted(models),
            by_task: sorted(tasks),
            by_run: sorted(runs),
            prefixes: None,
        }
    }

    /// For people. `verbose`: every task, not the first twenty.
    pub fn text(&self, style: &Style, verbose: bool) -> String {
        const MOST: usize = 20;
        if self.total.calls == 0 {
            return "no calls yet\n".to_owned();
        }
        let heads = |first| [first, "calls", "failed", "in", "out", "cost", "time"];
        let rows = self.by_model.iter().chain([&self.total]).map(UsageRow::row);
        let mut text = headed(heads("model"), rows, style) + "\n";
        if self.by_run.len() > 1 {
            text += &headed(heads("run"), self.by_run.iter().map(UsageRow::row), style);
            text.push('\n');
        }
        let shown = if verbose { self.by_task.len() } else { self.by_task.len().min(MOST) };
        text += &headed(heads("task"), self.by_task[..shown].iter().map(UsageRow::row), style);
        let left = self.by_task.len() - shown;
        if left > 0 {
            text += &format!("{}\n", style.dim(&format!("({left} more: -v shows all)")));
        }
        if let Some(prefixes) = &self.prefixes {
            text += &format!("\n{}", prefixes.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_base::failure_class::Class;

    fn call(task: &str, model: &str, success: bool, cost_usd: f64) -> UsageLine {
        UsageLine {
            task: task.into(),
            model: format!("openai:{model}"),
            success,
            cost_usd,
            input_tokens: 1000,
            output_tokens: 200,
            duration_seconds: 2.0,
            ..UsageLine::default()
        }
    }

    fn failure(task: &str, model: Option<&str>, class: impl Into<FailureClass>) -> FailureLine {
        FailureLine {
            timestamp_utc: "2026-03-01T22:15:04.123Z".into(),
            task: task.into(),
            model: model.map(str::to_owned),
            attempt: 2,
            class: class.into(),
            message: "it said \x1b[31mno".into(),
            ..FailureLine::default()
        }
    }

    #[test]
    fn failures_are_grouped() {
        let failures = vec![
            failure("a", Some("m1"), Class::Timeout),
            failure("b", Some("m2"), Class::Validation),
            failure("c", Some("m2"), Class::Validation),
            failure("d", None, FailureClass::Exit),
        ];
        let calls = [call("a", "m1", false, 0.0), call("a", "m1", true, 0.0), call("b", "m2", true, 0.0)];
        let view = FailuresView::new(Server::here(None), failures, &calls);
        let classes: Vec<_> = view.by_class.iter().map(|(class, count)| (class.name(), *count)).collect();
        assert_eq!(classes, [("validation", 2), ("exit", 1), ("timeout", 1)]);
        assert_eq!(
            view.text(&Style::PLAIN, false),
            "\
UTC                  task  attempt  model  class       message
2026-03-01 22:15:04  a     2        m1     timeout     it said no
2026-03-01 22:15:04  b     2        m2     validation  it said no
2026-03-01 22:15:04  c     2        m2     validation  it said no
2026-03-01 22:15:04  d     2        -      exit        it said no

class       failures
validation  2
exit        1
timeout     1

model  calls  without an answer  failed attempts  most often
m2     1      0 (0%)             2                validation
m1     2      1 (50%)            1                timeout
"
        );
        // Where the messages do not fit they stand below, each once for the same again.
        let mut view = view;
        view.failures[2].task = "b".into();
        let narrow = view.text(&Style { width: Some(60), ..Style::PLAIN }, false);
        let table = narrow.split("\n\n").next().unwrap();
        assert_eq!(
            table,
            "\
UTC                  task  attempt  model  class
2026-03-01 22:15:04  a     2        m1     timeout
    it said no
2026-03-01 22:15:04  b     2        m2     validation
2026-03-01 22:15:04  b     2        m2     validation
    it said no
2026-03-01 22:15:04  d     2        -      exit
    it said no"
        );
        // Of several runs each line says which.
        view.failures[0].run_id_dir = "runs/a".into();
        let several = view.text(&Style::PLAIN, false);
        assert!(several.starts_with("UTC                  run     task  attempt"), "{several}");
        assert!(several.contains("2026-03-01 22:15:04  runs/a  a     2"), "{several}");
    }

    #[test]
    fn usage_is_summed() {
        let calls = [call("a", "m1", true, 0.5), call("b", "m2", true, 1.0), call("b", "m2", false, 0.25)];
        let view = UsageView::new(Server::here(None), &calls);
        assert_eq!((view.total.calls, view.total.failed, view.total.cost_usd), (3, 1, 1.75));
        assert_eq!(
            view.text(&Style::PLAIN, false),
            "\
model      calls  failed  in    out  cost   time
openai:m2  2      1       2.0k  400  $1.25  4.0s
openai:m1  1      0       1.0k  200  $0.50  2.0s
all        3      1       3.0k  600  $1.75  6.0s

task  calls  failed  in    out  cost   time
b     2      1       2.0k  400  $1.25  4.0s
a     1      0       1.0k  200  $0.50  2.0s
"
        );
        assert_eq!(UsageView::new(Server::here(None), &[]).text(&Style::PLAIN, false), "no calls yet\n");
    }
}
