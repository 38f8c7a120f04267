//! The worktree of an attempt: taken up as it was left or begun afresh, with the inputs it does not have by itself.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::super::{BuildContext, Job, LeftOff, failure};
use super::{
    IsolationError, branch_of, git_in, isolation, known_lane, nested_repository, others, require_top,
    spec_of, variables, worktree_of,
};
use crate::git::{Git, GitError};
use crate::isolation::plain_name;
use planexe_base::clock;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, Durability, FileKind};
use planexe_base::message::Message;
use planexe_base::record::{Digest, Failure, SCHEMA, State};
use planexe_store::lanes::{AtWork, Copied, Lane};
use planexe_ui::views::shell_word;

/// Arguments of one git are so many paths at most.
const PATHS: usize = 500;

/// A place to work in: a worktree with a task's inputs.
pub(in super::super) struct Worktree {
    /// git in it.
    pub(super) git: Git,
    /// The top of the worktree.
    pub(in super::super) root: PathBuf,
    /// Where the run is in it.
    pub(in super::super) run: PathBuf,
    /// Patterns of what git leaves alone in it.
    pub(super) excludes: PathBuf,
    pub(super) lane: Lane,
}

impl Worktree {
    /// A worktree for an attempt: the one in which an earlier one was interrupted, as it was left, or a fresh one.
    pub(in super::super) fn open(ctx: &BuildContext, job: &Job) -> Result<Worktree, IsolationError> {
        let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
        let task = &job.task.name;
        let lane_name = spec.lane_of(task);
        let name = plain_name(lane_name);
        let (base, tip) = isolation.base(spec.base.as_deref());
        let gate = isolation.gate()?;
        let known = known_lane(ctx, lane_name)?;
        let root = ctx.store.run_dir().join(worktree_of(&name));
        let there = fs::kind(&root.join(".git"))?.is_some();
        let at_work = known.as_ref().and_then(|lane| lane.at_work.as_ref()).filter(|at| at.task == *task);
        let interrupted = matches!(job.history.left, Some(LeftOff::In(State::Running | State::Stopped, _)));
        let goes_on = at_work.is_some_and(|at| !at.failed) && (interrupted || job.history.round > 1);
        if let (Some(at_work), true, false) = (at_work, goes_on, there) {
            return Err(vanished(task, at_work, &worktree_of(&name)).into());
        }
        let first = known.is_none();
        let same = at_work.is_some_and(|at| at.decision_id == job.prepared.decision_id);
        let lane = known.unwrap_or_else(|| Lane {
            schema: SCHEMA,
            lane: lane_name.to_owned(),
            branch: branch_of(isolation, &name),
            base,
            start: tip.clone(),
            head: tip.clone(),
            name,
            ..Lane::default()
        });
        let (mut worktree, there) = Worktree::of_lane(ctx, lane)?;
        if goes_on && same && worktree.began_in_base(ctx, task)? {
            if interrupted {
                let message = format!(
                    "continues in its worktree `{}`, as it was left",
                    worktree_of(&worktree.lane.name)
                );
                ctx.note(Some(task), false, message);
            }
        } else {
            // What begins anew begins with the base as it is now: it may have been what it came to grief on.
            let now = if first { None } else { isolation.place.git().tip(&worktree.lane.base)? };
            worktree.begin_afresh(ctx, job, &now.unwrap_or(tip), there)?;
        }
        drop(gate);
        worktree.require_own_top()?;
        worktree.copy_inputs(ctx, job)?;
        fs::make_dirs_inside(&worktree.root, &worktree.run.join("x"), Durability::Unsynced)?;
        Ok(worktree)
    }

