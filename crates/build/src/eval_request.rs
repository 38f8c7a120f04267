//! What an evaluator is asked about what a task made: the outputs, each cut off at so many bytes, beside the task's
//! inputs. Reads only.

use std::fmt::Write as _;
use std::path::Path;

use minijinja::Value;

use crate::check_staleness::{Prepared, render_failure};
use planexe_base::fs::{self, FsError};
use planexe_base::record::Failure;
use planexe_engine::graph::Task;
use planexe_pipeline::project::{EvalSpec, Project, PromptSpec, Template};
use planexe_pipeline::task_inputs::InputError;
use planexe_store::{Candidate, CandidateFile, Store};

/// The system prompt and the prompt of an evaluator for a candidate.
pub fn question(
    project: &Project,
    store: &Store,
    task: &Task,
    prepared: &Prepared,
    spec: &EvalSpec,
    prompt: &PromptSpec,
    candidate: &Candidate,
) -> Result<(String, String), Failure> {
    let templates = || prompt.system.iter().chain([&prompt.prompt]);
    let used = templates().flat_map(|template| template.names.iter().cloned()).collect();
    let mut values = prepared.inputs.context(project, task, &used).map_err(InputError::into_failure)?;
    let outputs = shown(store, candidate, spec.max_bytes, |path| project.spec(task).shown_path(path))
        .map_err(|error| InputError::Fs(error).into_failure())?;
    values.insert("answer".into(), outputs.first().map(Shown::answer).unwrap_or_default());
    values.insert("outputs".into(), Value::from_iter(outputs.iter().map(Shown::value)));
    values.insert("round".into(), candidate.round.max(1).into());
    let said = candidate.failure.as_ref().map(|failed| match &failed.raw_error {
        Some(raw) => format!("{}\n{raw}", failed.message.to_lines()),
        None => failed.message.to_lines(),
    });
    values.insert("error".into(), said.unwrap_or_default().into());
    let values = Value::from_iter(values);
    let render = |template: &Template| template.render(&values).map_err(|error| render_failure(&error));
    let system = prompt.system.as_ref().map(render).transpose()?.unwrap_or_default();
    Ok((system, render(&prompt.prompt)?))
}

/// An output as the evaluator is shown it.
struct Shown {
    path: String,
    text: String,
    json: Option<serde_json::Value>,
}

impl Shown {
    fn value(&self) -> Value {
        Value::from_iter([
            ("path", Value::from(self.path.as_str())),
            ("text", Value::from(self.text.as_str())),
            ("json", Value::from_serialize(&self.json)),
        ])
    }

    fn answer(&self) -> Value {
        match &self.json {
            Some(json) => Value::from_serialize(json),
            None => Value::from(self.text.as_str()),
        }
    }
}

/// The outputs, each cut off at so many bytes.
fn shown(
    store: &Store,
    candidate: &Candidate,
    most: usize,
    name: impl Fn(&str) -> &str,
) -> Result<Vec<Shown>, FsError> {
    let one = |output: &CandidateFile| {
        let path = store.candidate_file(candidate, output);
        fs::require_plain(&path, &path)?;
        let (text, whole) = text_of(&path, most);
        let json =
            (whole && output.path.ends_with(".json")).then(|| serde_json::from_str(&text).ok()).flatten();
        Ok(Shown { path: name(&output.path).to_owned(), text, json })
    };
    candidate.outputs.iter().map(one).collect()
}

/// The text of a file, at most so many bytes, with a word where it was cut; and whether it is whole.
pub fn text_of(path: &Path, most: usize) -> (String, bool) {
    let size = fs::signature(path).ok().flatten().map_or(0, |signature| signature.size);
    let bytes = fs::read_range(path, 0, size.min(most as u64)).map(|(bytes, _)| bytes).unwrap_or_default();
    let cut = size > bytes.len() as u64;
    let end = match std::str::from_utf8(&bytes) {
        // Cut in the middle of a character.
        Err(error) if cut && error.error_len().is_none() => error.valid_up_to(),
        Ok(_) => bytes.len(),
        Err(_) => return (format!("[no text: {size} bytes]"), false),
    };
    let mut text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if cut {
        let _ = write!(text, "\n[cut off here: {end} of {size} bytes]");
    }
    (text, !cut)
}
