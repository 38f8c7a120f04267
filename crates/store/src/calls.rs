//! Answers that arrived, kept before anything is done with them: what was paid for once is not paid
//! for again.
//!
//! `.planexe/calls/TASK/DIGEST.json` holds the answer that may be used again. Everything else a task
//! was sent or got back stays beside it under names that [`Calls::find`] never returns:
//! `DIGEST.failed-N.json`, `DIGEST.rejected-N.json`, and `DIGEST.spent-N.json` for answers set aside
//! by a fresh draw. The name decides; the verdict inside follows it.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sidecar::to_json;
use super::task_dir_name;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::{Digest, Imported, SCHEMA};
use planexe_llm::attachment::Attachment;
use planexe_llm::relay::Wire;
use planexe_llm::{CallError, Rejected, Reply, Request};

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerState {
    /// It is whole; nothing was decided yet.
    Arrived,
    /// It passed schema and checks.
    Accepted,
    /// It did not, and is never used again.
    Rejected,
}

/// What was sent to the model, as it is kept with the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptRequest {
    /// The system prompt; empty if there was none.
    #[serde(default)]
    pub system: String,
    /// The rendered prompt.
    pub prompt: String,
    /// The images and PDFs that went with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<KeptFile>,
    /// JSON Schema the answer must satisfy.
    #[serde(default)]
    pub schema: Option<Value>,
    /// Sampling parameters.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Fields added to the body as they are.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params_extra: Map<String, Value>,
    /// Tools the task gave to an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Earlier answers that were rejected, each with what was wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
}

/// A file that went with a prompt: its content is in the run, or in history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its path, relative to the run.
    pub path: String,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its content.
    pub blake3: Digest,
}

impl From<&Attachment> for KeptFile {
    fn from(file: &Attachment) -> KeptFile {
        KeptFile {
            path: file.path.clone(),
            media_type: file.media.name().to_owned(),
            bytes: file.bytes.len() as u64,
            blake3: file.digest.clone(),
        }
    }
}

impl From<Request> for KeptRequest {
    fn from(request: Request) -> KeptRequest {
        KeptRequest {
            system: request.system,
            prompt: request.prompt,
            files: request.files.iter().map(KeptFile::from).collect(),
            schema: request.schema,
            params: request.params,
            params_extra: request.params_extra,
            tools: request.tools,
            rejected: request.rejected,
        }
    }
}

/// One call: what was sent, what came back, what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Version of the format.
    pub schema: u32,
    /// The task's name: `task` or `task[key]`.
    pub task: String,
    /// Digest of what was sent: what an answer is looked up by.
    pub digest: Digest,
    /// The name under `[models]`.
    pub endpoint: String,
    /// The model's name at its server.
    pub model: String,
    /// The dialect.
    pub api: String,
    /// What was sent.
    pub request: KeptRequest,
    /// Start of the call.
    pub started_utc: String,
    /// When the answer was complete.
    pub ended_utc: String,
    /// The answer, if it came whole.
    #[serde(default)]
    pub reply: Option<Reply>,
    /// The failure, if not.
    #[serde(default)]
    pub error: Option<CallError>,
    /// What became of the answer.
    pub verdict: AnswerState,
    /// The attempt of the task in which it was made.
    #[serde(default)]
    pub attempt: u32,
    /// Joins log, usage and failures.
    #[serde(default)]
    pub error_id: Option<String>,
    /// The task's evaluator was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evaluation: bool,
    /// The task's own program made it: the answer as it went over the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
    /// Where the answer came from, if another program asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A call as it lies on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptCall {
    /// Its file, relative to `.planexe/calls/`.
    pub name: String,
    /// Whether [`Calls::find`] may return it.
    pub usable: bool,
    /// Its content.
    pub record: CallRecord,
}

impl CallRecord {
    /// Whether it is what a task with rounds of refinement had made when they were over. One that was imported had none.
    pub fn had_its_rounds(&self) -> bool {
        self.verdict == AnswerState::Accepted && self.imported.is_none()
    }
}

/// The answers under `.planexe/calls/`.
#[derive(Debug)]
pub struct Calls {
    run_dir: PathBuf,
    dir: PathBuf,
    temp_dir: PathBuf,
    /// Stands for room on the disk.
    room: PathBuf,
}

/// Room that is kept for an answer and what was asked, bytes.
const ROOM_FOR_A_CALL: usize = 256 << 10;
/// Of all of it the least and the most.
const ROOM: Range<usize> = 1 << 20..8 << 20;
/// Answers are capped at 16 MiB by the caller; a record holds its prompt as well.
const CAP: u64 = 256 << 20;

