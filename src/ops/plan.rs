//! What a build would do, and what it is expected to take; writes nothing.

use crate::ops::Session;
use crate::ops::build::{BuildOptions, Targets, budget, rules, slots, task_infos};
use crate::ops::status::parked_view;
use planexe_base::exit::Error;
use planexe_base::fs;
use planexe_base::run_phase::RunPhase;
use planexe_build::check_staleness::Judgement;
use planexe_engine::graph::{Graph, Kind as NodeKind, TaskId, is_item};
use planexe_engine::scheduler::{Engine, Mode, Options, Resolution};
use planexe_engine::staleness::Decision;
use planexe_pipeline::open::Opened;
use planexe_query::dry_run::{Look, Survey, survey};
use planexe_query::model_choice::{self, asks, parked_for};
use planexe_query::resume::resume_view;
use planexe_query::simulate::{self, Past};
use planexe_query::task_state::{self as standing, Standing, reasons, reasons_now};
use planexe_store::RunLock;
use planexe_store::index::Index;
use planexe_store::parked::ParkedModel;
use planexe_store::sidecar::{Sidecar, StatusRead};
use planexe_ui::views::simulate::Predicted;
use planexe_ui::views::{LaneView, ParkedView, PlanTask, PlanView, Reason, ResumeView, Verdict};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

/// What a build would do.
pub struct Plan {
    /// The plan as data.
    pub view: PlanView,
    /// Of a question: tasks that cannot be judged, each with why.
    pub unjudged: Vec<String>,
}

/// Judges; writes nothing. `question`: it is only asked whether anything is stale.
pub fn plan(
    session: &Session,
    opened: &Opened,
    what: &Targets,
    options: &BuildOptions,
    question: bool,
) -> Result<Plan, Error> {
    let index = Index::load(&opened.store);
    let env = |name: &str| session.variable(name);
    let look = Look {
        project: &opened.project,
        store: &opened.store,
        index: &index,
        rules: rules(&opened.project, options, what.force),
        no_reuse: options.no_reuse,
        only: what.only,
        env: &env,
    };
    let survey = survey(&look, &what.targets);
    let mut unjudged = Vec::new();
    let mut view = view(session, opened, &survey);
    if question {
        for (id, judgement) in &survey.judgements {
            for reason in
                reasons(judgement).iter().filter(|_| survey.settled.get(id) == Some(&Resolution::Failed))
            {
                unjudged.push(format!("{}: {}", survey.graph[*id].name, reason.message));
            }
        }
    } else {
        let standing = standing::stand(&opened.project, &opened.store, &survey, None);
        let predicted = predict(opened, &survey, what, options, &index)?;
        view.eta_s = (predicted.seconds >= 1.0).then_some(predicted.seconds);
        view.guessed = predicted.guessed;
        view.budget_stop = predicted.budget_stop;
        view.cost_usd = (predicted.usage.cost_usd > 0.0).then_some(predicted.usage.cost_usd);
        if !options.before_reset {
            view.parked = parked(opened, &view, &survey.graph);
        }
        view.resume = header(opened, what, &survey, &standing);
    }
    Ok(Plan { view, unjudged })
}

/// What it is expected to take if everything runs that might: the build on a clock of its own.
fn predict(
    opened: &Opened,
    survey: &Survey,
    what: &Targets,
    options: &BuildOptions,
    index: &Index,
) -> Result<Predicted, Error> {
    let project = &*opened.project;
    let past = past(opened, index)?;
    let judged: HashMap<&str, TaskId> =
        survey.graph.ids().map(|id| (survey.graph[id].name.as_str(), id)).collect();
    let (slots, _) = slots(project, options.jobs);
    let scheduling = Options { only: what.only, ..Options::default() };
    let infos = task_infos(project, index);
    let mut engine = Engine::new(project.graph.clone(), Mode::Build, scheduling, infos, slots);
    engine.know(index.usual_durations(is_item));
    engine.want(&what.targets);
    let mut runs = |graph: &Graph, id: TaskId| {
        let known = judged.get(graph[id].name.as_str());
        let settled = known.and_then(|id| survey.settled.get(id));
        if known.is_some() && !matches!(settled, Some(Resolution::Stale | Resolution::DependsOn)) {
            return None;
        }
        let prepared = known.and_then(|id| survey.judgements.get(id)?.prepared.as_ref());
        let kept = prepared.is_some_and(|prepared| prepared.has_answer(options.no_rescue));
        let asks = project.spec(&graph[id]).recipe.prompt().is_some() && !kept;
        let mut expected = past.expected(project, graph, id, asks);
        if kept {
            expected.seconds = 0.0;
        }
        let tokens = expected.usage.input_tokens + expected.usage.output_tokens;
        Some((simulate::work(project, graph, id, asks, tokens), expected))
    };
    let mut items = |graph: &Graph, family: TaskId| {
        let id = *judged.get(graph[family].name.as_str())?;
        let known = survey.settled.contains_key(&id) && !survey.unknown_items.contains_key(&id);
        let instances = survey.graph.instances(id);
        known
            .then(|| instances.iter().filter_map(|&one| survey.graph[one].item.as_deref().cloned()).collect())
    };
    let may_need = |graph: &Graph, id, service| project.may_need(project.spec(&graph[id]), service);
    Ok(simulate::predict(engine, &budget(project, options), &may_need, &mut runs, &mut items))
}

