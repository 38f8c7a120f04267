//! `[services]`: servers that are started for the tasks and models that name them, and ended when nothing needs them.

use rustix::process::{Pid, Signal};
use serde_json::json;

use crate::support::wire::{Wire, reply};
use crate::support::{FakeLlm, Space, until};

/// A server that says that it starts, is ready once `../go` is there, and serves until it is ended.
const SERVES: &str = r#"
[services.llm]
command = "echo $$$$ >> ../served.log; echo loading; while [ ! -e ../go ]; do sleep 0.02; done; touch ../up; while :; do sleep 0.05; done"
ready = { command = ["test", "-e", "../up"] }
"#;

/// Tasks that need it, and one after them that does not.
fn tasks(server: &FakeLlm) -> String {
    format!(
        r#"
[models.m]
api = "openai"
base_url = "{}"
model = "x"
service = "llm"

[task.a]
outputs = ["a.txt"]
model = "m"
prompt = "TASK=a\nTell."

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
service = "llm"
command = "cat $in > $out"

[task.c]
inputs = ["b.txt"]
outputs = ["c.txt"]
command = "echo >> ../last.log; while [ ! -e ../end ]; do sleep 0.02; done; cat $in > $out"
"#,
        server.base_url()
    )
}

fn serving(server: &FakeLlm) -> Space {
    let space = Space::new();
    space.write("pipeline.toml", SERVES.to_owned() + &tasks(server));
    space
}

/// The process of the server that was started last.
fn served(space: &Space, times: usize) -> Pid {
    until("the server to start", || (space.tally("served") == times).then_some(()));
    let log = space.read("../served.log");
    Pid::from_raw(log.lines().last().and_then(|pid| pid.parse().ok()).expect("a pid")).expect("a pid")
}

fn gone(pid: Pid) {
    until("the server to end", || rustix::process::test_kill_process(pid).is_err().then_some(()));
}

fn states(space: &Space) -> Vec<String> {
    let events = space.lines("events.jsonl").into_iter().filter(|event| event["event"] == "service.changed");
    events.map(|event| event["state"].as_str().expect("a state").to_owned()).collect()
}

#[test]
fn it_is_started_once_waited_for_and_ended_when_nothing_needs_it() {
    let server = FakeLlm::new();
    let space = serving(&server);
    let build = space.spawn(&["build"]);
    let own = served(&space, 1);
    until("status to tell of it", || {
        let report = space.report();
        let up = &report["services"][0];
        (up["service"] == "llm" && up["state"] == "starting").then_some(())
    });
    assert_eq!(server.total(), 0, "nothing is asked before it is ready");
    let doctor = space.run(&["doctor"]);
    assert!(doctor.stdout.contains("`llm` is started in the build when a task needs it"), "{doctor}");
    space.write("../go", "");
    until("the last task", || (space.tally("last") == 1).then_some(()));
    gone(own);
    space.write("../end", "");
    build.wait().exits(0).says(&["service llm: ready", "service llm: stopped, nothing needs it any more"]);
    assert_eq!((server.count("a"), space.tally("served")), (1, 1));
    assert_eq!(space.status("a")["attempt"], 1, "no attempt is used while it is waited for");
    assert_eq!(states(&space), ["starting", "ready", "stopped"]);
    let logs = std::fs::read_dir(space.path(".planexe/logs")).expect("logs");
    let log = logs
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.to_string_lossy().contains("service"));
    assert_eq!(std::fs::read_to_string(log.expect("its log")).expect("a log"), "loading\n");
    space.assert_nothing_to_do(&server);
    assert_eq!(space.tally("served"), 1, "a build with nothing to do starts nothing");
}

