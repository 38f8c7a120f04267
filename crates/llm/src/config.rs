//! `[models.NAME]`: the server and model, their limits, timeouts and prices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use indexmap::IndexMap;

use planexe_base::by_shape;
use planexe_base::span::Span;

/// A table that keeps the order of the file.
pub type Map<V> = IndexMap<String, V>;

/// The dialect a model speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Chat completions, as OpenAI and every compatible server speak them; `base_url` ends in `/v1`.
    Openai,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's own `/api/chat`.
    Ollama,
    /// A program that takes the prompt on standard input and answers on standard output.
    Command,
    /// Claude Code, started for each call without the user's settings and tools.
    Claude,
    /// Codex, started for each call without the user's settings and tools.
    Codex,
    /// Gemini CLI, started for each call without extensions and tools.
    Gemini,
    /// Answers from a file written by `planexe record`; no server.
    Recorded,
    /// Deterministic generated answers that follow the schema; no server.
    Simulated,
}

impl Api {
    /// Whether it is an agent program.
    pub fn is_agent(self) -> bool {
        matches!(self, Api::Claude | Api::Codex | Api::Gemini)
    }

    /// The name the file uses.
    pub fn name(self) -> &'static str {
        match self {
            Api::Openai => "openai",
            Api::Anthropic => "anthropic",
            Api::Ollama => "ollama",
            Api::Command => "command",
            Api::Claude => "claude",
            Api::Codex => "codex",
            Api::Gemini => "gemini",
            Api::Recorded => "recorded",
            Api::Simulated => "simulated",
        }
    }
}

/// `[models.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The dialect (required, unless the table is an override in a profile).
    pub api: Option<Api>,
    /// The program behind an `openai` endpoint, for its quirks; detected if possible.
    pub server: Option<Server>,
    /// Root of the API, as the vendor's own client wants it (openai, which must have one, with `/v1`, the others without).
    pub base_url: Option<String>,
    /// The model's name as its server knows it.
    pub model: Option<String>,
    /// Name of the environment variable that holds the key; never the key itself. A program gets this variable.
    pub api_key_env: Option<String>,
    /// The server of `[services]` that serves it, started when it is first asked. `{{ node }}` in `base_url` is the host that runs on.
    pub service: Option<String>,
    /// Further HTTP headers; no secrets.
    pub headers: Map<String>,
    /// Calls at once (default 1 on loopback, 8 elsewhere, of a program 2).
    pub max_concurrent: Option<u32>,
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute, prompt and answer together.
    pub tpm: Option<u64>,
    /// Tokens the model can hold, prompt and answer together.
    pub context_window: Option<u64>,
    /// Maximum number of tokens in an answer.
    pub max_output: Option<u64>,
    /// USD per million tokens.
    pub price: Option<Price>,
    /// `openai` and `anthropic`: at which price calls are made (default `now`).
    pub price_mode: Option<PriceMode>,
    /// `openai` and `anthropic`: how the server's cache of prompts is used (default `auto`, not on this machine).
    pub cache: Option<Cache>,
    /// `openai`, `anthropic` and `ollama`: how the schema of an answer is asked for (default `native`).
    pub schemas: Option<SchemaForm>,
    /// `price_mode = "batch"`: how calls are pooled, and how long they are waited for.
    pub batch: Option<BatchTerms>,
    /// How long to wait for each part of a call.
    pub timeouts: CallTimeouts,
    /// How often a failed call is retried, and with which pauses.
    pub retry: Option<Retry>,
    /// `api = "command"`: program and arguments. Of `claude`, `codex` and `gemini`: what starts it, if not its name.
    pub command: Vec<String>,
    /// `claude`, `codex` and `gemini`: tools it may use (default none). Of codex any name allows all, read-only.
    pub tools: Vec<String>,
    /// `api = "recorded"`: the file of answers, relative to the pipeline.
    pub file: Option<String>,
    /// `api = "recorded"`: what to do when the file has no answer for a prompt (default `fail`).
    pub on_miss: Option<OnMiss>,
    /// `recorded` and `simulated`: how long an answer takes.
    pub latency: Option<Span>,
    /// `simulated`: varies the generated answers.
    pub seed: Option<u64>,
    /// `simulated`: shares of calls that fail.
    pub fail: Option<Fail>,
    /// `simulated`: length of a text answer in words.
    pub words: Option<u32>,
}

/// The share of the price that a call in a batch costs.
pub const BATCH_SHARE: f64 = 0.5;

/// At which price calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriceMode {
    /// At the full price, at once.
    Now,
    /// OpenAI's service tier `flex`: half the price, slower, and sometimes refused for a while.
    Flex,
    /// In batches of OpenAI or Anthropic: half the price, an answer within 24 hours.
    Batch,
}

