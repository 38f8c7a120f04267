//! What an attempt left in its worktree is stashed on a branch of its own before the worktree is cleaned up.

use super::{
    IsolationError, Worktree, failure, identified, isolation, named, nested_repository, style, submodules,
};
use crate::git::{Git, GitError};
use crate::isolation::{Isolation, SAVED};
use crate::runner::BuildContext;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FileKind};
use planexe_base::message::Message;
use planexe_engine::graph::Task;

/// Of one lane so many attempts are kept.
const MOST: u32 = 10_000;

impl Worktree {
    /// Puts by what is beyond the lane's last success: commits, and what is not committed, outputs that git ignores
    /// included. The branch it is on, if there was anything.
    pub(super) fn stash(
        &self,
        ctx: &BuildContext,
        task: &Task,
        there: bool,
    ) -> Result<Option<String>, IsolationError> {
        let isolation = isolation(ctx)?;
        let top = isolation.place.git();
        let commit = match there {
            true => {
                self.require_own_top()?;
                let all = self.commit_all(task)?;
                // Its branch may hold what its worktree does not.
                match top.tip(&self.lane.branch)? {
                    Some(tip) if tip != self.lane.head && !top.is_ancestor(&tip, &all)? => {
                        self.save(isolation, &tip)?;
                    }
                    _ => {}
                }
                Some(all)
            }
            false => top.tip(&self.lane.branch)?,
        };
        match commit {
            Some(commit) if commit != self.lane.head && !top.is_ancestor(&commit, &self.lane.head)? => {
                self.save(isolation, &commit).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A commit with all that is in the worktree: the one that is checked out, or one on top of it.
    fn commit_all(&self, task: &Task) -> Result<String, IsolationError> {
        let copied = self.lane.at_work.as_ref().map(|at_work| at_work.copied.as_slice()).unwrap_or_default();
        let tracked: Vec<&String> =
            copied.iter().filter(|copied| copied.tracked).map(|copied| &copied.path).collect();
        self.each("update-index", &["--no-skip-worktree"], &tracked)?;
        self.git.must(&["add", "-A"])?;
        let mut forced = Vec::new();
        for output in &task.outputs {
            let path = self.path(output);
            if fs::if_content(fs::kind(&path))?.flatten() == Some(FileKind::File) {
                forced.push(path.to_string_lossy().into_owned());
            }
        }
        self.each("add", &["-f"], &forced.iter().collect::<Vec<_>>())?;
        let mut changed = Vec::new();
        for copied in copied.iter().filter(|copied| !copied.tracked) {
            let now = fs::if_content(fs::hash_file(&self.root.join(&copied.path)))?;
            if now.is_some_and(|(digest, _)| digest != copied.blake3) {
                changed.push(&copied.path);
            }
        }
        self.each("add", &["-f"], &changed)?;
        let head = self.git.text(&["rev-parse", "HEAD"])?;
        let tree = self.git.text(&["write-tree"])?;
        self.require_all_is_in(&tree)?;
        if tree == self.git.text(&["rev-parse", "HEAD^{tree}"])? {
            return Ok(head);
        }
        let attempt = self.lane.at_work.as_ref().map_or(0, |at_work| at_work.attempt);
        let message = format!("planexe: {}, attempt {attempt}, not finished\n", style::clean(&task.name));
        Ok(identified(&self.git)?.text(&["commit-tree", &tree, "-p", &head, "-m", &message])?)
    }

    /// A repository within the worktree is in no commit of ours: it is not cleaned away.
    fn require_all_is_in(&self, tree: &str) -> Result<(), IsolationError> {
        let mut inner = submodules(&self.git, &self.lane.head, tree)?;
        inner.retain(|path| !matches!(nested_repository(&self.root, &format!("{path}/")), Ok(None)));
        if inner.is_empty() {
            return Ok(());
        }
        let message = Message::new(format!(
            "its worktree `{}` holds repositories of their own, which are in no commit: {}",
            self.root.display(),
            named(&inner)
        ))
        .hint("move them away, then `planexe build`");
        Err(failure(FailureClass::Submodule, message).into())
    }

    fn save(&self, isolation: &Isolation, commit: &str) -> Result<String, IsolationError> {
        let git = isolation.place.git();
        for n in 1..MOST {
            let branch = format!("{SAVED}{}/{}-{n}", isolation.run(), self.lane.name);
            match git.tip(&branch)? {
                // Put by before a kill.
                Some(tip) if tip == commit => return Ok(branch),
                Some(_) => {}
                None => {
                    git.must(&["update-ref", &format!("refs/heads/{branch}"), commit, ""])?;
                    return Ok(branch);
                }
            }
        }
        Err(failure(
            FailureClass::Git,
            format!("there are {MOST} saved branches of `{}` already", self.lane.lane),
        )
        .into())
    }

    /// The worktree is as the lane's last success left it. All else was put by.
    pub(super) fn reset(&mut self) -> Result<(), IsolationError> {
        let _ = self.git.run(&["rebase", "--quit"])?;
        self.git.must(&["reset", "-q", "--hard"])?;
        self.git.must(&["checkout", "-q", "--detach", &self.lane.head])?;
        self.git.move_branch_to(&self.lane.branch, &self.lane.head)?;
        self.git.must(&["symbolic-ref", "HEAD", &format!("refs/heads/{}", self.lane.branch)])?;
        self.git.must(&["clean", "-q", "-f", "-d"])?;
        let copied = self.lane.at_work.take().map(|at_work| at_work.copied).unwrap_or_default();
        for copied in copied.iter().filter(|copied| !copied.tracked) {
            fs::ensure_inside(&self.root, &self.root.join(&copied.path))?;
            fs::remove(&self.root.join(&copied.path))?;
        }
        Ok(())
    }

    /// Removes the worktree, all of which was put by or merged. A folder in its place that lost its `.git` was not: it
    /// is left alone.
    pub(super) fn remove_worktree(&self, isolation: &Isolation, there: bool) -> Result<(), IsolationError> {
        if !there && !fs::remove_empty_dir(&self.root)? && fs::kind(&self.root)?.is_some() {
            self.require_own_top()?;
        }
        remove_worktree(&isolation.place.git(), &self.root, there)
    }
}

/// Removes a worktree of ours, or what git remembers of one that is gone.
pub(super) fn remove_worktree(top: &Git, root: &std::path::Path, there: bool) -> Result<(), IsolationError> {
    let own = fs::resolved(root.parent().unwrap_or(root)).join(root.file_name().unwrap_or_default());
    let listed = || -> Result<bool, GitError> {
        Ok(top.worktrees()?.iter().any(|(path, _)| *path == own || path == root))
    };
    if there || listed()? {
        // With submodules in the index git refuses without it, whatever their state.
        let words = ["worktree", "remove", "--force"].map(std::ffi::OsString::from);
        top.must(&[&words[..], &[root.as_os_str().to_owned()]].concat())?;
    }
    if let Some(folder) = root.parent()
        && let Ok(rest) = fs::list_dir(folder)
        && rest.iter().all(|(name, _)| name == ".gitignore")
    {
        fs::remove(&folder.join(".gitignore"))?;
        fs::remove_empty_dir(folder)?;
    }
    Ok(())
}
