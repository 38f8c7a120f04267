//! Signals, as numbers over a channel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator;

use crate::exit::{self, Error, Kind};
use crate::forced_exit;

/// Signals that were sent to planexe.
#[derive(Debug)]
pub struct Signals {
    received: Receiver<i32>,
    /// Another program has the terminal.
    beside: Arc<AtomicBool>,
}

impl Signals {
    /// While another program has the terminal, SIGINT is meant for that one, and no signal here.
    pub fn beside_a_program(&self, is_so: bool) {
        self.beside.store(is_so, Ordering::SeqCst);
    }

    /// One that came already, and was not taken yet.
    pub fn pending(&self) -> Option<i32> {
        self.received.try_recv().ok()
    }

    /// All that come from now on, as long as planexe runs.
    pub fn forever(self) -> impl Iterator<Item = i32> {
        self.received.into_iter()
    }

    /// Waits for one, so long at most.
    pub fn within(&self, pause: Duration) -> Option<i32> {
        match self.received.recv_timeout(pause) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            // The process is being ended.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(pause);
                None
            }
        }
    }
}

/// Listens for SIGINT, SIGTERM and SIGHUP from now on. SIGHUP is left alone where it was ignored at the
/// start (`nohup`). After the second SIGINT, or any other, the process is gone a moment later, whether anybody
/// listens or not ([`forced_exit`]). An error where nobody could listen: nothing may begin that a signal would not end.
pub fn listen() -> Result<Signals, Error> {
    let (send, receive) = channel();
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored_at_start(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let beside = Arc::new(AtomicBool::new(false));
    let has_terminal = beside.clone();
    let listener = move |signals: &mut iterator::Signals| {
        let mut first = None;
        for signal in signals.forever() {
            if signal == SIGINT && has_terminal.load(Ordering::SeqCst) {
                continue;
            }
            let nobody = send.send(signal).is_err();
            if nobody || first.is_some() || signal != SIGINT {
                forced_exit::after_last(exit::of_signal(first.unwrap_or(signal)));
            }
            first.get_or_insert(signal);
        }
    };
    iterator::Signals::new(wanted)
        .and_then(|mut signals| {
            let thread = std::thread::Builder::new().name("signals".into()).stack_size(64 * 1024);
            thread.spawn(move || listener(&mut signals))
        })
        .map_err(|error| {
            Error::new(Kind::Internal, format!("cannot listen for signals, so nothing was begun: {error}"))
                .code("no_signals")
                .hint("`ulimit -u` shows how many processes and threads this user may have")
        })?;
    Ok(Signals { received: receive, beside })
}

/// From now on a write beyond `ulimit -f` is an error like that of a full disk, and not the end of planexe.
/// Programs that are started find the signal as it was.
pub fn survive_file_size_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Without the handler such a write is the end, as by default.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    });
}

/// Whether a signal was ignored when the process started.
#[cfg(target_os = "linux")]
fn is_ignored_at_start(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

/// Elsewhere `nohup` is told by what it sets up: no terminal on standard input, output or error.
#[cfg(not(target_os = "linux"))]
fn is_ignored_at_start(_signal: i32) -> bool {
    use std::io::IsTerminal;
    !std::io::stdin().is_terminal() && !std::io::stdout().is_terminal() && !std::io::stderr().is_terminal()
}
