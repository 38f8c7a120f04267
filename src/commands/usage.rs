//! `planexe usage`: what the calls of one run or several used, by model, by task and by run.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::commands::failures::stores;
use crate::exit::{self, Error};
use crate::report::UsageView;

/// What `planexe usage` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {
    /// Run directories to count together [default: the run]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,
}

/// Sums usage up.
pub fn run(session: &Session, args: &UsageArgs) -> Result<u8, Error> {
    let mut calls = Vec::new();
    for store in stores(session, &args.runs)? {
        calls.extend(store.usage_lines()?);
    }
    let view = UsageView::new(session.server(), &calls);
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out, session.globals.repeated.verbose > 0))?;
    }
    Ok(exit::DONE)
}
