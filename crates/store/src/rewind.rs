//! All outputs back to the moment of a checkpoint, as far as possible at once.
//!
//! Everything is fetched and verified under temporary names first. Then every task concerned stops counting as
//! done, and only then do files get their names: whatever interrupts this, no task is left done with a content
//! that is not its record's. The list of checkpoints is cut last, so that the same command can be typed again.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::history::Entry;
use super::sidecar::{parse_done, parse_status};
use super::temps::Temps;
use super::{Checkpoint, Moved, Sidecar, StatusRead, Store, Why, jsonl};
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::{Marker, OutputRecord, State, Status};

/// What it takes to be back at a checkpoint.
#[derive(Debug)]
pub struct Rewind {
    /// The checkpoint to go back to.
    pub to: Checkpoint,
    /// Tasks whose outputs or records are others now, as they were then.
    pub back: Vec<Checkpoint>,
    /// Tasks that were not done then, with what they have now: they become pending.
    pub pending: Vec<(String, Vec<String>)>,
    /// Contents of then that are not kept any more, as (task, output). With any of them it cannot be done.
    pub missing: Vec<(String, String)>,
    /// How many later checkpoints go.
    pub dropped: usize,
}

impl Rewind {
    /// How many steps it takes.
    pub fn steps(&self) -> usize {
        5 * self.back.len() + self.pending.len()
    }
}

/// Why there is no such checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCheckpoint {
    /// No checkpoint's id begins like this.
    Unknown,
    /// More than one does.
    Ambiguous(Vec<String>),
}

