//! The tables of `pipeline.toml` as plain data: what every key is called, what it holds, its default.
//!
//! These types know no places in a file and read no file: [`super::read`] fills them from TOML and
//! reports every fault with its line. The JSON Schema shipped for editors is generated from them,
//! so each doc comment below is also what an editor shows for the key.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A table that keeps the order of the file.
pub type Map<V> = IndexMap<String, V>;

/// Everything a `pipeline.toml` may hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "planexe pipeline", extend("$id" = "pipeline.schema.json"))]
pub struct Tables {
    /// Name, version and defaults of the pipeline as a whole.
    pub pipeline: Pipeline,
    /// Values for `{{ vars.NAME }}` in prompts, templates and paths; `-D NAME=VALUE` overrides one.
    pub vars: Map<Value>,
    /// Models by the name tasks call them.
    pub models: Map<Model>,
    /// What a task gets when it does not say.
    pub defaults: Defaults,
    /// Time limits by task name; `default` is for all others.
    pub timeouts: Map<Span>,
    /// Named pools and how many tasks of each may run at once.
    pub pools: Map<u32>,
    /// Limits after which a build starts no further call.
    pub budget: Budget,
    /// Receivers of events over HTTP.
    pub webhooks: Map<Webhook>,
    /// Local programs run on events, the event as JSON on standard input.
    pub hooks: Hooks,
    /// What makes a task stale.
    pub staleness: Staleness,
    /// Named overrides of `models`, `defaults` and `vars`, chosen by `--profile`.
    pub profiles: Map<Profile>,
    /// Whether calls take part in make's jobserver.
    pub jobserver: Jobserver,
    /// How `planexe optimize` tries prompts.
    pub optimize: Optimize,
    /// Tiers of models, from the smallest up, for tasks that say how hard they are instead of which model they ask.
    pub tiers: Map<Tier>,
    /// git as the record of what was done.
    pub git: Git,
    /// Where the commits of isolated tasks go, for all that do not say.
    pub isolation: Isolation,
    /// Other names on the command line: each means a task, or the task that writes an output; one with
    /// `{{ number }}` in it the item of a fan-out by its place, counted from 1.
    pub aliases: Map<String>,
    /// The tasks, by name.
    pub task: Map<Box<Task>>,
}

/// `[pipeline]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// Name of the pipeline; the folder's name if left out.
    pub name: Option<String>,
    /// Version of the pipeline, for people; it makes nothing stale.
    pub version: Option<String>,
    /// Version of this file format; 1 if left out.
    pub schema: Option<u32>,
    /// The input that `planexe edit-plan` edits.
    pub plan: Option<String>,
    /// When which task is planned, for `planexe gantt`: a JSON file of the pipeline. It makes nothing stale.
    pub schedule: Option<String>,
    /// Tasks (or outputs) a bare `planexe build` makes; all tasks if left out.
    pub default: Vec<String>,
    /// Whether a line of a prompt or template that holds only a block tag (`{% … %}`) leaves nothing
    /// behind: Jinja's `trim_blocks` and `lstrip_blocks`.
    pub trim_blocks: bool,
    /// Further files to read, relative to this one; globs allowed.
    pub include: Vec<String>,
}

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
    /// Answers from a file written by `planexe record`; no server.
    Recorded,
    /// Deterministic made-up answers shaped by the schema; no server.
    Simulated,
}

