//! Work on what others wrote, which may take longer than anybody waits for: done in a thread of its own, which is left
//! behind when its time is over.
//!
//! No thread can be ended from outside. One that is left behind goes on computing until it is through or planexe ends;
//! it holds no lock and writes no file.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Stack of such a thread. Only what is used of it takes memory.
pub const STACK: usize = 64 << 20;
/// Where so much cannot be had. It is as much as the main thread of a program has.
const SMALL_STACK: usize = 8 << 20;
/// How often it is looked whether the result is still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// So long a thread that cannot be had is waited for: others of this kind end, and give their stacks back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The time was over.
    TimeOver,
    /// Nobody wants it any more.
    Unwanted,
    /// No thread could be started: there is no memory, or there are too many. Nothing is known of the work.
    NoThread,
    /// The work panicked.
    Failed,
}

/// What a thread does.
type Task = Box<dyn FnOnce() + Send>;

/// Does the work, for so long at most and as long as the result is wanted.
pub fn run<T: Send + 'static>(
    time: Duration,
    unwanted: &dyn Fn() -> bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Left> {
    let start = |thread: Task, stack| Builder::new().name("apart".into()).stack_size(stack).spawn(thread);
    run_on(&start, time, unwanted, work)
}

/// The same, with threads started by `start`, which is told the stack.
fn run_on<T: Send + 'static>(
    start: &dyn Fn(Task, usize) -> io::Result<JoinHandle<()>>,
    time: Duration,
    unwanted: &dyn Fn() -> bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Left> {
    let (send, receive) = channel();
    // A thread that is not started drops what it was given.
    let work = Arc::new(Mutex::new(Some(work)));
    let try_start = |stack| {
        let (send, work) = (send.clone(), work.clone());
        let thread = move || {
            let work = work.lock().take();
            drop(work.map(|work| send.send(work())));
        };
        start(Box::new(thread), stack)
    };
    let began = Instant::now();
    let handle = loop {
        match try_start(STACK).or_else(|_| try_start(SMALL_STACK)) {
            Ok(handle) => break handle,
            Err(_) if unwanted() => return Err(Left::Unwanted),
            Err(_) if began.elapsed() >= PATIENCE.min(time) => return Err(Left::NoThread),
            Err(_) => sleep(LOOK),
        }
    };
    drop(send);
    let end = Instant::now().checked_add(time);
    loop {
        let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
        match receive.recv_timeout(left.min(LOOK)) {
            Ok(result) => {
                // Its end takes no time: it has nothing left to do.
                let _ = handle.join();
                return Ok(result);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Left::Failed),
            Err(RecvTimeoutError::Timeout) if unwanted() => return Err(Left::Unwanted),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Left::TimeOver),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_left_behind() {
        let forever = || loop {
            std::thread::park();
        };
        assert_eq!(run(Duration::from_millis(1), &|| false, forever), Err::<(), _>(Left::TimeOver));
        assert_eq!(run(Duration::MAX, &|| true, forever), Err::<(), _>(Left::Unwanted));
        assert_eq!(run(Duration::MAX, &|| false, || 7), Ok(7));
        assert_eq!(run(Duration::MAX, &|| false, || panic!("of this test")), Err::<(), _>(Left::Failed));
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_waited_for() {
        let asked = std::cell::RefCell::new(Vec::new());
        let start = |thread: Task, stack| {
            asked.borrow_mut().push(stack);
            match asked.borrow().len() {
                1..=3 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Builder::new().spawn(thread),
            }
        };
        assert_eq!(run_on(&start, Duration::MAX, &|| false, || 7), Ok(7));
        assert_eq!(*asked.borrow(), [STACK, SMALL_STACK, STACK, SMALL_STACK]);
        let never = |_: Task, _| Err(io::ErrorKind::OutOfMemory.into());
        assert_eq!(run_on(&never, Duration::ZERO, &|| false, || 7), Err(Left::NoThread));
        assert_eq!(run_on(&never, Duration::MAX, &|| true, || 7), Err(Left::Unwanted));
    }

    #[test]
    fn it_has_room_for_deep_recursion() {
        fn deep(n: usize) -> usize {
            let here = std::hint::black_box([n; 16]);
            if n == 0 { 0 } else { deep(n - 1) + here[0] - n + 1 }
        }
        assert_eq!(run(Duration::MAX, &|| false, || deep(50_000)), Ok(50_000));
    }
}
