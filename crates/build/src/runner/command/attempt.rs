//! What an attempt of a command does wherever it works: its program is run to the end, and what it left is looked at.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::super::counted;
use super::super::expand::Values;
use super::super::isolated::Worktree;
use super::super::isolated::watching::Watched;
use super::super::program::{
    FOLDER_VARIABLE, Invocation, Words, explain, is_end, left_behind, may_be_rescued, tail_of, words_of,
};
use super::super::services::{Unserved, Using};
use super::super::{
    BuildContext, Job, Limited, Live, Made, Outcome, Pause, Stage, complete, eval, failure, status_of,
};
use super::elsewhere::{Elsewhere, Place, job_of, log_of, require_its_own};
use super::outputs::{not_whole, require_outputs, require_same_inputs};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::process::{Growth, Lifeline, Limits, Looks, ProcessEnd, Waited};
use planexe_base::record::{Digest, Failure, State};
use planexe_base::style;
use planexe_llm::{Class, Usage};
use planexe_pipeline::input_files::Files;
use planexe_pipeline::project::CommandSpec;
use planexe_store::commit::Content;

/// From so long on a command is said to run. Most are done by then, and a file less is written for them.
const TAKES_ITS_TIME: Duration = Duration::from_millis(200);

/// An attempt of a command.
pub(super) struct Attempt<'a> {
    pub(super) ctx: &'a BuildContext,
    pub(super) job: &'a Job,
    pub(super) spec: &'a CommandSpec,
    /// The files it is to write, in the order of the outputs.
    pub(super) writes: &'a [PathBuf],
    /// Where its standard output goes, if that is an output.
    pub(super) stdout: Option<File>,
    /// Where it works, if apart from the run.
    pub(super) worktree: Option<&'a Worktree>,
    /// The executor's place for it, if it is not the build's own program.
    pub(super) place: Option<&'a Place<'a>>,
    /// Of one that works in place: what its outputs held before.
    pub(super) former: &'a [Option<Digest>],
}

/// How the program of an attempt ended.
pub(super) enum Ended {
    /// The outputs are there. `failed`: the program failed all the same, and its evaluator decides on them.
    Made { failed: Option<Failure> },
    /// They are not, or not to be believed.
    Unmade(Outcome),
}

