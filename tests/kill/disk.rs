//! What a power cut leaves of a folder: only what was synced is sure to be there.
//!
//! Contents and names are held apart, as file systems do. A file's content is sure once the file was
//! synced; a name (given, taken away, changed) once its folder was. What is not sure may be lost, kept,
//! or kept in part, each thing by itself: that is harder than any file system in use.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A change, with paths relative to the folder.
#[derive(Debug, Clone)]
pub enum Change {
    /// A file is made, if it is not there.
    Create(String),
    /// A file's content changes.
    Write(String),
    /// A file's content, or the names in a folder, are synced.
    Sync(String),
    /// All contents and names are synced.
    SyncAll,
    /// A name takes another's place.
    Rename(String, String),
    /// A file gets a second name.
    Link(String, String),
    /// A name goes.
    Remove(String),
    /// A folder is made.
    MakeDir(String),
}

/// The files of a folder, with their permissions; folders have no content.
pub type Tree = BTreeMap<PathBuf, Option<(Vec<u8>, u32)>>;

/// Reads a folder.
pub fn read_tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let relative = path.strip_prefix(folder).expect("a path in it").to_owned();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                tree.insert(relative, None);
                open.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                tree.insert(relative, Some((bytes, metadata.permissions().mode())));
            }
        }
    }
    tree
}

/// Makes a folder hold this and nothing else.
pub fn write_tree(folder: &Path, tree: &Tree) {
    for entry in fs::read_dir(folder).expect("the folder").flatten() {
        let path = entry.path();
        let gone = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        gone.expect("to empty the folder");
    }
    for (path, content) in tree {
        let path = folder.join(path);
        match content {
            None => fs::create_dir_all(&path).expect("a folder"),
            Some((bytes, mode)) => {
                fs::write(&path, bytes).expect("a file");
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("its mode");
            }
        }
    }
}

/// What becomes of what is not sure.
pub trait Fate {
    /// Whether a change to names, by its number, is kept.
    fn keeps(&mut self, number: usize) -> bool;
    /// What is left of a content, given what of it is sure.
    fn content(&mut self, sure: &[u8], last: &[u8]) -> Vec<u8>;
}

/// All names are kept, contents are lost.
pub struct ContentsLost;

impl Fate for ContentsLost {
    fn keeps(&mut self, _: usize) -> bool {
        true
    }

    fn content(&mut self, sure: &[u8], _: &[u8]) -> Vec<u8> {
        sure.to_vec()
    }
}

/// Names and contents are lost.
pub struct AllLost;

impl Fate for AllLost {
    fn keeps(&mut self, _: usize) -> bool {
        false
    }

    fn content(&mut self, sure: &[u8], _: &[u8]) -> Vec<u8> {
        sure.to_vec()
    }
}

