//! How a task ends, and what follows for those that need it.

use super::protocol::{Action, Mode, OnFailure, Resolution};
use super::{Engine, Phase, spoils};
use crate::graph::{Kind, TaskId, Why};
use planexe_base::cancel::Level;

impl Engine {
    pub(super) fn judge_again(&mut self, id: TaskId) {
        self.nodes[id.index()].phase = Phase::Waiting;
        self.count_needs(id);
        self.advance_or_settle(id);
    }

    /// Moves a waiting task on, or settles it as what it needs says: that may have been settled meanwhile.
    pub(super) fn advance_or_settle(&mut self, id: TaskId) {
        match self.doom(id).filter(|_| self.nodes[id.index()].phase == Phase::Waiting) {
            Some(settled) => self.settle(id, settled),
            None => self.advance(id),
        }
    }

    /// What a new instance is settled as because of something it needs that is settled badly.
    pub(super) fn doom(&self, id: TaskId) -> Option<Resolution> {
        self.graph[id].needs.iter().find_map(|need| match self.nodes[need.task.index()].phase {
            Phase::Settled(settled) => spoils(settled, need.why),
            _ => None,
        })
    }

    pub(super) fn is_stale(&self, id: TaskId) -> bool {
        matches!(self.nodes[id.index()].phase, Phase::Settled(Resolution::Stale | Resolution::DependsOn))
    }

    pub(super) fn fail(&mut self, id: TaskId) {
        self.settle(id, Resolution::Failed);
    }

    /// Whether a failure of a task may be one that its fan-out can do without: then only that of the whole counts.
    pub(super) fn may_be_absorbed(&self, id: TaskId) -> bool {
        matches!(self.graph[id].kind, Kind::Instance { family } if self.info(family).min_success < 1.0)
    }

    /// A failure that `min_success` does not absorb decides what the rest does.
    pub(super) fn react_to_failure(&mut self) {
        self.failed = true;
        if self.options.on_failure == OnFailure::StopAll && self.level < Level::Killing {
            self.level = Level::Killing;
            self.actions.push_back(Action::CancelAll);
        }
    }

    pub(super) fn settle(&mut self, first: TaskId, settled: Resolution) {
        // A work list, not recursion: chains may be long.
        let mut work = vec![(first, settled)];
        let mut of_lanes = Vec::new();
        while let Some((id, settled)) = work.pop() {
            if matches!(self.nodes[id.index()].phase, Phase::Settled(_)) {
                continue;
            }
            self.nodes[id.index()].phase = Phase::Settled(settled);
            self.graph.set_skipped(id, settled == Resolution::Skipped);
            self.actions.push_back(Action::Settled(id));
            let instance_of = match self.graph[id].kind {
                Kind::Instance { family } => Some(family),
                _ => None,
            };
            if settled == Resolution::Failed && !self.may_be_absorbed(id) {
                self.react_to_failure();
            }
            if self.info(id).lane.is_some() && self.mode == Mode::Build {
                self.turns.retain(|_, (next, _)| *next != id);
                of_lanes.push(id);
            }
            for waiter in 0..self.graph[id].waiters.len() {
                let need = self.graph[id].waiters[waiter];
                let reader = need.task;
                if !self.nodes[reader.index()].wanted || self.nodes[reader.index()].phase != Phase::Waiting {
                    continue;
                }
                if let Some(spoiled) = spoils(settled, need.why) {
                    work.push((reader, spoiled));
                } else if settled.satisfies() || settled == Resolution::Skipped {
                    let already = need.why == Why::Expanded && self.nodes[id.index()].expanded;
                    let node = &mut self.nodes[reader.index()];
                    node.upstream_stale |= matches!(settled, Resolution::Stale | Resolution::DependsOn);
                    if !already {
                        node.unmet = node.unmet.saturating_sub(1);
                    }
                    self.advance(reader);
                }
            }
            if let Some(family) = instance_of {
                let left = &mut self.nodes[family.index()].left;
                *left = left.saturating_sub(1);
                if *left == 0
                    && let Some(settled) = self.verdict_of(family)
                {
                    work.push((family, settled));
                }
            }
        }
        for id in of_lanes {
            self.look_at_lane_of(id);
        }
    }
}
