//! `planexe stop`: has the running build start nothing more.

use clap::Args;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_store::control::Control;
use planexe_store::{Owner, RunLock, Store, Watcher};
use planexe_ui::views::SteerView;

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
            return tell(session, "stop", Some(watcher.pid), &text);
        }
        return tell(session, "stop", None, "no build is running: there is nothing to stop");
    };
    store.ask(&Control::Stop)?;
    let text = format!("process {} starts nothing more; what runs finishes and is recorded", owner.pid);
    tell(session, "stop", Some(owner.pid), &text)
}

/// The build that is running, if one is.
pub fn building(store: &Store) -> Option<Owner> {
    RunLock::owner(store.run_dir()).filter(Owner::is_building)
}

/// The build that is running, or whoever holds the lock and has not said what for: a build that looks at its tasks
/// before the first one starts, as a rule.
pub fn stoppable(store: &Store) -> Option<Owner> {
    RunLock::owner(store.run_dir()).filter(|owner| owner.is_building() || owner.command.is_none())
}

/// Says what was asked of which process.
pub fn tell(session: &Session, asked: &str, pid: Option<u32>, message: &str) -> Result<u8, Error> {
    if session.globals.json {
        session.print_json(&SteerView {
            schema: planexe_ui::views::SCHEMA,
            server: session.server(),
            asked: asked.to_owned(),
            pid,
            message: message.to_owned(),
        })?;
    } else {
        session.say(message);
    }
    Ok(exit::DONE)
}
