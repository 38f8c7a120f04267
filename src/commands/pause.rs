//! `planexe pause`: has the running build hold.

use clap::Args;

use crate::commands::Session;
use crate::ops::stop::building;
use planexe_base::exit::{Error, Kind};
use planexe_store::control::Control;

/// What `planexe pause` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct PauseArgs {}

/// Pauses. Only a build that runs can hold: a file left for the next one would hold it for reasons long
/// forgotten.
pub fn run(session: &Session, _: &PauseArgs) -> Result<u8, Error> {
    let store = session.records(true)?;
    let Some(owner) = building(&store) else {
        return Err(Error::new(Kind::Refused, "no build is running: there is nothing to pause")
            .code("not_running")
            .hint("`planexe status` shows where the run stands"));
    };
    if store.is_paused() {
        let text = format!("process {} is paused already; `planexe resume` lets it continue", owner.pid);
        return session.tell_steered("pause", Some(owner.pid), &text);
    }
    store.ask(&Control::Pause(true))?;
    let text = format!(
        "process {} holds: what runs finishes, nothing starts until `planexe resume`, or `planexe stop` ends it",
        owner.pid
    );
    session.tell_steered("pause", Some(owner.pid), &text)
}
