//! Tools that steer a plan: stop, resume, retry, and have tasks made again.

use planexe_base::record::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::{Text, Texts, yes};
use super::summary::{WAIT, cursor, put, put_names, seen, short};
use super::tool_error::ToolError;
use super::{Context, Plan, Server};
use crate::ops::clean::{CleanOptions, Going};
use crate::ops::detach::{self, Begun};
use crate::ops::resume as resuming;
use crate::ops::retry::{RetryOptions, TakenUp, retry as try_anew};
use crate::ops::stop::{building, stoppable};
use planexe_base::exit;
use planexe_base::run_phase::RunPhase;
use planexe_pipeline::allowed_pipelines::Only;
use planexe_store::control::Control;
use planexe_ui::views::TaskView;
use planexe_ui::views::news::Cursor;

/// `plan_stop`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// End at once, and give the plan up
    #[serde(default)]
    hard: bool,
}

/// Has a build start nothing more, or end.
pub(super) fn stop(context: &Context<'_>, of: Stop) -> Result<Value, ToolError> {
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Go on even if the plan was given up (phase `aborted`)
    #[serde(default)]
    force: bool,
}

/// Starts or goes on with a plan.
pub(super) fn resume(context: &Context<'_>, of: Resume) -> Result<Value, ToolError> {
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
        let fault =
            ToolError::new("PLAN_RUNNING", format!("a build works on the plan (process {})", owner.pid));
        return Err(fault.hint("`plan_wait` waits for it; `plan_stop` has it end"));
    }
    let plan = plan?;
    let seen = seen(&plan);
    // What a person starts with `planexe build` an agent starts with this.
    let is_open = |task: &TaskView| {
        task.quality.partial == Some(true) || matches!(task.state, State::Stale | State::Damaged)
    };
    match seen.phase {
        RunPhase::NeverStarted => {}
        RunPhase::Completed if seen.standing.declared().any(is_open) => {}
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
pub(super) fn begin(server: &Server, plan: &Plan) -> Result<Value, ToolError> {
    let id = plan.id.as_str();
    // The build looks for itself: `run.toml` may be another by then.
    let only = plan.opened.because.as_ref().and_then(Only::arguments).ok_or_else(|| {
        ToolError::new(
            "NOT_ALLOWED",
            format!("`{id}` is of a pipeline that this server was not started with"),
        )
    })?;
    let starting = server.one_more(id)?;
    let name = id.to_owned();
    let told = move |code: u8| super::log(&format!("the build of {name} ended with exit code {code}"));
    let begun = detach::build(&plan.dir, &only, &server.options, told).map_err(|error| {
        ToolError::new("INTERNAL_ERROR", format!("the build could not be started: {error}"))
    })?;
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
            return Err(ToolError::new("BUILD_REFUSED", format!("the build of `{id}` was refused: {}", short(&said)))
                .hint("a person must fix what it names (keys: `planexe keys`); then `plan_resume` continues. `model_profiles` shows which profiles are ready")
                .details(json!({ "plan_id": id, "exit_code": exit::USAGE })));
        }
        Begun::Ended { code, said } => json!({ "state": "ended", "exit_code": code, "said": short(&said) }),
    })
}

/// `plan_retry`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Only these tasks
    tasks: Option<Texts>,
    /// Go on building at once
    #[serde(default = "yes")]
    build: bool,
}

/// Has failed tasks tried anew.
pub(super) fn retry(context: &Context<'_>, of: Retry) -> Result<Value, ToolError> {
    let server = context.server;
    server.find(&of.plan_id)?;
    server.must_build()?;
    let plan = server.open_to_steer(&of.plan_id)?;
    let before = seen(&plan);
    let args =
        RetryOptions { tasks: of.tasks.map(|tasks| tasks.0).unwrap_or_default(), ..RetryOptions::default() };
    let retried = try_anew(&plan.session, &plan.opened, &args)?;
    if retried.tasks.is_empty() {
        return Err(ToolError::new("PLAN_NOT_FAILED", "no task failed: there is nothing to retry")
            .hint("`plan_status` says where the plan stands"));
    }
    let mut answer = json!({ "plan_id": plan.id, "tasks": retried.tasks, "cursor": cursor(&before) });
    let build = match (retried.taken_up, of.build) {
        (TakenUp::Yes, _) => json!({ "state": "running", "message": "the running build continues with it" }),
        (TakenUp::Asked, _) => json!({
            "state": "running",
            "message": "the running build does not answer at the moment (was it suspended?): it continues with it when it does",
        }),
        (TakenUp::Left, _) => json!({
            "state": "running",
            "message": "the running build is past it: it is retried by the next one, which `plan_resume` starts once this one has ended",
        }),
        (TakenUp::No, true) => begin(server, &plan)?,
        (TakenUp::No, false) => {
            answer["next"] = json!("`plan_resume` builds");
            return Ok(answer);
        }
    };
    answer["next"] = json!(after(&build));
    answer["build"] = build;
    Ok(answer)
}

/// `plan_invalidate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invalidate {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// The tasks, items or outputs
    tasks: Texts,
    /// Also all that depends on them
    #[serde(default)]
    cascade: bool,
    /// Really do it
    #[serde(default)]
    confirm: bool,
    /// Only say what would go, even with `confirm` [default: true unless `confirm` is]
    dry_run: Option<bool>,
}

/// Has tasks made again.
pub(super) fn invalidate(context: &Context<'_>, of: Invalidate) -> Result<Value, ToolError> {
    let plan = context.server.open_to_steer(&of.plan_id)?;
    if of.dry_run == Some(false) && !of.confirm {
        return Err(ToolError::new("NOT_CONFIRMED", "`dry_run: false` wants `confirm: true` beside it")
            .hint("without both, it is only said what would go"));
    }
    let dry_run = of.dry_run.unwrap_or(!of.confirm);
    let args = CleanOptions { tasks: of.tasks.0, downstream: of.cascade, dry_run, ..CleanOptions::default() };
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
