//! How things look on a terminal: colours with a meaning, a glyph and a word for each state, widths,
//! and text from files and models made harmless. No I/O but asking the terminal for its size.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::record::State;

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also into a pipe or a file
    Always,
    /// Not at all
    Never,
}

/// The variables of the environment that decide how things look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// NO_COLOR
    pub no_color: Option<String>,
    /// COLORTERM
    pub colorterm: Option<String>,
    /// TERM
    pub term: Option<String>,
    /// COLUMNS
    pub columns: Option<String>,
    /// CI
    pub ci: Option<String>,
}

impl Environment {
    /// Whether a terminal of this kind can redraw lines.
    pub fn can_redraw(&self) -> bool {
        let ci = self.ci.as_deref().is_some_and(|ci| !matches!(ci, "" | "0" | "false"));
        !ci && !matches!(self.term.as_deref(), None | Some("" | "dumb"))
    }
}

/// How many colours there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// None.
    #[default]
    None,
    /// The 256-colour palette.
    Indexed,
    /// 24 bits.
    True,
}

/// A colour, red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// Done and rescued; a line added.
pub const GREEN: Rgb = Rgb(80, 220, 100);
/// Running; a heading of a difference.
pub const CYAN: Rgb = Rgb(60, 200, 220);
/// Failed; a line removed.
pub const RED: Rgb = Rgb(220, 60, 60);
/// Pending and stale; warnings.
pub const YELLOW: Rgb = Rgb(200, 200, 80);
/// Waiting for an evaluation.
pub const LIME: Rgb = Rgb(140, 230, 80);
/// Failed, waiting for an evaluation.
pub const ORANGE: Rgb = Rgb(210, 130, 70);
/// Blocked; what matters less.
pub const GREY: Rgb = Rgb(128, 128, 128);
/// Stopped, and waiting for a person.
pub const BLUE: Rgb = Rgb(60, 160, 220);

impl Rgb {
    /// The nearest colour of the 256-colour palette's cube and greys.
    pub fn nearest_256(self) -> u8 {
        const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
        let distance = |a: Rgb, b: Rgb| {
            let square = |x: u8, y: u8| (i32::from(x) - i32::from(y)).pow(2);
            square(a.0, b.0) + square(a.1, b.1) + square(a.2, b.2)
        };
        let level = |x: u8| (0..6).min_by_key(|&i| LEVELS[i].abs_diff(x)).unwrap_or(0);
        let (r, g, b) = (level(self.0), level(self.1), level(self.2));
        let cube = Rgb(LEVELS[r], LEVELS[g], LEVELS[b]);
        let mean = (u16::from(self.0) + u16::from(self.1) + u16::from(self.2)) / 3;
        let step = (mean.saturating_sub(3) / 10).min(23) as u8;
        let grey = Rgb(8 + 10 * step, 8 + 10 * step, 8 + 10 * step);
        if distance(self, grey) < distance(self, cube) { 232 + step } else { (16 + 36 * r + 6 * g + b) as u8 }
    }
}

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

/// How one stream is written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Colours.
    pub depth: Depth,
    /// Columns; `None` where lines are not cut: pipes and files.
    pub width: Option<usize>,
}

impl Style {
    /// No colours, nothing cut.
    pub const PLAIN: Style = Style { depth: Depth::None, width: None };

