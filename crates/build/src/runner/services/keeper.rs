//! The thread of a service: starts it, looks whether it is ready, starts it again if it ends by itself, and ends it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::super::expand::Values;
use super::super::former_jobs::LAST_WORDS;
use super::super::program::{Invocation, tail_of, words_of};
use super::{BuildContext, Entry, Stage, State, end, failed, failure, job_name};
use crate::executor::desk::{Ended, Request};
use crate::executor::{Seen, programs};
use planexe_base::cancel::{Cancel, Level};
use planexe_base::clock;
use planexe_base::event::{Kind, Queued};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, Durability};
use planexe_base::message::Message;
use planexe_base::process::{Lifeline, Limits, Looks, ProcessEnd};
use planexe_base::record::{Failure, SCHEMA};
use planexe_base::style;
use planexe_pipeline::manifest::executors::memory_in_words;
use planexe_pipeline::project::{CommandSpec, ExecutorSpec, ReadyCheck, ServiceSpec, at_node};
use planexe_store::jobs::{Job, JobFiles};

/// How often one that ended by itself is started again in a build.
const RESTARTS: u32 = 2;
/// The first pause between two looks whether it is ready, and the longest.
const LOOKS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// Between two looks at one that somebody else keeps.
const STRANGER: Duration = Duration::from_secs(2);

/// The name of a service's log in `.planexe/logs`.
pub(super) fn log_name(spec: &ServiceSpec) -> String {
    format!("{}.log", planexe_store::task_dir_name(&job_name(spec)))
}

/// A service under way.
struct Keeper<'a> {
    ctx: &'a Arc<BuildContext>,
    at: usize,
    spec: &'a ServiceSpec,
    entry: &'a Entry,
    cancel: &'a Cancel,
}

/// What has it, and how its end is heard of.
struct Under {
    ended: Receiver<String>,
    /// When it began to run; a queue is waited for without limit.
    began: Option<Instant>,
    /// What is seen of it where it runs.
    seen: Arc<parking_lot::Mutex<Option<Seen>>>,
    files: Option<JobFiles>,
}

/// Keeps a service up until it is told to end.
pub(super) fn keep(ctx: &Arc<BuildContext>, at: usize, cancel: &Cancel) {
    let keeper =
        Keeper { ctx, at, spec: &ctx.project.services[at], entry: &ctx.services.entries[at], cancel };
    let end = keeper.serve();
    keeper.entry.change(|state| {
        // Somebody may have asked for it while it ended.
        state.stage = match &end {
            Ok(_) => Stage::Off,
            Err(why) => Stage::Failed(Box::new(why.clone())),
        };
        state.at.clear();
    });
    match &end {
        Ok(word) => keeper.tell("stopped", word),
        Err(why) => keeper.tell("failed", &why.message.text),
    }
}

