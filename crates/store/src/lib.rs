//! What a run directory remembers: sidecars, kept answers, history, checkpoints, logs, the lock.
//!
//! Everything here can be read without the lock and by another process while a build runs; writing
//! is for who holds the [`lock::RunLock`], except for markers a user sets by hand. Nothing damaged
//! is ever an error of the build: it is named and passed over. What can't be *written* is an error.

pub mod anew;
pub mod batch;
pub mod batches;
mod cache_file;
pub mod calls;
pub mod candidates;
pub mod checkpoints;
pub mod commit;
pub mod control;
pub mod gc;
pub mod history;
pub mod host;
pub mod index;
pub mod jobs;
pub mod jsonl;
pub mod lanes;
pub mod live;
pub mod lock;
pub mod logs;
pub mod moved;
pub mod null_build;
pub mod parked;
pub mod rewind;
pub mod run_json;
pub mod seal;
pub mod sidecar;
mod table;
mod temps;
pub mod usage;
pub mod watcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use planexe_base::fs::{self, Durability, FsError, NAME_MAX};

pub use anew::{Anew, Asked};
pub use batch::Batch;
pub use calls::{AnswerState, CallRecord, Calls, KeptCall, KeptRequest};
pub use candidates::{Candidate, CandidateFile, Success};
pub use checkpoints::{Checkpoint, Checkpoints};
pub use commit::{Commit, Committed, Content, commit};
pub use history::{Entry, History, Why};
pub use index::Index;
pub use lock::{LockError, Owner, RunLock, Wait};
pub use moved::Moved;
pub use run_json::{RecordedPhase, RunJson};
pub use sidecar::{Sidecar, StatusRead};
pub use watcher::Watcher;

/// One run directory. Opening it writes nothing.
#[derive(Debug)]
pub struct Store {
    run_dir: PathBuf,
    /// The run directory, held open: see [`fs::hold`].
    held: Option<Arc<fs::Held>>,
    history: History,
    calls: Calls,
    checkpoints: Checkpoints,
    batch: Batch,
}

impl Store {
    /// The store of a run directory, which need not hold anything yet.
    pub fn open(run_dir: impl Into<PathBuf>) -> Store {
        let mut run_dir = run_dir.into();
        if run_dir.as_os_str().is_empty() {
            run_dir = PathBuf::from(".");
        }
        Store {
            held: fs::hold(&run_dir),
            history: History::new(&run_dir),
            calls: Calls::new(&run_dir),
            checkpoints: Checkpoints::new(&run_dir),
            batch: Batch::new(&run_dir),
            run_dir,
        }
    }

    /// Lets inputs that are links lead to some more folders, which are resolved: the pipeline's, and those a user allows.
    pub fn may_read(&self, folders: &[PathBuf]) {
        if let Some(held) = &self.held {
            held.may_lead_to(folders);
        }
    }

