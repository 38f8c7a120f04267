//! Every dialect against a scripted server on loopback that plays bytes as real servers send them.
//!
//! A line of a table is a script and what must come of it. The server lives as long as its scripts; where a
//! script waits, it waits for the client to hang up, never for a time to pass.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::cancel::Level;

/// What the server does on one connection, in order. It reads the request first, unless told not to.
#[derive(Clone)]
enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again, with a pause, until the client hangs up.
    Repeat(&'static str, Duration),
    /// Sends nothing until the client hangs up.
    Hold,
    /// Pauses.
    Pause(Duration),
    /// Closes with the request unread, so that the client gets a reset.
    Reset,
}

/// Longest life of a script: reached only if a test fails.
const LIFE: Duration = Duration::from_secs(20);

fn play(stream: &mut TcpStream, steps: &[Step]) -> Vec<u8> {
    stream.set_read_timeout(Some(LIFE)).unwrap();
    stream.set_write_timeout(Some(LIFE)).unwrap();
    if matches!(steps.first(), Some(Step::Reset)) {
        // Something must be there unread.
        let _ = stream.peek(&mut [0]);
        return Vec::new();
    }
    let request = read_request(stream);
    for step in steps {
        let sent = match step {
            Step::Send(bytes) => stream.write_all(bytes),
            Step::Repeat(text, pause) => {
                let until = Instant::now() + LIFE;
                while Instant::now() < until && stream.write_all(text.as_bytes()).is_ok() {
                    std::thread::sleep(*pause);
                }
                return request;
            }
            Step::Hold => {
                let _ = stream.read(&mut [0]);
                return request;
            }
            Step::Pause(pause) => {
                std::thread::sleep(*pause);
                Ok(())
            }
            Step::Reset => Ok(()),
        };
        if sent.is_err() {
            break;
        }
    }
    request
}

fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = request.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= head + 4 + length {
                return request;
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return request,
        }
    }
}

/// A server that plays one script per connection, in order, and gives the requests it read.
fn serve(scripts: Vec<Vec<Step>>) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let plays: Vec<_> = scripts
            .into_iter()
            .map(|script| {
                let (mut stream, _) = listener.accept().unwrap();
                std::thread::spawn(move || play(&mut stream, &script))
            })
            .collect();
        plays.into_iter().map(|play| String::from_utf8(play.join().unwrap()).unwrap()).collect()
    });
    (port, server)
}

fn send(text: impl Into<Vec<u8>>) -> Step {
    Step::Send(text.into())
}

/// A whole JSON response.
fn json_of(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![send(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))]
}

/// A response of this type, ended by closing.
fn closed(kind: &str, body: &str) -> Vec<Step> {
    vec![send(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}"))]
}

/// Events, ended by closing.
fn events(body: &str) -> Vec<Step> {
    closed("text/event-stream", body)
}

/// Events in chunks of 7 bytes; without the last chunk the end is a broken one.
fn chunked(body: &[u8], whole: bool) -> Vec<Step> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(7) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    if whole {
        bytes.extend(b"0\r\n\r\n");
    }
    vec![Step::Send(bytes)]
}

/// One chunk of the openai dialect.
fn delta(content: &str) -> String {
    let chunk = json!({ "id": "c1", "object": "chat.completion.chunk", "model": "m-1",
        "choices": [{ "index": 0, "delta": { "content": content }, "finish_reason": null }] });
    format!("data: {chunk}\n\n")
}

