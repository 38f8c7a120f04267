//! A text takes the place of the prompt: the file is replaced, and what was answered to it already is given to the runs
//! it was tried on, so that it is not asked for again.

use std::path::{Path, PathBuf};

use crate::Cell;
use crate::cells::{Subject, first_outputs};
use planexe_base::fs::{self, FsError};
use planexe_base::record::{Digest, Marker, OutputRecord};
use planexe_build::check_staleness::call_digest;
use planexe_build::runner::eval::bound;
use planexe_pipeline::project::{EvalSpec, Project};
use planexe_pipeline::texts::is_inline;
use planexe_query::selection::Units;
use planexe_store::Store;
use planexe_store::calls::AnswerState;

/// The file that holds the prompt of a task; none if the pipeline itself does.
pub fn prompt_file(subject: &Subject<'_>) -> Option<(String, PathBuf)> {
    let written = subject.table().prompt.as_ref().filter(|text| !is_inline(text))?;
    Some((written.clone(), subject.project.folder.join(written)))
}

/// The text of the prompt as it is now, a byte order mark left out.
pub fn current_text(subject: &Subject<'_>) -> Result<String, FsError> {
    match prompt_file(subject) {
        Some((_, path)) => {
            Ok(planexe_pipeline::task_inputs::json_of(&fs::linked::read_to_string(&path)?).to_owned())
        }
        None => Ok(subject.table().prompt.clone().unwrap_or_default()),
    }
}

/// Gives a run the answers, and the verdicts on them, that a trial got with its inputs. Returns how many answers. Under
/// the lock of the run.
pub fn give(
    trials: (&Project, &Store),
    cell: &Cell,
    subject: &Subject<'_>,
    to: &Store,
) -> Result<usize, FsError> {
    let (project, store) = trials;
    let units = Units::new(project, store);
    let task = &subject.spec().name;
    let mut given = 0;
    for (key, output) in first_outputs(project, &units, &cell.name) {
        let Marker::Valid(done) = store.read_done(&output) else { continue };
        let name = |task: &str| match &key {
            Some(key) => format!("{task}[{key}]"),
            None => task.to_owned(),
        };
        let outputs: Vec<OutputRecord> = done.outputs.clone();
        for call in store.calls().list(&name(&cell.name))? {
            let mut record = call.record;
            if !call.usable || !(record.evaluation || done.call.as_ref() == Some(&call.name)) {
                continue;
            }
            record.task = name(task);
            record.attempt = 1;
            if record.evaluation {
                let Some(digest) = verdict_digest(subject, &record.endpoint, &record.request, &outputs)
                else {
                    continue;
                };
                record.digest = digest;
                record.verdict = AnswerState::Arrived;
            } else {
                given += 1;
            }
            if to.calls().find(&record.task, &record.digest)?.is_none() {
                to.calls().keep(&record)?;
            }
        }
    }
    Ok(given)
}

/// What a verdict is found by in the run: of these contents, in the first attempt and round.
fn verdict_digest(
    subject: &Subject<'_>,
    endpoint: &str,
    request: &planexe_store::calls::KeptRequest,
    outputs: &[OutputRecord],
) -> Option<Digest> {
    let prompt = subject.spec().eval.as_deref().and_then(EvalSpec::prompt)?;
    let endpoint = subject.project.endpoints.iter().find(|one| one.name == endpoint)?;
    let asked = call_digest(prompt, endpoint, &request.system, &request.prompt, &[]);
    let contents: Vec<&str> = outputs.iter().map(|output| output.blake3.0.as_str()).collect();
    Some(bound(1, 1, &Digest::of(contents.join("\n").as_bytes()), &asked))
}

/// The file of a text among those of a task's experiments. Its ending is that of the prompt's own file, which says
/// whether values are escaped in it.
pub fn text_file(experiments: &Path, subject: &Subject<'_>, digest: &Digest) -> PathBuf {
    let ending = prompt_file(subject).and_then(|(_, path)| path.extension().map(|it| it.to_owned()));
    let ending = ending.map_or_else(|| "md".to_owned(), |it| it.to_string_lossy().into_owned());
    experiments.join("variants").join(format!("{}.{ending}", digest.short()))
}
