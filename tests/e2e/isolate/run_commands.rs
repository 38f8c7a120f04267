//! Commands around a run that has isolated tasks: what moves it, removes it or brings it back.

use super::{
    WAITS, WORKTREE, assert_idle, assert_nothing_left, commit, git, git_in, go, half_done, instead_of_git,
    ran, repository,
};
use crate::support::Space;

#[test]
fn a_run_with_a_worktree_is_neither_archived_nor_deleted() {
    // As `planexe new` makes them, below the top of a repository.
    let space = Space::new();
    let write = |path: &str, text: &str| space.write(&format!("../{path}"), text);
    write(
        "pipeline.toml",
        "[task.fix]\nisolate = true\ninputs = [\"plan.txt\"]\noutputs = [\"notes.md\"]\n\
         command = \"echo of an hour > more.txt; cat $in > $out; grep -q good $in\"\n",
    );
    write(".gitignore", ".planexe/\n*.status\n*.DONE\n*.jsonl\nactivity_overview.json\n");
    space.write("run.toml", "pipeline = \"../pipeline.toml\"\n");
    space.write("plan.txt", "bad\n");
    git_in(&space, "..", &["init", "-q", "-b", "main"]);
    git(&space, &["config", "user.name", "Ada"]);
    git(&space, &["config", "user.email", "ada@example.org"]);
    git_in(&space, "..", &["add", "-A"]);
    commit(&space, "first");
    space.run(&["build"]).exits(1);
    let run = space.root().join("run").display().to_string();
    let branches = git(&space, &["branch", "--list"]);
    for command in ["archive", "delete"] {
        let out = space.run(&[command, "-y", &run]).exits(2);
        out.says(&["is more than a run: the worktree of an isolated task is in it"]);
        let out = space.run(&[command, "-y", "--json", &run]).exits(2);
        assert_eq!(out.json()["error"]["code"], "more_than_a_run", "{out}");
    }
    // It is where it was, and so is what was done.
    assert_eq!(git(&space, &["branch", "--list"]), branches);
    assert_eq!(space.read(&format!("{WORKTREE}/run/more.txt")), "of an hour\n");
    space.write("plan.txt", "good\n");
    space.build();
    assert!(!space.exists(WORKTREE));
    let archived = space.root().join(".archived-run").display().to_string();
    let from_above = |args: &[&str]| {
        let done = space.command(args).current_dir(space.root()).output().expect("planexe");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    from_above(&["archive", "-y", &run]);
    from_above(&["archive", "--undo", &archived]);
    from_above(&["delete", "-y", &run]);
    assert!(!space.dir().exists());
    std::fs::create_dir(space.dir()).expect("the run's folder");
}

#[test]
fn what_is_restored_leaves_git_where_it_is_and_says_so() {
    let space = repository("isolate = true");
    space.build();
    space.write("plan.txt", "another plan\n");
    commit(&space, "another plan");
    space.build();
    // What git replaced in the checkout is in history all the same.
    space.run(&["history", "fix"]).exits(0).says(&["fix@1"]);
    assert!(space.in_history("a plan\n"));
    let head = git(&space, &["rev-parse", "HEAD"]);
    let all = space.run(&["checkpoints", "--json"]).exits(0).json();
    let first = all["checkpoints"].as_array().expect("checkpoints").iter().find(|one| one["task"] == "fix");
    let id = first.expect("a checkpoint of fix")["id"].as_str().expect("an id").to_owned();
    let note = "git is not moved: what was merged of fix stays on its base";
    for args in [&["restore", "-n", "--checkpoint", &*id][..], &["restore", "-n", "fix"]] {
        space.run(args).exits(0).says(&[note]);
        let view = space.run(&[args, &["--json"]].concat()).exits(0).json();
        assert_eq!(view["git_stays"], serde_json::json!(["fix"]), "{view}");
    }
    space.run(&["restore", "-n", "facts"]).exits(0).says_nothing_of(&["git"]);
    space.run(&["restore", "--checkpoint", &id]).exits(0).says(&[note, "git revert -m 1"]);
    assert_eq!((space.read("notes.md"), git(&space, &["rev-parse", "HEAD"])), ("a plan\n".into(), head));
    // The output that was committed is changed now; the next build makes it anew, and the former goes to history.
    assert_eq!(git(&space, &["diff", "--name-only"]), "notes.md");
    git(&space, &["checkout", "-q", "notes.md"]);
    space.build();
    assert_eq!((space.read("notes.md"), ran(&space)), ("another plan\n".into(), 3));
    assert_nothing_left(&space);
    assert_idle(&space);
}

/// The base holds the merge, and git is cut short in the checkout by a full disk or the power: some files are there whole,
/// one half, and the index says nothing of them.
#[test]
fn a_checkout_that_was_cut_short_is_gone_on_with() {
    let space = repository("isolate = true");
    space.edit("agent.sh", "echo more", "echo new > src/new.txt; seq 1000 > src/long.txt; echo more");
    commit(&space, "new files");
    instead_of_git(&space, |real| {
        format!(
            "case \"$*\" in *\"read-tree -m -u\"*) if [ ! -e \"$RAN.go\" ]; then cp .git/index ../index; \
             {real} \"$@\"; cp ../index .git/index; seq 10 > src/long.txt; rm src/b.txt; \
             echo 'fatal: unable to write new index file' >&2; exit 128; fi;; esac"
        )
    });
    space.run(&["build"]).exits(3).says(&["holds the merge", "unable to write new index file"]);
    let there = git(&space, &["status", "--porcelain"]);
    assert!(there.contains("?? src/long.txt") && there.contains("MD src/b.txt"), "{there}");
    go(&space);
    // What is the user's is not taken for a half.
    space.write("src/long.txt", "1\nthe user's\n");
    space.run(&["resume"]).exits(3).says(&["src/long.txt"]);
    assert_eq!(space.read("src/long.txt"), "1\nthe user's\n");
    space.write("src/long.txt", "1\n2\n");
    space.run(&["resume"]).exits(0);
    assert_eq!((space.read("src/a.txt"), space.read("src/b.txt")), ("a\nfixed\n".into(), "b\nmore\n".into()));
    assert_eq!(
        (space.read("src/new.txt"), space.read("src/long.txt").lines().count()),
        ("new\n".into(), 1000)
    );
    assert_eq!((git(&space, &["status", "--porcelain"]), ran(&space)), (String::new(), 1));
    assert_nothing_left(&space);
    assert_idle(&space);
}

/// Its merge is the last part of an attempt, not all of it.
#[test]
fn an_isolated_attempt_takes_as_long_as_its_command() {
    let space = repository("isolate = true");
    space.write("agent.sh", format!("{}sleep 0.6\n", super::AGENT));
    commit(&space, "slower");
    space.build();
    let took = space.sidecar("notes.md")["duration_s"].as_f64().expect("a time");
    assert!(took >= 0.6, "{took}");
}

/// Somebody removes the branch while the agent works: what it made is kept, and merged once the branch is back.
#[test]
fn a_base_that_goes_while_the_agent_works_costs_no_second_attempt() {
    let space = repository("isolate = { base = \"trunk\" }");
    space.write("agent.sh", super::WAITS);
    commit(&space, "the agent waits");
    git(&space, &["branch", "trunk"]);
    let running = super::half_done(&space);
    git(&space, &["branch", "-q", "-D", "trunk"]);
    go(&space);
    running.wait().exits(1).says(&["the base branch `trunk` is gone", "git branch trunk brings it back"]);
    git(&space, &["branch", "trunk", "main"]);
    space.build();
    assert_eq!(ran(&space), 1, "it is merged, not made again");
    assert!(git(&space, &["show", "trunk:src/b.txt"]).contains("not committed"));
    assert_nothing_left(&space);
}

/// An evaluator that says what a file says.
fn eval(line: &str) -> String {
    format!("isolate = true\n[task.fix.eval]\ncommand = '''{line}'''\nmax_rounds = 1")
}

#[test]
fn an_evaluator_judges_what_the_agent_did_and_leaves_it_as_it_was() {
    let judge = "test -n \"$PLANEXE_WORKTREE\" && cd \"$PLANEXE_WORKTREE\" || exit 9; echo spoilt > src/b.txt; echo more > left.txt; \
                 if grep -q fixed src/a.txt; then echo '{\"score\":1,\"notes\":\"\"}'; else echo '{\"score\":0,\"notes\":\"\"}'; fi";
    let space = repository(&eval(judge));
    space.build();
    assert_eq!((space.read("src/a.txt"), space.exists("left.txt")), ("a\nfixed\n".into(), false));
    assert_ne!(space.read("src/b.txt"), "spoilt\n");
    assert_nothing_left(&space);
    assert_idle(&space);
}

/// What command and evaluator are given, and where their programs are taken from: the scripts of the checkout are newer
/// than those that are committed, and the agent writes an evaluator of its own.
#[test]
fn where_a_command_works_and_whose_evaluator_it_is() {
    let space = repository(
        "isolate = true\ncwd = \"src\"\n[task.fix.eval]\ncommand = [\"./judge.sh\"]\nmax_rounds = 1",
    );
    let judge =
        "#!/bin/sh\npwd > \"$RAN.judge\"; ls >> \"$RAN.judge\"; echo '{\"score\":0.9,\"notes\":\"\"}'\n";
    space.write("judge.sh", judge);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.path("judge.sh"), mode).expect("a mode");
    let agent = "pwd > \"$RAN.saw\"; echo \"$PLANEXE_WORKTREE\" >> \"$RAN.saw\"; echo \"$PLANEXE_PIPELINE_DIR\" >> \"$RAN.saw\"\n\
                 echo \"echo '{\\\"score\\\":0}'\" > ../judge.sh; echo committed > \"$2\"\n\
                 mv ../.git ../.aside; git rev-parse --show-toplevel >> \"$RAN.saw\" 2>/dev/null; mv ../.aside ../.git\n";
    space.write("src/agent.sh", agent);
    commit(&space, "an agent that looks about");
    space.edit("src/agent.sh", "echo committed", "echo changed");
    space.build();
    let run = space.dir().display().to_string();
    let top = format!("{run}/{WORKTREE}");
    assert_eq!(space.read("../ran.log.saw"), format!("{top}/src\n{top}\n{run}\n"));
    // Inputs that are in no commit are not there when it is judged.
    let seen = space.read("../ran.log.judge");
    assert!(seen.starts_with(&format!("{top}\n")) && !seen.contains("facts.txt"), "{seen}");
    assert_eq!(
        (space.read("notes.md"), space.done("notes.md")["eval"]["score"].clone()),
        ("committed\n".into(), 0.9.into())
    );
}

