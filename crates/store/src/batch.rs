//! Files that are synced together. What commands and templates make can be made again, so that a build of
//! many is not held up by a sync of every file: one sync of the whole file system comes before the next
//! call is paid for, and one at the end of the build. The first 128 tasks of a build, and those that
//! took 50 ms or longer, are synced one by one all the same: that costs little, and leaves no doubt.
//!
//! Until then a power cut may leave half of an output under a whole record, which would look like an edit
//! by hand, and those are kept and believed. So before the first such file `.planexe/unsynced.json` says,
//! synced, from when on files may be in doubt; the sync at the end of the build takes the word back. Found
//! after another boot, it means that the power went in between: an output that is not as recorded, and
//! changed in that time, is damage and no edit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::host::boot_id;
use super::sidecar::to_json;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::SCHEMA;

/// So many tasks of a build are synced one by one before others are synced together: about a millisecond
/// each, which a build of many thousand does not notice.
const SINGLY: u32 = 128;
/// A task that took so long does not notice a sync of its own.
const WORTH: Duration = Duration::from_millis(50);
/// Clocks of file systems run behind by up to a tick; nanoseconds.
const SLACK_NS: i64 = 1_000_000_000;
/// So many times in doubt are told apart; older ones are taken for one.
const MOST: usize = 16;

/// A time in which files were written that may not have come to the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The boot it was in.
    pub boot_id: String,
    /// Its beginning, nanoseconds since 1970.
    pub since_ns: i64,
    /// Its end, where a later build has seen that there was one.
    pub until_ns: Option<i64>,
}

/// The content of `unsynced.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    schema: u32,
    doubts: Vec<Doubt>,
}

/// The files of a run that are synced together.
#[derive(Debug)]
pub struct Batch {
    run_dir: PathBuf,
    state: Mutex<State>,
    former: OnceLock<Former>,
    /// How many more tasks are synced one by one.
    singly: AtomicU32,
    /// All are synced together, however long they took.
    always: AtomicBool,
    /// Whether the file system of the run can be synced as a whole.
    possible: OnceLock<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// The word is on disk.
    begun: bool,
    /// Something was written since the last sync.
    dirty: bool,
    /// Folders on the file system of the run.
    folders: HashSet<PathBuf>,
}

/// What was found of earlier builds.
#[derive(Debug, Default)]
struct Former {
    /// Of this boot: a build that was killed, whose files are as it left them.
    own: Option<Doubt>,
    /// Of other boots.
    others: Vec<Doubt>,
}

impl Batch {
    pub(super) fn new(run_dir: &Path) -> Batch {
        Batch {
            run_dir: run_dir.to_owned(),
            state: Mutex::default(),
            former: OnceLock::new(),
            singly: AtomicU32::new(SINGLY),
            always: AtomicBool::new(false),
            possible: OnceLock::new(),
        }
    }

