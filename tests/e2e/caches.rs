//! The cache only saves work: with them, without them and with any byte of them
//! wrong, the same tasks run and the same files come out.

use std::fs::{self, FileTimes};
use std::os::unix::fs::PermissionsExt;

use crate::random::Rng;
use crate::support::{Space, until};

/// Layers, a chain, a wide fan, a glob over sources and one over outputs, variables, templates, conditions of tasks, of
/// items and of what makes items, a gate that warns, an evaluator; argv and lines for a shell. Each command says in
/// `ran.log` that it ran.
const TASKS: &str = r#"
[vars]
title = "Sums"
more = "no"

[task.a1]
inputs = { x = "in/1.txt", y = "in/2.txt" }
outputs = ["l/a1.txt"]
command = ["./sum", "a1", "$out", "$in.x", "$in.y"]

[task.a2]
inputs = ["in/2.txt", "in/3.txt"]
outputs = ["l/a2.txt", "l/a2.more.txt"]
command = "echo a2 >> ran.log; cat $in > $out.0; wc -c $in > $out.1"

[task.b1]
inputs = { x = "l/a1.txt", y = "l/a2.txt" }
outputs = ["l/b1.txt"]
command = ["./sum", "b1", "$out", "$in.x", "$in.y"]

[task.b2]
inputs = ["l/a2.txt", "l/a2.more.txt"]
outputs = ["b2.txt"]
command = "echo b2 >> ran.log; head -c 20 $in.0 > $out"

[task.c]
inputs = ["b2.txt"]
outputs = ["c.txt"]
command = ["./sum", "c", "$out", "$in"]

[task.sources]
inputs = ["in/*.txt"]
outputs = ["sources.txt"]
command = "echo sources >> ran.log; cat $in | cksum > $out"

[task.made]
inputs = ["l/*.txt"]
outputs = ["made.txt"]
command = "echo made >> ran.log; cat $in > $out"

[task.page]
inputs = { c = "c.txt", made = "made.txt" }
outputs = ["page.html"]
template = "page.html.j2"

[task.maybe]
inputs = ["c.txt"]
outputs = ["maybe.txt"]
when = "{{ vars.more == 'yes' }}"
command = "echo maybe >> ran.log; cat $in > $out"

[task.each]
foreach = { file = "items.json", key = "name" }
inputs = ["c.txt"]
outputs = ["each/{{ key }}.txt"]
command = "echo each $key >> ran.log; cat $in > $out; echo $key >> $out"

[task.of_env]
outputs = ["env.txt"]
command = "echo of_env >> ran.log; echo \"$FLAVOUR\" > $out"
env = ["FLAVOUR"]

[task.each_maybe]
foreach = { file = "items.json", key = "name" }
inputs = { one = "in/1.txt" }
outputs = ["each_maybe/{{ key }}.txt"]
when = "{{ item.name == 'x' or 'input' in one }}"
command = "echo each_maybe $key >> ran.log; cat $in > $out"

[task.list]
inputs = { three = "in/3.txt" }
outputs = ["list.json"]
when = "{{ 'input' in three }}"
command = "echo list >> ran.log; echo '[{\"name\": \"l\"}, {\"name\": \"m\"}]' > $out"

[task.of_list]
foreach = { file = "list.json", key = "name" }
inputs = { two = "in/2.txt" }
outputs = ["of_list/{{ key }}.txt"]
when = "{{ key == 'l' or 'input' in two }}"
command = "echo of_list $key >> ran.log; cat $in > $out"

[task.whole]
inputs = ["each_maybe/*.txt", "of_list/*.txt"]
optional = ["each_maybe/*.txt", "of_list/*.txt"]
outputs = ["whole.txt"]
command = "echo whole >> ran.log; cat /dev/null $in > $out; echo end >> $out"

[task.gate]
inputs = { c = "c.txt", whole = "whole.txt" }
outputs = ["gate.json"]
gate = { fail_if = "{{ 'changed' in whole }}", warn_if = "{{ 'input' in whole }}", action = "warn", message = "{{ vars.title }}" }

