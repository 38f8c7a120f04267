//! What a task does when it runs, a file per recipe. A runner gets a [`Job`] and gives back one
//! [`Outcome`]; it knows no schedule and starts no other task.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use minijinja::Value;

use crate::check_staleness::{Prepared, render_failure};
use crate::isolation::Isolation;
use crate::output_times;
use planexe_base::cancel::Cancel;
use planexe_base::clock;
use planexe_base::event::{Event, Kind};
use planexe_base::fs::{Durability, FsError};
use planexe_base::process::Watchdog;
use planexe_base::record::{By, Digest, Done, Failure, MadeWith, SCHEMA, State, Status, StatusUsage};
use planexe_engine::fingerprint;
use planexe_engine::graph::Task;
use planexe_llm::retry::Budgets;
use planexe_llm::{Class, Rejected, Usage};
use planexe_pipeline::eval_score::Evaluation;
use planexe_pipeline::project::{Project, PromptSpec, Recipe, Spec};
use planexe_pipeline::task_inputs::InputError;
use planexe_store::candidates::{Candidate, Success};
use planexe_store::commit::{self, CheckpointOf, Commit, Committed, Content};
use planexe_store::index::Index;
use planexe_store::logs::{FailureLine, Logs};
use planexe_store::{Sidecar, Store, Why};

mod advice;
mod command;
pub mod eval;
mod eval_program;
pub mod expand;
pub mod gate;
pub mod human;
pub mod isolated;
pub mod live;
mod program;
pub mod prompt;
pub mod providers;
pub mod shell_line;
pub mod template;

pub use live::{EndedAlone, Live, Mark, Stage};
pub use program::Programs;
use providers::Providers;

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
    /// Where events go.
    pub events: Box<dyn Fn(Kind) + Send + Sync>,
    /// `--frozen`: answers recorded for other prompts are refused.
    pub frozen: bool,
    /// `--no-rescue`: a command that exits with an error failed, whatever it left.
    pub no_rescue: bool,
    /// What was found of git, if a task of the build is isolated.
    pub isolation: Option<Isolation>,
    /// Where the programs of commands are.
    pub programs: Programs,
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

/// An attempt to be made.
pub struct Job {
    /// The task.
    pub task: Task,
    /// The number of the attempt, over all builds since it was last done.
    pub attempt: u32,
    /// Position in the prompt's list of models.
    pub endpoint: usize,
    /// What it is made from.
    pub prepared: Prepared,
    /// The `.DONE` there was.
    pub former: Option<Box<Done>>,
    /// Kept answers are set aside first.
    pub redraw: bool,
    /// That it is made anew follows from no file: its `.DONE` goes first, so that what it is left as tells it.
    pub withdraw: bool,
    /// Outputs edited by hand that will be replaced.
    pub edited: Vec<String>,
    /// Outputs that are damaged.
    pub damaged: bool,
    /// Its sidecars may be damaged.
    pub torn: bool,
    /// Fields of other versions in its sidecars, kept.
    pub other: OtherFields,
    /// A person let it pass.
    pub passed: Option<String>,
    /// What carries over between attempts.
    pub history: AttemptHistory,
    /// Its evaluator is asked, not its recipe.
    pub evaluates: bool,
    /// What it made is merged, and then it is done.
    pub merges: bool,
    /// What it is doing, for those who watch.
    pub live: Arc<Live>,
    /// To be told that an answer is on disk, and what it used, or that a program ended well: its slot is free from
    /// then on.
    pub answered: Box<dyn Fn(Usage) + Send>,
}

/// Fields of other versions in the sidecars of a task.
#[derive(Debug, Clone, Default)]
pub struct OtherFields {
    /// In `.DONE`.
    pub done: serde_json::Map<String, serde_json::Value>,
    /// In `.status`.
    pub status: serde_json::Map<String, serde_json::Value>,
}

