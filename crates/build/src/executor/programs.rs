//! The programs of an executor: run to their end in a limited time, what they say taken in.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use planexe_base::fs;

/// A program of an executor that says nothing for so long is taken for one that cannot reach its server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most that is read of what one says, in bytes.
const MOST: u64 = 16 << 20;
/// Between two looks whether one has ended, at most.
const LOOK: Duration = Duration::from_millis(20);

/// What a program of an executor answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// Its exit code; none if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Answer {
    /// Whether it ended with exit code 0.
    pub(crate) fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// The last line of what went wrong.
    pub(super) fn why(&self) -> String {
        let mut lines = self.err.lines().chain(self.out.lines());
        let last = lines.rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        match self.code {
            Some(code) => format!("exit code {code}: {}", last.trim()),
            None => format!("ended by a signal: {}", last.trim()),
        }
    }
}

/// Runs a program; an error if it cannot be started, or does not come to its end. `less`: variables it does not get.
pub(super) fn ask(words: &[String], place: &Path, less: &[String]) -> Result<Answer, String> {
    ask_with(words, place, less, [])
}

/// The same with variables of its own.
pub(crate) fn ask_with<'a>(
    words: &[String],
    place: &Path,
    less: &[String],
    more: impl IntoIterator<Item = &'a (String, String)>,
) -> Result<Answer, String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let told = |error: std::io::Error| format!("`{program}`: {}", fs::without_number(&error));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(place).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in less {
        command.env_remove(name);
    }
    command.envs(more.into_iter().map(|(name, value)| (name, value)));
    let mut child = command.spawn().map_err(told)?;
    let (out, err) = (take(child.stdout.take()), take(child.stderr.take()));
    let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
    let status = loop {
        match child.try_wait().map_err(told)? {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                return Err(format!("`{program}` did not answer within {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LOOK);
    };
    let text = |reader: Option<JoinHandle<Vec<u8>>>| {
        let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Answer { code: status.code(), out: text(out), err: text(err) })
}

/// Reads in the background, so that neither pipe fills up while the other is read.
fn take(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    let pipe = pipe?;
    let read = move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(MOST).read_to_end(&mut bytes);
        bytes
    };
    std::thread::Builder::new().stack_size(128 * 1024).spawn(read).ok()
}
