//! Steering a run from another shell, and what is told of it afterwards.

use crate::support::{Answer, CHAIN, FakeLlm, Running, Space, counts, space, until};

#[test]
fn a_running_build_is_stopped_by_a_command() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.run(&["stop"]).exits(0);
    until("the build to say that it stops", || build.stderr().contains("stop").then_some(()));
    server.release("a");
    build.wait().exits(3);
    assert!(space.is_done("a.txt"));
    assert_eq!(server.counts(), counts([("a", 1)]));
    space.build();
    space.assert_nothing_to_do(&server);
}

#[test]
fn failures_are_listed() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" => Answer::error(400, "the words of the server"),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    space.run(&["build"]).exits(1);
    let before = space.everything();
    let out = space.run(&["failures"]).exits(0).says(&["b", "bad_request"]);
    space.everything().assert_same_as(&before, &out);
}

#[test]
fn retry_draws_again() {
    let server = FakeLlm::scripted(|request| format!("Draw {}.", request.nth).into());
    let space = space(&server, CHAIN);
    space.build();
    space.run(&["retry", "c"]).exits(0);
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 2)]));
    assert_eq!(space.read("c.txt").trim(), "Draw 1.");
    space.assert_nothing_to_do(&server);
}

/// A chain whose `b` fails the first time, beside a task that is held, so that the build goes on.
fn failing_once() -> (FakeLlm, Space) {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("b", 0) => Answer::error(400, "no such field"),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    space.write(
        "pipeline.toml",
        space.read("pipeline.toml") + "\n[task.slow]\noutputs = [\"slow.txt\"]\nprompt = \"TASK=slow\\nx\"\n",
    );
    server.hold("slow");
    (server, space)
}

#[test]
fn attempts_are_counted_on_when_a_task_is_tried_anew_during_a_build() {
    let (server, space) = failing_once();
    let build = space.spawn(&["build"]);
    until("b to fail", || (space.state("b") == "failed").then_some(()));
    space.run(&["retry", "b"]).exits(0);
    until("b to be done", || space.is_done("b.txt").then_some(()));
    server.release("slow");
    build.wait().exits(0);
    assert_eq!(space.sidecar("b.txt")["attempt"], 2);
}

#[test]
fn a_retry_beside_a_suspended_build_does_not_wait_for_it_without_end() {
    let (server, space) = failing_once();
    let build = space.spawn(&["build"]);
    until("b to fail", || (space.state("b") == "failed").then_some(()));
    build.signal(rustix::process::Signal::STOP);
    let said = space.run(&["retry", "b", "--json"]).exits(0).json();
    assert_eq!((&said["build_runs"], &said["pending"]), (&true.into(), &true.into()));
    build.signal(rustix::process::Signal::CONT);
    until("b to be done", || space.is_done("b.txt").then_some(()));
    server.release("slow");
    build.wait().exits(0);
    assert_eq!(server.count("b"), 2);
}

#[test]
fn checkpoints_are_one_a_task_in_order() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let out = space.run(&["checkpoints", "--json"]).exits(0);
    let all = out.json();
    let list = all.as_array().or_else(|| all["checkpoints"].as_array()).expect("a list").clone();
    let tasks: Vec<_> = list.iter().map(|point| point["task"].as_str().expect("a task").to_owned()).collect();
    assert_eq!(tasks, ["a", "b", "c"]);
    for (step, point) in list.iter().enumerate() {
        assert_eq!(point["step"], step, "{point:#}");
        assert_eq!(point["attempt"], 1);
        assert!(point["decision_id"].is_string() && point["sandbox_ref"].is_string(), "{point:#}");
    }
}

