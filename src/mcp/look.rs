//! Tools that look at a plan: where it stands, what happens to it, why a task failed.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arguments::{Number, Text};
use super::summary::{SOME, condensed, put, seen};
use super::tool_error::ToolError;
use super::{Context, End};
use crate::ops::explain::explained;
use crate::ops::status::{Seen, view};
use crate::ops::wait::{For, wait as wait_for};
use planexe_base::exit;
use planexe_ui::views::news::{Cursor, News};

/// A text that explains is told no longer than this.
const LONG: usize = 3000;
/// How often a client that asked for it is told how far the plan is.
const NEWS: Duration = Duration::from_secs(5);

/// `plan_status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusOf {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Everything `planexe status --json` gives, under `status`
    #[serde(default)]
    full: bool,
}

/// Looks at a plan.
pub(super) fn status(context: &Context<'_>, of: StatusOf) -> Result<Value, ToolError> {
    let plan = context.server.open(&of.plan_id)?;
    let seen = seen(&plan);
    let status = view(&plan.session, &plan.opened, &seen);
    let mut short = condensed(&plan, &seen, &status)?;
    if of.full {
        short["status"] = serde_json::to_value(&status).map_err(exit::Error::from)?;
    }
    Ok(short)
}

/// `plan_wait`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// The `cursor` of the last answer about this plan [default: everything so far is known]
    cursor: Option<Text>,
    /// Give up after this many seconds
    #[serde(default)]
    timeout_s: Number<0, 1200, 50>,
    /// done: the build ends; failed: a task fails; human: a person is needed; any: the first of these
    #[serde(default, rename = "for")]
    what: What,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum What {
    #[default]
    Any,
    Done,
    Failed,
    Human,
}

/// Waits for something to happen to a plan.
pub(super) fn wait(context: &Context<'_>, of: WaitFor) -> Result<Value, ToolError> {
    let plan = context.server.open(&of.plan_id)?;
    let what = match of.what {
        What::Any => For::Any,
        What::Done => For::Done,
        What::Failed => For::Failed,
        What::Human => For::Human,
    };
    let since = of.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let since = since.map_err(|wrong| ToolError::new("INVALID_ARGUMENT", format!("plan_wait: {wrong}")))?;
    let (start, limit) = (Instant::now(), Duration::from_secs(of.timeout_s.0));
    let mut told = Duration::ZERO;
    let pause = |seen: &Seen, time: Duration| {
        let waited = start.elapsed();
        if waited >= told + NEWS {
            told = waited;
            let done = seen.standing.declared().filter(|task| task.state.is_complete()).count();
            let tasks = planexe_base::style::count(plan.opened.project.specs.len() as u64, "task");
            let text = format!("{}: {done} of {tasks} done", seen.phase);
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// A task (`swot`), one item of a loop (`review[ann]`), or an output (`swot.json`)
    task: Text,
}

/// Explains a task.
pub(super) fn explain(context: &Context<'_>, of: Explain) -> Result<Value, ToolError> {
    let plan = context.server.open(&of.plan_id)?;
    let views = explained(&plan.session, &plan.opened, &[of.task.0])?;
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
                *text += &format!("… ({} more)", planexe_base::style::count(left as u64, "character"));
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
