//! `CachingServer`: a model server on loopback that keeps prompts by the vendors' rules, and makes out a bill.
//!
//! Anthropic's (`/v1/messages`): at most four marked places; a prefix is known by its blocks as they were divided, schema
//! first, then system, then messages; looked for at each marked place and up to 20 blocks before it; written at marked
//! places of at least the smallest size. OpenAI's (`/v1/chat/completions`): steps of 128 tokens from 1,024 on, schema first;
//! found by requests with the same key and the same first 256 tokens. Both: there once the answer begins that wrote it,
//! and gone five minutes after it was last used. A token is four bytes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TOKEN: usize = 4;
const LIFETIME: Duration = Duration::from_secs(300);
/// Blocks before a marked place that are looked at.
const LOOK_BACK: usize = 20;

/// How long the server takes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Until the first token of a prompt of which all is in the cache.
    pub first: Duration,
    /// More for a thousand tokens that are not.
    pub thousand: Duration,
    /// From the first token to the end.
    pub writes: Duration,
}

/// USD of a million tokens.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    pub input: f64,
    pub read: f64,
    pub write: f64,
    pub output: f64,
}

/// What came to be paid.
#[derive(Debug, Default, Clone, Copy)]
pub struct Bill {
    pub calls: u64,
    /// Prompt tokens, all of them.
    pub input: u64,
    pub read: u64,
    pub written: u64,
    pub output: u64,
}

impl Bill {
    /// USD of the prompts.
    pub fn input_usd(&self, prices: &Prices) -> f64 {
        let at_full = self.input - self.read - self.written;
        (at_full as f64 * prices.input + self.read as f64 * prices.read + self.written as f64 * prices.write)
            / 1e6
    }

    /// USD in all.
    pub fn usd(&self, prices: &Prices) -> f64 {
        self.input_usd(prices) + self.output as f64 * prices.output / 1e6
    }
}

type Answers = dyn Fn(&str) -> String + Send + Sync;

#[derive(Default)]
struct State {
    /// When it is there, and when it was last used.
    kept: HashMap<blake3::Hash, (Instant, Instant)>,
    bill: Bill,
    bodies: Vec<Value>,
    in_flight: usize,
    /// Answers are held back until so many calls are in flight, once.
    gate: usize,
}

struct Shared {
    least: usize,
    pace: Pace,
    answers: Box<Answers>,
    keeps_bodies: bool,
    state: Mutex<State>,
    changed: Condvar,
}

/// The server. Its threads end with the process.
pub struct CachingServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl CachingServer {
    /// Starts one that keeps what has `least` tokens and answers by the text of a prompt.
    pub fn start(least: usize, pace: Pace, answers: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        CachingServer::started(least, pace, true, answers)
    }

    /// One that does not keep what it was asked.
    pub fn forgetful(
        least: usize,
        pace: Pace,
        answers: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        CachingServer::started(least, pace, false, answers)
    }

    fn started(
        least: usize,
        pace: Pace,
        keeps_bodies: bool,
        answers: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Mutex::default();
        let answers: Box<Answers> = Box::new(answers);
        let shared = Arc::new(Shared { least, pace, answers, keeps_bodies, state, changed: Condvar::new() });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = accepting.clone();
                let thread = std::thread::Builder::new().stack_size(256 * 1024);
                let _ = thread.spawn(move || shared.serve(&stream));
            }
        });
        CachingServer { address, shared }
    }

    /// Where it listens, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first answer waits until so many calls are in flight.
    pub fn gate(&self, calls: usize) {
        self.shared.lock().gate = calls;
    }

    /// What was asked so far comes to so much.
    pub fn bill(&self) -> Bill {
        self.shared.lock().bill
    }

    /// The bodies that were sent, in order.
    pub fn bodies(&self) -> Vec<Value> {
        self.shared.lock().bodies.clone()
    }
}

