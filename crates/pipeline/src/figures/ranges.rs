//! Ranges of a line: `EUR 150,000 to 400,000` is two amounts of one currency, and `EUR 0.8 to 1.6 million` two of millions.

use super::number::Number;
use super::scan::{Placed, Token, Written, tokens};

/// A number of a line, or a range of two.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stated {
    pub from: Written,
    pub to: Option<Written>,
    /// Its first byte, and the one behind it; a currency before it does not count.
    pub at: (usize, usize),
    /// Which of the tokens it begins with.
    pub token: usize,
}

impl Stated {
    /// Its number, or both ends.
    pub fn ends(&self) -> impl Iterator<Item = &Written> {
        [&self.from].into_iter().chain(&self.to)
    }
}

/// What may follow the second end of a range: `EUR 150,000 to 400,000 more`, but not `EUR 500 to 1,200 members`.
const AFTER: [&str; 36] = [
    "a",
    "an",
    "per",
    "each",
    "every",
    "more",
    "less",
    "for",
    "and",
    "or",
    "in",
    "of",
    "at",
    "from",
    "on",
    "by",
    "if",
    "with",
    "until",
    "too",
    "is",
    "are",
    "would",
    "will",
    "may",
    "as",
    "over",
    "but",
    "when",
    "before",
    "after",
    "extra",
    "only",
    "net",
    "gross",
    "depending",
];

/// The numbers of a line and its ranges, in order.
pub(super) fn stated(line: &str) -> Vec<Stated> {
    let tokens = tokens(line);
    let mut found: Vec<Stated> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Token::Number(written) = &tokens[at].token {
            let range = range(line, &tokens, at);
            let (from, to) = range.clone().map_or((written.clone(), None), |(from, to)| (from, Some(to)));
            let last = if range.is_some() { at + 2 } else { at };
            found.push(Stated { from, to, at: (tokens[at].at.0, tokens[last].at.1), token: at });
            at = last;
        }
        at += 1;
    }
    found
}

fn range(line: &str, tokens: &[Placed], at: usize) -> Option<(Written, Written)> {
    let number = |at: usize| match &tokens.get(at)?.token {
        Token::Number(written) => Some(written.clone()),
        _ => None,
    };
    let (mut from, mut to, place) = (number(at)?, number(at + 2)?, tokens[at + 2].at);
    let between = tokens.get(at + 1)?;
    let is_link = match &between.token {
        Token::Word(word) if word == "and" => {
            matches!(&tokens.get(at.checked_sub(1)?)?.token, Token::Word(word) if word.eq_ignore_ascii_case("between"))
        }
        Token::Word(word) => word == "to" || word == "-",
        Token::Operator(sign) => *sign == '-',
        Token::Break => ["–", "—"].contains(&&line[between.at.0..between.at.1]),
        _ => false,
    };
    if !is_link {
        return None;
    }
    let is_counted = match tokens.get(at + 3).map(|placed| &placed.token) {
        Some(Token::Word(word)) => !AFTER.contains(&word.to_lowercase().as_str()),
        _ => false,
    };
    match (&from.currency, &to.currency) {
        (Some(one), Some(other)) if one != other => return None,
        (Some(_), None) if to.percent || is_counted && to.thousands == 0 => return None,
        (Some(_), None) => to.currency.clone_from(&from.currency),
        // `150,000 to 400,000 EUR`, but not `32 to EUR 400`.
        (None, Some(code)) if line[place.0..place.1].ends_with(code.as_str()) => {
            from.currency.clone_from(&to.currency);
        }
        (None, Some(_)) => return None,
        _ => (),
    }
    let power = match (to.percent && !from.percent, from.thousands, to.thousands) {
        (true, ..) => -2,
        (_, 0, power) if from.number < Number::from(1000) => 3 * i32::try_from(power).ok()?,
        _ => 0,
    };
    if power != 0 {
        from.number = from.number.scaled(power)?;
        from.half = from.half.scaled(power)?;
        (from.percent, from.thousands) = (to.percent, to.thousands);
    }
    (from.percent == to.percent && from.number < to.number).then_some((from, to))
}
