//! What a wait costs in time: a person between builds, and the queue of an executor, apart from work.

use serde_json::Value;

use crate::support::{FakeLlm, Space, until};

fn micros(text: &Value) -> i64 {
    let text = text.as_str().unwrap_or_else(|| panic!("{text} is no time"));
    text.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{text}: {error}")).as_microsecond()
}

/// The pieces of a kind in the trace: name, beginning and end since 1970.
fn pieces(space: &Space, kind: &str) -> Vec<(String, i64, i64)> {
    let trace = space.run(&["trace"]).exits(0).json();
    let start = trace["otherData"]["started_us"].as_i64().expect("a start");
    let events = trace["traceEvents"].as_array().expect("events").iter();
    events
        .filter(|event| event["cat"] == kind)
        .map(|event| {
            let (from, long) = (event["ts"].as_i64().expect("ts"), event["dur"].as_i64().expect("dur"));
            (event["name"].as_str().expect("a name").to_owned(), start + from, start + from + long)
        })
        .collect()
}

fn event<'a>(events: &'a [Value], name: &str, task: &str) -> &'a Value {
    let mut all = events.iter().filter(|event| event["event"] == name && event["task"] == task);
    all.next().unwrap_or_else(|| panic!("no {name} of {task}: {events:#?}"))
}

/// When the only task was let pass that no build has taken up yet.
fn passed_at(space: &Space) -> i64 {
    let records = space.files(".planexe/passed");
    let [record] = records.as_slice() else { panic!("{records:?}") };
    micros(&space.json(record)["at"])
}

/// What the chart says of a task.
fn row(space: &Space, task: &str) -> Value {
    let chart = space.run(&["gantt", "--json"]).exits(0).json();
    let mut rows = chart["rows"].as_array().expect("rows").iter();
    rows.find(|row| row["task"] == task).unwrap_or_else(|| panic!("no {task} in {chart}")).clone()
}

#[test]
fn a_person_is_waited_for_from_the_question_to_the_answer_also_between_builds() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.a]
outputs = ["a.txt"]
prompt = "TASK=a: write it"

[task.go]
inputs = { a = "a.txt" }
outputs = ["go.json"]
gate = { fail_if = "{{ true }}", action = "pause", message = "Go?" }

[task.sign]
inputs = ["a.txt"]
outputs = ["sign.txt"]
human = "Read a.txt"