impl Api {
    /// The name the file uses.
    pub fn name(self) -> &'static str {
        match self {
            Api::Openai => "openai",
            Api::Anthropic => "anthropic",
            Api::Ollama => "ollama",
            Api::Command => "command",
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
    /// Which program serves an `openai` endpoint, for its quirks; detected where it can be.
    pub server: Option<Server>,
    /// Root of the API, as the vendor's own client wants it (openai with `/v1`, the others without).
    pub base_url: Option<String>,
    /// The model's name as its server knows it.
    pub model: Option<String>,
    /// Name of the environment variable that holds the key; never the key itself.
    pub api_key_env: Option<String>,
    /// Further HTTP headers; no secrets.
    pub headers: Map<String>,
    /// Calls at once (default 1 on loopback, 8 elsewhere).
    pub max_concurrent: Option<u32>,
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute, prompt and answer together.
    pub tpm: Option<u64>,
    /// Tokens the model can hold, prompt and answer together.
    pub context_window: Option<u64>,
    /// Most tokens it may answer with.
    pub max_output: Option<u64>,
    /// USD per million tokens.
    pub price: Option<Price>,
    /// How long to wait for each part of a call.
    pub timeouts: CallTimeouts,
    /// How often and how patiently a failed call is tried again.
    pub retry: Option<Retry>,
    /// `api = "command"`: program and arguments.
    pub command: Vec<String>,
    /// `api = "recorded"`: the file of answers, relative to the pipeline.
    pub file: Option<String>,
    /// `api = "recorded"`: what to do when the file has no answer for a prompt (default `fail`).
    pub on_miss: Option<OnMiss>,
    /// `recorded` and `simulated`: how long an answer takes.
    pub latency: Option<Span>,
    /// `simulated`: varies the made-up answers.
    pub seed: Option<u64>,
    /// `simulated`: shares of calls that go wrong.
    pub fail: Option<Fail>,
    /// `simulated`: length of a text answer in words.
    pub words: Option<u32>,
}

/// A program that serves the openai dialect with manners of its own.
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

/// Shares of simulated calls that go wrong, 0 to 1: a number for errors, or a table.
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
}

/// `timeouts = { connect = "5s", first_token = "5m", idle = "90s", total = "30m" }`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallTimeouts {
    /// Until the connection stands.
    pub connect: Option<Span>,
    /// From the request to the first content: loading and reading the prompt.
    pub first_token: Option<Span>,
    /// Between two pieces of content; keep-alives do not count.
    pub idle: Option<Span>,
    /// The whole call.
    pub total: Option<Span>,
}

/// `retry = { max_attempts = 4, base = "1s", max = "60s" }`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first included.
    pub max_attempts: Option<u32>,
    /// First pause; each further one doubles it.
    pub base: Option<Span>,
    /// Longest pause.
    pub max: Option<Span>,
    /// How long a server that is away, or loading its model, is waited for (10m); no attempt is used.
    pub wait: Option<Span>,
}

/// `[defaults]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// A model, or a list in order of fallback.
    pub model: Option<OneOrMany>,
    /// Time limit of a task.
    pub timeout: Option<Span>,
    /// Time without any progress after which a task counts as stalled.
    pub stall_timeout: Option<Span>,
    /// Sampling parameters of every prompt task.
    pub params: Map<Value>,
    /// System prompt of every prompt task that names none.
    pub system: Option<String>,
    /// How often an invalid answer is asked for again (default 2).
    pub max_validation_retries: Option<u32>,
}

/// `[budget]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// USD.
    pub cost: Option<f64>,
    /// Tokens, prompts and answers together.
    pub tokens: Option<u64>,
    /// Wall time of the build.
    pub time: Option<Span>,
}

/// `[webhooks.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Where to post. A URL that is itself a secret belongs in `url_env`.
    pub url: Option<String>,
    /// Name of the environment variable that holds the URL.
    pub url_env: Option<String>,
    /// Shape of the message; guessed from the URL if left out.
    pub format: Option<WebhookFormat>,
    /// Name of the environment variable that holds the signing secret (`whsec_…`).
    pub secret_env: Option<String>,
    /// Events to send; all if left out.
    pub events: Vec<String>,
}

/// Shape of a webhook's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// planexe's own payload, signed by Standard Webhooks when a secret is set.
    Json,
    /// A Discord webhook.
    Discord,
    /// A Slack incoming webhook.
    Slack,
}

/// `[hooks]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Run when a task starts.
    pub on_started: Vec<String>,
    /// Run when a task is done.
    pub on_completed: Vec<String>,
    /// Run when a task fails.
    pub on_failed: Vec<String>,
    /// Run when the build ends.
    pub on_finished: Vec<String>,
}

/// `[staleness]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Staleness {
    /// `content` (default), or `mtime` for make's rule.
    pub by: By,
    /// Whether another model or other parameters make a task stale.
    pub model: bool,
}

/// What decides whether an input changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Its bytes.
    #[default]
    Content,
    /// Its modification time against the outputs', as make does.
    Mtime,
}

