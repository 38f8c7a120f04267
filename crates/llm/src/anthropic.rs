//! Anthropic's messages. Always streamed: their own client refuses long answers in one piece.
//!
//! An answer is whole when `message_delta` gave a stop reason and `message_stop` came.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

use super::batches::Batches;
use super::cache;
use super::classify::{self, Said, rejects_schema};
use super::http::{Endpoint, Exchange, Format};
use super::openai::turns;
use super::stream::Event;
use super::whole::{Draft, Finish};
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, Usage, probe, structured};
use crate::config::{Cache, Model, Price, SchemaForm, Server};

mod batch;

/// `max_tokens` is required there; this is what is asked where nobody says.
const MAX_TOKENS: u64 = 16_384;

/// One endpoint of this dialect.
pub struct Anthropic {
    endpoint: Endpoint,
    max_output: Option<u64>,
    /// The server refused a schema once: it is put into the prompt from then on.
    schema_in_words: AtomicBool,
    /// A schema is put into the prompt because the table says so.
    few_words: bool,
    /// The server refused marks for its cache once.
    unmarked: AtomicBool,
    /// What is marked is kept for an hour.
    hour: bool,
}

impl Anthropic {
    pub(super) fn new(endpoint: Endpoint, model: &Model) -> Anthropic {
        Anthropic {
            endpoint,
            max_output: model.max_output,
            schema_in_words: AtomicBool::new(model.schemas == Some(SchemaForm::Words)),
            few_words: model.schemas == Some(SchemaForm::Words),
            unmarked: AtomicBool::new(false),
            hour: model.cache == Some(Cache::Hour),
        }
    }

    /// The body, and whether the schema is asked for natively in it.
    fn body(&self, request: &Request) -> (Value, bool) {
        let native = request
            .schema
            .as_ref()
            .filter(|_| !self.schema_in_words.load(Ordering::Relaxed))
            .and_then(structured::anthropic_subset);
        let words = native.is_none().then(|| request.schema_in_words(self.few_words)).flatten();
        let mut body = Map::new();
        body.insert("model".into(), json!(self.endpoint.model));
        body.insert("max_tokens".into(), json!(self.max_output.unwrap_or(MAX_TOKENS)));
        let turns = turns(request, words);
        let first = turns.first().map_or("", |(_, text)| text);
        let cuts = if self.unmarked.load(Ordering::Relaxed) { &[][..] } else { &request.division.cuts };
        let (system, first) = cache::anthropic(request, first, cuts, self.hour);
        if let Some(system) = system {
            body.insert("system".into(), system);
        }
        let later = turns.iter().skip(1).map(|(role, text)| json!({ "role": role, "content": text }));
        let messages = std::iter::once(json!({ "role": "user", "content": first })).chain(later);
        body.insert("messages".into(), messages.collect());
        let mut output = Map::new();
        for (name, value) in &request.params {
            match name.as_str() {
                "max_completion_tokens" | "max_tokens" => body.insert("max_tokens".into(), value.clone()),
                "stop" if value.is_string() => body.insert("stop_sequences".into(), json!([value])),
                "stop" => body.insert("stop_sequences".into(), value.clone()),
                "reasoning_effort" | "effort" => output.insert("effort".into(), value.clone()),
                // Not known there, and refused.
                "seed" | "frequency_penalty" | "presence_penalty" | "n" => None,
                _ => body.insert(name.clone(), value.clone()),
            };
        }
        let is_native = native.is_some();
        if let Some(schema) = native {
            output.insert("format".into(), json!({ "type": "json_schema", "schema": schema }));
        }
        if !output.is_empty() {
            body.insert("output_config".into(), Value::Object(output));
        }
        body.insert("stream".into(), json!(true));
        for (name, value) in &request.params_extra {
            body.insert(name.clone(), value.clone());
        }
        (Value::Object(body), is_native)
    }

    /// Learns from a refusal what the server does not take.
    fn adapted(&self, mut error: CallError, request: &Request, native: bool) -> CallError {
        let said = Said { message: error.message.text.clone(), ..Said::default() };
        if native && error.class == Class::BadRequest && rejects_schema(error.status, &said) {
            self.schema_in_words.store(true, Ordering::Relaxed);
            error.adapted = true;
        }
        if error.class == Class::BadRequest
            && said.message.contains("cache_control")
            && !request.division.cuts.is_empty()
            && !self.unmarked.swap(true, Ordering::Relaxed)
        {
            error.adapted = true;
        }
        error
    }

