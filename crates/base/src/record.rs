//! What is recorded of a task, as plain data: the two sidecars `.DONE` and `.status`, and the states
//! a task can be in. The names are those of the files; unknown fields are kept when a file is rewritten.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::{Totals, Usage, totals_if_any};
use crate::failure_class::FailureClass;
use crate::message::Message;

/// Version of the sidecar formats. A newer one is never believed, an older one still read.
pub const SCHEMA: u32 = 1;

/// 64 hex digits of blake3.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(blake3::hash(bytes).to_hex().to_string())
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl By {
    /// The word used in files and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            By::Build => "build",
            By::Touch => "touch",
            By::Rescue => "rescue",
            By::Human => "human",
            By::Import => "import",
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The state of a task. Four of them are derived from records and files, and never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Outputs are whole and recorded.
    Done,
    /// Derived: done, and an output was changed by hand since and kept.
    Edited,
    /// An attempt is under way, or was when planexe was killed.
    Running,
    /// An isolated task whose changes are being merged.
    Merging,
    /// Every attempt that may be made was made.
    Failed,
    /// Derived: it cannot run because something before it failed.
    Blocked,
    /// A person, or a paused gate, is waited for.
    Waiting,
    /// Whole, waiting for its evaluation.
    PendingEval,
    /// Exit status not 0, yet whole and valid; waiting for its evaluation.
    FailedPendingEval,
    /// Ended by a signal or a stop before its end.
    Stopped,
    /// Derived: it was done, and something it is made of changed.
    Stale,
    /// Derived: it was done, and its record or output is torn or missing.
    Damaged,
    /// Not done, nothing running.
    Pending,
    /// Its condition is false.
    Skipped,
}

impl State {
    /// Every state, in the order in which counts are shown.
    pub const ALL: [State; 14] = [
        State::Done,
        State::Edited,
        State::Running,
        State::Merging,
        State::Failed,
        State::Blocked,
        State::Waiting,
        State::PendingEval,
        State::FailedPendingEval,
        State::Stopped,
        State::Stale,
        State::Damaged,
        State::Pending,
        State::Skipped,
    ];

    /// The word used in files and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Edited => "edited",
            State::Running => "running",
            State::Merging => "merging",
            State::Failed => "failed",
            State::Blocked => "blocked",
            State::Waiting => "waiting",
            State::PendingEval => "pending_eval",
            State::FailedPendingEval => "failed_pending_eval",
            State::Stopped => "stopped",
            State::Stale => "stale",
            State::Damaged => "damaged",
            State::Pending => "pending",
            State::Skipped => "skipped",
        }
    }

    /// The state that a `.status` names; none if none of its states is called so.
    pub fn from_stored(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.is_stored() && state.name() == name)
    }

    /// Whether a `.status` may say so.
    pub fn is_stored(self) -> bool {
        !matches!(self, State::Edited | State::Blocked | State::Stale | State::Damaged)
    }

    /// Whether the outputs stand as they are.
    pub fn is_complete(self) -> bool {
        matches!(self, State::Done | State::Edited | State::Skipped)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who says that a task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A build ran it.
    Build,
    /// `planexe touch`, an empty marker, or a kept task of `edit-plan`.
    Touch,
    /// An evaluator.
    Rescue,
    /// `planexe done`.
    Human,
    /// `planexe import`: another program made it.
    Import,
}

/// Where the answer of an imported task came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Imported {
    /// The program that made it.
    pub from: String,
    /// Its file in that program's folder.
    pub file: String,
    /// SHA-256 of that file.
    pub sha256: String,
    /// The model that answered, as that file says.
    pub model: Option<String>,
    /// It had another form there.
    pub converted: bool,
    /// It was edited after that program wrote it.
    pub edited: bool,
    /// The planexe that imported it.
    pub by_version: String,
}