#[test]
fn an_aborted_run_keeps_its_state_and_is_resumed_by_force() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    space.run(&["abort", "--hard"]).exits(0);
    server.wait_for_hang_up("b");
    build.wait().exits(3).says(&["planexe resume --force"]);
    assert!(space.is_done("a.txt"));
    server.release("b");
    assert_ne!(space.run(&["resume"]).says(&["--force"]).code, 0);
    space.run(&["resume", "--force"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_build_that_is_killed_after_it_was_told_to_abort_leaves_an_aborted_run() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    space.run(&["abort"]).exits(0);
    until("the build to say that it is aborted", || build.stderr().contains("aborted").then_some(()));
    assert_eq!(space.run(&["status", "--json"]).json()["run"]["phase"], "running");
    build.kill9();
    server.release("b");
    assert_eq!(space.run(&["status", "--json"]).json()["run"]["phase"], "aborted");
    assert_eq!(space.run(&["list", "..", "--json"]).json()["runs"][0]["phase"], "aborted");
    assert_eq!(space.run(&["resume", "--json"]).exits(2).json()["error"]["code"], "aborted");
    space.run(&["resume", "--force"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

/// A build of the chain, paused while its first call was open, which has ended since.
fn paused_after_a(server: &FakeLlm, space: &Space) -> Running {
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.run(&["pause"]).exits(0);
    until("the build to say that it pauses", || build.stderr().contains("pause").then_some(()));
    server.release("a");
    until("a to be done", || space.is_done("a.txt").then_some(()));
    build
}

#[test]
fn a_paused_build_goes_on_by_a_command() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let build = paused_after_a(&server, &space);
    assert_eq!(server.counts(), counts([("a", 1)]));
    space.run(&["resume"]).exits(0);
    build.wait().exits(0);
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_signal_ends_a_paused_build() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let build = paused_after_a(&server, &space);
    build.signal(rustix::process::Signal::INT);
    build.wait().exits(130);
    // The pause was for that build.
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn steering_a_run_nobody_builds_says_so() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    for command in ["stop", "pause", "abort"] {
        let out = space.run(&[command]);
        assert!(out.code <= 3 && !out.stderr.is_empty(), "{out}");
        // Whatever it left, the next build is not stopped by it.
        space.run(&["build"]).exits(0);
        space.assert_nothing_to_do(&server);
    }
    assert_eq!(server.total(), 3);
}

/// Three tasks, each reading the one before, and one apart that keeps the build busy.
fn busy_chain() -> String {
    format!(
        "{CHAIN}\n[task.x]\ninputs = [\"plan.txt\"]\noutputs = [\"x.txt\"]\nprompt = \"TASK=x\\n{{{{ plan }}}}\"\n"
    )
}

#[test]
fn a_running_build_tries_a_failed_task_anew() {
    for command in [&[][..], &["retry", "b", "--json"], &["retry", "b", "--build", "--json"]] {
        let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
            ("b", 0) => Answer::error(400, "not yet"),
            _ => Answer::Default,
        });
        let space = space(&server, &busy_chain());
        server.hold("x");
        let build = space.spawn(&["build"]);
        let failed = || space.exists("b.txt.status") && space.sidecar("b.txt")["state"] == "failed";
        until("b to fail", || failed().then_some(()));
        let before = space.run(&["status", "--json"]).exits(0).json();
        assert_eq!(before["counts"]["blocked"], 1, "{before:#}");
        if command.is_empty() {
            space.write(".planexe/retry/b", "");
        } else {
            let out = space.run(command).exits(0).json();
            assert_eq!((&out["tasks"][0], &out["build_runs"]), (&"b".into(), &true.into()), "{out:#}");
        }
        until("c to be done", || space.is_done("c.txt").then_some(()));
        assert!(!space.exists(".planexe/retry/b"));
        server.release("x");
        build.wait().exits(0).says(&["retried"]);
        assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1), ("x", 1)]));
        space.assert_nothing_to_do(&server);
        if command.is_empty() {
            // By hand between two builds, the first of which left nothing to do.
            space.write(".planexe/retry/b", "");
            space.run(&["build", "-q"]).exits(1);
            let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
            assert_eq!((&plan["stale"], &plan["depends"]), (&1.into(), &1.into()), "{plan:#}");
            space.build().says(&["retried"]);
            assert_eq!(server.counts(), counts([("a", 1), ("b", 3), ("c", 1), ("x", 1)]));
        }
    }
}

