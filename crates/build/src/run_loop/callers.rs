//! Calls that tasks' own programs make: they take turns with those of prompts at the slots and limits of each model.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::Build;
use super::inbox::WorkerMessage;
use super::parked::Refused;
use crate::runner::{Turn, Turns};
use planexe_base::cancel::{Cancel, Level};
use planexe_base::limits::{self, Start};
use planexe_base::message::Message;
use planexe_engine::slots::CallEnd;
use planexe_llm::Class;

/// How often who waits for a turn looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A call that waits for its turn.
pub(super) struct WantedCall {
    endpoint: usize,
    tokens: u64,
    /// Told that it may begin, or that it is not waited for.
    go: Sender<Turn>,
}

/// The calls that wait for their turn, oldest first.
#[derive(Default)]
pub(super) struct Callers {
    waiting: Vec<WantedCall>,
    /// When one of them may begin, though nothing happens until then.
    next: Option<Duration>,
}

impl Callers {
    pub(super) fn wait(&mut self, wanted: WantedCall) {
        self.waiting.push(wanted);
    }

    /// When to look again though nothing happens.
    pub(super) fn wakeup(&self) -> Option<Duration> {
        self.next
    }
}

/// The turns of one worker.
pub(super) struct WorkersTurns(pub(super) Sender<WorkerMessage>);

impl Turns for WorkersTurns {
    fn begin(&self, endpoint: usize, tokens: u64, cancel: &Cancel) -> Turn {
        let (go, may) = channel();
        // The build ends only after every worker has answered, so somebody listens.
        let _ = self.0.send(WorkerMessage::WantsCall(WantedCall { endpoint, tokens, go }));
        loop {
            match may.recv_timeout(LOOK) {
                Ok(turn) => return turn,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !cancel.is_killing() => {}
                Err(_) => return Turn::Over,
            }
        }
    }

    fn end(&self, endpoint: usize, end: CallEnd, why: Option<&Message>) {
        let _ = self.0.send(WorkerMessage::CallOver(endpoint, end, why.cloned()));
    }
}

impl Build<'_> {
    /// Lets those begin whose turn it is. Of one endpoint the first that waits is the first to begin.
    pub(super) fn let_callers_begin(&mut self) {
        let paused = self.steering.is_paused() && self.ctx.cancel.level() == Level::Running;
        if self.callers.waiting.is_empty() || paused {
            return;
        }
        let now = self.now();
        self.callers.next = None;
        let mut full: Vec<usize> = Vec::new();
        for wanted in std::mem::take(&mut self.callers.waiting) {
            if full.contains(&wanted.endpoint) {
                self.callers.waiting.push(wanted);
                continue;
            }
            match self.engine.begin_call(wanted.endpoint, wanted.tokens, now) {
                Start::Ready => {
                    if wanted.go.send(Turn::Begin).is_err() {
                        let nobody = (Err(Class::Cancelled), None);
                        self.engine.end_call(wanted.endpoint, nobody, now);
                    }
                }
                Start::NotBefore(at)
                    if self.engine.is_parked(wanted.endpoint) && limits::is_long(at.saturating_sub(now)) =>
                {
                    // Gone already: nobody needs to know.
                    let _ = wanted.go.send(Turn::Parked(at.saturating_sub(now)));
                }
                start => {
                    if let Start::NotBefore(at) = start {
                        self.callers.next = Some(self.callers.next.map_or(at, |next| next.min(at)));
                    }
                    full.push(wanted.endpoint);
                    self.callers.waiting.push(wanted);
                }
            }
        }
    }

    /// Such a call is over. A usage limit that it met is everybody's.
    pub(super) fn call_over(&mut self, endpoint: usize, end: CallEnd, why: Option<Message>) {
        let refused = match &end {
            (Err(Class::RateLimit), asked) => {
                Some(Refused { endpoint, asked: *asked, why: why.unwrap_or_default() })
            }
            _ => None,
        };
        let now = self.now();
        self.engine.end_call(endpoint, end, now);
        self.look_at_parked(refused);
    }
}
