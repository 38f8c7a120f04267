//! The numbers and operators of a line of text, so that what it claims can be computed.

use super::number::Number;

/// A number as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What it amounts to; a percentage is divided by a hundred.
    pub number: Number,
    /// Half a step of its last place that counts: what it may be off by for having been rounded.
    pub half: Number,
    /// The code or sign of a currency before or after it.
    pub currency: Option<String>,
    /// Whether it is a percentage.
    pub percent: bool,
    /// The power of a thousand that a word or letter behind it gives.
    pub thousands: u32,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A number.
    Number(Written),
    /// `+`, `-`, `*`, `/`, `(`, `)`.
    Operator(char),
    /// `=`, or a word that means it.
    Equals,
    /// `≈`, or a word that means it.
    About,
    /// A word, or a sign that means nothing here.
    Word(String),
    /// What ends a claim: a comma, a colon, a bracket of another kind.
    Break,
}

/// A token with where it stands, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// What it is.
    pub token: Token,
    /// Its first byte, and the one behind it.
    pub at: (usize, usize),
}

const CURRENCIES: [&str; 16] = [
    "EUR", "USD", "GBP", "CHF", "DKK", "SEK", "NOK", "PLN", "CZK", "JPY", "CNY", "INR", "CAD", "AUD", "BRL",
    "ZAR",
];

/// The power of a thousand of a word.
fn thousands(word: &str) -> Option<u32> {
    Some(match word {
        "k" | "K" | "thousand" => 1,
        "M" | "mn" | "million" | "millions" => 2,
        "bn" | "B" | "billion" | "billions" => 3,
        "trillion" => 4,
        _ => return None,
    })
}

fn half_step(text: &str, is_rounded: bool) -> Option<Number> {
    let places = text.split_once('.').map_or(0, |(_, part)| part.len());
    let zeros = match places {
        0 if is_rounded => text.bytes().rev().filter(|&b| b != b',').take_while(|&b| b == b'0').count(),
        _ => 0,
    };
    let exponent = i32::try_from(zeros).ok()? - i32::try_from(places).ok()?;
    Number::from(1).scaled(exponent)?.over(Number::from(2))
}

/// Reads a line.
pub fn tokens(line: &str) -> Vec<Placed> {
    let mut found: Vec<Placed> = Vec::new();
    let mut at = 0;
    let mut currency: Option<String> = None;
    while let Some(c) = line[at..].chars().next() {
        let start = at;
        let before = line[..start].chars().next_back();
        at += c.len_utf8();
        let mut push = |token, at| found.push(Placed { token, at: (start, at) });
        match c {
            '0'..='9' => {
                let rest = &line[start..];
                let mut end =
                    rest.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.')).unwrap_or(rest.len());
                end -= rest[..end].len() - rest[..end].trim_end_matches([',', '.']).len();
                // A list such as `3,4` or a version `1.2.3` is no number.
                let text = &rest[..end];
                at = start + end;
                let glued = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
                match Number::parse(text).filter(|_| !glued) {
                    Some(number) => {
                        let money = currency.take();
                        match suffixed(line, at, text, number, money) {
                            Some((written, end)) => {
                                at = end;
                                push(Token::Number(written), at);
                            }
                            None => push(Token::Word(text.to_owned()), at),
                        }
                    }
                    None => {
                        currency = None;
                        push(Token::Word(text.to_owned()), at);
                    }
                }
                continue;
            }
            '€' | '$' | '£' => {
                currency = Some(c.to_string());
                continue;
            }
            ' ' | '\t' | '\u{a0}' | '\u{202f}' | '*' | '_' | '`' if c != '*' || is_emphasis(line, start) => {
                continue;
            }
            '+' | '×' | '÷' | '*' | '·' | '−' | '(' | ')' => {
                let sign = match c {
                    '×' | '·' => '*',
                    '÷' => '/',
                    '−' => '-',
                    other => other,
                };
                push(Token::Operator(sign), at);
            }
            '-' | '/' => {
                // With spaces around it, it is an operator; between digits it may be a range, a date or a share.
                let spaced = before == Some(' ') && line[at..].starts_with(' ');
                push(if spaced { Token::Operator(c) } else { Token::Word(c.to_string()) }, at);
            }
            '=' => push(Token::Equals, at),
            '≈' => push(Token::About, at),
            ',' | ';' | ':' | '.' | '!' | '?' | '|' | '–' | '—' | '[' | ']' | '{' | '}' | '<' | '>' | '→' =>
            {
                push(Token::Break, at);
            }
            _ if c.is_alphabetic() => {
                let rest = &line[start..];
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'))
                    .unwrap_or(rest.len());
                at = start + end;
                let word = &rest[..end];
                if CURRENCIES.contains(&word) {
                    currency = Some(word.to_owned());
                    continue;
                }
                // `comes to`, `divided by`: two words or three that are one sign.
                let behind = &line[at..];
                let goes_on = |more: &str| {
                    behind.starts_with(more) && !behind[more.len()..].starts_with(char::is_alphanumeric)
                };
                let signs = match word {
                    "come" | "comes" | "amount" | "amounts" | "sum" | "sums" => vec![(" to", Token::Equals)],
                    "add" | "adds" => vec![(" up to", Token::Equals)],
                    "divided" => vec![(" by", Token::Operator('/'))],
                    "multiplied" => vec![(" by", Token::Operator('*'))],
                    _ => Vec::new(),
                };
                if let Some((more, sign)) = signs.into_iter().find(|(more, _)| goes_on(more)) {
                    at += more.len();
                    push(sign, at);
                    currency = None;
                    continue;
                }
                push(
                    match word {
                        "x" if line[at..].starts_with(' ') => Token::Operator('*'),
                        "times" => Token::Operator('*'),
                        "plus" => Token::Operator('+'),
                        "minus" | "less" => Token::Operator('-'),
                        "equals" | "makes" | "make" | "gives" | "leaves" | "leave" => Token::Equals,
                        _ => Token::Word(word.to_owned()),
                    },
                    at,
                );
            }
            _ => push(Token::Word(c.to_string()), at),
        }
        if !matches!(found.last().map(|placed| &placed.token), Some(Token::Number(_))) {
            currency = None;
        }
    }
    found
}

