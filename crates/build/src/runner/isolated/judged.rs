//! The worktree of a task while its evaluator looks at what it did there.

use std::ffi::OsString;
use std::path::PathBuf;

use super::super::{BuildContext, Job, failure};
use super::{IsolationError, git_in, is_clean, isolation, require_top, spec_of, variables, worktree_of};
use crate::git::Git;
use crate::isolation::plain_name;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs;
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_ui::views::shell_word;

/// The worktree of a task that made what its evaluator judges, all of it committed.
pub(in super::super) struct JudgedWorktree {
    git: Git,
    root: PathBuf,
    /// Where the run is in it.
    pub(in super::super) run: PathBuf,
    excludes: PathBuf,
    head: String,
    /// Nothing was changed there since; what a person changed is theirs.
    clean: bool,
}

impl JudgedWorktree {
    /// The worktree as the task left it; without it nothing can be said of what it did.
    pub(in super::super) fn open(ctx: &BuildContext, job: &Job) -> Result<JudgedWorktree, IsolationError> {
        let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
        let lane = spec.lane_of(&job.task.name);
        let name = plain_name(lane);
        let root = ctx.store.run_dir().join(worktree_of(&name));
        if fs::kind(&root.join(".git"))?.is_none() {
            let gone =
                format!("its worktree `{}` is gone, and what it did cannot be judged", worktree_of(&name));
            let again = format!("`planexe retry {}` starts it over", shell_word(&job.task.name));
            let message = Message::new(gone).hint(again);
            return Err(
                Failure { recoverable: true, ..failure(FailureClass::SessionVanished, message) }.into()
            );
        }
        let excludes = ctx.store.lane_excludes(lane);
        let git = git_in(&root, &excludes);
        require_top(&git, &root, &name)?;
        let head = git.text(&["rev-parse", "HEAD"])?;
        let clean = is_clean(&git)?;
        Ok(JudgedWorktree { git, run: root.join(&isolation.place.prefix), root, excludes, head, clean })
    }

    /// Variables for the evaluator, those that the task's command had.
    pub(in super::super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        variables(&self.root, &self.excludes)
    }

    /// What an evaluator changes is no work of the task's: what is merged is what was judged. Files that git leaves alone
    /// stay, such as what a compiler made.
    pub(in super::super) fn restore(&self) -> Result<(), IsolationError> {
        let head = self.git.look(&["rev-parse", "HEAD"])?;
        if !self.clean || head.as_deref() == Some(&self.head) && is_clean(&self.git)? {
            return Ok(());
        }
        self.git.must(&["reset", "-q", "--hard", &self.head])?;
        self.git.must(&["clean", "-q", "-f", "-d"])?;
        Ok(())
    }
}
