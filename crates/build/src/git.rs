//! git, called as a program: the one place that starts it. Arguments are never a shell's, variables that would lead it
//! to another repository are taken away, no hook runs, nobody is asked for a password, and none takes for ever.
//!
//! What git prints is data: names in it are compared, shown and given back to git, and nothing else.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use planexe_base::children::{self, Listed};
use planexe_llm::keys;

/// Most time one command of git's may take; checking a large repository out takes a while.
const MOST: Duration = Duration::from_secs(600);
/// How long another git at work on the same index is waited for.
const BUSY: Duration = Duration::from_secs(10);
/// The oldest git that will do (2.20: `git worktree remove` of 2.17, and safe options of `read-tree`).
pub const OLDEST: (u32, u32) = (2, 20);
/// From here on git computes a merge without a worktree.
const MERGES_TREES: (u32, u32) = (2, 38);

/// Variables that would lead git to another repository, index or configuration than that of the folder it runs in.
pub const REDIRECTING: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_TRACE",
    "GIT_TRACE2",
];

/// Settings that no configuration has a say in: nothing is run, asked, signed or fetched.
const HARMLESS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.gitProxy=",
    "core.alternateRefsCommand=true",
    "credential.helper=",
    "protocol.allow=never",
    "diff.external=",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "merge.verifySignatures=false",
    "submodule.recurse=false",
    "advice.detachedHead=false",
];
/// Settings that name a program for files of some kind.
const DRIVERS: &str =
    r"^(filter\..*\.(clean|smudge|process|required)|merge\..*\.driver|diff\..*\.(textconv|command))$";
/// A merge of lines as git makes it by itself, for a driver that is not run.
const PLAIN_MERGE: &str = "git merge-file --marker-size=%L %A %O %B";

/// What `git config -z --get-regexp` prints: names and values.
fn settings_in(out: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(out);
    let pair = |entry: &str| {
        let (name, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        (name.to_owned(), value.to_owned())
    };
    text.split('\0').filter(|entry| !entry.is_empty()).map(pair).collect()
}

/// What stands in the place of a repository's own settings: the user's, or none.
fn instead_of(own: &[(String, String)], users: &HashMap<String, String>) -> Result<Vec<String>> {
    let mut settings = Vec::new();
    for (name, _) in own {
        if name.contains('=') || name.contains('\u{fffd}') {
            let said = format!(
                "the repository's configuration has `{}`, which names a program",
                planexe_base::style::clean(name)
            );
            return Err(GitError::Failed { command: "config".to_owned(), said });
        }
        let value = match users.get(name) {
            Some(value) => value.as_str(),
            None if name.ends_with(".driver") => PLAIN_MERGE,
            None if name.ends_with(".required") => "false",
            None => "",
        };
        let setting = format!("{name}={value}");
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    Ok(settings)
}

/// Why git did not do what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("there is no `git` to be found")]
    Missing,
    /// It took too long.
    #[error("`git {0}` was not done after 10 minutes")]
    TimedOut(String),
    /// It could not be started, or talked to.
    #[error("`git {0}` cannot be run: {1}")]
    NotRun(String, String),
    /// It said no.
    #[error("`git {command}` failed: {said}")]
    Failed {
        /// Its first arguments.
        command: String,
        /// What it said, the first line of weight.
        said: String,
    },
}

type Result<T> = std::result::Result<T, GitError>;

/// What a command of git's came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as text, without the last newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim_end_matches('\n').to_owned()
    }

    /// The line of an error that says most.
    pub fn why(&self) -> String {
        let lines = || self.err.lines().map(str::trim).filter(|line| !line.is_empty());
        let telling = lines().find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
        let line = telling.or_else(|| lines().next()).unwrap_or("it does not say why");
        planexe_base::style::clean(line.trim_start_matches("fatal: ").trim_start_matches("error: "))
    }
}

