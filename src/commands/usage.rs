//! `planexe usage`: what the calls of a run used, by model and by task.

use clap::Args;

use crate::commands::Session;
use crate::exit::{self, Error};
use crate::report::UsageView;

/// What `planexe usage` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {}

/// Sums usage up.
pub fn run(session: &Session, _: &UsageArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let view = UsageView::new(session.server(), &opened.store.usage_lines()?);
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out, session.globals.repeated.verbose > 0))?;
    }
    Ok(exit::DONE)
}