    fn attempt(&self, body: Value, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let bytes = serde_json::to_vec(&body).map_err(|error| {
            CallError::new(Class::Config, format!("the request cannot be written: {error}"))
        })?;
        let mut headers = vec![("anthropic-version", "2023-06-01"), ("accept", "text/event-stream")];
        if let Some(secret) = &self.endpoint.secret {
            headers.push(("x-api-key", secret.expose()));
        }
        // Prompts may be long, and many calls in flight: no more of it is kept than is needed.
        drop(body);
        let exchange = self.endpoint.post("v1/messages", &headers, &bytes, context)?;
        drop(bytes);
        read(exchange, self.endpoint.price)
    }
}

impl Provider for Anthropic {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let (body, native) = self.body(request);
        self.attempt(body, context).map_err(|error| self.adapted(error, request, native))
    }

    fn health(&self) -> Health {
        probe::plain_health(&self.endpoint, "/")
    }

    fn count_tokens(&self, request: &Request) -> Option<u64> {
        let (mut body, _) = self.body(request);
        if let Some(members) = body.as_object_mut() {
            members.retain(|name, _| matches!(name.as_str(), "model" | "messages" | "system"));
        }
        let mut headers = vec![("anthropic-version", "2023-06-01")];
        if let Some(secret) = &self.endpoint.secret {
            headers.push(("x-api-key", secret.expose()));
        }
        probe::count_tokens(&self.endpoint, "v1/messages/count_tokens", &body, &headers)
    }

    fn is_busy(&self) -> Option<bool> {
        probe::is_busy(&self.endpoint, Server::Other)
    }

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }
}

fn read(mut exchange: Exchange<'_>, price: Option<Price>) -> Result<Reply, CallError> {
    let mut draft = Draft::new(exchange.started);
    let mut state = State::default();
    let result = match exchange.format() {
        Ok(Format::Events) => events(&mut exchange, &mut draft, &mut state),
        Ok(Format::Json) => one_piece(&mut exchange, &mut draft, &mut state),
        Ok(Format::Empty) => {
            let empty = CallError::new(Class::EmptyResponse, "the server answered 200 and nothing else");
            Err(exchange.ended().unwrap_or(empty))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        return Err(draft.fail(error));
    }
    if !state.stopped || draft.finish.is_none() {
        if let Some(error) = exchange.ended() {
            return Err(draft.fail(error));
        }
        return Err(draft.unfinished("`message_stop` and a stop reason"));
    }
    let word = draft.finish.clone().unwrap_or_default();
    let finish = match word.as_str() {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::Context,
        "refusal" => Finish::Refused(state.refusal),
        "tool_use" => Finish::Tool,
        _ => Finish::Other(word),
    };
    draft.finished(finish, price)
}

#[derive(Default)]
struct State {
    stopped: bool,
    refusal: String,
}

fn events(exchange: &mut Exchange<'_>, draft: &mut Draft, state: &mut State) -> Result<(), CallError> {
    let mut event = Event::default();
    loop {
        match event.read(&mut exchange.lines) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(fault) => return Err(exchange.fault(fault, draft.any())),
        }
        if event.data.trim_ascii() == b"[DONE]" {
            // Not theirs, but what gateways end every stream with: as good as `message_stop`.
            state.stopped = true;
            return Ok(());
        }
        if event.name == "error" {
            // By custom JSON, from gateways any words.
            let said = Said::read(&String::from_utf8_lossy(&event.data)).unwrap_or_default();
            return Err(exchange.said(&said, &event.data));
        }
        let message: Message = match serde_json::from_slice(&event.data) {
            Ok(message) => message,
            Err(error) => return Err(exchange.bad_json(&event.data, &error)),
        };
        match message.kind.as_str() {
            "message_start" => {
                let start = message.message.unwrap_or_default();
                take_start(draft, &start);
            }
            "content_block_start" => {
                if let Some(block) = message.content_block {
                    push(exchange, draft, &block)?;
                }
            }
            "content_block_delta" => {
                if let Some(delta) = message.delta {
                    push(exchange, draft, &delta)?;
                }
            }
            "message_delta" => {
                let delta = message.delta.unwrap_or_default();
                take_stop(draft, state, &delta);
                if let Some(usage) = message.usage {
                    take_usage(&usage, &mut draft.usage);
                }
            }
            "message_stop" => {
                state.stopped = true;
                return Ok(());
            }
            "error" => {
                let said = message.error.and_then(|error| Said::of(&json!({ "error": error })));
                return Err(exchange.said(&said.unwrap_or_default(), &event.data));
            }
            // `ping`, `content_block_stop`, and kinds yet to be invented. llama.cpp's errors have no type.
            _ => {
                if let Some(error) = message.error.filter(classify::is_error) {
                    let said = Said::of(&json!({ "error": error })).unwrap_or_default();
                    return Err(exchange.said(&said, &event.data));
                }
            }
        }
    }
}

