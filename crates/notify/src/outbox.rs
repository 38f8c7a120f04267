//! Events that wait to be delivered: `.planexe/outbox/RECEIVER/`, a file an event, in order. What is
//! delivered is removed; what a kill or a dead receiver leaves behind goes out later.
//!
//! A folder is named after the receiver, never after its address, which may be a secret.
//!
//! What is sent is signed with the user's secret, so only what this user's planexe put here is sent. An event is marked
//! ([`planexe_store::seal`]); one whose mark does not fit (it came with a clone, or is damaged) is put aside and told.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::payload::Payload;
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError, OpenDir};
use planexe_store::seal::{Seal, What};

/// Most events that wait for one receiver; older ones make room.
const MOST: usize = 1000;
/// Seconds after which an event is no news any more.
const OLD: f64 = 7.0 * 86400.0;

/// Version of the format of a file.
const SCHEMA: u32 = 1;
/// What is added to the name of one that is put aside.
const ASIDE: &str = "unverified";

/// The outbox of one receiver.
#[derive(Debug)]
pub struct Outbox {
    run: PathBuf,
    receiver: String,
    dir: PathBuf,
}

/// An event as it waits.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    schema: u32,
    /// The mark of `event`, in hexadecimal digits.
    mark: String,
    /// The event's JSON, byte for byte what the mark is of.
    event: String,
}

/// The first events that wait.
#[derive(Debug, Default)]
pub struct Head {
    /// With the names of their files.
    pub events: Vec<(String, Payload)>,
    /// How many files were put aside on the way, since no mark fits them.
    pub put_aside: usize,
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
        Outbox { run: run.to_owned(), receiver: receiver.to_owned(), dir: root(run).join(receiver) }
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
        let event = serde_json::to_string(payload).unwrap_or_default();
        // Who can have no key still has his webhooks told; what is left over is sent by nobody.
        let seal = Seal::to_mark_at_least_for_now(&self.run, self.what());
        let mark = seal.map(|seal| seal.mark(event.as_bytes()).to_hex().to_string()).unwrap_or_default();
        let bytes = serde_json::to_vec(&Waiting { schema: SCHEMA, mark, event }).unwrap_or_default();
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

    /// What the marks of its events say they are.
    fn what(&self) -> What<'_> {
        What::Outbox(&self.receiver)
    }

    /// The first events that wait. What is too old goes; what no mark fits is put aside, and never sent.
    pub fn head(&self, most: usize) -> Head {
        let mut head = Head::default();
        let now = clock::now_utc();
        let names = self.names();
        if names.is_empty() {
            return head;
        }
        let seal = Seal::to_mark_at_least_for_now(&self.run, self.what());
        for name in names {
            if head.events.len() >= most {
                break;
            }
            let path = self.dir.join(&name);
            let payload = match fs::read_capped(&path, 1 << 20) {
                Ok(bytes) => seal.as_ref().and_then(|seal| verified(&bytes, seal)),
                Err(error) if error.kind() == ErrorKind::FileTooLarge => None,
                Err(_) => continue,
            };
            let old = |payload: &Payload| {
                clock::seconds_between(&payload.timestamp_utc, &now).is_none_or(|age| age > OLD)
            };
            match payload {
                Some(payload) if !old(&payload) => head.events.push((name, payload)),
                Some(_) => drop(fs::remove(&path)),
                None => {
                    let aside = self.dir.join(format!("{name}.{ASIDE}"));
                    head.put_aside += usize::from(fs::rename(&path, &aside, Durability::Unsynced).is_ok());
                }
            }
        }
        head
    }

    /// What a person is told of files that were put aside.
    pub fn told_of_aside(&self, count: usize) -> String {
        let files = planexe_base::style::count(count as u64, "file");
        format!(
            "{files} in `.planexe/outbox/{}` that your planexe did not write there: not sent, kept as `N.json.{ASIDE}`",
            self.receiver
        )
    }

    /// Takes events out: they were delivered, or never will be. Why they stay if they do: whoever went on would send them
    /// again and again.
    pub fn take_out(&self, events: &[(String, Payload)]) -> Result<(), String> {
        events.iter().try_for_each(|(name, _)| {
            let gone = fs::remove(&self.dir.join(name)).map(drop);
            gone.map_err(|error| format!("what was sent cannot be taken out of the outbox: {error}"))
        })
    }

    /// Held while delivering, so that two do not send the same. None while another holds it.
    pub fn lock(&self) -> Option<File> {
        let file = fs::open_dir(&self.dir).ok()?;
        match file.try_lock() {
            Ok(()) => Some(file),
            Err(std::fs::TryLockError::WouldBlock) => None,
            // A file system without locks: an event may be sent twice, under one id.
            Err(std::fs::TryLockError::Error(_)) => Some(file),
        }
    }
}