impl Calls {
    pub(super) fn new(run_dir: &Path) -> Calls {
        Calls {
            run_dir: run_dir.to_owned(),
            dir: run_dir.join(".planexe/calls"),
            temp_dir: run_dir.join(".planexe/tmp"),
            room: run_dir.join(".planexe/room"),
        }
    }

    /// The folder of the answers, `.planexe/calls/`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps room on the disk for the answers of so many calls at once, until [`Calls::give_room_back`]: what is asked
    /// for, and paid, while the disk fills up can still be kept when it arrives. Where there is room already, that stays.
    pub fn keep_room(&self, calls: usize) -> Result<(), FsError> {
        let length = (calls * ROOM_FOR_A_CALL).clamp(ROOM.start, ROOM.end);
        if fs::signature(&self.room)?.is_some_and(|room| room.size == length as u64) {
            return Ok(());
        }
        fs::make_dirs(self.room.parent().unwrap_or(&self.run_dir), Durability::Unsynced)?;
        fs::reserve(&self.room, length as u64, || {
            let mut bytes = vec![0; length];
            blake3::Hasher::new().finalize_xof().fill(&mut bytes);
            bytes
        })
    }

    /// Room that was kept is room for anything again. Without it nothing is done.
    pub fn give_room_back(&self) {
        // What cannot be removed is only in the way.
        let _ = fs::remove(&self.room);
    }

    /// Keeps a call, synced, and returns its file's name relative to `.planexe/calls/`. An answer
    /// becomes the one [`Calls::find`] returns; one that lay there is set aside. A failure or a
    /// rejected answer goes beside it.
    pub fn keep(&self, record: &CallRecord) -> Result<String, FsError> {
        self.keep_with(record, &[])
    }

    /// [`Calls::keep`], and what was written to the files `with` before is synced in the same go.
    pub fn keep_with(&self, record: &CallRecord, with: &[&Path]) -> Result<String, FsError> {
        self.keep_somehow(record, Some(with))
    }

    /// Keeps a call without a wait for the disk: a kill does not lose it, and a power cut may until [`Calls::sync`].
    pub fn keep_unsynced(&self, record: &CallRecord) -> Result<String, FsError> {
        self.keep_somehow(record, None)
    }

    /// Syncs a call that was kept without.
    pub fn sync(&self, name: &str) -> Result<(), FsError> {
        fs::sync_temps(&[], &[&self.dir.join(name)])
    }

    fn keep_somehow(&self, record: &CallRecord, with: Option<&[&Path]>) -> Result<String, FsError> {
        match self.keep_once(record, with) {
            Err(error) if error.is_out_of_space() => {
                self.give_room_back();
                self.keep_once(record, with)
            }
            kept => kept,
        }
    }

    /// `with`: what is synced with it; none if neither that nor this is.
    fn keep_once(&self, record: &CallRecord, with: Option<&[&Path]>) -> Result<String, FsError> {
        let folder = task_dir_name(&record.task);
        let dir = self.dir.join(&folder);
        fs::make_dirs_inside(&self.run_dir, &dir.join("file"), Durability::Unsynced)?;
        let digest = file_stem(&record.digest);
        let name = if record.reply.is_none() {
            self.free_name(&dir, &digest, "failed")?
        } else if record.verdict == AnswerState::Rejected {
            self.free_name(&dir, &digest, "rejected")?
        } else {
            let name = format!("{digest}.json");
            if fs::kind(&dir.join(&name))?.is_some() {
                let spent = self.free_name(&dir, &digest, "spent")?;
                fs::rename(&dir.join(&name), &dir.join(spent), Durability::Unsynced)?;
            }
            name
        };
        match with {
            Some(with) => self.write(&dir.join(&name), record, with)?,
            None => fs::write_atomic(&dir.join(&name), &to_json(record), Durability::Unsynced)?,
        }
        Ok(format!("{folder}/{name}"))
    }

    /// Writes a record under a name that nothing has, synced together with the files `with`. JSON that lost a part in a
    /// power cut is no JSON: such a record is passed over.
    fn write(&self, path: &Path, record: &CallRecord, with: &[&Path]) -> Result<(), FsError> {
        self.by_temp_dir(|temp_dir| fs::write_fresh(temp_dir, path, &to_json(record), with))
    }

