//! Fan-outs: their items found out, and what belongs to former ones moved to history.

use super::Build;
use planexe_base::fs::{self, Durability, FsError};
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::Event as Input;
use planexe_store::Why;

impl Build<'_> {
    /// Finds out the items of a fan-out, and moves what belongs to former ones to history.
    pub(super) fn expand(&mut self, family: TaskId) {
        let items = self.judge_with().wanted_items(self.engine.graph(), family, &self.wanted.targets);
        let items = match items {
            Ok(items) => Some(items),
            Err(failure) => {
                self.fail_unjudged(family, failure);
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
        let former = self.judging.finder().former_items(self.engine.graph(), &task)?;
        for first in former {
            self.begin()?;
            let outputs = self.judging.finder().recorded_outputs(&first);
            let name = self.ctx.store.recorded_task(&first).unwrap_or_else(|| task.name.clone());
            let mut there = Vec::new();
            for output in &outputs {
                if fs::kind(&self.ctx.store.path(output))?.is_some() {
                    there.push(format!("`{output}`"));
                }
            }
            self.ctx.store.clean(&name, Why::Orphaned, &outputs, Durability::Synced)?;
            // One that was never done left nothing.
            let kept = if there.is_empty() {
                String::new()
            } else {
                format!("; {} went to history", there.join(", "))
            };
            self.ctx.note(Some(&name), false, format!("its item is gone{kept}"));
            self.judging.forget_files();
        }
        Ok(())
    }
}
