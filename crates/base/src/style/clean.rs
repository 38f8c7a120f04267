//! Text from files and models made harmless for a terminal, and words made fit for a shell.

use std::fmt::Write as _;

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

/// A word as a shell takes it, for commands to type.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | ':');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.contains(|c: char| c.is_control() || is_steering(c)) {
        // Written out, a name of another's making would steer the terminal.
        word.chars().fold("$'".to_owned(), |typed, c| typed + &escaped(c)) + "'"
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A character within the `$'…'` of bash, zsh and ksh.
fn escaped(c: char) -> String {
    match c {
        '\n' => r"\n".to_owned(),
        '\t' => r"\t".to_owned(),
        '\\' | '\'' => format!("\\{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() || is_steering(c) => format!("\\U{:08x}", u32::from(c)),
        c => c.to_string(),
    }
}

/// A path as a shell takes it where an option wants one: one that begins with `-` would be taken for an option.
pub fn shell_path(path: &std::path::Path) -> String {
    let path = path.display().to_string();
    shell_word(&if path.starts_with('-') { format!("./{path}") } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_to_type_steers_no_terminal() {
        for (word, typed) in [
            ("runs/a", "runs/a"),
            ("a b's", r"'a b'\''s'"),
            ("a\x1b[31mb'\\c", r"$'a\x1b[31mb\'\\c'"),
            ("a\nb\t\x7f", r"$'a\nb\t\x7f'"),
            ("a\u{202e}b\u{9b}", r"$'a\U0000202eb\U0000009b'"),
        ] {
            assert_eq!(shell_word(word), typed);
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
}