[task.scored]
inputs = ["gate.json"]
outputs = ["scored.txt"]
command = "echo scored >> ran.log; cat $in > $out; [ -z \"$PLANEXE_NOTES\" ] || echo again >> $out"
eval = { command = "echo eval >> ran.log; if grep -q again $in || ! grep -q 'Sums 1' $in; then echo '{\"score\": 1, \"notes\": \"\"}'; else echo '{\"score\": 0, \"notes\": \"\"}'; fi", threshold = 0.5 }
"#;

/// No globs, no fan-outs, no files of text, so that the null-build record can be renewed; groups, tasks that nobody asked for, and a
/// file that includes another.
const PLAIN: &str = r#"
[pipeline]
default = ["all", "maybe"]
include = ["more.toml"]

[vars]
title = "Sums"
more = "no"

[task.a1]
inputs = { x = "in/1.txt", y = "in/2.txt" }
outputs = ["l/a1.txt"]
command = ["./sum", "a1", "$out", "$in.x", "$in.y"]

[task.a2]
inputs = ["in/2.txt", "in/3.txt"]
outputs = ["l/a2.txt", "l/a2.more.txt"]
command = "echo a2 >> ran.log; cat $in > $out.0; wc -c $in > $out.1"

[task.left]
inputs = ["l/a1.txt"]

[task.b1]
inputs = { x = "l/a1.txt", y = "l/a2.txt" }
outputs = ["l/b1.txt"]
command = ["./sum", "b1", "$out", "$in.x", "$in.y"]

[task.c]
inputs = ["b2.txt"]
outputs = ["c.txt"]
command = ["./sum", "c", "$out", "$in"]

[task.page]
inputs = { c = "c.txt", b = "l/b1.txt" }
outputs = ["page.html"]
template = "<h1>{{ vars.title }}</h1>{{ c }}"

[task.maybe]
inputs = ["c.txt"]
outputs = ["maybe.txt"]
when = "{{ vars.more == 'yes' }}"
command = "echo maybe >> ran.log; cat $in > $out"

[task.nobody]
inputs = ["c.txt"]
outputs = ["nobody.txt"]
command = "echo nobody >> ran.log; cat $in > $out"

[task.all]
inputs = ["page.html", "env.txt", "l/b1.txt"]
after = ["left"]
"#;
const MORE: &str = r#"
[task.b2]
inputs = ["l/a2.txt", "l/a2.more.txt"]
outputs = ["b2.txt"]
command = "echo b2 >> ran.log; head -c 20 $in.0 > $out"

[task.of_env]
outputs = ["env.txt"]
command = "echo of_env >> ran.log; echo \"$FLAVOUR\" > $out"
env = ["FLAVOUR"]
"#;

const OUTPUTS: [&str; 17] = [
    "l/a1.txt",
    "l/a2.txt",
    "l/a2.more.txt",
    "l/b1.txt",
    "b2.txt",
    "c.txt",
    "sources.txt",
    "made.txt",
    "page.html",
    "each/x.txt",
    "env.txt",
    "each_maybe/y.txt",
    "list.json",
    "of_list/l.txt",
    "whole.txt",
    "gate.json",
    "scored.txt",
];
const CACHES: [&str; 2] = [".planexe/index", ".planexe/durations"];

fn space() -> Space {
    space_of(TASKS)
}

