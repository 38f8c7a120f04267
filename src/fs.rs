//! Everything that touches the disk: the only file that creates, writes, renames, links or removes.
//!
//! A file under a final name is never written in place: bytes go to a temporary name beside it, are
//! synced if asked, and take the name by rename. Links are not followed when writing: a temporary
//! name is created anew, and a final name that is a link is replaced itself. Reading opens regular
//! files alone, so that a pipe put in a file's place cannot hang a build.

#![expect(clippy::disallowed_methods, reason = "this is the one place that writes")]

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use crate::record::Digest;

/// How every temporary file of ours begins. Globs and watchers pass such names over.
pub const TEMP_PREFIX: &str = ".planexe-tmp-";

/// The longest file name the usual file systems take, in bytes.
pub const NAME_MAX: usize = 255;

/// An access to a file that failed: which file, what was tried, why.
#[derive(Debug)]
pub struct FsError {
    /// The file.
    pub path: PathBuf,
    /// What was tried, as in "cannot write": `read`, `write`, `remove`, …
    pub op: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

/// The usual result of this module.
pub type Result<T, E = FsError> = std::result::Result<T, E>;

impl FsError {
    /// An error on a file.
    pub fn new(path: impl Into<PathBuf>, op: &'static str, source: io::Error) -> FsError {
        FsError { path: path.into(), op, source }
    }

    /// The kind of the cause.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }

    /// No space, or no quota, is left: nothing more that has to be recorded should be started.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// The place cannot be written to at all: a read-only file system, or no permission.
    pub fn is_read_only(&self) -> bool {
        matches!(self.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
    }

    /// The same error with the path shown relative to a directory, if it lies in it.
    pub fn within(mut self, dir: &Path) -> FsError {
        if let Ok(relative) = self.path.strip_prefix(dir)
            && !relative.as_os_str().is_empty()
        {
            self.path = relative.to_owned();
        }
        self
    }

    /// The cause in words, without "os error".
    pub fn reason(&self) -> String {
        match self.kind() {
            ErrorKind::StorageFull => "no space left on device".to_owned(),
            ErrorKind::QuotaExceeded => "disk quota exceeded".to_owned(),
            ErrorKind::ReadOnlyFilesystem => "read-only file system".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            ErrorKind::NotFound => "no such file or directory".to_owned(),
            ErrorKind::IsADirectory => "is a directory".to_owned(),
            ErrorKind::NotADirectory => "not a directory".to_owned(),
            _ => {
                let text = self.source.to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                let mut chars = text.chars();
                match chars.next() {
                    Some(first) => first.to_lowercase().chain(chars).collect(),
                    None => "unknown error".to_owned(),
                }
            }
        }
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.op, self.path.display(), self.reason())
    }
}

// The message holds the cause already: no `source`, or a chain would say it twice.
impl std::error::Error for FsError {}

/// Adds path and operation to an `io::Result`.
trait At<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| FsError::new(path, op, source))
    }
}

/// Whether a write must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced, file and directory, before the call returns.
    Synced,
    /// Whole or not there to every process, but a power cut may lose it.
    Unsynced,
}

// ---------------------------------------------------------------- reading

fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "not a regular file")
}

/// Opens a regular file for reading; anything else is an error at once, even a pipe without a writer.
fn open_regular(path: &Path) -> Result<(File, Metadata)> {
    let file =
        retry(|| OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path))
            .at("read", path)?;
    let metadata = file.metadata().at("read", path)?;
    if metadata.is_dir() {
        return Err(FsError::new(path, "read", ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(FsError::new(path, "read", not_regular()));
    }
    Ok((file, metadata))
}

/// Opens a regular file for reading.
pub fn open(path: &Path) -> Result<File> {
    Ok(open_regular(path)?.0)
}

fn retry<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The bytes of a regular file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let (mut file, metadata) = open_regular(path)?;
    let mut bytes = Vec::with_capacity(metadata.len().min(1 << 26) as usize);
    file.read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}

/// The bytes of a regular file that may not exist.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    optional(read(path))
}

