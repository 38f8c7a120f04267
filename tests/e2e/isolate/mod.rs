//! Isolated tasks: each works in a git worktree of its own, and its commits reach the base only when it succeeded. git
//! is asked, not planexe, what became of branches, worktrees and files.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{Out, Space, until};

mod lanes;
mod run_commands;

/// Adds a line to a file of the repository, commits half of what it does, and writes its notes.
const AGENT: &str = r#"#!/bin/sh
echo ran >> "$RAN"
echo "$1" >> src/a.txt
git add -A && git commit -qm "the agent's own"
echo more >> src/b.txt
cat plan.txt > "$2"
"#;

/// A repository with a task `fix` that changes two files, and a reader of what it and the repository say.
fn repository(keys: &str) -> Space {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[task.facts]
inputs  = ["plan.txt"]
outputs = ["facts.txt"]
command = "tr a-z A-Z < $in > $out"

[task.fix]
kind    = "agent"
inputs  = ["plan.txt", "facts.txt"]
outputs = ["notes.md"]
command = ["sh", "agent.sh", "fixed", "$out"]
{keys}

[task.report]
inputs  = ["notes.md"]
outputs = ["report.txt"]
command = "cat $in src/a.txt > $out"
"#
        ),
    );
    space.write("plan.txt", "a plan\n");
    space.write("agent.sh", AGENT);
    space.write("src/a.txt", "a\n");
    space.write("src/b.txt", "b\n");
    space.write(
        ".gitignore",
        ".planexe/\n*.status\n*.DONE\n*.jsonl\nactivity_overview.json\nfacts.txt\nreport.txt\n",
    );
    space.set_env("RAN", space.root().join("ran.log"));
    space.set_env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z");
    git(&space, &["init", "-q", "-b", "main"]);
    git(&space, &["config", "user.name", "Ada"]);
    git(&space, &["config", "user.email", "ada@example.org"]);
    commit(&space, "first");
    space
}

/// What git says in the run directory; it must succeed.
#[track_caller]
fn git(space: &Space, args: &[&str]) -> String {
    git_in(space, ".", args)
}

