//! Lanes of isolated tasks: which of their tasks comes first, and what becomes of one that is mixed.

use super::Build;
use crate::runner;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{Durability, FsError};
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_engine::graph::TaskId;
use planexe_store::StatusRead;
use planexe_ui::views::shell_word;

impl Build<'_> {
    /// In a lane that was left in the middle of a task that task comes first: what it left there is gone on with.
    pub(super) fn give_turns(&mut self) {
        if self.project.specs.iter().all(|spec| spec.lane().is_none()) {
            return;
        }
        let lanes = match self.ctx.store.lanes() {
            Ok(lanes) => lanes,
            Err(error) => return self.break_off(error),
        };
        let left = lanes.into_iter().filter_map(|lane| lane.at_work);
        for at_work in left.filter(|at_work| !at_work.failed) {
            if let Some(id) = self.engine.graph().find(&at_work.task) {
                self.engine.give_turn(id);
            }
        }
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
        let message = mixed_message(&lane.unwrap_or_default(), &made_names, &failed_names);
        for (&id, name) in made.iter().zip(&made_names) {
            let failure =
                Failure { recoverable: true, ..runner::failure(FailureClass::LaneMixed, message.clone()) };
            let attempt = self.attempts.pending(id).map_or(0, |pending| pending.first_attempt());
            if let Err(error) = self.note_mixed(id, &failure) {
                self.break_off(error);
            }
            self.attempts.forget(id);
            self.failed(name, id, attempt, None, failure, false);
        }
    }

    /// Has the `.status` of a task that is to be merged say why it is not.
    fn note_mixed(&self, id: TaskId, failure: &Failure) -> Result<(), FsError> {
        let Some(first) = self.engine.graph()[id].outputs.first() else { return Ok(()) };
        match self.ctx.store.read_status(first) {
            StatusRead::Valid(mut status) => {
                status.result.failure = Some(failure.clone());
                self.ctx.store.write_status(first, &status, Durability::Synced)
            }
            _ => Ok(()),
        }
    }
}

fn mixed_message(lane: &str, made: &[String], failed: &[String]) -> Message {
    let list = |names: &[String]| format!("`{}`", names.join("`, `"));
    let words = made.iter().map(|name| shell_word(name)).collect::<Vec<_>>().join(" ");
    let again = style::clean(&failed.join(" "));
    Message::new(format!(
        "lane `{lane}` is mixed: {} succeeded, {} failed, and nothing of it is merged",
        list(made),
        list(failed),
    ))
    .hint(format!("`planexe build` tries {again} again, and merges all of it once that succeeded"))
    .hint(format!("`planexe build {words}` merges what succeeded alone"))
}
