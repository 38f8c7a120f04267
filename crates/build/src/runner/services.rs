//! `[services]`: servers that are started for the tasks and models that need them, waited for until they are ready, and
//! ended once nothing needs them. One of this build ends with it, also if it is killed (the lifeline); one that an executor
//! keeps is taken up by the next build, or ended by it, as its fence tells.
//!
//! An attempt asks for a service ([`Services::need`]) and waits; the run loop starts and ends them
//! ([`Services::tend`]); each has a thread of its own while it is up (`keeper.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{BuildContext, Job, failure, former_jobs};
use crate::executor::Executors;
use planexe_base::cancel::{Cancel, Level};
use planexe_base::failure_class::FailureClass;
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_engine::scheduler::ServiceIs;
use planexe_pipeline::project::{Project, ServiceSpec};
use planexe_store::Store;
use planexe_store::jobs::JobFiles;
use planexe_store::live::Serving;

mod keeper;

pub use keeper::says_ready;

/// Between two looks of an attempt that waits at whether it is to end.
const LISTEN: Duration = Duration::from_millis(100);

/// The services of a build.
pub struct Services {
    entries: Vec<Entry>,
    /// Where those run that are no programs of the build: apart from the tasks' desks, which are left before.
    executors: Executors,
}

/// A service.
#[derive(Default)]
struct Entry {
    state: Mutex<State>,
    changed: Condvar,
    /// Attempts that use it, or wait for it.
    users: AtomicUsize,
    /// Its thread, and what ends it.
    keeper: Mutex<Option<(JoinHandle<()>, Cancel)>>,
}

/// How far a service is.
#[derive(Debug, Clone, Default)]
struct State {
    stage: Stage,
    /// In a few words, for people: "queued on farm, job 7".
    at: String,
    /// The host it runs on, once that is known.
    node: Option<String>,
    /// When it was used last.
    used: Option<Instant>,
    /// It is ended for others that take what it takes of this machine.
    makes_room: bool,
}

#[derive(Debug, Clone, Default)]
enum Stage {
    /// It does not run.
    #[default]
    Off,
    /// An attempt waits for it, and nobody has started it yet.
    Wanted,
    /// It is started, and not ready.
    Starting,
    /// It serves.
    Ready,
    /// It is told to end.
    Ending,
    /// It cannot be had in this build.
    Failed(Box<Failure>),
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Stage::Off => "off",
            Stage::Wanted | Stage::Starting => "starting",
            Stage::Ready => "ready",
            Stage::Ending => "ending",
            Stage::Failed(_) => "failed",
        }
    }
}

/// An attempt uses a service, as long as this lives.
pub struct Using<'a>(Option<&'a Entry>);

impl Drop for Using<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.0 {
            entry.state.lock().used = Some(Instant::now());
            entry.users.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Why an attempt does not get the service it needs.
pub enum Unserved {
    /// The attempt is to end.
    Stopped,
    /// The service cannot be had.
    Failed(Failure),
}

impl Services {
    /// None runs. `executors`: for services alone.
    pub fn new(project: &Project, executors: Executors) -> Services {
        Services { entries: project.services.iter().map(|_| Entry::default()).collect(), executors }
    }

    /// Waits until a service is ready, and has it started if it does not run. No limit of the attempt counts that time.
    pub fn need(&self, ctx: &BuildContext, job: &Job, service: Option<usize>) -> Result<Using<'_>, Unserved> {
        let Some(at) = service else { return Ok(Using(None)) };
        let (entry, spec) = (&self.entries[at], &ctx.project.services[at]);
        entry.users.fetch_add(1, Ordering::SeqCst);
        let using = Using(Some(entry));
        let began = Instant::now();
        let mut state = entry.state.lock();
        let mut looks = 0;
        let found = loop {
            match &state.stage {
                Stage::Ready => break Ok(using),
                Stage::Failed(why) => {
                    let again = Failure { error_id: Some(super::error_id()), ..(**why).clone() };
                    break Err(Unserved::Failed(again));
                }
                Stage::Off => state.stage = Stage::Wanted,
                Stage::Wanted | Stage::Starting | Stage::Ending => {}
            }
            if job.live.cancel.level() != Level::Running {
                break Err(Unserved::Stopped);
            }
            // It waits, and does not stand still.
            looks += 1;
            job.live.grown(looks);
            let word = if state.at.is_empty() { "starting" } else { &state.at };
            job.live.serves(Some(format!("waiting for service {}, {word}", spec.name)));
            entry.changed.wait_for(&mut state, LISTEN);
        };
        drop(state);
        job.live.serves(None);
        job.live.waited(began.elapsed());
        found
    }

