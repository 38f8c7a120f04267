//! Tools that make, list, put aside and remove plans.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arguments::{Number, Text, yes};
use super::summary::{cursor, next as next_step, seen};
use super::tool_error::ToolError;
use super::{Context, Pipeline, Server, about, steer};
use crate::ops::archive::lock;
use crate::ops::new::{self, Source, Wanted};
use crate::ops::status::view;
use crate::ops::{archive as archiving, list as listing};
use planexe_base::clock;
use planexe_base::exit;
use planexe_base::fs;
use planexe_base::run_phase::RunPhase;
use planexe_pipeline::runs;

/// What a plan was asked for with, relative to the run.
const REQUEST: &str = ".planexe/request.json";
/// A prompt is no longer than this.
const LONGEST_PROMPT: usize = 1 << 20;
/// A label is no longer than this.
const LONGEST_LABEL: usize = 200;
/// So much of a label or prompt is in the id of a plan.
const SLUG: usize = 32;

/// `plan_create`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// What is to be planned: the whole text, a page is best. See `example_prompts`
    prompt: Text,
    /// Which pipeline, as `server_info` names them [default: the first]
    pipeline: Option<Text>,
    /// Which models and settings, as `model_profiles` names them [default: the server's]
    profile: Option<Text>,
    /// A short name for people
    label: Option<Text>,
    /// The plan this one is made after, to be named in its status
    parent_plan_id: Option<Text>,
    /// Start building at once
    #[serde(default = "yes")]
    build: bool,
    /// How far back the same request counts as repeated, seconds; 0: never
    #[serde(default)]
    window_s: Number<0, 604_800, 600>,
}

/// What a plan was asked for with, to know the same request again.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    schema: u32,
    digest: String,
    created_utc: String,
}

/// Makes a plan, or finds the one made by the same request, and starts its build.
pub(super) fn create(context: &Context<'_>, mut of: Create) -> Result<Value, ToolError> {
    let server = context.server;
    let pipeline = about::pipeline(server, of.pipeline.as_deref())?;
    let too_long = |name: &str, most: usize| {
        ToolError::new("INVALID_ARGUMENT", format!("plan_create: `{name}` is longer than {most} bytes"))
    };
    if of.prompt.len() > LONGEST_PROMPT {
        return Err(too_long("prompt", LONGEST_PROMPT).hint("a page or two is best"));
    }
    if of.label.as_ref().is_some_and(|label| label.len() > LONGEST_LABEL) {
        return Err(too_long("label", LONGEST_LABEL));
    }
    let profile = of.profile.take().map(|name| name.0).or_else(|| server.profile.clone());
    about::check_profile(server, pipeline, profile.as_deref())?;
    if let Some(parent) = &of.parent_plan_id
        && server.runs.find_archived(parent).is_none()
    {
        server.find(parent)?;
    }
    new::end_line(&mut of.prompt.0);
    let digest = digest(&[&of.prompt, &pipeline.name, profile.as_deref().unwrap_or("")]);
    // Of two servers that are asked the same at once, the second finds what the first has made.
    let held = server.runs.hold()?;
    let (id, deduplicated) = match former(server, &digest, of.window_s.0)? {
        Some(id) => (id, true),
        None => (make(server, pipeline, profile, &of, &digest)?, false),
    };
    drop(held);
    let plan = server.open_to_steer(&id).map_err(|fault| fault.details(json!({ "plan_id": id })))?;
    let may_begin = of.build && server.may_build;
    let before = seen(&plan);
    let begins = may_begin && (!deduplicated || before.phase == RunPhase::NeverStarted);
    let build = match begins {
        true => steer::begin(server, &plan)?,
        false => json!({ "state": "not_started", "message": why_not(&of, server, deduplicated) }),
    };
    let seen = seen(&plan);
    let next = match (begins, seen.phase) {
        (true, _) => steer::after(&build).to_owned(),
        (false, RunPhase::NeverStarted) if !server.may_build => {
            format!("a person starts it: `{}`", plan.typed("build"))
        }
        _ => next_step(&plan, &seen, &view(&plan.session, &plan.opened, &seen)),
    };
    Ok(json!({
        "plan_id": id,
        "deduplicated": deduplicated,
        "pipeline": pipeline.name,
        "profile": plan.opened.project.profile,
        "phase": seen.phase,
        "build": build,
        "cursor": cursor(&before),
        "next": next,
    }))
}