/// `[profiles.NAME]`: what it names replaces the same key of the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// What the profile is for.
    pub description: Option<String>,
    /// Overrides of models, key by key; a new name adds a model.
    pub models: Map<Model>,
    /// Overrides of `[defaults]`.
    pub defaults: Defaults,
    /// Overrides of `[vars]`.
    pub vars: Map<Value>,
}

/// `[jobserver]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Jobserver {
    /// Whether a call takes a token of make's jobserver too (a call uses no core).
    pub calls: bool,
}

/// `[tiers.NAME]`: models for tasks up to a complexity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tier {
    /// A model, or a list in order of fallback; those of the tiers above follow.
    pub model: Option<OneOrMany>,
    /// The largest sum of a task's four marks that it takes (default 20: all).
    pub up_to: Option<u32>,
}

/// `complexity = { reasoning = 3, domain = 2, context = 4, output = 1 }`: how hard a task is, four marks from 1 (easy) to 5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Complexity {
    /// Steps of thought from the inputs to the answer.
    pub reasoning: u32,
    /// Knowledge of a field that the inputs do not give.
    pub domain: u32,
    /// How much of the inputs has to be kept in mind at once.
    pub context: u32,
    /// How long, and how strict in its form, the answer is.
    pub output: u32,
}

/// `[optimize]`: how `planexe optimize` tries prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Optimize {
    /// What the mean score must gain for a text to be kept (default 0.02).
    pub margin: Option<f64>,
    /// What the score may lose on any one reference run (default 0.05).
    pub max_drop: Option<f64>,
    /// So many draws of each text on each reference run (default 1). With more than one the spread is known, and a
    /// difference that may be noise keeps nobody.
    pub samples: Option<u32>,
    /// How texts are compared: `scores` of the task's evaluator, or `pairwise`: a judge is shown the answers two by two.
    pub compare: Compare,
    /// What the judge is asked: a file of the pipeline, or inline text (minijinja). It sees the task's inputs, and the
    /// answers as `first` and `second`.
    pub judge: Option<String>,
    /// The judge's model, or a list in order of fallback (default: the evaluator's, else that of `[defaults]`).
    pub judge_model: Option<OneOrMany>,
    /// Sampling parameters of the judge (`temperature`, `max_tokens`, …).
    pub judge_params: Option<Map<Value>>,
    /// What a model is asked that writes a new text: a file of the pipeline, or inline text (minijinja). It sees `brief`.
    pub propose: Option<String>,
    /// The model that writes new texts, or a list in order of fallback (default: that of `[defaults]`).
    pub propose_model: Option<OneOrMany>,
}

/// How texts are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// By the scores the task's evaluator gives.
    #[default]
    Scores,
    /// Two by two, by a judge that is shown both answers in both orders.
    Pairwise,
}

/// `[git]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Git {
    /// Whether what a task made is committed once it is done, in the repository the run lies in: one commit a task. A
    /// build never fails for it.
    pub commit_on_done: bool,
}

