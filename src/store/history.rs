//! Former contents: whatever is replaced, cleaned, edited by hand or orphaned can be brought back.
//!
//! `.planexe/history/objects/ab/cdef…` holds contents by their digest, verified whenever they are
//! read; `.planexe/history/log.jsonl` says, entry by entry, which task had which contents when, with
//! the sidecars of that moment.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sidecar::{Sidecar, StatusRead, parse_done, parse_status};
use super::{Store, jsonl};
use crate::clock;
use crate::fs::{self, Durability, FileKind, FsError};
use crate::record::Marker;
use crate::record::{Digest, OutputRecord, SCHEMA, State, Status};

/// Why contents went to history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The task ran again.
    Replaced,
    /// `planexe clean`.
    Cleaned,
    /// Edited by hand and about to be made again.
    Edited,
    /// Its task or item is gone.
    Orphaned,
    /// Empty, invalid or torn.
    Damaged,
    /// Another content was restored.
    Restored,
    /// The plan, before an edit.
    Plan,
}

/// One entry of the history of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Number among the entries of its task, from 1.
    pub n: usize,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// `task` or `task[key]`; for a plan its file name.
    pub task: String,
    /// Why.
    pub why: Why,
    /// The task's first output, which names its sidecars.
    pub first: String,
    /// The contents.
    pub outputs: Vec<OutputRecord>,
    /// The `.DONE` of that moment.
    #[serde(default)]
    pub done: Option<Value>,
    /// The `.status` of that moment.
    #[serde(default)]
    pub status: Option<Value>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Objects and log.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    /// The last entry of each task; `None` until the log was read.
    last: Mutex<Option<HashMap<String, Last>>>,
}

#[derive(Debug, Clone, Default)]
struct Last {
    n: usize,
    outputs: Vec<OutputRecord>,
    done: Option<Value>,
}

impl History {
    pub(super) fn new(planexe_dir: &Path) -> History {
        History { dir: planexe_dir.join("history"), last: Mutex::new(None) }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log.jsonl")
    }

    fn object_path(&self, digest: &Digest) -> Option<PathBuf> {
        let hex = &digest.0;
        (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| self.dir.join("objects").join(&hex[..2]).join(&hex[2..]))
    }

    /// Whether a content can be had, verified.
    pub fn has(&self, digest: &Digest) -> bool {
        self.object_path(digest)
            .is_some_and(|path| fs::hash_file(&path).is_ok_and(|(found, _)| found == *digest))
    }

    /// A content by its digest. One that does not hash to its name is not returned.
    pub fn object(&self, digest: &Digest) -> Result<Vec<u8>, FsError> {
        let missing = || FsError::new(self.dir.join(&digest.0), "read", ErrorKind::NotFound.into());
        let path = self.object_path(digest).ok_or_else(missing)?;
        let bytes = fs::read(&path)?;
        if Digest::of(&bytes) != *digest {
            return Err(damaged(&path));
        }
        Ok(bytes)
    }

