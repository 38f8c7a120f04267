//! The end of a build: what it came to, and what its verdicts rested on.

use super::{Build, Ended};
use crate::engine::Settled;
use crate::event::Kind;
use crate::graph::{Kind as NodeKind, TaskId};
use crate::memo::{self, RestsOn};
use crate::project::Recipe;

/// At most so many tasks that were not reached are named.
const LEFT: usize = 100;

impl Build<'_> {
    /// The end: what was not reached, the closing records.
    pub(super) fn finish(mut self) -> Ended {
        self.drain_events();
        if self.wanted.options.only {
            self.tell_readers();
        }
        let graph = self.engine.graph();
        let pending: Vec<TaskId> = graph
            .ids()
            .filter(|&id| {
                self.engine.is_wanted(id)
                    && self.engine.settled(id).is_none()
                    && !matches!(graph[id].kind, NodeKind::Group)
            })
            .collect();
        self.summary.pending = pending.len() as u32;
        let declared = |id: &&TaskId| !matches!(graph[**id].kind, NodeKind::Instance { .. });
        let names = pending.iter().filter(declared).map(|&id| graph[id].name.clone());
        self.summary.left = names.take(LEFT).collect();
        self.summary.duration_s = self.now().as_secs_f64();
        let all = self.stopped.is_none()
            && self.broken.is_none()
            && graph.ids().all(|id| matches!(self.engine.settled(id), Some(Settled::Fresh | Settled::Done)));
        // Before anything says that the build is complete.
        if let Err(error) = self.store.batch().end(all) {
            self.broken.get_or_insert(error);
        }
        self.summary.sample.sort();
        self.summary.sample.dedup();
        let ended = Ended {
            summary: self.summary.clone(),
            stopped: self.stopped,
            broken: None,
            started: self.begun,
            failures: std::mem::take(&mut self.failures),
            rests_on: if self.begun { None } else { self.rests_on() },
            edited: self.edited.clone(),
            fails: self.fails(),
            waiting: std::mem::take(&mut self.waiting),
            last_completed: self.last_completed.take(),
        };
        if self.begun {
            let kind = if let Some(stopped) = self.stopped {
                Kind::PipelineStopped { summary: ended.summary.clone(), message: stopped.text().into() }
            } else if ended.fails || self.broken.is_some() {
                Kind::PipelineFailed { summary: ended.summary.clone() }
            } else if !ended.summary.waiting.is_empty() {
                Kind::PipelineStopped {
                    summary: ended.summary.clone(),
                    message: "a person is waited for".into(),
                }
            } else {
                Kind::PipelineCompleted { summary: ended.summary.clone() }
            };
            self.tell(kind);
        }
        self.note_fresh();
        Ended { broken: self.broken, ..ended }
    }

    /// Whether a failure counts: one that `min_success` absorbs does not.
    pub(super) fn fails(&self) -> bool {
        let graph = self.engine.graph();
        graph.ids().any(|id| {
            let absorbed = matches!(graph[id].kind, NodeKind::Instance { family }
                if self.engine.settled(family) == Some(Settled::Partial));
            self.engine.settled(id) == Some(Settled::Failed) && !absorbed
        })
    }

    /// Everything the verdict of a build that had nothing to do rested on.
    pub(super) fn rests_on(&self) -> Option<RestsOn> {
        // Under make's rule a time alone makes stale: no memo of contents can stand for that.
        if self.judge_rules.by_mtime {
            return None;
        }
        let graph = self.engine.graph();
        let mut rests = RestsOn { files: self.project.sources.clone(), ..RestsOn::default() };
        for name in ["run.toml", "pipeline.toml"] {
            let list = if self.store.path(name).is_file() { &mut rests.files } else { &mut rests.absent };
            list.push(name.into());
        }
        let mut add = |path: &str, optional: bool| {
            let absent = optional && !self.store.path(path).exists();
            if absent { rests.absent.push(path.into()) } else { rests.files.push(path.into()) }
        };
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            let task = &graph[id];
            let spec = self.project.spec(task);
            if let Some(file) = spec.foreach.as_ref().and_then(|foreach| foreach.file.as_ref()) {
                add(file, false);
            }
            if !crate::inputs::has_outputs(task) || self.engine.settled(id) != Some(Settled::Fresh) {
                // A task that is skipped has inputs that say so; it may have no outputs.
                if self.engine.settled(id) != Some(Settled::Skipped) || spec.foreach.is_some() {
                    continue;
                }
            } else {
                let first = task.outputs.first()?;
                let marker = self.store.sidecar_path(first, crate::store::Sidecar::Done);
                add(marker.strip_prefix(self.store.run_dir()).ok()?.to_str()?, false);
                for output in &task.outputs {
                    add(output, false);
                }
            }
            for files in self.finder.resolve(graph, task).ok()? {
                for path in &files.paths {
                    add(path, files.optional);
                }
            }
        }
        for spec in &self.project.specs {
            if let Recipe::Command(command) = &spec.recipe {
                for name in &command.env_names {
                    let value = (self.env)(name);
                    rests.env.push((name.clone(), memo::digest_of_variable(value.as_deref())));
                }
            }
        }
        rests.dirs = self.finder.listed().into_iter().map(Into::into).collect();
        if !self.project.tables.pipeline.include.is_empty() {
            let folders = self.project.sources.iter().filter_map(|file| file.parent());
            rests.dirs.extend(folders.map(std::path::Path::to_path_buf));
        }
        Some(rests)
    }

    /// Remembers what fresh verdicts rested on, so that the next build need not read.
    pub(super) fn note_fresh(&mut self) {
        let judge = self.judge_with();
        let graph = self.engine.graph();
        let fresh: Vec<TaskId> = graph
            .ids()
            .filter(|&id| {
                matches!(self.engine.settled(id), Some(Settled::Fresh))
                    && crate::inputs::has_outputs(&graph[id])
            })
            .collect();
        for id in fresh {
            let name = &graph[id].name;
            let edited = self.edited.iter().any(|path| graph[id].outputs.contains(path));
            if self.tools.index.stamp(name).is_none() && !edited && !self.summary.sample.contains(name) {
                self.tools.index.set_stamp(name, judge.stamp(graph, id, self.began_ns));
            }
        }
    }
}
