//! A program to be run: its words with the placeholders filled in, where it runs, and what its variables say.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::super::expand::{self, Values};
use super::super::{BuildContext, failure};
use crate::git::REDIRECTING;
use planexe_base::failure_class::FailureClass;
use planexe_base::process::{self, Lifeline};
use planexe_base::record::Failure;
use planexe_llm::keys;
use planexe_pipeline::project::{CommandSpec, Line};

/// Tells a command the pipeline's folder, where its scripts are while it runs in a run directory elsewhere.
pub(in super::super) const FOLDER_VARIABLE: &str = "PLANEXE_PIPELINE_DIR";

/// Tell a command of a task with an evaluator where the notes on the last round are, and what they are about.
const NOTES_VARIABLES: [&str; 2] = ["PLANEXE_NOTES", "PLANEXE_FORMER"];

/// What is run, and where.
pub(in super::super) struct Invocation {
    /// The file, if it was found in the path.
    pub(in super::super) found: Option<PathBuf>,
    /// The program's name, then its arguments.
    pub(in super::super) words: Vec<String>,
    /// Variables with what a line for the shell cannot hold as it is.
    pub(in super::super) arguments: Vec<(String, String)>,
    /// Where it runs.
    pub(in super::super) place: PathBuf,
    /// Of a task with an evaluator: the files with the notes on the last round and with what they are about, if there
    /// was one.
    pub(in super::super) notes: Option<[Option<OsString>; 2]>,
    /// Of an isolated task: variables of its worktree.
    pub(in super::super) variables: Vec<(&'static str, OsString)>,
    /// Of a program that is served a model: where, and the token. They hold against all others.
    pub(in super::super) served: Vec<(&'static str, String)>,
    /// The pipeline's programs come before those where it runs.
    pub(in super::super) own_first: bool,
}

impl Invocation {
    /// Starts it. What it says goes to `said`, its standard output to `stdout` if there is one.
    pub(in super::super) fn start(
        &self,
        ctx: &BuildContext,
        spec: &CommandSpec,
        stdout: Option<&File>,
        said: &File,
        lifeline: &Lifeline,
    ) -> std::io::Result<Pid> {
        let (name, arguments) =
            self.words.split_first().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(self.program(ctx).unwrap_or_default());
        command.arg0(name).args(arguments).current_dir(&self.place);
        command.stdin(Stdio::null());
        command.stdout(stdout.unwrap_or(said).try_clone()?);
        command.stderr(said.try_clone()?);
        let (remove, set) = self.environment(ctx, spec);
        for name in remove {
            command.env_remove(name);
        }
        command.envs(set);
        process::start_with(lifeline, &mut command)
    }

    /// The file of the program, as far as it is ours to look for.
    pub(in super::super) fn program(&self, ctx: &BuildContext) -> Option<PathBuf> {
        let folder = &ctx.project.folder;
        let places = match self.own_first {
            true => [folder, &self.place],
            false => [&self.place, folder],
        };
        let name = self.words.first()?;
        Some(self.found.clone().unwrap_or_else(|| program_path(name, places)))
    }

    /// Variables it does not get, and variables it is given.
    pub(in super::super) fn environment(
        &self,
        ctx: &BuildContext,
        spec: &CommandSpec,
    ) -> (Vec<String>, Vec<(String, OsString)>) {
        let mut remove = keys::hidden_but(&spec.env_names);
        let mut set = vec![(FOLDER_VARIABLE.to_owned(), ctx.project.folder.clone().into_os_string())];
        if !self.variables.is_empty() {
            remove.extend(REDIRECTING.iter().map(|name| (*name).to_owned()));
        }
        set.extend(self.variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let own = spec.env_set.iter().chain(&self.arguments);
        set.extend(own.map(|(name, value)| (name.clone(), value.into())));
        for (name, value) in NOTES_VARIABLES.iter().zip(self.notes.iter().flatten()) {
            match value {
                Some(path) => set.push(((*name).to_owned(), path.clone())),
                None => remove.push((*name).to_owned()),
            }
        }
        set.extend(self.served.iter().map(|(name, value)| ((*name).to_owned(), value.into())));
        (remove, set)
    }
}

/// The program and its arguments, and names and values of variables.
pub(in super::super) type Words = (Vec<String>, Vec<(String, String)>);

/// The program and its arguments, placeholders filled in, and the variables that hold what a line for the shell cannot.
pub(in super::super) fn words_of(spec: &CommandSpec, values: &Values<'_>) -> Result<Words, Failure> {
    let unfit = |expand::Unfit(why): expand::Unfit| failure(FailureClass::Command, why);
    Ok(match &spec.line {
        Line::Argv(words) => (expand::argv(words, values).map_err(unfit)?, Vec::new()),
        Line::Shell(line) => {
            let script = expand::shell(line, values).map_err(unfit)?;
            (vec!["sh".to_owned(), "-c".to_owned(), script.line], script.variables)
        }
    })
}

/// A program named by a relative path with a slash is looked for in two places: where the command runs and the pipeline's
/// folder. A build that is bound to its pipeline takes the pipeline's first.
fn program_path(program: &str, [first, then]: [&PathBuf; 2]) -> PathBuf {
    if !program.contains('/') || program.starts_with('/') {
        return PathBuf::from(program);
    }
    let here = first.join(program);
    if here.exists() { here } else { then.join(program) }
}
