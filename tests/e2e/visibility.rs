//! A build seen from another shell while it runs: what each task is doing, the answer as it is written, and statuses
//! that hold together at every moment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Answer, FakeLlm, Space, patiently, space, until};

/// An answer of some length.
fn long(task: &str) -> String {
    (0..40).map(|n| format!("{task} word {n} ")).collect::<String>() + "end.\n"
}

const FOUR: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.b]
inputs = ["plan.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ plan }}"

[task.c]
inputs = ["a.txt"]
outputs = ["c.txt"]
command = "cat $in > $out"

[task.d]
inputs = ["b.txt", "c.txt"]
outputs = ["d.txt"]
template = "{{ b }}{{ c }}"
"#;

fn task<'a>(status: &'a Value, name: &str) -> &'a Value {
    let tasks = status["tasks"].as_array().expect("tasks");
    tasks.iter().find(|task| task["task"] == name).unwrap_or_else(|| panic!("no `{name}` in {status:#}"))
}

#[test]
fn another_shell_sees_how_far_each_task_is() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => Answer::Half(long("a")),
        _ => Answer::Default,
    });
    let space = space(&server, FOUR);
    let build = space.spawn(&["build", "-j1"]);
    // The same twice: all of the first half was read and told.
    let mut told = 0;
    let status = until("the tokens of a to be told", || {
        let status = space.run(&["status", "--json"]).exits(0).json();
        let tokens = task(&status, "a")["tokens"].as_u64().unwrap_or(0);
        let settled = space.run(&["status"]).stdout.contains(&format!("writing, {tokens} tokens"));
        let before = std::mem::replace(&mut told, tokens);
        (settled && tokens > 0 && tokens == before).then_some(status)
    });
    let a = task(&status, "a");
    assert_eq!((a["state"].as_str(), a["phase"].as_str()), (Some("running"), Some("answer")), "{a:#}");
    let tokens = a["tokens"].as_u64().expect("tokens");
    assert_eq!(a["doing"], format!("writing, {tokens} tokens"));
    assert!(a["elapsed_s"].as_f64().expect("seconds") >= 0.5, "{a:#}");
    // Not that it was left so, which is what its record would mean without the build.
    assert_eq!(a["reasons"][0]["code"], "running", "{a:#}");
    space.run(&["build", "-n"]).exits(0).says(&["a  it is being made now"]);
    let b = task(&status, "b");
    assert_eq!(
        (b["state"].as_str(), b["doing"].as_str()),
        (Some("pending"), Some("waiting for a slot")),
        "{b:#}"
    );
    space.run(&["status"]).exits(0).says(&[&format!("writing, {tokens} tokens"), "waiting for a slot"]);
    server.release("a");
    assert_eq!(build.wait().code, 0);
    let status = space.run(&["status", "--json"]).exits(0).json();
    for name in ["a", "b", "c", "d"] {
        let one = task(&status, name);
        assert_eq!(
            (&one["state"], &one["doing"], &one["tokens"]),
            (&"done".into(), &Value::Null, &Value::Null)
        );
    }
    assert!(!space.exists(".planexe/live"), "{:?}", space.files(".planexe"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_a_task_usually_takes_is_told_of_the_next_attempt() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => Answer::Drip("A slow answer, in pieces.".into(), Duration::from_millis(400)),
        _ => Answer::Default,
    });
    let space = space(&server, FOUR);
    let began = std::time::Instant::now();
    space.build();
    let whole = began.elapsed().as_secs_f64();
    space.write("plan.txt", "Build a tunnel.\n");
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("a", 2);
    let a = until("the attempt to be seen", || {
        let status = space.run(&["status", "--json"]).exits(0).json();
        let a = task(&status, "a").clone();
        (a["state"] == "running").then_some(a)
    });
    let lines = space.lines("usage_metrics.jsonl");
    let took = lines.iter().filter_map(|line| line["duration_seconds"].as_f64()).fold(0.0, f64::max);
    let expected = a["expected_s"].as_f64().expect("what it took before");
    assert!(expected > 0.3 && expected >= took - 0.1 && expected <= whole, "{expected} {took} {whole}");
    server.release("a");
    build.wait().exits(0);
}

#[test]
fn an_answer_is_followed_as_it_is_written() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => Answer::Half(long("a")),
        _ => Answer::Default,
    });
    let space = space(&server, FOUR);
    let build = space.spawn(&["build"]);
    server.wait_for_half("a");
    let follow = space.spawn(&["show", "a", "--follow"]);
    until("the first half to be shown", || follow.stdout().contains("a word 10").then_some(()));
    assert!(!follow.stdout().contains("end."), "{}", follow.stdout());
    server.release("a");
    let out = follow.wait().exits(0);
    assert_eq!(out.stdout, long("a"));
    build.wait().exits(0);
    // Afterwards it is shown whole at once.
    assert_eq!(space.run(&["show", "a", "--follow"]).exits(0).stdout, long("a"));
}

