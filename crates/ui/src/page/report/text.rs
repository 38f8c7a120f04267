//! Texts of a page: blocks, marked prompts, coloured differences.

use std::fmt::Write as _;

use super::super::{escape, escape_lines};
use crate::views::PromptPart;
use planexe_base::style::{clean, clean_lines};

/// Longest text that is shown whole, in bytes.
pub(super) const LONGEST: usize = 48 << 10;

/// A text as it is, cut where it is long.
pub(super) fn block(text: &str) -> String {
    format!("<pre tabindex=\"0\">{}</pre>\n", escape_lines(&clean_lines(&cut(text, LONGEST))))
}

/// A prompt, with what came from an input marked by the input's name.
pub(super) fn parted(text: &str, parts: &[PromptPart]) -> String {
    let text = cut(text, LONGEST);
    let lines: Vec<&str> = text.lines().collect();
    let mut out = "<pre tabindex=\"0\">".to_owned();
    let mut write = |lines: &[&str], input: Option<&str>| {
        let text = escape_lines(&clean_lines(&lines.join("\n")));
        let _ = match input {
            _ if lines.is_empty() => Ok(()),
            None => writeln!(out, "{text}"),
            Some(input) => {
                write!(out, "<span class=\"from\"><b>{}</b>{text}</span>", escape(&clean(input)))
            }
        };
    };
    let mut at = 0;
    for part in parts {
        let (from, to) = (part.first_line.saturating_sub(1).max(at), part.last_line.min(lines.len()));
        if from < to {
            write(&lines[at..from], None);
            write(&lines[from..to], Some(&part.input));
            at = to;
        }
    }
    write(&lines[at.min(lines.len())..], None);
    out + "</pre>\n"
}

pub(super) fn coloured(diff: &str) -> String {
    let mut out = "<pre tabindex=\"0\">".to_owned();
    for line in clean_lines(&cut(diff, LONGEST)).lines() {
        let line_of = |class: &str| format!("<span class=\"{class}\">{}</span>\n", escape_lines(line));
        out += &match line.chars().next() {
            Some('+') => line_of("add"),
            Some('-') => line_of("del"),
            _ => format!("{}\n", escape_lines(line)),
        };
    }
    out + "</pre>\n"
}

pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}… ({} bytes more are left out)", &text[..end], text.len() - end)
}
