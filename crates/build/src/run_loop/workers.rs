//! The threads that attempts run on: each takes what comes next and sleeps when there is nothing.
//!
//! Not a pool that steals: an attempt is a call or a program of seconds, handed out by one thread, so there is
//! nothing to balance; and 256 threads that look through each other's queues whenever one of them has
//! nothing to do cost more than the calls themselves. A thread is started when all others are busy, so a
//! build has as many as it ever had attempts at once.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Stack of a worker, in bytes: calls and templates need little.
const STACK: usize = 512 * 1024;

/// What a worker is given to do. It must not panic.
type Work = Box<dyn FnOnce() + Send>;

/// Threads for the attempts of a build. They end, each after what it does, when this is dropped.
pub(super) struct Workers {
    shared: Arc<Shared>,
    most: usize,
    started: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Threads asleep; some may have been woken for what is in `work`.
    idle: usize,
    closed: bool,
}

impl Workers {
    /// None is started yet; there will be at most so many, one at least.
    pub(super) fn new(most: usize) -> Workers {
        Workers { shared: Arc::default(), most: most.max(1), started: 0 }
    }

    /// Has a worker do it, at once if fewer than the most are busy. Without any thread, and if none can be
    /// started, it is done here and now.
    pub(super) fn give(&mut self, work: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.lock();
        queue.work.push_back(Box::new(work));
        let asleep = queue.idle >= queue.work.len();
        drop(queue);
        if asleep {
            self.shared.wake.notify_one();
        } else if self.started < self.most {
            let shared = self.shared.clone();
            let name = format!("worker {}", self.started);
            let thread = std::thread::Builder::new().name(name).stack_size(STACK);
            if thread.spawn(move || shared.work()).is_ok() {
                self.started += 1;
            } else if self.started == 0
                && let Some(work) = { self.shared.lock().work.pop_front() }
            {
                work();
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// What a worker does, until there is nothing to do and never will be.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.work.pop_front() {
                drop(queue);
                work();
                queue = self.lock();
            } else if queue.closed {
                return;
            } else {
                queue.idle += 1;
                self.wake.wait(&mut queue);
                queue.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Work that says it began and goes on until it is told to.
    fn held(began: &Sender<usize>, n: usize) -> (impl FnOnce() + Send + use<>, Sender<()>) {
        let (go, wait): (Sender<()>, Receiver<()>) = channel();
        let began = began.clone();
        let work = move || {
            began.send(n).expect("somebody listens");
            let _ = wait.recv_timeout(LONG);
        };
        (work, go)
    }

    #[test]
    fn as_much_at_once_as_allowed_and_no_thread_more_than_needed() {
        let mut workers = Workers::new(3);
        let (began, begun) = channel();
        let mut gates = Vec::new();
        for n in 0..5 {
            let (work, go) = held(&began, n);
            workers.give(work);
            gates.push(go);
        }
        let mut first: Vec<usize> = (0..3).map(|_| begun.recv_timeout(LONG).expect("three begin")).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert!(begun.try_recv().is_err(), "a fourth began");
        drop(gates);
        let mut rest: Vec<usize> = (0..2).map(|_| begun.recv_timeout(LONG).expect("the rest")).collect();
        rest.sort_unstable();
        assert_eq!(rest, [3, 4]);
        // One after the other, each given once the one before has let go of its thread: none is started.
        let mut workers = Workers::new(100);
        for n in 0..20 {
            let (work, go) = held(&began, n);
            workers.give(work);
            assert_eq!(begun.recv_timeout(LONG), Ok(n));
            drop(go);
            while workers.shared.lock().idle == 0 {
                std::thread::yield_now();
            }
        }
        assert_eq!(workers.started, 1);
    }

    #[test]
    fn what_was_given_is_done_and_the_threads_end() {
        let (done, finished) = channel();
        let mut workers = Workers::new(4);
        for n in 0..1000 {
            let done = done.clone();
            workers.give(move || done.send(n).expect("somebody listens"));
        }
        let shared = Arc::downgrade(&workers.shared);
        drop((workers, done));
        let mut all: Vec<usize> = finished.iter().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        let until = std::time::Instant::now() + LONG;
        while shared.strong_count() > 0 {
            assert!(std::time::Instant::now() < until, "threads stay");
            std::thread::yield_now();
        }
    }
}
