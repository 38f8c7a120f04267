//! Random pipelines under random changes, held against a model of what must run. The model knows the rules of
//! docs/design.md and nothing of how planexe remembers; each command says in a log outside the run that it ran.
//!
//! After each change the caches as they are, none, and damaged ones must lead to the same verdicts; the build after it
//! runs what the model says, leaves what the model computes, loses nothing that was there, and leaves nothing to do.
//! `PLANEXE_SEEDS=10..50 cargo test --test e2e any_change` tries others, one by one: the same seed is the same story.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, FileTimes};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use self::plan::{Files, LISTS, Leaves, Over, Plan, Recipe, Task, Unit, Units, passes};
use crate::random::Rng;
use crate::support::{Out, Space};

mod plan;

/// How long tasks took is in a file of its own, and in no verdict.
const CACHES: [&str; 1] = ["index"];

/// What the model knows of a task or item that was done.
#[derive(Clone, Debug, Default)]
struct Record {
    made_of: String,
    evaluated_by: Option<String>,
    /// The marker as planexe wrote it.
    marker: Vec<u8>,
    /// planexe was told to change it: either verdict will do.
    open: bool,
    /// A kill may have left what waits for its evaluator.
    left: bool,
    /// What a gate warned of, as far as is known.
    warning: Option<Option<String>>,
}

/// A story: a run, what planexe should know of it, and what happened so far.
struct Story {
    seed: u64,
    space: Space,
    plan: Plan,
    records: BTreeMap<String, Record>,
    told: Vec<String>,
    events: usize,
}

impl Story {
    fn new(seed: u64) -> Story {
        let mut dice = Rng(seed);
        let space = Space::new();
        for n in 0..5 {
            space.write(&format!("in/{n}.txt"), format!("in {n}\nmore\n"));
        }
        for n in 0..3 {
            space.write(&format!("g/{n}.txt"), format!("g {n}\n"));
            space.write(&format!("d/{n}/x.txt"), format!("d {n}\n"));
        }
        space.write("may/0.txt", "may\n");
        let plan = Plan::random(&mut dice);
        plan.write(&space);
        Story { seed, space, plan, records: BTreeMap::new(), told: Vec::new(), events: 0 }
    }

    fn at(&self, out: &Out) -> String {
        let toml = format!("{}\n--- more.toml\n{}", self.plan.toml(false), self.plan.toml(true));
        let last: Vec<&String> = self.told.iter().rev().take(12).rev().collect();
        let toml = if toml.len() > 9000 { String::new() } else { toml };
        format!("seed {}, after {last:#?}\n{out}\n{toml}", self.seed)
    }

    /// All files of the run but planexe's own, links followed.
    fn files(&self) -> Files {
        self.space.tree().into_iter().collect()
    }

    fn marker(&self, first: &str) -> Option<Vec<u8>> {
        fs::read(self.space.path(&format!("{first}.DONE"))).ok()
    }

