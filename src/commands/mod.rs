//! One file per command: what it takes from the command line, and the glue that does it. A new command is a
//! file here and a line in [`crate::cli::Command`].

use schemars::JsonSchema;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::ops::{self, LockOptions};

use planexe_base::exit::{self, Error};
use planexe_base::style::{self, Style, When};
use planexe_pipeline::open::Where;
use planexe_ui::progress;
use planexe_ui::views::Server;
use planexe_ui::views::SteerView;

pub mod abort;
pub mod archive;
pub mod args;
pub mod build;
pub mod check;
pub mod checkpoints;
pub mod clean;
pub mod completions;
pub mod complexity;
pub mod delete;
pub mod diff;
pub mod doctor;
pub mod done;
pub mod edit_plan;
pub mod events;
pub mod evidence;
pub mod execute;
pub mod explain;
pub mod failures;
pub mod files;
pub mod gantt;
pub mod gc;
pub mod graph;
pub mod history;
pub mod import;
pub mod interview;
pub mod keys;
pub mod list;
pub mod man;
pub mod mcp;
pub mod new;
pub mod optimize;
pub mod pause;
pub mod quick;
pub mod record;
pub mod report;
pub mod restore;
pub mod resume;
pub mod retry;
pub mod schema;
pub mod shared;
pub mod show;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod touch;
pub mod trace;
pub mod ui;
pub mod usage;
pub mod wait;
pub mod watch;

/// Options every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct Globals {
    /// The run directory [default: the nearest folder upward with a run.toml or pipeline.toml; to change a run, only this folder]
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

    /// Show only errors
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

    /// Show more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// An answer as data.
#[derive(Debug, serde::Serialize, JsonSchema)]
pub struct Answer<'b, T> {
    schema: u32,
    server: Server,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_dir: Option<String>,
    #[serde(flatten)]
    body: &'b T,
}

/// A file that was written, as data.
#[derive(Debug, serde::Serialize, JsonSchema)]
pub struct WrittenView {
    /// Its path, as it was named.
    pub file: String,
}

/// How a command that changes a run takes its lock.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LockArgs {
    /// Wait for another planexe on this run to end, instead of exiting with 75
    #[arg(long)]
    pub wait: bool,

    /// Take no lock, where the file system has none
    #[arg(long, conflicts_with = "wait", hide = true)]
    pub no_lock: bool,
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
    /// What make wants to know, if it runs nothing.
    pub make_asks: Option<planexe_build::jobserver::Asks>,
    /// What operations take of it; a session can be handed to them as it is.
    pub ops: ops::Session,
    out_closed: AtomicBool,
}

impl LockArgs {
    /// As operations take it.
    pub fn options(self) -> LockOptions {
        LockOptions { wait: self.wait, no_lock: self.no_lock }
    }
}

impl Session {
    /// A session with these options and this environment, looking at the three streams.
    pub fn new(globals: Globals, env: style::Environment) -> Session {
        use io::IsTerminal;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let columns = |size: Option<(usize, usize)>| size.map(|(columns, _)| columns);
        let out_columns = columns(style::terminal_size(&stdout));
        let err_columns = columns(style::terminal_size(&stderr));
        let err = Style::choose(globals.color, &env, stderr.is_terminal(), err_columns);
        let operating = ops::Session {
            place: Where {
                run_dir: globals.run_dir.clone(),
                file: globals.file.clone(),
                profile: globals.profile.clone(),
                defines: globals.repeated.define.clone(),
                allow_outside: globals.repeated.allow_outside.clone(),
                only: None,
            },
            style: err,
            listener: if globals.quiet { None } else { Some(complain) },
            ..ops::Session::default()
        };
        let mut session = Session {
            out: Style::choose(globals.color, &env, stdout.is_terminal(), out_columns),
            err,
            err_is_terminal: stderr.is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
            globals,
            env,
            make_asks: None,
            ops: operating,
            out_closed: AtomicBool::new(false),
        };
        // Where lines cannot be redrawn, how far work is would fill the log.
        let options = session.progress_options(progress::How::Auto, false);
        session.ops.progress = Some(options).filter(|options| options.live && !options.quiet);
        session
    }

    /// Writes data to standard output, with a final newline. A reader that went away (`| head`) is no error: see
    /// [`Session::is_closed`].
    pub fn print(&self, text: &str) -> io::Result<()> {
        self.print_part(text)?;
        if text.is_empty() || text.ends_with('\n') { Ok(()) } else { self.print_part("\n") }
    }

    /// [`Session::print`] of text whose last line goes on.
    pub fn print_part(&self, text: &str) -> io::Result<()> {
        if self.out_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes());
        match written.and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.out_closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether standard output is a terminal.
    pub fn out_is_terminal(&self) -> bool {
        use io::IsTerminal;
        io::stdout().is_terminal()
    }

    /// Rows of the terminal behind standard output.
    pub fn out_rows(&self) -> usize {
        style::terminal_size(&io::stdout()).map_or(24, |(_, rows)| rows.max(4))
    }

    /// Writes a value as JSON to standard output, two-space indent, with a final newline.
    pub fn print_json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.print(&(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Writes an answer as JSON to standard output: the fields of `body` after those of every answer.
    pub fn print_answer(&self, run_dir: &Path, body: &impl serde::Serialize) -> Result<(), Error> {
        Ok(self.print_json(&self.answer(Some(run_dir), body))?)
    }

    /// An answer as data: the fields of `body` after those of every answer.
    pub fn answer<'b, T: serde::Serialize>(&self, run_dir: Option<&Path>, body: &'b T) -> Answer<'b, T> {
        let run_dir = run_dir.map(|dir| dir.display().to_string());
        Answer { schema: planexe_ui::views::SCHEMA, server: self.server(), run_dir, body }
    }

    /// Whether the reader of standard output went away: time for `--watch` to end.
    pub fn is_closed(&self) -> bool {
        self.out_closed.load(Ordering::Relaxed)
    }

    /// Writes a line to standard error, unless `--quiet`. It is not an error if nobody reads it. Commands in it are
    /// [`ops::Session::here`], so it is no line to quote files in.
    pub fn say(&self, line: &str) {
        self.ops.notice(line);
    }

    /// Writes a line to standard error as it is, even under `--quiet`.
    pub fn complain(&self, line: &str) {
        complain(line);
    }

    /// Asks, where there is a terminal to ask on.
    pub fn ask(&self, question: &str) -> Result<bool, Error> {
        if !self.in_is_terminal {
            return Err(Error::usage("there is no terminal to ask on, so nothing was done")
                .code("needs_yes")
                .hint("`-y` continues without asking"));
        }
        Ok(self.confirm(question))
    }

    /// Says what was asked of which process.
    pub fn tell_steered(&self, asked: &str, pid: Option<u32>, message: &str) -> Result<u8, Error> {
        if self.globals.json {
            self.print_json(&SteerView {
                schema: planexe_ui::views::SCHEMA,
                server: self.server(),
                asked: asked.to_owned(),
                pid,
                message: message.to_owned(),
            })?;
        } else {
            self.say(message);
        }
        Ok(exit::DONE)
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

fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

impl Deref for Session {
    type Target = ops::Session;

    fn deref(&self) -> &ops::Session {
        &self.ops
    }
}
