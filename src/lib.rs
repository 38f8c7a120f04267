//! make for LLM pipelines.

pub mod cancel;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod event;
pub mod exit;
pub mod llm;
pub mod manifest;
pub mod progress;
pub mod record;
pub mod report;
pub mod style;
