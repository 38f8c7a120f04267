//! What a failure is: a closed mapping from HTTP status, the body's code, type and words, and transport
//! errors, to a [`Class`]. The body decides before the status does, because servers disagree about
//! statuses: a 429 may be an empty purse, a 400 a dead model runner, a 200 an error.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::Class;
use super::retry_after::wait_of;

/// What a server said went wrong, taken out of whatever envelope it used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// Its `code`, as text: `context_length_exceeded`, `429`, …
    pub code: String,
    /// Its `type`: `invalid_request_error`, `overloaded_error`, …
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Seconds it asks us to wait, in the body (OpenRouter's `metadata`, a `retry_after` member).
    pub retry_after: Option<Duration>,
    /// Prompt tokens and context size, where an overflow is given in numbers.
    pub context: Option<(u64, u64)>,
    /// Whether a moderation's reasons are in it.
    pub moderated: bool,
}

impl Said {
    /// Reads a body of JSON, of server-sent events with JSON in them, or of anything else as text.
    /// None if there is nothing that says what went wrong.
    pub fn read(body: &str) -> Option<Said> {
        let body = body.trim();
        let json = body.strip_prefix("data:").map_or(body, |rest| rest.lines().next().unwrap_or(rest));
        if let Ok(value) = serde_json::from_str::<Value>(json.trim()) {
            return Said::of(&value);
        }
        if let Some(line) = body.lines().find_map(|line| line.strip_prefix("data:"))
            && let Some(said) = serde_json::from_str(line.trim()).ok().and_then(|v: Value| Said::of(&v))
        {
            return Some(said);
        }
        let text = if body.starts_with('<') { html_title(body) } else { body.to_owned() };
        (!text.is_empty()).then(|| Said { message: text, ..Said::default() })
    }

    /// Reads the error out of a JSON value: `{"error": {…}}`, `{"error": "text"}`, `{"message": …}`,
    /// `{"detail": …}`, a list of one of them, or the inner object itself.
    pub fn of(value: &Value) -> Option<Said> {
        let value = match value {
            Value::Array(list) => list.first()?,
            value => value,
        };
        if let Value::String(text) = value {
            return Some(Said { message: text.clone(), ..Said::default() });
        }
        let object = value.as_object()?;
        let inner = match object.get("error") {
            Some(Value::Object(inner)) => inner,
            Some(Value::String(text)) if !text.is_empty() => {
                let mut said = Said { message: text.clone(), ..Said::default() };
                said.code = text_of(object.get("code"));
                said.kind = text_of(object.get("type"));
                if let Some(more) = object.get("message").and_then(Value::as_str) {
                    said.message = format!("{text}: {more}");
                }
                // Ollama hands on llama.cpp's own body as the text.
                if let Some(inner) = serde_json::from_str(text).ok().and_then(|value| Said::of(&value)) {
                    return Some(inner);
                }
                return Some(said);
            }
            _ => object,
        };
        let message = match inner.get("message").or_else(|| inner.get("detail")).or_else(|| inner.get("msg"))
        {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => text_of(object.get("message")),
            Some(other) => other.to_string(),
        };
        let mut kind = text_of(inner.get("type"));
        if kind.is_empty() || kind == "error" {
            kind = text_of(inner.get("name"));
        }
        let metadata = inner.get("metadata");
        let number = |name: &str| inner.get(name).and_then(Value::as_u64);
        let said = Said {
            code: text_of(inner.get("code")),
            kind,
            // OpenRouter keeps what the provider said apart.
            message: match metadata.and_then(|m| m.get("raw")).and_then(Value::as_str) {
                Some(raw) if !raw.is_empty() => format!("{message}: {raw}"),
                _ => message,
            },
            retry_after: [inner.get("retry_after"), metadata.and_then(|m| m.get("retry_after"))]
                .into_iter()
                .flatten()
                .find_map(Value::as_f64)
                .and_then(wait_of),
            context: number("n_prompt_tokens").zip(number("n_ctx")),
            moderated: metadata.is_some_and(|m| m.get("reasons").is_some())
                || inner.get("innererror").is_some_and(|e| e.get("content_filter_result").is_some()),
        };
        (!(said.code.is_empty() && said.kind.is_empty() && said.message.is_empty())).then_some(said)
    }
}

/// Whether an `error` member says that something went wrong. Some gateways send one with every answer, in which all is
/// empty where nothing did.
pub(super) fn is_error(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(list) => list.iter().any(is_error),
        Value::Object(members) => members.values().any(is_error),
        Value::Bool(true) => true,
    }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The title of an HTML page, for a message.
fn html_title(body: &str) -> String {
    let lower = body.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + 7).and_then(|from| {
        let to = lower[from..].find("</title>")? + from;
        body.get(from..to)
    });
    match title {
        Some(title) => format!("an HTML page titled `{}`", title.trim()),
        None => "an HTML page".to_owned(),
    }
}

