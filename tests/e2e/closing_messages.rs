//! What is said at the end: numbers that agree wherever they are told, and commands that can be typed as they stand.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{FakeLlm, Space};

/// `list` fails, and with it all that comes after: three items, one of them behind each of two fan-outs.
const BLOCKED: &str = r#"
[task.first]
outputs = ["first.txt"]
command = "false"

[task.part]
foreach = { file = "list.json", items = "" }
inputs = ["first.txt"]
outputs = ["part/{{ key }}.txt"]
command = "cp $in $out"

[task.none]
foreach = { file = "empty.json", items = "" }
outputs = ["none/{{ key }}.txt"]
command = "touch $out"

[task.all]
inputs = ["part/*.txt"]
outputs = ["all.txt"]
command = "cat $in > $out"
"#;

fn words(line: &Value) -> Vec<&str> {
    line.as_str().expect("a command").split(' ').skip(1).collect()
}

/// The commands of a list of pairs.
fn next(answer: &Value) -> Vec<Value> {
    answer["next"].as_array().expect("next").iter().map(|pair| pair[0].clone()).collect()
}

#[test]
fn tasks_are_counted_alike_by_build_status_and_events() {
    let space = Space::new();
    space.write("pipeline.toml", BLOCKED);
    space.write("list.json", r#"["a", "b", "c"]"#);
    space.write("empty.json", "[]");
    let out = space.run(&["build", "--json"]).exits(1).says(&["blocks 4 tasks", "4 blocked"]);
    let answer = out.json();
    let blocks: Vec<&str> =
        answer["failed"][0]["blocks"].as_array().expect("blocks").iter().filter_map(Value::as_str).collect();
    assert_eq!(blocks.len(), 4, "{blocks:?}");
    assert!(blocks.iter().all(|name| *name == "all" || name.starts_with("part[")), "{blocks:?}");
    assert_eq!(answer["summary"]["blocked"], 4);
    let failed = space.lines("events.jsonl").into_iter().find(|event| event["event"] == "task.failed");
    assert_eq!(failed.expect("the event")["blocked"], 4);
    let counts = space.run(&["status", "--json"]).exits(0).json()["counts"].clone();
    assert_eq!((&counts["blocked"], &counts["failed"], &counts["done"]), (&json!(4), &json!(1), &json!(0)));

    // Once it works: five tasks, and a fan-out of nothing is none.
    space.edit("pipeline.toml", "\"false\"", "\"echo one > $out\"");
    space.run(&["build"]).exits(0).says(&["5 tasks ran"]);
    space.run(&["build"]).exits(0).says(&["5 tasks"]);
    space.run(&["build", "-n"]).exits(0).says(&["everything is up to date (5 tasks)"]);
    space.run(&["status"]).exits(0).says(&["5/5 done", "no items"]);

    // One that is skipped counts as well.
    let skipped = "[task.no]\nwhen = \"{{ false }}\"\noutputs = [\"no.txt\"]\ntemplate = \"not wanted\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + skipped);
    for args in [&["build"][..], &["build", "-n"]] {
        space.run(args).exits(0).says(&["everything is up to date (6 tasks)"]);
    }
}

/// A fan-out whose list came out empty is done, also while a task before the list is stale.
#[test]
fn an_edit_before_an_empty_list_leaves_the_run_complete() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
        [task.list]
        inputs = ["plan.txt"]
        outputs = ["list.json"]
        command = "echo [] > $out"
        [task.part]
        foreach = { file = "list.json" }
        outputs = ["parts/{{ key }}.txt"]
        template = "{{ item }}"
        [task.all]
        inputs = { plan = "plan.txt", parts = "parts/*.txt" }
        outputs = ["all.md"]
        template = "{{ plan }}"
        "#,
    );
    space.write("plan.txt", "one");
    space.run(&["status"]).exits(0).says(&["never started", "0/3 done"]);
    space.run(&["build"]).exits(0);
    space.write("plan.txt", "two");
    space.run(&["status"]).exits(0).says(&["completed", "no items"]).says_nothing_of(&["pending"]);
    space.run(&["build", "-n"]).exits(0).says(&["depends on list"]).says_nothing_of(&["phase"]);
    space.run(&["resume"]).exits(2).says(&["the run is complete, and 1 task is stale since"]);
    space.run(&["build"]).exits(0).says(&["2 tasks ran"]);
}

