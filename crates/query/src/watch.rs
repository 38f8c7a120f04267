//! What `planexe watch` looks at: the files a build is made from, what became of them, and when a burst of
//! changes counts as one. Knows no build.
//!
//! Bells of the file system only say when to look. What changed is found by comparing contents, so that a
//! save by renaming, a touch or a lost bell makes no difference, and nothing planexe writes is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use planexe_base::fs::{self, Signature};
use planexe_base::pattern;
use planexe_base::record::Digest;
use planexe_build::run_loop::Edits;
use planexe_engine::graph::Graph;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::manifest::paths::substitute_vars;
use planexe_pipeline::manifest::types::{By, Task};
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Project;
use planexe_pipeline::texts::is_inline;
use planexe_store::Store;

/// Quiet for so long, and a burst of changes is over.
const QUIET: Duration = Duration::from_millis(120);
/// A burst that never ends counts after so long.
const MOST: Duration = Duration::from_secs(1);
/// Without bells the files are looked at so often.
const POLL: Duration = Duration::from_millis(300);
/// With bells, in case one was lost.
const SWEEP: Duration = Duration::from_secs(2);
/// How often it is asked whether to stop.
const ASK: Duration = Duration::from_millis(50);

/// Makes one of a burst of changes: a state machine of moments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Debounce {
    burst: Option<(Instant, Instant)>,
}

impl Debounce {
    /// Something changed.
    pub fn event(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |(first, _)| first);
        self.burst = Some((first, now));
    }

    /// When the burst is over; none if there is none.
    pub fn due(&self) -> Option<Instant> {
        self.burst.map(|(first, last)| (last + QUIET).min(first + MOST))
    }

    /// Whether the burst is over. If so it is forgotten.
    pub fn take(&mut self, now: Instant) -> bool {
        let over = self.due().is_some_and(|due| now >= due);
        if over {
            self.burst = None;
        }
        over
    }
}

/// What a file is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Role {
    /// It is part of the pipeline itself.
    pipeline: bool,
    /// Declarations of tasks whose text it is.
    decls: BTreeSet<usize>,
    /// It is an input, by its name in the run.
    input: Option<String>,
}

/// Files named by a pattern.
#[derive(Debug)]
struct Pattern {
    store: Store,
    glob: String,
    /// Inputs, or parts of the pipeline.
    input: bool,
}

/// What changed since it was last looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What that means for a build.
    pub edits: Edits,
    /// The files, for people.
    pub files: BTreeSet<String>,
    /// One of them is named somewhere, and no mere match of a pattern.
    pub named: bool,
}

impl Changes {
    /// Whether nothing did.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds later ones.
    pub fn add(&mut self, later: Changes) {
        self.edits.inputs.extend(later.edits.inputs);
        self.edits.decls.extend(later.edits.decls);
        self.edits.reload |= later.edits.reload;
        self.files.extend(later.files);
        self.named |= later.named;
    }
}

/// The files a build is made from.
#[derive(Debug)]
pub struct Watched {
    run: PathBuf,
    graph: Graph,
    files: BTreeMap<PathBuf, Role>,
    patterns: Vec<Pattern>,
    by_mtime: bool,
    seen: BTreeMap<PathBuf, (Signature, Digest)>,
}

impl Watched {
    /// Of a run and its pipeline.
    pub fn new(opened: &Opened) -> Watched {
        let project = &opened.project;
        let mut watched = Watched {
            run: project.run.clone(),
            graph: project.graph.clone(),
            files: BTreeMap::new(),
            patterns: Vec::new(),
            by_mtime: project.tables.staleness.by == By::Mtime,
            seen: BTreeMap::new(),
        };
        watched.role(project.file.clone()).pipeline = true;
        watched.role(project.run.join("run.toml")).pipeline = true;
        for glob in &project.tables.pipeline.include {
            let store = Store::open(&project.folder);
            watched.patterns.push(Pattern { store, glob: pattern::normalize(glob), input: false });
        }
        for model in project.tables.models.values() {
            if let Some(file) = &model.file {
                watched.role(project.folder.join(file)).pipeline = true;
            }
        }
        watched.texts(project);
        watched.inputs(project);
        watched.look();
        watched
    }

    /// Of a pipeline that cannot be read: everything that may be part of it, and what was looked at before.
    pub fn of_faulty(run: &Path, pipeline: &Path, before: Option<Watched>) -> Watched {
        let folder = pipeline.parent().unwrap_or(run).to_owned();
        let before = before.map(|before| before.files).unwrap_or_default();
        let mut watched = Watched {
            run: run.to_owned(),
            graph: Graph::default(),
            files: before,
            patterns: Vec::new(),
            by_mtime: false,
            seen: BTreeMap::new(),
        };
        watched.role(pipeline.to_owned()).pipeline = true;
        watched.role(run.join("run.toml")).pipeline = true;
        let mut roots = vec![run.to_owned()];
        if !folder.starts_with(run) {
            roots.push(folder);
        }
        for root in roots {
            let store = Store::open(root);
            watched.patterns.push(Pattern { store, glob: "**".into(), input: false });
        }
        watched.look();
        watched
    }

