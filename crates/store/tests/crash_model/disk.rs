//! A disk that may lose what was not synced.

use std::collections::{BTreeMap, HashMap};

use super::random::Rng;

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) now: Vec<u8>,
    pub(super) sure: Vec<u8>,
    pub(super) dirty: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) change: usize,
    pub(super) path: String,
    pub(super) node: Option<usize>,
    pub(super) sure: bool,
}

/// Files by path; contents are sure once synced, names once their folder is.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) nodes: Vec<Node>,
    pub(super) live: BTreeMap<String, usize>,
    pub(super) sure: BTreeMap<String, usize>,
    pub(super) edits: Vec<Edit>,
    pub(super) changes: usize,
}

pub(super) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Disk {
    pub(super) fn read(&self, path: &str) -> Option<&[u8]> {
        self.live.get(path).map(|&id| self.nodes[id].now.as_slice())
    }

    pub(super) fn name(&mut self, path: &str, node: Option<usize>) {
        match node {
            Some(id) => drop(self.live.insert(path.to_owned(), id)),
            None => drop(self.live.remove(path)),
        }
        self.edits.push(Edit { change: self.changes, path: path.to_owned(), node, sure: false });
    }

    pub(super) fn open(&mut self, path: &str) -> &mut Node {
        let id = match self.live.get(path) {
            Some(&id) => id,
            None => {
                self.nodes.push(Node::default());
                let id = self.nodes.len() - 1;
                self.name(path, Some(id));
                id
            }
        };
        let node = &mut self.nodes[id];
        node.dirty = true;
        node
    }

    pub(super) fn carry_out(&mut self, step: &Step) {
        self.changes += 1;
        match step {
            Step::Put(path, bytes) => self.open(path).now.clone_from(bytes),
            Step::Append(path, bytes) => self.open(path).now.extend(bytes),
            Step::Sync(path) => {
                if let Some(&id) = self.live.get(path) {
                    let node = &mut self.nodes[id];
                    node.sure.clone_from(&node.now);
                    node.dirty = false;
                }
            }
            Step::SyncAll => {
                for node in &mut self.nodes {
                    node.sure.clone_from(&node.now);
                    node.dirty = false;
                }
                self.edits.iter_mut().for_each(|edit| edit.sure = true);
            }
            Step::SyncFolder(path) => {
                for edit in self.edits.iter_mut().filter(|edit| folder(&edit.path) == path) {
                    edit.sure = true;
                }
            }
            Step::Move(from, to) => {
                let id = self.live.get(from).copied();
                self.name(from, None);
                self.name(to, id);
            }
            Step::Remove(path) => {
                if self.live.contains_key(path) {
                    self.name(path, None);
                }
            }
            Step::Ask | Step::Kept => {}
        }
    }

    /// A write that was under way may have come through in part.
    pub(super) fn tear(&mut self, step: &Step) {
        match step {
            Step::Put(path, bytes) => {
                self.carry_out(&Step::Put(path.clone(), bytes[..bytes.len() / 2].to_vec()))
            }
            Step::Append(path, bytes) => {
                self.carry_out(&Step::Append(path.clone(), bytes[..bytes.len() / 2].to_vec()));
            }
            _ => {}
        }
    }

    /// The power goes: what is not sure is lost, kept, cut or full of zeros, each by itself.
    pub(super) fn cut(&mut self, rng: &mut Rng) {
        let mut names = self.sure.clone();
        let mut kept: HashMap<usize, bool> = HashMap::new();
        for edit in std::mem::take(&mut self.edits) {
            if edit.sure || *kept.entry(edit.change).or_insert_with(|| rng.chance(50)) {
                match edit.node {
                    Some(id) => drop(names.insert(edit.path, id)),
                    None => drop(names.remove(&edit.path)),
                }
            }
        }
        for node in self.nodes.iter_mut().filter(|node| node.dirty) {
            let from = if node.now.starts_with(&node.sure) { node.sure.len() } else { 0 };
            match rng.below(4) {
                0 => node.now.clone_from(&node.sure),
                1 => {}
                2 => node.now.truncate(from + (node.now.len() - from) / 2),
                _ => node.now[from..].fill(0),
            }
            node.sure.clone_from(&node.now);
            node.dirty = false;
        }
        self.live = names.clone();
        self.sure = names;
    }

    /// The start of a build: temporary files are swept.
    pub(super) fn sweep(&mut self) {
        let temps: Vec<_> = self.live.keys().filter(|path| path.contains(".tmp-")).cloned().collect();
        for path in temps {
            self.carry_out(&Step::Remove(path));
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Put(String, Vec<u8>),
    Append(String, Vec<u8>),
    Sync(String),
    SyncFolder(String),
    /// Every content and every name.
    SyncAll,
    Move(String, String),
    Remove(String),
    /// The call begins.
    Ask,
    /// From here on the answer is on disk for good.
    Kept,
}
