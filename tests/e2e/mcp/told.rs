//! What an agent is told and what a build gets: files by task, examples, variables, some of many items.

use serde_json::json;

use super::{Client, space};
use crate::support::{CHAIN, FakeLlm, until};

#[test]
fn a_paused_build_is_let_go_on_and_files_are_told_by_their_task() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.edit(
        "pipeline.toml",
        "max_concurrent = 16",
        "max_concurrent = 16\nprice = { input = 3.0, output = 15.0 }",
    );
    let mut client = Client::of(&space);
    server.hold("a");
    let id = client.create("Build a bridge.");
    server.wait_for_call("a");
    // A person pauses it, and the agent is asked to go on.
    let run = format!("../runs/{id}");
    space.run(&["-C", &run, "pause"]).exits(0);
    until("the build to pause", || {
        let log = std::fs::read_to_string(space.root().join("runs").join(&id).join(".planexe/build.log"));
        log.ok()?.contains("pause").then_some(())
    });
    server.release("a");
    let resumed = client.call("plan_resume", json!({ "plan_id": id }));
    assert_eq!(resumed["build"]["message"], "it was paused and continues", "{resumed:#}");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    assert_eq!(server.total(), 3);
    let of = |task: &str| json!({ "plan_id": id, "kind": "output", "task": task });
    let files = client.call("plan_files", of("B"));
    assert_eq!((&files["total"], &files["files"][0]["path"]), (&1.into(), &"b.txt".into()), "{files:#}");
    client.refused("plan_files", of("nobody"));
    let profiles = client.call("model_profiles", json!({}));
    let price = &profiles["profiles"][0]["models"][0]["price_usd_per_million"];
    assert_eq!(price, &json!({ "input": 3.0, "output": 15.0, "cached": 3.0, "cache_write": 3.0 }));
    let long = "x".repeat(2 << 20);
    assert_eq!(client.refused("plan_create", json!({ "prompt": long })), "INVALID_ARGUMENT");
}

#[test]
fn examples_beside_a_pipeline_are_offered() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.write("examples/bridge/plan.txt", "Build a bridge.\n");
    space.write("examples/notes/readme.txt", "no plan\n");
    let mut client = Client::of(&space);
    let prompts = client.call("example_prompts", json!({}));
    let wanted = json!([{ "name": "bridge", "prompt": "Build a bridge.", "profile": null }]);
    assert_eq!(prompts["prompts"], wanted, "{prompts:#}");
    // It has no recorded answers.
    assert_eq!(client.call("example_plans", json!({}))["plans"], json!([]));
}

#[test]
fn builds_that_an_agent_starts_get_the_variables_of_the_server() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[vars]\ncolour = \"red\"\n[task.a]\ninputs = { plan = \"plan.txt\" }\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ vars.colour }} {{ plan }}\"\n",
    );
    let outside = space.root().display().to_string();
    let mut client = Client::start(
        &space,
        &["--pipeline", "pipeline.toml", "-D", "colour=blue", "--allow-outside", &outside],
    );
    client.shake_hands();
    let id = client.create("Paint a bridge.");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    assert!(server.last("a").prompt.contains("blue Paint a bridge."), "{}", server.last("a").prompt);
}

#[test]
fn of_a_wide_fan_out_some_items_are_told_and_the_rest_is_counted() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.list]\ninputs = [\"plan.txt\"]\noutputs = [\"list.json\"]\ncommand = \"printf '[' > $out; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29; do printf '\\\"i%s\\\",' $$n >> $out; done; printf '\\\"last\\\"]' >> $out\"\n\
         [task.each]\nforeach = { file = \"list.json\" }\noutputs = [\"each/{{ key }}.txt\"]\ntemplate = \"{{ key }}\"\n",
    );
    let mut client = Client::of(&space);
    let id = client.create("Many.");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    let told = client.call("plan_explain", json!({ "plan_id": id, "task": "each" }));
    assert_eq!(told["instances"].as_array().map(Vec::len), Some(24), "{told:#}");
    assert_eq!(told["instances_left_out"], 6, "{told:#}");
    for (kind, path) in [("input", "plan.txt"), ("record", "events.jsonl")] {
        let files = client.call("plan_files", json!({ "plan_id": id, "kind": kind, "limit": 500 }));
        let files = files["files"].as_array().expect("files").clone();
        assert!(files.iter().any(|file| file["path"] == path), "{kind}: {files:#?}");
        assert!(files.iter().all(|file| file["path"] != "list.json"), "{kind}: {files:#?}");
    }
}
