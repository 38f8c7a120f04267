//! Why a task is stale, or why it is not.

use crate::ops::Session;
use crate::ops::names::find_task;
use crate::ops::status::look;
use planexe_base::exit::Error;
use planexe_engine::graph::{Graph, TaskId};
use planexe_pipeline::open::{Named, Opened};
use planexe_query::explain::{Sources, explain};
use planexe_store::index::Index;
use planexe_ui::views::ExplainView;

/// What is to be said of some tasks.
pub fn explained(session: &Session, opened: &Opened, names: &[String]) -> Result<Vec<ExplainView>, Error> {
    let named: Vec<Named> = names.iter().map(|name| find_task(opened, name)).collect::<Result<_, _>>()?;
    let index = Index::load(&opened.store);
    let targets: Vec<_> = named.iter().map(|named| (named.task, None)).collect();
    let seen = look(session, opened, &index, &targets);
    let sources = Sources {
        project: &opened.project,
        store: &opened.store,
        survey: &seen.survey,
        standing: &seen.standing,
    };
    named
        .iter()
        .map(|named| Ok(explain(&sources, instance(&seen.survey.graph, named)?, session.server())))
        .collect()
}

/// The task that was named, or its instance of the key that was named.
pub fn instance(graph: &Graph, named: &Named) -> Result<TaskId, Error> {
    let Some(key) = &named.key else { return Ok(named.task) };
    let instances = graph.instances(named.task);
    let key_of = |id: &TaskId| graph[*id].item.as_ref().map_or("", |item| item.key.as_str());
    if let Some(id) = instances.iter().find(|id| key_of(id) == key) {
        return Ok(*id);
    }
    let name = &graph[named.task].name;
    let error = Error::usage(format!("`{name}` has no item `{key}`")).code("unknown_task");
    Err(match planexe_pipeline::manifest::suggest(key, instances.iter().map(key_of).collect::<Vec<_>>()) {
        Some(hint) => error.hint(hint),
        None if instances.is_empty() => {
            error.hint(format!("its items are not known yet: `planexe explain {name}`"))
        }
        None => error.hint("`planexe status -v` lists the items"),
    })
}