#[test]
fn a_running_build_ends_and_begins_anew_what_is_at_work() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.", request.nth, request.task).into());
    let space = space(&server, &busy_chain());
    server.hold("a");
    server.hold("x");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    server.wait_for_call("x");
    space.run(&["retry", "a"]).exits(0).says(&["the running build continues with it"]);
    server.wait_for_hang_up("a");
    server.wait_for_calls("a", 2);
    server.release("a");
    server.release("x");
    build.wait().exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1), ("x", 1)]));
    assert_eq!(space.read("a.txt").trim(), "Draw 1 of a.");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_running_build_makes_again_what_is_done_and_all_that_reads_it() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.", request.nth, request.task).into());
    let space = space(&server, &busy_chain());
    server.hold("x");
    server.hold("c");
    let build = space.spawn(&["build"]);
    server.wait_for_call("c");
    space.run(&["retry", "a"]).exits(0);
    // c was asked about an answer that is no more.
    server.wait_for_hang_up("c");
    server.wait_for_calls("c", 2);
    server.release("c");
    until("c to be done", || space.is_done("c.txt").then_some(()));
    server.release("x");
    let out = build.wait().exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2), ("x", 1)]));
    assert!(out.stderr.contains("4 tasks ran"), "{out}");
    assert!(server.last("c").prompt.contains("Draw 1 of b."));
    space.assert_nothing_to_do(&server);
}

#[test]
fn items_of_a_fan_out_are_tried_anew_while_others_run() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("y", 0) => Answer::Text("{\"no\": \"list\"}".into()),
        _ => Answer::Text("[1, 2]".into()),
    });
    let space = space(
        &server,
        r#"
[task.each]
foreach = { file = "items.json", items = "/*" }
outputs = ["each/{{ key }}.json"]
prompt = "TASK={{ item }}\nThink."
schema = "list.json"
max_validation_retries = 0

[task.all]
inputs = ["each/*.json"]
outputs = ["all.txt"]
command = "cat $in > $out"
"#,
    );
    space.write("items.json", r#"["x", "y"]"#);
    space.write("list.json", r#"{"type": "array"}"#);
    server.hold("x");
    let build = space.spawn(&["build"]);
    server.wait_for_call("x");
    let failed = || {
        let status = space.run(&["status", "--json"]).json();
        (status["counts"]["failed"] == 1).then_some(())
    };
    until("y to fail", failed);
    space.run(&["retry"]).exits(0);
    server.wait_for_calls("y", 2);
    server.release("x");
    build.wait().exits(0);
    assert_eq!(server.counts(), counts([("x", 1), ("y", 2)]));
    assert!(space.is_done("all.txt"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_request_to_try_anew_that_comes_too_late_is_carried_out_all_the_same() {
    let server = FakeLlm::scripted(|request| format!("Draw {}.", request.nth).into());
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    // A build that stops takes up nothing that would start; what it is asked holds for the next.
    space.run(&["stop"]).exits(0);
    until("the build to say that it stops", || build.stderr().contains("stop").then_some(()));
    space.run(&["retry", "a"]).exits(0);
    server.release("b");
    build.wait().exits(3);
    space.build();
    assert_eq!(server.count("a"), 2);
    space.assert_nothing_to_do(&server);
}

/// The items are known, and a fan-out is not spread out twice in one build: whoever asks is told so, and nobody says
/// that the build that runs goes on with it.
#[test]
fn what_the_running_build_is_past_is_left_to_the_next_one() {
    for by_hand in [false, true] {
        let server = FakeLlm::new();
        let space = space(
            &server,
            r#"
[task.list]
inputs = ["plan.txt"]
outputs = ["list.json"]
command = "echo ran >> ran.log; echo '[\"x\"]' > $out"

[task.each]
foreach = { file = "list.json" }
outputs = ["each/{{ key }}.txt"]
prompt = "TASK={{ item }}\nThink."
"#,
        );
        server.hold("x");
        let build = space.spawn(&["build"]);
        server.wait_for_call("x");
        if by_hand {
            space.write(".planexe/retry/list", "");
            until("the build to say that it is past it", || build.stderr().contains("past it").then_some(()));
        } else {
            let out = space.run(&["retry", "list", "--json"]).exits(0).json();
            assert_eq!((&out["tasks"][0], &out["build_runs"]), (&"list".into(), &false.into()), "{out:#}");
            let out = space.run(&["retry", "list"]).exits(0).says(&["the running build is past it"]);
            assert!(!out.stderr.contains("continues with it"), "{out}");
            // It would have to wait for the one that runs.
            space.run(&["retry", "list", "--build"]).exits(75);
        }
        server.release("x");
        build.wait().exits(0).says(&["retried by the next build"]);
        assert_eq!((space.read("ran.log").lines().count(), server.count("x")), (1, 1));
        space.build().says(&["retried"]);
        assert_eq!((space.read("ran.log").lines().count(), server.count("x")), (2, 1));
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn what_was_up_to_date_when_the_build_began_can_be_made_anew_in_it() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.", request.nth, request.task).into());
    let space = space(
        &server,
        &busy_chain()
            .replace(
                "inputs = [\"plan.txt\"]\noutputs = [\"x.txt\"]",
                "inputs = [\"x.in\"]\noutputs = [\"x.txt\"]",
            )
            .replace("TASK=x\\n{{ plan }}", "TASK=x\\n{{ x }}"),
    );
    space.write("x.in", "one");
    space.build();
    // Twice, so that all that is known of it is written down.
    space.assert_nothing_to_do(&server);
    space.assert_nothing_to_do(&server);
    space.write("x.in", "two");
    server.hold("x");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("x", 2);
    space.run(&["retry", "a"]).exits(0);
    until("c to be made again", || (server.count("c") == 2 && space.is_done("c.txt")).then_some(()));
    server.release("x");
    build.wait().exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2), ("x", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_task_between_two_attempts_is_made_anew_and_its_old_pause_holds_nothing_up() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => Answer::error(500, "out of order"),
        _ => Answer::Default,
    });
    let space = space(&server, "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\n");
    space.edit("pipeline.toml", "base = \"5ms\", max = \"10ms\"", "base = \"1000h\", max = \"1000h\"");
    let build = space.spawn(&["build"]);
    until("the pause", || build.stderr().contains("again in").then_some(()));
    space.run(&["retry", "a"]).exits(0);
    build.wait().exits(0);
    assert_eq!(server.count("a"), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_build_goes_on_with_the_targets_and_the_model_that_were_named() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("b", 0 | 1) => Answer::error(400, "not yet"),
        _ => Answer::Default,
    });
    let space = space(&server, &format!("[models.other]\napi = \"simulated\"\n{CHAIN}"));
    let failed = space.run(&["build", "b", "--json"]).exits(1).json();
    assert_eq!(failed["next"][1][0], "planexe build b", "{failed:#}");
    // What was said of models and answers holds for the next command too.
    let said = ["build", "b", "--json", "--strict", "--frozen", "--model", "fake", "--rebuild-on", "model"];
    let failed = space.run(&said).exits(1).json();
    let wanted = "planexe build --model fake --rebuild-on model --strict --frozen b";
    assert_eq!(failed["next"][1][0], wanted, "{failed:#}");
    // Not the model that was taken away, and not one that does not exist.
    space.run(&["resume", "--model", "nobody"]).exits(2).says(&["no model is called `nobody`"]);
    space.run(&["resume", "--model", "other"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2)]));
    assert_eq!(space.sidecar("c.txt")["api"], "simulated");
}