#[test]
fn a_candidate_that_is_touched_is_merged_before_anything_reads_it() {
    // Away, and found wanting.
    for judge in ["exit 3", "echo '{\"score\":0.1,\"notes\":\"no\"}'"] {
        let space = repository(&eval(judge));
        space.run(&["build"]).exits(1);
        space.run(&["done", "fix"]).exits(2).says(&["does not wait for a person", "`planexe touch fix`"]);
        space.run(&["touch", "fix", "-n"]).exits(0).says(&["would be accepted"]);
        space.run(&["touch", "fix"]).exits(0).says(&["accepted as it is", "merges it into `main`"]);
        assert!(!space.exists("notes.md.DONE") && !space.exists("report.txt"), "{judge}");
        let status = space.run(&["status", "--json"]).exits(0).json();
        assert_eq!(status["run"]["phase"], "stopped", "{status:#}");
        assert_eq!(status["tasks"][1]["by"], "touch", "{status:#}");
        space.run(&["explain", "fix"]).exits(0).says(&["it was accepted by hand by", "is to be merged"]);
        space.run(&["done", "fix"]).exits(2).says(&["what it waits for is its merge"]);
        assert_eq!(space.status("fix")["state"], "merging");
        space.run(&["touch", "fix"]).exits(0).says(&["accepted already", "into `main`"]);
        let again = space.run(&["touch", "fix", "--json"]).exits(0).json();
        assert_eq!(
            (again["touched"].clone(), again["merging"][0].clone()),
            (false.into(), "fix".into()),
            "{again:#}"
        );
        assert_eq!(space.status("fix")["state"], "merging");
        space.build();
        assert!(space.read("src/a.txt").contains("fixed") && space.read("report.txt").contains("fixed"));
        let done = space.done("notes.md");
        assert_eq!(done["by"], "touch", "{done:#}");
        assert!(done["by_user"].is_string(), "{done:#}");
        assert_eq!(ran(&space), 1);
        assert_nothing_left(&space);
        assert_idle(&space);
    }
}

