//! Work on what others wrote, which may take longer than anybody waits for: done in a thread of its own, which is left
//! behind when its time is over.
//!
//! No thread can be ended from outside. One that is left behind goes on computing until it is through or planexe ends;
//! it holds no lock and writes no file.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Stack of such a thread. Only what is used of it takes memory.
pub const STACK: usize = 64 << 20;
/// How often it is looked whether the result is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The time was over.
    TimeOver,
    /// Nobody wants it any more.
    Unwanted,
    /// The work panicked, or no thread could be started.
    Failed,
}

/// Does the work, for so long at most and as long as the result is wanted.
pub fn run<T: Send + 'static>(
    time: Duration,
    unwanted: &dyn Fn() -> bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Left> {
    let (send, receive) = channel();
    let thread = move || drop(send.send(work()));
    let builder = std::thread::Builder::new().name("apart".into()).stack_size(STACK);
    let Ok(handle) = builder.spawn(thread) else { return Err(Left::Failed) };
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
    fn it_has_room_for_deep_recursion() {
        fn deep(n: usize) -> usize {
            let here = std::hint::black_box([n; 16]);
            if n == 0 { 0 } else { deep(n - 1) + here[0] - n + 1 }
        }
        assert_eq!(run(Duration::MAX, &|| false, || deep(50_000)), Ok(50_000));
    }
}
