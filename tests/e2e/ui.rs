//! `planexe ui`: what its server answers, to whom, and how soon.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::answer_schemas::assert_as_the_schema_says;
use crate::support::{Answer, FakeLlm, Fifo, Running, Space, until};

/// A server that runs.
struct Ui {
    running: Running,
    port: u16,
    token: String,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    #[track_caller]
    fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}{}", self.head, self.body);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Ui {
    fn start(space: &Space, args: &[&str]) -> Ui {
        let running = space.spawn(&[&["ui", "--json"], args].concat());
        let line = until("the address", || running.stdout().lines().next().map(str::to_owned));
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap();
        let rest = url.strip_prefix("http://127.0.0.1:").unwrap();
        let (port, token) = rest.split_once("/#token=").unwrap();
        assert!(token.len() >= 32, "{token}");
        Ui { port: port.parse().unwrap(), token: token.to_owned(), running }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes as they are.
    fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // The server may refuse before it has read all.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        self.raw(format!("{text}\r\n{body}").as_bytes())
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[("Authorization", &self.bearer())], "")
    }

    fn wish(&self, wish: &Value) -> Reply {
        let origin = format!("http://127.0.0.1:{}", self.port);
        let headers =
            [("Authorization", &*self.bearer()), ("Origin", &*origin), ("Content-Type", "application/json")];
        self.ask("POST", "/api/do", &headers, &wish.to_string())
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Follows the events.
    fn follow(&self, query: &str) -> Stream {
        let mut stream = self.connect();
        let head = format!(
            "GET /api/events{query} HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: {}\r\n\r\n",
            self.port,
            self.bearer()
        );
        stream.write_all(head.as_bytes()).unwrap();
        Stream { stream, text: String::new() }
    }
}

struct Stream {
    stream: TcpStream,
    text: String,
}

impl Stream {
    /// Reads until a text has come.
    #[track_caller]
    fn comes(&mut self, wanted: &str) {
        let mut piece = [0; 4096];
        while !self.text.contains(wanted) {
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "no {wanted:?} in {}", self.text);
            self.text += &String::from_utf8_lossy(&piece[..count]);
        }
    }
}

/// The names of all fields of an answer.
fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| [vec![name.clone()], keys(value)].concat()).collect()
        }
        Value::Array(list) => list.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

const TASKS: &str = r#"
[task.a]
outputs = ["a.txt"]
prompt = "Say something. TASK=a"
[task.ok]
inputs = ["a.txt"]
outputs = ["ok.txt"]
human = "Look at <b>a</b>"
[task.last]
inputs = ["ok.txt"]
outputs = ["last.txt"]
command = "cat ok.txt > $out"
"#;

