//! `pipeline.toml`: [`types`] says what it may hold, [`read`] fills the types from files and says
//! all that is wrong with them at once.

mod advice;
mod check;
mod de;
pub mod diagnostic;
pub mod executors;
mod include;
pub mod inputs;
mod merge;
pub mod names;
pub mod paths;
pub mod place;
pub mod read;
pub mod recipe;
pub mod run;
pub mod schema;
mod syntax;
pub mod tiers;
mod toml_text;
pub mod types;

pub use diagnostic::{At, Diagnostic, Diagnostics, FaultView, nearest, suggest, worth_a_search};
pub use place::{Origin, SourceFile, SourceSpan, Step, TablePath};
pub use read::near_file;
pub use read::{Manifest, ReadOptions};
pub use recipe::Recipe;
pub use run::RunFile;
pub use schema::json_schema;
pub use types::*;
