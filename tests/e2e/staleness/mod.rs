//! What is stale and what is not: every row of the table, and what it costs to be fresh again. Here is what holds of all
//! tasks; inputs and recipes have files of their own.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{Answer, CHAIN, FakeLlm, Space, counts, space, until};

mod inputs;
mod recipe;

/// One task.
pub const ONE: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"
"#;

/// One task with a schema and an output rendered from the answer.
const SHAPED: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json", { path = "a.md", template = "a.md.j2" }]
prompt = "TASK=a\nJudge: {{ plan }}"
schema = "a.schema.json"
"#;

const SCHEMA: &str = r#"{
  "type": "object", "required": ["title", "score"], "additionalProperties": false,
  "properties": { "title": { "type": "string" }, "score": { "type": "integer" } }
}"#;

pub fn shaped(server: &FakeLlm) -> Space {
    let space = space(server, SHAPED);
    space.write("a.schema.json", SCHEMA);
    space.write("a.md.j2", "# {{ answer.title }} ({{ answer.score }})\n");
    space
}

/// A server whose answers tell how many came before for the task.
pub fn numbered() -> FakeLlm {
    FakeLlm::scripted(|request| {
        format!("Draw {} of {}, whatever is asked.\n", request.nth, request.task).into()
    })
}

/// Expects that a build would run something, and that `explain` says why in these words.
#[track_caller]
pub fn assert_stale(space: &Space, task: &str, why: &[&str]) {
    space.run(&["build", "-q"]).exits(1);
    space.run(&["explain", task]).exits(0).says(&["stale"]).says(why);
}

/// Expects that a build would run nothing.
#[track_caller]
fn assert_fresh(space: &Space) {
    space.run(&["build", "-q"]).exits(0);
}

/// Builds until a build writes nothing at all. An entry as young as the clock is hashed again, and its
/// record may be written again: once it is older than that, there is nothing left to learn.
#[track_caller]
fn settle(space: &Space) {
    until("a build that writes nothing", || {
        let before = space.everything();
        space.build();
        (space.everything() == before).then_some(())
    });
}

#[test]
fn the_first_build_makes_all_and_the_second_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    assert_eq!(server.order(), ["a", "b", "c"]);
    let tree = space.tree();
    let names: Vec<_> = tree.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.txt", "b.txt", "c.txt", "pipeline.toml", "plan.txt"]);
    assert!(space.read("b.txt").contains("to b"), "{}", space.read("b.txt"));
    assert_eq!(server.last("b").prompt, format!("TASK=b\nGo on from: {}", space.read("a.txt")));
    for output in ["a.txt", "b.txt", "c.txt"] {
        assert!(space.is_done(output), "{output}");
        assert_eq!(space.sidecar(output)["state"], "done");
    }
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
}

#[test]
fn readers_of_the_same_bytes_do_not_run_again() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => "Always the same.\n".into(),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    space.build();
    space.write("plan.txt", "Build a tunnel.\n");
    let out = space.run(&["build", "-n"]).exits(0);
    assert_eq!(server.total(), 3);
    out.says(&["a", "b", "c"]);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_renamed_task_stays_fresh() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.edit("pipeline.toml", "[task.b]", "[task.middle]");
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    assert_eq!(space.state("middle"), "done");
    assert_eq!(space.report()["tasks"].as_array().map(Vec::len), Some(3));
    // What it was paid for under its former name is its own: a lost output is made of that.
    space.remove("b.txt");
    let asked = server.total();
    space.build();
    assert_eq!(server.total(), asked);
    // A fresh answer is a fresh one all the same.
    space.run(&["clean", "middle", "-y"]).exits(0);
    space.build();
    assert_eq!(server.total(), asked + 1);
}

