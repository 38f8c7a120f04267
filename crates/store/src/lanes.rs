//! What is on disk of isolated tasks, in `.planexe/isolation/`: the base as it was when the run began, and how far each
//! lane is. Synced, since git's own state says nothing of which task is at work and what it was decided on. By these
//! records commits reach the user's branches, so they count only where this user's planexe wrote them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::seal::{Seal, What};
use super::sidecar::to_json;
use super::{Store, task_dir_name};
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{Digest, SCHEMA};

/// Where commits go, as it was found when the first isolated task of the run was to be made. It goes when all that was
/// made of it is merged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// Version of the format.
    pub schema: u32,
    /// The run's part of the names of branches.
    pub run: String,
    /// The branch that was checked out.
    pub default: String,
    /// The base branches, by name.
    pub bases: BTreeMap<String, Pin>,
    /// When the base was pinned.
    pub pinned_utc: String,
}

/// A base branch and the commit it had when the run began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its commit when the run began.
    pub commit: String,
    /// The same, or the last commit of this run on it: what the next worktree begins with.
    pub tip: String,
}

/// A worktree and its branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Version of the format.
    pub schema: u32,
    /// The name: a task's, or that of several.
    pub lane: String,
    /// What stands for it in names of folders and branches.
    pub name: String,
    /// The branch its commits go to.
    pub base: String,
    /// The branch they are on.
    pub branch: String,
    /// The commit it began with.
    pub start: String,
    /// That commit, or the last one with which a task of it succeeded.
    pub head: String,
    /// The task that is at work, or was when planexe was killed.
    #[serde(default)]
    pub at_work: Option<AtWork>,
    /// The base before and after the merge, from just before that.
    #[serde(default)]
    pub merge: Option<Merge>,
    /// What its tasks committed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
}

/// The commits a task of a lane succeeded with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// `task` or `task[key]`.
    pub task: String,
    /// Its outputs: what reads them was made on top of it.
    pub outputs: Vec<String>,
    /// The commit it began with.
    pub from: String,
    /// The last of its own.
    pub to: String,
}

impl Lane {
    /// A task of it succeeded: its commits are what is between the last success and this one.
    pub fn succeeded(&mut self, task: &str, outputs: Vec<String>, commit: &str) {
        let from = std::mem::replace(&mut self.head, commit.to_owned());
        if from != commit {
            self.spans.push(Span { task: task.to_owned(), outputs, from, to: commit.to_owned() });
        }
    }
}

/// A task at work in a worktree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtWork {
    /// `task` or `task[key]`.
    pub task: String,
    /// The attempt that works in the lane.
    pub attempt: u32,
    /// What it was decided on.
    pub decision_id: String,
    /// When that attempt began.
    pub since_utc: String,
    /// The attempt failed: the next one does not go on with it.
    #[serde(default)]
    pub failed: bool,
    /// Inputs that the commit does not have so, and were put there.
    #[serde(default)]
    pub copied: Vec<Copied>,
}

/// An input that was put into a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Relative to the top of the worktree.
    pub path: String,
    /// Digest of what was put there.
    pub blake3: Digest,
    /// The commit has it too, with another content.
    pub tracked: bool,
}

/// A merge under way: enough to finish it after a kill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// The commit of the base before the merge.
    pub old: String,
    /// The commit of the base after it.
    pub new: String,
}

/// A record is small; whatever is larger is none.
const CAP: u64 = 16 << 20;
const PINS: &str = "base.json";
/// What the marks of these records say they are.
const ISOLATION: What<'static> = What::Record("isolation");

impl Store {
    fn isolation_dir(&self) -> PathBuf {
        self.planexe_dir().join("isolation")
    }

    /// The folder of all worktrees, `.planexe/worktrees/`.
    pub fn worktrees_dir(&self) -> PathBuf {
        self.planexe_dir().join("worktrees")
    }

    fn lane_file(&self, lane: &str) -> PathBuf {
        self.isolation_dir().join(format!("lane-{}.json", task_dir_name(lane)))
    }

    /// Patterns of what git is to leave alone in the worktree of a lane.
    pub fn lane_excludes(&self, lane: &str) -> PathBuf {
        self.isolation_dir().join(format!("lane-{}.exclude", task_dir_name(lane)))
    }

    /// A record, if it is there and this user's planexe wrote it here. One that the disk cannot read is an error: what
    /// hangs on it is not lost.
    fn read_isolation<T: Serialize + DeserializeOwned>(
        &self,
        path: &std::path::Path,
    ) -> Result<Option<T>, FsError> {
        let read =
            fs::if_content(fs::read_capped(path, CAP)).map_err(|error| error.within(self.run_dir()))?;
        let seal = || Seal::to_mark_at_least_for_now(self.run_dir(), ISOLATION);
        Ok(read.and_then(|bytes| seal()?.unsealed(&bytes)))
    }