    fn role(&mut self, path: PathBuf) -> &mut Role {
        self.files.entry(path).or_default()
    }

    /// Prompts, templates, schemas and lists of words.
    fn texts(&mut self, project: &Project) {
        let tables = &project.tables;
        for (decl, spec) in project.specs.iter().enumerate() {
            let Some(task) = tables.task.get(&spec.name) else { continue };
            let mut written = texts_of(task);
            written.extend(tables.defaults.system.as_deref());
            for text in written.into_iter().filter(|text| !is_inline(text)) {
                self.role(project.folder.join(text)).decls.insert(decl);
            }
            for (_, _, list) in task.check.iter().flat_map(|check| check.word_files()) {
                if let Ok(list) = substitute_vars(list, &tables.vars) {
                    self.role(project.folder.join(&*list)).decls.insert(decl);
                }
            }
        }
    }

    /// Files that tasks read and no task writes.
    fn inputs(&mut self, project: &Project) {
        let graph = &project.graph;
        let lists = project.specs.iter().filter_map(|spec| spec.foreach.as_ref());
        let lists: Vec<(String, bool)> = lists
            .flat_map(|list| {
                [list.file.clone().map(|file| (file, false)), list.glob.clone().map(|glob| (glob, true))]
            })
            .flatten()
            .collect();
        let named = graph.ids().flat_map(|id| graph[id].inputs.iter());
        let named = named.map(|input| (input.pattern.clone(), input.glob)).chain(lists);
        let mut globs = BTreeSet::new();
        for (path, glob) in named {
            if glob || pattern::has_key(&path) {
                globs.insert(pattern::fill_key(&path, "*"));
            } else if !self.graph.is_produced(&path) {
                let file = project.run.join(&path);
                self.role(file).input = Some(path);
            }
        }
        for glob in globs {
            self.patterns.push(Pattern { store: Store::open(&project.run), glob, input: true });
        }
    }

    /// Every file there is to look at now.
    fn all(&self) -> BTreeMap<PathBuf, Role> {
        let mut all = self.files.clone();
        for pattern in &self.patterns {
            for path in Finder::new(&pattern.store).glob(&pattern.glob).unwrap_or_default() {
                let is_log = !path.contains('/') && LOGS.contains(&path.as_str());
                if self.graph.is_produced(&path) || is_log {
                    continue;
                }
                let role = all.entry(pattern.store.path(&path)).or_default();
                match pattern.input {
                    true => role.input = Some(path),
                    false => role.pipeline = true,
                }
            }
        }
        all
    }

    /// What changed since the last look.
    pub fn look(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut seen = BTreeMap::new();
        let mut all = self.all();
        // What matched a pattern and is gone.
        for path in self.seen.keys() {
            if !all.contains_key(path) {
                let input = path.strip_prefix(&self.run).ok().map(|path| path.to_string_lossy().into_owned());
                all.insert(path.clone(), Role { input, ..Role::default() });
            }
        }
        for (path, role) in all {
            let before = self.seen.get(&path);
            let now = fs::linked::signature(&path).ok().flatten().and_then(|signature| match before {
                Some((known, digest)) if *known == signature => Some((signature, digest.clone())),
                _ => Some((signature, fs::linked::hash_file(&path).ok()?.0)),
            });
            let same = match (before, &now) {
                (None, None) => true,
                (Some((old, digest)), Some((new, now))) => {
                    digest == now && (!self.by_mtime || old.mtime_ns == new.mtime_ns)
                }
                _ => false,
            };
            if !same {
                let shown = path.strip_prefix(&self.run).unwrap_or(&path);
                changes.files.insert(shown.to_string_lossy().into_owned());
                changes.named |= self.files.contains_key(&path);
                changes.edits.reload |= role.pipeline || !role.decls.is_empty();
                changes.edits.decls.extend(role.decls);
                changes.edits.inputs.extend(role.input);
            }
            if let Some(now) = now {
                seen.insert(path, now);
            }
        }
        self.seen = seen;
        changes
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Whether a bell for a path is worth a look.
    fn concerns(&self, path: &Path) -> bool {
        self.files.contains_key(path)
            || self.seen.contains_key(path)
            || self.patterns.iter().any(|pattern| {
                let Ok(inner) = path.strip_prefix(pattern.store.run_dir()) else { return false };
                let inner = inner.to_string_lossy();
                !inner.starts_with(".planexe")
                    && !planexe_pipeline::input_files::is_sidecar(&inner)
                    && !self.graph.is_produced(&inner)
                    && pattern::could_match(&pattern.glob, &inner)
            })
    }

    /// Folders to listen to; what comes in folders below is found when all is looked at again.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for path in self.files.keys().chain(self.seen.keys()) {
            if let Some(folder) = path.parent().filter(|folder| folder.is_dir()) {
                folders.insert(folder.to_owned());
            }
        }
        for pattern in &self.patterns {
            let wild = pattern.glob.find(['*', '?', '[', '{']).unwrap_or(pattern.glob.len());
            let folder = pattern.glob[..wild].rfind('/').map_or("", |slash| &pattern.glob[..slash]);
            let path = pattern.store.path(folder);
            if path.is_dir() {
                folders.insert(path);
            }
        }
        folders
    }
}

