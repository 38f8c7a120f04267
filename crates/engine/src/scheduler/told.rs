//! What the engine tells of itself when it is asked; nothing of this changes it.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::queue::Candidate;
use super::{Engine, Node, Phase, Queue, Resolution};
use crate::graph::{Graph, Kind, TaskId};
use crate::slots::{AtOnce, Needs};
use planexe_base::cancel::Level;

impl Engine {
    /// Whether nothing is running, being judged or able to start any more.
    pub fn is_finished(&self) -> bool {
        if self.active > 0 || !self.actions.is_empty() {
            return false;
        }
        if self.paused && self.level == Level::Running {
            return !self.has_open();
        }
        !self.may_start() || !self.has_open()
    }

    /// Tasks that are to run and wait, and for what.
    pub fn queued(&self) -> Vec<(TaskId, Queue)> {
        let of = |id: TaskId| match self.nodes[id.index()].phase {
            Phase::Ready => Some((id, Queue::Slot)),
            Phase::Backoff(_) => Some((id, Queue::Pause)),
            _ => None,
        };
        self.graph.ids().filter_map(of).collect()
    }

    /// The endpoint a task asks next.
    pub fn endpoint_of(&self, id: TaskId) -> Option<usize> {
        let node = &self.nodes[id.index()];
        node.work.endpoints.get(node.endpoint).copied()
    }

    /// The same, or the one whose limits its own program is held to.
    pub fn asks(&self, id: TaskId) -> Option<usize> {
        self.endpoint_of(id).or(self.nodes[id.index()].work.calls)
    }

    fn has_open(&self) -> bool {
        self.ready.values().any(|heap| !heap.is_empty())
            || !self.backoff.is_empty()
            || !self.followers.is_empty()
    }

    /// How many tasks may run at once.
    pub fn at_once(&self) -> AtOnce {
        self.slots.at_once()
    }

    /// Tasks that hold a core, and tasks that would start if they got one.
    pub fn cores(&self) -> (u32, u32) {
        let waiting = |(needs, heap): (&Needs, &BinaryHeap<Candidate>)| {
            if needs.cpu { (heap.len() as u32).saturating_mul(needs.share.cpus.max(1)) } else { 0 }
        };
        let waiting = if self.may_start() { self.ready.iter().map(waiting).sum() } else { 0 };
        (self.slots.cores_taken(), waiting)
    }

    /// The graph, with the instances known so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Whether tasks that have another model ask that one in place of this endpoint for now.
    pub fn is_held_long(&self, endpoint: usize, now: Duration) -> bool {
        self.slots.is_held_long(endpoint, now)
    }

    /// Whether the usage limit of an endpoint is not known to be over.
    pub fn is_parked(&self, endpoint: usize) -> bool {
        self.slots.is_parked(endpoint)
    }

    /// Until when nobody asks an endpoint, by its usage limit.
    pub fn parked_until(&self, endpoint: usize, now: Duration) -> Option<Duration> {
        self.slots.parked_until(endpoint, now)
    }

    /// Whether nothing is at work or about to be: what is left waits for a time or a slot.
    pub fn is_idle(&self) -> bool {
        self.active == 0 && self.actions.is_empty()
    }

    /// How a task ended, if it has.
    pub fn settled(&self, id: TaskId) -> Option<Resolution> {
        match self.nodes[id.index()].phase {
            Phase::Settled(settled) => Some(settled),
            _ => None,
        }
    }

    /// Whether there are tasks that have not begun, or wait for their next attempt.
    pub fn has_unstarted(&self) -> bool {
        let unstarted = |node: &Node| {
            node.wanted
                && matches!(
                    node.phase,
                    Phase::Waiting | Phase::Judging | Phase::Ready | Phase::Backoff(_) | Phase::Collecting
                )
        };
        self.graph
            .ids()
            .any(|id| !matches!(self.graph[id].kind, Kind::Group) && unstarted(&self.nodes[id.index()]))
    }

    /// Whether a task is part of this build.
    pub fn is_wanted(&self, id: TaskId) -> bool {
        self.nodes[id.index()].wanted
    }

    /// Seconds of the longest path that begins with a task.
    pub fn remaining_s(&self, id: TaskId) -> f64 {
        self.nodes[id.index()].remaining
    }

    /// Seconds a task is expected to take; of a fan-out, one instance.
    pub fn expected_s(&self, id: TaskId) -> f64 {
        self.nodes[id.index()].expected
    }
}
