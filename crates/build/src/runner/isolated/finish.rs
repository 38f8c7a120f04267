//! The end of an attempt in its worktree: what it left is committed on its branch, and nothing of ours is among it.

use std::collections::HashSet;
use std::path::PathBuf;

use super::super::{BuildContext, Job, failure};
use super::worktree::Worktree;
use super::{IsolationError, checkpoint_id, identified, message, named, submodules};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, Durability};
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_store::commit::Content;

impl Worktree {
    /// The command did its work: what it left is committed on the branch, and nothing of ours is among it. Its outputs as
    /// they are, as temporary files.
    pub(in super::super) fn finish(
        &mut self,
        ctx: &BuildContext,
        job: &Job,
    ) -> Result<Vec<(String, Content)>, IsolationError> {
        self.require_own_top()?;
        self.remove_copied_inputs(job)?;
        self.require_branch()?;
        let unmerged = self.git.names(&["diff", "--name-only", "--diff-filter=U", "-z"])?;
        if !unmerged.is_empty() {
            let message = format!("it left conflicts that are not solved: {}", named(&unmerged));
            return Err(Failure { recoverable: true, ..failure(FailureClass::Git, message) }.into());
        }
        self.git.must(&["add", "-A"])?;
        let merging = self.git.look(&["rev-parse", "-q", "--verify", "MERGE_HEAD"])?.is_some();
        if merging || !self.git.asks(&["diff", "--cached", "--quiet"])? {
            let subject = format!("{}, attempt {}", style::clean(&job.task.name), job.attempt);
            let message = message(
                &subject,
                &[(&job.task.name, job.attempt, &job.prepared.decision_id, &self.checkpoint(job))],
            );
            let git = identified(&self.git)?;
            git.must(&["commit", "-q", "--no-verify", "--no-gpg-sign", "--allow-empty", "-m", &message])?;
        }
        self.require_no_submodules()?;
        if !self.git.is_ancestor(&self.lane.head, "HEAD")? {
            let message = "it rewrote commits that were there before it; what it adds must come after them";
            return Err(failure(FailureClass::Git, message).into());
        }
        let mut outputs = Vec::new();
        for output in &job.task.outputs {
            let folder = ctx.store.planexe_subdir("tmp")?;
            let temp = fs::copy_to_temp(&self.path(output), &folder, Durability::Unsynced)?;
            outputs.push((output.clone(), Content::Temp(temp)));
        }
        Ok(outputs)
    }

    /// The name of the completion, said in the commit before there is one.
    fn checkpoint(&self, job: &Job) -> String {
        let since = self.lane.at_work.as_ref().map_or("", |at_work| &at_work.since_utc);
        checkpoint_id(&job.task.name, job.attempt, &job.prepared.decision_id, since)
    }

    /// What was only put there goes; what the command changed of it can go nowhere, and is named.
    fn remove_copied_inputs(&mut self, job: &Job) -> Result<(), IsolationError> {
        let copied = self.lane.at_work.as_ref().map(|at_work| at_work.copied.clone()).unwrap_or_default();
        let changed: Vec<String> = copied
            .iter()
            .filter(|copied| {
                fs::hash_file(&self.root.join(&copied.path))
                    .map_or(true, |(digest, _)| digest != copied.blake3)
            })
            .map(|copied| copied.path.clone())
            .collect();
        if !changed.is_empty() {
            let them = if changed.len() == 1 { "it" } else { "them" };
            let message = Message::new(format!(
                "it changed {} in its worktree, which the base does not have as it was given it, so the change cannot be merged",
                named(&changed)
            ))
            .hint(format!("commit {them} first, then `planexe build`"));
            return Err(failure(FailureClass::InputChanged, message).into());
        }
        let outputs: HashSet<PathBuf> = job.task.outputs.iter().map(|output| self.path(output)).collect();
        let tracked: Vec<&String> = copied.iter().filter(|it| it.tracked).map(|it| &it.path).collect();
        self.each("update-index", &["--no-skip-worktree"], &tracked)?;
        self.each("checkout", &["-q", "HEAD"], &tracked)?;
        for copied in copied.iter().filter(|copied| !copied.tracked) {
            let path = self.root.join(&copied.path);
            if !outputs.contains(&path) {
                fs::ensure_inside(&self.root, &path)?;
                fs::remove(&path)?;
            }
        }
        if let Some(at_work) = &mut self.lane.at_work {
            at_work.copied.clear();
        }
        Ok(())
    }

    /// Commits made on another branch, or on none, are those of the branch if they come after it.
    fn require_branch(&self) -> Result<(), IsolationError> {
        let on = self.git.branch()?;
        if on.as_deref() == Some(&self.lane.branch) {
            return Ok(());
        }
        let tip = self.git.tip(&self.lane.branch)?.unwrap_or_else(|| self.lane.head.clone());
        let on = on.map_or("no branch".to_owned(), |on| format!("`{}`", style::clean(&on)));
        if !self.git.is_ancestor(&tip, "HEAD")? {
            let message =
                format!("it left its worktree on {on}, without the commits of `{}`", self.lane.branch);
            return Err(failure(FailureClass::Git, message).into());
        }
        let head = self.git.text(&["rev-parse", "HEAD"])?;
        self.git.move_branch_to(&self.lane.branch, &head)?;
        self.git.must(&["symbolic-ref", "HEAD", &format!("refs/heads/{}", self.lane.branch)])?;
        Ok(())
    }

    /// Repositories within the repository are not merged by us: what they point to may be nowhere else.
    fn require_no_submodules(&self) -> Result<(), IsolationError> {
        let mut names = submodules(&self.git, &self.lane.head, "HEAD")?;
        names.extend(self.git.names(&["diff", "--name-only", "-z", "--ignore-submodules=none"])?);
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let message = Message::new(format!(
            "it changed {} of the repository, which are not merged: {}",
            if names.len() == 1 { "a submodule" } else { "submodules" },
            named(&names)
        ))
        .hint("change a submodule by hand, and commit it on the base");
        Err(failure(FailureClass::Submodule, message).into())
    }
}
