//! Copies and second names of files.

use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::primitive::{mode_of_new, sync_parent, write_all};
use super::read::{buffer_for, kind, open_regular};
use super::signature::FileKind;
use super::syncing::sync_file;
use super::temp::{Temp, temp_beside, temp_in};
use super::write::{create_temp, mode_of};
use super::{At, Durability, Result, beneath, change, group, retry, sync};

/// Files from this size on are linked rather than copied.
pub(super) const LINK_FROM: u64 = 1 << 20;

/// Gives a large file's content a second name; false if it is small, has other names already, or the
/// file system refuses. Safe only because the caller is about to take the first name away: until then
/// a write in place changes both.
pub fn link_large(from: &Path, to: &Path, durability: Durability) -> Result<bool> {
    let (_, metadata) = open_regular(from)?;
    let plain = beneath::look(from).is_ok_and(|stat| stat.kind() == FileKind::File && stat.links() == 1);
    if !plain || metadata.len() < LINK_FROM || kind(to)?.is_some() {
        return Ok(false);
    }
    if change(|| beneath::link(from, to)).is_err() {
        return Ok(false);
    }
    if durability == Durability::Synced {
        sync_file(to)?;
        sync_parent(to)?;
    }
    Ok(true)
}

/// Copies a regular file to a temporary name in a directory, permissions included.
pub fn copy_to_temp(from: &Path, dir: &Path, durability: Durability) -> Result<PathBuf> {
    let temp = temp_in(dir, from.file_name().unwrap_or(OsStr::new("file")));
    copy_as(from, temp, |metadata| Some(metadata.mode() & 0o777), durability)
}

/// [`copy_to_temp`] of what nobody but the user may read.
pub fn copy_to_private_temp(from: &Path, dir: &Path, durability: Durability) -> Result<PathBuf> {
    let temp = temp_in(dir, from.file_name().unwrap_or(OsStr::new("file")));
    copy_as(from, temp, |_| Some(0o600), durability)
}

/// Copies a regular file to a temporary name beside `target`, with the target's permissions:
/// [`write_beside`](super::write_beside) of what may be large.
pub fn copy_beside(from: &Path, target: &Path, durability: Durability) -> Result<PathBuf> {
    copy_as(from, temp_beside(target), |_| mode_of(target), durability)
}

fn copy_as(
    from: &Path,
    path: PathBuf,
    mode: impl Fn(&Metadata) -> Option<u32>,
    durability: Durability,
) -> Result<PathBuf> {
    let (mut source, metadata) = open_regular(from)?;
    let mut file = create_temp(&path, mode_of_new(&path)).at("write", &path)?;
    let mut temp = Temp { path, armed: true };
    if !reflink(&source, &file) {
        let mut buffer = buffer_for(metadata.len());
        loop {
            let n = retry(|| source.read(&mut buffer)).at("read", from)?;
            if n == 0 {
                break;
            }
            write_all(&mut file, &buffer[..n]).map_err(|(_, error)| error).at("write", &temp.path)?;
        }
    }
    if let Some(mode) = mode(&metadata) {
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    if durability == Durability::Synced {
        sync(|| group::sync_all(&file)).at("write", &temp.path)?;
    }
    temp.armed = false;
    Ok(std::mem::take(&mut temp.path))
}

#[cfg(target_os = "linux")]
fn reflink(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_from: &File, _to: &File) -> bool {
    false
}