#[track_caller]
fn git_in(space: &Space, folder: &str, args: &[&str]) -> String {
    let mut command: Command = space.program("git", args);
    let out = command.current_dir(space.path(folder)).output().expect("git");
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

fn commit(space: &Space, message: &str) {
    git(space, &["add", "-A"]);
    git(space, &["commit", "-qm", message]);
}

fn ran(space: &Space) -> usize {
    space.tally("ran")
}

/// Nothing of ours is in the repository: no branch, no worktree, no folder.
#[track_caller]
fn assert_nothing_left(space: &Space) {
    assert_eq!(git(space, &["branch", "--list", "planexe/*"]), "");
    assert_eq!(git(space, &["worktree", "list"]).lines().count(), 1);
    for path in [".planexe/worktrees", ".planexe/isolation"] {
        assert!(!space.exists(path), "{path}");
    }
}

/// A build with nothing to do changes no file and runs nothing.
#[track_caller]
fn assert_idle(space: &Space) {
    let (before, runs, head) = (space.visible(), ran(space), git(space, &["rev-parse", "HEAD"]));
    let out = space.build().says(&["up to date"]);
    space.visible().assert_same_as(&before, &out);
    assert_eq!((ran(space), git(space, &["rev-parse", "HEAD"])), (runs, head));
}

const WORKTREE: &str = ".planexe/worktrees/fix";

#[test]
fn commits_reach_the_base_when_the_task_succeeded() {
    let space = repository("isolate = true");
    // Not committed, and given all the same.
    space.write("plan.txt", "a plan of today\n");
    space.build();
    assert_eq!(space.read("src/a.txt"), "a\nfixed\n");
    assert_eq!(space.read("src/b.txt"), "b\nmore\n");
    assert_eq!(space.read("notes.md"), "a plan of today\n");
    assert_eq!(space.read("report.txt"), "a plan of today\na\nfixed\n");
    // The user's own change is where it was, and nowhere else.
    assert_eq!(git(&space, &["status", "--porcelain"]), " M plan.txt");
    assert_eq!(git(&space, &["show", "HEAD:plan.txt"]), "a plan");
    let merge = git(&space, &["log", "-1", "--format=%H %an%n%B"]);
    let checkpoint = space.done("notes.md")["checkpoint_id"].as_str().expect("an id").to_owned();
    for said in ["Ada", "Planexe-Task: fix", "Planexe-Attempt: 1", "Planexe-Decision-Id: "] {
        assert!(merge.contains(said), "{merge}");
    }
    assert!(merge.contains(&format!("Planexe-Checkpoint-Id: {checkpoint}")), "{merge}");
    let of_fix = space.lines(".planexe/checkpoints.jsonl").into_iter().find(|it| it["task"] == "fix");
    assert_eq!(of_fix.expect("a checkpoint")["sandbox_ref"], merge[..40]);
    assert_eq!(ran(&space), 1);
    assert_nothing_left(&space);
    assert_idle(&space);
    // Another plan, and it is made again on what is there now.
    space.write("plan.txt", "another plan\n");
    space.build();
    assert_eq!((ran(&space), space.read("src/a.txt")), (2, "a\nfixed\nfixed\n".to_owned()));
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn a_run_below_the_top_and_a_base_that_is_not_checked_out() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[isolation]
base = "work"

[task.fix]
isolate = true
inputs  = ["plan.txt"]
outputs = ["out/notes.md", "out/log.txt"]
command = "cd ../../src && echo fixed >> a.txt; cd ../runs/x && cat $in > $out.0 && pwd > $out.1"
"#,
    );
    let pipeline = space.read("pipeline.toml");
    space.write("repo/runs/x/pipeline.toml", pipeline);
    space.write("repo/runs/x/plan.txt", "a plan");
    space.write("repo/src/a.txt", "a\n");
    space.write("repo/.gitignore", "log.txt\n*.DONE\n");
    git_in(&space, "repo", &["init", "-q", "-b", "main"]);
    let as_me = ["-c", "user.name=A", "-c", "user.email=a@x"];
    git_in(&space, "repo", &["add", "-A"]);
    git_in(&space, "repo", &[&as_me[..], &["commit", "-qm", "first"]].concat());
    let out = space.run(&["-C", "repo/runs/x", "build"]).exits(2);
    out.says(&["the base branch `work` is not in the repository", "git branch work"]);
    git_in(&space, "repo", &["branch", "work"]);
    space.run(&["-C", "repo/runs/x", "build"]).exits(0);
    // The checkout is of another branch: it has the outputs, and nothing else.
    assert_eq!(space.read("repo/src/a.txt"), "a\n");
    assert_eq!(space.read("repo/runs/x/out/notes.md"), "a plan");
    assert!(space.read("repo/runs/x/out/log.txt").ends_with(".planexe/worktrees/fix/runs/x\n"));
    assert_eq!(git_in(&space, "repo", &["show", "work:src/a.txt"]), "a\nfixed");
    assert_eq!(git_in(&space, "repo", &["show", "work:runs/x/out/notes.md"]), "a plan");
    // Nobody said who commits.
    assert_eq!(
        git_in(&space, "repo", &["log", "-1", "--format=%an %ae", "work"]),
        "planexe planexe@localhost"
    );
    assert_eq!(git_in(&space, "repo", &["branch", "--list", "planexe/*"]), "");
    space.run(&["-C", "repo/runs/x", "build"]).exits(0).says(&["up to date"]);
}

#[test]
fn what_is_wrong_with_git_is_said_before_anything_runs() {
    let refused = |space: &Space, code: &str, said: &[&str]| {
        space.run(&["build"]).exits(2).says(said);
        let answer = space.run(&["build", "--json"]).exits(2).json();
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(!space.exists("facts.txt") && ran(space) == 0);
    };
    let space = repository("isolate = true");
    let out = space.root().join("gone.git");
    std::fs::rename(space.path(".git"), &out).expect("moved");
    refused(&space, "no_repository", &["is in no git work tree", "git -C"]);
    std::fs::rename(&out, space.path(".git")).expect("moved back");
    git(&space, &["checkout", "-q", "--detach"]);
    refused(&space, "no_branch", &["no branch is checked out", "base = \"main\""]);
    git(&space, &["checkout", "-q", "--orphan", "other"]);
    refused(&space, "base_missing", &["the base branch `other`", "it has no commit yet"]);
    git(&space, &["checkout", "-q", "-f", "main"]);
    git(&space, &["branch", "planexe"]);
    refused(&space, "branch_taken", &["there is a branch `planexe`", "git branch -m planexe OTHER"]);
    git(&space, &["branch", "-D", "-q", "planexe"]);
    let path = std::env::var_os("PATH").expect("PATH");
    let bin = space.root().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    for program in ["sh", "tr", "cat"] {
        let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.exists());
        std::os::unix::fs::symlink(found.expect(program), bin.join(program)).expect("a link");
    }
    space.set_env("PATH", &bin);
    refused(&space, "git_missing", &["needs git", "install git"]);
    space.set_env("PATH", path);
    instead_of_git(&space, |_| "case \"$*\" in *--version) echo git version 2.19.6; exit;; esac".to_owned());
    refused(&space, "git_old", &["git is version 2.19; isolated tasks want 2.20 or later"]);
}

