//! `planexe new`: makes a run directory.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::new::{
    BUILT_IN, Made, Source, Wanted, check_empty, end_line, find_pipeline, make, names_built_in,
};
use planexe_base::exit::{self, Error};
use planexe_base::fs::{self};
use planexe_base::style::shell_path;
use planexe_pipeline::manifest::diagnostic::shown_path;

/// What `planexe new` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct NewArgs {
    /// The folder to make
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The pipeline it runs; `strategic-plan` is the one that comes with planexe [default: pipeline.toml here or above; if
    /// there is none, strategic-plan with a profile, else a small example]
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// The plan's text, written to the file that `plan = …` names; `-` reads standard input
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "prompt_file")]
    pub prompt: Option<String>,

    /// The plan's text from a file; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,

    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,

    /// The run that this one follows; named in its status
    #[arg(long, value_name = "RUN")]
    pub parent: Option<String>,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    /// The pipeline, relative to the run.
    pipeline: String,
    /// The plan, relative to the run; none if the pipeline names none.
    plan: Option<String>,
    /// The files written.
    files: Vec<String>,
    /// What to type next.
    next: Vec<String>,
}

/// Makes a run directory.
pub fn run(session: &Session, args: &NewArgs) -> Result<u8, Error> {
    let dir = &args.dir;
    check_empty(dir)?;
    let prompt = read_prompt(session, args)?;
    let built_in = names_built_in(session, args.pipeline.as_deref());
    let source = match if built_in { None } else { find_pipeline(session, args.pipeline.as_ref())? } {
        Some(file) => Source::File(file),
        None if built_in || session.globals.profile.is_some() => Source::BuiltIn,
        None => Source::Example,
    };
    let (label, parent) = (args.label.clone(), args.parent.clone());
    let made = make(session, Wanted { dir, source, prompt, label, parent, beside: Vec::new() })?;
    let shown = shell_path(dir);
    let mut next = Vec::new();
    if let (false, Some(plan)) = (made.has_text, &made.plan) {
        next.push(format!("write your plan to {}", shown_path(&dir.join(plan))));
    }
    if !made.is_example {
        // The model is the one thing that may not be there.
        next.push(format!("planexe -C {shown} doctor"));
    }
    next.extend([format!("planexe -C {shown} build -n"), format!("planexe -C {shown} build")]);
    if session.globals.json {
        let Made { place, pipeline, plan, files, .. } = made;
        session.print_answer(&place, &View { pipeline, plan, files, next })?;
        return Ok(exit::DONE);
    }
    session.say(&format!("made the run `{}` {}", shown_path(dir), made.of));
    session.say("next:");
    for step in next {
        session.say(&format!("  {step}"));
    }
    if made.is_example && !session.bundle.is_empty() {
        session.say(&format!("a whole plan: planexe new DIR --pipeline {BUILT_IN}, or --profile sample to see one without a model"));
    }
    Ok(exit::DONE)
}

fn read_prompt(session: &Session, args: &NewArgs) -> Result<Option<String>, Error> {
    let stdin = || {
        if session.in_is_terminal {
            session.say("the plan, from the keyboard; Ctrl-D on a line of its own ends it:");
        }
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    };
    let mut text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) if text == "-" => stdin()?,
        (Some(text), _) => text.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => stdin()?,
        (None, Some(file)) => fs::read_to_string(file).map_err(|error| Error::usage(error.to_string()))?,
        (None, None) => return Ok(None),
    };
    if text.trim().is_empty() {
        return Err(Error::usage("the plan's text is empty").hint("leave `--prompt` out to write it later"));
    }
    end_line(&mut text);
    Ok(Some(text))
}