    /// The path of the run directory, as it was opened.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// A file of the run by its name relative to the run directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.run_dir.join(relative)
    }

    /// The path of `.planexe/`.
    pub fn planexe_dir(&self) -> PathBuf {
        self.run_dir.join(".planexe")
    }

    /// `.planexe/partial/`: candidates, and what was cut off or set aside.
    pub fn partial_dir(&self) -> PathBuf {
        self.planexe_dir().join("partial")
    }

    /// The former contents of outputs.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The kept answers.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Files that are synced together.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Completed tasks, in order.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Where a sidecar of a task lives, by the task's first output: beside it, or, if that name would
    /// be too long for the file system, under a hashed one in `.planexe/sidecars/`.
    pub fn sidecar_path(&self, output: &str, kind: Sidecar) -> PathBuf {
        // The longer of the two decides, so that both are found in one place.
        if self.is_hashed(output) {
            return self.hashed_sidecar(output, kind.suffix());
        }
        self.run_dir.join([output, kind.suffix()].concat())
    }

    fn hashed_sidecar(&self, output: &str, suffix: &str) -> PathBuf {
        let hex = blake3::hash(output.as_bytes()).to_hex();
        self.planexe_dir().join("sidecars").join(format!("{}{suffix}", &hex[..32]))
    }

    /// Whether the sidecars of an output have hashed names.
    pub fn is_hashed(&self, output: &str) -> bool {
        output.rsplit('/').next().unwrap_or(output).len() + Sidecar::Status.suffix().len() > NAME_MAX
    }

    /// Makes `.planexe/` and a folder in it.
    pub fn planexe_subdir(&self, name: &str) -> Result<PathBuf, FsError> {
        self.require_own_folder()?;
        let dir = self.planexe_dir().join(name);
        lock::require_own(&dir)
            .and_then(|()| fs::make_dirs(&dir, Durability::Synced))
            .map_err(|error| error.within(&self.run_dir))?;
        Ok(dir)
    }

    /// That `.planexe/`, if it is there, is no link: nothing is written where one leads.
    pub fn require_own_folder(&self) -> Result<(), FsError> {
        lock::require_own(&self.planexe_dir()).map_err(|error| error.within(&self.run_dir))
    }

    /// Removes temporary files left by processes that are gone: in `.planexe/` and in the given
    /// folders of outputs (relative to the run directory). Under the lock; returns how many.
    pub fn sweep<'a>(&self, output_dirs: impl IntoIterator<Item = &'a str>) -> Result<usize, FsError> {
        let mut swept = 0;
        let planexe = self.planexe_dir();
        for dir in [
            "", "tmp", "sidecars", "partial", "history", "logs", "passed", "retry", "live", "edit", "batches",
        ] {
            swept += fs::sweep_temps(&planexe.join(dir))?;
        }
        for (receiver, _) in fs::list_dir(&planexe.join("outbox"))? {
            swept += fs::sweep_temps(&planexe.join("outbox").join(receiver))?;
        }
        for dir in output_dirs {
            swept += fs::sweep_temps(&self.run_dir.join(dir))?;
        }
        Ok(swept)
    }

    /// [`Store::sweep`] of the folder caches are written in, for builds that begin nothing.
    pub fn sweep_caches(&self) -> Result<usize, FsError> {
        fs::sweep_temps(&self.planexe_dir())
    }

    /// Mends the append-only files of the run at the start of a build, under the lock; returns which
    /// were cut. `path` is relative to the run directory.
    pub fn mend_all(&self) -> Result<Vec<(String, jsonl::Mended)>, FsError> {
        let mut mended = Vec::new();
        for name in [
            "events.jsonl",
            "failures.jsonl",
            "usage_metrics.jsonl",
            ".planexe/checkpoints.jsonl",
            ".planexe/history/log.jsonl",
        ] {
            if let Some(cut) = jsonl::mend(&self.path(name), &self.partial_dir())? {
                mended.push((name.to_owned(), cut));
            }
        }
        Ok(mended)
    }
}

