//! Work below a run directory without following links: the one measure against what a run directory that came from
//! elsewhere may hold.
//!
//! A run directory that is [`hold`]ed is open for as long as its store lives. Every access to a path below it goes from
//! that descriptor down, and a link on the way is an error, not a way: on Linux by `openat2`, in one call; elsewhere, and
//! under old kernels, folder by folder. So nothing is read, written or removed where a link leads, even if it is put there
//! between two looks, and a run directory that is moved while it is built takes what is written with it: no folder of
//! its old name is made. The run directory itself may be reached by a link: it is the user's to name.
//!
//! `.planexe` is treated so wherever it lies, whoever holds it or not.
//!
//! What a user may link, inputs and the pipeline's own files, is read by [`super::linked`].

mod change;
mod look;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use change::make_private;
pub(super) use change::{link, make_dir, remove_dir, remove_tree, rename, unlink};
pub(super) use look::{
    Stat, each_in, each_in_open, find_dir, is_dir, look, look_linked, look_through, open_linked,
};

/// A directory held open. Paths that begin with its own lie in it.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// Whether it was named in no other spelling.
    is_plain: bool,
    fd: OwnedFd,
    /// Folders that links below it may lead to, resolved.
    may_lead_to: RwLock<Vec<PathBuf>>,
}

/// Those held, a directory above others before them.
static HELD: RwLock<Vec<Weak<Held>>> = RwLock::new(Vec::new());

/// Holds a directory open, unless it is not there; see the module. It is let go with the last of what this returns.
pub fn hold(dir: &Path) -> Option<Arc<Held>> {
    let path: PathBuf = dir.components().collect();
    if path.as_os_str().is_empty() {
        return None;
    }
    let mut all = HELD.write();
    let same = all.iter().filter_map(Weak::upgrade).find(|held| held.path == path);
    if let Some(held) = same.filter(|held| held.is_at_its_name()) {
        return Some(held);
    }
    let is_plain = path.as_os_str() == dir.as_os_str();
    let fd = open_base(&path).ok()?;
    let held = Arc::new(Held { fd, path, is_plain, may_lead_to: RwLock::default() });
    all.retain(|other| other.strong_count() > 0);
    // Of two of one name, the one that has it now comes first.
    let longer = |other: &Weak<Held>| {
        other.upgrade().is_none_or(|other| other.path.as_os_str().len() >= held.path.as_os_str().len())
    };
    let at = all.iter().position(longer).unwrap_or(all.len());
    all.insert(at, Arc::downgrade(&held));
    Some(held)
}

impl Held {
    /// Lets links of inputs lead to some more folders, which are resolved.
    pub fn may_lead_to(&self, folders: &[PathBuf]) {
        let mut all = self.may_lead_to.write();
        for folder in folders {
            if !all.contains(folder) {
                all.push(folder.clone());
            }
        }
    }

    fn is_at_its_name(&self) -> bool {
        let (own, named) = (rustix::fs::fstat(&self.fd), rustix::fs::stat(&self.path));
        matches!((own, named), (Ok(own), Ok(named)) if (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino))
    }

    /// Whether a resolved path is one that a link below may lead to.
    fn allows(&self, real: &Path) -> bool {
        let folders = self.may_lead_to.read();
        folders.iter().any(|folder| real.starts_with(folder))
            || self.path.canonicalize().is_ok_and(|own| real.starts_with(own))
    }
}

/// The directory held that a path lies in, and the rest of the path.
fn held(path: &Path) -> Option<(Arc<Held>, &Path)> {
    let all = HELD.read();
    all.iter().find_map(|held| {
        let held = held.upgrade()?;
        let rest = rest_of(path, &held)?;
        Some((held, rest))
    })
}

/// The rest of a path below a directory; by its bytes, which is faster, where that will do.
fn rest_of<'p>(path: &'p Path, held: &Held) -> Option<&'p Path> {
    if !held.is_plain {
        return path.strip_prefix(&held.path).ok();
    }
    let rest = path.as_os_str().as_bytes().strip_prefix(held.path.as_os_str().as_bytes())?;
    match rest.first() {
        None => Some(Path::new("")),
        Some(b'/') => {
            Some(path_of(&rest[rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len())..]))
        }
        Some(_) => None,
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Where an access starts, and the way from there.
enum Start<'a> {
    /// No directory of ours: links are followed as ever.
    Anywhere(&'a Path),
    /// A directory, and a path of plain names below it; none is the directory itself.
    Below(Base, &'a Path),
}

enum Base {
    Held(Arc<Held>),
    Opened(OwnedFd),
}

impl AsFd for Base {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Base::Held(held) => held.fd.as_fd(),
            Base::Opened(fd) => fd.as_fd(),
        }
    }
}

fn start(path: &Path) -> io::Result<Start<'_>> {
    let leaves = |rest: &Path| rest.components().any(|part| part == Component::ParentDir);
    if let Some((held, rest)) = held(path) {
        return Ok(match leaves(rest) {
            true => Start::Anywhere(path),
            false => Start::Below(Base::Held(held), rest),
        });
    }
    let Some((above, rest)) = split_at_planexe(path).filter(|(_, rest)| !leaves(rest)) else {
        return Ok(Start::Anywhere(path));
    };
    Ok(Start::Below(Base::Opened(open_base(above)?), rest))
}

/// What is before `.planexe` in a path, and the rest from there on.
fn split_at_planexe(path: &Path) -> Option<(&Path, &Path)> {
    const NAME: &[u8] = b".planexe";
    let bytes = path.as_os_str().as_bytes();
    let mut from = 0;
    loop {
        let part = bytes[from..].split(|byte| *byte == b'/').next().unwrap_or_default();
        if part == NAME {
            let above = if from == 0 { Path::new(".") } else { path_of(&bytes[..from]) };
            return Some((above, path_of(&bytes[from..])));
        }
        from += part.len() + 1;
        if from >= bytes.len() {
            return None;
        }
    }
}

