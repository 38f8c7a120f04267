//! What is done next for one batch, and what follows from what came of it. Pure: no clock, no file, no server.
//!
//! ```text
//! fresh ─> prepare ─> note ─> send ─ id ─> note ─> look ─ ended ─> keep the answers ─> over
//!   │         │                │  └ unclear ─┐      └ late ─> note ─> cancel ─> look
//!   │         └ error ─> forget│             ▼
//!   │                          └ refused   find ─ there ─> note ─> look
//!   └ of an ended build: forget     (forget)  └ not there, and time to settle is over ─> forget
//! ```
//!
//! What is forgotten was certainly not submitted: its calls join another batch. Where a batch may have been submitted, its
//! calls never do, unless the vendor's list went without it for the whole time to settle.

use std::time::Duration;

use planexe_base::clock;
use planexe_base::record::SCHEMA;
use planexe_llm::batches::{Found, Standing};
use planexe_store::batches::BatchState;

/// Pauses between two looks: the first, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// A moment: by a clock that only goes forward, and by that of the wall.
#[derive(Debug, Clone)]
pub(super) struct Now {
    pub(super) at: Duration,
    pub(super) utc: String,
}

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spans {
    /// Until a batch is cancelled.
    pub(super) within: Duration,
    /// Until a vendor's list certainly has what was submitted.
    pub(super) settle: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before [`Machine::due`].
    Wait,
    /// Its files are removed: nothing was submitted.
    Forget,
    /// Its calls are sent ahead.
    Prepare,
    /// [`Machine::disk`] is written, synced.
    Note,
    /// It is submitted.
    Send,
    /// It is looked for in the vendor's list.
    Find,
    /// It is cancelled.
    Cancel,
    /// It is looked at, and its answers are fetched if it has ended.
    Look,
    /// The answers that were fetched are written, synced.
    Keep,
    /// Nothing any more.
    Over,
}

/// Why something did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It certainly was not done, and is not to be done again like this.
    Refused,
    /// The vendor knows of none.
    Gone,
    /// Perhaps it was done. It may be tried again after this.
    Unclear(Duration),
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Nothing,
    /// The error goes to those who wait.
    Failed,
    /// It cannot go on by itself: a person must see to it.
    Stuck,
}

/// One batch.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// How far it is, as it is on disk, or is to be; none if it was never about to be submitted.
    pub(super) disk: Option<BatchState>,
    /// When there is something to do.
    pub(super) due: Duration,
    noted: bool,
    forget: bool,
    /// Its calls are at hand, to be submitted.
    fresh: bool,
    file: Option<String>,
    /// Since when it is not known whether it was submitted.
    doubt: Option<Duration>,
    cancel: bool,
    fetched: bool,
    kept: bool,
    /// Since when it lacks answers, or is not there.
    lacks: Option<Duration>,
    looks: u32,
    /// How many calls it has.
    calls: u64,
    seen: bool,
}

impl Machine {
    /// A batch that was just made.
    pub(super) fn fresh(calls: u64, now: &Now) -> Machine {
        Machine {
            disk: None,
            due: now.at,
            noted: true,
            forget: false,
            fresh: true,
            file: None,
            doubt: None,
            cancel: false,
            fetched: false,
            kept: false,
            lacks: None,
            looks: 0,
            calls,
            seen: false,
        }
    }

    /// One that an earlier build made.
    pub(super) fn known(disk: Option<BatchState>, kept: bool, calls: u64, now: &Now) -> Machine {
        let doubt = disk.as_ref().is_some_and(|disk| disk.batch.is_empty()).then_some(now.at);
        Machine { disk, kept, doubt, fresh: false, ..Machine::fresh(calls, now) }
    }

    /// Whether its vendor has it, was asked for it since the build began, and did not give its answers.
    pub(super) fn is_seen(&self) -> bool {
        self.seen && !self.fetched
    }

    /// Whether its answers are on disk.
    pub(super) fn has_answers(&self) -> bool {
        self.kept
    }

    /// The id of the file that was sent ahead.
    pub(super) fn file(&self) -> &str {
        let noted = self.disk.as_ref().map(|disk| disk.file.as_str());
        self.file.as_deref().or(noted).unwrap_or_default()
    }

    /// What is to be done now.
    pub(super) fn next(&mut self, now: &Now) -> Step {
        if self.kept {
            return Step::Over;
        }
        if self.forget {
            return Step::Forget;
        }
        if !self.noted {
            return Step::Note;
        }
        if self.fetched {
            return Step::Keep;
        }
        if now.at < self.due {
            return Step::Wait;
        }
        match &self.disk {
            None if !self.fresh => Step::Forget,
            None if self.file.is_none() => Step::Prepare,
            None => {
                let file = self.file.clone().unwrap_or_default();
                self.disk = Some(BatchState {
                    schema: SCHEMA,
                    file,
                    submitted_utc: now.utc.clone(),
                    total: self.calls,
                    ..BatchState::default()
                });
                self.noted = false;
                Step::Note
            }
            Some(disk) if disk.batch.is_empty() && self.doubt.is_some() => Step::Find,
            Some(disk) if disk.batch.is_empty() => Step::Send,
            Some(_) if self.cancel => Step::Cancel,
            Some(_) => Step::Look,
        }
    }

