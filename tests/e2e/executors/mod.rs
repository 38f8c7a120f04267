//! Work that outlives the build, and runs elsewhere: executors.

mod command;
mod detached;
mod keys;
mod services;
mod slurm;
