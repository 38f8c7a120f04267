//! What everything else rests on: files, processes, time, digests, records and text. It knows no task graph.

pub mod call;
pub mod cancel;
pub mod children;
pub mod clock;
pub mod cores;
pub mod event;
pub mod exit;
pub mod failure_class;
pub mod forced_exit;
pub mod fs;
pub mod limits;
pub mod machine;
pub mod message;
pub mod open_files;
pub mod pattern;
pub mod prefix;
pub mod process;
pub mod record;
pub mod run_phase;
pub mod shape;
pub mod signals;
pub mod span;
pub mod style;
pub mod time_boxed;
