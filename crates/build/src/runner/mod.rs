//! What a task does when it runs, a file per recipe. A runner gets a [`Job`] and gives back one
//! [`Outcome`]; it knows no schedule and starts no other task.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minijinja::Value;
use parking_lot::Mutex;

use crate::check_staleness::render_failure;
use crate::executor::Executors;
use crate::isolation::Isolation;
use planexe_base::cancel::Cancel;
use planexe_base::clock;
use planexe_base::event::{Event, Kind};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{Durability, FsError};
use planexe_base::message::Message;
use planexe_base::process::Watchdog;
use planexe_base::record::{Failure, State};
use planexe_base::style;
use planexe_llm::retry::Budgets;
use planexe_pipeline::project::{Project, Recipe, Spec};
use planexe_pipeline::task_inputs::InputError;
use planexe_store::candidates::Candidate;
use planexe_store::commit::Content;
use planexe_store::index::Index;
use planexe_store::logs::{FailureLine, Logs};
use planexe_store::{Store, Why};

mod advice;
pub mod batches;
mod command;
mod completion;
mod counted;
pub mod eval;
mod eval_program;
pub mod expand;
mod former_jobs;
pub mod gate;
pub mod human;
pub mod isolated;
mod job;
pub mod live;
mod program;
pub mod prompt;
pub mod providers;
pub mod services;
pub mod shell_line;
mod status;
pub mod template;
mod waits;

use completion::commit_attempt;
pub use completion::{Completed, Made};
pub use job::{AttemptHistory, Conversation, Job, LeftOff, Notes, OtherFields, Turn, Turns};
pub use live::{EndedAlone, Limited, Live, Mark, Stage};
pub use program::Programs;
use providers::Providers;
pub use status::note_broken;
use status::{announce, log_failure, status_of, write_status};

/// What every runner works with: one for the whole build.
pub struct BuildContext {
    /// The pipeline and its run.
    pub project: Arc<Project>,
    /// The run's records.
    pub store: Arc<Store>,
    /// What is known of file contents.
    pub index: Arc<Index>,
    /// The run's logs.
    pub logs: Arc<Logs>,
    /// Ends programs whose time is over.
    pub watchdog: Watchdog,
    /// How far the build has been told to stop.
    pub cancel: Cancel,
    /// The models.
    pub providers: Providers,
    /// Calls that are made in batches.
    pub pooled: batches::Pooled,
    /// Where events go.
    pub events: Box<dyn Fn(Kind) + Send + Sync>,
    /// `--frozen`: answers recorded for other prompts are refused.
    pub frozen: bool,
    /// `--no-reuse`: kept answers are not looked for.
    pub no_reuse: bool,
    /// `NO_PROXY` of the environment, to which this machine is added for programs that are served a model.
    pub no_proxy: Option<String>,
    /// Where a Unix socket may be, for programs that are served a model: the first that will do.
    pub socket_folders: Vec<PathBuf>,
    /// `--no-rescue`: a command that exits with an error failed, whatever it left.
    pub no_rescue: bool,
    /// What was found of git, if a task of the build is isolated.
    pub isolation: Option<Isolation>,
    /// Where the programs of commands are.
    pub programs: Programs,
    /// Where commands run that are not the build's own programs.
    pub executors: Executors,
    /// Servers that tasks and models need.
    pub services: services::Services,
    /// This program.
    pub planexe: PathBuf,
    /// Files for what commands say, used again and again: a file made and removed is dear on some file systems.
    pub scratch: Mutex<Vec<Arc<std::fs::File>>>,
    /// This process and host, for records.
    pub pid: u32,
    /// This host.
    pub host: String,
    /// Number of steps.
    pub steps_total: u32,
}

impl BuildContext {
    /// Tells something worth knowing that is no task's end.
    pub fn note(&self, task: Option<&str>, warning: bool, message: impl Into<String>) {
        (self.events)(Kind::Note { task: task.map(str::to_owned), message: message.into(), warning });
    }

