//! `planexe simulate`: what a build would take, by slots.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use crate::views::Server;
use crate::views::records::headed;
use planexe_base::call::Usage;
use planexe_base::style::{self, Style};

/// What a build is predicted to take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Predicted {
    /// From its start to its end, in seconds.
    pub seconds: f64,
    /// Tasks that run.
    pub tasks: u64,
    /// Of those, tasks of which nothing is known.
    pub guessed: u64,
    /// Calls, tokens, money.
    pub usage: Usage,
    /// Fan-outs whose items are not known yet; each counts as one item.
    pub unknown_items: u64,
    /// Tasks that could start, and wait for their turn.
    pub queue: Waits,
    /// The end its budget puts to it; all else is of a build without one.
    pub budget_stop: Option<BudgetStop>,
}

/// Tokens that a call is taken to read and to write where none like it was made yet: about the mean of the calls of the
/// flagship's sample plan (`planexe usage`).
pub const USUAL_TOKENS: (u64, u64) = (3_000, 500);

/// How long tasks wait for their turn, on an executor or for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, JsonSchema)]
pub struct Waits {
    /// Most of them at once.
    pub most: u64,
    /// On average, in seconds.
    pub mean_s: f64,
    /// The longest, in seconds.
    pub longest_s: f64,
}

/// The moment from which a build starts nothing more, because a limit of its budget is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct BudgetStop {
    /// Which limit.
    pub limit: Limit,
    /// Seconds from the start of the build.
    pub after_s: f64,
    /// Tasks that were started by then.
    pub tasks: u64,
}

impl BudgetStop {
    /// For people.
    pub fn text(&self) -> String {
        let limit = match self.limit {
            Limit::Cost => "cost",
            Limit::Tokens => "token",
            Limit::Time => "time",
        };
        let (after, tasks) = (style::duration(self.after_s), style::count(self.tasks, "task"));
        format!("{limit} limit after {after}, {tasks} started")
    }
}

/// A limit of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Money.
    Cost,
    /// Tokens.
    Tokens,
    /// Time.
    Time,
}

/// What a build of everything is predicted to take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SimulateView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The run directory.
    pub run_dir: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// As it is set up, then by slots.
    pub rows: Vec<PredictedRow>,
    /// The model that was asked for, if what it costs is not known: no `price` is set for it.
    pub unpriced: Option<String>,
}

/// A prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictedRow {
    /// Slots of each model; none: as the pipeline sets them.
    pub slots: Option<u32>,
    /// What is predicted.
    pub predicted: Predicted,
}

/// A prediction as JSON has it.
#[derive(Serialize, JsonSchema)]
struct Row {
    /// Slots of each model; null: as the pipeline sets them.
    slots: Option<u32>,
    /// How long it takes.
    seconds: f64,
    /// Tasks that run.
    tasks: u64,
    /// Calls.
    calls: u64,
    /// Tokens of prompts.
    input_tokens: u64,
    /// Tokens of answers.
    output_tokens: u64,
    /// USD.
    cost_usd: f64,
    /// Tasks of which nothing was known.
    guessed: u64,
    /// Fan-outs whose number of items is not known yet.
    unknown_items: u64,
    /// How many tasks wait for their turn, and how long.
    queue: Waits,
    /// Where a budget stops it.
    budget_stop: Option<BudgetStop>,
}

impl Serialize for PredictedRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Predicted { seconds, tasks, guessed, usage, unknown_items, queue, budget_stop } = self.predicted;
        let row = Row {
            slots: self.slots,
            seconds,
            tasks,
            calls: usage.calls,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_usd: usage.cost_usd,
            guessed,
            unknown_items,
            queue,
            budget_stop,
        };
        row.serialize(serializer)
    }
}

impl JsonSchema for PredictedRow {
    fn schema_name() -> Cow<'static, str> {
        "PredictedRow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Row::json_schema(generator)
    }
}

impl SimulateView {
    /// For people.
    pub fn text(&self, style: &Style) -> String {
        let row = |row: &PredictedRow| {
            let predicted = &row.predicted;
            vec![
                row.slots.map_or("as set".to_owned(), |slots| slots.to_string()),
                style::duration(predicted.seconds),
                predicted.tasks.to_string(),
                predicted.usage.calls.to_string(),
                style::tokens(predicted.usage.input_tokens),
                style::tokens(predicted.usage.output_tokens),
                style::money(predicted.usage.cost_usd),
                predicted.budget_stop.map_or(String::new(), |stop| stop.text()),
            ]
        };
        let stops = self.rows.iter().any(|row| row.predicted.budget_stop.is_some());
        let stop = if stops { "stopped by its budget" } else { "" };
        let heads = ["slots", "time", "tasks", "calls", "in", "out", "cost", stop];
        let mut text = headed(heads, self.rows.iter().map(row), style);
        let Some(Predicted { tasks, guessed, unknown_items, queue, .. }) =
            self.rows.first().map(|row| row.predicted)
        else {
            return text;
        };
        if queue.longest_s >= 1.0 {
            let [mean, longest] = [queue.mean_s, queue.longest_s].map(style::duration);
            let tasks = style::count(queue.most, "task");
            text += &format!(
                "Up to {tasks} wait for their turn at once: {mean} on average, {longest} at most.\n"
            );
        }
        if stops {
            text += "The next build continues from there, with the whole budget again.\n";
        }
        if guessed > 0 {
            let all = if guessed == tasks {
                "no task has"
            } else {
                &format!("{guessed} of {tasks} tasks have not")
            };
            text += &format!("A guess in part: {all} run yet, nor anything like it.");
            if self.rows.iter().any(|row| row.predicted.usage.calls > 0) {
                let [read, written] = [USUAL_TOKENS.0, USUAL_TOKENS.1].map(style::tokens);
                text += &format!(" Such a call counts as {read} tokens read and {written} written.");
            }
            text.push('\n');
        }
        if unknown_items > 0 {
            let tasks = style::count(unknown_items, "task");
            text += &format!(
                "The items of {tasks} are not known yet; each task counts as one, so it will be more.\n"
            );
        }
        if let Some(model) = &self.unpriced {
            text += &format!(
                "What `{model}` costs is not known: set `price` under [models.{model}], 0 if it is free.\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_llm::Usage;

    #[test]
    fn a_row_for_each_number_of_slots() {
        let usage =
            Usage { calls: 3, input_tokens: 1500, output_tokens: 20, cost_usd: 0.5, ..Usage::default() };
        let predicted = Predicted {
            seconds: 90.0,
            tasks: 4,
            guessed: 1,
            usage,
            unknown_items: 1,
            ..Predicted::default()
        };
        let view = SimulateView {
            schema: 1,
            server: Server::here(None),
            run_dir: "runs/x".into(),
            pipeline: "x".into(),
            rows: vec![PredictedRow { slots: None, predicted }, PredictedRow { slots: Some(2), predicted }],
            unpriced: Some("other".into()),
        };
        let text = view.text(&Style::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[1].starts_with("as set") && lines[2].starts_with('2'), "{text}");
        assert_eq!(
            lines[3],
            "A guess in part: 1 of 4 tasks have not run yet, nor anything like it. Such a call counts as 3.0k tokens read and 500 written."
        );
        assert_eq!(
            lines[4],
            "The items of 1 task are not known yet; each task counts as one, so it will be more."
        );
        assert!(lines[5].contains("[models.other]"), "{text}");
        let json = serde_json::to_value(&view).expect("JSON");
        assert_eq!(
            (&json["rows"][0]["slots"], &json["rows"][1]["calls"]),
            (&serde_json::Value::Null, &3.into())
        );
    }
}
