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

use rustix::fs::OFlags;

use super::primitive::{create, mode_of_new, remove};
use super::read::each_in_dir;
use super::signature::FileKind;
use super::{At, NAME_MAX, Result, TEMP_PREFIX, beneath, change, retry};

/// What temporary files that planexe alone writes have before [`TEMP_PREFIX`]: shells and `ls` pass them over.
const HIDDEN: &str = ".";

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

/// A hidden name in `dir` that no other attempt of any process uses. It ends as `name` does, but not like a sidecar: what
/// is not finished must not be found by `*.DONE`.
pub(super) fn temp_in(dir: &Path, name: &OsStr) -> PathBuf {
    let is_sidecar = [".DONE", ".status"].iter().any(|end| name.as_bytes().ends_with(end.as_bytes()));
    let end = if is_sidecar { ".tmp" } else { "" };
    dir.join(unique_name(HIDDEN, name, end))
}

fn unique_name(start: &str, name: &OsStr, end: &str) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut temp = format!("{start}{TEMP_PREFIX}{}-{:08x}-{n}-", std::process::id(), nonce()).into_bytes();
    let name = name.as_bytes();
    let room = NAME_MAX.saturating_sub(temp.len() + end.len());
    let mut from = name.len().saturating_sub(room);
    // Not in the middle of a character.
    while from > 0 && from < name.len() && name[from] & 0xc0 == 0x80 {
        from += 1;
    }
    temp.extend_from_slice(&name[from..]);
    temp.extend_from_slice(end.as_bytes());
    OsString::from_vec(temp)
}

/// Whether a file name is that of a temporary file of ours.
pub fn is_temp_name(name: &str) -> bool {
    name.strip_prefix(HIDDEN).unwrap_or(name).starts_with(TEMP_PREFIX)
}

/// The process and the nonce in a name that [`unique_name`] made, in this process or another.
fn maker(name: &str) -> Option<(i32, &str)> {
    let mut parts = name.strip_prefix(HIDDEN).unwrap_or(name).strip_prefix(TEMP_PREFIX)?.splitn(4, '-');
    let (pid, nonce, n, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_nonce = nonce.len() == 8 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pid = pid.parse().ok().filter(|&pid: &i32| pid > 0)?;
    (is_nonce && n.parse::<u64>().is_ok()).then_some((pid, nonce))
}

/// A new file, open for writing; it must not be there.
pub fn create_new(path: &Path) -> Result<File> {
    change(|| create(path, OFlags::WRONLY, mode_of_new(path))).at("create", path)
}

/// A file without a name, for what a program says: it is gone with its last handle.
pub fn scratch_file(dir: &Path) -> Result<File> {
    let path = temp_in(dir, OsStr::new("said"));
    let file = change(|| create(&path, OFlags::RDWR, 0o600)).at("create", &path)?;
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
    let size = super::retry(|| file.metadata()).at("read", path)?.len();
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

/// The same for a file that a command writes: the name is not hidden, since programs treat hidden files in ways of
/// their own. `make` takes none as its goal.
pub fn temp_for_command(target: &Path) -> PathBuf {
    target.with_file_name(unique_name("", target.file_name().unwrap_or(OsStr::new("file")), ""))
}

/// A temporary file that is removed again unless it was renamed away.
pub(super) struct Temp {
    pub(super) path: PathBuf,
    pub(super) armed: bool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if self.armed {
            let _ = change(|| beneath::unlink(&self.path));
        }
    }
}

/// Removes temporary files in a directory whose process is gone; returns how many. To be called
/// under the lock of the run, at the start of a build.
pub fn sweep_temps(dir: &Path) -> Result<usize> {
    let mut swept = 0;
    let mut temps = Vec::new();
    each_in_dir(dir, |name, kind| {
        if matches!(kind, FileKind::File | FileKind::Link) && name.to_str().is_some_and(is_left_behind) {
            temps.push(name);
        }
    })?;
    for name in temps {
        if remove(&dir.join(&name))? {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Removes folders that a process which is gone made under a [`temp_beside`] name of a target, to be renamed to it.
pub fn sweep_temp_dirs(target: &Path) -> Result<()> {
    let (dir, wanted) =
        (target.parent().unwrap_or(Path::new("")), target.file_name().and_then(OsStr::to_str));
    let Some(end) = wanted.map(|name| format!("-{name}")) else { return Ok(()) };
    let mut left = Vec::new();
    each_in_dir(dir, |name, kind| {
        let is_left = name.to_str().is_some_and(|name| name.ends_with(&end) && is_left_behind(name));
        if kind == FileKind::Dir && is_left {
            left.push(name);
        }
    })?;
    left.iter().try_for_each(|name| {
        let path = dir.join(name);
        beneath::remove_tree(&path).at("remove", &path)
    })
}

/// Whether a name was made by a process that is gone.
fn is_left_behind(name: &str) -> bool {
    let Some((pid, of)) = maker(name) else { return false };
    let is_own = of == format!("{:08x}", nonce());
    !is_own && (pid == std::process::id() as i32 || !process_exists(pid))
}

/// Whether a process with this id runs; one we may not signal does too. One that has ended does not, though its parent
/// may not have taken that in.
pub fn process_exists(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
        && !has_ended(pid)
}

#[cfg(target_os = "linux")]
fn has_ended(pid: i32) -> bool {
    // The second field is the program's name in parentheses and may hold anything.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.iter().rposition(|&byte| byte == b')').map_or(&[][..], |at| &stat[at + 1..]);
    matches!(after.trim_ascii_start().first(), Some(b'Z' | b'X'))
}

/// Not to be seen here: the process counts as running until its parent has taken its end in.
#[cfg(not(target_os = "linux"))]
fn has_ended(_pid: i32) -> bool {
    false
}
