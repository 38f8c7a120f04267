//! `[task.NAME]`: what a task reads and writes, how it is made, and what its answer must satisfy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Check, Map, OnMergeFailure, OneOrMany, Resources, Retry, Span};

/// `[task.NAME]`: what one task reads, writes and does. It has one recipe: `prompt`, `command`,
/// `template`, `gate`, `human`, or none (a group).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// What the task is for, for people.
    pub description: Option<String>,
    /// Files it reads: a table of names, or a list; globs allowed, which skip hidden files as a shell's do; relative to the run directory.
    pub inputs: Inputs,
    /// Files it writes, relative to the run directory.
    pub outputs: Vec<Output>,
    /// Tasks that must be done before it, although it reads none of their outputs.
    pub after: Vec<String>,
    /// One instance per item of a list.
    pub foreach: Option<Box<Foreach>>,
    /// Share of instances that must succeed (default 1.0); those that are skipped are not counted. With 0, readers run even
    /// if all fail.
    pub min_success: Option<f64>,
    /// Instances run in order; each sees the answer of the one before as `{{ previous }}`.
    pub sequential: bool,
    /// A condition, `"{{ … }}"`; when it is false the task is skipped.
    pub when: Option<String>,
    /// Inputs (by name or path) that may be absent or skipped.
    pub optional: Vec<String>,
    /// Time limit of the whole task, calls and retries; waiting for a slot, a limit, a server that is away or a pause is not
    /// counted.
    pub timeout: Option<Span>,
    /// Time without any progress after which the task fails as stalled.
    pub stall_timeout: Option<Span>,
    /// How often a temporary failure is retried, and with which pauses.
    pub retry: Option<Box<Retry>>,
    /// Higher starts first among ready tasks.
    pub priority: i32,
    /// A pool of `[pools]` that bounds how many such tasks run at once.
    pub pool: Option<String>,
    /// Where its command runs: a name of `[executors]`, or `local`, `detached`, `slurm`.
    pub executor: Option<String>,
    /// What its command takes where it runs: `{ cpus = 4, memory = "8G", gpus = 1, time = "2h" }`.
    pub resources: Option<Box<Resources>>,
    /// A server of `[services]` that its command needs.
    pub service: Option<String>,
    /// A model of `[models]`, or a list in order of fallback.
    pub model: Option<OneOrMany>,
    /// Its difficulty, instead of `model`: the first tier of `[tiers]` that takes the sum determines the models.
    pub complexity: Option<Box<Complexity>>,
    /// A tier of `[tiers]`, instead of `model`.
    pub tier: Option<String>,
    /// Sampling parameters (`temperature`, `max_tokens`, …).
    pub params: Option<Box<Map<Value>>>,
    /// Fields added to the request as they are.
    pub params_extra: Option<Box<Map<Value>>>,
    /// Tools an agent's program may use for it (`["WebSearch"]`), in place of those of its model's table; `[]`: none.
    pub tools: Option<Vec<String>>,
    /// System prompt: a file of the pipeline, or inline text.
    pub system: Option<String>,
    /// Images (PNG, JPEG, GIF, WebP) and PDFs that are sent with the prompt: paths or globs, relative to the run directory. A glob that matches nothing is an error, unless `optional` lists it.
    pub files: Vec<String>,
    /// Prompt: a file of the pipeline, or inline text (minijinja).
    pub prompt: Option<String>,
    /// JSON Schema of the answer: a file of the pipeline.
    pub schema: Option<String>,
    /// What the answer must satisfy beyond its schema; for a `human` task, what the person writes.
    pub check: Option<Box<Check>>,
    /// How often an invalid answer is asked for again (default 2).
    pub max_validation_retries: Option<u32>,
    /// A template over the inputs makes the first output: a file of the pipeline, or inline text.
    pub template: Option<String>,
    /// A program and its arguments, or a line for `sh -c`. It runs in the run directory; a program with a relative path is looked up there, then in the pipeline's folder, which PLANEXE_PIPELINE_DIR names.
    pub command: Option<Command>,
    /// The command's standard output becomes the first output.
    pub stdout: bool,
    /// The command updates its outputs in place, instead of writing new ones.
    pub in_place: bool,
    /// Working directory of the command, relative to the run directory.
    pub cwd: Option<String>,
    /// Environment variables whose values count as input (names), or that are set (a table).
    pub env: Option<Box<Env>>,
    /// `agent` for a command that is an AI agent.
    pub kind: Option<Kind>,
    /// The model that the command may call itself, or a table with limits. While it runs, planexe serves that model at `OPENAI_BASE_URL` and `ANTHROPIC_BASE_URL`, and records, limits and prices each call.
    pub calls: Option<Box<Calls>>,
    /// The command works in its own git worktree, and its commits reach the base branch only if it succeeds: `true`, or a table. Tasks of one `lane` share a worktree, run one at a time and are merged together.
    pub isolate: Option<Box<Isolate>>,
    /// A condition over the inputs that passes, warns, stops or pauses the pipeline.
    pub gate: Option<Box<Gate>>,
    /// What a person is asked to do; the task waits until it is done.
    pub human: Option<String>,
    /// The evaluator that scores the outputs, and the score that passes.
    pub eval: Option<Box<Eval>>,
    /// Rounds that improve the outputs, each with the evaluator's notes.
    pub refine: Option<Box<Refine>>,
}