    /// Whether the base holds the commit that the lane began with: what was taken out of it since does not come back with
    /// the lane.
    fn began_in_base(&self, ctx: &BuildContext, task: &str) -> Result<bool, IsolationError> {
        let (start, base) = (&self.lane.start, &self.lane.base);
        let git = isolation(ctx)?.place.git();
        let Some(tip) = git.tip(base)? else { return Ok(true) };
        if git.is_ancestor(start, &tip)? {
            return Ok(true);
        }
        let was = &start[..start.len().min(12)];
        let message = format!("it began with the commit {was}, which `{base}` does not hold any more");
        ctx.note(Some(task), true, message);
        Ok(false)
    }

    /// The worktree of a lane as it is, and whether it is there.
    pub(super) fn of_lane(ctx: &BuildContext, lane: Lane) -> Result<(Worktree, bool), IsolationError> {
        let root = ctx.store.run_dir().join(worktree_of(&lane.name));
        let there = fs::kind(&root.join(".git"))?.is_some();
        let excludes = ctx.store.lane_excludes(&lane.lane);
        let run = root.join(&isolation(ctx)?.place.prefix);
        Ok((Worktree { git: git_in(&root, &excludes), root, run, excludes, lane }, there))
    }

    /// Takes the worktree of a task whose rounds are over back to the commit of its best one. What later rounds did is
    /// stashed.
    pub(super) fn take_back(ctx: &BuildContext, job: &Job, commit: &str) -> Result<(), IsolationError> {
        let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
        let lane_name = spec.lane_of(&job.task.name);
        let Some(mut lane) = known_lane(ctx, lane_name)? else { return Ok(()) };
        let gate = isolation.gate()?;
        lane.succeeded(&job.task.name, job.task.outputs.clone(), commit);
        let (mut worktree, there) = Worktree::of_lane(ctx, lane)?;
        if let Some(saved) = worktree.stash(ctx, &job.task, there)? {
            let message = format!("what its later rounds did is on the branch `{saved}`");
            ctx.note(Some(&job.task.name), false, message);
        }
        if there {
            worktree.reset()?;
        } else {
            isolation.place.git().move_branch_to(&worktree.lane.branch, commit)?;
        }
        drop(gate);
        Ok(())
    }

    /// Work of another attempt is stashed, and the worktree is as its lane's last success left it, or the base.
    fn begin_afresh(
        &mut self,
        ctx: &BuildContext,
        job: &Job,
        tip: &str,
        there: bool,
    ) -> Result<(), IsolationError> {
        let isolation = isolation(ctx)?;
        let top = isolation.place.git();
        self.write_excludes(ctx, &[])?;
        let former = self.former(ctx, Some(&job.task.name))?;
        self.begin_readers_anew(ctx, &job.task.name, &former)?;
        let keeps = !others(ctx, &self.lane.lane, &job.task.name)?.is_empty()
            && top.tip(&self.lane.branch)?.is_some();
        if !keeps {
            self.lane.head.clone_from(&self.lane.start);
            self.lane.spans.clear();
        }
        if let Some(saved) = self.stash(ctx, &job.task, there)? {
            let message = format!("what the last attempt left is on the branch `{saved}`; it starts over");
            ctx.note(Some(&job.task.name), false, message);
        }
        if keeps && there {
            self.reset()?;
        } else {
            self.remove_worktree(isolation, there)?;
            let folder = ctx.store.planexe_subdir("worktrees")?;
            let temps = ctx.store.planexe_subdir("tmp")?;
            fs::write_via(&temps, &folder.join(".gitignore"), b"*\n", Durability::Unsynced)?;
            let root = self.root.as_os_str().to_owned();
            let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
            if keeps {
                top.move_branch_to(&self.lane.branch, &self.lane.head)?;
                top.must(
                    &[words(&["worktree", "add", "-q"]), vec![root], words(&[&self.lane.branch])].concat(),
                )?;
            } else {
                top.delete_branch(&self.lane.branch)?;
                (self.lane.start, self.lane.head) = (tip.to_owned(), tip.to_owned());
                let branch = words(&["worktree", "add", "-q", "--no-track", "-b", &self.lane.branch]);
                top.must(&[branch, vec![root], words(&[tip])].concat())?;
            }
        }
        (self.lane.at_work, self.lane.merge) = (None, None);
        if keeps && !former.is_empty() {
            self.take_out(ctx, &former)?;
        }
        ctx.store.write_lane(&self.lane)?;
        Ok(())
    }

