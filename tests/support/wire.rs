//! `Wire`: a model server on loopback that plays bytes, whatever the dialect, and counts what it is asked.
//!
//! A script is a list of [`Step`]s for each request. Where a script waits, it waits for the client to hang
//! up, never for a time to pass. [`Dialect`] writes answers as each dialect's servers do, piece by piece, so
//! that a fault can be put between any two pieces.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the server does for one request, in order; then it closes the connection.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again, with a pause, until the client hangs up.
    Repeat(Vec<u8>, Duration),
    /// Sends nothing until the client hangs up.
    Hold,
    /// Pauses: for servers that are slow.
    Pause(Duration),
    /// Closes so that the client gets a reset (part of the request is left unread).
    Reset,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `POST /v1/chat/completions`
    pub line: String,
    /// The whole head, in lower case.
    pub head: String,
    /// The body, if it is JSON.
    pub body: Value,
    /// The body as text, but for its last byte.
    #[allow(dead_code, reason = "few look at what is no JSON")]
    pub text: String,
    /// How many POSTs came before.
    pub nth: usize,
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

/// Longest life of a step: reached only if a test fails.
const LIFE: Duration = Duration::from_secs(240);

struct Shared {
    posts: Mutex<Vec<Asked>>,
    gets: Mutex<Vec<Asked>>,
    closed: Mutex<bool>,
    post: Mutex<Arc<Script>>,
    get: Mutex<Arc<Script>>,
}

/// The server. It takes no more connections once it is dropped.
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// A server that answers POSTs by a script, and GETs with 404.
    pub fn new(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Wire {
        Wire::at(TcpListener::bind("127.0.0.1:0").expect("a free port"), script)
    }

    /// The same on a socket that listens already.
    pub fn at(listener: TcpListener, script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Wire {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            posts: Mutex::default(),
            gets: Mutex::default(),
            closed: Mutex::new(false),
            post: Mutex::new(Arc::new(script)),
            get: Mutex::new(Arc::new(|_| reply(404, "", "{\"error\":\"no such path\"}"))),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *lock(&for_thread.closed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || {
                    // Dropped with a byte unread it resets, shut down it ends well.
                    if !serve(&stream, &shared) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                });
            }
        });
        Wire { address, shared }
    }

    /// Takes no further connection; those there are go on.
    pub fn stop_listening(&self) {
        *lock(&self.shared.closed) = true;
        let _ = TcpStream::connect(self.address);
        // Until the socket is gone.
        while TcpStream::connect(self.address).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Answers GETs by a script.
    pub fn gets(self, script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Wire {
        *lock(&self.shared.get) = Arc::new(script);
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `base_url` a dialect's client wants.
    pub fn base_url(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Openai => format!("http://{}/v1", self.address),
            Dialect::Anthropic | Dialect::Ollama => format!("http://{}", self.address),
        }
    }

    /// The POSTs so far.
    pub fn posts(&self) -> Vec<Asked> {
        lock(&self.shared.posts).clone()
    }

    /// The GETs so far.
    pub fn asked_for(&self) -> Vec<Asked> {
        lock(&self.shared.gets).clone()
    }

    /// How many POSTs came so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.posts).len()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        *lock(&self.shared.closed) = true;
        let _ = TcpStream::connect(self.address);
    }
}

/// Plays one script; true if it ends in a reset.
fn serve(mut stream: &TcpStream, shared: &Shared) -> bool {
    let _ = stream.set_read_timeout(Some(LIFE));
    let _ = stream.set_write_timeout(Some(LIFE));
    // All but the last byte: a script that resets must leave one unread.
    let Some((mut asked, unread)) = read_request(stream) else { return false };
    let is_post = asked.line.starts_with("POST");
    let list = if is_post { &shared.posts } else { &shared.gets };
    {
        let mut list = lock(list);
        asked.nth = list.len();
        list.push(asked.clone());
    }
    let script = Arc::clone(&*lock(if is_post { &shared.post } else { &shared.get }));
    let steps = script(&asked);
    let resets = steps.iter().any(|step| matches!(step, Step::Reset));
    if unread && !resets {
        let _ = stream.read(&mut [0]);
    }
    for step in steps {
        let sent = match step {
            Step::Send(bytes) => stream.write_all(&bytes),
            Step::Repeat(bytes, pause) => {
                let until = Instant::now() + LIFE;
                while Instant::now() < until && stream.write_all(&bytes).is_ok() {
                    std::thread::sleep(pause);
                }
                return false;
            }
            Step::Hold => {
                let _ = stream.read(&mut [0]);
                return false;
            }
            Step::Pause(pause) => {
                std::thread::sleep(pause);
                Ok(())
            }
            Step::Reset => {
                let _ = stream.peek(&mut [0]);
                return true;
            }
        };
        if sent.is_err() {
            return false;
        }
    }
    false
}

