//! Trying several texts of one prompt: the task is made alone, once for each text, model and reference run, scored by its
//! evaluator, and what came is compared.
//!
//! All trials of a task are tasks of one pipeline that is made up for them and built in a folder of its own,
//! `experiments/TASK`: so they are retried, limited, stopped and resumed as any tasks are. A trial's identity is the
//! content it is made from; what was tried once is never paid for again, in whichever experiment.

pub mod cells;
pub mod decide;
pub mod elo;
pub mod folder;
pub mod judge;
pub mod noise;
pub mod pairs;
pub mod promote;
pub mod reaches;
pub mod records;
pub mod results;
pub mod view;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use planexe_base::record::Digest;

/// A text of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// What it is called: `current`, or its file's stem.
    pub name: String,
    /// Digest of the text.
    pub blake3: Digest,
    /// Where it came from: a file, or who wrote it.
    pub from: String,
    /// The text.
    #[serde(skip)]
    pub text: String,
}

/// A run whose inputs of the task are used.
#[derive(Debug, Clone)]
pub struct Reference {
    /// What it is called: its folder.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Digest over all files.
    pub id: Digest,
    /// The files the task reads, by path, each with where it lies.
    pub files: Vec<(String, Digest, PathBuf)>,
    /// How many answers the task wants there: one, of a fan-out one for each item.
    pub answers: u64,
    /// Keys of the items that the task skips there, and no trial asks about.
    pub skipped: Vec<String>,
}

impl Reference {
    /// Where its files are copied to, below the folder of experiments, with a slash.
    pub fn folder(&self) -> String {
        format!("inputs/{}/", self.id.short())
    }
}

/// A trial: one draw of one text, asked of one model, with the inputs of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Digest of all it is made from, shortened.
    pub id: String,
    /// The name of its task, for people; it stays once it was given.
    pub name: String,
    /// Digest of the text.
    pub variant: Digest,
    /// The model, by its name in the pipeline.
    pub model: String,
    /// The run, by its name.
    pub run: String,
    /// Which draw, from 1.
    pub sample: u32,
}

impl Cell {
    /// Where its outputs lie, below the folder of experiments, with a slash.
    pub fn folder(&self) -> String {
        format!("cells/{}/", self.id)
    }
}
