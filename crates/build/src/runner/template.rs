//! A template over the inputs: no model, no process.

use minijinja::Value;

use super::{BuildContext, Job, Made, Outcome, Stage, complete, context, further_outputs};
use crate::check_staleness::render_failure;
use planexe_pipeline::project::Template;
use planexe_store::commit::Content;

/// Renders the outputs.
pub fn run(ctx: &BuildContext, job: &Job, template: &Template) -> Outcome {
    match outputs(ctx, job, template) {
        Ok(outputs) => complete(ctx, job, outputs, Made::default()),
        Err(failure) => Outcome::Failed(failure),
    }
}

fn outputs(
    ctx: &BuildContext,
    job: &Job,
    template: &Template,
) -> Result<Vec<(String, Content)>, planexe_base::record::Failure> {
    job.live.enter(Stage::Rendering);
    let values = context(ctx, job, &[template])?;
    let text = template.render(&Value::from_iter(values)).map_err(|error| render_failure(&error))?;
    let Some(first) = job.task.outputs.first() else { return Ok(Vec::new()) };
    let answer = Value::from(text.as_str());
    let mut outputs = vec![(first.clone(), Content::Bytes(text.into_bytes()))];
    outputs.extend(further_outputs(ctx, job, ctx.project.spec(&job.task), answer)?);
    Ok(outputs)
}
