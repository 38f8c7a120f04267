//! What planexe answers, as data and as text: pure functions over plain structs that the commands fill.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use planexe_base::exit;
use planexe_base::message::Hint;
use planexe_base::record::{
    AttemptResult, By as DoneBy, Failure, Imported, Isolated, LastAttempt, Quality, State, Status,
};
use planexe_base::style::{self, Style, clean};
use planexe_pipeline::eval_score::Evaluation;

pub use planexe_base::style::shell_word;

mod asks;
pub mod changes;
mod check;
pub mod edit_plan;
mod explain;
mod graph;
pub mod news;

mod plan;
mod prefixes;
pub mod records;
mod show;
pub mod simulate;
mod status;
mod steer;
mod summary;
pub mod timeline;

pub use asks::{AskedModel, Asks, By, Marks};
pub use check::{CheckView, FaultsView};
pub use explain::{Drift, ExplainView, InputChange, InstanceView};
pub use graph::{GraphEdge, GraphNode, GraphView};
pub use plan::{LaneView, PlanTask, PlanView, ResumeView};
pub use prefixes::Prefixes;
pub use records::{CheckpointsView, FailuresView, ModelScore, UsageRow, UsageView};
pub use show::{CallView, PromptPart, ShowView, call_views};
pub use simulate::{PredictedRow, SimulateView};
pub use status::{BatchView, ErrorSummary, ParkedView, QualitySummary, RunView, StatusView, some_names};
pub use steer::{SteerView, WaitView};
pub use summary::{BuildOutcome, FailedView, SummaryView, WaitingView};

/// Version of the JSON formats of this module.
pub const SCHEMA: u32 = 1;

/// Who answers: in every machine-readable answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Server {
    /// `planexe`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The host it ran on.
    pub host: Option<String>,
}

impl Server {
    /// This planexe, on a host.
    pub fn here(host: Option<String>) -> Server {
        Server { name: "planexe".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), host }
    }
}

/// An error as data.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The error.
    pub error: ErrorBody,
}

/// What `error` holds when a command could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable: `locked`, `never_started`, …
    pub code: String,
    /// One line for people.
    pub message: String,
    /// What lies behind it.
    pub causes: Vec<String>,
    /// What may help, one line each.
    pub hints: Vec<Hint>,
    /// The commands to type next that the hints name.
    pub next: Vec<String>,
    /// The exit code.
    pub exit_code: u8,
}

impl ErrorView {
    /// The data of an error.
    pub fn from_error(error: &exit::Error, server: Server) -> ErrorView {
        ErrorView {
            schema: SCHEMA,
            server,
            error: ErrorBody {
                code: error.code.to_owned(),
                message: error.message.clone(),
                causes: error.causes.clone(),
                hints: error.hints.clone(),
                next: error.hints.iter().flat_map(Hint::commands).cloned().collect(),
                exit_code: error.exit_code(),
            },
        }
    }
}

/// What was found out about a task without running anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Up to date.
    Fresh,
    /// Will run.
    Stale,
    /// Runs if what the tasks before it make turns out to differ.
    DependsOn,
}

/// Why a task is stale: one thing that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reason {
    /// Stable: `changed`, `output_missing`, `never_built`, …
    pub code: String,
    /// One line for people: "the prompt changed", "input `plan.txt` changed".
    pub message: String,
    /// The part of the fingerprint that differs.
    pub part: Option<String>,
    /// Digest of the part as recorded.
    pub old: Option<String>,
    /// Digest of the part now.
    pub new: Option<String>,
    /// What changed in a text, by [`diff`].
    pub diff: Option<String>,
}

impl Reason {
    /// A reason that names no part.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Reason {
        Reason { code: code.into(), message: message.into(), ..Reason::default() }
    }

    /// For one line: `the prompt changed (1f2e3d4c5b6a -> 9a8b7c6d5e4f)`.
    fn line(&self) -> String {
        let short = |digest: &String| clean(digest).chars().take(12).collect::<String>();
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => format!("{} ({} -> {})", clean(&self.message), short(old), short(new)),
            _ => clean(&self.message),
        }
    }
}

/// Reasons in one line.
fn joined<'a>(reasons: impl IntoIterator<Item = &'a Reason>) -> String {
    reasons.into_iter().map(|reason| clean(&reason.message)).collect::<Vec<_>>().join("; ")
}

