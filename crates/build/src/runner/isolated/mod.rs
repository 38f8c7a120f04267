//! Isolated tasks: a worktree to work in, what is left there taken down on its branch, and what comes of it merged
//! ([`merge`]).
//!
//! Everything in a worktree of ours may be thrown away only once it is on a branch; in the user's own nothing is, ever.

use std::ffi::OsString;
use std::path::Path;

use super::{BuildContext, Job, Outcome, failure};
use crate::git::{Git, GitError};
use crate::isolation::{BRANCHES, Isolation, plain_name};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FsError};
use planexe_base::message::Message;
use planexe_base::record::{Digest, Failure, Isolated};
use planexe_base::style;
use planexe_pipeline::project::IsolateSpec;
use planexe_store::candidates::Candidate;
use planexe_store::lanes::Lane;

mod checkouts;
mod finish;
mod judged;
pub mod merge;
mod saving;
mod success;
mod taking_back;
pub(super) mod watching;
mod worktree;

pub(super) use judged::JudgedWorktree;
pub use success::accepted_by_hand;
pub(super) use success::{committed, failed, succeed, succeed_with_best};
pub(super) use worktree::Worktree;

/// The variable that names the top of the worktree.
const WORKTREE_VARIABLE: &str = "PLANEXE_WORKTREE";
/// Why there is nothing more to do for now.
pub(super) enum IsolationError {
    /// The task failed.
    Failed(Failure),
    /// Records cannot be written.
    Fs(FsError),
}

impl IsolationError {
    /// What it means for the attempt.
    pub(super) fn into_outcome(self) -> Result<Outcome, FsError> {
        match self {
            IsolationError::Failed(failed) => Ok(Outcome::Failed(failed)),
            IsolationError::Fs(error) => Err(error),
        }
    }
}

impl From<FsError> for IsolationError {
    fn from(error: FsError) -> IsolationError {
        IsolationError::Fs(error)
    }
}

impl From<GitError> for IsolationError {
    fn from(error: GitError) -> IsolationError {
        IsolationError::Failed(Failure { recoverable: true, ..failure(FailureClass::Git, error.to_string()) })
    }
}

impl From<Failure> for IsolationError {
    fn from(failed: Failure) -> IsolationError {
        IsolationError::Failed(failed)
    }
}

/// What a build must have found of git before an isolated task runs.
pub(super) fn isolation(ctx: &BuildContext) -> Result<&Isolation, IsolationError> {
    ctx.isolation
        .as_ref()
        .ok_or_else(|| failure(FailureClass::Internal, "BUG: git was not examined; please report it").into())
}

fn spec_of<'t>(ctx: &'t BuildContext, job: &Job) -> Result<&'t IsolateSpec, IsolationError> {
    let spec = ctx.project.spec(&job.task).isolate.as_deref();
    spec.ok_or_else(|| {
        failure(FailureClass::Internal, "BUG: the task is not isolated; please report it").into()
    })
}

/// Where a task works, for its record.
pub(super) fn described(ctx: &BuildContext, job: &Job) -> Option<Isolated> {
    let spec = ctx.project.spec(&job.task).isolate.as_deref()?;
    let isolation = ctx.isolation.as_ref()?;
    let lane = spec.lane_of(&job.task.name);
    let name = plain_name(lane);
    let success = job.history.candidate.as_ref().and_then(|candidate| candidate.success.as_ref());
    Some(Isolated {
        base: isolation.base(spec.base.as_deref()).0,
        branch: branch_of(isolation, &name),
        worktree: worktree_of(&name),
        commit: success.map(|success| success.commit.clone()),
        lane: lane.to_owned(),
    })
}

fn branch_of(isolation: &Isolation, name: &str) -> String {
    format!("{BRANCHES}{}/{name}", isolation.run())
}

/// A worktree, relative to the run directory.
fn worktree_of(name: &str) -> String {
    format!(".planexe/worktrees/{name}")
}

/// git in a worktree of ours, and never in what is around it.
fn git_in(root: &Path, excludes: &Path) -> Git {
    Git::at(root).contained().with("core.excludesFile", &excludes.to_string_lossy())
}

fn is_clean(git: &Git) -> Result<bool, GitError> {
    Ok(git.names(&["status", "--porcelain", "-z", "--untracked-files=all", "--no-renames"])?.is_empty())
}

/// What a command in a worktree is given. Its git, too, looks for no repository around the worktree: that would be the
/// user's checkout, if the command removed its `.git`.
fn variables(root: &Path, excludes: &Path) -> Vec<(&'static str, OsString)> {
    let around = root.parent().unwrap_or(root);
    vec![
        ("GIT_CEILING_DIRECTORIES", around.to_owned().into_os_string()),
        (WORKTREE_VARIABLE, root.to_owned().into_os_string()),
        ("GIT_CONFIG_COUNT", "1".into()),
        ("GIT_CONFIG_KEY_0", "core.excludesFile".into()),
        ("GIT_CONFIG_VALUE_0", excludes.to_owned().into_os_string()),
    ]
}

