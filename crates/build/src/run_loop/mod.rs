//! A build: the engine's actions carried out, what happened told to the engine, until nothing is left.
//!
//! One thread, this one, owns the engine and all state. Workers get a [`Job`] and send back one
//! [`Outcome`]. What is stale is found here too, by batches, on rayon's pool; calls and programs run on
//! threads of their own (`workers`), so that no hash waits for a call.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use crate::check_staleness::Judgement;
use crate::jobserver::{self as make, Tokens};
use crate::runner::{AttemptHistory, BuildContext, Job, Live, Mark, OtherFields, Outcome};
use planexe_base::cancel::Level;
use planexe_base::clock;
use planexe_base::event::{Kind, Summary};
use planexe_base::fs::{FsError, OpenDir};
use planexe_base::record::{Failure, SCHEMA};
use planexe_base::signals::Signals;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::{Action, Engine, Event as Input, Options, Settled, Target};
use planexe_engine::staleness::Rules;
use planexe_llm::Usage;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::project::Project;
use planexe_store::control::Controls;
use planexe_store::memo::{Contents, Known, RestsOn};
use planexe_store::{Anew, Asked, Store};
use planexe_ui::progress::Sink;

use workers::Workers;

mod attempts;
mod ending;
mod git_commits;
mod judging;
mod outside;
mod pace;
mod servers;
mod sharing;
mod telling;
mod workers;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// How often control files and tasks that get nowhere are looked for.
const LOOK: Duration = Duration::from_millis(300);
/// Time without progress after which it is told of tasks that have no `stall_timeout`.
const STALLED: Duration = Duration::from_secs(600);

/// What is asked of a build.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The targets; keys limit a fan-out to some of its items.
    pub targets: Vec<Target>,
    /// `--keep-going`, `--fail-fast`, `--stop-all`, `--only`.
    pub options: Options,
    /// Tasks to be forced (`-B`): the targets and what they need.
    pub force: bool,
    /// Start nothing after so long.
    pub max_time: Option<Duration>,
    /// Start no call after so many USD.
    pub max_cost: Option<f64>,
    /// Tell why each task is stale.
    pub explain: bool,
    /// Leave a task that failed as it is while nothing it is made from changed.
    pub keep_same_failed: bool,
    /// Failures that were told already: the same ones are not told again.
    pub known_failures: Vec<(String, Failure)>,
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
    /// Failures in the order they happened.
    pub failures: Vec<Failed>,
    /// What the verdict rested on that everything is up to date now.
    pub rests_on: Option<RestsOn>,
    /// What tasks that ran were given and left, if everything is up to date now.
    pub contents: Option<Contents>,
    /// The memo there is speaks of tasks that are skipped now, or does not of such as were.
    pub memo_is_outdated: bool,
    /// Outputs edited by hand that were found valid and kept.
    pub edited: Vec<String>,
    /// Whether a failure counts: one that `min_success` absorbs does not.
    pub fails: bool,
    /// Tasks that wait for a person, and what they are asked.
    pub waiting: Vec<(String, String)>,
    /// The task last completed.
    pub last_completed: Option<Completion>,
}

/// A task that failed.
#[derive(Debug)]
pub struct Failed {
    /// `task` or `task[key]`.
    pub task: String,
    /// Why.
    pub failure: Failure,
    /// The tasks that cannot be made without it.
    pub blocks: Vec<String>,
}

/// A task that was completed.
#[derive(Debug)]
pub struct Completion {
    /// Its topological position.
    pub step: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// Names the completion.
    pub checkpoint_id: Option<String>,
    /// What it was decided on.
    pub decision_id: String,
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
    /// A limit on calls.
    MaxCalls,
    /// The pipeline or one of its texts was edited: `watch` reads it anew.
    Edited,
}

/// What was edited while a build runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Inputs, relative to the run directory.
    pub inputs: Vec<String>,
    /// Declarations of tasks whose prompts, templates, schemas or checks changed.
    pub decls: Vec<usize>,
    /// The pipeline must be read anew: nothing more starts from what was read.
    pub reload: bool,
}