#[test]
fn a_candidate_that_is_cleaned_is_neither_merged_nor_taken() {
    let space = repository(&eval("exit 3"));
    space.run(&["build"]).exits(1);
    space.run(&["clean", "-y", "fix"]).exits(0);
    space.run(&["touch", "fix"]).exits(1).says(&["is missing"]);
    space.run(&["build"]).exits(1);
    assert_eq!(ran(&space), 2);
    assert_eq!(git(&space, &["log", "-1", "--format=%s"]), "first");
}

#[test]
fn what_a_repository_says_of_programs_is_not_run() {
    let space = repository("isolate = true");
    let mark = space.root().join("MARK");
    let evil = space.root().join("evil.sh");
    std::fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat\n", mark.display()))
        .expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&evil, mode).expect("a mode");
    let evil = evil.display().to_string();
    space.write(".gitattributes", "* filter=x diff=x merge=x\n");
    // An agent that asks no git itself: what it runs is its own matter.
    space.write("agent.sh", "echo fixed >> src/a.txt; cat plan.txt > \"$2\"\n");
    commit(&space, "attributes");
    for name in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.askPass",
        "diff.external",
        "diff.x.textconv",
        "diff.x.command",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "merge.x.driver",
        "credential.helper",
        "gpg.program",
    ] {
        git(&space, &["config", name, &evil]);
    }
    git(&space, &["config", "filter.x.required", "true"]);
    git(&space, &["config", "commit.gpgSign", "true"]);
    for hook in ["pre-commit", "post-checkout", "reference-transaction", "post-merge", "post-index-change"] {
        std::fs::create_dir_all(space.path(".git/hooks")).expect("a folder");
        std::fs::copy(&evil, space.path(&format!(".git/hooks/{hook}"))).expect("a hook");
    }
    space.run(&["build"]).exits(0);
    space.run(&["status"]).exits(0);
    space.run(&["doctor"]);
    let ran = std::fs::read_to_string(&mark).unwrap_or_default();
    assert_eq!(ran, "", "programs of the repository's configuration were run");
    assert!(space.read("src/a.txt").contains("fixed"));
}

