//! A build: the engine's actions carried out, what happened told to the engine, until nothing is left.
//!
//! One thread, this one, owns the engine and all state. Workers get a [`Job`] and send back one
//! [`Outcome`]. What is stale is found here too, by batches, on rayon's global pool; calls and programs
//! run on a pool of their own, which never joins, so that a stolen call delays no hash.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::cancel::Level;
use crate::engine::{Action, End, Engine, Event as Input, Judged, Options, Settled, Work};
use crate::event::{Kind, Summary};
use crate::fs::{Durability, FsError};
use crate::graph::{Graph, Kind as NodeKind, TaskId};
use crate::inputs::Finder;
use crate::judge::{Judge, Judgement};
use crate::memo::{self, RestsOn};
use crate::progress::{Running, Sink, Snapshot};
use crate::project::{Project, Recipe};
use crate::record::{By, Failure, Marker, State};
use crate::runner::{self, Completed, Course, EndedAlone, Job, Live, OtherFields, Outcome, Tools};
use crate::staleness::{Decision, StaleReason};
use crate::store::control::{Control, Controls};
use crate::store::{Store, Why};
use crate::touch::{self, Adopting};

/// How often progress is shown: each time costs a look at every task.
const TICK: Duration = Duration::from_millis(100);
/// How often control files are looked for.
const CONTROL: Duration = Duration::from_millis(500);
/// Time without progress after which it is told of tasks that have no `stall_timeout`.
const STALLED: Duration = Duration::from_secs(600);
/// Stack of a worker: calls and templates need little.
const STACK: usize = 512 * 1024;

/// What is asked of a build.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The targets; keys limit a fan-out to some of its items.
    pub targets: Vec<(TaskId, Option<HashSet<String>>)>,
    /// `--keep-going`, `--fail-fast`, `--stop-all`, `--only`.
    pub options: Options,
    /// Tasks to be forced (`-B`): the targets and what they need.
    pub force: bool,
    /// Start nothing after so long.
    pub max_time: Option<Duration>,
    /// Start no call after so many tokens.
    pub max_tokens: Option<u64>,
    /// Start no call after so many USD.
    pub max_cost: Option<f64>,
    /// Tell why each task is stale.
    pub explain: bool,
}

/// How a build ended.
#[derive(Debug)]
pub struct Ended {
    /// In figures.
    pub summary: Summary,
    /// What stopped it short, if something did.
    pub stopped: Option<Stopped>,
    /// What broke it: records that could not be written.
    pub broken: Option<FsError>,
    /// Whether any task was started.
    pub started: bool,
    /// Failures in the order they happened: the task, why, and the tasks it blocks.
    pub failures: Vec<(String, Failure, Vec<String>)>,
    /// What the verdict rested on, if nothing was started.
    pub rests_on: Option<RestsOn>,
    /// Outputs edited by hand that were found valid and kept.
    pub edited: Vec<String>,
    /// Whether a failure counts: one that `min_success` absorbs does not.
    pub fails: bool,
    /// Tasks that wait for a person, and what they are asked.
    pub waiting: Vec<(String, String)>,
    /// The task last completed: step, name, checkpoint, decision.
    pub last_completed: Option<(u32, String, Option<String>, Option<String>)>,
}

/// What stops a build short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A signal: its number.
    Signal(i32),
    /// `planexe stop`, or the file.
    StopFile,
    /// `planexe abort`.
    Abort,
    /// A limit on time.
    MaxTime,
    /// A limit on tokens.
    MaxTokens,
    /// A limit on money.
    MaxCost,
}

impl Stopped {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Stopped::Signal(_) => "stopped by a signal",
            Stopped::StopFile => "stopped by `planexe stop`",
            Stopped::Abort => "aborted",
            Stopped::MaxTime => "the budget is used up: the time limit is reached",
            Stopped::MaxTokens => "the budget is used up: the token limit is reached",
            Stopped::MaxCost => "the budget is used up: the cost limit is reached",
        }
    }
}

/// Sends signals and other things from outside into a build.
pub type Signals = Receiver<i32>;

/// Carries a build out.
pub struct Build<'a> {
    project: &'a Project,
    store: &'a Store,
    finder: Finder<'a>,
    judge_rules: crate::staleness::Rules,
    no_reuse: bool,
    env: &'a (dyn Fn(&str) -> Option<String> + Sync),
    tools: Arc<Tools>,
    engine: Engine,
    wanted: Wanted,
    start: Instant,
    sink: &'a mut dyn Sink,
    events: Receiver<Kind>,
    outcomes: (Sender<Back>, Receiver<Back>),
    signals: &'a Signals,
    pool: Option<rayon::ThreadPool>,
    threads: usize,
    after_kill: bool,
    began_ns: i64,
    /// Stale tasks with what they were judged on, between judging and the end of their last attempt.
    pending: HashMap<TaskId, Pending>,
    running: HashMap<TaskId, Attempt>,
    controls: Controls,
    summary: Summary,
    failures: Vec<(String, Failure, Vec<String>)>,
    changed: Vec<TaskId>,
    edited: Vec<String>,
    waiting: Vec<(String, String)>,
    begun: bool,
    prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
    stopped: Option<Stopped>,
    broken: Option<FsError>,
    interrupts: u32,
    on_progress: HashMap<TaskId, String>,
    paused: bool,
    last_completed: Option<(u32, String, Option<String>, Option<String>)>,
}

