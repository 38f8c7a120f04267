//! Agent programs as models (`api = "claude"`, `"codex"`, `"gemini"`): started for each call without a terminal, without
//! the user's settings, MCP servers and memory, in an empty folder of their own, and without tools unless the model's
//! table names some. The prompt goes to standard input; what they print is read line by line as it comes.
//!
//! How each is started is in `start`, how its lines are read in `reader`. Processes, clocks and cancels are those of
//! [`Command`].

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::classify::{self, Said, classify, rejects_schema};
use super::command::{Command, Heard, stdin_of};
use super::reset::is_notice;
use super::{CallContext, CallError, Class, Provider, Reply, Request, Setup, Usage, one_line, tidy};
use crate::config::{Model, Price};
use planexe_base::fs;
use reader::{Found, Reader};

pub(super) mod reader;
mod start;

/// What agents say where nobody has logged in.
const NO_LOGIN: [&str; 6] = [
    "not logged in",
    "please run /login",
    "invalid auth method",
    "authentication_failed",
    "please set an auth method",
    "oauth token has expired",
];

/// An agent program.
pub struct Agent {
    kind: Kind,
    /// The program and what comes first on its command line.
    program: Vec<String>,
    model: Option<String>,
    tools: Vec<String>,
    /// What starts it, but for its command line and folder.
    base: Command,
    has_key: bool,
    price: Option<Price>,
    /// It refused a schema once: it is put into the prompt from then on.
    schema_in_words: AtomicBool,
}

/// Which agent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
}

impl Kind {
    /// The line that ends an answer.
    fn last_line(self) -> &'static str {
        match self {
            Kind::Claude => r#"{"type":"result","subtype":"success","result":"…"}"#,
            Kind::Codex => r#"{"type":"turn.completed","usage":{}}"#,
            Kind::Gemini => r#"{"type":"result","status":"success"}"#,
        }
    }
}

/// What starts an agent: the table's `command`, or the program of its usual name.
pub fn program(model: &Model) -> Vec<String> {
    let usual = match model.api {
        Some(api) if model.command.is_empty() => vec![api.name().to_owned()],
        _ => Vec::new(),
    };
    if usual.is_empty() { model.command.clone() } else { usual }
}

impl Agent {
    /// Reads the table. Nothing is started.
    pub(super) fn new(kind: Kind, model: &Model, setup: &Setup<'_>) -> Result<Agent, CallError> {
        let mut program = program(model);
        // It is started in another folder.
        if let Some(first) = program.first_mut()
            && first.contains('/')
            && Path::new(first.as_str()).is_relative()
        {
            *first = setup.folder.join(first.as_str()).display().to_string();
        }
        let base = Command::of(program.clone(), model, setup)?;
        Ok(Agent {
            kind,
            program,
            model: model.model.clone(),
            tools: model.tools.clone(),
            has_key: model.api_key_env.as_ref().is_some_and(|env| setup.keys.value(env).is_some()),
            base,
            price: model.price,
            schema_in_words: AtomicBool::new(false),
        })
    }

    /// The schema in the form the agent takes; none where it goes into the prompt.
    fn native_schema(&self, request: &Request) -> Option<Value> {
        let schema = request.schema.as_ref().filter(|_| !self.schema_in_words.load(Ordering::Relaxed))?;
        match self.kind {
            Kind::Claude if schema["type"] == "object" && schema.to_string().len() <= start::LONGEST => {
                Some(schema.clone())
            }
            Kind::Claude => None,
            Kind::Codex => super::structured::openai_strict(schema),
            Kind::Gemini => None,
        }
    }

    fn reply(&self, found: Found, heard: &Heard, request: &Request, started: Instant) -> Reply {
        let mut text = found.answer.unwrap_or_default();
        if self.kind == Kind::Codex
            && let Some(schema) = &request.schema
            && let Some(without) = super::structured::without_made_nulls(&text, schema)
        {
            text = without;
        }
        Reply {
            text,
            reasoning: found.reasoning,
            usage: self.priced(found.usage),
            model: found.model,
            finish: found.finish.or_else(|| Some("exit 0".into())),
            id: found.session,
            sample: false,
            first_token_s: heard.first.map(|first| first.as_secs_f64()),
            duration_s: started.elapsed().as_secs_f64(),
        }
    }

