//! The run's logs. Events and failures are logs proper: if they cannot be written, that is said once
//! and the build goes on. Usage is a record of money spent: if it cannot be written, the build fails.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sidecar::to_json;
use super::usage::{ActivityOverview, CallsSoFar, UsageLine, bounded, read_overview, read_usage};
use super::{Store, jsonl};
use planexe_base::clock;
use planexe_base::event::Event;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, AppendFile, Durability, FsError};
use planexe_base::message::Message;
use planexe_base::record::Failure;

/// So many calls of a build are in the overview as soon as they are recorded; with hundreds in flight they would
/// wait for each other to write it.
const AT_ONCE: u32 = 32;

/// One failed attempt, a line of `failures.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailureLine {
    /// When, RFC 3339, UTC.
    pub timestamp_utc: String,
    /// `task` or `task[key]`.
    pub task: String,
    /// The model asked, if any.
    pub model: Option<String>,
    /// The attempt that failed.
    pub attempt: u32,
    /// The class again, under the name others use for it.
    pub error_type: FailureClass,
    /// Names of the fields of an answer that were missing.
    #[serde(default)]
    pub missing_fields: Vec<String>,
    /// Names of the fields of an answer that were invalid.
    #[serde(default)]
    pub invalid_fields: Vec<String>,
    /// What the server or command said, bounded.
    #[serde(default)]
    pub raw_error: Option<String>,
    /// The run directory.
    #[serde(default)]
    pub run_id_dir: String,
    /// Joins log, usage and failures.
    #[serde(default)]
    pub error_id: Option<String>,
    /// The kind of the failure.
    #[serde(default)]
    pub class: FailureClass,
    /// Whether another try may succeed without a change.
    #[serde(default)]
    pub recoverable: bool,
    /// Digest of what the attempt was decided on.
    #[serde(default)]
    pub decision_id: Option<String>,
    /// For people.
    #[serde(default)]
    pub message: Message,
    /// Fields of other versions.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Map<String, Value>,
}

impl FailureLine {
    /// The line of a failure that happened now.
    pub fn of(
        task: &str,
        model: Option<&str>,
        attempt: u32,
        failure: &Failure,
        decision_id: Option<&str>,
        run_dir: &Path,
    ) -> FailureLine {
        FailureLine {
            timestamp_utc: clock::now_utc(),
            task: task.to_owned(),
            model: model.map(str::to_owned),
            attempt,
            error_type: failure.class.clone(),
            missing_fields: failure.missing_fields.clone(),
            invalid_fields: failure.invalid_fields.clone(),
            raw_error: Some(match &failure.raw_error {
                Some(raw) => bounded(raw),
                None => bounded(&failure.message.to_lines()),
            }),
            run_id_dir: run_dir.display().to_string(),
            error_id: failure.error_id.clone(),
            class: failure.class.clone(),
            recoverable: failure.recoverable,
            decision_id: decision_id.map(str::to_owned),
            message: failure.message.clone(),
            other: Map::new(),
        }
    }
}

/// The writers of one build. Nothing is created before the first line.
#[derive(Debug)]
pub struct Logs {
    run_dir: PathBuf,
    events: Mutex<Lossy>,
    failures: Mutex<Lossy>,
    usage: Mutex<UsageLog>,
}

#[derive(Debug)]
struct Lossy {
    path: PathBuf,
    file: Option<AppendFile>,
    warned: bool,
}

impl Lossy {
    /// Appends a line; the first failure is returned, later ones are not.
    fn line(&mut self, line: &[u8]) -> Option<FsError> {
        let result = match &mut self.file {
            Some(file) => file.line(line, Durability::Unsynced),
            None => AppendFile::open(&self.path)
                .and_then(|file| self.file.insert(file).line(line, Durability::Unsynced)),
        };
        let error = result.err()?;
        (!std::mem::replace(&mut self.warned, true)).then_some(error)
    }
}

#[derive(Debug)]
struct UsageLog {
    path: PathBuf,
    overview_path: PathBuf,
    open: Option<(AppendFile, ActivityOverview)>,
    /// Calls of this build that the overview was written after, each by itself.
    overviews: u32,
    /// The overview lacks calls.
    behind: bool,
    /// Calls that have a line, by task and end; not known until asked for.
    lines: Option<HashSet<(String, String)>>,
}

