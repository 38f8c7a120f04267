//! A command: a program that reads `$in` and writes `$out`.
//!
//! It writes under temporary names, which become the outputs when it exits with 0. Nothing it leaves
//! behind otherwise is believed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Pid;

use super::expand::{self, Values};
use super::isolated::watching::Watched;
use super::isolated::{self, IsolationError, Worktree};
use super::{BuildContext, Job, Live, Made, Outcome, Stage, complete, eval, failure};
use crate::git::REDIRECTING;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::process::{self, End, Lifeline, Limits};
use planexe_base::record::{Digest, Failure, Marker, State};
use planexe_base::style;
use planexe_llm::Usage;
use planexe_llm::keys;
use planexe_pipeline::eval_score::{self as verdict, Score};
use planexe_pipeline::input_files::Files;
use planexe_pipeline::project::{CommandSpec, Line};
use planexe_store::Why;
use planexe_store::candidates::Candidate;
use planexe_store::commit::Content;

/// From so long on a command is said to run. Most are done by then, and a file less is written for them.
const TAKES_ITS_TIME: Duration = Duration::from_millis(200);
/// How much of what a failed command said is kept with the failure.
const TAIL: u64 = 4096;
/// The largest JSON that is looked into for whether it is whole.
const LARGEST_JSON: u64 = 64 << 20;

/// Where programs are: each is looked for in `PATH` once, not each time one is started.
#[derive(Debug, Default)]
pub struct Programs {
    path: Option<String>,
    found: Mutex<HashMap<String, Option<PathBuf>>>,
}

impl Programs {
    /// Programs of a `PATH`; without one the system finds them.
    pub fn new(path: Option<String>) -> Programs {
        Programs { path, ..Programs::default() }
    }

    /// A program named without a slash, if it is in the path.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.as_deref().filter(|_| !name.is_empty() && !name.contains('/'))?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(name.to_owned()).or_insert_with(|| look_in(path, name)).clone()
    }
}

/// The first of the path's folders that has the program. A folder that depends on where one is, or a file
/// of the name that cannot be run, is left for the system to decide on.
fn look_in(path: &str, name: &str) -> Option<PathBuf> {
    for folder in path.split(':') {
        let file = Path::new(folder).join(name);
        if !folder.starts_with('/') {
            return None;
        }
        match fs::signature(&file) {
            Ok(None) => {}
            Ok(Some(signature)) => return (signature.mode & 0o111 == 0o111).then_some(file),
            Err(_) => return None,
        }
    }
    None
}

/// Runs the command.
pub fn run(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Outcome {
    match try_run(ctx, job, spec) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Broken(error),
    }
}

