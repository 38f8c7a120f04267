//! `FakeLlm`: an OpenAI-compatible chat server on loopback that says what the test scripts, keeps
//! what it was asked, and can hold a call open until the test lets it go.
//!
//! A call is known by the first `TASK=name` line in its messages, so a test counts calls per task.
//! The counts prove what was not paid for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{DEADLINE, schema, until};

/// One request for a chat completion, as it arrived.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// What follows the first `TASK=` in the messages, to the end of the line; empty if there is none.
    pub task: String,
    /// How many calls of this task came before.
    pub nth: usize,
    /// The system message; empty if there is none.
    pub system: String,
    /// The first user message: the rendered prompt.
    pub prompt: String,
    /// All messages, in order, as (role, content).
    pub messages: Vec<(String, String)>,
    /// The schema asked for in `response_format`.
    pub schema: Option<Value>,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The whole body.
    pub body: Value,
}

impl ChatRequest {
    fn new(headers: BTreeMap<String, String>, body: Value) -> ChatRequest {
        let messages: Vec<(String, String)> = body["messages"]
            .as_array()
            .map(|all| all.iter().map(|m| (m["role"].as_str().unwrap_or("").into(), content(m))).collect())
            .unwrap_or_default();
        let first = |role: &str| {
            messages.iter().find(|(r, _)| r == role).map(|(_, text)| text.clone()).unwrap_or_default()
        };
        let (system, prompt) = (first("system"), first("user"));
        let marker = |text: &str| {
            text.split_once("TASK=").map(|(_, rest)| rest.lines().next().unwrap_or("").trim().to_owned())
        };
        let task = marker(&prompt).or_else(|| marker(&system)).unwrap_or_default();
        let format = &body["response_format"];
        let schema = (format["type"] == "json_schema").then(|| format["json_schema"]["schema"].clone());
        ChatRequest { task, nth: 0, system, prompt, messages, schema, headers, body }
    }

    /// Eight hex digits that stand for all messages.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (role, text) in &self.messages {
            hasher.update(role.as_bytes()).update(b"\0").update(text.as_bytes()).update(b"\0");
        }
        hasher.finalize().to_hex()[..8].to_owned()
    }

    /// The answer of [`Answer::Default`].
    pub fn default_text(&self) -> String {
        let digest = self.digest();
        match &self.schema {
            Some(schema) => schema::minimal(schema, &digest).to_string(),
            None => format!("Answer {digest} to {}.\n\nIt follows from the prompt alone.\n", self.task),
        }
    }

    fn prompt_tokens(&self) -> usize {
        8 + self.messages.iter().map(|(_, text)| text.len() / 3 + 4).sum::<usize>()
    }
}

