//! Durability from outside: planexe is killed, made to fail, cut off in the middle of a write and robbed
//! of its power at every system call by which it changes files, all threads counted. The next plain
//! build must end in the outputs of an undisturbed run and repeat no call but those under way.
//!
//! By default a spread sample of the points is tried. All of them:
//!
//! ```text
//! cargo build --release && PLANEXE_KILL_ALL=1 PLANEXE_BIN=target/release/planexe cargo test --test kill -- --nocapture
//! ```
//!
//! `TMPDIR` on a file system in memory makes that several times faster. Where a program may not be traced
//! (some containers), the tests say so and pass. Linux on x86-64 only.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write files as a user would, and say what they tried"
)]
#![allow(dead_code, unused_imports, reason = "not all of the support is used here")]

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod commands;
mod disk;
mod execute;
mod interleaved;
mod isolated;
mod reads;
mod real;
mod refined;
mod states;
mod trace;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use disk::{AllLost, ContentsLost, Disk, Every, Fate, Seeded, Tree, read_tree, write_tree};
use serde_json::json;
use support::{Answer, ChatRequest, FakeLlm, Space, until};
use trace::{Call, Plan, Traced};

/// Prompts, one with a schema and a second output; a fan-out; commands, one of them in place; a template.
const TASKS: &str = r##"
[pipeline]
plan = "plan.txt"

[task.facts]
inputs  = ["plan.txt"]
outputs = ["facts.json", { path = "facts.md", template = "# {{ answer.title }}\n{{ plan }}" }]
prompt  = "TASK=facts\nWhat is known: {{ plan }}"
schema  = "facts.schema.json"

[task.count]
inputs  = ["facts.json"]
outputs = ["sub/count.txt"]
command = "wc -c < $in > $out"

[task.review]
foreach = { file = "facts.json", items = "/items", key = "name" }
inputs  = ["plan.txt"]
outputs = ["reviews/{{ key }}.md"]
prompt  = "TASK=review {{ key }}\n{{ item.name }} of {{ plan }}"

[task.log]
inputs   = ["sub/count.txt"]
outputs  = ["log.txt"]
command  = "cat $in > $out; echo end >> $out"
in_place = true

[task.page]
inputs   = { facts = "facts.json", count = "sub/count.txt", log = "log.txt", reviews = "reviews/*.md" }
outputs  = ["page.html"]
template = "<h1>{{ facts.title }}</h1>{{ count }}{{ log }}{% for r in reviews %}<p>{{ r.text }}</p>{% endfor %}"

[task.said]
inputs  = ["sub/count.txt"]
outputs = ["deep/er/said-LONG.txt"]
command = ["cat", "$in"]
stdout  = true

[task.note]
foreach  = { glob = "notes/*.txt" }
outputs  = ["noted/{{ key }}/note.txt"]
template = "{{ item.path }}: {{ item.text }}"

[task.gate]
inputs  = ["log.txt"]
outputs = ["gate.json"]
gate    = { fail_if = "{{ 'end' in log }}", action = "warn", message = "It ends." }

[task.judged]
inputs  = ["plan.txt"]
outputs = ["judged.md", { path = "judged.html", template = "<p>{{ answer }}" }]
prompt  = "TASK=judged\nWrite: {{ plan }}"
eval    = { prompt = "TASK=score\nHow good is {{ answer }}?" }

[task.agent]
kind    = "agent"
inputs  = ["notes/one.txt"]
outputs = ["agent.md", "agent.json"]
command = "cat $in > $out.0; echo '{}' > $out.1; exit 1"
eval    = { prompt = "TASK=score agent\n{% for o in outputs %}{{ o.text }}{% endfor %}" }

[task.end]
inputs  = ["page.html"]
outputs = ["end.txt"]
prompt  = "TASK=end\nConclude: {{ page }}"
check   = { min_words = 3 }
"##;

/// Calls that can be open at once: the reviews, one that is evaluated or its evaluation, and another evaluation.
const MOST_IN_FLIGHT: usize = 5;