/// One path component that stands for a task or instance: readable, safe on every file system, equal
/// for no two tasks even where case is folded, at most 100 bytes.
pub fn task_dir_name(task: &str) -> String {
    let hex = blake3::hash(task.as_bytes()).to_hex();
    let mut name: String = task
        .chars()
        .take(80)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .collect();
    if name.is_empty() || name.starts_with(['.', '-']) {
        name.insert(0, '_');
    }
    format!("{name}-{}", &hex[..8])
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::commit::{CheckpointOf, Commit, Content};
    use planexe_base::record::{
        By, Digest, Done, InputRecord, LastAttempt, OutputRecord, SCHEMA, State, Status,
    };

    pub(crate) fn store() -> (tempfile::TempDir, Store) {
        // Thousands of small files: in memory where that is to be had.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Store::open(dir.path());
        (dir, store)
    }

    pub(crate) fn done() -> Done {
        Done {
            schema: SCHEMA,
            task: "swot".into(),
            fingerprint: Digest::of(b"f"),
            parts: Default::default(),
            inputs: vec![InputRecord { path: "plan.txt".into(), blake3: Digest::of(b"plan") }],
            outputs: vec![OutputRecord { path: "swot.json".into(), bytes: 3, blake3: Digest::of(b"out") }],
            completed_utc: "2026-03-01T22:15:04.123Z".into(),
            by: By::Build,
            by_user: None,
            checkpoint_id: None,
            made_with: None,
            call: None,
            sample: false,
            imported: None,
            kept: None,
            eval: None,
            other: Default::default(),
        }
    }

    /// Records a task as done, with its one output; the id of its checkpoint.
    pub(crate) fn make(store: &Store, task: &str, step: u32, content: &str) -> String {
        let commit = Commit {
            task: task.into(),
            outputs: vec![(format!("{task}.json"), Content::Bytes(content.into()))],
            done: Done { task: task.into(), completed_utc: planexe_base::clock::now_utc(), ..done() },
            status: Status {
                last: LastAttempt { attempt: 1, ..LastAttempt::default() },
                ..Status::new(task, State::Done)
            },
            checkpoint: Some(CheckpointOf {
                step,
                decision_id: format!("{:?}", std::time::Instant::now()),
                pipeline_hash: "p".into(),
                sandbox_ref: None,
                id: None,
            }),
            durability: Durability::Unsynced,
            announced: false,
            why: Why::Replaced,
        };
        commit::commit(store, commit).unwrap().checkpoint.unwrap().id
    }

    pub(crate) fn write(store: &Store, name: &str, text: &str) {
        fs::write_atomic(&store.path(name), text.as_bytes(), Durability::Unsynced).unwrap();
    }

    pub(crate) fn text(store: &Store, name: &str) -> Option<String> {
        fs::optional(fs::read_to_string(&store.path(name))).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;

    #[test]
    fn task_folders_are_one_short_component_each_of_its_own() {
        let long = "x".repeat(500);
        let names: Vec<String> =
            ["swot", "Swot", "review[a/b]", "review[a_b]", "../../etc", "-rf", "", "üñï", &long]
                .iter()
                .map(|task| task_dir_name(task))
                .collect();
        for (at, name) in names.iter().enumerate() {
            assert!(name.len() <= 100 && !name.contains('/') && !name.starts_with(['.', '-']), "{name}");
            assert!(names[..at].iter().all(|other| !other.eq_ignore_ascii_case(name)), "{name}");
        }
        assert!(names[2].starts_with("review_a_b_-"));
    }

    #[test]
    fn opening_and_reading_write_nothing() {
        let (dir, store) = store();
        store.read_done("swot.json");
        store.read_status("swot.json");
        assert!(store.read_run().is_none());
        assert!(store.history().entries_all().unwrap().is_empty());
        assert!(store.checkpoints().last().unwrap().is_none());
        assert!(store.calls().list("swot").unwrap().is_empty());
        assert!(store.mend_all().unwrap().is_empty());
        assert_eq!(store.sweep(["", "reviews"]).unwrap(), 0);
        Index::load(&store).save_if_changed().unwrap();
        assert!(fs::list_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn what_the_dead_left_among_events_is_swept() {
        let (_dir, store) = store();
        let outbox = store.planexe_dir().join("outbox/ops");
        fs::make_dirs(&outbox, Durability::Unsynced).unwrap();
        let left = format!(".{}{}-00000000-0-000000000001.json", fs::TEMP_PREFIX, i32::MAX);
        fs::write_atomic(&outbox.join(left), b"{", Durability::Unsynced).unwrap();
        assert_eq!(store.sweep([]).unwrap(), 1);
    }

    #[test]
    fn torn_files_of_a_run_are_mended_together() {
        let (_dir, store) = store();
        write(&store, "events.jsonl", "{\"a\":1}\n{\"a\"");
        fs::make_dirs(&store.planexe_dir(), Durability::Unsynced).unwrap();
        write(&store, ".planexe/checkpoints.jsonl", "{\"a\":1}\n\0\0");
        let mended = store.mend_all().unwrap();
        let names: Vec<_> = mended.iter().map(|(name, mended)| (name.as_str(), mended.cut_bytes)).collect();
        assert_eq!(names, [("events.jsonl", 4), (".planexe/checkpoints.jsonl", 2)]);
        assert!(store.mend_all().unwrap().is_empty());
    }
}
