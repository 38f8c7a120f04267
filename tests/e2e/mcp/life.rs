//! A plan from its prompt to its end: made, watched, asked about, stopped, resumed, explained, made again.

use serde_json::{Value, json};

use super::{Client, runs, space};
use crate::support::{Answer, CHAIN, FakeLlm, Space, own_port, until};

#[test]
fn a_plan_is_made_watched_and_read() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    for modern in [false, true] {
        let mut client = Client::start(&space, &["--pipeline", "pipeline.toml"]);
        match modern {
            false => client.shake_hands(),
            true => {
                client.modern = true;
                let found = client.ask("server/discover", json!({}));
                assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]), "{found:#}");
                assert_eq!(found["result"]["resultType"], "complete");
            }
        }
        let tools = client.ask("tools/list", json!({}));
        let tools = tools["result"]["tools"].as_array().expect("tools").clone();
        assert_eq!(tools.len(), 19);
        let prompt = format!("Build a bridge, {modern}.");
        let made = client.call("plan_create", json!({ "prompt": prompt, "label": "Bridge" }));
        let id = made["plan_id"].as_str().expect("an id").to_owned();
        let end = client.call("plan_wait", json!({ "plan_id": id, "timeout_s": 600 }));
        assert_eq!(
            (&end["phase"], &end["timed_out"], &end["happened"]),
            (&"completed".into(), &false.into(), &true.into())
        );
        let status = client.call("plan_status", json!({ "plan_id": id, "full": true }));
        assert_eq!((&status["progress_percent"], &status["label"]), (&100.into(), &"Bridge".into()));
        assert_eq!(status["status"]["counts"]["done"], 3, "{status:#}");
        let files = client.call("plan_files", json!({ "plan_id": id, "kind": "output" }));
        assert_eq!(files["total"], 3, "{files:#}");
        let info = client.call("plan_file_info", json!({ "plan_id": id, "path": "c.txt" }));
        let text = std::fs::read_to_string(space.root().join("runs").join(&id).join("c.txt")).expect("c.txt");
        assert_eq!((&info["ready"], &info["bytes"]), (&true.into(), &text.len().into()), "{info:#}");
        let (mut read, mut offset) = (String::new(), json!(0));
        while !offset.is_null() {
            let piece = client.call(
                "plan_read_file",
                json!({ "plan_id": id, "path": "c.txt", "offset": offset, "limit": 100 }),
            );
            read += piece["text"].as_str().expect("a text");
            offset = piece["next_offset"].clone();
        }
        assert_eq!(read, text);
        let plan = client.call("plan_read_file", json!({ "plan_id": id, "path": "plan.txt" }));
        assert_eq!(plan["text"], format!("{prompt}\n"));
        let list = client.call("plan_list", json!({}));
        assert_eq!(list["plans"][0]["plan_id"], id.as_str(), "{list:#}");
        let info = client.call("server_info", json!({}));
        assert_eq!((&info["builds_allowed"], &info["pipelines"][0]["name"]), (&true.into(), &"chain".into()));
        assert_eq!(client.close(), 0);
    }
    assert_eq!(server.total(), 6);
    // The command line sees the same.
    let listed = space.run(&["list", "../runs", "--json"]).exits(0).json();
    assert_eq!(
        (&listed["total"], &listed["runs"][0]["phase"]),
        (&2.into(), &"completed".into()),
        "{listed:#}"
    );
}