fn try_run(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Result<Outcome, FsError> {
    let store = &ctx.store;
    if job.prepared.as_it_is {
        return as_it_is(ctx, job);
    }
    let mut seat = match ctx.project.spec(&job.task).isolate.as_ref().map(|_| Worktree::take(ctx, job)) {
        None => None,
        Some(Ok(seat)) => Some(seat),
        Some(Err(IsolationError::Failed(failed))) => return Ok(Outcome::Failed(failed)),
        Some(Err(IsolationError::Fs(error))) => return Err(error),
    };
    let target = |output: &String| seat.as_ref().map_or_else(|| store.path(output), |seat| seat.path(output));
    let targets: Vec<PathBuf> = job.task.outputs.iter().map(target).collect();
    let inside = seat.as_ref().map_or(store.run_dir(), |seat| &seat.root);
    for target in &targets {
        fs::make_dirs_inside(inside, target, Durability::Unsynced)?;
    }
    let former = if spec.in_place { give_up_record(ctx, job)? } else { Vec::new() };
    let writes: Vec<PathBuf> = if spec.in_place || seat.is_some() {
        targets.clone()
    } else {
        targets.iter().map(|target| fs::temp_for_command(target)).collect()
    };
    let spare = ctx.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let said = match spare {
        Some(file) => file,
        None => Arc::new(fs::scratch_file(&store.planexe_subdir("partial")?)?),
    };
    let stdout = match (spec.stdout, &seat) {
        (false, _) => None,
        (true, None) => Some(fs::create_new(&writes[0])?),
        (true, Some(_)) => Some(fs::fresh_log(&writes[0])?),
    };
    let mut invocation = match invocation_of(ctx, job, spec, &writes, seat.as_ref()) {
        Ok(invocation) => invocation,
        Err(failure) => return Ok(Outcome::Failed(failure)),
    };
    if ctx.project.spec(&job.task).eval.is_some() {
        invocation.notes = Some(match &job.history.notes {
            Some(notes) => {
                let written = store.write_notes(&job.task.name, &notes.text)?;
                [Some(written.into_os_string()), notes.former_path.clone().map(PathBuf::into_os_string)]
            }
            None => [None, None],
        });
    }
    let start = |lifeline: &Lifeline| invocation.start(ctx, spec, stdout.as_ref(), &said, lifeline);
    job.live.enter(Stage::Running);
    job.live.says_into(said.clone());
    let task_spec = ctx.project.spec(&job.task);
    let left = task_spec.timeout.map(|timeout| timeout.saturating_sub(job.history.own.spent));
    let limits = Limits { timeout: left, stall: task_spec.stall };
    let worktree = seat.as_ref().map(|seat| Watched::new(seat.root.clone()));
    let growth = growth_of(said.clone(), writes.clone(), worktree, job.live.clone(), running(ctx, job, spec));
    let end = ctx.watchdog.run_one(start, limits, Some(growth), Some(job.live.cancel.clone()));
    drop(stdout);
    let tail = keep_log(ctx, job, &said)?;
    if tail.is_empty() && matches!(end, End::Exited(0)) {
        ctx.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
    let ended = match end {
        End::Exited(0) => Ok(()),
        End::Cancelled => Err(None),
        other => {
            let limits = Limits { timeout: task_spec.timeout, stall: task_spec.stall };
            let mut failed = explain(spec, other, &invocation.place, &limits, tail);
            if matches!(failed.class.as_str(), "exit" | "spawn")
                && let Some(script) = left_behind(spec, &invocation.place, &ctx.project.folder)
            {
                failed.message += &format!(
                    "\nhint: `{script}` is not in the run directory, but in the pipeline's folder; there a shell finds it \
                     as `\"${FOLDER_VARIABLE}\"/{script}`"
                );
            }
            Err(Some(failed))
        }
    };
    let ended = ended.and_then(|()| look_at_outputs(job, spec, &writes).map_err(Some));
    let ended = ended.and_then(|()| look_at_inputs(ctx, job).map_err(Some));
    let mut taken = None;
    let unrescued = |failed: &Failure| -> Option<String> {
        let parts = || not_whole(job, &writes);
        let why = match () {
            () if ctx.no_rescue => "`--no-rescue` was given".to_owned(),
            () if !may_be_rescued(failed) => "what ends like this is never rescued".to_owned(),
            () if parts().is_some() => parts()?,
            () if spec.in_place && !is_changed(&writes, &former) => {
                "it changed none of its outputs".to_owned()
            }
            () if look_at_inputs(ctx, job).is_err() => "an input changed meanwhile".to_owned(),
            () => return None,
        };
        Some(why)
    };
    let rescues = task_spec.eval.as_ref().is_some_and(|eval| eval.rescue);
    let (ended, failed) = match ended {
        Err(Some(mut failed)) if rescues && is_end(&failed) => match unrescued(&failed) {
            None => (Ok(()), Some(failed)),
            Some(why) => {
                let (first, rest) =
                    failed.message.split_once('\n').map_or((&*failed.message, None), |(a, b)| (a, Some(b)));
                let rest = rest.map_or(String::new(), |rest| format!("\n{rest}"));
                failed.message = format!("{first}; not evaluated: {why}{rest}");
                (Err(Some(failed)), None)
            }
        },
        ended => (ended, None),
    };
    let ended = match (ended, &mut seat) {
        (Ok(()), Some(seat)) => match seat.finish(ctx, job) {
            Ok(outputs) => {
                taken = Some(outputs);
                Ok(())
            }
            Err(IsolationError::Failed(failed)) => Err(Some(failed)),
            Err(IsolationError::Fs(error)) => return Err(error),
        },
        (ended, _) => ended,
    };
    if let Err(failed) = ended {
        if !spec.in_place && seat.is_none() {
            for temp in &writes {
                match fs::kind(temp)? {
                    Some(FileKind::Dir) => fs::remove_tree(temp)?,
                    _ => fs::remove(temp)?,
                };
            }
        }
        return Ok(failed.map_or(Outcome::Stopped, Outcome::Failed));
    }
    (job.answered)(Usage::default());
    let is_taken = taken.is_some();
    let mut outputs: Vec<(String, Content)> = taken.unwrap_or_default();
    for (n, (output, path)) in job.task.outputs.iter().zip(writes).enumerate().filter(|_| !is_taken) {
        let content = match spec.in_place {
            true => Content::InPlace { former: former.get(n).cloned().flatten() },
            false => Content::Temp(path),
        };
        outputs.push((output.clone(), content));
    }
    match failed {
        Some(failed) => eval::propose(ctx, job, outputs, Made::default(), Some(failed)),
        None => Ok(complete(ctx, job, outputs, Made::default())),
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

/// Whether a command failed by the way it ended, not by what it left.
fn is_end(failed: &Failure) -> bool {
    matches!(failed.class.as_str(), "exit" | "signal" | "timeout" | "stall")
}

/// Whether a command that failed said so itself. A shell gives the signal that ended a program as a code above 128, and
/// 126 and 127 for one that it could not start.
fn may_be_rescued(failed: &Failure) -> bool {
    let of_shell = |code: i32| code == 126 || code == 127 || (129..=192).contains(&code);
    failed.class == "exit" && failed.exit_code.is_some_and(|code| !of_shell(code))
}

/// Whether a command that works in place did anything: what was there before is no work of its own.
fn is_changed(writes: &[PathBuf], former: &[Option<Digest>]) -> bool {
    let now = |path: &PathBuf| fs::hash_file(path).ok().map(|(digest, _)| digest);
    writes.iter().zip(former).any(|(path, former)| now(path) != *former)
}

/// Why the outputs are not all files with something in them, and JSON where their names say so.
fn not_whole(job: &Job, writes: &[PathBuf]) -> Option<String> {
    job.task.outputs.iter().zip(writes).find_map(|(output, path)| {
        let output = planexe_base::style::clean(output);
        let wrong = match fs::kind_and_signature(path) {
            Ok(Some((FileKind::File, it))) if it.size == 0 => "is empty",
            Ok(Some((FileKind::File, _))) => {
                let json = || {
                    let text = fs::read_capped(path, LARGEST_JSON).ok();
                    text.is_some_and(|text| serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok())
                };
                match output.ends_with(".json") && !json() {
                    true => "is not JSON",
                    false => return None,
                }
            }
            Ok(Some(_)) => "is no file",
            Ok(None) => "is missing",
            Err(_) => "cannot be read",
        };
        Some(format!("output `{output}` {wrong}"))
    })
}

/// The score that a program gives a candidate: it is given the outputs' files, and prints JSON. None: it was stopped.
pub(super) fn score(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    candidate: &Candidate,
    timeout: Option<Duration>,
) -> Result<Result<Score, Option<Failure>>, FsError> {
    // What an isolated task did is in its worktree; outputs that were there already were judged where they are.
    let there = match ctx.project.spec(&job.task).isolate.is_some() && candidate.round > 0 {
        true => match isolated::Judged::of(ctx, job) {
            Ok(there) => Some(there),
            Err(IsolationError::Failed(failed)) => return Ok(Err(Some(failed))),
            Err(IsolationError::Fs(error)) => return Err(error),
        },
        false => None,
    };
    let run = there.as_ref().map_or_else(|| ctx.store.run_dir().to_owned(), |there| there.run.clone());
    let place = spec.cwd.as_deref().map_or_else(|| run.clone(), |cwd| run.join(cwd));
    let path = |output| ctx.store.candidate_file(candidate, output).to_string_lossy().into_owned();
    let one = |(n, output)| Files {
        name: format!("output_{n}"),
        paths: vec![path(output)],
        glob: false,
        optional: false,
        pattern: output.path.clone(),
    };
    let inputs: Vec<Files> = candidate.outputs.iter().enumerate().map(one).collect();
    let key = job.task.item.as_ref().map(|item| item.key.as_str());
    let item = job.task.item.as_ref().map(|item| &item.value);
    let values = Values { inputs: &inputs, outputs: &[], key, item, item_file: None };
    let (words, arguments) = match words_of(spec, &values) {
        Ok(words) => words,
        Err(failed) => return Ok(Err(Some(failed))),
    };
    let found = words.first().and_then(|program| ctx.programs.find(program));
    let variables = there.as_ref().map_or_else(Vec::new, isolated::Judged::variables);
    // What the agent made of the evaluator in its worktree does not count.
    let own_first = there.is_some() || ctx.project.own_programs;
    let invocation =
        Invocation { found, words, arguments, place: place.clone(), notes: None, variables, own_first };
    let folder = ctx.store.planexe_subdir("partial")?;
    let (said, printed) = (Arc::new(fs::scratch_file(&folder)?), fs::scratch_file(&folder)?);
    let start = |lifeline: &Lifeline| invocation.start(ctx, spec, Some(&printed), &said, lifeline);
    let limits = Limits { timeout, stall: None };
    let end = ctx.watchdog.run_one(start, limits, None, Some(job.live.cancel.clone()));
    if let Some(there) = there {
        match there.put_back() {
            Ok(()) => {}
            Err(IsolationError::Failed(failed)) => return Ok(Err(Some(failed))),
            Err(IsolationError::Fs(error)) => return Err(error),
        }
    }
    let tail = |file: &File| {
        fs::read_scratch(file).map(|bytes| {
            let from = bytes.len().saturating_sub(TAIL as usize);
            String::from_utf8_lossy(&bytes[from..]).into_owned()
        })
    };
    Ok(match end {
        End::Exited(0) => {
            let printed = String::from_utf8_lossy(&fs::read_scratch(&printed)?).into_owned();
            verdict::read(&printed).map_err(|violations| {
                let first = violations.first().map(ToString::to_string).unwrap_or_default();
                Some(Failure {
                    raw_error: Some(tail(&said).unwrap_or_default()),
                    ..failure("validation", first)
                })
            })
        }
        End::Cancelled => Err(None),
        other => Err(Some(explain(spec, other, &place, &limits, tail(&said)?))),
    })
}

/// Before a command that works in place: contents to history, the record removed, digests remembered.
/// Synced: from here on there is no telling half a content from an edit by hand, but for the record's absence.
fn give_up_record(ctx: &BuildContext, job: &Job) -> Result<Vec<Option<Digest>>, FsError> {
    let store = &ctx.store;
    store.save(&job.task.name, Why::Replaced, &job.task.outputs, Durability::Synced)?;
    let mut former = Vec::new();
    for output in &job.task.outputs {
        former.push(fs::optional(fs::hash_file(&store.path(output)))?.map(|(digest, _)| digest));
    }
    if let Some(first) = job.task.outputs.first()
        && store.read_done(first) != Marker::Missing
    {
        store.remove_done(first, Durability::Synced)?;
    }
    Ok(former)
}

/// Tells a command the pipeline's folder, where its scripts are while it runs in a run directory elsewhere.
const FOLDER_VARIABLE: &str = "PLANEXE_PIPELINE_DIR";

/// Tell a command of a task with an evaluator where the notes on the last round are, and what they are about.
const NOTES_VARIABLES: [&str; 2] = ["PLANEXE_NOTES", "PLANEXE_FORMER"];

/// What is run, and where.
struct Invocation {
    /// The file, if it was found in the path.
    found: Option<PathBuf>,
    /// The program's name, then its arguments.
    words: Vec<String>,
    /// Variables with what a line for the shell cannot hold as it is.
    arguments: Vec<(String, String)>,
    /// Where it runs.
    place: PathBuf,
    /// Of a task with an evaluator: the files with the notes on the last round and with what they are about, if there
    /// was one.
    notes: Option<[Option<OsString>; 2]>,
    /// Of an isolated task: variables of its worktree.
    variables: Vec<(&'static str, OsString)>,
    /// The pipeline's programs come before those where it runs.
    own_first: bool,
}

impl Invocation {
    /// Starts it. What it says goes to `said`, its standard output to `stdout` if there is one.
    fn start(
        &self,
        ctx: &BuildContext,
        spec: &CommandSpec,
        stdout: Option<&File>,
        said: &File,
        lifeline: &Lifeline,
    ) -> std::io::Result<Pid> {
        let (name, arguments) =
            self.words.split_first().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        let program = self.found.clone();
        let folder = &ctx.project.folder;
        let places = match self.own_first {
            true => [folder, &self.place],
            false => [&self.place, folder],
        };
        let program = program.unwrap_or_else(|| program_path(name, places));
        let mut command = Command::new(program);
        command.arg0(name).args(arguments).current_dir(&self.place);
        command.stdin(Stdio::null());
        command.stdout(stdout.unwrap_or(said).try_clone()?);
        command.stderr(said.try_clone()?);
        keys::hide_from(&mut command, &spec.env_names);
        command.env(FOLDER_VARIABLE, folder);
        if !self.variables.is_empty() {
            for name in REDIRECTING {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        for (name, value) in spec.env_set.iter().chain(&self.arguments) {
            command.env(name, value);
        }
        for (name, value) in NOTES_VARIABLES.iter().zip(self.notes.iter().flatten()) {
            match value {
                Some(path) => command.env(name, path),
                None => command.env_remove(name),
            };
        }
        process::start_with(lifeline, &mut command)
    }
}

/// The program with its arguments and directory.
fn invocation_of(
    ctx: &BuildContext,
    job: &Job,
    spec: &CommandSpec,
    writes: &[PathBuf],
    seat: Option<&Worktree>,
) -> Result<Invocation, Failure> {
    let run = seat.map_or(ctx.store.run_dir(), |seat| &seat.run);
    let place = spec.cwd.as_deref().map_or_else(|| run.to_owned(), |cwd| run.join(cwd));
    // Paths are given as seen from where the command runs.
    let seen = |path: &Path| -> String {
        let shown = path.strip_prefix(&place).unwrap_or(path);
        shown.to_string_lossy().into_owned()
    };
    let inputs: Vec<Files> = job
        .prepared
        .inputs
        .files
        .iter()
        .map(|files| Files {
            paths: files.paths.iter().map(|path| seen(&input_of(ctx, seat, path))).collect(),
            ..files.clone()
        })
        .collect();
    let outputs: Vec<String> = writes.iter().map(|path| seen(path)).collect();
    let key = job.task.item.as_ref().map(|item| item.key.as_str());
    let item = job.task.item.as_ref().map(|item| &item.value);
    let item_file = job.prepared.inputs.item.as_deref().map(|path| seen(&input_of(ctx, seat, path)));
    let item_file = item_file.as_deref();
    let values = Values { inputs: &inputs, outputs: &outputs, key, item, item_file };
    let (words, arguments) = words_of(spec, &values)?;
    let program = words.first().ok_or_else(|| failure("command", "the command is empty"))?;
    let own_path = spec.env_set.iter().any(|(name, _)| name == "PATH");
    let found = if own_path { None } else { ctx.programs.find(program) };
    let variables = seat.map(Worktree::variables).unwrap_or_default();
    // In a worktree are the agent's own, as they were committed.
    let own_first = ctx.project.own_programs && seat.is_none();
    Ok(Invocation { found, words, arguments, place, notes: None, variables, own_first })
}

/// Where a command finds an input: an isolated one in its worktree, unless the file is in no repository.
fn input_of(ctx: &BuildContext, seat: Option<&Worktree>, path: &str) -> PathBuf {
    let place = ctx.isolation.as_ref().map(|isolation| &isolation.place);
    match (seat, place) {
        (Some(seat), Some(place)) if place.in_repository(path).is_some() => seat.path(path),
        _ => ctx.store.path(path),
    }
}

/// The program and its arguments, and names and values of variables.
type Words = (Vec<String>, Vec<(String, String)>);

/// The program and its arguments, placeholders filled in, and the variables that hold what a line for the shell cannot.
fn words_of(spec: &CommandSpec, values: &Values<'_>) -> Result<Words, Failure> {
    let unfit = |expand::Unfit(why): expand::Unfit| failure("command", why);
    Ok(match &spec.line {
        Line::Argv(words) => (expand::argv(words, values).map_err(unfit)?, Vec::new()),
        Line::Shell(line) => {
            let script = expand::shell(line, values).map_err(unfit)?;
            (vec!["sh".to_owned(), "-c".to_owned(), script.line], script.variables)
        }
    })
}

/// A program named by a relative path with a slash is looked for in two places: where the command runs and the pipeline's
/// folder. A build that is bound to its pipeline takes the pipeline's first.
fn program_path(program: &str, [first, then]: [&PathBuf; 2]) -> PathBuf {
    if !program.contains('/') || program.starts_with('/') {
        return PathBuf::from(program);
    }
    let here = first.join(program);
    if here.exists() { here } else { then.join(program) }
}

/// Makes `.status` say that the command runs. It may be lost: it says what can be seen from outside.
fn running(ctx: &BuildContext, job: &Job, spec: &CommandSpec) -> Option<impl FnOnce() + Send + 'static> {
    let first = job.task.outputs.first().filter(|_| !spec.in_place)?.clone();
    let (store, status) = (ctx.store.clone(), super::status_of(ctx, job, State::Running));
    Some(move || drop(store.write_status(&first, &status, Durability::Unsynced)))
}

/// What a program has written so far, in bytes: any change is progress. A program that is still at it when
/// that is looked for is one that takes its time, and `running` is called.
fn growth_of(
    said: Arc<File>,
    writes: Vec<PathBuf>,
    worktree: Option<Watched>,
    live: Arc<Live>,
    running: Option<impl FnOnce() + Send + 'static>,
) -> planexe_base::process::Growth {
    let running = Mutex::new(running);
    Box::new(move || {
        if live.started.elapsed() >= TAKES_ITS_TIME
            && let Some(running) = running.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            running();
        }
        let size =
            |path: &PathBuf| fs::signature(path).ok().flatten().map_or(0, |s| s.size ^ (s.mtime_ns as u64));
        let own = said.metadata().map_or(0, |metadata| metadata.len());
        let around = worktree.as_ref().map_or(0, Watched::sum);
        let sum = writes.iter().map(size).fold(own.wrapping_add(around), u64::wrapping_add);
        live.grown(sum);
        sum
    })
}

/// Keeps what the command said under `.planexe/logs/`, and returns its last part. What an earlier attempt said goes,
/// also if this one was silent.
fn keep_log(ctx: &BuildContext, job: &Job, said: &File) -> Result<String, FsError> {
    let bytes = fs::read_scratch(said)?;
    let name = format!("{}.log", planexe_store::task_dir_name(&job.task.name));
    if bytes.is_empty() {
        fs::remove(&ctx.store.planexe_dir().join("logs").join(name))?;
        return Ok(String::new());
    }
    let path = ctx.store.planexe_subdir("logs")?.join(name);
    fs::write_atomic(&path, &bytes, Durability::Unsynced)?;
    let from = bytes.len().saturating_sub(TAIL as usize);
    Ok(String::from_utf8_lossy(&bytes[from..]).into_owned())
}

/// The failure of a command that did not exit with 0.
fn explain(spec: &CommandSpec, end: End, place: &Path, limits: &Limits, tail: String) -> Failure {
    let span = |limit: Option<Duration>| style::duration(limit.unwrap_or_default().as_secs_f64());
    let last = tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    let said = if last.is_empty() { String::new() } else { format!(": {}", style::clean(last)) };
    let mut failed = match end {
        End::Exited(code) => {
            let mut failed = failure("exit", format!("exit code {code}{said}"));
            failed.exit_code = Some(code);
            failed
        }
        End::Signalled(signal) => {
            let mut failed = failure("signal", format!("ended by signal {signal}{said}"));
            failed.signal = Some(signal);
            failed
        }
        End::TimedOut => failure("timeout", format!("not done after {} (timeout)", span(limits.timeout))),
        End::Stalled => failure("stall", format!("no output for {} (stall_timeout)", span(limits.stall))),
        End::NotStarted(_) if !place.is_dir() => {
            let cwd = spec.cwd.as_deref().unwrap_or(".");
            failure("spawn", format!("there is no folder `{cwd}` to run in (cwd)"))
        }
        End::NotStarted(error) => {
            let program = match &spec.line {
                Line::Argv(words) => words.first().map_or("", String::as_str),
                Line::Shell(_) => "sh",
            };
            failure("spawn", format!("`{program}` cannot be started: {error}"))
        }
        End::Cancelled => failure("cancelled", "stopped"),
    };
    failed.recoverable = matches!(failed.class.as_str(), "exit" | "signal" | "timeout" | "stall");
    failed.raw_error = (!tail.is_empty()).then_some(tail);
    failed
}

/// A file that a command names as if it ran in the pipeline's folder, while it runs elsewhere.
fn left_behind<'a>(spec: &'a CommandSpec, place: &Path, folder: &Path) -> Option<&'a str> {
    let words: Vec<&str> = match &spec.line {
        Line::Argv(words) => words.iter().skip(1).map(String::as_str).collect(),
        Line::Shell(line) => line.split_whitespace().collect(),
    };
    let is_path =
        |word: &&str| word.contains('/') && !word.starts_with('/') && !word.contains(['$', '"', '\'']);
    words.into_iter().filter(is_path).find(|word| !place.join(word).exists() && folder.join(word).is_file())
}

/// Every output must have been written, as a file.
fn look_at_outputs(job: &Job, spec: &CommandSpec, writes: &[PathBuf]) -> Result<(), Failure> {
    for (n, (output, path)) in job.task.outputs.iter().zip(writes).enumerate() {
        let what = match fs::kind_and_signature(path) {
            // Of many items nobody sees that one came to nothing.
            Ok(Some((FileKind::File, signature))) if signature.size == 0 && job.task.item.is_some() => {
                "is empty; an item's command that has nothing to say writes a line that says so"
            }
            Ok(Some((FileKind::File, signature))) if signature.mode & 0o400 != 0 => continue,
            Ok(Some((FileKind::File, _))) => {
                "came as a file that its owner may not read; wanted mode 400 at least"
            }
            Ok(Some((FileKind::Dir, _))) => "came as a directory; wanted a file",
            Ok(Some((FileKind::Link, _))) => "came as a symbolic link; wanted a file",
            Ok(Some((FileKind::Other, _))) => "came as a pipe or a device; wanted a file",
            Ok(None) | Err(_) if spec.in_place => "was not written",
            Ok(None) | Err(_) if writes.len() > 1 => {
                return Err(failure(
                    "output",
                    format!("exit code 0, but `{output}` was not written; a command writes it to `$out.{n}`"),
                ));
            }
            Ok(None) | Err(_) => {
                "was not written; a command writes to `$out`, or says `in_place = true`, or `stdout = true`"
            }
        };
        return Err(failure("output", format!("exit code 0, but `{output}` {what}")));
    }
    Ok(())
}

/// What was read must still be what was given: a change meanwhile is stale, not done.
fn look_at_inputs(ctx: &BuildContext, job: &Job) -> Result<(), Failure> {
    for record in job.prepared.records() {
        let now = ctx.index.digest_of_input(&ctx.project.input(&record.path)).ok().flatten();
        if now.is_none_or(|(digest, _)| digest != record.blake3) {
            let mut failed =
                failure("input_changed", format!("input `{}` changed while the command ran", record.path));
            failed.recoverable = true;
            return Err(failed);
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the programs they look for")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_as_the_system_would() {
        let (first, second) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let put = |folder: &Path, name: &str, mode: u32| {
            std::fs::write(folder.join(name), "").expect("a file");
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(mode)).expect("a mode");
        };
        put(first.path(), "plain", 0o644);
        put(second.path(), "plain", 0o755);
        put(second.path(), "tool", 0o755);
        let path = format!("{}:{}", first.path().display(), second.path().display());
        let programs = Programs::new(Some(path.clone()));
        assert_eq!(programs.find("tool"), Some(second.path().join("tool")));
        // Whether one may run a file without its bits is the system's to say.
        for left in ["plain", "missing", "./tool", "/bin/sh", ""] {
            assert_eq!(programs.find(left), None, "{left}");
        }
        assert_eq!(Programs::new(Some(format!("ctx:{path}"))).find("tool"), None);
        assert_eq!(Programs::new(None).find("tool"), None);
    }
}
