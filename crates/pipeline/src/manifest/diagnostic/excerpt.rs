//! The lines around a fault, made safe to show.

use std::ops::Range;

/// A line longer than this is not drawn, only pointed at.
pub(super) const LONGEST_LINE: usize = 4000;

/// A place as it can be drawn.
pub(super) struct Spot<'a> {
    pub(super) file: String,
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
}

impl Spot<'_> {
    /// The line of the span's start, without its end.
    fn line(&self) -> Range<usize> {
        let bytes = self.text.as_bytes();
        let start = floor(self.text, self.span.start);
        let from = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = self.text[start..].find('\n').map_or(bytes.len(), |at| start + at);
        let to = if to > start && bytes[to - 1] == b'\r' { to - 1 } else { to };
        from..to
    }

    pub(super) fn can_be_drawn(&self) -> bool {
        !self.text.is_empty() && self.line().len() <= LONGEST_LINE
    }
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The lines some spans of one text stand on, made safe to show, with the spans moved along.
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) spans: Vec<Range<usize>>,
}

impl Excerpt {
    /// From the first to the last line of the spans; none if that is too much. A span of several
    /// lines is cut at the end of its first.
    pub(super) fn new(spots: &[&Spot<'_>]) -> Option<Excerpt> {
        let text = spots.first()?.text;
        let from = spots.iter().map(|spot| spot.line().start).min()?;
        let to = spots.iter().map(|spot| spot.line().end).max()?;
        if to - from > 16 * LONGEST_LINE {
            return None;
        }
        let cut: Vec<Range<usize>> = spots
            .iter()
            .map(|spot| {
                let start = floor(text, spot.span.start);
                let end = spot.span.end.clamp(start, spot.line().end.max(start));
                start..floor(text, end).max(start)
            })
            .collect();
        let mut stops: Vec<usize> =
            cut.iter().flat_map(|span| [span.start, span.end]).chain([from, to]).collect();
        stops.sort_unstable();
        stops.dedup();
        let mut shown = String::new();
        let mut moved = std::collections::HashMap::new();
        for pair in stops.windows(2) {
            moved.insert(pair[0], shown.len());
            shown.push_str(&printable(&text[pair[0]..pair[1]]));
        }
        moved.insert(*stops.last()?, shown.len());
        let line = text[..from].matches('\n').count() + 1;
        let spans = cut.iter().map(|span| moved[&span.start]..moved[&span.end]).collect();
        Some(Excerpt { text: shown, line, spans })
    }
}

/// A text with everything that could steer a terminal made visible instead: control characters
/// become their pictures, direction marks and other invisible ones the replacement character.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
            '\x7f' => '\u{2421}',
            '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
            _ => c,
        })
        .collect()
}