#[test]
fn a_base_that_went_or_was_moved_back_is_refused_by_name() {
    let space = repository("isolate = true");
    space.edit("agent.sh", "echo ran", "[ -e ../../../go ] || exit 1; echo ran");
    commit(&space, "it fails at first");
    space.run(&["build"]).exits(1);
    git(&space, &["checkout", "-q", "-b", "elsewhere"]);
    git(&space, &["branch", "-q", "-D", "main"]);
    space.write("go", "");
    // The branch that was pinned, not the one that is checked out now.
    let out = space.run(&["resume"]).exits(2);
    out.says(&["the base branch `main` is not in the repository", "git branch main"]);
    git(&space, &["branch", "main", "elsewhere~1"]);
    space.run(&["build"]).exits(2).says(&["`main` does not hold the commit"]);
    git(&space, &["branch", "-f", "main", "elsewhere"]);
    space.build();
    assert_eq!(git(&space, &["show", "main:src/a.txt"]), "a\nfixed");
    assert_eq!(space.read("src/a.txt"), "a\n");
}

/// An agent that waits in the middle of its work until a file is there.
const WAITS: &str = r#"#!/bin/sh
echo ran >> "$RAN"
echo "half $(wc -l < src/a.txt)" >> src/a.txt
git add -A && git commit -qm "half"
echo "not committed" >> src/b.txt
touch "$RAN.half"
while [ ! -e "$RAN.go" ]; do sleep 0.05; done
cat plan.txt > "$2"
"#;

/// A build whose agent is half done.
fn half_done(space: &Space) -> crate::support::Running {
    let running = space.spawn(&["build"]);
    until("the agent is half done", || space.root().join("ran.log.half").exists().then_some(()));
    running
}

fn go(space: &Space) {
    std::fs::write(space.root().join("ran.log.go"), "").expect("go");
}