#[test]
fn an_isolated_task_is_scored_without_notes() {
    let space = repository(&eval("echo '{\"score\":0.8}'"));
    space.build();
    assert_eq!(space.done("notes.md")["eval"]["score"], 0.8);
    assert_nothing_left(&space);
}

/// Two branches that changed one file each in its own way; a change of it that is not committed, put by.
fn diverged(space: &Space) {
    for (text, message) in [("c\n", "second"), ("c of main\n", "third")] {
        space.write("src/c.txt", text);
        commit(space, message);
    }
    git(space, &["checkout", "-q", "-b", "other", "HEAD~1"]);
    space.write("src/c.txt", "c of another\n");
    commit(space, "other");
    let patch = git(space, &["format-patch", "-1", "--stdout"]);
    std::fs::write(space.root().join("other.patch"), patch + "\n").expect("a patch");
    git(space, &["checkout", "-q", "main"]);
    space.write("src/c.txt", "c not committed\n");
    git(space, &["stash", "-q"]);
    space.write("src/c.txt", "c of today\n");
    commit(space, "fourth");
}

#[test]
fn what_is_under_way_in_the_base_is_named_with_what_to_type() {
    // What is begun while the agent works; what is said of it; how it is given up.
    let rows: [(&[&str], &[&str], &[&str]); 6] = [
        (&["merge", "other"], &["a merge is under way there", "git merge --abort"], &["merge", "--abort"]),
        (
            &["cherry-pick", "other"],
            &["a cherry-pick is under way there", "git cherry-pick --continue"],
            &["cherry-pick", "--abort"],
        ),
        (
            &["revert", "HEAD~1"],
            &["a revert is under way there", "git revert --abort"],
            &["revert", "--abort"],
        ),
        (
            &["rebase", "other"],
            &["a rebase is under way there", "git rebase --continue", "git rebase --abort"],
            &["rebase", "--abort"],
        ),
        (
            &["am", "-3", "../other.patch"],
            &["a `git am` is under way there", "git am --abort"],
            &["am", "--abort"],
        ),
        (
            &["stash", "pop"],
            &["conflicts that are not solved: `src/c.txt`", "solve them and commit"],
            &["checkout", "-q", "-f", "HEAD"],
        ),
    ];
    for (begin, said, end) in rows {
        let space = repository("isolate = true");
        space.write("agent.sh", WAITS);
        diverged(&space);
        let running = half_done(&space);
        let begun = space.program("git", begin).current_dir(space.dir()).output().expect("git");
        assert!(!begun.status.success(), "{begin:?}: it conflicts");
        let tip = git(&space, &["rev-parse", "main"]);
        go(&space);
        running.wait().exits(3).says(said).says(&["cd ", "then `planexe resume`"]);
        space.run(&["resume"]).exits(3).says(said);
        assert_eq!(git(&space, &["rev-parse", "main"]), tip, "{begin:?}");
        git(&space, end);
        space.run(&["resume"]).exits(0);
        assert_eq!(space.read("src/c.txt"), "c of today\n", "{begin:?}");
        assert_ne!(git(&space, &["rev-parse", "main"]), tip, "{begin:?}");
        assert_nothing_left(&space);
    }
}

