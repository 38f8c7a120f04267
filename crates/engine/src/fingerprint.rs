//! What a task is made from, part by part: the one place that says what counts.
//!
//! | recipe | parts |
//! |---|---|
//! | prompt | `system`, `prompt` (as rendered), `schema`, `check` |
//! | command | `command` (argv, working directory), `env.NAME`, `input.NAME`, `inputs`, `paths`, `item` |
//! | template, gate | `template`, `input.NAME`, `var.NAME`, `item` |
//! | human | `human`, `input.NAME` |
//! | further outputs | `output.N` (its template), and `input.NAME`, `var.NAME`, `item` where that uses them |
//! | with an evaluation | `eval` (what its evaluator is asked, and the threshold) |
//!
//! Inputs of a command may have the same name: those are told apart by their paths.
//!
//! Model, parameters, price, timeouts, retries, slots and descriptions do not count.

use indexmap::IndexMap;

use planexe_base::record::Digest;

/// The part that stands for the order of the inputs.
pub const ORDER: &str = "inputs";
/// The part that stands for the paths of the inputs: of the same content a command is given another argument.
pub const PATHS: &str = "paths";

/// The part that stands for the evaluation.
pub const EVAL: &str = "eval";

/// The parts of a task's making, in order, each with its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    parts: IndexMap<String, Digest>,
}

impl Fingerprint {
    /// A fingerprint that has no parts yet.
    pub fn new() -> Fingerprint {
        Fingerprint::default()
    }

    /// Adds a part by its bytes.
    pub fn add(&mut self, name: impl Into<String>, bytes: &[u8]) {
        self.add_digest(name, Digest::of(bytes));
    }

    /// Adds a part whose digest is known.
    pub fn add_digest(&mut self, name: impl Into<String>, digest: Digest) {
        self.parts.insert(name.into(), digest);
    }

    /// The digest of each part, by its name, in the order they were added.
    pub fn parts(&self) -> &IndexMap<String, Digest> {
        &self.parts
    }

    /// One digest over all parts but one.
    pub fn without(&self, part: &str) -> Digest {
        let mut parts = self.parts.clone();
        parts.shift_remove(part);
        digest_of(&parts)
    }

    /// One digest over all parts, whatever their order.
    pub fn digest(&self) -> Digest {
        digest_of(&self.parts)
    }
}

/// One digest over named digests, whatever their order.
pub fn digest_of(parts: &IndexMap<String, Digest>) -> Digest {
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, digest) in sorted {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(digest.0.len() as u64).to_le_bytes());
        hasher.update(digest.0.as_bytes());
    }
    Digest(hasher.finalize().to_hex().to_string())
}
