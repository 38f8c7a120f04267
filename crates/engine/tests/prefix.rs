//! Builds against a made-up server with a cache of prompts, in made-up time: what is read from the cache, what is paid, and
//! how long it takes, with and without a leader that goes ahead. Seeded, so that a failure can be run again.

#[path = "../../../tests/support/random.rs"]
#[expect(dead_code, reason = "only its numbers are used here")]
mod random;

use std::collections::HashMap;
use std::time::Duration;

use planexe_base::call::Usage;
use planexe_base::limits::Limits;
use planexe_base::prefix::{Marks, Rules, marks};
use planexe_engine::graph::{Decl, Graph, Input, TaskId};
use planexe_engine::scheduler::{Action, AttemptEnd, Engine, Event, Judged, Mode, Options, TaskInfo, Work};
use planexe_engine::slots::Slots;

use random::Rng;

/// Bytes of a token.
const TOKEN: u64 = 4;

/// One task: the shared texts its prompt begins with, and the seconds its answer takes to be written.
struct Task {
    stage: usize,
    marks: Marks,
    bytes: u64,
    writes: f64,
}

/// What a build came to.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    seconds: f64,
    tokens: f64,
    read: f64,
    /// In tokens at the full price.
    bill: f64,
}

/// Some words, the same for the same seed.
fn text(seed: u64, bytes: usize) -> String {
    let mut rng = Rng(seed + 1);
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(["plan ", "of the ", "halls\n", "soil, ", "money "][rng.below(5) as usize]);
        text.push_str(&rng.below(1000).to_string());
    }
    text
}

/// Stages of tasks, each stage with a longer beginning in common.
fn tasks(rng: &mut Rng) -> (Vec<Task>, Vec<Decl>) {
    let (mut tasks, mut decls) = (Vec::new(), Vec::new());
    let mut shared = text(rng.below(1 << 40), 1000 + rng.below(4000) as usize);
    for stage in 0..2 + rng.below(4) as usize {
        for n in 0..1 + rng.below(24) {
            let prompt = format!("{shared}\nItem {n}: {}", text(rng.below(1 << 40), 400));
            tasks.push(Task {
                stage,
                marks: marks(b"", "", &prompt),
                bytes: prompt.len() as u64,
                writes: 4.0 + rng.below(16) as f64,
            });
            let all = |stage: usize| Input {
                name: format!("{stage}/*.json"),
                pattern: format!("{stage}/*.json"),
                glob: true,
                optional: false,
            };
            decls.push(Decl {
                name: format!("t{}", tasks.len()),
                recipe: true,
                inputs: if stage == 0 { Vec::new() } else { vec![all(stage - 1)] },
                outputs: vec![format!("{stage}/{n}.json")],
                ..Decl::default()
            });
        }
        shared.push_str(&text(rng.below(1 << 40), 2000 + rng.below(20_000) as usize));
    }
    (tasks, decls)
}

/// What of a prompt can be read, by rules of two kinds.
struct Server {
    rules: Rules,
    kept: HashMap<(u64, Vec<u32>), f64>,
}

impl Server {
    /// The beginnings of a prompt that are kept of it: each with its length.
    fn places(&self, task: &Task, cuts: &[u32]) -> Vec<(u64, Vec<u32>, u64)> {
        let long = |at: u32| u64::from(at) >= self.rules.min_tokens * TOKEN;
        let marks = task.marks.iter().filter(|mark| long(mark.at));
        match self.rules.markers {
            None => marks.map(|mark| (mark.digest, Vec::new(), u64::from(mark.at))).collect(),
            Some(_) => {
                let before = |at: u32| cuts.iter().copied().filter(|cut| *cut <= at).collect();
                let cut = marks.filter(|mark| cuts.contains(&mark.at));
                cut.map(|mark| (mark.digest, before(mark.at), u64::from(mark.at))).collect()
            }
        }
    }

    fn read(&self, task: &Task, cuts: &[u32], now: f64) -> u64 {
        let kept = |(digest, cuts, _): &&(u64, Vec<u32>, u64)| {
            self.kept
                .get(&(*digest, cuts.clone()))
                .is_some_and(|from| *from <= now && now < from + self.rules.lifetime.as_secs_f64())
        };
        self.places(task, cuts).iter().filter(kept).map(|place| place.2).max().unwrap_or(0)
    }
}

