//! `[hooks]`: local programs told of events, one after the other, off the build's path. A hook that fails
//! or takes too long fails nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::payload::Payload;
use super::post::Complaints;
use planexe_base::cancel::{Cancel, Level};
use planexe_base::fs::{self, FsError};
use planexe_base::process::{Lifeline, Limits, ProcessEnd, Watchdog};
use planexe_base::style;
use planexe_llm::keys;
use planexe_pipeline::manifest::types::Hooks as Table;

/// The longest a hook may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of what a hook said is looked at for its last line.
const TAIL: usize = 4096;
/// Calls of hooks that wait.
const QUEUE: usize = 1024;

/// What hooks run with.
#[derive(Debug, Clone)]
pub struct Place {
    /// The run directory, in which they run.
    pub run: PathBuf,
    /// The pipeline's folder: a program may be named relative to it.
    pub folder: PathBuf,
    /// Whether that is looked in first.
    pub own_programs: bool,
}

/// The hooks of a build.
pub struct Hooks {
    table: Table,
    place: Place,
    complaints: Complaints,
    cancel: Cancel,
    running: Option<(SyncSender<Payload>, std::thread::JoinHandle<()>)>,
    dropped: usize,
}

/// The hook an event calls: its name in the table, and the program.
fn hook_of<'a>(table: &'a Table, event: &str) -> Option<(&'static str, &'a [String])> {
    let (name, argv) = match event {
        "task.started" => ("on_started", &table.on_started),
        "task.completed" | "task.rescued" => ("on_completed", &table.on_completed),
        "task.failed" => ("on_failed", &table.on_failed),
        "pipeline.completed" | "pipeline.failed" | "pipeline.stopped" => ("on_finished", &table.on_finished),
        _ => return None,
    };
    (!argv.is_empty()).then_some((name, argv))
}

impl Hooks {
    /// Nothing runs yet.
    pub fn new(table: Table, place: Place, complaints: Complaints) -> Hooks {
        Hooks { table, place, complaints, cancel: Cancel::new(), running: None, dropped: 0 }
    }

    /// Has the hook of an event run, after those before it.
    pub fn tell(&mut self, payload: &Payload) {
        if hook_of(&self.table, &payload.event).is_none() {
            return;
        }
        if self.running.is_none() {
            let (send, receive) = sync_channel(QUEUE);
            let (table, place) = (self.table.clone(), self.place.clone());
            let (complaints, cancel) = (self.complaints.clone(), self.cancel.clone());
            let work = move || run_all(&table, &place, &complaints, &cancel, &receive);
            let thread = std::thread::Builder::new().name("hooks".into()).stack_size(256 * 1024).spawn(work);
            self.running = thread.ok().map(|thread| (send, thread));
        }
        if let Some((queue, _)) = &self.running
            && let Err(TrySendError::Full(_)) = queue.try_send(payload.clone())
        {
            self.dropped += 1;
        }
    }

    /// Waits for the hooks that were called, at most so long; then they are ended. `hurry` says, asked
    /// now and then, whether somebody is waiting for planexe to end.
    pub fn close(mut self, limit: Duration, mut hurry: impl FnMut() -> bool) {
        if self.dropped > 0 {
            let calls = style::count(self.dropped as u64, "call");
            self.complaints.add(format!("hooks: {calls} left out, they take too long"));
        }
        let Some((queue, thread)) = self.running.take() else { return };
        drop(queue);
        let end = std::time::Instant::now() + limit;
        while !thread.is_finished() {
            if std::time::Instant::now() >= end || hurry() {
                self.cancel.raise(Level::Killing);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = thread.join();
    }
}

fn run_all(
    table: &Table,
    place: &Place,
    complaints: &Complaints,
    cancel: &Cancel,
    queue: &Receiver<Payload>,
) {
    let watchdog = Watchdog::new(cancel.clone(), Lifeline::new(std::env::current_exe().ok()));
    let mut told: Vec<&str> = Vec::new();
    let mut left_out = 0;
    for payload in queue {
        let Some((name, argv)) = hook_of(table, &payload.event) else { continue };
        if cancel.is_killing() {
            left_out += 1;
            continue;
        }
        let fault = match run_one(&watchdog, argv, place, &payload) {
            Ok(None) => continue,
            Ok(Some(fault)) => fault,
            Err(error) => error.to_string(),
        };
        // Once each: a hook that is wrong is wrong every time.
        if !told.contains(&name) {
            told.push(name);
            complaints.add(format!("hook `{name}` {fault}"));
        }
    }
    if left_out > 0 {
        let calls = style::count(left_out, "call");
        complaints.add(format!("hooks: {calls} left out, the build was over"));
    }
}

/// Runs one hook; what went wrong, if anything did.
fn run_one(
    watchdog: &Watchdog,
    argv: &[String],
    place: &Place,
    payload: &Payload,
) -> Result<Option<String>, FsError> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(None) };
    let scratch = place.run.join(".planexe/tmp");
    fs::make_dirs(&scratch, planexe_base::fs::Durability::Unsynced)?;
    let mut text = serde_json::to_vec(payload).unwrap_or_default();
    text.push(b'\n');
    let said = fs::scratch_file(&scratch)?;
    let mut command = Command::new(program_path(program, place));
    command.args(arguments).current_dir(&place.run);
    keys::hide_from(&mut command, &[]);
    command.env("PLANEXE_EVENT", &payload.event);
    command.stdin(Stdio::from(fs::scratch_with(&scratch, &text)?));
    let share = || said.try_clone().map_err(|error| FsError::new("(output of a hook)", "share", error));
    command.stdout(Stdio::from(share()?)).stderr(Stdio::from(share()?));
    let limits = Limits { timeout: Some(LIMIT), stall: None };
    let end = match watchdog.run(&mut command, limits, None) {
        ProcessEnd::Exited(0) => return Ok(None),
        ProcessEnd::Exited(code) => format!("failed: exit code {code}"),
        ProcessEnd::Signalled(signal) => format!("failed: ended by signal {signal}"),
        ProcessEnd::TimedOut | ProcessEnd::Stalled => format!("was ended after {} s", LIMIT.as_secs()),
        ProcessEnd::Cancelled => "was ended: the build was over".to_owned(),
        ProcessEnd::NotStarted(error) => format!("cannot be started: {error}"),
    };
    let said = fs::read_scratch(&said)?;
    // It may be one line of millions.
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL)..]);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    let last = super::payload::bounded(&style::clean(last), 200);
    Ok(Some(if last.is_empty() { end } else { format!("{end}: {last}") }))
}

/// A program named by a relative path is looked for in the run directory, then in the pipeline's folder; of a build that is
/// bound to its pipeline the other way round.
fn program_path(program: &str, place: &Place) -> PathBuf {
    if !program.contains('/') || Path::new(program).is_absolute() {
        return PathBuf::from(program);
    }
    let (first, then) =
        if place.own_programs { (&place.folder, &place.run) } else { (&place.run, &place.folder) };
    let found = first.join(program);
    if found.exists() { found } else { then.join(program) }
}
