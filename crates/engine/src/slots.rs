//! What running tasks compete for: a model's server, cores, memory and GPUs of this machine, turns of another place that
//! runs them, a named pool, and `-j` over all.
//!
//! Pure: the time is passed in. The discipline of one endpoint (calls at once, limits per minute,
//! holding back after a refusal) is that of [`planexe_base::limits`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use planexe_base::call::Usage;
use planexe_base::failure_class::Class;
use planexe_base::limits::{Limiter, Limits, Start};

/// Free and taken slots.
#[derive(Debug, Clone)]
pub struct Slots {
    endpoints: Vec<Limiter>,
    pools: Vec<Counter>,
    cpu: Counter,
    memory: Budget,
    gpus: Budget,
    elsewhere: Vec<Counter>,
    all: Counter,
}

/// What tasks share by amounts. A task that takes more than there is runs when no other takes any of it.
#[derive(Debug, Clone, Copy)]
struct Budget {
    capacity: u64,
    taken: u64,
}

impl Budget {
    fn new(capacity: u64) -> Budget {
        Budget { capacity, taken: 0 }
    }

    fn fits(self, amount: u64) -> bool {
        amount == 0 || self.taken == 0 || self.taken.saturating_add(amount) <= self.capacity
    }
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    capacity: u32,
    taken: u32,
}

impl Counter {
    fn new(capacity: u32) -> Counter {
        Counter { capacity: capacity.max(1), taken: 0 }
    }

    fn is_free(self) -> bool {
        self.taken < self.capacity
    }

    fn fits(self, amount: u32) -> bool {
        amount == 0 || self.taken == 0 || self.taken.saturating_add(amount) <= self.capacity
    }
}

/// What a task takes of this machine beside a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Share {
    /// Cores, if it takes any: 0 and 1 are one.
    pub cpus: u32,
    /// MiB of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
}

/// How many tasks may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtOnce {
    /// Commands.
    pub cores: u32,
    /// In all.
    pub all: u32,
}

/// What one task needs to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Needs {
    /// The endpoint it asks.
    pub endpoint: Option<usize>,
    /// Whether it takes a core.
    pub cpu: bool,
    /// How much of this machine it takes.
    pub share: Share,
    /// The place other than the build itself that runs it, of whose turns it takes one.
    pub elsewhere: Option<usize>,
    /// The endpoint that its own program calls.
    pub calls: Option<usize>,
    /// The named pool it takes a slot of.
    pub pool: Option<usize>,
    /// The lane it has to itself while it runs; who has it is the engine's to know.
    pub lane: Option<usize>,
}

impl Needs {
    fn cpus(self) -> u32 {
        if self.cpu { self.share.cpus.max(1) } else { 0 }
    }
}

/// How a call ended, for the limits of its endpoint; with the pause its server asked for.
pub type CallEnd = (Result<Usage, Class>, Option<Duration>);

impl Slots {
    /// Slots by endpoint, by pool, for commands, and in all.
    pub fn new(endpoints: &[Limits], pools: &[u32], cpu: u32, all: u32) -> Slots {
        Slots {
            endpoints: endpoints.iter().map(|&limits| Limiter::new(limits)).collect(),
            pools: pools.iter().map(|&n| Counter::new(n)).collect(),
            cpu: Counter::new(cpu),
            memory: Budget::new(u64::MAX),
            gpus: Budget::new(u64::MAX),
            elsewhere: Vec::new(),
            all: Counter::new(all),
        }
    }

    /// The same with so much memory (MiB) and so many GPUs to share, and so many turns at each other place.
    pub fn sharing(mut self, memory: u64, gpus: u64, elsewhere: &[u32]) -> Slots {
        (self.memory, self.gpus) = (Budget::new(memory), Budget::new(gpus));
        self.elsewhere = elsewhere.iter().map(|&turns| Counter::new(turns)).collect();
        self
    }

    /// Sets how many commands may run at once; those that do go on.
    pub fn set_cores(&mut self, cores: u32) {
        self.cpu.capacity = cores.max(1);
    }

    /// How many tasks may run at once.
    pub fn at_once(&self) -> AtOnce {
        AtOnce { cores: self.cpu.capacity, all: self.all.capacity }
    }

    /// Whether more than one command may run at once.
    pub fn are_several(&self) -> bool {
        self.cpu.capacity > 1 && self.all.capacity > 1
    }

    /// How many commands hold a core now.
    pub fn cores_taken(&self) -> u32 {
        self.cpu.taken
    }

    /// Whether a task may start now. `tokens`: what its call is expected to take.
    pub fn can_start(&self, needs: Needs, tokens: u64, now: Duration) -> bool {
        self.all.is_free()
            && self.cpu.fits(needs.cpus())
            && self.memory.fits(needs.share.memory)
            && self.gpus.fits(needs.share.gpus.into())
            && needs.elsewhere.and_then(|at| self.elsewhere.get(at)).is_none_or(|turns| turns.is_free())
            && needs.pool.is_none_or(|pool| self.pools[pool].is_free())
            && needs.calls.is_none_or(|at| self.endpoints[at].parked_until(now).is_none())
            && needs.endpoint.is_none_or(|at| self.endpoints[at].can_start(now, tokens) == Start::Ready)
    }

