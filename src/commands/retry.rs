//! `planexe retry`: has failed tasks tried anew, with fresh answers and full budgets.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::commands::build::{self, BuildArgs, HowArgs};
use crate::commands::stop::building;
use crate::commands::{LockArgs, Session, session_parts};
use planexe_base::exit::{self, Error, Kind};
use planexe_base::record::{Marker, State};
use planexe_base::style::clean;
use planexe_engine::graph::Kind as NodeKind;
use planexe_pipeline::open::Opened;
use planexe_query::selection::{Part, Unit, Units};
use planexe_store::{StatusRead, Store};
use planexe_ui::views::shell_word;

/// How often it is looked whether a running build has taken it up.
const AGAIN: Duration = Duration::from_millis(50);

/// What `planexe retry` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RetryArgs {
    /// The tasks [default: all that failed]
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,

    /// Build at once
    #[arg(long)]
    pub build: bool,

    /// Only say what would be tried again
    #[arg(short = 'n', long, conflicts_with = "build")]
    pub dry_run: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// Whether it was done.
    done: bool,
    /// Tasks that are tried anew.
    tasks: Vec<String>,
    /// By the build that runs; else by the next one.
    build_runs: bool,
}

/// Asks the running build; whether it took all of it up. If it ended before, what is left of it is taken back.
fn ask_build(opened: &Opened, chosen: &[Unit]) -> Result<bool, Error> {
    let store = &opened.store;
    for unit in chosen {
        store.ask_retry(&unit.name)?;
    }
    loop {
        // Asked for first: what a build does as its last is still seen.
        let runs = building(&opened.store).is_some();
        let asked = store.asked_retries();
        if !chosen.iter().any(|unit| asked.contains(&unit.name)) {
            return Ok(true);
        }
        if !runs {
            return Ok(false);
        }
        std::thread::sleep(AGAIN);
    }
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It failed.
    Failed,
    /// It is done.
    Done,
    /// It was begun, and is neither.
    Open,
    /// There is no record of it.
    Never,
}

/// What is tried anew.
#[derive(Debug)]
pub struct Retried {
    /// The tasks; none if there is nothing to try.
    pub tasks: Vec<String>,
    /// By the build that runs; else by the next one.
    pub taken_up: bool,
}

/// Tries anew.
pub fn run(session: &Session, args: &RetryArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let store = &opened.store;
    let Retried { tasks, taken_up } = retry(session, &opened, args)?;
    if tasks.is_empty() {
        return nothing(session, store);
    }
    // With `--build` the answer is that of the build, unless another one makes it.
    if session.globals.json && (taken_up || !args.build) {
        session.print_answer(store.run_dir(), &View { done: !args.dry_run, tasks, build_runs: taken_up })?;
        return Ok(exit::DONE);
    }
    let verb = if args.dry_run { "would be tried anew" } else { "is tried anew, with fresh answers" };
    for task in &tasks {
        session.say(&format!("{}: {verb}", clean(task)));
    }
    if taken_up {
        session.say("the running build goes on with it");
        return Ok(exit::DONE);
    }
    if args.build {
        let how = HowArgs { wait: args.lock.wait, no_lock: args.lock.no_lock, ..HowArgs::default() };
        return build::run(session, &BuildArgs { how, ..BuildArgs::default() });
    }
    if !args.dry_run {
        session.say("next: planexe build");
    }
    Ok(exit::DONE)
}

/// Has tasks tried anew, by the build that runs or the next one; those that are named must have something to try.
pub fn retry(session: &Session, opened: &Opened, args: &RetryArgs) -> Result<Retried, Error> {
    let store = &opened.store;
    let builder = building(&opened.store).filter(|_| !args.lock.wait && !args.lock.no_lock);
    let lock = match args.dry_run || builder.is_some() {
        true => None,
        false => Some(session.lock(opened, args.lock.wait, args.lock.no_lock)?),
    };
    let units = Units::new(&opened.project, store);
    let named = !args.tasks.is_empty();
    let parts: Vec<Part> = match named {
        true => session_parts(opened, &units, &args.tasks)?,
        false => opened.project.graph.order().iter().map(|&id| (id, None)).collect(),
    };
    let mut chosen: Vec<Unit> = Vec::new();
    for part in &parts {
        let all = units.of(part)?;
        // A name alone means one task whatever it is, of a fan-out the items that failed.
        let any = named && (part.1.is_some() || opened.project.graph[part.0].kind == NodeKind::Single);
        let takes = |unit: &Unit| match stand(store, unit) {
            Stand::Failed => true,
            Stand::Done | Stand::Open => any,
            Stand::Never => false,
        };
        chosen.extend(all.into_iter().filter(takes));
    }
    if chosen.is_empty() {
        return match &args.tasks[..] {
            [] => Ok(Retried { tasks: Vec::new(), taken_up: false }),
            [task, ..] => Err(nothing_of(task)),
        };
    }
    let mut taken_up = false;
    if !args.dry_run {
        taken_up = builder.is_some() && ask_build(opened, &chosen)?;
        let mut lock = match (taken_up, lock) {
            (false, None) => Some(session.lock(opened, args.lock.wait, args.lock.no_lock)?),
            (_, lock) => lock,
        };
        if let Some(lock) = lock.as_mut().filter(|_| !taken_up) {
            session.announce(opened, lock, "planexe retry")?;
        }
        for unit in chosen.iter().filter(|_| !taken_up) {
            anew(store, unit).map_err(|error| {
                Error::new(Kind::Internal, format!("`{}` cannot be reset", unit.name)).because(&error)
            })?;
        }
        drop(lock);
    }
    let tasks = chosen.into_iter().map(|unit| unit.name).collect();
    Ok(Retried { tasks, taken_up })
}

fn nothing_of(task: &str) -> Error {
    Error::new(Kind::Refused, format!("nothing of `{task}` failed, so there is nothing to try anew"))
        .code("nothing_failed")
        .hint(format!("`planexe clean {}` has all of it made again", shell_word(task)))
}

fn nothing(session: &Session, store: &Store) -> Result<u8, Error> {
    session.say("no task failed: there is nothing to try anew");
    if session.globals.json {
        session.print_answer(store.run_dir(), &View { done: false, tasks: Vec::new(), build_runs: false })?;
    }
    Ok(exit::DONE)
}

fn stand(store: &Store, unit: &Unit) -> Stand {
    let Some(first) = unit.outputs.first() else { return Stand::Never };
    if matches!(store.read_done(first), Marker::Valid(_)) {
        return Stand::Done;
    }
    match store.read_status(first) {
        StatusRead::Valid(status) if status.state == State::Failed => Stand::Failed,
        StatusRead::Valid(status) if status.state == State::Done => Stand::Done,
        StatusRead::Missing => Stand::Never,
        _ => Stand::Open,
    }
}

/// Has the next build ask anew.
fn anew(store: &Store, unit: &Unit) -> Result<(), planexe_base::fs::FsError> {
    let Some(first) = unit.outputs.first() else { return Ok(()) };
    store.begin_anew(&unit.name, first)?;
    store.clear_retry(&unit.name)
}
