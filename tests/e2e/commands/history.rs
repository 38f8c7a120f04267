//! `clean`, `touch`, `history`, `restore`: what is made anew, and what comes back.

use serde_json::json;

use super::{FIVE, built, text};
use crate::support::{FakeLlm, Space, counts, space};

#[test]
fn clean_refuses_without_a_terminal_and_lists_with_dry_run() {
    let server = FakeLlm::new();
    let space = built(&server);
    for command in ["clean", "invalidate"] {
        let before = space.visible();
        let out = space.run(&[command, "b"]).exits(2).says(&["-y"]);
        space.visible().assert_same_as(&before, &out);
        let out = space
            .run(&[command, "b", "--dry-run"])
            .exits(0)
            .says(&["b.txt"])
            .says_nothing_of(&["a.txt", "c.txt"]);
        space.visible().assert_same_as(&before, &out);
        for all in ["--downstream", "--cascade"] {
            let out = space.run(&[command, "b", all, "--dry-run"]).exits(0);
            let out = out.says(&["b.txt", "c.txt"]).says_nothing_of(&["a.txt"]);
            space.visible().assert_same_as(&before, &out);
        }
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn invalidating_one_task_or_all_downstream() {
    let server = FakeLlm::new();
    let space = built(&server);
    let run = space.dir().to_str().expect("a path").to_owned();
    space.run(&["invalidate", "BTask", "--run-dir", &run, "-y"]).exits(0).says(&["b.txt"]);
    assert!(space.exists("a.txt") && !space.exists("b.txt") && space.exists("c.txt"));
    // The same prompts give the same answers: c is not asked again.
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1)]));
    let tree = space.tree();
    space.run(&["clean", "b", "--downstream", "-y"]).exits(0).says(&[
        "b.txt",
        "c.txt",
        "`planexe restore b c` brings them back",
    ]);
    assert!(space.exists("a.txt") && !space.exists("b.txt") && !space.exists("c.txt"));
    space.build();
    assert_eq!((server.counts(), space.tree()), (counts([("a", 1), ("b", 3), ("c", 2)]), tree));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_file_that_is_no_output_survives_every_clean() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("mine.txt", "mine");
    space.write("b.txt.notes", "mine as well");
    space.run(&["clean", "a", "--downstream", "-y"]).exits(0);
    space.run(&["clean", "--orphans", "-y"]).exits(0);
    assert_eq!(
        (space.read("mine.txt"), space.read("b.txt.notes")),
        ("mine".to_owned(), "mine as well".to_owned())
    );
    assert!(space.exists("plan.txt") && space.exists("pipeline.toml"));
}

#[test]
fn touch_accepts_what_is_there() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.run(&["build", "-q"]).exits(1);
    space.run(&["touch", "a"]).exits(0);
    assert_eq!(space.done("a.txt")["by"], "touch");
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
    // What is not there cannot be accepted.
    space.remove("b.txt");
    assert_ne!(space.run(&["touch", "b"]).says(&["b.txt"]).code, 0);
}