impl Logs {
    /// The logs of a run.
    pub fn new(store: &Store) -> Logs {
        let lossy = |name| Mutex::new(Lossy { path: store.path(name), file: None, warned: false });
        Logs {
            run_dir: store.run_dir().to_owned(),
            events: lossy("events.jsonl"),
            failures: lossy("failures.jsonl"),
            usage: Mutex::new(UsageLog {
                path: store.path("usage_metrics.jsonl"),
                overview_path: store.path("activity_overview.json"),
                open: None,
                overviews: 0,
                behind: false,
                lines: None,
            }),
        }
    }

    /// Logs an event. The first failure is returned, to be warned of once; it is no error of the build.
    pub fn event(&self, event: &Event) -> Option<FsError> {
        let error = self.events.lock().line(&jsonl::to_line(event));
        error.map(|error| error.within(&self.run_dir))
    }

    /// Logs a failure. The first failure to do so is returned, to be warned of once.
    pub fn failure(&self, line: &FailureLine) -> Option<FsError> {
        let error = self.failures.lock().line(&jsonl::to_line(line));
        error.map(|error| error.within(&self.run_dir))
    }

    /// Records a call. The overview is brought up to date with the first of a build, later by
    /// [`Logs::catch_up`]. An error fails the build.
    pub fn usage(&self, line: &UsageLine) -> Result<(), FsError> {
        self.usage_inner(line).map_err(|error| error.within(&self.run_dir))
    }

    /// [`Logs::usage`], unless the call has its line already.
    pub fn usage_unless_there(&self, line: &UsageLine) -> Result<(), FsError> {
        {
            let mut log = self.usage.lock();
            if log.lines.is_none() {
                let lines = jsonl::read_records::<UsageLine>(&log.path)
                    .map_err(|error| error.within(&self.run_dir))?;
                log.lines = Some(lines.iter().map(name_of).collect());
            }
            if log.lines.as_ref().is_some_and(|lines| lines.contains(&name_of(line))) {
                return Ok(());
            }
        }
        self.usage(line)
    }

    fn usage_inner(&self, line: &UsageLine) -> Result<(), FsError> {
        let bytes = jsonl::to_line(line);
        let mut log = self.usage.lock();
        let UsageLog { path, open, lines, .. } = &mut *log;
        if open.as_ref().is_some_and(|(file, _)| !file.is_at_its_name()) {
            *open = None;
        }
        let (file, overview) = match open {
            Some(open) => open,
            None => {
                let overview = read_overview(path)?;
                open.insert((AppendFile::open(path)?, overview))
            }
        };
        file.line(&bytes, Durability::Unsynced)?;
        if let Some(lines) = lines {
            lines.insert(name_of(line));
        }
        // The overview can be computed again at any time; the line above is what counts.
        overview.add(line);
        log.behind = true;
        if log.overviews < AT_ONCE {
            log.overviews += 1;
            return log.catch_up();
        }
        Ok(())
    }

    /// Brings the overview up to date if it lacks calls, and lets go of logs that were moved away or removed: to be done
    /// a few times a second, and at the end of a build. An error fails the build.
    pub fn catch_up(&self) -> Result<(), FsError> {
        for log in [&self.events, &self.failures] {
            let mut log = log.lock();
            if log.file.as_ref().is_some_and(|file| !file.is_at_its_name()) {
                log.file = None;
            }
        }
        self.usage.lock().catch_up().map_err(|error| error.within(&self.run_dir))
    }
}

impl UsageLog {
    fn catch_up(&mut self) -> Result<(), FsError> {
        if let Some((file, overview)) = &mut self.open
            && self.behind
        {
            overview.of_bytes = file.len()?;
            fs::write_atomic(&self.overview_path, &to_json(overview), Durability::Unsynced)?;
            self.behind = false;
        }
        Ok(())
    }
}

/// What a call is known by: its task and its end.
fn name_of(line: &UsageLine) -> (String, String) {
    (line.task.clone(), line.timestamp.clone())
}

impl Store {
    /// The calls recorded in `usage_metrics.jsonl`; lines that cannot be read are passed over.
    pub fn usage_lines(&self) -> Result<Vec<UsageLine>, FsError> {
        read_usage(&self.path("usage_metrics.jsonl"))
    }

