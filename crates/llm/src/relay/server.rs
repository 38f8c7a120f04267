//! The HTTP side that a client talks to: on loopback and at a Unix socket beside it, with a token, for as long as a program
//! runs. Knows no model.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, Scope};

use parking_lot::Mutex;

use super::{Dialect, Refusal, Route};
use planexe_base::fs::Socket;

/// Most bytes of a request's line and headers.
const HEAD_CAP: u64 = 64 * 1024;
/// Most bytes of a request's body; images are in it.
const BODY_CAP: u64 = 64 * 1024 * 1024;
/// Most connections at once.
const CONNECTIONS: usize = 256;
/// A connection's thread: it reads and writes, and parses JSON.
const STACK: usize = 512 * 1024;

/// A request of a client that showed the token.
#[derive(Debug)]
pub struct Asked {
    /// What it asks.
    pub route: Route,
    /// In whose words it is answered.
    pub dialect: Dialect,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for `GET`.
    pub body: Vec<u8>,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Who answers requests.
pub trait Answers: Sync {
    /// Answers one. An error means that the client is gone.
    fn answer(&self, asked: Asked, to: &mut Answering<'_>) -> io::Result<()>;
}

/// A connection of a client.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write_all(bytes),
            Stream::Unix(stream) => (&mut &*stream).write_all(bytes),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

/// The way back to a client.
#[derive(Debug)]
pub struct Answering<'a> {
    stream: &'a Stream,
    begun: bool,
}

impl Answering<'_> {
    /// Answers in one piece.
    pub fn whole(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        self.begun = true;
        let mut all = head(status, headers);
        all.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        all.extend_from_slice(body);
        self.stream.send(&all)
    }

    /// Refuses it.
    pub fn refuse(&mut self, refusal: &Refusal, dialect: Dialect) -> io::Result<()> {
        let (status, body) = refusal.body(dialect);
        // Both vendors' clients obey this header, and would ask twice more without it.
        let again = matches!(refusal, Refusal::Unavailable(_));
        let retry = ("x-should-retry", if again { "true" } else { "false" });
        self.whole(status, &[JSON, retry], &body)
    }

    /// Begins a stream.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        self.begun = true;
        let mut all = head(status, headers);
        all.extend_from_slice(b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
        self.stream.send(&all)
    }

    /// Sends a piece of it at once.
    pub fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut all = format!("{:x}\r\n", bytes.len()).into_bytes();
        all.extend_from_slice(bytes);
        all.extend_from_slice(b"\r\n");
        self.stream.send(&all)
    }

    /// Ends it.
    pub fn end(&mut self) -> io::Result<()> {
        self.stream.send(b"0\r\n\r\n")
    }

    /// Breaks a stream off, so that the client knows that it is not whole.
    pub fn break_off(&mut self) -> io::Error {
        let _ = self.stream.shutdown();
        io::Error::from(io::ErrorKind::ConnectionAborted)
    }
}

/// The header of a JSON body.
pub const JSON: (&str, &str) = ("content-type", "application/json");

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut all = format!("HTTP/1.1 {status} {}\r\n", reason(status)).into_bytes();
    for (name, value) in headers {
        // What a server said may be in it: no line of its own comes from that.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        all.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    all
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        404 => "Not Found",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// An endpoint that is bound, and not served yet.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    address: SocketAddr,
    socket: Option<Socket>,
    /// Only its hash is kept: two hashes are compared in constant time.
    token: blake3::Hash,
}

