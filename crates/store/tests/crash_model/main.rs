//! The engine and the rules of staleness, both real, over a model of a run directory that crashes: at any
//! step a build is killed, in the middle of a write or not, or loses its power, and with it what was not
//! synced, in part and in any order. The builds that follow must end in the outputs of an undisturbed
//! one and ask again only for what was in flight.
//!
//! The model's tasks write in the order of `store::commit` and `store::calls`. Seeded:
//! `PLANEXE_SEEDS=1000000 cargo test --release -p planexe-store --test crash_model` runs a million.

#![allow(clippy::disallowed_methods, reason = "the number of seeds is read from the environment")]

mod disk;
#[path = "../../../../tests/support/random.rs"]
mod random;
mod world;

use std::collections::HashMap;

use disk::Disk;
use random::{Rng, random_decls};
use world::World;

/// How carefully tasks write; the careless ones show that the model finds what it is there to find.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Careless {
    outputs_unsynced: bool,
    /// What commands make is believed after a power cut.
    no_doubts: bool,
    answer_unsynced: bool,
    marker_before_outputs: bool,
    status_before_marker: bool,
    status_unsynced: bool,
}

/// One run: a build, an edit, builds that crash, and what must hold at the end.
fn run(seed: u64, careless: Careless) -> Result<(), String> {
    let mut rng = Rng(seed ^ 0xC4A5_4000);
    let world = World {
        decls: random_decls(&mut rng),
        plan: "one".into(),
        careless,
        capacity: [1 + rng.below(3) as u32, 1 + rng.below(2) as u32],
        disk: Disk::default(),
        boot: 0,
        temps: 0,
        asked: HashMap::new(),
        allowed: HashMap::new(),
    };
    let mut undisturbed = World {
        disk: Disk::default(),
        boot: 0,
        asked: HashMap::new(),
        allowed: HashMap::new(),
        decls: world.decls.clone(),
        plan: "two".into(),
        careless,
        capacity: world.capacity,
        temps: 0,
    };
    let (steps, _) = undisturbed.build(&mut rng, None)?;
    let mut world = world;
    if rng.chance(50) {
        world.build(&mut rng, None)?;
        // Long ago: all of it is on disk.
        world.disk.edits.clear();
        world.disk.sure = world.disk.live.clone();
        for node in &mut world.disk.nodes {
            node.sure.clone_from(&node.now);
            node.dirty = false;
        }
    }
    world.plan = "two".into();
    for _ in 0..1 + rng.below(5) {
        let crash_at = rng.below(steps as u64 + 1) as usize;
        world.build(&mut rng, Some(crash_at))?;
    }
    world.build(&mut rng, None)?;
    if world.outputs() != undisturbed.outputs() {
        return Err("other outputs".into());
    }
    for (question, &asked) in &world.asked {
        let allowed = world.allowed.get(question).copied().unwrap_or(1);
        if asked > allowed {
            return Err(format!("{question} was asked {asked} times, {allowed} at most were needed"));
        }
    }
    match world.build(&mut rng, None)? {
        (_, Some(0)) => Ok(()),
        (_, ran) => Err(format!("a build with nothing to do ran {ran:?}")),
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to try is said by the environment")]
fn seeds() -> u64 {
    std::env::var("PLANEXE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

#[test]
fn builds_that_crash_at_any_step() {
    for seed in 0..seeds() {
        if let Err(error) = run(seed, Careless::default()) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// What would be found if tasks wrote in another order, or did not sync.
#[test]
fn careless_writing_is_found_out() {
    let careful = Careless::default();
    for careless in [
        Careless { outputs_unsynced: true, ..careful },
        Careless { no_doubts: true, ..careful },
        Careless { answer_unsynced: true, ..careful },
        Careless { marker_before_outputs: true, ..careful },
        Careless { status_before_marker: true, ..careful },
        Careless { status_unsynced: true, ..careful },
    ] {
        assert!((0..1000).any(|seed| run(seed, careless).is_err()), "{careless:?} goes unnoticed");
    }
}
