//! What commands answer in the rarer cases: nothing to do, a slip of the pen, data for programs.

use super::{FIVE, built, text};
use crate::support::{Answer, CHAIN, FakeLlm, Space, space, until};
use rustix::process::Signal;

/// A fan-out over three items, of which `bo` fails.
const REVIEWS: &str = r#"
[task.review]
foreach = { file = "experts.json", items = "/experts", key = "name" }
inputs = ["plan.txt"]
outputs = ["reviews/{{ key }}.md"]
prompt = "TASK=review_{{ key }}\n{{ plan }}"
retry = { max_attempts = 1 }
"#;

fn reviewed(server: &FakeLlm) -> Space {
    server.script(|request| match request.task.as_str() {
        "review_bo" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = space(server, REVIEWS);
    space.write("experts.json", r#"{"experts": [{"name": "ann"}, {"name": "bo"}, {"name": "cy"}]}"#);
    space.run(&["build"]).exits(1);
    space
}

#[test]
fn a_slip_in_a_name_is_told_with_what_was_meant() {
    let server = FakeLlm::new();
    let space = reviewed(&server);
    let cases: &[(&[&str], &[&str])] = &[
        (&["explain", "review[boo]"], &["has no item `boo`", "bo"]),
        (&["explain", "review[zebra]"], &["has no item `zebra`", "known are `ann`, `bo`, `cy`"]),
        (&["show", "review"], &["is a fan-out", "planexe show 'review[ann]'"]),
        (&["simulate", "--model", "fakee"], &["no model is called `fakee`", "fake"]),
        (&["build", "--model", "nothing-like-it"], &["no model is called", "known are `fake`"]),
        (&["simulate", "-j", "0"], &["wanted a number from 1 up"]),
        (&["simulate", "--slots", "fake=0"], &["wanted MODEL=N"]),
        (&["simulate", "--slots", "fake"], &["wanted MODEL=N"]),
        (&["events", "--since", "yesterday"], &["wanted a time like", "10m"]),
        (&["events", "--deliver", "--webhook", "ftp://here"], &["`http://` or `https://`"]),
        (&["usage", "nowhere"], &["nowhere"]),
        (&["checkpoints", "--json", "--nonsense"], &["--nonsense"]),
    ];
    for (args, words) in cases {
        space.run(args).exits(2).says(words);
    }
}

#[test]
fn a_fan_out_is_explained_as_a_whole_and_by_item() {
    let server = FakeLlm::new();
    let space = reviewed(&server);
    space
        .run(&["explain", "review"])
        .exits(0)
        .says(&["3 instances", "2 done", "1 failed", "review[bo]"])
        .says_nothing_of(&["review[ann]"]);
    space.run(&["explain", "review[bo]"]).exits(0).says(&["not this one"]);
    let both = space.run(&["explain", "review[bo]", "review[ann]", "--json"]).exits(0).json();
    let tasks: Vec<String> = both.as_array().expect("a list").iter().map(|one| text(&one["task"])).collect();
    assert_eq!(tasks, ["review[bo]", "review[ann]"]);
    // Only what is done was completed at some time.
    let whole = space.run(&["explain", "review", "--json"]).exits(0).json();
    let completed: Vec<bool> =
        [&both[0], &both[1], &whole].into_iter().map(|one| one["completed_utc"].is_string()).collect();
    assert_eq!(completed, [false, true, false]);
    // An item that is no more, and the readers of what is asked about.
    space.write("experts.json", r#"{"experts": [{"name": "ann"}]}"#);
    space.run(&["explain", "review[bo]"]).exits(2).says(&["has no item `bo`"]);
}

#[test]
fn nothing_to_retry_and_nothing_to_abort() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["abort"]).exits(2).says(&["never started"]);
    // What is named to be typed next works.
    space.run(&["done", "a"]).exits(2).says(&["planexe build a"]);
    space.build();
    space.run(&["done", "a"]).exits(2).says(&["planexe touch a"]);
    space.run(&["abort"]).exits(2).says(&["complete"]);
    let out = space.run(&["retry", "--json"]).exits(0).says(&["no task failed"]);
    assert_eq!(out.json()["done"], false);
    let reviewed = reviewed(&server);
    let refused = reviewed.run(&["retry", "review[zebra]"]);
    assert_ne!(refused.code, 0, "{refused}");
    reviewed.run(&["retry", "-n"]).exits(0).says(&["review[bo]", "would be retried"]);
    let calls = server.total();
    reviewed.run(&["retry", "--build"]).exits(1);
    assert_eq!(server.total(), calls + 1);
    // Given up: `resume` alone does not go on with it.
    reviewed.run(&["abort"]).exits(0).says(&["the run is aborted", "resume --force"]);
    assert_eq!(reviewed.report()["run"]["phase"], "aborted");
    reviewed.run(&["resume"]).exits(2).says(&["--force"]);
}

#[test]
fn steering_answers_in_json_too() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    assert_eq!(space.run(&["stop", "--json"]).exits(0).json()["pid"], serde_json::Value::Null);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    let pid = serde_json::json!(build.pid().as_raw_nonzero().get());
    for command in ["pause", "resume", "stop"] {
        let answer = space.run(&[command, "--json"]).exits(0).json();
        assert_eq!((&answer["asked"], &answer["pid"]), (&command.into(), &pid), "{answer}");
    }
    // It looks for it a few times a second, and would be done sooner.
    until("the build to say that it stops", || build.stderr().contains("stopped by").then_some(()));
    server.release_all();
    build.wait().exits(3);
}

#[test]
fn faults_are_data_too() {
    let server = FakeLlm::new();
    let space = space(&server, "[task.a]\noutput = [\"a.txt\"]\nprompt = \"x y\"\n");
    for command in ["build", "status", "explain", "clean"] {
        let mut args = vec![command, "--json"];
        args.extend((command != "build" && command != "status").then_some("a"));
        let out = space.run(&args).exits(2);
        let answer = out.json();
        assert_eq!(answer["error"]["code"], "faults", "{out}");
        assert_eq!(answer["error"]["next"][0], "planexe check", "{out}");
        assert!(answer["faults"].as_array().is_some_and(|faults| !faults.is_empty()), "{out}");
    }
}

#[test]
fn a_status_is_shown_at_each_change_until_the_build_ends() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    let lines = space.spawn(&["status", "--watch", "--json"]);
    let words = space.spawn(&["status", "--watch"]);
    let interrupted = space.spawn(&["status", "--watch"]);
    crate::support::until("what is running", || interrupted.stdout().contains("running").then_some(()));
    interrupted.signal(Signal::INT);
    interrupted.wait().exits(130);
    crate::support::until("what is running", || words.stdout().contains("running").then_some(()));
    crate::support::until("a line", || lines.stdout().contains('\n').then_some(()));
    server.release_all();
    build.wait().exits(0);
    let words = words.wait().exits(0);
    assert!(words.stdout.contains("3 done") || words.stdout.contains("completed"), "{words}");
    let lines = lines.wait().exits(0);
    let parsed: Vec<serde_json::Value> =
        lines.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(parsed.last().expect("a line")["run"]["phase"], "completed", "{lines}");
}

