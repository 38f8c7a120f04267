//! `planexe archive`: puts a run aside, where it is in nobody's way and no list, or takes it back.

use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::archive::{archive, lock, run_dir};
use planexe_base::exit::{self, Error};
use planexe_base::style::shell_path;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::runs::{self};

/// What `planexe archive` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ArchiveArgs {
    /// The run's folder; with --undo also the one it had
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Bring an archived run back
    #[arg(long)]
    pub undo: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    /// Where it was.
    from: String,
    /// Where it is.
    to: String,
}

/// Puts a run aside.
pub fn run(session: &Session, args: &ArchiveArgs) -> Result<u8, Error> {
    let dir = match runs::archived_name(&args.run).filter(|_| args.undo && !args.run.exists()) {
        Some(archived) if archived.is_dir() => run_dir(&archived)?,
        _ => run_dir(&args.run)?,
    };
    if args.undo != runs::is_archived(&dir) {
        let shown = shell_path(&args.run);
        return Err(match args.undo {
            true => Error::usage(format!("`{}` is not archived", shown_path(&args.run)))
                .code("not_archived")
                .hint("`planexe list --archived` lists those that are"),
            false => Error::usage(format!("`{}` is archived already", shown_path(&args.run)))
                .code("archived")
                .hint(format!("`planexe archive --undo {shown}` takes it back")),
        });
    }
    let lock = lock(session, &dir)?;
    if !args.yes && !args.undo && !session.ask(&format!("Archive `{}`?", shown_path(&dir)))? {
        session.say("nothing was archived");
        return Ok(exit::STOPPED);
    }
    let to = archive(&dir, args.undo)?;
    drop(lock);
    if session.globals.json {
        let (from, to) = (dir.display().to_string(), to.display().to_string());
        session.print_answer(Path::new(&to.clone()), &View { from, to })?;
    } else {
        session.say(&format!("the run is now `{}`", shown_path(&to)));
        if !args.undo {
            session.say(&format!("`planexe archive --undo {}` takes it back", shell_path(&to)));
        }
    }
    Ok(exit::DONE)
}
