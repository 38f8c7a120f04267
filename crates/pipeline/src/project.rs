//! A pipeline ready to be built in a run directory: every task with its recipe, texts read, names
//! resolved, and the graph of them. Plain data; [`crate::load`] makes it.

pub mod guarded;
mod service;
mod spec;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::RwLock;
use serde_json::{Map, Value};

use crate::manifest::executors::Taken;
use crate::manifest::types::{Executor, ExecutorKind, Model, Tables};
use crate::project::guarded::Guarded;
use crate::resources;
use planexe_base::fs;
use planexe_base::record::Digest;
use planexe_engine::graph::{Graph, Kind, Task, TaskId};
use planexe_store::{Candidate, CandidateFile, Store};

pub use crate::manifest::types::at_node;
pub use service::{ReadyCheck, ServiceSpec};
pub use spec::{
    CallsSpec, CommandSpec, EvalSpec, Evaluator, ForeachSpec, GateSpec, HumanSpec, IsolateSpec, Line,
    PromptSpec, Recipe, Spec, StandsFor, Template, Until, uses,
};

/// A pipeline and the run it is built in.
#[derive(Debug)]
pub struct Project {
    /// The run directory, links resolved.
    pub run: PathBuf,
    /// The pipeline file.
    pub file: PathBuf,
    /// The pipeline's folder, links resolved.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// The tables as read, for what is not resolved below.
    pub tables: Tables,
    /// The profile in force.
    pub profile: Option<String>,
    /// Parent run, if this one was derived from another.
    pub parent: Option<String>,
    /// `[vars]`, profile and `-D` applied.
    pub vars: Map<String, Value>,
    /// The models, in order.
    pub endpoints: Vec<Endpoint>,
    /// The pools, in order.
    pub pools: Vec<(String, u32)>,
    /// Where commands can run, in order.
    pub executors: Vec<ExecutorSpec>,
    /// Servers for tasks and models, in order.
    pub services: Vec<ServiceSpec>,
    /// The tasks, by declaration.
    pub specs: Vec<Spec>,
    /// What waits for what; without instances.
    pub graph: Graph,
    /// What a bare `planexe build` makes.
    pub default: Vec<TaskId>,
    /// Every file the pipeline was read from, by its absolute name, which may be that of a link.
    pub sources: Vec<(PathBuf, Option<Digest>)>,
    /// Digest of everything the pipeline was read from.
    pub digest: Digest,
    /// Folders that were listed for patterns of files to include, by their absolute names.
    pub listed: Vec<PathBuf>,
    /// Folders inputs may also lie in.
    pub allow_outside: Vec<PathBuf>,
    /// Files of the run and what is read in the place of each: to judge an edit before it is made.
    pub in_place_of: Vec<(String, PathBuf)>,
    /// Programs named by a relative path are the pipeline's, before any in the run: of a build that is bound to its pipeline,
    /// in whose run others may write.
    pub own_programs: bool,
    /// Outputs of tasks that are made and wait for the others of their lane, and where they are kept until then.
    pub staged: Staged,
    /// Files that no item may write.
    pub guarded: OnceLock<Guarded>,
}

/// Outputs of a lane that wait to be merged, and the files they are read from until then.
#[derive(Debug, Default)]
pub struct Staged(OnceLock<RwLock<HashMap<String, PathBuf>>>);

impl Staged {
    fn change(&self, change: impl FnOnce(&mut HashMap<String, PathBuf>)) {
        let files = self.0.get_or_init(RwLock::default);
        change(&mut files.write());
    }

    fn get(&self, path: &str) -> Option<PathBuf> {
        self.0.get()?.read().get(path).cloned()
    }
}

impl Project {
    /// How many tasks the pipeline has.
    pub fn steps_total(&self) -> u32 {
        self.specs.len() as u32
    }

    /// The most calls its models take at once, in all.
    pub fn calls_at_once(&self) -> usize {
        self.endpoints
            .iter()
            .map(|endpoint| planexe_llm::limits_of(&endpoint.model).max_concurrent as usize)
            .sum()
    }

    /// Names of variables that the pipeline says hold keys, or addresses and secrets of webhooks.
    pub fn key_variables(&self) -> impl Iterator<Item = String> {
        let models = self.endpoints.iter().map(|endpoint| &endpoint.model).chain(self.tables.models.values());
        let webhooks = self.tables.webhooks.values();
        let named = webhooks.flat_map(|webhook| [&webhook.url_env, &webhook.secret_env]);
        let of_models = models.filter_map(|model| model.api_key_env.as_ref());
        of_models.chain(named.flatten()).chain(&self.tables.keys_as_written).cloned()
    }

    /// The page a build of some tasks shows at its end: the first among their outputs. A fan-out has no page of its own.
    pub fn page(&self, tasks: &[TaskId]) -> Option<&str> {
        let tasks = tasks.iter().map(|id| &self.graph[*id]).filter(|task| task.kind != Kind::Family);
        let mut outputs = tasks.flat_map(|task| &task.outputs);
        outputs.find(|output| output.ends_with(".html")).map(String::as_str)
    }

    /// Has every prompt ask one model alone, by its position.
    pub fn ask_only(&mut self, endpoint: usize) {
        for spec in &mut self.specs {
            if let Recipe::Prompt(prompt) = &mut spec.recipe {
                prompt.models = vec![endpoint];
            }
            if let Some(Evaluator::Prompt(prompt)) = spec.eval.as_mut().map(|eval| &mut eval.by) {
                prompt.models = vec![endpoint];
            }
        }
    }