fn answers(request: &ChatRequest) -> Answer {
    // The first answer to the last task is too short; asked again, it does better.
    if request.task == "end" && request.messages.len() == 1 {
        return Answer::Text("End.".into());
    }
    if request.task.starts_with("score") {
        return Answer::Text(json!({ "score": 0.9, "notes": "Good." }).to_string());
    }
    if request.task != "facts" {
        return Answer::Default;
    }
    let title = format!("Facts {}", request.digest());
    let items = ["a", "b", "c"].map(|name| json!({ "name": name }));
    Answer::Text(json!({ "title": title, "items": items }).to_string())
}

/// The pipeline over a plan, with a name that is too long for sidecars beside it.
fn space(server: &FakeLlm, plan: &str) -> Space {
    let space = Space::with(server, &TASKS.replace("LONG", &"x".repeat(240)));
    space.write("plan.txt", plan);
    space.write("facts.schema.json", FACTS_SCHEMA);
    space.write("notes/one.txt", "one");
    space.write("notes/two.txt", "two");
    space
}

/// The program under test.
fn program() -> PathBuf {
    match std::env::var_os("PLANEXE_BIN") {
        Some(path) => std::path::absolute(path).expect("PLANEXE_BIN"),
        None => PathBuf::from(env!("CARGO_BIN_EXE_planexe")),
    }
}

fn all_points() -> bool {
    std::env::var_os("PLANEXE_KILL_ALL").is_some()
}

/// A run to be disturbed, with what it must end in.
struct Case {
    name: &'static str,
    server: FakeLlm,
    space: Space,
    /// The folder before the build.
    before: Tree,
    /// The outputs after an undisturbed build.
    after: BTreeMap<String, Vec<u8>>,
    /// Former outputs, where there are any.
    former: BTreeMap<String, Vec<u8>>,
    /// Calls of an undisturbed build.
    calls: usize,
    /// Arguments of the build.
    args: &'static [&'static str],
    /// What can be made again is synced together, as in a build of many tasks.
    together: bool,
}

