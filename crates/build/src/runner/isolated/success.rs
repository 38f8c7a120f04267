//! What is written down of a task that succeeded in its worktree, or failed there, before anything is merged.

use super::super::{BuildContext, Job, Outcome, failure};
use super::{IsolationError, Worktree, checkpoint_id, isolation, known_lane, output_paths, spec_of};
use crate::check_staleness::Prepared;
use crate::git::Git;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::message::Message;
use planexe_base::record::By;
use planexe_base::style;
use planexe_store::Store;
use planexe_store::candidates::{Candidate, Success};
use planexe_store::commit::Content;
use planexe_store::lanes::Lane;
use planexe_ui::views::shell_word;

/// A task that succeeded, written down before anything is merged. `outputs`: what it made, if that is not kept yet.
pub(in super::super) fn succeed(
    ctx: &BuildContext,
    job: &Job,
    mut candidate: Candidate,
    outputs: Option<Vec<(String, Content)>>,
) -> Result<Outcome, FsError> {
    let (success, lane) = match success_of(ctx, job) {
        Ok(both) => both,
        Err(error) => return error.into_outcome(),
    };
    candidate.success = Some(success);
    match outputs {
        Some(outputs) => ctx.store.keep_candidate(&mut candidate, outputs)?,
        None => ctx.store.write_candidate(&candidate)?,
    }
    ctx.store.write_lane(&lane)?;
    Ok(Outcome::ReadyToMerge(Box::new(candidate)))
}

/// The commit that an isolated task's round ended with; none of a task that is not isolated.
pub(in super::super) fn committed(ctx: &BuildContext, job: &Job) -> Result<Option<String>, IsolationError> {
    let Some(spec) = ctx.project.spec(&job.task).isolate.as_deref() else { return Ok(None) };
    let Some(lane) = known_lane(ctx, spec.lane_of(&job.task.name))? else { return Ok(None) };
    Ok(isolation(ctx)?.place.git().tip(&lane.branch)?)
}

/// The rounds are over, and an earlier one was the best: its commits are what is merged. That it is taken is written
/// down first, so that after a kill nobody judges another round by its worktree.
pub(in super::super) fn succeed_with_best(
    ctx: &BuildContext,
    job: &Job,
    best: Candidate,
) -> Result<Outcome, FsError> {
    let best = Candidate { taken: true, ..best };
    ctx.store.write_candidate(&best)?;
    let back = match &best.commit {
        Some(commit) => Worktree::take_back(ctx, job, commit),
        None => {
            Err(failure(FailureClass::SessionVanished, "the commit of its best round is not known").into())
        }
    };
    if let Err(error) = back {
        return error.into_outcome();
    }
    let outputs = best.contents(&ctx.store)?;
    let candidate = Candidate { best: None, commit: None, taken: false, ..best };
    let outcome = succeed(ctx, job, candidate, Some(outputs))?;
    ctx.store.remove_best(&job.task.name)?;
    Ok(outcome)
}

/// What is recorded of it, and its lane as it is then.
fn success_of(ctx: &BuildContext, job: &Job) -> Result<(Success, Lane), IsolationError> {
    let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
    let task = &job.task.name;
    let gone = || {
        let message = Message::new("its branch is gone, and with it what it committed")
            .hint(format!("`planexe retry {}` makes it again", shell_word(task)));
        failure(FailureClass::SessionVanished, message)
    };
    let mut lane = known_lane(ctx, spec.lane_of(task))?.ok_or_else(gone)?;
    let commit = isolation.place.git().tip(&lane.branch)?.ok_or_else(gone)?;
    let at_work = lane.at_work.take().unwrap_or_default();
    let success = Success {
        lane: lane.lane.clone(),
        base: lane.base.clone(),
        branch: lane.branch.clone(),
        commit: commit.clone(),
        checkpoint_id: checkpoint_id(task, job.attempt, &job.prepared.decision_id, &at_work.since_utc),
        decision_id: job.prepared.decision_id.clone(),
        parts: job.prepared.fingerprint.parts().clone(),
        inputs: job.prepared.records(),
    };
    lane.succeeded(task, job.task.outputs.clone(), &commit);
    Ok((success, lane))
}

/// A candidate that a person accepts as it is, as what succeeded: what it committed is merged by the next build, before
/// anything reads it. `prepared`: what it was made from.
pub fn accepted_by_hand(
    store: &Store,
    lane: &str,
    candidate: &Candidate,
    prepared: &Prepared,
    user: Option<&str>,
) -> Result<(Candidate, Lane), String> {
    let task = &candidate.task;
    let gone = || {
        format!(
            "its branch is gone, and with it what it committed; `planexe retry {}` makes it again",
            shell_word(task)
        )
    };
    let mut lane = store.lane(lane).map_err(|error| error.to_string())?.ok_or_else(gone)?;
    let commit = Git::at(store.run_dir()).tip(&lane.branch).map_err(|error| error.to_string())?;
    let commit = commit.ok_or_else(gone)?;
    let since = match lane.at_work.take() {
        Some(other) if other.task != *task => {
            let (lane, other) = (style::clean(&lane.lane), style::clean(&other.task));
            return Err(format!(
                "`{other}` is at work in its lane `{lane}`; `planexe build` continues with that first"
            ));
        }
        at_work => at_work.unwrap_or_default().since_utc,
    };
    let success = Success {
        lane: lane.lane.clone(),
        base: lane.base.clone(),
        branch: lane.branch.clone(),
        commit: commit.clone(),
        checkpoint_id: checkpoint_id(task, candidate.attempt, &prepared.decision_id, &since),
        decision_id: prepared.decision_id.clone(),
        parts: prepared.fingerprint.parts().clone(),
        inputs: prepared.records(),
    };
    lane.succeeded(task, output_paths(candidate), &commit);
    let candidate = Candidate {
        success: Some(success),
        spent: false,
        failure: None,
        by: Some(By::Touch),
        by_user: user.map(str::to_owned),
        ..candidate.clone()
    };
    Ok((candidate, lane))
}

/// What the attempt left in its worktree is to be looked at, not to be gone on with.
pub(in super::super) fn failed(ctx: &BuildContext, job: &Job) -> Result<(), FsError> {
    let Some(spec) = ctx.project.spec(&job.task).isolate.as_deref() else { return Ok(()) };
    let Some(mut lane) = ctx.store.lane(spec.lane_of(&job.task.name))? else { return Ok(()) };
    match lane.at_work.as_mut().filter(|at_work| at_work.task == job.task.name && !at_work.failed) {
        Some(at_work) => at_work.failed = true,
        None => return Ok(()),
    }
    ctx.store.write_lane(&lane)
}