/// An answer in one piece, from servers that do not stream it though asked to.
fn one_piece(exchange: &mut Exchange<'_>, draft: &mut Draft, state: &mut State) -> Result<(), CallError> {
    let (body, fault) = exchange.lines.rest(super::stream::BODY_CAP as usize + 1);
    if let Some(fault) = fault {
        return Err(exchange.fault(fault, !body.is_empty()));
    }
    let message: Value = match serde_json::from_slice(&body) {
        Ok(message) => message,
        Err(error) => return Err(exchange.bad_json(&body, &error)),
    };
    if message.get("error").is_some_and(classify::is_error) || message["type"] == "error" {
        return Err(exchange.said(&Said::of(&message).unwrap_or_default(), &body));
    }
    take_start(draft, &message);
    for block in message["content"].as_array().into_iter().flatten() {
        push(exchange, draft, block)?;
    }
    take_stop(draft, state, &message);
    state.stopped = true;
    Ok(())
}

fn push(exchange: &Exchange<'_>, draft: &mut Draft, block: &Value) -> Result<(), CallError> {
    let text = |name: &str| block.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match block.get("type").and_then(Value::as_str).unwrap_or_default() {
        "text" | "text_delta" => {
            if let Some(text) = text("text") {
                exchange.text(text);
                draft.push(text)?;
            }
        }
        "thinking" | "thinking_delta" => {
            if let Some(thought) = text("thinking") {
                exchange.content(thought.len());
                draft.push_reasoning(thought)?;
            }
        }
        // Signatures and the input of tools: signs of life, not of an answer.
        _ => exchange.content(0),
    }
    Ok(())
}

fn take_start(draft: &mut Draft, message: &Value) {
    let text = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
    draft.id = text("id");
    draft.model = text("model");
    take_usage(&message["usage"], &mut draft.usage);
}

fn take_stop(draft: &mut Draft, state: &mut State, delta: &Value) {
    if let Some(reason) = delta.get("stop_reason").and_then(Value::as_str) {
        draft.finish = Some(reason.to_owned());
    }
    if let Some(why) = delta.pointer("/stop_details/explanation").and_then(Value::as_str) {
        state.refusal = why.to_owned();
    }
}

/// Their `input_tokens` leaves out what was cached; ours counts all.
pub(crate) fn take_usage(from: &Value, usage: &mut Usage) {
    let number = |name: &str| from.get(name).and_then(Value::as_u64);
    if let Some(input) = number("input_tokens") {
        // The last event may tell less than the first.
        let read = number("cache_read_input_tokens").unwrap_or(usage.cached_tokens);
        let written = number("cache_creation_input_tokens").unwrap_or(usage.cache_write_tokens);
        usage.input_tokens = input.saturating_add(written).saturating_add(read);
        usage.cached_tokens = read;
        usage.cache_write_tokens = written;
    }
    usage.output_tokens = number("output_tokens").unwrap_or(usage.output_tokens);
    if let Some(thinking) = from.pointer("/output_tokens_details/thinking_tokens").and_then(Value::as_u64) {
        usage.thinking_tokens = thinking;
    }
    *usage = usage.believed();
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    delta: Option<Value>,
    #[serde(default)]
    content_block: Option<Value>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}