impl Job {
    /// The conversation it goes on with.
    pub fn conversation(&self) -> &Conversation {
        if self.evaluates { &self.history.of_eval } else { &self.history.own }
    }

    /// The conversation it goes on with.
    pub fn conversation_mut(&mut self) -> &mut Conversation {
        if self.evaluates { &mut self.history.of_eval } else { &mut self.history.own }
    }

    /// How long the attempt is at work, with its evaluation.
    pub fn took(&self) -> Duration {
        let made_in = self.history.made_in.filter(|_| self.evaluates || self.merges);
        self.live.started.elapsed() + made_in.unwrap_or_default()
    }

    /// What it asks a model, if it does: in the task's place, or in its evaluator's.
    pub fn asks<'p>(&self, project: &'p Project) -> Option<&'p PromptSpec> {
        let spec = project.spec(&self.task);
        match &spec.eval {
            Some(eval) if self.evaluates => eval.prompt(),
            _ => spec.recipe.prompt(),
        }
    }
}

/// What carries over between the attempts of one task.
#[derive(Debug, Clone, Default)]
pub struct AttemptHistory {
    /// What was said to the task's own models.
    pub own: Conversation,
    /// What was said to its evaluator, of the present candidate.
    pub of_eval: Conversation,
    /// The state and attempt in which an earlier build left the task, until its conversation is taken up.
    pub left: Option<(State, u32)>,
    /// How the last call ended, for the limits of its endpoint, with the pause its server asked for.
    pub call: Option<(Result<Usage, Class>, Option<Duration>)>,
    /// Used so far.
    pub usage: Usage,
    /// The round it is in, from 1.
    pub round: u32,
    /// What the evaluator said of the round before.
    pub notes: Option<Notes>,
    /// How long it took to make what is evaluated; none if that was another build's.
    pub made_in: Option<Duration>,
    /// What waits for its verdict, or to be merged.
    pub candidate: Option<Box<Candidate>>,
    /// Its commits are merged.
    pub merged: Option<Box<isolated::merge::Merged>>,
    /// The last evaluation, or the one that is waited for.
    pub evaluation: Option<Evaluation>,
}

/// What was said to models, and what it used up.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// Retries used.
    pub budgets: Budgets,
    /// Rejected answers and what was wrong with them.
    pub rejected: Vec<Rejected>,
    /// A larger `max_tokens`, after an answer that was cut off at the limit.
    pub max_tokens: Option<u64>,
    /// Draw differently: the last answer went wrong in a way the same draw would repeat.
    pub vary: bool,
    /// Time spent so far, waiting not counted.
    pub spent: Duration,
}

/// What an evaluator said of a round, for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The notes.
    pub text: String,
    /// What they are about: the first output then, as far as it is text.
    pub former: String,
    /// Where that is.
    pub former_path: Option<PathBuf>,
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
    /// Records cannot be written: the build must not go on.
    Broken(FsError),
}

/// What the pause before another attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The attempt was one.
    Attempt,
    /// The endpoint was not ready for it, or refused its form: no attempt was used.
    None,
    /// The endpoint's server is away or loading: no attempt was used, and its health is looked at.
    Outage {
        /// How long it is waited for at most.
        left: std::time::Duration,
    },
}

