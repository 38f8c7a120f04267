//! Runs of earlier releases, kept in `tests/archive/VERSION.tar.gz`, each with what it said of itself: this version takes
//! them up where they are. And what an earlier release makes of a run of this one.
//!
//! `PLANEXE_NEW_ARCHIVE=1 cargo test --test e2e -- --ignored a_release_leaves_its_archive` makes the archive of the
//! version that is built; `PLANEXE_OLD_BIN=PROGRAM cargo test --test e2e -- releases` has an earlier release read what
//! this one writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::support::{Answer, FakeLlm, Space, counts};

/// Every kind of task, and every state that one can be left in without a program that is killed.
const TASKS: &str = r##"
[models.spent]
api = "openai"
base_url = "BASE"
model = "spent"

[task.facts]
inputs  = ["plan.txt"]
outputs = ["facts.json", { path = "facts.md", template = "# {{ answer.title }}" }]
prompt  = "TASK=facts\nWhat is known: {{ plan }}"
schema  = "facts.schema.json"

[task.count]
inputs  = ["facts.json"]
outputs = ["sub/count.txt"]
command = "wc -c < $in > $out"

[task.review]
foreach = { file = "facts.json", items = "/items", key = "name" }
inputs  = ["plan.txt"]
outputs = ["reviews/{{ key }}.md"]
prompt  = "TASK=review {{ key }}\n{{ item.name }} of {{ plan }}"

[task.log]
inputs   = ["sub/count.txt"]
outputs  = ["log.txt"]
command  = "cat $in > $out; echo end >> $out"
in_place = true

[task.page]
inputs   = { facts = "facts.json", log = "log.txt", reviews = "reviews/*.md" }
outputs  = ["page.html"]
template = "<h1>{{ facts.title }}</h1>{{ log }}{% for r in reviews %}<p>{{ r.text }}</p>{% endfor %}"

[task.gate]
inputs  = ["log.txt"]
outputs = ["gate.json"]
gate    = { fail_if = "{{ 'end' in log }}", action = "warn", message = "It ends." }

[task.judged]
inputs  = ["plan.txt"]
outputs = ["judged.md"]
prompt  = "TASK=judged\nWrite: {{ plan }}"
eval    = { prompt = "TASK=good\nHow good is {{ answer }}?" }

[task.agent]
kind    = "agent"
inputs  = ["plan.txt"]
outputs = ["agent.md"]
command = "cat $in > $out; exit 1"
eval    = { prompt = "TASK=good\nHow good is {{ answer }}?" }

[task.short]
inputs  = ["page.html"]
outputs = ["short.txt"]
prompt  = "TASK=short\nConclude: {{ page }}"
check   = { min_words = 3 }

[task.signed]
inputs  = ["plan.txt"]
outputs = ["signed.txt"]
human   = "Sign it."

[task.touched]
inputs  = ["plan.txt"]
outputs = ["touched.txt"]
command = "cp $in $out"

[task.LONG]
inputs  = ["plan.txt"]
outputs = ["long-LONG.txt"]
command = "cp $in $out"

[task.low]
inputs  = ["plan.txt"]
outputs = ["low.md"]
prompt  = "TASK=low\n{{ plan }}"
eval    = { prompt = "TASK=bad\n{{ answer }}", max_rounds = 1 }

[task.unjudged]
inputs  = ["plan.txt"]
outputs = ["unjudged.md"]
prompt  = "TASK=unjudged\n{{ plan }}"
eval    = { prompt = "TASK=nothing\n{{ answer }}" }

[task.broken]
inputs  = ["plan.txt"]
outputs = ["broken.txt"]
command = "echo why >&2; exit 3"

[task.after]
inputs  = ["broken.txt"]
outputs = ["after.txt"]
prompt  = "TASK=after\n{{ broken }}"

[task.refused]
inputs  = ["plan.txt"]
outputs = ["refused.txt"]
prompt  = "TASK=refused\n{{ plan }}"

[task.asked]
inputs  = ["plan.txt"]
outputs = ["asked.txt"]
human   = "Read it."

[task.paused]
inputs  = ["log.txt"]
outputs = ["paused.json"]
gate    = { fail_if = "{{ 'end' in log }}", action = "pause" }

[task.limit]
model   = "spent"
outputs = ["limit.txt"]
prompt  = "TASK=limit\nAnswer."
"##;

const SCHEMA: &str = r#"{"type":"object","required":["title","items"],"properties":{"title":{"type":"string"},
"items":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"}}}}}}"#;

/// Where the server is, in the archive.
const NOWHERE: &str = "http://127.0.0.1:9/v1";

/// What is done, in the order of the tasks above.
const DONE: [&str; 12] = [
    "facts", "count", "review", "log", "page", "gate", "judged", "agent", "short", "signed", "touched",
    "LONG",
];

fn long(text: &str) -> String {
    text.replace("LONG", &"x".repeat(240))
}

