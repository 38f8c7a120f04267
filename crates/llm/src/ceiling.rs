//! The budget of one build's calls. Each call is admitted as it begins. So a limit of calls is never exceeded, and a limit
//! of tokens or money only by the calls in flight when it is reached.

use parking_lot::{Mutex, MutexGuard};

use super::Usage;

/// The budget of one build; `None` is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Most {
    /// How many calls may begin (`--max-calls`).
    pub calls: Option<u64>,
    /// Tokens, read and written.
    pub tokens: Option<u64>,
    /// USD.
    pub cost_usd: Option<f64>,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// [`Most::calls`]
    Calls,
    /// [`Most::tokens`]
    Tokens,
    /// [`Most::cost_usd`]
    Cost,
}

/// The limits, and what counts towards them: one for all threads of a build.
#[derive(Debug, Default)]
pub struct Ceiling {
    most: Most,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Calls let through.
    begun: u64,
    /// Of those, the ones under way.
    under_way: u64,
    /// What ended calls used.
    spent: Usage,
    /// Why a call was not let through.
    refused: Option<Reached>,
}

impl Ceiling {
    /// A budget of which nothing is used yet.
    pub fn new(most: Most) -> Ceiling {
        Ceiling { most, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A call is about to begin: false if it may not.
    pub fn begin(&self) -> bool {
        let mut state = self.state();
        let reached = self.reached(&state);
        state.refused = state.refused.or(reached);
        if reached.is_none() {
            state.begun += 1;
            state.under_way += 1;
        }
        reached.is_none()
    }

    /// Calls that were let through wait to be submitted together: false, and a refusal, if a limit of tokens or money is
    /// reached by now. Calls are counted as they are let through.
    pub fn may_submit(&self) -> bool {
        let mut state = self.state();
        let reached = self.reached(&state).filter(|reached| *reached != Reached::Calls);
        state.refused = state.refused.or(reached);
        reached.is_none()
    }

    /// The prompt is about to be counted by its server, which is a call more for the one under way: false if there is
    /// none left. That is no refusal: the call goes on with an estimate.
    pub fn begin_if_room(&self) -> bool {
        let mut state = self.state();
        let room = self.reached(&state).is_none();
        state.begun += u64::from(room);
        room
    }

    /// A call that was let through is over. One that reached nobody does not count.
    pub fn end(&self, heard: bool) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        state.begun = state.begun.saturating_sub(u64::from(!heard));
    }

    /// What a call used.
    pub fn spend(&self, usage: &Usage) {
        self.state().spent.add(usage);
    }

    /// What ended calls used.
    pub fn spent(&self) -> Usage {
        self.state().spent
    }

    /// Whether what calls use is limited.
    pub fn limits_use(&self) -> bool {
        self.most.tokens.is_some() || self.most.cost_usd.is_some()
    }

    /// USD that the limit leaves; none without one.
    pub fn left_usd(&self) -> Option<f64> {
        let spent = self.state().spent.cost_usd;
        self.most.cost_usd.map(|most| (most - spent).max(0.0))
    }

    /// The limit that kept a call from beginning.
    pub fn refused(&self) -> Option<Reached> {
        self.state().refused
    }

    /// The limit that is reached, once no call is under way of those that it lets through: one that nobody hears leaves
    /// room for another.
    pub fn used_up(&self) -> Option<Reached> {
        let state = self.state();
        self.reached(&state).filter(|reached| *reached != Reached::Calls || state.under_way == 0)
    }

    fn reached(&self, state: &State) -> Option<Reached> {
        let Most { calls, tokens, cost_usd } = self.most;
        let spent = &state.spent;
        let any = spent.calls > 0;
        if tokens.is_some_and(|most| any && spent.input_tokens + spent.output_tokens >= most) {
            Some(Reached::Tokens)
        } else if cost_usd.is_some_and(|most| any && spent.cost_usd >= most) {
            Some(Reached::Cost)
        } else if calls.is_some_and(|most| state.begun >= most) {
            Some(Reached::Calls)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(tokens: u64, cost_usd: f64) -> Usage {
        Usage { calls: 1, input_tokens: tokens, cost_usd, ..Usage::default() }
    }

    #[test]
    fn no_thread_begins_a_call_beyond_the_limit() {
        let ceiling = Ceiling::new(Most { calls: Some(100), ..Most::default() });
        let begun = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for turn in 0..100 {
                        let through = if turn % 3 == 0 { ceiling.begin_if_room() } else { ceiling.begin() };
                        begun.fetch_add(u64::from(through), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(begun.into_inner(), 100);
        assert_eq!(ceiling.refused(), Some(Reached::Calls));
        assert_eq!(ceiling.used_up(), None, "calls are under way");
        ceiling.end(false);
        assert!(ceiling.begin() && !ceiling.begin());
        let one = Ceiling::new(Most { calls: Some(1), ..Most::default() });
        assert!(one.begin());
        one.end(true);
        assert_eq!((one.used_up(), one.refused()), (Some(Reached::Calls), None));
    }

    #[test]
    fn tokens_and_money_count_when_a_call_has_ended() {
        for (most, spent, wanted) in [
            (Most { tokens: Some(10), ..Most::default() }, used(9, 0.0), None),
            (Most { tokens: Some(10), ..Most::default() }, used(10, 0.0), Some(Reached::Tokens)),
            (Most { cost_usd: Some(0.5), ..Most::default() }, used(10, 0.4), None),
            (Most { cost_usd: Some(0.5), ..Most::default() }, used(10, 0.5), Some(Reached::Cost)),
            (Most::default(), used(10, 9.0), None),
        ] {
            let ceiling = Ceiling::new(most);
            assert!(ceiling.begin() && ceiling.refused().is_none());
            ceiling.spend(&spent);
            assert_eq!(ceiling.begin(), wanted.is_none(), "{most:?}");
            assert_eq!(ceiling.refused(), wanted, "{most:?}");
        }
        let none = Ceiling::new(Most { calls: Some(0), ..Most::default() });
        assert!(!none.begin_if_room() && none.refused().is_none() && !none.begin());
    }
}