/// The bytes of a regular file, an error if there are more than `cap`.
pub fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>> {
    let (file, _) = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > cap {
        let why = io::Error::new(ErrorKind::FileTooLarge, format!("larger than {cap} bytes"));
        return Err(FsError::new(path, "read", why));
    }
    Ok(bytes)
}

/// The text of a regular file.
pub fn read_to_string(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let why = io::Error::new(ErrorKind::InvalidData, format!("not UTF-8 at byte {at}"));
        FsError::new(path, "read", why)
    })
}

/// Turns "there is no such file" into `None`.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Digest and length of a regular file, read in pieces.
pub fn hash_file(path: &Path) -> Result<(Digest, u64)> {
    let (mut file, _) = open_regular(path)?;
    hash_open(&mut file).at("read", path)
}

fn hash_open(file: &mut File) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((Digest(hasher.finalize().to_hex().to_string()), bytes))
}

/// What a file system says of a file without reading it: any difference means "read it again".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature {
    /// Length.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970: it cannot be set by hand.
    pub ctime_ns: i64,
    /// Inode.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
}

impl Signature {
    fn of(metadata: &Metadata) -> Signature {
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Signature {
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            ino: metadata.ino(),
            mode: metadata.mode(),
        }
    }
}

/// The signature of a regular file, links followed; `None` if there is none; an error for all else.
pub fn signature(path: &Path) -> Result<Option<Signature>> {
    let Some(metadata) = optional(retry(|| std::fs::metadata(path)).at("read", path))? else {
        return Ok(None);
    };
    if metadata.is_dir() {
        return Err(FsError::new(path, "read", ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(FsError::new(path, "read", not_regular()));
    }
    Ok(Some(Signature::of(&metadata)))
}

/// The signature of a regular file; `None` if there is none, or a link or something else in its place.
pub fn plain_signature(path: &Path) -> Result<Option<Signature>> {
    let metadata = optional(retry(|| std::fs::symlink_metadata(path)).at("read", path))?;
    Ok(metadata.filter(Metadata::is_file).map(|metadata| Signature::of(&metadata)))
}

/// Whether a path, links followed, is an existing file or directory inside a directory.
pub fn resolves_inside(dir: &Path, path: &Path) -> bool {
    match (std::fs::canonicalize(dir), std::fs::canonicalize(path)) {
        (Ok(dir), Ok(path)) => path.starts_with(dir),
        _ => false,
    }
}

/// What a name stands for, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl FileKind {
    fn of(kind: std::fs::FileType) -> FileKind {
        if kind.is_file() {
            FileKind::File
        } else if kind.is_dir() {
            FileKind::Dir
        } else if kind.is_symlink() {
            FileKind::Link
        } else {
            FileKind::Other
        }
    }
}

/// What a path stands for, its last link not followed; `None` if there is nothing.
pub fn kind(path: &Path) -> Result<Option<FileKind>> {
    let metadata = optional(retry(|| std::fs::symlink_metadata(path)).at("read", path))?;
    Ok(metadata.map(|metadata| FileKind::of(metadata.file_type())))
}

/// The names in a directory, sorted; none if there is no such directory.
pub fn list_dir(path: &Path) -> Result<Vec<(OsString, FileKind)>> {
    let Some(entries) = optional(std::fs::read_dir(path).at("list", path))? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.at("list", path)?;
        // A file that goes away while it is listed is not in the list.
        if let Ok(kind) = entry.file_type() {
            names.push((entry.file_name(), FileKind::of(kind)));
        }
    }
    names.sort();
    Ok(names)
}

// ---------------------------------------------------------------- temporary names

/// Tells this process's temporary names from those of an earlier one with the same process id, whose
/// orphaned children may still write to theirs.
fn nonce() -> u32 {
    static NONCE: OnceLock<u32> = OnceLock::new();
    *NONCE.get_or_init(|| {
        let mut hasher = std::hash::RandomState::new().build_hasher();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        hasher.write_u128(since.as_nanos());
        hasher.write_u32(std::process::id());
        hasher.finish() as u32
    })
}