impl Stopped {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Stopped::Signal(signal_hook::consts::SIGINT) => "stopped by Ctrl-C",
            Stopped::Signal(signal_hook::consts::SIGTERM) => "stopped by SIGTERM",
            Stopped::Signal(signal_hook::consts::SIGHUP) => "stopped by SIGHUP",
            Stopped::Signal(_) => "stopped by a signal",
            Stopped::StopFile => "stopped by `planexe stop`",
            Stopped::Abort => "aborted",
            Stopped::MaxTime => "the budget is used up: the time limit is reached",
            Stopped::MaxTokens => "the budget is used up: the token limit is reached",
            Stopped::Edited => "stopped to read the edited pipeline anew",
            Stopped::MaxCalls => "the budget is used up: the limit of calls is reached",
            Stopped::MaxCost => "the budget is used up: the cost limit is reached",
        }
    }
}

/// Carries a build out.
pub struct Build<'a> {
    project: &'a Project,
    store: &'a Store,
    finder: Finder<'a>,
    judge_rules: Rules,
    /// What former builds were told to make anew, and did not come to.
    anew: Arc<Anew>,
    no_reuse: bool,
    env: &'a (dyn Fn(&str) -> Option<String> + Sync),
    ctx: Arc<BuildContext>,
    engine: Engine,
    wanted: Wanted,
    start: Instant,
    sink: &'a mut dyn Sink,
    events: Receiver<Kind>,
    outcomes: (Sender<WorkerMessage>, Receiver<WorkerMessage>),
    signals: &'a Signals,
    edits: Option<&'a Receiver<Edits>>,
    /// Inputs that were edited since the build began, and when.
    edited_at: HashMap<String, Instant>,
    workers: Workers,
    after_kill: bool,
    began_ns: i64,
    tokens: Option<Tokens>,
    calls_take_turns: bool,
    /// Stale tasks with what they were judged on, between judging and the end of their last attempt.
    pending: HashMap<TaskId, Pending>,
    running: HashMap<TaskId, Attempt>,
    controls: Controls,
    summary: Summary,
    failures: Vec<Failed>,
    changed: Vec<TaskId>,
    edited: Vec<String>,
    waiting: Vec<(String, String)>,
    begun: bool,
    prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
    stopped: Option<Stopped>,
    broken: Option<FsError>,
    interrupts: u32,
    /// What follows the attempts of tasks that wait for their next one, in words.
    retrying: HashMap<TaskId, String>,
    sharing: sharing::Sharing,
    /// git as the record.
    recording: git_commits::Recording,
    pace: pace::Pace,
    paused: bool,
    /// Servers that are away, by endpoint.
    awaited: HashMap<usize, servers::Awaited>,
    /// Endpoints whose cost nobody knows, once that was said.
    uncounted: HashSet<usize>,
    /// The run directory as it was found: no other that is put in its place is built.
    run_dir: Option<OpenDir>,
    /// Held while the build lives: who looks at servers for it ends with it.
    alive: Arc<()>,
    last_completed: Option<Completion>,
    known: Option<&'a Known>,
    /// What tasks that ran were given and left.
    contents: Contents,
}

/// A stale task, from its judgement to its end.
struct Pending {
    judgement: Judgement,
    history: AttemptHistory,
    base_attempt: u32,
    passed: Option<String>,
    other: OtherFields,
    /// Attempts that were none: the endpoint was not ready.
    waits: u32,
    first: bool,
    judged: Instant,
}

/// An attempt at work.
struct Attempt {
    live: Arc<Live>,
    /// The number of the attempt, over all builds since the task was last done.
    number: u32,
    /// The model it asks, if any.
    model: Option<String>,
    /// How far it was when it was last looked at.
    mark: Mark,
    /// When it last got on, by both clocks.
    got_on: Instant,
    got_on_at: SystemTime,
    /// After so long without progress it is told, and ended if the task says so.
    limit: Duration,
    ends: bool,
    stalled: bool,
    /// Text that is not yet shown: it may be the beginning of a key.
    held: String,
    /// Some of its text was shown to other processes.
    followed: bool,
}

/// What other threads send to that of the build.
enum WorkerMessage {
    /// An attempt ended.
    Finished(Box<Finished>),
    /// An attempt's answer is on disk, or its program ended well.
    Answered(TaskId, Usage),
    /// A token of make's jobserver, or why there is none.
    Token(make::Answer),
    /// The server of an endpoint, which was away, is up.
    ServerUp(usize),
    /// The server of an endpoint, which ran out of time, is idle.
    ServerIdle(usize),
}

