//! Which outputs the items of fan-outs share with one another and with other tasks: known only once their keys are.

use std::collections::HashMap;

use super::{Graph, Kind, TaskId};
use planexe_base::pattern;

/// What an output of an item is to another task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// The output of the item.
    pub output: String,
    /// The other task; the item itself if two of its outputs are one.
    pub other: TaskId,
    /// How the two collide.
    pub how: Collision,
}

/// How two outputs collide, case folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collision {
    /// They are one file.
    Same,
    /// The other's output is a folder of this one.
    Below,
    /// This one is a folder of the other's output.
    Above,
}

/// Who writes what, and below which folders, by names in lower case; without fan-outs whose items are not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    files: HashMap<String, TaskId>,
    folders: HashMap<String, TaskId>,
    rivals: HashMap<TaskId, Rival>,
}

impl Taken {
    /// The outputs of all tasks that have their names already.
    pub(super) fn from_graph(graph: &Graph) -> Taken {
        let mut taken = Taken::default();
        for id in graph.ids().filter(|&id| graph[id].kind == Kind::Single) {
            taken.add(graph, id);
        }
        taken
    }

    /// Adds the outputs of a task. Of two that collide each item is told.
    pub(super) fn add(&mut self, graph: &Graph, id: TaskId) {
        for output in &graph[id].outputs {
            let folded = pattern::fold_case(output).into_owned();
            if let Some(&other) = self.files.get(&folded) {
                self.collide(graph, id, output, other, Collision::Same);
            } else if let Some(&other) = self.folders.get(&folded) {
                self.collide(graph, id, output, other, Collision::Above);
            }
            for (at, _) in folded.rmatch_indices('/') {
                let folder = &folded[..at];
                if let Some(&other) = self.files.get(folder) {
                    self.collide(graph, id, output, other, Collision::Below);
                }
                // Those above it are known then.
                if self.folders.contains_key(folder) {
                    break;
                }
                self.folders.insert(folder.to_owned(), id);
            }
            self.files.entry(folded).or_insert(id);
        }
    }

    fn collide(&mut self, graph: &Graph, id: TaskId, output: &str, other: TaskId, how: Collision) {
        let is_item = |id: TaskId| matches!(graph[id].kind, Kind::Instance { .. });
        if is_item(other) && other != id {
            let seen_by_other = match how {
                Collision::Same => Collision::Same,
                Collision::Below => Collision::Above,
                Collision::Above => Collision::Below,
            };
            let near = |path: &&String| {
                let (path, output) = (pattern::fold_case(path), pattern::fold_case(output));
                path == output
                    || output.strip_prefix(&*path).is_some_and(|rest| rest.starts_with('/'))
                    || path.strip_prefix(&*output).is_some_and(|rest| rest.starts_with('/'))
            };
            let own = graph[other].outputs.iter().find(near).cloned().unwrap_or_default();
            self.rivals.entry(other).or_insert(Rival { output: own, other: id, how: seen_by_other });
        }
        if is_item(id) {
            self.rivals.entry(id).or_insert(Rival { output: output.to_owned(), other, how });
        }
    }

    pub(super) fn rival(&self, id: TaskId) -> Option<&Rival> {
        self.rivals.get(&id)
    }
}