/// Names are kept or lost, contents lost, kept, cut or full of zeros, as a seed has it.
pub struct Seeded(pub u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Fate for Seeded {
    fn keeps(&mut self, _: usize) -> bool {
        self.next().is_multiple_of(2)
    }

    fn content(&mut self, sure: &[u8], last: &[u8]) -> Vec<u8> {
        fated(self.next() % 4, sure, last)
    }
}

/// All fates, one after the other: each name kept or lost; each content lost, kept, cut or full of zeros.
#[derive(Debug, Default)]
pub struct Every {
    /// What was chosen, of how many.
    choices: Vec<(u8, u8)>,
    next: usize,
}

impl Every {
    fn choose(&mut self, of: u8) -> u8 {
        if self.next == self.choices.len() {
            self.choices.push((0, of));
        }
        self.next += 1;
        self.choices[self.next - 1].0
    }

    /// How many fates there are, as far as those seen last tell.
    pub fn count(&self) -> u64 {
        self.choices.iter().fold(1, |all, &(_, of)| all.saturating_mul(of.into()))
    }

    /// Goes on to the next; false if there is none.
    pub fn advance(&mut self) -> bool {
        self.choices.truncate(self.next);
        self.next = 0;
        while let Some((chosen, of)) = self.choices.pop() {
            if chosen + 1 < of {
                self.choices.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

impl Fate for Every {
    fn keeps(&mut self, _: usize) -> bool {
        self.choose(2) == 0
    }

    fn content(&mut self, sure: &[u8], last: &[u8]) -> Vec<u8> {
        if sure == last {
            return sure.to_vec();
        }
        let of = if last.is_empty() { 2 } else { 4 };
        fated(self.choose(of).into(), sure, last)
    }
}

/// A content as one of four fates leaves it: as it was when it was sure, whole, cut, or full of zeros.
fn fated(choice: u64, sure: &[u8], last: &[u8]) -> Vec<u8> {
    let from = if last.starts_with(sure) { sure.len() } else { 0 };
    match choice {
        0 => sure.to_vec(),
        1 => last.to_vec(),
        2 => last[..from + (last.len() - from) / 2].to_vec(),
        _ => [&last[..from], &vec![0; last.len() - from]].concat(),
    }
}

#[derive(Debug, Clone)]
enum Node {
    Folder,
    File { sure: Vec<u8>, dirty: bool, last: Vec<u8>, mode: u32 },
}

/// A name that is given to a node or taken away.
#[derive(Debug, Clone)]
struct Edit {
    number: usize,
    folder: usize,
    name: String,
    node: Option<usize>,
    sure: bool,
}

/// A folder on a disk that may lose its power.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    /// Paths as programs see them.
    live: HashMap<String, usize>,
    /// Names at the start, all of them sure.
    start: BTreeMap<(usize, String), usize>,
    edits: Vec<Edit>,
    changes: usize,
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Disk {
    /// A disk of which nothing is known.
    pub fn empty(root: &Path) -> Disk {
        Disk {
            root: root.to_owned(),
            nodes: vec![Node::Folder],
            live: HashMap::from([(String::new(), 0)]),
            start: BTreeMap::new(),
            edits: Vec::new(),
            changes: 0,
        }
    }

    /// A folder that holds `tree`, all of it sure.
    pub fn new(root: &Path, tree: &Tree) -> Disk {
        let mut disk = Disk::empty(root);
        for (path, content) in tree {
            let path = path.to_string_lossy().into_owned();
            let id = disk.nodes.len();
            disk.nodes.push(match content {
                None => Node::Folder,
                Some((bytes, mode)) => {
                    Node::File { sure: bytes.clone(), dirty: false, last: Vec::new(), mode: *mode }
                }
            });
            let (folder, name) = split(&path);
            disk.start.insert((disk.live[folder], name.to_owned()), id);
            disk.live.insert(path, id);
        }
        disk
    }

    fn edit(&mut self, path: &str, node: Option<usize>) {
        let (folder, name) = split(path);
        // The end of its own making may be heard of later, if another thread made it.
        let Some(folder) = self.node(folder) else { return };
        let number = self.changes;
        self.edits.push(Edit { number, folder, name: name.to_owned(), node, sure: false });
    }

    /// The node of a path; one that others made is taken in as not sure at all.
    fn node(&mut self, path: &str) -> Option<usize> {
        if let Some(&id) = self.live.get(path) {
            return Some(id);
        }
        let metadata = fs::symlink_metadata(self.root.join(path)).ok()?;
        Some(self.add(path, metadata.is_dir(), metadata.permissions().mode()))
    }

    fn add(&mut self, path: &str, folder: bool, mode: u32) -> usize {
        let id = self.nodes.len();
        self.nodes.push(if folder {
            Node::Folder
        } else {
            Node::File { sure: Vec::new(), dirty: true, last: Vec::new(), mode }
        });
        self.edit(path, Some(id));
        self.live.insert(path.to_owned(), id);
        id
    }

    fn look(&mut self, id: usize, path: &str) {
        if let Node::File { last, dirty: true, mode, .. } = &mut self.nodes[id] {
            let path = self.root.join(path);
            if let Ok(bytes) = fs::read(&path) {
                *last = bytes;
            }
            if let Ok(metadata) = path.metadata() {
                *mode = metadata.permissions().mode();
            }
        }
    }

    /// Before a change is carried out: what is about to go is looked at once more.
    pub fn before(&mut self, change: &Change) {
        match change {
            Change::Create(path) => drop(self.node(path)),
            Change::Rename(from, to) => {
                self.node(from);
                if let Some(id) = self.live.get(to).copied() {
                    self.look(id, to);
                }
            }
            Change::Remove(path) => {
                if let Some(id) = self.node(path) {
                    self.look(id, path);
                }
            }
            _ => {}
        }
    }

    /// After a change was carried out.
    pub fn after(&mut self, change: Change) {
        self.changes += 1;
        match change {
            Change::Create(path) => {
                if !self.live.contains_key(&path) {
                    self.add(&path, false, 0o644);
                }
            }
            Change::MakeDir(path) => {
                if !self.live.contains_key(&path) {
                    self.add(&path, true, 0);
                }
            }
            Change::Write(path) => {
                if let Some(id) = self.node(&path)
                    && let Node::File { dirty, .. } = &mut self.nodes[id]
                {
                    *dirty = true;
                }
            }
            Change::Sync(path) => {
                let Some(id) = self.node(&path) else { return };
                match &mut self.nodes[id] {
                    Node::Folder => {
                        for edit in self.edits.iter_mut().filter(|edit| edit.folder == id) {
                            edit.sure = true;
                        }
                    }
                    Node::File { sure, dirty, .. } => {
                        if let Ok(bytes) = fs::read(self.root.join(&path)) {
                            (*sure, *dirty) = (bytes, false);
                        }
                    }
                }
            }
            Change::SyncAll => self.sync_all(),
            Change::Rename(from, to) => {
                let Some(id) = self.live.remove(&from) else { return };
                self.edit(&from, None);
                self.edit(&to, Some(id));
                self.live.insert(to, id);
            }
            Change::Link(from, to) => {
                let Some(id) = self.node(&from) else { return };
                self.edit(&to, Some(id));
                self.live.insert(to, id);
            }
            Change::Remove(path) => {
                self.edit(&path, None);
                self.live.remove(&path);
            }
        }
    }

    fn sync_all(&mut self) {
        self.take_in_all();
        let live: Vec<_> = self.live.iter().map(|(path, &id)| (path.clone(), id)).collect();
        for (path, id) in live {
            // What another thread is renaming just now may have its new name already: it is as sure as it was.
            if let Node::File { sure, dirty, .. } = &mut self.nodes[id]
                && let Ok(bytes) = fs::read(self.root.join(&path))
            {
                (*sure, *dirty) = (bytes, false);
            }
        }
        self.edits.iter_mut().for_each(|edit| edit.sure = true);
    }

    /// What programs that were not traced made.
    fn take_in_all(&mut self) {
        let seen: Vec<_> = read_tree(&self.root).into_keys().collect();
        for path in seen {
            self.node(&path.to_string_lossy());
        }
    }

    /// Cuts the power: what is left of the folder.
    pub fn cut(mut self, fate: &mut dyn Fate) -> Tree {
        self.take_in_all();
        let live: Vec<_> = self.live.iter().map(|(path, &id)| (path.clone(), id)).collect();
        for (path, id) in live {
            self.look(id, &path);
        }
        let mut names = self.start.clone();
        let mut kept: HashMap<usize, bool> = HashMap::new();
        for edit in &self.edits {
            if edit.sure || *kept.entry(edit.number).or_insert_with(|| fate.keeps(edit.number)) {
                let key = (edit.folder, edit.name.clone());
                match edit.node {
                    Some(node) => drop(names.insert(key, node)),
                    None => drop(names.remove(&key)),
                }
            }
        }
        let mut tree = Tree::new();
        let mut contents: HashMap<usize, Vec<u8>> = HashMap::new();
        let mut open = vec![(0, PathBuf::new())];
        while let Some((folder, path)) = open.pop() {
            let inside = names.range((folder, String::new())..(folder + 1, String::new()));
            for ((_, name), &id) in inside {
                let path = path.join(name);
                match &self.nodes[id] {
                    Node::Folder => {
                        tree.insert(path.clone(), None);
                        open.push((id, path));
                    }
                    Node::File { sure, dirty, last, mode } => {
                        let content = contents
                            .entry(id)
                            .or_insert_with(|| if *dirty { fate.content(sure, last) } else { sure.clone() });
                        tree.insert(path, Some((content.clone(), *mode)));
                    }
                }
            }
        }
        tree
    }
}