    /// Puts bytes into history.
    pub fn put(&self, bytes: &[u8], durability: Durability) -> Result<Digest, FsError> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            let path = self.object_path(&digest).expect("BUG: a digest is 64 hex digits");
            self.make_object_dir(&path)?;
            fs::write_atomic(&path, bytes, durability)?;
        }
        Ok(digest)
    }

    /// Puts a file's content into history. With `replacing`, the caller is about to take the file's
    /// name away, and a large file may be linked instead of copied.
    fn put_file(
        &self,
        file: &Path,
        replacing: bool,
        durability: Durability,
    ) -> Result<(Digest, u64), FsError> {
        let before = fs::signature(file)?;
        let (digest, bytes) = fs::hash_file(file)?;
        if self.has(&digest) {
            return Ok((digest, bytes));
        }
        let path = self.object_path(&digest).expect("BUG: a digest is 64 hex digits");
        self.make_object_dir(&path)?;
        if replacing && fs::link_large(file, &path, durability)? {
            if fs::signature(file)?.map(|s| (s.size, s.mtime_ns)) == before.map(|s| (s.size, s.mtime_ns)) {
                return Ok((digest, bytes));
            }
            fs::remove(&path)?;
        }
        // The copy is what counts: the file may have changed since it was hashed.
        let temp = fs::copy_beside(file, &path, durability)?;
        let kept = fs::hash_file(&temp).and_then(|(digest, bytes)| {
            let path = self.object_path(&digest).expect("BUG: a digest is 64 hex digits");
            self.make_object_dir(&path)?;
            fs::rename(&temp, &path, durability)?;
            Ok((digest, bytes))
        });
        if kept.is_err() {
            let _ = fs::remove(&temp);
        }
        kept
    }

    fn make_object_dir(&self, object: &Path) -> Result<(), FsError> {
        object.parent().map_or(Ok(()), |dir| fs::make_dirs(dir, Durability::Synced))
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

    fn last(&self) -> MutexGuard<'_, Option<HashMap<String, Last>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers an entry and appends it, unless it says what the task's last entry says.
    fn add(&self, mut entry: Entry, durability: Durability) -> Result<Option<Entry>, FsError> {
        if self.last().is_none() {
            let mut last = HashMap::new();
            for entry in self.entries_all()? {
                let n = last.get(&entry.task).map_or(0, |last: &Last| last.n).max(entry.n);
                last.insert(entry.task, Last { n, outputs: entry.outputs, done: entry.done });
            }
            self.last().get_or_insert(last);
        }
        {
            let mut guard = self.last();
            let last = guard.get_or_insert_default().entry(entry.task.clone()).or_default();
            if last.n > 0 && last.outputs == entry.outputs && last.done == entry.done {
                return Ok(None);
            }
            entry.n = last.n + 1;
            *last = Last { n: entry.n, outputs: entry.outputs.clone(), done: entry.done.clone() };
        }
        // Synced in the task's own thread, not under the lock.
        if let Err(error) = jsonl::append(&self.log_path(), &entry, durability) {
            *self.last() = None;
            return Err(error);
        }
        Ok(Some(entry))
    }

    /// Forgets entries older than a time (RFC 3339), then the oldest until what is left takes at most
    /// `max_bytes`, and removes contents nothing refers to. Under the lock. Returns (entries, bytes)
    /// that went.
    pub fn gc(&self, older_than: Option<&str>, max_bytes: Option<u64>) -> Result<(usize, u64), FsError> {
        let mut entries = self.entries_all()?;
        let before = entries.len();
        if let Some(older_than) = older_than {
            entries.retain(|entry| clock::seconds_between(&entry.at, older_than).is_none_or(|s| s <= 0.0));
        }
        if let Some(max_bytes) = max_bytes {
            let (mut seen, mut total, mut keep) = (HashSet::new(), 0, entries.len());
            for (at, entry) in entries.iter().enumerate().rev() {
                total +=
                    entry.outputs.iter().filter(|o| seen.insert(&o.blake3)).map(|o| o.bytes).sum::<u64>();
                if total > max_bytes {
                    break;
                }
                keep = at;
            }
            entries.drain(..keep);
        }
        if entries.len() < before {
            let mut log = Vec::new();
            for entry in &entries {
                log.extend(jsonl::to_line(entry));
                log.push(b'\n');
            }
            fs::write_atomic(&self.log_path(), &log, Durability::Synced)?;
            *self.last() = None;
        }
        let wanted: HashSet<PathBuf> = entries
            .iter()
            .flat_map(|entry| &entry.outputs)
            .filter_map(|output| self.object_path(&output.blake3))
            .collect();
        let mut freed = 0;
        let objects = self.dir.join("objects");
        for (shard, kind) in fs::list_dir(&objects)? {
            if kind != FileKind::Dir {
                continue;
            }
            let shard = objects.join(shard);
            for (name, kind) in fs::list_dir(&shard)? {
                let path = shard.join(name);
                if kind == FileKind::File && !wanted.contains(&path) {
                    freed += fs::signature(&path)?.map_or(0, |signature| signature.size);
                    fs::remove(&path)?;
                }
            }
            fs::remove_empty_dir(&shard)?;
        }
        Ok((before - entries.len(), freed))
    }
}

fn damaged(path: &Path) -> FsError {
    let why = std::io::Error::new(ErrorKind::InvalidData, "damaged: the content is not what its name says");
    FsError::new(path, "read", why)
}

impl Store {
    /// Puts the present contents of a task's outputs into history, with its sidecars; the first of
    /// `outputs` names them. `None` if no output exists, or the task's last entry says the same.
    /// The files stay where they are. A link that leads out of the run is not followed.
    pub fn save(
        &self,
        task: &str,
        why: Why,
        outputs: &[String],
        durability: Durability,
    ) -> Result<Option<Entry>, FsError> {
        self.save_with(task, why, outputs, false, durability).map_err(|error| error.within(self.run_dir()))
    }

    pub(super) fn save_with(
        &self,
        task: &str,
        why: Why,
        outputs: &[String],
        replacing: bool,
        durability: Durability,
    ) -> Result<Option<Entry>, FsError> {
        let mut records = Vec::new();
        for output in outputs {
            let path = self.path(output);
            match fs::kind(&path)? {
                Some(FileKind::File) => {}
                Some(FileKind::Link) if fs::resolves_inside(self.run_dir(), &path) => {}
                _ => continue,
            }
            let (blake3, bytes) = self.history().put_file(&path, replacing, durability)?;
            records.push(OutputRecord { path: output.clone(), bytes, blake3 });
        }
        let (Some(first), false) = (outputs.first(), records.is_empty()) else { return Ok(None) };
        let sidecar = |kind| {
            let bytes = fs::read_optional(&self.sidecar_path(first, kind)).ok().flatten()?;
            serde_json::from_slice(&bytes).ok()
        };
        let entry = Entry {
            n: 0,
            at: clock::now_utc(),
            task: task.to_owned(),
            why,
            first: first.clone(),
            outputs: records,
            done: sidecar(Sidecar::Done),
            status: sidecar(Sidecar::Status),
            other: Map::new(),
        };
        self.history().add(entry, durability)
    }

