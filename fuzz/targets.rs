//! What is fuzzed: each target takes bytes as they might come from outside, and must neither panic nor hang. What is said
//! of them is held against a rule or two.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use planexe_base::cancel::Cancel;
use planexe_base::process::Lifeline;
use planexe_llm::keys::KeyRing;
use planexe_llm::{CallContext, CallProgress, Provider, Request, Setup};
use planexe_pipeline::manifest::{Manifest, ReadOptions};

/// The dialects of servers.
const DIALECTS: [&str; 3] = ["openai", "anthropic", "ollama"];

/// A server on loopback that answers each connection with the bytes it is given next, and a client of each dialect.
struct Wire {
    next: Sender<Vec<u8>>,
    clients: Vec<Box<dyn Provider>>,
}

impl Wire {
    fn new() -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let (next, answers) = channel::<Vec<u8>>();
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                // All requests here are alike: a body of JSON that ends the read.
                while !request.ends_with(b"}") {
                    match stream.read(&mut buffer) {
                        Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                        _ => break,
                    }
                }
                let _ = stream.write_all(&answer);
            }
        });
        let keys = KeyRing::load(None, |_| None).expect("no keys");
        let client = |api: &&str| {
            let path = if *api == "openai" { "/v1" } else { "" };
            let table =
                format!("api = \"{api}\"\nmodel = \"m\"\nbase_url = \"http://127.0.0.1:{port}{path}\"");
            let setup = Setup {
                name: "m",
                folder: Path::new("."),
                keys: &keys,
                lifeline: &Lifeline::new(None),
                calibration: None,
                ceiling: None,
            };
            planexe_llm::provider(&toml::from_str(&table).expect("a table"), &setup).expect("a client")
        };
        Wire { next, clients: DIALECTS.iter().map(client).collect() }
    }
}

/// The first byte chooses a dialect and a type of content; the rest is the body that the server sends.
/// Returns whether that was an answer.
pub fn answers(bytes: &[u8]) -> bool {
    static WIRE: LazyLock<Mutex<Wire>> = LazyLock::new(|| Mutex::new(Wire::new()));
    let Some((choice, body)) = bytes.split_first() else { return false };
    let kind = ["text/event-stream", "application/json", "application/x-ndjson"][usize::from(choice / 3) % 3];
    let wire = WIRE.lock().expect("the wire");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    wire.next.send([head.as_bytes(), body].concat()).expect("the server");
    let request = Request { task: "t".into(), prompt: "p".into(), ..Request::default() };
    let context = CallContext {
        cancel: &Cancel::new(),
        progress: &CallProgress::default(),
        time_left: Some(Duration::from_secs(20)),
    };
    let reply = wire.clients[usize::from(choice % 3)].call(&request, &context);
    if let Ok(reply) = &reply {
        assert!(!reply.text.trim().is_empty(), "an empty answer is none");
    }
    reply.is_ok()
}

/// Server-sent events: they are the same however the bytes come in.
pub fn sse(bytes: &[u8]) {
    let whole = planexe_llm::events_of(bytes, bytes.len().max(1));
    for step in [1, 3, 7] {
        assert_eq!(planexe_llm::events_of(bytes, step), whole, "so many bytes at a time: {step}");
    }
}

/// The cache file, as if whoever wrote it had the key for its mark. Returns whether it could be read.
pub fn index(bytes: &[u8]) -> bool {
    planexe_store::null_build::read_unmarked(bytes)
}

/// A manifest: every fault is shown, and points into its text.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Includes would lead to files of this machine.
    if text.contains("include") {
        return;
    }
    let file = Path::new("/nonexistent/pipeline.toml");
    let shown = match Manifest::from_text(file, text.to_owned(), &ReadOptions::default()) {
        Err(faults) => faults.render(false, 80),
        Ok((manifest, faults)) => manifest.faults(faults).render(false, 80),
    };
    let plain = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    assert!(shown.chars().all(plain), "a fault is shown without what steers a terminal: {shown:?}");
}

/// `.DONE` and `.status`: what is read is written and read again the same.
pub fn sidecars(bytes: &[u8]) {
    use planexe_base::record::Marker;
    use planexe_store::StatusRead;
    use planexe_store::sidecar::{parse_done, parse_status, to_json};
    if let Marker::Valid(done) = parse_done(bytes) {
        let again = parse_done(&to_json(&done));
        assert_eq!(again, Marker::Valid(done));
    }
    if let StatusRead::Valid(status) = parse_status(bytes) {
        let again = parse_status(&to_json(&status));
        assert_eq!(again, StatusRead::Valid(status));
    }
}

/// Lines of an MCP client: each error is a JSON object of the protocol.
pub fn mcp(bytes: &[u8]) {
    use planexe::mcp::protocol::{Incoming, read};
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Incoming::Wrong(answer) = read(line) {
            assert_eq!(answer["jsonrpc"], "2.0");
            assert!(answer["error"]["code"].is_i64(), "{answer}");
        }
    }
}
