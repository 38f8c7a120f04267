//! `[git] commit_on_done`: one commit a task, of its own paths alone; what the user staged stays staged; what was missed is
//! made up for; no build fails for it.

use std::process::Command;

use crate::support::{FakeLlm, Space, until};

const TASKS: &str = r#"
[git]
commit_on_done = true
[task.swot]
description = "Strengths and weaknesses"
inputs = ["plan.txt"]
outputs = ["swot.md"]
prompt = "{{ plan }}\nTASK=swot"
[task.lines]
inputs = ["swot.md"]
outputs = ["out/lines.txt", "out/more.txt"]
command = "wc -l < $in > $out.0; cp $in $out.1"
"#;

fn git(space: &Space, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]);
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"]).args(args);
    let out = command.current_dir(space.dir()).env("HOME", space.root()).output().expect("git");
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A run in a repository with one commit, whose hooks and signing would fail everything.
fn repository(server: &FakeLlm) -> Space {
    let space = Space::with(server, TASKS);
    space.write("plan.txt", "A bridge.\n");
    git(&space, &["init", "-q", "-b", "main"]);
    space.write(".gitignore", "/.planexe/\n*.jsonl\nactivity_overview.json\n");
    git(&space, &["add", "."]);
    git(&space, &["commit", "-q", "-m", "first"]);
    for hook in ["pre-commit", "commit-msg", "post-commit", "reference-transaction", "post-index-change"] {
        space.write(&format!(".git/hooks/{hook}"), "#!/bin/sh\ntouch \"$PWD/hook-ran\"\nexit 1\n");
        let path = space.path(&format!(".git/hooks/{hook}"));
        assert!(Command::new("chmod").arg("+x").arg(path).status().expect("chmod").success());
    }
    git(&space, &["config", "commit.gpgSign", "true"]);
    git(&space, &["config", "gpg.program", "false"]);
    space
}

fn subjects(space: &Space) -> Vec<String> {
    git(space, &["log", "--format=%s"]).lines().map(str::to_owned).collect()
}

/// What `git status` has to say, but for logs.
fn status(space: &Space) -> String {
    git(space, &["status", "--porcelain"])
}

#[test]
fn one_commit_a_task_with_its_paths_alone() {
    let server = FakeLlm::new();
    let space = repository(&server);
    space.write("mine.txt", "mine\n");
    space.build();
    assert_eq!(subjects(&space), ["[lines] out/lines.txt", "[swot] Strengths and weaknesses", "first"]);
    let body = git(&space, &["log", "-1", "--format=%B%an <%ae>", "HEAD~1"]);
    for said in [
        "Task: swot\n",
        "Attempt: 1\n",
        "Decision-Id: ",
        "Checkpoint-Id: ",
        "Model: fake",
        "planexe <planexe@localhost>",
    ] {
        assert!(body.contains(said), "{said} in {body}");
    }
    let trailers = git(&space, &["log", "-1", "--format=%(trailers:key=Task,valueonly)", "HEAD~1"]);
    assert_eq!(trailers.trim(), "swot");
    let paths = git(&space, &["show", "--name-only", "--format=", "HEAD"]);
    assert_eq!(
        paths.lines().collect::<Vec<_>>(),
        ["out/lines.txt", "out/lines.txt.DONE", "out/lines.txt.status", "out/more.txt"]
    );
    assert_eq!(status(&space), "?? mine.txt\n", "nothing else is committed, nothing looks changed");
    assert!(!space.exists("hook-ran") && !space.exists(".planexe/commits_due"));
    // A build with nothing to do starts no git: there is none to be found.
    let before = git(&space, &["rev-parse", "HEAD"]);
    space.assert_nothing_to_do(&server);
    assert_eq!(git(&space, &["rev-parse", "HEAD"]), before);
    space.edit("plan.txt", "A bridge.", "A tunnel.");
    space.build();
    assert_eq!(subjects(&space).len(), 5);
    assert_eq!(status(&space), " M plan.txt\n?? mine.txt\n");
}

#[test]
fn what_is_staged_stays_staged() {
    let server = FakeLlm::new();
    let space = repository(&server);
    space.write("mine.txt", "staged\n");
    space.write("swot.md", "an earlier one, by hand\n");
    git(&space, &["add", "mine.txt", "swot.md"]);
    space.write("mine.txt", "and edited since\n");
    space.build();
    assert_eq!(status(&space), "AM mine.txt\nMM swot.md\n");
    assert_eq!(git(&space, &["show", ":mine.txt"]), "staged\n");
    assert_eq!(git(&space, &["show", ":swot.md"]), "an earlier one, by hand\n");
    assert_eq!(git(&space, &["show", "HEAD:swot.md"]), space.read("swot.md"));
    // The user's own commit goes on as they meant it.
    git(&space, &["commit", "-q", "-m", "mine"]);
    assert_eq!(git(&space, &["show", "HEAD:mine.txt"]), "staged\n");
    assert_eq!(
        git(&space, &["show", "HEAD:out/more.txt"]),
        space.read("out/more.txt"),
        "nothing of ours is lost by it"
    );
}

