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
    /// What a finished temporary file holds, on the same file system; it is renamed, or removed if
    /// the output holds the same already. After an error it is still the caller's.
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
    /// What stands for the outputs: a git commit; without one a digest over them.
    pub sandbox_ref: Option<String>,
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

/// Commits a finished attempt. On an error the task is not done, and temporary files are gone again
/// except those the caller gave ([`Store::move_to_partial`] keeps them from being swept). An output whose bytes are what they were keeps its file, mtime and all.
pub fn commit(store: &Store, commit: Commit) -> Result<Committed, FsError> {
    let run_dir = store.run_dir();
    commit_inner(store, commit).map_err(|error| error.within(run_dir))
}

fn commit_inner(store: &Store, commit: Commit) -> Result<Committed, FsError> {
    let Commit { task, outputs, mut done, mut status, checkpoint, durability, why } = commit;
    let mut temps = Temps::default();
    // The caller's own temporary files: those that stay behind are removed only once all went well.
    let mut given = Vec::new();
    let mut renames = Vec::new();
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
                let temp = fs::write_beside(&target, content, durability)?;
                temps.0.push((temp.clone(), target.clone()));
                renames.push((temp, target));
            }
            Content::Temp(temp) => {
                changed |= !same;
                let new = fs::plain_signature(temp)?;
                if !same || new.map(|new| new.mode) != old.map(|old| old.mode) {
                    if durability == Durability::Synced {
                        fs::sync_file(temp)?;
                    }
                    renames.push((temp.clone(), target));
                } else {
                    given.push(temp.clone());
                }
            }
        }
        records.push(OutputRecord { path: output.clone(), bytes, blake3 });
    }
    let names: Vec<String> = outputs.iter().map(|(output, _)| output.clone()).collect();
    let first = names.first().cloned().unwrap_or_default();
    if changed && !renames.is_empty() {
        let replacing = |output: &str| renames.iter().any(|(_, target)| *target == store.path(output));
        store.save_with(&task, why, &names, replacing, durability)?;
    }
    store.invalidate(&task, &first, durability)?;
    fs::publish(&renames, durability)?;
    temps.0.clear();
    for temp in given {
        fs::remove(&temp)?;
    }

    let checkpoint = checkpoint.map(|of| {
        Checkpoint::new(
            of.step,
            &task,
            status.attempt,
            &of.decision_id,
            of.sandbox_ref.as_deref(),
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
