//! What a run keeps and forgets: calls, checkpoints, what a person let pass; and that another run in a folder of it is
//! none of its business.

use std::time::{Duration, SystemTime};

use crate::support::{FakeLlm, Space, counts, space};

const TWO: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ a }}"
"#;

fn calls(space: &Space) -> Vec<String> {
    space.files(".planexe/calls").into_iter().filter(|file| file.ends_with(".json")).collect()
}

#[test]
fn room_is_made_of_what_nothing_rests_on() {
    let server = FakeLlm::new();
    let space = space(&server, TWO);
    for plan in ["Build a bridge.\n", "Build a tunnel.\n", "Build a ferry.\n"] {
        space.write("plan.txt", plan);
        space.build();
    }
    assert_eq!(calls(&space).len(), 6);
    let long_ago = SystemTime::now() - Duration::from_secs(90 * 86_400);
    space.write(".planexe/partial/x", "left over");
    for file in space
        .files(".planexe")
        .into_iter()
        .filter(|file| file.contains("calls/") || file.contains("partial/"))
    {
        space.set_mtime(&file, long_ago);
    }
    // Nothing is said of what may go: nothing does.
    space.run(&["gc"]).exits(0);
    assert_eq!(calls(&space).len(), 6);
    let before = space.everything();
    let out = space.run(&["gc", "--older-than", "30d", "-n", "--json"]).exits(0);
    space.everything().assert_same_as(&before, &out);
    assert_eq!((&out.json()["calls"], &out.json()["files"]), (&4.into(), &1.into()), "{out}");
    space.run(&["gc", "--older-than", "30d"]).exits(0).says(&["4 calls"]);
    assert_eq!((calls(&space).len(), space.exists(".planexe/partial/x")), (2, false));
    // What is in use is still there, for show and for a lost output.
    assert!(space.run(&["show", "b", "--answer"]).exits(0).stdout.starts_with("Answer "));
    space.remove("b.txt");
    space.build();
    assert_eq!(server.counts(), counts([("a", 3), ("b", 3)]));
    // Former outputs are young, so are checkpoints.
    space.run(&["restore", "a@1"]).exits(0);
    space.build();
    space.run(&["gc", "--max-size", "0"]).exits(0);
    space.assert_nothing_to_do(&server);
}

