//! A task of a lane that is made again while others of it wait for the merge.

use super::{assert_idle, assert_nothing_left, commit, git, ran, repository};
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
