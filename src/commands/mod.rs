//! One file per command: what it takes from the command line, and the glue that does it. A new command is a
//! file here and a line in [`crate::cli::Command`].

use std::cell::Cell;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::style::{self, Style, When};

pub mod build;
pub mod check;
pub mod clean;
pub mod completions;
pub mod done;
pub mod explain;
pub mod graph;
pub mod history;
pub mod keys;
pub mod man;
pub mod new;
pub mod record;
pub mod restore;
pub mod resume;
pub mod schema;
pub mod status;
pub mod touch;

/// Options every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct Globals {
    /// The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,

    /// The pipeline, with the current directory as the run
    #[arg(short, long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Use the overrides under [profiles.NAME]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,

    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = When::Auto, hide_possible_values = true)]
    #[arg(help = "When to use colours: auto, always, never")]
    pub color: When,

    /// Say nothing but errors
    #[arg(short = 's', long, global = true)]
    pub quiet: bool,

    /// Options that add up wherever they stand.
    #[arg(skip)]
    pub repeated: Repeated,
}

/// Options that may be repeated, before and after the command. clap's own global options keep only those of one
/// place, so [`crate::cli`] adds these to every command and joins what it finds.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct Repeated {
    /// Set {{ vars.NAME }}; may be repeated
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", value_parser = parse_definition)]
    pub define: Vec<(String, String)>,

    /// Also allow inputs, prompts and templates under PATH; may be repeated
    #[arg(long, value_name = "PATH")]
    pub allow_outside: Vec<PathBuf>,

    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

fn parse_definition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("wanted NAME=VALUE, for example `-D audience=board`".to_owned()),
    }
}

/// What a command works with beside its own arguments: the common options, the environment, and the two
/// streams. Data goes to standard output, all else to standard error.
#[derive(Debug, Default)]
pub struct Session {
    /// The common options.
    pub globals: Globals,
    /// What the environment says of the terminal.
    pub env: style::Environment,
    /// How standard output is written to.
    pub out: Style,
    /// How standard error is written to.
    pub err: Style,
    /// Standard error is a terminal.
    pub err_is_terminal: bool,
    /// Standard input is a terminal: questions can be asked.
    pub in_is_terminal: bool,
    out_closed: Cell<bool>,
}

impl Session {
    /// A session with these options and this environment, looking at the three streams.
    pub fn new(globals: Globals, env: style::Environment) -> Session {
        use io::IsTerminal;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let columns = |size: Option<(usize, usize)>| size.map(|(columns, _)| columns);
        let out_columns = columns(style::terminal_size(&stdout));
        let err_columns = columns(style::terminal_size(&stderr));
        Session {
            out: Style::choose(globals.color, &env, stdout.is_terminal(), out_columns),
            err: Style::choose(globals.color, &env, stderr.is_terminal(), err_columns),
            err_is_terminal: stderr.is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
            globals,
            env,
            out_closed: Cell::new(false),
        }
    }

    /// Writes data to standard output, as it is. A reader that went away (`| head`) is no error: see
    /// [`Session::is_closed`].
    pub fn print(&self, text: &str) -> io::Result<()> {
        if self.out_closed.get() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.out_closed.set(true);
                Ok(())
            }
            result => result,
        }
    }

    /// Writes a value as JSON to standard output, two-space indent, with a final newline.
    pub fn print_json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.print(&(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Whether the reader of standard output went away: time for `--watch` to end.
    pub fn is_closed(&self) -> bool {
        self.out_closed.get()
    }

    /// Writes a line to standard error, unless `--quiet`. It is not an error if nobody reads it.
    pub fn say(&self, line: &str) {
        if !self.globals.quiet {
            self.complain(line);
        }
    }

    /// Writes a line to standard error, even under `--quiet`.
    pub fn complain(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Asks on the terminal, and returns whether the answer is yes. No without a terminal.
    pub fn confirm(&self, question: &str) -> bool {
        if !self.in_is_terminal {
            return false;
        }
        let mut stderr = io::stderr().lock();
        if write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).is_err() {
            return false;
        }
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .is_ok_and(|_| matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
    }
}
