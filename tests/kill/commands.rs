//! Commands that change a run, disturbed at every call by which they do: what they leave, a plain build takes up, and
//! the same command typed again does the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Stdio;

use super::disk::{AllLost, Disk, Fate, Seeded, Tree, read_tree, write_tree};
use super::support::{FakeLlm, Space};
use super::trace::{self, Plan, Traced};
use super::{
    ERRORS, all_points, answers, is_temp, may_trace, name_of, plain_build, points, program, space, start_anew,
};

type Outputs = BTreeMap<String, Vec<u8>>;

/// A command over a built run.
struct Case {
    args: Vec<String>,
    server: FakeLlm,
    space: Space,
    before: Tree,
    /// Outputs before, after the command, after the command and a build, and after a build without the command.
    former: Outputs,
    between: Outputs,
    after: Outputs,
    without: Outputs,
    /// Calls of a build after the command, and of one without it.
    calls: usize,
    calls_without: usize,
    /// How a build without the command ends: 0, or 3 if it waits for a person.
    code_without: i32,
}

impl Case {
    fn of(args: &[&str], prepare: impl FnOnce(&Space)) -> Case {
        let server = FakeLlm::scripted(answers);
        let space = space(&server, "A tunnel.");
        assert_eq!(plain_build(&space).0, 0);
        space.write("plan.txt", "A bridge over the river.");
        space.write("new.txt", "A ferry.");
        assert_eq!(plain_build(&space).0, 0);
        prepare(&space);
        let id =
            |n: usize| space.lines(".planexe/checkpoints.jsonl")[n]["id"].as_str().expect("an id").to_owned();
        let args: Vec<String> = args.iter().map(|arg| arg.replace("CHECKPOINT", &id(4))).collect();
        let (before, former) = (read_tree(space.dir()), space.tree());
        let mut case = Case {
            args,
            server,
            space,
            before,
            former,
            between: Outputs::new(),
            after: Outputs::new(),
            without: Outputs::new(),
            calls: 0,
            calls_without: 0,
            code_without: 0,
        };
        (case.without, case.calls_without, case.code_without) = case.build();
        write_tree(case.space.dir(), &case.before);
        let (code, said) = case.again();
        assert_eq!(code, 0, "{said}");
        case.between = case.space.tree();
        let code;
        (case.after, case.calls, code) = case.build();
        assert_eq!(code, 0);
        case
    }

    fn build(&self) -> (Outputs, usize, i32) {
        let calls = self.asked();
        let (code, said) = plain_build(&self.space);
        assert!(code == 0 || code == 3, "{code}\n{said}");
        (self.space.tree(), self.asked() - calls, code)
    }

    /// Calls so far. An agent whose files are lost runs again, and what it makes then has no verdict yet.
    fn asked(&self) -> usize {
        self.server.total() - self.server.count("score agent")
    }