fn done() -> Vec<String> {
    DONE.iter().map(|task| long(task)).collect()
}

fn server() -> FakeLlm {
    FakeLlm::scripted(|call| match call.task.as_str() {
        "facts" => {
            let items = ["a", "b"].map(|name| json!({ "name": name }));
            Answer::from(json!({ "title": format!("Facts {}", call.digest()), "items": items }))
        }
        "short" if call.messages.len() == 1 => Answer::from("End."),
        "good" => Answer::from(json!({ "score": 0.9, "notes": "Good." })),
        "bad" => Answer::from(json!({ "score": 0.1, "notes": "Name an owner." })),
        "nothing" | "refused" => Answer::error(400, "not this one"),
        "limit" => {
            let body = json!({ "error": { "message": "The limit has been reached", "type": "usage_limit_reached" } });
            Answer::Http(429, vec![("retry-after", "36000".into())], body.to_string())
        }
        _ => Answer::Default,
    })
}

/// What a run says of itself that another version must say of it too.
fn told(space: &Space) -> Value {
    let report = space.report();
    let keys = ["state", "verdict", "by", "attempt", "checkpoint_id", "decision_id"];
    let of = |task: &Value| {
        let facts: Map<String, Value> =
            keys.iter().map(|key| ((*key).to_owned(), task[*key].clone())).collect();
        (task["task"].as_str().expect("a name").to_owned(), Value::Object(facts))
    };
    let tasks: Map<String, Value> = report["tasks"].as_array().expect("tasks").iter().map(of).collect();
    let history = space.run(&["history", "--json"]).exits(0).json();
    json!({ "tasks": tasks, "history": history["entries"] })
}

/// A run with all of that, built over an older plan and then over the present one.
fn make(server: &FakeLlm) -> Space {
    let space = Space::with(server, &long(TASKS).replace("BASE", &server.base_url()));
    space.write("facts.schema.json", SCHEMA);
    for (plan, outcome) in [("A tunnel.\n", 1), ("A bridge.\n", 1)] {
        space.write("plan.txt", plan);
        space.write("signed.txt", format!("Signed: {plan}"));
        space.run(&["build", "-k"]).exits(outcome);
        space.run(&["done", "signed"]).exits(0);
        space.run(&["build", "-k"]).exits(outcome);
    }
    space.write("touched.txt", "by hand\n");
    space.run(&["touch", "touched"]).exits(0);
    space.run(&["build", "-k"]).exits(1);
    space
}

fn archives() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archive")
}

fn tar(args: &[&str], folder: &Path) {
    let done = Command::new("tar").args(args).current_dir(folder).status().expect("tar");
    assert!(done.success(), "tar {args:?}");
}

/// Each archive, unpacked: its version, a space whose models are at the server, and what it said of itself.
fn unpacked(server: &FakeLlm) -> Vec<(String, Space, Value)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(archives()).expect("archives").map(|entry| entry.expect("one").path()).collect();
    files.sort();
    let one = |file: &PathBuf| {
        let version = file.file_name()?.to_str()?.strip_suffix(".tar.gz")?.to_owned();
        let space = Space::new();
        tar(&["xzf", file.to_str()?], space.dir());
        let said = space.json("said.json");
        space.remove("said.json");
        space.edit("pipeline.toml", NOWHERE, &server.base_url());
        Some((version, space, said))
    };
    let all: Vec<_> = files.iter().filter_map(one).collect();
    assert!(!all.is_empty(), "no archive");
    all
}

