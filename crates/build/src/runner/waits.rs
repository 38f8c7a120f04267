//! How long a task's own program waits for turns of its calls: time that no limit of the task counts.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The calls of one program, as far as they wait or are made.
#[derive(Debug, Default)]
pub struct Waits(Mutex<State>);

/// A program waits while some of its calls wait and none is made.
#[derive(Debug, Default)]
struct State {
    waiting: u32,
    made: u32,
    since: Option<Instant>,
    sum: Duration,
}

impl State {
    fn change(&mut self, now: Instant, change: impl FnOnce(&mut State)) {
        if let Some(since) = self.since.take() {
            self.sum += now.saturating_duration_since(since);
        }
        change(self);
        self.since = (self.waiting > 0 && self.made == 0).then_some(now);
    }

    fn time(&self, now: Instant) -> Duration {
        self.sum + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl Waits {
    /// A call that waits for its turn from now on.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.0.lock().change(Instant::now(), |state| state.waiting += 1);
        Waiting { waits: self, begun: None }
    }

    /// How long it has waited so far.
    pub fn time(&self) -> Duration {
        self.0.lock().time(Instant::now())
    }

    /// Whether it waits at this moment.
    pub fn is_waiting(&self) -> bool {
        self.0.lock().since.is_some()
    }
}

/// A call that waits for its turn, or has it; it is over when this is dropped.
pub(super) struct Waiting<'a> {
    waits: &'a Waits,
    begun: Option<Instant>,
}

impl Waiting<'_> {
    /// It is made.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.begun = Some(now);
        self.waits
            .0
            .lock()
            .change(now, |state| (state.waiting, state.made) = (state.waiting - 1, state.made + 1));
    }

    /// It reached no server: all the while it waited for one.
    pub(super) fn unheard(mut self) {
        let Some(begun) = self.begun.take() else { return };
        let now = Instant::now();
        // As `drop` of one that waits.
        self.waits.0.lock().change(now, |state| {
            (state.waiting, state.made) = (state.waiting + 1, state.made - 1);
            if state.made == 0 {
                state.sum += now.saturating_duration_since(begun);
            }
        });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let made = self.begun.is_some();
        self.waits.0.lock().change(Instant::now(), |state| match made {
            true => state.made -= 1,
            false => state.waiting -= 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_waits_while_calls_wait_and_none_is_made() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        let mut state = State::default();
        for (at, waiting, made, waited) in [
            (1, 1, 0, 0),
            // One waits, one is made.
            (4, 1, 1, 3),
            (9, 1, 0, 3),
            (11, 0, 0, 5),
            (20, 2, 0, 5),
            (22, 1, 1, 7),
            (30, 0, 1, 7),
        ] {
            state.change(after(at), |state| (state.waiting, state.made) = (waiting, made));
            assert_eq!(state.time(after(at)), Duration::from_secs(waited), "{at}");
        }
        state.change(after(40), |state| (state.waiting, state.made) = (1, 0));
        assert_eq!(state.time(after(45)), Duration::from_secs(12), "it waits still");
    }

    #[test]
    fn calls_are_counted_until_they_are_over() {
        let waits = Waits::default();
        let mut first = waits.wait();
        assert!(waits.is_waiting());
        first.begin();
        let second = waits.wait();
        assert!(!waits.is_waiting(), "one is made");
        first.unheard();
        assert!(waits.is_waiting());
        drop(second);
        assert!(!waits.is_waiting());
        let state = waits.0.lock();
        assert_eq!((state.waiting, state.made), (0, 0));
    }
}
