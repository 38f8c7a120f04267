//! `planexe show TASK --follow`: what an attempt writes, while it does.
//!
//! A running build shows the text of an attempt under `.planexe/live/`; once the attempt has ended, the whole of it is
//! in the kept call, or in the log of the command.

use std::path::Path;
use std::time::Duration;

use crate::commands::Session;
use crate::ops::stop::building;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::record::{State, Status};
use planexe_base::signals;
use planexe_base::style::clean_lines;
use planexe_engine::graph::Task;
use planexe_pipeline::open::Opened;
use planexe_store::jobs::JobFiles;
use planexe_store::{StatusRead, Store, task_dir_name};
use planexe_ui::views::reason_of;

/// How often it is looked for more.
const AGAIN: Duration = Duration::from_millis(150);

/// Follows a task until it has come to its end; the exit code says to which: done, failed, or neither. `complete`: it
/// is up to date as it is.
pub(super) fn follow(session: &Session, opened: &Opened, task: &Task, complete: bool) -> Result<u8, Error> {
    let store = &opened.store;
    let signals = signals::listen()?;
    let first = task.outputs.first().map_or("", String::as_str);
    let mut text: Option<Text> = None;
    let mut ended = false;
    loop {
        // Asked for before the record is read: what a build writes as its last is still seen.
        let builder = building(&opened.store).map(|owner| owner.pid);
        let status = match store.read_status(first) {
            StatusRead::Valid(status) => Some(*status),
            _ => None,
        };
        let at_work = |status: &&Status| {
            status.state == State::Running && builder.is_some() && status.last.pid == builder
        };
        let attempt = status.as_ref().filter(at_work).map(|status| status.last.attempt);
        if let Some(last) = text.take_if(|text| Some(text.attempt) != attempt && left(store, task).is_none())
        {
            last.finish(session, store, task)?;
            ended = true;
        }
        match attempt {
            Some(attempt) => {
                if text.is_none() && ended {
                    session.say(&format!("attempt {attempt}:"));
                }
                ended = false;
                text.get_or_insert_with(|| Text::new(attempt)).go_on(session, store, task)?;
            }
            None if builder.is_none() && left(store, task).is_some() => {
                ended = false;
                if let Some(files) = left(store, task) {
                    let text = text.get_or_insert_with(|| Text::new(files.job.attempt));
                    text.go_on_in(session, &files.log())?;
                }
            }
            None => {
                let state = status.as_ref().map(|status| status.state);
                let comes_again = matches!(state, None | Some(State::Pending | State::Running));
                if complete || builder.is_none() || (ended && !comes_again) {
                    if !ended && let Some(status) = &status {
                        Text::new(status.last.attempt).finish(session, store, task)?;
                    }
                    return Ok(tell_end(session, builder, status.as_ref()));
                }
            }
        }
        if session.is_closed() {
            return Ok(exit::DONE);
        }
        if let Some(signal) = signals.within(AGAIN) {
            return Ok(exit::of_signal(signal));
        }
    }
}

/// The attempt that an executor has and no build waits for.
fn left(store: &Store, task: &Task) -> Option<JobFiles> {
    let is_open = |files: &JobFiles| files.is_open() && files.is_alive() != Some(false);
    store.jobs_of(&task.name).ok()?.into_iter().rfind(is_open)
}

fn tell_end(session: &Session, builder: Option<u32>, status: Option<&Status>) -> u8 {
    match status.map(|status| (status.state, &status.result.failure)) {
        Some((State::Done, _)) => exit::DONE,
        Some((State::Failed, failure)) => {
            session.say(&format!("failed: {}", failure.as_ref().map(reason_of).unwrap_or_default()));
            exit::FAILED
        }
        state => {
            let word = state.map_or("not begun", |(state, _)| state.name());
            let why = if builder.is_none() { ": no build is running" } else { "" };
            session.say(&format!("{word}{why}"));
            exit::STOPPED
        }
    }
}

/// The text of an attempt, as far as it was shown.
struct Text {
    attempt: u32,
    shown: Vec<u8>,
    /// Bytes of a character whose rest has not come.
    cut: Vec<u8>,
}

impl Text {
    fn new(attempt: u32) -> Text {
        Text { attempt, shown: Vec::new(), cut: Vec::new() }
    }

    /// Shows what came since.
    fn go_on(&mut self, session: &Session, store: &Store, task: &Task) -> Result<(), Error> {
        self.go_on_in(session, &store.live_text_path(&task.name, self.attempt))
    }

    /// The same of a file.
    fn go_on_in(&mut self, session: &Session, path: &Path) -> Result<(), Error> {
        let Ok((bytes, _)) = fs::read_from(path, self.shown.len() as u64) else { return Ok(()) };
        self.shown.extend_from_slice(&bytes);
        self.cut.extend_from_slice(&bytes);
        let whole = match std::str::from_utf8(&self.cut) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.cut.len(),
        };
        let rest = self.cut.split_off(whole);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.cut, rest)).into_owned();
        Ok(session.print_part(&harmless(session, text))?)
    }

    /// The attempt has ended: shows what is left of its text.
    fn finish(self, session: &Session, store: &Store, task: &Task) -> Result<(), Error> {
        let all = whole_text(store, task, self.attempt);
        let shown = self.shown.len() - self.cut.len();
        let rest = match all.as_bytes().get(..shown) {
            Some(begin) if begin == &self.shown[..shown] => all[shown..].to_owned(),
            // Nothing of it is kept, or something else is: what was shown stands.
            _ => String::new(),
        };
        let ends = if rest.is_empty() { self.shown.last() } else { rest.as_bytes().last() };
        let end = if ends.is_none_or(|&last| last == b'\n') { "" } else { "\n" };
        Ok(session.print_part(&(harmless(session, rest) + end))?)
    }
}

/// What an attempt wrote, once it has ended.
fn whole_text(store: &Store, task: &Task, attempt: u32) -> String {
    let calls = store.calls().list(&task.name).unwrap_or_default();
    let last = calls.iter().rev().find(|call| call.record.attempt == attempt);
    match last.map(|call| (&call.record.reply, &call.record.error)) {
        Some((Some(reply), _)) => reply.text.clone(),
        Some((None, Some(error))) => error.partial.clone(),
        _ => {
            let log = store.planexe_dir().join("logs").join(format!("{}.log", task_dir_name(&task.name)));
            fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        }
    }
}

/// Into a file or a program as it came; a terminal is not to be steered by it.
fn harmless(session: &Session, text: String) -> String {
    if session.out_is_terminal() { clean_lines(&text) } else { text }
}
