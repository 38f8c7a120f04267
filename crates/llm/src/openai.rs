//! Chat completions, as OpenAI and every compatible server speak them: one dialect, and a profile for each
//! server's manners.
//!
//! An answer is whole when a finish reason came and the stream then ended cleanly; `[DONE]` is not needed
//! (some never send it) and not enough (vLLM sends it after an error).

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::classify::{self, Said, rejects_schema, wants_completion_tokens};
use super::http::{Endpoint, Exchange, Format};
use super::stream::Event;
use super::whole::{Draft, Finish};
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, probe, structured};
use crate::config::{Model, Server};

const SERVERS: [Server; 8] = [
    Server::Openai,
    Server::LmStudio,
    Server::LlamaCpp,
    Server::Vllm,
    Server::OpenRouter,
    Server::LiteLlm,
    Server::Ollama,
    Server::Other,
];

/// One endpoint of this dialect.
pub struct OpenAi {
    endpoint: Endpoint,
    /// Index into [`SERVERS`]: as the table says, as the address suggests, or as an answer's headers told.
    server: AtomicU8,
    /// Whether the table says it, so that nothing seen changes it.
    fixed: bool,
    /// The server refused a schema once: it is put into the prompt from then on.
    schema_in_words: AtomicBool,
    /// The server refused `max_tokens` once.
    completion_tokens: AtomicBool,
}

impl OpenAi {
    pub(super) fn new(endpoint: Endpoint, model: &Model) -> OpenAi {
        let server = model.server.unwrap_or_else(|| guess(&endpoint));
        OpenAi {
            endpoint,
            server: AtomicU8::new(index(server)),
            fixed: model.server.is_some(),
            schema_in_words: AtomicBool::new(false),
            completion_tokens: AtomicBool::new(false),
        }
    }

    /// Which program serves it, as far as known.
    pub fn server(&self) -> Server {
        SERVERS[self.server.load(Ordering::Relaxed) as usize % SERVERS.len()]
    }

    fn post<'a>(&'a self, body: &Value, context: &CallContext<'a>) -> Result<Exchange<'a>, CallError> {
        let bytes = serde_json::to_vec(body).map_err(|error| {
            CallError::new(Class::Config, format!("the request cannot be written: {error}"))
        })?;
        let bearer = self.endpoint.bearer();
        let mut headers = vec![("accept", "text/event-stream, application/json")];
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        self.endpoint.post("chat/completions", &headers, &bytes, context)
    }

    /// Learns from an answer's headers which program gave it.
    fn learn(&self, exchange: &Exchange<'_>) {
        if self.fixed || self.server() != Server::Other {
            return;
        }
        let server = if exchange.header("server").is_some_and(|name| name.contains("llama.cpp")) {
            Server::LlamaCpp
        } else if exchange.header("x-litellm-version").or(exchange.header("x-litellm-call-id")).is_some() {
            Server::LiteLlm
        } else if exchange.header("openai-version").is_some() && !self.endpoint.local {
            Server::Openai
        } else {
            return;
        };
        self.server.store(index(server), Ordering::Relaxed);
    }

    fn body(&self, request: &Request) -> (Value, Option<Shape>) {
        let server = self.server();
        let shape = request.schema.as_ref().map(|schema| {
            if self.schema_in_words.load(Ordering::Relaxed) {
                return Shape::Words;
            }
            // Servers with a grammar of their own take the schema as it is; who may hand it on to OpenAI
            // gets it in strict form, where it has one.
            let native =
                matches!(server, Server::LmStudio | Server::LlamaCpp | Server::Vllm | Server::Ollama)
                    || (server == Server::Other && self.endpoint.local);
            match (native, structured::openai_strict(schema)) {
                (true, _) => Shape::Native(schema.clone(), true),
                (false, Some(strict)) => Shape::Strict(strict),
                (false, None) => Shape::Native(schema.clone(), false),
            }
        });
        let mut body = Map::new();
        body.insert("model".into(), json!(self.endpoint.model));
        let words = matches!(shape, Some(Shape::Words)).then(|| request.schema.as_ref()).flatten();
        body.insert("messages".into(), messages(request, words));
        for (name, value) in &request.params {
            let name = match name.as_str() {
                "max_tokens" | "max_completion_tokens" => {
                    let completion =
                        server == Server::Openai || self.completion_tokens.load(Ordering::Relaxed);
                    if completion { "max_completion_tokens" } else { "max_tokens" }
                }
                name => name,
            };
            body.insert(name.into(), value.clone());
        }
        match &shape {
            Some(Shape::Strict(schema)) => {
                body.insert("response_format".into(), response_format(request, schema, true));
            }
            Some(Shape::Native(schema, strict)) => {
                body.insert("response_format".into(), response_format(request, schema, *strict));
            }
            Some(Shape::Words) | None => {}
        }
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        if server == Server::LlamaCpp {
            body.insert("return_progress".into(), json!(true));
        }
        if server == Server::OpenRouter && shape.is_some() {
            // Without it a provider may be chosen that ignores `response_format`.
            body.insert("provider".into(), json!({ "require_parameters": true }));
        }
        for (name, value) in &request.params_extra {
            body.insert(name.clone(), value.clone());
        }
        (Value::Object(body), shape)
    }
}

