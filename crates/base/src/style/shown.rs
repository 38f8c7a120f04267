//! The states of tasks as they are shown: a word, a glyph and a colour for each.

use serde::{Deserialize, Serialize};

use super::{BLUE, CYAN, GREEN, GREY, LIME, ORANGE, RED, Rgb, YELLOW};
use crate::record::State;

/// A state as it is shown: those that are stored, and those derived from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Outputs are whole and recorded.
    Done,
    /// Done, the output changed by hand since and kept.
    Edited,
    /// An attempt is under way.
    Running,
    /// An isolated task's changes are being merged.
    Merging,
    /// Every attempt that may be made was made.
    Failed,
    /// Cannot run because something before it failed.
    Blocked,
    /// A person is waited for.
    Waiting,
    /// Waiting for its evaluation.
    PendingEval,
    /// Exit status not 0, whole, waiting for its evaluation.
    FailedPendingEval,
    /// Ended before its end by a signal or a stop.
    Stopped,
    /// Was done; something it is made of changed.
    Stale,
    /// Was done; its record or output is torn or missing.
    Damaged,
    /// Not done yet.
    Pending,
    /// Its condition is false.
    Skipped,
}

impl Shown {
    /// Every state, in the order in which counts are shown.
    pub const ALL: [Shown; 14] = [
        Shown::Done,
        Shown::Edited,
        Shown::Running,
        Shown::Merging,
        Shown::Failed,
        Shown::Blocked,
        Shown::Waiting,
        Shown::PendingEval,
        Shown::FailedPendingEval,
        Shown::Stopped,
        Shown::Stale,
        Shown::Damaged,
        Shown::Pending,
        Shown::Skipped,
    ];

    /// The word, as in files.
    pub fn word(self) -> &'static str {
        match self {
            Shown::Done => "done",
            Shown::Edited => "edited",
            Shown::Running => "running",
            Shown::Merging => "merging",
            Shown::Failed => "failed",
            Shown::Blocked => "blocked",
            Shown::Waiting => "waiting",
            Shown::PendingEval => "pending_eval",
            Shown::FailedPendingEval => "failed_pending_eval",
            Shown::Stopped => "stopped",
            Shown::Stale => "stale",
            Shown::Damaged => "damaged",
            Shown::Pending => "pending",
            Shown::Skipped => "skipped",
        }
    }

    /// The sign beside the word.
    pub fn glyph(self) -> &'static str {
        match self {
            Shown::Done => "✓",
            Shown::Edited => "✎",
            Shown::Running | Shown::Merging => "▶",
            Shown::Failed => "✗",
            Shown::Blocked | Shown::Skipped => "-",
            Shown::Waiting | Shown::Stopped => "=",
            Shown::PendingEval => "?",
            Shown::FailedPendingEval | Shown::Damaged => "!",
            Shown::Stale | Shown::Pending => "·",
        }
    }

    /// The colour of both.
    pub fn colour(self) -> Rgb {
        match self {
            Shown::Done | Shown::Edited => GREEN,
            Shown::Running | Shown::Merging => CYAN,
            Shown::Failed => RED,
            Shown::Blocked | Shown::Skipped => GREY,
            Shown::Waiting | Shown::Stopped => BLUE,
            Shown::PendingEval => LIME,
            Shown::FailedPendingEval | Shown::Damaged => ORANGE,
            Shown::Stale | Shown::Pending => YELLOW,
        }
    }

    /// Whether the outputs stand as they are.
    pub fn is_complete(self) -> bool {
        matches!(self, Shown::Done | Shown::Edited | Shown::Skipped)
    }
}

impl From<State> for Shown {
    fn from(state: State) -> Shown {
        match state {
            State::Pending => Shown::Pending,
            State::Running => Shown::Running,
            State::Done => Shown::Done,
            State::Failed => Shown::Failed,
            State::PendingEval => Shown::PendingEval,
            State::FailedPendingEval => Shown::FailedPendingEval,
            State::Waiting => Shown::Waiting,
            State::Skipped => Shown::Skipped,
            State::Stopped => Shown::Stopped,
            State::Merging => Shown::Merging,
        }
    }
}
