//! One line for every completed task: what it was decided on, and what came out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;

use super::history::{Entry, Why};
use super::sidecar::parse_done;
use super::{Store, jsonl};
use crate::fs::{self, Durability, FileKind, FsError};
use crate::record::{Digest, Marker, OutputRecord};

/// A completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Names it: 12 hex digits.
    pub id: String,
    /// The task's topological position.
    pub step: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// Digest of what the attempt was decided on.
    pub decision_id: String,
    /// Digest over the outputs, or a git commit.
    pub sandbox_ref: String,
    /// Digest of the pipeline as it was.
    pub pipeline_hash: String,
    /// When, RFC 3339, UTC.
    pub time_utc: String,
    /// What came out.
    pub outputs: Vec<OutputRecord>,
    /// The `.DONE` that goes with it, so that the moment can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Value>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Checkpoint {
    /// A checkpoint of a completion; its id is derived from all of it.
    #[expect(clippy::too_many_arguments, reason = "the fields of a record")]
    pub fn new(
        step: u32,
        task: &str,
        attempt: u32,
        decision_id: &str,
        sandbox_ref: Option<&str>,
        pipeline_hash: &str,
        time_utc: &str,
        outputs: Vec<OutputRecord>,
    ) -> Checkpoint {
        let sandbox_ref = sandbox_ref.map_or_else(|| Checkpoint::digest_outputs(&outputs), str::to_owned);
        let mut checkpoint = Checkpoint {
            id: String::new(),
            step,
            task: task.to_owned(),
            attempt,
            decision_id: decision_id.to_owned(),
            sandbox_ref,
            pipeline_hash: pipeline_hash.to_owned(),
            time_utc: time_utc.to_owned(),
            outputs,
            done: None,
            other: Map::new(),
        };
        checkpoint.id = Digest::of(&jsonl::to_line(&checkpoint)).short().to_owned();
        checkpoint
    }

    /// Digest over outputs: names and contents, in order.
    pub fn digest_outputs(outputs: &[OutputRecord]) -> String {
        let mut hasher = blake3::Hasher::new();
        for output in outputs {
            hasher.update(&(output.path.len() as u64).to_le_bytes());
            hasher.update(output.path.as_bytes());
            hasher.update(output.blake3.0.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// `.planexe/checkpoints.jsonl`.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
}

impl Checkpoints {
    pub(super) fn new(run_dir: &Path) -> Checkpoints {
        Checkpoints { path: run_dir.join(".planexe/checkpoints.jsonl") }
    }

    /// Adds one.
    pub fn append(&self, checkpoint: &Checkpoint, durability: Durability) -> Result<(), FsError> {
        if let Some(dir) = self.path.parent() {
            fs::make_dirs(dir, Durability::Synced)?;
        }
        jsonl::append(&self.path, checkpoint, durability)
    }

    /// Leaves only those up to and including one; the others are set aside in
    /// `checkpoints.dropped.jsonl`. Under the lock. Returns how many went.
    pub fn truncate_after(&self, id: &str) -> Result<usize, FsError> {
        let all = self.list()?;
        let Some(at) = all.iter().rposition(|checkpoint| checkpoint.id == id) else { return Ok(0) };
        let (kept, dropped) = all.split_at(at + 1);
        if dropped.is_empty() {
            return Ok(0);
        }
        let aside = self.path.with_file_name("checkpoints.dropped.jsonl");
        for checkpoint in dropped {
            jsonl::append(&aside, checkpoint, Durability::Unsynced)?;
        }
        fs::sync_file(&aside)?;
        fs::write_atomic(&self.path, &jsonl::to_lines(kept), Durability::Synced)?;
        Ok(dropped.len())
    }

    /// All, oldest first; lines that cannot be read are passed over.
    pub fn list(&self) -> Result<Vec<Checkpoint>, FsError> {
        jsonl::read_records(&self.path)
    }

    /// The newest. Reads the end of the file only.
    pub fn last(&self) -> Result<Option<Checkpoint>, FsError> {
        let mut window = 1 << 16;
        loop {
            let Some((tail, total)) = fs::optional(fs::read_tail(&self.path, window))? else {
                return Ok(None);
            };
            let last =
                tail.rsplit(|&b| b == b'\n').find_map(|line| serde_json::from_slice::<Checkpoint>(line).ok());
            if last.is_some() || tail.len() as u64 == total {
                return Ok(last);
            }
            window *= 4;
        }
    }
}

/// What [`Store::restore_checkpoint`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredCheckpoint {
    /// Tasks whose outputs and `.DONE` were brought back.
    pub restored: Vec<String>,
    /// Tasks that were not done at that moment and are pending again.
    pub cleared: Vec<String>,
    /// Later checkpoints that were dropped.
    pub dropped: usize,
}

impl Store {
    /// Brings the outputs of all tasks back to the moment of a checkpoint, under the lock. Every
    /// content is found and verified before anything is touched; what is there now goes to history
    /// first; the later checkpoints are dropped last, so that after a kill the same call goes on.
    pub fn restore_checkpoint(&self, id: &str) -> Result<RestoredCheckpoint, FsError> {
        self.restore_checkpoint_inner(id).map_err(|error| error.within(self.run_dir()))
    }

    fn restore_checkpoint_inner(&self, id: &str) -> Result<RestoredCheckpoint, FsError> {
        let all = self.checkpoints().list()?;
        let Some(at) = all.iter().rposition(|checkpoint| checkpoint.id == id) else {
            let why = std::io::Error::new(ErrorKind::NotFound, format!("no checkpoint `{id}`"));
            return Err(FsError::new(&self.checkpoints().path, "restore from", why));
        };
        let mut then: HashMap<&str, &Checkpoint> = HashMap::new();
        for checkpoint in &all[..=at] {
            then.insert(&checkpoint.task, checkpoint);
        }
        let mut result = RestoredCheckpoint::default();

        let mut back: Vec<&Checkpoint> = Vec::new();
        for checkpoint in then.values() {
            let mut as_then = match checkpoint.outputs.first().map(|first| self.read_done(&first.path)) {
                Some(Marker::Valid(done)) => done.checkpoint_id.as_ref() == Some(&checkpoint.id),
                _ => false,
            };
            for output in &checkpoint.outputs {
                let path = self.path(&output.path);
                let present =
                    fs::kind(&path)? == Some(FileKind::File) && fs::hash_file(&path)?.0 == output.blake3;
                if !present && !self.history().has(&output.blake3) {
                    let why = std::io::Error::new(
                        ErrorKind::NotFound,
                        format!("its content of checkpoint `{id}` is not in history any more"),
                    );
                    return Err(FsError::new(path, "restore", why));
                }
                as_then &= present;
            }
            if !as_then {
                back.push(checkpoint);
            }
        }
        back.sort_by(|a, b| (a.step, &a.task).cmp(&(b.step, &b.task)));

        let mut later: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for checkpoint in &all[at + 1..] {
            if then.contains_key(checkpoint.task.as_str()) {
                continue;
            }
            let outputs = checkpoint.outputs.iter().map(|output| output.path.as_str());
            match later.iter_mut().find(|(task, _)| *task == checkpoint.task) {
                Some((_, known)) => known.extend(outputs),
                None => later.push((&checkpoint.task, outputs.collect())),
            }
        }
        for (task, outputs) in later {
            // The first output names the sidecars.
            let first =
                all.iter().rfind(|checkpoint| checkpoint.task == task).and_then(|c| c.outputs.first());
            let mut names: Vec<String> = first.iter().map(|first| first.path.clone()).collect();
            names.extend(
                outputs
                    .into_iter()
                    .filter(|path| Some(*path) != first.map(|f| f.path.as_str()))
                    .map(str::to_owned),
            );
            self.clean(task, Why::Restored, &names, Durability::Synced)?;
            result.cleared.push(task.to_owned());
        }
        for checkpoint in back {
            let Some(first) = checkpoint.outputs.first() else { continue };
            let mut done = checkpoint.done.clone();
            if let Some(value) = &done
                && !matches!(parse_done(&jsonl::to_line(value)), Marker::Valid(_))
            {
                done = None;
            }
            self.put_back(&Entry {
                n: 0,
                at: checkpoint.time_utc.clone(),
                task: checkpoint.task.clone(),
                why: Why::Restored,
                first: first.path.clone(),
                outputs: checkpoint.outputs.clone(),
                done,
                status: None,
                other: Map::new(),
            })?;
            result.restored.push(checkpoint.task.clone());
        }
        result.dropped = self.checkpoints().truncate_after(id)?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Done, State, Status};
    use crate::store::commit::{CheckpointOf, Commit, Content, commit};
    use crate::store::fixtures::{done, store, text};

    fn make(store: &Store, task: &str, step: u32, content: &str) -> String {
        let committed = commit(
            store,
            Commit {
                task: task.into(),
                outputs: vec![(format!("{task}.json"), Content::Bytes(content.into()))],
                done: Done {
                    task: task.into(),
                    completed_utc: format!("{:?}", std::time::Instant::now()),
                    ..done()
                },
                status: Status { attempt: 1, ..Status::new(task, State::Done) },
                checkpoint: Some(CheckpointOf {
                    step,
                    decision_id: content.into(),
                    pipeline_hash: "p".into(),
                    sandbox_ref: None,
                }),
                durability: Durability::Unsynced,
                why: Why::Replaced,
            },
        );
        committed.unwrap().checkpoint.unwrap().id
    }

    #[test]
    fn they_are_listed_in_order_and_damage_is_passed_over() {
        let (_dir, store) = store();
        let a = make(&store, "a", 0, "a1");
        let b = make(&store, "b", 1, "b1");
        assert_ne!(a, b);
        let checkpoints = store.checkpoints();
        let ids = |list: Vec<Checkpoint>| list.into_iter().map(|c| c.id).collect::<Vec<_>>();
        assert_eq!(ids(checkpoints.list().unwrap()), [a.clone(), b.clone()]);
        fs::append_line(&checkpoints.path, b"garbage", Durability::Unsynced).unwrap();
        assert_eq!(ids(checkpoints.list().unwrap()), [a, b.clone()]);
        assert_eq!(checkpoints.last().unwrap().unwrap().id, b);
        fs::append_line(&checkpoints.path, "x".repeat(200_000).as_bytes(), Durability::Unsynced).unwrap();
        assert_eq!(checkpoints.last().unwrap().unwrap().id, b);
        assert_eq!(checkpoints.truncate_after("none").unwrap(), 0);
        assert_eq!(checkpoints.truncate_after(&b).unwrap(), 0);
    }

    #[test]
    fn a_run_goes_back_to_a_moment_and_nothing_is_lost() {
        let (_dir, store) = store();
        make(&store, "a", 0, "a1");
        let moment = make(&store, "b", 1, "b1");
        make(&store, "c", 2, "c1");
        make(&store, "a", 0, "a2");
        make(&store, "b", 1, "b1");
        fs::write_atomic(&store.path("b.json"), b"edited", Durability::Unsynced).unwrap();

        let restored = store.restore_checkpoint(&moment).unwrap();
        assert_eq!(restored.restored, ["a", "b"]);
        assert_eq!(restored.cleared, ["c"]);
        assert_eq!(restored.dropped, 3);
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
        assert_eq!(store.restore_checkpoint(&moment).unwrap(), RestoredCheckpoint::default());
        assert!(store.restore_checkpoint("none").unwrap_err().to_string().contains("no checkpoint `none`"));
    }

    #[test]
    fn what_cannot_be_brought_back_whole_is_not_begun() {
        let (_dir, store) = store();
        let moment = make(&store, "a", 0, "a1");
        make(&store, "b", 1, "b1");
        make(&store, "a", 0, "a2");
        store.history().gc(None, Some(0)).unwrap();
        let error = store.restore_checkpoint(&moment).unwrap_err();
        assert!(error.to_string().starts_with("cannot restore `a.json`"), "{error}");
        assert_eq!(text(&store, "b.json").as_deref(), Some("b1"));
        assert_eq!(store.checkpoints().list().unwrap().len(), 3);
    }

    #[test]
    fn a_kill_at_any_point_can_be_gone_on_from() {
        for after in 0.. {
            let (_dir, store) = store();
            let moment = make(&store, "a", 0, "a1");
            make(&store, "b", 1, "b1");
            make(&store, "a", 0, "a2");
            fs::fault::arm(after, true);
            let result = store.restore_checkpoint(&moment);
            if !fs::fault::disarm() {
                result.unwrap();
                break;
            }
            let store = Store::open(store.run_dir());
            store.mend_all().unwrap();
            store.restore_checkpoint(&moment).unwrap();
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
