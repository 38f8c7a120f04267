//! Tools that look at a plan and steer it.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::Fault;
use super::{Context, End, Plan, Server};
use crate::ops::clean::{CleanOptions, Going};
use crate::ops::detach::{self, Begun};
use crate::ops::explain::explained;
use crate::ops::files::Files;
use crate::ops::retry::{RetryOptions, retry as try_anew};
use crate::ops::status::{Seen, every_task, look, view};
use crate::ops::stop::{building, stoppable};
use crate::ops::wait::{For, news_of, wait as wait_for};
use crate::ops::{list, resume as resuming};
use planexe_base::exit;
use planexe_base::style::{Shown, clean};
use planexe_pipeline::allowed_pipelines::Only;
use planexe_store::control::Control;
use planexe_store::index::Index;
use planexe_ui::views::news::{Cursor, News};
use planexe_ui::views::{StatusView, TaskView, hint_of, reason_of};

/// What to do while all is well.
const WAIT: &str = "`plan_wait` with this `cursor` until something happens";
/// At most so many names or tasks of one kind are told.
const SOME: usize = 8;
/// A text of a model or a server is told no longer than this.
const SAID: usize = 400;
/// A text that explains is told no longer than this.
const LONG: usize = 3000;
/// How often a client that asked for it is told how far the plan is.
const NEWS: Duration = Duration::from_secs(5);

/// `plan_status`.
#[derive(Debug, Deserialize)]
pub struct StatusOf {
    plan_id: String,
    #[serde(default)]
    full: bool,
}

/// Looks at a plan.
pub(super) fn status(context: &Context<'_>, of: StatusOf) -> Result<Value, Fault> {
    let plan = context.server.open(&of.plan_id)?;
    let seen = seen(&plan);
    let status = view(&plan.session, &plan.opened, &seen);
    let mut short = condensed(&plan, &seen, &status)?;
    if of.full {
        short["status"] = serde_json::to_value(&status).map_err(exit::Error::from)?;
    }
    Ok(short)
}

pub(super) fn seen(plan: &Plan) -> Seen {
    look(&plan.session, &plan.opened, &Index::load(&plan.opened.store), &every_task(&plan.opened))
}

