//! `planexe archive`: puts a run aside, where it is in nobody's way and no list, or takes it back.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::commands::Session;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::style::shell_path;
use planexe_pipeline::manifest::fault::shown_path;
use planexe_pipeline::runs::{self, Unmoved};
use planexe_store::lock::{RunLock, Wait};

/// What `planexe archive` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ArchiveArgs {
    /// The run's folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Take an archived run back
    #[arg(long)]
    pub undo: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// Where it was.
    from: String,
    /// Where it is.
    to: String,
}

/// Puts a run aside.
pub fn run(session: &Session, args: &ArchiveArgs) -> Result<u8, Error> {
    let dir = run_dir(&args.run)?;
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
    if !args.yes && !args.undo && !ask(session, &format!("Archive `{}`?", shown_path(&dir)))? {
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

/// Moves it, under its lock.
pub fn archive(dir: &Path, back: bool) -> Result<PathBuf, Error> {
    runs::archive(dir, back).map_err(|error| unmoved(dir, error))
}

/// The folder of a run that is named, which must be one and no link.
pub fn run_dir(named: &Path) -> Result<PathBuf, Error> {
    let dir = std::path::absolute(named)?;
    // `.` and `..` have no name of their own to be moved under.
    let dir =
        if dir.file_name().is_some() && named.file_name().is_some() { dir } else { dir.canonicalize()? };
    if runs::is_run(&dir) {
        return Ok(dir);
    }
    Err(Error::usage(format!("`{}` is no run", shown_path(named)))
        .code("no_run")
        .hint("`planexe list` lists the runs of a folder"))
}

/// The lock of a run that is to be moved or removed.
pub fn lock(session: &Session, dir: &Path) -> Result<RunLock, Error> {
    RunLock::acquire(dir, Wait::No).map_err(|error| session.lock_error(&error))
}

/// Asks, where there is a terminal to ask on.
pub fn ask(session: &Session, question: &str) -> Result<bool, Error> {
    if !session.in_is_terminal {
        return Err(Error::usage("there is no terminal to ask on, so nothing was done")
            .code("needs_yes")
            .hint("`-y` goes on without asking"));
    }
    Ok(session.confirm(question))
}

/// Why a run stays where it is.
pub fn unmoved(dir: &Path, error: Unmoved) -> Error {
    let shown = shown_path(dir);
    match error {
        Unmoved::HoldsMore(what) => {
            Error::new(Kind::Refused, format!("`{shown}` is more than a run: {what}"))
                .code("more_than_a_run")
                .hint(format!("look at what is in it; `rm -r {}` removes it all the same", shell_path(dir)))
        }
        Unmoved::Taken => {
            Error::new(Kind::Refused, format!("there is something of the new name of `{shown}`"))
                .code("name_taken")
                .hint("rename one of the two")
        }
        Unmoved::Fs(error) => {
            Error::new(Kind::Internal, format!("the run `{shown}` cannot be moved")).because(&error)
        }
    }
}