#[test]
fn the_same_request_is_the_same_plan() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let (mut one, mut other) = (Client::of(&space), Client::of(&space));
    // Two servers at once.
    let ask = json!({ "prompt": "Build a bridge." });
    let ids = [one.begin("plan_create", ask.clone()), other.begin("plan_create", ask.clone())];
    let made = [one.result(ids[0]).0, other.result(ids[1]).0];
    assert_eq!(made[0]["plan_id"], made[1]["plan_id"], "{made:#?}");
    let new = made.iter().filter(|made| made["deduplicated"] == false).count();
    assert_eq!(new, 1, "{made:#?}");
    let id = made[0]["plan_id"].as_str().expect("an id").to_owned();
    assert_eq!(one.wait_for_end(&id)["phase"], "completed");
    // Whichever build was refused, if one was, the log is that of the other.
    let log = one.call("plan_read_file", json!({ "plan_id": id, "path": ".planexe/build.log" }));
    assert!(log["text"].as_str().is_some_and(|text| !text.contains("locked")), "{log:#}");
    let again = one.call("plan_create", ask.clone());
    assert_eq!((&again["plan_id"], &again["deduplicated"]), (&made[0]["plan_id"], &true.into()));
    assert_eq!((server.total(), runs(&space).len()), (3, 1));
    // Another prompt, or no window, is another plan.
    let second =
        one.call("plan_create", json!({ "prompt": "Build a bridge.", "window_s": 0, "build": false }));
    assert_eq!(
        (&second["deduplicated"], &second["phase"]),
        (&false.into(), &"never_started".into()),
        "{second:#}"
    );
    assert_ne!(second["plan_id"], made[0]["plan_id"]);
    let third =
        one.call("plan_create", json!({ "prompt": "Build a tunnel.", "build": false, "parent_plan_id": id }));
    let child = third["plan_id"].as_str().expect("an id").to_owned();
    let status = one.call("plan_status", json!({ "plan_id": child }));
    assert_eq!(status["parent_plan_id"], id.as_str(), "{status:#}");
    // Asked for again, what was never started is started.
    let started = one.call("plan_create", json!({ "prompt": "Build a tunnel." }));
    assert_eq!((&started["plan_id"], &started["deduplicated"]), (&third["plan_id"], &true.into()));
    assert_eq!(one.wait_for_end(&child)["phase"], "completed");
    assert_eq!(server.total(), 6);
}

#[test]
fn a_build_outlives_its_server() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    server.wait_for_call("a");
    assert_eq!(client.close(), 0);
    let mut client = Client::of(&space);
    let status = client.call("plan_status", json!({ "plan_id": id }));
    assert_eq!(
        (&status["phase"], &status["running"][0]["task"]),
        (&"running".into(), &"a".into()),
        "{status:#}"
    );
    // Not even the end of the whole process group ends it.
    let group = rustix::process::Pid::from_child(&client.server);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("kill");
    client.server.wait().expect("its end");
    let mut client = Client::of(&space);
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "PLAN_RUNNING");
    assert_eq!(client.refused("plan_delete", json!({ "plan_id": id, "confirm": true })), "PLAN_RUNNING");
    assert_eq!(client.refused("plan_archive", json!({ "plan_id": id })), "PLAN_RUNNING");
    let tasks = json!({ "plan_id": id, "tasks": ["a"], "confirm": true });
    assert_eq!(client.refused("plan_invalidate", tasks), "PLAN_RUNNING");
    assert_eq!(client.refused("plan_read_file", json!({ "plan_id": id, "path": "c.txt" })), "FILE_NOT_READY");
    server.release("a");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    assert_eq!(server.total(), 3);
}

