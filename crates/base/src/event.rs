//! What happens in a build, as plain data: what progress shows, `events.jsonl` keeps and hooks are told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::{Totals, Usage, totals};
use crate::message::Message;
use crate::record::Failure;

/// Names of the events that webhooks can be told.
pub const TOLD: [&str; 14] = [
    "task.started",
    "task.completed",
    "task.failed",
    "task.stalled",
    "task.rescued",
    "model.parked",
    "model.resumed",
    "batch.submitted",
    "batch.ended",
    "batch.stuck",
    "pipeline.paused",
    "pipeline.completed",
    "pipeline.failed",
    "pipeline.stopped",
];

/// One event, with the time it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// RFC 3339, UTC.
    pub timestamp_utc: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: Kind,
}

/// The closed set of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event")]
pub enum Kind {
    /// A build begins to run tasks.
    #[serde(rename = "pipeline.started")]
    PipelineStarted {
        /// Version of the format of this line and those after it.
        #[serde(default = "first_format")]
        schema: u32,
        /// Name of the pipeline.
        pipeline: String,
        /// The run directory.
        run_id_dir: String,
        /// Tasks in the build, as far as known.
        steps_total: u32,
    },
    /// A task is found stale and will run.
    #[serde(rename = "task.stale")]
    TaskStale {
        /// `task` or `task[key]`.
        task: String,
        /// Why, one line each.
        reasons: Vec<String>,
    },
    /// An attempt starts.
    #[serde(rename = "task.started")]
    TaskStarted {
        /// `task` or `task[key]`.
        task: String,
        /// From 1.
        attempt: u32,
        /// The model asked, if any.
        model: Option<String>,
        /// prompt, command, template, gate, human; eval where its evaluator is asked.
        recipe: String,
    },
    /// What a running task is doing changed.
    #[serde(rename = "task.progress")]
    TaskProgress {
        /// `task` or `task[key]`.
        task: String,
        /// In a few words: "reading the prompt", "writing, 412 tokens", "checking", "asking again (2 of 3)".
        doing: String,
    },
    /// An attempt failed and another follows.
    #[serde(rename = "task.retrying")]
    TaskRetrying {
        /// `task` or `task[key]`.
        task: String,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// What follows: "again in 2 s", "asking again with what was wrong", "on to model cloud".
        next: String,
        /// What is to answer is not ready yet; no attempt was used.
        #[serde(default)]
        waits: bool,
    },
    /// A task is done.
    #[serde(rename = "task.completed")]
    TaskCompleted {
        /// `task` or `task[key]`.
        task: String,
        /// The attempt that succeeded.
        attempt: u32,
        /// The model that answered.
        model: Option<String>,
        /// Seconds.
        duration_s: f64,
        /// Tokens and money.
        #[serde(serialize_with = "totals")]
        #[schemars(with = "Totals")]
        usage: Usage,
        /// Position in topological order.
        step: u32,
        /// A kept answer was used: no call.
        reused: bool,
        /// The outputs' bytes are what they were: nothing after it needs to run for its sake.
        unchanged: bool,
        /// A recorded answer to another prompt.
        sample: bool,
        /// Some instances are missing.
        partial: bool,
        /// First output.
        output: Option<String>,
        /// When a person let it pass, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passed_utc: Option<String>,
        /// When it waited in the queue of its executor, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queued: Option<Queued>,
    },
    /// A task failed for good.
    #[serde(rename = "task.failed")]
    TaskFailed {
        /// `task` or `task[key]`.
        task: String,
        /// The last attempt.
        attempt: u32,
        /// The model asked, if any.
        model: Option<String>,
        /// Why.
        failure: Failure,
        /// Tasks that cannot run because of it.
        blocked: u32,
        /// It failed in a build before, and is left as it is: told there, and not told again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        kept: bool,
        /// When it waited in the queue of its executor, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queued: Option<Queued>,
    },
    /// A task's condition is false.
    #[serde(rename = "task.skipped")]
    TaskSkipped {
        /// `task` or `task[key]`.
        task: String,
    },
    /// A person is waited for.
    #[serde(rename = "task.waiting")]
    TaskWaiting {
        /// `task` or `task[key]`.
        task: String,
        /// What is asked.
        message: Message,
    },
    /// A running task was stopped before its end.
    #[serde(rename = "task.stopped")]
    TaskStopped {
        /// `task` or `task[key]`.
        task: String,
    },
    /// No progress for longer than the task's `stall_timeout`.
    #[serde(rename = "task.stalled")]
    TaskStalled {
        /// `task` or `task[key]`.
        task: String,
        /// Seconds since the last progress.
        idle_s: f64,
    },
    /// A failed attempt's outputs were found good by evaluation: the task is done.
    #[serde(rename = "task.rescued")]
    TaskRescued {
        /// `task` or `task[key]`.
        task: String,
        /// The attempt that was rescued.
        attempt: u32,
        /// The model that answered, if any.
        model: Option<String>,
        /// The evaluator's score.
        score: Option<f64>,
    },
    /// Something worth telling that is no task's end: a mended log, an edited file kept, a warning of a gate.
    #[serde(rename = "note")]
    Note {
        /// The task it is about, if any.
        task: Option<String>,
        /// One line.
        message: String,
        /// Whether it is a warning.
        warning: bool,
    },
    /// A model's usage limit is reached: no task asks it until it is over.
    #[serde(rename = "model.parked")]
    ModelParked {
        /// Its name in the pipeline.
        model: String,
        /// When the limit is over, RFC 3339, UTC.
        until_utc: String,
        /// What its server or program said.
        message: String,
    },
    /// A model that was parked has answered.
    #[serde(rename = "model.resumed")]
    ModelResumed {
        /// Its name in the pipeline.
        model: String,
    },
    /// Calls were submitted together: their answers may take hours.
    #[serde(rename = "batch.submitted")]
    BatchSubmitted {
        /// The model's name in the pipeline.
        model: String,
        /// The vendor's id.
        batch: String,
        /// How many calls it has.
        calls: u64,
    },
    /// The answers of a batch are here.
    #[serde(rename = "batch.ended")]
    BatchEnded {
        /// The model's name in the pipeline.
        model: String,
        /// The vendor's id.
        batch: String,
        /// How many calls it has.
        calls: u64,
        /// How many of them its server answered; the others are asked one by one.
        answered: u64,
    },
    /// A batch cannot go on by itself: a person must see to it.
    #[serde(rename = "batch.stuck")]
    BatchStuck {
        /// The model's name in the pipeline.
        model: String,
        /// The vendor's id; empty while it is not known whether it was submitted.
        batch: String,
        /// Why, and what to do.
        message: String,
    },
    /// A server of `[services]` is started, is ready, was ended or cannot be had.
    #[serde(rename = "service.changed")]
    ServiceChanged {
        /// Its name in the pipeline.
        service: String,
        /// starting, ready, stopped, failed.
        state: String,
        /// Where, or why.
        message: String,
        /// Of one that is ready: when it waited in the queue of its executor, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queued: Option<Queued>,
    },
    /// The build holds: nothing starts until it is resumed.
    #[serde(rename = "pipeline.paused")]
    PipelinePaused {
        /// Why.
        message: String,
    },
    /// The build ended with everything done.
    #[serde(rename = "pipeline.completed")]
    PipelineCompleted {
        /// What was done.
        summary: Summary,
    },
    /// The build ended with failures.
    #[serde(rename = "pipeline.failed")]
    PipelineFailed {
        /// What was done.
        summary: Summary,
    },
    /// The build ended early on purpose or by a signal.
    #[serde(rename = "pipeline.stopped")]
    PipelineStopped {
        /// What was done.
        summary: Summary,
        /// By what: a signal, a stop file, a gate, a person, a limit.
        message: String,
    },
}

