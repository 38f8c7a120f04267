//! Work of many steps: on a terminal one sees how far it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Session;
use planexe_ui::progress::{self, Sink, Snapshot};

/// What is done by then shows nothing.
const QUIET: Duration = Duration::from_secs(1);
/// Between two looks how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// What looks and draws needs little.
const STACK: usize = 256 * 1024;

/// Counts what is done, from many threads.
#[derive(Debug, Default)]
pub struct Steps(AtomicUsize);

impl Steps {
    /// One more is done.
    pub fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Session {
    /// Does work of so many steps, which it counts. Where somebody looks on, they see how far it is.
    pub fn long<T>(&self, total: usize, work: impl FnOnce(&Steps) -> T) -> T {
        match self.progress {
            Some(options) => shown(QUIET, total, || progress::to_stderr(options), work),
            None => work(&Steps::default()),
        }
    }
}

/// Does the work; what takes longer than `quiet` is shown meanwhile.
fn shown<T>(
    quiet: Duration,
    total: usize,
    sink: impl FnOnce() -> Box<dyn Sink> + Send,
    work: impl FnOnce(&Steps) -> T,
) -> T {
    let steps = Steps::default();
    let (end, ended) = mpsc::channel::<()>();
    let done = &steps.0;
    let show = move || {
        let began = Instant::now();
        if ended.recv_timeout(quiet) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let mut sink = sink();
        loop {
            sink.tick(&Snapshot {
                elapsed_s: began.elapsed().as_secs_f64(),
                done: done.load(Ordering::Relaxed).min(total) as u32,
                total: total as u32,
                ..Snapshot::default()
            });
            if ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        sink.finish("");
    };
    thread::scope(|scope| {
        // Where no thread can be had, nothing is shown.
        let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, show);
        let made = work(&steps);
        drop(end);
        made
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_base::event::Event;

    /// Passes on what it is to show; the end as an empty snapshot.
    struct Told(mpsc::Sender<Snapshot>);

    impl Sink for Told {
        fn event(&mut self, _: &Event) {}

        fn tick(&mut self, snapshot: &Snapshot) {
            let _ = self.0.send(snapshot.clone());
        }

        fn finish(&mut self, closing: &str) {
            assert_eq!(closing, "");
            let _ = self.0.send(Snapshot::default());
        }
    }

    #[test]
    fn what_takes_long_shows_how_far_it_is_and_goes_when_it_is_done() {
        let (to, told) = mpsc::channel();
        let seen = shown(
            Duration::ZERO,
            3,
            || Box::new(Told(to)),
            |steps| {
                let begun = told.recv().expect("shown while it works");
                steps.one();
                steps.one();
                let further = told.iter().find(|snapshot| snapshot.done == 2).expect("it gets on");
                (begun.done, further.done, further.total)
            },
        );
        assert_eq!(seen, (0, 2, 3));
        assert_eq!(told.iter().last(), Some(Snapshot::default()), "its line goes");
    }

    #[test]
    fn what_is_done_soon_shows_nothing() {
        let hour = Duration::from_secs(3600);
        let done = shown(
            hour,
            1,
            || panic!("shown"),
            |steps| {
                steps.one();
                7
            },
        );
        assert_eq!(done, 7);
    }
}
