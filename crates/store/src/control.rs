//! Controlling a running build by files under `.planexe/`: `stop`, `pause`, `abort`, and a file for each task that a
//! person passed or wants to retry. A running build checks for them several times a second. It removes a `stop` that is
//! older than itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seal::{Seal, What};
use super::{StatusRead, Store, task_dir_name};
use planexe_base::fs::{self, Durability, FileKind, FsError, OpenDir, Signature};
use planexe_base::record::State;

/// What is asked of a running build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Start nothing more; what runs finishes.
    Stop,
    /// The same, and the run counts as given up; `hard` ends what runs.
    Abort {
        /// Whether what runs is ended too.
        hard: bool,
    },
    /// Start nothing while true.
    Pause(bool),
    /// A person did, or let pass, a task.
    Passed(String),
    /// A task is to be made anew.
    Retry(String),
}

/// What a person said of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Passed {
    /// `task` or `task[key]`.
    pub task: String,
    /// The user who passed it.
    pub by: String,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// What they were shown: the decision the task waited with. None if they were ahead of the build.
    #[serde(default)]
    pub decision_id: Option<String>,
}

/// The files a build looks at. Those that were there before it count for nothing.
#[derive(Debug, Clone)]
pub struct Controls {
    dir: PathBuf,
    told: BTreeMap<String, Passed>,
    stopped: bool,
    aborted: Option<bool>,
    older: Vec<(&'static str, Signature)>,
}

/// What the mark of [`Passed`] says it is.
const PASSED: What<'static> = What::Record("passed");

/// Files that steer the build that is running.
const FILES: [&str; 3] = ["stop", "abort", "pause"];

impl Controls {
    /// The controls of a run.
    pub fn new(store: &Store) -> Controls {
        let dir = store.planexe_dir();
        let older = FILES.into_iter().filter_map(|name| Some((name, signature(&dir, name)?))).collect();
        Controls { dir, told: BTreeMap::new(), stopped: false, aborted: None, older }
    }

    /// Removes the files that were there before the build, and no other: one that came since is for it. Those that cannot
    /// be removed are passed over all the same.
    pub fn clear_older(&self) {
        for (name, was) in &self.older {
            if signature(&self.dir, name).as_ref() == Some(was) {
                let _ = fs::remove(&self.dir.join(name));
            }
        }
    }

    /// What is asked now; a stop is told once, a pause every time, what a person let pass once unless it is
    /// [`Controls::put_off`].
    pub fn look(&mut self) -> Vec<Control> {
        let mut found = Vec::new();
        if self.is_there("abort") {
            let hard = fs::read(&self.dir.join("abort")).is_ok_and(|bytes| bytes.starts_with(b"hard"));
            // A later, harder one counts as well.
            if self.aborted.is_none_or(|was| hard && !was) {
                found.push(Control::Abort { hard });
                self.aborted = Some(hard);
            }
        } else if self.is_there("stop") && !std::mem::replace(&mut self.stopped, true) {
            found.push(Control::Stop);
        }
        found.push(Control::Pause(self.is_there("pause")));
        for passed in self.passes() {
            if self.told.get(&passed.task) != Some(&passed) {
                found.push(Control::Passed(passed.task.clone()));
                self.told.insert(passed.task.clone(), passed);
            }
        }
        let asked = retries(&self.dir).into_values().filter(|asked| !asked.left);
        found.extend(asked.map(|asked| Control::Retry(asked.task)));
        found
    }

    /// Whether a stop or an abort is asked for.
    pub fn ask_for_the_end(&self) -> bool {
        self.is_there("stop") || self.is_there("abort")
    }

    /// Whether there is such a file, made since.
    fn is_there(&self, name: &str) -> bool {
        let older = |seen| self.older.iter().any(|(other, was)| *other == name && *was == seen);
        signature(&self.dir, name).is_some_and(|seen| !older(seen))
    }

    /// The task does not wait yet: that it was let pass is told again by the next look.
    pub fn put_off(&mut self, task: &str) {
        self.told.remove(task);
    }

    /// What people let pass, as far as no build has used it yet.
    pub fn passes(&self) -> Vec<Passed> {
        let dir = self.dir.join("passed");
        let files = fs::list_dir(&dir).unwrap_or_default();
        files.into_iter().filter_map(|(name, _)| read_passed(&self.dir, &dir.join(name))).collect()
    }

    /// Who let a task pass, and on what, if someone did.
    pub fn passed(&self, task: &str) -> Option<Passed> {
        let passed = read_passed(&self.dir, &passed_file(&self.dir, task))?;
        (passed.task == task).then_some(passed)
    }