/// A text of a length an agent has room for.
fn short(text: &str) -> String {
    let text = planexe_base::style::clean_lines(text);
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
fn put_names(answer: &mut Value, name: &str, names: &[String]) {
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
pub(super) fn condensed(plan: &Plan, seen: &Seen, status: &StatusView) -> Result<Value, Fault> {
    let phase = status.run.phase.as_str();
    let counts: serde_json::Map<String, Value> = status
        .counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| (state.clone(), json!(count)))
        .collect();
    let done: u32 = Shown::ALL
        .iter()
        .filter(|s| s.is_complete())
        .map(|s| status.counts.get(s.word()).copied().unwrap_or(0))
        .sum();
    let all: u32 = status.counts.values().sum();
    // The whole is not said to be there before it is.
    let whole = phase == "completed" && stale(status) == 0;
    let percent = if whole { 100 } else { (u64::from(done) * 100 / u64::from(all.max(1))).min(99) };
    let mut answer = json!({
        "plan_id": plan.id,
        "phase": phase,
        "steps_completed": status.steps_completed,
        "steps_total": status.steps_total,
        "progress_percent": percent,
        "counts": counts,
        "stopped": matches!(phase, "stopped" | "interrupted" | "aborted"),
        "paused": phase == "paused",
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
    put_quality(&mut answer, status);
    if matches!(phase, "stopped" | "waiting") {
        put(&mut answer, "stopped_because", plan.opened.store.why_stopped().map(|why| json!(short(&why))));
    }
    if phase == "completed" {
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
        Shown::Running,
        |task| json!({ "task": task.task, "doing": task.doing, "elapsed_s": task.elapsed_s.map(f64::round), "expected_s": task.expected_s.map(f64::round) }),
    );
    put(answer, "running", running);
    let failed = tasks_in(status, Shown::Failed, |task| {
        let failure = task.failure.as_ref();
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
        Shown::Waiting,
        |task| json!({ "task": task.task, "asks": task.doing.as_deref().map(short) }),
    );
    put(answer, "waiting_for_person", waiting);
    let held = tasks_in(status, Shown::Pending, |task| {
        let failure = task.failure.as_ref().map(|failure| short(&reason_of(failure)));
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
                "message": short(&error.message),
                "recoverable": error.recoverable,
            })
        }),
    );
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

/// The tasks in a state, some of them if they are many; the loops they belong to are left out.
fn tasks_in(status: &StatusView, state: Shown, tell: impl Fn(&TaskView) -> Value) -> Option<Value> {
    let families: std::collections::HashSet<&str> =
        status.tasks.iter().filter_map(|task| task.family.as_deref()).collect();
    // Of those that did not begin only those that say what for.
    let says = |task: &TaskView| state != Shown::Pending || task.doing.is_some();
    let of = |task: &&TaskView| task.state == state && !families.contains(task.task.as_str()) && says(task);
    let all: Vec<&TaskView> = status.tasks.iter().filter(of).collect();
    let told: Vec<Value> = all.iter().take(SOME).map(|task| without_nulls(tell(task))).collect();
    (!told.is_empty()).then(|| Value::Array(told))
}

/// A build runs and no task does, since what they want is away or taken.
fn is_held(status: &StatusView) -> bool {
    let tasks = || status.tasks.iter();
    status.run.phase == "running"
        && tasks().all(|task| task.state != Shown::Running)
        && tasks().any(|task| task.state == Shown::Pending && task.doing.is_some())
}

/// Tasks that something changed for since they were made.
fn stale(status: &StatusView) -> usize {
    status.tasks.iter().filter(|task| matches!(task.state, Shown::Stale | Shown::Damaged)).count()
}

fn number(tasks: usize) -> String {
    let is = if tasks == 1 { "is" } else { "are" };
    format!("{} {is}", planexe_base::style::count(tasks as u64, "task"))
}

/// What to do next, in one sentence.
pub(super) fn next(plan: &Plan, seen: &Seen, status: &StatusView) -> String {
    let failed = status.error.as_ref().map(|error| error.failed_step.as_str());
    let waiting = status.tasks.iter().find(|task| task.state == Shown::Waiting);
    let unmerged = waiting.filter(|task| task.isolation.is_some());
    let waiting = waiting.map(|task| task.task.as_str());
    match status.run.phase.as_str() {
        "running" if is_held(status) => {
            "nothing runs: see `held`. A server that is away is asked again by itself; a person may have to start it. \
             `plan_wait` meanwhile"
                .to_owned()
        }
        "running" => meanwhile(plan, seen, status),
        "completed" => match stale(status) {
            0 => "`plan_read_file` reads what was made; `plan_files` lists all of it".to_owned(),
            count => {
                format!("{} stale: something changed since. `plan_resume` makes them again", number(count))
            }
        },
        "failed" => match failed {
            Some(task) => format!(
                "`plan_explain` with task `{}` says why; then `plan_retry`, or `plan_resume` once the cause is mended",
                clean(task)
            ),
            None => format!("read `{}`; then `plan_resume`", detach::LOG),
        },
        "waiting" if unmerged.is_some() => format!(
            "`{}` cannot be merged without a person: `plan_explain` says what they are to do, then `plan_resume`",
            clean(waiting.unwrap_or_default())
        ),
        "waiting" => format!(
            "a person is needed: {}, then `plan_resume`",
            plan.typed(&format!("done {}", waiting.map_or("TASK".to_owned(), planexe_ui::views::shell_word)))
        ),
        "never_started" => "`plan_resume` starts it".to_owned(),
        "paused" => "`plan_resume` lets it continue".to_owned(),
        "aborted" => "it was aborted; `plan_resume` with `force: true` continues it all the same".to_owned(),
        _ => "`plan_resume` continues from there".to_owned(),
    }
}

/// What to do while a build runs: what failed, and who is waited for, holds up only what depends on it.
fn meanwhile(plan: &Plan, seen: &Seen, status: &StatusView) -> String {
    let news = news_of(seen);
    let first = |state: Shown| {
        let one = news.iter().find(|one| one.state == state)?;
        status.tasks.iter().find(|task| task.task == one.task)
    };
    let mut said = String::new();
    if let Some(task) = first(Shown::Failed) {
        said += &format!(
            "`{}` failed: `plan_explain` says why, `plan_retry` tries it again at once. ",
            clean(&task.task)
        );
    }
    if let Some(task) = first(Shown::Waiting).filter(|task| task.isolation.is_none()) {
        let typed = plan.typed(&format!("done {}", planexe_ui::views::shell_word(&task.task)));
        said += &format!("`{}` waits for a person: {typed}. ", clean(&task.task));
    }
    if said.is_empty() {
        return WAIT.to_owned();
    }
    said + "The rest continues: `plan_wait` with this `cursor` until something else happens"
}

/// `plan_wait`.
#[derive(Debug, Deserialize)]
pub struct WaitFor {
    plan_id: String,
    #[serde(default = "fifty")]
    timeout_s: u64,
    #[serde(default, rename = "for")]
    what: What,
    cursor: Option<String>,
}

fn fifty() -> u64 {
    50
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    #[default]
    Any,
    Done,
    Failed,
    Human,
}

/// Waits for something to happen to a plan.
pub(super) fn wait(context: &Context<'_>, of: WaitFor) -> Result<Value, Fault> {
    let plan = context.server.open(&of.plan_id)?;
    let what = match of.what {
        What::Any => For::Any,
        What::Done => For::Done,
        What::Failed => For::Failed,
        What::Human => For::Human,
    };
    let since = of.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let since = since.map_err(|wrong| Fault::new("INVALID_ARGUMENT", format!("plan_wait: {wrong}")))?;
    let (start, limit) = (Instant::now(), Duration::from_secs(of.timeout_s));
    let mut told = Duration::ZERO;
    let pause = |seen: &Seen, time: Duration| {
        let waited = start.elapsed();
        if waited >= told + NEWS {
            told = waited;
            let done = seen.standing.declared().filter(|task| task.state.is_complete()).count();
            let text = format!("{}: {done} of {} tasks done", seen.phase, plan.opened.project.specs.len());
            (context.progress)(waited.as_secs_f64(), limit.as_secs_f64(), &text);
        }
        context.call.pause(time)
    };
    let waited = wait_for(&plan.session, &plan.opened, what, since, Some(limit), pause)?;
    let (seen, timed_out, happened, news) = match waited {
        Ok(waited) => {
            let timed_out = waited.timed_out();
            // Of a wait for a failure or a person, the end without one is not what was waited for.
            let happened = !timed_out && (matches!(what, For::Any | For::Done) || waited.code == exit::DONE);
            (waited.seen, timed_out, happened, waited.news)
        }
        Err(End::Cancelled | End::Closed) => (seen(&plan), true, false, Vec::new()),
    };
    let mut short = condensed(&plan, &seen, &view(&plan.session, &plan.opened, &seen))?;
    short["timed_out"] = json!(timed_out);
    short["happened"] = json!(happened);
    let told: Vec<&News> = news.iter().take(SOME).collect();
    put(&mut short, "news", (!told.is_empty()).then(|| json!(told)));
    Ok(short)
}

/// `plan_explain`.
#[derive(Debug, Deserialize)]
pub struct Explain {
    plan_id: String,
    task: String,
}

/// Explains a task.
pub(super) fn explain(context: &Context<'_>, of: Explain) -> Result<Value, Fault> {
    let plan = context.server.open(&of.plan_id)?;
    let views = explained(&plan.session, &plan.opened, &[of.task])?;
    let mut value = serde_json::to_value(views.first()).map_err(exit::Error::from)?;
    lean(&mut value);
    if let Some(object) = value.as_object_mut() {
        // Who answers is known.
        object.retain(|name, _| !matches!(name.as_str(), "schema" | "server"));
        object.entry("reasons").or_insert_with(|| json!([]));
        for list in ["instances", "readers", "roots", "depends_on"] {
            if let Some(Value::Array(items)) = object.get_mut(list)
                && items.len() > 3 * SOME
            {
                let left = items.len() - 3 * SOME;
                items.truncate(3 * SOME);
                object.insert(format!("{list}_left_out"), json!(left));
            }
        }
    }
    Ok(value)
}

/// Takes out what is empty, and cuts long texts: the difference of two prompts may be as long as both.
fn lean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((at, _)) = text.char_indices().nth(LONG) {
                let left = text[at..].chars().count();
                text.truncate(at);
                *text += &format!("… ({left} characters more)");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lean),
        Value::Object(members) => {
            members.retain(|_, value| {
                !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
            });
            members.values_mut().for_each(lean);
        }
        _ => {}
    }
}

