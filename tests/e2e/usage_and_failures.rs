//! What a build writes down of its calls, and what `planexe failures` and `planexe usage` make of it over
//! several runs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::faults::{TEXT, space};
use crate::support::wire::Dialect::{self, Anthropic, Openai};
use crate::support::wire::{DIALECTS, Wire, reply};
use crate::support::{Answer, FakeLlm, Space, until};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// One call that fails, then one that is answered.
fn run(dialect: Dialect) -> (Wire, Space) {
    let server = Wire::new(move |asked| match asked.nth {
        0 => reply(500, "", &dialect.error("api_error", "it broke")),
        _ => dialect.stream(
            dialect.opening()
                + &dialect.thought("Hm.")
                + &dialect.piece(TEXT)
                + &dialect.finish("stop")
                + dialect.end(),
        ),
    });
    let space = space(&server, dialect, "price = { input = 1.0, output = 10.0 }");
    space.build();
    (server, space)
}

#[test]
fn every_call_has_its_line_and_its_files() {
    for dialect in DIALECTS {
        let (server, space) = run(dialect);
        let lines = space.lines("usage_metrics.jsonl");
        assert_eq!((lines.len(), server.count()), (2, 2), "a line a call");
        let (failed, answered) = (&lines[0], &lines[1]);
        let always = [
            "timestamp",
            "success",
            "model",
            "duration_seconds",
            "input_tokens",
            "cached_tokens",
            "cache_write_tokens",
            "output_tokens",
            "thinking_tokens",
            "cost_usd",
            "task",
            "attempt",
            "run_id_dir",
            "gen_ai",
        ];
        let with_error =
            always.iter().copied().chain(["error", "error_detail", "error_id"]).collect::<BTreeSet<_>>();
        assert_eq!(keys(failed), with_error, "{dialect:?}");
        assert_eq!(keys(answered), always.into_iter().collect::<BTreeSet<_>>(), "{dialect:?}");
        assert_eq!((&failed["success"], &failed["error"]), (&json!(false), &json!("server_error")));
        assert_eq!((&answered["input_tokens"], &answered["output_tokens"]), (&json!(11), &json!(5)));
        assert_eq!((&answered["task"], &answered["attempt"]), (&json!("a"), &json!(2)));
        assert_eq!(answered["model"], format!("{}:m-1", dialect.api()));
        let cost = answered["cost_usd"].as_f64().expect("a cost");
        assert!((cost - 61e-6).abs() < 1e-12, "{dialect:?}: {cost}");
        let names = &answered["gen_ai"];
        assert_eq!((&names["operation.name"], &names["request.model"]), (&json!("chat"), &json!("m-1")));
        assert_eq!((&names["usage.input_tokens"], &names["usage.output_tokens"]), (&json!(11), &json!(5)));
        assert!(
            names["response.finish_reasons"][0].is_string()
                && names["response.time_to_first_chunk"].is_number()
        );
        assert_eq!(failed["gen_ai"]["error.type"], "server_error");
        // The sum over the lines.
        let overview = space.json("activity_overview.json");
        assert_eq!(
            (&overview["total_tokens"], &overview["models"][format!("{}:m-1", dialect.api())]["calls"]),
            (&json!(16), &json!(2))
        );
        // One id joins the log of failures, the metrics, the events and what was sent and answered.
        let failure = &space.lines("failures.jsonl")[0];
        assert_eq!(
            keys(failure),
            BTreeSet::from([
                "timestamp_utc",
                "task",
                "model",
                "attempt",
                "error_type",
                "missing_fields",
                "invalid_fields",
                "raw_error",
                "run_id_dir",
                "error_id",
                "class",
                "recoverable",
                "decision_id",
                "message",
            ])
        );
        assert!(failure["raw_error"].as_str().expect("what it said").contains("it broke"));
        let id = failure["error_id"].as_str().expect("an id").to_owned();
        assert_eq!(failed["error_id"], id.as_str());
        let retrying =
            space.lines("events.jsonl").into_iter().find(|event| event["event"] == "task.retrying");
        assert_eq!(retrying.expect("the event")["failure"]["error_id"], id.as_str());
        let kept: Vec<Value> = space
            .files(".planexe/calls")
            .iter()
            .filter(|path| path.ends_with(".json"))
            .map(|path| space.json(path))
            .collect();
        assert_eq!(kept.len(), 2, "request and answer of both");
        assert!(kept.iter().any(|call| call["error_id"] == id.as_str()), "{kept:#?}");
        assert!(kept.iter().all(|call| call["request"].is_object()));
        // Shown by name.
        space.run(&["failures"]).exits(0).says(&["server_error", "it broke", "m-1"]);
        space.run(&["usage"]).exits(0).says(&["m-1", "2"]);
    }
}