/// `[task.NAME]`: what one task reads, writes and does. It has one recipe: `prompt`, `command`,
/// `template`, `gate`, `human`, or none (a group).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// What the task is for, for people.
    pub description: Option<String>,
    /// Files it reads: a table of names, or a list; globs allowed, which pass over hidden files as a shell's do; relative
    /// to the run directory.
    pub inputs: Inputs,
    /// Files it writes, relative to the run directory.
    pub outputs: Vec<Output>,
    /// Tasks to be done before it, though it reads none of their outputs.
    pub after: Vec<String>,
    /// One instance per item of a list.
    pub foreach: Option<Box<Foreach>>,
    /// Share of instances that must succeed (default 1.0); those that are skipped are not counted.
    pub min_success: Option<f64>,
    /// Instances run in order, each given the former one's answer as `{{ previous }}`.
    pub sequential: bool,
    /// A condition, `"{{ … }}"`; when it is false the task is skipped.
    pub when: Option<String>,
    /// Inputs (by name or path) that may be absent or skipped.
    pub optional: Vec<String>,
    /// Time limit of the whole task, calls and retries; waiting for a slot is not counted.
    pub timeout: Option<Span>,
    /// Time without any progress after which the task fails as stalled.
    pub stall_timeout: Option<Span>,
    /// How often and how patiently a failure that may pass is tried again.
    pub retry: Option<Box<Retry>>,
    /// Higher starts first among ready tasks.
    pub priority: i32,
    /// A pool of `[pools]` that bounds how many such tasks run at once.
    pub pool: Option<String>,
    /// A model of `[models]`, or a list in order of fallback.
    pub model: Option<OneOrMany>,
    /// How hard it is, instead of `model`: the first tier of `[tiers]` that takes the sum says which models are asked.
    pub complexity: Option<Box<Complexity>>,
    /// A tier of `[tiers]`, instead of `model`.
    pub tier: Option<String>,
    /// Sampling parameters (`temperature`, `max_tokens`, …).
    pub params: Option<Box<Map<Value>>>,
    /// Fields added to the request as they are.
    pub params_extra: Option<Box<Map<Value>>>,
    /// System prompt: a file of the pipeline, or inline text.
    pub system: Option<String>,
    /// Prompt: a file of the pipeline, or inline text (minijinja).
    pub prompt: Option<String>,
    /// JSON Schema of the answer: a file of the pipeline.
    pub schema: Option<String>,
    /// What the answer must satisfy beyond its schema; of a `human` task what the person writes.
    pub check: Option<Box<Check>>,
    /// How often an invalid answer is asked for again (default 2).
    pub max_validation_retries: Option<u32>,
    /// A template over the inputs makes the first output: a file of the pipeline, or inline text.
    pub template: Option<String>,
    /// A program and its arguments, or a line for `sh -c`. It runs in the run directory; a program named by a relative
    /// path is looked for there, then in the pipeline's folder, which is in the variable PLANEXE_PIPELINE_DIR.
    pub command: Option<Command>,
    /// The command's standard output becomes the first output.
    pub stdout: bool,
    /// The command updates its outputs where they are, instead of writing new ones.
    pub in_place: bool,
    /// Working directory of the command, relative to the run directory.
    pub cwd: Option<String>,
    /// Environment variables whose values count as input (names), or that are set (a table).
    pub env: Option<Box<Env>>,
    /// `agent` for a command that is an AI agent.
    pub kind: Option<Kind>,
    /// The command works in a git worktree of its own, and its commits reach the base branch only when it succeeded:
    /// `true`, or a table. Tasks of one `lane` share a worktree, run one at a time and are merged together.
    pub isolate: Option<Box<Isolate>>,
    /// A condition over the inputs that lets the pipeline go on, warn, stop or pause.
    pub gate: Option<Box<Gate>>,
    /// What a person is asked to do; the task waits until it is done.
    pub human: Option<String>,
    /// Who scores what the task made, and from which score on it is done.
    pub eval: Option<Box<Eval>>,
    /// Rounds in which what the task made is made better, each with the evaluator's notes.
    pub refine: Option<Box<Refine>>,
}

/// `isolate`: a git worktree of its own for a command.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Isolate {
    /// Whether it has one.
    Flag(bool),
    /// One, and how it is shared and merged.
    Lane(Lane),
}

impl Isolate {
    /// What is said of it; none if it is not wanted.
    pub fn wanted(&self) -> Option<Lane> {
        match self {
            Isolate::Flag(false) => None,
            Isolate::Flag(true) => Some(Lane::default()),
            Isolate::Lane(lane) => Some(lane.clone()),
        }
    }
}

/// `isolate = { lane = "ui", base = "main", on_merge_failure = "pause" }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lane {
    /// Tasks of one lane share a worktree and a branch, run one at a time and are merged together (default: a lane of its
    /// own).
    pub lane: Option<String>,
    /// The branch its commits go to (default: that of `[isolation]`, else the branch that is checked out).
    pub base: Option<String>,
    /// What follows if they cannot be merged (default: that of `[isolation]`, else `pause`).
    pub on_merge_failure: Option<OnMergeFailure>,
}

/// `[isolation]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    /// The branch commits of isolated tasks go to (default: the branch that is checked out when the build begins).
    pub base: Option<String>,
    /// What follows if they cannot be merged (default `pause`).
    pub on_merge_failure: Option<OnMergeFailure>,
}

