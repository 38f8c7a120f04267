//! The states of tasks as they are shown: a word, a glyph and a colour for each.

use serde::{Deserialize, Serialize};

use super::{BLUE, CYAN, GREEN, GREY, LIME, ORANGE, RED, Rgb, YELLOW};
use crate::record::State;

/// A state as it is shown: those that are stored, and those derived from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisplayState {
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

impl DisplayState {
    /// Every state, in the order in which counts are shown.
    pub const ALL: [DisplayState; 14] = [
        DisplayState::Done,
        DisplayState::Edited,
        DisplayState::Running,
        DisplayState::Merging,
        DisplayState::Failed,
        DisplayState::Blocked,
        DisplayState::Waiting,
        DisplayState::PendingEval,
        DisplayState::FailedPendingEval,
        DisplayState::Stopped,
        DisplayState::Stale,
        DisplayState::Damaged,
        DisplayState::Pending,
        DisplayState::Skipped,
    ];

    /// The word, as in files.
    pub fn word(self) -> &'static str {
        match self {
            DisplayState::Done => "done",
            DisplayState::Edited => "edited",
            DisplayState::Running => "running",
            DisplayState::Merging => "merging",
            DisplayState::Failed => "failed",
            DisplayState::Blocked => "blocked",
            DisplayState::Waiting => "waiting",
            DisplayState::PendingEval => "pending_eval",
            DisplayState::FailedPendingEval => "failed_pending_eval",
            DisplayState::Stopped => "stopped",
            DisplayState::Stale => "stale",
            DisplayState::Damaged => "damaged",
            DisplayState::Pending => "pending",
            DisplayState::Skipped => "skipped",
        }
    }

    /// The sign beside the word.
    pub fn glyph(self) -> &'static str {
        match self {
            DisplayState::Done => "✓",
            DisplayState::Edited => "✎",
            DisplayState::Running | DisplayState::Merging => "▶",
            DisplayState::Failed => "✗",
            DisplayState::Blocked | DisplayState::Skipped => "-",
            DisplayState::Waiting | DisplayState::Stopped => "=",
            DisplayState::PendingEval => "?",
            DisplayState::FailedPendingEval | DisplayState::Damaged => "!",
            DisplayState::Stale | DisplayState::Pending => "·",
        }
    }

    /// The colour of both.
    pub fn colour(self) -> Rgb {
        match self {
            DisplayState::Done | DisplayState::Edited => GREEN,
            DisplayState::Running | DisplayState::Merging => CYAN,
            DisplayState::Failed => RED,
            DisplayState::Blocked | DisplayState::Skipped => GREY,
            DisplayState::Waiting | DisplayState::Stopped => BLUE,
            DisplayState::PendingEval => LIME,
            DisplayState::FailedPendingEval | DisplayState::Damaged => ORANGE,
            DisplayState::Stale | DisplayState::Pending => YELLOW,
        }
    }

    /// Whether the outputs stand as they are.
    pub fn is_complete(self) -> bool {
        matches!(self, DisplayState::Done | DisplayState::Edited | DisplayState::Skipped)
    }
}

impl From<State> for DisplayState {
    fn from(state: State) -> DisplayState {
        match state {
            State::Pending => DisplayState::Pending,
            State::Running => DisplayState::Running,
            State::Done => DisplayState::Done,
            State::Failed => DisplayState::Failed,
            State::PendingEval => DisplayState::PendingEval,
            State::FailedPendingEval => DisplayState::FailedPendingEval,
            State::Waiting => DisplayState::Waiting,
            State::Skipped => DisplayState::Skipped,
            State::Stopped => DisplayState::Stopped,
            State::Merging => DisplayState::Merging,
        }
    }
}
