//! Where a plan stands and what to do next, in as few words as an agent has room for.

use planexe_base::record::State;
use serde_json::{Value, json};

use super::Plan;
use super::tool_error::ToolError;
use crate::ops::detach;
use crate::ops::files::Files;
use crate::ops::list;
use crate::ops::status::{Seen, every_task, look};
use crate::ops::wait::news_of;
use planexe_base::run_phase::RunPhase;
use planexe_base::style::{self, clean};
use planexe_store::index::Index;
use planexe_ui::views::news::Cursor;
use planexe_ui::views::{ParkedView, StatusView, TaskView, hint_of, reason_of};

/// What to do while all is well.
pub(super) const WAIT: &str = "`plan_wait` with this `cursor` until something happens";
/// At most so many names or tasks of one kind are told.
pub(super) const SOME: usize = 8;
/// A text of a model or a server is told no longer than this.
const SAID: usize = 400;

pub(super) fn seen(plan: &Plan) -> Seen {
    look(&plan.session, &plan.opened, &Index::load(&plan.opened.store), &every_task(&plan.opened))
}

/// A text of a length an agent has room for.
pub(super) fn short(text: &str) -> String {
    let text = style::clean_lines(text);
    match text.char_indices().nth(SAID) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Some of many names, and how many there are.
fn some(names: &[String]) -> Option<Value> {
    let told: Vec<&String> = names.iter().take(SOME).collect();
    (!names.is_empty()).then(|| json!({ "count": names.len(), "tasks": told }))
}

/// Puts names into an answer, and how many of them were left out.
pub(super) fn put_names(answer: &mut Value, name: &str, names: &[String]) {
    let told = &names[..names.len().min(3 * SOME)];
    answer[name] = json!(told);
    if told.len() < names.len() {
        answer[format!("{name}_left_out")] = json!(names.len() - told.len());
    }
}

/// Without members that say nothing.
pub(super) fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

/// Where a plan stands, in as few words as will do.
pub(super) fn condensed(plan: &Plan, seen: &Seen, status: &StatusView) -> Result<Value, ToolError> {
    let phase = status.run.phase;
    let counts: serde_json::Map<String, Value> = status
        .counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| (state.clone(), json!(count)))
        .collect();
    let done: u32 = State::ALL
        .iter()
        .filter(|s| s.is_complete())
        .map(|s| status.counts.get(s.name()).copied().unwrap_or(0))
        .sum();
    let all: u32 = status.counts.values().sum();
    // The whole is not said to be there before it is.
    let whole = phase == RunPhase::Completed && stale(status) == 0;
    let percent = if whole { 100 } else { (u64::from(done) * 100 / u64::from(all.max(1))).min(99) };
    let mut answer = json!({
        "plan_id": plan.id,
        "phase": phase,
        "steps_completed": status.steps_completed,
        "steps_total": status.steps_total,
        "progress_percent": percent,
        "counts": counts,
        "stopped": matches!(phase, RunPhase::Stopped | RunPhase::Interrupted | RunPhase::Aborted),
        "paused": phase == RunPhase::Paused,
    });
    put_tasks(&mut answer, status);
    for (name, value) in [
        ("eta_s", status.eta_s.map(|eta| json!(eta.round()))),
        ("cost_usd", status.cost_usd.map(|usd| json!((usd * 1e6).round() / 1e6))),
        ("last_progress_at", status.last_progress_at.as_ref().map(|at| json!(at))),
        ("last_llm_call_at", status.last_llm_call_at.as_ref().map(|at| json!(at))),
        ("idle_s", status.idle_s.map(|idle| json!(idle.round()))),
        ("started_utc", status.run.started_utc.as_ref().map(|at| json!(at))),
        ("pipeline", Some(json!(status.run.pipeline))),
        ("profile", plan.opened.project.profile.as_ref().map(|name| json!(name))),
        ("label", status.run.label.as_ref().map(|label| json!(label))),
        ("parent_plan_id", status.run.parent.as_ref().map(|parent| json!(parent))),
        ("prompt_excerpt", list::excerpt(&plan.opened).map(|text| json!(text))),
    ] {
        put(&mut answer, name, value);
    }
    let parked = status.parked.iter().map(|parked| {
        json!({
            "model": parked.model,
            "until_utc": parked.until_utc,
            "left_s": parked.left_s.round(),
            "message": short(&parked.message),
        })
    });
    put(
        &mut answer,
        "parked",
        Some(parked.collect::<Vec<Value>>()).filter(|all| !all.is_empty()).map(Value::from),
    );
    put_quality(&mut answer, status);
    if matches!(phase, RunPhase::Stopped | RunPhase::Waiting) {
        put(&mut answer, "stopped_because", plan.opened.store.why_stopped().map(|why| json!(short(&why))));
    }
    if phase == RunPhase::Completed {
        let files = Files::seen(&plan.opened, seen)?;
        let results = files.results().into_iter().take(SOME);
        let results: Vec<Value> =
            results.map(|row| json!({ "path": row.path, "bytes": row.bytes })).collect();
        answer["results"] = json!(results);
    }
    answer["cursor"] = json!(cursor(seen));
    answer["next"] = json!(next(plan, seen, status));
    Ok(answer)
}