impl Case {
    /// Nothing is built yet.
    fn fresh(args: &'static [&'static str]) -> Case {
        let server = FakeLlm::scripted(answers);
        let space = space(&server, "A bridge over the river.");
        Case::of("fresh", server, space, args)
    }

    /// All is built, with another plan.
    fn again(args: &'static [&'static str]) -> Case {
        let server = FakeLlm::scripted(answers);
        let space = space(&server, "A tunnel.");
        assert_eq!(plain_build(&space).0, 0);
        space.write("plan.txt", "A bridge over the river.");
        space.write("notes/two.txt", "another two");
        Case::of("again", server, space, args)
    }

    fn of(name: &'static str, server: FakeLlm, space: Space, args: &'static [&'static str]) -> Case {
        let (before, former, calls) = (read_tree(space.dir()), space.tree(), server.total());
        assert_eq!(plain_build(&space).0, 0);
        let (after, calls) = (space.tree(), server.total() - calls);
        Case { name, server, space, before, after, former, calls, args, together: false }
    }

    /// What can be made again is synced together, as in a build of many tasks.
    fn synced_together(self) -> Case {
        self.space.set_env("PLANEXE_SYNC", "together");
        Case { together: true, ..self }
    }

    fn dir(&self) -> &Path {
        self.space.dir()
    }

    fn said_path(&self) -> PathBuf {
        self.space.root().join("said")
    }

    /// Runs the build from the start under a plan. Returns how it went and what it said, and the calls
    /// that had been made when the plan came to pass.
    fn disturb(&self, plan: Plan) -> (Traced, String, usize) {
        write_tree(self.dir(), &self.before);
        self.go_on(&self.before, plan)
    }

    fn go_on(&self, tree: &Tree, plan: Plan) -> (Traced, String, usize) {
        let mut at_hit = self.server.total();
        let (traced, said) = self.go_on_with(tree, plan, &mut || at_hit = self.server.total());
        (traced, said, at_hit)
    }

    /// The same; `hit` is what happens when the plan comes to pass.
    fn go_on_with(&self, tree: &Tree, plan: Plan, hit: &mut dyn FnMut()) -> (Traced, String) {
        let program = program();
        let mut command = self.space.program(program.to_str().expect("a path"), self.args);
        let said = File::create(self.said_path()).expect("a file for what it says");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let disk = Disk::new(self.dir(), tree);
        let traced = trace::run(&mut command, self.dir(), disk, plan, hit).expect("to trace");
        let said = std::fs::read(self.said_path()).unwrap_or_default();
        (traced, String::from_utf8_lossy(&said).into_owned())
    }

    /// How many answers lie on disk, whole, accepted or not, that were not there before.
    fn kept(&self) -> usize {
        let usable = |path: &Path, bytes: &[u8]| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            path.starts_with(".planexe/calls")
                && name
                    .strip_suffix(".json")
                    .is_some_and(|stem| !stem.contains('.') || stem.contains(".rejected-"))
                && serde_json::from_slice::<serde_json::Value>(bytes).is_ok()
        };
        let count = |tree: &Tree| {
            let files = tree.iter().filter_map(|(path, content)| Some((path, &content.as_ref()?.0)));
            files.filter(|(path, bytes)| usable(path, bytes)).count()
        };
        count(&read_tree(self.dir())) - count(&self.before)
    }

    /// Waits until the commands of a killed build are gone.
    fn settle(&self) {
        until("the commands of the killed build to end", || {
            let here = std::fs::read_dir("/proc").ok()?.flatten().any(|entry| {
                std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.dir()))
            });
            (!here).then_some(())
        });
        self.server.wait_for_quiet();
    }

    /// After a disturbance: outputs are whole, old or new.
    fn check_whole(&self, at: &str, faults: &mut Vec<String>) {
        for (path, bytes) in self.space.tree() {
            let known = self.after.get(&path) == Some(&bytes) || self.former.get(&path) == Some(&bytes);
            // A command that works in place leaves what it leaves.
            if !known && path != "log.txt" && !is_temp(&path) {
                faults.push(format!("{at}: `{path}` is neither old nor new"));
            }
        }
    }

    /// How many answers are on the books that were not before.
    fn booked(&self) -> usize {
        let count = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().filter(|line| line.contains("\"success\":true")).count()
        };
        let before = self.before.get(Path::new("usage_metrics.jsonl")).and_then(Option::as_ref);
        let now = std::fs::read(self.dir().join("usage_metrics.jsonl")).unwrap_or_default();
        count(&now).saturating_sub(before.map_or(0, |(bytes, _)| count(bytes)))
    }

    /// Every answer that was not lost is on the books, once.
    fn check_books(&self, at: &str, before: usize, faults: &mut Vec<String>) {
        let (booked, kept) = (self.booked(), self.kept());
        if booked < kept || booked > self.server.total() - before {
            faults.push(format!("{at}: {booked} calls on the books, {kept} answers kept"));
        }
    }

    /// The next plain build, and one after it.
    fn check_next(&self, at: &str, before: usize, faults: &mut Vec<String>) {
        let kept = self.kept();
        let in_flight = (self.server.total() - before).saturating_sub(kept);
        if in_flight > MOST_IN_FLIGHT {
            faults.push(format!("{at}: {in_flight} calls were lost"));
        }
        let total = self.check_outputs(at, faults);
        if total - before > self.calls + in_flight {
            faults.push(format!(
                "{at}: {} calls in all, {} undisturbed, {in_flight} in flight: {:?}",
                total - before,
                self.calls,
                &self.server.order()[before..]
            ));
        }
    }

    /// The next plain build ends in the outputs of an undisturbed one, and the one after it does nothing. Returns the
    /// calls ever made.
    fn check_outputs(&self, at: &str, faults: &mut Vec<String>) -> usize {
        let (code, said) = plain_build(&self.space);
        let total = self.server.total();
        if code != 0 {
            faults.push(format!("{at}: the next build exits with {code}\n{said}"));
        }
        if said.contains("panicked") || said.contains("BUG") {
            faults.push(format!("{at}: the next build panics\n{said}"));
        }
        if said.contains("edited") {
            faults.push(format!("{at}: what was lost is taken for an edit\n{said}"));
        }
        let mut tree = self.space.tree();
        tree.retain(|path, _| !is_temp(path));
        if tree != self.after {
            let names: Vec<_> = tree
                .keys()
                .chain(self.after.keys())
                .filter(|path| tree.get(*path) != self.after.get(*path))
                .collect();
            faults.push(format!("{at}: other outputs: {names:?}\n{said}"));
        }
        let visible = self.space.visible();
        let (code, said) = plain_build(&self.space);
        if code != 0 || self.server.total() != total {
            faults.push(format!("{at}: a build with nothing to do does something ({code})\n{said}"));
        }
        if self.space.visible() != visible {
            faults.push(format!("{at}: a build with nothing to do changes files\n{said}"));
        }
        total
    }

    /// Nothing temporary is left. A power cut may lose the word that a build was under way, and with it
    /// the reason to sweep; the next build that runs something does.
    fn check_temps(&self, at: &str, faults: &mut Vec<String>) {
        let temps: Vec<_> = self.space.files("").into_iter().filter(|path| is_temp(path)).collect();
        if !temps.is_empty() {
            faults.push(format!("{at}: left behind: {temps:?}"));
        }
    }
}

