//! The checkouts of a base branch, the run's own among them: what of the user's must not be touched there when it moves, and
//! how files and index follow it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{BuildContext, failure};
use super::{IsolationError, named, others};
use crate::git::{Git, GitError};
use crate::git_under_way::UnderWay;
use crate::isolation::Place;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, Durability, FileKind};
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::manifest::types::OnMergeFailure;
use planexe_store::Why;
use planexe_store::candidates::{Candidate, Success};
use planexe_store::lanes::Merge;
use planexe_ui::views::shell_word;

/// The checkouts of the base that a task is merged into.
pub(super) struct Checkouts<'a> {
    pub(super) ctx: &'a BuildContext,
    pub(super) place: &'a Place,
    /// What is merged.
    pub(super) success: &'a Success,
    pub(super) on_merge_failure: OnMergeFailure,
}

impl Checkouts<'_> {
    /// The worktrees, the user's among them, in which the base is checked out.
    fn all(&self) -> Result<Vec<Git>, GitError> {
        let all = self.place.git().worktrees()?;
        let of_base = all.into_iter().filter(|(_, branch)| branch.as_deref() == Some(&self.success.base));
        Ok(of_base.filter(|(path, _)| path.is_dir()).map(|(path, _)| Git::at(path)).collect())
    }

    /// That nothing is touched which the user has not committed. Former outputs of the task's own, which nobody committed,
    /// are put aside: they are in history.
    pub(super) fn require_room(&self, candidate: &Candidate, merge: &Merge) -> Result<Aside, IsolationError> {
        let mut aside = Aside::default();
        self.require_no_rebase()?;
        for git in self.all()? {
            if let Some(under_way) = UnderWay::at(&git)? {
                return Err(self
                    .hindered(&git, &format!("{} there", under_way.text()), &under_way.hint())
                    .into());
            }
            let unsolved = git.names(&["diff", "--name-only", "--diff-filter=U", "-z"])?;
            if !unsolved.is_empty() {
                let what = format!("it holds conflicts that are not solved: {}", named(&unsolved));
                let hint = format!("cd {}, solve them and commit", shell_word(&shown_path(git.dir())));
                return Err(self.hindered(&git, &what, &hint).into());
            }
            let added = git.names(&[
                "diff",
                "--name-only",
                "-z",
                "--no-renames",
                "--diff-filter=A",
                &merge.old,
                &merge.new,
                "--",
            ])?;
            let mut in_the_way = Vec::new();
            for name in &added {
                let path = git.dir().join(name);
                if fs::kind(&path)?.is_none() {
                    continue;
                }
                let of_run = self.place.seen_from_run(name);
                let own = candidate.outputs.iter().any(|output| output.path == of_run)
                    && path == self.ctx.store.path(&of_run);
                if own {
                    let outputs: Vec<String> =
                        candidate.outputs.iter().map(|output| output.path.clone()).collect();
                    self.ctx.store.save(&candidate.task, Why::Replaced, &outputs, Durability::Synced)?;
                    let other = fs::temp_beside(&path);
                    fs::rename(&path, &other, Durability::Unsynced)?;
                    aside.0.push((path, other));
                } else {
                    in_the_way.push(name.clone());
                }
            }
            let _ = git.run(&["update-index", "-q", "--refresh"])?;
            let said = git.run(&["read-tree", "-n", "-m", "-u", &merge.old, &merge.new])?;
            if in_the_way.is_empty() && said.code == 0 {
                continue;
            }
            aside.restore()?;
            return Err(match in_the_way.is_empty() {
                false => self.dirty(
                    &git,
                    &format!("{} would be overwritten, which git does not track there", named(&in_the_way)),
                ),
                true => {
                    let touched = git.names(&[
                        "diff",
                        "--name-only",
                        "-z",
                        "--no-renames",
                        &merge.old,
                        &merge.new,
                        "--",
                    ])?;
                    let dirty: BTreeSet<String> = git
                        .names(&[
                            "diff",
                            "--name-only",
                            "-z",
                            "--no-renames",
                            "--diff-filter=d",
                            "HEAD",
                            "--",
                        ])?
                        .into_iter()
                        .collect();
                    let both: Vec<String> = touched.into_iter().filter(|name| dirty.contains(name)).collect();
                    let what = if both.is_empty() {
                        said.why()
                    } else {
                        format!("{} would be overwritten, with changes that are not committed", named(&both))
                    };
                    self.dirty(&git, &what)
                }
            }
            .into());
        }
        Ok(aside)
    }

    /// Former outputs that git will replace in the run's own checkout go to history first, as those do that we replace.
    pub(super) fn keep_former(&self, candidate: &Candidate, merge: &Merge) -> Result<(), IsolationError> {
        let (store, place) = (&self.ctx.store, self.place);
        let mut there = others(self.ctx, &self.success.lane, &candidate.task)?;
        there.push(candidate.clone());
        there.retain(|it| it.outputs.iter().any(|output| store.path(&output.path).is_file()));
        let in_run = |git: &Git| fs::resolved(git.dir()) == place.top;
        if there.is_empty() || !self.all()?.iter().any(in_run) {
            return Ok(());
        }
        let names = place.git().names(&[
            "diff",
            "--name-only",
            "-z",
            "--no-renames",
            &merge.old,
            &merge.new,
            "--",
        ])?;
        let replaced: BTreeSet<String> = names.iter().map(|name| place.seen_from_run(name)).collect();
        for it in there {
            let outputs: Vec<String> = it.outputs.iter().map(|output| output.path.clone()).collect();
            if outputs.iter().any(|output| replaced.contains(output)) {
                store.save(&it.task, Why::Replaced, &outputs, Durability::Synced)?;
            }
        }
        Ok(())
    }

    /// That nobody is rebasing the base, in whatever worktree: there no branch is checked out, and at its end it would
    /// find the base moved.
    fn require_no_rebase(&self) -> Result<(), IsolationError> {
        let detached = self.place.git().worktrees()?.into_iter().filter(|(_, branch)| branch.is_none());
        for (path, _) in detached.filter(|(path, _)| path.is_dir()) {
            let git = Git::at(path);
            let under_way = UnderWay::at(&git)?;
            if let Some(found) = under_way.filter(|it| it.branch.as_deref() == Some(&self.success.base)) {
                return Err(self.hindered(&git, &format!("{} there", found.text()), &found.hint()).into());
            }
        }
        Ok(())
    }

    fn dirty(&self, git: &Git, what: &str) -> Failure {
        self.hindered(git, what, "commit or stash that")
    }

    /// Something of the user's stands in the way in a checkout. `hint`: what they do about it before they resume.
    fn hindered(&self, git: &Git, what: &str, hint: &str) -> Failure {
        let force = if self.on_merge_failure == OnMergeFailure::Abort { " --force" } else { "" };
        let message = Message::new(format!(
            "`{}` is not merged into `{}`, which is checked out in `{}`: {what}",
            self.success.branch,
            self.success.base,
            shown_path(git.dir()),
        ))
        .hint(format!("{hint}; then `planexe resume{force}`"));
        Failure { recoverable: true, ..failure(FailureClass::MergeDirty, message) }
    }

    /// Files and index of the checkouts of the base follow it. What they have of it already stays.
    pub(super) fn update(&self, merge: &Merge) -> Result<(), IsolationError> {
        if merge.old == merge.new {
            return Ok(());
        }
        for git in self.all()? {
            let _ = git.run(&["update-index", "-q", "--refresh"])?;
            let follow = || git.must(&["read-tree", "-m", "-u", &merge.old, &merge.new]);
            let followed = match follow() {
                Err(_) if take_up(&git, merge)? => follow(),
                followed => followed,
            };
            if let Err(error) = followed {
                let message = Message::new(format!(
                    "`{}` holds the merge, but its checkout `{}` could not be brought along: {error}",
                    self.success.base,
                    shown_path(git.dir()),
                ))
                .hint("commit or stash what is in the way, then `planexe resume`");
                return Err(
                    Failure { recoverable: true, ..failure(FailureClass::MergeDirty, message) }.into()
                );
            }
        }
        Ok(())
    }
}