/// A prompt (or prompt and answer) too long, in the words of every server met.
const OVERFLOW: [&str; 16] = [
    "context_length_exceeded",
    "exceed_context_size_error",
    "contextwindowexceedederror",
    "model_context_window_exceeded",
    "maximum context length",
    "exceeds the available context size",
    "trying to keep the first",
    "context size has been exceeded",
    "prompt is longer than the context length",
    "prompt is too long",
    "input is too long",
    "exceeds the model's context",
    "exceeds the context window",
    "context window exceeded",
    "context overflow",
    "exceeds the maximum number of tokens allowed",
];

/// Money or an allowance that does not come back within a night.
const QUOTA: [&str; 17] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "enforced_spend_limit_reached",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "exceeded your current quota",
    "credit balance is too low",
    "spend limit",
    "insufficient credits",
    "reached your specified api usage limit",
    "out of credits",
    "spend cap",
    "check your plan and billing",
];

/// An allowance that comes back by itself, in the words of vendors and their programs.
const USED_UP: [&str; 22] = [
    "rate_limit",
    "rate limit",
    "throttling",
    "too many requests",
    "slow_down",
    "usage limit",
    "usage_limit",
    "session limit",
    "weekly limit",
    "daily limit",
    "monthly limit",
    "hour limit reached",
    "hit your limit",
    "limit reached",
    "resource_exhausted",
    "exhausted your",
    "quota will reset",
    "quota exceeded",
    // Of `You've` and `You’ve`.
    "ve hit your",
    "ve reached your",
    "extra usage",
    "out of usage",
];

const REFUSED: [&str; 6] = [
    "content_filter",
    "content_policy_violation",
    "contentpolicyviolationerror",
    "responsibleaipolicyviolation",
    "flagged by moderation",
    "requires moderation",
];

/// A model that another program (Ollama's runner, a proxy's upstream) could not be asked.
const UPSTREAM_AWAY: [&str; 3] = ["dial tcp", "connection refused", "connectex"];

/// A model that is not there yet, or was sent away while it was asked (LM Studio): it is loaded for the next call.
const LOADING: [&str; 7] = [
    "loading model",
    "model is loading",
    "still loading",
    "unavailable_error",
    "currently loading",
    "model unloaded",
    "model is unloaded",
];

const QUEUE_FULL: [&str; 4] =
    ["maximum pending requests", "server busy, please try again", "queue is full", "too many concurrent"];

const NO_MODEL: [&str; 12] = [
    "model_not_found",
    "try pulling it first",
    "invalid model name",
    "unknown model",
    "no models loaded",
    "is not a valid model id",
    "no endpoints found",
    "model does not exist",
    "model_not_available",
    "no such model",
    "model not found",
    "not_found_error: model",
];

const NO_KEY: [&str; 8] = [
    "api key not valid",
    "invalid_api_key",
    "authentication_error",
    "permission_error",
    "permission_denied",
    "no connected db",
    "invalid api key",
    "incorrect api key",
];

/// A model process that died under a call: the next call may find it restarted.
const CRASHED: [&str; 9] = [
    "has unloaded or crashed",
    "channel error",
    "engine protocol",
    "model has crashed",
    "unexpectedly stopped",
    "out of memory",
    "enginedeaderror",
    "failed to load model",
    "model runner has",
];

/// The class of what a server said, by body first and status second. `retry_after` is the header's or
/// the body's; `local` tells a server on this machine, which is waited for rather than tried again.
pub fn classify(status: Option<u16>, said: &Said, retry_after: Option<Duration>, local: bool) -> Class {
    let words = format!("{}\n{}\n{}", said.code, said.kind, said.message).to_ascii_lowercase();
    let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
    // A code that is a number is a status that came too late for the status line.
    let status = match said.code.parse::<u16>() {
        Ok(code @ 400..=599) if status.is_none_or(|status| status < 400) => Some(code),
        _ => status,
    };
    let overflow = has(&OVERFLOW) || said.context.is_some();
    if overflow && status != Some(429) {
        return Class::ContextOverflow;
    }
    if has(&QUOTA) {
        return Class::Quota;
    }
    if status == Some(402) {
        return if retry_after.is_some() { Class::RateLimit } else { Class::Quota };
    }
    if said.moderated || has(&REFUSED) {
        return Class::Refusal;
    }
    if has(&UPSTREAM_AWAY) {
        return if local { Class::ServerLoading } else { Class::ServerError };
    }
    if has(&LOADING) {
        return Class::ServerLoading;
    }
    if has(&QUEUE_FULL) {
        return Class::RateLimit;
    }
    if has(&CRASHED) {
        return Class::ServerError;
    }
    let model_unknown = has(&NO_MODEL)
        || (words.contains("model") && (words.contains("not found") || words.contains("does not exist")))
        || (said.kind == "not_found_error" && said.message.starts_with("model:"));
    match status {
        Some(300..=399) => Class::Config,
        Some(400 | 404) if model_unknown => Class::ModelNotFound,
        Some(400) if has(&NO_KEY) => Class::Auth,
        Some(401 | 403 | 407) => Class::Auth,
        // The path is unknown there, so `base_url` is wrong.
        Some(404) => Class::Config,
        Some(408 | 409 | 425) => Class::ServerError,
        Some(429) => Class::RateLimit,
        Some(499) => Class::Cancelled,
        Some(400..=498) => Class::BadRequest,
        Some(500..) => Class::ServerError,
        // 200 and an error in it, or no status at all: by the name it gives.
        _ => {
            if has(&USED_UP) {
                Class::RateLimit
            } else if has(&NO_KEY) || has(&["unauthorized", "forbidden"]) {
                Class::Auth
            } else if model_unknown {
                Class::ModelNotFound
            } else if has(&["unexpected endpoint"]) {
                Class::Config
            } else if has(&["invalid_request", "bad_request", "badrequest", "invalid_prompt", "too_large"]) {
                Class::BadRequest
            } else {
                Class::ServerError
            }
        }
    }
}