    /// One change; what it was.
    fn change(&mut self, dice: &mut Rng) -> String {
        let files = self.files();
        let units = self.plan.units(&files).all;
        let unit = &units[dice.below(units.len() as u64) as usize];
        let n = unit.task;
        let output = unit.outputs[dice.below(unit.outputs.len() as u64) as usize].clone();
        let marker = format!("{}.DONE", unit.outputs[0]);
        let input = match dice.below(4) {
            0 => format!("g/{}.txt", dice.below(3)),
            1 => format!("d/{}/x.txt", dice.below(3)),
            _ => format!("in/{}.txt", dice.below(5)),
        };
        let of_unit = unit.name.clone();
        let space = &self.space;
        let there = |path: &str| space.path(path).is_file();
        let kind = dice.below(66);
        let which = dice.below(4);
        match kind {
            0 | 1 if there(&input) => space.write(&input, format!("other {which}\nmore\n")),
            2 if there(&input) => {
                let text = space.read(&input);
                let first = text.lines().next().unwrap_or_default();
                space.write(&input, format!("{first}\nother {which}\n"));
            }
            3 if there(&input) => space.write(&input, space.bytes(&input)),
            4 if there(&input) => {
                let day = Duration::from_secs(86_400);
                let now = SystemTime::now();
                space.write(&input, format!("dated {which}\n"));
                space.set_mtime(&input, if which < 2 { now + day } else { now - day });
            }
            5 if there(&input) => {
                let (mut bytes, time) = (space.bytes(&input), space.mtime(&input));
                bytes[0] ^= 1;
                space.write(&input, bytes);
                let file = fs::File::options().write(true).open(space.path(&input)).expect("the input");
                file.set_times(FileTimes::new().set_modified(time)).expect("its times");
            }
            6 if there(&input) => {
                space.write("new", format!("renamed {which}\n"));
                space.set_mtime("new", space.mtime(&input));
                fs::rename(space.path("new"), space.path(&input)).expect("renamed");
            }
            7 if there(&input) => {
                let target = format!("links/{which}.txt");
                space.write(&target, format!("linked {which}\n"));
                space.remove(&input);
                std::os::unix::fs::symlink(space.path(&target), space.path(&input)).expect("a link");
            }
            8 => {
                let folder = ["in", "g", "o0", "d"][which as usize];
                if space.exists(folder) {
                    fs::rename(space.path(folder), space.path("away")).expect("away");
                    fs::rename(space.path("away"), space.path(folder)).expect("and back");
                }
            }
            9 | 10 => space.write(&format!("g/n{which}.txt"), format!("g new {which}\n")),
            11 => drop(fs::remove_file(space.path(&format!("g/n{which}.txt")))),
            12 if there("g/0.txt") => {
                fs::rename(space.path("g/0.txt"), space.path("g/m.txt")).expect("renamed");
            }
            12 if there("g/m.txt") => {
                fs::rename(space.path("g/m.txt"), space.path("g/0.txt")).expect("renamed");
            }
            13 => {
                let (from, to) = if space.exists("d/1") { ("d/1", "d/k") } else { ("d/k", "d/1") };
                fs::rename(space.path(from), space.path(to)).expect("renamed");
            }
            14 | 15 if there(&output) => space.remove(&output),
            16 if there(&output) => space.write(&output, ""),
            17 if there(&output) && matches!(self.plan.tasks[n].recipe, Recipe::Lister(_)) => {
                space.write(&output, format!("[{{\"name\": \"h\", \"v\": {which}}}]"));
            }
            17 if there(&output) => space.write(&output, format!("by hand {which}\n")),
            18 if there(&output) => {
                // The same, as another file; or as a link to one.
                let bytes = space.bytes(&output);
                space.remove(&output);
                match which {
                    0 => {
                        space.write("links/out", &bytes);
                        std::os::unix::fs::symlink(space.path("links/out"), space.path(&output))
                            .expect("a link");
                    }
                    _ => space.write(&output, bytes),
                }
            }
            19 | 20 if there(&marker) => space.remove(&marker),
            21 if there(&marker) => space.write(&marker, ""),
            22 if there(&marker) => {
                let mut bytes = space.bytes(&marker);
                if which == 0 {
                    bytes.truncate(bytes.len() / 2);
                } else {
                    bytes = b"{\"schema\": 1}".to_vec();
                }
                space.remove(&marker);
                space.write(&marker, bytes);
            }
            23 => drop(fs::remove_file(space.path(&format!("{}.status", unit.outputs[0])))),
            24 | 25 => self.plan.tasks[n].salt = which,
            26 => self.plan.title = which,
            27 => self.plan.on = !self.plan.on,
            28 => self.plan.flavour = which,
            29 => self.plan.comment += 1,
            30 => {
                let (a, b) =
                    (dice.below(self.plan.order.len() as u64), dice.below(self.plan.order.len() as u64));
                self.plan.order.swap(a as usize, b as usize);
            }
            31 => self.plan.tasks[n].elsewhere = !self.plan.tasks[n].elsewhere,
            32 => self.plan.tasks[n].name = format!("t{n}r{which}"),
            33 => {
                let needs = |task: &Task| task.needs().any(|of| of == n);
                if !self.plan.tasks.iter().any(|task| !task.gone && needs(task)) && units.len() > 3 {
                    self.plan.tasks[n].gone = true;
                }
            }
            34 => {
                let tasks = &mut self.plan.tasks;
                let back = |task: &Task| task.gone && !task.needs().any(|of| tasks[of].gone);
                if let Some(n) = tasks.iter().position(back) {
                    tasks[n].gone = false;
                }
            }
            35..38 => {
                let list = match self.plan.tasks[n].recipe {
                    Recipe::Each(Over::List(list)) | Recipe::Lister(list) => list,
                    _ => dice.below(LISTS as u64) as usize,
                };
                let list = &mut self.plan.lists[list];
                match dice.below(7) {
                    0 => list.retain(|(name, _)| name != "a"),
                    1 if list.iter().all(|(name, _)| name != "c") => list.push(("c".into(), 1)),
                    2 => list.iter_mut().for_each(|(_, v)| *v += 1),
                    3 => list.clear(),
                    4 | 5 if !list.is_empty() => {
                        let at = dice.below(list.len() as u64) as usize;
                        list[at].1 = which;
                    }
                    _ => list.reverse(),
                }
            }
            38 => {
                let path = format!("may/{}.txt", which % 3);
                if there(&path) { space.remove(&path) } else { space.write(&path, "may too\n") }
            }
            39 => {
                // Another copy of all of it.
                let root = space.root();
                let copied =
                    Command::new("cp").arg("-a").arg(root.join("run")).arg(root.join("copy")).status();
                assert!(copied.expect("cp").success());
                fs::remove_dir_all(root.join("run")).expect("the run");
                fs::rename(root.join("copy"), root.join("run")).expect("the copy");
            }
            40 => return self.tell_planexe(&["clean", "-y", &of_unit], &units),
            41 => return self.tell_planexe(&["touch", &of_unit], &units),
            42 => return self.tell_planexe(&["restore", &of_unit], &units),
            43 => return self.tell_planexe(&["clean", "-y", "--downstream", &of_unit], &units),
            44 => return self.tell_planexe(&["build", &of_unit], &units),
            45 => return self.tell_planexe(&["build", "--only", &of_unit], &units),
            46 => return self.tell_planexe(&["build", "-B", &of_unit], &units),
            47 => return self.tell_planexe(&["build", "-D", &format!("title=T{which}")], &units),
            48 => {
                space.write("links/plan", format!("plan {which}\nmore\n"));
                let what = match which {
                    0 => vec!["--all", "-y"],
                    1 => vec!["--none"],
                    _ => vec!["--remake", &of_unit],
                };
                return self
                    .tell_planexe(&[&["edit-plan", "--set", "links/plan"], &what[..]].concat(), &units);
            }
            49 => {
                let all = space.run(&["checkpoints", "--json"]).json();
                let all = all["checkpoints"].as_array().expect("checkpoints");
                if all.is_empty() {
                    return "nothing to restore".into();
                }
                let one = &all[dice.below(all.len() as u64) as usize]["id"];
                let id = one.as_str().unwrap_or_else(|| panic!("{all:?}")).to_owned();
                return self.tell_planexe(&["restore", "--checkpoint", &id], &units);
            }
            50 => return self.tell_planexe(&["gc"], &units),
            51 | 52 => return self.kill(dice.below(300), &units),
            53 => return self.tell_planexe(&["clean", "-y", "--orphans"], &units),
            54..57 => self.plan.change_condition(n, dice),
            57..60 => self.plan.change_evaluator(n, dice),
            60 => self.plan.tasks[n].tier = which,
            61 | 62 => self.plan.on = !self.plan.on,
            63 => self.plan.tasks[n].after = None,
            64 if there(&input) => space.write(&input, format!("neither {which}\n")),
            65 => return self.tell_planexe(&["retry", &of_unit], &units),
            _ => {}
        }
        self.plan.write(&self.space);
        format!("{kind}/{which}: {of_unit} {output} {input}")
    }

