//! The state of every task, as seen by judging it: runs nothing, takes no lock, writes nothing.

use crate::ops::Session;
use crate::ops::build::{BuildOptions, rules};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_engine::graph::TaskId;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::open::Opened;
use planexe_query::dry_run::{Look, Survey, survey};
use planexe_query::resume;
use planexe_query::task_state::{self as standing, Standing};
use planexe_store::index::Index;
use planexe_store::parked::ParkedModel;
use planexe_store::{Owner, RunLock, lock};
use planexe_ui::views::{
    BatchView, ErrorSummary, ParkedView, QualitySummary, RunView, StatusView, TaskView, counts, shell_word,
};
use std::collections::HashSet;

/// Targets, as a survey takes them.
pub type Targets = [(TaskId, Option<HashSet<String>>)];

/// What was seen of a run.
pub struct Seen {
    /// What judging found.
    pub survey: Survey,
    /// How each task stands.
    pub standing: Standing,
    /// Who holds the lock.
    pub owner: Option<Owner>,
    /// What the last build noted.
    pub recorded: Option<planexe_store::RunJson>,
    /// A word for the whole.
    pub phase: RunPhase,
    /// Seconds to go, if a build is running.
    pub eta_s: Option<f64>,
}

impl Seen {
    /// The build that is running.
    pub fn builder(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|owner| owner.is_building())
    }
}

/// All tasks of the pipeline, as targets.
pub fn every_task(opened: &Opened) -> Vec<(TaskId, Option<HashSet<String>>)> {
    opened.project.graph.ids().map(|id| (id, None)).collect()
}

/// Looks at a run without touching it. The owner is asked for first: a task that ends meanwhile is seen
/// done, never as left by somebody. If a build begins or ends under our eyes it is looked at again, so that
/// all that is told is of one moment.
pub fn look(session: &Session, opened: &Opened, index: &Index, targets: &Targets) -> Seen {
    let mut seen = look_once(session, opened, index, targets);
    for _ in 0..3 {
        let builder = RunLock::owner(opened.store.run_dir()).filter(Owner::is_building);
        if builder.as_ref() == seen.builder() {
            break;
        }
        seen = look_once(session, opened, index, targets);
    }
    seen
}

fn look_once(session: &Session, opened: &Opened, index: &Index, targets: &Targets) -> Seen {
    let (project, store) = (&opened.project, &opened.store);
    let owner = RunLock::owner(store.run_dir());
    let env = |name: &str| session.variable(name);
    let survey = survey(
        &Look {
            project,
            store,
            index,
            rules: rules(project, &BuildOptions::default(), false),
            no_reuse: false,
            only: false,
            env: &env,
        },
        targets,
    );
    let mut standing = standing::stand(project, store, &survey, owner.as_ref());
    let recorded = store.read_run();
    let building = owner.as_ref().is_some_and(Owner::is_building);
    let known = building.then(|| standing::durations(project, &standing, index));
    let eta_s = known.map(|known| {
        standing::expect(&survey.graph, &mut standing, &known);
        let at_once = owner.as_ref().and_then(|owner| owner.at_once);
        standing::time_left(project, &survey.graph, &standing, &known, at_once)
    });
    let phase = standing::phase_of(
        &standing,
        project,
        store.recorded_phase(recorded.as_ref()),
        building,
        store.is_paused(),
    );
    // A task that takes longer than ever before: nobody knows.
    let eta_s = eta_s.filter(|seconds| *seconds >= 1.0);
    Seen { survey, standing, owner, recorded, phase, eta_s }
}

