//! `planexe abort`: gives a run up, with all its state kept.

use clap::Args;

use crate::commands::Session;
use crate::ops::status::{every_task, look};
use crate::ops::stop::{building, end_left};
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::Durability;
use planexe_base::run_phase::RunPhase;
use planexe_pipeline::open::Opened;
use planexe_store::Watcher;
use planexe_store::control::Control;
use planexe_store::index::Index;
use planexe_store::run_json::{RecordedPhase, RunJson};

/// What `planexe abort` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct AbortArgs {
    /// End running tasks at once
    #[arg(long)]
    pub hard: bool,
}

/// Aborts the build that runs; marks a run that stopped earlier.
pub fn run(session: &Session, args: &AbortArgs) -> Result<u8, Error> {
    let opened = session.open(true);
    let store = match &opened {
        Ok(opened) => opened.store.clone(),
        Err(_) => session.records(true)?,
    };
    if let Some(owner) = building(&store) {
        store.ask(&Control::Abort { hard: args.hard })?;
        let what = if args.hard { "ends at once" } else { "starts nothing more; what runs finishes" };
        let text = format!("process {} {what}; all that is done is kept", owner.pid);
        return session.tell_steered("abort", Some(owner.pid), &text);
    }
    if let Some(left) = end_left(session, &store, opened.as_ref().ok()) {
        session.notice(&left);
    }
    let watcher = Watcher::of(&store);
    if watcher.is_some() {
        store.ask(&Control::Abort { hard: args.hard })?;
    }
    match (mark(session, &opened?), watcher) {
        // There is nothing to give up but the watching.
        (Err(error), Some(watcher)) if error.kind == Kind::Refused => {
            let text = format!("process {} watches no more; {error}", watcher.pid);
            return session.tell_steered("abort", Some(watcher.pid), &text);
        }
        (marked, _) => marked?,
    }
    session.tell_steered(
        "abort",
        None,
        "the run is aborted; `planexe resume --force` continues it all the same",
    )
}

/// No build runs: a run that was begun and is not complete is marked as given up.
fn mark(session: &Session, opened: &Opened) -> Result<(), Error> {
    let mut lock = session.lock(opened, false, false)?;
    let index = Index::load(&opened.store);
    let seen = look(session, opened, &index, &every_task(opened));
    let refused = |message: &str, code| Err(Error::new(Kind::Refused, message).code(code));
    match seen.phase {
        RunPhase::NeverStarted => {
            return refused("the run was never started: there is nothing to abort", "never_started");
        }
        RunPhase::Completed => {
            return refused("the run is complete: there is nothing to abort", "already_complete");
        }
        _ => {}
    }
    session.announce(opened, &mut lock, "planexe abort")?;
    let new = || RunJson::new(uuid::Uuid::now_v7().to_string(), RecordedPhase::Aborted);
    let mut run = seen.recorded.unwrap_or_else(new);
    run.phase = RecordedPhase::Aborted;
    opened.store.write_run(&run, Durability::Synced)?;
    // The next build is to look at the run, whatever it found last time.
    index.forget_null_build()?;
    // Only a cache: without it the next build reads what it would have looked at.
    let _ = index.save_if_changed();
    Ok(())
}
