//! Reading: regular files and folders, their digests and signatures.

use std::ffi::{CStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::signature::{FileKind, Signature};
use super::{At, FsError, Result, beneath, optional, retry};
use crate::record::Digest;

/// Writes to standard error, past the standard library. That it cannot be written is nobody's loss.
pub fn complain(mut words: &[u8]) {
    while let Ok(written @ 1..) =
        rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stderr(), words))
    {
        words = &words[written.min(words.len())..];
    }
}

pub(super) fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "not a regular file")
}

/// What regular files are opened to read as: no pipe is waited for.
pub(super) const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// Opens a regular file for reading; anything else is an error at once, even a pipe without a writer.
pub(super) fn open_regular(path: &Path) -> Result<(File, Metadata)> {
    beneath::open(path, TO_READ, 0).and_then(of_regular).at("read", path)
}

/// A file that was opened, if it is a regular one.
pub(super) fn of_regular(file: File) -> io::Result<(File, Metadata)> {
    let metadata = retry(|| file.metadata())?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(not_regular());
    }
    Ok((file, metadata))
}

/// Opens a regular file that the user named, wherever links lead; a pipe is not waited for.
pub fn open_named(path: &Path) -> Result<File> {
    let opened =
        rustix::io::retry_on_intr(|| rustix::fs::open(path, TO_READ | OFlags::CLOEXEC, Mode::empty()));
    let file = opened.map(File::from).map_err(io::Error::from);
    Ok(file.and_then(of_regular).at("read", path)?.0)
}

/// Opens a regular file for reading.
pub fn open(path: &Path) -> Result<File> {
    Ok(open_regular(path)?.0)
}

/// The bytes of a regular file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    all_of(open_regular(path)?).at("read", path)
}

pub(super) fn all_of((mut file, metadata): (File, Metadata)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(metadata.len().min(1 << 26) as usize);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of a regular file that may not exist.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    optional(read(path))
}

/// The bytes of a regular file, an error if there are more than `cap`.
pub fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>> {
    capped(open_regular(path)?, cap).at("read", path)
}

pub(super) fn capped((file, metadata): (File, Metadata), cap: u64) -> io::Result<Vec<u8>> {
    // One byte more than it holds, so that its end is seen by the same read.
    let mut bytes = Vec::with_capacity(metadata.len().min(cap).min(1 << 26) as usize + 1);
    file.take(cap + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {cap} bytes")));
    }
    Ok(bytes)
}

/// The text of a regular file.
pub fn read_to_string(path: &Path) -> Result<String> {
    text_of(path, read(path)?)
}

pub(super) fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let why = io::Error::new(ErrorKind::InvalidData, format!("not UTF-8 at byte {at}"));
        FsError::new(path, "read", why)
    })
}

/// Digest and length of a regular file, read in pieces.
pub fn hash_file(path: &Path) -> Result<(Digest, u64)> {
    let (mut file, metadata) = open_regular(path)?;
    hash_open(&mut file, metadata.len()).at("read", path)
}

/// What one look into a file found.
#[derive(Debug)]
pub struct Hashed {
    /// The file's signature before it was read.
    pub before: Signature,
    /// And after.
    pub after: Signature,
    /// Digest of what was read.
    pub digest: Digest,
    /// How much that was.
    pub bytes: u64,
}

/// Digest of a regular file with its signatures before and after; `None` if there is none. One name is looked up,
/// once: if another file takes it meanwhile, this is said of the one that had it.
pub fn hash_signed(path: &Path) -> Result<Option<Hashed>> {
    match optional(open_regular(path))? {
        Some(opened) => signed(opened).at("read", path).map(Some),
        None => Ok(None),
    }
}

pub(super) fn signed((mut file, metadata): (File, Metadata)) -> io::Result<Hashed> {
    let (digest, bytes) = hash_open(&mut file, metadata.len())?;
    let after = Signature::from_metadata(&retry(|| file.metadata())?);
    Ok(Hashed { before: Signature::from_metadata(&metadata), after, digest, bytes })
}

/// A regular file as it was read, no link followed.
#[derive(Debug)]
pub struct Whole {
    /// Digest of its content.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Type and permissions.
    pub mode: u32,
    /// The content, if it is no longer than was asked for.
    pub content: Option<Vec<u8>>,
}