/// A prompt as its server sees it: texts in order, and which of them end at a marked place.
struct Asked {
    blocks: Vec<(String, bool)>,
    /// The text of the first message of the user.
    prompt: String,
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn blocks_of(content: &Value) -> Vec<(String, bool)> {
    match content {
        Value::Array(parts) => parts
            .iter()
            .map(|part| {
                (part["text"].as_str().unwrap_or_default().to_owned(), part.get("cache_control").is_some())
            })
            .collect(),
        Value::String(text) => vec![(text.clone(), false)],
        _ => Vec::new(),
    }
}

impl Asked {
    fn anthropic(body: &Value) -> Asked {
        let mut blocks = vec![(body["output_config"]["format"].to_string(), false)];
        blocks.extend(blocks_of(&body["system"]));
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        blocks.extend(messages.iter().flat_map(|message| blocks_of(&message["content"])));
        let prompt = messages.first().map(|message| text_of(&message["content"])).unwrap_or_default();
        Asked { blocks, prompt }
    }

    fn openai(body: &Value) -> Asked {
        let mut blocks = vec![(body["response_format"]["json_schema"]["schema"].to_string(), false)];
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        blocks.extend(messages.iter().map(|message| (text_of(&message["content"]), false)));
        let user = messages.iter().find(|message| message["role"] == "user");
        let prompt = user.map(|message| text_of(&message["content"])).unwrap_or_default();
        Asked { blocks, prompt }
    }