/// Logs a build writes into the run directory.
const LOGS: [&str; 4] = ["events.jsonl", "failures.jsonl", "usage_metrics.jsonl", "activity_overview.json"];

/// The texts a task names, but for lists of words.
fn texts_of(task: &Task) -> Vec<&str> {
    let mut texts: Vec<&str> = Vec::new();
    texts.extend(task.system.as_deref());
    texts.extend(task.prompt.as_deref());
    texts.extend(task.template.as_deref());
    texts.extend(task.schema.as_deref());
    texts.extend(task.outputs.iter().filter_map(|output| output.template()));
    if let Some(eval) = &task.eval {
        texts.extend([&eval.system, &eval.prompt].into_iter().filter_map(|text| text.as_deref()));
    }
    texts
}

/// Listens for bells of the file system.
pub struct Eyes {
    watcher: Option<RecommendedWatcher>,
    bells: Receiver<Vec<PathBuf>>,
    /// So that to wait for bells takes time even if nothing can ring.
    _keep: Sender<Vec<PathBuf>>,
    folders: BTreeSet<PathBuf>,
    /// Why there are no bells, if there are none.
    pub polling: Option<String>,
}

impl Eyes {
    /// With bells unless `poll` says otherwise, or there are none to be had.
    pub fn new(poll: bool) -> Eyes {
        let (send, bells) = channel();
        let keep = send.clone();
        let bell = move |event: notify::Result<notify::Event>| {
            if let Ok(event) = event
                && !event.kind.is_access()
            {
                let _ = send.send(event.paths);
            }
        };
        let (watcher, polling) = match poll {
            true => (None, Some("asked to".to_owned())),
            false => match notify::recommended_watcher(bell) {
                Ok(watcher) => (Some(watcher), None),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        Eyes { watcher, bells, _keep: keep, folders: BTreeSet::new(), polling }
    }

    /// Listens where these files are. What cannot be listened to is polled.
    pub fn follow(&mut self, watched: &Watched) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = watched.folders();
        for folder in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(folder);
        }
        for folder in wanted.difference(&self.folders) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                self.polling = Some(error.to_string());
            }
        }
        self.folders = wanted;
    }

    /// Waits for changes, a burst as one; none if `stop` says so first.
    pub fn wait(&mut self, watched: &mut Watched, stop: &dyn Fn() -> bool) -> Option<Changes> {
        let mut debounce = Debounce::default();
        let mut found = Changes::default();
        let every = if self.polling.is_some() { POLL } else { SWEEP };
        let mut sweep = Instant::now() + every;
        loop {
            if stop() {
                return (!found.is_empty()).then_some(found);
            }
            let now = Instant::now();
            if debounce.take(now) {
                found.add(watched.look());
                if !found.is_empty() {
                    return Some(found);
                }
            } else if now >= sweep {
                sweep = now + every;
                let changes = watched.look();
                if !changes.is_empty() {
                    found.add(changes);
                    debounce.event(now);
                }
            }
            let next = debounce.due().map_or(sweep, |due| due.min(sweep));
            let pause = next.saturating_duration_since(Instant::now()).min(ASK);
            if let Ok(paths) = self.bells.recv_timeout(pause)
                && paths.iter().any(|path| watched.concerns(path))
            {
                debounce.event(Instant::now());
            }
        }
    }
}

/// Everything a pipeline runs as a program of its own: commands of tasks and evaluators, hooks, models that are programs.
pub fn programs(project: &Project) -> BTreeSet<String> {
    let hooks = &project.tables.hooks;
    let argvs = [&hooks.on_started, &hooks.on_completed, &hooks.on_failed, &hooks.on_finished].into_iter();
    let argvs = argvs.chain(project.tables.models.values().map(|model| &model.command));
    let argvs = argvs.filter(|argv| !argv.is_empty()).map(|argv| argv.join(" "));
    let commands = project.specs.iter().flat_map(|spec| spec.commands());
    let lines = commands.map(|command| command.line.words().join(" "));
    argvs.chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_changes_counts_once() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Moments of changes, and moments at which a burst is over, looked at every 10 ms.
        for (events, wanted) in [
            (vec![], vec![]),
            (vec![0], vec![120]),
            // A save by renaming: written beside, removed, renamed, its mode set.
            (vec![0, 1, 2, 30], vec![150]),
            (vec![0, 500], vec![120, 620]),
            (vec![0, 110, 220, 330], vec![450]),
            // One that never rests.
            ((0..20).map(|n| n * 100).collect(), vec![1000, 2020]),
        ] {
            let mut debounce = Debounce::default();
            let mut over = Vec::new();
            for ms in (0..3000).step_by(1) {
                if events.contains(&ms) {
                    debounce.event(at(ms));
                }
                if ms % 10 == 0 && debounce.take(at(ms)) {
                    over.push(ms);
                }
            }
            assert_eq!(over, wanted, "{events:?}");
        }
    }
}
