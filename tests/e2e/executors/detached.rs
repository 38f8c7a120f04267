//! `detached`: an attempt that goes on when planexe ends, is taken up by the next build, and is believed once.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{FakeLlm, Space, until};

/// A task that says that it starts, waits to be let go, and writes.
const WAITS: &str = r#"
[task.long]
inputs = ["plan.txt"]
outputs = ["long.txt"]
executor = "detached"
command = "echo >> ../starts.log; echo at work; while [ ! -e go ] && [ -e pipeline.toml ]; do sleep 0.02; done; cat $in > $out"

[task.after]
inputs = ["long.txt"]
outputs = ["after.txt"]
command = "cp $in $out"
"#;

fn waits() -> Space {
    let space = Space::new();
    space.write("pipeline.toml", WAITS);
    space.write("plan.txt", "A plan.\n");
    space
}

fn begun(space: &Space, times: usize) {
    until("the program to begin", || (space.tally("starts") == times).then_some(()));
}

/// The folder of the one job there is.
fn job(space: &Space) -> PathBuf {
    let of_task = std::fs::read_dir(space.path(".planexe/jobs")).expect("jobs").next().expect("a task");
    let mut jobs = std::fs::read_dir(of_task.expect("a task").path()).expect("jobs of the task");
    let job = jobs.next().expect("a job").expect("a job").path();
    assert!(jobs.next().is_none(), "more than one job");
    job
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn supervisor(space: &Space) -> Pid {
    let claim = std::fs::read_to_string(job(space).join("claim")).expect("a claim");
    let claim: serde_json::Value = serde_json::from_str(&claim).expect("JSON");
    Pid::from_raw(claim["pid"].as_i64().expect("a pid") as i32).expect("a pid")
}

fn gone(pid: Pid) {
    until("the process to end", || rustix::process::test_kill_process(pid).is_err().then_some(()));
}

fn no_job_is_left(space: &Space) {
    let jobs = std::fs::read_dir(space.path(".planexe/jobs"));
    assert_eq!(jobs.map_or(0, Iterator::count), 0, "jobs are left");
}

#[test]
fn a_detached_task_is_made_as_any_other() {
    let server = FakeLlm::new();
    let space = waits();
    space.write("go", "");
    space.build();
    assert_eq!(
        (space.read("long.txt"), space.read("after.txt")),
        ("A plan.\n".to_owned(), "A plan.\n".to_owned())
    );
    assert_eq!(space.tally("starts"), 1);
    no_job_is_left(&space);
    space.run(&["gantt"]).exits(0).says(&["long on detached"]);
    assert_eq!(space.run(&["gantt", "--json"]).json()["rows"][0]["executor"], "detached");
    space.assert_nothing_to_do(&server);
}

#[test]
fn its_failures_are_told_as_those_of_any_other() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[defaults]
executor = "detached"

[task.fails]
outputs = ["a"]
command = "echo the words >&2; exit 3"

[task.nothing]
outputs = ["b"]
command = "true $out"

[task.late]
outputs = ["c"]
command = "sleep 600; echo > $out"
timeout = "300ms"

[task.unknown]
outputs = ["d"]
command = ["no-such-program", "$out"]

[task.stdout]
outputs = ["e"]
stdout = true
env = { WORD = "of the table" }
command = "echo $WORD"

[task.in_place]
outputs = ["f"]
command = "echo $PWD > f"
"#,
    );
    let out = space.run(&["build"]).exits(1);
    out.says(&["exit code 3: the words", "was not written", "not done after", "cannot be started"]);
    assert_eq!(space.read("e"), "of the table\n");
    assert_eq!(space.read("f").trim(), space.dir().to_string_lossy());
    no_job_is_left(&space);
}

