//! What reaches a running build from outside: signals, limits, control files, edits, attempts that get nowhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::attempts::Attempt;
use super::{Build, Edits, Stopped};
use crate::runner::EndedAlone;
use planexe_base::cancel::Level;
use planexe_base::event::Kind;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::{Event as Input, Resolution};
use planexe_llm::ceiling::Reached;
use planexe_store::control::{Control, Controls, Passed};

/// What others ask of a build, and what it was told so far.
pub(super) struct Steering {
    controls: Controls,
    paused: bool,
    /// What stops the build short.
    stopped: Option<Stopped>,
    /// Signals so far: the first Ctrl-C lets what runs finish, the second does not.
    interrupts: u32,
    /// Inputs that were edited since the build began, and when.
    edited_at: HashMap<String, Instant>,
}

impl Steering {
    pub(super) fn new(controls: Controls) -> Steering {
        Steering { controls, paused: false, stopped: None, interrupts: 0, edited_at: HashMap::new() }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// What stopped the build turned out to leave nothing undone.
    pub(super) fn forget_stop(&mut self) {
        self.stopped = None;
    }

    /// Forgets what was asked of builds before this one.
    pub(super) fn clear_older(&self) {
        self.controls.clear_older();
    }

    /// Who let a task pass, and on what.
    pub(super) fn passed(&self, task: &str) -> Option<Passed> {
        self.controls.passed(task)
    }

    pub(super) fn clear_passed(&mut self, task: &str) {
        self.controls.clear_passed(task);
    }

    /// Whether one of some inputs was edited after a moment.
    fn is_edited_since(&self, inputs: &[String], moment: Instant) -> bool {
        inputs.iter().filter_map(|path| self.edited_at.get(path)).any(|at| *at > moment)
    }
}

impl Build<'_> {
    /// The first Ctrl-C lets what runs finish; another signal ends it.
    pub(super) fn signalled(&mut self, signal: i32) {
        let steering = &mut self.steering;
        steering.interrupts += 1;
        let lets_finish = signal == signal_hook::consts::SIGINT && steering.interrupts == 1;
        steering.stopped.get_or_insert(Stopped::Signal(signal));
        let left = self.ctx.executors.leave();
        if left > 0 && steering.interrupts == 1 {
            let tasks = if left == 1 { "1 task goes".to_owned() } else { format!("{left} tasks go") };
            let message = format!(
                "{tasks} on without this build: `planexe build` takes up what is there, `planexe stop` ends it"
            );
            self.ctx.note(None, true, message);
        }
        let count = self.attempts.count().saturating_sub(left);
        if lets_finish && count > 0 {
            let tasks = if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") };
            let message = format!("stopping: {tasks} will finish first; press Ctrl-C again to stop at once");
            self.ctx.note(None, true, message);
        }
        self.cancel(if lets_finish { Level::Draining } else { Level::Killing });
    }

    fn cancel(&mut self, level: Level) {
        self.ctx.cancel.raise(level);
        self.ctx.pooled.wake();
        self.engine.on(Input::Cancel(level), self.now());
    }

    /// Ends exactly the attempts whose inputs or texts were edited.
    pub(super) fn edited(&mut self, edits: Edits) {
        let now = Instant::now();
        for (id, attempt) in self.attempts.running() {
            let inputs = self.attempts.pending(id).map(|pending| pending.inputs().0).unwrap_or_default();
            let reads = inputs.iter().any(|path| edits.inputs.contains(path));
            if reads || edits.decls.contains(&self.engine.graph()[id].decl) {
                attempt.cancel(EndedAlone::Edited);
            }
        }
        self.steering.edited_at.extend(edits.inputs.into_iter().map(|path| (path, now)));
        if edits.reload && self.steering.stopped.is_none() {
            self.steering.stopped = Some(Stopped::Edited);
            self.cancel(Level::Draining);
        }
    }

    /// Whether an input was edited since a task was judged: what it would be made from is no more.
    pub(super) fn is_edited_since_judged(&self, id: TaskId) -> bool {
        self.attempts.pending(id).is_some_and(|pending| {
            let (inputs, judged) = pending.inputs();
            self.steering.is_edited_since(&inputs, judged)
        })
    }

    /// Stops the build short: the first reason counts, but for an abort after `planexe stop`.
    pub(super) fn stop(&mut self, why: Stopped, level: Level) {
        let given_up = why == Stopped::Abort && self.steering.stopped == Some(Stopped::StopFile);
        if self.steering.stopped.is_none() || given_up {
            self.steering.stopped = Some(why);
            self.ctx.note(None, true, format!("{}: nothing more is started", why.text()));
        } else {
            // Who waits for a batch after a limit was reached does so no longer.
            self.ctx.pooled.leave();
        }
        self.cancel(level);
    }

    /// `--max-time`, `--max-tokens`, `--max-cost`, `--max-calls`.
    pub(super) fn check_limits(&mut self) {
        if self.steering.stopped.is_some() {
            return;
        }
        // Calls of tasks that are not done yet count as well: a task that fails again and again costs too.
        let ceiling = &self.ctx.providers.ceiling;
        let refused = ceiling.refused();
        let over = match refused.or_else(|| ceiling.used_up()) {
            _ if self.wanted.max_time.is_some_and(|limit| self.now() >= limit) => Stopped::MaxTime,
            Some(Reached::Tokens) => Stopped::MaxTokens,
            Some(Reached::Cost) => Stopped::MaxCost,
            Some(Reached::Calls) => Stopped::MaxCalls,
            None => return,
        };
        // A limit reached with the last task stops nothing short, unless it wanted a call more.
        if refused.is_some() || self.engine.has_unstarted() {
            self.stop(over, Level::Draining);
        }
    }

