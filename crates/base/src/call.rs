//! What every call has: what it used, and the class of its failure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Tokens and money of one call or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Answer tokens, reasoning included.
    pub output_tokens: u64,
    /// Of the prompt tokens, those the server had cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the prompt tokens, those the server put into its cache, where it tells.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Of the answer tokens, those spent on reasoning.
    #[serde(default)]
    pub thinking_tokens: u64,
    /// USD, by the model's price table or the server's own figure.
    #[serde(default)]
    pub cost_usd: f64,
    /// Calls.
    #[serde(default)]
    pub calls: u64,
}

impl Usage {
    /// Adds another's figures.
    pub fn add(&mut self, other: &Usage) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.thinking_tokens += other.thinking_tokens;
        self.cost_usd += other.cost_usd;
        self.calls += other.calls;
    }

    /// One call's figures as far as they can be true: a server, or a file, may tell anything, and all of it is
    /// summed up.
    pub fn believed(mut self) -> Usage {
        const TOKENS: u64 = 1_000_000_000_000;
        const USD: f64 = 1e9;
        for tokens in [
            &mut self.input_tokens,
            &mut self.output_tokens,
            &mut self.cached_tokens,
            &mut self.cache_write_tokens,
            &mut self.thinking_tokens,
        ] {
            *tokens = (*tokens).min(TOKENS);
        }
        if !(0.0..=USD).contains(&self.cost_usd) {
            self.cost_usd = 0.0;
        }
        self
    }
}

/// The kind of a failure, which decides what happens next. Closed: every status, body code and
/// transport error maps to one of these in `planexe_llm::classify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The server is loading the model or not up yet (local); hold, no attempt used.
    ServerLoading,
    /// 429 or a full queue that passes by itself; hold for `retry_after`, no attempt used.
    RateLimit,
    /// 5xx, overloaded.
    ServerError,
    /// DNS, connect, reset, broken pipe before any content.
    Connection,
    /// Content came, then the stream ended without its terminal marker.
    Cut,
    /// A clock ran out: connect, first token, idle or total (named in the message).
    Timeout,
    /// Whole, but no content.
    EmptyResponse,
    /// Ended by `length`: the answer is not whole.
    Truncated,
    /// Whitespace or repetition loop, or reasoning without an answer; stopped early.
    Degenerate,
    /// The prompt does not fit the model's context, known before or said by the server.
    ContextOverflow,
    /// The server read fewer prompt tokens than were sent.
    PromptTruncated,
    /// The answer is not valid JSON, or fails schema or checks.
    Validation,
    /// The model refused, or a content filter did.
    Refusal,
    /// 401 or 403: key missing, wrong or not allowed.
    Auth,
    /// Money or quota is used up.
    Quota,
    /// No such model at that server.
    ModelNotFound,
    /// 400, 405, 413, 422: the request itself is not accepted.
    BadRequest,
    /// TLS, bad URL, redirect: the set-up is wrong.
    Config,
    /// The answer is larger than the cap, or not valid UTF-8.
    BadData,
    /// `recorded` has no answer for the prompt.
    NotRecorded,
    /// Stopped by us: Ctrl-C, abort, the build's end.
    Cancelled,
}

impl Class {
    /// The name used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Class::ServerLoading => "server_loading",
            Class::RateLimit => "rate_limit",
            Class::ServerError => "server_error",
            Class::Connection => "connection",
            Class::Cut => "cut",
            Class::Timeout => "timeout",
            Class::EmptyResponse => "empty_response",
            Class::Truncated => "truncated",
            Class::Degenerate => "degenerate",
            Class::ContextOverflow => "context_overflow",
            Class::PromptTruncated => "prompt_truncated",
            Class::Validation => "validation",
            Class::Refusal => "refusal",
            Class::Auth => "auth",
            Class::Quota => "quota",
            Class::ModelNotFound => "model_not_found",
            Class::BadRequest => "bad_request",
            Class::Config => "config",
            Class::BadData => "bad_data",
            Class::NotRecorded => "not_recorded",
            Class::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