#[test]
fn times_in_the_future_or_the_past_are_decided_by_content() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let files = space.files("");
    let day = Duration::from_secs(86400);
    for time in [SystemTime::now() + 3650 * day, SystemTime::UNIX_EPOCH + day, SystemTime::now()] {
        for file in files.iter().filter(|file| !file.starts_with(".planexe/")) {
            space.set_mtime(file, time);
        }
        assert_fresh(&space);
        space.assert_nothing_to_do(&server);
    }
    // New content under an mtime in the future runs once, not for ever.
    space.write("plan.txt", "Build a tunnel.\n");
    space.set_mtime("plan.txt", SystemTime::now() + 3650 * day);
    space.build();
    assert_eq!(server.count("a"), 2);
    space.assert_nothing_to_do(&server);
    // And so does new content older than every output.
    space.write("plan.txt", "Build a castle.\n");
    space.set_mtime("plan.txt", SystemTime::UNIX_EPOCH + day);
    space.build();
    assert_eq!(server.count("a"), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn always_make_makes_all() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let first = space.read("c.txt");
    space.run(&["build", "-B"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2)]));
    assert!(space.read("c.txt").starts_with("Draw 1"));
    assert!(space.in_history(first));
    space.assert_nothing_to_do(&server);
    space.run(&["build", "-B", "b"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 3), ("b", 3), ("c", 2)]));
}

#[test]
fn makes_rule_for_those_who_want_it() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[staleness]
by = "mtime"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
command = "echo >> ../a.log; cat $in > $out"
"#,
    );
    space.build();
    space.assert_nothing_to_do(&server);
    settle(&space);
    space.set_mtime("plan.txt", space.mtime("a.txt") + Duration::from_millis(1));
    assert_stale(&space, "a", &["plan.txt"]);
    space.build();
    assert_eq!(space.tally("a"), 2);
    space.write("plan.txt", "Build a tunnel.\n");
    space.set_mtime("plan.txt", space.mtime("a.txt") - Duration::from_secs(60));
    space.assert_nothing_to_do(&server);
    assert_eq!((space.tally("a"), space.read("a.txt")), (2, "Build a bridge.\n".to_owned()));
}

