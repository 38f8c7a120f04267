//! What a task does when it runs, a file per recipe.

pub mod expand;