/// What follows if the commits of an isolated task cannot be merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMergeFailure {
    /// The task waits until a person has merged it.
    #[default]
    Pause,
    /// The task fails, and the run is given up.
    Abort,
}

/// Inputs of a task: a table of names, or a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Inputs {
    /// Paths or globs; each is named by its stem.
    List(Vec<String>),
    /// Paths or globs by the name templates use.
    Table(Map<String>),
}

impl Default for Inputs {
    fn default() -> Self {
        Inputs::List(Vec::new())
    }
}

/// An output: a path, or a path rendered from the answer by a template.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Output {
    /// A path.
    Path(String),
    /// A path and the template that makes it.
    Rendered(RenderedOutput),
}

/// `{ path = "swot.md", template = "templates/swot.md.j2" }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderedOutput {
    /// Where it is written, relative to the run directory.
    pub path: String,
    /// The template that renders it from `{{ answer }}` and the inputs.
    pub template: Option<String>,
}

impl Output {
    /// The path, as written.
    pub fn path(&self) -> &str {
        match self {
            Output::Path(path) => path,
            Output::Rendered(rendered) => &rendered.path,
        }
    }

    /// The template, if it has one.
    pub fn template(&self) -> Option<&str> {
        match self {
            Output::Path(_) => None,
            Output::Rendered(rendered) => rendered.template.as_deref(),
        }
    }
}

/// `foreach = { file = "experts.json", items = "/experts", key = "name" }` or `{ glob = "docs/*.txt" }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Foreach {
    /// A JSON file whose items the task runs over.
    pub file: Option<String>,
    /// JSON pointer of the list in it; `*` stands for every element; the whole file if left out.
    pub items: Option<String>,
    /// Member of an item that names it; a digest of the item if left out.
    pub key: Option<String>,
    /// Files to run over, instead of `file`.
    pub glob: Option<String>,
    /// Items taken together in one instance.
    pub batch: Option<u32>,
}

/// A string, or a list of strings.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One name.
    One(String),
    /// Names in order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The names, in order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

/// `command`: an argv run without a shell, or a line for `sh -c`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Command {
    /// Program and arguments.
    Argv(Vec<String>),
    /// A line for `sh -c`.
    Shell(String),
}

/// `env`: names whose values count as input, or a table of values to set.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Env {
    /// Names taken from planexe's own environment.
    Names(Vec<String>),
    /// Values to set.
    Table(Map<String>),
}

/// What kind of program a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An AI agent.
    Agent,
}

/// `gate = { fail_if = "{{ … }}", action = "pause" }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// A condition over the inputs, `"{{ … }}"`.
    pub fail_if: String,
    /// What happens when it is true (default `stop`).
    pub action: GateAction,
    /// A second condition: when it is true and `fail_if` is not, the gate says so and goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_if: Option<String>,
    /// What to tell the user, a template over the inputs.
    pub message: Option<String>,
}

/// `[task.X.eval]`: who scores what the task made, and from which score on it is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// The evaluator's prompt: a file of the pipeline, or inline text (minijinja). It sees the task's inputs, `outputs`,
    /// `answer`, `round` and `error`.
    pub prompt: Option<String>,
    /// A program that scores instead of a model: given the outputs' paths as `$in`, it prints `{"score": …, "notes": …}`.
    pub command: Option<Command>,
    /// The evaluator's system prompt (default: none).
    pub system: Option<String>,
    /// The model that scores, or a list in order of fallback (default: the task's).
    pub model: Option<OneOrMany>,
    /// Sampling parameters of the evaluator (`temperature`, `max_tokens`, …).
    pub params: Option<Map<Value>>,
    /// Time limit of an evaluation (default: the task's).
    pub timeout: Option<Span>,
    /// The least score, from 0 to 1, with which the task is done (default 0.7).
    pub threshold: Option<f64>,
    /// Whether a command that exits with an error, its outputs whole, is scored too (default: only for `kind = "agent"`).
    pub rescue: Option<bool>,
    /// How often the task is made at most, the first time included, until a score passes (default 2).
    pub max_rounds: Option<u32>,
    /// Most bytes of each output that the evaluator is given (default 65536).
    pub max_bytes: Option<u64>,
}