impl Relay {
    /// Binds a free port of 127.0.0.1. `socket`: served as well.
    pub fn bind(token: &str, socket: Option<Socket>) -> io::Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok(Relay { listener, address, socket, token: blake3::hash(token.as_bytes()) })
    }

    /// Its root, without a slash at the end.
    pub fn root(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(Socket::path)
    }

    /// Serves while `work` is done. Then connections are closed and `ending` is called, so that calls under way end; it
    /// returns once no thread of it is left.
    pub fn serve_while<T>(
        self,
        answers: &dyn Answers,
        ending: impl FnOnce(),
        work: impl FnOnce() -> T,
    ) -> io::Result<T> {
        let (closing, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        let open: Mutex<Vec<(usize, Stream)>> = Mutex::default();
        let numbers = AtomicUsize::new(0);
        let relay = &self;
        let served =
            Served { relay, answers, closing: &closing, open: &open, numbers: &numbers, count: &count };
        std::thread::scope(|scope| {
            let thread = |name: &str| Builder::new().name(name.into()).stack_size(STACK);
            let tcp = move || served.accept(scope, || Ok(Stream::Tcp(relay.listener.accept()?.0)));
            thread("relay").spawn_scoped(scope, tcp)?;
            // Without a thread for it only the port is served.
            if let Some(socket) = &relay.socket {
                let unix = move || served.accept(scope, || Ok(Stream::Unix(socket.listener().accept()?.0)));
                let _ = thread("relay socket").spawn_scoped(scope, unix);
            }
            let done = work();
            closing.store(true, Ordering::SeqCst);
            ending();
            // Wakes the threads that accept.
            let _ = TcpStream::connect(relay.address);
            let _ = relay.socket().map(UnixStream::connect);
            for (_, stream) in open.lock().iter() {
                let _ = stream.shutdown();
            }
            Ok(done)
        })
    }
}

/// What the threads of an endpoint share.
#[derive(Clone, Copy)]
struct Served<'a> {
    relay: &'a Relay,
    answers: &'a dyn Answers,
    closing: &'a AtomicBool,
    open: &'a Mutex<Vec<(usize, Stream)>>,
    numbers: &'a AtomicUsize,
    count: &'a AtomicUsize,
}

