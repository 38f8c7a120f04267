//! `[services.NAME]`: a server that is started for the tasks and models that name it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Command, Env, Resources, Span};

/// `[services.NAME]`: a program that serves while tasks need it, such as a model's server. `service = "NAME"` in a model or
/// a task names it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// The program (required): a list of arguments, or a line for the shell. It serves until it is ended (SIGTERM, then SIGKILL).
    pub command: Option<Command>,
    /// How it is known to be ready (required): `{ url = "http://127.0.0.1:8000/health" }` or `{ command = ["check"] }`.
    pub ready: Ready,
    /// How long it may take from its start until it is ready (default 10m).
    pub ready_within: Option<Span>,
    /// Stopped after so long without a task that uses it, and started again for the next one (default: stopped once no task is left that needs it).
    pub idle: Option<Span>,
    /// Where it runs: a name of `[executors]`, or `local`, `detached`, `slurm` (default `local`).
    pub executor: Option<String>,
    /// What it takes there: `{ cpus = 4, memory = "8G", gpus = 1, time = "2h" }`.
    pub resources: Resources,
    /// Variables of keys it may see (a list of names), or variables it is given (a table).
    pub env: Option<Env>,
    /// Where it runs, relative to the run directory.
    pub cwd: Option<String>,
}

/// `ready = { url = "…" }`: how a service is known to be ready.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// An address that answers with a status from 200 to 299 once it is ready; `{{ node }}` stands for the host it runs on.
    pub url: Option<String>,
    /// A program that ends with exit code 0 once it is ready; it is told the host in `PLANEXE_NODE`.
    pub command: Option<Command>,
}

/// The name of the host in the place of `{{ node }}`.
pub fn at_node(text: &str, node: &str) -> String {
    text.replace("{{ node }}", node).replace("{{node}}", node)
}