/// The event in a file's bytes, if its mark fits.
fn verified(bytes: &[u8], seal: &Seal) -> Option<Payload> {
    let Waiting { schema, mark, event } = serde_json::from_slice(bytes).ok()?;
    let mark = blake3::Hash::from_hex(&mark).ok()?;
    if schema != SCHEMA || !seal.fits(event.as_bytes(), mark.as_bytes()) {
        return None;
    }
    serde_json::from_str(&event).ok()
}

fn number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?;
    // As they are written: what else lies there is not ours to remove.
    let is_ours = number.len() >= 12 && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_ours { number.parse().ok() } else { None }
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
            outbox.head(most).events.into_iter().map(|(_, payload)| payload.task.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((tasks(1), tasks(9)), (vec!["a".to_owned()], vec!["a".into(), "b".into(), "c".into()]));
        outbox.take_out(&outbox.head(1).events).unwrap();
        assert_eq!(tasks(9), ["b", "c"]);
        fs::make_dirs(&outbox.dir.join("stays"), Durability::Unsynced).unwrap();
        let why = outbox.take_out(&[("stays".to_owned(), fresh("a"))]).unwrap_err();
        assert!(why.starts_with("what was sent cannot be taken out of the outbox: "), "{why}");
        assert_eq!(waiting(run.path()), [("ops".to_owned(), 2)]);
        let held = outbox.lock();
        assert!(held.is_some() && outbox.lock().is_none());
    }

    #[test]
    fn what_is_old_goes_and_what_no_mark_fits_is_put_aside() {
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
        // An event as it is sent, and one that waited for another receiver.
        let bare = serde_json::to_vec(&fresh("forged")).unwrap();
        fs::write_atomic(&outbox.dir.join("000000000006.json"), &bare, Durability::Unsynced).unwrap();
        let other = Outbox::new(run.path(), "other");
        other.add(7, &fresh("b")).unwrap();
        fs::rename(
            &other.dir.join("000000000007.json"),
            &outbox.dir.join("000000000007.json"),
            Durability::Unsynced,
        )
        .unwrap();
        let whole = fs::read(&outbox.dir.join("000000000002.json")).unwrap();
        let text = String::from_utf8(whole).unwrap();
        for (n, other) in [
            (8, text.replace("task.started", "task.done")),
            (9, text.replace("\"schema\":1,\"mark", "\"schema\":2,\"mark")),
        ] {
            assert_ne!(other, text);
            let path = outbox.dir.join(format!("{n:012}.json"));
            fs::write_atomic(&path, other.as_bytes(), Durability::Unsynced).unwrap();
        }
        let head = outbox.head(9);
        assert_eq!((head.events.len(), head.put_aside), (1, 6));
        assert_eq!(outbox.names(), ["000000000002.json"]);
        let kept = fs::list_dir(&outbox.dir).unwrap();
        let aside = |(name, _): &&(std::ffi::OsString, FileKind)| name.to_string_lossy().ends_with(ASIDE);
        assert_eq!(kept.iter().filter(aside).count(), 6);
        assert_eq!(outbox.head(9).put_aside, 0, "told once");
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
