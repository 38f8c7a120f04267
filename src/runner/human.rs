//! A task a person does. It waits for `planexe done TASK`, or for the file and an empty marker.

use minijinja::Value;

use super::{Job, Made, Outcome, Tools, complete, context};
use crate::fs;
use crate::judge::render_failure;
use crate::project::Template;
use crate::record::By;
use crate::store::commit::Content;

/// Waits, or records what the person did.
pub fn run(tools: &Tools, job: &Job, ask: &Template) -> Outcome {
    let asked = match context(tools, job, &[ask])
        .and_then(|values| ask.render(&Value::from_iter(values)).map_err(|error| render_failure(&error)))
    {
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
    complete(tools, job, outputs, Made { by: Some(By::Human), ..Made::default() })
}
