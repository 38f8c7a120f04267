//! `.planexe/batches/`: calls that were submitted together to a vendor, from before the first byte is sent until each
//! answer is kept as that of its task.
//!
//! | file | what it says | written |
//! |---|---|---|
//! | `KEY.json` | that calls are about to be submitted under this key, and which | synced, before anything is sent |
//! | `KEY.state.json` | the vendor's id, and how far the batch is | synced before it is submitted, and once the id is known |
//! | `KEY.answers.json` | the answers | synced, before the first is used |
//! | `KEY.taken.jsonl` | calls whose answers are kept elsewhere, or given up | synced |
//!
//! Without the second file nothing was submitted. With it and without an id, perhaps: the vendor is asked before anything
//! is submitted again. So a file that cannot be read is an error, and never taken for one that is not there. The first
//! file is removed first: the others mean nothing without it.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Store;
use super::calls::CallRecord;
use super::jsonl;
use super::sidecar::to_json;
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::SCHEMA;
use planexe_llm::batches::Answers;

/// The largest file of a batch that is read.
const CAP: u64 = 2 << 30;
/// After so long no vendor has the answers of a batch any more, seconds.
pub const FORGOTTEN: f64 = 30.0 * 86400.0;

/// Calls that are submitted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Version of the format.
    pub schema: u32,
    /// What the batch is found by at its vendor: lower-case hex digits.
    pub key: String,
    /// The model's name in the pipeline.
    pub model: String,
    /// A digest of what its calls go to: another server, model or key is another model.
    pub id: String,
    /// When it was made.
    pub created_utc: String,
    /// The calls.
    pub calls: Vec<BatchedCall>,
}

/// One call of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchedCall {
    /// Its id in the batch.
    pub id: String,
    /// What is kept of the call, but for its answer.
    pub record: CallRecord,
}

/// How far a batch is. There is such a file once it is about to be submitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchState {
    /// Version of the format.
    pub schema: u32,
    /// The vendor's id; empty while it is not known whether it was submitted.
    pub batch: String,
    /// The vendor's id of the file of its calls, if there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The vendor's word for how far it is.
    pub status: String,
    /// When it was submitted.
    pub submitted_utc: String,
    /// When that was last asked.
    pub seen_utc: String,
    /// Calls that are answered, or failed.
    pub done: u64,
    /// All of them.
    pub total: u64,
    /// When it is over at the latest.
    pub until_utc: String,
    /// It is to be cancelled since it took too long: what is not answered is asked online.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// A call that needs its batch no longer.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    id: String,
}

