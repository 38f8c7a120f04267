//! make for LLM pipelines.
//!
//! The program: the command line, its commands and the MCP server. The path of the data, and the crates it goes through:
//!
//! ```text
//! argv       this crate            a command and its options
//! manifest   pipeline              pipeline.toml and the texts it names, each fault with its line
//! graph      pipeline, engine      tasks, their files and dependencies
//! verdicts   build, engine         what is stale, and why
//! schedule   engine                what starts next, without I/O
//! run        build, llm            one attempt: a prompt, a command, a template
//! record     store, base::fs       what is on disk, in an order that a kill cannot spoil
//! report     ui, notify, query     what people and programs are shown
//! ```
//!
//! Imports go downward only; `docs/design.md` has the drawing and a line for each crate.

pub mod cli;
pub mod commands;
pub mod mcp;
pub mod ops;
pub mod serve;
pub mod signals_at_start;