impl<'a> Served<'a> {
    /// Takes connections, until it is closed.
    fn accept<'scope>(self, scope: &'scope Scope<'scope, 'a>, next: impl Fn() -> io::Result<Stream>)
    where
        'a: 'scope,
    {
        loop {
            let stream = next();
            if self.closing.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: not asked for again at once.
                std::thread::sleep(std::time::Duration::from_millis(10));
                continue;
            };
            if self.count.load(Ordering::SeqCst) >= CONNECTIONS {
                continue;
            }
            let Ok(twin) = stream.try_clone() else { continue };
            self.count.fetch_add(1, Ordering::SeqCst);
            let number = self.numbers.fetch_add(1, Ordering::SeqCst);
            self.open.lock().push((number, twin));
            // One that came while the others were closed.
            if self.closing.load(Ordering::SeqCst) {
                let _ = stream.shutdown();
            }
            let started =
                Builder::new().name("relayed".into()).stack_size(STACK).spawn_scoped(scope, move || {
                    let _ = self.talk(&stream);
                    self.forget(number);
                });
            if started.is_err() {
                self.forget(number);
            }
        }
    }

    fn forget(&self, number: usize) {
        self.open.lock().retain(|(other, _)| *other != number);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Answers the requests of one connection, one after the other.
    fn talk(&self, stream: &Stream) -> io::Result<()> {
        if let Stream::Tcp(stream) = stream {
            stream.set_nodelay(true)?;
        }
        let mut reader = BufReader::with_capacity(16 * 1024, stream);
        loop {
            let Some(head) = Head::read(&mut reader)? else { return Ok(()) };
            let dialect = head.dialect();
            let mut to = Answering { stream, begun: false };
            if !self.knows(&head) {
                // The body is not read: who has no token gets no room.
                return to.refuse(&Refusal::Unauthorised, dialect);
            }
            if head.value("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
                stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let body = match head.body(&mut reader)? {
                Ok(body) => body,
                Err(why) => return to.refuse(&Refusal::Bad(why), dialect),
            };
            let goes_on = head.goes_on();
            match Route::of(&head.method, &head.path) {
                Some(route) => {
                    let asked = Asked { route, dialect, headers: head.headers, body };
                    self.answers.answer(asked, &mut to)?;
                    if !to.begun {
                        to.refuse(&Refusal::Unavailable("nothing answered".into()), dialect)?;
                    }
                }
                None => {
                    let what = format!(
                        "planexe passes on no `{} {}`: it serves /v1/chat/completions, /v1/responses, /v1/embeddings, \
                         /v1/models, /v1/messages and /v1/messages/count_tokens",
                        head.method, head.path
                    );
                    to.refuse(&Refusal::NoSuchRoute(what), dialect)?;
                }
            }
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Whether a request shows the token. Hashes are compared, which takes as long wherever they differ.
    fn knows(&self, head: &Head) -> bool {
        let bearer = head.value("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let given = [bearer, head.value("x-api-key"), head.value("api-key")];
        given.into_iter().flatten().any(|token| blake3::hash(token.as_bytes()) == self.relay.token)
    }
}

/// The line and the headers of a request.
struct Head {
    method: String,
    path: String,
    version: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// None at the end of the connection, or of anything that is no HTTP.
    fn read(reader: &mut BufReader<&Stream>) -> io::Result<Option<Head>> {
        let mut limited = reader.by_ref().take(HEAD_CAP);
        let mut line = String::new();
        limited.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let (method, path, version) = (method.to_owned(), path.to_owned(), version.to_owned());
        let mut headers = Vec::new();
        loop {
            line.clear();
            if limited.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let text = line.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Ok(Some(Head { method, path, version, headers }));
            }
            if let Some((name, value)) = text.split_once(':') {
                headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Anthropic's clients name a version of their API.
    fn dialect(&self) -> Dialect {
        match Route::of(&self.method, &self.path) {
            Some(Route::Models) | None if self.value("anthropic-version").is_some() => Dialect::Anthropic,
            Some(route) => route.dialect(),
            None => Dialect::Openai,
        }
    }

    fn goes_on(&self) -> bool {
        let says =
            |word: &str| self.value("connection").is_some_and(|value| value.eq_ignore_ascii_case(word));
        if self.version == "HTTP/1.0" { says("keep-alive") } else { !says("close") }
    }

    /// The body, or why it is not taken.
    fn body(&self, reader: &mut BufReader<&Stream>) -> io::Result<Result<Vec<u8>, String>> {
        let too_large = || Err(format!("the request is larger than {} MiB", BODY_CAP >> 20));
        if self.value("content-encoding").is_some_and(|how| !how.eq_ignore_ascii_case("identity")) {
            return Ok(Err("a compressed body is not read: send it as it is".to_owned()));
        }
        if self.value("transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let mut line = String::new();
                reader.by_ref().take(1024).read_line(&mut line)?;
                let size = line.trim().split(';').next().unwrap_or_default();
                let Ok(size) = u64::from_str_radix(size, 16) else {
                    return Ok(Err("the body's chunks cannot be read".to_owned()));
                };
                if size.saturating_add(body.len() as u64) > BODY_CAP {
                    return Ok(too_large());
                }
                if size == 0 {
                    line.clear();
                    reader.by_ref().take(1024).read_line(&mut line)?;
                    return Ok(Ok(body));
                }
                reader.by_ref().take(size).read_to_end(&mut body)?;
                line.clear();
                reader.by_ref().take(1024).read_line(&mut line)?;
            }
        }
        let length = match self.value("content-length").map(str::parse::<u64>) {
            None => 0,
            Some(Ok(length)) => length,
            Some(Err(_)) => return Ok(Err("`content-length` is no number".to_owned())),
        };
        if length > BODY_CAP {
            return Ok(too_large());
        }
        let mut body = vec![0; length as usize];
        reader.read_exact(&mut body)?;
        Ok(Ok(body))
    }
}

#[cfg(test)]
mod tests;
