//! The model's own server, as a client's request reaches it: with the real key, the model's name, and nothing else changed.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::seen::{Pass, Seen};
use super::{Route, is_streamed};
use crate::config::{Api, Model, Price};
use crate::http::{Endpoint, Exchange, Format};
use crate::stream::Fault;
use crate::whole::cost;
use crate::{CallContext, CallError, Class, Reply, Setup};

/// Headers of a client that change what its vendor's server does.
const PASSED: [&str; 3] = ["anthropic-version", "anthropic-beta", "openai-beta"];

/// The server of one model.
pub struct Upstream {
    endpoint: Endpoint,
    api: Api,
}

/// A request as it is passed on.
#[derive(Debug)]
pub struct Passing {
    route: Route,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    streamed: bool,
    /// The usage was asked for here, and not by the client.
    drop_usage: bool,
}

/// An answer that passed whole.
#[derive(Debug)]
pub struct Passed {
    /// What the ledger says of it.
    pub reply: Reply,
    /// Its media type.
    pub content_type: &'static str,
    /// All of it, as the client gets it.
    pub body: String,
    /// Of a stream the part that is not sent yet; of an answer in one piece all.
    pub held: String,
    /// Whether it is a stream, of which the rest was sent.
    pub streamed: bool,
}

/// An answer that did not pass whole.
#[derive(Debug)]
pub struct Broken {
    /// Why. What the server said is in it as `raw`.
    pub error: CallError,
    /// The server said so in its stream, and the client was told.
    pub told: bool,
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Broken {
        Broken { error, told: false }
    }
}

impl Upstream {
    /// The server of a model; none for those that have no server, or one with other words than its clients'.
    pub fn new(model: &Model, setup: &Setup<'_>) -> Result<Option<Upstream>, CallError> {
        match model.api {
            Some(api @ (Api::Openai | Api::Anthropic | Api::Ollama)) => {
                Ok(Some(Upstream { endpoint: Endpoint::new(model, setup)?, api }))
            }
            _ => Ok(None),
        }
    }

    /// Whether the model's server speaks a route; if not, in words.
    pub fn speaks(&self, route: Route) -> Result<(), String> {
        let fits = match (self.api, route) {
            (Api::Anthropic, Route::Messages | Route::CountTokens) => true,
            (Api::Anthropic, _) => false,
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "the model of this task speaks the dialect `{}`, which has no /v1/{}: ask /v1/messages",
            self.api.name(),
            route.path()
        ))
    }

    /// A client's request with the model's name in it, and with the usage asked for.
    pub fn passing(
        &self,
        route: Route,
        mut body: Map<String, Value>,
        header: impl Fn(&str) -> Option<String>,
    ) -> Passing {
        body.insert("model".into(), json!(self.endpoint.model));
        let streamed = is_streamed(&body);
        let mut drop_usage = false;
        if route == Route::Chat && streamed {
            let options = body.entry("stream_options").or_insert_with(|| json!({}));
            if options.is_null() {
                *options = json!({});
            }
            drop_usage = options["include_usage"] != true;
            if let Some(options) = options.as_object_mut() {
                options.insert("include_usage".into(), json!(true));
            }
        }
        let headers = PASSED.into_iter().filter_map(|name| Some((name, header(name)?))).collect();
        Passing { route, body: Value::Object(body).to_string().into_bytes(), headers, streamed, drop_usage }
    }

    /// Passes a request on, and of a streamed answer each event to `piece` as it arrives, but for those with which it is
    /// whole.
    pub fn call(
        &self,
        passing: &Passing,
        context: &CallContext<'_>,
        piece: &mut dyn FnMut(&str),
    ) -> Result<Passed, Broken> {
        let started = Instant::now();
        let mut headers: Vec<(&str, &str)> =
            passing.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("accept", if passing.streamed { "text/event-stream" } else { "application/json" }));
        let bearer = self.endpoint.bearer();
        match (self.api, &self.endpoint.secret) {
            (Api::Anthropic, secret) => {
                if !headers.iter().any(|(name, _)| *name == "anthropic-version") {
                    headers.push(("anthropic-version", "2023-06-01"));
                }
                if let Some(secret) = secret {
                    headers.push(("x-api-key", secret.expose()));
                }
            }
            _ => headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str()))),
        }
        let path = match self.api {
            // Their base has the version in it.
            Api::Openai => passing.route.path().to_owned(),
            _ => format!("v1/{}", passing.route.path()),
        };
        let mut exchange = match passing.streamed {
            true => self.endpoint.post(&path, &headers, &passing.body, context)?,
            false => self.endpoint.post_for_whole(&path, &headers, &passing.body, context)?,
        };
        let mut seen = Seen::new(passing.route, passing.drop_usage);
        let mut stream = Stream { started, first: None, body: String::new(), held: String::new() };
        let streamed = match exchange.format()? {
            Format::Events => {
                let result = stream.pass(&mut exchange, &mut seen, piece);
                result.map_err(|error| failed(error, &seen, self.endpoint.price))?;
                true
            }
            Format::Json => {
                let (bytes, fault) = exchange.lines.rest(crate::stream::BODY_CAP as usize + 1);
                if let Some(fault) = fault {
                    return Err(exchange.fault(fault, !bytes.is_empty()).into());
                }
                let value: Value =
                    serde_json::from_slice(&bytes).map_err(|error| exchange.bad_json(&bytes, &error))?;
                exchange.content(bytes.len());
                seen.whole(&value);
                stream.body = String::from_utf8(bytes)
                    .map_err(|_| exchange.bad_data("the answer is not valid UTF-8".to_owned()))?;
                stream.held.clone_from(&stream.body);
                false
            }
            Format::Empty => {
                let empty = CallError::new(Class::EmptyResponse, "the server answered 200 and nothing else");
                return Err(exchange.ended().unwrap_or(empty).into());
            }
        };
        let price = self.endpoint.price;
        if let Some(said) = &seen.error {
            let error = failed(exchange.said(said, stream.body.as_bytes()), &seen, price);
            return Err(Broken { error, told: streamed });
        }
        if !seen.is_whole() {
            let cut = CallError::new(Class::Cut, "the answer was cut off: it ended without a finish reason");
            return Err(failed(exchange.ended().unwrap_or(cut), &seen, price).into());
        }
        Ok(Passed {
            reply: reply_of(&seen, price, stream.first, started),
            content_type: if streamed { "text/event-stream" } else { "application/json" },
            body: stream.body,
            held: stream.held,
            streamed,
        })
    }
}

