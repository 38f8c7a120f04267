//! Tasks that `build -B` or `--rebuild-on model` requested and did not reach: `.planexe/anew.json`. No other file shows
//! such a request, so without this list it would be lost when the build is stopped, fails or is killed.
//!
//! Each task is listed with the digest of the `.DONE` it had. A task that was made or marked done since has another
//! digest, so entries need not be removed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sidecar::to_json;
use super::{Sidecar, Store};
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{Digest, SCHEMA};

/// Larger than a list of every task a run can have.
const CAP: u64 = 1 << 28;

/// Why a task is to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Requested by `-B`.
    Always,
    /// `--rebuild-on model`: if another model would make it now.
    Model,
}

/// A task as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    asked: Asked,
    /// The digest of the `.DONE` it had when it was requested.
    done: Digest,
}

/// Tasks that are to be made anew, by their first output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anew {
    /// Version of the format.
    schema: u32,
    tasks: BTreeMap<String, Listed>,
}

impl Anew {
    /// Whether somebody wants a task made anew, and it was not made since. `first`: its first output.
    pub fn asked(&self, store: &Store, first: &str) -> Option<Asked> {
        let listed = self.tasks.get(first)?;
        (store.digest_of_done(first).as_ref() == Some(&listed.done)).then_some(listed.asked)
    }
}

impl Store {
    fn anew_file(&self) -> PathBuf {
        self.planexe_dir().join("anew.json")
    }

    /// What is to be made anew. One that cannot be read says nothing for now.
    pub fn read_anew(&self) -> Anew {
        self.anew().unwrap_or_default()
    }

    /// The same. What the disk cannot read is neither replaced nor removed.
    fn anew(&self) -> Result<Anew, FsError> {
        Ok(self.listed_anew()?.unwrap_or_default())
    }

    /// The list; none if there is something else in its place.
    fn listed_anew(&self) -> Result<Option<Anew>, FsError> {
        let read = fs::if_content(fs::read_capped(&self.anew_file(), CAP));
        let Some(bytes) = read.map_err(|error| error.within(self.run_dir()))? else {
            return Ok(Some(Anew::default()));
        };
        let anew: Option<Anew> = serde_json::from_slice(&bytes).ok();
        Ok(anew.filter(|anew| anew.schema == SCHEMA))
    }

    /// The list, before another takes its place or none. One that cannot be believed is kept in `.planexe/partial/`.
    fn anew_to_be_replaced(&self) -> Result<Anew, FsError> {
        match self.listed_anew()? {
            Some(anew) => Ok(anew),
            None => self.keep_aside(&self.anew_file()).map(|()| Anew::default()),
        }
    }

    /// Notes that tasks, by their first outputs, are to be made anew, beside what was asked for before. Those that are
    /// not done need no note. Under the lock.
    pub fn ask_anew<'a>(
        &self,
        firsts: impl IntoIterator<Item = &'a str>,
        asked: Asked,
    ) -> Result<(), FsError> {
        let mut anew = self.anew_to_be_replaced()?;
        anew.schema = SCHEMA;
        for first in firsts {
            let before = anew.asked(self, first);
            let Some(done) = self.digest_of_done(first) else { continue };
            if before != Some(Asked::Always) {
                anew.tasks.insert(first.to_owned(), Listed { asked, done });
            }
        }
        if anew.tasks.is_empty() {
            return Ok(());
        }
        self.planexe_subdir("")?;
        fs::write_atomic(&self.anew_file(), &to_json(&anew), Durability::Synced)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// Forgets what was asked for, once there is nothing left of it. Under the lock.
    pub fn forget_anew(&self) -> Result<(), FsError> {
        let anew = self.anew_to_be_replaced()?;
        if anew.tasks.keys().any(|first| anew.asked(self, first).is_some()) {
            return Ok(());
        }
        self.cancel_anew()
    }

    /// Nothing is to be made anew any more. Under the lock.
    pub fn cancel_anew(&self) -> Result<(), FsError> {
        fs::remove(&self.anew_file()).map(drop).map_err(|error| error.within(self.run_dir()))
    }

    fn digest_of_done(&self, first: &str) -> Option<Digest> {
        let bytes = fs::read_capped(&self.sidecar_path(first, Sidecar::Done), CAP).ok()?;
        Some(Digest::of(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{make, store};

    #[test]
    fn a_task_is_asked_for_until_it_is_made() {
        let (_dir, store) = store();
        make(&store, "a", 0, "a1");
        make(&store, "b", 1, "b1");
        store.ask_anew(["a.json", "c.json"], Asked::Always).unwrap();
        store.ask_anew(["a.json", "b.json"], Asked::Model).unwrap();
        let asked = |first: &str| store.read_anew().asked(&store, first);
        assert_eq!(asked("a.json"), Some(Asked::Always), "the stronger one stays");
        assert_eq!((asked("b.json"), asked("c.json")), (Some(Asked::Model), None));
        make(&store, "b", 1, "b1");
        assert_eq!(asked("b.json"), None);
        store.forget_anew().unwrap();
        assert_eq!(asked("a.json"), Some(Asked::Always), "not all of it was made");
        store.remove_done("a.json", Durability::Unsynced).unwrap();
        assert_eq!(asked("a.json"), None);
        store.forget_anew().unwrap();
        assert!(!store.anew_file().exists());
    }

    #[test]
    fn a_damaged_list_asks_for_nothing() {
        let (_dir, store) = store();
        make(&store, "a", 0, "a1");
        for text in ["", "{", "[]", r#"{"schema":99,"tasks":{}}"#] {
            fs::write_atomic(&store.anew_file(), text.as_bytes(), Durability::Unsynced).unwrap();
            assert_eq!(store.read_anew(), Anew::default(), "{text}");
        }
        let newer = fs::read(&store.anew_file()).unwrap();
        store.forget_anew().unwrap();
        let kept: Vec<_> = std::fs::read_dir(store.partial_dir()).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1, "what a newer planexe wrote is set aside");
        assert_eq!(fs::read(&kept[0].path()).unwrap(), newer);
    }
}