    /// A record of isolated tasks that this user's planexe did not write in this folder, if there is one.
    pub fn foreign_isolation(&self) -> Result<Option<PathBuf>, FsError> {
        let pins = self.isolation_dir().join(PINS);
        if fs::kind(&pins)?.is_some() && self.read_isolation::<Pins>(&pins)?.is_none() {
            return Ok(Some(pins));
        }
        for path in self.lane_files()? {
            if self.read_isolation::<Lane>(&path)?.is_none() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn lane_files(&self) -> Result<Vec<PathBuf>, FsError> {
        let files = fs::if_content(fs::list_dir(&self.isolation_dir()))?.unwrap_or_default();
        let of_lane = |name: &str| name.starts_with("lane-") && name.ends_with(".json");
        let mut names: Vec<_> = files.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect();
        names.retain(|name| of_lane(name));
        names.sort();
        Ok(names.iter().map(|name| self.isolation_dir().join(name)).collect())
    }

    /// The base of the run, if it is pinned.
    pub fn pins(&self) -> Result<Option<Pins>, FsError> {
        let read = self.read_isolation(&self.isolation_dir().join(PINS))?;
        Ok(read.filter(|pins: &Pins| pins.schema <= SCHEMA))
    }

    /// Writes which commits the bases are pinned to.
    pub fn write_pins(&self, pins: &Pins) -> Result<(), FsError> {
        self.write_isolation(&self.isolation_dir().join(PINS), &self.sealed(pins))
    }

    /// How far a lane is.
    pub fn lane(&self, lane: &str) -> Result<Option<Lane>, FsError> {
        let read = self.read_isolation(&self.lane_file(lane))?;
        Ok(read.filter(|it: &Lane| it.schema <= SCHEMA && it.lane == lane))
    }

    /// All lanes there are.
    pub fn lanes(&self) -> Result<Vec<Lane>, FsError> {
        self.lane_files()?.iter().filter_map(|path| self.read_isolation(path).transpose()).collect()
    }

    fn sealed<T: Serialize>(&self, record: &T) -> Vec<u8> {
        let seal = Seal::to_mark_at_least_for_now(self.run_dir(), ISOLATION);
        seal.map_or_else(|| to_json(record), |seal| seal.sealed(record))
    }

    /// Writes how far it is.
    pub fn write_lane(&self, lane: &Lane) -> Result<(), FsError> {
        self.write_isolation(&self.lane_file(&lane.lane), &self.sealed(lane))
    }

    /// Writes what git is to leave alone there.
    pub fn write_lane_excludes(&self, lane: &str, patterns: &[u8]) -> Result<PathBuf, FsError> {
        let path = self.lane_excludes(lane);
        self.write_isolation(&path, patterns)?;
        Ok(path)
    }

    /// A lane is done with.
    pub fn remove_lane(&self, lane: &str) -> Result<(), FsError> {
        fs::remove_durably(&self.lane_file(lane), Durability::Synced)?;
        fs::remove(&self.lane_excludes(lane))?;
        Ok(())
    }

    /// With no lane left nothing hangs on the base that was pinned: the next build looks at it anew.
    pub fn unpin(&self) -> Result<(), FsError> {
        let dir = self.isolation_dir();
        if fs::kind(&dir)?.is_some() && self.lanes()?.is_empty() {
            fs::remove(&dir.join(PINS))?;
            fs::remove_empty_dir(&dir)?;
        }
        Ok(())
    }

    fn write_isolation(&self, path: &std::path::Path, bytes: &[u8]) -> Result<(), FsError> {
        self.planexe_subdir("isolation")?;
        fs::write_via(&self.planexe_subdir("tmp")?, path, bytes, Durability::Synced)
            .map_err(|error| error.within(self.run_dir()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::store;

    #[test]
    fn what_is_written_of_lanes_is_read() {
        let (_dir, store) = store();
        assert_eq!((store.pins().unwrap(), store.lane("ui").unwrap()), (None, None));
        assert_eq!(store.lanes().unwrap(), []);
        let at_work = AtWork { task: "fix[a/b]".into(), attempt: 2, ..AtWork::default() };
        let lane =
            Lane { schema: SCHEMA, lane: "fix[a/b]".into(), at_work: Some(at_work), ..Lane::default() };
        store.write_lane(&lane).unwrap();
        store.write_pins(&Pins { schema: SCHEMA, default: "main".into(), ..Pins::default() }).unwrap();
        assert_eq!(store.lane("fix[a/b]").unwrap().as_ref(), Some(&lane));
        assert_eq!(store.lane("fix").unwrap(), None);
        // While a lane is open its base stays.
        store.unpin().unwrap();
        assert_eq!(store.pins().unwrap().map(|pins| pins.default), Some("main".into()));
        store.remove_lane("fix[a/b]").unwrap();
        store.unpin().unwrap();
        assert!(store.pins().unwrap().is_none() && !store.planexe_dir().join("isolation").exists());
        // A newer one is not believed, nor half of one.
        store.write_lane(&Lane { schema: SCHEMA + 1, lane: "x".into(), ..Lane::default() }).unwrap();
        assert_eq!(store.lane("x").unwrap(), None);
    }
}
