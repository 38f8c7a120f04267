//! The clocks of every call, kept by one thread: it looks at each call in flight some twenty times a
//! second and, when a clock has run out or the build is cancelled, notes why and shuts the call's
//! connection down, which wakes the thread that reads it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use ureq::Agent;

use super::{CallError, Class};
use crate::config::CallTimeouts;
use planexe_base::cancel::Cancel;
use planexe_base::clock;

/// The longest a clock's end or a cancel goes unnoticed.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Longer than any call; keeps sums of limits from overflowing.
const FOREVER: Duration = Duration::from_secs(365 * 86400);

/// The four clocks of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Clocks {
    /// Until the connection stands.
    pub connect: Duration,
    /// From the request to the first content.
    pub first_token: Duration,
    /// Between two pieces of content.
    pub idle: Duration,
    /// The whole call; none where the task's own limit rules.
    pub total: Option<Duration>,
}

impl Clocks {
    /// What the table says, else by locality. A laptop reads 30,000 tokens of prompt in minutes, after
    /// loading the model and behind another call, so a local server gets 20 minutes to its first word
    /// and no total; one elsewhere that is silent for 5 minutes is not coming back.
    pub(super) fn of(table: &CallTimeouts, local: bool) -> Clocks {
        let pick = |span: Option<planexe_base::span::Span>, local_s: u64, remote_s: u64| {
            let usual = Duration::from_secs(if local { local_s } else { remote_s });
            span.map_or(usual, |span| span.0).min(FOREVER)
        };
        Clocks {
            connect: pick(table.connect, 5, 10),
            first_token: pick(table.first_token, 20 * 60, 5 * 60),
            idle: pick(table.idle, 120, 60),
            total: table.total.map(|span| span.0).or((!local).then(|| Duration::from_secs(30 * 60))),
        }
    }
}

/// Why a call was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    FirstToken,
    Idle,
    Total,
    Task,
    Cancelled,
}

const WHYS: [Why; 5] = [Why::FirstToken, Why::Idle, Why::Total, Why::Task, Why::Cancelled];

/// Milliseconds since the process first asked.
fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One call's clocks, shared between the thread that makes it and the one that watches.
#[derive(Debug)]
pub(super) struct Watch {
    clocks: Clocks,
    cancel: Cancel,
    /// Since when first-token or idle runs.
    soft_since_ms: AtomicU64,
    /// Whether content has come, so that the soft clock is `idle`.
    writing: AtomicBool,
    /// Since when the hard clock runs.
    hard_since_ms: AtomicU64,
    /// The limit on the whole, if there is one: total, or the task's time.
    hard: Option<(Duration, Why)>,
    /// 0, or one more than an index into [`WHYS`].
    why: AtomicU8,
}

impl Watch {
    /// Starts the clocks. Until the request is out the first-token clock includes connecting.
    pub(super) fn start(clocks: Clocks, time_left: Option<Duration>, cancel: &Cancel) -> Arc<Watch> {
        let total = clocks.total.map(|total| (total, Why::Total));
        let task = time_left.map(|left| (left, Why::Task));
        let hard = total.into_iter().chain(task).min_by_key(|(limit, _)| *limit);
        Arc::new(Watch {
            clocks,
            cancel: cancel.clone(),
            soft_since_ms: AtomicU64::new(now_ms().saturating_add(millis(clocks.connect))),
            writing: AtomicBool::new(false),
            hard_since_ms: AtomicU64::new(now_ms()),
            hard,
            why: AtomicU8::new(0),
        })
    }

    /// The request is out, or the server told of progress in reading it: first-token starts anew.
    pub(super) fn reading(&self) {
        if !self.writing.load(Ordering::Relaxed) {
            self.soft_since_ms.store(now_ms(), Ordering::Relaxed);
        }
    }

