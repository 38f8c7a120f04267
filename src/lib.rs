//! make for LLM pipelines.

pub mod cancel;
pub mod check;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod engine;
pub mod event;
pub mod exit;
pub mod fingerprint;
pub mod fs;
pub mod graph;
pub mod items;
pub mod keys;
pub mod llm;
pub mod manifest;
pub mod pattern;
pub mod process;
pub mod progress;
pub mod record;
pub mod render;
pub mod report;
pub mod slots;
pub mod staleness;
pub mod store;
pub mod style;
pub mod texts;