    /// An endpoint's server was found up.
    pub fn found_up(&mut self, endpoint: usize, now: Duration) {
        self.endpoints[endpoint].found_up(now);
    }

    /// An endpoint's server was found idle.
    pub fn found_idle(&mut self, endpoint: usize, now: Duration) {
        self.endpoints[endpoint].found_idle(now);
    }

    /// Whether another endpoint is asked in place of this one, where there is one: its server wants to be left alone.
    pub fn is_held_long(&self, endpoint: usize, now: Duration) -> bool {
        self.endpoints[endpoint].is_held_long(now)
    }

    /// Until when another endpoint is asked in place of this one, where there is one.
    pub fn held_long_until(&self, endpoint: usize, now: Duration) -> Option<Duration> {
        self.endpoints[endpoint].held_long_until(now)
    }

    /// The usage limit of an endpoint is over at a time.
    pub fn park(&mut self, endpoint: usize, until: Duration) {
        self.endpoints[endpoint].park(until);
    }

    /// The usage limit of an endpoint is over by another clock.
    pub fn limit_over(&mut self, endpoint: usize, now: Duration) {
        self.endpoints[endpoint].limit_over(now);
    }

    /// Whether the usage limit of an endpoint is not known to be over.
    pub fn is_parked(&self, endpoint: usize) -> bool {
        self.endpoints[endpoint].is_parked()
    }

    /// Takes a slot of an endpoint for a call that a task's own program makes, if it may begin; else when it may.
    pub fn begin_call(&mut self, endpoint: usize, tokens: u64, now: Duration) -> Start {
        let start = self.endpoints[endpoint].can_start(now, tokens);
        if start == Start::Ready {
            self.endpoints[endpoint].started(now, tokens);
        }
        start
    }

    /// Takes the slots that a task needs.
    pub fn take(&mut self, needs: Needs, tokens: u64, now: Duration) {
        self.all.taken += 1;
        self.cpu.taken += needs.cpus();
        self.memory.taken += needs.share.memory;
        self.gpus.taken += u64::from(needs.share.gpus);
        if let Some(turns) = needs.elsewhere.and_then(|at| self.elsewhere.get_mut(at)) {
            turns.taken += 1;
        }
        if let Some(pool) = needs.pool {
            self.pools[pool].taken += 1;
        }
        if let Some(at) = needs.endpoint {
            self.endpoints[at].started(now, tokens);
        }
    }

    /// Gives the slots back. `call` tells how the call ended; none if it was never made.
    pub fn release(&mut self, needs: Needs, call: Option<CallEnd>, now: Duration) {
        self.all.taken -= 1;
        self.cpu.taken -= needs.cpus();
        self.memory.taken -= needs.share.memory;
        self.gpus.taken -= u64::from(needs.share.gpus);
        if let Some(turns) = needs.elsewhere.and_then(|at| self.elsewhere.get_mut(at)) {
            turns.taken -= 1;
        }
        if let Some(pool) = needs.pool {
            self.pools[pool].taken -= 1;
        }
        if let Some(at) = needs.endpoint {
            self.free_endpoint(at, call.unwrap_or((Err(Class::Cancelled), None)), now);
        }
    }

    /// Gives an endpoint's slot back, and only that.
    pub fn free_endpoint(&mut self, endpoint: usize, (outcome, retry_after): CallEnd, now: Duration) {
        self.endpoints[endpoint].finished(now, &outcome, retry_after);
    }

    /// When an endpoint that is held back by time may be asked again.
    pub fn next_chance(&self, needs: Needs, tokens: u64, now: Duration) -> Option<Duration> {
        if let Some(until) = needs.calls.and_then(|at| self.endpoints[at].parked_until(now)) {
            return Some(until);
        }
        match self.endpoints[needs.endpoint?].can_start(now, tokens) {
            Start::NotBefore(at) => Some(at),
            Start::Ready | Start::Full => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_by_amounts_is_never_given_twice() {
        let now = Duration::ZERO;
        let mut slots = Slots::new(&[], &[], 4, 9).sharing(1000, 1, &[2]);
        let task =
            |cpus, memory, gpus| Needs { cpu: true, share: Share { cpus, memory, gpus }, ..Needs::default() };
        let (half, third) = (task(2, 600, 0), task(1, 400, 1));
        slots.take(half, 0, now);
        assert!(!slots.can_start(half, 0, now), "600 and 600 MiB are more than 1000");
        assert!(slots.can_start(third, 0, now));
        slots.take(third, 0, now);
        assert!(!slots.can_start(task(1, 0, 1), 0, now), "there is one GPU");
        assert!(slots.can_start(task(1, 0, 0), 0, now) && !slots.can_start(task(2, 0, 0), 0, now));
        slots.release(half, None, now);
        slots.release(third, None, now);
        // More than there is: alone.
        let huge = task(64, 9000, 8);
        assert!(slots.can_start(huge, 0, now));
        slots.take(huge, 0, now);
        assert!(!slots.can_start(task(1, 1, 0), 0, now));
        let away = Needs { elsewhere: Some(0), ..Needs::default() };
        slots.take(away, 0, now);
        assert!(slots.can_start(away, 0, now), "what runs elsewhere takes nothing here");
        slots.take(away, 0, now);
        assert!(!slots.can_start(away, 0, now));
    }
}
