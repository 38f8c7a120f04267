//! `planexe mcp`: an agent over pipes, in both generations of the protocol. Builds outlive the server, so each test has
//! the model server end before its folder goes: what is left of a build then ends by itself.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::support::{DEADLINE, FakeLlm, Space, until};

mod life;
mod protocol;
mod told;
mod trust;

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
        let page = include_str!("../../../docs/mcp.md");
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