/// A result that was kept when what it was made from changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Digest over the files it was made from, so that it is no longer one when they are as they were.
    pub made_from: Digest,
    /// Figures and dates that the plan had then and has no more, where `edit-plan` kept it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// A file a task was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputRecord {
    /// Relative to the run directory.
    pub path: String,
    /// Digest of the bytes the attempt was given.
    pub blake3: Digest,
}

/// A file a task wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputRecord {
    /// Relative to the run directory.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Digest of the content.
    pub blake3: Digest,
}

/// `NAME.DONE`: the task is complete and its outputs were whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// Digest over [`Done::parts`].
    pub fingerprint: Digest,
    /// What the fingerprint is made of, part by part, so that a change can be named.
    #[serde(default)]
    pub parts: IndexMap<String, Digest>,
    /// Files read.
    pub inputs: Vec<InputRecord>,
    /// Files written.
    pub outputs: Vec<OutputRecord>,
    /// When, RFC 3339, UTC.
    pub completed_utc: String,
    /// Who says so.
    pub by: By,
    /// The person who did, where one did: by `planexe touch` or `planexe done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_user: Option<String>,
    /// The checkpoint of this completion.
    #[serde(default)]
    pub checkpoint_id: Option<String>,
    /// The model and parameters that made it: what drift is measured against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_with: Option<MadeWith>,
    /// The kept call the answer came from: its file under `.planexe/calls/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// A recorded answer to another prompt of the same task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
    /// Where it came from, if another program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// It was made from other inputs than [`Done::inputs`], and kept by a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// The evaluation it passed, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Evaluation>")]
    pub eval: Option<Value>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Map<String, Value>,
}

/// Model and parameters of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeWith {
    /// The name under `[models]`.
    pub endpoint: String,
    /// The model's name at its server.
    pub model: String,
    /// Digest of the sampling parameters.
    pub params: Digest,
}

/// Where fields of an answer are: JSON pointers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Places {
    /// Of those that were missing.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Of those that were invalid.
    #[serde(default)]
    pub invalid: Vec<String>,
}

/// Why a task failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// In a word.
    pub class: FailureClass,
    /// For people.
    pub message: Message,
    /// Joins log, usage and failures: 12 hex digits.
    #[serde(default)]
    pub error_id: Option<String>,
    /// Whether another try may succeed without a change.
    #[serde(default)]
    pub recoverable: bool,
    /// Its evaluator failed, not what it made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_evaluator: bool,
    /// Names of the fields of an answer that were missing.
    #[serde(default)]
    pub missing_fields: Vec<String>,
    /// Names of the fields of an answer that were invalid.
    #[serde(default)]
    pub invalid_fields: Vec<String>,
    /// Where those fields are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Box<Places>>,
    /// A command's exit code.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal that ended a command.
    #[serde(default)]
    pub signal: Option<i32>,
    /// What the server or command said, bounded.
    #[serde(default)]
    pub raw_error: Option<String>,
}

/// The last attempt of a task: by what, when, and on what it was decided. One of the three parts that `.status` and
/// `status --json` have in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LastAttempt {
    /// Its number: attempts of this task so far, from 1.
    pub attempt: u32,
    /// Its start.
    pub started_utc: Option<String>,
    /// Its end.
    pub ended_utc: Option<String>,
    /// Seconds it took, waiting for slots not counted.
    pub duration_s: Option<f64>,
    /// The model's name at its server.
    pub model: Option<String>,
    /// The dialect.
    pub api: Option<String>,
    /// planexe's process.
    pub pid: Option<u32>,
    /// Its host.
    pub host: Option<String>,
    /// Last progress seen.
    pub progress_utc: Option<String>,
    /// Position in topological order, from 0.
    pub step: Option<u32>,
    /// Number of steps.
    pub steps_total: Option<u32>,
    /// Digest of what the attempt was decided on.
    pub decision_id: Option<String>,
    /// The checkpoint of its completion.
    pub checkpoint_id: Option<String>,
}

