//! Marking a task as done with its outputs as they are: an empty marker filled in, `planexe touch`.

use crate::clock;
use crate::fs::{Durability, FsError};
use crate::graph::Task;
use crate::judge::Judgement;
use crate::project::Project;
use crate::record::{By, Done, Marker, OutputRecord, SCHEMA, State, Status};
use crate::store::Store;
use crate::store::index::Index;

/// Records a task as done: fingerprint and inputs as they would be given now, outputs as they are.
pub fn adopt(
    project: &Project,
    store: &Store,
    index: &Index,
    task: &Task,
    judgement: &Judgement,
    by: By,
) -> Result<(), FsError> {
    let Some(first) = task.outputs.first() else { return Ok(()) };
    let mut outputs = Vec::new();
    for path in &task.outputs {
        if let Some((blake3, bytes)) = index.digest(&store.path(path))? {
            outputs.push(OutputRecord { path: path.clone(), bytes, blake3 });
        }
    }
    let former = match &judgement.marker {
        Marker::Valid(done) => Some(done),
        _ => None,
    };
    let (fingerprint, parts, inputs, decision_id) = match &judgement.prepared {
        Some(prepared) => (
            prepared.fingerprint.digest(),
            prepared.fingerprint.parts().clone(),
            prepared.records(),
            Some(prepared.decision_id.clone()),
        ),
        None => Default::default(),
    };
    let now = clock::now_utc();
    let done = Done {
        schema: SCHEMA,
        task: task.name.clone(),
        fingerprint,
        parts,
        inputs,
        outputs: outputs.clone(),
        completed_utc: now.clone(),
        by,
        checkpoint_id: None,
        made_with: former.and_then(|done| done.made_with.clone()),
        call: former.and_then(|done| done.call.clone()),
        sample: former.is_some_and(|done| done.sample),
        other: serde_json::Map::new(),
    };
    let mut status =
        judgement.status.as_deref().cloned().unwrap_or_else(|| Status::new(&task.name, State::Done));
    status.state = State::Done;
    status.failure = None;
    status.budgets = None;
    status.outputs = outputs;
    status.decision_id = decision_id;
    status.ended_utc = Some(now);
    status.step = Some(project.spec(task).step);
    store.write_done(first, &done, Durability::Synced)?;
    store.write_status(first, &status, Durability::Synced)
}
