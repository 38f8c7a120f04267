//! Calls whose prompts begin alike: how each is divided, and who follows the first token of whom.
//!
//! A server has a prompt in its cache once the answer to it begins. So of calls that share a long beginning the first
//! goes ahead, and the others follow its first token. Other work takes their slots meanwhile. A server with one slot has there
//! what it read last, so what goes on from that comes next.

use std::time::Duration;

use super::queue::Candidate;
use super::{Engine, Phase};
use crate::graph::TaskId;
use crate::slots::Needs;
use planexe_base::prefix::{Book, Division, Rules, WORTH};

/// A task that waits for the first token of another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follower {
    task: TaskId,
    leader: u64,
    until: Duration,
}

impl Engine {
    /// Tells what the caches of endpoints are like; none of one that has no cache of its own.
    pub fn know_caches(&mut self, rules: &[Option<Rules>]) {
        self.books = rules.iter().map(|rules| rules.map(Book::new)).collect();
    }

    /// How the prompt of a running task is divided.
    pub fn division(&self, id: TaskId) -> &Division {
        &self.nodes[id.index()].division
    }

    /// Running tasks that bring the beginning of their prompt to a cache, and whether somebody waits for one of them.
    pub fn leading(&self) -> (&[TaskId], bool) {
        (&self.leaders, !self.followers.is_empty())
    }

    /// The first token of a task's answer is there.
    pub fn first_token(&mut self, id: TaskId, now: Duration) {
        self.lead_no_more(id, true, now);
    }

    /// A task waits for its slots at an endpoint: its prompt counts among those that are to be sent there.
    pub(super) fn count_prompt(&mut self, id: TaskId, endpoint: usize) {
        let node = &mut self.nodes[id.index()];
        if let Some(Some(book)) = self.books.get_mut(endpoint)
            && node.counted != Some(endpoint)
        {
            node.counted = Some(endpoint);
            book.add(&node.work.marks);
        }
    }

    /// Whether a task that could start waits for the first token of another.
    pub(super) fn follows(&mut self, id: TaskId, endpoint: Option<usize>, now: Duration) -> bool {
        let Some(Some(book)) = endpoint.and_then(|at| self.books.get(at)) else { return false };
        let Some((leader, until)) = book.waits(&self.nodes[id.index()].work.marks, now) else { return false };
        self.followers.push(Follower { task: id, leader, until });
        true
    }

    /// Of the tasks that could start in place of one, at a server that keeps what it read last: the one whose prompt goes on
    /// furthest from there.
    pub(super) fn next_alike(&self, needs: Needs, id: TaskId, now: Duration) -> TaskId {
        let Some(Some(book)) = needs.endpoint.and_then(|at| self.books.get(at)) else { return id };
        let held = |id: TaskId| book.held(&self.nodes[id.index()].work.marks);
        let (Some(own), Some(heap), None) = (held(id), self.ready.get(&needs), needs.lane) else { return id };
        let may = |other: &&Candidate| {
            let tokens = self.nodes[other.task.index()].work.tokens;
            self.info(other.task).priority == self.info(id).priority
                && self.slots.can_start(needs, tokens, now)
        };
        let best = heap.iter().filter(may).max_by(|a, b| held(a.task).cmp(&held(b.task)).then(a.cmp(b)));
        let better = best.filter(|best| held(best.task).is_some_and(|bytes| bytes >= own + WORTH));
        better.map_or(id, |best| best.task)
    }

    /// A task's call begins.
    pub(super) fn lead(&mut self, id: TaskId, endpoint: Option<usize>, now: Duration) {
        let node = &mut self.nodes[id.index()];
        node.division = Division::default();
        if let Some(Some(book)) = endpoint.and_then(|at| self.books.get_mut(at)) {
            node.division = book.divide(&node.work.marks, now);
            if book.begin(id.index() as u64, &node.work.marks, &node.division, now) {
                self.leaders.push(id);
            }
        }
    }

    /// A leader's first token is there (`came`), or its call ended without.
    pub(super) fn lead_no_more(&mut self, id: TaskId, came: bool, now: Duration) {
        let Some(at) = self.leaders.iter().position(|leader| *leader == id) else { return };
        self.leaders.swap_remove(at);
        let node = &self.nodes[id.index()];
        let endpoint = node.held_endpoint;
        if let Some(Some(book)) = endpoint.and_then(|at| self.books.get_mut(at)) {
            book.began(id.index() as u64, &node.work.marks, &node.division, came, now);
        }
        self.let_go(|follower| follower.leader == id.index() as u64, now);
    }

    /// Those that have waited for long enough wait no longer.
    pub(super) fn lose_patience(&mut self, now: Duration) {
        self.let_go(|follower| follower.until <= now, now);
    }

    /// Those that were to ask an endpoint wait for no other call.
    pub(super) fn let_go_of(&mut self, endpoint: usize, now: Duration) {
        let of = |engine: &Engine, task| engine.endpoint_of(task) == Some(endpoint);
        let tasks: Vec<TaskId> =
            self.followers.iter().map(|it| it.task).filter(|task| of(self, *task)).collect();
        self.let_go(|follower| tasks.contains(&follower.task), now);
    }

    fn let_go(&mut self, who: impl Fn(&Follower) -> bool, now: Duration) {
        if !self.followers.iter().any(&who) {
            return;
        }
        let gone: Vec<Follower> = self.followers.extract_if(.., |follower| who(follower)).collect();
        for follower in gone {
            self.enqueue(follower.task, now);
        }
    }

    /// Forgets those that are judged again.
    pub(super) fn forget_followers(&mut self) {
        let nodes = &self.nodes;
        self.followers.retain(|follower| nodes[follower.task.index()].phase == Phase::Ready);
    }

    /// Until when the first of them waits.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.followers.iter().map(|follower| follower.until).min()
    }
}
