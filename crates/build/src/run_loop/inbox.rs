//! What reaches the thread of a build: messages of its workers, events of runners, signals, edits.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::Edits;
use super::callers::WantedCall;
use crate::jobserver as make;
use crate::runner::{Job, Outcome};
use planexe_base::event::Kind;
use planexe_base::message::Message;
use planexe_base::signals::Signals;
use planexe_engine::graph::TaskId;
use planexe_engine::slots::CallEnd;
use planexe_llm::Usage;

/// What other threads send to that of the build.
pub(super) enum WorkerMessage {
    /// An attempt ended.
    Finished(Box<Finished>),
    /// An attempt's answer is on disk, or its program ended well.
    Answered(TaskId, Usage),
    /// A token of make's jobserver, or why there is none.
    Token(make::Answer),
    /// The server of an endpoint, which was away, is up.
    ServerUp(usize),
    /// The server of an endpoint, which ran out of time, is idle.
    ServerIdle(usize),
    /// A task's own program wants to call a model.
    WantsCall(WantedCall),
    /// Such a call is over; what its server said, if it failed.
    CallOver(usize, CallEnd, Option<Message>),
}

/// An attempt that ended.
pub(super) struct Finished {
    pub(super) task: TaskId,
    pub(super) job: Box<Job>,
    pub(super) outcome: Outcome,
}

/// What reaches the thread of a build.
pub(super) struct Inbox<'a> {
    /// Kept here too, so that the channel never closes while the build waits.
    sender: Sender<WorkerMessage>,
    messages: Receiver<WorkerMessage>,
    events: Receiver<Kind>,
    signals: &'a Signals,
    edits: Option<&'a Receiver<Edits>>,
}

impl<'a> Inbox<'a> {
    pub(super) fn new(
        events: Receiver<Kind>,
        signals: &'a Signals,
        edits: Option<&'a Receiver<Edits>>,
    ) -> Inbox<'a> {
        let (sender, messages) = channel();
        Inbox { sender, messages, events, signals, edits }
    }

    /// For another thread.
    pub(super) fn sender(&self) -> Sender<WorkerMessage> {
        self.sender.clone()
    }

    /// The next message, once there is one, within so long.
    pub(super) fn wait(&self, at_most: Duration) -> Option<WorkerMessage> {
        self.messages.recv_timeout(at_most).ok()
    }

    /// The next message, if there is one.
    pub(super) fn next(&self) -> Option<WorkerMessage> {
        self.messages.try_recv().ok()
    }

    /// The next event of a runner.
    pub(super) fn event(&self) -> Option<Kind> {
        self.events.try_recv().ok()
    }

    pub(super) fn signal(&self) -> Option<i32> {
        self.signals.pending()
    }

    pub(super) fn edit(&self) -> Option<Edits> {
        self.edits?.try_recv().ok()
    }
}