    /// Has planexe change the run. What it makes of it is its own affair, but nothing may be lost.
    fn tell_planexe(&mut self, args: &[&str], units: &[Unit]) -> String {
        let before = self.files();
        let out = self.space.run(args);
        assert!(matches!(out.code, 0..=2), "{}", self.at(&out));
        self.told_planexe(&before, &out, units)
    }

    /// Begins a build and kills it.
    fn kill(&mut self, after_ms: u64, units: &[Unit]) -> String {
        let before = self.files();
        let build = self.space.spawn(&["build"]);
        std::thread::sleep(Duration::from_millis(after_ms));
        let out = build.kill9();
        for unit in units {
            self.records.entry(unit.outputs[0].clone()).or_default();
        }
        self.records.values_mut().for_each(|record| record.left = true);
        self.told_planexe(&before, &out, units)
    }

    fn told_planexe(&mut self, before: &Files, out: &Out, units: &[Unit]) -> String {
        let said = format!("planexe {}: {}", out.args, out.code);
        self.told.push(said.clone());
        self.nothing_is_lost(before, out);
        self.completed();
        let after = self.files();
        for unit in units {
            let same = unit.outputs.iter().all(|path| before.get(path) == after.get(path));
            self.records.entry(unit.outputs[0].clone()).or_default().open |= !same;
        }
        // Also of items that were not known before, as their list was not there.
        for (first, record) in &mut self.records {
            let marker = fs::read(self.space.path(&format!("{first}.DONE"))).unwrap_or_default();
            record.open |= before.get(first) != after.get(first) || marker != record.marker;
            if record.open {
                record.warning = None;
            }
        }
        self.told.pop();
        said
    }