    pub(super) fn require_own_top(&self) -> Result<(), IsolationError> {
        require_top(&self.git, &self.root, &self.lane.name)
    }

    /// Inputs that the worktree does not have as they are in the run: outputs of tasks before, and what is not committed.
    fn copy_inputs(&mut self, ctx: &BuildContext, job: &Job) -> Result<(), IsolationError> {
        let place = &isolation(ctx)?.place;
        let mut at_work = self.lane.at_work.take().unwrap_or_default();
        let mut missing: Vec<(String, String, Digest)> = Vec::new();
        let copied = at_work.copied.iter().filter(|copied| copied.tracked);
        let hidden = self.hidden(copied.map(|copied| copied.path.as_str()))?;
        for record in job.prepared.records() {
            let Some(path) = place.in_repository(&record.path) else { continue };
            let target = self.root.join(&path);
            let there = match fs::kind(&target) {
                Ok(kind) => kind == Some(FileKind::File),
                // Below a link of the repository's own, as it is in the run.
                Err(_) => fs::if_content(fs::linked::signature(&target))?.flatten().is_some(),
            };
            let now = if there { fs::if_content(fs::linked::hash_file(&target))? } else { None };
            let same = now.is_some_and(|(digest, _)| digest == record.blake3);
            // What an attempt before took back at its end, before its evaluator was asked, is the file of the commit again.
            let is_here =
                |copied: &Copied| copied.path == path && (!copied.tracked || hidden.contains(&path));
            let brought = there && at_work.copied.iter().any(is_here);
            if same || brought {
                continue;
            }
            if let Some(inner) = nested_repository(&place.top, &path)? {
                let message = format!(
                    "input `{}` lies in `{inner}`, a repository of its own, which a worktree has no files of",
                    record.path
                );
                return Err(failure(FailureClass::Submodule, message).into());
            }
            missing.push((record.path, path, record.blake3));
        }
        let tracked = self.tracked(missing.iter().map(|(_, path, _)| path.as_str()))?;
        for (_, path, blake3) in &missing {
            at_work.copied.retain(|copied| copied.path != *path);
            let tracked = tracked.contains(path);
            at_work.copied.push(Copied { path: path.clone(), blake3: blake3.clone(), tracked });
        }
        self.write_excludes(ctx, &at_work.copied)?;
        for (input, path, blake3) in &missing {
            let target = self.root.join(path);
            fs::make_dirs_inside(&self.root, &target, Durability::Unsynced)?;
            let from = fs::resolved(&ctx.project.input(input));
            let temp = fs::copy_to_temp(&from, &ctx.store.planexe_subdir("tmp")?, Durability::Unsynced)?;
            if fs::hash_file(&temp)?.0 != *blake3 {
                fs::remove(&temp)?;
                return Err(changed_meanwhile(input).into());
            }
            fs::rename(&temp, &target, Durability::Unsynced)?;
        }
        let hidden: Vec<&String> =
            at_work.copied.iter().filter(|copied| copied.tracked).map(|copied| &copied.path).collect();
        self.each("update-index", &["--skip-worktree"], &hidden)?;
        at_work.task.clone_from(&job.task.name);
        at_work.decision_id.clone_from(&job.prepared.decision_id);
        (at_work.attempt, at_work.failed) = (job.attempt, false);
        if at_work.since_utc.is_empty() {
            at_work.since_utc = clock::now_utc();
        }
        self.lane.at_work = Some(at_work);
        ctx.store.write_lane(&self.lane)?;
        Ok(())
    }

