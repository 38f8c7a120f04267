//! Who waits for whom: tasks are joined by the files they read and write, put in order, and cycles are found.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::OnceLock;

use super::{ForeachDecl, Graph, Kind, Need, TaskId, Why};
use planexe_base::cores;
use planexe_base::pattern::{self, KEY};

/// What a declaration says of others: by their names, and by the items it runs over.
pub(super) struct Order {
    pub(super) after: Vec<String>,
    pub(super) foreach: Option<ForeachDecl>,
}

/// What a declared task waits for.
#[derive(Default)]
struct AllNeeds {
    /// Before it is judged; a fan-out before its items are known.
    own: Vec<Need>,
    /// Each instance of a fan-out.
    of_items: Vec<Need>,
    /// Fan-outs over the same items: their instance of the same key.
    peers: Vec<Need>,
}

/// Where to look for who writes what a pattern may mean.
struct Outputs {
    families: Vec<TaskId>,
    /// Outputs of all others, by path; only where a pattern asks for them.
    sorted: OnceLock<Vec<(TaskId, usize)>>,
}

/// Needs in order, each task once; of two reasons for one task the stricter stays.
#[derive(Default)]
struct Needs {
    list: Vec<Need>,
    /// Where each is in the list, once there are many.
    at: HashMap<TaskId, usize>,
}

/// So many needs are looked through faster than they are looked up.
const FEW: usize = 16;

impl Needs {
    fn push(&mut self, need: Need) {
        let known = match self.list.len() {
            ..=FEW => self.list.iter().position(|known| known.task == need.task),
            _ => self.at.get(&need.task).copied(),
        };
        match known {
            Some(at) if need.why == Why::Reads => self.list[at].why = Why::Reads,
            Some(_) => {}
            None => {
                self.list.push(need);
                let unlisted = self.list.iter().enumerate().skip(self.at.len());
                if self.list.len() > FEW {
                    self.at.extend(unlisted.map(|(at, known)| (known.task, at)));
                }
            }
        }
    }
}

impl Graph {
    /// Finds what each task waits for.
    pub(super) fn connect(&mut self, orders: &[Order]) {
        let families = self.ids().filter(|&id| self[id].kind == Kind::Family).collect();
        let outputs = Outputs { families, sorted: OnceLock::new() };
        let ids: Vec<TaskId> = self.ids().collect();
        let found = cores::map(&ids, |&id| self.needs_of(id, orders, &outputs));
        for (id, needs) in ids.into_iter().zip(found) {
            for need in &needs.own {
                let needed = self.task_mut(need.task);
                needed.note_reader(id);
                needed.waiters.push(Need { task: id, why: need.why });
            }
            self.task_mut(id).needs = needs.own;
            for need in &needs.of_items {
                self.task_mut(need.task).note_reader(id);
            }
            if let Some(shared) = self.shared.get_mut(&id) {
                shared.needs = needs.of_items;
                shared.peers = needs.peers;
            }
        }
    }

    /// What a declared task waits for, and what the instances of a fan-out do.
    fn needs_of(&self, id: TaskId, orders: &[Order], outputs: &Outputs) -> AllNeeds {
        let order = &orders[id.index()];
        let mut reads = Needs::default();
        let mut peers = Needs::default();
        for input in &self[id].inputs {
            let why = if input.optional { Why::MayRead } else { Why::Reads };
            for task in self.writers_of(&input.pattern, input.glob, outputs) {
                let same_items = order.foreach.is_some() && orders[task.index()].foreach == order.foreach;
                if same_items && input.pattern.contains(KEY) {
                    peers.push(Need { task, why });
                } else {
                    reads.push(Need { task, why });
                }
            }
        }
        // A name that no task has was found when the pipeline was checked.
        for &task in order.after.iter().filter_map(|name| self.by_name.get(name)) {
            reads.push(Need { task, why: Why::After });
        }
        let Some(foreach) = &order.foreach else {
            return AllNeeds { own: reads.list, ..AllNeeds::default() };
        };
        let mut own = Needs::default();
        for task in self.writers_of(&foreach.source, foreach.glob, outputs) {
            own.push(Need { task, why: Why::Reads });
        }
        for peer in &peers.list {
            own.push(Need { task: peer.task, why: Why::Expanded });
        }
        AllNeeds { own: own.list, of_items: reads.list, peers: peers.list }
    }

