//! `planexe ui`: a page about a run, or the runs of a folder, served to this machine's browser. It reads what `status`,
//! `graph`, `show` and the like answer; what it changes, it changes by starting planexe with the command a person would
//! type.
//!
//! The server is some hundred lines over the standard library, with `httparse` for the heads of requests, which ureq
//! brings anyway. tiny_http, the one blocking server that is kept, has no time limits for slow clients and does not let go
//! of a stream of events; the others bring an asynchronous runtime.

mod act;
mod api;
mod feed;
mod files;
mod http;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ring::rand::SecureRandom;

use crate::ops::{Base, Session};
use feed::Feeds;
use http::{Answer, Refused, Request};
use planexe_base::exit::{Error, Kind};
use planexe_pipeline::open::Where;
use planexe_pipeline::runs::Runs;

/// Connections at once.
const MOST: usize = 64;
/// Of these, streams of events.
const MOST_STREAMS: usize = 24;
/// A client that takes nothing for so long is let go.
const SLOW: Duration = Duration::from_secs(10);
/// As deep as on the main thread: a run of any size can be looked at.
const STACK: usize = 8 << 20;

/// What is served.
#[derive(Debug)]
pub enum Subject {
    /// A run, as the command line says.
    Run(Where),
    /// The runs of a folder.
    Runs(PathBuf),
}

/// A server.
pub struct Server {
    base: Base,
    subject: Subject,
    may_change: bool,
    token: blake3::Hash,
    port: u16,
    feeds: Feeds,
    streams: AtomicUsize,
    /// Runs are judged one at a time, and what was seen is told to all who waited for it.
    looked: Mutex<Option<api::Looked>>,
}

/// A server that listens.
pub struct Listening {
    server: Arc<Server>,
    listener: TcpListener,
    token: String,
}

/// Takes a port of this machine and makes up a token.
pub fn listen(base: Base, subject: Subject, port: u16, may_change: bool) -> Result<Listening, Error> {
    let failed = |what: &str| Error::new(Kind::Setup, what.to_owned());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        failed(&format!("port {port} of this machine cannot be taken: {error}"))
            .code("port")
            .hint("`--port` names another; without it a free one is taken")
    })?;
    let port = listener.local_addr().map_err(|error| failed(&error.to_string()))?.port();
    let mut bytes = [0_u8; 24];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| failed("the system gives no random bytes"))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let server = Server {
        base,
        subject,
        may_change,
        token: blake3::hash(token.as_bytes()),
        port,
        feeds: Feeds::default(),
        streams: AtomicUsize::new(0),
        looked: Mutex::new(None),
    };
    Ok(Listening { server: Arc::new(server), listener, token })
}

impl Listening {
    /// The address to open. What follows `#` is not sent by a browser; the page gives it back with each request.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/#token={}", self.server.port, self.token)
    }

    /// Serves from now on, in threads of its own, until the process ends.
    pub fn serve(self) -> io::Result<()> {
        let Listening { server, listener, .. } = self;
        let open = Arc::new(AtomicUsize::new(0));
        let accept = move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // Out of files, as a rule: some will be free again.
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                };
                if open.fetch_add(1, Ordering::SeqCst) >= MOST {
                    open.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let (server, own) = (server.clone(), open.clone());
                let serve = move || {
                    let _count = Count(&own);
                    server.connection(stream);
                };
                if std::thread::Builder::new().name("ui".into()).stack_size(STACK).spawn(serve).is_err() {
                    open.fetch_sub(1, Ordering::SeqCst);
                }
            }
        };
        std::thread::Builder::new().name("ui".into()).spawn(accept).map(drop)
    }
}