/// A task that came to its end.
#[derive(Debug)]
pub struct Completed {
    /// Whether any output's bytes are other than before.
    pub changed: bool,
    /// A kept answer was used.
    pub reused: bool,
    /// A recorded answer to another prompt was used.
    pub sample: bool,
    /// The model that answered.
    pub model: Option<String>,
    /// Seconds of this attempt.
    pub duration_s: f64,
    /// Whether that is all it took: what was evaluated was made in this build.
    pub from_start: bool,
    /// What it was made from is not what it would be made from now.
    pub outdated: bool,
    /// Its checkpoint.
    pub checkpoint_id: Option<String>,
    /// Its command failed, and its evaluator accepted it all the same.
    pub rescued: bool,
    /// It is a gate that warned.
    pub warned: bool,
    /// What its evaluator gave it.
    pub score: Option<f64>,
    /// What it was given and what it left, as recorded: files relative to the run.
    pub contents: Vec<(String, Digest)>,
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
    job.conversation_mut().spent += start.elapsed();
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
    let Some(best) = eval::best_of(ctx, job) else { return Outcome::Failed(failed) };
    if failed.class != "eval" {
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
    }
    if let (true, Some(first)) = (std::mem::take(&mut job.withdraw), job.task.outputs.first()) {
        let late = spec.is_synced_late();
        ctx.store.remove_done(first, if late { Durability::Unsynced } else { Durability::Synced })?;
    }
    if std::mem::take(&mut job.damaged) {
        ctx.store.save(&name, Why::Damaged, &job.task.outputs, Durability::Synced)?;
    }
    let edited = std::mem::take(&mut job.edited);
    if !edited.is_empty() {
        ctx.store.save(&name, Why::Edited, &job.task.outputs, Durability::Synced)?;
        let files = edited.join("`, `");
        ctx.note(Some(&name), true, format!("`{files}` was edited by hand and is made again; the edited content is in history (`planexe restore {name}`)"));
    }
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
    write_status(ctx, job, State::Running, None)
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
        Outcome::Done(_) | Outcome::Broken(_) | Outcome::Merged(_) => Ok(()),
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
    match written {
        Ok(()) => outcome,
        Err(error) => Outcome::Broken(error),
    }
}

/// Has `.status` and `failures.jsonl` say what broke the build at this task, as far as they can be written. What was used
/// up stays so: nothing went wrong with the answers.
pub fn note_broken(ctx: &BuildContext, job: &Job, failure: &Failure) {
    log_failure(ctx, job, failure);
    let _ = write_status(ctx, job, State::Failed, Some(failure));
}

fn log_failure(ctx: &BuildContext, job: &Job, failure: &Failure) {
    let model = model_of(ctx, job);
    let line = FailureLine::of(
        &job.task.name,
        model.as_deref(),
        job.attempt,
        failure,
        Some(&job.prepared.decision_id),
        &ctx.project.run,
    );
    ctx.log_failure(&line);
}

/// The name at its server of the model this attempt asks.
fn model_of(ctx: &BuildContext, job: &Job) -> Option<String> {
    let asked = job.asks(&ctx.project)?;
    let endpoint = &ctx.project.endpoints[*asked.models.get(job.endpoint)?];
    Some(endpoint.model_name().to_owned())
}

/// The `.status` of an attempt in a state.
fn status_of(ctx: &BuildContext, job: &Job, state: State) -> Status {
    let spec = ctx.project.spec(&job.task);
    let mut status = Status::new(job.task.name.as_str(), state);
    let since = job.took();
    let now = std::time::SystemTime::now();
    status.other = job.other.status.clone();
    status.attempt = job.attempt;
    status.started_utc = Some(clock::format_utc(now.checked_sub(since).unwrap_or(now)));
    if state != State::Running {
        status.ended_utc = Some(clock::format_utc(now));
        status.duration_s = Some(round(since.as_secs_f64()));
    }
    status.progress_utc = Some(clock::format_utc(now));
    if let Some(candidate) = job.history.candidate.as_deref().filter(|_| job.evaluates) {
        // Who made it; who evaluates it is said there.
        let made = candidate.made_with.as_ref();
        let endpoint = made.and_then(|made| ctx.project.endpoints.iter().find(|it| it.name == made.endpoint));
        status.model = made.map(|made| made.model.clone());
        status.api = endpoint.map(|endpoint| endpoint.api().to_owned());
    } else if let Some(prompt) = spec.recipe.prompt()
        && let Some(&at) = prompt.models.get(job.endpoint)
    {
        let endpoint = &ctx.project.endpoints[at];
        status.model = Some(endpoint.model_name().to_owned());
        status.api = Some(endpoint.api().to_owned());
    }
    status.pid = Some(ctx.pid);
    status.host = Some(ctx.host.clone());
    status.step = Some(spec.step);
    status.steps_total = Some(ctx.steps_total);
    status.decision_id = Some(job.prepared.decision_id.clone());
    if job.history.usage.calls > 0 {
        status.usage = Some(usage_of(&job.history.usage));
    }
    if state != State::Done && job.history.own.budgets != Budgets::default() {
        status.budgets = serde_json::to_value(&job.history.own.budgets).ok();
    }
    status.isolation = isolated::described(ctx, job);
    status.eval = job.history.evaluation.as_ref().and_then(|it| serde_json::to_value(it).ok());
    status
}

