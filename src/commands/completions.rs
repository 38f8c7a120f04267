//! `planexe completions`: prints a completion script for a shell.

use clap::Args;
use clap_complete::Shell;

use crate::commands::Session;
use planexe_base::exit::{self, Error};

/// What `planexe completions` takes.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(session: &Session, args: &CompletionsArgs, mut command: clap::Command) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "planexe", &mut script);
    session.print(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}