/// A stale task, from its judgement to its end.
struct Pending {
    judgement: Judgement,
    course: Course,
    base_attempt: u32,
    passed: Option<String>,
    other: OtherFields,
    /// Attempts that were none: the endpoint was not ready.
    waits: u32,
    first: bool,
}

/// An attempt at work.
struct Attempt {
    live: Arc<Live>,
    /// What it last showed, and when that changed.
    mark: ((u64, u64, u64, u64, u64), Instant),
    /// After so long without progress it is told, and ended if the task says so.
    limit: Duration,
    ends: bool,
    stalled: bool,
}

/// What a worker sends back.
struct Back {
    task: TaskId,
    job: Box<Job>,
    outcome: Outcome,
}

/// What a build is made of.
pub struct Parts<'a> {
    /// The pipeline and its run.
    pub project: &'a Project,
    /// The run's records.
    pub store: &'a Store,
    /// What runners work with.
    pub tools: Arc<Tools>,
    /// Events of runners.
    pub events: Receiver<Kind>,
    /// How to judge.
    pub rules: crate::staleness::Rules,
    /// `--no-reuse`.
    pub no_reuse: bool,
    /// The environment.
    pub env: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The graph with expected durations and slots.
    pub engine: Engine,
    /// What is asked.
    pub wanted: Wanted,
    /// Who shows progress.
    pub sink: &'a mut dyn Sink,
    /// Signals by number.
    pub signals: &'a Signals,
    /// Most tasks at work at once.
    pub threads: usize,
    /// The last build was killed: what it left is tidied up even if nothing is to be done.
    pub after_kill: bool,
    /// The moment (nanoseconds since 1970) before the first file was read that a verdict rests on.
    pub began_ns: i64,
    /// Called once, before the first task starts: what a build that does nothing must not do.
    pub prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
}

