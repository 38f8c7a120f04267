//! What a build came to so far: its figures, its failures, and what people are asked. Knows no engine and no files.

use super::{Completion, Failed};
use crate::runner::Completed;
use planexe_base::call::Usage;
use planexe_base::event::Summary;
use planexe_base::message::Message;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::Resolution;

/// What a build came to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    summary: Summary,
    /// In the order they happened.
    failures: Vec<Failed>,
    /// Tasks whose outputs are others than before.
    changed: Vec<TaskId>,
    /// Outputs edited by hand that were found valid and kept.
    edited: Vec<String>,
    /// Tasks that wait for a person, and what they are asked.
    waiting: Vec<(String, Message)>,
    last_completed: Option<Completion>,
}

/// Figures that are known at the end.
pub(super) struct Closing {
    /// Tasks not reached.
    pub(super) pending: u32,
    /// The names of some of them.
    pub(super) left: Vec<String>,
    /// Tasks not settled, with those that are not counted.
    pub(super) unreached: usize,
    pub(super) blocked: u32,
    pub(super) duration_s: f64,
    pub(super) usage: Usage,
}

impl Tally {
    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Tasks that need nothing more.
    pub(super) fn finished(&self) -> u32 {
        self.summary.ran + self.summary.fresh + self.summary.skipped
    }

    /// An attempt ended with its task done.
    pub(super) fn completed(&mut self, id: TaskId, how: &Completed, completion: Completion) {
        let (summary, name) = (&mut self.summary, &completion.task);
        summary.ran += 1;
        summary.reused += u32::from(how.reused);
        let lists = [
            (how.sample, &mut summary.sample),
            (how.warned, &mut summary.warned),
            (how.rescued, &mut summary.rescued),
        ];
        for (_, list) in lists.into_iter().filter(|(belongs, _)| *belongs) {
            list.push(name.clone());
        }
        if how.changed {
            self.changed.push(id);
        }
        self.last_completed = Some(completion);
    }

    pub(super) fn failed(&mut self, failed: Failed) {
        self.summary.failed.push(failed.task.clone());
        self.failures.push(failed);
    }

    /// An attempt was ended by a stop.
    pub(super) fn stopped(&mut self, task: String) {
        self.summary.stopped.push(task);
    }

    /// A person is asked something before the task goes on.
    pub(super) fn waits(&mut self, task: String, message: Message) {
        self.summary.waiting.push(task.clone());
        self.waiting.push((task, message));
    }

    /// A person answered.
    pub(super) fn waits_no_more(&mut self, task: &str) {
        self.summary.waiting.retain(|waiting| waiting != task);
        self.waiting.retain(|(waiting, _)| waiting != task);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A task came to its end without an attempt of its own.
    pub(super) fn settled(&mut self, task: &str, settled: Resolution, kind: NodeKind) {
        match (settled, kind) {
            (Resolution::Fresh, NodeKind::Single | NodeKind::Instance { .. }) => self.summary.fresh += 1,
            (Resolution::Skipped, _) => self.summary.skipped += 1,
            (Resolution::Partial, NodeKind::Family) => self.summary.partial.push(task.to_owned()),
            _ => {}
        }
    }

    /// A task that had come to its end is open again: that end counts for nothing.
    pub(super) fn take_back(&mut self, task: &str, settled: Resolution, kind: NodeKind) {
        let summary = &mut self.summary;
        let one = |count: &mut u32| *count = count.saturating_sub(1);
        match (settled, kind) {
            (Resolution::Fresh, NodeKind::Single | NodeKind::Instance { .. }) => one(&mut summary.fresh),
            (Resolution::Done, NodeKind::Single | NodeKind::Instance { .. }) => one(&mut summary.ran),
            (Resolution::Skipped, _) => one(&mut summary.skipped),
            _ => {}
        }
        for names in [&mut summary.failed, &mut summary.partial, &mut summary.stopped] {
            names.retain(|other| other != task);
        }
        self.failures.retain(|failed| failed.task != task);
        self.waits_no_more(task);
    }

    /// An output edited by hand is valid, and kept.
    pub(super) fn keeps_edited(&mut self, output: String) {
        self.edited.push(output);
    }

    pub(super) fn edited(&self) -> &[String] {
        &self.edited
    }

    /// A task is up to date with an answer that was recorded for another prompt.
    pub(super) fn has_sample(&mut self, task: String) {
        self.summary.sample.push(task);
    }

    pub(super) fn changed(&self) -> &[TaskId] {
        &self.changed
    }

    /// Whether a build of the same tasks would have nothing to say.
    pub(super) fn is_plain(&self) -> bool {
        let summary = &self.summary;
        self.edited.is_empty()
            && summary.sample.is_empty()
            && summary.partial.is_empty()
            && summary.waiting.is_empty()
    }

    pub(super) fn close(&mut self, closing: Closing) {
        let summary = &mut self.summary;
        summary.pending = closing.pending;
        summary.left = closing.left;
        summary.blocked = closing.blocked;
        summary.duration_s = closing.duration_s;
        summary.usage = closing.usage;
        // A task that was tried anew may be named twice.
        summary.sample.sort();
        summary.sample.dedup();
    }

    pub(super) fn take_failures(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.failures)
    }

    pub(super) fn take_waiting(&mut self) -> Vec<(String, Message)> {
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn take_last_completed(&mut self) -> Option<Completion> {
        self.last_completed.take()
    }
}

#[cfg(test)]
mod tests {
    use planexe_base::record::Failure;

    use super::*;

    fn failed(task: &str) -> Failed {
        Failed { task: task.to_owned(), failure: Failure::default(), blocks: Vec::new() }
    }

    #[test]
    fn an_end_that_is_taken_back_counts_for_nothing() {
        let mut tally = Tally::default();
        tally.settled("a", Resolution::Fresh, NodeKind::Single);
        tally.settled("b", Resolution::Skipped, NodeKind::Single);
        tally.settled("c", Resolution::Partial, NodeKind::Family);
        tally.failed(failed("d"));
        tally.waits("e".into(), "look at it".into());
        assert_eq!(tally.finished(), 2);
        assert!(tally.is_waiting() && !tally.is_plain());
        tally.take_back("a", Resolution::Fresh, NodeKind::Single);
        tally.take_back("b", Resolution::Skipped, NodeKind::Single);
        tally.take_back("c", Resolution::Partial, NodeKind::Family);
        tally.take_back("d", Resolution::Failed, NodeKind::Single);
        tally.take_back("e", Resolution::Waiting, NodeKind::Single);
        assert_eq!(tally.summary(), &Summary::default());
        assert!(tally.take_failures().is_empty() && tally.is_plain());
    }

    #[test]
    fn a_fan_out_is_not_counted_beside_its_items() {
        let mut tally = Tally::default();
        tally.settled("all", Resolution::Fresh, NodeKind::Family);
        tally.settled("group", Resolution::Fresh, NodeKind::Group);
        assert_eq!(tally.finished(), 0);
    }
}