/// Reads a regular file that is no link, once: its digest, and its content if that is at most `most` bytes.
pub fn read_whole(path: &Path, most: u64) -> Result<Whole> {
    let opened = beneath::open(path, TO_READ | OFlags::NOFOLLOW, 0).and_then(of_regular);
    let (mut file, metadata) = opened.at("read", path)?;
    let mode = metadata.mode();
    if metadata.len() > most {
        let (digest, bytes) = hash_open(&mut file, metadata.len()).at("read", path)?;
        return Ok(Whole { digest, bytes, mode, content: None });
    }
    let mut content = vec![0; metadata.len() as usize + 1];
    let mut filled = 0;
    loop {
        filled += retry(|| file.read(&mut content[filled..])).at("read", path)?;
        // What was asked for is one byte more than there is.
        if filled < content.len() {
            break;
        }
        content.resize(2 * content.len(), 0);
    }
    content.truncate(filled);
    Ok(Whole { digest: Digest::of(&content), bytes: filled as u64, mode, content: Some(content) })
}

/// A buffer to read a file of so many bytes through. Most are small, and to clear a large buffer takes longer than
/// to hash or copy them. It holds a byte more than a small file.
pub(super) fn buffer_for(length: u64) -> Vec<u8> {
    vec![0; (length + 1).clamp(1 << 10, 1 << 16) as usize]
}

pub(super) fn hash_open(file: &mut File, length: u64) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = buffer_for(length);
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
                // All there is, and less than was asked for: that is the end.
                if bytes == length && n < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((Digest(hasher.finalize().to_hex().to_string()), bytes))
}

/// The signature of a regular file; `None` if there is none; an error for all else. Links are followed, but for those
/// below a run directory.
pub fn signature(path: &Path) -> Result<Option<Signature>> {
    regular(optional(beneath::look_through(path).at("read", path))?).at("read", path)
}

pub(super) fn regular(stat: Option<beneath::Stat>) -> io::Result<Option<Signature>> {
    match stat.map(|stat| (stat.kind(), stat)) {
        None => Ok(None),
        Some((FileKind::File, stat)) => Ok(Some(stat.signature())),
        Some((FileKind::Dir, _)) => Err(ErrorKind::IsADirectory.into()),
        Some(_) => Err(not_regular()),
    }
}

/// The signature of a directory, its size left out: its times tell whether names came or went. `None`
/// if there is none.
pub fn directory_times(path: &Path) -> Result<Option<Signature>> {
    let stat = optional(beneath::look_through(path).at("read", path))?;
    let dir = stat.filter(|stat| stat.kind() == FileKind::Dir);
    Ok(dir.map(|stat| Signature { size: 0, ..stat.signature() }))
}

/// A directory held open, to look at many of its files without walking its path each time. Names are those of files in
/// it, or of files below it: `a/b.txt`.
#[derive(Debug)]
pub struct OpenDir {
    fd: OwnedFd,
}

