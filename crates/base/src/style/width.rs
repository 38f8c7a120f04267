//! How many columns a text takes on a terminal, and texts cut or filled to a number of them.

use std::borrow::Cow;

use console::Alignment;

/// Columns a text takes on a terminal; escape sequences of [`super::Style::paint`] take none.
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// Cuts a text to so many columns, the last of them `…` if something was cut. Escape sequences are kept.
pub fn truncate(text: &str, columns: usize) -> Cow<'_, str> {
    console::truncate_str(text, columns, if columns == 0 { "" } else { "…" })
}

/// Fills a text with spaces up to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    console::pad_str(text, columns, Alignment::Left, None).into_owned()
}

/// Spaces, then the text, so many columns in all.
pub fn pad_left(text: &str, columns: usize) -> String {
    console::pad_str(text, columns, Alignment::Right, None).into_owned()
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
