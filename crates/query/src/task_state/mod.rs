//! How every task stands: what judging found, read together with what is stored and who is at work.
//! Reads sidecars of tasks that were not judged, writes nothing.

use std::collections::{HashMap, HashSet};

use crate::dry_run::Survey;
use planexe_base::call::Usage;
use planexe_base::clock;
use planexe_base::failure_class::FailureClass;
use planexe_base::record::{Done, Failure, Marker, State};
use planexe_build::check_staleness::Judgement;
use planexe_engine::graph::{Graph, Kind, Task, TaskId};
use planexe_engine::scheduler::Resolution;
use planexe_pipeline::project::{Project, Spec};
use planexe_store::control::Controls;
use planexe_store::jobs::JobFiles;
use planexe_store::live::{AtWork, Progress};
use planexe_store::{Owner, StatusRead, Store};
use planexe_ui::views::{Drift, OnExecutor, Reason, TaskView, Verdict};

mod phase;
mod reasons;
mod shown;
mod times;

pub use phase::{PhaseFacts, phase, phase_of};
pub use reasons::{asked, drift, reasons, reasons_now};
pub use times::{durations, expect, time_left};

use shown::{family_state, is_at_work, may_be_blocked, shown};

/// Tasks named as what blocks another, at most.
const BLAMED: usize = 20;

/// Every task of a survey with the state it is shown in.
#[derive(Debug)]
pub struct Standing {
    /// In topological order, instances after their fan-out.
    pub tasks: Vec<TaskView>,
    at: HashMap<TaskId, usize>,
}

impl Standing {
    /// How a task stands.
    pub fn of(&self, id: TaskId) -> Option<&TaskView> {
        self.tasks.get(*self.at.get(&id)?)
    }

    /// Tasks as the pipeline declares them, without instances.
    pub fn declared(&self) -> impl Iterator<Item = &TaskView> {
        self.tasks.iter().filter(|task| task.family.is_none())
    }

    /// The first task whose evaluator gave no verdict, and why.
    pub fn unjudged(&self) -> Option<(&TaskView, &Failure)> {
        self.tasks.iter().find_map(|task| {
            let failure = task.result.failure.as_ref()?;
            let unjudged = match task.state {
                State::PendingEval => true,
                // That its command failed is no matter of the evaluator's.
                State::FailedPendingEval => failure.class != FailureClass::Exit,
                _ => false,
            };
            unjudged.then_some((task, failure))
        })
    }

    /// The failure that a run's end is blamed on: the first that no `min_success` absorbs, or that keeps another task
    /// from being made all the same.
    pub fn first_failure(&self) -> Option<(&TaskView, &Failure)> {
        let of = |state: State| self.declared().filter(move |task| task.state == state);
        let families: HashSet<&str> = of(State::Failed).map(|task| task.task.as_str()).collect();
        let blockers: HashSet<&str> =
            of(State::Blocked).flat_map(|task| &task.blocked_by).map(String::as_str).collect();
        let counts = |task: &&TaskView| match &task.family {
            Some(family) => families.contains(family.as_str()) || blockers.contains(task.task.as_str()),
            None => true,
        };
        let failed = self.tasks.iter().filter(|task| task.state == State::Failed);
        failed.filter(counts).find_map(|task| Some((task, task.result.failure.as_ref()?)))
    }
}

/// What a survey found, with states. `owner`: who holds the run's lock.
pub fn stand(project: &Project, store: &Store, survey: &Survey, owner: Option<&Owner>) -> Standing {
    let count = survey.graph.len();
    let progress = owner.filter(|owner| owner.is_building()).map(|owner| store.read_progress(owner.pid));
    let jobs = store.jobs().into_iter().filter(|files| files.is_open() && !files.is_asked_to_end());
    let mut all = All {
        jobs: jobs.map(|files| (files.job.task.clone(), on_executor(&files))).collect(),
        progress: progress.unwrap_or_default(),
        project,
        store,
        survey,
        owner,
        now: clock::now_utc(),
        views: std::iter::repeat_with(|| None).take(count).collect(),
        blame: vec![Vec::new(); count],
    };
    let mut order = Vec::with_capacity(count);
    for &id in survey.graph.order() {
        let instances = survey.graph.instances(id);
        for &instance in instances {
            all.look(instance);
        }
        all.look(id);
        order.push(id);
        order.extend(instances);
    }
    let mut standing = Standing { tasks: Vec::with_capacity(count), at: HashMap::with_capacity(count) };
    for id in order {
        if let Some(view) = all.views[id.index()].take() {
            standing.at.insert(id, standing.tasks.len());
            standing.tasks.push(view);
        }
    }
    standing
}