/// What has been seen by now, for `plan_wait`.
pub(super) fn cursor(seen: &Seen) -> String {
    Cursor::at(&news_of(seen)).to_string()
}

/// Tasks that run, failed, wait for a person or are held, some of each.
fn put_tasks(answer: &mut Value, status: &StatusView) {
    let running = tasks_in(
        status,
        State::Running,
        |task| json!({ "task": task.task, "doing": task.doing, "elapsed_s": task.elapsed_s.map(f64::round), "expected_s": task.expected_s.map(f64::round) }),
    );
    put(answer, "running", running);
    let failed = tasks_in(status, State::Failed, |task| {
        let failure = task.result.failure.as_ref();
        json!({
            "task": task.task,
            "class": failure.map(|failure| &failure.class),
            "message": failure.map(|failure| short(&reason_of(failure))),
            "hint": failure.and_then(hint_of),
        })
    });
    put(answer, "failed", failed);
    let waiting = tasks_in(
        status,
        State::Waiting,
        |task| json!({ "task": task.task, "asks": task.doing.as_deref().map(short) }),
    );
    put(answer, "waiting_for_person", waiting);
    let held = tasks_in(status, State::Pending, |task| {
        let failure = task.result.failure.as_ref().map(|failure| short(&reason_of(failure)));
        json!({ "task": task.task, "doing": task.doing.as_deref().map(short), "message": failure })
    });
    put(answer, "held", held.filter(|_| is_held(status)));
}

/// How whole the results are, and why the run failed.
fn put_quality(answer: &mut Value, status: &StatusView) {
    let quality = &status.quality_summary;
    answer["quality_summary"] = json!({ "complete": quality.complete });
    for (name, tasks) in [
        ("partial", &quality.partial),
        ("sample", &quality.sample),
        ("rescued", &quality.rescued),
        ("accepted", &quality.accepted),
        ("warned", &quality.warned),
    ] {
        put(&mut answer["quality_summary"], name, some(tasks));
    }
    put(
        answer,
        "error",
        status.error.as_ref().map(|error| {
            json!({
                "failure_reason": error.failure_reason,
                "failed_step": error.failed_step,
                "message": short(&error.message.to_lines()),
                "recoverable": error.recoverable,
            })
        }),
    );
}

pub(super) fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

/// The tasks in a state, some of them if they are many; the loops they belong to are left out.
fn tasks_in(status: &StatusView, state: State, tell: impl Fn(&TaskView) -> Value) -> Option<Value> {
    let families: std::collections::HashSet<&str> =
        status.tasks.iter().filter_map(|task| task.family.as_deref()).collect();
    // Of those that did not begin only those that say what for.
    let says = |task: &TaskView| state != State::Pending || task.doing.is_some();
    let of = |task: &&TaskView| task.state == state && !families.contains(task.task.as_str()) && says(task);
    let all: Vec<&TaskView> = status.tasks.iter().filter(of).collect();
    let told: Vec<Value> = all.iter().take(SOME).map(|task| without_nulls(tell(task))).collect();
    (!told.is_empty()).then(|| Value::Array(told))
}

