//! A command that changes its outputs where they are. They are believed only while the record is there, so that is
//! given up first.

use std::path::PathBuf;

use super::super::{BuildContext, Job, Outcome};
use super::attempt::{Attempt, Ended, deliver, targets_inside};
use super::elsewhere::Place;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{Digest, Marker};
use planexe_pipeline::project::CommandSpec;
use planexe_store::Why;
use planexe_store::commit::Content;

/// Runs it on the outputs themselves.
pub(super) fn attempt(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    place: Option<&Place<'_>>,
) -> Result<Outcome, FsError> {
    let targets = targets_inside(ctx.store.run_dir(), job, |output| ctx.store.path(output))?;
    // Of one that is taken up that was done, and its outputs may change at this moment.
    let former = match place.and_then(Place::former) {
        Some(former) => former,
        None => give_up_record(ctx, job)?,
    };
    // `stdout` and `in_place` exclude each other.
    let attempt =
        Attempt { ctx, job, spec, writes: &targets, stdout: None, worktree: None, place, former: &former };
    let did_nothing = || match is_changed(&targets, &former) {
        Ok(true) => None,
        Ok(false) => Some("it changed none of its outputs".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match attempt.run(did_nothing)? {
        Ended::Unmade(outcome) => Ok(outcome),
        Ended::Made { failed } => {
            let contents = former.into_iter().map(|former| Content::InPlace { former });
            deliver(ctx, job, job.task.outputs.iter().cloned().zip(contents).collect(), failed)
        }
    }
}

/// Before a command that works in place: contents to history, the record removed, digests remembered.
/// Synced: from here on there is no telling half a content from an edit by hand, but for the record's absence.
fn give_up_record(ctx: &BuildContext, job: &Job) -> Result<Vec<Option<Digest>>, FsError> {
    let store = &ctx.store;
    store.save(&job.task.name, Why::Replaced, &job.task.outputs, Durability::Synced)?;
    let mut former = Vec::new();
    for output in &job.task.outputs {
        former.push(fs::optional(fs::hash_file(&store.path(output)))?.map(|(digest, _)| digest));
    }
    if let Some(first) = job.task.outputs.first()
        && store.read_done(first) != Marker::Missing
    {
        store.remove_done(first, Durability::Synced)?;
    }
    Ok(former)
}

/// Whether a command that works in place did anything: what was there before is no work of its own.
fn is_changed(writes: &[PathBuf], former: &[Option<Digest>]) -> Result<bool, FsError> {
    for (path, former) in writes.iter().zip(former) {
        if fs::if_content(fs::hash_file(path))?.map(|(digest, _)| digest) != *former {
            return Ok(true);
        }
    }
    Ok(false)
}
