//! What a person wants made anew in the middle of a build, and lanes of which a part is stopped.

use std::time::Duration;

use planexe_base::cancel::Level;
use planexe_engine::graph::{Decl, ForeachDecl, Graph, Item, TaskId};
use planexe_engine::scheduler::{
    Action, AttemptEnd, Engine, Event, Judged, Mode, Options, Reopened, Resolution, TaskInfo, Work,
};
use planexe_engine::slots::Slots;
use support::decl;

mod support;

const NOW: Duration = Duration::ZERO;

fn engine(decls: Vec<Decl>, infos: Vec<TaskInfo>) -> Engine {
    let graph = Graph::build(decls).unwrap_or_else(|_| panic!("a sound graph"));
    let all: Vec<_> = graph.ids().map(|id| (id, None)).collect();
    let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos, Slots::new(&[], &[], 9, 9));
    engine.want(&all);
    engine
}

/// `a`, `b` that reads it, `c` that reads that, and `d` that reads nothing.
fn chain() -> (Engine, [TaskId; 4]) {
    let decls = vec![decl("a", &[]), decl("b", &["a"]), decl("c", &["b"]), decl("d", &[])];
    let engine = engine(decls, Vec::new());
    let ids = ["a", "b", "c", "d"].map(|name| engine.graph().find(name).expect("a task"));
    (engine, ids)
}

/// Judges all stale that is asked about. Which tasks are judged, and which start.
fn turn(engine: &mut Engine) -> (Vec<String>, Vec<String>) {
    let (mut judged, mut started) = (Vec::new(), Vec::new());
    loop {
        let actions = engine.poll(NOW);
        if actions.is_empty() {
            return (judged, started);
        }
        for action in actions {
            match action {
                Action::Judge { task, .. } => {
                    judged.push(engine.graph()[task].name.clone());
                    let work = Work { cpu: true, ..Work::default() };
                    engine.on(Event::Judged(task, Judged::Stale(work)), NOW);
                }
                Action::Expand(id) => {
                    let item =
                        |index| Item { key: format!("k{index}"), index, value: serde_json::Value::Null };
                    engine.on(Event::Expanded(id, Some((0..2).map(item).collect())), NOW);
                }
                Action::Start { task, .. } => started.push(engine.graph()[task].name.clone()),
                _ => {}
            }
        }
    }
}

fn done(engine: &mut Engine, id: TaskId) -> (Vec<String>, Vec<String>) {
    engine.on(Event::Ended(id, AttemptEnd::Done), NOW);
    turn(engine)
}

fn names(names: &[&str]) -> (Vec<String>, Vec<String>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    (names.clone(), names)
}

#[test]
fn a_task_and_all_that_depends_on_it_are_judged_again() {
    let (mut engine, [a, b, c, d]) = chain();
    assert_eq!(turn(&mut engine), names(&["a", "d"]));
    assert_eq!(done(&mut engine, a), names(&["b"]));
    assert_eq!(done(&mut engine, b), names(&["c"]));
    // `c` is at work on what `b` made of the former `a`; `d` has nothing to do with it.
    let reopened = engine.reopen(a).expect("it can be");
    let settled = vec![(a, Resolution::Done), (b, Resolution::Done)];
    assert_eq!(reopened, Reopened { settled, running: vec![c], tasks: vec![a, b, c] });
    assert_eq!(turn(&mut engine), names(&["a"]));
    // However it ends: it is judged again, once what it needs is there.
    assert_eq!(done(&mut engine, c), names(&[]));
    assert_eq!(engine.settled(c), None);
    assert_eq!(done(&mut engine, a), names(&["b"]));
    assert_eq!(done(&mut engine, b), names(&["c"]));
    assert_eq!(done(&mut engine, c), names(&[]));
    assert!(!engine.is_finished());
    assert_eq!(done(&mut engine, d), names(&[]));
    assert!(engine.is_finished());
}

#[test]
fn one_that_is_at_work_itself_begins_anew_when_it_is_ended() {
    let (mut engine, [a, b, c, _]) = chain();
    turn(&mut engine);
    let reopened = engine.reopen(a).expect("it can be");
    assert_eq!(reopened, Reopened { settled: vec![], running: vec![a], tasks: vec![a, b, c] });
    engine.on(Event::Ended(a, AttemptEnd::Rejudge), NOW);
    assert_eq!(turn(&mut engine), names(&["a"]));
    assert_eq!(done(&mut engine, a), names(&["b"]));
}