    /// The failures recorded in `failures.jsonl`.
    pub fn failure_lines(&self) -> Result<Vec<FailureLine>, FsError> {
        jsonl::read_records(&self.path("failures.jsonl"))
    }

    /// The events recorded in `events.jsonl`; those of other versions are passed over.
    pub fn events(&self) -> Result<Vec<Event>, FsError> {
        jsonl::read_records(&self.path("events.jsonl"))
    }

    /// Why the last build ended before all was done, if it did so on purpose.
    pub fn why_stopped(&self) -> Option<String> {
        let (tail, _) = fs::read_tail(&self.path("events.jsonl"), 1 << 16).ok()?;
        let ends = tail.rsplit(|&b| b == b'\n').filter_map(|line| serde_json::from_slice::<Event>(line).ok());
        let last = ends.map(|event| event.kind).find(|kind| {
            use planexe_base::event::Kind;
            matches!(
                kind,
                Kind::PipelineStarted { .. }
                    | Kind::PipelineStopped { .. }
                    | Kind::PipelineFailed { .. }
                    | Kind::PipelineCompleted { .. }
            )
        });
        match last? {
            planexe_base::event::Kind::PipelineStopped { message, .. } => Some(message),
            _ => None,
        }
    }

    /// When a call ended last and what all have cost. Reads the overview where it is that of all of
    /// `usage_metrics.jsonl`, else that.
    pub fn calls_so_far(&self) -> CallsSoFar {
        let path = self.path("usage_metrics.jsonl");
        let Ok((tail, total)) = fs::read_tail(&path, 1 << 16) else { return CallsSoFar::default() };
        let last =
            tail.rsplit(|&b| b == b'\n').find_map(|line| serde_json::from_slice::<UsageLine>(line).ok());
        let overview = self.overview_of(total).or_else(|| read_overview(&path).ok());
        let overview = overview.filter(|overview| !overview.models.is_empty());
        CallsSoFar {
            last_utc: last
                .map(|line| line.timestamp)
                .or_else(|| Some(overview.as_ref()?.last_updated.clone())),
            cost_usd: overview.map(|overview| overview.total_cost),
        }
    }

    /// The overview as written, if it is that of a `usage_metrics.jsonl` of this length.
    fn overview_of(&self, bytes: u64) -> Option<ActivityOverview> {
        let kept = fs::read_capped(&self.path("activity_overview.json"), 1 << 20).ok()?;
        serde_json::from_slice::<ActivityOverview>(&kept).ok().filter(|kept| kept.of_bytes == bytes)
    }