/// A plain build, not traced.
fn plain_build(space: &Space) -> (i32, String) {
    let program = program();
    let mut command: Command = space.program(program.to_str().expect("a path"), &["build"]);
    let out = command.stdin(Stdio::null()).output().expect("planexe");
    (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn is_temp(path: &str) -> bool {
    path.contains("planexe-tmp-")
}

const FACTS_SCHEMA: &str = r#"{
  "type": "object",
  "required": ["title", "items"],
  "properties": {
    "title": { "type": "string" },
    "items": { "type": "array", "items": { "type": "object", "properties": { "name": { "type": "string" } } } }
  }
}"#;

/// The points to try: all, or `sample` of them (or `PLANEXE_KILL_SAMPLE`), evenly spread. All means: until a run ends by
/// itself.
fn points(count: usize, sample: usize) -> Vec<usize> {
    let asked = std::env::var("PLANEXE_KILL_SAMPLE").ok().and_then(|sample| sample.parse().ok());
    let sample = asked.unwrap_or(sample);
    if all_points() || count <= sample {
        return (0..count).collect();
    }
    (0..sample).map(|n| (2 * n + 1) * count / (2 * sample)).collect()
}

/// Tries a kind of disturbance at the points of a case; what went wrong is told at the end, all at once.
fn try_points(case: &Case, what: &str, sample: usize, one: impl FnMut(usize, &mut Vec<String>) -> bool) {
    try_points_of(case, what, sample, |watched| &watched.calls, one);
}

/// The same; the points are those of a list of calls.
fn try_points_of(
    case: &Case,
    what: &str,
    sample: usize,
    calls: fn(&Traced) -> &Vec<Call>,
    mut one: impl FnMut(usize, &mut Vec<String>) -> bool,
) {
    let (watched, said, _) = case.disturb(Plan::Watch);
    assert_eq!(watched.code, Some(0), "{said}");
    assert_eq!(case.space.tree(), case.after);
    let calls = calls(&watched);
    let count = calls.len();
    let mut faults = Vec::new();
    let mut reached = 0;
    let mut list = points(count, sample);
    let first = std::env::var("PLANEXE_KILL_FROM").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    list.retain(|&at| at >= first);
    let mut next = 0;
    while let Some(&at) = list.get(next) {
        next += 1;
        let told = faults.len();
        let hit = one(at, &mut faults);
        // All points take long: what is found is seen at once.
        faults[told..].iter().for_each(|fault| eprintln!("{fault}"));
        reached += usize::from(hit);
        // Another order of the threads may have taken more calls.
        if hit && all_points() && next == list.len() {
            list.push(at + 1);
        }
    }
    if std::env::var_os("PLANEXE_KILL_POINTS").is_some() {
        for (n, call) in calls.iter().enumerate() {
            eprintln!("{n:4} {} {}", call.name, call.path);
        }
    }
    eprintln!(
        "{what}, {} {}: {count} calls counted, {reached} points tried, {} faults",
        case.name,
        case.args.join(" "),
        faults.len()
    );
    assert!(faults.is_empty(), "{} of {reached}:\n{}", faults.len(), faults.join("\n"));
    // One task at a time takes the same calls every time; with several the order may add or save a few. What is asked of
    // a build by files is looked for by the clock, so that no two builds read the same number of times.
    if all_points() && first == 0 && case.args.contains(&"-j1") && !what.starts_with("a read") {
        assert_eq!(reached, count, "points tried and calls counted");
    }
}

fn may_trace() -> bool {
    let may = trace::permitted();
    if !may {
        eprintln!("programs may not be traced here: nothing was tried");
    }
    may
}

fn name_of(traced: &Traced, plan: Plan) -> String {
    match traced.hit(plan) {
        Some(call) => format!("{plan:?} ({} {})", call.name, call.path),
        None => format!("{plan:?} (not reached)"),
    }
}

fn killed(case: &Case, sample: usize) {
    try_points(case, "kill -9", sample, |at, faults| {
        let before = case.server.total();
        let plan = Plan::Kill(at);
        let (traced, said, _) = case.disturb(plan);
        let reached = traced.hit(plan).is_some();
        let at = name_of(&traced, plan);
        if traced.hung || reached != traced.code.is_none() {
            faults.push(format!("{at}: ended with {:?}\n{said}", traced.code));
        }
        case.settle();
        case.check_whole(&at, faults);
        case.check_next(&at, before, faults);
        case.check_temps(&at, faults);
        case.check_books(&at, before, faults);
        reached
    });
}

fn torn(case: &Case, sample: usize) {
    try_points(case, "torn write", sample, |at, faults| {
        let before = case.server.total();
        let plan = Plan::Torn(at);
        let (traced, said, _) = case.disturb(plan);
        let Some(call) = traced.hit(plan) else { return false };
        let writes = call.moves;
        let at = name_of(&traced, plan);
        if traced.hung || traced.code.is_some() {
            faults.push(format!("{at}: ended with {:?}\n{said}", traced.code));
        }
        case.settle();
        if writes {
            case.check_whole(&at, faults);
            case.check_next(&at, before, faults);
            case.check_temps(&at, faults);
            case.check_books(&at, before, faults);
        }
        true
    });
}

fn power_cut(case: &Case, what: &str, sample: usize, mut fate: impl FnMut(usize) -> Box<dyn Fate>) {
    try_points(case, what, sample, |n, faults| {
        let before = case.server.total();
        let plan = Plan::Kill(n);
        let (traced, ..) = case.disturb(plan);
        let reached = traced.hit(plan).is_some();
        let at = format!("{what}: {}", name_of(&traced, plan));
        case.settle();
        let mut left = traced.disk.cut(&mut *fate(n));
        // What is synced one by one does not even have to know that the power went.
        if case.together {
            start_anew(&mut left);
        }
        write_tree(case.dir(), &left);
        case.check_next(&at, before, faults);
        reached
    });
}

/// The builds whose power is cut.
fn power_cases() -> [Case; 4] {
    [
        Case::fresh(&["build"]),
        Case::again(&["build"]),
        Case::fresh(&["build"]).synced_together(),
        Case::again(&["build"]).synced_together(),
    ]
}

/// The machine is started again: files that name the boot they were written in are of another one.
fn start_anew(tree: &mut Tree) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    for (path, content) in tree {
        if let (true, Some((bytes, _))) = (path.ends_with(".planexe/unsynced.json"), content)
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            *bytes = text.replace(boot.trim(), "another boot").into_bytes();
        }
    }
}

