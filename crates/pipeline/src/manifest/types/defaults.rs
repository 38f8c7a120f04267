//! `[defaults]`: what tasks get that say nothing themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Map, OneOrMany, Span};

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
    /// Where commands run: a name of `[executors]`, or `local`, `detached`, `slurm` (default `local`).
    pub executor: Option<String>,
    /// Sampling parameters of every prompt task.
    pub params: Map<Value>,
    /// System prompt of every prompt task that names none.
    pub system: Option<String>,
    /// How often an invalid answer is asked for again (default 2).
    pub max_validation_retries: Option<u32>,
}
