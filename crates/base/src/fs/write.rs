//! Writing: under a temporary name, then by rename; folders, links and copies; removing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::primitive::{cannot_sync_dirs, create, mode_of_new, open_dir, sync_dir, sync_parent, write_all};
use super::read::{buffer_for, kind, not_regular, open_regular};
use super::signature::FileKind;
use super::temp::{Temp, temp_beside, temp_in};
use super::{At, Durability, FsError, Result, beneath, change, group, optional, retry, sync, unsynced};

fn create_temp(path: &Path, mode: u32) -> io::Result<File> {
    change(|| create(path, OFlags::WRONLY, mode))
}

/// The permissions of the regular file that is about to be replaced; of one of ours that nobody else may read.
fn mode_of(path: &Path) -> Option<u32> {
    let stat = beneath::look(path).ok().filter(|stat| stat.kind() == FileKind::File)?;
    Some(stat.mode() & if beneath::is_private(path) { 0o700 } else { 0o777 })
}

/// Replaces a file's content: after it, the name holds all the old bytes or all the new ones, at
/// every moment and for every reader. Its permissions stay. The directory must exist.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    write_via(path.parent().unwrap_or(Path::new("")), path, bytes, durability)
}

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
struct Part<'a> {
    /// What an error is told of.
    path: &'a Path,
    file: File,
    device: u64,
    is_dir: bool,
}

impl<'a> Part<'a> {
    fn content(file: &Path, path: &'a Path) -> Result<Part<'a>> {
        let (file, metadata) =
            open_regular(file).map_err(|error| FsError::new(path, "write", error.source))?;
        Ok(Part { path, file, device: metadata.dev(), is_dir: false })
    }

    fn names(path: &'a Path) -> Result<Part<'a>> {
        let file = open_dir(path).at("write", path)?;
        let device = super::retry(|| file.metadata()).at("write", path)?.dev();
        Ok(Part { path, file, device, is_dir: true })
    }

    /// The names in a directory, and those of directories above it.
    fn names_of(parent: &'a Path, above: &'a [PathBuf]) -> Result<Vec<Part<'a>>> {
        let dirs = above.iter().map(|dir| dir.parent().unwrap_or(Path::new("")));
        std::iter::once(parent).chain(dirs).map(Part::names).collect()
    }

    /// Content and name of the files that are there.
    fn of_named(paths: &[&'a Path]) -> Result<Vec<Part<'a>>> {
        let mut parts = Vec::new();
        for path in paths {
            if let Some(part) = optional(Part::content(path, path))? {
                parts.extend([part, Part::names(path.parent().unwrap_or(Path::new("")))?]);
            }
        }
        Ok(parts)
    }

    fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            Err(error) if self.is_dir && cannot_sync_dirs(&error) => Ok(()),
            synced => synced,
        }
    }
}

/// Syncs all parts, those of one file system together with what other threads sync there.
fn sync_parts(mut parts: Vec<Part<'_>>) -> Result<()> {
    parts.sort_by_key(|part| part.device);
    for same in parts.chunk_by(|one, other| one.device == other.device) {
        let own = || same.iter().try_for_each(Part::sync);
        sync(|| group::sync_with(&same[0].file, own)).at("write", same[0].path)?;
    }
    Ok(())
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
    Err(FsError::new(dir, "write", ErrorKind::Unsupported.into()))
}

/// Whether two directories are on one file system.
pub fn on_same_device(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev(),
        _ => false,
    }
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

/// Copies a regular file to a temporary name beside `target`, with the target's permissions: [`write_beside`] of what
/// may be large.
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