    /// Those of some paths that the index of the worktree has.
    fn tracked<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Result<HashSet<String>, GitError> {
        Ok(self.listed("-z", paths)?.into_iter().collect())
    }

    /// Those of some paths that git is told to leave alone, since they are not as committed.
    fn hidden<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Result<HashSet<String>, GitError> {
        let listed = self.listed("-vz", paths)?;
        Ok(listed.iter().filter_map(|line| line.strip_prefix("S ")).map(str::to_owned).collect())
    }

    fn listed<'p>(
        &self,
        options: &str,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<Vec<String>, GitError> {
        let paths: Vec<String> = paths.map(|path| format!(":(top,literal){path}")).collect();
        let mut all = Vec::new();
        for some in paths.chunks(PATHS) {
            let words = ["ls-files", options, "--full-name", "--"].into_iter().map(str::to_owned);
            all.extend(self.git.names(&words.chain(some.iter().cloned()).collect::<Vec<_>>())?);
        }
        Ok(all)
    }

    /// A command for some paths.
    pub(super) fn each(&self, command: &str, options: &[&str], paths: &[&String]) -> Result<(), GitError> {
        for some in paths.chunks(PATHS) {
            let words = [command].into_iter().chain(options.iter().copied()).chain(["--"]);
            self.git.must(&words.chain(some.iter().map(|path| path.as_str())).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Has git leave alone what was put into the worktree, beside what the user has it leave alone anyway.
    fn write_excludes(&self, ctx: &BuildContext, copied: &[Copied]) -> Result<(), IsolationError> {
        let mut patterns = match user_excludes(&isolation(ctx)?.place.git())? {
            Some(path) => fs::if_content(fs::read(&path))?.unwrap_or_default(),
            None => Vec::new(),
        };
        patterns.extend_from_slice(format!("\n{0}*\n.{0}*\n", fs::TEMP_PREFIX).as_bytes());
        for copied in copied.iter().filter(|copied| !copied.tracked) {
            patterns.extend_from_slice(format!("{}\n", as_pattern(&copied.path)).as_bytes());
        }
        ctx.store.write_lane_excludes(&self.lane.lane, &patterns)?;
        Ok(())
    }

    /// Variables for the command: where the worktree is, and what git is to leave alone in it.
    pub(in super::super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        variables(&self.root, &self.excludes)
    }

    /// The files an output and inputs are in the worktree.
    pub(in super::super) fn path(&self, path: &str) -> PathBuf {
        self.run.join(path)
    }
}

/// The file of patterns that git leaves alone for its user.
#[expect(clippy::disallowed_methods, reason = "git looks there, and says nowhere that it does")]
fn user_excludes(git: &Git) -> Result<Option<PathBuf>, GitError> {
    if let Some(path) = git.look(&["config", "--type=path", "--get", "core.excludesFile"])? {
        return Ok(Some(PathBuf::from(path)));
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    Ok(config.map(|config| config.join("git/ignore")))
}

/// A pattern that matches one file alone.
fn as_pattern(path: &str) -> String {
    let mut pattern = String::from("/");
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\' | '!' | '#' | ' ') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn vanished(task: &str, at_work: &AtWork, worktree: &str) -> Failure {
    let message = Message::new(format!(
        "its worktree `{worktree}`, in which attempt {} was at work since {}, is gone, and what was not committed with it",
        at_work.attempt, at_work.since_utc,
    ))
    .hint(format!("`planexe retry {}` starts it over", shell_word(task)));
    Failure { recoverable: true, ..failure(FailureClass::SessionVanished, message) }
}

fn changed_meanwhile(input: &str) -> Failure {
    Failure {
        recoverable: true,
        ..failure(FailureClass::InputChanged, format!("input `{input}` changed while it was copied"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_one_file() {
        assert_eq!(as_pattern("a/b.txt"), "/a/b.txt");
        assert_eq!(as_pattern("a b/[x]*#!.txt"), "/a\\ b/\\[x]\\*\\#\\!.txt");
    }
}
