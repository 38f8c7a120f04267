//! git as the record of what was done: after a task is done, its outputs and sidecars are committed in the repository the
//! run lies in, one commit a task. `.DONE` decides, as ever; a commit that cannot be made is told once and made up for at the
//! end of the next build.
//!
//! Only the task's own paths are committed: trees are put together in an index of our own, what the user staged stays staged,
//! and of the user's index only the entries of those paths are brought up to date. No hook runs, nothing is signed, no
//! identity is needed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::git::{Git, GitError};
use crate::git_under_way::UnderWay;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{By, Marker};
use planexe_base::style::clean;
use planexe_store::{Sidecar, StatusRead, Store};

/// The file that says that commits may be missing.
const DUE: &str = "commits_due";
/// The index of our own.
const INDEX: &str = "git-index";
/// Paths committed in one go.
const AT_ONCE: usize = 500;
/// How long a build waits at its end for its commits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who commits.
const NAME: &str = "planexe";
const EMAIL: &str = "planexe@localhost";
/// Paths are paths, and no patterns.
const LITERAL: &str = "--literal-pathspecs";

/// A task that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// `task` or `task[key]`.
    pub task: String,
    /// What it is for.
    pub title: String,
    /// Its outputs; the first names the sidecars.
    pub outputs: Vec<String>,
}

/// A commit to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Files, relative to the run; one that is not there is removed.
    pub paths: Vec<String>,
    /// What is said of it.
    pub message: String,
    /// When it was done; now, if nobody knows.
    pub at: Option<String>,
    /// For the log of references, in a word.
    pub word: String,
}

/// Why nothing, or not everything, was committed.
#[derive(Debug, thiserror::Error)]
pub enum NotCommitted {
    /// git said no.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file of ours.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The run lies in no repository.
    #[error("the run lies in no git repository; `git init` makes one")]
    NoRepository,
    /// The user is in the middle of something.
    #[error("{} in the repository: {}", .0.text(), .0.hint())]
    UnderWay(UnderWay),
    /// Somebody else commits all the time.
    #[error("the branch was moved by somebody else again and again")]
    Moved,
}

/// Whether commits may be missing.
pub fn are_due(store: &Store) -> bool {
    store.planexe_dir().join(DUE).exists()
}

/// Notes that commits may be missing, before the first task that will need one is done.
pub fn note_due(store: &Store) -> Result<(), FsError> {
    let text = b"commits of tasks that are done may be missing; the next build makes them\n";
    fs::write_atomic(&store.planexe_dir().join(DUE), text, Durability::Unsynced)
}

/// All are made.
pub fn none_due(store: &Store) -> Result<(), FsError> {
    fs::remove(&store.planexe_dir().join(DUE)).map(drop)
}

/// Commits while a build goes on, on a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    tasks: Option<Sender<Finished>>,
    left: Receiver<Vec<Finished>>,
}

impl Recorder {
    /// Begins. Nothing is started before the first task is done.
    pub fn start(store: Arc<Store>) -> Recorder {
        let (tasks, finished) = channel::<Finished>();
        let (tell, left) = channel();
        std::thread::spawn(move || {
            let mut left = Vec::new();
            let mut committer = None;
            let mut is_failing = false;
            while let Ok(first) = finished.recv() {
                let batch = std::iter::once(first).chain(finished.try_iter());
                let (ready, not_yet): (Vec<Finished>, Vec<Finished>) =
                    batch.partition(|task| !is_failing && is_recorded(&store, task));
                left.extend(not_yet);
                // After a failure the rest is left to the end, when all is tried once more, and told.
                if commit_with(&mut committer, &store, &ready).is_err() {
                    is_failing = true;
                    left.extend(ready);
                }
            }
            let _ = tell.send(left);
        });
        Recorder { tasks: Some(tasks), left }
    }

    /// A task is done.
    pub fn done(&self, task: Finished) {
        if let Some(tasks) = &self.tasks {
            let _ = tasks.send(task);
        }
    }

