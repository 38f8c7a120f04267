//! Images and PDFs that are sent with a prompt: in each dialect's words, by their content, and never too large or from elsewhere.

use serde_json::Value;

use crate::support::Space;
use crate::support::wire::{DIALECTS, Dialect, Wire};

/// The head of a PNG of 750 by 100 pixels, and what follows.
fn png(more: &str) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\xee\0\0\0\x64".to_vec();
    bytes.extend(more.as_bytes());
    bytes
}

fn space(server: &Wire, dialect: Dialect, files: &str) -> Space {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        format!(
            "[models.m]\napi = \"{}\"\nbase_url = \"{}\"\nmodel = \"m-1\"\nretry = {{ max_attempts = 1 }}\n[task.look]\noutputs = [\"out.txt\"]\nmodel = \"m\"\nsystem = \"Be brief.\"\nprompt = \"What is in it?\"\nfiles = {files}\n",
            dialect.api(),
            server.base_url(dialect)
        ),
    );
    space.write("pictures/a.png", png("a"));
    space.write("pictures/b.dat", png("b"));
    space
}

#[test]
fn images_go_with_the_prompt_in_every_dialect() {
    for dialect in DIALECTS {
        let server = Wire::new(move |_| dialect.answer("A bridge."));
        let space = space(&server, dialect, "[\"pictures/*\"]");
        space.build().exits(0);
        let body = server.posts().remove(0).body;
        let user = body["messages"].as_array().and_then(|all| all.last()).expect("a message").clone();
        let data: Vec<&str> = match dialect {
            Dialect::Openai => user["content"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|part| part["image_url"]["url"].as_str())
                .collect(),
            Dialect::Anthropic => user["content"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|part| part["source"]["data"].as_str())
                .collect(),
            Dialect::Ollama => {
                user["images"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            }
        };
        assert_eq!(data.len(), 2, "{user}");
        assert!(data.iter().all(|data| data.contains("iVBORw0KGgo")), "{user}");
        if dialect == Dialect::Anthropic {
            assert_eq!(
                user["content"][1]["source"]["media_type"], "image/png",
                "by its content, not its name"
            );
        }
        // Nothing of it is in what is kept but digests.
        for (path, bytes) in space.tree().into_iter().filter(|(path, _)| path.contains(".planexe")) {
            assert!(!String::from_utf8_lossy(&bytes).contains("iVBORw0KGgo"), "{path}");
        }
        // The same bytes, no call; other bytes, one; and the former ones again, none.
        space.build().exits(0);
        space.write("pictures/a.png", png("a"));
        space.build().exits(0);
        assert_eq!(server.count(), 1);
        space.write("pictures/a.png", png("changed"));
        space.run(&["explain", "look"]).exits(0).says(&["files"]);
        space.build().exits(0);
        assert_eq!(server.count(), 2);
        space.write("pictures/a.png", png("a"));
        space.build().exits(0);
        assert_eq!(server.count(), 2, "{dialect:?}");
    }
}

#[test]
fn what_cannot_be_attached_is_refused_before_anything_is_sent() {
    let dialect = Dialect::Anthropic;
    let server = Wire::new(move |_| dialect.answer("A bridge."));
    let fails = |files: &str, prepare: &dyn Fn(&Space), words: &[&str]| {
        let space = space(&server, dialect, files);
        prepare(&space);
        space.run(&["build"]).exits(1).says(words);
    };
    fails("[\"notes.txt\"]", &|space| space.write("notes.txt", "plain words"), &["PNG", "content"]);
    fails(
        "[\"large.png\"]",
        &|space| space.write("large.png", png(&"x".repeat(4 << 20))),
        &["MB", "not sent"],
    );
    fails(
        "[\"link.png\"]",
        &|space| {
            space.write("real.png", png("x"));
            std::os::unix::fs::symlink(space.path("real.png"), space.path("link.png")).expect("a link");
        },
        &["no plain file"],
    );
    fails("[\"empty.png\"]", &|space| space.write("empty.png", ""), &["`empty.png` is empty"]);
    fails("[\"photos/*\"]", &|_| {}, &["`photos/*` matches no file", "`optional`"]);
    let space = space(&server, dialect, "[\"../secret.png\"]");
    space.run(&["check"]).exits(2).says(&["not below the run directory"]);
    space.edit("pipeline.toml", "\"../secret.png\"", "\"nowhere.png\"");
    space.run(&["check"]).exits(2).says(&["nowhere.png"]);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_glob_that_may_match_nothing_is_optional() {
    let dialect = Dialect::Openai;
    let server = Wire::new(move |_| dialect.answer("A bridge."));
    let space = space(&server, dialect, "[\"photos/*\"]\noptional = [\"photos/*\"]");
    space.build().exits(0);
    space.build().exits(0);
    assert_eq!(server.count(), 1);
    space.write("photos/a.png", png("a"));
    space.build().exits(0);
    assert_eq!(server.count(), 2);
}

#[test]
fn a_task_waits_for_the_picture_that_another_makes() {
    let dialect = Dialect::Openai;
    let server = Wire::new(move |_| dialect.answer("A bridge."));
    let space = space(&server, dialect, "[\"chart.png\"]");
    let chart = "[task.chart]\noutputs = [\"chart.png\"]\ncommand = \"cp pictures/a.png $out\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + chart);
    space.run(&["build", "look"]).exits(0);
    assert_eq!((server.count(), space.state("chart").as_str()), (1, "done"));
}