/// `batch = { within = "24h", wait = "6h", gather = "1m", settle = "15m" }`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchTerms {
    /// After so long a batch is cancelled, and what it has not answered is asked online, at the full price (24h).
    pub within: Option<Span>,
    /// How long a build that has nothing else to do waits for its batches; then it ends with exit code 3 (6h).
    pub wait: Option<Span>,
    /// How long calls are gathered while other tasks may add to them (1m).
    pub gather: Option<Span>,
    /// Where it is not known whether a batch was submitted: how long the vendor's list must go without it before its
    /// calls are submitted anew (15m).
    pub settle: Option<Span>,
}

impl Model {
    /// Whether its calls are made in batches.
    pub fn is_batched(&self) -> bool {
        self.price_mode == Some(PriceMode::Batch)
    }

    /// The share of `price` that a call is expected to cost: half of it in a batch. What is flex may be served at the
    /// whole price.
    pub fn expected_share(&self) -> f64 {
        if self.is_batched() { BATCH_SHARE } else { 1.0 }
    }
}

/// How a server's cache of prompts is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Of calls whose prompts begin alike the first goes ahead; the beginning is marked where the server wants that.
    Auto,
    /// The same, and `anthropic` is asked to keep it for an hour, not five minutes: writing it costs twice the input.
    #[serde(rename = "1h")]
    Hour,
    /// Nothing is done for it.
    Off,
}

/// How the schema of an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaForm {
    /// By the server's own means, if it has them.
    Native,
    /// At the end of the prompt, so that prompts with other schemas begin alike for a server's cache.
    Words,
}

/// A program that serves the openai dialect, with its quirks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Server {
    /// api.openai.com
    #[serde(rename = "openai")]
    Openai,
    /// LM Studio
    #[serde(rename = "lmstudio")]
    LmStudio,
    /// llama.cpp's `llama-server`
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// vLLM
    #[serde(rename = "vllm")]
    Vllm,
    /// openrouter.ai
    #[serde(rename = "openrouter")]
    OpenRouter,
    /// LiteLLM's proxy
    #[serde(rename = "litellm")]
    LiteLlm,
    /// Ollama's `/v1` layer
    #[serde(rename = "ollama")]
    Ollama,
    /// Any other compatible server
    #[serde(rename = "other")]
    Other,
}

impl Server {
    /// The name the file uses.
    pub fn name(self) -> &'static str {
        match self {
            Server::Openai => "openai",
            Server::LmStudio => "lmstudio",
            Server::LlamaCpp => "llama.cpp",
            Server::Vllm => "vllm",
            Server::OpenRouter => "openrouter",
            Server::LiteLlm => "litellm",
            Server::Ollama => "ollama",
            Server::Other => "other",
        }
    }
}

/// What a recorded model does when its file has no answer for a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMiss {
    /// The call fails.
    Fail,
    /// The answer recorded for the same task (and item) is used and marked `sample`.
    Task,
}

/// Shares of simulated calls that fail, 0 to 1: a number for server errors, or a table by kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Fail {
    /// Share of calls that end in a server error.
    Error(f64),
    /// Shares by kind.
    Shares(FailShares),
}

/// `fail = { error = 0.1, cut = 0.05 }`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailShares {
    /// Share of calls that end in a server error.
    pub error: f64,
    /// Share of calls whose answer is cut off.
    pub cut: f64,
}

/// USD per million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Per million tokens of the prompt.
    pub input: f64,
    /// Per million tokens of the answer.
    pub output: f64,
    /// Per million prompt tokens that the server read from its cache; default: `input`.
    pub cached: Option<f64>,
    /// Per million prompt tokens that the server wrote to its cache; default: `input`.
    pub cache_write: Option<f64>,
}

impl Price {
    /// USD of so many tokens of a prompt of which none is cached, and of an answer.
    pub fn uncached(&self, input: u64, output: u64) -> f64 {
        (input as f64 * self.input + output as f64 * self.output) / 1e6
    }
}

/// `timeouts = { connect = "5s", first_token = "5m", idle = "90s", total = "30m" }`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallTimeouts {
    /// Until the connection is made (default 10s, on this machine 5s).
    pub connect: Option<Span>,
    /// From the request to the first content: loading and reading the prompt (default 5m, on this machine 20m).
    pub first_token: Option<Span>,
    /// Between two pieces of content; keep-alives do not count (default 1m, on this machine 2m).
    pub idle: Option<Span>,
    /// The whole call (default 30m, on this machine no limit, of a program 1h).
    pub total: Option<Span>,
}

/// `retry = { max_attempts = 4, base = "1s", max = "60s" }`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first included (default 4).
    pub max_attempts: Option<u32>,
    /// First pause; each further one doubles it (default 1s).
    pub base: Option<Span>,
    /// Longest pause (default 60s).
    pub max: Option<Span>,
    /// How long to wait for a server that is away or loading (default 10m), and at most for a rate limit (default 15m if
    /// another model could answer, else 6h); no attempt is used.
    pub wait: Option<Span>,
}

by_shape!(Fail, "a share from 0 to 1 or a table `{ error = …, cut = … }`", table Fail::Shares, number Fail::Error);
