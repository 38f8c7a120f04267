//! Joins the manifest, its texts and the run directory into a [`Project`]: names resolved, files put
//! into a graph. Every fault that needs more than the manifest itself is found here, all at once.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cores;
use crate::fs;
use crate::graph::{self, Decl, ForeachDecl, Graph, Input, TaskId};
use crate::lanes;
use crate::manifest::compiled::{self, Compiled, Outline, Outlined, Written};
use crate::manifest::inputs;
use crate::manifest::names::loose;
use crate::manifest::types::Tables;
use crate::manifest::types::{self, Env, Eval, Foreach, Output, Task};
use crate::manifest::{Fault, Faults, KeyPath, Manifest, ReadOptions, nearest, paths, worth_a_search};
use crate::memo::Known;
use crate::pattern;
use crate::project::{
    CommandSpec, Endpoint, EvalSpec, Evaluator, ForeachSpec, GateSpec, HumanSpec, IsolateSpec, LeftOut, Line,
    Project, PromptSpec, Recipe, Spec, Template, Until, leads_outside, readable,
};
use crate::record::Digest;
use crate::render::Source;
use crate::texts::Texts;

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

/// Where the compiled manifest of a run is.
fn compiled_path(run: &Path) -> PathBuf {
    run.join(".planexe/manifest")
}

/// Reads a pipeline and makes it ready for a run directory: from the compiled manifest, if there is one of
/// these very files. Without its places nothing can be said well, so that any fault has the files read again.
pub fn load(locations: &Locations) -> Result<Project, Faults> {
    load_what_is_not(None, locations)
}

/// [`load`] for a bare build. With a compiled manifest the tasks that are known to be up to date, and will stay so,
/// are left out of the project, if the pipeline is one that can be read in part.
pub fn load_what_is_not(known: Option<&Known>, locations: &Locations) -> Result<Project, Faults> {
    let bytes = fs::read(&compiled_path(&locations.run)).unwrap_or_default();
    if let Some(compiled) = Compiled::read(&bytes, &locations.pipeline, &locations.options) {
        if let Some((manifest, part)) = known.and_then(|known| read_part(&compiled, known))
            && let Ok(project) = load_manifest(locations, manifest, Vec::new(), &part.steps)
        {
            return Ok(Project { compiled: true, left_out: Some(part.left_out), ..project });
        }
        if let Some(manifest) = compiled.whole()
            && let Ok(project) = load_manifest(locations, manifest, Vec::new(), &[])
        {
            return Ok(Project { compiled: true, ..project });
        }
    }
    let (manifest, faults) = Manifest::read_all(&locations.pipeline, &locations.options)?;
    load_manifest(locations, manifest, faults, &[])
}

/// A part of a pipeline.
struct Part {
    /// The positions of its tasks in the topological order of the whole.
    steps: Vec<u32>,
    left_out: LeftOut,
}

/// Reads the tasks of a bare build that are not known to be up to date, and all that come after them.
fn read_part(compiled: &Compiled<'_>, known: &Known) -> Option<(Manifest, Part)> {
    let count = compiled.outlined();
    let mut left_out = LeftOut { page: compiled.page().map(str::to_owned), ..LeftOut::default() };
    let mut fresh = known.fresh().peekable();
    let mut chosen = vec![false; count];
    let mut order = vec![0; count];
    for (task, chosen) in chosen.iter_mut().enumerate() {
        let (wanted, group) = compiled.kind(task)?;
        let is_fresh = fresh.next_if(|name| compiled.name(task) == Some(name)).is_some();
        *chosen = wanted && !group && !is_fresh;
        *order.get_mut(compiled.step(task)? as usize)? = task;
    }
    // Where what is known is of other tasks, it is of no use.
    if fresh.next().is_some() {
        return None;
    }
    for task in order {
        let (wanted, group) = compiled.kind(task)?;
        if wanted && !chosen[task] {
            chosen[task] = compiled.needs(task)?.any(|need| chosen.get(need) != Some(&false));
        }
        if !chosen[task] {
            left_out.all += 1;
            left_out.wanted += u32::from(wanted);
            left_out.fresh += u32::from(wanted && !group);
        }
    }
    if left_out.wanted == 0 {
        return None;
    }
    let steps = (0..count).filter(|&task| chosen[task]).map(|task| compiled.step(task));
    let steps = steps.collect::<Option<_>>()?;
    Some((compiled.part(&chosen)?, Part { steps, left_out }))
}