#[test]
fn a_build_begun_in_a_rebase_says_so() {
    let space = repository("isolate = true");
    diverged(&space);
    let begun = space.program("git", &["rebase", "other"]).current_dir(space.dir()).output().expect("git");
    assert!(!begun.status.success());
    space.run(&["build"]).exits(2).says(&["into `main`", "a rebase is under way", "git rebase --abort"]);
    let answer = space.run(&["build", "--json"]).exits(2).json();
    assert_eq!(answer["error"]["code"], "under_way", "{answer:#}");
    git(&space, &["rebase", "--abort"]);
    space.build();
}

/// An agent whose rounds write these scores, and a line each into a file of the repository.
const ROUNDS: &str = r#"#!/bin/sh
echo ran >> "$RAN"
n=$(wc -l < "$RAN")
echo "round $n" >> src/a.txt
git add -A && git commit -qm "round $n"
echo "round $n" >> src/b.txt
set -- "$2" SCORES
out=$1; shift "$n"; echo "$1" > "$out"
test "$1" != bad
"#;

/// What was put in the place of a committed file goes before the result is judged, and is there again in the next round.
#[test]
fn each_round_sees_an_input_that_is_edited_and_not_committed() {
    let judge =
        "if grep -q 'edited twice' $in; then echo '{\"score\": 0.9}'; else echo '{\"score\": 0.2}'; fi";
    let space = repository(&eval(judge).replace("max_rounds = 1", "max_rounds = 2"));
    space.write("agent.sh", "echo ran >> \"$RAN\"\ncat plan.txt >> src/a.txt\necho $(cat plan.txt) $(test $(wc -l < \"$RAN\") = 2 && echo twice) > \"$2\"\n");
    commit(&space, "an agent that reads the plan");
    space.write("plan.txt", "edited\n");
    space.build().says(&["round 2 of 2"]);
    assert_eq!((ran(&space), space.read("notes.md")), (2, "edited twice\n".into()));
    // The plan itself is in no commit.
    assert_eq!(git(&space, &["show", "main:plan.txt"]), "a plan");
    assert_eq!(space.read("src/a.txt"), "a\nedited\nedited\n");
    assert_eq!(git(&space, &["status", "--porcelain"]), " M plan.txt");
    assert_nothing_left(&space);
    assert_idle(&space);
}