impl OpenDir {
    /// Whether it is still the directory of a name, not moved or removed.
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        let own = rustix::fs::fstat(&self.fd).map_err(Into::into).at("read", path)?;
        let named = optional(retry(|| std::fs::metadata(path)).at("read", path))?;
        Ok(named.is_some_and(|named| (named.dev(), named.ino()) == (own.st_dev as u64, own.st_ino as u64)))
    }

    /// Opens a directory.
    pub fn open(path: &Path) -> Result<OpenDir> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let opened = rustix::fs::open(path, DIRECTORY, Mode::empty());
        Ok(OpenDir { fd: opened.map_err(io::Error::from).at("read", path)? })
    }

    /// Opens a directory in it, by no name itself; none if there is none, or a link is on the way to it.
    pub fn open_plain(&self, name: &CStr) -> Option<OpenDir> {
        let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let fd = beneath::open_below(self.fd.as_fd(), name, DIRECTORY, Mode::empty()).ok()?;
        Some(OpenDir { fd })
    }

    /// The signature of a regular file in it; none if there is none, or a link in its place.
    pub fn plain_signature(&self, name: &CStr) -> Option<Signature> {
        self.signature_of(name, FileType::RegularFile, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// [`directory_times`] of a directory in it, by no name its own; none if there is none.
    pub fn times(&self, name: &CStr) -> Option<Signature> {
        let name = or_itself(name);
        Some(Signature { size: 0, ..self.signature_of(name, FileType::Directory, AtFlags::empty())? })
    }

    fn signature_of(&self, name: &CStr, kind: FileType, how: AtFlags) -> Option<Signature> {
        let stat = rustix::fs::statat(&self.fd, name, how).ok()?;
        (FileType::from_raw_mode(stat.st_mode as _) == kind).then(|| Signature::of_raw(&stat))
    }

    /// Whether it is sure that nothing has a name.
    pub fn is_absent(&self, name: &CStr) -> bool {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        matches!(stat, Err(Errno::NOENT | Errno::NOTDIR))
    }

    /// The first bytes of a regular file in it: as many as `length` takes from its beginning, or as there are.
    pub fn read_head(&self, name: &CStr, length: impl Fn(&[u8]) -> Option<usize>) -> Option<Vec<u8>> {
        const FIRST: usize = 1 << 14;
        let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let file = beneath::open_below(self.fd.as_fd(), name, TO_READ, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode as _) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::with_capacity(FIRST);
        fill(&file, &mut bytes)?;
        let wanted = length(&bytes)?.min(usize::try_from(stat.st_size).ok()?);
        if wanted > bytes.len() {
            bytes.reserve_exact(wanted - bytes.len());
            fill(&file, &mut bytes)?;
        }
        bytes.truncate(wanted);
        Some(bytes)
    }
}

/// No name is that of the directory itself.
fn or_itself(name: &CStr) -> &CStr {
    if name.is_empty() { c"." } else { name }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Reads into the room that is left, to its end or the file's.
fn fill(file: &OwnedFd, bytes: &mut Vec<u8>) -> Option<()> {
    while bytes.len() < bytes.capacity() {
        if rustix::io::retry_on_intr(|| rustix::io::read(file, rustix::buffer::spare_capacity(bytes))).ok()?
            == 0
        {
            break;
        }
    }
    Some(())
}

/// The signature of a regular file; `None` if there is none, or a link or something else in its place.
pub fn plain_signature(path: &Path) -> Result<Option<Signature>> {
    let stat = optional(beneath::look(path).at("read", path))?;
    Ok(stat.filter(|stat| stat.kind() == FileKind::File).map(|stat| stat.signature()))
}

/// Whether a path, links followed, is an existing file or directory inside a directory.
pub fn resolves_inside(dir: &Path, path: &Path) -> bool {
    match (std::fs::canonicalize(dir), std::fs::canonicalize(path)) {
        (Ok(dir), Ok(path)) => path.starts_with(dir),
        _ => false,
    }
}

/// A path, links resolved as far as it exists, absolute.
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for base in absolute.ancestors() {
        if let Ok(real) = base.canonicalize() {
            let rest = absolute.strip_prefix(base).unwrap_or(Path::new(""));
            return normal(&real.join(rest));
        }
    }
    absolute
}

/// A path without `..`, no link looked at.
pub fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// What a path stands for, its last link not followed; `None` if there is nothing.
pub fn kind(path: &Path) -> Result<Option<FileKind>> {
    Ok(optional(beneath::look(path).at("read", path))?.map(|stat| stat.kind()))
}

/// Who owns a directory that this user may not list or write into; `None` if he may, or there is none.
pub fn closed_by(dir: &Path) -> Result<Option<u32>> {
    let stat = optional(beneath::look(dir).at("read", dir))?;
    let Some(stat) = stat.filter(|stat| stat.kind() == FileKind::Dir) else { return Ok(None) };
    let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let may = rustix::fs::accessat(rustix::fs::CWD, dir, wanted, rustix::fs::AtFlags::EACCESS);
    Ok((may == Err(rustix::io::Errno::ACCESS)).then(|| stat.owner()))
}

/// What a path stands for, its last link not followed, with its signature; `None` if there is nothing.
pub fn kind_and_signature(path: &Path) -> Result<Option<(FileKind, Signature)>> {
    Ok(optional(beneath::look(path).at("read", path))?.map(|stat| (stat.kind(), stat.signature())))
}

/// The names in a directory, sorted; none if there is no such directory.
pub fn list_dir(path: &Path) -> Result<Vec<(OsString, FileKind)>> {
    let mut names = Vec::new();
    each_in_dir(path, |name, kind| names.push((name, kind)))?;
    names.sort();
    Ok(names)
}

/// Shows what is in a directory, in no order; nothing of one that is not there.
pub(super) fn each_in_dir(path: &Path, show: impl FnMut(OsString, FileKind)) -> Result<()> {
    optional(beneath::each_in(path, show).at("list", path)).map(drop)
}
