//! `planexe touch`: marks tasks done as they are.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::{LockArgs, Session};
use crate::ops::names::find_parts;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::message::Message;
use planexe_base::record::By;
use planexe_base::style::clean;
use planexe_build::check_staleness::Judgement;
use planexe_build::output_times;
use planexe_build::touch::{self, Adopting};
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::staleness::Decision;
use planexe_pipeline::open::Opened;
use planexe_query::selection::{Part, Unit, Units, judge};
use planexe_store::index::Index;

/// What `planexe touch` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct TouchArgs {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    pub tasks: Vec<String>,

    /// Only show what would be marked
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View<'a> {
    /// Whether it was done.
    touched: bool,
    /// Tasks that are marked.
    tasks: Vec<&'a str>,
    /// Tasks that are up to date as they are.
    fresh: Vec<&'a str>,
    /// Isolated tasks that are accepted, and merged by the next build.
    merging: Vec<&'a str>,
}

/// Marks tasks done.
pub fn run(session: &Session, args: &TouchArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let mut lock =
        if args.dry_run { None } else { Some(session.lock(&opened, args.lock.wait, args.lock.no_lock)?) };
    let (project, store) = (&opened.project, &opened.store);
    let units = Units::new(project, store);
    let parts = find_parts(&opened, &units, &args.tasks)?;
    let chosen = units.of_all(parts.iter().cloned())?;
    if chosen.is_empty() {
        return Err(nothing(&opened, &units, &parts));
    }
    let index = Index::load(store);
    let env = |name: &str| session.variable(name);
    let judge = judge(project, store, &index, &units.finder, &env);
    let mut faults: Vec<Message> = Vec::new();
    let mut to_merge: Vec<(&Unit, TaskId, Judgement)> = Vec::new();
    let mut accepted: Vec<(&Unit, String)> = Vec::new();
    let (mut stale, mut fresh): (Vec<(&Unit, TaskId, Judgement)>, Vec<&Unit>) = Default::default();
    for unit in &chosen {
        let Some(id) = units.in_graph(unit) else {
            faults.push(format!("`{}`: its item is no longer in the list", unit.name).into());
            continue;
        };
        let judgement = judge.judge(&units.graph, id, false);
        if let Some(success) = touch::success(&judgement) {
            accepted.push((unit, success.base.clone()));
            continue;
        }
        if touch::to_merge(project, &units.graph[id], &judgement).is_some() {
            to_merge.push((unit, id, judgement));
            continue;
        }
        let found = touch::faults(project, store, &units.graph[id], &judgement);
        match &judgement.decision {
            Decision::Fresh { edited, .. } if edited.is_empty() && found.is_empty() => fresh.push(unit),
            _ if found.is_empty() => stale.push((unit, id, judgement)),
            _ => faults.extend(found.into_iter().map(|message| message.about(format!("`{}`", unit.name)))),
        }
    }
    let user = session.user();
    let mut merging: Vec<(&Unit, String)> = Vec::new();
    let accept = |unit: &Unit, id: TaskId, judgement: &Judgement, dry_run: bool| {
        let found = touch::accept_to_merge(project, store, &units.graph[id], judgement, Some(&user), dry_run);
        let found = found.map_err(|error| {
            Error::new(Kind::Internal, format!("`{}` could not be marked", unit.name)).because(&error)
        })?;
        Ok::<_, Error>(found.unwrap_or_else(|| Err("it has no candidate any more".to_owned())))
    };
    for (unit, id, judgement) in &to_merge {
        match accept(unit, *id, judgement, true)? {
            Ok(base) => merging.push((unit, base)),
            Err(why) => faults.push(format!("`{}`: {why}", unit.name).into()),
        }
    }
    if !faults.is_empty() {
        return Err(refused(faults));
    }
    let some = !stale.is_empty() || !merging.is_empty();
    let touched = some && !args.dry_run;
    if let Some(lock) = lock.as_mut().filter(|_| touched) {
        session.announce(&opened, lock, "planexe touch")?;
    }
    if touched {
        for (unit, id, judgement) in &to_merge {
            if let Err(why) = accept(unit, *id, judgement, false)? {
                return Err(refused(vec![format!("`{}`: {why}", unit.name).into()]));
            }
        }
        let how = Adopting { by: By::Touch, user: Some(&user), plan: None };
        let tasks: Vec<_> = stale.iter().map(|(_, id, judgement)| (&units.graph[*id], judgement)).collect();
        touch::adopt(project, store, &index, &tasks, &how)
            .map_err(|error| Error::new(Kind::Internal, "not all of them could be marked").because(&error))?;
    }
    if !args.dry_run {
        // Also those that are up to date: what they are made from may be among the others.
        let merges =
            |unit: &&&Unit| merging.iter().chain(&accepted).any(|(other, _)| other.name == unit.name);
        let as_they_are = chosen.iter().filter(|unit| !merges(&unit));
        output_times::renew(project, store, as_they_are.flat_map(|unit| &unit.outputs))?;
    }
    drop(lock);
    let view = View {
        touched,
        tasks: stale.iter().map(|(unit, ..)| unit.name.as_str()).collect(),
        fresh: fresh.iter().map(|unit| unit.name.as_str()).collect(),
        merging: merging.iter().chain(&accepted).map(|(unit, _)| unit.name.as_str()).collect(),
    };
    if session.globals.json {
        session.print_answer(store.run_dir(), &view)?;
        return Ok(exit::DONE);
    }
    for name in &view.fresh {
        session.say(&format!("{}: up to date as it is", clean(name)));
    }
    for (unit, base) in &accepted {
        let (name, base) = (clean(&unit.name), clean(base));
        session.say(&format!("{name}: accepted already; `planexe build` merges it into `{base}` first"));
    }
    for (unit, base) in &merging {
        let verb = if args.dry_run { "would be accepted" } else { "accepted" };
        let (name, base) = (clean(&unit.name), clean(base));
        session.say(&format!("{name}: {verb} as it is; `planexe build` merges it into `{base}` first"));
    }
    for (unit, ..) in &stale {
        let verb = if args.dry_run { "would be marked done" } else { "marked done" };
        session.say(&format!("{}: {verb}, with {} as it is", clean(&unit.name), files(&unit.outputs)));
    }
    Ok(exit::DONE)
}

fn files(outputs: &[String]) -> String {
    let shown: Vec<String> = outputs.iter().map(|output| format!("`{}`", clean(output))).collect();
    shown.join(", ")
}

/// Nothing was marked: what is missing, by name.
fn refused(mut faults: Vec<Message>) -> Error {
    let message = match faults.len() {
        1 => faults.remove(0).about("nothing was marked"),
        n => format!("nothing was marked: {n} things stand in the way").into(),
    };
    let mut error = Error::new(Kind::Task, message).code("not_whole");
    for fault in faults {
        error.causes.push(fault.text);
        error.hints.extend(fault.hints);
    }
    error.hint("`touch` marks what is whole and valid; `planexe build` makes the rest")
}

/// A group has no outputs, a fan-out may have no items.
fn nothing(opened: &Opened, units: &Units<'_>, parts: &[Part]) -> Error {
    let id = parts[0].0;
    let task = &opened.project.graph[id];
    if let Some(failure) = units.unknown.get(&id) {
        return Error::new(Kind::Task, failure.message.clone()).code("items");
    }
    let why =
        if task.kind == NodeKind::Group { "is a group, without outputs of its own" } else { "has no items" };
    Error::usage(format!("`{}` {why}: there is nothing to mark", task.name)).code("nothing_to_mark")
}
