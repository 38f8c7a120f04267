//! `planexe keys`: which key may go to which host.

use clap::{Args, Subcommand};

use crate::commands::Session;
use crate::exit::{Error, Kind};

/// What `planexe keys` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct KeysArgs {
    /// What to do; lists the bindings if left out
    #[command(subcommand)]
    pub action: Option<KeysAction>,
}

/// What to do with a binding.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysAction {
    /// Let the key in a variable go to a host
    Bind {
        /// Name of the environment variable
        #[arg(value_name = "VARIABLE")]
        variable: String,
        /// Host, or host:port
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Take that back
    Unbind {
        /// Name of the environment variable
        #[arg(value_name = "VARIABLE")]
        variable: String,
        /// Host, or host:port
        #[arg(value_name = "HOST")]
        host: String,
    },
}

/// Lists, makes or drops bindings.
pub fn run(_session: &Session, _args: &KeysArgs) -> Result<u8, Error> {
    Err(Error::new(Kind::Internal, "`planexe keys` is not in this version yet"))
}