/// Counts one less when it is dropped.
struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    /// Answers one request; each has a connection of its own.
    fn connection(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(SLOW));
        let request = match http::read(&mut stream) {
            Ok(request) => request,
            Err(Some(refused)) => return Answer::refused(&refused).send(&mut stream, false),
            Err(None) => return,
        };
        let head_only = request.method == "HEAD";
        // A fault in what answers is not the end of the server.
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.answer(&request, &mut stream)));
        match caught {
            Ok(Ok(Some(answer))) => answer.send(&mut stream, head_only),
            Ok(Ok(None)) => {}
            Ok(Err(refused)) => Answer::refused(&refused).send(&mut stream, head_only),
            Err(_) => {
                Answer::refused(&Refused::new(500, "BUG: this request could not be answered"))
                    .send(&mut stream, head_only);
            }
        }
    }

    /// The answer; none if it was streamed.
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> Result<Option<Answer>, Refused> {
        self.check_sender(request, stream)?;
        let post = match request.method.as_str() {
            "GET" | "HEAD" => false,
            "POST" => true,
            _ => return Err(Refused::new(405, "only GET, HEAD and POST are answered")),
        };
        if let Some(file) = files::find(&request.path) {
            return if post { Err(Refused::new(405, "a page is only read")) } else { Ok(Some(file)) };
        }
        let Some(name) = request.path.strip_prefix("/api/") else {
            return Err(Refused::new(404, "there is nothing of this name"));
        };
        let given = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        // Hashes are compared in constant time.
        if given.is_none_or(|given| blake3::hash(given.as_bytes()) != self.token) {
            return Err(Refused::new(
                401,
                "the token is not that of this server; open the address that `planexe ui` printed",
            ));
        }
        if post {
            // Only a page of this server may ask for a change, and says so.
            if request.header("origin").is_none() {
                return Err(Refused::new(403, "a change wants an Origin"));
            }
            return act::answer(self, request, name).map(Some);
        }
        if name == "events" {
            if request.method == "HEAD" {
                return Ok(Some(Answer::text(200, "text/event-stream", String::new())));
            }
            let streams = self.streams.fetch_add(1, Ordering::SeqCst);
            let _count = Count(&self.streams);
            if streams >= MOST_STREAMS {
                return Err(Refused::new(503, "too many pages follow this server"));
            }
            let store = self.session(request)?.records(false).map_err(|error| Refused::from_error(&error))?;
            self.feeds.of(store.run_dir()).stream(&store, request, stream);
            return Ok(None);
        }
        api::answer(self, request, name).map(Some)
    }

    /// Refuses what another site, or a name that leads here, may have sent.
    fn check_sender(&self, request: &Request, stream: &TcpStream) -> Result<(), Refused> {
        if !stream.peer_addr().is_ok_and(|peer: SocketAddr| peer.ip().is_loopback()) {
            return Err(Refused::new(403, "only this machine is answered"));
        }
        let port = self.port;
        let own = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        if request.header("host").is_none_or(|host| !own.iter().any(|own| host == own)) {
            return Err(Refused::new(403, "the Host of the request is not this server"));
        }
        let is_own = |origin: &str| own.iter().any(|own| origin.strip_prefix("http://") == Some(own));
        if request.header("origin").is_some_and(|origin| !is_own(origin)) {
            return Err(Refused::new(403, "the Origin of the request is not this server"));
        }
        let site = request.header("sec-fetch-site").unwrap_or("none");
        let navigates = request.header("sec-fetch-mode") == Some("navigate");
        let is_own = matches!(site, "none" | "same-origin");
        if !(is_own || navigates && request.path == "/") {
            return Err(Refused::new(403, "the request comes from another site"));
        }
        Ok(())
    }

    /// A session for the run that a request names.
    fn session(&self, request: &Request) -> Result<Session, Refused> {
        let run = request.query("run");
        match &self.subject {
            Subject::Run(place) => {
                let session = self.base.session(Path::new("."));
                Ok(Session { place: place.clone(), ..session })
            }
            Subject::Runs(root) => {
                let run = run.ok_or_else(|| Refused::new(400, "`run` is missing: the name of a run"))?;
                // Only a name of the list, never a path.
                let dir = Runs::new(root).find(&run);
                let dir = dir.ok_or_else(|| Refused::new(404, "there is no run of this name"))?;
                Ok(self.base.session(&dir))
            }
        }
    }
}