    /// Writes the overview anew unless it is that of all calls: a build that was killed may have left it behind.
    pub fn mend_overview(&self) -> Result<(), FsError> {
        let usage = self.path("usage_metrics.jsonl");
        // One that cannot be read is told with the first call.
        let Some(signature) = fs::signature(&usage).ok().flatten() else { return Ok(()) };
        if self.overview_of(signature.size).is_some() {
            return Ok(());
        }
        let overview = read_overview(&usage).map_err(|error| error.within(self.run_dir()))?;
        fs::write_atomic(&self.path("activity_overview.json"), &to_json(&overview), Durability::Unsynced)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// The overview, computed from `usage_metrics.jsonl`.
    pub fn activity_overview(&self) -> Result<ActivityOverview, FsError> {
        read_overview(&self.path("usage_metrics.jsonl"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{store, text, write};
    use crate::usage::CallOf;
    use crate::usage::tests::{call, reply};
    use planexe_base::event::Kind;
    use planexe_base::failure_class::Class;

    #[test]
    fn the_overview_is_the_sum_of_the_lines_over_all_builds() {
        let (_dir, store) = store();
        for _ in 0..2 {
            let logs = Logs::new(&store);
            logs.usage(&UsageLine::new(call(), Ok(&reply()), store.run_dir())).unwrap();
            let other = CallOf { model: "big", ..call() };
            logs.usage(&UsageLine::new(other, Ok(&reply()), store.run_dir())).unwrap();
        }
        let kept: ActivityOverview =
            serde_json::from_str(&text(&store, "activity_overview.json").unwrap()).unwrap();
        assert_eq!(kept, store.activity_overview().unwrap());
        assert_eq!((kept.total_tokens, kept.total_cost, kept.models["openai:big"].calls), (60, 1.0, 2));
        assert_eq!(store.usage_lines().unwrap().len(), 4);
    }

    #[test]
    fn a_call_has_one_line_whoever_asks_for_it() {
        let (_dir, store) = store();
        let logs = Logs::new(&store);
        let line =
            |ended_utc: &str| UsageLine::new(CallOf { ended_utc, ..call() }, Ok(&reply()), store.run_dir());
        let (one, two) = (line("2026-03-01T22:15:01Z"), line("2026-03-01T22:15:02Z"));
        logs.usage_unless_there(&one).unwrap();
        logs.usage(&two).unwrap();
        logs.usage_unless_there(&one).unwrap();
        logs.usage_unless_there(&two).unwrap();
        assert_eq!(store.usage_lines().unwrap(), [one, two]);
    }

    #[test]
    fn of_many_calls_the_overview_is_written_now_and_then() {
        let (_dir, store) = store();
        let logs = Logs::new(&store);
        let kept = || -> ActivityOverview {
            serde_json::from_str(&text(&store, "activity_overview.json").unwrap()).unwrap()
        };
        for n in 1..=u64::from(AT_ONCE) + 5 {
            let ended_utc = format!("2026-03-01T22:15:{n:02}Z");
            let line =
                UsageLine::new(CallOf { ended_utc: &ended_utc, ..call() }, Ok(&reply()), store.run_dir());
            logs.usage(&line).unwrap();
            assert_eq!(kept().total_tokens, 15 * n.min(AT_ONCE.into()));
        }
        // Who asks in between is told of all of them.
        assert_eq!(store.calls_so_far().cost_usd, Some(0.25 * f64::from(AT_ONCE + 5)));
        logs.catch_up().unwrap();
        assert_eq!(kept(), store.activity_overview().unwrap());
        fs::remove(&store.path("activity_overview.json")).unwrap();
        logs.catch_up().unwrap();
        assert_eq!(text(&store, "activity_overview.json"), None, "written without need");
    }

    #[test]
    fn failures_have_their_fields_even_when_unknown() {
        let (_dir, store) = store();
        let logs = Logs::new(&store);
        let failure = Failure { class: Class::Validation.into(), message: "no".into(), ..Failure::default() };
        let line = FailureLine::of("swot", None, 2, &failure, Some("d1"), store.run_dir());
        assert!(logs.failure(&line).is_none());
        let value: Value = serde_json::from_str(&text(&store, "failures.jsonl").unwrap()).unwrap();
        for key in [
            "timestamp_utc",
            "task",
            "model",
            "attempt",
            "error_type",
            "missing_fields",
            "invalid_fields",
            "raw_error",
            "run_id_dir",
            "error_id",
            "class",
            "recoverable",
            "decision_id",
        ] {
            assert!(value.get(key).is_some(), "{key}");
        }
        assert_eq!(store.failure_lines().unwrap(), [line]);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_said_once_usage_always() {
        let (_dir, store) = store();
        for name in ["events.jsonl", "failures.jsonl", "usage_metrics.jsonl"] {
            fs::make_dirs(&store.path(name), Durability::Unsynced).unwrap();
        }
        let logs = Logs::new(&store);
        let event =
            Event { timestamp_utc: clock::now_utc(), kind: Kind::TaskSkipped { task: "swot".into() } };
        assert_eq!(logs.event(&event).unwrap().to_string(), "cannot write `events.jsonl`: is a directory");
        assert!(logs.event(&event).is_none());
        let line = FailureLine::default();
        assert!(logs.failure(&line).is_some());
        assert!(logs.failure(&line).is_none());
        let line = UsageLine::default();
        assert!(logs.usage(&line).is_err());
        assert!(logs.usage(&line).is_err());
        // Once the cause is gone, logging goes on.
        fs::remove_empty_dir(&store.path("events.jsonl")).unwrap();
        assert!(logs.event(&event).is_none());
        assert_eq!(store.events().unwrap(), [event]);
    }

    #[test]
    fn damaged_lines_of_usage_are_passed_over() {
        let (_dir, store) = store();
        write(&store, "usage_metrics.jsonl", "{\"timestamp\":1}\nbad\n");
        let logs = Logs::new(&store);
        logs.usage(&UsageLine::new(call(), Ok(&reply()), store.run_dir())).unwrap();
        assert_eq!(store.activity_overview().unwrap().total_tokens, 15);
    }
}