    fn priced(&self, usage: Usage) -> Usage {
        let mut usage = Usage { calls: 1, ..usage.believed() };
        if let Some(price) = &self.price {
            usage.cost_usd = super::cost(&usage, price);
        }
        usage
    }

    /// Why there is no answer, if there is none.
    fn fault(&self, found: &Found, heard: &Heard, native: bool) -> Option<CallError> {
        // An answer with its end mark was paid for, however its program ends after it.
        let has_answer =
            found.is_whole && found.answer.as_deref().is_some_and(|text| !text.trim().is_empty());
        let exited = heard.status.success() || has_answer;
        let stderr = super::command::last_words(&heard.stderr);
        // One that is printed as the answer of an agent that says all went well, or in its place.
        let printed = found.answer.clone().or_else(|| (!found.is_whole).then(|| stderr.clone()));
        let notice = printed.filter(|printed| found.error.is_none() && is_notice(printed));
        let told_error = found.error.clone().or_else(|| notice.clone());
        if exited
            && told_error.is_none()
            && let Some(damage) = found.damage
        {
            return Some(CallError::new(Class::BadData, format!("`{}`: {damage}", self.program[0])));
        }
        if exited
            && told_error.is_none()
            && let Some(unread) = &found.unread
        {
            let why = format!(
                "`{}` ended well, and what it printed is no answer: found `{}`, wanted lines of JSON, of which the last is like `{}`",
                self.program[0],
                one_line(unread, None),
                self.kind.last_line()
            );
            let mut error = CallError::new(Class::BadData, why);
            error.raw = tidy(unread, 64 * 1024, None);
            return Some(error);
        }
        if exited && told_error.is_none() && found.is_whole {
            let (class, why) = match (found.finish.as_deref(), found.answer.as_deref().map(str::trim)) {
                (Some("refusal"), _) => (Class::Refusal, "the model declined"),
                (Some("max_tokens"), _) => (Class::Truncated, "the answer reached its length limit"),
                (_, None | Some("")) => (Class::EmptyResponse, "the agent ended well and gave no answer"),
                _ => return None,
            };
            return Some(CallError::new(class, why));
        }
        let how = heard.how();
        let said = told_error.clone().unwrap_or_else(|| stderr.clone());
        if exited && told_error.is_none() {
            let why = format!("the output of `{}` ends in the middle of its answer", self.program[0]);
            return Some(CallError::new(Class::Cut, why));
        }
        let told = Said { message: said.clone(), ..Said::default() };
        let lower = said.to_ascii_lowercase();
        let mut error = CallError::new(Class::ServerError, "");
        let status = found.http_status.or_else(|| status_in(&lower)).or_else(|| self.status_of_exit(heard));
        let class = match (heard.status.code(), told_error.is_some()) {
            _ if notice.is_some() => Class::RateLimit,
            (Some(126 | 127), false) => Class::Config,
            _ if NO_LOGIN.iter().any(|words| lower.contains(words)) => Class::Auth,
            _ if lower.contains("unknown option") || lower.contains("unexpected argument") => Class::Config,
            _ => classify(status, &told, None, false),
        };
        let text = format!("{said}\n{}", found.limit);
        let (class, wait) = classify::with_reset_of_program(class, &text);
        if native && class != Class::RateLimit && rejects_schema(None, &told) {
            self.schema_in_words.store(true, Ordering::Relaxed);
            error.adapted = true;
        }
        error.class = class;
        error.status = status;
        error.retry_after = wait;
        let mut lines = said.lines().filter(|line| !line.trim().is_empty());
        // Gemini CLI says what to do after what went wrong.
        let is_error = |line: &&str| line.trim_start().starts_with("[API Error");
        let last = lines.clone().find(is_error).or_else(|| lines.next_back()).unwrap_or("it said nothing");
        error.message = format!("`{}` ended with {how}: {}", self.program[0], one_line(last, None)).into();
        error.code = Some(how);
        error.raw = tidy(&format!("{text}\n{stderr}"), 64 * 1024, None);
        Some(error)
    }
}

impl Agent {
    /// Gemini CLI ends with the status of the server's answer, of which a system keeps eight bits: 173 was 429.
    fn status_of_exit(&self, heard: &Heard) -> Option<u16> {
        let status = u16::try_from(heard.status.code()?).ok()? + 256;
        (self.kind == Kind::Gemini && (400..=511).contains(&status)).then_some(status)
    }
}

