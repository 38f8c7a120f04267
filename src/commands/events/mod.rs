//! `planexe events`: what happened in the builds of a run, from `events.jsonl`.

use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::commands::Session;
use crate::ops::stop::building;
use planexe_base::clock;
use planexe_base::event::Event;
use planexe_base::exit::{self, Error};
use planexe_base::fs::{self, FsError};
use planexe_base::signals;
use planexe_pipeline::manifest::types::Span;
use planexe_store::jsonl;
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
        offset = each_line(&path, offset, |line| {
            let Ok(event) = serde_json::from_slice::<Event>(line) else { return Ok(()) };
            if args.since.as_ref().is_some_and(|since| event.timestamp_utc < *since) {
                return Ok(());
            }
            let text = match session.globals.json {
                true => String::from_utf8_lossy(line).into_owned(),
                false => format!("{}\n", lines.line(&event, &session.out)),
            };
            Ok(session.print(&text)?)
        })?;
        if !args.follow || !alive || session.is_closed() {
            return Ok(exit::DONE);
        }
        if let Some(signal) = signals.within(AGAIN) {
            return Ok(exit::of_signal(signal));
        }
    }
}

/// Goes through the whole lines from a place in the file on, each with its newline, and returns where they end. A file
/// that became shorter was mended, and is gone on with at its end.
fn each_line(
    path: &Path,
    offset: u64,
    mut tell: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let Some(mut file) = fs::optional(fs::open(path))? else { return Ok(0) };
    let read = |error| FsError::new(path, "read", error);
    let length = file.metadata().map_err(read)?.len();
    let mut offset = file.seek(SeekFrom::Start(offset.min(length))).map_err(read)?;
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    loop {
        let bytes = jsonl::next_line(&mut reader, &mut line).map_err(read)?;
        if bytes == 0 || !line.ends_with(b"\n") {
            return Ok(offset);
        }
        tell(&line)?;
        offset += bytes;
    }
}
