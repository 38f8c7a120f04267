//! Telling other processes how far the running tasks are: `.planexe/live/`, a few times a second, and only once an
//! attempt takes so long that somebody may want to know. Nothing of it fails a build.

use std::time::{Duration, Instant};

use super::Build;
use planexe_base::clock;
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
}

impl Build<'_> {
    /// Tells it if it is time to.
    pub(super) fn share(&mut self) {
        if self.sharing.off || !self.begun || self.sharing.last.elapsed() < EVERY {
            return;
        }
        self.sharing.last = Instant::now();
        let long = !self.awaited.is_empty()
            || !self.retrying.is_empty()
            || self.paused
            || self.running.values().any(|attempt| attempt.live.started.elapsed() >= WORTH);
        if !long && self.sharing.told.is_none() {
            return;
        }
        let progress = self.progress();
        let mut failed = false;
        if self.sharing.told.as_ref() != Some(&progress) {
            failed = self.store.write_progress(&progress).is_err();
            self.sharing.told = Some(progress);
        }
        self.sharing.off = self.share_texts().is_err() || failed;
    }

    fn progress(&self) -> Progress {
        let graph = self.engine.graph();
        let mut running: Vec<AtWork> = self
            .running
            .iter()
            .map(|(id, attempt)| {
                let doing = attempt.live.doing();
                AtWork {
                    task: graph[*id].name.clone(),
                    attempt: attempt.number,
                    phase: doing.phase.to_owned(),
                    doing: doing.text,
                    tokens: doing.tokens,
                    progress_utc: clock::format_utc(attempt.got_on_at),
                }
            })
            .collect();
        running.sort_by(|a, b| a.task.cmp(&b.task));
        let mut queued: Vec<(TaskId, Queue)> = self.engine.queued();
        queued.sort_by_key(|(id, _)| *id);
        queued.truncate(QUEUED);
        let queued = queued.into_iter().map(|(id, queue)| {
            let doing = match queue {
                Queue::Slot if self.paused => "held by `planexe pause`".to_owned(),
                Queue::Slot => self.held(id).unwrap_or_else(|| "waiting for a slot".to_owned()),
                Queue::Pause => self.retrying.get(&id).cloned().unwrap_or_else(|| "again soon".to_owned()),
            };
            Queued { task: graph[id].name.clone(), doing }
        });
        Progress { schema: SCHEMA, pid: self.ctx.pid, running, queued: queued.collect() }
    }

    /// Writes down what answers and programs said since it was last done.
    fn share_texts(&mut self) -> Result<(), planexe_base::fs::FsError> {
        let graph = self.engine.graph();
        for (id, attempt) in &mut self.running {
            if attempt.live.started.elapsed() < WORTH {
                continue;
            }
            attempt.held.push_str(&attempt.live.call.take_text());
            let mut bytes = self.ctx.providers.take_redacted(&mut attempt.held).into_bytes();
            bytes.extend(attempt.live.take_said());
            if !bytes.is_empty() {
                attempt.followed = true;
                self.store.append_live_text(&graph[*id].name, attempt.number, &bytes)?;
            }
        }
        Ok(())
    }

    /// An attempt ended: what it wrote is kept elsewhere by now.
    pub(super) fn forget_text(&self, id: TaskId, attempt: &super::Attempt) {
        if attempt.followed {
            let path = self.store.live_text_path(&self.engine.graph()[id].name, attempt.number);
            let _ = planexe_base::fs::remove(&path);
        }
    }

    /// The build ended.
    pub(super) fn stop_sharing(&mut self) {
        if self.sharing.told.take().is_some() {
            let _ = self.store.clear_live();
        }
    }
}
