//! A run as pictures and pages: files without scripts, nothing loaded from elsewhere, for light and dark. Every text is
//! escaped.

use planexe_base::record::State;
use planexe_base::style::clean;

pub mod graph;
mod layers;
pub mod report;
pub mod timeline;

/// The colours of all pages, light and dark.
pub const TONES: &str = include_str!("tones.css");

/// The style that all pages about runs share.
pub const COMMON: &str = include_str!("common.css");

/// The style of graphs and timelines in a page.
pub const PICTURES: &str = concat!(include_str!("graph.css"), include_str!("timeline.css"));

/// A text as HTML and SVG show it: one line without marks that reorder it, and nothing in it is markup.
pub fn escape(text: &str) -> String {
    escape_lines(&clean(text))
}

/// The same of a text that is clean already, or of several lines made so.
fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no such characters, not even escaped.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The state in words.
fn word(state: State) -> &'static str {
    match state {
        State::PendingEval => "waits for its score",
        State::FailedPendingEval => "failed, waits for its score",
        state => state.name(),
    }
}

/// The colours a state is drawn in: the class of the style sheets.
fn tone(state: State) -> &'static str {
    match state {
        State::Done | State::Edited => "done",
        State::Running | State::Merging => "run",
        State::Failed => "fail",
        State::Waiting | State::Stopped => "wait",
        State::Blocked | State::Skipped => "off",
        State::PendingEval | State::Stale => "pend",
        State::Pending => "todo",
        State::FailedPendingEval | State::Damaged => "warn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_no_markup() {
        assert_eq!(escape("<a b='c'>&\"\u{202e}\u{1b}[31mx"), "&lt;a b=&#39;c&#39;&gt;&amp;&quot;\\u{202e}x");
        assert_eq!(escape("\u{ffff}\0"), "\u{fffd}\\u{0}");
    }
}