/// A build runs and no task does, since what they want is away or taken.
fn is_held(status: &StatusView) -> bool {
    let tasks = || status.tasks.iter();
    status.run.phase == RunPhase::Running
        && tasks().all(|task| task.state != State::Running)
        && tasks().any(|task| task.state == State::Pending && task.doing.is_some())
}

/// Tasks that something changed for since they were made.
fn stale(status: &StatusView) -> usize {
    status.tasks.iter().filter(|task| matches!(task.state, State::Stale | State::Damaged)).count()
}

fn number(tasks: usize) -> String {
    let is = if tasks == 1 { "is" } else { "are" };
    format!("{} {is}", style::count(tasks as u64, "task"))
}

/// The model whose usage limit is over first.
fn first_reset(status: &StatusView) -> Option<&ParkedView> {
    status.parked.iter().min_by(|one, other| one.left_s.total_cmp(&other.left_s))
}

/// What to do next, in one sentence.
pub(super) fn next(plan: &Plan, seen: &Seen, status: &StatusView) -> String {
    let failed = status.error.as_ref().map(|error| error.failed_step.as_str());
    let waiting = status.tasks.iter().find(|task| task.state == State::Waiting);
    let unmerged = waiting.filter(|task| task.isolation.is_some());
    let waiting = waiting.map(|task| task.task.as_str());
    match status.run.phase {
        RunPhase::Running if is_held(status) => {
            "nothing runs: see `held`. A server that is away is asked again by itself; a person may have to start it. \
             `plan_wait` meanwhile"
                .to_owned()
        }
        RunPhase::Running => meanwhile(plan, seen, status),
        RunPhase::Completed => match stale(status) {
            0 => "`plan_read_file` reads what was made; `plan_files` lists all of it".to_owned(),
            count => {
                format!("{} stale: something changed since. `plan_resume` makes them again", number(count))
            }
        },
        RunPhase::Failed => match failed {
            Some(task) => format!(
                "`plan_explain` with task `{}` says why; then `plan_retry`, or `plan_resume` once the cause is mended",
                clean(task)
            ),
            None => format!("read `{}`; then `plan_resume`", detach::LOG),
        },
        RunPhase::Waiting if unmerged.is_some() => format!(
            "`{}` cannot be merged without a person: `plan_explain` says what they are to do, then `plan_resume`",
            clean(waiting.unwrap_or_default())
        ),
        RunPhase::Waiting => format!(
            "a person is needed: {}, then `plan_resume`",
            plan.typed(&format!("done {}", waiting.map_or("TASK".to_owned(), planexe_ui::views::shell_word)))
        ),
        RunPhase::NeverStarted => "`plan_resume` starts it".to_owned(),
        RunPhase::Paused => "`plan_resume` lets it continue".to_owned(),
        RunPhase::Aborted => "it was aborted; `plan_resume` with `force: true` continues it all the same".to_owned(),
        _ => match first_reset(status) {
            Some(parked) => format!(
                "the usage limit of `{}` is over at {}, in {}: `plan_resume` then. Before that it asks nothing of this model",
                clean(&parked.model),
                clean(&parked.until_utc),
                style::elapsed(parked.left_s)
            ),
            None => "`plan_resume` continues from there".to_owned(),
        },
    }
}

/// What to do while a build runs: what failed, and who is waited for, holds up only what depends on it.
fn meanwhile(plan: &Plan, seen: &Seen, status: &StatusView) -> String {
    let news = news_of(seen);
    let first = |state: State| {
        let one = news.iter().find(|one| one.state == state)?;
        status.tasks.iter().find(|task| task.task == one.task)
    };
    let mut said = String::new();
    if let Some(task) = first(State::Failed) {
        said += &format!(
            "`{}` failed: `plan_explain` says why, `plan_retry` tries it again at once. ",
            clean(&task.task)
        );
    }
    if let Some(task) = first(State::Waiting).filter(|task| task.isolation.is_none()) {
        let typed = plan.typed(&format!("done {}", planexe_ui::views::shell_word(&task.task)));
        said += &format!("`{}` waits for a person: {typed}. ", clean(&task.task));
    }
    if said.is_empty() {
        return WAIT.to_owned();
    }
    said + "The rest continues: `plan_wait` with this `cursor` until something else happens"
}
