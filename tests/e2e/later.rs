//! Commands the contract names that are still to come. Each test loses its `ignore` with its command.

use crate::support::{Answer, FakeLlm, Space, counts, until};

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

fn space(server: &FakeLlm, tasks: &str) -> Space {
    let space = Space::with(server, tasks);
    space.write("plan.txt", "Build a bridge.\n");
    space
}

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
#[ignore = "the command is still to come"]
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
fn a_dead_webhook_neither_slows_nor_fails_a_build() {
    let server = FakeLlm::new();
    let tasks = format!(
        "[webhooks.dead]\nurl = \"http://127.0.0.1:9/hook\"\n\n[hooks]\non_completed = [\"no-such-program-here\"]\n{CHAIN}"
    );
    let space = space(&server, &tasks);
    space.build();
    assert_eq!(server.total(), 3);
    space.run(&["build", "-q"]).exits(0);
}

#[test]
#[ignore = "webhooks are still to come"]
fn events_are_posted_to_webhooks() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("c", 0) => Answer::error(400, "the words of the server"),
        _ => Answer::Default,
    });
    let space = space(&server, &format!("[webhooks.all]\nurl = \"{}\"\n{CHAIN}", server.hook_url()));
    space.run(&["build"]).exits(1);
    let events = || -> Vec<(String, String)> {
        let posts = server.posts().into_iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        posts.map(|post| (text(&post["event"]), text(&post["task"]))).collect()
    };
    until("the failure to be posted", || {
        events().iter().any(|(event, _)| event == "pipeline.failed").then_some(())
    });
    let has = |event: &str, task: &str| events().contains(&(event.to_owned(), task.to_owned()));
    assert!(
        has("task.started", "a") && has("task.completed", "a") && has("task.failed", "c"),
        "{:?}",
        events()
    );
    for post in server.posts() {
        for name in ["event", "run_id_dir", "timestamp_utc"] {
            assert!(post[name].is_string(), "{name}: {post:?}");
        }
    }
    let failed = server.posts().into_iter().find(|post| post["event"] == "task.failed").expect("posted");
    assert!(failed["error_summary"].as_str().is_some_and(|text| text.contains("the words of the server")));
    space.build();
    until("the end to be posted", || {
        events().iter().any(|(event, _)| event == "pipeline.completed").then_some(())
    });
}

#[test]
#[ignore = "hooks are still to come"]
fn local_programs_are_run_on_events() {
    let server = FakeLlm::new();
    let hooks =
        "[hooks]\non_completed = [\"sh\", \"-c\", \"cat >> ../completed.log; echo >> ../completed.log\"]\n";
    let space = space(&server, &format!("{hooks}{CHAIN}"));
    space.build();
    let log = std::fs::read_to_string(space.root().join("completed.log")).expect("the log");
    assert!(log.contains("\"task\"") && space.tally("completed") >= 3, "{log}");
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
    assert_ne!(build.wait().code, 0);
    assert!(space.is_done("a.txt"));
    server.release("b");
    assert_ne!(space.run(&["resume"]).says(&["--force"]).code, 0);
    space.run(&["resume", "--force"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}
