//! What reaches a running build from outside: signals, limits, control files, calls that get nowhere.

use super::{Build, Edits, Stopped};
use crate::cancel::Level;
use crate::engine::Event as Input;
use crate::event::Kind;
use crate::runner::EndedAlone;
use crate::store::control::Control;
use std::time::{Instant, SystemTime};

impl Build<'_> {
    pub(super) fn signalled(&mut self, signal: i32) {
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
            self.tools.cancel.raise(Level::Draining);
            self.engine.on(Input::Cancel(Level::Draining), self.now());
        }
    }

    pub(super) fn stop(&mut self, why: Stopped, level: Level) {
        let given_up = why == Stopped::Abort && self.stopped == Some(Stopped::StopFile);
        if self.stopped.is_none() || given_up {
            self.stopped = Some(why);
            self.tools.note(None, true, format!("{}: nothing more is started", why.text()));
        }
        self.tools.cancel.raise(level);
        self.engine.on(Input::Cancel(level), self.now());
    }

    /// `--max-time`, `--max-tokens`, `--max-cost`.
    pub(super) fn check_limits(&mut self) {
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
    pub(super) fn look_outside(&mut self) {
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

    /// Tells of attempts that get nowhere, and ends those whose task says so.
    pub(super) fn look_for_stalls(&mut self) {
        let now = Instant::now();
        let mut stalled = Vec::new();
        for (&id, attempt) in &mut self.running {
            let mark = attempt.live.mark();
            if mark != attempt.mark.0 {
                attempt.mark = (mark, now, SystemTime::now());
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
}