#[test]
fn clean_asks_for_another_draw() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let first = space.read("b.txt");
    space.run(&["clean", "b", "-y"]).exits(0).says(&["b.txt"]);
    assert!(!space.exists("b.txt") && !space.is_done("b.txt"));
    assert!(space.in_history(&first));
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 2)]));
    assert!(space.read("b.txt").starts_with("Draw 1"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_run_moved_or_copied_elsewhere_stays_fresh() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let elsewhere = space.root().join("deeper/down");
    std::fs::create_dir(space.root().join("deeper")).expect("a folder");
    let copied = std::process::Command::new("cp").arg("-R").arg(space.dir()).arg(&elsewhere).status();
    assert!(copied.expect("cp").success());
    space.run(&["build", "-C", elsewhere.to_str().expect("a path")]).exits(0);
    assert_eq!(server.total(), 3);
    let there = space.root().join("again");
    std::fs::rename(space.dir(), &there).expect("rename");
    std::fs::create_dir(space.dir()).expect("a folder to start in");
    space.run(&["build", "-C", there.to_str().expect("a path")]).exits(0);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_build_that_learns_nothing_writes_nothing_at_all() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    settle(&space);
    assert_eq!(server.total(), 3);
}

#[test]
fn tasks_moved_between_files_stay_fresh() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let (first, last) = CHAIN.split_at(CHAIN.find("[task.c]").expect("c"));
    space.write("stages/last.toml", last);
    space.pipeline(&server, &format!("[pipeline]\ninclude = [\"stages/*.toml\"]\n{first}"));
    space.assert_nothing_to_do(&server);
    space.edit("stages/last.toml", "Conclude", "Finish");
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn two_tasks_of_the_same_prompt_have_answers_of_their_own() {
    let server = numbered();
    let two = ONE.replace("a.txt", "b.txt").replace("[task.a]", "[task.b]");
    let space = space(&server, &format!("{ONE}{two}"));
    space.build();
    assert_eq!(server.counts(), counts([("a", 2)]));
    assert_ne!(space.read("a.txt"), space.read("b.txt"));
    let tree = space.tree();
    space.remove("a.txt");
    space.remove("b.txt");
    space.build();
    assert_eq!((server.total(), space.tree()), (2, tree));
    space.assert_nothing_to_do(&server);
}

/// Every kind of thing a verdict may rest on.
const EVERYTHING: &str = r#"
[pipeline]
include = ["stages/*.toml", "more.toml", "deep/*/x.toml"]

[vars]
tone = "calm"

[task.a]
inputs = ["plan.txt", "link.txt"]
outputs = ["a.json", { path = "a.md", template = "a.md.j2" }]
system = "prompts/system.md"
prompt = "prompts/a.md"
schema = "a.schema.json"
check = { banned_words = "banned.txt" }

[task.notes]
inputs = { notes = "notes.txt" }
optional = ["notes"]
outputs = ["noted.txt"]
template = "{{ vars.tone }} {{ notes or 'none' }}"

[task.all]
inputs = { docs = "docs/**/*.txt" }
outputs = ["all.txt"]
command = "cat $in.docs > $out; echo $FLAVOUR >> $out"
env = ["FLAVOUR"]

[task.item]
foreach = { file = "items.json", key = "id" }
outputs = ["items/{{ key }}.txt"]
template = "{{ item.text }}"

[task.file]
foreach = { glob = "parts/*.txt" }
outputs = ["files/{{ key }}.txt"]
template = "{{ item.text }}"

[task.over]
inputs = ["items/*.txt", "files/*.txt", "a.md"]
outputs = ["over.txt"]
command = "cat $in > $out"
"#;

#[test]
fn after_quiet_builds_every_change_is_still_seen() {
    let server = FakeLlm::new();
    let space = Space::with(&server, EVERYTHING);
    for (path, text) in [
        ("plan.txt", "Build a bridge."),
        ("texts/linked.txt", "linked"),
        ("texts/other.txt", "other!"),
        ("more.toml", "# nothing yet"),
        ("prompts/system.md", "Be brief."),
        ("prompts/a.md", "TASK=a\n{{ plan }} {{ link }} {{ vars.tone }}"),
        ("a.md.j2", "# {{ answer.title }}"),
        ("a.schema.json", SCHEMA),
        ("banned.txt", "nonsense"),
        ("docs/one.txt", "1"),
        ("docs/deep/er/two.txt", "2"),
        ("items.json", r#"[{"id": "x", "text": "ex"}, {"id": "y", "text": "why"}]"#),
        ("parts/p.txt", "part"),
    ] {
        space.write(path, text);
    }
    std::os::unix::fs::symlink("texts/linked.txt", space.path("link.txt")).expect("a link");
    space.set_env("FLAVOUR", "plain");
    space.build();

    let relink = |space: &Space| {
        space.remove("link.txt");
        std::os::unix::fs::symlink("texts/other.txt", space.path("link.txt")).expect("a link");
    };
    let restored = |space: &Space| {
        let mtime = space.mtime("docs/one.txt");
        space.write("docs/one.txt", "7");
        space.set_mtime("docs/one.txt", mtime);
    };
    let into = |space: &Space| {
        space.write("docs/new.tmp", "renamed into place");
        std::fs::rename(space.path("docs/new.tmp"), space.path("docs/deep/new.txt")).expect("rename");
    };
    type Change<'a> = &'a dyn Fn(&Space);
    let changes: [(&str, Change); 36] = [
        ("an input", &|s| s.write("plan.txt", "Build a tunnel.")),
        ("an input of the same size and time", &restored),
        ("the file behind a link", &|s| s.write("texts/linked.txt", "LINKED")),
        ("a link to another file", &relink),
        ("the prompt's file", &|s| s.edit("prompts/a.md", "TASK=a", "TASK=a\nNow:")),
        ("the system prompt's file", &|s| s.write("prompts/system.md", "Be very brief.")),
        ("the template of a further output", &|s| s.write("a.md.j2", "## {{ answer.title }}")),
        ("the schema", &|s| s.edit("a.schema.json", "\"integer\"", "\"integer\", \"maximum\": 9")),
        ("the list of banned words", &|s| s.write("banned.txt", "nonsense\nrubbish")),
        ("the pipeline", &|s| s.edit("pipeline.toml", "'none'", "'nothing'")),
        ("a var", &|s| s.edit("pipeline.toml", "calm", "bold")),
        ("a file that is included by name", &|s| {
            s.write("more.toml", "[task.m]\noutputs = [\"m.txt\"]\ntemplate = \"m m\"")
        }),
        ("a file that an include's glob matches now", &|s| {
            s.write("stages/s.toml", "[task.s]\noutputs = [\"s.txt\"]\ntemplate = \"s s\"")
        }),
        ("a file in a folder an include's glob begins with", &|s| {
            s.write("deep/one/x.toml", "[task.one]\noutputs = [\"one.txt\"]\ntemplate = \"one x\"")
        }),
        ("a file in a new folder an include's glob reaches into", &|s| {
            s.write("deep/two/x.toml", "[task.two]\noutputs = [\"two.txt\"]\ntemplate = \"two x\"")
        }),
        ("an optional input that is there now", &|s| s.write("notes.txt", "Mind the wind.")),
        ("an optional input that is gone again", &|s| s.remove("notes.txt")),
        ("a file a glob matches now", &|s| s.write("docs/three.txt", "3")),
        ("a file in a new folder a glob reaches into", &|s| s.write("docs/new/down/four.txt", "4")),
        ("a file renamed into a glob", &into),
        ("a file gone from a glob", &|s| s.remove("docs/deep/er/two.txt")),
        ("a named variable of the environment", &|s| s.set_env("FLAVOUR", "sweet")),
        ("an item", &|s| s.edit("items.json", "why", "because")),
        ("an item added", &|s| s.edit("items.json", "[{", r#"[{"id": "z", "text": "zed"}, {"#)),
        ("an item removed", &|s| s.edit("items.json", r#"{"id": "z", "text": "zed"}, "#, "")),
        ("a file that is an item now", &|s| s.write("parts/q.txt", "another part")),
        ("an output gone", &|s| s.remove("noted.txt")),
        ("a further output gone", &|s| s.remove("a.md")),
        ("an instance's output gone", &|s| s.remove("items/x.txt")),
        ("an output emptied", &|s| s.write("over.txt", "")),
        ("an output edited, for its readers", &|s| s.write("items/x.txt", "my own words")),
        ("an output that is no longer valid", &|s| s.write("a.json", "{}")),
        ("a marker gone", &|s| s.remove("over.txt.DONE")),
        ("a marker torn", &|s| s.write("items/y.txt.DONE", "{\"schema\": 1,")),
        ("the marker of another task", &|s| s.write("over.txt.DONE", s.bytes("all.txt.DONE"))),
        ("a folder that took an output's place", &|s| {
            s.remove("over.txt");
            s.write("over.txt/x", "in the way");
        }),
    ];
    let mut unseen = Vec::new();
    for (what, change) in changes {
        settle(&space);
        change(&space);
        if space.run(&["build", "-q"]).code != 1 {
            unseen.push(what);
        }
        if what.starts_with("a folder") {
            space.run(&["build"]).exits(1);
        } else {
            space.build();
            space.assert_nothing_to_do(&server);
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}

#[test]
fn a_record_with_no_more_than_the_contract_asks_for() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let keys = ["schema", "task", "fingerprint", "inputs", "outputs", "completed_utc", "by", "checkpoint_id"];
    for output in ["a.txt", "b.txt", "c.txt"] {
        let mut record = space.done(output);
        record.as_object_mut().expect("an object").retain(|key, _| keys.contains(&key.as_str()));
        space.write(&format!("{output}.DONE"), record.to_string());
        space.write(
            &format!("{output}.status"),
            json!({ "schema": 1, "task": "x", "state": "done" }).to_string(),
        );
    }
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    // That something changed is all that can be told of it.
    space.write("plan.txt", "Build a tunnel.\n");
    let out = space.run(&["build", "-n"]).exits(0).says(&["a  what it is made from changed"]);
    assert!(!out.stdout.contains("is new"), "{out}");
    space.build();
    space.assert_nothing_to_do(&server);
}
