//! Folders that this process made and that a power cut may still take, with all that is in them: a thread finds them there
//! before the one that made them has synced their names, and some are made for files that need not last.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::{Mutex, MutexGuard};

use super::{Durability, Result, sync_dir};

static FOLDERS: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
/// How many there are: mostly none, which is known without a lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn folders() -> MutexGuard<'static, HashSet<PathBuf>> {
    FOLDERS.lock()
}

/// Said before a folder is made, so that whoever finds it knows.
pub(super) fn note(dir: &Path) {
    let mut folders = folders();
    folders.insert(dir.to_owned());
    COUNT.store(folders.len(), SeqCst);
}

/// It was synced, or not made.
pub(super) fn forget(dir: &Path) {
    let mut folders = folders();
    folders.remove(dir);
    COUNT.store(folders.len(), SeqCst);
}

/// A folder and those above it, as far as their names are not synced.
pub(super) fn needed(dir: &Path) -> Vec<PathBuf> {
    if COUNT.load(SeqCst) == 0 {
        return Vec::new();
    }
    let folders = folders();
    dir.ancestors().filter(|dir| folders.contains(*dir)).map(Path::to_owned).collect()
}

/// For a folder that is there: syncs its name and those of the folders above it that need it, if asked.
pub(super) fn settle(dir: &Path, durability: Durability) -> Result<()> {
    if durability == Durability::Unsynced {
        return Ok(());
    }
    for dir in needed(dir) {
        sync_dir(dir.parent().unwrap_or(Path::new("")))?;
        forget(&dir);
    }
    Ok(())
}
