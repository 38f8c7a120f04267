//! One line for every completed task: what it was decided on, and what came out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jsonl;
use crate::fs::{self, Durability, FsError};
use crate::record::{Digest, OutputRecord};

/// A completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Names it: 12 hex digits.
    pub id: String,
    /// The task's topological position.
    pub step: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// Digest of what the attempt was decided on.
    pub decision_id: String,
    /// Digest over the outputs, or a git commit.
    pub sandbox_ref: String,
    /// Digest of the pipeline as it was.
    pub pipeline_hash: String,
    /// When, RFC 3339, UTC.
    pub time_utc: String,
    /// What came out.
    pub outputs: Vec<OutputRecord>,
    /// The `.DONE` that goes with it, so that the moment can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Value>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Checkpoint {
    /// A checkpoint of a completion; its id is derived from all of it.
    #[expect(clippy::too_many_arguments, reason = "a record's fields, each named once")]
    pub fn new(
        step: u32,
        task: &str,
        attempt: u32,
        decision_id: &str,
        pipeline_hash: &str,
        time_utc: &str,
        outputs: Vec<OutputRecord>,
    ) -> Checkpoint {
        let sandbox_ref = Checkpoint::digest_outputs(&outputs);
        let mut checkpoint = Checkpoint {
            id: String::new(),
            step,
            task: task.to_owned(),
            attempt,
            decision_id: decision_id.to_owned(),
            sandbox_ref,
            pipeline_hash: pipeline_hash.to_owned(),
            time_utc: time_utc.to_owned(),
            outputs,
            done: None,
            other: Map::new(),
        };
        checkpoint.id = Digest::of(&jsonl::to_line(&checkpoint)).short().to_owned();
        checkpoint
    }

    /// Digest over outputs: names and contents, in order.
    pub fn digest_outputs(outputs: &[OutputRecord]) -> String {
        let mut hasher = blake3::Hasher::new();
        for output in outputs {
            hasher.update(&(output.path.len() as u64).to_le_bytes());
            hasher.update(output.path.as_bytes());
            hasher.update(output.blake3.0.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// `.planexe/checkpoints.jsonl`.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
}

impl Checkpoints {
    pub(super) fn new(planexe_dir: &Path) -> Checkpoints {
        Checkpoints { path: planexe_dir.join("checkpoints.jsonl") }
    }

    /// Adds one.
    pub fn append(&self, checkpoint: &Checkpoint, durability: Durability) -> Result<(), FsError> {
        if let Some(dir) = self.path.parent() {
            fs::make_dirs(dir, Durability::Synced)?;
        }
        jsonl::append(&self.path, checkpoint, durability)
    }

    /// All, oldest first; lines that cannot be read are passed over.
    pub fn list(&self) -> Result<Vec<Checkpoint>, FsError> {
        jsonl::read_records(&self.path)
    }

    /// The newest. Reads the end of the file only.
    pub fn last(&self) -> Result<Option<Checkpoint>, FsError> {
        let mut window = 1 << 16;
        loop {
            let Some((tail, total)) = fs::optional(fs::read_tail(&self.path, window))? else {
                return Ok(None);
            };
            let last =
                tail.rsplit(|&b| b == b'\n').find_map(|line| serde_json::from_slice::<Checkpoint>(line).ok());
            if last.is_some() || tail.len() as u64 == total {
                return Ok(last);
            }
            window *= 4;
        }
    }
}
