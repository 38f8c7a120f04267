//! `planexe mcp`: an agent over pipes, in both generations of the protocol. Builds outlive the server, so each test has
//! the model server end before its folder goes: what is left of a build then ends by itself.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::support::{Answer, CHAIN, DEADLINE, FakeLlm, Space, own_port, until};

/// What came from the server: answers by the text of their ids, and all else.
#[derive(Default)]
struct Came {
    answers: HashMap<String, Value>,
    others: Vec<Value>,
    over: bool,
}

/// A client, and the server it started.
struct Client {
    server: Child,
    input: Option<ChildStdin>,
    came: Arc<(Mutex<Came>, Condvar)>,
    next: u64,
    modern: bool,
}

impl Client {
    fn start(space: &Space, args: &[&str]) -> Client {
        let mut command = space.command(&[&["mcp", "--runs", "../runs"], args].concat());
        let log = std::fs::File::options().append(true).create(true).open(space.root().join("mcp.log"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.expect("a log")).process_group(0);
        let mut server = command.spawn().expect("planexe mcp");
        let output = BufReader::new(server.stdout.take().expect("its output"));
        let came: Arc<(Mutex<Came>, Condvar)> = Arc::default();
        let shared = came.clone();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { break };
                // Nothing but protocol.
                let message: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                assert_eq!(message["jsonrpc"], "2.0", "{line}");
                let mut came = shared.0.lock().expect("what came");
                match message.get("id") {
                    Some(id) if !id.is_null() => drop(came.answers.insert(id.to_string(), message)),
                    _ => came.others.push(message),
                }
                shared.1.notify_all();
            }
            shared.0.lock().expect("what came").over = true;
            shared.1.notify_all();
        });
        Client { input: server.stdin.take(), server, came, next: 0, modern: false }
    }

    /// With the pipeline of the space, and a handshake.
    fn of(space: &Space) -> Client {
        let mut client = Client::start(space, &["--pipeline", "pipeline.toml"]);
        client.shake_hands();
        client
    }

    fn shake_hands(&mut self) {
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
        let shaken = self.ask("initialize", params);
        assert_eq!(shaken["result"]["protocolVersion"], "2025-11-25", "{shaken}");
        self.line(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
    }

    fn line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(format!("{line}\n").as_bytes()).and_then(|()| input.flush()).expect("to write");
    }

    /// Sends a request and gives its id.
    fn send(&mut self, method: &str, mut params: Value) -> u64 {
        self.next += 1;
        if self.modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let request = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.line(&request.to_string());
        self.next
    }

    /// Waits for something that came.
    #[track_caller]
    fn wait<T>(&self, what: &str, mut found: impl FnMut(&mut Came) -> Option<T>) -> T {
        let mut came = self.came.0.lock().expect("what came");
        loop {
            if let Some(value) = found(&mut came) {
                return value;
            }
            assert!(!came.over, "the server ended before this came: {what}");
            let (next, time) = self.came.1.wait_timeout(came, DEADLINE).expect("what came");
            assert!(!time.timed_out(), "waited in vain: {what}");
            came = next;
        }
    }

    #[track_caller]
    fn answer(&self, id: u64) -> Value {
        self.wait(&format!("the answer to {id}"), |came| came.answers.remove(&id.to_string()))
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    fn begin(&mut self, tool: &str, arguments: Value) -> u64 {
        self.send("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// The data a tool answers with, and whether it is an error.
    #[track_caller]
    fn result(&self, id: u64) -> (Value, bool) {
        let answer = self.answer(id);
        let result = &answer["result"];
        let is_error = result["isError"].as_bool().expect("isError");
        let text = result["content"][0]["text"].as_str().expect("a text");
        let data: Value = serde_json::from_str(text).expect("JSON");
        assert!(data.is_object(), "{answer:#}");
        // Clients hold data against the tool's output schema, also that of an error.
        let structured = result.get("structuredContent");
        assert_eq!(structured, Some(&data).filter(|_| !is_error), "{answer:#}");
        (data, is_error)
    }

    /// What a tool answers, which must be well.
    #[track_caller]
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin(tool, arguments);
        let (data, is_error) = self.result(id);
        assert!(!is_error, "{tool}: {data:#}");
        // What it promises to have, it has.
        let tools = planexe::mcp::tools::list();
        let tool = tools.iter().find(|each| each["name"] == tool).expect(tool);
        assert!(jsonschema::is_valid(&tool["outputSchema"], &data), "{tool:#}: {data:#}");
        // The rest of what `explain` and `status` tell is on the page of formats.
        if tool["name"] != "plan_explain" {
            described(&data);
        }
        data
    }

    /// The code of the error a tool answers with; each says what to do, or at least what was wrong.
    #[track_caller]
    fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let id = self.begin(tool, arguments);
        let (data, is_error) = self.result(id);
        assert!(is_error, "{tool}: {data:#}");
        let error = &data["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{data:#}");
        let code = error["code"].as_str().expect("a code").to_owned();
        assert!(planexe::mcp::tool_error::CODES.iter().any(|(known, _)| *known == code), "{code}");
        code
    }

    fn create(&mut self, prompt: &str) -> String {
        let made = self.call("plan_create", json!({ "prompt": prompt }));
        assert_eq!(made["deduplicated"], false, "{made:#}");
        made["plan_id"].as_str().expect("an id").to_owned()
    }

    fn phase(&mut self, id: &str) -> String {
        self.call("plan_status", json!({ "plan_id": id }))["phase"].as_str().expect("a phase").to_owned()
    }

    /// Waits until its build has ended.
    fn wait_for_end(&mut self, id: &str) -> Value {
        self.call("plan_wait", json!({ "plan_id": id, "for": "done", "timeout_s": 600 }))
    }

    /// Closes the input and waits for the server's end.
    fn close(mut self) -> i32 {
        drop(self.input.take());
        let mut server = self.server;
        until("the server to end", || server.try_wait().expect("try_wait")).code().expect("an exit code")
    }
}

