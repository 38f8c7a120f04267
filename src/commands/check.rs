//! `planexe check`: reads the pipeline and reports every fault.

use clap::Args;

use crate::commands::Session;
use crate::exit::{self, Error};
use crate::manifest::fault::shown_path;
use crate::report::CheckView;

/// What `planexe check` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {}

/// Checks the pipeline. Faults are told where it is opened: all at once, with exit code 2.
pub fn run(session: &Session, _args: &CheckArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let project = &opened.project;
    let view = CheckView {
        schema: crate::report::SCHEMA,
        server: session.server(),
        file: shown_path(&project.file),
        pipeline: project.name.clone(),
        tasks: project.specs.len() as u32,
        models: project.endpoints.len() as u32,
        faults: Vec::new(),
    };
    if session.globals.json {
        session.print_json(&view)?;
    } else if !session.globals.quiet {
        session.print(&view.text())?;
    }
    Ok(exit::DONE)
}
