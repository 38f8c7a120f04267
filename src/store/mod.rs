//! What a run directory remembers: sidecars, kept answers, history, checkpoints, logs, the lock.
//!
//! Everything here can be read without the lock and by another process while a build runs; writing
//! is for who holds the [`lock::RunLock`], except for markers a user sets by hand. Nothing damaged
//! is ever an error of the build: it is named and passed over. What can't be *written* is an error.

pub mod calls;
pub mod checkpoints;
pub mod commit;
pub mod history;
pub mod index;
pub mod jsonl;
pub mod lock;
pub mod logs;
pub mod run_json;
pub mod sidecar;

use std::path::{Path, PathBuf};

use crate::fs::{self, Durability, FsError, NAME_MAX};

pub use calls::{CallRecord, Calls, KeptRequest, Verdict};
pub use checkpoints::{Checkpoint, Checkpoints};
pub use commit::{Commit, Committed, Content, commit};
pub use history::{Entry, History, Why};
pub use index::Index;
pub use lock::{LockError, Owner, RunLock, Wait};
pub use run_json::{Phase, RunJson};
pub use sidecar::{Sidecar, StatusRead};

/// One run directory. Opening it writes nothing.
#[derive(Debug)]
pub struct Store {
    run_dir: PathBuf,
    history: History,
    calls: Calls,
    checkpoints: Checkpoints,
}

impl Store {
    /// The store of a run directory, which need not hold anything yet.
    pub fn open(run_dir: impl Into<PathBuf>) -> Store {
        let run_dir = run_dir.into();
        let planexe = run_dir.join(".planexe");
        Store {
            history: History::new(&planexe),
            calls: Calls::new(&planexe),
            checkpoints: Checkpoints::new(&planexe),
            run_dir,
        }
    }

    /// The run directory.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// A file of the run by its name relative to the run directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.run_dir.join(relative)
    }

    /// `.planexe/`.
    pub fn planexe_dir(&self) -> PathBuf {
        self.run_dir.join(".planexe")
    }

    /// `.planexe/partial/`: candidates, and what was cut off or set aside.
    pub fn partial_dir(&self) -> PathBuf {
        self.planexe_dir().join("partial")
    }

    /// Former contents.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Kept answers.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Completed tasks, in order.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Where a sidecar of a task lives, by the task's first output: beside it, or, if that name would
    /// be too long for the file system, under a hashed one in `.planexe/sidecars/`.
    pub fn sidecar_path(&self, output: &str, kind: Sidecar) -> PathBuf {
        let (dir, name) = match output.rsplit_once('/') {
            Some((dir, name)) => (self.run_dir.join(dir), name),
            None => (self.run_dir.clone(), output),
        };
        // The longer of the two decides, so that both are found in one place.
        if name.len() + Sidecar::Status.suffix().len() <= NAME_MAX {
            return dir.join(format!("{name}{}", kind.suffix()));
        }
        self.hashed_sidecar(output, kind.suffix())
    }

    fn hashed_sidecar(&self, output: &str, suffix: &str) -> PathBuf {
        let hex = blake3::hash(output.as_bytes()).to_hex();
        self.planexe_dir().join("sidecars").join(format!("{}{suffix}", &hex[..32]))
    }

    /// Whether the sidecars of an output have hashed names.
    fn is_hashed(&self, output: &str) -> bool {
        output.rsplit('/').next().unwrap_or(output).len() + Sidecar::Status.suffix().len() > NAME_MAX
    }

    /// Makes `.planexe/` and a folder in it.
    pub(crate) fn planexe_subdir(&self, name: &str) -> Result<PathBuf, FsError> {
        let dir = self.planexe_dir().join(name);
        fs::make_dirs(&dir, Durability::Synced).map_err(|error| error.within(&self.run_dir))?;
        Ok(dir)
    }

    /// Removes temporary files left by processes that are gone: in `.planexe/` and in the given
    /// folders of outputs (relative to the run directory). Under the lock; returns how many.
    pub fn sweep<'a>(&self, output_dirs: impl IntoIterator<Item = &'a str>) -> Result<usize, FsError> {
        let mut swept = 0;
        let planexe = self.planexe_dir();
        for dir in ["", "sidecars", "partial", "history"] {
            swept += fs::sweep_temps(&planexe.join(dir))?;
        }
        for folder in ["calls", "history/objects"] {
            for (name, kind) in fs::list_dir(&planexe.join(folder))? {
                if kind == fs::FileKind::Dir {
                    swept += fs::sweep_temps(&planexe.join(folder).join(name))?;
                }
            }
        }
        for dir in output_dirs {
            swept += fs::sweep_temps(&self.run_dir.join(dir))?;
        }
        Ok(swept)
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
    if name.starts_with(['.', '-']) {
        name.replace_range(..1, "_");
    }
    format!("{name}-{}", &hex[..8])
}
