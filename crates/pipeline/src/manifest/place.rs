//! Where things stand: files read, key paths, and the tree of a manifest with a place for every
//! key and value. It knows nothing of what the keys mean.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

/// A range of bytes in one of the files read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceSpan {
    /// Index into [`Origin::sources`].
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A file that was read, with its text.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it held.
    pub text: Arc<str>,
    /// The folders that were listed for patterns of files to include.
    pub listed: Vec<PathBuf>,
}

impl SourceFile {
    /// A file, before any pattern of files to include was listed.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> SourceFile {
        SourceFile { path: path.into(), text: text.into(), listed: Vec::new() }
    }

    /// Line and column (both from 1, columns in characters) of a byte.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        line_column(&self.text, offset)
    }
}

/// Line and column (both from 1, columns in characters) of a byte of a text.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// One step of a [`TablePath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A key of a table.
    Key(Arc<str>),
    /// An element of a list, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.into())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Step {
        Step::Key(key.as_str().into())
    }
}

impl From<String> for Step {
    fn from(key: String) -> Step {
        Step::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

/// A place in the manifest by meaning: `task.swot.outputs[1]`. Made by [`key_path!`](crate::key_path).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TablePath(pub Vec<Step>);

impl TablePath {
    /// The whole file.
    pub fn root() -> TablePath {
        TablePath::default()
    }

    /// The table of a task.
    pub fn task(name: &str) -> TablePath {
        TablePath(vec!["task".into(), name.into()])
    }

    /// One step further.
    #[must_use]
    pub fn then(&self, step: impl Into<Step>) -> TablePath {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step.into());
        TablePath(steps)
    }

    /// Whether it is one of those that could not be read, or lies within or around one.
    pub fn is_damaged(&self, damaged: &[TablePath]) -> bool {
        damaged.iter().any(|other| other.is_within(self) || self.is_within(other))
    }

    /// Whether this is the other, or lies within it.
    pub fn is_within(&self, other: &TablePath) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for TablePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    let bare = !key.is_empty()
                        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                    if bare { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A [`TablePath`](crate::manifest::TablePath) from keys and indices: `key_path!["task", name, "outputs", 1]`.
#[macro_export]
macro_rules! key_path {
    ($($step:expr),* $(,)?) => {
        $crate::manifest::TablePath(vec![$($crate::manifest::Step::from($step)),*])
    };
}

/// A value of the manifest with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands; for a table with a header, the header.
    pub place: SourceSpan,
    /// What it is.
    pub kind: Kind,
}

/// A key's place and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the key stands.
    pub key: SourceSpan,
    /// The value.
    pub value: Node,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Keys in the order of the file.
    Table(IndexMap<String, Entry>),
    /// A list.
    List(Vec<Node>),
    /// A string.
    Text(String),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// An integer that does not.
    Huge(String),
    /// A float, possibly not finite.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date or time, as written.
    Datetime(String),
    /// Taken out because it had a fault: readers pass over it.
    Removed,
}

impl Kind {
    /// What it is called in a message.
    pub fn describe(&self) -> String {
        match self {
            Kind::Table(_) => "a table".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Text(text) => {
                let short: String = text.chars().take(40).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("the string {short:?}{dots}")
            }
            Kind::Integer(number) => format!("the integer {number}"),
            Kind::Huge(number) => format!("the integer {number}"),
            Kind::Float(number) if number.is_nan() => "the number nan".to_owned(),
            Kind::Float(number) => format!("the number {number}"),
            Kind::Bool(truth) => format!("`{truth}`"),
            Kind::Datetime(text) => format!("the date {text}"),
            Kind::Removed => "nothing".to_owned(),
        }
    }
}

impl Node {
    /// The entries, if it is a table.
    pub fn table(&self) -> Option<&IndexMap<String, Entry>> {
        match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries, if it is a table.
    pub fn table_mut(&mut self) -> Option<&mut IndexMap<String, Entry>> {
        match &mut self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value at a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.table()?.get(key).map(|entry| &entry.value)
    }

    /// The value at a path.
    pub fn find_mut(&mut self, path: &[Step]) -> Option<&mut Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match (first, &mut self.kind) {
            (Step::Key(key), Kind::Table(entries)) => entries.get_mut(key.as_ref())?.value.find_mut(rest),
            (Step::Index(index), Kind::List(items)) => items.get_mut(*index)?.find_mut(rest),
            _ => None,
        }
    }

    /// A path in what was read of this tree, of whose lists some elements may have been taken out, as one that
    /// counts those too.
    pub fn as_written(&self, path: &TablePath) -> TablePath {
        let mut here = Some(self);
        let mut steps = path.0.clone();
        for step in &mut steps {
            here = match (&mut *step, here.map(|node| &node.kind)) {
                (Step::Key(key), Some(Kind::Table(entries))) => {
                    entries.get(key.as_ref()).map(|entry| &entry.value)
                }
                (Step::Index(index), Some(Kind::List(items))) => {
                    let there = |(_, item): &(usize, &Node)| !matches!(item.kind, Kind::Removed);
                    let found = items.iter().enumerate().filter(there).nth(*index);
                    *index = found.map_or(*index, |(written, _)| written);
                    found.map(|(_, item)| item)
                }
                _ => None,
            };
        }
        TablePath(steps)
    }

    /// Where a path stands, or the nearest thing above it that is there: the key, or the value.
    pub fn place_of(&self, path: &[Step], on_key: bool) -> Option<SourceSpan> {
        let mut here = self;
        let mut key = None;
        for step in path {
            match (step, &here.kind) {
                (Step::Key(name), Kind::Table(entries)) => match entries.get(name.as_ref()) {
                    Some(entry) => {
                        key = Some(entry.key);
                        here = &entry.value;
                    }
                    None => return key,
                },
                (Step::Index(index), Kind::List(items)) => match items.get(*index) {
                    Some(item) => {
                        key = Some(item.place);
                        here = item;
                    }
                    None => return Some(here.place),
                },
                _ => break,
            }
        }
        if on_key { key } else { key.map(|_| here.place) }
    }
}

/// The files a manifest came from and the tree they make: what faults are shown against.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Every file read, the pipeline itself first.
    pub sources: Vec<SourceFile>,
    /// The merged tree.
    pub root: Node,
}

impl Origin {
    /// An origin of which only the file's name is known.
    pub fn nothing(path: &Path) -> Origin {
        Origin {
            sources: vec![SourceFile::new(path, "")],
            root: Node {
                place: SourceSpan { source: 0, start: 0, end: 0 },
                kind: Kind::Table(IndexMap::new()),
            },
        }
    }

    /// Where a key path stands in the files.
    pub fn place(&self, path: &TablePath, on_key: bool) -> Option<SourceSpan> {
        self.root.place_of(&path.0, on_key)
    }
}
