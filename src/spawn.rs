//! Starting programs that are many and short: `posix_spawn` with an environment that is made once.
//!
//! The standard library does the same (and is what everything else is started by), but sorts and copies the whole
//! environment for each program that sees another than planexe's own, and duplicates each file it is given. That
//! is half of what starting one costs here.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Pid;

/// Variables as programs are given them.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only what starts a program reads them"))]
pub struct Environment(Vec<CString>);

impl Environment {
    /// planexe's own, without those named, and with others.
    #[expect(clippy::disallowed_methods, reason = "it is handed on, not read")]
    pub fn own(without: &[String], with: &[(&str, &OsStr)]) -> Environment {
        let hidden = |name: &OsStr| {
            without.iter().any(|hidden| name == hidden.as_str())
                || with.iter().any(|(replaced, _)| name == *replaced)
        };
        let mut variables: Vec<CString> = Vec::new();
        let mut add =
            |name: &[u8], value: &[u8]| variables.extend(CString::new([name, b"=", value].concat()));
        for (name, value) in std::env::vars_os().filter(|(name, _)| !hidden(name)) {
            add(name.as_bytes(), value.as_bytes());
        }
        for (name, value) in with {
            add(name.as_bytes(), value.as_bytes());
        }
        Environment(variables)
    }
}

/// A program to be started.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its name as it is given it, then the arguments.
    pub words: &'a [String],
    /// Where it runs.
    pub place: &'a Path,
    /// Its variables.
    pub environment: &'a Environment,
    /// Its standard input, output and error: none of them a standard stream of planexe.
    pub streams: [BorrowedFd<'a>; 3],
}

/// Whether [`Program::start`] can start any.
pub const CAN_START: bool = cfg!(target_os = "linux");

#[cfg(not(target_os = "linux"))]
impl Program<'_> {
    /// Not to be had: see [`CAN_START`].
    pub fn start(&self) -> io::Result<Pid> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
impl Program<'_> {
    /// Starts it, in a process group of its own.
    pub fn start(&self) -> io::Result<Pid> {
        let path = CString::new(self.path.as_os_str().as_bytes())?;
        let place = CString::new(self.place.as_os_str().as_bytes())?;
        let words: Vec<CString> =
            self.words.iter().map(|word| CString::new(word.as_bytes())).collect::<Result<_, _>>()?;
        let (argv, envp) = (pointers(&words), pointers(&self.environment.0));
        linux::start(&path, &place, &argv, &envp, self.streams)
    }
}

/// The addresses of strings, and none after the last.
#[cfg(target_os = "linux")]
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::sync::OnceLock;

    use rustix::process::Pid;

    /// The answer of a function that returns the number of its error.
    fn checked(answer: libc::c_int) -> io::Result<()> {
        if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(answer)) }
    }

    struct Actions(libc::posix_spawn_file_actions_t);

    impl Drop for Actions {
        fn drop(&mut self) {
            // SAFETY: it was made by `posix_spawn_file_actions_init` and is destroyed once.
            unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
        }
    }

    struct Attributes(libc::posix_spawnattr_t);

    impl Drop for Attributes {
        fn drop(&mut self) {
            // SAFETY: it was made by `posix_spawnattr_init` and is destroyed once.
            unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
        }
    }

    /// Signals that a program is to find as they are by default: SIGPIPE, which planexe ignores for itself, and all
    /// that are not ignored. The others are so anyway; to be told which spares the child the question, for each.
    fn by_default() -> &'static libc::sigset_t {
        static SET: OnceLock<libc::sigset_t> = OnceLock::new();
        SET.get_or_init(|| {
            let mut set = MaybeUninit::uninit();
            // SAFETY: `sigemptyset` fills the set in before it is used; `sigaction` without a new action only fills
            // in the old one, which is read where it says that it did.
            unsafe {
                libc::sigemptyset(set.as_mut_ptr());
                let mut set = set.assume_init();
                for signal in 1..=libc::SIGRTMAX() {
                    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
                    let known = libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0;
                    let ignored = action.assume_init().sa_sigaction == libc::SIG_IGN;
                    if signal == libc::SIGPIPE || known && !ignored {
                        libc::sigaddset(&mut set, signal);
                    }
                }
                set
            }
        })
    }

    pub(super) fn start(
        path: &CStr,
        place: &CStr,
        argv: &[*mut libc::c_char],
        envp: &[*mut libc::c_char],
        streams: [BorrowedFd<'_>; 3],
    ) -> io::Result<Pid> {
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let mut pid = 0;
        // SAFETY: actions and attributes are used only after they were made and destroyed when they go; all strings
        // end with a zero byte, both lists with a null pointer, and all outlive the call.
        unsafe {
            let mut made = MaybeUninit::uninit();
            checked(libc::posix_spawn_file_actions_init(made.as_mut_ptr()))?;
            let mut actions = Actions(made.assume_init());
            for (stream, number) in streams.iter().zip(0..) {
                checked(libc::posix_spawn_file_actions_adddup2(&mut actions.0, stream.as_raw_fd(), number))?;
            }
            checked(libc::posix_spawn_file_actions_addchdir_np(&mut actions.0, place.as_ptr()))?;
            let mut made = MaybeUninit::uninit();
            checked(libc::posix_spawnattr_init(made.as_mut_ptr()))?;
            let mut attributes = Attributes(made.assume_init());
            let mut none = MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            checked(libc::posix_spawnattr_setpgroup(&mut attributes.0, 0))?;
            checked(libc::posix_spawnattr_setsigmask(&mut attributes.0, none.as_ptr()))?;
            checked(libc::posix_spawnattr_setsigdefault(&mut attributes.0, by_default()))?;
            checked(libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short))?;
            checked(libc::posix_spawn(
                &mut pid,
                path.as_ptr(),
                &actions.0,
                &attributes.0,
                argv.as_ptr(),
                envp.as_ptr(),
            ))?;
        }
        Pid::from_raw(pid).ok_or_else(|| io::Error::other("the system gave no process id"))
    }
}
