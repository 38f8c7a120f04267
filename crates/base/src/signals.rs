//! Signals, as numbers over a channel.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator;

use crate::exit;
use crate::forced_exit as leaving;

/// Signals that were sent to planexe.
#[derive(Debug)]
pub struct Signals(Receiver<i32>);

impl Signals {
    /// One that came already, and was not taken yet.
    pub fn pending(&self) -> Option<i32> {
        self.0.try_recv().ok()
    }

    /// All that come from now on, as long as planexe runs.
    pub fn forever(self) -> impl Iterator<Item = i32> {
        self.0.into_iter()
    }

    /// Waits for one, so long at most.
    pub fn within(&self, pause: Duration) -> Option<i32> {
        match self.0.recv_timeout(pause) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            // Nobody listens for them: they act as they do by default.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(pause);
                None
            }
        }
    }
}

/// Listens for SIGINT, SIGTERM and SIGHUP from now on. SIGHUP is left alone where it was ignored at the
/// start (`nohup`). After the second SIGINT, or any other, the process is gone a moment later, whether anybody
/// listens or not ([`leaving`]).
pub fn listen() -> Signals {
    listening(true)
}

/// [`listen`] while another program has the terminal: signals may be meant for it, and end nothing.
pub fn listen_beside_a_program() -> Signals {
    listening(false)
}

fn listening(ends: bool) -> Signals {
    let (send, receive) = channel();
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored_at_start(SIGHUP) {
        wanted.push(SIGHUP);
    }
    if let Ok(mut signals) = iterator::Signals::new(wanted) {
        let listener = move || {
            let mut first = None;
            for signal in signals.forever() {
                let nobody = send.send(signal).is_err();
                if ends && (nobody || first.is_some() || signal != SIGINT) {
                    leaving::soon(exit::of_signal(first.unwrap_or(signal)));
                }
                first.get_or_insert(signal);
            }
        };
        // Without the thread, signals act as they do by default.
        let _ = std::thread::Builder::new().name("signals".into()).stack_size(64 * 1024).spawn(listener);
    }
    Signals(receive)
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
