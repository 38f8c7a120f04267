//! Where a run stands as a whole, in a word.

use std::collections::HashSet;

use super::Standing;
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_pipeline::project::{Project, Recipe};
use planexe_store::run_json::RecordedPhase;
use planexe_ui::views::{TaskView, Verdict};

/// All that decides what is said of a run as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct PhaseFacts {
    /// A build holds the lock.
    pub building: bool,
    /// A pause file is there.
    pub paused: bool,
    /// What the last build left in `run.json`.
    pub recorded: Option<RecordedPhase>,
    /// Some task has a record.
    pub records: bool,
    /// Everything a bare build makes is done and up to date.
    pub complete: bool,
    /// Some task of it was never built, or was left in the middle.
    pub unfinished: bool,
    /// A task failed.
    pub failed: bool,
    /// One of those a bare build makes failed, or is blocked.
    pub lost: bool,
    /// A task waits for a person.
    pub waiting: bool,
    /// A task was left in the middle.
    pub interrupted: bool,
    /// A task is to be merged by the next build.
    pub merging: bool,
}

/// Where a run stands. A run that was completed stays so when something is edited later.
pub fn phase(facts: &PhaseFacts) -> RunPhase {
    if facts.building {
        return if facts.paused { RunPhase::Paused } else { RunPhase::Running };
    }
    match facts.recorded {
        Some(RecordedPhase::Aborted) => RunPhase::Aborted,
        Some(RecordedPhase::Running) => RunPhase::Interrupted,
        Some(_) if facts.complete => RunPhase::Completed,
        // Some targets were built, and others never were, or not with success.
        Some(RecordedPhase::Completed) if facts.lost => RunPhase::Failed,
        Some(RecordedPhase::Completed) if facts.waiting => RunPhase::Waiting,
        Some(RecordedPhase::Completed) if facts.unfinished => RunPhase::Stopped,
        Some(RecordedPhase::Completed) => RunPhase::Completed,
        // What failed was accepted by hand since, and is to be merged.
        Some(RecordedPhase::Failed) if facts.merging && !facts.lost && !facts.failed => RunPhase::Stopped,
        Some(RecordedPhase::Failed) => RunPhase::Failed,
        Some(RecordedPhase::Stopped) => RunPhase::Stopped,
        Some(RecordedPhase::Paused) if facts.waiting => RunPhase::Waiting,
        // What waited for a person was cleaned, or was let pass since.
        Some(RecordedPhase::Paused) if facts.lost => RunPhase::Failed,
        Some(RecordedPhase::Paused) => RunPhase::Stopped,
        None if !facts.records => RunPhase::NeverStarted,
        None if facts.complete => RunPhase::Completed,
        None if facts.failed => RunPhase::Failed,
        None if facts.interrupted => RunPhase::Interrupted,
        None if facts.waiting => RunPhase::Waiting,
        None => RunPhase::Stopped,
    }
}

