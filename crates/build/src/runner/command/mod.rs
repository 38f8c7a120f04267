//! A command: a program that reads `$in` and writes `$out`.
//!
//! It works in one of three ways: under temporary names beside its outputs ([`plain`]), on the outputs themselves
//! ([`in_place`]), or in a worktree of its own ([`isolated`]). What all three do is in [`attempt`].

use super::{BuildContext, Job, Made, Outcome, complete};
use planexe_base::fs::{self, FsError};
use planexe_pipeline::project::CommandSpec;
use planexe_store::commit::Content;

mod attempt;
mod in_place;
mod isolated;
mod outputs;
mod plain;

/// Runs the command.
pub fn run(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Outcome {
    let outcome = if job.prepared.as_it_is {
        as_it_is(ctx, job)
    } else if ctx.project.spec(&job.task).isolate.is_some() {
        isolated::attempt(ctx, job, spec)
    } else if spec.in_place {
        in_place::attempt(ctx, job, spec)
    } else {
        plain::attempt(ctx, job, spec)
    };
    outcome.unwrap_or_else(Outcome::Broken)
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
