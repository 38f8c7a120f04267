//! What a task made and its evaluator has not passed yet: `.planexe/partial/TASK/`, files beside a record of them.
//!
//! The record is written last, beside files that have other names than those of the record before, so that it never
//! speaks of files of another attempt. What was judged and found wanting stays, marked as spent, until what the next
//! attempt has made is kept: its text goes with the notes, and a person may take it as it is.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::commit::Content;
use super::seal::{Seal, What};
use super::sidecar::to_json;
use super::{Store, task_dir_name};
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::Evaluation;
use planexe_base::record::{By, Digest, Failure, InputRecord, MadeWith, SCHEMA};
use planexe_engine::graph::Task;

/// What the mark of a record says it is.
const CANDIDATE: What<'static> = What::Record("candidate");

/// What an attempt made, before anybody said whether it will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Version of the format.
    pub schema: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// Digest of what it was made from, the evaluation left out.
    pub made_from: Digest,
    /// The attempt that made it.
    pub attempt: u32,
    /// The round, from 1; 0 for outputs that were there already.
    pub round: u32,
    /// The outputs, in order.
    pub outputs: Vec<CandidateFile>,
    /// The model and parameters that made it.
    #[serde(default)]
    pub made_with: Option<MadeWith>,
    /// The kept call it came from.
    #[serde(default)]
    pub call: Option<String>,
    /// A recorded answer to another prompt.
    #[serde(default)]
    pub sample: bool,
    /// A kept answer was used.
    #[serde(default)]
    pub reused: bool,
    /// Who said so before, of outputs that were there already.
    #[serde(default)]
    pub by: Option<By>,
    /// How the command that made it failed, if it did.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// It was found wanting, or set aside.
    #[serde(default)]
    pub spent: bool,
    /// Of one that passed, and is kept while later rounds try to do better: its evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Evaluation>,
    /// Of the best round of an isolated task: the commit it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The rounds are over, and the best is what the task has made; its worktree is about to be taken back to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken: bool,
    /// Who accepted it by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_user: Option<String>,
    /// Of an isolated task that succeeded: what is to be merged before it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Success>,
}

/// An isolated task that succeeded, and is done once its commits are merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Success {
    /// The lane it belongs to, which is merged as a whole.
    pub lane: String,
    /// The branch its commits go to.
    pub base: String,
    /// The branch they are on.
    pub branch: String,
    /// The last of them.
    pub commit: String,
    /// The checkpoint of its completion.
    pub checkpoint_id: String,
    /// What it was decided on.
    pub decision_id: String,
    /// What it was made from, part by part.
    pub parts: IndexMap<String, Digest>,
    /// The files it was given.
    pub inputs: Vec<InputRecord>,
}

/// An output of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateFile {
    /// The output's path, relative to the run directory.
    pub path: String,
    /// The file beside the record; none for one that was written in its place.
    pub file: Option<String>,
    /// Digest of its content.
    pub blake3: Digest,
    /// Of one in its place: what it held before.
    #[serde(default)]
    pub former: Option<Digest>,
}

impl Candidate {
    /// The outputs of a task as they are, as if they had been made in its first round; none if one is missing.
    pub fn of_outputs(store: &Store, task: &Task) -> Result<Option<Candidate>, FsError> {
        let file = |path: &String| CandidateFile {
            path: path.clone(),
            file: None,
            blake3: Digest::default(),
            former: None,
        };
        let mut candidate = Candidate {
            schema: SCHEMA,
            task: task.name.clone(),
            made_from: Digest::default(),
            attempt: 1,
            round: 1,
            outputs: task.outputs.iter().map(file).collect(),
            made_with: None,
            call: None,
            sample: false,
            reused: false,
            by: None,
            failure: None,
            spent: false,
            best: None,
            commit: None,
            taken: false,
            by_user: None,
            success: None,
        };
        Ok(store.look_again(&mut candidate)?.then_some(candidate))
    }

    /// Digest of what the outputs hold.
    pub fn content(&self) -> Digest {
        let all: Vec<&str> = self.outputs.iter().map(|output| output.blake3.0.as_str()).collect();
        Digest::of(all.join("\n").as_bytes())
    }

    /// How it is committed: copies, so that it is there until the record is.
    pub fn contents(&self, store: &Store) -> Result<Vec<(String, Content)>, FsError> {
        let content = |output: &CandidateFile| {
            Ok(match output.file {
                None => Content::InPlace { former: output.former.clone() },
                Some(_) => {
                    let target = store.path(&output.path);
                    fs::make_dirs_inside(store.run_dir(), &target, Durability::Synced)?;
                    let from = store.candidate_file(self, output);
                    let temp = match self.made_with {
                        Some(_) => fs::copy_beside(&from, &target, Durability::Synced)?,
                        // What a program wrote keeps its permissions.
                        None => {
                            let folder = target.parent().unwrap_or(store.run_dir());
                            fs::copy_to_temp(&from, folder, Durability::Synced)?
                        }
                    };
                    Content::Temp(temp)
                }
            })
        };
        self.outputs.iter().map(|output| Ok((output.path.clone(), content(output)?))).collect()
    }
}