#[test]
fn a_build_that_is_killed_leaves_it_running_and_the_next_takes_it_up() {
    let server = FakeLlm::new();
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    let own = supervisor(&space);
    build.kill9();
    let status = space.status("long");
    assert_eq!(
        (&status["state"], &status["executor"]["name"]),
        (&"running".into(), &"detached".into()),
        "{status:#}"
    );
    assert_eq!(status["executor"]["job"], own.as_raw_nonzero().to_string(), "{status:#}");
    let doctor = space.run(&["doctor", "--offline"]);
    assert!(doctor.stdout.contains("1 task left running by an earlier build"), "{doctor}");
    let follow = space.spawn(&["show", "long", "--follow"]);
    until("what it says", || follow.stdout().contains("at work").then_some(()));
    let build = space.spawn(&["build"]);
    until("the build to take it up", || build.stderr().contains("taken up again").then_some(()));
    assert_eq!(supervisor(&space), own);
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!((space.tally("starts"), space.read("long.txt")), (1, "A plan.\n".to_owned()));
    no_job_is_left(&space);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_ended_while_no_build_ran_is_taken_without_a_start() {
    let server = FakeLlm::new();
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    build.kill9();
    space.write("go", "");
    until("its result", || job(&space).join("result.json").exists().then_some(()));
    assert!(!space.exists("long.txt"), "only a build gives an output its name");
    space.build().says(&["ended while no build ran"]);
    assert_eq!((space.tally("starts"), space.read("after.txt")), (1, "A plan.\n".to_owned()));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_interrupt_leaves_it_running_and_says_so() {
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    build.signal(Signal::INT);
    build.wait().exits(130).says(&["goes on without this build", "planexe build", "planexe stop"]);
    let own = supervisor(&space);
    rustix::process::test_kill_process(own).expect("it lives");
    space.write("go", "");
    space.build();
    assert_eq!(space.tally("starts"), 1);
}

#[test]
fn stop_ends_what_was_left_running() {
    let server = FakeLlm::new();
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    build.kill9();
    let own = supervisor(&space);
    space.run(&["stop"]).exits(0).says(&["1 task left running ended"]);
    gone(own);
    space.write("go", "");
    space.build();
    assert_eq!(space.tally("starts"), 2, "what was ended is not believed");
    space.assert_nothing_to_do(&server);
}

#[test]
fn stop_lets_it_finish_while_a_build_runs_and_a_hard_abort_ends_it() {
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    space.run(&["stop"]).exits(0);
    until("the build to say that it stops", || build.stderr().contains("stop").then_some(()));
    space.write("go", "");
    build.wait().exits(3);
    assert!(space.is_done("long.txt") && !space.exists("after.txt"));

    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    let own = supervisor(&space);
    space.run(&["abort", "--hard"]).exits(0);
    build.wait().exits(3);
    gone(own);
    assert!(!space.exists("long.txt"));
}

#[test]
fn an_edit_ends_it_and_what_it_writes_is_not_believed() {
    let server = FakeLlm::new();
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    let own = supervisor(&space);
    build.kill9();
    space.write("plan.txt", "Another plan.\n");
    let build = space.spawn(&["build"]);
    begun(&space, 2);
    gone(own);
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!(space.read("long.txt"), "Another plan.\n");
    space.assert_nothing_to_do(&server);
}

/// Whoever wants a task made again wants no result of what was begun before.
#[test]
fn what_is_to_be_made_again_is_not_taken_up() {
    for (command, build, ended) in [
        (&["clean", "long", "-y"][..], &["build"][..], false),
        (&["retry", "long"], &["build"], false),
        (&["retry", "long"], &["build"], true),
        (&["status"], &["build", "-B"], false),
        (&["status"], &["build", "-B"], true),
    ] {
        let server = FakeLlm::new();
        let space = waits();
        let first = space.spawn(&["build"]);
        begun(&space, 1);
        let own = supervisor(&space);
        first.kill9();
        if ended {
            space.write("go", "");
            until("its result", || job(&space).join("result.json").exists().then_some(()));
        }
        space.run(command).exits(0);
        let second = space.spawn(build);
        begun(&space, 2);
        if !ended {
            gone(own);
        }
        space.write("go", "");
        let out = second.wait().exits(0);
        assert!(!out.stderr.contains("on `detached`"), "{command:?} {build:?}: {out}");
        assert_eq!((space.tally("starts"), space.read("long.txt")), (2, "A plan.\n".to_owned()));
        no_job_is_left(&space);
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn what_is_begun_of_an_item_that_is_gone_ends() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.each]\nforeach = { file = \"items.json\" }\nexecutor = \"detached\"\noutputs = [\"each/{{ key }}.txt\"]\n\
         command = \"echo >> ../starts.log; until test -e go || ! test -e pipeline.toml; do sleep 0.02; done; echo $key > $out\"\n",
    );
    space.write("items.json", "[\"a\", \"b\"]");
    let build = space.spawn(&["build"]);
    begun(&space, 2);
    build.kill9();
    space.write("items.json", "[\"a\"]");
    let build = space.spawn(&["build"]);
    // Nobody says go.
    let ended = || {
        let jobs: Vec<_> = walk(&space.path(".planexe/jobs"));
        (jobs.iter().filter(|path| path.ends_with("result.json")).count() == 1).then_some(())
    };
    until("b to end", ended);
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!(space.tally("starts"), 2);
    space.run(&["build", "-q"]).exits(0);
}

#[test]
fn a_supervisor_that_is_killed_is_seen_and_the_attempt_begins_anew() {
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    kill_process(supervisor(&space), Signal::KILL).expect("kill");
    begun(&space, 2);
    space.write("go", "");
    build.wait().exits(0).says(&[
        "lost on executor `detached`",
        "its supervisor was killed",
        "submitted again",
    ]);
    assert_eq!(space.read("long.txt"), "A plan.\n");
}

#[test]
fn a_job_of_another_boot_has_ended() {
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    build.kill9();
    let own = supervisor(&space);
    kill_process(own, Signal::KILL).expect("kill");
    gone(own);
    let claim = job(&space).join("claim");
    let mut said: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&claim).expect("a claim")).expect("JSON");
    said["boot_id"] = "another".into();
    // The number is another process's by now.
    said["pid"] = std::process::id().into();
    std::fs::write(&claim, said.to_string()).expect("a claim");
    space.write("go", "");
    space.build().says(&["started anew", "submitted again"]);
    assert_eq!(space.tally("starts"), 2);
    rustix::process::test_kill_process(rustix::process::getpid()).expect("nobody was signalled");
}

