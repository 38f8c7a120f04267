//! The graph of a build: tasks, the files they read and write, and what waits for what.
//!
//! It knows no TOML and no disk. Of a run's state it knows only which tasks are skipped, because their former files are
//! no outputs. Dependencies come from files: a task depends on the tasks whose outputs it reads. A fan-out is one
//! [`Kind::Family`] until its items are known; then [`Graph::add_instances`] adds one task per item.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use planexe_base::pattern;

mod connect;
mod nested;
mod taken;

use connect::Order;
use taken::Taken;
pub use taken::{Collision, Rival};

/// A task of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u32);

impl TaskId {
    /// Position in the graph's list of tasks.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What kind of node a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task with a recipe.
    Single,
    /// A task without one: a name for its inputs.
    Group,
    /// A task with `foreach`; its instances do the work.
    Family,
    /// One item of a family.
    Instance {
        /// The fan-out that this is an instance of.
        family: TaskId,
    },
}

/// Whether a task's name is that of an instance.
pub fn is_item(name: &str) -> bool {
    name.ends_with(']')
}

/// An item of a fan-out.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The key, fit for a file name.
    pub key: String,
    /// Position in the list, from 0.
    pub index: usize,
    /// The item's data, as templates see it.
    pub value: Value,
}

/// A file, or a glob of files, that a task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The name templates use.
    pub name: String,
    /// Path or glob relative to the run directory; of a family, `{{ key }}` may stand in it.
    pub pattern: String,
    /// Whether it is a glob.
    pub glob: bool,
    /// Whether it may be absent.
    pub optional: bool,
}

/// Why a task waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It reads a file the other writes.
    Reads,
    /// It reads such a file if there is one.
    MayRead,
    /// Named in `after`: it only orders the two tasks.
    After,
    /// It is the former item of a sequential fan-out.
    Previous,
    /// The other is a fan-out over the same items and must know them first.
    Expanded,
}

/// One thing a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The task waited for.
    pub task: TaskId,
    /// What makes one wait for the other.
    pub why: Why,
}

/// A node of the graph: a task, a fan-out, or one instance of it.
#[derive(Debug, Clone)]
pub struct Task {
    /// The name of the task, such as `swot` or `review[anna]`.
    pub name: String,
    /// Position of its declaration in the list the graph was built from.
    pub decl: usize,
    /// What kind of node it is.
    pub kind: Kind,
    /// The item of an instance.
    pub item: Option<Arc<Item>>,
    /// The files it reads, in the order of the pipeline.
    pub inputs: Vec<Input>,
    /// What it writes, relative to the run directory; of a family, patterns with `{{ key }}`.
    pub outputs: Vec<String>,
    /// What must be settled before it is judged; of a family, before its items are known.
    pub needs: Vec<Need>,
    /// Tasks that need it, directly or through their instances.
    pub readers: Vec<TaskId>,
    /// Tasks that have it in their `needs`, and why.
    pub waiters: Vec<Need>,
    /// Topological position, from 0; an instance has its family's.
    pub step: u32,
    /// Longest distance from a task without needs.
    pub level: u32,
}

impl Task {
    /// Notes a reader once; all the needs of one reader are noted in a row.
    fn note_reader(&mut self, reader: TaskId) {
        if self.readers.last() != Some(&reader) {
            self.readers.push(reader);
        }
    }
}

/// What every instance of a family waits for.
#[derive(Debug, Clone, Default)]
struct Shared {
    needs: Vec<Need>,
    /// Families over the same items whose instance of the same key is read, or may be.
    peers: Vec<Need>,
    sequential: bool,
    instances: Vec<TaskId>,
    /// Whether all its items are known and are among `instances`.
    complete: bool,
}

/// A task as declared, ready to be put into a graph: paths are normal, variables are filled in.
#[derive(Debug, Clone, Default)]
pub struct Decl {
    /// The name of the task, such as `swot` or `review[anna]`.
    pub name: String,
    /// Whether it does anything.
    pub recipe: bool,
    /// The files it reads, in the order of the pipeline.
    pub inputs: Vec<Input>,
    /// The files it writes; sidecars stand beside the first.
    pub outputs: Vec<String>,
    /// Names of tasks to be settled before it.
    pub after: Vec<String>,
    /// What it runs over, if it is a fan-out.
    pub foreach: Option<ForeachDecl>,
    /// Whether the instances run in order.
    pub sequential: bool,
}

/// What a fan-out runs over. Two tasks with equal ones depend item by item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeachDecl {
    /// A path, or a glob.
    pub source: String,
    /// Whether `source` is a glob.
    pub glob: bool,
    /// Anything else that decides the items (pointer, key, batch), as text.
    pub rest: String,
}