/// `calls`: the model that a command may call itself.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Calls {
    /// A model of `[models]`.
    Model(String),
    /// A model, and limits.
    Limited(LimitedCalls),
}

impl Calls {
    /// The model's name.
    pub fn model(&self) -> &str {
        match self {
            Calls::Model(name) => name,
            Calls::Limited(table) => &table.model,
        }
    }

    /// Its limits: calls, and USD.
    pub fn limits(&self) -> (Option<u64>, Option<f64>) {
        match self {
            Calls::Model(_) => (None, None),
            Calls::Limited(table) => (table.max_calls, table.max_cost),
        }
    }
}

/// `calls = { model = "cloud", max_calls = 40, max_cost = 0.5 }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitedCalls {
    /// A model of `[models]` (required).
    pub model: String,
    /// Most calls that one run of the command may make; those answered from `.planexe/` count too.
    pub max_calls: Option<u64>,
    /// USD that one run of the command may use before its next call is refused.
    pub max_cost: Option<f64>,
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

/// Inputs of a task: a table of names, or a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Inputs {
    /// Paths or globs; each is named by its stem.
    List(Vec<String>),
    /// Paths or globs by the name templates use.
    Table(Map<String>),
}

impl Inputs {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Inputs::List(list) => list.len(),
            Inputs::Table(table) => table.len(),
        }
    }
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
    /// A condition over the inputs, `"{{ … }}"` (required).
    pub fail_if: String,
    /// What happens when it is true (default `stop`).
    pub action: GateAction,
    /// A second condition: if it is true and `fail_if` is not, the gate warns and continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_if: Option<String>,
    /// The message to the user, a template over the inputs.
    pub message: Option<String>,
}

/// `[task.X.eval]`: who scores what the task made, and from which score on it is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// The evaluator's prompt: a file of the pipeline, or inline text (minijinja). It sees the task's inputs, `outputs`,
    /// `answer`, `round` and `error`.
    pub prompt: Option<String>,
    /// A program that scores instead of a model: it gets the outputs' paths as `$in` and prints `{"score": …, "notes": …}`.
    pub command: Option<Command>,
    /// The evaluator's system prompt (default: none).
    pub system: Option<String>,
    /// The model that scores, or a list in order of fallback (default: the task's).
    pub model: Option<OneOrMany>,
    /// Sampling parameters of the evaluator (`temperature`, `max_tokens`, …).
    pub params: Option<Map<Value>>,
    /// Time limit of an evaluation (default: the task's).
    pub timeout: Option<Span>,
    /// The lowest score, from 0 to 1, that passes (default 0.7).
    pub threshold: Option<f64>,
    /// Whether a command that exits with an error but leaves complete outputs is scored too (default: only for `kind = "agent"`).
    pub rescue: Option<bool>,
    /// Maximum number of rounds, including the first, until a score passes (default 2).
    pub max_rounds: Option<u32>,
    /// Maximum number of bytes of each output that the evaluator sees (default 65536).
    pub max_bytes: Option<u64>,
}

/// `[task.X.refine]`: rounds that improve the outputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refine {
    /// Number of rounds in all (required); each sees the result of the one before and the evaluator's notes on it.
    pub max_rounds: Option<u32>,
    /// A score that ends the rounds early.
    pub until: Option<f64>,
}

/// What a gate does when its condition is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateAction {
    /// Warn and continue.
    Warn,
    /// Fail: what depends on it is blocked.
    #[default]
    Stop,
    /// Wait for `planexe done TASK`.
    Pause,
}

/// `complexity = { reasoning = 3, domain = 2, context = 4, output = 1 }`: how hard a task is, four marks from 1 (easy) to 5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Complexity {
    /// Steps of thought from the inputs to the answer.
    pub reasoning: u32,
    /// Knowledge of a field that the inputs do not give.
    pub domain: u32,
    /// How much of the inputs must be kept in mind at once.
    pub context: u32,
    /// How long, and how strict in its form, the answer is.
    pub output: u32,
}
