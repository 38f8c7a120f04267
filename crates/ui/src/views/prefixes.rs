//! How much of the prompts of a run repeats the beginning of an earlier one: what a server with a
//! prompt cache need not read again.

use std::collections::BTreeSet;
use std::ops::Bound;

use schemars::JsonSchema;
use serde::Serialize;

/// Sizes in bytes of everything sent as system prompt and prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Prefixes {
    /// Calls looked at.
    pub calls: u64,
    /// All of it.
    pub bytes: u64,
    /// Of that, what repeats the beginning of an earlier call to the same model.
    pub shared_bytes: u64,
}

impl Prefixes {
    /// Looks at calls in the order they were made: the model asked, and the text it was sent. Calls that
    /// were in flight together count as if one had followed the other.
    pub fn of<'a>(calls: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Prefixes {
        let mut seen: BTreeSet<(&str, &[u8])> = BTreeSet::new();
        let mut sum = Prefixes::default();
        for (model, text) in calls {
            // Of all texts in order, the two beside this one have most in common with it.
            let here = (model, text);
            let before = seen.range((Bound::Unbounded, Bound::Included(here))).next_back();
            let after = seen.range((Bound::Excluded(here), Bound::Unbounded)).next();
            let in_common = |other: &(&str, &[u8])| {
                let pairs = other.1.iter().zip(text).take_while(|(a, b)| a == b);
                if other.0 == model { pairs.count() as u64 } else { 0 }
            };
            sum.calls += 1;
            sum.bytes += text.len() as u64;
            sum.shared_bytes += [before, after].into_iter().flatten().map(in_common).max().unwrap_or(0);
            seen.insert(here);
        }
        sum
    }

    /// The share, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.shared_bytes as f64 / self.bytes as f64 }
    }

    /// For people.
    pub fn text(&self) -> String {
        format!("{:.0}% of the prompts repeat the beginning of an earlier one\n", 100.0 * self.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_an_earlier_beginning() {
        let of = |calls: &[(&str, &str)]| {
            let sum = Prefixes::of(calls.iter().map(|(model, text)| (*model, text.as_bytes())));
            (sum.calls, sum.bytes, sum.shared_bytes)
        };
        assert_eq!(of(&[]), (0, 0, 0));
        assert_eq!(of(&[("m", "abcd")]), (1, 4, 0));
        assert_eq!(of(&[("m", "abcd"), ("m", "abxy"), ("m", "abcz")]), (3, 12, 5));
        assert_eq!(of(&[("m", "abcd"), ("m", "abcd")]), (2, 8, 4));
        assert_eq!(of(&[("m", "abcd"), ("n", "abcd")]), (2, 8, 0), "another model has read nothing");
        assert_eq!(of(&[("m", "ab"), ("m", "abcd"), ("m", "a")]), (3, 7, 3));
        assert_eq!(Prefixes::default().share(), 0.0);
    }
}
