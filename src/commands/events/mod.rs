//! `planexe events`: what happened in the builds of a run, from `events.jsonl`.

use std::time::{Duration, SystemTime};

use clap::Args;

use crate::commands::Session;
use crate::ops::stop::building;
use planexe_base::clock;
use planexe_base::event::Event;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::signals;
use planexe_pipeline::manifest::types::Span;
use planexe_ui::progress::EventLines;

mod deliver;

/// How often `--follow` looks again.
const AGAIN: Duration = Duration::from_millis(250);

/// What `planexe events` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct EventsArgs {
    /// Only from this time on: 2026-03-01T22:15:04Z, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<String>,

    /// Follow until the build ends, or Ctrl-C
    #[arg(long)]
    pub follow: bool,

    /// Send the events that wait for webhooks instead
    #[arg(long, conflicts_with_all = ["since", "follow"])]
    pub deliver: bool,

    /// With --deliver: an address that was given to a build with `--webhook`; may be repeated
    #[arg(long, value_name = "URL", requires = "deliver")]
    pub webhook: Vec<String>,
}

/// A time as records have it, to be compared as text.
fn parse_since(text: &str) -> Result<String, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(format!("{time:.3}"));
    }
    let wanted = |_| "wanted a time like 2026-03-01T22:15:04Z, or a span like 10m".to_owned();
    let ago = Span::parse(text).map_err(wanted)?.0;
    Ok(clock::format_utc(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// Shows events: a line each, with `--json` as they are in the file.
pub fn run(session: &Session, args: &EventsArgs) -> Result<u8, Error> {
    if args.deliver {
        return deliver::run(session, &args.webhook);
    }
    let store = session.records(true)?;
    let path = store.path("events.jsonl");
    let signals = signals::listen()?;
    let mut lines = EventLines::new();
    let mut offset = 0;
    loop {
        // Asked for before the file is read: what a build writes as its last is still seen.
        let alive = building(&store).is_some();
        let (text, next) = read_lines(&path, offset)?;
        offset = next;
        for line in text.lines() {
            let Ok(event) = serde_json::from_str::<Event>(line) else { continue };
            if args.since.as_ref().is_some_and(|since| event.timestamp_utc < *since) {
                continue;
            }
            match session.globals.json {
                true => session.print(&format!("{line}\n"))?,
                false => session.print(&format!("{}\n", lines.line(&event, &session.out)))?,
            }
        }
        if !args.follow || !alive || session.is_closed() {
            return Ok(exit::DONE);
        }
        if let Some(signal) = signals.within(AGAIN) {
            return Ok(exit::of_signal(signal));
        }
    }
}

/// The whole lines from a place in the file on, and where they end. A file that became shorter was mended,
/// and is gone on with at its end.
fn read_lines(path: &std::path::Path, offset: u64) -> Result<(String, u64), Error> {
    let Some((bytes, length)) = fs::optional(fs::read_from(path, offset))? else {
        return Ok((String::new(), 0));
    };
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    Ok((String::from_utf8_lossy(&bytes[..whole]).into_owned(), length.min(offset) + whole as u64))
}
