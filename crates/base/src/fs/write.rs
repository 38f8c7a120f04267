//! Writing: under a temporary name, then by rename; folders, links and copies; removing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::dirs::make_private_dir;
use super::primitive::{create, mode_of_new, sync_dir, sync_parent, write_all};
use super::read::{kind, not_regular};
use super::signature::FileKind;
use super::syncing::{Part, sync_parts};
use super::temp::{Temp, temp_beside, temp_in};
use super::{At, Durability, FsError, Result, beneath, change, group, retry, sync, unsynced};

pub(super) fn create_temp(path: &Path, mode: u32) -> io::Result<File> {
    change(|| create(path, OFlags::WRONLY, mode))
}

/// The permissions of the regular file that is about to be replaced; of one of ours that nobody else may read.
pub(super) fn mode_of(path: &Path) -> Option<u32> {
    let stat = beneath::look(path).ok().filter(|stat| stat.kind() == FileKind::File)?;
    Some(stat.mode() & if beneath::is_private(path) { 0o700 } else { 0o777 })
}

/// Replaces a file's content: after it, the name holds all the old bytes or all the new ones, at
/// every moment and for every reader. Its permissions stay. The directory must exist.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    write_via(path.parent().unwrap_or(Path::new("")), path, bytes, durability)
}

/// [`write_atomic`] for what nobody but the user may read: the file gets mode 600 whatever it had, and folders
/// that are made for it 700.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    make_private_dir(path.parent().unwrap_or(Path::new("")))?;
    let mut temp = Temp { path: temp_beside(path), armed: false };
    let mut file = create(&temp.path, OFlags::WRONLY, 0o600).at("write", path)?;
    temp.armed = true;
    write_all(&mut file, bytes).map_err(|(_, error)| error).at("write", path)?;
    retry(|| file.sync_all()).at("write", path)?;
    retry(|| beneath::rename(&temp.path, path)).at("write", path)?;
    temp.armed = false;
    sync_parent(path)
}

/// [`write_private`], unless there is a file of that name: then false, and that one stays.
pub fn write_private_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    make_private_dir(path.parent().unwrap_or(Path::new("")))?;
    let temp = Temp { path: temp_beside(path), armed: true };
    let mut file = create(&temp.path, OFlags::WRONLY, 0o600).at("write", path)?;
    write_all(&mut file, bytes).map_err(|(_, error)| error).at("write", path)?;
    retry(|| file.sync_all()).at("write", path)?;
    // A link, since a rename would take the place of one that came meanwhile.
    match retry(|| beneath::link(&temp.path, path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        linked => linked.at("write", path)?,
    }
    sync_parent(path)?;
    Ok(true)
}

/// [`write_atomic`] with the temporary name in another directory of the same file system.
pub fn write_via(temp_dir: &Path, path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    name_temp(write_temp(temp_in(temp_dir, name), path, bytes, durability)?, path, durability)
}

/// Gives a written temporary file its name.
fn name_temp(mut temp: Temp, path: &Path, durability: Durability) -> Result<()> {
    change(|| beneath::rename(&temp.path, path)).at("write", path)?;
    temp.armed = false;
    if durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(())
}

/// Writes a temporary file beside `target`, with the target's permissions. Its name is taken by
/// [`publish`].
pub fn write_beside(target: &Path, bytes: &[u8], durability: Durability) -> Result<PathBuf> {
    write_beside_as(target, bytes, mode_of(target), durability)
}

/// [`write_beside`] with these permissions; without any, those of a new file.
pub fn write_beside_as(
    target: &Path,
    bytes: &[u8],
    mode: Option<u32>,
    durability: Durability,
) -> Result<PathBuf> {
    let mut temp = write_temp_as(temp_beside(target), target, bytes, mode, durability)?;
    temp.armed = false;
    Ok(std::mem::take(&mut temp.path))
}

/// Takes space on the disk: a file of so many bytes, none of which means anything. Where space cannot be taken
/// otherwise, it is filled with `bytes`, such as no file system makes smaller.
pub fn reserve(path: &Path, length: u64, bytes: impl FnOnce() -> Vec<u8>) -> Result<()> {
    let temp = temp_beside(path);
    let mut file = create_temp(&temp, mode_of_new(path)).at("write", path)?;
    let mut temp = Temp { path: temp, armed: true };
    let flags = rustix::fs::FallocateFlags::empty();
    match change(|| rustix::fs::fallocate(&file, flags, 0, length).map_err(io::Error::from)) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {
            write_all(&mut file, &bytes()).map_err(|(_, error)| error).at("write", path)?;
        }
        taken => taken.at("write", path)?,
    }
    change(|| beneath::rename(&temp.path, path)).at("write", path)?;
    temp.armed = false;
    Ok(())
}

