//! Steering a running build by files under `.planexe/`: `stop`, `pause`, `abort`, and a file per task
//! that a person let pass. A running build looks for them several times a second; a `stop` older than
//! the build is removed by it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, sidecar, task_dir_name};
use crate::fs::{self, Durability, FsError};

/// What is asked of a running build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Start nothing more; what runs finishes.
    Stop,
    /// The same, and the run counts as given up; `hard` ends what runs.
    Abort {
        /// Whether what runs is ended too.
        hard: bool,
    },
    /// Start nothing while true.
    Pause(bool),
    /// A person did, or let pass, a task.
    Passed(String),
}

/// What a person said of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// `task` or `task[key]`.
    pub task: String,
    /// Who.
    pub by: String,
    /// When, RFC 3339, UTC.
    pub at: String,
}

/// The files a build looks at.
#[derive(Debug)]
pub struct Controls {
    dir: PathBuf,
    told: BTreeSet<String>,
    stopped: bool,
}

impl Controls {
    /// The controls of a run.
    pub fn new(store: &Store) -> Controls {
        Controls { dir: store.planexe_dir(), told: BTreeSet::new(), stopped: false }
    }

    /// What is asked now; a stop is told once, a pause every time.
    pub fn look(&mut self) -> Vec<Control> {
        let mut found = Vec::new();
        let there = |name: &str| fs::kind(&self.dir.join(name)).ok().flatten().is_some();
        if !self.stopped {
            if there("abort") {
                let hard = fs::read(&self.dir.join("abort")).is_ok_and(|bytes| bytes.starts_with(b"hard"));
                found.push(Control::Abort { hard });
                self.stopped = true;
            } else if there("stop") {
                found.push(Control::Stop);
                self.stopped = true;
            }
        }
        found.push(Control::Pause(there("pause")));
        for passed in self.all_passed() {
            if self.told.insert(passed.task.clone()) {
                found.push(Control::Passed(passed.task));
            }
        }
        found
    }

    fn all_passed(&self) -> Vec<Passed> {
        let dir = self.dir.join("passed");
        let files = fs::list_dir(&dir).unwrap_or_default();
        let read = |name| serde_json::from_slice(&fs::read(&dir.join(name)).ok()?).ok();
        files.into_iter().filter_map(|(name, _)| read(name)).collect()
    }

    /// Who let a task pass, if someone did.
    pub fn passed(&self, task: &str) -> Option<String> {
        let path = self.dir.join("passed").join(format!("{}.json", task_dir_name(task)));
        let passed: Passed = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (passed.task == task).then_some(passed.by)
    }

    /// Forgets it: it was used.
    pub fn clear_passed(&mut self, task: &str) {
        self.told.remove(task);
        let _ = fs::remove(&self.dir.join("passed").join(format!("{}.json", task_dir_name(task))));
    }
}

impl Store {
    /// Notes that a person did, or let pass, a task.
    pub fn pass(&self, passed: &Passed) -> Result<(), FsError> {
        let dir = self.planexe_subdir("passed")?;
        let path = dir.join(format!("{}.json", task_dir_name(&passed.task)));
        fs::write_atomic(&path, &sidecar::to_json(passed), Durability::Synced)
    }

    /// Whether a build is asked to start nothing for now.
    pub fn is_paused(&self) -> bool {
        fs::kind(&self.planexe_dir().join("pause")).ok().flatten().is_some()
    }

    /// Asks the running build for something; taking a pause back removes its file.
    pub fn ask(&self, control: &Control) -> Result<(), FsError> {
        let (name, text): (_, &[u8]) = match control {
            Control::Stop => ("stop", b""),
            Control::Abort { hard: false } => ("abort", b""),
            Control::Abort { hard: true } => ("abort", b"hard\n"),
            Control::Pause(true) => ("pause", b""),
            Control::Pause(false) => return fs::remove(&self.planexe_dir().join("pause")).map(drop),
            Control::Passed(_) => return Ok(()),
        };
        fs::write_atomic(&self.planexe_subdir("")?.join(name), text, Durability::Unsynced)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// Removes the `stop` and `abort` that ended an earlier build.
    pub fn clear_stop(&self) -> Result<(), FsError> {
        fs::remove(&self.planexe_dir().join("stop"))?;
        fs::remove(&self.planexe_dir().join("abort"))?;
        Ok(())
    }

    /// The task recorded beside a first output.
    pub fn recorded_task(&self, first: &str) -> Option<String> {
        match (self.read_done(first), self.read_status(first)) {
            (crate::record::Marker::Valid(done), _) => Some(done.task),
            (_, super::StatusRead::Valid(status)) => Some(status.task),
            _ => None,
        }
    }
}
