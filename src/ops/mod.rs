//! What can be done with a run, by a command or by an agent: typed options in, typed results out. Nothing here reads a
//! command line or prints; who asked lays out the answer.

pub mod archive;
pub mod build;
pub mod clean;
pub mod deliver;
pub mod detach;
pub mod edit_plan;
pub mod evidence;
pub mod execute;
pub mod explain;
pub mod files;
pub mod former;
pub mod import;
pub mod interview;
pub mod keys;
pub mod list;
mod long_work;
pub mod names;
pub mod new;
pub mod optimize;
pub mod plan;
pub mod plan_input;
pub mod records;
pub mod report;
pub mod restore;
pub mod resume;
pub mod retry;
pub mod session;
pub mod show;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod wait;

pub use session::{Base, LockOptions, Session};
