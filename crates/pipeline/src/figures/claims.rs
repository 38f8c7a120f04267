//! Arithmetic that a text claims, computed again: lines with and without `=`, shares, sums of lists and of tables.

use super::TextFault;
use super::number::Number;
use super::scan::{Placed, Token, Written, tokens};
use super::{brackets, lists, tables, words};

/// Words that make a number a rounded one.
pub(super) const ABOUT: [&str; 6] = ["about", "roughly", "around", "approximately", "nearly", "some"];

/// Where a token stands in its line, in bytes.
pub(super) type Placement = (usize, usize);

/// Longest piece of a text that is shown.
const LONGEST: usize = 160;
/// Longest line that is computed.
const LONGEST_LINE: usize = 20_000;

/// What does not add up in a text: Markdown, or any text in lines.
pub fn arithmetic(text: &str) -> Vec<TextFault> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (n, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if !fenced && line.len() <= LONGEST_LINE {
            line_faults(line, n + 1, &mut found);
        }
    }
    tables::sums(text, &mut found);
    lists::sums(text, &mut found);
    found.sort_by_key(|fault| fault.line);
    found
}

pub(super) fn fault(line: usize, said: &str, message: String) -> TextFault {
    let mut short: String = said.trim().chars().take(LONGEST).collect();
    if short.len() < said.trim().len() {
        short.push('…');
    }
    TextFault { line, said: short, message }
}

/// The sentences of a line, so that a claim does not reach into the next one.
pub(super) fn sentences(line: &str) -> Vec<&str> {
    line.split(" | ").flat_map(|cell| cell.split(". ")).collect()
}

fn line_faults(line: &str, n: usize, found: &mut Vec<TextFault>) {
    for sentence in sentences(line) {
        let tokens = tokens(sentence);
        if tokens.iter().filter(|placed| matches!(placed.token, Token::Number(_))).count() < 2 {
            continue;
        }
        let before = found.len();
        equations(sentence, &tokens, n, found);
        if found.len() == before {
            claims(sentence, &tokens, n, found);
        }
        if found.len() == before {
            brackets::faults(sentence, n, found);
        }
    }
}

/// Claims without a sign for them.
pub(super) fn claims(sentence: &str, tokens: &[Placed], n: usize, found: &mut Vec<TextFault>) {
    let before = found.len();
    products(sentence, tokens, n, found);
    list(sentence, tokens, n, found);
    shares(sentence, tokens, n, found);
    if found.len() == before {
        words::faults(sentence, tokens, n, found);
    }
}

/// A reading of an expression: its value, and what it may be off by because its numbers are rounded.
#[derive(Debug, Clone, Copy)]
struct Reading {
    value: Number,
    off: Number,
}

/// Numbers and operators that make an expression; words between are units.
fn expression(tokens: &[(Token, (usize, usize))], line: &str) -> Option<Reading> {
    let mut parser = Parser { tokens, at: 0, line };
    let reading = parser.sum(0)?;
    (parser.at == tokens.len()).then_some(reading)
}

struct Parser<'a> {
    tokens: &'a [(Token, (usize, usize))],
    at: usize,
    line: &'a str,
}

impl Parser<'_> {
    fn takes(&mut self, signs: &[char]) -> Option<char> {
        match self.tokens.get(self.at) {
            Some((Token::Operator(sign), _)) if signs.contains(sign) => {
                self.at += 1;
                Some(*sign)
            }
            _ => None,
        }
    }

    fn sum(&mut self, depth: usize) -> Option<Reading> {
        let mut left = self.product(depth)?;
        while let Some(sign) = self.takes(&['+', '-']) {
            let right = self.product(depth)?;
            let value =
                if sign == '+' { left.value.plus(right.value) } else { left.value.minus(right.value) };
            left = Reading { value: value?, off: left.off.plus(right.off)? };
        }
        Some(left)
    }

    fn product(&mut self, depth: usize) -> Option<Reading> {
        let mut left = self.single(depth)?;
        while let Some(sign) = self.takes(&['*', '/']) {
            let right = self.single(depth)?;
            // Relative errors add.
            let (a, b) = (left.value, right.value);
            let value = if sign == '*' { a.times(b)? } else { a.over(b)? };
            let share = |reading: Reading| reading.off.over(reading.value.abs());
            let off = match (share(left), share(right)) {
                (Some(a), Some(b)) => a.plus(b)?.times(value.abs())?,
                _ => Number::from(0),
            };
            left = Reading { value, off };
        }
        Some(left)
    }

    fn single(&mut self, depth: usize) -> Option<Reading> {
        if depth > 8 {
            return None;
        }
        if self.takes(&['(']).is_some() {
            let inner = self.sum(depth + 1)?;
            self.takes(&[')'])?;
            return Some(inner);
        }
        if self.takes(&['-']).is_some() {
            let inner = self.single(depth + 1)?;
            return Some(Reading { value: Number::from(0).minus(inner.value)?, off: inner.off });
        }
        let (Token::Number(written), at) = self.tokens.get(self.at)? else { return None };
        self.at += 1;
        // A whole number is meant as it is; only one with places or a power of a thousand may be rounded.
        let text = &self.line[at.0..at.1];
        let is_rounded = written.thousands > 0 || text.contains('.');
        Some(Reading { value: written.number, off: if is_rounded { written.half } else { Number::from(0) } })
    }
}

