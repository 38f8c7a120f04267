//! Crashes, signals and damage: whatever happened, the next plain build ends in the outputs of an
//! undisturbed run and repeats at most the calls that were under way.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Answer, CHAIN, FakeLlm, Fifo, Space, counts, space, until};

/// What an undisturbed run makes.
fn undisturbed(server: &FakeLlm, tasks: &str) -> BTreeMap<String, Vec<u8>> {
    let space = space(server, tasks);
    space.build();
    space.tree()
}

/// Appends to a file of the run.
pub(crate) fn append(space: &Space, path: &str, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(space.path(path)).expect(path);
    file.write_all(bytes).expect(path);
}

/// Changes one member of a JSON file.
pub(crate) fn set(space: &Space, path: &str, member: &str, value: Value) {
    let mut all = space.json(path);
    all[member] = value;
    space.write(path, format!("{all:#}\n"));
}

/// Waits until no process has this id (a dead one nobody has reaped counts as gone).
#[track_caller]
pub fn wait_until_gone(pid: &str) {
    until("the child to be gone", || {
        let state =
            std::process::Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().expect("ps");
        let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
        (state.is_empty() || state.starts_with('Z')).then_some(())
    });
}

// ---- kill -9

#[test]
fn killed_while_a_call_is_open() {
    let server = FakeLlm::new();
    let whole = undisturbed(&server, CHAIN);
    for task in ["a", "b", "c"] {
        let space = space(&server, CHAIN);
        let before = server.counts();
        server.hold(task);
        let build = space.spawn(&["build"]);
        server.wait_for_calls(task, before[task] + 1);
        build.kill9();
        assert!(!space.is_done(&format!("{task}.txt")));
        assert_eq!(space.state(task), "stopped", "its owner is gone");
        server.release(task);
        space.build();
        let mut expected: BTreeMap<String, usize> =
            before.into_iter().map(|(task, n)| (task, n + 1)).collect();
        *expected.get_mut(task).expect("a task") += 1;
        assert_eq!(server.counts(), expected, "only the call under way is repeated");
        assert_eq!(space.tree(), whole, "{task}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn killed_in_the_middle_of_an_answer() {
    let server = FakeLlm::new();
    let whole = undisturbed(&server, CHAIN);
    server.script(|request| match request.task.as_str() {
        "b" => Answer::Half(request.default_text()),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    let build = space.spawn(&["build"]);
    server.wait_for_half("b");
    build.kill9();
    assert!(!space.exists("b.txt") && !space.is_done("b.txt"));
    server.script(|_| Answer::Default);
    space.build();
    assert_eq!((server.counts(), space.tree()), (counts([("a", 2), ("b", 3), ("c", 2)]), whole));
    space.assert_nothing_to_do(&server);
}

#[test]
fn killed_while_a_command_runs_after_a_call() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
command = "echo >> ../b.log; echo $$$$ > ../pid; echo half > $out; test -e ../go || cat ../gate; cat $in >> $out"
"#,
    );
    let gate = Fifo::new(space.root().join("gate"));
    let build = space.spawn(&["build"]);
    let held = gate.wait_for_reader();
    build.kill9();
    // No child outlives planexe, not even one that is stuck.
    wait_until_gone(&std::fs::read_to_string(space.root().join("pid")).expect("pid"));
    drop(held);
    assert!(space.is_done("a.txt") && !space.is_done("b.txt") && !space.exists("b.txt"));
    std::fs::write(space.root().join("go"), "").expect("go");
    space.build();
    assert_eq!((server.total(), space.tally("b")), (1, 2));
    assert_eq!(space.read("b.txt"), format!("half\n{}", space.read("a.txt")));
    let names: Vec<_> = space.tree().into_keys().collect();
    assert_eq!(names, ["a.txt", "b.txt", "pipeline.toml", "plan.txt"], "nothing half-made is left");
    space.assert_nothing_to_do(&server);
}

/// A kill may come after a command has started and before the lifeline was told of it.
#[cfg(target_os = "linux")]
#[test]
fn a_command_the_lifeline_was_not_told_of_ends_too() {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let sleeper = |lifeline: &str| {
        let mut command = Command::new("cat");
        command.env("PLANEXE_LIFELINE", lifeline).process_group(0).stdin(Stdio::piped());
        command.spawn().expect("cat")
    };
    let mut lifeline = space.command(&["__lifeline", "ours"]).stdin(Stdio::piped()).spawn().expect("planexe");
    let (mut ours, mut other) = (sleeper("ours"), sleeper("other"));
    drop(lifeline.stdin.take());
    assert!(lifeline.wait().expect("the lifeline").success());
    assert!(!ours.wait().expect("cat").success(), "ended by a signal");
    assert_eq!(other.try_wait().expect("cat"), None, "another's program runs on");
    drop(other.stdin.take());
    assert!(other.wait().expect("cat").success());
}

#[test]
fn killed_while_a_command_works_in_place() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.log]
inputs = ["plan.txt"]
outputs = ["log.txt"]
in_place = true
command = "echo $$$$ > ../pid; echo half > $out; test -e ../go || cat ../gate; cat $in > $out"
"#,
    );
    std::fs::write(space.root().join("go"), "").expect("go");
    let gate = Fifo::new(space.root().join("gate"));
    space.build();
    std::fs::remove_file(space.root().join("go")).expect("go");
    space.write("plan.txt", "Build a tunnel.\n");
    let build = space.spawn(&["build"]);
    let held = gate.wait_for_reader();
    assert!(!space.is_done("log.txt"), "no marker beside an output that is being changed");
    build.kill9();
    // Else it would write while the next one does.
    wait_until_gone(&std::fs::read_to_string(space.root().join("pid")).expect("pid"));
    drop(held);
    std::fs::write(space.root().join("go"), "").expect("go");
    space.build();
    assert_eq!(space.read("log.txt"), "Build a tunnel.\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn killed_in_the_middle_of_a_fan_out() {
    let server = FakeLlm::new();
    let tasks = r#"
[task.note]
foreach = { file = "items.json", key = "id" }
outputs = ["notes/{{ key }}.txt"]
prompt = "TASK=note[{{ key }}]\nA note."

[task.all]
inputs = ["notes/*.txt"]
outputs = ["all.txt"]
command = "cat $in > $out"
"#;
    let space = space(&server, tasks);
    space.write("items.json", r#"[{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}, {"id": "e"}]"#);
    server.hold("note[b]");
    server.hold("note[d]");
    let build = space.spawn(&["build"]);
    server.wait_for_total(5);
    for key in ["a", "c", "e"] {
        until("an instance to be done", || space.is_done(&format!("notes/{key}.txt")).then_some(()));
    }
    build.kill9();
    server.release_all();
    space.build();
    assert_eq!((server.total(), server.count("note[b]"), server.count("note[d]")), (7, 2, 2));
    space.assert_nothing_to_do(&server);
}

#[test]
fn killed_at_any_moment_after_the_answer() {
    let server = FakeLlm::new();
    let whole = undisturbed(&server, CHAIN);
    let mut spared = 0;
    for round in 0..16 {
        let space = space(&server, CHAIN);
        let before = server.counts();
        let build = space.spawn(&["build"]);
        server.wait_for_calls("b", before["b"] + 1);
        // From here on the answer is on its way; the wait only spreads the rounds over what follows.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2) * round {
            std::hint::spin_loop();
        }
        build.kill9();
        // What it had sent is counted in this round.
        server.wait_for_quiet();
        space.build();
        assert_eq!(space.tree(), whole, "round {round}");
        let after = server.counts();
        assert_eq!(after["a"], before["a"] + 1, "round {round}");
        let again = after["b"] - before["b"] + after["c"] - before["c"];
        assert!(again <= 3, "round {round}: {again} calls");
        spared += usize::from(again == 2);
        space.assert_nothing_to_do(&server);
    }
    assert!(spared > 0 || server.total() > 0);
}

