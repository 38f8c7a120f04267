//! The end of an attempt: what it means for the engine, told to people and to the records of the build.

use std::time::Duration;

use super::inbox::Finished;
use super::parked::Refused;
use super::{Build, Completion, Failed, Stopped};
use crate::runner::{self, AttemptHistory, Completed, EndedAlone, Job, Outcome, Pause};
use planexe_base::cancel::Level;
use planexe_base::event::Kind;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::{AttemptEnd, Event as Input, Resolution, Work};
use planexe_llm::Class;
use planexe_store::candidates::Candidate;

/// What an attempt came to.
struct Handled {
    /// What the engine is told.
    end: AttemptEnd,
    /// Another attempt follows.
    again: Option<Again>,
    /// Somebody wants the task tried anew, and that is to be seen to yet.
    retried: bool,
}

impl From<AttemptEnd> for Handled {
    fn from(end: AttemptEnd) -> Handled {
        Handled { end, again: None, retried: false }
    }
}

/// Why there is another attempt, and when.
struct Again {
    failure: Failure,
    next: Option<String>,
    after: Duration,
    /// What is to answer is not ready yet.
    waits: bool,
}

impl Build<'_> {
    /// Takes in the end of an attempt.
    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { task: id, mut job, outcome } = finished;
        self.no_longer_running(id, &job, &outcome);
        self.judging.forget_files();
        let refused = self.refused(&job, &outcome);
        let failed = self.take_in_call(id, &mut job);
        let name = job.task.name.clone();
        let Handled { end, again, retried } = self.take_in_outcome(id, &mut job, outcome);
        if !matches!(end, AttemptEnd::Retry { .. } | AttemptEnd::NextPhase(_)) {
            self.attempts.forget(id);
        }
        let told = match end {
            AttemptEnd::Done => Some(Resolution::Done),
            AttemptEnd::Failed => Some(Resolution::Failed),
            AttemptEnd::Waiting => Some(Resolution::Waiting),
            AttemptEnd::Retry { .. }
            | AttemptEnd::NextPhase(_)
            | AttemptEnd::Stopped
            | AttemptEnd::Rejudge => None,
        };
        self.engine.on(Input::Ended(id, end), self.now());
        self.look_at_parked(refused);
        // It came to its end on something that is made anew: it is judged again, and that end counts for nothing.
        if let Some(told) = told.filter(|told| self.engine.settled(id) != Some(*told)) {
            self.take_back_end(id, told);
        }
        if let Some(Again { failure, next, after, waits }) = again {
            let next = next.unwrap_or_else(|| self.again_in(id, after));
            self.attempts.retry(id, next.clone());
            let attempt = job.attempt;
            self.tell(Kind::TaskRetrying { task: name.clone(), attempt, failure, next, waits });
        }
        if let Some(class) = failed {
            self.look_at_failing(&job, class);
        }
        if retried {
            // It came to its end all the same.
            self.retry(&name);
        }
    }

    /// Forgets an attempt that ended.
    fn no_longer_running(&mut self, id: TaskId, job: &Job, outcome: &Outcome) {
        let Some(attempt) = self.attempts.end(id) else { return };
        self.forget_text(id, &attempt);
        if let Outcome::Failed(failure) = outcome
            && failure.class == FailureClass::Stall
            && let Some(limit) = attempt.untold_stall()
        {
            // The watchdog was faster than the look from here.
            let idle_s = self.project.spec(&job.task).stall.unwrap_or(limit).as_secs_f64();
            self.tell(Kind::TaskStalled { task: job.task.name.clone(), idle_s });
        }
    }

    /// The call of an attempt, if a limit refused it.
    fn refused(&self, job: &Job, outcome: &Outcome) -> Option<Refused> {
        let Some((Err(Class::RateLimit), asked)) = job.history.call else { return None };
        let why = match outcome {
            Outcome::Retry { failure, .. } | Outcome::Failed(failure) | Outcome::EvalUnavailable(failure) => {
                Message::new(failure.message.text.clone())
            }
            _ => Message::default(),
        };
        Some(Refused { endpoint: self.endpoint_of(job)?, asked, why })
    }

    /// What an attempt's call says of its endpoint, and of those that are closed by now. How it failed, if it did.
    fn take_in_call(&mut self, id: TaskId, job: &mut Job) -> Option<Class> {
        let mut failed = None;
        if let Some((result, retry_after)) = job.history.call.take() {
            if let Ok(usage) = &result {
                self.answered(job);
                self.look_at_cost(job, usage);
            }
            if let (Err(Class::Timeout), Some(rest)) = (&result, retry_after) {
                self.await_idle(job, rest);
            }
            failed = result.as_ref().err().copied();
            self.engine.call_ended(id, result, retry_after);
        }
        let now = self.now();
        if let Some(prompt) = job.asks(self.project) {
            for &endpoint in prompt.models.iter().filter(|&&at| self.ctx.providers.is_closed(at)) {
                self.engine.on(Input::EndpointClosed(endpoint), now);
            }
        }
        failed
    }

    /// What the outcome of an attempt means, told to people and to the records of the build.
    fn take_in_outcome(&mut self, id: TaskId, job: &mut Job, outcome: Outcome) -> Handled {
        let name = job.task.name.clone();
        let retried = job.live.ended() == Some(EndedAlone::Retried);
        let handled: Handled = match outcome {
            Outcome::Done(completed) => {
                self.project.release_staged(&job.task);
                let outdated = completed.outdated;
                self.completed(id, job, *completed);
                if outdated { AttemptEnd::Rejudge.into() } else { AttemptEnd::Done.into() }
            }
            Outcome::Failed(failure) => {
                let given_up = job.merges
                    && matches!(failure.class, FailureClass::MergeConflict | FailureClass::MergeDirty);
                self.failed_attempt(id, job, failure);
                if given_up {
                    self.stop(Stopped::Abort, Level::Draining);
                }
                AttemptEnd::Failed.into()
            }
            Outcome::EvalUnavailable(failure) => {
                self.failed_attempt(id, job, failure);
                AttemptEnd::Failed.into()
            }
            Outcome::Waiting(message) => {
                if job.passed.is_some() {
                    // What was written will not do: it is asked for again.
                    self.steering.clear_passed(&name);
                }
                self.waits_for_a_person(name, message.into())
            }
            Outcome::Unmerged(failure) => self.waits_for_a_person(name, failure.message),
            Outcome::Retry { failure, next, after, endpoint, pause } => {
                let end = self.retry_attempt(id, job, &failure, after, endpoint, pause);
                Handled { again: Some(Again { failure, next, after, waits: pause.is_wait() }), ..end.into() }
            }
            Outcome::Evaluate(candidate) => {
                let work = self.work_of_eval(id, &candidate);
                self.next_with_candidate(id, job, candidate, work)
            }
            Outcome::ReadyToMerge(candidate) => {
                self.project.stage(&job.task, &self.ctx.store, &candidate);
                self.next_with_candidate(id, job, candidate, Work { made: true, ..Work::default() })
            }
            Outcome::Merged(merged) => {
                self.look_again(id);
                self.next_phase(id, job, |history, took| {
                    history.made_in = history.made_in.map(|_| took);
                    history.merged = Some(merged);
                });
                AttemptEnd::NextPhase(Work::default()).into()
            }
            Outcome::NextRound(failure) => self.next_round(id, job, failure),
            // Nobody needs to retry what is tried anew here.
            Outcome::Stopped => return self.take_in_stop(job),
            Outcome::Left => {
                self.tally.stopped(name);
                AttemptEnd::Stopped.into()
            }
            Outcome::Broken(error) => {
                self.broken_by(&name, id, job, error);
                AttemptEnd::Failed.into()
            }
        };
        Handled { retried, ..handled }
    }

    /// An attempt was ended before its end: by a stop of the build, or alone, and then it begins anew.
    fn take_in_stop(&mut self, job: &Job) -> Handled {
        let name = &job.task.name;
        let ended = job.live.ended();
        let retried = ended == Some(EndedAlone::Retried);
        if self.ctx.cancel.level() == Level::Running {
            if ended == Some(EndedAlone::Edited) {
                self.ctx.note(Some(name), false, "what it reads was edited: ended, and started again");
                return AttemptEnd::Rejudge.into();
            }
            if retried {
                let mut handled = Handled { retried, ..AttemptEnd::Rejudge.into() };
                if let Some(first) = job.task.outputs.first() {
                    // Before it is judged: what was kept of it is set aside.
                    handled.retried = !self.begin_anew(name, first);
                    self.ctx.note(Some(name), false, "ended and retried, as asked by `planexe retry`");
                }
                return handled;
            }
        }
        self.tally.stopped(name.clone());
        self.tell(Kind::TaskStopped { task: name.clone() });
        Handled { retried, ..AttemptEnd::Stopped.into() }
    }

    fn retry_attempt(
        &mut self,
        id: TaskId,
        job: &mut Job,
        failure: &Failure,
        after: Duration,
        endpoint: usize,
        pause: Pause,
    ) -> AttemptEnd {
        if let Pause::Outage { left, is_silent } = pause {
            self.await_server(job, failure, left, is_silent);
        }
        if let Some(pending) = self.attempts.pending_mut(id) {
            let counts = pause == Pause::Attempt && !job.evaluates;
            pending.retry(std::mem::take(&mut job.history), counts);
        }
        AttemptEnd::Retry { after, endpoint, outage: matches!(pause, Pause::Outage { .. }) }
    }

    /// What was made is evaluated or merged next.
    fn next_with_candidate(
        &mut self,
        id: TaskId,
        job: &mut Job,
        candidate: Box<Candidate>,
        work: Work,
    ) -> Handled {
        self.next_phase(id, job, |history, took| {
            history.candidate = Some(candidate);
            history.made_in = Some(took);
        });
        AttemptEnd::NextPhase(work).into()
    }

    /// An attempt goes on with its next phase, which is no attempt of its own. `change` is told how long it took so far.
    fn next_phase(&mut self, id: TaskId, job: &mut Job, change: impl FnOnce(&mut AttemptHistory, Duration)) {
        if let Some(pending) = self.attempts.pending_mut(id) {
            // Its earlier phases are in the history, so it is asked before that is taken.
            let took = job.took();
            pending.next_phase(std::mem::take(&mut job.history), |history| change(history, took));
        }
    }

    /// The task is made again, with the notes of its evaluator. `failure`: what that found wanting.
    fn next_round(&mut self, id: TaskId, job: &mut Job, failure: Option<Failure>) -> Handled {
        let evaluation = job.history.evaluation.clone().unwrap_or_default();
        let said = job.history.evaluation.as_ref().map_or(String::new(), |it| it.text());
        let next =
            format!("made again with the notes (round {} of {})", job.history.round, evaluation.rounds);
        if let Some(pending) = self.attempts.pending_mut(id) {
            // Made anew whatever there is.
            pending.make_anew();
            pending.next_round(std::mem::take(&mut job.history));
        }
        let pending = self.attempts.pending(id);
        let work = pending.map_or(Work::default(), |pending| self.work_of(id, pending.judgement()));
        let again = match failure {
            Some(failure) => Some(Again { failure, next: Some(next), after: Duration::ZERO, waits: false }),
            None => {
                self.ctx.note(Some(&job.task.name), false, format!("{said}; {next}"));
                None
            }
        };
        Handled { again, ..AttemptEnd::NextPhase(work).into() }
    }

    fn waits_for_a_person(&mut self, task: String, message: Message) -> Handled {
        self.tally.waits(task.clone(), message.clone());
        self.tell(Kind::TaskWaiting { task, message });
        AttemptEnd::Waiting.into()
    }

    /// A record of the task could not be written: it fails, and with it the build.
    fn broken_by(&mut self, name: &str, id: TaskId, job: &Job, error: FsError) {
        let error = error.within(self.ctx.store.run_dir());
        let message = match Message::new(error.to_string()) {
            message if error.is_out_of_space() => {
                message.hint("make room; `planexe gc` forgets former contents")
            }
            message => message,
        };
        let failure = runner::failure(FailureClass::Io, message);
        runner::note_broken(&self.ctx, job, &failure);
        self.failed(name, id, job.attempt, None, failure, false);
        self.break_off(error);
    }

    /// What a task would be made from now that its commits are merged: it may have changed what it reads.
    fn look_again(&mut self, id: TaskId) {
        let judgement = self.judge_with().judge(self.engine.graph(), id, false);
        if let (Some(pending), Some(prepared)) = (self.attempts.pending_mut(id), judgement.prepared) {
            pending.prepare(prepared);
        }
    }

    /// When a call that failed is made again: not before its pause is over, nor while its server is left alone.
    fn again_in(&self, id: TaskId, after: Duration) -> String {
        let held = self.engine.left_alone(id, self.now()).unwrap_or_default();
        let pause = held.max(after);
        match style::duration(pause.as_secs_f64()) {
            time if held > after => format!("again in {time} or later: its server is left alone"),
            _ if pause < Duration::from_millis(50) => "again at once".to_owned(),
            time => format!("again in {time}"),
        }
    }

    fn completed(&mut self, id: TaskId, job: &Job, completed: Completed) {
        let name = job.task.name.clone();
        let mut passed_utc = None;
        if job.passed.is_some() {
            passed_utc = self.steering.passed(&name).map(|passed| passed.at);
            self.steering.clear_passed(&name);
        }
        self.judging.caches_mut().note(&completed.contents);
        if !completed.reused && completed.from_start {
            self.learn_duration(job, completed.duration_s);
        }
        let step = self.project.spec(&job.task).step;
        let completion = Completion {
            step,
            task: name.clone(),
            checkpoint_id: completed.checkpoint_id.clone(),
            decision_id: job.prepared.decision_id.clone(),
        };
        self.tally.completed(id, &completed, completion);
        self.record(id);
        self.tell(match completed.rescued {
            true => Kind::TaskRescued {
                task: name,
                attempt: job.attempt,
                model: completed.model,
                score: completed.score,
            },
            false => Kind::TaskCompleted {
                task: name,
                attempt: job.attempt,
                model: completed.model,
                duration_s: completed.duration_s,
                usage: job.history.usage,
                step,
                reused: completed.reused,
                unchanged: !completed.changed,
                sample: completed.sample,
                partial: false,
                output: job.task.outputs.first().cloned(),
                passed_utc,
                queued: job.live.take_queued(),
            },
        });
    }

    fn learn_duration(&mut self, job: &Job, duration_s: f64) {
        self.keep_pace(job.task.decl, duration_s);
        self.ctx.index.add_duration(&job.task.name, duration_s);
        if let NodeKind::Instance { family } = job.task.kind {
            self.ctx.index.add_duration(&self.engine.graph()[family].name, duration_s);
        }
    }

    fn failed_attempt(&mut self, id: TaskId, job: &Job, failure: Failure) {
        let told = Kind::TaskFailed {
            task: job.task.name.clone(),
            attempt: job.attempt,
            model: self.model_of(job),
            failure,
            blocked: 0,
            kept: false,
            queued: job.live.take_queued(),
        };
        self.tell_failed(id, told);
    }

    /// `kept`: it failed before, and is left so.
    pub(super) fn failed(
        &mut self,
        name: &str,
        id: TaskId,
        attempt: u32,
        model: Option<String>,
        failure: Failure,
        kept: bool,
    ) {
        let task = name.to_owned();
        self.tell_failed(
            id,
            Kind::TaskFailed { task, attempt, model, failure, blocked: 0, kept, queued: None },
        );
    }

    /// Tells a failure, with the tasks that it blocks.
    fn tell_failed(&mut self, id: TaskId, mut told: Kind) {
        let Kind::TaskFailed { task, failure, blocked, .. } = &mut told else { return };
        let blocks = self.blocked_by(id);
        *blocked = blocks.len() as u32;
        self.tally.failed(Failed { task: task.clone(), failure: failure.clone(), blocks });
        self.tell(told);
    }

    /// Tasks of this build that need a task. A fan-out with a `min_success` may do without one of its instances.
    fn blocked_by(&self, id: TaskId) -> Vec<String> {
        let graph = self.engine.graph();
        let mask = graph.lost_with(&[id], |family| self.project.spec(&graph[family]).min_success < 1.0);
        let own = match graph[id].kind {
            NodeKind::Instance { family } => family,
            _ => id,
        };
        let counts = |other: &TaskId| {
            *other != id
                && *other != own
                && mask[other.index()]
                && self.engine.is_wanted(*other)
                && self.counts(*other)
                && !matches!(graph[*other].kind, NodeKind::Instance { family } if family == own)
        };
        graph.ids().filter(counts).map(|id| graph[id].name.clone()).collect()
    }
}
