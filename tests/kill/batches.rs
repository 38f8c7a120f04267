//! A build that makes its calls in batches, killed at every call by which it changes files, or with the power cut there:
//! the next plain build submits nothing a second time and asks nothing online, and no answer is lost. That it is killed at
//! every request is tried in `tests/e2e/batches.rs`.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use super::disk::{AllLost, Disk, Tree, read_tree, write_tree};
use super::support::Space;
use super::support::batching::{Vendor, vendors};
use super::trace::{self, Plan, Traced};
use super::{may_trace, name_of, plain_build, points, program};

const TASKS: usize = 3;

struct Case {
    vendor: Vendor,
    space: Space,
    before: Tree,
    after: BTreeMap<String, Vec<u8>>,
}

impl Case {
    fn new(vendor: Vendor) -> Case {
        let space = vendor.space(TASKS, "");
        space.edit("pipeline.toml", "settle = \"1s\"", "settle = \"20ms\"");
        let before = read_tree(space.dir());
        assert_eq!(plain_build(&space).0, 0);
        let after = space.tree();
        Case { vendor, space, before, after }
    }

    fn disturb(&self, plan: Plan) -> (Traced, String) {
        write_tree(self.space.dir(), &self.before);
        self.vendor.forget();
        let mut command = self.space.program(program().to_str().expect("a path"), &["build"]);
        let said_path = self.space.root().join("said");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said_path).expect("a file"));
        let disk = Disk::new(self.space.dir(), &self.before);
        let traced = trace::run(&mut command, self.space.dir(), disk, plan, &mut || {}).expect("to trace");
        let said = std::fs::read(&said_path).expect("what it said");
        (traced, String::from_utf8_lossy(&said).into_owned())
    }

    /// `cut`: of the power, which may cost the last lines of logs and the word that something is to be swept.
    fn check(&self, at: &str, cut: bool, faults: &mut Vec<String>) {
        let (code, said) = plain_build(&self.space);
        if code != 0 || said.contains("panicked") || said.contains("BUG") {
            faults.push(format!("{at}: the next build exits with {code}\n{said}"));
        }
        let submitted = self.vendor.submitted();
        if submitted.len() != TASKS || submitted.values().any(|times| *times != 1) {
            faults.push(format!("{at}: submitted {submitted:?}\n{said}"));
        }
        let online = self.vendor.state().online.clone();
        if !online.is_empty() {
            faults.push(format!("{at}: asked online {online:?}"));
        }
        if self.space.tree() != self.after {
            faults.push(format!("{at}: other outputs\n{said}"));
        }
        let left = self.space.files(".planexe/batches");
        if !left.is_empty() && !cut {
            faults.push(format!("{at}: left behind: {left:?}"));
        }
        let answers = self.booked();
        if answers > TASKS || (answers < TASKS && !cut) {
            faults.push(format!("{at}: {answers} answers are on the books"));
        }
        let requests = self.vendor.state().requests;
        if plain_build(&self.space).0 != 0 || self.vendor.state().requests != requests {
            faults.push(format!("{at}: a build with nothing to do does something"));
        }
    }

    fn booked(&self) -> usize {
        self.space.lines("usage_metrics.jsonl").iter().filter(|line| line["success"] == true).count()
    }

    /// Tries every `of`th point of the sample, from the `first` on.
    fn some(&self, sample: usize, first: usize, of: usize) -> Vec<String> {
        let (watched, said) = self.disturb(Plan::Watch);
        assert_eq!(watched.code, Some(0), "{said}");
        let count = watched.calls.len();
        let list = points(count, sample);
        let mut faults = Vec::new();
        for &at in list.iter().skip(first).step_by(of) {
            let plan = Plan::Kill(at);
            let (traced, _) = self.disturb(plan);
            self.check(&name_of(&traced, plan), false, &mut faults);
            let (traced, _) = self.disturb(plan);
            let name = format!("power cut: {}", name_of(&traced, plan));
            write_tree(self.space.dir(), &traced.disk.cut(&mut AllLost));
            self.check(&name, true, &mut faults);
        }
        eprintln!(
            "batches: {count} calls counted, {} points tried by {of}, {} faults",
            list.len(),
            faults.len()
        );
        faults
    }
}

/// Most of the time a batch is waited for, so several are tried at once.
#[test]
fn a_build_of_batches_is_killed_anywhere() {
    if !may_trace() {
        return;
    }
    let faults: Vec<String> = std::thread::scope(|scope| {
        let tries = vendors().flat_map(|dialect| (0..3).map(move |first| (dialect, first)));
        let tries: Vec<_> = tries
            .map(|(dialect, first)| scope.spawn(move || Case::new(Vendor::new(dialect)).some(9, first, 3)))
            .collect();
        tries.into_iter().flat_map(|tried| tried.join().expect("its faults")).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
