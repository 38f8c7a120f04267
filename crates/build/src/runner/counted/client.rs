//! The way back to a client.

use std::io;

use serde_json::Value;

use super::super::BuildContext;
use super::End;
use planexe_llm::relay::server::{Answering, JSON};
use planexe_llm::relay::{Dialect, Refusal, Wire};

/// The way back to a client that may be gone: what it asked for is paid, and read to its end.
pub(super) struct Client<'a, 'b> {
    pub(super) to: &'a mut Answering<'b>,
    pub(super) begun: bool,
    pub(super) gone: bool,
}

impl Client<'_, '_> {
    pub(super) fn piece(&mut self, text: &str) {
        if self.gone {
            return;
        }
        let begun = if self.begun { Ok(()) } else { self.to.begin(200, &[STREAM]) };
        self.begun = true;
        self.gone = begun.and_then(|()| self.to.piece(text.as_bytes())).is_err();
    }

    /// Sends what is left of an answer, now that it is kept. Whether the client has it.
    pub(super) fn finish(mut self, end: End, dialect: Dialect, ctx: &BuildContext) -> io::Result<bool> {
        match end {
            End::Passed(passed) if passed.streamed => {
                self.piece(&passed.held);
                if self.gone {
                    return Ok(false);
                }
                self.to.end().map(|()| true)
            }
            End::Passed(passed) => self
                .to
                .whole(200, &[("content-type", passed.content_type)], passed.body.as_bytes())
                .map(|()| true),
            End::Made(wire, _) => send(self.to, &wire, &wire.body).map(|()| true),
            End::Broken(broken) if self.begun => match broken.told {
                true => self.to.end().map(|()| false),
                false => Err(self.to.break_off()),
            },
            End::Broken(broken) => {
                let error = ctx.providers.redacted(broken.error);
                let Some(status) = error.status.filter(|_| !error.raw.is_empty()) else {
                    self.to.refuse(&Refusal::Unavailable(error.message.text), dialect)?;
                    return Ok(false);
                };
                let json = serde_json::from_str::<Value>(&error.raw).is_ok();
                let mut headers = vec![if json { JSON } else { ("content-type", "text/plain") }];
                let seconds = error.retry_after.map(|wait| format!("{}", wait.as_secs_f64().ceil()));
                headers.extend(seconds.iter().map(|seconds| ("retry-after", seconds.as_str())));
                let again = error.should_retry.map(|again| again.to_string());
                headers.extend(again.iter().map(|again| ("x-should-retry", again.as_str())));
                self.to.whole(status, &headers, error.raw.as_bytes()).map(|()| false)
            }
        }
    }
}

/// The header of a stream.
const STREAM: (&str, &str) = ("content-type", "text/event-stream; charset=utf-8");

/// Sends a kept answer.
pub(super) fn send(to: &mut Answering<'_>, wire: &Wire, body: &str) -> io::Result<()> {
    to.whole(wire.status, &[("content-type", &wire.content_type)], body.as_bytes())
}
