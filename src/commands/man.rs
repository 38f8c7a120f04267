//! `planexe man`: writes the man pages, one for each command.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::exit::Error;

/// What `planexe man` takes.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// An existing folder to write to
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Writes the man pages of a command and its subcommands.
pub fn run(session: &Session, args: &ManArgs, command: clap::Command) -> Result<u8, Error> {
    clap_mangen::generate_to(command.disable_help_subcommand(true), &args.dir).map_err(|error| {
        Error::usage(format!("cannot write man pages to `{}`", args.dir.display())).because(&error)
    })?;
    session.say(&format!("planexe: wrote man pages to {}", args.dir.display()));
    Ok(crate::exit::DONE)
}