#[test]
fn killed_at_work_it_goes_on_in_the_same_worktree() {
    let space = repository("isolate = true");
    space.write("agent.sh", WAITS);
    commit(&space, "an agent that waits");
    half_done(&space).kill9();
    assert_eq!(space.read(&format!("{WORKTREE}/src/b.txt")), "b\nnot committed\n");
    assert_eq!(space.read("src/b.txt"), "b\n");
    go(&space);
    space.build().says(&["continues in its worktree"]);
    assert_eq!(ran(&space), 2);
    assert_eq!(space.sidecar("notes.md")["attempt"], 2);
    // What the first attempt did, committed or not, is there beside what the second did.
    assert_eq!(space.read("src/a.txt"), "a\nhalf 1\nhalf 2\n");
    assert_eq!(space.read("src/b.txt"), "b\nnot committed\nnot committed\n");
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn killed_at_work_with_other_inputs_it_starts_over() {
    let space = repository("isolate = true");
    space.write("agent.sh", WAITS);
    commit(&space, "an agent that waits");
    half_done(&space).kill9();
    space.write("plan.txt", "another plan\n");
    go(&space);
    space.build().says(&["planexe/saved/", "it starts over"]);
    assert_eq!((ran(&space), space.read("notes.md")), (2, "another plan\n".to_owned()));
    assert_eq!(
        (space.read("src/a.txt"), space.read("src/b.txt")),
        ("a\nhalf 1\n".into(), "b\nnot committed\n".into())
    );
    let saved = git(&space, &["branch", "--list", "--format=%(refname:short)", "planexe/saved/*"]);
    assert_eq!(git(&space, &["show", &format!("{saved}:src/b.txt")]), "b\nnot committed");
}

#[test]
fn stopped_in_good_order_it_goes_on_as_well() {
    let space = repository("isolate = true");
    space.write("agent.sh", WAITS);
    commit(&space, "an agent that waits");
    let running = half_done(&space);
    running.signal(Signal::TERM);
    running.wait().exits(143);
    go(&space);
    space.build();
    assert_eq!((ran(&space), space.read("src/a.txt")), (2, "a\nhalf 1\nhalf 2\n".to_owned()));
    assert_nothing_left(&space);
}

#[test]
fn a_worktree_that_vanished_is_a_failure_with_a_name() {
    for by_git in [false, true] {
        let space = repository("isolate = true");
        space.write("agent.sh", WAITS);
        commit(&space, "an agent that waits");
        half_done(&space).kill9();
        match by_git {
            true => drop(git(&space, &["worktree", "remove", "--force", WORKTREE])),
            false => std::fs::remove_dir_all(space.path(WORKTREE)).expect("removed"),
        }
        go(&space);
        let out = space.run(&["build"]).exits(1);
        out.says(&["worktree", "is gone", "planexe retry fix"]);
        assert_eq!(space.sidecar("notes.md")["failure"]["class"], "session_vanished");
        assert_eq!(ran(&space), 1);
        space.run(&["retry", "fix"]).exits(0);
        space.build().says(&["planexe/saved/"]);
        assert_eq!((ran(&space), space.read("src/a.txt")), (2, "a\nhalf 1\n".to_owned()));
        // What it had committed is kept.
        let saved = git(&space, &["branch", "--list", "--format=%(refname:short)", "planexe/*"]);
        assert!(saved.starts_with("planexe/saved/run-") && saved.ends_with("/fix-1"), "{saved}");
        assert_eq!(git(&space, &["show", &format!("{saved}:src/a.txt")]), "a\nhalf 1");
        assert_idle(&space);
    }
}

#[test]
fn what_a_failed_attempt_left_is_on_a_branch_before_the_next_begins() {
    let space = repository("isolate = true");
    space.edit(".gitignore", "report.txt", "report.txt\nnotes.md");
    space.edit("agent.sh", "cat plan", "echo untracked > src/new.txt; cat plan");
    space.write("agent.sh", space.read("agent.sh") + "[ -e ../../../go ]\n");
    commit(&space, "it fails at first");
    space.run(&["build"]).exits(1);
    assert_eq!(space.sidecar("notes.md")["failure"]["class"], "exit");
    assert_eq!((space.read("src/a.txt"), space.exists("notes.md")), ("a\n".into(), false));
    // It is left as it was, to be looked at.
    assert_eq!(space.read(&format!("{WORKTREE}/src/b.txt")), "b\nmore\n");
    space.write("go", "");
    space.build().says(&["planexe/saved/"]);
    assert_eq!(space.read("src/a.txt"), "a\nfixed\n");
    let saved = git(&space, &["branch", "--list", "--format=%(refname:short)", "planexe/*"]);
    let show = |path: &str| git(&space, &["show", &format!("{saved}:{path}")]);
    // Commits, changes, new files, and outputs that git ignores.
    assert_eq!(show("src/a.txt"), "a\nfixed");
    assert_eq!((show("src/b.txt"), show("src/new.txt")), ("b\nmore".into(), "untracked".into()));
    assert_eq!(show("notes.md"), "a plan");
    assert_eq!(git(&space, &["worktree", "list"]).lines().count(), 1);
    assert_idle(&space);
}

/// Both the agent and the user change the same line.
fn conflicting(keys: &str) -> (Space, Out) {
    let space = repository(keys);
    space.edit(
        "agent.sh",
        "echo more",
        "touch \"$RAN.half\"; while [ ! -e \"$RAN.go\" ]; do sleep 0.05; done; echo more",
    );
    commit(&space, "the agent waits");
    let running = half_done(&space);
    space.write("src/a.txt", "a\nthe user's\n");
    commit(&space, "the user's");
    go(&space);
    let out = running.wait();
    (space, out)
}

#[test]
fn a_conflict_waits_for_a_person() {
    let (space, out) = conflicting("isolate = true");
    let out = out.exits(3);
    out.says(&["conflicts with `main` in `src/a.txt`", "git merge main", "planexe resume"])
        .says_nothing_of(&["planexe done"]);
    let head = git(&space, &["rev-parse", "HEAD"]);
    assert_eq!(
        (git(&space, &["log", "-1", "--format=%s"]), space.read("src/a.txt")),
        ("the user's".into(), "a\nthe user's\n".into())
    );
    assert_eq!(git(&space, &["status", "--porcelain"]), "");
    assert_eq!(
        (space.state("fix"), space.is_done("notes.md"), space.exists("report.txt")),
        ("waiting".into(), false, false)
    );
    assert_eq!(space.report()["run"]["phase"], "waiting");
    // Nothing changed: it says the same, and runs nothing.
    space.run(&["build"]).exits(3).says(&["conflicts"]);
    assert_eq!((ran(&space), git(&space, &["rev-parse", "HEAD"])), (1, head));
    // Half solved is not solved.
    let failed = space
        .program("git", &["merge", "-q", "main"])
        .current_dir(space.path(WORKTREE))
        .output()
        .expect("git");
    assert!(!failed.status.success());
    space.run(&["resume"]).exits(3).says(&["not committed: `src/a.txt`", "git commit"]);
    space.write(&format!("{WORKTREE}/src/a.txt"), "a\nboth\n");
    git_in(&space, WORKTREE, &["commit", "-qam", "solved"]);
    space.run(&["resume"]).exits(0);
    assert_eq!(
        (space.read("src/a.txt"), space.read("report.txt"), ran(&space)),
        ("a\nboth\n".into(), "a plan\na\nboth\n".into(), 1)
    );
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn a_conflict_may_give_the_run_up() {
    let (space, out) = conflicting(r#"isolate = { on_merge_failure = "abort" }"#);
    out.exits(1).says(&["conflicts with `main` in `src/a.txt`", "planexe resume --force"]);
    assert_eq!(space.sidecar("notes.md")["failure"]["class"], "merge_conflict");
    assert_eq!(
        (space.state("fix"), space.report()["run"]["phase"].clone()),
        ("failed".into(), "aborted".into())
    );
    assert_eq!(space.read("src/a.txt"), "a\nthe user's\n");
    assert!(space.exists(WORKTREE) && git(&space, &["branch", "--list", "planexe/*"]).contains("fix"));
    space.run(&["resume"]).exits(2).says(&["aborted"]);
    git_in(&space, WORKTREE, &["merge", "-q", "-X", "ours", "main"]);
    space.run(&["resume", "--force"]).exits(0);
    assert_eq!((space.read("src/a.txt"), ran(&space)), ("a\nfixed\n".into(), 1));
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn a_conflict_may_be_dropped() {
    let (space, out) = conflicting("isolate = true");
    out.exits(3);
    space.run(&["retry", "fix"]).exits(0);
    space.build().says(&["planexe/saved/"]);
    assert_eq!((space.read("src/a.txt"), ran(&space)), ("a\nthe user's\nfixed\n".into(), 2));
    assert_idle(&space);
}

#[test]
fn what_the_user_has_not_committed_is_never_touched() {
    let space = repository("isolate = true");
    space.write("src/b.txt", "b\nmine\n");
    let out = space.run(&["build"]).exits(3);
    out.says(&["checked out in", "`src/b.txt` would be overwritten", "commit or stash"]);
    assert_eq!((space.read("src/a.txt"), space.read("src/b.txt")), ("a\n".into(), "b\nmine\n".into()));
    assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "first");
    git(&space, &["stash", "-q"]);
    // A file that git does not track there is the user's too.
    let branch = git(&space, &["branch", "--list", "--format=%(refname:short)", "planexe/*"]);
    space.write(&format!("{WORKTREE}/src/new.txt"), "the agent's\n");
    git_in(&space, WORKTREE, &["add", "-A"]);
    git_in(&space, WORKTREE, &["commit", "-qm", "by hand"]);
    space.write("src/new.txt", "the user's\n");
    space.run(&["resume"]).exits(3).says(&["`src/new.txt` would be overwritten", &branch]);
    assert_eq!((space.read("src/new.txt"), space.read("src/b.txt")), ("the user's\n".into(), "b\n".into()));
    space.remove("src/new.txt");
    space.run(&["resume"]).exits(0);
    assert_eq!(
        (space.read("src/new.txt"), space.read("src/b.txt"), ran(&space)),
        ("the agent's\n".into(), "b\nmore\n".into(), 1)
    );
    assert_nothing_left(&space);
    git(&space, &["stash", "drop", "-q"]);
    assert_idle(&space);
}

#[test]
fn inputs_are_as_in_the_run_and_are_not_committed() {
    let space = repository("isolate = true");
    space.write("plan.txt", "today\n");
    space.edit(
        "pipeline.toml",
        r#""plan.txt", "facts.txt"]"#,
        r#""plan.txt", "facts.txt", "ideas.txt", "*.csv"]"#,
    );
    commit(&space, "more inputs");
    space.write("plan.txt", "tomorrow\n");
    space.write("ideas.txt", "new\n");
    space.write("b c.csv", "1\n");
    space.edit("agent.sh", "cat plan.txt", "cat plan.txt facts.txt ideas.txt *.csv");
    git(&space, &["commit", "-qm", "agent", "agent.sh"]);
    space.build();
    assert_eq!(space.read("notes.md"), "tomorrow\nTOMORROW\nnew\n1\n");
    let names = git(&space, &["diff", "--name-only", "HEAD~1", "HEAD"]);
    assert_eq!(names, "notes.md\nsrc/a.txt\nsrc/b.txt");
    assert_eq!(git(&space, &["status", "--porcelain"]), " M plan.txt\n?? \"b c.csv\"\n?? ideas.txt");
    assert_idle(&space);
    // What it changes of them could be merged into nothing.
    space.write("ideas.txt", "newer\n");
    space.edit("agent.sh", "echo more", "echo x >> ideas.txt; echo more");
    git(&space, &["commit", "-qm", "agent", "agent.sh"]);
    space.run(&["build"]).exits(1).says(&["it changed `ideas.txt` in its worktree", "commit it first"]);
    assert_eq!(space.sidecar("notes.md")["failure"]["class"], "input_changed");
    assert_eq!(space.read("ideas.txt"), "newer\n");
    // Committed it is one of the files it may change, and counts as it left it.
    commit(&space, "the ideas");
    space.build();
    assert_eq!(space.read("ideas.txt"), "newer\nx\n");
    let saved = git(&space, &["branch", "--list", "planexe/saved/*"]);
    assert!(saved.contains("/fix-1"), "{saved}");
    assert_idle(&space);
}

#[test]
fn submodules_are_refused_by_name() {
    let space = repository("isolate = true");
    let inner =
        "git init -q inner && git -C inner -c user.name=A -c user.email=a@x commit -q --allow-empty -m i;";
    space.edit("agent.sh", "echo more", &format!("{inner} echo more"));
    commit(&space, "an agent that makes a repository");
    let out = space.run(&["build"]).exits(1);
    out.says(&["submodule", "`inner`"]);
    assert_eq!(space.sidecar("notes.md")["failure"]["class"], "submodule");
    assert_eq!(
        (git(&space, &["log", "-1", "--format=%s"]), space.read("src/a.txt")),
        ("an agent that makes a repository".into(), "a\n".into())
    );
    // It is in no commit of ours, so it is not cleaned away either.
    space.edit("agent.sh", inner, "");
    commit(&space, "an agent that does not");
    space.run(&["build"]).exits(1).says(&["repositories of their own", "`inner`"]);
    assert!(space.exists(&format!("{WORKTREE}/inner/.git")));
    std::fs::remove_dir_all(space.path(&format!("{WORKTREE}/inner"))).expect("removed");
    space.build();
    assert_eq!(space.read("src/a.txt"), "a\nfixed\n");
}

#[test]
fn an_agent_on_a_branch_of_its_own_and_hooks_that_say_no() {
    let space = repository("isolate = true");
    space.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.path(".git/hooks/pre-commit"), mode).expect("a mode");
    space.edit(
        "agent.sh",
        "git add -A && git commit -qm",
        "git switch -q -c mine; git add -A && git commit -q --no-verify -m",
    );
    git(&space, &["add", "-A"]);
    git(&space, &["commit", "-q", "--no-verify", "-m", "an agent with a branch"]);
    // Variables that lead git elsewhere are not followed, by us or by the agent.
    space.set_env("GIT_DIR", space.root().join("nowhere"));
    space.set_env("GIT_INDEX_FILE", space.root().join("no-index"));
    space.run(&["build"]).exits(0);
    space.set_env("GIT_DIR", space.path(".git"));
    space.set_env("GIT_INDEX_FILE", space.path(".git/index"));
    assert_eq!((space.read("src/a.txt"), space.read("src/b.txt")), ("a\nfixed\n".into(), "b\nmore\n".into()));
    assert_nothing_left(&space);
}

#[test]
fn changes_in_the_worktree_are_progress() {
    let space = repository("isolate = true\nstall_timeout = \"3s\"");
    let slow = "for i in 1 2 3 4 5; do echo $i > src/tick.txt; sleep 1; done; rm src/tick.txt;";
    space.edit("agent.sh", "echo more", &format!("{slow} echo more"));
    commit(&space, "a slow agent");
    space.build();
    space.edit("agent.sh", slow, "sleep 60;");
    space.edit("plan.txt", "a plan", "another plan");
    commit(&space, "an agent that sleeps");
    space.run(&["build"]).exits(1).says(&["stall_timeout"]);
    assert_eq!(space.sidecar("notes.md")["failure"]["class"], "stall");
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

/// A git that says it is an older one.
fn old_git(space: &Space) {
    let cases = "*--version) echo git version 2.30.2; exit;; *merge-tree*) exit 129;;";
    instead_of_git(space, |_| format!("case \"$*\" in {cases} esac"));
}

/// A script that is called for git, does something of its own, and then git itself.
fn instead_of_git(space: &Space, script: impl Fn(&str) -> String) {
    let path = std::env::var_os("PATH").expect("PATH");
    let real =
        std::env::split_paths(&path).map(|dir| dir.join("git")).find(|file| file.exists()).expect("git");
    let bin = space.root().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    let real = real.display().to_string();
    let script = format!("#!/bin/sh\n{}\nexec {real} \"$@\"\n", script(&real));
    std::fs::write(bin.join("git"), script).expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("git"), mode).expect("a mode");
    let dirs = [bin].into_iter().chain(std::env::split_paths(&path));
    space.set_env("PATH", std::env::join_paths(dirs).expect("a path"));
}

#[test]
fn a_git_that_merges_in_worktrees_alone() {
    let space = repository("isolate = true");
    old_git(&space);
    space.build();
    assert_eq!(space.read("src/a.txt"), "a\nfixed\n");
    assert_nothing_left(&space);
    assert_idle(&space);
    let space = repository("isolate = true");
    old_git(&space);
    space.edit(
        "agent.sh",
        "echo more",
        "touch \"$RAN.half\"; while [ ! -e \"$RAN.go\" ]; do sleep 0.05; done; echo more",
    );
    commit(&space, "the agent waits");
    let running = half_done(&space);
    space.write("src/a.txt", "a\nthe user's\n");
    space.write("src/c.txt", "c\n");
    commit(&space, "the user's");
    go(&space);
    running.wait().exits(3).says(&["conflicts with `main` in `src/a.txt`"]);
    assert_eq!(git_in(&space, WORKTREE, &["status", "--porcelain"]), "");
    git_in(&space, WORKTREE, &["merge", "-q", "-X", "ours", "main"]);
    space.run(&["resume"]).exits(0);
    assert_eq!((space.read("src/a.txt"), space.read("src/c.txt")), ("a\nfixed\n".into(), "c\n".into()));
    assert_nothing_left(&space);
}

#[test]
fn what_others_committed_meanwhile_is_merged_with() {
    let space = repository("isolate = true");
    space.edit(
        "agent.sh",
        "echo more",
        "touch \"$RAN.half\"; while [ ! -e \"$RAN.go\" ]; do sleep 0.05; done; echo more",
    );
    commit(&space, "the agent waits");
    let running = half_done(&space);
    space.write("src/c.txt", "c\n");
    commit(&space, "the user's");
    space.write("src/c.txt", "c\nnot committed\n");
    go(&space);
    running.wait().exits(0);
    assert_eq!(
        (space.read("src/a.txt"), space.read("src/c.txt")),
        ("a\nfixed\n".into(), "c\nnot committed\n".into())
    );
    assert_eq!(
        git(&space, &["log", "--first-parent", "--format=%s", "-2"]),
        "planexe: merge fix into main\nthe user's"
    );
    assert_eq!(git(&space, &["status", "--porcelain"]), " M src/c.txt");
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn a_rescued_agent_is_merged_and_one_that_is_not_is_not() {
    for (score, code, text) in [("0.9", 0, "a\nfixed\n"), ("0.2", 1, "a\n")] {
        let judge = format!(
            "[task.fix.eval]\ncommand = \"echo judged >> $RAN; echo '{{\\\"score\\\": {score}, \\\"notes\\\": \\\"x\\\"}}'\"\nmax_rounds = 1"
        );
        let space = repository(&format!("isolate = true\n{judge}"));
        space.write("agent.sh", space.read("agent.sh") + "exit 1\n");
        commit(&space, "an agent out of turns");
        space.run(&["build"]).exits(code);
        assert_eq!(
            (space.read("src/a.txt"), space.read("../ran.log")),
            (text.into(), "ran\njudged\n".into())
        );
        if code == 0 {
            assert_eq!(space.done("notes.md")["by"], "rescue");
            assert_eq!(space.status("fix")["rescued"], true);
            assert_nothing_left(&space);
            assert_idle(&space);
        } else {
            assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "an agent out of turns");
            assert!(space.exists(WORKTREE));
        }
    }
}

#[test]
fn each_item_of_a_fan_out_has_a_lane_of_its_own() {
    let space = repository("isolate = true");
    space.write("docs/one.txt", "1");
    space.write("docs/two words.txt", "2");
    space.write(
        "pipeline.toml",
        r#"
[task.edit]
isolate = true
foreach = { glob = "docs/*.txt" }
outputs = ["done/{{ key }}.txt"]
command = ["sh", "-c", "echo \"$0\" > \"src/$0.txt\"; echo \"$0\" > \"$1\"", "$key", "$out"]
"#,
    );
    commit(&space, "a fan-out");
    space.build();
    let merges = git(&space, &["log", "--first-parent", "--format=%s", "-2"]);
    assert!(
        merges.contains("merge edit[one] into main") && merges.contains("merge edit[two-words"),
        "{merges}"
    );
    assert_eq!(space.read("src/one.txt"), "one\n");
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn forced_it_is_made_anew_and_merged() {
    let space = repository("isolate = true");
    space.build();
    space.run(&["build", "-B"]).exits(0);
    assert_eq!((ran(&space), space.read("src/a.txt")), (2, "a\nfixed\nfixed\n".to_owned()));
    space.run(&["clean", "fix", "-y"]).exits(0);
    space.build();
    assert_eq!(ran(&space), 3);
    // An output that nobody committed yet goes to history, not in the way.
    assert_nothing_left(&space);
    assert_idle(&space);
    let space = repository("isolate = true");
    space.write("notes.md", "by hand\n");
    space.build();
    assert_eq!(space.read("notes.md"), "a plan\n");
    assert!(space.in_history("by hand\n"));
    assert_idle(&space);
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

#[test]
fn a_run_that_was_moved_or_copied_in_the_middle_is_refused() {
    let space = repository("isolate = true");
    space.write("agent.sh", WAITS);
    commit(&space, "an agent that waits");
    half_done(&space).kill9();
    let copy = space.root().join("copy");
    let copied = space.program("cp", &["-R", ".", copy.to_str().expect("a path")]).status().expect("cp");
    assert!(copied.success());
    let out = space.run(&["-C", copy.to_str().expect("a path"), "build"]).exits(2);
    out.says(&["moved or copied", "rm -r .planexe/isolation .planexe/worktrees"]);
    // A worktree that git does not know any more is left alone.
    std::fs::remove_dir_all(space.path(".git/worktrees")).expect("removed");
    space.run(&["build"]).exits(1).says(&["is no worktree that git knows", "move it away"]);
    assert_eq!(space.read(&format!("{WORKTREE}/src/b.txt")), "b\nnot committed\n");
    assert_eq!(git(&space, &["status", "--porcelain"]), "");
    // Nor is one that lost its `.git`.
    std::fs::remove_file(space.path(&format!("{WORKTREE}/.git"))).expect("removed");
    space.run(&["build"]).exits(1).says(&["is no worktree that git knows", "move it away"]);
    std::fs::rename(space.path(WORKTREE), space.root().join("aside")).expect("moved");
    go(&space);
    space.build();
    assert_idle(&space);
}