/// `plan_stop`.
#[derive(Debug, Deserialize)]
pub struct Stop {
    plan_id: String,
    #[serde(default)]
    hard: bool,
}

/// Has a build start nothing more, or end.
pub(super) fn stop(context: &Context<'_>, of: Stop) -> Result<Value, Fault> {
    let dir = context.server.find(&of.plan_id)?;
    context.server.must_build()?;
    // Whatever the pipeline is, and whichever: what runs can be stopped.
    let store = planexe_store::Store::open(&dir);
    let Some(owner) = stoppable(&store) else {
        return Ok(json!({
            "plan_id": of.plan_id,
            "stop_requested": false,
            "message": "no build is running: there is nothing to stop",
        }));
    };
    let (control, what) = match of.hard {
        false => (
            Control::Stop,
            "starts nothing more; what runs finishes and is recorded. `plan_resume` continues from there",
        ),
        true => (
            Control::Abort { hard: true },
            "ends at once; all that is done is kept. `plan_resume` with `force: true` continues",
        ),
    };
    store.ask(&control)?;
    Ok(json!({
        "plan_id": of.plan_id,
        "stop_requested": true,
        "message": format!("the build (process {}) {what}; `plan_wait` with `for: done` waits for its end", owner.pid),
    }))
}

/// `plan_resume`.
#[derive(Debug, Deserialize)]
pub struct Resume {
    plan_id: String,
    #[serde(default)]
    force: bool,
}

