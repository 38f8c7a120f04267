//! What is kept and given back: `history`, `restore`, `touch`, `done`, `record` at their edges.

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Space};

const CHAIN: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nGo on from: {{ a }}"

[task.all]
inputs = ["a.txt", "b.txt"]
"#;

/// A chain built twice, for a bridge and for a tunnel.
fn built_twice(server: &FakeLlm) -> Space {
    let space = Space::with(server, CHAIN);
    space.write("plan.txt", "Build a bridge.\n");
    space.build();
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    space
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|row| row[key].as_str().unwrap_or_else(|| panic!("no {key}: {row}")).to_owned()).collect()
}

#[test]
fn history_as_data_and_versions_by_number() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    let kept = space.run(&["history", "a", "--json"]).exits(0).json();
    let entry = &kept["entries"][0];
    assert_eq!((&entry["version"], &entry["n"], &entry["task"]), (&json!("a@1"), &json!(1), &json!("a")));
    assert_eq!(entry["outputs"][0]["path"], "a.txt");
    assert!(entry["checkpoint_id"].is_string() && entry["model"].is_string(), "{entry:#}");

    let tunnel = space.read("a.txt");
    let foretold = space.run(&["restore", "a@1", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(
        (&foretold["done"], names(&foretold["restored"], "version")),
        (&json!(false), vec!["a@1".into()])
    );
    assert_eq!(space.read("a.txt"), tunnel, "a dry run changes nothing");
    let restored = space.run(&["restore", "a@1", "--json"]).exits(0).json();
    assert_eq!(restored["restored"][0]["files"], json!(["a.txt"]));
    assert_ne!(space.read("a.txt"), tunnel);
    assert!(space.in_history(&tunnel), "what was there is kept in its turn");
    space.run(&["restore", "a@9"]).exits(2).says(&["no version 9", "planexe history a"]);
    space.run(&["history", "nothing"]).exits(2).says(&["nothing"]);
}

#[test]
fn several_tasks_come_back_at_once_or_not_at_all() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    let now = space.visible();
    // One of the two contents is gone: neither is brought back.
    let kept = space.run(&["history", "b", "--json"]).exits(0).json();
    let digest = kept["entries"][0]["outputs"][0]["blake3"].as_str().expect("a digest").to_owned();
    let objects = space.path(".planexe/history/objects");
    std::fs::remove_file(objects.join(&digest[..2]).join(&digest[2..]))
        .or_else(|_| std::fs::remove_file(objects.join(&digest[..2]).join(&digest)))
        .expect("the object");
    let out = space.run(&["restore", "a", "b"]).exits(2).says(&["nothing was changed", "`b.txt`"]);
    space.visible().assert_same_as(&now, &out);
    space.run(&["restore", "a"]).exits(0).says(&["a.txt"]);
}

#[test]
fn half_of_a_kept_content_counts_as_none_and_is_written_again() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\ncommand = [\"cp\", \"$in\", \"$out\"]\n",
    );
    space.write("plan.txt", "Build a bridge.\n");
    space.build();
    let digest = blake3::hash(space.read("a.txt").as_bytes()).to_hex();
    let object = format!(".planexe/history/objects/{}/{}", &digest[..2], &digest[2..]);
    let whole = space.read(&object);
    assert_eq!(whole, space.read("a.txt"));
    for half in ["", &whole[..whole.len() / 2]] {
        space.write(&object, half);
        space.run(&["build", "-B"]).exits(0);
        assert_eq!(space.read(&object), whole);
    }
}

#[test]
fn checkpoints_are_named_by_their_beginning() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    let listed = space.run(&["checkpoints", "--json"]).exits(0).json();
    let ids = names(&listed["checkpoints"], "id");
    assert_eq!(ids.len(), 4);
    space.run(&["restore", "--checkpoint", "zzzz"]).exits(2).says(&["no checkpoint `zzzz`"]);
    let back = space.run(&["restore", "--checkpoint", &ids[1][..8], "--json"]).exits(0).json();
    assert_eq!((&back["checkpoint_id"], &back["checkpoints_dropped"]), (&json!(ids[1]), &json!(2)));
    space.run(&["restore", "--checkpoint", &ids[1]]).exits(0).says(&["as they were then"]);

    let fresh = Space::with(&server, CHAIN);
    fresh.write("plan.txt", "Build a bridge.\n");
    fresh.run(&["restore", "--checkpoint", "abc"]).exits(2).says(&["the run has none yet"]);
}

#[test]
fn a_version_brought_back_is_stale_until_it_is_accepted() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    space.run(&["restore", "b@1"]).exits(0).says(&["planexe touch b"]);
    let bridge = space.read("b.txt");
    space.run(&["touch", "b"]).exits(0);
    space.build();
    assert_eq!((space.read("b.txt"), server.requests()), (bridge, 4), "accepted, so not made again");
    space.assert_nothing_to_do(&server);
}

