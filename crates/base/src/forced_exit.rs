//! The end that nothing can hold up: a moment after planexe was told to end at once, the process is gone, whatever its
//! threads are busy with.
//!
//! It rests on nothing but a thread and a clock: a check that computes, a disk that does not answer, a lock that somebody
//! holds make no difference. What was to be written had its time; files are replaced whole, so none is left torn, and the
//! next build finds what a kill leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::process;

/// From the moment planexe is told to end at once until it is gone. Programs are asked to end at its beginning, and
/// killed before its end.
pub const LAST: Duration = Duration::from_millis(1500);

/// The process ends with this code within [`LAST`], if it has not ended by then. The first call counts.
pub fn soon(code: u8) {
    static ARMED: AtomicBool = AtomicBool::new(false);
    if ARMED.swap(true, Ordering::SeqCst) {
        return;
    }
    let end = move || {
        std::thread::sleep(LAST);
        process::kill_all();
        // Without what usually comes before: it could wait for a lock, or for a pipe that nobody reads.
        signal_hook::low_level::exit(code.into());
    };
    let _ = std::thread::Builder::new().name("leaving".into()).stack_size(64 * 1024).spawn(end);
}