/// The class and the wait of a refusal of which a text says when its limit is over: money that comes back by itself is a
/// limit too. `here`: the zone of times that name none.
pub fn with_reset(
    class: Class,
    retry_after: Option<Duration>,
    text: &str,
    here: &TimeZone,
) -> (Class, Option<Duration>) {
    let told = || super::reset::wait_told(text, super::retry_after::unix_now(), here);
    match class {
        // No wait at all says nothing of a reset.
        Class::RateLimit => (class, retry_after.filter(|wait| !wait.is_zero()).or_else(told).or(retry_after)),
        Class::Quota => match told() {
            Some(wait) => (Class::RateLimit, Some(wait)),
            None => (class, retry_after),
        },
        _ => (class, retry_after),
    }
}

/// A limit of a plan that names no reset: asked about this seldom.
const UNTOLD_RESET: Duration = Duration::from_secs(30 * 60);

/// Words of a plan's limit, as opposed to too many requests at once.
const PLAN_LIMIT: [&str; 12] = [
    "usage limit",
    "hour limit",
    "session limit",
    "weekly limit",
    "daily limit",
    "monthly limit",
    "hit your limit",
    "exhausted your",
    "extra usage",
    "out of usage",
    "out of credits",
    "quota exceeded",
];

/// The same of what a program printed. A limit of a plan that names no reset is asked about again after a while.
pub fn with_reset_of_program(class: Class, text: &str) -> (Class, Option<Duration>) {
    let (class, wait) = with_reset(class, None, text, &TimeZone::system());
    let lower = text.to_ascii_lowercase();
    let is_plan =
        || super::reset::is_notice(text.trim()) || PLAN_LIMIT.iter().any(|words| lower.contains(words));
    let wait = wait.or_else(|| (class == Class::RateLimit && is_plan()).then_some(UNTOLD_RESET));
    (class, wait)
}

/// Whether a refused request may pass if the schema is not asked for natively.
pub fn rejects_schema(status: Option<u16>, said: &Said) -> bool {
    let words = format!("{}\n{}", said.code, said.message).to_ascii_lowercase();
    let named = [
        "response_format",
        "json_schema",
        "output_config",
        "output_format",
        "structured output",
        "invalid schema",
        "invalid_json_schema",
        // Ollama, of one it makes no grammar of.
        "invalid json schema",
        "invalid format",
        "grammar",
        "guided",
        "structured_outputs",
        "\"format\"",
        "failed to load model vocabulary required for format",
    ];
    matches!(status, Some(400 | 404 | 422 | 500 | 501) | None)
        && named.iter().any(|name| words.contains(name))
}

/// Whether a server wants `max_completion_tokens` where it got `max_tokens`.
pub fn wants_completion_tokens(said: &Said) -> bool {
    said.message.contains("max_completion_tokens") && said.message.contains("'max_tokens'")
}

/// The class of a broken connection. `content` tells whether any of the answer had come, `local` a server
/// on this machine: nobody listening there is a server that is (re)starting, and is waited for.
pub fn of_io(kind: std::io::ErrorKind, content: bool, local: bool) -> Class {
    use std::io::ErrorKind as K;
    match kind {
        _ if content => Class::Cut,
        K::ConnectionRefused if local => Class::ServerLoading,
        K::TimedOut | K::WouldBlock => Class::Timeout,
        K::InvalidInput => Class::Config,
        _ => Class::Connection,
    }
}

#[cfg(test)]
mod tests;
