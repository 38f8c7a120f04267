//! Joins the manifest, its texts and the run directory into a [`Project`]: names resolved, files put
//! into a graph. Every fault that needs more than the manifest itself is found here, all at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::manifest::names::loose;
use crate::manifest::types::Tables;
use crate::manifest::{Diagnostic, Diagnostics, Manifest, ReadOptions, TablePath};
use crate::project::{Endpoint, Project, Spec};
use crate::texts::Texts;
use planexe_base::cores;
use planexe_base::fs;
use planexe_base::record::Digest;
use planexe_engine::graph::{Graph, TaskId};

mod decl;
mod inputs;
mod order;
mod services;
mod spec;

use decl::{decls_of, path_of};

/// Where the parts of a project are.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    /// The run directory.
    pub run: PathBuf,
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Profile, `-D` and `--allow-outside`.
    pub options: ReadOptions,
    /// The parent run.
    pub parent: Option<String>,
}

/// Reads a pipeline and makes it ready for a run directory.
pub fn load(locations: &Locations) -> Result<Project, Diagnostics> {
    let (manifest, faults) = Manifest::read_all(&locations.pipeline, &locations.options)?;
    load_manifest(locations, manifest, faults)
}

/// The same of a text that is not written yet, as if it stood in the pipeline's file.
pub fn load_text(locations: &Locations, text: String) -> Result<Project, Diagnostics> {
    let (manifest, faults) = Manifest::from_text(&locations.pipeline, text, &locations.options)?;
    load_manifest(locations, manifest, faults)
}

/// Makes a project of tables at hand, as if they stood in the pipeline's file.
pub fn load_tables(locations: &Locations, tables: Tables) -> Result<Project, Diagnostics> {
    let manifest = Manifest::of_tables(&locations.pipeline, tables);
    load_manifest(locations, manifest, Vec::new())
}

fn load_manifest(
    locations: &Locations,
    mut manifest: Manifest,
    mut faults: Vec<Diagnostic>,
) -> Result<Project, Diagnostics> {
    let (texts, found) = Texts::load(&manifest, &locations.options.allow_outside);
    faults.extend(manifest.further(found));
    let run = locations.run.canonicalize().unwrap_or_else(|_| locations.run.clone());
    let mut loader = Loader {
        manifest: &manifest,
        texts: &texts,
        run: &run,
        locations,
        plain: fs::PlainFiles::default(),
        timeouts: manifest.tables.timeouts.iter().map(|(name, span)| (loose(name), span.0)).collect(),
        faults: Vec::new(),
    };
    let project = loader.project();
    faults.extend(manifest.further(loader.faults));
    match project {
        Some(project) if faults.is_empty() => {
            let tables = std::mem::take(&mut manifest.tables);
            cores::let_go(tables.task.len(), manifest);
            Ok(Project { tables, ..project })
        }
        _ => Err(manifest.faults(faults)),
    }
}

/// What is most likely a mistake in a pipeline that has no faults.
pub fn warnings(locations: &Locations) -> Result<Diagnostics, Diagnostics> {
    let manifest = Manifest::read(&locations.pipeline, &locations.options)?;
    let (texts, faults) = Texts::load(&manifest, &locations.options.allow_outside);
    if !faults.is_empty() {
        return Err(manifest.faults(faults));
    }
    let found = crate::lint::lint(&manifest, &texts);
    Ok(manifest.faults(found))
}

struct Loader<'a> {
    manifest: &'a Manifest,
    texts: &'a Texts,
    run: &'a Path,
    locations: &'a Locations,
    plain: fs::PlainFiles,
    /// `[timeouts]`, by the names of tasks as they are compared.
    timeouts: HashMap<String, Duration>,
    faults: Vec<Diagnostic>,
}

