//! Where a run goes on: what was completed last, and what comes next. Reads only.

use crate::dry_run::Survey;
use crate::task_state::Standing;
use planexe_base::record::{Marker, State};
use planexe_base::run_phase::RunPhase;
use planexe_build::check_staleness::Judgement;
use planexe_engine::graph::{Graph, Kind, TaskId};
use planexe_engine::staleness::{Decision, StaleReason};
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_ui::views::{ResumeView, TaskView, Verdict};

/// The task completed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCompleted {
    /// -1 before any.
    pub step: i64,
    /// Its name.
    pub task: Option<String>,
    /// Its checkpoint.
    pub checkpoint_id: Option<String>,
    /// Digest of the pipeline then.
    pub pipeline_hash: Option<String>,
}

/// The task completed last, by the checkpoints; by the sidecars where those are lost.
pub fn last_completed(store: &Store, standing: &Standing) -> LastCompleted {
    let now =
        |name: &str| standing.tasks.iter().find(|task| task.task == name).and_then(|task| task.last.step);
    if let Ok(Some(last)) = store.checkpoints().last() {
        return LastCompleted {
            step: i64::from(now(&last.task).unwrap_or(last.step)),
            task: Some(last.task),
            checkpoint_id: Some(last.id),
            pipeline_hash: Some(last.pipeline_hash),
        };
    }
    let done =
        standing.tasks.iter().filter(|task| task.state.is_complete() && !task.result.outputs.is_empty());
    let last: Option<&TaskView> =
        done.max_by(|a, b| (&a.last.ended_utc, a.last.step).cmp(&(&b.last.ended_utc, b.last.step)));
    LastCompleted {
        step: last.and_then(|task| task.last.step).map_or(-1, i64::from),
        task: last.map(|task| task.task.clone()),
        checkpoint_id: last.and_then(|task| task.last.checkpoint_id.clone()),
        pipeline_hash: None,
    }
}

/// Where a build of these tasks would go on.
pub fn resume_view(
    project: &Project,
    store: &Store,
    survey: &Survey,
    standing: &Standing,
    phase: RunPhase,
    targets: &[TaskId],
) -> ResumeView {
    let last = last_completed(store, standing);
    let next = next_task(&survey.graph, standing, targets);
    let decision_id = next.and_then(|id| {
        let prepared = survey.judgements.get(&id).and_then(|judgement| judgement.prepared.as_ref());
        prepared
            .map(|prepared| prepared.decision_id.clone())
            .or_else(|| standing.of(id).and_then(|view| view.last.decision_id.clone()))
    });
    let edited = match &last.pipeline_hash {
        Some(hash) if hash != project.digest.short() => edited(survey),
        _ => Vec::new(),
    };
    ResumeView {
        phase,
        step: next.map(|id| survey.graph[id].step),
        steps_total: project.specs.len() as u32,
        task: next.map(|id| survey.graph[id].name.clone()),
        last_completed_step: last.step,
        last_completed_task: last.task,
        decision_id,
        checkpoint_id: last.checkpoint_id,
        last_progress_at: standing
            .tasks
            .iter()
            .flat_map(|task| [task.last.progress_utc.clone(), task.last.ended_utc.clone()])
            .flatten()
            .max(),
        edited,
    }
}

/// The first task that is sure to run: the least step, and of a fan-out the first item.
fn next_task(graph: &Graph, standing: &Standing, targets: &[TaskId]) -> Option<TaskId> {
    let wanted = graph.upstream(targets);
    let runs = |id: &TaskId| {
        let view = standing.of(*id);
        let waits_for_none = graph[*id].kind != Kind::Group && graph.instances(*id).is_empty();
        waits_for_none
            && view.is_some_and(|view| {
                view.verdict == Some(Verdict::Stale)
                    && view.state != State::Blocked
                    && view.state != State::Skipped
            })
    };
    let wanted = |id: &TaskId| {
        wanted[id.index()] || matches!(graph[*id].kind, Kind::Instance { family } if wanted[family.index()])
    };
    graph.ids().filter(wanted).filter(runs).min_by_key(|id| (graph[*id].step, id.index()))
}

/// Tasks that were done and that an edit of the pipeline, rather than of an input, made stale.
fn edited(survey: &Survey) -> Vec<String> {
    let mut ids: Vec<TaskId> =
        survey.judgements.iter().filter(|(_, judgement)| is_edit(judgement)).map(|(id, _)| *id).collect();
    ids.sort_by_key(|id| (survey.graph[*id].step, id.index()));
    ids.into_iter().map(|id| survey.graph[id].name.clone()).collect()
}

fn is_edit(judgement: &Judgement) -> bool {
    let Decision::Stale { reasons, .. } = &judgement.decision else { return false };
    let (Marker::Valid(done), Some(prepared)) = (&judgement.marker, &judgement.prepared) else {
        return false;
    };
    let same_inputs = prepared.records() == done.inputs;
    reasons.iter().any(|reason| match reason {
        StaleReason::Changed { part, .. } if part == "prompt" || part == "system" => same_inputs,
        StaleReason::Changed { part, .. } => !part.starts_with("input.") && part != "item" && part != "index",
        StaleReason::OutputNew { .. } => true,
        _ => false,
    })
}
