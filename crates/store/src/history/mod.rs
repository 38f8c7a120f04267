//! Former contents: whatever is replaced, cleaned, edited by hand or orphaned can be brought back.
//!
//! `.planexe/history/objects/ab/cdef…` holds contents by their digest, verified whenever they are
//! read; `.planexe/history/log.jsonl` says, entry by entry, which task had which contents when, with
//! the sidecars of that moment.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sidecar::{Sidecar, StatusRead, parse_done, parse_status};
use super::temps::Temps;
use super::{Checkpoints, Store, jsonl};
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::{Digest, Marker, OutputRecord, SCHEMA, State, Status};

mod log;
mod objects;

pub use planexe_base::record::Why;

use log::Last;

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
    /// The outputs as they were, by digest.
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

/// Former contents by digest, and the log of whose they were.
#[derive(Debug)]
pub struct History {
    run_dir: PathBuf,
    dir: PathBuf,
    temp_dir: PathBuf,
    /// The last entry of each task; `None` until the log was read.
    last: Mutex<Option<HashMap<String, Last>>>,
    /// Folders of objects that were looked at and made, by the byte they are named for.
    made: Mutex<HashSet<String>>,
}

impl History {
    pub(super) fn new(run_dir: &Path) -> History {
        History {
            run_dir: run_dir.to_owned(),
            dir: run_dir.join(".planexe/history"),
            temp_dir: run_dir.join(".planexe/tmp"),
            last: Mutex::new(None),
            made: Mutex::default(),
        }
    }

    /// Forgets entries older than a time (RFC 3339), then the oldest until what is left takes at most
    /// `max_bytes`, and removes contents nothing refers to. The contents of checkpoints go by the same
    /// rule, save those of each task's last one. Under the lock. Returns (entries, bytes) that went.
    pub fn gc(&self, older_than: Option<&str>, max_bytes: Option<u64>) -> Result<(usize, u64), FsError> {
        self.gc_or_count(older_than, max_bytes, false)
    }

    /// Bytes of all contents.
    pub fn bytes(&self) -> Result<u64, FsError> {
        let objects = self.dir.join("objects");
        let mut bytes = 0;
        for (shard, kind) in fs::list_dir(&objects)? {
            if kind == FileKind::Dir {
                for (name, _) in fs::list_dir(&objects.join(&shard))? {
                    bytes += fs::plain_signature(&objects.join(&shard).join(name))?.map_or(0, |s| s.size);
                }
            }
        }
        Ok(bytes)
    }

    /// [`History::gc`], or with `dry_run` only what would go by it.
    pub fn gc_or_count(
        &self,
        older_than: Option<&str>,
        max_bytes: Option<u64>,
        dry_run: bool,
    ) -> Result<(usize, u64), FsError> {
        let entries: Vec<Entry> = jsonl::read_to_rewrite(&self.log_path())?;
        let checkpoints = Checkpoints::new(&self.run_dir).list_to_rewrite()?;
        let mut wanted: HashSet<&Digest> = HashSet::new();
        let mut total = 0;
        let mut last: HashMap<&str, &[OutputRecord]> = HashMap::new();
        for checkpoint in &checkpoints {
            last.insert(&checkpoint.task, &checkpoint.outputs);
        }
        for output in last.into_values().flatten() {
            if wanted.insert(&output.blake3) {
                total += output.bytes;
            }
        }
        // Newest first; a moment that cannot be read counts as new.
        let mut moments: Vec<(&str, Option<usize>, &[OutputRecord])> = Vec::new();
        moments.extend(checkpoints.iter().map(|c| (c.time_utc.as_str(), None, c.outputs.as_slice())));
        moments
            .extend(entries.iter().enumerate().map(|(n, e)| (e.at.as_str(), Some(n), e.outputs.as_slice())));
        moments.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
        let mut kept: HashSet<usize> = HashSet::new();
        for (at, entry, outputs) in moments {
            let new: Vec<_> = outputs.iter().filter(|output| !wanted.contains(&output.blake3)).collect();
            let bytes: u64 = new.iter().map(|output| output.bytes).sum();
            let too_old =
                older_than.is_some_and(|limit| clock::seconds_between(at, limit).is_some_and(|s| s > 0.0));
            if too_old || max_bytes.is_some_and(|max| total + bytes > max && !new.is_empty()) {
                continue;
            }
            total += bytes;
            wanted.extend(new.iter().map(|output| &output.blake3));
            kept.extend(entry);
        }
        if kept.len() < entries.len() && !dry_run {
            let left: Vec<_> = entries.iter().enumerate().filter(|(n, _)| kept.contains(n)).collect();
            let left: Vec<_> = left.into_iter().map(|(_, entry)| entry).collect();
            fs::write_atomic(&self.log_path(), &jsonl::to_lines(&left), Durability::Synced)?;
            *self.last() = None;
        }
        let wanted: HashSet<PathBuf> =
            wanted.into_iter().filter_map(|digest| self.object_path(digest)).collect();
        let mut freed = 0;
        let objects = self.dir.join("objects");
        for (shard, kind) in fs::list_dir(&objects)? {
            if kind != FileKind::Dir {
                continue;
            }
            let shard = objects.join(shard);
            for (name, kind) in fs::list_dir(&shard)? {
                let path = shard.join(name);
                if kind == FileKind::File && objects::is_object(&path) && !wanted.contains(&path) {
                    freed += fs::signature(&path)?.map_or(0, |signature| signature.size);
                    if !dry_run {
                        fs::remove(&path)?;
                    }
                }
            }
            if !dry_run {
                fs::remove_empty_dir(&shard)?;
            }
        }
        Ok((entries.len() - kept.len(), freed))
    }
}

