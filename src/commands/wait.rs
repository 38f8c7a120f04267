//! `planexe wait`: blocks until something happens to the run.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::commands::Session;
use crate::commands::status::{Seen, every_task, look};
use crate::exit::{self, Error, Kind};
use crate::manifest::types::Span;
use crate::open::Opened;
use crate::report::{TaskView, WaitView};
use crate::signals;
use crate::store::index::Index;
use crate::style::Shown;

/// How often the run is looked at.
const AGAIN: Duration = Duration::from_millis(500);
/// The exit code of `timeout`.
const TIMED_OUT: u8 = 124;

/// What `planexe wait` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct WaitArgs {
    /// Give up after this time (90s, 15m, 8h), with exit code 124
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub timeout: Option<Span>,

    /// What to wait for: done (everything), failed (a task), human (a person is needed), any (of these, or the end)
    #[arg(long = "for", value_name = "WHAT", value_enum, default_value_t, hide_possible_values = true)]
    pub what: For,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum For {
    /// Everything is done
    Done,
    /// A task failed
    Failed,
    /// A person is needed
    Human,
    /// Any of these, or the end of the build
    #[default]
    Any,
}

/// What was seen of a run, as far as waiting goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Moment {
    building: bool,
    complete: bool,
    failed: bool,
    human: bool,
}

/// What a wait came to: what was seen last, and the exit code that says it.
pub struct Waited {
    /// The run.
    pub seen: Seen,
    /// 124 if the time was over first.
    pub code: u8,
}

impl Waited {
    /// Whether the time was over first.
    pub fn timed_out(&self) -> bool {
        self.code == TIMED_OUT
    }
}

/// Waits.
pub fn run(session: &Session, args: &WaitArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let signals = signals::listen();
    let limit = args.timeout.map(|limit| limit.0);
    match wait(session, &opened, args.what, limit, |_, pause| signals.within(pause))? {
        Ok(waited) => tell(session, &waited.seen, waited.code),
        Err(signal) => Ok(exit::of_signal(signal)),
    }
}

/// Looks at a run until what is waited for has happened or cannot happen any more, or the time is over. Between two
/// looks `pause` waits so long; what it gives ends the wait at once.
pub fn wait<T>(
    session: &Session,
    opened: &Opened,
    what: For,
    limit: Option<Duration>,
    mut pause: impl FnMut(&Seen, Duration) -> Option<T>,
) -> Result<Result<Waited, T>, Error> {
    let index = Index::load(&opened.store);
    let start = Instant::now();
    loop {
        let seen = look(session, opened, &index, &every_task(opened));
        if seen.phase == "never_started" && seen.owner.is_none() {
            return Err(Error::new(Kind::Refused, "the run was never started: there is nothing to wait for")
                .code("never_started")
                .hint("`planexe build` starts it"));
        }
        if let Some(code) = verdict(what, moment(&seen)) {
            return Ok(Ok(Waited { seen, code }));
        }
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(start.elapsed()));
        if left.is_zero() {
            return Ok(Ok(Waited { seen, code: TIMED_OUT }));
        }
        if let Some(end) = pause(&seen, AGAIN.min(left)) {
            return Ok(Err(end));
        }
    }
}

fn moment(seen: &Seen) -> Moment {
    // What an earlier build left is not yet what this one will do.
    let since = seen.builder().and_then(|owner| owner.started_utc.as_deref());
    let new = |task: &TaskView| since.is_none() || task.ended_utc.as_deref() >= since;
    let waits = |task: &TaskView| task.state == Shown::Waiting && new(task);
    Moment {
        building: seen.owner.is_some(),
        complete: seen.phase == "completed",
        // Without a task to blame too: a record could not be written.
        failed: seen.phase == "failed" || seen.standing.first_failure().is_some_and(|(task, _)| new(task)),
        human: seen.standing.tasks.iter().any(waits),
    }
}

/// The exit code if the wait is over.
fn verdict(what: For, now: Moment) -> Option<u8> {
    let Moment { building, complete, failed, human } = now;
    let ended = match (complete, failed) {
        (true, _) => exit::DONE,
        (_, true) => exit::FAILED,
        _ => exit::STOPPED,
    };
    match what {
        For::Failed if failed => Some(exit::DONE),
        For::Human if human => Some(exit::DONE),
        For::Any if failed => Some(exit::FAILED),
        For::Any if human => Some(exit::STOPPED),
        _ if building => None,
        For::Failed | For::Human => Some(if complete { exit::FAILED } else { ended }),
        For::Done | For::Any => Some(ended),
    }
}

fn tell(session: &Session, seen: &Seen, code: u8) -> Result<u8, Error> {
    let names = |state: Shown| {
        let tasks = seen.standing.tasks.iter().filter(|task| task.state == state);
        tasks.map(|task| task.task.clone()).collect()
    };
    let view = WaitView {
        schema: crate::report::SCHEMA,
        server: session.server(),
        phase: seen.phase.to_owned(),
        timed_out: code == TIMED_OUT,
        failed: names(Shown::Failed),
        waiting: names(Shown::Waiting),
        exit_code: code,
    };
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.say(&view.text());
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_waited_for() {
        let running = Moment { building: true, ..Moment::default() };
        let failing = Moment { failed: true, ..running };
        let asking = Moment { human: true, ..running };
        let complete = Moment { complete: true, ..Moment::default() };
        let failed = Moment { failed: true, ..Moment::default() };
        let stopped = Moment::default();
        for (what, now, code) in [
            (For::Any, running, None),
            (For::Any, failing, Some(1)),
            (For::Any, asking, Some(3)),
            (For::Any, complete, Some(0)),
            (For::Any, failed, Some(1)),
            (For::Any, stopped, Some(3)),
            (For::Done, failing, None),
            (For::Done, asking, None),
            (For::Done, complete, Some(0)),
            (For::Done, failed, Some(1)),
            (For::Done, stopped, Some(3)),
            (For::Failed, running, None),
            (For::Failed, failing, Some(0)),
            (For::Failed, complete, Some(1)),
            (For::Failed, stopped, Some(3)),
            (For::Human, asking, Some(0)),
            (For::Human, failing, None),
            (For::Human, complete, Some(1)),
            (For::Human, failed, Some(1)),
        ] {
            assert_eq!(verdict(what, now), code, "{what:?} {now:?}");
        }
    }
}