#[test]
fn what_was_replaced_can_be_found_and_brought_back() {
    let server = FakeLlm::new();
    let space = built(&server);
    let first = space.tree();
    let checkpoint = text(&space.report()["last_checkpoint_id"]);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    let second = space.tree();
    assert_ne!(first["c.txt"], second["c.txt"]);
    space.run(&["history", "c"]).exits(0).says(&["c.txt"]);

    space.run(&["restore", "--checkpoint", &checkpoint]).exits(0);
    for output in ["a.txt", "b.txt", "c.txt"] {
        assert_eq!(space.tree()[output], first[output], "{output}");
    }
    // The outputs are those of the former plan: a build with the present plan uses what is kept.
    space.build();
    assert_eq!((server.total(), space.tree()), (6, second));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_clean_took_comes_back() {
    let server = FakeLlm::new();
    let space = built(&server);
    let tree = space.tree();
    space.run(&["clean", "b", "--downstream", "-y"]).exits(0);
    assert_ne!(space.tree(), tree);
    space.run(&["restore", "b"]).exits(0).says(&["b.txt"]);
    space.run(&["restore", "c"]).exits(0).says(&["c.txt"]);
    assert_eq!(space.tree(), tree);
}

#[test]
fn a_checkpoint_in_the_middle_drops_what_came_later() {
    let server = FakeLlm::new();
    let space = built(&server);
    let checkpoint = text(&space.done("a.txt")["checkpoint_id"]);
    space.run(&["restore", "--checkpoint", &checkpoint]).exits(0);
    let report = space.report();
    assert_eq!(report["last_checkpoint_id"], checkpoint.as_str(), "{report:#}");
    assert_eq!((&report["last_completed_task"], &report["last_completed_step"]), (&json!("a"), &json!(0)));
    assert!(space.is_done("a.txt") && !space.is_done("b.txt") && !space.is_done("c.txt"));
    space.build();
    space.assert_nothing_to_do(&server);
}

/// Former outputs and what else is kept by content, gone.
fn lose_contents(space: &Space) {
    std::fs::remove_dir_all(space.path(".planexe/history/objects")).expect("what is kept by content");
}

#[test]
fn what_is_not_all_kept_is_not_restored_in_part() {
    let server = FakeLlm::new();
    let space = built(&server);
    let checkpoint = text(&space.report()["last_checkpoint_id"]);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    lose_contents(&space);
    for arguments in [&["restore", "--checkpoint", &checkpoint][..], &["restore", "a"]] {
        let before = space.tree();
        let out =
            space.run(arguments).exits(2).says(&["nothing was changed", "the content of `a.txt`", "is gone"]);
        assert_eq!(space.tree(), before, "{out}");
        let refused = space.run(&[arguments, &["--json"]].concat()).exits(2).json();
        assert_eq!(refused["error"]["code"], "not_kept", "{refused:#}");
    }
    space.run(&["diff", "a"]).exits(0).says(&["its content is not kept any more"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_checkpoint_is_named_by_as_much_as_tells_it_apart() {
    let space = Space::new();
    // More than there are hex digits: two ids begin alike.
    let task = |n| format!("[task.t{n}]\noutputs = [\"{n}.txt\"]\ntemplate = \"{n} it is\"\n");
    space.write("pipeline.toml", (0..17).map(task).collect::<String>());
    space.build();
    let ids: Vec<String> = (0..17).map(|n| text(&space.done(&format!("{n}.txt"))["checkpoint_id"])).collect();
    let alike = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let first = ids.iter().find(alike).expect("two that begin alike");
    let before = space.tree();
    space.run(&["restore", "--checkpoint", &first[..1]]).exits(2).says(&["more than one checkpoint", first]);
    space
        .run(&["restore", "--checkpoint", "nosuch"])
        .exits(2)
        .says(&["no checkpoint `nosuch`", "the last one is"]);
    assert_eq!(space.tree(), before);
    let last = text(&space.report()["last_checkpoint_id"]);
    space.run(&["restore", "--checkpoint", &last]).exits(0).says(&["all outputs are as they were then"]);
}

#[test]
fn why_each_version_went_is_told() {
    let server = FakeLlm::new();
    let space = built(&server);
    // By hand, then made again for another reason.
    space.write("b.txt", "by hand");
    space.edit("pipeline.toml", "TASK=b", "TASK=b again");
    space.build().says(&["b.txt"]);
    space.run(&["history", "b"]).exits(0).says(&["edited by hand, before it was made again"]);
    // Damaged, then brought back over something else.
    space.write("c.txt", "");
    space.build();
    space.run(&["restore", "b@1"]).exits(0);
    space.run(&["history", "b"]).exits(0).says(&["before `restore`"]);
    space.write("a.txt", "other");
    space.run(&["restore", "a"]).exits(0).says(&["before it was edited by hand"]);
    // Of a task that is gone nothing is made or read, and its contents come back all the same.
    space.edit("pipeline.toml", "[task.c]", "[task.d]");
    space.edit("pipeline.toml", "c.txt", "d.txt");
    space.run(&["clean", "--orphans", "-y"]).exits(0).says(&["c.txt"]);
    space.run(&["history", "c.txt"]).exits(0).says(&["its task or item was gone"]);
    space.run(&["restore", "c"]).exits(0).says(&["note: c is not in the pipeline"]);
    assert!(space.exists("c.txt"));
}

#[test]
fn what_is_restored_and_stale_is_said_with_what_keeps_it() {
    let server = FakeLlm::new();
    let space = space(&server, FIVE);
    space.build();
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    space
        .run(&["restore", "good", "bad"])
        .exits(0)
        .says(&["the next build makes good and 1 other again", "`planexe touch good bad` keeps them"]);
    space.run(&["touch", "good", "bad"]).exits(0);
    let total = server.total();
    space.run(&["build", "--only", "good", "bad"]).exits(0);
    assert_eq!(server.total(), total);
}

#[test]
fn two_versions_of_one_task_are_not_restored_at_once() {
    let server = FakeLlm::new();
    let space = built(&server);
    for text in ["one", "two"] {
        space.write("b.txt", text);
        space.run(&["clean", "b", "-y"]).exits(0);
        space.build();
    }
    let before = space.visible();
    let out =
        space.run(&["restore", "b@1", "b@2"]).exits(2).says(&["`b@1` and `b@2` are two versions of `b`"]);
    space.visible().assert_same_as(&before, &out);
    space.run(&["restore", "b@2", "b.txt@2"]).exits(0).says(&["restored b.txt"]);
}
