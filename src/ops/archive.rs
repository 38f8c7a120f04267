//! Puts a run aside, takes it back, or removes it.

use crate::ops::Session;
use planexe_base::exit::{Error, Kind};
use planexe_base::style::shell_path;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::runs::{self, Unmoved};
use planexe_store::lock::{RunLock, Wait};
use std::path::{Path, PathBuf};

/// Moves it, under its lock.
pub fn archive(dir: &Path, back: bool) -> Result<PathBuf, Error> {
    runs::archive(dir, back).map_err(|error| unmoved(dir, error))
}

/// The folder of a run that is named, which must be one and no link.
pub fn run_dir(named: &Path) -> Result<PathBuf, Error> {
    let dir = std::path::absolute(named)?;
    // `.` and `..` have no name of their own to be moved under.
    let dir =
        if dir.file_name().is_some() && named.file_name().is_some() { dir } else { dir.canonicalize()? };
    if runs::is_run(&dir) {
        return Ok(dir);
    }
    Err(Error::usage(format!("`{}` is no run", shown_path(named)))
        .code("no_run")
        .hint("`planexe list` lists the runs of a folder"))
}

/// The lock of a run that is to be moved or removed.
pub fn lock(session: &Session, dir: &Path) -> Result<RunLock, Error> {
    RunLock::acquire(dir, Wait::No).map_err(|error| session.lock_error(&error))
}

/// Why a run stays where it is.
pub fn unmoved(dir: &Path, error: Unmoved) -> Error {
    let shown = shown_path(dir);
    match error {
        Unmoved::HoldsMore(what) => {
            Error::new(Kind::Refused, format!("`{shown}` is more than a run: {what}"))
                .code("more_than_a_run")
                .hint(format!("look at what is in it; `rm -r {}` removes it all the same", shell_path(dir)))
        }
        Unmoved::Taken => {
            Error::new(Kind::Refused, format!("there is something of the new name of `{shown}`"))
                .code("name_taken")
                .hint("rename one of the two")
        }
        Unmoved::Fs(error) => {
            Error::new(Kind::Internal, format!("the run `{shown}` cannot be moved")).because(&error)
        }
    }
}

/// Removes it, under its lock.
pub fn delete(dir: &Path) -> Result<(), Error> {
    runs::remove(dir).map_err(|error| unmoved(dir, error))
}
