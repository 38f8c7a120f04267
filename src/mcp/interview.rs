//! `plan_interview`: what is missing in a plan before it is built.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::arguments::{Number, Text};
use super::tool_error::ToolError;
use crate::ops::detach;
use crate::ops::interview::{self as asking, Answered};
use crate::ops::stop::building;
use planexe_base::exit;
use planexe_pipeline::allowed_pipelines::Only;

/// Most answers at once.
const MOST: usize = 20;

/// `plan_interview`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interview {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Answers of the person, added to the plan word for word before it is looked at
    #[serde(default)]
    answers: Vec<Answer>,
    /// Give up after this many seconds; the look goes on
    #[serde(default)]
    timeout_s: Number<1, 1200, 50>,
}

/// An answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// The `aspect` of the question
    aspect: Text,
    /// What the person said
    text: Text,
}

/// Looks at a plan, with one call unless it was looked at as it is, and tells what to ask.
pub(super) fn interview(context: &Context<'_>, of: Interview) -> Result<Value, ToolError> {
    let server = context.server;
    server.must_build()?;
    let plan = server.open_to_steer(&of.plan_id)?;
    asking::plan_of(&plan.opened)?;
    if let Some(owner) = building(&planexe_store::Store::open(&plan.dir)) {
        let fault =
            ToolError::new("PLAN_RUNNING", format!("a build works on the plan (process {})", owner.pid));
        return Err(
            fault.hint("`plan_create` with `build: false` makes a plan that can be asked about first")
        );
    }
    if of.answers.len() > MOST {
        return Err(ToolError::new("INVALID_ARGUMENT", format!("plan_interview: more than {MOST} answers")));
    }
    if !of.answers.is_empty() {
        let answer = |answer: &Answer| Answered {
            aspect: planexe_base::style::clean(&answer.aspect),
            question: String::new(),
            text: planexe_base::style::clean(&answer.text),
        };
        asking::add(&plan.opened, &of.answers.iter().map(answer).collect::<Vec<_>>())?;
    }
    let only = plan.opened.because.as_ref().and_then(Only::arguments).ok_or_else(|| {
        ToolError::new("NOT_ALLOWED", "the plan is of a pipeline that this server was not started with")
    })?;
    let starting = server.one_more(&of.plan_id)?;
    let failed = |error: std::io::Error| {
        ToolError::new("INTERNAL_ERROR", format!("the look could not be started: {error}"))
    };
    let words = ["interview", "--check", "--json"];
    let mut look = detach::ask(&plan.dir, &only, &server.options, &words).map_err(failed)?;
    let limit = Duration::from_secs(of.timeout_s.0);
    let answer = look.wait(limit, |time| context.call.pause(time).is_none()).map_err(failed)?;
    drop(starting);
    let id = of.plan_id.to_string();
    let Some((code, said)) = answer else {
        return Ok(
            json!({ "plan_id": id, "state": "looking", "next": "`plan_interview` again gives what was found" }),
        );
    };
    let found: Value = serde_json::from_slice(&said).unwrap_or_default();
    if !matches!(code, exit::DONE | exit::STOPPED) || !found["ready"].is_boolean() {
        let message =
            found["error"]["message"].as_str().unwrap_or("the plan could not be looked at").to_owned();
        return Err(ToolError::new("BUILD_REFUSED", message)
            .hint("`plan_status` says what failed; `model_profiles` shows which profiles are ready"));
    }
    let next = match found["ready"] == true {
        true => "enough to begin: `plan_resume` builds, and what is still open can be asked before",
        false => "ask the person these questions, and call again with `answers`",
    };
    let mut answer = json!({ "plan_id": id, "state": "looked", "next": next });
    for key in ["ready", "request", "verdict", "reason", "aspects", "questions"] {
        answer[key] = found[key].clone();
    }
    Ok(answer)
}
