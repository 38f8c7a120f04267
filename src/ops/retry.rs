//! Has failed tasks tried anew, with fresh answers and full budgets.

use crate::ops::LockOptions;
use crate::ops::Session;
use crate::ops::names::find_parts;
use crate::ops::stop::building;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, FsError};
use planexe_base::record::{Marker, State};
use planexe_engine::graph::Kind as NodeKind;
use planexe_pipeline::open::Opened;
use planexe_query::selection::{Part, Unit, Units};
use planexe_store::{StatusRead, Store};
use planexe_ui::views::shell_word;
use std::time::{Duration, Instant};

/// How often it is looked whether a running build has taken it up.
const AGAIN: Duration = Duration::from_millis(50);
/// A build looks once a second. One that was suspended looks when it goes on, and finds what it was asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who tries anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenUp {
    /// The running build.
    Yes,
    /// The running build, once it looks: it does not at the moment.
    Asked,
    /// The build after the one that runs, which is past it.
    Left,
    /// The next build.
    No,
}

/// Asks the running build. If it ended before it took anything up, what was asked is for the caller to do.
fn ask_build(opened: &Opened, chosen: &[Unit]) -> Result<TakenUp, Error> {
    let store = &opened.store;
    let began = Instant::now();
    for unit in chosen {
        store.ask_retry(&unit.name)?;
    }
    loop {
        // Asked for first: what a build does as its last is still seen.
        let runs = building(&opened.store).is_some();
        let left = store.left_retries();
        let asked = store.asked_retries();
        if !chosen.iter().any(|unit| asked.contains(&unit.name)) {
            return Ok(TakenUp::Yes);
        }
        if runs && chosen.iter().all(|unit| left.contains(&unit.name) || !asked.contains(&unit.name)) {
            return Ok(TakenUp::Left);
        }
        if !runs {
            return Ok(TakenUp::No);
        }
        if began.elapsed() >= PATIENCE {
            return Ok(TakenUp::Asked);
        }
        std::thread::sleep(AGAIN);
    }
}

/// What is to be tried anew.
#[derive(Debug, Clone, Default)]
pub struct RetryOptions {
    /// The tasks, as they were named; none: all that failed.
    pub tasks: Vec<String>,
    /// Only says what would be tried.
    pub dry_run: bool,
    /// How the lock is taken.
    pub lock: LockOptions,
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
    /// Who does.
    pub taken_up: TakenUp,
}

/// Has tasks tried anew, by the build that runs or the next one; those that are named must have something to try.
pub fn retry(session: &Session, opened: &Opened, options: &RetryOptions) -> Result<Retried, Error> {
    let store = &opened.store;
    let builder = building(&opened.store).filter(|_| !options.lock.wait && !options.lock.no_lock);
    let lock = match options.dry_run || builder.is_some() {
        true => None,
        false => Some(session.lock(opened, options.lock.wait, options.lock.no_lock)?),
    };
    let units = Units::new(&opened.project, store);
    let named = !options.tasks.is_empty();
    let parts: Vec<Part> = match named {
        true => find_parts(opened, &units, &options.tasks)?,
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
        return match &options.tasks[..] {
            [] => Ok(Retried { tasks: Vec::new(), taken_up: TakenUp::No }),
            [task, ..] => Err(nothing_of(task)),
        };
    }
    let mut taken_up = TakenUp::No;
    if !options.dry_run {
        if builder.is_some() {
            taken_up = ask_build(opened, &chosen)?;
        }
        let mut lock = match (taken_up, lock) {
            (TakenUp::No, None) => Some(session.lock(opened, options.lock.wait, options.lock.no_lock)?),
            (_, lock) => lock,
        };
        if let Some(lock) = lock.as_mut().filter(|_| taken_up == TakenUp::No) {
            session.announce(opened, lock, "planexe retry")?;
        }
        if taken_up == TakenUp::No {
            session.long(chosen.len(), |steps| {
                fs::each(&chosen, |unit| {
                    let begun = anew(store, unit);
                    steps.one();
                    begun.map_err(|error| {
                        Error::new(Kind::Internal, format!("`{}` cannot be reset", unit.name)).because(&error)
                    })
                })
            })?;
        }
        drop(lock);
    }
    let tasks = chosen.into_iter().map(|unit| unit.name).collect();
    Ok(Retried { tasks, taken_up })
}

fn nothing_of(task: &str) -> Error {
    Error::new(Kind::Refused, format!("nothing of `{task}` failed, so there is nothing to retry"))
        .code("nothing_failed")
        .hint(format!("`planexe clean {}` has all of it made again", shell_word(task)))
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
fn anew(store: &Store, unit: &Unit) -> Result<(), FsError> {
    let Some(first) = unit.outputs.first() else { return Ok(()) };
    store.begin_anew(&unit.name, first)?;
    store.give_up_batched(&unit.name)?;
    store.clear_retry(&unit.name)
}