/// A task as `status --json` shows it: what is derived, and the parts of its `.status`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskView {
    /// `task` or `task[key]`.
    pub task: String,
    /// The state, derived ones included.
    pub state: State,
    /// What judging it gave, if it was judged.
    pub verdict: Option<Verdict>,
    /// Why it is stale.
    pub reasons: Vec<Reason>,
    /// Tasks whose outcome decides whether it runs.
    pub depends_on: Vec<String>,
    /// Failed tasks that block it.
    pub blocked_by: Vec<String>,
    /// The `foreach` task it is an instance of.
    pub family: Option<String>,
    /// prompt, command, template, gate, human, group.
    pub recipe: Option<String>,
    /// The model or parameters it was made with differ from those of now: in a few words.
    pub drift: Option<String>,
    /// Of a running task: what it does. Of a waiting one: what is asked. Of one whose turn has not come: why.
    pub doing: Option<String>,
    /// Of a running task: `starting`, `connecting`, `prompt`, `answer`, `checking`, `saving`, `running`, `rendering`.
    pub phase: Option<String>,
    /// Of a running task: tokens of the answer so far, about.
    pub tokens: Option<u64>,
    /// Of a running task: seconds it usually takes.
    pub expected_s: Option<f64>,
    /// Of a running task: seconds since it started.
    pub elapsed_s: Option<f64>,
    /// Its last attempt.
    #[serde(flatten)]
    pub last: LastAttempt,
    /// Who says that it is done: `build`, `touch`, `rescue`, `human`, `import`.
    pub by: Option<String>,
    /// The person who did, by `planexe touch` or `planexe done`.
    pub by_user: Option<String>,
    /// What is to be known of what it made.
    #[serde(flatten)]
    pub quality: Quality,
    /// Of an isolated task: its lane, branch and worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolated>,
    /// Of one that an executor has: which, its id there, and the machine it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<OnExecutor>,
    /// What came of the attempt.
    #[serde(flatten)]
    pub result: AttemptResult,
    /// A fan-out that is done because its list is empty: it counts as no task.
    #[serde(skip)]
    pub no_items: bool,
}

/// Where an attempt is that an executor has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct OnExecutor {
    /// The executor's name in the pipeline.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// The id by which it knows the job.
    pub job: Option<String>,
    /// The machine, once it runs.
    pub host: Option<String>,
    /// When it was handed over.
    pub since_utc: String,
}

impl OnExecutor {
    /// In a few words.
    pub fn text(&self) -> String {
        let job = self.job.as_ref().map_or(String::new(), |job| format!(", job {job}"));
        let host = self.host.as_ref().map_or(", waiting".to_owned(), |host| format!(" on {host}"));
        format!("{}{job}{host}", self.name)
    }
}

impl TaskView {
    /// A task of which only the name and state are known.
    pub fn new(task: impl Into<String>, state: State) -> TaskView {
        TaskView {
            task: task.into(),
            state,
            verdict: None,
            reasons: Vec::new(),
            depends_on: Vec::new(),
            blocked_by: Vec::new(),
            family: None,
            recipe: None,
            drift: None,
            doing: None,
            phase: None,
            tokens: None,
            expected_s: None,
            elapsed_s: None,
            last: LastAttempt::default(),
            by: None,
            by_user: None,
            quality: Quality::default(),
            isolation: None,
            executor: None,
            result: AttemptResult::default(),
            no_items: false,
        }
    }

    /// What its `.status` says, the state as stored. The failure of a task that is done since is left out.
    pub fn from_status(status: &Status) -> TaskView {
        let done = status.state.is_complete();
        let Quality { warning, .. } = &status.quality;
        let AttemptResult { failure, .. } = &status.result;
        TaskView {
            last: status.last.clone(),
            quality: Quality { warning: warning.clone().filter(|_| done), ..status.quality.clone() },
            isolation: status.isolation.clone(),
            result: AttemptResult { failure: failure.clone().filter(|_| !done), ..status.result.clone() },
            ..TaskView::new(status.task.clone(), status.state)
        }
    }

    /// Glyph and word: a rescued task is done with a star.
    fn sign(&self) -> (String, &'static str) {
        let star = if self.quality.rescued == Some(true) && self.state == State::Done { "*" } else { "" };
        (format!("{}{star}", self.state.glyph()), self.state.name())
    }