/// Writes a file under its final name at once; false if there is one already. Not for what is believed by its
/// name: a process that is killed, or a reader at the same time, may leave or see a part of it.
pub fn write_directly(path: &Path, bytes: &[u8]) -> Result<bool> {
    let mut file = match create_temp(path, mode_of_new(path)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        created => created.at("write", path)?,
    };
    let mut temp = Temp { path: path.to_owned(), armed: true };
    write_all(&mut file, bytes).map_err(|(_, error)| error).at("write", path)?;
    temp.armed = false;
    Ok(true)
}

fn write_temp(temp: PathBuf, target: &Path, bytes: &[u8], durability: Durability) -> Result<Temp> {
    write_temp_as(temp, target, bytes, mode_of(target), durability)
}

fn write_temp_as(
    temp: PathBuf,
    target: &Path,
    bytes: &[u8],
    mode: Option<u32>,
    durability: Durability,
) -> Result<Temp> {
    let mut file = create_temp(&temp, mode_of_new(target)).at("write", target)?;
    let temp = Temp { path: temp, armed: true };
    write_all(&mut file, bytes).map_err(|(_, error)| error).at("write", target)?;
    if let Some(mode) = mode {
        // Not every file system has permissions; the content matters.
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    if durability == Durability::Synced {
        sync(|| group::sync_all(&file)).at("write", target)?;
    }
    Ok(temp)
}

/// Writes a file that is not there, durably, with the temporary name in another directory of the same file system.
/// Its content, its name and the files `with`, if they are there, go to the disk at once: a reader never sees a part of
/// it, but a power cut before the return may leave the name with a part, or with the content of `with` not yet there. So
/// this is for files whose content shows whether it is whole.
pub fn write_fresh(temp_dir: &Path, path: &Path, bytes: &[u8], with: &[&Path]) -> Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    let mut temp = write_temp_as(temp_in(temp_dir, name), path, bytes, None, Durability::Unsynced)?;
    change(|| beneath::rename(&temp.path, path)).at("write", path)?;
    // A file that could not be synced may lose its content later, without another error: it does not stay.
    temp.path = path.to_owned();
    let parent = path.parent().unwrap_or(Path::new(""));
    let above = unsynced::needed(parent);
    let mut parts = vec![Part::content(path, path)?];
    parts.extend(Part::names_of(parent, &above)?);
    parts.extend(Part::of_named(with)?);
    sync_parts(parts)?;
    above.iter().for_each(|dir| unsynced::forget(dir));
    temp.armed = false;
    Ok(())
}

/// An error on `target` unless `path` is a regular file and no link to one.
pub fn require_plain(path: &Path, target: &Path) -> Result<()> {
    match kind(path)? {
        Some(FileKind::File) => Ok(()),
        Some(_) => Err(FsError::new(target, "write", not_regular())),
        None => Err(FsError::new(target, "write", ErrorKind::NotFound.into())),
    }
}

/// Gives finished temporary files their names, in order. Each must be a regular file; with
/// [`Durability::Synced`] their directories are synced, the files themselves must have been.
pub fn publish(temps: &[(PathBuf, PathBuf)], durability: Durability) -> Result<()> {
    for (temp, target) in temps {
        require_plain(temp, target)?;
    }
    give_names(temps, durability)
}

/// [`publish`] of files that were found to be regular ones when they were read or written.
pub fn give_names(temps: &[(PathBuf, PathBuf)], durability: Durability) -> Result<()> {
    for (temp, target) in temps {
        change(|| beneath::rename(temp, target)).at("write", target)?;
    }
    if durability == Durability::Synced {
        let dirs: BTreeSet<_> = temps.iter().filter_map(|(_, target)| target.parent()).collect();
        for dir in dirs {
            sync_dir(dir)?;
        }
    }
    Ok(())
}

/// Renames within one file system, replacing what has the new name.
pub fn rename(from: &Path, to: &Path, durability: Durability) -> Result<()> {
    change(|| beneath::rename(from, to)).at("rename", from)?;
    if durability == Durability::Synced {
        sync_parent(to)?;
        if from.parent() != to.parent() {
            sync_parent(from)?;
        }
    }
    Ok(())
}