/// The tokens next to an equals sign that make one side of it: numbers, operators, and the words behind a number.
/// A second number without an operator between them ends the side.
fn side(tokens: &[Placed], from_end: bool) -> Option<Vec<(Token, (usize, usize))>> {
    let mut out: Vec<(Token, (usize, usize))> = Vec::new();
    let mut words = 0;
    let order: Box<dyn Iterator<Item = &Placed>> =
        if from_end { Box::new(tokens.iter().rev()) } else { Box::new(tokens.iter()) };
    for placed in order {
        match &placed.token {
            Token::Break | Token::Equals | Token::About => break,
            Token::Word(word) => {
                // A hyphen or slash between digits: a range, a date, a share. Nothing is computed.
                if ["-", "/"].contains(&word.as_str()) {
                    let at = out.last().map(|(_, at)| *at);
                    let touches = at.is_some_and(|at| at.0 == placed.at.1 || at.1 == placed.at.0);
                    if touches && !out.is_empty() {
                        return None;
                    }
                }
                words += 1;
                if words > 6 {
                    break;
                }
            }
            Token::Number(_) | Token::Operator('(')
                if !from_end && matches!(out.last(), Some((Token::Number(_) | Token::Operator(')'), _))) =>
            {
                break;
            }
            Token::Number(_) | Token::Operator(')')
                if from_end && matches!(out.last(), Some((Token::Number(_) | Token::Operator('('), _))) =>
            {
                break;
            }
            token => {
                words = 0;
                out.push((token.clone(), placed.at));
            }
        }
    }
    if from_end {
        out.reverse();
    }
    // Operators and brackets at the open end belong to what is not read.
    let open = |token: &Token, end: bool| match token {
        Token::Operator(sign) => *sign != if end { ')' } else { '(' },
        _ => false,
    };
    while out.first().is_some_and(|(token, _)| open(token, false)) {
        out.remove(0);
    }
    while out.last().is_some_and(|(token, _)| open(token, true)) {
        out.pop();
    }
    let count = |sign: char| out.iter().filter(|(token, _)| *token == Token::Operator(sign)).count();
    if count('(') > count(')') {
        // `(21 × 850 = 17,850)`: the bracket is around the claim.
        let at = out.iter().position(|(token, _)| *token == Token::Operator('('))?;
        out.drain(..=at);
    }
    (!out.is_empty()).then_some(out)
}

fn has_operator(tokens: &[(Token, (usize, usize))]) -> bool {
    tokens.iter().any(|(token, _)| matches!(token, Token::Operator('+' | '-' | '*' | '/')))
}

/// Claims with a sign or word for equality: one side at least is an expression, the other one a number.
fn equations(sentence: &str, tokens: &[Placed], n: usize, found: &mut Vec<TextFault>) {
    for (at, placed) in tokens.iter().enumerate() {
        let mut is_word = false;
        let about = match &placed.token {
            Token::Equals => false,
            Token::About => true,
            Token::Word(word) if ["is", "are"].contains(&word.as_str()) => {
                is_word = true;
                false
            }
            _ => continue,
        };
        let (Some(left), Some(right)) = (side(&tokens[..at], true), side(&tokens[at + 1..], false)) else {
            continue;
        };
        let about = about
            || tokens[at + 1..]
                .iter()
                .take(2)
                .any(|placed| matches!(&placed.token, Token::Word(word) if ABOUT.contains(&word.as_str())));
        if !has_operator(&left) && !has_operator(&right) {
            continue;
        }
        // `10 - 12 weeks is 3 months`, `2 × 3 m panels are 5 cm thick`: after `is` only money is computed.
        let is_money = |side: &[(Token, Placement)]| {
            side.iter()
                .any(|(token, _)| matches!(token, Token::Number(written) if written.currency.is_some()))
        };
        if is_word && !(has_operator(&left) && is_money(&left) && is_money(&right)) {
            continue;
        }
        // `a = b + c` and `b + c = a`.
        let (sum, claimed) = if has_operator(&left) { (&left, &right) } else { (&right, &left) };
        let [(Token::Number(claimed), place), ..] = &claimed[..] else { continue };
        if let Some(message) = differs(sentence, sum, claimed, *place, about) {
            found.push(fault(n, sentence, message));
        }
    }
}