/// git in a folder.
#[derive(Debug, Clone)]
pub struct Git {
    dir: PathBuf,
    settings: Vec<String>,
    contained: bool,
    variables: Vec<(&'static str, OsString)>,
    /// It only reads configuration, which has no program run.
    bare: bool,
}

impl Git {
    /// git as if it were typed in a folder.
    pub fn at(dir: impl Into<PathBuf>) -> Git {
        Git { dir: dir.into(), settings: Vec::new(), contained: false, variables: Vec::new(), bare: false }
    }

    /// The same with a setting of its own.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Git {
        let mut git = self.clone();
        git.settings.push(format!("{name}={value}"));
        git
    }

    /// The same, which looks for a repository in its folder alone, not in those around it.
    #[must_use]
    pub fn contained(mut self) -> Git {
        self.contained = true;
        self
    }

    /// The same with a variable of the environment.
    #[must_use]
    pub fn with_variable(&self, name: &'static str, value: impl Into<OsString>) -> Git {
        let mut git = self.clone();
        git.variables.push((name, value.into()));
        git
    }

    /// Where it runs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command to its end, whatever its exit code.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Said> {
        self.run_with(arguments, None)
    }

    /// [`Git::run`] with something on standard input.
    pub fn feed<S: AsRef<OsStr>>(&self, arguments: &[S], input: Vec<u8>) -> Result<Said> {
        self.run_with(arguments, Some(input))
    }

    fn run_with<S: AsRef<OsStr>>(&self, arguments: &[S], input: Option<Vec<u8>>) -> Result<Said> {
        let name = named(arguments);
        let harmless = if self.bare { Arc::default() } else { self.harmless()? };
        let mut command = Command::new("git");
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.current_dir(&self.dir).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is planexe's: what git has begun it ends.
        command.process_group(0);
        for variable in REDIRECTING {
            command.env_remove(variable);
        }
        // A repository may name programs that git runs: filters, drivers of diffs.
        keys::hide_from(&mut command, &[]);
        if let (true, Some(around)) = (self.contained, self.dir.parent()) {
            command.env("GIT_CEILING_DIRECTORIES", around);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_EDITOR", ":").env("GIT_OPTIONAL_LOCKS", "0");
        command.env("LC_ALL", "C").env("GIT_MERGE_AUTOEDIT", "no").env("GIT_ASKPASS", "true");
        // Nothing is fetched, also not what a partial clone lacks: that would start what its configuration names.
        command.env("GIT_ALLOW_PROTOCOL", "none").env("GIT_NO_LAZY_FETCH", "1").env("GIT_PAGER", "cat");
        command.arg("--no-pager");
        for setting in HARMLESS
            .iter()
            .copied()
            .chain(harmless.iter().map(String::as_str))
            .chain(self.settings.iter().map(String::as_str))
        {
            command.arg("-c").arg(setting);
        }
        let mut arguments = arguments.iter().map(AsRef::as_ref).collect::<Vec<&OsStr>>();
        if arguments.first().is_some_and(|first| *first == "diff") {
            arguments.splice(1..1, [OsStr::new("--no-ext-diff"), OsStr::new("--no-textconv")]);
        }
        command.args(arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if self.dir.is_dir() => GitError::Missing,
            _ => GitError::NotRun(name.clone(), error.to_string()),
        })?;
        let listed = Listed::of(&child);
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // One that ends before it has read all says why.
            std::thread::spawn(move || drop(pipe.write_all(&input)));
        }
        to_its_end(child, listed, &name)
    }

    /// Settings that take the place of those in the repository's own configuration that name programs. That comes with a
    /// folder from somewhere, so it may not say what runs; the user's own configuration may (git-lfs is set up there).
    fn harmless(&self) -> Result<Arc<Vec<String>>> {
        static KNOWN: Mutex<Option<HashMap<PathBuf, Arc<Vec<String>>>>> = Mutex::new(None);
        let known = || KNOWN.lock();
        if let Some(settings) = known().as_ref().and_then(|known| known.get(&self.dir)).cloned() {
            return Ok(settings);
        }
        let git = Git { bare: true, settings: Vec::new(), ..self.clone() };
        let settings = |scope: &str| -> Result<Option<Vec<(String, String)>>> {
            let said = git.run(&["config", scope, "--includes", "-z", "--get-regexp", DRIVERS])?;
            Ok(matches!(said.code, 0 | 1).then(|| settings_in(&said.out)))
        };
        let Some(mut own) = settings("--local")? else {
            // No repository: it may become one.
            return Ok(Arc::default());
        };
        // Read beside the other only where that is switched on, else the same again.
        own.extend(settings("--worktree")?.unwrap_or_default());
        let mut users: HashMap<String, String> = HashMap::new();
        if !own.is_empty() {
            users.extend(settings("--system")?.unwrap_or_default());
            users.extend(settings("--global")?.unwrap_or_default());
        }
        let found = Arc::new(instead_of(&own, &users)?);
        known().get_or_insert_with(HashMap::new).insert(self.dir.clone(), found.clone());
        Ok(found)
    }

    /// Runs a command that must succeed.
    pub fn must<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Said> {
        self.must_with(arguments, None)
    }

    /// [`Git::must`] with something on standard input.
    pub fn must_feed<S: AsRef<OsStr>>(&self, arguments: &[S], input: Vec<u8>) -> Result<Said> {
        self.must_with(arguments, Some(input))
    }

    fn must_with<S: AsRef<OsStr>>(&self, arguments: &[S], input: Option<Vec<u8>>) -> Result<Said> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let said = self.run_with(arguments, input.clone())?;
            if said.code == 0 {
                return Ok(said);
            }
            // Another git, an editor's perhaps, is at work on the same index.
            let busy = said.err.contains(".lock") && said.err.contains("File exists");
            if !busy || began.elapsed() > BUSY {
                return Err(GitError::Failed { command: named(arguments), said: said.why() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// The text a command prints that must succeed.
    pub fn text<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        self.must(arguments).map(|said| said.text())
    }

    /// The text a command prints; none if it says no with exit code 1, or 128 where nothing is.
    pub fn look<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Option<String>> {
        let said = self.run(arguments)?;
        Ok((said.code == 0).then(|| said.text()))
    }

    /// A question that is answered with exit code 0 or 1.
    pub fn asks<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<bool> {
        let said = self.run(arguments)?;
        match said.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(GitError::Failed { command: named(arguments), said: said.why() }),
        }
    }

    /// The version of git.
    pub fn version(&self) -> Result<(u32, u32)> {
        let text = self.text(&["--version"])?;
        let numbers = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let mut numbers = numbers.unwrap_or_default().split('.').map(|number| number.parse().unwrap_or(0));
        Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
    }

    /// Whether it computes merges without a worktree.
    pub fn merges_trees(&self) -> Result<bool> {
        Ok(self.version()? >= MERGES_TREES)
    }

    /// The commit of a local branch, if there is one.
    pub fn tip(&self, branch: &str) -> Result<Option<String>> {
        self.look(&[
            "rev-parse",
            "-q",
            "--verify",
            "--end-of-options",
            &format!("refs/heads/{branch}^{{commit}}"),
        ])
    }

    /// Whether one commit is in the history of another.
    pub fn is_ancestor(&self, one: &str, of: &str) -> Result<bool> {
        self.asks(&["merge-base", "--is-ancestor", one, of])
    }

    /// The branch that is checked out, if it is one.
    pub fn branch(&self) -> Result<Option<String>> {
        self.look(&["symbolic-ref", "-q", "--short", "HEAD"])
    }

    /// Moves a branch that is where it is believed to be; false if it is not there any more.
    pub fn move_branch(&self, branch: &str, to: &str, from: &str, why: &str) -> Result<bool> {
        let name = format!("refs/heads/{branch}");
        match self.must(&["update-ref", "-m", why, &name, to, from]) {
            Ok(_) => Ok(true),
            Err(error) => match self.tip(branch)? {
                Some(now) if now == from => Err(error),
                _ => Ok(false),
            },
        }
    }

    /// Moves a branch of ours.
    pub fn move_branch_to(&self, branch: &str, to: &str) -> Result<()> {
        self.must(&["update-ref", &format!("refs/heads/{branch}"), to]).map(drop)
    }

    /// Removes a branch of ours, if it is there.
    pub fn delete_branch(&self, branch: &str) -> Result<()> {
        match self.tip(branch)? {
            Some(tip) => self.must(&["update-ref", "-d", &format!("refs/heads/{branch}"), &tip]).map(drop),
            None => Ok(()),
        }
    }

    /// Names a command prints, each ended by a zero byte.
    pub fn names<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Vec<String>> {
        let said = self.must(arguments)?;
        let names = said.out.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// The worktrees of the repository: where, and the branch that is checked out there.
    pub fn worktrees(&self) -> Result<Vec<(PathBuf, Option<String>)>> {
        let text = self.text(&["worktree", "list", "--porcelain"])?;
        let mut all: Vec<(PathBuf, Option<String>)> = Vec::new();
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("worktree ") {
                all.push((PathBuf::from(path), None));
            } else if let (Some(branch), Some(last)) =
                (line.strip_prefix("branch refs/heads/"), all.last_mut())
            {
                last.1 = Some(branch.to_owned());
            }
        }
        Ok(all)
    }
}