/// Every field of an answer is named on the page of the server.
#[track_caller]
fn described(answer: &Value) {
    let part = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    for (name, value) in answer.as_object().into_iter().flatten() {
        let page = include_str!("../../docs/mcp.md");
        assert!(page.split(part).any(|word| word == name), "docs/mcp.md does not name `{name}`: {answer:#}");
        match value {
            Value::Array(items) => items.iter().for_each(described),
            Value::Object(_) if !matches!(name.as_str(), "counts" | "status") => described(value),
            _ => {}
        }
    }
}

/// A space whose pipeline makes plans, and its model server.
fn space(server: &FakeLlm, tasks: &str) -> Space {
    let space = Space::new();
    space.pipeline(server, &format!("[pipeline]\nname = \"chain\"\nplan = \"plan.txt\"\n{tasks}"));
    // Of a test that fails a build may be left: it does not wait for long for a server that is gone.
    space.edit("pipeline.toml", "max = \"10ms\" }", "max = \"10ms\", wait = \"60s\" }");
    space
}

fn runs(space: &Space) -> Vec<String> {
    let entries = std::fs::read_dir(space.root().join("runs")).expect("the runs").flatten();
    let names = entries.filter(|entry| entry.path().is_dir());
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

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

#[test]
fn nothing_is_read_beside_the_files_of_a_plan() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    let root = space.root();
    let run = root.join("runs").join(&id);
    std::fs::write(root.join("secret.txt"), "secret").expect("a secret");
    std::os::unix::fs::symlink(root.join("secret.txt"), run.join("out.txt")).expect("a link");
    std::os::unix::fs::symlink(&run, root.join("runs/link")).expect("a link");
    std::fs::create_dir(root.join("runs/empty")).expect("a folder");
    for path in [
        "../../secret.txt",
        "/etc/passwd",
        "out.txt",
        ".planexe/run.json",
        "./../x",
        "a.txt/../../../secret.txt",
    ] {
        for tool in ["plan_read_file", "plan_file_info"] {
            assert_eq!(
                client.refused(tool, json!({ "plan_id": id, "path": path })),
                "FILE_NOT_FOUND",
                "{tool} {path}"
            );
        }
    }
    // An output that was replaced by a link that leads out is none.
    std::fs::remove_file(run.join("c.txt")).expect("c.txt");
    std::os::unix::fs::symlink(root.join("secret.txt"), run.join("c.txt")).expect("a link");
    assert_eq!(client.refused("plan_read_file", json!({ "plan_id": id, "path": "c.txt" })), "FILE_NOT_READY");
    for plan in ["..", ".", "../run", "/tmp", "link", "empty", "nobody", ".archived-x", "a/b"] {
        for tool in [
            "plan_status",
            "plan_files",
            "plan_resume",
            "plan_delete",
            "plan_archive",
            "plan_stop",
            "plan_wait",
        ] {
            assert_eq!(client.refused(tool, json!({ "plan_id": plan })), "PLAN_NOT_FOUND", "{tool} {plan}");
        }
    }
    // Calls and answers of others are no business of the agent's, but what the build said is.
    client.call("plan_read_file", json!({ "plan_id": id, "path": ".planexe/build.log" }));
    let files = client.call("plan_files", json!({ "plan_id": id, "limit": 500 }));
    assert!(!files.to_string().contains("out.txt") && !files.to_string().contains("calls/"), "{files:#}");
}