fn build(tasks: &[Task], decls: &[Decl], rules: Rules, at_once: u32, leads: bool) -> Sum {
    let graph = Graph::build(decls.to_vec()).expect("acyclic by construction");
    let limits = Limits { max_concurrent: at_once, rpm: None, tpm: None, local: false };
    let slots = Slots::new(&[limits], &[], 2, 99);
    let infos = vec![TaskInfo::default(); graph.len()];
    let targets: Vec<_> = graph.ids().map(|id| (id, None)).collect();
    let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos, slots);
    if leads {
        engine.know_caches(&[Some(rules)]);
    }
    engine.want(&targets);
    let mut server = Server { rules, kept: HashMap::new() };
    let mut sum = Sum::default();
    let mut running: Vec<(TaskId, f64, f64)> = Vec::new();
    let mut now = 0.0;
    while !engine.is_finished() {
        let actions = engine.poll(Duration::from_secs_f64(now));
        let idle = actions.is_empty();
        for action in actions {
            match action {
                Action::Judge { task, .. } => {
                    let marks = tasks[task.index()].marks.clone();
                    let work = Work { endpoints: vec![0], marks, ..Work::default() };
                    engine.on(Event::Judged(task, Judged::Stale(work)), Duration::from_secs_f64(now));
                }
                Action::Start { task: id, .. } => {
                    let task = &tasks[id.index()];
                    let cuts = engine.division(id).cuts.clone();
                    let read = server.read(task, &cuts, now);
                    let new = (task.bytes - read) as f64 / TOKEN as f64;
                    let first = now + 0.3 + new / 5000.0;
                    let mut written = 0.0;
                    for (digest, cuts, at) in server.places(task, &cuts) {
                        if rules.markers.is_some() && at > read {
                            written = (at - read) as f64 / TOKEN as f64;
                        }
                        let from = server.kept.entry((digest, cuts)).or_insert(first);
                        *from = if *from <= now { now } else { from.min(first) };
                    }
                    sum.tokens += task.bytes as f64 / TOKEN as f64;
                    sum.read += read as f64 / TOKEN as f64;
                    sum.bill += 0.1 * read as f64 / TOKEN as f64 + new + 0.25 * written;
                    running.push((id, first, first + task.writes));
                }
                _ => {}
            }
        }
        if !idle {
            continue;
        }
        let next = running.iter().map(|(_, first, end)| if *first > now { *first } else { *end });
        let next = next.fold(f64::INFINITY, f64::min);
        let wakeup = engine.wakeup(Duration::from_secs_f64(now)).map_or(f64::INFINITY, |at| at.as_secs_f64());
        // A wake-up is rounded, time goes on in any case.
        let then = next.min(wakeup.max(now + 1e-6));
        if then.is_infinite() {
            assert!(engine.is_finished(), "the build does not end");
            break;
        }
        now = then;
        let at = Duration::from_secs_f64(now);
        for (id, first, _) in &running {
            if *first <= now {
                engine.first_token(*id, at);
            }
        }
        let ended = running.extract_if(.., |(_, _, end)| *end <= now).map(|(id, ..)| id).collect::<Vec<_>>();
        for id in ended {
            engine.call_ended(id, Ok(Usage::default()), None);
            engine.on(Event::Ended(id, AttemptEnd::Done), at);
        }
    }
    sum.seconds = now;
    sum
}

#[test]
fn a_leader_goes_ahead_and_costs_no_time() {
    for markers in [Some(4), None] {
        let rules = Rules { markers, min_tokens: 1024, lifetime: Duration::from_secs(300), one_slot: false };
        let (mut with, mut without, mut possible) = (Sum::default(), Sum::default(), 0.0);
        for seed in 0..30 {
            let mut rng = Rng(seed);
            let (tasks, decls) = tasks(&mut rng);
            let at_once = [1, 2, 4, 8, 16, 64][rng.below(6) as usize];
            let one = build(&tasks, &decls, rules, at_once, true);
            let other = build(&tasks, &decls, rules, at_once, false);
            assert!(one.tokens == other.tokens && one.bill <= one.tokens * 1.25, "seed {seed}: {one:?}");
            assert!(one.seconds <= other.seconds * 1.15 + 1.0, "seed {seed}: {one:?} {other:?}");
            for (sum, one) in [(&mut with, one), (&mut without, other)] {
                sum.seconds += one.seconds;
                sum.tokens += one.tokens;
                sum.read += one.read;
                sum.bill += one.bill;
            }
            // All that a prompt has in common with one before it in its stage.
            let mut last = None;
            for task in &tasks {
                let first = last.replace(task.stage) != Some(task.stage);
                let alike = |other: &Task| {
                    other.marks.iter().zip(task.marks.iter()).take_while(|(a, b)| a == b).count()
                };
                let longest =
                    tasks.iter().filter(|it| !std::ptr::eq(*it, task)).map(alike).max().unwrap_or(0);
                if !first && longest > 0 && task.marks[longest - 1].at >= 4096 {
                    possible += f64::from(task.marks[longest - 1].at) / TOKEN as f64;
                }
            }
        }
        println!("{markers:?}: with {with:?}, without {without:?}, possible {possible:.0}");
        assert!(with.seconds <= without.seconds * 1.03, "{with:?} {without:?}");
        assert!(with.read >= possible * 0.97, "{with:?} of {possible}");
        assert!(
            with.bill < without.bill * if markers.is_some() { 0.35 } else { 0.8 },
            "{with:?} {without:?}"
        );
    }
}

