//! Any program that takes the prompt on standard input and answers on standard output.
//!
//! It runs in a process group of its own in the pipeline's folder, without the variables that hold keys,
//! and the whole group is ended on a cancel or a time limit. An answer is whole when the program exits
//! with 0; how it ended decides otherwise, and its standard error says why.

mod group;
mod talk;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::classify::{Said, classify, with_reset_of_program};
use super::openai::turns;
use super::reset::is_notice;
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, Setup, Usage, one_line, tidy};
use crate::config::Model;
use crate::keys::{self, Secret};
use planexe_base::process::Lifeline;

/// Bytes of standard error that are kept: its last ones.
const STDERR_CAP: usize = 64 * 1024;

/// Bytes of output that are read for a limit where nothing was said on standard error.
const SHORT: usize = 2048;

/// The whole call, where neither the table nor the task says. An agent at work is silent for long, so
/// first-token and idle are only what the table says.
const TOTAL: Duration = Duration::from_secs(60 * 60);

/// A model that is a program (`api = "command"`).
pub struct Command {
    argv: Vec<String>,
    folder: PathBuf,
    /// The variable of its own key, the only one of those that hold keys which it is given, and the key.
    own_key: Option<(String, Secret)>,
    /// Variables that it gets beside ours, or does not get.
    vars: Vec<(String, Option<OsString>)>,
    lifeline: Arc<Lifeline>,
    first_token: Option<Duration>,
    idle: Option<Duration>,
    total: Duration,
}

impl Command {
    /// Reads the table. Nothing is started.
    pub fn new(model: &Model, setup: &Setup<'_>) -> Result<Command, CallError> {
        if model.command.first().is_none_or(|program| program.is_empty()) {
            let why = format!("models.{}: `command` is missing, the program and its arguments", setup.name);
            return Err(CallError::new(Class::Config, why));
        }
        Command::of(model.command.clone(), model, setup)
    }

    /// A program with the key and the clocks of a table.
    pub(super) fn of(argv: Vec<String>, model: &Model, setup: &Setup<'_>) -> Result<Command, CallError> {
        if argv.is_empty() {
            let why = format!("models.{}: `command` names no program", setup.name);
            return Err(CallError::new(Class::Config, why));
        }
        let span = |span: Option<planexe_base::span::Span>| span.map(|span| span.0);
        Ok(Command {
            argv,
            vars: Vec::new(),
            folder: setup.folder.to_owned(),
            own_key: model.api_key_env.clone().and_then(|env| setup.keys.value(&env).map(|key| (env, key))),
            lifeline: Arc::clone(setup.lifeline),
            first_token: span(model.timeouts.first_token),
            idle: span(model.timeouts.idle),
            total: span(model.timeouts.total).unwrap_or(TOTAL),
        })
    }

    /// The same with another command line, in another folder.
    pub(super) fn in_folder(
        &self,
        argv: Vec<String>,
        vars: Vec<(String, Option<OsString>)>,
        folder: PathBuf,
    ) -> Command {
        let (own_key, lifeline) = (self.own_key.clone(), Arc::clone(&self.lifeline));
        Command { argv, folder, vars, own_key, lifeline, ..*self }
    }

    /// The same with at most so much time.
    pub(super) fn at_most(self, total: Duration) -> Command {
        Command { total, ..self }
    }

    /// The name of its program.
    pub(super) fn name(&self) -> &str {
        &self.argv[0]
    }