/// A path of a declaration.
pub type Place = (usize, Role);

/// What a path is to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The n-th output.
    Output(usize),
    /// The n-th input.
    Input(usize),
    /// What a fan-out runs over.
    Items,
}

/// A fault that only shows when tasks are put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Two tasks write one file.
    DuplicateOutput {
        /// (declaration, output) of the first.
        first: (usize, usize),
        /// (declaration, output) of the second.
        second: (usize, usize),
        /// Whether they differ in case only.
        case_only: bool,
    },
    /// A path is a file to one task, and to another a folder with files in it.
    FileAndFolder {
        /// Whose path it is.
        file: Place,
        /// Whose path lies below it.
        folder: Place,
    },
    /// Tasks that wait for one another.
    Cycle {
        /// The declarations on the cycle: each waits for the one before it, the first for the last.
        decls: Vec<usize>,
    },
}

/// Declarations that make no graph, and why.
#[derive(Debug)]
pub struct Faulty {
    /// What they make all the same: good for looking things up, not for building.
    pub graph: Graph,
    /// What is wrong with them.
    pub faults: Vec<Fault>,
}

/// Tasks and what waits for what. A copy shares what neither changes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    tasks: Vec<Arc<Task>>,
    by_name: Arc<HashMap<String, TaskId>>,
    producers: Arc<HashMap<String, TaskId>>,
    shared: HashMap<TaskId, Shared>,
    /// Declared tasks in topological order.
    order: Arc<[TaskId]>,
    /// Tasks found to be skipped.
    skipped: HashSet<TaskId>,
    /// Who writes what; only once there are items.
    taken: Option<Arc<Taken>>,
}

impl Graph {
    /// Puts declarations together. All faults are found in one go.
    pub fn build(decls: Vec<Decl>) -> Result<Graph, Box<Faulty>> {
        let mut graph = Graph::default();
        let nested = nested::files_that_are_folders(&decls);
        let (orders, mut faults) = graph.declare(decls);
        faults.extend(nested);
        graph.connect(&orders);
        faults.extend(graph.sort().into_iter().map(|decls| Fault::Cycle { decls }));
        if faults.is_empty() { Ok(graph) } else { Err(Box::new(Faulty { graph, faults })) }
    }

