//! What `status`, `explain` and sidecars say of a run.

use std::process::Command;

use serde_json::{Value, json};

use super::{built, text};
use crate::support::{Answer, CHAIN, FakeLlm, counts, space};

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
    // Another target that goes well does not complete the run.
    space.run(&["build", "a", "-B"]).exits(0);
    let report = space.report();
    assert_eq!((&report["run"]["phase"], &report["error"]["failed_step"]), (&json!("failed"), &json!("b")));
    space.run(&["resume", "-n"]).exits(0).says(&["continues at", "b"]);
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