impl Loader<'_> {
    fn project(&mut self) -> Option<Project> {
        let manifest = self.manifest;
        let tables = &manifest.tables;
        let vars: Map<String, Value> =
            tables.vars.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let endpoints: Vec<Endpoint> = tables
            .models
            .iter()
            .map(|(name, model)| Endpoint { name: name.clone(), model: model.clone() })
            .collect();
        let pools: Vec<(String, u32)> = tables.pools.iter().map(|(name, &n)| (name.clone(), n)).collect();
        let decls = decls_of(tables);
        let loader = &*self;
        let specs = || tables.task.iter().map(|(name, task)| loader.spec(name, task));
        let (built, specs) =
            cores::both(decls.len(), || Graph::build(decls), || specs().collect::<Option<Vec<Spec>>>());
        let (graph, sound) = match built {
            Ok(graph) => (graph, true),
            Err(faulty) => {
                for fault in &faulty.faults {
                    self.graph_fault(fault);
                }
                (faulty.graph, false)
            }
        };
        // Where outputs could not be read, nobody can say what is not made.
        let outputs = |name: &String| TablePath::task(name).then("outputs");
        let outputs_known =
            manifest.whole || !tables.task.keys().any(|name| manifest.is_damaged(&outputs(name)));
        if outputs_known {
            self.look_for_inputs(&graph);
        }
        if let (true, Some(specs)) = (sound, &specs) {
            self.look_at_lanes(&graph, specs);
        }
        let graph = sound.then_some(graph)?;
        let mut specs = specs?;
        for (spec, id) in specs.iter_mut().zip(graph.ids()) {
            spec.step = graph[id].step;
        }
        let default = self.default_targets(&graph);
        let name = tables.pipeline.name.clone().unwrap_or_else(|| {
            manifest
                .folder
                .file_name()
                .map_or_else(|| "pipeline".into(), |n| n.to_string_lossy().into_owned())
        });
        Some(Project {
            run: self.run.to_owned(),
            file: manifest.file.clone(),
            folder: manifest.folder.clone(),
            name,
            tables: Tables::default(),
            profile: self.locations.options.profile.clone(),
            parent: self.locations.parent.clone(),
            vars,
            endpoints,
            pools,
            executors: self.executors(),
            services: self.services(),
            specs,
            graph,
            default,
            sources: self.sources(),
            digest: self.digest(),
            listed: manifest
                .sources()
                .flat_map(|source| &source.listed)
                .map(|path| self.named(path))
                .collect(),
            allow_outside: self.locations.options.allow_outside.clone(),
            in_place_of: Vec::new(),
            own_programs: false,
            staged: Default::default(),
            guarded: Default::default(),
        })
    }

    /// Every file the pipeline was read from, with the digest of what was read; none of one with a byte order
    /// mark, which is no part of its text.
    fn sources(&self) -> Vec<(PathBuf, Option<Digest>)> {
        let manifest = self.manifest.sources().map(|source| (&source.path, &*source.text));
        let texts = self.texts.files().map(|file| (&file.path, &*file.text));
        let read = |(path, text): (&PathBuf, &str)| {
            let size = fs::linked::signature(path).ok().flatten().map(|signature| signature.size);
            let whole = size == Some(text.len() as u64);
            (self.named(path), whole.then(|| Digest::of(text.as_bytes())))
        };
        manifest.chain(texts).map(read).collect()
    }

    /// The absolute name of a file of the pipeline: links on the way to it are part of what it is, those on the way to
    /// the run are not.
    fn named(&self, path: &Path) -> PathBuf {
        let absolute = match path.strip_prefix(&self.locations.run) {
            Ok(below) => self.run.join(below),
            Err(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        };
        fs::normal(&absolute)
    }

    /// A digest over everything the pipeline was read from.
    fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for source in self.manifest.sources() {
            part(&source.text);
        }
        for file in self.texts.files() {
            part(&file.written);
            part(&file.text);
        }
        part(&format!("{:?}", self.locations.options));
        Digest(hasher.finalize().to_hex().to_string())
    }

    fn path(&self, written: &str) -> String {
        path_of(&self.manifest.tables, written)
    }

    fn task_path(&self, decl: usize) -> TablePath {
        let name = self.manifest.tables.task.get_index(decl).map_or("", |(name, _)| name);
        TablePath::task(name)
    }

    fn task_name(&self, decl: usize) -> &str {
        self.manifest.tables.task.get_index(decl).map_or("", |(name, _)| name)
    }

    fn default_targets(&mut self, graph: &Graph) -> Vec<TaskId> {
        let wanted = &self.manifest.tables.pipeline.default;
        if wanted.is_empty() {
            return graph.ids().collect();
        }
        wanted
            .iter()
            .filter_map(|name| graph.find(name).or_else(|| graph.producer(&self.path(name))))
            .collect()
    }
}