/// Keeps what the pipeline says for the next build. Only a cache, lost without harm.
pub fn keep_compiled(project: &Project, options: &ReadOptions) {
    if project.compiled {
        return;
    }
    let outline = outline(project);
    if let Some(bytes) = compiled::encode(&project.tables, &project.written, options, outline.as_ref()) {
        let _ = fs::write_atomic(&compiled_path(&project.run), &bytes, fs::Durability::Unsynced);
    }
}

/// What is to be known of tasks that are not read; none of a pipeline of which no part means the same by itself:
/// what a glob matches depends on which files tasks still make, fan-outs on their items, and the digest of the
/// pipeline on all its texts. One that asks models is looked at as a whole: nothing there takes as long as a call.
fn outline(project: &Project) -> Option<Outline> {
    let graph = &project.graph;
    let alone = |id: TaskId| {
        graph[id].kind != graph::Kind::Family
            && project.spec(&graph[id]).prompts().next().is_none()
            && !graph[id].inputs.iter().any(|input| input.glob || pattern::has_key(&input.pattern))
    };
    if project.sources.len() != project.written.len() || !graph.ids().all(alone) {
        return None;
    }
    let wanted = graph.upstream(&project.default);
    let outlined = |id: TaskId| Outlined {
        step: graph[id].step,
        wanted: wanted[id.index()],
        group: graph[id].kind == graph::Kind::Group,
        needs: graph[id].needs.iter().map(|need| need.task.index() as u32).collect(),
    };
    let page = project.page(&project.default).map(str::to_owned);
    Some(Outline { tasks: graph.ids().map(outlined).collect(), page })
}

/// Makes a project of tables at hand, as if they stood in the pipeline's file. What they say is not kept for later.
pub fn load_tables(locations: &Locations, tables: Tables) -> Result<Project, Faults> {
    let manifest = Manifest::of_tables(&locations.pipeline, tables);
    let project = load_manifest(locations, manifest, Vec::new(), &[])?;
    Ok(Project { compiled: true, ..project })
}