    /// `PLANEXE_SYNC`: whether tasks that may be are synced `together` from the first on, or all `singly`.
    pub fn set(&self, mode: &str) {
        match mode {
            "together" => self.always.store(true, Ordering::Relaxed),
            "singly" => self.singly.store(u32::MAX, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether a task that can be made again, and took so long, is synced together with others.
    pub fn takes(&self, took: Duration) -> bool {
        let none_left = || {
            let one_less = |left: u32| left.checked_sub(1);
            self.singly.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err()
        };
        self.always.load(Ordering::Relaxed) || took < WORTH && none_left()
    }

    fn can_sync_together(&self) -> bool {
        *self.possible.get_or_init(|| fs::can_sync_together(&self.run_dir))
    }

    fn path(&self) -> PathBuf {
        self.run_dir.join(".planexe/unsynced.json")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn former(&self) -> &Former {
        self.former.get_or_init(|| read(&self.path(), &boot_id().unwrap_or_default(), fs::now_ns()))
    }

    /// Whether a file that changed last at a time (its ctime) may be other than it was left, because the
    /// power went.
    pub fn doubts(&self, ctime_ns: i64) -> bool {
        self.former()
            .others
            .iter()
            .any(|doubt| ctime_ns >= doubt.since_ns && doubt.until_ns.is_none_or(|until| ctime_ns <= until))
    }

    /// Whether anything is in doubt.
    pub fn has_doubts(&self) -> bool {
        !self.former().others.is_empty()
    }

    /// Before files are written without a sync into folders of the run; false where they have to be synced
    /// one by one. From here on they are in doubt until [`Batch::end`].
    pub fn begin(&self, folders: &[&Path]) -> Result<bool, FsError> {
        let Some(boot_id) = boot_id().filter(|_| self.can_sync_together()) else { return Ok(false) };
        let mut state = self.state();
        for folder in folders {
            if !state.folders.contains(*folder) {
                if !fs::on_same_device(&self.run_dir, folder) {
                    return Ok(false);
                }
                state.folders.insert((*folder).to_owned());
            }
        }
        if !state.begun {
            let former = self.former();
            let now = fs::now_ns();
            let since_ns = former.own.as_ref().map_or(now - SLACK_NS, |own| own.since_ns);
            let mut doubts = former.others.clone();
            doubts.push(Doubt { boot_id, since_ns, until_ns: None });
            self.write(doubts)?;
            state.begun = true;
        }
        state.dirty = true;
        Ok(true)
    }

    fn write(&self, doubts: Vec<Doubt>) -> Result<(), FsError> {
        fs::make_dirs(&self.run_dir.join(".planexe"), Durability::Synced)?;
        fs::write_atomic(&self.path(), &to_json(&Word { schema: SCHEMA, doubts }), Durability::Synced)
    }

    /// Syncs what was written without. Before anything is paid for that was made from it.
    pub fn sync(&self) -> Result<(), FsError> {
        let mut state = self.state();
        if std::mem::take(&mut state.dirty)
            && let Err(error) = fs::sync_file_system(&self.run_dir)
        {
            state.dirty = true;
            return Err(error.within(&self.run_dir));
        }
        Ok(())
    }

    /// The end of a build: all is synced, and no longer in doubt. `all`: every task of the run is as it
    /// should be, so that nothing of earlier builds is in doubt either.
    pub fn end(&self, all: bool) -> Result<(), FsError> {
        let former = self.former();
        let begun = self.state().begun;
        let forget = all && !former.others.is_empty();
        if !begun && former.own.is_none() && !forget {
            return Ok(());
        }
        if former.own.is_some() {
            self.state().dirty = true;
        }
        self.sync()?;
        if former.others.is_empty() || all {
            fs::remove(&self.path())?;
        } else {
            self.write(former.others.clone())?;
        }
        self.state().begun = false;
        Ok(())
    }
}

/// Reads the word. One that cannot be read casts doubt on everything.
fn read(path: &Path, boot_id: &str, now_ns: i64) -> Former {
    let bytes = match fs::read_optional(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Former::default(),
        Err(_) => Vec::new(),
    };
    let unknown = || Doubt { boot_id: String::new(), since_ns: i64::MIN, until_ns: Some(now_ns) };
    let doubts = match serde_json::from_slice::<Word>(&bytes) {
        Ok(word) => word.doubts,
        Err(_) => vec![unknown()],
    };
    let (own, mut others): (Vec<_>, Vec<_>) =
        doubts.into_iter().partition(|doubt| doubt.boot_id == boot_id && doubt.until_ns.is_none());
    for doubt in &mut others {
        doubt.until_ns.get_or_insert(now_ns);
    }
    if others.len() > MOST {
        let newest = others.split_off(others.len() - MOST);
        let since_ns = others.iter().map(|doubt| doubt.since_ns).min().unwrap_or(i64::MIN);
        let until_ns = others.iter().filter_map(|doubt| doubt.until_ns).max();
        others = vec![Doubt { boot_id: String::new(), since_ns, until_ns }];
        others.extend(newest);
    }
    Former { own: own.into_iter().min_by_key(|doubt| doubt.since_ns), others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_tasks_are_synced_together() {
        let (_dir, run) = run();
        let together = |batch: &Batch, took: u64| {
            (0..200).filter(|_| batch.takes(Duration::from_millis(took))).count() as u32
        };
        assert_eq!(together(&Batch::new(&run), 1), 200 - SINGLY);
        assert_eq!(together(&Batch::new(&run), 50), 0);
        let batch = Batch::new(&run);
        batch.set("together");
        assert_eq!(together(&batch, 50), 200);
        let batch = Batch::new(&run);
        batch.set("singly");
        assert_eq!(together(&batch, 1), 0);
    }

    fn run() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().to_owned();
        (dir, run)
    }

    /// As if the machine had been started anew since.
    fn reboot(run: &Path) {
        let path = run.join(".planexe/unsynced.json");
        let text = fs::read_to_string(&path).unwrap().replace(&boot_id().unwrap(), "another boot");
        fs::write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
    }

    #[test]
    fn doubt_is_cast_by_a_power_cut_alone_and_on_what_changed_before_it() {
        let (_dir, run) = run();
        if !fs::can_sync_together(&run) {
            return;
        }
        let before = fs::now_ns() - 2 * SLACK_NS;
        let batch = Batch::new(&run);
        assert!(batch.begin(&[&run]).unwrap());
        let during = fs::now_ns();
        assert!(!batch.has_doubts(), "by itself nothing is in doubt");
        // Killed, and looked at in the same boot: the system has it all.
        assert!(!Batch::new(&run).has_doubts());
        reboot(&run);
        let next = Batch::new(&run);
        assert!(next.doubts(during) && !next.doubts(before));
        assert!(!next.doubts(fs::now_ns() + SLACK_NS), "what is edited later is no damage");
        // A build that does not make all of it leaves the doubt, with its end.
        assert!(next.begin(&[&run]).unwrap());
        next.end(false).unwrap();
        let later = Batch::new(&run);
        assert!(later.doubts(during) && !later.doubts(fs::now_ns() + SLACK_NS));
        assert!(later.former().own.is_none());
        later.end(true).unwrap();
        assert!(!Batch::new(&run).has_doubts());
        assert_eq!(fs::kind(&run.join(".planexe/unsynced.json")).unwrap(), None);
    }

    #[test]
    fn a_build_after_a_killed_one_syncs_what_that_left() {
        let (_dir, run) = run();
        if !fs::can_sync_together(&run) {
            return;
        }
        Batch::new(&run).begin(&[&run]).unwrap();
        let since = Batch::new(&run).former().own.clone().unwrap().since_ns;
        let next = Batch::new(&run);
        next.begin(&[&run]).unwrap();
        assert_eq!(Batch::new(&run).former().own.clone().unwrap().since_ns, since);
        next.end(true).unwrap();
        assert_eq!(fs::kind(&run.join(".planexe/unsynced.json")).unwrap(), None);
        // Nothing to take back, nothing written.
        Batch::new(&run).end(true).unwrap();
    }

    #[test]
    fn a_damaged_word_casts_doubt_on_everything_there_is() {
        let (_dir, run) = run();
        fs::make_dirs(&run.join(".planexe"), Durability::Unsynced).unwrap();
        for bytes in [&b""[..], b"\0\0\0", b"{\"schema\":1}", b"[]"] {
            fs::write_atomic(&run.join(".planexe/unsynced.json"), bytes, Durability::Unsynced).unwrap();
            let batch = Batch::new(&run);
            assert!(batch.doubts(0) && batch.doubts(fs::now_ns() - SLACK_NS));
            assert!(!batch.doubts(fs::now_ns() + SLACK_NS));
        }
    }

    #[test]
    fn many_doubts_are_taken_for_one() {
        let (_dir, run) = run();
        let doubts = (0..40)
            .map(|n| Doubt { boot_id: format!("b{n}"), since_ns: n * 10, until_ns: Some(n * 10 + 5) })
            .collect();
        Batch::new(&run).write(doubts).unwrap();
        let batch = Batch::new(&run);
        assert_eq!(batch.former().others.len(), MOST + 1);
        assert!(batch.doubts(0) && batch.doubts(395) && !batch.doubts(396) && !batch.doubts(-1));
    }
}
