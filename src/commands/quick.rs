//! The build that has nothing to do, before anything else is looked at: not the options, not the
//! pipeline. Only the plain forms of `planexe build` come this way; all else, and every doubt, takes the
//! long one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use planexe_base::fs::OpenDir;
use planexe_store::control::is_retry_asked;
use planexe_store::null_build::{self, Found, UpToDate};

/// What was typed, as far as this way goes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    run_dir: Option<PathBuf>,
    quiet: bool,
    question: bool,
}

/// The words of a plain build, or none if anything is among them that might matter to the verdict.
fn typed(args: &[OsString]) -> Option<Typed> {
    let mut words = args.iter().skip(1);
    let mut typed = Typed::default();
    let mut build = false;
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"build" | b"b" if !build => build = true,
            b"-s" | b"--quiet" => typed.quiet = true,
            b"-q" | b"--question" => typed.question = true,
            b"-k" | b"--keep-going" => {}
            b"-j" | b"--jobs" if is_a_number(words.next()?.as_bytes()) => {}
            b"-C" | b"--run-dir" if typed.run_dir.is_none() => typed.run_dir = Some(words.next()?.into()),
            [b'-', b'j', number @ ..] if is_a_number(number) => {}
            _ => return None,
        }
    }
    build.then_some(typed)
}

/// Whether it is one of jobs, at least one.
fn is_a_number(word: &[u8]) -> bool {
    matches!(word, [b'1'..=b'9', rest @ ..] if rest.len() < 9 && rest.iter().all(u8::is_ascii_digit))
}

/// What stands for the words of a plain build in a null-build record.
const WORDS: &str = concat!("planexe ", env!("CARGO_PKG_VERSION"), " build");

/// What stands for the words typed, if they are those of a plain build.
pub fn words(args: &[OsString]) -> Option<&'static str> {
    typed(args).map(|_| WORDS)
}

/// What came of a look at the null-build record.
#[derive(Debug)]
pub enum Tried {
    /// There is nothing to do: the exit code, and what to say.
    Done(u8, Vec<u8>),
    /// There may be. So much is known to be up to date, if anything.
    Build(Option<UpToDate>),
}

/// Whether a plain build has nothing to do; if that is not sure, what is known.
pub fn try_build(args: &[OsString], env: &dyn Fn(&str) -> Option<String>) -> Tried {
    let Some(typed) = typed(args) else { return Tried::Build(None) };
    let run = typed.run_dir.as_deref().unwrap_or(Path::new("."));
    let Ok(open) = OpenDir::open(run) else { return Tried::Build(None) };
    match null_build::check(run, &open, WORDS, env) {
        // What webhooks missed goes out with the next build.
        Some(Found::Same(_)) if planexe_notify::outbox::is_waiting(run, &open) => Tried::Build(None),
        // Asked of a build that did not get to it, or by hand.
        Some(Found::Same(_)) if is_retry_asked(run, &open) => Tried::Build(None),
        Some(Found::Same(said)) => {
            let silent = typed.quiet || typed.question;
            Tried::Done(planexe_base::exit::DONE, if silent { Vec::new() } else { said })
        }
        Some(Found::Changed(known)) => Tried::Build(Some(known)),
        None => Tried::Build(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_builds_are_quick() {
        for (line, quick) in [
            ("planexe build", true),
            ("planexe b -j4 -s", true),
            ("planexe -C runs/x build -j 4", true),
            ("planexe build swot", false),
            ("planexe build -B", false),
            ("planexe build -n", false),
            ("planexe build --json", false),
            ("planexe build -D a=b", false),
            ("planexe build -j0", false),
            ("planexe build -j +4", false),
            ("planexe build -j4x", false),
            ("planexe build -j", false),
            ("planexe build -C", false),
            ("planexe status", false),
            ("planexe", false),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(typed(&args).is_some(), quick, "{line}");
        }
    }
}
