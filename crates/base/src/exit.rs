//! How planexe ends: the exit codes, which scripts rely on, and the one error that reaches the edge.

use std::fmt;

use serde::Serialize;

use crate::message::{Hint, Message};

/// Everything asked for is done.
pub const DONE: u8 = 0;
/// A task failed, or planexe itself could not do its work.
pub const FAILED: u8 = 1;
/// `build --question`: something is stale.
pub const STALE: u8 = 1;
/// The command line, the pipeline or the set-up is wrong; nothing was run.
pub const USAGE: u8 = 2;
/// Stopped short on purpose: a person, a gate, a budget, a pause or a stop file.
pub const STOPPED: u8 = 3;
/// Another planexe works on the run directory.
pub const LOCKED: u8 = 75;
/// Ended by SIGHUP.
pub const HANGUP: u8 = 129;
/// Ended by SIGINT (Ctrl-C).
pub const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM.
pub const TERMINATED: u8 = 143;

/// The exit code of an end by a signal.
pub fn of_signal(signal: i32) -> u8 {
    128 + (signal.clamp(0, 127) as u8)
}

/// What kind of end an error is; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The command line, or what it names, is wrong.
    Usage,
    /// `pipeline.toml`, or a file it names, is wrong.
    Manifest,
    /// The set-up is wrong: a key that is missing or not bound to its host.
    Setup,
    /// A task failed.
    Task,
    /// The run is not in a state in which this can be done.
    Refused,
    /// Stopped on purpose.
    Stopped,
    /// Another planexe works on the run directory.
    Locked,
    /// A file could not be read or written, or something else of planexe's own.
    Internal,
}

impl Kind {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage | Kind::Manifest | Kind::Setup | Kind::Refused => USAGE,
            Kind::Task | Kind::Internal => FAILED,
            Kind::Stopped => STOPPED,
            Kind::Locked => LOCKED,
        }
    }

    /// The stable code of an error that was given none of its own.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Manifest => "manifest",
            Kind::Setup => "setup",
            Kind::Task => "task",
            Kind::Refused => "refused",
            Kind::Stopped => "stopped",
            Kind::Locked => "locked",
            Kind::Internal => "internal",
        }
    }
}

/// The error a command ends with. Any `std::error::Error` becomes an internal one by `?`, with its causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// Stable, for scripts: `locked`, `never_started`, `already_complete`, …
    pub code: &'static str,
    /// What was found and what was wanted: lower case, names in backticks, no full stop.
    pub message: String,
    /// What lies behind it, outermost first.
    pub causes: Vec<String>,
    /// What to do next, one a line.
    pub hints: Vec<Hint>,
    /// The message is already laid out, with its places in the file and its colours: shown as it is.
    #[serde(skip)]
    pub rendered: bool,
    /// The answer of `--json`, where it has more to it than that of other errors.
    #[serde(skip)]
    pub answer: Option<Box<serde_json::Value>>,
}

impl Error {
    /// An error of a kind, with the hints of its message.
    pub fn new(kind: Kind, message: impl Into<Message>) -> Error {
        let message: Message = message.into();
        Error {
            kind,
            code: kind.name(),
            message: message.text,
            causes: Vec::new(),
            hints: message.hints,
            rendered: false,
            answer: None,
        }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<Message>) -> Error {
        Error::new(Kind::Usage, message)
    }

    /// Faults of the pipeline that are already laid out for the terminal.
    pub fn rendered(kind: Kind, text: impl Into<String>) -> Error {
        Error { message: text.into(), rendered: true, ..Error::new(kind, "") }
    }

    /// With a stable code of its own.
    pub fn code(mut self, code: &'static str) -> Error {
        self.code = code;
        self
    }

    /// With a further hint.
    pub fn hint(mut self, hint: impl Into<Hint>) -> Error {
        self.hints.push(hint.into());
        self
    }

    /// With an error and its sources as the causes.
    pub fn because(mut self, cause: &dyn std::error::Error) -> Error {
        self.causes.push(cause.to_string());
        let mut next = cause.source();
        while let Some(source) = next {
            let text = source.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = source.source();
        }
        self
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        let mut causes = Error::new(Kind::Internal, "").because(&error).causes;
        Error { causes: causes.split_off(1), ..Error::new(Kind::Internal, causes.swap_remove(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        for (kind, code) in [
            (Kind::Usage, 2),
            (Kind::Manifest, 2),
            (Kind::Setup, 2),
            (Kind::Refused, 2),
            (Kind::Task, 1),
            (Kind::Internal, 1),
            (Kind::Stopped, 3),
            (Kind::Locked, 75),
        ] {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn an_error_keeps_its_causes() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = Error::from(io);
        assert_eq!((error.kind, error.message.as_str()), (Kind::Internal, "no such file"));
        let error = Error::usage("cannot read `plan.txt`")
            .because(&std::io::Error::other("is a directory"))
            .hint("`planexe new DIR`");
        assert_eq!(error.to_string(), "cannot read `plan.txt`: is a directory");
        assert_eq!(error.hints, [Hint::from("`planexe new DIR`")]);
        let error = Error::new(Kind::Setup, Message::new("`KEY` is not set").hint("`export KEY=…`"));
        assert_eq!(
            (error.message.as_str(), error.hints.as_slice()),
            ("`KEY` is not set", &[Hint::from("`export KEY=…`")][..])
        );
        assert_eq!(Error::rendered(Kind::Manifest, "a\nhint: b").message, "a\nhint: b");
    }
}