    /// What stood somewhere and does not any more is in the history, unless it can be made again from nothing.
    fn nothing_is_lost(&self, before: &Files, out: &Out) {
        let after = self.files();
        for (path, bytes) in before.iter().filter(|(path, bytes)| after.get(*path) != Some(bytes)) {
            // What a command that was killed had begun is nobody's.
            let begun = path.rsplit('/').next().is_some_and(planexe_base::fs::is_temp_name);
            let kept =
                bytes.is_empty() || begun || path.starts_with("links/") || self.space.in_history(bytes);
            assert!(kept, "`{path}` is lost: {:?}\n{}", String::from_utf8_lossy(bytes), self.at(out));
        }
    }

    fn set_aside(&self) {
        for cache in CACHES {
            let (from, to) = (self.space.path(".planexe").join(cache), self.space.root().join(cache));
            let _ = fs::remove_file(&to);
            let _ = fs::rename(from, to);
        }
    }

    fn put_back(&self) {
        for cache in CACHES {
            let (to, from) = (self.space.path(".planexe").join(cache), self.space.root().join(cache));
            let _ = fs::remove_file(&to);
            let _ = fs::rename(from, to);
        }
    }

    /// Looks at the run in each way there is; the exit code of `build -q`.
    fn look(&self, dice: &mut Rng) -> i32 {
        let look = || -> (Out, Out, Value) {
            let quick = self.space.run(&["build", "-q"]);
            let plan = self.space.run(&["build", "-n"]);
            let said = self.space.run(&["status", "--json"]);
            let mut status = said.json();
            let tasks = status["tasks"].as_array_mut();
            for task in tasks.unwrap_or_else(|| panic!("no tasks\n{}", self.at(&said))) {
                let task = task.as_object_mut().expect("a task");
                task.retain(|key, _| {
                    ["task", "state", "verdict", "reasons", "depends_on"].contains(&key.as_str())
                });
            }
            (quick, plan, status["tasks"].take())
        };
        let with = look();
        self.set_aside();
        let without = look();
        self.put_back();
        assert_eq!(with.0.code, without.0.code, "-q with and without caches\n{}", self.at(&without.1));
        assert_eq!(with.1.stdout, without.1.stdout, "-n with and without caches\n{}", self.at(&without.1));
        assert_eq!(with.2, without.2, "status with and without caches\n{}", self.at(&without.1));
        assert_eq!((with.1.code, without.1.code), (0, 0), "{}", self.at(&without.1));
        if dice.chance(25) {
            for cache in CACHES {
                let path = self.space.path(".planexe").join(cache);
                let Ok(mut bytes) = fs::read(&path) else { continue };
                if !bytes.is_empty() {
                    let at = dice.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << dice.below(8);
                    fs::write(&path, bytes).expect(cache);
                }
            }
        } else if dice.chance(15) {
            self.set_aside();
        }
        with.0.code
    }

