//! Marking a task as done with its outputs as they are: an empty marker filled in, `planexe touch`.

use crate::check_staleness::Judgement;
use crate::runner::isolated::accepted_by_hand;
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::message::Message;
use planexe_base::record::{
    By, Digest, Done, InputRecord, Kept, Marker, OutputRecord, SCHEMA, State, Status,
};
use planexe_engine::graph::Task;
use planexe_engine::staleness::Content;
use planexe_pipeline::check;
use planexe_pipeline::figures;
use planexe_pipeline::project::Project;
use planexe_store::index::Index;
use planexe_store::{Candidate, Checkpoint, Store, Success, Why, commit};

/// Who says that a task is done.
#[derive(Debug, Clone, Copy)]
pub struct Adopting<'a> {
    /// In what way.
    pub by: By,
    /// The user, where one typed it.
    pub user: Option<&'a str>,
    /// The former and the present text of the plan, where it was edited.
    pub plan: Option<(&'a str, &'a str)>,
}

/// Why a task's outputs cannot be taken as they are, each with what is wrong; nothing if they can.
pub fn faults(project: &Project, store: &Store, task: &Task, judgement: &Judgement) -> Vec<Message> {
    if let Some(state) = &judgement.unknown_state {
        let text =
            format!("its .status has the state `{state}`, which this version of planexe does not know");
        return vec![text.into()];
    }
    if judgement.skipped {
        return vec!["its condition (`when`) is false".into()];
    }
    if to_merge(project, task, judgement).is_some() {
        let task = planexe_ui::views::shell_word(&task.name);
        let text =
            format!("what it committed is not merged; `planexe touch {task}` has the next build merge it");
        return vec![text.into()];
    }
    if accepted(judgement).is_some() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let recorded_empty = |path: &str| match &judgement.marker {
        Marker::Valid(done) => done.outputs.iter().any(|output| output.path == path && output.bytes == 0),
        _ => false,
    };
    for (n, seen) in judgement.seen.iter().enumerate() {
        let path = &seen.path;
        match &seen.content {
            Content::Missing => faults.push(format!("output `{path}` is missing").into()),
            Content::Empty if recorded_empty(path) => {}
            Content::Empty => faults.push(format!("output `{path}` is empty").into()),
            Content::Unreadable(why) => faults.push(format!("output `{path}` cannot be read: {why}").into()),
            Content::File { .. } if n == 0 => {
                faults.extend(invalid(project, store, task, path).map(Message::new))
            }
            Content::File { .. } => {}
        }
    }
    // Without its inputs there is nothing to say it was made from.
    faults.extend(judgement.failure.as_ref().map(|failure| failure.message.clone()));
    faults
}

/// What is wrong with a first output under schema and checks.
fn invalid(project: &Project, store: &Store, task: &Task, path: &str) -> Option<String> {
    let recipe = &project.spec(task).recipe;
    let (schema, check) = recipe.form();
    if recipe.prompt().is_none() && check.is_none() {
        return None;
    }
    let text = match fs::read_to_string(&store.path(path)) {
        Ok(text) => text,
        Err(error) => return Some(format!("output `{path}`: {}", error.reason())),
    };
    let violations = check::validate(&text, schema, check).err()?;
    let more = match violations.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Some(format!("output `{path}` is not valid: {}{more}", violations.first()?))
}

/// What an isolated task made, if it is accepted and only its merge is left.
pub fn success(judgement: &Judgement) -> Option<&Success> {
    judgement.prepared.as_ref()?.candidate.as_deref()?.success.as_ref()
}

/// The candidate that a person accepts in saying that a task is done: what waits for its verdict, or, where there is no
/// other output, what was found wanting.
fn accepted(judgement: &Judgement) -> Option<&Candidate> {
    let candidate = judgement.prepared.as_ref()?.candidate.as_deref()?;
    let waits = |status: &Status| matches!(status.state, State::PendingEval | State::FailedPendingEval);
    let nothing = judgement.seen.iter().any(|seen| seen.content == Content::Missing);
    (judgement.status.as_deref().is_some_and(waits) || nothing).then_some(candidate)
}