/// That git takes the worktree for one, and for the very one.
fn require_top(git: &Git, root: &Path, name: &str) -> Result<(), IsolationError> {
    let said = git.run(&["rev-parse", "--show-toplevel"])?;
    if said.code == 0 && fs::resolved(Path::new(&said.text())) == fs::resolved(root) {
        return Ok(());
    }
    let why = if said.code == 0 { "git looks elsewhere".to_owned() } else { said.why() };
    let message = Message::new(format!("`{}` is no worktree that git knows: {why}", worktree_of(name)))
        .hint("look at what is in it, move it away, then `planexe build`");
    Err(failure(FailureClass::Git, message).into())
}

/// Submodules that differ between two commits.
fn submodules(git: &Git, one: &str, other: &str) -> Result<Vec<String>, GitError> {
    let raw =
        git.names(&["diff", "--raw", "-z", "--no-renames", "--ignore-submodules=none", one, other, "--"])?;
    let mut names = Vec::new();
    for pair in raw.chunks(2) {
        if let [how, path] = pair
            && how.trim_start_matches(':').split(' ').take(2).any(|mode| mode == "160000")
        {
            names.push(path.clone());
        }
    }
    Ok(names)
}

/// How far a lane is. A task of which it is written down that it succeeded is not at work any more, whatever a kill
/// has left of that.
fn known_lane(ctx: &BuildContext, name: &str) -> Result<Option<Lane>, FsError> {
    let Some(mut lane) = ctx.store.lane(name)? else { return Ok(None) };
    let made = match &lane.at_work {
        Some(at_work) => ctx.store.to_be_merged(&at_work.task)?,
        None => None,
    };
    if let Some(candidate) = made
        && let Some(success) = candidate.success.as_ref().filter(|success| success.lane == lane.lane)
    {
        lane.succeeded(&candidate.task, output_paths(&candidate), &success.commit);
        lane.at_work = None;
    }
    Ok(Some(lane))
}

/// Tasks of a lane that succeeded and are not done yet, but for one.
fn others(ctx: &BuildContext, lane: &str, but: &str) -> Result<Vec<Candidate>, FsError> {
    let mut all = ctx.store.unmerged()?;
    all.retain(|it| it.task != but && it.success.as_ref().is_some_and(|success| success.lane == lane));
    Ok(all)
}

fn output_paths(candidate: &Candidate) -> Vec<String> {
    candidate.outputs.iter().map(|output| output.path.clone()).collect()
}

fn checkpoint_id(task: &str, attempt: u32, decision_id: &str, since: &str) -> String {
    Digest::of(format!("{task}\n{attempt}\n{decision_id}\n{since}").as_bytes()).short().to_owned()
}

/// A message of a commit, with the attempts it holds.
fn message(subject: &str, attempts: &[(&str, u32, &str, &str)]) -> String {
    let mut text = format!("planexe: {subject}\n");
    for (task, attempt, decision_id, checkpoint_id) in attempts {
        text += &format!(
            "\nPlanexe-Task: {}\nPlanexe-Attempt: {attempt}\nPlanexe-Decision-Id: {decision_id}\nPlanexe-Checkpoint-Id: {checkpoint_id}",
            style::clean(task)
        );
    }
    text + "\n"
}

/// git with the user's name on what it commits, or with ours if they have set none.
fn identified(git: &Git) -> Result<Git, GitError> {
    let set =
        |name: &str| git.look(&["config", "--get", name]).map(|value| value.is_some_and(|it| !it.is_empty()));
    if set("user.name")? && set("user.email")? {
        return Ok(git.clone());
    }
    Ok(git.with("user.name", "planexe").with("user.email", "planexe@localhost"))
}

/// The repository within a repository in which a path lies.
fn nested_repository<'p>(top: &Path, path: &'p str) -> Result<Option<&'p str>, FsError> {
    for (at, _) in path.match_indices('/') {
        if fs::if_content(fs::kind(&top.join(&path[..at]).join(".git")))?.flatten().is_some() {
            return Ok(Some(&path[..at]));
        }
    }
    Ok(None)
}

/// Some names for people.
fn named(names: &[String]) -> String {
    const MOST: usize = 5;
    let some: Vec<String> = names.iter().take(MOST).map(|name| format!("`{}`", style::clean(name))).collect();
    match names.len() {
        n if n > MOST => format!("{} and {} more", some.join(", "), n - MOST),
        _ => some.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_in_trailers() {
        let text = message("fix, attempt 2", &[("fix", 2, "d1", "c1"), ("ui", 1, "d2", "c2")]);
        assert!(
            text.starts_with("planexe: fix, attempt 2\n\nPlanexe-Task: fix\nPlanexe-Attempt: 2\n"),
            "{text}"
        );
        assert!(text.ends_with("Planexe-Checkpoint-Id: c2\n"), "{text}");
    }
}
