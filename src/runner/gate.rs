//! A gate: a condition over the inputs that lets the pipeline go on, warns, stops it, or pauses it for
//! a person. Its output says what it found, the same bytes for the same inputs.

use minijinja::Value;
use serde_json::json;

use super::{Job, Made, Outcome, Tools, complete, context, failure, further_outputs};
use crate::judge::render_failure;
use crate::manifest::types::GateAction;
use crate::project::GateSpec;
use crate::record::{By, Failure};
use crate::render;
use crate::store::commit::Content;

/// Looks at the condition.
pub fn run(tools: &Tools, job: &Job, gate: &GateSpec) -> Outcome {
    let (fails, message) = match look(tools, job, gate) {
        Ok(found) => found,
        Err(failure) => return Outcome::Failed(failure),
    };
    let name = &job.task.name;
    match (fails, gate.action, &job.passed) {
        (true, GateAction::Stop, None) => return Outcome::Failed(failure("gate", message)),
        (true, GateAction::Pause, None) => return Outcome::Waiting(message),
        (true, GateAction::Warn, _) => tools.note(Some(name), true, message.clone()),
        _ => {}
    }
    let by = if fails && job.passed.is_some() { By::Human } else { By::Build };
    let found = json!({
        "gate": name,
        "passed": !fails || by == By::Human,
        "failed_condition": fails,
        "by": if by == By::Human { "human" } else { "condition" },
        "message": if fails { Some(message) } else { None },
    });
    let text = format!("{found:#}\n");
    let Some(first) = job.task.outputs.first() else { return Outcome::Failed(failure("gate", "no output")) };
    let mut outputs = vec![(first.clone(), Content::Bytes(text.into_bytes()))];
    match further_outputs(tools, job, tools.project.spec(&job.task), Value::from_serialize(&found)) {
        Ok(further) => outputs.extend(further),
        Err(failure) => return Outcome::Failed(failure),
    }
    complete(tools, job, outputs, Made { by: Some(by), ..Made::default() })
}

/// Whether the condition is true, and what to tell.
fn look(tools: &Tools, job: &Job, gate: &GateSpec) -> Result<(bool, String), Failure> {
    let templates: Vec<_> = std::iter::once(&gate.fail_if).chain(&gate.message).collect();
    let values = Value::from_iter(context(tools, job, &templates)?);
    let fails =
        render::eval_condition(&gate.fail_if.source, &values).map_err(|error| render_failure(&error))?;
    let message = match &gate.message {
        Some(message) => message.render(&values).map_err(|error| render_failure(&error))?,
        None => format!("the gate's condition holds: {}", gate.fail_if.source.text.trim()),
    };
    Ok((fails, message.trim().to_owned()))
}
