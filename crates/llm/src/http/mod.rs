//! One HTTP attempt: a connection of its own, its clocks, its errors. Knows no dialect.
//!
//! Each attempt has an agent of its own, so that its clocks and a cancel can shut down this connection and
//! no other, and no attempt meets a kept connection its server has long closed. What is dear in an agent,
//! the TLS set-up with its session tickets, is shared by all.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use ureq::config::Config;
use ureq::http::{HeaderMap, Request as HttpRequest, Uri};
use ureq::{Agent, BodyReader, SendBody};

use crate::classify::{self, Said};
use crate::config::{Model, Price};
use crate::keys::{KeyError, Secret, Site};
use crate::loopback::HereOnly;
use crate::proxy;
use crate::retry_after;
use crate::stream::{Fault, LINE_CAP, Lines};
use crate::watchdog::{self, Clocks, Guard, Watch};
use crate::{CallContext, CallError, CallProgress, Class, Setup, UNREACHABLE, base_url, one_line, tidy};
use planexe_base::message::Message;

mod dial;

use dial::{Dial, Lookup};

/// The media type of a request.
const JSON: &str = "application/json";
/// Most bytes of an error's body that are read and kept.
const ERROR_CAP: usize = 64 * 1024;
/// How long an answer in one piece may take where no limit is set.
const WHOLE: Duration = Duration::from_secs(30 * 60);
/// Buffers of one connection. The defaults of 128 KiB each would make 256 calls cost 64 MiB.
const BUFFER: usize = 16 * 1024;
/// Most bytes of a response's headers; less than the buffer, or they would look like a broken connection.
const HEAD_CAP: usize = 12 * 1024;

/// One place calls go to.
pub(super) struct Endpoint {
    /// Root of the API, without a slash at its end.
    pub base: String,
    /// The model's name there.
    pub model: String,
    pub site: Site,
    pub local: bool,
    pub secret: Option<Secret>,
    pub price: Option<Price>,
    /// It is connected to at no address but those of this machine.
    here_only: bool,
    clocks: Clocks,
    headers: Vec<(String, String)>,
    config: Config,
}

impl Endpoint {
    /// What most servers want in `authorization`; none without a key.
    pub(super) fn bearer(&self) -> Option<String> {
        self.secret.as_ref().map(|secret| format!("Bearer {}", secret.expose()))
    }

