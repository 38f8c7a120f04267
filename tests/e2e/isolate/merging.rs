//! Work that comes back into the base: conflicts, what others committed meanwhile, an older git.

use super::{
    WAITS, WORKTREE, assert_idle, assert_nothing_left, commit, git, git_in, go, half_done, instead_of_git,
    ran, repository,
};
use crate::support::{Out, Space};

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

/// The last commit of the base is another one: what it brought is taken out again.
fn take_out_the_secret(space: &Space) -> String {
    let was = git(space, &["rev-parse", "main"]);
    git(space, &["rm", "-q", "secret.txt"]);
    space.write("other.txt", "another file\n");
    git(space, &["add", "other.txt"]);
    git(space, &["commit", "-q", "--amend", "-m", "no secret"]);
    was
}

#[track_caller]
fn assert_no_secret(space: &Space) {
    assert!(!space.exists("secret.txt"));
    let log = git(space, &["log", "--format=%s", "main"]);
    assert!(log.contains("no secret") && !log.lines().any(|line| line == "a secret"), "{log}");
}

#[test]
fn what_was_taken_out_of_the_base_does_not_come_back_with_work_that_goes_on() {
    let space = repository("isolate = true");
    space.write("agent.sh", WAITS);
    space.write("secret.txt", "secret");
    commit(&space, "a secret");
    half_done(&space).kill9();
    take_out_the_secret(&space);
    space.run(&["resume"]).exits(2).says(&["`main` does not hold the commit", "isolation/base.json"]);
    std::fs::remove_file(space.path(".planexe/isolation/base.json")).expect("removed, as the hint says");
    go(&space);
    space.build().says(&["it began with the commit", "planexe/saved/", "it starts over"]);
    assert_eq!((ran(&space), space.read("src/a.txt")), (2, "a\nhalf 1\n".to_owned()));
    assert_no_secret(&space);
    assert_idle(&space);
}

#[test]
fn what_was_taken_out_of_the_base_meanwhile_is_not_merged_back() {
    for by_retry in [false, true] {
        let space = repository("isolate = true");
        space.write("agent.sh", WAITS);
        space.write("secret.txt", "secret");
        commit(&space, "a secret");
        let running = half_done(&space);
        let was = take_out_the_secret(&space);
        let head = git(&space, &["rev-parse", "main"]);
        go(&space);
        let out = running.wait().exits(3);
        out.says(&["which `main` does not hold any more", "planexe retry fix", "git rebase --onto main"]);
        assert_eq!(git(&space, &["rev-parse", "main"]), head);
        assert_eq!(space.state("fix"), "waiting");
        if by_retry {
            space.run(&["retry", "fix"]).exits(0);
            std::fs::remove_file(space.path(".planexe/isolation/base.json")).expect("removed");
        } else {
            git_in(&space, WORKTREE, &["rebase", "-q", "--onto", "main", &was]);
            std::fs::remove_file(space.path(".planexe/isolation/base.json")).expect("removed");
        }
        space.build();
        assert_eq!((ran(&space), space.read("src/a.txt")), (1 + usize::from(by_retry), "a\nhalf 1\n".into()));
        assert_no_secret(&space);
    }
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

/// A git that says it is an older one.
fn old_git(space: &Space) {
    let cases = "*--version) echo git version 2.30.2; exit;; *merge-tree*) exit 129;;";
    instead_of_git(space, |_| format!("case \"$*\" in {cases} esac"));
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
