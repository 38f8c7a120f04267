//! What the black-box tests stand on: a scripted model server ([`FakeLlm`]) and a run directory of
//! its own with the built program ([`Space`]). Knows the files and the command line, no code of `src/`.

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

/// The longest any test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often each task was called, for comparing with [`FakeLlm::counts`].
pub fn counts<const N: usize>(all: [(&str, usize); N]) -> BTreeMap<String, usize> {
    all.into_iter().map(|(task, n)| (task.to_owned(), n)).collect()
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
