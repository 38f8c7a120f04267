//! A build: the loop that carries out the engine's actions, the runners that make a task, and what is judged before.

pub mod check_staleness;
pub mod eta;
pub mod eval_request;
pub mod executor;
pub mod git;
pub mod git_recorder;
pub mod git_under_way;
pub mod isolation;
pub mod jobserver;
pub mod lifecycle;
pub mod output_times;
pub mod run_loop;
pub mod runner;
pub mod touch;