/// What is to be known of what was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Quality {
    /// Accepted by an evaluator in spite of its exit status.
    pub rescued: Option<bool>,
    /// A recorded answer to another prompt.
    pub sample: Option<bool>,
    /// Some instances are missing.
    pub partial: Option<bool>,
    /// What a gate that let the pipeline go on has to say all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The evaluation, if there is one.
    #[schemars(with = "Option<Evaluation>")]
    pub eval: Option<Value>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AttemptResult {
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What it used, over all its calls.
    #[serde(serialize_with = "totals_if_any")]
    #[schemars(with = "Option<Totals>")]
    pub usage: Option<Usage>,
    /// Files written.
    pub outputs: Vec<OutputRecord>,
}

/// `NAME.status`: the state of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// The state.
    pub state: State,
    /// Its last attempt.
    #[serde(flatten)]
    pub last: LastAttempt,
    /// What is to be known of what it made.
    #[serde(flatten)]
    pub quality: Quality,
    /// What came of the attempt.
    #[serde(flatten)]
    pub result: AttemptResult,
    /// Retry budgets spent so far; they survive a kill and start anew after a final `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budgets: Option<Value>,
    /// Of an isolated task: its lane, branch and worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolated>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Map<String, Value>,
}

/// Where an isolated task works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isolated {
    /// Its lane: its own name, or that of one it shares.
    pub lane: String,
    /// The branch its commits go to.
    pub base: String,
    /// The branch they are on until then.
    pub branch: String,
    /// The worktree, relative to the run directory.
    pub worktree: String,
    /// The commit it succeeded with, once it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl Status {
    /// A status in a state, all else unknown.
    pub fn new(task: impl Into<String>, state: State) -> Status {
        Status {
            schema: SCHEMA,
            task: task.into(),
            state,
            last: LastAttempt::default(),
            quality: Quality::default(),
            result: AttemptResult::default(),
            budgets: None,
            isolation: None,
            other: Map::new(),
        }
    }
}

/// What a `.DONE` turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Marker {
    /// Not there.
    Missing,
    /// An empty file, set by hand: to be adopted if the outputs hold. Ours are synced before they
    /// get their name, so that a power cut cannot leave one.
    Empty,
    /// Cannot be read; what is wrong with it.
    Damaged(String),
    /// Of a newer version; which.
    Newer(u32),
    /// A record.
    Valid(Box<Done>),
}

/// An evaluation as records have it (`eval`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evaluation {
    /// The score; none while the evaluator is waited for.
    pub score: Option<f64>,
    /// The least score that passes.
    pub threshold: f64,
    /// What the evaluator said beside it.
    pub notes: String,
    /// The round that is evaluated, from 1; 0 for outputs that were there already.
    pub round: u32,
    /// The most rounds.
    pub rounds: u32,
    /// The model that scores, by its name at its server; none for a command.
    pub model: Option<String>,
}

impl Evaluation {
    /// As it is recorded, if it is one.
    pub fn from_value(value: Option<&Value>) -> Option<Evaluation> {
        serde_json::from_value(value?.clone()).ok()
    }

    /// In a few words: "score 0.27, wanted 0.7 or more".
    pub fn text(&self) -> String {
        match self.score {
            Some(score) if score >= self.threshold => format!("score {score} of {} or more", self.threshold),
            Some(score) => format!("score {score}, wanted {} or more", self.threshold),
            None => "waits for its evaluator".to_owned(),
        }
    }
}

/// Why contents went to history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The task ran again.
    Replaced,
    /// `planexe clean`.
    Cleaned,
    /// Edited by hand and about to be made again.
    Edited,
    /// Its task or item is gone.
    Orphaned,
    /// Empty, invalid or torn.
    Damaged,
    /// Another content was restored.
    Restored,
    /// The plan, before an edit.
    Plan,
}

#[cfg(test)]
mod tests;
