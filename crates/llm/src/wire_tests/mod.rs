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
use planexe_base::cancel::Level;

mod answers;
mod requests;

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
        system: "Be brief.".into(),
        prompt: "What of it?".into(),
        ..Request::default()
    }
}

fn provider_of(table: &str, port: u16) -> Box<dyn Provider> {
    let mut model: Model = toml::from_str(table).unwrap();
    let path = if model.api == Some(Api::Openai) { "/v1" } else { "" };
    model.base_url.get_or_insert(format!("http://127.0.0.1:{port}{path}"));
    model.model.get_or_insert("m".into());
    let keys = KeyRing::load(None, move |name| match name {
        "SOME_KEY" => Some("sk-very-secret".to_owned()),
        crate::keys::HOSTS_ENV => Some(format!("SOME_KEY=127.0.0.1:{port}")),
        _ => None,
    })
    .unwrap();
    let setup = Setup {
        name: "m",
        folder: Path::new("."),
        keys: &keys,
        lifeline: &Lifeline::new(None),
        calibration: None,
        ceiling: None,
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
                        assert!(
                            error.message.to_lines().contains(words),
                            "{}: {}",
                            row.name,
                            error.message.to_lines()
                        );
                        assert!(error.message.text.chars().count() <= 500, "{}", row.name);
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
    let progress = |read: u32| {
        format!("data: {{\"choices\":[],\"prompt_progress\":{{\"total\":20,\"processed\":{read}}}}}\n\n")
    };
    let mut script = vec![send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")];
    for read in 1..16 {
        script.extend([send(progress(read)), Step::Pause(Duration::from_millis(300))]);
    }
    script.push(send(delta("Hello") + &finish("stop")));
    let table = "api = \"openai\"\nserver = \"llama.cpp\"\ntimeouts = { first_token = \"4s\" }";
    check(vec![row("prefill", table, script, Text("Hello"))]);
}

#[test]
fn a_cancel_and_the_tasks_own_time_end_a_call_at_once() {
    for cancelled in [true, false] {
        let head = send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
        let (port, server) = serve(vec![vec![head, send(delta("He")), Step::Hold]]);
        let provider = provider_of(OPENAI, port);
        let (cancel, progress) = (Cancel::new(), CallProgress::default());
        let time_left = (!cancelled).then(|| Duration::from_secs(2));
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
    let error =
        call(&*provider_of("api = \"openai\"\ntimeouts = { total = \"2s\" }", port), &request()).unwrap_err();
    server.join().unwrap();
    assert_eq!((error.class, error.code.as_deref()), (Class::Timeout, Some("total")));
    assert!(error.partial.starts_with("a b a b"), "{}", error.partial);
}

#[test]
fn nobody_there_is_told_from_refused() {
    // Nobody listens at the first port, and nobody is given it.
    let provider = provider_of(OPENAI, 1);
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
    assert!(error.message.text.contains("[redacted]") && error.raw.contains("[redacted]"), "{error:?}");
    assert!(!format!("{error:?}").contains("sk-very-secret"));
    assert!(!error.message.text.contains('\u{1b}'));
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
        lifeline: &Lifeline::new(None),
        calibration: None,
        ceiling: None,
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
        (Some(true), Some(2048), Some(2), Some(crate::config::Server::LlamaCpp))
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
        lifeline: &Lifeline::new(None),
        calibration: None,
        ceiling: None,
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
        assert!(
            error.message.to_lines().contains(words) && error.message.text.contains("models.cloud"),
            "{error}"
        );
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