#[test]
fn an_interruption_between_the_answer_and_the_marker_costs_no_call() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.\n", request.nth, request.task).into());
    let space = space(&server, CHAIN);
    space.build();
    let whole = space.tree();
    let marker = space.bytes("b.txt.DONE");
    // What a crash leaves: a state that says running, by a process that is gone, and no marker;
    // the output not yet there, there in part, or there in full.
    for output in [None, Some("Draw 0"), Some("Draw 0 of b.\n")] {
        space.remove("b.txt.DONE");
        set(&space, "b.txt.status", "state", json!("running"));
        set(&space, "b.txt.status", "pid", json!(4_000_000));
        match output {
            None => space.remove("b.txt"),
            Some(text) => space.write("b.txt", text),
        }
        space.build();
        assert_eq!((server.total(), space.tree()), (3, whole.clone()), "{output:?}");
        space.assert_nothing_to_do(&server);
    }
    // No state at all, as after a copy that lost it.
    space.remove("b.txt.DONE");
    space.remove("b.txt.status");
    space.build();
    assert_eq!((server.total(), space.tree()), (3, whole));
    assert!(!marker.is_empty());
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_answer_is_kept_as_it_came_accepted_or_not() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => json!({ "wrong": "the first, which is rejected" }).into(),
        _ => json!({ "title": "the second, which is accepted" }).into(),
    });
    let space = space(
        &server,
        "[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nx\"\nschema = \"a.schema.json\"\n",
    );
    space.write("a.schema.json", r#"{"type": "object", "required": ["title"]}"#);
    space.build();
    let calls = space.files(".planexe/calls");
    let kept: String =
        calls.iter().map(|path| String::from_utf8_lossy(&space.bytes(path)).into_owned()).collect();
    assert!(
        kept.contains("the first, which is rejected") && kept.contains("the second, which is accepted"),
        "{calls:?}"
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_recorded_owner_that_lives_does_not_count_against_a_marker() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    set(&space, "b.txt.status", "state", json!("running"));
    set(&space, "b.txt.status", "pid", json!(std::process::id()));
    space.assert_nothing_to_do(&server);
    assert_eq!(space.state("b"), "done");
}

#[test]
fn the_marker_of_something_else_is_not_believed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let whole = space.tree();
    space.write("b.txt.DONE", space.bytes("a.txt.DONE"));
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!((server.total(), space.tree()), (3, whole));
    space.assert_nothing_to_do(&server);
}

