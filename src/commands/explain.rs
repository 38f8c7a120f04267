//! `planexe explain`: says why a task is stale, or why it is not.

use clap::Args;

use crate::commands::status::look;
use crate::commands::{Session, session_find};
use planexe_base::exit::{self, Error};
use planexe_engine::graph::{Graph, TaskId};
use planexe_pipeline::open::{Named, Opened};
use planexe_query::explain::{Sources, explain};
use planexe_store::index::Index;
use planexe_ui::views::ExplainView;

/// What `planexe explain` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ExplainArgs {
    /// The task, an output of it, or one instance: `review[ann]`
    #[arg(value_name = "TASK", required = true)]
    pub tasks: Vec<String>,
}

/// Explains.
pub fn run(session: &Session, args: &ExplainArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let views = explained(session, &opened, &args.tasks)?;
    match &views[..] {
        [view] if session.globals.json => session.print_json(view)?,
        _ if session.globals.json => session.print_json(&views)?,
        _ => {
            let texts: Vec<String> = views.iter().map(|view| view.text(&session.out)).collect();
            session.print(&texts.join("\n"))?;
        }
    }
    Ok(exit::DONE)
}

/// What is to be said of some tasks.
pub fn explained(session: &Session, opened: &Opened, names: &[String]) -> Result<Vec<ExplainView>, Error> {
    let named: Vec<Named> = names.iter().map(|name| session_find(opened, name)).collect::<Result<_, _>>()?;
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
