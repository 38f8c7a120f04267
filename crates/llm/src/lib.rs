//! One call to one model: what is sent, what comes back, and what can go wrong.
//!
//! A [`Provider`] speaks one dialect to one endpoint. It knows no task graph, no file of the run and
//! no retry: it makes one attempt and reports a [`Reply`] that is proved whole, or a [`CallError`]
//! with a [`Class`] that [`retry`] turns into what to do next.
//!
//! ```text
//! provider() ─> openai | anthropic | ollama ─> http (one attempt, its clocks) ─> stream (lines, events)
//!            ├> agent ─> command (a program, its clocks)
//!            └> command | recorded | simulated            both ─> whole (what makes a reply one)
//! pure, for whoever drives the calls: classify, retry_after, retry, limits, estimate, degenerate, structured
//! ```

pub mod agent;
pub mod anthropic;
pub mod attachment;
pub mod batches;
pub mod cache;
pub mod ceiling;
pub mod classify;
pub mod command;
pub mod config;
pub mod degenerate;
pub mod estimate;
mod http;
pub mod keys;
pub mod loopback;
pub mod ollama;
pub mod openai;
pub mod probe;
pub mod proxy;
pub mod recorded;
pub mod relay;
pub mod reset;
pub mod retry;
pub mod retry_after;
pub mod rng;
mod shape;
pub mod simulated;
mod stream;
pub mod structured;
mod watchdog;
mod whole;

#[cfg(test)]
mod wire_tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attachment::Attachment;
use crate::config::{Api, Model};
use crate::keys::{KeyRing, Secret, Site};
use planexe_base::cancel::Cancel;
use planexe_base::limits::Limits;
use planexe_base::message::Message;
use planexe_base::prefix::Division;
use planexe_base::process::Lifeline;
use planexe_base::record::Digest;

pub use planexe_base::call::Usage;
pub use planexe_base::failure_class::Class;
pub use planexe_base::limits;
pub use probe::Health;
#[doc(hidden)]
pub use stream::events_of;
pub use whole::cost;

/// What is asked of a model.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Task name, for `recorded`'s fallback and `simulated`'s seed; never sent.
    pub task: String,
    /// Item key of a fan-out instance; never sent.
    pub key: Option<String>,
    /// System prompt; empty for none.
    pub system: String,
    /// The rendered prompt.
    pub prompt: String,
    /// Images and PDFs that go with the prompt, in order.
    pub files: Arc<[Attachment]>,
    /// Earlier answers that were rejected, each with what was wrong, oldest first.
    pub rejected: Vec<Rejected>,
    /// JSON Schema the answer must satisfy.
    pub schema: Option<Value>,
    /// Sampling parameters (`temperature`, `top_p`, `max_tokens`, `seed`, …).
    pub params: Map<String, Value>,
    /// Fields added to the body as they are.
    pub params_extra: Map<String, Value>,
    /// Tools an agent may use for it, in place of those of its table.
    pub tools: Option<Vec<String>>,
    /// How the prompt is divided, so that a server's cache is used; the text is the same.
    pub division: Division,
    /// What the answer is held against, so that `simulated` can make up one that passes; never sent.
    pub check: Option<Arc<dyn Adjust>>,
}

/// Makes a made-up answer one that passes its task's checks.
pub trait Adjust: fmt::Debug + Send + Sync {
    /// Changes the value in place; `pick` draws a number below the one it is given.
    fn adjust(&self, value: &mut Value, pick: &mut dyn FnMut(usize) -> usize);
}

/// An answer that did not pass, and the feedback the next ask carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// The answer as it arrived.
    pub answer: String,
    /// What was wrong, in words for the model.
    pub feedback: String,
}

/// A whole answer: its terminal marker was seen, its finish reason was a stop, its content is not empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The answer's text, reasoning excluded.
    pub text: String,
    /// Reasoning the server sent apart from the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// The tokens and money that the server reported for it.
    pub usage: Usage,
    /// The model the server says answered.
    pub model: Option<String>,
    /// The server's finish reason.
    pub finish: Option<String>,
    /// The server's id of the call.
    pub id: Option<String>,
    /// True if this is a recorded answer to another prompt of the same task.
    #[serde(default)]
    pub sample: bool,
    /// Seconds from the request to the first content.
    pub first_token_s: Option<f64>,
    /// Seconds of the whole call.
    pub duration_s: f64,
}

