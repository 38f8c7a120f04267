//! The log of entries: which task had which contents when.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use parking_lot::MutexGuard;
use serde::Deserialize;
use serde_json::Value;

use super::{Entry, History};
use crate::jsonl;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::OutputRecord;

/// The last entry of a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Last {
    n: usize,
    /// What it says of outputs and `.DONE`; none until that is read.
    says: Option<Says>,
    /// Where its line is in the log.
    line: Range<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct Says {
    outputs: Vec<OutputRecord>,
    #[serde(default)]
    done: Option<Value>,
}

/// The beginning of an entry.
#[derive(Deserialize)]
struct Head<'a> {
    n: usize,
    #[serde(borrow)]
    task: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Of a line; as this version writes it, it is read no further than the name of the task.
    fn parse(line: &'a [u8]) -> Option<Head<'a>> {
        Head::of_ours(line).or_else(|| serde_json::from_slice(line).ok())
    }

    fn of_ours(line: &'a [u8]) -> Option<Head<'a>> {
        let text = |rest: &'a [u8]| {
            let end = rest.iter().position(|&byte| byte == b'"' || byte == b'\\')?;
            let text = std::str::from_utf8(&rest[..end]).ok()?;
            Some((text, rest[end..].strip_prefix(b"\"")?))
        };
        let rest = line.strip_prefix(b"{\"n\":")?;
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let n = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let (_, rest) = text(rest[digits..].strip_prefix(b",\"at\":\"")?)?;
        let (task, _) = text(rest.strip_prefix(b",\"task\":\"")?)?;
        Some(Head { n, task: Cow::Borrowed(task) })
    }
}

impl History {
    pub(super) fn log_path(&self) -> PathBuf {
        self.dir.join("log.jsonl")
    }

    /// All entries, oldest first; lines that cannot be read are passed over.
    pub fn entries_all(&self) -> Result<Vec<Entry>, FsError> {
        jsonl::read_records(&self.log_path())
    }

    /// The entries of a task, oldest first.
    pub fn entries(&self, task: &str) -> Result<Vec<Entry>, FsError> {
        let mut entries = self.entries_all()?;
        entries.retain(|entry| entry.task == task);
        Ok(entries)
    }

    pub(super) fn last(&self) -> MutexGuard<'_, Option<HashMap<String, Last>>> {
        self.last.lock()
    }

    /// The last entry of each task, by what their lines begin with.
    fn read_last(&self) -> Result<HashMap<String, Last>, FsError> {
        let mut last: HashMap<String, Last> = HashMap::new();
        let Some(file) = fs::optional(fs::open(&self.log_path()))? else { return Ok(last) };
        let (mut reader, mut line, mut at) = (BufReader::with_capacity(1 << 16, file), Vec::new(), 0);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            let read = read.map_err(|error| FsError::new(self.log_path(), "read", error))? as u64;
            if read == 0 {
                return Ok(last);
            }
            if let Some(Head { n, task }) = Head::parse(&line) {
                let line = at..at + read;
                match last.get_mut(&*task) {
                    Some(known) => *known = Last { n: known.n.max(n), says: None, line },
                    None => drop(last.insert(task.into_owned(), Last { n, says: None, line })),
                }
            }
            at += read;
        }
    }

    /// What the last entry of a task says, by its line in the log; a line that cannot be read is passed over.
    fn read_says(&self, task: &str, line: &Range<u64>) -> Result<Says, FsError> {
        let mut bytes = vec![0; (line.end - line.start) as usize];
        let read = fs::open(&self.log_path())?.read_exact_at(&mut bytes, line.start);
        read.map_err(|error| FsError::new(self.log_path(), "read", error))?;
        if let Ok(says) = serde_json::from_slice(&bytes) {
            return Ok(says);
        }
        let before = self.entries(task)?.pop().map(|entry| (entry.outputs, entry.done));
        let (outputs, done) = before.unwrap_or_default();
        Ok(Says { outputs, done })
    }

    /// Numbers an entry and appends it, unless it says what the task's last entry says.
    pub(super) fn add(&self, mut entry: Entry, durability: Durability) -> Result<Option<Entry>, FsError> {
        if self.last().is_none() {
            let last = self.read_last()?;
            self.last().get_or_insert(last);
        }
        {
            let says = Says { outputs: entry.outputs.clone(), done: entry.done.clone() };
            let mut guard = self.last();
            let last = guard.get_or_insert_default().entry(entry.task.clone()).or_default();
            if last.n > 0 && last.says.is_none() {
                last.says = Some(self.read_says(&entry.task, &last.line)?);
            }
            if last.says.as_ref() == Some(&says) {
                return Ok(None);
            }
            entry.n = last.n + 1;
            *last = Last { n: entry.n, says: Some(says), line: 0..0 };
        }
        // Synced in the task's own thread, not under the lock.
        if let Err(error) = jsonl::append(&self.log_path(), &entry, durability) {
            *self.last() = None;
            return Err(error);
        }
        Ok(Some(entry))
    }
}
