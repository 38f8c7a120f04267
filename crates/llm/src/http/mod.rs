//! One HTTP attempt: a connection of its own, its clocks, its errors. Knows no dialect.
//!
//! Each attempt has an agent of its own, so that its clocks and a cancel can shut down this connection and
//! no other, and no attempt meets a kept connection its server has long closed. What is dear in an agent,
//! the TLS set-up with its session tickets, is shared by all.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderMap, Request as HttpRequest, Uri};
use ureq::{Agent, SendBody};

use crate::classify;
use crate::config::{Model, Price};
use crate::keys::{KeyError, Secret, Site};
use crate::loopback::HereOnly;
use crate::proxy;
use crate::stream::Lines;
use crate::watchdog::{self, Clocks, Watch};
use crate::{CallContext, CallError, CallProgress, Class, Setup, UNREACHABLE, base_url, one_line};
use planexe_base::message::Message;

mod dial;
mod exchange;

use dial::{Dial, Lookup};
pub(crate) use exchange::{Exchange, Format};

/// The media type of a request.
const JSON: &str = "application/json";
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
