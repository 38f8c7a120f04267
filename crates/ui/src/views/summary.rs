//! The end of a build, in a few lines.

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::status::some_names;
use crate::views::{Server, TaskView, hint_of, reason_of};
use planexe_base::event::Summary;
use planexe_base::message::Message;
use planexe_base::record::{Failure, State};
use planexe_base::style::{self, Style, clean, pad};

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SummaryView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The run directory.
    pub run_dir: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// In one word.
    pub outcome: BuildOutcome,
    /// What stopped it: "by Ctrl-C", "the cost limit is reached"; or what broke it: a record that cannot be written.
    pub message: Option<String>,
    /// In figures.
    pub summary: Summary,
    /// The tasks that ran.
    pub tasks: Vec<TaskView>,
    /// What failed, with what it blocks.
    pub failed: Vec<FailedView>,
    /// What waits for a person.
    pub waiting: Vec<WaitingView>,
    /// The last output of the targets, to be opened: `report.html`.
    pub report: Option<String>,
    /// What to type next, with what it does: `("planexe explain risks", "see why")`.
    pub next: Vec<(String, String)>,
    /// The exit code.
    pub exit_code: u8,
}

/// The end of a build in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildOutcome {
    /// Everything asked for is done.
    Completed,
    /// A task failed.
    Failed,
    /// Ended early, on purpose or by a signal.
    Stopped,
}

/// A task that failed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FailedView {
    /// `task` or `task[key]`.
    pub task: String,
    /// Why.
    pub failure: Failure,
    /// Tasks that cannot run because of it.
    pub blocks: Vec<String>,
}

/// A task that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitingView {
    /// `task` or `task[key]`.
    pub task: String,
    /// What is asked.
    pub message: Message,
}

impl SummaryView {
    /// For people. Under `quiet` nothing is said of a good end, and failures, shown as they happened, are not repeated.
    pub fn text(&self, style: &Style, quiet: bool) -> String {
        if quiet && self.outcome == BuildOutcome::Completed {
            return String::new();
        }
        let mut text = String::new();
        if !self.failed.is_empty() && !quiet {
            text.push('\n');
            text += &self.failures(style);
        }
        for waiting in &self.waiting {
            let (task, message) = (clean(&waiting.task), clean(&waiting.message.text));
            text += &format!("{} {task} waits: {message}\n", style.glyph(State::Waiting));
            for hint in &waiting.message.hints {
                text += &format!("  hint: {}\n", clean(hint.text()));
            }
        }
        text += &format!("{}\n", style.wrap(&self.headline(style), 2));
        let summary = &self.summary;
        if !summary.left.is_empty() && self.outcome == BuildOutcome::Stopped {
            let left = format!("Left: {}.", some_names(&summary.left, 10));
            text += &format!("{}\n", style.wrap(&left, 2));
        }
        if !summary.partial.is_empty() {
            let names = some_names(&summary.partial, 5);
            text += &format!("Partial: {names}; items are missing, the next build tries them.\n");
        }
        match summary.sample.len() {
            0 => {}
            1..=5 => {
                let names = some_names(&summary.sample, 5);
                text += &format!("Sample answers, recorded for other prompts: {names}.\n");
            }
            many => text += &format!("Sample answers, recorded for other prompts: {many} tasks.\n"),
        }
        if !summary.warned.is_empty() {
            text += &format!("Warned: {}; `planexe status` says of what.\n", some_names(&summary.warned, 5));
        }
        if let Some(report) = self.report.as_ref().filter(|_| !self.is_null()) {
            text += &format!("Report: {}\n", clean(report));
        }
        let commands = self.next.iter().map(|(command, _)| style::width(command)).max().unwrap_or(0);
        for (at, (command, what)) in self.next.iter().enumerate() {
            let label = if at == 0 { "Next: " } else { "      " };
            let line = format!("{label}{}  {}", pad(&clean(command), commands), style.dim(&clean(what)));
            text += &format!("{}\n", line.trim_end());
        }
        text
    }

    /// Whether everything was up to date.
    fn is_null(&self) -> bool {
        let summary = &self.summary;
        let nothing = summary.ran == 0 && summary.failed.is_empty() && summary.waiting.is_empty();
        self.outcome == BuildOutcome::Completed && nothing && summary.pending == 0
    }

    fn headline(&self, style: &Style) -> String {
        let summary = &self.summary;
        let tasks = |number: u32| style::count(u64::from(number), "task");
        let took = style::duration(summary.duration_s);
        if self.is_null() {
            return format!("planexe: everything is up to date ({})", tasks(summary.fresh + summary.skipped));
        }
        let mut parts = Vec::new();
        let label = match self.outcome {
            BuildOutcome::Completed => style.paint(style::GREEN, "Done:"),
            BuildOutcome::Failed => {
                if let Some(message) = &self.message {
                    parts.push(clean(message));
                }
                style.paint(style::RED, "Failed:")
            }
            BuildOutcome::Stopped => {
                let by = self.message.as_deref().map(|message| format!(" ({})", clean(message)));
                style.paint(style::BLUE, &format!("Stopped{}:", by.unwrap_or_default()))
            }
        };
        // What a fan-out did without is told with its task.
        if self.outcome != BuildOutcome::Completed && !summary.failed.is_empty() {
            parts.push(format!("{} failed", tasks(summary.failed.len() as u32)));
        }
        if summary.blocked > 0 {
            parts.push(format!("{} blocked", summary.blocked));
        }
        let kept = if summary.reused > 0 {
            format!(" ({} from kept answers)", summary.reused)
        } else {
            String::new()
        };
        parts.push(format!("{} ran in {took}{kept}", tasks(summary.ran)));
        for (number, words) in [
            (summary.rescued.len() as u32, "rescued"),
            (summary.fresh, "up to date"),
            (summary.skipped, "skipped"),
            (summary.stopped.len() as u32, "stopped before the end"),
            (summary.waiting.len() as u32, "waiting for a person"),
            (summary.pending, "not reached"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {words}"));
            }
        }
        let mut line = format!("{label} {}.", parts.join(", "));
        let usage = &summary.usage;
        let all = usage.input_tokens + usage.output_tokens;
        if all > 0 {
            let tokens = style::tokens(all);
            line += &match usage.cost_usd {
                cost_usd if cost_usd > 0.0 => format!(" {}, {tokens} tokens.", style::money(cost_usd)),
                _ => format!(" {tokens} tokens."),
            };
        }
        line
    }

    fn failures(&self, style: &Style) -> String {
        const MOST: usize = 20;
        let mut text = String::new();
        for failed in self.failed.iter().take(MOST) {
            text += &format!("{} {}\n", style.glyph(State::Failed), style.bold(&clean(&failed.task)));
            text += &format!("{}\n", style.wrap(&format!("    {}", reason_of(&failed.failure)), 4));
            if let Some(hint) = hint_of(&failed.failure) {
                text += &format!("{}\n", style.wrap(&format!("    hint: {hint}"), 4));
            }
            if !failed.blocks.is_empty() {
                let line = format!("    blocks {}", some_names(&failed.blocks, 5));
                text += &format!("{}\n", style.wrap(&line, 4));
            }
            if let Some(error_id) = &failed.failure.error_id {
                text += &format!("    {}\n", style.dim(&format!("error {}", clean(error_id))));
            }
        }
        if self.failed.len() > MOST {
            text += &format!("and {} more\n", self.failed.len() - MOST);
        }
        text
    }
}