fn is_key(key: &str) -> bool {
    key.len() == 24 && key.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Store {
    fn batch_file(&self, key: &str, kind: &str) -> PathBuf {
        self.planexe_dir().join("batches").join(format!("{key}{kind}.json"))
    }

    /// Keys of the batches that are not over, in no order.
    pub fn batch_keys(&self) -> Result<Vec<String>, FsError> {
        let listed = fs::list_dir(&self.planexe_dir().join("batches"));
        let files = fs::optional(listed).map_err(|error| error.within(self.run_dir()))?.unwrap_or_default();
        let keys = files.into_iter().filter(|(_, kind)| *kind == FileKind::File).filter_map(|(name, _)| {
            let key = name.to_str()?.strip_suffix(".json")?.to_owned();
            is_key(&key).then_some(key)
        });
        Ok(keys.collect())
    }

    fn read_batch_file<T: DeserializeOwned>(&self, key: &str, kind: &str) -> Result<Option<T>, FsError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            schema: u32,
        }
        let file = self.batch_file(key, kind);
        let bytes =
            fs::optional(fs::read_capped(&file, CAP)).map_err(|error| error.within(self.run_dir()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let version = serde_json::from_slice::<Version>(&bytes).map_or(0, |version| version.schema);
        let why = match serde_json::from_slice(&bytes) {
            _ if version > SCHEMA => {
                format!("it is of version {version}, and this planexe reads up to {SCHEMA}")
            }
            Ok(value) => return Ok(Some(value)),
            Err(error) => format!("it is damaged ({error})"),
        };
        let why = format!(
            "{why}; it tells of calls that were perhaps submitted in a batch, and paid, so nothing is submitted: put the \
             file back, or remove it to have them asked again"
        );
        Err(FsError::new(file, "read", std::io::Error::other(why)).within(self.run_dir()))
    }

    /// The calls of a batch; none if its file is gone. One that is damaged, or of a newer version, is an error.
    pub fn read_batch(&self, key: &str) -> Result<Option<BatchRecord>, FsError> {
        self.read_batch_file(key, "")
    }

    /// How far it is; none if it was never submitted.
    pub fn read_batch_state(&self, key: &str) -> Result<Option<BatchState>, FsError> {
        self.read_batch_file(key, ".state")
    }

    /// Its answers, if they were fetched.
    pub fn read_batch_answers(&self, key: &str) -> Result<Option<Answers>, FsError> {
        self.read_batch_file(key, ".answers")
    }

    fn taken_file(&self, key: &str) -> PathBuf {
        self.planexe_dir().join("batches").join(format!("{key}.taken.jsonl"))
    }

    /// The calls of a batch that need it no longer.
    pub fn read_batch_taken(&self, key: &str) -> Result<HashSet<String>, FsError> {
        let taken = jsonl::read_records::<Taken>(&self.taken_file(key));
        Ok(taken.map_err(|error| error.within(self.run_dir()))?.into_iter().map(|taken| taken.id).collect())
    }

    /// Notes that a call needs its batch no longer.
    pub fn take_batched(&self, key: &str, id: &str) -> Result<(), FsError> {
        let taken = Taken { id: id.to_owned() };
        jsonl::append(&self.taken_file(key), &taken, Durability::Synced)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// How many calls of a task are in batches. Batches that cannot be read count for none.
    pub fn batched_calls(&self, task: &str) -> Result<usize, FsError> {
        let mut count = 0;
        for key in self.batch_keys()? {
            let Ok(Some(record)) = self.read_batch(&key) else { continue };
            let taken = self.read_batch_taken(&key)?;
            let is_left = |call: &&BatchedCall| call.record.task == task && !taken.contains(&call.id);
            count += record.calls.iter().filter(is_left).count();
        }
        Ok(count)
    }

    /// The batch a call of a task is in: its model, how far it is, and whether its answers are here. For people: damaged
    /// files are passed over.
    pub fn batch_of(&self, task: &str) -> Option<(String, BatchState, bool)> {
        let read = |key: String| {
            let record = self.read_batch(&key).ok()??;
            let state = self.read_batch_state(&key).ok()??;
            let taken = self.read_batch_taken(&key).ok()?;
            let is_left = |call: &BatchedCall| call.record.task == task && !taken.contains(&call.id);
            let answered = matches!(fs::kind(&self.batch_file(&key, ".answers")), Ok(Some(_)));
            record.calls.iter().any(is_left).then_some((record.model, state, answered))
        };
        let found = self.batch_keys().ok()?.into_iter().filter_map(read);
        found.max_by(|(_, one, _), (_, other, _)| one.submitted_utc.cmp(&other.submitted_utc))
    }

    /// Gives up the calls of a task that are in batches: a person wants them asked anew. Batches that cannot be read are
    /// left alone. How many calls it were.
    pub fn give_up_batched(&self, task: &str) -> Result<usize, FsError> {
        let mut count = 0;
        for key in self.batch_keys()? {
            let Ok(Some(record)) = self.read_batch(&key) else { continue };
            let mut taken = self.read_batch_taken(&key)?;
            for call in record.calls.iter().filter(|call| call.record.task == task) {
                if taken.insert(call.id.clone()) {
                    self.take_batched(&key, &call.id)?;
                    count += 1;
                }
            }
            if record.calls.iter().all(|call| taken.contains(&call.id)) {
                self.remove_batch(&key)?;
            }
        }
        Ok(count)
    }

    /// Notes calls that are about to be submitted.
    pub fn write_batch(&self, record: &BatchRecord) -> Result<(), FsError> {
        self.write_batch_file(&record.key, "", &to_json(record), Durability::Synced)
    }

    /// Notes how far a batch is.
    pub fn write_batch_state(
        &self,
        key: &str,
        state: &BatchState,
        durability: Durability,
    ) -> Result<(), FsError> {
        self.write_batch_file(key, ".state", &to_json(state), durability)
    }

    /// Keeps the answers of a batch.
    pub fn write_batch_answers(&self, key: &str, answers: &Answers) -> Result<(), FsError> {
        self.write_batch_file(key, ".answers", &to_json(answers), Durability::Synced)
    }

    fn write_batch_file(
        &self,
        key: &str,
        kind: &str,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), FsError> {
        self.planexe_subdir("batches")?;
        fs::write_atomic(&self.batch_file(key, kind), bytes, durability)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// Forgets a batch: every answer of it is kept elsewhere, or it was never submitted.
    pub fn remove_batch(&self, key: &str) -> Result<(), FsError> {
        for kind in ["", ".state", ".answers"] {
            let durability = if kind.is_empty() { Durability::Synced } else { Durability::Unsynced };
            let file = self.batch_file(key, kind);
            fs::remove_durably(&file, durability).map_err(|error| error.within(self.run_dir()))?;
        }
        fs::remove(&self.taken_file(key)).map_err(|error| error.within(self.run_dir()))?;
        Ok(())
    }

    /// Removes what a kill left of batches that were being forgotten.
    pub fn sweep_batches(&self) -> Result<(), FsError> {
        let dir = self.planexe_dir().join("batches");
        let keys = self.batch_keys()?;
        for (name, kind) in fs::optional(fs::list_dir(&dir))?.unwrap_or_default() {
            let Some((key, rest)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let ours = matches!(rest, "state.json" | "answers.json" | "taken.jsonl") && is_key(key);
            if kind == FileKind::File && ours && !keys.iter().any(|known| known == key) {
                fs::remove(&dir.join(&name)).map_err(|error| error.within(self.run_dir()))?;
            }
        }
        Ok(())
    }

    /// Batches that were perhaps submitted and are not answered yet, each with its model and how far it is, the oldest
    /// first. For people: damaged files are passed over.
    pub fn batches_under_way(&self) -> Vec<(String, BatchState)> {
        #[derive(Deserialize)]
        struct Model {
            model: String,
        }
        let keys = self.batch_keys().unwrap_or_default();
        let waits = |key: &String| matches!(fs::kind(&self.batch_file(key, ".answers")), Ok(None));
        let read = |key: String| {
            let model: Model = self.read_batch_file(&key, "").ok()??;
            Some((model.model, self.read_batch_state(&key).ok()??))
        };
        let mut all: Vec<(String, BatchState)> = keys.into_iter().filter(waits).filter_map(read).collect();
        // No vendor has older ones.
        let now = clock::now_utc();
        all.retain(|(_, state)| {
            clock::seconds_between(&state.submitted_utc, &now).is_some_and(|age| age < FORGOTTEN)
        });
        all.sort_by(|a, b| a.1.submitted_utc.cmp(&b.1.submitted_utc));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::store;

    #[test]
    fn a_batch_is_there_until_it_is_forgotten_and_damaged_files_are_errors() {
        let (_dir, store) = store();
        assert!(store.batch_keys().unwrap().is_empty());
        let key = "0123456789abcdef01234567";
        let record = BatchRecord {
            schema: SCHEMA,
            key: key.into(),
            model: "m".into(),
            id: "x".into(),
            created_utc: String::new(),
            calls: Vec::new(),
        };
        store.write_batch(&record).unwrap();
        assert_eq!(store.batch_keys().unwrap(), [key]);
        assert_eq!(store.read_batch(key).unwrap(), Some(record));
        assert_eq!(store.read_batch_state(key).unwrap(), None, "perhaps it was never submitted");
        assert!(store.batches_under_way().is_empty());
        let state = BatchState {
            schema: SCHEMA,
            batch: "batch_1".into(),
            submitted_utc: clock::now_utc(),
            ..BatchState::default()
        };
        store.write_batch_state(key, &state, Durability::Synced).unwrap();
        assert_eq!(store.batches_under_way(), [("m".to_owned(), state)]);
        store.take_batched(key, "a-1").unwrap();
        assert!(store.read_batch_taken(key).unwrap().contains("a-1"));
        for text in ["{", r#"{"schema":99}"#, r#"{"schema":1,"calls":7}"#] {
            fs::write_atomic(&store.batch_file(key, ""), text.as_bytes(), Durability::Unsynced).unwrap();
            let said = store.read_batch(key).unwrap_err().to_string();
            assert!(said.contains(key) && said.contains("nothing is submitted"), "{text}: {said}");
            assert_eq!(store.give_up_batched("a").unwrap(), 0);
            assert_eq!(store.batch_keys().unwrap(), [key], "it is left alone");
        }
        for text in ["{", r#"{"schema":99}"#] {
            fs::write_atomic(&store.batch_file(key, ".state"), text.as_bytes(), Durability::Unsynced)
                .unwrap();
            assert!(store.read_batch_state(key).is_err(), "{text}: it was perhaps submitted");
        }
        fs::remove(&store.batch_file(key, "")).unwrap();
        store.sweep_batches().unwrap();
        assert_eq!(store.read_batch_state(key).unwrap(), None, "swept");
        assert!(store.read_batch_taken(key).unwrap().is_empty());
        store.remove_batch(key).unwrap();
    }
}
