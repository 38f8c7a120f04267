//! Building a run: what is asked of a build, and how it is carried out.

mod options;

pub use options::{BuildOptions, rules};
