//! `.planexe/live/`: the progress of a running build, for other processes: `progress.json`, and the text of each answer
//! as it is written. Nothing relies on it: read and write errors are ignored, and the next build begins with an empty
//! folder.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Store, task_dir_name};
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::SCHEMA;

/// What the tasks of a running build are doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Version of this format.
    pub schema: u32,
    /// The process id of the build.
    pub pid: u32,
    /// The attempts that run now.
    pub running: Vec<AtWork>,
    /// Tasks that would run if they had a slot, or wait between two attempts, with a word on it; the first of them.
    pub queued: Vec<Queued>,
    /// Servers of `[services]` that are up, or on their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Serving>,
}

/// A server of `[services]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Serving {
    /// Its name in the pipeline.
    pub service: String,
    /// `starting`, `ready`, `ending`, `failed`.
    pub state: String,
    /// Where, in a few words.
    pub doing: String,
}

/// An attempt at work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AtWork {
    /// `task` or `task[key]`.
    pub task: String,
    /// The attempt.
    pub attempt: u32,
    /// `starting`, `connecting`, `prompt`, `answer`, `checking`, `saving`, `running`, `rendering`.
    pub phase: String,
    /// In a few words: "writing, 412 tokens".
    pub doing: String,
    /// Tokens of the answer so far, about.
    pub tokens: u64,
    /// When it last got on.
    pub progress_utc: String,
}

/// A task that waits for its turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queued {
    /// `task` or `task[key]`.
    pub task: String,
    /// "waiting for a slot", "again in 2 s".
    pub doing: String,
}

impl Store {
    fn live_dir(&self) -> PathBuf {
        self.planexe_dir().join("live")
    }

    /// Where the text of an attempt is while it is written.
    pub fn live_text_path(&self, task: &str, attempt: u32) -> PathBuf {
        self.live_dir().join(format!("{}.{attempt}", task_dir_name(task)))
    }

    /// Tells other processes how far a build is.
    pub fn write_progress(&self, progress: &Progress) -> Result<(), FsError> {
        let dir = self.live_dir();
        fs::make_dirs(&dir, Durability::Unsynced)?;
        fs::write_atomic(&dir.join("progress.json"), &super::sidecar::to_json(progress), Durability::Unsynced)
    }

    /// Adds to the text of an attempt.
    pub fn append_live_text(&self, task: &str, attempt: u32, text: &[u8]) -> Result<(), FsError> {
        fs::make_dirs(&self.live_dir(), Durability::Unsynced)?;
        fs::append(&self.live_text_path(task, attempt), text)
    }

    /// How far the build of a process is; nothing if it did not say, or not in words of this version.
    pub fn read_progress(&self, pid: u32) -> Progress {
        let bytes = fs::read_capped(&self.live_dir().join("progress.json"), 4 << 20).unwrap_or_default();
        let read: Option<Progress> = serde_json::from_slice(&bytes).ok();
        read.filter(|progress| progress.pid == pid && progress.schema <= SCHEMA).unwrap_or_default()
    }

    /// Forgets all of it.
    pub fn clear_live(&self) -> Result<bool, FsError> {
        fs::remove_tree(&self.live_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::store;
    use super::*;

    #[test]
    fn progress_is_read_back_and_never_believed_blindly() {
        let (_dir, store) = store();
        assert_eq!(store.read_progress(7), Progress::default());
        let at_work = AtWork { task: "a".into(), attempt: 2, phase: "answer".into(), ..AtWork::default() };
        let queued = Queued { task: "b[x/y]".into(), doing: "waiting for a slot".into() };
        let progress = Progress {
            schema: SCHEMA,
            pid: 7,
            running: vec![at_work],
            queued: vec![queued],
            ..Progress::default()
        };
        store.write_progress(&progress).unwrap();
        assert_eq!(store.read_progress(7), progress);
        // Of another process.
        assert_eq!(store.read_progress(8), Progress::default());
        let path = store.planexe_dir().join("live/progress.json");
        let bytes = fs::read(&path).unwrap();
        let put = |bytes: &[u8]| fs::write_atomic(&path, bytes, Durability::Unsynced).unwrap();
        for cut in 0..bytes.len() - 1 {
            put(&bytes[..cut]);
            let read = store.read_progress(7);
            assert!(read == Progress::default() || read == progress, "{cut}: {read:?}");
        }
        // Of a newer version, and with fields that are not known.
        let text = String::from_utf8(bytes).unwrap();
        put(text.replacen("\"schema\": 1", "\"schema\": 99", 1).as_bytes());
        assert_eq!(store.read_progress(7), Progress::default());
        put(text.replacen("{", "{ \"of_tomorrow\": [1],", 1).as_bytes());
        assert_eq!(store.read_progress(7), progress);
        assert!(store.clear_live().unwrap() && !store.clear_live().unwrap());
    }

    #[test]
    fn texts_grow() {
        let (_dir, store) = store();
        store.append_live_text("a[../x]", 3, b"one ").unwrap();
        store.append_live_text("a[../x]", 3, b"two").unwrap();
        assert_eq!(fs::read(&store.live_text_path("a[../x]", 3)).unwrap(), b"one two");
    }
}