    /// The style of a stream, from what the user asked for, the environment, whether the stream is a
    /// terminal, and what the terminal says of its width.
    pub fn choose(when: When, env: &Environment, is_terminal: bool, columns: Option<usize>) -> Style {
        let set = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
        let term = env.term.as_deref().unwrap_or_default();
        let coloured = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && !set(&env.no_color) && !matches!(term, "" | "dumb"),
        };
        let is_true =
            matches!(env.colorterm.as_deref(), Some("truecolor" | "24bit")) || term.ends_with("-direct");
        let depth = match (coloured, is_true) {
            (false, _) => Depth::None,
            (true, true) => Depth::True,
            (true, false) => Depth::Indexed,
        };
        let told = env.columns.as_deref().and_then(|columns| columns.trim().parse::<usize>().ok());
        let width = match told.filter(|&columns| columns > 0) {
            Some(columns) => Some(columns),
            None if is_terminal => Some(columns.filter(|&columns| columns > 0).unwrap_or(80)),
            None => None,
        };
        Style { depth, width: width.map(|width| width.max(20)) }
    }

    /// The columns to lay out for; 80 where lines are not cut.
    pub fn columns(&self) -> usize {
        self.width.unwrap_or(80)
    }

    /// Text in a colour.
    pub fn paint(&self, Rgb(r, g, b): Rgb, text: &str) -> String {
        match self.depth {
            _ if text.is_empty() => String::new(),
            Depth::None => text.to_owned(),
            Depth::Indexed => format!("\x1b[38;5;{}m{text}\x1b[39m", Rgb(r, g, b).nearest_256()),
            Depth::True => format!("\x1b[38;2;{r};{g};{b}m{text}\x1b[39m"),
        }
    }

    /// Text that stands out.
    pub fn bold(&self, text: &str) -> String {
        match self.depth {
            Depth::None => text.to_owned(),
            _ if text.is_empty() => String::new(),
            _ => format!("\x1b[1m{text}\x1b[22m"),
        }
    }

    /// Text that matters less.
    pub fn dim(&self, text: &str) -> String {
        self.paint(GREY, text)
    }

    /// A state's glyph and word, coloured: `✓ done`.
    pub fn state(&self, state: Shown) -> String {
        self.paint(state.colour(), &format!("{} {}", state.glyph(), state.word()))
    }

    /// A state's glyph, coloured.
    pub fn glyph(&self, state: Shown) -> String {
        self.paint(state.colour(), state.glyph())
    }

    /// Cuts a line to the width, if there is one.
    pub fn fit<'a>(&self, line: &'a str) -> Cow<'a, str> {
        match self.width {
            Some(width) => truncate(line, width),
            None => Cow::Borrowed(line),
        }
    }

    /// Breaks a line at its blanks where it is wider than the terminal; further lines begin with so many spaces.
    /// Words that are too wide alone are left to the terminal.
    pub fn wrap(&self, line: &str, indent: usize) -> String {
        let Some(columns) = self.width.filter(|columns| width(line) > *columns) else {
            return line.to_owned();
        };
        let mut wrapped = String::with_capacity(line.len() + line.len() / 8);
        let mut used = 0;
        for word in line.split_inclusive(' ') {
            let wide = width(word.trim_end());
            if used > indent && used + wide > columns && indent + wide <= columns {
                wrapped.truncate(wrapped.trim_end().len());
                wrapped.push('\n');
                wrapped.extend(std::iter::repeat_n(' ', indent));
                used = indent;
            }
            wrapped.push_str(word);
            used += width(word);
        }
        wrapped
    }
}

/// Columns a text takes on a terminal; escape sequences of [`Style::paint`] take none.
pub fn width(text: &str) -> usize {
    if !text.contains('\x1b') {
        return text.width();
    }
    pieces(text).map(|piece| if piece.starts_with('\x1b') { 0 } else { piece.width() }).sum()
}

/// Splits into escape sequences (`ESC [ … letter`) and the text between them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.starts_with('\x1b') {
            let body = rest.char_indices().skip(2).find(|(_, c)| ('@'..='~').contains(c));
            body.map_or(rest.len(), |(at, c)| at + c.len_utf8())
        } else {
            rest.find('\x1b').unwrap_or(rest.len())
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// Cuts a text to so many columns, the last of them `…` if something was cut. Escape sequences are kept.
pub fn truncate(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut cut = String::new();
    let mut used = 0;
    let mut full = false;
    for piece in pieces(text) {
        if piece.starts_with('\x1b') {
            cut.push_str(piece);
            continue;
        }
        for c in piece.chars() {
            let wide = c.width().unwrap_or(0);
            if full || used + wide + 1 > columns {
                if !full && columns > 0 {
                    cut.push('…');
                }
                full = true;
                break;
            }
            cut.push(c);
            used += wide;
        }
    }
    Cow::Owned(cut)
}

/// Fills a text with spaces up to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(text))));
    padded
}

