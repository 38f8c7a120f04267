//! Syncing what was written: files one by one, several at once, or all of a file system.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::primitive::{cannot_sync_dirs, open_dir};
use super::read::open_regular;
use super::{At, FsError, Result, group, optional, sync};

/// Syncs a file's content, whoever wrote it.
pub fn sync_file(path: &Path) -> Result<()> {
    let (file, _) = open_regular(path)?;
    sync(|| group::sync_all(&file)).at("write", path)
}

/// From so many files on, one sync of the whole file system is less than a sync of each.
const MANY: usize = 16;

/// Syncs the contents of files, most of which are on the file system of a directory.
pub fn sync_files(dir: &Path, files: &[&Path]) -> Result<()> {
    if files.len() >= MANY && can_sync_together(dir) {
        let here = |file: &Path| on_same_device(dir, file.parent().unwrap_or(dir));
        files.iter().filter(|file| !here(file)).try_for_each(|file| sync_file(file))?;
        return sync_file_system(dir);
    }
    let parts: Result<Vec<_>> = files.iter().map(|file| Part::content(file, file)).collect();
    sync_parts(parts?)
}

/// Syncs the contents of temporary files, each given with the name it is to get, and of others, as far as they are there,
/// content and name: in one go.
pub fn sync_temps(temps: &[(PathBuf, PathBuf)], named: &[&Path]) -> Result<()> {
    let mut parts = Vec::new();
    for (temp, target) in temps {
        parts.push(Part::content(temp, target)?);
    }
    parts.extend(Part::of_named(named)?);
    sync_parts(parts)
}

/// A file or a folder that is synced with others.
pub(super) struct Part<'a> {
    /// What an error is told of.
    path: &'a Path,
    file: File,
    device: u64,
    is_dir: bool,
}

impl<'a> Part<'a> {
    pub(super) fn content(file: &Path, path: &'a Path) -> Result<Part<'a>> {
        let (file, metadata) =
            open_regular(file).map_err(|error| FsError::new(path, "write", error.source))?;
        Ok(Part { path, file, device: metadata.dev(), is_dir: false })
    }

    pub(super) fn names(path: &'a Path) -> Result<Part<'a>> {
        let file = open_dir(path).at("write", path)?;
        let device = super::retry(|| file.metadata()).at("write", path)?.dev();
        Ok(Part { path, file, device, is_dir: true })
    }

    /// The names in a directory, and those of directories above it.
    pub(super) fn names_of(parent: &'a Path, above: &'a [PathBuf]) -> Result<Vec<Part<'a>>> {
        let dirs = above.iter().map(|dir| dir.parent().unwrap_or(Path::new("")));
        std::iter::once(parent).chain(dirs).map(Part::names).collect()
    }

    /// Content and name of the files that are there.
    pub(super) fn of_named(paths: &[&'a Path]) -> Result<Vec<Part<'a>>> {
        let mut parts = Vec::new();
        for path in paths {
            if let Some(part) = optional(Part::content(path, path))? {
                parts.extend([part, Part::names(path.parent().unwrap_or(Path::new("")))?]);
            }
        }
        Ok(parts)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            Err(error) if self.is_dir && cannot_sync_dirs(&error) => Ok(()),
            synced => synced,
        }
    }
}

/// Syncs all parts, those of one file system together with what other threads sync there.
pub(super) fn sync_parts(mut parts: Vec<Part<'_>>) -> Result<()> {
    parts.sort_by_key(|part| part.device);
    for same in parts.chunk_by(|one, other| one.device == other.device) {
        let own = || same.iter().try_for_each(Part::sync);
        sync(|| group::sync_with(&same[0].file, own)).at("write", same[0].path)?;
    }
    Ok(())
}

/// Whether all of the file system a directory is on can be synced at once.
#[cfg(target_os = "linux")]
pub fn can_sync_together(dir: &Path) -> bool {
    open_dir(dir).is_ok_and(|dir| group::keeps_contents(&dir))
}

/// Whether all of the file system a directory is on can be synced at once.
#[cfg(not(target_os = "linux"))]
pub fn can_sync_together(_: &Path) -> bool {
    false
}

/// Syncs the file system a directory is on: every content and every name.
#[cfg(target_os = "linux")]
pub fn sync_file_system(dir: &Path) -> Result<()> {
    let file = open_dir(dir).at("write", dir)?;
    sync(|| rustix::fs::syncfs(&file).map_err(io::Error::from)).at("write", dir)
}

/// Not to be had: see [`can_sync_together`].
#[cfg(not(target_os = "linux"))]
pub fn sync_file_system(dir: &Path) -> Result<()> {
    Err(FsError::new(dir, "write", io::ErrorKind::Unsupported.into()))
}

/// Whether two directories are on one file system.
pub fn on_same_device(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev(),
        _ => false,
    }
}