/// Does something at the end of a block, also when it ends by a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn an_output_is_never_seen_half_written() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[vars]
n = "x"

[task.page]
outputs = ["page.txt"]
template = "{% for n in range(60000) %}{{ vars.n }} continues and on\n{% endfor %}"

[task.copy]
inputs = ["page.txt"]
outputs = ["copy.txt"]
command = "cat $in > $out"
"#,
    );
    let over = AtomicBool::new(false);
    let whole = |path: &str| {
        let Ok(bytes) = std::fs::read(space.path(path)) else { return false };
        let n = &bytes[..bytes.iter().position(|&b| b == b' ').unwrap_or(0)];
        let same =
            bytes.split(|&b| b == b'\n').filter(|line| line.starts_with(n) && line.ends_with(b"on")).count();
        assert_eq!(same, 60_000, "{path} was seen half-written, {} bytes", bytes.len());
        true
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                seen += usize::from(whole("page.txt")) + usize::from(whole("copy.txt"));
            }
            seen
        });
        {
            let _end = OnDrop(|| over.store(true, Ordering::Relaxed));
            for n in 0..6 {
                space.run(&["build", "-D", &format!("n={n}")]).exits(0);
            }
        }
        assert!(reader.join().expect("the reader") > 0);
    });
}

// ---- signals

#[test]
fn ctrl_c_lets_running_calls_finish() {
    let server = FakeLlm::new();
    let whole = undisturbed(&server, CHAIN);
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("a", 2);
    let said = build.stderr().len();
    build.signal(Signal::INT);
    until("the build to say that it stops", || (build.stderr().len() > said).then_some(()));
    server.release("a");
    build.wait().exits(130);
    assert!(space.is_done("a.txt"), "the running call was recorded");
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1)]), "and nothing was started");
    space.build();
    assert_eq!((server.counts(), space.tree()), (counts([("a", 2), ("b", 2), ("c", 2)]), whole));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    let said = build.stderr().len();
    build.signal(Signal::INT);
    until("the build to say that it stops", || (build.stderr().len() > said).then_some(()));
    build.signal(Signal::INT);
    server.wait_for_hang_up("a");
    build.wait().exits(130);
    assert_eq!(space.sidecar("a.txt")["state"], "stopped");
    assert!(!space.is_done("a.txt"));
    server.release("a");
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn terminated_or_hung_up_it_ends_at_once_and_writes_its_state() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let server = FakeLlm::new();
        let space = space(&server, CHAIN);
        server.hold("b");
        let build = space.spawn(&["build"]);
        server.wait_for_call("b");
        build.signal(signal);
        server.wait_for_hang_up("b");
        build.wait().exits(code);
        assert_eq!(space.sidecar("b.txt")["state"], "stopped");
        let report = space.report();
        assert_eq!(
            (&report["error"], &report["last_completed_task"]),
            (&Value::Null, &json!("a")),
            "{report:#}"
        );
        server.release("b");
        space.build();
        assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn a_signal_reaches_the_children_of_commands() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let server = FakeLlm::new();
        let space = space(
            &server,
            "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"sleep 300 & echo $! > ../pid; cat ../gate; echo x > $out\"\n",
        );
        let gate = Fifo::new(space.root().join("gate"));
        let build = space.spawn(&["build"]);
        let held = gate.wait_for_reader();
        build.signal(signal);
        build.wait().exits(code);
        wait_until_gone(&std::fs::read_to_string(space.root().join("pid")).expect("pid"));
        drop(held);
        assert_eq!(space.sidecar("a.txt")["state"], "stopped");
        assert!(!space.exists("a.txt"));
    }
}

