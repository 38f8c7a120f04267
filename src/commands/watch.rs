//! `planexe watch`: builds again whenever something it is made from is edited.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::commands::Session;
use crate::commands::args::HowArgs;
use crate::ops::build::{BuildControl, Targets, ask_only, run_on, target_ids};
use planexe_base::cancel::{Cancel, Level};
use planexe_base::exit::{self, Error};
use planexe_base::fs::{self, FsError};
use planexe_base::process::{Lifeline, Limits, ProcessEnd, Watchdog};
use planexe_base::record::Failure;
use planexe_base::signals::{self, Signals};
use planexe_base::style::{clean, count};
use planexe_build::run_loop::Stopped;
use planexe_llm::keys;
use planexe_pipeline::manifest::run::RunFile;
use planexe_pipeline::open::{self, OpenError, Opened};
use planexe_query::model_choice::parked;
use planexe_query::watch::{Changes, Eyes, Watched, programs};
use planexe_store::control::{Controls, Passed};
use planexe_store::parked::ParkedModel;
use planexe_store::{Store, Watcher};

/// How often batches that are waited for are looked at.
const BATCHES: Duration = Duration::from_secs(60);

/// How much more space must be free than when the disk was full: what a build reserves at least.
const ROOM: u64 = 1 << 20;

/// What `planexe watch` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct WatchArgs {
    /// Tasks or outputs to make [default: what the pipeline names as its default, else everything]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// Run a shell command after each build; its exit code is in PLANEXE_EXIT_CODE
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,

    /// Poll the files, for folders where changes are not reported (network folders)
    #[arg(long)]
    pub poll: bool,

    /// How a build is carried out.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Watches until Ctrl-C, or `planexe stop`.
pub fn run(session: &Session, args: &WatchArgs) -> Result<u8, Error> {
    // A wrong command line ends it at once; what is wrong in files is waited out.
    let (run, _) = open::find_run(&session.place())
        .map_err(|_| ())
        .or_else(|()| session.open(false).map(|opened| (opened.store.run_dir().to_owned(), false)))?;
    let run = run.canonicalize().unwrap_or(run);
    let signals = signals::listen()?;
    let store = Store::open(&run);
    let controls = Controls::new(&store);
    let _watcher = Watcher::announce(&store);
    let mut eyes = Eyes::new(args.poll);
    let mut how = args.how.clone();
    how.wait = !how.no_lock;
    let mut watch = Watch {
        session,
        args,
        how,
        signals,
        controls,
        watched: None,
        changed: None,
        faults: None,
        built: false,
        programs: BTreeSet::new(),
        failures: Vec::new(),
        told: false,
        passes: Vec::new(),
        reset: None,
        full: None,
    };
    loop {
        let mut changes = match watch.load(&run)? {
            None => Changes::default(),
            Some(opened) => match watch.build(opened, &mut eyes)? {
                Next::End(code) => return Ok(code),
                Next::Again(changes) => changes,
            },
        };
        if changes.is_empty() {
            match watch.wait(&mut eyes) {
                Ok(found) => changes = found,
                Err(code) => return Ok(code),
            }
        }
        watch.changed = Some(changes);
    }
}

struct Watch<'a> {
    session: &'a Session,
    args: &'a WatchArgs,
    how: HowArgs,
    signals: Signals,
    /// What other shells ask for.
    controls: Controls,
    watched: Option<Watched>,
    /// What changed since the last look, until it is told.
    changed: Option<Changes>,
    /// The faults of the pipeline as they were shown last.
    faults: Option<String>,
    /// A build was made: what failed in it is not tried again unchanged.
    built: bool,
    /// What the pipeline may run, as far as somebody has seen it.
    programs: BTreeSet<String>,
    /// What failed in the last build.
    failures: Vec<(String, Failure)>,
    told: bool,
    /// What people had let pass when the last build began.
    passes: Vec<Passed>,
    /// When the first usage limit is over that stopped the last build.
    reset: Option<SystemTime>,
    /// The run, and the bytes that were free on its disk, when that was too full for the last build.
    full: Option<(PathBuf, u64)>,
}

/// What follows a build.
enum Next {
    /// To end with a code.
    End(u8),
    /// To go on; what changed meanwhile.
    Again(Changes),
}

