//! `slurm`, with scripted commands of Slurm's on the path. `scripts/slurm-check` drives a real one.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{FakeLlm, Space, until};

/// What all four scripts begin with. `away`: the controller does not answer. A job is a file `jobs/ID` with its state.
const BEGIN: &str = r#"#!/bin/sh
here=HERE
echo "${0##*/} $*" >> "$here/calls"
if [ -e "$here/away" ]; then echo "sbatch: error: Unable to contact slurm controller (connect failure)" >&2; exit 1; fi
"#;

/// Takes a job and starts it. `queue`: it waits; `deaf`: it is taken, and told to nobody; `die`: planexe is killed before
/// it hears of it; `drop`: and the job is not taken either.
const SBATCH: &str = r#"
n=1; while ! mkdir "$here/job.$n" 2>/dev/null; do n=$((n + 1)); done; echo $n > "$here/last"
name=; array=
for word; do case $word in --job-name=*) name=${word#*=} ;; --array=0-*) array=${word#*=0-} ;; esac; script=$word; done
if [ -e "$here/drop" ]; then rm "$here/drop"; kill -9 $PPID; exit 1; fi
cp "$script" "$here/script.$n"
start() {
    state=RUNNING; [ -e "$here/queue" ] && state=PENDING
    [ -e "$here/deaf" ] || echo "$1|$name|$state|n1|None" > "$here/jobs/$1"
    [ $state = PENDING ] && return
    SLURM_ARRAY_TASK_ID=$2 setsid sh -c 'echo $$ > "$2/pids/$3"; sh "$1"; [ -e "$2/jobs/$3" ] && sed -i "s/RUNNING/COMPLETED/" "$2/jobs/$3"' sh "$here/script.$n" "$here" "$1" > /dev/null 2>&1 < /dev/null &
}
if [ -n "$array" ]; then i=0; while [ $i -le "$array" ]; do start ${n}_$i $i; i=$((i + 1)); done; else start $n; fi
if [ -e "$here/die" ]; then rm "$here/die"; kill -9 $PPID; exit 1; fi
echo $n
"#;
const SQUEUE: &str = r#"cat "$here"/jobs/* 2>/dev/null; exit 0"#;
const SCANCEL: &str = r#"
for id; do
    if [ -e "$here/pids/$id" ]; then
        group=$(cat "$here/pids/$id"); n=0
        kill -s TERM -- "-$group" 2>/dev/null
        # Slurm says CANCELLED once its processes are gone.
        while [ ! -e "$here"/../run/.planexe/jobs/*/*/result.json ] && [ $n -lt 500 ]; do sleep 0.02; n=$((n + 1)); done
    fi
    sed -i 's/RUNNING\|PENDING/CANCELLED/' "$here/jobs/$id"
done
exit 0
"#;

struct Slurm {
    space: Space,
    here: PathBuf,
}

impl Slurm {
    fn new(tasks: &str) -> Slurm {
        let space = Space::new();
        let here = space.root().join("slurm");
        for folder in ["bin", "jobs", "pids"] {
            std::fs::create_dir_all(here.join(folder)).expect("a folder");
        }
        for (name, text) in [("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)] {
            let file = here.join("bin").join(name);
            let text = BEGIN.replace("HERE", &here.to_string_lossy()) + text;
            std::fs::write(&file, text).expect("a script");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("a mode");
        }
        let path = std::env::var("PATH").expect("a path");
        space.set_env("PATH", format!("{}:{path}", here.join("bin").display()));
        let table = "[executors.slurm]\ngrace = \"200ms\"\npoll = \"100ms\"\n";
        space.write("pipeline.toml", format!("{table}\n{tasks}"));
        space.write("plan.txt", "A plan.\n");
        Slurm { space, here }
    }

    fn set(&self, name: &str) {
        std::fs::write(self.here.join(name), "").expect(name);
    }

    fn unset(&self, name: &str) {
        std::fs::remove_file(self.here.join(name)).expect(name);
    }

    /// The calls of one of Slurm's commands.
    fn calls(&self, of: &str) -> Vec<String> {
        let calls = std::fs::read_to_string(self.here.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.split(' ').next() == Some(of)).map(str::to_owned).collect()
    }

    /// Runs the script of a job once more, as a queue does that puts it back.
    fn run_script(&self, job: &str) {
        let mut script =
            self.space.program("sh", &[&*self.here.join(format!("script.{job}")).to_string_lossy()]);
        script.status().expect("a shell");
    }

    fn says_of(&self, job: &str, state: &str) {
        let file = self.here.join("jobs").join(job);
        let row = std::fs::read_to_string(&file).expect("a job");
        std::fs::write(&file, row.replace("RUNNING", state)).expect("a job");
    }

    fn begun(&self, times: usize) {
        until("the program to begin", || (self.space.tally("starts") == times).then_some(()));
    }
}

const ONE: &str = r#"
[task.one]
inputs = ["plan.txt"]
outputs = ["one.txt"]
executor = "slurm"
command = "echo >> ../starts.log; while [ ! -e go ] && [ -e pipeline.toml ]; do sleep 0.02; done; cat $in > $out"
resources = { cpus = 4, memory = "2G", gpus = 1, time = "90m" }
"#;

#[test]
fn a_fan_out_is_one_array() {
    let server = FakeLlm::new();
    let slurm = Slurm::new(
        r#"
[task.each]
foreach = { file = "items.json" }
outputs = ["out/{{ key }}"]
executor = "slurm"
command = "echo >> ../starts.log; echo $key > $out"
"#,
    );
    slurm.space.write("items.json", "[1,2,3,4,5,6,7,8,9,10]");
    slurm.space.build();
    let calls = slurm.calls("sbatch");
    let in_arrays = |line: &&String| line.contains("--array=");
    assert!(calls.len() <= 3 && calls.iter().any(|line| in_arrays(&line)), "{calls:#?}");
    assert_eq!(slurm.space.tally("starts"), 10);
    slurm.space.assert_nothing_to_do(&server);
}

#[test]
fn a_job_is_told_what_it_takes_and_is_never_put_back() {
    let server = FakeLlm::new();
    let slurm = Slurm::new(ONE);
    slurm.space.write("go", "");
    slurm.space.build();
    let call = slurm.calls("sbatch").remove(0);
    let chdir = format!("--chdir={}", slurm.space.dir().display());
    for words in ["--no-requeue", "--cpus-per-task=4", "--mem=2048M", "--gpus=1", "--time=90", &chdir] {
        assert!(call.contains(words), "`{words}` is missing in {call}");
    }
    // Whatever its queue does: it runs once.
    slurm.run_script("1");
    assert_eq!(slurm.space.tally("starts"), 1);
    slurm.space.assert_nothing_to_do(&server);
}

#[test]
fn killed_between_the_submission_and_its_record_the_next_build_finds_the_job() {
    let slurm = Slurm::new(ONE);
    slurm.set("die");
    slurm.space.run(&["build"]).exits(137);
    slurm.begun(1);
    let build = slurm.space.spawn(&["build"]);
    until("the build to take it up", || build.stderr().contains("taken up again").then_some(()));
    slurm.space.write("go", "");
    build.wait().exits(0);
    assert_eq!((slurm.space.tally("starts"), slurm.calls("sbatch").len()), (1, 1));
}

#[test]
fn killed_before_slurm_took_it_the_next_build_submits_it_again() {
    let slurm = Slurm::new(ONE);
    slurm.set("drop");
    slurm.space.run(&["build"]).exits(137);
    slurm.space.write("go", "");
    slurm.space.build();
    assert_eq!((slurm.space.tally("starts"), slurm.calls("sbatch").len()), (1, 2));
    assert_eq!(slurm.space.read("one.txt"), "A plan.\n");
}

#[test]
fn a_job_that_comes_late_after_it_was_given_up_does_nothing() {
    let slurm = Slurm::new(ONE);
    // Taken, but neither told nor begun.
    slurm.set("queue");
    slurm.set("deaf");
    slurm.set("die");
    slurm.space.run(&["build"]).exits(137);
    slurm.unset("queue");
    slurm.unset("deaf");
    let build = slurm.space.spawn(&["build"]);
    slurm.begun(1);
    slurm.run_script("1");
    assert_eq!(slurm.space.tally("starts"), 1, "the first one was given up");
    slurm.space.write("go", "");
    build.wait().exits(0);
    slurm.run_script("1");
    assert_eq!((slurm.space.tally("starts"), slurm.space.read("one.txt")), (1, "A plan.\n".to_owned()));
}

#[test]
fn a_controller_that_is_away_is_no_failure() {
    let slurm = Slurm::new(ONE);
    slurm.set("away");
    let build = slurm.space.spawn(&["build"]);
    until("the build to say so", || {
        build.stderr().contains("does not answer, and is waited for").then_some(())
    });
    slurm.unset("away");
    slurm.begun(1);
    slurm.set("away");
    slurm.space.write("go", "");
    build.wait().exits(0);
    assert_eq!((slurm.space.tally("starts"), slurm.space.read("one.txt")), (1, "A plan.\n".to_owned()));
}

#[test]
fn a_lost_node_is_seen_and_its_copy_is_not_believed() {
    let server = FakeLlm::new();
    let slurm = Slurm::new(&ONE.replace("cat $in > $out", "{ cat $in; cat who; } > $out"));
    slurm.space.write("who", "the first\n");
    let build = slurm.space.spawn(&["build"]);
    slurm.begun(1);
    // With exit code 0, as Slurm tells it.
    slurm.says_of("1", "NODE_FAIL");
    slurm.begun(2);
    slurm.space.write("who", "both\n");
    slurm.space.write("go", "");
    build.wait().exits(0).says(&["Slurm says NODE_FAIL", "submitted again"]);
    assert_eq!(slurm.space.tally("starts"), 2);
    assert_eq!(slurm.space.read("one.txt"), "A plan.\nboth\n");
    slurm.space.assert_nothing_to_do(&server);
}

#[test]
fn an_end_that_slurm_tells_counts_for_nothing_without_a_result() {
    let slurm = Slurm::new(&ONE.replace("executor = ", "timeout = \"10m\"\nexecutor = "));
    slurm.space.edit("pipeline.toml", "[executors.slurm]\n", "[executors.slurm]\nresubmit = 0\n");
    let build = slurm.space.spawn(&["build"]);
    slurm.begun(1);
    slurm.says_of("1", "COMPLETED");
    build.wait().exits(1).says(&["lost on executor `slurm`", "without a result"]);
    assert!(!slurm.space.exists("one.txt"));
    slurm.space.write("go", "");
}

#[test]
fn a_job_that_is_cancelled_from_outside_fails_the_task() {
    let slurm = Slurm::new(ONE);
    let build = slurm.space.spawn(&["build"]);
    slurm.begun(1);
    let mut scancel = slurm.space.program(&slurm.here.join("bin/scancel").to_string_lossy(), &["1"]);
    scancel.status().expect("scancel");
    build.wait().exits(1).says(&["ended from outside"]);
    slurm.space.write("go", "");
    slurm.space.build();
    assert_eq!(slurm.space.tally("starts"), 2);
}

#[test]
fn a_stop_cancels_what_waits_in_the_queue() {
    let slurm = Slurm::new(ONE);
    slurm.set("queue");
    let build = slurm.space.spawn(&["build"]);
    until("it to be queued", || slurm.here.join("jobs/1").exists().then_some(()));
    until("the build to see it", || (slurm.calls("squeue").len() > 1).then_some(()));
    slurm.space.run(&["stop"]).exits(0);
    build.wait().exits(3);
    assert_eq!(slurm.calls("scancel"), ["scancel 1"]);
    assert_eq!(slurm.space.tally("starts"), 0);
}

#[test]
fn a_job_that_never_begins_fails_in_its_time() {
    let slurm = Slurm::new(ONE);
    slurm.space.edit("pipeline.toml", "[executors.slurm]\n", "[executors.slurm]\nstart_within = \"300ms\"\n");
    slurm.set("queue");
    slurm.space.run(&["build"]).exits(1).says(&["did not begin within start_within"]);
    assert_eq!(slurm.calls("scancel"), ["scancel 1"], "it waits for nobody");
    slurm.run_script("1");
    assert_eq!(slurm.space.tally("starts"), 0, "it was given up");
}
