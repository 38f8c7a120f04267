//! Every fault of a server, in every dialect, from the first request to the exit code.
//!
//! A row is what the server does and what must come of it, twice over: if it does so each time (the class
//! the task fails with, and after how many requests) and if it does so once (after how many requests the
//! answer is there). What was paid once is asked once, so the counts are exact.

mod singles;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::wire::{DIALECTS, Dialect, Step, Wire, reply, send};
use crate::support::{Space, patiently, until};

/// The answer that is asked for.
pub const TEXT: &str = "It will hold, if the river does not rise.";

/// A script for one request.
type Fault = Box<dyn Fn(Dialect) -> Vec<Step> + Send + Sync>;

/// What must come of a fault that comes every time: the class, and how many requests were made.
type Always = Option<(&'static str, usize)>;

/// What must come of a fault that comes once: how many requests were made until the answer was there.
type Once = Option<usize>;

/// One row.
pub struct Row {
    name: String,
    dialects: Vec<Dialect>,
    /// Further keys of the model's table.
    keys: &'static str,
    /// Further keys of the task's.
    task: &'static str,
    /// What the good answer is.
    text: &'static str,
    fault: Fault,
    always: Always,
    once: Once,
}

pub fn row(
    name: impl Into<String>,
    always: Always,
    once: Once,
    fault: impl Fn(Dialect) -> Vec<Step> + Send + Sync + 'static,
) -> Row {
    Row {
        name: name.into(),
        dialects: DIALECTS.to_vec(),
        keys: "",
        task: "",
        text: TEXT,
        fault: Box::new(fault),
        always,
        once,
    }
}

impl Row {
    /// Further keys of the model's table.
    pub fn with(mut self, keys: &'static str) -> Row {
        self.keys = keys;
        self
    }

    /// Further keys of the task, and an answer that goes with them.
    pub fn task(mut self, task: &'static str, text: &'static str) -> Row {
        (self.task, self.text) = (task, text);
        self
    }

    /// Only in these dialects.
    pub fn only(mut self, dialects: &[Dialect]) -> Row {
        self.dialects = dialects.to_vec();
        self
    }
}

/// A run directory with one task at one model, three attempts, pauses that take no time.
pub fn space(server: &Wire, dialect: Dialect, keys: &str) -> Space {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"[models.m]
api = "{}"
base_url = "{}"
model = "m-1"
retry = {{ max_attempts = 3, base = "1ms", max = "2ms" }}
{keys}

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
model = "m"
prompt = "Will it hold? {{{{ plan }}}}"
"#,
            dialect.api(),
            server.base_url(dialect),
        ),
    );
    space.write("plan.txt", "A bridge.");
    for (name, kind) in [("text", "string"), ("number", "integer")] {
        let schema = json!({ "type": "object", "required": ["x"], "properties": { "x": { "type": kind } } });
        space.write(&format!("{name}.schema.json"), schema.to_string());
    }
    space
}

