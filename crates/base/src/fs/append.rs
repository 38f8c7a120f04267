//! Appending to logs, and reading their ends; what is locked.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::primitive::{mode_of_new, open_dir, sync_parent, write_all};
use super::read::{not_regular, of_regular, open_regular};
use super::{At, Durability, FsError, Result, beneath, change, group, retry, sync};

/// Opens a regular file to change it, no link followed; a pipe is not waited for.
fn open_to_change(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = beneath::open(path, flags, mode_of_new(path));
    match opened.and_then(of_regular) {
        Ok((file, _)) => Ok(file),
        // What a system says of a pipe that nobody reads, and of a socket.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            Err(not_regular())
        }
        Err(error) => Err(error),
    }
}

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
        AppendFile::open_with(path, true)
    }

    /// Opens a file that is there for appending.
    fn open_there(path: &Path) -> Result<AppendFile> {
        AppendFile::open_with(path, false)
    }

    fn open_with(path: &Path, create: bool) -> Result<AppendFile> {
        let create = if create { OFlags::CREATE } else { OFlags::empty() };
        let flags = OFlags::WRONLY | OFlags::APPEND | create;
        let file = change(|| open_to_change(path, flags)).at("write", path)?;
        Ok(AppendFile { path: path.to_owned(), file, torn: false })
    }

    /// Whether it is still the file of its name, not removed or replaced.
    pub fn is_at_its_name(&self) -> bool {
        match (beneath::look(&self.path), retry(|| self.file.metadata())) {
            (Ok(named), Ok(own)) => named.is_the_file(own.dev(), own.ino()),
            _ => false,
        }
    }

    /// Its length.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> Result<u64> {
        Ok(retry(|| self.file.metadata()).at("read", &self.path)?.len())
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
            sync(|| group::sync_data(&self.file)).at("write", &self.path)?;
        }
        Ok(())
    }
}

/// Appends one line to a file, and returns it to append more.
pub fn append_line(path: &Path, line: &[u8], durability: Durability) -> Result<AppendFile> {
    let (mut file, new) = match AppendFile::open_there(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => (AppendFile::open(path)?, true),
        opened => (opened?, false),
    };
    file.line(line, durability)?;
    if new && durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(file)
}

/// Appends bytes to a file, creating it if needed: for what may be lost.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut to = AppendFile::open(path)?;
    write_all(&mut to.file, bytes).map_err(|(_, error)| FsError::new(path, "write", error))
}

/// Says that a file was changed at a time.
pub fn set_mtime(path: &Path, time: std::time::SystemTime) -> Result<()> {
    let file = open_to_change(path, OFlags::WRONLY).at("touch", path)?;
    change(|| file.set_modified(time)).at("touch", path)
}

/// Cuts a file to a length.
pub fn truncate(path: &Path, len: u64) -> Result<()> {
    let file = open_to_change(path, OFlags::WRONLY).at("write", path)?;
    change(|| file.set_len(len)).at("write", path)?;
    sync(|| group::sync_all(&file)).at("write", path)
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

/// At most `len` bytes of a regular file from a place on, and its whole length.
pub fn read_range(path: &Path, offset: u64, len: u64) -> Result<(Vec<u8>, u64)> {
    let (mut file, metadata) = open_regular(path)?;
    file.seek(SeekFrom::Start(offset)).at("read", path)?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).at("read", path)?;
    Ok((bytes, metadata.len()))
}

/// Waits until no other process holds a folder so, and holds it; nothing is held where the file system has no locks.
pub fn hold_dir(dir: &Path) -> Result<Option<File>> {
    let file = open_dir(dir).at("lock", dir)?;
    Ok(retry(|| file.lock()).is_ok().then_some(file))
}

/// The same with a file that is made for the purpose, where the folder itself may be held by others for long.
pub fn hold_file(path: &Path) -> Result<Option<File>> {
    let file = open_lock_file(path)?;
    Ok(retry(|| file.lock()).is_ok().then_some(file))
}

/// A new, empty file for a program to write its messages to; one of that name is taken away, not emptied, since its
/// program may still write.
pub fn fresh_log(path: &Path) -> Result<File> {
    super::primitive::remove(path)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    beneath::open(path, flags, mode_of_new(path)).at("write", path)
}

/// Opens what is locked: a directory, or a file made for the purpose.
pub fn open_lock_file(path: &Path) -> Result<File> {
    open_to_change(path, OFlags::RDWR | OFlags::CREATE).at("lock", path)
}
