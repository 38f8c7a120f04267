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
mod executor;
mod service;
mod shape;
mod task;

pub use check::{Check, RangeRule, Requirement, TextRule};
pub use defaults::Defaults;
pub use executor::{Amount, Executor, ExecutorKind, Resources};
pub use planexe_base::span::Span;
pub use planexe_llm::config::{Api, CallTimeouts, Fail, FailShares, Model, OnMiss, Price, Retry, Server};
pub use service::{Ready, Service, at_node};
pub use shape::OneOrMany;
pub use task::{
    Calls, Command, Complexity, Env, Eval, Foreach, Gate, GateAction, Inputs, Isolate, Kind, Lane,
    LimitedCalls, Output, Refine, RenderedOutput, Task,
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
    /// Default settings of tasks.
    pub defaults: Defaults,
    /// Time limits by task name; `default` is for all others.
    pub timeouts: Map<Span>,
    /// Named pools and how many tasks of each may run at once.
    pub pools: Map<u32>,
    /// Where the commands of tasks run, by the name tasks call it.
    pub executors: Map<Executor>,
    /// Servers that are started for the tasks and models that name them.
    pub services: Map<Service>,
    /// Limits of a build; when one is reached, no further call starts.
    pub budget: Budget,
    /// Receivers of events over HTTP.
    pub webhooks: Map<Webhook>,
    /// Local programs that run on events; they get the event as JSON on standard input.
    pub hooks: Hooks,
    /// What makes a task stale.
    pub staleness: Staleness,
    /// Named overrides of `models`, `defaults`, `vars` and `tiers`, chosen by `--profile`.
    pub profiles: Map<Profile>,
    /// Whether calls take part in make's jobserver.
    pub jobserver: Jobserver,
    /// How `planexe optimize` tries prompts.
    pub optimize: Optimize,
    /// Tiers of models, from the smallest up, for tasks that state their difficulty instead of a model.
    pub tiers: Map<Tier>,
    /// Commits in git for completed tasks.
    pub git: Git,
    /// Default base branch and merge policy of isolated tasks.
    pub isolation: Isolation,
    /// Other names on the command line, each for a task or an output; a name with `{{ number }}` stands for an item of a fan-out, numbered from 1.
    pub aliases: Map<String>,
    /// The tasks, by name.
    pub task: Map<Box<Task>>,
    /// Variables that hold keys of models as they stand in the file, also where the profile in force names others.
    #[serde(skip)]
    pub keys_as_written: Vec<String>,
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
    /// The planned dates of tasks, for `planexe gantt`: a JSON file of the pipeline. It makes nothing stale.
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

/// `[profiles.NAME]`: its keys override those of the pipeline.
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
    /// Overrides of `[tiers]`, key by key. A new name adds a tier above the others.
    pub tiers: Map<Tier>,
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
    /// The largest sum of a task's four marks that this tier takes (default 20: all).
    pub up_to: Option<u32>,
}

/// `[optimize]`: how `planexe optimize` tries prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Optimize {
    /// The gain in mean score that a text needs to be kept (default 0.02).
    pub margin: Option<f64>,
    /// The largest loss of score on any one reference run (default 0.05).
    pub max_drop: Option<f64>,
    /// How often each text is drawn on each reference run (default 1). With two or more the spread can be estimated, and a difference that may be noise keeps no text.
    pub samples: Option<u32>,
    /// How texts are compared: by `scores` of the task's evaluator, or `pairwise` by a judge that sees two answers.
    pub compare: Compare,
    /// The judge's prompt: a file of the pipeline, or inline text (minijinja). It sees the task's inputs, and the answers as `first` and `second`.
    pub judge: Option<String>,
    /// The judge's model, or a list in order of fallback (default: the evaluator's, else that of `[defaults]`).
    pub judge_model: Option<OneOrMany>,
    /// Sampling parameters of the judge (`temperature`, `max_tokens`, …).
    pub judge_params: Option<Map<Value>>,
    /// The prompt for new texts: a file of the pipeline, or inline text (minijinja). It sees `brief`.
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
    /// In pairs, by a judge that sees both answers in both orders.
    Pairwise,
}

/// `[git]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Git {
    /// Whether a task's outputs are committed once it is done, to the repository that contains the run: one commit per task. A build never fails because of it.
    pub commit_on_done: bool,
}

/// `[isolation]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    /// The branch commits of isolated tasks go to (default: the branch that is checked out when the build begins).
    pub base: Option<String>,
    /// What happens if they cannot be merged (default `pause`).
    pub on_merge_failure: Option<OnMergeFailure>,
}

/// What happens if the commits of an isolated task cannot be merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMergeFailure {
    /// The task waits until a person has merged it.
    #[default]
    Pause,
    /// The task fails, and the run is aborted.
    Abort,
}
