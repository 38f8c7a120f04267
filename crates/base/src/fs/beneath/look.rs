//! What is at a path, and what a folder holds.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::signature::{FileKind, Signature};
use super::{
    BASE, Start, at, held, is_of_a_link, of_errno, open, open_base, open_below, split_at_planexe, start,
};

/// What a file system says of a name.
#[derive(Clone, Copy)]
pub(in crate::fs) struct Stat(pub(in crate::fs) rustix::fs::Stat);

#[allow(clippy::unnecessary_cast, reason = "the types are others on other systems")]
impl Stat {
    pub(in crate::fs) fn kind(&self) -> FileKind {
        FileKind::of_raw(FileType::from_raw_mode(self.0.st_mode as _))
    }

    pub(in crate::fs) fn mode(&self) -> u32 {
        self.0.st_mode as u32
    }

    pub(in crate::fs) fn links(&self) -> u64 {
        self.0.st_nlink as u64
    }

    pub(in crate::fs) fn owner(&self) -> u32 {
        self.0.st_uid as u32
    }

    pub(in crate::fs) fn is_the_file(&self, dev: u64, ino: u64) -> bool {
        (self.0.st_dev as u64, self.0.st_ino as u64) == (dev, ino)
    }

    pub(in crate::fs) fn signature(&self) -> Signature {
        Signature::of_raw(&self.0)
    }
}

/// A look at a name; a link at its end is not followed.
pub(in crate::fs) fn look(path: &Path) -> io::Result<Stat> {
    let look = |folder: BorrowedFd<'_>, name: &Path| {
        rustix::io::retry_on_intr(|| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW))
    };
    at(path, look).map(Stat)
}

/// A look at what a path leads to, links followed but for those below a directory of ours.
pub(in crate::fs) fn look_through(path: &Path) -> io::Result<Stat> {
    let stat = match start(path)? {
        Start::Below(..) => look(path)?,
        Start::Anywhere(path) => {
            return rustix::io::retry_on_intr(|| rustix::fs::stat(path)).map(Stat).map_err(io::Error::from);
        }
    };
    match stat.kind() {
        FileKind::Link => Err(of_errno(Errno::LOOP)),
        _ => Ok(stat),
    }
}

/// Whether a path is that of a directory, links followed but for those below a directory of ours.
pub(in crate::fs) fn is_dir(path: &Path) -> bool {
    look_through(path).is_ok_and(|stat| stat.kind() == FileKind::Dir)
}

/// Goes to a directory below another: an error if it is not there, or a link is on the way.
pub(in crate::fs) fn find_dir(dir: &Path, relative: &Path) -> io::Result<()> {
    let opened = match start(dir)? {
        Start::Below(base, rest) => open_below(base.as_fd(), &rest.join(relative), BASE, Mode::empty()),
        Start::Anywhere(dir) => open_below(open_base(dir)?.as_fd(), relative, BASE, Mode::empty()),
    };
    opened.map(drop).map_err(of_errno)
}

/// Opens what a user may have linked. Below a directory of ours a link is followed where it leads to one that it may lead
/// to; what is opened then is what was looked at.
pub(in crate::fs) fn open_linked(path: &Path, flags: OFlags) -> io::Result<File> {
    match start(path)? {
        Start::Below(base, rest) => match open_below(base.as_fd(), rest, flags, Mode::empty()) {
            Err(Errno::LOOP) => {}
            opened => return opened.map(File::from).map_err(of_errno),
        },
        Start::Anywhere(path) if held(path).is_none() => {
            return open(path, flags, 0);
        }
        Start::Anywhere(_) => {}
    }
    let real = real_path(path)?;
    let rest = real.strip_prefix("/").unwrap_or(&real);
    let opened = open_below(open_base(Path::new("/"))?.as_fd(), rest, flags, Mode::empty());
    opened.map(File::from).map_err(of_errno)
}

/// A look at what a user may have linked.
pub(in crate::fs) fn look_linked(path: &Path) -> io::Result<Stat> {
    match look(path) {
        Ok(stat) if stat.kind() == FileKind::Link => {}
        Err(error) if is_of_a_link(&error) => {}
        seen => return seen,
    }
    match held(path) {
        Some(_) => look(&real_path(path)?),
        None => look_through(path),
    }
}

/// Where a path below a directory of ours leads, if it may lead there.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let real = path.canonicalize()?;
    match held(path) {
        Some((held, _)) if !held.allows(&real) => {
            let why = "a link leads out of the run and the pipeline's folder";
            Err(io::Error::new(ErrorKind::InvalidInput, why))
        }
        None if split_at_planexe(path).is_some() => Err(of_errno(Errno::LOOP)),
        _ => Ok(real),
    }
}

/// Shows what is in a directory, in no order.
pub(in crate::fs) fn each_in(path: &Path, show: impl FnMut(OsString, FileKind)) -> io::Result<()> {
    each_in_open(open(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?.into(), show)
}

/// Shows what is in a directory that is open, in no order. A file that goes away meanwhile is not shown.
pub(in crate::fs) fn each_in_open(dir: OwnedFd, mut show: impl FnMut(OsString, FileKind)) -> io::Result<()> {
    let mut entries = Dir::new(dir)?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => match rustix::fs::statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode as _),
                Err(_) => continue,
            },
            kind => kind,
        };
        show(OsString::from_vec(name.to_bytes().to_vec()), FileKind::of_raw(kind));
    }
    Ok(())
}