    /// Forgets it: it was used.
    pub fn clear_passed(&mut self, task: &str) {
        self.told.remove(task);
        let _ = fs::remove(&passed_file(&self.dir, task));
    }
}

/// The file that says that a person let a task pass.
fn passed_file(dir: &Path, task: &str) -> PathBuf {
    dir.join("passed").join(format!("{}.json", task_dir_name(task)))
}

/// What a person let pass by `planexe done`, as this user here. What came with a clone lets nothing pass.
fn read_passed(dir: &Path, file: &Path) -> Option<Passed> {
    Seal::to_check(dir.parent()?, PASSED)?.unsealed(&fs::read_capped(file, 1 << 16).ok()?)
}

/// A task that is to be made anew.
struct Retry {
    task: String,
    /// The build that runs cannot: the next one does.
    left: bool,
}

/// What stands below the name of a task that a build leaves to the next one.
const LEFT: &str = "left to the next build";

/// Tasks that are to be made anew, by the files that say so. One made by hand may be empty, with the task for a name.
fn retries(dir: &Path) -> BTreeMap<PathBuf, Retry> {
    let dir = dir.join("retry");
    let mut found = BTreeMap::new();
    for (name, kind) in fs::list_dir(&dir).unwrap_or_default() {
        if kind != FileKind::File {
            continue;
        }
        let path = dir.join(&name);
        let Some(name) = name.to_str().filter(|name| !fs::is_temp_name(name)) else { continue };
        // What cannot be read names nobody yet.
        let Ok(text) = fs::read_capped(&path, 1 << 16) else { continue };
        let text = String::from_utf8_lossy(&text);
        let text = text.trim();
        let (task, left) = match text.strip_suffix(LEFT) {
            Some(task) => (task.trim_end(), true),
            None => (text, false),
        };
        // What says something else is no marker, and not ours to remove.
        if task.is_empty() || task == name || task_dir_name(task) == name {
            let task = if task.is_empty() { name } else { task }.to_owned();
            found.insert(path.clone(), Retry { task, left });
        }
    }
    found
}

/// Whether somebody wants a task made anew in a run directory, which is open as well. In most nobody ever did.
pub fn is_retry_asked(run: &Path, open: &OpenDir) -> bool {
    !open.is_absent(c".planexe/retry") && !retries(&run.join(".planexe")).is_empty()
}

fn signature(dir: &Path, name: &str) -> Option<Signature> {
    fs::plain_signature(&dir.join(name)).ok().flatten()
}

impl Store {
    /// Notes that a person did, or let pass, a task.
    pub fn pass(&self, passed: &Passed) -> Result<(), FsError> {
        let dir = self.planexe_subdir("passed")?;
        let path = dir.join(format!("{}.json", task_dir_name(&passed.task)));
        let Some(seal) = Seal::to_mark(&self.run_dir, PASSED) else {
            let why = std::io::Error::other(format!(
                "what you let pass is marked as yours, and {}",
                Seal::why_none()
            ));
            return Err(FsError::new(&path, "write", why));
        };
        fs::write_atomic(&path, &seal.sealed(passed), Durability::Synced)
    }

    /// Forgets that a person let a task pass: it was settled in another way, and is asked again the next time.
    pub fn forget_passed(&self, task: &str) -> Result<(), FsError> {
        fs::remove(&passed_file(&self.planexe_dir(), task)).map(drop)
    }

    /// Asks the running build to make a task anew.
    pub fn ask_retry(&self, task: &str) -> Result<(), FsError> {
        let path = self.planexe_subdir("retry")?.join(task_dir_name(task));
        fs::write_atomic(&path, format!("{task}\n").as_bytes(), Durability::Unsynced)
    }

    /// Tasks that somebody wants made anew and no build has taken up yet.
    pub fn asked_retries(&self) -> Vec<String> {
        retries(&self.planexe_dir()).into_values().map(|asked| asked.task).collect()
    }

    /// Those of them that the running build leaves to the next one.
    pub fn left_retries(&self) -> Vec<String> {
        let left = retries(&self.planexe_dir()).into_values().filter(|asked| asked.left);
        left.map(|asked| asked.task).collect()
    }

    /// The running build cannot make the task anew: what was asked of it is asked of the next one.
    pub fn leave_retry(&self, task: &str) -> Result<(), FsError> {
        for (path, _) in retries(&self.planexe_dir()).iter().filter(|(_, asked)| asked.task == task) {
            fs::write_atomic(path, format!("{task}\n{LEFT}\n").as_bytes(), Durability::Unsynced)?;
        }
        Ok(())
    }

    /// The task is made anew: nobody asks for it any more.
    pub fn clear_retry(&self, task: &str) -> Result<(), FsError> {
        for (path, _) in retries(&self.planexe_dir()).iter().filter(|(_, asked)| asked.task == task) {
            fs::remove(path)?;
        }
        Ok(())
    }

    /// Has a task be made anew: kept answers are set aside, budgets are whole again. `first` is its first output; outputs
    /// stay where they are until there are new ones. Under the lock.
    pub fn begin_anew(&self, task: &str, first: &str) -> Result<(), FsError> {
        self.calls().discard(task).map_err(|error| error.within(&self.run_dir))?;
        self.give_up_jobs(task)?;
        self.spend_candidate(task)?;
        if let StatusRead::Valid(mut status) = self.read_status(first) {
            // Done without a marker means a fresh draw; anything else begins from the beginning.
            if status.state != State::Done {
                status.state = State::Pending;
                status.result.failure = None;
            }
            status.budgets = None;
            // Its rounds begin anew as well.
            status.quality.eval = None;
            self.write_status(first, &status, Durability::Synced)?;
        }
        self.remove_done(first, Durability::Synced)?;
        Ok(())
    }

