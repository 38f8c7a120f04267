//! Formulas over facts: `+ - * /`, brackets, numbers with a unit (`12 [months/year]`), ids, and the functions
//! `sum(cost_*)`, `min`, `max`, `round(x, step)` and `days(from, to)`.

use jiff::civil::Date;
use jiff::{Span, ToSpan};

use super::number::Number;
use super::unit::Unit;

/// What a formula or a fact amounts to.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// A number between two bounds, which are equal to it where nothing is said.
    Quantity {
        /// Lower bound, number, upper bound.
        range: [Number; 3],
        /// Its unit.
        unit: Unit,
    },
    /// A day.
    Day(Date),
}

/// A number without bounds.
pub fn quantity(number: Number, unit: Unit) -> Amount {
    Amount::Quantity { range: [number; 3], unit }
}

/// Deepest nesting of brackets.
const DEEPEST: usize = 10;

/// What facts amount to, by id, and which ids a pattern with `*` means.
pub trait Facts {
    /// The amount of a fact.
    fn amount(&mut self, id: &str) -> Result<Amount, String>;
    /// The ids that match, in order.
    fn matching(&mut self, pattern: &str) -> Vec<String>;
}

/// Computes a formula.
pub fn compute(text: &str, facts: &mut dyn Facts) -> Result<Amount, String> {
    let mut parser = Parser { text, at: 0, depth: 0, facts };
    let amount = parser.sum()?;
    match parser.peek() {
        None => Ok(amount),
        Some(_) => Err(format!("cannot be read from `{}` on", parser.rest())),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    facts: &'a mut dyn Facts,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl Parser<'_> {
    fn rest(&self) -> String {
        self.text[self.at..].trim().chars().take(40).collect()
    }

    fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn takes(&mut self, wanted: &[char]) -> Option<char> {
        let next = self.peek().filter(|c| wanted.contains(c))?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn sum(&mut self) -> Result<Amount, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("is nested too deeply".to_owned());
        }
        let mut left = self.product()?;
        while let Some(sign) = self.takes(&['+', '-', '\u{2212}']) {
            let right = self.product()?;
            left = add(left, right, sign != '+')?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn product(&mut self) -> Result<Amount, String> {
        let mut left = self.single()?;
        while let Some(sign) = self.takes(&['*', '×', '/', '÷']) {
            let right = self.single()?;
            left = multiply(&left, &right, ['/', '÷'].contains(&sign))?;
        }
        Ok(left)
    }

    fn single(&mut self) -> Result<Amount, String> {
        if self.takes(&['-', '\u{2212}']).is_some() {
            let zero = |unit| quantity(Number::from(0), unit);
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err("is nested too deeply".to_owned());
            }
            let amount = self.single()?;
            self.depth -= 1;
            let unit = match &amount {
                Amount::Quantity { unit, .. } => unit.clone(),
                Amount::Day(_) => return Err("takes a date below zero".to_owned()),
            };
            return add(zero(unit), amount, true);
        }
        if self.takes(&['(']).is_some() {
            let amount = self.sum()?;
            return match self.takes(&[')']) {
                Some(_) => Ok(amount),
                None => Err("has a bracket that is not closed".to_owned()),
            };
        }
        match self.peek() {
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.name(),
            Some(_) => Err(format!("cannot be read from `{}` on", self.rest())),
            None => Err("ends where a number or an id is wanted".to_owned()),
        }
    }

    fn number(&mut self) -> Result<Amount, String> {
        let rest = &self.text[self.at..];
        let is_end = |c: char| !(c.is_ascii_digit() || c == '.' || c == '_');
        let end = rest.find(is_end).unwrap_or(rest.len());
        let text = rest[..end].replace('_', "");
        let number = Number::parse(&text).ok_or_else(|| format!("has `{text}`, which is no number"))?;
        self.at += end;
        if self.takes(&['%']).is_some() {
            let number = number.scaled(-2).ok_or("is too large to compute")?;
            return Ok(quantity(number, Unit::default()));
        }
        let mut unit = Unit::default();
        if self.takes(&['[']).is_some() {
            let end = self.text[self.at..].find(']').ok_or("has a unit that is not closed by `]`")?;
            unit = Unit::parse(&self.text[self.at..self.at + end], "");
            self.at += end + 1;
        }
        Ok(quantity(number, unit))
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn name(&mut self) -> Result<Amount, String> {
        let name = self.word();
        if self.takes(&['(']).is_none() {
            return self.facts.amount(&name);
        }
        let mut given = Vec::new();
        loop {
            // `cost_*` is all facts whose ids begin so.
            let start = self.at;
            self.peek();
            let word = self.word();
            if name != "round"
                && !word.is_empty()
                && self.text[self.at..].starts_with('*')
                && self.text[self.at + 1..].trim_start().starts_with([',', ')'])
            {
                self.at += 1;
                let ids = self.facts.matching(&word);
                if ids.is_empty() {
                    return Err(format!("sums `{word}*`, and no fact is called so"));
                }
                for id in ids {
                    given.push(self.facts.amount(&id)?);
                }
            } else {
                self.at = start;
                given.push(self.sum()?);
            }
            match self.takes(&[',', ')']) {
                Some(',') => {}
                Some(_) => break,
                None => return Err("has a bracket that is not closed".to_owned()),
            }
        }
        call(&name, given)
    }
}

fn call(name: &str, given: Vec<Amount>) -> Result<Amount, String> {
    match (name, &given[..]) {
        ("sum", _) => {
            let mut given = given.into_iter();
            let first = given.next().ok_or("sums nothing")?;
            given.try_fold(first, |sum, next| add(sum, next, false))
        }
        ("min" | "max", [first, rest @ ..]) => {
            let mut best = first.clone();
            for next in rest {
                best = match (&best, next) {
                    (Amount::Day(a), Amount::Day(b)) => {
                        Amount::Day(if name == "min" { *a.min(b) } else { *a.max(b) })
                    }
                    (Amount::Quantity { range: a, unit }, Amount::Quantity { range: b, unit: other }) => {
                        same_unit(unit, other)?;
                        let pick = |n: usize| if name == "min" { a[n].min(b[n]) } else { a[n].max(b[n]) };
                        Amount::Quantity { range: [pick(0), pick(1), pick(2)], unit: unit.clone() }
                    }
                    _ => return Err(format!("takes `{name}` of a date and a number")),
                };
            }
            Ok(best)
        }
        ("round", [Amount::Quantity { range, unit }, Amount::Quantity { range: step, .. }]) => {
            let rounded =
                |n: usize| range[n].rounded_to(step[1]).ok_or("rounds to a step that is not above zero");
            Ok(Amount::Quantity { range: [rounded(0)?, rounded(1)?, rounded(2)?], unit: unit.clone() })
        }
        ("days", [Amount::Day(_), Amount::Day(_)]) => add(given[1].clone(), given[0].clone(), true),
        ("min" | "max" | "round" | "days", _) => Err(format!(
            "gives `{name}` what it cannot take: sum(a, b), min(a, b), max(a, b), round(a, step), days(from, to)"
        )),
        _ => Err(format!("calls `{name}`; there are sum, min, max, round and days")),
    }
}

fn same_unit(unit: &Unit, other: &Unit) -> Result<(), String> {
    match unit == other {
        true => Ok(()),
        false => Err(format!("adds or compares {unit} and {other}")),
    }
}

const TOO_LARGE: &str = "is too large to compute";

/// A sum or a difference. A day plus a length of time is a day; a day less a day is a number of days.
fn add(left: Amount, right: Amount, minus: bool) -> Result<Amount, String> {
    match (left, right) {
        (Amount::Quantity { range: a, unit }, Amount::Quantity { range: b, unit: other }) => {
            same_unit(&unit, &other)?;
            let [low, likely, high] = match minus {
                false => [a[0].plus(b[0]), a[1].plus(b[1]), a[2].plus(b[2])],
                true => [a[0].minus(b[2]), a[1].minus(b[1]), a[2].minus(b[0])],
            };
            let range = low.zip(likely).zip(high).map(|((low, likely), high)| [low, likely, high]);
            Ok(Amount::Quantity { range: range.ok_or(TOO_LARGE)?, unit })
        }
        (Amount::Day(day), Amount::Quantity { range, unit }) => {
            let count = range[1].whole().ok_or("adds a part of a day, week, month or year to a date")?;
            let count = if minus { -count } else { count };
            let span = length(unit.word().unwrap_or_default(), count)
                .ok_or_else(|| format!("adds {unit} to a date; wanted days, weeks, months or years"))?;
            Ok(Amount::Day(day.checked_add(span).map_err(|_| "leads to a date that there is not")?))
        }
        (Amount::Day(to), Amount::Day(from)) if minus => {
            let days = to.since(from).map_err(|error| error.to_string())?.get_days();
            Ok(quantity(Number::from(i64::from(days)), Unit::parse("days", "")))
        }
        _ => Err("adds a date where it cannot".to_owned()),
    }
}

fn length(word: &str, count: i64) -> Option<Span> {
    if count.abs() > 100_000 {
        return None;
    }
    match word {
        "day" => Some(count.days()),
        "week" => Some(count.weeks()),
        "month" => Some(count.months()),
        "year" if count.abs() < 10_000 => Some(count.years()),
        _ => None,
    }
}

fn multiply(left: &Amount, right: &Amount, divide: bool) -> Result<Amount, String> {
    let (Amount::Quantity { range: a, unit }, Amount::Quantity { range: b, unit: other }) = (left, right)
    else {
        return Err("multiplies or divides a date".to_owned());
    };
    let zero = Number::from(0);
    if divide && (b[1] == zero || b[0] <= zero && b[2] >= zero) {
        return Err("divides by zero".to_owned());
    }
    let of = |a: Number, b: Number| if divide { a.over(b) } else { a.times(b) }.ok_or(TOO_LARGE);
    let corners = [of(a[0], b[0])?, of(a[0], b[2])?, of(a[2], b[0])?, of(a[2], b[2])?];
    let low = corners.iter().copied().min().unwrap_or(zero);
    let high = corners.iter().copied().max().unwrap_or(zero);
    Ok(Amount::Quantity {
        range: [low, of(a[1], b[1])?, high],
        unit: unit.times(other, if divide { -1 } else { 1 }),
    })
}
