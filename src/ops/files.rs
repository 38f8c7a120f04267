//! The outputs, inputs and records of a run, and what is to be known of one of them.

use crate::ops::Session;
use crate::ops::detach;
use crate::ops::plan_input::plan_file;
use crate::ops::status::{Seen, every_task, look};
use planexe_base::clock;
use planexe_base::exit::Error;
use planexe_base::fs::{self, FsError};
use planexe_base::pattern;
use planexe_base::record::State;
use planexe_engine::graph::Kind as NodeKind;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::manifest::nearest;
use planexe_pipeline::open::Opened;
use planexe_store::index::Index;
use planexe_ui::views::some_names;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// What a run writes of itself, for everybody to read.
const RECORDS: [&str; 6] = [
    "run.toml",
    "events.jsonl",
    "failures.jsonl",
    "usage_metrics.jsonl",
    "activity_overview.json",
    detach::LOG,
];

/// What a file is to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileSort {
    /// A task makes it
    Output,
    /// A task reads it, and none makes it
    Input,
    /// planexe writes it
    Record,
}

impl FileSort {
    /// As in data.
    pub fn word(self) -> &'static str {
        match self {
            FileSort::Output => "output",
            FileSort::Input => "input",
            FileSort::Record => "record",
        }
    }
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FileRow {
    /// Relative to the run.
    pub path: String,
    /// What it is to the run.
    pub kind: FileSort,
    /// The task that makes it.
    pub task: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// When it was changed.
    pub updated_at: String,
    #[serde(skip)]
    at: SystemTime,
}

/// All that is to be known of a file.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum FileInfo {
    /// It is there.
    Ready {
        /// True.
        ready: bool,
        /// What the list says.
        #[serde(flatten)]
        row: FileRow,
        /// The state of its task.
        state: Option<State>,
        /// Digest of its bytes.
        sha256: String,
        /// By its name.
        content_type: &'static str,
    },
    /// It is an output that is not there.
    Missing {
        /// False.
        ready: bool,
        /// Relative to the run.
        path: String,
        /// The task that makes it.
        task: String,
        /// The state of the task.
        state: State,
        /// Why it is not there.
        reason: String,
    },
}

/// The files of a run that others may see: outputs, inputs and records, none of them hidden but one log, none that a
/// link leads out to.
pub struct Files {
    run: PathBuf,
    rows: Vec<FileRow>,
    /// Outputs that are not there, with the task that makes each.
    missing: HashMap<String, String>,
    /// The state of each task, and why.
    states: HashMap<String, (State, String)>,
    /// What a bare build makes, in order.
    wanted: Vec<String>,
}

impl Files {
    /// Looks at a run.
    pub fn new(session: &Session, opened: &Opened) -> Result<Files, Error> {
        let seen = look(session, opened, &Index::load(&opened.store), &every_task(opened));
        Files::seen(opened, &seen)
    }

