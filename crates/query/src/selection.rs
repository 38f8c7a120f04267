//! What names on the command line stand for, item by item, as it lies on disk: also the items of a fan-out
//! whose list cannot be read now, or no longer holds them. Reads only.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::dry_run::{Look, survey};
use planexe_base::fs::{self, FsError};
use planexe_base::message::Message;
use planexe_base::pattern;
use planexe_base::record::Failure;
use planexe_build::check_staleness::StaleCheck;
use planexe_engine::graph::{Graph, Kind, TaskId, Why};
use planexe_engine::scheduler::Target;
use planexe_engine::staleness::Rules;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::open::Named;
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_store::index::Index;

/// A task with outputs of its own, or one item of a fan-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `swot`, or `review[anna]`.
    pub name: String,
    /// The task as declared.
    pub task: TaskId,
    /// The item.
    pub key: Option<String>,
    /// Its outputs, whether they are there or not.
    pub outputs: Vec<String>,
}

/// Outputs of a task that is no longer declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The task that made them, as recorded.
    pub task: String,
    /// The outputs, the first one first.
    pub outputs: Vec<String>,
}

/// What a name stands for: a declared task, and one item or all.
pub type Part = (TaskId, Option<String>);

/// The tasks of a run, with the items that can be known now.
pub struct Units<'a> {
    project: &'a Project,
    store: &'a Store,
    index: Index,
    /// Finds files.
    pub finder: Finder<'a>,
    /// The graph with the instances that can be known now.
    pub graph: Graph,
    /// Fan-outs whose items cannot be known now, and why.
    pub unknown: HashMap<TaskId, Failure>,
}

/// Judges tasks as they are, whatever the command line of a build would change.
pub fn judge<'a>(
    project: &'a Project,
    store: &'a Store,
    index: &'a Index,
    finder: &'a Finder<'a>,
    env: &'a (dyn Fn(&str) -> Option<String> + Sync),
) -> StaleCheck<'a> {
    let by_mtime = project.tables.staleness.by == planexe_pipeline::manifest::types::By::Mtime;
    let rules = Rules { model: project.tables.staleness.model, by_mtime, ..Rules::default() };
    let anew = Arc::new(store.read_anew());
    StaleCheck { project, store, index, finder, rules, anew, no_reuse: false, env }
}