    /// Takes a task's outputs and sidecars away; contents go to history first. With [`Why::Cleaned`]
    /// its kept answers are set aside too: the next build asks anew.
    pub fn clean(
        &self,
        task: &str,
        why: Why,
        outputs: &[String],
        durability: Durability,
    ) -> Result<Option<Entry>, FsError> {
        let within = |error: FsError| error.within(self.run_dir());
        for output in outputs {
            fs::ensure_inside(self.run_dir(), &self.path(output)).map_err(within)?;
        }
        let entry = self.save_with(task, why, outputs, true, durability).map_err(within)?;
        if why == Why::Cleaned {
            self.calls().discard(task).map_err(within)?;
        }
        if let Some(first) = outputs.first() {
            self.remove_done(first, durability)?;
        }
        for output in outputs {
            fs::remove_durably(&self.path(output), durability).map_err(within)?;
        }
        if let Some(first) = outputs.first() {
            self.remove_status(first)?;
        }
        Ok(entry)
    }

    /// Brings contents of a task back, the last ones or those of entry `n`, together with the sidecars
    /// of that moment, so that the next build has nothing to ask for them. The present contents go to
    /// history first. An entry without a `.DONE` leaves the present sidecars alone.
    pub fn restore(&self, task: &str, n: Option<usize>) -> Result<Entry, FsError> {
        let entries = self.history().entries(task)?;
        let entry = match n {
            Some(n) => entries.into_iter().rfind(|entry| entry.n == n),
            None => entries.into_iter().next_back(),
        };
        let entry = entry.ok_or_else(|| {
            FsError::new(self.history().log_path(), "find the entry in", ErrorKind::NotFound.into())
                .within(self.run_dir())
        })?;
        self.put_back(&entry).map_err(|error| error.within(self.run_dir()))?;
        Ok(entry)
    }

    /// Gives the outputs of an entry their contents again, and its sidecars.
    pub(super) fn put_back(&self, entry: &Entry) -> Result<(), FsError> {
        let durability = Durability::Synced;
        // Everything is fetched and verified before anything is touched.
        let mut temps = Temps::default();
        for output in &entry.outputs {
            let target = self.path(&output.path);
            fs::ensure_inside(self.run_dir(), &target)?;
            let present = fs::kind(&target)? == Some(FileKind::File);
            if present && fs::hash_file(&target)?.0 == output.blake3 {
                continue;
            }
            let bytes = self.history().object(&output.blake3)?;
            if let Some(dir) = target.parent() {
                fs::make_dirs(dir, durability)?;
            }
            temps.0.push((fs::write_beside(&target, &bytes, durability)?, target));
        }
        let mut outputs: Vec<String> = entry.outputs.iter().map(|output| output.path.clone()).collect();
        if outputs.first() != Some(&entry.first) {
            outputs.retain(|output| *output != entry.first);
            outputs.insert(0, entry.first.clone());
        }
        let done = entry.done.as_ref().and_then(|done| match parse_done(&jsonl::to_line(done)) {
            Marker::Valid(done) => Some(done),
            _ => None,
        });
        self.save_with(&entry.task, Why::Restored, &outputs, !temps.0.is_empty(), durability)?;
        if done.is_some() {
            self.invalidate(&entry.task, &entry.first, durability)?;
        }
        temps.publish(durability)?;
        if let Some(done) = done {
            self.write_done(&entry.first, &done, durability)?;
            let status = entry.status.as_ref().map(|status| parse_status(&jsonl::to_line(status)));
            let status = match status {
                Some(StatusRead::Valid(status)) if status.state == State::Done => *status,
                _ => {
                    let mut status = Status::new(&entry.task, State::Done);
                    status.outputs = entry.outputs.clone();
                    status.ended_utc = Some(done.completed_utc.clone());
                    status.checkpoint_id = done.checkpoint_id.clone();
                    status
                }
            };
            self.write_status(&entry.first, &status, durability)?;
        }
        Ok(())
    }

    /// Removes the `.DONE` on the way to a new one. A `.status` that says done without a `.DONE` would
    /// mean that a person removed it, so it stops saying so first.
    pub(super) fn invalidate(&self, task: &str, first: &str, durability: Durability) -> Result<(), FsError> {
        if let StatusRead::Valid(mut status) = self.read_status(first)
            && status.state == State::Done
        {
            status.state = State::Running;
            status.task = task.to_owned();
            status.schema = SCHEMA;
            self.write_status(first, &status, durability)?;
        }
        self.remove_done(first, durability)?;
        Ok(())
    }
}

/// Temporary files with the names they are to get; removed if they do not get them.
#[derive(Debug, Default)]
pub(super) struct Temps(pub(super) Vec<(PathBuf, PathBuf)>);

impl Temps {
    /// Gives them their names.
    pub(super) fn publish(mut self, durability: Durability) -> Result<(), FsError> {
        fs::publish(&self.0, durability)?;
        self.0.clear();
        Ok(())
    }
}

impl Drop for Temps {
    fn drop(&mut self) {
        for (temp, _) in &self.0 {
            let _ = fs::remove(temp);
        }
    }
}