    /// Logs a failure; that it cannot be is told once.
    pub fn log_failure(&self, line: &FailureLine) {
        if let Some(error) = self.logs.failure(line) {
            self.note(Some(&line.task), true, format!("failures cannot be logged: {error}"));
        }
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// Recorded as done.
    Done(Box<Completed>),
    /// Failed for good.
    Failed(Failure),
    /// A person is waited for; what they are asked.
    Waiting(String),
    /// Another attempt follows.
    Retry {
        /// Why.
        failure: Failure,
        /// What follows, in words; none: another call, as soon as its server is asked anything again.
        next: Option<String>,
        /// How long to wait first.
        after: Duration,
        /// The model to ask next.
        endpoint: usize,
        /// What the pause is for.
        pause: Pause,
    },
    /// Its outputs are there, as a candidate: the evaluation follows.
    Evaluate(Box<Candidate>),
    /// It succeeded, apart from the others: it is merged next.
    ReadyToMerge(Box<Candidate>),
    /// Its commits are merged.
    Merged(Box<isolated::merge::Merged>),
    /// They cannot be merged without a person.
    Unmerged(Failure),
    /// Its evaluator found it wanting, which is a failure, or wants it better, which is none: the next round follows.
    NextRound(Option<Failure>),
    /// Its evaluator cannot be reached: the candidate waits for the next build.
    EvalUnavailable(Failure),
    /// Ended by a stop.
    Stopped,
    /// The build is stopped, and it goes on without it.
    Left,
    /// Records cannot be written: the build must not go on.
    Broken(FsError),
}

/// What the pause before another attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The attempt was one.
    Attempt,
    /// The endpoint refused its form: no attempt was used.
    None,
    /// The endpoint's limit is waited out: no attempt was used.
    Limit,
    /// The endpoint's server is away or loading: no attempt was used, and its health is looked at.
    Outage {
        /// How long it is waited for at most.
        left: std::time::Duration,
        /// Nothing listens at its address.
        is_silent: bool,
    },
}

impl Pause {
    /// Whether something is waited for that is not ready yet.
    pub fn is_wait(self) -> bool {
        matches!(self, Pause::Limit | Pause::Outage { .. })
    }
}

/// Runs an attempt.
pub fn run(ctx: &BuildContext, job: &mut Job) -> Outcome {
    let start = Instant::now();
    if let Err(error) = begin(ctx, job) {
        ctx.cancel.break_off();
        return Outcome::Broken(error);
    }
    let spec = ctx.project.spec(&job.task);
    let outcome = match &spec.recipe {
        _ if job.evaluates => eval::run(ctx, job),
        _ if job.merges => match job.history.merged.take() {
            Some(merged) => isolated::merge::land(ctx, job, &merged),
            None => isolated::merge::run(ctx, job),
        },
        Recipe::Group => {
            Outcome::Failed(Failure { message: "BUG: a group ran".into(), ..Failure::default() })
        }
        Recipe::Prompt(spec) => prompt::run(ctx, job, spec),
        Recipe::Command(spec) => command::run(ctx, job, spec),
        Recipe::Template(template) => template::run(ctx, job, template),
        Recipe::Gate(spec) => gate::run(ctx, job, spec),
        Recipe::Human(spec) => human::run(ctx, job, spec),
    };
    job.history.usage.add(&job.live.take_calls());
    // A batch takes as long as it takes, and so do the turns of its program's calls.
    let waited = job.live.time_waited();
    job.conversation_mut().spent += start.elapsed().saturating_sub(waited);
    let outcome = instead(ctx, job, outcome);
    let outcome = settle(ctx, job, outcome);
    if let Outcome::Broken(_) = outcome {
        ctx.cancel.break_off();
    }
    outcome
}

/// A round that failed for good, where an earlier one passed: that is what the task has made.
fn instead(ctx: &BuildContext, job: &mut Job, outcome: Outcome) -> Outcome {
    let Outcome::Failed(mut failed) = outcome else { return outcome };
    let best = match eval::best_of(ctx, job) {
        Ok(Some(best)) => best,
        Ok(None) => return Outcome::Failed(failed),
        Err(error) => return Outcome::Broken(error),
    };
    if failed.class != FailureClass::Eval {
        failed.error_id.get_or_insert_with(error_id);
        log_failure(ctx, job, &failed);
    }
    eval::take_best(ctx, job, best).unwrap_or_else(Outcome::Broken)
}