    /// The command, not disturbed.
    fn again(&self) -> (i32, String) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut command = self.space.program(program().to_str().expect("a path"), &args);
        let out = command.stdin(Stdio::null()).output().expect("planexe");
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    fn disturb(&self, plan: Plan) -> (Traced, String) {
        write_tree(self.space.dir(), &self.before);
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut command = self.space.program(program().to_str().expect("a path"), &args);
        let said_path = self.space.root().join("said");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said_path).expect("a file"));
        let disk = Disk::new(self.space.dir(), &self.before);
        let traced = trace::run(&mut command, self.space.dir(), disk, plan, &mut || {}).expect("to trace");
        let said = std::fs::read(&said_path).expect("what it said");
        (traced, String::from_utf8_lossy(&said).into_owned())
    }

    /// What must hold after any disturbance.
    fn check(&self, at: &str, faults: &mut Vec<String>) {
        let left = read_tree(self.space.dir());
        for (path, bytes) in self.space.tree() {
            let known = [&self.former, &self.between, &self.after, &self.without]
                .into_iter()
                .any(|all| all.get(&path) == Some(&bytes));
            if !known && !is_temp(&path) {
                faults.push(format!("{at}: `{path}` is neither old nor new"));
            }
        }
        // A build takes up what is left.
        let calls = self.asked();
        let (code, said) = plain_build(&self.space);
        let calls = self.asked() - calls;
        let ends = code == 0 || code == self.code_without;
        if !ends || said.contains("panicked") || said.contains("BUG") {
            faults.push(format!("{at}: the next build ends with {code}\n{said}"));
        }
        if calls > self.calls.max(self.calls_without) {
            faults.push(format!("{at}: {calls} calls, {} without a disturbance", self.calls));
        }
        // Temporary files are looked at apart.
        let outputs = || {
            let mut tree = self.space.tree();
            tree.retain(|path, _| !is_temp(path));
            tree
        };
        let tree = outputs();
        for (path, bytes) in &tree {
            if self.after.get(path) != Some(bytes) && self.without.get(path) != Some(bytes) {
                faults.push(format!("{at}: `{path}` is as it should never be\n{said}"));
            }
        }
        let names = |tree: &Outputs| tree.keys().cloned().collect::<BTreeSet<_>>();
        if names(&tree) != names(&self.after) && names(&tree) != names(&self.without) {
            faults.push(format!("{at}: other outputs\n{said}"));
        }
        self.check_temps(at, faults);
        // The same command again does the rest.
        write_tree(self.space.dir(), &left);
        let (code, said) = self.again();
        if code != 0 {
            faults.push(format!("{at}: again it ends with {code}\n{said}"));
            return;
        }
        let (code, said) = plain_build(&self.space);
        if code != 0 || outputs() != self.after {
            faults.push(format!("{at}: typed again, it ends in something else ({code})\n{said}"));
        }
        self.check_temps(at, faults);
    }

    fn check_temps(&self, at: &str, faults: &mut Vec<String>) {
        let temps: Vec<_> = self.space.files("").into_iter().filter(|path| is_temp(path)).collect();
        if !temps.is_empty() {
            faults.push(format!("{at}: left behind: {temps:?}"));
        }
    }

    fn try_points(&self, what: &str, sample: usize, mut one: impl FnMut(usize, &mut Vec<String>) -> bool) {
        let (watched, said) = self.disturb(Plan::Watch);
        assert_eq!(watched.code, Some(0), "{said}");
        let count = watched.calls.len();
        let mut faults = Vec::new();
        let mut reached = 0;
        for at in points(count, sample) {
            reached += usize::from(one(at, &mut faults));
        }
        eprintln!(
            "{what}, {}: {count} calls counted, {reached} points tried, {} faults",
            self.args.join(" "),
            faults.len()
        );
        assert_eq!(reached, points(count, sample).len(), "points tried and calls counted");
        assert!(faults.is_empty(), "{} of {reached}:\n{}", faults.len(), faults.join("\n"));
    }

    fn all(&self, sample: usize) {
        self.try_points("kill -9", sample, |at, faults| {
            let plan = Plan::Kill(at);
            let (traced, _) = self.disturb(plan);
            let at = format!("kill -9: {}", name_of(&traced, plan));
            self.check(&at, faults);
            traced.hit(plan).is_some()
        });
        self.try_points("torn write", sample, |at, faults| {
            let plan = Plan::Torn(at);
            let (traced, _) = self.disturb(plan);
            let at = format!("torn: {}", name_of(&traced, plan));
            if traced.hit(plan).is_some_and(|call| call.moves) {
                self.check(&at, faults);
            }
            traced.hit(plan).is_some()
        });
        for lost in [true, false] {
            self.try_points(
                if lost { "power cut, all lost" } else { "power cut, some lost" },
                sample,
                |n, faults| {
                    let plan = Plan::Kill(n);
                    let (traced, _) = self.disturb(plan);
                    let at = format!("power cut: {}", name_of(&traced, plan));
                    let reached = traced.hit(plan).is_some();
                    let mut fate: Box<dyn Fate> =
                        if lost { Box::new(AllLost) } else { Box::new(Seeded(7 << 32 | n as u64)) };
                    let mut left = traced.disk.cut(&mut *fate);
                    start_anew(&mut left);
                    write_tree(self.space.dir(), &left);
                    self.check_after_power(&at, faults);
                    reached
                },
            );
        }
        for sticky in [false, true] {
            for (errno, words) in if all_points() { &ERRORS[..] } else { &ERRORS[..1] } {
                self.try_points(&format!("fails ({words}, sticky {sticky})"), sample, |at, faults| {
                    let plan = Plan::Fail { at, errno: *errno, sticky };
                    let (traced, said) = self.disturb(plan);
                    let at = name_of(&traced, plan);
                    if traced.hung || said.contains("panicked") || said.contains("BUG") {
                        faults.push(format!("{at}: hangs or panics\n{said}"));
                    }
                    match traced.code {
                        Some(0) => {}
                        Some(1) if said.contains(words) => {}
                        other => faults.push(format!("{at}: ended with {other:?}\n{said}")),
                    }
                    self.check(&at, faults);
                    traced.hit(plan).is_some()
                });
            }
        }
    }

    /// The same, but for temporary files: the word that something was under way may be lost too.
    fn check_after_power(&self, at: &str, faults: &mut Vec<String>) {
        let mut found = Vec::new();
        self.check(at, &mut found);
        found.retain(|fault| !fault.contains("left behind"));
        faults.append(&mut found);
    }
}

fn sample(most: usize) -> usize {
    if all_points() { 0 } else { most }
}

#[test]
fn clean_is_disturbed() {
    if may_trace() {
        Case::of(&["clean", "facts", "review", "page", "-y"], |_| {}).all(sample(4));
    }
}

#[test]
fn restore_of_a_task_is_disturbed() {
    if may_trace() {
        Case::of(&["restore", "facts", "page"], |_| {}).all(sample(3));
    }
}

#[test]
fn restore_of_a_checkpoint_is_disturbed() {
    if may_trace() {
        Case::of(&["restore", "--checkpoint", "CHECKPOINT"], |_| {}).all(sample(4));
    }
}

#[test]
fn gc_is_disturbed() {
    if may_trace() {
        Case::of(&["gc", "--older-than", "0s", "--max-size", "0"], |_| {}).all(sample(3));
    }
}

#[test]
fn edit_plan_is_disturbed() {
    if may_trace() {
        Case::of(&["edit-plan", "--set", "new.txt", "--none"], |_| {}).all(sample(4));
        Case::of(&["edit-plan", "--set", "new.txt", "--invalidate-from", "review"], |_| {}).all(sample(3));
    }
}

#[test]
fn done_is_disturbed() {
    let human = r#"
[task.sign_off]
inputs  = ["facts.json"]
outputs = ["signed.txt"]
human   = "Read facts.json, then write signed.txt"

[task.published]
inputs  = ["signed.txt"]
outputs = ["published.txt"]
command = "cat $in > $out"
"#;
    let waiting = |space: &Space| {
        space.write("pipeline.toml", space.read("pipeline.toml") + human);
        assert_eq!(plain_build(space).0, 3);
        space.write("signed.txt", "J. Doe\n");
    };
    if may_trace() {
        Case::of(&["done", "sign_off"], waiting).all(sample(4));
    }
}

#[test]
fn touch_and_retry_are_disturbed() {
    if may_trace() {
        let edited = |space: &Space| space.write("plan.txt", "A ford.");
        Case::of(&["touch", "facts"], edited).all(sample(3));
        Case::of(&["retry", "end"], |_| {}).all(sample(3));
    }
}