    /// Whether a build is asked to start nothing for now.
    pub fn is_paused(&self) -> bool {
        fs::kind(&self.planexe_dir().join("pause")).ok().flatten().is_some()
    }

    /// Whether a build is told to abort, or was when it was killed.
    pub fn is_told_to_abort(&self) -> bool {
        fs::kind(&self.planexe_dir().join("abort")).ok().flatten().is_some()
    }

    /// Asks the running build for something; taking a pause back removes its file.
    pub fn ask(&self, control: &Control) -> Result<(), FsError> {
        let (name, text): (_, &[u8]) = match control {
            Control::Stop => ("stop", b""),
            Control::Abort { hard: false } => ("abort", b""),
            Control::Abort { hard: true } => ("abort", b"hard\n"),
            Control::Pause(true) => ("pause", b""),
            Control::Pause(false) => return fs::remove(&self.planexe_dir().join("pause")).map(drop),
            Control::Retry(task) => return self.ask_retry(task),
            Control::Passed(_) => return Ok(()),
        };
        fs::write_atomic(&self.planexe_subdir("")?.join(name), text, Durability::Unsynced)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// The task recorded beside a first output.
    pub fn recorded_task(&self, first: &str) -> Option<String> {
        match (self.read_done(first), self.read_status(first)) {
            (planexe_base::record::Marker::Valid(done), _) => Some(done.task),
            (_, super::StatusRead::Valid(status)) => Some(status.task),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_pass_is_told_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let mut controls = Controls::new(&store);
        let pass = |at: &str| {
            let passed = Passed { task: "t".into(), by: "me".into(), at: at.into(), decision_id: None };
            store.pass(&passed).unwrap();
        };
        let told = [Control::Pause(false), Control::Passed("t".into())];
        pass("2026-03-01T22:15:04Z");
        assert_eq!(controls.look(), told);
        // Its `.status` said that it waits, before the build knew.
        controls.put_off("t");
        assert_eq!(controls.look(), told);
        assert_eq!(controls.look(), told[..1]);
        // A person says it once more.
        pass("2026-03-01T22:15:05Z");
        assert_eq!(controls.look(), told);
        controls.clear_passed("t");
        assert_eq!(controls.look(), told[..1]);
    }

    #[test]
    fn a_folder_asks_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        store.ask_retry("t").unwrap();
        fs::make_dirs(&store.planexe_dir().join("retry/u"), Durability::Unsynced).unwrap();
        assert_eq!(store.asked_retries(), ["t"]);
    }

    #[test]
    fn what_is_left_to_the_next_build_is_not_asked_of_this_one_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let mut controls = Controls::new(&store);
        store.ask_retry("t[a b]").unwrap();
        let asked = [Control::Pause(false), Control::Retry("t[a b]".into())];
        assert_eq!((controls.look(), store.left_retries()), (asked.to_vec(), Vec::new()));
        store.leave_retry("t[a b]").unwrap();
        assert_eq!(controls.look(), asked[..1]);
        assert_eq!(
            (store.asked_retries(), store.left_retries()),
            (vec!["t[a b]".into()], vec!["t[a b]".into()])
        );
        // Asked once more, since what hindered it may be over.
        store.ask_retry("t[a b]").unwrap();
        assert_eq!(controls.look(), asked);
        store.clear_retry("t[a b]").unwrap();
        assert_eq!(store.asked_retries(), [""; 0]);
    }

    #[test]
    fn only_what_comes_after_the_start_counts() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        for control in [Control::Stop, Control::Abort { hard: true }, Control::Pause(true)] {
            store.ask(&control).unwrap();
        }
        let mut controls = Controls::new(&store);
        assert_eq!(controls.look(), [Control::Pause(false)]);
        // Asked again before the build has begun: that one is for it.
        store.ask(&Control::Stop).unwrap();
        controls.clear_older();
        assert!(!store.is_paused());
        assert_eq!(controls.look(), [Control::Stop, Control::Pause(false)]);
        store.ask(&Control::Pause(true)).unwrap();
        assert_eq!(controls.look(), [Control::Pause(true)]);
        store.ask(&Control::Pause(false)).unwrap();
        assert_eq!(controls.look(), [Control::Pause(false)]);
        // Harder, told once each.
        store.ask(&Control::Abort { hard: false }).unwrap();
        assert_eq!(controls.look()[0], Control::Abort { hard: false });
        store.ask(&Control::Abort { hard: true }).unwrap();
        assert_eq!(controls.look()[0], Control::Abort { hard: true });
        assert_eq!(controls.look(), [Control::Pause(false)]);
    }
}