impl<'a> Units<'a> {
    /// Finds out the items of every fan-out, as far as they can be known now.
    pub fn new(project: &'a Project, store: &'a Store) -> Units<'a> {
        let finder = Finder::new(store);
        let index = Index::load(store);
        let mut graph = project.graph.clone();
        let mut unknown = HashMap::new();
        let nothing = |_: &str| None;
        let judge = judge(project, store, &index, &finder, &nothing);
        for &family in project.graph.order() {
            if project.graph[family].kind != Kind::Family {
                continue;
            }
            match judge.items(&graph, family) {
                Ok(items) => {
                    graph.add_instances(family, items, true);
                }
                Err(failure) => {
                    unknown.insert(family, failure);
                }
            }
        }
        // What a skipped task left is no input of others. That only conditions can say, and only where what they look
        // at is up to date.
        if project.specs.iter().any(|spec| spec.when.is_some()) {
            let rules = judge.rules;
            let look =
                Look { project, store, index: &index, rules, no_reuse: false, only: false, env: &nothing };
            let all: Vec<Target> = project.graph.order().iter().map(|&id| (id, None)).collect();
            let seen = survey(&look, &all).graph;
            for id in seen.ids().filter(|&id| seen.is_skipped(id)) {
                if let Some(id) = graph.find(&seen[id].name) {
                    graph.set_skipped(id, true);
                }
            }
        }
        finder.forget();
        Units { project, store, index, finder, graph, unknown }
    }

    /// The parts of a task: of a fan-out the items that are declared now, then those that only have files.
    /// A group has none.
    pub fn of(&self, part: &Part) -> Result<Vec<Unit>, FsError> {
        let (id, key) = part;
        let task = &self.project.graph[*id];
        match task.kind {
            Kind::Group => Ok(Vec::new()),
            Kind::Single | Kind::Instance { .. } => Ok(vec![Unit {
                name: task.name.clone(),
                task: *id,
                key: None,
                outputs: task.outputs.clone(),
            }]),
            Kind::Family => {
                let keys = match key {
                    Some(key) if self.declared(*id, key).is_some() => vec![key.clone()],
                    Some(key) => self.former_keys(*id, |other| other == key)?,
                    None => {
                        let mut keys = self.declared_keys(*id);
                        keys.extend(self.former_keys(*id, |_| true)?);
                        keys
                    }
                };
                let unit = |key: String| Unit {
                    name: format!("{}[{key}]", task.name),
                    task: *id,
                    outputs: task.outputs.iter().map(|output| pattern::fill_key(output, &key)).collect(),
                    key: Some(key),
                };
                Ok(keys.into_iter().map(unit).collect())
            }
        }
    }

    /// The parts of many tasks, each once, in topological order.
    pub fn of_all(&self, parts: impl IntoIterator<Item = Part>) -> Result<Vec<Unit>, FsError> {
        let mut units: Vec<Unit> = Vec::new();
        let mut known: HashSet<String> = HashSet::new();
        let mut parts: Vec<Part> = parts.into_iter().collect();
        parts.sort_by_key(|(id, _)| self.project.graph[*id].step);
        for part in parts {
            let of_part = self.of(&part)?;
            units.extend(of_part.into_iter().filter(|unit| known.insert(unit.name.clone())));
        }
        Ok(units)
    }

    /// The task of the expanded graph that a unit is; none for an item that is not declared now.
    pub fn in_graph(&self, unit: &Unit) -> Option<TaskId> {
        match unit.key {
            Some(_) => self.graph.find(&unit.name),
            None => Some(unit.task),
        }
    }

    /// Why the outputs of an item are not its own: what lies there is another task's, or the user's.
    pub fn foreign(&self, unit: &Unit) -> Option<Failure> {
        let id = self.in_graph(unit).filter(|_| unit.key.is_some())?;
        judge(self.project, self.store, &self.index, &self.finder, &|_| None).is_foreign(&self.graph, id)
    }

    /// The keys of a fan-out's items.
    pub fn declared_keys(&self, family: TaskId) -> Vec<String> {
        let instances = self.graph.instances(family).iter();
        instances.filter_map(|&id| Some(self.graph[id].item.as_ref()?.key.clone())).collect()
    }

    /// The item of a fan-out's list that has a key.
    fn declared(&self, family: TaskId, key: &str) -> Option<TaskId> {
        self.graph.find(&format!("{}[{key}]", self.project.graph[family].name))
    }

    /// The keys, among those that are `wanted`, of items that have sidecars and are not declared now.
    fn former_keys(&self, family: TaskId, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, FsError> {
        let task = &self.project.graph[family];
        let Some(pattern) = task.outputs.first() else { return Ok(Vec::new()) };
        let mut keys = Vec::new();
        // The graph without instances produces none of them by name, so all are told.
        for first in self.finder.former_items(&self.project.graph, task)? {
            let Some(key) = pattern::key_of(pattern, &first) else { continue };
            if !wanted(key) || self.declared(family, key).is_some() {
                continue;
            }
            // Of two fan-outs whose patterns overlap, the record says whose it is.
            let recorded = self.store.recorded_task(&first);
            let of_another = recorded
                .as_deref()
                .and_then(|name| name.split_once('['))
                .is_some_and(|(name, _)| name != task.name && self.project.graph.find(name).is_some());
            if !of_another {
                keys.push(key.to_owned());
            }
        }
        Ok(keys)
    }

    /// What reads what the parts write, and what reads that, and so on; the parts themselves are left out.
    /// Order alone (`after`) does not count.
    pub fn downstream(&self, parts: &[Part]) -> Vec<Part> {
        let mut seen: BTreeSet<Part> = BTreeSet::new();
        let mut open: Vec<Part> = parts.to_vec();
        while let Some(part) = open.pop() {
            if seen.contains(&(part.0, None)) || !seen.insert(part.clone()) {
                continue;
            }
            open.extend(self.readers(&part));
        }
        for part in parts {
            seen.remove(part);
        }
        let covered: Vec<Part> =
            seen.iter().filter(|(id, key)| key.is_some() && seen.contains(&(*id, None))).cloned().collect();
        covered.iter().for_each(|part| {
            seen.remove(part);
        });
        let mut found: Vec<Part> = seen.into_iter().collect();
        found.sort_by_key(|(id, _)| self.project.graph[*id].step);
        found
    }

    /// What reads a file of a part directly.
    pub fn readers(&self, (id, key): &Part) -> Vec<Part> {
        let graph = &self.project.graph;
        let outputs = &graph[*id].outputs;
        let writes = |wanted: &str| outputs.iter().any(|output| pattern::could_match(wanted, output));
        let mut found = Vec::new();
        for &reader in &graph[*id].readers {
            let spec = self.project.spec(&graph[reader]);
            let items =
                spec.foreach.as_ref().and_then(|foreach| foreach.file.as_ref().or(foreach.glob.as_ref()));
            let peer = graph.is_peer(reader, *id);
            let inputs = graph[reader].inputs.iter().filter(|input| writes(&input.pattern));
            let (keyed, whole): (Vec<_>, Vec<_>) =
                inputs.partition(|input| peer && pattern::has_key(&input.pattern));
            if !whole.is_empty() || items.is_some_and(|items| writes(items)) {
                found.push((reader, None));
            } else if !keyed.is_empty() {
                found.push((reader, key.clone()));
            }
        }
        if let (Some(key), true) = (key, graph.is_sequential(*id)) {
            match self.declared(*id, key) {
                Some(one) => {
                    let waiters = self.graph[one].waiters.iter();
                    let next = waiters.filter(|need| need.why == Why::Previous).map(|need| need.task);
                    found.extend(
                        next.filter_map(|next| {
                            Some((*id, Some(self.graph[next].item.as_ref()?.key.clone())))
                        }),
                    );
                }
                None => found.push((*id, None)),
            }
        }
        found
    }

    /// The parts named, a message for one that does not exist.
    pub fn check(&self, named: &Named) -> Result<Part, Message> {
        let task = &self.project.graph[named.task];
        let part = (named.task, named.key.clone());
        let Some(key) = &named.key else { return Ok(part) };
        if task.kind != Kind::Family {
            return Err(format!("`{}` has no items: it is one task", task.name).into());
        }
        if self.of(&part).is_ok_and(|units| !units.is_empty()) {
            return Ok(part);
        }
        let known = self.of(&(named.task, None)).unwrap_or_default();
        let keys: Vec<&str> = known.iter().filter_map(|unit| unit.key.as_deref()).collect();
        let near = planexe_pipeline::manifest::suggest(key, keys.to_vec());
        let hint = near.or_else(|| planexe_pipeline::manifest::diagnostic::list_of(keys)).unwrap_or_default();
        Err(match self.unknown.get(&named.task) {
            Some(failure) => failure.message.clone().about(format!(
                "`{}` has no item `{key}` with files, and its items cannot be known now",
                task.name
            )),
            None if hint.is_empty() => format!("`{}` has no items", task.name).into(),
            None => format!("`{}` has no item `{key}`; {hint}", task.name).into(),
        })
    }

    /// Outputs of tasks and items that are no longer declared. Only what has a record counts: a file of the
    /// user's that happens to be called `notes.DONE` is none. What lies in a run of its own is left to it.
    pub fn orphans(&self) -> Result<Vec<Orphan>, FsError> {
        // The tasks of trials are in no pipeline that is written down.
        if self.project.holds_trials() {
            return Ok(Vec::new());
        }
        let mut firsts: BTreeSet<String> = self.finder.orphans(&self.graph, "")?.into_iter().collect();
        for &id in self.graph.order() {
            // Items that cannot be known now may well come back.
            if !self.unknown.contains_key(&id) && self.graph[id].kind == Kind::Family {
                firsts.extend(self.finder.former_items(&self.graph, &self.graph[id])?);
            }
        }
        let store = self.store;
        let mut orphans = Vec::new();
        for first in firsts {
            let Some(task) = store.recorded_task(&first) else { continue };
            if in_other_run(store, &first) {
                continue;
            }
            let mut outputs = self.finder.recorded_outputs(&first);
            outputs.retain(|output| self.graph.producer(output).is_none());
            if let Some(at) = outputs.iter().position(|output| *output == first) {
                outputs.swap(0, at);
                orphans.push(Orphan { task, outputs });
            }
        }
        Ok(orphans)
    }
}

