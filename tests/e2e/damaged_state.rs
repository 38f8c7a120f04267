//! State files that are cut at any byte, hold garbage, or are no files at all: no command dies of one or waits for it,
//! no answer is lost, and hardly one is paid for again.
//!
//! A few places of each file are tried; `PLANEXE_EVERY_BYTE=1 cargo test --test e2e damaged_state` cuts at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, FakeLlm, Fifo, Space};

/// Leaves something of every kind behind: a candidate that scored too low, a rejected answer, items of which one
/// failed, a person's word, a model that is parked, events that nobody took, a log, a request to make anew.
const TASKS: &str = r##"
[models.spent]
api = "openai"
base_url = "BASE"
model = "spent"

[webhooks.ops]
url = "http://127.0.0.1:1/hook"

[task.low]
inputs = ["plan.txt"]
outputs = ["low.md"]
prompt = "TASK=low\n{{ plan }}"
[task.low.eval]
prompt = "TASK=judge\n{% for o in outputs %}{{ o.text }}{% endfor %}"
max_rounds = 1

[task.list]
inputs = ["plan.txt"]
outputs = ["list.json"]
prompt = "TASK=list\n{{ plan }}"
schema = "list.schema.json"

[task.each]
foreach = { file = "list.json", items = "/of", key = "k" }
outputs = ["each/{{ key }}.txt"]
prompt = "TASK=each[{{ key }}]\n{{ key }}"

[task.sign]
inputs = ["list.json"]
outputs = ["sign.json"]
gate = { fail_if = "{{ list.of }}", action = "pause" }

[task.word]
inputs = ["plan.txt"]
outputs = ["word.txt"]
command = "echo said; echo word >> ../word.log; cp $in $out; test ! -e ../fail"

[task.limit]
model = "spent"
outputs = ["limit.txt"]
prompt = "TASK=limit\nAnswer."
"##;

const LIST: &str = r#"{"of":[{"k":"a"},{"k":"b"},{"k":"c"}]}"#;

const SCHEMA: &str = r#"{"type":"object","required":["of"],"properties":{"of":{"type":"array"}}}"#;

/// The server of it: what fails, fails each time.
fn server() -> FakeLlm {
    FakeLlm::scripted(|call| match call.task.as_str() {
        "judge" => Answer::Text(json!({ "score": 0.1, "notes": "Name an owner." }).to_string()),
        "list" if call.nth == 0 => Answer::Text("no list at all".into()),
        "list" => Answer::Text(LIST.into()),
        "each[b]" => Answer::error(400, "not this one"),
        "limit" => {
            let body = json!({ "error": { "message": "The limit has been reached", "type": "usage_limit_reached" } });
            Answer::Http(429, vec![("retry-after", "36000".into())], body.to_string())
        }
        _ => Answer::Default,
    })
}

/// A run in which all of that has happened.
fn run(server: &FakeLlm) -> Space {
    let space = Space::with(server, &TASKS.replace("BASE", &server.base_url()));
    space.write("plan.txt", "A bridge.\n");
    space.write("list.schema.json", SCHEMA);
    space.run(&["build", "-k"]).exits(1);
    space.run(&["done", "sign"]).exits(0);
    space.run(&["build", "-k"]).exits(1);
    space.write("plan.txt", "A tunnel.\n");
    space.run(&["build", "-k"]).exits(1);
    space.run(&["done", "sign"]);
    fs::write(space.root().join("fail"), "").expect("a file");
    space.run(&["build", "-k", "-B", "word"]).exits(1);
    space.run(&["clean", "each", "--yes"]);
    space.run(&["build", "-k", "each"]);
    space
}

/// One thing that may have happened to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    CutAt(usize),
    Holds(&'static str),
    Deep,
    Folder,
    Pipe,
    Link,
}

impl Damage {
    fn all(length: usize) -> Vec<Damage> {
        use Damage::{CutAt, Deep, Folder, Holds, Link, Pipe};
        let mut all: Vec<Damage> = match std::env::var_os("PLANEXE_EVERY_BYTE") {
            Some(_) => (0..length).map(CutAt).collect(),
            None => [0, length / 2, length - 1].map(CutAt).into(),
        };
        all.extend([Holds("\0\0\0\0\0\0\0\0"), Holds("[-1e999]\n"), Holds("{\"schema\":99}\n"), Deep]);
        all.extend([Folder, Pipe, Link]);
        all
    }