    fn start(&self) -> Result<Child, CallError> {
        let mut command = std::process::Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        keys::hide_from(&mut command, &[]);
        if let Some((variable, key)) = &self.own_key {
            command.env(variable, key.expose());
        }
        for (name, value) in &self.vars {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.lifeline.ready(&mut command);
        command.spawn().map_err(|error| {
            let class = match error.kind() {
                // Too many processes or descriptors: it passes.
                ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Class::ServerError,
                _ => Class::Config,
            };
            CallError::new(class, format!("`{}` cannot be started: {error}", self.argv[0]))
        })
    }
}

/// What the model is told, as one text, with a schema in words.
pub(super) fn stdin_of(request: &Request, schema: Option<&serde_json::Value>) -> String {
    let mut text = String::new();
    if !request.system.trim().is_empty() {
        text.push_str(&request.system);
        text.push_str("\n\n");
    }
    for (index, (role, turn)) in
        turns(request, schema.map(crate::structured::in_words)).into_iter().enumerate()
    {
        match (index, role) {
            (0, _) => {}
            (_, "assistant") => text.push_str("\n\nYour earlier answer was:\n\n"),
            _ => text.push_str("\n\n"),
        }
        text.push_str(&turn);
    }
    text.push('\n');
    text
}

impl Provider for Command {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let started = Instant::now();
        let prompt = stdin_of(request, request.schema.as_ref());
        let Heard { status, stdout, stderr, first, .. } = self.talk(prompt.as_bytes(), None, context)?;
        if !status.success() {
            return Err(self.failed(status, &stdout, &stderr));
        }
        let text = match String::from_utf8(stdout) {
            Ok(text) => text,
            Err(error) => {
                let mut bad = CallError::new(Class::BadData, "the program's output is not valid UTF-8");
                bad.raw = tidy(&String::from_utf8_lossy(error.as_bytes()), STDERR_CAP, None);
                return Err(bad);
            }
        };
        let printed = if text.trim().is_empty() { last_words(&stderr) } else { text.clone() };
        if is_notice(&printed) {
            let (class, wait) = with_reset_of_program(Class::RateLimit, &printed);
            let mut error =
                CallError::new(class, format!("`{}`: {}", self.argv[0], one_line(&printed, None)));
            (error.retry_after, error.partial) = (wait, text);
            error.usage.calls = 1;
            return Err(error);
        }
        let why = match text.trim().is_empty() {
            true => Some((Class::EmptyResponse, "the program exited with 0 and wrote nothing")),
            false if text.contains('\0') => Some((Class::BadData, "the output has NUL characters in it")),
            false => None,
        };
        if let Some((class, why)) = why {
            let mut error = CallError::new(class, why);
            error.partial = text;
            return Err(error);
        }
        Ok(Reply {
            text,
            usage: Usage { calls: 1, ..Usage::default() },
            finish: Some("exit 0".into()),
            first_token_s: first.map(|first| first.as_secs_f64()),
            duration_s: started.elapsed().as_secs_f64(),
            ..Reply::default()
        })
    }

    fn health(&self) -> Health {
        Health::Up
    }
}

/// What a program that came to its end has said.
pub(super) struct Heard {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// From the start to the first byte of an answer.
    pub(super) first: Option<Duration>,
}

/// Reads an output that is not the answer itself.
pub(super) trait Lines {
    /// Takes in what was printed; the text of the answer that is new in it.
    fn take(&mut self, bytes: &[u8]) -> String;

    /// The text so far.
    fn written(&self) -> &str;

    /// Whether the line was there that ends every answer.
    fn is_whole(&self) -> bool;
}

impl Heard {
    /// How it ended.
    pub(super) fn how(&self) -> String {
        how(self.status)
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

impl Command {
    /// The error of a program that did not exit with 0, by what it wrote on standard error.
    fn failed(&self, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> CallError {
        let stderr = last_words(stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let how = how(status);
        let mut retry_after = None;
        let class = match status.code() {
            // By the shell's custom: not to be run, not to be found.
            Some(126 | 127) => Class::Config,
            _ => {
                // Agents print limits where their answer would be.
                let short = stdout.len() <= SHORT && stderr.trim().is_empty();
                let printed =
                    if short { String::from_utf8_lossy(stdout).into_owned() } else { stderr.clone() };
                let said = Said { message: printed.clone(), ..Said::default() };
                // Only what tells a purse, a key or a limit apart; anything else may pass.
                let class = match classify(None, &said, None, false) {
                    class @ (Class::RateLimit | Class::Quota | Class::Auth | Class::ContextOverflow) => class,
                    _ => Class::ServerError,
                };
                let (class, wait) = with_reset_of_program(class, &printed);
                retry_after = wait;
                class
            }
        };
        let mut error =
            CallError::new(class, format!("`{}` ended with {how}: {}", self.argv[0], one_line(last, None)));
        error.code = Some(how);
        error.retry_after = retry_after;
        error.partial = tidy(&String::from_utf8_lossy(stdout), usize::MAX, None);
        error.raw = stderr;
        error.usage.calls = 1;
        error
    }
}

/// The last part of what a program said on standard error.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let from = stderr.len().saturating_sub(STDERR_CAP);
    tidy(&String::from_utf8_lossy(&stderr[from..]), STDERR_CAP, None)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests;
