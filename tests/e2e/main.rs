//! The program from outside: every test runs the binary in a run directory of its own, against a
//! scripted model server that counts what it is asked. Nearly every test ends by building again and
//! expecting nothing to do.

#![allow(clippy::disallowed_methods, reason = "tests write files as a user would")]

#[path = "../support/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;

mod agents;
mod answer_schemas;
mod any_change;
mod attached;
mod batches;
mod bounded_work;
mod build_control;
mod caches;
mod calls;
mod canary;
mod checks;
mod closing_messages;
mod commands;
mod conditions;
mod counted;
mod crash;
mod damaged_state;
mod doctor;
mod durability;
mod edit_plan;
mod eval;
mod evidence;
mod execute;
mod executors;
mod facts;
mod fake_llm;
mod fallback;
mod faults;
mod flagship;
mod flagship_figures;
mod flagship_kept;
mod flagship_moved;
mod flagship_options;
mod flagship_report;
mod forced_end;
mod foreach;
mod gantt;
mod gates;
mod gates_example;
mod git_record;
mod hardening;
mod history_and_restore;
mod import;
mod import_whole;
mod interview;
mod isolate;
mod json_answers;
mod judge;
mod keys;
mod large_runs;
mod limits;
mod links_and_pipes;
mod make;
mod mcp;
mod moved_folders;
mod notify;
mod optimize;
mod outages;
mod outputs;
mod pairwise;
mod price_mode;
mod program_models;
mod prompt_cache;
mod random_pipelines;
mod read_only;
mod recipes;
mod refined;
mod releases;
mod reported_state;
mod retention;
mod scenarios;
mod seeing;
mod seen_waits;
mod servers;
mod staleness;
mod terminal;
mod ui;
mod untrusted_state;
mod usage_and_failures;
mod usage_limits;
mod user_mistakes;
mod visibility;
mod waiting;
mod watch;