/// A folder below the runs root that says it is a run, of a command that leaves a mark.
fn plant(space: &Space, name: &str, run_toml: Option<&str>, pipeline: &str) {
    let dir = space.root().join("runs").join(name);
    std::fs::create_dir_all(dir.join("pipeline")).expect("a folder");
    let mark = space.root().join("MARK");
    let text = format!(
        "[pipeline]\nplan = \"plan.txt\"\n[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo x > {}; echo x > $out\"\n",
        mark.display()
    );
    std::fs::write(dir.join(pipeline), text).expect("a pipeline");
    std::fs::write(dir.join("plan.txt"), "planted\n").expect("a plan");
    if let Some(text) = run_toml {
        std::fs::write(dir.join("run.toml"), text).expect("run.toml");
    }
}

#[test]
fn only_runs_of_the_pipelines_of_the_server_are_built() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    plant(&space, "own", None, "pipeline.toml");
    plant(&space, "named", Some("pipeline = \"evil.toml\"\n"), "evil.toml");
    // As if it were a copy of the pipeline that comes along.
    plant(&space, "copy", Some("pipeline = \"pipeline/pipeline.toml\"\n"), "pipeline/pipeline.toml");
    // Outside of the run nothing is even looked at.
    plant(&space, "away", Some("pipeline = \"../own/pipeline.toml\"\n"), "unused.toml");
    let root = space.root();
    std::fs::create_dir_all(root.join("runs/link")).expect("a folder");
    std::os::unix::fs::symlink(root.join("runs/own/pipeline.toml"), root.join("runs/link/pipeline.toml"))
        .expect("a link");
    std::fs::create_dir_all(root.join("runs/leak")).expect("a folder");
    std::fs::write(root.join("secret.txt"), "secret words\n").expect("a secret");
    std::os::unix::fs::symlink(root.join("secret.txt"), root.join("runs/leak/run.toml")).expect("a link");
    for plan in ["own", "named", "copy", "away", "link"] {
        for (tool, more) in [
            ("plan_resume", json!({})),
            ("plan_resume", json!({ "force": true })),
            ("plan_retry", json!({ "tasks": ["a"] })),
            ("plan_invalidate", json!({ "tasks": ["a"], "confirm": true })),
        ] {
            let mut arguments = more;
            arguments["plan_id"] = json!(plan);
            assert_eq!(client.refused(tool, arguments), "NOT_ALLOWED", "{tool} {plan}");
        }
    }
    for plan in ["own", "named", "copy"] {
        assert_eq!(client.phase(plan), "never_started", "{plan}");
    }
    for plan in ["away", "link"] {
        for tool in ["plan_status", "plan_files", "plan_wait"] {
            assert_eq!(client.refused(tool, json!({ "plan_id": plan })), "NOT_ALLOWED", "{tool} {plan}");
        }
    }
    let id = client.begin("plan_status", json!({ "plan_id": "leak" }));
    let (leak, is_error) = client.result(id);
    assert!(is_error && !leak.to_string().contains("secret"), "{leak:#}");
    let listed = client.call("plan_list", json!({})).to_string();
    assert!(!listed.contains("secret words"), "{listed}");
    // A request that looks like one of before makes a plan of its own, rather than start the planted one.
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    let request =
        std::fs::read(root.join("runs").join(&id).join(".planexe/request.json")).expect("a request");
    std::fs::create_dir_all(root.join("runs/own/.planexe")).expect("a folder");
    std::fs::write(root.join("runs/own/.planexe/request.json"), request).expect("a request");
    client.call("plan_delete", json!({ "plan_id": id, "confirm": true }));
    let other = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    assert_eq!(other["deduplicated"], false, "{other:#}");
    client.wait_for_end(other["plan_id"].as_str().expect("an id"));
    // A link to the server's own pipeline is that pipeline, with the files beside it and not those beside the link.
    std::fs::create_dir_all(root.join("runs/linked")).expect("a folder");
    std::os::unix::fs::symlink(root.join("run/pipeline.toml"), root.join("runs/linked/pipeline.toml"))
        .expect("a link");
    std::fs::write(root.join("runs/linked/plan.txt"), "A road.\n").expect("a plan");
    client.call("plan_resume", json!({ "plan_id": "linked" }));
    assert_eq!(client.wait_for_end("linked")["phase"], "completed");
    assert!(!root.join("MARK").exists(), "a command ran that the server was not given");
}

