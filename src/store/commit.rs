//! How a finished attempt becomes a finished task, in the one order that a kill or a power cut at any
//! point leaves something sound of (section 8 of the design).
//!
//! 1. outputs under temporary names beside their targets, synced
//! 2. old contents into history
//! 3. `.DONE` removed
//! 4. outputs renamed, directories synced
//! 5. checkpoint
//! 6. `.DONE`
//! 7. `.status`
//!
//! Before 3 nothing has changed. Between 3 and 6 the task is not done and its answer is kept: the next
//! build repeats this without a call. `.DONE` is on disk before `.status` says done, since the reverse
//! would look as if a person had removed `.DONE`.

use std::path::PathBuf;

use super::checkpoints::Checkpoint;
use super::history::Temps;
use super::{Store, Why};
use crate::fs::{self, Durability, FsError};
use crate::record::{Digest, Done, OutputRecord, Status};

/// What an output is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What a finished temporary file holds, on the same file system; it is renamed or removed.
    Temp(PathBuf),
    /// What it holds already: it was written in place. What it held before is the caller's to put into
    /// history and to remember.
    InPlace {
        /// The content before the attempt.
        former: Option<Digest>,
    },
}

/// A finished attempt.
#[derive(Debug)]
pub struct Commit {
    /// `task` or `task[key]`.
    pub task: String,
    /// The outputs by their names relative to the run directory, the first one first.
    pub outputs: Vec<(String, Content)>,
    /// The new `.DONE`; `outputs` and `checkpoint_id` are filled in.
    pub done: Done,
    /// The new `.status`; `outputs` and `checkpoint_id` are filled in.
    pub status: Status,
    /// The checkpoint of this completion, made from the outputs' records.
    pub checkpoint: Option<CheckpointOf>,
    /// Whether something was paid for.
    pub durability: Durability,
    /// Why old contents go to history.
    pub why: Why,
}

/// What a checkpoint says beyond the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOf {
    /// The task's topological position.
    pub step: u32,
    /// Digest of what the attempt was decided on.
    pub decision_id: String,
    /// Digest of the pipeline.
    pub pipeline_hash: String,
}

/// A finished task.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Whether any output's bytes are other than before.
    pub changed: bool,
    /// The `.DONE` as written.
    pub done: Done,
    /// The `.status` as written.
    pub status: Status,
    /// The checkpoint as written.
    pub checkpoint: Option<Checkpoint>,
}

/// Commits a finished attempt. On an error the task is not done; what was written under temporary
/// names is gone again. An output whose bytes are what they were keeps its file, mtime and all.
pub fn commit(store: &Store, commit: Commit) -> Result<Committed, FsError> {
    let run_dir = store.run_dir();
    commit_inner(store, commit).map_err(|error| error.within(run_dir))
}

fn commit_inner(store: &Store, commit: Commit) -> Result<Committed, FsError> {
    let Commit { task, outputs, mut done, mut status, checkpoint, durability, why } = commit;
    let mut temps = Temps::default();
    // Temporary files of a command are ours from here on, whatever fails.
    let mut given = Temps::default();
    for (output, content) in &outputs {
        if let Content::Temp(temp) = content {
            given.0.push((temp.clone(), store.path(output)));
        }
    }
    let mut records = Vec::new();
    let mut changed = false;
    for (output, content) in &outputs {
        let target = store.path(output);
        fs::ensure_inside(store.run_dir(), &target)?;
        if let Some(dir) = target.parent() {
            fs::make_dirs(dir, durability)?;
        }
        let (blake3, bytes) = match content {
            Content::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
            Content::Temp(temp) => fs::hash_file(temp)?,
            Content::InPlace { .. } => {
                if durability == Durability::Synced {
                    fs::sync_file(&target)?;
                }
                fs::hash_file(&target)?
            }
        };
        let old = fs::plain_signature(&target)?;
        let same = match old {
            Some(old) if old.size == bytes => fs::hash_file(&target)?.0 == blake3,
            _ => false,
        };
        match content {
            Content::InPlace { former } => changed |= former.as_ref() != Some(&blake3),
            Content::Bytes(_) if same => {}
            Content::Bytes(content) => {
                changed = true;
                temps.0.push((fs::write_beside(&target, content, durability)?, target));
            }
            Content::Temp(temp) => {
                changed |= !same;
                let new = fs::plain_signature(temp)?;
                if !same || new.map(|new| new.mode) != old.map(|old| old.mode) {
                    if durability == Durability::Synced {
                        fs::sync_file(temp)?;
                    }
                    given.0.retain(|(path, _)| path != temp);
                    temps.0.push((temp.clone(), target));
                }
            }
        }
        records.push(OutputRecord { path: output.clone(), bytes, blake3 });
    }
    let names: Vec<String> = outputs.iter().map(|(output, _)| output.clone()).collect();
    let first = names.first().cloned().unwrap_or_default();
    if changed && !temps.0.is_empty() {
        store.save_with(&task, why, &names, true, durability)?;
    }
    store.invalidate(&task, &first, durability)?;
    temps.publish(durability)?;
    drop(given);

    let checkpoint = checkpoint.map(|of| {
        Checkpoint::new(
            of.step,
            &task,
            status.attempt,
            &of.decision_id,
            &of.pipeline_hash,
            &done.completed_utc,
            records.clone(),
        )
    });
    done.outputs = records.clone();
    status.outputs = records;
    if let Some(checkpoint) = &checkpoint {
        done.checkpoint_id = Some(checkpoint.id.clone());
        status.checkpoint_id = Some(checkpoint.id.clone());
    }
    let checkpoint = checkpoint.map(|mut checkpoint| {
        checkpoint.done = serde_json::to_value(&done).ok();
        checkpoint
    });
    if let Some(checkpoint) = &checkpoint {
        store.checkpoints().append(checkpoint, durability)?;
    }
    store.write_done(&first, &done, durability)?;
    store.write_status(&first, &status, durability)?;
    Ok(Committed { changed, done, status, checkpoint })
}