    /// What was to be written is written.
    pub(super) fn noted(&mut self) {
        self.noted = true;
    }

    /// The answers are written.
    pub(super) fn kept(&mut self) {
        self.kept = true;
    }

    /// The calls were sent ahead, or were not.
    pub(super) fn prepared(&mut self, file: Result<String, Fault>) -> Tell {
        match file {
            Ok(file) => self.file = Some(file),
            Err(_) => return self.give_up(),
        }
        Tell::Nothing
    }

    /// It was submitted, or was not, or perhaps.
    pub(super) fn sent(&mut self, id: Result<String, Fault>, now: &Now) -> Tell {
        match id {
            Ok(id) => self.submitted(id, now),
            Err(Fault::Refused | Fault::Gone) => return self.give_up(),
            Err(Fault::Unclear(after)) => {
                self.doubt = Some(now.at);
                self.pause(now, after);
            }
        }
        Tell::Nothing
    }

    /// It was looked for. True if its calls may join another batch.
    pub(super) fn found(&mut self, found: Result<Found, Fault>, now: &Now, spans: &Spans) -> (Tell, bool) {
        let since = self.doubt.unwrap_or(now.at);
        match found {
            Ok(Found::Yes(id)) => self.submitted(id, now),
            Ok(Found::No) if now.at.saturating_sub(since) >= spans.settle => {
                self.forget = true;
                return (Tell::Nothing, true);
            }
            Ok(Found::No | Found::Perhaps) => self.pause(now, Duration::ZERO),
            Err(Fault::Unclear(after)) => self.pause(now, after),
            Err(Fault::Refused | Fault::Gone) => {
                self.pause(now, LONGEST);
                return (Tell::Stuck, false);
            }
        }
        (Tell::Nothing, false)
    }

    /// It was asked to be cancelled. Whether that was heard, the next look tells.
    pub(super) fn cancelled(&mut self, now: &Now) {
        self.cancel = false;
        self.pause(now, Duration::ZERO);
    }

    /// It was looked at; how many answers were fetched, if it has ended.
    pub(super) fn looked(
        &mut self,
        seen: Result<(&Standing, Option<u64>), Fault>,
        now: &Now,
        spans: &Spans,
    ) -> Tell {
        self.seen = true;
        let (standing, answers) = match seen {
            Ok(seen) => seen,
            Err(Fault::Unclear(after)) => {
                self.pause(now, after);
                return Tell::Nothing;
            }
            Err(Fault::Refused) => {
                self.pause(now, LONGEST);
                return Tell::Stuck;
            }
            Err(Fault::Gone) => {
                let submitted = self.disk.as_ref().map(|disk| disk.submitted_utc.clone()).unwrap_or_default();
                // What was just made may not be known everywhere.
                let age = clock::seconds_between(&submitted, &now.utc).unwrap_or(f64::INFINITY);
                return match age.abs() < spans.settle.as_secs_f64() && !self.lacked(now, spans) {
                    true => Tell::Nothing,
                    false => {
                        self.pause(now, LONGEST);
                        Tell::Stuck
                    }
                };
            }
        };
        let Some(disk) = &mut self.disk else { return Tell::Nothing };
        disk.status.clone_from(&standing.status);
        disk.seen_utc.clone_from(&now.utc);
        (disk.done, disk.total) = (standing.done, standing.total.max(disk.total));
        if let Some(until) = &standing.until {
            disk.until_utc.clone_from(until);
        }
        if let Some(answers) = answers {
            // An answer that is not listed yet would be paid for again.
            if answers < standing.done {
                return match self.lacked(now, spans) {
                    true => Tell::Stuck,
                    false => Tell::Nothing,
                };
            }
            self.fetched = true;
            self.noted = false;
            return Tell::Nothing;
        }
        self.lacks = None;
        let age = clock::seconds_between(&disk.submitted_utc, &now.utc).unwrap_or(0.0);
        if age >= spans.within.as_secs_f64() && !disk.late {
            // On disk before it is cancelled: what is cancelled then goes online.
            disk.late = true;
            self.noted = false;
        }
        if disk.late && !standing.cancelling {
            self.cancel = true;
            self.due = now.at;
        } else {
            self.pause(now, Duration::ZERO);
        }
        Tell::Nothing
    }

    /// Whether it has been without something for longer than it takes a vendor to settle.
    fn lacked(&mut self, now: &Now, spans: &Spans) -> bool {
        let since = *self.lacks.get_or_insert(now.at);
        self.pause(now, Duration::ZERO);
        now.at.saturating_sub(since) >= spans.settle
    }

    fn submitted(&mut self, id: String, now: &Now) {
        let disk = self.disk.get_or_insert_default();
        disk.batch = id;
        disk.seen_utc.clone_from(&now.utc);
        self.noted = false;
        self.doubt = None;
        self.looks = 0;
        self.pause(now, Duration::ZERO);
    }

    fn give_up(&mut self) -> Tell {
        self.forget = true;
        Tell::Failed
    }

    fn pause(&mut self, now: &Now, at_least: Duration) {
        let pause = FIRST.mul_f64(1.5_f64.powi(self.looks.min(20) as i32)).min(LONGEST);
        self.looks += 1;
        self.due = now.at + pause.max(at_least).min(LONGEST);
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
