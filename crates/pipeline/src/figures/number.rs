//! Exact numbers: fractions of whole numbers. A sum of money is never a float, and a result that does not fit is none.

use std::cmp::Ordering;
use std::fmt;

/// An exact number: numerator and denominator, in lowest terms, the denominator above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number {
    over: i128,
    under: i128,
}

/// Most digits after the point that a number may be written with.
const MOST_PLACES: u32 = 18;

fn divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { divisor(b, a % b) }
}

fn ten(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

impl From<i64> for Number {
    fn from(whole: i64) -> Number {
        Number { over: i128::from(whole), under: 1 }
    }
}

impl Number {
    fn new(over: i128, under: i128) -> Option<Number> {
        if under == 0 {
            return None;
        }
        let common = i128::try_from(divisor(over.unsigned_abs(), under.unsigned_abs())).ok()?;
        let sign = under.signum();
        Some(Number { over: (over / common).checked_mul(sign)?, under: (under / common).checked_mul(sign)? })
    }

    /// The number a text is: digits, a point, a sign, an exponent; commas between groups of three are allowed.
    pub fn parse(text: &str) -> Option<Number> {
        let text = text.trim();
        let (text, exponent) = match text.split_once(['e', 'E']) {
            Some((text, exponent)) => (text, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 30)?),
            None => (text, 0),
        };
        let (negative, text) = match text.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let mut groups = whole.split(',');
        let first = groups.next().filter(|first| !first.is_empty() && is_digits(first))?;
        let grouped = whole.contains(',');
        if grouped && (first.len() > 3 || !groups.all(|group| group.len() == 3 && is_digits(group))) {
            return None;
        }
        let places = u32::try_from(part.len()).ok().filter(|&places| places <= MOST_PLACES)?;
        if !is_digits(part) || (text.contains('.') && part.is_empty()) {
            return None;
        }
        let digits: String = whole.bytes().filter(|&byte| byte != b',').map(char::from).collect();
        let over: i128 = format!("{digits}{part}").parse().ok()?;
        let number = Number::new(if negative { -over } else { over }, ten(places)?)?;
        number.scaled(exponent)
    }

    /// Times a power of ten.
    pub fn scaled(self, exponent: i32) -> Option<Number> {
        let factor = Number { over: ten(exponent.unsigned_abs())?, under: 1 };
        if exponent < 0 { self.over(factor) } else { self.times(factor) }
    }

    /// The sum.
    pub fn plus(self, other: Number) -> Option<Number> {
        let left = self.over.checked_mul(other.under)?;
        let right = other.over.checked_mul(self.under)?;
        Number::new(left.checked_add(right)?, self.under.checked_mul(other.under)?)
    }

    /// The difference.
    pub fn minus(self, other: Number) -> Option<Number> {
        self.plus(Number { over: other.over.checked_neg()?, under: other.under })
    }

    /// The product.
    pub fn times(self, other: Number) -> Option<Number> {
        Number::new(self.over.checked_mul(other.over)?, self.under.checked_mul(other.under)?)
    }

    /// The quotient; none by zero.
    pub fn over(self, other: Number) -> Option<Number> {
        Number::new(self.over.checked_mul(other.under)?, self.under.checked_mul(other.over)?)
    }

    /// Without its sign.
    pub fn abs(self) -> Number {
        Number { over: self.over.saturating_abs(), under: self.under }
    }

    /// The nearest multiple of a step above zero; a half goes away from zero.
    pub fn rounded_to(self, step: Number) -> Option<Number> {
        let steps = self.over(step).filter(|_| step.over > 0)?;
        let double = steps.over.checked_mul(2)?;
        let half =
            if double < 0 { double.checked_sub(steps.under)? } else { double.checked_add(steps.under)? };
        Number { over: half / steps.under.checked_mul(2)?, under: 1 }.times(step)
    }

    /// The whole number it is.
    pub fn whole(self) -> Option<i64> {
        (self.under == 1).then(|| i64::try_from(self.over).ok())?
    }

    /// How many digits after the point it takes; none for a third.
    pub fn places(self) -> Option<u32> {
        (0..=MOST_PLACES).find(|&places| ten(places).is_some_and(|ten| ten % self.under == 0))
    }

    /// In digits, with commas between thousands; a number without end is cut after four places, rounded.
    pub fn grouped(self) -> String {
        const CUT: u32 = 4;
        let rounded = || self.rounded_to(Number { over: 1, under: ten(CUT)? });
        let (number, places) = match self.places() {
            Some(places) => (self, places),
            // What is too large to be rounded loses what is after the point.
            None => rounded().map_or((Number { over: self.over / self.under, under: 1 }, 0), |it| (it, CUT)),
        };
        let step = ten(places).unwrap_or(1);
        let (over, under) = (number.over.unsigned_abs(), number.under.unsigned_abs());
        // `under` divides `step`, which is at most ten to the 18th.
        let part = over % under * (step.unsigned_abs() / under);
        let part =
            if places == 0 { String::new() } else { format!("{part:0>width$}", width = places as usize) };
        let whole = (over / under).to_string();
        let mut out = String::new();
        for (n, digit) in whole.chars().enumerate() {
            if n > 0 && (whole.len() - n) % 3 == 0 {
                out.push(',');
            }
            out.push(digit);
        }
        let sign = if number.over < 0 { "-" } else { "" };
        let point = if part.is_empty() { "" } else { "." };
        format!("{sign}{out}{point}{part}")
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self.over.checked_mul(other.under), other.over.checked_mul(self.under)) {
            (Some(left), Some(right)) => left.cmp(&right),
            // Too large to multiply out: whole parts first, then what is left of both, turned over.
            _ => {
                let parts = |number: &Number| {
                    (number.over.div_euclid(number.under), number.over.rem_euclid(number.under))
                };
                let ((whole, rest), (other_whole, other_rest)) = (parts(self), parts(other));
                whole.cmp(&other_whole).then_with(|| match (rest, other_rest) {
                    (0, 0) => Ordering::Equal,
                    (0, _) => Ordering::Less,
                    (_, 0) => Ordering::Greater,
                    _ => Number { over: other.under, under: other_rest }
                        .cmp(&Number { over: self.under, under: rest }),
                })
            }
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.grouped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).expect(text)
    }

    #[test]
    fn numbers_are_read_and_written_exactly() {
        for (text, shown) in [
            ("0", "0"),
            ("6400000", "6,400,000"),
            ("6,400,000.50", "6,400,000.5"),
            ("-0.05", "-0.05"),
            ("1e3", "1,000"),
            ("999", "999"),
            ("\u{2212}1000", "-1,000"),
            ("0.1", "0.1"),
            ("-0.000000000000000001", "-0.000000000000000001"),
        ] {
            assert_eq!(number(text).grouped(), shown, "{text}");
        }
        for text in ["", ".", "1.", "1,40", "12,3456", "1 2", "x", "--1", "1e99", "0x1", "1.2.3"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sums_have_no_rest() {
        let sum = (0..10).try_fold(Number::from(0), |sum, _| sum.plus(number("0.1")));
        assert_eq!(sum, Some(Number::from(1)));
        let third = Number::from(1).over(Number::from(3)).unwrap();
        assert_eq!((third.grouped().as_str(), third.places()), ("0.3333", None));
        assert_eq!(third.times(Number::from(3)), Some(Number::from(1)));
        assert_eq!(Number::from(1).over(Number::from(0)), None);
        let large = number("99999999999999999999999999999999");
        assert_eq!(large.times(large), None, "too large is no number");
        assert!(large > third && third > number("0.333") && third < number("0.334"));
        // No result is so large that it cannot be told, nor that it cannot be compared.
        let eighth = number("12345678901234567890123456789012345679").over(Number::from(8)).unwrap();
        assert_eq!(eighth.grouped(), "1,543,209,862,654,320,986,265,432,098,626,543,209.875");
        let third = number("12345678901234567890123456789012345679").over(Number::from(3)).unwrap();
        assert_eq!(third.grouped(), "4,115,226,300,411,522,630,041,152,263,004,115,226");
        let (one, other) =
            (number("1e30").over(number("1e30").plus(Number::from(1)).unwrap()).unwrap(), number("1e30"));
        let near = other.over(other.minus(Number::from(1)).unwrap()).unwrap();
        assert!(one < near && Number::from(1) < near && Number::from(1) > one);
        assert!(near < near.plus(Number::from(1)).unwrap_or(other) && one.cmp(&one) == Ordering::Equal);
        for (text, step, wanted) in [("2.5", "1", "3"), ("-2.5", "1", "-3"), ("293400", "1000", "293,000")] {
            assert_eq!(number(text).rounded_to(number(step)).unwrap().grouped(), wanted);
        }
    }
}
