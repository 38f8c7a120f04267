//! What planexe inherits of signals from whoever starts it: a supervisor may block them or ignore SIGTERM, and then no
//! handler, and no default, would end planexe when it is told to.

use std::mem::MaybeUninit;

/// Has SIGINT, SIGTERM and SIGHUP reach this process, and SIGTERM end it unless somebody listens. The same for SIGALRM, by
/// which a forced end is timed. SIGHUP and SIGINT stay
/// ignored if they are: `nohup` and shells in the background mean it. To be called before any thread begins.
#[expect(unsafe_code, reason = "no crate of ours changes the mask of a thread")]
pub fn make_them_reach() {
    // SAFETY: the set is initialised by `sigemptyset` before it is used, every pointer is to a local that outlives the
    // call, and no other thread runs yet that could have set a handler of its own.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGALRM] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}