    /// Whether a service cannot be had in this build.
    pub fn has_failed(&self, service: usize) -> bool {
        matches!(self.entries[service].state.lock().stage, Stage::Failed(_))
    }

    /// The host a service runs on.
    pub fn node(&self, service: usize) -> Option<String> {
        self.entries[service].state.lock().node.clone()
    }

    /// Starts what is wanted, and ends what is not: `is_needed` tells whether a task that is left may need one.
    pub fn tend(&self, ctx: &Arc<BuildContext>, is_needed: impl Fn(usize) -> bool) {
        for (at, entry) in self.entries.iter().enumerate() {
            let state = entry.state.lock().clone();
            match state.stage {
                Stage::Wanted => self.start(ctx, at),
                Stage::Starting | Stage::Ready if entry.users.load(Ordering::SeqCst) == 0 => {
                    let idle = ctx.project.services[at].idle;
                    let is_idle =
                        idle.is_some_and(|idle| state.used.is_some_and(|used| used.elapsed() >= idle));
                    if is_idle || !is_needed(at) {
                        entry.end();
                    }
                }
                _ => {}
            }
        }
    }

    /// How a service stands, to those who share this machine with it.
    pub fn stands(&self, service: usize) -> ServiceIs {
        match self.entries[service].state.lock().stage {
            Stage::Off => ServiceIs::Gone,
            Stage::Wanted | Stage::Starting | Stage::Ready => ServiceIs::Up,
            Stage::Ending => ServiceIs::Ending,
            Stage::Failed(_) => ServiceIs::Lost,
        }
    }

    /// Ends a service that nobody uses, since others need what it takes of this machine. Whether it does.
    pub fn make_room(&self, service: usize) -> bool {
        let entry = &self.entries[service];
        if entry.users.load(Ordering::SeqCst) > 0 {
            return false;
        }
        entry.change(|state| state.makes_room = true);
        entry.end();
        true
    }

    fn start(&self, ctx: &Arc<BuildContext>, at: usize) {
        let entry = &self.entries[at];
        let mut keeper = entry.keeper.lock();
        // The one before came to its end.
        if let Some((thread, _)) = keeper.take() {
            let _ = thread.join();
        }
        // Not the build's: one that an executor keeps is left, or ended, once the build knows which tasks go on.
        let cancel = match ctx.project.services[at].executor {
            None => ctx.cancel.of_one(),
            Some(_) => Cancel::new(),
        };
        entry.change(|state| (state.stage, state.makes_room) = (Stage::Starting, false));
        let (own, told) = (ctx.clone(), cancel.clone());
        let thread = std::thread::Builder::new().name("service".into()).stack_size(512 * 1024);
        match thread.spawn(move || keeper::keep(&own, at, &told)) {
            Ok(thread) => *keeper = Some((thread, cancel)),
            Err(error) => {
                let failed = failure(FailureClass::Service, format!("no thread can be started: {error}"));
                entry.change(|state| state.stage = Stage::Failed(Box::new(failed)));
            }
        }
    }

