//! The commits of a lane reach its base, and then its tasks are done.
//!
//! The merge is computed beside all worktrees; the base moves only from where it was found, and a checkout of it is
//! brought along only if nothing of the user's is touched by that. All of it can be done again after a kill.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use super::super::{Made, Outcome, Stage, commit_attempt};
use super::checkouts::{Checkouts, merged_content};
use super::saving::remove_worktree;
use super::{
    BuildContext, IsolationError, Job, Worktree, failure, git_in, identified, isolation, known_lane, message,
    named, others, spec_of, submodules, worktree_of,
};
use crate::git::Git;
use crate::isolation::{Isolation, plain_name};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs;
use planexe_base::message::Message;
use planexe_base::record::{By, Digest, Failure, SCHEMA};
use planexe_base::style;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::manifest::types::OnMergeFailure;
use planexe_pipeline::project::IsolateSpec;
use planexe_store::candidates::{Candidate, Success};
use planexe_store::commit::Content;
use planexe_store::lanes::{Lane, Merge};
use planexe_ui::views::shell_word;

/// The base moves under our hands so often at most.
const TRIES: u32 = 20;
/// A lane that is merged.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The commit on the base.
    pub commit: String,
    /// The files of the run that it changed.
    pub changed: BTreeSet<String>,
}

/// Merges the lane of a task that succeeded, if that was not done yet.
pub(in super::super) fn run(ctx: &BuildContext, job: &Job) -> Outcome {
    job.live.enter(Stage::Saving);
    match try_run(ctx, job) {
        Ok(merged) => Outcome::Merged(Box::new(merged)),
        Err(IsolationError::Fs(error)) => Outcome::Broken(error),
        Err(IsolationError::Failed(failed))
            if matches!(failed.class, FailureClass::MergeConflict | FailureClass::MergeDirty) =>
        {
            match spec_of(ctx, job).map_or(OnMergeFailure::Pause, |spec| spec.on_merge_failure) {
                OnMergeFailure::Pause => Outcome::Unmerged(failed),
                OnMergeFailure::Abort => Outcome::Failed(failed),
            }
        }
        Err(IsolationError::Failed(failed)) => Outcome::Failed(failed),
    }
}

fn try_run(ctx: &BuildContext, job: &Job) -> Result<Merged, IsolationError> {
    let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
    let candidate = job.history.candidate.as_deref();
    let Some((candidate, success)) = candidate.and_then(|it| Some((it, it.success.as_ref()?))) else {
        return Err(
            failure(FailureClass::Internal, "BUG: there is nothing to merge; please report it").into()
        );
    };
    let _gate = isolation.gate()?;
    let lane = known_lane(ctx, &success.lane)?.filter(|lane| lane.branch == success.branch);
    let lane = lane.unwrap_or_else(|| Lane {
        schema: SCHEMA,
        lane: success.lane.clone(),
        name: plain_name(&success.lane),
        base: success.base.clone(),
        branch: success.branch.clone(),
        ..Lane::default()
    });
    let mut merging = Merging { ctx, job, spec, isolation, git: isolation.place.git(), success, lane };
    merging.require_nothing_former()?;
    let merge = merging.merge(candidate)?;
    isolation.moved(&ctx.store, &success.base, &merge.new)?;
    merging.clean_up()?;
    let names = match merge.old == merge.new {
        true => Vec::new(),
        false => {
            merging.git.names(&["diff", "--name-only", "-z", "--no-renames", &merge.old, &merge.new, "--"])?
        }
    };
    let of_run = |name: &String| isolation.place.seen_from_run(name);
    Ok(Merged { commit: merge.new, changed: names.iter().map(of_run).collect() })
}

/// A merge under way.
struct Merging<'a> {
    ctx: &'a BuildContext,
    job: &'a Job,
    spec: &'a IsolateSpec,
    isolation: &'a Isolation,
    git: Git,
    success: &'a Success,
    lane: Lane,
}

