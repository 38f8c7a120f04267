//! Small builds, and all states that a power cut at any call may leave: each name that was not synced kept or lost, each
//! content kept, lost, cut or full of zeros, in all combinations. That is more than file systems do: most keep an order.

use std::collections::HashSet;

use super::*;

/// A prompt, and a command that reads its answer.
const SMALL: &str = r##"
[task.facts]
inputs  = ["plan.txt"]
outputs = ["facts.md"]
prompt  = "TASK=note\nWhat is known: {{ plan }}"

[task.count]
inputs  = ["facts.md"]
outputs = ["count.txt"]
command = "wc -c < $in > $out"
"##;

/// So many states of one point are tried: all, if there are no more.
fn most() -> usize {
    match std::env::var("PLANEXE_KILL_STATES").ok().and_then(|n| n.parse().ok()) {
        Some(most) => most,
        None if all_points() => 1000,
        None => 12,
    }
}

fn small(again: bool) -> Case {
    let server = FakeLlm::scripted(answers);
    let space = Space::with(&server, SMALL);
    space.write("plan.txt", "A bridge over the river.");
    if again {
        assert_eq!(plain_build(&space).0, 0);
        space.write("plan.txt", "A tunnel.");
    }
    Case::of(if again { "small, again" } else { "small" }, server, space, &["build", "-j1"])
}

fn all_states(case: &Case, sample: usize) {
    let most = most();
    let (mut tried, mut exhausted, mut reached, mut possible) = (0usize, 0usize, 0usize, 0u64);
    try_points(case, "power cut, every state", sample, |n, faults| {
        let before = case.server.total();
        let plan = Plan::Kill(n);
        let (traced, ..) = case.disturb(plan);
        let hit = traced.hit(plan).is_some();
        let at = name_of(&traced, plan);
        case.settle();
        let (paid, mut states, mut seen) = (case.server.total() - before, Vec::new(), HashSet::new());
        let mut every = Every::default();
        drop(traced.disk.clone().cut(&mut every));
        let count = every.count();
        possible = possible.saturating_add(count);
        let mut add = |mut tree: Tree| {
            start_anew(&mut tree);
            if seen.insert(format!("{tree:?}")) {
                states.push(tree);
            }
        };
        if count <= most as u64 {
            exhausted += 1;
            let mut every = Every::default();
            loop {
                add(traced.disk.clone().cut(&mut every));
                if !every.advance() {
                    break;
                }
            }
        } else {
            for seed in 0..most as u64 {
                add(traced.disk.clone().cut(&mut Seeded((n as u64) << 32 | seed)));
            }
        }
        reached += usize::from(hit);
        tried += states.len();
        for (state, tree) in states.iter().enumerate() {
            write_tree(case.dir(), tree);
            let known = faults.len();
            // Each state is the first after the calls of the disturbed build.
            case.check_next(&format!("{at}, state {state}"), case.server.total() - paid, faults);
            if faults.len() > known {
                return hit;
            }
        }
        hit
    });
    eprintln!(
        "{}: {tried} different states of {reached} points, {exhausted} points with all of theirs ({possible} in all)",
        case.name
    );
}

#[test]
fn every_state_that_a_power_cut_may_leave_of_a_small_build() {
    if may_trace() {
        all_states(&small(false), 12);
        all_states(&small(true), 12);
    }
}
