//! What is asked of a build, and what it answers.

use std::time::Duration;

use planexe_base::event::Summary;
use planexe_base::fs::FsError;
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_engine::scheduler::{Options, Target};
use planexe_store::null_build::{BuildInputs, Contents};

/// What is asked of a build.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The targets; keys limit a fan-out to some of its items.
    pub targets: Vec<Target>,
    /// `--keep-going`, `--fail-fast`, `--stop-all`, `--only`.
    pub options: Options,
    /// Tasks to be forced (`-B`): the targets and what they need.
    pub force: bool,
    /// Start nothing after so long.
    pub max_time: Option<Duration>,
    /// Start no call after so many USD.
    pub max_cost: Option<f64>,
    /// Wait for the reset of a usage limit, however long.
    pub at_reset: bool,
    /// Ask models whose usage limit is said not to be over.
    pub before_reset: bool,
    /// Tell why each task is stale.
    pub explain: bool,
    /// Leave a task that failed as it is while nothing it is made from changed.
    pub keep_same_failed: bool,
    /// Failures that were told already: the same ones are not told again.
    pub known_failures: Vec<(String, Failure)>,
}

/// What was edited while a build runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Inputs, relative to the run directory.
    pub inputs: Vec<String>,
    /// Declarations of tasks whose prompts, templates, schemas or checks changed.
    pub decls: Vec<usize>,
    /// The pipeline must be read anew: nothing more starts from what was read.
    pub reload: bool,
}

/// How a build ended.
#[derive(Debug)]
pub struct Ended {
    /// In figures.
    pub summary: Summary,
    /// What stopped it short, if something did.
    pub stopped: Option<Stopped>,
    /// What broke it: records that could not be written.
    pub broken: Option<FsError>,
    /// Whether any task was started.
    pub started: bool,
    /// Failures in the order they happened.
    pub failures: Vec<Failed>,
    /// What the verdict rested on that everything is up to date now.
    pub inputs: Option<BuildInputs>,
    /// What tasks that ran were given and left, if everything is up to date now.
    pub contents: Option<Contents>,
    /// The null-build record speaks of tasks that are skipped now, or does not of such as were.
    pub record_is_outdated: bool,
    /// Outputs edited by hand that were found valid and kept.
    pub edited: Vec<String>,
    /// Whether a failure counts: one that `min_success` absorbs does not.
    pub fails: bool,
    /// What is waited for, where a usage limit stopped it.
    pub parked: Option<String>,
    /// Tasks that wait for a person, and what they are asked.
    pub waiting: Vec<(String, Message)>,
    /// The task last completed.
    pub last_completed: Option<Completion>,
}

/// A task that failed.
#[derive(Debug)]
pub struct Failed {
    /// `task` or `task[key]`.
    pub task: String,
    /// Why.
    pub failure: Failure,
    /// The tasks that cannot be made without it.
    pub blocks: Vec<String>,
}

/// A task that was completed.
#[derive(Debug)]
pub struct Completion {
    /// Its topological position.
    pub step: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// Names the completion.
    pub checkpoint_id: Option<String>,
    /// What it was decided on.
    pub decision_id: String,
}

/// What stops a build short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A signal: its number.
    Signal(i32),
    /// `planexe stop`, or the file.
    StopFile,
    /// `planexe abort`.
    Abort,
    /// A limit on time.
    MaxTime,
    /// A limit on tokens.
    MaxTokens,
    /// A limit on money.
    MaxCost,
    /// A limit on calls.
    MaxCalls,
    /// All that is left waits for the reset of a usage limit.
    UsageLimit,
    /// All that is left waits for batches.
    Batch,
    /// The pipeline or one of its texts was edited: `watch` reads it anew.
    Edited,
}

impl Stopped {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Stopped::Signal(signal_hook::consts::SIGINT) => "stopped by Ctrl-C",
            Stopped::Signal(signal_hook::consts::SIGTERM) => "stopped by SIGTERM",
            Stopped::Signal(signal_hook::consts::SIGHUP) => "stopped by SIGHUP",
            Stopped::Signal(_) => "stopped by a signal",
            Stopped::StopFile => "stopped by `planexe stop`",
            Stopped::Abort => "aborted",
            Stopped::MaxTime => "the budget is used up: the time limit is reached",
            Stopped::MaxTokens => "the budget is used up: the token limit is reached",
            Stopped::UsageLimit => "what is left waits for a usage limit",
            Stopped::Batch => "waiting for a batch",
            Stopped::Edited => "stopped to read the edited pipeline again",
            Stopped::MaxCalls => "the budget is used up: the limit of calls is reached",
            Stopped::MaxCost => "the budget is used up: the cost limit is reached",
        }
    }
}