/// Where the run goes on, if it was begun and not completed.
fn header(opened: &Opened, what: &Targets, survey: &Survey, standing: &Standing) -> Option<ResumeView> {
    let (project, store) = (&opened.project, &opened.store);
    let building = RunLock::owner(store.run_dir()).is_some_and(|owner| owner.is_building());
    let recorded = store.recorded_phase(store.read_run().as_ref());
    let phase = standing::phase_of(standing, project, recorded, building, store.is_paused());
    let targets: Vec<TaskId> = what.targets.iter().map(|(id, _)| *id).collect();
    (!matches!(phase, RunPhase::NeverStarted | RunPhase::Completed))
        .then(|| resume_view(project, store, survey, standing, phase, &targets))
}

/// The plan as data.
fn view(session: &Session, opened: &Opened, survey: &Survey) -> PlanView {
    let project = &opened.project;
    let graph = &survey.graph;
    let mut levels: Vec<Vec<PlanTask>> = Vec::new();
    let owner = RunLock::owner(opened.store.run_dir());
    let (mut stale, mut depends, mut fresh, mut calls, mut calls_at_most) = (0, 0, 0, 0, 0);
    let (mut skipped, mut unknown_items, mut drift) = (0, 0, 0);
    let open = |id: &TaskId| {
        matches!(survey.settled.get(id), Some(Resolution::Stale | Resolution::DependsOn | Resolution::Failed))
    };
    for id in graph.ids() {
        let task = &graph[id];
        // A fan-out is told by its instances, where they are known.
        if task.kind == NodeKind::Group || !graph.instances(id).is_empty() {
            continue;
        }
        match survey.settled.get(&id) {
            // A fan-out of no items is done, and nothing to count.
            Some(Resolution::Fresh) => fresh += u32::from(task.kind != NodeKind::Family),
            Some(Resolution::Stale | Resolution::Failed) => stale += 1,
            Some(Resolution::DependsOn) => depends += 1,
            Some(Resolution::Skipped) => skipped += 1,
            _ => continue,
        }
        if !open(&id) {
            let drifts =
                |judgement: &Judgement| matches!(judgement.decision, Decision::Fresh { drift: Some(_), .. });
            drift += u32::from(survey.judgements.get(&id).is_some_and(drifts));
            continue;
        }
        unknown_items += u32::from(task.kind == NodeKind::Family);
        let spec = project.spec(task);
        let judgement = survey.judgements.get(&id);
        let prepared = judgement.and_then(|judgement| judgement.prepared.as_ref());
        let kept = prepared.is_some_and(|prepared| prepared.has_answer(false));
        // One that cannot be judged is tried, and fails.
        let certain = matches!(survey.settled.get(&id), Some(Resolution::Stale | Resolution::Failed));
        let paid = u32::from(spec.recipe.prompt().is_some() && kept);
        let (mut sure, most) = spec.asks();
        if prepared
            .and_then(|prepared| prepared.kept.as_ref())
            .is_some_and(|kept| kept.record.had_its_rounds())
        {
            sure = spec.asks_in_a_round();
        }
        calls += if survey.settled.get(&id) == Some(&Resolution::Stale) { sure - paid } else { 0 };
        calls_at_most += most - paid;
        let needs: Vec<TaskId> = graph.direct_needs(id);
        let asks = asks(project, spec, judgement);
        let name = |id: &TaskId| graph[*id].name.clone();
        let level = task.level as usize;
        if levels.len() <= level {
            levels.resize_with(level + 1, Vec::new);
        }
        levels[level].push(PlanTask {
            task: task.name.clone(),
            verdict: if certain { Verdict::Stale } else { Verdict::DependsOn },
            reasons: match survey.unknown_items.get(&id) {
                Some(failure) => vec![Reason::new(failure.class.name(), failure.message.to_lines())],
                None => judgement.map(|judgement| reasons_now(judgement, owner.as_ref())).unwrap_or_default(),
            },
            depends_on: needs.iter().filter(|id| open(id)).map(name).collect(),
            needs: needs.iter().map(name).collect(),
            recipe: spec.recipe.name().to_owned(),
            model: asks.as_ref().and_then(|asks| Some(asks.models.first()?.model.clone())),
            asks,
            lane: spec.isolate.as_ref().map(|isolate| isolate.lane_of(&task.name).to_owned()),
            kept_answer: prepared.is_some_and(|it| it.kept.is_some() || it.existing.is_some()),
        });
    }
    levels.retain(|level| !level.is_empty());
    let lanes = lanes(opened, graph, &levels);
    PlanView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        run_dir: project.run.display().to_string(),
        pipeline: project.name.clone(),
        resume: None,
        levels,
        lanes,
        stale,
        depends,
        fresh,
        calls_expected: calls,
        calls_at_most,
        skipped,
        unknown_items,
        drift,
        guessed: 0,
        eta_s: None,
        cost_usd: None,
        budget_stop: None,
        parked: Vec::new(),
    }
}

