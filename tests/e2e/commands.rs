//! The command line: what each command says, what it changes, and how it exits.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Running, Space, counts, until};

/// Three tasks, each reading the one before.
const CHAIN: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nGo on from: {{ a }}"

[task.c]
inputs = ["b.txt"]
outputs = ["c.txt"]
prompt = "TASK=c\nConclude from: {{ b }}"
"#;

/// Two roots with a reader each, and one that reads both.
const FIVE: &str = r#"
[task.bad]
inputs = ["plan.txt"]
outputs = ["bad.txt"]
prompt = "TASK=bad\n{{ plan }}"

[task.good]
inputs = ["plan.txt"]
outputs = ["good.txt"]
prompt = "TASK=good\n{{ plan }}"

[task.after_bad]
inputs = ["bad.txt"]
outputs = ["after_bad.txt"]
prompt = "TASK=after_bad\n{{ bad }}"

[task.after_good]
inputs = ["good.txt"]
outputs = ["after_good.txt"]
prompt = "TASK=after_good\n{{ good }}"

[task.both]
inputs = ["after_bad.txt", "after_good.txt"]
outputs = ["both.txt"]
prompt = "TASK=both\n{{ after_bad }}{{ after_good }}"
"#;

fn space(server: &FakeLlm, tasks: &str) -> Space {
    let space = Space::with(server, tasks);
    space.write("plan.txt", "Build a bridge.\n");
    space
}

/// A built chain.
fn built(server: &FakeLlm) -> Space {
    let space = space(server, CHAIN);
    space.build();
    space
}

/// A run of [`FIVE`] in which `bad` is about to fail while `good` is held.
fn failing(server: &FakeLlm, space: &Space, args: &[&str]) -> Running {
    server.script(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    server.hold("bad");
    server.hold("good");
    let build = space.spawn(args);
    server.wait_for_call("bad");
    server.wait_for_call("good");
    server.release("bad");
    build
}

fn states(space: &Space) -> Vec<(String, String)> {
    let report = space.report();
    let tasks = report["tasks"].as_array().expect("tasks").iter();
    tasks.map(|task| (text(&task["task"]), text(&task["state"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

// ---- build

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
fn looking_changes_nothing() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    let before = space.everything();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["explain", "a"],
        &["explain", "c"],
        &["check"],
        &["history"],
        &["history", "a"],
        &["graph"],
        &["clean", "a", "--dry-run"],
        &["build", "-q"],
    ] {
        let out = space.run(args);
        assert!(out.code <= 1, "{out}");
        space.everything().assert_same_as(&before, &out);
    }
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
    space.run(&["build", "b", "--only"]).exits(0).says(&["c", "stale"]);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 3), ("c", 2)]));
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
fn usage_faults_exit_2() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.run(&["build"]).exits(2).says(&["pipeline.toml"]);
    space.run(&["status"]).exits(2).says(&["pipeline.toml"]);
    space.run(&["build", "-C", "nowhere"]).exits(2).says(&["nowhere"]);
    space.run(&["build", "-f", "nowhere.toml"]).exits(2).says(&["nowhere.toml"]);
    space.pipeline(&server, CHAIN);
    space.write("plan.txt", "x");
    space.run(&["build", "-j", "none"]).exits(2);
    space.run(&["build", "-D", "novalue"]).exits(2);
    space.run(&["-h"]).exits(0).says(&["build", "status"]);
    space.run(&["build", "-h"]).exits(0).says(&["--dry-run"]);
    space.run(&["-V"]).exits(0).says(&["planexe", env!("CARGO_PKG_VERSION")]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn all_faults_of_a_pipeline_at_once_with_their_places() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.one]
inputs = ["plan.txt"]
outputs = ["one.txt"]
promt = "TASK=one\n{{ plan }}"

[task.two]
inputs = ["three.txt"]
outputs = ["two.txt"]
prompt = "prompts/not-there.md"

[task.three]
inputs = ["two.txt"]
outputs = ["three.txt"]
prompt = "TASK=three\nx"
model = "fakke"

[task.four]
outputs = ["one.txt"]
prompt = "TASK=four\nx"
"#,
    );
    let pipeline = space.read("pipeline.toml");
    let line = |text: &str| pipeline.lines().position(|line| line.contains(text)).expect(text) + 1;
    for args in [&["check"][..], &["build"], &["build", "-n"]] {
        let out =
            space.run(args).exits(2).says(&["promt", "prompt", "not-there.md", "fakke", "fake", "one.txt"]);
        for place in ["promt", "not-there", "fakke"] {
            assert!(
                out.stderr.contains(&format!("pipeline.toml:{}", line(place))),
                "no place of {place}\n{out}"
            );
        }
    }
    assert_eq!(server.requests(), 0);
    space.pipeline(&server, CHAIN);
    space.run(&["check"]).exits(0);
}