/// Takes up what a git that was cut short, by a full disk or the power, brought into a checkout without noting it in the
/// index: files that hold what they should, and the beginnings of such. True if there was any.
fn take_up(git: &Git, merge: &Merge) -> Result<bool, IsolationError> {
    let (mut found, mut whole) = (false, Vec::new());
    let names = git.names(&[
        "diff",
        "--name-only",
        "-z",
        "--no-renames",
        "--diff-filter=AM",
        &merge.old,
        &merge.new,
        "--",
    ])?;
    for name in names {
        let path = git.dir().join(&name);
        if fs::kind(&path)? != Some(FileKind::File) {
            continue;
        }
        let there = fs::read(&path)?;
        let content = |commit: &str| merged_content(git, Some(&name), commit);
        let Some(new) = content(&merge.new)? else { continue };
        if there == new {
            whole.push(name);
        } else if new.starts_with(&there) && content(&merge.old)?.is_none_or(|old| old != there) {
            fs::remove(&path)?;
            found = true;
        }
    }
    if !whole.is_empty() {
        let names = whole.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
        git.must_feed(&["update-index", "--add", "-z", "--stdin"], names)?;
        found = true;
    }
    Ok(found)
}

/// Former outputs that are out of the way of a merge, and where they were.
#[derive(Default)]
pub(super) struct Aside(Vec<(PathBuf, PathBuf)>);

impl Aside {
    pub(super) fn restore(self) -> Result<(), IsolationError> {
        for (path, other) in &self.0 {
            fs::rename(other, path, Durability::Unsynced)?;
        }
        Ok(())
    }

    pub(super) fn discard(self) -> Result<(), IsolationError> {
        for (_, other) in &self.0 {
            fs::remove(other)?;
        }
        Ok(())
    }
}

/// What a commit holds of a file, as it is checked out; none if it holds none.
pub(super) fn merged_content(
    git: &Git,
    path: Option<&str>,
    commit: &str,
) -> Result<Option<Vec<u8>>, GitError> {
    let Some(path) = path else { return Ok(None) };
    let name = format!("{commit}:{path}");
    match git.look(&["cat-file", "-t", &name])?.as_deref() {
        Some("blob") => git.must(&["cat-file", "--filters", &name]).map(|said| Some(said.out)),
        _ => Ok(None),
    }
}
