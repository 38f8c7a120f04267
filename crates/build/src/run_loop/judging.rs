//! Finding out what is stale: judgements by batches, empty markers filled in.

use std::sync::Arc;

use rayon::prelude::*;

use super::Build;
use super::attempts::Pending;
use super::caches::Caches;
use crate::check_staleness::{self as judge, Judgement, StaleCheck};
use crate::output_times;
use crate::runner::{self, AttemptHistory, Conversation, LeftOff};
use crate::touch::{self, Adopting};
use planexe_base::event::Kind;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::record::{By, Failure, Marker, State};
use planexe_engine::graph::{Graph, TaskId};
use planexe_engine::scheduler::{Engine, Event as Input, Judged, Resolution, Work};
use planexe_engine::staleness::{Decision, Rules, StaleReason};
use planexe_llm::retry::Budgets;
use planexe_pipeline::eval_score::Evaluation;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::project::Recipe;
use planexe_store::logs::FailureLine;
use planexe_store::null_build::UpToDate;
use planexe_store::{Anew, Store};

/// How a build judges, and what it knows without.
pub(super) struct Judging<'a> {
    caches: Caches<'a>,
    finder: Finder<'a>,
    rules: Rules,
    /// What former builds were told to make anew, and did not come to.
    anew: Arc<Anew>,
    no_reuse: bool,
    env: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

impl<'a> Judging<'a> {
    pub(super) fn new(
        store: &'a Store,
        rules: Rules,
        no_reuse: bool,
        env: &'a (dyn Fn(&str) -> Option<String> + Sync),
        caches: Caches<'a>,
    ) -> Judging<'a> {
        let (finder, anew) = (Finder::new(store), Arc::new(store.read_anew()));
        Judging { caches, finder, rules, anew, no_reuse, env }
    }

    pub(super) fn caches(&self) -> &Caches<'a> {
        &self.caches
    }

    pub(super) fn caches_mut(&mut self) -> &mut Caches<'a> {
        &mut self.caches
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    pub(super) fn finder(&self) -> &Finder<'a> {
        &self.finder
    }

    /// Files may have come or gone: folders are listed again.
    pub(super) fn forget_files(&mut self) {
        self.finder.forget();
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }
}