#[test]
fn several_runs_make_a_scorecard() {
    let (_one, first) = run(Openai);
    let (_two, second) = run(Anthropic);
    let other = second.dir().to_str().expect("a path").to_owned();
    let mine = first.dir().to_str().expect("a path").to_owned();
    let failures = first.run(&["failures", &mine, &other, "--json"]).exits(0).json();
    assert_eq!(failures["failures"].as_array().map(Vec::len), Some(2), "{failures:#}");
    assert_eq!(failures["server"]["name"], "planexe");
    let runs: BTreeSet<&str> = failures["failures"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line["run_id_dir"].as_str())
        .collect();
    assert_eq!(runs, BTreeSet::from([mine.as_str(), other.as_str()]));
    let usage = first.run(&["usage", &mine, &other, "--json"]).exits(0).json();
    let text = usage.to_string();
    assert!(text.contains("openai:m-1") && text.contains("anthropic:m-1"), "{usage:#}");
    let twice = first.run(&["usage", &mine, &other, &format!("{mine}/."), "--json"]).exits(0).json();
    assert_eq!(twice["total"], usage["total"], "a run named twice is counted once");
    first.run(&["failures", "--class", "timeout"]).exits(0).says(&["none of 1 failure", "server_error"]);
    let shown = first.run(&["usage", &mine, &other]).exits(0).says(&["openai:m-1", "anthropic:m-1", "all"]);
    assert!(shown.stdout.contains('4'), "four calls in all\n{shown}");
    // By class and by task; what fits nothing is nothing.
    for (filter, wanted) in [
        (["--class", "server_error"], 2),
        (["--class", "timeout"], 0),
        (["--task", "a"], 2),
        (["--model", "nobody"], 0),
    ] {
        let mut arguments = vec!["failures", &mine, &other, "--json"];
        arguments.extend(filter);
        let found = first.run(&arguments).exits(0).json();
        assert_eq!(found["failures"].as_array().map(Vec::len), Some(wanted), "{filter:?}");
    }
}

/// A folder of runs is none; of a run that was put away perhaps only the logs are left.
#[test]
fn what_is_no_run_is_not_counted_as_one_without_failures() {
    let (_server, space) = run(Openai);
    let (folder, logs, empty) = (space.root(), space.root().join("logs"), space.root().join("empty"));
    space.write("../logs/failures.jsonl", space.read("failures.jsonl"));
    std::fs::create_dir(&empty).expect("a folder");
    let shown = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    for command in ["failures", "usage", "trace"] {
        let refused = space.run(&[command, &shown(&folder)]).exits(2);
        refused.says(&["is no run directory", &format!("{}/*", shown(&folder))]);
        space.run(&[command, &shown(&empty)]).exits(2).says(&["is no run directory"]);
    }
    let refused = space.run(&["failures", &shown(&folder), "--json"]).exits(2).json();
    assert_eq!(refused["error"]["code"], "no_run");
    space.run(&["failures", &shown(&logs)]).exits(0).says(&["server_error"]);
}

#[test]
fn what_was_stopped_is_told_from_what_failed() {
    let server = Wire::new(|_| reply(400, "", &Openai.error("x", "no such field")));
    let failed = space(&server, Openai, "");
    failed.run(&["build"]).exits(1);
    let report = failed.report();
    assert_eq!(
        (
            &report["run"]["phase"],
            keys(&report["error"]).is_superset(&BTreeSet::from([
                "failure_reason",
                "failed_step",
                "message",
                "recoverable"
            ]))
        ),
        (&json!("failed"), true)
    );
    assert!(report["last_llm_call_at"].is_string(), "{report:#}");
    let server = Wire::new(|_| Openai.answer(TEXT));
    let stopped = space(&server, Openai, "");
    let more =
        "\n[task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\nmodel = \"m\"\nprompt = \"And {{ a }}?\"\n";
    stopped.write("pipeline.toml", stopped.read("pipeline.toml") + more);
    stopped.run(&["build", "--max-tokens", "5"]).exits(3);
    let report = stopped.report();
    assert_eq!((&report["run"]["phase"], &report["error"]), (&json!("stopped"), &Value::Null), "{report:#}");
    // Both go on.
    stopped.run(&["resume"]).exits(0);
    assert_eq!(server.count(), 2);
}

