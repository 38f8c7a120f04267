//! Isolated tasks: each works in a git worktree of its own, and its commits reach the base only when it succeeded. git
//! is asked, not planexe, what became of branches, worktrees and files.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{Space, until};

mod lanes;
mod merging;
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