/// Before an attempt: damaged and edited outputs go to history, kept answers are set aside if asked,
/// `.status` says running.
fn begin(ctx: &BuildContext, job: &mut Job) -> Result<(), FsError> {
    let name = job.task.name.clone();
    let spec = ctx.project.spec(&job.task);
    // What an answer is made from is on disk before it is paid for.
    if spec.prompts().next().is_some() {
        ctx.store.batch().sync()?;
    }
    if let (true, Some(first)) = (std::mem::take(&mut job.torn), job.task.outputs.first()) {
        ctx.store.keep_damaged(first)?;
    }
    if std::mem::take(&mut job.redraw) {
        ctx.store.calls().discard(&name)?;
        ctx.store.give_up_jobs(&name)?;
    }
    if let (true, Some(first)) = (std::mem::take(&mut job.withdraw), job.task.outputs.first()) {
        let late = spec.is_synced_late();
        ctx.store.remove_done(first, if late { Durability::Unsynced } else { Durability::Synced })?;
    }
    if std::mem::take(&mut job.damaged) {
        ctx.store.save(&name, Why::Damaged, &job.task.outputs, Durability::Synced)?;
    }
    keep_edited(ctx, job)?;
    // A template is rendered in no time, and a command says so once it takes longer than that.
    if spec.is_synced_late() {
        return claim(ctx, job);
    }
    // That it waits for its evaluation is said already.
    if job.evaluates || job.history.merged.is_some() {
        return Ok(());
    }
    if job.merges {
        return write_status(ctx, job, State::Merging, None);
    }
    if spec.eval.is_some() || spec.isolate.is_some() {
        ctx.store.spend_candidate(&name)?;
    }
    if let Some(spec) = spec.recipe.prompt() {
        prompt::take_up_conversation(ctx, job, spec)?;
    }
    announce(ctx, job)
}

/// Outputs edited by hand go to history before an attempt that may replace them. If only schema, check or evaluation
/// changed, it is first tried whether the edited ones pass: then nothing is made again.
fn keep_edited(ctx: &BuildContext, job: &mut Job) -> Result<(), FsError> {
    let edited = std::mem::take(&mut job.edited);
    if edited.is_empty() {
        return Ok(());
    }
    let name = &job.task.name;
    ctx.store.save(name, Why::Edited, &job.task.outputs, Durability::Synced)?;
    let restore = format!("`planexe restore {}`", style::shell_word(name));
    let answered = job.prepared.existing.is_some();
    let tried = |path: &String| job.prepared.as_it_is || answered && job.task.outputs.first() == Some(path);
    let (tried, replaced): (Vec<String>, Vec<String>) = edited.into_iter().partition(tried);
    if !tried.is_empty() {
        let files = tried.join("`, `");
        ctx.note(Some(name), true, format!("`{files}` was edited by hand and is checked as it is; if it has to be made again, the edited content is in history ({restore})"));
    }
    if !replaced.is_empty() {
        let files = replaced.join("`, `");
        ctx.note(
            Some(name),
            true,
            format!(
                "`{files}` was edited by hand and is made again; the edited content is in history ({restore})"
            ),
        );
    }
    Ok(())
}

/// The first attempt at an item whose outputs others read leaves a record before it leaves an output: if it is cut short in
/// between, the file is known to be the item's, and not one of the user's.
fn claim(ctx: &BuildContext, job: &Job) -> Result<(), FsError> {
    let Some(first) = job.task.outputs.first().filter(|_| job.task.item.is_some()) else { return Ok(()) };
    let guarded = ctx.project.guarded();
    if job.former.is_some()
        || job
            .task
            .outputs
            .iter()
            .all(|output| guarded.named(output).is_none() && guarded.matched(output).is_none())
        || ctx.store.recorded_task(first).is_some()
    {
        return Ok(());
    }
    write_status(ctx, job, State::Running, None)
}

