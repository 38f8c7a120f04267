//! Lanes: tasks that share a branch, and are merged together.

use super::{assert_idle, assert_nothing_left, commit, git, go, half_done, ran, repository};
use crate::support::Space;

/// Three tasks of a lane, each of which adds its name to a file, and the last of which fails until `go` is there. `two`:
/// what the second reads.
fn three(files: [&str; 3], two: &str) -> Space {
    let space = repository("isolate = true");
    let task = |name: &str, reads: &str, file: &str, first: &str| {
        format!(
            r#"
[task.{name}]
isolate = {{ lane = "ui" }}
inputs  = ["{reads}"]
outputs = ["{name}.txt"]
command = "{first} echo {name} >> $RAN; echo {name} >> src/{file}; cat src/{file} > $out"
"#
        )
    };
    let tasks = [
        task("one", "plan.txt", files[0], ""),
        task("two", two, files[1], ""),
        task("three", "two.txt", files[2], "[ -e ../../../go ] || exit 1;"),
    ];
    space.write("pipeline.toml", tasks.concat());
    space.write(".gitignore", ".planexe/\n*.status\n*.DONE\n*.jsonl\nactivity_overview.json\ngo\n");
    commit(&space, "a lane");
    space.run(&["build"]).exits(1).says(&["lane `ui` is mixed"]);
    assert_eq!(
        (ran(&space), space.state("one"), space.state("two")),
        (2, "merging".into(), "merging".into())
    );
    space.write("go", "");
    space
}

/// The lane is merged, and the base has what it is to have.
#[track_caller]
fn assert_merged(space: &Space, runs: usize, files: &[(&str, &str)]) {
    assert_eq!(ran(space), runs);
    for (file, text) in files {
        assert_eq!(space.read(&format!("src/{file}")), *text, "{file}");
    }
    assert_eq!(git(space, &["branch", "--list", "planexe/run*"]), "");
    assert_eq!(git(space, &["worktree", "list"]).lines().count(), 1);
    assert_idle(space);
}

#[test]
fn the_last_one_begins_without_its_former_commits() {
    for again in ["retry", "clean -y"] {
        let space = three(["a.txt"; 3], "one.txt");
        space.run(&again_of(again, "two")).exits(0);
        space.build();
        assert_merged(&space, 4, &[("a.txt", "a\none\ntwo\nthree\n")]);
        assert_eq!(space.read("two.txt"), "a\none\ntwo\n");
    }
}

#[test]
fn readers_are_made_again_with_it() {
    for again in ["retry", "clean -y"] {
        let space = three(["a.txt"; 3], "one.txt");
        space.run(&again_of(again, "one")).exits(0);
        space.build();
        assert_merged(&space, 5, &[("a.txt", "a\none\ntwo\nthree\n")]);
        assert_eq!(
            (space.read("one.txt"), space.read("two.txt")),
            ("a\none\n".into(), "a\none\ntwo\n".into())
        );
    }
}

/// Of two that do not read each other the second is first, since the third waits for it.
#[test]
fn what_others_committed_after_it_stays() {
    let space = three(["b.txt", "a.txt", "a.txt"], "plan.txt");
    space.run(&["retry", "two"]).exits(0);
    space.build();
    assert_merged(&space, 4, &[("b.txt", "b\none\n"), ("a.txt", "a\ntwo\nthree\n")]);
    assert_eq!(space.read("two.txt"), "a\ntwo\n");
}

#[test]
fn lines_that_another_changed_after_it_are_not_guessed_at() {
    let space = three(["a.txt"; 3], "plan.txt");
    space.run(&["retry", "two"]).exits(0);
    let out = space.run(&["build"]).exits(1);
    out.says(&["`two` had committed", "cannot be undone", "`one` changed the same lines", "src/a.txt"])
        .says(&["planexe retry one"]);
    assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "a lane");
    space.run(&["retry", "one"]).exits(0);
    space.build();
    assert_eq!((ran(&space), space.read("src/a.txt").lines().count()), (5, 4));
    assert_idle(&space);
}

#[test]
fn what_was_cleaned_is_not_merged_with_the_others() {
    let space = three(["b.txt", "a.txt", "a.txt"], "plan.txt");
    space.run(&["clean", "-y", "two"]).exits(0);
    let out = space.run(&["build", "one"]).exits(3);
    out.says(&["its lane holds commits of `two`, which is to be made again", "`planexe build` makes it"]);
    assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "a lane");
    space.build();
    assert_eq!(
        (space.read("src/a.txt"), space.read("src/b.txt")),
        ("a\ntwo\nthree\n".into(), "b\none\n".into())
    );
    assert_nothing_left_but_saved(&space);
    assert_idle(&space);
}

fn again_of<'a>(again: &'a str, task: &'a str) -> Vec<&'a str> {
    again.split(' ').chain([task]).collect()
}

