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
mod tests {
    use super::*;

    /// Answers with what it was asked; of a list of models nothing.
    struct Echo;

    impl Answers for Echo {
        fn answer(&self, asked: Asked, to: &mut Answering<'_>) -> io::Result<()> {
            match asked.route {
                Route::Models => Ok(()),
                Route::Responses => {
                    to.begin(200, &[JSON])?;
                    to.piece(b"")?;
                    to.piece(&asked.body)?;
                    to.end()
                }
                _ => to.whole(200, &[JSON, ("x-asked", asked.header("x-what").unwrap_or("-"))], &asked.body),
            }
        }
    }

    #[test]
    fn the_socket_serves_as_the_port_does_and_no_longer_than_it() {
        let base = tempfile::tempdir().unwrap();
        let socket = Socket::bind(&[base.path().to_owned()]).unwrap();
        let path = socket.path().to_owned();
        let relay = Relay::bind("secret", Some(socket)).unwrap();
        let ask = |token: &str, path: &Path| {
            let mut stream = UnixStream::connect(path).unwrap();
            let request = format!(
                "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let held = relay
            .serve_while(
                &Echo,
                || (),
                || {
                    let answer = ask("secret", &path).unwrap();
                    assert!(
                        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n{}"),
                        "{answer}"
                    );
                    // The body of one without the token is not read: the answer may be cut off by that.
                    let refused = ask("other", &path);
                    assert!(refused.is_err() || refused.is_ok_and(|it| it.starts_with("HTTP/1.1 401")));
                    UnixStream::connect(&path).unwrap()
                },
            )
            .unwrap();
        assert!(!path.exists() && UnixStream::connect(&path).is_err());
        assert_eq!((&held).read(&mut [0; 1]).unwrap(), 0, "what is open is closed");
    }

    /// What is answered to these bytes.
    fn answer(bytes: &str) -> String {
        let relay = Relay::bind("token", None).unwrap();
        let address = relay.address;
        let talk = || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        relay.serve_while(&Echo, || (), talk).unwrap()
    }

    #[test]
    fn bodies_are_read_however_they_are_framed() {
        let post = |headers: &str, body: &str| {
            answer(&format!("POST /v1/messages HTTP/1.1\r\nX-Api-Key: token\r\n{headers}\r\n{body}"))
        };
        for (headers, body, status, said) in [
            ("content-length: 2\r\nx-what: a\x07b\r\n", "hi", "200 OK", "x-asked: ab\r\n"),
            ("content-length: 2\r\n", "hi", "200 OK", "\r\n\r\nhi"),
            ("content-length: 0\r\ncontent-encoding: identity\r\n", "", "200 OK", "content-length: 0"),
            (
                "transfer-encoding: chunked\r\n",
                "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                "200 OK",
                "\r\n\r\nabcde",
            ),
            ("expect: 100-continue\r\ncontent-length: 2\r\n", "hi", "100 Continue", "HTTP/1.1 200 OK"),
            (
                "content-encoding: gzip\r\ncontent-length: 2\r\n",
                "hi",
                "400 Bad Request",
                "a compressed body is not read",
            ),
            ("transfer-encoding: chunked\r\n", "xyz\r\n", "400 Bad Request", "chunks cannot be read"),
            ("transfer-encoding: chunked\r\n", "3\r\nab", "400 Bad Request", "chunks cannot be read"),
            (
                "transfer-encoding: chunked\r\n",
                "ffffffffffffffff\r\n",
                "400 Bad Request",
                "larger than 64 MiB",
            ),
            ("content-length: x\r\n", "", "400 Bad Request", "`content-length` is no number"),
            ("content-length: 99999999999\r\n", "", "400 Bad Request", "larger than 64 MiB"),
        ] {
            let found = post(headers, body);
            assert!(
                found.starts_with(&format!("HTTP/1.1 {status}")) && found.contains(said),
                "{headers}{body}: {found}"
            );
        }
        assert_eq!(post("content-length: 9\r\n", "short"), "", "it never came whole");
    }

    #[test]
    fn a_connection_carries_one_request_after_the_other() {
        let get = "GET /v1/models HTTP/1.1\r\nauthorization: bearer token\r\n";
        let found = answer(&format!("{get}\r\n{get}\r\n"));
        assert_eq!(found.matches("503 Service Unavailable").count(), 2, "{found}");
        assert!(found.contains("nothing answered") && found.contains("x-should-retry: true"), "{found}");
        assert_eq!(answer(&format!("{get}connection: close\r\n\r\n{get}\r\n")).matches("503").count(), 1);
        let old = get.replace("1.1", "1.0");
        assert_eq!(answer(&format!("{old}\r\n{old}\r\n")).matches("503").count(), 1);
        let streamed = answer("POST /v1/responses HTTP/1.1\r\napi-key: token\r\ncontent-length: 2\r\n\r\nhi");
        assert!(streamed.ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{streamed}");
        for nothing in ["", "\r\n", "GET\r\n", "GET /v1/models HTTP/1.1\r\nx: y\r\n"] {
            assert_eq!(answer(nothing), "", "{nothing:?}");
        }
        for status in [401, 402, 404, 413, 418, 429, 500] {
            let line = String::from_utf8(head(status, &[])).unwrap();
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")) && line.ends_with("\r\n"), "{line}");
        }
    }
}
