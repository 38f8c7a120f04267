//! `planexe optimize`: tries several texts of one task's prompt, and keeps the best.

mod forecast;
mod gather;
mod judging;
mod list;
mod promotion;
mod propose;
mod rows;
mod trials;
mod work;

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::commands::args::{parse_cost, parse_jobs, parse_tokens};
use crate::ops::names::find_task;
use planexe_base::exit::Error;
use planexe_pipeline::manifest::types::{Compare, Span};
use planexe_pipeline::open::Opened;
use planexe_prompt_lab::cells::Subject;
use planexe_ui::progress;

use list::{list, show};
use work::Work;

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
    #[arg(long, value_name = "HOW", value_enum)]
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
        return list(session, &opened, args);
    }
    let Some(task) = &args.task else {
        return Err(
            Error::usage("whose experiment is to be shown is not said").hint("planexe optimize TASK --show")
        );
    };
    let compare = args.compare.unwrap_or(opened.project.tables.optimize.compare);
    let looks = args.show.is_some() || args.promote.as_ref().is_some_and(|name| !name.is_empty());
    // Nothing is scored where only what was is looked at.
    let subject = subject(&opened, task, if looks { Compare::Pairwise } else { compare })?;
    let experiments = experiments_of(&opened, &subject.spec().name);
    if let Some(id) = &args.show {
        return show(session, &opened, &experiments, &subject, id);
    }
    if let Some(name) = args.promote.as_ref().filter(|name| !name.is_empty()) {
        return promotion::run(session, &opened, subject, &experiments, name, args.allow_dropped_inputs);
    }
    Work::new(session, &opened, subject, experiments, args)?.run()
}

/// The folder of all experiments on a task.
fn experiments_of(opened: &Opened, task: &str) -> PathBuf {
    opened.project.folder.join("experiments").join(gather::word(task))
}

/// The task, which must have a prompt, and an evaluator where scores decide.
fn subject<'a>(opened: &'a Opened, task: &str, compare: Compare) -> Result<Subject<'a>, Error> {
    let named = find_task(opened, task)?;
    let subject = Subject { project: &opened.project, id: named.task };
    let name = &subject.spec().name;
    if named.key.is_some() {
        return Err(Error::usage(format!(
            "`{task}` is one item; a prompt is tried on all items of its task"
        ))
        .hint(format!("planexe optimize {name}")));
    }
    if subject.prompt().is_none() {
        let kind = subject.spec().recipe.name();
        return Err(Error::usage(format!("`{name}` has no prompt to try: it is a {kind}")).code("no_prompt"));
    }
    if subject.spec().eval.is_none() && compare == Compare::Scores {
        return Err(Error::usage(format!("`{name}` has no evaluator, so nothing tells which text is better"))
            .code("no_evaluator")
            .hint(format!(
                "in the pipeline: [task.{name}.eval] with prompt = \"…{{{{ answer }}}}…\", or a command that prints {{\"score\": 0.8}}"
            ))
            .hint(format!("or have a judge compare answers: planexe optimize {name} --compare pairwise")));
    }
    Ok(subject)
}
