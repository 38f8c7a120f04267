//! What is ready to run, what of it starts next, and what it waits for.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use super::{Action, Engine, Phase, Work};
use crate::graph::TaskId;
use crate::slots::Needs;
use planexe_base::call::Usage;

/// A task ready to start: higher priority first, then the longer remaining path, then the order of the file.
#[derive(Debug, PartialEq)]
pub(super) struct Candidate {
    priority: i32,
    remaining: f64,
    pub(super) task: TaskId,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.priority.cmp(&other.priority))
            .then(self.remaining.total_cmp(&other.remaining))
            .then(other.task.cmp(&self.task))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Engine {
    fn candidate(&self, id: TaskId) -> Candidate {
        Candidate { priority: self.info(id).priority, remaining: self.nodes[id.index()].remaining, task: id }
    }

    /// A stale task waits for its slots.
    pub(super) fn enqueue(&mut self, id: TaskId, now: Duration) {
        let work = self.nodes[id.index()].work.clone();
        let endpoint = if work.endpoints.is_empty() {
            None
        } else {
            // The endpoint asked for, or the next one in the list that still takes calls, soon if there is one.
            let from = self.nodes[id.index()].endpoint;
            let open = (from..work.endpoints.len())
                .chain(0..from)
                .filter(|&at| !self.closed.contains(&work.endpoints[at]))
                .min_by_key(|&at| self.slots.held_long_until(work.endpoints[at], now));
            // If none does, the attempt itself says so, and needs no slot for that.
            self.nodes[id.index()].endpoint = open.unwrap_or(from.min(work.endpoints.len() - 1));
            open.map(|at| work.endpoints[at])
        };
        let Work { cpu, share, elsewhere, calls, service, pool, lane, .. } = work;
        let needs = Needs { endpoint, cpu, share, elsewhere, calls, service, pool, lane };
        if let Some(endpoint) = endpoint {
            self.count_prompt(id, endpoint);
        }
        self.nodes[id.index()].phase = Phase::Ready;
        let candidate = self.candidate(id);
        self.ready.entry(needs).or_default().push(candidate);
    }

    /// What waited for an endpoint that is closed now, or held for long, waits for its next one.
    pub(super) fn requeue(&mut self, endpoint: usize, now: Duration) {
        let waiting: Vec<Needs> =
            self.ready.keys().filter(|needs| needs.endpoint == Some(endpoint)).copied().collect();
        for needs in waiting {
            for candidate in self.ready.remove(&needs).unwrap_or_default() {
                self.enqueue(candidate.task, now);
            }
        }
        self.let_go_of(endpoint, now);
    }

    /// What waited for a server starts as soon as its slots allow.
    pub(super) fn server_up(&mut self, endpoint: usize, now: Duration) {
        self.closed.remove(&endpoint);
        self.slots.found_up(endpoint, now);
        self.end_pauses(endpoint, now);
    }

    /// Ends the pauses of what waits for a server that is away.
    pub(super) fn end_pauses(&mut self, endpoint: usize, now: Duration) {
        let pauses: Vec<TaskId> = self.backoff.iter().map(|Reverse((_, id))| *id).collect();
        for id in pauses {
            let node = &self.nodes[id.index()];
            let waits = node.outage && matches!(node.phase, Phase::Backoff(_));
            if waits && node.work.endpoints.get(node.endpoint) == Some(&endpoint) {
                self.enqueue(id, now);
            }
        }
        self.forget_pauses();
    }

    /// Forgets pauses that nobody is in any more: a build does not wait for their end.
    pub(super) fn forget_pauses(&mut self) {
        let nodes = &self.nodes;
        self.backoff.retain(|Reverse((until, id))| nodes[id.index()].phase == Phase::Backoff(*until));
    }

    /// What is to come of a task that is looked at right now: once that is done it may be the one to start.
    fn to_be_judged(&self) -> Option<Candidate> {
        let looked_at = |action: &Action| match action {
            Action::Judge { task, .. } | Action::Expand(task) => Some(self.candidate(*task)),
            Action::Start { .. } | Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => None,
        };
        self.actions.iter().filter_map(looked_at).max()
    }

    /// Starts what is ready and has its slots, the best first.
    pub(super) fn start_ready(&mut self, now: Duration) {
        let to_be_judged = self.to_be_judged();
        loop {
            // The best candidate over all classes whose slots are free.
            let best = self
                .ready
                .iter()
                .filter_map(|(&needs, heap)| self.next_of(needs, heap).map(|candidate| (needs, candidate)))
                .filter(|(needs, candidate)| {
                    let tokens = self.nodes[candidate.task.index()].work.tokens;
                    self.slots.can_start(*needs, tokens, now)
                })
                .max_by(|(_, a), (_, b)| a.cmp(b))
                .filter(|(_, best)| to_be_judged.as_ref().is_none_or(|other| other < best))
                .map(|(needs, best)| (needs, best.task));
            let Some((needs, id)) = best else { return };
            let id = self.next_alike(needs, id, now);
            let Some(heap) = self.ready.get_mut(&needs) else { return };
            if heap.peek().is_some_and(|first| first.task == id) {
                heap.pop();
            } else {
                heap.retain(|other| other.task != id);
            }
            if self.follows(id, needs.endpoint, now) {
                continue;
            }
            if let Some(lane) = needs.lane {
                self.lanes.insert(lane, id);
                self.turns.retain(|_, (next, _)| *next != id);
            }
            let tokens = self.nodes[id.index()].work.tokens;
            self.slots.take(needs, tokens, now);
            self.lead(id, needs.endpoint, now);
            let node = &mut self.nodes[id.index()];
            node.held_endpoint = needs.endpoint;
            node.phase = Phase::Running;
            node.held = Some(needs);
            node.attempts += 1;
            self.active += 1;
            self.at_work += 1;
            let endpoint = (!node.work.endpoints.is_empty()).then_some(node.endpoint);
            self.actions.push_back(Action::Start { task: id, attempt: node.attempts, endpoint });
        }
    }

    /// An answer is on disk: its endpoint's slot is free again, though what follows from it is still to be
    /// done; unless the best that could start now is worth less than what waits for this very task.
    ///
    /// Likewise a command whose program ended well: what it held is free while its records are written; unless there
    /// is but one slot, where one thing is done after the other.
    pub fn answered(&mut self, id: TaskId, usage: Usage, now: Duration) {
        let Some(held) = self.nodes[id.index()].held else { return };
        let after = self.graph[id].waiters.iter().filter(|need| self.nodes[need.task.index()].wanted);
        let after = after.map(|need| self.candidate(need.task)).max();
        let alike = |needs: &Needs| {
            needs.endpoint == held.endpoint
                && (held.endpoint.is_some() || (needs.cpu == held.cpu && needs.elsewhere == held.elsewhere))
        };
        let waits = self.ready.iter().filter(|(needs, _)| alike(needs));
        let best = waits.filter_map(|(_, heap)| heap.peek()).max();
        if best.is_none_or(|best| after.as_ref().is_some_and(|after| after >= best)) {
            return;
        }
        if held.endpoint.is_some() {
            self.nodes[id.index()].held = Some(Needs { endpoint: None, ..held });
            self.slots.release_call(held, (Ok(usage), None), now);
        } else if self.slots.are_several() {
            self.nodes[id.index()].held = None;
            self.slots.release(held, None, now);
        }
    }

    /// Services that are up, that nobody uses, and that take any of this machine.
    pub fn unused_services(&self) -> Vec<usize> {
        self.slots.idle_services()
    }

    /// Services that nobody uses and that keep what is ready from its start, as they take too much of this machine: to be
    /// ended, and started again for the next task that needs one. Without that a task would wait for the memory of a
    /// server that is kept for a task after it. None while a task of this machine is at work, since that one's end may do
    /// as well, or while it is being found out who needs one next.
    pub fn crowding(&self, now: Duration) -> Vec<usize> {
        let mut idle = self.slots.idle_services();
        let is_settling = self.active > self.at_work || !self.actions.is_empty();
        if idle.is_empty() || is_settling || !self.may_start() || self.slots.is_shared_by_tasks() {
            return Vec::new();
        }
        // One that is between two attempts is as good as used.
        for &Reverse((_, id)) in &self.backoff {
            let node = &self.nodes[id.index()];
            let endpoint = node.work.endpoints.get(node.endpoint).copied();
            let needs =
                Needs { endpoint, calls: node.work.calls, service: node.work.service, ..Needs::default() };
            idle.retain(|service| !self.slots.needs_service(needs, *service));
        }
        if idle.is_empty() {
            return idle;
        }
        let waiting = self.ready.iter();
        let waiting = waiting.filter_map(|(&needs, heap)| Some((needs, self.next_of(needs, heap)?)));
        let crowded = waiting.filter_map(|(needs, candidate)| {
            let tokens = self.nodes[candidate.task.index()].work.tokens;
            let by = self.slots.crowded_out_by(needs, tokens, now, &idle);
            (!by.is_empty()).then_some((candidate, by))
        });
        crowded.max_by(|(one, _), (other, _)| one.cmp(other)).map_or_else(Vec::new, |(_, by)| by)
    }

    /// How long the server of a task that is to ask it is left alone yet, by all tasks; nothing if it asks another one.
    pub fn left_alone(&self, id: TaskId, now: Duration) -> Option<Duration> {
        let endpoint = self.endpoint_of(id)?;
        let asked = |at: &usize| !self.closed.contains(at) && !self.slots.is_held_long(*at, now);
        if self.slots.is_held_long(endpoint, now) && self.nodes[id.index()].work.endpoints.iter().any(asked) {
            return None;
        }
        let needs = Needs { endpoint: Some(endpoint), ..Needs::default() };
        Some(self.slots.next_chance(needs, 0, now)?.saturating_sub(now))
    }

    /// When [`Engine::poll`] should be called again though nothing happens.
    pub fn wakeup(&self, now: Duration) -> Option<Duration> {
        if !self.may_start() {
            return None;
        }
        let backoff = self.backoff.peek().map(|&Reverse((until, _))| until);
        let limits = self
            .ready
            .iter()
            .filter_map(|(&needs, heap)| {
                let tokens = self.nodes[heap.peek()?.task.index()].work.tokens;
                self.slots.next_chance(needs, tokens, now)
            })
            .min();
        [backoff, limits, self.patience()].into_iter().flatten().min()
    }
}
