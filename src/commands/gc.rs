//! `planexe gc`: makes room by forgetting what nothing rests on any more: former contents, answers that are not in use,
//! what was set aside, old checkpoints. What the run is now stays as it is.

use std::collections::HashMap;
use std::time::SystemTime;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::{LockArgs, Session};
use planexe_base::clock;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::record::Marker;
use planexe_base::style::{bytes, count};
use planexe_pipeline::manifest::types::Span;
use planexe_pipeline::open::Opened;
use planexe_query::selection::Units;
use planexe_store::gc::{self, Calls};

/// What `planexe gc` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GcArgs {
    /// Delete what is unused and older than this (30d, 12h): former contents, answers, checkpoints
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub older_than: Option<Span>,

    /// Delete the oldest until the rest takes at most this much (500M, 2G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Only show what would be deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    /// Whether it was done.
    done: bool,
    /// Entries of the history that go.
    entries: usize,
    /// Calls that no record rests on.
    calls: usize,
    /// Files that were set aside: candidates, torn ends of logs.
    files: usize,
    /// Checkpoints, but for the last of each task.
    checkpoints: usize,
    /// Bytes that are freed.
    freed_bytes: u64,
}

/// Makes room.
pub fn run(session: &Session, args: &GcArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    if opened.project.holds_trials() {
        return Err(Error::new(
            Kind::Refused,
            "these are the trials of `planexe optimize`: all of it was paid for",
        )
        .code("trials")
        .hint("delete the folder to forget them all; the texts are in its `variants/`"));
    }
    let mut lock = match args.dry_run {
        true => None,
        false => Some(session.lock(&opened, args.lock.wait, args.lock.no_lock)?),
    };
    let store = &opened.store;
    if let Some(lock) = &mut lock {
        session.announce(&opened, lock, "planexe gc")?;
        store.mend_all()?;
    }
    let before = args.older_than.and_then(|span| SystemTime::now().checked_sub(span.0));
    let limit = before.map(clock::format_utc);
    // Of the checkpoints that go nothing needs to be kept.
    let checkpoints = match &limit {
        Some(limit) => store.forget_checkpoints(limit, args.dry_run)?,
        None => 0,
    };
    let held = store.history().bytes()?;
    let (entries, freed) = store.history().gc_or_count(limit.as_deref(), args.max_size, args.dry_run)?;
    let room = args.max_size.map(|most| most.saturating_sub(held.saturating_sub(freed)));
    let surplus = gc::surplus(store.leftovers(&what_stays(&opened)?)?, before, room);
    if !args.dry_run {
        store.forget(&surplus)?;
    }
    let calls = surplus.iter().filter(|leftover| leftover.is_call).count();
    let view = View {
        done: !args.dry_run,
        entries,
        calls,
        files: surplus.len() - calls,
        checkpoints,
        freed_bytes: freed + surplus.iter().map(|leftover| leftover.bytes).sum::<u64>(),
    };
    if session.globals.json {
        session.print_answer(store.run_dir(), &view)?;
        return Ok(exit::DONE);
    }
    session.say(&view.text());
    if args.older_than.is_none() && args.max_size.is_none() && view.freed_bytes == 0 {
        session.say("hint: `--older-than 30d` or `--max-size 500M` says what may be forgotten");
    }
    Ok(exit::DONE)
}

/// Of each task of the pipeline, what must stay of its calls.
fn what_stays(opened: &Opened) -> Result<HashMap<String, Calls>, Error> {
    let units = Units::new(&opened.project, &opened.store);
    let all = opened.project.graph.order().iter().map(|&id| (id, None));
    let mut stay = HashMap::new();
    for unit in units.of_all(all.collect::<Vec<_>>())? {
        let done = unit.outputs.first().map(|first| opened.store.read_done(first));
        let calls = match done {
            Some(Marker::Valid(done)) => Calls::InUse(done.call),
            _ => Calls::All,
        };
        stay.insert(unit.name, calls);
    }
    Ok(stay)
}

impl View {
    fn text(&self) -> String {
        let verb = if self.done { "freed" } else { "would free" };
        let mut parts = vec![count(self.entries as u64, "former version")];
        for (number, noun) in
            [(self.calls, "call"), (self.files, "partial file"), (self.checkpoints, "checkpoint")]
        {
            if number > 0 {
                parts.push(count(number as u64, noun));
            }
        }
        format!("{verb} {}; {} forgotten", bytes(self.freed_bytes), parts.join(", "))
    }
}

/// A size: bytes, or with k, M, G (thousands), Ki, Mi, Gi (1024s), a `B` after it or not.
fn parse_size(text: &str) -> Result<u64, String> {
    let wanted = || "wanted a size, for example 500M or 2G".to_owned();
    let trimmed = text.trim().trim_end_matches(['b', 'B']);
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(trimmed.len());
    let number: f64 = trimmed[..digits].replace('_', "").parse().map_err(|_| wanted())?;
    let unit = match trimmed[digits..].trim().to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1_048_576.0,
        "gi" => 1_073_741_824.0,
        _ => return Err(wanted()),
    };
    let size = number * unit;
    if size.is_finite() && size < 1e18 { Ok(size as u64) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size) in
            [("500M", 500_000_000), ("1.5 GB", 1_500_000_000), ("2KiB", 2048), ("0", 0), ("1_000", 1000)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "M", "-1", "5x", "1.2.3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