#[test]
fn only_who_has_the_token_and_comes_from_here_is_answered() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    let before = space.tree();
    let ui = Ui::start(&space, &[]);
    let own = format!("http://127.0.0.1:{}", ui.port);
    let bearer = ui.bearer();
    let page = ui.ask("GET", "/", &[], "").is(200);
    assert!(page.body.contains("<script type=\"module\" src=\"/app.js\">"), "{}", page.body);
    for wanted in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "nosniff",
        "no-store",
        "no-referrer",
    ] {
        assert!(page.head.contains(wanted), "no {wanted} in {}", page.head);
    }
    assert!(!page.body.contains(&ui.token), "the page holds no token");
    for file in ["/app.js", "/app.css", "/dom.js", "/views.js", "/pan.js", "/icon.svg"] {
        let file = ui.ask("GET", file, &[], "").is(200);
        assert!(
            !file.body.contains("https://")
                && !file.body.contains("innerHTML")
                && !file.body.contains("eval(")
        );
    }
    let status = ui.get("/api/status").is(200).json();
    assert_eq!(status["run"]["phase"], "never_started");
    assert_eq!(status, space.run(&["status", "--json"]).exits(0).json(), "the same as `status --json`");
    // The token.
    ui.ask("GET", "/api/status", &[], "").is(401);
    let wrong = format!("Bearer {}", "0".repeat(ui.token.len()));
    ui.ask("GET", "/api/status", &[("Authorization", &wrong)], "").is(401);
    ui.ask("GET", &format!("/api/status?token={}", ui.token), &[], "").is(401);
    ui.ask("GET", "/api/status", &[("Cookie", &format!("token={}", ui.token))], "").is(401);
    // Names that lead here, and other sites.
    for host in [
        "evil.example",
        "evil.example:80",
        "127.0.0.1",
        "127.0.0.1:1",
        &format!("localhost.evil:{}", ui.port),
    ] {
        ui.ask("GET", "/api/status", &[("Host", host), ("Authorization", &bearer)], "").is(403);
        ui.ask("GET", "/", &[("Host", host)], "").is(403);
    }
    ui.raw(format!("GET /api/status HTTP/1.1\r\nAuthorization: {bearer}\r\n\r\n").as_bytes()).is(403);
    for origin in
        ["http://evil.example", "null", &format!("https://127.0.0.1:{}", ui.port), "http://127.0.0.1:1"]
    {
        ui.ask("GET", "/api/status", &[("Origin", origin), ("Authorization", &bearer)], "").is(403);
    }
    ui.ask("GET", "/api/status", &[("Origin", &own), ("Authorization", &bearer)], "").is(200);
    let cross = [("Sec-Fetch-Site", "cross-site"), ("Authorization", &*bearer)];
    ui.ask("GET", "/api/status", &cross, "").is(403);
    // What there is not.
    for path in [
        "/api/nothing",
        "/nothing",
        "/../Cargo.toml",
        "/%2e%2e/etc/passwd",
        "/api/../../pipeline.toml",
        "//etc/passwd",
        "/app.js/..",
        "/api/task?task=../../etc/passwd",
    ] {
        let reply = ui.get(path);
        assert!(matches!(reply.status, 404 | 409), "{path}: {} {}", reply.head, reply.body);
    }
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE"] {
        ui.ask(method, "/api/status", &[("Authorization", &bearer)], "").is(405);
    }
    // HEAD tells the length and sends nothing.
    let head = ui.ask("HEAD", "/app.js", &[], "").is(200);
    assert!(head.body.is_empty() && !head.head.contains("Content-Length: 0"), "{}", head.head);
    // Nothing is changed without leave.
    for wish in [
        json!({"do": "build"}),
        json!({"do": "pause"}),
        json!({"do": "done", "task": "ok"}),
        json!({"do": "retry"}),
    ] {
        let refused = ui.wish(&wish).is(403).json();
        assert!(refused["error"]["message"].as_str().unwrap().contains("--allow-changes"), "{refused}");
    }
    assert_eq!(server.requests(), 0);
    assert!(space.tree() == before, "looking changes nothing");
    ui.running.signal(rustix::process::Signal::INT);
    ui.running.wait().exits(130);
}