    /// A piece of content came: idle starts anew.
    pub(super) fn content(&self) {
        self.writing.store(true, Ordering::Relaxed);
        self.soft_since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Nobody listened for so long: no clock ran meanwhile. One that began later is not put off by more than its age.
    fn stood_still(&self, for_ms: u64) {
        let now = now_ms();
        for since in [&self.soft_since_ms, &self.hard_since_ms] {
            let later = |at: u64| (at < now).then(|| at + for_ms.min(now - at));
            let _ = since.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        }
    }

    /// When first-token or idle runs out.
    fn soft_at(&self) -> u64 {
        let writing = self.writing.load(Ordering::Relaxed);
        let limit = if writing { self.clocks.idle } else { self.clocks.first_token };
        self.soft_since_ms.load(Ordering::Relaxed).saturating_add(millis(limit))
    }

    /// When total or the task's time runs out.
    fn hard_at(&self) -> Option<u64> {
        let (limit, _) = self.hard?;
        Some(self.hard_since_ms.load(Ordering::Relaxed).saturating_add(millis(limit)))
    }

    /// Looks at the clocks; true if the call is to end, noting why if it was not noted yet.
    pub(super) fn check(&self) -> bool {
        if self.why.load(Ordering::Acquire) != 0 {
            return true;
        }
        let now = now_ms();
        let why = if self.cancel.is_killing() {
            Why::Cancelled
        } else if let Some((_, why)) = self.hard.filter(|_| self.hard_at().is_some_and(|at| now >= at)) {
            why
        } else if now >= self.soft_at() {
            if self.writing.load(Ordering::Relaxed) { Why::Idle } else { Why::FirstToken }
        } else {
            return false;
        };
        let index = WHYS.iter().position(|w| *w == why).unwrap_or(0) as u8 + 1;
        let _ = self.why.compare_exchange(0, index, Ordering::AcqRel, Ordering::Acquire);
        true
    }

    /// Why the call was ended from outside, if it was.
    pub(super) fn why(&self) -> Option<Why> {
        match self.why.load(Ordering::Acquire) {
            0 => None,
            index => WHYS.get(index as usize - 1).copied(),
        }
    }

    /// The error that says so. The `code` of a timeout names the clock, for the retry policy.
    pub(super) fn error(&self) -> Option<CallError> {
        let seconds = |duration: Duration| format!("{:?}", duration);
        let (code, message) = match self.why()? {
            Why::Cancelled => return Some(CallError::new(Class::Cancelled, "the call was cancelled")),
            Why::FirstToken => (
                "first_token",
                format!("no word of an answer within {} (first_token)", seconds(self.clocks.first_token)),
            ),
            Why::Idle => ("idle", format!("the answer stood still for {} (idle)", seconds(self.clocks.idle))),
            Why::Total => ("total", format!("not whole within {} (total)", self.hard_limit())),
            Why::Task => {
                ("task", format!("the task's time was up, {} after the call began", self.hard_limit()))
            }
        };
        let mut error = CallError::new(Class::Timeout, message);
        error.code = Some(code.into());
        Some(error)
    }

    fn hard_limit(&self) -> String {
        self.hard.map_or_else(String::new, |(limit, _)| format!("{limit:?}"))
    }

    /// Milliseconds to the next moment at which there may be something to do.
    fn due_in(&self, now: u64) -> u64 {
        self.soft_at().min(self.hard_at().unwrap_or(u64::MAX)).saturating_sub(now)
    }
}

struct Entry {
    id: u64,
    watch: Arc<Watch>,
    agent: Agent,
}

#[derive(Default)]
struct Calls {
    last_id: u64,
    entries: Vec<Entry>,
    /// When they were looked at last, or the first of them began.
    seen_ms: u64,
}

#[derive(Default)]
struct Dog {
    calls: Mutex<Calls>,
    wake: Condvar,
}

impl Dog {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock()
    }

    fn run(&self) {
        let mut over = Vec::new();
        loop {
            let mut calls = self.lock();
            while calls.entries.is_empty() {
                self.wake.wait(&mut calls);
            }
            let now = now_ms();
            let apart = Duration::from_millis(now.saturating_sub(calls.seen_ms));
            let stood_still_ms = millis(clock::stood_still(apart, TICK));
            calls.seen_ms = now;
            let mut nap = millis(TICK);
            calls.entries.retain(|entry| {
                if stood_still_ms > 0 {
                    entry.watch.stood_still(stood_still_ms);
                }
                if entry.watch.check() {
                    over.push(entry.agent.clone());
                    return false;
                }
                nap = nap.min(entry.watch.due_in(now).max(1));
                true
            });
            drop(calls);
            for agent in over.drain(..) {
                agent.shutdown();
            }
            std::thread::sleep(Duration::from_millis(nap));
        }
    }
}

/// Keeps a call watched until it is dropped.
pub(super) struct Guard {
    id: u64,
}

/// Has the watching thread (started by the first call) look after this one.
pub(super) fn watch(watch: &Arc<Watch>, agent: &Agent) -> std::io::Result<Guard> {
    let dog = dog()?;
    let mut calls = dog.lock();
    calls.last_id += 1;
    let id = calls.last_id;
    calls.entries.push(Entry { id, watch: Arc::clone(watch), agent: agent.clone() });
    if calls.entries.len() == 1 {
        calls.seen_ms = now_ms();
        dog.wake.notify_one();
    }
    Ok(Guard { id })
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(dog) = dog() {
            let mut calls = dog.lock();
            if let Some(index) = calls.entries.iter().position(|entry| entry.id == self.id) {
                calls.entries.swap_remove(index);
            }
        }
    }
}

fn dog() -> std::io::Result<&'static Dog> {
    static DOG: Mutex<Option<&'static Dog>> = Mutex::new(None);
    let mut slot = DOG.lock();
    if let Some(dog) = *slot {
        return Ok(dog);
    }
    let dog: &'static Dog = Box::leak(Box::default());
    std::thread::Builder::new().name("call-clocks".into()).stack_size(64 * 1024).spawn(|| dog.run())?;
    *slot = Some(dog);
    Ok(dog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_listened_to_is_no_silence() {
        const HOUR: Duration = Duration::from_secs(3600);
        let clocks = Clocks { connect: HOUR, first_token: HOUR, idle: HOUR, total: Some(HOUR) };
        let over = |content: bool, time_left: Duration, for_ms: u64| {
            let watch = Watch::start(clocks, Some(time_left), &Cancel::new());
            watch.reading();
            if content {
                watch.content();
            }
            // As if all of it had begun so long ago.
            for since in [&watch.soft_since_ms, &watch.hard_since_ms] {
                since.store(0, Ordering::Relaxed);
            }
            while now_ms() < 20 {
                std::thread::yield_now();
            }
            watch.stood_still(for_ms);
            watch.check()
        };
        let soon = Duration::from_millis(15);
        for content in [false, true] {
            assert!(over(content, soon, 0));
            assert!(!over(content, soon, 60_000));
            assert!(!over(content, HOUR, 0));
        }
        // A clock that began afterwards is not put off.
        let watch = Watch::start(clocks, None, &Cancel::new());
        watch.content();
        watch.stood_still(60_000);
        assert!(watch.soft_at() <= now_ms() + millis(HOUR));
    }
}
