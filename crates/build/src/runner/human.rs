//! A task a person does. It waits for `planexe done TASK`, or for the file and an empty marker. Where the task says what
//! the file must satisfy, it waits until that is so, and says what is wrong.

use minijinja::Value;

use super::{BuildContext, Job, Made, Outcome, complete, context, failure};
use crate::check_staleness::render_failure;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs;
use planexe_base::record::By;
use planexe_pipeline::check;
use planexe_pipeline::project::HumanSpec;
use planexe_store::commit::Content;

/// Waits, or records what the person did.
pub fn run(ctx: &BuildContext, job: &Job, human: &HumanSpec) -> Outcome {
    let asked = match context(ctx, job, &[&human.ask]).and_then(|values| {
        human.ask.render(&Value::from_iter(values)).map_err(|error| render_failure(&error))
    }) {
        Ok(text) => text.trim().to_owned(),
        Err(failure) => return Outcome::Failed(failure),
    };
    let Some(who) = &job.passed else { return Outcome::Waiting(asked) };
    let mut outputs = Vec::new();
    for path in &job.task.outputs {
        // What a person wrote and the disk cannot read now is not what they left out.
        let written = match fs::if_content(fs::read(&ctx.store.path(path))) {
            Ok(written) => written.filter(|bytes| !bytes.is_empty()),
            Err(error) => return Outcome::Failed(failure(FailureClass::Io, error.to_string())),
        };
        // What the person wrote is kept to the byte; a file they left out says who let it pass.
        let bytes = written.unwrap_or_else(|| format!("done by {who}\n").into_bytes());
        outputs.push((path.clone(), Content::Bytes(bytes)));
    }
    match wrong(job, &outputs) {
        None => complete(
            ctx,
            job,
            outputs,
            Made { by: Some(By::Human), by_user: Some(who.clone()), ..Made::default() },
        ),
        Some(wrong) => Outcome::Waiting(format!("{asked} ({wrong})")),
    }
}

/// What is wrong with the first file, in words.
fn wrong(job: &Job, outputs: &[(String, Content)]) -> Option<String> {
    let (Some(check), Some((path, Content::Bytes(bytes)))) = (&job.prepared.check, outputs.first()) else {
        return None;
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return Some(format!("`{path}` is not UTF-8")) };
    let violations = check::validate(text, None, Some(check)).err()?;
    let told: Vec<String> = violations.iter().take(3).map(ToString::to_string).collect();
    Some(format!("`{path}`: {}", told.join("; ")))
}
