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
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
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
        // A cause in our own words stands as it is.
        if let Some(own) = self.source.get_ref() {
            return own.to_string();
        }
        match self.kind() {
            ErrorKind::StorageFull => "no space left on device".to_owned(),
            ErrorKind::QuotaExceeded => "disk quota exceeded".to_owned(),
            ErrorKind::FileTooLarge => {
                "larger than files may be (`ulimit -f`, or the file system)".to_owned()
            }
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

/// Tests make the n-th change to the disk fail, once or from then on, to see what each would leave.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static STICKY: Cell<bool> = const { Cell::new(false) };
        static FIRED: Cell<bool> = const { Cell::new(false) };
        static USED: Cell<bool> = const { Cell::new(false) };
    }

    /// A thread that ever used faults is not after what a power cut leaves.
    pub(super) fn skip_sync() -> bool {
        USED.get()
    }

    /// Lets `after` changes of this thread pass, then fails one, or with `sticky` all.
    pub(crate) fn arm(after: u64, sticky: bool) {
        LEFT.set(Some(after));
        STICKY.set(sticky);
        FIRED.set(false);
        USED.set(true);
    }

    /// Ends it; returns whether a change was made to fail.
    pub(crate) fn disarm() -> bool {
        LEFT.set(None);
        FIRED.get()
    }

    /// While armed, writes are short, so that a fault can come in the middle.
    pub(super) fn piece(bytes: &[u8]) -> &[u8] {
        if LEFT.get().is_some() { &bytes[..bytes.len().div_ceil(2)] } else { bytes }
    }

    pub(super) fn point() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                FIRED.set(true);
                if !STICKY.get() {
                    LEFT.set(None);
                }
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

#[cfg(not(test))]
mod fault {
    #[inline(always)]
    pub(super) fn point() -> std::io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub(super) fn piece(bytes: &[u8]) -> &[u8] {
        bytes
    }

    #[inline(always)]
    pub(super) fn skip_sync() -> bool {
        false
    }
}

/// A change to the disk: gone on with after an interruption.
fn change<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry(|| {
        fault::point()?;
        f()
    })
}

/// A sync. Tests with faults count it and leave the device alone.
fn sync(mut f: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    change(|| if fault::skip_sync() { Ok(()) } else { f() })
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
    // Most files are small, and to clear a large buffer takes longer than to hash them.
    let length = file.metadata()?.len().clamp(1 << 10, 1 << 16) as usize;
    let mut buffer = vec![0; length];
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The signature of a directory, its size left out: its times tell whether names came or went. `None`
/// if there is none.
pub fn directory_times(path: &Path) -> Result<Option<Signature>> {
    let metadata = optional(retry(|| std::fs::metadata(path)).at("read", path))?;
    Ok(metadata.filter(Metadata::is_dir).map(|metadata| Signature { size: 0, ..Signature::of(&metadata) }))
}

/// A directory held open, to look at many of its files without walking its path each time.
#[derive(Debug)]
pub struct OpenDir {
    fd: std::os::fd::OwnedFd,
}

impl OpenDir {
    /// Opens a directory.
    pub fn open(path: &Path) -> Result<OpenDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        Ok(OpenDir { fd: opened.map_err(io::Error::from).at("read", path)? })
    }

    /// The signature of a regular file in it, links followed; none if there is none.
    pub fn signature(&self, name: &std::ffi::CStr) -> Option<Signature> {
        let stat = rustix::fs::statat(&self.fd, name, rustix::fs::AtFlags::empty()).ok()?;
        let regular =
            rustix::fs::FileType::from_raw_mode(stat.st_mode as _) == rustix::fs::FileType::RegularFile;
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        regular.then(|| Signature {
            size: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            ino: stat.st_ino as u64,
            mode: stat.st_mode as u32,
        })
    }
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

/// Whether a file name is that of a temporary file of ours.
pub fn is_temp_name(name: &str) -> bool {
    name.starts_with(TEMP_PREFIX)
}

/// A new file, open for writing; it must not be there.
pub fn create_new(path: &Path) -> Result<File> {
    change(|| File::create_new(path)).at("create", path)
}

/// A file without a name, for what a program says: it is gone with its last handle.
pub fn scratch_file(dir: &Path) -> Result<File> {
    let path = temp_in(dir, OsStr::new("said"));
    let file =
        change(|| File::options().read(true).write(true).create_new(true).open(&path)).at("create", &path)?;
    remove(&path)?;
    Ok(file)
}

/// A scratch file that holds bytes, to be read from its start: a program's standard input.
pub fn scratch_with(dir: &Path, bytes: &[u8]) -> Result<File> {
    let mut file = scratch_file(dir)?;
    change(|| file.write_all(bytes)).at("write", dir)?;
    file.rewind().at("read", dir)?;
    Ok(file)
}

/// All a scratch file holds, wherever its handles stand.
pub fn read_scratch(file: &File) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let path = Path::new("(output of a command)");
    let size = file.metadata().at("read", path)?.len();
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(64 << 20)];
    let mut at = 0;
    while at < bytes.len() {
        match retry(|| file.read_at(&mut bytes[at..], at as u64)).at("read", path)? {
            0 => break,
            n => at += n,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
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
            let _ = change(|| std::fs::remove_file(&self.path));
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

fn create_temp(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    change(|| OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path))
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

/// [`write_atomic`] for what nobody but the user may read: the file gets mode 600 whatever it had, and folders
/// that are made for it 700.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new(""));
    if !dir.as_os_str().is_empty() && !dir.is_dir() {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes directories")]
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).at("create", dir)?;
    }
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let mut temp = Temp { path: temp_beside(path), armed: false };
    let mut file = retry(|| {
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(&temp.path)
    })
    .at("write", path)?;
    temp.armed = true;
    write_all(&mut file, bytes).map_err(|(_, error)| error).at("write", path)?;
    retry(|| file.sync_all()).at("write", path)?;
    retry(|| std::fs::rename(&temp.path, path)).at("write", path)?;
    temp.armed = false;
    sync_parent(path)
}