/// `[task.X.refine]`: what the task made is made better, round by round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refine {
    /// So many rounds in all, each given what the former one made and the evaluator's notes on it.
    pub max_rounds: Option<u32>,
    /// A score from which on no further round follows.
    pub until: Option<f64>,
}

/// What a gate does when its condition is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateAction {
    /// Say so and go on.
    Warn,
    /// Fail: what depends on it is blocked.
    #[default]
    Stop,
    /// Wait for `planexe done TASK`.
    Pause,
}

/// `check`: what an answer must satisfy beyond its schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Least number of items, by JSON pointer of the list.
    pub min_items: Map<u64>,
    /// Greatest number of items, by JSON pointer of the list.
    pub max_items: Map<u64>,
    /// JSON pointers (`*` allowed) whose value must not be empty or a placeholder.
    pub non_empty: Vec<String>,
    /// Allowed values, by JSON pointer (`*` allowed).
    pub one_of: Map<Vec<Value>>,
    /// JSON pointers (`*` allowed) whose values must all differ.
    pub unique: Vec<String>,
    /// Least number of words of the whole answer.
    pub min_words: Option<u64>,
    /// Greatest number of words of the whole answer.
    pub max_words: Option<u64>,
    /// Regular expressions the text must match, by JSON pointer (`""` is the whole answer).
    pub matches: Map<String>,
    /// A file of the pipeline with one banned word or phrase per line, or a list of such files; `{{ vars.X }}` may stand
    /// in a path.
    pub banned_words: Option<OneOrMany>,
    /// The same of words and phrases that are allowed, whatever list bans them: a banned word inside an allowed phrase
    /// is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_words: Option<OneOrMany>,
    /// JSON pointers (`*` allowed) of ids, and where those ids come from: `"input:/pointer"` is in a JSON
    /// input, `"item:/pointer"` in the item of a fan-out, `"/pointer"` in the answer itself. An empty id
    /// is passed over.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub refs: Map<String>,
    /// Estimates given as ranges, and what makes one sound.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeRule>,
    /// Texts inside the answer, by JSON pointer (`*` allowed), and how concrete each must be.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub texts: Map<TextRule>,
    /// Conditions on the answer and the inputs together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
}

impl Check {
    /// The lists of words it names: the key, which of several, and the path as written.
    pub fn word_files(&self) -> impl Iterator<Item = (&'static str, Option<usize>, &str)> {
        let keys = [("banned_words", &self.banned_words), ("allowed_words", &self.allowed_words)];
        keys.into_iter().flat_map(|(key, files)| {
            let many = matches!(files, Some(OneOrMany::Many(_)));
            let files = files.iter().flat_map(OneOrMany::as_slice).enumerate();
            files.map(move |(index, file)| (key, many.then_some(index), file.as_str()))
        })
    }
}

/// An entry of `check.ranges`: an estimate in the manner of Fermi. A number may be written as a string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeRule {
    /// JSON pointer (`*` allowed) of the objects that hold an estimate each.
    pub at: String,
    /// Member with the lower bound.
    pub low: String,
    /// Member with the upper bound; it must not be below the lower one.
    pub high: String,
    /// Member with the likely value; it must lie between the two.
    pub likely: Option<String>,
    /// Least value of the lower bound.
    pub min: Option<f64>,
    /// Greatest value of the upper bound.
    pub max: Option<f64>,
    /// Greatest ratio of the upper bound to the lower one; a wider range says nothing.
    pub max_ratio: Option<f64>,
    /// Member that says what the estimate rests on; it must not be empty or a placeholder.
    pub evidence: Option<String>,
}

/// An entry of `check.texts`: what makes a text concrete enough to act on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextRule {
    /// Least number of words of each text.
    pub min_words: Option<u64>,
    /// Greatest number of words of each text.
    pub max_words: Option<u64>,
    /// Whether each text must name a number.
    pub number: bool,
    /// Greatest share of words, from 0 to 1, that two texts of one list may have in common.
    pub alike: Option<f64>,
}

/// An entry of `check.require`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// A condition `"{{ … }}"` over `answer`, the inputs, `vars` and `item`; false means: ask again.
    /// Without one the message decides: if it comes to nothing, all is well.
    pub that: Option<String>,
    /// What the model is told: a template over the same names, each line one fault.
    pub message: String,
}