/// The text of a message, whether it is a string or a list of parts.
fn content(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// What the server does with one call.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A text that follows from the prompt, or a small object that satisfies the schema.
    Default,
    /// This text, whole.
    Text(String),
    /// This text with a finish reason of its own (`length`, `content_filter`).
    Finish(String, &'static str),
    /// An HTTP error: status, headers, body.
    Http(u16, Vec<(&'static str, String)>, String),
    /// Nothing at all, until the client goes away.
    Hang,
    /// The connection closes without a byte.
    Close,
    /// Half of this text, then the connection closes.
    Cut(String),
    /// Half of this text; the rest when [`FakeLlm::release`] names the task.
    Half(String),
    /// This text, a piece each `Duration`.
    Drip(String, Duration),
    /// These bytes, then the connection closes.
    Raw(Vec<u8>),
}

impl Answer {
    /// An error in OpenAI's envelope.
    pub fn error(status: u16, message: &str) -> Answer {
        let body = json!({ "error": { "message": message, "type": "invalid_request_error", "code": null } });
        Answer::Http(status, Vec::new(), body.to_string())
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Answer {
        Answer::Text(text.to_owned())
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Answer {
        Answer::Text(text)
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer::Text(value.to_string())
    }
}

type Script = dyn Fn(&ChatRequest) -> Answer + Send + Sync;

#[derive(Default)]
struct State {
    closed: bool,
    calls: Vec<ChatRequest>,
    /// Requests that are no chat completions, as `GET /v1/models`.
    others: Vec<String>,
    held: BTreeSet<String>,
    hold_all: bool,
    halves: BTreeMap<String, usize>,
    released: BTreeSet<String>,
    hang_ups: BTreeMap<String, usize>,
    in_flight: usize,
    most_in_flight: usize,
    streams: HashMap<usize, TcpStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    script: Mutex<Arc<Script>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The server. It ends when it is dropped, with every connection.
pub struct FakeLlm {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl FakeLlm {
    /// Starts a server that answers everything by [`Answer::Default`].
    pub fn new() -> FakeLlm {
        FakeLlm::scripted(|_| Answer::Default)
    }

    /// Starts a server that answers by a script.
    pub fn scripted(script: impl Fn(&ChatRequest) -> Answer + Send + Sync + 'static) -> FakeLlm {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            script: Mutex::new(Arc::new(script)),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        FakeLlm { address, shared, accepting: Some(accepting) }
    }

    /// Changes the script for calls to come.
    pub fn script(&self, script: impl Fn(&ChatRequest) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock().expect("the script") = Arc::new(script);
    }

    /// The root of the API: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests of any kind so far.
    pub fn requests(&self) -> usize {
        let state = self.shared.lock();
        state.calls.len() + state.others.len()
    }

    /// Requests that were no chat completions.
    pub fn others(&self) -> Vec<String> {
        self.shared.lock().others.clone()
    }

    /// Calls so far.
    pub fn total(&self) -> usize {
        self.shared.lock().calls.len()
    }

    /// Calls of one task so far.
    pub fn count(&self, task: &str) -> usize {
        self.shared.lock().calls.iter().filter(|call| call.task == task).count()
    }

    /// Calls so far by task, for comparing all at once.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in &self.shared.lock().calls {
            *counts.entry(call.task.clone()).or_default() += 1;
        }
        counts
    }

    /// All calls so far, in the order of arrival.
    pub fn calls(&self) -> Vec<ChatRequest> {
        self.shared.lock().calls.clone()
    }

    /// The tasks called so far, in the order of arrival.
    pub fn order(&self) -> Vec<String> {
        self.shared.lock().calls.iter().map(|call| call.task.clone()).collect()
    }

    /// The last call of a task.
    #[track_caller]
    pub fn last(&self, task: &str) -> ChatRequest {
        let calls = self.calls();
        calls.into_iter().rfind(|call| call.task == task).unwrap_or_else(|| panic!("no call of `{task}`"))
    }

    /// Waits until every connection made so far has been taken and is closed again: after a kill, what
    /// the killed program had sent has then been counted.
    #[allow(dead_code, reason = "not every test kills")]
    pub fn wait_for_quiet(&self) {
        // Connections are taken in order: once this one was, those before it have been.
        if let Ok(mut last) = TcpStream::connect(self.address) {
            let _ = last.shutdown(Shutdown::Write);
            let _ = last.read_to_end(&mut Vec::new());
        }
        self.wait("the connections to close", |state| state.streams.is_empty());
    }

    /// The most calls that were open at once.
    pub fn most_in_flight(&self) -> usize {
        self.shared.lock().most_in_flight
    }

    /// From now on calls of this task are taken and not answered.
    pub fn hold(&self, task: &str) {
        let mut state = self.shared.lock();
        state.released.remove(task);
        state.held.insert(task.to_owned());
    }

    /// From now on calls of all tasks are taken and not answered.
    pub fn hold_all(&self) {
        self.shared.lock().hold_all = true;
    }

    /// Answers the held calls of this task, and later ones at once.
    pub fn release(&self, task: &str) {
        let mut state = self.shared.lock();
        state.held.remove(task);
        state.released.insert(task.to_owned());
        self.shared.changed.notify_all();
    }

    /// Ends every hold.
    pub fn release_all(&self) {
        let mut state = self.shared.lock();
        state.held.clear();
        state.hold_all = false;
        self.shared.changed.notify_all();
    }

    /// Waits until this task has been called.
    #[track_caller]
    pub fn wait_for_call(&self, task: &str) {
        self.wait_for_calls(task, 1);
    }

    /// Waits until this task has been called `n` times in all.
    #[track_caller]
    pub fn wait_for_calls(&self, task: &str, n: usize) {
        self.wait(&format!("call {n} of `{task}`"), |state| {
            state.calls.iter().filter(|call| call.task == task).count() >= n
        });
    }

    /// Waits until there were `n` calls in all.
    #[track_caller]
    pub fn wait_for_total(&self, n: usize) {
        self.wait(&format!("{n} calls in all"), |state| state.calls.len() >= n);
    }

    /// Waits until half an answer ([`Answer::Half`]) of this task was sent.
    #[track_caller]
    pub fn wait_for_half(&self, task: &str) {
        self.wait(&format!("half an answer to `{task}`"), |state| state.halves.contains_key(task));
    }

    /// Waits until the client has closed the connection of a held call, be it by its end.
    #[track_caller]
    pub fn wait_for_hang_up(&self, task: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.shared.lock().hang_ups.contains_key(task) {
            assert!(
                Instant::now() < deadline,
                "waited {DEADLINE:?} in vain for the client to give up `{task}`"
            );
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&State) -> bool) {
        until(what, || condition(&self.shared.lock()).then_some(()));
    }
}

impl Drop for FakeLlm {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for stream in state.streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for id in 0.. {
        let Ok((stream, _)) = listener.accept() else { return };
        let mut state = shared.lock();
        if state.closed {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            state.streams.insert(id, copy);
        }
        drop(state);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that goes away in the middle is part of the tests, not a fault of the server.
            let _ = serve(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
            shared.lock().streams.remove(&id);
        });
    }
}

/// Serves one connection until it closes.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some((line, headers, body)) = read_request(&mut reader, stream)? {
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if method != "POST" || !path.ends_with("/chat/completions") {
            shared.lock().others.push(format!("{method} {path}"));
            let known = method == "GET" && path.ends_with("/models");
            let list = json!({ "object": "list", "data": [{ "id": "fake-1", "object": "model" }] });
            let error = json!({ "error": { "message": "no such path", "type": "not_found", "code": 404 } });
            let (status, body) = if known { (200, list) } else { (404, error) };
            write_whole(stream, status, "application/json", &[], body.to_string().as_bytes())?;
            continue;
        }
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut request = ChatRequest::new(headers, body);
        {
            let mut state = shared.lock();
            request.nth = state.calls.iter().filter(|call| call.task == request.task).count();
            state.calls.push(request.clone());
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
            shared.changed.notify_all();
        }
        if !answer(stream, shared, &request, InFlight(shared))? {
            return Ok(());
        }
    }
    Ok(())
}

/// A call in flight, until this is dropped: before the last of the answer is sent, since whoever has it may call again
/// at once.
struct InFlight<'a>(&'a Shared);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

type HttpRequest = (String, BTreeMap<String, String>, Vec<u8>);

fn read_request(
    reader: &mut BufReader<TcpStream>,
    mut stream: &TcpStream,
) -> io::Result<Option<HttpRequest>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        let size: u64 = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        reader.by_ref().take(size).read_to_end(&mut body)?;
    }
    Ok(Some((first.trim_end().to_owned(), headers, body)))
}