/// Starts or goes on with a plan.
pub(super) fn resume(context: &Context<'_>, of: Resume) -> Result<Value, Fault> {
    let server = context.server;
    let dir = server.find(&of.plan_id)?;
    server.must_build()?;
    // Also of a build that a person has paused: it goes on only if it is of a pipeline of the server's. Faults in that
    // keep it from nothing.
    let plan = match server.open_to_steer(&of.plan_id) {
        Err(fault) if fault.code == "NOT_ALLOWED" => return Err(fault),
        plan => plan,
    };
    let records = planexe_store::Store::open(&dir);
    if let Some(owner) = building(&records) {
        if records.is_paused() {
            records.ask(&Control::Pause(false))?;
            let build =
                json!({ "state": "running", "pid": owner.pid, "message": "it was paused and continues" });
            let cursor = plan.as_ref().map_or(Cursor::default().to_string(), |plan| cursor(&seen(plan)));
            return Ok(json!({ "plan_id": of.plan_id, "build": build, "cursor": cursor, "next": WAIT }));
        }
        let fault = Fault::new("PLAN_RUNNING", format!("a build works on the plan (process {})", owner.pid));
        return Err(fault.hint("`plan_wait` waits for it; `plan_stop` has it end"));
    }
    let plan = plan?;
    let seen = seen(&plan);
    // What a person starts with `planexe build` an agent starts with this.
    let is_open =
        |task: &TaskView| task.partial == Some(true) || matches!(task.state, Shown::Stale | Shown::Damaged);
    match seen.phase {
        "never_started" => {}
        "completed" if seen.standing.declared().any(is_open) => {}
        _ => resuming::refuse(&seen, of.force)?,
    }
    let build = begin(server, &plan)?;
    Ok(json!({ "plan_id": plan.id, "build": build, "cursor": cursor(&seen), "next": after(&build) }))
}

/// What to do after a build was started.
pub(super) fn after(build: &Value) -> &'static str {
    match build["state"].as_str() {
        Some("ended") => "`plan_status` says how it ended",
        _ => WAIT,
    }
}

/// Starts a build that outlives this server, and says what became of it at once.
pub(super) fn begin(server: &Server, plan: &Plan) -> Result<Value, Fault> {
    let id = plan.id.as_str();
    // The build looks for itself: `run.toml` may be another by then.
    let only = plan.opened.because.as_ref().and_then(Only::arguments).ok_or_else(|| {
        Fault::new("NOT_ALLOWED", format!("`{id}` is of a pipeline that this server was not started with"))
    })?;
    let starting = server.one_more(id)?;
    let name = id.to_owned();
    let told = move |code: u8| super::log(&format!("the build of {name} ended with exit code {code}"));
    let begun = detach::build(&plan.dir, &only, &server.options, told)
        .map_err(|error| Fault::new("INTERNAL_ERROR", format!("the build could not be started: {error}")))?;
    drop(starting);
    Ok(match begun {
        Begun::Runs { pid } => {
            super::log(&format!("the build of {id} is process {pid}"));
            json!({ "state": "running", "pid": pid })
        }
        Begun::Slow { pid } => {
            json!({ "state": "starting", "pid": pid, "message": "it has not begun to work yet; `plan_status` says when" })
        }
        // Somebody was faster.
        Begun::Ended { code: exit::LOCKED, .. } => {
            json!({ "state": "running", "message": "another build works on it already" })
        }
        Begun::Ended { code: exit::USAGE, said } => {
            return Err(Fault::new("BUILD_REFUSED", format!("the build of `{id}` was refused: {}", short(&said)))
                .hint("a person must fix what it names (keys: `planexe keys`); then `plan_resume` continues. `model_profiles` shows which profiles are ready")
                .details(json!({ "plan_id": id, "exit_code": exit::USAGE })));
        }
        Begun::Ended { code, said } => json!({ "state": "ended", "exit_code": code, "said": short(&said) }),
    })
}

