//! The cancel level of a build: one shared, ordered value that only rises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How far a build has been told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Go on.
    Running = 0,
    /// Start nothing; what runs finishes and is recorded.
    Draining = 1,
    /// Calls are cancelled, children are ended.
    Killing = 2,
}

/// A handle on the level, shared by all threads.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    level: Arc<AtomicU8>,
    /// The level of the whole build, for one of a single task.
    whole: Option<Arc<AtomicU8>>,
    broken: Arc<AtomicBool>,
}

impl Cancel {
    /// A level of its own, `Running`.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// One that can be raised by itself, and is never below this one.
    pub fn of_one(&self) -> Cancel {
        Cancel { level: Arc::default(), whole: Some(self.level.clone()), broken: self.broken.clone() }
    }

    /// Raises the level; a lower one changes nothing. Returns the level in force afterwards.
    pub fn raise(&self, level: Level) -> Level {
        self.level.fetch_max(level as u8, Ordering::SeqCst);
        self.level()
    }

    /// The level in force.
    pub fn level(&self) -> Level {
        let whole = self.whole.as_ref().map_or(0, |whole| whole.load(Ordering::SeqCst));
        match self.level.load(Ordering::SeqCst).max(whole) {
            0 => Level::Running,
            1 => Level::Draining,
            _ => Level::Killing,
        }
    }

    /// Records cannot be written: from this moment on no call begins, not even in an attempt that was
    /// handed out already.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.raise(Level::Draining);
    }

    /// Whether records cannot be written.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// Whether calls and children are to end at once.
    pub fn is_killing(&self) -> bool {
        self.level() == Level::Killing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_can_be_cancelled_alone() {
        let all = Cancel::new();
        let (one, other) = (all.of_one(), all.of_one());
        one.raise(Level::Killing);
        assert_eq!(
            (all.level(), one.level(), other.level()),
            (Level::Running, Level::Killing, Level::Running)
        );
        all.raise(Level::Draining);
        assert_eq!((one.level(), other.level()), (Level::Killing, Level::Draining));
    }
}
