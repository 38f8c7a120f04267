//! A build that outlives who starts it: a planexe of its own, in a session of its own, that nobody waits for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use planexe_base::exit;
use planexe_base::fs::{self, Durability};
use planexe_store::RunLock;

/// Hidden argument that has planexe leave the session it was started in.
pub const DETACHED_ARGUMENT: &str = "__detached";
/// What such a build says, relative to the run.
pub const LOG: &str = ".planexe/build.log";
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(10);
/// So long it is waited for a build to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much is told of what a build said that ended at once.
const TAIL: u64 = 4000;

/// How a build began.
#[derive(Debug)]
pub enum Begun {
    /// It works on the run.
    Runs {
        /// Its process.
        pid: u32,
    },
    /// It ended before it was seen at work: nothing was to do, it was refused, or it was quick.
    Ended {
        /// Its exit code; 128 and the signal if one ended it.
        code: u8,
        /// The end of what it said.
        said: String,
    },
    /// Neither, so far.
    Slow {
        /// Its process.
        pid: u32,
    },
}

/// Leaves the session planexe was started in, so that its end is not the end of this process.
pub fn leave_session() {
    // Refused only to the leader of a process group, which this is not.
    let _ = rustix::process::setsid();
}

/// Starts `planexe OPTIONS build` for a run, which must still be of the pipeline that `only` says, and waits until it is
/// at work or has ended. `told` hears of its end, if this process still lives then.
pub fn build(
    run: &Path,
    only: &[OsString],
    options: &[OsString],
    told: impl FnOnce(u8) + Send + 'static,
) -> io::Result<Begun> {
    let log = run.join(LOG);
    fs::make_dirs(&run.join(".planexe"), Durability::Unsynced).map_err(io::Error::other)?;
    // Of two builds that are started at once one is refused: the log is that of the other.
    let own = fs::temp_beside(&log);
    let file = fs::fresh_log(&own).map_err(io::Error::other)?;
    let named = || drop(fs::rename(&own, &log, Durability::Unsynced));
    let mut child = Command::new(program()?)
        .arg(DETACHED_ARGUMENT)
        .args(only)
        .arg("-C")
        .arg(run)
        .args(options)
        .arg("build")
        // Turns of a make that started this process are none of a build that outlives it.
        .env_remove("MAKEFLAGS")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let (pid, start) = (child.id(), Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            let said = fs::read_tail(&own, TAIL).map(|(bytes, _)| bytes).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            let code = code_of(status);
            match code {
                exit::LOCKED => drop(fs::remove(&own)),
                _ => named(),
            }
            return Ok(Begun::Ended { code, said });
        }
        if RunLock::owner(run).is_some_and(|owner| owner.pid == pid && owner.is_building()) {
            named();
            reap(child, told);
            return Ok(Begun::Runs { pid });
        }
        if start.elapsed() > PATIENCE {
            named();
            reap(child, told);
            return Ok(Begun::Slow { pid });
        }
        std::thread::sleep(AGAIN);
    }
}

/// A planexe that was asked something about a run, and answers on its standard output.
#[derive(Debug)]
pub struct Asked {
    child: Option<Child>,
    answer: std::fs::File,
}

/// Starts `planexe OPTIONS WORDS` for a run, which must still be of the pipeline that `only` says.
pub fn ask(run: &Path, only: &[OsString], options: &[OsString], words: &[&str]) -> io::Result<Asked> {
    let planexe = run.join(".planexe");
    fs::make_dirs(&planexe, Durability::Unsynced).map_err(io::Error::other)?;
    let answer = fs::scratch_file(&planexe).map_err(io::Error::other)?;
    let child = Command::new(program()?)
        .arg(DETACHED_ARGUMENT)
        .args(only)
        .arg("-C")
        .arg(run)
        .args(options)
        .args(words)
        .env_remove("MAKEFLAGS")
        .stdin(Stdio::null())
        .stdout(answer.try_clone()?)
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Asked { child: Some(child), answer })
}

impl Asked {
    /// Its exit code and what it said; none if it is not at its end in time, or `go_on` says no: then it goes on, and
    /// nobody hears of it.
    pub fn wait(
        &mut self,
        limit: Duration,
        mut go_on: impl FnMut(Duration) -> bool,
    ) -> io::Result<Option<(u8, Vec<u8>)>> {
        let start = Instant::now();
        while let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait()? {
                let said = fs::read_scratch(&self.answer).map_err(io::Error::other)?;
                return Ok(Some((code_of(status), said)));
            }
            if start.elapsed() > limit || !go_on(AGAIN) {
                self.child.take().map(|child| reap(child, |_| ())).unwrap_or_default();
            }
        }
        Ok(None)
    }
}

/// Waits for it in the background, so that no dead process is left while this one lives.
fn reap(mut child: Child, told: impl FnOnce(u8) + Send + 'static) {
    let wait = move || {
        if let Ok(status) = child.wait() {
            told(code_of(status));
        }
    };
    // Without the thread it is only listed as dead until this process ends.
    let _ = std::thread::Builder::new().name("reaper".into()).stack_size(64 * 1024).spawn(wait);
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// This program, or what has its name since it was replaced.
pub fn program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let replaced = program.to_str().and_then(|name| name.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.filter(|_| !program.exists()).unwrap_or(program))
}
