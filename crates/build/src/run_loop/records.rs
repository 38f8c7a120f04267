//! The records a build writes: begun with the first thing that is to be written, broken off when one cannot be.

use std::collections::HashSet;

use super::Build;
use super::git_commits::Recording;
use planexe_base::cancel::Level;
use planexe_base::event::Kind;
use planexe_base::fs::{FsError, OpenDir};
use planexe_base::record::SCHEMA;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::Event as Input;
use planexe_engine::staleness::Rules;
use planexe_store::{Asked, Store};

/// How far the records of a build are.
pub(super) struct Records<'a> {
    /// Something was written.
    begun: bool,
    /// What a build that does nothing must not do.
    prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
    /// What could not be written.
    broken: Option<FsError>,
    /// The run directory as it was found: no other that is put in its place is built.
    run_dir: Option<OpenDir>,
    /// The last build was killed: what it left is tidied up even if nothing is to be done.
    after_kill: bool,
    commits: Recording,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        store: &Store,
        after_kill: bool,
        prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
    ) -> Records<'a> {
        Records {
            begun: false,
            prepare,
            broken: None,
            run_dir: OpenDir::open(store.run_dir()).ok(),
            after_kill,
            commits: Recording::default(),
        }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(super) fn is_after_kill(&self) -> bool {
        self.after_kill
    }

    /// The first error counts: others follow from it.
    pub(super) fn keep_error(&mut self, error: FsError) {
        self.broken.get_or_insert(error);
    }

    pub(super) fn take_error(&mut self) -> Option<FsError> {
        self.broken.take()
    }

    pub(super) fn commits(&self) -> &Recording {
        &self.commits
    }

    pub(super) fn commits_mut(&mut self) -> &mut Recording {
        &mut self.commits
    }
}

impl Build<'_> {
    /// Once, before the first thing is written.
    pub(super) fn begin(&mut self) -> Result<(), FsError> {
        if !self.records.begun {
            self.records.begun = true;
            self.steering.clear_older();
            (self.records.prepare)()?;
            self.note_wishes()?;
            self.begin_recording();
            self.tick();
            self.tell(Kind::PipelineStarted {
                schema: SCHEMA,
                pipeline: self.project.name.clone(),
                run_id_dir: self.project.run.display().to_string(),
                steps_total: self.wanted_steps(),
            });
            self.tell_early();
        }
        Ok(())
    }

    /// Declared tasks in this build.
    fn wanted_steps(&self) -> u32 {
        let graph = self.engine.graph();
        graph.order().iter().filter(|&&id| self.engine.is_wanted(id)).count() as u32
    }

    /// Notes which tasks were asked for whatever the files say, until they are made: a build that ends before they had
    /// their turn leaves them to the next one.
    fn note_wishes(&mut self) -> Result<(), FsError> {
        let asked = match self.judging.rules() {
            Rules { force: true, .. } => Asked::Always,
            Rules { model_asked: true, .. } => Asked::Model,
            _ => return Ok(()),
        };
        let graph = self.engine.graph();
        let mut firsts: Vec<String> = Vec::new();
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            match graph[id].kind {
                NodeKind::Group => {}
                NodeKind::Single | NodeKind::Instance { .. } => {
                    firsts.extend(graph[id].outputs.first().cloned());
                }
                NodeKind::Family => firsts.extend(self.wished_items(id)?),
            }
        }
        self.ctx.store.ask_anew(firsts.iter().map(String::as_str), asked)?;
        // The null-build record says that all is up to date.
        self.ctx.index.forget_null_build()
    }

    /// The first outputs of a fan-out's items that are wanted. Its items may change yet: those that it has are meant.
    fn wished_items(&self, family: TaskId) -> Result<Vec<String>, FsError> {
        let (graph, finder) = (self.engine.graph(), self.judging.finder());
        let task = &graph[family];
        let keys = self.wanted.targets.iter().find(|(target, _)| *target == family);
        let keys = keys.and_then(|(_, keys)| keys.as_ref());
        let name = |key: &String| format!("{}[{key}]", task.name);
        let named: Option<HashSet<String>> = keys.map(|keys| keys.iter().map(name).collect());
        let is_meant = |first: &String| {
            named.as_ref().is_none_or(|named| {
                self.ctx.store.recorded_task(first).is_some_and(|name| named.contains(&name))
            })
        };
        Ok(finder.former_items(graph, task)?.into_iter().filter(is_meant).collect())
    }

    /// Whoever moves or removes the run directory leaves the build without what it has made: what it writes from then on
    /// lies elsewhere.
    pub(super) fn look_at_run_dir(&mut self) {
        let run = self.ctx.store.run_dir();
        if self.records.broken.is_none()
            && self.records.run_dir.as_ref().is_some_and(|dir| dir.is_at(run).is_ok_and(|there| !there))
        {
            let why = std::io::Error::other("it was moved or removed while it was being built");
            let error = FsError::new(run, "go on in", why);
            self.ctx.note(None, true, format!("{error}; nothing more is started"));
            self.break_off(error);
        }
    }

    /// Records cannot be written: nothing more is paid for.
    pub(super) fn break_off(&mut self, error: FsError) {
        self.records.keep_error(error);
        self.ctx.cancel.break_off();
        self.engine.on(Input::Cancel(Level::Draining), self.now());
    }
}
