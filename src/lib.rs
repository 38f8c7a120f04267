//! make for LLM pipelines.

pub mod cancel;
pub mod keys;
pub mod llm;
pub mod manifest;
