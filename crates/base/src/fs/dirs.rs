//! Folders: made, removed, and looked through without following a link.

use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use super::primitive::sync_parent;
use super::read::kind;
use super::signature::FileKind;
use super::{At, Durability, FsError, Result, beneath, change, optional, unsynced};

/// Makes a folder that nobody but the user may look into, unless it is there.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that makes directories")]
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).at("create", dir)
}

/// Makes a folder that nobody but the user may look into; false if there is something of its name, whoever made that.
pub fn make_private_new_dir(dir: &Path) -> Result<bool> {
    #[expect(clippy::disallowed_methods, reason = "as above, and the folder above may be shared with others")]
    let mut builder = std::fs::DirBuilder::new();
    match builder.mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FsError::new(dir, "create", error)),
    }
}

/// How many bytes the user may still write to the file system of a directory.
pub fn free_space(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir).map_err(io::Error::from).at("look at the room of", dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes an empty directory; false if it is not there or not empty.
pub fn remove_empty_dir(path: &Path) -> Result<bool> {
    match beneath::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(false),
        Err(error) => Err(FsError::new(path, "remove", error)),
    }
}

/// Removes a directory with all it holds; links in it are removed, not followed.
pub fn remove_tree(path: &Path) -> Result<bool> {
    Ok(optional(beneath::remove_tree(path).at("remove", path))?.is_some())
}

/// Makes a directory and those above it; what this process made, now or before, is synced if asked.
pub fn make_dirs(dir: &Path, durability: Durability) -> Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    if beneath::is_dir(dir) {
        return unsynced::settle(dir, durability);
    }
    make_missing_dir(dir, durability)
}

fn make_missing_dir(dir: &Path, durability: Durability) -> Result<()> {
    unsynced::note(dir);
    let create = || change(|| beneath::make_dir(dir));
    let made = match (create(), dir.parent()) {
        (Err(error), Some(above)) if error.kind() == ErrorKind::NotFound && !above.as_os_str().is_empty() => {
            make_dirs(above, durability)?;
            create()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => {}
        // Another thread was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && beneath::is_dir(dir) => {}
        Err(error) => {
            unsynced::forget(dir);
            return Err(FsError::new(dir, "create", error));
        }
    }
    if durability == Durability::Synced { settle_new(dir) } else { Ok(()) }
}

/// Syncs the name of a folder just made, and those of the folders above it that need it.
fn settle_new(dir: &Path) -> Result<()> {
    sync_parent(dir)?;
    unsynced::forget(dir);
    unsynced::settle(dir, Durability::Synced)
}

/// Makes a directory that must not be there, in one that is, durably; false if there is something of its name.
pub fn make_new_dir(dir: &Path) -> Result<bool> {
    match change(|| beneath::make_dir(dir)) {
        Ok(()) => settle_new(dir).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FsError::new(dir, "create", error)),
    }
}

/// Refuses a path that would be written outside a directory: by `..`, by being absolute, or through
/// a link among its parents, wherever that leads. The last component may be a link: it is replaced, not followed.
pub fn ensure_inside(dir: &Path, path: &Path) -> Result<()> {
    look_inside(dir, path).map(drop)
}

/// [`ensure_inside`], and the folder of the path is made if it is not there.
pub fn make_dirs_inside(dir: &Path, path: &Path, durability: Durability) -> Result<()> {
    match (look_inside(dir, path)?, path.parent()) {
        (Folder::Missing, Some(parent)) => make_missing_dir(parent, durability),
        (Folder::There, Some(parent)) => unsynced::settle(parent, durability),
        (_, None) => Ok(()),
    }
}

/// The folder of a path below a directory: no link is on the way to it.
#[derive(Clone, Copy, PartialEq)]
enum Folder {
    There,
    /// It, or one above it, is not there.
    Missing,
}

/// [`ensure_inside`], and what was seen of the folder of the path.
fn look_inside(dir: &Path, path: &Path) -> Result<Folder> {
    let refuse = |why: &str| {
        // Not `PermissionDenied`: a refusal by us is not a read-only place.
        Err(FsError::new(path, "write", io::Error::new(ErrorKind::InvalidInput, why.to_owned())))
    };
    let Ok(relative) = path.strip_prefix(dir) else {
        return refuse("outside the run directory");
    };
    let mut components = relative.components().peekable();
    if components.peek().is_none() {
        return refuse("the run directory itself");
    }
    if !components.all(|c| matches!(c, Component::Normal(_))) {
        return refuse("outside the run directory");
    }
    let parent = relative.parent().unwrap_or(Path::new(""));
    if parent.as_os_str().is_empty() {
        return Ok(Folder::There);
    }
    folder(dir, parent).map_err(|error| match beneath::is_of_a_link(&error) {
        true => FsError::new(path, "write", io::Error::new(ErrorKind::InvalidInput, LINK_ON_THE_WAY)),
        false => FsError::new(path, "write", error),
    })
}

const LINK_ON_THE_WAY: &str = "a folder on its path is a symbolic link, which is not followed";

/// Looks for a folder below a directory; an error if a link, or no folder, is on the way.
fn folder(dir: &Path, relative: &Path) -> io::Result<Folder> {
    match beneath::find_dir(dir, relative) {
        Ok(()) => Ok(Folder::There),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Folder::Missing),
        Err(error) => Err(error),
    }
}

/// Looks whether files are regular ones, reached from a directory without a link: each folder on the
/// way is looked at once.
#[derive(Debug, Default)]
pub struct PlainFiles {
    dirs: std::collections::HashMap<PathBuf, bool>,
}

impl PlainFiles {
    /// Whether `relative`, a path of plain names, leads to a regular file without a link on its way. A
    /// quick yes; a no says only that one has to look closer.
    pub fn has(&mut self, dir: &Path, relative: &Path) -> bool {
        let parent = relative.parent().unwrap_or(Path::new(""));
        matches!(relative.components().next_back(), Some(Component::Normal(_)))
            && self.has_folder(dir, parent)
            && matches!(kind(&dir.join(relative)), Ok(Some(FileKind::File)))
    }

    /// Whether no link is on the way to a folder, as far as it is there.
    pub fn has_folder(&mut self, dir: &Path, relative: &Path) -> bool {
        if let Some(&known) = self.dirs.get(relative) {
            return known;
        }
        let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)))
            && folder(dir, relative).is_ok();
        self.dirs.insert(relative.to_owned(), is_plain);
        is_plain
    }
}
