//! `Space`: a run directory of its own, an environment of its own, and the built program in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, FakeLlm};

/// Logs of a run: written as it goes, no part of what was made.
const LOGS: [&str; 4] = ["events.jsonl", "failures.jsonl", "usage_metrics.jsonl", "activity_overview.json"];

/// A run directory with a home beside it.
pub struct Space {
    root: TempDir,
    run: PathBuf,
    env: Mutex<BTreeMap<String, OsString>>,
}

impl Space {
    /// An empty run directory.
    pub fn new() -> Space {
        static HEARD: std::sync::Once = std::sync::Once::new();
        // A signal that is ignored stays so in programs that are started (tests under `nohup`), one that is heard does not.
        HEARD.call_once(|| {
            let flag = std::sync::Arc::default();
            signal_hook::flag::register(signal_hook::consts::SIGHUP, flag).expect("to hear of a hang-up");
        });
        let root = tempfile::Builder::new().prefix("planexe-e2e-").tempdir().expect("a temporary folder");
        let base = root.path().canonicalize().expect("the temporary folder");
        let run = base.join("run");
        let mut env = BTreeMap::new();
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                env.insert(name.to_owned(), value);
            }
        }
        for (name, folder) in [
            ("HOME", "home"),
            ("TMPDIR", "tmp"),
            ("XDG_CONFIG_HOME", "home/.config"),
            ("XDG_CACHE_HOME", "home/.cache"),
            ("XDG_DATA_HOME", "home/.local/share"),
            ("XDG_STATE_HOME", "home/.local/state"),
            ("XDG_RUNTIME_DIR", "home/.run"),
        ] {
            fs::create_dir_all(base.join(folder)).expect(folder);
            env.insert(name.to_owned(), base.join(folder).into_os_string());
        }
        env.insert("LANG".into(), "C.UTF-8".into());
        fs::create_dir(&run).expect("the run directory");
        Space { root, run, env: Mutex::new(env) }
    }

    /// A run directory with a pipeline over one model, `fake`, served by `server`.
    pub fn with(server: &FakeLlm, tasks: &str) -> Space {
        let space = Space::new();
        space.pipeline(server, tasks);
        space
    }

    /// Writes `pipeline.toml`: the model `fake` as default, then `tasks`. Tables of `tasks` may be
    /// anything but `[models.fake]` and `[defaults]`.
    pub fn pipeline(&self, server: &FakeLlm, tasks: &str) {
        self.write("pipeline.toml", format!("{}\n{tasks}", model(server, "")));
    }

    /// The same, with further keys in `[models.fake]`.
    pub fn pipeline_with(&self, server: &FakeLlm, keys: &str, tasks: &str) {
        self.write("pipeline.toml", format!("{}\n{tasks}", model(server, keys)));
    }

    /// A folder that holds the run directory, the home and nothing else.
    pub fn root(&self) -> PathBuf {
        self.root.path().canonicalize().expect("the temporary folder")
    }

    /// The run directory.
    pub fn dir(&self) -> &Path {
        &self.run
    }

    /// A path in the run directory.
    pub fn path(&self, path: &str) -> PathBuf {
        self.run.join(path)
    }

    /// Sets a variable for programs to be started.
    pub fn set_env(&self, name: &str, value: impl Into<OsString>) {
        self.env.lock().expect("the environment").insert(name.to_owned(), value.into());
    }

    /// Sets a variable to a key, and lets it go to a server of this machine.
    pub fn set_key(&self, name: &str, value: &str, server: std::net::SocketAddr) {
        self.set_env(name, value);
        self.set_env("PLANEXE_KEY_HOSTS", format!("{name}={server}"));
    }

    /// Writes a file in place (the inode stays), making its folders.
    #[track_caller]
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("the parent folder");
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// A file's text.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A file's bytes.
    #[track_caller]
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A file's text as JSON.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let text = self.read(path);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}\n{text}"))
    }

    /// The lines of a JSONL file, each parsed; empty if there is no such file.
    #[track_caller]
    pub fn lines(&self, path: &str) -> Vec<Value> {
        let Ok(text) = fs::read_to_string(self.path(path)) else { return Vec::new() };
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{path}: {e}: {line}"));
        text.lines().map(parse).collect()
    }

    /// Replaces `from`, which must be there, in a file.
    #[track_caller]
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} holds no `{from}`:\n{text}");
        self.write(path, text.replace(from, to));
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Whether the cache of a run has a null-build record: the length of that follows the boot, after the first line and
    /// the mark.
    pub fn has_null_build_record(&self, run: &str) -> bool {
        let bytes = fs::read(self.path(run).join(".planexe/index")).unwrap_or_default();
        let length = bytes.get(48).and_then(|boot| bytes.get(49 + usize::from(*boot)));
        length.is_some_and(|length| *length != 0)
    }

    /// Removes a file.
    #[track_caller]
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// A file's modification time.
    #[track_caller]
    pub fn mtime(&self, path: &str) -> SystemTime {
        self.path(path).metadata().and_then(|m| m.modified()).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Sets a file's modification time.
    #[track_caller]
    pub fn set_mtime(&self, path: &str, time: SystemTime) {
        let file =
            File::options().write(true).open(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        file.set_times(FileTimes::new().set_modified(time)).expect("set_times");
    }

    /// The program with arguments, in the run directory, with the environment of this space.
    pub fn command(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_planexe"), args)
    }

    /// Another program in the run directory, with the environment of this space, and the path of
    /// planexe in `PLANEXE`.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let env = self.env.lock().expect("the environment");
        command.args(args).current_dir(&self.run).env_clear().envs(env.iter());
        // What `scripts/coverage` measures with.
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        if program != env!("CARGO_BIN_EXE_planexe") {
            command.env("PLANEXE", env!("CARGO_BIN_EXE_planexe"));
        }
        command
    }

    /// Runs the program to its end, without a terminal.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Out {
        self.spawn(args).wait()
    }

    /// Runs `planexe build`, which must end well.
    #[track_caller]
    pub fn build(&self) -> Out {
        self.run(&["build"]).exits(0)
    }

    /// Starts the program.
    #[track_caller]
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.start(self.command(args))
    }

    /// Starts a program made by [`Space::command`] and then changed.
    #[track_caller]
    pub fn start(&self, mut command: Command) -> Running {
        let logs = tempfile::tempdir_in(self.root.path()).expect("a folder for what it says");
        let file = |name: &str| File::create(logs.path().join(name)).expect(name);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).process_group(0);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let child = command.spawn().expect("planexe");
        let running = Running { child, args: args.join(" "), logs, done: None };
        let entry = (running.pid(), running.logs.path().to_owned());
        STARTED.with_borrow_mut(|started| started.push(entry));
        running
    }

    /// What `status --json` says of the run.
    #[track_caller]
    pub fn report(&self) -> Value {
        self.run(&["status", "--json"]).exits(0).json()
    }

    /// What `status --json` says of one task.
    #[track_caller]
    pub fn status(&self, task: &str) -> Value {
        let report = self.report();
        let tasks = report["tasks"].as_array().expect("tasks");
        let found = tasks.iter().find(|entry| entry["task"] == task);
        found.unwrap_or_else(|| panic!("status knows no `{task}`: {report:#}")).clone()
    }

    /// The state `status --json` shows for one task.
    #[track_caller]
    pub fn state(&self, task: &str) -> String {
        let status = self.status(task);
        status["state"].as_str().unwrap_or_else(|| panic!("no state: {status:#}")).to_owned()
    }

    /// The sidecar `.status` of a task's first output.
    #[track_caller]
    pub fn sidecar(&self, output: &str) -> Value {
        self.json(&format!("{output}.status"))
    }

    /// The sidecar `.DONE` of a task's first output.
    #[track_caller]
    pub fn done(&self, output: &str) -> Value {
        self.json(&format!("{output}.DONE"))
    }

    /// Whether the sidecar `.DONE` of a task's first output is there.
    pub fn is_done(&self, output: &str) -> bool {
        self.exists(&format!("{output}.DONE"))
    }

    /// Everything in the run but sidecars, logs and `.planexe/`: what was put in and what was made.
    pub fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let sidecar = |path: &str| path.ends_with(".DONE") || path.ends_with(".status");
        let files = self.files("").into_iter();
        files
            .filter(|path| !path.starts_with(".planexe/") && !sidecar(path) && !LOGS.contains(&path.as_str()))
            .map(|path| (path.clone(), self.bytes(&path)))
            .collect()
    }

    /// The paths of all files under a folder of the run, sorted.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.path(folder), &mut |path, meta| {
            if !meta.is_dir() {
                files.push(self.relative(path));
            }
        });
        files.sort();
        files
    }

    /// Everything of the run, `.planexe/` included: bytes, inode and times.
    pub fn everything(&self) -> Snapshot {
        self.snapshot(&|_| true)
    }

    /// Everything of the run outside `.planexe/`: bytes, inode and times.
    pub fn visible(&self) -> Snapshot {
        self.snapshot(&|path| path != ".planexe" && !path.starts_with(".planexe/"))
    }

    fn snapshot(&self, wanted: &dyn Fn(&str) -> bool) -> Snapshot {
        let mut entries = BTreeMap::new();
        walk(&self.run, &mut |path, meta| {
            let name = self.relative(path);
            if wanted(&name) {
                let bytes = if meta.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
                entries.insert(name, (meta.mtime(), meta.mtime_nsec(), meta.ino(), bytes));
            }
        });
        Snapshot(entries)
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.run).expect("a path of the run").to_string_lossy().into_owned()
    }

    /// Whether any file under `.planexe/history/` holds exactly these bytes.
    pub fn in_history(&self, bytes: impl AsRef<[u8]>) -> bool {
        self.files(".planexe/history").iter().any(|path| self.bytes(path) == bytes.as_ref())
    }

    /// How often a command said `echo >> ../NAME.log`.
    pub fn tally(&self, name: &str) -> usize {
        let log = self.root().join(format!("{name}.log"));
        fs::read_to_string(log).map_or(0, |text| text.lines().count())
    }

    /// Builds again and expects that nothing happens: exit 0, no request of any kind, and outside
    /// `.planexe/` no byte, no time and no inode changed.
    #[track_caller]
    pub fn assert_nothing_to_do(&self, server: &FakeLlm) {
        let (before, requests) = (self.visible(), server.requests());
        let out = self.build();
        assert_eq!(server.requests(), requests, "requests though nothing was to do\n{out}");
        self.visible().assert_same_as(&before, &out);
    }
}