    fn befalls(self, path: &Path, bytes: &[u8], victim: &Path) {
        fs::remove_file(path).expect("removed");
        match self {
            Damage::CutAt(length) => fs::write(path, &bytes[..length]).expect("cut"),
            Damage::Holds(text) => fs::write(path, text).expect("written"),
            Damage::Deep => fs::write(path, "[".repeat(200_000)).expect("written"),
            Damage::Folder => fs::create_dir(path).expect("a folder"),
            Damage::Pipe => drop(Fifo::new(path.into())),
            Damage::Link => symlink(victim, path).expect("a link"),
        }
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// Puts everything back as it was.
fn restore(space: &Space, kept: &Files, damaged: &str) {
    let _ = fs::remove_dir_all(space.path(damaged));
    for path in space.files("").into_iter().filter(|path| !kept.contains_key(path)) {
        space.remove(&path);
    }
    for (path, bytes) in kept {
        let at = space.path(path);
        let is_file = fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_file());
        if !is_file || space.bytes(path) != *bytes {
            let _ = fs::remove_file(&at);
            space.write(path, bytes);
        }
    }
}

/// Damages each of these files in all ways. `of` tells files of one kind by one name; one of a kind is enough.
fn damage(of: impl Fn(&str) -> Option<String>) {
    let server = server();
    let space = run(&server);
    let kept: Files = space.files("").into_iter().map(|path| (path.clone(), space.bytes(&path))).collect();
    let made = ["list.json", "each/a.txt", "each/c.txt", "sign.json", "word.txt"];
    let victim = space.root().join("victim");
    let mut kinds = BTreeSet::new();
    for (path, bytes) in &kept {
        if !of(path).is_some_and(|kind| kinds.insert(kind)) {
            continue;
        }
        for damage in Damage::all(bytes.len()) {
            let at = format!("{path}: {damage:?}");
            fs::write(&victim, "nobody's\n").expect("a file");
            damage.befalls(&space.path(path), bytes, &victim);
            let (before, start) = (server.counts(), Instant::now());
            for args in [&["status", "--json"][..], &["build", "-k"]] {
                let out = space.run(args);
                assert!((0..=3).contains(&out.code), "{at}\n{out}");
                for word in ["panicked", "BUG", "RUST_BACKTRACE"] {
                    assert!(!out.stderr.contains(word), "{at}\n{out}");
                }
                assert!(start.elapsed() < Duration::from_secs(60), "{at}\n{out}");
            }
            // Tasks that failed are tried again; what is done is not paid for again.
            for (task, count) in server.counts() {
                let more = count - before.get(&task).copied().unwrap_or_default();
                let may = match task.as_str() {
                    "low" | "judge" | "each[b]" => 1,
                    "limit" => usize::from(path.ends_with("parked.json")),
                    _ => 0,
                };
                assert!(more <= may, "{at}: {task} was called {more} times");
            }
            assert_eq!(fs::read_to_string(&victim).expect("the victim"), "nobody's\n", "{at}");
            for made in made.iter().filter(|made| *made != path) {
                assert!(space.bytes(made) == kept[*made], "{at}: {made} changed");
            }
            restore(&space, &kept, path);
        }
    }
    assert!(!kinds.is_empty(), "nothing was damaged");
}

#[test]
fn no_damaged_sidecar_output_or_log_loses_what_was_made() {
    let put_in = ["plan.txt", "pipeline.toml", "list.schema.json"];
    damage(|path| {
        (!path.starts_with(".planexe/") && !put_in.contains(&path)).then(|| path.replace("c.txt", "a.txt"))
    });
}

#[test]
fn no_damaged_answer_loses_what_was_made() {
    let kind = |path: &str| Some(path.rsplit_once('/')?.1.split_once('.')?.1.to_owned());
    damage(|path| path.starts_with(".planexe/calls/").then(|| kind(path)).flatten());
}

#[test]
fn no_damaged_file_of_the_state_loses_what_was_made() {
    damage(|path| {
        let path = path.strip_prefix(".planexe/").filter(|path| !path.starts_with("calls/"))?;
        let one_of_many = ["outbox/", "history/objects/"].into_iter().find(|folder| path.starts_with(folder));
        Some(one_of_many.unwrap_or(path).to_owned())
    });
}
