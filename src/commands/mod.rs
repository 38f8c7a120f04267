//! One file per command: what it takes from the command line, and the glue that does it. A new command is a
//! file here and a line in [`crate::cli::Command`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use planexe_base::exit::{Error, Kind};
use planexe_base::style::{self, Style, When};
use planexe_build::lifecycle;
use planexe_llm::keys::{KeyRing, config_dir};
use planexe_pipeline::allowed_pipelines::Only;
use planexe_pipeline::load;
use planexe_pipeline::manifest::Faults;
use planexe_pipeline::open::{self, Named, OpenError, Opened, Where};
use planexe_query::selection::{Part, Units};
use planexe_store::Store;
use planexe_store::lock::{LockError, Owner, RunLock, Wait, is_announced};
use planexe_ui::views::{FaultsView, Server};

pub mod abort;
pub mod archive;
pub mod build;
pub mod check;
pub mod checkpoints;
pub mod clean;
pub mod completions;
pub mod complexity;
pub mod delete;
pub mod deliver;
pub mod diff;
pub mod doctor;
pub mod done;
pub mod edit_plan;
pub mod events;
pub mod execute;
pub mod explain;
pub mod failures;
pub mod files;
mod follow;
pub mod gantt;
pub mod gc;
pub mod graph;
pub mod history;
pub mod keys;
pub mod list;
pub mod man;
pub mod mcp;
pub mod new;
pub mod optimize;
pub mod pause;
pub mod plan;
pub mod quick;
pub mod record;
pub mod restore;
pub mod resume;
pub mod retry;
pub mod schema;
pub mod show;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod touch;
pub mod usage;
pub mod wait;
pub mod watch;

/// Commands that work on a run.
pub const OF_A_RUN: [&str; 33] = [
    "abort",
    "build",
    "check",
    "checkpoints",
    "clean",
    "complexity",
    "diff",
    "doctor",
    "done",
    "edit-plan",
    "events",
    "execute",
    "explain",
    "failures",
    "files",
    "gantt",
    "gc",
    "graph",
    "history",
    "optimize",
    "pause",
    "record",
    "restore",
    "resume",
    "retry",
    "show",
    "simulate",
    "status",
    "stop",
    "touch",
    "usage",
    "wait",
    "watch",
];

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

/// How a command that changes a run takes its lock.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LockArgs {
    /// Wait for another planexe on this run to end, rather than exit 75
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

/// Reads a variable of the environment.
pub type Lookup = fn(&str) -> Option<String>;

/// Files of a pipeline: paths and texts.
pub type Bundle = &'static [(&'static str, &'static str)];

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
    /// The command line, word by word.
    pub args: Vec<std::ffi::OsString>,
    /// Reads a variable of the environment.
    pub lookup: Option<Lookup>,
    /// Of a plain build: what the memo knows to be up to date.
    pub known: Option<planexe_store::memo::Known>,
    /// make's jobserver, if make started this.
    pub make: planexe_build::jobserver::Make,
    /// What make wants to know, if it runs nothing.
    pub make_asks: Option<planexe_build::jobserver::Asks>,
    /// The pipeline that comes with the binary.
    pub bundle: Bundle,
    /// The pipelines a run may be of, if not any will do.
    pub only: Option<Arc<Only>>,
    out_closed: AtomicBool,
}

/// What a session has of who started planexe, without a run or the streams: to look at many runs, from many threads.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// Options that hold for every run.
    pub repeated: Repeated,
    /// Reads a variable of the environment.
    pub lookup: Option<Lookup>,
    /// The pipeline that comes with the binary.
    pub bundle: Bundle,
    /// The pipelines a run may be of, if not any will do.
    pub only: Option<Arc<Only>>,
}

impl Base {
    /// A session that works on a run, and says nothing to anybody.
    pub fn session(&self, run_dir: &Path) -> Session {
        let globals = Globals {
            run_dir: Some(run_dir.to_owned()),
            quiet: true,
            repeated: self.repeated.clone(),
            ..Globals::default()
        };
        let only = self.only.clone();
        Session { globals, lookup: self.lookup, bundle: self.bundle, only, ..Session::default() }
    }
}

