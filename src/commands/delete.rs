//! `planexe delete`: removes a run with all it holds.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::archive::{delete, lock, run_dir, unmoved};
use planexe_base::exit::{self, Error};
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::runs::{self, Unmoved};

/// What `planexe delete` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DeleteArgs {
    /// The run's folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    deleted: bool,
}

/// Removes a run.
pub fn run(session: &Session, args: &DeleteArgs) -> Result<u8, Error> {
    let dir = run_dir(&args.run)?;
    let lock = lock(session, &dir)?;
    // Before the question: a yes to what will be refused is worth nothing.
    if let Some(more) = runs::holds_more(&dir)? {
        return Err(unmoved(&dir, Unmoved::HoldsMore(more)));
    }
    if !args.yes
        && !session.ask(&format!("Delete `{}` with all its answers and history?", shown_path(&dir)))?
    {
        session.say("nothing was deleted");
        return Ok(exit::STOPPED);
    }
    delete(&dir)?;
    drop(lock);
    if session.globals.json {
        session.print_answer(&dir, &View { deleted: true })?;
    } else {
        session.say(&format!("deleted `{}`", shown_path(&dir)));
    }
    Ok(exit::DONE)
}
