//! `planexe execute`, killed at every call by which it changes files, or with the power cut there: typed again it makes
//! the same project as undisturbed, takes nothing of its own for an edit by hand, and touches nothing that is one.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use serde_json::json;

use super::disk::{AllLost, Disk, Tree, read_tree, write_tree};
use super::support::Space;
use super::trace::{self, Plan, Traced};
use super::{all_points, is_temp, may_trace, name_of, plain_build, points, program};

const PIPELINE: &str = r#"
[task.tree]
inputs = { x = "in/tree.json" }
outputs = ["wbs_project_level1_and_level2_and_level3.json"]
template = "{{ x | tojson }}"

[task.schedule]
inputs = { x = "in/schedule.json" }
outputs = ["schedule.json"]
template = "{{ x | tojson }}"

[task.summary]
outputs = ["plan_summary.json"]
template = '{"goal": "Bread", "go_no_go": {"verdict": "go"}}'
"#;

/// A plan of one phase with so many tasks of two steps.
fn set_plan(space: &Space, tasks: std::ops::Range<u32>, result: &str) {
    let step =
        |title: &str| json!({"wbs": "1", "title": title, "description": "How.", "result": result, "days": 2});
    let task = |n: u32| {
        json!({"id": format!("task-{n}"), "wbs": "1.1", "title": format!("Task {n}"), "description": "What.", "owner": "ann",
               "owner_title": "Ann", "done_when": "It is there.", "subtasks": [step("Draft it"), step("Sign it")]})
    };
    let row = |n: u32| json!({"id": format!("task-{n}"), "start": "2027-03-01", "finish": "2027-03-12", "waits_for": []});
    let all: Vec<_> = tasks.clone().map(task).collect();
    let phase = json!({"id": "one", "wbs": "1", "title": "One", "objective": "Begin", "tasks": all});
    let tree = json!({"project_title": "Bakery", "final_deliverable": "A shop", "phases": [phase]});
    let rows: Vec<_> = tasks.map(row).collect();
    space.write("in/tree.json", tree.to_string());
    space.write("in/schedule.json", json!({"tasks": rows, "ignored": [], "deadlines": []}).to_string());
    assert_eq!(plain_build(space).0, 0);
}

struct Case {
    space: Space,
    before: Tree,
    after: BTreeMap<String, Vec<u8>>,
}

impl Case {
    /// The project is made anew from a plan that changed in part, or for the first time.
    fn new(again: bool) -> Case {
        let space = Space::new();
        space.write("pipeline.toml", PIPELINE);
        set_plan(&space, 0..3, "A draft");
        let mut case = Case { space, before: Tree::new(), after: BTreeMap::new() };
        if again {
            assert_eq!(case.execute().0, 0);
            case.space.write("work/execution.toml", "kind = \"human\"\n");
            case.space.write("work/deliverables/task-1.sign-it.md", "signed\n");
            set_plan(&case.space, 1..4, "A better draft");
        }
        case.before = read_tree(case.space.dir());
        assert_eq!(case.execute().0, 0);
        case.after = case.made();
        case
    }

    fn execute(&self) -> (i32, String) {
        let mut command =
            self.space.program(program().to_str().expect("a path"), &["execute", "--into", "work"]);
        let out = command.stdin(Stdio::null()).output().expect("planexe");
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    /// The project's files.
    fn made(&self) -> BTreeMap<String, Vec<u8>> {
        let mut tree = self.space.tree();
        tree.retain(|path, _| {
            path.starts_with("work/") && !path.starts_with("work/.planexe/") && !is_temp(path)
        });
        tree
    }

    fn disturb(&self, plan: Plan) -> (Traced, String) {
        write_tree(self.space.dir(), &self.before);
        let mut command =
            self.space.program(program().to_str().expect("a path"), &["execute", "--into", "work"]);
        let said_path = self.space.root().join("said");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said_path).expect("a file"));
        let disk = Disk::new(self.space.dir(), &self.before);
        let traced = trace::run(&mut command, self.space.dir(), disk, plan, &mut || {}).expect("to trace");
        let said = std::fs::read(&said_path).expect("what it said");
        (traced, String::from_utf8_lossy(&said).into_owned())
    }

    /// `torn`: a file may hold a part of what it is to hold, until it is typed again.
    fn check(&self, at: &str, torn: bool, faults: &mut Vec<String>) {
        for (path, bytes) in self.made().iter().filter(|_| !torn) {
            let old = self.before.get(std::path::Path::new(path)).and_then(Option::as_ref);
            let of_list = path == "work/plan/generated.json";
            if !of_list && self.after.get(path) != Some(bytes) && old.is_none_or(|(old, _)| old != bytes) {
                faults.push(format!("{at}: `{path}` is neither old nor new"));
            }
        }
        let (code, said) = self.execute();
        if code != 0 || said.contains("edited") || said.contains("panicked") {
            faults.push(format!("{at}: typed again it exits with {code}\n{said}"));
            return;
        }
        let made = self.made();
        if made != self.after {
            let other: Vec<&String> = made
                .keys()
                .chain(self.after.keys())
                .filter(|path| made.get(*path) != self.after.get(*path))
                .collect();
            faults.push(format!("{at}: another project: {other:?}\n{said}"));
        }
        let (code, said) = self.execute();
        if code != 0 || !said.contains("nothing to change") {
            faults.push(format!("{at}: a third time there is something to do\n{said}"));
        }
        // Those in `.planexe` are the next build's to tidy up.
        let left: Vec<_> = {
            let mut left = self.space.files("work");
            left.retain(|path| is_temp(path) && !path.starts_with("work/.planexe/"));
            left
        };
        if !left.is_empty() && !torn {
            faults.push(format!("{at}: left behind: {left:?}"));
        }
    }

    fn all(&self, sample: usize) {
        let (watched, said) = self.disturb(Plan::Watch);
        assert_eq!(watched.code, Some(0), "{said}");
        let count = watched.calls.len();
        let list = points(count, if all_points() { 0 } else { sample });
        let mut faults = Vec::new();
        for &at in &list {
            let plan = Plan::Kill(at);
            let (traced, _) = self.disturb(plan);
            self.check(&name_of(&traced, plan), false, &mut faults);
            let (traced, _) = self.disturb(plan);
            let name = format!("power cut: {}", name_of(&traced, plan));
            write_tree(self.space.dir(), &traced.disk.cut(&mut AllLost));
            self.check(&name, true, &mut faults);
        }
        eprintln!("execute: {count} calls counted, {} points tried, {} faults", list.len(), faults.len());
        assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), list.len(), faults.join("\n"));
    }
}

#[test]
fn execute_is_killed_anywhere() {
    if may_trace() {
        Case::new(false).all(16);
    }
}

#[test]
fn execute_is_killed_anywhere_while_it_makes_a_project_again() {
    if may_trace() {
        Case::new(true).all(16);
    }
}