#[track_caller]
fn assert_nothing_left_but_saved(space: &Space) {
    for branch in git(space, &["branch", "--list", "--format=%(refname:short)", "planexe/saved/*"]).lines() {
        git(space, &["branch", "-q", "-D", branch]);
    }
    assert_nothing_left(space);
}

/// Three tasks, of which two share a lane, the second reading what the first makes; and a reader of both.
fn lane(one: &str, two: &str) -> Space {
    let space = repository("isolate = true");
    let task = |name: &str, reads: &str, does: &str| {
        format!(
            r#"
[task.{name}]
isolate = {{ lane = "ui" }}
inputs  = ["{reads}"]
outputs = ["{name}.txt"]
command = "echo {name} >> $RAN; echo {name} >> src/a.txt; {does} cat $in > $out; echo {name} >> $out"
"#
        )
    };
    let tasks = [task("one", "plan.txt", one), task("two", "one.txt", two)].concat();
    space.write(
        "pipeline.toml",
        tasks
            + r#"
[task.both]
inputs  = ["one.txt", "two.txt"]
outputs = ["both.txt"]
command = "cat $in src/a.txt > $out"
"#,
    );
    space.edit(".gitignore", "facts.txt", "both.txt");
    commit(&space, "a lane");
    space
}

#[test]
fn a_lane_is_merged_together() {
    let space = lane("", "");
    space.build();
    assert_eq!(space.read("both.txt"), "a plan\none\na plan\none\ntwo\na\none\ntwo\n");
    assert_eq!(
        git(&space, &["log", "--first-parent", "--format=%s"]),
        "planexe: merge ui into main\na lane\nfirst"
    );
    let merge = git(&space, &["log", "-1", "--format=%B"]);
    assert!(merge.contains("Planexe-Task: one\n") && merge.contains("Planexe-Task: two\n"), "{merge}");
    let head = git(&space, &["rev-parse", "HEAD"]);
    let refs: Vec<_> = space
        .lines(".planexe/checkpoints.jsonl")
        .into_iter()
        .take(2)
        .map(|it| it["sandbox_ref"].clone())
        .collect();
    assert_eq!(refs, [head.as_str(), head.as_str()]);
    assert_nothing_left(&space);
    assert_idle(&space);
    // One of them alone.
    space.edit("pipeline.toml", "echo two >> $out", "echo again >> $out");
    commit(&space, "another second");
    space.build();
    assert_eq!((ran(&space), space.read("two.txt")), (3, "a plan\none\nagain\n".to_owned()));
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn a_lane_that_is_mixed_is_not_merged() {
    let space = lane("", "[ -e ../../../go ] || exit 1;");
    let out = space.run(&["build"]).exits(1);
    out.says(&["lane `ui` is mixed", "`one` succeeded, `two` failed", "planexe build"]);
    assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "a lane");
    assert_eq!(
        (space.read("src/a.txt"), space.exists("one.txt"), space.exists("both.txt")),
        ("a\n".into(), false, false)
    );
    assert_eq!((space.state("one"), space.state("two")), ("merging".into(), "failed".into()));
    assert_eq!(space.sidecar("one.txt")["failure"]["class"], "lane_mixed");
    // Only what failed is tried again, on top of what succeeded.
    space.run(&["build"]).exits(1).says(&["is mixed"]);
    assert_eq!(ran(&space), 3);
    space.write("go", "");
    space.build();
    assert_eq!((ran(&space), space.read("src/a.txt")), (4, "a\none\ntwo\n".to_owned()));
    assert_eq!(git(&space, &["branch", "--list", "planexe/saved/*"]).lines().count(), 2);
    assert_eq!(git(&space, &["worktree", "list"]).lines().count(), 1);
    assert_idle(&space);
}

