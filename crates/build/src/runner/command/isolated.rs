//! A command that works in a worktree of its own: what it left there is committed before anything is made of it.

use super::super::isolated::Worktree;
use super::super::{BuildContext, Job, Outcome};
use super::attempt::{Attempt, Ended, deliver, targets_inside};
use super::elsewhere::Place;
use planexe_base::fs::{self, FsError};
use planexe_pipeline::project::CommandSpec;

/// Runs it in a worktree.
pub(super) fn attempt(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    place: Option<&Place<'_>>,
) -> Result<Outcome, FsError> {
    let mut worktree = match Worktree::open(ctx, job) {
        Ok(worktree) => worktree,
        Err(error) => return error.into_outcome(),
    };
    let targets = targets_inside(&worktree.root, job, |output| worktree.path(output))?;
    // A log from the attempt before may be there still: the worktree is as that left it.
    let stdout = if spec.stdout && place.is_none_or(|place| !place.is_adopted()) {
        Some(fs::fresh_log(&targets[0])?)
    } else {
        None
    };
    let attempt =
        Attempt { ctx, job, spec, writes: &targets, stdout, worktree: Some(&worktree), place, former: &[] };
    match attempt.run(|| None)? {
        Ended::Unmade(outcome) => Ok(outcome),
        Ended::Made { failed } => match worktree.finish(ctx, job) {
            Ok(outputs) => deliver(ctx, job, outputs, failed),
            Err(error) => error.into_outcome(),
        },
    }
}
