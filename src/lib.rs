//! make for LLM pipelines.

pub mod cancel;
pub mod llm;
pub mod manifest;
