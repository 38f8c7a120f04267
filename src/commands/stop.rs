//! `planexe stop`: has the running build start nothing more.

use clap::Args;

use crate::commands::Session;
use crate::ops::stop::stoppable;
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
        if let Some(watcher) = Watcher::of(&store) {
            store.ask(&Control::Stop)?;
            let text = format!("process {} watches no more; no build is running", watcher.pid);
            return session.tell_steered("stop", Some(watcher.pid), &text);
        }
        return session.tell_steered("stop", None, "no build is running: there is nothing to stop");
    };
    store.ask(&Control::Stop)?;
    let text = format!("process {} starts nothing more; what runs finishes and is recorded", owner.pid);
    session.tell_steered("stop", Some(owner.pid), &text)
}