/// The part of `pipeline.toml` that names the server, with one retry that takes no time.
fn model(server: &FakeLlm, keys: &str) -> String {
    format!(
        r#"[models.fake]
api = "openai"
base_url = "{}"
model = "fake-1"
max_concurrent = 16
retry = {{ max_attempts = 2, base = "5ms", max = "10ms" }}
{keys}

[defaults]
model = "fake"
"#,
        server.base_url()
    )
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    if let Ok(meta) = folder.symlink_metadata() {
        visit(folder, &meta);
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What vanishes under our eyes (a build is running) is not there.
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => walk(&path, visit),
            Ok(meta) => visit(&path, &meta),
            Err(_) => {}
        }
    }
}

/// Files and folders with their times and content, for comparing.
#[derive(PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, (i64, i64, u64, Vec<u8>)>);

impl Snapshot {
    /// Panics, naming the paths, if anything differs.
    #[track_caller]
    pub fn assert_same_as(&self, before: &Snapshot, out: &Out) {
        let mut said = Vec::new();
        let names =
            |path: &str| if path.is_empty() { "(the run directory)".to_owned() } else { path.to_owned() };
        for (path, entry) in &self.0 {
            match before.0.get(path) {
                None => said.push(format!("new: {}", names(path))),
                Some(old) if old.3 != entry.3 => said.push(format!("other bytes: {}", names(path))),
                Some(old) if old != entry => said.push(format!("other time or inode: {}", names(path))),
                Some(_) => {}
            }
        }
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        said.extend(gone.map(|path| format!("gone: {}", names(path))));
        assert!(said.is_empty(), "changed: {said:#?}\n{out}");
    }
}

