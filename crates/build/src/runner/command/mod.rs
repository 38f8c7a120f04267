//! A command: a program that reads `$in` and writes `$out`.
//!
//! It works in one of three ways: under temporary names beside its outputs ([`plain`]), on the outputs themselves
//! ([`in_place`]), or in a worktree of its own ([`isolated`]). What all three do is in [`attempt`].

use super::{BuildContext, Job, Made, Outcome, complete};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FsError};
use planexe_pipeline::project::CommandSpec;
use planexe_store::commit::Content;

mod attempt;
mod elsewhere;
mod in_place;
mod isolated;
mod outputs;
mod plain;

/// Runs the command.
pub fn run(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Outcome {
    let outcome = if job.prepared.as_it_is { as_it_is(ctx, job) } else { make(ctx, job, spec) };
    outcome.unwrap_or_else(Outcome::Broken)
}

/// Makes its outputs: in the build itself, or on the task's executor, which is handed it again if it loses it.
fn make(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Result<Outcome, FsError> {
    let mut place = elsewhere::open(ctx, job)?;
    loop {
        let outcome = match place.as_ref() {
            place if ctx.project.spec(&job.task).isolate.is_some() => {
                isolated::attempt(ctx, job, spec, place)
            }
            place if spec.in_place => in_place::attempt(ctx, job, spec, place),
            place => plain::attempt(ctx, job, spec, place),
        }?;
        let Some(of) = place.take() else { return Ok(outcome) };
        let Outcome::Failed(failure) = &outcome else {
            if !matches!(outcome, Outcome::Broken(_)) {
                of.close()?;
            }
            return Ok(outcome);
        };
        if failure.class == FailureClass::Io {
            // What the disk cannot read now was made all the same: the next build takes it up.
            return Ok(outcome);
        }
        if failure.class != FailureClass::Lost {
            of.close()?;
            return Ok(outcome);
        }
        let message = format!("{}; submitted again", failure.message.text);
        match of.again(ctx, job)? {
            Some(next) => place = Some(next),
            None => return Ok(outcome),
        }
        ctx.note(Some(&job.task.name), true, message);
    }
}

/// The outputs there are, where only what is said of them changed.
fn as_it_is(ctx: &BuildContext, job: &Job) -> Result<Outcome, FsError> {
    let mut outputs = Vec::new();
    for output in &job.task.outputs {
        let (former, _) = fs::hash_file(&ctx.store.path(output))?;
        outputs.push((output.clone(), Content::InPlace { former: Some(former) }));
    }
    let by = job.former.as_deref().map(|done| done.by);
    Ok(complete(ctx, job, outputs, Made { reused: true, by, was_there: true, ..Made::default() }))
}
