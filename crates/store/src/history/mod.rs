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
mod tests {
    use super::*;
    use crate::fixtures::{done, store, text, write};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn save(store: &Store, why: Why) -> Option<Entry> {
        store.save("swot", why, &names(&["swot.json", "swot.md"]), Durability::Synced).unwrap()
    }

    fn objects(store: &Store) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let dir = store.planexe_dir().join("history/objects");
        for (shard, _) in fs::list_dir(&dir).unwrap() {
            for (name, _) in fs::list_dir(&dir.join(&shard)).unwrap() {
                paths.push(dir.join(&shard).join(name));
            }
        }
        paths
    }

    #[test]
    fn contents_are_kept_once_and_entries_numbered_by_task() {
        let (_dir, store) = store();
        assert_eq!(save(&store, Why::Replaced), None);
        write(&store, "swot.json", "same");
        write(&store, "swot.md", "same");
        let entry = save(&store, Why::Replaced).unwrap();
        assert_eq!((entry.n, entry.outputs.len(), objects(&store).len()), (1, 2, 1));
        assert_eq!(save(&store, Why::Cleaned), None, "the last entry says the same");
        write(&store, "swot.md", "other");
        assert_eq!(save(&store, Why::Replaced).unwrap().n, 2);
        // A new process goes on counting.
        let again = Store::open(store.run_dir());
        assert_eq!(save(&again, Why::Replaced), None);
        write(&store, "swot.md", "same");
        assert_eq!(save(&again, Why::Replaced).unwrap().n, 3);
        assert_eq!(
            again.save("b", Why::Replaced, &names(&["swot.md"]), Durability::Unsynced).unwrap().unwrap().n,
            1
        );
        assert_eq!(objects(&store).len(), 2);
        assert_eq!(store.history().entries("swot").unwrap().len(), 3);
        assert_eq!(store.history().entries_all().unwrap().len(), 4);
        assert_eq!(store.history().object(&Digest::of(b"other")).unwrap(), b"other");
    }

    #[test]
    fn a_damaged_object_is_never_returned_and_is_replaced_by_the_next_save() {
        let (_dir, store) = store();
        write(&store, "swot.json", "hello");
        save(&store, Why::Replaced).unwrap();
        let digest = Digest::of(b"hello");
        fs::write_atomic(&objects(&store)[0], b"hullo", Durability::Unsynced).unwrap();
        assert!(!store.history().has(&digest));
        let error = store.history().object(&digest).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        write(&store, "swot.json", "new");
        assert!(store.restore("swot", Some(1)).unwrap_err().to_string().contains("damaged"));
        assert_eq!(text(&store, "swot.json").unwrap(), "new", "nothing is touched");
        assert_eq!(store.sweep([""]).unwrap(), 0, "nothing is left beside it");
        assert_eq!(fs::list_dir(store.run_dir()).unwrap().len(), 2);
        write(&store, "swot.json", "hello");
        save(&store, Why::Replaced);
        assert_eq!(store.history().object(&digest).unwrap(), b"hello");
        assert!(store.history().object(&Digest("../../x".into())).is_err());
    }

    #[test]
    fn restoring_brings_back_outputs_and_marker_and_can_itself_be_undone() {
        let (_dir, store) = store();
        write(&store, "swot.json", "one");
        write(&store, "swot.md", "one");
        store.write_done("swot.json", &done(), Durability::Unsynced).unwrap();
        store.clean("swot", Why::Cleaned, &names(&["swot.json", "swot.md"]), Durability::Synced).unwrap();
        for name in ["swot.json", "swot.md", "swot.json.DONE", "swot.json.status"] {
            assert_eq!(text(&store, name), None);
        }
        let entry = store.restore("swot", None).unwrap();
        assert_eq!((entry.n, entry.why), (1, Why::Cleaned));
        assert_eq!(text(&store, "swot.json").as_deref(), Some("one"));
        assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(done())));
        let StatusRead::Valid(status) = store.read_status("swot.json") else { panic!() };
        assert_eq!(status.state, State::Done);
        // Another content, made by another attempt.
        write(&store, "swot.json", "two");
        let second = planexe_base::record::Done { fingerprint: Digest::of(b"2"), ..done() };
        store.write_done("swot.json", &second, Durability::Unsynced).unwrap();
        store.restore("swot", Some(1)).unwrap();
        assert_eq!(text(&store, "swot.json").as_deref(), Some("one"));
        assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(done())));
        store.restore("swot", None).unwrap();
        assert_eq!(text(&store, "swot.json").as_deref(), Some("two"));
        assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(second)));
        let error = store.restore("swot", Some(99)).unwrap_err();
        assert!(error.to_string().contains("log.jsonl"), "{error}");
    }

    #[test]
    fn a_plan_has_a_history_without_sidecars() {
        let (_dir, store) = store();
        write(&store, "plan.txt", "first");
        store.save("plan.txt", Why::Plan, &names(&["plan.txt"]), Durability::Synced).unwrap().unwrap();
        write(&store, "plan.txt", "second");
        store.restore("plan.txt", None).unwrap();
        assert_eq!(text(&store, "plan.txt").as_deref(), Some("first"));
        assert_eq!(store.read_done("plan.txt"), Marker::Missing);
        assert_eq!(store.read_status("plan.txt"), StatusRead::Missing);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "sets the trap")]
    fn what_a_link_leads_to_is_not_read() {
        let (_dir, store) = store();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), store.path("swot.json")).unwrap();
        assert_eq!(save(&store, Why::Replaced), None);
        write(&store, "inside", "inside");
        std::os::unix::fs::symlink(store.path("inside"), store.path("swot.md")).unwrap();
        assert_eq!(save(&store, Why::Replaced), None);
        // A plan is the user's to link.
        for (to, kept) in [(store.path("inside"), true), (outside.path().join("secret"), false)] {
            let _ = fs::remove(&store.path("plan.txt"));
            std::os::unix::fs::symlink(to, store.path("plan.txt")).unwrap();
            let saved = store.save("plan.txt", Why::Plan, &names(&["plan.txt"]), Durability::Synced).unwrap();
            assert_eq!(saved.is_some(), kept);
        }
    }

    #[test]
    fn large_contents_are_linked_only_when_they_lose_their_name() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, store) = store();
        let large = "x".repeat(3 << 20);
        write(&store, "swot.json", &large);
        save(&store, Why::Edited).unwrap();
        assert_eq!(std::fs::metadata(store.path("swot.json")).unwrap().nlink(), 1);
        let large = "y".repeat(3 << 20);
        write(&store, "swot.json", &large);
        let outputs = names(&["swot.json", "swot.md"]);
        store.clean("swot", Why::Orphaned, &outputs, Durability::Unsynced).unwrap().unwrap();
        assert_eq!(store.history().object(&Digest::of(large.as_bytes())).unwrap(), large.as_bytes());
        store.restore("swot", None).unwrap();
        assert_eq!(std::fs::metadata(store.path("swot.json")).unwrap().nlink(), 1);
    }

    #[test]
    fn cleaning_asks_anew_and_other_ways_do_not() {
        let (_dir, store) = store();
        for (why, left) in [(Why::Damaged, 1), (Why::Cleaned, 0)] {
            write(&store, "swot.json", "x");
            let dir = store.calls().dir().join(super::super::task_dir_name("swot"));
            fs::make_dirs(&dir, Durability::Unsynced).unwrap();
            let usable = format!("{}.json", Digest::of(b"q"));
            fs::write_atomic(&dir.join(&usable), b"{}", Durability::Unsynced).unwrap();
            store.clean("swot", why, &names(&["swot.json"]), Durability::Unsynced).unwrap();
            let names = fs::list_dir(&dir).unwrap();
            assert_eq!(names.iter().filter(|(name, _)| name.to_str() == Some(&usable)).count(), left);
        }
    }

    #[test]
    fn collecting_garbage_forgets_the_oldest_and_what_nothing_needs() {
        let (_dir, store) = store();
        for content in ["one", "two", "three", "four"] {
            write(&store, "swot.json", content);
            save(&store, Why::Replaced).unwrap();
        }
        assert_eq!(store.history().gc(None, None).unwrap(), (0, 0));
        assert_eq!(store.history().gc(None, Some(9)).unwrap(), (2, 6));
        let left: Vec<_> = store.history().entries("swot").unwrap().iter().map(|entry| entry.n).collect();
        assert_eq!(left, [3, 4]);
        assert!(store.history().has(&Digest::of(b"four")) && !store.history().has(&Digest::of(b"one")));
        write(&store, "swot.json", "five");
        assert_eq!(save(&store, Why::Replaced).unwrap().n, 5);
        assert_eq!(store.history().gc(Some("2999-01-01T00:00:00Z"), None).unwrap(), (3, 13));
        assert!(objects(&store).is_empty());
    }

    #[test]
    fn many_tasks_may_save_at_once() {
        let (_dir, store) = store();
        std::thread::scope(|scope| {
            for task in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    let (name, output) = (format!("t{task}"), format!("o{task}"));
                    for round in 0..10 {
                        write(store, &output, &format!("{round}"));
                        let outputs = [output.clone()];
                        let entry = store.save(&name, Why::Replaced, &outputs, Durability::Unsynced).unwrap();
                        assert_eq!(entry.unwrap().n, round + 1);
                    }
                });
            }
        });
        assert_eq!(store.history().entries_all().unwrap().len(), 40);
        assert_eq!(objects(&store).len(), 10);
    }
}
