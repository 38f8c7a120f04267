//! How a finished attempt becomes a finished task, in the one order that a kill or a power cut at any
//! point leaves something sound of (section 8 of the design).
//!
//! 1. outputs under temporary names beside their targets, synced
//! 2. old contents into history
//! 3. `.DONE` removed
//! 4. outputs renamed, directories synced; a copy into history, so that an edit in place loses nothing
//! 5. checkpoint, synced
//! 6. `.DONE`
//! 7. `.status`
//!
//! All of it is synced, one by one, where something was paid for. Where nothing was, files are synced
//! together, later: [`super::batch`] keeps what a power cut left of them from being taken for an edit.
//!
//! Before 3 nothing has changed. Between 3 and 6 the task is not done and its answer is kept: the next
//! build repeats this without a call. `.DONE` is on disk before `.status` says done, since the reverse
//! would look as if a person had removed `.DONE`.

use std::path::{Path, PathBuf};

use super::checkpoints::{Checkpoint, WithDone};
use super::temps::Temps;
use super::{Sidecar, Store, Why};
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::{Digest, Done, OutputRecord, Status};

/// Outputs up to this size are read once, for their digest and for history.
const SHORT: u64 = 1 << 20;

/// What an output is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What a finished temporary file holds, on the same file system; it is renamed, or removed if
    /// the output holds the same already. After an error it is still the caller's.
    Temp(PathBuf),
    /// What it holds already: it was written in place. What it held before is the caller's to put into
    /// history and to remember.
    InPlace {
        /// The content before the attempt.
        former: Option<Digest>,
    },
}

/// What a finished attempt hands over to become a done task.
#[derive(Debug)]
pub struct Commit {
    /// `task` or `task[key]`.
    pub task: String,
    /// The outputs by their names relative to the run directory, the first one first.
    pub outputs: Vec<(String, Content)>,
    /// The new `.DONE`; `outputs` and `checkpoint_id` are filled in.
    pub done: Done,
    /// The new `.status`; `outputs` and `checkpoint_id` are filled in.
    pub status: Status,
    /// The checkpoint of this completion, made from the outputs' records.
    pub checkpoint: Option<CheckpointOf>,
    /// Whether each file is synced before the next is written; unsynced, they are synced together, later.
    pub durability: Durability,
    /// Its `.status` says since the attempt began that it runs; here it is synced, unless it was before.
    pub announced: bool,
    /// Why old contents go to history.
    pub why: Why,
}

/// What a checkpoint says beyond the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOf {
    /// The task's topological position.
    pub step: u32,
    /// Digest of what the attempt was decided on.
    pub decision_id: String,
    /// Digest of the pipeline.
    pub pipeline_hash: String,
    /// What stands for the outputs: a git commit; without one a digest over them.
    pub sandbox_ref: Option<String>,
    /// Its name, where something speaks of it already; without one a digest of all it says.
    pub id: Option<String>,
}

/// What was written when the task became done.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Whether any output's bytes are other than before.
    pub changed: bool,
    /// The `.DONE` as written.
    pub done: Done,
    /// Digest of its bytes.
    pub marker: Digest,
    /// The `.status` as written.
    pub status: Status,
    /// The checkpoint as written, but for the `.DONE` in it.
    pub checkpoint: Option<Checkpoint>,
}

/// Commits a finished attempt. On an error the task is not done, and temporary files are gone again
/// except those the caller gave. An output whose bytes are what they were keeps its file, mtime and all.
pub fn commit(store: &Store, commit: Commit) -> Result<Committed, FsError> {
    let run_dir = store.run_dir();
    commit_inner(store, commit).map_err(|error| error.within(run_dir))
}

