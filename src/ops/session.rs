//! What an operation works with: the place the user means, the environment, and who hears of what happens meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use planexe_base::exit::{Error, Kind};
use planexe_base::message::{self, Hint};
use planexe_base::style::{self, Style};
use planexe_build::jobserver::Make;
use planexe_build::lifecycle;
use planexe_llm::keys::{KeyRing, config_dir};
use planexe_pipeline::load;
use planexe_pipeline::manifest::Diagnostics;
use planexe_pipeline::open::{self, OpenError, Opened, Where};
use planexe_store::Store;
use planexe_store::lock::{LockError, Owner, RunLock, Wait, is_announced};
use planexe_store::null_build::UpToDate;
use planexe_ui::progress;
use planexe_ui::views::{FaultsView, Server};

/// Commands that work on a run.
pub const OF_A_RUN: [&str; 38] = [
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
    "evidence",
    "execute",
    "explain",
    "failures",
    "files",
    "gantt",
    "gc",
    "graph",
    "history",
    "interview",
    "optimize",
    "pause",
    "record",
    "report",
    "restore",
    "resume",
    "retry",
    "show",
    "simulate",
    "status",
    "stop",
    "touch",
    "trace",
    "ui",
    "usage",
    "wait",
    "watch",
];

/// Reads a variable of the environment.
pub type Lookup = fn(&str) -> Option<String>;

/// Files of a pipeline: paths and texts.
pub type Bundle = &'static [(&'static str, &'static str)];

/// How a run's lock is taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct LockOptions {
    /// Wait for another planexe on this run to end.
    pub wait: bool,
    /// Take no lock, where the file system has none.
    pub no_lock: bool,
}

/// What operations on a run share, whoever asks for them: a command or an agent.
#[derive(Debug, Default)]
pub struct Session {
    /// Where to work, and how the pipeline is read.
    pub place: Where,
    /// Reads a variable of the environment.
    pub lookup: Option<Lookup>,
    /// The pipeline that comes with the binary.
    pub bundle: Bundle,
    /// How faults of a pipeline are laid out.
    pub style: Style,
    /// Hears what happens during an operation and is no part of its result; none: nobody does.
    pub listener: Option<fn(&str)>,
    /// How work of many steps is shown while it goes on; none: it is not.
    pub progress: Option<progress::Options>,
    /// Of a plain build: what the null-build record knows to be up to date.
    pub known: Option<UpToDate>,
    /// Of a plain build: what stands for its words in the null-build record.
    pub build_words: Option<&'static str>,
    /// make's jobserver, if make started this.
    pub make: Make,
    /// The words that were typed after `planexe`, as a shell takes them.
    pub line: Option<String>,
}

/// What a session has of who started planexe, without a run: to look at many runs, from many threads.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// What holds for every run: definitions, folders outside, allowed pipelines.
    pub place: Where,
    /// Reads a variable of the environment.
    pub lookup: Option<Lookup>,
    /// The pipeline that comes with the binary.
    pub bundle: Bundle,
}

impl Base {
    /// A session that works on a run, and that nobody listens to.
    pub fn session(&self, run_dir: &Path) -> Session {
        let place = Where { run_dir: Some(run_dir.to_owned()), ..self.place.clone() };
        Session { place, lookup: self.lookup, bundle: self.bundle, ..Session::default() }
    }
}

impl Session {
    /// Tells the listener a line. Commands in it are those to type from here.
    pub fn notice(&self, line: &str) {
        if let Some(tell) = self.listener {
            tell(&self.here(line));
        }
    }

