//! The single changes that all writing is made of: create, write, sync, remove.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use rustix::fs::OFlags;

use super::{At, Durability, Result, beneath, change, fault, group, optional, sync};

/// Writes all bytes; short writes and interruptions are gone on from.
pub(super) fn write_all(file: &mut impl Write, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while !bytes.is_empty() {
        match fault::point().and_then(|()| file.write(fault::piece(bytes))) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(n) => {
                written += n;
                bytes = &bytes[n..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Creates a file that must not be there.
pub(super) fn create(path: &Path, flags: OFlags, mode: u32) -> io::Result<File> {
    beneath::open(path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)
}

/// The permissions a new file gets, less what the user's mask takes from them.
pub(super) fn mode_of_new(path: &Path) -> u32 {
    if beneath::is_private(path) { 0o600 } else { 0o666 }
}

/// Syncs the names of a directory.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let file = open_dir(dir).at("write", dir)?;
    match sync(|| group::sync_all(&file)) {
        Err(error) if cannot_sync_dirs(&error) => Ok(()),
        result => result.at("write", dir),
    }
}

/// Some file systems cannot sync a directory; there is nothing more to do on them.
pub(super) fn cannot_sync_dirs(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error())
}

pub(super) fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// Removes a file or link; false if there was none.
pub fn remove(path: &Path) -> Result<bool> {
    Ok(optional(change(|| beneath::unlink(path)).at("remove", path))?.is_some())
}

/// [`remove`], and the directory synced if asked.
pub fn remove_durably(path: &Path, durability: Durability) -> Result<bool> {
    let removed = remove(path)?;
    if removed && durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(removed)
}

/// Opens a folder, to lock or sync it.
pub fn open_dir(dir: &Path) -> io::Result<File> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    beneath::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, 0)
}
