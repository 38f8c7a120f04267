//! What the black-box tests stand on: a scripted model server ([`FakeLlm`]) and a run directory of
//! its own with the built program ([`Space`]). Knows the files and the command line, no code of `src/`.

#[allow(dead_code, reason = "not every test is about batches")]
pub mod batching;
#[allow(dead_code, reason = "not every test looks at a bill")]
pub mod caching;
mod fifo;
mod llm;
mod schema;
mod space;
#[allow(dead_code, reason = "not every test has somebody at a terminal")]
pub mod terminal;
#[allow(dead_code, reason = "not every test plays bytes")]
pub mod wire;

pub use fifo::Fifo;
#[allow(unused_imports, reason = "not every test looks at requests")]
pub use llm::ChatRequest;
pub use llm::{Answer, FakeLlm};
pub use space::{Out, Running, Space};

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The longest any test waits for anything: only a test that fails comes to it, on however busy a machine.
pub const DEADLINE: Duration = Duration::from_secs(600);

/// Three tasks, each reading the one before.
#[allow(dead_code, reason = "not every test builds it")]
pub const CHAIN: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nGo on from: {{ a }}"

[task.c]
inputs = ["b.txt"]
outputs = ["c.txt"]
prompt = "TASK=c\nConclude from: {{ b }}"
"#;

/// A run of these tasks with a plan, `plan.txt`.
#[allow(dead_code, reason = "not every test has a plan")]
pub fn space(server: &FakeLlm, tasks: &str) -> Space {
    let space = Space::with(server, tasks);
    space.write("plan.txt", "Build a bridge.\n");
    space
}

/// Copies a program that is to be started. Another process does it: one that a test beside this one starts meanwhile would
/// hold the file open for writing, and it could not be executed ("text file busy").
#[allow(dead_code, reason = "not every test starts a copy")]
pub fn copy_program(from: impl AsRef<std::ffi::OsStr>, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "a copy at {}", to.display());
}

/// How often each task was called, for comparing with [`FakeLlm::counts`].
pub fn counts<const N: usize>(all: [(&str, usize); N]) -> BTreeMap<String, usize> {
    all.into_iter().map(|(task, n)| (task.to_owned(), n)).collect()
}

/// Runs a test that is about time: with clocks as they are and, if that fails, with all of them five and then
/// twenty-five times as slow, since a busy machine may hold up any process for a second. What the slowest say counts.
/// `test` is given the factor for every time it names.
#[allow(dead_code, reason = "not every test is about time")]
pub fn patiently(test: impl Fn(u32)) {
    for factor in [1, 5] {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(factor))).is_ok() {
            return;
        }
    }
    test(25);
}

/// A listener on a port that no other test is given by chance, not even after it was closed: outside the range that
/// systems choose from when asked for any port, or connect from.
#[allow(dead_code, reason = "not every test gives ports back")]
pub fn own_port() -> std::net::TcpListener {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    loop {
        let nth = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 12_000 + (std::process::id() * 97 + nth) % 18_000;
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener;
        }
    }
}

/// Polls until `condition` gives something; panics with `what` after [`DEADLINE`], or as soon as
/// every program this test has started has ended without it.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        let ended = space::all_ended();
        if let Some(value) = condition() {
            return value;
        }
        if let Some(said) = ended {
            panic!("the program ended before this came: {what}\n{said}");
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(4));
    }
}
