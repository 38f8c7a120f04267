//! make for LLM pipelines.
//!
//! The path of the data, and the modules it goes through:
//!
//! ```text
//! argv       cli, commands        what was typed
//! manifest   manifest, texts      pipeline.toml and the texts it names, each fault with its place
//! graph      load, graph          tasks, their files, and who waits for whom
//! verdicts   judge, staleness     what is stale, and why
//! schedule   engine, slots        what runs next, without I/O
//! run        build, runner, llm   one attempt at a time: a prompt, a command, a template
//! record     store, fs            what is on disk, in the order that a kill cannot spoil
//! report     report, progress     what is told of it
//! ```
//!
//! Imports go downward only; `docs/design.md` has the whole table.

pub mod cli;
pub mod commands;
pub mod detach;
pub mod mcp;
