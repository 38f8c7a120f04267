//! A command that writes under temporary names, which become the outputs when it exits with 0.

use std::path::{Path, PathBuf};

use super::super::{BuildContext, Job, Outcome};
use super::attempt::{Attempt, Ended, deliver, targets_inside};
use super::elsewhere::Place;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_pipeline::project::CommandSpec;
use planexe_store::commit::Content;

/// Runs it beside the outputs.
pub(super) fn attempt(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    place: Option<&Place<'_>>,
) -> Result<Outcome, FsError> {
    let targets = targets_inside(ctx.store.run_dir(), job, |output| ctx.store.path(output))?;
    let temps: Vec<PathBuf> = match place {
        Some(place) => {
            let outputs = job.task.outputs.iter().enumerate();
            outputs.map(|(n, output)| place.out(n, output)).collect::<Result<_, _>>()?
        }
        None => targets.iter().map(|target| fs::temp_for_command(target)).collect(),
    };
    let stdout = if spec.stdout && place.is_none() { Some(fs::create_new(&temps[0])?) } else { None };
    let attempt = Attempt { ctx, job, spec, writes: &temps, stdout, worktree: None, place, former: &[] };
    match attempt.run(|| None)? {
        Ended::Unmade(outcome) => {
            if place.is_none() {
                remove(&temps)?;
            }
            Ok(outcome)
        }
        Ended::Made { failed } => {
            let near =
                temps.into_iter().zip(&targets).map(|(temp, target)| beside(temp, target, place.is_some()));
            let contents = near.collect::<Result<Vec<_>, _>>()?.into_iter().map(Content::Temp);
            deliver(ctx, job, job.task.outputs.iter().cloned().zip(contents).collect(), failed)
        }
    }
}

/// What is on another file system than its target is brought there.
fn beside(temp: PathBuf, target: &Path, of_job: bool) -> Result<PathBuf, FsError> {
    let folder = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
    match fs::on_same_device(&folder(&temp), &folder(target)) {
        true => Ok(temp),
        // Or there is no telling: a copy is right in either case. What a job left stays until its task is recorded.
        false => {
            let copy = fs::copy_beside(&temp, target, Durability::Unsynced)?;
            if !of_job {
                fs::remove(&temp)?;
            }
            Ok(copy)
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
