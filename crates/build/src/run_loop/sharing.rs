//! Telling other processes how far the running tasks are: `.planexe/live/`, a few times a second, and only once an
//! attempt takes so long that somebody may want to know. Nothing of it fails a build.

use std::time::{Duration, Instant};

use super::Build;
use super::attempts::Attempt;
use planexe_base::record::SCHEMA;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::Queue;
use planexe_store::live::{AtWork, Progress, Queued};

/// How often it is told.
const EVERY: Duration = Duration::from_millis(400);
/// Attempts that take less are over before anybody has looked.
const WORTH: Duration = Duration::from_secs(1);
/// At most so many tasks that wait for their turn are named.
const QUEUED: usize = 200;

/// What was told so far.
pub(super) struct Sharing {
    last: Instant,
    told: Option<Progress>,
    /// It cannot be written: not tried again in this build.
    off: bool,
}

impl Sharing {
    /// Nothing was told yet.
    pub(super) fn new() -> Sharing {
        Sharing { last: Instant::now(), told: None, off: false }
    }

    /// Whether it is time to tell again; from then on it is not for a while.
    fn is_time(&mut self) -> bool {
        let is_time = !self.off && self.last.elapsed() >= EVERY;
        if is_time {
            self.last = Instant::now();
        }
        is_time
    }
}

impl Build<'_> {
    /// Tells it if it is time to.
    pub(super) fn share(&mut self) {
        if !self.records.is_begun() || !self.reporting.sharing_mut().is_time() {
            return;
        }
        let long = self.servers.are_awaited()
            || self.attempts.is_retrying()
            || self.steering.is_paused()
            || self.ctx.services.is_any_up()
            || self.attempts.running().any(|(_, attempt)| attempt.elapsed() >= WORTH);
        if !long && self.reporting.sharing().told.is_none() {
            return;
        }
        let progress = self.progress();
        let mut failed = false;
        if self.reporting.sharing().told.as_ref() != Some(&progress) {
            failed = self.ctx.store.write_progress(&progress).is_err();
            self.reporting.sharing_mut().told = Some(progress);
        }
        self.reporting.sharing_mut().off = self.share_texts().is_err() || failed;
    }

    fn progress(&self) -> Progress {
        let graph = self.engine.graph();
        let at_work = self.attempts.running().map(|(id, attempt)| attempt.progress(&graph[id].name));
        let mut running: Vec<AtWork> = at_work.collect();
        running.sort_by(|a, b| a.task.cmp(&b.task));
        let mut queued: Vec<(TaskId, Queue)> = self.engine.queued();
        queued.sort_by_key(|(id, _)| *id);
        queued.truncate(QUEUED);
        let now = self.now();
        let queued = queued.into_iter().map(|(id, queue)| {
            let doing = match queue {
                Queue::Slot if self.steering.is_paused() => "held by `planexe pause`".to_owned(),
                Queue::Slot => self.held(id).unwrap_or_else(|| match self.engine.left_alone(id, now) {
                    // Told once: the time that is left changes with each look.
                    Some(rest) if rest >= WORTH => "held until its server may be asked again".to_owned(),
                    _ => "waiting for a slot".to_owned(),
                }),
                Queue::Pause => self.attempts.what_follows(id).unwrap_or("again soon").to_owned(),
            };
            Queued { task: graph[id].name.clone(), doing }
        });
        let services = self.ctx.services.shown(self.project);
        Progress { schema: SCHEMA, pid: self.ctx.pid, running, queued: queued.collect(), services }
    }

    /// Writes down what answers and programs said since it was last done.
    fn share_texts(&mut self) -> Result<(), planexe_base::fs::FsError> {
        let graph = self.engine.graph();
        for (id, attempt) in self.attempts.running_mut().filter(|(_, attempt)| attempt.elapsed() >= WORTH) {
            let bytes = attempt.take_text(&self.ctx.providers);
            if !bytes.is_empty() {
                self.ctx.store.append_live_text(&graph[id].name, attempt.number(), &bytes)?;
            }
        }
        Ok(())
    }

    /// An attempt ended: what it wrote is kept elsewhere by now.
    pub(super) fn forget_text(&self, id: TaskId, attempt: &Attempt) {
        if attempt.is_followed() {
            let path = self.ctx.store.live_text_path(&self.engine.graph()[id].name, attempt.number());
            let _ = planexe_base::fs::remove(&path);
        }
    }

    /// The build ended.
    pub(super) fn stop_sharing(&mut self) {
        if self.reporting.sharing_mut().told.take().is_some() {
            let _ = self.ctx.store.clear_live();
        }
    }
}
