//! Calls as they are recorded: a line of `usage_metrics.jsonl` for each, and their sum, `activity_overview.json`. It is a
//! record of money spent: figures that cannot be true are not believed.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jsonl;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FsError};
use planexe_llm::{CallError, Reply, Usage};

/// The longest error text in a log line.
const DETAIL: usize = 2000;

pub(super) fn bounded(text: &str) -> String {
    match text.char_indices().nth(DETAIL) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// One call, a line of `usage_metrics.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageLine {
    /// End of the call, RFC 3339, UTC.
    pub timestamp: String,
    /// Whether a whole answer came.
    pub success: bool,
    /// `provider:model`.
    pub model: String,
    /// How long the call took.
    pub duration_seconds: f64,
    /// The class of the failure, if the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<FailureClass>,
    /// The message of the failure, cut to a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<String>,
    /// Joins log, usage and failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_id: Option<String>,
    /// Prompt tokens, cached ones included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Of these, the ones its server had cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of these, the ones its server put into its cache, where it tells.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Answer tokens, reasoning included.
    #[serde(default)]
    pub output_tokens: u64,
    /// Of those, spent on reasoning.
    #[serde(default)]
    pub thinking_tokens: u64,
    /// USD.
    #[serde(default)]
    pub cost_usd: f64,
    /// `task` or `task[key]`.
    #[serde(default)]
    pub task: String,
    /// The attempt of the task in which the call was made.
    #[serde(default)]
    pub attempt: u32,
    /// The run directory.
    #[serde(default)]
    pub run_id_dir: String,
    /// The same by OpenTelemetry's names, each without its leading `gen_ai.`.
    #[serde(default)]
    pub gen_ai: Map<String, Value>,
    /// Fields of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Which call a line of usage is about.
#[derive(Debug, Clone, Copy)]
pub struct CallOf<'a> {
    /// `task` or `task[key]`.
    pub task: &'a str,
    /// The attempt of the task in which the call was made.
    pub attempt: u32,
    /// The dialect: the provider's name.
    pub api: &'a str,
    /// The model's name at its server.
    pub model: &'a str,
    /// Joins log, usage and failures.
    pub error_id: Option<&'a str>,
    /// Its end: with the task it names the call.
    pub ended_utc: &'a str,
    /// Seconds of the call.
    pub duration_s: f64,
}

impl UsageLine {
    /// The line of one call, answered or failed.
    pub fn new(call: CallOf<'_>, result: Result<&Reply, &CallError>, run_dir: &Path) -> UsageLine {
        let usage = match result {
            Ok(reply) => reply.usage,
            Err(error) => error.usage,
        };
        let mut gen_ai = Map::new();
        gen_ai.insert("operation.name".to_owned(), "chat".into());
        gen_ai.insert("provider.name".to_owned(), call.api.into());
        gen_ai.insert("request.model".to_owned(), call.model.into());
        if let Ok(reply) = result {
            if let Some(model) = &reply.model {
                gen_ai.insert("response.model".to_owned(), model.as_str().into());
            }
            if let Some(id) = &reply.id {
                gen_ai.insert("response.id".to_owned(), id.as_str().into());
            }
            if let Some(finish) = &reply.finish {
                gen_ai.insert("response.finish_reasons".to_owned(), vec![finish.as_str()].into());
            }
            if let Some(first) = reply.first_token_s {
                gen_ai.insert("response.time_to_first_chunk".to_owned(), first.into());
            }
        }
        gen_ai.insert("usage.input_tokens".to_owned(), usage.input_tokens.into());
        gen_ai.insert("usage.output_tokens".to_owned(), usage.output_tokens.into());
        if usage.cached_tokens > 0 {
            gen_ai.insert("usage.cache_read.input_tokens".to_owned(), usage.cached_tokens.into());
        }
        if usage.cache_write_tokens > 0 {
            gen_ai.insert("usage.cache_creation.input_tokens".to_owned(), usage.cache_write_tokens.into());
        }
        if usage.thinking_tokens > 0 {
            gen_ai.insert("usage.reasoning.output_tokens".to_owned(), usage.thinking_tokens.into());
        }
        let error = result.err();
        if let Some(error) = error {
            gen_ai.insert("error.type".to_owned(), error.class.name().into());
        }
        UsageLine {
            timestamp: call.ended_utc.to_owned(),
            success: error.is_none(),
            model: model_name(call.api, call.model),
            duration_seconds: call.duration_s,
            error: error.map(|error| error.class.into()),
            error_detail: error.map(|error| bounded(&error.message.to_lines())),
            error_id: call.error_id.map(str::to_owned),
            input_tokens: usage.input_tokens,
            cached_tokens: usage.cached_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            output_tokens: usage.output_tokens,
            thinking_tokens: usage.thinking_tokens,
            cost_usd: usage.cost_usd,
            task: call.task.to_owned(),
            attempt: call.attempt,
            run_id_dir: run_dir.display().to_string(),
            gen_ai,
            other: Map::new(),
        }
    }
}

/// A model as the log of calls names it.
pub fn model_name(api: &str, model: &str) -> String {
    format!("{api}:{model}")
}

/// Totals of one model or of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelTotals {
    /// USD.
    pub total_cost: f64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// Of those, spent on reasoning.
    pub thinking_tokens: u64,
    /// Prompt and answer tokens.
    pub total_tokens: u64,
    /// Calls.
    pub calls: u64,
}