/// Whether a star is a mark of emphasis rather than a sign of multiplication.
fn is_emphasis(line: &str, at: usize) -> bool {
    !(line[..at].ends_with(' ') && line[at + 1..].starts_with(' '))
}

/// A number with what stands behind it: `%`, a power of a thousand, a currency.
fn suffixed(
    line: &str,
    mut at: usize,
    text: &str,
    number: Number,
    money: Option<String>,
) -> Option<(Written, usize)> {
    let rest = line[at..].trim_start_matches([' ', '\u{a0}', '\u{202f}']);
    let mut written =
        Written { number, half: half_step(text, false)?, currency: money, percent: false, thousands: 0 };
    if rest.starts_with('%') || rest.starts_with("per cent") || rest.starts_with("percent") {
        let word =
            ["%", "per cent", "percent"].into_iter().find(|word| rest.starts_with(word)).unwrap_or("%");
        at = line.len() - rest.len() + word.len();
        written.percent = true;
        written.number = number.scaled(-2)?;
        written.half = written.half.scaled(-2)?;
        return Some((written, at));
    }
    let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    // `EUR 7.4m` is money; `7.4m` is a length.
    let of_money = (&rest[..end] == "m" && written.currency.is_some()).then_some(2);
    if let Some(power) = thousands(&rest[..end]).or(of_money) {
        at = line.len() - rest.len() + end;
        let exponent = 3 * i32::try_from(power).ok()?;
        written.thousands = power;
        written.number = number.scaled(exponent)?;
        written.half = written.half.scaled(exponent)?;
    } else if !rest[..end].is_empty() && line[at..].starts_with(|c: char| c.is_alphabetic()) {
        // `2nd`, `8x`, `3D`: no number to compute with.
        return (&rest[..end] == "x").then_some((written, at));
    }
    let rest = line[at..].trim_start();
    let end = rest.find(|c: char| !c.is_alphabetic() && c != '€').unwrap_or(rest.len());
    if written.currency.is_none() && (CURRENCIES.contains(&&rest[..end]) || rest[..end] == *"€") {
        written.currency = Some(rest[..end].to_owned());
        at = line.len() - rest.len() + end;
    }
    Some((written, at))
}

impl Written {
    /// What a percentage, or a number with a power of a thousand, may be off by: `5 million` is not 4.8 million.
    pub fn short(&self) -> Number {
        let most = self.number.abs().over(Number::from(50));
        most.filter(|_| !self.percent).map_or(self.half, |most| most.min(self.half))
    }

    /// What it may be off by for having been rounded. Zeros at its end may be rounding as well, within half a per cent.
    pub fn rounding(&self, line: &str, at: (usize, usize)) -> Number {
        if self.percent || self.thousands > 0 {
            return self.short();
        }
        let digits = |c: &char| c.is_ascii_digit() || [',', '.'].contains(c);
        let text: String = line[at.0..at.1].chars().take_while(digits).collect();
        let most = self.number.abs().over(Number::from(200));
        let zeros = half_step(text.trim_end_matches([',', '.']), true);
        zeros.zip(most).map_or(self.half, |(zeros, most)| zeros.min(most)).max(self.half)
    }
}