#[test]
fn old_checkpoints_go_but_for_the_last_of_each_task() {
    let server = FakeLlm::new();
    let space = space(&server, TWO);
    for plan in ["Build a bridge.\n", "Build a tunnel.\n"] {
        space.write("plan.txt", plan);
        space.build();
    }
    let old = |space: &Space| {
        let lines = space.lines(".planexe/checkpoints.jsonl");
        let tasks = lines.iter().map(|line| line["task"].as_str().expect("a task").to_owned());
        tasks.collect::<Vec<_>>()
    };
    assert_eq!(old(&space), ["a", "b", "a", "b"]);
    let out = space.run(&["gc", "--older-than", "0s", "--json"]).exits(0).json();
    assert_eq!(out["checkpoints"], 2, "{out:#}");
    assert_eq!(old(&space), ["a", "b"]);
    space.assert_nothing_to_do(&server);
    let id = space.lines(".planexe/checkpoints.jsonl")[0]["id"].as_str().expect("an id").to_owned();
    space.run(&["restore", "--checkpoint", &id]).exits(0);
    space.build();
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_a_task_that_is_not_done_goes_on_with_stays() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => "[1".into(),
        1 => crate::support::Answer::Hang,
        _ => "[1]".into(),
    });
    let space = space(
        &server,
        "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\n{{ plan }}\"\nschema = \"list.json\"\n",
    );
    space.write("list.json", r#"{"type": "array"}"#);
    let build = space.spawn(&["build"]);
    server.wait_for_calls("a", 2);
    build.kill9();
    space.run(&["gc", "--older-than", "0s", "--max-size", "0"]).exits(0);
    space.build();
    // The model was told what was wrong with its first answer, as if nothing had happened.
    assert_eq!(server.last("a").messages.len(), 3, "{:?}", server.last("a").messages);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_kept_answer_is_named_by_the_record_it_was_used_for() {
    let server = FakeLlm::new();
    let space = space(&server, TWO);
    space.build();
    let first = space.json("a.txt.DONE")["call"].clone();
    assert!(first.is_string());
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    space.write("plan.txt", "Build a bridge.\n");
    space.build();
    assert_eq!(server.count("a"), 2);
    assert_eq!(space.json("a.txt.DONE")["call"], first);
    space.run(&["show", "a"]).exits(0).says(&["in use"]);
}

const GATE: &str = r#"
[task.check]
inputs = { plan = "plan.txt" }
outputs = ["check.json"]
gate = { fail_if = "{{ 'bridge' in plan }}", action = "pause", message = "Is {{ plan | trim }} wise?" }

[task.after]
inputs = ["check.json", "plan.txt"]
outputs = ["after.txt"]
template = "{{ plan }}"
"#;

#[test]
fn what_a_person_let_pass_counts_for_what_they_were_shown() {
    let space = Space::new();
    space.write("pipeline.toml", GATE);
    space.write("plan.txt", "a bridge\n");
    space.run(&["build"]).exits(3).says(&["Is a bridge wise?"]);
    space.run(&["done", "check"]).exits(0);
    // Something else is asked now.
    space.write("plan.txt", "a bridge of glass\n");
    space.run(&["build"]).exits(3).says(&["changed since", "Is a bridge of glass wise?"]);
    assert!(!space.exists("after.txt"));
    space.run(&["done", "check"]).exits(0);
    space.run(&["build"]).exits(0);
    assert_eq!(space.read("after.txt"), "a bridge of glass\n");
    space.run(&["build", "-q"]).exits(0);
}

#[test]
fn a_run_that_was_given_up_is_complete_once_a_build_finds_it_so() {
    let server = FakeLlm::new();
    let space = space(&server, TWO);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    space.run(&["abort"]).exits(0);
    crate::support::until("the build to say so", || build.stderr().contains("aborted").then_some(()));
    server.release("b");
    build.wait().exits(3);
    // What ran was finished, and nothing was left.
    assert_eq!(space.report()["run"]["phase"], "aborted");
    space.build();
    assert_eq!(space.report()["run"]["phase"], "completed");
    space.run(&["resume"]).exits(2).says(&["complete"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_a_build_with_nothing_to_do_leaves_when_it_is_killed_goes() {
    let server = FakeLlm::new();
    let space = space(&server, TWO);
    space.build();
    // As its caches are written: under a temporary name in `.planexe/`, of a process that is gone.
    let half = ".planexe/.planexe-tmp-999999999-0badcafe-1-index";
    space.write(half, "half");
    space.remove(".planexe/index");
    space.build();
    assert!(!space.exists(half));
    space.assert_nothing_to_do(&server);
}

#[test]
fn another_run_in_a_folder_is_let_be() {
    let server = FakeLlm::new();
    let all = "\n[task.all]\ninputs = { texts = \"**/*.txt\" }\noutputs = [\"all.md\"]\ntemplate = \"{% for t in texts %}{{ t.path }} {% endfor %}\"\n";
    let space = space(&server, all);
    let pipeline = space.read("pipeline.toml").replace(all, TWO);
    space.write("notes/x.txt", "x");
    space.write("runs/one/pipeline.toml", &pipeline);
    space.write("runs/one/plan.txt", "Build a bridge.\n");
    space.run(&["-C", "runs/one", "build"]).exits(0);
    space.build();
    assert_eq!(space.read("all.md").trim(), "notes/x.txt plan.txt");
    let status = space.run(&["status"]).exits(0);
    assert!(!status.stdout.contains("Orphans"), "{status}");
    space.run(&["clean", "--orphans", "-y"]).exits(0);
    assert!(space.exists("runs/one/a.txt") && space.exists("runs/one/a.txt.DONE"));
    space.assert_nothing_to_do(&server);
    // One that names the folders on the way means just that.
    space.edit("pipeline.toml", "**/*.txt", "runs/*/b.txt");
    space.build();
    assert_eq!(space.read("all.md").trim(), "runs/one/b.txt");
    space.assert_nothing_to_do(&server);
}

/// What a line that cannot be read names is not known: to sweep what no other line names would destroy it.
#[test]
fn nothing_is_forgotten_by_a_damaged_history() {
    let server = FakeLlm::new();
    let space = space(&server, TWO);
    for plan in ["Build a bridge.\n", "Build a tunnel.\n", "Build a canal.\n"] {
        space.write("plan.txt", plan);
        space.build();
    }
    let log = space.read(".planexe/history/log.jsonl");
    space.write(".planexe/history/log.jsonl", log.replacen("{", "\0", 1));
    let objects = || {
        let files = space.files(".planexe");
        files.into_iter().filter(|file| file.contains("history/")).collect::<Vec<_>>()
    };
    let before = objects();
    for args in [&["gc"][..], &["gc", "-n"], &["gc", "--max-size", "0"]] {
        space.run(args).exits(1).says(&[".planexe/history/log.jsonl", "line 1 is damaged"]);
    }
    assert_eq!(objects(), before);
    space.write(".planexe/history/log.jsonl", log + "{\"torn");
    space.run(&["gc", "--max-size", "0"]).exits(0);
    assert!(objects().len() < before.len());
    space.assert_nothing_to_do(&server);
}