fn space_of(tasks: &str) -> Space {
    let space = Space::new();
    space.write("pipeline.toml", tasks);
    space.write("more.toml", MORE);
    for n in 1..4 {
        space.write(&format!("in/{n}.txt"), format!("input {n}\n"));
    }
    space.write("page.html.j2", "<h1>{{ vars.title }}</h1>{{ c }}{{ made }}");
    space.write("items.json", r#"[{"name": "x"}, {"name": "y"}]"#);
    space.write("sum", "#!/bin/sh\necho $1 >> ran.log\nout=$2\nshift 2\ncat \"$@\" | cksum > \"$out\"\n");
    fs::set_permissions(space.path("sum"), fs::Permissions::from_mode(0o755)).expect("a program");
    space.set_env("FLAVOUR", "plain");
    space
}

/// A change a user may make, by its number, to one of many files; the same for the same numbers.
fn change(space: &Space, tasks: &str, kind: u64, which: u64) -> String {
    let pick = |of: &[&str]| of[which as usize % of.len()].to_owned();
    let input = pick(&["in/1.txt", "in/2.txt", "in/3.txt"]);
    let output = pick(&OUTPUTS);
    let marker = format!("{output}.DONE");
    match kind {
        0 => space.write(&input, format!("changed {which}\n")),
        1 => space.write(&input, space.bytes(&input)),
        2 => {
            // Same size, times set back.
            let (mut bytes, time) = (space.bytes(&input), space.mtime(&input));
            bytes[0] ^= 1;
            space.write(&input, bytes);
            let file = fs::File::options().write(true).open(space.path(&input)).expect("the input");
            file.set_times(FileTimes::new().set_modified(time)).expect("its times");
        }
        3 if output == "list.json" && space.exists(&output) => {
            space.write(&output, r#"[{"name": "by hand"}]"#);
        }
        3 if space.exists(&output) => space.write(&output, format!("by hand {which}\n")),
        4 if space.exists(&output) => space.remove(&output),
        5 if space.exists(&marker) => space.remove(&marker),
        6 if space.exists(&marker) => {
            let bytes = space.bytes(&marker);
            space.write(&marker, &bytes[..bytes.len() / 2]);
        }
        7 if space.exists(&marker) => space.write(&marker, ""),
        8 => space.write(&format!("in/{}.txt", 4 + which % 3), "one more\n"),
        9 => drop(fs::remove_file(space.path(&format!("in/{}.txt", 4 + which % 3)))),
        10 => space.write("pipeline.toml", tasks.replace("Sums", &format!("Sums {}", which % 3))),
        11 => {
            let bytes = format!("head -c {}", 10 + which % 3);
            space.write("pipeline.toml", tasks.replace("head -c 20", &bytes));
            space.write("more.toml", MORE.replace("head -c 20", &bytes));
        }
        12 => space.write("page.html.j2", format!("<h2>{{{{ vars.title }}}}</h2>{{{{ c }}}}{}", which % 3)),
        13 => space.write("pipeline.toml", tasks.replace("more = \"no\"", "more = \"yes\"")),
        14 => space.write("items.json", format!(r#"[{{"name": "x"}}, {{"name": "z{}"}}]"#, which % 2)),
        15 => space.set_env("FLAVOUR", format!("{}", which % 3)),
        16 if space.exists(&output) => {
            // Another file of the same content takes its place.
            let bytes = space.bytes(&output);
            space.remove(&output);
            space.write(&output, bytes);
        }
        17 => space.write(
            "pipeline.toml",
            tasks.replace("threshold = 0.5", &format!("threshold = 0.{}", 1 + which % 9)),
        ),
        18 => space.write(
            "pipeline.toml",
            tasks.replace("key == 'l' or", ["key == 'm' or", "key == 'm' and"][which as usize % 2]),
        ),
        19 => space.write("pipeline.toml", tasks.replace("'changed' in whole", "'input' in whole")),
        20 => space.write(&input, format!("input {which}\n")),
        _ => {}
    }
    format!("change {kind} of {input} or {output}")
}

fn log(space: &Space) -> Vec<String> {
    let text = fs::read_to_string(space.path("ran.log")).unwrap_or_default();
    let _ = fs::remove_file(space.path("ran.log"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn outputs(space: &Space) -> Vec<(String, Vec<u8>)> {
    let tree = space.tree().into_iter();
    tree.filter(|(path, _)| !path.starts_with("in/") && path != "ran.log").collect()
}

/// What a build said at its end, without the seconds it took.
fn told(stderr: &str) -> String {
    let is_time = |word: &str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('s');
    let words = stderr.lines().last().unwrap_or_default().split(' ').filter(|word| !is_time(word));
    words.collect::<Vec<_>>().join(" ")
}

/// Both spaces are built; the same must run and come out.
fn compare(with: &Space, without: &Space, at: &str) {
    for cache in CACHES {
        let _ = fs::remove_file(without.path(cache));
    }
    let (one, other) = (with.run(&["build"]), without.run(&["build"]));
    assert_eq!(one.code, other.code, "{at}\n{}\n{}", one.stderr, other.stderr);
    assert_eq!(log(with), log(without), "{at}\n{}\n{}", one.stderr, other.stderr);
    assert_eq!(outputs(with), outputs(without), "{at}");
    assert_eq!(told(&one.stderr), told(&other.stderr), "{at}");
}

#[test]
fn any_change_is_seen_as_without_them() {
    changes_are_seen(TASKS, 5);
}

#[test]
fn any_change_is_seen_where_the_record_is_renewed() {
    changes_are_seen(PLAIN, 6);
}

/// How many rounds: `PLANEXE_ROUNDS=N` tries another number.
fn rounds(usual: u32) -> u32 {
    std::env::var("PLANEXE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

fn changes_are_seen(tasks: &str, seed: u64) {
    let mut rng = Rng(seed);
    let (with, without) = (space_of(tasks), space_of(tasks));
    compare(&with, &without, "the first build");
    for round in 0..rounds(36) {
        let (kind, which) = (rng.below(22), rng.next());
        let at = format!("round {round}: {}", change(&with, tasks, kind, which));
        change(&without, tasks, kind, which);
        // Now and then at once, while files are still too young to be believed.
        if rng.chance(50) {
            std::thread::sleep(std::time::Duration::from_millis(70));
        }
        if rng.chance(30) {
            let (kind, which) = (rng.below(22), rng.next());
            change(&with, tasks, kind, which);
            change(&without, tasks, kind, which);
        }
        compare(&with, &without, &at);
        if rng.chance(50) {
            let again = with.run(&["build"]).exits(0);
            assert_eq!(log(&with), [""; 0], "{at}: a second build runs something\n{}", again.stderr);
        }
    }
}

#[test]
fn any_byte_of_them_may_be_wrong() {
    bytes_may_be_wrong(TASKS, 7);
}

#[test]
fn any_byte_of_them_may_be_wrong_where_the_record_is_renewed() {
    bytes_may_be_wrong(PLAIN, 8);
}

fn bytes_may_be_wrong(tasks: &str, seed: u64) {
    let mut rng = Rng(seed);
    let (with, without) = (space_of(tasks), space_of(tasks));
    compare(&with, &without, "the first build");
    for round in 0..rounds(24) {
        std::thread::sleep(std::time::Duration::from_millis(60));
        with.run(&["build"]).exits(0);
        for cache in CACHES {
            let Ok(mut bytes) = fs::read(with.path(cache)) else { continue };
            if bytes.is_empty() {
                continue;
            }
            match rng.below(4) {
                0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
                1 => bytes.extend(b"more"),
                2 => bytes.clear(),
                _ => {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << rng.below(8);
                }
            }
            fs::write(with.path(cache), bytes).expect(cache);
        }
        let (kind, which) = (rng.below(22), rng.next());
        let at = format!("round {round}: {}", change(&with, tasks, kind, which));
        change(&without, tasks, kind, which);
        compare(&with, &without, &at);
    }
}

#[test]
fn they_of_another_run_are_not_believed() {
    let (one, other) = (space(), space());
    one.run(&["build"]).exits(0);
    other.write("in/1.txt", "something else\n");
    other.run(&["build"]).exits(0);
    std::thread::sleep(std::time::Duration::from_millis(70));
    one.run(&["build"]).exits(0);
    let ran = log(&other);
    for cache in CACHES {
        fs::copy(one.path(cache), other.path(cache)).expect(cache);
    }
    other.write("in/1.txt", "something else again\n");
    other.run(&["build"]).exits(0);
    assert!(log(&other).contains(&"a1".to_owned()), "{ran:?}");
}

/// After the first build the second one knows that there is nothing to do, and reads nothing.
#[test]
fn a_finished_build_leaves_a_null_build_record() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\ninputs = [\"in.txt\"]\noutputs = [\"a.txt\"]\ncommand = [\"cp\", \"$in\", \"$out\"]\n\n\
         [task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\ncommand = \"cat $in > $out\"\n",
    );
    space.write("in.txt", "x");
    space.run(&["build"]).exits(0);
    for cache in CACHES {
        assert!(space.exists(cache), "{cache}");
    }
    assert!(space.has_null_build_record("."));
    space.run(&["build"]).exits(0).says(&["everything is up to date (2 tasks)"]);
    std::thread::sleep(std::time::Duration::from_millis(70));
    space.run(&["build"]).exits(0).says(&["everything is up to date (2 tasks)"]);
    assert!(space.has_null_build_record("."));
    // One that changed is renewed, not written anew.
    space.write("in.txt", "y");
    space.run(&["build"]).exits(0).says(&["2 tasks ran"]);
    assert!(space.has_null_build_record("."));
    space.run(&["build"]).exits(0).says(&["everything is up to date (2 tasks)"]);
    assert_eq!(space.read("b.txt"), "y");
}

/// What the items of a fan-out are skipped for is part of the record, whether their outputs are there or not; and one
/// whose list of items is not made, because that is skipped too, has a record as well.
#[test]
fn a_condition_of_a_fan_out_is_seen_to_change() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.list]
inputs = ["type.json"]
outputs = ["made.json"]
when = "{{ type.list }}"
command = "echo '{\"items\": [\"z\"]}' > $out"

[task.of_list]
foreach = { file = "made.json", items = "/items" }
outputs = ["of_list/{{ key }}.txt"]
command = "echo $key > $out"

[task.each]
foreach = { file = "items.json", items = "/items" }
inputs = { kind = "kind.json" }
outputs = ["each/{{ key }}.txt"]
when = "{{ kind.go }}"
command = "echo $key > $out"
"#,
    );
    space.write("items.json", r#"{"items": ["x", "y"]}"#);
    space.write("type.json", r#"{"list": false}"#);
    let go = |go: bool| space.write("kind.json", format!("{{\"go\": {go}}}"));
    let remembered = || {
        // Files as young as the clock's granularity are not believed.
        until("a null-build record", || {
            space.run(&["build"]).exits(0).says(&["everything is up to date"]);
            space.has_null_build_record(".").then_some(())
        });
    };
    go(false);
    space.run(&["build"]).exits(0);
    remembered();
    go(true);
    space.run(&["build"]).exits(0).says(&["2 tasks ran"]);
    remembered();
    go(false);
    space.run(&["build"]).exits(0).says(&["everything is up to date"]);
    fs::remove_file(space.path(".planexe/index")).ok();
    remembered();
    go(true);
    space.write("items.json", r#"{"items": ["x", "y", "w"]}"#);
    space.run(&["build"]).exits(0).says(&["1 task ran"]);
    remembered();
    space.write("type.json", r#"{"list": true}"#);
    space.run(&["build"]).exits(0).says(&["2 tasks ran"]);
}

/// A record that is renewed after few changes speaks of the same tasks: not of one that is skipped since as up to date, nor
/// is it silent of one that is done since.
#[test]
fn a_condition_that_changed_is_not_forgotten_by_the_next_change() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.a]
inputs = { kind = "kind.txt" }
outputs = ["a.txt"]
when = "{{ 'go' in kind }}"
command = "cat $in > $out"

[task.x]
inputs = ["x.in"]
outputs = ["x.txt"]
command = "cat $in > $out"

[task.b]
inputs = ["a.txt", "x.txt"]
outputs = ["b.txt"]
command = "cat $in > $out"
"#,
    );
    let settled = || {
        std::thread::sleep(std::time::Duration::from_millis(70));
        space.run(&["build"]).exits(0).says(&["everything is up to date (3 tasks)"]);
    };
    let with = |file: &str, text: &str| {
        space.write(file, text);
        space.run(&["build"]).exits(0)
    };
    space.write("kind.txt", "go");
    with("x.in", "1").says(&["3 tasks ran"]);
    settled();
    with("kind.txt", "no").says(&["everything is up to date"]);
    settled();
    settled();
    with("x.in", "2").says(&["1 task ran", "2 skipped"]);
    assert_eq!(space.read("b.txt"), "go1", "it reads what is skipped");
    settled();
    settled();
    // Back again: all that was made then is as it was, and is looked at.
    with("x.in", "1").says(&["1 task ran", "2 skipped"]);
    settled();
    settled();
    with("kind.txt", "go").says(&["everything is up to date"]);
    settled();
    settled();
    space.remove("a.txt");
    space.run(&["build"]).exits(0).says(&["1 task ran"]);
    assert_eq!(space.read("a.txt"), "go");
    settled();
    assert!(space.has_null_build_record("."));
}

/// Of very many markers only the folders are looked at, once their times are known to stand.
#[test]
fn any_name_that_comes_or_goes_is_seen_among_many_markers() {
    let many = || {
        let space = Space::new();
        let task = |n: usize| {
            format!(
                "[task.t{n}]\ninputs = [\"in/{}.txt\"]\noutputs = [\"{}/{n}.txt\"]\ncommand = \"echo t{n} >> ran.log; cat $in > $out\"\n\n",
                n % 5,
                n % 3
            )
        };
        space.write("pipeline.toml", (0..530).map(task).collect::<String>());
        (0..5).for_each(|n| space.write(&format!("in/{n}.txt"), format!("input {n}\n")));
        space
    };
    let change = |space: &Space, kind: u64, n: u64| {
        let (output, other) = (format!("{}/{n}.txt", n % 3), format!("{}/{}.txt", (n + 1) % 3, n + 1));
        let (marker, input) = (format!("{output}.DONE"), format!("in/{}.txt", n % 5));
        match kind {
            0 => space.remove(&marker),
            1 => space.remove(&output),
            2 => {
                // The marker of another task takes its place.
                space.write("other", space.bytes(&format!("{other}.DONE")));
                fs::rename(space.path("other"), space.path(&marker)).expect("in its place");
            }
            3 => space.write(&output, format!("by hand {n}\n")),
            4 => space.write(&input, format!("changed {n}\n")),
            5 => {
                fs::rename(space.path(&marker), space.path("away")).expect("away");
                fs::rename(space.path("away"), space.path(&marker)).expect("and back");
            }
            6 => space.write(&format!("{}/by-hand", n % 3), "a file that is nobody's"),
            _ => space.write(&input, space.bytes(&input)),
        }
        format!("change {kind} of {output}")
    };
    let mut rng = Rng(9);
    let (with, without) = (many(), many());
    compare(&with, &without, "the first build");
    for round in 0..16 {
        // Old enough to be told from what comes.
        std::thread::sleep(std::time::Duration::from_millis(70));
        with.run(&["build"]).exits(0);
        let cache = (with.bytes(".planexe/index"), with.mtime(".planexe/index"));
        with.run(&["build"]).exits(0);
        let again = (with.bytes(".planexe/index"), with.mtime(".planexe/index"));
        assert!(cache == again, "round {round}: the second build learned something the first did not");
        let (kind, n) = (rng.below(8), rng.below(529));
        let at = format!("round {round}: {}", change(&with, kind, n));
        change(&without, kind, n);
        compare(&with, &without, &at);
    }
}

/// A pipeline whose inputs are not all there has a fault, also where nobody makes what reads them.
#[test]
fn an_input_that_only_others_read_is_missed() {
    let space = Space::new();
    let task = |name: &str, inputs: &str| {
        format!(
            "[task.{name}]\ninputs = [\"{inputs}\"]\noutputs = [\"{name}.txt\"]\ncommand = \"cat $in > $out\"\n\n"
        )
    };
    let each = "[task.each]\nforeach = { file = \"none.json\" }\ninputs = [\"each.txt\"]\noutputs = [\"each/{{ key }}.txt\"]\n\
                command = \"cat $in > $out\"\n";
    let all = [task("a", "in.txt"), task("b", "a.txt"), task("c", "other.txt"), each.to_owned()].concat();
    space.write("pipeline.toml", format!("[pipeline]\ndefault = [\"b\", \"each\"]\n\n{all}"));
    for (file, text) in [("in.txt", "x"), ("other.txt", "x"), ("each.txt", "x"), ("none.json", "[]")] {
        space.write(file, text);
    }
    for _ in 0..2 {
        space.build();
        std::thread::sleep(std::time::Duration::from_millis(70));
    }
    for gone in ["other.txt", "each.txt"] {
        space.write(gone, "other, which makes no difference");
        space.run(&["build"]).exits(0).says(&["everything is up to date"]);
        fs::rename(space.path(gone), space.path("away")).expect("away");
        space.run(&["build", "-q"]).exits(2).says(&[gone, "is not there"]);
        space.write("in.txt", gone);
        space.run(&["build"]).exits(2).says(&[gone, "is not there"]);
        fs::rename(space.path("away"), space.path(gone)).expect("back");
        space.build();
    }
}
