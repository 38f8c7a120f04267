//! `.planexe/watcher.json`: the `planexe watch` process of a run. Between two builds it holds no lock, so `planexe stop`
//! finds it by this file. It is information only, like the note of the lock's owner.

use std::path::PathBuf;

use super::sidecar::to_json;
use super::{Owner, Store};
use planexe_base::fs::{self, Durability};

/// The note of a watch that lives; gone when it is dropped.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
}

impl Watcher {
    /// Says that this process watches the run. Where nothing can be written there is nobody to be found.
    pub fn announce(store: &Store) -> Option<Watcher> {
        let path = store.planexe_subdir("").ok()?.join("watcher.json");
        fs::write_atomic(&path, &to_json(&Owner::this("planexe watch")), Durability::Unsynced).ok()?;
        Some(Watcher { path })
    }

    /// Who watches a run, if somebody alive does.
    pub fn of(store: &Store) -> Option<Owner> {
        let bytes = fs::read_capped(&store.planexe_dir().join("watcher.json"), 1 << 20).ok()?;
        serde_json::from_slice(&bytes).ok().filter(Owner::is_alive)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = fs::remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        assert_eq!(Watcher::of(&store), None);
        let watcher = Watcher::announce(&store).unwrap();
        assert_eq!(Watcher::of(&store).unwrap().pid, std::process::id());
        drop(watcher);
        assert_eq!(Watcher::of(&store), None);
        // One that was killed left its note.
        let gone = Owner { process_start: Some(1), ..Owner::this("planexe watch") };
        let path = store.planexe_dir().join("watcher.json");
        fs::write_atomic(&path, &to_json(&gone), Durability::Unsynced).unwrap();
        assert_eq!(Watcher::of(&store), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "sets the trap")]
    fn nothing_is_written_through_a_link() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(".planexe")).unwrap();
        assert!(Watcher::announce(&Store::open(dir.path())).is_none());
        assert!(fs::list_dir(elsewhere.path()).unwrap().is_empty());
    }
}