/// Runs every row in every one of its dialects, a few at a time; all that is wrong is told at the end.
pub fn check(rows: Vec<Row>) {
    let mut cases = Vec::new();
    for row in &rows {
        for &dialect in &row.dialects {
            cases.extend(row.always.map(|_| (row, dialect, true)));
            cases.extend(row.once.map(|_| (row, dialect, false)));
        }
    }
    assert!(!cases.is_empty());
    let (next, wrong) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some((row, dialect, always)) = next.lock().expect("the cases").next() else { return };
                    if let Err(why) = play(row, dialect, always) {
                        let how = if always { "each time" } else { "once" };
                        let why = format!("{} ({}, {how}): {why}", row.name, dialect.api());
                        wrong.lock().expect("the list").push(why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("the list");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Plays one case; what is wrong, if something is. Where it is wrong it is played again with all clocks slower: a busy
/// machine may hold up any process for a second.
fn play(row: &Row, dialect: Dialect, always: bool) -> Result<(), String> {
    play_slowly(row, dialect, always, 1)
        .or_else(|_| play_slowly(row, dialect, always, 5))
        .or_else(|_| play_slowly(row, dialect, always, 25))
}

/// Every time in milliseconds in these keys, so many times as long.
fn slowly(keys: &str, slow: u32) -> String {
    let longer = |time: &regex::Captures<'_>| format!("{}ms", time[1].parse::<u32>().unwrap_or(0) * slow);
    regex::Regex::new(r"\b(\d+)ms").expect("a pattern").replace_all(keys, longer).into_owned()
}

fn play_slowly(row: &Row, dialect: Dialect, always: bool, slow: u32) -> Result<(), String> {
    let slower = |step| match step {
        Step::Pause(pause) => Step::Pause(pause * slow),
        step => step,
    };
    let script: Vec<Step> = (row.fault)(dialect).into_iter().map(slower).collect();
    let text = row.text;
    let server = Wire::new(move |asked| match asked.nth {
        0 => script.clone(),
        _ if always => script.clone(),
        _ => dialect.answer(text),
    });
    let space = space(&server, dialect, &slowly(row.keys, slow));
    space.write("pipeline.toml", space.read("pipeline.toml") + row.task);
    let began = Instant::now();
    let out = space.run(&["build"]);
    let seen = format!(
        "exit {}, {} requests, class {}, {:?}\n{}",
        out.code,
        server.count(),
        space.lines("failures.jsonl").last().map_or("none".into(), |line| line["class"].to_string()),
        began.elapsed(),
        out.stderr
    );
    let metrics = space.lines("usage_metrics.jsonl");
    let check = |holds: bool, wanted: String| if holds { Ok(()) } else { Err(format!("{wanted}; {seen}")) };
    match (always, row.always, row.once) {
        (true, Some((class, requests)), _) => {
            check(out.code == 1, "wanted exit 1".into())?;
            check(server.count() == requests, format!("wanted {requests} requests"))?;
            let sidecar = space.sidecar("a.txt");
            check(sidecar["state"] == "failed", "wanted `failed`".into())?;
            check(sidecar["failure"]["class"] == class, format!("wanted `{class}`"))?;
            check(out.stderr.contains(class), format!("`{class}` is not told"))?;
            check(!space.exists("a.txt") && !space.is_done("a.txt"), "wanted no output".into())?;
        }
        (_, _, Some(requests)) => {
            check(out.code == 0, "wanted exit 0".into())?;
            check(server.count() == requests, format!("wanted {requests} requests"))?;
            check(same(&space.read("a.txt"), row.text), "wanted the answer".into())?;
            // An answer that does not hold is paid for like one that does.
            let wanted =
                if row.always.is_some_and(|(class, _)| class == "validation") { requests } else { 1 };
            let good = metrics.iter().filter(|line| line["success"] == true).count();
            check(good == wanted, format!("wanted {wanted} successes in usage_metrics.jsonl, found {good}"))?;
            // Built again: nothing to do, nothing asked.
            let again = space.run(&["build"]);
            check(again.code == 0 && server.count() == requests, format!("built again:\n{again}"))?;
        }
        _ => {}
    }
    // A line of usage for every request.
    check(metrics.len() == server.count(), format!("{} lines in usage_metrics.jsonl", metrics.len()))?;
    check(began.elapsed() < Duration::from_secs(20) * slow, "took too long".into())
}

/// Whether an output is the answer: as text, or as the same JSON.
fn same(output: &str, answer: &str) -> bool {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    output.trim() == answer || json(output).is_some_and(|value| Some(value) == json(answer))
}

/// A refusal by status, in the dialect's envelope.
pub fn status(status: u16, headers: &'static str, kind: &'static str, message: &'static str) -> Fault {
    Box::new(move |dialect| reply(status, headers, &dialect.error(kind, message)))
}

#[test]
fn statuses() {
    let mut rows = vec![
        row("400", Some(("bad_request", 1)), None, status(400, "", "invalid_request_error", "no such field")),
        row("401", Some(("auth", 1)), None, status(401, "", "authentication_error", "wrong key")),
        row("402", Some(("quota", 1)), None, status(402, "", "billing_error", "pay first")),
        row(
            "402 with Retry-After",
            None,
            Some(2),
            status(402, "retry-after: 0\r\n", "x", "in flight budget"),
        ),
        row("403", Some(("auth", 1)), None, status(403, "", "permission_error", "not you")),
        row("404, the path", Some(("config", 1)), None, status(404, "", "not_found", "no such path")),
        row(
            "404, the model",
            Some(("model_not_found", 1)),
            None,
            status(404, "", "x", "model `m-1` not found"),
        ),
        row("405", Some(("bad_request", 1)), None, status(405, "", "x", "no")),
        row("413", Some(("bad_request", 1)), None, status(413, "", "request_too_large", "too large")),
        row("422", Some(("bad_request", 1)), None, status(422, "", "x", "no")),
        row("429", None, Some(2), status(429, "", "rate_limit_error", "slow down")),
        row("429, Retry-After 0", None, Some(2), status(429, "retry-after: 0\r\n", "x", "slow down")),
        row("429, Retry-After 1", None, Some(2), status(429, "Retry-After: 1\r\n", "x", "slow down")),
        row("429, Retry-After 0.2", None, Some(2), status(429, "retry-after: 0.2\r\n", "x", "slow down")),
        row(
            "429, ms",
            None,
            Some(2),
            status(429, "retry-after-ms: 20\r\nretry-after: 9\r\n", "x", "slow down"),
        ),
        row("429, a date", None, Some(2), |dialect| {
            let dates =
                "date: Sat, 21 Nov 2026 08:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 08:00:01 GMT\r\n";
            reply(429, dates, &dialect.error("x", "slow down"))
        }),
        row("429, a date of the past", None, Some(2), |dialect| {
            reply(429, "retry-after: Sat, 21 Nov 2020 08:00:01 GMT\r\n", &dialect.error("x", "slow down"))
        }),
        row("429, nonsense", None, Some(2), status(429, "retry-after: soon\r\n", "x", "slow down")),
        row("429, no body", None, Some(2), |_| reply(429, "retry-after: 0\r\n", "")),
        row(
            "429, an allowance that is full again",
            None,
            Some(2),
            status(
                429,
                "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 120ms\r\nx-ratelimit-remaining-tokens: 90\r\nx-ratelimit-reset-tokens: 6m0s\r\n",
                "x",
                "slow down",
            ),
        ),
        row(
            "429, an empty purse",
            Some(("quota", 1)),
            None,
            status(429, "", "insufficient_quota", "You exceeded your current quota"),
        ),
        row(
            "403, no money",
            Some(("quota", 1)),
            None,
            status(403, "", "x", "Your credit balance is too low"),
        ),
        row("a redirect", Some(("config", 1)), None, |_| reply(307, "location: http://127.0.0.1:1/\r\n", "")),
        row("302", Some(("config", 1)), None, |_| reply(302, "location: http://127.0.0.1:1/\r\n", "")),
        row("503, loading", None, Some(2), status(503, "", "unavailable_error", "Loading model")),
        row(
            "503, queue full",
            None,
            Some(2),
            status(503, "", "x", "server busy, please try again.  maximum pending requests exceeded"),
        ),
        row(
            "400, do not try again",
            Some(("bad_request", 1)),
            None,
            status(400, "x-should-retry: false\r\n", "x", "no"),
        ),
        row(
            "400, try again",
            Some(("bad_request", 3)),
            Some(2),
            status(400, "x-should-retry: true\r\n", "x", "no"),
        ),
        row(
            "429, do not try again",
            Some(("rate_limit", 1)),
            None,
            status(429, "x-should-retry: false\r\nretry-after: 1\r\n", "x", "no"),
        ),
        row(
            "500, do not try again",
            Some(("server_error", 1)),
            None,
            status(500, "x-should-retry: false\r\n", "x", "no"),
        ),
        row("an HTML page at 502", Some(("server_error", 3)), Some(2), |_| {
            vec![send(
                "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n\r\n<html><head><title>502 Bad Gateway</title></head></html>",
            )]
        }),
    ];
    for code in [408, 409, 425, 500, 502, 503, 504, 520, 529] {
        let name = code.to_string();
        rows.push(row(name, Some(("server_error", 3)), Some(2), status(code, "", "x", "it broke")));
        let name = format!("{code}, no body");
        rows.push(row(name, Some(("server_error", 3)), Some(2), move |_| reply(code, "", "")));
    }
    check(rows);
}

#[test]
fn connections_and_clocks() {
    let first = "timeouts = { first_token = \"250ms\" }";
    let idle = "timeouts = { idle = \"250ms\" }";
    let total = "timeouts = { total = \"400ms\" }";
    let slow = "timeouts = { first_token = \"1500ms\", idle = \"1500ms\" }";
    let pause = Duration::from_millis(20);
    let rows = vec![
        row("closed without a byte", Some(("connection", 3)), Some(2), |_| vec![]),
        row("reset without a byte", Some(("connection", 3)), Some(2), |_| vec![Step::Reset]),
        row("half a head", Some(("connection", 3)), Some(2), |_| vec![send("HTTP/1.1 200 OK\r\ncontent-")]),
        row("not HTTP", Some(("connection", 3)), Some(2), |_| vec![send("SSH-2.0-OpenSSH_9\r\n\r\n")]),
        row("reset in the middle", Some(("cut", 3)), Some(2), |d| {
            vec![d.head(), send(d.opening() + &d.piece("It will")), Step::Reset]
        }),
        row("closed in the middle", Some(("cut", 3)), Some(2), |d| {
            d.stream(d.opening() + &d.piece("It will"))
        }),
        row("no terminal marker", Some(("cut", 3)), Some(2), |d| match d {
            Dialect::Openai => d.stream(d.piece("It will") + "data: [DONE]\n\n"),
            _ => d.stream(d.opening() + &d.piece("It will")),
        }),
        row("silent from the start", Some(("timeout", 2)), Some(2), |_| vec![Step::Hold]).with(first),
        row("silent after the head", Some(("timeout", 2)), Some(2), |d| vec![d.head(), Step::Hold])
            .with(first),
        row("keep-alives and no word", Some(("timeout", 2)), Some(2), move |d| {
            vec![d.head(), send(d.opening()), Step::Repeat(d.keep_alive().into(), pause)]
        })
        .with(first),
        row("pieces with nothing in them", Some(("timeout", 2)), Some(2), move |d| {
            let nothing =
                json!({ "choices": [{ "index": 0, "delta": { "content": null, "tool_calls": [] } }] });
            vec![d.head(), Step::Repeat(format!("data: {nothing}\n\n").into(), pause)]
        })
        .only(&[Dialect::Openai])
        .with(first),
        row("a prompt that is read no further", Some(("timeout", 2)), Some(2), move |d| {
            let progress = json!({ "choices": [], "prompt_progress": { "processed": 512, "total": 4096 } });
            vec![d.head(), Step::Repeat(format!("data: {progress}\n\n").into(), pause)]
        })
        .only(&[Dialect::Openai])
        .with(first),
        row("silent in the middle", Some(("timeout", 2)), Some(2), |d| {
            vec![d.head(), send(d.opening() + &d.piece("It will")), Step::Hold]
        })
        .with(idle),
        row("keep-alives in the middle", Some(("timeout", 2)), Some(2), move |d| {
            vec![d.head(), send(d.opening() + &d.piece("It")), Step::Repeat(d.keep_alive().into(), pause)]
        })
        .with(idle),
        row("words without end", Some(("timeout", 2)), Some(2), move |d| {
            let words = "one two three four five six seven eight nine ten";
            let words: String = words.split(' ').map(|word| d.piece(&format!("{word} "))).collect();
            vec![d.head(), send(d.opening()), Step::Repeat(words.into(), pause)]
        })
        .with(total),
        row("slow is not dead", None, Some(1), |d| {
            let mut steps = vec![d.head(), send(d.opening())];
            for piece in TEXT.split_inclusive(' ') {
                steps.extend([Step::Pause(Duration::from_millis(250)), send(d.piece(piece))]);
            }
            steps.push(send(d.finish("stop") + d.end()));
            steps
        })
        .with(slow),
    ];
    check(rows);
}

#[test]
fn bodies() {
    let rows = vec![
        row("one piece though a stream was asked", None, Some(1), |d| reply(200, "", &d.in_one_piece(TEXT))),
        row("a byte order mark", None, Some(1), |d| {
            d.stream("\u{feff}".to_owned() + &d.opening() + &d.piece(TEXT) + &d.finish("stop") + d.end())
        }),
        row("a byte order mark before JSON", None, Some(1), |d| {
            reply(200, "", &format!("\u{feff}{}", d.in_one_piece(TEXT)))
        }),
        row("lines that end in CR", None, Some(1), |d| {
            let body = d.opening() + &d.piece(TEXT) + &d.finish("stop") + d.end();
            d.stream(body.replace('\n', "\r"))
        }),
        row("201", None, Some(1), |d| reply(201, "", &d.in_one_piece(TEXT))),
        row("201 and an error", Some(("server_error", 3)), Some(2), |d| {
            reply(201, "", &d.error("api_error", "it broke"))
        }),
        row("a reason in capitals", None, Some(1), |d| d.ended(TEXT, "STOP")).only(&[Dialect::Openai]),
        row("another vendor's word for too long", Some(("truncated", 1)), None, |d| {
            d.ended("It will", "MAX_TOKENS")
        })
        .with("max_output = 5")
        .only(&[Dialect::Openai]),
        row("the message so far beside each piece", None, Some(1), |d| {
            let piece = |delta: &str, message: &str, finish: Option<&str>| {
                let choice = json!({ "index": 0, "finish_reason": finish, "delta": { "content": delta },
                    "message": { "role": "assistant", "content": message } });
                format!("data: {}\n\n", json!({ "choices": [choice] }))
            };
            let (start, end) = TEXT.split_at(9);
            d.stream(piece(start, start, None) + &piece(end, TEXT, None) + &piece("", TEXT, Some("stop")))
        })
        .only(&[Dialect::Openai]),
        row("two answers, not numbered", None, Some(1), |_| {
            let choice = |text: &str| json!({ "message": { "content": text }, "finish_reason": "stop" });
            reply(200, "", &json!({ "choices": [choice(TEXT), choice("Never.")] }).to_string())
        })
        .only(&[Dialect::Openai]),
        row("figures of another kind", None, Some(1), |d| {
            let last =
                d.finish("stop").replace("_count\":", "_count\":-").replace("_tokens\":", "_tokens\":-");
            d.stream(d.opening() + &d.piece(TEXT) + &last + d.end())
        }),
        row("an error that says nothing", None, Some(1), |d| {
            let body = d.opening() + &d.piece(TEXT) + &d.finish("stop") + d.end();
            let error = "{\"error\":{\"message\":\"\",\"type\":\"\",\"code\":null},";
            let with_error = |line: &str| line.replacen('{', error, 1) + "\n";
            d.stream(body.lines().map(with_error).collect::<String>())
        }),
        row("words after the end", None, Some(1), |d| {
            d.stream(d.opening() + &d.piece(TEXT) + &d.finish("stop") + d.end() + "and: more\n\n")
        })
        .only(&[Dialect::Openai, Dialect::Anthropic]),
        row("compressed though nobody asked", Some(("bad_data", 3)), Some(2), |_| {
            let bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0C\xbf\xa6\xa3\x02\0\0\0".to_vec();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n";
            vec![send(head), Step::Send(bytes)]
        }),
        row("an error event in plain words", Some(("server_error", 3)), Some(2), |d| {
            d.stream(d.opening() + "event: error\ndata: upstream went away\n\n")
        })
        .only(&[Dialect::Openai, Dialect::Anthropic]),
        row("cut JSON", Some(("cut", 3)), Some(2), |d| {
            let body = d.in_one_piece(TEXT);
            reply(200, "", &body[..body.len() / 2])
        }),
        row("broken JSON", Some(("bad_data", 3)), Some(2), |_| reply(200, "", "{\"choices\": oops}")),
        row("a length too long", Some(("cut", 3)), Some(2), |d| {
            // Ollama's last line is its terminal marker: what comes or does not come after it is nothing.
            let finish = if d == Dialect::Ollama { String::new() } else { d.finish("stop") };
            d.stream_of_length(100_000, &(d.opening() + &d.piece("It will") + &finish))
        }),
        row("a length too short", Some(("cut", 3)), Some(2), |d| {
            let body = d.opening() + &d.piece("It will") + &d.finish("stop") + d.end();
            let kept = (d.opening() + &d.piece("It will")).len() + 9;
            d.stream_of_length(kept, &body)
        }),
        row("the type of a web page", Some(("bad_data", 3)), Some(2), |_| {
            let page = "<!doctype html><html><head><title>Sign in</title></head></html>";
            vec![send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n{page}"))]
        }),
        row("plain text", Some(("bad_data", 3)), Some(2), |_| {
            vec![send("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nHello!")]
        }),
        row("the wrong type, and a good stream", None, Some(1), |d| {
            let body = d.opening() + &d.piece(TEXT) + &d.finish("stop") + d.end();
            vec![send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{body}"))]
        }),
        row("nothing", Some(("empty_response", 2)), Some(2), |_| reply(200, "", "")),
        row("204", Some(("server_error", 3)), Some(2), |_| vec![send("HTTP/1.1 204 No Content\r\n\r\n")]),
        row("an empty answer", Some(("empty_response", 2)), Some(2), |d| d.ended("", "stop")),
        row("blanks", Some(("empty_response", 2)), Some(2), |d| d.ended(" \n ", "stop")),
        row("reasoning and no answer", Some(("empty_response", 2)), Some(2), |d| {
            d.stream(d.opening() + &d.thought("Let me think.") + &d.finish("stop") + d.end())
        }),
        row("an answer after reasoning", None, Some(1), |d| {
            d.stream(d.opening() + &d.thought("Let me think.") + &d.piece(TEXT) + &d.finish("stop") + d.end())
        }),
        row("reasoning in tags", None, Some(1), |d| {
            d.ended(&format!("<think>Hm.</think>\n\n{TEXT}"), "stop")
        }),
        row("a flood of white space", Some(("degenerate", 2)), Some(2), |d| {
            let blanks = d.piece(&" \n\t".repeat(40));
            vec![d.head(), send(d.opening() + &d.piece("{")), Step::Repeat(blanks.into(), Duration::ZERO)]
        }),
        row("one line again and again", Some(("degenerate", 2)), Some(2), |d| {
            let line = d.piece("The river rises, the bridge does not.\n");
            vec![d.head(), send(d.opening()), Step::Repeat(line.into(), Duration::ZERO)]
        }),
        row("one line without end", Some(("bad_data", 3)), Some(2), |d| {
            let start = if d == Dialect::Ollama { "{\"a\":\"" } else { "data: {\"a\":\"" };
            vec![d.head(), send(start), Step::Repeat(vec![b'x'; 1 << 20], Duration::ZERO)]
        }),
        row("bad UTF-8", Some(("bad_data", 3)), Some(2), |d| {
            let piece = d.piece("It \u{1}will").into_bytes();
            let bad: Vec<u8> = String::from_utf8_lossy(&piece).replace("\\u0001", "\u{fffe}").into_bytes();
            let at = bad.windows(3).position(|three| three == "\u{fffe}".as_bytes()).expect("the mark");
            let mut bytes = d.opening().into_bytes();
            bytes.extend(&bad[..at]);
            bytes.extend([0xff, 0xfe]);
            bytes.extend(&bad[at + 3..]);
            d.stream(bytes)
        }),
        row("NUL", Some(("bad_data", 3)), Some(2), |d| d.ended("It \0 will", "stop")),
        row("an error in a 200", Some(("server_error", 3)), Some(2), |d| {
            reply(200, "", &d.error("api_error", "it broke"))
        }),
        row("an error in the stream", Some(("server_error", 3)), Some(2), |d| {
            d.stream(d.opening() + &d.piece("It will") + &d.error_in_stream("overloaded_error", "Overloaded"))
        }),
        row("an overflow in the stream", Some(("context_overflow", 1)), None, |d| {
            let words = "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens";
            d.stream(d.opening() + &d.error_in_stream("x", words))
        }),
        row("length", Some(("truncated", 3)), Some(2), |d| d.ended("It will hold, if", "length")),
        row("length, and no room for more", Some(("truncated", 1)), None, |d| d.ended("It will", "length"))
            .with("max_output = 5"),
        row("a refusal", Some(("refusal", 1)), None, |d| d.ended("I cannot", "refusal"))
            .only(&[Dialect::Openai, Dialect::Anthropic]),
    ];
    check(rows);
}