/// A time in the queue of an executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Queued {
    /// The executor's name in the pipeline.
    pub executor: String,
    /// When the job was handed over, by the clock of the build.
    pub submitted_utc: String,
    /// When it began, by the clock of the machine it ran on.
    pub began_utc: String,
}

/// The format of logs that do not say.
fn first_format() -> u32 {
    1
}

/// The end of a build in figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Tasks that ran and are done.
    pub ran: u32,
    /// Of those, by a kept answer without a call.
    pub reused: u32,
    /// Tasks found up to date.
    pub fresh: u32,
    /// Names of tasks that failed.
    pub failed: Vec<String>,
    /// Tasks blocked by a failure.
    pub blocked: u32,
    /// Tasks skipped by a condition.
    pub skipped: u32,
    /// Names of tasks that wait for a person.
    pub waiting: Vec<String>,
    /// Names of tasks stopped before their end.
    pub stopped: Vec<String>,
    /// Tasks not reached.
    pub pending: u32,
    /// Their names, fan-outs by one name each, at most 100.
    #[serde(default)]
    pub left: Vec<String>,
    /// Names of tasks done with instances missing.
    pub partial: Vec<String>,
    /// Names of tasks done with sample answers.
    pub sample: Vec<String>,
    /// Names of tasks whose command failed and whose evaluator accepted what it left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rescued: Vec<String>,
    /// Names of gates that let the pipeline go on and have something to say all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warned: Vec<String>,
    /// Seconds.
    pub duration_s: f64,
    /// Tokens and money of this build.
    #[serde(serialize_with = "totals")]
    #[schemars(with = "Totals")]
    pub usage: Usage,
}
