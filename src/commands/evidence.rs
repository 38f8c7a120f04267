//! `planexe evidence`: the sources that figures of a plan rest on.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::evidence::{self, New};
use planexe_base::clock;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::style::{GREEN, RED, Style, YELLOW, clean};
use planexe_pipeline::figures::{Finding, Standing};
use planexe_ui::views::table;

/// What `planexe evidence` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct EvidenceArgs {
    /// What to do; lists the sources if left out
    #[command(subcommand)]
    pub action: Option<EvidenceAction>,

    /// The file with the facts
    #[arg(long, global = true, value_name = "FILE", default_value = evidence::FACTS)]
    pub facts: String,
}

/// What to do with a source.
#[derive(Debug, Clone, Subcommand)]
pub enum EvidenceAction {
    /// Keep a source for a figure
    Add(Box<AddArgs>),
    /// List the sources; exit with 1 if one does not stand
    Check,
    /// Remove a source, and what is kept of it; `planexe restore evidence/ID` brings it back
    Remove {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// What `planexe evidence add` takes.
#[derive(Debug, Clone, Args)]
pub struct AddArgs {
    /// The figure: the id of a fact, or its name
    #[arg(value_name = "FACT")]
    pub fact: String,

    /// Where the source is from: an address, or what a person would look for
    #[arg(long, value_name = "ADDRESS")]
    pub from: String,

    /// The source itself, kept whole; `-` reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub source: PathBuf,

    /// The words of it that count
    #[arg(long, value_name = "TEXT")]
    pub excerpt: String,

    /// A formula that makes the figure of the words, as `1450 [EUR/month] * 24 [months]`
    #[arg(long, value_name = "FORMULA")]
    pub means: Option<String>,

    /// The day it was fetched or read [default: today]
    #[arg(long, value_name = "DATE")]
    pub day: Option<Date>,

    /// The last day it is to be relied on
    #[arg(long, value_name = "DATE")]
    pub good_until: Option<Date>,

    /// A name for it [default: the fact's id and a number]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    sources: Vec<Finding>,
}

/// The answer of `remove`, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RemovedView<'a> {
    removed: &'a str,
}

/// Lists, keeps or removes sources.
pub fn run(session: &Session, args: &EvidenceArgs) -> Result<u8, Error> {
    let store = session.records(true)?;
    let run = store.run_dir();
    let today = clock::now_utc()[..10].parse().expect("BUG: a time begins with a day");
    match &args.action {
        Some(EvidenceAction::Remove { id }) => {
            let name = evidence::remove(&store, id)?;
            if session.globals.json {
                session.print_answer(run, &RemovedView { removed: id })?;
            } else {
                session.say(&format!("removed `{id}`; `planexe restore {name}` brings it back"));
            }
            Ok(exit::DONE)
        }
        Some(EvidenceAction::Add(new)) => add(session, run, &args.facts, new, today),
        action => {
            let sources = evidence::all(run, &evidence::facts(run, &args.facts)?, today)?;
            let is_sound = sources.iter().all(|source| source.standing.is_sound());
            list(session, run, sources)?;
            Ok(if is_sound || action.is_none() { exit::DONE } else { exit::FAILED })
        }
    }
}

fn add(session: &Session, run: &Path, facts: &str, args: &AddArgs, today: Date) -> Result<u8, Error> {
    let ledger = evidence::facts(run, facts)?;
    let bytes = read(session, &args.source)?;
    let ending = args.source.extension().map(|end| end.to_string_lossy().into_owned()).unwrap_or_default();
    let new = New {
        fact: &args.fact,
        id: args.id.as_deref(),
        address: &args.from,
        bytes: &bytes,
        ending: &ending,
        excerpt: &args.excerpt,
        means: args.means.as_deref(),
        day: args.day.unwrap_or(today),
        good_until: args.good_until,
        by: session.user(),
    };
    let finding = evidence::keep(run, &ledger, &new, today)?;
    let differs = finding.standing == Standing::Differs;
    list(session, run, vec![finding])?;
    if differs {
        session.say("hint: what is true belongs into the plan: `planexe edit-plan`; `--means` computes with its words");
    }
    Ok(exit::DONE)
}

fn read(session: &Session, file: &Path) -> Result<Vec<u8>, Error> {
    if file != Path::new("-") {
        return fs::linked::read_capped(file, evidence::LARGEST)
            .map_err(|error| Error::usage(error.to_string()));
    }
    if session.in_is_terminal {
        session.say("paste the source, then type Ctrl-D on a line of its own");
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(evidence::LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::usage(format!("cannot read standard input: {error}")))?;
    Ok(bytes)
}

fn list(session: &Session, run: &Path, sources: Vec<Finding>) -> Result<(), Error> {
    if session.globals.json {
        return session.print_answer(run, &View { sources });
    }
    if sources.is_empty() {
        session.say("no source is kept; `planexe evidence add FACT --from ADDRESS --excerpt TEXT` keeps one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = sources.iter().map(|source| row(source, &session.out)).collect();
    let mut text = String::new();
    for (line, source) in table(&rows, &session.out).lines().zip(&sources) {
        text += &format!("{line}\n{}\n", session.out.wrap(&about(source), 2));
    }
    Ok(session.print(&text)?)
}

/// What is found of it, and where it is from.
fn about(source: &Finding) -> String {
    let parts = [clean(&source.why), clean(&source.address)];
    format!("  {}", parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; "))
}

fn row(source: &Finding, style: &Style) -> Vec<String> {
    let colour = match source.standing {
        Standing::Holds | Standing::Kept => GREEN,
        Standing::Old | Standing::NoFact => YELLOW,
        _ => RED,
    };
    let standing = style.paint(colour, &source.standing.name().replace('_', " "));
    vec![standing, clean(&source.id), clean(&source.name), source.day.clone()]
}