/// A name in `dir` that no other attempt of any process uses, ending as `name` does, so that a
/// program that looks at the extension writes the right format.
fn temp_in(dir: &Path, name: &OsStr) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut temp = format!("{TEMP_PREFIX}{}-{:08x}-{n}-", std::process::id(), nonce()).into_bytes();
    let name = name.as_bytes();
    let room = NAME_MAX.saturating_sub(temp.len());
    let mut start = name.len().saturating_sub(room);
    // Not in the middle of a character.
    while start > 0 && start < name.len() && name[start] & 0xc0 == 0x80 {
        start += 1;
    }
    temp.extend_from_slice(&name[start..]);
    dir.join(OsString::from_vec(temp))
}

/// A unique temporary name beside a target, with the target's extension. Nothing is created.
pub fn temp_beside(target: &Path) -> PathBuf {
    temp_in(target.parent().unwrap_or(Path::new("")), target.file_name().unwrap_or(OsStr::new("file")))
}

/// A temporary file that is removed again unless it was renamed away.
struct Temp {
    path: PathBuf,
    armed: bool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if self.armed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes temporary files in a directory whose process is gone; returns how many. To be called
/// under the lock of the run, at the start of a build.
pub fn sweep_temps(dir: &Path) -> Result<usize> {
    let mut swept = 0;
    for (name, kind) in list_dir(dir)? {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(TEMP_PREFIX)) else { continue };
        if kind == FileKind::Dir || kind == FileKind::Other {
            continue;
        }
        let mut parts = rest.split('-');
        let pid = parts.next().and_then(|pid| pid.parse::<i32>().ok());
        let own = parts.next() == Some(&format!("{:08x}", nonce()));
        if own || pid.is_some_and(|pid| pid != std::process::id() as i32 && process_exists(pid)) {
            continue;
        }
        if remove(&dir.join(&name))? {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Whether a process with this id exists; one we may not signal exists too.
pub fn process_exists(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

// ---------------------------------------------------------------- writing

/// Writes all bytes; short writes and interruptions are gone on from.
fn write_all(file: &mut impl Write, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while !bytes.is_empty() {
        match file.write(bytes) {
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

fn create_temp(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    retry(|| OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path))
}

/// The permissions of the regular file that is about to be replaced.
fn mode_of(path: &Path) -> Option<u32> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    metadata.is_file().then(|| metadata.mode() & 0o777)
}

/// Replaces a file's content: after it, the name holds all the old bytes or all the new ones, at
/// every moment and for every reader. Its permissions stay. The directory must exist.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    write_via(path.parent().unwrap_or(Path::new("")), path, bytes, durability)
}

/// [`write_atomic`] with the temporary name in another directory of the same file system.
pub fn write_via(temp_dir: &Path, path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    let mut temp = write_temp(temp_in(temp_dir, name), path, bytes, durability)?;
    retry(|| std::fs::rename(&temp.path, path)).at("write", path)?;
    temp.armed = false;
    if durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(())
}

/// Writes a temporary file beside `target`, with the target's permissions. Its name is taken by
/// [`publish`].
pub fn write_beside(target: &Path, bytes: &[u8], durability: Durability) -> Result<PathBuf> {
    let mut temp = write_temp(temp_beside(target), target, bytes, durability)?;
    temp.armed = false;
    Ok(std::mem::take(&mut temp.path))
}

fn write_temp(temp: PathBuf, target: &Path, bytes: &[u8], durability: Durability) -> Result<Temp> {
    let mut file = create_temp(&temp).at("write", target)?;
    let temp = Temp { path: temp, armed: true };
    write_all(&mut file, bytes).map_err(|(_, error)| error).at("write", target)?;
    if let Some(mode) = mode_of(target) {
        // Not every file system has permissions; the content matters.
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    if durability == Durability::Synced {
        retry(|| file.sync_all()).at("write", target)?;
    }
    Ok(temp)
}

/// Syncs a file's content, whoever wrote it.
pub fn sync_file(path: &Path) -> Result<()> {
    let (file, _) = open_regular(path)?;
    retry(|| file.sync_all()).at("write", path)
}

/// Syncs the names of a directory.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let file = retry(|| File::open(dir)).at("write", dir)?;
    match retry(|| file.sync_all()) {
        // Some file systems cannot sync a directory; there is nothing more to do on them.
        Err(error)
            if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
                || error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) =>
        {
            Ok(())
        }
        result => result.at("write", dir),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// Gives finished temporary files their names, in order. Each must be a regular file; with
/// [`Durability::Synced`] their directories are synced, the files themselves must have been.
pub fn publish(temps: &[(PathBuf, PathBuf)], durability: Durability) -> Result<()> {
    for (temp, target) in temps {
        if kind(temp)? != Some(FileKind::File) {
            return Err(FsError::new(target, "write", not_regular()));
        }
    }
    for (temp, target) in temps {
        retry(|| std::fs::rename(temp, target)).at("write", target)?;
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
    retry(|| std::fs::rename(from, to)).at("rename", from)?;
    if durability == Durability::Synced {
        sync_parent(to)?;
        if from.parent() != to.parent() {
            sync_parent(from)?;
        }
    }
    Ok(())
}

/// Removes a file or link; false if there was none.
pub fn remove(path: &Path) -> Result<bool> {
    Ok(optional(retry(|| std::fs::remove_file(path)).at("remove", path))?.is_some())
}

/// [`remove`], and the directory synced if asked.
pub fn remove_durably(path: &Path, durability: Durability) -> Result<bool> {
    let removed = remove(path)?;
    if removed && durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(removed)
}

/// Removes an empty directory; false if it is not there or not empty.
pub fn remove_empty_dir(path: &Path) -> Result<bool> {
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(false),
        Err(error) => Err(FsError::new(path, "remove", error)),
    }
}

/// Removes a directory with all it holds; links in it are removed, not followed.
pub fn remove_tree(path: &Path) -> Result<bool> {
    Ok(optional(std::fs::remove_dir_all(path).at("remove", path))?.is_some())
}

/// Makes a directory and those above it; what is new is synced if asked.
pub fn make_dirs(dir: &Path, durability: Durability) -> Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let mut missing = vec![dir];
    let mut above = dir.parent();
    while let Some(dir) = above {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            break;
        }
        missing.push(dir);
        above = dir.parent();
    }
    for dir in missing.iter().rev() {
        match std::fs::create_dir(dir) {
            Ok(()) => {}
            // Another thread was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(FsError::new(*dir, "create", error)),
        }
        if durability == Durability::Synced {
            sync_parent(dir)?;
        }
    }
    Ok(())
}

/// Refuses a path that would be written outside a directory: by `..`, by being absolute, or through
/// a link among its parents. The last component may be a link: it is replaced, not followed.
pub fn ensure_inside(dir: &Path, path: &Path) -> Result<()> {
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
    let base = std::fs::canonicalize(dir).at("read", dir)?;
    let mut parent = path.parent();
    while let Some(existing) = parent {
        let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        match std::fs::canonicalize(existing) {
            Ok(resolved) if resolved.starts_with(&base) => return Ok(()),
            Ok(_) => return refuse("a link leads out of the run directory"),
            // A dangling link among the parents: it exists, but leads nowhere yet.
            Err(_) if matches!(kind(existing), Ok(Some(_))) => return refuse("a link leads nowhere"),
            Err(error) if error.kind() == ErrorKind::NotFound => parent = existing.parent(),
            Err(error) => return Err(FsError::new(path, "write", error)),
        }
    }
    Ok(())
}

/// Files from this size on are linked rather than copied.
const LINK_FROM: u64 = 1 << 20;

/// Gives a large file's content a second name; false if it is small, has other names already, or the
/// file system refuses. Safe only because the caller is about to take the first name away: until then
/// a write in place changes both.
pub fn link_large(from: &Path, to: &Path, durability: Durability) -> Result<bool> {
    let (_, metadata) = open_regular(from)?;
    let plain = kind(from)? == Some(FileKind::File) && metadata.nlink() == 1;
    if !plain || metadata.len() < LINK_FROM || kind(to)?.is_some() {
        return Ok(false);
    }
    if std::fs::hard_link(from, to).is_err() {
        return Ok(false);
    }
    if durability == Durability::Synced {
        sync_file(to)?;
        sync_parent(to)?;
    }
    Ok(true)
}

/// [`link_large`], else [`copy_atomic`].
pub fn link_or_copy(from: &Path, to: &Path, durability: Durability) -> Result<()> {
    if link_large(from, to, durability)? { Ok(()) } else { copy_atomic(from, to, durability) }
}

/// Copies a regular file under another name, atomically, by reference where the file system can.
pub fn copy_atomic(from: &Path, to: &Path, durability: Durability) -> Result<()> {
    let temp = copy_beside(from, to, durability)?;
    let mut temp = Temp { path: temp, armed: true };
    retry(|| std::fs::rename(&temp.path, to)).at("write", to)?;
    temp.armed = false;
    if durability == Durability::Synced {
        sync_parent(to)?;
    }
    Ok(())
}

/// Copies a regular file to a temporary name beside `target`, permissions included.
pub fn copy_beside(from: &Path, target: &Path, durability: Durability) -> Result<PathBuf> {
    let (mut source, metadata) = open_regular(from)?;
    let path = temp_beside(target);
    let mut file = create_temp(&path).at("write", target)?;
    let mut temp = Temp { path, armed: true };
    if !reflink(&source, &file) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = retry(|| source.read(&mut buffer)).at("read", from)?;
            if n == 0 {
                break;
            }
            write_all(&mut file, &buffer[..n]).map_err(|(_, error)| error).at("write", target)?;
        }
    }
    let _ = file.set_permissions(Permissions::from_mode(metadata.mode() & 0o777));
    if durability == Durability::Synced {
        retry(|| file.sync_all()).at("write", target)?;
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

// ---------------------------------------------------------------- appending

/// A file that only grows, line by line.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
    /// The last write failed half-way and could not be taken back: the next line starts on its own.
    torn: bool,
}

impl AppendFile {
    /// Opens a file for appending, creating it if needed; a link is refused.
    pub fn open(path: &Path) -> Result<AppendFile> {
        let flags = OFlags::NOFOLLOW.bits() as i32;
        let file = retry(|| OpenOptions::new().append(true).create(true).custom_flags(flags).open(path))
            .at("write", path)?;
        Ok(AppendFile { path: path.to_owned(), file, torn: false })
    }

    /// Appends one line with one write; `line` holds no newline. A line that could be written only
    /// in part is taken back.
    pub fn line(&mut self, line: &[u8], durability: Durability) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        if let Err((written, error)) = write_all(&mut self.file, &bytes) {
            if written > 0 {
                let taken_back = self
                    .file
                    .metadata()
                    .and_then(|metadata| self.file.set_len(metadata.len().saturating_sub(written as u64)));
                self.torn = self.torn || taken_back.is_err();
            }
            return Err(FsError::new(&self.path, "write", error));
        }
        self.torn = false;
        if durability == Durability::Synced {
            retry(|| self.file.sync_data()).at("write", &self.path)?;
        }
        Ok(())
    }
}

/// Appends one line to a file.
pub fn append_line(path: &Path, line: &[u8], durability: Durability) -> Result<()> {
    let new = kind(path)?.is_none();
    AppendFile::open(path)?.line(line, durability)?;
    if new && durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(())
}

/// Cuts a file to a length.
pub fn truncate(path: &Path, len: u64) -> Result<()> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let file = retry(|| OpenOptions::new().write(true).custom_flags(flags).open(path)).at("write", path)?;
    file.set_len(len).at("write", path)?;
    retry(|| file.sync_all()).at("write", path)
}

/// The last `len` bytes of a regular file, and its whole length.
pub fn read_tail(path: &Path, len: u64) -> Result<(Vec<u8>, u64)> {
    let (mut file, metadata) = open_regular(path)?;
    let total = metadata.len();
    file.seek(SeekFrom::Start(total.saturating_sub(len))).at("read", path)?;
    let mut bytes = Vec::new();
    file.take(len.min(total)).read_to_end(&mut bytes).at("read", path)?;
    Ok((bytes, total))
}

// ---------------------------------------------------------------- locking

/// Opens what is locked: a directory, or a file made for the purpose.
pub(crate) fn open_lock_file(path: &Path) -> Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    retry(|| {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path)
    })
    .at("lock", path)
}
