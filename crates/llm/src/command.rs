//! Any program that takes the prompt on standard input and answers on standard output.
//!
//! It runs in a process group of its own in the pipeline's folder, without the variables that hold keys,
//! and the whole group is ended on a cancel or a time limit. An answer is whole when the program exits
//! with 0; how it ended decides otherwise, and its standard error says why.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::classify::{Said, classify, with_reset};
use super::degenerate::Detector;
use super::openai::turns;
use super::reset::is_notice;
use super::stream::BODY_CAP;
use super::watchdog::TICK;
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, Setup, Usage, one_line, tidy};
use crate::config::Model;
use crate::keys::{self, Secret};
use planexe_base::children::{self, Listed};
use planexe_base::process::Lifeline;

/// Time a program has to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
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

/// A child whose group is ended when it is dropped before its time.
struct Group {
    child: Child,
    /// It is killed with planexe, until it is reaped.
    listed: Option<Listed>,
    done: bool,
    lifeline: Arc<Lifeline>,
}

impl Group {
    fn of(child: Child, lifeline: &Arc<Lifeline>) -> Group {
        let listed = Some(Listed::of(&child));
        let group = Group { child, listed, done: false, lifeline: Arc::clone(lifeline) };
        if let Some(id) = group.id() {
            lifeline.started(id);
        }
        group
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.id() {
            let _ = kill_process_group(group, signal);
        }
    }

    fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        children::try_wait(&mut self.child, &mut self.listed)
    }

    /// Asks the group to end, waits a little, and ends it.
    fn end(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if !matches!(self.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Also where the leader is gone: what it started may not be.
        self.signal(Signal::KILL);
        self.listed = None;
        let _ = self.child.wait();
        self.done = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.done {
            self.end();
        }
        if let Some(group) = self.id() {
            self.lifeline.ended(group);
        }
    }
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
        if is_notice(&text) {
            let (class, wait) = with_reset(Class::RateLimit, None, &text, &TimeZone::system());
            let mut error = CallError::new(class, format!("`{}`: {}", self.argv[0], one_line(&text, None)));
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

/// What has gone to and fro.
struct Talk<'a> {
    started: Instant,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// From the start to the first byte of an answer.
    first: Option<Duration>,
    /// The last byte of it.
    last: Instant,
    /// The output as text, for the detector only.
    text: String,
    detector: Detector,
    /// Reads an output that is not the answer itself.
    reader: Option<&'a mut dyn Lines>,
}

impl<'a> Talk<'a> {
    fn new(started: Instant, reader: Option<&'a mut dyn Lines>) -> Talk<'a> {
        Talk {
            started,
            reader,
            stdout: Vec::new(),
            stderr: Vec::new(),
            first: None,
            last: started,
            text: String::new(),
            detector: Detector::default(),
        }
    }
}

impl Command {
    /// Runs it to its end on a prompt. `reader`: what its output is, where that is not the answer itself.
    pub(super) fn talk(
        &self,
        prompt: &[u8],
        reader: Option<&mut dyn Lines>,
        context: &CallContext<'_>,
    ) -> Result<Heard, CallError> {
        if context.cancel.is_killing() {
            return Err(CallError::new(Class::Cancelled, "the call was cancelled"));
        }
        let mut group = Group::of(self.start()?, &self.lifeline);
        let mut talk = Talk::new(Instant::now(), reader);
        match self.converse(&mut group, &mut talk, prompt, context) {
            Ok(status) => {
                let Talk { stdout, stderr, first, .. } = talk;
                Ok(Heard { status, stdout, stderr, first })
            }
            Err(mut error) => {
                group.end();
                let written = talk.reader.as_ref().map(|reader| reader.written().to_owned());
                let written = written.unwrap_or_else(|| String::from_utf8_lossy(&talk.stdout).into_owned());
                error.partial = tidy(&written, usize::MAX, None);
                error.raw = last_words(&talk.stderr);
                error.usage.calls = 1;
                Err(error)
            }
        }
    }

    /// Writes, reads and watches until the program has exited and its output has ended.
    fn converse(
        &self,
        group: &mut Group,
        talk: &mut Talk<'_>,
        prompt: &[u8],
        context: &CallContext<'_>,
    ) -> Result<ExitStatus, CallError> {
        let broken = |error: std::io::Error| {
            CallError::new(Class::Connection, format!("the pipes to `{}`: {error}", self.argv[0]))
        };
        let (mut stdin, mut stdout, mut stderr) =
            (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
        for nonblocking in [
            stdin.as_ref().map(|pipe| rustix::io::ioctl_fionbio(pipe, true)),
            stdout.as_ref().map(|pipe| rustix::io::ioctl_fionbio(pipe, true)),
            stderr.as_ref().map(|pipe| rustix::io::ioctl_fionbio(pipe, true)),
        ] {
            nonblocking.transpose().map_err(|error| broken(error.into()))?;
        }
        let mut rest = prompt;
        let mut exited: Option<(ExitStatus, Instant)> = None;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            self.watch(talk, context)?;
            if exited.is_none() {
                exited = group.try_wait().map_err(broken)?.map(|status| (status, Instant::now()));
            }
            if let Some((status, at)) = exited {
                // Something the program left running may hold the pipes open; it has had its time.
                let over = at.elapsed() > GRACE;
                if (stdout.is_none() && stderr.is_none()) || over {
                    if over {
                        group.signal(Signal::KILL);
                    }
                    group.done = true;
                    return Ok(status);
                }
            }
            let mut ready = Vec::with_capacity(3);
            ready.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
            ready.extend(stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            ready.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            if ready.is_empty() {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
            match poll(&mut ready, Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(broken(error.into())),
            }
            drop(ready);
            if let Some(pipe) = &mut stdin {
                match pipe.write(rest) {
                    Ok(count) => {
                        rest = &rest[count..];
                        if rest.is_empty() {
                            context.progress.sent();
                            stdin = None;
                        }
                    }
                    Err(error) if again(&error) => {}
                    // It need not read all it is told.
                    Err(_) => stdin = None,
                }
            }
            if let Some(pipe) = &mut stdout {
                match pipe.read(&mut buffer) {
                    Ok(0) => stdout = None,
                    Ok(count) => self.heard(talk, &buffer[..count], context)?,
                    Err(error) if again(&error) => {}
                    Err(error) => return Err(broken(error)),
                }
            }
            if let Some(pipe) = &mut stderr {
                match pipe.read(&mut buffer) {
                    Ok(0) => stderr = None,
                    Ok(count) => {
                        talk.stderr.extend_from_slice(&buffer[..count]);
                        if talk.stderr.len() > 2 * STDERR_CAP {
                            talk.stderr.drain(..talk.stderr.len() - STDERR_CAP);
                        }
                    }
                    Err(error) if again(&error) => {}
                    Err(error) => return Err(broken(error)),
                }
            }
        }
    }

    fn heard(&self, talk: &mut Talk<'_>, bytes: &[u8], context: &CallContext<'_>) -> Result<(), CallError> {
        talk.last = Instant::now();
        talk.stdout.extend_from_slice(bytes);
        if talk.stdout.len() as u64 > BODY_CAP {
            let why = format!("the answer is larger than {} MiB", BODY_CAP >> 20);
            return Err(CallError::new(Class::BadData, why));
        }
        let piece = match &mut talk.reader {
            Some(reader) => reader.take(bytes).into(),
            None => String::from_utf8_lossy(bytes),
        };
        if piece.is_empty() {
            return Ok(());
        }
        talk.first.get_or_insert_with(|| talk.started.elapsed());
        context.progress.pieces((piece.len() as u64).div_ceil(4), piece.len());
        talk.text.push_str(&piece);
        context.progress.keep(&piece);
        if let Some(why) = talk.detector.grown(&talk.text, &piece) {
            return Err(CallError::new(Class::Degenerate, format!("stopped early: {why}")));
        }
        Ok(())
    }

    fn watch(&self, talk: &Talk<'_>, context: &CallContext<'_>) -> Result<(), CallError> {
        if context.cancel.is_killing() {
            return Err(CallError::new(Class::Cancelled, "the call was cancelled"));
        }
        let silent = match talk.first {
            None => (talk.started.elapsed(), self.first_token, "first_token"),
            Some(_) => (talk.last.elapsed(), self.idle, "idle"),
        };
        let whole = talk.started.elapsed();
        for (passed, limit, name) in
            [silent, (whole, Some(self.total), "total"), (whole, context.time_left, "task")]
        {
            if let Some(limit) = limit.filter(|limit| passed >= *limit) {
                let mut error = CallError::new(
                    Class::Timeout,
                    format!("`{}` was ended: its time of {limit:?} was up ({name})", self.argv[0]),
                );
                error.code = Some(name.into());
                return Err(error);
            }
        }
        Ok(())
    }

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
                let (class, wait) = with_reset(class, None, &printed, &TimeZone::system());
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

fn again(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::super::CallProgress;
    use super::*;
    use crate::keys::KeyRing;
    use planexe_base::cancel::{Cancel, Level};

    fn run(script: &str, table: &str, cancel: &Cancel) -> Result<Reply, CallError> {
        let folder = tempfile::tempdir().unwrap();
        let mut model: Model = toml::from_str(table).unwrap();
        model.command = vec!["sh".into(), "-c".into(), script.into()];
        let keys = KeyRing::without_files(|_| None);
        let setup = Setup {
            name: "m",
            folder: folder.path(),
            keys: &keys,
            lifeline: &Lifeline::new(None),
            calibration: None,
            ceiling: None,
        };
        let request =
            Request { task: "t".into(), system: "sys".into(), prompt: "prompt".into(), ..Request::default() };
        let progress = CallProgress::default();
        let context = CallContext { cancel, progress: &progress, time_left: None };
        Command::new(&model, &setup)?.call(&request, &context)
    }

    #[test]
    fn every_ending_has_its_class() {
        let limits = "timeouts = { total = \"1s\" }";
        let idle = "timeouts = { first_token = \"60s\", idle = \"200ms\" }";
        let first = "timeouts = { first_token = \"200ms\" }";
        type Wanted = Result<&'static str, (Class, &'static str, &'static str)>;
        #[rustfmt::skip]
        let rows: &[(&str, &str, Wanted)] = &[
            ("cat", "", Ok("sys\n\nprompt\n")),
            ("echo yes", "", Ok("yes\n")),
            ("exec <&-; echo yes", "", Ok("yes\n")),
            ("cat >/dev/null; (sleep 60 &) ; echo yes", "", Ok("yes\n")),
            ("echo half; echo 'it broke' >&2; exit 3", "", Err((Class::ServerError, "it broke", "half\n"))),
            ("echo 'API Error: rate_limit_error' >&2; exit 1", "", Err((Class::RateLimit, "rate_limit", ""))),
            ("echo 'Invalid API key' >&2; exit 1", "", Err((Class::Auth, "API key", ""))),
            ("echo 'Credit balance is too low' >&2; exit 1", "", Err((Class::Quota, "Credit", ""))),
            ("kill -9 $$", "", Err((Class::ServerError, "signal 9", ""))),
            ("nonsense-program-x", "", Err((Class::Config, "127", ""))),
            ("cat >/dev/null", "", Err((Class::EmptyResponse, "nothing", ""))),
            ("printf '\\377'", "", Err((Class::BadData, "UTF-8", ""))),
            ("printf 'a\\000b'", "", Err((Class::BadData, "NUL", "a\0b"))),
            ("echo start; sleep 60", limits, Err((Class::Timeout, "total", "start\n"))),
            ("echo start; sleep 60", idle, Err((Class::Timeout, "idle", "start\n"))),
            ("sleep 60", first, Err((Class::Timeout, "first_token", ""))),
            ("trap '' TERM; echo start; sleep 60 & wait", limits, Err((Class::Timeout, "total", "start\n"))),
            ("yes", "", Err((Class::Degenerate, "times in a row", "y\ny\n"))),
        ];
        std::thread::scope(|scope| {
            for (script, table, wanted) in rows {
                scope.spawn(move || {
                    let got = run(script, table, &Cancel::new());
                    match (got, wanted) {
                        (Ok(reply), Ok(text)) => assert_eq!(reply.text, *text, "{script}"),
                        (Err(error), Err((class, words, partial))) => {
                            assert_eq!(error.class, *class, "{script}: {error}");
                            assert!(error.message.to_lines().contains(words), "{script}: {error}");
                            assert!(error.partial.starts_with(partial), "{script}: {:?}", error.partial);
                        }
                        (got, wanted) => panic!("{script}: {got:?}, wanted {wanted:?}"),
                    }
                });
            }
        });
    }

    #[test]
    fn a_cancel_ends_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alive");
        let script = format!("(while :; do touch '{0}'; sleep 0.02; done) & echo on; wait", file.display());
        let cancel = Cancel::new();
        let result = std::thread::scope(|scope| {
            let call = scope.spawn(|| run(&script, "", &cancel));
            while !file.exists() {
                std::thread::yield_now();
            }
            cancel.raise(Level::Killing);
            call.join().unwrap()
        });
        assert_eq!(result.unwrap_err().class, Class::Cancelled);
        // Whatever wrote the file is gone: a removed file stays removed.
        std::fs::remove_file(&file).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(!file.exists());
    }
}
