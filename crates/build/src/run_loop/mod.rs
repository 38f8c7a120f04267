//! A build: the engine's actions carried out, what happened told to the engine, until nothing is left.
//!
//! One thread, this one, owns the engine and all state. What is stale is found here too, by batches, on rayon's pool;
//! calls and programs run on threads of their own (`workers`), so that no hash waits for a call. Workers get a
//! [`Job`](crate::runner::Job) and send back one [`Outcome`](crate::runner::Outcome).
//!
//! The path of a task: the engine wants it judged (`judging`), and a stale one started (`start`); a worker runs it
//! ([`crate::runner`]); its end comes back as a message (`inbox`), is told to people and records (`finished`), and then to
//! the engine, which settles what waited for it. [`Build::run`] and `Build::act` are that loop.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::runner::BuildContext;
use jobserver::Client;
use planexe_base::cancel::Level;
use planexe_base::clock;
use planexe_base::event::Kind;
use planexe_base::fs::FsError;
use planexe_base::signals::Signals;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::{Action, Engine, Event as Input, Resolution};
use planexe_engine::staleness::Rules;
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_store::control::Controls;
use planexe_store::null_build::UpToDate;
use planexe_store::parked::ParkedModel;
use planexe_ui::progress::Sink;

use attempts::{Attempt, Attempts};
use caches::Caches;
use callers::Callers;
use inbox::{Inbox, WorkerMessage};
use judging::Judging;
use pace::Pace;
use parked::Parked;
use records::Records;
use reporting::Reporting;
pub use request::{Completion, Edits, Ended, Failed, Stopped, Wanted};
use servers::Servers;
use slots::Slots;
pub use slots::{share_of, take_place};
use steering::Steering;
use tally::Tally;

mod attempts;
mod batched;
mod caches;
mod callers;
mod ending;
mod fan_outs;
mod finished;
mod git_commits;
mod inbox;
mod judging;
mod lanes;
mod pace;
mod parked;
mod records;
mod reporting;
mod request;
mod servers;
mod services;
mod sharing;
mod slots;
mod start;
mod steering;
mod tally;
mod workers;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// How often first tokens are looked for while calls wait for one.
const FIRST_TOKEN: Duration = Duration::from_millis(10);
/// How often control files and tasks that get nowhere are looked for.
const LOOK: Duration = Duration::from_millis(300);

/// Carries a build out. Each part is in the file of its name, and no other file sees its fields.
pub struct Build<'a> {
    project: &'a Project,
    ctx: Arc<BuildContext>,
    engine: Engine,
    wanted: Wanted,
    judging: Judging<'a>,
    attempts: Attempts,
    servers: Servers,
    parked: Parked,
    /// Models that others were told are parked.
    others_parked: Vec<ParkedModel>,
    /// Since when there is nothing to do but wait for batches.
    batched: Option<Instant>,
    callers: Callers,
    inbox: Inbox<'a>,
    steering: Steering,
    tally: Tally,
    pace: Pace,
    reporting: Reporting<'a>,
    records: Records<'a>,
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
    pub make: Option<Client>,
    /// Calls take turns as well.
    pub calls_take_turns: bool,
    /// What is known to be up to date without looking.
    pub known: Option<&'a UpToDate>,
    /// Called once, before the first task starts: what a build that does nothing must not do.
    pub prepare: &'a mut dyn FnMut() -> Result<(), FsError>,
}

