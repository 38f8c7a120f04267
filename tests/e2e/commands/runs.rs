//! `record`, `new`, `graph`: runs as a whole.

use serde_json::json;

use super::built;
use crate::support::{Answer, CHAIN, FakeLlm, Space, space};

#[test]
fn recorded_answers_play_the_run_again_byte_by_byte() {
    let server = FakeLlm::scripted(|request| match &request.schema {
        Some(_) => Answer::Default,
        None => format!("Draw {} of {}.", request.nth, request.task).into(),
    });
    let tasks = format!(
        "{CHAIN}
[task.shaped]
inputs = [\"c.txt\"]
outputs = [\"shaped.json\"]
prompt = \"TASK=shaped\\n{{{{ c }}}}\"
schema = \"shaped.schema.json\"
"
    );
    let space = space(&server, &tasks);
    let schema = r#"{"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}"#;
    space.write("shaped.schema.json", schema);
    space.build();
    space.run(&["record", "../answers.jsonl"]).exits(0);

    let play = |on_miss: &str| {
        let play = Space::new();
        play.write(
            "pipeline.toml",
            format!(
                "[models.played]\napi = \"recorded\"\nfile = \"answers.jsonl\"\n{on_miss}\n\n[defaults]\nmodel = \"played\"\n{tasks}"
            ),
        );
        std::fs::copy(space.root().join("answers.jsonl"), play.path("answers.jsonl")).expect("the answers");
        play.write("plan.txt", "Build a bridge.\n");
        play.write("shaped.schema.json", schema);
        play
    };
    let same = play("");
    same.run(&["build", "--frozen"]).exits(0);
    let (there, here) = (space.tree(), same.tree());
    for output in ["a.txt", "b.txt", "c.txt", "shaped.json"] {
        assert_eq!(there[output], here[output], "{output}");
    }
    same.assert_nothing_to_do(&server);
    assert_eq!(server.total(), 4);

    let miss = play("");
    miss.write("plan.txt", "Build a tunnel.\n");
    miss.run(&["build"]).exits(1).says(&["a"]);
    assert_eq!(miss.sidecar("a.txt")["failure"]["class"], "not_recorded");

    let sample = play("on_miss = \"task\"");
    sample.write("plan.txt", "Build a tunnel.\n");
    sample.run(&["build"]).exits(0);
    assert_eq!(sample.tree()["a.txt"], there["a.txt"]);
    assert_eq!(
        (&sample.status("a")["sample"], &sample.done("a.txt")["sample"]),
        (&json!(true), &json!(true))
    );
    assert!(sample.report()["quality_summary"]["sample"].to_string().contains("\"a\""));
    let frozen = play("on_miss = \"task\"");
    frozen.write("plan.txt", "Build a tunnel.\n");
    assert_ne!(frozen.run(&["build", "--frozen"]).says(&["a"]).code, 0);
    assert_ne!(sample.run(&["build", "--frozen"]).says(&["sample"]).code, 0);
    assert_eq!(server.total(), 4);
}

#[test]
fn simulated_answers_are_the_same_each_time() {
    let make = || {
        let space = Space::new();
        space.write(
            "pipeline.toml",
            format!(
                "[models.made_up]\napi = \"simulated\"\nseed = 7\n\n[defaults]\nmodel = \"made_up\"\n{CHAIN}"
            ),
        );
        space.write("plan.txt", "Build a bridge.\n");
        space.build();
        space
    };
    let (one, two) = (make(), make());
    assert_eq!(one.tree(), two.tree());
    one.assert_nothing_to_do(&FakeLlm::new());
}

#[test]
fn a_new_run_of_a_pipeline() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["new", "first"]).exits(0);
    assert!(space.exists("first/run.toml"), "{:?}", space.files(""));
    assert!(space.read("first/run.toml").contains("../pipeline.toml"));
    space.write("first/plan.txt", "Build a tunnel.\n");
    space.run(&["build", "-C", "first"]).exits(0);
    assert_eq!(server.total(), 3);
    assert!(space.exists("first/c.txt") && !space.exists("c.txt"));
    space.run(&["build", "-q", "-C", "first"]).exits(0);
    // What is there is not written over.
    assert_ne!(space.run(&["new", "first"]).code, 0);
    assert_eq!(server.total(), 3);
}

#[test]
fn the_graph_as_text_for_others() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let dot = space.run(&["graph", "--format", "dot"]).exits(0).stdout;
    assert!(dot.starts_with("digraph") && dot.contains("->"), "{dot}");
    let mermaid = space.run(&["graph", "--format", "mermaid"]).exits(0).stdout;
    assert!(mermaid.contains("-->"), "{mermaid}");
    let graph = space.run(&["graph", "--format", "json"]).exits(0).json();
    for task in ["a", "b", "c"] {
        assert!(graph.to_string().contains(&format!("\"{task}\"")), "{graph:#}");
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_run_behind_a_link() {
    let server = FakeLlm::new();
    let space = built(&server);
    std::os::unix::fs::symlink(space.dir(), space.root().join("link")).expect("a link");
    space.run(&["build", "-C", "../link"]).exits(0);
    space.run(&["build", "-q", "-C", "../link"]).exits(0);
    space.run(&["build", "-C", "../link/./"]).exits(0);
    assert_eq!(server.total(), 3);
    // A target by its path, as a shell completes it.
    for target in ["./c.txt", "c.txt"] {
        let out = space.run(&["build", "-q", target]);
        assert_eq!(out.code, 0, "{target}: {out}");
    }
}