/// Tokens and money in the form of records.
pub fn usage_of(usage: &Usage) -> StatusUsage {
    StatusUsage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost_usd: usage.cost_usd,
        calls: usage.calls,
    }
}

/// Synced where answers are paid for: a state that came back with the power would set an answer aside,
/// or have a rejected one asked for anew.
fn write_status(
    ctx: &BuildContext,
    job: &Job,
    state: State,
    failure: Option<&Failure>,
) -> Result<(), FsError> {
    let Some(first) = job.task.outputs.first() else { return Ok(()) };
    let mut status = status_of(ctx, job, state);
    status.failure = failure.cloned();
    let spec = ctx.project.spec(&job.task);
    let paid = spec.recipe.prompt().is_some() || spec.eval.is_some() || spec.isolate.is_some();
    let durability = if paid { Durability::Synced } else { Durability::Unsynced };
    ctx.store.write_status(first, &status, durability)
}

/// Milliseconds are enough for people and small enough for files.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// What a finished attempt was made with.
#[derive(Debug, Default)]
pub struct Made {
    /// The model and its parameters.
    pub with: Option<MadeWith>,
    /// The kept call.
    pub call: Option<String>,
    /// A recorded answer to another prompt.
    pub sample: bool,
    /// A kept answer was used.
    pub reused: bool,
    /// The attempt that answer is of.
    pub attempt: Option<u32>,
    /// Who says so.
    pub by: Option<By>,
    /// The person who did, if one did.
    pub by_user: Option<String>,
    /// The outputs that were there already are taken as they are.
    pub was_there: bool,
    /// The commit it was merged with, what was recorded of its success, and whether it would be made from the same now.
    pub merged: Option<(String, Box<Success>, bool)>,
    /// What a gate has to say though it lets the pipeline go on.
    pub warning: Option<String>,
}

/// Commits a finished attempt, or has what it made evaluated first.
fn complete(ctx: &BuildContext, job: &Job, outputs: Vec<(String, Content)>, made: Made) -> Outcome {
    let spec = ctx.project.spec(&job.task);
    match spec.eval.is_some() || (spec.isolate.is_some() && !made.was_there) {
        true => eval::propose(ctx, job, outputs, made, None).unwrap_or_else(Outcome::Broken),
        false => commit_attempt(ctx, job, outputs, made),
    }
}

