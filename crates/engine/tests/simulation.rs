//! The engine, driven over random graphs with a made-up outside: seeded, so that a failure can be
//! run again. `PLANEXE_SEEDS=1000000 cargo test --release -p planexe-engine --test simulation` runs a million.

#![allow(clippy::disallowed_methods, reason = "the number of seeds is read from the environment")]

#[path = "../../../tests/support/random.rs"]
mod random;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use planexe_base::cancel::Level;
use planexe_base::limits::Limits;
use planexe_base::prefix::{Marks, Rules, marks};
use planexe_engine::graph::{Graph, Item, Kind, TaskId, Why};
use planexe_engine::scheduler::{
    Action, AttemptEnd, Engine, Event, Judged, Mode, OnFailure, Options, Resolution, TaskInfo, Work,
};
use planexe_engine::slots::Slots;

use random::{Rng, random_decls};

/// What the made-up outside holds against the engine.
struct World {
    seed: u64,
    running: HashMap<TaskId, Option<usize>>,
    judged: HashSet<TaskId>,
    finished: HashMap<TaskId, u32>,
    /// At work on what is made anew meanwhile.
    outdated: HashSet<TaskId>,
    /// Seconds that some instances took before, by name.
    past: HashMap<String, f64>,
    capacity: Vec<u32>,
    all: u32,
}

impl World {
    /// Everything a task needs must be settled before it is judged, and well.
    fn check_needs(&self, engine: &Engine, id: TaskId) {
        for need in &engine.graph()[id].needs {
            if !engine.is_wanted(need.task) || need.why == Why::Expanded {
                continue;
            }
            let settled = engine.settled(need.task);
            assert!(
                matches!(
                    settled,
                    Some(Resolution::Fresh | Resolution::Done | Resolution::Partial | Resolution::Skipped)
                ),
                "seed {}: {} judged while {} is {settled:?}",
                self.seed,
                engine.graph()[id].name,
                engine.graph()[need.task].name
            );
        }
    }

    fn start(&mut self, engine: &Engine, id: TaskId, endpoint: Option<usize>) {
        assert!(self.judged.contains(&id), "seed {}: started unjudged", self.seed);
        assert!(self.running.insert(id, endpoint).is_none(), "seed {}: {} runs twice", self.seed, id.index());
        assert!(self.running.len() as u32 <= self.all, "seed {}: more than -j at once", self.seed);
        if let Some(endpoint) = endpoint {
            let taken = self.running.values().filter(|held| **held == Some(endpoint)).count() as u32;
            assert!(taken <= self.capacity[endpoint], "seed {}: endpoint overbooked", self.seed);
        }
        let _ = engine;
    }

    /// Durations are better known: a path is as long as its first task and the longest that follows, a fan-out
    /// as long as one instance to what is before it.
    fn learn(&self, engine: &mut Engine, rng: &mut Rng) {
        let paths =
            |engine: &Engine| -> Vec<f64> { engine.graph().ids().map(|id| engine.remaining_s(id)).collect() };
        let before = paths(engine);
        engine.expect(|_, expected| expected);
        assert_eq!(before, paths(engine), "seed {}: to learn nothing changes nothing", self.seed);
        let mean = 1.0 + rng.below(9) as f64;
        engine.expect(|decl, expected| if decl % 2 == 0 { mean } else { expected });
        let left = |id: TaskId| engine.remaining_s(id);
        for id in engine.graph().ids() {
            let task = &engine.graph()[id];
            let path = match task.kind {
                Kind::Instance { family } => {
                    let usual = engine.expected_s(family);
                    let own = *self.past.get(&task.name).unwrap_or(&usual);
                    assert_eq!(engine.expected_s(id), own, "seed {}: {}", self.seed, task.name);
                    let next = task.waiters.iter().find(|need| need.why == Why::Previous);
                    own + next.map_or(left(family) - usual, |next| left(next.task))
                }
                _ => {
                    let declared = |id: &TaskId| !matches!(engine.graph()[*id].kind, Kind::Instance { .. });
                    let readers = task.readers.iter().copied().filter(declared);
                    readers.map(left).fold(0.0, f64::max) + engine.expected_s(id)
                }
            };
            assert!(
                (left(id) - path).abs() < 1e-9,
                "seed {}: {}: {} left, wanted {path}",
                self.seed,
                task.name,
                left(id)
            );
        }
    }

