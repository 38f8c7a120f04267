//! What a build runs, in which order, what it says and how it exits.

use serde_json::json;

use super::{FIVE, built, failing, states};
use crate::support::{Answer, CHAIN, FakeLlm, Running, Space, counts, space, until};

#[test]
fn a_dry_run_says_what_it_would_do_and_changes_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    for flag in ["-n", "--dry-run"] {
        let before = space.everything();
        let out = space.run(&["build", flag]).exits(0).says(&["a", "b", "c"]);
        space.everything().assert_same_as(&before, &out);
    }
    assert_eq!(server.requests(), 0);
    space.build();
    let before = space.everything();
    let out = space.run(&["build", "-n"]).exits(0);
    space.everything().assert_same_as(&before, &out);
    space.edit("pipeline.toml", "Go on", "Continue");
    let before = space.everything();
    let out = space.run(&["build", "-n"]).exits(0).says(&["b", "prompt", "c"]);
    space.everything().assert_same_as(&before, &out);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_question_is_answered_by_the_exit_code() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["build", "-q"]).exits(1);
    space.run(&["build", "--question"]).exits(1);
    assert_eq!(server.requests(), 0);
    space.build();
    space.run(&["build", "-q"]).exits(0);
    space.run(&["build", "--question"]).exits(0);
    space.edit("pipeline.toml", "Conclude", "End");
    space.run(&["build", "-q", "b"]).exits(0);
    space.run(&["build", "-q", "c"]).exits(1);
    space.run(&["build", "-q"]).exits(1);
}

#[test]
fn quiet_is_quiet_when_all_is_well() {
    let server = FakeLlm::new();
    for flag in ["-s", "--quiet"] {
        let space = space(&server, CHAIN);
        let out = space.run(&["build", flag]).exits(0);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", ""), "{flag}");
        space.assert_nothing_to_do(&server);
    }
    let space = space(&server, CHAIN);
    server.script(|_| Answer::error(400, "not this one"));
    space.run(&["build", "-s"]).exits(1).says(&["a", "not this one"]);
}

#[test]
fn data_goes_to_stdout_and_all_else_to_stderr() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let out = space.build();
    assert_eq!(out.stdout, "", "a build has no data\n{out}");
    for task in ["a", "b", "c"] {
        assert!(out.stderr.contains(task), "{out}");
    }
    assert!(!out.stderr.contains('\u{1b}'), "escapes without a terminal\n{out}");
    let out = space.run(&["build", "summary-that-is-not-there"]).exits(2);
    assert_eq!(out.stdout, "");
}

#[test]
fn a_build_as_json_and_its_events_as_lines() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let out = space.run(&["build", "--json"]).exits(0);
    let ended = out.json();
    assert_eq!((&ended["exit_code"], &ended["server"]["name"]), (&json!(0), &json!("planexe")), "{out}");
    let logged = space.lines("events.jsonl");
    for kind in ["task.started", "task.completed", "pipeline.completed"] {
        assert!(logged.iter().any(|event| event["event"] == kind), "no {kind}: {logged:#?}");
    }
}

#[test]
fn one_job_at_a_time() {
    let server = FakeLlm::new();
    let space = space(&server, FIVE);
    space.run(&["build", "-j1"]).exits(0);
    assert_eq!((server.total(), server.most_in_flight()), (5, 1));
    let order = server.order();
    let place = |task: &str| order.iter().position(|other| other == task).expect("called");
    for (before, after) in
        [("bad", "after_bad"), ("good", "after_good"), ("after_bad", "both"), ("after_good", "both")]
    {
        assert!(place(before) < place(after), "{order:?}");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn independent_tasks_run_at_once_as_far_as_the_server_has_slots() {
    let server = FakeLlm::new();
    server.hold_all();
    let tasks: String = (0..6)
        .map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nSay {n}.\"\n\n"))
        .collect();
    let space = Space::new();
    space.pipeline(&server, &tasks);
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 3");
    let build = space.spawn(&["build", "-j8"]);
    server.wait_for_total(3);
    server.release_all();
    build.wait().exits(0);
    assert_eq!((server.total(), server.most_in_flight()), (6, 3));
    space.assert_nothing_to_do(&server);
}