#[test]
fn the_best_round_of_refinement_is_what_is_merged() {
    for (scores, best, score, failures) in [
        ("0.8 0.85 0.9", 3, "0.9", 0),
        ("0.8 0.95 0.75", 2, "0.95", 0),
        ("0.9 0.3 0.2", 1, "0.9", 0),
        ("0.5 0.8 0.75", 2, "0.8", 1),
        // The last fails outright, and gets no usable score.
        ("0.9 0.8 bad", 1, "0.9", 2),
    ] {
        let judge = "echo \"{\\\"score\\\": $(cat $in)}\"";
        let space = repository(&format!(
            "isolate = true\n[task.fix.eval]\ncommand = '''{judge}'''\n[task.fix.refine]\nmax_rounds = 3"
        ));
        space.write("agent.sh", ROUNDS.replace("SCORES", scores));
        commit(&space, "an agent with rounds");
        let out = space.build();
        let lines = |first: &str| (1..=best).fold(first.to_owned(), |text, n| text + &format!("round {n}\n"));
        assert_eq!(
            (ran(&space), space.read("notes.md").trim(), space.read("src/a.txt"), space.read("src/b.txt")),
            (3, score, lines("a\n"), lines("b\n")),
            "{scores}: {out}"
        );
        assert_eq!(space.done("notes.md")["eval"]["score"].to_string(), score, "{scores}");
        assert_eq!(git(&space, &["status", "--porcelain"]), "", "{scores}");
        let told = if space.exists("failures.jsonl") { space.lines("failures.jsonl").len() } else { 0 };
        assert_eq!(told, failures, "{scores}: {out}");
        // What came after the best is not lost.
        let saved = git(&space, &["branch", "--list", "--format=%(refname:short)", "planexe/saved/*"]);
        assert_eq!(saved.is_empty(), best == 3, "{scores}: {out}");
        if best < 3 {
            out.says(&[&format!("round {best} of 3 was the best"), "later rounds", &saved]);
            assert!(git(&space, &["show", &format!("{saved}:src/a.txt")]).ends_with("round 3"), "{scores}");
            git(&space, &["branch", "-D", &saved]);
        }
        assert_nothing_left(&space);
        assert_idle(&space);
    }
}

#[test]
fn the_next_task_of_a_lane_begins_with_the_best_round() {
    let judge = "echo \"{\\\"score\\\": $(cat $in)}\"";
    let space = repository(&format!(
        "isolate = {{ lane = \"ui\" }}\n[task.fix.eval]\ncommand = '''{judge}'''\n[task.fix.refine]\nmax_rounds = 2\n\
         [task.after]\nkind = \"agent\"\nisolate = {{ lane = \"ui\" }}\ninputs = [\"notes.md\"]\noutputs = [\"after.md\"]\n\
         command = \"cp src/a.txt $out\""
    ));
    space.write("agent.sh", ROUNDS.replace("SCORES", "0.9 0.8"));
    commit(&space, "an agent with rounds");
    space.build();
    assert_eq!(
        (space.read("after.md"), space.read("src/b.txt")),
        ("a\nround 1\n".into(), "b\nround 1\n".into())
    );
    assert_idle(&space);
}
