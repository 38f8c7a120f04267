//! An evaluator that is a program: it is given the outputs' files, and prints its score as JSON.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::expand::Values;
use super::isolated::{IsolationError, JudgedWorktree};
use super::program::{Invocation, explain, tail_of, words_of};
use super::{BuildContext, Job, failure};
use planexe_base::failure_class::Class;
use planexe_base::fs::{self, FsError};
use planexe_base::process::{Lifeline, Limits, Looks, ProcessEnd};
use planexe_base::record::Failure;
use planexe_pipeline::eval_score::{self, Score};
use planexe_pipeline::input_files::Files;
use planexe_pipeline::project::CommandSpec;
use planexe_store::candidates::{Candidate, CandidateFile};

/// The score that a program gives a candidate. None: it was stopped.
pub(super) fn score(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    candidate: &Candidate,
    timeout: Option<Duration>,
) -> Result<Result<Score, Option<Failure>>, FsError> {
    match try_score(ctx, job, spec, candidate, timeout) {
        Ok(score) => Ok(score),
        Err(IsolationError::Failed(failed)) => Ok(Err(Some(failed))),
        Err(IsolationError::Fs(error)) => Err(error),
    }
}

fn try_score(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    candidate: &Candidate,
    timeout: Option<Duration>,
) -> Result<Result<Score, Option<Failure>>, IsolationError> {
    // What an isolated task did is in its worktree; outputs that were there already were judged where they are.
    let isolated = ctx.project.spec(&job.task).isolate.is_some() && candidate.round > 0;
    let worktree = if isolated { Some(JudgedWorktree::open(ctx, job)?) } else { None };
    let invocation = invocation_of(ctx, job, spec, candidate, worktree.as_ref())?;
    let folder = ctx.store.planexe_subdir("partial")?;
    let (said, printed) = (Arc::new(fs::scratch_file(&folder)?), fs::scratch_file(&folder)?);
    let start = |lifeline: &Lifeline| invocation.start(ctx, spec, Some(&printed), &said, lifeline);
    let limits = Limits { timeout, stall: None };
    let end = ctx.watchdog.run_one(
        start,
        limits,
        Looks { cancel: Some(job.live.cancel.clone()), ..Looks::default() },
    );
    if let Some(worktree) = worktree {
        worktree.restore()?;
    }
    let read = |file: &File| fs::read_scratch(file).map(|bytes| ctx.providers.redact_printed(bytes));
    let tail = |file: &File| read(file).map(|bytes| tail_of(&bytes));
    Ok(match end {
        ProcessEnd::Exited(0) => {
            let printed = String::from_utf8_lossy(&read(&printed)?).into_owned();
            eval_score::read(&printed).map_err(|violations| {
                let first = violations.first().map(ToString::to_string).unwrap_or_default();
                let raw_error = Some(tail(&said).unwrap_or_default());
                Some(Failure { raw_error, ..failure(Class::Validation, first) })
            })
        }
        ProcessEnd::Cancelled => Err(None),
        other => Err(Some(explain(spec, other, &invocation.place, &limits, tail(&said)?))),
    })
}

/// The program with its arguments: `$in` and `$in.N` are the outputs' files.
fn invocation_of(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    candidate: &Candidate,
    worktree: Option<&JudgedWorktree>,
) -> Result<Invocation, Failure> {
    let run = worktree.map_or(ctx.store.run_dir(), |worktree| &worktree.run);
    let place = spec.cwd.as_deref().map_or_else(|| run.to_owned(), |cwd| run.join(cwd));
    let file = |(n, output): (usize, &CandidateFile)| Files {
        name: format!("output_{n}"),
        paths: vec![ctx.store.candidate_file(candidate, output).to_string_lossy().into_owned()],
        glob: false,
        optional: false,
        pattern: output.path.clone(),
    };
    let inputs: Vec<Files> = candidate.outputs.iter().enumerate().map(file).collect();
    let item = job.task.item.as_ref();
    let values = Values {
        inputs: &inputs,
        outputs: &[],
        key: item.map(|item| item.key.as_str()),
        item: item.map(|item| &item.value),
        item_file: None,
    };
    let (words, arguments) = words_of(spec, &values)?;
    let found = words.first().and_then(|program| ctx.programs.find(program));
    let variables = worktree.map_or_else(Vec::new, JudgedWorktree::variables);
    // What the agent made of the evaluator in its worktree does not count.
    let own_first = worktree.is_some() || ctx.project.own_programs;
    Ok(Invocation { found, words, arguments, place, notes: None, variables, served: Vec::new(), own_first })
}
