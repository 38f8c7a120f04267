//! `pipeline.toml` as it is written: [`types`] says what it may hold.

pub mod types;

pub use types::*;