fn commit_inner(store: &Store, commit: Commit) -> Result<Committed, FsError> {
    let Commit { task, outputs, mut done, mut status, checkpoint, durability, announced, why } = commit;
    let targets: Vec<PathBuf> = outputs.iter().map(|(output, _)| store.path(output)).collect();
    let mut folders: Vec<&Path> = targets.iter().filter_map(|target| target.parent()).collect();
    folders.dedup();
    for target in &targets {
        fs::make_dirs_inside(store.run_dir(), target, Durability::Synced)?;
    }
    let durability = match durability {
        Durability::Unsynced if store.batch().begin(&folders)? => Durability::Unsynced,
        _ => Durability::Synced,
    };
    let mut staged = Staged::default();
    for ((output, content), target) in outputs.iter().zip(&targets) {
        staged.add(output, content, target)?;
    }
    let first = outputs.first().map(|(output, _)| output.clone()).unwrap_or_default();
    if durability == Durability::Synced {
        let status = store.sidecar_path(&first, Sidecar::Status);
        let announced: &[&Path] = if announced { &[&status] } else { &[] };
        fs::sync_temps(&staged.renames, announced)?;
    }
    if staged.changed && staged.replaces && !staged.renames.is_empty() {
        let names: Vec<String> = outputs.iter().map(|(output, _)| output.clone()).collect();
        let replacing = |output: &str| staged.renames.iter().any(|(_, to)| *to == store.path(output));
        store.save_with(&task, why, &names, replacing, durability)?;
    }
    match durability {
        Durability::Synced if announced => drop(store.remove_done(&first, durability)?),
        Durability::Synced => store.invalidate(&task, &first, durability)?,
        // Made again for nothing if it comes to that: no need to say that no person removed it.
        Durability::Unsynced => drop(store.remove_done(&first, durability)?),
    }
    fs::give_names(&staged.renames, durability)?;
    staged.temps.0.clear();
    for (((_, content), target), (record, read)) in
        outputs.iter().zip(&targets).zip(staged.records.iter().zip(&staged.contents))
    {
        let content = match content {
            Content::Bytes(bytes) => Some(bytes.as_slice()),
            Content::Temp(_) | Content::InPlace { .. } => read.as_deref(),
        };
        store.history().put_output(target, content, record)?;
    }
    let Staged { changed, records, left_over, contents, .. } = staged;
    drop(contents);
    for temp in left_over {
        fs::remove(&temp)?;
    }

    let checkpoint = checkpoint.map(|of| {
        Checkpoint::new(
            of.step,
            &task,
            status.last.attempt,
            &of.decision_id,
            of.sandbox_ref.as_deref(),
            of.id.as_deref(),
            &of.pipeline_hash,
            &done.completed_utc,
            records.clone(),
        )
    });
    done.outputs = records.clone();
    status.result.outputs = records;
    if let Some(checkpoint) = &checkpoint {
        done.checkpoint_id = Some(checkpoint.id.clone());
        status.last.checkpoint_id = Some(checkpoint.id.clone());
        store.checkpoints().append(&WithDone { checkpoint, done: &done }, durability)?;
    }
    // Its folder was looked at above, and the old marker is gone.
    let marker = store.write_records(&first, &done, &status, durability)?;
    Ok(Committed { changed, done, marker, status, checkpoint })
}

/// Outputs that are ready to get their names.
#[derive(Default)]
struct Staged {
    /// What each holds.
    records: Vec<OutputRecord>,
    /// The bytes of short ones, read once.
    contents: Vec<Option<Vec<u8>>>,
    /// Temporary names, and those they get.
    renames: Vec<(PathBuf, PathBuf)>,
    /// Temporary files written here: removed unless they get their names.
    temps: Temps,
    /// The caller's temporary files that get no name, since nothing changed: removed only once all went well.
    left_over: Vec<PathBuf>,
    /// Whether any output's bytes are other than before.
    changed: bool,
    /// Whether anything is there that is replaced.
    replaces: bool,
}

impl Staged {
    fn add(&mut self, output: &str, content: &Content, target: &Path) -> Result<(), FsError> {
        let (blake3, bytes, mode, read) = look(content, target)?;
        let old = fs::kind_and_signature(target)?;
        self.replaces |= old.is_some();
        let old = old.filter(|(kind, _)| *kind == FileKind::File).map(|(_, signature)| signature);
        let same = match old {
            Some(old) if old.size == bytes => fs::hash_file(target)?.0 == blake3,
            _ => false,
        };
        match content {
            Content::InPlace { former } => self.changed |= former.as_ref() != Some(&blake3),
            Content::Bytes(_) if same => {}
            Content::Bytes(content) => {
                self.changed = true;
                let mode = old.map(|old| old.mode & 0o777);
                let temp = fs::write_beside_as(target, content, mode, Durability::Unsynced)?;
                self.temps.0.push((temp.clone(), target.to_owned()));
                self.renames.push((temp, target.to_owned()));
            }
            Content::Temp(temp) => {
                self.changed |= !same;
                if !same || mode != old.map(|old| old.mode) {
                    self.renames.push((temp.clone(), target.to_owned()));
                } else {
                    self.left_over.push(temp.clone());
                }
            }
        }
        self.records.push(OutputRecord { path: output.to_owned(), bytes, blake3 });
        self.contents.push(read);
        Ok(())
    }
}

