//! `planexe explain`: why a task would run, or need not.

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::status::some_names;
use crate::views::{
    Asks, BatchView, Reason, Server, Verdict, accepted_by, coloured_diff, hint_of, imported_from, reason_of,
    time,
};
use planexe_base::failure_class::FailureClass;
use planexe_base::record::{Failure, Imported, Isolated, State};
use planexe_base::style::{self, Style, clean};
use planexe_pipeline::eval_score::Evaluation;

/// Why a task would run, or need not.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
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
    pub state: State,
    /// What judging it gave.
    pub verdict: Verdict,
    /// What changed, or why no build can run it as things are.
    pub reasons: Vec<Reason>,
    /// No build can run it as things are: what it needs to be decided on cannot be used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cannot_run: bool,
    /// Tasks whose outcome decides whether it runs.
    pub depends_on: Vec<String>,
    /// Failed tasks that block it.
    pub blocked_by: Vec<String>,
    /// When it was completed.
    pub completed_utc: Option<String>,
    /// Who said so: build, touch, rescue, human, import.
    pub by: Option<String>,
    /// The person who did, by `planexe touch` or `planexe done`.
    pub by_user: Option<String>,
    /// Where it came from, if it was imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// Files it read that are not what they were, or are no longer read, or are new.
    pub changed_inputs: Vec<InputChange>,
    /// Attempts since it was last done.
    pub attempt: u32,
    /// Why its last attempt failed.
    pub failure: Option<Failure>,
    /// The evaluation it passed, failed or waits for.
    pub eval: Option<Evaluation>,
    /// Of an isolated task that was begun: its lane, branch and worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolated>,
    /// What a person is asked, while one is waited for.
    pub asked: Option<String>,
    /// What a gate that let the pipeline go on has to say all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What differs from when it was made without making it stale.
    pub drift: Vec<Drift>,
    /// Of a prompt: which models it asks, and what says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// The batch that its call is in, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchView>,
    /// What the next build would do, one line each: "ask qwen3.5 (about 3.1k tokens)", "use the kept answer".
    pub next: Vec<String>,
    /// Tasks that read its outputs.
    pub readers: Vec<String>,
    /// Of a task that depends on others: the stale tasks it all begins with.
    pub roots: Vec<InstanceView>,
    /// Of a `foreach` task, its instances.
    pub instances: Vec<InstanceView>,
}

/// A file a task was made from that differs now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InputChange {
    /// Relative to the run directory.
    pub path: String,
    /// Digest it was made from; none if it was not read then.
    pub old: Option<String>,
    /// Digest now; none if it is not read any more.
    pub new: Option<String>,
}

impl InputChange {
    fn line(&self) -> String {
        let short = |digest: &str| clean(digest).chars().take(12).collect::<String>();
        let path = clean(&self.path);
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => format!("{path} ({} -> {})", short(old), short(new)),
            (None, _) => format!("{path} (new)"),
            (Some(_), None) => format!("{path} (no longer read)"),
        }
    }
}

/// An instance of a `foreach` task, or another task, in a few words.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct InstanceView {
    /// `task` or `task[key]`.
    pub task: String,
    /// The state, derived ones included.
    pub state: State,
    /// What judging it gave.
    pub verdict: Verdict,
    /// What changed, or why it failed: one line each.
    pub reasons: Vec<String>,
}

impl InstanceView {
    fn line(&self, style: &Style) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(|line| clean(line)).collect();
        let line = format!("  {} {}  {}", style.glyph(self.state), clean(&self.task), reasons.join("; "));
        style.fit(line.trim_end()).into_owned()
    }
}

/// Something that differs from when a task was made without making it stale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Drift {
    /// `model`, `params`.
    pub what: String,
    /// As it was.
    pub made_with: String,
    /// As it is.
    pub now: String,
}

/// So many lines of a list are shown.
const LINES: usize = 15;