    /// Somebody wants a task made anew: it and what depends on it is judged again, once more each.
    fn retry(&mut self, engine: &mut Engine, id: TaskId, rng: &mut Rng, now: Duration) {
        let one = matches!(engine.graph()[id].kind, Kind::Single | Kind::Instance { .. });
        let Some(reopened) = one.then(|| engine.reopen(id)).flatten() else { return };
        assert!(reopened.tasks.contains(&id), "seed {}", self.seed);
        for &task in &reopened.tasks {
            if reopened.running.contains(&task) {
                assert!(self.running.contains_key(&task), "seed {}: at work and not known", self.seed);
                self.outdated.insert(task);
                // Ended at once, or on its way to its end.
                if task == id || rng.chance(50) {
                    self.outdated.remove(&task);
                    self.judged.remove(&task);
                    self.running.remove(&task);
                    engine.on(Event::Ended(task, AttemptEnd::Rejudge), now);
                }
            } else {
                self.judged.remove(&task);
                self.finished.remove(&task);
            }
        }
        // Open again, but for what something else holds back.
        for &(task, _) in &reopened.settled {
            let now = engine.settled(task);
            assert!(
                matches!(now, None | Some(Resolution::Blocked | Resolution::Skipped))
                    || matches!(engine.graph()[task].kind, Kind::Family | Kind::Group),
                "seed {}: {} is {now:?} after {} was opened again",
                self.seed,
                engine.graph()[task].name,
                engine.graph()[id].name
            );
        }
    }
}

/// Marks of a prompt that begins like some others.
fn some_marks(rng: &mut Rng) -> Marks {
    let shared = ["a plan and its course\n", "another plan, and a longer one\n"][rng.below(2) as usize];
    marks(b"", "", &format!("{}{}", shared.repeat(150), rng.below(9)))
}

