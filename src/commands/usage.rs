//! `planexe usage`: what the calls of one run or several used, by model, by task and by run.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::ops::records::stores;
use planexe_base::exit::{self, Error};
use planexe_store::CallRecord;
use planexe_ui::views::{Prefixes, UsageView};

/// What `planexe usage` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {
    /// Run directories to count together [default: the run]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Also show how much of the prompts repeats the beginning of an earlier one
    #[arg(long)]
    pub prefixes: bool,
}

/// Sums usage up.
pub fn run(session: &Session, args: &UsageArgs) -> Result<u8, Error> {
    let mut calls = Vec::new();
    let mut sent = Vec::new();
    for store in stores(session, &args.runs)? {
        calls.extend(store.usage_lines()?);
        if args.prefixes {
            store.calls().for_each(|call| sent.push(Sent::from_record(&call.record)))?;
        }
    }
    let mut view = UsageView::new(session.server(), &calls);
    view.prefixes = args.prefixes.then(|| prefixes(sent));
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out, session.globals.repeated.verbose > 0))?;
    }
    Ok(exit::DONE)
}

/// What a call sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    started_utc: String,
    endpoint: String,
    text: String,
}

impl Sent {
    fn from_record(record: &CallRecord) -> Sent {
        Sent {
            started_utc: record.started_utc.clone(),
            endpoint: record.endpoint.clone(),
            text: format!("{}\0{}", record.request.system, record.request.prompt),
        }
    }
}

/// How much of what was sent repeats the beginning of an earlier prompt, in the order the calls were made.
fn prefixes(mut sent: Vec<Sent>) -> Prefixes {
    sent.sort();
    Prefixes::of(sent.iter().map(|sent| (sent.endpoint.as_str(), sent.text.as_bytes())))
}