    /// Waits for what was begun, at most a minute; returns the tasks that are still to be committed. None if it takes longer.
    pub fn finish(mut self) -> Option<Vec<Finished>> {
        self.tasks = None;
        match self.left.recv_timeout(PATIENCE) {
            Ok(left) => Some(left),
            Err(RecvTimeoutError::Disconnected) => Some(Vec::new()),
            Err(RecvTimeoutError::Timeout) => None,
        }
    }
}

/// Whether a task's `.DONE` is on disk. Those of many short commands come together, at the end.
fn is_recorded(store: &Store, task: &Finished) -> bool {
    task.outputs.first().is_some_and(|first| matches!(store.read_done(first), Marker::Valid(_)))
}

/// Whether a task's outputs are what its `.DONE` says: what somebody edited since is theirs to commit.
fn is_unedited(store: &Store, task: &Finished) -> bool {
    let Some(Marker::Valid(done)) = task.outputs.first().map(|first| store.read_done(first)) else {
        return false;
    };
    done.outputs.iter().all(|output| {
        fs::hash_file(&store.path(&output.path)).is_ok_and(|(digest, _)| digest == output.blake3)
    })
}

/// Commits tasks that are done and not committed yet, one by one.
pub fn commit(store: &Store, tasks: &[Finished]) -> Result<(), NotCommitted> {
    let done: Vec<Finished> = tasks.iter().filter(|task| is_unedited(store, task)).cloned().collect();
    commit_with(&mut None, store, &done)
}

fn commit_with(
    committer: &mut Option<Committer>,
    store: &Store,
    tasks: &[Finished],
) -> Result<(), NotCommitted> {
    if tasks.is_empty() {
        return Ok(());
    }
    let committer = match committer {
        Some(committer) => committer,
        none => none.insert(Committer::new(store)?),
    };
    let mut rest = tasks;
    while !rest.is_empty() {
        let mut paths = 0;
        let most = rest.iter().take_while(|task| {
            paths += task.outputs.len() + 2;
            paths <= AT_ONCE
        });
        let (now, later) = rest.split_at(most.count().max(1));
        let commits: Vec<Commit> = now.iter().map(|task| of_task(store, task)).collect();
        committer.commit(&commits)?;
        rest = later;
    }
    Ok(())
}

/// Makes the folder of a run a repository, if it is not one, and commits some of its files.
pub fn found(store: &Store, commit: Commit) -> Result<(), NotCommitted> {
    if !store.run_dir().join(".git").exists() {
        Git::at(store.run_dir()).contained().must(&["init", "-q"])?;
    }
    fs::make_dirs(&store.planexe_dir(), Durability::Unsynced)?;
    Committer::new(store)?.commit(&[commit])
}

/// A repository, and the way a run lies in it.
#[derive(Debug)]
struct Committer {
    git: Git,
    /// The same with an index of our own.
    own: Git,
    git_dir: PathBuf,
    /// What all worktrees of the repository share: held while its branches change, as isolated tasks do.
    common: PathBuf,
    /// The commit whose tree is in the index of our own.
    at: Option<String>,
}

impl Committer {
    fn new(store: &Store) -> Result<Committer, NotCommitted> {
        let run = store.run_dir();
        // Looked for without git: a run that lies in none starts no process.
        if !fs::resolved(run).ancestors().any(|folder| folder.join(".git").exists()) {
            return Err(NotCommitted::NoRepository);
        }
        let git = Git::at(run)
            .with("user.useConfigOnly", "false")
            .with("core.quotePath", "false")
            .with_variable("GIT_AUTHOR_NAME", NAME)
            .with_variable("GIT_AUTHOR_EMAIL", EMAIL)
            .with_variable("GIT_COMMITTER_NAME", NAME)
            .with_variable("GIT_COMMITTER_EMAIL", EMAIL);
        let asked = ["rev-parse", "--is-inside-work-tree", "--absolute-git-dir", "--git-common-dir"];
        let places = git.text(&asked)?;
        let places: Vec<&str> = places.lines().collect();
        let ["true", git_dir, common] = places[..] else { return Err(NotCommitted::NoRepository) };
        let common = fs::resolved(&run.join(common));
        let index = store.planexe_dir().join(INDEX);
        // Of a build that was killed.
        fs::remove(&index)?;
        fs::remove(&index.with_extension("lock"))?;
        let own = git.with_variable("GIT_INDEX_FILE", index);
        Ok(Committer { git_dir: PathBuf::from(git_dir), common, git, own, at: None })
    }