/// How the schema was asked for.
enum Shape {
    /// In OpenAI's strict form.
    Strict(Value),
    /// As it is; `strict` on or off.
    Native(Value, bool),
    /// In the prompt.
    Words,
}

fn index(server: Server) -> u8 {
    SERVERS.iter().position(|s| *s == server).unwrap_or(SERVERS.len() - 1) as u8
}

/// The program an address suggests: vendors by host, local ones by their usual port.
fn guess(endpoint: &Endpoint) -> Server {
    match (endpoint.site.host.as_str(), endpoint.local, endpoint.site.port) {
        ("api.openai.com", ..) => Server::Openai,
        ("openrouter.ai", ..) => Server::OpenRouter,
        (_, true, 1234) => Server::LmStudio,
        (_, true, 11434) => Server::Ollama,
        _ => Server::Other,
    }
}

fn response_format(request: &Request, schema: &Value, strict: bool) -> Value {
    json!({
        "type": "json_schema",
        "json_schema": { "name": structured::name(&request.task), "schema": schema, "strict": strict }
    })
}

/// System, prompt, and each rejected answer with what was wrong with it. Roles alternate, which some
/// chat templates insist on: feedback on an empty answer is joined to what was asked before.
pub(super) fn turns(request: &Request, schema_in_words: Option<&Value>) -> Vec<(&'static str, String)> {
    let mut prompt = request.prompt.clone();
    if let Some(schema) = schema_in_words {
        prompt.push_str("\n\n");
        prompt.push_str(&structured::in_words(schema));
    }
    let mut turns = vec![("user", prompt)];
    for rejected in &request.rejected {
        if rejected.answer.trim().is_empty() {
            if let Some((_, text)) = turns.last_mut() {
                text.push_str("\n\n");
                text.push_str(&rejected.feedback);
            }
        } else {
            turns.push(("assistant", rejected.answer.clone()));
            turns.push(("user", rejected.feedback.clone()));
        }
    }
    turns
}