const ERRORS: [(i32, &str); 5] = [
    (libc::ENOSPC, "no space left on device"),
    (libc::EIO, "input/output error"),
    (libc::EROFS, "read-only file system"),
    (libc::EACCES, "permission denied"),
    (libc::EDQUOT, "disk quota exceeded"),
];

fn failing(case: &Case, sample: usize, sticky: bool, errors: &[(i32, &str)]) {
    let what = if sticky { "every write fails from then on" } else { "one write fails" };
    for &(errno, words) in errors {
        try_points(case, &format!("{what} ({words})"), sample, |at, faults| {
            let before = case.server.total();
            let plan = Plan::Fail { at, errno, sticky };
            let (traced, said, calls) = case.disturb(plan);
            let reached = traced.hit(plan).is_some();
            let at = name_of(&traced, plan);
            if traced.hung || said.contains("panicked") || said.contains("BUG") {
                faults.push(format!("{at}: hangs or panics\n{said}"));
            }
            match traced.code {
                Some(0) => {}
                Some(1) if !reached => faults.push(format!("{at}: fails for nothing\n{said}")),
                Some(1) => {
                    let paid = case.server.total();
                    if paid > calls {
                        faults.push(format!("{at}: {} calls were paid for after it\n{said}", paid - calls));
                    }
                    if !said.contains(words) {
                        faults.push(format!("{at}: the cause is not named\n{said}"));
                    }
                }
                other => faults.push(format!("{at}: ended with {other:?}\n{said}")),
            }
            case.settle();
            case.check_whole(&at, faults);
            case.check_next(&at, before, faults);
            case.check_temps(&at, faults);
            case.check_books(&at, before, faults);
            reached
        });
    }
}