#[test]
fn a_commit_that_was_missed_is_made_up_for() {
    let server = FakeLlm::new();
    let space = repository(&server);
    // Killed after the first task is done, before it is committed: the call of the second is open.
    space.edit(
        "pipeline.toml",
        "command = \"wc -l < $in > $out.0; cp $in $out.1\"",
        "command = \"touch \\\"$PLANEXE_PIPELINE_DIR/at\\\"; sleep 60; touch $out.0 $out.1\"",
    );
    space.write(".git/MERGE_HEAD", "");
    let build = space.spawn(&["build"]);
    until("the second task", || space.exists("at").then_some(()));
    build.kill9();
    space.remove(".git/MERGE_HEAD");
    space.remove("at");
    assert_eq!(subjects(&space), ["first"]);
    space.edit(
        "pipeline.toml",
        "touch \\\"$PLANEXE_PIPELINE_DIR/at\\\"; sleep 60; touch $out.0 $out.1",
        "cp $in $out.0; cp $in $out.1",
    );
    space.build();
    let mut made = subjects(&space);
    made.sort();
    assert_eq!(made, ["[lines] out/lines.txt", "[swot] Strengths and weaknesses", "first"]);
    assert_eq!(status(&space), " M pipeline.toml\n");
    assert!(!space.exists(".planexe/commits_due"));
}

#[test]
fn killed_after_the_last_task_the_next_build_has_nothing_to_do_but_to_commit() {
    let server = FakeLlm::new();
    let space = repository(&server);
    space.write(".git/rebase-merge/x", "");
    space.build().says(&["not committed", "under way", "the next build tries again"]);
    assert_eq!((subjects(&space).len(), space.exists(".planexe/commits_due")), (1, true));
    // Again and again, as long as it lasts, and no build fails for it.
    space.run(&["build"]).exits(0).says(&["not committed"]);
    space.remove(".git/rebase-merge/x");
    std::fs::remove_dir(space.path(".git/rebase-merge")).expect("the folder");
    space.run(&["build"]).exits(0).says_nothing_of(&["not committed"]);
    assert_eq!(subjects(&space).len(), 3);
    assert_eq!(status(&space), "");
    space.assert_nothing_to_do(&server);
}

#[test]
fn no_git_and_no_repository() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    space.write("plan.txt", "A bridge.\n");
    let out = space.run(&["build"]).exits(0).says(&["not committed", "no git repository", "git init"]);
    assert_eq!(out.stderr.matches("not committed").count(), 1, "{out}");
    git(&space, &["init", "-q"]);
    // git away: the repository is there, the program is not.
    std::fs::create_dir(space.path("bin")).expect("bin");
    for program in ["sh", "wc", "cp"] {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("sh").stdout;
        std::os::unix::fs::symlink(String::from_utf8_lossy(&found).trim(), space.path("bin").join(program))
            .expect("a link");
    }
    let path = std::env::var_os("PATH").expect("PATH");
    space.set_env("PATH", space.path("bin").into_os_string());
    space.run(&["build"]).exits(0).says(&["not committed", "no `git`"]);
    space.set_env("PATH", path);
    space.run(&["build"]).exits(0);
    assert_eq!(subjects(&space).len(), 2, "on a branch without a commit");
    assert_eq!(server.total(), 1);
    assert!(status(&space).lines().all(|line| line.starts_with("??")), "{}", status(&space));
    // With nothing to do it is not even looked for.
    space.set_env("PATH", space.path("bin").into_os_string());
    space.run(&["build"]).exits(0).says_nothing_of(&["not committed"]);
}

#[test]
fn in_a_folder_of_a_larger_repository_with_odd_names() {
    let server = FakeLlm::new();
    let space = Space::new();
    let tasks = r#"
[git]
commit_on_done = true
[task.list]
outputs = ["list.json"]
template = '["a*", "-b", "c d"]'
[task.each]
description = "A\nTask: forged\n\u001b[31m title"
foreach = { file = "list.json" }
outputs = ["each [x]/{{ key }} ü.txt"]
command = "echo $key > $out"
"#;
    space.pipeline(&server, "");
    let head = space.read("pipeline.toml");
    space.write("plans/one/pipeline.toml", format!("{head}\n{tasks}"));
    space.remove("pipeline.toml");
    space.write("other.txt", "x");
    git(&space, &["init", "-q", "-b", "main"]);
    git(&space, &["add", "."]);
    git(&space, &["commit", "-q", "-m", "first"]);
    space.run(&["-C", "plans/one", "build"]).exits(0);
    assert_eq!(subjects(&space).len(), 5, "{:?}", subjects(&space));
    let all = git(&space, &["log", "--format=%B"]);
    assert!(!all.contains('\u{1b}') && !all.contains("\nTask: forged"), "{all}");
    assert_eq!(status(&space).lines().filter(|line| line.contains("each")).count(), 0, "{}", status(&space));
    space.run(&["-C", "plans/one", "build"]).exits(0).says(&["up to date"]);
}