    /// Reads the table and resolves the key. Nothing is sent.
    pub(super) fn new(model: &Model, setup: &Setup<'_>) -> Result<Endpoint, CallError> {
        let about = format!("models.{}", setup.name);
        let fault = |class, why: Message| Err(CallError::new(class, why.about(&about)));
        let base = base_url(model).trim_end_matches('/').to_owned();
        let site = match Site::of(&base) {
            Ok(site) => site,
            Err(why) => return fault(Class::Config, why.into()),
        };
        let uri = match base.parse::<Uri>() {
            Ok(uri) => uri,
            Err(error) => return fault(Class::Config, format!("`{base}` is not a URL: {error}").into()),
        };
        let Some(name) = model.model.clone().filter(|name| !name.is_empty()) else {
            return fault(Class::Config, "`model` is missing, the name its server knows it by".into());
        };
        let key = match &model.api_key_env {
            None => None,
            Some(env) => match setup.keys.resolve(env, &base) {
                Ok(key) => key,
                Err(error @ (KeyError::Url(_) | KeyError::File { .. })) => {
                    return fault(Class::Config, error.message());
                }
                Err(error) => return fault(Class::Auth, error.message()),
            },
        };
        // What is written as this machine is connected to here or not at all: no proxy and no other machine is asked
        // for it, with a key or without.
        let here_only = site.is_loopback() || key.as_ref().is_some_and(|key| key.here_only);
        let secret = key.map(|key| key.secret);
        let local = here_only;
        let clocks = Clocks::of(&model.timeouts, local);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(clocks.connect))
            .timeout_resolve(Some(clocks.connect))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_response_header_size(HEAD_CAP)
            .max_idle_connections(0)
            .accept_encoding("identity")
            .user_agent(concat!("planexe/", env!("CARGO_PKG_VERSION")));
        if local {
            // A proxy from the environment does not know this machine's servers.
            config = config.proxy(None);
        }
        let config = config.build();
        if let Some(why) = proxy::unusable(&config, &uri) {
            return fault(Class::Config, why.into());
        }
        let headers = model.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let price = model.price;
        Ok(Endpoint { base, model: name, site, local, secret, price, here_only, clocks, headers, config })
    }

    /// Sends a JSON body to a path below the base and waits for the head of a successful response.
    /// `auth` are the dialect's own headers.
    pub(super) fn post<'a>(
        &'a self,
        path: &str,
        auth: &[(&str, &str)],
        body: &[u8],
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        self.send(self.clocks, path, auth, Some((JSON, body)), context)
    }

    /// The same for an answer that comes in one piece: nothing is heard before all of it is written.
    pub(super) fn post_for_whole<'a>(
        &'a self,
        path: &str,
        auth: &[(&str, &str)],
        body: &[u8],
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        let whole = self.clocks.total.unwrap_or(WHOLE).max(self.clocks.first_token);
        let clocks = Clocks { first_token: whole, ..self.clocks };
        self.send(clocks, path, auth, Some((JSON, body)), context)
    }

    /// A request about a batch, which holds many calls: a POST of a body and its media type, or a GET.
    pub(super) fn about_batch<'a>(
        &'a self,
        path: &str,
        auth: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        self.send(Clocks { total: Some(WHOLE), ..self.clocks }, path, auth, body, context)
    }

    /// An answer that came in a batch, as if it had come by itself. An error's status is an error.
    pub(super) fn of_batch<'a>(
        &'a self,
        status: u16,
        body: Vec<u8>,
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", ureq::http::HeaderValue::from_static(JSON));
        let body = ureq::Body::builder().mime_type(JSON).data(body);
        let mut exchange = Exchange {
            endpoint: self,
            lines: Lines::new(body.into_reader()),
            headers,
            status,
            started: Instant::now(),
            watch: Watch::start(self.clocks, None, context.cancel),
            progress: context.progress,
            _guard: None,
        };
        if !matches!(status, 200 | 201) {
            return Err(exchange.refused());
        }
        Ok(exchange)
    }

    fn send<'a>(
        &'a self,
        clocks: Clocks,
        path: &str,
        auth: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        let started = Instant::now();
        let watch = Watch::start(clocks, context.time_left, context.cancel);
        if watch.check() {
            return Err(watch.error().unwrap_or_else(|| CallError::new(Class::Cancelled, "cancelled")));
        }
        let url = format!("{}/{path}", self.base);
        let mut request = match body {
            Some((kind, body)) => {
                HttpRequest::post(&url).header("content-type", kind).header("content-length", body.len())
            }
            None => HttpRequest::get(&url),
        };
        for (name, value) in auth.iter().copied().chain(self.headers.iter().map(|(n, v)| (&**n, &**v))) {
            request = request.header(name, value);
        }
        let sent = AtomicBool::new(false);
        let rest = match body {
            Some((_, body)) => body,
            None => &[],
        };
        let mut outgoing = Outgoing { rest, sent: &sent, watch: &watch, progress: context.progress };
        let broken = |error| CallError::new(Class::Config, format!("the request cannot be made: {error}"));
        let agent = self.agent(&watch);
        let guard = watchdog::watch(&watch, &agent).map_err(|error| {
            CallError::new(Class::Connection, format!("no thread for the call's clocks: {error}"))
        })?;
        let response = match body {
            Some(_) => agent.run(request.body(SendBody::from_reader(&mut outgoing)).map_err(broken)?),
            None => agent.run(request.body(()).map_err(broken)?),
        };
        let response = response.map_err(|error| self.transport_error(error, &watch))?;
        drop(agent);
        let (head, body) = response.into_parts();
        let mut exchange = Exchange {
            endpoint: self,
            lines: Lines::new(body.into_reader()),
            headers: head.headers,
            status: head.status.as_u16(),
            started,
            watch,
            progress: context.progress,
            _guard: Some(guard),
        };
        // Whether it is a whole answer is proved by what it holds; some frameworks answer every POST with 201.
        if !matches!(exchange.status, 200 | 201) {
            return Err(exchange.refused());
        }
        Ok(exchange)
    }

    /// A short GET of a path, from the root of the site if it starts with `/`: status and body.
    /// For probes: a key is sent as in a call, nothing is retried.
    pub(super) fn get(
        &self,
        path: &str,
        auth: &[(&str, &str)],
        limit: Duration,
    ) -> Result<(u16, Vec<u8>), CallError> {
        self.brief(path, None, auth, limit)
    }

    /// The same, with a body a POST.
    pub(super) fn brief(
        &self,
        path: &str,
        body: Option<&[u8]>,
        auth: &[(&str, &str)],
        limit: Duration,
    ) -> Result<(u16, Vec<u8>), CallError> {
        let url = match path.strip_prefix('/') {
            Some(path) => {
                let after = self.base.find("://").map_or(0, |at| at + 3);
                let root = self.base[after..].find('/').map_or(&*self.base, |at| &self.base[..after + at]);
                format!("{root}/{path}")
            }
            None => format!("{}/{path}", self.base),
        };
        let mut request = match body {
            Some(_) => HttpRequest::post(&url).header("content-type", "application/json"),
            None => HttpRequest::get(&url),
        };
        for (name, value) in auth.iter().copied().chain(self.headers.iter().map(|(n, v)| (&**n, &**v))) {
            request = request.header(name, value);
        }
        let broken = |error| CallError::new(Class::Config, format!("the request cannot be made: {error}"));
        let watch = Watch::start(
            Clocks { connect: limit, first_token: limit, idle: limit, total: Some(limit) },
            None,
            &planexe_base::cancel::Cancel::new(),
        );
        let agent = self.agent(&watch);
        let response = match body {
            Some(body) => {
                let request = request.body(body).map_err(broken)?;
                agent.run(agent.configure_request(request).timeout_global(Some(limit)).build())
            }
            None => {
                let request = request.body(()).map_err(broken)?;
                agent.run(agent.configure_request(request).timeout_global(Some(limit)).build())
            }
        };
        let response = response.map_err(|error| self.transport_error(error, &watch))?;
        let status = response.status().as_u16();
        let (body, _) = Lines::new(response.into_body().into_reader()).rest(1 << 20);
        Ok((status, body))
    }

    fn agent(&self, watch: &Arc<Watch>) -> Agent {
        let lookup = HereOnly { names: Lookup { watch: Arc::clone(watch) }, here_only: self.here_only };
        Agent::with_parts(self.config.clone(), Dial(Arc::clone(watch)), lookup)
    }

    /// Where it is, and the proxy of the environment on the way there: one that is down looks like a server that is.
    fn place(&self) -> String {
        let place = format!("{}:{}", self.site.host, self.site.port);
        let uri = self.base.parse::<Uri>().ok();
        match uri.and_then(|uri| proxy::on_the_way(&self.config, &uri)) {
            Some(proxy) => format!("{place} (by the proxy {}:{})", proxy.host(), proxy.port()),
            None => place,
        }
    }

    /// The error of an attempt that got no response.
    fn transport_error(&self, error: ureq::Error, watch: &Watch) -> CallError {
        use ureq::Error as E;
        if let Some(error) = watch.error() {
            return error;
        }
        let place = self.place();
        match error {
            E::Timeout(_) => {
                let mut error = CallError::new(
                    Class::Timeout,
                    format!("no connection to {place} within {:?} (connect)", self.clocks.connect),
                );
                error.code = Some("connect".into());
                error
            }
            E::Io(error) => io_error(&error, &place, false, self.local),
            E::HostNotFound => {
                let mut error = CallError::new(Class::Connection, format!("no address known for {place}"));
                error.code = Some(UNREACHABLE.into());
                error
            }
            E::Protocol(error) => {
                CallError::new(Class::Connection, format!("{place} does not speak HTTP properly: {error}"))
            }
            E::LargeResponseHeader(..) => CallError::new(
                Class::BadData,
                format!("{place} answered with over {HEAD_CAP} bytes of headers"),
            ),
            E::ConnectProxyFailed(why) => {
                CallError::new(Class::Connection, format!("the proxy gave no way to {place}: {why}"))
            }
            other => {
                CallError::new(Class::Config, format!("{place}: {}", one_line(&other.to_string(), None)))
            }
        }
    }
}

