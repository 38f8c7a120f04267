//! Isolated tasks, with planexe killed at every call by which it changes files, and so between any two things it has
//! git do: the next plain build ends as an undisturbed one, in files and in git. What had succeeded is only merged; what
//! was at work runs once more at most.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use super::disk::{Disk, Tree, read_tree, write_tree};
use super::support::Space;
use super::trace::{self, Plan, Traced};
use super::{is_temp, may_trace, name_of, plain_build, points, program};
use crate::support::until;

/// A lane of one, a lane of two, one of which reads the other's output, and a reader of all.
const PIPELINE: &str = r#"
[task.fix]
isolate = true
inputs  = ["plan.txt"]
outputs = ["fix.txt"]
command = "echo fix >> $RAN; echo fixed > src/a.txt; git add -A; git commit -qm own --allow-empty; echo b > src/new.txt; cat $in > $out"

[task.one]
isolate = { lane = "ui" }
inputs  = ["plan.txt"]
outputs = ["one.txt", "one.log"]
command = "echo one >> $RAN; echo one > src/one.txt; cat $in > $out.0; echo log > $out.1"

[task.two]
isolate = { lane = "ui" }
inputs  = ["one.txt"]
outputs = ["two.txt"]
command = "echo two >> $RAN; echo two > src/two.txt; cat $in > $out"

[task.end]
inputs  = ["fix.txt", "two.txt", "one.log"]
outputs = ["end.txt"]
command = "cat $in src/a.txt src/one.txt src/two.txt > $out"
"#;

/// An agent that is refined over three rounds. What it makes follows from its former output alone, wherever it was
/// killed: 0.5, then 0.9, then 0.7. Its evaluator takes its word for the score.
const ROUNDS: &str = r#"
[task.fix]
kind = "agent"
isolate = true
inputs  = ["plan.txt"]
outputs = ["fix.txt"]
command = """
was=$(cat "${PLANEXE_FORMER:-/dev/null}")
case $was in "") now=0.5;; 0.5) now=0.9;; *) now=0.7;; esac
echo fix >> $RAN
echo $now > src/a.txt; git add -A; git commit -qm own --allow-empty
echo $now > src/new.txt; echo $now > $out"""

[task.fix.eval]
command   = '''echo "{\"score\": $(cat $in)}"'''
threshold = 0.6

[task.fix.refine]
max_rounds = 3
until      = 1.0

[task.end]
inputs  = ["fix.txt"]
outputs = ["end.txt"]
command = "cat $in src/a.txt src/new.txt > $out"
"#;

struct Case {
    space: Space,
    /// Its isolated tasks, with how often each runs in an undisturbed build.
    tasks: BTreeMap<&'static str, usize>,
    before: Tree,
    after: BTreeMap<String, Vec<u8>>,
    git: Vec<String>,
}

fn git(space: &Space, args: &[&str]) -> String {
    let out = space.program("git", args).output().expect("git");
    let said = String::from_utf8_lossy(if out.status.success() { &out.stdout } else { &out.stderr });
    said.trim_end().to_owned()
}

/// What git has: the content of the base, how the checkout differs, and what there is beside.
fn git_state(space: &Space) -> Vec<String> {
    let ask = |args: &[&str]| git(space, args);
    vec![
        ask(&["rev-parse", "main^{tree}"]),
        ask(&["status", "--porcelain"]),
        ask(&["branch", "--format=%(refname)"]),
        ask(&["worktree", "list"]).lines().count().to_string(),
        ask(&["fsck", "--no-progress", "--no-dangling"]),
    ]
}

impl Case {
    fn new(prepare: impl FnOnce(&Space)) -> Case {
        Case::of(PIPELINE, &["fix", "one", "two"], prepare)
    }