#[test]
fn an_answer_that_is_rejected_is_followed_into_the_next_attempt() {
    let right = format!("{{\n  \"text\": \"{}\"\n}}\n", "word ".repeat(100));
    let second = right.clone();
    let server = FakeLlm::scripted(move |request| match request.nth {
        0 => Answer::Half(long("a")),
        _ => Answer::Drip(second.clone(), std::time::Duration::from_millis(20)),
    });
    let space = space(
        &server,
        "[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nof it\"\nschema = \"a.schema.json\"\n",
    );
    space.write("a.schema.json", r#"{"type": "object", "properties": {"text": {"type": "string"}}}"#);
    let build = space.spawn(&["build"]);
    server.wait_for_half("a");
    let follow = space.spawn(&["show", "a", "--follow"]);
    let left = space.spawn(&["show", "a", "--follow"]);
    for one in [&follow, &left] {
        until("the first half to be shown", || one.stdout().contains("a word 10").then_some(()));
    }
    server.release("a");
    until("the next attempt to be told", || follow.stderr().contains("attempt 2:").then_some(()));
    left.signal(rustix::process::Signal::INT);
    left.wait().exits(130);
    let out = follow.wait().exits(0);
    assert_eq!(out.stdout, long("a") + &right);
    build.wait().exits(0);
}

#[test]
fn what_nobody_makes_is_not_followed() {
    let server = FakeLlm::new();
    let space = space(&server, FOUR);
    let out = space.run(&["show", "a", "--follow"]).exits(3);
    assert_eq!((out.stdout.as_str(), out.stderr.trim()), ("", "not begun: no build is running"));
}

#[test]
fn a_command_is_followed_and_so_is_a_failure() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.c]\ninputs = [\"plan.txt\"]\noutputs = [\"c.txt\"]\n\
         command = \"echo first; until test -e ../go; do sleep 0.05; done; echo last >&2; exit 3\"\n",
    );
    let build = space.spawn(&["build"]);
    until("the command to be started", || space.exists("c.txt.status").then_some(()));
    let follow = space.spawn(&["log", "c", "--follow"]);
    until("the first line to be shown", || (follow.stdout() == "first\n").then_some(()));
    std::fs::write(space.root().join("go"), "").expect("a file");
    let out = follow.wait().exits(1).says(&["exit code 3"]);
    assert_eq!(out.stdout, "first\nlast\n");
    build.wait().exits(1);
}

#[test]
fn a_key_is_not_shown_while_an_answer_is_written() {
    let key = "sk-local-0123456789abcdef";
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => Answer::Half("It is sk-local-0123456789abcdef, I believe. ".repeat(20)),
        _ => Answer::Default,
    });
    let space = Space::new();
    space.set_key("LOCAL_KEY", key, server.address());
    space.pipeline_with(&server, "api_key_env = \"LOCAL_KEY\"", FOUR);
    space.write("plan.txt", "Build a bridge.\n");
    let build = space.spawn(&["build"]);
    server.wait_for_half("a");
    let follow = space.spawn(&["show", "a", "--follow"]);
    until("some of it to be shown", || follow.stdout().contains("[redacted]").then_some(()));
    for file in space.files(".planexe") {
        let text =
            String::from_utf8_lossy(&std::fs::read(space.path(&file)).unwrap_or_default()).into_owned();
        assert!(!text.contains(key), "{file}");
    }
    server.release("a");
    assert!(!follow.wait().exits(0).stdout.contains(key));
    build.wait().exits(0);
}

/// How far a state is; a task only goes forward in a build of which nothing fails.
fn rank(state: &str) -> usize {
    ["pending", "running", "done"]
        .iter()
        .position(|known| *known == state)
        .unwrap_or_else(|| panic!("`{state}`?"))
}