fn build<'a>(done: &'a [String], first: &[&'a str]) -> Vec<&'a str> {
    first.iter().copied().chain(done.iter().map(String::as_str)).collect()
}

#[test]
#[ignore = "makes a file of the repository"]
fn a_release_leaves_its_archive() {
    assert!(std::env::var_os("PLANEXE_NEW_ARCHIVE").is_some(), "see above");
    let server = server();
    let space = make(&server);
    space.edit("pipeline.toml", &server.base_url(), NOWHERE);
    space.write("said.json", serde_json::to_vec_pretty(&told(&space)).expect("JSON"));
    let version = space.run(&["--version"]).exits(0);
    let version = version.stdout.split_whitespace().nth(1).expect("a version");
    let file = archives().join(format!("{version}.tar.gz"));
    let words = [
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-czf",
        file.to_str().expect("a path"),
        ".",
    ];
    tar(&words, space.dir());
    assert!(std::fs::metadata(&file).expect("the archive").len() < 100_000);
}

/// It says of each task what was said of it, there is nothing to do for what is done, and what was kept is there.
#[test]
fn a_run_of_each_release_is_taken_up() {
    let server = server();
    for (version, space, said) in unpacked(&server) {
        assert_eq!(told(&space), said, "{version}");
        let done = done();
        let before = space.visible();
        let out = space.run(&build(&done, &["build"])).exits(0).says(&["up to date"]);
        assert_eq!(server.total(), 0, "{version}: {out}");
        before.assert_same_as(&space.visible(), &out);
        for task in &done {
            let out = space.run(&["explain", task]).exits(0);
            assert!(out.stdout.contains("Fresh") || task == "review", "{version}: {out}");
        }
        space.run(&["explain", "refused"]).exits(0).says(&["not this one"]);
        // What there was before, and back.
        let (now, out) = (space.read("facts.md"), space.run(&["restore", "facts"]).exits(0));
        assert_ne!(space.read("facts.md"), now, "{version}: {out}");
        assert_eq!(space.read("signed.txt"), "Signed: A bridge.\n");
        space.run(&["restore", "facts"]).exits(0);
        assert_eq!(space.read("facts.md"), now, "{version}");
        let report = space.report();
        let last = report["last_checkpoint_id"].as_str().expect("a checkpoint");
        space.run(&["restore", "--checkpoint", last]).exits(0);
        space.run(&build(&done, &["build"])).exits(0);
        assert_eq!(server.total(), 0, "{version}: all answers are kept");
        // The others go on from where they were.
        space.run(&["build", "-k"]).exits(1);
        let called: Vec<String> = server.counts().into_keys().collect();
        assert_eq!(called, ["bad", "limit", "low", "nothing", "refused"], "{version}");
    }
}

/// Every object of JSON below a folder, changed.
fn change(space: &Space, of: impl Fn(&str) -> bool, with: impl Fn(&mut Map<String, Value>)) -> usize {
    let mut count = 0;
    for path in space.files("").into_iter().filter(|path| of(path)) {
        if let Ok(Value::Object(mut object)) = serde_json::from_slice(&space.bytes(&path)) {
            with(&mut object);
            space.write(&path, serde_json::to_vec(&object).expect("JSON"));
            count += 1;
        }
    }
    count
}

fn is_sidecar(path: &str) -> bool {
    let ours = !path.starts_with(".planexe/") || path.starts_with(".planexe/sidecars/");
    ours && (path.ends_with(".DONE") || path.ends_with(".status"))
}

/// A field that a later version added means nothing, and stays.
#[test]
fn what_a_later_version_added_is_kept() {
    let server = server();
    for (version, space, _) in unpacked(&server) {
        let ours = |path: &str| is_sidecar(path) || path.starts_with(".planexe/") && path.ends_with(".json");
        let changed =
            change(&space, ours, |object| drop(object.insert("tomorrow".into(), json!({ "a": [1] }))));
        assert!(changed > 40, "{version}: {changed} files");
        let done = done();
        let out = space.run(&build(&done, &["build"])).exits(0).says(&["up to date"]);
        assert_eq!(server.total(), 0, "{version}: {out}");
        space.run(&["touch", "count"]).exits(0);
        for marker in [space.done("sub/count.txt"), space.sidecar("sub/count.txt")] {
            assert_eq!(marker["tomorrow"], json!({ "a": [1] }), "{version}: {marker:#}");
        }
    }
}

/// What a later version meant otherwise is not believed: it is kept aside and made again, from kept answers where there
/// are some.
#[test]
fn what_a_later_version_changed_is_made_again() {
    let server = server();
    for (version, space, _) in unpacked(&server) {
        let outputs = space.tree();
        change(&space, is_sidecar, |object| drop(object.insert("schema".into(), json!(2))));
        space.run(&["status"]).exits(0);
        space.run(&["explain", "facts"]).exits(0).says(&["newer version"]);
        // What a person gave is asked of that person again.
        let of_people = ["signed", "touched"];
        let done: Vec<String> =
            done().into_iter().filter(|task| !of_people.contains(&task.as_str())).collect();
        let out = space.run(&build(&done, &["build"])).exits(0);
        // The agent works again, and its work is judged again.
        assert_eq!(server.counts(), counts([("good", 1)]), "{version}: {out}");
        assert_eq!(space.tree(), outputs, "{version}: {out}");
        let aside = space.files(".planexe/partial");
        assert!(aside.iter().any(|path| path.contains("facts.json.DONE.damaged-")), "{version}: {aside:?}");
    }
}

/// A run of this version under an earlier release, or under itself: it has nothing to do, or says that it cannot.
#[test]
fn an_earlier_release_reads_a_run_of_this_one() {
    let server = server();
    let space = make(&server);
    let old = std::env::var("PLANEXE_OLD_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_planexe").to_owned());
    let (paid, before) = (server.total(), space.tree());
    for args in [&["status", "--json"][..], &["explain", "facts"], &["history"]] {
        let out = space.start(space.program(&old, args)).wait().exits(0);
        assert!(!out.stderr.contains("panicked"), "{out}");
    }
    let done = done();
    let out = space.start(space.program(&old, &build(&done, &["build"]))).wait().exits(0);
    assert_eq!((server.total(), space.tree()), (paid, before), "{out}");
    space.run(&build(&done, &["build"])).exits(0).says(&["up to date"]);
}
