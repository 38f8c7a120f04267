//! The recipes: template, gate, human, group; `when` and `after`. Commands and prompts have files of their own.

use serde_json::json;

use crate::support::{Answer, FakeLlm, counts, space};

mod command;
mod prompt;

// ---- template

#[test]
fn a_template_over_its_inputs() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[vars]
title = "A plan"

[task.report]
inputs = { plan = "plan.txt", facts = "facts.json" }
outputs = ["out/report.md"]
template = "templates/report.md.j2"
"#,
    );
    space.write("facts.json", r#"{"cost": 12, "risks": ["wind", "rain"]}"#);
    space.write(
        "templates/report.md.j2",
        "# {{ vars.title }}\n{{ plan }}\n{{ facts.cost }}:{% for risk in facts.risks %} {{ risk }},{% endfor %}\n",
    );
    space.build();
    assert_eq!(server.requests(), 0);
    let report = space.read("out/report.md");
    assert_eq!(
        report.split_whitespace().collect::<Vec<_>>().join(" "),
        "# A plan Build a bridge. 12: wind, rain,"
    );
    space.assert_nothing_to_do(&server);
    space.edit("facts.json", "wind", "ice");
    space.build();
    assert!(space.read("out/report.md").contains(" ice,"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_name_missing_in_a_template_fails_the_task_and_is_named() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.page]\ninputs = [\"plan.txt\"]\noutputs = [\"page.txt\"]\ntemplate = \"{{ plan }} {{ plam }}\"\n",
    );
    let out = space.run(&["build"]).says(&["plam"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    assert!(!space.exists("page.txt"));
}

#[test]
fn a_text_that_cannot_be_rendered_is_logged_like_any_failure() {
    let server = FakeLlm::new();
    // The prompt fails before there is an attempt, the template in one.
    for recipe in ["prompt", "template"] {
        let task = "[task.page]\ninputs = [\"plan.txt\"]\noutputs = [\"page.txt\"]\n";
        let space = space(&server, &format!("{task}{recipe} = \"{{{{ plan.no_such_thing() }}}}\"\n"));
        let out = space.run(&["build"]).exits(1).says(&["no_such_thing"]);
        let logged = space.lines("failures.jsonl");
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert_eq!((&logged[0]["task"], &logged[0]["class"]), (&json!("page"), &json!("template")));
        let id = logged[0]["error_id"].as_str().expect("an error_id");
        out.says(&[&format!("error {id}")]);
        let events = space.lines("events.jsonl");
        assert!(events.iter().any(|event| event["failure"]["error_id"] == id), "{events:?}");
    }
    assert_eq!(server.requests(), 0);
}

// ---- gate, human

#[test]
fn an_optional_input_may_be_absent() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.report]
inputs = { plan = "plan.txt", notes = "notes.txt" }
optional = ["notes"]
outputs = ["report.txt"]
prompt = "TASK=report\n{{ plan }}{% if notes %}{{ notes }}{% endif %}"
"#,
    );
    space.build();
    space.assert_nothing_to_do(&server);
    space.write("notes.txt", "Mind the wind.");
    space.build();
    assert_eq!(server.total(), 2);
    assert!(server.last("report").prompt.ends_with("Mind the wind."));
    space.assert_nothing_to_do(&server);
    space.remove("notes.txt");
    space.build();
    assert_eq!(server.total(), 2, "the first answer is still there");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_group_is_its_inputs() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[pipeline]
default = ["all"]

[task.all]
inputs = ["a.txt", "b.txt"]

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.b]
inputs = ["plan.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ plan }}"

[task.c]
inputs = ["plan.txt"]
outputs = ["c.txt"]
prompt = "TASK=c\n{{ plan }}"
"#,
    );
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1)]));
    space.assert_nothing_to_do(&server);
    space.run(&["build", "c"]).exits(0);
    assert_eq!(server.total(), 3);
    space.write("b.txt", "Mine.\n");
    space.run(&["build", "all"]).exits(0);
    assert_eq!(server.total(), 3);
    // A run that was completed stays so when something is edited, with a group as without.
    space.write("plan.txt", "Another.\n");
    assert_eq!(space.report()["run"]["phase"], "completed");
}

#[test]
fn after_waits_and_blocks_and_makes_nothing_stale() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 if request.task == "first" => Answer::error(400, "not now"),
        _ => Answer::Default,
    });
    let space = space(
        &server,
        r#"
[task.first]
inputs = ["plan.txt"]
outputs = ["first.txt"]
prompt = "TASK=first\n{{ plan }}"

[task.second]
after = ["first"]
outputs = ["second.txt"]
prompt = "TASK=second\nAlone."
"#,
    );
    space.run(&["build", "second"]).exits(1).says(&["first"]);
    assert_eq!((server.counts(), space.state("second")), (counts([("first", 1)]), "blocked".to_owned()));
    space.run(&["build", "second"]).exits(0);
    assert_eq!(server.order(), ["first", "first", "second"]);
    space.assert_nothing_to_do(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(server.counts(), counts([("first", 3), ("second", 1)]));
    space.assert_nothing_to_do(&server);
}

/// A group of source files is up to date as soon as it is asked for: what comes after it still waits for its inputs.
#[test]
fn what_comes_after_a_group_of_sources_waits_for_its_inputs() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.sources]
inputs = ["plan.txt"]

[task.first]
outputs = ["first.txt"]
prompt = "TASK=first\nAlone."

[task.second]
after = ["sources"]
inputs = ["first.txt"]
outputs = ["second.txt"]
prompt = "TASK=second\n{{ first }}"
"#,
    );
    space.build();
    assert_eq!(server.order(), ["first", "second"]);
    space.assert_nothing_to_do(&server);
}