[task.after]
inputs = ["go.json", "sign.txt"]
outputs = ["after.txt"]
command = "cat $in > $out"
"#,
    );
    space.run(&["build"]).exits(3);
    // What is not over lasts up to what is recorded, and on the chart until now.
    assert_eq!(pieces(&space, "person").len(), 2);
    assert_eq!(row(&space, "go")["waits"][0]["kind"], "person");
    // A build that asks again does not begin another wait.
    space.run(&["build"]).exits(3);
    space.run(&["done", "go"]).exits(0);
    let passed = passed_at(&space);
    space.run(&["build"]).exits(3);
    space.run(&["done", "sign"]).exits(0);
    let signed = passed_at(&space);
    space.build();
    let events = space.lines("events.jsonl");
    for (task, at) in [("go", passed), ("sign", signed)] {
        assert_eq!(micros(&event(&events, "task.completed", task)["passed_utc"]), at, "{task}");
        let asked = micros(&event(&events, "task.waiting", task)["timestamp_utc"]);
        let waits: Vec<_> =
            pieces(&space, "person").into_iter().filter(|(name, ..)| name.ends_with(task)).collect();
        assert_eq!(waits, [(format!("person: {task}"), asked, at)]);
        let waits = &row(&space, task)["waits"];
        assert_eq!(waits.as_array().map(Vec::len), Some(1), "{waits}");
        assert_eq!(micros(&waits[0]["span"][0]) / 1000, asked / 1000);
    }
    assert!(event(&events, "task.completed", "after").get("passed_utc").is_none());
    let page = space.run(&["report", "--html", "-"]).exits(0).stdout;
    assert!(page.contains("go: waits for a person, passed") && page.contains("class=\"cut\""), "{page}");
    space.run(&["gantt"]).exits(0).says(&["waited for a person"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn who_was_waited_for_and_is_not_any_more_is_not_drawn_as_waiting() {
    let server = FakeLlm::new();
    let gate = |when: &str| {
        format!(
            "[task.go]\ninputs = {{ a = \"a.txt\" }}\noutputs = [\"go.json\"]\ngate = {{ fail_if = \"{{{{ {when} }}}}\", action = \"pause\", message = \"Go?\" }}\n"
        )
    };
    let space = Space::with(&server, &gate("true"));
    space.write("a.txt", "A.");
    space.run(&["build"]).exits(3);
    space.edit("pipeline.toml", "{{ true }}", "{{ false }}");
    space.build();
    let events = space.lines("events.jsonl");
    let asked = micros(&event(&events, "task.waiting", "go")["timestamp_utc"]);
    let started = events.iter().rfind(|event| event["event"] == "task.started").expect("it ran again");
    assert_eq!(
        pieces(&space, "person"),
        [("person: go".to_owned(), asked, micros(&started["timestamp_utc"]))]
    );
}

/// A queue that begins nothing before `begin` is there.
const QUEUE: &str = r#"#!/bin/sh
here=$(dirname "$0")
case $1 in
submit)
    shift
    n=1; while ! mkdir "$here/job.$n" 2>/dev/null; do n=$((n + 1)); done; echo $n > "$here/last"
    setsid sh -c 'while [ ! -e begin ] && [ -e pipeline.toml ]; do sleep 0.02; done; exec "$@"' q "$@" > /dev/null 2>&1 < /dev/null &
    echo $! > "$here/pid.$n"
    echo "id: j-$n"
    ;;
state)
    if kill -0 "$(cat "$here/pid.${2#j-}")" 2>/dev/null; then
        if [ -e begin ]; then echo RUNNING; else echo WAITING; fi
    else exit 4; fi
    ;;
end) kill -TERM "$(cat "$here/pid.${2#j-}")" ;;
esac
"#;

#[test]
fn the_time_in_a_queue_is_apart_from_work() {
    let space = Space::new();
    space.write("../q", QUEUE);
    space.write(
        "pipeline.toml",
        r#"
[executors.queue]
kind = "command"
poll = "100ms"
grace = "200ms"
submit = ["sh", "../q", "submit", "$job"]
status = ["sh", "../q", "state", "$id"]
cancel = ["sh", "../q", "end", "$id"]
states = { queued = ["WAITING"], running = ["RUNNING"], ended = ["exit:4"] }

[services.up]
executor = "queue"
command = "touch ../up; while [ -e ../q ]; do sleep 0.05; done"
ready = { command = ["test", "-e", "../up"] }

[task.one]
outputs = ["one.txt"]
executor = "queue"
command = "echo one > $out"

[task.bad]
outputs = ["bad.txt"]
executor = "queue"
command = "echo bad > $out; exit 3"

[task.served]
outputs = ["served.txt"]
service = "up"
command = "echo served > $out"

[task.here]
outputs = ["here.txt"]
command = "echo here > $out"
"#,
    );
    let build = space.spawn(&["build", "-k"]);
    until("both to be in the queue", || {
        let waits = |task: &str| {
            row(&space, task)["waits"].as_array().is_some_and(|waits| waits[0]["kind"] == "queue")
        };
        (waits("one") && waits("bad") && space.exists("../last")).then_some(())
    });
    space.write("begin", "");
    build.wait().exits(1);
    let events = space.lines("events.jsonl");
    let attempts = pieces(&space, "attempt");
    for (name, task) in [("task.completed", "one"), ("task.failed", "bad")] {
        let queued = &event(&events, name, task)["queued"];
        assert_eq!(queued["executor"], "queue", "{events:#?}");
        let (from, to) = (micros(&queued["submitted_utc"]), micros(&queued["began_utc"]));
        let waits: Vec<_> =
            pieces(&space, "queue").into_iter().filter(|(name, ..)| name.ends_with(task)).collect();
        assert_eq!(waits, [(format!("queue: {task}"), from, to)]);
        let attempt = attempts.iter().find(|(name, ..)| name == task).expect("its attempt");
        assert_eq!(attempt.1, to, "the attempt is what comes after it");
        assert_eq!(row(&space, task)["waits"][0]["kind"], "queue");
    }
    assert!(event(&events, "task.completed", "here").get("queued").is_none());
    let ready = events.iter().find(|event| event["event"] == "service.changed" && event["state"] == "ready");
    assert_eq!(ready.expect("it was ready")["queued"]["executor"], "queue");
    let chart = space.run(&["gantt", "--json"]).exits(0).json();
    assert_eq!(chart["services"][0]["times"][0]["queued"], true, "{chart}");
    space.run(&["gantt"]).exits(0).says(&["in a queue"]);
}