impl Store {
    /// Finds out what it takes to be back at a checkpoint, by its id or the beginning of it. Writes nothing.
    pub fn plan_rewind(&self, id: &str) -> Result<Result<Rewind, NoCheckpoint>, FsError> {
        let mut all = self.checkpoints().list()?;
        let at = match find(&all, id) {
            Ok(at) => at,
            Err(none) => return Ok(Err(none)),
        };
        let later = all.split_off(at + 1);
        let to = all[at].clone();
        let history = self.history().entries_all()?;
        let moved = self.moved()?;
        let mut cleaned: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in history.iter().filter(|entry| matches!(entry.why, Why::Cleaned | Why::Orphaned)) {
            cleaned.entry(&entry.first).or_default().push(entry);
        }
        // The last that came or went before that moment.
        let mut noted: HashMap<&str, &Moved> = HashMap::new();
        for moved in moved.iter().filter(|moved| moved.at <= to.time_utc) {
            noted.insert(&moved.first, moved);
        }
        let (mut back, mut pending, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        // A task is known by its first output, which keeps its name when the task is renamed.
        let mut then: HashMap<&str, &Checkpoint> = HashMap::new();
        let mut last: HashMap<&str, &Checkpoint> = HashMap::new();
        let mut firsts: Vec<&str> = Vec::new();
        for (n, checkpoint) in all.iter().chain(&later).enumerate() {
            let Some(first) = checkpoint.outputs.first() else { continue };
            if last.insert(&first.path, checkpoint).is_none() {
                firsts.push(&first.path);
            }
            if n <= at {
                then.insert(&first.path, checkpoint);
            }
        }
        for first in firsts {
            let cleaned = cleaned.get(first).map_or(&[][..], Vec::as_slice);
            let stood =
                |was: &&Checkpoint| !was_cleaned(cleaned, was, &to) || self.was_brought_back(was, &to);
            let was = match noted.get(first) {
                // What is noted here is known, whatever history says.
                Some(moved) if then.get(first).is_none_or(|made| made.time_utc <= moved.at) => {
                    let of = moved.checkpoint_id.as_deref();
                    of.and_then(|id| all.iter().chain(&later).rfind(|checkpoint| checkpoint.id == id))
                }
                // Made since.
                Some(_) => then.get(first).copied(),
                None => then.get(first).copied().filter(stood),
            };
            match was {
                Some(was) => {
                    if !self.is_at(was)? {
                        missing.extend(self.not_kept(was)?);
                        back.push(was.clone());
                    }
                }
                None => {
                    let last = last[first];
                    let outputs: Vec<String> =
                        last.outputs.iter().map(|output| output.path.clone()).collect();
                    if self.has_anything(&outputs)? {
                        pending.push((last.task.clone(), outputs));
                    }
                }
            }
        }
        Ok(Ok(Rewind { to, back, pending, missing, dropped: later.len() }))
    }

    /// Does it. Under the lock.
    /// `step`: is told of each of its [`Rewind::steps`].
    pub fn rewind(&self, rewind: &Rewind, step: &(dyn Fn() + Sync)) -> Result<(), FsError> {
        self.rewind_inner(rewind, step).map_err(|error| error.within(self.run_dir()))
    }

    fn rewind_inner(&self, rewind: &Rewind, step: &(dyn Fn() + Sync)) -> Result<(), FsError> {
        let durability = Durability::Synced;
        let statuses = self.statuses_of(&rewind.back)?;
        let mut temps = Temps::default();
        for checkpoint in &rewind.back {
            for output in &checkpoint.outputs {
                let target = self.path(&output.path);
                fs::ensure_inside(self.run_dir(), &target)?;
                if self.holds(output)? {
                    continue;
                }
                if let Some(dir) = target.parent() {
                    fs::make_dirs(dir, durability)?;
                }
                temps.0.push((self.history().copy_beside(&output.blake3, &target, durability)?, target));
            }
            step();
        }
        let replaced: HashSet<PathBuf> = temps.0.iter().map(|(_, target)| target.clone()).collect();
        fs::each(&rewind.back, |checkpoint| {
            step();
            let outputs: Vec<String> = checkpoint.outputs.iter().map(|output| output.path.clone()).collect();
            let replacing = |output: &str| replaced.contains(&self.path(output));
            self.save_with(&checkpoint.task, Why::Restored, &outputs, replacing, durability).map(drop)
        })?;
        fs::each(&rewind.back, |checkpoint| {
            step();
            self.invalidate(&checkpoint.task, &checkpoint.outputs[0].path, durability)
        })?;
        fs::each(&rewind.pending, |(task, outputs)| {
            step();
            self.clean(task, Why::Restored, outputs, durability).map(drop)
        })?;
        temps.publish(durability)?;
        let records: Vec<(&Checkpoint, Status)> = rewind.back.iter().zip(statuses).collect();
        fs::each(&records, |(checkpoint, status)| {
            step();
            let first = &checkpoint.outputs[0].path;
            let done = checkpoint.done.as_ref().map(|done| parse_done(&jsonl::to_line(done)));
            // A record from before checkpoints had one: the kept answer makes the task done again.
            let Some(Marker::Valid(done)) = done else { return Ok(()) };
            self.write_done(first, &done, durability)?;
            self.write_status(first, status, durability)
        })?;
        // Before the list is cut: what is noted then is of after that moment.
        self.forget_moved_after(&rewind.to.time_utc)?;
        fs::each(&rewind.back, |checkpoint| {
            step();
            self.note_back(&checkpoint.outputs[0].path, Some(&checkpoint.id), durability)
        })?;
        fs::each(&rewind.pending, |(_, outputs)| match outputs.first() {
            Some(first) => self.note_gone(first, Why::Restored, durability),
            None => Ok(()),
        })?;
        // What was asked for after that moment is no matter any more.
        self.cancel_anew()?;
        self.checkpoints().truncate_after(&rewind.to.id)?;
        Ok(())
    }

    /// Whether a task's outputs and record are those of a checkpoint.
    fn is_at(&self, checkpoint: &Checkpoint) -> Result<bool, FsError> {
        for output in &checkpoint.outputs {
            if !self.holds(output)? {
                return Ok(false);
            }
        }
        let recorded = match self.read_done(&checkpoint.outputs[0].path) {
            Marker::Valid(done) => done.checkpoint_id,
            _ => None,
        };
        Ok(recorded.as_deref() == Some(&checkpoint.id))
    }

    /// Whether what a task had made was restored before a moment, and is there still: its `.DONE` was written then.
    fn was_brought_back(&self, made: &Checkpoint, moment: &Checkpoint) -> bool {
        let Some(first) = made.outputs.first() else { return false };
        let marker = self.sidecar_path(first.path.as_str(), Sidecar::Done);
        let Ok(Some(written)) = fs::plain_signature(&marker) else { return false };
        let written = UNIX_EPOCH + Duration::from_nanos(written.mtime_ns.try_into().unwrap_or(0));
        let Marker::Valid(done) = self.read_done(&first.path) else { return false };
        done.checkpoint_id.as_ref() == Some(&made.id) && clock::format_utc(written) <= moment.time_utc
    }

    fn holds(&self, output: &OutputRecord) -> Result<bool, FsError> {
        let path = self.path(&output.path);
        match fs::plain_signature(&path)? {
            Some(signature) if signature.size == output.bytes => Ok(fs::hash_file(&path)?.0 == output.blake3),
            _ => Ok(false),
        }
    }

    fn not_kept(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, String)>, FsError> {
        let mut missing = Vec::new();
        for output in &checkpoint.outputs {
            if !self.holds(output)? && !self.history().has(&output.blake3) {
                missing.push((checkpoint.task.clone(), output.path.clone()));
            }
        }
        Ok(missing)
    }

    fn has_anything(&self, outputs: &[String]) -> Result<bool, FsError> {
        for output in outputs {
            if fs::kind(&self.path(output))? == Some(FileKind::File) {
                return Ok(true);
            }
        }
        let Some(first) = outputs.first() else { return Ok(false) };
        Ok(self.read_done(first) != Marker::Missing || self.read_status(first) != StatusRead::Missing)
    }

    /// The `.status` of each checkpoint: as history has it, or made from the checkpoint.
    fn statuses_of(&self, checkpoints: &[Checkpoint]) -> Result<Vec<Status>, FsError> {
        let history = self.history().entries_all()?;
        let id_of = |entry: &Entry| -> Option<String> {
            Some(entry.done.as_ref()?.get("checkpoint_id")?.as_str()?.to_owned())
        };
        let last: HashMap<String, &Entry> =
            history.iter().filter_map(|entry| Some((id_of(entry)?, entry))).collect();
        let kept = |checkpoint: &Checkpoint| {
            let entry = last.get(&checkpoint.id)?;
            match parse_status(&jsonl::to_line(entry.status.as_ref()?)) {
                StatusRead::Valid(status) if status.state == State::Done => Some(*status),
                _ => None,
            }
        };
        let made = |checkpoint: &Checkpoint| {
            let mut status = Status::new(&checkpoint.task, State::Done);
            status.last.attempt = checkpoint.attempt;
            status.last.step = Some(checkpoint.step);
            status.last.ended_utc = Some(checkpoint.time_utc.clone());
            status.last.decision_id = Some(checkpoint.decision_id.clone());
            status.last.checkpoint_id = Some(checkpoint.id.clone());
            status.result.outputs = checkpoint.outputs.clone();
            status
        };
        Ok(checkpoints
            .iter()
            .map(|checkpoint| kept(checkpoint).unwrap_or_else(|| made(checkpoint)))
            .collect())
    }
}

/// The last checkpoint of an id, or of the only id that begins so.
fn find(all: &[Checkpoint], id: &str) -> Result<usize, NoCheckpoint> {
    if let Some(at) = all.iter().rposition(|checkpoint| checkpoint.id == id) {
        return Ok(at);
    }
    let mut begun: Vec<&str> =
        all.iter().map(|c| c.id.as_str()).filter(|known| !id.is_empty() && known.starts_with(id)).collect();
    begun.sort_unstable();
    begun.dedup();
    match begun[..] {
        [] => Err(NoCheckpoint::Unknown),
        [one] => Ok(all.iter().rposition(|checkpoint| checkpoint.id == one).unwrap_or(0)),
        _ => Err(NoCheckpoint::Ambiguous(begun.into_iter().map(str::to_owned).collect())),
    }
}

/// Whether what a task had made was taken away again before a moment. `cleaned`: when its outputs were.
fn was_cleaned(cleaned: &[&Entry], made: &Checkpoint, moment: &Checkpoint) -> bool {
    cleaned.iter().any(|entry| made.time_utc < entry.at && entry.at <= moment.time_utc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{make, store, text};
    use planexe_base::record::Digest;

    #[test]
    fn a_run_goes_back_to_a_moment_and_nothing_is_lost() {
        let (_dir, store) = store();
        make(&store, "a", 0, "a1");
        let moment = make(&store, "b", 1, "b1");
        make(&store, "c", 2, "c1");
        make(&store, "a", 0, "a2");
        make(&store, "b", 1, "b1");
        fs::write_atomic(&store.path("b.json"), b"edited", Durability::Unsynced).unwrap();

        let plan = store.plan_rewind(&moment[..6]).unwrap().unwrap();
        assert_eq!(plan.back.iter().map(|c| c.task.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(plan.pending, [("c".to_owned(), vec!["c.json".to_owned()])]);
        assert_eq!(plan.dropped, 3);
        let steps = std::sync::atomic::AtomicUsize::new(0);
        let step = || {
            steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        store.rewind(&plan, &step).unwrap();
        assert_eq!(steps.into_inner(), plan.steps());
        assert_eq!(text(&store, "a.json").as_deref(), Some("a1"));
        assert_eq!(text(&store, "b.json").as_deref(), Some("b1"));
        for name in ["c.json", "c.json.DONE", "c.json.status"] {
            assert_eq!(text(&store, name), None);
        }
        assert_eq!(store.checkpoints().last().unwrap().unwrap().id, moment);
        for (task, id) in [("a.json", 0), ("b.json", 1)] {
            let Marker::Valid(done) = store.read_done(task) else { panic!() };
            assert_eq!(done.checkpoint_id.as_ref(), Some(&store.checkpoints().list().unwrap()[id].id));
        }
        for content in ["a2", "c1", "edited"] {
            assert!(store.history().has(&Digest::of(content.as_bytes())), "{content}");
        }
        // Once there, there is nothing to do.
        let plan = store.plan_rewind(&moment).unwrap().unwrap();
        assert_eq!((plan.back.len(), plan.pending.len(), plan.dropped), (0, 0, 0));
        assert_eq!(store.plan_rewind("none").unwrap().unwrap_err(), NoCheckpoint::Unknown);
        assert!(matches!(store.plan_rewind("").unwrap(), Err(NoCheckpoint::Unknown)));
    }

    #[test]
    fn what_cannot_be_brought_back_whole_is_not_begun() {
        let (_dir, store) = store();
        let moment = make(&store, "a", 0, "a1");
        make(&store, "b", 1, "b1");
        make(&store, "a", 0, "a2");
        store.history().gc(None, Some(0)).unwrap();
        let plan = store.plan_rewind(&moment).unwrap().unwrap();
        assert_eq!(plan.missing, [("a".to_owned(), "a.json".to_owned())]);
        store.rewind(&plan, &|| ()).unwrap_err();
        assert_eq!(text(&store, "b.json").as_deref(), Some("b1"));
        assert_eq!(store.checkpoints().list().unwrap().len(), 3);
    }

    fn back(store: &Store, moment: &str) -> Result<(), FsError> {
        store.rewind(&store.plan_rewind(moment)?.unwrap(), &|| ())
    }

    #[test]
    fn what_was_cleaned_before_stays_so_and_a_renamed_task_comes_back_once() {
        let (_dir, store) = store();
        make(&store, "a", 0, "a1");
        std::thread::sleep(std::time::Duration::from_millis(2));
        store.clean("a", Why::Cleaned, &["a.json".into()], Durability::Unsynced).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let moment = make(&store, "b", 1, "b1");
        make(&store, "a", 0, "a2");
        let plan = store.plan_rewind(&moment).unwrap().unwrap();
        assert_eq!((plan.back.len(), plan.pending.len()), (0, 1));
        store.rewind(&plan, &|| ()).unwrap();
        assert_eq!(text(&store, "a.json"), None);

        let was = store.checkpoints().last().unwrap().unwrap();
        let renamed = Checkpoint { id: "c0ffee".into(), task: "bb".into(), ..was };
        store.checkpoints().append(&renamed, Durability::Unsynced).unwrap();
        let moment = make(&store, "c", 2, "c1");
        make(&store, "b", 1, "b2");
        let plan = store.plan_rewind(&moment).unwrap().unwrap();
        assert_eq!(plan.back, [renamed]);
    }

    #[test]
    fn what_was_cleaned_and_restored_before_a_moment_is_part_of_it() {
        let pause = || std::thread::sleep(std::time::Duration::from_millis(2));
        let (_dir, store) = store();
        make(&store, "a", 0, "a1");
        pause();
        store.clean("a", Why::Cleaned, &["a.json".into()], Durability::Unsynced).unwrap();
        pause();
        let without = make(&store, "b", 1, "b1");
        pause();
        store.restore("a", None).unwrap();
        pause();
        let with = make(&store, "c", 2, "c1");
        let pending = |moment: &str| store.plan_rewind(moment).unwrap().unwrap().pending;
        assert_eq!(pending(&with), []);
        assert_eq!(pending(&without)[0].0, "a");
    }

    #[test]
    fn a_kill_at_any_point_can_be_gone_on_from() {
        for after in 0.. {
            let (_dir, store) = store();
            let moment = make(&store, "a", 0, "a1");
            make(&store, "b", 1, "b1");
            make(&store, "a", 0, "a2");
            fs::fault::arm(after, true);
            let result = back(&store, &moment);
            if !fs::fault::disarm() {
                result.unwrap();
                break;
            }
            let store = Store::open(store.run_dir());
            store.mend_all().unwrap();
            back(&store, &moment).unwrap();
            assert_eq!(text(&store, "a.json").as_deref(), Some("a1"), "{after}");
            assert_eq!(text(&store, "b.json"), None, "{after}");
            assert!(matches!(store.read_done("a.json"), Marker::Valid(_)), "{after}");
            assert_eq!(store.checkpoints().list().unwrap().len(), 1, "{after}");
            for content in ["a2", "b1"] {
                assert!(store.history().has(&Digest::of(content.as_bytes())), "{after}: {content}");
            }
        }
    }
}
