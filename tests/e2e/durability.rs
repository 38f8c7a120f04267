//! What outlives a crash, and what does not: processes, process ids, temporary files, a word in `run.json`.

use std::fs::{File, FileTimes};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Answer, CHAIN, FakeLlm, Fifo, Space, counts, patiently, space, until};

const PAIR: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
command = "cp $in $out"
"#;

fn is_running(pid: &str) -> bool {
    let state =
        std::process::Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().expect("ps");
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn no_child_of_a_killed_build_lives_on_not_even_in_the_background() {
    patiently(|slow| {
        let server = FakeLlm::new();
        let space = space(
            &server,
            r#"
[task.a]
outputs = ["a.txt"]
command = "sleep 300 & echo $! >> ../pids; (trap '' TERM; sleep 300) & echo $! >> ../pids; cat ../gate; wait; echo x > $out"
"#,
        );
        let gate = Fifo::new(space.root().join("gate"));
        let build = space.spawn(&["build"]);
        let held = gate.wait_for_reader();
        let pids = std::fs::read_to_string(space.root().join("pids")).expect("pids");
        assert!(pids.lines().count() == 2 && pids.lines().all(is_running), "{pids}");
        build.kill9();
        let killed = Instant::now();
        until("the children to end", || pids.lines().all(|pid| !is_running(pid)).then_some(()));
        assert!(killed.elapsed() < Duration::from_millis(2500) * slow, "{:?}", killed.elapsed());
        drop(held);
    });
}

/// Who forks a child and is killed before that has become another program leaves the lock to it for that moment.
#[cfg(target_os = "linux")]
#[test]
fn a_lock_held_by_nobody_is_waited_for() {
    let server = FakeLlm::new();
    let space = space(&server, PAIR);
    // `flock` takes the lock and ends; what the shell left in the background holds it on, until it is told to end.
    let held = space
        .program("sh", &["-c", "mkfifo ../gate; exec 9< .; flock 9; cat ../gate > /dev/null 2>&1 &"])
        .status()
        .expect("sh");
    assert!(held.success(), "flock");
    let build = space.spawn(&["build"]);
    let opened =
        || std::fs::read_dir(format!("/proc/{}/fd", build.pid().as_raw_pid())).expect("its files").flatten();
    let run = space.dir().canonicalize().expect("the run");
    let tries = || opened().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == run)).then_some(());
    until("the build to try the lock", tries);
    std::fs::write(space.root().join("gate"), "").expect("the end of the holder");
    build.wait().exits(0);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_process_id_used_again_locks_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, PAIR);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    build.kill9();
    server.release("a");
    // Another process, started long before, has the killed build's id now, by every record there is.
    let other = std::os::unix::process::parent_id();
    let mut owner = space.json(".planexe/owner.json");
    assert!(owner["process_start"].is_number() || !cfg!(target_os = "linux"), "{owner}");
    owner["pid"] = json!(other);
    space.write(".planexe/owner.json", owner.to_string());
    let mut status = space.sidecar("a.txt");
    status["pid"] = json!(other);
    space.write("a.txt.status", status.to_string());
    if cfg!(target_os = "linux") {
        assert_ne!(space.state("a"), "running");
    }
    space.build();
    assert_eq!(server.count("a"), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn after_a_kill_a_build_with_nothing_to_do_tidies_up_once() {
    let server = FakeLlm::new();
    let space = space(&server, PAIR);
    space.build();
    let whole = space.tree();
    // As a kill after the last marker leaves it.
    let mut run = space.json(".planexe/run.json");
    run["phase"] = json!("running");
    space.write(".planexe/run.json", run.to_string());
    space.remove(".planexe/index");
    let temp = format!(".planexe-tmp-{}-0badcafe-0-b.txt.status", i32::MAX);
    space.write(&temp, "{");
    space.write(&format!(".planexe/{temp}"), "{");
    let events = space.read("events.jsonl");
    space.write("events.jsonl", format!("{events}{{\"half"));
    space.build().says(&["events.jsonl", "torn"]);
    assert_eq!((server.total(), space.tree()), (1, whole));
    assert_eq!(space.json(".planexe/run.json")["phase"], "completed");
    assert!(!space.exists(&temp) && !space.exists(&format!(".planexe/{temp}")));
    space.lines("events.jsonl");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_clock_set_back_an_hour_or_forward_a_year_makes_nothing_stale() {
    let server = FakeLlm::new();
    let space = space(&server, PAIR);
    space.build();
    let (hour, year) = (Duration::from_secs(3600), Duration::from_secs(365 * 86400));
    let now = SystemTime::now();
    // All that was written looks an hour ahead of the clock, then a year behind it.
    for time in [now + hour, now - year] {
        for file in space.files("") {
            let file = File::options().write(true).open(space.path(&file)).expect("a file");
            file.set_times(FileTimes::new().set_modified(time)).expect("its time");
        }
        space.assert_nothing_to_do(&server);
    }
    let mut done = space.done("b.txt");
    done["completed_utc"] = json!("2999-01-01T00:00:00.000Z");
    space.write("b.txt.DONE", done.to_string());
    space.assert_nothing_to_do(&server);
    // A build that is killed leaves records of the future, too.
    space.write("plan.txt", "Build a tunnel.\n");
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("a", 2);
    build.kill9();
    let mut status = space.sidecar("a.txt");
    status["started_utc"] = json!("2999-01-01T00:00:00.000Z");
    status["progress_utc"] = json!("2999-01-01T00:00:00.000Z");
    space.write("a.txt.status", status.to_string());
    server.release("a");
    space.run(&["status"]).exits(0);
    space.build();
    assert_eq!(server.count("a"), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_rejected_answer_is_not_paid_for_again_after_a_kill() {
    let server = FakeLlm::scripted(|request| match request.messages.len() {
        1 => Answer::Text("{}".into()),
        _ => Answer::Text("{\"title\": \"A bridge\"}".into()),
    });
    let tasks = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json"]
prompt = "TASK=a\nSummarise: {{ plan }}"
schema = "a.schema.json"
"#;
    let space = space(&server, tasks);
    space.write(
        "a.schema.json",
        r#"{ "type": "object", "required": ["title"], "properties": { "title": { "type": "string" } } }"#,
    );
    space.build();
    assert_eq!(server.total(), 2);
    let (whole, again) = (space.tree(), server.last("a"));

    // Killed while the second call is open, then again: each time that call alone is repeated.
    space.write("plan.txt", "Build a tunnel.\n");
    server.script(|request| match request.messages.len() {
        1 => Answer::Text("{}".into()),
        _ => Answer::Hang,
    });
    for calls in [4, 5] {
        let build = space.spawn(&["build"]);
        server.wait_for_total(calls);
        build.kill9();
    }
    server.script(|_| Answer::Text("{\"title\": \"A bridge\"}".into()));
    space.build();
    assert_eq!(server.total(), 6);
    assert_eq!(server.last("a").messages.len(), again.messages.len());
    assert_eq!(space.tree()["a.json"], whole["a.json"]);
    space.assert_nothing_to_do(&server);

    // A course that came to its end is over: the next one begins anew.
    space.write("plan.txt", "Build a castle.\n");
    server.script(|_| Answer::Text("{}".into()));
    space.run(&["build"]).exits(1);
    let failed = server.total();
    server.script(|_| Answer::Text("{\"title\": \"A castle\"}".into()));
    space.build();
    assert_eq!(server.total(), failed + 1);
    assert_eq!(server.last("a").messages.len(), 1);
}

/// An answer and the word that its attempt runs go to the disk at once: a power cut may leave the first alone.
#[test]
fn a_kept_answer_whose_status_was_lost_is_judged_and_not_asked_for_again() {
    let tasks = "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nTell.\"\ncheck = { min_words = 3 }\n";
    for lost in ["removed", "emptied"] {
        let server = FakeLlm::scripted(|request| match request.messages.len() {
            1 => Answer::Text("Short.".into()),
            _ => Answer::Hang,
        });
        let space = space(&server, tasks);
        let build = space.spawn(&["build"]);
        server.wait_for_total(2);
        build.kill9();
        // As before the first answer was judged.
        let rejected = space.files(".planexe/calls").into_iter().find(|path| path.contains(".rejected-"));
        let rejected = rejected.expect("the first answer");
        let mut record = space.json(&rejected);
        record["verdict"] = json!("arrived");
        let (usable, _) = rejected.split_once(".rejected-").expect("its name");
        space.write(&format!("{usable}.json"), record.to_string());
        space.remove(&rejected);
        match lost {
            "removed" => space.remove("a.txt.status"),
            _ => space.write("a.txt.status", ""),
        }
        server.script(|request| match request.messages.len() {
            1 => Answer::Text("Short.".into()),
            _ => Answer::Text("This is long enough.".into()),
        });
        space.build();
        assert_eq!((server.total(), server.last("a").messages.len()), (3, 3), "{lost}");
        space.assert_nothing_to_do(&server);
    }
}

const SUMMARY: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json"]
prompt = "TASK=a\nSummarise: {{ plan }}"
schema = "a.schema.json"
"#;

/// Killed between an answer and the word of its rejection, and then while it is asked for again.
#[test]
fn a_rejection_that_was_not_written_down_outlives_two_kills() {
    let server = FakeLlm::scripted(|request| match request.messages.len() {
        1 => Answer::Text("{}".into()),
        _ => Answer::Hang,
    });
    let space = space(&server, SUMMARY);
    space.write("a.schema.json", r#"{ "type": "object", "required": ["title"] }"#);
    let build = space.spawn(&["build"]);
    server.wait_for_total(2);
    build.kill9();
    // As it is left by a kill a moment earlier.
    let mut status = space.sidecar("a.json");
    status["attempt"] = json!(1);
    status.as_object_mut().expect("an object").remove("budgets").expect("what was used up");
    space.write("a.json.status", status.to_string());
    for calls in [3, 4] {
        let build = space.spawn(&["build"]);
        server.wait_for_total(calls);
        assert_eq!(server.last("a").messages.len(), 3, "with what was wrong, after {calls} calls");
        build.kill9();
    }
    server.script(|_| Answer::Text("{\"title\": \"A bridge\"}".into()));
    space.build();
    assert_eq!((server.total(), server.last("a").messages.len()), (5, 3));
    space.assert_nothing_to_do(&server);
}

/// What a cut answer was asked for with is not forgotten: or the next cut one would be the last.
#[test]
fn room_for_a_longer_answer_outlives_a_kill() {
    let server = FakeLlm::scripted(|request| match request.body["max_tokens"].as_u64() {
        Some(..400) => Answer::Finish("It will".into(), "length"),
        _ => Answer::Hang,
    });
    let space = space(&server, PAIR);
    space.edit("pipeline.toml", "[task.a]", "[task.a]\nparams = { max_tokens = 100 }");
    let build = space.spawn(&["build"]);
    server.wait_for_total(3);
    build.kill9();
    server.script(|_| Answer::Text("It will hold.".into()));
    space.build();
    assert_eq!(server.total(), 4);
    assert_eq!(server.last("a").body["max_tokens"], 400);
    space.assert_nothing_to_do(&server);
}

/// While planexe is stopped (Ctrl-Z) it listens to nobody, so nobody's silence counts.
#[test]
fn no_clock_runs_while_the_build_is_stopped() {
    patiently(|slow| {
        let server = FakeLlm::new();
        server.hold("p");
        let wait = |file: &str| format!("until test -e ../{file}; do sleep 0.05; done");
        let tasks = format!(
            r#"
[task.p]
outputs = ["p.txt"]
prompt = "TASK=p\nWill it hold?"

[task.a]
outputs = ["a.txt"]
timeout = "{limit}s"
command = "touch ../began; {}; echo x > $out"

[task.b]
outputs = ["b.txt"]
command = "{}; echo x > $out"

[task.c]
inputs = ["b.txt"]
outputs = ["c.txt"]
command = "sleep 1; cp $in $out"
"#,
            wait("go-a"),
            wait("go-b"),
            limit = 3 * slow,
        );
        let space = Space::new();
        space.pipeline_with(&server, &format!("timeouts = {{ first_token = \"{}s\" }}", 3 * slow), &tasks);
        let go = |file: &str| std::fs::write(space.root().join(file), "").expect("a file");
        let build = space.spawn(&["build", "-j4"]);
        server.wait_for_call("p");
        until("the command", || space.root().join("began").exists().then_some(()));
        build.signal(Signal::STOP);
        let stopped = Instant::now();
        until("the limits", || (stopped.elapsed() > Duration::from_secs(4) * slow).then_some(()));
        build.signal(Signal::CONT);
        // Some time passes in which both could be ended.
        go("go-b");
        until("the third", || space.is_done("c.txt").then_some(()));
        go("go-a");
        server.release("p");
        build.wait().exits(0).says_nothing_of(&["timeout"]);
        assert_eq!(server.total(), 1);
    });
}

/// `run.json` is told anew from sidecars and checkpoints wherever it was cut.
#[test]
fn a_run_file_cut_at_any_length_costs_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, PAIR);
    space.build();
    let whole = space.bytes(".planexe/run.json");
    let told = |space: &Space| {
        let report = space.report();
        ["steps_completed", "last_completed_step", "last_completed_task", "last_checkpoint_id"]
            .map(|key| report[key].clone())
    };
    let before = told(&space);
    for length in (0..whole.len()).step_by(23) {
        space.write(".planexe/run.json", &whole[..length]);
        assert_eq!(told(&space), before, "cut at {length}");
        space.build();
    }
    space.remove(".planexe/run.json");
    assert_eq!(told(&space), before);
    space.assert_nothing_to_do(&server);
    assert_eq!(server.requests(), 1);
}

/// Who starts builds in the background need not take in how they end; a build that was killed is over all the same.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_build_whose_parent_looks_away_runs_no_more() {
    let server = FakeLlm::new();
    let space = space(&server, PAIR);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    build.signal(Signal::KILL);
    server.wait_for_hang_up("a");
    space.run(&["wait"]).exits(3).says(&["interrupted"]);
    assert_eq!(space.report()["run"]["phase"], "interrupted");
    space.run(&["status", "--watch"]).exits(0);
    build.wait();
}

/// What broke a build is told by all that tell what became of it, not by the build alone.
#[test]
fn what_could_not_be_written_is_told_afterwards() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    std::fs::create_dir(space.path("b.txt")).expect("a folder in the way");
    server.release("b");
    build.wait().exits(1).says(&["cannot write `b.txt`"]);
    let report = space.report();
    assert_eq!(report["error"]["failure_reason"], "io", "{report:#}");
    assert_eq!(report["error"]["failed_step"], "b", "{report:#}");
    assert_eq!(report["counts"]["failed"], 1, "{report:#}");
    space.run(&["explain", "b"]).exits(0).says(&["cannot write `b.txt`"]);
    space.run(&["failures"]).exits(0).says(&["b.txt"]);
    // It is no failure of the task's own: its answer is used, also where failures are left as they are.
    std::fs::remove_dir(space.path("b.txt")).expect("the folder");
    space.run(&["resume", "--keep-failed"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_run_directory_that_goes_away_is_no_success() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    let moved = space.root().join("moved");
    std::fs::rename(space.dir(), &moved).expect("to move the run");
    until("a word of it", || build.stderr().contains("moved or removed").then_some(()));
    server.release("b");
    build.wait().exits(1).says(&["nothing more is started", "moved or removed while it was being built"]);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1)]));
    // What was asked before is recorded where the run went, and nothing is made where it was.
    assert!(!space.dir().exists());
    std::fs::rename(&moved, space.dir()).expect("to move it back");
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

/// Logs may be moved away while a build runs, as those who rotate logs do: what comes then is in new ones.
#[test]
fn logs_that_are_moved_away_begin_anew() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    for log in ["events.jsonl", "usage_metrics.jsonl"] {
        std::fs::rename(space.path(log), space.path(&format!("{log}.1"))).expect("to move a log");
    }
    // By the time it obeys it has looked for them.
    space.run(&["pause"]).exits(0);
    until("the pause", || build.stderr().contains("nothing starts").then_some(()));
    space.run(&["resume"]).exits(0);
    server.release("b");
    build.wait().exits(0);
    let tasks = |log: &str| space.lines(log).iter().map(|line| line["task"].clone()).collect::<Vec<_>>();
    assert_eq!(tasks("usage_metrics.jsonl.1"), ["a"]);
    assert_eq!(tasks("usage_metrics.jsonl"), ["b", "c"]);
    assert_eq!(space.json("activity_overview.json")["models"]["openai:fake-1"]["calls"], 2);
    assert!(tasks("events.jsonl").contains(&"c".into()), "{:?}", tasks("events.jsonl"));
}