/// What is wrong with a sum or product that is claimed to be a number; none if some reading of it holds.
pub(super) fn differs(
    line: &str,
    sum: &[(Token, (usize, usize))],
    claimed: &Written,
    place: (usize, usize),
    about: bool,
) -> Option<String> {
    let reading = expression(sum, line)?;
    let is_sum = !sum.iter().any(|(token, _)| matches!(token, Token::Operator('*' | '/')));
    let mut allowed = claimed.rounding(line, place);
    if !is_sum {
        allowed = allowed.plus(reading.off)?;
    }
    if about {
        allowed = allowed.plus(claimed.number.abs().over(Number::from(20))?)?;
    }
    let near = |value: Number| value.minus(claimed.number).is_some_and(|gap| gap.abs() <= allowed);
    // A percentage may be read as its number: 3 / 4 = 75%, 40% + 35% = 75%, 3 / 4 × 100 = 75%.
    let as_percent = |value: Number| claimed.percent && value.scaled(-2).is_some_and(near);
    if near(reading.value) || as_percent(reading.value) {
        return None;
    }
    // `3.2 + 1.6 = 4.8 million`, `3.2 + 1.6 million = 4.8 million`: the last power is that of all.
    let bare = |written: &Written| written.thousands == 0 && written.number < Number::from(1000);
    let last = sum
        .iter()
        .rev()
        .find_map(|(token, _)| if let Token::Number(w) = token { Some(w.thousands) } else { None })?;
    let power = last.max(claimed.thousands);
    if power > 0 && is_sum {
        let shared: Vec<_> = sum
            .iter()
            .map(|(token, at)| match token {
                Token::Number(written) if bare(written) => {
                    let mut written = written.clone();
                    written.number = written
                        .number
                        .scaled(3 * i32::try_from(power).unwrap_or(0))
                        .unwrap_or(written.number);
                    (Token::Number(written), *at)
                }
                other => (other.clone(), *at),
            })
            .collect();
        if expression(&shared, line).is_some_and(|reading| near(reading.value)) {
            return None;
        }
    }
    let computed =
        if claimed.percent { format!("{}%", reading.value.scaled(2)?) } else { reading.value.to_string() };
    let said =
        if claimed.percent { format!("{}%", claimed.number.scaled(2)?) } else { claimed.number.to_string() };
    let thousand = [3, -3, 6, -6].into_iter().find(|&power| reading.value.scaled(power).is_some_and(near));
    let hint = thousand.map_or("", |_| ": off by a power of a thousand");
    Some(format!("comes to {computed}, not {said}{hint}"))
}

fn words_between(tokens: &[Placed], from: usize, to: usize) -> Vec<&str> {
    tokens[from..to]
        .iter()
        .filter_map(|placed| if let Token::Word(word) = &placed.token { Some(word.as_str()) } else { None })
        .collect()
}

/// The numbers of a sentence, with where they stand among its tokens.
fn numbers(tokens: &[Placed]) -> Vec<(usize, &Written, (usize, usize))> {
    let of = |(at, placed): (usize, &'_ Placed)| -> Option<usize> {
        matches!(placed.token, Token::Number(_)).then_some(at)
    };
    let places: Vec<usize> = tokens.iter().enumerate().filter_map(of).collect();
    places
        .into_iter()
        .filter_map(|at| {
            if let Token::Number(written) = &tokens[at].token {
                Some((at, written, tokens[at].at))
            } else {
                None
            }
        })
        .collect()
}