/// A request without the last byte of its body, and whether there is one.
fn read_request(mut stream: &TcpStream) -> Option<(Asked, bool)> {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut one).ok()? == 0 {
            return None;
        }
        bytes.push(one[0]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let head = text.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    let mut body = vec![0; length.saturating_sub(1)];
    stream.read_exact(&mut body).ok()?;
    let mut whole = body;
    if length > 0 {
        // A JSON body ends with its brace.
        whole.push(b'}');
    }
    let line: Vec<&str> = text.lines().next().unwrap_or_default().split(' ').take(2).collect();
    let body = serde_json::from_slice(&whole).unwrap_or(Value::Null);
    whole.pop();
    let text = String::from_utf8_lossy(&whole).into_owned();
    Some((Asked { line: line.join(" "), head, body, text, nth: 0 }, length > 0))
}

/// Bytes to send.
pub fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

/// A whole JSON response; `headers` are lines with their ends.
pub fn reply(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![send(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))]
}

/// A dialect, as its servers write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions.
    Openai,
    /// Messages.
    Anthropic,
    /// `/api/chat`.
    Ollama,
}

/// All of them.
pub const DIALECTS: [Dialect; 3] = [Dialect::Openai, Dialect::Anthropic, Dialect::Ollama];

impl Dialect {
    /// The value of `api`.
    pub fn api(self) -> &'static str {
        match self {
            Dialect::Openai => "openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Ollama => "ollama",
        }
    }

    /// The head of a streamed answer that ends by closing.
    pub fn head(self) -> Step {
        self.head_with("connection: close\r\n")
    }

    fn head_with(self, headers: &str) -> Step {
        let kind = match self {
            Dialect::Ollama => "application/x-ndjson",
            _ => "text/event-stream; charset=utf-8",
        };
        send(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{headers}\r\n"))
    }

    /// What comes before the first content.
    pub fn opening(self) -> String {
        match self {
            Dialect::Openai => {
                self.data(&json!({ "id": "c1", "object": "chat.completion.chunk", "model": "m-1",
                "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] }))
            }
            Dialect::Anthropic => {
                self.data(&json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message",
                    "role": "assistant", "model": "m-1", "content": [], "stop_reason": null,
                    "usage": { "input_tokens": 11, "output_tokens": 1 } } }))
                    + &self.data(&json!({ "type": "content_block_start", "index": 0,
                        "content_block": { "type": "text", "text": "" } }))
                    + &self.data(&json!({ "type": "ping" }))
            }
            Dialect::Ollama => String::new(),
        }
    }

    /// A piece of the answer.
    pub fn piece(self, text: &str) -> String {
        self.data(&match self {
            Dialect::Openai => json!({ "id": "c1", "object": "chat.completion.chunk", "model": "m-1",
                "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }),
            Dialect::Anthropic => json!({ "type": "content_block_delta", "index": 0,
                "delta": { "type": "text_delta", "text": text } }),
            Dialect::Ollama => json!({ "model": "m-1", "created_at": "2026-11-21T00:00:00Z",
                "message": { "role": "assistant", "content": text }, "done": false }),
        })
    }

    /// A piece of reasoning.
    pub fn thought(self, text: &str) -> String {
        self.data(&match self {
            Dialect::Openai => json!({ "id": "c1", "object": "chat.completion.chunk", "model": "m-1",
                "choices": [{ "index": 0, "delta": { "reasoning_content": text }, "finish_reason": null }] }),
            Dialect::Anthropic => json!({ "type": "content_block_delta", "index": 0,
                "delta": { "type": "thinking_delta", "thinking": text } }),
            Dialect::Ollama => json!({ "model": "m-1",
                "message": { "role": "assistant", "content": "", "thinking": text }, "done": false }),
        })
    }

    /// A sign of life that is no content.
    pub fn keep_alive(self) -> String {
        match self {
            Dialect::Openai => ":\n\n".into(),
            Dialect::Anthropic => "event: ping\ndata: {\"type\":\"ping\"}\n\n".into(),
            Dialect::Ollama => self.piece(""),
        }
    }

    /// How the answer ended, in the dialect's word for it: `stop`, `length` or `refusal`.
    pub fn finish(self, reason: &str) -> String {
        self.finish_with(reason, 11)
    }

    /// The same; the server says it read so many tokens of the prompt.
    pub fn finish_with(self, reason: &str, prompt_tokens: u64) -> String {
        match self {
            Dialect::Openai => {
                let reason = if reason == "refusal" { "content_filter" } else { reason };
                self.data(&json!({ "id": "c1", "object": "chat.completion.chunk", "model": "m-1",
                    "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }))
                    + &self.data(&json!({ "id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": [],
                        "usage": { "prompt_tokens": prompt_tokens, "completion_tokens": 5, "total_tokens": prompt_tokens + 5 } }))
            }
            Dialect::Anthropic => {
                let reason = match reason {
                    "stop" => "end_turn",
                    "length" => "max_tokens",
                    reason => reason,
                };
                self.data(&json!({ "type": "content_block_stop", "index": 0 }))
                    + &self.data(&json!({ "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": null },
                        "usage": { "input_tokens": prompt_tokens, "output_tokens": 5 } }))
            }
            // It declines nothing by a word of its own.
            Dialect::Ollama => self.data(&json!({ "model": "m-1", "message": { "role": "assistant", "content": "" },
                "done": true, "done_reason": reason, "total_duration": 5, "load_duration": 1,
                "prompt_eval_count": prompt_tokens, "prompt_eval_cached_count": 4, "prompt_eval_duration": 2, "eval_count": 5, "eval_duration": 2 })),
        }
    }

    /// The terminal marker.
    pub fn end(self) -> &'static str {
        match self {
            Dialect::Openai => "data: [DONE]\n\n",
            Dialect::Anthropic => "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            Dialect::Ollama => "",
        }
    }

    /// A whole answer, streamed.
    pub fn answer(self, text: &str) -> Vec<Step> {
        self.ended(text, "stop")
    }

    /// A streamed answer that ended so.
    pub fn ended(self, text: &str, reason: &str) -> Vec<Step> {
        let body = self.opening() + &self.piece(text) + &self.finish(reason) + self.end();
        vec![self.head(), send(body)]
    }

    /// Bytes that are sent as they are, after the head of a streamed answer.
    pub fn stream(self, body: impl Into<Vec<u8>>) -> Vec<Step> {
        vec![self.head(), send(body)]
    }

    /// A streamed answer whose length is announced.
    pub fn stream_of_length(self, length: usize, body: &str) -> Vec<Step> {
        vec![self.head_with(&format!("content-length: {length}\r\n")), send(body)]
    }

    /// A whole answer in one piece of JSON.
    pub fn in_one_piece(self, text: &str) -> String {
        match self {
            Dialect::Openai => {
                json!({ "id": "c1", "object": "chat.completion", "created": 1, "model": "m-1",
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16 } })
            }
            Dialect::Anthropic => json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m-1",
                "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": { "input_tokens": 11, "output_tokens": 5 } }),
            Dialect::Ollama => json!({ "model": "m-1", "message": { "role": "assistant", "content": text },
                "done": true, "done_reason": "stop", "prompt_eval_count": 11, "eval_count": 5 }),
        }
        .to_string()
    }

    /// The body of an error in the dialect's envelope.
    pub fn error(self, kind: &str, message: &str) -> String {
        match self {
            Dialect::Openai => json!({ "error": { "message": message, "type": kind, "param": null, "code": null } }),
            Dialect::Anthropic => {
                json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_1" })
            }
            Dialect::Ollama => json!({ "error": message }),
        }
        .to_string()
    }

    /// An error in the stream, after status 200.
    pub fn error_in_stream(self, kind: &str, message: &str) -> String {
        match self {
            Dialect::Openai => format!("data: {}\n\n", self.error(kind, message)),
            Dialect::Anthropic => format!("event: error\ndata: {}\n\n", self.error(kind, message)),
            Dialect::Ollama => format!("{}\n", self.error(kind, message)),
        }
    }

    fn data(self, value: &Value) -> String {
        match self {
            Dialect::Openai => format!("data: {value}\n\n"),
            Dialect::Anthropic => {
                format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or(""))
            }
            Dialect::Ollama => format!("{value}\n"),
        }
    }
}