fn priced(seen: &Seen, price: Option<Price>) -> crate::Usage {
    let cost_usd = price.map_or(seen.usage.cost_usd, |price| cost(&seen.usage, &price));
    crate::Usage { cost_usd, ..seen.usage }
}

/// What the ledger says of an answer.
fn reply_of(seen: &Seen, price: Option<Price>, first: Option<f64>, started: Instant) -> Reply {
    let took = started.elapsed().as_secs_f64();
    Reply {
        text: seen.shown(),
        usage: priced(seen, price),
        model: seen.model.clone(),
        finish: seen.finish.clone(),
        id: seen.id.clone(),
        first_token_s: first.or(Some(took)),
        duration_s: took,
        ..Reply::default()
    }
}

fn failed(mut error: CallError, seen: &Seen, price: Option<Price>) -> CallError {
    error.partial = seen.shown();
    error.usage = priced(seen, price);
    error
}

/// A stream on its way through.
struct Stream {
    started: Instant,
    first: Option<f64>,
    body: String,
    held: String,
}

impl Stream {
    fn pass(
        &mut self,
        exchange: &mut Exchange<'_>,
        seen: &mut Seen,
        piece: &mut dyn FnMut(&str),
    ) -> Result<(), CallError> {
        let (mut event, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
        loop {
            let line = match exchange.lines.next() {
                Ok(line) => line,
                Err(Fault::Broken(_)) if seen.is_whole() => None,
                Err(fault) => return Err(exchange.fault(fault, self.first.is_some())),
            };
            let over = line.is_none();
            if let Some(line) = line {
                event.extend_from_slice(line);
                event.push(b'\n');
                if !line.is_empty() {
                    field(line, &mut name, &mut data);
                    continue;
                }
            } else if event.is_empty() {
                return Ok(());
            } else {
                event.push(b'\n');
            }
            let pass = if data.is_empty() { Pass::On } else { seen.event(&name, &data) };
            if !data.is_empty() && name != "ping" {
                self.first.get_or_insert_with(|| self.started.elapsed().as_secs_f64());
                exchange.content(data.len());
            }
            let text = String::from_utf8_lossy(&event);
            match pass {
                Pass::Dropped => {}
                // A sign of life goes on at once, unless it would come after the end.
                Pass::On if self.held.is_empty() => {
                    self.body.push_str(&text);
                    piece(&text);
                }
                Pass::On | Pass::Held => {
                    self.body.push_str(&text);
                    self.held.push_str(&text);
                }
            }
            drop(text);
            event.clear();
            name.clear();
            data.clear();
            if over {
                return Ok(());
            }
        }
    }
}

/// Takes in a line of an event.
fn field(line: &[u8], name: &mut String, data: &mut Vec<u8>) {
    let (field, value) = match line.iter().position(|byte| *byte == b':') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &b""[..]),
    };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match field {
        b"data" => {
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(value);
        }
        b"event" => *name = String::from_utf8_lossy(value).into_owned(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_event_are_put_together() {
        let (mut name, mut data) = (String::new(), Vec::new());
        for line in ["event: message_stop", "data: {", "data:}", "data", ": a comment", "id: 7", "retry"] {
            field(line.as_bytes(), &mut name, &mut data);
        }
        assert_eq!((name.as_str(), data.as_slice()), ("message_stop", &b"{\n}\n"[..]));
    }
}
