//! `planexe explain`: why a task would run, or need not.

use serde::Serialize;

use crate::record::Failure;
use crate::report::status::some_names;
use crate::report::{Reason, Server, Verdict, coloured_diff, reason_of, time};
use crate::style::{Shown, Style, clean};

/// Why a task would run, or need not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// `task` or `task[key]`.
    pub task: String,
    /// What the pipeline says it is.
    pub description: Option<String>,
    /// prompt, command, template, gate, human, group.
    pub recipe: Option<String>,
    /// The state, derived ones included.
    pub state: Shown,
    /// What judging it gave.
    pub verdict: Verdict,
    /// What changed.
    pub reasons: Vec<Reason>,
    /// Tasks whose outcome decides whether it runs.
    pub depends_on: Vec<String>,
    /// Failed tasks that block it.
    pub blocked_by: Vec<String>,
    /// When it was completed.
    pub completed_utc: Option<String>,
    /// Who said so: build, touch, rescue, human.
    pub by: Option<String>,
    /// Why its last attempt failed.
    pub failure: Option<Failure>,
    /// What differs from when it was made without making it stale.
    pub drift: Vec<Drift>,
    /// What the next build would do, one line each: "ask qwen3.5 (about 3.1k tokens)", "use the kept answer".
    pub next: Vec<String>,
    /// Tasks that read its outputs.
    pub readers: Vec<String>,
}

/// Something that differs from when a task was made without making it stale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// `model`, `params`.
    pub what: String,
    /// As it was.
    pub made_with: String,
    /// As it is.
    pub now: String,
}

impl Drift {
    /// In a few words, for the list of tasks.
    pub fn remark(&self) -> String {
        match self.what.as_str() {
            "params" => "drift: made with other parameters".to_owned(),
            _ => format!("drift: made with {}, now {}", self.made_with, self.now),
        }
    }
}

impl ExplainView {
    /// For people.
    pub fn text(&self, style: &Style) -> String {
        let mut text = format!("{}  {}\n", style.bold(&clean(&self.task)), style.state(self.state));
        if let Some(description) = &self.description {
            text += &format!("  {}\n", clean(description));
        }
        text.push('\n');
        text += &match self.verdict {
            Verdict::Fresh => self.fresh(),
            Verdict::Stale if self.reasons.is_empty() => "It will run.\n".to_owned(),
            Verdict::Stale => self.stale(style),
            Verdict::DependsOn => format!(
                "Not decided yet: {} will run first, and it runs if what they make differs.\n",
                some_names(&self.depends_on, 8)
            ),
        };
        if let Some(failure) = &self.failure {
            text += &format!("\nIts last attempt failed: {}\n", reason_of(failure));
        }
        if !self.blocked_by.is_empty() {
            text += &format!("\nIt cannot run: it needs {}.\n", some_names(&self.blocked_by, 8));
        }
        for drift in &self.drift {
            text += &format!(
                "\nMade with another {}: {} (now {}). That alone does not make it stale; `--rebuild-on model` would.\n",
                clean(&drift.what),
                clean(&drift.made_with),
                clean(&drift.now)
            );
        }
        if !self.next.is_empty() {
            text += "\nThe next build would:\n";
            for line in &self.next {
                text += &format!("  {}\n", clean(line));
            }
        }
        if !self.readers.is_empty() && self.verdict != Verdict::Fresh {
            text += &format!("\nReaders, run only if its outputs differ: {}\n", some_names(&self.readers, 8));
        }
        text
    }

    fn fresh(&self) -> String {
        let since =
            self.completed_utc.as_deref().map(|utc| format!(" since {}", time(utc))).unwrap_or_default();
        let by = match self.by.as_deref() {
            None | Some("build") => String::new(),
            Some("touch") => ", when it was marked done by touch".to_owned(),
            Some("human") => ", when a person passed it".to_owned(),
            Some("rescue") => ", when its evaluation accepted it".to_owned(),
            Some(other) => format!(" (by {})", clean(other)),
        };
        format!("Up to date: nothing it is made of changed{since}{by}.\n")
    }

    fn stale(&self, style: &Style) -> String {
        let mut text = "It will run because:\n".to_owned();
        for reason in &self.reasons {
            text += &format!("  {} {}\n", style.glyph(Shown::Stale), reason.line());
            if let Some(diff) = reason.diff.as_deref().filter(|diff| !diff.is_empty()) {
                text += &coloured_diff(diff, style, "      ");
                text.push('\n');
            }
        }
        text
    }
}
