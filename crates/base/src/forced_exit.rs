//! The end that nothing can hold up: a moment after planexe was told to end at once, the process is gone, whatever its
//! threads are busy with.
//!
//! The thread that listens for signals carries it out itself, so that none has to be started for it. Should that thread be
//! held up, the system's timer ends the process. A check that computes, a disk that does not answer, a lock that somebody
//! holds make no difference. What was to be written had its time; files are replaced whole, so none is left torn, and
//! the next build finds what a kill leaves.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::SIGALRM;

use crate::children;

/// From the moment planexe is told to end at once until it is gone. Programs are asked to end at its beginning, and
/// killed before its end.
pub const LAST: Duration = Duration::from_millis(1500);
/// Programs that nobody else asks (git, which may finish what it began) have so long to take their lock files away.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// From that moment until the system's timer ends the process, if nothing else has.
const AT_THE_LATEST: Duration = Duration::from_millis(1750);

/// Ends the process with this code after [`LAST`], if it has not ended by then.
pub fn after_last(code: u8) -> ! {
    set_timer(code);
    std::thread::sleep(LAST - LAST_WORDS);
    children::ask_all();
    std::thread::sleep(LAST_WORDS);
    children::kill_all();
    // Without what usually comes before: it could wait for a lock, or for a pipe that nobody reads.
    signal_hook::low_level::exit(code.into());
}

/// Has the system end the process with this code. What still runs then is ended by its lifeline.
#[expect(unsafe_code, reason = "no crate of ours sets a timer that is there on Linux and macOS")]
fn set_timer(code: u8) {
    // The handler only ends the process, which is allowed in a handler. Without it SIGALRM does the same by default.
    let _ = signal_hook::flag::register_conditional_shutdown(
        SIGALRM,
        code.into(),
        Arc::new(AtomicBool::new(true)),
    );
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: AT_THE_LATEST.as_secs() as _,
            tv_usec: AT_THE_LATEST.subsec_micros() as _,
        },
    };
    // SAFETY: the timer is a local that outlives the call, and the former one is not asked for.
    unsafe {
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The process of the test below: no thread of it ends it.
    #[test]
    #[ignore = "ends its process"]
    fn held_up() {
        set_timer(77);
        loop {
            std::thread::park();
        }
    }

    #[test]
    fn the_timer_ends_a_process_whose_threads_do_not() {
        let this = std::env::current_exe().unwrap();
        let began = Instant::now();
        let arguments = ["--exact", "forced_exit::tests::held_up", "--ignored"];
        let out = std::process::Command::new(this).args(arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(77), "{out:?}");
        assert!(began.elapsed() >= AT_THE_LATEST && began.elapsed() < Duration::from_secs(10));
    }
}