    fn of(pipeline: &str, tasks: &[&'static str], prepare: impl FnOnce(&Space)) -> Case {
        let space = Space::new();
        space.write("pipeline.toml", pipeline);
        space.write("plan.txt", "a plan\n");
        space.write("src/a.txt", "a\n");
        space.write(
            ".gitignore",
            ".planexe/\n*.status\n*.DONE\n*.jsonl\nactivity_overview.json\nend.txt\none.log\n",
        );
        space.set_env("RAN", space.root().join("ran.log"));
        for args in [
            &["init", "-q", "-b", "main"][..],
            &["config", "user.name", "Ada"],
            &["config", "user.email", "ada@example.org"],
            &["config", "gc.auto", "0"],
            &["add", "-A"],
            &["commit", "-qm", "first"],
        ] {
            assert_eq!(git(&space, args), "", "{args:?}");
        }
        prepare(&space);
        let before = read_tree(space.dir());
        let _ = std::fs::remove_file(space.root().join("ran.log"));
        assert_eq!(plain_build(&space).0, 0);
        let (after, git) = (outputs(&space), git_state(&space));
        let mut case = Case { space, tasks: BTreeMap::new(), before, after, git };
        case.tasks = tasks.iter().map(|task| (*task, case.ran(task))).collect();
        case
    }

    fn ran(&self, task: &str) -> usize {
        let said = std::fs::read_to_string(self.space.root().join("ran.log")).unwrap_or_default();
        said.lines().filter(|line| *line == task).count()
    }

    fn disturb(&self, plan: Plan) -> (Traced, String) {
        write_tree(self.space.dir(), &self.before);
        let _ = std::fs::remove_file(self.space.root().join("ran.log"));
        let mut command = self.space.program(program().to_str().expect("a path"), &["build", "-j1"]);
        let said_path = self.space.root().join("said");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said_path).expect("a file"));
        let disk = Disk::new(self.space.dir(), &self.before);
        let traced = trace::run(&mut command, self.space.dir(), disk, plan, &mut || {}).expect("to trace");
        let said = std::fs::read(&said_path).expect("what it said");
        (traced, String::from_utf8_lossy(&said).into_owned())
    }

    /// Programs of the killed build end, git's among them.
    fn settle(&self) {
        until("the programs of the killed build to end", || {
            let here = std::fs::read_dir("/proc").ok()?.flatten().any(|entry| {
                let cwd = std::fs::read_link(entry.path().join("cwd"));
                cwd.is_ok_and(|cwd| cwd.starts_with(self.space.dir()))
            });
            (!here).then_some(())
        });
    }

    /// Whether it is written down that a task succeeded.
    fn succeeded(&self, task: &str) -> bool {
        let marker = format!("{task}.txt.DONE");
        let former = self.before.get(std::path::Path::new(&marker)).and_then(Option::as_ref);
        let done = std::fs::read(self.space.path(&marker))
            .is_ok_and(|now| former.is_none_or(|(old, _)| *old != now));
        let of_task = |path: &String| {
            path.starts_with(&format!(".planexe/partial/{task}-")) && path.ends_with("candidate.json")
        };
        done || self.space.files(".planexe/partial").iter().any(|path| {
            let path =
                if path.starts_with(".planexe") { path.clone() } else { format!(".planexe/partial/{path}") };
            of_task(&path) && self.space.read(&path).contains("\"success\"")
        })
    }

    fn check(&self, at: &str, faults: &mut Vec<String>) {
        // What has rounds succeeded with the first that was good enough, and went on.
        let most = |(task, times): (&&str, &usize)| match times {
            1 => self.ran(task) + usize::from(!self.succeeded(task)),
            times => times + 1,
        };
        let most: Vec<usize> = self.tasks.iter().map(most).collect();
        let (code, said) = plain_build(&self.space);
        if code != 0 || said.contains("panicked") || said.contains("BUG") {
            faults.push(format!("{at}: the next build exits with {code}\n{said}"));
        }
        for ((task, times), most) in self.tasks.iter().zip(most) {
            let ran = self.ran(task);
            if ran > most || ran > times + 1 || ran < *times {
                faults.push(format!("{at}: `{task}` ran {ran} times, {most} at most\n{said}"));
            }
        }
        if outputs(&self.space) != self.after {
            faults.push(format!("{at}: other outputs\n{said}"));
        }
        let (mut now, mut wanted) = (git_state(&self.space), self.git.clone());
        if self.tasks.values().any(|times| *times > 1) {
            // How many attempts left something to be put by depends on where they were killed.
            for state in [&mut now, &mut wanted] {
                let branches = state[2].lines().filter(|branch| !branch.contains("planexe/saved/"));
                state[2] = branches.collect::<Vec<_>>().join("\n");
            }
        }
        if now != wanted {
            faults.push(format!("{at}: git has {now:?}, wanted {wanted:?}\n{said}"));
        }
        let left: Vec<_> = self.space.files("").into_iter().filter(|path| is_temp(path)).collect();
        if !left.is_empty() {
            faults.push(format!("{at}: left behind: {left:?}"));
        }
        let (code, said) = plain_build(&self.space);
        if code != 0 || !said.contains("up to date") {
            faults.push(format!("{at}: a build with nothing to do does something ({code})\n{said}"));
        }
    }

    fn killed(&self, sample: usize) {
        let (watched, said) = self.disturb(Plan::Watch);
        assert_eq!(watched.code, Some(0), "{said}");
        let count = watched.calls.len();
        if std::env::var_os("PLANEXE_KILL_POINTS").is_some() {
            for (n, call) in watched.calls.iter().enumerate() {
                eprintln!("{n:4} {} {}", call.name, call.path);
            }
        }
        let mut faults = Vec::new();
        let list = points(count, sample);
        for &at in &list {
            let plan = Plan::Kill(at);
            let (traced, _) = self.disturb(plan);
            self.settle();
            self.check(&name_of(&traced, plan), &mut faults);
        }
        eprintln!("isolated: {count} calls counted, {} points tried, {} faults", list.len(), faults.len());
        assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), list.len(), faults.join("\n"));
    }
}

/// Outputs and the files of the repository.
fn outputs(space: &Space) -> BTreeMap<String, Vec<u8>> {
    let mut tree = space.tree();
    tree.retain(|path, _| !path.starts_with(".git/") && !path.starts_with(".planexe/"));
    tree
}

#[test]
fn killed_anywhere_an_isolated_task_is_merged_once() {
    if may_trace() {
        Case::new(|_| ()).killed(24);
    }
}

#[test]
fn killed_anywhere_while_it_is_made_again() {
    if may_trace() {
        Case::new(|space| {
            assert_eq!(plain_build(space).0, 0);
            space.write("plan.txt", "another plan\n");
            assert_eq!(git(space, &["commit", "-qam", "another plan"]), "");
        })
        .killed(12);
    }
}

#[test]
fn killed_anywhere_the_best_round_of_refinement_is_merged() {
    if may_trace() {
        let case = Case::of(ROUNDS, &["fix"], |_| ());
        assert_eq!((case.tasks["fix"], case.after["end.txt"].as_slice()), (3, &b"0.9\n0.9\n0.9\n"[..]));
        case.killed(7);
    }
}