#[test]
fn an_end_that_was_not_told_yet_is_not_taken_back() {
    for (polled, expected) in [(false, 0), (true, 1)] {
        let (mut engine, [a, ..]) = chain();
        let actions = engine.poll(NOW);
        assert!(actions.contains(&Action::Judge { task: a, shallow: false }));
        engine.on(Event::Judged(a, Judged::Fresh), NOW);
        if polled {
            assert!(engine.poll(NOW).contains(&Action::Settled(a)));
        }
        let reopened = engine.reopen(a).expect("it can be");
        assert_eq!(reopened.settled.len(), expected, "told: {polled}");
        assert_eq!(turn(&mut engine).0, ["a"]);
    }
}

#[test]
fn what_is_not_part_of_the_build_and_what_is_being_stopped_stays() {
    let graph =
        Graph::build(vec![decl("a", &[]), decl("b", &[])]).unwrap_or_else(|_| panic!("a sound graph"));
    let (a, b) = (graph.find("a").expect("a"), graph.find("b").expect("b"));
    let mut engine =
        Engine::new(graph, Mode::Build, Options::default(), Vec::new(), Slots::new(&[], &[], 9, 9));
    engine.want(&[(a, None)]);
    turn(&mut engine);
    assert_eq!(engine.reopen(b), None);
    assert!(engine.reopen(a).is_some());
    engine.on(Event::Cancel(Level::Draining), NOW);
    assert_eq!(engine.reopen(a), None);
}

#[test]
fn of_a_fan_out_one_item_is_made_anew_and_the_others_stay() {
    let review = Decl {
        outputs: vec!["out/{{ key }}".into()],
        foreach: Some(ForeachDecl { source: "list".into(), glob: false, rest: String::new() }),
        ..decl("review", &[])
    };
    let mut engine = engine(vec![review], Vec::new());
    assert_eq!(turn(&mut engine), names(&["review[k0]", "review[k1]"]));
    let [family, k0, k1] =
        ["review", "review[k0]", "review[k1]"].map(|name| engine.graph().find(name).expect("a task"));
    done(&mut engine, k0);
    done(&mut engine, k1);
    assert_eq!(engine.settled(family), Some(Resolution::Done));
    let mut tasks = vec![family, k0];
    tasks.sort();
    let reopened = engine.reopen(k0).expect("it can be");
    assert_eq!(reopened.tasks, tasks);
    assert_eq!((engine.settled(family), engine.settled(k1)), (None, Some(Resolution::Done)));
    assert_eq!(turn(&mut engine), names(&["review[k0]"]));
    done(&mut engine, k0);
    assert_eq!(engine.settled(family), Some(Resolution::Done));
    assert!(engine.is_finished());
}

#[test]
fn of_a_lane_that_is_stopped_nothing_is_merged_and_nothing_failed() {
    let lane = TaskInfo { lane: Some(0), ..TaskInfo::default() };
    let mut engine = engine(vec![decl("a", &[]), decl("b", &[])], vec![lane, lane]);
    let ids = ["a", "b"].map(|name| engine.graph().find(name).expect("a task"));
    let mut mixed = false;
    for _ in 0..9 {
        for action in engine.poll(NOW) {
            match action {
                Action::Judge { task, .. } => {
                    let work = Work { lane: Some(0), ..Work::default() };
                    engine.on(Event::Judged(task, Judged::Stale(work)), NOW);
                }
                Action::Start { task, .. } if task == ids[0] => {
                    let made = AttemptEnd::NextPhase(Work { made: true, ..Work::default() });
                    engine.on(Event::Ended(task, made), NOW);
                }
                Action::Start { task, .. } => engine.on(Event::Ended(task, AttemptEnd::Stopped), NOW),
                Action::Mixed { .. } => mixed = true,
                _ => {}
            }
        }
    }
    assert_eq!(ids.map(|id| engine.settled(id)), [Some(Resolution::Stopped); 2]);
    assert!(!mixed && engine.is_finished());
}