#[test]
fn a_cycle_is_named_as_a_whole() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.edit("pipeline.toml", "\"plan.txt\"", "\"plan.txt\", \"c.txt\"");
    space.run(&["build"]).exits(2).says(&["cycle", "a", "b", "c"]);
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
fn a_run_below_is_not_built_by_chance() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::create_dir_all(space.path("notes/deep")).expect("a folder");
    let below = |args: &[&str]| {
        let mut command = space.command(args);
        command.current_dir(space.path("notes/deep"));
        space.start(command).wait()
    };
    below(&["build"]).exits(2).says(&["-C"]);
    assert_eq!(server.requests(), 0);
    below(&["status"]).exits(0).says(&["a", "b", "c"]);
    below(&["build", "-C", "../.."]).exits(0);
    assert_eq!(server.total(), 3);
    below(&["explain", "a"]).exits(0).says(&["fresh"]);
    below(&["build", "--run-dir", "../.."]).exits(0);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_pipeline_named_by_file_runs_here() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::create_dir(space.path("kit")).expect("a folder");
    space.edit("pipeline.toml", "\"TASK=a\\nSummarise: {{ plan }}\"", "\"prompts/a.md\"");
    std::fs::rename(space.path("pipeline.toml"), space.path("kit/other.toml")).expect("rename");
    space.write("kit/prompts/a.md", "TASK=a\nFrom a file: {{ plan }}");
    space.run(&["build", "-f", "kit/other.toml"]).exits(0);
    assert_eq!(server.total(), 3);
    assert!(server.last("a").prompt.starts_with("TASK=a\nFrom a file: Build"));
    assert!(space.exists("a.txt") && !space.exists("kit/a.txt"));
    space.run(&["build", "-q", "-f", "kit/other.toml"]).exits(0);
    space.run(&["status", "-f", "kit/other.toml"]).exits(0).says(&["done"]);
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
fn nothing_outside_the_run_is_read_unless_allowed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::write(space.root().join("secret.txt"), "a secret\n").expect("secret");
    for (input, link) in [("../secret.txt", false), ("linked.txt", true)] {
        space.pipeline(&server, CHAIN);
        space.edit("pipeline.toml", "\"plan.txt\"", &format!("\"plan.txt\", \"{input}\""));
        if link {
            std::os::unix::fs::symlink("../secret.txt", space.path("linked.txt")).expect("a link");
        }
        space.run(&["build"]).exits(2).says(&[input, "--allow-outside"]);
        assert_eq!(server.requests(), 0, "{input}");
    }
    let secret = space.root().join("secret.txt");
    space.run(&["build", "--allow-outside", secret.to_str().expect("a path")]).exits(0);
    assert_eq!(server.total(), 3);
}

