//! `planexe edit-plan`: what an edit of the plan makes stale, and what of it is kept.

use planexe_base::style::{self, GREEN, RED, Style, YELLOW, clean, clean_lines, count, elapsed, money};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Reason, some_names};

/// What an edit makes stale, and what that is expected to take.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct EditPlanView {
    /// Whether the plan was changed.
    pub changed: bool,
    /// The plan, relative to the run directory.
    pub plan: String,
    /// The unified difference.
    pub diff: String,
    /// Tasks that the edit itself makes stale, and those that are made again because they were named.
    pub stale: Vec<StaleView>,
    /// Tasks that depend on those, and run if what they read comes out different.
    pub depends: Vec<String>,
    /// Tasks that were stale before.
    pub stale_before: Vec<String>,
    /// Of the stale, those that are kept, marked done on the new text.
    pub kept: Vec<String>,
    /// Calls of the stale tasks that are not kept.
    pub calls_expected: u32,
    /// Calls if all that depends on them runs too.
    pub calls_at_most: u32,
    /// What those cost when they were made last, USD.
    pub cost_usd: Option<f64>,
    /// Seconds those took when they were made last, one after the other.
    pub duration_s: Option<f64>,
}

/// A task that is stale, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StaleView {
    /// The task.
    pub task: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl EditPlanView {
    /// Of a plan that stays as it is.
    pub fn unchanged(plan: &str) -> EditPlanView {
        EditPlanView { plan: plan.to_owned(), ..EditPlanView::default() }
    }

    /// The difference and what follows from it, for people.
    pub fn text(&self, style: &Style) -> String {
        let mut text = String::new();
        for line in clean_lines(&self.diff).lines() {
            let line = match line.chars().next() {
                Some('+') => style.paint(GREEN, line),
                Some('-') => style.paint(RED, line),
                Some('@') => style.dim(line),
                _ => line.to_owned(),
            };
            text += &format!("{line}\n");
        }
        text.push('\n');
        if self.stale.is_empty() {
            text += match self.stale_before.is_empty() {
                true => "The edit makes nothing stale: no prompt comes out different by it.\n",
                false => "The edit makes nothing stale that was not stale before it.\n",
            };
        } else {
            let names =
                self.stale.iter().map(|one| style::width(&clean(&one.task))).max().unwrap_or(0).min(40);
            text += &format!("{}\n", style.bold("Stale by the edit:"));
            for one in &self.stale {
                let why: Vec<String> = one.reasons.iter().map(|reason| clean(&reason.message)).collect();
                let name = style::pad(&clean(&one.task), names);
                text += &format!("  {} {name}  {}\n", style.paint(YELLOW, "·"), style.dim(&why.join("; ")));
            }
        }
        if !self.depends.is_empty() {
            let names: Vec<String> = self.depends.iter().map(|name| clean(name)).collect();
            let names = style.wrap(&format!("  {}", names.join(", ")), 2);
            text += &format!("{}\n{names}\n", style.bold("Depend on them:"));
        }
        if !self.stale_before.is_empty() {
            let names = some_names(&self.stale_before, 10);
            text +=
                &format!("{}\n  {names}\n", style.bold("Stale before the edit, and made again in any case:"));
        }
        if !self.stale.is_empty() {
            text += &format!("{}\n", self.expected());
        }
        text
    }

    /// What is expected of making all that is stale again.
    fn expected(&self) -> String {
        let mut text = match (self.calls_expected, self.calls_at_most) {
            (_, 0) => "No calls".to_owned(),
            (expected, most) if most > expected => {
                format!("{} expected, at most {most}", count(expected.into(), "call"))
            }
            (expected, _) => format!("{} expected", count(expected.into(), "call")),
        };
        if let Some(seconds) = self.duration_s.filter(|seconds| *seconds >= 1.0) {
            text += &format!(", {} of work when made last", elapsed(seconds));
        }
        if let Some(cost) = self.cost_usd.filter(|cost| *cost > 0.0) {
            text += &format!(", {} when made last", money(cost));
        }
        text + "."
    }

    /// A line for each task that is kept.
    pub fn kept_text(&self, how: &str) -> String {
        self.kept.iter().map(|name| format!("{}: {how}\n", clean(name))).collect()
    }
}
