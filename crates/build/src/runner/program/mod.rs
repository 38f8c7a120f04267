//! Programs: where they are, how they are started, and how they ended. Knows no outputs: commands and evaluators both use
//! it.

mod failures;
mod invocation;
mod lookup;

pub(super) use failures::{explain, is_end, left_behind, may_be_rescued, tail_of};
pub(super) use invocation::{FOLDER_VARIABLE, Invocation, Words, words_of};
pub use lookup::Programs;
