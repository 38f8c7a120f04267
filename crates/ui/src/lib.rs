//! What people and machines are shown: answers of commands as data and text, and the progress of a build.

pub mod page;
pub mod progress;
pub mod views;