#[test]
fn what_was_not_reached_is_counted_by_item() {
    let space = Space::new();
    space.write("pipeline.toml", BLOCKED.replace("\"false\"", "\"echo > $out\""));
    space.write("list.json", r#"["a", "b", "c"]"#);
    space.write("empty.json", "[]");
    space.edit("pipeline.toml", "command = \"echo > $out\"", "human = \"Write it\"");
    let answer = space.run(&["build", "--json"]).exits(3).json();
    let summary = &answer["summary"];
    assert_eq!((&summary["waiting"], &summary["pending"]), (&json!(["first"]), &json!(4)));
    assert_eq!(summary["left"], json!(["part", "all"]));
    // What to type next is to pass what waits, and then to go on.
    assert_eq!(next(&answer), ["planexe done first", "planexe resume"]);
}

#[test]
fn commands_to_type_next_work_from_where_the_command_before_was_typed() {
    let space = Space::new();
    let run = "runs/a b";
    space.write(
        &format!("{run}/pipeline.toml"),
        "[vars]\nx = \"1\"\n\n[profiles.mine.vars]\nx = \"2\"\n\n[task.a]\noutputs = [\"a.txt\"]\ncommand = \"false\"\n\n[task.b]\noutputs = [\"b.txt\"]\ntemplate = \"x is {{ vars.x }}\"\n",
    );
    let start = ["-C", run, "--profile", "mine", "-D", "x=3"];
    let out = space.run(&[&start[..], &["build", "--json"]].concat()).exits(1);
    let wanted = "planexe -C 'runs/a b' --profile mine -D 'x=3' explain a";
    let commands = next(&out.json());
    assert_eq!(commands[0], wanted);
    assert!(out.stderr.contains(&format!("Next: {wanted}  see why\n")), "{out}");
    let status = space.run(&[&start[..], &["status", "--json"]].concat()).json();
    assert_eq!(status["error"]["next"], wanted);
    // As a shell reads it.
    let program = Path::new(env!("CARGO_BIN_EXE_planexe")).display().to_string();
    let line = wanted.replacen("planexe", &program, 1);
    let out = space.program("sh", &["-c", &line]).output().expect("sh");
    assert!(out.status.success(), "{out:?}");
    // In hints too, but for commands that belong to no run.
    let refused = space.run(&[&start[..], &["restore", "a", "--json"]].concat()).exits(2).json();
    assert_eq!(refused["error"]["next"], json!(["planexe -C 'runs/a b' --profile mine -D 'x=3' history"]));
    space.run(&["-C", "nowhere", "build"]).exits(2).says(&["`planexe new DIR`"]);
    let faulty = space.run(&["-C", run, "--profile", "none", "status", "--json"]).exits(2).json();
    assert_eq!(faulty["error"]["next"], json!(["planexe -C 'runs/a b' --profile none check"]));
    // Where the run is the folder, nothing is added.
    space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"false\"\n");
    assert_eq!(next(&space.run(&["build", "--json"]).exits(1).json())[0], "planexe explain a");
}

#[test]
fn a_mistyped_command_line_names_a_command_to_type() {
    let space = Space::new();
    for (line, wanted) in [
        (vec!["explain", "--json"], "planexe help explain"),
        (vec!["build", "-j", "0", "--json"], "planexe help build"),
        (vec!["-s", "keys", "bind", "--json"], "planexe help keys"),
        (vec!["nonsense", "--json"], "planexe help"),
    ] {
        let error = space.run(&line).exits(2).json()["error"].clone();
        assert_eq!(error["next"], json!([wanted]), "{line:?}");
        space.run(&words(&error["next"][0])).exits(0);
    }
    space.run(&["build", "-j", "x"]).exits(2).says(&["wanted a number from 1 up"]);
}

#[test]
fn a_folder_that_looks_like_an_option_is_named_so_that_it_can_be_typed() {
    let space = Space::new();
    let out = space.run(&["new", "--", "-dash"]).exits(0);
    assert!(out.stderr.contains("\n  planexe -C ./-dash build\n"), "{out}");
    space.run(&["-C", "./-dash", "build", "-n"]).exits(0);
}

#[test]
fn a_record_that_cannot_be_written_is_named_within_the_run() {
    let server = FakeLlm::new();
    let space = Space::with(&server, "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nSay a\"\n");
    space.write(".planexe/calls", "in the way");
    let out = space.run(&["build"]).exits(1).says(&["`.planexe/calls"]);
    let absolute = space.path(".planexe").display().to_string();
    assert!(!out.stderr.contains(&absolute), "{out}");
}

#[test]
fn no_key_is_bound_to_a_host_over_plain_http() {
    let space = Space::new();
    space.run(&["keys", "bind", "ACME_KEY", "http://llm.example/v1"]).exits(2).says(&["plain http", "https"]);
    space.run(&["keys", "bind", "ACME_KEY", "https://llm.example/v1"]).exits(0);
    space.run(&["keys", "bind", "ACME_KEY", "http://127.0.0.1:8080/v1"]).exits(0);
}

#[test]
fn an_answer_of_any_text_under_a_name_for_json_is_warned_of() {
    let server = FakeLlm::new();
    let space = Space::with(&server, "[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nSay a\"\n");
    space.run(&["check"]).exits(0).says(&[
        "the answer of `a` may be any text",
        "give the task a `schema`",
        "1 warning",
    ]);
    space.run(&["check", "--strict"]).exits(2);
    space.edit("pipeline.toml", "a.json", "a.txt");
    space.run(&["check", "--strict"]).exits(0).says(&["no faults"]);
}

#[test]
fn what_a_file_says_is_quoted_as_it_is() {
    let space = Space::new();
    space.write("runs/a/pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncomand = \"planexe build\"\n");
    let out = space.run(&["-C", "runs/a", "build"]).exits(2);
    assert!(out.stderr.contains("\n3 | comand = \"planexe build\"\n"), "{out}");
}
