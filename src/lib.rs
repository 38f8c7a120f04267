//! make for LLM pipelines.

pub mod cancel;
pub mod clock;
pub mod event;
pub mod fs;
pub mod llm;
pub mod manifest;
pub mod record;
pub mod store;