/// The look is a call of the plan's own build, and the person's words go into the plan.
#[test]
fn a_plan_is_asked_about_before_it_is_built() {
    let server = FakeLlm::scripted(|call| Answer::Text(crate::interview::found(&call.prompt).to_string()));
    let space = Space::with(&server, crate::interview::TASK);
    space.write("any.schema.json", r#"{"type":"object"}"#);
    let mut client = Client::of(&space);
    let made = client.call("plan_create", json!({ "prompt": "Open a bakery.", "build": false }));
    let id = made["plan_id"].as_str().expect("an id").to_owned();
    server.hold("screen");
    let looking = client.call("plan_interview", json!({ "plan_id": id, "timeout_s": 1 }));
    assert_eq!(looking["state"], "looking", "{looking:#}");
    server.release("screen");
    client.call("plan_wait", json!({ "plan_id": id, "for": "done", "timeout_s": 600 }));
    let looked = client.call("plan_interview", json!({ "plan_id": id }));
    assert_eq!((&looked["ready"], &looked["state"]), (&json!(false), &json!("looked")), "{looked:#}");
    assert_eq!(looked["questions"][0]["aspect"], "budget");
    assert_eq!(server.total(), 1);
    let answers = json!([{ "aspect": "budget", "text": "EUR 80,000\nin all" }, { "aspect": "location", "text": "Bruges" }]);
    let looked = client.call("plan_interview", json!({ "plan_id": id, "answers": answers }));
    assert_eq!(looked["ready"], true, "{looked:#}");
    let plan = space.root().join("runs").join(&id).join("plan.txt");
    let plan = std::fs::read_to_string(plan).expect("the plan");
    assert!(plan.ends_with("Further answers:\n- budget: EUR 80,000 in all\n- location: Bruges\n"), "{plan}");
    assert_eq!(client.phase(&id), "completed");
    assert_eq!(server.total(), 2, "what was looked at is built");
    server.script(|_| Answer::error(400, "no"));
    let made = client.call("plan_create", json!({ "prompt": "Open a shop.", "build": false }));
    assert_eq!(client.refused("plan_interview", json!({ "plan_id": made["plan_id"] })), "BUILD_REFUSED");
}

#[test]
fn a_plan_is_stopped_and_resumed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    server.wait_for_call("a");
    let stopped = client.call("plan_stop", json!({ "plan_id": id }));
    assert_eq!(stopped["stop_requested"], true, "{stopped:#}");
    let log = space.root().join("runs").join(&id).join(".planexe/build.log");
    until("the build to say that it stops", || {
        std::fs::read_to_string(&log).expect("its log").contains("stop").then_some(())
    });
    server.release("a");
    let end = client.wait_for_end(&id);
    assert_eq!((&end["phase"], &end["stopped"]), (&"stopped".into(), &true.into()), "{end:#}");
    assert_eq!(end["stopped_because"], "stopped by `planexe stop`", "{end:#}");
    let stopped = client.call("plan_stop", json!({ "plan_id": id }));
    assert_eq!(stopped["stop_requested"], false, "{stopped:#}");
    server.hold("b");
    client.call("plan_resume", json!({ "plan_id": id }));
    server.wait_for_call("b");
    // Hard: at once, and given up.
    client.call("plan_stop", json!({ "plan_id": id, "hard": true }));
    assert_eq!(client.wait_for_end(&id)["phase"], "aborted");
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "PLAN_NOT_RESUMABLE");
    server.release("b");
    client.call("plan_resume", json!({ "plan_id": id, "force": true }));
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "PLAN_NOT_RESUMABLE");
    assert_eq!(server.count("a"), 1);
}

#[test]
fn a_wait_tells_each_thing_once() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" => Answer::error(400, "no"),
        _ => Answer::Default,
    });
    let space = space(&server, &each(&["a", "b"]));
    server.hold("a");
    server.hold("b");
    let mut client = Client::of(&space);
    let made = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    let (id, cursor) = (made["plan_id"].as_str().expect("an id").to_owned(), made["cursor"].clone());
    server.release("b");
    // Whenever it came: what happened after the last answer is told.
    let first = client.call("plan_wait", json!({ "plan_id": id, "cursor": cursor, "timeout_s": 600 }));
    assert_eq!((&first["happened"], &first["phase"]), (&true.into(), &"running".into()), "{first:#}");
    assert_eq!(
        (&first["news"][0]["task"], &first["news"][0]["state"]),
        (&"b".into(), &"failed".into()),
        "{first:#}"
    );
    let next = first["next"].as_str().expect("next");
    assert!(next.contains("`b` failed") && next.contains("cursor"), "{first:#}");
    // Told once: nothing more happens until the next.
    for cursor in [first["cursor"].clone(), Value::Null] {
        for what in ["any", "failed"] {
            let again = client
                .call("plan_wait", json!({ "plan_id": id, "cursor": cursor, "timeout_s": 1, "for": what }));
            assert_eq!((&again["timed_out"], &again["happened"]), (&true.into(), &false.into()), "{again:#}");
            assert_eq!(again["failed"][0]["task"], "b", "{again:#}");
        }
    }
    assert_eq!(client.refused("plan_wait", json!({ "plan_id": id, "cursor": "x" })), "INVALID_ARGUMENT");
    // Tried again in the running build, it fails again: that is new.
    client.call("plan_retry", json!({ "plan_id": id, "tasks": ["b"] }));
    let again =
        client.call("plan_wait", json!({ "plan_id": id, "cursor": first["cursor"], "timeout_s": 600 }));
    assert_eq!(again["news"][0]["task"], "b", "{again:#}");
    server.release("a");
    let end = client.call("plan_wait", json!({ "plan_id": id, "cursor": again["cursor"], "timeout_s": 600 }));
    assert_eq!((&end["phase"], &end["happened"]), (&"failed".into(), &true.into()), "{end:#}");
}