/// `plan_retry`.
#[derive(Debug, Deserialize)]
pub struct Retry {
    plan_id: String,
    #[serde(default)]
    tasks: Vec<String>,
    #[serde(default = "yes")]
    build: bool,
}

fn yes() -> bool {
    true
}

/// Has failed tasks tried anew.
pub(super) fn retry(context: &Context<'_>, of: Retry) -> Result<Value, Fault> {
    let server = context.server;
    server.find(&of.plan_id)?;
    server.must_build()?;
    let plan = server.open_to_steer(&of.plan_id)?;
    let before = seen(&plan);
    let args = RetryOptions { tasks: of.tasks, ..RetryOptions::default() };
    let retried = try_anew(&plan.session, &plan.opened, &args)?;
    if retried.tasks.is_empty() {
        return Err(Fault::new("PLAN_NOT_FAILED", "no task failed: there is nothing to retry")
            .hint("`plan_status` says where the plan stands"));
    }
    let mut answer = json!({ "plan_id": plan.id, "tasks": retried.tasks, "cursor": cursor(&before) });
    let build = match (retried.taken_up, of.build) {
        (true, _) => json!({ "state": "running", "message": "the running build continues with it" }),
        (false, true) => begin(server, &plan)?,
        (false, false) => {
            answer["next"] = json!("`plan_resume` builds");
            return Ok(answer);
        }
    };
    answer["next"] = json!(after(&build));
    answer["build"] = build;
    Ok(answer)
}

/// `plan_invalidate`.
#[derive(Debug, Deserialize)]
pub struct Invalidate {
    plan_id: String,
    tasks: Vec<String>,
    #[serde(default)]
    cascade: bool,
    #[serde(default)]
    confirm: bool,
    #[serde(default)]
    dry_run: Option<bool>,
}

/// Has tasks made again.
pub(super) fn invalidate(context: &Context<'_>, of: Invalidate) -> Result<Value, Fault> {
    let plan = context.server.open_to_steer(&of.plan_id)?;
    if of.dry_run == Some(false) && !of.confirm {
        return Err(Fault::new("NOT_CONFIRMED", "`dry_run: false` wants `confirm: true` beside it")
            .hint("without both, it is only said what would go"));
    }
    let dry_run = of.dry_run.unwrap_or(!of.confirm);
    let args = CleanOptions { tasks: of.tasks, downstream: of.cascade, dry_run, ..CleanOptions::default() };
    let going = Going::find(&plan.session, &plan.opened, &args)?;
    let names: Vec<String> = going.goes.iter().map(|one| one.task.clone()).collect();
    let files: usize = going.goes.iter().map(|one| one.files.len()).sum();
    let answers: usize = going.goes.iter().map(|one| one.answers).sum();
    let remade = going.remade.clone();
    if !dry_run {
        going.carry_out(&plan.session, &plan.opened)?;
    }
    let next = match (names.is_empty(), dry_run) {
        (true, _) => "nothing of them is made yet, so nothing goes; `plan_resume` builds",
        (_, true) => "nothing was changed; `confirm: true` does it",
        (_, false) => "`plan_resume` makes them again",
    };
    let done = !dry_run && !names.is_empty();
    let mut answer = json!({ "plan_id": plan.id, "done": done, "dry_run": dry_run });
    put_names(&mut answer, "tasks", &names);
    put(&mut answer, "files", Some(json!(files)));
    put(&mut answer, "answers", Some(json!(answers)));
    put_names(&mut answer, "remade_if_changed", &remade);
    answer["next"] = json!(next);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_what_is_empty_goes() {
        let long = "ä".repeat(LONG + 7);
        let mut value =
            json!({ "reasons": [{ "diff": long, "code": "x", "old": null }], "n": 3, "roots": [] });
        lean(&mut value);
        let diff = value["reasons"][0]["diff"].as_str().unwrap();
        assert!(diff.ends_with("… (7 characters more)") && diff.chars().count() < LONG + 30, "{diff}");
        assert_eq!((&value["reasons"][0]["code"], &value["n"]), (&json!("x"), &json!(3)));
        assert_eq!((value["reasons"][0].get("old"), value.get("roots")), (None, None));
    }
}
