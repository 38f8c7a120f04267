//! Where attempts of commands run, a file per executor. One takes a job, tells its state, cancels it, and finds it again
//! after planexe ended; it knows no graph, no staleness and no records. What a job came to is told by [`desk`], and only
//! from the result that the attempt itself wrote under its fence ([`planexe_store::jobs`]).
//!
//! `local` is none of them: those programs are the build's own, and end with it (`runner::command`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use planexe_pipeline::manifest::types::ExecutorKind;
use planexe_pipeline::project::ExecutorSpec;
use planexe_store::jobs::{Handed, JobFiles};

mod command;
pub mod desk;
mod detached;
pub(crate) mod programs;
mod slurm;
pub mod supervisor;

use desk::Desk;

/// Hidden argument that makes planexe the supervisor of an attempt.
pub const ATTEMPT_ARGUMENT: &str = "__attempt";

/// What an executor says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It waits for its start; why, if that is known.
    Queued(String),
    /// It runs, on this machine.
    Running(String),
    /// It is over or unknown, as the executor calls it.
    Gone(String),
}

/// Why a job was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHanded {
    /// The executor cannot be reached: it is tried again.
    Away(String),
    /// It does not want it.
    Refused(String),
}

/// A job that was handed over, and how it is known there.
pub type Known<'a> = (&'a JobFiles, &'a Handed);

/// Something that keeps attempts.
pub trait Executor: Send + Sync {
    /// Takes jobs that take the same of its machines; gives their ids, in order.
    fn submit(&self, jobs: &[Known<'_>]) -> Result<Vec<String>, NotHanded>;

    /// The state of each; an error if it cannot be reached.
    fn look(&self, jobs: &[Known<'_>]) -> Result<Vec<Seen>, String>;

    /// Ends them; what has ended is no error.
    fn cancel(&self, jobs: &[Known<'_>]) -> Result<(), String>;

    /// The ids of jobs of which it is not known whether they were taken; an error if it cannot be reached.
    fn find(&self, jobs: &[&JobFiles]) -> Result<Vec<Option<String>>, String>;

    /// Whether `find` can tell that a job was not taken. If not, one whose submission failed is submitted again.
    fn finds(&self) -> bool {
        true
    }

    /// How many jobs are submitted at once, at most.
    fn together(&self) -> usize {
        1
    }
}

/// The executor of a table.
pub fn of(spec: &ExecutorSpec, run: &Path, planexe: &Path) -> Option<Box<dyn Executor>> {
    let planexe = spec.table.planexe.as_ref().map_or_else(|| planexe.to_owned(), PathBuf::from);
    Some(match spec.kind {
        ExecutorKind::Local => return None,
        ExecutorKind::Detached => Box::new(detached::Detached::new(planexe)),
        ExecutorKind::Slurm => Box::new(slurm::Slurm::new(spec, run, planexe)),
        ExecutorKind::Command => Box::new(command::Queue::new(spec, run, planexe)),
    })
}

/// The executors of a build, each with the desk where jobs are handed over.
pub struct Executors {
    planexe: PathBuf,
    run: PathBuf,
    left: Arc<AtomicBool>,
    desks: Mutex<HashMap<String, Arc<Desk>>>,
    note: Arc<dyn Fn(String) + Send + Sync>,
}

impl Executors {
    /// `planexe`: this program. `note`: tells people something that is no task's end.
    pub fn new(planexe: PathBuf, run: PathBuf, note: Arc<dyn Fn(String) + Send + Sync>) -> Executors {
        Executors { planexe, run, left: Arc::default(), desks: Mutex::default(), note }
    }

    /// The desk of an executor; none of `local`.
    pub fn desk(&self, spec: &ExecutorSpec) -> Option<Arc<Desk>> {
        let mut desks = self.desks.lock();
        if let Some(desk) = desks.get(&spec.name) {
            return Some(desk.clone());
        }
        let executor = of(spec, &self.run, &self.planexe)?;
        let desk = Arc::new(Desk::new(spec, executor, self.left.clone(), self.note.clone()));
        desks.insert(spec.name.clone(), desk.clone());
        Some(desk)
    }

    /// The build ends, and what it handed over goes on without it. Returns how many jobs.
    pub fn leave(&self) -> usize {
        self.left.store(true, Ordering::SeqCst);
        self.desks.lock().values().map(|desk| desk.count()).sum()
    }
}

/// Cancels jobs that no build waits for; returns those whose executor could not be reached or is no longer known.
pub fn cancel_all(
    jobs: &[JobFiles],
    executors: &[ExecutorSpec],
    run: &Path,
    planexe: &Path,
) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for files in jobs {
        let asked = files.ask_to_end().and_then(|()| files.revoke());
        if let Err(error) = asked {
            problems.push((files.job.task.clone(), error.to_string()));
        }
        let spec = executors.iter().find(|spec| spec.name == files.job.executor);
        let Some(executor) = spec.and_then(|spec| of(spec, run, planexe)) else {
            problems.push((files.job.task.clone(), format!("no executor `{}` is known", files.job.executor)));
            continue;
        };
        let handed = files.handed().unwrap_or_default();
        let found = match &handed.id {
            Some(_) => Ok(handed.clone()),
            None => {
                executor.find(&[files]).map(|ids| Handed { id: ids.into_iter().next().flatten(), ..handed })
            }
        };
        let cancelled = found.and_then(|handed| match handed.id {
            Some(_) => executor.cancel(&[(files, &handed)]),
            None => Ok(()),
        });
        if let Err(error) = cancelled {
            problems.push((files.job.task.clone(), error));
        }
    }
    problems
}