#[test]
fn a_build_is_steered_and_looked_at_while_its_pipeline_is_being_edited() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let whole = space.read("pipeline.toml");
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.write("pipeline.toml", format!("{whole}\nhalf = ["));
    space.run(&["status"]).exits(2);
    for command in ["events", "failures", "usage", "history", "checkpoints", "pause", "resume", "stop"] {
        space.run(&[command]).exits(0);
    }
    until("the build to say that it stops", || build.stderr().contains("stopped by").then_some(()));
    server.release("a");
    build.wait().exits(3);
    // None to steer, and nothing known of the run: the fault is told.
    space.run(&["resume"]).exits(2).says(&["pipeline.toml"]);
    space.run(&["abort"]).exits(2).says(&["pipeline.toml"]);
    space.write("pipeline.toml", whole);
    space.build();
    assert_eq!(server.total(), 3);
}

/// It holds the lock while it looks at its tasks, and says so only before the first one starts.
#[cfg(target_os = "linux")]
#[test]
fn a_build_that_only_begins_is_stopped_too() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let lock = std::fs::File::open(space.dir()).expect("the run directory");
    lock.lock().expect("the lock");
    space.run(&["stop"]).exits(0).says(&[&format!("process {} starts nothing more", std::process::id())]);
    assert!(space.exists(".planexe/stop"));
    drop(lock);
    // One that begins later is not meant.
    space.build();
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_dry_resume_of_a_paused_build_lets_nothing_go_on() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let build = paused_after_a(&server, &space);
    space.run(&["resume", "-n"]).exits(0).says(&["is paused and would continue"]);
    assert!(space.exists(".planexe/pause"));
    assert_eq!(server.total(), 1);
    space.run(&["resume"]).exits(0).says(&["continues"]);
    build.wait().exits(0);
}