/// The `code` of a connection that was never made: nothing was sent, so nothing was paid.
pub const UNREACHABLE: &str = "unreachable";

/// The `code` of an answer that is empty after reasoning.
pub const ONLY_REASONING: &str = "only_reasoning";

/// A call that gave no whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallError {
    /// What kind of failure it is.
    pub class: Class,
    /// For people: what was found, what was wanted.
    pub message: Message,
    /// HTTP status, if one came.
    pub status: Option<u16>,
    /// The server's own error code or type, as text.
    pub code: Option<String>,
    /// How long the server asks us to wait, at least.
    pub retry_after: Option<Duration>,
    /// Whether the server says itself that the same request may pass (`x-should-retry`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub should_retry: Option<bool>,
    /// The server refused the form of the request, and the next one will have another: asked again at once,
    /// no attempt used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adapted: bool,
    /// Answer text that had arrived, kept beside the failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub partial: String,
    /// The body of the error as it arrived, capped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raw: String,
    /// Tokens that were spent all the same, as far as known.
    #[serde(default)]
    pub usage: Usage,
}

impl CallError {
    /// An error of a class with a message, nothing else known.
    pub fn new(class: Class, message: impl Into<Message>) -> CallError {
        CallError {
            class,
            message: message.into(),
            status: None,
            code: None,
            retry_after: None,
            should_retry: None,
            adapted: false,
            partial: String::new(),
            raw: String::new(),
            usage: Usage::default(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message.text)
    }
}

impl std::error::Error for CallError {}

/// What a call is doing, readable from another thread while it runs.
#[derive(Debug, Default)]
pub struct CallProgress {
    /// 0 waiting to connect, 1 request sent (reading the prompt), 2 writing.
    phase: AtomicU64,
    /// Pieces of content so far: close to tokens.
    tokens: AtomicU64,
    /// Bytes of content so far.
    bytes: AtomicU64,
    /// Prompt tokens read so far and in all, from servers that tell.
    prefill: [AtomicU64; 2],
    /// The answer's text that nobody has taken yet.
    text: Mutex<String>,
}

impl CallProgress {
    /// The request is out.
    pub fn sent(&self) {
        self.phase.fetch_max(1, Ordering::Relaxed);
    }

    /// A piece of content arrived.
    pub fn content(&self, bytes: usize) {
        self.pieces(1, bytes);
    }

