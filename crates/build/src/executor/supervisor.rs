//! The supervisor of an attempt, wherever it runs: begins it once, runs its program within its limits, and writes how it
//! ended under its fence as the last thing it does. It needs nothing but the job's folder.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use planexe_base::cancel::{Cancel, Level};
use planexe_base::exit;
use planexe_base::fs;
use planexe_base::process::{Lifeline, Limits, Looks, ProcessEnd, Watchdog, start_with};
use planexe_store::Store;
use planexe_store::jobs::JobFiles;

/// Between two looks whether it is to end: of one on this machine, and of one on a shared file system.
const LOOKS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];

/// So long after its program was ended by a signal the supervisor listens for its own.
const TOLD: Duration = Duration::from_millis(500);

/// Runs the attempt in a folder; the exit code of its program. A job that was begun before, or given up, is left alone.
pub fn main(dir: &Path) -> u8 {
    let Some(files) = JobFiles::read_told(dir) else {
        fs::complain(format!("planexe: there is no job in `{}`\n", dir.display()).as_bytes());
        return exit::FAILED;
    };
    let is_detached = files.job.kind == "detached";
    if is_detached {
        // Refused only to the leader of a session.
        let _ = rustix::process::setsid();
    }
    match files.begin() {
        Ok(true) => {}
        Ok(false) => return exit::DONE,
        Err(error) => {
            fs::complain(format!("planexe: {error}\n").as_bytes());
            return exit::FAILED;
        }
    }
    let cancel = Cancel::new();
    listen(&cancel);
    let end = run(&files, &cancel, LOOKS[usize::from(!is_detached)]);
    let code = match &end {
        ProcessEnd::Exited(code) => u8::try_from(*code).unwrap_or(u8::MAX),
        _ => exit::FAILED,
    };
    match files.write_result(end) {
        Ok(()) => code,
        Err(error) => {
            fs::complain(format!("planexe: {error}\n").as_bytes());
            exit::FAILED
        }
    }
}

/// A signal ends the program first, so that its end can be written down.
fn listen(cancel: &Cancel) {
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]) else { return };
    let cancel = cancel.clone();
    let told = move || {
        for _ in signals.forever() {
            cancel.raise(Level::Killing);
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).stack_size(128 * 1024).spawn(told);
}

/// Whether the supervisor was told to end too, or is within a moment.
fn is_told(cancel: &Cancel) -> bool {
    let began = Instant::now();
    while !cancel.is_killing() && began.elapsed() < TOLD {
        std::thread::sleep(Duration::from_millis(10));
    }
    cancel.is_killing()
}

fn run(files: &JobFiles, cancel: &Cancel, look: Duration) -> ProcessEnd {
    let job = &files.job;
    // The folder in which the run lies is held, so that nothing is written through a link put in its way.
    let _store = files.dir.ancestors().nth(4).map(Store::open);
    if !job.place.is_dir() {
        return ProcessEnd::NotStarted(format!(
            "there is no folder `{}` on this machine",
            job.place.display()
        ));
    }
    let said = match fs::fresh_log(&files.log()) {
        Ok(said) => said,
        Err(error) => return ProcessEnd::NotStarted(error.to_string()),
    };
    let stdout = match job.writes.first().filter(|_| job.stdout).map(|path| fs::create_new(path)) {
        Some(Ok(file)) => Some(file),
        Some(Err(error)) => return ProcessEnd::NotStarted(error.to_string()),
        None => None,
    };
    let Some((name, arguments)) = job.words.split_first() else {
        return ProcessEnd::NotStarted("the command is empty".to_owned());
    };
    let start = |lifeline: &Lifeline| {
        let mut command = Command::new(job.program.as_deref().unwrap_or(Path::new(name)));
        command.arg0(name).args(arguments).current_dir(&job.place).stdin(Stdio::null());
        command.stdout(stdout.as_ref().unwrap_or(&said).try_clone()?).stderr(said.try_clone()?);
        for name in &job.env_remove {
            command.env_remove(name);
        }
        command.envs(job.env.iter().map(|(name, value)| (name, value)));
        start_with(lifeline, &mut command)
    };
    let span = |seconds: Option<f64>| seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let limits = Limits { timeout: span(job.timeout_s), stall: span(job.stall_s) };
    let asked = Mutex::new(Instant::now());
    let (files_of, cancel_of) = (files.clone(), cancel.clone());
    let log = said.try_clone().ok();
    let growth = move || {
        let mut asked = asked.lock();
        if asked.elapsed() >= look {
            *asked = Instant::now();
            if files_of.is_asked_to_end() {
                cancel_of.raise(Level::Killing);
            }
        }
        let own = log.as_ref().and_then(|log| log.metadata().ok()).map_or(0, |metadata| metadata.len());
        let size = |path: &std::path::PathBuf| {
            fs::signature(path).ok().flatten().map_or(0, |it| it.size ^ (it.mtime_ns as u64))
        };
        files_of.job.writes.iter().map(size).fold(own, u64::wrapping_add)
    };
    let lifeline = Lifeline::new(std::env::current_exe().ok());
    let watchdog = Watchdog::new(cancel.clone(), Arc::clone(&lifeline));
    match watchdog.run_one(start, limits, Looks { growth: Some(Box::new(growth)), ..Looks::default() }) {
        // A queue ends every process of a job at once: the program may be gone before its supervisor has heard of it.
        ProcessEnd::Signalled(SIGTERM) if is_told(cancel) => ProcessEnd::Cancelled,
        end => end,
    }
}
