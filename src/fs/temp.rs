//! Temporary names, scratch files, and the sweeping of what the dead left.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::read::{FileKind, each_in_dir};
use super::write::remove;
use super::{At, NAME_MAX, Result, TEMP_PREFIX, change, retry};

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
pub(super) fn temp_in(dir: &Path, name: &OsStr) -> PathBuf {
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

/// All a scratch file holds, wherever its handles stand; of more than 64 MiB the last, which says how it ended.
pub fn read_scratch(file: &File) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let path = Path::new("(output of a command)");
    let size = file.metadata().at("read", path)?.len();
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(64 << 20)];
    let from = size - bytes.len() as u64;
    let mut at = 0;
    while at < bytes.len() {
        match retry(|| file.read_at(&mut bytes[at..], from + at as u64)).at("read", path)? {
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
pub(super) struct Temp {
    pub(super) path: PathBuf,
    pub(super) armed: bool,
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
    let mut temps = Vec::new();
    each_in_dir(dir, |name, kind| {
        if name.as_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
            temps.push((name, kind));
        }
    })?;
    for (name, kind) in temps {
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