#[test]
fn killed_at_every_call_of_a_first_build() {
    if may_trace() {
        killed(&Case::fresh(&["build"]), 16);
        if all_points() {
            killed(&Case::fresh(&["build", "-j1"]), 0);
        }
    }
}

#[test]
fn killed_at_every_call_of_a_build_over_old_outputs() {
    if may_trace() {
        killed(&Case::again(&["build"]), 16);
        if all_points() {
            killed(&Case::again(&["build", "-j1"]), 0);
        }
    }
}

#[test]
fn a_torn_write_at_every_call() {
    if may_trace() {
        torn(&Case::fresh(&["build"]), 14);
        torn(&Case::again(&["build"]), 14);
    }
}

#[test]
fn a_power_cut_that_loses_contents_at_every_call() {
    if may_trace() {
        for case in power_cases() {
            power_cut(&case, "power cut, contents lost", 8, |_| Box::new(ContentsLost));
        }
    }
}

#[test]
fn a_power_cut_that_loses_all_that_was_not_synced_at_every_call() {
    if may_trace() {
        for case in power_cases() {
            power_cut(&case, "power cut, all lost", 8, |_| Box::new(AllLost));
        }
    }
}

#[test]
fn a_power_cut_that_loses_some_of_it_at_every_call() {
    if may_trace() {
        let seed = std::env::var("PLANEXE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
        let fate = |n: usize| Box::new(Seeded(seed << 32 | n as u64)) as Box<dyn Fate>;
        for case in power_cases() {
            power_cut(&case, "power cut, some lost", 8, fate);
        }
    }
}

#[test]
fn one_write_fails_at_every_call() {
    if may_trace() {
        let case = Case::again(&["build", "-j1"]);
        if all_points() {
            failing(&case, 0, false, &ERRORS);
            failing(&Case::fresh(&["build", "-j1"]), 0, false, &ERRORS);
        } else {
            failing(&case, 6, false, &ERRORS);
        }
    }
}

#[test]
fn every_write_fails_from_some_call_on() {
    if may_trace() {
        let case = Case::again(&["build", "-j1"]);
        if all_points() {
            failing(&case, 0, true, &ERRORS);
            failing(&Case::fresh(&["build", "-j1"]), 0, true, &ERRORS);
        } else {
            failing(&case, 6, true, &ERRORS);
        }
    }
}