/// Whether a path lies in a folder below the run directory that is a run itself.
fn in_other_run(store: &Store, path: &str) -> bool {
    let is_run = |folder: &str| {
        [".planexe", "run.toml", "pipeline.toml"]
            .iter()
            .any(|name| fs::kind(&store.path(&format!("{folder}/{name}"))).ok().flatten().is_some())
    };
    path.match_indices('/').any(|(at, _)| is_run(&path[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_base::fs::Durability;
    use planexe_base::record::{State, Status};
    use planexe_pipeline::open::{self, Opened, Where, find_task};

    const PIPELINE: &str = r#"
[models.m]
api = "simulated"
[defaults]
model = "m"
[task.experts]
outputs = ["experts.json"]
prompt = "Name some."
[task.review]
foreach = { file = "experts.json", items = "/experts", key = "name" }
outputs = ["reviews/{{ key }}.txt"]
prompt = "{{ key }} says"
[task.short]
foreach = { file = "experts.json", items = "/experts", key = "name" }
inputs = ["reviews/{{ key }}.txt"]
outputs = ["short/{{ key }}.txt"]
prompt = "Shorter: {{ inputs[0].text }}"
[task.all]
inputs = { short = "short/*.txt" }
outputs = ["all.txt"]
template = "{{ short }}"
[task.after]
after = ["all"]
outputs = ["after.txt"]
command = "touch $out"
[task.group]
inputs = ["all.txt", "after.txt"]
"#;

    fn run() -> (tempfile::TempDir, Opened) {
        let dir = tempfile::tempdir().unwrap();
        fs::write_atomic(&dir.path().join("pipeline.toml"), PIPELINE.as_bytes(), Durability::Unsynced)
            .unwrap();
        let place = Where { run_dir: Some(dir.path().to_owned()), ..Where::default() };
        let opened = open::open(&place, false).unwrap();
        (dir, opened)
    }

    fn write(opened: &Opened, name: &str, text: &str) {
        let path = opened.store.path(name);
        fs::make_dirs(path.parent().unwrap(), Durability::Unsynced).unwrap();
        fs::write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
    }

    fn made(opened: &Opened, task: &str, output: &str) {
        write(opened, output, "made");
        opened.store.write_status(output, &Status::new(task, State::Failed), Durability::Unsynced).unwrap();
    }

    fn part(opened: &Opened, written: &str) -> Part {
        let named = find_task(&opened.project.graph, written).unwrap();
        (named.task, named.key)
    }

    fn names(units: &Units<'_>, parts: &[Part]) -> Vec<String> {
        units.of_all(parts.iter().cloned()).unwrap().into_iter().map(|unit| unit.name).collect()
    }

    #[test]
    fn items_are_known_by_their_list_or_by_their_files() {
        let (_dir, opened) = run();
        made(&opened, "review[cyd]", "reviews/cyd.txt");
        write(&opened, "reviews/mine.txt", "no record: not an item");
        let units = Units::new(&opened.project, &opened.store);
        assert_eq!(units.unknown.len(), 2);
        assert_eq!(names(&units, &[part(&opened, "review")]), ["review[cyd]"]);
        write(&opened, "experts.json", r#"{"experts": [{"name": "anna"}, {"name": "bob"}]}"#);
        let units = Units::new(&opened.project, &opened.store);
        assert_eq!(names(&units, &[part(&opened, "review")]), ["review[anna]", "review[bob]", "review[cyd]"]);
        assert_eq!(names(&units, &[part(&opened, "reviews/bob.txt")]), ["review[bob]"]);
        let named = |written| find_task(&opened.project.graph, written).unwrap();
        assert!(units.check(&named("review[cyd]")).is_ok());
        assert!(units.check(&named("review[ann]")).unwrap_err().text.contains("did you mean `anna`"));
        assert!(units.check(&named("all[x]")).unwrap_err().text.contains("no items"));
    }

    #[test]
    fn downstream_goes_item_by_item_and_not_by_order_alone() {
        let (_dir, opened) = run();
        write(&opened, "experts.json", r#"{"experts": [{"name": "anna"}, {"name": "bob"}]}"#);
        let units = Units::new(&opened.project, &opened.store);
        let below = |written: &str| {
            let below = units.downstream(&[part(&opened, written)]);
            names(&units, &below)
        };
        assert_eq!(below("review[anna]"), ["short[anna]", "all"]);
        assert_eq!(below("short"), ["all"]);
        assert_eq!(below("experts"), ["review[anna]", "review[bob]", "short[anna]", "short[bob]", "all"]);
        assert!(below("all").is_empty() && below("group").is_empty());
    }

    #[test]
    fn orphans_have_a_record_and_are_of_this_run() {
        let (_dir, opened) = run();
        made(&opened, "old", "old.txt");
        made(&opened, "review[gone]", "reviews/gone.txt");
        made(&opened, "x", "runs/other/x.txt");
        write(&opened, "runs/other/run.toml", "pipeline = \"../../pipeline.toml\"\n");
        write(&opened, "notes", "mine");
        write(&opened, "notes.DONE", "");
        let orphans = |opened: &Opened| -> Vec<String> {
            let units = Units::new(&opened.project, &opened.store);
            units.orphans().unwrap().into_iter().map(|orphan| orphan.task).collect()
        };
        // While the items cannot be known, none of them is gone.
        assert_eq!(orphans(&opened), ["old"]);
        write(&opened, "experts.json", r#"{"experts": []}"#);
        assert_eq!(orphans(&opened), ["old", "review[gone]"]);
    }
}
