//! The process group of a program that answers a prompt.

use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use planexe_base::children::{self, Listed};
use planexe_base::process::Lifeline;

/// Time a program has to end by itself after it was asked to.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A child whose group is ended when it is dropped before its time.
pub(super) struct Group {
    pub(super) child: Child,
    /// It is killed with planexe, until it is reaped.
    listed: Option<Listed>,
    pub(super) done: bool,
    lifeline: Arc<Lifeline>,
}

impl Group {
    pub(super) fn of(child: Child, lifeline: &Arc<Lifeline>) -> Group {
        let listed = Some(Listed::of(&child));
        let group = Group { child, listed, done: false, lifeline: Arc::clone(lifeline) };
        if let Some(id) = group.id() {
            lifeline.started(id);
        }
        group
    }

    pub(super) fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.id() {
            let _ = kill_process_group(group, signal);
        }
    }

    pub(super) fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        children::try_wait(&mut self.child, &mut self.listed)
    }

    /// Asks the group to end, waits a little, and ends it.
    pub(super) fn end(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if !matches!(self.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Also where the leader is gone: what it started may not be.
        self.signal(Signal::KILL);
        self.listed = None;
        let _ = self.child.wait();
        self.done = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.done {
            self.end();
        }
        if let Some(group) = self.id() {
            self.lifeline.ended(group);
        }
    }
}
