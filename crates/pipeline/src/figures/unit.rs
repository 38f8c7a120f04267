//! Units as products of words with exponents: `EUR/m³`, `stalls`, `people a week`.

use std::collections::BTreeMap;
use std::fmt;

/// A unit: words and their exponents; none for a bare number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit(BTreeMap<String, i32>);

impl Unit {
    /// The unit a text names. A currency, if there is one, is one more factor.
    pub fn parse(text: &str, currency: &str) -> Unit {
        let mut unit = Unit::default();
        let text = text.replace(" per ", "/").replace(" a ", "/").replace(" an ", "/");
        for (n, part) in text.split('/').enumerate() {
            for factor in part.split(['·', '*']) {
                unit.add(factor, if n == 0 { 1 } else { -1 });
            }
        }
        if !currency.trim().is_empty() && !unit.0.contains_key(currency.trim()) {
            unit.add(currency, 1);
        }
        unit
    }

    fn add(&mut self, word: &str, sign: i32) {
        let word = word.trim();
        let (word, exponent) = match word.char_indices().next_back() {
            Some((at, '²' | '2')) if at > 0 => (&word[..at], 2),
            Some((at, '³' | '3')) if at > 0 => (&word[..at], 3),
            _ => (word, 1),
        };
        if word.is_empty() || ["1", "%"].contains(&word) {
            return;
        }
        let is_code = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        let lower = if is_code { word.to_owned() } else { word.to_lowercase() };
        // One stall, two stalls.
        let word = match lower.strip_suffix('s') {
            Some(one) if one.len() > 2 && !one.ends_with('s') => one.to_owned(),
            _ => lower,
        };
        self.raise(&word, sign * exponent);
    }

    fn raise(&mut self, word: &str, by: i32) {
        let exponent = self.0.entry(word.to_owned()).or_default();
        *exponent = exponent.saturating_add(by);
        self.0.retain(|_, exponent| *exponent != 0);
    }

    /// The product, or with `sign` -1 the quotient.
    pub fn times(&self, other: &Unit, sign: i32) -> Unit {
        let mut unit = self.clone();
        for (word, exponent) in &other.0 {
            unit.raise(word, exponent.saturating_mul(sign));
        }
        unit
    }

    /// Whether it is that of a bare number.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The currency in it: a code of three capitals above the line.
    pub fn currency(&self) -> Option<String> {
        let is_code = |word: &str| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        self.0.iter().find(|(word, exponent)| **exponent > 0 && is_code(word)).map(|(word, _)| word.clone())
    }