const RECORD: &str = "candidate.json";
/// A record is small; whatever is larger is none.
const CAP: u64 = 16 << 20;

impl Store {
    fn candidate_dir(&self, task: &str) -> PathBuf {
        self.partial_dir().join(task_dir_name(task))
    }

    /// Where the best round so far is kept: no task's own folder has that name.
    fn best_dir(&self, task: &str) -> PathBuf {
        self.partial_dir().join(format!("{}.best", task_dir_name(task)))
    }

    fn dir_of(&self, candidate: &Candidate) -> PathBuf {
        match candidate.best {
            Some(_) => self.best_dir(&candidate.task),
            None => self.candidate_dir(&candidate.task),
        }
    }

    /// Where an output of a candidate is.
    pub fn candidate_file(&self, candidate: &Candidate, output: &CandidateFile) -> PathBuf {
        match &output.file {
            Some(file) => self.dir_of(candidate).join(file),
            None => self.path(&output.path),
        }
    }

    /// Keeps what an attempt made, synced, with the digests of it. The caller's temporary files are taken.
    pub fn keep_candidate(
        &self,
        candidate: &mut Candidate,
        contents: Vec<(String, Content)>,
    ) -> Result<(), FsError> {
        let dir = self.dir_of(candidate);
        fs::ensure_inside(self.run_dir(), &dir.join(RECORD))?;
        // Until the record is replaced, the one before and its files stay.
        let former: Vec<PathBuf> = fs::list_dir(&dir)?.into_iter().map(|(name, _)| dir.join(name)).collect();
        fs::make_dirs(&dir, Durability::Synced)?;
        let temps = self.planexe_subdir("tmp")?;
        candidate.outputs.clear();
        for (n, (path, content)) in contents.into_iter().enumerate() {
            // By number: nothing of the path but its ending, which tells what it holds.
            let ending = Path::new(&path).extension().and_then(|ending| ending.to_str());
            let ending = ending.map_or(String::new(), |ending| format!(".{ending}"));
            let names = (0..).map(|more: u32| match more {
                0 => format!("{n}{ending}"),
                more => format!("{n}-{more}{ending}"),
            });
            let mut free = names.filter(|name| !former.contains(&dir.join(name)));
            let file = free.next().unwrap_or_default();
            let to = dir.join(&file);
            let (file, former) = match content {
                Content::Bytes(bytes) => {
                    fs::write_via(&temps, &to, &bytes, Durability::Synced)?;
                    (Some(file), None)
                }
                Content::Temp(temp) => {
                    fs::sync_file(&temp)?;
                    match fs::rename(&temp, &to, Durability::Synced) {
                        Ok(()) => {}
                        // The output lies there.
                        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                            let copy = fs::copy_to_temp(&temp, &temps, Durability::Synced)?;
                            fs::rename(&copy, &to, Durability::Synced)?;
                            fs::remove(&temp)?;
                        }
                        // It may be renamed by now, and only its folder not synced.
                        Err(error) => return Err(error),
                    }
                    (Some(file), None)
                }
                Content::InPlace { former } => {
                    fs::require_plain(&self.path(&path), &self.path(&path))?;
                    fs::sync_file(&self.path(&path))?;
                    (None, former)
                }
            };
            let from = if file.is_some() { to } else { self.path(&path) };
            let (blake3, _) = fs::hash_file(&from)?;
            candidate.outputs.push(CandidateFile { path, file, blake3, former });
        }
        self.write_candidate(candidate)?;
        for path in former.iter().filter(|path| path.file_name() != Some(RECORD.as_ref())) {
            fs::remove(path)?;
        }
        Ok(())
    }

    /// Writes the record of a candidate whose files are there.
    pub fn write_candidate(&self, candidate: &Candidate) -> Result<(), FsError> {
        let temps = self.planexe_subdir("tmp")?;
        let path = self.dir_of(candidate).join(RECORD);
        let seal = Seal::to_mark_at_least_for_now(self.run_dir(), CANDIDATE);
        let bytes = seal.map_or_else(|| to_json(candidate), |seal| seal.sealed(candidate));
        fs::write_via(&temps, &path, &bytes, Durability::Synced)
    }

    /// A task's candidate with its contents as they are now: a person may have changed them. None if a file is gone.
    pub fn candidate(&self, task: &str) -> Result<Option<Candidate>, FsError> {
        let read = self.read_candidate(task, &self.candidate_dir(task))?;
        Ok(read.filter(|candidate| candidate.best.is_none()))
    }

    /// The best round so far of a task whose rounds are not over.
    pub fn best(&self, task: &str) -> Result<Option<Candidate>, FsError> {
        let read = self.read_candidate(task, &self.best_dir(task))?;
        Ok(read.filter(|candidate| candidate.best.is_some()))
    }

    /// None if there is none, or a damaged one. What the disk cannot read is an error: it was paid for, and may be read
    /// another time.
    fn read_candidate(&self, task: &str, dir: &Path) -> Result<Option<Candidate>, FsError> {
        let Some(bytes) = fs::if_content(fs::read_capped(&dir.join(RECORD), CAP))? else { return Ok(None) };
        let Some(mut candidate) = self.believed(task, &bytes) else { return Ok(None) };
        Ok(self.look_again(&mut candidate)?.then_some(candidate))
    }

    /// The candidate that a record names, if it may be.
    fn believed(&self, task: &str, bytes: &[u8]) -> Option<Candidate> {
        let mut candidate: Candidate = serde_json::from_slice(bytes).ok()?;
        // What is to be merged is merged into the user's branch, and the best round is taken as it is, so he must have made
        // it. Any other candidate is content, and is judged before it counts.
        if candidate.success.is_some() || candidate.best.is_some() {
            candidate = Seal::to_mark_at_least_for_now(self.run_dir(), CANDIDATE)?.unsealed(bytes)?;
        }
        let plain = |output: &CandidateFile| {
            // Names come from a file: none may lead out of the folder.
            output.file.as_deref().is_none_or(|file| !file.contains('/') && !file.starts_with('.'))
        };
        if candidate.schema > SCHEMA || candidate.task != task || !candidate.outputs.iter().all(plain) {
            return None;
        }
        Some(candidate)
    }

    /// The candidate of an isolated task that succeeded and is to be merged.
    pub fn to_be_merged(&self, task: &str) -> Result<Option<Candidate>, FsError> {
        // Most have none, and no file is read for that.
        if fs::kind(&self.candidate_dir(task).join(RECORD))?.is_none() {
            return Ok(None);
        }
        Ok(self.candidate(task)?.filter(|candidate| candidate.success.is_some() && !candidate.spent))
    }

    /// All candidates of isolated tasks that succeeded and are not merged yet.
    pub fn unmerged(&self) -> Result<Vec<Candidate>, FsError> {
        let folders = fs::if_content(fs::list_dir(&self.partial_dir()))?.unwrap_or_default();
        let mut all: Vec<Candidate> = Vec::new();
        for (name, _) in folders.iter().filter(|(_, kind)| *kind == FileKind::Dir) {
            let record = self.partial_dir().join(name).join(RECORD);
            let read = fs::if_content(fs::read_capped(&record, CAP));
            let bytes = read.map_err(|error| error.within(self.run_dir()))?.unwrap_or_default();
            if let Ok(candidate) = serde_json::from_slice::<Candidate>(&bytes) {
                all.extend(self.to_be_merged(&candidate.task)?);
            }
        }
        all.sort_by(|one, other| one.task.cmp(&other.task));
        // The best round of a task has a folder beside that of its last.
        all.dedup_by(|one, other| one.task == other.task);
        Ok(all)
    }

    /// Reads a candidate's contents again; false if one is no file any more.
    pub fn look_again(&self, candidate: &mut Candidate) -> Result<bool, FsError> {
        for n in 0..candidate.outputs.len() {
            let path = self.candidate_file(candidate, &candidate.outputs[n]);
            if fs::kind(&path)? != Some(FileKind::File) {
                return Ok(false);
            }
            candidate.outputs[n].blake3 = fs::hash_file(&path)?.0;
        }
        Ok(true)
    }

    /// A task's candidate is not to be judged again.
    pub fn spend_candidate(&self, task: &str) -> Result<(), FsError> {
        match self.candidate(task)? {
            Some(candidate) if !candidate.spent => {
                self.write_candidate(&Candidate { spent: true, ..candidate })
            }
            Some(_) => Ok(()),
            // What was the best round stays that.
            None => self.remove_record(&self.candidate_dir(task)),
        }
    }

    /// A task's candidates are done with.
    pub fn remove_candidate(&self, task: &str) -> Result<(), FsError> {
        // The best round last: without it a later and worse one would be taken where a kill leaves that.
        self.remove_record(&self.candidate_dir(task))?;
        self.remove_best(task)
    }

    /// What was the best round is not any more.
    pub fn remove_best(&self, task: &str) -> Result<(), FsError> {
        self.remove_record(&self.best_dir(task))
    }

    fn remove_record(&self, dir: &Path) -> Result<(), FsError> {
        if fs::remove_durably(&dir.join(RECORD), Durability::Synced)? || fs::kind(dir)?.is_some() {
            fs::remove_tree(dir)?;
        }
        Ok(())
    }

    /// A person wants nothing of a task's candidates. Of an isolated one the work is on its branch, which is put by when
    /// the task begins anew.
    pub fn discard_candidates(&self, task: &str) -> Result<(), FsError> {
        self.remove_candidate(task)
    }

    /// The files of a task's candidates, relative to the run directory.
    pub fn candidate_files(&self, task: &str) -> Result<Vec<String>, FsError> {
        let mut files = Vec::new();
        for dir in [self.candidate_dir(task), self.best_dir(task)] {
            for (name, kind) in fs::list_dir(&dir)? {
                let path = dir.join(name);
                if kind == FileKind::File && path.file_name() != Some(RECORD.as_ref()) {
                    files.push(
                        path.strip_prefix(self.run_dir()).unwrap_or(&path).to_string_lossy().into_owned(),
                    );
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Keeps a copy of a candidate that passed, as the best round so far, while further rounds follow. `commit`: of an
    /// isolated task, what it ended with.
    pub fn keep_best(
        &self,
        candidate: &Candidate,
        evaluation: &Evaluation,
        commit: Option<String>,
    ) -> Result<(), FsError> {
        self.remove_best(&candidate.task)?;
        let temps = self.planexe_subdir("tmp")?;
        let mut contents = Vec::new();
        for output in &candidate.outputs {
            let from = self.candidate_file(candidate, output);
            contents.push((
                output.path.clone(),
                Content::Temp(fs::copy_to_temp(&from, &temps, Durability::Synced)?),
            ));
        }
        let mut best = Candidate { best: Some(evaluation.clone()), commit, ..candidate.clone() };
        self.keep_candidate(&mut best, contents)
    }

    /// Whether a file in `.planexe/partial/` belongs to a candidate of one of some tasks.
    pub(super) fn is_of_candidate(&self, path: &Path, of: impl Fn(&str) -> bool) -> bool {
        let record = path.parent().filter(|dir| *dir != self.partial_dir()).map(|dir| dir.join(RECORD));
        let bytes = record.and_then(|record| fs::read_capped(&record, CAP).ok()).unwrap_or_default();
        serde_json::from_slice::<Candidate>(&bytes).is_ok_and(|candidate| of(&candidate.task))
    }

    /// Writes an evaluator's notes where a command can read them; the file.
    pub fn write_notes(&self, task: &str, notes: &str) -> Result<PathBuf, FsError> {
        let dir = self.planexe_subdir("notes")?;
        let path = dir.join(format!("{}.md", task_dir_name(task)));
        fs::write_via(&self.planexe_subdir("tmp")?, &path, notes.as_bytes(), Durability::Unsynced)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::store;

    /// A candidate without outputs, with some more fields.
    fn candidate(more: &Value) -> Candidate {
        let mut fields = json!({ "schema": SCHEMA, "task": "fix", "made_from": Digest::default(), "attempt": 1, "round": 1, "outputs": [] });
        let more = more.as_object().expect("fields").clone();
        fields.as_object_mut().expect("fields").extend(more);
        serde_json::from_value(fields).expect("a candidate")
    }

    /// What is merged into the user's branch, or taken as it is, he must have made here. All else is judged first.
    #[test]
    fn what_is_not_judged_any_more_is_believed_where_it_was_written() {
        let success = json!({ "success": {
            "lane": "fix", "base": "main", "branch": "planexe/run/fix", "commit": "c", "checkpoint_id": "i", "decision_id": "d",
            "parts": {}, "inputs": []
        } });
        let best = json!({ "best": { "score": 0.9 } });
        for (more, is_content) in [(success, false), (best, false), (json!({}), true)] {
            let one = candidate(&more);
            let ((_dir, here), (_copy, there)) = (store(), store());
            let read = |store: &Store| match one.best {
                Some(_) => store.best("fix").unwrap(),
                None => store.candidate("fix").unwrap(),
            };
            for store in [&here, &there] {
                fs::make_dirs(&store.dir_of(&one), Durability::Unsynced).unwrap();
            }
            here.write_candidate(&one).unwrap();
            assert_eq!(read(&here).as_ref(), Some(&one));
            let record = |store: &Store| store.dir_of(&one).join(RECORD);
            for bytes in [fs::read(&record(&here)).unwrap(), to_json(&one)] {
                fs::write_atomic(&record(&there), &bytes, Durability::Unsynced).unwrap();
                assert_eq!(read(&there).is_some(), is_content, "{more}");
            }
        }
    }
}