#[test]
fn a_lane_killed_in_the_middle_goes_on() {
    let space = lane("", "touch $RAN.half; while [ ! -e $RAN.go ]; do sleep 0.05; done;");
    half_done(&space).kill9();
    assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "a lane");
    go(&space);
    space.build();
    // The second was interrupted, and goes on where it was.
    assert_eq!((ran(&space), space.read("src/a.txt")), (3, "a\none\ntwo\ntwo\n".to_owned()));
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn a_lane_has_one_base_and_a_name_of_its_own() {
    let space = lane("", "");
    let whole = space.read("pipeline.toml");
    let lanes = |one: &str, two: &str| {
        let keys = r#"isolate = { lane = "ui" }"#;
        let text = whole.replacen(keys, one, 1).replacen(keys, two, 1);
        space.write("pipeline.toml", text);
        space.run(&["check"])
    };
    let bases =
        lanes(r#"isolate = { lane = "ui", base = "main" }"#, r#"isolate = { lane = "ui", base = "next" }"#);
    bases.exits(2).says(&["tasks of lane `ui` have different bases", "`[isolation]`"]);
    let names = lanes(r#"isolate = { lane = "two" }"#, "isolate = true");
    names.exits(2).says(&["the lane of task `two`, its own, has the name of a shared one", "another name"]);
}

#[test]
fn a_lane_that_waits_for_itself_is_a_fault() {
    let space = lane("", "");
    space.edit(
        "pipeline.toml",
        r#"inputs  = ["one.txt"]
outputs = ["two.txt"]"#,
        r#"inputs  = ["one.txt", "between.txt"]
outputs = ["two.txt"]"#,
    );
    let more =
        "[task.between]\ninputs = [\"one.txt\"]\noutputs = [\"between.txt\"]\ncommand = \"cat $in > $out\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + more);
    space.run(&["build"]).exits(2).says(&["lane `ui` waits for itself", "pipeline.toml:"]);
    let space = repository("isolate = { lane = \"a..b\", base = \"no such\" }\nin_place = true");
    space.run(&["check"]).exits(2).says(&[
        "`a..b` can be no `lane`",
        "`no such` can be no `base`",
        "both `isolate` and `in_place`",
    ]);
}

#[test]
fn lanes_are_told_wherever_tasks_are() {
    let space = lane("", "[ -e ../../../go ] || exit 1;");
    space
        .run(&["build", "-n"])
        .exits(0)
        .says(&["lanes", "ui: one, two; one at a time, merged together into"]);
    let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
    let lane = serde_json::json!([{ "lane": "ui", "base": null, "shared": true, "tasks": ["one", "two"] }]);
    assert_eq!((plan["lanes"].clone(), plan["levels"][1][0]["lane"].clone()), (lane, "ui".into()));
    space.run(&["doctor", "--offline"]).exits(0).says(&["isolated", "git 2."]);
    space.run(&["build"]).exits(1);
    space.run(&["status"]).exits(0).says(&["merging", "lane_mixed", "failed"]);
    let one = space.status("one");
    let isolation = &one["isolation"];
    assert_eq!((isolation["lane"].clone(), isolation["base"].clone()), ("ui".into(), "main".into()));
    assert_eq!(isolation["worktree"], ".planexe/worktrees/ui");
    let branch = isolation["branch"].as_str().expect("a branch").to_owned();
    assert_eq!(isolation["commit"], git(&space, &["rev-parse", &branch]));
    space.run(&["explain", "one"]).exits(0).says(&[
        "to be merged",
        "in .planexe/worktrees/ui",
        "merge `planexe/run-",
    ]);
    space.run(&["show", "two"]).exits(0).says(&["lane `ui`"]);
    space.run(&["doctor", "--offline"]).exits(0).says(&["at work: ui"]);
    // It is not a person's to pass, and to accept it once more changes nothing.
    space.run(&["done", "one"]).exits(2);
    space.run(&["touch", "one"]).exits(0).says(&["accepted already", "planexe build"]);
    assert_eq!(space.status("one")["state"], "merging");
    // What succeeded may be merged alone; what the other had begun stays where it is.
    space.run(&["build", "one"]).exits(0);
    assert_eq!(
        (space.read("src/a.txt"), space.state("one"), space.state("two")),
        ("a\none\n".into(), "done".into(), "failed".into())
    );
    assert!(space.exists(".planexe/worktrees/ui/src"));
    space.write("go", "");
    space.build();
    assert_eq!((ran(&space), space.read("src/a.txt")), (3, "a\none\ntwo\n".to_owned()));
    assert_eq!(git(&space, &["worktree", "list"]).lines().count(), 1);
    assert_idle(&space);
    // What somebody else left there is named.
    git(&space, &["worktree", "add", "-q", "-b", &format!("{branch}x"), ".planexe/worktrees/odd"]);
    let out = space.run(&["doctor", "--offline"]).exits(0);
    out.says(&["belongs to no task at work", "git worktree remove", "git branch -D"]);
}

#[test]
fn in_a_lane_what_was_interrupted_comes_first() {
    // The first in order is not the one that was at work.
    let space = lane("", "touch $RAN.half; while [ ! -e $RAN.go ]; do sleep 0.05; done;");
    space.edit(
        "pipeline.toml",
        "inputs  = [\"one.txt\"]\noutputs = [\"two.txt\"]",
        "inputs  = [\"plan.txt\"]\noutputs = [\"two.txt\"]\npriority = 1",
    );
    commit(&space, "two that do not wait for one another");
    half_done(&space).kill9();
    assert_eq!(ran(&space), 1);
    space.edit("pipeline.toml", "priority = 1", "priority = -1");
    go(&space);
    space.build().says_nothing_of(&["planexe/saved/"]);
    assert_eq!((ran(&space), space.read("src/a.txt")), (3, "a\ntwo\ntwo\none\n".to_owned()));
    assert_nothing_left(&space);
    assert_idle(&space);
}
