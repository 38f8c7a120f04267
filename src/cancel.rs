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
    broken: Arc<AtomicBool>,
}

impl Cancel {
    /// A level of its own, `Running`.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Raises the level; a lower one changes nothing. Returns the level in force afterwards.
    pub fn raise(&self, level: Level) -> Level {
        self.level.fetch_max(level as u8, Ordering::SeqCst);
        self.level()
    }

    /// The level in force.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::SeqCst) {
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
