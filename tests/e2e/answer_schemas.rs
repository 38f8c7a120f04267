//! What machines read is what `planexe schema` says: every answer and every event, of runs in many states. Here a field
//! that the schema does not name is a fault, so that none is added without it.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::json_answers::TASKS;
use crate::support::{Answer, FakeLlm, Space, until};

/// The schemas, as the program prints them, and which of their parts were met.
struct Schemas {
    answers: BTreeMap<String, Validator>,
    events: BTreeSet<String>,
    met: BTreeSet<String>,
}

/// Where an object may have any fields, it may have those that are named. What belongs to a larger object has its fields
/// judged there.
fn strict(schema: &mut Value, is_part: bool) {
    let Value::Object(members) = schema else { return };
    if !is_part && members.contains_key("properties") && !members.contains_key("additionalProperties") {
        members.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
    }
    let has_parts = members.contains_key("properties");
    for (key, value) in members.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "patternProperties", Value::Object(named)) => {
                named.values_mut().for_each(|schema| strict(schema, false));
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(forms)) => {
                forms.iter_mut().for_each(|schema| strict(schema, is_part || has_parts));
            }
            ("prefixItems", Value::Array(items)) => items.iter_mut().for_each(|schema| strict(schema, false)),
            ("items" | "additionalProperties", value) => strict(value, false),
            _ => {}
        }
    }
}

/// Looks at one answer.
pub fn assert_as_the_schema_says(name: &str, answer: &Value) {
    let mut schema = Space::new().run(&["schema", name]).exits(0).json();
    strict(&mut schema, false);
    assert_valid(&jsonschema::validator_for(&schema).expect("a schema"), name, answer);
}

fn assert_valid(schema: &Validator, what: &str, answer: &Value) {
    let faults: Vec<String> =
        schema.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{what}: {faults:#?}\n{answer:#}");
}

impl Schemas {
    fn new() -> Schemas {
        let space = Space::new();
        let print = |name: &str| space.run(&["schema", name]).exits(0).json();
        let all = print("answers");
        let forms = all["anyOf"].as_array().expect("all forms");
        let names = forms.iter().filter_map(|form| form["$ref"].as_str()?.strip_prefix("#/$defs/"));
        let names: Vec<String> = names.map(str::to_owned).collect();
        assert!(names.len() > 40, "{names:?}");
        let mut answers = BTreeMap::new();
        for name in &names {
            let mut schema = print(name);
            jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
            strict(&mut schema, false);
            answers.insert(name.clone(), jsonschema::validator_for(&schema).expect("a schema"));
        }
        let mut events = BTreeSet::new();
        for form in print("events")["$defs"]["Event"]["oneOf"].as_array().expect("events") {
            events.insert(form["properties"]["event"]["const"].as_str().expect("a name").to_owned());
        }
        Schemas { answers, events, met: BTreeSet::new() }
    }

    fn check(&mut self, name: &str, what: &str, answer: &Value) {
        let is_error =
            answer.get("error").is_some() && answer.get("run_dir").is_none() && answer.get("run").is_none();
        let name = if is_error { "error" } else { name };
        let schema = self.answers.get(name).unwrap_or_else(|| panic!("{what}: there is no schema `{name}`"));
        assert_valid(schema, what, answer);
        self.met.insert(name.to_owned());
    }

    /// Runs a command with `--json` and looks at what it prints, a line or a whole.
    fn run(&mut self, space: &Space, line: &str) -> Value {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.push("--json");
        let out = space.run(&arguments);
        let answer: Value =
            serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{line}: {error}\n{out}"));
        let name = match line {
            _ if line.starts_with("events --deliver") => "deliver",
            _ if line.starts_with("explain nothing") => "error",
            _ => arguments[0],
        };
        self.check(name, line, &answer);
        answer
    }

    /// What is looked at in every state of a run.
    fn look(&mut self, space: &Space) {
        for line in [
            "status",
            "build -n",
            "resume --dry-run",
            "gantt",
            "failures",
            "usage --prefixes",
            "checkpoints",
            "graph --format json --state",
            "files",
            "list ..",
            "history",
        ] {
            self.run(space, line);
        }
        let status = space.report();
        for task in status["tasks"].as_array().expect("tasks") {
            let name = task["task"].as_str().expect("a name");
            self.run(space, &format!("explain {name}"));
            self.run(space, &format!("show {name}"));
        }
        self.events(space);
    }

    fn events(&mut self, space: &Space) {
        for event in space.lines("events.jsonl") {
            self.check("events", "events.jsonl", &event);
            self.met.insert(event["event"].as_str().expect("its name").to_owned());
        }
    }
}

/// Beside those of [`TASKS`]: what follows a failure, gates, an executor and a service.
const MORE: &str = r#"
[task.after_bad]
inputs = ["bad.txt"]
outputs = ["after_bad.txt"]
command = "cat $in > $out"

[task.go]
inputs = { a = "a.txt" }
outputs = ["go.json"]
gate = { fail_if = "{{ true }}", warn_if = "{{ true }}", action = "pause", message = "Go?" }

[task.warned]
inputs = { a = "a.txt" }
outputs = ["warned.json"]
gate = { fail_if = "{{ true }}", action = "warn", message = "Oh." }

[task.if_not]
when = "{{ false }}"
outputs = ["if_not.txt"]
command = "true > $out"

[task.far]
outputs = ["far.txt"]
executor = "detached"
command = "while [ ! -e ../far-go ] && [ -e pipeline.toml ]; do sleep 0.02; done; echo far > $out"

[services.up]
command = "touch ../up; while [ -e pipeline.toml ]; do sleep 0.05; done"
ready = { command = ["test", "-e", "../up"] }

[task.served]
outputs = ["served.txt"]
service = "up"
command = "while [ ! -e ../served-go ] && [ -e pipeline.toml ]; do sleep 0.02; done; echo served > $out"
"#;

#[test]
fn every_answer_and_every_event_is_as_the_schema_says() {
    let mut schemas = Schemas::new();
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "no such field"),
        _ => Answer::Default,
    });
    let space = Space::with(&server, &format!("{TASKS}{MORE}"));
    space.write("plan.txt", "A bridge.");
    space.write("new.txt", "A longer bridge.");
    space.write("facts.json", r#"{"facts": [{"id": "rent", "value": 1450, "unit": "EUR"}]}"#);
    schemas.run(&space, "check");
    schemas.look(&space);
    // While it runs: a service that is up, a command that an executor has, a model that writes.
    server.hold("each");
    let build = space.spawn(&["build", "--keep-going"]);
    server.wait_for_calls("each", 2);
    until("the service to be up", || {
        let status = schemas.run(&space, "status");
        (status["services"][0]["state"] == "ready"
            && status["tasks"].as_array()?.iter().any(|task| !task["executor"]["job"].is_null()))
        .then_some(())
    });
    schemas.look(&space);
    schemas.run(&space, "pause");
    until("the pause", || (schemas.run(&space, "status")["run"]["phase"] == "paused").then_some(()));
    space.run(&["resume"]);
    server.release("each");
    space.write("../far-go", "");
    space.write("../served-go", "");
    build.wait().exits(1);
    // Something failed, a person is asked, a gate is open, a gate warned.
    schemas.look(&space);
    for line in [
        "wait",
        "gantt --html gantt.html",
        "report --html run.html",
        "trace -o trace.json",
        "complexity",
        "explain a each bad",
        "simulate",
        "files a.txt",
        "files bad.txt",
        "files nothing.txt",
        "doctor",
        "keys",
        "done sign",
        "retry bad --dry-run",
        "retry bad",
        "stop",
        "record answers.json",
        "optimize --list",
        "events --deliver",
        "edit-plan --set plan.txt --all",
        "edit-plan --set new.txt --all",
        "build --keep-going",
        "evidence add rent --facts facts.json --from letter --source facts.json --excerpt 1450",
        "evidence --facts facts.json",
        "evidence remove rent-1",
        "history",
        "diff a",
        "touch a",
        "clean a --yes",
        "restore a",
        "gc",
        "abort",
        "resume",
        "new other",
        "archive other --yes",
        "new another",
        "delete another --yes",
        "explain nothing",
    ] {
        schemas.run(&space, line);
    }
    schemas.look(&space);
    space.write("pipeline.toml", "[task.a]\nprompt = 3\nword = 1\n");
    schemas.run(&space, "check");
    let never: Vec<&str> =
        schemas.answers.keys().filter(|name| !schemas.met.contains(*name)).map(String::as_str).collect();
    // The tests of these commands do so.
    assert_eq!(
        never,
        ["execute", "import", "interview", "timeline", "ui"],
        "these answers were not looked at here"
    );
}

