//! An attempt that an executor keeps: handed over, or taken up again as an earlier build left it.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::program::Invocation;
use super::super::{BuildContext, Job, Outcome, failure, former_jobs};
use crate::executor::Seen;
use crate::executor::desk::{Desk, Ended, Request, Watcher};
use planexe_base::clock;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::process::ProcessEnd;
use planexe_base::record::{Digest, Failure, SCHEMA};
use planexe_base::style;
use planexe_pipeline::project::{CommandSpec, ExecutorSpec};
use planexe_store::jobs::{self, JobFiles, JobResult};

/// How often an attempt that was lost is submitted again, where nothing is said.
const RESUBMIT: u32 = 2;

/// A place on an executor for one attempt.
pub(super) struct Place<'a> {
    executor: &'a ExecutorSpec,
    desk: Arc<Desk>,
    /// Its folder and fence, or the job that is taken up.
    dir: PathBuf,
    fence: String,
    adopted: Option<JobFiles>,
    /// The build goes and the job goes on: its folder stays.
    left: Cell<bool>,
    lost: u32,
}

/// How an attempt on an executor ended.
pub(super) enum Elsewhere {
    /// Its program ended like this, and wrote these outputs.
    Ended(ProcessEnd, Box<JobResult>),
    /// It did not come to an end of its own.
    Unmade(Box<Outcome>),
}

/// The place of a task's attempt; none if its program is the build's own. A job of an earlier build is taken up if it is
/// of the same attempt; any other is ended first.
pub(super) fn open<'a>(ctx: &'a BuildContext, job: &Job) -> Result<Option<Place<'a>>, FsError> {
    let executor = ctx.project.executor(&job.task);
    let mut old = ctx.store.jobs_of(&job.task.name)?;
    let desk = executor.and_then(|executor| Some((executor, ctx.executors.desk(executor)?)));
    let Some((executor, desk)) = desk else {
        end(ctx, job, &old)?;
        return Ok(None);
    };
    let is_ours = |files: &JobFiles| -> Result<bool, FsError> {
        Ok(files.job.executor == executor.name
            && files.job.decision_id == job.prepared.decision_id
            && !files.is_revoked()
            && !files.is_asked_to_end()
            && files.result()?.is_none_or(|result| result.end != ProcessEnd::Cancelled))
    };
    let ours = old.iter().map(is_ours).collect::<Result<Vec<_>, _>>()?;
    let at = ours.iter().rposition(|&ours| ours);
    let adopted = at.map(|at| old.remove(at));
    end(ctx, job, &old)?;
    if let Some(files) = adopted {
        restore_outputs(ctx, job, &files)?;
        let what = match files.result()? {
            Some(_) => "ended while no build ran: its result is taken",
            None => "still runs: it is taken up again",
        };
        let message = format!("attempt {} on `{}` {what}", files.job.attempt, executor.name);
        ctx.note(Some(&job.task.name), false, message);
        let (dir, fence) = (files.dir.clone(), files.job.fence.clone());
        let place =
            Place { executor, desk, dir, fence, adopted: Some(files), left: Cell::new(false), lost: 0 };
        return Ok(Some(place));
    }
    fresh(ctx, job, executor, desk, 0).map(Some)
}

fn fresh<'a>(
    ctx: &BuildContext,
    job: &Job,
    executor: &'a ExecutorSpec,
    desk: Arc<Desk>,
    lost: u32,
) -> Result<Place<'a>, FsError> {
    let fence = uuid::Uuid::now_v7().simple().to_string();
    let dir = ctx.store.new_job_dir(&job.task.name, &fence)?;
    Ok(Place { executor, desk, dir, fence, adopted: None, left: Cell::new(false), lost })
}

/// Ends jobs of a task that are of no use any more.
fn end(ctx: &BuildContext, job: &Job, old: &[JobFiles]) -> Result<(), FsError> {
    former_jobs::end(
        ctx,
        old,
        || !ctx.cancel.is_killing(),
        |why| {
            let message = format!("a former attempt of it may still run, and is not believed: {why}");
            ctx.note(Some(&job.task.name), true, message);
        },
    )
}