/// The totals lack no call once a build is over, however many ended together; and of one that is killed none is
/// missing where they are asked for, nor after the next.
#[test]
fn totals_of_many_calls_are_whole() {
    const CALLS: usize = 60;
    let tasks = |count: usize| -> String {
        let task = |n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nAnswer.\"\n");
        (0..count).map(task).collect()
    };
    let server = FakeLlm::new();
    let space = Space::with(&server, &tasks(CALLS));
    let whole = |calls: usize| {
        let overview = space.json("activity_overview.json");
        let counted: u64 = overview["models"]
            .as_object()
            .expect("models")
            .values()
            .filter_map(|m| m["calls"].as_u64())
            .sum();
        assert_eq!(counted, calls as u64);
        assert_eq!(overview["of_bytes"], space.bytes("usage_metrics.jsonl").len());
        let tokens = |key: &str| -> u64 {
            space.lines("usage_metrics.jsonl").iter().filter_map(|line| line[key].as_u64()).sum()
        };
        let total = tokens("input_tokens") + tokens("output_tokens");
        assert_eq!(overview["total_tokens"], total);
    };
    server.hold(&format!("t{}", CALLS - 1));
    let build = space.spawn(&["build"]);
    let lines = || space.lines("usage_metrics.jsonl").len();
    until("all calls but one that is under way", || {
        (lines() == CALLS - 1 && server.total() == CALLS).then_some(())
    });
    build.kill9();
    let usage = space.run(&["usage", "--json"]).exits(0).json();
    assert_eq!(usage["total"]["calls"], CALLS - 1, "{usage:#}");
    server.release_all();
    space.build();
    assert_eq!(server.total(), CALLS + 1);
    whole(CALLS);
    // Left behind by a build that was killed; the next one that runs anything mends it.
    space.write("activity_overview.json", "{}");
    space.remove("t0.txt");
    space.build();
    assert_eq!(server.total(), CALLS + 1);
    whole(CALLS);
    space.assert_nothing_to_do(&server);
    // Totals that cannot be written fail the build before anything is paid for.
    space.remove("activity_overview.json");
    std::fs::create_dir(space.path("activity_overview.json")).expect("a folder");
    space.pipeline(&server, &tasks(CALLS + 1));
    space.run(&["build"]).exits(1).says(&["activity_overview.json"]);
    assert_eq!(server.total(), CALLS + 1, "paid for what could not be written down");
    std::fs::remove_dir(space.path("activity_overview.json")).expect("no folder");
    space.build();
    assert_eq!(server.total(), CALLS + 2);
    whole(CALLS + 1);
}

/// A task that is stopped before its end has cost something all the same.
#[test]
fn what_a_stopped_task_cost_is_in_the_sum() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => "No JSON at all.".into(),
        _ => Answer::Hang,
    });
    let task = "[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nx\"\nschema = \"a.schema.json\"\n";
    let space = Space::with(&server, task);
    space.write("a.schema.json", "{\"type\": \"object\"}");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("a", 2);
    build.signal(rustix::process::Signal::TERM);
    build.wait().exits(143).says(&["tokens"]);
    let all = space.json("activity_overview.json");
    let last = space.lines("events.jsonl").pop().expect("the last event");
    assert_eq!(last["event"], "pipeline.stopped");
    assert_eq!(last["summary"]["usage"]["calls"], 1);
    assert_eq!(last["summary"]["usage"]["output_tokens"], all["total_output_tokens"]);
}

/// Figures that cannot be true, in a file that was damaged or written by hand, stop nothing.
#[test]
fn figures_that_cannot_be_true_are_not_summed_up() {
    let server = FakeLlm::new();
    let task =
        |name: &str| format!("[task.{name}]\noutputs = [\"{name}.txt\"]\nprompt = \"TASK={name} now\"\n");
    let space = crate::support::space(&server, &(task("a") + &task("b")));
    space.build();
    let mut lines = space.lines("usage_metrics.jsonl");
    for line in &mut lines {
        line["input_tokens"] = u64::MAX.into();
        line["output_tokens"] = u64::MAX.into();
        line["cost_usd"] = 1e308.into();
    }
    let text: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
    space.write("usage_metrics.jsonl", text.concat());
    space.write(
        "a.txt.status",
        space.read("a.txt.status").replace("\"output_tokens\": ", "\"output_tokens\": 1844674407370955"),
    );
    for args in
        [&["usage"][..], &["simulate"], &["build", "-n", "-B"], &["status"], &["build", "-B"], &["status"]]
    {
        space.run(args).exits(0);
    }
}

#[test]
fn a_first_build_is_forecast_by_usual_calls_and_a_later_one_by_its_own() {
    let server = Wire::new(|_| Openai.answer("Hello."));
    let space = Space::new();
    let model = format!(
        "[models.m]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"m-1\"\nprice = {{ input = 1.0, output = 10.0 }}\n",
        server.base_url(Openai)
    );
    space.write(
        "pipeline.toml",
        model + "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"Say hello.\"\nmodel = \"m\"\n",
    );
    // 3,000 tokens at a dollar a million and 500 at ten; half a minute, since the server is on this machine.
    space.run(&["build", "-n"]).exits(0).says(&["1 call expected", "About 30s, $0.0080: a guess"]);
    let row = |args: &[&str]| space.run(args).json()["rows"][0].clone();
    let first = row(&["simulate", "--json", "--speed", "m=100/10"]);
    assert_eq!((first["input_tokens"].as_u64(), first["output_tokens"].as_u64()), (Some(3000), Some(500)));
    assert_eq!((first["seconds"].as_f64(), first["guessed"].as_u64()), (Some(80.0), Some(1)));
    space.run(&["simulate"]).exits(0).says(&["Such a call counts as 3.0k tokens read and 500 written."]);
    space.build().exits(0);
    let again = row(&["simulate", "--json"]);
    assert_eq!(
        (again["guessed"].as_u64(), again["input_tokens"].as_u64() < Some(1000)),
        (Some(0), true),
        "{again}"
    );
}