#[test]
fn after_a_failure_what_does_not_depend_on_it_goes_on() {
    for args in [&["build"][..], &["build", "-k"], &["build", "--keep-going"]] {
        let server = FakeLlm::new();
        let space = space(&server, FIVE);
        let build = failing(&server, &space, args);
        until("bad to fail", || (space.state("bad") == "failed").then_some(()));
        server.release("good");
        build.wait().exits(1).says(&["bad", "not this one"]);
        assert_eq!(server.counts(), counts([("after_good", 1), ("bad", 1), ("good", 1)]));
        let mut states = states(&space);
        states.sort();
        let state = |task: &str, state: &str| (task.to_owned(), state.to_owned());
        assert_eq!(
            states,
            [
                state("after_bad", "blocked"),
                state("after_good", "done"),
                state("bad", "failed"),
                state("both", "blocked"),
                state("good", "done"),
            ]
        );
        let report = space.report();
        assert_eq!(report["error"]["failed_step"], "bad", "{report:#}");
        server.script(|_| Answer::Default);
        space.build();
        assert_eq!(
            server.counts(),
            counts([("after_bad", 1), ("after_good", 1), ("bad", 2), ("both", 1), ("good", 1)])
        );
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn fail_fast_finishes_what_runs_and_starts_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, FIVE);
    let build = failing(&server, &space, &["build", "--fail-fast"]);
    until("bad to fail", || (space.state("bad") == "failed").then_some(()));
    server.release("good");
    build.wait().exits(1).says(&["bad"]);
    assert_eq!(server.counts(), counts([("bad", 1), ("good", 1)]));
    assert!(space.is_done("good.txt"));
    server.script(|_| Answer::Default);
    space.build();
    assert_eq!(
        server.counts(),
        counts([("after_bad", 1), ("after_good", 1), ("bad", 2), ("both", 1), ("good", 1)])
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn stop_all_cancels_what_runs() {
    let server = FakeLlm::new();
    let space = space(&server, FIVE);
    let build = failing(&server, &space, &["build", "--stop-all"]);
    server.wait_for_hang_up("good");
    build.wait().exits(1).says(&["bad"]);
    assert!(!space.exists("good.txt"));
    assert_eq!(space.sidecar("good.txt")["state"], "stopped");
    server.script(|_| Answer::Default);
    server.release_all();
    space.build();
    assert_eq!(
        server.counts(),
        counts([("after_bad", 1), ("after_good", 1), ("bad", 2), ("both", 1), ("good", 2)])
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn only_one_task_and_a_word_about_its_readers() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.edit("pipeline.toml", "Go on", "Continue");
    // The reader that is stale now is named.
    space.run(&["build", "b", "--only"]).exits(0).says(&["what reads it is stale now: `c`"]);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 3), ("c", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_task_made_alone_that_comes_out_the_same_makes_no_reader_stale() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["clean", "b", "-y"]).exits(0);
    let out = space.run(&["build", "b", "--only"]).exits(0);
    assert!(!out.stderr.contains("stale"), "{out}");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_target_and_what_it_needs() {
    let server = FakeLlm::new();
    let space = space(&server, FIVE);
    space.run(&["build", "after_good"]).exits(0);
    assert_eq!(server.counts(), counts([("after_good", 1), ("good", 1)]));
    space.run(&["build", "bad", "after_bad"]).exits(0);
    assert_eq!(server.total(), 4);
    space.build();
    assert_eq!(server.total(), 5);
    space.assert_nothing_to_do(&server);
}

#[test]
fn tasks_are_found_by_loose_names() {
    let server = FakeLlm::scripted(|request| format!("Draw {}.", request.nth).into());
    let space = space(
        &server,
        "[task.select_scenario]\noutputs = [\"out/scenario.json.txt\"]\nprompt = \"TASK=s\\nSelect one.\"\n
[task.other]\noutputs = [\"other.txt\"]\nprompt = \"TASK=other\\nSelect one.\"\n",
    );
    let names = [
        "SelectScenarioTask",
        "select-scenario",
        "select_scenario",
        "SelectScenario",
        "out/scenario.json.txt",
    ];
    for (n, name) in names.into_iter().enumerate() {
        space.run(&["build", name]).exits(0);
        assert_eq!(server.counts(), counts([("s", n + 1)]), "{name}");
        space.run(&["explain", name]).exits(0).says(&["select_scenario"]);
        space.run(&["clean", name, "-y"]).exits(0);
    }
}

#[test]
fn what_matches_nothing_gets_a_suggestion() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.summary]\ninputs = [\"plan.txt\"]\noutputs = [\"summary.txt\"]\nprompt = \"TASK=s\\n{{ plan }}\"\n",
    );
    for args in
        [&["build", "sumary"][..], &["explain", "sumary"], &["clean", "sumary", "-y"], &["touch", "sumary"]]
    {
        space.run(args).exits(2).says(&["sumary", "summary"]);
    }
    space.run(&["biuld"]).exits(2).says(&["build"]);
    space.run(&["build", "--dry-rum"]).exits(2).says(&["--dry-run"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_second_build_of_a_run_is_locked_out() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let first = space.spawn(&["build"]);
    server.wait_for_call("b");
    let pid = first.pid().as_raw_nonzero().to_string();
    space.run(&["build"]).exits(75).says(&["locked", &pid]);
    for args in [&["clean", "a", "-y"][..], &["touch", "a"]] {
        space.run(args).exits(75);
    }
    assert!(space.exists("a.txt"));
    // Looking is free.
    assert_eq!(space.state("b"), "running");
    space.run(&["status"]).exits(0).says(&["running"]);
    space.run(&["explain", "a"]).exits(0);
    space.run(&["build", "-n"]).exits(0);
    server.release("b");
    first.wait().exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_second_build_waits_if_asked() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let first = space.spawn(&["build"]);
    server.wait_for_call("b");
    let second = space.spawn(&["build", "--wait"]);
    until("the second to say that it waits", || (!second.stderr().is_empty()).then_some(()));
    server.release("b");
    first.wait().exits(0);
    second.wait().exits(0);
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn many_builds_at_once_pay_once() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let builds: Vec<Running> = (0..6).map(|_| space.spawn(&["build", "--wait"])).collect();
    for build in builds {
        build.wait().exits(0);
    }
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn default_targets_and_profiles_and_includes() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        &format!(
            r#"
[pipeline]
name = "parts"
default = ["b"]
include = ["stages/*.toml"]

[profiles.quick]
vars = {{ tone = "short" }}

[vars]
tone = "long"

{CHAIN}
"#
        ),
    );
    space.write(
        "stages/more.toml",
        "[task.d]\ninputs = [\"a.txt\"]\noutputs = [\"d.txt\"]\nprompt = \"TASK=d\\n{{ vars.tone }}: {{ a }}\"\n",
    );
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1)]));
    space.run(&["build", "d"]).exits(0);
    assert!(server.last("d").prompt.starts_with("TASK=d\nlong"));
    space.run(&["build", "d", "--profile", "quick"]).exits(0);
    assert_eq!((server.count("a"), server.count("d")), (1, 2));
    assert!(server.last("d").prompt.starts_with("TASK=d\nshort"));
    space.run(&["build", "--profile", "quik"]).exits(2).says(&["quick"]);
}

