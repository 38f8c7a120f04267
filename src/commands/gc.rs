//! `planexe gc`: makes room by forgetting old contents.

use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use crate::clock;
use crate::commands::{LockArgs, Session};
use crate::exit::{self, Error};
use crate::manifest::types::Span;
use crate::style::{bytes, count};

/// What `planexe gc` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GcArgs {
    /// Forget former contents older than this (30d, 12h)
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub older_than: Option<Span>,

    /// Forget the oldest until the rest takes at most this much (500M, 2G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Only say what would go
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// Whether it was done.
    done: bool,
    /// Entries of the history that go.
    entries: usize,
    /// Bytes that are freed.
    freed_bytes: u64,
}

/// Makes room.
pub fn run(session: &Session, args: &GcArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let _lock = match args.dry_run {
        true => None,
        false => Some(session.lock(&opened, args.lock.wait, args.lock.no_lock)?),
    };
    let limit = args.older_than.and_then(|span| SystemTime::now().checked_sub(span.0)).map(clock::format_utc);
    let (entries, freed) =
        opened.store.history().gc_or_count(limit.as_deref(), args.max_size, args.dry_run)?;
    if session.globals.json {
        let view = View { done: !args.dry_run, entries, freed_bytes: freed };
        session.print_answer(opened.store.run_dir(), &view)?;
        return Ok(exit::DONE);
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    session.say(&format!("{verb} {}; {} forgotten", bytes(freed), count(entries as u64, "former version")));
    if args.older_than.is_none() && args.max_size.is_none() && freed == 0 {
        session.say("hint: `--older-than 30d` or `--max-size 500M` says what may be forgotten");
    }
    Ok(exit::DONE)
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
