//! A response under way: its headers, its body piece by piece, and the errors it may end with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use ureq::BodyReader;
use ureq::http::HeaderMap;

use super::{Endpoint, io_error};
use crate::classify::{self, Said};
use crate::retry_after;
use crate::stream::{BODY_CAP, Fault, LINE_CAP, Lines};
use crate::watchdog::{Guard, Watch};
use crate::{CallError, CallProgress, Class, one_line, tidy};

/// Most bytes of an error's body that are read and kept.
const ERROR_CAP: usize = 64 * 1024;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Server-sent events.
    Events,
    /// JSON, one value or one a line.
    Json,
    /// Nothing at all.
    Empty,
}

/// A response whose head has come with status 200, or 201.
pub(crate) struct Exchange<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub lines: Lines<BodyReader<'static>>,
    pub(super) headers: HeaderMap,
    pub(super) status: u16,
    pub started: Instant,
    pub(super) watch: Arc<Watch>,
    pub(super) progress: &'a CallProgress,
    /// None where nothing is waited for.
    pub(super) _guard: Option<Guard>,
}

impl Exchange<'_> {
    /// A response header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How the body is written: by its content type, and by its first byte where that says nothing or
    /// is not kept to. A web page is an error.
    pub(crate) fn format(&mut self) -> Result<Format, CallError> {
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
    pub(crate) fn content(&self, bytes: usize) {
        self.watch.content();
        self.progress.content(bytes);
    }

    /// A piece of the answer's text came.
    pub(crate) fn text(&self, piece: &str) {
        self.watch.content();
        self.progress.wrote(piece);
    }

    /// The server tells how far it is with the prompt.
    pub(crate) fn reading(&self, read: u64, of: u64) {
        self.watch.reading();
        self.progress.reading(read, of);
    }

    /// The reason this call was ended from outside, if it was: to be asked before any other reason is
    /// given, since a connection that is shut down may look like a clean end.
    pub(crate) fn ended(&self) -> Option<CallError> {
        self.watch.error()
    }

    /// The error of a body that broke off.
    pub(crate) fn fault(&self, fault: Fault, content: bool) -> CallError {
        if let Some(error) = self.ended() {
            return error;
        }
        match fault {
            Fault::TooLarge(what) => self.bad_data(format!(
                "{what} is larger than {} MiB",
                match what {
                    "the answer" => BODY_CAP >> 20,
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
    pub(crate) fn bad_data(&self, message: String) -> CallError {
        let mut error = CallError::new(Class::BadData, message);
        error.status = Some(self.status);
        error
    }

    /// The error of JSON that cannot be read: cut short, or damaged.
    pub(crate) fn bad_json(&self, bytes: &[u8], error: &serde_json::Error) -> CallError {
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
    pub(crate) fn said(&self, said: &Said, raw: &[u8]) -> CallError {
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
    pub(crate) fn value(&mut self) -> Result<serde_json::Value, CallError> {
        let (body, fault) = self.lines.rest(BODY_CAP as usize + 1);
        match fault {
            Some(fault) => Err(self.fault(fault, false)),
            None => serde_json::from_slice(&body).map_err(|error| self.bad_json(&body, &error)),
        }
    }

    /// Shows each line of a body that holds the answers of a batch, of which there may be so many bytes.
    pub(crate) fn each_value(
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
    pub(super) fn refused(&mut self) -> CallError {
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