/// The first words of a command, for messages.
fn named<S: AsRef<OsStr>>(arguments: &[S]) -> String {
    let words: Vec<_> = arguments.iter().take(2).map(|word| word.as_ref().to_string_lossy()).collect();
    planexe_base::style::clean(&words.join(" "))
}

/// Reads what it says until it ends, or its time is over.
fn to_its_end(mut child: Child, listed: Listed, name: &str) -> Result<Said> {
    let mut listed = Some(listed);
    let broken = |error: &std::io::Error| GitError::NotRun(name.to_owned(), error.to_string());
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = reader(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let err = reader(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let began = Instant::now();
    let mut pause = Duration::from_micros(500);
    let status = loop {
        if let Some(status) = children::try_wait(&mut child, &mut listed).map_err(|error| broken(&error))? {
            break status;
        }
        if began.elapsed() > MOST {
            // A TERM lets it take its lock files away.
            if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
            }
            std::thread::sleep(Duration::from_secs(1));
            let _ = child.kill();
            drop(listed);
            let _ = child.wait();
            return Err(GitError::TimedOut(name.to_owned()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let out = out.join().unwrap_or_default();
    let err = err.join().unwrap_or_default();
    Ok(Said { code: status.code().unwrap_or(-1), out, err: String::from_utf8_lossy(&err).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_went_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::at(dir.path());
        assert!(git.version().unwrap() >= OLDEST);
        let error = git.text(&["rev-parse", "--show-toplevel"]).unwrap_err();
        assert!(
            error.to_string().starts_with("`git rev-parse --show-toplevel` failed: not a git repository"),
            "{error}"
        );
        assert_eq!(Git::at(dir.path()).tip("main").unwrap(), None);
        assert!(matches!(Git::at(dir.path().join("none")).version(), Err(GitError::NotRun(..))));
    }

    #[test]
    fn programs_a_repository_names_are_replaced_by_the_users_or_none() {
        let own = settings_in(
            b"filter.x.clean\nevil\0filter.lfs.smudge\nevil\0merge.y.driver\nevil %A\0filter.x.required\0",
        );
        let users = HashMap::from([("filter.lfs.smudge".to_owned(), "git-lfs smudge -- %f".to_owned())]);
        assert_eq!(
            instead_of(&own, &users).unwrap(),
            [
                "filter.x.clean=",
                "filter.lfs.smudge=git-lfs smudge -- %f",
                "merge.y.driver=git merge-file --marker-size=%L %A %O %B",
                "filter.x.required=false"
            ]
        );
        // Such a name cannot be set on a command line, and is nobody's own.
        assert!(instead_of(&[("filter.a=b.clean".to_owned(), "evil".to_owned())], &users).is_err());
    }
}