#[test]
fn one_that_is_never_ready_fails_those_who_need_it_and_says_why() {
    let server = FakeLlm::new();
    let space = serving(&server);
    space.edit("pipeline.toml", "ready = {", "ready_within = \"300ms\"\nready = {");
    space.edit("pipeline.toml", "echo loading", "echo no such model >&2");
    space.write("end", "");
    space.write(
        "more.toml",
        format!(
            "[models.other]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"y\"\n\n[task.d]\noutputs = [\"d.txt\"]\n\
             model = [\"m\", \"other\"]\nprompt = \"TASK=d\\nTell.\"\n",
            server.base_url()
        ),
    );
    space.edit("pipeline.toml", "[services.llm]", "[pipeline]\ninclude = [\"more.toml\"]\n\n[services.llm]");
    let out = space.run(&["build"]).exits(1);
    out.says(&["service `llm` was not ready within 0.3s: no such model", ".planexe/logs/service_llm"]);
    let failure = &space.status("a")["failure"];
    assert_eq!(
        (&failure["class"], failure["raw_error"].as_str()),
        (&"service".into(), Some("no such model\n"))
    );
    assert_eq!(server.counts(), crate::support::counts([("d", 1)]), "the other model is asked instead");
    gone(served(&space, 1));
    assert_eq!(states(&space), ["starting", "failed"]);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let server = FakeLlm::new();
    let space = serving(&server);
    space.edit("pipeline.toml", "command = \"echo $$$$", "command = [\"no-such-server\"]\n#");
    for executor in ["local", "detached"] {
        space.edit(
            "pipeline.toml",
            "[services.llm]\n",
            &format!("[services.llm]\nexecutor = \"{executor}\"\n"),
        );
        space.run(&["build"]).exits(1).says(&["service `llm` cannot be started: `no-such-server`: "]);
        space.edit("pipeline.toml", &format!("executor = \"{executor}\"\n"), "");
    }
    assert_eq!(server.total(), 0);
}

#[test]
fn one_that_ends_by_itself_is_started_again() {
    let server = FakeLlm::new();
    let space = serving(&server);
    for path in ["../go", "../end"] {
        space.write(path, "");
    }
    space.edit(
        "pipeline.toml",
        "while :; do sleep 0.05; done",
        "[ $(wc -l < ../served.log) = 2 ] && while :; do sleep 0.05; done; sleep 0.2; rm ../up; exit 4",
    );
    space.edit(
        "pipeline.toml",
        "cat $in > $out\"\n\n[task.c]",
        "while [ $(grep -c 'state.*ready' events.jsonl) -lt 2 ]; do sleep 0.02; done; cat $in > $out\"\n\n[task.c]",
    );
    space.build().says(&["again, since it ended by itself (exit code 4)"]);
    assert_eq!(space.tally("served"), 2);
    // The chart and the trace tell of both starts.
    let chart = space.run(&["gantt", "--json"]).exits(0).json();
    let row = &chart["services"][0];
    assert_eq!(
        (&row["service"], &row["state"], &row["starts"]),
        (&json!("llm"), &json!("stopped"), &json!(2))
    );
    let ready: Vec<bool> =
        row["times"].as_array().expect("times").iter().map(|it| it["ready"] == true).collect();
    assert_eq!(ready, [false, true, false, true]);
    space.run(&["gantt"]).exits(0).says(&["service llm", "stopped ×2", "▒ starting", "═ up"]);
    let page = space.run(&["gantt", "--html", "-"]).exits(0).stdout;
    assert!(page.contains("act starting") && page.contains("service llm"), "{page}");
    let trace = space.run(&["trace"]).exits(0).json();
    let named = |name: &str| {
        trace["traceEvents"].as_array().expect("events").iter().filter(|it| it["name"] == name).count()
    };
    assert_eq!((named("starting: llm"), named("service: llm")), (2, 2));
}

/// A server that is ready at once, and takes that back when it ends. `life`: what it does then.
fn ready_at_once(life: &str, keys: &str) -> String {
    format!(
        "[services.llm]\ncommand = \"trap 'rm -f ../up; exit 0' TERM; echo $$$$ >> ../served.log; touch ../up; {life}\"\n\
         ready = {{ command = [\"test\", \"-e\", \"../up\"] }}\n{keys}\n"
    )
}

/// Tasks one after the other: each with its shell line, and those whose name begins with `s` need the server.
fn chain(tasks: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (n, (name, line)) in tasks.iter().enumerate() {
        let before = n.checked_sub(1).map(|n| format!("after = [\"{}\"]\n", tasks[n].0));
        let service = if name.starts_with('s') { "service = \"llm\"\n" } else { "" };
        text += &format!(
            "[task.{name}]\noutputs = [\"{name}.txt\"]\n{}{service}command = \"{line}; echo > $out\"\n\n",
            before.unwrap_or_default()
        );
    }
    text
}

#[test]
fn one_that_is_idle_is_ended_and_started_again_for_the_next_task() {
    let space = Space::new();
    let tasks =
        chain(&[("s1", "true"), ("other", "while [ -e ../up ]; do sleep 0.02; done"), ("s2", "true")]);
    let server = ready_at_once("while :; do sleep 0.05; done", "idle = \"50ms\"");
    space.write("pipeline.toml", server + &tasks);
    space.run(&["build"]).exits(0);
    assert_eq!(states(&space), ["starting", "ready", "stopped", "starting", "ready", "stopped"]);
    assert_eq!(space.tally("served"), 2);
}