/// Spaces, then the text, so many columns in all.
pub fn pad_left(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// A word as a shell takes it, for commands to type.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | ':');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A path as a shell takes it where an option wants one: one that begins with `-` would be taken for an option.
pub fn shell_path(path: &std::path::Path) -> String {
    let path = path.display().to_string();
    shell_word(&if path.starts_with('-') { format!("./{path}") } else { path })
}

/// Text from a file or a model, made fit for one line of a terminal: terminal sequences are dropped, white
/// space is folded, and what else could steer a terminal or reorder the line is written as `\u{…}`.
pub fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in harmless(text).split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(part);
    }
    line
}

/// The same for text of several lines: line ends stay, tabs become four spaces.
pub fn clean_lines(text: &str) -> String {
    harmless(text)
}

fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\x1b' || c == '\u{9b}' || c == '\u{9d}' {
            let length = sequence_length(rest, c);
            if length > 0 {
                rest = &rest[length..];
                continue;
            }
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' => out.push('\n'),
            '\r' if rest.starts_with('\n') || rest.is_empty() => {}
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\t' => out.push_str("    "),
            c if c.is_control() || is_steering(c) => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// The length of the terminal sequence a text starts with; 0 if it has no end.
fn sequence_length(text: &str, first: char) -> usize {
    let skip = first.len_utf8();
    let (introducer, body) = match (first, text[skip..].chars().next()) {
        ('\x1b', Some(c)) if c.is_ascii() => (c, skip + 1),
        ('\x1b', _) => return 0,
        ('\u{9b}', _) => ('[', skip),
        _ => (']', skip),
    };
    match introducer {
        '[' => text[body..]
            .char_indices()
            .find(|(_, c)| !(' '..='?').contains(c))
            .filter(|(_, c)| ('@'..='~').contains(c))
            .map_or(0, |(at, _)| body + at + 1),
        // Strings: title, hyperlink, clipboard. They end with BEL or ST; none runs over a line or another sequence.
        ']' | 'P' | 'X' | '^' | '_' => {
            let mut chars = text[body..].char_indices().peekable();
            while let Some((at, c)) = chars.next() {
                match c {
                    '\x07' | '\u{9c}' => return body + at + c.len_utf8(),
                    '\x1b' if chars.peek().is_some_and(|&(_, c)| c == '\\') => return body + at + 2,
                    '\x1b' | '\n' | '\u{9b}' | '\u{9d}' => return 0,
                    _ => {}
                }
            }
            0
        }
        '0'..='~' => body,
        _ => 0,
    }
}

/// Characters that reorder or hide text.
fn is_steering(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A length of time: `4.2s`, `3m 12s`, `1h 05m`.
pub fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let tenths = (seconds * 10.0).round() as u64;
    let whole = seconds.round() as u64;
    match whole {
        _ if tenths < 600 => format!("{}.{}s", tenths / 10, tenths % 10),
        0..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("{}h {:02}m", minutes / 60, minutes % 60)
        }
    }
}

/// A length of time as it counts up: whole seconds, `12s`, `3m 12s`, `1h 05m`.
pub fn elapsed(seconds: f64) -> String {
    let whole = if seconds.is_finite() { seconds.max(0.0) as u64 } else { 0 };
    if whole < 60 { format!("{whole}s") } else { duration(whole as f64) }
}

/// A number of tokens: `412`, `1.9k`, `182k`, `1.2M`.
pub fn tokens(count: u64) -> String {
    let scaled = |unit: f64| count as f64 / unit;
    match count {
        0..1_000 => count.to_string(),
        1_000..99_950 => format!("{:.1}k", scaled(1e3)),
        99_950..999_500 => format!("{:.0}k", scaled(1e3)),
        999_500..99_950_000 => format!("{:.1}M", scaled(1e6)),
        _ => format!("{:.0}M", scaled(1e6)),
    }
}

/// A size: `412 B`, `1.9 kB`, `3.2 MB`.
pub fn bytes(size: u64) -> String {
    let mut scaled = size as f64;
    if size < 1000 {
        return format!("{size} B");
    }
    for unit in ["kB", "MB", "GB"] {
        scaled /= 1000.0;
        if scaled < 999.5 {
            return if scaled < 9.95 { format!("{scaled:.1} {unit}") } else { format!("{scaled:.0} {unit}") };
        }
    }
    format!("{:.1} TB", scaled / 1000.0)
}

