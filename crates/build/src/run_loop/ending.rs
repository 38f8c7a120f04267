//! The end of a build: what it came to, and what its verdicts rested on.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::tally::Closing;
use super::{Build, Ended, Stopped};
use planexe_base::event::Kind;
use planexe_base::pattern;
use planexe_base::record::Marker;
use planexe_engine::graph::{Kind as NodeKind, Task, TaskId};
use planexe_engine::scheduler::Resolution;
use planexe_pipeline::project::Recipe;
use planexe_store::null_build::{self, BuildInputs, Contents, UpToDate};
use planexe_store::{Sidecar, Store};

/// At most so many tasks that were not reached are named.
const LEFT: usize = 100;

/// What the next build need not find out again.
#[derive(Default)]
struct ForNextBuild {
    inputs: Option<BuildInputs>,
    contents: Option<Contents>,
    record_is_outdated: bool,
}

impl Build<'_> {
    /// The end: what was not reached, the closing records.
    pub(super) fn finish(mut self) -> Ended {
        if self.records.is_begun() {
            self.look_at_run_dir();
        }
        self.drain_events();
        self.tell_early();
        if self.wanted.options.only {
            self.tell_readers();
        }
        let closing = self.closing();
        // What was left when a budget was used up turned out to be up to date.
        let limited = matches!(
            self.steering.stopped(),
            Some(Stopped::MaxTime | Stopped::MaxTokens | Stopped::MaxCost | Stopped::MaxCalls)
        );
        if limited && closing.unreached == 0 && self.tally.summary().stopped.is_empty() {
            self.steering.forget_stop();
        }
        self.tally.close(closing);
        self.close_records();
        self.drain_events();
        let fails = self.fails();
        if self.records.is_begun() {
            self.tell_end(fails);
        }
        self.note_fresh();
        let caches = self.caches_for_next_build();
        Ended {
            summary: self.tally.summary().clone(),
            stopped: self.steering.stopped(),
            broken: self.records.take_error().map(|error| error.within(self.ctx.store.run_dir())),
            started: self.records.is_begun(),
            failures: self.tally.take_failures(),
            inputs: caches.inputs,
            contents: caches.contents,
            record_is_outdated: caches.record_is_outdated,
            edited: self.tally.edited().to_vec(),
            fails,
            parked: self.parked_stop(),
            waiting: self.tally.take_waiting(),
            last_completed: self.tally.take_last_completed(),
        }
    }

    /// The figures that are known at the end.
    fn closing(&self) -> Closing {
        let graph = self.engine.graph();
        let is_pending = |id: &TaskId| {
            self.engine.is_wanted(*id)
                && self.engine.settled(*id).is_none()
                && !matches!(graph[*id].kind, NodeKind::Group)
        };
        let unreached: Vec<TaskId> = graph.ids().filter(is_pending).collect();
        let is_blocked =
            |id: &TaskId| self.engine.settled(*id) == Some(Resolution::Blocked) && self.counts(*id);
        let is_declared = |id: &&TaskId| !matches!(graph[**id].kind, NodeKind::Instance { .. });
        let names = unreached.iter().filter(is_declared).map(|&id| graph[id].name.clone());
        Closing {
            pending: unreached.iter().filter(|&&id| self.counts(id)).count() as u32,
            left: names.take(LEFT).collect(),
            unreached: unreached.len(),
            blocked: graph.ids().filter(is_blocked).count() as u32,
            duration_s: self.now().as_secs_f64(),
            usage: self.ctx.providers.spent(),
        }
    }

    /// What is waited for, if a usage limit stopped the build.
    fn parked_stop(&self) -> Option<String> {
        match self.steering.stopped() {
            Some(Stopped::UsageLimit) => self.parked_text(),
            Some(Stopped::Batch) => self.batched_text(),
            _ => None,
        }
    }

    /// Everything is on disk before anything says that the build is complete; the commits come last.
    fn close_records(&mut self) {
        let all = self.steering.stopped().is_none()
            && !self.records.is_broken()
            && self
                .engine
                .graph()
                .ids()
                .all(|id| matches!(self.engine.settled(id), Some(Resolution::Fresh | Resolution::Done)));
        if let Err(error) = self.ctx.pooled.close(&self.ctx, all, self.records.is_begun()) {
            self.records.keep_error(error);
        }
        if let Err(error) = self.ctx.logs.catch_up().and_then(|()| self.ctx.store.batch().end(all)) {
            self.records.keep_error(error);
        }
        if self.records.is_begun()
            && let Err(error) = self.ctx.store.forget_anew()
        {
            self.records.keep_error(error);
        }
        self.end_recording();
    }

    fn tell_end(&mut self, fails: bool) {
        let summary = self.tally.summary().clone();
        let kind = if let Some(stopped) = self.steering.stopped() {
            let message = self.parked_stop().unwrap_or_else(|| stopped.text().into());
            Kind::PipelineStopped { summary, message }
        } else if fails || self.records.is_broken() {
            Kind::PipelineFailed { summary }
        } else if !summary.waiting.is_empty() {
            Kind::PipelineStopped { summary, message: "a person is waited for".into() }
        } else {
            Kind::PipelineCompleted { summary }
        };
        self.tell(kind);
    }

    /// What the next build need not find out again, if everything is up to date now.
    fn caches_for_next_build(&mut self) -> ForNextBuild {
        let graph = self.engine.graph();
        let is_settled = |id| {
            matches!(
                self.engine.settled(id),
                Some(Resolution::Fresh | Resolution::Done | Resolution::Skipped)
            ) || !self.engine.is_wanted(id)
        };
        let whole = self.is_whole() && graph.ids().all(is_settled);
        if self.records.is_begun() && !whole {
            return ForNextBuild::default();
        }
        // With few changes the null-build record is renewed; what all rests on need not be gathered for that.
        let known = self.judging.caches().known();
        let record_is_outdated = known.is_some_and(|known| self.conditions_differ(known));
        let few = known.is_some() && self.records.is_begun() && !record_is_outdated;
        let inputs = if few { None } else { self.build_inputs() };
        let contents = few.then(|| self.judging.caches_mut().take_contents());
        ForNextBuild { inputs, contents, record_is_outdated }
    }

    /// Whether a task was skipped that the null-build record calls up to date, or the other way round: its files are then
    /// others than those the record lists. What reads it follows it, so only tasks with a condition are looked at.
    fn conditions_differ(&self, known: &UpToDate) -> bool {
        let graph = self.engine.graph();
        let (mut skipped, mut markers) = (Vec::new(), Vec::new());
        for id in graph.ids().filter(|&id| self.project.spec(&graph[id]).when.is_some()) {
            let task = &graph[id];
            match (self.engine.settled(id), task.outputs.first()) {
                (Some(Resolution::Skipped), _) => skipped.push(task.name.as_str()),
                (Some(Resolution::Fresh | Resolution::Done), Some(first))
                    if planexe_pipeline::input_files::has_outputs(task) =>
                {
                    markers.push(self.ctx.store.sidecar_path(first, Sidecar::Done));
                }
                _ => {}
            }
        }
        let in_run =
            |path: &PathBuf| path.strip_prefix(self.ctx.store.run_dir()).ok()?.to_str().map(str::to_owned);
        let markers: Vec<String> = markers.iter().filter_map(in_run).collect();
        !known.has_the_same_conditions(&skipped, &markers)
    }

    /// Whether a task is counted: items are, not the fan-out they belong to, nor what is only judged.
    pub(super) fn counts(&self, id: TaskId) -> bool {
        let graph = self.engine.graph();
        !matches!(graph[id].kind, NodeKind::Group) && graph.instances(id).is_empty()
    }

    /// Whether a build of the same tasks would have nothing to do and nothing to say, if all went well.
    fn is_whole(&self) -> bool {
        self.tally.is_plain()
            && self.wanted.targets.iter().all(|(_, keys)| keys.is_none())
            && !self.wanted.options.only
    }

    /// Whether a failure counts: one that `min_success` absorbs does not, unless a task cannot be made for it.
    pub(super) fn fails(&self) -> bool {
        let graph = self.engine.graph();
        graph.ids().any(|id| match (self.engine.settled(id), graph[id].kind) {
            (Some(Resolution::Failed), NodeKind::Instance { family }) => {
                self.engine.settled(family) != Some(Resolution::Partial)
            }
            (Some(Resolution::Blocked), NodeKind::Instance { .. }) => false,
            (Some(Resolution::Failed | Resolution::Blocked), _) => true,
            _ => false,
        })
    }

    /// Everything it rests on that everything is up to date.
    fn build_inputs(&mut self) -> Option<BuildInputs> {
        // Under make's rule a time alone makes stale: no record of contents can stand for that.
        if self.judging.rules().by_mtime {
            return None;
        }
        let plain = self.is_whole();
        let graph = self.engine.graph();
        let mut inputs =
            BuildInputs { contents: self.judging.caches_mut().take_contents(), ..BuildInputs::default() };
        let project = self.project;
        let in_run = |path| Path::strip_prefix(path, &project.run).unwrap_or(path);
        for (path, digest) in &project.sources {
            let path = in_run(path);
            inputs.files.push(path.to_owned());
            if let Some(digest) = digest {
                inputs.contents.note(path.to_str()?, digest);
            }
        }
        for name in ["run.toml", "pipeline.toml"] {
            if self.ctx.store.path(name).is_file() {
                inputs.files.push(name.into());
            } else {
                inputs.absent.push(name.into());
            }
        }
        inputs.sources = inputs.files.len();
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            let task = &graph[id];
            let spec = self.project.spec(task);
            let settled = self.engine.settled(id);
            let done = matches!(settled, Some(Resolution::Fresh | Resolution::Done));
            let mut rested = Rested { store: &self.ctx.store, inputs: &mut inputs, own: Some(Vec::new()) };
            if let Some(file) = spec.foreach.as_ref().and_then(|foreach| foreach.file.as_ref()) {
                // Of a fan-out that is skipped, what would have made it may be skipped too.
                rested.add(file, !done);
            }
            if let (NodeKind::Family, Some(glob)) =
                (task.kind, spec.foreach.as_ref().and_then(|f| f.glob.as_ref()))
            {
                // Each is an item, whether or not an instance reads it too.
                for path in self.judging.finder().glob(glob).ok()? {
                    rested.add(&path, false);
                }
            }
            if !planexe_pipeline::input_files::has_outputs(task) || !done {
                // A task that is skipped has inputs that say so; it may have no outputs. Those of a fan-out are its
                // items'.
                if settled != Some(Resolution::Skipped) || task.kind == NodeKind::Family {
                    continue;
                }
            } else {
                let first = task.outputs.first()?;
                let marker = self.ctx.store.sidecar_path(first, Sidecar::Done);
                rested.inputs.markers.push(rested.inputs.files.len() as u32);
                rested.add(marker.strip_prefix(self.ctx.store.run_dir()).ok()?.to_str()?, false);
                for output in &task.outputs {
                    rested.add(output, false);
                }
            }
            if done && !self.is_given_the_same(id) || !done && self.records.is_begun() && may_miss(task) {
                return None;
            }
            let mut globs = false;
            for files in self.judging.finder().resolve(graph, task).ok()? {
                globs |= files.glob;
                for path in &files.paths {
                    // What is read by a task that is skipped may be of one that is skipped too.
                    rested.add(path, files.optional || !done);
                }
            }
            if plain
                && done
                && !globs
                && matches!(task.kind, NodeKind::Single)
                && let Some(own) = rested.own
            {
                inputs.tasks.push((task.name.clone(), own));
            }
        }
        inputs.there = self.unread();
        for spec in &self.project.specs {
            if let Recipe::Command(command) = &spec.recipe {
                for name in &command.env_names {
                    let value = self.judging.variable(name);
                    inputs.env.push((name.clone(), null_build::digest_of_variable(value.as_deref())));
                }
            }
        }
        inputs.dirs = self.judging.finder().listed().into_iter().map(Into::into).collect();
        let globs = !inputs.dirs.is_empty();
        inputs.dirs.extend(project.listed.iter().map(|path| in_run(path).to_owned()));
        // What matched when a task was judged may have come since, or gone.
        let listed =
            |spec: &planexe_pipeline::project::Spec| spec.foreach.as_ref().is_some_and(|f| f.glob.is_some());
        if self.records.is_begun() && (globs || self.project.specs.iter().any(listed)) {
            return None;
        }
        Some(inputs)
    }

    /// Whether what a task that is done would be given is what it was given, by name: files that a glob matched, or that
    /// may be absent, can have gone since it was judged, and leave nothing that could be looked at.
    fn is_given_the_same(&self, id: TaskId) -> bool {
        let (graph, store) = (self.engine.graph(), &self.ctx.store);
        let task = &graph[id];
        if !task.inputs.iter().any(|input| input.glob) && !may_miss(task) {
            return true;
        }
        let first = task.outputs.first().map_or("", String::as_str);
        let (Marker::Valid(done), Ok(now)) =
            (store.read_done(first), self.judging.finder().resolve(graph, task))
        else {
            return false;
        };
        let given: HashSet<&str> = done.inputs.iter().map(|input| input.path.as_str()).collect();
        let is_there = |path: &str| store.path(path).exists();
        let mut now = now.iter().flat_map(|files| &files.paths).map(String::as_str);
        given.iter().all(|path| is_there(path)) && now.all(|path| given.contains(path) || !is_there(path))
    }

    /// Files of the user's that only tasks read that are not made now. Without one of them the pipeline has a fault.
    fn unread(&self) -> Vec<PathBuf> {
        let (graph, declared) = (self.engine.graph(), &self.project.graph);
        let is_made = |id: TaskId| {
            self.engine.is_wanted(id)
                && (graph[id].kind != NodeKind::Family || !graph.instances(id).is_empty())
        };
        let mut unread = BTreeSet::new();
        for id in declared.ids().filter(|&id| !is_made(id)) {
            let named = declared[id].inputs.iter().filter(|input| !input.glob && !input.optional);
            let list =
                self.project.spec(&declared[id]).foreach.as_ref().and_then(|foreach| foreach.file.as_ref());
            for path in named.map(|input| &input.pattern).chain(list) {
                if !pattern::has_key(path) && !declared.is_produced(path) {
                    unread.insert(PathBuf::from(path));
                }
            }
        }
        unread.into_iter().collect()
    }

    /// Remembers what fresh verdicts rested on, so that the next build need not read.
    pub(super) fn note_fresh(&mut self) {
        let judge = self.judge_with();
        let graph = self.engine.graph();
        let fresh: Vec<TaskId> = graph
            .ids()
            .filter(|&id| {
                matches!(self.engine.settled(id), Some(Resolution::Fresh))
                    && planexe_pipeline::input_files::has_outputs(&graph[id])
                    && !self.judging.caches().was_up_to_date(&graph[id].name)
            })
            .collect();
        let edited: HashSet<&String> = self.tally.edited().iter().collect();
        let sample: HashSet<&String> = self.tally.summary().sample.iter().collect();
        for id in fresh {
            let name = &graph[id].name;
            let is_edited = graph[id].outputs.iter().any(|output| edited.contains(output));
            let unknown = self.ctx.index.stamp(name).is_none();
            if unknown && !is_edited && !sample.contains(name) && self.is_given_the_same(id) {
                self.ctx.index.set_stamp(name, judge.stamp(graph, id, self.judging.caches().began_ns()));
            }
        }
    }
}

/// Whether a file a task reads may be absent.
fn may_miss(task: &Task) -> bool {
    task.inputs.iter().any(|input| input.optional)
}

/// Gathers the files verdicts rested on.
struct Rested<'a> {
    store: &'a Store,
    inputs: &'a mut BuildInputs,
    /// Those of one task, by position; none if it rests on more than contents.
    own: Option<Vec<u32>>,
}

impl Rested<'_> {
    fn add(&mut self, path: &str, optional: bool) {
        if optional && !self.store.path(path).exists() {
            self.inputs.absent.push(path.into());
            self.own = None;
            return;
        }
        if let Some(own) = &mut self.own {
            own.push(self.inputs.files.len() as u32);
        }
        self.inputs.files.push(path.into());
    }
}
