//! `planexe usage`: what the calls of one run or several used, by model, by task and by run.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::commands::failures::stores;
use crate::exit::{self, Error};
use crate::report::{Prefixes, UsageView};
use crate::store::calls::KeptCall;

/// What `planexe usage` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {
    /// Run directories to count together [default: the run]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Also tell how much of the prompts repeats the beginning of an earlier one
    #[arg(long)]
    pub prefixes: bool,
}

/// Sums usage up.
pub fn run(session: &Session, args: &UsageArgs) -> Result<u8, Error> {
    let mut calls = Vec::new();
    let mut kept = Vec::new();
    for store in stores(session, &args.runs)? {
        calls.extend(store.usage_lines()?);
        if args.prefixes {
            kept.extend(store.calls().list_all()?);
        }
    }
    let mut view = UsageView::new(session.server(), &calls);
    view.prefixes = args.prefixes.then(|| prefixes(&kept));
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out, session.globals.repeated.verbose > 0))?;
    }
    Ok(exit::DONE)
}

/// What the kept calls sent, in the order they were made.
fn prefixes(calls: &[KeptCall]) -> Prefixes {
    let mut sent: Vec<(&str, &str, String)> = calls
        .iter()
        .map(|call| {
            let record = &call.record;
            let text = format!("{}\0{}", record.request.system, record.request.prompt);
            (record.started_utc.as_str(), record.endpoint.as_str(), text)
        })
        .collect();
    sent.sort();
    Prefixes::of(sent.iter().map(|(_, endpoint, text)| (*endpoint, text.as_bytes())))
}