#[test]
fn outputs_may_not_leave_the_run_nor_take_names_of_its_own() {
    let server = FakeLlm::new();
    for output in [
        "../out.txt",
        "/tmp/out.txt",
        "pipeline.toml",
        ".planexe/x",
        "x.DONE",
        "x.status",
        "out/",
        "a/../../b",
        ".git/hooks/x",
    ] {
        let space = Space::new();
        space.pipeline(&server, &format!("[task.a]\noutputs = [\"{output}\"]\nprompt = \"TASK=a\\nx\"\n"));
        let out = space.run(&["build"]);
        assert_eq!(out.code, 2, "{output}: {out}");
    }
    let space = Space::new();
    space.pipeline(&server, "[task.a]\noutputs = [\"Out.txt\"]\ncommand = \"x\"\n[task.b]\noutputs = [\"out.txt\"]\ncommand = \"x\"\n");
    space.run(&["build"]).exits(2).says(&["Out.txt", "out.txt"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_link_put_where_an_output_goes_is_not_written_through() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::write(space.root().join("precious.txt"), "precious\n").expect("precious");
    std::os::unix::fs::symlink("../precious.txt", space.path("b.txt")).expect("a link");
    space.build();
    let precious = std::fs::read_to_string(space.root().join("precious.txt")).expect("precious");
    assert_eq!(precious, "precious\n");
    assert!(space.read("b.txt").contains("to b"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn keys_stay_out_of_everything_written_and_said() {
    let key = "sk-test-0123456789abcdefghij";
    let server = FakeLlm::scripted(move |request| match request.task.as_str() {
        "bad" => Answer::error(401, &format!("Incorrect API key provided: {key}")),
        _ => Answer::Default,
    });
    let space = Space::new();
    space.pipeline_with(&server, "api_key_env = \"FAKE_KEY\"", FIVE);
    space.write("plan.txt", "x");
    space.set_env("FAKE_KEY", key);
    // The refusal closes the endpoint: both are asked before it comes.
    server.hold("bad");
    let build = space.spawn(&["build", "--json"]);
    server.wait_for_call("bad");
    server.wait_for_call("good");
    server.release("bad");
    let out = build.wait().exits(1).says_nothing_of(&[key]);
    assert_eq!(server.last("good").headers.get("authorization"), Some(&format!("Bearer {key}")), "{out}");
    space.run(&["status", "--json"]).says_nothing_of(&[key]);
    for path in space.files("") {
        let bytes = space.bytes(&path);
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found, "the key is in {path}");
    }
}

#[test]
fn a_key_goes_to_no_host_it_is_not_bound_to() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.set_env("OPENAI_API_KEY", "sk-test-0123456789abcdefghij");
    space.edit("pipeline.toml", &server.base_url(), "https://evil.example.invalid/v1");
    space.edit("pipeline.toml", "model = \"fake-1\"", "model = \"fake-1\"\napi_key_env = \"OPENAI_API_KEY\"");
    space.run(&["build"]).exits(2).says(&["OPENAI_API_KEY", "evil.example.invalid"]);
    assert!(!space.exists("a.txt.status"), "nothing ran");
}

#[test]
fn what_a_model_says_does_not_reach_the_terminal_as_escapes() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}not this one";
    let server = FakeLlm::scripted(move |_| Answer::error(400, evil));
    let space = space(&server, CHAIN);
    let build = space.run(&["build"]).exits(1);
    for out in [build, space.run(&["status"]), space.run(&["explain", "a"])] {
        for c in ['\u{1b}', '\u{7}', '\u{202e}'] {
            assert!(!out.stdout.contains(c) && !out.stderr.contains(c), "{c:?} in {out:?}");
        }
    }
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

// ---- status, explain

#[test]
fn status_before_any_task() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let before = space.everything();
    let out = space.run(&["status", "--json"]).exits(0);
    space.everything().assert_same_as(&before, &out);
    let report = out.json();
    assert!(report["schema"].is_number(), "{report:#}");
    assert_eq!(report["server"]["name"], "planexe");
    assert_eq!(report["server"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["server"]["host"].is_string());
    assert_eq!(report["run"]["dir"], space.dir().to_str().expect("a path"));
    assert!(report["run"]["pipeline"].is_string() && report["run"]["phase"].is_string(), "{report:#}");
    assert_eq!(report["steps_completed"], 0);
    assert_eq!(report["steps_total"], 3);
    assert_eq!(report["last_completed_step"], -1);
    for name in ["last_completed_task", "last_checkpoint_id", "last_progress_at", "last_llm_call_at", "error"]
    {
        assert_eq!(report.get(name), Some(&Value::Null), "{name}: {report:#}");
    }
    assert_eq!(report["quality_summary"]["complete"], false);
    assert!(report["counts"].is_object());
    let tasks = report["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        assert!(task["reasons"].is_array() && task["verdict"].is_string(), "{task:#}");
        let state = text(&task["state"]);
        assert!(["pending", "stale", "blocked"].contains(&state.as_str()), "{task:#}");
    }
    assert_eq!(
        (&tasks[0]["task"], &tasks[2]["task"]),
        (&json!("a"), &json!("c")),
        "in the order of the graph"
    );
}

#[test]
fn status_of_a_complete_run() {
    let server = FakeLlm::new();
    let space = built(&server);
    let report = space.report();
    assert_eq!((&report["steps_completed"], &report["steps_total"]), (&json!(3), &json!(3)));
    assert_eq!((&report["last_completed_step"], &report["last_completed_task"]), (&json!(2), &json!("c")));
    assert_eq!(report["counts"]["done"], 3);
    assert_eq!(report["error"], Value::Null);
    assert_eq!(report["quality_summary"]["complete"], true, "{report:#}");
    assert_eq!(report["quality_summary"]["partial"], json!([]));
    for name in ["last_checkpoint_id", "last_progress_at", "last_llm_call_at"] {
        assert!(report[name].is_string(), "{name}: {report:#}");
    }
    let task = space.status("b");
    assert_eq!((&task["state"], &task["verdict"]), (&json!("done"), &json!("fresh")), "{task:#}");
    assert_eq!(task["attempt"], 1);
    assert_eq!(task["api"], "openai");
    assert!(
        task["duration_s"].is_number() && task["started_utc"].is_string() && task["ended_utc"].is_string()
    );
    assert!(task["decision_id"].is_string() && task["checkpoint_id"].is_string(), "{task:#}");
    assert_eq!(task["usage"]["calls"], 1);
    assert!(
        task["usage"]["input_tokens"].as_u64() > Some(0) && task["usage"]["output_tokens"].as_u64() > Some(0)
    );
    assert_eq!(task["outputs"][0]["path"], "b.txt");
    assert_eq!(task["outputs"][0]["bytes"], space.bytes("b.txt").len());
    assert_eq!(task["outputs"][0]["blake3"], blake3::hash(&space.bytes("b.txt")).to_hex().as_str());
    assert_eq!(task.get("failure").unwrap_or(&Value::Null), &Value::Null);
    assert_eq!(space.status("c")["checkpoint_id"], report["last_checkpoint_id"]);
}

#[test]
fn sidecars_are_as_the_contract_says() {
    let server = FakeLlm::new();
    let space = built(&server);
    let done = space.done("b.txt");
    assert!(done["schema"].is_number() && done["fingerprint"].is_string(), "{done:#}");
    assert_eq!((&done["task"], &done["by"]), (&json!("b"), &json!("build")));
    assert_eq!(done["inputs"][0]["path"], "a.txt");
    assert_eq!(done["inputs"][0]["blake3"], blake3::hash(&space.bytes("a.txt")).to_hex().as_str());
    assert_eq!(done["outputs"][0]["path"], "b.txt");
    assert_eq!(done["outputs"][0]["bytes"], space.bytes("b.txt").len());
    assert!(done["completed_utc"].as_str().is_some_and(|time| time.ends_with('Z')), "{done:#}");
    assert!(done["checkpoint_id"].is_string());
    let status = space.sidecar("b.txt");
    assert_eq!((&status["task"], &status["state"]), (&json!("b"), &json!("done")));
    assert_eq!(status["checkpoint_id"], done["checkpoint_id"]);
    let metrics = space.lines("usage_metrics.jsonl");
    let tasks: Vec<_> = metrics.iter().map(|line| text(&line["task"])).collect();
    assert_eq!(tasks, ["a", "b", "c"]);
    for line in &metrics {
        assert_eq!(line["success"], true);
        assert!(line["input_tokens"].as_u64() > Some(0) && line["duration_seconds"].is_number(), "{line:#}");
    }
    let overview = space.json("activity_overview.json");
    assert!(overview["total_input_tokens"].as_u64() > Some(0), "{overview:#}");
}

#[test]
fn status_of_a_failed_run_says_what_and_what_next() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" => Answer::error(400, "the words of the server"),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    space.run(&["build"]).exits(1).says(&["b", "the words of the server"]);
    let report = space.report();
    assert_eq!(report["last_completed_task"], "a");
    let error = &report["error"];
    assert_eq!(error["failed_step"], "b", "{report:#}");
    assert!(text(&error["message"]).contains("the words of the server"), "{error:#}");
    assert!(
        error["failure_reason"].is_string() && error["recoverable"].is_boolean() && error["next"].is_string()
    );
    let failure = &space.status("b")["failure"];
    assert_eq!(failure["class"], "bad_request", "{failure:#}");
    assert!(failure["error_id"].is_string());
    assert_eq!(space.state("c"), "blocked");
    space.run(&["status"]).exits(0).says(&["failed", "b", "blocked", "c", "the words of the server"]);
    space.run(&["explain", "b"]).exits(0).says(&["failed", "the words of the server"]);
    space.run(&["explain", "c"]).exits(0).says(&["b"]);
    let logged = space.lines("failures.jsonl");
    assert_eq!(logged.len(), 1, "{logged:#?}");
    for name in [
        "timestamp_utc",
        "model",
        "attempt",
        "error_type",
        "raw_error",
        "run_id_dir",
        "error_id",
        "class",
        "recoverable",
        "decision_id",
    ] {
        assert!(logged[0].get(name).is_some_and(|value| !value.is_null()), "{name}: {:#}", logged[0]);
    }
    assert_eq!(logged[0]["error_id"], failure["error_id"]);
}

#[test]
fn explain_names_the_part_that_changed() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["explain", "b"]).exits(0).says(&["fresh"]);
    space.edit("pipeline.toml", "Go on from", "Carry on after");
    space.run(&["explain", "b"]).exits(0).says(&["stale", "prompt", "Go on from", "Carry on after"]);
    space.run(&["explain", "c"]).exits(0).says(&["b"]);
    let explained = space.run(&["explain", "b", "--json"]).exits(0).json();
    assert!(explained.to_string().contains("prompt"), "{explained:#}");
    assert_eq!(space.status("b")["verdict"], "stale");
    assert!(!space.status("b")["reasons"].as_array().expect("reasons").is_empty());
    assert!(text(&space.status("c")["verdict"]).starts_with("depends"), "{:#}", space.status("c"));
    assert_eq!(space.status("a")["verdict"], "fresh");
}