    /// The one word it is, such as `day`.
    pub fn word(&self) -> Option<&str> {
        match self.0.iter().next() {
            Some((word, 1)) if self.0.len() == 1 => Some(word),
            _ => None,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = |exponent: i32| match exponent.abs() {
            1 => String::new(),
            2 => "²".to_owned(),
            3 => "³".to_owned(),
            other => format!("^{other}"),
        };
        let side = |above: bool| -> Vec<String> {
            let words = self.0.iter().filter(|(_, exponent)| (**exponent > 0) == above);
            words.map(|(word, exponent)| format!("{word}{}", power(*exponent))).collect()
        };
        let (above, below) = (side(true), side(false));
        match (above.is_empty(), below.is_empty()) {
            (true, true) => f.write_str("no unit"),
            (false, true) => f.write_str(&above.join("·")),
            (true, false) => write!(f, "1/{}", below.join("/")),
            (false, false) => write!(f, "{}/{}", above.join("·"), below.join("/")),
        }
    }
}

/// Words that end the noun of a unit: `volunteer hours a week`.
const BEHIND: [&str; 20] = [
    "a", "an", "per", "of", "from", "to", "in", "at", "for", "on", "by", "with", "inside", "each", "every",
    "after", "before", "until", "between", "and",
];

/// A unit as it is written behind a number: `1 day`, `2 days`, `1 visit a week`. A unit of one that is written for many
/// loses its plural; one of time gets it.
pub fn in_number(unit: &str, is_one: bool) -> String {
    let end = unit.find('/').unwrap_or(unit.len());
    let words = unit[..end].split_inclusive(' ');
    let head: usize = words.take_while(|word| !BEHIND.contains(&word.trim())).map(str::len).sum();
    let noun = unit[..head].trim_end();
    let start =
        noun.rfind([' ', '·', '-']).map_or(0, |at| at + noun[at..].chars().next().map_or(1, char::len_utf8));
    let (before, last, rest) = (&noun[..start], &noun[start..], &unit[noun.len()..]);
    let is_time = ["minute", "hour", "day", "night", "week", "month", "quarter", "year"].contains(&last);
    let last = match (is_one, last) {
        (true, "people") => "person".to_owned(),
        (true, "children") => "child".to_owned(),
        (true, word) => one_of(word).unwrap_or(word.to_owned()),
        (false, word) if is_time => format!("{word}s"),
        (false, word) => word.to_owned(),
    };
    format!("{before}{last}{rest}")
}

/// A plural in English as the word of one; none if it is none.
fn one_of(word: &str) -> Option<String> {
    let is_word = word.len() > 3 && word.chars().all(|c| c.is_lowercase());
    let no_plural =
        ["ss", "us", "is"].iter().any(|end| word.ends_with(end)) || ["series", "species"].contains(&word);
    if !is_word || no_plural {
        return None;
    }
    let one = word.strip_suffix('s')?;
    let stem = one
        .strip_suffix('e')
        .filter(|stem| ["s", "sh", "ch", "x", "z"].iter().any(|end| stem.ends_with(end)));
    Some(match (one.strip_suffix("ie"), stem) {
        (Some(stem), _) if stem.len() > 1 => format!("{stem}y"),
        // `boxes`, `benches`, but not `houses`.
        (_, Some(stem)) if !stem.ends_with('s') || stem.ends_with("ss") => stem.to_owned(),
        _ => one.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_multiply_and_cancel() {
        let unit = |text: &str| Unit::parse(text, "");
        assert_eq!(unit("stalls"), unit("stall"));
        assert_eq!(unit("visits a week"), unit("visit/week"));
        assert_eq!(unit("EUR per m3"), Unit::parse("1/m³", "EUR"));
        assert_eq!(unit("m³").times(&unit("EUR/m³"), 1), Unit::parse("", "EUR"));
        assert!(unit("m²").times(&unit("m2"), -1).is_none() && unit("%").is_none());
        assert_ne!(unit("EUR"), unit("USD"));
        assert_eq!(unit("EUR/month/stall").to_string(), "EUR/month/stall");
        assert_eq!(unit("glass"), unit("glass"));
        assert_eq!(unit("days").word(), Some("day"));
    }

    #[test]
    fn one_is_no_plural() {
        for (unit, one, many) in [
            ("days", "day", "days"),
            ("day", "day", "days"),
            ("working days", "working day", "working days"),
            ("visits a week", "visit a week", "visits a week"),
            ("volunteer hours a week", "volunteer hour a week", "volunteer hours a week"),
            (
                "months from the start to the decision",
                "month from the start to the decision",
                "months from the start to the decision",
            ),
            ("days/week", "day/week", "days/week"),
            ("people inside at once", "person inside at once", "people inside at once"),
            ("benches", "bench", "benches"),
            ("boxes", "box", "boxes"),
            ("houses", "house", "houses"),
            ("classes", "class", "classes"),
            ("bodies", "body", "bodies"),
            ("m³ of soil", "m³ of soil", "m³ of soil"),
            ("m/s", "m/s", "m/s"),
            ("glass", "glass", "glass"),
            ("%", "%", "%"),
            ("per month", "per month", "per month"),
            ("", "", ""),
            ("Tage", "Tage", "Tage"),
            ("été·jours", "été·jour", "été·jours"),
        ] {
            assert_eq!((in_number(unit, true), in_number(unit, false)), (one.into(), many.into()), "{unit}");
        }
    }
}