/// [`write_atomic`] with the temporary name in another directory of the same file system.
pub fn write_via(temp_dir: &Path, path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    let mut temp = write_temp(temp_in(temp_dir, name), path, bytes, durability)?;
    change(|| std::fs::rename(&temp.path, path)).at("write", path)?;
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
        sync(|| file.sync_all()).at("write", target)?;
    }
    Ok(temp)
}

/// Syncs a file's content, whoever wrote it.
pub fn sync_file(path: &Path) -> Result<()> {
    let (file, _) = open_regular(path)?;
    sync(|| file.sync_all()).at("write", path)
}

/// Syncs the names of a directory.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let file = retry(|| File::open(dir)).at("write", dir)?;
    match sync(|| file.sync_all()) {
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

/// Whether all of a file system can be synced at once.
pub const CAN_SYNC_TOGETHER: bool = cfg!(target_os = "linux");

/// Syncs the file system a directory is on: every content and every name.
#[cfg(target_os = "linux")]
pub fn sync_file_system(dir: &Path) -> Result<()> {
    let file = retry(|| File::open(dir)).at("write", dir)?;
    sync(|| rustix::fs::syncfs(&file).map_err(io::Error::from)).at("write", dir)
}

/// Not to be had: see [`CAN_SYNC_TOGETHER`].
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

fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(path.parent().unwrap_or(Path::new("")))
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
    for (temp, target) in temps {
        change(|| std::fs::rename(temp, target)).at("write", target)?;
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
    change(|| std::fs::rename(from, to)).at("rename", from)?;
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
    Ok(optional(change(|| std::fs::remove_file(path)).at("remove", path))?.is_some())
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
        match change(|| std::fs::create_dir(dir)) {
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
    if relative.parent().is_some_and(|parent| is_plain(dir, parent)) {
        return Ok(());
    }
    let base = std::fs::canonicalize(dir).at("read", dir)?;
    let mut parent = path.parent();
    while let Some(existing) = parent {
        let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        match std::fs::canonicalize(existing) {
            Ok(resolved) if resolved.starts_with(&base) => return Ok(()),
            Ok(_) => return refuse("a link leads out of the run directory"),
            Err(error) if error.kind() == ErrorKind::NotFound => match kind(existing)? {
                // A dangling link among the parents: it exists, but leads nowhere yet.
                Some(FileKind::Link) => return refuse("a link leads nowhere"),
                // Made by another thread between the two looks: look again.
                Some(_) => {}
                None => parent = existing.parent(),
            },
            Err(error) => return Err(FsError::new(path, "write", error)),
        }
    }
    Ok(())
}

/// Whether no part of a relative path below a directory is a link, as far as it exists. A quick yes;
/// a no says only that one has to look closer.
fn is_plain(dir: &Path, relative: &Path) -> bool {
    let mut at = dir.to_owned();
    for component in relative.components() {
        at.push(component);
        match kind(&at) {
            Ok(Some(FileKind::Dir)) => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
    true
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
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return false;
        }
        let parent = relative.parent().unwrap_or(Path::new(""));
        let known = self.dirs.get(parent).copied();
        let plain = known.unwrap_or_else(|| {
            let plain = is_plain(dir, parent);
            self.dirs.insert(parent.to_owned(), plain);
            plain
        });
        plain && matches!(kind(&dir.join(relative)), Ok(Some(FileKind::File)))
    }
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
    if change(|| std::fs::hard_link(from, to)).is_err() {
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
    let temp = copy_to_temp(from, to.parent().unwrap_or(Path::new("")), durability)?;
    let mut temp = Temp { path: temp, armed: true };
    change(|| std::fs::rename(&temp.path, to)).at("write", to)?;
    temp.armed = false;
    if durability == Durability::Synced {
        sync_parent(to)?;
    }
    Ok(())
}

/// Copies a regular file to a temporary name in a directory, permissions included.
pub fn copy_to_temp(from: &Path, dir: &Path, durability: Durability) -> Result<PathBuf> {
    let (mut source, metadata) = open_regular(from)?;
    let path = temp_in(dir, from.file_name().unwrap_or(OsStr::new("file")));
    let mut file = create_temp(&path).at("write", &path)?;
    let mut temp = Temp { path, armed: true };
    if !reflink(&source, &file) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = retry(|| source.read(&mut buffer)).at("read", from)?;
            if n == 0 {
                break;
            }
            write_all(&mut file, &buffer[..n]).map_err(|(_, error)| error).at("write", &temp.path)?;
        }
    }
    let _ = file.set_permissions(Permissions::from_mode(metadata.mode() & 0o777));
    if durability == Durability::Synced {
        sync(|| file.sync_all()).at("write", &temp.path)?;
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
        let file = change(|| OpenOptions::new().append(true).create(true).custom_flags(flags).open(path))
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
                let taken_back = self.file.metadata().and_then(|metadata| {
                    change(|| self.file.set_len(metadata.len().saturating_sub(written as u64)))
                });
                self.torn = self.torn || taken_back.is_err();
            }
            return Err(FsError::new(&self.path, "write", error));
        }
        self.torn = false;
        if durability == Durability::Synced {
            sync(|| self.file.sync_data()).at("write", &self.path)?;
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

/// Appends bytes to a file, creating it if needed: for what may be lost.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut to = AppendFile::open(path)?;
    write_all(&mut to.file, bytes).map_err(|(_, error)| FsError::new(path, "write", error))
}

/// Says that a file was changed at a time.
pub fn set_mtime(path: &Path, time: std::time::SystemTime) -> Result<()> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let file = retry(|| OpenOptions::new().write(true).custom_flags(flags).open(path)).at("touch", path)?;
    change(|| file.set_modified(time)).at("touch", path)
}

