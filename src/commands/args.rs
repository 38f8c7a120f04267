//! Options that several commands share, and how their values are written.

use clap::{Args, ValueEnum};

use crate::ops::LockOptions;
use crate::ops::build::BuildOptions;
use planexe_engine::scheduler::OnFailure;
use planexe_pipeline::manifest::types::Span;
use planexe_ui::progress;

/// How a build is carried out: shared by `build` and `resume`.
#[derive(Debug, Clone, Default, Args)]
pub struct HowArgs {
    /// Run at most N tasks at once [default: one command per core, and as many calls as the models take]
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<u32>,

    /// After a failure, continue with tasks that do not depend on it (the default)
    #[arg(short, long, group = "on_failure")]
    pub keep_going: bool,

    /// After a failure, start nothing more; running tasks finish
    #[arg(long, group = "on_failure")]
    pub fail_fast: bool,

    /// After a failure, stop everything at once
    #[arg(long, group = "on_failure")]
    pub stop_all: bool,

    /// Do not retry tasks that failed in an earlier build
    #[arg(long)]
    pub keep_failed: bool,

    /// Use this model, by its name in the pipeline, instead of those the tasks name
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// Run commands on this executor, by its name in the pipeline, instead of those the tasks name
    #[arg(long, value_name = "NAME")]
    pub executor: Option<String>,

    /// `model`: treat tasks made with another model or other parameters as stale
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub rebuild_on: Vec<RebuildOn>,

    /// Exit with 1 if a task is done with items missing
    #[arg(long)]
    pub strict: bool,

    /// Refuse samples: answers recorded for another prompt
    #[arg(long)]
    pub frozen: bool,

    /// Do not evaluate the outputs of commands that failed
    #[arg(long)]
    pub no_rescue: bool,

    /// Do not use kept answers; ask again
    #[arg(long)]
    pub no_reuse: bool,

    /// Wait for another planexe on this run to end, instead of exiting with 75
    #[arg(long)]
    pub wait: bool,

    /// Take no lock, where the file system has none; two builds at once will then spoil each other's work
    #[arg(long, conflicts_with = "wait")]
    pub no_lock: bool,

    /// Start no further call once this build has spent this many USD; calls in flight finish
    #[arg(long, value_name = "USD", value_parser = parse_cost)]
    pub max_cost: Option<f64>,

    /// Start no further call once this build has used this many tokens, prompts and answers together (200000, 200k, 1.5M)
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub max_tokens: Option<u64>,

    /// Make at most this many calls in this build, including retries and evaluations
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u64>,

    /// Start no further task after this time (90s, 15m, 8h)
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub max_time: Option<Span>,

    /// Wait for the reset of a model's usage limit, however long, instead of exiting with 3 (`retry.wait` is the wait without this)
    #[arg(long)]
    pub at_reset: bool,

    /// Ask models again though their usage limit is not over yet
    #[arg(long, conflicts_with = "at_reset")]
    pub before_reset: bool,

    /// Post events to this address too; may be repeated
    #[arg(long, value_name = "URL")]
    pub webhook: Vec<String>,

    /// How to show what happens: auto, plain (a line per start and end), json (events on standard error), none
    #[arg(long, value_name = "HOW", value_enum, default_value_t, hide_possible_values = true)]
    pub progress: progress::How,
}

impl HowArgs {
    /// What to do after a failure.
    pub fn on_failure(&self) -> OnFailure {
        match (self.fail_fast, self.stop_all) {
            (true, _) => OnFailure::FailFast,
            (_, true) => OnFailure::StopAll,
            _ => OnFailure::KeepGoing,
        }
    }

    /// As operations take them.
    pub fn options(&self) -> BuildOptions {
        BuildOptions {
            jobs: self.jobs,
            on_failure: self.on_failure(),
            keep_failed: self.keep_failed,
            model: self.model.clone(),
            rebuild_on_model: self.rebuild_on.contains(&RebuildOn::Model),
            strict: self.strict,
            frozen: self.frozen,
            no_rescue: self.no_rescue,
            no_reuse: self.no_reuse,
            lock: LockOptions { wait: self.wait, no_lock: self.no_lock },
            max_cost: self.max_cost,
            max_tokens: self.max_tokens,
            max_calls: self.max_calls,
            max_time: self.max_time,
            at_reset: self.at_reset,
            before_reset: self.before_reset,
            webhook: self.webhook.clone(),
        }
    }
}

/// What else makes a task stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RebuildOn {
    /// Another model, or other parameters
    Model,
}

/// `-j`.
pub fn parse_jobs(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|jobs| *jobs > 0).ok_or_else(|| "wanted a number from 1 up".to_owned())
}

/// Reads an amount of US dollars from the command line.
pub fn parse_cost(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd >= 0.0 => Ok(usd),
        _ => Err("wanted an amount of USD, for example 2.50".to_owned()),
    }
}

/// Reads a number of tokens from the command line.
pub fn parse_tokens(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.trim_end().char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    match number.trim().replace('_', "").parse::<f64>() {
        Ok(count) if count.is_finite() && count >= 0.0 && count * unit < 1e18 => {
            Ok((count * unit).round() as u64)
        }
        _ => Err("wanted a number of tokens, for example 200000, 200k or 1.5M".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        for (text, tokens) in
            [("200000", 200_000), ("200k", 200_000), ("1.5M", 1_500_000), ("1_000", 1000), ("0", 0)]
        {
            assert_eq!(parse_tokens(text), Ok(tokens), "{text}");
        }
        for text in ["", "k", "-1", "many", "1e400", "inf"] {
            assert!(parse_tokens(text).is_err(), "{text}");
        }
        assert_eq!((parse_cost("2.50"), parse_cost("$3")), (Ok(2.5), Ok(3.0)));
        assert!(parse_cost("-1").is_err() && parse_cost("NaN").is_err());
    }
}
