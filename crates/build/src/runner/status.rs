//! The `.status` and the log lines of an attempt, in each of its states.

use super::{BuildContext, Job, isolated};
use planexe_base::clock;
use planexe_base::fs::{Durability, FsError};
use planexe_base::record::{Failure, State, Status};
use planexe_llm::retry::Budgets;
use planexe_store::logs::FailureLine;

/// Has `.status` and `failures.jsonl` say what broke the build at this task, as far as they can be written. What was used
/// up stays so: nothing went wrong with the answers.
pub fn note_broken(ctx: &BuildContext, job: &Job, failure: &Failure) {
    log_failure(ctx, job, failure);
    let _ = write_status(ctx, job, State::Failed, Some(failure));
}

pub(super) fn log_failure(ctx: &BuildContext, job: &Job, failure: &Failure) {
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
pub(super) fn status_of(ctx: &BuildContext, job: &Job, state: State) -> Status {
    let spec = ctx.project.spec(&job.task);
    let mut status = Status::new(job.task.name.as_str(), state);
    let since = job.took();
    let now = std::time::SystemTime::now();
    status.other = job.other.status.clone();
    status.last.attempt = job.attempt;
    status.last.started_utc = Some(clock::format_utc(now.checked_sub(since).unwrap_or(now)));
    if state != State::Running {
        status.last.ended_utc = Some(clock::format_utc(now));
        status.last.duration_s = Some(round(since.as_secs_f64()));
    }
    status.last.progress_utc = Some(clock::format_utc(now));
    if let Some(candidate) = job.history.candidate.as_deref().filter(|_| job.evaluates) {
        // Who made it; who evaluates it is said there.
        let made = candidate.made_with.as_ref();
        let endpoint = made.and_then(|made| ctx.project.endpoints.iter().find(|it| it.name == made.endpoint));
        status.last.model = made.map(|made| made.model.clone());
        status.last.api = endpoint.map(|endpoint| endpoint.api().to_owned());
    } else if let Some(prompt) = spec.recipe.prompt()
        && let Some(&at) = prompt.models.get(job.endpoint)
    {
        let endpoint = &ctx.project.endpoints[at];
        status.last.model = Some(endpoint.model_name().to_owned());
        status.last.api = Some(endpoint.api().to_owned());
    }
    if let Some(calls) = spec.calls().filter(|_| status.last.model.is_none()) {
        let endpoint = &ctx.project.endpoints[calls.endpoint];
        status.last.model = Some(endpoint.model_name().to_owned());
        status.last.api = Some(endpoint.api().to_owned());
    }
    status.last.pid = Some(ctx.pid);
    status.last.host = Some(ctx.host.clone());
    status.last.step = Some(spec.step);
    status.last.steps_total = Some(ctx.steps_total);
    status.last.decision_id = Some(job.prepared.decision_id.clone());
    let usage = job.history.usage.plus(job.live.calls());
    if usage.calls > 0 {
        status.result.usage = Some(usage);
    }
    if state != State::Done && job.history.own.budgets != Budgets::default() {
        status.budgets = serde_json::to_value(&job.history.own.budgets).ok();
    }
    status.isolation = isolated::described(ctx, job);
    status.quality.eval = job.history.evaluation.as_ref().and_then(|it| serde_json::to_value(it).ok());
    status
}

/// Says that an attempt runs. That of a prompt is synced with what its call brings, before which it does not matter: but
/// for one that takes the place of a state in which answers and retries are counted.
pub(super) fn announce(ctx: &BuildContext, job: &Job) -> Result<(), FsError> {
    let spec = ctx.project.spec(&job.task);
    let asks = spec.recipe.prompt().is_some() && spec.isolate.is_none();
    let counts = job.attempt > 1
        || job.history.own.budgets != Budgets::default()
        || !job.history.own.rejected.is_empty();
    let durability = if asks && !counts { Durability::Unsynced } else { durability(ctx, job) };
    write_status_with(ctx, job, State::Running, None, durability)
}

/// Writes the `.status` of an attempt.
pub(super) fn write_status(
    ctx: &BuildContext,
    job: &Job,
    state: State,
    failure: Option<&Failure>,
) -> Result<(), FsError> {
    write_status_with(ctx, job, state, failure, durability(ctx, job))
}

/// Synced where answers are paid for: a state that came back with the power would set an answer aside,
/// or have a rejected one asked for anew.
fn durability(ctx: &BuildContext, job: &Job) -> Durability {
    let spec = ctx.project.spec(&job.task);
    let paid = spec.recipe.prompt().is_some()
        || spec.calls().is_some()
        || spec.eval.is_some()
        || spec.isolate.is_some();
    if paid { Durability::Synced } else { Durability::Unsynced }
}

fn write_status_with(
    ctx: &BuildContext,
    job: &Job,
    state: State,
    failure: Option<&Failure>,
    durability: Durability,
) -> Result<(), FsError> {
    let Some(first) = job.task.outputs.first() else { return Ok(()) };
    let mut status = status_of(ctx, job, state);
    status.result.failure = failure.cloned();
    ctx.store.write_status(first, &status, durability)
}

/// Milliseconds are enough for people and small enough for files.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
