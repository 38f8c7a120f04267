//! How a program that did not exit with 0 ended, in words.

use std::path::Path;
use std::time::Duration;

use super::super::failure;
use planexe_base::failure_class::{Class, FailureClass};
use planexe_base::process::{Limits, ProcessEnd};
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_pipeline::project::{CommandSpec, Line};

/// How much of what a failed program said is kept with the failure, in bytes.
const TAIL: usize = 4096;

/// The last part of what a program said.
pub(in super::super) fn tail_of(said: &[u8]) -> String {
    String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL)..]).into_owned()
}

/// The failure of a command that did not exit with 0.
pub(in super::super) fn explain(
    spec: &CommandSpec,
    end: ProcessEnd,
    place: &Path,
    limits: &Limits,
    tail: String,
) -> Failure {
    let span = |limit: Option<Duration>| style::duration(limit.unwrap_or_default().as_secs_f64());
    let last = tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    let said = if last.is_empty() { String::new() } else { format!(": {}", style::clean(last)) };
    let mut failed = match end {
        ProcessEnd::Exited(code) => {
            let mut failed = failure(FailureClass::Exit, format!("exit code {code}{said}"));
            failed.exit_code = Some(code);
            failed
        }
        ProcessEnd::Signalled(signal) => {
            let mut failed = failure(FailureClass::Signal, format!("ended by signal {signal}{said}"));
            failed.signal = Some(signal);
            failed
        }
        ProcessEnd::TimedOut => {
            failure(Class::Timeout, format!("not done after {} (timeout)", span(limits.timeout)))
        }
        ProcessEnd::Stalled => {
            failure(FailureClass::Stall, format!("no output for {} (stall_timeout)", span(limits.stall)))
        }
        ProcessEnd::NotStarted(_) if !place.is_dir() => {
            let cwd = spec.cwd.as_deref().unwrap_or(".");
            failure(FailureClass::Spawn, format!("there is no folder `{cwd}` to run in (cwd)"))
        }
        ProcessEnd::NotStarted(error) => {
            let program = spec.line.program();
            failure(FailureClass::Spawn, format!("`{program}` cannot be started: {error}"))
        }
        ProcessEnd::Cancelled => failure(Class::Cancelled, "stopped"),
    };
    failed.recoverable = is_end(&failed);
    failed.raw_error = (!tail.is_empty()).then_some(tail);
    failed
}

/// A file that a command names as if it ran in the pipeline's folder, while it runs elsewhere.
pub(in super::super) fn left_behind<'a>(
    spec: &'a CommandSpec,
    place: &Path,
    folder: &Path,
) -> Option<&'a str> {
    let words: Vec<&str> = match &spec.line {
        Line::Argv(words) => words.iter().skip(1).map(String::as_str).collect(),
        Line::Shell(line) => line.split_whitespace().collect(),
    };
    let is_path =
        |word: &&str| word.contains('/') && !word.starts_with('/') && !word.contains(['$', '"', '\'']);
    words.into_iter().filter(is_path).find(|word| !place.join(word).exists() && folder.join(word).is_file())
}

/// Whether a command failed by the way it ended, not by what it left.
pub(in super::super) fn is_end(failed: &Failure) -> bool {
    use FailureClass::{Call, Exit, Signal, Stall};
    matches!(failed.class, Exit | Signal | Stall | Call(Class::Timeout))
}

/// Whether a command that failed said so itself. A shell gives the signal that ended a program as a code above 128, and
/// 126 and 127 for one that it could not start.
pub(in super::super) fn may_be_rescued(failed: &Failure) -> bool {
    let of_shell = |code: i32| code == 126 || code == 127 || (129..=192).contains(&code);
    failed.class == FailureClass::Exit && failed.exit_code.is_some_and(|code| !of_shell(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_says_itself_that_it_failed_may_be_rescued() {
        let exit = |code| Failure { exit_code: Some(code), ..failure(FailureClass::Exit, "") };
        for code in [1, 2, 125, 128, 193, 255] {
            assert!(may_be_rescued(&exit(code)), "{code}");
        }
        // The shell's words for what it could not start, and for what a signal ended.
        for code in [126, 127, 129, 137, 143, 192] {
            assert!(!may_be_rescued(&exit(code)), "{code}");
        }
        for class in [FailureClass::Signal, Class::Timeout.into(), FailureClass::Stall] {
            let failed = failure(class, "");
            assert!(is_end(&failed) && !may_be_rescued(&failed), "{}", failed.class);
        }
        assert!(!is_end(&failure(FailureClass::Output, "")));
    }

    #[test]
    fn the_tail_is_the_end_of_what_was_said() {
        let said = [vec![b'a'; TAIL], b"the end".to_vec()].concat();
        assert_eq!(tail_of(&said).len(), TAIL);
        assert!(tail_of(&said).ends_with("the end"));
        assert_eq!(tail_of(b"short"), "short");
    }
}
