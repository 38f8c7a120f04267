//! `planexe optimize`: tries several texts of one task's prompt, and keeps the best.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::commands::args::{parse_cost, parse_jobs, parse_tokens};
use crate::ops::build::{BuildOptions, Screen};
use crate::ops::optimize::{self, Experimented, OptimizeOptions};
use planexe_base::exit::{self, Error};
use planexe_pipeline::manifest::types::{Compare, Span};
use planexe_prompt_lab::view::OptimizeView;
use planexe_ui::progress;
use planexe_ui::views::{ErrorBody, ErrorView};

/// What `planexe optimize` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct OptimizeArgs {
    /// The task whose prompt is tried
    #[arg(value_name = "TASK")]
    pub task: Option<String>,

    /// A text to try; may be repeated [default: the files in prompts/variants/TASK, unless models are asked to propose]
    #[arg(long, value_name = "FILE")]
    pub variant: Vec<PathBuf>,

    /// A reference run, whose inputs of the task are used; may be repeated [default: the run]
    #[arg(long, value_name = "DIR")]
    pub run: Vec<PathBuf>,

    /// Compare these models too, by their names in the pipeline [default: the first of the task's]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub models: Vec<String>,

    /// Let a model write N new texts in each round, from the scores and notes on the last
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub propose: u32,

    /// Run at most N rounds; the text that one keeps is the champion of the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rounds: u32,

    /// Run each prompt N times, so the spread can be estimated and small differences flagged as noise [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub samples: Option<u32>,

    /// Compare by the evaluator's scores, or pairwise by a judge that sees two answers in both orders [default: scores]
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true)]
    pub compare: Option<Compare>,

    /// The gain in mean score that a text needs to be kept [default: 0.02]
    #[arg(long, value_name = "SCORE", value_parser = parse_share)]
    pub margin: Option<f64>,

    /// The largest loss of score on any one run [default: 0.05]
    #[arg(long, value_name = "SCORE", value_parser = parse_share)]
    pub max_drop: Option<f64>,

    /// Replace the prompt with the best text, if one was kept; with NAME run no trial, and use the text of that name, digest or experiment
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub promote: Option<String>,

    /// Promote a text even if it no longer uses an input that the prompt used
    #[arg(long)]
    pub allow_dropped_inputs: bool,

    /// List the experiments
    #[arg(long, conflicts_with_all = ["promote", "show", "dry_run"])]
    pub list: bool,

    /// Show an experiment [default: the last one of the task]
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["promote", "dry_run"])]
    pub show: Option<String>,

    /// Show how many calls are expected; make none, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Make at most N trials at once
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<u32>,

    /// Start no further call once this many USD were spent
    #[arg(long, value_name = "USD", value_parser = parse_cost)]
    pub max_cost: Option<f64>,

    /// Start no further call once this many tokens were used, prompts and answers together (200000, 200k, 1.5M)
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub max_tokens: Option<u64>,

    /// Make at most this many calls, including retries and evaluations
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u64>,

    /// Start no further trial after this time (90s, 15m, 8h)
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub max_time: Option<Span>,

    /// Wait for another planexe on this experiment to end, instead of exiting with 75
    #[arg(long)]
    pub wait: bool,

    /// How to show what happens: auto, plain (a line per start and end), json (events on standard error), none
    #[arg(long, value_name = "HOW", value_enum, default_value_t, hide_possible_values = true)]
    pub progress: progress::How,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("wanted a score from 0 to 1, for example 0.05".to_owned()),
    }
}

/// Tries prompts.
pub fn run(session: &Session, args: &OptimizeArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    if args.list || (args.task.is_none() && args.show.is_none()) {
        let view = optimize::list(session, &opened, args.task.as_deref())?;
        if session.globals.json {
            session.print_json(&view)?;
        } else {
            session.print(&view.text(&session.out))?;
        }
        return Ok(exit::DONE);
    }
    let Some(task) = &args.task else {
        return Err(Error::usage("whose experiment is to be shown is not said")
            .hint("`planexe optimize TASK --show`"));
    };
    let progress = session.progress_options(args.progress, false);
    let sink = || progress::to_stderr(progress);
    let screen = Screen { sink: &sink, closing: None };
    let promoted = args.promote.as_ref().filter(|name| !name.is_empty());
    let view = match (&args.show, promoted) {
        (Some(id), _) => optimize::show(session, &opened, task, id)?,
        (None, Some(name)) => {
            optimize::promote(session, &opened, task, name, args.allow_dropped_inputs, screen)?
        }
        _ if args.dry_run => optimize::forecast(session, &opened, task, &args.options(), screen)?,
        _ => {
            return end(session, optimize::optimize(session, &opened, task, &args.options(), screen)?);
        }
    };
    tell(session, &view)?;
    Ok(exit::DONE)
}

impl OptimizeArgs {
    fn options(&self) -> OptimizeOptions {
        OptimizeOptions {
            variants: self.variant.clone(),
            runs: self.run.clone(),
            models: self.models.clone(),
            propose: self.propose,
            rounds: self.rounds,
            samples: self.samples,
            compare: self.compare,
            margin: self.margin,
            max_drop: self.max_drop,
            promote: self.promote.is_some(),
            allow_dropped_inputs: self.allow_dropped_inputs,
            wait: self.wait,
            build: BuildOptions {
                jobs: self.jobs,
                max_cost: self.max_cost,
                max_tokens: self.max_tokens,
                max_calls: self.max_calls,
                max_time: self.max_time,
                ..BuildOptions::default()
            },
        }
    }
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Told<'a> {
    #[serde(flatten)]
    view: &'a OptimizeView,
    /// Why the best was not promoted, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// What was compared is told, and why it was not promoted: under `--json` as `error` of the same answer.
fn end(session: &Session, Experimented { view, refused, code }: Experimented) -> Result<u8, Error> {
    let Some(error) = refused else {
        tell(session, &view)?;
        return Ok(code);
    };
    if !session.globals.json {
        tell(session, &view)?;
        return Err(error);
    }
    let ErrorView { error: body, .. } = ErrorView::from_error(&error, session.server());
    let answer = serde_json::to_value(Told { view: &view, error: Some(body) }).unwrap_or_default();
    Err(Error { answer: Some(Box::new(answer)), ..error })
}

/// Prints an answer.
fn tell(session: &Session, view: &OptimizeView) -> Result<(), Error> {
    if session.globals.json {
        let mut view = view.clone();
        view.next.iter_mut().for_each(|next| *next = session.typed(next));
        session.print_json(&view)?;
        return Ok(());
    }
    session.print(&view.text(&session.out))?;
    for next in &view.next {
        session.say(&format!("next: {}", session.typed(next)));
    }
    Ok(())
}