    /// Some pieces arrived at once.
    pub fn pieces(&self, pieces: u64, bytes: usize) {
        self.phase.fetch_max(2, Ordering::Relaxed);
        self.tokens.fetch_add(pieces, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A piece of the answer's text arrived.
    pub fn wrote(&self, piece: &str) {
        self.content(piece.len());
        self.keep(piece);
    }

    /// Keeps text, counted already, for whoever follows the answer as it is written.
    pub fn keep(&self, piece: &str) {
        self.text.lock().push_str(piece);
    }

    /// The text that arrived since this was last asked.
    pub fn take_text(&self) -> String {
        std::mem::take(&mut *self.text.lock())
    }

    /// The server says how many prompt tokens it has read, and of how many.
    pub fn reading(&self, read: u64, of: u64) {
        self.prefill[0].store(read, Ordering::Relaxed);
        self.prefill[1].store(of, Ordering::Relaxed);
    }

    /// (prompt tokens read, prompt tokens in all); zeros from servers that do not tell.
    pub fn prefill(&self) -> (u64, u64) {
        (self.prefill[0].load(Ordering::Relaxed), self.prefill[1].load(Ordering::Relaxed))
    }

    /// (phase, pieces, bytes) so far.
    pub fn snapshot(&self) -> (u64, u64, u64) {
        (
            self.phase.load(Ordering::Relaxed),
            self.tokens.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// How one call is watched from outside: its progress, a way to cancel it, an upper bound in time.
pub struct CallContext<'a> {
    /// Raised when the call is to be given up at once.
    pub cancel: &'a Cancel,
    /// Where progress is counted.
    pub progress: &'a CallProgress,
    /// What is left of the task's own time limit.
    pub time_left: Option<Duration>,
}

/// One endpoint that answers prompts.
pub trait Provider: Send + Sync {
    /// Makes one attempt: a reply that is proved whole, or an error with its class. No retries.
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError>;

    /// Whether the server behind it is up, asked briefly (at most a few seconds); what a wait for a
    /// loading server polls.
    fn health(&self) -> Health {
        Health::Unknown
    }

    /// Tokens of a request's prompt by the server's own count, asked briefly; None where it does not count.
    fn count_tokens(&self, _request: &Request) -> Option<u64> {
        None
    }

    /// Whether the server behind it is at work on some call, asked briefly; None where it does not tell.
    fn is_busy(&self) -> Option<bool> {
        None
    }

    /// How its calls are made in batches; none where its server has none.
    fn batches(&self) -> Option<&dyn batches::Batches> {
        None
    }

    /// The recorded answer to a call that a task's own program makes, found by [`relay::digest`]; none where nothing is
    /// recorded.
    fn relayed(&self, _request: &Request, _digest: &str) -> Option<(relay::Wire, Usage)> {
        None
    }

    /// What was learned about the model's tokenizer, to be kept for the next build.
    fn calibration(&self) -> Option<estimate::Calibration> {
        None
    }
}

/// Whether calls go to this machine: `localhost`, `127.0.0.0/8`, `::1` and the unspecified addresses.
/// A local server is waited for, gets longer clocks and one call at a time.
pub fn is_local(base_url: &str) -> bool {
    Site::of(base_url).is_ok_and(|site| site.is_loopback())
}

/// Calls at once for a model that does not say: 1 on loopback, 8 elsewhere, 2 programs (each may be an
/// agent of some weight), 64 where there is no server (`recorded`, `simulated`).
///
/// Of a model that is asked in batches it is the calls that are in batches at once: 1,000.
pub fn default_concurrency(model: &Model) -> u32 {
    let pooled = if model.is_batched() { Some(POOLED) } else { None };
    model.max_concurrent.or(pooled).unwrap_or_else(|| concurrency_online(model))
}

/// Calls in batches at once, where the table says nothing.
const POOLED: u32 = 1000;

/// Calls at once that are made one by one, where the table says nothing.
pub fn concurrency_online(model: &Model) -> u32 {
    match model.api {
        Some(Api::Recorded | Api::Simulated) => 64,
        Some(Api::Command | Api::Claude | Api::Codex | Api::Gemini) => 2,
        _ if is_local(base_url(model)) => 1,
        _ => 8,
    }
}

/// The limits of a model's endpoint: what its table says, with the defaults.
pub fn limits_of(model: &Model) -> Limits {
    let max_concurrent = default_concurrency(model).max(1);
    if model.is_batched() {
        // What is pooled is no request yet.
        return Limits { max_concurrent, rpm: None, tpm: None, local: false };
    }
    Limits { max_concurrent, rpm: model.rpm, tpm: model.tpm, local: is_local(base_url(model)) }
}

/// Where a model's calls go: its `base_url`, or its dialect's usual one.
pub fn base_url(model: &Model) -> &str {
    match (&model.base_url, model.api) {
        (Some(url), _) => url,
        (None, Some(Api::Anthropic)) => "https://api.anthropic.com",
        (None, Some(Api::Ollama)) => "http://127.0.0.1:11434",
        (None, Some(Api::Openai)) => "https://api.openai.com/v1",
        (None, _) => "",
    }
}

/// The digest by which a recorded answer is found: blake3, as 64 hex digits, over system prompt, prompt
/// and the schema's JSON text with sorted keys, each preceded by its length as eight little-endian
/// bytes; without a schema the third length is all ones.
pub fn prompt_digest(system: &str, prompt: &str, schema: Option<&Value>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(system.as_bytes());
    part(prompt.as_bytes());
    match schema {
        Some(schema) => part(structured::canonical(schema).as_bytes()),
        None => {
            hasher.update(&u64::MAX.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// [`prompt_digest`] of a prompt with files: their digests count too, in order. Without files it is the same.
pub fn digest_with<'a>(
    system: &str,
    prompt: &str,
    schema: Option<&Value>,
    files: impl IntoIterator<Item = &'a Digest>,
) -> String {
    let digest = prompt_digest(system, prompt, schema);
    let mut files = files.into_iter().peekable();
    if files.peek().is_none() {
        return digest;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest.as_bytes());
    for file in files {
        hasher.update(file.0.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

impl Request {
    /// What stands in the prompt in place of a schema that is not asked for natively.
    fn schema_in_words(&self, few: bool) -> Option<String> {
        let words = |schema| match few {
            true => structured::in_few_words(schema, &self.prompt),
            false => structured::in_words(schema),
        };
        self.schema.as_ref().map(words)
    }

    /// What a recorded answer to it is found by.
    pub fn digest(&self) -> String {
        let files = self.files.iter().map(|file| &file.digest);
        digest_with(&self.system, &self.prompt, self.schema.as_ref(), files)
    }
}

/// The name under which a task's evaluator asks.
pub fn evaluation_of(task: &str) -> String {
    format!("{task}:eval")
}

/// Whether it is a task's evaluator that asks.
pub fn is_evaluation(task: &str) -> bool {
    task.ends_with(":eval")
}

/// What a provider is built from, beside its table.
pub struct Setup<'a> {
    /// The name tasks call the model by.
    pub name: &'a str,
    /// The pipeline's folder: `recorded` files are relative to it, and commands run in it.
    pub folder: &'a Path,
    /// Which key may go where.
    pub keys: &'a KeyRing,
    /// Ends programs that answer prompts if planexe is killed.
    pub lifeline: &'a Arc<Lifeline>,
    /// What an earlier build learned about the model's tokenizer.
    pub calibration: Option<estimate::Calibration>,
    /// What the calls of the build may come to.
    pub ceiling: Option<&'a Arc<ceiling::Ceiling>>,
}

/// Builds the provider of one `[models.NAME]`. It is wrapped so that a prompt that cannot fit is refused
/// before it is sent, and an answer to a prompt that was cut on the way is refused after.
///
/// Errors are faults of the set-up: a table without `api`, a URL that is none, a key that may not go
/// there ([`Class::Auth`]), a recorded file that cannot be read. `raw` is empty, `message` says what to do.
pub fn provider(model: &Model, setup: &Setup<'_>) -> Result<Box<dyn Provider>, CallError> {
    let fault = |class, message: String| CallError::new(class, format!("models.{}: {message}", setup.name));
    let inner: Box<dyn Provider> = match model.api {
        Some(Api::Openai) => Box::new(openai::OpenAi::new(http::Endpoint::new(model, setup)?, model)),
        Some(Api::Anthropic) => {
            Box::new(anthropic::Anthropic::new(http::Endpoint::new(model, setup)?, model))
        }
        Some(Api::Ollama) => Box::new(ollama::Ollama::new(http::Endpoint::new(model, setup)?, model)),
        Some(Api::Command) => Box::new(command::Command::new(model, setup)?),
        Some(Api::Claude) => Box::new(agent::Agent::new(agent::Kind::Claude, model, setup)?),
        Some(Api::Codex) => Box::new(agent::Agent::new(agent::Kind::Codex, model, setup)?),
        Some(Api::Gemini) => Box::new(agent::Agent::new(agent::Kind::Gemini, model, setup)?),
        // No server: nothing to protect, and a made-up count would only mislead.
        Some(Api::Recorded) => return Ok(Box::new(recorded::Recorded::new(model, setup)?)),
        Some(Api::Simulated) => return Ok(Box::new(simulated::Simulated::new(model))),
        None => return Err(fault(Class::Config, "`api` is missing".into())),
    };
    Ok(Box::new(estimate::Checked::new(inner, model, setup.calibration, setup.ceiling.cloned())))
}

/// What may be shown and kept of a server's text: no control characters but line ends and tabs, at most
/// `max` characters, the known key replaced.
fn tidy(text: &str, max: usize, secret: Option<&Secret>) -> String {
    let text = match secret {
        Some(secret) => secret.redact(text),
        None => text.into(),
    };
    let mut tidy = String::new();
    for (count, character) in text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).enumerate()
    {
        if count == max {
            tidy.push('…');
            break;
        }
        tidy.push(character);
    }
    tidy
}

/// A server's text on one line of at most 300 characters.
fn one_line(text: &str, secret: Option<&Secret>) -> String {
    tidy(&text.split_whitespace().collect::<Vec<_>>().join(" "), 300, secret)
}