/// Outputs that a build had begun to give their names when it was killed, as they were before.
fn restore_outputs(ctx: &BuildContext, job: &Job, files: &JobFiles) -> Result<(), FsError> {
    let Some(result) = files.result()? else { return Ok(()) };
    for ((output, path), wrote) in job.task.outputs.iter().zip(&files.job.writes).zip(&result.outputs) {
        let target = ctx.store.path(output);
        let (Some((_, digest)), None) = (wrote, fs::kind(path)?) else { continue };
        if fs::kind(&target)? == Some(FileKind::File) && fs::hash_file(&target)?.0 == *digest {
            let copy = fs::copy_beside(&target, path, Durability::Unsynced)?;
            fs::rename(&copy, path, Durability::Unsynced)?;
        }
    }
    Ok(())
}

impl<'a> Place<'a> {
    /// The file that stands for an output until the attempt is over.
    pub(super) fn out(&self, n: usize, output: &str) -> Result<PathBuf, FsError> {
        if let Some(path) = self.adopted.as_ref().and_then(|files| files.job.writes.get(n)) {
            return Ok(path.clone());
        }
        let folder = self.dir.join("out").join(n.to_string());
        fs::make_dirs(&folder, Durability::Unsynced)?;
        Ok(folder.join(output.rsplit('/').next().unwrap_or(output)))
    }

    /// Of a job that is taken up and works in place: what its outputs held before.
    pub(super) fn former(&self) -> Option<Vec<Option<Digest>>> {
        self.adopted.as_ref().map(|files| files.job.former.clone())
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.adopted.is_some()
    }

    /// Another place, if the attempt was lost and may be submitted again.
    pub(super) fn again(self, ctx: &BuildContext, job: &Job) -> Result<Option<Place<'a>>, FsError> {
        let most = self.executor.table.resubmit.unwrap_or(RESUBMIT);
        if self.lost >= most || ctx.cancel.level() != planexe_base::cancel::Level::Running {
            self.close()?;
            return Ok(None);
        }
        let (executor, desk, lost) = (self.executor, self.desk.clone(), self.lost + 1);
        self.close()?;
        fresh(ctx, job, executor, desk, lost).map(Some)
    }

    /// The attempt is over and recorded: nothing of it is kept, unless it goes on.
    pub(super) fn close(self) -> Result<(), FsError> {
        match (self.left.get(), self.adopted) {
            (true, _) => Ok(()),
            (false, Some(files)) => files.remove(),
            (false, None) => JobFiles { dir: self.dir, job: jobs::Job::default() }.remove(),
        }
    }

    /// Hands the attempt over and waits for its end. `make`: what is run, of one that is not taken up.
    pub(super) fn run(
        &self,
        ctx: &BuildContext,
        job: &Job,
        make: impl FnOnce() -> Result<jobs::Job, Box<Outcome>>,
        says_running: impl FnOnce() + Send + 'static,
        growth: impl Fn() -> u64 + Send + 'static,
    ) -> Result<Elsewhere, FsError> {
        let (files, adopted) = match &self.adopted {
            Some(files) => (files.clone(), true),
            None => match make() {
                Ok(made) => {
                    let made = jobs::Job {
                        fence: self.fence.clone(),
                        executor: self.executor.name.clone(),
                        kind: self.executor.kind.name().to_owned(),
                        ..made
                    };
                    let files = JobFiles { dir: self.dir.clone(), job: made };
                    files.write(ctx.store.run_dir())?;
                    (files, false)
                }
                Err(outcome) => return Ok(Elsewhere::Unmade(outcome)),
            },
        };
        says_running();
        let seen = self.follow(job, &files, growth);
        let request = Request { files: files.clone(), adopted, cancel: job.live.cancel.clone(), seen };
        let ended_with = |result: Box<JobResult>| {
            if result.end == ProcessEnd::Cancelled {
                let message = format!(
                    "ended from outside, on {} (cancelled there, or a limit of its queue)",
                    style::clean(&result.host)
                );
                let failed = recoverable(FailureClass::Signal, message);
                return Elsewhere::Unmade(Box::new(Outcome::Failed(failed)));
            }
            Elsewhere::Ended(result.end.clone(), result)
        };
        let lost = |why: &str| {
            let message = format!("lost on executor `{}`: {}", self.executor.name, style::clean(why));
            Elsewhere::Unmade(Box::new(Outcome::Failed(recoverable(FailureClass::Lost, message))))
        };
        let ended = self.desk.run(request);
        job.live.queued(files.queued());
        Ok(match ended {
            Ended::Result(result) => ended_with(result),
            // It was made all the same: the disk says why it cannot be read, or reads it this time.
            Ended::Unreadable => files
                .result()?
                .map_or_else(|| lost("its result was removed"), |result| ended_with(Box::new(result))),
            Ended::Lost(why) => lost(&why),
            Ended::Refused(why) => {
                let message = format!("executor `{}`: {}", self.executor.name, style::clean(&why));
                Elsewhere::Unmade(Box::new(Outcome::Failed(recoverable(FailureClass::Spawn, message))))
            }
            Ended::Cancelled => Elsewhere::Unmade(Box::new(Outcome::Stopped)),
            Ended::Left => {
                self.left.set(true);
                Elsewhere::Unmade(Box::new(Outcome::Left))
            }
        })
    }

    /// Shows what is seen of it to those who watch.
    fn follow(&self, job: &Job, files: &JobFiles, growth: impl Fn() -> u64 + Send + 'static) -> Watcher {
        let (live, log, name) = (job.live.clone(), files.log(), self.executor.name.clone());
        let shows = Mutex::new(false);
        Box::new(move |seen, id| {
            let of = id.map_or_else(|| name.clone(), |id| format!("{name}, job {id}"));
            live.at(match seen {
                Seen::Queued(why) if why.is_empty() => format!("queued on {of}"),
                Seen::Queued(why) => format!("queued on {of}: {}", style::clean(why)),
                Seen::Running(on) => format!("running on {of}, {}", style::clean(on)),
                Seen::Gone(_) => format!("waiting for the result of {of}"),
            });
            let mut shows = shows.lock();
            if !*shows && let Ok(file) = fs::open(&log) {
                live.says_into(Arc::new(file));
                *shows = true;
            }
            let said = fs::signature(&log).ok().flatten().map_or(0, |signature| signature.size);
            live.grown(growth().wrapping_add(said));
        })
    }
}