/// Tasks that need nothing of each other.
fn each(names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "[task.{name}]\ninputs = [\"plan.txt\"]\noutputs = [\"{name}.txt\"]\nprompt = \"TASK={name}\\n{{{{ plan }}}}\"\n"
        )
    };
    names.iter().map(one).collect()
}

#[test]
fn a_usage_limit_is_told_with_its_reset() {
    let server = FakeLlm::scripted(|_| {
        let body = r#"{"error":{"message":"The usage limit has been reached","type":"usage_limit_reached"}}"#;
        Answer::Http(429, vec![("retry-after", "3600".into())], body.to_owned())
    });
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    let end = client.wait_for_end(&id);
    assert_eq!((&end["phase"], &end["parked"][0]["model"]), (&"stopped".into(), &"fake".into()), "{end:#}");
    let left = end["parked"][0]["left_s"].as_f64().expect("seconds");
    assert!((3500.0..=3600.0).contains(&left), "{end:#}");
    let next = end["next"].as_str().expect("what is next");
    let until = end["parked"][0]["until_utc"].as_str().expect("a time");
    assert!(next.contains("`plan_resume` then") && next.contains(until), "{next}");
    client.call("plan_resume", json!({ "plan_id": id }));
    client.wait_for_end(&id);
    assert_eq!(server.total(), 1, "nothing is asked before the reset");
}

#[test]
fn a_person_that_is_needed_is_named_and_no_tool_stands_in() {
    let server = FakeLlm::new();
    let tasks = "[task.sign]\ninputs = [\"a.txt\"]\noutputs = [\"sign.txt\"]\nhuman = \"Read a.txt\"\n";
    let space = space(&server, &format!("{tasks}{CHAIN}"));
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    let seen = client.call("plan_wait", json!({ "plan_id": id, "for": "human", "timeout_s": 600 }));
    assert_eq!(
        (&seen["happened"], &seen["waiting_for_person"][0]["task"]),
        (&true.into(), &"sign".into()),
        "{seen:#}"
    );
    let end = client.wait_for_end(&id);
    assert_eq!(
        (&end["phase"], &end["stopped_because"]),
        (&"waiting".into(), &"a person is waited for".into()),
        "{end:#}"
    );
    let next = end["next"].as_str().expect("what is next");
    let run = space.root().join("runs").join(&id);
    assert!(next.contains(&format!("planexe -C {} done sign", run.display())), "{next}");
    space.run(&["-C", run.to_str().expect("a path"), "done", "sign"]).exits(0);
    client.call("plan_resume", json!({ "plan_id": id }));
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    let never = client.call("plan_wait", json!({ "plan_id": id, "for": "human" }));
    assert_eq!((&never["happened"], &never["timed_out"]), (&false.into(), &false.into()), "{never:#}");
}

