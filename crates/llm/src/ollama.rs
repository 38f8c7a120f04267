//! Ollama's own `/api/chat`, which can be told not to cut the prompt; its `/v1` layer cannot.
//!
//! An answer is whole when a line with `done: true` came whose reason is a stop. After a first line an
//! error comes as a line of its own, under status 200.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::attachment;
use super::classify::{self, Said, rejects_schema};
use super::http::{Endpoint, Exchange, Format};
use super::openai::turns;
use super::whole::{Draft, Finish};
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, probe};
use crate::config::{Model, Price, SchemaForm};

/// One endpoint of this dialect.
pub struct Ollama {
    endpoint: Endpoint,
    context_window: Option<u64>,
    /// The server refused a schema once: it is put into the prompt from then on.
    schema_in_words: AtomicBool,
    /// It is put there because the table says so.
    few_words: bool,
}

/// Parameters that stand beside `options`, not in them.
const TOP_LEVEL: [&str; 3] = ["think", "keep_alive", "logprobs"];

impl Ollama {
    pub(super) fn new(endpoint: Endpoint, model: &Model) -> Ollama {
        Ollama {
            endpoint,
            context_window: model.context_window,
            few_words: model.schemas == Some(SchemaForm::Words),
            schema_in_words: AtomicBool::new(model.schemas == Some(SchemaForm::Words)),
        }
    }

    fn body(&self, request: &Request) -> Value {
        let in_words = self.schema_in_words.load(Ordering::Relaxed);
        let system = (!request.system.trim().is_empty()).then(|| ("system", request.system.clone()));
        let with_files = usize::from(system.is_some());
        let messages: Value = system
            .into_iter()
            .chain(turns(request, in_words.then(|| request.schema_in_words(self.few_words)).flatten()))
            .enumerate()
            .map(|(at, (role, content))| {
                let mut message = json!({ "role": role, "content": content });
                if at == with_files && !request.files.is_empty() {
                    message["images"] = attachment::ollama(&request.files);
                }
                message
            })
            .collect();
        let mut body = Map::new();
        body.insert("model".into(), json!(self.endpoint.model));
        body.insert("messages".into(), messages);
        body.insert("stream".into(), json!(true));
        // By default what does not fit is dropped from the front without a word.
        body.insert("truncate".into(), json!(false));
        body.insert("shift".into(), json!(false));
        if let Some(schema) = request.schema.as_ref().filter(|_| !in_words) {
            body.insert("format".into(), schema.clone());
        }
        let mut options = Map::new();
        if let Some(window) = self.context_window {
            options.insert("num_ctx".into(), json!(window));
        }
        for (name, value) in &request.params {
            match name.as_str() {
                "max_tokens" | "max_completion_tokens" => {
                    options.insert("num_predict".into(), value.clone());
                }
                "reasoning_effort" => {
                    body.insert("think".into(), value.clone());
                }
                name if TOP_LEVEL.contains(&name) => {
                    body.insert(name.into(), value.clone());
                }
                name => {
                    options.insert(name.into(), value.clone());
                }
            }
        }
        for (name, value) in &request.params_extra {
            match (name.as_str(), value) {
                ("options", Value::Object(extra)) => {
                    options.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                _ => {
                    body.insert(name.clone(), value.clone());
                }
            }
        }
        if !options.is_empty() {
            body.insert("options".into(), Value::Object(options));
        }
        Value::Object(body)
    }

    fn attempt(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let bytes = serde_json::to_vec(&self.body(request)).map_err(|error| {
            CallError::new(Class::Config, format!("the request cannot be written: {error}"))
        })?;
        let bearer = self.endpoint.bearer();
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let exchange = self.endpoint.post("api/chat", &headers, &bytes, context)?;
        drop(bytes);
        read(exchange, self.endpoint.price)
    }
}

impl Provider for Ollama {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let native = request.schema.is_some() && !self.schema_in_words.load(Ordering::Relaxed);
        self.attempt(request, context).map_err(|mut error| {
            let said = Said { message: error.message.text.clone(), ..Said::default() };
            if native
                && matches!(error.class, Class::BadRequest | Class::ServerError)
                && error.partial.is_empty()
                && rejects_schema(error.status, &said)
            {
                self.schema_in_words.store(true, Ordering::Relaxed);
                error.adapted = true;
            }
            error
        })
    }

    fn health(&self) -> Health {
        probe::plain_health(&self.endpoint, "api/version")
    }
}

fn read(mut exchange: Exchange<'_>, price: Option<Price>) -> Result<Reply, CallError> {
    let mut draft = Draft::new(exchange.started);
    let mut done = false;
    let result = match exchange.format() {
        Ok(Format::Json) => lines(&mut exchange, &mut draft, &mut done),
        Ok(Format::Empty) => {
            let empty = CallError::new(Class::EmptyResponse, "the server answered 200 and nothing else");
            Err(exchange.ended().unwrap_or(empty))
        }
        Ok(Format::Events) => Err(exchange.bad_data(
            "the server answered with server-sent events, as Ollama never does; is it `api = \"openai\"`?"
                .into(),
        )),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        return Err(draft.fail(error));
    }
    if !done {
        if let Some(error) = exchange.ended() {
            return Err(draft.fail(error));
        }
        return Err(draft.unfinished("`done: true`"));
    }
    let word = draft.finish.clone().unwrap_or_default();
    let finish = match word.as_str() {
        // Old versions give no reason.
        "stop" | "" => Finish::Stop,
        "length" => Finish::Length,
        // The model was (un)loaded, which is what an empty prompt asks for.
        "load" | "unload" => Finish::Stop,
        _ => Finish::Other(word),
    };
    draft.finished(finish, price)
}

fn lines(exchange: &mut Exchange<'_>, draft: &mut Draft, done: &mut bool) -> Result<(), CallError> {
    loop {
        let line = match exchange.lines.next() {
            Ok(Some(line)) => line.to_vec(),
            Ok(None) => return Ok(()),
            Err(fault) => return Err(exchange.fault(fault, draft.any())),
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line_read: Line = match serde_json::from_slice(&line) {
            Ok(read) => read,
            Err(error) => return Err(exchange.bad_json(&line, &error)),
        };
        if let Some(error) = line_read.error.filter(classify::is_error) {
            let said = Said::of(&json!({ "error": error })).unwrap_or_default();
            return Err(exchange.said(&said, &line));
        }
        if draft.model.is_none() {
            draft.model = line_read.model;
        }
        if let Some(message) = line_read.message {
            if let Some(thought) = message.thinking.filter(|thought| !thought.is_empty()) {
                exchange.content(thought.len());
                draft.push_reasoning(&thought)?;
            }
            if let Some(text) = message.content.filter(|text| !text.is_empty()) {
                exchange.text(&text);
                draft.push(&text)?;
            }
        }
        if line_read.done == Some(true) {
            // Programs that stand in for Ollama count as they like; no answer is lost to that.
            let number = |count: Option<Value>| count.as_ref().and_then(Value::as_u64).unwrap_or(0);
            draft.usage.input_tokens = number(line_read.prompt_eval_count);
            draft.usage.output_tokens = number(line_read.eval_count);
            draft.usage.cached_tokens = number(line_read.prompt_eval_cached_count);
            draft.usage = draft.usage.believed();
            draft.finish = line_read.done_reason;
            *done = true;
            return Ok(());
        }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    message: Option<Content>,
    #[serde(default)]
    done: Option<bool>,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<Value>,
    /// Of these, the cached ones; newer versions tell.
    #[serde(default)]
    prompt_eval_cached_count: Option<Value>,
    #[serde(default)]
    eval_count: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
}
