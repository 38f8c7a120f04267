//! A command that writes under temporary names, which become the outputs when it exits with 0.

use std::path::PathBuf;

use super::super::{BuildContext, Job, Outcome};
use super::attempt::{Attempt, Ended, deliver, targets_inside};
use planexe_base::fs::{self, FileKind, FsError};
use planexe_pipeline::project::CommandSpec;
use planexe_store::commit::Content;

/// Runs it beside the outputs.
pub(super) fn attempt(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Result<Outcome, FsError> {
    let targets = targets_inside(ctx.store.run_dir(), job, |output| ctx.store.path(output))?;
    let temps: Vec<PathBuf> = targets.iter().map(|target| fs::temp_for_command(target)).collect();
    let stdout = if spec.stdout { Some(fs::create_new(&temps[0])?) } else { None };
    let attempt = Attempt { ctx, job, spec, writes: &temps, stdout, worktree: None };
    match attempt.run(|| None)? {
        Ended::Unmade(outcome) => {
            remove(&temps)?;
            Ok(outcome)
        }
        Ended::Made { failed } => {
            let contents = temps.into_iter().map(Content::Temp);
            deliver(ctx, job, job.task.outputs.iter().cloned().zip(contents).collect(), failed)
        }
    }
}

/// Nothing that is left behind is believed.
fn remove(temps: &[PathBuf]) -> Result<(), FsError> {
    for temp in temps {
        match fs::kind(temp)? {
            Some(FileKind::Dir) => fs::remove_tree(temp)?,
            _ => fs::remove(temp)?,
        };
    }
    Ok(())
}
