//! `planexe simulate`: what a build of everything would take, with the durations of earlier builds.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::commands::Session;
use crate::commands::args::parse_jobs;
use crate::ops::simulate::{Price, SimulateOptions, Speed, simulate};
use planexe_base::exit::{self, Error};

/// What `planexe simulate` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct SimulateArgs {
    /// Tasks or outputs to make [default: what the pipeline names as its default, else everything]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// At most N tasks at once
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<u32>,

    /// Use this model, by its name in the pipeline, instead of those the tasks name
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// Run commands on this executor, by its name in the pipeline, instead of those the tasks name
    #[arg(long, value_name = "NAME")]
    pub executor: Option<String>,

    /// Slots of a model, whatever the row: local=2,cloud=16
    #[arg(long, value_name = "MODEL=N", value_delimiter = ',', value_parser = parse_limit::<u32>)]
    pub slots: Vec<(String, u32)>,

    /// Requests per minute of a model: cloud=60
    #[arg(long, value_name = "MODEL=N", value_delimiter = ',', value_parser = parse_limit::<u32>)]
    pub rpm: Vec<(String, u32)>,

    /// Tokens per minute of a model: cloud=200000
    #[arg(long, value_name = "MODEL=N", value_delimiter = ',', value_parser = parse_limit::<u64>)]
    pub tpm: Vec<(String, u64)>,

    /// Tokens per second that a model reads and writes, in place of what earlier calls took: local=400/30
    #[arg(long, value_name = "MODEL=IN/OUT", value_delimiter = ',', value_parser = parse_speed)]
    pub speed: Vec<(String, Speed)>,

    /// Answers are N times as long as those of earlier builds
    #[arg(long, value_name = "N", value_parser = parse_factor)]
    pub answers: Option<f64>,

    /// Calls are asked as with this `price_mode`: now, flex, batch
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true)]
    pub price_mode: Option<ModeArg>,

    /// With `--price-mode batch`: how long a batch takes
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    pub batch_takes: Duration,
}

/// A `price_mode`, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// At once, at the whole price
    Now,
    /// When there is room, at half the price
    Flex,
    /// Together, at half the price
    Batch,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    planexe_base::span::Span::parse(text).map(|span| span.0)
}

fn parse_speed(text: &str) -> Result<(String, Speed), String> {
    let wanted = || "wanted MODEL=IN/OUT, for example `local=400/30`".to_owned();
    let (name, speed) = text.split_once('=').ok_or_else(wanted)?;
    let (read, written) = speed.split_once('/').ok_or_else(wanted)?;
    let read_number = |text: &str| parse_factor(text).map_err(|_| wanted());
    Ok((name.trim().to_owned(), Speed { read: read_number(read)?, written: read_number(written)? }))
}

fn parse_factor(text: &str) -> Result<f64, String> {
    let number =
        text.trim().parse().ok().filter(|number: &f64| number.is_finite() && (0.001..=1e9).contains(number));
    number.ok_or_else(|| "wanted a number above 0".to_owned())
}

fn parse_limit<N: FromStr + PartialEq + Default>(text: &str) -> Result<(String, N), String> {
    let wanted = || "wanted MODEL=N, for example `local=2`".to_owned();
    let (name, limit) = text.split_once('=').ok_or_else(wanted)?;
    match limit.trim().parse() {
        Ok(limit) if limit != N::default() => Ok((name.trim().to_owned(), limit)),
        _ => Err(wanted()),
    }
}

/// Predicts; reads only.
pub fn run(session: &Session, args: &SimulateArgs) -> Result<u8, Error> {
    let mut opened = session.open(true)?;
    let SimulateArgs { targets, jobs, model, executor, slots, rpm, tpm, speed, answers, .. } = args.clone();
    let price = args.price_mode.map(|mode| match mode {
        ModeArg::Now => Price::Now,
        ModeArg::Flex => Price::Flex,
        ModeArg::Batch => Price::Batch(args.batch_takes),
    });
    let options = SimulateOptions { targets, jobs, model, executor, slots, rpm, tpm, speed, answers, price };
    let view = simulate(session, &mut opened, &options)?;
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out))?;
    }
    // The process ends: to take 100,000 tasks apart piece by piece would be for nothing.
    std::mem::forget(opened);
    Ok(exit::DONE)
}