/// `Deserialize` for an enum whose variants differ by shape. Written out rather than `untagged`, so
/// that a fault inside says what and where, and one of shape says what the shapes are.
macro_rules! by_shape {
    ($type:ident, $wanted:literal $(, text $text:expr)? $(, list $list:expr)? $(, table $table:expr)? $(, number $number:expr)? $(, flag $flag:expr)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Shape;
                impl<'de> Visitor<'de> for Shape {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($wanted)
                    }
                    $(fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        Ok($text(text.to_owned()))
                    })?
                    $(fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<$type, A::Error> {
                        Deserialize::deserialize(SeqAccessDeserializer::new(list)).map($list)
                    })?
                    $(fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<$type, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(table)).map($table)
                    })?
                    $(fn visit_f64<E: Error>(self, number: f64) -> Result<$type, E> {
                        Ok($number(number))
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$type, E> {
                        Ok($number(number as f64))
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$type, E> {
                        Ok($number(number as f64))
                    })?
                    $(fn visit_bool<E: Error>(self, flag: bool) -> Result<$type, E> {
                        Ok($flag(flag))
                    })?
                }
                deserializer.deserialize_any(Shape)
            }
        }
    };
}

by_shape!(Inputs, "a list of paths or a table of names and paths", list Inputs::List, table Inputs::Table);
by_shape!(Output, "a path or a table `{ path = …, template = … }`", text Output::Path, table Output::Rendered);
by_shape!(OneOrMany, "a name or a list of names", text OneOrMany::One, list OneOrMany::Many);
by_shape!(Command, "a list of arguments or a line for the shell", text Command::Shell, list Command::Argv);
by_shape!(Env, "a list of names or a table of values", list Env::Names, table Env::Table);
by_shape!(Fail, "a share from 0 to 1 or a table `{ error = …, cut = … }`", table Fail::Shares, number Fail::Error);
by_shape!(Isolate, "true or a table `{ lane = …, base = … }`", table Isolate::Lane, flag Isolate::Flag);

/// A length of time: `"90s"`, `"15m"`, `"1h30m"`, `"500ms"`, or a number of seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// The same, from whole seconds.
    pub const fn secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    /// Reads `"90s"`, `"15m"`, `"1h30m"`, `"500ms"`, `"2d"` or `"90"` (seconds).
    pub fn parse(text: &str) -> Result<Span, String> {
        let wanted = || format!("`{text}` is not a duration; wanted one like \"90s\", \"15m\" or \"1h30m\"");
        let mut total = 0f64;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wanted());
        }
        if let Ok(seconds) = rest.parse::<f64>() {
            return Span::from_secs_f64(seconds).ok_or_else(wanted);
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wanted)?;
            let number: f64 = rest[..digits].parse().map_err(|_| wanted())?;
            rest = &rest[digits..];
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            total += number
                * match &rest[..end] {
                    "ms" => 0.001,
                    "s" | "sec" => 1.0,
                    "m" | "min" => 60.0,
                    "h" => 3600.0,
                    "d" => 86400.0,
                    _ => return Err(wanted()),
                };
            rest = rest[end..].trim_start();
        }
        Span::from_secs_f64(total).ok_or_else(wanted)
    }

    fn from_secs_f64(seconds: f64) -> Option<Span> {
        Duration::try_from_secs_f64(seconds).ok().map(Span)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"90s\" or \"15m\", or a number of seconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Span, E> {
                self.visit_f64(seconds as f64)
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span::secs(seconds))
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Span, E> {
                Span::from_secs_f64(seconds).ok_or_else(|| {
                    let shown =
                        if seconds.abs() < 1e15 { format!("{seconds}") } else { format!("{seconds:e}") };
                    E::custom(format!("`{shown}` is not a duration; wanted a number of seconds like `90`"))
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: \"90s\", \"15m\", \"1h30m\", \"500ms\", or a number of seconds.",
            "anyOf": [
                { "type": "string", "pattern": "^([0-9.]+(ms|s|sec|m|min|h|d)? ?)+$" },
                { "type": "number", "minimum": 0 }
            ]
        })
    }
}
