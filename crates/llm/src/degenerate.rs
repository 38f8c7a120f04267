//! Answers that go nowhere, seen while they arrive: white space without end, the same words over and over,
//! reasoning that never comes to an answer. Grammar-constrained models fall into the first until
//! `max_tokens`; on a slow machine each costs an hour, so such a call is stopped early.
//!
//! The bounds are wide on purpose: a long table, deep indentation or a matrix of zeros must pass, and a
//! loop that is stopped a few hundred words late costs little.

/// White space in a row, in bytes, that no layout needs.
const BLANK_RUN: usize = 1_000;
/// Least length, in bytes, of a text repeated that counts as a loop; about a thousand tokens.
const LOOP_SPAN: usize = 4_096;
/// The same where what is repeated has no letter in it (rules of tables, numbers).
const LOOP_SPAN_PLAIN: usize = 16_384;
/// How often the piece must follow on itself at least.
const LOOP_TIMES: usize = 12;
/// Longest piece looked for, in bytes.
const LOOP_PERIOD: usize = 1_360;
/// A look for loops after so many new bytes.
const LOOK_EVERY: usize = 1_024;
/// Reasoning without a word of an answer, in bytes (some 60,000 tokens), where the model gives no bound.
pub const REASONING_BYTES: usize = 256 * 1024;

/// Watches one text as it grows.
#[derive(Debug, Default)]
pub struct Detector {
    /// White space at the end so far.
    blank: usize,
    /// Length at the last look for loops.
    looked: usize,
}

impl Detector {
    /// Looks at a text that has just grown by `piece`; says what is wrong with it, if anything is.
    pub fn grown(&mut self, text: &str, piece: &str) -> Option<String> {
        let kept = piece.trim_end().len();
        self.blank = if kept == 0 { self.blank + piece.len() } else { piece.len() - kept };
        if self.blank >= BLANK_RUN {
            return Some(format!("{} bytes of white space in a row", self.blank));
        }
        if text.len() < self.looked + LOOK_EVERY {
            return None;
        }
        self.looked = text.len();
        let (period, span) = repeated_tail(text.as_bytes())?;
        let piece = String::from_utf8_lossy(&text.as_bytes()[text.len() - period..]).into_owned();
        let piece: String = piece.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(40).collect();
        Some(format!("the same {period} bytes {} times in a row (`{piece}`)", span / period))
    }
}

/// The period and length of the loop a text ends in, if it ends in one.
fn repeated_tail(text: &[u8]) -> Option<(usize, usize)> {
    const PROBE: usize = 64;
    if text.len() < LOOP_SPAN {
        return None;
    }
    let tail = &text[text.len().saturating_sub(LOOP_SPAN_PLAIN + LOOP_PERIOD)..];
    let (before, probe) = tail.split_at(tail.len() - PROBE);
    // In a loop the last bytes stand one period earlier; the nearest earlier place gives the period.
    let near = &before[before.len().saturating_sub(LOOP_PERIOD)..];
    let back = (1..=near.len()).find(|back| {
        let end = tail.len() - back;
        end >= PROBE && tail[end - PROBE..end] == *probe
    })?;
    let span = back
        + (back..tail.len())
            .take_while(|at| {
                let from_end = tail.len() - 1 - at;
                tail[from_end] == tail[from_end + back]
            })
            .count();
    let plain = !tail[tail.len() - back..].iter().any(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    let wanted = if plain { LOOP_SPAN_PLAIN } else { LOOP_SPAN };
    (span >= wanted && span >= back * LOOP_TIMES).then_some((back, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a text in pieces of about a token; the position and words of the first complaint.
    fn fed(text: &str) -> Option<(usize, String)> {
        let mut detector = Detector::default();
        let mut so_far = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let mut cut = rest.len().min(5);
            while !rest.is_char_boundary(cut) {
                cut += 1;
            }
            so_far.push_str(&rest[..cut]);
            if let Some(why) = detector.grown(&so_far, &rest[..cut]) {
                return Some((so_far.len(), why));
            }
            rest = &rest[cut..];
        }
        None
    }

    #[test]
    fn loops_are_seen_early() {
        for (text, word, before) in [
            (format!("{{\"a\": {}", " ".repeat(50_000)), "white space", 1_100),
            (format!("{{\"a\": {}", "\n\t".repeat(50_000)), "white space", 1_100),
            (format!("A start. {}", "I am sorry. ".repeat(10_000)), "12 bytes", 6_000),
            (format!("A start. {}", "ab".repeat(50_000)), "2 bytes", 6_000),
            (format!("A start. {}", "übel ".repeat(50_000)), "6 bytes", 6_000),
            (format!("[{}", "0, ".repeat(50_000)), "3 bytes", 18_000),
            (
                (0..200).map(|i| format!("Point {i} is new. ")).collect::<String>()
                    + &"a sentence of some length that comes again and again, \
                        with a second part to it so that it is longer; "
                        .repeat(1_000),
                "times in a row",
                12_000,
            ),
            (format!("{{\"text\": \"{}", "\\n".repeat(50_000)), "2 bytes", 6_000),
        ] {
            let (at, why) = fed(&text).unwrap_or_else(|| panic!("passed: {}…", &text[..30]));
            assert!(why.contains(word), "{why}");
            assert!(at < before, "only after {at} bytes: {why}");
        }
    }

    #[test]
    fn honest_texts_pass() {
        let table: String = (0..400)
            .map(|i| format!("| item {i} | {} | 0 | 0 | - | - | yes |{}|\n", i * 7 % 13, " ".repeat(120)))
            .collect();
        let same_rows = "| yes | no | n/a |\n".repeat(200);
        let rule = format!("|{}|\n{}", "-".repeat(3_000), "text ".repeat(100));
        let deep: String = (0..200).map(|i| format!("{}{{\"k{i}\":\n", "  ".repeat(i))).collect();
        let array: String = (0..900)
            .map(|i| {
                format!(
                    "    {{\n      \"id\": {i},\n      \"done\": false,\n      \"notes\": null\n    }},\n"
                )
            })
            .collect();
        let zeros = "0.0, ".repeat(2_000);
        let code = "    }\n".repeat(150);
        for text in [table, same_rows, rule, deep, array, zeros, code] {
            assert_eq!(fed(&text), None, "{}", &text[..60]);
        }
    }

    #[test]
    fn cuts_inside_characters_are_safe() {
        assert!(fed(&"日本語".repeat(5_000)).is_some());
    }
}
