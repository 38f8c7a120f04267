//! Contents by their digest, verified whenever they are read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::History;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{Digest, OutputRecord};

/// Outputs up to this size are kept when they are made, larger ones when they are replaced.
const OUTPUT_CAP: u64 = 16 << 20;

fn damaged(path: &Path) -> FsError {
    let why = std::io::Error::new(ErrorKind::InvalidData, "damaged: the content is not what its name says");
    FsError::new(path, "read", why)
}

/// Whether a file has the name of a content, in a folder of such.
pub(super) fn is_object(path: &Path) -> bool {
    let is_hex = |name: Option<&std::ffi::OsStr>, length: usize| {
        name.and_then(|name| name.to_str())
            .is_some_and(|name| name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    is_hex(path.file_name(), 62) && is_hex(path.parent().and_then(Path::file_name), 2)
}

impl History {
    pub(super) fn object_path(&self, digest: &Digest) -> Option<PathBuf> {
        let hex = &digest.0;
        (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| self.dir.join("objects").join(&hex[..2]).join(&hex[2..]))
    }

    /// Whether a content can be had, verified.
    pub fn has(&self, digest: &Digest) -> bool {
        self.object_path(digest)
            .is_some_and(|path| fs::hash_file(&path).is_ok_and(|(found, _)| found == *digest))
    }

    /// [`History::has`] of a content that may have been put there without a sync.
    fn has_durably(&self, digest: &Digest, durability: Durability) -> Result<bool, FsError> {
        let has = self.has(digest);
        if has
            && durability == Durability::Synced
            && let Some(path) = self.object_path(digest)
        {
            fs::sync_file(&path)?;
            path.parent().map_or(Ok(()), fs::sync_dir)?;
        }
        Ok(has)
    }

    /// Keeps what an output was given, so that it can be had even if the file is written to in place
    /// afterwards. Not synced: the output itself is.
    pub fn put_output(
        &self,
        file: &Path,
        content: Option<&[u8]>,
        record: &OutputRecord,
    ) -> Result<(), FsError> {
        match content {
            _ if record.bytes > OUTPUT_CAP => {}
            Some(content) => self.put_directly(content, &record.blake3)?,
            None => drop(self.put_file(file, false, Durability::Unsynced)?),
        }
        Ok(())
    }

    /// Puts bytes under their final name at once. Part of them, left by a kill or seen by a reader, is taken for
    /// nothing: an object that does not hash to its name is never returned, and written again when it is put again.
    fn put_directly(&self, bytes: &[u8], digest: &Digest) -> Result<(), FsError> {
        let path = self.object_path(digest).expect("BUG: a digest is 64 hex digits");
        let folder = &digest.0[..2];
        let mut made = self.made.lock();
        if !made.contains(folder) {
            self.make_object_dir(&path, Durability::Unsynced)?;
            made.insert(folder.to_owned());
        }
        drop(made);
        match fs::write_directly(&path, bytes) {
            Ok(true) => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            // It is there, or its folder is gone.
            Ok(false) | Err(_) => self.put(bytes, Durability::Unsynced).map(drop),
        }
    }

    /// A content by its digest. One that does not hash to its name is not returned.
    pub fn object(&self, digest: &Digest) -> Result<Vec<u8>, FsError> {
        let path = self.object_of(digest)?;
        let bytes = fs::read(&path)?;
        if Digest::of(&bytes) != *digest {
            return Err(damaged(&path));
        }
        Ok(bytes)
    }

    /// Puts a copy of a content beside a target, under a temporary name, without holding all of it. One that does not
    /// hash to its name is not given.
    pub(crate) fn copy_beside(
        &self,
        digest: &Digest,
        target: &Path,
        durability: Durability,
    ) -> Result<PathBuf, FsError> {
        let path = self.object_of(digest)?;
        let temp = fs::copy_beside(&path, target, durability)?;
        let error = match fs::hash_file(&temp) {
            Ok((found, _)) if found == *digest => return Ok(temp),
            Ok(_) => damaged(&path),
            Err(error) => error,
        };
        let _ = fs::remove(&temp);
        Err(error)
    }

    /// Where a content is, if its digest is one.
    fn object_of(&self, digest: &Digest) -> Result<PathBuf, FsError> {
        let missing = || FsError::new(self.dir.join(&digest.0), "read", ErrorKind::NotFound.into());
        self.object_path(digest).ok_or_else(missing)
    }

    /// Puts bytes into history.
    pub fn put(&self, bytes: &[u8], durability: Durability) -> Result<Digest, FsError> {
        let digest = Digest::of(bytes);
        if !self.has_durably(&digest, durability)? {
            let path = self.object_path(&digest).expect("BUG: a digest is 64 hex digits");
            self.make_object_dir(&path, durability)?;
            fs::write_via(&self.temp_dir, &path, bytes, durability)?;
        }
        Ok(digest)
    }

    /// Puts a file's content into history. With `replacing`, the caller is about to take the file's
    /// name away, and a large file may be linked instead of copied.
    pub(super) fn put_file(
        &self,
        file: &Path,
        replacing: bool,
        durability: Durability,
    ) -> Result<(Digest, u64), FsError> {
        let before = fs::signature(file)?;
        let (digest, bytes) = fs::hash_file(file)?;
        if self.has_durably(&digest, durability)? {
            return Ok((digest, bytes));
        }
        let path = self.object_path(&digest).expect("BUG: a digest is 64 hex digits");
        self.make_object_dir(&path, durability)?;
        if replacing && fs::link_large(file, &path, durability)? {
            if fs::signature(file)?.map(|s| (s.size, s.mtime_ns)) == before.map(|s| (s.size, s.mtime_ns)) {
                return Ok((digest, bytes));
            }
            fs::remove(&path)?;
        }
        // The copy is what counts: the file may have changed since it was hashed.
        let temp = fs::copy_to_private_temp(file, &self.temp_dir, durability)?;
        let kept = fs::hash_file(&temp).and_then(|(digest, bytes)| {
            let path = self.object_path(&digest).expect("BUG: a digest is 64 hex digits");
            self.make_object_dir(&path, durability)?;
            fs::rename(&temp, &path, durability)?;
            Ok((digest, bytes))
        });
        if kept.is_err() {
            let _ = fs::remove(&temp);
        }
        kept
    }

    fn make_object_dir(&self, object: &Path, durability: Durability) -> Result<(), FsError> {
        fs::ensure_inside(&self.run_dir, object)?;
        fs::make_dirs(&self.temp_dir, Durability::Unsynced)?;
        object.parent().map_or(Ok(()), |dir| fs::make_dirs(dir, durability))
    }
}