/// One build over a random graph with random ends; checks what must hold at every step.
fn run(seed: u64) {
    let mut rng = Rng(seed);
    let graph = Graph::build(random_decls(&mut rng)).expect("acyclic by construction");
    let capacity = vec![1 + rng.below(3) as u32, 1 + rng.below(2) as u32];
    let all = 1 + rng.below(6) as u32;
    let on_failure = [OnFailure::KeepGoing, OnFailure::FailFast, OnFailure::StopAll][rng.below(3) as usize];
    let infos: Vec<TaskInfo> = graph
        .ids()
        .map(|_| TaskInfo {
            lane: None,
            priority: rng.below(2) as i32,
            min_success: if rng.chance(30) { [0.0, 0.5][rng.below(2) as usize] } else { 1.0 },
            expected_s: 1.0 + rng.below(9) as f64,
        })
        .collect();
    let limits: Vec<Limits> = capacity
        .iter()
        .map(|&max_concurrent| Limits { max_concurrent, rpm: None, tpm: None, local: false })
        .collect();
    let slots = Slots::new(&limits, &[], 2, all);
    let targets: Vec<_> = graph.ids().map(|id| (id, None)).collect();
    let mut past = HashMap::new();
    for task in graph.ids().map(|id| &graph[id]).filter(|task| task.kind == Kind::Family) {
        for key in 0..rng.below(5) {
            past.insert(format!("{}[k{key}]", task.name), 1.0 + rng.below(20) as f64);
        }
    }
    let mut engine = Engine::new(graph, Mode::Build, Options { on_failure, only: false }, infos, slots);
    engine.know(past.clone());
    let lifetime = Duration::from_secs(rng.below(9));
    let caches = [Some(4), None].map(|markers| {
        rng.chance(70).then_some(Rules { markers, min_tokens: 64, lifetime, one_slot: lifetime.is_zero() })
    });
    engine.know_caches(&caches);
    engine.want(&targets);
    let mut world = World {
        seed,
        running: HashMap::new(),
        judged: HashSet::new(),
        finished: HashMap::new(),
        outdated: HashSet::new(),
        past,
        capacity,
        all,
    };
    let fail_percent = rng.below(3) * 10;
    let mut retries = if rng.chance(50) { rng.below(4) } else { 0 };
    let mut now = Duration::ZERO;
    let mut cancelled = false;
    let mut steps = 0;
    while !engine.is_finished() {
        steps += 1;
        assert!(steps < 100_000, "seed {seed}: the build does not end");
        if rng.chance(2) {
            world.learn(&mut engine, &mut rng);
        }
        for action in engine.poll(now) {
            match action {
                Action::Judge { task, .. } => {
                    world.check_needs(&engine, task);
                    assert!(world.judged.insert(task), "seed {seed}: judged twice");
                    let judged = match rng.below(10) {
                        0..3 => Judged::Fresh,
                        3 => Judged::Skipped,
                        4 => Judged::Stale(Work { cpu: true, ..Work::default() }),
                        _ => Judged::Stale(Work {
                            endpoints: vec![0, 1],
                            marks: some_marks(&mut rng),
                            ..Work::default()
                        }),
                    };
                    engine.on(Event::Judged(task, judged), now);
                }
                Action::Expand(family) => {
                    let items = (0..rng.below(5) as usize)
                        .map(|index| Item { key: format!("k{index}"), index, value: serde_json::Value::Null })
                        .collect();
                    // Families over one list see one list.
                    let known = engine.graph()[family].needs.iter().find_map(|need| {
                        let peer = engine.graph().instances(need.task);
                        (need.why == Why::Expanded).then(|| {
                            peer.iter()
                                .filter_map(|&id| engine.graph()[id].item.as_deref().cloned())
                                .collect()
                        })
                    });
                    engine.on(Event::Expanded(family, Some(known.unwrap_or(items))), now);
                }
                Action::Start { task, endpoint, .. } => {
                    world.start(&engine, task, endpoint.map(|at| [0, 1][at]));
                }
                Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => {}
            }
        }
        if !cancelled && rng.chance(1) && rng.chance(30) {
            cancelled = true;
            engine.on(Event::Cancel(Level::Draining), now);
        }
        let mut ids: Vec<TaskId> = world.running.keys().copied().collect();
        ids.sort();
        if ids.is_empty() {
            if let Some(wakeup) = engine.wakeup(now) {
                now = now.max(wakeup);
            }
            continue;
        }
        let id = ids[rng.below(ids.len() as u64) as usize];
        if rng.chance(30) {
            engine.first_token(id, now);
        }
        if world.running[&id].is_some() && rng.chance(30) {
            // Its answer is on disk, and others may ask while it goes on.
            engine.answered(id, planexe_base::call::Usage::default(), now);
            world.running.insert(id, None);
            continue;
        }
        world.running.remove(&id);
        now += Duration::from_millis(rng.below(1000));
        let end = match rng.below(100) {
            n if n < fail_percent => AttemptEnd::Failed,
            n if n < fail_percent + 10 => AttemptEnd::Retry {
                after: Duration::from_millis(rng.below(2) * 500),
                endpoint: rng.below(2) as usize,
                outage: rng.below(2) == 0,
            },
            n if n < fail_percent + 12 => AttemptEnd::Waiting,
            // What it made is evaluated, or made again.
            n if n < fail_percent + 22 => AttemptEnd::NextPhase(Work {
                endpoints: vec![0, 1],
                first: rng.below(2) as usize,
                ..Work::default()
            }),
            _ => AttemptEnd::Done,
        };
        // However the attempt ends, it was for what is no more.
        if world.outdated.remove(&id) {
            world.judged.remove(&id);
        } else if end == AttemptEnd::Done {
            *world.finished.entry(id).or_default() += 1;
            assert_eq!(world.finished[&id], 1, "seed {seed}: done twice");
        }
        engine.on(Event::Ended(id, end), now);
        if retries > 0 && rng.chance(10) {
            retries -= 1;
            let ids: Vec<TaskId> = engine.graph().ids().collect();
            world.retry(&mut engine, ids[rng.below(ids.len() as u64) as usize], &mut rng, now);
        }
    }
    assert!(world.running.is_empty(), "seed {seed}: ended with tasks running");
    if !cancelled && on_failure == OnFailure::KeepGoing {
        check_all_settled(&engine, seed);
    }
}