#[test]
fn touch_marks_what_can_be_marked_and_says_what_cannot() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    space.run(&["touch", "a"]).exits(0).says(&["up to date as it is"]);
    let marked = space.run(&["touch", "a", "b", "--json"]).exits(0).json();
    assert_eq!(marked["schema"], 1, "{marked:#}");
    space.run(&["touch", "all"]).exits(2).says(&["group", "nothing to mark"]);
    space.remove("a.txt");
    space.remove("b.txt");
    let out = space.run(&["touch", "a", "b"]);
    assert_ne!(out.code, 0);
    out.says(&["a.txt", "b.txt", "nothing was marked"]);
    space.build();
    assert_eq!(server.requests(), 4, "lost outputs come from kept answers");
}

#[test]
fn only_what_waits_can_be_passed() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.warned]
inputs = ["a.txt"]
outputs = ["warned.json"]
gate = { fail_if = "{{ true }}", action = "warn" }

[task.paused]
inputs = ["a.txt"]
outputs = ["paused.json"]
gate = { fail_if = "{{ true }}", action = "pause" }
"#,
    );
    space.write("plan.txt", "Build a bridge.\n");
    space.run(&["done", "a"]).exits(2).says(&["is a prompt task", "planexe build a"]);
    space.run(&["done", "warned"]).exits(2).says(&["only warns"]);
    space.run(&["done", "paused"]).exits(2).says(&["was not evaluated yet", "planexe build"]);
    space.run(&["build"]).exits(3);
    assert_eq!(space.state("paused"), "waiting");
    let passed = space.run(&["done", "paused", "--json"]).exits(0).json();
    assert_eq!(passed["passed"], json!(["paused"]), "{passed:#}");
    space.build();
    space.run(&["done", "paused"]).exits(0).says(&["done already"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn recording_says_what_it_left_out_and_writes_over_nothing_else() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" if request.prompt.contains("tunnel") => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = Space::with(&server, CHAIN);
    space.write("plan.txt", "Build a bridge.\n");
    space.run(&["record", "answers.json"]).exits(2).says(&["nothing to record", "planexe build"]);
    space.build();
    let made = space.run(&["record", "answers.json", "--json"]).exits(0).json();
    assert_eq!((&made["answers"], &made["changed"]), (&json!(2), &json!(true)), "{made:#}");
    let bytes = space.bytes("answers.json");
    space.run(&["record", "answers.json"]).exits(0).says(&["already"]);
    assert_eq!(space.bytes("answers.json"), bytes);

    // Edited by hand, stale, touched: said by name.
    space.edit("a.txt", "", "By hand. ");
    space.run(&["record", "second.json"]).exits(0).says(&["note: a "]);
    space.write("mine.json", "{\"not\": \"answers\"}\n");
    space.run(&["record", "mine.json"]).exits(2).says(&["not written over", "another file"]);
    assert_eq!(space.read("mine.json"), "{\"not\": \"answers\"}\n");
}

#[test]
fn man_pages_and_completions_are_written_for_every_command() {
    let space = Space::new();
    space.run(&["man", "man"]).exits(1).says(&["no such file or directory"]);
    std::fs::create_dir(space.path("man")).expect("a folder");
    space.run(&["man", "man"]).exits(0).says(&["man pages"]);
    let overview = space.read("man/planexe.1");
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/planexe.1")).expect("man");
    assert_eq!(overview, committed, "man/planexe.1 is out of date; type: .ci/generate");
    let commands: Vec<String> = overview
        .lines()
        .filter_map(|line| line.strip_suffix("(1)"))
        .map(|name| name.replace('\\', "").replace("planexe-", ""))
        .collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in &commands {
        let page = space.read(&format!("man/planexe-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{command}: {page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let completions = space.run(&["completions", shell]).exits(0).stdout;
        for command in commands.iter().filter(|it| *it != "help") {
            assert!(completions.contains(command.as_str()), "{shell} does not complete {command}");
        }
    }
}

#[test]
fn what_was_brought_back_before_a_moment_stays_when_the_run_goes_back_to_it() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    space.write("plan.txt", "Build a bridge.\n");
    space.run(&["restore", "a@1"]).exits(0);
    let bridge = space.read("a.txt");
    space.build();
    let report = space.run(&["status", "--json"]).exits(0).json();
    let moment = report["last_checkpoint_id"].as_str().expect("a checkpoint").to_owned();
    let made = space.read("b.txt");
    space.edit("pipeline.toml", "Go on from", "Continue from");
    space.build();
    assert_ne!(space.read("b.txt"), made);
    space.run(&["restore", "--checkpoint", &moment]).exits(0);
    assert_eq!((space.read("a.txt"), space.read("b.txt")), (bridge, made));
}
