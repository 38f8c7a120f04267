//! Waits until something happens to a run.

use crate::ops::Session;
use crate::ops::status::{Seen, every_task, look};
use planexe_base::exit::{self, Error, Kind};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_pipeline::open::Opened;
use planexe_store::index::Index;
use planexe_ui::views::news::{Cursor, News};
use std::time::{Duration, Instant};

/// How often the run is looked at.
const AGAIN: Duration = Duration::from_millis(500);

/// The exit code of `timeout`.
pub const TIMED_OUT: u8 = 124;

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// A task failed that had not when it was last looked.
    newly_failed: bool,
    /// A person is needed that was not then.
    newly_human: bool,
}

/// What a wait came to: what was seen last, and the exit code that says it.
pub struct Waited {
    /// The run.
    pub seen: Seen,
    /// 124 if the time was over first.
    pub code: u8,
    /// What happened since the look before.
    pub news: Vec<News>,
    /// What has been seen by now.
    pub cursor: Cursor,
}

impl Waited {
    /// Whether the time was over first.
    pub fn timed_out(&self) -> bool {
        self.code == TIMED_OUT
    }
}

/// Looks at a run until what is waited for has happened or cannot happen any more, or the time is over. While a build
/// runs only that counts which `since` has not seen, so that who waits again and again is not answered at once each time;
/// without it, what happens from now on. Between two looks `pause` waits so long; what it gives ends the wait at once.
pub fn wait<T>(
    session: &Session,
    opened: &Opened,
    what: For,
    mut since: Option<Cursor>,
    limit: Option<Duration>,
    mut pause: impl FnMut(&Seen, Duration) -> Option<T>,
) -> Result<Result<Waited, T>, Error> {
    let index = Index::load(&opened.store);
    let start = Instant::now();
    loop {
        let seen = look(session, opened, &index, &every_task(opened));
        if seen.phase == RunPhase::NeverStarted && seen.owner.is_none() {
            return Err(Error::new(Kind::Refused, "the run was never started: there is nothing to wait for")
                .code("never_started")
                .hint("`planexe build` starts it"));
        }
        let all = news_of(&seen);
        let since = since.get_or_insert_with(|| Cursor::at(&all));
        let news: Vec<News> = since.unseen(&all).into_iter().cloned().collect();
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(start.elapsed()));
        let over = left.is_zero().then_some(TIMED_OUT);
        if let Some(code) = verdict(what, moment(&seen, &news)).or(over) {
            return Ok(Ok(Waited { seen, code, news, cursor: Cursor::at(&all) }));
        }
        if let Some(end) = pause(&seen, AGAIN.min(left)) {
            return Ok(Err(end));
        }
    }
}

/// What happened in the build that runs, or, if none does, to the tasks as they are.
pub fn news_of(seen: &Seen) -> Vec<News> {
    // What an earlier build left is not yet what this one will do.
    let since = seen.builder().and_then(|owner| owner.started_utc.as_deref());
    News::from_tasks(&seen.standing.tasks, since)
}

fn moment(seen: &Seen, news: &[News]) -> Moment {
    let is = |state: State| move |one: &News| one.state == state;
    Moment {
        building: seen.owner.is_some(),
        complete: seen.phase == RunPhase::Completed,
        // Without a task to blame too: a record could not be written.
        failed: seen.phase == RunPhase::Failed || seen.standing.first_failure().is_some(),
        human: seen.standing.tasks.iter().any(|task| task.state == State::Waiting),
        newly_failed: news.iter().any(is(State::Failed)),
        newly_human: news.iter().any(is(State::Waiting)),
    }
}

/// The exit code if the wait is over.
fn verdict(what: For, now: Moment) -> Option<u8> {
    let Moment { building, complete, failed, human, newly_failed, newly_human } = now;
    if building {
        return match what {
            For::Failed if newly_failed => Some(exit::DONE),
            For::Human if newly_human => Some(exit::DONE),
            For::Any if newly_failed => Some(exit::FAILED),
            For::Any if newly_human => Some(exit::STOPPED),
            _ => None,
        };
    }
    let ended = match (complete, failed) {
        (true, _) => exit::DONE,
        (_, true) => exit::FAILED,
        _ => exit::STOPPED,
    };
    Some(match what {
        For::Failed if failed => exit::DONE,
        For::Human if human => exit::DONE,
        For::Failed | For::Human if complete => exit::FAILED,
        For::Any if failed => exit::FAILED,
        _ => ended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_waited_for() {
        let running = Moment { building: true, ..Moment::default() };
        let failing = Moment { failed: true, newly_failed: true, ..running };
        let asking = Moment { human: true, newly_human: true, ..running };
        // Seen before, while others go on.
        let failed_before = Moment { failed: true, ..running };
        let asked_before = Moment { human: true, ..running };
        let complete = Moment { complete: true, ..Moment::default() };
        let failed = Moment { failed: true, ..Moment::default() };
        let stopped = Moment::default();
        for (what, now, code) in [
            (For::Any, running, None),
            (For::Any, failed_before, None),
            (For::Failed, failed_before, None),
            (For::Any, asked_before, None),
            (For::Human, asked_before, None),
            (For::Any, Moment { newly_human: true, ..failed_before }, Some(3)),
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