fn messages(request: &Request, schema_in_words: Option<&Value>) -> Value {
    let system = (!request.system.trim().is_empty()).then(|| ("system", request.system.clone()));
    let all = system.into_iter().chain(turns(request, schema_in_words));
    all.map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

impl Provider for OpenAi {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let (body, shape) = self.body(request);
        let mut error = match self.post(&body, context) {
            Ok(exchange) => {
                self.learn(&exchange);
                match read(exchange, self.endpoint.price) {
                    Ok(reply) => return Ok(self.meant(reply, request, shape.as_ref())),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        error.adapted = self.adapt(&error, &body, shape.as_ref());
        Err(error)
    }

    fn health(&self) -> Health {
        probe::openai_health(&self.endpoint, self.server())
    }

    fn count_tokens(&self, request: &Request) -> Option<u64> {
        // llama.cpp takes the same body; vLLM the messages alone, at the root of the site.
        let path = match self.server() {
            Server::LlamaCpp => "chat/completions/input_tokens",
            Server::Vllm => "/tokenize",
            _ => return None,
        };
        let (mut body, _) = self.body(request);
        if let Some(members) = body.as_object_mut() {
            members.retain(|name, _| matches!(name.as_str(), "model" | "messages"));
        }
        let bearer = self.endpoint.bearer();
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        probe::count_tokens(&self.endpoint, path, &body, &headers)
    }

    fn is_busy(&self) -> Option<bool> {
        probe::is_busy(&self.endpoint, self.server())
    }
}

impl OpenAi {
    /// Learns from a refusal what form the server does not take; true if the next request will differ.
    fn adapt(&self, error: &CallError, body: &Value, shape: Option<&Shape>) -> bool {
        if !matches!(error.class, Class::BadRequest | Class::ServerError) || !error.partial.is_empty() {
            return false;
        }
        let said = Said {
            message: error.message.text.clone(),
            code: error.code.clone().unwrap_or_default(),
            ..Said::default()
        };
        let native = matches!(shape, Some(Shape::Native(..) | Shape::Strict(_)));
        if native && rejects_schema(error.status.filter(|status| *status != 200), &said) {
            self.schema_in_words.store(true, Ordering::Relaxed);
            return true;
        }
        if body.get("max_tokens").is_some() && wants_completion_tokens(&said) {
            self.completion_tokens.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// The answer as it was meant, where strict mode made it write nulls for what is absent.
    fn meant(&self, mut reply: Reply, request: &Request, shape: Option<&Shape>) -> Reply {
        if let (Some(Shape::Strict(_)), Some(schema)) = (shape, &request.schema)
            && let Some(text) = structured::without_made_nulls(&reply.text, schema)
        {
            reply.text = text;
        }
        reply
    }
}

/// Reads an answer, streamed or in one piece.
fn read(mut exchange: Exchange<'_>, price: Option<crate::config::Price>) -> Result<Reply, CallError> {
    let mut draft = Draft::new(exchange.started);
    let mut ending = Ending::default();
    let result = match exchange.format() {
        Ok(Format::Events) => events(&mut exchange, &mut draft, &mut ending),
        Ok(Format::Json) => {
            let (body, fault) = exchange.lines.rest(super::stream::BODY_CAP as usize + 1);
            match fault {
                Some(fault) => Err(exchange.fault(fault, !body.is_empty())),
                None => chunks(&exchange, &body, &mut draft, &mut ending),
            }
        }
        Ok(Format::Empty) => {
            let empty = CallError::new(Class::EmptyResponse, "the server answered 200 and nothing else");
            Err(exchange.ended().unwrap_or(empty))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        return Err(draft.fail(error));
    }
    if let Some(error) = exchange.ended().filter(|_| draft.finish.is_none()) {
        return Err(draft.fail(error));
    }
    let Some(word) = draft.finish.clone() else { return Err(draft.unfinished("a finish reason")) };
    // Gateways hand on other vendors' words as they are: `STOP`, `MAX_TOKENS`, `SAFETY`, `COMPLETE`.
    let finish = match word.to_ascii_lowercase().as_str() {
        _ if !ending.refusal.is_empty() => Finish::Refused(ending.refusal),
        "stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn" | "stop_token" | "complete"
        | "completed" => Finish::Stop,
        "length" | "max_tokens" | "model_length" | "max_output_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::Context,
        "content_filter" | "refusal" | "safety" => Finish::Refused(String::new()),
        "tool_calls" | "function_call" | "tool_use" => Finish::Tool,
        _ => Finish::Other(word),
    };
    let server_cost = draft.usage.cost_usd;
    let mut reply = draft.finished(finish, price)?;
    if price.is_none() {
        reply.usage.cost_usd = server_cost;
    }
    Ok(reply)
}

#[derive(Default)]
struct Ending {
    refusal: String,
    /// Tokens of the prompt that the server has read.
    read: u64,
    /// The text comes in deltas. Some add the message so far to each (Perplexity), or the whole to the last.
    deltas: bool,
}

fn events(exchange: &mut Exchange<'_>, draft: &mut Draft, ending: &mut Ending) -> Result<(), CallError> {
    let mut event = Event::default();
    loop {
        match event.read(&mut exchange.lines) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // After the finish reason nothing of worth can be lost but the usage; yet a reset is a cut.
            Err(fault) => return Err(exchange.fault(fault, draft.any())),
        }
        if event.data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        if event.data.trim_ascii().is_empty() {
            continue;
        }
        if event.name == "error" {
            let text = String::from_utf8_lossy(&event.data);
            let said = Said::read(&text).unwrap_or_default();
            return Err(exchange.said(&said, &event.data));
        }
        chunks(exchange, &event.data, draft, ending)?;
    }
}

/// Takes in one chunk (or several, from servers that put no empty line between them).
fn chunks(
    exchange: &Exchange<'_>,
    data: &[u8],
    draft: &mut Draft,
    ending: &mut Ending,
) -> Result<(), CallError> {
    let values = serde_json::Deserializer::from_slice(data).into_iter::<Chunk<'_>>();
    for chunk in values {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Err(exchange.bad_json(data, &error)),
        };
        if let Some(error) = chunk.error.filter(classify::is_error) {
            let mut said = Said::of(&json!({ "error": error })).unwrap_or_default();
            if said == Said::default() {
                said.message = error.to_string();
            }
            return Err(exchange.said(&said, data));
        }
        // Older vLLM: a flat error.
        if chunk.object.is_some_and(|object| object.0 == "error") {
            let said = serde_json::from_slice(data).ok().and_then(|value: Value| Said::of(&value));
            return Err(exchange.said(&said.unwrap_or_default(), data));
        }
        if let Some(progress) = chunk.prompt_progress {
            let number = |name: &str| progress.get(name).and_then(Value::as_u64).unwrap_or(0);
            // The same figure again is no progress.
            if number("processed") > ending.read {
                ending.read = number("processed");
                exchange.reading(ending.read, number("total"));
            }
        }
        if draft.id.is_none() {
            draft.id = chunk.id.map(Text::into_owned).filter(|id| !id.is_empty());
        }
        if draft.model.is_none() {
            draft.model = chunk.model.map(Text::into_owned).filter(|model| !model.is_empty());
        }
        if let Some(usage) = chunk.usage {
            take_usage(&usage, &mut draft.usage);
        }
        for (place, choice) in (0..).zip(chunk.choices.unwrap_or_default()) {
            if choice.index.unwrap_or(place) != 0 {
                continue;
            }
            ending.deltas |= choice.delta.as_ref().is_some_and(Delta::says_something);
            let message = choice.message.filter(|_| !ending.deltas);
            for delta in [choice.delta, message].into_iter().flatten() {
                // Some send both names with the same text.
                let mut thoughts = [delta.reasoning_content, delta.reasoning].into_iter().flatten();
                if let Some(Text(thought)) = thoughts.find(|text| !text.is_empty()) {
                    exchange.content(thought.len());
                    draft.push_reasoning(&thought)?;
                }
                if let Some(Text(text)) = delta.content.filter(|text| !text.is_empty()) {
                    exchange.text(&text);
                    draft.push(&text)?;
                }
                if let Some(Text(refusal)) = delta.refusal.filter(|text| !text.is_empty()) {
                    exchange.content(refusal.len());
                    ending.refusal.push_str(&refusal);
                }
                // Some send an empty list with every piece, and with no piece at all.
                if delta
                    .tool_calls
                    .is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty()))
                {
                    exchange.content(0);
                }
            }
            if let Some(error) = choice.error.filter(classify::is_error) {
                let said = Said::of(&json!({ "error": error })).unwrap_or_default();
                return Err(exchange.said(&said, data));
            }
            if let Some(finish) = choice.finish_reason.filter(|finish| !finish.is_empty()) {
                draft.finish = Some(finish.into_owned());
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    prompt_progress: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<i64>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(default)]
    error: Option<Value>,
}

impl Delta<'_> {
    fn says_something(&self) -> bool {
        [&self.content, &self.reasoning_content, &self.reasoning, &self.refusal]
            .into_iter()
            .flatten()
            .any(|text| !text.is_empty())
    }
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
    #[serde(default)]
    tool_calls: Option<Value>,
}

/// Takes in usage as the many servers write it; what is missing or of another type changes nothing.
fn take_usage(from: &Value, usage: &mut super::Usage) {
    let number = |pointer: &str| from.pointer(pointer).and_then(Value::as_u64);
    usage.input_tokens = number("/prompt_tokens").unwrap_or(usage.input_tokens);
    usage.output_tokens = number("/completion_tokens").unwrap_or(usage.output_tokens);
    // Cached ones are among `prompt_tokens` here. DeepSeek names them its own way.
    usage.cached_tokens = number("/prompt_tokens_details/cached_tokens")
        .or_else(|| number("/prompt_cache_hit_tokens"))
        .unwrap_or(usage.cached_tokens);
    usage.cache_write_tokens =
        number("/prompt_tokens_details/cache_write_tokens").unwrap_or(usage.cache_write_tokens);
    usage.thinking_tokens =
        number("/completion_tokens_details/reasoning_tokens").unwrap_or(usage.thinking_tokens);
    usage.cost_usd = from.get("cost").and_then(Value::as_f64).unwrap_or(usage.cost_usd);
    *usage = usage.believed();
}

/// A text that may be a string, a number, null, or a list of parts with the text in them.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed("")))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let mut all = String::new();
                while let Some(Text(part)) = parts.next_element()? {
                    all.push_str(&part);
                }
                Ok(Text(Cow::Owned(all)))
            }
            // A part: `{"type": "text", "text": "…"}`; others (thinking, images) hold no answer.
            fn visit_map<A: MapAccess<'de>>(self, mut part: A) -> Result<Self::Value, A::Error> {
                let mut text = Cow::Borrowed("");
                while let Some(key) = part.next_key::<Cow<'de, str>>()? {
                    if key == "text" {
                        text = part.next_value_seed(TextSeed)?.0;
                    } else {
                        part.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Text(text))
            }
        }
        struct TextSeed;
        impl<'de> DeserializeSeed<'de> for TextSeed {
            type Value = Text<'de>;
            fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                Text::deserialize(deserializer)
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}
