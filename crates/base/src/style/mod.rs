//! How things look on a terminal: colours with a meaning, and how a line is painted and cut. Beside it the states as
//! they are shown, widths, figures, and text of others made harmless. No I/O but asking the terminal for its size.

use std::borrow::Cow;

use crate::record::State;

mod clean;
mod figures;
mod state;
mod width;

pub use clean::{clean, clean_lines, shell_path, shell_word};
pub use figures::{bytes, count, duration, elapsed, money, tokens};
pub use width::{pad, pad_left, truncate, width};

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
    pub fn state(&self, state: State) -> String {
        self.paint(state.colour(), &format!("{} {}", state.glyph(), state.name()))
    }

    /// A state's glyph, coloured.
    pub fn glyph(&self, state: State) -> String {
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
    fn colours_are_those_of_the_contract() {
        let style = Style { depth: Depth::True, width: None };
        for (state, escaped) in [
            (State::Done, "\x1b[38;2;80;220;100m✓\x1b[39m"),
            (State::Running, "\x1b[38;2;60;200;220m▶\x1b[39m"),
            (State::Failed, "\x1b[38;2;220;60;60m✗\x1b[39m"),
            (State::Pending, "\x1b[38;2;200;200;80m·\x1b[39m"),
            (State::Stale, "\x1b[38;2;200;200;80m·\x1b[39m"),
            (State::PendingEval, "\x1b[38;2;140;230;80m?\x1b[39m"),
            (State::FailedPendingEval, "\x1b[38;2;210;130;70m!\x1b[39m"),
            (State::Blocked, "\x1b[38;2;128;128;128m-\x1b[39m"),
            (State::Stopped, "\x1b[38;2;60;160;220m=\x1b[39m"),
            (State::Waiting, "\x1b[38;2;60;160;220m=\x1b[39m"),
        ] {
            assert_eq!(style.glyph(state), escaped);
        }
        let style = Style { depth: Depth::Indexed, width: None };
        assert_eq!(style.state(State::Done), "\x1b[38;5;77m✓ done\x1b[39m");
        assert_eq!(Style::PLAIN.state(State::Done), "✓ done");
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
}