    /// Builds, and holds what came of it against the model.
    fn build(&mut self, dice: &mut Rng) {
        let looked = if dice.chance(70) { Some(self.look(dice)) } else { None };
        let before = self.files();
        let before_markers: BTreeMap<String, Option<Vec<u8>>> = {
            let units = self.plan.units(&before).all;
            units.iter().map(|unit| (unit.outputs[0].clone(), self.marker(&unit.outputs[0]))).collect()
        };
        let (ran_log, evals_log) = (self.space.root().join("ran.log"), self.space.root().join("evals.log"));
        let _ = fs::remove_file(&ran_log);
        let _ = fs::remove_file(&evals_log);
        let jobs = format!("-j{}", 1 + dice.below(6));
        let out = self.space.run(&["build", &jobs]);
        assert_eq!(out.code, 0, "{}", self.at(&out));
        self.nothing_is_lost(&before, &out);
        let done = self.completed();
        let (ran, evals) = (counts(&ran_log), counts(&evals_log));
        let after = self.files();
        let mut wanted = BTreeSet::new();
        let units = self.plan.units(&after);
        for unit in units.all.iter().filter(|unit| !unit.skipped) {
            let task = &self.plan.tasks[unit.task];
            let first = &unit.outputs[0];
            // What a build of outputs left is what its readers are given.
            let made_of = self.plan.made_of(unit);
            let evaluated_by = self.plan.evaluated_by(unit);
            let whole =
                unit.outputs.iter().all(|path| before.get(path).is_some_and(|bytes| !bytes.is_empty()));
            let record = self.records.entry(first.clone()).or_default().clone();
            let marker = before_markers.get(first).cloned().flatten();
            let did = done.contains(&unit.name);
            let anew = match &marker {
                None => true,
                Some(marker) if marker.is_empty() => !whole,
                Some(marker) if *marker != record.marker => true,
                Some(_) => !whole || made_of != record.made_of,
            };
            let adopted = marker.as_ref().is_some_and(Vec::is_empty);
            let again = !anew && !adopted && evaluated_by != record.evaluated_by;
            let must = if record.open { did } else { anew || again };
            if must {
                wanted.insert(unit.name.clone());
            }
            let fits = did == must;
            let at = || {
                let marker = marker.as_ref().map(|marker| String::from_utf8_lossy(marker).into_owned());
                format!(
                    "{} {}\nis made of   {made_of}\nwas made of  {}\nevaluated by {evaluated_by:?}, before {:?}\n\
                     marker {marker:?}\n{}",
                    unit.name,
                    if did { "ran" } else { "did not run" },
                    record.made_of,
                    record.evaluated_by,
                    self.at(&out)
                )
            };
            assert!(fits, "{}", at());
            let left: Vec<Vec<u8>> =
                unit.outputs.iter().map(|path| after.get(path).cloned().unwrap_or_default()).collect();
            let had: Option<Vec<Vec<u8>>> =
                unit.outputs.iter().map(|path| before.get(path).cloned()).collect();
            let sure = !record.open && !record.left;
            // What is there is evaluated otherwise: only if it is found wanting it is made again, with the notes.
            let kept = match (&had, task.eval) {
                (Some(had), Some(needle)) if task.by_program() => passes(&had[0], needle),
                _ => true,
            };
            let runs = if sure { did && (anew || !kept) } else { ran.contains_key(&unit.id()) };
            let fresh = |notes: bool| match self.plan.leaves(unit, notes) {
                Leaves::These(these) => these == left,
                Leaves::Anything => !left[0].is_empty(),
            };
            let right = match (did, runs) {
                _ if !sure => !did || fresh(false) || fresh(true) || had.as_ref() == Some(&left),
                (true, true) => fresh(!anew),
                _ => had.as_ref() == Some(&left),
            };
            assert!(right, "what it left\n{}", at());
            if sure && !matches!(task.recipe, Recipe::Template | Recipe::Prompt | Recipe::Gate) {
                let twice = anew && task.eval.is_some() && has_again(&left[0]);
                let times = if runs { 1 + u32::from(twice) } else { 0 };
                assert_eq!(ran.get(&unit.id()).copied().unwrap_or_default(), times, "times it ran\n{}", at());
                if task.by_program() {
                    let times = u32::from(did) + u32::from(twice || runs && !anew);
                    let found = evals.get(&unit.id()).copied().unwrap_or_default();
                    assert_eq!(found, times, "times it was evaluated\n{}", at());
                }
            }
            let marker = self.marker(first).unwrap_or_default();
            assert!(!marker.is_empty(), "{} has no record\n{}", unit.name, self.at(&out));
            let warning = match task.recipe {
                Recipe::Gate if did && sure => Some(self.plan.verdict(unit).0),
                _ => record.warning.filter(|_| !did && !adopted),
            };
            // One that is kept though it was edited has the record it had.
            let record = Record { made_of, evaluated_by, marker, warning, ..Record::default() };
            self.records.insert(first.clone(), record);
        }
        assert_eq!(done, wanted, "{}", self.at(&out));
        if let (Some(code), false) = (looked, units.all.is_empty()) {
            assert_eq!(code == 1, !wanted.is_empty(), "-q said {code}\n{}", self.at(&out));
        }
        // Items that are gone went to history, and their place is free; unless nobody knows which are.
        let (tasks, skipped) = (&self.plan.tasks, &units.skipped);
        for n in (0..tasks.len()).filter(|n| tasks[*n].is_each() && !tasks[*n].gone && !skipped.contains(n)) {
            let folder = self.plan.first(n).replace("{{ key }}.txt", "");
            for path in after.keys().filter(|path| path.starts_with(&folder)) {
                let made = units.all.iter().any(|unit| unit.outputs.contains(path));
                assert!(made, "`{path}` is of no item\n{}", self.at(&out));
            }
        }
        self.records.retain(|first, _| {
            let there = units.all.iter().any(|unit| unit.outputs[0] == *first);
            // What a whole fan-out left stays while it is skipped, or out of the pipeline.
            let stays = |n: usize| tasks[n].gone || skipped.contains(&n);
            there || !(0..tasks.len()).any(|n| first.contains(&format!("/f{n}/")) && !stays(n))
        });
        let again = self.space.run(&["build", "-q"]);
        assert_eq!(again.code, 0, "-q after the build\n{}", self.at(&again));
        let again = self.space.run(&["build"]);
        let ran = self.completed();
        assert!(again.code == 0 && ran.is_empty(), "a second build ran {ran:?}\n{}", self.at(&again));
        self.status_says_the_same(&units);
    }