/// With nothing cancelled, what is not settled must wait for a person somewhere upstream.
fn check_all_settled(engine: &Engine, seed: u64) {
    let graph = engine.graph();
    let waiting: Vec<TaskId> =
        graph.ids().filter(|&id| engine.settled(id) == Some(Resolution::Waiting)).collect();
    let mut excused = graph.downstream(&waiting);
    for id in graph.ids() {
        if let (Kind::Instance { family }, true) = (graph[id].kind, excused[id.index()]) {
            excused[family.index()] = true;
        }
    }
    for id in graph.ids() {
        let name = &graph[id].name;
        assert!(
            engine.settled(id).is_some() || excused[id.index()],
            "seed {seed}: {name} ({:?}) was never settled",
            graph[id].kind
        );
        if engine.settled(id) == Some(Resolution::Blocked) && graph[id].kind == Kind::Single {
            let blamed = graph[id].needs.iter().any(|need| {
                matches!(engine.settled(need.task), Some(Resolution::Failed | Resolution::Blocked))
            });
            assert!(blamed, "seed {seed}: {name} is blocked by nothing");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long to try is said by the environment")]
fn builds_over_random_graphs() {
    let seeds: u64 = std::env::var("PLANEXE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let from: u64 = std::env::var("FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in from..seeds {
        run(seed);
    }
}

/// The order in which the instances of a fan-out start, one at a time, given what is known of the past.
fn order_of_items(sizes: &[usize], past: &[(&str, f64)]) -> Vec<String> {
    let decl = planexe_engine::graph::Decl {
        name: "review".into(),
        recipe: true,
        outputs: vec!["out/{{ key }}".into()],
        foreach: Some(planexe_engine::graph::ForeachDecl {
            source: "list".into(),
            glob: false,
            rest: String::new(),
        }),
        ..Default::default()
    };
    let graph = Graph::build(vec![decl]).expect("a graph");
    let family = graph.find("review").expect("the task");
    let slots = Slots::new(&[], &[], 1, 1);
    let mut engine = Engine::new(graph, Mode::Build, Options::default(), Vec::new(), slots);
    engine.know(past.iter().map(|&(name, seconds)| (name.to_owned(), seconds)).collect());
    engine.want(&[(family, None)]);
    let mut order = Vec::new();
    while !engine.is_finished() {
        for action in engine.poll(Duration::ZERO) {
            let event = match action {
                Action::Expand(id) => {
                    let item = |(index, size): (usize, &usize)| Item {
                        key: format!("k{index}"),
                        index,
                        value: "x".repeat(*size).into(),
                    };
                    Event::Expanded(id, Some(sizes.iter().enumerate().map(item).collect()))
                }
                Action::Judge { task, .. } => {
                    Event::Judged(task, Judged::Stale(Work { cpu: true, ..Work::default() }))
                }
                Action::Start { task, .. } => {
                    order.push(engine.graph()[task].item.as_ref().expect("an item").key.clone());
                    Event::Ended(task, AttemptEnd::Done)
                }
                Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => continue,
            };
            engine.on(event, Duration::ZERO);
        }
    }
    order
}

#[test]
fn the_longest_of_a_fan_out_starts_first() {
    // Nothing is known: in order.
    assert_eq!(order_of_items(&[1, 2, 3], &[]), ["k0", "k1", "k2"]);
    // By what each took before.
    let past = [("review[k0]", 2.0), ("review[k1]", 9.0), ("review[k2]", 4.0)];
    assert_eq!(order_of_items(&[3, 1, 2], &past), ["k1", "k2", "k0"]);
    // New ones by the size of their items: of the line through 10 -> 1 s, 20 -> 2 s, 30 -> 3 s.
    let past = [("review[k0]", 1.0), ("review[k1]", 2.0), ("review[k2]", 3.0)];
    assert_eq!(order_of_items(&[10, 20, 30, 25, 100], &past), ["k4", "k2", "k3", "k1", "k0"]);
}

#[test]
fn the_slot_of_a_program_that_ended_is_free_while_its_records_are_written() {
    let started = |jobs: u32, names: &[&str]| {
        let decl = |name: &&str| planexe_engine::graph::Decl {
            name: (*name).to_owned(),
            recipe: true,
            outputs: vec![format!("{name}.txt")],
            ..Default::default()
        };
        let graph = Graph::build(names.iter().map(decl).collect()).expect("a graph");
        let all: Vec<_> = graph.ids().map(|id| (id, None)).collect();
        let slots = Slots::new(&[], &[], jobs, u32::MAX);
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), Vec::new(), slots);
        engine.want(&all);
        let mut started = Vec::new();
        for _ in 0..100 {
            for action in engine.poll(Duration::ZERO) {
                match action {
                    Action::Judge { task, .. } => {
                        let stale = Judged::Stale(Work { cpu: true, ..Work::default() });
                        engine.on(Event::Judged(task, stale), Duration::ZERO);
                    }
                    Action::Start { task, .. } => {
                        started.push(engine.graph()[task].name.clone());
                        // Its program ends, and its records are never written.
                        engine.answered(task, planexe_base::call::Usage::default(), Duration::ZERO);
                    }
                    _ => {}
                }
            }
        }
        started
    };
    assert_eq!(started(2, &["a", "b", "c", "d"]).len(), 4);
    // With one slot it is one after the other.
    assert_eq!(started(1, &["a", "b", "c", "d"]).len(), 1);
}

/// A failure that a fan-out can do without stops nothing, after somebody wanted another task made anew either.
#[test]
fn to_make_a_task_anew_does_not_make_an_absorbed_failure_count() {
    let decl = |name: &str| planexe_engine::graph::Decl {
        name: name.to_owned(),
        recipe: true,
        outputs: vec![format!("{name}.txt")],
        ..Default::default()
    };
    let review = planexe_engine::graph::Decl {
        outputs: vec!["out/{{ key }}".into()],
        foreach: Some(planexe_engine::graph::ForeachDecl {
            source: "list".into(),
            glob: false,
            rest: String::new(),
        }),
        ..decl("review")
    };
    let graph = Graph::build(vec![review, decl("a"), decl("b")]).expect("a graph");
    let all: Vec<_> = graph.ids().map(|id| (id, None)).collect();
    let (a, b) = (graph.find("a").expect("a"), graph.find("b").expect("b"));
    let options = Options { on_failure: OnFailure::FailFast, ..Options::default() };
    let infos = [0.5, 1.0, 1.0].map(|min_success| TaskInfo { min_success, ..TaskInfo::default() });
    let mut engine =
        Engine::new(graph, Mode::Build, options, infos.to_vec(), Slots::new(&[], &[], 9, u32::MAX));
    engine.want(&all);
    let mut started = Vec::new();
    let mut turn = |engine: &mut Engine| {
        for action in engine.poll(Duration::ZERO) {
            let event = match action {
                Action::Expand(id) => {
                    let item =
                        |index| Item { key: format!("k{index}"), index, value: serde_json::Value::Null };
                    Event::Expanded(id, Some((0..2).map(item).collect()))
                }
                Action::Judge { task, .. } => {
                    Event::Judged(task, Judged::Stale(Work { cpu: true, ..Work::default() }))
                }
                Action::Start { task, .. } => {
                    started.push(task);
                    let end = if engine.graph()[task].name == "review[k1]" {
                        AttemptEnd::Failed
                    } else {
                        AttemptEnd::Done
                    };
                    // `b` goes on and on.
                    if task == b {
                        continue;
                    }
                    Event::Ended(task, end)
                }
                Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => continue,
            };
            engine.on(event, Duration::ZERO);
        }
        started.iter().filter(|task| **task == a).count()
    };
    while turn(&mut engine) == 0 {}
    for _ in 0..10 {
        turn(&mut engine);
    }
    assert!(engine.reopen(a).is_some());
    for _ in 0..10 {
        turn(&mut engine);
    }
    assert_eq!(turn(&mut engine), 2, "it is not made anew");
}
