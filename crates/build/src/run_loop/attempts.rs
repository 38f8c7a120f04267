//! Attempts: handed to the workers, and what each came to.

use super::{Attempt, Build, Completion, Failed, Finished, STALLED, Stopped, WorkerMessage};
use crate::check_staleness::Prepared;
use crate::runner::isolated::merge;
use crate::runner::{self, AttemptHistory, Completed, EndedAlone, Job, Live, Outcome, Pause};
use planexe_base::cancel::Level;
use planexe_base::event::Kind;
use planexe_base::fs::{Durability, FsError};
use planexe_base::record::{Failure, Marker};
use planexe_base::style;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::{End, Event as Input, Settled, Work};
use planexe_engine::staleness::{Decision, StaleReason};
use planexe_llm::Class;
use planexe_pipeline::project::Recipe;
use planexe_store::StatusRead;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// What an attempt came to.
struct Handled {
    /// What the engine is told.
    end: End,
    /// Another attempt follows.
    again: Option<Again>,
    /// Somebody wants the task tried anew, and that is to be seen to yet.
    retried: bool,
}

/// Why there is another attempt, and when.
struct Again {
    failure: Failure,
    next: Option<String>,
    after: Duration,
}

impl Build<'_> {
    /// Hands an attempt to a worker.
    pub(super) fn start(&mut self, id: TaskId, attempt: u32, endpoint: Option<usize>) {
        if let Err(error) = self.begin() {
            self.break_off(error);
            self.engine.on(Input::Ended(id, End::Stopped), self.now());
            return;
        }
        if self.is_edited_since(id) {
            self.pending.remove(&id);
            self.finder.forget();
            self.engine.on(Input::Ended(id, End::Rejudge), self.now());
            return;
        }
        let Some(mut job) = self.job(id, attempt, endpoint) else {
            let name = self.engine.graph()[id].name.clone();
            let failure = runner::failure("internal", "BUG: it was never judged; please report it");
            self.failed(&name, id, attempt, None, failure, false);
            self.engine.on(Input::Ended(id, End::Failed), self.now());
            return;
        };
        let recipe = &self.project.spec(&job.task).recipe;
        let model = self.model_of(&job).filter(|_| endpoint.is_some());
        let recipe = match (job.evaluates, job.merges) {
            (true, _) => "eval",
            (_, true) => "merge",
            _ => recipe.name(),
        };
        if job.history.merged.is_none() {
            self.tell(Kind::TaskStarted {
                task: job.task.name.clone(),
                attempt: job.attempt,
                model: model.clone(),
                recipe: recipe.to_owned(),
            });
        }
        self.retrying.remove(&id);
        self.running.insert(id, self.attempt_of(&job, model));
        let (ctx, back) = (self.ctx.clone(), self.outcomes.0.clone());
        self.workers.give(move || {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner::run(&ctx, &mut job)));
            let outcome = outcome.unwrap_or_else(|_| {
                Outcome::Failed(runner::failure(
                    "internal",
                    "BUG: the task's worker panicked; please report it",
                ))
            });
            // The build ends only after every worker has answered, so somebody listens.
            let _ = back.send(WorkerMessage::Finished(Box::new(Finished { task: id, job, outcome })));
        });
    }

    /// Whether an input was edited since a task was judged: what it would be made from is no more.
    fn is_edited_since(&self, id: TaskId) -> bool {
        let Some(pending) = self.pending.get(&id) else { return false };
        let records = pending.judgement.prepared.as_ref().map(Prepared::records).unwrap_or_default();
        let edit = records.iter().filter_map(|record| self.edited_at.get(&record.path)).max();
        edit.is_some_and(|at| *at > pending.judged)
    }

    /// What a worker needs for an attempt; none if the task was not judged.
    fn job(&mut self, id: TaskId, attempt: u32, endpoint: Option<usize>) -> Option<Box<Job>> {
        let first = self.engine.graph()[id].outputs.first().map_or("", String::as_str);
        let rules = self.judge_with().rules_of(first);
        let pending = self.pending.get_mut(&id)?;
        let judgement = &pending.judgement;
        let prepared = judgement.prepared.clone()?;
        let (redraw, withdraw, edited, damaged) = match &judgement.decision {
            Decision::Stale { reasons, redraw, edited, .. } => {
                let damaged = reasons.iter().any(|r| matches!(r, StaleReason::OutputInvalid { .. }));
                let asked = reasons.iter().any(|reason| rules.is_asked(reason));
                (*redraw, asked, edited.clone(), damaged)
            }
            _ => (false, false, Vec::new(), false),
        };
        let torn = judgement.torn || matches!(judgement.marker, Marker::Damaged(_) | Marker::Newer(_));
        let former = match &judgement.marker {
            Marker::Valid(done) => Some(done.clone()),
            _ => None,
        };
        // What there was is seen to by the first attempt.
        let first = std::mem::replace(&mut pending.first, false);
        let back = self.outcomes.0.clone();
        let merges = pending.history.candidate.as_ref().is_some_and(|candidate| candidate.success.is_some());
        let evaluates = pending.history.candidate.is_some() && !merges;
        let live = Live::under(&self.ctx.cancel);
        Some(Box::new(Job {
            evaluates,
            merges,
            attempt: (pending.base_attempt.saturating_add(attempt)).saturating_sub(pending.waits),
            endpoint: endpoint.unwrap_or(0),
            prepared,
            former,
            redraw: redraw && first,
            withdraw: withdraw && first,
            edited: if first { edited } else { Vec::new() },
            damaged: damaged && first,
            torn: torn && first,
            other: pending.other.clone(),
            passed: pending.passed.clone(),
            history: std::mem::take(&mut pending.history),
            live: Arc::new(if evaluates { live.evaluating() } else { live }),
            answered: Box::new(move |usage| drop(back.send(WorkerMessage::Answered(id, usage)))),
            task: self.engine.graph()[id].clone(),
        }))
    }

    /// An attempt that begins now.
    fn attempt_of(&self, job: &Job, model: Option<String>) -> Attempt {
        let spec = self.project.spec(&job.task);
        let stall = match spec.recipe {
            Recipe::Prompt(_) | Recipe::Command(_) => spec.stall,
            _ => None,
        };
        Attempt {
            number: job.attempt,
            model,
            mark: job.live.mark(),
            got_on: Instant::now(),
            got_on_at: SystemTime::now(),
            limit: stall.unwrap_or(STALLED),
            // The watchdog ends programs itself.
            ends: stall.is_some() && job.asks(self.project).is_some(),
            stalled: false,
            held: String::new(),
            followed: false,
            live: job.live.clone(),
        }
    }

    /// Takes in the end of an attempt.
    pub(super) fn ended(&mut self, ran: Finished) {
        let Finished { task: id, mut job, outcome } = ran;
        self.no_longer_running(id, &job, &outcome);
        self.finder.forget();
        let timed_out = self.take_in_call(id, &mut job);
        let name = job.task.name.clone();
        let Handled { end, again, retried } = self.take_in_outcome(id, &mut job, outcome);
        if !matches!(end, End::Retry { .. } | End::NextPhase(_)) {
            self.pending.remove(&id);
        }
        let told = match end {
            End::Done => Some(Settled::Done),
            End::Failed => Some(Settled::Failed),
            End::Waiting => Some(Settled::Waiting),
            End::Retry { .. } | End::NextPhase(_) | End::Stopped | End::Rejudge => None,
        };
        self.engine.on(Input::Ended(id, end), self.now());
        // It came to its end on something that is made anew: it is judged again, and that end counts for nothing.
        if let Some(told) = told.filter(|told| self.engine.settled(id) != Some(*told)) {
            self.take_back_end(id, told);
        }
        if let Some(Again { failure, next, after }) = again {
            let next = next.unwrap_or_else(|| self.again_in(id, after));
            self.retrying.insert(id, next.clone());
            self.tell(Kind::TaskRetrying { task: name.clone(), attempt: job.attempt, failure, next });
        }
        if timed_out {
            self.look_at_silence(&job);
        }
        if retried {
            // It came to its end all the same.
            self.retry(&name);
        }
    }

    /// Forgets an attempt that ended.
    fn no_longer_running(&mut self, id: TaskId, job: &Job, outcome: &Outcome) {
        let Some(attempt) = self.running.remove(&id) else { return };
        self.forget_text(id, &attempt);
        if let Outcome::Failed(failure) = outcome
            && failure.class == "stall"
            && !attempt.stalled
        {
            // The watchdog was faster than the look from here.
            let idle_s = self.project.spec(&job.task).stall.unwrap_or(attempt.limit).as_secs_f64();
            self.tell(Kind::TaskStalled { task: job.task.name.clone(), idle_s });
        }
    }

    /// What an attempt's call says of its endpoint, and of those that are closed by now. Whether it ran out of time.
    fn take_in_call(&mut self, id: TaskId, job: &mut Job) -> bool {
        let mut timed_out = false;
        if let Some((result, retry_after)) = job.history.call.take() {
            if let Ok(usage) = &result {
                self.answered(job);
                self.look_at_cost(job, usage);
            }
            if let (Err(Class::Timeout), Some(rest)) = (&result, retry_after) {
                self.await_idle(job, rest);
            }
            timed_out = matches!(result, Err(Class::Timeout));
            self.engine.call_ended(id, result, retry_after);
        }
        let now = self.now();
        if let Some(prompt) = job.asks(self.project) {
            for &endpoint in prompt.models.iter().filter(|&&at| self.ctx.providers.is_closed(at)) {
                self.engine.on(Input::EndpointClosed(endpoint), now);
            }
        }
        timed_out
    }

    /// What the outcome of an attempt means, told to people and to the records of the build.
    fn take_in_outcome(&mut self, id: TaskId, job: &mut Job, outcome: Outcome) -> Handled {
        let name = job.task.name.clone();
        let edited = job.live.ended() == Some(EndedAlone::Edited);
        let retried = job.live.ended() == Some(EndedAlone::Retried);
        let handled = |end: End| Handled { end, again: None, retried };
        match outcome {
            Outcome::Done(completed) => {
                self.project.release_staged(&job.task);
                let outdated = completed.outdated;
                self.completed(id, job, *completed);
                handled(if outdated { End::Rejudge } else { End::Done })
            }
            Outcome::Failed(failure) => {
                let model = self.model_of(job);
                let given_up = job.merges && matches!(failure.class.as_str(), merge::CONFLICT | merge::DIRTY);
                self.failed(&name, id, job.attempt, model, failure, false);
                if given_up {
                    self.stop(Stopped::Abort, Level::Draining);
                }
                handled(End::Failed)
            }
            Outcome::Waiting(message) => {
                if job.passed.is_some() {
                    // What was written will not do: it is asked for again.
                    self.controls.clear_passed(&name);
                }
                self.waits_for_a_person(name, message);
                handled(End::Waiting)
            }
            Outcome::Retry { failure, next, after, endpoint, pause } => {
                let outage = matches!(pause, Pause::Outage { .. });
                if let Pause::Outage { left } = pause {
                    self.await_server(job, &failure, left);
                }
                if let Some(pending) = self.pending.get_mut(&id) {
                    pending.history = std::mem::take(&mut job.history);
                    pending.waits += u32::from(pause != Pause::Attempt || job.evaluates);
                }
                let again = Some(Again { failure, next, after });
                Handled { again, ..handled(End::Retry { after, endpoint, outage }) }
            }
            Outcome::Evaluate(candidate) => {
                let work = self.work_of_eval(id, &candidate);
                self.next_part(id, job, |history, took| {
                    history.candidate = Some(candidate);
                    history.made_in = Some(took);
                });
                handled(End::NextPhase(work))
            }
            Outcome::ReadyToMerge(candidate) => {
                self.project.stage(&job.task, self.store, &candidate);
                self.next_part(id, job, |history, took| {
                    history.candidate = Some(candidate);
                    history.made_in = Some(took);
                });
                handled(End::NextPhase(Work { made: true, ..Work::default() }))
            }
            Outcome::Merged(merged) => {
                self.look_again(id);
                self.next_part(id, job, |history, took| {
                    history.made_in = history.made_in.map(|_| took);
                    history.merged = Some(merged);
                });
                handled(End::NextPhase(Work::default()))
            }
            Outcome::Unmerged(failure) => {
                self.waits_for_a_person(name, failure.message);
                handled(End::Waiting)
            }
            Outcome::NextRound(failure) => {
                let (round, rounds) =
                    (job.history.round, job.history.evaluation.as_ref().map_or(0, |it| it.rounds));
                let evaluation = job.history.evaluation.as_ref().map_or(String::new(), |it| it.text());
                let work = self.next_round(id, job);
                let next = format!("made again with the notes (round {round} of {rounds})");
                let Some(failure) = failure else {
                    self.ctx.note(Some(&name), false, format!("{evaluation}; {next}"));
                    return handled(End::NextPhase(work));
                };
                let again = Some(Again { failure, next: Some(next), after: Duration::ZERO });
                Handled { again, ..handled(End::NextPhase(work)) }
            }
            Outcome::EvalUnavailable(failure) => {
                let model = self.model_of(job);
                self.failed(&name, id, job.attempt, model, failure, false);
                handled(End::Failed)
            }
            Outcome::Stopped if (edited || retried) && self.ctx.cancel.level() == Level::Running => {
                let mut handled = handled(End::Rejudge);
                if edited {
                    self.ctx.note(Some(&name), false, "what it reads was edited: ended, and begun anew");
                } else if let Some(first) = job.task.outputs.first() {
                    // Before it is judged: what was kept of it is set aside.
                    handled.retried = !self.begin_anew(&name, first);
                    self.ctx.note(Some(&name), false, "ended and tried anew, as asked by `planexe retry`");
                }
                handled
            }
            Outcome::Stopped => {
                self.summary.stopped.push(name.clone());
                self.tell(Kind::TaskStopped { task: name });
                handled(End::Stopped)
            }
            Outcome::Broken(error) => {
                self.broken_by(&name, id, job, error);
                handled(End::Failed)
            }
        }
    }

    /// An attempt goes on with its next part, which is no attempt of its own. `change` is told how long it took so far.
    fn next_part(&mut self, id: TaskId, job: &mut Job, change: impl FnOnce(&mut AttemptHistory, Duration)) {
        if let Some(pending) = self.pending.get_mut(&id) {
            // Its earlier parts are in the history.
            let took = job.took();
            pending.history = std::mem::take(&mut job.history);
            change(&mut pending.history, took);
            pending.waits += 1;
        }
    }

    /// What the next round of a task takes, made anew whatever there is.
    fn next_round(&mut self, id: TaskId, job: &mut Job) -> Work {
        let Some(mut pending) = self.pending.remove(&id) else { return Work::default() };
        if let Some(prepared) = &mut pending.judgement.prepared {
            prepared.make_anew();
        }
        let work = self.work_of(id, &pending.judgement);
        pending.history = std::mem::take(&mut job.history);
        self.pending.insert(id, pending);
        work
    }

    fn waits_for_a_person(&mut self, task: String, message: String) {
        self.summary.waiting.push(task.clone());
        self.waiting.push((task.clone(), message.clone()));
        self.tell(Kind::TaskWaiting { task, message });
    }

    /// A record of the task could not be written: it fails, and with it the build.
    fn broken_by(&mut self, name: &str, id: TaskId, job: &Job, error: FsError) {
        let error = error.within(self.store.run_dir());
        let hint = match error.is_out_of_space() {
            true => "\nhint: make room; `planexe gc` forgets former contents",
            false => "",
        };
        let failure = runner::failure("io", format!("{error}{hint}"));
        runner::note_broken(&self.ctx, job, &failure);
        self.failed(name, id, job.attempt, None, failure, false);
        self.break_off(error);
    }

    /// Of a lane some tasks succeeded and some failed: nothing of it is merged, which is told of each that succeeded.
    pub(super) fn mixed(&mut self, made: &[TaskId], failed: &[TaskId]) {
        let graph = self.engine.graph();
        let names = |ids: &[TaskId]| ids.iter().map(|id| graph[*id].name.clone()).collect::<Vec<_>>();
        let (made_names, failed_names) = (names(made), names(failed));
        let lane = made.first().map(|id| {
            let task = &graph[*id];
            let spec = self.project.spec(task).isolate.as_ref();
            spec.map_or(String::new(), |spec| spec.lane_of(&task.name).to_owned())
        });
        let list = |names: &[String]| format!("`{}`", names.join("`, `"));
        let again = style::clean(&failed_names.join(" "));
        let message = format!(
            "lane `{}` is mixed: {} succeeded, {} failed, and nothing of it is merged\n\
             hint: `planexe build` tries {again} again, and merges all of it once that succeeded\n\
             hint: `planexe build {}` merges what succeeded alone",
            lane.unwrap_or_default(),
            list(&made_names),
            list(&failed_names),
            made_names.iter().map(|name| planexe_ui::views::shell_word(name)).collect::<Vec<_>>().join(" "),
        );
        for (&id, name) in made.iter().zip(&made_names) {
            let mut failure = runner::failure("lane_mixed", message.as_str());
            failure.recoverable = true;
            let attempt = self.pending.get(&id).map_or(0, |pending| pending.base_attempt + 1);
            if let Err(error) = self.note_mixed(id, &failure) {
                self.break_off(error);
            }
            self.pending.remove(&id);
            self.failed(name, id, attempt, None, failure, false);
        }
    }

    /// Has the `.status` of a task that is to be merged say why it is not.
    fn note_mixed(&self, id: TaskId, failure: &Failure) -> Result<(), FsError> {
        let Some(first) = self.engine.graph()[id].outputs.first() else { return Ok(()) };
        match self.store.read_status(first) {
            StatusRead::Valid(mut status) => {
                status.failure = Some(failure.clone());
                self.store.write_status(first, &status, Durability::Synced)
            }
            _ => Ok(()),
        }
    }

    /// What a task would be made from now that its commits are merged: it may have changed what it reads.
    fn look_again(&mut self, id: TaskId) {
        let judgement = self.judge_with().judge(self.engine.graph(), id, false);
        if let (Some(pending), Some(prepared)) = (self.pending.get_mut(&id), judgement.prepared) {
            pending.judgement.prepared = Some(prepared);
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

    pub(super) fn model_of(&self, job: &Job) -> Option<String> {
        let prompt = job.asks(self.project)?;
        Some(self.project.endpoints[*prompt.models.get(job.endpoint)?].model_name().to_owned())
    }

    pub(super) fn completed(&mut self, id: TaskId, job: &Job, completed: Completed) {
        self.summary.ran += 1;
        self.summary.reused += u32::from(completed.reused);
        let name = job.task.name.clone();
        if completed.sample {
            self.summary.sample.push(name.clone());
        }
        if job.passed.is_some() {
            self.controls.clear_passed(&name);
        }
        for (path, digest) in &completed.contents {
            self.contents.note(path, digest);
        }
        if !completed.reused && completed.from_start {
            self.keep_pace(job.task.decl, completed.duration_s);
            self.ctx.index.add_duration(&name, completed.duration_s);
            if let NodeKind::Instance { family } = job.task.kind {
                let family = self.engine.graph()[family].name.clone();
                self.ctx.index.add_duration(&family, completed.duration_s);
            }
        }
        let step = self.project.spec(&job.task).step;
        self.last_completed = Some(Completion {
            step,
            task: name.clone(),
            checkpoint_id: completed.checkpoint_id.clone(),
            decision_id: job.prepared.decision_id.clone(),
        });
        if completed.changed {
            self.changed.push(id);
        }
        self.record(id);
        if completed.warned {
            self.summary.warned.push(name.clone());
        }
        if completed.rescued {
            self.summary.rescued.push(name.clone());
            self.tell(Kind::TaskRescued {
                task: name,
                attempt: job.attempt,
                model: completed.model,
                score: completed.score,
            });
            return;
        }
        self.tell(Kind::TaskCompleted {
            task: name,
            attempt: job.attempt,
            model: completed.model,
            duration_s: completed.duration_s,
            usage: runner::usage_of(&job.history.usage),
            step,
            reused: completed.reused,
            unchanged: !completed.changed,
            sample: completed.sample,
            partial: false,
            output: job.task.outputs.first().cloned(),
        });
    }

    pub(super) fn failed(
        &mut self,
        name: &str,
        id: TaskId,
        attempt: u32,
        model: Option<String>,
        failure: Failure,
        kept: bool,
    ) {
        let blocks = self.blocked_by(id);
        let blocked = blocks.len() as u32;
        self.summary.failed.push(name.to_owned());
        self.failures.push(Failed { task: name.to_owned(), failure: failure.clone(), blocks });
        self.tell(Kind::TaskFailed { task: name.to_owned(), attempt, model, failure, blocked, kept });
    }

    /// Tasks of this build that need a task. A fan-out with a `min_success` may do without one of its instances.
    pub(super) fn blocked_by(&self, id: TaskId) -> Vec<String> {
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
