//! How the state of a task looks: a glyph and a colour beside its word.

use super::{BLUE, CYAN, GREEN, GREY, LIME, ORANGE, RED, Rgb, YELLOW};
use crate::record::State;

impl State {
    /// The sign beside the word.
    pub fn glyph(self) -> &'static str {
        match self {
            State::Done => "✓",
            State::Edited => "✎",
            State::Running | State::Merging => "▶",
            State::Failed => "✗",
            State::Blocked | State::Skipped => "-",
            State::Waiting | State::Stopped => "=",
            State::PendingEval => "?",
            State::FailedPendingEval | State::Damaged => "!",
            State::Stale | State::Pending => "·",
        }
    }

    /// The colour of both.
    pub fn colour(self) -> Rgb {
        match self {
            State::Done | State::Edited => GREEN,
            State::Running | State::Merging => CYAN,
            State::Failed => RED,
            State::Blocked | State::Skipped => GREY,
            State::Waiting | State::Stopped => BLUE,
            State::PendingEval => LIME,
            State::FailedPendingEval | State::Damaged => ORANGE,
            State::Stale | State::Pending => YELLOW,
        }
    }
}
