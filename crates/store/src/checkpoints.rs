//! One line for every completed task: the digest of what it was made from, and its outputs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jsonl;
use planexe_base::fs::{self, AppendFile, Durability, FsError};
use planexe_base::record::{Digest, Done, OutputRecord};

/// The record that one task was completed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The outputs at that moment, with their digests.
    pub outputs: Vec<OutputRecord>,
    /// The `.DONE` that goes with it, so that the moment can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Done>")]
    pub done: Option<Value>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Map<String, Value>,
}

impl Checkpoint {
    /// A checkpoint of a completion; its id is derived from all of it.
    #[expect(clippy::too_many_arguments, reason = "the fields of a record")]
    pub fn new(
        step: u32,
        task: &str,
        attempt: u32,
        decision_id: &str,
        sandbox_ref: Option<&str>,
        id: Option<&str>,
        pipeline_hash: &str,
        time_utc: &str,
        outputs: Vec<OutputRecord>,
    ) -> Checkpoint {
        let sandbox_ref = sandbox_ref.map_or_else(|| Checkpoint::digest_outputs(&outputs), str::to_owned);
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
        checkpoint.id = match id {
            Some(id) => id.to_owned(),
            None => Digest::of(&jsonl::to_line(&checkpoint)).short().to_owned(),
        };
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

/// A checkpoint with its `.DONE`, as [`Checkpoint::done`] would hold it.
#[derive(Debug, Serialize)]
pub(super) struct WithDone<'a> {
    #[serde(flatten)]
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) done: &'a Done,
}

/// The list of completions, `.planexe/checkpoints.jsonl`.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
    /// The file as it was last appended to without a sync.
    open: Mutex<Option<AppendFile>>,
}

impl Checkpoints {
    pub(super) fn new(run_dir: &Path) -> Checkpoints {
        Checkpoints { path: run_dir.join(".planexe/checkpoints.jsonl"), open: Mutex::default() }
    }

    /// Adds one completion at the end of the list.
    pub fn append(&self, checkpoint: &impl Serialize, durability: Durability) -> Result<(), FsError> {
        let line = jsonl::to_line(checkpoint);
        // A sync is not waited for by others.
        if durability == Durability::Synced {
            return match fs::append_line(&self.path, &line, durability) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_dir()?;
                    fs::append_line(&self.path, &line, durability)
                }
                appended => appended,
            }
            .map(drop);
        }
        let mut open = self.open.lock();
        // Another file may have taken its name.
        if let Some(file) = open.take()
            && file.is_at_its_name()
        {
            return open.insert(file).line(&line, durability);
        }
        self.make_dir()?;
        fs::append_line(&self.path, &line, durability).map(|file| *open = Some(file))
    }

    fn make_dir(&self) -> Result<(), FsError> {
        self.path.parent().map_or(Ok(()), |dir| fs::make_dirs(dir, Durability::Synced))
    }

    /// Leaves only those up to and including one; the others are set aside in
    /// `checkpoints.dropped.jsonl`. Under the lock. Returns how many went.
    pub fn truncate_after(&self, id: &str) -> Result<usize, FsError> {
        let all = self.list()?;
        let Some(at) = all.iter().rposition(|checkpoint| checkpoint.id == id) else { return Ok(0) };
        let (kept, dropped) = all.split_at(at + 1);
        if dropped.is_empty() {
            return Ok(0);
        }
        let aside = self.path.with_file_name("checkpoints.dropped.jsonl");
        for checkpoint in dropped {
            jsonl::append(&aside, checkpoint, Durability::Unsynced)?;
        }
        fs::sync_file(&aside)?;
        fs::write_atomic(&self.path, &jsonl::to_lines(kept), Durability::Synced)?;
        Ok(dropped.len())
    }

    /// All, oldest first; lines that cannot be read are passed over.
    pub fn list(&self) -> Result<Vec<Checkpoint>, FsError> {
        jsonl::read_records(&self.path)
    }

    /// All, oldest first, where those that go are lost: a line that cannot be read is an error.
    pub fn list_to_rewrite(&self) -> Result<Vec<Checkpoint>, FsError> {
        jsonl::read_to_rewrite(&self.path)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{make, store};

    #[test]
    fn they_are_listed_in_order_and_damage_is_passed_over() {
        let (_dir, store) = store();
        let a = make(&store, "a", 0, "a1");
        let b = make(&store, "b", 1, "b1");
        assert_ne!(a, b);
        let checkpoints = store.checkpoints();
        let ids = |list: Vec<Checkpoint>| list.into_iter().map(|c| c.id).collect::<Vec<_>>();
        assert_eq!(ids(checkpoints.list().unwrap()), [a.clone(), b.clone()]);
        fs::append_line(&checkpoints.path, b"garbage", Durability::Unsynced).unwrap();
        assert_eq!(ids(checkpoints.list().unwrap()), [a, b.clone()]);
        assert_eq!(checkpoints.last().unwrap().unwrap().id, b);
        fs::append_line(&checkpoints.path, "x".repeat(200_000).as_bytes(), Durability::Unsynced).unwrap();
        assert_eq!(checkpoints.last().unwrap().unwrap().id, b);
        assert_eq!(checkpoints.truncate_after("none").unwrap(), 0);
        assert_eq!(checkpoints.truncate_after(&b).unwrap(), 0);
    }
}