impl Keeper<'_> {
    fn tell(&self, word: &str, message: &str) {
        self.tell_with(word, message, None);
    }

    fn tell_with(&self, word: &str, message: &str, queued: Option<Queued>) {
        (self.ctx.events)(Kind::ServiceChanged {
            service: self.spec.name.clone(),
            state: word.to_owned(),
            message: message.to_owned(),
            queued,
        });
    }

    fn is_told(&self) -> bool {
        self.cancel.is_killing()
    }

    fn why_ended(&self) -> &'static str {
        match self.entry.state.lock().makes_room {
            true => "other tasks need its room; the next task that needs it starts it again",
            false => "nothing needs it any more",
        }
    }

    /// Until it is told to end; a word on how it ended.
    fn serve(&self) -> Result<&'static str, Failure> {
        let mut restarts = 0;
        let mut again = String::new();
        loop {
            let adopted = self.adopt()?;
            if adopted.is_none() && self.is_ready("127.0.0.1") {
                self.ready("kept by somebody else", None);
                while !self.is_told() && self.is_ready("127.0.0.1") {
                    self.pause(STRANGER);
                }
                if self.is_told() {
                    return Ok("it is somebody else's, and left as it is");
                }
                self.starts();
            }
            let mut under = self.start(adopted, &again)?;
            if self.come_up(&mut under)? {
                self.ready(&self.place(&under), under.files.as_ref().and_then(JobFiles::queued));
            }
            // Until it ends, by itself or because it is told to.
            let why = loop {
                if self.is_told() {
                    let _ = under.ended.recv_timeout(LAST_WORDS * 3);
                    self.keep_log(&under);
                    return Ok(self.why_ended());
                }
                match under.ended.recv_timeout(Duration::from_millis(100)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    // It was told while it was listened for: not by itself.
                    _ if self.is_told() => {
                        self.keep_log(&under);
                        return Ok(self.why_ended());
                    }
                    Ok(why) => break why,
                    Err(RecvTimeoutError::Disconnected) => break "it ended".to_owned(),
                }
            };
            let tail = self.keep_log(&under);
            if why == LEFT {
                return Ok("it goes on without this build");
            }
            restarts += 1;
            if restarts > RESTARTS {
                return Err(failed(self.spec, format!("ended by itself {restarts} times ({why})"), tail));
            }
            self.starts();
            again = format!(", again, since it ended by itself ({why})");
        }
    }

    fn starts(&self) {
        self.entry.change(|state| {
            if matches!(state.stage, Stage::Ready) {
                state.stage = Stage::Starting;
            }
        });
    }

    fn ready(&self, place: &str, queued: Option<Queued>) {
        self.tell_with("ready", place, queued);
        self.entry.change(|state| {
            if matches!(state.stage, Stage::Wanted | Stage::Starting) {
                state.stage = Stage::Ready;
            }
            state.at = place.to_owned();
            state.node.get_or_insert_with(|| "127.0.0.1".to_owned());
        });
    }

    fn pause(&self, most: Duration) {
        let began = Instant::now();
        while !self.is_told() && began.elapsed() < most {
            std::thread::sleep(Duration::from_millis(20).min(most));
        }
    }

    fn executor(&self) -> Option<&ExecutorSpec> {
        self.spec.executor.map(|at| &self.ctx.project.executors[at])
    }

    /// The same service as an earlier build left it; any other of its name is ended first.
    fn adopt(&self) -> Result<Option<JobFiles>, Failure> {
        let old = self.ctx.store.jobs_of(&job_name(self.spec));
        let mut old =
            old.map_err(|error| failed(self.spec, format!("cannot be started: {error}"), String::new()))?;
        let is_ours = |files: &JobFiles| {
            self.executor().is_some_and(|executor| executor.name == files.job.executor)
                && files.job.decision_id == self.spec.digest.to_string()
                && files.is_open()
                && !files.is_revoked()
                && !files.is_asked_to_end()
        };
        let ours = old.iter().rposition(is_ours).map(|at| old.remove(at));
        end(self.ctx, &old);
        Ok(ours)
    }

    /// Waits until it is ready; false if it is told to end before.
    fn come_up(&self, under: &mut Under) -> Result<bool, Failure> {
        let mut look = LOOKS[0];
        loop {
            if self.is_told() {
                return Ok(false);
            }
            match under.ended.try_recv() {
                Ok(_) if self.is_told() => return Ok(false),
                Ok(why) => {
                    let what = match why.starts_with(NOT_STARTED) {
                        true => why.replacen(NOT_STARTED, "cannot be started", 1),
                        false => format!("was not ready before it ended ({why})"),
                    };
                    return Err(failed(self.spec, what, self.keep_log(under)));
                }
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    return Err(failed(
                        self.spec,
                        "ended before it was ready".to_owned(),
                        self.keep_log(under),
                    ));
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
            if let Some(node) = self.look(under)?
                && self.is_ready(&node)
            {
                return Ok(true);
            }
            if under.began.is_some_and(|began| began.elapsed() >= self.spec.within) {
                let within = style::duration(self.spec.within.as_secs_f64());
                self.cancel.raise(Level::Killing);
                let _ = under.ended.recv_timeout(LAST_WORDS * 3);
                return Err(failed(
                    self.spec,
                    format!("was not ready within {within}"),
                    self.keep_log(under),
                ));
            }
            self.pause(look);
            look = (look * 3 / 2).min(LOOKS[1]);
        }
    }

    /// Where it is now; the host, once it runs. A model's address is made of that once.
    fn look(&self, under: &mut Under) -> Result<Option<String>, Failure> {
        let node = match (&under.files, self.executor()) {
            (Some(files), Some(executor)) if !executor.kind.is_here() => {
                let seen = under.seen.lock().clone();
                let is_queued = matches!(seen, Some(Seen::Queued(_)) | None);
                let claim = files.claim().filter(|_| !files.is_revoked());
                if claim.is_none() && is_queued {
                    let why = match seen {
                        Some(Seen::Queued(why)) if !why.is_empty() => format!(": {}", style::clean(&why)),
                        _ => String::new(),
                    };
                    let at = format!("queued on {}{why}", executor.name);
                    self.entry.change(|state| state.at = at);
                    return Ok(None);
                }
                let Some(claim) = claim else { return Ok(None) };
                claim.host
            }
            _ => "127.0.0.1".to_owned(),
        };
        under.began.get_or_insert_with(Instant::now);
        let mut moved = None;
        self.entry.change(|state: &mut State| {
            match &state.node {
                Some(former) if *former != node => moved = Some(former.clone()),
                _ => state.node = Some(node.clone()),
            }
            state.at = format!("starting on {}", style::clean(&node));
        });
        match moved {
            None => Ok(Some(node)),
            Some(former) => {
                let why = format!(
                    "was started again on {}, and models keep the address it had on {}",
                    style::clean(&node),
                    style::clean(&former)
                );
                self.cancel.raise(Level::Killing);
                Err(failed(self.spec, why, String::new()))
            }
        }
    }

    fn place(&self, under: &Under) -> String {
        match (&under.files, self.executor()) {
            (Some(files), Some(executor)) => {
                let id = files.handed().and_then(|handed| handed.id).unwrap_or_default();
                let host =
                    files.claim().map_or(String::new(), |claim| format!(" on {}", style::clean(&claim.host)));
                format!("{}, job {}{host}", executor.name, style::clean(&id))
            }
            _ => "in this build".to_owned(),
        }
    }

    /// Whether it says that it is ready, on a host.
    fn is_ready(&self, node: &str) -> bool {
        match &self.spec.ready {
            ReadyCheck::Url(url) => {
                let status = self.ctx.providers.status_of(&at_node(url, node));
                status.is_ok_and(|status| (200..300).contains(&status))
            }
            ReadyCheck::Command(words) => says_ready(self.spec, words, self.ctx.store.run_dir(), node),
        }
    }

    /// `again`: why it is not the first time, if it is not, for people.
    fn start(&self, adopted: Option<JobFiles>, again: &str) -> Result<Under, Failure> {
        if adopted.is_none() {
            self.fits()?;
        }
        let unfit = |why: String| failed(self.spec, format!("cannot be started: {why}"), String::new());
        let values = Values { inputs: &[], outputs: &[], key: None, item: None, item_file: None };
        let (words, arguments) = words_of(&self.spec.command, &values)?;
        let run = self.ctx.store.run_dir();
        let place = self.spec.command.cwd.as_ref().map_or_else(|| run.to_owned(), |cwd| run.join(cwd));
        let found = words.first().and_then(|program| self.ctx.programs.find(program));
        let invocation = Invocation {
            found,
            words,
            arguments,
            place,
            notes: None,
            variables: Vec::new(),
            served: Vec::new(),
            own_first: self.ctx.project.own_programs,
        };
        match self.executor() {
            None => self.start_here(invocation, again).map_err(|error| unfit(error.to_string())),
            Some(executor) => {
                let under = self.start_there(executor, invocation, adopted, again);
                under.map_err(|error| unfit(error.to_string()))
            }
        }
    }

    /// Whether this machine has what it takes at all: no task would ever be out of its way.
    fn fits(&self) -> Result<(), Failure> {
        let project = &self.ctx.project;
        let (taken, (memory, gpus)) = (project.taken_here(self.spec), project.shared_here());
        if taken.memory <= memory && taken.gpus <= gpus {
            return Ok(());
        }
        let name = &self.spec.name;
        let what = match taken.memory > memory {
            true => format!(
                "{} of memory, and tasks and services here share {}",
                memory_in_words(taken.memory),
                memory_in_words(memory)
            ),
            false => format!("{} GPUs, and tasks and services here share {gpus}", taken.gpus),
        };
        let message = Message::new(format!("service `{name}` cannot be started: it takes {what}"));
        let message = message.hint("say less in its `resources`, or more in `[executors.local]`");
        Err(failure(FailureClass::Service, message))
    }

    fn log(&self) -> Result<PathBuf, fs::FsError> {
        Ok(self.ctx.store.planexe_subdir("logs")?.join(log_name(self.spec)))
    }

    /// As a program of the build, on its lifeline.
    fn start_here(&self, invocation: Invocation, again: &str) -> Result<Under, fs::FsError> {
        let log = self.log()?;
        fs::remove(&log)?;
        let said: File = fs::fresh_log(&log)?;
        self.tell("starting", &format!("in this build{again}"));
        let (tell, ended) = channel();
        let (ctx, at, cancel) = (self.ctx.clone(), self.at, self.cancel.clone());
        let run = move || {
            let spec = &ctx.project.services[at];
            let start = |lifeline: &Lifeline| invocation.start(&ctx, &spec.command, None, &said, lifeline);
            let end = ctx.watchdog.run_one(
                start,
                Limits::default(),
                Looks { cancel: Some(cancel), ..Looks::default() },
            );
            let _ = tell.send(how(&end, &spec.command));
        };
        let thread = std::thread::Builder::new().name("service program".into()).stack_size(256 * 1024);
        // Without a thread nobody tells, which is an end too.
        let _ = thread.spawn(run);
        Ok(Under { ended, began: None, seen: Arc::default(), files: None })
    }

    /// As a job of an executor, which keeps it.
    fn start_there(
        &self,
        executor: &ExecutorSpec,
        invocation: Invocation,
        adopted: Option<JobFiles>,
        again: &str,
    ) -> Result<Under, fs::FsError> {
        let is_adopted = adopted.is_some();
        let files = match adopted {
            Some(files) => files,
            None => {
                let fence = uuid::Uuid::now_v7().simple().to_string();
                let dir = self.ctx.store.new_job_dir(&job_name(self.spec), &fence)?;
                let files = JobFiles { dir, job: self.job(executor, invocation, fence) };
                files.write(self.ctx.store.run_dir())?;
                files
            }
        };
        let what = if is_adopted { "taken up as an earlier build left it, on " } else { "on " };
        self.tell("starting", &format!("{what}{}{again}", executor.name));
        let (tell, ended) = channel();
        let seen: Arc<parking_lot::Mutex<Option<Seen>>> = Arc::default();
        let watched = seen.clone();
        let request = Request {
            files: files.clone(),
            adopted: is_adopted,
            cancel: self.cancel.clone(),
            seen: Box::new(move |seen, _| *watched.lock() = Some(seen.clone())),
        };
        let desk = self.ctx.services.executors.desk(executor);
        let (ctx, at) = (self.ctx.clone(), self.at);
        let run = move || {
            let Some(desk) = desk else { return };
            let word = match desk.run(request) {
                Ended::Result(result) => how(&result.end, &ctx.project.services[at].command),
                Ended::Unreadable => "its result cannot be read".to_owned(),
                Ended::Lost(why) | Ended::Refused(why) => style::clean(&why),
                Ended::Cancelled => "it was cancelled".to_owned(),
                Ended::Left => LEFT.to_owned(),
            };
            let _ = tell.send(word);
        };
        let _ = std::thread::Builder::new().name("service job".into()).stack_size(256 * 1024).spawn(run);
        Ok(Under { ended, began: None, seen, files: Some(files) })
    }

    fn job(&self, executor: &ExecutorSpec, invocation: Invocation, fence: String) -> Job {
        let (env_remove, env) = invocation.environment(self.ctx, &self.spec.command);
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let taken = self.spec.taken;
        Job {
            schema: SCHEMA,
            task: job_name(self.spec),
            attempt: 1,
            fence,
            executor: executor.name.clone(),
            kind: executor.kind.name().to_owned(),
            decision_id: self.spec.digest.to_string(),
            program: invocation.program(self.ctx),
            words: invocation.words,
            place: invocation.place,
            env: env.into_iter().map(|(name, value)| (name, text(value))).collect(),
            env_remove,
            cpus: taken.cpus.max(1),
            memory_mib: taken.memory,
            gpus: taken.gpus,
            time_s: taken.time,
            submitted_utc: clock::now_utc(),
            ..Job::default()
        }
    }

    /// Keeps what it said, and gives the last of it. Of a job that is over the folder goes.
    fn keep_log(&self, under: &Under) -> String {
        let Ok(log) = self.log() else { return String::new() };
        if let Some(files) = &under.files {
            if let Ok(said) = fs::read_capped(&files.log(), 64 << 20) {
                let clean = self.ctx.providers.redact_printed(said);
                let _ = fs::write_atomic(&log, &clean, Durability::Unsynced);
            }
            if !files.is_open() || files.is_revoked() || self.is_told() {
                let _ = files.remove();
            }
        }
        let Ok(said) = fs::read_capped(&log, 64 << 20) else { return String::new() };
        let clean = self.ctx.providers.redact_printed(said.clone());
        // A service of the build writes its log itself.
        if clean != said {
            let _ = fs::write_atomic(&log, &clean, Durability::Unsynced);
        }
        tail_of(&clean)
    }
}

/// Whether the ready command of a service says that it is ready, on a host.
pub fn says_ready(spec: &ServiceSpec, words: &[String], run: &Path, node: &str) -> bool {
    let less = planexe_llm::keys::hidden_but(&spec.command.env_names);
    let more = [("PLANEXE_NODE".to_owned(), node.to_owned())];
    let more = spec.command.env_set.iter().chain(&more);
    programs::ask_with(words, run, &less, more).is_ok_and(|answer| answer.is_success())
}

/// What is told of one that goes on without the build.
const LEFT: &str = "left";

/// What is told of one whose program could not be started.
const NOT_STARTED: &str = "it cannot be started";

/// How its program ended, in words.
fn how(end: &ProcessEnd, command: &CommandSpec) -> String {
    match end {
        ProcessEnd::Exited(code) => format!("exit code {code}"),
        ProcessEnd::Signalled(signal) => format!("signal {signal}"),
        ProcessEnd::NotStarted(why) => {
            format!("{NOT_STARTED}: `{}`: {}", style::clean(command.line.program()), style::clean(why))
        }
        ProcessEnd::Cancelled | ProcessEnd::TimedOut | ProcessEnd::Stalled => "it was ended".to_owned(),
    }
}
