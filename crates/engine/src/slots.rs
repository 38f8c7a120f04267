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
    cpu: Budget,
    memory: Budget,
    gpus: Budget,
    elsewhere: Vec<Counter>,
    services: Vec<Served>,
    /// By endpoint: the service that has it answered.
    served_by: Vec<Option<usize>>,
    all: Counter,
}

/// A server of this machine that tasks need. It takes its share from the start of the first of them until it has ended,
/// whoever uses it in between.
#[derive(Debug, Clone, Copy, Default)]
struct Served {
    share: Share,
    /// It runs, or a task was started that will start it.
    is_up: bool,
    /// It is told to end, and takes its share until it has.
    is_ending: bool,
    /// Tasks at work that need it.
    users: u32,
}

/// What tasks share by amounts. A task that takes more than there is runs when no other takes any of it: what the
/// services take that it needs itself does not stand in its way (`own`).
#[derive(Debug, Clone, Copy)]
struct Budget {
    capacity: u64,
    taken: u64,
}

impl Budget {
    fn new(capacity: u64) -> Budget {
        Budget { capacity, taken: 0 }
    }

    /// `spare`: what would be given back first.
    fn fits(self, amount: u64, own: u64, spare: u64) -> bool {
        let taken = self.taken.saturating_sub(spare);
        amount == 0 || taken <= own || taken.saturating_add(amount) <= self.capacity
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

impl Share {
    fn add(&mut self, other: Share) {
        self.cpus = self.cpus.saturating_add(other.cpus);
        self.memory = self.memory.saturating_add(other.memory);
        self.gpus = self.gpus.saturating_add(other.gpus);
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
    /// How much of this machine it takes.
    pub share: Share,
    /// The place other than the build itself that runs it, of whose turns it takes one.
    pub elsewhere: Option<usize>,
    /// The endpoint that its own program calls.
    pub calls: Option<usize>,
    /// The service that its own program needs; that of a model is known by the endpoint.
    pub service: Option<usize>,
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
            cpu: Budget::new(cpu.max(1).into()),
            memory: Budget::new(u64::MAX),
            gpus: Budget::new(u64::MAX),
            elsewhere: Vec::new(),
            services: Vec::new(),
            served_by: Vec::new(),
            all: Counter::new(all),
        }
    }

    /// The same with so much memory (MiB) and so many GPUs to share, and so many turns at each other place.
    pub fn sharing(mut self, memory: u64, gpus: u64, elsewhere: &[u32]) -> Slots {
        (self.memory, self.gpus) = (Budget::new(memory), Budget::new(gpus));
        self.elsewhere = elsewhere.iter().map(|&turns| Counter::new(turns)).collect();
        self
    }

    /// The same with services: what each takes of this machine while it runs, and by endpoint the one behind it.
    pub fn serving(mut self, shares: &[Share], served_by: Vec<Option<usize>>) -> Slots {
        self.services = shares.iter().map(|&share| Served { share, ..Served::default() }).collect();
        self.served_by = served_by;
        self
    }

    /// Sets how many commands may run at once; those that do go on.
    pub fn set_cores(&mut self, cores: u32) {
        self.cpu.capacity = cores.max(1).into();
    }

    /// How many tasks may run at once.
    pub fn at_once(&self) -> AtOnce {
        AtOnce { cores: u32::try_from(self.cpu.capacity).unwrap_or(u32::MAX), all: self.all.capacity }
    }

    /// Whether more than one command may run at once.
    pub fn are_several(&self) -> bool {
        self.cpu.capacity > 1 && self.all.capacity > 1
    }

    /// How many commands hold a core now.
    pub fn cores_taken(&self) -> u32 {
        u32::try_from(self.cpu.taken).unwrap_or(u32::MAX)
    }

    /// Whether a task may start now. `tokens`: what its call is expected to take.
    pub fn can_start(&self, needs: Needs, tokens: u64, now: Duration) -> bool {
        self.fits(needs, Share::default()) && self.may_start(needs, tokens, now)
    }

    /// Whether there is enough of this machine for a task and the services it needs, were `spare` given back.
    fn fits(&self, needs: Needs, spare: Share) -> bool {
        let mut wants = Share { cpus: needs.cpus(), ..needs.share };
        let mut own = Share::default();
        for service in self.services_of(needs).map(|at| self.services[at]) {
            if service.is_up { own.add(service.share) } else { wants.add(service.share) }
        }
        self.cpu.fits(wants.cpus.into(), own.cpus.into(), spare.cpus.into())
            && self.memory.fits(wants.memory, own.memory, spare.memory)
            && self.gpus.fits(wants.gpus.into(), own.gpus.into(), spare.gpus.into())
    }

    /// Whether nothing but the amounts of this machine keeps a task from its start.
    fn may_start(&self, needs: Needs, tokens: u64, now: Duration) -> bool {
        self.all.is_free()
            && !self.services_of(needs).any(|at| self.services[at].is_ending)
            && needs.elsewhere.and_then(|at| self.elsewhere.get(at)).is_none_or(|turns| turns.is_free())
            && needs.pool.is_none_or(|pool| self.pools[pool].is_free())
            && needs.calls.is_none_or(|at| self.endpoints[at].parked_until(now).is_none())
            && needs.endpoint.is_none_or(|at| self.endpoints[at].can_start(now, tokens) == Start::Ready)
    }

    /// The services that a task needs, each once.
    fn services_of(&self, needs: Needs) -> impl Iterator<Item = usize> {
        let of = |endpoint: Option<usize>| self.served_by.get(endpoint?).copied().flatten();
        let all = [needs.service, of(needs.endpoint), of(needs.calls)];
        let all = all.map(|service| service.filter(|&at| at < self.services.len()));
        (0..all.len()).filter(move |&n| !all[..n].contains(&all[n])).filter_map(move |n| all[n])
    }

    /// Whether a service is among those that a task needs.
    pub(crate) fn needs_service(&self, needs: Needs, service: usize) -> bool {
        self.services_of(needs).any(|own| own == service)
    }

    /// Whether a task at work needs a service.
    pub fn is_used(&self, service: usize) -> bool {
        self.services[service].users > 0
    }

    /// A service is up though no task was started that needs it: it takes its share from now on.
    pub fn service_up(&mut self, service: usize) {
        self.services[service].is_ending = false;
        self.raise(service);
    }

    /// A service is told to end: no task that needs it starts until it has.
    pub fn service_ends(&mut self, service: usize) {
        self.services[service].is_ending = true;
    }

    /// A service is gone. Unless a task at work will start it again, its share is free.
    pub fn service_gone(&mut self, service: usize) {
        let one = &mut self.services[service];
        if one.users == 0 {
            one.is_ending = false;
            if std::mem::take(&mut one.is_up) {
                let share = one.share;
                self.cpu.taken -= u64::from(share.cpus);
                self.memory.taken -= share.memory;
                self.gpus.taken -= u64::from(share.gpus);
            }
        }
    }

    /// A service cannot be had in this build: nothing is kept for it.
    pub fn service_lost(&mut self, service: usize) {
        self.service_gone(service);
        if !self.services[service].is_up {
            self.services[service].share = Share::default();
        }
    }

    fn raise(&mut self, service: usize) {
        let one = &mut self.services[service];
        if !std::mem::replace(&mut one.is_up, true) {
            let share = one.share;
            self.cpu.taken += u64::from(share.cpus);
            self.memory.taken += share.memory;
            self.gpus.taken += u64::from(share.gpus);
        }
    }

    /// Whether a task takes any of this machine, beside the services.
    pub(crate) fn is_shared_by_tasks(&self) -> bool {
        let mut served = Share::default();
        self.services.iter().filter(|one| one.is_up).for_each(|one| served.add(one.share));
        self.cpu.taken > served.cpus.into()
            || self.memory.taken > served.memory
            || self.gpus.taken > served.gpus.into()
    }

    /// Services that are up and used by nobody, and that take any of this machine.
    pub(crate) fn idle_services(&self) -> Vec<usize> {
        let is_idle =
            |one: &Served| one.is_up && !one.is_ending && one.users == 0 && one.share != Share::default();
        (0..self.services.len()).filter(|&at| is_idle(&self.services[at])).collect()
    }

    /// Which of the services that nobody uses would have to end so that a task can start; none if it can start without
    /// that, or could not start either way.
    pub(crate) fn crowded_out_by(
        &self,
        needs: Needs,
        tokens: u64,
        now: Duration,
        idle: &[usize],
    ) -> Vec<usize> {
        let mut chosen = Vec::new();
        let mut spare = Share::default();
        if !self.may_start(needs, tokens, now) {
            return chosen;
        }
        for &service in idle.iter().filter(|&&at| !self.needs_service(needs, at)) {
            if self.fits(needs, spare) {
                break;
            }
            spare.add(self.services[service].share);
            chosen.push(service);
        }
        if self.fits(needs, spare) { chosen } else { Vec::new() }
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

    /// Until when nobody asks an endpoint, by its usage limit.
    pub fn parked_until(&self, endpoint: usize, now: Duration) -> Option<Duration> {
        self.endpoints[endpoint].parked_until(now)
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
        self.cpu.taken += u64::from(needs.cpus());
        self.memory.taken += needs.share.memory;
        self.gpus.taken += u64::from(needs.share.gpus);
        if let Some(turns) = needs.elsewhere.and_then(|at| self.elsewhere.get_mut(at)) {
            turns.taken += 1;
        }
        if let Some(pool) = needs.pool {
            self.pools[pool].taken += 1;
        }
        for service in self.services_of(needs).collect::<Vec<_>>() {
            self.raise(service);
            self.services[service].users += 1;
        }
        if let Some(at) = needs.endpoint {
            self.endpoints[at].started(now, tokens);
        }
    }

    /// Gives the slots back. `call` tells how the call ended; none if it was never made.
    pub fn release(&mut self, needs: Needs, call: Option<CallEnd>, now: Duration) {
        self.all.taken -= 1;
        self.cpu.taken -= u64::from(needs.cpus());
        self.memory.taken -= needs.share.memory;
        self.gpus.taken -= u64::from(needs.share.gpus);
        if let Some(turns) = needs.elsewhere.and_then(|at| self.elsewhere.get_mut(at)) {
            turns.taken -= 1;
        }
        if let Some(pool) = needs.pool {
            self.pools[pool].taken -= 1;
        }
        for service in self.services_of(needs).collect::<Vec<_>>() {
            self.services[service].users -= 1;
        }
        if let Some(at) = needs.endpoint {
            self.free_endpoint(at, call.unwrap_or((Err(Class::Cancelled), None)), now);
        }
    }

    /// Gives back what the call of a task held that goes on without it.
    pub fn release_call(&mut self, needs: Needs, call: CallEnd, now: Duration) {
        let Some(endpoint) = needs.endpoint else { return };
        let without = Needs { endpoint: None, ..needs };
        let of_call: Vec<usize> =
            self.services_of(needs).filter(|&at| !self.needs_service(without, at)).collect();
        for service in of_call {
            self.services[service].users -= 1;
        }
        self.free_endpoint(endpoint, call, now);
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
