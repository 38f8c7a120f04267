//! Where a run stands as a whole, in a word.

use std::collections::HashSet;

use super::Standing;
use planexe_base::style::Shown;
use planexe_pipeline::project::{Project, Recipe};
use planexe_store::run_json::Phase;
use planexe_ui::views::{TaskView, Verdict};

/// All that decides what is said of a run as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct PhaseFacts {
    /// A build holds the lock.
    pub building: bool,
    /// A pause file is there.
    pub paused: bool,
    /// What the last build left in `run.json`.
    pub recorded: Option<Phase>,
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

/// Where a run stands, in a word: `never_started`, `running`, `paused`, `waiting`, `stopped`, `interrupted`,
/// `failed`, `aborted`, `completed`. A run that was completed stays so when something is edited later.
pub fn phase(facts: &PhaseFacts) -> &'static str {
    if facts.building {
        return if facts.paused { "paused" } else { "running" };
    }
    match facts.recorded {
        Some(Phase::Aborted) => "aborted",
        Some(Phase::Running) => "interrupted",
        Some(_) if facts.complete => "completed",
        // Some targets were built, and others never were, or not with success.
        Some(Phase::Completed) if facts.lost => "failed",
        Some(Phase::Completed) if facts.waiting => "waiting",
        Some(Phase::Completed) if facts.unfinished => "stopped",
        Some(Phase::Completed) => "completed",
        // What failed was accepted by hand since, and is to be merged.
        Some(Phase::Failed) if facts.merging && !facts.lost && !facts.failed => "stopped",
        Some(Phase::Failed) => "failed",
        Some(Phase::Stopped) => "stopped",
        Some(Phase::Paused) if facts.waiting => "waiting",
        // What waited for a person was cleaned, or was let pass since.
        Some(Phase::Paused) if facts.lost => "failed",
        Some(Phase::Paused) => "stopped",
        None if !facts.records => "never_started",
        None if facts.complete => "completed",
        None if facts.failed => "failed",
        None if facts.interrupted => "interrupted",
        None if facts.waiting => "waiting",
        None => "stopped",
    }
}

/// The facts of [`phase`] that tasks tell, over those a bare build makes.
pub fn phase_of(
    standing: &Standing,
    project: &Project,
    recorded: Option<Phase>,
    building: bool,
    paused: bool,
) -> &'static str {
    let wanted = project.graph.upstream(&project.default);
    let names: HashSet<&str> = project
        .graph
        .ids()
        .filter(|id| wanted[id.index()])
        .map(|id| project.graph[id].name.as_str())
        .collect();
    let tasks: Vec<&TaskView> =
        standing.declared().filter(|task| names.contains(task.task.as_str())).collect();
    let any = |states: &[Shown]| standing.tasks.iter().any(|task| states.contains(&task.state));
    let up_to_date = |task: &&TaskView| {
        task.state.is_complete() && (task.verdict == Some(Verdict::Fresh) || task.partial == Some(true))
    };
    phase(&PhaseFacts {
        building,
        paused,
        recorded,
        records: standing.tasks.iter().any(|task| task.attempt > 0 || !task.outputs.is_empty()),
        complete: tasks.iter().all(up_to_date),
        // A group is only what its inputs are, and they are among these.
        unfinished: tasks.iter().any(|task| {
            matches!(task.state, Shown::Pending | Shown::Stopped)
                && task.recipe.as_deref() != Some(Recipe::Group.name())
        }),
        failed: standing.first_failure().is_some(),
        lost: tasks.iter().any(|task| matches!(task.state, Shown::Failed | Shown::Blocked)),
        waiting: any(&[Shown::Waiting]),
        interrupted: any(&[Shown::Stopped, Shown::Running]),
        merging: any(&[Shown::Merging]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_run_stands() {
        let facts = PhaseFacts { records: true, ..PhaseFacts::default() };
        for (facts, expected) in [
            (PhaseFacts::default(), "never_started"),
            (PhaseFacts { building: true, ..facts }, "running"),
            (PhaseFacts { building: true, paused: true, ..facts }, "paused"),
            (PhaseFacts { recorded: Some(Phase::Running), ..facts }, "interrupted"),
            (PhaseFacts { recorded: Some(Phase::Running), paused: true, ..facts }, "interrupted"),
            (PhaseFacts { recorded: Some(Phase::Completed), complete: true, ..facts }, "completed"),
            // Edited since: complete all the same.
            (PhaseFacts { recorded: Some(Phase::Completed), ..facts }, "completed"),
            // Another target failed before, or waits.
            (
                PhaseFacts { recorded: Some(Phase::Completed), lost: true, unfinished: true, ..facts },
                "failed",
            ),
            (PhaseFacts { recorded: Some(Phase::Completed), waiting: true, ..facts }, "waiting"),
            // Only some of it was ever asked for.
            (PhaseFacts { recorded: Some(Phase::Completed), unfinished: true, ..facts }, "stopped"),
            (PhaseFacts { recorded: Some(Phase::Failed), failed: true, ..facts }, "failed"),
            (PhaseFacts { recorded: Some(Phase::Failed), complete: true, ..facts }, "completed"),
            // It could not write a record: no task is to blame.
            (PhaseFacts { recorded: Some(Phase::Failed), ..facts }, "failed"),
            (PhaseFacts { recorded: Some(Phase::Stopped), ..facts }, "stopped"),
            (PhaseFacts { recorded: Some(Phase::Aborted), complete: true, ..facts }, "aborted"),
            (PhaseFacts { recorded: Some(Phase::Paused), waiting: true, ..facts }, "waiting"),
            (PhaseFacts { recorded: Some(Phase::Paused), ..facts }, "stopped"),
            (PhaseFacts { recorded: Some(Phase::Paused), lost: true, ..facts }, "failed"),
            // `.planexe/` was deleted: the sidecars tell.
            (PhaseFacts { complete: true, ..facts }, "completed"),
            (PhaseFacts { failed: true, ..facts }, "failed"),
            (PhaseFacts { interrupted: true, ..facts }, "interrupted"),
            (facts, "stopped"),
        ] {
            assert_eq!(phase(&facts), expected, "{facts:?}");
        }
    }
}
