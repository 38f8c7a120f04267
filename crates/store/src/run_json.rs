//! `.planexe/run.json`: a summary of the last build. It may be lost: sidecars and checkpoints hold everything in it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Store;
use super::sidecar::to_json;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::SCHEMA;

/// What the last build left a run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedPhase {
    /// A build is under way, or was when it was killed.
    Running,
    /// Everything wanted is done.
    Completed,
    /// The build ended with failures.
    Failed,
    /// It ended early: a signal, a stop file, a limit.
    Stopped,
    /// `planexe abort` ended it; `resume` needs `--force`.
    Aborted,
    /// It holds, or waits for a person.
    Paused,
}

impl RecordedPhase {
    /// The word used in files and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            RecordedPhase::Running => "running",
            RecordedPhase::Completed => "completed",
            RecordedPhase::Failed => "failed",
            RecordedPhase::Stopped => "stopped",
            RecordedPhase::Aborted => "aborted",
            RecordedPhase::Paused => "paused",
        }
    }
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunJson {
    /// Version of the format.
    pub schema: u32,
    /// The id of the run.
    pub run_id: String,
    /// The phase the last build left the run in.
    pub phase: RecordedPhase,
    /// Start of the last build that ran tasks.
    #[serde(default)]
    pub started_utc: Option<String>,
    /// When the last build ended.
    #[serde(default)]
    pub ended_utc: Option<String>,
    /// The pipeline's name.
    #[serde(default)]
    pub pipeline: Option<String>,
    /// The profile chosen.
    #[serde(default)]
    pub profile: Option<String>,
    /// The process id of the last build.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The host of the last build.
    #[serde(default)]
    pub host: Option<String>,
    /// Number of steps.
    #[serde(default)]
    pub steps_total: Option<u32>,
    /// The last completed step.
    #[serde(default)]
    pub last_completed_step: Option<u32>,
    /// The task that was completed last.
    #[serde(default)]
    pub last_completed_task: Option<String>,
    /// The checkpoint of that completion.
    #[serde(default)]
    pub last_checkpoint_id: Option<String>,
    /// What it was decided on.
    #[serde(default)]
    pub decision_id: Option<String>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl RunJson {
    /// A run in a phase, all else unknown.
    pub fn new(run_id: impl Into<String>, phase: RecordedPhase) -> RunJson {
        RunJson {
            schema: SCHEMA,
            run_id: run_id.into(),
            phase,
            started_utc: None,
            ended_utc: None,
            pipeline: None,
            profile: None,
            pid: None,
            host: None,
            steps_total: None,
            last_completed_step: None,
            last_completed_task: None,
            last_checkpoint_id: None,
            decision_id: None,
            other: Map::new(),
        }
    }
}

impl Store {
    /// Reads `run.json`; `None` if there is none that can be believed.
    pub fn read_run(&self) -> Option<RunJson> {
        let bytes = fs::read_capped(&self.planexe_dir().join("run.json"), 1 << 20).ok()?;
        let run: RunJson = serde_json::from_slice(&bytes).ok()?;
        (run.schema <= SCHEMA).then_some(run)
    }

    /// The phase that the last build noted. One that was killed after it was told to abort noted nothing of that, but the
    /// file that told it is still there: a build that begins removes it, as does one that ends.
    pub fn recorded_phase(&self, run: Option<&RunJson>) -> Option<RecordedPhase> {
        let phase = run?.phase;
        let given_up = phase == RecordedPhase::Running && self.is_told_to_abort();
        Some(if given_up { RecordedPhase::Aborted } else { phase })
    }

    /// Whether the last build, or a command that changes the run, did not come to its end, as far as `run.json` and
    /// the note of the lock say: to be asked under the lock, before it is announced. A `run.json` that cannot be read was
    /// being written when the power went.
    pub fn was_killed(&self) -> bool {
        if super::lock::is_announced(&self.run_dir) {
            return true;
        }
        match self.read_run() {
            Some(run) => run.phase == RecordedPhase::Running,
            None => fs::kind(&self.planexe_dir().join("run.json")).is_ok_and(|kind| kind.is_some()),
        }
    }

    /// Keeps a `run.json` that cannot be believed in `.planexe/partial/`, before another is written in its place.
    pub fn keep_damaged_run(&self) -> Result<(), FsError> {
        match self.read_run() {
            Some(_) => Ok(()),
            None => self.keep_aside(&self.planexe_dir().join("run.json")),
        }
    }

    /// Writes `run.json` as a whole, atomically.
    pub fn write_run(&self, run: &RunJson, durability: Durability) -> Result<(), FsError> {
        let dir = self.planexe_subdir("")?;
        fs::write_atomic(&dir.join("run.json"), &to_json(run), durability)
            .map_err(|error| error.within(self.run_dir()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{store, write};

    #[test]
    fn it_is_kept_with_unknown_keys_and_may_be_lost() {
        let (_dir, store) = store();
        let mut run = RunJson::new("r1", RecordedPhase::Running);
        run.other.insert("later".into(), 1.into());
        run.last_completed_step = Some(0);
        assert!(!store.was_killed());
        store.write_run(&run, Durability::Synced).unwrap();
        assert!(store.was_killed());
        assert_eq!(store.read_run(), Some(run.clone()));
        store.write_run(&RunJson { phase: RecordedPhase::Failed, ..run }, Durability::Synced).unwrap();
        assert!(!store.was_killed());
        for damaged in ["", "{", "{\"schema\":9,\"run_id\":\"r\",\"phase\":\"running\"}", "{\"schema\":1}"] {
            write(&store, ".planexe/run.json", damaged);
            assert_eq!(store.read_run(), None);
            assert!(store.was_killed());
        }
        let phase: RecordedPhase = serde_json::from_str("\"paused\"").unwrap();
        assert_eq!(phase.name(), "paused");
    }
}
