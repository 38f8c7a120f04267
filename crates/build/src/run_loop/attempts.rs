//! The tasks a build works on: stale ones from their judgement to their end, the attempts at work, and what follows
//! those that ended. Knows no engine: what an end means is decided in `finished`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::slots::Slots;
use crate::check_staleness::{Judgement, Prepared};
use crate::runner::providers::Providers;
use crate::runner::{AttemptHistory, EndedAlone, Job, Live, Mark, OtherFields, Turns};
use planexe_base::cancel::Cancel;
use planexe_base::clock;
use planexe_base::prefix::Division;
use planexe_base::record::Marker;
use planexe_engine::graph::{Task, TaskId};
use planexe_engine::staleness::{Decision, Rules, StaleReason};
use planexe_llm::Usage;
use planexe_store::candidates::Candidate;
use planexe_store::live::AtWork;
use planexe_ui::progress::Running;

/// The stale tasks of a build and their attempts.
pub(super) struct Attempts {
    /// What they take turns at.
    slots: Slots,
    /// Stale tasks with what they were judged on, between judging and the end of their last attempt.
    pending: HashMap<TaskId, Pending>,
    running: HashMap<TaskId, Attempt>,
    /// What follows the attempts of tasks that wait for their next one, in words.
    retrying: HashMap<TaskId, String>,
}

