//! How much may run at once: cores, calls, pools, open files, and the turns of make's jobserver.

use crate::ops::Session;
use crate::ops::build::BuildOptions;
use std::collections::HashSet;

use planexe_base::cores;
use planexe_base::open_files;
use planexe_base::style;
use planexe_build::jobserver::Make;
use planexe_build::run_loop::share_of;
use planexe_engine::slots::{Share, Slots};
use planexe_llm::limits::Limits;
use planexe_pipeline::manifest::types::ExecutorKind;
use planexe_pipeline::project::Project;

/// Most commands at once under make, whatever its `-j`.
pub(super) const TURNS: usize = 64;

/// The slots of a build, and how many workers can be busy at once.
pub fn slots(project: &Project, jobs: Option<u32>) -> (Slots, usize) {
    slots_with(project, jobs, |_, _| {})
}

/// [`slots`], no more of them than there may be files open.
pub(super) fn slots_by_files(session: &Session, project: &Project, jobs: Option<u32>) -> (Slots, usize) {
    let (all, workers) = slots(project, jobs);
    let able = open_files::for_workers(workers);
    if able >= workers {
        return (all, workers);
    }
    // Beside each program whose output is put down another one may run.
    let fit = able.saturating_sub(cores::count()).max(1);
    let tasks = style::count(fit as u64, "task");
    session.notice(&format!("warning: at most {tasks} at once: no more files may be open (`ulimit -n`)"));
    let (mut all, workers) = slots(project, Some(fit as u32));
    if jobs.is_none() {
        all.set_cores(cores::count().min(fit) as u32);
    }
    (all, workers)
}

/// [`slots`] with the limits of some endpoints set otherwise.
pub fn slots_with(project: &Project, jobs: Option<u32>, set: impl Fn(usize, &mut Limits)) -> (Slots, usize) {
    let mut endpoints: Vec<Limits> =
        project.endpoints.iter().map(|endpoint| planexe_llm::limits_of(&endpoint.model)).collect();
    for (at, limits) in endpoints.iter_mut().enumerate() {
        set(at, limits);
    }
    let pools: Vec<u32> = project.pools.iter().map(|(_, slots)| *slots).collect();
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get() as u32);
    // As with make, who asks for eight at once has eight programs at once, on however few cores.
    let local = project.executors.iter().find(|it| it.kind == ExecutorKind::Local).map(|it| &it.table);
    let cpu = jobs.or_else(|| local?.cpus).unwrap_or(cores);
    let used: HashSet<usize> = project
        .specs
        .iter()
        .flat_map(|spec| spec.prompts())
        .flat_map(|prompt| prompt.models.clone())
        .collect();
    let calls = used.iter().map(|&at| endpoints[at].max_concurrent).fold(0, u32::saturating_add);
    let all = jobs.unwrap_or(u32::MAX);
    // While answers are put down the next calls are under way.
    let calls = calls.saturating_add(calls.min(16));
    let turns: Vec<u32> = project.executors.iter().map(|it| it.turns().unwrap_or(u32::MAX)).collect();
    // Beside those at work in the build itself: each that is waited for has a worker that sleeps.
    let elsewhere = |at: usize| turns[at].min(1024);
    let used_places: HashSet<usize> = project.specs.iter().filter_map(|spec| spec.executor).collect();
    let elsewhere = used_places.into_iter().map(elsewhere).fold(0, u32::saturating_add);
    let calls = calls.saturating_add(elsewhere);
    let at_work = calls.saturating_add(cpu).saturating_add(cores).saturating_add(2);
    // And while what a program left is put down, another runs.
    let beside = if all > 1 { all.min(cores) } else { 0 };
    let threads = all.saturating_add(beside).min(at_work).min(1024) as usize;
    let (memory, gpus) = project.shared_here();
    let slots = Slots::new(&endpoints, &pools, cpu, all).sharing(memory, gpus.into(), &turns);
    let served_by = (0..project.endpoints.len()).map(|at| project.service_of(at)).collect();
    (slots.serving(&shares(project), served_by), threads)
}

/// What each service takes of this machine. One that can never start takes nothing: the first task that needs it is to
/// fail at once.
fn shares(project: &Project) -> Vec<Share> {
    let (memory, gpus) = project.shared_here();
    let share = |service| {
        let taken = project.taken_here(service);
        let fits = taken.memory <= memory && taken.gpus <= gpus;
        if fits { share_of(taken) } else { Share::default() }
    };
    project.services.iter().map(share).collect()
}

/// Make's jobserver, if commands are to take turns with what make runs.
pub(super) fn turns(session: &Session, options: &BuildOptions) -> Option<jobserver::Client> {
    match &session.make {
        _ if options.jobs.is_some() => None,
        Make::None => None,
        Make::Reached(client) => Some(client.clone()),
        Make::Unreachable => {
            session.notice(
                "warning: make's jobserver is out of reach, so commands run one at a time; \
                 put `+` before the recipe line, or say `-j N`",
            );
            None
        }
    }
}