/// The candidate of an isolated task that was not let pass: accepted, it is merged before it is done.
pub fn to_merge<'j>(project: &Project, task: &Task, judgement: &'j Judgement) -> Option<&'j Candidate> {
    project.spec(task).isolate.as_ref()?;
    let candidate = judgement.prepared.as_ref()?.candidate.as_deref()?;
    let failed = |status: &Status| status.state == State::Failed;
    let open = accepted(judgement).is_some() || judgement.status.as_deref().is_some_and(failed);
    (open && candidate.success.is_none() && candidate.round > 0).then_some(candidate)
}

/// Accepts such a candidate: its state is `merging`, as if its evaluator had let it pass, and the next build merges it.
/// None: there is none. Otherwise why it cannot be.
pub fn accept_to_merge(
    project: &Project,
    store: &Store,
    task: &Task,
    judgement: &Judgement,
    user: Option<&str>,
    dry_run: bool,
) -> Result<Option<Result<String, String>>, FsError> {
    let (Some(candidate), Some(prepared)) = (to_merge(project, task, judgement), &judgement.prepared) else {
        return Ok(None);
    };
    let Some(isolate) = &project.spec(task).isolate else { return Ok(None) };
    let accepted = accepted_by_hand(store, isolate.lane_of(&task.name), candidate, prepared, user);
    let (candidate, lane) = match accepted {
        Ok(both) => both,
        Err(why) => return Ok(Some(Err(why))),
    };
    let base = lane.base.clone();
    if !dry_run {
        store.write_candidate(&candidate)?;
        store.write_lane(&lane)?;
        if let (Some(first), Some(status)) = (task.outputs.first(), &judgement.status) {
            let mut status = Status::clone(status);
            (status.state, status.result.failure, status.budgets) = (State::Merging, None, None);
            store.write_status(first, &status, Durability::Synced)?;
        }
    }
    Ok(Some(Ok(base)))
}

/// Gives the outputs of a candidate their names; what has them goes to history.
fn install(store: &Store, task: &Task, candidate: &Candidate) -> Result<(), FsError> {
    store.save(&task.name, Why::Replaced, &task.outputs, Durability::Synced)?;
    if let Some(first) = task.outputs.first() {
        store.remove_done(first, Durability::Synced)?;
    }
    let mut renames = Vec::new();
    for (path, content) in candidate.contents(store)? {
        if let commit::Content::Temp(temp) = content {
            renames.push((temp, store.path(&path)));
        }
    }
    fs::publish(&renames, Durability::Synced)
}

/// Records tasks as done: fingerprint and inputs as they would be given now, outputs as they are. All is synced, so that
/// what is marked may be what is replaced next.
pub fn adopt(
    project: &Project,
    store: &Store,
    index: &Index,
    tasks: &[(&Task, &Judgement)],
    how: &Adopting<'_>,
) -> Result<(), FsError> {
    let (mut checkpoints, mut records) = (Vec::new(), Vec::new());
    for (task, judgement) in tasks {
        let Some(first) = task.outputs.first() else { continue };
        let (checkpoint, done, status) = adopted(project, store, index, task, judgement, how)?;
        checkpoints.push(checkpoint);
        records.push((first.as_str(), done, status));
    }
    for (n, checkpoint) in checkpoints.iter().enumerate() {
        // The sync of the last line is one of them all.
        let last = n + 1 == checkpoints.len();
        let durability = if last { Durability::Synced } else { Durability::Unsynced };
        let appended = store.checkpoints().append(checkpoint, durability);
        appended.map_err(|error| error.within(store.run_dir()))?;
    }
    store.write_all_records(&records)?;
    for (task, _) in tasks.iter().filter(|(_, judgement)| accepted(judgement).is_some()) {
        store.remove_candidate(&task.name)?;
    }
    tasks.iter().try_for_each(|(task, _)| store.forget_passed(&task.name))
}