/// An amount of USD: `$0`, `$0.0004`, `$0.42`, `$12.30`.
pub fn money(usd: f64) -> String {
    match usd {
        _ if !usd.is_finite() || usd <= 0.0 => "$0".to_owned(),
        _ if usd < 0.0001 => "<$0.0001".to_owned(),
        _ if usd < 0.00995 => format!("${usd:.4}"),
        _ => format!("${usd:.2}"),
    }
}

/// `1 task`, `3 tasks`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Columns and rows of the terminal behind a file descriptor, if it is one.
pub fn terminal_size(stream: &impl std::os::fd::AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some((size.ws_col as usize, size.ws_row as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_blanks() {
        let at = |width| Style { depth: Depth::None, width };
        let line = "✗ swot  timeout: no content for 90 s; again";
        assert_eq!(at(None).wrap(line, 4), line);
        assert_eq!(at(Some(43)).wrap(line, 4), line);
        assert_eq!(at(Some(42)).wrap(line, 4), "✗ swot  timeout: no content for 90 s;\n    again");
        assert_eq!(at(Some(20)).wrap(line, 4), "✗ swot  timeout: no\n    content for 90\n    s; again");
        let coloured = Style { depth: Depth::True, width: Some(12) }
            .wrap(&format!("a {}", "\x1b[1mlong word\x1b[22m"), 2);
        assert_eq!(coloured, "a \x1b[1mlong word\x1b[22m", "escape sequences have no width");
        let wide = format!("note: {} end", "x".repeat(30));
        assert_eq!(at(Some(20)).wrap(&wide, 4), format!("note: {}\n    end", "x".repeat(30)));
    }

    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (3_200_000_000, "3.2 GB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn colours_are_those_of_the_contract() {
        let style = Style { depth: Depth::True, width: None };
        for (state, escaped) in [
            (Shown::Done, "\x1b[38;2;80;220;100m✓\x1b[39m"),
            (Shown::Running, "\x1b[38;2;60;200;220m▶\x1b[39m"),
            (Shown::Failed, "\x1b[38;2;220;60;60m✗\x1b[39m"),
            (Shown::Pending, "\x1b[38;2;200;200;80m·\x1b[39m"),
            (Shown::Stale, "\x1b[38;2;200;200;80m·\x1b[39m"),
            (Shown::PendingEval, "\x1b[38;2;140;230;80m?\x1b[39m"),
            (Shown::FailedPendingEval, "\x1b[38;2;210;130;70m!\x1b[39m"),
            (Shown::Blocked, "\x1b[38;2;128;128;128m-\x1b[39m"),
            (Shown::Stopped, "\x1b[38;2;60;160;220m=\x1b[39m"),
            (Shown::Waiting, "\x1b[38;2;60;160;220m=\x1b[39m"),
        ] {
            assert_eq!(style.glyph(state), escaped);
        }
        let style = Style { depth: Depth::Indexed, width: None };
        assert_eq!(style.state(Shown::Done), "\x1b[38;5;77m✓ done\x1b[39m");
        assert_eq!(Style::PLAIN.state(Shown::Done), "✓ done");
    }

    #[test]
    fn nearest_of_256() {
        for (rgb, index) in [
            (Rgb(0, 0, 0), 16),
            (Rgb(255, 255, 255), 231),
            (GREY, 244),
            (GREEN, 77),
            (CYAN, 80),
            (RED, 167),
            (YELLOW, 185),
            (LIME, 113),
            (ORANGE, 173),
            (BLUE, 74),
        ] {
            assert_eq!(rgb.nearest_256(), index, "{rgb:?}");
        }
    }

    #[test]
    fn when_there_are_colours() {
        let env = |no_color: Option<&str>, colorterm: Option<&str>, term: Option<&str>| Environment {
            no_color: no_color.map(str::to_owned),
            colorterm: colorterm.map(str::to_owned),
            term: term.map(str::to_owned),
            ..Environment::default()
        };
        let xterm = Some("xterm-256color");
        for (when, env, is_terminal, depth) in [
            (When::Auto, env(None, None, xterm), true, Depth::Indexed),
            (When::Auto, env(None, Some("truecolor"), xterm), true, Depth::True),
            (When::Auto, env(None, Some("truecolor"), xterm), false, Depth::None),
            (When::Auto, env(Some("1"), Some("truecolor"), xterm), true, Depth::None),
            (When::Auto, env(Some(""), Some("24bit"), xterm), true, Depth::True),
            (When::Auto, env(None, None, Some("dumb")), true, Depth::None),
            (When::Auto, env(None, None, None), true, Depth::None),
            (When::Always, env(Some("1"), None, None), false, Depth::Indexed),
            (When::Never, env(None, Some("truecolor"), xterm), true, Depth::None),
        ] {
            assert_eq!(
                Style::choose(when, &env, is_terminal, None).depth,
                depth,
                "{when:?} {env:?} {is_terminal}"
            );
        }
    }

    #[test]
    fn how_wide_a_stream_is() {
        let env = |columns: Option<&str>| Environment {
            columns: columns.map(str::to_owned),
            ..Environment::default()
        };
        for (columns, is_terminal, asked, width) in [
            (None, true, Some(132), Some(132)),
            (None, true, None, Some(80)),
            (None, false, None, None),
            (Some("100"), true, Some(132), Some(100)),
            (Some("100"), false, None, Some(100)),
            (Some("0"), true, Some(132), Some(132)),
            (Some("wide"), false, None, None),
            (Some("3"), true, None, Some(20)),
        ] {
            let style = Style::choose(When::Auto, &env(columns), is_terminal, asked);
            assert_eq!(style.width, width, "{columns:?} {is_terminal} {asked:?}");
        }
    }

    #[test]
    fn text_of_others_is_harmless() {
        for (text, cleaned) in [
            ("plain text", "plain text"),
            ("größe 🎉 日本", "größe 🎉 日本"),
            ("two\nlines\tand\r\nmore", "two lines and more"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]52;c;never ended", "\\u{1b}]52;c;never ended"),
            ("\x1b[12", "\\u{1b}[12"),
            ("\x1b", "\\u{1b}"),
            ("\u{9b}31mred", "red"),
            ("bell\x07 null\0", "bell\\u{7} null\\u{0}"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("hid\u{200b}den", "hid\\u{200b}den"),
            ("over\rwritten", "over written"),
            ("\x1bcreset", "reset"),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
        assert_eq!(clean_lines("a\r\n\tb\x1b[2Jc\n"), "a\n    bc\n");
    }

    #[test]
    fn cut_to_columns() {
        for (text, columns, cut) in [
            ("short", 10, "short"),
            ("exactly", 7, "exactly"),
            ("too long", 5, "too …"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("x", 0, ""),
            ("\x1b[31mtoo long\x1b[39m", 5, "\x1b[31mtoo …\x1b[39m"),
        ] {
            assert_eq!(truncate(text, columns), cut, "{text:?} {columns}");
        }
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!(pad_left("4.2s", 6), "  4.2s");
        assert_eq!(width("\x1b[38;5;77m✓ done\x1b[39m"), 6);
    }

    #[test]
    fn figures() {
        for (seconds, text) in [
            (0.0, "0.0s"),
            (4.23, "4.2s"),
            (59.94, "59.9s"),
            (59.96, "1m 00s"),
            (192.0, "3m 12s"),
            (3599.6, "1h 00m"),
            (3900.0, "1h 05m"),
            (93_600.0, "26h 00m"),
            (-1.0, "0.0s"),
            (f64::NAN, "0.0s"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        for (seconds, text) in [(0.9, "0s"), (59.9, "59s"), (60.0, "1m 00s")] {
            assert_eq!(elapsed(seconds), text, "{seconds}");
        }
        for (number, text) in [
            (999, "999"),
            (1_900, "1.9k"),
            (12_345, "12.3k"),
            (99_960, "100k"),
            (182_000, "182k"),
            (999_600, "1.0M"),
            (1_234_567, "1.2M"),
            (250_000_000, "250M"),
        ] {
            assert_eq!(tokens(number), text, "{number}");
        }
        for (usd, text) in [
            (0.0, "$0"),
            (0.00001, "<$0.0001"),
            (0.0004, "$0.0004"),
            (0.00999, "$0.01"),
            (0.42, "$0.42"),
            (12.3, "$12.30"),
        ] {
            assert_eq!(money(usd), text, "{usd}");
        }
        assert_eq!((count(1, "task"), count(3, "task")), ("1 task".into(), "3 tasks".into()));
    }
}
