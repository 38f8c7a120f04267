//! What scripts and agents read: every answer under `--json` is one object with its format's number, and every
//! field in it is described.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Answer, FakeLlm, Space};

/// Tasks that end in every common way.
pub(crate) const TASKS: &str = r#"
[pipeline]
plan = "plan.txt"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.people]
outputs = ["people.json"]
template = '["ann", "bob"]'

[task.each]
foreach = { file = "people.json" }
inputs = ["a.txt"]
outputs = ["each/{{ key }}.txt"]
prompt = "{{ item }} {{ a }}\nTASK=each"

[task.bad]
inputs = ["a.txt"]
outputs = ["bad.txt"]
prompt = "TASK=bad\n{{ a }}"

[task.sign]
inputs = ["a.txt"]
outputs = ["sign.txt"]
human = "Read a.txt"
"#;

/// Fields whose members are names, not fields.
const BY_NAME: [&str; 6] = ["by_class", "counts", "parts", "made_with", "models", "params"];

fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                found.insert(name.clone());
                if !BY_NAME.contains(&name.as_str()) || value.is_array() {
                    fields(value, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_of_every_answer_is_described() {
    let doc = concat!(
        include_str!("../../docs/formats.md"),
        include_str!("../../docs/events.md"),
        include_str!("../../docs/execution.md"),
        include_str!("../../docs/optimize.md")
    );
    let words: BTreeSet<&str> = doc.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "no such field"),
        _ => Answer::Default,
    });
    let space = Space::with(&server, TASKS);
    space.write("plan.txt", "A bridge.");
    space.write("new.txt", "A longer bridge.");
    space.write("facts.json", r#"{"facts": [{"id": "rent", "value": 1450, "unit": "EUR"}]}"#);
    let mut undescribed = BTreeSet::new();
    for line in [
        "check",
        "build -n",
        "build",
        "build -q",
        "status",
        "wait",
        "gantt",
        "gantt --watch",
        "gantt --html gantt.html",
        "report --html run.html",
        "trace -o trace.json",
        "complexity",
        "explain a",
        "explain a each bad",
        "show a",
        "failures",
        "usage --prefixes",
        "checkpoints",
        "graph --format json",
        "simulate",
        "list",
        "files",
        "files a.txt",
        "doctor",
        "keys",
        "done sign",
        "retry bad",
        "stop",
        "pause",
        "resume --dry-run",
        "record answers.json",
        "optimize --list",
        "edit-plan --set nothing.txt --all",
        "edit-plan --set plan.txt --all",
        "edit-plan --set new.txt --all",
        "build --keep-going",
        "evidence add rent --facts facts.json --from letter --source facts.json --excerpt 1450",
        "evidence --facts facts.json",
        "evidence remove rent-1",
        "history",
        "diff a",
        "touch bad",
        "clean a --yes",
        "restore a",
        "gc",
        "abort",
        "resume",
        "new other",
        "explain nothing",
    ] {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.push("--json");
        let out = space.run(&arguments);
        let answer: Value =
            serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{line}: {error}\n{out}"));
        for answer in answer.as_array().unwrap_or(&vec![answer.clone()]) {
            assert_eq!(answer["schema"], 1, "{line}: {out}");
            assert_eq!(answer["server"]["name"], "planexe", "{line}: {out}");
            let mut found = BTreeSet::new();
            fields(answer, &mut found);
            let missing = found.into_iter().filter(|name| !words.contains(name.as_str()));
            undescribed.extend(missing.map(|name| format!("{line}: {name}")));
        }
    }
    assert!(undescribed.is_empty(), "not in docs/formats.md: {undescribed:#?}");
}
