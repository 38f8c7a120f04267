//! A task a person does. It waits for `planexe done TASK`, or for the file and an empty marker. Where the task says what
//! the file must satisfy, it waits until that is so, and says what is wrong.

use std::collections::BTreeSet;

use minijinja::Value;

use super::{Job, Made, Outcome, Tools, complete, context};
use crate::check;
use crate::context::InputError;
use crate::fs;
use crate::judge::render_failure;
use crate::project::HumanSpec;
use crate::record::{By, Failure};
use crate::store::commit::Content;

/// Waits, or records what the person did.
pub fn run(tools: &Tools, job: &Job, human: &HumanSpec) -> Outcome {
    let asked = match context(tools, job, &[&human.ask]).and_then(|values| {
        human.ask.render(&Value::from_iter(values)).map_err(|error| render_failure(&error))
    }) {
        Ok(text) => text.trim().to_owned(),
        Err(failure) => return Outcome::Failed(failure),
    };
    let Some(who) = &job.passed else { return Outcome::Waiting(asked) };
    let mut outputs = Vec::new();
    for path in &job.task.outputs {
        let written =
            fs::read_optional(&tools.store.path(path)).ok().flatten().filter(|bytes| !bytes.is_empty());
        // What the person wrote is kept to the byte; a file they left out says who let it pass.
        let bytes = written.unwrap_or_else(|| format!("done by {who}\n").into_bytes());
        outputs.push((path.clone(), Content::Bytes(bytes)));
    }
    match wrong(tools, job, human, &outputs) {
        Ok(None) => complete(tools, job, outputs, Made { by: Some(By::Human), ..Made::default() }),
        Ok(Some(wrong)) => Outcome::Waiting(format!("{asked} ({wrong})")),
        Err(failure) => Outcome::Failed(failure),
    }
}

/// What is wrong with the first file, in words.
fn wrong(
    tools: &Tools,
    job: &Job,
    human: &HumanSpec,
    outputs: &[(String, Content)],
) -> Result<Option<String>, Failure> {
    let (Some(compiled), Some((path, Content::Bytes(bytes)))) = (&human.check, outputs.first()) else {
        return Ok(None);
    };
    let used: BTreeSet<String> = compiled.names();
    let seen = job.prepared.inputs.context(&tools.project, &job.task, &used);
    let with = compiled.with(&seen.map_err(InputError::into_failure)?);
    let compiled = with.as_ref().map_or(&**compiled, |(check, _)| check);
    let violations = match std::str::from_utf8(bytes) {
        Ok(text) => check::validate(text, None, Some(compiled)).err(),
        Err(_) => return Ok(Some(format!("`{path}` is not UTF-8"))),
    };
    let violations = violations.unwrap_or_default();
    let told: Vec<String> = violations.iter().take(3).map(ToString::to_string).collect();
    Ok((!told.is_empty()).then(|| format!("`{path}`: {}", told.join("; "))))
}