impl Attempt<'_> {
    /// Runs the program to its end. `did_nothing`: why what is there is no work of it, if it is not.
    pub(super) fn run(self, did_nothing: impl Fn() -> Option<String>) -> Result<Ended, FsError> {
        let (ctx, job) = (self.ctx, self.job);
        let _using = match self.services() {
            Ok(using) => using,
            Err(Unserved::Stopped) => return Ok(Ended::Unmade(Outcome::Stopped)),
            Err(Unserved::Failed(failed)) => return Ok(Ended::Unmade(Outcome::Failed(failed))),
        };
        if let Some(place) = self.place {
            return self.run_elsewhere(place, did_nothing);
        }
        let mut invocation = match self.invocation()? {
            Ok(invocation) => invocation,
            Err(failure) => return Ok(Ended::Unmade(Outcome::Failed(failure))),
        };
        let said = scratch(ctx)?;
        let end = match &self.spec.calls {
            None => self.run_program(&invocation, &said),
            Some(calls) => {
                let served = counted::serve(ctx, job, calls, |variables| {
                    invocation.served = variables;
                    self.run_program(&invocation, &said)
                });
                match served? {
                    Ok(end) => end,
                    Err(failure) => return Ok(Ended::Unmade(Outcome::Failed(failure))),
                }
            }
        };
        let tail = keep_log(ctx, job, &said)?;
        if tail.is_empty() && matches!(end, ProcessEnd::Exited(0)) {
            ctx.scratch.lock().push(said);
        }
        // What a program left that was refused a call, for want of money, is not what it was to make.
        if job.live.is_refused() {
            return Ok(Ended::Unmade(Outcome::Stopped));
        }
        if end != ProcessEnd::Cancelled
            && let Some(limited) = job.live.take_limit()
        {
            return Ok(Ended::Unmade(parked(job, limited)));
        }
        let failed = match end {
            ProcessEnd::Exited(0) => {
                let checked = require_outputs(job, self.spec, self.writes);
                checked.and_then(|()| require_same_inputs(ctx, job)).err()
            }
            ProcessEnd::Cancelled => return Ok(Ended::Unmade(Outcome::Stopped)),
            other => Some(self.why(other, &invocation.place, tail)),
        };
        Ok(match failed {
            None => Ended::Made { failed: None },
            Some(failed) => self.rescued(failed, did_nothing),
        })
    }

    /// The servers it needs: its own, and that of the model it is served.
    fn services(&self) -> Result<Vec<Using<'_>>, Unserved> {
        let (ctx, job) = (self.ctx, self.job);
        let served = self.spec.calls.and_then(|calls| ctx.project.service_of(calls.endpoint));
        let own = ctx.project.spec(&job.task).service;
        let using = [own, served].into_iter().map(|service| ctx.services.need(ctx, job, service));
        let using = using.collect::<Result<Vec<_>, _>>()?;
        if let (Some(calls), Some(service)) = (self.spec.calls, served) {
            ctx.providers.serve(calls.endpoint, ctx.services.node(service));
        }
        Ok(using)
    }

    /// Has an executor run the program to its end.
    fn run_elsewhere(
        &self,
        place: &Place<'_>,
        did_nothing: impl Fn() -> Option<String>,
    ) -> Result<Ended, FsError> {
        let (ctx, job, spec) = (self.ctx, self.job, self.spec);
        let invocation = match self.invocation()? {
            Ok(invocation) => invocation,
            Err(failure) => return Ok(Ended::Unmade(Outcome::Failed(failure))),
        };
        let works_in = invocation.place.clone();
        job.live.enter(Stage::Running);
        let running = self.says_running();
        let says_running = move || {
            if let Some(running) = running {
                running();
            }
        };
        let make = || job_of(ctx, job, spec, invocation, self.writes, self.former);
        let ended = place.run(ctx, job, make, says_running, self.written())?;
        let tail = match log_of(place.dir()) {
            Some(said) => keep_log(ctx, job, &said)?,
            None => String::new(),
        };
        let failed = match ended {
            Elsewhere::Unmade(outcome) => return Ok(Ended::Unmade(*outcome)),
            Elsewhere::Ended(ProcessEnd::Exited(0), result) => {
                let checked = require_outputs(job, spec, self.writes);
                let checked = checked.and_then(|()| require_its_own(job, self.writes, &result));
                checked.and_then(|()| require_same_inputs(ctx, job)).err()
            }
            Elsewhere::Ended(other, _) => Some(self.why(other, &works_in, tail)),
        };
        Ok(match failed {
            None => Ended::Made { failed: None },
            Some(failed) => self.rescued(failed, did_nothing),
        })
    }

    /// What its outputs come to so far: any change is progress.
    fn written(&self) -> impl Fn() -> u64 + Send + 'static {
        let worktree = self.worktree.map(|worktree| Watched::new(worktree.root.clone()));
        let writes = self.writes.to_vec();
        let size =
            |path: &PathBuf| fs::signature(path).ok().flatten().map_or(0, |s| s.size ^ (s.mtime_ns as u64));
        move || {
            let around = worktree.as_ref().map_or(0, Watched::sum);
            writes.iter().map(size).fold(around, u64::wrapping_add)
        }
    }

    /// Runs it under the watchdog. What it says goes to `said`.
    fn run_program(&self, invocation: &Invocation, said: &Arc<File>) -> ProcessEnd {
        let (ctx, job, spec) = (self.ctx, self.job, self.spec);
        job.live.enter(Stage::Running);
        job.live.says_into(said.clone());
        let task = ctx.project.spec(&job.task);
        let left = task.timeout.map(|timeout| timeout.saturating_sub(job.history.own.spent));
        let limits = Limits { timeout: left, stall: task.stall };
        let start = |lifeline: &Lifeline| invocation.start(ctx, spec, self.stdout.as_ref(), said, lifeline);
        let live = job.live.clone();
        let looks = Looks {
            growth: Some(self.growth(said)),
            waited: spec.calls.is_some().then(|| -> Waited { Box::new(move || live.waits.time()) }),
            cancel: Some(job.live.cancel.clone()),
        };
        ctx.watchdog.run_one(start, limits, looks)
    }

    /// The program with its arguments and directory.
    fn invocation(&self) -> Result<Result<Invocation, Failure>, FsError> {
        let (ctx, job, spec) = (self.ctx, self.job, self.spec);
        let run = self.worktree.map_or(ctx.store.run_dir(), |worktree| &worktree.run);
        let place = spec.cwd.as_deref().map_or_else(|| run.to_owned(), |cwd| run.join(cwd));
        let (words, arguments) = match self.words(&place) {
            Ok(words) => words,
            Err(failure) => return Ok(Err(failure)),
        };
        let Some(program) = words.first() else {
            return Ok(Err(failure(FailureClass::Command, "the command is empty")));
        };
        let own_path = spec.env_set.iter().any(|(name, _)| name == "PATH");
        let found = if own_path { None } else { ctx.programs.find(program) };
        let variables = self.worktree.map(Worktree::variables).unwrap_or_default();
        // In a worktree are the agent's own, as they were committed.
        let own_first = ctx.project.own_programs && self.worktree.is_none();
        let notes = match ctx.project.spec(&job.task).eval.is_some() {
            true => Some(self.notes()?),
            false => None,
        };
        let served = Vec::new();
        Ok(Ok(Invocation { found, words, arguments, place, notes, variables, served, own_first }))
    }

    /// Its words and variables. Paths are given as seen from where it runs.
    fn words(&self, place: &Path) -> Result<Words, Failure> {
        let seen = |path: &Path| -> String {
            let shown = path.strip_prefix(place).unwrap_or(path);
            shown.to_string_lossy().into_owned()
        };
        let given = &self.job.prepared.inputs;
        let files = given.files.iter().map(|files| Files {
            paths: files.paths.iter().map(|path| seen(&self.input(path))).collect(),
            ..files.clone()
        });
        let inputs: Vec<Files> = files.collect();
        let outputs: Vec<String> = self.writes.iter().map(|path| seen(path)).collect();
        let item = self.job.task.item.as_ref();
        let item_file = given.item.as_deref().map(|path| seen(&self.input(path)));
        let values = Values {
            inputs: &inputs,
            outputs: &outputs,
            key: item.map(|item| item.key.as_str()),
            item: item.map(|item| &item.value),
            item_file: item_file.as_deref(),
        };
        words_of(self.spec, &values)
    }

    /// Where it finds an input: in its worktree, if it has one and the file is in the repository.
    fn input(&self, path: &str) -> PathBuf {
        let place = self.ctx.isolation.as_ref().map(|isolation| &isolation.place);
        match (self.worktree, place) {
            (Some(worktree), Some(place)) if place.in_repository(path).is_some() => worktree.path(path),
            _ => self.ctx.store.path(path),
        }
    }

    /// The files with the notes on the last round and with what they are about.
    fn notes(&self) -> Result<[Option<OsString>; 2], FsError> {
        let Some(notes) = &self.job.history.notes else { return Ok([None, None]) };
        let written = self.ctx.store.write_notes(&self.job.task.name, &notes.text)?;
        Ok([Some(written.into_os_string()), notes.former_path.clone().map(PathBuf::into_os_string)])
    }

    /// What the program has written so far, in bytes: any change is progress. One that is still at it when that is looked
    /// for is one that takes its time, and `.status` says that it runs.
    fn growth(&self, said: &Arc<File>) -> Growth {
        let (said, written) = (said.clone(), self.written());
        let live: Arc<Live> = self.job.live.clone();
        let running = Mutex::new(self.says_running());
        Box::new(move || {
            if live.started.elapsed() >= TAKES_ITS_TIME
                && let Some(running) = running.lock().take()
            {
                running();
            }
            let own = said.metadata().map_or(0, |metadata| metadata.len());
            let sum = own.wrapping_add(written()).wrapping_add(live.relayed());
            live.grown(sum);
            sum
        })
    }

    /// Makes `.status` say that the command runs. It may be lost: it says what can be seen from outside. Not of one that
    /// works in place: its record is to be missing until it is done.
    fn says_running(&self) -> Option<impl FnOnce() + Send + 'static> {
        let first = self.job.task.outputs.first().filter(|_| !self.spec.in_place)?.clone();
        let (store, status) = (self.ctx.store.clone(), status_of(self.ctx, self.job, State::Running));
        Some(move || drop(store.write_status(&first, &status, Durability::Unsynced)))
    }

    /// Why the program failed.
    fn why(&self, end: ProcessEnd, place: &Path, tail: String) -> Failure {
        let task = self.ctx.project.spec(&self.job.task);
        let limits = Limits { timeout: task.timeout, stall: task.stall };
        let mut failed = explain(self.spec, end, place, &limits, tail);
        if matches!(failed.class, FailureClass::Exit | FailureClass::Spawn)
            && let Some(script) = left_behind(self.spec, place, &self.ctx.project.folder)
        {
            let hint = format!(
                "`{script}` is not in the run directory, but in the pipeline's folder; there a shell finds it \
                 as `\"${FOLDER_VARIABLE}\"/{script}`"
            );
            failed.message.hints.push(hint.into());
        }
        failed
    }

    /// A failure, unless what the program left is whole all the same and its evaluator is to decide on it.
    fn rescued(&self, mut failed: Failure, did_nothing: impl Fn() -> Option<String>) -> Ended {
        let eval = self.ctx.project.spec(&self.job.task).eval.as_ref();
        if !is_end(&failed) || !eval.is_some_and(|eval| eval.rescue) {
            return Ended::Unmade(Outcome::Failed(failed));
        }
        let Some(why) = self.why_not_rescued(&failed, did_nothing) else {
            return Ended::Made { failed: Some(failed) };
        };
        failed.message.text += &format!("; not evaluated: {why}");
        Ended::Unmade(Outcome::Failed(failed))
    }

    fn why_not_rescued(&self, failed: &Failure, did_nothing: impl Fn() -> Option<String>) -> Option<String> {
        if self.ctx.no_rescue {
            return Some("`--no-rescue` was given".to_owned());
        }
        if !may_be_rescued(failed) {
            return Some("what ends like this is never rescued".to_owned());
        }
        not_whole(self.job, self.writes).or_else(did_nothing).or_else(|| {
            let failed = require_same_inputs(self.ctx, self.job).err()?;
            Some(match failed.class {
                FailureClass::Io => failed.message.text,
                _ => "an input changed meanwhile".to_owned(),
            })
        })
    }
}

