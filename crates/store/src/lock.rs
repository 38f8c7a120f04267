//! The lock of a run: two builds of one run directory never run at once, and a crash leaves nothing
//! to clean up, because the lock is flock on the directory itself and ends with its process.
//!
//! Who holds it is known from the kernel's own table (`/proc/locks`) or from `.planexe/owner.json`,
//! which is information only and never decides anything. Readers must not take the lock to see
//! whether it is held, not even for a moment and not even shared: a build that starts in that moment
//! would be refused.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::host::{boot_id, host_name, process_start};
use super::sidecar::to_json;
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError, OpenDir};
use planexe_engine::slots::AtOnce;

/// How long to wait for a lock that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Do not wait: a held lock is an error.
    No,
    /// At most so long.
    For(Duration),
    /// Until it is free.
    Forever,
}

/// Who holds a lock, as far as known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process id of the holder.
    pub pid: u32,
    /// The start of the process in the kernel's own ticks: a process id alone is used again.
    #[serde(default)]
    pub process_start: Option<u64>,
    /// The host that process runs on.
    #[serde(default)]
    pub host: String,
    /// The boot it runs in.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// When the build started.
    #[serde(default)]
    pub started_utc: Option<String>,
    /// The command line of the holder.
    #[serde(default)]
    pub command: Option<String>,
    /// How many tasks it runs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<AtOnce>,
}

impl Owner {
    /// The note of this process, which is about to hold the lock.
    pub fn this(command: impl Into<String>) -> Owner {
        let pid = std::process::id();
        Owner {
            pid,
            process_start: process_start(pid),
            host: host_name(),
            boot_id: boot_id(),
            started_utc: Some(clock::now_utc()),
            command: Some(command.into()),
            at_once: None,
        }
    }

    /// Whether it builds, rather than holding the lock for a moment or not having begun.
    pub fn is_building(&self) -> bool {
        self.command.as_deref() == Some("planexe build")
    }

    /// Whether the kernel names a process of this host that is no more.
    fn is_gone(&self) -> bool {
        self.host == host_name() && !i32::try_from(self.pid).is_ok_and(fs::process_exists)
    }

    /// Whether the process still runs, as far as can be seen from here: another host's cannot.
    pub(super) fn is_alive(&self) -> bool {
        self.host == host_name()
            && self.boot_id == boot_id()
            && i32::try_from(self.pid).is_ok_and(fs::process_exists)
            && (self.process_start.is_none() || self.process_start == process_start(self.pid))
    }
}

/// The folders in `.planexe/`.
const FOLDERS: [&str; 16] = [
    "batches",
    "calls",
    "edit",
    "history",
    "isolation",
    "jobs",
    "live",
    "logs",
    "notes",
    "outbox",
    "partial",
    "passed",
    "retry",
    "sidecars",
    "tmp",
    "worktrees",
];