    /// Does what needs the folder for temporary files, which is made if it is not there.
    fn by_temp_dir(&self, write: impl Fn(&Path) -> Result<(), FsError>) -> Result<(), FsError> {
        match write(&self.temp_dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::make_dirs(&self.temp_dir, Durability::Unsynced)?;
                write(&self.temp_dir)
            }
            written => written,
        }
    }

    /// The answer kept for what was sent, if there is one that was not rejected or set aside. A damaged file is passed
    /// over.
    pub fn find(&self, task: &str, digest: &Digest) -> Result<Option<CallRecord>, FsError> {
        Ok(self.find_named(task, digest)?.map(|kept| kept.record))
    }

    /// [`Calls::find`] with the file's name.
    pub fn find_named(&self, task: &str, digest: &Digest) -> Result<Option<KeptCall>, FsError> {
        let name = format!("{}/{}.json", task_dir_name(task), file_stem(digest));
        let Some(record) = self.read(&name)? else { return Ok(None) };
        let usable = record.task == task
            && record.digest == *digest
            && record.reply.is_some()
            && record.verdict != AnswerState::Rejected;
        Ok(usable.then_some(KeptCall { name, usable, record }))
    }

    /// The call in a file named relative to `.planexe/calls/`; none if there is no such file, or a damaged one. What the
    /// disk cannot read is an error: the answer was paid for, and may be read another time.
    pub fn read(&self, name: &str) -> Result<Option<CallRecord>, FsError> {
        // Names come from records too: none may lead out of the folder.
        if !is_call_name(name) {
            return Ok(None);
        }
        let Some(bytes) = fs::if_content(fs::read_capped(&self.dir.join(name), CAP))? else {
            return Ok(None);
        };
        let record: Option<CallRecord> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record| record.schema <= SCHEMA))
    }

    /// What an imported answer of a task is kept under until it is used: it belongs to a plan, not to a prompt.
    pub fn imported_digest(task: &str, plan: &Digest) -> Digest {
        Digest::of(format!("imported\0{task}\0{plan}").as_bytes())
    }

    /// The imported answer of a task to a plan, if it was not used yet.
    pub fn find_imported(&self, task: &str, plan: &Digest) -> Result<Option<KeptCall>, FsError> {
        let found = self.find_named(task, &Calls::imported_digest(task, plan))?;
        Ok(found.filter(|kept| kept.record.imported.is_some()))
    }

    /// Makes an imported answer that of the prompt it is used for, so that it is found, set aside and cleaned up like any
    /// other. Returns its new name.
    pub fn assign(&self, imported: &KeptCall, digest: &Digest) -> Result<String, FsError> {
        if imported.record.digest == *digest {
            return Ok(imported.name.clone());
        }
        let name = self.keep(&CallRecord { digest: digest.clone(), ..imported.record.clone() })?;
        fs::remove(&self.dir.join(&imported.name))?;
        Ok(name)
    }

    /// Notes what became of an answer, synced, and returns its name, which changes if it was rejected, in a build that was
    /// killed then perhaps. An answer that is gone is no error.
    pub fn mark(&self, name: &str, verdict: AnswerState) -> Result<String, FsError> {
        let mut name = name.to_owned();
        let Some(mut record) = self.read(&name)? else {
            let renamed = match verdict {
                AnswerState::Rejected => self.last_rejected(&name)?,
                AnswerState::Arrived | AnswerState::Accepted => None,
            };
            return Ok(renamed.unwrap_or(name));
        };
        if verdict == AnswerState::Rejected
            && let Some((folder, file)) = name.split_once('/')
            && is_usable_name(file)
        {
            // The new name first: from then on it is not found, whatever happens.
            let dir = self.dir.join(folder);
            let rejected = self.free_name(&dir, &file_stem(&record.digest), "rejected")?;
            fs::rename(&dir.join(file), &dir.join(&rejected), Durability::Synced)?;
            name = format!("{folder}/{rejected}");
        }
        if record.verdict != verdict {
            record.verdict = verdict;
            let (path, bytes) = (self.dir.join(&name), to_json(&record));
            self.by_temp_dir(|temp_dir| fs::write_via(temp_dir, &path, &bytes, Durability::Synced))?;
        }
        Ok(name)
    }

    /// Makes an answer that gave way to a later one the one that is found again, accepted and synced, and returns its name;
    /// the later one is rejected. Of one that has its place back already, only that it is accepted is noted.
    pub fn reinstate(&self, name: &str) -> Result<String, FsError> {
        let Some((folder, stem)) = name.split_once('/').and_then(|(folder, file)| {
            Some((folder, file.split_once('.').filter(|_| is_call_name(name))?.0))
        }) else {
            return Ok(name.to_owned());
        };
        let place = format!("{folder}/{stem}.json");
        if name != place && self.read(name)?.is_some() {
            self.mark(&place, AnswerState::Rejected)?;
            fs::rename(&self.dir.join(name), &self.dir.join(&place), Durability::Synced)?;
        }
        self.mark(&place, AnswerState::Accepted)
    }

    /// Sets a task's kept answers aside, so that the next ask is a fresh draw; returns how many.
    pub fn discard(&self, task: &str) -> Result<usize, FsError> {
        let dir = self.dir.join(task_dir_name(task));
        let mut discarded = 0;
        for (file, kind) in fs::list_dir(&dir)? {
            let Some(file) = file.to_str() else { continue };
            if kind == FileKind::File && is_usable_name(file) {
                let spent = self.free_name(&dir, file.trim_end_matches(".json"), "spent")?;
                fs::rename(&dir.join(file), &dir.join(spent), Durability::Unsynced)?;
                discarded += 1;
            }
        }
        if discarded > 0 {
            fs::sync_dir(&dir)?;
        }
        Ok(discarded)
    }

    /// All calls of a task that can be read, oldest first.
    pub fn list(&self, task: &str) -> Result<Vec<KeptCall>, FsError> {
        let mut calls = self.list_folder(&task_dir_name(task))?;
        calls.retain(|call| call.record.task == task);
        Ok(calls)
    }

    /// Shows all calls of the run that can be read, by task folder, then by time: those of one task are held at once.
    pub fn for_each(&self, mut visit: impl FnMut(KeptCall)) -> Result<(), FsError> {
        for (folder, kind) in fs::list_dir(&self.dir)? {
            if kind == FileKind::Dir
                && let Some(folder) = folder.to_str()
            {
                self.list_folder(folder)?.into_iter().for_each(&mut visit);
            }
        }
        Ok(())
    }

    fn list_folder(&self, folder: &str) -> Result<Vec<KeptCall>, FsError> {
        let mut calls = Vec::new();
        for (file, kind) in fs::list_dir(&self.dir.join(folder))? {
            let Some(file) = file.to_str() else { continue };
            if kind != FileKind::File {
                continue;
            }
            let name = format!("{folder}/{file}");
            if let Some(mut record) = self.read(&name)? {
                if file.contains(".rejected-") {
                    record.verdict = AnswerState::Rejected;
                }
                let usable =
                    is_usable_name(file) && record.reply.is_some() && record.verdict != AnswerState::Rejected;
                calls.push(KeptCall { name, usable, record });
            }
        }
        calls.sort_by(|a, b| (&a.record.started_utc, &a.name).cmp(&(&b.record.started_utc, &b.name)));
        Ok(calls)
    }

    /// The rejected answer that had this name last.
    fn last_rejected(&self, name: &str) -> Result<Option<String>, FsError> {
        let Some((folder, file)) = name.split_once('/').filter(|(_, file)| is_usable_name(file)) else {
            return Ok(None);
        };
        let stem = file.trim_end_matches(".json");
        let last = self.last_number(&self.dir.join(folder), &format!("{stem}.rejected-"))?;
        Ok((last > 0).then(|| format!("{folder}/{stem}.rejected-{last}.json")))
    }

    /// The first name of a kind that is free. Calls of one task are kept by one thread at a time.
    fn free_name(&self, dir: &Path, digest: &str, kind: &str) -> Result<String, FsError> {
        let prefix = format!("{digest}.{kind}-");
        Ok(format!("{prefix}{}.json", self.last_number(dir, &prefix)? + 1))
    }

    fn last_number(&self, dir: &Path, prefix: &str) -> Result<u64, FsError> {
        let mut last = 0;
        for (file, _) in fs::list_dir(dir)? {
            let n = file
                .to_str()
                .and_then(|file| file.strip_prefix(prefix)?.strip_suffix(".json")?.parse::<u64>().ok());
            last = last.max(n.unwrap_or(0));
        }
        Ok(last)
    }
}

/// A digest as a file name; whatever is not a digest is hashed.
fn file_stem(digest: &Digest) -> String {
    if digest.0.len() == 64 && digest.0.bytes().all(|b| b.is_ascii_hexdigit()) {
        digest.0.clone()
    } else {
        Digest::of(digest.0.as_bytes()).0
    }
}

fn is_usable_name(file: &str) -> bool {
    file.strip_suffix(".json")
        .is_some_and(|stem| stem.len() == 64 && stem.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_call_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0']);
    name.split_once('/').is_some_and(|(folder, file)| part(folder) && part(file) && file.ends_with(".json"))
}

#[cfg(test)]
mod tests;