impl Merging<'_> {
    /// What tasks of the lane committed that are to be made again is not merged with the rest.
    fn require_nothing_former(&self) -> Result<(), IsolationError> {
        let (worktree, _) = Worktree::of_lane(self.ctx, self.lane.clone())?;
        let former = worktree.former(self.ctx, None)?;
        let Some(first) = former.first() else { return Ok(()) };
        let message = Message::new(format!(
            "its lane holds commits of `{}`, which is to be made again",
            style::clean(&first.task)
        ))
        .hint("`planexe build` makes it, and merges all of the lane");
        Err(failure(FailureClass::MergeDirty, message).into())
    }

    fn merge(&mut self, candidate: &Candidate) -> Result<Merge, IsolationError> {
        let success = self.success;
        let Some(mut old) = self.git.tip(&success.base)? else {
            let hint =
                format!("git branch {} brings it back, at a commit of yours", shell_word(&success.base));
            let message = Message::new(format!("the base branch `{}` is gone", success.base)).hint(hint);
            return Err(Failure { recoverable: true, ..failure(FailureClass::Git, message) }.into());
        };
        // What another task of the lane has begun since is not merged with it.
        let begun = self.lane.at_work.is_some();
        let tip = match begun {
            true => Some(self.lane.head.clone()),
            false => self.git.tip(&success.branch)?,
        };
        let is_in = |commit: &str| self.git.is_ancestor(commit, &old);
        if is_in(&success.commit)? && tip.as_deref().map_or(Ok(true), is_in)? {
            // By us, before a kill, or by a person; or there was nothing to merge.
            let merge = self.lane.merge.clone().unwrap_or(Merge { old: old.clone(), new: old.clone() });
            if merge.new == old {
                self.checkouts().update(&merge)?;
            }
            return Ok(if self.git.is_ancestor(&merge.new, &old)? {
                merge
            } else {
                Merge { old: old.clone(), new: old }
            });
        }
        let tip = tip.unwrap_or_else(|| success.commit.clone());
        self.require_start_in_base(&old, &tip)?;
        if !begun {
            self.require_clean_worktree()?;
        }
        let start = self.git.text(&["merge-base", &old, &tip])?;
        let inner = submodules(&self.git, &start, &tip)?;
        if !inner.is_empty() {
            let message = Message::new(format!("submodules are not merged: {}", named(&inner)))
                .hint("change them by hand, and commit that on the base");
            return Err(failure(FailureClass::Submodule, message).into());
        }
        for _ in 0..TRIES {
            let tree = self.tree_of(&old, &tip)?;
            let new = self.commit(&tree, &old, &tip)?;
            let merge = Merge { old: old.clone(), new: new.clone() };
            let aside = self.checkouts().require_room(candidate, &merge)?;
            self.lane.merge = Some(merge.clone());
            self.ctx.store.write_lane(&self.lane)?;
            self.checkouts().keep_former(candidate, &merge)?;
            let why = format!("planexe: {} merged", self.success.branch);
            if self.git.move_branch(&success.base, &new, &old, &why)? {
                aside.discard()?;
                self.checkouts().update(&merge)?;
                return Ok(merge);
            }
            aside.restore()?;
            old = self.git.tip(&success.base)?.unwrap_or(old);
        }
        let message = Message::new(format!("the base branch `{}` never stands still", success.base))
            .hint("`planexe build` tries again");
        Err(Failure { recoverable: true, ..failure(FailureClass::Git, message) }.into())
    }

    /// The base may have been rewritten since the lane began: what was taken out of it does not come back with the lane.
    fn require_start_in_base(&self, old: &str, tip: &str) -> Result<(), IsolationError> {
        let (start, base) = (&self.lane.start, &self.success.base);
        if start.is_empty() || self.git.is_ancestor(start, old)? || !self.git.is_ancestor(start, tip)? {
            return Ok(());
        }
        let was = &start[..start.len().min(12)];
        let task = &self.job.task.name;
        let mut tasks: Vec<String> =
            others(self.ctx, &self.lane.lane, task)?.into_iter().map(|it| shell_word(&it.task)).collect();
        tasks.push(shell_word(task));
        tasks.sort_unstable();
        let message = Message::new(format!(
            "`{}` began with the commit {was}, which `{base}` does not hold any more: to merge it would bring that back",
            self.success.branch
        ))
        .hint(format!("`planexe retry {}`, then `planexe build`, makes it again from `{base}` as it is now", tasks.join(" ")))
        .hint(format!(
            "or cd {} && git rebase --onto {} {was}; then `planexe resume`",
            shell_word(&shown_path(&self.worktree())),
            shell_word(base)
        ));
        Err(failure(FailureClass::MergeConflict, message).into())
    }

    fn checkouts(&self) -> Checkouts<'_> {
        Checkouts {
            ctx: self.ctx,
            place: &self.isolation.place,
            success: self.success,
            on_merge_failure: self.spec.on_merge_failure,
        }
    }

    fn worktree(&self) -> PathBuf {
        self.ctx.store.run_dir().join(worktree_of(&self.lane.name))
    }

    fn git_there(&self) -> Result<Option<Git>, IsolationError> {
        let root = self.worktree();
        let there = fs::kind(&root.join(".git"))?.is_some();
        Ok(there.then(|| git_in(&root, &self.ctx.store.lane_excludes(&self.lane.lane))))
    }

    /// What a person solves a conflict with is committed before it is merged.
    fn require_clean_worktree(&self) -> Result<(), IsolationError> {
        let Some(git) = self.git_there()? else { return Ok(()) };
        let changed = git.names(&["status", "--porcelain", "-z", "--untracked-files=all", "--no-renames"])?;
        if changed.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = changed.iter().filter_map(|line| line.get(3..).map(str::to_owned)).collect();
        let message = Message::new(format!(
            "its worktree `{}` holds changes that are not committed: {}",
            worktree_of(&self.lane.name),
            named(&names)
        ))
        .hint(format!("cd {} && git add -A && git commit", shell_word(&shown_path(&self.worktree()))))
        .hint("then `planexe resume`");
        Err(failure(FailureClass::MergeDirty, message).into())
    }

    /// The tree of both, if git can make it by itself. The base is not touched.
    fn tree_of(&self, old: &str, tip: &str) -> Result<String, IsolationError> {
        if !self.isolation.merges_trees {
            return self.tree_in_worktree(old, tip);
        }
        let said =
            self.git.run(&["merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", old, tip])?;
        let names = said.out.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let mut names = names.map(|name| String::from_utf8_lossy(name).into_owned());
        match (said.code, names.next()) {
            (0, Some(tree)) => Ok(tree),
            (1, Some(_)) => Err(self.conflict(&names.collect::<Vec<_>>()).into()),
            _ => Err(failure(
                FailureClass::Git,
                format!("git cannot merge `{}`: {}", self.success.branch, said.why()),
            )
            .into()),
        }
    }

    /// The same with a git that needs a worktree for it: the lane's own, which is clean.
    fn tree_in_worktree(&self, old: &str, tip: &str) -> Result<String, IsolationError> {
        let Some(git) = self.git_there()? else {
            let message = Message::new(format!(
                "its worktree `{}` is gone, and this git cannot merge without one",
                worktree_of(&self.lane.name)
            ))
            .hint("git 2.38 and later can");
            return Err(failure(FailureClass::Git, message).into());
        };
        let git = identified(&git)?;
        let said = git.run(&["merge", "-q", "--no-verify", "--no-edit", "--no-ff", "--no-commit", old])?;
        let unmerged = git.names(&["diff", "--name-only", "--diff-filter=U", "-z"])?;
        let tree = if unmerged.is_empty() { git.text(&["write-tree"])? } else { String::new() };
        let merging = git.look(&["rev-parse", "-q", "--verify", "MERGE_HEAD"])?.is_some();
        if merging {
            git.must(&["merge", "--abort"])?;
        }
        match (unmerged.is_empty(), merging || said.code == 0) {
            (false, _) => Err(self.conflict(&unmerged).into()),
            (true, true) => Ok(tree),
            (true, false) => Err(failure(
                FailureClass::Git,
                format!("git cannot merge `{old}` into `{tip}`: {}", said.why()),
            )
            .into()),
        }
    }

    fn conflict(&self, names: &[String]) -> Failure {
        let (branch, base) = (&self.success.branch, &self.success.base);
        let place = match self.worktree().exists() {
            true => format!("cd {}", shell_word(&shown_path(&self.worktree()))),
            false => format!("git switch {branch}"),
        };
        let force = if self.spec.on_merge_failure == OnMergeFailure::Abort { " --force" } else { "" };
        let message = Message::new(format!("`{branch}` conflicts with `{base}` in {}", named(names)))
            .hint(format!(
                "{place} && git merge {}, solve it, git commit -a; then `planexe resume{force}`",
                shell_word(base)
            ))
            .hint(format!("or `planexe retry {}` makes it again", shell_word(&self.job.task.name)));
        Failure { recoverable: true, ..failure(FailureClass::MergeConflict, message) }
    }

    /// The commit of the merge, with the attempts that are in it.
    fn commit(&self, tree: &str, old: &str, tip: &str) -> Result<String, IsolationError> {
        let (job, success) = (self.job, self.success);
        let mut attempts = vec![(
            job.task.name.clone(),
            job.attempt,
            success.decision_id.clone(),
            success.checkpoint_id.clone(),
        )];
        for candidate in others(self.ctx, &success.lane, &job.task.name)? {
            if let Some(other) = candidate.success {
                attempts.push((candidate.task, candidate.attempt, other.decision_id, other.checkpoint_id));
            }
        }
        let attempts: Vec<(&str, u32, &str, &str)> = attempts
            .iter()
            .map(|(task, n, decision, checkpoint)| (&**task, *n, &**decision, &**checkpoint))
            .collect();
        let subject = format!("merge {} into {}", style::clean(&success.lane), style::clean(&success.base));
        let message = message(&subject, &attempts);
        Ok(identified(&self.git)?.text(&["commit-tree", tree, "-p", old, "-p", tip, "-m", &message])?)
    }

    /// Nothing of the lane is left in git: all of it is in the base. Whatever is not stays.
    fn clean_up(&self) -> Result<(), IsolationError> {
        if self.lane.at_work.is_some() {
            return Ok(());
        }
        if let Some(git) = self.git_there()? {
            let left =
                git.names(&["status", "--porcelain", "-z", "--untracked-files=all", "--no-renames"])?;
            if !left.is_empty() {
                let names: Vec<String> =
                    left.iter().filter_map(|line| line.get(3..).map(str::to_owned)).collect();
                let message = format!(
                    "its worktree `{}` is kept: it holds {}, which came after it was merged",
                    worktree_of(&self.lane.name),
                    named(&names)
                );
                self.ctx.note(Some(&self.job.task.name), true, message);
                return Ok(());
            }
            remove_worktree(&self.git, &self.worktree(), true)?;
        } else {
            remove_worktree(&self.git, &self.worktree(), false)?;
        }
        Ok(self.git.delete_branch(&self.success.branch)?)
    }
}

