//! `planexe stop`: has the running build start nothing more.

use clap::Args;

use crate::commands::Session;
use crate::ops::stop::{end_left, stoppable};
use planexe_base::exit::Error;
use planexe_store::Watcher;
use planexe_store::control::Control;

/// What `planexe stop` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct StopArgs {}

/// Stops.
pub fn run(session: &Session, _: &StopArgs) -> Result<u8, Error> {
    let store = session.records(true)?;
    let Some(owner) = stoppable(&store) else {
        let left = end_left(session, &store, session.open(true).ok().as_ref());
        if let Some(watcher) = Watcher::of(&store) {
            store.ask(&Control::Stop)?;
            let text = format!(
                "process {} watches no more; {}",
                watcher.pid,
                left.as_deref().unwrap_or("no build is running")
            );
            return session.tell_steered("stop", Some(watcher.pid), &text);
        }
        let text = left.as_deref().unwrap_or("no build is running: there is nothing to stop");
        return session.tell_steered("stop", None, text);
    };
    store.ask(&Control::Stop)?;
    let text = format!("process {} starts nothing more; what runs finishes and is recorded", owner.pid);
    session.tell_steered("stop", Some(owner.pid), &text)
}
