//! What running tasks compete for: a slot of a model's server, a core, a named pool, and `-j` over all.
//!
//! Pure: the time is passed in. The discipline of one endpoint (calls at once, per-minute limits,
//! holding back after a refusal) is [`crate::llm::limits`]'; here it is only asked.

use std::time::Duration;

/// Free and taken slots.
#[derive(Debug, Clone)]
pub struct Slots {
    endpoints: Vec<Counter>,
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

    fn is_free(&self) -> bool {
        self.taken < self.capacity
    }
}

/// The slots one running task holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    endpoint: Option<usize>,
    cpu: bool,
    pool: Option<usize>,
}

impl Slots {
    /// Slots by endpoint, by pool, for commands, and in all.
    pub fn new(endpoints: &[u32], pools: &[u32], cpu: u32, all: u32) -> Slots {
        Slots {
            endpoints: endpoints.iter().map(|&n| Counter::new(n)).collect(),
            pools: pools.iter().map(|&n| Counter::new(n)).collect(),
            cpu: Counter::new(cpu),
            all: Counter::new(all),
        }
    }

    /// Whether a task with these wants may start now.
    pub fn can_start(
        &self,
        endpoint: Option<usize>,
        cpu: bool,
        pool: Option<usize>,
        _tokens: u64,
        _now: Duration,
    ) -> bool {
        self.all.is_free()
            && (!cpu || self.cpu.is_free())
            && pool.is_none_or(|pool| self.pools[pool].is_free())
            && endpoint.is_none_or(|endpoint| self.endpoints[endpoint].is_free())
    }

    /// Takes the slots.
    pub fn take(
        &mut self,
        endpoint: Option<usize>,
        cpu: bool,
        pool: Option<usize>,
        _tokens: u64,
        _now: Duration,
    ) -> Start {
        self.all.taken += 1;
        self.cpu.taken += u32::from(cpu);
        if let Some(pool) = pool {
            self.pools[pool].taken += 1;
        }
        if let Some(endpoint) = endpoint {
            self.endpoints[endpoint].taken += 1;
        }
        Start { endpoint, cpu, pool }
    }

    /// Gives the slots back.
    pub fn release(&mut self, start: &Start, _now: Duration) {
        self.all.taken -= 1;
        self.cpu.taken -= u32::from(start.cpu);
        if let Some(pool) = start.pool {
            self.pools[pool].taken -= 1;
        }
        if let Some(endpoint) = start.endpoint {
            self.endpoints[endpoint].taken -= 1;
        }
    }

    /// When an endpoint that is held back may be asked again, if it is held back by time.
    pub fn next_chance(&self, _endpoint: Option<usize>, _now: Duration) -> Option<Duration> {
        None
    }
}