#[test]
fn statuses_hold_together_at_every_moment() {
    patiently(|slow| {
        let server = FakeLlm::scripted(move |request| match request.task.as_str() {
            "facts" => r#"{"items":[{"name":"x"},{"name":"y"},{"name":"z"}]}"#.into(),
            _ => Answer::Drip(long("w")[..60].to_owned(), Duration::from_millis(60) * slow),
        });
        let space = space(
            &server,
            r#"
[task.facts]
inputs = ["plan.txt"]
outputs = ["facts.json"]
prompt = "TASK=facts\n{{ plan }}"
schema = "facts.schema.json"

[task.each]
foreach = { file = "facts.json", items = "/items", key = "name" }
outputs = ["each/{{ key }}.txt"]
prompt = "TASK=each\n{{ item.name }}"

[task.join]
inputs = { all = "each/*.txt" }
outputs = ["join.txt"]
command = "sleep 0.2; cat $in > $out"

[task.last]
inputs = ["join.txt"]
outputs = ["last.txt"]
prompt = "TASK=last\n{{ join }}"
"#,
        );
        space.write("facts.schema.json", r#"{"type":"object"}"#);
        let mut build = space.spawn(&["build", "-j2"]);
        let mut before: BTreeMap<String, usize> = BTreeMap::new();
        let mut completed = (0, -1);
        let mut seen = 0;
        let mut states_seen: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let over = !build.is_running();
            let status = space.run(&["status", "--json"]).exits(0).json();
            // Read after the status: what it shows as running must have been told.
            let events = std::fs::read_to_string(space.path("events.jsonl")).unwrap_or_default();
            let tasks = status["tasks"].as_array().expect("tasks");
            let families: Vec<&str> = tasks.iter().filter_map(|task| task["family"].as_str()).collect();
            let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
            for one in tasks {
                let (name, state) = (one["task"].as_str().unwrap(), one["state"].as_str().unwrap());
                *states_seen.entry(state.to_owned()).or_default() += 1;
                if !families.contains(&name) {
                    *counted.entry(state).or_default() += 1;
                }
                let was = before.insert(name.to_owned(), rank(state)).unwrap_or(0);
                assert!(was <= rank(state), "`{name}` went back to {state}: {status:#}");
                if state == "running" && !families.contains(&name) {
                    let started = events.lines().any(|line| {
                        line.contains("\"task.started\"") && line.contains(&format!("\"task\":\"{name}\""))
                    });
                    assert!(started, "`{name}` is running and was never started:\n{events}");
                    assert!(one["elapsed_s"].as_f64().is_some_and(|s| (0.0..600.0).contains(&s)), "{one:#}");
                    assert_eq!(one["attempt"], 1, "{one:#}");
                    assert_eq!(status["run"]["phase"], "running", "{status:#}");
                }
                if state == "done" && one["recipe"] != "group" {
                    assert_eq!(one["verdict"], "fresh", "{one:#}");
                }
            }
            for (state, count) in status["counts"].as_object().expect("counts") {
                assert_eq!(
                    count.as_u64(),
                    Some(counted.get(state.as_str()).copied().unwrap_or(0)),
                    "{state} {status:#}"
                );
            }
            let now = (
                status["steps_completed"].as_i64().unwrap(),
                status["last_completed_step"].as_i64().unwrap(),
            );
            assert!(now.0 >= completed.0 && now.1 >= completed.1, "{completed:?} -> {now:?}: {status:#}");
            completed = now;
            let phase = status["run"]["phase"].as_str().expect("a phase");
            assert!(["never_started", "running", "completed"].contains(&phase), "{phase}");
            assert!(status["error"].is_null(), "{status:#}");
            seen += 1;
            if over {
                assert_eq!((phase, completed), ("completed", (4, 3)));
                break;
            }
        }
        assert!(
            seen > 5 && states_seen.contains_key("running") && states_seen.contains_key("pending"),
            "{seen}"
        );
        build.wait().exits(0);
        space.assert_nothing_to_do(&server);
    });
}

#[test]
fn a_task_whose_server_is_left_alone_does_not_wait_for_a_slot() {
    let server = FakeLlm::scripted(|_| Answer::error(500, "broken"));
    let space = Space::new();
    let model =
        format!("[models.m]\napi = \"openai\"\nmodel = \"m\"\nbase_url = \"{}\"\n", server.base_url());
    let rest = "retry = { max_attempts = 9, base = \"1ms\", max = \"1ms\" }\n\
                [task.a]\nmodel = \"m\"\noutputs = [\"a.txt\"]\nprompt = \"TASK=a: say it\"\n";
    space.write("pipeline.toml", format!("{model}{rest}"));
    let build = space.spawn(&["build"]);
    // The pause grows with each failure: there is time to look.
    let doing = until("the task to be held", || {
        let status = space.run(&["status", "--json"]).exits(0).json();
        task(&status, "a")["doing"].as_str().filter(|doing| !doing.starts_with("again")).map(str::to_owned)
    });
    assert_eq!(doing, "held until its server may be asked again");
    space.run(&["abort", "--hard"]).exits(0);
    build.wait().exits(3);
}

#[test]
fn a_task_that_waits_for_its_next_attempt_says_so_though_nothing_runs() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[models.m]\napi = \"command\"\ncommand = [\"sh\", \"-c\", \"exit 3\"]\n\
         retry = { max_attempts = 2, base = \"300s\", max = \"300s\" }\n\
         [task.a]\nmodel = \"m\"\noutputs = [\"a.txt\"]\nprompt = \"Say it now\"\n",
    );
    let build = space.spawn(&["build"]);
    until("the pause to be told", || {
        let status = space.run(&["status", "--json"]).exits(0).json();
        task(&status, "a")["doing"].as_str().is_some_and(|doing| doing.contains("again in")).then_some(())
    });
    space.run(&["pause"]).exits(0);
    space.run(&["abort", "--hard"]).exits(0);
    build.wait().exits(3);
}
