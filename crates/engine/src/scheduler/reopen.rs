//! What a person wants made anew in the middle of a build.

use std::collections::HashSet;

use super::{Action, Engine, Phase, Resolution};
use crate::graph::{Kind, TaskId, Why};
use planexe_base::cancel::Level;

/// What [`Engine::reopen`] opened again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reopened {
    /// Tasks that had been settled, and how, if that was told.
    pub settled: Vec<(TaskId, Resolution)>,
    /// Tasks at work on what is outdated.
    pub running: Vec<TaskId>,
    /// All tasks that are judged again, those included.
    pub tasks: Vec<TaskId>,
}

impl Engine {
    /// A task is to be made anew: it and all that depends on it are judged again. Returns the tasks this opens again,
    /// with how they were settled, itself included, and those at work that must be ended; none if it cannot be done
    /// any more in this build: the items of a fan-out hang on the task, and are known already.
    pub fn reopen(&mut self, id: TaskId) -> Option<Reopened> {
        if !self.nodes[id.index()].wanted || self.level > Level::Running {
            return None;
        }
        let mut seen = HashSet::from([id]);
        let mut work = vec![id];
        // Families that only wait for their instances once more.
        let mut collecting = Vec::new();
        while let Some(task) = work.pop() {
            if let Kind::Instance { family } = self.graph[task].kind
                && seen.insert(family)
            {
                collecting.push(family);
                work.push(family);
            }
            for need in &self.graph[task].waiters {
                let node = &self.nodes[need.task.index()];
                let known = need.why == Why::Expanded && self.nodes[task.index()].expanded;
                if known || !node.wanted {
                    continue;
                }
                if self.graph[need.task].kind == Kind::Family && node.expanded {
                    return None;
                }
                if seen.insert(need.task) {
                    work.push(need.task);
                }
            }
        }
        let mut all: Vec<TaskId> = seen.into_iter().collect();
        all.sort();
        // What was about to be done for them is not done any more.
        let mut untold = HashSet::new();
        self.actions.retain(|action| {
            let (task, open) = match action {
                Action::Judge { task, .. } | Action::Expand(task) => (task, true),
                Action::Settled(task) => (task, false),
                Action::Start { .. } | Action::Mixed { .. } | Action::CancelAll => return true,
            };
            let goes = all.binary_search(task).is_ok();
            if goes && open {
                self.active -= 1;
            } else if goes {
                untold.insert(*task);
            }
            !goes
        });
        let mut reopened = Reopened::default();
        for &task in &all {
            let node = &mut self.nodes[task.index()];
            match node.phase {
                // Its end was told by its attempt, or was to be told yet.
                Phase::Settled(
                    Resolution::Fresh | Resolution::Skipped | Resolution::Blocked | Resolution::Partial,
                ) if untold.contains(&task) => {}
                Phase::Settled(settled) => reopened.settled.push((task, settled)),
                Phase::Running => {
                    node.outdated = task != id;
                    reopened.running.push(task);
                    continue;
                }
                // Waiting for what is before it, as it will again; or its attempts are to begin anew.
                _ => {}
            }
            node.phase = if collecting.contains(&task) { Phase::Collecting } else { Phase::Waiting };
        }
        for &task in &all {
            let node = &self.nodes[task.index()];
            if node.phase == Phase::Collecting {
                let open = |id: &&TaskId| self.settled(**id).is_none();
                self.nodes[task.index()].left = self.graph.instances(task).iter().filter(open).count() as u32;
            } else if node.phase == Phase::Waiting {
                self.count_needs(task);
            }
        }
        for heap in self.ready.values_mut() {
            heap.retain(|candidate| self.nodes[candidate.task.index()].phase == Phase::Ready);
        }
        self.forget_pauses();
        self.forget_followers();
        let counts = |id| self.settled(id) == Some(Resolution::Failed) && !self.may_be_absorbed(id);
        self.failed = self.graph.ids().any(counts);
        reopened.tasks.clone_from(&all);
        for task in all {
            self.advance_or_settle(task);
        }
        Some(reopened)
    }
}
