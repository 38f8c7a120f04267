//! Where commands run, and the servers that a build starts.

use super::{Finding, is_on_path};
use planexe_base::process::Lifeline;
use planexe_base::style;
use planexe_build::runner::services;
use planexe_llm::keys::KeyRing;
use planexe_llm::{Setup, probe};
use planexe_pipeline::manifest::types::ExecutorKind;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::{Endpoint, Line, ReadyCheck, ServiceSpec, at_node};
use planexe_store::lock::RunLock;

/// The programs of the executors that tasks use, and work that was left running.
pub fn of_executors(opened: &Opened, path: Option<&str>) -> Vec<Finding> {
    let project = &opened.project;
    let used: std::collections::BTreeSet<usize> =
        project.specs.iter().filter_map(|spec| spec.executor).collect();
    let mut all = Vec::new();
    for spec in used.into_iter().map(|at| &project.executors[at]) {
        let first = |words: &[String]| words.first().cloned().unwrap_or_default();
        let programs = match spec.kind {
            ExecutorKind::Slurm => ["sbatch", "squeue", "scancel"].map(str::to_owned).to_vec(),
            ExecutorKind::Command => {
                vec![first(&spec.table.submit), first(&spec.table.status), first(&spec.table.cancel)]
            }
            ExecutorKind::Local | ExecutorKind::Detached => Vec::new(),
        };
        let there = |program: &&String| program.contains('/') || is_on_path(program, path);
        let name = style::clean(&spec.name);
        match programs.iter().find(|program| !there(program)) {
            Some(program) => {
                let program = style::clean(program);
                let message = format!("`{program}` of executor `{name}` is not on the PATH");
                all.push(Finding::fail("executors", message, format!("install `{program}`, or set PATH")));
            }
            None => all.push(Finding::ok("executors", format!("`{name}` ({})", spec.kind.name()))),
        }
    }
    let building = RunLock::owner(opened.store.run_dir()).is_some_and(|owner| owner.is_building());
    let left = opened.store.jobs().iter().filter(|files| files.is_open()).count();
    if left > 0 && !building {
        let message = format!("{} left running by an earlier build", style::count(left as u64, "task"));
        all.push(Finding::warn(
            "executors",
            message,
            "`planexe build` takes up what is there, `planexe stop` ends it",
        ));
    }
    all
}

/// Where each service answers at this moment: the host it runs on; none if it does not.
pub fn answering(opened: &Opened, ring: &KeyRing) -> Vec<Option<String>> {
    let lifeline = Lifeline::new(None);
    let folder = &*opened.project.folder;
    let setup =
        Setup { name: "service", folder, keys: ring, lifeline: &lifeline, calibration: None, ceiling: None };
    let answers = |service: &ServiceSpec| {
        let is_here = service.executor.is_none_or(|at| opened.project.executors[at].kind.is_here());
        let node = match is_here {
            true => "127.0.0.1".to_owned(),
            false => services::job_of(&opened.store, service)?.claim()?.host,
        };
        let is_ready = match &service.ready {
            ReadyCheck::Url(url) => {
                let status = probe::status_of(&at_node(url, &node), &setup);
                status.is_ok_and(|status| (200..300).contains(&status))
            }
            ReadyCheck::Command(words) => services::says_ready(service, words, opened.store.run_dir(), &node),
        };
        is_ready.then_some(node)
    };
    opened.project.services.iter().map(answers).collect()
}

/// Servers that a build starts: their programs, and whether they answer already.
pub fn of_services(opened: &Opened, path: Option<&str>, answering: &[Option<String>]) -> Vec<Finding> {
    let building = RunLock::owner(opened.store.run_dir()).is_some_and(|owner| owner.is_building());
    let look = |(at, service): (usize, &ServiceSpec)| {
        let name = style::clean(&service.name);
        let program = match &service.command.line {
            Line::Argv(words) => words.first().cloned().unwrap_or_default(),
            Line::Shell(_) => "sh".to_owned(),
        };
        let is_here = service.executor.is_none_or(|at| opened.project.executors[at].kind.is_here());
        let there = program.contains(['/', '$', '{']) || is_on_path(&program, path);
        if is_here && !there {
            let program = style::clean(&program);
            let message = format!("`{program}` of service `{name}` is not on the PATH");
            return Finding::fail("services", message, format!("install `{program}`, or set PATH"));
        }
        let where_ = service.executor.map_or("in the build".to_owned(), |at| {
            format!("on `{}`", style::clean(&opened.project.executors[at].name))
        });
        let answers = answering.get(at).is_some_and(Option::is_some);
        Finding::ok(
            "services",
            match answers {
                true if building => format!("`{name}` is up"),
                true if services::job_of(&opened.store, service).is_some() => {
                    format!(
                        "`{name}` is up {where_}, as an earlier build left it: the next takes it up or ends it"
                    )
                }
                true => format!("`{name}` is up already: a build uses it, and leaves it as it is"),
                false => format!("`{name}` is started {where_} when a task needs it"),
            },
        )
    };
    opened.project.services.iter().enumerate().map(look).collect()
}

/// A model of a service, as it is asked where that runs; or that it cannot be asked now.
pub fn of_model(
    opened: &Opened,
    endpoint: &Endpoint,
    service: &str,
    answering: &[Option<String>],
) -> Result<Endpoint, Finding> {
    let at = opened.project.services.iter().position(|known| known.name == service);
    let Some(node) = at.and_then(|at| answering.get(at)?.as_ref()) else {
        let (name, service) = (style::clean(&endpoint.name), style::clean(service));
        let message = format!("{name}: not asked, since service `{service}` is not up: a build starts it");
        return Err(Finding::ok("model", message));
    };
    let mut there = endpoint.clone();
    there.model.base_url = there.model.base_url.map(|url| at_node(&url, node));
    Ok(there)
}