/// Commits an attempt whose outputs will do.
fn commit_attempt(ctx: &BuildContext, job: &Job, outputs: Vec<(String, Content)>, made: Made) -> Outcome {
    let mut status = status_of(ctx, job, State::Done);
    status.sample = made.sample.then_some(true);
    status.rescued = (made.by == Some(By::Rescue)).then_some(true);
    status.warning = made.warning;
    if made.with.is_none() {
        status.model = None;
        status.api = None;
    }
    let model = status.model.clone();
    let (sandbox_ref, success, holds) = match made.merged {
        Some((commit, success, holds)) => (Some(commit), Some(success), holds),
        None => (None, None, true),
    };
    if let Some(success) = &success {
        status.decision_id = Some(success.decision_id.clone());
    }
    // Of one that was made from other things than it would be now the record says from which.
    let then = success.as_ref().filter(|_| !holds);
    let outdated = then.is_some();
    let mut other = job.other.done.clone();
    other.extend(made.by_user.map(|user| ("by_user".to_owned(), user.into())));
    let done = Done {
        schema: SCHEMA,
        task: job.task.name.clone(),
        fingerprint: then
            .map_or_else(|| job.prepared.fingerprint.digest(), |then| fingerprint::digest_of(&then.parts)),
        parts: then.map_or_else(|| job.prepared.fingerprint.parts().clone(), |then| then.parts.clone()),
        inputs: then.map_or_else(|| job.prepared.records(), |then| then.inputs.clone()),
        outputs: Vec::new(),
        completed_utc: clock::now_utc(),
        by: made.by.unwrap_or(By::Build),
        checkpoint_id: None,
        made_with: made.with,
        call: made.call,
        sample: made.sample,
        eval: status.eval.clone(),
        other,
    };
    let checkpoint = CheckpointOf {
        step: ctx.project.spec(&job.task).step,
        decision_id: status.decision_id.clone().unwrap_or_default(),
        pipeline_hash: ctx.project.digest.short().to_owned(),
        sandbox_ref,
        id: success.as_ref().map(|success| success.checkpoint_id.clone()),
    };
    let late =
        ctx.project.spec(&job.task).is_synced_late() && ctx.store.batch().takes(job.live.started.elapsed());
    let commit = Commit {
        task: job.task.name.clone(),
        outputs,
        done,
        status,
        checkpoint: Some(checkpoint),
        durability: if late { Durability::Unsynced } else { Durability::Synced },
        // As [`begin`] does where answers are paid for.
        announced: ctx.project.spec(&job.task).prompts().next().is_some() || success.is_some(),
        why: Why::Replaced,
    };
    let committed = commit::commit(&ctx.store, commit).and_then(|committed| {
        // An output whose bytes are the same kept its time.
        output_times::renew(&ctx.project, &ctx.store, &job.task.outputs)?;
        Ok(committed)
    });
    match committed {
        Ok(committed) => Outcome::Done(Box::new(Completed {
            contents: contents(ctx, &committed),
            changed: committed.changed,
            reused: made.reused,
            sample: made.sample,
            model,
            duration_s: job.took().as_secs_f64(),
            from_start: !(job.evaluates || job.merges) || job.history.made_in.is_some(),
            outdated,
            checkpoint_id: committed.done.checkpoint_id,
            rescued: made.by == Some(By::Rescue),
            warned: committed.status.warning.is_some(),
            score: job.history.evaluation.as_ref().and_then(|evaluation| evaluation.score),
        })),
        Err(error) => Outcome::Broken(error),
    }
}

/// The files a record speaks of, and its own.
fn contents(ctx: &BuildContext, committed: &Committed) -> Vec<(String, Digest)> {
    let done = &committed.done;
    let mut contents: Vec<(String, Digest)> = Vec::with_capacity(done.inputs.len() + done.outputs.len() + 1);
    contents.extend(done.inputs.iter().map(|input| (input.path.clone(), input.blake3.clone())));
    contents.extend(done.outputs.iter().map(|output| (output.path.clone(), output.blake3.clone())));
    if let Some(first) = done.outputs.first() {
        let marker = ctx.store.sidecar_path(&first.path, Sidecar::Done);
        let marker = marker.strip_prefix(ctx.store.run_dir()).unwrap_or(&marker);
        contents.push((marker.to_string_lossy().into_owned(), committed.marker.clone()));
    }
    contents
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
pub fn failure(class: &str, message: impl Into<String>) -> Failure {
    Failure { class: class.into(), message: message.into(), error_id: Some(error_id()), ..Failure::default() }
}

/// 12 hex digits that join log, usage and failures.
pub fn error_id() -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    id[id.len() - 12..].to_owned()
}
