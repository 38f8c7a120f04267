//! From the patterns a task names to the files it is given: globs are matched, orphans left out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

use parking_lot::Mutex;

use planexe_base::fs::{self, FsError};
use planexe_base::pattern::{self, Glob, literal_folder};
use planexe_base::record::Marker;
use planexe_engine::graph::{Graph, Kind, Task};
use planexe_store::Store;

/// Begins the name of what is attached to a prompt, which no template can name.
pub const ATTACHED: &str = "@";

/// The files behind one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The name templates use.
    pub name: String,
    /// Paths relative to the run directory; of a glob sorted bytewise, else one, or none if it is absent.
    pub paths: Vec<String>,
    /// Whether a glob named them.
    pub glob: bool,
    /// Whether it may be absent.
    pub optional: bool,
    /// The path or glob itself.
    pub pattern: String,
}

impl Files {
    /// Whether they go with the prompt, and not into it.
    pub fn is_attached(&self) -> bool {
        self.name.starts_with(ATTACHED)
    }
}

/// Finds files in a run directory; directory listings are read once.
pub struct Finder<'a> {
    run: &'a Path,
    store: &'a Store,
    listings: Mutex<HashMap<String, Listing>>,
}

#[derive(Debug, Clone, Default)]
struct Listing {
    entries: Vec<Entry>,
    /// It is the folder of a run.
    is_run: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    /// With signs for what is not UTF-8; then `odd`.
    name: String,
    odd: bool,
    dir: bool,
}