impl<'a> Build<'a> {
    /// A build, not begun.
    pub fn new(parts: Parts<'a>) -> Build<'a> {
        let Parts {
            project,
            store,
            tools,
            events,
            rules,
            no_reuse,
            env,
            engine,
            wanted,
            sink,
            signals,
            threads,
            after_kill,
            began_ns,
            prepare,
        } = parts;
        Build {
            project,
            store,
            finder: Finder::new(store),
            judge_rules: rules,
            no_reuse,
            env,
            tools,
            engine,
            wanted,
            start: Instant::now(),
            sink,
            events,
            outcomes: channel(),
            signals,
            pool: None,
            threads,
            after_kill,
            began_ns,
            pending: HashMap::new(),
            running: HashMap::new(),
            controls: Controls::new(store),
            summary: Summary::default(),
            failures: Vec::new(),
            changed: Vec::new(),
            edited: Vec::new(),
            waiting: Vec::new(),
            begun: false,
            prepare,
            stopped: None,
            broken: None,
            interrupts: 0,
            on_progress: HashMap::new(),
            paused: false,
            last_completed: None,
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Ended {
        self.engine.want(&self.wanted.targets.clone());
        if self.after_kill
            && let Err(error) = self.begin()
        {
            self.break_off(error);
        }
        let (mut looked, mut ticked) = (self.now(), Duration::ZERO);
        loop {
            self.act();
            if self.engine.is_finished() {
                break;
            }
            self.wait();
            let now = self.now();
            if now.saturating_sub(looked) >= CONTROL {
                looked = now;
                self.look_outside();
            }
            if now.saturating_sub(ticked) >= TICK {
                ticked = now;
                self.look_for_stalls();
                self.tick();
            }
        }
        self.tick();
        self.finish()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Carries out what the engine wants done, until it wants nothing more for now.
    fn act(&mut self) {
        loop {
            let actions = self.engine.poll(self.now());
            if actions.is_empty() {
                return;
            }
            let mut judge = Vec::new();
            for action in actions {
                match action {
                    Action::Judge { task, shallow } => judge.push((task, shallow)),
                    Action::Expand(family) => self.expand(family),
                    Action::Start { task, attempt, endpoint } => self.start(task, attempt, endpoint),
                    Action::Settled(task) => self.settled(task),
                    Action::CancelAll => {
                        self.tools.cancel.raise(Level::Killing);
                    }
                }
            }
            self.judge(judge);
            self.drain_events();
        }
    }

    fn judge_with(&self) -> Judge<'_> {
        Judge {
            project: self.project,
            store: self.store,
            index: &self.tools.index,
            finder: &self.finder,
            rules: self.judge_rules,
            no_reuse: self.no_reuse,
            env: self.env,
        }
    }

    /// Judges a batch of tasks, in parallel where it pays.
    fn judge(&mut self, batch: Vec<(TaskId, bool)>) {
        if batch.is_empty() {
            return;
        }
        let judge = self.judge_with();
        let graph = self.engine.graph();
        let one = |&(task, shallow): &(TaskId, bool)| (task, judge_one(&judge, graph, task, shallow));
        let judged: Vec<(TaskId, Option<Judgement>)> = if batch.len() > 8 {
            batch.par_iter().map(one).collect()
        } else {
            batch.iter().map(one).collect()
        };
        for (task, judgement) in judged {
            let verdict = self.take_in(task, judgement);
            self.engine.on(Input::Judged(task, verdict), self.now());
        }
    }

    /// What a judgement means for the engine; a stale task's judgement is kept for its attempts.
    fn take_in(&mut self, id: TaskId, judgement: Option<Judgement>) -> Judged {
        let Some(judgement) = judgement else {
            return Judged::Fresh;
        };
        let name = self.engine.graph()[id].name.clone();
        if let Some(state) = &judgement.unknown_state
            && !matches!(judgement.marker, Marker::Valid(_))
        {
            let failure = runner::failure(
                "state",
                format!("its .status has the state `{state}`, which this version of planexe does not know"),
            );
            return self.refuse(id, failure);
        }
        if let Some(failure) = judgement.failure.clone() {
            return self.refuse(id, failure);
        }
        if judgement.skipped {
            return Judged::Skipped;
        }
        match &judgement.decision {
            Decision::Fresh { edited, .. } => {
                if self.tools.frozen
                    && let Marker::Valid(done) = &judgement.marker
                    && done.sample
                {
                    let message =
                        "it is done with an answer recorded for another prompt, and --frozen refuses those";
                    return self.refuse(id, runner::failure("sample", message));
                }
                for path in edited {
                    self.edited.push(path.clone());
                }
                if let Marker::Valid(done) = &judgement.marker
                    && done.sample
                {
                    self.summary.sample.push(name);
                }
                Judged::Fresh
            }
            Decision::Adopt => match self.adopt(id, &judgement) {
                Ok(()) => Judged::Fresh,
                Err(error) => {
                    self.break_off(error);
                    Judged::Failed
                }
            },
            Decision::KeptFailed => {
                let failure = judgement
                    .status
                    .as_ref()
                    .and_then(|status| status.failure.clone())
                    .unwrap_or_else(|| runner::failure("failed", "failed before"));
                self.refuse(id, failure)
            }
            Decision::DependsOn => Judged::DependsOn,
            Decision::Stale { reasons, .. } => {
                if self.wanted.explain {
                    let reasons = reasons.iter().map(StaleReason::text).collect();
                    self.tell(Kind::TaskStale { task: name.clone(), reasons });
                }
                let work = self.work_of(id, &judgement);
                let status = judgement.status.as_deref();
                let (course, base_attempt) = match status {
                    Some(status) if status.state != State::Done => {
                        let budgets = status
                            .budgets
                            .clone()
                            .and_then(|budgets| serde_json::from_value(budgets).ok())
                            .map(|mut budgets: crate::llm::retry::Budgets| {
                                budgets.resumed();
                                budgets
                            })
                            .unwrap_or_default();
                        (Course { budgets, ..Course::default() }, status.attempt)
                    }
                    _ => (Course::default(), 0),
                };
                let passed = self.controls.passed(&name);
                let of_done = match &judgement.marker {
                    Marker::Valid(done) => done.other.clone(),
                    _ => serde_json::Map::new(),
                };
                let of_status = judgement.status.as_ref().map(|s| s.other.clone()).unwrap_or_default();
                let other = OtherFields { done: of_done, status: of_status };
                let pending =
                    Pending { judgement, course, base_attempt, passed, other, waits: 0, first: true };
                self.pending.insert(id, pending);
                Judged::Stale(work)
            }
        }
    }

    /// A task that cannot even be judged.
    fn refuse(&mut self, id: TaskId, failure: Failure) -> Judged {
        let name = self.engine.graph()[id].name.clone();
        self.failed(&name, id, 0, None, failure);
        Judged::Failed
    }

    /// Slots a stale task takes. An answer that is there already takes none of a model's.
    fn work_of(&self, id: TaskId, judgement: &Judgement) -> Work {
        let graph = self.engine.graph();
        let spec = self.project.spec(&graph[id]);
        let mut work = Work { pool: spec.pool, ..Work::default() };
        match &spec.recipe {
            Recipe::Command(_) => work.cpu = true,
            Recipe::Prompt(prompt) => {
                let paid =
                    judgement.prepared.as_ref().is_some_and(|p| p.kept.is_some() || p.existing.is_some());
                if !paid {
                    work.endpoints = prompt.models.clone();
                    let chars = judgement.prepared.as_ref().map_or(0, |p| p.prompt.len() + p.system.len());
                    work.tokens = chars as u64 / 3;
                }
            }
            _ => {}
        }
        work
    }

    /// Fills an empty marker in: the outputs hold, and someone says the task is done.
    fn adopt(&mut self, id: TaskId, judgement: &Judgement) -> Result<(), FsError> {
        self.begin()?;
        let task = self.engine.graph()[id].clone();
        let how = Adopting { by: By::Touch, user: None };
        touch::adopt(self.project, self.store, &self.tools.index, &task, judgement, &how)?;
        self.tools.note(
            Some(&task.name),
            false,
            "marked as done by hand: its outputs hold, and are taken as they are",
        );
        Ok(())
    }

    /// Once, before the first thing is written.
    fn begin(&mut self) -> Result<(), FsError> {
        if !self.begun {
            self.begun = true;
            (self.prepare)()?;
            self.tick();
            self.tell(Kind::PipelineStarted {
                pipeline: self.project.name.clone(),
                run_id_dir: self.project.run.display().to_string(),
                steps_total: self.wanted_steps(),
            });
        }
        Ok(())
    }

    /// Declared tasks in this build.
    fn wanted_steps(&self) -> u32 {
        let graph = self.engine.graph();
        graph.order().iter().filter(|&&id| self.engine.is_wanted(id)).count() as u32
    }

    /// Finds out the items of a fan-out, and moves what belongs to former ones to history.
    fn expand(&mut self, family: TaskId) {
        let items = self.judge_with().items(self.engine.graph(), family);
        let items = match items {
            Ok(items) => Some(items),
            Err(failure) => {
                let name = self.engine.graph()[family].name.clone();
                self.failed(&name, family, 0, None, failure);
                None
            }
        };
        let complete = items.is_some();
        let now = self.now();
        self.engine.on(Input::Expanded(family, items), now);
        if complete && let Err(error) = self.retire_former_items(family) {
            self.break_off(error);
        }
    }

    fn retire_former_items(&mut self, family: TaskId) -> Result<(), FsError> {
        if self.wanted.targets.iter().any(|(id, keys)| *id == family && keys.is_some()) {
            return Ok(());
        }
        let task = self.engine.graph()[family].clone();
        let former = self.finder.former_items(self.engine.graph(), &task)?;
        for first in former {
            self.begin()?;
            let outputs = self.finder.recorded_outputs(&first);
            let name = self.store.recorded_task(&first).unwrap_or_else(|| task.name.clone());
            self.store.clean(&name, Why::Orphaned, &outputs, Durability::Synced)?;
            self.tools.note(
                Some(&name),
                false,
                format!("its item is gone; `{}` went to history", outputs.join("`, `")),
            );
            self.finder.forget();
        }
        Ok(())
    }

    /// Hands an attempt to a worker.
    fn start(&mut self, id: TaskId, attempt: u32, endpoint: Option<usize>) {
        if let Err(error) = self.begin() {
            self.break_off(error);
            self.engine.on(Input::Ended(id, End::Stopped), self.now());
            return;
        }
        let task = self.engine.graph()[id].clone();
        let Some(pending) = self.pending.get_mut(&id) else {
            self.engine.on(Input::Ended(id, End::Failed), self.now());
            return;
        };
        let Some(prepared) = pending.judgement.prepared.clone() else {
            self.engine.on(Input::Ended(id, End::Failed), self.now());
            return;
        };
        let (redraw, edited, damaged) = match &pending.judgement.decision {
            Decision::Stale { reasons, redraw, edited, .. } => {
                let damaged = reasons.iter().any(|r| matches!(r, StaleReason::OutputInvalid { .. }));
                (*redraw, edited.clone(), damaged)
            }
            _ => (false, Vec::new(), false),
        };
        let first = std::mem::replace(&mut pending.first, false);
        let former = match &pending.judgement.marker {
            Marker::Valid(done) => Some(done.clone()),
            _ => None,
        };
        let live = Arc::new(Live::under(&self.tools.cancel));
        let mut job = Box::new(Job {
            attempt: pending.base_attempt + attempt - pending.waits,
            endpoint: endpoint.unwrap_or(0),
            prepared,
            former,
            redraw: redraw && first,
            edited: if first { edited } else { Vec::new() },
            damaged: damaged && first,
            other: pending.other.clone(),
            passed: pending.passed.clone(),
            course: std::mem::take(&mut pending.course),
            live: live.clone(),
            task,
        });
        let spec = self.project.spec(&job.task);
        let model = spec.recipe.prompt().filter(|_| endpoint.is_some()).and_then(|prompt| {
            let endpoint = &self.project.endpoints[*prompt.models.get(job.endpoint)?];
            Some(endpoint.model_name().to_owned())
        });
        self.tell(Kind::TaskStarted {
            task: job.task.name.clone(),
            attempt: job.attempt,
            model,
            recipe: spec.recipe.name().to_owned(),
        });
        let stall = match spec.recipe {
            Recipe::Prompt(_) | Recipe::Command(_) => spec.stall,
            _ => None,
        };
        let attempt = Attempt {
            mark: (live.mark(), Instant::now()),
            limit: stall.unwrap_or(STALLED),
            // The watchdog ends programs itself.
            ends: stall.is_some() && spec.recipe.prompt().is_some(),
            stalled: false,
            live,
        };
        self.running.insert(id, attempt);
        let (tools, back) = (self.tools.clone(), self.outcomes.0.clone());
        let work = move || {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner::run(&tools, &mut job)));
            let outcome = outcome.unwrap_or_else(|_| {
                Outcome::Failed(runner::failure(
                    "internal",
                    "BUG: the task's worker panicked; please report it",
                ))
            });
            // The build ends only after every worker has answered, so somebody listens.
            let _ = back.send(Back { task: id, job, outcome });
        };
        match self.pool() {
            Some(pool) => pool.spawn(work),
            None => work(),
        }
    }

    /// The workers, made with the first attempt.
    fn pool(&mut self) -> Option<&rayon::ThreadPool> {
        if self.pool.is_none() {
            self.pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.threads.max(1))
                .stack_size(STACK)
                .thread_name(|n| format!("worker {n}"))
                .build()
                .ok();
        }
        self.pool.as_ref()
    }