    /// The build is over: ends all, but those of an executor that are left to tasks which go on without the build.
    /// `looks`: whether services that a killed build left are looked for.
    pub fn close(&self, ctx: &BuildContext, stopped: bool, looks: bool) {
        if self.entries.is_empty() {
            return;
        }
        let jobs = if looks { ctx.store.jobs() } else { Vec::new() };
        let is_left = |at: usize| {
            let goes_on = |files: &JobFiles| {
                let task = files.job.task.split('[').next().unwrap_or_default();
                let spec = ctx.project.specs.iter().find(|spec| spec.name == task);
                files.is_open() && spec.is_some_and(|spec| spec.service == Some(at))
            };
            stopped && ctx.project.services[at].executor.is_some() && jobs.iter().any(goes_on)
        };
        let left: Vec<bool> = (0..self.entries.len()).map(is_left).collect();
        for (entry, _) in self.entries.iter().zip(&left).filter(|(_, left)| !**left) {
            entry.end();
        }
        let mut ended = Vec::new();
        for (entry, _) in self.entries.iter().zip(&left).filter(|(_, left)| !**left) {
            ended.extend(entry.keeper.lock().take().map(|(thread, _)| thread));
        }
        for thread in ended {
            let _ = thread.join();
        }
        self.executors.leave();
        for (entry, _) in self.entries.iter().zip(&left).filter(|(_, left)| **left) {
            if let Some((thread, _)) = entry.keeper.lock().take() {
                let _ = thread.join();
            }
        }
        // Those of a build that was killed, which nothing needed since.
        let is_of_none = |files: &&JobFiles| {
            let of = (0..left.len()).find(|&at| files.job.task == job_name(&ctx.project.services[at]));
            files.job.task.starts_with(PREFIX) && !of.is_some_and(|at| left[at])
        };
        let orphans: Vec<JobFiles> =
            jobs.iter().filter(is_of_none).filter(|files| files.dir.is_dir()).cloned().collect();
        end(ctx, &orphans);
    }

    /// Whether there is one to be shown.
    pub fn is_any_up(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry.state.lock().stage, Stage::Off))
    }

    /// Those that are up, for people.
    pub fn shown(&self, project: &Project) -> Vec<Serving> {
        let shown = |(entry, spec): (&Entry, &ServiceSpec)| {
            let state = entry.state.lock().clone();
            if matches!(state.stage, Stage::Off) {
                return None;
            }
            Some(Serving {
                service: spec.name.clone(),
                state: state.stage.name().to_owned(),
                doing: state.at,
            })
        };
        self.entries.iter().zip(&project.services).filter_map(shown).collect()
    }
}

impl Entry {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Tells it to end.
    fn end(&self) {
        if let Some((_, cancel)) = &*self.keeper.lock() {
            self.change(|state| {
                if matches!(state.stage, Stage::Wanted | Stage::Starting | Stage::Ready) {
                    state.stage = Stage::Ending;
                }
            });
            cancel.raise(Level::Killing);
        }
    }
}

/// What the job of a service begins with where a task's name stands; no task's does.
const PREFIX: &str = "service ";

/// The name of a service as a job.
fn job_name(spec: &ServiceSpec) -> String {
    format!("{PREFIX}{}", spec.name)
}

/// The job of a service that an executor has, of this build or as an earlier one left it.
pub fn job_of(store: &Store, spec: &ServiceSpec) -> Option<JobFiles> {
    let jobs = store.jobs_of(&job_name(spec)).ok()?;
    jobs.into_iter().rfind(|files| files.is_open() && !files.is_revoked())
}

/// Ends jobs of services that are of no use.
fn end(ctx: &BuildContext, jobs: &[JobFiles]) {
    let told =
        |why: String| ctx.note(None, true, format!("a service of a former build may still run: {why}"));
    if let Err(error) = former_jobs::end(ctx, jobs, || true, told) {
        ctx.note(None, true, error.to_string());
    }
}

/// A failure of a service, with the last of what it said.
fn failed(spec: &ServiceSpec, why: String, tail: String) -> Failure {
    let last = tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    let said =
        if last.is_empty() { String::new() } else { format!(": {}", planexe_base::style::clean(last)) };
    let log = format!("what it said is in `.planexe/logs/{}`", keeper::log_name(spec));
    let message = Message::new(format!("service `{}` {why}{said}", spec.name)).hint(log);
    Failure {
        recoverable: true,
        raw_error: (!tail.is_empty()).then_some(tail),
        ..failure(FailureClass::Service, message)
    }
}
