//! Chat completions, as OpenAI and every compatible server speak them: one dialect, and a profile for each
//! server's manners.
//!
//! An answer is whole when a finish reason came and the stream then ended cleanly; `[DONE]` is not needed
//! (some never send it) and not enough (vLLM sends it after an error).

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde_json::{Map, Value, json};

use crate::attachment;
use crate::batches::Batches;
use crate::classify::{Said, rejects_schema, wants_completion_tokens};
use crate::config::{Model, PriceMode, SchemaForm, Server};
use crate::http::{Endpoint, Exchange};
use crate::{CallContext, CallError, Class, Health, Provider, Reply, Request, cache, probe, structured};

mod answer;
mod batch;

use answer::read;
pub(crate) use answer::take_usage;

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
    /// A schema is put into the prompt because the table says so.
    few_words: bool,
    /// Calls are asked for at half the price.
    flex: bool,
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
            schema_in_words: AtomicBool::new(model.schemas == Some(SchemaForm::Words)),
            few_words: model.schemas == Some(SchemaForm::Words),
            flex: model.price_mode == Some(PriceMode::Flex),
            completion_tokens: AtomicBool::new(false),
        }
    }

    /// Which program serves it, as far as known.
    pub fn server(&self) -> Server {
        SERVERS[self.server.load(Ordering::Relaxed) as usize % SERVERS.len()]
    }

    fn post<'a>(&'a self, body: Value, context: &CallContext<'a>) -> Result<Exchange<'a>, CallError> {
        let bytes = serde_json::to_vec(&body).map_err(|error| {
            CallError::new(Class::Config, format!("the request cannot be written: {error}"))
        })?;
        // Prompts may be long, and many calls in flight: no more of it is kept than is needed.
        drop(body);
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
        let words =
            matches!(shape, Some(Shape::Words)).then(|| request.schema_in_words(self.few_words)).flatten();
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
        // Others may refuse a field that they do not know.
        if server == Server::Openai
            && let Some(key) = cache::key(request)
        {
            body.insert("prompt_cache_key".into(), json!(key));
        }
        if self.flex {
            body.insert("service_tier".into(), json!("flex"));
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
pub(super) fn turns(request: &Request, schema_in_words: Option<String>) -> Vec<(&'static str, String)> {
    let mut prompt = request.prompt.clone();
    if let Some(words) = schema_in_words {
        prompt.push_str("\n\n");
        prompt.push_str(&words);
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

fn messages(request: &Request, schema_in_words: Option<String>) -> Value {
    let system = (!request.system.trim().is_empty()).then(|| ("system", request.system.clone()));
    let with_files = usize::from(system.is_some());
    let all = system.into_iter().chain(turns(request, schema_in_words)).enumerate();
    all.map(|(at, (role, content))| {
        let files = if at == with_files { &*request.files } else { &[] };
        json!({ "role": role, "content": attachment::openai(files, &content) })
    })
    .collect()
}

impl Provider for OpenAi {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let (body, shape) = self.body(request);
        let max_tokens = body.get("max_tokens").is_some();
        let mut error = match self.post(body, context) {
            Ok(exchange) => {
                self.learn(&exchange);
                match read(exchange, self.endpoint.price, self.flex) {
                    Ok(reply) => return Ok(self.meant(reply, request, shape.as_ref())),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        error.adapted = self.adapt(&error, max_tokens, shape.as_ref());
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

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }
}

impl OpenAi {
    /// Learns from a refusal what form the server does not take; true if the next request will differ.
    fn adapt(&self, error: &CallError, max_tokens: bool, shape: Option<&Shape>) -> bool {
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
        if max_tokens && wants_completion_tokens(&said) {
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
