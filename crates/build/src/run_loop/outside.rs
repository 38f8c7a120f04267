//! What reaches a running build from outside: signals, limits, control files, calls that get nowhere.

use super::{Build, Edits, Stopped};
use crate::runner::EndedAlone;
use planexe_base::cancel::Level;
use planexe_base::event::Kind;
use planexe_base::fs::FsError;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::{Event as Input, Settled};
use planexe_llm::ceiling::Reached;
use planexe_store::control::Control;
use std::time::{Duration, Instant, SystemTime};

impl Build<'_> {
    pub(super) fn signalled(&mut self, signal: i32) {
        self.interrupts += 1;
        let first_interrupt = signal == signal_hook::consts::SIGINT && self.interrupts == 1;
        self.stopped.get_or_insert(Stopped::Signal(signal));
        let level = if first_interrupt { Level::Draining } else { Level::Killing };
        if first_interrupt && !self.running.is_empty() {
            let count = self.running.len();
            let tasks = if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") };
            self.ctx.note(
                None,
                true,
                format!("stopping: {tasks} will finish first; press Ctrl-C again to stop at once"),
            );
        }
        self.ctx.cancel.raise(level);
        self.engine.on(Input::Cancel(level), self.now());
    }

    /// Ends exactly the attempts whose inputs or texts were edited.
    pub(super) fn edited(&mut self, edits: Edits) {
        let now = Instant::now();
        for (id, attempt) in &self.running {
            let prepared = self.pending.get(id).and_then(|pending| pending.judgement.prepared.as_ref());
            let reads = prepared.is_some_and(|prepared| {
                prepared.records().iter().any(|record| edits.inputs.contains(&record.path))
            });
            if reads || edits.decls.contains(&self.engine.graph()[*id].decl) {
                attempt.live.end(EndedAlone::Edited);
            }
        }
        self.edited_at.extend(edits.inputs.into_iter().map(|path| (path, now)));
        if edits.reload && self.stopped.is_none() {
            self.stopped = Some(Stopped::Edited);
            self.ctx.cancel.raise(Level::Draining);
            self.engine.on(Input::Cancel(Level::Draining), self.now());
        }
    }

    pub(super) fn stop(&mut self, why: Stopped, level: Level) {
        let given_up = why == Stopped::Abort && self.stopped == Some(Stopped::StopFile);
        if self.stopped.is_none() || given_up {
            self.stopped = Some(why);
            self.ctx.note(None, true, format!("{}: nothing more is started", why.text()));
        }
        self.ctx.cancel.raise(level);
        self.engine.on(Input::Cancel(level), self.now());
    }

    /// `--max-time`, `--max-tokens`, `--max-cost`, `--max-calls`.
    pub(super) fn check_limits(&mut self) {
        if self.stopped.is_some() {
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
                        self.ctx.note(None, false, "going on");
                    }
                }
                Control::Pause(_) => {}
                Control::Retry(name) => self.retry(&name),
                Control::Passed(name) => {
                    let id = self.engine.graph().find(&name);
                    match id.filter(|id| self.engine.settled(*id) == Some(Settled::Waiting)) {
                        Some(id) => {
                            self.summary.waiting.retain(|waiting| *waiting != name);
                            self.waiting.retain(|(waiting, _)| *waiting != name);
                            self.engine.on(Input::Passed(id), self.now());
                        }
                        // Its `.status` says so before the build knows; or it comes to it later.
                        None => self.controls.put_off(&name),
                    }
                }
            }
        }
    }

    /// Whoever moves or removes the run directory leaves the build without what it has made: what it writes from then on
    /// lies elsewhere.
    pub(super) fn look_at_run_dir(&mut self) {
        let run = self.store.run_dir();
        if self.broken.is_none()
            && self.run_dir.as_ref().is_some_and(|dir| dir.is_at(run).is_ok_and(|there| !there))
        {
            let why = std::io::Error::other("it was moved or removed while it was being built");
            let error = FsError::new(run, "go on in", why);
            self.ctx.note(None, true, format!("{error}; nothing more is started"));
            self.break_off(error);
        }
    }

    /// Somebody wants a task made anew, with fresh answers.
    pub(super) fn retry(&mut self, name: &str) {
        let id = self.engine.graph().find(name);
        let first = id.and_then(|id| self.engine.graph()[id].outputs.first().cloned());
        let at_work = id.and_then(|id| self.running.get(&id));
        if let Some(attempt) = at_work.filter(|_| self.ctx.cancel.level() == Level::Running) {
            // Taken up when the attempt has ended.
            attempt.live.end(EndedAlone::Retried);
            return;
        }
        let (Some(id), Some(first), None) = (id, first, at_work) else {
            if at_work.is_none() {
                self.ctx.note(None, true, format!("`{name}` is no task that can be tried anew"));
                let _ = self.store.clear_retry(name);
            }
            return;
        };
        if !self.begin_anew(name, &first) {
            return;
        }
        match self.engine.reopen(id) {
            Some(reopened) => {
                for (task, settled) in &reopened.settled {
                    self.take_back_end(*task, *settled);
                }
                for task in reopened.running {
                    if let Some(attempt) = self.running.get(&task) {
                        attempt.live.end(EndedAlone::Edited);
                    }
                }
                self.ctx.note(Some(name), false, "tried anew, as asked by `planexe retry`");
            }
            None => {
                self.ctx.note(Some(name), true, "tried anew by the next build: this one is past it");
            }
        }
    }

    /// What is kept of a task is set aside. The request goes once that is done: killed between, it is done again.
    pub(super) fn begin_anew(&mut self, name: &str, first: &str) -> bool {
        let begun = self.begin().and_then(|()| self.store.begin_anew(name, first));
        if let Err(error) = begun.and_then(|()| self.store.clear_retry(name)) {
            self.break_off(error);
            return false;
        }
        self.finder.forget();
        self.ctx.index.set_stamp(name, None);
        // What was known when the build began holds no longer.
        self.known = None;
        true
    }

    /// A task that had come to its end is open again.
    pub(super) fn take_back_end(&mut self, id: TaskId, settled: Settled) {
        let task = &self.engine.graph()[id];
        let (name, kind) = (task.name.clone(), task.kind);
        let summary = &mut self.summary;
        let one = |count: &mut u32| *count = count.saturating_sub(1);
        match (settled, kind) {
            (Settled::Fresh, NodeKind::Single | NodeKind::Instance { .. }) => one(&mut summary.fresh),
            (Settled::Done, NodeKind::Single | NodeKind::Instance { .. }) => one(&mut summary.ran),
            (Settled::Skipped, _) => one(&mut summary.skipped),
            _ => {}
        }
        for names in [&mut summary.failed, &mut summary.waiting, &mut summary.partial, &mut summary.stopped] {
            names.retain(|other| *other != name);
        }
        self.failures.retain(|failed| failed.task != name);
        self.waiting.retain(|(task, _)| *task != name);
    }

    /// Tells of attempts that get nowhere, and ends those whose task says so. `missed`: time since the last look in which
    /// nobody listened to them.
    pub(super) fn look_for_stalls(&mut self, missed: Duration) {
        let now = Instant::now();
        let mut stalled = Vec::new();
        for (&id, attempt) in &mut self.running {
            let mark = attempt.live.mark();
            if mark != attempt.mark {
                (attempt.mark, attempt.got_on, attempt.got_on_at) = (mark, now, SystemTime::now());
            }
            attempt.got_on = (attempt.got_on + missed).min(now);
            let idle = now - attempt.got_on;
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
}
