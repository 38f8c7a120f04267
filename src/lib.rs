//! make for LLM pipelines.

pub mod cancel;
pub mod clock;
pub mod engine;
pub mod event;
pub mod fingerprint;
pub mod graph;
pub mod llm;
pub mod manifest;
pub mod pattern;
pub mod process;
pub mod record;
pub mod slots;
pub mod staleness;