#[test]
fn status_works_where_nothing_may_be_written() {
    let server = FakeLlm::new();
    let space = built(&server);
    let before = space.everything();
    let chmod =
        |mode: &str| Command::new("chmod").args(["-R", mode]).arg(space.dir()).status().expect("chmod");
    assert!(chmod("a-w").success());
    let out = space.run(&["status", "--json"]).exits(0);
    space.run(&["explain", "a"]).exits(0).says(&["fresh"]);
    assert!(chmod("u+w").success());
    assert_eq!(out.json()["steps_completed"], 3);
    space.everything().assert_same_as(&before, &out);
}

// ---- clean, touch, history, restore

#[test]
fn clean_refuses_without_a_terminal_and_lists_with_dry_run() {
    let server = FakeLlm::new();
    let space = built(&server);
    for command in ["clean", "invalidate"] {
        let before = space.visible();
        let out = space.run(&[command, "b"]).exits(2).says(&["-y"]);
        space.visible().assert_same_as(&before, &out);
        let out = space
            .run(&[command, "b", "--dry-run"])
            .exits(0)
            .says(&["b.txt"])
            .says_nothing_of(&["a.txt", "c.txt"]);
        space.visible().assert_same_as(&before, &out);
        for all in ["--downstream", "--cascade"] {
            let out = space.run(&[command, "b", all, "--dry-run"]).exits(0);
            let out = out.says(&["b.txt", "c.txt"]).says_nothing_of(&["a.txt"]);
            space.visible().assert_same_as(&before, &out);
        }
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn invalidating_one_task_or_all_downstream() {
    let server = FakeLlm::new();
    let space = built(&server);
    let run = space.dir().to_str().expect("a path").to_owned();
    space.run(&["invalidate", "BTask", "--run-dir", &run, "-y"]).exits(0).says(&["b.txt"]);
    assert!(space.exists("a.txt") && !space.exists("b.txt") && space.exists("c.txt"));
    // The same prompts give the same answers: c is not asked again.
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    let tree = space.tree();
    space.run(&["clean", "b", "--downstream", "-y"]).exits(0).says(&["b.txt", "c.txt"]);
    assert!(space.exists("a.txt") && !space.exists("b.txt") && !space.exists("c.txt"));
    space.build();
    assert_eq!((server.counts(), space.tree()), (counts([("a", 1), ("b", 3), ("c", 2)]), tree));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_file_that_is_no_output_survives_every_clean() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("mine.txt", "mine");
    space.write("b.txt.notes", "mine as well");
    space.run(&["clean", "a", "--downstream", "-y"]).exits(0);
    space.run(&["clean", "--orphans", "-y"]).exits(0);
    assert_eq!(
        (space.read("mine.txt"), space.read("b.txt.notes")),
        ("mine".to_owned(), "mine as well".to_owned())
    );
    assert!(space.exists("plan.txt") && space.exists("pipeline.toml"));
}

#[test]
fn touch_accepts_what_is_there() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.run(&["build", "-q"]).exits(1);
    space.run(&["touch", "a"]).exits(0);
    assert_eq!(space.done("a.txt")["by"], "touch");
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
    // What is not there cannot be accepted.
    space.remove("b.txt");
    assert_ne!(space.run(&["touch", "b"]).says(&["b.txt"]).code, 0);
}

#[test]
fn what_was_replaced_can_be_found_and_brought_back() {
    let server = FakeLlm::new();
    let space = built(&server);
    let first = space.tree();
    let checkpoint = text(&space.report()["last_checkpoint_id"]);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    let second = space.tree();
    assert_ne!(first["c.txt"], second["c.txt"]);
    space.run(&["history", "c"]).exits(0).says(&["c.txt"]);

    space.run(&["restore", "--checkpoint", &checkpoint]).exits(0);
    for output in ["a.txt", "b.txt", "c.txt"] {
        assert_eq!(space.tree()[output], first[output], "{output}");
    }
    // The outputs are those of the former plan: a build with the present plan uses what is kept.
    space.build();
    assert_eq!((server.total(), space.tree()), (6, second));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_clean_took_comes_back() {
    let server = FakeLlm::new();
    let space = built(&server);
    let tree = space.tree();
    space.run(&["clean", "b", "--downstream", "-y"]).exits(0);
    assert_ne!(space.tree(), tree);
    space.run(&["restore", "b"]).exits(0).says(&["b.txt"]);
    space.run(&["restore", "c"]).exits(0).says(&["c.txt"]);
    assert_eq!(space.tree(), tree);
}

#[test]
fn a_checkpoint_in_the_middle_drops_what_came_later() {
    let server = FakeLlm::new();
    let space = built(&server);
    let checkpoint = text(&space.done("a.txt")["checkpoint_id"]);
    space.run(&["restore", "--checkpoint", &checkpoint]).exits(0);
    let report = space.report();
    assert_eq!(report["last_checkpoint_id"], checkpoint.as_str(), "{report:#}");
    assert_eq!((&report["last_completed_task"], &report["last_completed_step"]), (&json!("a"), &json!(0)));
    assert!(space.is_done("a.txt") && !space.is_done("b.txt") && !space.is_done("c.txt"));
    space.build();
    space.assert_nothing_to_do(&server);
}

// ---- record, new, graph, steering

#[test]
fn recorded_answers_play_the_run_again_byte_by_byte() {
    let server = FakeLlm::scripted(|request| match &request.schema {
        Some(_) => Answer::Default,
        None => format!("Draw {} of {}.", request.nth, request.task).into(),
    });
    let tasks = format!(
        "{CHAIN}
[task.shaped]
inputs = [\"c.txt\"]
outputs = [\"shaped.json\"]
prompt = \"TASK=shaped\\n{{{{ c }}}}\"
schema = \"shaped.schema.json\"
"
    );
    let space = space(&server, &tasks);
    let schema = r#"{"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}"#;
    space.write("shaped.schema.json", schema);
    space.build();
    space.run(&["record", "../answers.jsonl"]).exits(0);

    let play = |on_miss: &str| {
        let play = Space::new();
        play.write(
            "pipeline.toml",
            format!(
                "[models.played]\napi = \"recorded\"\nfile = \"answers.jsonl\"\n{on_miss}\n\n[defaults]\nmodel = \"played\"\n{tasks}"
            ),
        );
        std::fs::copy(space.root().join("answers.jsonl"), play.path("answers.jsonl")).expect("the answers");
        play.write("plan.txt", "Build a bridge.\n");
        play.write("shaped.schema.json", schema);
        play
    };
    let same = play("");
    same.run(&["build", "--frozen"]).exits(0);
    let (there, here) = (space.tree(), same.tree());
    for output in ["a.txt", "b.txt", "c.txt", "shaped.json"] {
        assert_eq!(there[output], here[output], "{output}");
    }
    same.assert_nothing_to_do(&server);
    assert_eq!(server.total(), 4);

    let miss = play("");
    miss.write("plan.txt", "Build a tunnel.\n");
    miss.run(&["build"]).exits(1).says(&["a"]);
    assert_eq!(miss.sidecar("a.txt")["failure"]["class"], "not_recorded");

    let sample = play("on_miss = \"task\"");
    sample.write("plan.txt", "Build a tunnel.\n");
    sample.run(&["build"]).exits(0);
    assert_eq!(sample.tree()["a.txt"], there["a.txt"]);
    assert_eq!(
        (&sample.status("a")["sample"], &sample.done("a.txt")["sample"]),
        (&json!(true), &json!(true))
    );
    assert!(sample.report()["quality_summary"]["sample"].to_string().contains("\"a\""));
    let frozen = play("on_miss = \"task\"");
    frozen.write("plan.txt", "Build a tunnel.\n");
    assert_ne!(frozen.run(&["build", "--frozen"]).says(&["a"]).code, 0);
    assert_ne!(sample.run(&["build", "--frozen"]).says(&["sample"]).code, 0);
    assert_eq!(server.total(), 4);
}

#[test]
fn simulated_answers_are_the_same_each_time() {
    let make = || {
        let space = Space::new();
        space.write(
            "pipeline.toml",
            format!(
                "[models.made_up]\napi = \"simulated\"\nseed = 7\n\n[defaults]\nmodel = \"made_up\"\n{CHAIN}"
            ),
        );
        space.write("plan.txt", "Build a bridge.\n");
        space.build();
        space
    };
    let (one, two) = (make(), make());
    assert_eq!(one.tree(), two.tree());
    one.assert_nothing_to_do(&FakeLlm::new());
}

#[test]
fn a_new_run_of_a_pipeline() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["new", "first"]).exits(0);
    assert!(space.exists("first/run.toml"), "{:?}", space.files(""));
    assert!(space.read("first/run.toml").contains("../pipeline.toml"));
    space.write("first/plan.txt", "Build a tunnel.\n");
    space.run(&["build", "-C", "first"]).exits(0);
    assert_eq!(server.total(), 3);
    assert!(space.exists("first/c.txt") && !space.exists("c.txt"));
    space.run(&["build", "-q", "-C", "first"]).exits(0);
    // What is there is not written over.
    assert_ne!(space.run(&["new", "first"]).code, 0);
    assert_eq!(server.total(), 3);
}

#[test]
fn the_graph_as_text_for_others() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let dot = space.run(&["graph", "--format", "dot"]).exits(0).stdout;
    assert!(dot.starts_with("digraph") && dot.contains("->"), "{dot}");
    let mermaid = space.run(&["graph", "--format", "mermaid"]).exits(0).stdout;
    assert!(mermaid.contains("-->"), "{mermaid}");
    let graph = space.run(&["graph", "--format", "json"]).exits(0).json();
    for task in ["a", "b", "c"] {
        assert!(graph.to_string().contains(&format!("\"{task}\"")), "{graph:#}");
    }
    assert_eq!(server.requests(), 0);
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
fn a_name_too_long_for_its_sidecars() {
    let server = FakeLlm::new();
    let name = format!("{}.txt", "n".repeat(250));
    let space = space(
        &server,
        &format!(
            "[task.long]\ninputs = [\"plan.txt\"]\noutputs = [\"{name}\"]\nprompt = \"TASK=long\\n{{{{ plan }}}}\"\n"
        ),
    );
    space.build();
    assert!(space.read(&name).contains("to long"));
    assert_eq!(space.state("long"), "done");
    space.assert_nothing_to_do(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(server.total(), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_thousand_tasks_are_shown_at_once() {
    let server = FakeLlm::new();
    let tasks: String = (0..1000)
        .map(|n| format!("[task.t{n}]\ninputs = [\"plan.txt\"]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\n{{{{ plan }}}}\"\n\n"))
        .collect();
    let space = space(&server, &tasks);
    let report = space.report();
    assert_eq!(
        (report["tasks"].as_array().map(Vec::len), &report["steps_total"]),
        (Some(1000), &json!(1000))
    );
    space.run(&["build", "t7", "t77"]).exits(0);
    assert_eq!(server.counts(), counts([("t7", 1), ("t77", 1)]));
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
fn recipes_that_make_no_sense_are_faults() {
    let server = FakeLlm::new();
    for (task, words) in [
        ("outputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\ncommand = \"x\"", &["prompt", "command"][..]),
        ("outputs = [\"a.txt\", \"b.txt\"]\nprompt = \"TASK=a\\nx\"", &["b.txt", "template"]),
        ("prompt = \"TASK=a\\nx\"", &["outputs"]),
        (
            "inputs = [\"x/plan.txt\", \"y/plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"",
            &["plan"],
        ),
        ("outputs = [\"{{ vars.nothing }}.txt\"]\ncommand = \"x\"", &["nothing"]),
        ("outputs = [\"a.txt\"]\ncommand = \"x\"\ntimeout = \"soon\"", &["soon"]),
        ("outputs = [\"a.txt\"]\ncommand = \"x\"\nafter = [\"bb\"]", &["bb"]),
        ("outputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ plan\"", &["prompt"]),
    ] {
        let space = Space::new();
        space.pipeline(&server, &format!("[task.a]\n{task}\n"));
        space.write("x/plan.txt", "x");
        space.write("y/plan.txt", "y");
        space.run(&["build"]).exits(2).says(&["pipeline.toml:"]).says(words);
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn depth_and_size_are_capped() {
    let server = FakeLlm::new();
    let deep = 200_000;
    let space = space(&server, CHAIN);
    let pipeline = space.read("pipeline.toml");
    space.write(
        "pipeline.toml",
        format!("{pipeline}\n[vars]\ndeep = {}{}\n", "[".repeat(deep), "]".repeat(deep)),
    );
    space.run(&["build"]).exits(2).says(&["pipeline.toml"]);
    assert_eq!(server.requests(), 0);

    // An input, an answer, and a list of items.
    let bomb = "[".repeat(deep) + &"]".repeat(deep);
    space.pipeline(
        &server,
        "[task.a]\ninputs = { data = \"data.json\" }\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ data[0] }}\"\n",
    );
    space.write("data.json", &bomb);
    let out = space.run(&["build"]).says(&["data.json"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    space.pipeline(
        &server,
        "[task.a]\nforeach = { file = \"data.json\" }\noutputs = [\"{{ key }}.txt\"]\ncommand = \"x\"\n",
    );
    let out = space.run(&["build"]).says(&["data.json"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    space.pipeline(
        &server,
        "[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nx\"\nschema = \"a.schema.json\"\nmax_validation_retries = 0\n",
    );
    space.write("a.schema.json", "{\"type\": \"array\"}");
    server.script(move |_| bomb.clone().into());
    space.run(&["build"]).exits(1);
    assert!(!space.exists("a.json"));
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
    space.write("Makefile", "all:\n\t+$(PLANEXE) build -j8\n");
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

#[test]
fn nobody_reading_is_no_panic() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    for line in ["status", "status --json", "build -n", "explain a", "graph", "history", "-h", "schema"] {
        let line = format!("\"$PLANEXE\" {line} 2>&1 | true; \"$PLANEXE\" {line} | head -n1 >/dev/null");
        let out = space.start(space.program("sh", &["-c", &line])).wait().exits(0);
        assert!(!out.stderr.contains("panicked"), "{line}: {out}");
    }
    let closed = "\"$PLANEXE\" build >&- 2>&-";
    space.start(space.program("sh", &["-c", closed])).wait().exits(0);
    assert_eq!(server.total(), 6);
    space.assert_nothing_to_do(&server);
}

#[test]
fn names_of_a_hostile_pipeline_do_not_reach_the_terminal() {
    let server = FakeLlm::scripted(|_| {
        let evil = "data: {\"id\":\"x\",\"model\":\"\\u001b[31mred\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Fine.\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        Answer::Raw(
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{evil}")
                .into_bytes(),
        )
    });
    let space = Space::new();
    space.pipeline(
        &server,
        "[task.\"a\\u001b[31m\"]\ndescription = \"\\u001b]0;owned\\u0007\"\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\n\n[task.b]\ndescription = \"\\u001b]0;owned\\u0007\"\ninputs = [\"plan.txt\"]\noutputs = [\"b\\u202etxt\"]\nprompt = \"TASK=b\\nx\"\n",
    );
    space.write("plan.txt", "x");
    for args in [
        &["check"][..],
        &["build", "-n"],
        &["build"],
        &["status", "-v"],
        &["explain", "b"],
        &["graph"],
        &["history"],
    ] {
        let out = space.run(args);
        for c in ['\u{1b}', '\u{7}', '\u{202e}'] {
            assert!(!out.stdout.contains(c) && !out.stderr.contains(c), "{c:?}: {out:?}");
        }
    }
}

#[test]
fn a_run_behind_a_link() {
    let server = FakeLlm::new();
    let space = built(&server);
    std::os::unix::fs::symlink(space.dir(), space.root().join("link")).expect("a link");
    space.run(&["build", "-C", "../link"]).exits(0);
    space.run(&["build", "-q", "-C", "../link"]).exits(0);
    space.run(&["build", "-C", "../link/./"]).exits(0);
    assert_eq!(server.total(), 3);
    // A target by its path, as a shell completes it.
    for target in ["./c.txt", "c.txt"] {
        let out = space.run(&["build", "-q", target]);
        assert_eq!(out.code, 0, "{target}: {out}");
    }
}

#[test]
fn a_mistyped_command_is_an_answer_too() {
    let space = Space::new();
    for (arguments, said) in [
        (&["buidl", "--json"][..], "unrecognized subcommand 'buidl'"),
        (&["status", "--jsn", "--json"], "unexpected argument '--jsn' found"),
        (&["wait", "--json", "--for", "never"], "invalid value 'never' for '--for"),
    ] {
        let out = space.run(arguments).exits(2);
        let error = &out.json()["error"];
        assert_eq!((error["code"].as_str(), &error["exit_code"]), (Some("command_line"), &2.into()), "{out}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(said)), "{out}");
    }
    let out = space.run(&["buidl"]).exits(2);
    assert_eq!(out.stdout, "");
}