#[test]
fn what_it_takes_of_this_machine_is_taken_from_tasks_and_it_makes_room_rather_than_stand_in_the_way() {
    let space = Space::new();
    // `other` fits only without the server, which is kept for `s2`, which is after `other`.
    let other = "until [ ! -e ../up ] || [ -e ../never ]; do echo >> ../beside.log; touch ../never; done";
    let tasks = chain(&[("s1", "true"), ("other", other), ("s2", "true")]);
    let tasks = tasks.replace("[task.other]\n", "[task.other]\nresources = { memory = \"6G\" }\n");
    let keys = "resources = { memory = \"6G\" }\n\n[executors.local]\nmemory = \"10G\"";
    space.write("pipeline.toml", ready_at_once("while :; do sleep 0.05; done", keys) + &tasks);
    space.run(&["build"]).exits(0).says(&["service llm: stopped, other tasks need its room"]);
    assert_eq!(states(&space), ["starting", "ready", "stopped", "starting", "ready", "stopped"]);
    assert_eq!(space.tally("beside"), 0, "they were never there at the same time");

    // More than this machine has: told at once, whatever else runs.
    space.edit("pipeline.toml", "[executors.local]\nmemory = \"10G\"", "");
    space.edit("pipeline.toml", "memory = \"6G\" }\n\n", "memory = \"900T\" }\n\n");
    let out = space.run(&["build", "-B"]).exits(1);
    out.says(&[
        "service `llm` cannot be started: it takes 900T of memory",
        "hint: say less in its `resources`",
    ]);
}

#[test]
fn one_that_ends_by_itself_for_the_third_time_fails_who_needs_it_next() {
    let space = Space::new();
    let failed = "until grep -q 'ended by itself 3 times' events.jsonl; do sleep 0.02; done";
    let tasks = chain(&[("s1", failed), ("s2", "true")]);
    // It ends once the build has found it ready.
    let life = "until [ $(grep -c 'state.*ready' events.jsonl) = $(wc -l < ../served.log) ]; do sleep 0.02; done; \
                rm ../up; echo worn out; exit 4";
    space.write("pipeline.toml", ready_at_once(life, "") + &tasks);
    space.run(&["build"]).exits(1).says(&["service `llm` ended by itself 3 times (exit code 4): worn out"]);
    assert_eq!((space.status("s1")["state"].as_str(), space.tally("served")), (Some("done"), 3));
    assert_eq!(space.status("s2")["failure"]["class"], "service");
    assert_eq!(states(&space), ["starting", "ready", "starting", "ready", "starting", "ready", "failed"]);
}

#[test]
fn it_ends_with_the_build_by_a_signal_or_a_kill() {
    let server = FakeLlm::new();
    let space = serving(&server);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let build = space.spawn(&["build"]);
        let own = served(&space, 1);
        build.signal(signal);
        build.wait();
        gone(own);
        space.remove("../served.log");
    }
    let build = space.spawn(&["build"]);
    let own = served(&space, 1);
    build.kill9();
    gone(own);
    assert_eq!(server.total(), 0);
}

#[test]
fn one_that_an_executor_keeps_is_taken_up_by_the_next_build_or_ended_by_it() {
    let server = FakeLlm::new();
    let space = serving(&server);
    space.edit("pipeline.toml", "ready = {", "executor = \"detached\"\nready = {");
    server.hold("a");
    space.write("../go", "");
    let build = space.spawn(&["build"]);
    let own = served(&space, 1);
    server.wait_for_call("a");
    build.kill9();
    server.release_all();
    rustix::process::test_kill_process(own).expect("it lives");
    space.write("../end", "");
    space.build().says(&["taken up as an earlier build left it", "service llm: ready"]);
    assert_eq!(space.tally("served"), 1, "it is the same");
    gone(own);
    assert_eq!(std::fs::read_dir(space.path(".planexe/jobs")).map_or(0, Iterator::count), 0, "jobs are left");
    space.assert_nothing_to_do(&server);

    // Of a killed build, and needed by no task any more.
    let server = FakeLlm::new();
    let space = serving(&server);
    space.edit("pipeline.toml", "ready = {", "executor = \"detached\"\nready = {");
    for path in ["../go", "../end"] {
        space.write(path, "");
    }
    server.hold("a");
    let build = space.spawn(&["build"]);
    let own = served(&space, 1);
    server.wait_for_call("a");
    build.kill9();
    server.release_all();
    rustix::process::test_kill_process(own).expect("it lives");
    space.edit("pipeline.toml", "service = \"llm\"\ncommand", "command");
    space.edit("pipeline.toml", "[services.llm]", "[services.other]");
    space.edit("pipeline.toml", "service = \"llm\"\n", "");
    space.build();
    gone(own);
    assert_eq!(std::fs::read_dir(space.path(".planexe/jobs")).map_or(0, Iterator::count), 0, "jobs are left");
}