#[test]
fn a_parked_model_and_an_evaluator_are_as_the_schema_says() {
    let mut schemas = Schemas::new();
    let server = FakeLlm::scripted(|request| {
        match request.task.as_str() {
        "limited" => Answer::Http(
            429,
            vec![("retry-after", "3600".into())],
            json!({ "error": { "message": "The usage limit has been reached", "type": "usage_limit_reached" } }).to_string(),
        ),
        _ => Answer::Default,
    }
    });
    let space = Space::with(
        &server,
        r#"
[task.judged]
outputs = ["judged.txt"]
kind = "agent"
command = "echo draft > $out; exit 1"

[task.judged.eval]
command = ["echo", '{"score": 0.9}']
threshold = 0.5
rescue = true

[task.low]
outputs = ["low.txt"]
command = "echo draft > $out"

[task.low.eval]
command = ["echo", '{"score": 0.1}']
threshold = 0.5

[task.limited]
outputs = ["limited.txt"]
prompt = "TASK=limited\nAnswer."
"#,
    );
    space.edit("pipeline.toml", "max_attempts = 2", "wait = \"1s\", max_attempts = 2");
    space.run(&["build", "--keep-going"]);
    let status = schemas.run(&space, "status");
    assert!(status["parked"].is_array(), "{status:#}");
    schemas.look(&space);
    for event in ["model.parked", "task.rescued", "pipeline.stopped"] {
        assert!(schemas.met.contains(event) && schemas.events.contains(event), "{event}: {:?}", schemas.met);
    }
}

#[test]
fn a_field_that_the_schema_does_not_name_is_found() {
    let mut schemas = Schemas::new();
    let server = FakeLlm::new();
    let space = Space::with(&server, "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"Answer.\\nTASK=a\"\n");
    space.build();
    let mut events = space.lines("events.jsonl");
    schemas.check("events", "as it is", &events[0]);
    let status = schemas.run(&space, "status");
    for (name, answer, place) in [
        ("events", &mut events[0], ""),
        ("status", &mut status.clone(), ""),
        ("status", &mut status.clone(), "/tasks/0"),
        ("status", &mut status.clone(), "/run"),
    ] {
        answer.pointer_mut(place).expect(place)["colour"] = "red".into();
        assert!(!schemas.answers[name].is_valid(answer), "{name} {place}");
    }
}