fn why_not(of: &Create, server: &Server, deduplicated: bool) -> &'static str {
    match () {
        () if !server.may_build => "this server starts no builds",
        () if !of.build => "`build: false` was given",
        () if deduplicated => "the plan there is was started before",
        () => "",
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The plan that was made by the same request not long ago.
fn former(server: &Server, digest: &str, window_s: u64) -> Result<Option<String>, ToolError> {
    if window_s == 0 {
        return Ok(None);
    }
    let now = clock::now_utc();
    let is_it = |dir: &Path| {
        let bytes = fs::read_capped(&dir.join(REQUEST), 1 << 16).ok()?;
        let request: Request = serde_json::from_slice(&bytes).ok()?;
        let age = clock::seconds_between(&request.created_utc, &now)?;
        // A clock that was set back makes nothing young.
        (request.digest == digest && age.abs() <= window_s as f64).then_some(())
    };
    // A folder that only looks like the plan that is asked for is not given for it.
    let ours = |id: &str| !server.open_to_steer(id).is_err_and(|fault| fault.code == "NOT_ALLOWED");
    let found = server.runs.list_named(false)?.into_iter();
    Ok(found
        .map(|plan| (plan.id, plan.dir))
        .find(|(id, dir)| is_it(dir).is_some() && ours(id))
        .map(|it| it.0))
}

/// Makes the run; the root is held.
fn make(
    server: &Server,
    pipeline: &Pipeline,
    profile: Option<String>,
    of: &Create,
    digest: &str,
) -> Result<String, ToolError> {
    let now = clock::now_utc();
    let minute: String = now.chars().filter(char::is_ascii_digit).take(12).collect();
    let slug = runs::slug(of.label.as_deref().unwrap_or(&of.prompt), SLUG);
    let slug = if slug.is_empty() { "plan".to_owned() } else { slug };
    let first = format!("{}-{}-{slug}", &minute[..8], &minute[8..]);
    let (id, dir) = new_folder(server, &first)?;
    let mut session = server.base.session(&dir);
    session.place.profile = profile;
    let request = Request { schema: 1, digest: digest.to_owned(), created_utc: now };
    let request = serde_json::to_string(&request).map_err(exit::Error::from)? + "\n";
    let wanted = Wanted {
        dir: &dir,
        source: pipeline.file.clone().map_or(Source::BuiltIn, Source::File),
        prompt: Some(of.prompt.0.clone()),
        label: of.label.as_deref().map(str::to_owned),
        parent: of.parent_plan_id.as_deref().map(str::to_owned),
        beside: vec![(REQUEST.to_owned(), request)],
    };
    if let Err(error) = new::make(&session, wanted) {
        // What is half made is no run: its folder, which is ours, would only be in the way.
        let _ = fs::remove_tree(&dir);
        return Err(error.into());
    }
    Ok(id)
}

/// A folder that was not there, of a name that no run has or had; a number follows where there is one.
fn new_folder(server: &Server, first: &str) -> Result<(String, PathBuf), ToolError> {
    let (mut id, mut number) = (first.to_owned(), 1);
    loop {
        let dir = server.runs.root().join(&id);
        if !server.runs.is_taken(&id) && fs::make_new_dir(&dir)? {
            return Ok((id, dir));
        }
        number += 1;
        id = format!("{first}-{number}");
    }
}

/// `plan_list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Maximum number
    #[serde(default)]
    limit: Number<1, 50, 10>,
    /// List archived plans instead
    #[serde(default)]
    archived: bool,
}

/// Lists plans.
pub(super) fn list(context: &Context<'_>, of: List) -> Result<Value, ToolError> {
    let server = context.server;
    let found = server.runs.list_named(of.archived)?;
    let total = found.len();
    let rows = listing::rows(&server.base, found.into_iter().take(of.limit.0 as usize).collect());
    let mut plans = serde_json::to_value(&rows).map_err(exit::Error::from)?;
    for plan in plans.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        plan.retain(|_, value| !value.is_null());
    }
    Ok(json!({ "plans": plans, "total": total }))
}

/// `plan_archive`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Take it back
    #[serde(default)]
    undo: bool,
}

/// Puts a plan aside, or takes it back. What is so already stays so.
pub(super) fn archive(context: &Context<'_>, of: Archive) -> Result<Value, ToolError> {
    let server = context.server;
    let answer = json!({ "plan_id": of.plan_id, "archived": !of.undo });
    let (there, done) = match of.undo {
        false => (server.runs.find(&of.plan_id), server.runs.find_archived(&of.plan_id)),
        true => (server.runs.find_archived(&of.plan_id), server.runs.find(&of.plan_id)),
    };
    let Some(dir) = there else {
        return if done.is_some() {
            Ok(answer)
        } else {
            Err(server.find(&of.plan_id).err().unwrap_or_else(gone))
        };
    };
    let _lock = lock(&server.base.session(&dir), &dir)?;
    archiving::archive(&dir, of.undo)?;
    Ok(answer)
}

fn gone() -> ToolError {
    ToolError::new("PLAN_NOT_FOUND", "the plan is gone").hint("`plan_list` lists the plans")
}

/// `plan_delete`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Really do it
    #[serde(default)]
    confirm: bool,
}

/// Removes a plan.
pub(super) fn delete(context: &Context<'_>, of: Delete) -> Result<Value, ToolError> {
    let server = context.server;
    let dir = server.find(&of.plan_id)?;
    if !of.confirm {
        return Err(ToolError::new(
            "NOT_CONFIRMED",
            format!("`{}` would be removed with all its answers and history", &*of.plan_id),
        )
        .hint("`confirm: true` does it; `plan_archive` keeps it out of the way instead"));
    }
    let _lock = lock(&server.base.session(&dir), &dir)?;
    archiving::delete(&dir)?;
    Ok(json!({ "plan_id": of.plan_id, "deleted": true }))
}
