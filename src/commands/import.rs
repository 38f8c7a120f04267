//! `planexe import`: makes a run from the folder of another program.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::Session;
use crate::ops::import::{ImportOptions, ImportView, LeftOut, import};
use crate::ops::new::{Source, find_pipeline, names_built_in};
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::style::{clean, count};
use planexe_pipeline::manifest::diagnostic::shown_path;

/// Most files left out that are listed without `-v`.
const LISTED: usize = 12;

/// What `planexe import` takes.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The kind of folder.
    #[command(subcommand)]
    pub of: Of,
}

/// What can be imported.
#[derive(Debug, Clone, Subcommand)]
pub enum Of {
    /// A run folder of PlanExe (v1) or PlanExe2
    Planexe(PlanexeArgs),
}

/// What `planexe import planexe` takes.
#[derive(Debug, Clone, Args)]
pub struct PlanexeArgs {
    /// The folder; it is only read
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The run to make [default: DIR's name and -planexe, here]
    #[arg(long, value_name = "RUN")]
    pub into: Option<PathBuf>,

    /// The pipeline it runs; `strategic-plan` is the one that comes with planexe [default: pipeline.toml here or above; if
    /// there is none, strategic-plan]
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// Only show what would be taken
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Makes the run.
pub fn run(session: &Session, args: &ImportArgs) -> Result<u8, Error> {
    let Of::Planexe(args) = &args.of;
    let into = match &args.into {
        Some(into) => into.clone(),
        None => {
            let dir = fs::resolved(&args.dir);
            let Some(name) = dir.file_name() else {
                return Err(Error::usage("the run needs a name").hint("`--into RUN` names it"));
            };
            let mut name = name.to_owned();
            name.push("-planexe");
            PathBuf::from(name)
        }
    };
    let built_in = names_built_in(session, args.pipeline.as_deref());
    let source = match if built_in { None } else { find_pipeline(session, args.pipeline.as_ref())? } {
        Some(file) => Source::File(file),
        None => Source::BuiltIn,
    };
    let options = ImportOptions { dir: &args.dir, into: &into, source, dry_run: args.dry_run };
    let view = import(session, options)?;
    if session.globals.json {
        session.print_answer(&fs::resolved(&into), &view)?;
        return Ok(exit::DONE);
    }
    let verb = if view.dry_run { "would make" } else { "made" };
    session.say(&format!(
        "{verb} the run `{}` from a folder of {}: {}",
        shown_path(&into),
        view.program,
        view.because
    ));
    for line in lines(&view, session.globals.repeated.verbose > 0) {
        session.say(&line);
    }
    if !view.dry_run {
        session.say("next:");
        for step in &view.next {
            session.say(&format!("  {step}"));
        }
    }
    Ok(exit::DONE)
}

/// What was taken, left out and is still to be asked, a line each.
fn lines(view: &ImportView, all: bool) -> Vec<String> {
    let started = view.started.as_deref().map(|day| format!(", started {}", clean(day))).unwrap_or_default();
    let words = count(view.plan_words as u64, "word");
    let mut rows =
        vec![("plan", view.plan_from.to_owned(), format!("now {}, {words}{started}", clean(&view.plan)))];
    for taken in &view.taken {
        let imported = &taken.imported;
        let verb = if imported.converted { "converted" } else { "taken" };
        let edited = if imported.edited { ", edited there by hand" } else { "" };
        let answers = if taken.answers > 1 { format!(", {} answers", taken.answers) } else { String::new() };
        rows.push((verb, clean(&imported.file), format!("answers {}{answers}{edited}", clean(&taken.task))));
    }
    if all {
        let kept =
            |file: &String| ("reference", clean(file), "a document to read, in `imported/`".to_owned());
        rows.extend(view.reference.iter().map(kept));
    }
    let quiet = |left: &&LeftOut| matches!(left.code, "whole" | "rendered" | "items");
    let named = view.left_out.iter().filter(|left| all || !quiet(left));
    let (listed, more): (Vec<_>, Vec<_>) = named.enumerate().partition(|(at, _)| all || *at < LISTED);
    rows.extend(listed.iter().map(|(_, left)| ("not used", clean(&left.file), left.why.clone())));
    let width = rows.iter().map(|(_, file, _)| file.chars().count()).max().unwrap_or(0).min(48);
    let mut lines: Vec<String> =
        rows.into_iter().map(|(what, file, why)| format!("  {what:<9} {file:<width$}  {why}")).collect();
    if !more.is_empty() {
        lines.push(format!("  {:<9} {} more; -v lists them", "", more.len()));
    }
    if !all {
        if !view.reference.is_empty() {
            let files = count(view.reference.len() as u64, "file");
            lines.push(format!("  {:<9} {files:<width$}  documents to read, in `imported/`", "reference"));
        }
        for (code, why) in [
            ("whole", "that sums up or judges the plan as a whole, which is another one here"),
            ("items", "of a loop, which is asked here item by item"),
            ("rendered", "that is made here from the answers"),
        ] {
            let files = view.left_out.iter().filter(|left| left.code == code).count();
            if files > 0 {
                let files = count(files as u64, "file");
                lines.push(format!("  {:<9} {files:<width$}  {why}", "not used"));
            }
        }
    }
    lines.extend(view.notes.iter().map(|note| format!("  note      {note}")));
    lines.push(format!(
        "the next build asks for {} of {} that ask{} a model",
        view.asked_next,
        count(view.tasks_that_ask as u64, "task"),
        if view.tasks_that_ask == 1 { "s" } else { "" }
    ));
    lines
}