    /// Looks for what was asked by file: stop, pause, abort, `done`.
    pub(super) fn look_outside(&mut self) {
        if let Err(error) = self.ctx.logs.catch_up() {
            self.break_off(error);
        }
        self.look_at_run_dir();
        for control in self.steering.controls.look() {
            match control {
                Control::Stop => self.stop(Stopped::StopFile, Level::Draining),
                Control::Abort { hard } => {
                    self.stop(Stopped::Abort, if hard { Level::Killing } else { Level::Draining });
                }
                Control::Pause(paused) if paused != self.steering.paused => self.pause(paused),
                Control::Pause(_) => {}
                Control::Retry(name) => self.retry(&name),
                Control::Passed(name) => self.passed_by_person(&name),
            }
        }
    }

    fn pause(&mut self, paused: bool) {
        self.steering.paused = paused;
        self.engine.on(Input::Pause(paused), self.now());
        if paused {
            let message = "nothing starts until `planexe resume`, or the file .planexe/pause is gone";
            self.tell(Kind::PipelinePaused { message: message.into() });
        } else {
            self.ctx.note(None, false, "going on");
        }
    }

    fn passed_by_person(&mut self, name: &str) {
        let id = self.engine.graph().find(name);
        match id.filter(|id| self.engine.settled(*id) == Some(Resolution::Waiting)) {
            Some(id) => {
                self.tally.waits_no_more(name);
                self.engine.on(Input::Passed(id), self.now());
            }
            // Its `.status` says so before the build knows; or it comes to it later.
            None => self.steering.controls.put_off(name),
        }
    }

    /// Somebody wants a task made anew, with fresh answers.
    pub(super) fn retry(&mut self, name: &str) {
        let id = self.engine.graph().find(name);
        let first = id.and_then(|id| self.engine.graph()[id].outputs.first().cloned());
        let at_work = id.and_then(|id| self.attempts.at_work(id));
        if let Some(attempt) = at_work.filter(|_| self.ctx.cancel.level() == Level::Running) {
            // Taken up when the attempt has ended.
            attempt.cancel(EndedAlone::Retried);
            return;
        }
        let (Some(id), Some(first), None) = (id, first, at_work) else {
            if at_work.is_none() {
                self.ctx.note(None, true, format!("`{name}` is no task that can be retried"));
                let _ = self.ctx.store.clear_retry(name);
            }
            return;
        };
        let Some(reopened) = self.engine.reopen(id) else {
            // Who asked looks whether it is taken up, and is told that it is not.
            if let Err(error) = self.ctx.store.leave_retry(name) {
                return self.break_off(error);
            }
            return self.ctx.note(Some(name), true, "retried by the next build: this one is past it");
        };
        if !self.begin_anew(name, &first) {
            return;
        }
        for (task, settled) in &reopened.settled {
            self.take_back_end(*task, *settled);
        }
        for task in reopened.running {
            if let Some(attempt) = self.attempts.at_work(task) {
                attempt.cancel(EndedAlone::Edited);
            }
        }
        self.ctx.note(Some(name), false, "retried, as asked by `planexe retry`");
    }

    /// What is kept of a task is set aside. The request goes once that is done: killed between, it is done again.
    pub(super) fn begin_anew(&mut self, name: &str, first: &str) -> bool {
        let begun = self.begin().and_then(|()| self.ctx.store.begin_anew(name, first));
        if let Err(error) = begun.and_then(|()| self.ctx.store.clear_retry(name)) {
            self.break_off(error);
            return false;
        }
        self.judging.forget_files();
        self.ctx.index.set_stamp(name, None);
        self.judging.caches_mut().forget_known();
        true
    }

    /// A task that had come to its end is open again.
    pub(super) fn take_back_end(&mut self, id: TaskId, settled: Resolution) {
        let task = &self.engine.graph()[id];
        self.tally.take_back(&task.name, settled, task.kind);
    }

    /// Tells of attempts that get nowhere, and ends those whose task says so. `missed`: time since the last look in which
    /// nobody listened to them.
    pub(super) fn look_for_stalls(&mut self, missed: Duration) {
        let now = Instant::now();
        let look = |(id, attempt): (TaskId, &mut Attempt)| Some((id, attempt.look(now, missed)?));
        let stalled: Vec<(TaskId, Duration)> = self.attempts.running_mut().filter_map(look).collect();
        for (id, idle) in stalled {
            let task = self.engine.graph()[id].name.clone();
            self.tell(Kind::TaskStalled { task, idle_s: idle.as_secs_f64() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_counts_only_after_the_task_was_judged() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = planexe_store::Store::open(folder.path());
        let mut steering = Steering::new(Controls::new(&store));
        let judged = Instant::now();
        let inputs = ["a.txt".to_owned(), "b.txt".to_owned()];
        steering.edited_at.insert("b.txt".to_owned(), judged);
        assert!(!steering.is_edited_since(&inputs, judged));
        steering.edited_at.insert("b.txt".to_owned(), judged + Duration::from_secs(1));
        assert!(steering.is_edited_since(&inputs, judged));
        assert!(!steering.is_edited_since(&inputs[..1], judged));
    }
}