impl Session {
    /// What it shares with sessions for other runs.
    pub fn base(&self) -> Base {
        let (repeated, only) = (self.globals.repeated.clone(), self.only.clone());
        Base { repeated, lookup: self.lookup, bundle: self.bundle, only }
    }

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
            args: Vec::new(),
            lookup: None,
            known: None,
            make: planexe_build::jobserver::Make::None,
            make_asks: None,
            bundle: &[],
            only: None,
            out_closed: AtomicBool::new(false),
        }
    }

    /// Opens the run the command line means. `may_go_up`: a run above the current directory will do.
    pub fn open(&self, may_go_up: bool) -> Result<Opened, Error> {
        self.hide_keys();
        open::open(&self.place(), may_go_up).map_err(|error| self.open_error(error))
    }

    /// Keeps the keys the user has bound or filed from the programs of this process. Files that cannot be read are told
    /// where a key is wanted.
    fn hide_keys(&self) {
        let _ = self.keys();
    }

    /// Opens a run that was named beside the options, or else the run these mean.
    pub fn open_named(&self, run: Option<&Path>, may_go_up: bool) -> Result<Opened, Error> {
        match run {
            None => self.open(may_go_up),
            Some(run) if self.globals.run_dir.is_some() => {
                let error = Error::usage(format!("both `-C` and `{}` name a run", run.display()));
                Err(error.hint("leave one of them out"))
            }
            Some(run) => {
                self.hide_keys();
                let place = Where { run_dir: Some(run.to_owned()), ..self.place() };
                open::open(&place, false).map_err(|error| self.open_error(error))
            }
        }
    }

    /// The records of the run alone. A pipeline with faults does not keep from them: while somebody edits it, a build
    /// is looked at and steered all the same.
    pub fn records(&self, may_go_up: bool) -> Result<Arc<Store>, Error> {
        let error = match open::open(&self.place(), may_go_up) {
            Ok(opened) => return Ok(opened.store),
            Err(error) => error,
        };
        if matches!(error, OpenError::Faults(_))
            && let Ok((run, above)) = open::find_run(&self.place())
            && (may_go_up || !above)
        {
            let store = Store::open(run);
            if store.planexe_dir().is_dir() {
                return Ok(Arc::new(store));
            }
        }
        Err(self.open_error(error))
    }

    /// What is most likely a mistake in a pipeline without faults.
    pub fn warnings(&self) -> Result<Faults, Error> {
        let located = open::locate(&self.place(), true).map_err(|error| self.open_error(error))?;
        load::warnings(&located.locations)
            .map_err(|faults| self.open_error(OpenError::Faults(Box::new(faults))))
    }

    /// Where the command line says to work.
    pub fn place(&self) -> Where {
        Where {
            run_dir: self.globals.run_dir.clone(),
            file: self.globals.file.clone(),
            profile: self.globals.profile.clone(),
            defines: self.globals.repeated.define.clone(),
            allow_outside: self.globals.repeated.allow_outside.clone(),
            only: self.only.clone(),
        }
    }

    /// Why a run cannot be opened, for people and machines.
    pub fn open_error(&self, error: OpenError) -> Error {
        let shown = |path: &std::path::Path| path.display().to_string();
        match error {
            OpenError::NotAFile(file) => Error::usage(format!("`{}` is no regular file", shown(&file)))
                .code("no_run")
                .hint("it wants to be the text that describes the pipeline; `-f FILE` names another"),
            OpenError::NoRun { from } => Error::usage(format!(
                "there is no `pipeline.toml` or `run.toml` in `{}` or above it",
                shown(&from)
            ))
            .code("no_run")
            .hint("`planexe new DIR` makes a run; `-C DIR` names one"),
            OpenError::Above { run } => {
                Error::usage(format!("the nearest run is above this folder: `{}`", shown(&run)))
                    .code("run_above")
                    .hint(format!(
                        "if it is the one you mean: `planexe -C {} …`",
                        planexe_ui::views::shell_word(&shown(&run))
                    ))
            }
            OpenError::NoFolder(dir) => Error::usage(format!("there is no folder `{}`", shown(&dir)))
                .code("no_run")
                .hint("`planexe new DIR` makes a run"),
            OpenError::Another { run, pipeline } => Error::new(
                Kind::Refused,
                format!(
                    "`{}` is of the pipeline `{}`, which this server was not started with",
                    shown(&run),
                    shown(&pipeline)
                ),
            )
            .code("another_pipeline")
            .hint(format!(
                "a person builds it (`planexe -C {} build`), or starts the server with `--pipeline {}`",
                planexe_ui::views::shell_word(&shown(&run)),
                planexe_ui::views::shell_word(&shown(&pipeline))
            )),
            OpenError::Faults(faults) => {
                let colour = self.err.depth != style::Depth::None;
                let text = faults.render(colour, self.err.columns());
                let mut view = FaultsView::of(&faults, self.server());
                view.error.next.iter_mut().for_each(|command| *command = self.here(command));
                let answer = serde_json::to_value(&view).ok().map(Box::new);
                Error { answer, ..Error::rendered(Kind::Manifest, text).code("faults") }
            }
        }
    }

    /// Takes the lock of a run.
    pub fn lock(&self, opened: &Opened, wait: bool, no_lock: bool) -> Result<RunLock, Error> {
        self.lock_while(opened, wait, no_lock, || true)
    }

    /// [`Session::lock`] that asks now and then whether to go on waiting.
    pub fn lock_while(
        &self,
        opened: &Opened,
        wait: bool,
        no_lock: bool,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<RunLock, Error> {
        // Whoever takes the lock means to write.
        planexe_base::signals::survive_file_size_limit();
        let run = opened.store.run_dir();
        if no_lock {
            return Ok(RunLock::none(run));
        }
        let wait = if wait { Wait::Forever } else { Wait::No };
        let mut told = false;
        let lock = RunLock::acquire_while(run, wait, |owner| {
            if !std::mem::replace(&mut told, true) {
                let who =
                    owner.map_or(String::new(), |owner| format!(" (PID {} on {})", owner.pid, owner.host));
                self.say(&format!("waiting for another planexe on this run{who}"));
            }
            go_on()
        });
        lock.map_err(|error| self.lock_error(&error))
    }

    /// To be called before a command first changes a run: if it is killed, whoever changes the run next tidies up.
    pub fn announce(&self, opened: &Opened, lock: &mut RunLock, command: &str) -> Result<(), Error> {
        if is_announced(opened.store.run_dir()) {
            lifecycle::sweep(&opened.store, &opened.project)?;
        }
        Ok(lock.announce(&Owner::this(command))?)
    }

    /// Why there is no lock, and what to do about it.
    pub fn lock_error(&self, error: &LockError) -> Error {
        match error {
            LockError::Held { .. } => Error::new(Kind::Locked, format!("the run is {error}"))
                .code("locked")
                .hint("`--wait` waits for it to end; `planexe status` shows what it does"),
            LockError::Unsupported => Error::new(Kind::Internal, error.to_string())
                .hint("`--no-lock` goes on without; two builds at once will then spoil each other's work"),
            LockError::Fs(error) => Error::new(Kind::Internal, error.to_string()),
        }
    }

    /// A variable of the environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.lookup.and_then(|lookup| lookup(name))
    }

    /// The user's keys.
    pub fn keys(&self) -> Result<KeyRing, Error> {
        let read = self.lookup;
        let lookup = move |name: &str| read.and_then(|read| read(name));
        let folder = config_dir(&lookup);
        KeyRing::load(folder.as_deref(), lookup)
            .map_err(|error| Error::new(Kind::Setup, error.to_string()).code("keys"))
    }

    /// Who answers, for machines.
    pub fn server(&self) -> Server {
        Server::here(Some(planexe_store::lock::host_name()))
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
        #[derive(serde::Serialize)]
        struct Answer<'a, T> {
            schema: u32,
            server: Server,
            run_dir: String,
            #[serde(flatten)]
            body: &'a T,
        }
        let run_dir = run_dir.display().to_string();
        let answer = Answer { schema: planexe_ui::views::SCHEMA, server: self.server(), run_dir, body };
        Ok(self.print_json(&answer)?)
    }

    /// Who sits there, for records of what a person did.
    pub fn user(&self) -> String {
        let named = |name: &str| self.variable(name).filter(|user| !user.trim().is_empty());
        let uid = || format!("uid {}", rustix::process::getuid().as_raw());
        named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(uid)
    }

    /// Whether the reader of standard output went away: time for `--watch` to end.
    pub fn is_closed(&self) -> bool {
        self.out_closed.load(Ordering::Relaxed)
    }

    /// Writes a line to standard error, unless `--quiet`. It is not an error if nobody reads it. Commands in it are
    /// [`Session::here`], so it is no line to quote files in.
    pub fn say(&self, line: &str) {
        if !self.globals.quiet {
            self.complain(&self.here(line));
        }
    }

    /// Writes a line to standard error as it is, even under `--quiet`.
    pub fn complain(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// A text that names commands to type, with those as they must be typed from where this one was: with the
    /// options that said which run is meant, and how it is read.
    pub fn here(&self, text: &str) -> String {
        let globals = &self.globals;
        let path = |path: &PathBuf| style::shell_path(path);
        let word = |word: &str| style::shell_word(word);
        let mut options = String::new();
        for (option, value) in (globals.run_dir.iter().map(|dir| ("-C", path(dir))))
            .chain(globals.file.iter().map(|file| ("-f", path(file))))
            .chain(globals.profile.iter().map(|name| ("--profile", word(name))))
            .chain(
                globals.repeated.define.iter().map(|(name, value)| ("-D", word(&format!("{name}={value}")))),
            )
            .chain(globals.repeated.allow_outside.iter().map(|dir| ("--allow-outside", path(dir))))
        {
            options += &format!("{option} {value} ");
        }
        let mut parts = text.split("planexe ");
        let mut typed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let word = part.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next();
            let of_run = word.is_some_and(|word| OF_A_RUN.contains(&word));
            typed += "planexe ";
            typed += if of_run { &options } else { "" };
            typed += part;
        }
        typed
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

/// The parts of the run that names on the command line mean; each must exist.
pub fn session_parts(opened: &Opened, units: &Units<'_>, names: &[String]) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    for name in names {
        let named = session_find(opened, name)?;
        let part = units.check(&named).map_err(|message| Error::usage(message).code("unknown_item"))?;
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// The task a name on the command line means.
pub fn session_find(opened: &Opened, name: &str) -> Result<Named, Error> {
    let project = &opened.project;
    open::find(project, name).or_else(|hint| {
        if let Some((task, number)) = open::find_numbered(project, name) {
            let mut keys = Units::new(project, &opened.store).declared_keys(task);
            let (family, count) = (&project.graph[task].name, keys.len());
            if (1..=count).contains(&number) {
                return Ok(Named { task, key: Some(keys.swap_remove(number - 1)) });
            }
            let error = match count {
                0 => format!("`{name}` is item {number} of `{family}`, which has no items yet"),
                _ => format!("`{name}` is item {number} of `{family}`, which has {count}, counted from 1"),
            };
            return Err(Error::usage(error)
                .code("unknown_item")
                .hint(format!("`planexe explain {family}` tells of its items")));
        }
        let error = Error::usage(format!("no task or output is called `{name}`")).code("unknown_task");
        Err(match hint {
            Some(hint) => error.hint(hint),
            None => error.hint("`planexe status` lists the tasks"),
        })
    })
}