#[test]
fn reasons_are_given_as_it_goes() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.run(&["build", "--explain"]).exits(0).says(&["plan.txt", "a.txt"]);
    assert_eq!(server.total(), 6);
}

#[test]
fn a_budget_stops_short() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline_with(
        &server,
        "price = { input = 1000000.0, output = 1000000.0 }",
        &format!("[budget]\ncost = 2.0\n{CHAIN}"),
    );
    space.write("plan.txt", "x");
    space.run(&["build"]).exits(3).says(&["cost"]);
    assert_eq!(server.total(), 1, "one call is more than two dollars");
    assert!(space.is_done("a.txt"));
    assert!(space.report()["cost_usd"].as_f64().is_some_and(|cost| cost > 2.0), "{:#}", space.report());
    space.edit("pipeline.toml", "cost = 2.0", "cost = 100000.0");
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_running_build_is_paused_and_resumed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.write(".planexe/pause", "");
    until("the build to say that it pauses", || build.stderr().contains("pause").then_some(()));
    server.release("a");
    until("a to be done", || space.is_done("a.txt").then_some(()));
    assert_eq!(space.report()["run"]["phase"], "paused");
    space.run(&["build"]).exits(75);
    assert_eq!(server.counts(), counts([("a", 1)]));
    space.remove(".planexe/pause");
    build.wait().exits(0);
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn failures_may_be_kept() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = space(&server, FIVE);
    space.run(&["build"]).exits(1);
    assert_eq!(server.count("bad"), 1);
    space.run(&["build", "--keep-failed"]).exits(1).says(&["bad"]);
    assert_eq!(server.count("bad"), 1);
    space.run(&["build"]).exits(1);
    assert_eq!(server.count("bad"), 2);
}