    /// Whether its outputs were taken as they are on a person's word.
    pub fn is_accepted(&self) -> bool {
        self.by.as_deref() == Some(DoneBy::Touch.name())
            && (self.state.is_complete() || self.state == State::Merging)
    }

    /// Seconds to show: so far, or in all.
    fn seconds(&self) -> Option<f64> {
        match self.state {
            State::Running => self.elapsed_s.or(self.last.duration_s),
            // How long it took to find out that a person is needed is of no interest.
            State::Waiting | State::Blocked => None,
            _ => self.last.duration_s,
        }
    }

    /// When a running task is expected to end.
    fn expectation(&self) -> String {
        let (Some(expected), Some(elapsed)) = (self.expected_s, self.elapsed_s) else { return String::new() };
        match expected - elapsed {
            _ if expected < 1.0 || self.state != State::Running => String::new(),
            left if left >= 0.0 => format!("about {} to go", style::elapsed(left.max(1.0))),
            _ => format!("usually takes {}", style::elapsed(expected)),
        }
    }

    /// What there is to say of it, in one line.
    fn remark(&self) -> String {
        let names = |names: &[String]| names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        let failure = self.result.failure.as_ref().map(reason_of).unwrap_or_default();
        let mut parts = match self.state {
            State::Failed | State::FailedPendingEval | State::PendingEval => {
                vec![failure]
            }
            State::Blocked => vec![format!("needs {}", names(&self.blocked_by))],
            State::Running | State::Merging | State::Waiting => {
                let attempt = (self.last.attempt > 1).then(|| format!("attempt {}", self.last.attempt));
                let doing = self.doing.as_deref().map(clean);
                let expected = if failure.is_empty() { self.expectation() } else { String::new() };
                vec![attempt.unwrap_or_default(), doing.unwrap_or_default(), failure, expected]
            }
            State::Pending | State::Stale => {
                vec![self.doing.as_deref().map(clean).unwrap_or_default()]
            }
            State::Stopped if failure.is_empty() => vec!["continues at the next build".to_owned()],
            State::Stopped => vec![failure],
            State::Edited => vec!["changed by hand and kept".to_owned()],
            State::Done | State::Skipped | State::Damaged => Vec::new(),
        };
        if !matches!(self.state, State::Failed | State::Blocked | State::Running) {
            // What the state's own word says needs no saying again.
            let said = |reason: &&Reason| {
                !matches!(reason.code.as_str(), "never_built" | "interrupted" | "failed_before")
            };
            parts.push(joined(self.reasons.iter().filter(said)));
        }
        if !self.depends_on.is_empty() && !matches!(self.state, State::Blocked | State::Running) {
            let how = if self.state.is_complete() { "depends on" } else { "after" };
            parts.push(format!("{how} {}", status::some_names(&self.depends_on, 3)));
        }
        if let Some(isolation) = &self.isolation
            && matches!(
                self.state,
                State::Running | State::Merging | State::Waiting | State::Stopped | State::Failed
            )
        {
            let lane = if isolation.lane == self.task { "" } else { &isolation.lane };
            let lane = if lane.is_empty() { String::new() } else { format!("lane {}, ", clean(lane)) };
            parts.push(format!("{lane}in {}", clean(&isolation.worktree)));
        }
        if let Some(evaluation) =
            Evaluation::from_value(self.quality.eval.as_ref()).filter(|it| it.score.is_some())
            && self.state == State::Done
        {
            parts.push(format!("score {}", evaluation.score.unwrap_or_default()));
        }
        parts.extend(self.is_accepted().then(|| accepted_by(self.by_user.as_deref())));
        let is_imported = self.state.is_complete() && self.by.as_deref() == Some(DoneBy::Import.name());
        parts.extend(is_imported.then(|| "imported".to_owned()));
        for (flag, words) in [
            (self.quality.partial, "partial: items are missing"),
            (self.quality.sample, "sample answer"),
            (self.quality.rescued, "rescued by its evaluation"),
        ] {
            if flag == Some(true) {
                parts.push(words.to_owned());
            }
        }
        parts.extend(self.quality.warning.as_deref().map(|warning| format!("warned: {}", clean(warning))));
        parts.extend(self.drift.as_deref().map(clean));
        parts.retain(|part| !part.is_empty());
        parts.join("; ")
    }
}