impl Watch<'_> {
    /// Reads the pipeline; none if it has faults, which are shown.
    fn load(&mut self, run: &Path) -> Result<Option<Opened>, Error> {
        let place = self.session.place();
        loop {
            let opened = match open::open(&place, false) {
                Ok(opened) => opened,
                Err(OpenError::Diagnostics(faults)) => {
                    let colour = self.session.err.depth != planexe_base::style::Depth::None;
                    let text = faults.render(colour, self.session.err.columns());
                    self.faulty(run, text.trim_end().to_owned());
                    return Ok(None);
                }
                // An editor may take a file away before it puts the new one there.
                Err(error) if self.watched.is_some() && run.is_dir() => {
                    let error = self.session.open_error(error);
                    let hints = error
                        .hints
                        .iter()
                        .map(|hint| format!("\nhint: {}", self.session.hint_here(hint).text()));
                    self.faulty(run, format!("error: {error}{}", hints.collect::<String>()));
                    return Ok(None);
                }
                Err(error) => return Err(self.session.open_error(error)),
            };
            let watched = Watched::new(&opened);
            // An edit between reading the pipeline and looking at its files must not be missed.
            let unchanged =
                open::open(&place, false).is_ok_and(|again| again.project.digest == opened.project.digest);
            if unchanged {
                self.watched = Some(watched);
                self.faults = None;
                self.tell_changed();
                return Ok(Some(opened));
            }
        }
    }

    /// The pipeline cannot be read: anything may be what mends it. Nothing is said where the faults are those that were
    /// shown, and only files changed that nothing names: what is said here may be written into one of them.
    fn faulty(&mut self, run: &Path, faults: String) {
        let file = self.session.place().file;
        let of_run = || RunFile::read(&run.join("run.toml")).ok().map(|file| file.pipeline_file(run));
        let file = file.or_else(of_run).unwrap_or_else(|| run.join("pipeline.toml"));
        let file = file.canonicalize().unwrap_or(file);
        self.watched = Some(Watched::of_faulty(run, &file, self.watched.take()));
        let same = self.faults.as_ref() == Some(&faults);
        if same && self.changed.as_ref().is_some_and(|changes| !changes.named) {
            return;
        }
        self.tell_changed();
        self.session.complain(&faults);
        self.faults = Some(faults);
    }

    /// Names the files that changed.
    fn tell_changed(&mut self) {
        let Some(changes) = self.changed.take().filter(|changes| !changes.is_empty()) else { return };
        let files: Vec<String> =
            changes.files.iter().take(3).map(|file| format!("`{}`", clean(file))).collect();
        let more = changes.files.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.session.say(&format!("\nchanged: {}{more}", files.join(", ")));
    }

    /// Waits for edits; or the exit code, if a signal or another shell ends it.
    fn wait(&mut self, eyes: &mut Eyes) -> Result<Changes, u8> {
        let session = self.session;
        let Some(watched) = &mut self.watched else { return Ok(Changes::default()) };
        eyes.follow(watched);
        if let Some(why) = eyes.polling.as_ref().filter(|_| !self.args.poll && !self.told) {
            session.say(&format!(
                "warning: changes are not reported here ({}); looking again and again",
                clean(why)
            ));
        }
        self.told = true;
        // What was left untold made no difference.
        if self.changed.take().is_none() {
            session.say(&format!("watching {}; Ctrl-C ends it", count(watched.count() as u64, "file")));
        }
        let code = std::cell::Cell::new(None);
        let (signals, controls, passes) = (&self.signals, &self.controls, &self.passes);
        let passed = std::cell::Cell::new(None);
        let reset = self.reset;
        let full = self.full.clone();
        let has_room = std::cell::Cell::new(false);
        let stop = || {
            let by_file = || controls.ask_for_the_end().then_some(exit::STOPPED);
            code.set(code.get().or_else(|| signals.pending().map(exit::of_signal)).or_else(by_file));
            // A person who is done need not type `build` as well.
            let new = controls.passes().into_iter().find(|passed| !passes.contains(passed));
            let reset = reset.is_some_and(|reset| SystemTime::now() >= reset);
            let more = |(run, free): &(PathBuf, u64)| fs::free_space(run).is_ok_and(|now| now >= free + ROOM);
            has_room.set(full.as_ref().is_some_and(more));
            let woken = code.get().is_some() || new.is_some() || reset || has_room.get();
            passed.set(new);
            woken
        };
        let found = eyes.wait(watched, &stop);
        match code.get() {
            Some(code) => {
                if code == exit::STOPPED {
                    session.say("stopped by another shell: no longer watching");
                }
                Err(code)
            }
            None => {
                if let Some(passed) = passed.take() {
                    session.say(&format!("\n{}: done, by {}", clean(&passed.task), clean(&passed.by)));
                }
                if has_room.get() {
                    session.say("\nthere is room on the disk again");
                }
                Ok(found.unwrap_or_default())
            }
        }
    }

    /// What is to be built, by the model that was named.
    fn what(&self, opened: &mut Opened) -> Result<Targets, Error> {
        if let Some(model) = &self.how.model {
            ask_only(opened, model)?;
        }
        if let Some(executor) = &self.how.executor {
            run_on(self.session, opened, executor)?;
        }
        let typed = self.args.targets.clone();
        Ok(Targets { targets: target_ids(opened, &typed)?, typed, ..Targets::default() })
    }

    /// Builds, looking for edits meanwhile, then runs the command of `--exec`.
    fn build(&mut self, mut opened: Opened, eyes: &mut Eyes) -> Result<Next, Error> {
        let session = self.session;
        let what = match self.what(&mut opened) {
            Ok(what) => what,
            // It may have been renamed: the pipeline can say so again. At the first time it is a mistake.
            Err(error) if self.built => {
                session.complain(&format!("error: {error}"));
                return Ok(Next::Again(Changes::default()));
            }
            Err(error) => return Err(error),
        };
        let opened = &opened;
        if !self.may_run(opened) {
            return Ok(Next::Again(Changes::default()));
        }
        let Some(watched) = &mut self.watched else { return Ok(Next::Again(Changes::default())) };
        eyes.follow(watched);
        self.passes = self.controls.passes();
        let (send, edits) = channel();
        let over = AtomicBool::new(false);
        let outside = BuildControl {
            signals: &self.signals,
            edits: Some(&edits),
            controls: Some(&self.controls),
            keep_same_failed: self.built,
            known_failures: &self.failures,
        };
        let how = &self.how;
        let (ended, changes) = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut all = Changes::default();
                while let Some(changes) = eyes.wait(watched, &|| over.load(Ordering::SeqCst)) {
                    let _ = send.send(changes.edits.clone());
                    all.add(changes);
                }
                all.add(watched.look());
                all
            });
            let ended = session.build_under(opened, what, how, &outside);
            over.store(true, Ordering::SeqCst);
            (ended, looking.join().unwrap_or_default())
        });
        self.built = true;
        let (code, ended) = match ended {
            Ok(ended) => ended,
            // The set-up may be mended by an edit: a key's name, a host.
            Err(error) => {
                session.complain(&format!("error: {error}"));
                for hint in &error.hints {
                    session.complain(&format!("hint: {}", session.hint_here(hint).text()));
                }
                return Ok(Next::Again(changes));
            }
        };
        let failures = ended.iter().flat_map(|ended| &ended.failures);
        self.failures = failures.map(|failed| (failed.task.clone(), failed.failure.clone())).collect();
        let broken = ended.as_ref().and_then(|ended| ended.broken.as_ref());
        let is_full = broken.is_some_and(FsError::is_out_of_space);
        let run = opened.store.run_dir();
        let free = is_full.then(|| fs::free_space(run).ok()).flatten();
        self.full = free.map(|free| (run.to_owned(), free));
        let stopped = ended.as_ref().and_then(|ended| ended.stopped);
        let waits = stopped == Some(Stopped::UsageLimit);
        let first = || parked(&opened.project, &opened.store).iter().filter_map(ParkedModel::until).min();
        // Where none is left, the reset has just come.
        self.reset = waits.then(|| first().unwrap_or_else(SystemTime::now));
        if stopped == Some(Stopped::Batch) {
            self.reset = SystemTime::now().checked_add(BATCHES);
        }
        match stopped {
            Some(Stopped::Edited) => return Ok(Next::Again(changes)),
            Some(Stopped::Signal(_)) => return Ok(Next::End(code)),
            _ if ended.is_none() => return Ok(Next::End(code)),
            // Somebody stopped the build: that means the watching too.
            Some(Stopped::StopFile | Stopped::Abort) => return Ok(Next::End(code)),
            _ => {}
        }
        if let Some(signal) = self.exec(opened, code) {
            return Ok(Next::End(exit::of_signal(signal)));
        }
        Ok(Next::Again(changes))
    }

    /// Who starts `watch` has seen what it runs. What an edit adds to that, perhaps somebody else's, is asked about where
    /// there is somebody to ask, and else said.
    fn may_run(&mut self, opened: &Opened) -> bool {
        let programs = programs(&opened.project);
        let new: Vec<String> = programs.difference(&self.programs).map(|line| clean(line)).collect();
        if self.built && !new.is_empty() {
            let session = self.session;
            session.complain(&format!(
                "the edited pipeline runs what it did not run before:\n  {}",
                new.join("\n  ")
            ));
            if session.in_is_terminal && !session.confirm("Run it?") {
                session.say("not built: edit the pipeline");
                return false;
            }
        }
        self.programs.extend(programs);
        true
    }

    /// Runs the command of `--exec`; a signal that came meanwhile.
    fn exec(&self, opened: &Opened, code: u8) -> Option<i32> {
        let line = self.args.exec.as_ref()?;
        let cancel = Cancel::new();
        let watchdog = Watchdog::new(cancel.clone(), Lifeline::new(std::env::current_exe().ok()));
        let mut command = Command::new("sh");
        keys::hide_from(&mut command, &[]);
        command.arg("-c").arg(line).current_dir(opened.store.run_dir()).stdin(Stdio::null());
        command.env("PLANEXE_EXIT_CODE", code.to_string()).env("PLANEXE_RUN_DIR", opened.store.run_dir());
        let mut signal = None;
        let end = std::thread::scope(|scope| {
            let running = scope.spawn(|| watchdog.run(&mut command, Limits::default(), None));
            while !running.is_finished() {
                if let Some(received) = self.signals.within(Duration::from_millis(20)) {
                    signal.get_or_insert(received);
                    cancel.raise(Level::Killing);
                }
            }
            running.join().ok()
        });
        match end {
            Some(ProcessEnd::Exited(0) | ProcessEnd::Cancelled) => {}
            Some(ProcessEnd::Exited(code)) => self.session.say(&format!("warning: --exec: exit code {code}")),
            Some(ProcessEnd::Signalled(signal)) => {
                self.session.say(&format!("warning: --exec: ended by signal {signal}"))
            }
            _ => self.session.say("warning: --exec: `sh` cannot be started"),
        }
        signal
    }
}