#[test]
fn who_would_follow_a_call_that_fails_starts_at_once() {
    let rules =
        Rules { markers: Some(4), min_tokens: 1024, lifetime: Duration::from_secs(300), one_slot: false };
    let shared = text(3, 12_000);
    let of = |n: u64| Work {
        endpoints: vec![0],
        marks: marks(b"", "", &format!("{shared}\n{}", text(n + 50, 500))),
        ..Work::default()
    };
    let decl = |n: u64| Decl {
        name: format!("t{n}"),
        recipe: true,
        outputs: vec![format!("{n}")],
        ..Decl::default()
    };
    let graph = Graph::build((0..3).map(decl).collect()).expect("no edges");
    let limits = Limits { max_concurrent: 8, rpm: None, tpm: None, local: false };
    let slots = Slots::new(&[limits], &[], 2, 99);
    let ids: Vec<TaskId> = graph.ids().collect();
    let infos = vec![TaskInfo::default(); 3];
    let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos, slots);
    engine.know_caches(&[Some(rules)]);
    engine.want(&ids.iter().map(|id| (*id, None)).collect::<Vec<_>>());
    let at = Duration::from_millis;
    assert_eq!(engine.poll(at(0)).len(), 3, "all are judged");
    for (n, id) in ids.iter().enumerate() {
        engine.on(Event::Judged(*id, Judged::Stale(of(n as u64))), at(0));
    }
    let started = |engine: &mut Engine, now| {
        let starts = engine.poll(now).into_iter();
        starts
            .filter_map(|it| if let Action::Start { task, .. } = it { Some(task) } else { None })
            .collect::<Vec<_>>()
    };
    assert_eq!(started(&mut engine, at(0)), [ids[0]]);
    assert_eq!(engine.leading(), (&ids[..1], true));
    assert!(!engine.is_finished() && engine.queued().len() == 2);
    let until = engine.wakeup(at(0)).expect("they do not wait for ever");
    assert!(until > at(1000) && until < at(5000), "{until:?}");
    engine.on(Event::Ended(ids[0], AttemptEnd::Failed), at(100));
    assert_eq!(started(&mut engine, at(100)), [ids[1]], "the next one leads");
    engine.first_token(ids[1], at(200));
    assert_eq!(started(&mut engine, at(200)), [ids[2]]);
    assert!(engine.division(ids[2]).cuts.len() == 1 && engine.leading() == (&[][..], false));
    // Nothing of it holds on to an endpoint that is closed, or to a server that takes too long.
    for (n, id) in [(0, ids[1]), (1, ids[2])] {
        engine.on(Event::Ended(id, AttemptEnd::Done), at(300 + n));
    }
    assert!(engine.poll(at(400)).iter().all(|it| matches!(it, Action::Settled(_))) && engine.is_finished());
}

#[test]
fn a_server_with_one_slot_is_asked_what_goes_on_from_there() {
    let rules = Rules { markers: None, min_tokens: 0, lifetime: Duration::ZERO, one_slot: true };
    let shared = [text(3, 9_000), text(4, 12_000)];
    let marks_of = |n: u64| marks(b"", "", &format!("{}\n{}", shared[n as usize % 2], text(n + 50, 500)));
    let decl = |n: u64| Decl {
        name: format!("t{n}"),
        recipe: true,
        outputs: vec![format!("{n}")],
        ..Decl::default()
    };
    let (mut orders, now) = (Vec::new(), Duration::ZERO);
    for urgent in [None, Some(3)] {
        let graph = Graph::build((0..8).map(decl).collect()).expect("no edges");
        let limits = Limits { max_concurrent: 1, rpm: None, tpm: None, local: true };
        let slots = Slots::new(&[limits], &[], 2, 99);
        let infos =
            (0..8).map(|n| TaskInfo { priority: i32::from(urgent == Some(n)), ..TaskInfo::default() });
        let targets: Vec<_> = graph.ids().map(|id| (id, None)).collect();
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos.collect(), slots);
        engine.know_caches(&[Some(rules)]);
        engine.want(&targets);
        let mut order = Vec::new();
        while !engine.is_finished() {
            for action in engine.poll(now) {
                match action {
                    Action::Judge { task, .. } => {
                        let marks = marks_of(task.index() as u64);
                        let work = Work { endpoints: vec![0], marks, ..Work::default() };
                        engine.on(Event::Judged(task, Judged::Stale(work)), now);
                    }
                    Action::Start { task, .. } => {
                        order.push(task.index());
                        engine.call_ended(task, Ok(Usage::default()), None);
                        engine.on(Event::Ended(task, AttemptEnd::Done), now);
                    }
                    _ => {}
                }
            }
        }
        orders.push(order);
    }
    assert_eq!(orders[0], [0, 2, 4, 6, 1, 3, 5, 7], "the other text is read once");
    assert_eq!(orders[1], [3, 1, 5, 7, 0, 2, 4, 6], "what has priority comes first all the same");
}