impl Attempts {
    pub(super) fn new(slots: Slots) -> Attempts {
        Attempts { slots, pending: HashMap::new(), running: HashMap::new(), retrying: HashMap::new() }
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(super) fn slots_mut(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// A task was found stale: what its attempts need is kept until its end.
    pub(super) fn keep(&mut self, id: TaskId, pending: Pending) {
        self.pending.insert(id, pending);
    }

    pub(super) fn pending(&self, id: TaskId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    pub(super) fn pending_mut(&mut self, id: TaskId) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// The task came to its end, or is judged again.
    pub(super) fn forget(&mut self, id: TaskId) {
        self.pending.remove(&id);
    }

    pub(super) fn begin(&mut self, id: TaskId, attempt: Attempt) {
        self.retrying.remove(&id);
        self.running.insert(id, attempt);
    }

    pub(super) fn end(&mut self, id: TaskId) -> Option<Attempt> {
        self.running.remove(&id)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (TaskId, &Attempt)> {
        self.running.iter().map(|(id, attempt)| (*id, attempt))
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = (TaskId, &mut Attempt)> {
        self.running.iter_mut().map(|(id, attempt)| (*id, attempt))
    }

    pub(super) fn at_work(&self, id: TaskId) -> Option<&Attempt> {
        self.running.get(&id)
    }

    /// How many are at work.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Another attempt follows, as `next` says.
    pub(super) fn retry(&mut self, id: TaskId, next: String) {
        self.retrying.insert(id, next);
    }

    pub(super) fn is_retrying(&self) -> bool {
        !self.retrying.is_empty()
    }

    pub(super) fn what_follows(&self, id: TaskId) -> Option<&str> {
        self.retrying.get(&id).map(String::as_str)
    }
}

/// A stale task, from its judgement to its end.
pub(super) struct Pending {
    judgement: Judgement,
    history: AttemptHistory,
    base_attempt: u32,
    passed: Option<String>,
    other: OtherFields,
    /// Jobs that count as no attempt: the endpoint was not ready, or a further phase of one.
    uncounted: u32,
    first: bool,
    judged: Instant,
}

/// What a job needs beside what its task was judged on.
pub(super) struct JobContext<'a> {
    pub(super) task: &'a Task,
    pub(super) rules: Rules,
    pub(super) cancel: &'a Cancel,
    /// Told that an answer is on disk.
    pub(super) answered: Box<dyn Fn(Usage) + Send>,
    pub(super) turns: Box<dyn Turns>,
    pub(super) division: Division,
}

impl Pending {
    /// `base_attempt`: the number of the last attempt of former builds. `passed`: who let it pass.
    pub(super) fn new(
        judgement: Judgement,
        history: AttemptHistory,
        base_attempt: u32,
        passed: Option<String>,
    ) -> Pending {
        let other = OtherFields {
            done: match &judgement.marker {
                Marker::Valid(done) => done.other.clone(),
                _ => serde_json::Map::new(),
            },
            status: judgement.status.as_ref().map(|status| status.other.clone()).unwrap_or_default(),
        };
        Pending {
            judgement,
            history,
            base_attempt,
            passed,
            other,
            uncounted: 0,
            first: true,
            judged: Instant::now(),
        }
    }

    pub(super) fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// The number of its first attempt in this build.
    pub(super) fn first_attempt(&self) -> u32 {
        self.base_attempt + 1
    }

    /// Paths of what it is made from, and when it was judged.
    pub(super) fn inputs(&self) -> (Vec<String>, Instant) {
        let records = self.judgement.prepared.as_ref().map(Prepared::records).unwrap_or_default();
        (records.into_iter().map(|record| record.path).collect(), self.judged)
    }

    /// What it is made from was looked at again.
    pub(super) fn prepare(&mut self, prepared: Prepared) {
        self.judgement.prepared = Some(prepared);
    }

    /// Its next job makes it anew, whatever there is.
    pub(super) fn make_anew(&mut self) {
        if let Some(prepared) = &mut self.judgement.prepared {
            prepared.make_anew();
        }
    }

    /// A job ended and another attempt follows. `counts`: whether the one that ended was an attempt.
    pub(super) fn retry(&mut self, history: AttemptHistory, counts: bool) {
        self.history = history;
        self.uncounted += u32::from(!counts);
    }

    /// The next phase of an attempt follows, which is no attempt of its own.
    pub(super) fn next_phase(&mut self, history: AttemptHistory, change: impl FnOnce(&mut AttemptHistory)) {
        self.retry(history, false);
        change(&mut self.history);
    }

    /// The next round of its attempts follows.
    pub(super) fn next_round(&mut self, history: AttemptHistory) {
        self.history = history;
    }

    /// The `attempt`-th job of this build; none if nothing was prepared for one. The history goes with the job, and comes
    /// back with its end.
    pub(super) fn job(&mut self, attempt: u32, endpoint: Option<usize>, with: JobContext<'_>) -> Option<Job> {
        let judgement = &self.judgement;
        let prepared = judgement.prepared.clone()?;
        // What there was is seen to by the first attempt.
        let first = std::mem::replace(&mut self.first, false);
        let (redraw, withdraw, edited, damaged) = match &judgement.decision {
            Decision::Stale { reasons, redraw, edited, .. } if first => {
                let damaged = reasons.iter().any(|r| matches!(r, StaleReason::OutputInvalid { .. }));
                let asked = reasons.iter().any(|reason| with.rules.is_asked(reason));
                (*redraw, asked, edited.clone(), damaged)
            }
            _ => (false, false, Vec::new(), false),
        };
        let torn = judgement.torn || matches!(judgement.marker, Marker::Damaged(_) | Marker::Newer(_));
        let former = match &judgement.marker {
            Marker::Valid(done) => Some(done.clone()),
            _ => None,
        };
        let candidate: Option<&Candidate> = self.history.candidate.as_deref();
        let merges = candidate.is_some_and(|candidate| candidate.success.is_some());
        let evaluates = candidate.is_some() && !merges;
        let live = Live::under(with.cancel);
        Some(Job {
            evaluates,
            merges,
            attempt: self.base_attempt.saturating_add(attempt).saturating_sub(self.uncounted),
            endpoint: endpoint.unwrap_or(0),
            division: with.division,
            prepared,
            former,
            redraw,
            withdraw,
            edited,
            damaged,
            torn: torn && first,
            other: self.other.clone(),
            passed: self.passed.clone(),
            history: std::mem::take(&mut self.history),
            live: Arc::new(if evaluates { live.evaluating() } else { live }),
            answered: with.answered,
            turns: with.turns,
            task: with.task.clone(),
        })
    }
}

/// An attempt at work.
pub(super) struct Attempt {
    live: Arc<Live>,
    /// The number of the attempt, over all builds since the task was last done.
    number: u32,
    /// The model it asks, if any.
    model: Option<String>,
    /// How far it was when it was last looked at.
    mark: Mark,
    /// When it last got on, by both clocks.
    got_on: Instant,
    got_on_at: SystemTime,
    /// After so long without progress it is told, and ended if the task says so.
    limit: Duration,
    ends: bool,
    stalled: bool,
    /// Text that is not yet shown: it may be the beginning of a key.
    unshown: String,
    /// The same of what its program printed.
    unshown_bytes: Vec<u8>,
    /// Some of its text was shown to other processes.
    followed: bool,
}

impl Attempt {
    /// One that begins now. `ends`: it is ended after `limit` without progress.
    pub(super) fn new(job: &Job, model: Option<String>, limit: Duration, ends: bool) -> Attempt {
        Attempt {
            number: job.attempt,
            model,
            mark: job.live.mark(),
            got_on: Instant::now(),
            got_on_at: SystemTime::now(),
            limit,
            ends,
            stalled: false,
            unshown: String::new(),
            unshown_bytes: Vec::new(),
            followed: false,
            live: job.live.clone(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.live.started.elapsed()
    }

    /// Whether its answer has begun.
    pub(super) fn has_first_token(&self) -> bool {
        self.live.call.snapshot().0 >= 2
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Ends it, and no other.
    pub(super) fn cancel(&self, why: EndedAlone) {
        self.live.end(why);
    }

    /// After so long without progress it is stalled, if that was not told yet.
    pub(super) fn untold_stall(&self) -> Option<Duration> {
        (!self.stalled).then_some(self.limit)
    }

    /// Looks how far it is; the time without progress, the first time that is too long. `missed`: time since the last look
    /// in which nobody listened to it.
    pub(super) fn look(&mut self, now: Instant, missed: Duration) -> Option<Duration> {
        let mark = self.live.mark();
        // A vendor that has it in a batch tells of no progress, and who waits for a turn makes none.
        if mark != self.mark || self.live.is_waiting() {
            (self.mark, self.got_on, self.got_on_at) = (mark, now, SystemTime::now());
        }
        self.got_on = (self.got_on + missed).min(now);
        let idle = now.saturating_duration_since(self.got_on);
        if self.stalled || idle < self.limit {
            return None;
        }
        self.stalled = true;
        if self.ends {
            self.live.end(EndedAlone::Stalled(self.limit));
        }
        Some(idle)
    }

    /// For a progress line.
    pub(super) fn shown(&self, task: &str) -> Running {
        Running {
            task: task.to_owned(),
            model: self.model.clone(),
            attempt: self.number,
            doing: self.live.doing().text,
            elapsed_s: self.elapsed().as_secs_f64(),
        }
    }

    /// For other processes.
    pub(super) fn progress(&self, task: &str) -> AtWork {
        let doing = self.live.doing();
        AtWork {
            task: task.to_owned(),
            attempt: self.number,
            phase: doing.phase.to_owned(),
            doing: doing.text,
            tokens: doing.tokens,
            progress_utc: clock::format_utc(self.got_on_at),
        }
    }

    /// What its answer and its program said since it was last asked, without keys.
    pub(super) fn take_text(&mut self, providers: &Providers) -> Vec<u8> {
        self.unshown.push_str(&self.live.call.take_text());
        let mut bytes = providers.take_redacted(&mut self.unshown).into_bytes();
        self.unshown_bytes.extend(self.live.take_said());
        bytes.extend(providers.take_redacted_bytes(&mut self.unshown_bytes));
        self.followed |= !bytes.is_empty();
        bytes
    }

    /// Some of its text was shown to other processes.
    pub(super) fn is_followed(&self) -> bool {
        self.followed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn attempt(ends: bool) -> Attempt {
        let live = Arc::new(Live::default());
        Attempt {
            mark: live.mark(),
            live,
            number: 1,
            model: None,
            got_on: Instant::now(),
            got_on_at: SystemTime::now(),
            limit: LIMIT,
            ends,
            stalled: false,
            unshown: String::new(),
            unshown_bytes: Vec::new(),
            followed: false,
        }
    }

    #[test]
    fn a_stall_is_told_once_and_ends_the_attempt_only_if_its_task_says_so() {
        for ends in [false, true] {
            let mut attempt = attempt(ends);
            let began = attempt.got_on;
            assert_eq!(attempt.look(began + LIMIT / 2, Duration::ZERO), None);
            attempt.live.grown(7);
            assert_eq!(attempt.look(began + LIMIT, Duration::ZERO), None, "it got on");
            assert_eq!(attempt.look(began + LIMIT * 2, Duration::ZERO), Some(LIMIT));
            assert_eq!(attempt.look(began + LIMIT * 3, Duration::ZERO), None, "told already");
            assert_eq!(attempt.live.ended(), ends.then_some(EndedAlone::Stalled(LIMIT)));
        }
    }

    #[test]
    fn time_in_which_nobody_listened_is_no_stall() {
        let mut attempt = attempt(true);
        let began = attempt.got_on;
        assert_eq!(attempt.look(began + LIMIT * 5, LIMIT * 5), None);
        assert_eq!(attempt.look(began + LIMIT * 6, Duration::ZERO), Some(LIMIT));
    }
}