#[test]
fn a_build_looks_again_which_pipeline_its_run_is_of() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    plant(&space, "own", None, "pipeline.toml");
    let pipeline = space.dir().join("pipeline.toml").canonicalize().expect("the pipeline");
    for only in [pipeline.to_str().expect("a name"), ""] {
        space.run(&["__only", only, "-C", "../runs/own", "build"]).exits(2).says(&["was not started with"]);
    }
    assert!(!space.root().join("MARK").exists());
}

#[test]
fn a_plan_is_put_aside_and_removed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    assert_eq!(client.call("plan_archive", json!({ "plan_id": id }))["archived"], true);
    assert_eq!(client.call("plan_archive", json!({ "plan_id": id }))["archived"], true);
    assert_eq!(client.call("plan_list", json!({}))["total"], 0);
    // It still knows its pipeline.
    let list = client.call("plan_list", json!({ "archived": true }));
    assert_eq!((&list["total"], &list["plans"][0]["phase"]), (&1.into(), &"completed".into()), "{list:#}");
    assert_eq!(client.refused("plan_status", json!({ "plan_id": id })), "PLAN_NOT_FOUND");
    client.call("plan_archive", json!({ "plan_id": id, "undo": true }));
    assert_eq!(client.phase(&id), "completed");
    assert_eq!(client.refused("plan_delete", json!({ "plan_id": id })), "NOT_CONFIRMED");
    assert_eq!(client.call("plan_delete", json!({ "plan_id": id, "confirm": true }))["deleted"], true);
    assert_eq!((client.call("plan_list", json!({}))["total"].as_u64(), runs(&space).len()), (Some(0), 0));
    // A folder that is more than a run is somebody's work.
    space.write("../runs/own/pipeline.toml", space.read("pipeline.toml"));
    space.write("../runs/own/plan.txt", "A bridge.\n");
    assert_eq!(client.refused("plan_delete", json!({ "plan_id": "own", "confirm": true })), "NOT_ALLOWED");
    assert!(space.exists("../runs/own/pipeline.toml"));
}

#[test]
fn an_agent_starts_no_more_builds_at_once_than_it_may() {
    let server = FakeLlm::new();
    server.hold("a");
    let space = space(&server, CHAIN);
    let mut client = Client::start(&space, &["--pipeline", "pipeline.toml", "--max-builds", "2"]);
    client.shake_hands();
    // All at once: those that are only being started count as well.
    let asked: Vec<u64> = (0..5)
        .map(|n| client.begin("plan_create", json!({ "prompt": format!("Build bridge {n}.") })))
        .collect();
    let answers: Vec<Value> = asked.into_iter().map(|id| client.result(id).0).collect();
    let (refused, built): (Vec<&Value>, Vec<&Value>) =
        answers.iter().partition(|answer| answer["error"]["code"] == "TOO_MANY_BUILDS");
    assert_eq!((refused.len(), built.len()), (3, 2), "{answers:#?}");
    let fault = &refused[0]["error"];
    let told = (&fault["details"]["max_builds"], fault["details"]["building"].as_array().map(Vec::len));
    assert_eq!(told, (&json!(2), Some(2)), "{fault}");
    // The plan is there, and starts when there is room.
    let id = fault["details"]["plan_id"].clone();
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "TOO_MANY_BUILDS");
    server.release_all();
    for plan in built {
        client.wait_for_end(plan["plan_id"].as_str().expect("an id"));
    }
    client.call("plan_resume", json!({ "plan_id": id }));
    client.wait_for_end(id.as_str().expect("an id"));
}