    /// Waits until something happens, or it is time to look again.
    fn wait(&mut self) {
        let wakeup = self.engine.wakeup(self.now()).map(|at| at.saturating_sub(self.now()));
        let pause = wakeup.unwrap_or(TICK).min(TICK);
        match self.outcomes.1.recv_timeout(pause) {
            Ok(back) => {
                self.ended(back);
                while let Ok(back) = self.outcomes.1.try_recv() {
                    self.ended(back);
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Ok(signal) = self.signals.try_recv() {
            self.signalled(signal);
        }
        self.check_limits();
        self.drain_events();
    }

    /// Takes in the end of an attempt.
    fn ended(&mut self, back: Back) {
        let Back { task: id, mut job, outcome } = back;
        if let Some(attempt) = self.running.remove(&id)
            && let Outcome::Failed(failure) = &outcome
            && failure.class == "stall"
            && !attempt.stalled
        {
            // The watchdog was faster than the look from here.
            let idle_s = self.project.spec(&job.task).stall.unwrap_or(attempt.limit).as_secs_f64();
            self.tell(Kind::TaskStalled { task: job.task.name.clone(), idle_s });
        }
        self.finder.forget();
        let now = self.now();
        if let Some((result, retry_after)) = job.course.call.take() {
            self.engine.call_ended(id, result, retry_after);
        }
        if let Some(prompt) = self.project.spec(&job.task).recipe.prompt() {
            for &endpoint in prompt.models.iter().filter(|&&at| self.tools.providers.is_closed(at)) {
                self.engine.on(Input::EndpointClosed(endpoint), now);
            }
        }
        let name = job.task.name.clone();
        let end = match outcome {
            Outcome::Done(completed) => {
                self.completed(id, &job, *completed);
                End::Done
            }
            Outcome::Failed(failure) => {
                self.add_usage(&job);
                let model = self.model_of(&job);
                self.failed(&name, id, job.attempt, model, failure);
                End::Failed
            }
            Outcome::Waiting(message) => {
                self.summary.waiting.push(name.clone());
                self.waiting.push((name.clone(), message.clone()));
                self.tell(Kind::TaskWaiting { task: name, message });
                End::Waiting
            }
            Outcome::Again { failure, next, after, endpoint, waited } => {
                if let Some(pending) = self.pending.get_mut(&id) {
                    pending.course = std::mem::take(&mut job.course);
                    pending.waits += u32::from(waited);
                }
                self.tell(Kind::TaskRetrying { task: name, attempt: job.attempt, failure, next });
                End::Again { after, endpoint }
            }
            Outcome::Stopped => {
                self.summary.stopped.push(name.clone());
                self.tell(Kind::TaskStopped { task: name });
                End::Stopped
            }
            Outcome::Broken(error) => {
                self.add_usage(&job);
                let failure = runner::failure("io", error.to_string());
                self.failed(&name, id, job.attempt, None, failure);
                self.break_off(error);
                End::Failed
            }
        };
        if !matches!(end, End::Again { .. }) {
            self.pending.remove(&id);
            self.on_progress.remove(&id);
        }
        self.engine.on(Input::Ended(id, end), now);
    }

    fn model_of(&self, job: &Job) -> Option<String> {
        let prompt = self.project.spec(&job.task).recipe.prompt()?;
        Some(self.project.endpoints[*prompt.models.get(job.endpoint)?].model_name().to_owned())
    }

    fn add_usage(&mut self, job: &Job) {
        let used = runner::usage_of(&job.course.usage);
        let total = &mut self.summary.usage;
        total.input_tokens += used.input_tokens;
        total.output_tokens += used.output_tokens;
        total.cost_usd += used.cost_usd;
        total.calls += used.calls;
    }

    fn completed(&mut self, id: TaskId, job: &Job, completed: Completed) {
        self.add_usage(job);
        self.summary.ran += 1;
        self.summary.reused += u32::from(completed.reused);
        let name = job.task.name.clone();
        if completed.sample {
            self.summary.sample.push(name.clone());
        }
        if job.passed.is_some() {
            self.controls.clear_passed(&name);
        }
        if !completed.reused {
            self.tools.index.add_duration(&name, completed.duration_s);
            if let NodeKind::Instance { family } = job.task.kind {
                let family = self.engine.graph()[family].name.clone();
                self.tools.index.add_duration(&family, completed.duration_s);
            }
        }
        let step = self.project.spec(&job.task).step;
        self.last_completed = Some((
            step,
            name.clone(),
            completed.checkpoint_id.clone(),
            Some(job.prepared.decision_id.clone()),
        ));
        if completed.changed {
            self.changed.push(id);
        }
        self.tell(Kind::TaskCompleted {
            task: name,
            attempt: job.attempt,
            model: completed.model,
            duration_s: completed.duration_s,
            usage: runner::usage_of(&job.course.usage),
            step,
            reused: completed.reused,
            unchanged: !completed.changed,
            sample: completed.sample,
            partial: false,
            output: job.task.outputs.first().cloned(),
        });
    }

    fn failed(&mut self, name: &str, id: TaskId, attempt: u32, model: Option<String>, failure: Failure) {
        let blocks = self.blocked_by(id);
        let blocked = blocks.len() as u32;
        self.summary.failed.push(name.to_owned());
        self.failures.push((name.to_owned(), failure.clone(), blocks));
        self.tell(Kind::TaskFailed { task: name.to_owned(), attempt, model, failure, blocked });
    }

    /// Tasks of this build that need a task.
    fn blocked_by(&self, id: TaskId) -> Vec<String> {
        let graph = self.engine.graph();
        if let NodeKind::Instance { family } = graph[id].kind
            && self.project.specs[graph[family].decl].min_success < 1.0
        {
            return Vec::new();
        }
        let mask = graph.downstream(&[id]);
        let own = match graph[id].kind {
            NodeKind::Instance { family } => family,
            _ => id,
        };
        let counts = |other: &TaskId| {
            *other != id
                && *other != own
                && mask[other.index()]
                && self.engine.is_wanted(*other)
                && !matches!(graph[*other].kind, NodeKind::Instance { family } if family == own)
        };
        graph.ids().filter(counts).map(|id| graph[id].name.clone()).collect()
    }

    /// A task was settled without an attempt of its own, or a fan-out by its instances.
    fn settled(&mut self, id: TaskId) {
        let (name, kind) = {
            let task = &self.engine.graph()[id];
            (task.name.clone(), task.kind)
        };
        match (self.engine.settled(id), kind) {
            (Some(Settled::Fresh), NodeKind::Single | NodeKind::Instance { .. }) => self.summary.fresh += 1,
            (Some(Settled::Skipped), _) => {
                self.summary.skipped += 1;
                self.tell(Kind::TaskSkipped { task: name });
            }
            (Some(Settled::Blocked), NodeKind::Single | NodeKind::Family | NodeKind::Group) => {
                self.summary.blocked += 1
            }
            (Some(Settled::Partial), NodeKind::Family) => self.summary.partial.push(name),
            _ => {}
        }
    }

    /// Records cannot be written: nothing more is paid for.
    fn break_off(&mut self, error: FsError) {
        self.broken.get_or_insert(error);
        self.tools.cancel.break_off();
        self.engine.on(Input::Cancel(Level::Draining), self.now());
    }

    fn signalled(&mut self, signal: i32) {
        self.interrupts += 1;
        let first_interrupt = signal == signal_hook::consts::SIGINT && self.interrupts == 1;
        self.stopped.get_or_insert(Stopped::Signal(signal));
        let level = if first_interrupt { Level::Draining } else { Level::Killing };
        if first_interrupt && !self.running.is_empty() {
            let count = self.running.len();
            let tasks = if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") };
            self.tools.note(
                None,
                true,
                format!("stopping: {tasks} will finish first; press Ctrl-C again to stop at once"),
            );
        }
        self.tools.cancel.raise(level);
        self.engine.on(Input::Cancel(level), self.now());
    }

    fn stop(&mut self, why: Stopped, level: Level) {
        let given_up = why == Stopped::Abort && self.stopped == Some(Stopped::StopFile);
        if self.stopped.is_none() || given_up {
            self.stopped = Some(why);
            self.tools.note(None, true, format!("{}: nothing more is started", why.text()));
        }
        self.tools.cancel.raise(level);
        self.engine.on(Input::Cancel(level), self.now());
    }

    /// `--max-time`, `--max-tokens`, `--max-cost`.
    fn check_limits(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        let usage = &self.summary.usage;
        let tokens = usage.input_tokens + usage.output_tokens;
        let over = if self.wanted.max_time.is_some_and(|limit| self.now() >= limit) {
            Stopped::MaxTime
        } else if self.wanted.max_tokens.is_some_and(|limit| tokens >= limit) && self.summary.ran > 0 {
            Stopped::MaxTokens
        } else if self.wanted.max_cost.is_some_and(|limit| usage.cost_usd >= limit) && self.summary.ran > 0 {
            Stopped::MaxCost
        } else {
            return;
        };
        self.stop(over, Level::Draining);
    }

    /// Looks for what was asked by file: stop, pause, abort, `done`.
    fn look_outside(&mut self) {
        for control in self.controls.look() {
            match control {
                Control::Stop => self.stop(Stopped::StopFile, Level::Draining),
                Control::Abort { hard } => {
                    self.stop(Stopped::Abort, if hard { Level::Killing } else { Level::Draining });
                }
                Control::Pause(paused) if paused != self.paused => {
                    self.paused = paused;
                    self.engine.on(Input::Pause(paused), self.now());
                    if paused {
                        self.tell(Kind::PipelinePaused {
                            message:
                                "nothing starts until `planexe resume`, or the file .planexe/pause is gone"
                                    .into(),
                        });
                    } else {
                        self.tools.note(None, false, "going on");
                    }
                }
                Control::Pause(_) => {}
                Control::Passed(name) => {
                    if let Some(id) = self.engine.graph().find(&name) {
                        self.summary.waiting.retain(|waiting| *waiting != name);
                        self.waiting.retain(|(waiting, _)| *waiting != name);
                        self.engine.on(Input::Passed(id), self.now());
                    }
                }
            }
        }
    }

    /// Events of runners, in the order they happened.
    fn drain_events(&mut self) {
        while let Ok(kind) = self.events.try_recv() {
            self.tell(kind);
        }
    }

    /// Tells of attempts that get nowhere, and ends those whose task says so.
    fn look_for_stalls(&mut self) {
        let now = Instant::now();
        let mut stalled = Vec::new();
        for (&id, attempt) in &mut self.running {
            let mark = attempt.live.mark();
            if mark != attempt.mark.0 {
                attempt.mark = (mark, now);
            }
            let idle = now - attempt.mark.1;
            if !attempt.stalled && idle >= attempt.limit {
                attempt.stalled = true;
                if attempt.ends {
                    attempt.live.end(EndedAlone::Stalled(attempt.limit));
                }
                stalled.push((id, idle));
            }
        }
        for (id, idle) in stalled {
            let task = self.engine.graph()[id].name.clone();
            self.tell(Kind::TaskStalled { task, idle_s: idle.as_secs_f64() });
        }
    }

    /// Tells an event to the log and to whoever watches.
    fn tell(&mut self, kind: Kind) {
        let event = runner::stamp(kind);
        self.sink.done(self.summary.ran + self.summary.fresh + self.summary.skipped);
        if self.begun && !matches!(event.kind, Kind::TaskProgress { .. }) {
            if let Some(error) = self.tools.logs.event(&event) {
                let message = format!("events cannot be logged, the build goes on: {error}");
                self.sink.event(&runner::stamp(Kind::Note { task: None, message, warning: true }));
            }
        }
        self.sink.event(&event);
    }

    /// Shows progress.
    fn tick(&mut self) {
        let mut running: Vec<Running> = Vec::with_capacity(self.running.len());
        for (&id, Attempt { live, .. }) in &self.running {
            let task = &self.engine.graph()[id];
            running.push(Running {
                task: task.name.clone(),
                model: None,
                attempt: 0,
                doing: doing(live),
                elapsed_s: live.started.elapsed().as_secs_f64(),
            });
        }
        running.sort_by(|a, b| b.elapsed_s.total_cmp(&a.elapsed_s));
        let graph = self.engine.graph();
        let mut snapshot = Snapshot { elapsed_s: self.now().as_secs_f64(), running, ..Snapshot::default() };
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            if matches!(graph[id].kind, NodeKind::Group) || !graph.instances(id).is_empty() {
                continue;
            }
            snapshot.total += 1;
            match self.engine.settled(id) {
                Some(Settled::Fresh | Settled::Done | Settled::Skipped | Settled::Partial) => {
                    snapshot.done += 1
                }
                Some(Settled::Failed) => snapshot.failed += 1,
                Some(Settled::Blocked) => snapshot.blocked += 1,
                Some(Settled::Waiting) => snapshot.waiting += 1,
                _ => {}
            }
        }
        snapshot.eta_s = self.eta();
        snapshot.usage = self.summary.usage;
        snapshot.hold = if self.paused {
            Some("paused".into())
        } else if self.tools.cancel.level() > Level::Running {
            Some("stopping".into())
        } else {
            None
        };
        self.sink.tick(&snapshot);
    }

    /// Seconds to go: the longest remaining path, or the work left over the slots, whichever is longer.
    fn eta(&self) -> Option<f64> {
        if !self.begun {
            return None;
        }
        let graph = self.engine.graph();
        let open = graph.ids().filter(|&id| {
            self.engine.is_wanted(id)
                && self.engine.settled(id).is_none()
                && graph[id].kind != NodeKind::Group
        });
        let longest = open.map(|id| self.engine.remaining_s(id)).fold(0.0, f64::max);
        (longest > 0.0).then_some(longest)
    }

    /// The end: what was not reached, the closing records.
    fn finish(mut self) -> Ended {
        self.drain_events();
        if self.wanted.options.only {
            self.tell_readers();
        }
        let graph = self.engine.graph();
        let pending = graph.ids().filter(|&id| {
            self.engine.is_wanted(id)
                && self.engine.settled(id).is_none()
                && !matches!(graph[id].kind, NodeKind::Group)
        });
        self.summary.pending = pending.count() as u32;
        self.summary.duration_s = self.now().as_secs_f64();
        self.summary.sample.sort();
        self.summary.sample.dedup();
        let ended = Ended {
            summary: self.summary.clone(),
            stopped: self.stopped,
            broken: None,
            started: self.begun,
            failures: std::mem::take(&mut self.failures),
            rests_on: if self.begun { None } else { self.rests_on() },
            edited: self.edited.clone(),
            fails: self.fails(),
            waiting: std::mem::take(&mut self.waiting),
            last_completed: self.last_completed.take(),
        };
        if self.begun {
            let kind = if let Some(stopped) = self.stopped {
                Kind::PipelineStopped { summary: ended.summary.clone(), message: stopped.text().into() }
            } else if ended.fails || self.broken.is_some() {
                Kind::PipelineFailed { summary: ended.summary.clone() }
            } else if !ended.summary.waiting.is_empty() {
                Kind::PipelineStopped {
                    summary: ended.summary.clone(),
                    message: "a person is waited for".into(),
                }
            } else {
                Kind::PipelineCompleted { summary: ended.summary.clone() }
            };
            self.tell(kind);
        }
        self.note_fresh();
        Ended { broken: self.broken, ..ended }
    }

    /// After `--only`: readers of what changed are stale now.
    fn tell_readers(&mut self) {
        let graph = self.engine.graph();
        let mut readers: Vec<String> = Vec::new();
        for &id in &self.changed {
            let family = match graph[id].kind {
                NodeKind::Instance { family } => Some(family),
                _ => None,
            };
            for reader in graph[id].readers.iter().chain(family.iter().flat_map(|f| &graph[*f].readers)) {
                let name = &graph[*reader].name;
                if !self.engine.is_wanted(*reader) && !readers.contains(name) {
                    readers.push(name.clone());
                }
            }
        }
        if !readers.is_empty() {
            let message = format!("made alone; what reads it is stale now: `{}`", readers.join("`, `"));
            self.tell(Kind::Note { task: None, message, warning: true });
        }
    }

    /// Whether a failure counts: one that `min_success` absorbs does not.
    fn fails(&self) -> bool {
        let graph = self.engine.graph();
        graph.ids().any(|id| {
            let absorbed = matches!(graph[id].kind, NodeKind::Instance { family }
                if self.engine.settled(family) == Some(Settled::Partial));
            self.engine.settled(id) == Some(Settled::Failed) && !absorbed
        })
    }

    /// Everything the verdict of a build that had nothing to do rested on.
    fn rests_on(&self) -> Option<RestsOn> {
        let graph = self.engine.graph();
        let mut rests = RestsOn { files: self.project.sources.clone(), ..RestsOn::default() };
        for name in ["run.toml", "pipeline.toml"] {
            let list = if self.store.path(name).is_file() { &mut rests.files } else { &mut rests.absent };
            list.push(name.into());
        }
        let mut add = |path: &str, optional: bool| {
            let absent = optional && !self.store.path(path).exists();
            if absent { rests.absent.push(path.into()) } else { rests.files.push(path.into()) }
        };
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            let task = &graph[id];
            let spec = self.project.spec(task);
            if let Some(file) = spec.foreach.as_ref().and_then(|foreach| foreach.file.as_ref()) {
                add(file, false);
            }
            if !crate::inputs::has_outputs(task) || self.engine.settled(id) != Some(Settled::Fresh) {
                // A task that is skipped has inputs that say so; it may have no outputs.
                if self.engine.settled(id) != Some(Settled::Skipped) || spec.foreach.is_some() {
                    continue;
                }
            } else {
                let first = task.outputs.first()?;
                let marker = self.store.sidecar_path(first, crate::store::Sidecar::Done);
                add(marker.strip_prefix(self.store.run_dir()).ok()?.to_str()?, false);
                for output in &task.outputs {
                    add(output, false);
                }
            }
            for files in self.finder.resolve(graph, task).ok()? {
                for path in &files.paths {
                    add(path, files.optional);
                }
            }
        }
        for spec in &self.project.specs {
            if let Recipe::Command(command) = &spec.recipe {
                for name in &command.env_names {
                    let value = (self.env)(name);
                    rests.env.push((name.clone(), memo::digest_of_variable(value.as_deref())));
                }
            }
        }
        rests.dirs = self.finder.listed().into_iter().map(Into::into).collect();
        if !self.project.tables.pipeline.include.is_empty() {
            let folders = self.project.sources.iter().filter_map(|file| file.parent());
            rests.dirs.extend(folders.map(std::path::Path::to_path_buf));
        }
        Some(rests)
    }

    /// Remembers what fresh verdicts rested on, so that the next build need not read.
    fn note_fresh(&mut self) {
        let judge = self.judge_with();
        let graph = self.engine.graph();
        let fresh: Vec<TaskId> = graph
            .ids()
            .filter(|&id| {
                matches!(self.engine.settled(id), Some(Settled::Fresh))
                    && crate::inputs::has_outputs(&graph[id])
            })
            .collect();
        for id in fresh {
            let name = &graph[id].name;
            let edited = self.edited.iter().any(|path| graph[id].outputs.contains(path));
            if self.tools.index.stamp(name).is_none() && !edited && !self.summary.sample.contains(name) {
                self.tools.index.set_stamp(name, judge.stamp(graph, id, self.began_ns));
            }
        }
    }
}

/// Judges one task; none if the memo of its last fresh verdict still stands.
fn judge_one(judge: &Judge<'_>, graph: &Graph, task: TaskId, shallow: bool) -> Option<Judgement> {
    let name = &graph[task].name;
    if !shallow
        && !judge.rules.force
        && let Some(stamp) = judge.index.stamp(name)
    {
        if judge.stamp(graph, task, crate::fs::now_ns()) == Some(stamp) {
            return None;
        }
        judge.index.set_stamp(name, None);
    }
    Some(judge.judge(graph, task, shallow))
}

/// What a running task is doing, in a few words.
fn doing(live: &Live) -> String {
    let (phase, pieces, _) = live.call.snapshot();
    match phase {
        2 => format!("writing, {pieces} tokens"),
        1 => match live.call.prefill() {
            (read, of) if of > 0 => format!("reading the prompt, {} of {of} tokens", read.min(of)),
            _ => "waiting for the first token".to_owned(),
        },
        _ => live.doing(),
    }
}
