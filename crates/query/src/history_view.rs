//! Former contents by the names people type: `swot`, `swot@3`, `review[anna]@1`, a fan-out as a whole, a task that
//! is no longer in the pipeline. Reads only.

use std::collections::BTreeMap;

use serde_json::Map;

use crate::selection::Units;
use planexe_base::fs::{self, FsError};
use planexe_base::record::{Digest, Marker};
use planexe_engine::graph::TaskId;
use planexe_pipeline::open::Named;
use planexe_store::history::Entry;
use planexe_store::{Store, Why};

/// What is kept of the outputs of one task or item.
#[derive(Debug)]
pub struct Kept {
    /// `task` or `task[key]`; of a task that is gone as it was recorded.
    pub name: String,
    /// Its first output, which keeps its name when the task is renamed.
    pub first: String,
    /// The task as declared now, if it is.
    pub task: Option<TaskId>,
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
}

/// A former content.
#[derive(Debug, Clone)]
pub struct Version {
    /// What is typed for it; none for what the present outputs were before an edit by hand.
    pub name: Option<String>,
    /// The content.
    pub entry: Entry,
}

/// Splits `swot@3` into name and number; `None` if it has no number.
pub fn split(written: &str) -> Option<(&str, usize)> {
    let (name, n) = written.rsplit_once('@')?;
    Some((name, n.parse().ok().filter(|&n| n > 0)?)).filter(|(name, _)| !name.is_empty())
}

/// What is kept under a name: of the task or item it names in the pipeline, or, if it names none, of one that was
/// called so. Empty if nothing is.
pub fn kept(
    units: &Units<'_>,
    store: &Store,
    named: Option<&Named>,
    written: &str,
) -> Result<Vec<Kept>, FsError> {
    let mut found: Vec<Kept> = Vec::new();
    let mut wanted: Vec<String> = vec![written.to_owned()];
    if let Some(named) = named {
        for unit in units.of(&(named.task, named.key.clone()))? {
            let Some(first) = unit.outputs.first().cloned() else { continue };
            found.push(Kept { name: unit.name, first, task: Some(named.task), entries: Vec::new() });
        }
        let name = &units.graph[named.task].name;
        wanted = vec![named.key.as_ref().map_or(name.clone(), |key| format!("{name}[{key}]"))];
    }
    let is_wanted = |task: &str| {
        wanted.iter().any(|name| {
            task.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        })
    };
    let mut others: BTreeMap<String, Kept> = BTreeMap::new();
    for entry in store.history().entries_all()? {
        if let Some(known) = found.iter_mut().find(|known| known.first == entry.first) {
            known.entries.push(entry);
        } else if is_wanted(&entry.task)
            || (named.is_none() && entry.outputs.iter().any(|output| output.path == written))
        {
            let new = || Kept {
                name: String::new(),
                first: entry.first.clone(),
                task: named.map(|n| n.task),
                entries: Vec::new(),
            };
            let known = others.entry(entry.first.clone()).or_insert_with(new);
            known.name = entry.task.clone();
            known.entries.push(entry);
        }
    }
    found.extend(others.into_values());
    Ok(found)
}

impl Kept {
    /// Version `n`, or the last one that differs from what is there now.
    pub fn version(&self, store: &Store, n: Option<usize>) -> Result<Option<Version>, FsError> {
        let named = |entry: &Entry| Version { name: Some(version_name(entry)), entry: entry.clone() };
        if let Some(n) = n {
            // Numbers count by the task's name; a former name has numbers of its own.
            let by = |name: bool| self.entries.iter().rfind(|e| e.n == n && (e.task == self.name || !name));
            return Ok(by(true).or_else(|| by(false)).map(named));
        }
        if let Some(entry) = self.before_edit(store)? {
            return Ok(Some(Version { name: None, entry }));
        }
        for entry in self.entries.iter().rev() {
            if differs(store, entry)? {
                return Ok(Some(named(entry)));
            }
        }
        Ok(None)
    }

    /// The last version, whether it differs or not.
    pub fn last(&self) -> Option<Version> {
        self.entries.last().map(|entry| Version { name: Some(version_name(entry)), entry: entry.clone() })
    }

    /// What the outputs held when they were recorded, if they were edited since and it is kept.
    fn before_edit(&self, store: &Store) -> Result<Option<Entry>, FsError> {
        let Marker::Valid(done) = store.read_done(&self.first) else { return Ok(None) };
        let entry = Entry {
            n: 0,
            at: done.completed_utc.clone(),
            task: self.name.clone(),
            why: Why::Edited,
            first: self.first.clone(),
            outputs: done.outputs.clone(),
            done: serde_json::to_value(&*done).ok(),
            status: None,
            other: Map::new(),
        };
        let whole = entry.outputs.iter().all(|output| store.history().has(&output.blake3));
        Ok((whole && differs(store, &entry)?).then_some(entry))
    }
}

/// What is typed for an entry.
pub fn version_name(entry: &Entry) -> String {
    format!("{}@{}", entry.task, entry.n)
}

/// Whether any output is not there, or other than in an entry.
fn differs(store: &Store, entry: &Entry) -> Result<bool, FsError> {
    for output in &entry.outputs {
        let path = store.path(&output.path);
        let now: Option<Digest> = match fs::kind(&path)? {
            Some(fs::FileKind::File) => fs::optional(fs::hash_file(&path))?.map(|(digest, _)| digest),
            _ => None,
        };
        if now.as_ref() != Some(&output.blake3) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why a content is there, in words.
pub fn why_text(why: Why) -> &'static str {
    match why {
        Why::Replaced => "before it was made again",
        Why::Cleaned => "before `clean`",
        Why::Edited => "edited by hand, before it was made again",
        Why::Orphaned => "its task or item was gone",
        Why::Damaged => "damaged",
        Why::Restored => "before `restore`",
        Why::Plan => "the plan, before an edit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_split_off() {
        for (written, wanted) in [
            ("swot@3", Some(("swot", 3))),
            ("review[anna]@12", Some(("review[anna]", 12))),
            ("swot", None),
            ("swot@", None),
            ("swot@0", None),
            ("swot@x", None),
            ("@3", None),
        ] {
            assert_eq!(split(written), wanted, "{written}");
        }
    }
}