/// `steps`: where the tasks stand in the topological order of the whole, if this is a part.
fn load_manifest(
    locations: &Locations,
    mut manifest: Manifest,
    mut faults: Vec<Fault>,
    steps: &[u32],
) -> Result<Project, Faults> {
    let (texts, found) = Texts::load(&manifest, &locations.options.allow_outside);
    faults.extend(manifest.further(found));
    let run = locations.run.canonicalize().unwrap_or_else(|_| locations.run.clone());
    let mut loader = Loader {
        manifest: &manifest,
        texts: &texts,
        run: &run,
        locations,
        steps,
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
pub fn warnings(locations: &Locations) -> Result<Faults, Faults> {
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
    /// See [`load_manifest`].
    steps: &'a [u32],
    plain: fs::PlainFiles,
    /// `[timeouts]`, by the names of tasks as they are compared.
    timeouts: HashMap<String, Duration>,
    faults: Vec<Fault>,
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
        let specs = || tables.task.iter().map(|(name, task)| loader.spec(name, task, &endpoints, &pools));
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
        let outputs = |name: &String| KeyPath::task(name).then("outputs");
        let outputs_known =
            manifest.whole || !tables.task.keys().any(|name| manifest.is_damaged(&outputs(name)));
        if outputs_known {
            self.look_for_inputs(&graph);
        }
        if let (true, Some(specs)) = (sound, &specs) {
            self.look_at_lanes(&graph, specs);
        }
        let mut graph = sound.then_some(graph)?;
        graph.renumber(self.steps.iter().copied());
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
            specs,
            graph,
            default,
            sources: self.sources(),
            digest: self.digest(),
            written: manifest.sources().map(Written::of).collect(),
            listed: manifest
                .sources()
                .flat_map(|source| &source.listed)
                .map(|path| self.named(path))
                .collect(),
            left_out: None,
            compiled: false,
            allow_outside: self.locations.options.allow_outside.clone(),
            in_place_of: Vec::new(),
            held: Default::default(),
        })
    }

    /// Every file the pipeline was read from, with the digest of what was read; none of one with a byte order
    /// mark, which is no part of its text.
    fn sources(&self) -> Vec<(PathBuf, Option<Digest>)> {
        let manifest = self.manifest.sources().map(|source| (&source.path, &*source.text));
        let texts = self.texts.files().map(|file| (&file.path, &*file.text));
        let read = |(path, text): (&PathBuf, &str)| {
            let size = fs::signature(path).ok().flatten().map(|signature| signature.size);
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

    fn task_path(&self, decl: usize) -> KeyPath {
        let name = self.manifest.tables.task.get_index(decl).map_or("", |(name, _)| name);
        KeyPath::task(name)
    }

    fn task_name(&self, decl: usize) -> &str {
        self.manifest.tables.task.get_index(decl).map_or("", |(name, _)| name)
    }

    fn graph_fault(&mut self, fault: &graph::Fault) {
        let fault = match fault {
            graph::Fault::DuplicateOutput { first, second, case_only } => {
                let path = |(decl, output): (usize, usize)| {
                    let task = self.manifest.tables.task.get_index(decl);
                    task.map_or(String::new(), |(_, task)| task.outputs[output].path().to_owned())
                };
                let at = |(decl, output): (usize, usize)| self.task_path(decl).then("outputs").then(output);
                let (one, two) = (self.task_name(first.0), self.task_name(second.0));
                let message = if *case_only {
                    format!(
                        "outputs `{}` and `{}` differ only in case, which some file systems do not tell apart",
                        path(*first),
                        path(*second)
                    )
                } else if one == two {
                    format!("output `{}` is listed twice", path(*second))
                } else {
                    format!("two tasks write `{}`: `{one}` and `{two}`", path(*second))
                };
                Fault::at(at(*second), message)
                    .wanted("one task per file")
                    .related(at(*first), format!("`{one}` writes it here"))
            }
            graph::Fault::Cycle { decls } => {
                let mut names: Vec<&str> = decls.iter().map(|&decl| self.task_name(decl)).collect();
                let first = names.first().copied().unwrap_or_default();
                names.push(first);
                let text = names.join(" -> ");
                let at = match (decls.first(), decls.last()) {
                    (Some(&task), Some(&other)) => self.wait_of(task, other),
                    _ => KeyPath::root(),
                };
                let message = if decls.len() == 1 {
                    format!("task `{first}` reads what it writes itself: {text}")
                } else {
                    format!("tasks wait for one another: {text}")
                };
                Fault::at(at, message)
                    .wanted("a cycle")
                    .hint("each task can only read what is made before it")
            }
        };
        self.faults.push(fault);
    }

    /// Tasks of a lane are merged together: none may wait for what another is merged for, and they have one base.
    fn look_at_lanes(&mut self, graph: &Graph, specs: &[Spec]) {
        if specs.iter().all(|spec| spec.isolate.is_none()) {
            return;
        }
        let at = |name: &str| KeyPath::task(name).then("isolate");
        for tasks in lanes::entangled(graph, |id| specs.get(graph[id].decl).and_then(Spec::lane)) {
            let names: Vec<&str> = tasks.iter().map(|id| graph[*id].name.as_str()).collect();
            let (Some(first), Some(last)) = (names.first(), names.last()) else { continue };
            let lane = specs.get(graph[tasks[0]].decl).and_then(|spec| spec.isolate.as_ref()?.lane.clone());
            let lane = lane.map_or(String::new(), |(lane, _)| lane);
            let message = format!(
                "lane `{lane}` waits for itself: a task between `{}` reads what is merged only with all of it",
                names.join("`, `")
            );
            self.faults.push(
                Fault::at(at(last), message)
                    .wanted("a cycle")
                    .related(at(first), "merged together with this")
                    .hint("put what lies between into the same lane, or the tasks into different lanes"),
            );
        }
        let isolated = specs.iter().filter_map(|spec| Some((&spec.name, spec.isolate.as_ref()?)));
        let shared: Vec<(&String, &str, usize, &Option<String>)> = isolated
            .clone()
            .filter_map(|(name, isolate)| {
                let (lane, number) = isolate.lane.as_ref()?;
                Some((name, lane.as_str(), *number, &isolate.base))
            })
            .collect();
        for (n, (name, lane, number, base)) in shared.iter().enumerate() {
            let Some(other) = shared[..n].iter().find(|other| other.2 == *number && other.3 != *base) else {
                continue;
            };
            self.faults.push(
                Fault::at(at(name), format!("tasks of lane `{lane}` have different bases"))
                    .wanted("one base for all of a lane")
                    .related(at(other.0), "the other")
                    .hint("say it once, as `base` under `[isolation]`"),
            );
        }
        for (name, _) in isolated.filter(|(_, isolate)| isolate.lane.is_none()) {
            let Some(other) = shared.iter().find(|other| other.1 == name) else { continue };
            self.faults.push(
                Fault::at(
                    at(name),
                    format!("the lane of task `{name}`, its own, has the name of a shared one"),
                )
                .wanted("two lanes of one name")
                .related(at(other.0), "the other")
                .hint(format!("give the lane another name, or say `isolate = {{ lane = \"{name}\" }}`")),
            );
        }
    }

    /// Where a task says that it waits for another.
    fn wait_of(&self, task: usize, other: usize) -> KeyPath {
        let tables = &self.manifest.tables;
        let at = self.task_path(task);
        let (Some((name, task)), Some((other_name, other))) =
            (tables.task.get_index(task), tables.task.get_index(other))
        else {
            return at;
        };
        let (task_decl, other_decl) = (decl(tables, name, task), decl(tables, other_name, other));
        let reads =
            |pattern: &str| other_decl.outputs.iter().any(|output| pattern::could_match(pattern, output));
        if let Some(n) = task_decl.inputs.iter().position(|input| reads(&input.pattern)) {
            return inputs::named(&task.inputs, &at).swap_remove(n).key_path;
        }
        if let Some(n) = task.after.iter().position(|name| name == other_name) {
            return at.then("after").then(n);
        }
        at.then("foreach")
    }

    /// Inputs of these tasks that nothing makes and that are not plainly files of the run.
    fn unclear_inputs(&self, graph: &Graph, ids: &[TaskId]) -> Vec<(TaskId, usize)> {
        let mut plain = fs::PlainFiles::default();
        let mut is_clear = |input: &Input| {
            let is_path = !input.glob && !pattern::has_key(&input.pattern);
            graph.is_produced(&input.pattern) || is_path && plain.has(self.run, Path::new(&input.pattern))
        };
        let inputs = |&id: &TaskId| (0..graph[id].inputs.len()).map(move |n| (id, n));
        ids.iter().flat_map(inputs).filter(|&(id, n)| !is_clear(&graph[id].inputs[n])).collect()
    }

    /// Inputs that nobody makes must be there, inside the run or the pipeline's folder.
    fn look_for_inputs(&mut self, graph: &Graph) {
        let mut told: BTreeSet<String> = BTreeSet::new();
        let ids: Vec<TaskId> = graph.ids().collect();
        let unclear = cores::by_parts(&ids, |ids| self.unclear_inputs(graph, ids));
        let mut unclear = unclear.into_iter().peekable();
        for (id, (name, task)) in graph.ids().zip(&self.manifest.tables.task) {
            while let Some((_, n)) = unclear.next_if(|&(of, _)| of == id) {
                let input = &graph[id].inputs[n];
                if input.glob || pattern::has_key(&input.pattern) {
                    if self.leaves(&input.pattern) {
                        let at = inputs::named(&task.inputs, &KeyPath::task(name)).swap_remove(n).key_path;
                        self.look_where(&input.pattern, &at);
                    }
                    continue;
                }
                let at = inputs::named(&task.inputs, &KeyPath::task(name)).swap_remove(n).key_path;
                self.look_for(name, &input.pattern, input.optional, &at, graph, &mut told);
            }
            if let Some(foreach) =
                task.foreach.as_ref().map(|foreach| foreach_decl(&self.manifest.tables, foreach))
                && !foreach.source.is_empty()
                && !graph.is_produced(&foreach.source)
            {
                let at = KeyPath::task(name).then("foreach");
                if !foreach.glob {
                    self.look_for(name, &foreach.source, false, &at.then("file"), graph, &mut told);
                } else if self.leaves(&foreach.source) {
                    self.look_where(&foreach.source, &at.then("glob"));
                }
            }
        }
    }

    fn readable(&self) -> Vec<PathBuf> {
        readable(self.run, &self.manifest.folder, &self.locations.options.allow_outside)
    }

    /// Whether a pattern may name files elsewhere than below the run directory: it says so, or begins in a folder
    /// that is not plainly there.
    fn leaves(&mut self, pattern: &str) -> bool {
        let folder = Path::new(pattern::literal_folder(pattern));
        !self.plain.has_folder(self.run, folder)
    }

    /// The folder that a glob, or a path with a key, begins in must be one that may be read.
    fn look_where(&mut self, pattern: &str, at: &KeyPath) {
        let folder = self.run.join(pattern::literal_folder(pattern));
        if let Some(real) = leads_outside(&folder, &self.readable()) {
            self.faults.push(outside(pattern, at, &real));
        }
    }

    fn look_for(
        &mut self,
        task: &str,
        path: &str,
        optional: bool,
        at: &KeyPath,
        graph: &Graph,
        told: &mut BTreeSet<String>,
    ) {
        if self.plain.has(self.run, Path::new(path)) {
            return;
        }
        let full = self.run.join(path);
        match full.canonicalize() {
            Ok(real) => {
                if leads_outside(&real, &self.readable()).is_some() {
                    self.faults.push(outside(path, at, real.parent().unwrap_or(&real)));
                } else if real.is_dir() {
                    self.faults.push(
                        Fault::at(at, format!("input `{path}` is a folder"))
                            .wanted("a file, or a glob")
                            .hint(format!("for the files in it: `{path}/*`")),
                    );
                }
            }
            Err(_) if optional => {}
            Err(_) => {
                if !told.insert(path.to_owned()) {
                    return;
                }
                let hint = self.nearest_file(path, task, graph).map_or_else(
                    || format!("write `{path}` in the run directory, or add a task that makes it"),
                    |near| format!("did you mean `{near}`?"),
                );
                self.faults.push(
                    Fault::at(
                        at,
                        format!("task `{task}` reads `{path}`, which is not there and which no task makes"),
                    )
                    .wanted(match crate::manifest::fault::shown_path(self.run).as_str() {
                        "." => "not in this folder".to_owned(),
                        run => format!("not in {run}"),
                    })
                    .hint(hint),
                );
            }
        }
    }

    /// The output, or the file beside it, that may be meant by a path where nothing is. Not for each of thousands.
    fn nearest_file(&self, path: &str, task: &str, graph: &Graph) -> Option<String> {
        if !worth_a_search(self.faults.len(), graph.len()) {
            return None;
        }
        let full = self.run.join(path);
        let there = fs::list_dir(full.parent().unwrap_or(self.run)).unwrap_or_default();
        let there: Vec<String> = there
            .into_iter()
            .filter_map(|(name, kind)| (kind == fs::FileKind::File).then(|| name.into_string().ok())?)
            .filter(|name| !crate::inputs::is_sidecar(name))
            .collect();
        let others = graph.ids().filter(|&id| graph[id].name != task);
        let made = others.flat_map(|id| &graph[id].outputs);
        nearest(path, made.chain(&there).map(String::as_str)).map(str::to_owned)
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

    fn spec(&self, name: &str, task: &Task, endpoints: &[Endpoint], pools: &[(String, u32)]) -> Option<Spec> {
        let defaults = &self.manifest.tables.defaults;
        let named = || {
            if self.timeouts.is_empty() { None } else { self.timeouts.get(&loose(name)).copied() }
        };
        let timeout = task
            .timeout
            .map(|span| span.0)
            .or_else(named)
            .or_else(|| defaults.timeout.map(|span| span.0))
            .or_else(|| self.timeouts.get("default").copied());
        let templates =
            task.outputs.iter().map(|output| self.output_template(output).map(Box::new)).collect();
        Some(Spec {
            name: name.to_owned(),
            description: task.description.clone(),
            recipe: self.recipe(name, task, endpoints)?,
            templates,
            when: task.when.as_ref().map(|when| Box::new(self.condition(name, "when", when))),
            foreach: task.foreach.as_ref().map(|foreach| {
                Box::new(ForeachSpec {
                    file: foreach.file.as_ref().map(|file| self.path(file)),
                    items: foreach.items.clone(),
                    key: foreach.key.clone(),
                    glob: foreach.glob.as_ref().map(|glob| self.path(glob)),
                    batch: foreach.batch.map(|n| n as usize),
                })
            }),
            sequential: task.sequential,
            min_success: task.min_success.unwrap_or(1.0),
            timeout,
            stall: task.stall_timeout.or(defaults.stall_timeout).map(|span| span.0),
            retry: task.retry.clone(),
            priority: task.priority,
            pool: task.pool.as_ref().and_then(|pool| pools.iter().position(|(name, _)| name == pool)),
            step: 0,
            eval: match &task.eval {
                Some(eval) => Some(Box::new(self.eval(task, eval, endpoints, timeout)?)),
                None => None,
            },
            stands_for: None,
            isolate: self.isolate(task),
        })
    }

    /// How a task is kept apart.
    fn isolate(&self, task: &Task) -> Option<Box<IsolateSpec>> {
        let own = task.isolate.as_ref()?.wanted()?;
        let tables = &self.manifest.tables;
        let lanes = || tables.task.values().filter_map(|task| task.isolate.as_ref()?.wanted()?.lane);
        let number = |lane: &String| {
            let mut seen: Vec<String> = Vec::new();
            lanes().for_each(|name| {
                if !seen.contains(&name) {
                    seen.push(name)
                }
            });
            seen.iter().position(|name| name == lane)
        };
        let lane = own.lane.and_then(|lane| number(&lane).map(|number| (lane, number)));
        Some(Box::new(IsolateSpec {
            lane,
            base: own.base.or_else(|| tables.isolation.base.clone()),
            on_merge_failure: own.on_merge_failure.or(tables.isolation.on_merge_failure).unwrap_or_default(),
        }))
    }

    fn eval(
        &self,
        task: &Task,
        eval: &Eval,
        endpoints: &[Endpoint],
        timeout: Option<Duration>,
    ) -> Option<EvalSpec> {
        let defaults = &self.manifest.tables.defaults;
        let by = match (&eval.prompt, &eval.command) {
            (Some(prompt), _) => {
                let names = eval.model.as_ref().or(task.model.as_ref()).or(defaults.model.as_ref());
                let system = eval.system.as_ref();
                Evaluator::Prompt(Box::new(PromptSpec {
                    system: match system {
                        Some(system) => Some(self.template(system, false)?),
                        None => None,
                    },
                    prompt: self.template(prompt, false)?,
                    schema: Some(crate::verdict::schema().clone()),
                    check: None,
                    check_digest: None,
                    models: positions(names, endpoints),
                    params: merged(&defaults.params, eval.params.as_ref()),
                    params_extra: Map::new(),
                    max_validation_retries: 1,
                }))
            }
            (None, Some(command)) => Evaluator::Command(CommandSpec {
                line: line_of(command),
                stdout: true,
                in_place: false,
                cwd: None,
                env_names: Vec::new(),
                env_set: Vec::new(),
            }),
            (None, None) => return None,
        };
        let asked = match &by {
            Evaluator::Prompt(prompt) => {
                let system = prompt.system.as_ref().map(|system| system.source.text.clone());
                (vec![prompt.prompt.source.text.to_string()], system.map(|text| text.to_string()))
            }
            Evaluator::Command(command) => (command.line.words(), None),
        };
        let threshold = eval.threshold.unwrap_or(0.7);
        let refine = task.refine.as_ref();
        let rounds = refine.map_or(eval.max_rounds.unwrap_or(2), |refine| refine.max_rounds.unwrap_or(1));
        Some(EvalSpec {
            digest: Digest::of(&serde_json::to_vec(&(asked, threshold)).unwrap_or_default()),
            by,
            threshold,
            rescue: eval.rescue.unwrap_or(task.kind == Some(types::Kind::Agent)),
            max_rounds: rounds.max(1),
            refine: refine.map(|refine| Until(refine.until)),
            max_bytes: eval.max_bytes.map_or(64 << 10, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            timeout: eval.timeout.map(|span| span.0).or(timeout),
        })
    }

    fn recipe(&self, name: &str, task: &Task, endpoints: &[Endpoint]) -> Option<Recipe> {
        let html = task.outputs.first().is_some_and(|output| is_html(output.path()));
        if let Some(prompt) = &task.prompt {
            return Some(Recipe::Prompt(Box::new(self.prompt(name, task, prompt, endpoints)?)));
        }
        if let Some(command) = &task.command {
            return Some(Recipe::Command(Box::new(self.command(task, command))));
        }
        if let Some(template) = &task.template {
            return Some(Recipe::Template(Box::new(self.template(template, html)?)));
        }
        if let Some(gate) = &task.gate {
            return Some(Recipe::Gate(Box::new(GateSpec {
                fail_if: self.condition(name, "gate", &gate.fail_if),
                action: gate.action,
                warn_if: gate.warn_if.as_ref().map(|text| self.condition(name, "gate.warn_if", text)),
                message: gate.message.as_ref().map(|text| self.inline(name, "gate.message", text)),
            })));
        }
        Some(match &task.human {
            Some(human) => Recipe::Human(Box::new(HumanSpec {
                ask: self.inline(name, "human", human),
                check: self.texts.check(name).cloned(),
            })),
            None => Recipe::Group,
        })
    }

    fn prompt(&self, name: &str, task: &Task, prompt: &str, endpoints: &[Endpoint]) -> Option<PromptSpec> {
        let defaults = &self.manifest.tables.defaults;
        let names = task.model.as_ref().or(defaults.model.as_ref());
        let models = positions(names, endpoints);
        let params = merged(&defaults.params, task.params.as_deref());
        let check_digest = task.check.as_ref().map(|check| {
            let words =
                self.texts.check(name).map(|check| check.words()).filter(|_| check.banned_words.is_some());
            let text = match words {
                Some(words) if check.allowed_words.is_some() => serde_json::to_vec(&(check, words)),
                // As it was before words could be allowed, so that no answer is checked again.
                words => serde_json::to_vec(&(check, words.map(|words| &words.banned))),
            };
            Digest::of(&text.unwrap_or_default())
        });
        Some(PromptSpec {
            system: match task.system.as_ref().or(defaults.system.as_ref()) {
                Some(system) => Some(self.template(system, false)?),
                None => None,
            },
            prompt: self.template(prompt, false)?,
            schema: match &task.schema {
                Some(schema) => Some(self.texts.schema(schema)?.clone()),
                None => None,
            },
            check: self.texts.check(name).cloned(),
            check_digest,
            models,
            params,
            params_extra: task
                .params_extra
                .as_deref()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            max_validation_retries: task
                .max_validation_retries
                .or(defaults.max_validation_retries)
                .unwrap_or(2),
        })
    }

    fn command(&self, task: &Task, command: &types::Command) -> CommandSpec {
        let line = line_of(command);
        let names_out = line.words().iter().any(|word| word.contains("$out"));
        let (env_names, env_set) = match task.env.as_deref() {
            Some(Env::Names(names)) => (names.clone(), Vec::new()),
            Some(Env::Table(table)) => {
                (Vec::new(), table.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
            }
            None => (Vec::new(), Vec::new()),
        };
        CommandSpec {
            line,
            stdout: task.stdout,
            // A command that is not told where to write can only write in place.
            // In a worktree of its own every command does, and nothing of it is in place before it is merged.
            in_place: (task.in_place || (!names_out && !task.stdout))
                && task.isolate.as_ref().and_then(|isolate| isolate.wanted()).is_none(),
            cwd: task.cwd.clone(),
            env_names,
            env_set,
        }
    }

    fn output_template(&self, output: &Output) -> Option<Template> {
        self.template(output.template()?, is_html(output.path()))
    }

    /// A template by what the manifest writes for it.
    fn template(&self, written: &str, html: bool) -> Option<Template> {
        let source = self.texts.source(written)?;
        let html = html || Source::is_html_name(written);
        Some(self.compile(source, html))
    }

    fn inline(&self, task: &str, key: &str, text: &str) -> Template {
        let source = self.texts.source(text);
        let trim = self.manifest.tables.pipeline.trim_blocks;
        let named = || Source::new(format!("task.{task}.{key}"), text).trimmed(trim);
        self.compile(source.unwrap_or_else(named), false)
    }

    fn condition(&self, task: &str, key: &str, text: &str) -> Template {
        let source = Source::new(format!("task.{task}.{key}"), text);
        self.compile(source, false)
    }

    fn compile(&self, source: Source, html: bool) -> Template {
        Template { names: self.texts.names_in(&source), source, html }
    }
}

/// Where the models that are named stand.
fn positions(names: Option<&types::OneOrMany>, endpoints: &[Endpoint]) -> Vec<usize> {
    let names = names.map_or(&[][..], types::OneOrMany::as_slice);
    names.iter().filter_map(|name| endpoints.iter().position(|endpoint| endpoint.name == *name)).collect()
}

/// Parameters for all, changed name by name by those of one.
fn merged(all: &types::Map<Value>, own: Option<&types::Map<Value>>) -> Map<String, Value> {
    let own = own.into_iter().flatten();
    all.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn line_of(command: &types::Command) -> Line {
    match command {
        types::Command::Argv(words) => Line::Argv(words.clone()),
        types::Command::Shell(line) => Line::Shell(line.clone()),
    }
}

fn outside(path: &str, at: &KeyPath, folder: &Path) -> Fault {
    Fault::at(at, format!("input `{path}` is outside the run and the pipeline's folder"))
        .wanted("a file of the run")
        .hint(format!("if it may be read, say so: `--allow-outside {}`", folder.display()))
}

/// A path as written, with the variables put in, in its normal form.
fn path_of(tables: &Tables, written: &str) -> String {
    match paths::substitute_vars(written, &tables.vars) {
        Ok(filled) => pattern::normalize(&filled),
        Err(_) => pattern::normalize(written),
    }
}

fn decls_of(tables: &Tables) -> Vec<Decl> {
    let tasks: Vec<(&String, &Box<Task>)> = tables.task.iter().collect();
    cores::map(&tasks, |(name, task)| decl(tables, name, task))
}

fn decl(tables: &Tables, name: &str, task: &Task) -> Decl {
    let path = |written: &str| path_of(tables, written);
    let inputs = inputs::names(&task.inputs)
        .into_iter()
        .map(|(name, pattern)| {
            let pattern = path(pattern);
            let optional = task.optional.iter().any(|o| *o == name || path(o) == pattern);
            Input { name, glob: paths::is_glob(&pattern), pattern, optional }
        })
        .collect();
    Decl {
        name: name.to_owned(),
        recipe: task.recipe() != crate::manifest::Recipe::Group,
        inputs,
        outputs: task.outputs.iter().map(|output| path(output.path())).collect(),
        after: task.after.clone(),
        foreach: task.foreach.as_ref().map(|foreach| foreach_decl(tables, foreach)),
        sequential: task.sequential,
    }
}

fn foreach_decl(tables: &Tables, foreach: &Foreach) -> ForeachDecl {
    let (source, glob) = match (&foreach.file, &foreach.glob) {
        (Some(file), _) => (path_of(tables, file), false),
        (None, Some(glob)) => (path_of(tables, glob), true),
        (None, None) => (String::new(), false),
    };
    let rest = format!("{:?} {:?} {:?}", foreach.items, foreach.key, foreach.batch);
    ForeachDecl { source, glob, rest }
}

fn is_html(path: &str) -> bool {
    Source::is_html_name(path)
}
