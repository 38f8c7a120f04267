//! `planexe usage`: what the calls of a run used, by model and by task.

use clap::Args;

use crate::commands::Session;
use crate::exit::{self, Error};
use crate::report::{Prefixes, UsageView};
use crate::store::calls::KeptCall;

/// What `planexe usage` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {
    /// Also tell how much of the prompts repeats the beginning of an earlier one
    #[arg(long)]
    pub prefixes: bool,
}

/// Sums usage up.
pub fn run(session: &Session, args: &UsageArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let mut view = UsageView::new(session.server(), &opened.store.usage_lines()?);
    if args.prefixes {
        view.prefixes = Some(prefixes(&opened.store.calls().list_all()?));
    }
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
