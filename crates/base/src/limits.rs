//! When the next call to an endpoint may start: slots, requests and tokens per minute, holds a server asked
//! for, and a breaker. Pure: times are handed in, as time since any epoch of the caller's.
//!
//! A task that may not start waits; nothing here makes one fail.

use std::collections::VecDeque;
use std::time::Duration;

use crate::call::Usage;
use crate::failure_class::Class;

/// The window of `rpm` and `tpm`.
const MINUTE: Duration = Duration::from_secs(60);
/// Rate limits within this time of a shrink belong to the same episode and shrink no further.
const COOLDOWN: Duration = Duration::from_secs(15);
/// Failures in a row that open the breaker.
const BREAK_AFTER: u32 = 3;
/// The longest pause of the breaker. One that comes to it breaks for longer than a moment.
const LONGEST_BREAK: Duration = MINUTE;
/// How long a limit is waited for where another model could answer.
pub const WAIT_FOR_LIMIT: Duration = Duration::from_secs(15 * 60);
/// A limit that lasts so long is a usage limit: its server is parked, and one call finds out whether it is over.
const LONG_LIMIT: Duration = Duration::from_secs(60);
/// The hold after a rate limit that names no time.
const SHORT_HOLD: Duration = Duration::from_secs(1);

/// Whether a limit that lasts so long parks its server.
pub fn is_long(asked: Duration) -> bool {
    asked >= LONG_LIMIT
}

/// Bounds that do not change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Calls at once, at most.
    pub max_concurrent: u32,
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute, prompt and answer together.
    pub tpm: Option<u64>,
    /// Whether the server is on this machine: one that ran out of time is still at work.
    pub local: bool,
}

/// Whether a call may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Now.
    Ready,
    /// Not before this time; ask again then.
    NotBefore(Duration),
    /// When a call that runs has finished; ask again then.
    Full,
}

/// Whether calls pass at all.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Breaker {
    Closed,
    /// Nothing starts until then; the next pause is twice as long.
    Open {
        until: Duration,
        pause: Duration,
    },
    /// One call is out to see.
    Probing {
        pause: Duration,
    },
}

/// The state of one endpoint.
#[derive(Debug, Clone)]
pub struct Limiter {
    limits: Limits,
    in_flight: u32,
    /// Estimates of the calls in flight, oldest first.
    estimates: VecDeque<u64>,
    /// Calls at once that the server bears, as far as seen; never above `max_concurrent`.
    allowed: f64,
    /// Until here a rate limit is one of the same episode, and nothing grows.
    cooldown_until: Duration,
    hold_until: Duration,
    /// Until here a local server is left alone with what it was asked for and nobody waits for any more.
    rest_until: Duration,
    /// Starts of the last minute.
    starts: VecDeque<Duration>,
    /// Tokens of the last minute: estimates at the start, what is above them at the end.
    tokens: VecDeque<(Duration, i64)>,
    /// Failures in a row.
    failures: u32,
    /// Calls in a row that it took and broke. One that is away or loading takes none, and is waited for.
    broken: u32,
    /// Calls in a row that ran out of time.
    timeouts: u32,
    /// Until here it is left to those who have no other model: it let so many calls run out of time.
    silent_until: Duration,
    /// Successes since the last growth.
    clean: u32,
    /// One at a time until a success: a local server that ran out of time still works on what was asked.
    careful: bool,
    breaker: Breaker,
    /// When its usage limit is over. From then on one call finds out, until one is answered.
    parked: Option<Duration>,
    /// The call in flight is the one that finds out.
    probes: bool,
}

impl Limiter {
    /// One that has seen nothing yet.
    pub fn new(limits: Limits) -> Limiter {
        Limiter {
            limits,
            in_flight: 0,
            estimates: VecDeque::new(),
            allowed: f64::from(limits.max_concurrent.max(1)),
            cooldown_until: Duration::ZERO,
            hold_until: Duration::ZERO,
            rest_until: Duration::ZERO,
            starts: VecDeque::new(),
            tokens: VecDeque::new(),
            failures: 0,
            broken: 0,
            timeouts: 0,
            silent_until: Duration::ZERO,
            clean: 0,
            careful: false,
            breaker: Breaker::Closed,
            parked: None,
            probes: false,
        }
    }

    /// Its usage limit is over at a time: nothing starts before, then one call finds out.
    pub fn park(&mut self, until: Duration) {
        self.parked = Some(until.max(self.parked.unwrap_or_default()));
        self.hold_until = self.hold_until.max(until);
    }

    /// Its usage limit is over by another clock: one call may find out.
    pub fn limit_over(&mut self, now: Duration) {
        if let Some(until) = &mut self.parked {
            *until = now.min(*until);
            self.hold_until = now.min(self.hold_until);
        }
    }

    /// Whether its usage limit is not known to be over.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Until when nobody asks it, by its usage limit.
    pub fn parked_until(&self, now: Duration) -> Option<Duration> {
        self.parked.filter(|until| now < *until)
    }

