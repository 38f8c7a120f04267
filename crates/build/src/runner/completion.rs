//! The end of a finished attempt: its outputs and records are committed together.

use super::status::status_of;
use super::{BuildContext, Job, Outcome};
use crate::output_times;
use planexe_base::clock;
use planexe_base::fs::Durability;
use planexe_base::record::{By, Digest, Done, Imported, MadeWith, SCHEMA, State, Status};
use planexe_engine::fingerprint;
use planexe_store::candidates::Success;
use planexe_store::commit::{self, CheckpointOf, Commit, Committed, Content};
use planexe_store::{Sidecar, Why};

/// What a finished attempt was made with.
#[derive(Debug, Default)]
pub struct Made {
    /// The model and its parameters.
    pub with: Option<MadeWith>,
    /// The kept call.
    pub call: Option<String>,
    /// A recorded answer to another prompt.
    pub sample: bool,
    /// A kept answer was used.
    pub reused: bool,
    /// The attempt that answer is of.
    pub attempt: Option<u32>,
    /// Who says so.
    pub by: Option<By>,
    /// The person who did, if one did.
    pub by_user: Option<String>,
    /// Where the answer came from, if another program made it.
    pub imported: Option<Imported>,
    /// The outputs that were there already are taken as they are.
    pub was_there: bool,
    /// The commit it was merged with, what was recorded of its success, and whether it would be made from the same now.
    pub merged: Option<(String, Box<Success>, bool)>,
    /// What a gate has to say though it lets the pipeline go on.
    pub warning: Option<String>,
}

/// A task that came to its end.
#[derive(Debug)]
pub struct Completed {
    /// Whether any output's bytes are other than before.
    pub changed: bool,
    /// A kept answer was used.
    pub reused: bool,
    /// A recorded answer to another prompt was used.
    pub sample: bool,
    /// The model that answered.
    pub model: Option<String>,
    /// Seconds of this attempt.
    pub duration_s: f64,
    /// Whether that is all it took: what was evaluated was made in this build.
    pub from_start: bool,
    /// What it was made from is not what it would be made from now.
    pub outdated: bool,
    /// Its checkpoint.
    pub checkpoint_id: Option<String>,
    /// Its command failed, and its evaluator accepted it all the same.
    pub rescued: bool,
    /// It is a gate that warned.
    pub warned: bool,
    /// What its evaluator gave it.
    pub score: Option<f64>,
    /// What it was given and what it left, as recorded: files relative to the run.
    pub contents: Vec<(String, Digest)>,
}

/// Commits an attempt whose outputs will do.
pub(super) fn commit_attempt(
    ctx: &BuildContext,
    job: &Job,
    outputs: Vec<(String, Content)>,
    made: Made,
) -> Outcome {
    let status = done_status(ctx, job, &made);
    let model = status.last.model.clone();
    let success = made.merged.as_ref().map(|(_, success, _)| &**success);
    // Of one that was made from other things than it would be now the record says from which.
    let then = made.merged.as_ref().filter(|(_, _, holds)| !holds).map(|(_, success, _)| &**success);
    let spec = ctx.project.spec(&job.task);
    let checkpoint = CheckpointOf {
        step: spec.step,
        decision_id: status.last.decision_id.clone().unwrap_or_default(),
        pipeline_hash: ctx.project.digest.short().to_owned(),
        sandbox_ref: made.merged.as_ref().map(|(commit, _, _)| commit.clone()),
        id: success.map(|success| success.checkpoint_id.clone()),
    };
    let late = spec.is_synced_late() && ctx.store.batch().takes(job.live.started.elapsed());
    let commit = Commit {
        task: job.task.name.clone(),
        outputs,
        done: done_record(job, &made, then, status.quality.eval.clone()),
        status,
        checkpoint: Some(checkpoint),
        durability: if late { Durability::Unsynced } else { Durability::Synced },
        // Where answers are paid for, the beginning of the attempt was written down too.
        announced: spec.is_paid() || success.is_some(),
        why: Why::Replaced,
    };
    let committed = commit::commit(&ctx.store, commit).and_then(|committed| {
        // An output whose bytes are the same kept its time.
        output_times::renew(&ctx.project, &ctx.store, &job.task.outputs)?;
        Ok(committed)
    });
    match committed {
        Ok(committed) => Outcome::Done(Box::new(Completed {
            contents: contents(ctx, &committed),
            changed: committed.changed,
            reused: made.reused,
            sample: made.sample,
            model,
            duration_s: job.took().as_secs_f64(),
            from_start: !(job.evaluates || job.merges) || job.history.made_in.is_some(),
            outdated: then.is_some(),
            checkpoint_id: committed.done.checkpoint_id,
            rescued: made.by == Some(By::Rescue),
            warned: committed.status.quality.warning.is_some(),
            score: job.history.evaluation.as_ref().and_then(|evaluation| evaluation.score),
        })),
        Err(error) => Outcome::Broken(error),
    }
}

fn done_status(ctx: &BuildContext, job: &Job, made: &Made) -> Status {
    let mut status = status_of(ctx, job, State::Done);
    status.quality.sample = made.sample.then_some(true);
    status.quality.rescued = (made.by == Some(By::Rescue)).then_some(true);
    status.quality.warning.clone_from(&made.warning);
    if made.with.is_none() {
        status.last.model = None;
        status.last.api = None;
    }
    if let Some((_, success, _)) = &made.merged {
        status.last.decision_id = Some(success.decision_id.clone());
    }
    status
}

/// The `.DONE` of the attempt. `then`: what it was made from, if that is not what it would be made from now.
fn done_record(job: &Job, made: &Made, then: Option<&Success>, eval: Option<serde_json::Value>) -> Done {
    let (fingerprint, parts, inputs) = match then {
        Some(then) => (fingerprint::digest_of(&then.parts), then.parts.clone(), then.inputs.clone()),
        None => {
            let now = &job.prepared;
            (now.fingerprint.digest(), now.fingerprint.parts().clone(), now.records())
        }
    };
    Done {
        schema: SCHEMA,
        task: job.task.name.clone(),
        fingerprint,
        parts,
        inputs,
        outputs: Vec::new(),
        completed_utc: clock::now_utc(),
        by: made.by.unwrap_or(By::Build),
        by_user: made.by_user.clone(),
        checkpoint_id: None,
        made_with: made.with.clone(),
        call: made.call.clone(),
        sample: made.sample,
        imported: made.imported.clone(),
        kept: None,
        eval,
        other: job.other.done.clone(),
    }
}

/// The files a record speaks of, and its own.
fn contents(ctx: &BuildContext, committed: &Committed) -> Vec<(String, Digest)> {
    let done = &committed.done;
    let mut contents: Vec<(String, Digest)> = Vec::with_capacity(done.inputs.len() + done.outputs.len() + 1);
    contents.extend(done.inputs.iter().map(|input| (input.path.clone(), input.blake3.clone())));
    contents.extend(done.outputs.iter().map(|output| (output.path.clone(), output.blake3.clone())));
    if let Some(first) = done.outputs.first() {
        let marker = ctx.store.sidecar_path(&first.path, Sidecar::Done);
        let marker = marker.strip_prefix(ctx.store.run_dir()).unwrap_or(&marker);
        contents.push((marker.to_string_lossy().into_owned(), committed.marker.clone()));
    }
    contents
}
