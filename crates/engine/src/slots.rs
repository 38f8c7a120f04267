//! What running tasks compete for: a model's server, a core, a named pool, and `-j` over all.
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
    all: Counter,
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
    /// The named pool it takes a slot of.
    pub pool: Option<usize>,
    /// The lane it has to itself while it runs; who has it is the engine's to know.
    pub lane: Option<usize>,
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
            all: Counter::new(all),
        }
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
            && (!needs.cpu || self.cpu.is_free())
            && needs.pool.is_none_or(|pool| self.pools[pool].is_free())
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

    /// Takes the slots that a task needs.
    pub fn take(&mut self, needs: Needs, tokens: u64, now: Duration) {
        self.all.taken += 1;
        self.cpu.taken += u32::from(needs.cpu);
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
        self.cpu.taken -= u32::from(needs.cpu);
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
        match self.endpoints[needs.endpoint?].can_start(now, tokens) {
            Start::NotBefore(at) => Some(at),
            Start::Ready | Start::Full => None,
        }
    }
}
