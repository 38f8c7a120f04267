//! Work that outlives the build, and runs elsewhere: executors.

mod detached;
mod keys;