/// That outputs were taken as they are, and by whom.
pub fn accepted_by(user: Option<&str>) -> String {
    user.map_or("accepted by hand".to_owned(), |user| format!("accepted by hand by {}", clean(user)))
}

/// Where an answer came from that another program got.
pub fn imported_from(imported: &Imported) -> String {
    let [from, file] = [&imported.from, &imported.file].map(|text| clean(text));
    let converted = if imported.converted { ", converted" } else { "" };
    let edited = if imported.edited { ", edited there by hand" } else { "" };
    format!("imported from {from} (`{file}`{converted}{edited})")
}

/// A failure in one line: `validation: /risks/0/title is missing`.
pub fn reason_of(failure: &Failure) -> String {
    match (clean(failure.class.name()), clean(&failure.message.text)) {
        (class, message) if message.is_empty() => class,
        (class, message) if class.is_empty() || message.starts_with(&format!("{class}:")) => message,
        (class, message) => format!("{class}: {message}"),
    }
}

/// What a failure's message says to do about it.
pub fn hint_of(failure: &Failure) -> Option<String> {
    failure.message.advice().map(|advice| clean(&advice))
}

/// How many tasks are in each state; every state is named. A `foreach` task counts as its instances, once it has any.
pub fn counts(tasks: &[TaskView]) -> IndexMap<String, u32> {
    let mut counts: IndexMap<String, u32> =
        State::ALL.iter().map(|state| (state.name().to_owned(), 0)).collect();
    for task in without_families(tasks).filter(|task| !task.no_items) {
        *counts.entry(task.state.name().to_owned()).or_default() += 1;
    }
    counts
}

fn without_families(tasks: &[TaskView]) -> impl Iterator<Item = &TaskView> {
    let families: std::collections::HashSet<&str> =
        tasks.iter().filter_map(|task| task.family.as_deref()).collect();
    tasks.iter().filter(move |task| !families.contains(task.task.as_str()))
}

/// The difference of two texts as a unified diff without file names; empty if there is none.
pub fn diff(old: &str, new: &str) -> String {
    changes::lines(old, new).unified_diff().context_radius(3).to_string()
}

/// A difference, cleaned, indented and coloured, without its final line end.
fn coloured_diff(diff: &str, style: &Style, indent: &str) -> String {
    let mut lines = Vec::new();
    for line in style::clean_lines(diff).lines() {
        let line = match line.chars().next() {
            Some('+') => style.paint(style::GREEN, line),
            Some('-') => style.paint(style::RED, line),
            Some('@') => style.paint(style::CYAN, line),
            Some('\\') => style.dim(line),
            _ => line.to_owned(),
        };
        lines.push(format!("{indent}{line}"));
    }
    lines.join("\n")
}

/// `2026-03-01T22:15:04.123Z` as people read it: `2026-03-01 22:15:04 UTC`.
pub fn time(utc: &str) -> String {
    let utc = clean(utc);
    match (utc.get(..10), utc.get(11..19)) {
        (Some(day), Some(time)) if utc.ends_with('Z') => format!("{day} {time} UTC"),
        _ => utc,
    }
}

/// A column of a table is cut no further than this: a time has room.
const NARROWEST: usize = 23;

/// Lays rows out in columns, each as wide as its widest cell, two spaces apart; for lists such as history and keys.
pub fn table(rows: &[Vec<String>], style: &Style) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| style::width(cell)).max().unwrap_or(0)
        })
        .collect();
    // Where the terminal is too narrow the widest columns give way, not whatever stands on the right.
    let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(2 * columns.saturating_sub(1)));
    while widths.iter().sum::<usize>() > room
        && let Some(widest) = widths.iter_mut().max().filter(|width| **width > NARROWEST)
    {
        *widest -= 1;
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| style::pad(&style::truncate(cell, width), width))
            .collect();
        text += &style.fit(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text put over the one shown before, from the top of the screen; what the screen has no rows for is cut.
pub fn redrawn(text: &str, rows: usize) -> String {
    let mut screen = String::from("\x1b[H");
    for line in text.lines().take(rows.saturating_sub(1)) {
        screen += line;
        screen += "\x1b[K\r\n";
    }
    screen + "\x1b[J"
}
#[cfg(test)]
mod test;
