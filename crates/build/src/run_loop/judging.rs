//! Finding out what is stale: judgements by batches, fan-outs expanded, empty markers filled in.

use super::{Build, Pending};
use crate::check_staleness::{self as judge, Judge, Judgement};
use crate::output_times;
use crate::runner::{self, AttemptHistory, Conversation, OtherFields};
use crate::touch::{self, Adopting};
use planexe_base::event::Kind;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{By, Failure, Marker, State};
use planexe_engine::graph::{Graph, TaskId};
use planexe_engine::scheduler::{Engine, Event as Input, Judged, Settled, Work};
use planexe_engine::staleness::{Decision, StaleReason};
use planexe_llm::retry::Budgets;
use planexe_pipeline::eval_score::Evaluation;
use planexe_pipeline::project::{Evaluator, Recipe};
use planexe_pipeline::task_inputs::SAMPLES;
use planexe_store::Why;
use planexe_store::candidates::{Candidate, CandidateFile};
use planexe_store::logs::FailureLine;
use planexe_store::memo::Known;
use rayon::prelude::*;
use std::time::Instant;

impl Build<'_> {
    pub(super) fn judge_with(&self) -> Judge<'_> {
        Judge {
            project: self.project,
            store: self.store,
            index: &self.ctx.index,
            finder: &self.finder,
            rules: self.judge_rules,
            anew: self.anew.clone(),
            no_reuse: self.no_reuse,
            env: self.env,
        }
    }

    /// In a lane that was left in the middle of a task that task comes first: what it left there is gone on with.
    pub(super) fn give_turns(&mut self) {
        if self.project.specs.iter().all(|spec| spec.lane().is_none()) {
            return;
        }
        let left = self.store.lanes().into_iter().filter_map(|lane| lane.at_work);
        for at_work in left.filter(|at_work| !at_work.failed) {
            if let Some(id) = self.engine.graph().find(&at_work.task) {
                self.engine.give_turn(id);
            }
        }
    }

    /// Judges a batch of tasks, in parallel where it pays.
    pub(super) fn judge(&mut self, batch: Vec<(TaskId, bool)>) {
        if batch.is_empty() {
            return;
        }
        let judge = self.judge_with();
        let graph = self.engine.graph();
        let (engine, known) = (&self.engine, self.known.filter(|_| !self.wanted.force));
        let one = |&(task, shallow): &(TaskId, bool)| {
            let known = !shallow
                && !self.project.spec(&graph[task]).uses(SAMPLES)
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
            judge::name_taken_away(self.engine.graph(), one, || self.store.gone());
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
                    return self.refuse(id, runner::failure("sample", message));
                }
                for path in edited {
                    self.edited.push(path.clone());
                }
                if let Marker::Valid(done) = &judgement.marker
                    && done.sample
                {
                    self.summary.sample.push(name);
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
                    .and_then(|status| status.failure.clone())
                    .unwrap_or_else(|| runner::failure("failed", "failed before"));
                self.leave_failed(id, failure)
            }
            Decision::DependsOn => Judged::DependsOn,
            Decision::Stale { .. } if self.wanted.keep_same_failed && failed_so_before(&judgement) => {
                let status = judgement.status.as_ref();
                let failure = status.and_then(|status| status.failure.clone());
                self.leave_failed(id, failure.unwrap_or_else(|| runner::failure("failed", "failed before")))
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
                    self.project.stage(&self.engine.graph()[id], self.store, &candidate);
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
        let of_done = match &judgement.marker {
            Marker::Valid(done) => done.other.clone(),
            _ => serde_json::Map::new(),
        };
        let of_status = judgement.status.as_ref().map(|s| s.other.clone()).unwrap_or_default();
        let pending = Pending {
            judgement,
            history,
            base_attempt,
            passed,
            other: OtherFields { done: of_done, status: of_status },
            waits: 0,
            first: true,
            judged: Instant::now(),
        };
        self.pending.insert(id, pending);
        Judged::Stale(work)
    }

    /// Who let a task pass, if what it is asked about is still what they were shown.
    fn passed(&mut self, name: &str, judgement: &Judgement) -> Option<String> {
        let passed = self.controls.passed(name)?;
        let now = judgement.prepared.as_ref().map(|prepared| &prepared.decision_id);
        if passed.decision_id.is_some() && passed.decision_id.as_ref() != now {
            self.controls.clear_passed(name);
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
    fn fail_unjudged(&mut self, id: TaskId, mut failure: Failure) {
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

    /// Slots the evaluation of a candidate takes.
    pub(super) fn work_of_eval(&self, id: TaskId, candidate: &Candidate) -> Work {
        let spec = self.project.spec(&self.engine.graph()[id]);
        let mut work = Work { pool: spec.pool, lane: spec.lane(), ..Work::default() };
        match spec.eval.as_ref().map(|eval| (&eval.by, eval.max_bytes)) {
            Some((Evaluator::Prompt(prompt), most)) => {
                work.endpoints = prompt.models.clone();
                work.cpu = self.calls_take_turns;
                let size = |output: &CandidateFile| {
                    let path = self.store.candidate_file(candidate, output);
                    fs::signature(&path).ok().flatten().map_or(0, |it| it.size.min(most as u64))
                };
                work.tokens = candidate.outputs.iter().map(size).sum::<u64>() / 3;
            }
            Some((Evaluator::Command(_), _)) => work.cpu = true,
            None => {}
        }
        work
    }

    /// Slots a stale task takes. An answer that is there already takes none of a model's.
    pub(super) fn work_of(&self, id: TaskId, judgement: &Judgement) -> Work {
        let graph = self.engine.graph();
        let spec = self.project.spec(&graph[id]);
        let mut work = Work { pool: spec.pool, lane: spec.lane(), ..Work::default() };
        match &spec.recipe {
            Recipe::Command(_) => work.cpu = !judgement.prepared.as_ref().is_some_and(|p| p.as_it_is),
            Recipe::Prompt(prompt) => {
                let paid =
                    judgement.prepared.as_ref().is_some_and(|p| p.kept.is_some() || p.existing.is_some());
                if !paid {
                    work.endpoints = prompt.models.clone();
                    work.cpu = self.calls_take_turns;
                    let chars = judgement.prepared.as_ref().map_or(0, |p| p.prompt.len() + p.system.len());
                    work.tokens = chars as u64 / 3;
                }
            }
            _ => {}
        }
        work
    }

    /// Fills an empty marker in: the outputs hold, and someone says the task is done.
    pub(super) fn adopt(&mut self, id: TaskId, judgement: &Judgement) -> Result<(), FsError> {
        self.begin()?;
        let task = self.engine.graph()[id].clone();
        let how = Adopting { by: By::Touch, user: None };
        touch::adopt(self.project, self.store, &self.ctx.index, &[(&task, judgement)], &how)?;
        output_times::renew(self.project, self.store, &task.outputs)?;
        self.record(id);
        self.ctx.note(
            Some(&task.name),
            false,
            "marked as done by hand: its outputs hold, and are taken as they are",
        );
        Ok(())
    }

    /// Finds out the items of a fan-out, and moves what belongs to former ones to history.
    pub(super) fn expand(&mut self, family: TaskId) {
        let items = self.judge_with().wanted_items(self.engine.graph(), family, &self.wanted.targets);
        let items = match items {
            Ok(items) => Some(items),
            Err(failure) => {
                self.fail_unjudged(family, failure);
                None
            }
        };
        let complete = items.is_some();
        let now = self.now();
        self.engine.on(Input::Expanded(family, items), now);
        if complete && let Err(error) = self.retire_former_items(family) {
            self.break_off(error);
        }
    }

    pub(super) fn retire_former_items(&mut self, family: TaskId) -> Result<(), FsError> {
        if self.wanted.targets.iter().any(|(id, keys)| *id == family && keys.is_some()) {
            return Ok(());
        }
        let task = self.engine.graph()[family].clone();
        let former = self.finder.former_items(self.engine.graph(), &task)?;
        for first in former {
            self.begin()?;
            let outputs = self.finder.recorded_outputs(&first);
            let name = self.store.recorded_task(&first).unwrap_or_else(|| task.name.clone());
            let mut there = Vec::new();
            for output in &outputs {
                if fs::kind(&self.store.path(output))?.is_some() {
                    there.push(format!("`{output}`"));
                }
            }
            self.store.clean(&name, Why::Orphaned, &outputs, Durability::Synced)?;
            // One that was never done left nothing.
            let kept = if there.is_empty() {
                String::new()
            } else {
                format!("; {} went to history", there.join(", "))
            };
            self.ctx.note(Some(&name), false, format!("its item is gone{kept}"));
            self.finder.forget();
        }
        Ok(())
    }
}

/// What a task that was not brought to its end has behind it, and the number of its last attempt.
fn history_from(judgement: &Judgement) -> (AttemptHistory, u32) {
    let Some(status) = judgement.status.as_deref().filter(|status| status.state != State::Done) else {
        return (AttemptHistory { round: 1, ..AttemptHistory::default() }, 0);
    };
    let decision = judgement.prepared.as_ref().map(|prepared| &prepared.decision_id);
    // What was used up on another prompt says nothing of this one.
    let budgets = status.budgets.clone().filter(|_| status.decision_id.as_ref() == decision);
    let budgets: Option<Budgets> = budgets.and_then(|budgets| serde_json::from_value(budgets).ok());
    let mut budgets = budgets.unwrap_or_default();
    budgets.resumed();
    let left = Some((status.state, status.attempt));
    let evaluation = Evaluation::of(status.eval.as_ref()).filter(|_| status.decision_id.as_ref() == decision);
    // One that failed begins its rounds anew, with the notes.
    let round = match &evaluation {
        Some(it) if it.score.is_some() && status.state != State::Failed => it.round + 1,
        Some(it) if status.state != State::Failed => it.round.max(1),
        _ => 1,
    };
    let own = Conversation { max_tokens: budgets.room(), budgets, ..Conversation::default() };
    (AttemptHistory { own, left, round, evaluation, ..AttemptHistory::default() }, status.attempt)
}

/// Whether a task is up to date without looking: nothing it rested on had changed when the build began,
/// and nothing it needs has run since.
fn is_known(engine: &Engine, known: &Known, id: TaskId) -> bool {
    let task = &engine.graph()[id];
    known.is_fresh(&task.name)
        && task.needs.iter().all(|need| engine.settled(need.task) == Some(Settled::Fresh))
}

/// Judges one task; none if the memo of its last fresh verdict still stands.
fn judge_one(judge: &Judge<'_>, graph: &Graph, task: TaskId, shallow: bool) -> Option<Judgement> {
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
    let of_its_own = status.failure.as_ref().is_none_or(|failure| failure.class != "io");
    status.state == State::Failed && of_its_own && status.decision_id.as_ref() == Some(&prepared.decision_id)
}