/// The facts of [`phase`] that tasks tell, over those a bare build makes.
pub fn phase_of(
    standing: &Standing,
    project: &Project,
    recorded: Option<RecordedPhase>,
    building: bool,
    paused: bool,
) -> RunPhase {
    let wanted = project.graph.upstream(&project.default);
    let names: HashSet<&str> = project
        .graph
        .ids()
        .filter(|id| wanted[id.index()])
        .map(|id| project.graph[id].name.as_str())
        .collect();
    let tasks: Vec<&TaskView> =
        standing.declared().filter(|task| names.contains(task.task.as_str())).collect();
    let any = |states: &[State]| standing.tasks.iter().any(|task| states.contains(&task.state));
    let up_to_date = |task: &&TaskView| {
        task.state.is_complete()
            && (task.verdict == Some(Verdict::Fresh) || task.quality.partial == Some(true))
    };
    phase(&PhaseFacts {
        building,
        paused,
        recorded,
        records: standing.tasks.iter().any(|task| task.last.attempt > 0 || !task.result.outputs.is_empty()),
        complete: tasks.iter().all(up_to_date),
        // A group is only what its inputs are, and they are among these. What may come out skipped leaves no record when
        // it is: it may have been skipped by the last build.
        unfinished: tasks.iter().any(|task| match task.state {
            State::Stopped => true,
            State::Pending => {
                task.verdict != Some(Verdict::DependsOn)
                    && task.recipe.as_deref() != Some(Recipe::Group.name())
            }
            _ => false,
        }),
        failed: standing.first_failure().is_some(),
        lost: tasks.iter().any(|task| matches!(task.state, State::Failed | State::Blocked)),
        waiting: any(&[State::Waiting]),
        interrupted: any(&[State::Stopped, State::Running]),
        merging: any(&[State::Merging]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_run_stands() {
        let facts = PhaseFacts { records: true, ..PhaseFacts::default() };
        for (facts, expected) in [
            (PhaseFacts::default(), RunPhase::NeverStarted),
            (PhaseFacts { building: true, ..facts }, RunPhase::Running),
            (PhaseFacts { building: true, paused: true, ..facts }, RunPhase::Paused),
            (PhaseFacts { recorded: Some(RecordedPhase::Running), ..facts }, RunPhase::Interrupted),
            (
                PhaseFacts { recorded: Some(RecordedPhase::Running), paused: true, ..facts },
                RunPhase::Interrupted,
            ),
            (
                PhaseFacts { recorded: Some(RecordedPhase::Completed), complete: true, ..facts },
                RunPhase::Completed,
            ),
            // Edited since: complete all the same.
            (PhaseFacts { recorded: Some(RecordedPhase::Completed), ..facts }, RunPhase::Completed),
            // Another target failed before, or waits.
            (
                PhaseFacts {
                    recorded: Some(RecordedPhase::Completed),
                    lost: true,
                    unfinished: true,
                    ..facts
                },
                RunPhase::Failed,
            ),
            (
                PhaseFacts { recorded: Some(RecordedPhase::Completed), waiting: true, ..facts },
                RunPhase::Waiting,
            ),
            // Only some of it was ever asked for.
            (
                PhaseFacts { recorded: Some(RecordedPhase::Completed), unfinished: true, ..facts },
                RunPhase::Stopped,
            ),
            (PhaseFacts { recorded: Some(RecordedPhase::Failed), failed: true, ..facts }, RunPhase::Failed),
            (
                PhaseFacts { recorded: Some(RecordedPhase::Failed), complete: true, ..facts },
                RunPhase::Completed,
            ),
            // It could not write a record: no task is to blame.
            (PhaseFacts { recorded: Some(RecordedPhase::Failed), ..facts }, RunPhase::Failed),
            (PhaseFacts { recorded: Some(RecordedPhase::Stopped), ..facts }, RunPhase::Stopped),
            (
                PhaseFacts { recorded: Some(RecordedPhase::Aborted), complete: true, ..facts },
                RunPhase::Aborted,
            ),
            (PhaseFacts { recorded: Some(RecordedPhase::Paused), waiting: true, ..facts }, RunPhase::Waiting),
            (PhaseFacts { recorded: Some(RecordedPhase::Paused), ..facts }, RunPhase::Stopped),
            (PhaseFacts { recorded: Some(RecordedPhase::Paused), lost: true, ..facts }, RunPhase::Failed),
            // `.planexe/` was deleted: the sidecars tell.
            (PhaseFacts { complete: true, ..facts }, RunPhase::Completed),
            (PhaseFacts { failed: true, ..facts }, RunPhase::Failed),
            (PhaseFacts { interrupted: true, ..facts }, RunPhase::Interrupted),
            (facts, RunPhase::Stopped),
        ] {
            assert_eq!(phase(&facts), expected, "{facts:?}");
        }
    }
}
