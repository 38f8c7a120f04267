//! Isolated tasks: a worktree to work in, what is left there taken down on its branch, and what comes of it merged
//! ([`merge`]).
//!
//! Everything in a worktree of ours may be thrown away only once it is on a branch; in the user's own nothing is, ever.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{BuildContext, Job, Outcome, failure};
use crate::check_staleness::Prepared;
use crate::git::{Git, GitError};
use crate::isolation::{BRANCHES, Isolation, plain_name};
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::{By, Digest, Failure, Isolated, SCHEMA, State};
use planexe_base::style;
use planexe_pipeline::project::IsolateSpec;
use planexe_store::Store;
use planexe_store::candidates::{Candidate, Success};
use planexe_store::commit::Content;
use planexe_store::lanes::{AtWork, Copied, Lane};
use planexe_ui::views::shell_word;

mod checkouts;
pub mod merge;
mod saving;
pub(super) mod watching;

/// The variable that names the top of the worktree.
const WORKTREE_VARIABLE: &str = "PLANEXE_WORKTREE";
/// Arguments of one git are so many paths at most.
const PATHS: usize = 500;

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
        IsolationError::Failed(Failure { recoverable: true, ..failure("git", error.to_string()) })
    }
}

impl From<Failure> for IsolationError {
    fn from(failed: Failure) -> IsolationError {
        IsolationError::Failed(failed)
    }
}

/// A place to work in: a worktree with a task's inputs.
pub(super) struct Worktree {
    /// git in it.
    git: Git,
    /// The top of the worktree.
    pub(super) root: PathBuf,
    /// Where the run is in it.
    pub(super) run: PathBuf,
    /// Patterns of what git leaves alone in it.
    excludes: PathBuf,
    lane: Lane,
}

/// What a build must have found of git before an isolated task runs.
pub(super) fn isolation(ctx: &BuildContext) -> Result<&Isolation, IsolationError> {
    ctx.isolation
        .as_ref()
        .ok_or_else(|| failure("internal", "BUG: git was not looked at; please report it").into())
}

fn spec_of<'t>(ctx: &'t BuildContext, job: &Job) -> Result<&'t IsolateSpec, IsolationError> {
    let spec = ctx.project.spec(&job.task).isolate.as_deref();
    spec.ok_or_else(|| failure("internal", "BUG: the task is not isolated; please report it").into())
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

/// The worktree of a task that made what its evaluator judges, all of it committed.
pub(super) struct JudgedWorktree {
    git: Git,
    root: PathBuf,
    /// Where the run is in it.
    pub(super) run: PathBuf,
    excludes: PathBuf,
    head: String,
    /// Nothing was changed there since; what a person changed is theirs.
    clean: bool,
}

impl JudgedWorktree {
    /// The worktree as the task left it; without it nothing can be said of what it did.
    pub(super) fn open(ctx: &BuildContext, job: &Job) -> Result<JudgedWorktree, IsolationError> {
        let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
        let lane = spec.lane_of(&job.task.name);
        let name = plain_name(lane);
        let root = ctx.store.run_dir().join(worktree_of(&name));
        if fs::kind(&root.join(".git"))?.is_none() {
            let message = format!(
                "its worktree `{}` is gone, and what it did cannot be judged\nhint: `planexe retry {}` begins it anew",
                worktree_of(&name),
                shell_word(&job.task.name)
            );
            return Err(Failure { recoverable: true, ..failure("session_vanished", message) }.into());
        }
        let excludes = ctx.store.lane_excludes(lane);
        let git = git_in(&root, &excludes);
        require_top(&git, &root, &name)?;
        let head = git.text(&["rev-parse", "HEAD"])?;
        let clean = is_clean(&git)?;
        Ok(JudgedWorktree { git, run: root.join(&isolation.place.prefix), root, excludes, head, clean })
    }

    /// Variables for the evaluator, those that the task's command had.
    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        variables(&self.root, &self.excludes)
    }

    /// What an evaluator changes is no work of the task's: what is merged is what was judged. Files that git leaves alone
    /// stay, such as what a compiler made.
    pub(super) fn restore(&self) -> Result<(), IsolationError> {
        let head = self.git.look(&["rev-parse", "HEAD"])?;
        if !self.clean || head.as_deref() == Some(&self.head) && is_clean(&self.git)? {
            return Ok(());
        }
        self.git.must(&["reset", "-q", "--hard", &self.head])?;
        self.git.must(&["clean", "-q", "-f", "-d"])?;
        Ok(())
    }
}