    /// Until when another model is asked, where there is one.
    pub fn held_long_until(&self, now: Duration) -> Option<Duration> {
        let breaks_until = match self.breaker {
            Breaker::Open { until, .. } => until,
            _ => Duration::ZERO,
        };
        self.is_held_long(now).then_some(self.hold_until.max(self.silent_until).max(breaks_until))
    }

    /// Calls at once that would start now.
    pub fn concurrency(&self) -> u32 {
        if self.careful { 1 } else { (self.allowed as u32).max(1) }
    }

    /// Whether another model is asked meanwhile, where there is one: its server asked to be left alone for so long, or
    /// takes calls and answers none. One call now and then finds out whether it does again.
    pub fn is_held_long(&self, now: Duration) -> bool {
        let silent = self.timeouts >= BREAK_AFTER && (now < self.silent_until || self.in_flight > 0);
        silent || self.breaks_for_long(now) || self.hold_until > now.saturating_add(WAIT_FOR_LIMIT)
    }

    /// Whether its server takes calls and breaks them, and has for about a minute. One call a minute finds out.
    fn breaks_for_long(&self, now: Duration) -> bool {
        let long = match self.breaker {
            Breaker::Closed => false,
            Breaker::Open { until, pause } => pause >= LONGEST_BREAK && (now < until || self.in_flight > 0),
            Breaker::Probing { pause } => pause >= LONGEST_BREAK,
        };
        long && self.broken >= BREAK_AFTER
    }

    /// Whether the breaker keeps calls back, for a status line.
    pub fn is_broken(&self) -> bool {
        self.breaker != Breaker::Closed
    }

    /// Whether a call of about so many tokens, prompt and answer, may start.
    pub fn can_start(&self, now: Duration, est_tokens: u64) -> Start {
        match self.breaker {
            Breaker::Open { until, .. } if now < until => return Start::NotBefore(until),
            Breaker::Open { .. } if self.in_flight > 0 => return Start::Full,
            Breaker::Probing { .. } => return Start::Full,
            _ => {}
        }
        let held = self.hold_until.max(self.rest_until);
        if now < held {
            return Start::NotBefore(held);
        }
        if self.in_flight >= self.concurrency() || (self.parked.is_some() && self.in_flight > 0) {
            return Start::Full;
        }
        let by_requests = self.limits.rpm.and_then(|rpm| self.request_free_at(now, rpm.max(1)));
        let by_tokens = self.limits.tpm.and_then(|tpm| self.tokens_free_at(now, tpm, est_tokens));
        match by_requests.max(by_tokens) {
            Some(at) => Start::NotBefore(at),
            None => Start::Ready,
        }
    }

    fn request_free_at(&self, now: Duration, rpm: u32) -> Option<Duration> {
        let recent = self.starts.iter().filter(|at| **at + MINUTE > now).count();
        let over = (recent + 1).checked_sub(rpm as usize).filter(|over| *over > 0)?;
        let leaving = self.starts.iter().filter(|at| **at + MINUTE > now).nth(over - 1)?;
        Some(*leaving + MINUTE)
    }

    fn tokens_free_at(&self, now: Duration, tpm: u64, est_tokens: u64) -> Option<Duration> {
        let recent = || self.tokens.iter().filter(|(at, _)| *at + MINUTE > now);
        let mut sum: i64 = recent().map(|(_, tokens)| tokens).sum();
        // One call above the whole allowance must pass some time: when the window is empty.
        let room = (tpm as i64).saturating_sub(est_tokens as i64).max(0);
        if sum <= room {
            return None;
        }
        for (at, tokens) in recent() {
            sum -= tokens;
            if sum <= room {
                return Some(*at + MINUTE);
            }
        }
        None
    }

    /// A call started.
    pub fn started(&mut self, now: Duration, est_tokens: u64) {
        if let Breaker::Open { pause, .. } = self.breaker {
            self.breaker = Breaker::Probing { pause };
        }
        self.probes = self.parked.is_some();
        self.in_flight += 1;
        self.estimates.push_back(est_tokens);
        if self.limits.rpm.is_some() {
            self.starts.retain(|at| *at + MINUTE > now);
            self.starts.push_back(now);
        }
        if self.limits.tpm.is_some() {
            self.tokens.retain(|(at, _)| *at + MINUTE > now);
            self.tokens.push_back((now, est_tokens as i64));
        }
    }