/// A program that runs. It is killed when this is dropped.
pub struct Running {
    child: Child,
    args: String,
    logs: TempDir,
    done: Option<ExitStatus>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal, and nobody else.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("kill");
    }

    /// Kills it without mercy and waits until it is gone.
    #[track_caller]
    pub fn kill9(mut self) -> Out {
        self.signal(Signal::KILL);
        self.end()
    }

    /// What it has said on standard error so far.
    pub fn stderr(&self) -> String {
        self.said("err")
    }

    /// What it has written on standard output so far.
    #[allow(dead_code, reason = "not every test looks")]
    pub fn stdout(&self) -> String {
        self.said("out")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        if self.done.is_none() {
            self.done = self.child.try_wait().expect("try_wait");
        }
        self.done.is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Out {
        self.end()
    }

    #[track_caller]
    fn end(&mut self) -> Out {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > DEADLINE {
                let (stdout, stderr) = (self.said("out"), self.said("err"));
                panic!("still running after {DEADLINE:?}: planexe {}\n{stdout}\n{stderr}", self.args);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        STARTED.with_borrow_mut(|started| started.retain(|(pid, _)| *pid != self.pid()));
        let status = self.done.expect("an exit status");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Out { args: self.args.clone(), code, stdout: self.said("out"), stderr: self.said("err") }
    }

    fn said(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.logs.path().join(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        STARTED.with_borrow_mut(|started| started.retain(|(pid, _)| *pid != self.pid()));
        if self.is_running() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

thread_local! {
    /// The programs this test has started and not seen the end of, and where they say what they say.
    static STARTED: RefCell<Vec<(Pid, PathBuf)>> = const { RefCell::new(Vec::new()) };
}

/// What the last program said, if this test has started some and all have ended.
pub(super) fn all_ended() -> Option<String> {
    STARTED.with_borrow(|started| {
        let (_, logs) = started.last()?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = |pid: &Pid| matches!(waitid(WaitId::Pid(*pid), look), Ok(Some(_)) | Err(_));
        let said = || fs::read_to_string(logs.join("err")).unwrap_or_default();
        started.iter().all(|(pid, _)| ended(pid)).then(said)
    })
}

/// How a program ended and what it said.
#[derive(Debug, Clone)]
pub struct Out {
    /// Its arguments.
    pub args: String,
    /// Its exit code; 128 and the signal if one ended it.
    pub code: i32,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Out {
    /// Expects an exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Out {
        assert_eq!(self.code, code, "exit code\n{self}");
        self
    }

    /// Expects that one of the streams holds each of these as words of their own, in any case of letters.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Out {
        let all = format!("{}\n{}", self.stdout, self.stderr).to_lowercase();
        for word in words {
            assert!(has_word(&all, &word.to_lowercase()), "says nothing of `{word}`\n{self}");
        }
        self
    }

    /// Expects that neither stream holds any of these, in any case of letters.
    #[track_caller]
    pub fn says_nothing_of(self, words: &[&str]) -> Out {
        let all = format!("{}\n{}", self.stdout, self.stderr).to_lowercase();
        for word in words {
            assert!(!all.contains(&word.to_lowercase()), "speaks of `{word}`\n{self}");
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON: {e}\n{self}"))
    }
}

/// Whether `word` stands in `text` and is no part of a longer word there.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part) && word.starts_with(part);
        let after = text[at + word.len()..].chars().next().is_some_and(part) && word.ends_with(part);
        !before && !after
    })
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "$ planexe {}\nexit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.args, self.code, self.stdout, self.stderr
        )
    }
}
