//! `planexe build`: runs what is stale.

use clap::Args;

use crate::commands::Session;
use crate::commands::args::HowArgs;
use crate::ops::build::{Targets, ask_only, run_on, target_ids};
use planexe_base::exit::{Error, Kind};
use planexe_build::jobserver::Asks;
use planexe_pipeline::open::Opened;

/// What `planexe build` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct BuildArgs {
    /// Tasks or outputs to make [default: what the pipeline names as its default, else everything]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// Show what would run and why; run nothing, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Run nothing; the exit code is 0 if all is up to date, 1 if something is stale
    #[arg(short = 'q', long, conflicts_with = "dry_run")]
    pub question: bool,

    /// Run the targets and all they need even if they are up to date, with fresh answers
    #[arg(short = 'B', long)]
    pub always_make: bool,

    /// Run only the targets, not what they need
    #[arg(long, requires = "targets")]
    pub only: bool,

    /// Show for each task that runs why it is stale
    #[arg(long)]
    pub explain: bool,

    /// How the build is carried out.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Builds.
pub fn run(session: &Session, args: &BuildArgs) -> Result<u8, Error> {
    let question = args.question || session.make_asks == Some(Asks::Question);
    let only_tells = question || args.dry_run || session.make_asks.is_some();
    let mut opened = session.open(false)?;
    if opened.project.specs.is_empty() {
        return Err(no_tasks(&opened));
    }
    if let Some(model) = &args.how.model {
        ask_only(&mut opened, model)?;
    }
    if let Some(executor) = &args.how.executor {
        run_on(session, &mut opened, executor)?;
    }
    let targets = target_ids(&opened, &args.targets)?;
    let what = Targets {
        targets,
        typed: args.targets.clone(),
        only: args.only,
        force: args.always_make,
        explain: args.explain,
    };
    if only_tells {
        return session.show_plan(&opened, &what, &args.how, question);
    }
    let code = session.build(&opened, what, &args.how);
    // The process ends: to take 100,000 tasks apart piece by piece would be for nothing.
    std::mem::forget(opened);
    code
}

/// A pipeline without tasks is one that is not written yet: all of nothing is no success.
fn no_tasks(opened: &Opened) -> Error {
    let file = planexe_pipeline::manifest::diagnostic::shown_path(&opened.project.file);
    Error::new(Kind::Manifest, format!("`{file}` has no tasks"))
        .code("no_tasks")
        .hint("a task is a table: `[task.NAME]` with `outputs` and a `prompt`, `command` or `template`")
        .hint("`planexe new DIR`, where there is no pipeline, writes an example to start from")
}