/// `1,400 m³ at EUR 300 per m³, EUR 420,000 in all`: three numbers and no other.
fn products(sentence: &str, tokens: &[Placed], n: usize, found: &mut Vec<TextFault>) {
    let [(a, count, place), (b, price, _), (c, total, total_at)] = numbers(tokens)[..] else { return };
    let is_each = ["a", "an", "per", "each", "for"];
    let between = words_between(tokens, a, b);
    let after = words_between(tokens, b, c);
    let behind = words_between(tokens, c, tokens.len());
    let at = between.last() == Some(&"at") && between.len() <= 4;
    let each = after.first().is_some_and(|word| is_each.contains(word));
    // `EUR 850 a month` is a price of a month, not of what is counted.
    let of_time =
        after.iter().take(3).any(|word| ["day", "week", "month", "year", "hour", "night"].contains(word));
    let in_all =
        matches!(behind[..], ["in", "all" | "total", ..] | ["altogether" | "together" | "overall", ..]);
    let money = price.currency.is_some() && price.currency == total.currency && count.currency.is_none();
    if !(at && each && in_all && money && !of_time) || count.percent {
        return;
    }
    let sum = vec![
        (Token::Number(count.clone()), place),
        (Token::Operator('*'), place),
        (Token::Number(price.clone()), tokens[b].at),
    ];
    if let Some(message) = differs(sentence, &sum, total, total_at, false) {
        found.push(fault(n, sentence, message));
    }
}

/// `EUR 6.4 million in all: EUR 3.2 million from the city, EUR 1.6 million …`: amounts of one currency behind a colon.
fn list(sentence: &str, tokens: &[Placed], n: usize, found: &mut Vec<TextFault>) {
    let Some(colon) = sentence.find(": ") else { return };
    let all = numbers(tokens);
    let (head, parts): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, _, at)| at.0 < colon);
    let [(at, total, total_at)] = head[..] else { return };
    let colon_at = tokens.iter().position(|placed| placed.at.0 == colon).unwrap_or(at);
    let behind = words_between(tokens, at, colon_at.max(at));
    let before = words_between(tokens, 0, at);
    let is_total = behind.windows(2).any(|pair| matches!(pair, ["in", "all" | "total"]))
        || behind.iter().any(|word| ["altogether", "together"].contains(word))
        || before.iter().any(|word| ["total", "Total"].contains(word));
    let money = total.currency.is_some() && parts.iter().all(|(_, part, _)| part.currency == total.currency);
    if !is_total || !money || parts.len() < 2 || behind.contains(&"least") || before.contains(&"least") {
        return;
    }
    // A rate is no part of a sum.
    let is_rate = |(at, ..): &(usize, &Written, (usize, usize))| matches!(tokens.get(at + 1).map(|placed| &placed.token), Some(Token::Word(word)) if ["a", "per", "each", "/"].contains(&word.as_str()));
    if parts.iter().any(is_rate) {
        return;
    }
    let mut sum = Vec::new();
    for (_, part, at) in &parts {
        if !sum.is_empty() {
            sum.push((Token::Operator('+'), *at));
        }
        sum.push((Token::Number((*part).clone()), *at));
    }
    if let Some(message) = differs(sentence, &sum, total, total_at, false) {
        found.push(fault(n, sentence, message));
    }
}

/// `11 of 32 stalls (34%)`.
fn shares(sentence: &str, tokens: &[Placed], n: usize, found: &mut Vec<TextFault>) {
    for three in numbers(tokens).windows(3) {
        let [(a, part, _), (b, whole, _), (c, share, share_at)] = three[..] else { continue };
        let between = words_between(tokens, a, b);
        let bracket = c > 0 && tokens[c - 1].token == Token::Operator('(');
        let closed = tokens.get(c + 1).is_some_and(|placed| placed.token == Token::Operator(')'));
        let plain = !part.percent && !whole.percent && part.number <= whole.number;
        let breaks = tokens[a..c].iter().any(|placed| placed.token == Token::Break);
        let is_share = matches!(between[..], ["of"] | ["of", "the"] | ["out", "of"]);
        if !(is_share && share.percent && bracket && closed && plain && !breaks) {
            continue;
        }
        let sum = vec![
            (Token::Number(part.clone()), tokens[a].at),
            (Token::Operator('/'), tokens[a].at),
            (Token::Number(whole.clone()), tokens[b].at),
        ];
        if let Some(message) = differs(sentence, &sum, share, share_at, false) {
            found.push(fault(n, sentence, message));
        }
    }
}