fn is_clean(git: &Git) -> Result<bool, GitError> {
    Ok(git.names(&["status", "--porcelain", "-z", "--untracked-files=all", "--no-renames"])?.is_empty())
}

fn variables(root: &Path, excludes: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        (WORKTREE_VARIABLE, root.to_owned().into_os_string()),
        ("GIT_CONFIG_COUNT", "1".into()),
        ("GIT_CONFIG_KEY_0", "core.excludesFile".into()),
        ("GIT_CONFIG_VALUE_0", excludes.to_owned().into_os_string()),
    ]
}

impl Worktree {
    /// A worktree for an attempt: the one in which an earlier one was interrupted, as it was left, or a fresh one.
    pub(super) fn open(ctx: &BuildContext, job: &Job) -> Result<Worktree, IsolationError> {
        let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
        let task = &job.task.name;
        let lane_name = spec.lane_of(task);
        let name = plain_name(lane_name);
        let (base, tip) = isolation.base(spec.base.as_deref());
        let gate = isolation.gate()?;
        let known = known_lane(ctx, lane_name);
        let root = ctx.store.run_dir().join(worktree_of(&name));
        let there = fs::kind(&root.join(".git"))?.is_some();
        let at_work = known.as_ref().and_then(|lane| lane.at_work.as_ref()).filter(|at| at.task == *task);
        let interrupted = matches!(job.history.left, Some((State::Running | State::Stopped, _)));
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
        let excludes = ctx.store.lane_excludes(lane_name);
        let run = root.join(&isolation.place.prefix);
        let mut worktree = Worktree { git: git_in(&root, &excludes), root, run, excludes, lane };
        if goes_on && same {
            if interrupted {
                let message =
                    format!("goes on in its worktree `{}`, as it was left", worktree_of(&worktree.lane.name));
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

    /// Work of another attempt is put by, and the worktree is as its lane's last success left it, or the base.
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
        let keeps =
            !others(ctx, &self.lane.lane, &job.task.name).is_empty() && top.tip(&self.lane.branch)?.is_some();
        if !keeps {
            self.lane.head.clone_from(&self.lane.start);
        }
        if let Some(saved) = self.stash(ctx, &job.task, there)? {
            let message = format!("what the last attempt left is on the branch `{saved}`; it begins anew");
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
        ctx.store.write_lane(&self.lane)?;
        Ok(())
    }

    fn require_own_top(&self) -> Result<(), IsolationError> {
        require_top(&self.git, &self.root, &self.lane.name)
    }

    /// Inputs that the worktree does not have as they are in the run: outputs of tasks before, and what is not committed.
    fn copy_inputs(&mut self, ctx: &BuildContext, job: &Job) -> Result<(), IsolationError> {
        let place = &isolation(ctx)?.place;
        let mut at_work = self.lane.at_work.take().unwrap_or_default();
        let mut missing: Vec<(String, String, Digest)> = Vec::new();
        for record in job.prepared.records() {
            let Some(path) = place.in_repository(&record.path) else { continue };
            let target = self.root.join(&path);
            let there = match fs::kind(&target) {
                Ok(kind) => kind == Some(FileKind::File),
                // Below a link of the repository's own, as it is in the run.
                Err(_) => matches!(fs::linked::signature(&target), Ok(Some(_))),
            };
            let same =
                there && fs::linked::hash_file(&target).is_ok_and(|(digest, _)| digest == record.blake3);
            let brought = there && at_work.copied.iter().any(|copied| copied.path == path);
            if same || brought {
                continue;
            }
            if let Some(inner) = nested_repository(&place.top, &path) {
                let message = format!(
                    "input `{}` lies in `{inner}`, a repository of its own, which a worktree has no files of",
                    record.path
                );
                return Err(Failure { message, ..failure("submodule", "") }.into());
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
            missing.iter().map(|(_, path, _)| path).filter(|path| tracked.contains(*path)).collect();
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
        let paths: Vec<String> = paths.map(|path| format!(":(top,literal){path}")).collect();
        let mut all = HashSet::new();
        for some in paths.chunks(PATHS) {
            let words = ["ls-files", "-z", "--full-name", "--"].into_iter().map(str::to_owned);
            all.extend(self.git.names(&words.chain(some.iter().cloned()).collect::<Vec<_>>())?);
        }
        Ok(all)
    }

    /// A command for some paths.
    fn each(&self, command: &str, options: &[&str], paths: &[&String]) -> Result<(), GitError> {
        for some in paths.chunks(PATHS) {
            let words = [command].into_iter().chain(options.iter().copied()).chain(["--"]);
            self.git.must(&words.chain(some.iter().map(|path| path.as_str())).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Has git leave alone what was put into the worktree, beside what the user has it leave alone anyway.
    fn write_excludes(&self, ctx: &BuildContext, copied: &[Copied]) -> Result<(), IsolationError> {
        let mut patterns = match user_excludes(&isolation(ctx)?.place.git())? {
            Some(path) => fs::read_optional(&path).ok().flatten().unwrap_or_default(),
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
    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        variables(&self.root, &self.excludes)
    }

    /// The files an output and inputs are in the worktree.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.run.join(path)
    }

    /// The command did its work: what it left is committed on the branch, and nothing of ours is among it. Its outputs as
    /// they are, as temporary files.
    pub(super) fn finish(
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
            return Err(Failure { recoverable: true, ..failure("git", message) }.into());
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
            return Err(failure("git", message).into());
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
            let message = format!(
                "it changed {} in its worktree, which the base does not have as it was given it, so the change cannot be merged\n\
                 hint: commit {} first, then `planexe build`",
                named(&changed),
                if changed.len() == 1 { "it" } else { "them" }
            );
            return Err(failure("input_changed", message).into());
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
            return Err(failure("git", message).into());
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
        let message = format!(
            "it changed {} of the repository, which are not merged: {}\nhint: change a submodule by hand, and commit it on the base",
            if names.len() == 1 { "a submodule" } else { "submodules" },
            named(&names)
        );
        Err(failure("submodule", message).into())
    }
}

/// That git takes the worktree for one, and for the very one.
fn require_top(git: &Git, root: &Path, name: &str) -> Result<(), IsolationError> {
    let said = git.run(&["rev-parse", "--show-toplevel"])?;
    if said.code == 0 && fs::resolved(Path::new(&said.text())) == fs::resolved(root) {
        return Ok(());
    }
    let why = if said.code == 0 { "git looks elsewhere".to_owned() } else { said.why() };
    let message = format!(
        "`{}` is no worktree that git knows: {why}\nhint: look at what is in it, move it away, then `planexe build`",
        worktree_of(name)
    );
    Err(failure("git", message).into())
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

/// A task that succeeded, written down before anything is merged. `outputs`: what it made, if that is not kept yet.
pub(super) fn succeed(
    ctx: &BuildContext,
    job: &Job,
    mut candidate: Candidate,
    outputs: Option<Vec<(String, Content)>>,
) -> Result<Outcome, FsError> {
    let (success, lane) = match success_of(ctx, job) {
        Ok(both) => both,
        Err(error) => return error.into_outcome(),
    };
    candidate.success = Some(success);
    match outputs {
        Some(outputs) => ctx.store.keep_candidate(&mut candidate, outputs)?,
        None => ctx.store.write_candidate(&candidate)?,
    }
    ctx.store.write_lane(&lane)?;
    Ok(Outcome::ReadyToMerge(Box::new(candidate)))
}

/// What is recorded of it, and its lane as it is then.
fn success_of(ctx: &BuildContext, job: &Job) -> Result<(Success, Lane), IsolationError> {
    let (isolation, spec) = (isolation(ctx)?, spec_of(ctx, job)?);
    let task = &job.task.name;
    let gone = || {
        let message = format!(
            "its branch is gone, and with it what it committed\nhint: `planexe retry {}` makes it anew",
            shell_word(task)
        );
        failure("session_vanished", message)
    };
    let mut lane = known_lane(ctx, spec.lane_of(task)).ok_or_else(gone)?;
    let commit = isolation.place.git().tip(&lane.branch)?.ok_or_else(gone)?;
    let at_work = lane.at_work.take().unwrap_or_default();
    let success = Success {
        lane: lane.lane.clone(),
        base: lane.base.clone(),
        branch: lane.branch.clone(),
        commit: commit.clone(),
        checkpoint_id: checkpoint_id(task, job.attempt, &job.prepared.decision_id, &at_work.since_utc),
        decision_id: job.prepared.decision_id.clone(),
        parts: job.prepared.fingerprint.parts().clone(),
        inputs: job.prepared.records(),
    };
    lane.head = commit;
    Ok((success, lane))
}

/// A candidate that a person accepts as it is, as what succeeded: what it committed is merged by the next build, before
/// anything reads it. `prepared`: what it was made from.
pub fn accepted_by_hand(
    store: &Store,
    lane: &str,
    candidate: &Candidate,
    prepared: &Prepared,
    user: Option<&str>,
) -> Result<(Candidate, Lane), String> {
    let task = &candidate.task;
    let gone = || {
        format!(
            "its branch is gone, and with it what it committed; `planexe retry {}` makes it anew",
            shell_word(task)
        )
    };
    let mut lane = store.lane(lane).ok_or_else(gone)?;
    let commit = Git::at(store.run_dir()).tip(&lane.branch).map_err(|error| error.to_string())?;
    let commit = commit.ok_or_else(gone)?;
    let since = match lane.at_work.take() {
        Some(other) if other.task != *task => {
            let (lane, other) = (style::clean(&lane.lane), style::clean(&other.task));
            return Err(format!(
                "`{other}` is at work in its lane `{lane}`; `planexe build` goes on with that first"
            ));
        }
        at_work => at_work.unwrap_or_default().since_utc,
    };
    let success = Success {
        lane: lane.lane.clone(),
        base: lane.base.clone(),
        branch: lane.branch.clone(),
        commit: commit.clone(),
        checkpoint_id: checkpoint_id(task, candidate.attempt, &prepared.decision_id, &since),
        decision_id: prepared.decision_id.clone(),
        parts: prepared.fingerprint.parts().clone(),
        inputs: prepared.records(),
    };
    lane.head = commit;
    let candidate = Candidate {
        success: Some(success),
        spent: false,
        failure: None,
        by: Some(By::Touch),
        by_user: user.map(str::to_owned),
        ..candidate.clone()
    };
    Ok((candidate, lane))
}

/// What the attempt left in its worktree is to be looked at, not to be gone on with.
pub(super) fn failed(ctx: &BuildContext, job: &Job) -> Result<(), FsError> {
    let spec = ctx.project.spec(&job.task).isolate.as_deref();
    let Some(mut lane) = spec.and_then(|spec| ctx.store.lane(spec.lane_of(&job.task.name))) else {
        return Ok(());
    };
    match lane.at_work.as_mut().filter(|at_work| at_work.task == job.task.name && !at_work.failed) {
        Some(at_work) => at_work.failed = true,
        None => return Ok(()),
    }
    ctx.store.write_lane(&lane)
}

/// How far a lane is. A task of which it is written down that it succeeded is not at work any more, whatever a kill
/// has left of that.
fn known_lane(ctx: &BuildContext, name: &str) -> Option<Lane> {
    let mut lane = ctx.store.lane(name)?;
    let at_work = lane.at_work.as_ref().map(|at_work| at_work.task.clone());
    let made = at_work.and_then(|task| ctx.store.to_be_merged(&task)?.success);
    if let Some(success) = made.filter(|success| success.lane == lane.lane) {
        (lane.head, lane.at_work) = (success.commit, None);
    }
    Some(lane)
}

/// Tasks of a lane that succeeded and are not done yet, but for one.
fn others(ctx: &BuildContext, lane: &str, but: &str) -> Vec<Candidate> {
    let mut all = ctx.store.unmerged();
    all.retain(|it| it.task != but && it.success.as_ref().is_some_and(|success| success.lane == lane));
    all
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

/// The repository within a repository in which a path lies.
fn nested_repository<'p>(top: &Path, path: &'p str) -> Option<&'p str> {
    let ends = path.match_indices('/').map(|(at, _)| &path[..at]);
    ends.into_iter().find(|folder| fs::kind(&top.join(folder).join(".git")).ok().flatten().is_some())
}

fn vanished(task: &str, at_work: &AtWork, worktree: &str) -> Failure {
    let message = format!(
        "its worktree `{worktree}`, in which attempt {} was at work since {}, is gone, and what was not committed with it\n\
         hint: `planexe retry {}` begins it anew",
        at_work.attempt,
        at_work.since_utc,
        shell_word(task)
    );
    Failure { recoverable: true, ..failure("session_vanished", message) }
}

fn changed_meanwhile(input: &str) -> Failure {
    Failure {
        recoverable: true,
        ..failure("input_changed", format!("input `{input}` changed while it was copied"))
    }
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
    fn a_pattern_is_of_one_file() {
        assert_eq!(as_pattern("a/b.txt"), "/a/b.txt");
        assert_eq!(as_pattern("a b/[x]*#!.txt"), "/a\\ b/\\[x]\\*\\#\\!.txt");
    }

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
