//! The tables of `pipeline.toml` as plain data: what every key is called, what it holds, its default.
//!
//! These types know no places in a file and read no file: [`super::read`] fills them from TOML and
//! reports every fault with its line. The JSON Schema shipped for editors is generated from them,
//! so each doc comment here and in the files below is also what an editor shows for the key.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod check;
mod defaults;
mod shape;
mod task;

pub use check::{Check, RangeRule, Requirement, TextRule};
pub use defaults::Defaults;
pub use planexe_base::span::Span;
pub use planexe_llm::config::{Api, CallTimeouts, Fail, FailShares, Model, OnMiss, Price, Retry, Server};
pub use shape::OneOrMany;
pub use task::{
    Command, Complexity, Env, Eval, Foreach, Gate, GateAction, Inputs, Isolate, Kind, Lane, Output, Refine,
    RenderedOutput, Task,
};

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
