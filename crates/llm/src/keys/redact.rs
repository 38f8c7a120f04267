//! A key's value, which never shows, and texts without such values.

use std::fmt;

/// A key's value. It shows itself only as `[redacted]`; [`Secret::expose`] is for the request header.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value; surrounding white space (a line end from `export KEY=$(cat file)`) is dropped.
    pub fn new(value: &str) -> Secret {
        Secret(value.trim().to_owned())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text with the value replaced. Values of fewer than 6 bytes are left: they are in every text.
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < 6 || !text.contains(&self.0) {
            return text.to_owned();
        }
        text.replace(&self.0, "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Replaces known key values, and what follows `Bearer`, in any text that is to be kept or shown.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that one that contains another goes whole.
    secrets: Vec<Secret>,
}

impl Redactor {
    /// One that knows these values.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Redactor {
        let mut secrets: Vec<Secret> = secrets.into_iter().filter(|secret| !secret.0.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
        Redactor { secrets }
    }

    /// The text without them.
    pub fn redact(&self, text: &str) -> String {
        let text = self.secrets.iter().fold(text.to_owned(), |text, secret| secret.redact(&text));
        redact_bearer(text)
    }

    /// What a program printed, without them. What is no UTF-8 stays as it is.
    pub fn redact_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            clean.extend(self.redact(chunk.valid()).into_bytes());
            clean.extend(chunk.invalid());
        }
        clean
    }

    /// How many bytes of a text that is still being written may be redacted and shown by themselves: no known value,
    /// and no token after `Bearer`, is cut in two there, or may turn out to be. A text of whole characters is cut
    /// between two.
    pub fn whole(&self, text: &[u8]) -> usize {
        let lower = text.to_ascii_lowercase();
        let mut end = text.len();
        loop {
            let mut cut = end;
            // A value begins with a whole character, so that none is cut in two.
            let mut hold = |text: &[u8], value: &str| {
                let longest = value.len().min(end);
                let begun = (1..=longest).rev().find(|&n| text.ends_with(&value.as_bytes()[..n]));
                cut = cut.min(end - begun.unwrap_or(0));
            };
            self.secrets.iter().for_each(|secret| hold(&text[..end], &secret.0));
            hold(&lower[..end], MARK);
            // A token at the end may grow, and what cuts it may be a part of it.
            let before = lower[..end].iter().rposition(|&byte| !in_token(byte.into())).map_or(0, |at| at + 1);
            if lower[..before].ends_with(MARK.as_bytes()) {
                cut = cut.min(before - MARK.len());
            }
            if cut == end {
                return end;
            }
            end = cut;
        }
    }
}

/// Whether a character may be one of a token.
fn in_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=".contains(c)
}

/// What stands before a token in a header.
const MARK: &str = "bearer ";

/// Replaces the token after each `Bearer ` that looks like one: 8 characters or more.
fn redact_bearer(text: String) -> String {
    if text.len() < MARK.len() {
        return text;
    }
    let lower = text.to_ascii_lowercase();
    if !lower.contains(MARK) {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(MARK) {
        let start = at + found + MARK.len();
        let token = text[start..].find(|c: char| !in_token(c)).unwrap_or(text.len() - start);
        clean.push_str(&text[at..start]);
        clean.push_str(if token >= 8 { "[redacted]" } else { &text[start..start + token] });
        at = start + token;
    }
    clean.push_str(&text[at..]);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_while_it_is_written_cuts_no_key_in_two() {
        let redactor = Redactor::new(["sk-abc123", "abc", "ü-key"].map(Secret::new));
        for (text, whole) in [
            ("", 0),
            ("plain word", 10),
            ("words sk-ab", 6),
            ("words s", 6),
            ("sk-abc1234 ", 11),
            ("sk-abc123", 0),
            ("a bear", 2),
            ("Authorization: Bearer abcdefgh", 15),
            ("Authorization: Bearer abcdefgh ", 31),
            ("für ü", 5),
        ] {
            assert_eq!(redactor.whole(text.as_bytes()), whole, "{text}");
        }
        // However it arrives, the pieces make up the text as it is redacted whole.
        let text = "a sk-abc123 b Bearer 0123456789, bearer x; sk-abcsk-abc123 and ü-key ü- abc";
        for size in 1..20 {
            let (mut held, mut shown) = (String::new(), String::new());
            for piece in text.chars().collect::<Vec<_>>().chunks(size) {
                held.extend(piece);
                let rest = held.split_off(redactor.whole(held.as_bytes()));
                shown += &redactor.redact(&std::mem::replace(&mut held, rest));
            }
            shown += &redactor.redact(&held);
            assert_eq!(shown, redactor.redact(text), "{size}");
        }
        // So do bytes, also if they are no UTF-8.
        let text = [text.as_bytes(), b"\xff sk-abc123\xc3 Bearer 0123456789\xfe"].concat();
        for size in 1..20 {
            let (mut held, mut shown) = (Vec::new(), Vec::new());
            for piece in text.chunks(size) {
                held.extend(piece);
                let rest = held.split_off(redactor.whole(&held));
                shown.extend(redactor.redact_bytes(std::mem::replace(&mut held, rest)));
            }
            shown.extend(redactor.redact_bytes(held));
            assert_eq!(shown, redactor.redact_bytes(text.clone()), "{size}");
            assert!(shown.ends_with(b"\xff [redacted]\xc3 Bearer [redacted]\xfe"));
        }
    }

    #[test]
    fn values_never_show() {
        let secret = Secret::new("sk-123456789");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        let redactor = Redactor::new([Secret::new("abcdef"), Secret::new("abcdefgh")]);
        for (text, wanted) in [
            ("key abcdefgh!", "key [redacted]!"),
            ("abcdefabcdef", "[redacted][redacted]"),
            ("Authorization: Bearer tok-12345678.x, more", "Authorization: Bearer [redacted], more"),
            ("bearer of news", "bearer of news"),
            ("Ünïcode bearer ", "Ünïcode bearer "),
            ("", ""),
        ] {
            assert_eq!(redactor.redact(text), wanted);
        }
    }
}