/// What is told of a result that stays as it is though what it was made from changed; nothing if its outputs are others
/// than they were made, or if the files are again those it was made from.
fn kept(former: &Done, inputs: &[InputRecord], outputs: &[OutputRecord], how: &Adopting<'_>) -> Option<Kept> {
    let digest = |inputs: &[InputRecord]| {
        let mut lines: Vec<String> =
            inputs.iter().map(|it| format!("{}\0{}\n", it.path, it.blake3)).collect();
        lines.sort();
        Digest::of(lines.concat().as_bytes())
    };
    let is_same = |output: &OutputRecord| former.outputs.iter().any(|it| it.blake3 == output.blake3);
    let made_from =
        former.kept.as_ref().map_or_else(|| digest(&former.inputs), |kept| kept.made_from.clone());
    if made_from == digest(inputs) || !outputs.iter().all(is_same) {
        return None;
    }
    let mut gone = former.kept.as_ref().map(|kept| kept.gone.clone()).unwrap_or_default();
    if let Some((old, new)) = how.plan {
        gone.retain(|said| !figures::gone(said, new).is_empty());
        for said in figures::gone(old, new) {
            if !gone.contains(&said) {
                gone.push(said);
            }
        }
    }
    Some(Kept { made_from, gone })
}

/// The records of a task that is taken as it is; its outputs are kept.
fn adopted(
    project: &Project,
    store: &Store,
    index: &Index,
    task: &Task,
    judgement: &Judgement,
    how: &Adopting<'_>,
) -> Result<(Checkpoint, Done, Status), FsError> {
    let candidate = accepted(judgement);
    if let Some(candidate) = candidate {
        install(store, task, candidate)?;
    }
    let mut outputs = Vec::new();
    for path in &task.outputs {
        if let Some((blake3, bytes)) = index.digest(&store.path(path))? {
            let record = OutputRecord { path: path.clone(), bytes, blake3 };
            // So that its checkpoint can be restored, like that of anything built.
            store.history().put_output(&store.path(path), None, &record)?;
            outputs.push(record);
        }
    }
    let former = match &judgement.marker {
        Marker::Valid(done) if candidate.is_none() => Some(done),
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
    let mut done = Done {
        schema: SCHEMA,
        task: task.name.clone(),
        fingerprint,
        parts,
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        completed_utc: now.clone(),
        by: how.by,
        by_user: how.user.map(str::to_owned),
        checkpoint_id: None,
        made_with: candidate.map_or_else(|| former?.made_with.clone(), |it| it.made_with.clone()),
        call: candidate.map_or_else(|| former?.call.clone(), |it| it.call.clone()),
        sample: candidate.map_or_else(|| former.is_some_and(|done| done.sample), |it| it.sample),
        imported: former.and_then(|done| done.imported.clone()),
        kept: former.and_then(|done| kept(done, &inputs, &outputs, how)),
        eval: None,
        other: serde_json::Map::new(),
    };
    let mut status =
        judgement.status.as_deref().cloned().unwrap_or_else(|| Status::new(&task.name, State::Done));
    status.state = State::Done;
    status.result.failure = None;
    status.budgets = None;
    status.quality.rescued = None;
    // A verdict that is no longer waited for.
    status.quality.eval = status.quality.eval.filter(|eval| !eval["score"].is_null());
    status.result.outputs = outputs;
    status.last.decision_id = decision_id;
    status.last.ended_utc = Some(now);
    status.last.step = Some(project.spec(task).step);
    let mut checkpoint = Checkpoint::new(
        project.spec(task).step,
        &task.name,
        status.last.attempt,
        status.last.decision_id.as_deref().unwrap_or_default(),
        None,
        None,
        project.digest.short(),
        &done.completed_utc,
        done.outputs.clone(),
    );
    done.checkpoint_id = Some(checkpoint.id.clone());
    status.last.checkpoint_id = done.checkpoint_id.clone();
    checkpoint.done = serde_json::to_value(&done).ok();
    Ok((checkpoint, done, status))
}