/// What was seen as data.
pub fn view(session: &Session, opened: &Opened, seen: &Seen) -> StatusView {
    let (project, store) = (&opened.project, &opened.store);
    let tasks = seen.standing.tasks.clone();
    let declared = || seen.standing.declared();
    let last = resume::last_completed(store, &seen.standing);
    let calls = store.calls_so_far();
    let latest = |a: Option<String>, b: Option<String>| a.max(b);
    let progress = tasks
        .iter()
        .flat_map(|task| [task.last.progress_utc.clone(), task.last.ended_utc.clone()])
        .fold(None, latest);
    let since = |at: &String| planexe_base::clock::seconds_between(at, &planexe_base::clock::now_utc());
    let idle_s = seen.builder().and(progress.as_ref()).and_then(since).map(|seconds| seconds.max(0.0));
    // A call that has not ended, or was cut short with its build, is in no record of calls.
    let open =
        |task: &&TaskView| matches!(task.state, State::Running | State::Stopped) && task.last.api.is_some();
    let asked = tasks.iter().filter(open).map(|task| task.last.started_utc.clone()).fold(None, latest);
    StatusView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        run: run_view(opened, seen),
        counts: counts(&tasks),
        steps_completed: declared().filter(|task| task.state.is_complete()).count() as u32,
        steps_total: project.specs.len() as u32,
        last_completed_step: last.step,
        last_completed_task: last.task,
        last_checkpoint_id: last.checkpoint_id,
        last_progress_at: progress,
        idle_s,
        last_llm_call_at: latest(calls.last_utc, asked),
        eta_s: seen.eta_s,
        cost_usd: calls.cost_usd,
        quality_summary: QualitySummary::from_tasks(&tasks),
        parked: planexe_query::model_choice::parked(project, store).iter().map(parked_view).collect(),
        batches: store
            .batches_under_way()
            .into_iter()
            .map(|(model, state)| BatchView::new(model, state))
            .collect(),
        services: seen.builder().map_or_else(Vec::new, |owner| store.read_progress(owner.pid).services),
        error: (seen.phase == RunPhase::Failed).then(|| error_of(session, &seen.standing)).flatten(),
        orphans: orphans(opened, &seen.survey),
        tasks,
    }
}

pub(crate) fn parked_view(model: &ParkedModel) -> ParkedView {
    ParkedView {
        model: model.model.clone(),
        until_utc: model.until_utc.clone(),
        left_s: model.left().unwrap_or_default().as_secs_f64().round(),
        message: model.message.clone(),
    }
}

fn run_view(opened: &Opened, seen: &Seen) -> RunView {
    let project = &opened.project;
    let mut models: Vec<String> = Vec::new();
    let by_default = project.tables.defaults.model.as_ref().map_or(&[][..], |names| names.as_slice());
    let first = by_default.iter().filter_map(|name| project.endpoints.iter().position(|e| e.name == *name));
    let named = project.specs.iter().flat_map(|spec| spec.prompts()).flat_map(|p| p.models.clone());
    let named: Vec<usize> = named.collect();
    for at in first.filter(|at| named.contains(at)).chain(named.iter().copied()) {
        let name = project.endpoints[at].model_name().to_owned();
        if !models.contains(&name) {
            models.push(name);
        }
    }
    RunView {
        dir: project.run.display().to_string(),
        pipeline: project.name.clone(),
        phase: seen.phase,
        started_utc: seen.recorded.as_ref().and_then(|run| run.started_utc.clone()),
        parent: project.parent.clone(),
        label: opened.run_file.as_ref().and_then(|run| run.label.clone()),
        models,
        pid: seen.builder().map(|owner| owner.pid),
        cut_off: lock::cut_off(opened.store.run_dir()),
    }
}

fn error_of(session: &Session, standing: &Standing) -> Option<ErrorSummary> {
    let (task, failure) = standing.first_failure().or_else(|| standing.unjudged())?;
    Some(ErrorSummary {
        failure_reason: failure.class.clone(),
        failed_step: task.task.clone(),
        message: failure.message.clone(),
        recoverable: failure.recoverable,
        next: session.typed(&format!("planexe explain {}", shell_word(&task.task))),
    })
}

/// Files with records of tasks that are gone from the pipeline.
fn orphans(opened: &Opened, survey: &Survey) -> Vec<String> {
    let found = Finder::new(&opened.store).orphans(&survey.graph, "").unwrap_or_default();
    let mut orphans: Vec<String> = found.into_iter().collect();
    orphans.sort();
    orphans
}
