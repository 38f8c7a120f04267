//! The protocol, how the server is started, and the same from the command line.

use serde_json::json;

use super::{Client, space};
use crate::support::{CHAIN, FakeLlm, Space, until};

#[test]
fn rubbish_is_answered_and_the_server_goes_on() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    for (line, code) in [
        ("rubbish", -32700),
        ("{\"jsonrpc\":\"2.0\",", -32700),
        ("[]", -32600),
        ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32600),
        (&format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20)), -32600),
    ] {
        client.line(line);
        let answer = client.wait("an error", |came| came.others.pop());
        assert_eq!(answer["error"]["code"], code, "{answer:#}");
    }
    client.line("");
    client.line("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/whatever\"}");
    client.line("{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}");
    for (method, params, code) in [
        ("resources/list", json!({}), -32601),
        ("tools/call", json!({}), -32602),
        ("tools/call", json!({ "name": "plan_lst" }), -32602),
        ("tools/call", json!({ "name": "plan_list", "arguments": [] }), -32602),
    ] {
        assert_eq!(client.ask(method, params)["error"]["code"], code, "{method}");
    }
    for (tool, arguments) in [
        ("plan_create", json!({})),
        ("plan_create", json!({ "prompt": " " })),
        ("plan_create", json!({ "prompt": "x", "pipline": "chain" })),
        ("plan_list", json!({ "limit": 0 })),
        ("plan_wait", json!({ "plan_id": "x", "timeout_s": 1201 })),
        ("plan_invalidate", json!({ "plan_id": "x", "tasks": [] })),
    ] {
        assert_eq!(client.refused(tool, arguments), "INVALID_ARGUMENT", "{tool}");
    }
    assert_eq!(
        client.refused("plan_create", json!({ "prompt": "x", "pipeline": "chian" })),
        "PIPELINE_NOT_FOUND"
    );
    assert_eq!(
        client.refused("plan_create", json!({ "prompt": "x", "profile": "fast" })),
        "PROFILE_NOT_FOUND"
    );
    let missing = json!({ "prompt": "x", "parent_plan_id": "nobody" });
    assert_eq!(client.refused("plan_create", missing), "PLAN_NOT_FOUND");
    // Ids come back as they came.
    client.line("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"ping\"}");
    client.line("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"}");
    for id in ["0", "\"a\""] {
        let pong = client.wait("pong", |came| came.answers.remove(id));
        assert_eq!(pong["result"], json!({}));
    }
    assert_eq!(client.close(), 0);
    assert_eq!((server.total(), space.exists("../runs")), (0, false));
}

#[test]
fn a_wait_holds_up_nobody_and_ends_when_it_is_cancelled_or_the_client_goes() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    server.wait_for_call("a");
    let one = client.begin("plan_wait", json!({ "plan_id": id, "timeout_s": 1200 }));
    let two = client.begin("plan_wait", json!({ "plan_id": id, "timeout_s": 1200 }));
    assert_eq!(client.phase(&id), "running");
    let over = client.call("plan_wait", json!({ "plan_id": id, "timeout_s": 0 }));
    assert_eq!((&over["timed_out"], &over["happened"]), (&true.into(), &false.into()), "{over:#}");
    // Sixteen may wait; the next is told so at once.
    let more: Vec<u64> =
        (0..14).map(|_| client.begin("plan_wait", json!({ "plan_id": id, "timeout_s": 1200 }))).collect();
    assert_eq!(client.refused("plan_wait", json!({ "plan_id": id })), "BUSY");
    let cancel = |id: u64| json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
    client.line(&cancel(one).to_string());
    client.line(&cancel(4711).to_string());
    more.iter().for_each(|id| client.line(&cancel(*id).to_string()));
    // Who went makes room.
    let room = until("room", || {
        let id = client.begin("plan_wait", json!({ "plan_id": id, "timeout_s": 0 }));
        let (data, is_error) = client.result(id);
        (!is_error).then_some(data)
    });
    assert_eq!(room["timed_out"], true);
    let came = client.came.clone();
    assert_eq!(client.close(), 0);
    let came = came.0.lock().expect("what came");
    // The one that was not cancelled is answered at the end; the others never are.
    assert_eq!(came.answers.keys().collect::<Vec<_>>(), [&two.to_string()]);
    drop(came);
    server.release("a");
    let mut client = Client::of(&space);
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
}

#[test]
fn a_client_that_asks_for_it_is_told_how_far_a_wait_is() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    let params = json!({
        "name": "plan_wait",
        "arguments": { "plan_id": id, "timeout_s": 600 },
        "_meta": { "progressToken": "t" },
    });
    let wait = client.send("tools/call", params);
    let news = client.wait("news", |came| came.others.pop());
    assert_eq!(
        (&news["method"], &news["params"]["progressToken"]),
        (&"notifications/progress".into(), &"t".into())
    );
    server.release("a");
    assert_eq!(client.result(wait).0["phase"], "completed");
}

