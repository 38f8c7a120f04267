//! `planexe checkpoints`: lists the completions of a run, oldest first.

use clap::Args;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_ui::views::CheckpointsView;

/// What `planexe checkpoints` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckpointsArgs {}

/// Lists checkpoints.
pub fn run(session: &Session, _: &CheckpointsArgs) -> Result<u8, Error> {
    let store = session.records(true)?;
    let view = CheckpointsView {
        schema: planexe_ui::views::SCHEMA,
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
