//! The program from outside: every test runs the binary in a run directory of its own, against a
//! scripted model server that counts what it is asked. Nearly every test ends by building again and
//! expecting nothing to do.

#![allow(clippy::disallowed_methods, reason = "tests write files as a user would")]

#[path = "../support/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;

mod any_change;
mod beneath;
mod big;
mod bounded;
mod broken;
mod caches;
mod calls;
mod canary;
mod checks;
mod commands;
mod crash;
mod described;
mod doctor;
mod durability;
mod edit_plan;
mod eval;
mod execute;
mod fake_llm;
mod fallback;
mod faults;
mod flagship;
mod foreach;
mod forgetting;
mod gantt;
mod gates;
mod gates_example;
mod git_record;
mod isolate;
mod keeping;
mod keys;
mod limits;
mod looking;
mod make;
mod mcp;
mod notify;
mod optimize;
mod outages;
mod pairwise;
mod places;
mod program;
mod programs;
mod random_pipelines;
mod recipes;
mod records;
mod results;
mod said;
mod seen;
mod servers;
mod skipping;
mod staleness;
mod steering;
mod terminal;
mod told;
mod trust;
mod waiting;
mod watch;