    fn tokens(&self) -> usize {
        self.blocks.iter().map(|(text, _)| text.len()).sum::<usize>() / TOKEN
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while let Some((path, body)) = request(&mut reader) {
            let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                let _ = stream_error(stream, 404, "this is not a call");
                continue;
            };
            let done = match path.as_str() {
                path if path.ends_with("/messages") => self.answer(stream, body, true),
                path if path.ends_with("/chat/completions") => self.answer(stream, body, false),
                _ => stream_error(stream, 404, "no such path"),
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn answer(&self, mut stream: &TcpStream, body: Value, anthropic: bool) -> std::io::Result<()> {
        let asked = if anthropic { Asked::anthropic(&body) } else { Asked::openai(&body) };
        if asked.blocks.iter().filter(|(_, marked)| *marked).count() > 4 {
            return stream_error(stream, 400, "A maximum of 4 blocks with cache_control may be provided");
        }
        let text = (self.answers)(&asked.prompt);
        let (input, output) = (asked.tokens(), text.len() / TOKEN);
        let key = body["prompt_cache_key"].as_str().unwrap_or_default().to_owned();
        let mut state = self.lock();
        let now = Instant::now();
        let (read, written, first) = if anthropic {
            self.cached_blocks(&mut state, &asked, now)
        } else {
            self.cached_steps(&mut state, &asked, &key, now)
        };
        if self.keeps_bodies {
            state.bodies.push(body);
        }
        state.bill.calls += 1;
        state.bill.input += input as u64;
        state.bill.read += read as u64;
        state.bill.written += written as u64;
        state.bill.output += output as u64;
        state.in_flight += 1;
        self.changed.notify_all();
        while state.gate > 0 {
            if state.in_flight >= state.gate {
                state.gate = 0;
                self.changed.notify_all();
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        drop(state);
        drop(asked);
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        std::thread::sleep(first);
        let half = text.len() / 2;
        let half = (half..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let send = |events: &[Value]| -> std::io::Result<()> {
            let mut chunk = String::new();
            for event in events {
                if let Some(kind) = event["type"].as_str() {
                    chunk.push_str(&format!("event: {kind}\n"));
                }
                chunk.push_str(&format!("data: {event}\n\n"));
            }
            let mut stream = stream;
            write!(stream, "{:x}\r\n{chunk}\r\n", chunk.len())
        };
        let delta = |text: &str| {
            if anthropic {
                json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })
            } else {
                json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
            }
        };
        if anthropic {
            let usage = json!({
                "input_tokens": input - read - written, "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written, "output_tokens": 1
            });
            let start =
                json!({ "type": "message_start", "message": { "id": "m", "model": "m", "usage": usage } });
            send(&[start, delta(&text[..half])])?;
        } else {
            send(&[delta(&text[..half])])?;
        }
        std::thread::sleep(self.pace.writes);
        if anthropic {
            let stop = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": output } });
            send(&[delta(&text[half..]), stop, json!({ "type": "message_stop" })])?;
        } else {
            let usage = json!({
                "prompt_tokens": input, "completion_tokens": output,
                "prompt_tokens_details": { "cached_tokens": read }
            });
            let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
            send(&[delta(&text[half..]), end, json!({ "choices": [], "usage": usage })])?;
        }
        self.lock().in_flight -= 1;
        stream.write_all(b"0\r\n\r\n")
    }

    fn first(&self, tokens: usize) -> Duration {
        self.pace.first + self.pace.thousand.mul_f64(tokens as f64 / 1000.0)
    }

    fn is_kept(state: &State, digest: &blake3::Hash, now: Instant) -> bool {
        state.kept.get(digest).is_some_and(|(from, used)| *from <= now && now < *used + LIFETIME)
    }

    fn keep(state: &mut State, digest: blake3::Hash, now: Instant, from: Instant) {
        let kept = Shared::is_kept(state, &digest, now);
        let entry = state.kept.entry(digest).or_insert((from, from));
        *entry = if kept { (entry.0, now) } else { (entry.0.min(from).max(now), from) };
    }

    /// Tokens read and written, and the time to the first token, by Anthropic's rules.
    fn cached_blocks(&self, state: &mut State, asked: &Asked, now: Instant) -> (usize, usize, Duration) {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        let mut ends = Vec::new();
        for (text, _) in &asked.blocks {
            hasher.update(text.as_bytes()).update(b"\0block\0");
            bytes += text.len();
            ends.push((hasher.finalize(), bytes / TOKEN));
        }
        let marked: Vec<usize> = (0..ends.len()).filter(|at| asked.blocks[*at].1).collect();
        let looked_at = |at: &usize| marked.iter().any(|mark| at <= mark && mark - at <= LOOK_BACK);
        let found =
            (0..ends.len()).rev().filter(looked_at).find(|at| Shared::is_kept(state, &ends[*at].0, now));
        let read = found.map_or(0, |at| ends[at].1);
        let last = marked.last().map_or(0, |at| ends[*at].1);
        let written = if last >= self.least { last.saturating_sub(read) } else { 0 };
        let first = self.first(asked.tokens() - read);
        for at in marked.into_iter().chain(found) {
            if ends[at].1 >= self.least {
                Shared::keep(state, ends[at].0, now, now + first);
            }
        }
        (read, written, first)
    }

    /// The same by OpenAI's.
    fn cached_steps(
        &self,
        state: &mut State,
        asked: &Asked,
        key: &str,
        now: Instant,
    ) -> (usize, usize, Duration) {
        let text: String = asked.blocks.iter().map(|(text, _)| text.as_str()).collect();
        let bytes = text.as_bytes();
        let start = &bytes[..bytes.len().min(256 * TOKEN)];
        let mut hasher = blake3::Hasher::new();
        hasher.update(key.as_bytes()).update(b"\0").update(start).update(b"\0");
        let mut steps = Vec::new();
        for (n, step) in bytes.chunks_exact(128 * TOKEN).enumerate() {
            hasher.update(step);
            let tokens = (n + 1) * 128;
            if tokens >= self.least {
                steps.push((hasher.finalize(), tokens));
            }
        }
        let found = steps.iter().rev().find(|(digest, _)| Shared::is_kept(state, digest, now));
        let read = found.map_or(0, |(_, tokens)| *tokens);
        let first = self.first(asked.tokens() - read);
        for (digest, _) in steps {
            Shared::keep(state, digest, now, now + first);
        }
        (read, 0, first)
    }
}

/// The next request of a connection: its path and body.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let header = line.trim();
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

fn stream_error(mut stream: &TcpStream, status: u16, message: &str) -> std::io::Result<()> {
    let body = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": message } })
        .to_string();
    write!(
        stream,
        "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
