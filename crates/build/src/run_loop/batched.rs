//! Batches: what is gathered is submitted once nothing else can join, and a build that only waits for them ends after a
//! while.

use std::time::Instant;

use super::{Build, Stopped};
use planexe_base::cancel::Level;
use planexe_base::style;

impl Build<'_> {
    /// Looks whether anything but batches is at work.
    pub(super) fn look_at_batches(&mut self) {
        let waiting = self.ctx.pooled.waiting();
        if waiting == 0 || waiting < self.attempts.count() || self.steering.is_paused() {
            self.batched = None;
            return;
        }
        self.ctx.pooled.flush();
        let Some(patience) = self.ctx.pooled.patience() else {
            self.batched = None;
            return;
        };
        let is_over = self.batched.get_or_insert_with(Instant::now).elapsed() >= patience;
        let waits_on = self.wanted.at_reset && !self.ctx.pooled.is_stuck();
        if is_over && !waits_on {
            match self.steering.stopped() {
                None => self.stop(Stopped::Batch, Level::Draining),
                Some(_) => self.ctx.pooled.leave(),
            }
        }
    }

    /// What the build waits for, if all that is left waits for batches.
    pub(super) fn batched_text(&self) -> Option<String> {
        let batches = self.ctx.store.batches_under_way();
        let until =
            batches.iter().map(|(_, state)| state.until_utc.as_str()).filter(|at| !at.is_empty()).min();
        let until =
            until.and_then(|at| at.get(..16)).map(|at| format!(" until {} UTC", at.replace('T', " ")));
        let (done, total) =
            batches.iter().fold((0, 0), |sum, (_, state)| (sum.0 + state.done, sum.1 + state.total));
        let first = &batches.first()?.0;
        let until = until.unwrap_or_default();
        Some(format!(
            "waiting for a batch of `{first}`{until}: {done} of {} answered",
            style::count(total, "call")
        ))
    }
}
