//! Tests make the n-th change to the disk fail, once or from then on, to see what each would leave. Always compiled, so
//! that the tests of every crate drive the program's own code; unarmed it is one look at a thread-local.

use std::cell::Cell;
use std::io;

thread_local! {
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static STICKY: Cell<bool> = const { Cell::new(false) };
    static FIRED: Cell<bool> = const { Cell::new(false) };
    static USED: Cell<bool> = const { Cell::new(false) };
}

/// A thread that ever used faults is not after what a power cut leaves.
pub(super) fn skip_sync() -> bool {
    USED.get()
}

/// Lets `after` changes of this thread pass, then fails one, or with `sticky` all.
pub fn arm(after: u64, sticky: bool) {
    LEFT.set(Some(after));
    STICKY.set(sticky);
    FIRED.set(false);
    USED.set(true);
}

/// Ends it; returns whether a change was made to fail.
pub fn disarm() -> bool {
    LEFT.set(None);
    FIRED.get()
}

/// While armed, writes are short, so that a fault can come in the middle.
pub(super) fn piece(bytes: &[u8]) -> &[u8] {
    if LEFT.get().is_some() { &bytes[..bytes.len().div_ceil(2)] } else { bytes }
}

pub(super) fn point() -> io::Result<()> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            FIRED.set(true);
            if !STICKY.get() {
                LEFT.set(None);
            }
            Err(io::ErrorKind::StorageFull.into())
        }
        Some(left) => {
            LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}