#[test]
fn what_is_too_large_too_slow_or_no_request_is_refused_and_the_server_goes_on() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    let ui = Ui::start(&space, &["--allow-changes"]);
    let long = "x".repeat(20_000);
    ui.ask("GET", "/", &[("X-Long", &long)], "").is(431);
    ui.ask("GET", &format!("/{long}"), &[], "").is(431);
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    ui.raw(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).is(431);
    ui.raw(b"POST /api/do HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n").is(413);
    ui.raw(b"POST /api/do HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is(501);
    ui.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").is(400);
    // Clients that say nothing, or half of something, keep nobody waiting.
    let mut slow: Vec<TcpStream> = (0..20).map(|_| ui.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /api/status HTTP/1.1\r\nHost:").unwrap();
    }
    ui.get("/api/status").is(200);
    drop(slow);
    // Wishes that are none.
    let origin = format!("http://127.0.0.1:{}", ui.port);
    let bearer = ui.bearer();
    let json = ("Content-Type", "application/json");
    ui.ask("POST", "/api/do", &[("Authorization", &bearer), json], r#"{"do":"stop"}"#).is(403);
    let with_origin = [("Authorization", &*bearer), ("Origin", &*origin)];
    ui.ask("POST", "/api/do", &with_origin, r#"{"do":"stop"}"#).is(400);
    for wish in [
        json!({"do": "delete"}),
        json!({"do": "done"}),
        json!([]),
        json!({"do": "done", "task": "ok", "more": 1}),
    ] {
        ui.wish(&wish).is(400);
    }
    for task in ["--help", "-C/", "nothing", "../x", "last"] {
        let refused = ui.wish(&json!({"do": "done", "task": task})).is(409).json();
        assert!(refused["error"]["message"].is_string(), "{refused}");
    }
}

#[test]
fn events_come_as_they_are_written_and_a_gate_is_passed_from_the_page() {
    let server = FakeLlm::scripted(|_| Answer::from("</script><img src=x onerror=alert(1)>"));
    let space = Space::with(&server, TASKS);
    let ui = Ui::start(&space, &["--allow-changes"]);
    let mut stream = ui.follow("");
    stream.comes("event: ready");
    let mut other = ui.follow("?from=0");
    other.comes("event: ready");
    server.hold("a");
    ui.wish(&json!({"do": "build"})).is(200);
    stream.comes("\"event\":\"task.started\",\"task\":\"a\"");
    other.comes("\"event\":\"task.started\",\"task\":\"a\"");
    // The event is written before the record of the task.
    until("the running task", || {
        let room = ui.get("/api/task?task=a").is(200).json();
        (room["show"]["state"] == "running").then_some(())
    });
    // A page that comes later asks for what it has missed.
    let mut late = ui.follow("?from=0");
    late.comes("\"event\":\"pipeline.started\"");
    // One that was never open shows what happened last: whole lines, however few bytes it asks for.
    let log = space.read("events.jsonl");
    let mut fresh = ui.follow("?last=1000000");
    fresh.comes(&format!("data: {{\"offset\":0,\"end\":{}}}", log.len()));
    fresh.comes("\"event\":\"pipeline.started\"");
    let mut brief = ui.follow(&format!("?last={}", log.lines().last().unwrap().len() + 3));
    brief.comes("\"event\":\"task.started\",\"task\":\"a\"");
    assert!(!brief.text.contains("pipeline.started"), "{}", brief.text);
    server.release("a");
    stream.comes("\"event\":\"task.waiting\",\"task\":\"ok\"");
    stream.comes("\"event\":\"pipeline.stopped\"");
    let status = until("the end of the build", || {
        let status = ui.get("/api/status").is(200).json();
        (status["run"]["phase"] == "waiting").then_some(status)
    });
    assert_eq!(status["counts"]["waiting"], 1);
    let room = ui.get("/api/task?task=a").is(200).json();
    assert_eq!(
        room["show"],
        space.run(&["show", "a", "--json"]).exits(0).json(),
        "the same as `show --json`"
    );
    assert_eq!(room["explain"], space.run(&["explain", "a", "--json"]).exits(0).json());
    let graph = ui.get("/api/graph.svg").is(200);
    assert!(
        graph.body.contains("href=\"#task=last\"") && graph.head.contains("image/svg+xml"),
        "{}",
        graph.body
    );
    assert_eq!(ui.get("/api/failures").is(200).json(), space.run(&["failures", "--json"]).exits(0).json());
    assert_eq!(ui.get("/api/usage").is(200).json(), space.run(&["usage", "--json"]).exits(0).json());
    let timeline = ui.get("/api/timeline").is(200).json();
    assert_as_the_schema_says("timeline", &timeline);
    let said = ui.running.stdout();
    assert_as_the_schema_says(
        "ui",
        &serde_json::from_str(said.lines().next().expect("a line")).expect("JSON"),
    );
    assert_eq!(timeline["calls"].as_array().unwrap().len(), 1);
    let wide = ui.get("/api/timeline.svg?width=3000").is(200).body;
    assert!(wide.contains("width=\"3000\"") && !wide.contains("NaN"), "{wide}");
    assert!(ui.get("/api/timeline.svg?width=1e9").is(200).body.contains("width=\"24000\""));
    let waits = ui.get("/api/task?task=ok").is(200).json();
    assert_eq!(waits["needs"], json!(["a"]), "{waits}");
    // What only the page asks for is described, field by field.
    let doc = include_str!("../../docs/seeing.md");
    let described =
        |name: &str| doc.split('`').skip(1).step_by(2).any(|code| words(code).any(|word| word == name));
    let own = [&timeline, &ui.get("/api/about").json(), &ui.get("/api/plan").json()];
    let mut names: Vec<String> = own.into_iter().flat_map(keys).collect();
    names.extend(room.as_object().unwrap().keys().cloned());
    names.retain(|name| {
        !described(name) && !["schema", "server", "name", "version", "host"].contains(&&**name)
    });
    assert!(names.is_empty(), "not in docs/seeing.md: {names:?}");
    let passed = ui.wish(&json!({"do": "done", "task": "ok"})).is(200).json();
    assert_eq!(passed["passed"], json!(["ok"]), "{passed}");
    ui.wish(&json!({"do": "build"})).is(200);
    stream.comes("\"event\":\"pipeline.completed\"");
    assert!(space.read("last.txt").contains("done by"), "{}", space.read("last.txt"));
    assert_eq!(server.requests(), 1);
}

#[test]
fn an_event_is_told_within_a_tenth_of_a_second_and_no_time_is_spent_while_nothing_happens() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    space.run(&["build"]).exits(3);
    let ui = Ui::start(&space, &[]);
    let mut stream = ui.follow("");
    stream.comes("event: ready");
    let mut best = Duration::MAX;
    for n in 0..10 {
        let line = format!(
            "{{\"timestamp_utc\":\"2026-01-01T00:00:00.000Z\",\"event\":\"note\",\"task\":null,\"message\":\"note {n}\",\"warning\":false}}\n"
        );
        let begun = Instant::now();
        let path = space.path("events.jsonl");
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
        stream.comes(&format!("note {n}\""));
        best = best.min(begun.elapsed());
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
    #[cfg(target_os = "linux")]
    {
        let spent = || {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", ui.running.pid().as_raw_nonzero())).unwrap();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let before = spent();
        // A time to be idle in; nothing is waited for.
        let mut piece = [0; 16];
        stream.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let nothing = stream.stream.read(&mut piece);
        assert!(nothing.is_err(), "{nothing:?}");
        assert!(spent() - before <= 1, "{} ticks in 2 s", spent() - before);
    }
}

#[test]
fn the_runs_of_a_folder_are_listed_and_only_those_are_opened() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    for name in ["one", "two"] {
        space.run(&["new", &format!("../runs/{name}"), "-f", "pipeline.toml"]).exits(0);
    }
    let ui = Ui::start(&space, &["../runs"]);
    let runs = ui.get("/api/runs").is(200).json();
    assert_eq!(runs["total"], 2, "{runs}");
    assert_eq!(ui.get("/api/about").is(200).json()["runs"], true);
    let status = ui.get("/api/status?run=one").is(200).json();
    assert!(status["run"]["dir"].as_str().unwrap().ends_with("/one"), "{status}");
    ui.get("/api/status").is(400);
    for name in ["three", "..", ".", "../run", "..%2frun", "%2Fetc", "one/../../run", ""] {
        ui.get(&format!("/api/status?run={name}")).is(404);
    }
}

#[test]
fn an_edit_of_the_plan_is_seen_before_it_is_made() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline(
        &server,
        "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"{{ plan }} TASK=a\"\n[pipeline]\nplan = \"plan.txt\"\n",
    );
    space.write("plan.txt", "first\n");
    space.build();
    let ui = Ui::start(&space, &[]);
    assert_eq!(ui.get("/api/plan").is(200).json()["text"], "first\n");
    let seen = ui.wish(&json!({"do": "preview-plan", "text": "second\n"})).is(200).json();
    assert_eq!((&seen["stale"][0]["task"], &seen["calls_expected"]), (&json!("a"), &json!(1)), "{seen}");
    assert_eq!(space.read("plan.txt"), "first\n");
    ui.wish(&json!({"do": "edit-plan", "text": "second\n"})).is(403);
    let may = Ui::start(&space, &["--allow-changes"]);
    may.wish(&json!({"do": "edit-plan", "text": "second\n"})).is(200);
    assert_eq!(space.read("plan.txt"), "second\n");
    assert_eq!(server.requests(), 1);
}

#[test]
fn what_the_page_does_is_what_a_person_would_type() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"test -e ../ok && cat $in > $out\"\n\n\
         [task.slow]\ninputs = [\"a.txt\"]\noutputs = [\"slow.txt\"]\ncommand = \"cat ../gate > $out\"\n",
    );
    space.write("plan.txt", "first\n");
    let gate = Fifo::new(space.root().join("gate"));
    let ui = Ui::start(&space, &["--allow-changes"]);
    let wish = |wish: Value, status: u16| ui.wish(&wish).is(status).json();
    // It may have failed before the answer.
    let status = ui.wish(&json!({ "do": "build" })).status;
    assert!(matches!(status, 200 | 409), "{status}");
    until("it fails", || {
        (space.state("a") == "failed" && space.report()["run"]["pid"].is_null()).then_some(())
    });
    space.write("../ok", "");
    wish(json!({ "do": "retry" }), 200);
    let runs = wish(json!({ "do": "build" }), 200);
    assert_eq!(runs["message"], "the build runs", "{runs}");
    let mut held = gate.wait_for_reader();
    wish(json!({ "do": "pause" }), 200);
    until("it is paused", || (space.report()["run"]["phase"] == "paused").then_some(()));
    assert_eq!(wish(json!({ "do": "build" }), 200)["message"], "it was paused and continues");
    until("it goes on", || (space.report()["run"]["phase"] != "paused").then_some(()));
    let page = || ui.get("/api/task?task=slow").json();
    until("the page shows it at work", || (page()["task"]["state"] == "running").then_some(()));
    assert_eq!(page()["needs"], json!(["a"]));
    wish(json!({ "do": "stop" }), 200);
    held.write_all(b"made\n").unwrap();
    drop(held);
    until("it has ended", || space.report()["run"]["pid"].is_null().then_some(()));
    // Another answer of the first task, and the one before brought back.
    space.write("plan.txt", "second\n");
    let build = space.spawn(&["build", "a"]);
    build.wait().exits(0);
    assert_eq!(ui.get("/api/task?task=a").json()["versions"][0]["version"], "a@1");
    wish(json!({ "do": "restore", "version": "a@1" }), 200);
    assert_eq!(space.read("a.txt"), "first\n");
    let known = ui.wish(&json!({ "do": "restore", "version": "a@9" })).is(409).json();
    assert!(known["error"]["message"].is_string(), "{known}");
    ui.wish(&json!({ "do": "fly" })).is(400);
}

