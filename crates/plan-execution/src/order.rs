//! What waits for what among the tasks of a plan, made sound: unknown ids, a task that waits for itself, and circles are
//! left out, and what was left out is told. The same plan gives the same order.

use std::collections::{HashMap, HashSet};

use super::plan::Plan;
use planexe_base::style::clean;

/// For each task of the plan, by its place, the places of those it waits for.
#[derive(Debug, Default, PartialEq)]
pub struct Order {
    /// By place.
    pub waits_for: Vec<Vec<usize>>,
    /// What was left out, a line each.
    pub dropped: Vec<String>,
}

/// The order of a plan. `phase_by_phase`: no task begins before the phase before its own is over.
pub fn of(plan: &Plan, phase_by_phase: bool) -> Order {
    let tasks: Vec<_> = plan.tasks().collect();
    let phase: Vec<usize> =
        plan.phases.iter().enumerate().flat_map(|(at, phase)| vec![at; phase.tasks.len()]).collect();
    let mut at: HashMap<&str, usize> = HashMap::new();
    let mut dropped = Vec::new();
    for (place, task) in tasks.iter().enumerate() {
        if at.contains_key(task.id.as_str()) {
            dropped.push(format!(
                "two tasks are called {}; what waits for it waits for the first",
                shown(&task.id)
            ));
        } else {
            at.insert(&task.id, place);
        }
    }
    let mut waits_for: Vec<Vec<usize>> = Vec::with_capacity(tasks.len());
    for (place, task) in tasks.iter().enumerate() {
        let mut seen = HashSet::new();
        let mut own = Vec::new();
        for id in &task.waits_for {
            let why = match at.get(id.as_str()) {
                None => "which is no task",
                Some(&other) if other == place => "which is itself",
                Some(&other) if phase_by_phase && phase[other] > phase[place] => {
                    "which is of a later phase, and phases are approved one after another"
                }
                Some(&other) => {
                    if seen.insert(other) {
                        own.push(other);
                    }
                    continue;
                }
            };
            dropped.push(format!("{} is to wait for {}, {why}", shown(&task.id), shown(id)));
        }
        waits_for.push(own);
    }
    cut_circles(&mut waits_for, |place, other| {
        let (id, other) = (shown(&tasks[place].id), shown(&tasks[other].id));
        dropped.push(format!("a circle: {id} no longer waits for {other}"));
    });
    Order { waits_for, dropped }
}

/// Opens circles, each at the task of it that comes first in the plan.
fn cut_circles(waits_for: &mut [Vec<usize>], mut cut: impl FnMut(usize, usize)) {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); waits_for.len()];
    for (place, others) in waits_for.iter().enumerate() {
        for &other in others {
            readers[other].push(place);
        }
    }
    let mut open: Vec<usize> = waits_for.iter().map(Vec::len).collect();
    let mut placed = vec![false; waits_for.len()];
    let mut ready: Vec<usize> = (0..waits_for.len()).rev().filter(|&place| open[place] == 0).collect();
    let mut next = 0;
    loop {
        while let Some(place) = ready.pop() {
            if std::mem::replace(&mut placed[place], true) {
                continue;
            }
            for &reader in &readers[place] {
                open[reader] = open[reader].saturating_sub(1);
                if open[reader] == 0 && !placed[reader] {
                    ready.push(reader);
                }
            }
        }
        while next < placed.len() && placed[next] {
            next += 1;
        }
        if next == placed.len() {
            return;
        }
        // Each task that is left waits for one that is left: going on from one to the next leads round a circle.
        let (place, other) = in_a_circle(waits_for, &placed, next);
        cut(place, other);
        waits_for[place].retain(|&one| one != other);
        open[place] = open[place].saturating_sub(1);
        if open[place] == 0 {
            ready.push(place);
        }
    }
}

/// A task of a circle and the one it waits for there; of the circle the one that comes first in the plan.
fn in_a_circle(waits_for: &[Vec<usize>], placed: &[bool], from: usize) -> (usize, usize) {
    let mut way = Vec::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut place = from;
    while !seen.contains_key(&place) {
        seen.insert(place, way.len());
        way.push(place);
        match waits_for[place].iter().find(|&&other| !placed[other]) {
            Some(&other) => place = other,
            // Not to be: it would have been placed.
            None => return (place, place),
        }
    }
    let circle = &way[seen[&place]..];
    let first = (0..circle.len()).min_by_key(|&at| circle[at]).unwrap_or(0);
    (circle[first], circle[(first + 1) % circle.len()])
}

fn shown(id: &str) -> String {
    let id = clean(id);
    if id.is_empty() { "a task without an id".to_owned() } else { id.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Phase, PlanTask};

    fn plan(phases: &[&[(&str, &[&str])]]) -> Plan {
        let task = |&(id, waits_for): &(&str, &[&str])| PlanTask {
            id: id.to_owned(),
            waits_for: waits_for.iter().map(|&id| id.to_owned()).collect(),
            ..PlanTask::default()
        };
        let phases =
            phases.iter().map(|tasks| Phase { tasks: tasks.iter().map(task).collect(), ..Phase::default() });
        Plan { phases: phases.collect(), ..Plan::default() }
    }

    #[test]
    fn what_cannot_be_kept_is_left_out_and_told() {
        let order =
            of(&plan(&[&[("a", &["a", "zz", "c", "c"]), ("b", &["a"]), ("c", &["b"]), ("a", &[])]]), false);
        assert_eq!(order.waits_for, [vec![], vec![0], vec![1], vec![]]);
        let dropped = order.dropped.join("\n");
        for said in [
            "a is to wait for a, which is itself",
            "zz, which is no task",
            "two tasks are called a",
            "a circle: a no longer waits for c",
        ] {
            assert!(dropped.contains(said), "{said} in {dropped}");
        }
        assert_eq!(order.dropped.len(), 4, "{dropped}");
    }

    #[test]
    fn only_the_circle_is_cut() {
        // x waits for the circle and is no part of it, though it comes first.
        let order = of(&plan(&[&[("x", &["b"]), ("a", &["b"]), ("b", &["a"])]]), false);
        assert_eq!(order.waits_for, [vec![2], vec![], vec![1]]);
        assert_eq!(order.dropped.len(), 1);
    }

    #[test]
    fn phases_one_after_another_leave_no_way_back() {
        let phases: &[&[(&str, &[&str])]] = &[&[("a", &["b"])], &[("b", &[])]];
        assert_eq!(of(&plan(phases), false).waits_for, [vec![1], vec![]]);
        let order = of(&plan(phases), true);
        assert_eq!(order.waits_for, [Vec::<usize>::new(), vec![]]);
        assert!(order.dropped[0].contains("a later phase"));
    }

    #[test]
    fn thousands_of_tasks_in_one_circle() {
        let ids: Vec<String> = (0..4000).map(|n| format!("t{n}")).collect();
        let tasks = (0..4000).map(|n| PlanTask {
            id: ids[n].clone(),
            waits_for: vec![ids[(n + 1) % 4000].clone()],
            ..PlanTask::default()
        });
        let plan =
            Plan { phases: vec![Phase { tasks: tasks.collect(), ..Phase::default() }], ..Plan::default() };
        assert_eq!(of(&plan, false).dropped, ["a circle: t0 no longer waits for t1"]);
    }
}