/// How long a lock may be held by nobody: see [`RunLock::acquire_while`].
const FORKED: Duration = Duration::from_secs(2);

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Another build holds it.
    Held {
        /// Which, as far as known.
        owner: Option<Owner>,
    },
    /// The file system has no locks.
    Unsupported,
    /// What planexe keeps there belongs to another user, who keeps it closed.
    Closed {
        /// The folder, `.planexe/` of the run.
        folder: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// The directory cannot be opened.
    Fs(FsError),
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held { owner: Some(owner) } => {
                write!(f, "locked by PID {} on {}", owner.pid, owner.host)?;
                if let Some(started) = &owner.started_utc {
                    write!(f, " since {started}")?;
                }
                Ok(())
            }
            LockError::Held { owner: None } => write!(f, "locked by another process"),
            LockError::Unsupported => write!(f, "the file system of the run directory has no locks"),
            LockError::Closed { folder, owner } => {
                write!(f, "`{}` belongs to user {owner} and is closed to you", folder.display())
            }
            LockError::Fs(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

/// The lock of a run directory, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: Option<File>,
    run_dir: PathBuf,
    announced: bool,
}

impl RunLock {
    /// Takes the lock. Nothing is written by it: see [`RunLock::announce`].
    pub fn acquire(run_dir: &Path, wait: Wait) -> Result<RunLock, LockError> {
        RunLock::acquire_while(run_dir, wait, |_| true)
    }

    /// [`RunLock::acquire`] that asks, before each pause, whether to go on waiting, so that a signal
    /// can end the wait; it is told who holds the lock.
    pub fn acquire_while(
        run_dir: &Path,
        wait: Wait,
        mut go_on: impl FnMut(Option<&Owner>) -> bool,
    ) -> Result<RunLock, LockError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let held = match try_acquire(run_dir) {
                Err(LockError::Held { owner }) => owner,
                result => return result,
            };
            let left = match wait {
                Wait::No => Duration::ZERO,
                Wait::For(limit) => limit.saturating_sub(start.elapsed()),
                Wait::Forever => Duration::MAX,
            };
            // A child that was just forked has the descriptor for the moment until it becomes another program, even if
            // its planexe was killed in that moment. Nobody is seen who let go between the try and the look.
            let by_nobody = held.as_ref().is_none_or(Owner::is_gone);
            if by_nobody && start.elapsed() < FORKED {
                std::thread::sleep(pause);
                continue;
            }
            if left.is_zero() || !go_on(held.as_ref()) {
                return Err(LockError::Held { owner: held });
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// For `--no-lock`: nothing is locked.
    pub fn none(run_dir: &Path) -> RunLock {
        RunLock { _file: None, run_dir: run_dir.to_owned(), announced: false }
    }

    /// Writes `.planexe/owner.json`, before the first task starts: status shows it, and a directory
    /// that cannot be written to is found before anything is paid for, as is a `.planexe/` that leads
    /// elsewhere by a link. Removed when the lock ends.
    pub fn announce(&mut self, owner: &Owner) -> Result<(), FsError> {
        self.announce_inner(owner).map_err(|error| of_run(&self.run_dir, error))
    }

    fn announce_inner(&mut self, owner: &Owner) -> Result<(), FsError> {
        let planexe = self.run_dir.join(".planexe");
        require_own(&planexe)?;
        for name in FOLDERS {
            require_own(&planexe.join(name))?;
        }
        fs::make_dirs(&planexe, Durability::Synced)?;
        // What an earlier version let others read. Where permissions cannot be changed there are none.
        let _ = fs::make_private(&planexe);
        fs::write_atomic(&owner_path(&self.run_dir), &to_json(owner), Durability::Unsynced)?;
        self.announced = true;
        Ok(())
    }

    /// Who holds the lock of a run, without touching it; `None` if nobody does. What
    /// `.planexe/owner.json` says counts only if the kernel, or a live process, agrees.
    pub fn owner(run_dir: &Path) -> Option<Owner> {
        let noted: Option<Owner> = fs::read_capped(&owner_path(run_dir), 1 << 20)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match kernel_holder(run_dir, noted.as_ref()) {
            Some(pid) => Some(match noted {
                Some(owner) if owner.pid == pid && owner.is_alive() => owner,
                _ => Owner {
                    pid,
                    process_start: process_start(pid),
                    host: host_name(),
                    boot_id: boot_id(),
                    started_utc: None,
                    command: None,
                    at_once: None,
                },
            }),
            // The table shows only processes this one may see: a live owner by its own word still counts.
            None => noted.filter(Owner::is_alive),
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if self.announced {
            forget_owner(&self.run_dir);
        }
    }
}

/// That a folder of ours, if it is there, is a folder and no link that leads elsewhere.
pub(super) fn require_own(dir: &Path) -> Result<(), FsError> {
    match fs::kind(dir)? {
        None | Some(FileKind::Dir) => Ok(()),
        Some(_) => {
            let why = std::io::Error::new(ErrorKind::InvalidInput, "not a directory of its own");
            Err(FsError::new(dir, "write into", why))
        }
    }
}

/// A first write that failed: on a read-only file system it is not about that one file.
fn of_run(run_dir: &Path, error: FsError) -> FsError {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => FsError::new(run_dir, "write into", error.source),
        _ => error.within(run_dir),
    }
}

/// Takes an announcement back: for who ends on the spot, and his lock with him.
pub fn forget_owner(run_dir: &Path) {
    let _ = fs::remove(&owner_path(run_dir));
}

/// Whether somebody announced himself and did not take it back: he is at it, or was killed.
pub fn is_announced(run_dir: &Path) -> bool {
    fs::kind(&owner_path(run_dir)).is_ok_and(|kind| kind.is_some())
}

/// The command that changed the run and did not come to its end: killed on this host, and nobody tidied up since. Of a
/// build `run.json` says it.
pub fn cut_off(run_dir: &Path) -> Option<String> {
    let noted = fs::read_capped(&owner_path(run_dir), 1 << 20).ok()?;
    let owner: Owner = serde_json::from_slice(&noted).ok()?;
    let is_here = owner.host == host_name();
    let ended = is_here && !owner.is_building() && RunLock::owner(run_dir).is_none();
    owner.command.filter(|_| ended)
}

/// Whether it is sure that nobody did, in a run directory that is open.
pub fn is_unannounced(run_dir: &OpenDir) -> bool {
    run_dir.is_absent(c".planexe/owner.json")
}

fn owner_path(run_dir: &Path) -> PathBuf {
    run_dir.join(".planexe/owner.json")
}

fn lock_path(run_dir: &Path) -> PathBuf {
    run_dir.join(".planexe/lock")
}

fn try_acquire(run_dir: &Path) -> Result<RunLock, LockError> {
    let open = |path: &Path, error| LockError::Fs(FsError::new(path, "lock", error));
    let dir = fs::open_dir(run_dir).map_err(|error| open(run_dir, error))?;
    let planexe = run_dir.join(".planexe");
    if let Some(owner) = fs::closed_by(&planexe).map_err(LockError::Fs)? {
        return Err(LockError::Closed { folder: planexe, owner });
    }
    let file = match try_lock(&dir) {
        Tried::Locked => dir,
        Tried::Held => return Err(LockError::Held { owner: RunLock::owner(run_dir) }),
        Tried::Refused => {
            // NFS turns flock into a record lock, which a directory cannot have.
            fs::make_dirs(&run_dir.join(".planexe"), Durability::Unsynced).map_err(LockError::Fs)?;
            let file = fs::open_lock_file(&lock_path(run_dir)).map_err(LockError::Fs)?;
            match try_lock(&file) {
                Tried::Locked => file,
                Tried::Held => return Err(LockError::Held { owner: RunLock::owner(run_dir) }),
                Tried::Refused => return Err(LockError::Unsupported),
            }
        }
    };
    Ok(RunLock { _file: Some(file), run_dir: run_dir.to_owned(), announced: false })
}

enum Tried {
    Locked,
    Held,
    Refused,
}

fn try_lock(file: &File) -> Tried {
    loop {
        match file.try_lock() {
            Ok(()) => return Tried::Locked,
            Err(TryLockError::WouldBlock) => return Tried::Held,
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(_)) => return Tried::Refused,
        }
    }
}

/// The process that holds the directory (or the lock file) by the kernel's table of locks.
#[cfg(target_os = "linux")]
fn kernel_holder(run_dir: &Path, noted: Option<&Owner>) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;

    let table = std::fs::read_to_string("/proc/locks").ok()?;
    for path in [run_dir.to_owned(), lock_path(run_dir)] {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let dev = metadata.dev();
        let device = format!("{:02x}:{:02x}", rustix::fs::major(dev), rustix::fs::minor(dev));
        if let Some(pid) = holder_in(&table, &device, metadata.ino(), noted.map(|owner| owner.pid)) {
            return Some(pid);
        }
    }
    None
}

/// There is no such table: the owner's own word has to do.
#[cfg(not(target_os = "linux"))]
fn kernel_holder(_run_dir: &Path, _noted: Option<&Owner>) -> Option<u32> {
    None
}

/// Finds the holder of an inode in the text of `/proc/locks`: `1: FLOCK ADVISORY WRITE 123 fe:00:456 0 EOF`.
/// On file systems that number devices per subvolume the table shows another device: there the process
/// noted by the owner itself counts too.
#[cfg(target_os = "linux")]
fn holder_in(table: &str, device: &str, inode: u64, noted: Option<u32>) -> Option<u32> {
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // A line with `->` is a process that waits.
        let [_, _, _, "WRITE", pid, place, ..] = fields[..] else { continue };
        let Some((dev, ino)) = place.rsplit_once(':') else { continue };
        let Ok(pid) = pid.parse::<u32>() else { continue };
        if ino.parse() == Ok(inode) && pid > 0 && (dev == device || noted == Some(pid)) {
            return Some(pid);
        }
    }
    None
}

#[cfg(test)]
mod tests;