/// Waits as long as `held` says; false if the client or the server went away meanwhile.
fn wait_while(stream: &TcpStream, shared: &Shared, task: &str, held: impl Fn(&State) -> bool) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
    let mut here = true;
    let mut state = shared.lock();
    while held(&state) && here && !state.closed {
        state = match shared.changed.wait_timeout(state, Duration::from_millis(20)) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
        here = match stream.peek(&mut [0]) {
            Ok(read) => read > 0,
            Err(e) => matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
    }
    let closed = state.closed;
    if !here {
        *state.hang_ups.entry(task.to_owned()).or_default() += 1;
        shared.changed.notify_all();
    }
    drop(state);
    let _ = stream.set_read_timeout(None);
    here && !closed
}

/// Answers one call; false if the connection is to close.
fn answer(
    stream: &TcpStream,
    shared: &Shared,
    request: &ChatRequest,
    in_flight: InFlight<'_>,
) -> io::Result<bool> {
    let task = request.task.as_str();
    if !wait_while(stream, shared, task, |state| state.hold_all || state.held.contains(task)) {
        return Ok(false);
    }
    let script = Arc::clone(&*shared.script.lock().expect("the script"));
    let mut chat = Chat { stream, request, streaming: request.body["stream"] == true };
    match script(request) {
        Answer::Default => {
            drop(in_flight);
            chat.whole(&request.default_text(), "stop")?;
        }
        Answer::Text(text) => {
            drop(in_flight);
            chat.whole(&text, "stop")?;
        }
        Answer::Finish(text, reason) => {
            drop(in_flight);
            chat.whole(&text, reason)?;
        }
        Answer::Http(status, headers, body) => {
            drop(in_flight);
            write_whole(stream, status, "application/json", &headers, body.as_bytes())?;
        }
        Answer::Hang => {
            wait_while(stream, shared, task, |_| true);
            return Ok(false);
        }
        Answer::Close => return Ok(false),
        Answer::Cut(text) => {
            drop(in_flight);
            chat.begin()?;
            chat.pieces(halves(&text).0)?;
            return Ok(false);
        }
        Answer::Half(text) => {
            let (first, second) = halves(&text);
            chat.begin()?;
            chat.pieces(first)?;
            *shared.lock().halves.entry(task.to_owned()).or_default() += 1;
            shared.changed.notify_all();
            if !wait_while(stream, shared, task, |state| !state.released.contains(task)) {
                return Ok(false);
            }
            chat.pieces(second)?;
            drop(in_flight);
            chat.end(&text, "stop")?;
        }
        Answer::Drip(text, pause) => {
            chat.begin()?;
            for piece in pieces(&text) {
                chat.pieces(piece)?;
                std::thread::sleep(pause);
            }
            drop(in_flight);
            chat.end(&text, "stop")?;
        }
        Answer::Raw(bytes) => {
            let mut stream = stream;
            drop(in_flight);
            stream.write_all(&bytes)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// One chat completion on its way out, as a stream of events or in one piece.
struct Chat<'a> {
    stream: &'a TcpStream,
    request: &'a ChatRequest,
    streaming: bool,
}

impl Chat<'_> {
    fn whole(&mut self, text: &str, reason: &str) -> io::Result<()> {
        if self.streaming {
            self.begin()?;
            self.pieces(text)?;
            return self.end(text, reason);
        }
        let message = json!({ "role": "assistant", "content": text });
        let body = json!({
            "id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": "fake-1",
            "choices": [{ "index": 0, "message": message, "finish_reason": reason }],
            "usage": self.usage(text),
        });
        write_whole(self.stream, 200, "application/json", &[], body.to_string().as_bytes())
    }

    fn begin(&mut self) -> io::Result<()> {
        self.stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        self.delta(json!({ "role": "assistant", "content": "" }), Value::Null)
    }

    fn pieces(&mut self, text: &str) -> io::Result<()> {
        pieces(text).try_for_each(|piece| self.delta(json!({ "content": piece }), Value::Null))
    }

    fn end(&mut self, text: &str, reason: &str) -> io::Result<()> {
        self.delta(json!({}), json!(reason))?;
        if self.request.body["stream_options"]["include_usage"] == true {
            self.event(&json!({
                "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 0, "model": "fake-1",
                "choices": [], "usage": self.usage(text),
            }))?;
        }
        self.chunk("data: [DONE]\n\n")?;
        self.stream.write_all(b"0\r\n\r\n")
    }

    fn usage(&self, text: &str) -> Value {
        let (prompt, answer) = (self.request.prompt_tokens(), text.len() / 4 + 1);
        json!({ "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer })
    }

    fn delta(&mut self, delta: Value, reason: Value) -> io::Result<()> {
        self.event(&json!({
            "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 0, "model": "fake-1",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
        }))
    }

    fn event(&mut self, event: &Value) -> io::Result<()> {
        self.chunk(&format!("data: {event}\n\n"))
    }

    fn chunk(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    }
}

fn write_whole(
    mut stream: &TcpStream,
    status: u16,
    kind: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> io::Result<()> {
    let mut head =
        format!("HTTP/1.1 {status} Fake\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// The text in pieces of some forty bytes, as a server would stream it.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(boundary(rest, 40));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn halves(text: &str) -> (&str, &str) {
    text.split_at(boundary(text, text.len() / 2))
}

/// The last boundary between characters at or before `wanted`, but not before the first character.
fn boundary(text: &str, wanted: usize) -> usize {
    if wanted >= text.len() {
        return text.len();
    }
    (1..=wanted).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}