    /// Each commit that has something new; the branch is moved once.
    fn commit(&mut self, commits: &[Commit]) -> Result<(), NotCommitted> {
        let _turn = fs::hold_dir(&self.common)?;
        for _ in 0..5 {
            if let Some(under_way) = UnderWay::in_git_dir(&self.git_dir, self.git.dir()) {
                return Err(NotCommitted::UnderWay(under_way));
            }
            let head = self.git.look(&["rev-parse", "-q", "--verify", "HEAD^{commit}"])?;
            if self.at.is_none() || self.at != head {
                match &head {
                    Some(head) => self.own.must(&["read-tree", head])?,
                    None => self.own.must(&["read-tree", "--empty"])?,
                };
                self.at.clone_from(&head);
            }
            let mut tip = head.clone();
            let mut tree = match &head {
                Some(head) => self.git.text(&["rev-parse", &format!("{head}^{{tree}}")])?,
                None => String::new(),
            };
            let mut committed: Vec<String> = Vec::new();
            for commit in commits {
                let paths = self.not_ignored(&commit.paths)?;
                if paths.is_empty() {
                    continue;
                }
                self.own.must_feed(&["update-index", "-z", "--add", "--remove", "--stdin"], zeros(&paths))?;
                let new = self.own.text(&["write-tree"])?;
                if new == tree {
                    continue;
                }
                tip = Some(self.commit_tree(commit, &new, tip.as_deref())?);
                tree = new;
                committed.extend(paths);
            }
            let Some(new) = tip.filter(|tip| head.as_ref() != Some(tip)) else { return Ok(()) };
            let staged = self.staged(head.as_deref(), &committed)?;
            let nothing = "0".repeat(new.len());
            let from = head.as_deref().unwrap_or(&nothing);
            let why = match commits {
                [one] => format!("planexe: {}", clean(&one.word)),
                many => format!("planexe: {} tasks", many.len()),
            };
            let moved = self.git.must(&["update-ref", "-m", &why, "HEAD", &new, from]);
            if let Err(error) = moved {
                let now = self.git.look(&["rev-parse", "-q", "--verify", "HEAD^{commit}"])?;
                if now == head {
                    return Err(error.into());
                }
                // Somebody else committed meanwhile: once more, on top of that.
                self.at = None;
                continue;
            }
            self.at = Some(new);
            return self.bring_up_to_date(&committed, &staged);
        }
        Err(NotCommitted::Moved)
    }

    /// Those of some paths that git does not ignore.
    fn not_ignored(&self, paths: &[String]) -> Result<Vec<String>, NotCommitted> {
        // It knows no `--literal-pathspecs`; nothing that begins so is a pattern to it.
        let named = |path: &String| format!("./{path}");
        let input = zeros(&paths.iter().map(named).collect::<Vec<_>>());
        let said = self.git.feed(&["check-ignore", "-z", "--stdin"], input)?;
        if !(0..=1).contains(&said.code) {
            return Err(GitError::Failed { command: "check-ignore".into(), said: said.why() }.into());
        }
        let ignored: HashSet<&[u8]> = said.out.split(|&byte| byte == 0).collect();
        Ok(paths.iter().filter(|path| !ignored.contains(named(path).as_bytes())).cloned().collect())
    }

    fn commit_tree(&self, commit: &Commit, tree: &str, parent: Option<&str>) -> Result<String, NotCommitted> {
        let mut arguments = vec!["commit-tree", tree, "-F", "-"];
        arguments.extend(parent.iter().flat_map(|parent| ["-p", *parent]));
        let git = match &commit.at {
            Some(at) => self.git.with_variable("GIT_AUTHOR_DATE", at),
            None => self.git.clone(),
        };
        Ok(git.must_feed(&arguments, commit.message.clone().into_bytes())?.text())
    }