/// The error of a broken connection.
fn io_error(error: &std::io::Error, place: &str, content: bool, local: bool) -> CallError {
    use std::io::ErrorKind as K;
    let words = one_line(&error.to_string(), None);
    // rustls reports its errors so: a certificate that does not hold, https spoken to an http port.
    if error.kind() == K::InvalidData && !content && !words.is_empty() {
        let tls = ["certificate", "corrupt message", "TLS", "handshake", "UnknownIssuer"];
        if words.contains("InvalidContentType") {
            let what = format!("{place} speaks no TLS: is its `base_url` http:// and not https://?");
            return CallError::new(Class::Config, what);
        }
        if tls.iter().any(|word| words.contains(word)) {
            return CallError::new(Class::Config, format!("no trusted TLS connection to {place}: {words}"));
        }
    }
    let class = classify::of_io(error.kind(), content, local);
    let what = match (class, error.kind()) {
        (Class::ServerLoading, _) => format!("nothing listens at {place} (yet)"),
        (_, K::ConnectionRefused) => format!("{place} refuses connections"),
        (Class::Cut, _) => format!("the answer was cut off: the connection to {place} broke ({words})"),
        (_, K::ConnectionReset | K::UnexpectedEof | K::BrokenPipe | K::ConnectionAborted) => {
            format!("{place} closed the connection before it answered")
        }
        _ => format!("{place}: {words}"),
    };
    let mut call_error = CallError::new(class, what);
    let never_there = [
        K::ConnectionRefused,
        K::HostUnreachable,
        K::NetworkUnreachable,
        K::NetworkDown,
        K::AddrNotAvailable,
    ];
    let never_made = class == Class::Connection && never_there.contains(&error.kind());
    if never_made || class == Class::ServerLoading {
        call_error.code = Some(UNREACHABLE.into());
    }
    call_error
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Server-sent events.
    Events,
    /// JSON, one value or one a line.
    Json,
    /// Nothing at all.
    Empty,
}