/// Cuts a file to a length.
pub fn truncate(path: &Path, len: u64) -> Result<()> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let file = retry(|| OpenOptions::new().write(true).custom_flags(flags).open(path)).at("write", path)?;
    change(|| file.set_len(len)).at("write", path)?;
    sync(|| file.sync_all()).at("write", path)
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

/// The bytes of a regular file from a place on, and its whole length; none if it is shorter.
pub fn read_from(path: &Path, offset: u64) -> Result<(Vec<u8>, u64)> {
    let (mut file, metadata) = open_regular(path)?;
    let total = metadata.len();
    file.seek(SeekFrom::Start(offset)).at("read", path)?;
    let mut bytes = Vec::new();
    file.take(total.saturating_sub(offset)).read_to_end(&mut bytes).at("read", path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        list_dir(dir).unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn private_files_are_the_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config/planexe/keys.toml");
        write_private(&path, b"one").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!((mode(&path), read(&path).unwrap()), (0o600, b"two".to_vec()));
    }

    #[test]
    fn messages_name_file_and_cause() {
        let error = FsError::new("/run/swot.json", "write", ErrorKind::StorageFull.into());
        assert!(error.is_out_of_space());
        let error = error.within(Path::new("/run"));
        assert_eq!(error.to_string(), "cannot write `swot.json`: no space left on device");
        let error = read(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nowhere/at/all`: no such file or directory");
        let error = FsError::new("x", "write", io::Error::from_raw_os_error(40));
        assert!(!error.to_string().contains("os error"), "{error}");
    }

    #[test]
    fn write_atomic_replaces_whole_and_leaves_nothing_behind() {
        let dir = dir();
        let path = dir.path().join("a.json");
        for (bytes, durability) in [(&b"one"[..], Durability::Unsynced), (b"two", Durability::Synced)] {
            write_atomic(&path, bytes, durability).unwrap();
            assert_eq!(read(&path).unwrap(), bytes);
        }
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn write_atomic_keeps_permissions() {
        let dir = dir();
        let path = dir.path().join("a.sh");
        write_atomic(&path, b"one", Durability::Unsynced).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        write_atomic(&path, b"two", Durability::Unsynced).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn a_fault_at_any_point_leaves_the_old_content() {
        let dir = dir();
        let path = dir.path().join("a.json");
        for sticky in [false, true] {
            write_atomic(&path, b"old", Durability::Synced).unwrap();
            let mut faults = 0;
            loop {
                fault::arm(faults, sticky);
                let result = write_atomic(&path, b"new", Durability::Synced);
                if !fault::disarm() {
                    result.unwrap();
                    break;
                }
                let error = result.unwrap_err();
                assert!(error.is_out_of_space(), "{error}");
                let now = read(&path).unwrap();
                // The last point is the directory's sync: the name has been taken.
                assert!(now == b"old" || now == b"new", "{now:?}");
                if !sticky {
                    assert_eq!(names(dir.path()), ["a.json"]);
                }
                faults += 1;
            }
            assert!(faults >= 4, "{faults}");
            assert_eq!(read(&path).unwrap(), b"new");
        }
    }

    #[test]
    fn a_final_name_that_is_a_link_is_replaced_not_followed() {
        let dir = dir();
        let outside = dir.path().join("outside");
        write_atomic(&outside, b"mine", Durability::Unsynced).unwrap();
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        write_atomic(&link, b"theirs", Durability::Unsynced).unwrap();
        assert_eq!(read(&outside).unwrap(), b"mine");
        assert_eq!(kind(&link).unwrap(), Some(FileKind::File));
    }

    #[test]
    fn appending_refuses_a_link() {
        let dir = dir();
        let outside = dir.path().join("outside");
        write_atomic(&outside, b"mine", Durability::Unsynced).unwrap();
        let link = dir.path().join("events.jsonl");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        append_line(&link, b"{}", Durability::Unsynced).unwrap_err();
        assert_eq!(read(&outside).unwrap(), b"mine");
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        let dir = dir();
        let run = dir.path().join("run");
        make_dirs(&run.join("sub/deep"), Durability::Synced).unwrap();
        make_dirs(&dir.path().join("elsewhere"), Durability::Unsynced).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), run.join("out")).unwrap();
        std::os::unix::fs::symlink(run.join("sub"), run.join("in")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nothing"), run.join("dangling")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", run.join("final")).unwrap();
        for (path, fine) in [
            ("a.json", true),
            ("sub/a.json", true),
            ("sub/deep/new/newer/a.json", true),
            ("in/a.json", true),
            ("final", true),
            ("out/a.json", false),
            ("out/new/a.json", false),
            ("dangling/a.json", false),
            ("../a.json", false),
            ("sub/../../a.json", false),
            ("/etc/passwd", false),
            ("", false),
        ] {
            let result = ensure_inside(&run, &run.join(path));
            assert_eq!(result.is_ok(), fine, "{path}: {result:?}");
            assert!(!result.is_err_and(|error| error.is_read_only()), "{path}");
        }
    }

    #[test]
    fn temporary_names_are_unique_and_keep_the_extension() {
        let target = Path::new("reports/a.html");
        let (a, b) = (temp_beside(target), temp_beside(target));
        assert_ne!(a, b);
        assert_eq!(a.parent(), target.parent());
        assert_eq!(a.extension().unwrap(), "html");
        let long = format!("{}.json", "ü".repeat(125));
        let temp = temp_beside(Path::new(&long));
        let name = temp.file_name().unwrap().to_str().unwrap();
        assert!(name.len() <= NAME_MAX && name.ends_with("ü.json"), "{name}");
    }

    #[test]
    fn temps_of_the_dead_are_swept_and_no_others() {
        let dir = dir();
        let own = temp_beside(&dir.path().join("a.json"));
        // No process has this id: it is beyond what kernels give out.
        let dead = format!("{TEMP_PREFIX}{}-0badcafe-0-a.json", i32::MAX);
        let reused = format!("{TEMP_PREFIX}{}-0badcafe-0-a.json", std::process::id());
        let alive = format!("{TEMP_PREFIX}{}-0badcafe-0-a.json", rustix::process::getppid().unwrap());
        let odd = format!("{TEMP_PREFIX}x");
        for name in [&dead, &reused, &alive, &odd, "a.json", ".planexe-tmp"] {
            write_atomic(&dir.path().join(name), b"", Durability::Unsynced).unwrap();
        }
        write_atomic(&own, b"", Durability::Unsynced).unwrap();
        assert_eq!(sweep_temps(dir.path()).unwrap(), 3);
        let left = names(dir.path());
        let own = own.file_name().unwrap().to_str().unwrap().to_owned();
        for (name, there) in [
            (&dead, false),
            (&reused, false),
            (&odd, false),
            (&alive, true),
            (&own, true),
            (&"a.json".into(), true),
        ] {
            assert_eq!(left.contains(name), there, "{name}");
        }
        assert_eq!(sweep_temps(&dir.path().join("missing")).unwrap(), 0);
    }

    #[test]
    fn a_full_device_is_reported_as_such() {
        if !Path::new("/dev/full").exists() {
            return;
        }
        let error = append_line(Path::new("/dev/full"), b"{}", Durability::Unsynced).unwrap_err();
        assert!(error.is_out_of_space(), "{error}");
        assert_eq!(error.to_string(), "cannot write `/dev/full`: no space left on device");
    }

    #[test]
    fn a_short_write_is_gone_on_from() {
        struct Short(Vec<u8>, u32);
        impl Write for Short {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                if self.1.is_multiple_of(2) {
                    return Err(ErrorKind::Interrupted.into());
                }
                self.0.push(bytes[0]);
                Ok(1)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut short = Short(Vec::new(), 0);
        write_all(&mut short, b"hello").unwrap();
        assert_eq!(short.0, b"hello");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_does_not_hang() {
        let dir = dir();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
            hash_file(path).unwrap_err();
            signature(path).unwrap_err();
            read(path).unwrap_err();
        }
        assert_eq!(signature(dir.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(signature(&dir.path().join("missing")).unwrap(), None);
        assert_eq!(signature(&pipe.join("below")).unwrap(), None);
        let target = dir.path().join("out");
        publish(&[(pipe, target.clone())], Durability::Unsynced).unwrap_err();
        assert_eq!(kind(&target).unwrap(), None);
    }

    #[test]
    fn hashing_in_pieces_is_hashing() {
        let dir = dir();
        let path = dir.path().join("big");
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        write_atomic(&path, &bytes, Durability::Unsynced).unwrap();
        assert_eq!(hash_file(&path).unwrap(), (Digest::of(&bytes), 300_000));
        assert_eq!(read_tail(&path, 10).unwrap(), (bytes[299_990..].to_vec(), 300_000));
        read_capped(&path, 299_999).unwrap_err();
        assert_eq!(read_capped(&path, 300_000).unwrap().len(), 300_000);
    }

    #[test]
    fn large_files_are_linked_unless_they_have_other_names() {
        let dir = dir();
        let path = |name: &str| dir.path().join(name);
        write_atomic(&path("small"), b"x", Durability::Unsynced).unwrap();
        write_atomic(&path("large"), &vec![7; LINK_FROM as usize], Durability::Unsynced).unwrap();
        assert!(!link_large(&path("small"), &path("s"), Durability::Unsynced).unwrap());
        assert!(link_large(&path("large"), &path("l"), Durability::Synced).unwrap());
        assert!(!link_large(&path("large"), &path("m"), Durability::Unsynced).unwrap());
        link_or_copy(&path("large"), &path("m"), Durability::Synced).unwrap();
        let ino = |name: &str| std::fs::metadata(path(name)).unwrap().ino();
        assert_eq!(ino("large"), ino("l"));
        assert_ne!(ino("large"), ino("m"));
        assert_eq!(hash_file(&path("large")).unwrap(), hash_file(&path("m")).unwrap());
    }

    #[test]
    fn a_line_that_failed_is_taken_back() {
        let dir = dir();
        let path = dir.path().join("log");
        let mut file = AppendFile::open(&path).unwrap();
        file.line(b"{\"n\":1}", Durability::Synced).unwrap();
        for after in 0..3 {
            fault::arm(after, false);
            file.line(b"{\"n\":2}", Durability::Unsynced).unwrap_err();
            assert!(fault::disarm());
        }
        file.line(b"{\"n\":3}", Durability::Synced).unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":3}\n");
        // If it cannot be taken back, the next line starts on its own.
        fault::arm(1, true);
        file.line(b"{\"n\":4}", Durability::Unsynced).unwrap_err();
        assert!(fault::disarm());
        file.line(b"{\"n\":5}", Durability::Unsynced).unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":3}\n{\"n\"\n{\"n\":5}\n");
    }
}
