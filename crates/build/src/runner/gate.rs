//! A gate: a condition over the inputs that lets the pipeline go on, warns, stops it, or pauses it for
//! a person. Its output says what it found, the same bytes for the same inputs.

use minijinja::Value;
use serde_json::json;

use super::{BuildContext, Job, Made, Outcome, complete, context, failure};
use crate::check_staleness::render_failure;
use planexe_base::failure_class::FailureClass;
use planexe_base::record::{By, Failure};
use planexe_pipeline::manifest::types::GateAction;
use planexe_pipeline::project::{GateSpec, Template};
use planexe_pipeline::template as render;
use planexe_store::commit::Content;

/// What a gate found.
struct Found {
    /// Its condition is true.
    fails: bool,
    /// It is not, and the condition to warn is; none if there is no such.
    warns: Option<bool>,
    /// What to tell, if anything.
    message: String,
}

/// Looks at the conditions.
pub fn run(ctx: &BuildContext, job: &Job, gate: &GateSpec) -> Outcome {
    let Found { fails, warns, message } = match look(ctx, job, gate) {
        Ok(found) => found,
        Err(failure) => return Outcome::Failed(failure),
    };
    let name = &job.task.name;
    let passed = job.passed.as_ref().filter(|_| fails && gate.action == GateAction::Pause);
    match (gate.action, passed) {
        (GateAction::Stop, _) if fails => return Outcome::Failed(failure(FailureClass::Gate, message)),
        (GateAction::Pause, None) if fails => return Outcome::Waiting(message),
        _ => {}
    }
    let tells = fails || warns == Some(true);
    if tells && passed.is_none() {
        ctx.note(Some(name), true, message.clone());
    }
    let mut found = json!({
        "gate": name,
        "passed": !fails || passed.is_some(),
        "failed_condition": fails,
        "by": if passed.is_some() { "human" } else { "condition" },
        "message": tells.then_some(&message),
    });
    if let (Some(warns), Some(found)) = (warns, found.as_object_mut()) {
        found.insert("warned".to_owned(), warns.into());
    }
    let text = format!("{found:#}\n");
    let Some(first) = job.task.outputs.first() else {
        return Outcome::Failed(failure(FailureClass::Gate, "no output"));
    };
    let outputs = vec![(first.clone(), Content::Bytes(text.into_bytes()))];
    let by = if passed.is_some() { By::Human } else { By::Build };
    // A person who was asked in any case found nothing wrong.
    let approved = passed.is_some() && gate.always_asks();
    let warning = (tells && !approved).then(|| match passed {
        Some(who) => format!("{message} (passed by {who})"),
        None => message,
    });
    complete(ctx, job, outputs, Made { by: Some(by), by_user: passed.cloned(), warning, ..Made::default() })
}

/// Whether the conditions are true, and what to tell.
fn look(ctx: &BuildContext, job: &Job, gate: &GateSpec) -> Result<Found, Failure> {
    let templates: Vec<_> =
        std::iter::once(&gate.fail_if).chain(&gate.warn_if).chain(&gate.message).collect();
    let values = Value::from_iter(context(ctx, job, &templates)?);
    let holds = |condition: &Template| {
        render::eval_condition(&condition.source, &values).map_err(|error| render_failure(&error))
    };
    let fails = holds(&gate.fail_if)?;
    let warns = match &gate.warn_if {
        Some(warn_if) => Some(!fails && holds(warn_if)?),
        None => None,
    };
    let condition = gate.warn_if.as_ref().filter(|_| !fails).unwrap_or(&gate.fail_if);
    let message = match &gate.message {
        _ if !fails && warns != Some(true) => String::new(),
        Some(message) => message.render(&values).map_err(|error| render_failure(&error))?,
        None => format!("the gate's condition holds: {}", condition.source.text.trim()),
    };
    Ok(Found { fails, warns, message: message.trim().to_owned() })
}
