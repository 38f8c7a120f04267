//! Events that wait to be delivered: `.planexe/outbox/RECEIVER/`, a file an event, in order. What is
//! delivered is removed; what a kill or a dead receiver leaves behind goes out later.
//!
//! A folder is named after the receiver, never after its address, which may be a secret.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::payload::Payload;
use crate::clock;
use crate::fs::{self, Durability, FileKind, FsError, OpenDir};

/// Most events that wait for one receiver; older ones make room.
const MOST: usize = 1000;
/// Seconds after which an event is no news any more.
const OLD: f64 = 7.0 * 86400.0;

/// The outbox of one receiver.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
}

/// The folder of all outboxes of a run.
pub fn root(run: &Path) -> PathBuf {
    run.join(".planexe/outbox")
}

/// Receivers with waiting events, and how many.
pub fn waiting(run: &Path) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    for (name, _) in fs::list_dir(&root(run)).unwrap_or_default() {
        let Ok(name) = name.into_string() else { continue };
        let count = Outbox::new(run, &name).names().len();
        if count > 0 {
            all.push((name, count));
        }
    }
    all.sort();
    all
}

/// Whether events wait for a receiver in a run directory, which is open as well. Most have none.
pub fn is_waiting(run: &Path, open: &OpenDir) -> bool {
    !open.is_absent(c".planexe/outbox") && !waiting(run).is_empty()
}

impl Outbox {
    /// Nothing is created.
    pub fn new(run: &Path, receiver: &str) -> Outbox {
        Outbox { dir: root(run).join(receiver) }
    }

    /// File names in the order in which the events happened.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::list_dir(&self.dir)
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, kind)| *kind == FileKind::File)
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| number(name).is_some())
            .collect();
        names.sort();
        names
    }

    /// The number the next event gets.
    pub fn next_number(&self) -> u64 {
        self.names().last().and_then(|name| number(name)).map_or(1, |last| last + 1)
    }

    /// Adds an event. Returns how many older ones had to make room.
    pub fn add(&self, number: u64, payload: &Payload) -> Result<usize, FsError> {
        fs::make_dirs(&self.dir, Durability::Unsynced)?;
        let bytes = serde_json::to_vec(payload).unwrap_or_default();
        fs::write_atomic(&self.dir.join(format!("{number:012}.json")), &bytes, Durability::Unsynced)?;
        // Looked at now and then: the folder is read for it.
        if !number.is_multiple_of(100) {
            return Ok(0);
        }
        let names = self.names();
        let over = names.len().saturating_sub(MOST);
        for name in &names[..over] {
            fs::remove(&self.dir.join(name))?;
        }
        Ok(over)
    }

    /// The first events that wait, with their file names. What is damaged or too old goes.
    pub fn head(&self, most: usize) -> Vec<(String, Payload)> {
        let mut head = Vec::new();
        let now = clock::now_utc();
        for name in self.names() {
            if head.len() >= most {
                break;
            }
            let path = self.dir.join(&name);
            let payload = match fs::read_capped(&path, 1 << 20) {
                Ok(bytes) => serde_json::from_slice::<Payload>(&bytes).ok(),
                Err(error) if error.kind() == ErrorKind::FileTooLarge => None,
                Err(_) => continue,
            };
            let old = |payload: &Payload| {
                clock::seconds_between(&payload.timestamp_utc, &now).is_none_or(|age| age > OLD)
            };
            match payload {
                Some(payload) if !old(&payload) => head.push((name, payload)),
                _ => drop(fs::remove(&path)),
            }
        }
        head
    }

    /// Takes an event out: it was delivered, or never will be.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove(&self.dir.join(name));
    }

    /// Held while delivering, so that two do not send the same. None while another holds it.
    pub fn lock(&self) -> Option<File> {
        let file = File::open(&self.dir).ok()?;
        match file.try_lock() {
            Ok(()) => Some(file),
            Err(std::fs::TryLockError::WouldBlock) => None,
            // A file system without locks: an event may be sent twice, under one id.
            Err(std::fs::TryLockError::Error(_)) => Some(file),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::payload;
    use super::*;

    fn fresh(task: &str) -> Payload {
        Payload { timestamp_utc: clock::now_utc(), ..payload("task.started", Some(task)) }
    }

    #[test]
    fn events_wait_in_order_and_go_one_by_one() {
        let run = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(run.path(), "ops");
        assert!(outbox.lock().is_none() && waiting(run.path()).is_empty());
        for (n, task) in ["a", "b", "c"].iter().enumerate() {
            outbox.add(outbox.next_number(), &fresh(task)).unwrap();
            assert_eq!(outbox.next_number(), n as u64 + 2);
        }
        let tasks = |most| {
            outbox.head(most).into_iter().map(|(_, payload)| payload.task.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((tasks(1), tasks(9)), (vec!["a".to_owned()], vec!["a".into(), "b".into(), "c".into()]));
        outbox.remove(&outbox.head(1)[0].0);
        assert_eq!(tasks(9), ["b", "c"]);
        assert_eq!(waiting(run.path()), [("ops".to_owned(), 2)]);
        let held = outbox.lock();
        assert!(held.is_some() && outbox.lock().is_none());
    }

    #[test]
    fn what_is_damaged_or_old_goes() {
        let run = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(run.path(), "ops");
        outbox.add(1, &payload("task.started", Some("long ago"))).unwrap();
        outbox.add(2, &fresh("a")).unwrap();
        fs::write_atomic(&outbox.dir.join("000000000003.json"), b"{\"schema\"", Durability::Unsynced)
            .unwrap();
        fs::write_atomic(&outbox.dir.join("000000000004.json"), &[b' '; 1 << 21], Durability::Unsynced)
            .unwrap();
        // Nothing of ours, and no event.
        fs::make_dirs(&outbox.dir.join("000000000005.json"), Durability::Unsynced).unwrap();
        assert_eq!(outbox.head(9).len(), 1);
        assert_eq!(outbox.names().len(), 1);
    }

    #[test]
    fn there_is_an_end_to_what_waits() {
        let run = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(run.path(), "ops");
        let mut dropped = 0;
        for n in 1..=1200 {
            dropped += outbox.add(n, &fresh("a")).unwrap();
        }
        assert_eq!((dropped, outbox.names().len()), (200, MOST));
    }
}
