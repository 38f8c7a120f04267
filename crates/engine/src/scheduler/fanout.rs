//! Fan-outs: their instances, how long each may take, and what they make of the whole.

use super::{Engine, Phase, Resolution};
use crate::graph::{Item, TaskId, Why};

impl Engine {
    /// The items of a family are known: its instances join the graph, and those move on that can.
    pub(super) fn expand(&mut self, family: TaskId, mut items: Vec<Item>) {
        if let Some(keys) = self.wanted_keys.get(&family) {
            items.retain(|item| keys.contains(&item.key));
        }
        let added = self.graph.add_instances(family, items, !self.wanted_keys.contains_key(&family));
        let parent = self.nodes[family.index()].clone();
        for (expected, remaining) in self.durations_of(family, &added) {
            let mut node = Engine::new_node(true);
            (node.expected, node.remaining) = (expected, remaining);
            node.upstream_stale = parent.upstream_stale;
            self.nodes.push(node);
        }
        let node = &mut self.nodes[family.index()];
        node.expanded = true;
        node.left = added.len() as u32;
        node.phase = Phase::Collecting;
        // All are counted before one is settled: a settled one moves those that wait for it.
        for &id in &added {
            self.count_needs(id);
            let stale = self.graph[id].needs.iter().any(|need| self.is_stale(need.task));
            self.nodes[id.index()].upstream_stale |= stale;
        }
        for &id in &added {
            match self.doom(id) {
                Some(settled) => self.settle(id, settled),
                None => self.advance(id),
            }
        }
        // Fan-outs over the same items were waiting for these.
        for need in self.graph[family].waiters.clone() {
            if need.why == Why::Expanded && self.nodes[need.task.index()].phase == Phase::Waiting {
                let unmet = &mut self.nodes[need.task.index()].unmet;
                *unmet = unmet.saturating_sub(1);
                self.advance(need.task);
            }
        }
        if added.is_empty()
            && let Some(settled) = self.verdict_of(family)
        {
            self.settle(family, settled);
        }
    }

    /// The seconds that the instances of a family are expected to take, by what each took before, else by the size
    /// of its item beside those that are known; and those of their longest remaining paths.
    pub(super) fn durations_of(&self, family: TaskId, instances: &[TaskId]) -> Vec<(f64, f64)> {
        let usual = self.info(family).expected_s;
        let after = self.nodes[family.index()].remaining - usual;
        let size =
            |id: TaskId| self.graph[id].item.as_ref().map_or(0.0, |item| item.value.to_string().len() as f64);
        let past = |id: TaskId| self.past.get(&self.graph[id].name).copied();
        let known: Vec<(f64, f64)> =
            instances.iter().filter_map(|&id| past(id).map(|seconds| (size(id), seconds))).collect();
        let by_size = line_through(&known);
        let guess = |id: TaskId| by_size.map_or(usual, |(at, per)| (at + per * size(id)).max(0.0));
        let expected = instances.iter().map(|&id| past(id).unwrap_or_else(|| guess(id)));
        let mut all: Vec<(f64, f64)> = expected.map(|seconds| (seconds, after + seconds)).collect();
        // In a row each has all that follow behind it.
        let in_a_row = |id: TaskId| self.graph[id].needs.iter().any(|need| need.why == Why::Previous);
        for n in (1..instances.len()).rev() {
            if in_a_row(instances[n]) {
                all[n - 1].1 += all[n].1 - after;
            }
        }
        all
    }

    /// How a family is settled by its instances, all of them settled; none if it waits for something else.
    pub(super) fn verdict_of(&self, family: TaskId) -> Option<Resolution> {
        if self.nodes[family.index()].phase != Phase::Collecting {
            return None;
        }
        let all: Vec<Resolution> =
            self.graph.instances(family).iter().filter_map(|&id| self.settled(id)).collect();
        let count = |of: &[Resolution]| all.iter().filter(|settled| of.contains(settled)).count();
        let good = count(&[Resolution::Fresh, Resolution::Done]);
        let skipped = count(&[Resolution::Skipped]);
        let open = count(&[Resolution::Stale, Resolution::DependsOn]);
        let total = all.len();
        Some(if total == 0 && self.nodes[family.index()].upstream_stale {
            // What is before it may give it items yet.
            Resolution::DependsOn
        } else if total == 0 || good == total {
            if count(&[Resolution::Done]) > 0 { Resolution::Done } else { Resolution::Fresh }
        } else if open > 0 {
            if count(&[Resolution::Stale]) > 0 { Resolution::Stale } else { Resolution::DependsOn }
        } else if skipped == total {
            Resolution::Skipped
        } else if good + skipped == total {
            Resolution::Done
        } else if count(&[Resolution::Stopped]) > 0 {
            Resolution::Stopped
        } else if count(&[Resolution::Waiting]) > 0 {
            Resolution::Waiting
        } else if good >= needed(total - skipped, self.info(family).min_success) {
            Resolution::Partial
        } else if count(&[Resolution::Failed]) > 0 {
            Resolution::Failed
        } else {
            Resolution::Blocked
        })
    }
}

/// The line through points that comes nearest to them (least squares), as its value at 0 and its slope;
/// none if they do not tell of one that rises.
fn line_through(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (points.len() > 2 && both > 0.0).then(|| (y - x * both / spread, both / spread))
}

/// Instances of `total` that must succeed: ceil(share × total), with room for the rounding of the share itself.
pub fn needed(total: usize, share: f64) -> usize {
    let least = if share > 0.0 { total.min(1) } else { 0 };
    (((share * total as f64) - 1e-9).ceil().max(0.0) as usize).max(least)
}
