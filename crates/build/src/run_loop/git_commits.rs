//! git as the record of the build: which tasks are committed, and when (see [`crate::git_recorder`]).

use super::Build;
use crate::git_recorder::{self as commits, Finished, Recorder};
use planexe_base::cancel::Level;
use planexe_engine::graph::{Task, TaskId};
use planexe_engine::scheduler::Resolution;
use planexe_pipeline::input_files as inputs;

/// What a build knows of its commits.
#[derive(Debug, Default)]
pub(super) struct Recording {
    recorder: Option<Recorder>,
    /// A build before this one left some to be made.
    were_due: bool,
}

impl Build<'_> {
    /// Before the first task.
    pub(super) fn begin_recording(&mut self) {
        if !self.project.tables.git.commit_on_done {
            return;
        }
        let were_due = self.records.is_after_kill() || commits::are_due(&self.ctx.store);
        if let Err(error) = commits::note_due(&self.ctx.store) {
            self.ctx.note(None, true, format!("commits that fail will not be made up for: {error}"));
        }
        let recorder = Some(Recorder::start(self.ctx.store.clone()));
        *self.records.commits_mut() = Recording { recorder, were_due };
    }

    /// A task is done.
    pub(super) fn record(&self, id: TaskId) {
        if let Some(recorder) = &self.records.commits().recorder {
            recorder.done(self.to_commit(&self.engine.graph()[id]));
        }
    }

    fn to_commit(&self, task: &Task) -> Finished {
        let title = self.project.spec(task).description.clone().unwrap_or_default();
        Finished { task: task.name.clone(), title, outputs: task.outputs.clone() }
    }

    /// At the end, when every `.DONE` is on disk: what is not committed yet, of this build and of one before it.
    pub(super) fn end_recording(&mut self) {
        if !self.project.tables.git.commit_on_done {
            return;
        }
        let recording = std::mem::take(self.records.commits_mut());
        let were_due =
            if self.records.is_begun() { recording.were_due } else { commits::are_due(&self.ctx.store) };
        if recording.recorder.is_none() && !were_due || self.ctx.cancel.level() == Level::Killing {
            return;
        }
        let left = match recording.recorder.map(Recorder::finish) {
            None => Vec::new(),
            Some(Some(left)) => left,
            Some(None) => {
                self.ctx.note(None, true, "git takes long: the next build commits what is left");
                return;
            }
        };
        let left = if were_due { self.all_done() } else { left };
        match commits::commit(&self.ctx.store, &left) {
            Ok(()) => drop(commits::none_due(&self.ctx.store)),
            Err(error) => {
                self.ctx.note(None, true, format!("not committed: {error}; the next build tries again"));
            }
        }
    }

    fn all_done(&self) -> Vec<Finished> {
        let graph = self.engine.graph();
        let done = |id: &TaskId| {
            matches!(self.engine.settled(*id), Some(Resolution::Fresh | Resolution::Done))
                && inputs::has_outputs(&graph[*id])
        };
        graph
            .order()
            .iter()
            .flat_map(|id| graph.instances(*id).iter().chain([id]))
            .copied()
            .filter(done)
            .map(|id| self.to_commit(&graph[id]))
            .collect()
    }
}