    /// `--executor`: every command runs on this one. Those that work in place, or in a worktree, stay on this machine;
    /// returns their names.
    pub fn run_on(&mut self, executor: usize) -> Vec<String> {
        let kind = self.executors[executor].kind;
        let mut stay = Vec::new();
        for spec in &mut self.specs {
            let Recipe::Command(command) = &spec.recipe else { continue };
            if !kind.is_here() && (command.in_place || spec.isolate.is_some()) {
                stay.push(spec.name.clone());
                continue;
            }
            spec.executor = (kind != ExecutorKind::Local).then_some(executor);
        }
        stay
    }

    /// Where the command of a task runs, if not in the build itself.
    pub fn executor(&self, task: &Task) -> Option<&ExecutorSpec> {
        self.spec(task).executor.map(|at| &self.executors[at])
    }

    /// What an attempt of a task takes where it runs.
    pub fn taken(&self, task: &Task) -> Result<Taken, String> {
        let own = self.spec(task).resources.as_deref();
        let item = task.item.as_ref();
        let values = [
            (
                "item",
                item.map_or(minijinja::Value::UNDEFINED, |item| {
                    minijinja::Value::from_serialize(&item.value)
                }),
            ),
            ("key", item.map_or(minijinja::Value::UNDEFINED, |item| item.key.as_str().into())),
            ("vars", minijinja::Value::from_serialize(&self.vars)),
        ];
        let of_executor = match self.executor(task) {
            Some(executor) => Some(&executor.table.resources),
            None => self.executors.iter().find(|it| it.name == "local").map(|it| &it.table.resources),
        };
        resources::taken(own, of_executor, &values.into_iter().collect())
    }

    /// Whether the run is a folder of `planexe optimize`: its trials are tasks of a pipeline that is made up each time.
    pub fn holds_trials(&self) -> bool {
        self.specs.is_empty() && self.run.join("cells.jsonl").is_file()
    }

    /// An input file of the run, by its name relative to the run directory.
    pub fn input(&self, path: &str) -> PathBuf {
        match self.in_place_of.iter().find(|(name, _)| name == path) {
            Some((_, other)) => other.clone(),
            None => self.staged.get(path).unwrap_or_else(|| self.run.join(path)),
        }
    }

    /// What a task of a lane made is there for the others of the lane, though it is not merged yet.
    pub fn stage(&self, task: &Task, store: &Store, made: &Candidate) {
        if self.spec(task).lane().is_some() {
            let file = |output: &CandidateFile| (output.path.clone(), store.candidate_file(made, output));
            self.staged.change(|files| files.extend(made.outputs.iter().map(file)));
        }
    }

    /// Its lane is merged: its outputs are in the run.
    pub fn release_staged(&self, task: &Task) {
        if self.spec(task).lane().is_some() {
            self.staged.change(|files| task.outputs.iter().for_each(|output| drop(files.remove(output))));
        }
    }

    /// The first of some files that leads out of the folders files may be read from, and where it leads. What a
    /// path names alone was looked at when the pipeline was read; this is for what a glob or an item's key finds.
    pub fn outside<'p>(&self, paths: impl IntoIterator<Item = &'p String>) -> Option<(&'p str, PathBuf)> {
        let mut plain = fs::PlainFiles::default();
        let mut closer = paths.into_iter().filter(|path| !plain.has(&self.run, Path::new(path))).peekable();
        closer.peek()?;
        let readable = readable(&self.run, &self.folder, &self.allow_outside);
        closer.find_map(|path| Some((path.as_str(), leads_outside(&self.run.join(path), &readable)?)))
    }

    /// Files that no item of a fan-out may write.
    pub fn guarded(&self) -> &Guarded {
        self.guarded.get_or_init(|| Guarded::new(self))
    }

    /// The declaration of a task.
    pub fn spec(&self, task: &Task) -> &Spec {
        &self.specs[task.decl]
    }
}

/// The folders files may be read from, links resolved: the run's, the pipeline's, and those the user allows.
pub fn readable(run: &Path, folder: &Path, allow_outside: &[PathBuf]) -> Vec<PathBuf> {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let allowed = allow_outside.iter().map(PathBuf::as_path);
    [run, folder].into_iter().chain(allowed).map(resolved).collect()
}

/// Where a path leads, links followed, if that is in none of some folders. A path where nothing is leads nowhere.
pub fn leads_outside(path: &Path, readable: &[PathBuf]) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    (!readable.iter().any(|folder| real.starts_with(folder))).then_some(real)
}

/// A model as tasks see it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name under `[models]`.
    pub name: String,
    /// Its table.
    pub model: Model,
}

impl Endpoint {
    /// The model's name at its server, or the endpoint's own.
    pub fn model_name(&self) -> &str {
        self.model.model.as_deref().unwrap_or(&self.name)
    }

    /// The dialect.
    pub fn api(&self) -> &'static str {
        self.model.api.map_or("?", crate::manifest::types::Api::name)
    }
}

/// A place where commands run.
#[derive(Debug, Clone)]
pub struct ExecutorSpec {
    /// Its name, by which tasks call it.
    pub name: String,
    /// What it is.
    pub kind: ExecutorKind,
    /// Its table.
    pub table: Executor,
}

impl ExecutorSpec {
    /// Most attempts it has at once; none if nothing but this machine's cores limits them.
    pub fn turns(&self) -> Option<u32> {
        let usual = if self.kind.is_here() { None } else { Some(100) };
        self.table.max_jobs.or(usual)
    }
}