/// Where an attempt is that an executor has.
fn on_executor(files: &JobFiles) -> OnExecutor {
    let claim = files.claim().filter(|_| !files.is_revoked());
    OnExecutor {
        name: files.job.executor.clone(),
        kind: files.job.kind.clone(),
        job: files.handed().and_then(|handed| handed.id),
        host: claim.map(|claim| claim.host),
        since_utc: files.job.submitted_utc.clone(),
    }
}

struct All<'a> {
    project: &'a Project,
    store: &'a Store,
    survey: &'a Survey,
    owner: Option<&'a Owner>,
    /// What the build says of its tasks.
    progress: Progress,
    /// Attempts that an executor has, by task.
    jobs: HashMap<String, OnExecutor>,
    now: String,
    views: Vec<Option<TaskView>>,
    /// Failed tasks that block each task.
    blame: Vec<Vec<TaskId>>,
}

impl All<'_> {
    fn graph(&self) -> &Graph {
        &self.survey.graph
    }

    fn state(&self, id: TaskId) -> Option<State> {
        self.views[id.index()].as_ref().map(|view| view.state)
    }

    /// Everything a task waits for, its own fan-out and the instances of a fan-out left out.
    fn needs(&self, id: TaskId) -> Vec<TaskId> {
        match self.graph()[id].kind {
            Kind::Instance { .. } => self.graph()[id].needs.iter().map(|need| need.task).collect(),
            _ => self.graph().direct_needs(id),
        }
    }

    fn look(&mut self, id: TaskId) {
        let survey = self.survey;
        let task = &survey.graph[id];
        let spec = self.project.spec(task);
        let needs = self.needs(id);
        for &need in &needs {
            self.blame_on(id, need);
        }
        let settled = survey.settled.get(&id).copied();
        let mut view = match task.kind {
            Kind::Single | Kind::Instance { .. } => self.one(id, task, spec),
            Kind::Group => self.group(&needs, task),
            Kind::Family => self.family(id, &needs, task, spec),
        };
        if view.state == State::Blocked {
            // A fan-out, by instances whose own needs failed.
            for &instance in survey.graph.instances(id) {
                self.blame_on(id, instance);
            }
        }
        view.task = task.name.clone();
        view.recipe = Some(spec.recipe.name().to_owned());
        view.last.step = Some(spec.step);
        view.last.steps_total = Some(self.project.specs.len() as u32);
        let verdict = match settled {
            Some(Resolution::Fresh | Resolution::Done | Resolution::Skipped) => Verdict::Fresh,
            Some(Resolution::Stale | Resolution::Failed | Resolution::Partial) => Verdict::Stale,
            _ => Verdict::DependsOn,
        };
        view.verdict = Some(verdict);
        if verdict != Verdict::Fresh {
            let open = |need: &&TaskId| {
                !matches!(
                    survey.settled.get(need),
                    Some(Resolution::Fresh | Resolution::Done | Resolution::Skipped)
                )
            };
            view.depends_on =
                needs.iter().filter(open).map(|&need| survey.graph[need].name.clone()).collect();
        }
        if verdict != Verdict::Fresh && !self.blame[id.index()].is_empty() && may_be_blocked(view.state) {
            view.state = State::Blocked;
        }
        if view.state == State::Blocked {
            view.blocked_by =
                self.blame[id.index()].iter().map(|&task| survey.graph[task].name.clone()).collect();
        }
        self.views[id.index()] = Some(view);
    }

    /// Adds what failed at `cause`, or blocks it, to what blocks a task.
    fn blame_on(&mut self, id: TaskId, cause: TaskId) {
        let blame = match self.state(cause) {
            Some(State::Failed) => vec![cause],
            Some(State::Blocked) => self.blame[cause.index()].clone(),
            _ => return,
        };
        let known = &mut self.blame[id.index()];
        for task in blame {
            if known.len() < BLAMED && !known.contains(&task) {
                known.push(task);
            }
        }
    }

    /// A task that does something itself.
    fn one(&self, id: TaskId, task: &Task, spec: &Spec) -> TaskView {
        let first = task.outputs.first().map_or("", String::as_str);
        let read;
        let (judgement, status, marker) = match self.survey.judgements.get(&id) {
            Some(judgement) => (Some(judgement), judgement.status.as_deref(), &judgement.marker),
            None => {
                let status = match self.store.read_status(first) {
                    StatusRead::Valid(status) => Some(status),
                    _ => None,
                };
                read = (status, self.store.read_done(first));
                (None, read.0.as_deref(), &read.1)
            }
        };
        let done = match marker {
            Marker::Valid(done) => Some(&**done),
            _ => None,
        };
        let mut view = match status {
            Some(status) => TaskView::from_status(status),
            None => TaskView::new(task.name.as_str(), State::Pending),
        };
        if let Some(done) = done {
            fill_in(&mut view, done);
        }
        view.family = match task.kind {
            Kind::Instance { family } => Some(self.graph()[family].name.clone()),
            _ => None,
        };
        view.reasons = judgement.map(|judgement| reasons_now(judgement, self.owner)).unwrap_or_default();
        let live = status.is_some_and(|status| is_at_work(status, self.owner));
        view.state = if self.survey.settled.get(&id) == Some(&Resolution::Skipped) {
            State::Skipped
        } else {
            shown(judgement, status.map(|status| status.state), marker, live)
        };
        match judgement.and_then(|judgement| judgement.failure.clone()) {
            Some(failure) if view.state == State::Failed => view.result.failure = Some(failure),
            _ if view.state.is_complete() => view.result.failure = None,
            _ => {
                view.result.failure =
                    view.result.failure.or_else(|| status.and_then(|status| status.result.failure.clone()))
            }
        }
        let by_model = |reason: &Reason| reason.code == "model_changed";
        if let Some(done) = done
            && !view.reasons.iter().any(by_model)
        {
            let drift = drift(self.project, spec, done);
            view.drift = drift.first().map(Drift::remark);
        }
        let candidate = judgement.and_then(|judgement| judgement.prepared.as_ref()?.candidate.as_deref());
        if let (State::Merging, Some(candidate)) = (view.state, candidate)
            && let Some(by) = candidate.by
        {
            view.by = Some(by.name().to_owned());
            view.by_user.clone_from(&candidate.by_user);
        }
        if view.state == State::Running {
            view.elapsed_s =
                view.last.started_utc.as_deref().and_then(|start| clock::seconds_between(start, &self.now));
        }
        self.add_progress(&mut view);
        self.add_executor(&mut view, task);
        if view.state == State::Waiting
            && let Some(by) = self.passed(task, judgement)
        {
            // Nobody is waited for any more.
            view.state = State::Pending;
            view.doing = Some(format!("let pass by {by}; the next build continues"));
        }
        if view.state == State::Waiting {
            view.doing = judgement.and_then(|judgement| asked(self.project, task, spec, judgement));
        }
        view
    }

    /// Who let a task pass that waits for a person, if what it asks about is still what they were shown.
    fn passed(&self, task: &Task, judgement: Option<&Judgement>) -> Option<String> {
        let passed = Controls::new(self.store).passed(&task.name)?;
        let now = judgement.and_then(|judgement| judgement.prepared.as_ref()).map(|it| &it.decision_id);
        (passed.decision_id.is_none() || passed.decision_id.as_ref() == now).then_some(passed.by)
    }

    /// Where its attempt is, if an executor has it: it runs without a build too.
    fn add_executor(&self, view: &mut TaskView, task: &Task) {
        let Some(on) = self.jobs.get(&task.name) else { return };
        match view.state {
            State::Stopped => {
                view.state = State::Running;
                view.doing = Some(format!("goes on without a build: {}", on.text()));
                view.elapsed_s = clock::seconds_between(&on.since_utc, &self.now);
            }
            State::Running => {}
            _ => return,
        }
        view.executor = Some(on.clone());
    }

    /// What the running build says of a task.
    fn add_progress(&self, view: &mut TaskView) {
        match view.state {
            State::Running => {
                let same = |at: &&AtWork| at.task == view.task && at.attempt == view.last.attempt;
                let Some(at) = self.progress.running.iter().find(same) else { return };
                view.doing = Some(at.doing.clone()).filter(|doing| !doing.is_empty());
                view.phase = Some(at.phase.clone());
                view.tokens = Some(at.tokens).filter(|_| view.last.api.is_some());
                view.last.progress_utc = Some(at.progress_utc.clone());
            }
            State::Pending | State::Stale | State::Failed => {
                let queued = self.progress.queued.iter().find(|queued| queued.task == view.task);
                view.doing = queued.map(|queued| queued.doing.clone());
            }
            _ => {}
        }
    }

    /// A name for its inputs: done when all of them are.
    fn group(&self, needs: &[TaskId], task: &Task) -> TaskView {
        let complete = |need: &TaskId| self.state(*need).is_some_and(State::is_complete);
        let state = if needs.iter().all(complete) { State::Done } else { State::Pending };
        TaskView::new(task.name.as_str(), state)
    }

    /// A fan-out, by its instances.
    fn family(&self, id: TaskId, needs: &[TaskId], task: &Task, spec: &Spec) -> TaskView {
        let instances: Vec<&TaskView> =
            self.graph().instances(id).iter().filter_map(|id| self.views[id.index()].as_ref()).collect();
        let mut view = TaskView::new(task.name.as_str(), State::Pending);
        if instances.is_empty() {
            let failure = self.survey.unknown_items.get(&id);
            let settled = |need: &TaskId| self.survey.settled.get(need) == Some(&Resolution::Fresh);
            match self.survey.settled.get(&id) {
                // Of a list that may change: as things are it is empty, and there is nothing to do.
                Some(Resolution::Fresh | Resolution::DependsOn) if failure.is_none() => {
                    view.state = State::Done;
                    view.no_items = true;
                }
                Some(Resolution::Skipped) => view.state = State::Skipped,
                // The list is as it will be, and cannot be used.
                _ if failure.is_some() && needs.iter().all(settled) => {
                    view.state = State::Failed;
                    view.result.failure = failure.cloned();
                }
                _ => {}
            }
            return view;
        }
        let states: Vec<State> = instances.iter().map(|instance| instance.state).collect();
        let (state, partial) = family_state(&states, spec.min_success);
        view.state = state;
        view.quality.partial = partial.then_some(true);
        view.result.usage = instances.iter().filter_map(|instance| instance.result.usage).reduce(Usage::plus);
        view.last.started_utc =
            instances.iter().filter_map(|instance| instance.last.started_utc.clone()).min();
        let sample = instances.iter().any(|instance| instance.quality.sample == Some(true));
        view.quality.sample = sample.then_some(true);
        let ended = instances.iter().filter_map(|instance| instance.last.ended_utc.clone()).max();
        view.last.ended_utc = ended.filter(|_| state.is_complete());
        view
    }
}

/// What a `.DONE` says where the `.status` does not.
fn fill_in(view: &mut TaskView, done: &Done) {
    if view.result.outputs.is_empty() {
        view.result.outputs.clone_from(&done.outputs);
    }
    view.last.checkpoint_id = view.last.checkpoint_id.take().or_else(|| done.checkpoint_id.clone());
    view.last.ended_utc = view.last.ended_utc.take().or_else(|| Some(done.completed_utc.clone()));
    if done.sample {
        view.quality.sample = Some(true);
    }
    view.by = Some(done.by.name().to_owned());
    view.by_user.clone_from(&done.by_user);
}