#[test]
fn events_are_followed_and_looked_back_on() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    let followed = space.spawn(&["events", "--follow"]);
    let interrupted = space.spawn(&["events", "--follow", "--json"]);
    crate::support::until("an event", || interrupted.stdout().contains("task.started").then_some(()));
    interrupted.signal(Signal::TERM);
    interrupted.wait().exits(143);
    server.release_all();
    build.wait().exits(0);
    followed.wait().exits(0).says(&["build completed"]);
    // Only from a time on.
    assert_eq!(space.run(&["events", "--since", "2999-01-01T00:00:00Z"]).exits(0).stdout, "");
    let all = space.run(&["events", "--since", "1h", "--json"]).exits(0);
    assert_eq!(all.stdout, space.read("events.jsonl"));
}

#[test]
fn a_graph_has_states_and_a_summary_has_prefixes() {
    let server = FakeLlm::new();
    let space = reviewed(&server);
    space.run(&["graph", "--state"]).exits(0).says(&["color=\"#"]);
    let nodes = space.run(&["graph", "--state", "--json"]).exits(0).json();
    assert_eq!(nodes["nodes"][0]["state"], "failed", "{nodes}");
    space.run(&["usage", "--prefixes"]).exits(0).says(&["% of the prompts repeat the beginning"]);
}

#[test]
fn one_model_answers_all_if_asked() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let other = format!(
        "[models.other]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"other-1\"\n{CHAIN}",
        server.base_url()
    );
    space.pipeline(&server, &other);
    space.run(&["build", "--model", "other"]).exits(0);
    assert_eq!(space.sidecar("c.txt")["model"], "other-1");
    space.run(&["simulate", "--model", "other", "--slots", "other=2"]).exits(0).says(&["as set", "16"]);
}

#[test]
fn what_is_kept_is_what_is_there() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["restore", "c"]).exits(2).says(&["nothing former is kept"]);
    space.run(&["diff", "c"]).exits(2).says(&["nothing former is kept"]);
    space.run(&["clean", "c", "-y"]).exits(0);
    space.build();
    // Made again, and the same.
    let out = space.run(&["diff", "c"]);
    assert!(out.code == 0 || out.code == 3, "{out}");
    space.run(&["restore", "c@9"]).exits(2).says(&["c"]);
    space.run(&["diff", "c@9"]).exits(2).says(&["has no version 9", "planexe history c"]);
    space.run(&["restore", "--checkpoint", "zzzz"]).exits(2).says(&["zzzz"]);
}

#[test]
fn a_failure_says_what_it_blocks() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = space(&server, FIVE);
    space.run(&["build"]).exits(1);
    space.run(&["explain", "both"]).exits(0).says(&["blocked", "bad"]);
    let report = space.report();
    assert_eq!(report["error"]["failed_step"], "bad", "{report:#}");
}

/// One object, also of a command that can do without the pipeline, or do something before it is wanted.
#[test]
fn faults_of_the_pipeline_are_one_answer() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    let whole = space.read("pipeline.toml");
    space.write("pipeline.toml", whole.clone() + "\n[task.d]\nfoo = 1\n");
    for command in ["pause", "resume", "stop", "abort"] {
        assert!(space.run(&[command, "--json"]).exits(0).json()["error"].is_null(), "{command}");
    }
    server.release_all();
    build.wait();
    for command in ["resume", "abort", "status", "check", "build", "clean"] {
        let answer =
            space.run(&[command, "--json", "a"][..2 + usize::from(command == "clean")]).exits(2).json();
        assert_eq!(answer["error"]["code"], "faults", "{command}: {answer}");
        assert!(answer["faults"].as_array().is_some_and(|faults| !faults.is_empty()), "{command}: {answer}");
    }
}