/// What its program came to without its model is not what it was to make: it runs again once the usage limit is over,
/// and is given again what was answered.
fn parked(job: &Job, limited: Limited) -> Outcome {
    // Counted by the attempt that is given it again.
    job.live.take_calls();
    let wait = limited.until.duration_since(SystemTime::now()).unwrap_or_default();
    let next = format!("again once its usage limit is over, in {}", style::duration(wait.as_secs_f64()));
    let failure = Failure { recoverable: true, ..failure(Class::RateLimit, limited.message) };
    let (next, after, pause) = (Some(next), Duration::ZERO, Pause::Limit);
    Outcome::Retry { failure, next, after, endpoint: job.endpoint, pause }
}

/// The files of the outputs, with the folders they lie in.
pub(super) fn targets_inside(
    inside: &Path,
    job: &Job,
    path: impl Fn(&str) -> PathBuf,
) -> Result<Vec<PathBuf>, FsError> {
    let targets: Vec<PathBuf> = job.task.outputs.iter().map(|output| path(output)).collect();
    for target in &targets {
        fs::make_dirs_inside(inside, target, Durability::Unsynced)?;
    }
    Ok(targets)
}

/// What the command made is committed, or evaluated first. Its slot is free from here on.
pub(super) fn deliver(
    ctx: &BuildContext,
    job: &Job,
    outputs: Vec<(String, Content)>,
    failed: Option<Failure>,
) -> Result<Outcome, FsError> {
    (job.answered)(Usage::default());
    match failed {
        Some(failed) => eval::propose(ctx, job, outputs, Made::default(), Some(failed)),
        None => Ok(complete(ctx, job, outputs, Made::default())),
    }
}

/// A file for what the command says: one that was used before, if there is one.
fn scratch(ctx: &BuildContext) -> Result<Arc<File>, FsError> {
    let spare = ctx.scratch.lock().pop();
    match spare {
        Some(file) => Ok(file),
        None => Ok(Arc::new(fs::scratch_file(&ctx.store.planexe_subdir("partial")?)?)),
    }
}

/// Keeps what the command said under `.planexe/logs/`, and returns its last part. What an earlier attempt said goes,
/// also if this one was silent. A key that it printed is not kept.
fn keep_log(ctx: &BuildContext, job: &Job, said: &File) -> Result<String, FsError> {
    let bytes = ctx.providers.redact_printed(fs::read_scratch(said)?);
    let name = format!("{}.log", planexe_store::task_dir_name(&job.task.name));
    if bytes.is_empty() {
        fs::remove(&ctx.store.planexe_dir().join("logs").join(name))?;
        return Ok(String::new());
    }
    let path = ctx.store.planexe_subdir("logs")?.join(name);
    fs::write_atomic(&path, &bytes, Durability::Unsynced)?;
    Ok(tail_of(&bytes))
}