    /// The files of a run that was looked at.
    pub fn seen(opened: &Opened, seen: &Seen) -> Result<Files, Error> {
        let (project, store) = (&opened.project, &opened.store);
        let mut files = Files {
            run: store.run_dir().canonicalize()?,
            rows: Vec::new(),
            missing: HashMap::new(),
            states: HashMap::new(),
            wanted: Vec::new(),
        };
        for view in &seen.standing.tasks {
            let why = view.result.failure.as_ref().map(|failure| failure.message.to_lines());
            let needs =
                (!view.blocked_by.is_empty()).then(|| format!("needs {}", some_names(&view.blocked_by, 5)));
            let why = why.or(needs).or_else(|| view.doing.clone()).unwrap_or_default();
            files.states.insert(view.task.clone(), (view.state, why));
        }
        let graph = &seen.survey.graph;
        let finder = Finder::new(store);
        let mut known = HashSet::new();
        let mut inputs = Vec::new();
        for id in graph.ids() {
            let task = &graph[id];
            if task.kind == NodeKind::Family {
                continue;
            }
            for path in &task.outputs {
                if known.insert(path.clone()) && !files.add(path, FileSort::Output, Some(&task.name)) {
                    files.missing.insert(path.clone(), task.name.clone());
                }
            }
            for input in finder.resolve(graph, task)? {
                inputs.extend(input.paths);
            }
        }
        inputs.extend(
            plan_file(opened)
                .and_then(|plan| Some(plan.strip_prefix(store.run_dir()).ok()?.to_str()?.to_owned())),
        );
        for path in inputs {
            if known.insert(path.clone()) {
                files.add(&path, FileSort::Input, None);
            }
        }
        for path in RECORDS {
            if known.insert(path.to_owned()) {
                files.add(path, FileSort::Record, None);
            }
        }
        files.wanted = project.default.iter().flat_map(|&id| project.graph[id].outputs.clone()).collect();
        files.rows.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.path.cmp(&b.path)));
        Ok(files)
    }

    /// Adds a file that is there and may be seen.
    fn add(&mut self, path: &str, kind: FileSort, task: Option<&str>) -> bool {
        let Some(real) = visible(&self.run, path) else { return false };
        let Ok(metadata) = real.metadata() else { return false };
        let at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        self.rows.push(FileRow {
            path: path.to_owned(),
            kind,
            task: task.map(str::to_owned),
            bytes: metadata.len(),
            updated_at: clock::format_utc(at),
            at,
        });
        true
    }

    /// The newest first; of one kind, or of one task.
    pub fn rows(&self, kind: Option<FileSort>, task: Option<&str>) -> Vec<FileRow> {
        let of = |row: &&FileRow| {
            kind.is_none_or(|kind| row.kind == kind)
                && task.is_none_or(|task| {
                    row.task.as_deref().is_some_and(|made| {
                        made == task || made.strip_prefix(task).is_some_and(|rest| rest.starts_with('['))
                    })
                })
        };
        self.rows.iter().filter(of).cloned().collect()
    }

    /// What a bare build makes, as far as it is there: pages first.
    pub fn results(&self) -> Vec<&FileRow> {
        let of = |path: &String| self.rows.iter().find(|row| row.path == *path);
        let mut results: Vec<&FileRow> = self.wanted.iter().filter_map(of).collect();
        results.sort_by_key(|row| !row.path.ends_with(".html"));
        results
    }

    /// A file by its path.
    pub fn find(&self, path: &str) -> Result<&FileRow, Error> {
        let wanted = pattern::normalize(path);
        let found = self.rows.iter().find(|row| row.path == wanted);
        found.ok_or_else(|| match self.missing.get(&wanted) {
            Some(task) => Error::usage(format!("`{wanted}` is not there yet: {}", self.why(task).1))
                .code("file_not_ready")
                .hint(format!("`planexe explain {}` says more", planexe_ui::views::shell_word(task))),
            None => self.unknown(path),
        })
    }

    /// The bytes of a file, from a place on.
    pub fn read(&self, row: &FileRow, offset: u64, most: u64) -> Result<Vec<u8>, Error> {
        let path = visible(&self.run, &row.path).ok_or_else(|| self.unknown(&row.path))?;
        Ok(fs::read_range(&path, offset, most)?.0)
    }

    /// All that is to be known of a file.
    pub fn info(&self, path: &str) -> Result<FileInfo, Error> {
        let wanted = pattern::normalize(path);
        if let Some(task) = self.missing.get(&wanted) {
            let (state, reason) = self.why(task);
            return Ok(FileInfo::Missing { ready: false, path: wanted, task: task.clone(), state, reason });
        }
        let row = self.find(path)?.clone();
        let real = visible(&self.run, &row.path).ok_or_else(|| self.unknown(path))?;
        let state = row.task.as_ref().and_then(|task| Some(self.states.get(task)?.0));
        let content_type = content_type(&row.path);
        Ok(FileInfo::Ready { ready: true, state, sha256: sha256(&real)?, content_type, row })
    }

    /// The state of a task whose output is not there, and why it is not.
    fn why(&self, task: &str) -> (State, String) {
        let (state, why) = self.states.get(task).cloned().unwrap_or((State::Pending, String::new()));
        let why = why.lines().next().map(|line| format!(": {line}")).filter(|line| line.len() > 2);
        (state, format!("task `{task}` is {}{}", state.name(), why.unwrap_or_default()))
    }

    fn unknown(&self, path: &str) -> Error {
        let error = Error::usage(format!("no output, input or record of the run is called `{path}`"))
            .code("unknown_file");
        let names: Vec<&str> = self
            .rows
            .iter()
            .map(|row| row.path.as_str())
            .chain(self.missing.keys().map(String::as_str))
            .collect();
        match nearest(path, names) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`planexe files` lists them"),
        }
    }
}

/// Where a path of the run leads, if it is a file in the run and nothing on the way is hidden, by name or by link.
fn visible(run: &Path, path: &str) -> Option<PathBuf> {
    let plain = |path: &Path| {
        path.components().all(|part| match part {
            Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
            _ => false,
        })
    };
    let log = path == detach::LOG;
    let real = run.join(path).canonicalize().ok()?;
    let inside = real.strip_prefix(run).ok()?;
    let shown = match log {
        true => inside == Path::new(detach::LOG),
        false => plain(Path::new(path)) && plain(inside),
    };
    (shown && real.is_file()).then_some(real)
}

fn sha256(path: &Path) -> Result<String, FsError> {
    let mut file = fs::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => context.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FsError::new(path, "read", error)),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" | "htm" => "text/html",
        "md" => "text/markdown",
        "json" => "application/json",
        "jsonl" => "application/jsonl",
        "csv" => "text/csv",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        "toml" => "application/toml",
        "txt" | "log" => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_base::fs::Durability;

    #[expect(clippy::disallowed_methods, reason = "a link as somebody may have made it")]
    fn link(to: &Path, at: &Path) {
        std::os::unix::fs::symlink(to, at).unwrap();
    }

    #[test]
    fn what_may_be_seen_of_a_run() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        let run = base.join("run");
        let put = |path: &str| {
            fs::make_dirs(base.join(path).parent().unwrap(), Durability::Unsynced).unwrap();
            fs::write_atomic(&base.join(path), b"x", Durability::Unsynced).unwrap();
        };
        for path in [
            "secret",
            "run/a.txt",
            "run/sub/b.txt",
            "run/.env",
            "run/.planexe/calls/c",
            "run/.planexe/build.log",
        ] {
            put(path);
        }
        link(&base.join("secret"), &run.join("out.txt"));
        link(&run.join(".env"), &run.join("env.txt"));
        link(&run.join("a.txt"), &run.join("same.txt"));
        link(&base, &run.join("up"));
        for path in ["a.txt", "sub/b.txt", "same.txt", ".planexe/build.log"] {
            assert!(visible(&run, path).is_some(), "{path}");
        }
        for path in [
            "nothing",
            "sub",
            "../secret",
            "sub/../../secret",
            "/etc/passwd",
            "out.txt",
            "up/secret",
            ".env",
            "env.txt",
            ".planexe/calls/c",
            "sub/../.planexe/calls/c",
            "",
        ] {
            assert_eq!(visible(&run, path), None, "{path}");
        }
        assert_eq!(
            sha256(&run.join("a.txt")).unwrap(),
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
    }
}