#[test]
fn a_command_that_will_not_end_is_killed() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"trap '' TERM HUP INT; echo $$$$ > ../pid; while :; do cat ../gate; done\"\n",
    );
    let gate = Fifo::new(space.root().join("gate"));
    let build = space.spawn(&["build"]);
    let held = gate.wait_for_reader();
    build.signal(Signal::TERM);
    build.wait().exits(143);
    wait_until_gone(&std::fs::read_to_string(space.root().join("pid")).expect("pid"));
    drop(held);
}

// ---- resume

#[test]
fn resume_says_where_it_goes_on_and_goes_on() {
    let server = FakeLlm::new();
    let whole = undisturbed(&server, CHAIN);
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("b", 2);
    build.kill9();
    server.release("b");

    let before = space.everything();
    let checkpoint = space.done("a.txt")["checkpoint_id"].as_str().expect("an id").to_owned();
    let decision = space.sidecar("a.txt")["decision_id"].as_str().expect("an id").to_owned();
    for command in ["resume", "build"] {
        let out = space.run(&[command, "--dry-run"]).exits(0).says(&["2/3", "b", &checkpoint]);
        space.everything().assert_same_as(&before, &out);
    }
    let out =
        space.run(&["resume", "--dry-run"]).exits(0).says(&["phase", "2/3", &checkpoint, "decision_id"]);
    let decisions = [decision, space.sidecar("b.txt")["decision_id"].as_str().unwrap_or("none").to_owned()];
    let all = format!("{}{}", out.stdout, out.stderr);
    assert!(decisions.iter().any(|id| all.contains(&id[..id.len().min(12)])), "no decision_id\n{out}");
    let report = space.report();
    assert_eq!((&report["last_completed_step"], &report["last_completed_task"]), (&json!(0), &json!("a")));
    assert_eq!(report["last_checkpoint_id"], checkpoint.as_str());
    assert_eq!(
        report["last_llm_call_at"],
        space.sidecar("b.txt")["started_utc"],
        "the call cut short counts"
    );

    space.run(&["resume"]).exits(0).says(&["2/3"]);
    assert_eq!((server.counts(), space.tree()), (counts([("a", 2), ("b", 3), ("c", 2)]), whole));
    space.assert_nothing_to_do(&server);
}

#[test]
fn resume_refuses_what_cannot_be_resumed_with_what_to_type() {
    let server = FakeLlm::new();
    let empty = Space::new();
    assert_ne!(empty.run(&["resume"]).code, 0);
    let space = space(&server, CHAIN);
    assert_ne!(space.run(&["resume"]).says(&["planexe build"]).code, 0);
    assert_eq!(server.requests(), 0);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    space.run(&["resume"]).exits(75);
    server.release("b");
    build.wait().exits(0);
    assert_ne!(space.run(&["resume"]).says(&["complete"]).code, 0);
    assert_eq!(server.total(), 3);
}

#[test]
fn resume_after_each_kind_of_stop() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("b", 0) => Answer::error(400, "not yet"),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    space.run(&["build"]).exits(1);
    server.hold("b");
    let resumed = space.spawn(&["resume"]);
    server.wait_for_calls("b", 2);
    resumed.signal(Signal::TERM);
    resumed.wait().exits(143);
    server.release("b");
    // The pipeline was edited meanwhile: what was done with the former text is told apart.
    space.edit("pipeline.toml", "Conclude", "Finish");
    space.run(&["resume"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 3), ("c", 1)]));
    assert!(server.last("c").prompt.contains("Finish"));
    space.assert_nothing_to_do(&server);
}