/// Whether a path is one of ours that nobody but the user may look into: prompts and answers are private. What stands in
/// a worktree is as its repository has it.
pub(super) fn is_private(path: &Path) -> bool {
    // The innermost: a worktree may hold a run of its own.
    let mut below = None;
    for part in path.components().rev() {
        if part.as_os_str() == ".planexe" {
            return below.is_none_or(|below| below != "worktrees");
        }
        below = Some(part.as_os_str());
    }
    false
}

/// What directories are opened as, to start from.
#[cfg(target_os = "linux")]
const BASE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(not(target_os = "linux"))]
const BASE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_base(path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, BASE, Mode::empty()))?)
}

/// Opens what a path of plain names leads to from a directory; an error if a link is on the way, or at its end.
pub(super) fn open_below(
    dir: BorrowedFd<'_>,
    rest: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match open_in_one(dir, rest, flags, mode) {
        Some(opened) => opened,
        None => open_by_steps(dir, rest, flags, mode),
    }
}

/// In one call; none where there is no such call.
#[cfg(target_os = "linux")]
fn open_in_one(
    dir: BorrowedFd<'_>,
    rest: &Path,
    flags: OFlags,
    mode: Mode,
) -> Option<rustix::io::Result<OwnedFd>> {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{ResolveFlags, openat2};
    static IS_MISSING: AtomicBool = AtomicBool::new(false);
    if IS_MISSING.load(Ordering::Relaxed) {
        return None;
    }
    // The call takes no mode where nothing can be created.
    let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        return match openat2(dir, rest, flags, mode, how) {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            // An old kernel.
            Err(Errno::NOSYS) => {
                IS_MISSING.store(true, Ordering::Relaxed);
                None
            }
            // Forbidden in some containers; or what is opened is, and is so by steps too.
            Err(Errno::PERM) => None,
            // Said of a link, too, where a folder is wanted: by steps it is told apart.
            Err(Errno::NOTDIR) => None,
            opened => Some(opened),
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn open_in_one(
    _dir: BorrowedFd<'_>,
    _rest: &Path,
    _flags: OFlags,
    _mode: Mode,
) -> Option<rustix::io::Result<OwnedFd>> {
    None
}

pub(super) fn open_by_steps(
    dir: BorrowedFd<'_>,
    rest: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let mut folder: Option<OwnedFd> = None;
    let mut parts = rest.components().peekable();
    while let Some(part) = parts.next() {
        let from = folder.as_ref().map_or(dir, |fd| fd.as_fd());
        let is_last = parts.peek().is_none();
        let flags = if is_last { flags } else { BASE | OFlags::NOFOLLOW };
        let name = Path::new(part.as_os_str());
        let opened = rustix::io::retry_on_intr(|| rustix::fs::openat(from, name, flags, mode));
        let opened = opened.map_err(|error| match error {
            // What systems say of a link where a folder is wanted.
            Errno::NOTDIR | Errno::MLINK if is_link(from, name) => Errno::LOOP,
            error => error,
        })?;
        if is_last {
            return Ok(opened);
        }
        folder = Some(opened);
    }
    Err(Errno::NOENT)
}

fn is_link(dir: BorrowedFd<'_>, name: &Path) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode as _) == FileType::Symlink)
}

/// Opens a file. Below a directory of ours no link is followed, elsewhere as `flags` say.
pub(super) fn open(path: &Path, flags: OFlags, mode: u32) -> io::Result<File> {
    let mode = Mode::from_raw_mode(mode as _);
    let opened = match start(path)? {
        Start::Below(base, rest) => open_below(base.as_fd(), rest, flags, mode),
        Start::Anywhere(path) => {
            rustix::io::retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, mode))
        }
    };
    opened.map(File::from).map_err(of_errno)
}

/// What the system says of a link where none is followed, in words that fit.
pub(super) fn of_errno(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => io::Error::new(ErrorKind::InvalidInput, IsLink),
        error => error.into(),
    }
}

/// A link is at the end of a path or on its way.
#[derive(Debug)]
pub(super) struct IsLink;

impl std::fmt::Display for IsLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a symbolic link, which is not followed")
    }
}

impl std::error::Error for IsLink {}

/// Whether an access failed because of a link.
pub(super) fn is_of_a_link(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<IsLink>())
}

/// A name in a folder, to be changed there.
struct Spot<'a> {
    folder: Option<Base>,
    name: &'a Path,
}

impl Spot<'_> {
    fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_ref().map_or(CWD, |base| base.as_fd())
    }
}

/// The folder of a path, come to without a link, and the name in it.
fn spot(path: &Path) -> io::Result<Spot<'_>> {
    match start(path)? {
        Start::Anywhere(path) => Ok(Spot { folder: None, name: path }),
        Start::Below(base, rest) => {
            let name = rest.file_name().map_or(Path::new("."), Path::new);
            let folder = rest.parent().unwrap_or(Path::new(""));
            if folder.as_os_str().is_empty() {
                return Ok(Spot { folder: Some(base), name });
            }
            let opened = open_below(base.as_fd(), folder, BASE, Mode::empty()).map_err(of_errno)?;
            Ok(Spot { folder: Some(Base::Opened(opened)), name })
        }
    }
}

/// What a system call does with a name in a folder.
fn at<T>(path: &Path, call: impl Fn(BorrowedFd<'_>, &Path) -> rustix::io::Result<T>) -> io::Result<T> {
    let spot = spot(path)?;
    rustix::io::retry_on_intr(|| call(spot.folder(), spot.name)).map_err(of_errno)
}
