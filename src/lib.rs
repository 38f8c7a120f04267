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

pub mod apart;
pub mod asks;
pub mod build;
pub mod cancel;
pub mod check;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod commits;
pub mod context;
pub mod cores;
pub mod detach;
pub mod doctor;
pub mod engine;
pub mod eta;
pub mod evaluation;
pub mod event;
pub mod execution;
pub mod exit;
pub mod explain;
pub mod filters;
pub mod fingerprint;
pub mod fs;
pub mod gantt;
pub mod git;
pub mod graph;
pub mod guarded;
pub mod here;
pub mod inputs;
pub mod isolation;
pub mod items;
pub mod judge;
pub mod keys;
pub mod lanes;
pub mod leaving;
pub mod lifecycle;
pub mod lint;
pub mod llm;
pub mod load;
pub mod make;
pub mod manifest;
pub mod mcp;
pub mod memo;
pub mod news;
pub mod notify;
pub mod only;
pub mod open;
pub mod open_files;
pub mod optimize;
pub mod order;
pub mod pattern;
pub mod process;
pub mod progress;
pub mod project;
pub mod proxy;
pub mod record;
pub mod recording;
pub mod render;
pub mod report;
pub mod resume;
pub mod runner;
pub mod runs;
pub mod shell_line;
pub mod signals;
pub mod simulate;
pub mod slots;
pub mod staleness;
pub mod standing;
pub mod store;
pub mod style;
pub mod survey;
pub mod texts;
pub mod touch;
pub mod units;
pub mod verdict;
pub mod versions;
pub mod watch;
pub mod words;
