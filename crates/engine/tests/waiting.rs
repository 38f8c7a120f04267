//! What a ready task waits for, and what lets it go: slots of servers, limits, pauses, servers that are away.

use std::time::Duration;

use planexe_base::call::Usage;
use planexe_base::failure_class::Class;
use planexe_base::limits::{Limits, Start};
use planexe_engine::graph::{Graph, TaskId};
use planexe_engine::scheduler::{
    Action, AttemptEnd, Engine, Event, Judged, Mode, Options, Queue, ServiceIs, TaskInfo, Work,
};
use planexe_engine::slots::{AtOnce, Needs, Share, Slots};
use support::decl;

mod support;

const ZERO: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);
/// A server that takes one call at a time.
const ONE: Limits = Limits { max_concurrent: 1, rpm: None, tpm: None, local: false };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A build of tasks that are all stale; what is given to each is what it takes.
struct Build {
    engine: Engine,
    ids: Vec<TaskId>,
    works: Vec<Work>,
}

impl Build {
    /// Tasks `t0`, `t1` and so on, each with the tasks it reads.
    fn reading(tasks: &[(&[usize], Work)], infos: Vec<TaskInfo>, slots: Slots) -> Build {
        let decl = |(n, (reads, _)): (usize, &(&[usize], Work))| {
            let reads: Vec<String> = reads.iter().map(|n| format!("t{n}")).collect();
            decl(&format!("t{n}"), &reads.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let graph =
            Graph::build(tasks.iter().enumerate().map(decl).collect()).unwrap_or_else(|_| panic!("a graph"));
        let ids: Vec<TaskId> =
            (0..tasks.len()).map(|n| graph.find(&format!("t{n}")).expect("a task")).collect();
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos, slots);
        engine.want(&ids.iter().map(|&id| (id, None)).collect::<Vec<_>>());
        Build { engine, ids, works: tasks.iter().map(|(_, work)| work.clone()).collect() }
    }

    /// Tasks that read nothing.
    fn of(works: Vec<Work>, limits: &[Limits]) -> Build {
        let tasks: Vec<(&[usize], Work)> = works.into_iter().map(|work| (&[][..], work)).collect();
        Build::reading(&tasks, Vec::new(), Slots::new(limits, &[], 9, 99))
    }

    /// The tasks that start now, each with the place in its list of the model it asks.
    fn starts(&mut self, now: Duration) -> Vec<(usize, Option<usize>)> {
        let mut all = Vec::new();
        loop {
            let actions = self.engine.poll(now);
            if actions.is_empty() {
                return all;
            }
            for action in actions {
                match action {
                    Action::Judge { task, .. } => {
                        let work = self.works[self.number(task)].clone();
                        self.engine.on(Event::Judged(task, Judged::Stale(work)), now);
                    }
                    Action::Start { task, endpoint, .. } => all.push((self.number(task), endpoint)),
                    _ => {}
                }
            }
        }
    }

    fn number(&self, id: TaskId) -> usize {
        self.ids.iter().position(|other| *other == id).expect("one of ours")
    }

    fn ends(&mut self, task: usize, end: AttemptEnd, now: Duration) {
        self.engine.on(Event::Ended(self.ids[task], end), now);
    }
}

/// Asks these models, in this order.
fn asks(endpoints: &[usize]) -> Work {
    Work { endpoints: endpoints.to_vec(), tokens: 10, ..Work::default() }
}

fn again(after: Duration, outage: bool) -> AttemptEnd {
    AttemptEnd::Retry { after, endpoint: 0, outage }
}

#[test]
fn a_limit_per_minute_is_waited_for_as_long_as_it_takes() {
    let limits = Limits { max_concurrent: 9, rpm: Some(1), ..ONE };
    let mut build = Build::of(vec![asks(&[0]), asks(&[0])], &[limits]);
    assert_eq!(build.starts(seconds(5)), [(0, Some(0))]);
    assert_eq!(build.engine.queued(), [(build.ids[1], Queue::Slot)]);
    assert_eq!(build.engine.wakeup(seconds(20)), Some(seconds(65)));
    assert_eq!(build.engine.left_alone(build.ids[1], seconds(20)), Some(seconds(45)));
    build.engine.on(Event::Pause(true), seconds(20));
    assert_eq!(build.engine.wakeup(seconds(20)), None, "nothing starts while it is paused");
    build.engine.on(Event::Pause(false), seconds(20));
    assert!(build.starts(seconds(64)).is_empty());
    assert_eq!(build.starts(seconds(65)), [(1, Some(0))]);
}

#[test]
fn a_full_server_is_waited_for_until_a_call_ends() {
    let mut build = Build::of(vec![asks(&[0]), asks(&[0])], &[ONE]);
    assert_eq!(build.starts(ZERO), [(0, Some(0))]);
    assert_eq!(build.engine.wakeup(ZERO), None);
    assert_eq!(build.engine.left_alone(build.ids[1], ZERO), None);
    build.engine.call_ended(build.ids[0], Ok(Usage::default()), None);
    build.ends(0, AttemptEnd::Done, ZERO);
    assert_eq!(build.starts(ZERO), [(1, Some(0))]);
}

#[test]
fn a_pause_ends_by_itself_and_that_for_a_server_that_is_away_when_it_is_up() {
    let works = vec![asks(&[0]), asks(&[0]), asks(&[1]), asks(&[0])];
    let many = Limits { max_concurrent: 9, ..ONE };
    let mut build = Build::of(works, &[many, many]);
    assert_eq!(build.starts(ZERO).len(), 4);
    // Two wait for a server that is away, one of them for another; the third for its own sake.
    build.ends(0, again(seconds(100), true), ZERO);
    build.ends(1, again(seconds(50), false), ZERO);
    build.ends(2, again(seconds(80), true), ZERO);
    assert!(build.starts(ZERO).is_empty());
    let pauses = [0, 1, 2].map(|n| (build.ids[n], Queue::Pause));
    assert_eq!(build.engine.queued(), pauses);
    assert_eq!(build.engine.wakeup(ZERO), Some(seconds(50)));
    build.engine.on(Event::ServerUp(0), seconds(10));
    assert_eq!(build.starts(seconds(10)), [(0, Some(0))]);
    assert_eq!(build.starts(seconds(50)), [(1, Some(0))]);
    // The pause that ended early is forgotten: nobody wakes for it.
    assert_eq!(build.engine.wakeup(seconds(60)), Some(seconds(80)));
    build.ends(0, AttemptEnd::Done, seconds(60));
    assert_eq!(build.starts(seconds(80)), [(2, Some(0))]);
    assert_eq!(build.engine.wakeup(seconds(80)), None);
}

#[test]
fn a_server_that_failed_again_and_again_is_tried_as_soon_as_it_is_up() {
    let mut build = Build::of(vec![asks(&[0])], &[ONE]);
    let mut now = ZERO;
    for _ in 0..3 {
        assert_eq!(build.starts(now), [(0, Some(0))]);
        build.engine.call_ended(build.ids[0], Err(Class::ServerError), None);
        build.ends(0, again(ZERO, false), now);
        now += seconds(1);
    }
    assert!(build.starts(now).is_empty(), "no call passes for a while");
    let until = build.engine.wakeup(now);
    assert!(until.is_some_and(|until| until > now), "{until:?}");
    build.engine.on(Event::ServerUp(0), now);
    assert_eq!(build.starts(now), [(0, Some(0))]);
}

#[test]
fn what_waits_for_a_model_that_takes_no_more_calls_asks_its_next_one() {
    let mut build = Build::of(vec![asks(&[0, 1]), asks(&[0, 1]), asks(&[0])], &[ONE, ONE]);
    assert_eq!(build.starts(ZERO), [(0, Some(0))]);
    build.engine.on(Event::EndpointClosed(0), ZERO);
    // The one that has no other starts without a slot, to say so.
    assert_eq!(build.starts(ZERO), [(1, Some(1)), (2, Some(0))]);
    // The server is up again: it takes calls as before.
    let mut build = Build::of(vec![asks(&[0]), asks(&[0, 1])], &[ONE, ONE]);
    build.engine.on(Event::EndpointClosed(0), ZERO);
    build.engine.on(Event::ServerUp(0), ZERO);
    assert_eq!(build.starts(ZERO), [(0, Some(0))]);
}

#[test]
fn a_parked_model_is_asked_by_none_and_left_for_the_next_one() {
    let mut build = Build::of(vec![asks(&[0]), asks(&[0, 1])], &[ONE, ONE]);
    build.engine.on(Event::Parked(0, HOUR), ZERO);
    assert!(build.engine.is_parked(0) && !build.engine.is_parked(1));
    assert!(build.engine.is_held_long(0, ZERO) && !build.engine.is_held_long(1, ZERO));
    assert_eq!(build.starts(ZERO), [(1, Some(1))]);
    assert_eq!(build.engine.wakeup(ZERO), Some(HOUR));
    assert_eq!(build.engine.left_alone(build.ids[0], ZERO), Some(HOUR));
    // By the clock on the wall it is over.
    build.engine.on(Event::LimitOver(0), seconds(9));
    assert_eq!(build.starts(seconds(9)), [(0, Some(0))]);
}

#[test]
fn a_server_that_breaks_calls_for_a_minute_is_left_for_the_next_one() {
    let mut build = Build::of(vec![asks(&[0]), asks(&[0, 1])], &[ONE, ONE]);
    let (mut now, mut broken) = (ZERO, 0);
    loop {
        let started = build.starts(now);
        if started.contains(&(1, Some(1))) {
            break;
        }
        if started.is_empty() {
            now = build.engine.wakeup(now).expect("a time");
        }
        for (task, at) in started {
            assert_eq!(at, Some(0));
            broken += 1;
            build.engine.call_ended(build.ids[task], Err(Class::ServerError), None);
            build.ends(task, again(ZERO, false), now);
            if build.engine.is_held_long(0, now) {
                assert_eq!(build.engine.left_alone(build.ids[1], now), None, "it asks the other one");
            }
        }
        assert!(broken < 20, "it is left at some time");
    }
    assert!(build.engine.is_held_long(0, now) && now < seconds(200), "{now:?}");
    // Who has no other asks it once a minute.
    let then = build.engine.wakeup(now).expect("a time");
    assert_eq!(then - now, seconds(60));
    assert_eq!(build.starts(then), [(0, Some(0))]);
    build.engine.call_ended(build.ids[0], Ok(Usage::default()), None);
    build.ends(0, AttemptEnd::Done, then);
    assert!(!build.engine.is_held_long(0, then));
}

#[test]
fn a_local_server_that_is_at_work_on_a_call_given_up_is_left_alone() {
    let local = Limits { local: true, max_concurrent: 9, ..ONE };
    let mut build = Build::of(vec![asks(&[0])], &[local]);
    build.starts(ZERO);
    build.engine.call_ended(build.ids[0], Err(Class::Timeout), Some(seconds(100)));
    build.ends(0, again(ZERO, false), ZERO);
    assert!(build.starts(seconds(1)).is_empty());
    assert_eq!(build.engine.wakeup(seconds(1)), Some(seconds(100)));
    build.engine.on(Event::ServerIdle(0), seconds(2));
    assert_eq!(build.starts(seconds(2)), [(0, Some(0))]);
}

#[test]
fn once_an_answer_is_on_disk_its_slot_goes_to_the_best_that_waits() {
    let priority = |priority| TaskInfo { priority, ..TaskInfo::default() };
    for (reader, expected) in [(0, vec![(1, Some(0))]), (9, vec![])] {
        // `t2` reads what `t0` made, and `t1` waits for the same server.
        let tasks: [(&[usize], Work); 3] =
            [(&[], asks(&[0])), (&[], asks(&[0])), (&[0], Work { cpu: true, ..Work::default() })];
        let infos = vec![priority(5), priority(1), priority(reader)];
        let mut build = Build::reading(&tasks, infos, Slots::new(&[ONE], &[], 9, 9));
        assert_eq!(build.starts(ZERO), [(0, Some(0))]);
        build.engine.answered(build.ids[0], Usage::default(), ZERO);
        assert_eq!(build.starts(ZERO), expected, "a reader of priority {reader}");
    }
}

#[test]
fn a_program_that_ended_leaves_its_core_to_a_program_alone() {
    let cpu = || Work { cpu: true, ..Work::default() };
    let elsewhere = || Work { elsewhere: Some(0), ..Work::default() };
    for (other, expected) in [(cpu(), vec![(1, None)]), (elsewhere(), vec![])] {
        let tasks: [(&[usize], Work); 3] = [(&[], cpu()), (&[], other), (&[], elsewhere())];
        let slots = Slots::new(&[], &[], 2, 2).sharing(9, 9, &[1]);
        let infos = [0, 0, 9].map(|priority| TaskInfo { priority, ..TaskInfo::default() }).to_vec();
        let mut build = Build::reading(&tasks, infos, slots);
        assert_eq!(build.starts(ZERO), [(2, None), (0, None)]);
        build.engine.answered(build.ids[0], Usage::default(), ZERO);
        assert_eq!(build.starts(ZERO), expected);
    }
}

#[test]
fn cores_change_while_programs_run() {
    let cpu = || Work { cpu: true, ..Work::default() };
    let tasks: Vec<(&[usize], Work)> = (0..4).map(|_| (&[][..], cpu())).collect();
    let mut build = Build::reading(&tasks, Vec::new(), Slots::new(&[], &[], 1, 3));
    assert_eq!(build.starts(ZERO).len(), 1);
    assert_eq!(build.engine.cores(), (1, 3), "one runs, three would");
    build.engine.set_cores(9);
    assert_eq!(build.starts(ZERO).len(), 2, "no more than three in all");
    assert_eq!((build.engine.cores(), build.engine.at_once()), ((3, 1), AtOnce { cores: 9, all: 3 }));
    build.engine.set_cores(0);
    build.ends(0, AttemptEnd::Done, ZERO);
    assert!(build.starts(ZERO).is_empty(), "one at a time from now on");
    assert_eq!(build.engine.cores(), (2, 1));
}

#[test]
fn the_longer_way_to_the_end_starts_first_and_priority_before_it() {
    let cpu = || Work { cpu: true, ..Work::default() };
    let info = |priority, expected_s| TaskInfo { priority, expected_s, ..TaskInfo::default() };
    let tasks: [(&[usize], Work); 4] = [(&[], cpu()), (&[], cpu()), (&[], cpu()), (&[1], cpu())];
    for (infos, first) in [
        ([info(0, 1.0), info(0, 1.0), info(0, 1.5), info(0, 1.0)], 1),
        ([info(0, 1.0), info(0, 1.0), info(0, 3.5), info(0, 1.0)], 2),
        ([info(1, 1.0), info(0, 1.0), info(0, 3.5), info(0, 1.0)], 0),
        // All alike: in the order of the file.
        ([info(0, 2.0), info(0, 1.0), info(0, 2.0), info(0, 1.0)], 0),
    ] {
        let mut build = Build::reading(&tasks, infos.to_vec(), Slots::new(&[], &[], 1, 9));
        assert_eq!(build.starts(ZERO), [(first, None)]);
    }
}

#[test]
fn what_is_taken_is_given_back() {
    let mut slots = Slots::new(&[ONE], &[1], 2, 3).sharing(1000, 2, &[1]);
    let share = planexe_engine::slots::Share { cpus: 1, memory: 300, gpus: 1 };
    let program = Needs { cpu: true, share, ..Needs::default() };
    let pooled = Needs { pool: Some(0), ..Needs::default() };
    let away = Needs { elsewhere: Some(0), ..Needs::default() };
    let prompt = Needs { endpoint: Some(0), ..Needs::default() };
    for needs in [program, pooled, away, prompt] {
        let others = [program, pooled, away, prompt].into_iter().filter(|other| *other != needs);
        for _ in 0..3 {
            assert!(slots.can_start(needs, 0, ZERO), "{needs:?}");
            slots.take(needs, 0, ZERO);
            assert_eq!(slots.can_start(needs, 0, ZERO), needs == program, "{needs:?}");
            assert!(others.clone().all(|other| slots.can_start(other, 0, ZERO)), "{needs:?}");
            slots.release(needs, Some((Ok(Usage::default()), None)), ZERO);
        }
    }
    // Amounts add up, and all of them come back.
    slots.take(program, 0, ZERO);
    slots.take(program, 0, ZERO);
    assert_eq!(slots.cores_taken(), 2);
    assert!(!slots.can_start(
        Needs { share: planexe_engine::slots::Share { gpus: 1, ..share }, ..Needs::default() },
        0,
        ZERO
    ));
    slots.take(pooled, 0, ZERO);
    assert!(!slots.can_start(away, 0, ZERO), "three in all");
    for needs in [program, program, pooled] {
        slots.release(needs, None, ZERO);
    }
    assert_eq!(slots.cores_taken(), 0);
    let whole = planexe_engine::slots::Share { cpus: 2, memory: 1000, gpus: 2 };
    assert!(slots.can_start(Needs { cpu: true, share: whole, ..Needs::default() }, 0, ZERO));
    for (cores, all, several) in [(1, 9, false), (9, 1, false), (2, 2, true)] {
        assert_eq!(Slots::new(&[], &[], cores, all).are_several(), several);
    }
}

#[test]
fn a_call_of_a_task_s_own_program_takes_a_slot_like_any_other() {
    let mut build = Build::of(vec![asks(&[0])], &[ONE]);
    assert_eq!(build.engine.begin_call(0, 10, ZERO), Start::Ready);
    assert_eq!(build.engine.begin_call(0, 10, ZERO), Start::Full);
    assert!(build.starts(ZERO).is_empty());
    build.engine.end_call(0, (Ok(Usage::default()), None), ZERO);
    assert_eq!(build.starts(ZERO), [(0, Some(0))]);
}

/// A program of this machine with so much memory, and the service it needs.
fn program(memory: u64, service: Option<usize>) -> Work {
    Work { cpu: true, share: Share { cpus: 1, memory, gpus: 0 }, service, ..Work::default() }
}

/// 10 MiB, and two services of which each takes 8; the first is behind the endpoint.
fn served() -> Slots {
    let share = Share { memory: 8, ..Share::default() };
    Slots::new(&[ONE], &[], 9, 99).sharing(10, 1, &[]).serving(&[share, share], vec![Some(0)])
}

#[test]
fn a_service_takes_its_share_from_the_first_task_on_until_it_has_ended() {
    let tasks: [(&[usize], Work); 4] =
        [(&[], asks(&[0])), (&[], program(4, None)), (&[], program(1, Some(0))), (&[], program(1, None))];
    let mut build = Build::reading(&tasks, Vec::new(), served());
    assert_eq!(build.starts(ZERO), [(0, Some(0)), (2, None), (3, None)], "4 MiB are not there");
    assert!(build.engine.is_used(0) && !build.engine.is_used(1));
    build.engine.answered(build.ids[0], Usage::default(), ZERO);
    build.ends(2, AttemptEnd::Done, ZERO);
    build.ends(0, AttemptEnd::Done, ZERO);
    assert!(!build.engine.is_used(0));
    assert!(build.engine.crowding(ZERO).is_empty(), "a task of this machine is at work: its end may do");
    build.ends(3, AttemptEnd::Done, ZERO);
    assert!(build.starts(ZERO).is_empty());
    assert_eq!(build.engine.crowding(ZERO), [0], "else it would wait for ever");
    build.engine.service_is(0, ServiceIs::Ending);
    assert!(build.starts(ZERO).is_empty() && build.engine.crowding(ZERO).is_empty(), "it has not ended");
    build.engine.service_is(0, ServiceIs::Gone);
    assert_eq!(build.starts(ZERO), [(1, None)]);
}

#[test]
fn a_task_never_waits_for_what_its_own_service_takes() {
    // 8 and 4 are more than 10: alone, and without the other service.
    let tasks: [(&[usize], Work); 3] =
        [(&[], program(4, Some(1))), (&[], program(4, Some(1))), (&[1], asks(&[0]))];
    let mut build = Build::reading(&tasks, Vec::new(), served());
    assert_eq!(build.starts(ZERO), [(1, None)], "the longer way first, and the other when that is over");
    build.ends(1, AttemptEnd::Done, ZERO);
    assert_eq!(build.starts(ZERO), [(0, None)], "its own service is up, and does not stand in its way");
    build.ends(0, AttemptEnd::Done, ZERO);
    assert!(build.starts(ZERO).is_empty(), "two services of 8 do not fit into 10");
    assert_eq!(build.engine.crowding(ZERO), [1]);
    build.engine.service_is(1, ServiceIs::Gone);
    assert_eq!(build.starts(ZERO), [(2, Some(0))]);
    // It ends by itself, and the task starts it again: what it takes stays taken.
    build.engine.service_is(0, ServiceIs::Gone);
    assert!(build.engine.is_used(0));
}

#[test]
fn a_service_that_is_used_soon_or_cannot_be_had_is_in_nobodys_way() {
    let tasks: [(&[usize], Work); 2] = [(&[], asks(&[0])), (&[], program(4, None))];
    let mut build = Build::reading(&tasks, Vec::new(), served());
    assert_eq!(build.starts(ZERO), [(0, Some(0))]);
    build.ends(0, again(seconds(5), false), ZERO);
    assert!(build.starts(ZERO).is_empty());
    assert!(build.engine.crowding(ZERO).is_empty(), "its task goes on in five seconds");
    assert_eq!(build.starts(seconds(5)), [(0, Some(0))]);
    build.ends(0, AttemptEnd::Failed, seconds(5));
    build.engine.service_is(0, ServiceIs::Lost);
    assert_eq!(build.starts(seconds(5)), [(1, None)]);
    // Nothing is kept for one that cannot be had.
    let mut slots = served();
    slots.service_lost(0);
    slots.take(Needs { service: Some(0), ..Needs::default() }, 0, ZERO);
    assert!(slots.can_start(Needs { service: Some(1), ..Needs::default() }, 0, ZERO));
    // One that is up without a task of ours takes its share as well.
    let mut slots = served();
    slots.service_up(0);
    assert!(!slots.can_start(Needs { service: Some(1), ..Needs::default() }, 0, ZERO));
}
