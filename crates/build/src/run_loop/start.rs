//! The start of an attempt: what a worker is given, and what is told of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Build;
use super::attempts::{Attempt, JobContext};
use super::callers::WorkersTurns;
use super::inbox::{Finished, WorkerMessage};
use crate::runner::{self, Job, Outcome};
use planexe_base::event::Kind;
use planexe_base::failure_class::FailureClass;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::{AttemptEnd, Event as Input};
use planexe_pipeline::project::Recipe;

/// Time without progress after which it is told of tasks that have no `stall_timeout`.
const STALLED: Duration = Duration::from_secs(600);

impl Build<'_> {
    /// Hands an attempt to a worker.
    pub(super) fn start(&mut self, id: TaskId, attempt: u32, endpoint: Option<usize>) {
        if let Err(error) = self.begin() {
            self.break_off(error);
            self.engine.on(Input::Ended(id, AttemptEnd::Stopped), self.now());
            return;
        }
        if self.is_edited_since_judged(id) {
            self.attempts.forget(id);
            self.judging.forget_files();
            self.engine.on(Input::Ended(id, AttemptEnd::Rejudge), self.now());
            return;
        }
        let Some(job) = self.job(id, attempt, endpoint) else {
            let name = self.engine.graph()[id].name.clone();
            let failure =
                runner::failure(FailureClass::Internal, "BUG: it was never judged; please report it");
            self.failed(&name, id, attempt, None, failure, false);
            self.engine.on(Input::Ended(id, AttemptEnd::Failed), self.now());
            return;
        };
        let model = self.model_of(&job).filter(|_| endpoint.is_some());
        if job.history.merged.is_none() {
            self.tell(Kind::TaskStarted {
                task: job.task.name.clone(),
                attempt: job.attempt,
                model: model.clone(),
                recipe: self.phase_of(&job).to_owned(),
            });
        }
        self.attempts.begin(id, self.attempt_of(&job, model));
        self.give_to_worker(id, job);
    }

    fn give_to_worker(&mut self, id: TaskId, mut job: Box<Job>) {
        let (ctx, sender) = (self.ctx.clone(), self.inbox.sender());
        self.attempts.slots_mut().give(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| runner::run(&ctx, &mut job)));
            let outcome = outcome.unwrap_or_else(|_| {
                let message = "BUG: the task's worker panicked; please report it";
                Outcome::Failed(runner::failure(FailureClass::Internal, message))
            });
            // The build ends only after every worker has answered, so somebody listens.
            let _ = sender.send(WorkerMessage::Finished(Box::new(Finished { task: id, job, outcome })));
        });
    }

    /// What a worker needs for an attempt; none if the task was not judged.
    fn job(&mut self, id: TaskId, attempt: u32, endpoint: Option<usize>) -> Option<Box<Job>> {
        let task = &self.engine.graph()[id];
        let first = task.outputs.first().map_or("", String::as_str);
        let rules = self.judge_with().rules_of(first);
        let sender = self.inbox.sender();
        let answered = Box::new(move |usage| drop(sender.send(WorkerMessage::Answered(id, usage))));
        let turns = Box::new(WorkersTurns(self.inbox.sender()));
        let division = self.engine.division(id).clone();
        let with = JobContext { task, rules, cancel: &self.ctx.cancel, answered, turns, division };
        self.attempts.pending_mut(id)?.job(attempt, endpoint, with).map(Box::new)
    }

    /// An attempt that begins now.
    fn attempt_of(&self, job: &Job, model: Option<String>) -> Attempt {
        let spec = self.project.spec(&job.task);
        let stall = match spec.recipe {
            Recipe::Prompt(_) | Recipe::Command(_) => spec.stall,
            _ => None,
        };
        // The watchdog ends programs itself.
        let ends = stall.is_some() && job.asks(self.project).is_some();
        Attempt::new(job, model, stall.unwrap_or(STALLED), ends)
    }

    /// What the attempt does of its task, as events name it.
    fn phase_of(&self, job: &Job) -> &'static str {
        match (job.evaluates, job.merges) {
            (true, _) => "eval",
            (_, true) => "merge",
            _ => self.project.spec(&job.task).recipe.name(),
        }
    }

    /// The name at its server of the model a job asks.
    pub(super) fn model_of(&self, job: &Job) -> Option<String> {
        let prompt = job.asks(self.project)?;
        Some(self.project.endpoints[*prompt.models.get(job.endpoint)?].model_name().to_owned())
    }
}
