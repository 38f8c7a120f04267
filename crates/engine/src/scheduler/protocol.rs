//! What the engine is told and what it answers: events and actions, and how a task came out.

use std::collections::HashSet;
use std::time::Duration;

use crate::graph::{Item, TaskId};
use crate::slots::Share;
use planexe_base::cancel::Level;
use planexe_base::prefix::Marks;

/// Whether stale tasks are run, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Run what is stale.
    Build,
    /// Judge without running: stale, or depends on what is.
    Plan,
}

/// What a failure means for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Go on with what does not depend on it.
    #[default]
    KeepGoing,
    /// Start nothing more; finish what runs.
    FailFast,
    /// After a failure, running tasks are cancelled as well.
    StopAll,
}

/// What a stale task takes to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    /// Endpoints to ask, in order of preference; empty if no call is made.
    pub endpoints: Vec<usize>,
    /// The place in that list to begin with.
    pub first: usize,
    /// Tokens the call is expected to take, for limits per minute.
    pub tokens: u64,
    /// By which prompts that begin alike are found; empty if its call uses no cache of a server.
    pub marks: Marks,
    /// Whether it takes a core.
    pub cpu: bool,
    /// How much of this machine it takes.
    pub share: Share,
    /// The place other than the build itself that runs it, of whose turns it takes one.
    pub elsewhere: Option<usize>,
    /// The endpoint that its own program calls: it takes none of its slots, and does not start before its usage limit
    /// is over.
    pub calls: Option<usize>,
    /// The service that its own program needs.
    pub service: Option<usize>,
    /// The named pool it takes a slot of.
    pub pool: Option<usize>,
    /// The lane it has to itself, from its start until it is made.
    pub lane: Option<usize>,
    /// It is made already, and only to be merged: with the others of its lane, if it has one.
    pub made: bool,
}

/// The outcome of judging a task, as the engine is told it.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// Nothing to do.
    Fresh,
    /// It has to run, with this work to do.
    Stale(Work),
    /// Plan only: known once what it needs has run.
    DependsOn,
    /// Its condition is false.
    Skipped,
    /// It failed before and is left so, or cannot be judged.
    Failed,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptEnd {
    /// Recorded as done.
    Done,
    /// Failed for good.
    Failed,
    /// Waits for a person.
    Waiting,
    /// Another attempt, after a pause, at the given endpoint of its list if any.
    Retry {
        /// How long to wait first.
        after: Duration,
        /// Position in [`Work::endpoints`] to ask next.
        endpoint: usize,
        /// Whether the endpoint's server is away: the pause ends early if it is found up.
        outage: bool,
    },
    /// Another part of it follows, which takes other slots: what it made is evaluated, or made again.
    NextPhase(Work),
    /// Ended by a stop before its end.
    Stopped,
    /// What it is made from changed meanwhile: to be judged again.
    Rejudge,
}

/// What the engine is told of the outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The answer to [`Action::Judge`].
    Judged(TaskId, Judged),
    /// The answer to [`Action::Expand`]: the items, or none if they cannot be known.
    Expanded(TaskId, Option<Vec<Item>>),
    /// The end of an attempt begun by [`Action::Start`].
    Ended(TaskId, AttemptEnd),
    /// A person, or the marker they left, lets a waiting task be judged again.
    Passed(TaskId),
    /// An endpoint takes no more calls in this build.
    EndpointClosed(usize),
    /// The server of an endpoint that was away is found up.
    ServerUp(usize),
    /// The server of an endpoint, which was at work on a call that was given up, is idle.
    ServerIdle(usize),
    /// The usage limit of an endpoint is over at a time: nobody asks it until then.
    Parked(usize, Duration),
    /// The usage limit of an endpoint is over by the clock on the wall.
    LimitOver(usize),
    /// The build is told to stop.
    Cancel(Level),
    /// Nothing starts while true.
    Pause(bool),
}

/// How a service stands that tasks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceIs {
    /// It runs, or is about to.
    Up,
    /// It is told to end.
    Ending,
    /// It does not run.
    Gone,
    /// It cannot be had in this build.
    Lost,
}

/// What to do outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find out whether a task is up to date.
    Judge {
        /// The task that this is about.
        task: TaskId,
        /// In [`Mode::Plan`]: something it needs is not up to date, so only its own records count.
        shallow: bool,
    },
    /// Find out the items of a fan-out.
    Expand(TaskId),
    /// Run one attempt of a task.
    Start {
        /// The task that this is about.
        task: TaskId,
        /// From 1, since the task was judged.
        attempt: u32,
        /// Position in [`Work::endpoints`] of the endpoint to ask.
        endpoint: Option<usize>,
    },
    /// A task came to its end without an attempt, or a fan-out through its instances.
    Settled(TaskId),
    /// Of a lane some tasks are made and some failed: nothing of it is merged.
    Mixed {
        /// Those that are made.
        made: Vec<TaskId>,
        /// The tasks of the lane that failed.
        failed: Vec<TaskId>,
    },
    /// End what runs, at once.
    CancelAll,
}

/// How a task ended in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Up to date.
    Fresh,
    /// Ran, and is done.
    Done,
    /// A fan-out with enough instances done, but not all.
    Partial,
    /// Failed.
    Failed,
    /// Something it needs failed.
    Blocked,
    /// Its condition, or that of what it reads, is false.
    Skipped,
    /// A person is waited for.
    Waiting,
    /// Stopped before its end.
    Stopped,
    /// Plan only: it would run.
    Stale,
    /// Plan only: whether it would run is known once what it needs has run.
    DependsOn,
}

impl Resolution {
    /// Whether readers may go on.
    pub(super) fn satisfies(self) -> bool {
        matches!(
            self,
            Resolution::Fresh
                | Resolution::Done
                | Resolution::Partial
                | Resolution::Stale
                | Resolution::DependsOn
        )
    }
}

/// What a task that is to run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// It waits for a slot.
    Slot,
    /// The end of the pause between two attempts.
    Pause,
}

/// Settings of a build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What a failure means for the rest.
    pub on_failure: OnFailure,
    /// Tasks alone, what they need taken as it is.
    pub only: bool,
}

/// What the engine must know of a declaration.
#[derive(Debug, Clone, Copy)]
pub struct TaskInfo {
    /// The `priority` of the pipeline; among ready tasks a higher one starts first.
    pub priority: i32,
    /// Share of instances that must succeed.
    pub min_success: f64,
    /// Expected seconds of the task, or of one instance.
    pub expected_s: f64,
    /// The lane it shares with other tasks.
    pub lane: Option<usize>,
}

impl Default for TaskInfo {
    fn default() -> Self {
        TaskInfo { priority: 0, min_success: 1.0, expected_s: 1.0, lane: None }
    }
}

/// What is asked for: a task, all of it or these items of a fan-out.
pub type Target = (TaskId, Option<HashSet<String>>);
