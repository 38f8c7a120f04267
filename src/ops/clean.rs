//! Has tasks made again, their outputs kept in history.

use crate::ops::LockOptions;
use crate::ops::Session;
use crate::ops::names::find_parts;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability, FsError};
use planexe_pipeline::open::Opened;
use planexe_query::selection::{Part, Unit, Units};
use planexe_store::{RunLock, Sidecar, Store, Why};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashSet;

/// What is to be made again.
#[derive(Debug, Clone, Default)]
pub struct CleanOptions {
    /// The tasks, as they were named.
    pub tasks: Vec<String>,
    /// Also everything that depends on them.
    pub downstream: bool,
    /// Files of tasks and items that are no longer in the pipeline.
    pub orphans: bool,
    /// Every task.
    pub all: bool,
    /// Nothing is changed, so no lock is taken.
    pub dry_run: bool,
    /// How the lock is taken.
    pub lock: LockOptions,
}

/// What goes, of one task or item.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Goes {
    /// `task` or `task[key]`.
    pub task: String,
    /// Why it goes to history.
    #[serde(skip)]
    pub why: Why,
    /// Its outputs, whether they are there or not; the first one names the sidecars.
    #[serde(skip)]
    pub outputs: Vec<String>,
    /// The files that are there, sidecars included.
    pub files: Vec<String>,
    /// Kept answers that are set aside, and calls in batches that are given up, so that the model is asked again.
    pub answers: usize,
}

/// What is to go. Nobody else changes the run while this lives, unless it was a dry run.
pub struct Going {
    lock: Option<RunLock>,
    /// What goes.
    pub goes: Vec<Goes>,
    /// Tasks that are done and that the next build makes again if what they read comes out different.
    pub remade: Vec<String>,
}

impl Going {
    /// Finds out what goes. The lock is taken before, so that what is listed is what goes.
    pub fn find(session: &Session, opened: &Opened, args: &CleanOptions) -> Result<Going, Error> {
        let lock = match args.dry_run {
            true => None,
            false => Some(session.lock(opened, args.lock.wait, args.lock.no_lock)?),
        };
        let units = Units::new(&opened.project, &opened.store);
        let (goes, remade) = what_goes(session, opened, &units, args)?;
        Ok(Going { lock, goes, remade })
    }

    /// Has it gone.
    pub fn carry_out(mut self, session: &Session, opened: &Opened) -> Result<(), Error> {
        if let Some(lock) = &mut self.lock {
            session.announce(opened, lock, "planexe clean")?;
        }
        session.long(self.goes.len(), |steps| {
            fs::each(&self.goes, |one| {
                let cleaned = opened.store.clean(&one.task, one.why, &one.outputs, Durability::Synced);
                steps.one();
                cleaned.map(drop).map_err(|error| {
                    Error::new(Kind::Internal, format!("`{}` cannot be cleaned", one.task)).because(&error)
                })
            })
        })
    }
}

/// What goes, and which readers may be made again for it.
fn what_goes(
    session: &Session,
    opened: &Opened,
    units: &Units<'_>,
    args: &CleanOptions,
) -> Result<(Vec<Goes>, Vec<String>), Error> {
    let store = &opened.store;
    let mut parts: Vec<Part> = match args.all {
        true => opened.project.graph.order().iter().map(|&id| (id, None)).collect(),
        false => find_parts(opened, units, &args.tasks)?,
    };
    let below = units.downstream(&parts);
    if args.downstream {
        parts.extend(below.iter().cloned());
    }
    // What an item may not write is not its to remove.
    let mut chosen = units.of_all(parts)?;
    chosen.retain(|unit| units.foreign(unit).is_none());
    let mut goes: Vec<Goes> = Vec::new();
    session.long(chosen.len(), |steps| {
        chosen.iter().try_for_each(|unit| {
            goes.extend(of_unit(store, unit)?);
            steps.one();
            Ok::<(), FsError>(())
        })
    })?;
    let mut remade = Vec::new();
    if !args.downstream && !goes.is_empty() {
        let goes: HashSet<&String> = chosen.iter().map(|unit| &unit.name).collect();
        for part in below {
            let stays = |unit: &Unit| !goes.contains(&unit.name) && is_recorded(store, unit);
            let done = units.of(&part)?.iter().any(stays);
            let name = &opened.project.graph[part.0].name;
            let name = part.1.as_ref().map_or(name.clone(), |key| format!("{name}[{key}]"));
            if done && !remade.contains(&name) {
                remade.push(name);
            }
        }
    }
    if args.orphans {
        let firsts: HashSet<String> = goes.iter().filter_map(|one| one.outputs.first().cloned()).collect();
        for orphan in units.orphans()? {
            let files = files_of(store, &orphan.outputs)?;
            if !files.is_empty() && orphan.outputs.first().is_none_or(|first| !firsts.contains(first)) {
                let why = Why::Orphaned;
                goes.push(Goes { task: orphan.task, why, outputs: orphan.outputs, files, answers: 0 });
            }
        }
    }
    Ok((goes, remade))
}

fn of_unit(store: &Store, unit: &Unit) -> Result<Option<Goes>, FsError> {
    let mut files = files_of(store, &unit.outputs)?;
    files.extend(store.candidate_files(&unit.name)?);
    let answers = store.calls().list(&unit.name)?.iter().filter(|call| call.usable).count()
        + store.batched_calls(&unit.name)?;
    if files.is_empty() && answers == 0 {
        return Ok(None);
    }
    let (task, outputs) = (unit.name.clone(), unit.outputs.clone());
    Ok(Some(Goes { task, why: Why::Cleaned, outputs, files, answers }))
}

/// The files of a task that are there, relative to the run directory.
fn files_of(store: &Store, outputs: &[String]) -> Result<Vec<String>, FsError> {
    let mut files = Vec::new();
    let mut add = |path: std::path::PathBuf| -> Result<(), FsError> {
        if fs::kind(&path)?.is_some() {
            let shown = path.strip_prefix(store.run_dir()).unwrap_or(&path);
            files.push(shown.to_string_lossy().into_owned());
        }
        Ok(())
    };
    for output in outputs {
        add(store.path(output))?;
    }
    if let Some(first) = outputs.first() {
        add(store.sidecar_path(first, Sidecar::Status))?;
        add(store.sidecar_path(first, Sidecar::Done))?;
    }
    Ok(files)
}

/// Whether a task has a record of being done, good or bad.
fn is_recorded(store: &Store, unit: &Unit) -> bool {
    let done = unit.outputs.first().map(|first| store.sidecar_path(first, Sidecar::Done));
    done.is_some_and(|done| fs::kind(&done).ok().flatten().is_some())
}
