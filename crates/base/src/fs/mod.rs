//! Everything that touches the disk: the only place that creates, writes, renames, links or removes.
//!
//! A file under a final name is never written in place: bytes go to a temporary name beside it, are
//! synced if asked, and take the name by rename (but for [`write_directly`], whose files are believed by their
//! digest alone). Links are not followed when writing: a temporary
//! name is created anew, and a final name that is a link is replaced itself. Below a run directory no link is followed at
//! all, but by what reads inputs: see [`hold`] and [`linked`]. Reading and appending open regular files alone, so that a
//! pipe put in a file's place cannot hang a build.

#![expect(clippy::disallowed_methods, reason = "this is the one place that writes")]

mod append;
mod beneath;
mod copying;
mod dirs;
pub mod fault;
mod group;
pub mod linked;
mod primitive;
mod read;
mod signature;
mod socket;
mod syncing;
mod temp;
#[cfg(test)]
mod test;
mod unsynced;
mod write;

pub use append::*;
pub use beneath::{Held, hold, make_private};
pub use copying::*;
pub use dirs::*;
pub use group::each;
pub use primitive::*;
pub use read::*;
pub use signature::*;
pub use socket::Socket;
pub use syncing::*;
pub use temp::*;
pub use write::*;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// How every temporary file of ours begins, but for the dot that hides those no command sees. Globs and watchers pass
/// such names over.
pub const TEMP_PREFIX: &str = "planexe-tmp-";

/// The longest file name the usual file systems take, in bytes.
pub const NAME_MAX: usize = 255;

/// An access to a file that failed: which file, what was tried, why.
#[derive(Debug)]
pub struct FsError {
    /// The file.
    pub path: PathBuf,
    /// What was tried, as in "cannot write": `read`, `write`, `remove`, …
    pub op: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

/// The usual result of this module.
pub type Result<T, E = FsError> = std::result::Result<T, E>;

impl FsError {
    /// An error on a file.
    pub fn new(path: impl Into<PathBuf>, op: &'static str, source: io::Error) -> FsError {
        FsError { path: path.into(), op, source }
    }

    /// The kind of the cause.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }

    /// No space, or no quota, is left: nothing more that has to be recorded should be started.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// The same error with the path shown relative to a directory, if it lies in it.
    pub fn within(mut self, dir: &Path) -> FsError {
        if let Ok(relative) = self.path.strip_prefix(dir)
            && !relative.as_os_str().is_empty()
        {
            self.path = relative.to_owned();
        }
        self
    }

    /// The cause in words, without "os error".
    pub fn reason(&self) -> String {
        // A cause in our own words stands as it is.
        if let Some(own) = self.source.get_ref() {
            return own.to_string();
        }
        reason_of(&self.source)
    }
}

/// What an error of the system says, in words, without "os error".
pub fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull => "no space left on device".to_owned(),
        ErrorKind::QuotaExceeded => "disk quota exceeded".to_owned(),
        ErrorKind::FileTooLarge => "larger than files may be (`ulimit -f`, or the file system)".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "read-only file system".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => {
            let text = without_number(error);
            let mut chars = text.chars();
            match chars.next() {
                Some(first) => first.to_lowercase().chain(chars).collect(),
                None => "unknown error".to_owned(),
            }
        }
    }
}

/// What an error says, without "os error" and its number.
pub fn without_number(error: &io::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    text
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.op, self.path.display(), self.reason())
    }
}

// The message holds the cause already: no `source`, or a chain would say it twice.
impl std::error::Error for FsError {}

/// Adds path and operation to an `io::Result`.
trait At<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| FsError::new(path, op, source))
    }
}

/// Whether a write must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced, file and directory, before the call returns.
    Synced,
    /// Whole or not there to every process, but a power cut may lose it.
    Unsynced,
}

/// A change to the disk: gone on with after an interruption.
fn change<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry(|| {
        fault::point()?;
        f()
    })
}

/// A sync. Tests with faults count it and leave the device alone.
fn sync(mut f: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    change(|| if fault::skip_sync() { Ok(()) } else { f() })
}

fn retry<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Turns "there is no such file" into `None`.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Turns "there is no such file", and "it is no file to be read", into `None`: that is so whenever it is read. What the
/// disk could not do may work another time, and is an error.
pub fn if_content<T>(result: Result<T>) -> Result<Option<T>> {
    use ErrorKind::{FileTooLarge, InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound};
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            NotFound | NotADirectory | IsADirectory | InvalidInput | InvalidData | FileTooLarge => Ok(None),
            _ => Err(error),
        },
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