impl Store {
    /// Puts the present contents of a task's outputs into history, with its sidecars; the first of
    /// `outputs` names them. `None` if no output exists, or the task's last entry says the same.
    /// The files stay where they are. A link is not followed, unless it is a plan's in the run.
    pub fn save(
        &self,
        task: &str,
        why: Why,
        outputs: &[String],
        durability: Durability,
    ) -> Result<Option<Entry>, FsError> {
        self.save_with(task, why, outputs, |_| false, durability)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// [`Store::save`], told which outputs are about to lose their name to another content.
    pub(super) fn save_with(
        &self,
        task: &str,
        why: Why,
        outputs: &[String],
        replacing: impl Fn(&str) -> bool,
        durability: Durability,
    ) -> Result<Option<Entry>, FsError> {
        let mut records = Vec::new();
        for output in outputs {
            let path = self.path(output);
            let path = match fs::kind(&path)? {
                Some(FileKind::File) => path,
                // A plan is the user's to link; an output is none.
                Some(FileKind::Link) if why == Why::Plan && fs::resolves_inside(self.run_dir(), &path) => {
                    fs::resolved(&path)
                }
                _ => continue,
            };
            let (blake3, bytes) = self.history().put_file(&path, replacing(output), durability)?;
            records.push(OutputRecord { path: output.clone(), bytes, blake3 });
        }
        let (Some(first), false) = (outputs.first(), records.is_empty()) else { return Ok(None) };
        let sidecar = |kind| -> Result<Option<_>, FsError> {
            let bytes = fs::if_content(fs::read(&self.sidecar_path(first, kind)))?;
            Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
        };
        let entry = Entry {
            n: 0,
            at: clock::now_utc(),
            task: task.to_owned(),
            why,
            first: first.clone(),
            outputs: records,
            done: sidecar(Sidecar::Done)?,
            status: sidecar(Sidecar::Status)?,
            other: Map::new(),
        };
        self.history().add(entry, durability)
    }

    /// Takes a task's outputs and sidecars away; contents go to history first. With [`Why::Cleaned`]
    /// its kept answers are set aside too and its candidates go: the next build asks anew.
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
        let entry = self.save_with(task, why, outputs, |_| true, durability).map_err(within)?;
        let built = outputs.first().is_some_and(|first| {
            self.read_done(first) != Marker::Missing || self.read_status(first) != StatusRead::Missing
        });
        self.give_up_jobs(task)?;
        if why == Why::Cleaned {
            self.calls().discard(task).map_err(within)?;
            self.give_up_batched(task)?;
            self.discard_candidates(task).map_err(within)?;
            self.forget_passed(task).map_err(within)?;
        }
        match outputs.first() {
            Some(first) if why == Why::Cleaned => drop(self.remove_done(first, durability)?),
            // Cut short, it must not look as if a person had asked for a fresh answer.
            Some(first) => self.invalidate(task, first, durability)?,
            None => {}
        }
        for output in outputs {
            fs::remove_durably(&self.path(output), durability).map_err(within)?;
        }
        if let Some(first) = outputs.first() {
            self.remove_status(first)?;
            if built {
                self.note_gone(first, why, durability).map_err(within)?;
            }
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

    /// Gives the outputs of an entry their contents again, and its sidecars. The present contents go to
    /// history first. Under the lock.
    pub fn put_back(&self, entry: &Entry) -> Result<(), FsError> {
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
            if let Some(dir) = target.parent() {
                fs::make_dirs(dir, durability)?;
            }
            temps.0.push((self.history().copy_beside(&output.blake3, &target, durability)?, target));
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
        let replaced: Vec<PathBuf> = temps.0.iter().map(|(_, target)| target.clone()).collect();
        let replacing = |output: &str| replaced.contains(&self.path(output));
        self.save_with(&entry.task, Why::Restored, &outputs, replacing, durability)?;
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
                    status.result.outputs = entry.outputs.clone();
                    status.last.ended_utc = Some(done.completed_utc.clone());
                    status.last.checkpoint_id = done.checkpoint_id.clone();
                    status
                }
            };
            self.write_status(&entry.first, &status, durability)?;
            self.note_back(&entry.first, done.checkpoint_id.as_deref(), durability)?;
        }
        Ok(())
    }

    /// Removes the `.DONE` on the way to a new one, durably. A `.status` that says done without a `.DONE`
    /// would mean that a person removed it, so it stops saying so first; with [`Durability::Synced`] even
    /// if the power goes in between.
    pub(super) fn invalidate(&self, task: &str, first: &str, durability: Durability) -> Result<(), FsError> {
        let marked = self.read_done(first) != Marker::Missing;
        match self.read_status(first) {
            StatusRead::Valid(mut status) if status.state == State::Done => {
                status.state = State::Running;
                status.task = task.to_owned();
                status.schema = SCHEMA;
                self.write_status(first, &status, durability)?;
            }
            StatusRead::Missing => {}
            _ if marked && durability == Durability::Synced => {
                let path = self.sidecar_path(first, Sidecar::Status);
                fs::sync_file(&path)
                    .and_then(|()| path.parent().map_or(Ok(()), fs::sync_dir))
                    .map_err(|error| error.within(self.run_dir()))?;
            }
            _ => {}
        }
        self.remove_done(first, Durability::Synced)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