    /// Which of these paths the user staged otherwise than they are in the commit that is checked out, from the top of the
    /// repository.
    fn staged(&self, head: Option<&str>, paths: &[String]) -> Result<HashSet<String>, GitError> {
        let mut staged = HashSet::new();
        for paths in paths.chunks(AT_ONCE) {
            let mut arguments = match head {
                Some(head) => {
                    vec![LITERAL, "diff-index", "--cached", "--name-only", "--no-renames", "-z", head, "--"]
                }
                None => vec![LITERAL, "ls-files", "--full-name", "-z", "--"],
            };
            arguments.extend(paths.iter().map(String::as_str));
            staged.extend(self.git.names(&arguments)?);
        }
        Ok(staged)
    }

    /// Has the user's index hold of these paths what was committed, but for those they staged otherwise; else they would
    /// look as if they were to be removed.
    fn bring_up_to_date(&self, paths: &[String], staged: &HashSet<String>) -> Result<(), NotCommitted> {
        let mut input = Vec::new();
        for paths in paths.chunks(AT_ONCE) {
            let mut arguments = vec![LITERAL, "ls-files", "--stage", "--full-name", "-z", "--"];
            arguments.extend(paths.iter().map(String::as_str));
            for entry in self.own.names(&arguments)? {
                let name = entry.split_once('\t').map_or("", |(_, name)| name);
                if !staged.contains(name) {
                    input.extend(entry.as_bytes());
                    input.push(0);
                }
            }
        }
        self.git.must_feed(&["update-index", "-z", "--index-info"], input)?;
        // Those that were removed are in no index of ours.
        let gone: Vec<String> =
            paths.iter().filter(|path| !self.git.dir().join(path).exists()).cloned().collect();
        if !gone.is_empty() {
            self.git.must_feed(&["update-index", "-z", "--remove", "--stdin"], zeros(&gone))?;
        }
        Ok(())
    }
}

fn zeros(paths: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend(path.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// The commit of a task: its outputs and sidecars that are there, and what its records say.
fn of_task(store: &Store, task: &Finished) -> Commit {
    let first = task.outputs.first().map_or("", String::as_str);
    let title: String =
        clean(if task.title.is_empty() { first } else { &task.title }).chars().take(100).collect();
    let mut text = format!("[{}] {title}\n\nTask: {}\n", clean(&task.task), clean(&task.task));
    let mut trailer = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text += &format!("{name}: {}\n", clean(&value));
        }
    };
    let done = match store.read_done(first) {
        Marker::Valid(done) => Some(done),
        _ => None,
    };
    let status = match store.read_status(first) {
        StatusRead::Valid(status) => Some(status),
        _ => None,
    };
    if let Some(status) = &status {
        trailer("Attempt", Some(status.last.attempt.to_string()));
        trailer("Decision-Id", status.last.decision_id.clone());
    }
    let checkpoint = done.as_ref().and_then(|done| done.checkpoint_id.clone());
    trailer(
        "Checkpoint-Id",
        checkpoint.or(status.as_ref().and_then(|status| status.last.checkpoint_id.clone())),
    );
    if let Some(status) = &status {
        trailer("Model", status.last.model.clone());
        let cost = status
            .result
            .usage
            .as_ref()
            .filter(|usage| usage.cost_usd > 0.0)
            .map(|usage| format!("{:.6} USD", usage.cost_usd));
        trailer("Cost", cost);
        trailer("Sample", (status.quality.sample == Some(true)).then(|| "true".to_owned()));
    }
    if let Some(done) = &done {
        trailer("By", (done.by != By::Build).then(|| done.by.name().to_owned()));
    }
    let sidecar = |kind| {
        let path = store.sidecar_path(first, kind);
        path.strip_prefix(store.run_dir()).ok().and_then(Path::to_str).map(str::to_owned)
    };
    let sidecars = [Sidecar::Done, Sidecar::Status].into_iter().filter_map(sidecar);
    let is_file =
        |path: &String| fs::kind(&store.path(path)).is_ok_and(|kind| kind == Some(fs::FileKind::File));
    let paths = task.outputs.iter().cloned().chain(sidecars).filter(is_file).collect();
    Commit { paths, message: text, at: done.map(|done| done.completed_utc.clone()), word: task.task.clone() }
}
