//! `planexe checkpoints`: lists the completions of a run, oldest first.

use clap::Args;

use crate::commands::Session;
use crate::exit::{self, Error};
use crate::report::CheckpointsView;

/// What `planexe checkpoints` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckpointsArgs {}

/// Lists checkpoints.
pub fn run(session: &Session, _: &CheckpointsArgs) -> Result<u8, Error> {
    let store = session.records(true)?;
    let view = CheckpointsView {
        schema: crate::report::SCHEMA,
        server: session.server(),
        checkpoints: store.checkpoints().list()?,
    };
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out))?;
    }
    Ok(exit::DONE)
}
