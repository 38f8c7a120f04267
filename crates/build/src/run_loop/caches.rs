//! What a build knows without looking, and what it learns for the next one.

use planexe_base::record::Digest;
use planexe_store::null_build::{Contents, UpToDate};

/// What a build knows without looking, and what it learns for the next one.
pub(super) struct Caches<'a> {
    /// What was known to be up to date when the build began.
    known: Option<&'a UpToDate>,
    /// What tasks that ran were given and left.
    contents: Contents,
    /// The moment before the first file was read that a verdict rests on, in nanoseconds since 1970: a file that changed
    /// later may have been read before it did.
    began_ns: i64,
}

impl<'a> Caches<'a> {
    pub(super) fn new(known: Option<&'a UpToDate>, began_ns: i64) -> Caches<'a> {
        Caches { known, contents: Contents::default(), began_ns }
    }

    pub(super) fn known(&self) -> Option<&'a UpToDate> {
        self.known
    }

    /// A task was known to be up to date when the build began.
    pub(super) fn was_up_to_date(&self, task: &str) -> bool {
        self.known.is_some_and(|known| known.contains(task))
    }

    /// What was known when the build began holds no longer.
    pub(super) fn forget_known(&mut self) {
        self.known = None;
    }

    /// A task that ran was given these files, or left them.
    pub(super) fn note(&mut self, contents: &[(String, Digest)]) {
        for (path, digest) in contents {
            self.contents.note(path, digest);
        }
    }

    pub(super) fn take_contents(&mut self) -> Contents {
        std::mem::take(&mut self.contents)
    }

    pub(super) fn began_ns(&self) -> i64 {
        self.began_ns
    }
}