impl Build<'_> {
    pub(super) fn judge_with(&self) -> StaleCheck<'_> {
        StaleCheck {
            project: self.project,
            store: &self.ctx.store,
            index: &self.ctx.index,
            finder: &self.judging.finder,
            rules: self.judging.rules,
            anew: self.judging.anew.clone(),
            no_reuse: self.judging.no_reuse,
            env: self.judging.env,
        }
    }

    /// Judges a batch of tasks, in parallel where it pays.
    pub(super) fn judge(&mut self, batch: Vec<(TaskId, bool)>) {
        if batch.is_empty() {
            return;
        }
        let judge = self.judge_with();
        let graph = self.engine.graph();
        let (engine, known) = (&self.engine, self.judging.caches().known().filter(|_| !self.wanted.force));
        let one = |&(task, shallow): &(TaskId, bool)| {
            let known = !shallow
                && !self.project.spec(&graph[task]).uses_records()
                && graph.rival(task).is_none()
                && known.is_some_and(|known| is_known(engine, known, task));
            (task, if known { None } else { judge_one(&judge, graph, task, shallow) })
        };
        let judged: Vec<(TaskId, Option<Judgement>)> = if batch.len() > 8 {
            batch.par_iter().map(one).collect()
        } else {
            batch.iter().map(one).collect()
        };
        for (task, judgement) in judged {
            let verdict = self.take_in(task, judgement);
            self.engine.on(Input::Judged(task, verdict), self.now());
        }
    }

    /// What a judgement means for the engine; a stale task's judgement is kept for its attempts.
    pub(super) fn take_in(&mut self, id: TaskId, judgement: Option<Judgement>) -> Judged {
        let Some(mut judgement) = judgement else {
            return Judged::Fresh;
        };
        if self.wanted.explain {
            let one = std::iter::once((&id, &mut judgement));
            judge::name_taken_away(self.engine.graph(), one, || self.ctx.store.gone());
        }
        let name = self.engine.graph()[id].name.clone();
        if let Some(failure) = judgement.failure.clone() {
            return self.refuse(id, failure);
        }
        if judgement.skipped {
            return Judged::Skipped;
        }
        match &judgement.decision {
            Decision::Fresh { edited, .. } => {
                if self.ctx.frozen
                    && let Marker::Valid(done) = &judgement.marker
                    && done.sample
                {
                    let message =
                        "it is done with an answer recorded for another prompt, and --frozen refuses those";
                    return self.refuse(id, runner::failure(FailureClass::Sample, message));
                }
                for path in edited {
                    self.tally.keeps_edited(path.clone());
                }
                if let Marker::Valid(done) = &judgement.marker
                    && done.sample
                {
                    self.tally.has_sample(name);
                }
                Judged::Fresh
            }
            Decision::Adopt => match self.adopt(id, &judgement) {
                Ok(()) => Judged::Fresh,
                Err(error) => {
                    self.break_off(error);
                    Judged::Failed
                }
            },
            Decision::KeptFailed => {
                let failure = judgement
                    .status
                    .as_ref()
                    .and_then(|status| status.result.failure.clone())
                    .unwrap_or_else(|| runner::failure(FailureClass::Failed, "failed before"));
                self.leave_failed(id, failure)
            }
            Decision::DependsOn => Judged::DependsOn,
            Decision::Stale { .. } if self.wanted.keep_same_failed && failed_so_before(&judgement) => {
                let status = judgement.status.as_ref();
                let failure = status.and_then(|status| status.result.failure.clone());
                self.leave_failed(
                    id,
                    failure.unwrap_or_else(|| runner::failure(FailureClass::Failed, "failed before")),
                )
            }
            Decision::Stale { reasons, .. } => {
                if self.wanted.explain {
                    let reasons = reasons.iter().map(StaleReason::text).collect();
                    self.tell(Kind::TaskStale { task: name.clone(), reasons });
                }
                self.keep_for_attempts(id, &name, judgement)
            }
        }
    }

    /// Keeps what the attempts of a stale task need.
    fn keep_for_attempts(&mut self, id: TaskId, name: &str, judgement: Judgement) -> Judged {
        let mut work = self.work_of(id, &judgement);
        let (mut history, mut base_attempt) = history_from(&judgement);
        let spec = self.project.spec(&self.engine.graph()[id]);
        if let Some(prompt) = spec.recipe.prompt() {
            work.first = self.ctx.providers.first(&history.own.budgets, prompt, spec).unwrap_or(0);
        }
        let prepared = judgement.prepared.as_ref();
        let candidate = prepared.and_then(|prepared| prepared.candidate.as_deref());
        if let (Some(candidate), Some(evaluation)) = (candidate, &history.evaluation)
            && evaluation.score.is_some()
        {
            history.notes = Some(runner::eval::notes_of(&self.ctx, candidate, evaluation));
        }
        let open = prepared.and_then(|prepared| prepared.open_candidate(self.ctx.no_rescue)).cloned();
        if let Some(candidate) = open {
            work = match candidate.success {
                Some(_) => {
                    self.project.stage(&self.engine.graph()[id], &self.ctx.store, &candidate);
                    Work { made: true, ..Work::default() }
                }
                None => self.work_of_eval(id, &candidate),
            };
            base_attempt = candidate.attempt.saturating_sub(1);
            history.round = candidate.round;
            history.candidate = Some(Box::new(candidate));
        }
        // What waits for nobody is not let pass.
        let passed = match spec.recipe {
            Recipe::Gate(_) | Recipe::Human(_) => self.passed(name, &judgement),
            _ => None,
        };
        self.attempts.keep(id, Pending::new(judgement, history, base_attempt, passed));
        Judged::Stale(work)
    }

    /// Who let a task pass, if what it is asked about is still what they were shown.
    fn passed(&mut self, name: &str, judgement: &Judgement) -> Option<String> {
        let passed = self.steering.passed(name)?;
        let now = judgement.prepared.as_ref().map(|prepared| &prepared.decision_id);
        if passed.decision_id.is_some() && passed.decision_id.as_ref() != now {
            self.steering.clear_passed(name);
            let message = format!("what {} let pass has changed since: it is asked again", passed.by);
            self.ctx.note(Some(name), true, message);
            return None;
        }
        Some(passed.by)
    }

    /// A task that cannot even be judged.
    pub(super) fn refuse(&mut self, id: TaskId, failure: Failure) -> Judged {
        self.fail_unjudged(id, failure);
        Judged::Failed
    }

    /// A task that failed before and is left so.
    fn leave_failed(&mut self, id: TaskId, failure: Failure) -> Judged {
        let name = self.engine.graph()[id].name.clone();
        self.failed(&name, id, 0, None, failure, true);
        Judged::Failed
    }

    /// A failure without an attempt; the build has something to tell then, unless it was told before.
    pub(super) fn fail_unjudged(&mut self, id: TaskId, mut failure: Failure) {
        let name = self.engine.graph()[id].name.clone();
        let same = |(task, known): &(String, Failure)| {
            *task == name && known.class == failure.class && known.message == failure.message
        };
        let kept = self.wanted.known_failures.iter().any(same);
        if !kept {
            if let Err(error) = self.begin() {
                self.break_off(error);
            }
            failure.error_id.get_or_insert_with(runner::error_id);
            let line = FailureLine::of(&name, None, 0, &failure, None, &self.project.run);
            self.ctx.log_failure(&line);
        }
        self.failed(&name, id, 0, None, failure, kept);
    }

    /// Fills an empty marker in: the outputs hold, and someone says the task is done.
    pub(super) fn adopt(&mut self, id: TaskId, judgement: &Judgement) -> Result<(), FsError> {
        self.begin()?;
        let task = self.engine.graph()[id].clone();
        let how = Adopting { by: By::Touch, user: None, plan: None };
        touch::adopt(self.project, &self.ctx.store, &self.ctx.index, &[(&task, judgement)], &how)?;
        output_times::renew(self.project, &self.ctx.store, &task.outputs)?;
        self.record(id);
        self.ctx.note(
            Some(&task.name),
            false,
            "marked as done by hand: its outputs hold, and are taken as they are",
        );
        Ok(())
    }
}