/// After an attempt that did not end in a commit: `.status` and `failures.jsonl` say how it ended.
fn settle(ctx: &BuildContext, job: &mut Job, mut outcome: Outcome) -> Outcome {
    if let Outcome::Failed(failure)
    | Outcome::Retry { failure, .. }
    | Outcome::NextRound(Some(failure))
    | Outcome::Unmerged(failure)
    | Outcome::EvalUnavailable(failure) = &mut outcome
    {
        failure.error_id.get_or_insert_with(error_id);
    }
    let written = match &outcome {
        // That it runs is said already, and stays so.
        Outcome::Done(_) | Outcome::Broken(_) | Outcome::Merged(_) | Outcome::Left => Ok(()),
        Outcome::Failed(failure) => {
            log_failure(ctx, job, failure);
            job.history.own.budgets = Budgets::default();
            // One whose worktree vanished has none that could be gone on with.
            let noted = if job.merges { Ok(()) } else { isolated::failed(ctx, job) };
            noted.and_then(|()| write_status(ctx, job, State::Failed, Some(failure)))
        }
        Outcome::Retry { failure, .. } if job.evaluates => {
            log_failure(ctx, job, failure);
            Ok(())
        }
        Outcome::NextRound(None) => write_status(ctx, job, State::Pending, None),
        Outcome::Retry { failure, .. } | Outcome::NextRound(Some(failure)) => {
            log_failure(ctx, job, failure);
            write_status(ctx, job, State::Pending, Some(failure))
        }
        Outcome::Evaluate(candidate) => {
            let (state, failure) = (eval::waits_as(candidate), candidate.failure.clone());
            if let Some(failure) = failure.as_ref().filter(|_| !job.evaluates) {
                log_failure(ctx, job, failure);
            }
            job.history.evaluation = Some(eval::awaited(ctx, job, candidate));
            write_status(ctx, job, state, failure.as_ref())
        }
        Outcome::ReadyToMerge(candidate) => {
            job.history.candidate = Some(candidate.clone());
            write_status(ctx, job, State::Merging, None)
        }
        Outcome::Unmerged(failure) => {
            log_failure(ctx, job, failure);
            write_status(ctx, job, State::Waiting, Some(failure))
        }
        Outcome::EvalUnavailable(failure) => {
            log_failure(ctx, job, failure);
            let state = job.history.candidate.as_deref().map_or(State::PendingEval, eval::waits_as);
            write_status(ctx, job, state, Some(failure))
        }
        // The candidate is there, and waits.
        Outcome::Stopped if job.evaluates || job.merges => Ok(()),
        Outcome::Waiting(_) => write_status(ctx, job, State::Waiting, None),
        Outcome::Stopped => write_status(ctx, job, State::Stopped, None),
    };
    let left = match (written, job.history.over.take()) {
        (Ok(()), Some(over)) => eval::leave_round(ctx, *over),
        (written, _) => written,
    };
    match left {
        Ok(()) => outcome,
        Err(error) => Outcome::Broken(error),
    }
}

/// Commits a finished attempt, or has what it made evaluated first.
fn complete(ctx: &BuildContext, job: &Job, outputs: Vec<(String, Content)>, made: Made) -> Outcome {
    let spec = ctx.project.spec(&job.task);
    match spec.eval.is_some() || (spec.isolate.is_some() && !made.was_there) {
        true => eval::propose(ctx, job, outputs, made, None).unwrap_or_else(Outcome::Broken),
        false => commit_attempt(ctx, job, outputs, made),
    }
}

/// What the templates of an attempt see.
fn context(
    ctx: &BuildContext,
    job: &Job,
    templates: &[&planexe_pipeline::project::Template],
) -> Result<BTreeMap<String, Value>, Failure> {
    let used = templates.iter().flat_map(|template| template.names.iter().cloned()).collect();
    job.prepared.inputs.context(&ctx.project, &job.task, &used).map_err(InputError::into_failure)
}

/// Renders the outputs after the first, from the answer and the inputs.
fn further_outputs(
    ctx: &BuildContext,
    job: &Job,
    spec: &Spec,
    answer: Value,
) -> Result<Vec<(String, Content)>, Failure> {
    let mut outputs = Vec::new();
    for (path, template) in job.task.outputs.iter().zip(&spec.templates).skip(1) {
        let Some(template) = template else { continue };
        let mut values = context(ctx, job, &[template])?;
        values.insert("answer".into(), answer.clone());
        let text = template.render(&Value::from_iter(values)).map_err(|error| render_failure(&error))?;
        outputs.push((path.clone(), Content::Bytes(text.into_bytes())));
    }
    Ok(outputs)
}

/// Tells an event now.
pub fn stamp(kind: Kind) -> Event {
    Event { timestamp_utc: clock::now_utc(), kind }
}

/// A failure of a class.
pub fn failure(class: impl Into<FailureClass>, message: impl Into<Message>) -> Failure {
    Failure { class: class.into(), message: message.into(), error_id: Some(error_id()), ..Failure::default() }
}

/// 12 hex digits that join log, usage and failures.
pub fn error_id() -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    id[id.len() - 12..].to_owned()
}
