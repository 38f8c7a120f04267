//! Changes below a run directory: folders, names, permissions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::signature::FileKind;
use super::look::{Stat, each_in_open, look};
use super::{at, is_private, open, spot};

/// Makes a directory.
pub(in crate::fs) fn make_dir(path: &Path) -> io::Result<()> {
    let mode = Mode::from_raw_mode(if is_private(path) { 0o700 } else { 0o777 });
    at(path, |folder, name| rustix::fs::mkdirat(folder, name, mode))
}

/// Removes a file or link.
pub(in crate::fs) fn unlink(path: &Path) -> io::Result<()> {
    at(path, |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::empty()))
}

/// Removes an empty directory.
pub(in crate::fs) fn remove_dir(path: &Path) -> io::Result<()> {
    at(path, |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR))
}

/// Renames, replacing what has the new name.
pub(in crate::fs) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let to = spot(to)?;
    at(from, |folder, name| rustix::fs::renameat(folder, name, to.folder(), to.name))
}

/// Gives a file a second name.
pub(in crate::fs) fn link(from: &Path, to: &Path) -> io::Result<()> {
    let to = spot(to)?;
    at(from, |folder, name| rustix::fs::linkat(folder, name, to.folder(), to.name, AtFlags::empty()))
}

/// Removes a directory with all it holds, links in it themselves.
pub(in crate::fs) fn remove_tree(path: &Path) -> io::Result<()> {
    let spot = spot(path)?;
    remove_all(spot.folder(), spot.name)
}

fn remove_all(folder: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::io::retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))?;
    let mut inside = Vec::new();
    each_in_open(dir.try_clone()?, |name, kind| inside.push((PathBuf::from(name), kind)))?;
    for (name, kind) in inside {
        match kind {
            FileKind::Dir => remove_all(dir.as_fd(), &name)?,
            _ => match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// Takes from all but the user the right to look into `.planexe`, if they have it: an earlier version let them.
pub fn make_private(planexe: &Path) -> io::Result<()> {
    let is_open = |stat: &Stat| stat.kind() == FileKind::Dir && stat.mode() & 0o077 != 0;
    if !look(planexe).is_ok_and(|stat| is_open(&stat)) {
        return Ok(());
    }
    let dir: OwnedFd = open(planexe, OFlags::RDONLY | OFlags::DIRECTORY, 0)?.into();
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o700))?;
    take_from_others(dir, true)
}

fn take_from_others(dir: OwnedFd, is_top: bool) -> io::Result<()> {
    let mut inside = Vec::new();
    each_in_open(dir.try_clone()?, |name, kind| inside.push((PathBuf::from(name), kind)))?;
    for (name, kind) in inside {
        if !matches!(kind, FileKind::Dir | FileKind::File) || is_top && name.as_os_str() == "worktrees" {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // What goes away meanwhile, or cannot be opened, is behind a closed door all the same.
        let Ok(file) = rustix::fs::openat(&dir, &name, flags, Mode::empty()) else { continue };
        let Ok(stat) = rustix::fs::fstat(&file) else { continue };
        let stat = Stat(stat);
        // Of a file with another name somewhere else the permissions are those of an output.
        if stat.mode() & 0o077 != 0 && (kind == FileKind::Dir || stat.links() == 1) {
            let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode((stat.mode() & 0o700) as _));
        }
        if kind == FileKind::Dir {
            take_from_others(file, false)?;
        }
    }
    Ok(())
}