fn recoverable(class: FailureClass, message: String) -> Failure {
    Failure { recoverable: true, ..failure(class, message) }
}

/// What the program of an invocation is to a job.
pub(super) fn job_of(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    invocation: Invocation,
    writes: &[PathBuf],
    former: &[Option<Digest>],
) -> Result<jobs::Job, Box<Outcome>> {
    let taken = ctx.project.taken(&job.task);
    let taken = taken.map_err(|why| Box::new(Outcome::Failed(failure(FailureClass::Command, why))))?;
    let task = ctx.project.spec(&job.task);
    let left = task.timeout.map(|timeout| timeout.saturating_sub(job.history.own.spent));
    let (env_remove, env) = invocation.environment(ctx, spec);
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    Ok(jobs::Job {
        schema: SCHEMA,
        task: job.task.name.clone(),
        attempt: job.attempt,
        decision_id: job.prepared.decision_id.clone(),
        program: invocation.program(ctx),
        words: invocation.words,
        place: invocation.place,
        env: env.into_iter().map(|(name, value)| (name, text(value))).collect(),
        env_remove,
        writes: writes.to_vec(),
        stdout: spec.stdout,
        former: former.to_vec(),
        timeout_s: left.map(|left| left.as_secs_f64()),
        stall_s: task.stall.map(|stall| stall.as_secs_f64()),
        cpus: taken.cpus,
        memory_mib: taken.memory,
        gpus: taken.gpus,
        time_s: taken.time,
        submitted_utc: clock::now_utc(),
        ..jobs::Job::default()
    })
}

/// That the files are those the attempt itself wrote, and no other's.
pub(super) fn require_its_own(job: &Job, writes: &[PathBuf], result: &JobResult) -> Result<(), Failure> {
    for ((output, path), wrote) in job.task.outputs.iter().zip(writes).zip(&result.outputs) {
        // What is missing, or is no file, is told in its own words.
        let Some((_, digest)) = wrote else { continue };
        let now = fs::if_content(fs::hash_file(path));
        let now = now.map_err(|error| failure(FailureClass::Io, error.to_string()))?;
        if now.is_none_or(|(now, _)| now != *digest) {
            let message =
                format!("output `{output}` is not what the attempt wrote on {}", style::clean(&result.host));
            return Err(recoverable(FailureClass::Lost, message));
        }
    }
    Ok(())
}

/// What the program said, as a file; an empty one if it came to say nothing.
pub(super) fn log_of(dir: &Path) -> Option<File> {
    fs::open(&dir.join("out.log")).ok()
}

impl Place<'_> {
    /// Its folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