/// A response whose head has come with status 200, or 201.
pub(super) struct Exchange<'a> {
    endpoint: &'a Endpoint,
    pub lines: Lines<BodyReader<'static>>,
    headers: HeaderMap,
    status: u16,
    pub started: Instant,
    watch: Arc<Watch>,
    progress: &'a CallProgress,
    /// None where nothing is waited for.
    _guard: Option<Guard>,
}

impl Exchange<'_> {
    /// A response header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How the body is written: by its content type, and by its first byte where that says nothing or
    /// is not kept to. A web page is an error.
    pub(super) fn format(&mut self) -> Result<Format, CallError> {
        let packed = |name| self.header(name).map(str::to_ascii_lowercase);
        let packed = packed("content-encoding").or_else(|| packed("transfer-encoding"));
        if let Some(how) = packed
            && let Some(how) =
                how.split(',').map(str::trim).find(|how| !matches!(*how, "" | "identity" | "chunked"))
        {
            let how = one_line(how, None);
            return Err(self.bad_data(format!(
                "{} answered compressed (`{how}`), which was not asked for",
                self.endpoint.base
            )));
        }
        let kind = self.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let first = match self.lines.skip_mark().and_then(|()| self.lines.peek()) {
            Ok(first) => first,
            Err(fault) => return Err(self.fault(fault, false)),
        };
        let json = kind.contains("json");
        match first {
            None => Ok(Format::Empty),
            Some(b'<') => {
                let (body, _) = self.lines.rest(ERROR_CAP);
                let said = Said::read(&String::from_utf8_lossy(&body)).unwrap_or_default();
                Err(self.bad_data(format!(
                    "{} answered with {}, not with JSON; is `base_url` right?",
                    self.endpoint.base, said.message
                )))
            }
            Some(b'{' | b'[') => Ok(Format::Json),
            Some(b'd' | b'e' | b':' | b'i' | b'r') if !json || kind.is_empty() => Ok(Format::Events),
            Some(b'd' | b':' | b'e') => Ok(Format::Events),
            Some(_) if kind.contains("event-stream") => Ok(Format::Events),
            Some(_) if json => Ok(Format::Json),
            Some(_) => {
                let kind = if kind.is_empty() { "something".to_owned() } else { format!("`{kind}`") };
                Err(self.bad_data(format!("{} answered with {kind}, not with JSON", self.endpoint.base)))
            }
        }
    }

    /// A piece of content came.
    pub(super) fn content(&self, bytes: usize) {
        self.watch.content();
        self.progress.content(bytes);
    }

    /// A piece of the answer's text came.
    pub(super) fn text(&self, piece: &str) {
        self.watch.content();
        self.progress.wrote(piece);
    }

    /// The server tells how far it is with the prompt.
    pub(super) fn reading(&self, read: u64, of: u64) {
        self.watch.reading();
        self.progress.reading(read, of);
    }

    /// The reason this call was ended from outside, if it was: to be asked before any other reason is
    /// given, since a connection that is shut down may look like a clean end.
    pub(super) fn ended(&self) -> Option<CallError> {
        self.watch.error()
    }

    /// The error of a body that broke off.
    pub(super) fn fault(&self, fault: Fault, content: bool) -> CallError {
        if let Some(error) = self.ended() {
            return error;
        }
        match fault {
            Fault::TooLarge(what) => self.bad_data(format!(
                "{what} is larger than {} MiB",
                match what {
                    "the answer" => super::stream::BODY_CAP >> 20,
                    _ => LINE_CAP as u64 >> 20,
                }
            )),
            Fault::Broken(error) => {
                let place = self.endpoint.place();
                let mut error = io_error(&error, &place, content, self.endpoint.local);
                error.status = Some(self.status);
                error
            }
        }
    }

    /// An error of class `BadData`.
    pub(super) fn bad_data(&self, message: String) -> CallError {
        let mut error = CallError::new(Class::BadData, message);
        error.status = Some(self.status);
        error
    }

    /// The error of JSON that cannot be read: cut short, or damaged.
    pub(super) fn bad_json(&self, bytes: &[u8], error: &serde_json::Error) -> CallError {
        if let Some(error) = self.ended() {
            return error;
        }
        let mut call_error = if error.is_eof() {
            CallError::new(Class::Cut, "the answer was cut off: its JSON ends in the middle")
        } else if std::str::from_utf8(bytes).is_err() {
            CallError::new(Class::BadData, "the answer is not valid UTF-8")
        } else {
            CallError::new(Class::BadData, format!("the answer is not the JSON it should be: {error}"))
        };
        call_error.status = Some(self.status);
        call_error.raw = self.kept(bytes);
        call_error
    }

    /// The error in a body of status 200.
    pub(super) fn said(&self, said: &Said, raw: &[u8]) -> CallError {
        if let Some(error) = self.ended() {
            return error;
        }
        let retry_after = self.retry_after(said);
        let class = classify::classify(Some(self.status), said, retry_after, self.endpoint.local);
        let text = String::from_utf8_lossy(&raw[..raw.len().min(ERROR_CAP)]);
        let (class, retry_after) = classify::with_reset(class, retry_after, &text, &TimeZone::UTC);
        // 499 says that we hung up, and we did not.
        let class = if class == Class::Cancelled { Class::ServerError } else { class };
        let secret = self.endpoint.secret.as_ref();
        let mut message = match (said.message.is_empty(), said.kind.is_empty()) {
            (false, _) => one_line(&said.message, secret),
            (true, false) => one_line(&said.kind, secret),
            (true, true) => one_line(&said.code, secret),
        };
        if let Some((tokens, context)) = said.context {
            message = format!("{message} ({tokens} tokens of prompt, a context of {context})");
        }
        let status = match self.status {
            200 => String::new(),
            status => format!("{status}"),
        };
        let mut message = match (status.is_empty(), message.is_empty()) {
            (true, _) => message,
            (false, true) => format!("HTTP {status}"),
            (false, false) => format!("HTTP {status}: {message}"),
        };
        if class == Class::Config && !(300..400).contains(&self.status) {
            message = format!("{message} (is `base_url` right? it is {})", self.endpoint.base);
        }
        let code = [&said.code, &said.kind].into_iter().find(|code| !code.is_empty());
        CallError {
            class,
            message: message.into(),
            status: Some(self.status),
            code: code.map(|code| tidy(code, 100, secret)),
            retry_after,
            should_retry: self.should_retry(),
            adapted: false,
            partial: String::new(),
            raw: self.kept(raw),
            usage: Default::default(),
        }
    }

    /// What OpenAI's servers, and those that follow them, say of trying again; their own client obeys.
    fn should_retry(&self) -> Option<bool> {
        match self.header("x-should-retry")? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn retry_after(&self, said: &Said) -> Option<Duration> {
        let now = self.header("date").and_then(retry_after::moment).unwrap_or_else(retry_after::unix_now);
        let from_headers = || retry_after::retry_after(|name| self.header(name), now);
        // Resets are told on successes too; they mean something only where something was refused.
        if self.status == 200 { said.retry_after } else { from_headers().or(said.retry_after) }
    }

    /// The body of an answer about a batch: one JSON value.
    pub(super) fn value(&mut self) -> Result<serde_json::Value, CallError> {
        let (body, fault) = self.lines.rest(super::stream::BODY_CAP as usize + 1);
        match fault {
            Some(fault) => Err(self.fault(fault, false)),
            None => serde_json::from_slice(&body).map_err(|error| self.bad_json(&body, &error)),
        }
    }

    /// Shows each line of a body that holds the answers of a batch, of which there may be so many bytes.
    pub(super) fn each_value(
        &mut self,
        most: u64,
        mut show: impl FnMut(serde_json::Value),
    ) -> Result<(), CallError> {
        self.lines.allow(most);
        loop {
            let value = match self.lines.next() {
                Ok(None) => return self.ended().map_or(Ok(()), Err),
                Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => serde_json::from_slice(line).map_err(|error| (line.to_vec(), error)),
                Err(fault) => return Err(self.fault(fault, false)),
            };
            self.watch.content();
            match value {
                Ok(value) => show(value),
                Err((line, error)) => return Err(self.bad_json(&line, &error)),
            }
        }
    }

    /// The error of a response with another status than 200.
    fn refused(&mut self) -> CallError {
        let (body, _) = self.lines.rest(ERROR_CAP);
        let text = String::from_utf8_lossy(&body);
        let mut said = Said::read(&text).unwrap_or_default();
        if (300..400).contains(&self.status) {
            let to = self.header("location").unwrap_or("elsewhere").to_owned();
            said = Said {
                message: format!("a redirect to {to}, which is not followed; change `base_url`"),
                ..Said::default()
            };
        }
        self.said(&said, &body)
    }

    fn kept(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(ERROR_CAP)]);
        tidy(&text, ERROR_CAP, self.endpoint.secret.as_ref())
    }
}

/// The body on its way out; when its last byte has been taken the prompt counts as sent.
struct Outgoing<'a> {
    rest: &'a [u8],
    sent: &'a AtomicBool,
    watch: &'a Watch,
    progress: &'a CallProgress,
}

impl Read for Outgoing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        if self.rest.is_empty() && !self.sent.swap(true, Ordering::Relaxed) {
            self.watch.reading();
            self.progress.sent();
        }
        Ok(count)
    }
}
