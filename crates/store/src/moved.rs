//! When outputs were taken away and brought back by hand, in `.planexe/moved.jsonl`: `clean`, an item that is gone,
//! `restore`. Checkpoints tell what was made; with this it is known what was there at each moment, and that a task without
//! records was built before.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, Why, jsonl};
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FsError};

/// That outputs came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// When, RFC 3339, UTC.
    pub at: String,
    /// The task's first output.
    pub first: String,
    /// Why they went; none of what came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Why>,
    /// The checkpoint whose outputs came back, if they are those of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<String>,
}

impl Store {
    fn moved_file(&self) -> PathBuf {
        self.planexe_dir().join("moved.jsonl")
    }

    /// All, oldest first; lines that cannot be read are passed over.
    pub fn moved(&self) -> Result<Vec<Moved>, FsError> {
        jsonl::read_records(&self.moved_file())
    }

    /// Why the outputs of each task are gone, by its first output.
    pub fn gone(&self) -> HashMap<String, Why> {
        let mut gone = HashMap::new();
        for moved in self.moved().unwrap_or_default() {
            match moved.gone {
                Some(why) => gone.insert(moved.first, why),
                None => gone.remove(&moved.first),
            };
        }
        gone
    }

    /// Notes that the outputs of a task went.
    pub(super) fn note_gone(&self, first: &str, why: Why, durability: Durability) -> Result<(), FsError> {
        self.note_moved(first, Some(why), None, durability)
    }

    /// Notes that the outputs of a task came back.
    pub(super) fn note_back(
        &self,
        first: &str,
        checkpoint_id: Option<&str>,
        durability: Durability,
    ) -> Result<(), FsError> {
        self.note_moved(first, None, checkpoint_id, durability)
    }

    fn note_moved(
        &self,
        first: &str,
        gone: Option<Why>,
        checkpoint_id: Option<&str>,
        durability: Durability,
    ) -> Result<(), FsError> {
        let at = clock::now_utc();
        let checkpoint_id = checkpoint_id.map(str::to_owned);
        self.planexe_subdir("")?;
        jsonl::append(
            &self.moved_file(),
            &Moved { at, first: first.to_owned(), gone, checkpoint_id },
            durability,
        )
    }

    /// Forgets what came and went after a moment: all is as it was then. Under the lock.
    pub(super) fn forget_moved_after(&self, moment: &str) -> Result<(), FsError> {
        let all = self.moved()?;
        let kept: Vec<Moved> = all.iter().filter(|moved| moved.at.as_str() <= moment).cloned().collect();
        if kept.len() == all.len() {
            return Ok(());
        }
        fs::write_atomic(&self.moved_file(), &jsonl::to_lines(&kept), Durability::Synced)
    }
}
