//! How many columns a text takes on a terminal, and texts cut or filled to a number of them.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns a text takes on a terminal; escape sequences of [`super::Style::paint`] take none.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