    /// What it shares with sessions for other runs.
    pub fn base(&self) -> Base {
        let place = self.place.clone();
        Base {
            place: Where { run_dir: None, file: None, profile: None, ..place },
            lookup: self.lookup,
            bundle: self.bundle,
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
            Some(run) if self.place.run_dir.is_some() => {
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
        if matches!(error, OpenError::Diagnostics(_))
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
    pub fn warnings(&self) -> Result<Diagnostics, Error> {
        let located = open::locate(&self.place(), true).map_err(|error| self.open_error(error))?;
        load::warnings(&located.locations)
            .map_err(|faults| self.open_error(OpenError::Diagnostics(Box::new(faults))))
    }

    /// Where the command line says to work.
    pub fn place(&self) -> Where {
        self.place.clone()
    }

    /// Why a run cannot be opened, for people and machines.
    pub fn open_error(&self, error: OpenError) -> Error {
        let shown = |path: &std::path::Path| path.display().to_string();
        match error {
            OpenError::NotAFile(file) => Error::usage(format!("`{}` is no regular file", shown(&file)))
                .code("no_run")
                .hint("it wants to be the text that describes the pipeline; `-f FILE` names another"),
            OpenError::Unreadable(file, error) => {
                let why = planexe_base::fs::reason_of(&error);
                Error::new(Kind::Setup, format!("`{}` cannot be read: {why}", shown(&file))).code("io")
            }
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
                        "if it is the one you mean: `planexe -C {} {}`",
                        planexe_ui::views::shell_word(&shown(&run)),
                        self.line.as_deref().unwrap_or("build")
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
            OpenError::Diagnostics(faults) => {
                let colour = self.style.depth != style::Depth::None;
                let text = faults.render(colour, self.style.columns());
                let mut view = FaultsView::new(&faults, self.server());
                view.error.next.iter_mut().for_each(|command| *command = self.typed(command));
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
                self.notice(&format!("waiting for another planexe on this run{who}"));
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
                .hint("`--no-lock` continues without; two builds at once will then spoil each other's work"),
            LockError::Closed { folder, owner } => Error::new(Kind::Setup, error.to_string()).hint(format!(
                "run planexe as that user, or take it over: `sudo chown -R \"$USER\" '{}'` (it was user {owner}'s)",
                folder.display()
            )),
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
            .map_err(|error| Error::new(Kind::Setup, error.message()).code("keys"))
    }

    /// Who answers, for machines.
    pub fn server(&self) -> Server {
        Server::here(Some(planexe_store::host::host_name()))
    }

    /// Who sits there, for records of what a person did.
    pub fn user(&self) -> String {
        let named = |name: &str| self.variable(name).filter(|user| !user.trim().is_empty());
        let uid = || format!("uid {}", rustix::process::getuid().as_raw());
        named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(uid)
    }

    /// A text with the commands in it as they must be typed from here.
    pub fn here(&self, text: &str) -> String {
        message::with_commands(text, |command| self.typed(command))
    }

    /// A hint with its commands as they must be typed from here.
    pub fn hint_here(&self, hint: &Hint) -> Hint {
        hint.with_commands(|command| self.typed(command))
    }

    /// A command as it must be typed from where this one was: with the options that said which run is meant, and how it
    /// is read.
    pub fn typed(&self, command: &str) -> String {
        let Some(words) = command.strip_prefix("planexe ") else { return command.to_owned() };
        let place = &self.place;
        let path = |path: &PathBuf| style::shell_path(path);
        let word = |word: &str| style::shell_word(word);
        let mut options = String::new();
        for (option, value) in (place.run_dir.iter().map(|dir| ("-C", path(dir))))
            .chain(place.file.iter().map(|file| ("-f", path(file))))
            .chain(place.profile.iter().map(|name| ("--profile", word(name))))
            .chain(place.defines.iter().map(|(name, value)| ("-D", word(&format!("{name}={value}")))))
            .chain(place.allow_outside.iter().map(|dir| ("--allow-outside", path(dir))))
        {
            options += &format!("{option} {value} ");
        }
        match words.split(' ').next() {
            Some(word) if OF_A_RUN.contains(&word) => format!("planexe {options}{words}"),
            _ => command.to_owned(),
        }
    }
}