    /// A call ended: with what it used, or by this class; `retry_after` is the server's wish, or of a local
    /// server that ran out of time how long it may still be at work.
    pub fn finished(&mut self, now: Duration, outcome: &Result<Usage, Class>, retry_after: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let estimate = self.estimates.pop_front().unwrap_or(0);
        let probed = std::mem::take(&mut self.probes);
        let answered = match outcome {
            Ok(usage) => {
                if self.limits.tpm.is_some() {
                    self.correct(now, estimate as i64, (usage.input_tokens + usage.output_tokens) as i64);
                }
                true
            }
            Err(class) => match class {
                Class::RateLimit if probed || retry_after.is_some_and(is_long) => {
                    self.park(now.saturating_add(retry_after.unwrap_or_default().max(LONG_LIMIT)));
                    self.mend();
                    false
                }
                Class::RateLimit => {
                    self.shrink(now, retry_after);
                    self.hold(now, retry_after.unwrap_or(SHORT_HOLD));
                    // It answers: nothing is broken.
                    self.mend();
                    false
                }
                Class::ServerError
                | Class::Connection
                | Class::ServerLoading
                | Class::Timeout
                | Class::Cut => {
                    self.fail(now, *class, retry_after);
                    false
                }
                Class::Cancelled => {
                    if let Breaker::Probing { pause } = self.breaker {
                        self.breaker = Breaker::Open { until: now, pause };
                    }
                    false
                }
                Class::Auth
                | Class::Quota
                | Class::ModelNotFound
                | Class::Config
                | Class::ContextOverflow => {
                    self.mend();
                    false
                }
                // An answer came, if a bad one.
                _ => true,
            },
        };
        if answered {
            if probed {
                self.parked = None;
            }
            self.mend();
            self.careful = false;
            self.grow(now);
        }
    }

    /// Counts what a call used in place of its estimate. What it did not use is taken off where the estimate
    /// was put, so that it leaves the window with it: taken off now, it would make room for others until long
    /// after.
    fn correct(&mut self, now: Duration, estimate: i64, used: i64) {
        let place = self.tokens.iter_mut().find(|(_, tokens)| *tokens == estimate);
        match (used - estimate, place) {
            (more, _) if more > 0 => self.tokens.push_back((now, more)),
            (_, Some((_, tokens))) => *tokens = used,
            (_, None) => {}
        }
    }

    /// A local server that ran out of time was found idle.
    pub fn found_idle(&mut self, now: Duration) {
        self.rest_until = self.rest_until.min(now);
    }

    /// The server was found up: one call may go and see.
    pub fn found_up(&mut self, now: Duration) {
        if let Breaker::Open { pause, until } = self.breaker {
            self.breaker = Breaker::Open { until: until.min(now), pause };
        }
    }

    fn mend(&mut self) {
        self.failures = 0;
        self.broken = 0;
        self.timeouts = 0;
        self.breaker = Breaker::Closed;
    }

    fn fail(&mut self, now: Duration, class: Class, retry_after: Option<Duration>) {
        self.failures += 1;
        self.clean = 0;
        match class {
            Class::ServerError | Class::Cut => self.broken += 1,
            Class::ServerLoading => self.broken = 0,
            _ => {}
        }
        if class == Class::Timeout {
            self.timeouts += 1;
            self.silent_until = now.saturating_add(WAIT_FOR_LIMIT);
        }
        if class == Class::Timeout && self.limits.local {
            self.careful = true;
            self.rest_until = self.rest_until.max(now.saturating_add(retry_after.unwrap_or_default()));
        } else if let Some(wait) = retry_after {
            // Whether one that is loading is up again, its health tells.
            self.hold(now, if class == Class::ServerLoading { wait.min(WAIT_FOR_LIMIT) } else { wait });
        }
        let first = Duration::from_secs(if self.limits.local { 2 } else { 5 });
        let pause = match self.breaker {
            Breaker::Probing { pause } => (pause * 2).min(LONGEST_BREAK),
            // Others that were in flight fall with the first; they make nothing worse.
            Breaker::Open { .. } => return,
            // A server that says it is not there needs no third failure to be believed.
            Breaker::Closed if self.failures >= BREAK_AFTER || class == Class::ServerLoading => first,
            Breaker::Closed => return,
        };
        self.breaker = Breaker::Open { until: now + pause, pause };
    }

    fn hold(&mut self, now: Duration, wait: Duration) {
        self.hold_until = self.hold_until.max(now.saturating_add(wait));
    }

    /// Four fifths, one less at least, once an episode.
    fn shrink(&mut self, now: Duration, retry_after: Option<Duration>) {
        self.clean = 0;
        if now >= self.cooldown_until {
            self.allowed = (self.allowed * 0.8).min(self.allowed - 1.0).max(1.0);
        }
        self.cooldown_until = self.cooldown_until.max(now + COOLDOWN + retry_after.unwrap_or_default());
    }

    /// One more after each round without a fault.
    fn grow(&mut self, now: Duration) {
        let most = f64::from(self.limits.max_concurrent.max(1));
        if now < self.cooldown_until || self.allowed >= most {
            return;
        }
        self.clean += 1;
        if f64::from(self.clean) >= self.allowed {
            self.clean = 0;
            self.allowed = (self.allowed + 1.0).min(most);
        }
    }
}

#[cfg(test)]
mod test;