/// The first lines, and how many more there are.
fn bounded(lines: impl Iterator<Item = String>, most: usize) -> String {
    let lines: Vec<String> = lines.collect();
    let mut text: String = lines.iter().take(most).map(|line| format!("{line}\n")).collect();
    if lines.len() > most {
        text += &format!("  and {} more\n", lines.len() - most);
    }
    text
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

/// Where an isolated task works, or what became of that.
pub fn isolated(isolation: &Isolated, state: State) -> String {
    let [lane, base, branch, worktree] =
        [&isolation.lane, &isolation.base, &isolation.branch, &isolation.worktree].map(|text| clean(text));
    match state.is_complete() {
        true => format!("Isolated: lane `{lane}`, merged into `{base}`."),
        false => format!("Isolated: lane `{lane}`, in {worktree}, on `{branch}` for `{base}`."),
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
        if !self.blocked_by.is_empty() {
            text += &format!("Blocked: it needs {}, which failed.\n", some_names(&self.blocked_by, 8));
        }
        if let Some(asked) = &self.asked {
            text += &format!("Waiting for a person: {}\n", clean(asked));
        }
        if let Some(warning) = &self.warning {
            text += &format!("It warned: {}\n", clean(warning));
        }
        text += &match self.verdict {
            Verdict::Fresh => self.fresh(),
            _ if !self.instances.is_empty() => self.families(style),
            _ if self.state == State::Running => "Running now.\n".to_owned(),
            _ if self.state == State::Merging
                || (self.state == State::Waiting && self.isolation.is_some()) =>
            {
                let how = match self.by.as_deref() {
                    Some("touch") => format!("was {}", accepted_by(self.by_user.as_deref())),
                    _ => "succeeded".to_owned(),
                };
                format!("Not done yet: it {how}, and is to be merged.\n")
            }
            Verdict::Stale if self.cannot_run => self.refused(style),
            Verdict::Stale if self.asked.is_some() => String::new(),
            // That it was never built says nothing more.
            Verdict::Stale
                if !self.blocked_by.is_empty()
                    && self
                        .reasons
                        .iter()
                        .all(|why| matches!(why.code.as_str(), "never_built" | "taken_away")) =>
            {
                String::new()
            }
            Verdict::Stale if self.reasons.is_empty() => "Stale: it will run.\n".to_owned(),
            Verdict::Stale => self.stale(style),
            Verdict::DependsOn if !self.blocked_by.is_empty() => String::new(),
            Verdict::DependsOn => {
                let names = some_names(&self.depends_on, 8);
                let begins = if self.roots.is_empty() { "" } else { " It begins with:" };
                let line = format!(
                    "Not decided yet: it depends on {names}, and runs if what comes out differs.{begins}"
                );
                style.wrap(&line, 2) + "\n" + &bounded(self.roots.iter().map(|root| root.line(style)), LINES)
            }
        };
        if let Some(isolation) = &self.isolation {
            text += &format!("\n{}\n", style.wrap(&isolated(isolation, self.state), 2));
        }
        if let Some(evaluation) = &self.eval {
            text += &self.evaluated(evaluation, style);
        }
        if !self.changed_inputs.is_empty() {
            text += match self.verdict {
                Verdict::Fresh => "\nInputs that differ from those it was made from, without effect on it:\n",
                _ => "\nInputs that differ from those it was made from:\n",
            };
            text += &bounded(self.changed_inputs.iter().map(|change| format!("  {}", change.line())), LINES);
        }
        if let Some(failure) = self.failure.as_ref().filter(|_| !self.cannot_run) {
            text += &self.failed(failure, style);
        }
        for drift in &self.drift {
            text += &format!(
                "\nMade with another {}: {} (now {}). That alone does not make it stale; `--rebuild-on model` would.\n",
                clean(&drift.what),
                clean(&drift.made_with),
                clean(&drift.now)
            );
        }
        if let Some(asks) = &self.asks {
            text += &format!("\n{}\n", style.wrap(&asks.text(), 2));
        }
        if !self.next.is_empty() {
            text += "\nThe next build would:\n";
            for line in &self.next {
                text += &format!("  {}\n", clean(line));
            }
        }
        if !self.readers.is_empty() && self.verdict != Verdict::Fresh {
            let line = format!("Readers, run only if its outputs differ: {}", some_names(&self.readers, 8));
            text += &format!("\n{}\n", style.wrap(&line, 2));
        }
        text
    }

    /// What its evaluator said, or that it is waited for.
    fn evaluated(&self, evaluation: &Evaluation, style: &Style) -> String {
        let rounds = match (evaluation.round, evaluation.rounds) {
            (0, _) | (_, 0 | 1) => String::new(),
            (round, rounds) => format!(" in round {round} of {rounds}"),
        };
        let who =
            evaluation.model.as_deref().map(|model| format!(" by {}", clean(model))).unwrap_or_default();
        let Some(score) = evaluation.score else {
            let after = match self.state {
                State::FailedPendingEval => "Its command failed, and what it left is whole. ",
                _ => "",
            };
            return format!(
                "\n{after}Its evaluation is waited for{rounds}: {} or more passes.\n",
                evaluation.threshold
            );
        };
        let verdict = if score >= evaluation.threshold { "passes" } else { "does not pass" };
        let line = format!(
            "Evaluated{who}{rounds}: {score}, which {verdict} ({} or more does).",
            evaluation.threshold
        );
        let mut text = format!("\n{}\n", style.wrap(&line, 2));
        for line in style::clean_lines(&evaluation.notes).lines().take(LINES) {
            text += &format!("  | {line}\n");
        }
        text
    }

    /// How its last attempt failed, with the end of what was said.
    fn failed(&self, failure: &Failure, style: &Style) -> String {
        let attempts = match self.attempt {
            0 | 1 => String::new(),
            attempts => format!(" (attempt {attempts})"),
        };
        let failed = match self.state {
            State::PendingEval => reason_of(failure),
            State::FailedPendingEval if failure.class != FailureClass::Exit => reason_of(failure),
            State::Merging | State::Waiting if self.isolation.is_some() => {
                format!("Not merged: {}", reason_of(failure))
            }
            _ => format!("Its last attempt failed{attempts}: {}", reason_of(failure)),
        };
        let mut text = format!("\n{}\n", style.wrap(&failed, 2));
        if let Some(hint) = hint_of(failure) {
            text += &format!("{}\n", style.wrap(&format!("hint: {hint}"), 2));
        }
        let (missing, invalid) = match failure.places.as_deref() {
            Some(places) => (&places.missing, &places.invalid),
            // A record of another version has the names alone.
            None => (&failure.missing_fields, &failure.invalid_fields),
        };
        for (what, fields) in [("missing", missing), ("invalid", invalid)] {
            if !fields.is_empty() {
                text += &format!("  {what}: {}\n", some_names(fields, 8));
            }
        }
        let raw = failure.raw_error.as_deref().unwrap_or_default().trim();
        if !raw.is_empty() && !failure.message.text.contains(raw) {
            let lines: Vec<String> = style::clean_lines(raw).lines().map(str::to_owned).collect();
            let skipped = lines.len().saturating_sub(LINES);
            if skipped > 0 {
                text += &format!(
                    "  {}\n",
                    style.dim(&format!("({} before)", style::count(skipped as u64, "line")))
                );
            }
            for line in &lines[skipped..] {
                text += &format!("  | {line}\n");
            }
        }
        if let Some(error_id) = &failure.error_id {
            text += &format!("  {}\n", style.dim(&format!("error {}", clean(error_id))));
        }
        text
    }

    /// A fan-out, by what its instances have in common.
    fn families(&self, style: &Style) -> String {
        let mut text = format!("{}:", style::count(self.instances.len() as u64, "instance"));
        let mut counts = Vec::new();
        for state in State::ALL {
            let count = self.instances.iter().filter(|instance| instance.state == state).count();
            if count > 0 {
                counts
                    .push(format!(" {}", style.paint(state.colour(), &format!("{count} {}", state.name()))));
            }
        }
        text += &counts.join(",");
        text.push('\n');
        let open = self.instances.iter().filter(|instance| instance.verdict != Verdict::Fresh);
        text + &bounded(open.map(|instance| instance.line(style)), LINES)
    }

    fn fresh(&self) -> String {
        let since =
            self.completed_utc.as_deref().map(|utc| format!(" since {}", time(utc))).unwrap_or_default();
        let by = match self.by.as_deref() {
            None | Some("build") => String::new(),
            Some("touch") => format!(", when it was {}", accepted_by(self.by_user.as_deref())),
            Some("human") => match &self.by_user {
                Some(user) => format!(", when {} passed it", clean(user)),
                None => ", when a person passed it".to_owned(),
            },
            Some("import") => match &self.imported {
                Some(imported) => format!(", when it was {}", imported_from(imported)),
                None => ", when it was imported".to_owned(),
            },
            Some("rescue") => ", when its evaluation accepted it".to_owned(),
            Some(other) => format!(" (by {})", clean(other)),
        };
        format!("Fresh: nothing it is made of changed{since}{by}.\n")
    }

    /// Why it cannot be run, and what helps.
    fn refused(&self, style: &Style) -> String {
        let mut text = "It cannot run as things are; the next build fails at it:\n".to_owned();
        for reason in &self.reasons {
            text += &format!("  {} {}\n", style.glyph(State::Failed), reason.line());
        }
        for hint in self.failure.iter().filter_map(hint_of) {
            text += &format!("{}\n", style.wrap(&format!("hint: {hint}"), 2));
        }
        text
    }

    fn stale(&self, style: &Style) -> String {
        let mut text = "Stale: it will run because:\n".to_owned();
        for reason in &self.reasons {
            text += &format!("  {} {}\n", style.glyph(State::Stale), reason.line());
            if let Some(diff) = reason.diff.as_deref().filter(|diff| !diff.is_empty()) {
                text += &coloured_diff(diff, style, "      ");
                text.push('\n');
            }
        }
        text
    }
}