fn finish(reason: &str) -> String {
    let chunk = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] });
    format!("data: {chunk}\n\n")
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16,\"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What must come of a call.
enum Wanted {
    Text(&'static str),
    /// Class, words of the message, partial.
    Error(Class, &'static str, &'static str),
}

use Wanted::{Error, Text};

struct Row {
    name: &'static str,
    table: &'static str,
    script: Vec<Step>,
    wanted: Wanted,
}

fn row(name: &'static str, table: &'static str, script: Vec<Step>, wanted: Wanted) -> Row {
    Row { name, table, script, wanted }
}

fn request() -> Request {
    Request {
        task: "swot analysis".into(),
        key: None,
        system: "Be brief.".into(),
        prompt: "What of it?".into(),
        rejected: Vec::new(),
        schema: None,
        params: Map::new(),
        params_extra: Map::new(),
        check: None,
    }
}

fn provider_of(table: &str, port: u16) -> Box<dyn Provider> {
    let mut model: Model = toml::from_str(table).unwrap();
    let path = if model.api == Some(Api::Openai) { "/v1" } else { "" };
    model.base_url.get_or_insert(format!("http://127.0.0.1:{port}{path}"));
    model.model.get_or_insert("m".into());
    let keys = KeyRing::without_files(|name| (name == "SOME_KEY").then(|| "sk-very-secret".to_owned()));
    let setup = Setup {
        name: "m",
        folder: Path::new("."),
        keys: &keys,
        hidden_env: &[],
        lifeline: &Lifeline::new(None),
        calibration: None,
    };
    provider(&model, &setup).unwrap()
}

fn call(provider: &dyn Provider, request: &Request) -> Result<Reply, CallError> {
    let context = CallContext { cancel: &Cancel::new(), progress: &CallProgress::default(), time_left: None };
    loop {
        match provider.call(request, &context) {
            Err(error) if error.adapted => {}
            result => return result,
        }
    }
}

/// Plays all rows at once.
fn check(rows: Vec<Row>) {
    std::thread::scope(|scope| {
        for row in rows {
            scope.spawn(move || {
                let began = Instant::now();
                let (port, server) = serve(vec![row.script]);
                let got = call(&*provider_of(row.table, port), &request());
                server.join().unwrap();
                assert!(began.elapsed() < LIFE, "{}: took {:?}", row.name, began.elapsed());
                match (got, row.wanted) {
                    (Ok(reply), Text(text)) => assert_eq!(reply.text, text, "{}", row.name),
                    (Err(error), Error(class, words, partial)) => {
                        assert_eq!(error.class, class, "{}: {error}", row.name);
                        assert!(error.message.contains(words), "{}: {}", row.name, error.message);
                        assert!(error.message.chars().count() <= 500, "{}", row.name);
                        assert_eq!(error.partial, partial, "{}", row.name);
                    }
                    (got, _) => panic!("{}: {got:?}", row.name),
                }
            });
        }
    });
}

const OPENAI: &str = "api = \"openai\"";
const LLAMA: &str = "api = \"openai\"\nserver = \"llama.cpp\"";

#[test]
fn openai_answers() {
    let ok = || delta("Hel") + &delta("lo") + &finish("stop");
    let whole = r#"{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":5}}"#;
    #[rustfmt::skip]
    let rows = vec![
        row("streamed", OPENAI, events(&(ok() + USAGE + DONE)), Text("Hello")),
        row("in chunks", OPENAI, chunked((ok() + USAGE + DONE).as_bytes(), true), Text("Hello")),
        row("no [DONE], a clean end", OPENAI, events(&ok()), Text("Hello")),
        row("no [DONE], chunked, a clean end", OPENAI, chunked(ok().as_bytes(), true), Text("Hello")),
        row("CRLF and comments", OPENAI, events(&format!(": hi\r\n\r\n{}", ok().replace('\n', "\r\n"))), Text("Hello")),
        row("data without a space", OPENAI, events(&ok().replace("data: ", "data:")), Text("Hello")),
        row("no empty lines between", OPENAI, events(&ok().replace("\n\n", "\n")), Text("Hello")),
        row("no content type", OPENAI, vec![send(format!("HTTP/1.1 200 OK\r\n\r\n{}", ok()))], Text("Hello")),
        row("events called JSON", OPENAI, closed("application/json", &ok()), Text("Hello")),
        row("stream ignored", OPENAI, json_of(200, "", whole), Text("Hello")),
        row(
            "content in parts",
            OPENAI,
            events(&(r#"data: {"choices":[{"delta":{"content":[{"type":"text","text":"Hello"}]},"finish_reason":"stop"}]}"#.to_owned() + "\n\n")),
            Text("Hello"),
        ),
        row(
            "null everywhere, another choice, unknown members",
            OPENAI,
            events(&(r#"data: {"id":null,"model":null,"usage":null,"error":null,"x":{},"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":null},"finish_reason":null},{"index":1,"delta":{"content":"no"}}]}"#.to_owned() + "\n\n" + &ok())),
            Text("Hello"),
        ),
        row("thought in tags", OPENAI, events(&(delta("<think>hm") + &delta("</think>\n\nHello") + &finish("stop"))), Text("Hello")),
        row(
            "openrouter's comments",
            OPENAI,
            events(&format!(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n{}{USAGE}{DONE}", ok())),
            Text("Hello"),
        ),
        row(
            "llama.cpp, blanks in JSON and huge numbers",
            LLAMA,
            events(&(delta("{ \"x\" :1616123616161611}") + &finish("stop") + DONE)),
            Text("{ \"x\" :1616123616161611}"),
        ),
        row(
            "drops, slow but alive",
            "api = \"openai\"\ntimeouts = { idle = \"1s\" }",
            vec![
                send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
                send(delta("Hel")),
                Step::Pause(Duration::from_millis(300)),
                send(&delta("lo").as_bytes()[..9]),
                Step::Pause(Duration::from_millis(300)),
                send(&delta("lo").as_bytes()[9..]),
                Step::Pause(Duration::from_millis(300)),
                send(delta(" all")),
                Step::Pause(Duration::from_millis(300)),
                send(finish("stop")),
            ],
            Text("Hello all"),
        ),
    ];
    check(rows);
}

#[test]
fn openai_answers_that_are_none() {
    let flood = " \n".repeat(2000);
    let first = "api = \"openai\"\ntimeouts = { first_token = \"300ms\" }";
    let idle = "api = \"openai\"\ntimeouts = { idle = \"300ms\" }";
    let head = || send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let reasoning = |text: &str| {
        format!("data: {}\n\n", json!({ "choices": [{ "delta": { "reasoning_content": text } }] }))
    };
    #[rustfmt::skip]
    let rows = vec![
        row("cut, closed", OPENAI, events(&delta("Hel")), Error(Class::Cut, "finish reason", "Hel")),
        row("cut, broken chunk", OPENAI, chunked(delta("Hel").as_bytes(), false), Error(Class::Cut, "broke", "Hel")),
        row(
            "a finish reason and then a broken end",
            OPENAI,
            chunked((delta("Hel") + &finish("stop")).as_bytes(), false),
            Error(Class::Cut, "broke", "Hel"),
        ),
        row("[DONE] without a finish reason", OPENAI, events(&(delta("Hel") + DONE)), Error(Class::Cut, "finish reason", "Hel")),
        row("one empty chunk, then the end", OPENAI, events(&delta("")), Error(Class::Cut, "without an answer", "")),
        row("length", OPENAI, events(&(delta("{\"a\":") + &finish("length") + USAGE + DONE)), Error(Class::Truncated, "after 5 tokens", "{\"a\":")),
        row(
            "length, all reasoning",
            OPENAI,
            events(&(reasoning("hm") + &finish("length"))),
            Error(Class::Truncated, "spent on reasoning", ""),
        ),
        row("filtered", OPENAI, events(&(delta("He") + &finish("content_filter"))), Error(Class::Refusal, "declined", "He")),
        row(
            "refused",
            OPENAI,
            events(&(r#"data: {"choices":[{"delta":{"refusal":"I cannot."},"finish_reason":"stop"}]}"#.to_owned() + "\n\n")),
            Error(Class::Refusal, "I cannot.", ""),
        ),
        row("a tool", OPENAI, events(&finish("tool_calls")), Error(Class::EmptyResponse, "tool", "")),
        row("an unknown finish", OPENAI, events(&(delta("He") + &finish("abort"))), Error(Class::Cut, "abort", "He")),
        row("no content", OPENAI, events(&(finish("stop") + DONE)), Error(Class::EmptyResponse, "empty", "")),
        row("only blanks", OPENAI, events(&(delta(" \n") + &finish("stop"))), Error(Class::EmptyResponse, "empty", " \n")),
        row("only reasoning", OPENAI, events(&(reasoning("hm") + &finish("stop"))), Error(Class::EmptyResponse, "reasoning", "")),
        row("nothing", OPENAI, events(""), Error(Class::EmptyResponse, "nothing else", "")),
        row("nothing, of length 0", OPENAI, json_of(200, "", ""), Error(Class::EmptyResponse, "nothing else", "")),
        row("JSON cut short", OPENAI, json_of(200, "", r#"{"choices":[{"message":{"content":"He"#), Error(Class::Cut, "middle", "")),
        row("JSON broken", OPENAI, json_of(200, "", r#"{"choices":[{"message":}]}"#), Error(Class::BadData, "not the JSON", "")),
        row("an event broken", OPENAI, events(&(delta("He") + "data: {\"choices\" 5}\n\n")), Error(Class::BadData, "not the JSON", "He")),
        row(
            "a length that is too long",
            OPENAI,
            vec![send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"choices\":[]")],
            Error(Class::Cut, "broke", ""),
        ),
        row(
            "a length that is too short",
            OPENAI,
            vec![send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 150\r\n\r\n{}{}", delta("Hello"), finish("stop")))],
            Error(Class::Cut, "middle", "Hello"),
        ),
        row("a web page", OPENAI, closed("text/html", "<html><title>Sign in</title></html>"), Error(Class::BadData, "Sign in", "")),
        row("plain text", OPENAI, closed("text/plain", "what?"), Error(Class::BadData, "text/plain", "")),
        row(
            "bad UTF-8",
            OPENAI,
            vec![head(), send(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"},\"finish_reason\":\"stop\"}]}\n\n".to_vec())],
            Error(Class::BadData, "UTF-8", ""),
        ),
        row("half a surrogate pair", OPENAI, events(&format!("{}data: {}\n\n", delta("a"), r#"{"choices":[{"delta":{"content":"\ud800"}}]}"#)), Error(Class::BadData, "not the JSON", "a")),
        row("NUL", OPENAI, events(&(delta("a\0b") + &finish("stop"))), Error(Class::BadData, "NUL", "a\0b")),
        row("white space flood", OPENAI, events(&(delta("{") + &delta(&flood))), Error(Class::Degenerate, "white space", Box::leak(format!("{{{flood}").into_boxed_str()))),
        row("endless line", OPENAI, vec![head(), send("data: "), Step::Repeat(Box::leak("x".repeat(1 << 20).into_boxed_str()), Duration::ZERO)], Error(Class::BadData, "larger than 8 MiB", "")),
        row("endless comments", OPENAI, vec![head(), Step::Repeat(Box::leak(": x\n\n".repeat(1 << 18).into_boxed_str()), Duration::ZERO)], Error(Class::BadData, "larger than 16 MiB", "")),
        row("an error event", OPENAI, events(&(delta("He") + "event: error\ndata: {\"error\":{\"message\":\"Trying to keep the first 9000 tokens when context the overflows.\"}}\n\n")), Error(Class::ContextOverflow, "Trying", "He")),
        row("an error in a 200", OPENAI, json_of(200, "", r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow down"}}}"#), Error(Class::RateLimit, "slow down", "")),
        row("an error in the stream", OPENAI, events(&(delta("He") + "data: {\"error\":{\"code\":\"502\",\"message\":\"Provider disconnected\"}}\n\n" + DONE)), Error(Class::ServerError, "disconnected", "He")),
        row("an error that is a string", OPENAI, events("data: {\"error\":\"Context size has been exceeded.\"}\n\n"), Error(Class::ContextOverflow, "Context size", "")),
        row("an old vLLM's error", OPENAI, events("data: {\"object\":\"error\",\"message\":\"This model's maximum context length is 4096\",\"code\":400}\n\n"), Error(Class::ContextOverflow, "maximum context", "")),
        row("finish reason error", OPENAI, events(&(delta("He") + "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\",\"error\":{\"code\":503,\"message\":\"overloaded\"}}]}\n\n")), Error(Class::ServerError, "overloaded", "He")),
        row("a reset", OPENAI, vec![Step::Reset], Error(Class::Connection, "closed the connection", "")),
        row("closed without a byte", OPENAI, vec![], Error(Class::Connection, "closed the connection", "")),
        row("half a head", OPENAI, vec![send("HTTP/1.1 200 OK\r\ncontent-ty")], Error(Class::Connection, "closed the connection", "")),
        row("not HTTP", OPENAI, vec![send("SSH-2.0-OpenSSH_9\r\n\r\n")], Error(Class::Connection, "HTTP", "")),
        row("a head without end", OPENAI, vec![send(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000)))], Error(Class::BadData, "headers", "")),
        row("silent from the start", first, vec![Step::Hold], Error(Class::Timeout, "first_token", "")),
        row("silent after the head", first, vec![head(), Step::Hold], Error(Class::Timeout, "first_token", "")),
        row("keep-alives, no content", first, vec![head(), Step::Repeat(":\n\n", Duration::from_millis(20))], Error(Class::Timeout, "first_token", "")),
        row("an empty role chunk, no content", first, vec![head(), send(delta("")), Step::Hold], Error(Class::Timeout, "first_token", "")),
        row("silent after content", idle, vec![head(), send(delta("He")), Step::Hold], Error(Class::Timeout, "idle", "He")),
        row("keep-alives after content", idle, vec![head(), send(delta("He")), Step::Repeat(": ping\n\n", Duration::from_millis(20))], Error(Class::Timeout, "idle", "He")),
    ];
    check(rows);
}

#[test]
fn refusals_by_status() {
    let error = |message: &str| format!(r#"{{"error":{{"message":"{message}","type":"x","code":null}}}}"#);
    let mut rows = Vec::new();
    for (name, status, class) in [
        ("400", 400, Class::BadRequest),
        ("401", 401, Class::Auth),
        ("402", 402, Class::Quota),
        ("403", 403, Class::Auth),
        ("404", 404, Class::Config),
        ("405", 405, Class::BadRequest),
        ("408", 408, Class::ServerError),
        ("409", 409, Class::ServerError),
        ("413", 413, Class::BadRequest),
        ("422", 422, Class::BadRequest),
        ("429", 429, Class::RateLimit),
        ("499", 499, Class::ServerError),
        ("500", 500, Class::ServerError),
        ("502", 502, Class::ServerError),
        ("503", 503, Class::ServerError),
        ("529", 529, Class::ServerError),
    ] {
        for table in [OPENAI, "api = \"anthropic\"", "api = \"ollama\""] {
            rows.push(row(
                name,
                table,
                json_of(status, "", &error("no such luck")),
                Error(class, "no such luck", ""),
            ));
            rows.push(row(name, table, json_of(status, "", ""), Error(class, "HTTP", "")));
        }
    }
    rows.push(row(
        "redirect",
        OPENAI,
        json_of(307, "location: http://elsewhere/v1\r\n", ""),
        Error(Class::Config, "http://elsewhere/v1", ""),
    ));
    rows.push(row(
        "302",
        OPENAI,
        json_of(302, "location: http://elsewhere/\r\n", ""),
        Error(Class::Config, "redirect", ""),
    ));
    rows.push(row(
        "loading",
        LLAMA,
        json_of(503, "", r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#),
        Error(Class::ServerLoading, "Loading", ""),
    ));
    rows.push(row(
        "llama.cpp overflow",
        LLAMA,
        json_of(400, "", r#"{"error":{"code":400,"message":"request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9412,"n_ctx":8192}}"#),
        Error(Class::ContextOverflow, "a context of 8192", ""),
    ));
    rows.push(row("a gateway's page", OPENAI, vec![send("HTTP/1.1 502 Bad\r\ncontent-type: text/html\r\n\r\n<html><head><title>502 Bad Gateway</title></head>")], Error(Class::ServerError, "502 Bad Gateway", "")));
    check(rows);
}

#[test]
fn waits_asked_for_are_kept() {
    for (headers, body, wanted) in [
        ("", "", None),
        ("retry-after: 7\r\n", "", Some(7.0)),
        ("retry-after-ms: 1500\r\nretry-after: 2\r\n", "", Some(1.5)),
        (
            "date: Sat, 21 Nov 2026 08:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 08:01:00 GMT\r\n",
            "",
            Some(60.0),
        ),
        ("x-ratelimit-reset-tokens: 6m0s\r\nx-ratelimit-remaining-tokens: 0\r\n", "", Some(360.0)),
        ("", r#"{"error":{"message":"x","metadata":{"retry_after":3}}}"#, Some(3.0)),
    ] {
        let (port, server) = serve(vec![json_of(429, headers, body)]);
        let error = call(&*provider_of(OPENAI, port), &request()).unwrap_err();
        server.join().unwrap();
        assert_eq!(error.retry_after.map(|wait| wait.as_secs_f64()), wanted, "{headers}{body}");
    }
}

#[test]
fn anthropic_answers() {
    const TABLE: &str = "api = \"anthropic\"";
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",\"usage\":{\"input_tokens\":7,\"cache_read_input_tokens\":3,\"cache_creation_input_tokens\":1,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";
    let block = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let text = |text: &str| {
        format!(
            "event: content_block_delta\ndata: {}\n\n",
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })
        )
    };
    let stop = |reason: &str| {
        format!(
            "event: message_delta\ndata: {}\n\n",
            json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 9 } })
        )
    };
    let end = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let ok = |reason: &str| format!("{start}{block}{}{}{}{end}", text("Hel"), text("lo"), stop(reason));
    let whole = |reason: &str| {
        format!(
            r#"{{"id":"m","type":"message","model":"c","content":[{{"type":"thinking","thinking":"hm"}},{{"type":"text","text":"Hello"}}],"stop_reason":"{reason}","usage":{{"input_tokens":7,"output_tokens":9}}}}"#
        )
    };
    #[rustfmt::skip]
    let rows = vec![
        row("streamed", TABLE, events(&ok("end_turn")), Text("Hello")),
        row("stream ignored", TABLE, json_of(200, "", &whole("end_turn")), Text("Hello")),
        row(
            "cut",
            TABLE,
            events(&format!("{start}{block}{}", text("Hel"))),
            Error(Class::Cut, "message_stop", "Hel"),
        ),
        row(
            "no message_stop",
            TABLE,
            events(&format!("{start}{}{}", text("Hel"), stop("end_turn"))),
            Error(Class::Cut, "message_stop", "Hel"),
        ),
        row(
            "no stop reason",
            TABLE,
            events(&format!("{start}{}{end}", text("Hel"))),
            Error(Class::Cut, "stop reason", "Hel"),
        ),
        row("length", TABLE, events(&ok("max_tokens")), Error(Class::Truncated, "after 9 tokens", "Hello")),
        row(
            "length, in one piece",
            TABLE,
            json_of(200, "", &whole("max_tokens")),
            Error(Class::Truncated, "9 tokens", "Hello"),
        ),
        row(
            "context full",
            TABLE,
            events(&ok("model_context_window_exceeded")),
            Error(Class::ContextOverflow, "context", "Hello"),
        ),
        row("refusal", TABLE, events(&ok("refusal")), Error(Class::Refusal, "declined", "Hello")),
        row("pause", TABLE, events(&ok("pause_turn")), Error(Class::Cut, "pause_turn", "Hello")),
        row(
            "tool",
            TABLE,
            events(&format!("{start}{}{end}", stop("tool_use"))),
            Error(Class::EmptyResponse, "tool", ""),
        ),
        row(
            "empty",
            TABLE,
            events(&format!("{start}{block}{}{end}", stop("end_turn"))),
            Error(Class::EmptyResponse, "empty", ""),
        ),
        row(
            "overloaded on the way",
            TABLE,
            events(&format!(
                "{start}{block}{}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n",
                text("Hel")
            )),
            Error(Class::ServerError, "Overloaded", "Hel"),
        ),
        row(
            "llama.cpp's overflow, not in the envelope",
            TABLE,
            json_of(
                400,
                "",
                r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens)","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            ),
            Error(Class::ContextOverflow, "exceeds", ""),
        ),
        row(
            "too long",
            TABLE,
            json_of(
                400,
                "",
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            ),
            Error(Class::ContextOverflow, "210000", ""),
        ),
        row(
            "pings alone are no content",
            "api = \"anthropic\"\ntimeouts = { first_token = \"300ms\" }",
            vec![
                send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
                send(start),
                Step::Repeat("event: ping\ndata: {\"type\":\"ping\"}\n\n", Duration::from_millis(20)),
            ],
            Error(Class::Timeout, "first_token", ""),
        ),
    ];
    check(rows);
    let (port, server) = serve(vec![events(&ok("end_turn"))]);
    let reply =
        call(&*provider_of("api = \"anthropic\"\nprice = { input = 1.0, output = 10.0 }", port), &request())
            .unwrap();
    server.join().unwrap();
    let usage = reply.usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.calls), (11, 3, 9, 1));
    assert!((usage.cost_usd - 101e-6).abs() < 1e-12, "{}", usage.cost_usd);
    assert_eq!((reply.id.as_deref(), reply.model.as_deref()), (Some("msg_1"), Some("claude-x")));
}

#[test]
fn ollama_answers() {
    const TABLE: &str = "api = \"ollama\"";
    let line = |text: &str| {
        format!(
            "{}\n",
            json!({ "model": "q", "message": { "role": "assistant", "content": text }, "done": false })
        )
    };
    let done = |reason: Value| {
        format!(
            "{}\n",
            json!({ "model": "q", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": reason, "prompt_eval_count": 12, "eval_count": 4 })
        )
    };
    let lines = |body: &str| closed("application/x-ndjson", body);
    let equal = line("no").repeat(31);
    #[rustfmt::skip]
    let rows = vec![
        row("streamed", TABLE, lines(&(line("Hel") + &line("lo") + &done(json!("stop")))), Text("Hello")),
        row("without a reason", TABLE, lines(&(line("Hello") + &done(json!(null)))), Text("Hello")),
        row(
            "in one piece",
            TABLE,
            json_of(200, "", r#"{"message":{"content":"Hello"},"done":true,"done_reason":"stop"}"#),
            Text("Hello"),
        ),
        row("cut", TABLE, lines(&line("Hel")), Error(Class::Cut, "done: true", "Hel")),
        row(
            "length",
            TABLE,
            lines(&(line("Hel") + &done(json!("length")))),
            Error(Class::Truncated, "after 4 tokens", "Hel"),
        ),
        row("empty", TABLE, lines(&done(json!("stop"))), Error(Class::EmptyResponse, "empty", "")),
        row("loaded only", TABLE, lines(&done(json!("load"))), Error(Class::EmptyResponse, "empty", "")),
        row(
            "an error line",
            TABLE,
            lines(&(line("Hel") + "{\"error\":\"model runner has unexpectedly stopped\"}\n")),
            Error(Class::ServerError, "unexpectedly", "Hel"),
        ),
        row(
            "31 equal tokens and no end",
            TABLE,
            lines(&equal),
            Error(Class::Degenerate, "31 equal", Box::leak("no".repeat(31).into_boxed_str())),
        ),
        row(
            "unknown model",
            TABLE,
            json_of(404, "", r#"{"error":"model \"m\" not found, try pulling it first"}"#),
            Error(Class::ModelNotFound, "pulling", ""),
        ),
        row(
            "queue full",
            TABLE,
            json_of(
                503,
                "",
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            ),
            Error(Class::RateLimit, "busy", ""),
        ),
        row(
            "runner away",
            TABLE,
            json_of(400, "", r#"{"error":"dial tcp 127.0.0.1:41641: connect: connection refused"}"#),
            Error(Class::ServerLoading, "dial tcp", ""),
        ),
        row(
            "overflow",
            TABLE,
            json_of(
                400,
                "",
                r#"{"error":"the prompt is longer than the context length currently available to the model"}"#,
            ),
            Error(Class::ContextOverflow, "longer", ""),
        ),
        row("events", TABLE, events(&(delta("Hel") + DONE)), Error(Class::BadData, "openai", "")),
    ];
    check(rows);
}

/// The JSON body of a request, and its head in lower case.
fn parts(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
}

fn asked(table: &str, request: &Request, answer: Vec<Step>) -> (String, Value) {
    let (port, server) = serve(vec![answer]);
    call(&*provider_of(table, port), request).unwrap();
    parts(&server.join().unwrap()[0])
}

#[test]
fn requests_are_as_each_server_wants_them() {
    let mut full = request();
    full.schema =
        Some(json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 1 } } }));
    full.params.insert("max_tokens".into(), json!(100));
    full.params.insert("temperature".into(), json!(0.2));
    full.params.insert("stop".into(), json!("END"));
    full.params_extra.insert("top_k".into(), json!(5));
    full.rejected.push(Rejected { answer: "{}".into(), feedback: "`a` is missing".into() });
    full.rejected.push(Rejected { answer: " ".into(), feedback: "that was empty".into() });
    let ok = || events(&(delta("{\"a\":1}") + &finish("stop")));
    let turns = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "What of it?" },
        { "role": "assistant", "content": "{}" },
        { "role": "user", "content": "`a` is missing\n\nthat was empty" },
    ]);

    let (head, body) = asked(
        "api = \"openai\"\nserver = \"openai\"\napi_key_env = \"SOME_KEY\"\nheaders = { X-Team = \"plans\" }",
        &full,
        ok(),
    );
    assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
    for wanted in [
        "authorization: bearer sk-very-secret",
        "x-team: plans",
        "content-type: application/json",
        "user-agent: planexe/",
    ] {
        assert!(head.contains(wanted), "{wanted} in {head}");
    }
    assert!(!head.contains("transfer-encoding") && !head.contains("gzip"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "m", "messages": turns, "max_completion_tokens": 100, "temperature": 0.2, "stop": "END",
            "response_format": { "type": "json_schema", "json_schema": { "name": "swot_analysis", "schema": {
                "type": "object",
                "properties": { "a": { "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "null" }] } },
                "additionalProperties": false, "required": ["a"]
            }, "strict": true } },
            "stream": true, "stream_options": { "include_usage": true }, "top_k": 5
        })
    );

    let (_, body) = asked(LLAMA, &full, ok());
    assert_eq!(body["max_tokens"], 100);
    assert_eq!(body["return_progress"], true);
    assert_eq!(body["response_format"]["json_schema"]["schema"], *full.schema.as_ref().unwrap());
    assert!(asked(OPENAI, &full, ok()).1.get("return_progress").is_none());

    let message =
        r#"{"type":"message","content":[{"type":"text","text":"{\"a\":1}"}],"stop_reason":"end_turn"}"#;
    let (head, body) =
        asked("api = \"anthropic\"\napi_key_env = \"SOME_KEY\"", &full, json_of(200, "", message));
    assert!(head.starts_with("post /v1/messages http/1.1\r\n"), "{head}");
    assert!(
        head.contains("x-api-key: sk-very-secret") && head.contains("anthropic-version: 2023-06-01"),
        "{head}"
    );
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "m", "max_tokens": 100, "system": "Be brief.", "messages": turns.as_array().unwrap()[1..],
            "temperature": 0.2, "stop_sequences": ["END"],
            "output_config": { "format": { "type": "json_schema", "schema": {
                "type": "object",
                "properties": { "a": { "type": "integer", "description": "{minimum: 1}" } },
                "additionalProperties": false
            } } },
            "stream": true, "top_k": 5
        })
    );

    let (head, body) = asked(
        "api = \"ollama\"\ncontext_window = 8192",
        &full,
        json_of(200, "", r#"{"message":{"content":"{\"a\":1}"},"done":true,"done_reason":"stop"}"#),
    );
    assert!(head.starts_with("post /api/chat http/1.1\r\n"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "m", "messages": turns, "stream": true, "truncate": false, "shift": false,
            "format": full.schema, "top_k": 5,
            "options": { "num_ctx": 8192, "num_predict": 100, "temperature": 0.2, "stop": "END" }
        })
    );
}

#[test]
fn a_refused_schema_is_asked_for_in_words_once_and_for_good() {
    let mut with_schema = request();
    with_schema.schema = Some(json!({ "type": "object" }));
    let refused = r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#;
    let ok = || events(&(delta("{}") + &finish("stop")));
    let (port, server) = serve(vec![json_of(400, "", refused), ok(), ok()]);
    let provider = provider_of(OPENAI, port);
    assert_eq!(call(&*provider, &with_schema).unwrap().text, "{}");
    assert_eq!(call(&*provider, &with_schema).unwrap().text, "{}");
    let requests: Vec<Value> = server.join().unwrap().iter().map(|request| parts(request).1).collect();
    assert!(requests[0].get("response_format").is_some());
    for later in &requests[1..] {
        assert!(later.get("response_format").is_none());
        assert!(later["messages"][1]["content"].as_str().unwrap().contains("JSON Schema"));
    }

    let (port, server) = serve(vec![json_of(400, "", refused), json_of(400, "", refused)]);
    let error = call(&*provider_of(OPENAI, port), &with_schema).unwrap_err();
    assert_eq!(error.class, Class::BadRequest);
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn max_tokens_is_renamed_when_the_server_says_so() {
    let mut limited = request();
    limited.params.insert("max_tokens".into(), json!(7));
    let refused = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","code":"unsupported_parameter"}}"#;
    let (port, server) = serve(vec![json_of(400, "", refused), events(&(delta("yes") + &finish("stop")))]);
    assert_eq!(call(&*provider_of(OPENAI, port), &limited).unwrap().text, "yes");
    let requests = server.join().unwrap();
    assert_eq!(parts(&requests[1]).1["max_completion_tokens"], 7);
}

#[test]
fn the_rest_of_a_reply_is_told() {
    let chunk = r#"data: {"choices":[{"delta":{"reasoning":"hm","reasoning_content":"hm"}}],"prompt_progress":{"total":11,"cache":0,"processed":6}}"#;
    let body = format!("{chunk}\n\n{}{}{USAGE}{DONE}", delta("Hello"), finish("stop"));
    let (port, server) = serve(vec![events(&body)]);
    let progress = CallProgress::default();
    let context = CallContext { cancel: &Cancel::new(), progress: &progress, time_left: None };
    let table = "api = \"openai\"\nprice = { input = 1.0, output = 10.0 }";
    let reply = provider_of(table, port).call(&request(), &context).unwrap();
    server.join().unwrap();
    assert_eq!((reply.text.as_str(), reply.reasoning.as_str()), ("Hello", "hm"));
    assert_eq!((reply.finish.as_deref(), reply.model.as_deref()), (Some("stop"), Some("m-1")));
    let usage = reply.usage;
    assert_eq!(
        (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.thinking_tokens),
        (11, 5, 4, 2)
    );
    assert!((usage.cost_usd - 61e-6).abs() < 1e-12);
    assert!(reply.first_token_s.is_some_and(|first| first <= reply.duration_s));
    assert_eq!(progress.snapshot(), (2, 2, 7));
    assert_eq!(progress.prefill(), (6, 11));
}

#[test]
fn prefill_progress_keeps_the_first_token_clock_from_running_out() {
    let progress = "data: {\"choices\":[],\"prompt_progress\":{\"total\":10,\"processed\":1}}\n\n";
    let mut script = vec![send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")];
    for _ in 0..15 {
        script.extend([send(progress), Step::Pause(Duration::from_millis(100))]);
    }
    script.push(send(delta("Hello") + &finish("stop")));
    let table = "api = \"openai\"\nserver = \"llama.cpp\"\ntimeouts = { first_token = \"1s\" }";
    check(vec![row("prefill", table, script, Text("Hello"))]);
}

#[test]
fn a_cancel_and_the_tasks_own_time_end_a_call_at_once() {
    for cancelled in [true, false] {
        let head = send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
        let (port, server) = serve(vec![vec![head, send(delta("He")), Step::Hold]]);
        let provider = provider_of(OPENAI, port);
        let (cancel, progress) = (Cancel::new(), CallProgress::default());
        let time_left = (!cancelled).then(|| Duration::from_millis(200));
        let context = CallContext { cancel: &cancel, progress: &progress, time_left };
        let error = std::thread::scope(|scope| {
            let call = scope.spawn(|| provider.call(&request(), &context));
            while progress.snapshot().0 < 2 {
                std::thread::yield_now();
            }
            if cancelled {
                cancel.raise(Level::Killing);
            }
            call.join().unwrap().unwrap_err()
        });
        server.join().unwrap();
        assert_eq!(error.partial, "He");
        match cancelled {
            true => assert_eq!(error.class, Class::Cancelled),
            false => assert_eq!((error.class, error.code.as_deref()), (Class::Timeout, Some("task"))),
        }
    }
    // One that is cancelled before it starts connects to nobody.
    let cancel = Cancel::new();
    cancel.raise(Level::Killing);
    let progress = CallProgress::default();
    let context = CallContext { cancel: &cancel, progress: &progress, time_left: None };
    let error = provider_of(OPENAI, 9).call(&request(), &context).unwrap_err();
    assert_eq!(error.class, Class::Cancelled);
}

#[test]
fn an_answer_without_end_is_ended_by_the_total() {
    let head = send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let drip = Step::Repeat(Box::leak(delta("a b ").into_boxed_str()), Duration::from_millis(20));
    let (port, server) = serve(vec![vec![head, drip]]);
    let error = call(&*provider_of("api = \"openai\"\ntimeouts = { total = \"300ms\" }", port), &request())
        .unwrap_err();
    server.join().unwrap();
    assert_eq!((error.class, error.code.as_deref()), (Class::Timeout, Some("total")));
    assert!(error.partial.starts_with("a b a b"), "{}", error.partial);
}

#[test]
fn nobody_there_is_told_from_refused() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let provider = provider_of(OPENAI, port);
    let error = call(&*provider, &request()).unwrap_err();
    assert_eq!(error.class, Class::ServerLoading, "{error}");
    assert!(matches!(provider.health(), Health::Away(_)));
    // A name that cannot exist.
    let table =
        "api = \"openai\"\nbase_url = \"http://no-such-host.invalid/v1\"\ntimeouts = { connect = \"3s\" }";
    let error = call(&*provider_of(table, 0), &request()).unwrap_err();
    assert!(matches!(error.class, Class::Connection | Class::Timeout), "{error}");
    // TLS spoken to a server that speaks none.
    let (port, server) = serve(vec![vec![send("HTTP/1.1 400 Bad Request\r\n\r\n")]]);
    let table = format!(
        "api = \"openai\"\nbase_url = \"https://127.0.0.1:{port}/v1\"\ntimeouts = {{ connect = \"1s\" }}"
    );
    let error = call(&*provider_of(&table, port), &request()).unwrap_err();
    drop(server);
    assert!(matches!(error.class, Class::Config | Class::Timeout), "{error}");
}

#[test]
fn keys_do_not_come_back() {
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-very-secret\u001b[31m.","code":"invalid_api_key"}}"#;
    let (port, server) = serve(vec![json_of(401, "", body)]);
    let error =
        call(&*provider_of("api = \"openai\"\napi_key_env = \"SOME_KEY\"", port), &request()).unwrap_err();
    server.join().unwrap();
    assert!(error.message.contains("[redacted]") && error.raw.contains("[redacted]"), "{error:?}");
    assert!(!format!("{error:?}").contains("sk-very-secret"));
    assert!(!error.message.contains('\u{1b}'));
}

#[test]
fn a_prompt_cut_on_the_way_is_noticed_through_the_provider() {
    let mut long = request();
    long.prompt = "word ".repeat(5_000);
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2049,\"completion_tokens\":5}}\n\n";
    let (port, server) = serve(vec![events(&(delta("Hello") + &finish("stop") + usage + DONE))]);
    let error = call(&*provider_of(OPENAI, port), &long).unwrap_err();
    server.join().unwrap();
    assert_eq!((error.class, error.partial.as_str()), (Class::PromptTruncated, "Hello"));
    // Nothing, to a prompt that all but fills the context, is an overflow.
    let (port, server) = serve(vec![events(&(finish("stop") + DONE))]);
    let error = call(&*provider_of("api = \"openai\"\ncontext_window = 5200", port), &long).unwrap_err();
    server.join().unwrap();
    assert_eq!(error.class, Class::ContextOverflow, "{error}");
    // And what cannot fit is not even sent: nobody listens there.
    let error = call(&*provider_of("api = \"openai\"\ncontext_window = 2048", 9), &long).unwrap_err();
    assert_eq!(error.class, Class::ContextOverflow);
}

#[test]
fn probes_tell_what_a_server_has() {
    let keys = KeyRing::without_files(|_| None);
    let setup = Setup {
        name: "m",
        folder: Path::new("."),
        keys: &keys,
        hidden_env: &[],
        lifeline: &Lifeline::new(None),
        calibration: None,
    };
    let facts = |table: &str, scripts: Vec<Vec<Step>>| {
        let (port, server) = serve(scripts);
        let mut model: Model = toml::from_str(table).unwrap();
        let path = if model.api == Some(Api::Openai) { "/v1" } else { "" };
        model.base_url = Some(format!("http://127.0.0.1:{port}{path}"));
        model.model = Some("qwen".into());
        let facts = probe::facts(&model, &setup).unwrap();
        server.join().unwrap();
        facts
    };
    let listed = r#"{"object":"list","data":[{"id":"qwen","owned_by":"llamacpp","meta":{"n_ctx_train":32768,"n_ctx":4096}}]}"#;
    let props = r#"{"default_generation_settings":{"n_ctx":2048},"total_slots":2,"build_info":"b7000"}"#;
    let llama = facts(OPENAI, vec![json_of(200, "", listed), json_of(200, "", props)]);
    assert_eq!(
        (llama.model_present, llama.context_window, llama.slots, llama.server),
        (Some(true), Some(2048), Some(2), Some(crate::manifest::types::Server::LlamaCpp))
    );
    let tags = r#"{"models":[{"name":"qwen:latest"},{"name":"other:7b"}]}"#;
    let ps = r#"{"models":[{"name":"qwen:latest","context_length":8192}]}"#;
    let ollama = facts(
        "api = \"ollama\"",
        vec![json_of(200, "", tags), json_of(200, "", r#"{"version":"0.12"}"#), json_of(200, "", ps)],
    );
    assert_eq!((ollama.model_present, ollama.context_window), (Some(true), Some(8192)));
    assert_eq!(ollama.version.as_deref(), Some("0.12"));
    let other = facts(OPENAI, vec![json_of(200, "", r#"{"data":[{"id":"x","max_model_len":99}]}"#)]);
    assert_eq!((other.reachable, other.model_present), (true, Some(false)));
    let locked = facts(OPENAI, vec![json_of(401, "", "{}")]);
    assert_eq!(locked.key_accepted, Some(false));

    let health = |table: &str, scripts: Vec<Vec<Step>>| {
        let (port, server) = serve(scripts);
        let health = provider_of(table, port).health();
        server.join().unwrap();
        health
    };
    assert_eq!(
        health(LLAMA, vec![json_of(503, "", r#"{"error":{"message":"Loading model"}}"#)]),
        Health::Loading("Loading model".into())
    );
    assert_eq!(health(LLAMA, vec![json_of(200, "", r#"{"status":"ok"}"#)]), Health::Up);
    assert_eq!(health("api = \"ollama\"", vec![json_of(200, "", "{}")]), Health::Up);
    assert_eq!(health(OPENAI, vec![json_of(404, "", "{}"), json_of(200, "", "{}")]), Health::Up);
}

#[test]
fn a_call_fits_a_small_stack() {
    let (port, server) = serve(vec![events(&(delta("Hello") + &finish("stop")))]);
    let provider = provider_of(OPENAI, port);
    let reply = std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(192 * 1024);
        small.spawn_scoped(scope, || call(&*provider, &request())).unwrap().join().unwrap()
    });
    server.join().unwrap();
    assert_eq!(reply.unwrap().text, "Hello");
}

#[test]
fn digests_are_stable_and_separate() {
    let digest = prompt_digest("a", "b", None);
    assert_eq!(digest.len(), 64);
    assert_eq!(digest, "41e583ffed6a7a7b70a506ad813c4fa901e20d5e3eb3845358b5e7affd16093b");
    let schema = json!({ "b": 1, "a": 2 });
    let turned = json!({ "a": 2, "b": 1 });
    assert_eq!(prompt_digest("a", "b", Some(&schema)), prompt_digest("a", "b", Some(&turned)));
    for other in
        [prompt_digest("ab", "", None), prompt_digest("", "ab", None), prompt_digest("a", "b", Some(&schema))]
    {
        assert_ne!(digest, other);
    }
}

#[test]
fn models_that_cannot_be_set_up_say_why() {
    let keys = KeyRing::without_files(|name| (name == "OPENAI_API_KEY").then(|| "k".to_owned()));
    let setup = Setup {
        name: "cloud",
        folder: Path::new("."),
        keys: &keys,
        hidden_env: &[],
        lifeline: &Lifeline::new(None),
        calibration: None,
    };
    for (table, class, words) in [
        ("model = \"m\"", Class::Config, "`api` is missing"),
        ("api = \"openai\"", Class::Config, "`model` is missing"),
        ("api = \"openai\"\nmodel = \"m\"\nbase_url = \"localhost:1234\"", Class::Config, "is not a URL"),
        (
            "api = \"openai\"\nmodel = \"m\"\nbase_url = \"https://evil.example/v1\"\napi_key_env = \"OPENAI_API_KEY\"",
            Class::Auth,
            "is not bound",
        ),
        (
            "api = \"openai\"\nmodel = \"m\"\nbase_url = \"http://evil.example/v1\"\napi_key_env = \"OPENAI_API_KEY\"",
            Class::Auth,
            "plain http",
        ),
        (
            "api = \"anthropic\"\nmodel = \"m\"\napi_key_env = \"ANTHROPIC_API_KEY\"",
            Class::Auth,
            "is not set",
        ),
        ("api = \"command\"", Class::Config, "`command` is missing"),
        ("api = \"recorded\"", Class::Config, "`file` is missing"),
        ("api = \"recorded\"\nfile = \"nothing-here.json\"", Class::Config, "nothing-here.json"),
    ] {
        let model: Model = toml::from_str(table).unwrap();
        let Err(error) = provider(&model, &setup) else { panic!("{table}") };
        assert_eq!(error.class, class, "{table}: {error}");
        assert!(error.message.contains(words) && error.message.contains("models.cloud"), "{error}");
    }
    assert_eq!(
        default_concurrency(
            &toml::from_str("api = \"openai\"\nbase_url = \"http://localhost:1/v1\"").unwrap()
        ),
        1
    );
    assert_eq!(default_concurrency(&toml::from_str("api = \"anthropic\"").unwrap()), 8);
    assert_eq!(default_concurrency(&toml::from_str("api = \"ollama\"").unwrap()), 1);
    assert_eq!(default_concurrency(&toml::from_str("api = \"simulated\"").unwrap()), 64);
    assert_eq!(default_concurrency(&toml::from_str("api = \"command\"").unwrap()), 2);
}
