//! make for LLM pipelines.

pub mod cancel;
pub mod check;
pub mod items;
pub mod llm;
pub mod manifest;
pub mod render;
pub mod texts;