/// The task is done: its outputs are in the run, as they were merged, and its record says so.
pub(in super::super) fn land(ctx: &BuildContext, job: &Job, merged: &Merged) -> Outcome {
    match try_land(ctx, job, merged) {
        Ok(outcome) => outcome,
        Err(error) => error.into_outcome().unwrap_or_else(Outcome::Broken),
    }
}

fn try_land(ctx: &BuildContext, job: &Job, merged: &Merged) -> Result<Outcome, IsolationError> {
    job.live.enter(Stage::Saving);
    let candidate = job.history.candidate.as_deref();
    let Some((candidate, success)) = candidate.and_then(|it| Some((it, it.success.as_ref()?))) else {
        return Err(failure(
            FailureClass::Internal,
            "BUG: there is nothing to be done with; please report it",
        )
        .into());
    };
    let place = &isolation(ctx)?.place;
    let mut outputs: Vec<(String, Content)> = Vec::new();
    let mut kept: HashMap<String, Content> = candidate.contents(&ctx.store)?.into_iter().collect();
    for output in &candidate.outputs {
        let own = kept.remove(&output.path);
        let content =
            match merged_content(&place.git(), place.in_repository(&output.path).as_deref(), &merged.commit)?
            {
                Some(bytes) => {
                    if let Some(Content::Temp(temp)) = own {
                        fs::remove(&temp)?;
                    }
                    let path = ctx.store.path(&output.path);
                    let there = fs::optional(fs::hash_file(&path))?.map(|(digest, _)| digest);
                    match there == Some(Digest::of(&bytes)) {
                        true => Content::InPlace { former: former_of(job, &output.path) },
                        false => Content::Bytes(bytes),
                    }
                }
                None => match own {
                    Some(content) => content,
                    None => continue,
                },
            };
        outputs.push((output.path.clone(), content));
    }
    let made = Made {
        with: candidate.made_with.clone(),
        call: candidate.call.clone(),
        sample: candidate.sample,
        imported: None,
        reused: candidate.reused,
        attempt: None,
        by: if candidate.failure.is_some() { Some(By::Rescue) } else { candidate.by },
        by_user: candidate.by_user.clone(),
        was_there: false,
        warning: None,
        merged: Some((merged.commit.clone(), Box::new(success.clone()), holds_for(job, success, merged))),
    };
    let outcome = commit_attempt(ctx, job, outputs, made);
    if let Outcome::Done(_) = outcome {
        ctx.store.remove_candidate(&job.task.name)?;
        // Others of the lane have to know yet what was merged.
        let at_work = known_lane(ctx, &success.lane)?.is_some_and(|lane| lane.at_work.is_some());
        if !at_work && others(ctx, &success.lane, &job.task.name)?.is_empty() {
            ctx.store.remove_lane(&success.lane)?;
        }
    }
    Ok(outcome)
}

/// Whether what the task would be made from now is what it was made from, but for what it changed of that itself.
fn holds_for(job: &Job, success: &Success, merged: &Merged) -> bool {
    let then: HashMap<&str, &Digest> =
        success.inputs.iter().map(|it| (it.path.as_str(), &it.blake3)).collect();
    let records = job.prepared.records();
    let now: HashMap<&str, &Digest> = records.iter().map(|it| (it.path.as_str(), &it.blake3)).collect();
    let paths: BTreeSet<&str> = then.keys().chain(now.keys()).copied().collect();
    let same_files =
        paths.iter().all(|path| then.get(path) == now.get(path) || merged.changed.contains(*path));
    let parts = job.prepared.fingerprint.parts();
    let of_files = |part: &str| part.starts_with("input.");
    let same = |part: &String| of_files(part) || success.parts.get(part) == parts.get(part);
    same_files && parts.keys().all(same) && success.parts.keys().all(same)
}

fn former_of(job: &Job, output: &str) -> Option<Digest> {
    let done = job.former.as_deref()?;
    done.outputs.iter().find(|it| it.path == output).map(|it| it.blake3.clone())
}
