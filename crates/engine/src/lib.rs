//! The engine: the graph of tasks, what makes a task stale, and what runs next. It has no I/O: events and times go in,
//! actions come out. So a build, a forecast and a seeded test with crashes at every step run the same code.

pub mod fingerprint;
pub mod graph;
pub mod scheduler;
pub mod slots;
pub mod staleness;