    /// What is skipped, and what gates warned of, stands in `status`.
    fn status_says_the_same(&self, units: &Units) {
        let said = self.space.run(&["status", "--json"]);
        let status = said.json();
        let of = |name: &str| {
            let tasks = status["tasks"].as_array().expect("tasks");
            tasks
                .iter()
                .find(|task| task["task"] == name)
                .unwrap_or_else(|| panic!("{name}\n{}", self.at(&said)))
        };
        for unit in units.all.iter().filter(|unit| unit.key.is_none()) {
            let (task, state) = (&self.plan.tasks[unit.task], of(&unit.name)["state"].as_str());
            assert_eq!(state == Some("skipped"), unit.skipped, "{}\n{}", unit.name, self.at(&said));
            let known = self.records.get(&unit.outputs[0]).and_then(|record| record.warning.clone());
            if let (Recipe::Gate, false, Some(warning)) = (&task.recipe, unit.skipped, known) {
                let found = of(&unit.name)["warning"].as_str().map(str::to_owned);
                assert_eq!(found, warning, "{}\n{}", unit.name, self.at(&said));
            }
        }
    }

    /// The tasks completed since the last look.
    fn completed(&mut self) -> BTreeSet<String> {
        let lines = self.space.lines("events.jsonl");
        let new = lines[self.events.min(lines.len())..].to_vec();
        self.events = lines.len();
        let done = new.iter().filter(|line| line["event"] == "task.completed");
        done.map(|line| line["task"].as_str().expect("a task").to_owned()).collect()
    }
}

/// How often each line is in a log.
fn counts(log: &Path) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// Whether it was made again after an evaluation.
fn has_again(first: &[u8]) -> bool {
    first.ends_with(b"again\n")
}

fn try_one(seed: u64) {
    let mut story = Story::new(seed);
    let mut dice = Rng(seed ^ 0xffff);
    story.told.push("the first build".into());
    story.build(&mut dice);
    for _ in 0..10 {
        // Now and then at once, while files are still too young to be believed.
        if dice.chance(60) {
            std::thread::sleep(Duration::from_millis(70));
            if dice.chance(50) {
                story.space.run(&["build"]).exits(0);
            }
        }
        story.told.push("---".into());
        for _ in 0..1 + dice.below(3) {
            let told = story.change(&mut dice);
            story.told.push(told);
        }
        story.build(&mut dice);
    }
}

#[test]
fn what_runs_after_any_change_is_what_must() {
    let seeds = std::env::var("PLANEXE_SEEDS").unwrap_or_else(|_| "0..3".into());
    let (from, to) = seeds.split_once("..").unwrap_or(("0", &seeds));
    let bound = |text: &str| text.parse().unwrap_or_else(|_| panic!("PLANEXE_SEEDS={seeds}: wanted 10..50"));
    for seed in bound(from)..bound(to) {
        if std::env::var_os("PLANEXE_SEEDS").is_some() {
            eprintln!("seed {seed}");
        }
        try_one(seed);
    }
}