impl<'a> Finder<'a> {
    /// A finder over a run directory.
    pub fn new(store: &'a Store) -> Finder<'a> {
        Finder { run: store.run_dir(), store, listings: Mutex::default() }
    }

    /// The folders listed since the last time files came or went, relative to the run directory.
    pub fn listed(&self) -> Vec<String> {
        let listings = self.listings.lock();
        listings.keys().cloned().collect()
    }

    /// Forgets what was listed: files came or went.
    pub fn forget(&self) {
        self.listings.lock().clear();
    }

    /// The files a task is given. One that may be absent has no path if the task that writes it is skipped: a file
    /// it left in an earlier build is nobody's.
    pub fn resolve(&self, graph: &Graph, task: &Task) -> Result<Vec<Files>, FsError> {
        let mut all = Vec::with_capacity(task.inputs.len());
        for input in &task.inputs {
            let paths = if input.glob {
                self.matches(graph, &input.pattern, literal_folder(&input.pattern))?
            } else if input.optional && graph.is_of_skipped(&input.pattern) {
                Vec::new()
            } else {
                vec![input.pattern.clone()]
            };
            all.push(Files {
                name: input.name.clone(),
                paths,
                glob: input.glob,
                optional: input.optional,
                pattern: input.pattern.clone(),
            });
        }
        Ok(all)
    }

    /// The source files and current outputs a glob matches; orphans are looked for in a folder.
    pub fn matches(&self, graph: &Graph, glob: &str, folder: &str) -> Result<Vec<String>, FsError> {
        let orphans = self.orphans(graph, folder)?;
        let found = self.glob(glob)?;
        let counts = |path: &String| !orphans.contains(path) && !graph.is_of_skipped(path);
        Ok(found.into_iter().filter(counts).collect())
    }

    /// The files a glob matches, sidecars and planexe's own left out, and what is hidden unless the glob names a dot.
    pub fn glob(&self, pattern: &str) -> Result<Vec<String>, FsError> {
        let Ok(glob) = Glob::of_paths(pattern) else {
            return Ok(Vec::new());
        };
        let mut found = BTreeSet::new();
        self.walk(
            &|path| pattern::passes_over(pattern, path),
            literal_folder(pattern),
            pattern.contains("**") || pattern.contains('{'),
            depth(pattern),
            &mut |path, odd| {
                if !glob.is_match(path) {
                    return Ok(());
                }
                // It cannot be written in a record, and must not be passed over in silence.
                if odd {
                    let why = io::Error::new(io::ErrorKind::InvalidData, "its name is not UTF-8");
                    return Err(FsError::new(path, "read", why));
                }
                found.insert(path.to_string());
                Ok(())
            },
        )?;
        Ok(found.into_iter().collect())
    }

    /// Calls `visit` with every plain file below a folder that is not planexe's own. What is to be `passed` over is not
    /// looked into.
    fn walk(
        &self,
        passed: &dyn Fn(&str) -> bool,
        folder: &str,
        deep: bool,
        depth: usize,
        visit: &mut dyn FnMut(&str, bool) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        for entry in self.list(folder)?.entries {
            let path =
                if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
            if passed(&path) {
                continue;
            }
            if entry.dir && !entry.odd {
                let level = folder.split('/').filter(|part| !part.is_empty()).count() + 1;
                // Another run is no part of this one, unless a pattern names each folder on the way into it.
                if (deep && !self.list(&path)?.is_run) || (!deep && level < depth) {
                    self.walk(passed, &path, deep, depth, visit)?;
                }
            } else if !entry.dir && !is_sidecar(&entry.name) {
                visit(&path, entry.odd)?;
            }
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Listing, FsError> {
        let mut listings = self.listings.lock();
        if let Some(known) = listings.get(folder) {
            return Ok(known.clone());
        }
        let mut entries: Vec<Entry> = fs::optional(fs::linked::list_dir(&self.run.join(folder)))?
            .unwrap_or_default()
            .into_iter()
            .map(|(name, kind)| Entry {
                odd: name.to_str().is_none(),
                name: name.to_string_lossy().into_owned(),
                dir: kind == fs::FileKind::Dir,
            })
            .collect();
        let is_run = entries.iter().any(|entry| entry.name == ".planexe" || entry.name == "run.toml");
        entries.retain(|entry| {
            entry.name != ".planexe" && entry.name != ".git" && !fs::is_temp_name(&entry.name)
        });
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let listing = Listing { entries, is_run };
        listings.insert(folder.to_string(), listing.clone());
        Ok(listing)
    }

    /// Outputs of tasks that are no longer declared: files with a sidecar that no task of the graph writes.
    pub fn orphans(&self, graph: &Graph, folder: &str) -> Result<HashSet<String>, FsError> {
        let mut firsts = Vec::new();
        self.walk_sidecars(folder, &mut |output| firsts.push(output.to_string()))?;
        let mut orphans = HashSet::new();
        for output in firsts {
            if !graph.is_produced(&output) {
                orphans.extend(self.recorded_outputs(&output));
                orphans.insert(output);
            }
        }
        orphans.retain(|path| !graph.is_produced(path));
        Ok(orphans)
    }

    /// First outputs of instances that a family no longer has, though its pattern would still name them.
    pub fn former_items(&self, graph: &Graph, family: &Task) -> Result<Vec<String>, FsError> {
        let Some(first) = family.outputs.first() else { return Ok(Vec::new()) };
        let mut former = Vec::new();
        self.walk_sidecars(literal_folder(first), &mut |output| {
            if pattern::could_match(output, first)
                && graph.producer(output).is_none()
                && self.may_be_of(graph, family, output)
            {
                former.push(output.to_string());
            }
        })?;
        Ok(former)
    }

    /// Whether a record may be that of an item of a family. The patterns of two may overlap, and one may match what is no
    /// item's at all: the record says whose it is. One that cannot be read says nothing.
    fn may_be_of(&self, graph: &Graph, family: &Task, output: &str) -> bool {
        match self.store.recorded_task(output) {
            Some(name) => name
                .split_once('[')
                .is_some_and(|(task, _)| task == family.name || graph.find(task).is_none()),
            None => true,
        }
    }

    /// The outputs recorded beside a first output, itself included.
    pub fn recorded_outputs(&self, first: &str) -> Vec<String> {
        match self.store.read_done(first) {
            Marker::Valid(done) => done.outputs.iter().map(|output| output.path.clone()).collect(),
            _ => vec![first.to_string()],
        }
    }

    fn walk_sidecars(&self, folder: &str, visit: &mut dyn FnMut(&str)) -> Result<(), FsError> {
        let mut last = String::new();
        let listing = self.list(folder)?;
        if listing.is_run && !folder.is_empty() {
            return Ok(());
        }
        for entry in listing.entries {
            let path =
                if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
            if entry.odd {
                continue;
            }
            if entry.dir {
                self.walk_sidecars(&path, visit)?;
            } else if let Some(output) = path.strip_suffix(".DONE").or_else(|| path.strip_suffix(".status"))
                && output != last
            {
                last = output.to_string();
                visit(output);
            }
        }
        Ok(())
    }
}

/// Whether a file name is that of a sidecar.
pub fn is_sidecar(name: &str) -> bool {
    name.ends_with(".DONE") || name.ends_with(".status")
}

/// How many components a pattern has.
fn depth(pattern: &str) -> usize {
    pattern.split('/').count()
}

/// Whether a node has outputs of its own to look at.
pub fn has_outputs(task: &Task) -> bool {
    matches!(task.kind, Kind::Single | Kind::Instance { .. }) && !task.outputs.is_empty()
}