/// What a worker sends back.
struct Finished {
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
    pub ctx: Arc<BuildContext>,
    /// Events of runners.
    pub events: Receiver<Kind>,
    /// How to judge.
    pub rules: Rules,
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
    /// Signals to this process.
    pub signals: &'a Signals,
    /// Edits meanwhile, where somebody looks for them.
    pub edits: Option<&'a Receiver<Edits>>,
    /// What other shells ask of it.
    pub controls: Controls,
    /// Most tasks at work at once.
    pub threads: usize,
    /// The last build was killed: what it left is tidied up even if nothing is to be done.
    pub after_kill: bool,
    /// The moment, in nanoseconds since 1970, before the first file was read that a verdict rests on.
    pub began_ns: i64,
    /// make's jobserver, of which commands take their turns.
    pub make: Option<jobserver::Client>,
    /// Calls take turns as well.
    pub calls_take_turns: bool,
    /// What is known to be up to date without looking.
    pub known: Option<&'a Known>,
    /// Called once, before the first task starts: what a build that does nothing must not do.
    pub prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
}

impl<'a> Build<'a> {
    /// A build, not begun.
    pub fn new(parts: Parts<'a>) -> Build<'a> {
        let Parts {
            project,
            store,
            ctx,
            events,
            rules,
            no_reuse,
            env,
            engine,
            wanted,
            sink,
            signals,
            edits,
            controls,
            threads,
            after_kill,
            began_ns,
            make,
            calls_take_turns,
            known,
            prepare,
        } = parts;
        let outcomes = channel();
        let tokens = make.map(|client| {
            let back: Sender<WorkerMessage> = outcomes.0.clone();
            // Nobody listens once the build is over; the token goes back then.
            Tokens::new(client, move |answer| drop(back.send(WorkerMessage::Token(answer))))
        });
        Build {
            project,
            store,
            finder: Finder::new(store),
            judge_rules: rules,
            anew: Arc::new(store.read_anew()),
            no_reuse,
            env,
            ctx,
            engine,
            wanted,
            start: Instant::now(),
            sink,
            events,
            outcomes,
            signals,
            edits,
            edited_at: HashMap::new(),
            workers: Workers::new(threads),
            after_kill,
            began_ns,
            tokens,
            calls_take_turns,
            pending: HashMap::new(),
            running: HashMap::new(),
            controls,
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
            retrying: HashMap::new(),
            sharing: sharing::Sharing::new(),
            recording: git_commits::Recording::default(),
            pace: pace::Pace::default(),
            paused: false,
            awaited: HashMap::new(),
            uncounted: HashSet::new(),
            run_dir: OpenDir::open(store.run_dir()).ok(),
            alive: Arc::default(),
            last_completed: None,
            known,
            contents: Contents::default(),
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Ended {
        self.engine.want(&self.wanted.targets.clone());
        self.give_turns();
        if self.after_kill
            && let Err(error) = self.begin()
        {
            self.break_off(error);
        }
        // By the clock, not by the turn: with many short tasks there are thousands of turns a second.
        let (mut shown, mut looked) = (self.start, self.start);
        let mut pause = TICK;
        loop {
            self.act();
            if self.engine.is_finished() {
                // What a person let pass since the last look is not left to the next build.
                if !self.waiting.is_empty() {
                    self.look_outside();
                    self.act();
                }
                if self.engine.is_finished() {
                    break;
                }
            }
            self.wait();
            if looked.elapsed() >= LOOK {
                let missed = clock::stood_still(looked.elapsed(), LOOK);
                looked = Instant::now();
                self.look_outside();
                self.look_for_stalls(missed);
            }
            if shown.elapsed() >= pause {
                let began = Instant::now();
                self.tick();
                self.share();
                // Of very many tasks it is shown less often: at most a twentieth of the time.
                shown = Instant::now();
                pause = TICK.max(20 * (shown - began));
            }
        }
        self.tick();
        self.stop_sharing();
        self.finish()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Carries out what the engine wants done, until it wants nothing more for now.
    fn act(&mut self) {
        loop {
            self.take_turns();
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
                    Action::Mixed { made, failed } => self.mixed(&made, &failed),
                    Action::CancelAll => {
                        self.ctx.cancel.raise(Level::Killing);
                    }
                }
            }
            self.judge(judge);
            self.drain_events();
        }
    }

    /// Once, before the first thing is written.
    fn begin(&mut self) -> Result<(), FsError> {
        if !self.begun {
            self.begun = true;
            self.controls.clear_older();
            (self.prepare)()?;
            self.note_wishes()?;
            self.begin_recording();
            self.tick();
            self.tell(Kind::PipelineStarted {
                schema: SCHEMA,
                pipeline: self.project.name.clone(),
                run_id_dir: self.project.run.display().to_string(),
                steps_total: self.wanted_steps(),
            });
        }
        Ok(())
    }

    /// Notes which tasks were asked for whatever the files say, until they are made: a build that ends before they had
    /// their turn leaves them to the next one.
    fn note_wishes(&mut self) -> Result<(), FsError> {
        let asked = match self.judge_rules {
            Rules { force: true, .. } => Asked::Always,
            Rules { model_asked: true, .. } => Asked::Model,
            _ => return Ok(()),
        };
        let graph = self.engine.graph();
        let mut firsts: Vec<String> = Vec::new();
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            let task = &graph[id];
            match task.kind {
                NodeKind::Group => {}
                NodeKind::Single | NodeKind::Instance { .. } => firsts.extend(task.outputs.first().cloned()),
                // Its items may change yet: those that it has are meant.
                NodeKind::Family => {
                    let keys = self.wanted.targets.iter().find(|(target, _)| *target == id);
                    let keys = keys.and_then(|(_, keys)| keys.as_ref());
                    let name = |key: &String| format!("{}[{key}]", task.name);
                    let named: Option<HashSet<String>> = keys.map(|keys| keys.iter().map(name).collect());
                    for first in self.finder.former_items(graph, task)? {
                        let meant = named.as_ref().is_none_or(|named| {
                            self.store.recorded_task(&first).is_some_and(|name| named.contains(&name))
                        });
                        if meant {
                            firsts.push(first);
                        }
                    }
                }
            }
        }
        self.store.ask_anew(firsts.iter().map(String::as_str), asked)?;
        // It says that all is up to date.
        let run = &self.project.run;
        planexe_base::fs::remove(&planexe_store::memo::path(run)).map(drop).map_err(|error| error.within(run))
    }

    /// Declared tasks in this build.
    fn wanted_steps(&self) -> u32 {
        let graph = self.engine.graph();
        graph.order().iter().filter(|&&id| self.engine.is_wanted(id)).count() as u32
    }

    fn take_back(&mut self, back: WorkerMessage) {
        match back {
            WorkerMessage::Finished(ran) => self.ended(*ran),
            WorkerMessage::Answered(id, usage) => self.engine.answered(id, usage, self.now()),
            WorkerMessage::ServerUp(endpoint) => self.server_up(endpoint),
            WorkerMessage::ServerIdle(endpoint) => {
                let now = self.now();
                self.engine.on(Input::ServerIdle(endpoint), now);
            }
            WorkerMessage::Token(answer) => {
                let error = self.tokens.as_mut().and_then(|tokens| tokens.answered(answer));
                if let Some(error) = error {
                    let message =
                        format!("make's jobserver cannot be read, no more is taken from it: {error}");
                    self.ctx.note(None, true, message);
                }
            }
        }
    }

    /// Under make: as many commands may run as there are turns for.
    fn take_turns(&mut self) {
        if let Some(tokens) = &mut self.tokens {
            let (running, waiting) = self.engine.cores();
            let may_run = tokens.balance(running as usize, waiting as usize);
            self.engine.set_cores(u32::try_from(may_run).unwrap_or(u32::MAX));
        }
    }

    /// Waits until something happens, or it is time to look again.
    fn wait(&mut self) {
        let wakeup = self.engine.wakeup(self.now()).map(|at| at.saturating_sub(self.now()));
        let pause = wakeup.unwrap_or(TICK).min(TICK);
        match self.outcomes.1.recv_timeout(pause) {
            Ok(back) => {
                self.take_back(back);
                while let Ok(back) = self.outcomes.1.try_recv() {
                    self.take_back(back);
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Some(signal) = self.signals.pending() {
            self.signalled(signal);
        }
        while let Some(edits) = self.edits.and_then(|edits| edits.try_recv().ok()) {
            self.edited(edits);
        }
        self.check_limits();
        self.drain_events();
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
            (Some(Settled::Partial), NodeKind::Family) => self.summary.partial.push(name),
            _ => {}
        }
    }

    /// Records cannot be written: nothing more is paid for.
    fn break_off(&mut self, error: FsError) {
        self.broken.get_or_insert(error);
        self.ctx.cancel.break_off();
        self.engine.on(Input::Cancel(Level::Draining), self.now());
    }
}
