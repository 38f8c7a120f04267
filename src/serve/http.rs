//! HTTP/1.1 as far as a page of this machine needs it: one request a connection, all of it bounded.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use planexe_base::exit::Error;
use serde::Serialize;
use serde_json::json;

/// The longest head of a request.
const HEAD: usize = 16 << 10;
/// The longest body: a plan.
const BODY: usize = 4 << 20;
/// A request is here after so long, or is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const HEADERS: usize = 64;

/// A request.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    query: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header that is there once.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut of_name = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = of_name.next()?;
        if of_name.next().is_some() { None } else { Some(value) }
    }

    /// A part of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let parts = self.query.split('&').filter_map(|part| part.split_once('='));
        parts.filter(|(known, _)| *known == name).find_map(|(_, value)| decoded(value))
    }

    /// A part of the query that must be there.
    pub(super) fn needs(&self, name: &str) -> Result<String, Refused> {
        self.query(name).ok_or_else(|| Refused::new(400, &format!("`{name}` is missing")))
    }
}

/// Takes `%` escapes out.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Reads a request; `Err(None)`: nobody is there to be told.
pub(super) fn read(stream: &mut TcpStream) -> Result<Request, Option<Refused>> {
    let end = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let (mut request, length, begin) = loop {
        if let Some(parsed) = head(&bytes).map_err(Some)? {
            break parsed;
        }
        if bytes.len() >= HEAD {
            return Err(Some(Refused::new(431, "the head of the request is too long")));
        }
        more(stream, &mut bytes, HEAD, end)?;
    };
    if length > BODY {
        return Err(Some(Refused::new(413, "the body of the request is too long")));
    }
    bytes.drain(..begin);
    while bytes.len() < length {
        more(stream, &mut bytes, length, end)?;
    }
    bytes.truncate(length);
    request.body = bytes;
    Ok(request)
}

fn more(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    most: usize,
    end: Instant,
) -> Result<(), Option<Refused>> {
    let late = || Some(Refused::new(408, "the request did not come in time"));
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    let _ = stream.set_read_timeout(Some(left));
    let mut piece = [0; 8192];
    let room = piece.len().min(most - bytes.len());
    match stream.read(&mut piece[..room]) {
        Ok(0) => Err(None),
        Ok(count) => {
            bytes.extend_from_slice(&piece[..count]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(late())
        }
        Err(_) => Err(None),
    }
}

/// The request without its body, the body's length and where it begins; none if more is to come.
fn head(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let wrong = |what: &str| Refused::new(400, what);
    let begin = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(begin)) => begin,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refused::new(431, "the request has too many headers"));
        }
        Err(_) => return Err(wrong("this is no HTTP/1.1")),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |value: &[u8]| std::str::from_utf8(value).unwrap_or("\u{fffd}").trim().to_owned();
    let headers = parsed.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value)));
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    if request.headers.iter().any(|(name, _)| name == "transfer-encoding") {
        return Err(Refused::new(501, "a body wants its length said"));
    }
    let lengths = request.headers.iter().filter(|(name, _)| name == "content-length").count();
    let length = match (lengths, request.header("content-length")) {
        (0, _) => 0,
        (_, Some(length)) => length.parse().map_err(|_| wrong("`Content-Length` is no number"))?,
        (_, None) => return Err(wrong("`Content-Length` is said twice")),
    };
    Ok(Some((request, length, begin)))
}

/// Why a request is not answered.
#[derive(Debug)]
pub(super) struct Refused {
    pub status: u16,
    body: serde_json::Value,
}

impl Refused {
    pub(super) fn new(status: u16, message: &str) -> Refused {
        Refused { status, body: json!({ "error": { "message": message, "code": status.to_string() } }) }
    }

    /// What an operation said, as `--json` prints it.
    pub(super) fn from_error(error: &Error) -> Refused {
        let hints: Vec<String> = error.hints.iter().map(|hint| hint.text().to_owned()).collect();
        let body = json!({ "error": { "message": error.message, "code": error.code, "hints": hints } });
        Refused { status: 409, body }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

/// Of every answer: nothing is loaded from elsewhere, framed by others, kept, or told to others.
const SAFE: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\nCache-Control: no-store\r\nConnection: close\r\n";

impl Answer {
    pub(super) fn text(status: u16, kind: &'static str, body: impl Into<String>) -> Answer {
        Answer { status, kind, body: body.into() }
    }

    pub(super) fn with_status(self, status: u16) -> Answer {
        Answer { status, ..self }
    }

    pub(super) fn json(value: &impl Serialize) -> Result<Answer, Refused> {
        let body = serde_json::to_string(value).map_err(|error| Refused::new(500, &error.to_string()))?;
        Ok(Answer::text(200, "application/json", body))
    }

    pub(super) fn refused(refused: &Refused) -> Answer {
        Answer::text(refused.status, "application/json", refused.body.to_string())
    }

    /// Sends it. Who asked may be gone.
    pub(super) fn send(&self, stream: &mut TcpStream, head_only: bool) {
        let head = head_of(self.status, self.kind, Some(self.body.len()));
        let body = if head_only { "" } else { &self.body };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        let _ = stream.flush();
        // What was sent and not read yet would make the system drop the answer.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
        let mut rest = [0; 4096];
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end && stream.read(&mut rest).is_ok_and(|count| count > 0) {}
    }
}

/// The head of an answer.
pub(super) fn head_of(status: u16, kind: &str, length: Option<usize>) -> String {
    let word = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let length = length.map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
    format!("HTTP/1.1 {status} {word}\r\nContent-Type: {kind}; charset=utf-8\r\n{length}{SAFE}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_or_awaited_or_refused() {
        let text =
            b"GET /api/task?task=a%5Bx%20y%5D&run=r HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..text.len() - 3 {
            assert!(head(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let (request, length, begin) = head(text).unwrap().unwrap();
        assert_eq!((request.path.as_str(), length, &text[begin..]), ("/api/task", 3, &b"abc"[..]));
        assert_eq!(request.query("task").as_deref(), Some("a[x y]"));
        assert_eq!((request.query("none"), request.header("host")), (None, Some("h")));
        for (bad, status) in [
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            ("\x16\x03\x01 what\r\n\r\n", 400),
        ] {
            assert_eq!(head(bad.as_bytes()).unwrap_err().status, status, "{bad}");
        }
        let twice = head(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(twice.header("host"), None, "said twice is not said");
        assert_eq!((decoded("%zz"), decoded("%4"), decoded("%ff")), (None, None, None));
    }
}
