//! Where a run stands as a whole.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands: what its last build left, and what became of its tasks since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Nothing of it was ever built.
    #[default]
    NeverStarted,
    /// A build works on it.
    Running,
    /// A build works on it, and starts nothing.
    Paused,
    /// A person is waited for.
    Waiting,
    /// Its last build ended before all was done.
    Stopped,
    /// Its last build was killed.
    Interrupted,
    /// A task failed, or a record could not be written.
    Failed,
    /// `planexe abort` gave it up.
    Aborted,
    /// All that a bare build makes was made.
    Completed,
}

impl RunPhase {
    /// The word used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            RunPhase::NeverStarted => "never_started",
            RunPhase::Running => "running",
            RunPhase::Paused => "paused",
            RunPhase::Waiting => "waiting",
            RunPhase::Stopped => "stopped",
            RunPhase::Interrupted => "interrupted",
            RunPhase::Failed => "failed",
            RunPhase::Aborted => "aborted",
            RunPhase::Completed => "completed",
        }
    }
}

/// For people.
impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunPhase::NeverStarted => "never started",
            other => other.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_one_name() {
        for name in [
            "never_started",
            "running",
            "paused",
            "waiting",
            "stopped",
            "interrupted",
            "failed",
            "aborted",
            "completed",
        ] {
            let phase: RunPhase = serde_json::from_value(name.into()).unwrap();
            assert_eq!((phase.name(), serde_json::to_value(phase).unwrap()), (name, name.into()));
            assert_eq!(phase.to_string(), name.replace('_', " "));
        }
    }
}