/// `activity_overview.json`: the sum over `usage_metrics.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivityOverview {
    /// When a line was added last.
    pub last_updated: String,
    /// USD.
    pub total_cost: f64,
    /// Prompt tokens.
    pub total_input_tokens: u64,
    /// Answer tokens.
    pub total_output_tokens: u64,
    /// Of those, spent on reasoning.
    pub total_thinking_tokens: u64,
    /// Prompt and answer tokens.
    pub total_tokens: u64,
    /// By `provider:model`.
    pub models: IndexMap<String, ModelTotals>,
    /// Length of the `usage_metrics.jsonl` it is the sum of.
    #[serde(default)]
    pub of_bytes: u64,
}

impl ActivityOverview {
    /// Adds the figures of one call to the totals.
    pub fn add(&mut self, line: &UsageLine) {
        // The totals may be those of a file, where anything may stand.
        let add = |total: &mut u64, more: u64| *total = total.saturating_add(more);
        let tokens = line.input_tokens.saturating_add(line.output_tokens);
        if self.last_updated < line.timestamp {
            self.last_updated.clone_from(&line.timestamp);
        }
        self.total_cost += line.cost_usd;
        add(&mut self.total_input_tokens, line.input_tokens);
        add(&mut self.total_output_tokens, line.output_tokens);
        add(&mut self.total_thinking_tokens, line.thinking_tokens);
        add(&mut self.total_tokens, tokens);
        let model = self.models.entry(line.model.clone()).or_default();
        model.total_cost += line.cost_usd;
        add(&mut model.input_tokens, line.input_tokens);
        add(&mut model.output_tokens, line.output_tokens);
        add(&mut model.thinking_tokens, line.thinking_tokens);
        add(&mut model.total_tokens, tokens);
        add(&mut model.calls, 1);
    }
}

/// The calls of a run in two words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallsSoFar {
    /// When one ended last.
    pub last_utc: Option<String>,
    /// What all have cost, USD; none before the first.
    pub cost_usd: Option<f64>,
}

/// The lines of a log of calls, their figures as far as they can be true.
pub(super) fn read_usage(path: &Path) -> Result<Vec<UsageLine>, FsError> {
    let mut lines: Vec<UsageLine> = jsonl::read_records(path)?;
    for line in &mut lines {
        let told = Usage {
            input_tokens: line.input_tokens,
            output_tokens: line.output_tokens,
            thinking_tokens: line.thinking_tokens,
            cost_usd: line.cost_usd,
            ..Usage::default()
        };
        let Usage { input_tokens, output_tokens, thinking_tokens, cost_usd, .. } = told.believed();
        (line.input_tokens, line.output_tokens) = (input_tokens, output_tokens);
        (line.thinking_tokens, line.cost_usd) = (thinking_tokens, cost_usd);
    }
    Ok(lines)
}

pub(super) fn read_overview(usage: &Path) -> Result<ActivityOverview, FsError> {
    let of_bytes = fs::signature(usage)?.map_or(0, |signature| signature.size);
    let mut overview = ActivityOverview { of_bytes, ..ActivityOverview::default() };
    for line in read_usage(usage)? {
        overview.add(&line);
    }
    Ok(overview)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use planexe_llm::Class;

    pub(crate) fn reply() -> Reply {
        Reply {
            text: "yes".into(),
            usage: Usage {
                input_tokens: 10,
                output_tokens: 5,
                thinking_tokens: 2,
                cost_usd: 0.25,
                calls: 1,
                ..Usage::default()
            },
            model: Some("qwen-1".into()),
            finish: Some("stop".into()),
            id: Some("c1".into()),
            ..Reply::default()
        }
    }

    pub(crate) fn call<'a>() -> CallOf<'a> {
        CallOf {
            task: "swot",
            attempt: 1,
            api: "openai",
            model: "qwen",
            error_id: None,
            ended_utc: "2026-03-01T22:15:09.123Z",
            duration_s: 1.5,
        }
    }

    #[test]
    fn a_line_of_usage_has_the_names_others_read() {
        let line = UsageLine::new(call(), Ok(&reply()), Path::new("/runs/1"));
        let value = serde_json::to_value(&line).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "timestamp",
                "success",
                "model",
                "duration_seconds",
                "input_tokens",
                "cached_tokens",
                "cache_write_tokens",
                "output_tokens",
                "thinking_tokens",
                "cost_usd",
                "task",
                "attempt",
                "run_id_dir",
                "gen_ai"
            ]
        );
        assert_eq!(value["model"], "openai:qwen");
        assert_eq!(value["gen_ai"]["request.model"], "qwen");
        assert_eq!(value["gen_ai"]["response.finish_reasons"][0], "stop");
        let error = CallError::new(Class::RateLimit, "x".repeat(5000));
        let of = CallOf { error_id: Some("abc"), ..call() };
        let value = serde_json::to_value(UsageLine::new(of, Err(&error), Path::new("/runs/1"))).unwrap();
        assert_eq!(value["success"], false);
        assert_eq!(value["error"], "rate_limit");
        assert_eq!(value["error_id"], "abc");
        assert_eq!(value["error_detail"].as_str().unwrap().chars().count(), DETAIL + 1);
    }
}