impl<'a> Build<'a> {
    /// A build, not begun.
    pub fn new(parts: Parts<'a>) -> Build<'a> {
        let inbox = Inbox::new(parts.events, parts.signals, parts.edits);
        let slots = Slots::new(parts.threads, parts.make, parts.calls_take_turns, &inbox);
        let caches = Caches::new(parts.known, parts.began_ns);
        Build {
            project: parts.project,
            ctx: parts.ctx,
            engine: parts.engine,
            wanted: parts.wanted,
            judging: Judging::new(parts.store, parts.rules, parts.no_reuse, parts.env, caches),
            attempts: Attempts::new(slots),
            servers: Servers::default(),
            parked: Parked::default(),
            others_parked: Vec::new(),
            batched: None,
            callers: Callers::default(),
            inbox,
            steering: Steering::new(parts.controls),
            tally: Tally::default(),
            pace: Pace::new(),
            reporting: Reporting::new(parts.sink),
            records: Records::new(parts.store, parts.after_kill, parts.prepare),
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Ended {
        self.engine.want(&self.wanted.targets.clone());
        self.take_up_parked();
        self.give_turns();
        if self.records.is_after_kill()
            && let Err(error) = self.begin()
        {
            self.break_off(error);
        }
        // What was asked of a build that was killed is asked of this one: later, a task might be paid for twice.
        for name in self.ctx.store.asked_retries() {
            self.retry(&name);
        }
        // By the clock, not by the turn: with many short tasks there are thousands of turns a second.
        let (mut shown, mut looked) = (self.pace.began(), self.pace.began());
        let mut pause = TICK;
        loop {
            self.look_for_first_tokens();
            self.act();
            self.look_for_patience();
            self.look_at_batches();
            self.let_callers_begin();
            self.look_at_services();
            if self.is_finished() {
                break;
            }
            self.wait();
            if looked.elapsed() >= LOOK {
                let missed = clock::stood_still(looked.elapsed(), LOOK);
                looked = Instant::now();
                self.look_outside();
                self.look_for_resets();
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
        self.close_services();
        self.stop_sharing();
        self.finish()
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

    /// What goes to a server's cache is there once its answer begins.
    fn look_for_first_tokens(&mut self) {
        let now = self.now();
        let begun = |id: &&TaskId| self.attempts.at_work(**id).is_some_and(Attempt::has_first_token);
        let begun: Vec<TaskId> = self.engine.leading().0.iter().filter(begun).copied().collect();
        for id in begun {
            self.engine.first_token(id, now);
        }
    }

    /// Waits until something happens, or it is time to look again.
    fn wait(&mut self) {
        let wakeups = [self.engine.wakeup(self.now()), self.callers.wakeup()];
        let wakeup = wakeups.into_iter().flatten().min().map(|at| at.saturating_sub(self.now()));
        // Who waits for the first token of another is not kept waiting.
        let most = if self.engine.leading().1 { FIRST_TOKEN } else { TICK };
        let mut message = self.inbox.wait(wakeup.unwrap_or(most).min(most));
        while let Some(one) = message {
            self.take_in_message(one);
            message = self.inbox.next();
        }
        while let Some(signal) = self.inbox.signal() {
            self.signalled(signal);
        }
        while let Some(edits) = self.inbox.edit() {
            self.edited(edits);
        }
        self.check_limits();
        self.drain_events();
    }

    fn take_in_message(&mut self, message: WorkerMessage) {
        let now = self.now();
        match message {
            WorkerMessage::Finished(finished) => self.finished(*finished),
            WorkerMessage::Answered(id, usage) => {
                self.engine.answered(id, usage, now);
                self.look_at_parked(None);
            }
            WorkerMessage::ServerUp(endpoint) => self.server_up(endpoint),
            WorkerMessage::ServerIdle(endpoint) => self.engine.on(Input::ServerIdle(endpoint), now),
            WorkerMessage::WantsCall(wanted) => self.callers.wait(wanted),
            WorkerMessage::CallOver(endpoint, end, why) => self.call_over(endpoint, end, why),
            WorkerMessage::Token(answer) => {
                if let Some(error) = self.attempts.slots_mut().take_token(answer) {
                    let message =
                        format!("make's jobserver cannot be read, no more is taken from it: {error}");
                    self.ctx.note(None, true, message);
                }
            }
        }
    }

    /// Whether nothing is left to do.
    fn is_finished(&mut self) -> bool {
        if self.engine.is_finished() && self.tally.is_waiting() {
            // What a person let pass since the last look is not left to the next build.
            self.look_outside();
            self.act();
        }
        self.engine.is_finished()
    }

    fn now(&self) -> Duration {
        self.pace.now()
    }

    /// A task was settled without an attempt of its own, or a fan-out by its instances.
    fn settled(&mut self, id: TaskId) {
        let Some(settled) = self.engine.settled(id) else { return };
        let task = &self.engine.graph()[id];
        self.tally.settled(&task.name, settled, task.kind);
        if settled == Resolution::Skipped {
            let task = task.name.clone();
            self.tell_after_begin(Kind::TaskSkipped { task });
        }
    }
}