#[test]
fn what_is_up_already_is_used_and_left_as_it_is() {
    let server = FakeLlm::new();
    let space = serving(&server);
    let doctor = || space.run(&["doctor"]).stdout;
    assert!(doctor().contains("m: not asked, since service `llm` is not up"));
    for path in ["../up", "../end"] {
        space.write(path, "");
    }
    let found = doctor();
    assert!(found.contains("`llm` is up already: a build uses it, and leaves it as it is"), "{found}");
    assert!(found.contains("m: `x` is not among the 1 model there"), "it is asked: {found}");
    space.build().says(&["kept by somebody else"]);
    assert_eq!((space.tally("served"), server.count("a")), (0, 1));
}

#[test]
fn it_sees_no_keys_but_those_it_names() {
    let server = FakeLlm::new();
    let space = serving(&server);
    for path in ["../go", "../end"] {
        space.write(path, "");
    }
    space.set_env("OPENAI_API_KEY", "sk-secret");
    space.edit("pipeline.toml", "echo loading", "echo key: $OPENAI_API_KEY");
    space.build();
    let log = || {
        let logs = std::fs::read_dir(space.path(".planexe/logs")).expect("logs");
        let mut paths = logs.map(|entry| entry.expect("an entry").path());
        let log = paths.find(|path| path.to_string_lossy().contains("service")).expect("its log");
        std::fs::read_to_string(log).expect("a log")
    };
    assert_eq!(log(), "key:\n");
    space.remove("../up");
    space.edit("pipeline.toml", "ready = {", "env = [\"OPENAI_API_KEY\"]\nready = {");
    space.run(&["build", "-B", "b"]).exits(0);
    // Seen, and not kept.
    assert_eq!(log(), "key: [redacted]\n");
}

#[test]
fn it_is_ready_once_its_address_answers() {
    let server = FakeLlm::new();
    let space = Space::new();
    let up = space.path("../up");
    let health =
        Wire::new(|_| Vec::new()).gets(move |_| reply(if up.exists() { 200 } else { 503 }, "", "{}"));
    let url = format!("ready = {{ url = \"http://{}/health\" }}", health.address());
    let serves = SERVES.replace("ready = { command = [\"test\", \"-e\", \"../up\"] }", &url);
    assert!(serves.contains(&url));
    space.write("pipeline.toml", serves + &tasks(&server));
    let build = space.spawn(&["build"]);
    served(&space, 1);
    assert_eq!(server.total(), 0, "nothing is asked before it answers");
    for path in ["../go", "../end"] {
        space.write(path, "");
    }
    build.wait().exits(0).says(&["service llm: ready"]);
    assert_eq!(
        (server.count("a"), states(&space)),
        (1, vec!["starting".to_owned(), "ready".to_owned(), "stopped".to_owned()])
    );
    assert!(health.asked_for().iter().all(|asked| asked.line == "GET /health"));
}

#[test]
fn a_forecast_ends_a_service_that_no_task_is_left_for_as_a_build_does() {
    let space = Space::new();
    let task = |name: &str, more: &str| {
        format!("[task.{name}]\noutputs = [\"{name}.txt\"]\ncommand = \"echo x > $out\"\n{more}\n")
    };
    let pipeline = [
        "[executors.local]\ncpus = 4\nmemory = \"4G\"\n[services.s]\ncommand = \"sleep 60\"\n".to_owned(),
        "ready = { command = [\"true\"] }\nresources = { memory = \"3G\" }\n".to_owned(),
        task("served", "service = \"s\""),
        // Small ones, one after the other: always one of them is at work.
        task("w1", ""),
        task("w2", "inputs = [\"w1.txt\"]"),
        task("w3", "inputs = [\"w2.txt\"]"),
        task("big", "priority = -1\nresources = { memory = \"3G\" }"),
    ];
    space.write("pipeline.toml", pipeline.concat());
    let seconds = || space.run(&["simulate", "--json"]).exits(0).json()["rows"][0]["seconds"].as_f64();
    let beside = seconds();
    space.edit("pipeline.toml", "service = \"s\"", "");
    assert_eq!(beside, seconds(), "its memory is free once `served` is done");
}