/// What a task that was not brought to its end has behind it, and the number of its last attempt.
fn history_from(judgement: &Judgement) -> (AttemptHistory, u32) {
    let Some(status) = judgement.status.as_deref().filter(|status| status.state != State::Done) else {
        let left = Some(LeftOff::NotBegun);
        return (AttemptHistory { round: 1, left, ..AttemptHistory::default() }, 0);
    };
    let decision = judgement.prepared.as_ref().map(|prepared| &prepared.decision_id);
    // What was used up on another prompt says nothing of this one.
    let budgets = status.budgets.clone().filter(|_| status.last.decision_id.as_ref() == decision);
    let budgets: Option<Budgets> = budgets.and_then(|budgets| serde_json::from_value(budgets).ok());
    let mut budgets = budgets.unwrap_or_default();
    budgets.resumed();
    // An attempt that the disk ended was cut off as by a kill: what came of it may not have been noted.
    let by_disk = status.result.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Io);
    let state = if by_disk { State::Running } else { status.state };
    let left = Some(LeftOff::In(state, status.last.attempt));
    let evaluation = Evaluation::from_value(status.quality.eval.as_ref())
        .filter(|_| status.last.decision_id.as_ref() == decision);
    // One that failed begins its rounds anew, with the notes.
    let round = match &evaluation {
        Some(it) if it.score.is_some() && status.state != State::Failed => it.round + 1,
        Some(it) if status.state != State::Failed => it.round.max(1),
        _ => 1,
    };
    let own = Conversation { max_tokens: budgets.room(), budgets, ..Conversation::default() };
    (AttemptHistory { own, left, round, evaluation, ..AttemptHistory::default() }, status.last.attempt)
}

/// Whether a task is up to date without looking: nothing it rested on had changed when the build began,
/// and nothing it needs has run since.
fn is_known(engine: &Engine, known: &UpToDate, id: TaskId) -> bool {
    let task = &engine.graph()[id];
    known.contains(&task.name)
        && task.needs.iter().all(|need| engine.settled(need.task) == Some(Resolution::Fresh))
}

/// Judges one task; none if the stamp of its last fresh verdict still stands.
fn judge_one(judge: &StaleCheck<'_>, graph: &Graph, task: TaskId, shallow: bool) -> Option<Judgement> {
    let name = &graph[task].name;
    let first = graph[task].outputs.first().map_or("", String::as_str);
    if !shallow
        && !judge.rules.force
        && judge.rules_of(first) == judge.rules
        && graph.rival(task).is_none()
        && let Some(stamp) = judge.index.stamp(name)
    {
        if judge.stamp(graph, task, planexe_base::fs::now_ns()) == Some(stamp) {
            return None;
        }
        judge.index.set_stamp(name, None);
    }
    Some(judge.judge_to_make(graph, task, shallow))
}

/// Whether a task failed when it was made from what it would be made from now.
fn failed_so_before(judgement: &Judgement) -> bool {
    let (Some(status), Some(prepared)) = (&judgement.status, &judgement.prepared) else { return false };
    let of_its_own = status.result.failure.as_ref().is_none_or(|failure| failure.class != FailureClass::Io);
    status.state == State::Failed
        && of_its_own
        && status.last.decision_id.as_ref() == Some(&prepared.decision_id)
}