/// A status in an agent's words: "last status: 429", "Request rejected (429)", "API Error: 529".
fn status_in(lower: &str) -> Option<u16> {
    let after = ["status: ", "status ", "rejected (", "api error: ", "status code "];
    after.iter().find_map(|words| {
        let (_, rest) = lower.split_once(words)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|status| (400..600).contains(status))
    })
}

impl Provider for Agent {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let started = Instant::now();
        let native = self.native_schema(request);
        let room = Room::new().map_err(|why| {
            CallError::new(Class::ServerError, format!("no folder for `{}`: {why}", self.program[0]))
        })?;
        let (argv, vars) = start::line(self, request, native.as_ref(), &room).map_err(|why| {
            CallError::new(Class::ServerError, format!("no folder for `{}`: {why}", self.program[0]))
        })?;
        let command = self.base.in_folder(argv, vars, room.work());
        let words = if native.is_some() { None } else { request.schema.as_ref() };
        // The system prompt goes its own way.
        let told = Request { system: String::new(), ..request.clone() };
        let mut reader = Reader::new(self.kind);
        let heard = command.talk(stdin_of(&told, words).as_bytes(), Some(&mut reader), context)?;
        let mut found = reader.end();
        if let Some(mut error) = self.fault(&found, &heard, native.is_some()) {
            error.usage = self.priced(found.usage);
            error.partial = tidy(&std::mem::take(&mut found.written), usize::MAX, None);
            return Err(error);
        }
        Ok(self.reply(found, &heard, request, started))
    }

    fn health(&self) -> super::Health {
        super::Health::Up
    }
}

/// A folder of one call, which nobody else can read; gone when the call is.
pub(super) struct Room(PathBuf);

/// What the name of a room begins with; then the process and a number.
const ROOM: &str = "planexe-agent-";

/// A room of a process that is gone stays at least so long: the process may be one of another container, whose ids are
/// not seen from here.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes the rooms that killed processes left.
fn sweep(folder: &Path) {
    for (name, kind) in fs::list_dir(folder).unwrap_or_default() {
        let maker = name.to_str().and_then(|name| name.strip_prefix(ROOM)?.split_once('-')?.0.parse().ok());
        let is_gone = maker.is_some_and(|pid: i32| !fs::process_exists(pid));
        let room = folder.join(&name);
        let is_old = || {
            let times = std::fs::symlink_metadata(&room).and_then(|room| room.modified());
            times.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFT))
        };
        if kind == fs::FileKind::Dir && is_gone && is_old() {
            // One that belongs to somebody else stays.
            let _ = fs::remove_tree(&room);
        }
    }
}

impl Room {
    fn new() -> Result<Room, fs::FsError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir()));
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{ROOM}{}-{number}", std::process::id());
            let room = std::env::temp_dir().join(name);
            // One of this name is of a process that is gone, or somebody else's trap.
            if !fs::make_private_new_dir(&room)? {
                continue;
            }
            let room = Room(room);
            fs::make_private_dir(&room.work())?;
            fs::make_private_dir(&room.temp())?;
            return Ok(room);
        }
    }

    /// Where the program runs: empty.
    fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Its temporary files.
    fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// A file beside it.
    fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, fs::FsError> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            fs::make_private_dir(parent)?;
        }
        fs::write_private(&path, bytes)?;
        Ok(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_tree(&self.0);
    }
}

/// What `planexe doctor` wants to know of an agent: its version, or why it cannot be started.
pub fn version(model: &Model, setup: &Setup<'_>) -> Result<String, CallError> {
    let mut argv = program(model);
    argv.push("--version".to_owned());
    let command = Command::of(argv, model, setup)?.at_most(Duration::from_secs(20));
    let (cancel, progress) = (planexe_base::cancel::Cancel::new(), super::CallProgress::default());
    let context = CallContext { cancel: &cancel, progress: &progress, time_left: None };
    let heard = command.talk(b"", None, &context)?;
    let said = String::from_utf8_lossy(&heard.stdout).into_owned();
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    match heard.status.success() {
        true => Ok(one_line(line, None)),
        false => {
            let why = one_line(&super::command::last_words(&heard.stderr), None);
            Err(CallError::new(
                Class::Config,
                format!("`{}` ended with {}: {why}", command.name(), heard.how()),
            ))
        }
    }
}