#[test]
fn a_result_under_another_fence_is_not_believed() {
    let space = waits();
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    let folder = job(&space);
    let old = r#"{"schema":1,"fence":"of an old copy","attempt":1,"end":{"exited":0},"host":"x","ended_utc":"","outputs":[]}"#;
    std::fs::write(folder.join("result.json"), old).expect("a forged result");
    build.kill9();
    let build = space.spawn(&["build"]);
    until("the build to take it up", || build.stderr().contains("still runs").then_some(()));
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!((space.tally("starts"), space.read("long.txt")), (1, "A plan.\n".to_owned()));
}

#[test]
fn clocks_go_on_while_no_build_runs() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.late]\noutputs = [\"late\"]\nexecutor = \"detached\"\ntimeout = \"1s\"\n\
         command = \"echo >> ../starts.log; sleep 600; echo > $out\"\n",
    );
    let build = space.spawn(&["build"]);
    begun(&space, 1);
    build.kill9();
    until("its time to be over", || job(&space).join("result.json").exists().then_some(()));
    space.run(&["build"]).exits(1).says(&["not done after 1"]);
    assert_eq!(space.tally("starts"), 1);
}

#[test]
fn all_commands_of_a_build_can_be_sent_elsewhere() {
    let space = Space::new();
    let task = |name: &str, keys: &str| format!("[task.{name}]\noutputs = [\"{name}.txt\"]\n{keys}\n\n");
    space.write(
        "pipeline.toml",
        task("a", "command = \"echo $PLANEXE_TASK > $out\"")
            + &task("b", "in_place = true\ncommand = \"echo b > b.txt\""),
    );
    let out = space.run(&["build", "--executor", "detached", "--json"]).exits(0);
    assert_eq!((space.read("b.txt").as_str(), out.stderr.contains("in place")), ("b\n", false), "{out}");
    assert!(
        space.report()["tasks"]
            .as_array()
            .is_some_and(|tasks| tasks.iter().all(|task| task["state"] == "done"))
    );
    space.run(&["build"]).exits(0).says(&["up to date"]);
    no_job_is_left(&space);
}