#[test]
fn a_server_that_is_away_is_named_while_it_is_waited_for() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let away = own_port().local_addr().expect("its address");
    let good = space.read("pipeline.toml");
    space.write("pipeline.toml", good.replace(&server.base_url(), &format!("http://{away}/v1")));
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    let seen = until("the task to be held", || {
        Some(client.call("plan_status", json!({ "plan_id": id }))).filter(|seen| seen.get("held").is_some())
    });
    let held = &seen["held"][0];
    assert_eq!((&seen["phase"], &held["task"]), (&"running".into(), &"a".into()), "{seen:#}");
    assert!(held["message"].as_str().is_some_and(|text| text.contains(&away.to_string())), "{seen:#}");
    assert!(seen["next"].as_str().is_some_and(|next| next.contains("`held`")), "{seen:#}");
    client.call("plan_stop", json!({ "plan_id": id }));
    assert_eq!(client.wait_for_end(&id)["phase"], "stopped");
    space.write("pipeline.toml", good);
    client.call("plan_resume", json!({ "plan_id": id }));
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
}

#[test]
fn a_failed_task_is_explained_and_retried() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" => Answer::error(400, "not today"),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    let end = client.call("plan_wait", json!({ "plan_id": id, "timeout_s": 600 }));
    assert_eq!(end["failed"][0]["task"], "b", "{end:#}");
    let end = client.wait_for_end(&id);
    assert_eq!((&end["phase"], &end["error"]["failed_step"]), (&"failed".into(), &"b".into()), "{end:#}");
    assert!(end["next"].as_str().is_some_and(|next| next.contains("plan_explain")), "{end:#}");
    let why = client.call("plan_explain", json!({ "plan_id": id, "task": "b" }));
    assert!(why["failure"]["message"].as_str().is_some_and(|text| text.contains("not today")), "{why:#}");
    assert_eq!(client.refused("plan_explain", json!({ "plan_id": id, "task": "nobody" })), "TASK_NOT_FOUND");
    let info = client.call("plan_file_info", json!({ "plan_id": id, "path": "c.txt" }));
    assert_eq!(
        (&info["ready"], &info["reason"]),
        (&false.into(), &"task `c` is blocked: needs b".into()),
        "{info:#}"
    );
    server.script(|_| Answer::Default);
    let anew = client.call("plan_retry", json!({ "plan_id": id }));
    assert_eq!(anew["tasks"], json!(["b"]), "{anew:#}");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    assert_eq!(client.refused("plan_retry", json!({ "plan_id": id })), "PLAN_NOT_FAILED");
    assert_eq!(client.refused("plan_retry", json!({ "plan_id": id, "tasks": ["nobody"] })), "TASK_NOT_FOUND");
    assert_eq!(server.count("a"), 1);
}

#[test]
fn tasks_are_made_again_only_when_that_is_confirmed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    let would = client.call("plan_invalidate", json!({ "plan_id": id, "tasks": ["b"] }));
    assert_eq!(
        (&would["done"], &would["tasks"], &would["remade_if_changed"]),
        (&false.into(), &json!(["b"]), &json!(["c"]))
    );
    let only = json!({ "plan_id": id, "tasks": ["b"], "dry_run": false });
    assert_eq!(client.refused("plan_invalidate", only), "NOT_CONFIRMED");
    let would = json!({ "plan_id": id, "tasks": ["b"], "dry_run": true, "confirm": true });
    assert_eq!(client.call("plan_invalidate", would)["done"], false);
    assert_eq!(client.phase(&id), "completed");
    let done = client
        .call("plan_invalidate", json!({ "plan_id": id, "tasks": ["b"], "cascade": true, "confirm": true }));
    assert_eq!((&done["done"], &done["tasks"]), (&true.into(), &json!(["b", "c"])), "{done:#}");
    client.call("plan_resume", json!({ "plan_id": id }));
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    assert_eq!((server.count("a"), server.count("b"), server.count("c")), (1, 2, 2));
    // A plan that was edited is built again just so.
    space.write(&format!("../runs/{id}/plan.txt"), "Build a tunnel.\n");
    let seen = client.call("plan_status", json!({ "plan_id": id }));
    assert!(seen["next"].as_str().is_some_and(|next| next.contains("plan_resume")), "{seen:#}");
    assert_ne!(seen["progress_percent"], 100, "{seen:#}");
    client.call("plan_resume", json!({ "plan_id": id }));
    assert_eq!(client.wait_for_end(&id)["progress_percent"], 100);
    assert_eq!(server.count("a"), 2);
}
