//! Lanes: tasks that work in one worktree, one at a time, and are merged together once all of them that run have
//! succeeded. Until then what is made of one is there for the others of its lane alone.

use std::collections::BinaryHeap;

use super::queue::Candidate;
use super::{Action, Engine, Phase, Resolution};
use crate::graph::{Kind, TaskId, Why};
use crate::slots::Needs;

impl Engine {
    /// A task that was interrupted at work in its lane is the next one there, but for those it waits for.
    pub fn give_turn(&mut self, id: TaskId) {
        if let Some(lane) = self.info(id).lane.filter(|_| self.nodes[id.index()].wanted) {
            let before = self.graph.upstream(&[id]);
            self.turns.insert(lane, (id, before));
        }
    }

    /// What starts next of those that compete for the same: in a lane nothing but what is at work in it already, or whose
    /// turn it is.
    pub(super) fn next_of<'h>(&self, needs: Needs, heap: &'h BinaryHeap<Candidate>) -> Option<&'h Candidate> {
        let Some(lane) = needs.lane else { return heap.peek() };
        if let Some(at_work) = self.lanes.get(&lane) {
            return heap.iter().find(|candidate| candidate.task == *at_work);
        }
        match self.turns.get(&lane) {
            None => heap.peek(),
            Some((next, before)) => {
                let may = |id: TaskId| id == *next || before.get(id.index()) == Some(&true);
                heap.iter().filter(|candidate| may(candidate.task)).max()
            }
        }
    }

    /// Whether two tasks are of one lane.
    pub(super) fn are_of_one_lane(&self, one: TaskId, other: TaskId) -> bool {
        let lane = self.info(one).lane;
        lane.is_some() && lane == self.info(other).lane
    }

    /// Whether a task is made and waits for others of this one's lane: to those it is as good as done.
    pub(super) fn is_held_for(&self, made: TaskId, reader: TaskId) -> bool {
        self.nodes[made.index()].phase == Phase::Held && self.are_of_one_lane(made, reader)
    }

    /// A task is made, and waits for the others of its lane.
    pub(super) fn hold(&mut self, id: TaskId) {
        self.nodes[id.index()].phase = Phase::Held;
        // One that was made before it was interrupted never starts, and so would keep its turn from the rest.
        self.turns.retain(|_, (next, _)| *next != id);
        for need in self.graph[id].waiters.clone() {
            let node = &self.nodes[need.task.index()];
            let waits = node.wanted && node.phase == Phase::Waiting && need.why != Why::Expanded;
            if waits && self.are_of_one_lane(id, need.task) {
                let unmet = &mut self.nodes[need.task.index()].unmet;
                *unmet = unmet.saturating_sub(1);
                self.advance(need.task);
            }
        }
        self.look_at_lane_of(id);
    }

    /// If all of a lane that is to run has run, it is merged; or nothing of it is, where one of it failed.
    pub(super) fn look_at_lane_of(&mut self, id: TaskId) {
        let (mut held, mut failed, mut stopped) = (Vec::new(), Vec::new(), false);
        for other in self.graph.ids() {
            let node = &self.nodes[other.index()];
            if !node.wanted || !self.are_of_one_lane(id, other) {
                continue;
            }
            if self.graph[other].kind == Kind::Family {
                // Its instances are looked at one by one, once they are known.
                if node.expanded || matches!(node.phase, Phase::Settled(_)) {
                    continue;
                }
                return;
            }
            match node.phase {
                Phase::Held => held.push(other),
                Phase::Settled(Resolution::Failed) => failed.push(other),
                Phase::Settled(settled) => stopped |= settled == Resolution::Stopped,
                _ => return,
            }
        }
        if held.is_empty() {
            return;
        }
        if failed.is_empty() && !stopped {
            for id in held {
                // It takes no slot of a model: the time says nothing.
                self.enqueue(id, std::time::Duration::ZERO);
            }
            return;
        }
        if !failed.is_empty() {
            self.actions.push_back(Action::Mixed { made: held.clone(), failed: failed.clone() });
        }
        let settled = if failed.is_empty() { Resolution::Stopped } else { Resolution::Failed };
        for id in held {
            self.settle(id, settled);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::graph::{Decl, Graph, Input};
    use crate::scheduler::{AttemptEnd, Event, Judged, Mode, Options, TaskInfo, Work};
    use crate::slots::Slots;

    /// Tasks `a` and `b` of one lane, `c` that reads `a`, all begun as far as they may.
    fn engine(b_reads_a: bool) -> (Engine, [TaskId; 3]) {
        let decl = |name: &str, reads: &[&str]| Decl {
            name: name.into(),
            recipe: true,
            inputs: reads
                .iter()
                .map(|name| Input {
                    name: (*name).into(),
                    pattern: format!("{name}.txt"),
                    glob: false,
                    optional: false,
                })
                .collect(),
            outputs: vec![format!("{name}.txt")],
            ..Decl::default()
        };
        let reads: &[&str] = if b_reads_a { &["a"] } else { &[] };
        let decls = vec![decl("a", &[]), decl("b", reads), decl("c", &["a"])];
        let graph = Graph::build(decls).unwrap_or_else(|_| panic!("a sound graph"));
        let ids = ["a", "b", "c"].map(|name| graph.find(name).expect("a task"));
        let infos = [Some(0), Some(0), None].map(|lane| TaskInfo { lane, ..TaskInfo::default() });
        let slots = Slots::new(&[], &[], 9, 9);
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos.to_vec(), slots);
        engine.want(&ids.map(|id| (id, None)));
        (engine, ids)
    }

    /// The tasks that start when all that is asked for is judged stale.
    fn started(engine: &mut Engine) -> Vec<TaskId> {
        let mut all = Vec::new();
        loop {
            let actions = engine.poll(Duration::ZERO);
            if actions.is_empty() {
                return all;
            }
            for action in actions {
                match action {
                    Action::Judge { task, .. } => {
                        let work = Work { lane: engine.info(task).lane, ..Work::default() };
                        engine.on(Event::Judged(task, Judged::Stale(work)), Duration::ZERO);
                    }
                    Action::Start { task, .. } => all.push(task),
                    _ => {}
                }
            }
        }
    }

    fn end(engine: &mut Engine, id: TaskId, end: AttemptEnd) -> Vec<TaskId> {
        engine.on(Event::Ended(id, end), Duration::ZERO);
        started(engine)
    }

    fn made() -> AttemptEnd {
        AttemptEnd::NextPhase(Work { made: true, ..Work::default() })
    }

    #[test]
    fn one_at_a_time_and_merged_together() {
        for b_reads_a in [false, true] {
            let (mut engine, [a, b, c]) = engine(b_reads_a);
            assert_eq!(started(&mut engine), [a]);
            // It is there for the other of its lane, and for nobody else.
            assert_eq!(end(&mut engine, a, made()), [b]);
            assert_eq!(end(&mut engine, b, made()), [a, b]);
            assert_eq!(end(&mut engine, a, AttemptEnd::Done), [c]);
            assert!(end(&mut engine, b, AttemptEnd::Done).is_empty());
            assert!(end(&mut engine, c, AttemptEnd::Done).is_empty() && engine.is_finished());
        }
    }

    #[test]
    fn of_a_mixed_lane_nothing_is_merged() {
        let (mut engine, [a, b, c]) = engine(true);
        started(&mut engine);
        end(&mut engine, a, made());
        engine.on(Event::Ended(b, AttemptEnd::Failed), Duration::ZERO);
        let mixed = Action::Mixed { made: vec![a], failed: vec![b] };
        assert!(engine.poll(Duration::ZERO).contains(&mixed));
        assert_eq!(
            (engine.settled(a), engine.settled(c)),
            (Some(Resolution::Failed), Some(Resolution::Blocked))
        );
        assert!(engine.is_finished());
    }

    #[test]
    fn whose_turn_it_is_comes_first_but_for_what_it_waits_for() {
        let (mut engine, [a, b, _]) = engine(false);
        engine.give_turn(b);
        assert_eq!(started(&mut engine), [b]);
        assert_eq!(end(&mut engine, b, AttemptEnd::Stopped), [a]);
        let (mut engine, [a, b, _]) = self::engine(true);
        engine.give_turn(b);
        assert_eq!(started(&mut engine), [a]);
    }

    #[test]
    fn one_that_is_made_already_gives_its_turn_to_the_next() {
        let (mut engine, [a, b, _]) = engine(false);
        engine.give_turn(b);
        let lane = engine.info(a).lane;
        let mut all = Vec::new();
        loop {
            let actions = engine.poll(Duration::ZERO);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                match action {
                    Action::Judge { task, .. } => {
                        let work = Work { lane, made: task == b, ..Work::default() };
                        engine.on(Event::Judged(task, Judged::Stale(work)), Duration::ZERO);
                    }
                    Action::Start { task, .. } => all.push(task),
                    _ => {}
                }
            }
        }
        assert_eq!(all, [a]);
    }
}
