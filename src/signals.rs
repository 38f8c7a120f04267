//! Signals, as numbers over a channel.

use std::sync::mpsc::{Receiver, channel};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Listens for SIGINT, SIGTERM and SIGHUP from now on. SIGHUP is left alone where it was ignored at the
/// start (`nohup`).
pub fn listen() -> Receiver<i32> {
    let (send, receive) = channel();
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored_at_start(SIGHUP) {
        wanted.push(SIGHUP);
    }
    if let Ok(mut signals) = Signals::new(wanted) {
        let listener = move || {
            for signal in signals.forever() {
                if send.send(signal).is_err() {
                    return;
                }
            }
        };
        // Without the thread, signals act as they do by default.
        let _ = std::thread::Builder::new().name("signals".into()).stack_size(64 * 1024).spawn(listener);
    }
    receive
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