/// The parked models without which something that would run cannot be asked for.
fn parked(opened: &Opened, view: &PlanView, graph: &Graph) -> Vec<ParkedView> {
    let project = &opened.project;
    let all = model_choice::parked(project, &opened.store);
    if all.is_empty() {
        return Vec::new();
    }
    let mut waited: Vec<&ParkedModel> = Vec::new();
    for task in view.levels.iter().flatten() {
        let Some(id) = graph.find(&task.task) else { continue };
        for model in parked_for(project, &all, project.spec(&graph[id]), task.kept_answer) {
            if !waited.contains(&model) {
                waited.push(model);
            }
        }
    }
    waited.into_iter().map(parked_view).collect()
}

/// The lanes of the isolated tasks of a plan.
fn lanes(opened: &Opened, graph: &Graph, levels: &[Vec<PlanTask>]) -> Vec<LaneView> {
    let project = &opened.project;
    let mut lanes: Vec<LaneView> = Vec::new();
    for task in levels.iter().flatten() {
        let isolate = graph.find(&task.task).and_then(|id| project.spec(&graph[id]).isolate.as_ref());
        let (Some(isolate), Some(lane)) = (isolate, &task.lane) else { continue };
        match lanes.iter_mut().find(|known| known.lane == *lane) {
            Some(known) => known.tasks.push(task.task.clone()),
            None => lanes.push(LaneView {
                lane: lane.clone(),
                base: isolate.base.clone().or_else(|| opened.store.pins().ok()?.map(|pins| pins.default)),
                shared: isolate.lane.is_some(),
                tasks: vec![task.task.clone()],
            }),
        }
    }
    lanes
}

/// What is known of earlier builds. `.status` files are read for tasks that the index does not know.
pub fn past(opened: &Opened, index: &Index) -> Result<Past, Error> {
    let graph = &opened.project.graph;
    // A folder is listed once, so that of a pipeline that was never built no file is asked for.
    let mut folders: HashMap<&str, HashSet<OsString>> = HashMap::new();
    let recorded = graph.ids().filter_map(|id| {
        let task = &graph[id];
        let first = task.outputs.first()?;
        if !index.durations(&task.name).is_empty() || planexe_base::pattern::has_key(first) {
            return None;
        }
        let (folder, _) = first.rsplit_once('/').unwrap_or(("", first));
        // Too long a name for a sidecar beside the output is in a folder for such.
        let is_beside = !opened.store.is_hashed(first);
        let names = folders.entry(folder).or_insert_with(|| statuses(&opened.store.path(folder)));
        if is_beside && names.is_empty() {
            return None;
        }
        let sidecar = opened.store.sidecar_path(first, Sidecar::Status);
        if is_beside && !names.contains(sidecar.file_name()?) {
            return None;
        }
        let StatusRead::Valid(status) = opened.store.read_status(first) else { return None };
        Some((task.name.clone(), status.last.duration_s?))
    });
    let calls = opened.store.usage_lines()?;
    Ok(Past::new(&opened.project, index, &calls, recorded))
}

/// The names of what may be the states of tasks.
fn statuses(folder: &Path) -> HashSet<OsString> {
    let names = fs::list_dir(folder).unwrap_or_default().into_iter();
    let suffix = Sidecar::Status.suffix().as_bytes();
    names.map(|(name, _)| name).filter(|name| name.as_encoded_bytes().ends_with(suffix)).collect()
}
