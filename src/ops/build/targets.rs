//! Targets is to be built: the tasks that were named, or those of a bare build.

use std::collections::HashSet;

use crate::ops::names::find_task;
use planexe_base::exit::Error;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::Target;
use planexe_pipeline::open::Opened;
use planexe_query::selection::Units;

/// What is to be built.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// The targets; keys limit a fan-out to some of its items.
    pub targets: Vec<Target>,
    /// The targets as they were typed; none of a bare build.
    pub typed: Vec<String>,
    /// The targets alone.
    pub only: bool,
    /// `-B`.
    pub force: bool,
    /// `--explain`.
    pub explain: bool,
}

/// The tasks that were named, or those of a bare build.
pub fn target_ids(opened: &Opened, names: &[String]) -> Result<Vec<Target>, Error> {
    let named = targets(opened, names)?;
    Ok(if named.is_empty() { opened.project.default.iter().map(|&id| (id, None)).collect() } else { named })
}

/// Whether the items of a fan-out are made by tasks, so that another one may come yet.
fn is_made(opened: &Opened, family: TaskId) -> bool {
    let project = &opened.project;
    let foreach = project.spec(&project.graph[family]).foreach.as_ref();
    foreach.is_some_and(|foreach| match &foreach.file {
        Some(file) => project.graph.is_produced(file),
        None => true,
    })
}

/// The tasks that were named.
pub fn targets(opened: &Opened, names: &[String]) -> Result<Vec<Target>, Error> {
    let mut targets: Vec<Target> = Vec::new();
    for name in names {
        let named = find_task(opened, name)?;
        if named.key.is_some() && !is_made(opened, named.task) {
            let units = Units::new(&opened.project, &opened.store);
            units.check(&named).map_err(|message| Error::usage(message).code("unknown_item"))?;
        }
        let keys = named.key.map(|key| HashSet::from([key]));
        match targets.iter_mut().find(|(id, _)| *id == named.task) {
            Some((_, Some(known))) if keys.is_some() => known.extend(keys.unwrap_or_default()),
            Some((_, known)) => *known = None,
            None => targets.push((named.task, keys)),
        }
    }
    Ok(targets)
}
