//! What planexe answers, as data and as text: pure functions over plain structs that the commands fill.

use serde::Serialize;

use crate::exit;

/// Who answers: in every machine-readable answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// `planexe`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The host it ran on.
    pub host: Option<String>,
}

impl Server {
    /// This planexe, on a host.
    pub fn here(host: Option<String>) -> Server {
        Server { name: "planexe".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), host }
    }
}

/// An error as data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The error.
    pub error: ErrorBody,
}

/// What `error` holds when a command could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBody {
    /// Stable: `locked`, `never_started`, …
    pub code: String,
    /// One line for people.
    pub message: String,
    /// What lies behind it.
    pub causes: Vec<String>,
    /// What to type next.
    pub next: Vec<String>,
    /// The exit code.
    pub exit_code: u8,
}

impl ErrorView {
    /// The data of an error.
    pub fn of(error: &exit::Error) -> ErrorView {
        ErrorView {
            schema: 1,
            server: Server::here(None),
            error: ErrorBody {
                code: error.code.to_owned(),
                message: error.message.clone(),
                causes: error.causes.clone(),
                next: error.hints.clone(),
                exit_code: error.exit_code(),
            },
        }
    }
}