#[test]
fn a_running_build_is_stopped_by_a_file() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.write(".planexe/stop", "");
    until("the build to say that it stops", || build.stderr().contains("stop").then_some(()));
    server.release("a");
    build.wait().exits(3);
    assert!(space.is_done("a.txt"), "what runs is finished and recorded");
    assert_eq!(server.counts(), counts([("a", 1)]));
    // The file is older than the next build.
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn priorities_and_pools() {
    let server = FakeLlm::new();
    let task = |name: &str, keys: &str| {
        format!("[task.{name}]\noutputs = [\"{name}.txt\"]\nprompt = \"TASK={name}\\nx\"\n{keys}\n\n")
    };
    let ordered = Space::new();
    ordered.pipeline(
        &server,
        &(task("low", "priority = -1") + &task("none", "") + &task("high", "priority = 9")),
    );
    ordered.run(&["build", "-j1"]).exits(0);
    assert_eq!(server.order(), ["high", "none", "low"]);
    ordered.assert_nothing_to_do(&server);

    let server = FakeLlm::new();
    server.hold_all();
    let pooled = Space::new();
    let tasks: String = (0..4).map(|n| task(&format!("t{n}"), "pool = \"narrow\"")).collect();
    pooled.pipeline(&server, &format!("[pools]\nnarrow = 2\n\n{}{tasks}", task("free", "")));
    let build = pooled.spawn(&["build", "-j8"]);
    server.wait_for_total(3);
    server.wait_for_call("free");
    server.release_all();
    build.wait().exits(0);
    assert!(server.most_in_flight() <= 3, "two of the pool and the free one: {}", server.most_in_flight());
    pooled.assert_nothing_to_do(&server);
}

#[test]
fn commands_take_part_in_the_jobserver_of_make() {
    let server = FakeLlm::new();
    let tasks: String = (0..6)
        .map(|n| {
            format!(
                "[task.t{n}]\noutputs = [\"t{n}.txt\"]\n\
                 command = \"touch ../on.{n}; ls ../on.* | wc -l >> ../most.log; sleep 0.1; rm ../on.{n}; echo {n} > $out\"\n\n"
            )
        })
        .collect();
    let space = space(&server, &tasks);
    space.write("Makefile", "all:\n\t+$(PLANEXE) build\n");
    let out = space
        .start(space.program("make", &["-j2", "all"]))
        .wait()
        .exits(0)
        .says_nothing_of(&["jobserver tokens", "warning"]);
    let most = std::fs::read_to_string(space.root().join("most.log")).expect("the log");
    let most: Vec<usize> = most.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    assert!(most.len() == 6 && most.iter().all(|&n| n <= 2), "more than two at once: {most:?}\n{out}");
    space.assert_nothing_to_do(&server);
}
