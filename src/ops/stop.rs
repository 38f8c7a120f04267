//! The build that is running, and whether it can be stopped; work that was left running without one.

use std::time::{Duration, Instant};

use crate::ops::Session;
use crate::ops::build::planexe;
use planexe_base::style;
use planexe_build::executor;
use planexe_pipeline::manifest::types::ExecutorKind;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::ExecutorSpec;
use planexe_store::jobs::JobFiles;
use planexe_store::{Owner, RunLock, Store};

/// So long work of this machine that was told to end is waited for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The build that is running, if one is.
pub fn building(store: &Store) -> Option<Owner> {
    RunLock::owner(store.run_dir()).filter(Owner::is_building)
}

/// The build that is running, or whoever holds the lock and has not said what for: a build that looks at its tasks
/// before the first one starts, as a rule.
pub fn stoppable(store: &Store) -> Option<Owner> {
    RunLock::owner(store.run_dir()).filter(|owner| owner.is_building() || owner.command.is_none())
}

/// Ends what a build left running; says how much that was, if there was any. `opened`: the pipeline, if it can be read.
pub fn end_left(session: &Session, store: &Store, opened: Option<&Opened>) -> Option<String> {
    let is_open = |files: &JobFiles| files.is_open() && !files.is_asked_to_end();
    let jobs: Vec<JobFiles> = store.jobs().into_iter().filter(is_open).collect();
    if jobs.is_empty() {
        return None;
    }
    // Without the pipeline there is still what runs on this machine.
    let detached =
        ExecutorSpec { name: "detached".to_owned(), kind: ExecutorKind::Detached, table: Default::default() };
    let executors = opened.map_or_else(|| vec![detached], |opened| opened.project.executors.clone());
    for (task, problem) in executor::cancel_all(&jobs, &executors, store.run_dir(), &planexe()) {
        session.notice(&format!("warning: `{task}` may still run: {problem}"));
    }
    let began = Instant::now();
    let runs = |files: &JobFiles| files.is_alive() == Some(true) && !files.is_revoked();
    while jobs.iter().any(runs) && began.elapsed() < LAST_WORDS {
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(format!("{} left running ended", style::count(jobs.len() as u64, "task")))
}