    /// Tasks that write, or could write, what a path or glob names.
    fn writers_of(&self, wanted: &str, glob: bool, outputs: &Outputs) -> Vec<TaskId> {
        let keyed = wanted.contains(KEY);
        if !glob && !keyed {
            match self.producers.get(wanted) {
                Some(&task) => return vec![task],
                None if outputs.families.is_empty() => return Vec::new(),
                None => {}
            }
        }
        let could_write =
            |&id: &TaskId| self[id].outputs.iter().any(|output| pattern::could_match(wanted, output));
        let mut writers: Vec<TaskId> = outputs.families.iter().copied().filter(could_write).collect();
        if glob || keyed {
            let sorted = outputs.sorted.get_or_init(|| self.sorted_outputs());
            let path = |&(id, n): &(TaskId, usize)| self[id].outputs[n].as_str();
            let prefix = pattern::literal_prefix(wanted);
            let first = sorted.partition_point(|output| path(output) < prefix);
            let among = sorted[first..].iter().take_while(|output| path(output).starts_with(prefix));
            writers
                .extend(among.filter(|output| pattern::could_match(wanted, path(output))).map(|&(id, _)| id));
            writers.sort_unstable();
            writers.dedup();
        }
        writers
    }

    /// The outputs of all tasks but families, by path.
    fn sorted_outputs(&self) -> Vec<(TaskId, usize)> {
        let single = self.ids().filter(|&id| self[id].kind != Kind::Family);
        let mut outputs: Vec<_> =
            single.flat_map(|id| (0..self[id].outputs.len()).map(move |n| (id, n))).collect();
        outputs.sort_unstable_by(|a, b| self[a.0].outputs[a.1].cmp(&self[b.0].outputs[b.1]));
        outputs
    }

    /// Orders the tasks topologically, keeping the order of the file among equals, and names the cycles that keep
    /// some from having a place: no task is on two of them.
    pub(super) fn sort(&mut self) -> Vec<Vec<usize>> {
        let count = self.tasks.len();
        let needs = |id: TaskId| match self.shared.contains_key(&id) {
            true => self.all_needs(id).len(),
            false => self[id].needs.len(),
        };
        let mut unmet: Vec<usize> = self.ids().map(needs).collect();
        let mut ready: BinaryHeap<Reverse<TaskId>> =
            self.ids().filter(|id| unmet[id.index()] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(count);
        let mut level = vec![0u32; count];
        let mut cycles: Vec<Vec<usize>> = Vec::new();
        loop {
            while let Some(Reverse(id)) = ready.pop() {
                let task = self.task_mut(id);
                task.step = order.len() as u32;
                task.level = level[id.index()];
                order.push(id);
                for reader in &self[id].readers {
                    level[reader.index()] = level[reader.index()].max(level[id.index()] + 1);
                    // Of a task on a cycle nothing is unmet any more.
                    if unmet[reader.index()] == 0 {
                        continue;
                    }
                    unmet[reader.index()] -= 1;
                    if unmet[reader.index()] == 0 {
                        ready.push(Reverse(*reader));
                    }
                }
            }
            if order.len() == count {
                self.order = order.into();
                return cycles;
            }
            // What comes after the cycle may be on another one, so it goes on as if this one were none.
            let cycle = self.cycle(&unmet);
            for &task in &cycle {
                unmet[task] = 0;
                ready.push(Reverse(TaskId(task as u32)));
            }
            cycles.push(cycle);
        }
    }

    /// A cycle among the tasks with unmet needs, the first of the file first.
    fn cycle(&self, unmet: &[usize]) -> Vec<usize> {
        // Each of them waits for another of them: walking backwards must come round.
        let mut at = TaskId(unmet.iter().position(|&n| n > 0).unwrap_or(0) as u32);
        let mut path: Vec<TaskId> = Vec::new();
        loop {
            if let Some(start) = path.iter().position(|&seen| seen == at) {
                let mut cycle: Vec<usize> = path[start..].iter().rev().map(|id| id.index()).collect();
                let least = cycle.iter().enumerate().min_by_key(|&(_, d)| d).map_or(0, |(i, _)| i);
                cycle.rotate_left(least);
                return cycle;
            }
            path.push(at);
            let left = self.all_needs(at).into_iter().find(|need| unmet[need.index()] > 0);
            at = left.expect("BUG: a task that waits for none is not left");
        }
    }

    /// Everything a declared task waits for, as a set.
    pub(super) fn all_needs(&self, id: TaskId) -> Vec<TaskId> {
        let mut all: Vec<TaskId> = self[id].needs.iter().map(|need| need.task).collect();
        if let Some(shared) = self.shared.get(&id) {
            all.extend(shared.needs.iter().map(|need| need.task));
            all.extend(shared.peers.iter().map(|peer| peer.task));
        }
        all.sort();
        all.dedup();
        all
    }
}