/// Digest and length of a content; of a temporary file also its mode, and its bytes if it is short.
type Looked = (Digest, u64, Option<u32>, Option<Vec<u8>>);

fn look(content: &Content, target: &Path) -> Result<Looked, FsError> {
    Ok(match content {
        Content::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64, None, None),
        // A link or a directory under the temporary name is no output, wherever it leads.
        Content::Temp(temp) => {
            let read =
                fs::read_whole(temp, SHORT).map_err(|error| FsError::new(target, "write", error.source))?;
            (read.digest, read.bytes, Some(read.mode), read.content)
        }
        Content::InPlace { .. } => {
            fs::require_plain(target, target)?;
            fs::sync_file(target)?;
            let (blake3, bytes) = fs::hash_file(target)?;
            (blake3, bytes, None, None)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StatusRead;
    use crate::fixtures::{done, store, text, write};
    use planexe_base::fs::fault;
    use planexe_base::record::{LastAttempt, Marker, State};

    fn attempt(outputs: &[(&str, Content)], fingerprint: &str) -> Commit {
        Commit {
            task: "swot".into(),
            outputs: outputs.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect(),
            done: Done { fingerprint: Digest::of(fingerprint.as_bytes()), ..done() },
            status: Status {
                last: LastAttempt { attempt: 1, ..LastAttempt::default() },
                ..Status::new("swot", State::Done)
            },
            checkpoint: Some(CheckpointOf {
                step: 3,
                decision_id: "d".into(),
                pipeline_hash: "p".into(),
                sandbox_ref: None,
                id: None,
            }),
            durability: Durability::Synced,
            announced: false,
            why: Why::Replaced,
        }
    }

    fn bytes(text: &str) -> Content {
        Content::Bytes(text.as_bytes().to_vec())
    }

    fn both(json: &str, md: &str) -> Commit {
        attempt(&[("swot.json", bytes(json)), ("sub/swot.md", bytes(md))], json)
    }

    fn ino(store: &Store, name: &str) -> u64 {
        fs::signature(&store.path(name)).unwrap().unwrap().ino
    }

    #[test]
    fn a_first_commit_writes_everything_and_saves_nothing() {
        let (_dir, store) = store();
        let committed = commit(&store, both("one", "md")).unwrap();
        assert!(committed.changed);
        assert_eq!(text(&store, "swot.json").as_deref(), Some("one"));
        assert_eq!(text(&store, "sub/swot.md").as_deref(), Some("md"));
        let Marker::Valid(done) = store.read_done("swot.json") else { panic!() };
        assert_eq!(*done, committed.done);
        assert_eq!(done.outputs[1].blake3, Digest::of(b"md"));
        let StatusRead::Valid(status) = store.read_status("swot.json") else { panic!() };
        assert_eq!((status.state, status.result.outputs.len()), (State::Done, 2));
        let checkpoint = store.checkpoints().last().unwrap().unwrap();
        assert_eq!(Some(&checkpoint.id), done.checkpoint_id.as_ref());
        assert_eq!(Some(checkpoint.id), status.last.checkpoint_id);
        assert!(store.history().entries_all().unwrap().is_empty());
    }

    #[test]
    fn same_bytes_keep_their_file() {
        let (_dir, store) = store();
        commit(&store, both("one", "md")).unwrap();
        let (json, md) = (ino(&store, "swot.json"), ino(&store, "sub/swot.md"));
        let temp = fs::temp_beside(&store.path("sub/swot.md"));
        fs::write_atomic(&temp, b"md", Durability::Unsynced).unwrap();
        let again =
            attempt(&[("swot.json", bytes("one")), ("sub/swot.md", Content::Temp(temp.clone()))], "other");
        let committed = commit(&store, again).unwrap();
        assert!(!committed.changed);
        assert_eq!((json, md), (ino(&store, "swot.json"), ino(&store, "sub/swot.md")));
        assert_eq!(fs::kind(&temp).unwrap(), None);
        assert!(store.history().entries_all().unwrap().is_empty());
        // One of two changes: only that one's file does, and history has both.
        let committed = commit(&store, both("one", "new")).unwrap();
        assert!(committed.changed);
        assert_eq!(json, ino(&store, "swot.json"));
        assert_ne!(md, ino(&store, "sub/swot.md"));
        assert_eq!(store.history().entries("swot").unwrap()[0].outputs.len(), 2);
    }

    #[test]
    fn a_script_that_became_executable_is_replaced_without_being_a_change() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, store) = store();
        commit(&store, both("one", "md")).unwrap();
        let temp = fs::temp_beside(&store.path("swot.json"));
        fs::write_atomic(&temp, b"one", Durability::Unsynced).unwrap();
        let file = std::fs::File::open(&temp).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        let committed = commit(&store, attempt(&[("swot.json", Content::Temp(temp))], "x")).unwrap();
        assert!(!committed.changed);
        assert_eq!(fs::signature(&store.path("swot.json")).unwrap().unwrap().mode & 0o777, 0o755);
    }

    #[test]
    fn outputs_written_in_place() {
        let (_dir, store) = store();
        write(&store, "swot.json", "one");
        for (former, changed) in
            [(None, true), (Some(Digest::of(b"one")), false), (Some(Digest::of(b"x")), true)]
        {
            let committed =
                commit(&store, attempt(&[("swot.json", Content::InPlace { former })], "x")).unwrap();
            assert_eq!(committed.changed, changed);
            assert_eq!(committed.done.outputs[0].blake3, Digest::of(b"one"));
        }
        let missing = attempt(&[("missing.json", Content::InPlace { former: None })], "x");
        assert!(commit(&store, missing).is_err());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "sets the trap")]
    fn nothing_is_written_through_a_link() {
        let (_dir, store) = store();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), store.path("sub")).unwrap();
        let error = commit(&store, both("one", "md")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write `sub/swot.md`: a folder on its path is a symbolic link, which is not followed"
        );
        assert!(fs::list_dir(outside.path()).unwrap().is_empty());
        assert_eq!(text(&store, "swot.json"), None);
        // A command's output that is a link is no output.
        std::fs::remove_file(store.path("sub")).unwrap();
        let temp = fs::temp_beside(&store.path("swot.json"));
        std::os::unix::fs::symlink("/etc/hostname", &temp).unwrap();
        assert!(commit(&store, attempt(&[("swot.json", Content::Temp(temp))], "x")).is_err());
        assert_eq!(text(&store, "swot.json"), None);
    }

    #[test]
    fn after_an_error_the_callers_temp_is_still_there() {
        let (_dir, store) = store();
        commit(&store, both("one", "md")).unwrap();
        let temp = fs::temp_beside(&store.path("swot.json"));
        fs::write_atomic(&temp, b"an hour's work", Durability::Unsynced).unwrap();
        let bad = attempt(&[("swot.json", Content::Temp(temp.clone())), ("../x", bytes("x"))], "x");
        assert!(commit(&store, bad).is_err());
        assert_eq!(fs::read(&temp).unwrap(), b"an hour's work");
        assert!(matches!(store.read_done("swot.json"), Marker::Valid(_)), "the old state is untouched");
    }

    /// What must be true of a run whatever happened to a commit: from "old" or from nothing to "new".
    fn check_invariants(store: &Store, old: Option<(&str, &str)>, at: &str) {
        let json = text(store, "swot.json");
        let md = text(store, "sub/swot.md");
        for (now, old, new) in [(&json, old.map(|o| o.0), "new json"), (&md, old.map(|o| o.1), "new md")] {
            assert!(now.as_deref() == old || now.as_deref() == Some(new), "{at}: {now:?}");
        }
        // Former contents can be had: here or in history.
        if let Some((old_json, old_md)) = old {
            for (now, old) in [(&json, old_json), (&md, old_md)] {
                let here = now.as_deref() == Some(old);
                assert!(here || store.history().has(&Digest::of(old.as_bytes())), "{at}: {old} lost");
            }
        }
        let marker = store.read_done("swot.json");
        let whole = |done: &Done| {
            done.outputs.iter().all(|output| {
                text(store, &output.path).is_some_and(|t| Digest::of(t.as_bytes()) == output.blake3)
            })
        };
        match &marker {
            Marker::Missing => {}
            Marker::Valid(done) => {
                assert!(whole(done), "{at}: a marker that does not hold");
                // Its checkpoint was recorded before it.
                let known = store.checkpoints().list().unwrap();
                assert!(known.iter().any(|c| Some(&c.id) == done.checkpoint_id.as_ref()), "{at}");
            }
            other => panic!("{at}: {other:?}"),
        }
        match store.read_status("swot.json") {
            StatusRead::Valid(status) if status.state == State::Done => {
                assert_ne!(marker, Marker::Missing, "{at}: looks as if a person had removed the marker");
            }
            StatusRead::Valid(_) | StatusRead::Missing => {}
            other => panic!("{at}: {other:?}"),
        }
    }

    #[test]
    fn a_kill_or_an_error_at_any_change_to_the_disk_leaves_a_sound_run() {
        for with_temp in [false, true] {
            for old in [None, Some(("old json", "old md"))] {
                for sticky in [true, false] {
                    let mut points = 0;
                    for after in 0.. {
                        let at = format!("temp {with_temp}, old {old:?}, sticky {sticky}, fault {after}");
                        let (_dir, store) = store();
                        if let Some((json, md)) = old {
                            commit(&store, both(json, md)).unwrap();
                        }
                        let temp = fs::temp_beside(&store.path("swot.json"));
                        let content = if with_temp {
                            fs::write_atomic(&temp, b"new json", Durability::Unsynced).unwrap();
                            Content::Temp(temp)
                        } else {
                            bytes("new json")
                        };
                        let new = attempt(&[("swot.json", content), ("sub/swot.md", bytes("new md"))], "new");
                        fault::arm(after, sticky);
                        let result = commit(&store, new);
                        let fired = fault::disarm();
                        if !fired {
                            result.unwrap();
                        } else if let Err(error) = &result {
                            assert!(error.is_out_of_space(), "{at}: {error}");
                        }
                        check_invariants(&store, old, &at);

                        // The next build: another process mends and sweeps, then repeats the commit.
                        let store = Store::open(store.run_dir());
                        store.mend_all().unwrap();
                        let committed = commit(&store, both("new json", "new md")).unwrap();
                        check_invariants(&store, old, &at);
                        assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(committed.done)));
                        assert_eq!(text(&store, "sub/swot.md").as_deref(), Some("new md"), "{at}");
                        if let Some((json, _)) = old {
                            store.restore("swot", Some(1)).unwrap();
                            assert_eq!(text(&store, "swot.json").as_deref(), Some(json), "{at}");
                        }
                        if !fired {
                            break;
                        }
                        points += 1;
                    }
                    assert!(points > 20, "{points}");
                }
            }
        }
    }

    #[test]
    fn a_kill_at_any_point_of_a_restore_loses_nothing() {
        for after in 0.. {
            let (_dir, store) = store();
            commit(&store, both("old json", "old md")).unwrap();
            commit(&store, both("new json", "new md")).unwrap();
            fault::arm(after, true);
            let result = store.restore("swot", None);
            let fired = fault::disarm();
            let at = format!("fault {after}");
            check_invariants(&store, Some(("old json", "old md")), &at);
            for content in ["new json", "new md"] {
                let here =
                    [text(&store, "swot.json"), text(&store, "sub/swot.md")].contains(&Some(content.into()));
                assert!(here || store.history().has(&Digest::of(content.as_bytes())), "{at}: {content} lost");
            }
            if !fired {
                result.unwrap();
                break;
            }
            let store = Store::open(store.run_dir());
            store.mend_all().unwrap();
            store.restore("swot", Some(1)).unwrap();
            check_invariants(&store, Some(("old json", "old md")), &at);
            assert_eq!(text(&store, "swot.json").as_deref(), Some("old json"));
            assert!(matches!(store.read_done("swot.json"), Marker::Valid(_)));
        }
    }
}
