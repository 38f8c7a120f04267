//! Gates, and tasks for a person.

use crate::support::{FakeLlm, Space, counts, space};

fn gate(server: &FakeLlm, action: &str) -> Space {
    let space = space(
        server,
        &format!(
            r#"
[task.go]
inputs = {{ assessment = "assessment.json" }}
outputs = ["go.json"]
gate = {{ fail_if = "{{{{ assessment.verdict == 'no-go' }}}}", action = "{action}", message = "The verdict is {{{{ assessment.verdict }}}}." }}

[task.report]
inputs = ["plan.txt", "go.json"]
outputs = ["report.txt"]
prompt = "TASK=report\n{{{{ plan }}}}"

[task.aside]
inputs = ["plan.txt"]
outputs = ["aside.txt"]
prompt = "TASK=aside\n{{{{ plan }}}}"
"#
        ),
    );
    space.write("assessment.json", r#"{"verdict": "go"}"#);
    space
}

const NO_GO: &str = r#"{"verdict": "no-go"}"#;

#[test]
fn a_gate_that_is_passed() {
    let server = FakeLlm::new();
    for action in ["warn", "stop", "pause"] {
        let space = gate(&server, action);
        space.build();
        assert!(space.is_done("report.txt"), "{action}");
        assert!(space.json("go.json").is_object());
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn a_gate_that_warns() {
    let server = FakeLlm::new();
    let space = gate(&server, "warn");
    space.write("assessment.json", NO_GO);
    space.build().says(&["go", "The verdict is no-go."]);
    assert_eq!(server.counts(), counts([("aside", 1), ("report", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_gate_that_stops() {
    let server = FakeLlm::new();
    let space = gate(&server, "stop");
    space.write("assessment.json", NO_GO);
    let out = space.run(&["build"]).says(&["go", "The verdict is no-go."]);
    assert!(out.code == 1 || out.code == 3, "{out}");
    assert_eq!(server.counts(), counts([("aside", 1)]));
    assert!(!space.exists("report.txt"));
    space.write("assessment.json", r#"{"verdict": "go"}"#);
    space.build();
    assert_eq!(server.counts(), counts([("aside", 1), ("report", 1)]));
    space.assert_nothing_to_do(&server);
}

/// A score that a model wrote as a text, or left empty, passes no gate.
#[test]
fn a_score_that_is_no_number_passes_no_gate() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.go]
inputs = { score = "score.json" }
outputs = ["go.json"]
gate = { fail_if = "{{ score.value < 60 }}", action = "pause" }
"#,
    );
    for (value, code, words) in [
        ("\"5\"", 1, "it compares the text \"5\" with the number 60"),
        ("\"95\"", 1, "it compares the text"),
        ("null", 1, "it compares nothing with the number 60"),
        ("5", 3, "go waits"),
        ("95", 0, "go"),
    ] {
        space.write("score.json", format!("{{\"value\": {value}}}"));
        space.run(&["build"]).exits(code).says(&[words]);
    }
}

#[test]
fn a_gate_that_pauses_is_passed_by_hand() {
    let server = FakeLlm::new();
    let space = gate(&server, "pause");
    space.write("assessment.json", NO_GO);
    space.run(&["build"]).exits(3).says(&["go", "The verdict is no-go.", "planexe done go"]);
    assert_eq!(server.counts(), counts([("aside", 1)]));
    assert_eq!(space.state("go"), "waiting");
    space.run(&["build"]).exits(3);
    assert_eq!(server.total(), 1);
    space.run(&["done", "go"]).exits(0);
    space.build();
    assert_eq!(server.counts(), counts([("aside", 1), ("report", 1)]));
    assert_eq!(space.state("go"), "done");
    assert_eq!(space.done("go.json")["by"], "human");
    space.assert_nothing_to_do(&server);
    // Another verdict is another question.
    space.write("assessment.json", r#"{"verdict": "no-go", "why": "wind"}"#);
    space.run(&["build"]).exits(3);
}

const HUMAN: &str = r#"
[task.sign_off]
inputs = ["plan.txt"]
outputs = ["signed.txt"]
human = "Read plan.txt, then write signed.txt"

[task.publish]
inputs = ["signed.txt"]
outputs = ["published.txt"]
command = "cat $in > $out"
"#;

#[test]
fn a_task_for_a_person() {
    let server = FakeLlm::new();
    let space = space(&server, HUMAN);
    space.run(&["build"]).exits(3).says(&["sign_off", "Read plan.txt, then write signed.txt"]);
    assert_eq!(space.state("sign_off"), "waiting");
    assert!(!space.exists("published.txt"));
    space.write("signed.txt", "J. Doe\n");
    space.run(&["done", "sign_off"]).exits(0);
    space.build();
    assert_eq!(space.read("published.txt"), "J. Doe\n");
    assert_eq!(space.done("signed.txt")["by"], "human");
    space.assert_nothing_to_do(&server);
    // What was signed is no longer what is there.
    space.write("plan.txt", "Build a tunnel.\n");
    space.run(&["build"]).exits(3).says(&["sign_off"]);
    assert_eq!(space.state("sign_off"), "waiting");
    // Another person's name is not replaced by anything.
    space.write("signed.txt", "J. Roe\n");
    space.run(&["build", "-n"]).exits(0).says_nothing_of(&["edited by hand"]);
    space.run(&["done", "sign_off"]).exits(0);
    space.build().says_nothing_of(&["edited by hand"]);
    assert_eq!(space.read("published.txt"), "J. Roe\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_task_done_by_a_person_and_then_cleaned_asks_again() {
    let server = FakeLlm::new();
    let space = space(&server, HUMAN);
    for settle in ["build", "touch"] {
        space.run(&["build"]).exits(3);
        space.write("signed.txt", "J. Doe\n");
        space.run(&["done", "sign_off"]).exits(0);
        space.run(&[settle, "sign_off"]).exits(0);
        space.run(&["clean", "sign_off", "-y"]).exits(0);
        space.run(&["build"]).exits(3).says(&["sign_off"]);
    }
    // Done, and cleaned before a build has seen it.
    space.run(&["done", "sign_off"]).exits(0);
    space.run(&["clean", "sign_off", "-y"]).exits(0);
    space.run(&["build"]).exits(3).says(&["sign_off"]);
}

#[test]
fn a_person_who_writes_no_file_is_named_in_it() {
    let server = FakeLlm::new();
    let space = space(&server, HUMAN);
    space.run(&["build"]).exits(3);
    space.run(&["done", "sign_off"]).exits(0).says(&["signed.txt"]);
    space.build();
    assert!(!space.read("published.txt").is_empty());
    assert_eq!(space.done("signed.txt")["by"], "human");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_task_for_a_person_is_done_by_the_file_and_its_marker() {
    let server = FakeLlm::new();
    let space = space(&server, HUMAN);
    space.run(&["build"]).exits(3);
    space.write("signed.txt", "J. Doe\n");
    space.run(&["build"]).exits(3);
    space.write("signed.txt.DONE", "");
    space.build();
    assert_eq!(space.read("published.txt"), "J. Doe\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_person_is_done_while_the_build_runs() {
    let server = FakeLlm::new();
    // Beside it a call, not a command: where there is one core, that would be taken.
    let slow = "[task.slow]\noutputs = [\"slow.txt\"]\nprompt = \"TASK=slow\\nThink.\"\n";
    let space = space(&server, &format!("{HUMAN}\n{slow}"));
    server.hold("slow");
    let build = space.spawn(&["build", "-j2"]);
    server.wait_for_call("slow");
    crate::support::until("the task to wait", || (space.state("sign_off") == "waiting").then_some(()));
    space.write("signed.txt", "J. Doe\n");
    space.run(&["done", "sign_off"]).exits(0);
    crate::support::until("the reader to run", || space.is_done("published.txt").then_some(()));
    assert_eq!(space.sidecar("signed.txt")["attempt"], 2);
    server.release("slow");
    build.wait().exits(0);
    space.assert_nothing_to_do(&server);
}

/// What a person writes is held against the check of their task, with the inputs it looks at: when they say that they
/// are done, and again when a build takes it.
#[test]
fn what_a_person_writes_must_satisfy_the_check() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.pick]
inputs = { list = "options.json" }
outputs = ["pick.json"]
human = "Write pick.json"
[task.pick.check]
refs = { "/pick" = "list:/options/*/id" }
require = [{ that = "{{ answer.n >= list.options | length }}", message = "n is {{ answer.n }}, too few" }]

[task.next]
inputs = { picked = "pick.json" }
outputs = ["next.txt"]
prompt = "TASK=next\n{{ picked.pick }}"
"#,
    );
    space.write("options.json", r#"{"options": [{"id": "north"}, {"id": "south"}]}"#);
    space.run(&["build"]).exits(3);
    for (wrong, words) in [
        ("", "`pick.json` is not written"),
        (r#"{"pick": "west", "n": 2}"#, "`/pick`: is none of the ids there are"),
        (r#"{"pick": "north", "n": 1}"#, "n is 1, too few"),
        (r#"{"pick": "north", "n": 2"#, "the JSON ends in the middle"),
    ] {
        space.write("pick.json", wrong);
        space.run(&["done", "pick"]).exits(2).says(&[words, "planexe done pick"]);
        assert_eq!(space.run(&["done", "pick", "--json"]).exits(2).json()["error"]["code"], "not_accepted");
        space.run(&["build"]).exits(3);
    }
    assert_eq!(server.total(), 0);
    space.write("pick.json", r#"{"pick": "north", "n": 2}"#);
    space.run(&["done", "pick"]).exits(0);
    space.build();
    assert_eq!(server.total(), 1);
    space.assert_nothing_to_do(&server);
    // An edit that holds is kept; another check asks nobody again; other options do.
    space.write("pick.json", r#"{"pick": "south", "n": 2}"#);
    space.build();
    assert_eq!((server.total(), space.state("pick").as_str()), (2, "edited"));
    space.edit("pipeline.toml", "too few", "not enough");
    space.assert_nothing_to_do(&server);
    space.write("options.json", r#"{"options": [{"id": "east"}]}"#);
    space.run(&["build"]).exits(3);
    space.run(&["done", "pick"]).exits(2);
}

// ---- when, optional, group, after