/// The token is in no argument: a file that only the user can read leads to the page.
#[cfg(target_os = "linux")]
#[test]
fn a_browser_is_led_to_the_page_by_a_file_of_the_users_own() {
    use std::os::unix::fs::PermissionsExt as _;

    let space = Space::new();
    space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"true > $out\"\n");
    space.write(
        "../bin/xdg-open",
        "#!/bin/sh\nstat -c %a \"$1\" > ../mode; cat \"$1\" > ../leads.new; mv ../leads.new ../leads\n",
    );
    let browser = space.path("../bin/xdg-open");
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    space.set_env("PATH", format!("{}:{path}", browser.parent().unwrap().display()));
    let ui = space.spawn(&["ui", "--open"]);
    until("it is opened", || space.exists("../leads").then_some(()));
    let address = ui.stdout().trim().to_owned();
    assert!(address.contains("/#token=") && space.read("../leads").contains(&address), "{address}");
    assert_eq!(space.read("../mode").trim(), "600");
    until("it says how it ends", || ui.stderr().contains("Ctrl-C ends it").then_some(()));
    ui.signal(Signal::INT);
    ui.wait().exits(130);
    assert_eq!(space.files("../tmp"), Vec::<String>::new());

    space.set_env("PATH", "/nowhere");
    let ui = space.spawn(&["ui", "--open"]);
    until("it says that there is none", || ui.stderr().contains("no browser could be started").then_some(()));
    ui.signal(Signal::INT);
    ui.wait().exits(130);
    space.run(&["ui", "nowhere"]).exits(2).says(&["there is no folder `nowhere`"]);
}
