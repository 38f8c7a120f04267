//! What is asked of a person at a terminal, and what becomes of the answers.

use rustix::process::Signal;

use super::edit_plan::{NEW, OLD, built};
use crate::support::terminal::Terminal;
use crate::support::{FakeLlm, Space};

fn on_terminal(space: &Space, args: &[&str]) -> Terminal {
    space.set_env("TERM", "xterm");
    Terminal::start(space.command(args))
}

#[test]
fn clean_asks_and_takes_no_for_an_answer() {
    let server = FakeLlm::new();
    let space = built(&server);
    let before = space.tree();
    for answer in ["n\n", "\n", "perhaps\n"] {
        let mut clean = on_terminal(&space, &["clean", "--all"]);
        clean.shows("[y/N]", 1);
        clean.types(answer);
        let (code, shown) = clean.ends();
        assert_eq!(code, Some(3), "{shown}");
        assert!(shown.contains("nothing was cleaned") && shown.contains("a.txt"), "{shown}");
    }
    assert_eq!(space.tree(), before);
    space.assert_nothing_to_do(&server);
    let mut clean = on_terminal(&space, &["clean", "--all"]);
    clean.shows("[y/N]", 1);
    clean.types("y\n");
    let (code, shown) = clean.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!space.exists("a.txt") && space.exists("plan.txt"), "{shown}");
}

/// Opens the plan in an editor that changes it, answers, and tells how it ended.
fn edited(space: &Space, answers: &[&str]) -> (Option<i32>, String) {
    space.write("ed.sh", "sed -i s/river/sea/ \"$1\"\n");
    space.set_env("EDITOR", "sh ed.sh");
    let mut edit = on_terminal(space, &["edit-plan"]);
    for (n, answer) in answers.iter().enumerate() {
        edit.shows("(q)uit changes nothing: ", n + 1);
        edit.types(answer);
    }
    edit.ends()
}

#[test]
fn an_edit_of_the_plan_asks_what_is_made_again() {
    // What is typed at each question; how it ends; whether the plan changes; the tasks made again.
    let cases: &[(&[&str], i32, bool, &[&str])] = &[
        (&["q\n"], 3, false, &[]),
        (&["\n", "none\n"], 0, true, &[]),
        (&["a\n"], 0, true, &["a", "b", "c", "d"]),
        (&["no_such_task\n", "b\n"], 0, true, &["b"]),
        (&["f b\n"], 0, true, &["b"]),
    ];
    for (answers, code, changed, again) in cases {
        let server = FakeLlm::new();
        let space = built(&server);
        let calls = server.total();
        let (ended, shown) = edited(&space, answers);
        assert_eq!(ended, Some(*code), "{answers:?}: {shown}");
        assert_eq!(space.read("plan.txt"), if *changed { NEW } else { OLD }, "{answers:?}: {shown}");
        assert_eq!(shown.contains("nothing was changed"), !changed, "{answers:?}: {shown}");
        assert_eq!(shown.contains("no_such_task"), answers[0].starts_with("no_such"), "{shown}");
        space.build();
        assert_eq!(server.order()[calls..].len(), again.len(), "{answers:?}: {:?}", server.order());
        for task in *again {
            assert_eq!(server.count(task), 2, "{answers:?}: {task}");
        }
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn a_signal_at_the_question_changes_nothing() {
    let cases: [(&[&str], Signal, i32, &[&str]); 3] = [
        (&["edit-plan"], Signal::INT, 130, &[]),
        // Whose terminal is closed did not say that the text is not wanted.
        (&["edit-plan"], Signal::HUP, 129, &[".planexe/edit/plan.txt"]),
        (&["edit-plan", "--set", "new.txt"], Signal::INT, 130, &[]),
    ];
    for (args, signal, wanted, left) in cases {
        let server = FakeLlm::new();
        let space = built(&server);
        space.write("ed.sh", "sed -i s/river/sea/ \"$1\"\n");
        space.set_env("EDITOR", "sh ed.sh");
        let edit = on_terminal(&space, args);
        edit.shows("Make again", 1);
        edit.signal(signal);
        let (code, shown) = edit.ends();
        assert_eq!(code, Some(wanted), "{args:?}: {shown}");
        assert_eq!(space.read("plan.txt"), OLD);
        assert_eq!(space.files(".planexe/edit"), left, "{args:?}");
        assert!(!space.exists(".planexe/owner.json"), "{args:?}");
        let calls = server.total();
        space.build();
        assert_eq!(server.total(), calls);
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn an_answer_that_cannot_be_carried_out_is_asked_for_again() {
    let server = FakeLlm::new();
    let space = built(&server);
    let tasks = space.read("pipeline.toml");
    let new =
        "[task.e]\nwhen = \"{{ 'sea' in plan }}\"\ninputs = { plan = \"plan.txt\" }\noutputs = [\"e.txt\"]";
    space.write("pipeline.toml", format!("{tasks}\n{new}\ncommand = \"cp $in $out\"\n"));
    space.build();
    let (code, shown) = edited(&space, &["n\n", "e\n"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("`e`: output `e.txt` is missing"), "{shown}");
    assert_eq!(space.read("plan.txt"), NEW);
    let calls = server.total();
    space.build();
    assert!(space.exists("e.txt"));
    assert_eq!(server.total(), calls);
}

#[test]
fn status_is_drawn_anew_until_the_build_ends() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["clean", "--all", "-y"]).exits(0);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    let status = on_terminal(&space, &["status", "--watch"]);
    // From the first column of the first row, and what was below is gone.
    status.shows("\u{1b}[H", 1);
    status.shows("\u{1b}[J", 1);
    status.shows("running", 1);
    server.release_all();
    build.wait().exits(0);
    let (code, shown) = status.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("no build is running"), "{shown}");
}

#[test]
fn a_plan_is_typed_in() {
    let space = Space::new();
    let mut new = on_terminal(&space, &["new", "typed", "--prompt", "-"]);
    new.shows("Ctrl-D", 1);
    new.types("A mill by the river.\n\u{4}");
    let (code, shown) = new.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(space.read("typed/plan.txt"), "A mill by the river.\n");
}

#[test]
fn a_build_is_drawn_live_and_leaves_its_lines() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["clean", "--all", "-y"]).exits(0);
    server.hold("a");
    let build = on_terminal(&space, &["build"]);
    server.wait_for_call("a");
    build.shows("waiting for the first token", 1);
    server.release_all();
    let (code, shown) = build.ends();
    assert_eq!(code, Some(0), "{shown}");
    for task in ["a", "b", "c", "d", "title"] {
        assert!(shown.contains(task), "{task}: {shown}");
    }
    space.assert_nothing_to_do(&server);
}