#[test]
fn the_pipeline_that_comes_along_plays_its_example() {
    let space = Space::new();
    let mut client = Client::start(&space, &[]);
    client.shake_hands();
    let plans = client.call("example_plans", json!({}));
    let profiles: Vec<&str> = plans["plans"]
        .as_array()
        .expect("plans")
        .iter()
        .filter_map(|plan| plan["profile"].as_str())
        .collect();
    assert_eq!(profiles, ["sample-personal", "sample"]);
    let prompts = client.call("example_prompts", json!({}));
    let prompt = &prompts["prompts"][0];
    let made =
        client.call("plan_create", json!({ "prompt": prompt["prompt"], "profile": prompt["profile"] }));
    let id = made["plan_id"].as_str().expect("an id").to_owned();
    let end = client.wait_for_end(&id);
    assert_eq!(
        (&end["phase"], &end["quality_summary"]["complete"]),
        (&"completed".into(), &true.into()),
        "{end:#}"
    );
    assert_eq!(end["results"][0]["path"], "report.html", "{end:#}");
    // A person may edit its prompts; what says which programs run may not change.
    let copy = space.root().join("runs").join(&id).join("pipeline");
    let append = |file: &str, more: &str| {
        let text = std::fs::read_to_string(copy.join(file)).expect("a file");
        std::fs::write(copy.join(file), text + more).expect("to write");
    };
    append("prompts/create_pitch.md", "\nBe brief.\n");
    let goes = client.call("plan_invalidate", json!({ "plan_id": id, "tasks": ["report"] }));
    assert_eq!(goes["dry_run"], true, "{goes:#}");
    append("legacy_names.toml", "\n[hooks]\non_started = [\"true\"]\n");
    for tool in ["plan_resume", "plan_retry"] {
        assert_eq!(client.refused(tool, json!({ "plan_id": id })), "NOT_ALLOWED", "{tool}");
    }
    let report = client.call("plan_read_file", json!({ "plan_id": id, "path": "report.md", "limit": 2000 }));
    assert!(report["text"].as_str().is_some_and(|text| text.starts_with("# ")), "{report:#}");
    assert_eq!(client.call("plan_file_info", json!({ "plan_id": id }))["content_type"], "text/html");
}

#[test]
fn what_the_server_is_started_with_must_be_right() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["mcp", "--pipeline", "nothing.toml"]).exits(2).says(&["there is no pipeline `nothing.toml`"]);
    space.run(&["mcp", "--runs", "pipeline.toml"]).exits(2).says(&["is no folder"]);
    space.run(&["mcp", "-C", "."]).exits(2).says(&["--runs"]);
    space.write("other/pipeline.toml", space.read("pipeline.toml"));
    space
        .run(&["mcp", "--pipeline", "pipeline.toml", "--pipeline", "other"])
        .exits(2)
        .says(&["are both called `chain`"]);
    space.write("bare.toml", space.read("pipeline.toml").replace("plan = \"plan.txt\"\n", ""));
    space.run(&["mcp", "--pipeline", "bare.toml"]).exits(2).says(&["which file is its plan"]);
    // Nobody on the other side: it ends at once, with nothing said.
    let out = space.run(&["mcp", "--pipeline", "pipeline.toml"]).exits(0);
    assert_eq!(out.stdout, "");
}

#[test]
fn the_same_from_the_command_line() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space
        .run(&[
            "new",
            "../runs/one",
            "--pipeline",
            "pipeline.toml",
            "--prompt",
            "A bridge.",
            "--parent",
            "zero",
        ])
        .exits(0);
    space.run(&["-C", "../runs/one", "build"]).exits(0);
    assert_eq!(
        space.run(&["-C", "../runs/one", "status", "--json"]).exits(0).json()["run"]["parent"],
        "zero"
    );
    space.run(&["list", "../runs"]).exits(0).says(&["one", "completed", "3/3", "A bridge."]);
    space.run(&["list", "../nowhere"]).exits(2).says(&["there is no folder"]);
    space.run(&["-C", "../runs/one", "files"]).exits(0).says(&["c.txt", "plan.txt", "events.jsonl"]);
    let info = space.run(&["-C", "../runs/one", "files", "c.txt", "--json"]).exits(0).json();
    assert_eq!(
        (&info["ready"], &info["task"], &info["state"]),
        (&true.into(), &"c".into(), &"done".into()),
        "{info:#}"
    );
    space.run(&["-C", "../runs/one", "files", "d.txt"]).exits(2).says(&["did you mean"]);
    // Nothing goes without a yes, nor while somebody works on it.
    space.run(&["archive", "../runs/one"]).exits(2).says(&["-y"]);
    space.run(&["delete", "../runs/one"]).exits(2).says(&["-y"]);
    space.run(&["-C", "../runs/one", "clean", "c", "-y"]).exits(0);
    server.hold("c");
    let build = space.spawn(&["-C", "../runs/one", "build"]);
    server.wait_for_calls("c", 2);
    space.run(&["archive", "../runs/one", "-y"]).exits(75);
    space.run(&["delete", "../runs/one", "-y"]).exits(75);
    server.release("c");
    build.wait().exits(0);
    space.run(&["archive", "../runs/one", "-y"]).exits(0);
    space.run(&["list", "../runs"]).exits(0).says_nothing_of(&["completed"]);
    space.run(&["list", "../runs", "--archived"]).exits(0).says(&["one", "completed"]);
    space.run(&["archive", "../runs/.archived-one", "-y"]).exits(2).says(&["--undo"]);
    space.run(&["archive", "--undo", "../runs/.archived-one"]).exits(0);
    space.run(&["archive", "../runs/one", "-y"]).exits(0);
    space.run(&["archive", "--undo", "../runs/two"]).exits(2).says(&["no run"]);
    space.run(&["archive", "--undo", "../runs/one"]).exits(0);
    space.run(&["-C", "../runs/one", "build"]).exits(0).says(&["up to date"]);
    space.run(&["delete", "../runs/one", "-y"]).exits(0);
    assert!(!space.exists("../runs/one"));
    // Here stands the pipeline itself.
    space.write("plan.txt", "A bridge.\n");
    space.run(&["delete", ".", "-y"]).exits(2).says(&["more than a run"]);
    assert!(space.exists("pipeline.toml"));
}