#[test]
fn without_builds_plans_are_made_and_looked_at() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::start(&space, &["--pipeline", "pipeline.toml", "--no-build"]);
    client.shake_hands();
    let made = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    assert_eq!(
        (&made["phase"], &made["build"]["state"]),
        (&"never_started".into(), &"not_started".into()),
        "{made:#}"
    );
    let id = made["plan_id"].as_str().expect("an id").to_owned();
    for tool in ["plan_resume", "plan_retry", "plan_stop"] {
        assert_eq!(client.refused(tool, json!({ "plan_id": id })), "BUILD_NOT_ALLOWED", "{tool}");
    }
    assert_eq!(client.refused("plan_wait", json!({ "plan_id": id })), "PLAN_NOT_STARTED");
    assert_eq!(server.total(), 0);
    // Somebody builds it by hand.
    let run = format!("../runs/{id}");
    space.run(&["-C", &run, "build"]).exits(0);
    assert_eq!(client.phase(&id), "completed");
}

#[test]
fn a_build_that_is_refused_is_told_and_begins_when_that_is_mended() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let good = space.read("pipeline.toml");
    let away = good.replace(&server.base_url(), "https://llm.acme.example/v1");
    space.write(
        "pipeline.toml",
        away.replace("model = \"fake-1\"", "model = \"m\"\napi_key_env = \"ACME_KEY\""),
    );
    space.set_env("ACME_KEY", "sk-very-secret-indeed");
    let mut client = Client::of(&space);
    let id = client.begin("plan_create", json!({ "prompt": "Build a bridge." }));
    let (data, is_error) = client.result(id);
    let error = data["error"].clone();
    assert!(is_error && error["code"] == "BUILD_REFUSED", "{data:#}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("ACME_KEY")), "{data:#}");
    assert_eq!(error["details"]["exit_code"], 2);
    let id = error["details"]["plan_id"].as_str().expect("an id").to_owned();
    assert_eq!(client.phase(&id), "never_started");
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "BUILD_REFUSED");
    let profiles = client.call("model_profiles", json!({}));
    let model = &profiles["profiles"][0]["models"][0];
    assert_eq!(
        (&model["ready"], &model["host"]),
        (&false.into(), &"llm.acme.example".into()),
        "{profiles:#}"
    );
    let log = client.call("plan_read_file", json!({ "plan_id": id, "path": ".planexe/build.log" }));
    for said in [&data, &profiles, &log] {
        assert!(!said.to_string().contains("very-secret"), "{said:#}");
    }
    // Mended, the same request starts the plan there is.
    space.write("pipeline.toml", good);
    let made = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    assert_eq!((&made["plan_id"], &made["deduplicated"]), (&json!(id), &true.into()), "{made:#}");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    // A pipeline with faults is told with its lines, and of which plan.
    space.write("pipeline.toml", "nonsense = 1\n");
    for tool in ["plan_status", "plan_resume", "plan_files"] {
        assert_eq!(client.refused(tool, json!({ "plan_id": id })), "PIPELINE_FAULTS", "{tool}");
    }
    let list = client.call("plan_list", json!({}));
    assert!(list["plans"][0]["problem"].is_string(), "{list:#}");
    // No new one is made of it, and nothing is left of the try.
    assert_eq!(client.refused("plan_create", json!({ "prompt": "Build a tunnel." })), "PIPELINE_FAULTS");
    assert_eq!(runs(&space), [id]);
}

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