    /// Adds a node per declaration and finds out who writes what. What else was declared is given back.
    fn declare(&mut self, decls: Vec<Decl>) -> (Vec<Order>, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut orders = Vec::with_capacity(decls.len());
        // Who writes what, by names in lower case where those are others than in `producers`.
        let mut written: HashMap<String, TaskId> = HashMap::new();
        let mut producers: HashMap<String, TaskId> = HashMap::with_capacity(decls.len());
        let mut by_name = HashMap::with_capacity(decls.len());
        self.tasks.reserve(decls.len());
        for (d, decl) in decls.into_iter().enumerate() {
            let id = TaskId(self.tasks.len() as u32);
            let kind = match (&decl.foreach, decl.recipe) {
                (Some(_), _) => Kind::Family,
                (None, true) => Kind::Single,
                (None, false) => Kind::Group,
            };
            for (o, output) in decl.outputs.iter().enumerate() {
                let folded = pattern::fold_case(output);
                if let Some(first) = written.get(&*folded).or_else(|| producers.get(&*folded)) {
                    let first = first.index();
                    let earlier = if first == d { &decl.outputs } else { &self.tasks[first].outputs };
                    let at = earlier.iter().position(|path| pattern::fold_case(path) == folded).unwrap_or(0);
                    let case_only = earlier[at] != *output;
                    faults.push(Fault::DuplicateOutput { first: (first, at), second: (d, o), case_only });
                    continue;
                }
                let is_single = kind != Kind::Family;
                if !is_single || *folded != **output {
                    written.insert(folded.into_owned(), id);
                }
                if is_single {
                    producers.insert(output.clone(), id);
                }
            }
            if kind == Kind::Family {
                self.shared.insert(id, Shared { sequential: decl.sequential, ..Shared::default() });
            }
            by_name.insert(decl.name.clone(), id);
            orders.push(Order { after: decl.after, foreach: decl.foreach });
            self.tasks.push(Arc::new(Task {
                name: decl.name,
                decl: d,
                kind,
                item: None,
                inputs: decl.inputs,
                outputs: decl.outputs,
                needs: Vec::new(),
                readers: Vec::new(),
                waiters: Vec::new(),
                step: 0,
                level: 0,
            }));
        }
        self.producers = Arc::new(producers);
        self.by_name = Arc::new(by_name);
        (orders, faults)
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Task {
        Arc::make_mut(&mut self.tasks[id.index()])
    }

    /// The tasks a task waits for directly, of a family also those its instances wait for.
    pub fn direct_needs(&self, id: TaskId) -> Vec<TaskId> {
        match self[id].kind {
            Kind::Instance { family } => {
                let mut needs: Vec<TaskId> = self[id].needs.iter().map(|need| need.task).collect();
                needs.push(family);
                needs
            }
            _ => self.all_needs(id),
        }
    }

    /// Adds the instances of a family, in the order of their items. Once per family.
    /// `complete` says whether these are all of them.
    pub fn add_instances(&mut self, family: TaskId, items: Vec<Item>, complete: bool) -> Vec<TaskId> {
        let mut added: Vec<TaskId> = Vec::with_capacity(items.len());
        let shared = self.shared.get(&family).cloned().unwrap_or_default();
        let parent = self[family].clone();
        let by_key: Vec<HashMap<&str, TaskId>> = shared
            .peers
            .iter()
            .map(|peer| {
                let list = self.instances(peer.task).iter();
                list.filter_map(|&id| Some((self[id].item.as_ref()?.key.as_str(), id))).collect()
            })
            .collect();
        let mut new = Vec::with_capacity(items.len());
        for item in items {
            let id = TaskId((self.tasks.len() + new.len()) as u32);
            let mut needs = shared.needs.clone();
            for (peer, keys) in shared.peers.iter().zip(&by_key) {
                let task = keys.get(item.key.as_str()).copied().unwrap_or(peer.task);
                needs.push(Need { task, why: peer.why });
            }
            if let (true, Some(&task)) = (shared.sequential, added.last()) {
                needs.push(Need { task, why: Why::Previous });
            }
            let fill = |text: &String| pattern::fill_key(text, &item.key);
            new.push(Arc::new(Task {
                name: format!("{}[{}]", parent.name, item.key),
                decl: parent.decl,
                kind: Kind::Instance { family },
                inputs: parent
                    .inputs
                    .iter()
                    .map(|input| Input { pattern: fill(&input.pattern), ..input.clone() })
                    .collect(),
                outputs: parent.outputs.iter().map(fill).collect(),
                item: Some(Arc::new(item)),
                needs,
                readers: Vec::new(),
                waiters: Vec::new(),
                step: parent.step,
                level: parent.level,
            }));
            added.push(id);
        }
        self.tasks.extend(new);
        let (producers, by_name) = (Arc::make_mut(&mut self.producers), Arc::make_mut(&mut self.by_name));
        for &id in &added {
            let task = &self.tasks[id.index()];
            producers.extend(task.outputs.iter().map(|output| (output.clone(), id)));
            by_name.insert(task.name.clone(), id);
            for need in task.needs.clone() {
                let needed = Arc::make_mut(&mut self.tasks[need.task.index()]);
                needed.readers.push(id);
                needed.waiters.push(Need { task: id, why: need.why });
            }
        }
        if let Some(shared) = self.shared.get_mut(&family) {
            shared.instances = added.clone();
            shared.complete = complete;
        }
        let mut taken = self.taken.take().unwrap_or_else(|| Arc::new(Taken::from_graph(self)));
        let all = Arc::make_mut(&mut taken);
        added.iter().for_each(|&id| all.add(self, id));
        self.taken = Some(taken);
        added
    }

    /// What stands against an item: another output that is one with an output of it, as far as items are known.
    pub fn rival(&self, id: TaskId) -> Option<&Rival> {
        self.taken.as_ref()?.rival(id)
    }

    /// Whether a task may yet write a path: it is one of its outputs, or could be one of an item that is not known.
    pub fn may_write(&self, id: TaskId, name: &str, path: &str) -> bool {
        let is_complete = self.shared.get(&id).is_some_and(|shared| shared.complete);
        let writes = self[id].outputs.iter().any(|output| pattern::could_match(path, output));
        writes && (!is_complete || self.find(name).is_some())
    }

    /// The instances of a family, as far as known.
    pub fn instances(&self, family: TaskId) -> &[TaskId] {
        self.shared.get(&family).map_or(&[], |shared| &shared.instances)
    }

    /// Whether another family is over the same items, and each instance of the family reads its instance of the
    /// same key, or may.
    pub fn is_peer(&self, family: TaskId, other: TaskId) -> bool {
        self.shared.get(&family).is_some_and(|shared| shared.peers.iter().any(|peer| peer.task == other))
    }

    /// Says whether a task was found to be skipped.
    pub fn set_skipped(&mut self, id: TaskId, skipped: bool) {
        if skipped {
            self.skipped.insert(id);
        } else if !self.skipped.is_empty() {
            self.skipped.remove(&id);
        }
    }

    /// Whether a task was found to be skipped: what it wrote before is no input of others.
    pub fn is_skipped(&self, id: TaskId) -> bool {
        self.skipped.contains(&id)
    }

    /// Whether a path is an output of a task that was found to be skipped; of a skipped fan-out, of any item it had.
    pub fn is_of_skipped(&self, path: &str) -> bool {
        if self.skipped.is_empty() {
            return false;
        }
        match self.producer(path) {
            Some(id) => self.is_skipped(id),
            None => self.skipped.iter().any(|&id| {
                self[id].kind == Kind::Family
                    && self[id].outputs.iter().any(|output| pattern::could_match(path, output))
            }),
        }
    }

    /// Whether the instances of a family run in order, each reading what the former made.
    pub fn is_sequential(&self, family: TaskId) -> bool {
        self.shared.get(&family).is_some_and(|shared| shared.sequential)
    }

    /// The ids of all tasks, instances included.
    pub fn ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..self.tasks.len() as u32).map(TaskId)
    }

    /// Number of tasks, families and instances counted alike.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Declared tasks in topological order; instances are not among them.
    pub fn order(&self) -> &[TaskId] {
        &self.order
    }

    /// The task of a name, exactly.
    pub fn find(&self, name: &str) -> Option<TaskId> {
        self.by_name.get(name).copied()
    }

    /// The task that writes a path.
    pub fn producer(&self, path: &str) -> Option<TaskId> {
        self.producers.get(path).copied()
    }

    /// Whether a path is, or could be, written by a task: of a fan-out whose items are all known, only
    /// by one of them.
    pub fn is_produced(&self, path: &str) -> bool {
        self.producers.contains_key(path)
            || self.shared.iter().filter(|(_, shared)| !shared.complete).any(|(&family, _)| {
                self[family].outputs.iter().any(|output| pattern::could_match(path, output))
            })
    }

    /// The tasks and all they need, as a mask over [`Graph::ids`].
    pub fn upstream(&self, of: &[TaskId]) -> Vec<bool> {
        // Often all are asked for, in their order: then nothing is left to find.
        if of.len() == self.tasks.len() && of.iter().zip(self.ids()).all(|(&of, id)| of == id) {
            return vec![true; of.len()];
        }
        self.closure(of, |graph, id, next| match graph[id].kind {
            Kind::Single | Kind::Group => next.extend(graph[id].needs.iter().map(|need| need.task)),
            Kind::Family | Kind::Instance { .. } => next.extend(graph.direct_needs(id)),
        })
    }

    /// The tasks and all that need them, as a mask over [`Graph::ids`].
    pub fn downstream(&self, of: &[TaskId]) -> Vec<bool> {
        self.lost_with(of, |_| false)
    }

    /// The tasks and all that cannot be made without them, where a fan-out `can_spare` an instance.
    pub fn lost_with(&self, of: &[TaskId], can_spare: impl Fn(TaskId) -> bool) -> Vec<bool> {
        self.closure(of, |graph, id, next| {
            next.extend(&graph[id].readers);
            match graph[id].kind {
                // A reader of the fan-out as a whole needs each instance; one over the same items its own.
                Kind::Instance { family } if can_spare(family) => {}
                Kind::Instance { family } => {
                    let item_by_item = |&reader: &TaskId| {
                        graph.is_peer(reader, family) && !graph.instances(reader).is_empty()
                    };
                    next.extend(graph[family].readers.iter().copied().filter(|reader| !item_by_item(reader)));
                }
                Kind::Family => next.extend(graph.instances(id)),
                _ => {}
            }
        })
    }

    /// The tasks and what follows, where `next` puts what follows from one on a stack.
    fn closure(&self, of: &[TaskId], next: impl Fn(&Graph, TaskId, &mut Vec<TaskId>)) -> Vec<bool> {
        let mut seen = vec![false; self.tasks.len()];
        let mut stack: Vec<TaskId> = of.to_vec();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut seen[id.index()], true) {
                next(self, id, &mut stack);
            }
        }
        seen
    }
}

impl std::ops::Index<TaskId> for Graph {
    type Output = Task;
    fn index(&self, id: TaskId) -> &Task {
        &self.tasks[id.index()]
    }
}
