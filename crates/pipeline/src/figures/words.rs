//! Arithmetic that a sentence claims without a sign for it: shares of an amount, changes, prices over time, amounts that are
//! something together.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::TextFault;
use super::claims::{Placement, differs, fault};
use super::number::Number;
use super::scan::{Placed, Token, Written};

/// What is wrong in a sentence.
pub(super) fn faults(sentence: &str, tokens: &[Placed], n: usize, found: &mut Vec<TextFault>) {
    let claims = Claims { sentence, tokens, shape: shape(tokens) };
    let all = [shares, parts, changes, over_time, rates, prices, together, of_which];
    let mut told: Vec<String> = all.iter().flat_map(|rule| rule(&claims)).collect();
    told.dedup();
    found.extend(told.into_iter().map(|message| fault(n, sentence, message)));
}

/// A sentence as words in small letters, its numbers as `#p3` (a percentage), `#m3` (money) or `#n3`, by their place among
/// the tokens, and `,` for all that ends a claim.
fn shape(tokens: &[Placed]) -> String {
    let mut shape = String::new();
    for (at, placed) in tokens.iter().enumerate() {
        match &placed.token {
            Token::Number(written) => {
                let kind = if written.percent {
                    'p'
                } else if written.currency.is_some() {
                    'm'
                } else {
                    'n'
                };
                shape += &format!("#{kind}{at}");
            }
            Token::Operator(sign) => shape.push(*sign),
            Token::Equals => shape.push('='),
            Token::About => shape.push('~'),
            Token::Break => shape.push(','),
            Token::Word(word) => shape += &word.to_lowercase(),
        }
        shape.push(' ');
    }
    shape
}

struct Claims<'a> {
    sentence: &'a str,
    tokens: &'a [Placed],
    shape: String,
}

type Sum = Vec<(Token, Placement)>;

/// A number of a sentence: what is written, and where.
type Part<'a> = (&'a Written, Placement);

impl<'a> Claims<'a> {
    fn number(&self, at: usize) -> Option<Part<'a>> {
        let placed = self.tokens.get(at)?;
        if let Token::Number(written) = &placed.token { Some((written, placed.at)) } else { None }
    }

    fn group(&self, found: &Captures<'_>, name: &str) -> Option<Part<'a>> {
        self.number(found.name(name)?.as_str().parse().ok()?)
    }

    /// Numbers with signs between them.
    fn sum(parts: &[Result<Part<'_>, char>]) -> Sum {
        let mut sum: Sum = Vec::new();
        let mut place = (0, 0);
        for part in parts {
            match part {
                Ok((written, at)) => {
                    place = *at;
                    sum.push((Token::Number((*written).clone()), place));
                }
                Err(sign) => sum.push((Token::Operator(*sign), place)),
            }
        }
        sum
    }

    fn wrong(
        &self,
        parts: &[Result<Part<'_>, char>],
        (claimed, place): Part<'_>,
        about: bool,
    ) -> Option<String> {
        differs(self.sentence, &Self::sum(parts), claimed, place, about)
    }

    /// What stands behind a place of the shape begins with one of these words.
    fn goes_on(&self, at: usize, words: &[&str]) -> bool {
        words.contains(&self.shape[at..].split(' ').next().unwrap_or_default())
    }

    /// The words that say that what is named is all.
    fn is_all(&self, at: usize) -> bool {
        let rest = &self.shape[at..];
        ["in all ", "in total ", "altogether ", "together ", "overall "]
            .iter()
            .any(|words| rest.starts_with(words))
    }
}

fn same(one: &Written, other: &Written) -> bool {
    one.currency == other.currency && one.percent == other.percent
}

/// What makes a number a rate, or another thing than the one before.
const RATES: [&str; 8] = ["a", "an", "per", "each", "every", "/", "more", "less"];

const ABOUT: &str = r"(?P<about>~ |about |some |roughly |nearly |around |approximately )?";
const FRACTION: &str = r"(?:#p(?P<p>\d+)|(?P<times>a|one|two|three) (?P<fraction>thirds?|quarters?|fifths?|tenths?)|(?P<half>half)) ";

fn pattern(text: &str) -> Regex {
    Regex::new(&text.replace("ABOUT", ABOUT).replace("FRACTION", FRACTION)).expect("a pattern")
}

/// `a third`, as a number.
fn fraction(found: &Captures<'_>) -> Option<Written> {
    let times = match found.name("times").map(|times| times.as_str()) {
        Some("two") => 2,
        Some("three") => 3,
        _ => 1,
    };
    let under = match found.name("fraction").map(|name| name.as_str().trim_end_matches('s')) {
        Some("third") => 3,
        Some("quarter") => 4,
        Some("fifth") => 5,
        Some("tenth") => 10,
        _ => 2,
    };
    let number = Number::from(times).over(Number::from(under))?;
    Some(Written { number, half: Number::from(0), currency: None, percent: false, thousands: 0 })
}

impl Claims<'_> {
    /// A share of a whole that is said to be a part; none if the part is that share, or the share is rounded.
    fn share(&self, found: &Captures<'_>) -> Option<String> {
        let (whole, part) = (self.group(found, "whole")?, self.group(found, "part")?);
        if !same(whole.0, part.0) {
            return None;
        }
        let about = found.name("about").is_some();
        let Some(share) = self.group(found, "p") else {
            let fraction = fraction(found)?;
            return self.wrong(&[Ok((&fraction, whole.1)), Err('*'), Ok(whole)], part, about);
        };
        self.wrong(&[Ok(part), Err('/'), Ok(whole)], share, about)?;
        self.wrong(&[Ok(share), Err('*'), Ok(whole)], part, about)
    }
}

/// `25% of EUR 6.4 million is EUR 1.6 million`.
fn shares(claims: &Claims<'_>) -> Vec<String> {
    static SHARE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"FRACTION(?:\w+ ){0,2}?(?:of|on) (?:\w+ ){0,3}?#(?P<k>[mn])(?P<whole>\d+) (?P<unit>(?:\w+ ){0,3}?)(?P<link>is|are|=|,|or|, or|that is|, that is) ABOUT#[mn](?P<part>\d+) ",
        )
    });
    let wrong = |found: Captures<'_>| {
        let is_rate = found["unit"].split(' ').any(|word| RATES.contains(&word));
        let is_plain = &found["k"] == "n" && !["is", "are", "="].contains(&&found["link"]);
        let behind = found.get(0)?.end();
        let is_other = claims.goes_on(behind, &RATES)
            || claims.goes_on(behind, &["of", "at", "for", "in"]) && &found["link"] == ",";
        if is_rate || is_plain || is_other { None } else { claims.share(&found) }
    };
    SHARE.captures_iter(&claims.shape).filter_map(wrong).collect()
}

/// `EUR 1.6 million (25% of EUR 6.4 million)`.
fn parts(claims: &Claims<'_>) -> Vec<String> {
    static PART: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"#(?P<k>[mn])(?P<part>\d+) (?P<unit>(?:\w+ ){0,4}?)(?P<link>\(|,|is|are|, or|, that is|that is) ABOUTFRACTIONof (?:\w+ ){0,4}?#[mn](?P<whole>\d+) (?P<rest>.*)$",
        )
    });
    let wrong = |found: Captures<'_>| {
        let is_rate = found["unit"]
            .split(' ')
            .chain(found["rest"].split(' ').take(1))
            .any(|word| RATES.contains(&word));
        let is_plain = &found["k"] == "n" && !["(", "is", "are"].contains(&&found["link"]);
        // `EUR 3 million, 20% of EUR 6 million is EUR 1.2 million`: the claim is another one.
        let is_other =
            found["rest"].contains("#m") || found["rest"].contains("is #") || found["rest"].contains("= #");
        if is_rate || is_plain || is_other { None } else { claims.share(&found) }
    };
    PART.captures_iter(&claims.shape).filter_map(wrong).collect()
}

/// `rise from 60,000 to 90,000 (+50%)`, `falls by 20% from EUR 50 to EUR 40`.
fn changes(claims: &Claims<'_>) -> Vec<String> {
    static CHANGE: LazyLock<[Regex; 2]> = LazyLock::new(|| {
        let verb = r"\b(?:rises?|rose|grows?|grew|increases?|increased|climbs?|goes|went|falls?|fell|drops?|dropped|decreases?|decreased|shrinks?|up|down) ";
        [
            pattern(&format!(
                r"{verb}(?:\w+ )?from #[mn](?P<a>\d+) (?:\w+ ){{0,3}}?to #[mn](?P<b>\d+) (?:\w+ ){{0,3}}?\( (?:[+-] )?#p(?P<p>\d+) (?:more |less |up |down )?\) "
            )),
            pattern(&format!(
                r"{verb}by #p(?P<p>\d+) ,? ?from #[mn](?P<a>\d+) (?:\w+ ){{0,3}}?to #[mn](?P<b>\d+) "
            )),
        ]
    });
    let wrong = |found: Captures<'_>| {
        let (a, b, claimed) =
            (claims.group(&found, "a")?, claims.group(&found, "b")?, claims.group(&found, "p")?);
        if !same(a.0, b.0) {
            return None;
        }
        let (more, less) = if b.0.number < a.0.number { (a, b) } else { (b, a) };
        claims.wrong(&[Err('('), Ok(more), Err('-'), Ok(less), Err(')'), Err('/'), Ok(a)], claimed, false)
    };
    CHANGE.iter().flat_map(|pattern| pattern.captures_iter(&claims.shape)).filter_map(wrong).collect()
}

fn plain(number: i64) -> Written {
    Written {
        number: Number::from(number),
        half: Number::from(0),
        currency: None,
        percent: false,
        thousands: 0,
    }
}

/// `21 stalls at EUR 850 a month for 12 months come to EUR 214,200`, `12 months at EUR 850 a month, EUR 10,200 in all`.
fn over_time(claims: &Claims<'_>) -> Vec<String> {
    static TIME: LazyLock<[Regex; 2]> = LazyLock::new(|| {
        let rate = r"#m(?P<price>\d+) (?:a|per|each|every) (?P<unit>day|night|week|month|year|hour) ";
        let many = r"#n(?P<many>\d+) (?P<units>days|nights|weeks|months|years|hours) ";
        let total = r"(?P<link>, or|, that is|,|is|are|=|or|that is|, =) ABOUT#m(?P<total>\d+) ";
        [
            pattern(&format!(
                r"(?:#n(?P<count>\d+) (?:\w+ ){{1,3}}at )?{rate}(?:for|over|during|in|\*) (?:the |all )?{many}{total}"
            )),
            pattern(&format!(r"{many}at {rate}{total}")),
        ]
    });
    let wrong = |found: Captures<'_>| {
        let (price, many, total) =
            (claims.group(&found, "price")?, claims.group(&found, "many")?, claims.group(&found, "total")?);
        let factor = match (&found["unit"], found["units"].trim_end_matches('s')) {
            (unit, units) if unit == units => plain(1),
            ("month", "year") => plain(12),
            _ => return None,
        };
        let behind = found.get(0)?.end();
        let is_listed = &found["link"] == "," && !claims.is_all(behind);
        let is_year = matches!((&found["units"], many.0.number), ("months", n) if n == Number::from(12));
        let is_rate = claims.goes_on(behind, &RATES) && !is_year;
        if is_listed || is_rate || price.0.currency != total.0.currency {
            return None;
        }
        let mut sum = vec![Ok(price), Err('*'), Ok(many), Err('*'), Ok((&factor, price.1))];
        if let Some(count) = claims.group(&found, "count") {
            sum.extend([Err('*'), Ok(count)]);
        }
        claims.wrong(&sum, total, found.name("about").is_some())
    };
    TIME.iter().flat_map(|pattern| pattern.captures_iter(&claims.shape)).filter_map(wrong).collect()
}

/// `EUR 850 a month (EUR 10,200 a year)`.
fn rates(claims: &Claims<'_>) -> Vec<String> {
    static RATE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"#[mn](?P<a>\d+) (?:\w+ )??(?:a|per|every|each) (?P<u>month|quarter|year) (?P<link>\(|, or|or|, that is|that is|is|=) ABOUT#[mn](?P<b>\d+) (?:\w+ )??(?:a|per|every|each) (?P<v>month|quarter|year) (?:[,)]|$)",
        )
    });
    let months = |unit: &str| match unit {
        "month" => 1,
        "quarter" => 3,
        _ => 12,
    };
    let wrong = |found: Captures<'_>| {
        let (a, b) = (claims.group(&found, "a")?, claims.group(&found, "b")?);
        // `10% of EUR 850 a month is …` is said of a part of it.
        let is_part = &found["link"] == "is" && claims.shape[..found.get(0)?.start()].contains('#');
        if !same(a.0, b.0) || found["u"] == found["v"] || is_part {
            return None;
        }
        let (over, under) = (plain(months(&found["v"])), plain(months(&found["u"])));
        let sum = [Ok(a), Err('*'), Ok((&over, a.1)), Err('/'), Ok((&under, a.1))];
        claims.wrong(&sum, b, found.name("about").is_some())
    };
    RATE.captures_iter(&claims.shape).filter_map(wrong).collect()
}

impl<'a> Claims<'a> {
    /// The amounts from a place of the shape on, if all its numbers are of one currency and none is a rate.
    fn amounts(&self, shape: &str) -> Option<Vec<Part<'a>>> {
        static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"#([pmn])(\d+) (\S+)?"));
        let mut all: Vec<Part<'a>> = Vec::new();
        for found in NUMBER.captures_iter(shape) {
            let part = self.number(found[2].parse().ok()?)?;
            let is_rate = found.get(3).is_some_and(|next| RATES.contains(&next.as_str()));
            if &found[1] != "m" || is_rate || all.first().is_some_and(|first| !same(first.0, part.0)) {
                return None;
            }
            all.push(part);
        }
        Some(all)
    }
}

fn added<'a>(parts: &[Part<'a>]) -> Vec<Result<Part<'a>, char>> {
    let mut sum = Vec::new();
    for part in parts {
        if !sum.is_empty() {
            sum.push(Err('+'));
        }
        sum.push(Ok(*part));
    }
    sum
}

/// `32 stalls at EUR 850 each are EUR 27,200`, `4,200 m² at EUR 1,500 per m² are EUR 6.3 million`, `32 stalls at EUR 850 a
/// month are EUR 27,200 a month`: a price of what is counted, or the same time on both sides.
fn prices(claims: &Claims<'_>) -> Vec<String> {
    static PRICE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^[^#]*#n(?P<count>\d+) (?P<what>(?:[^\s#,]+ ){1,3}?)at ABOUT#m(?P<price>\d+) (?:each|(?:a|an|per) (?P<unit>[^\s#,]+)) (?:is|are|=) (?:about |some |roughly |nearly |around |approximately )?#m(?P<total>\d+) (?P<rest>[^#]*)$",
        )
    });
    let wrong = |found: Captures<'_>| {
        let (count, price, total) =
            (claims.group(&found, "count")?, claims.group(&found, "price")?, claims.group(&found, "total")?);
        let unit = found.name("unit").map(|unit| unit.as_str());
        let rest: Vec<&str> = found["rest"].split(' ').collect();
        let fits = match unit {
            Some(unit) if ["hour", "day", "night", "week", "month", "year"].contains(&unit) => {
                matches!(rest[..], ["a" | "an" | "per" | "each" | "every", time, ..] if time == unit)
            }
            _ => !RATES.contains(&rest[0]),
        };
        let about = found[0].contains("about ") || found[0].contains("~ ") || found[0].contains("some ");
        if !fits || price.0.currency != total.0.currency {
            return None;
        }
        claims.wrong(&[Ok(count), Err('*'), Ok(price)], total, about)
    };
    PRICE.captures(&claims.shape).and_then(wrong).into_iter().collect()
}

/// `EUR 3.2 million from the city and EUR 1.6 million from the fund are EUR 4.8 million together`.
fn together(claims: &Claims<'_>) -> Vec<String> {
    static LAST: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?P<parts>.*?)(?P<link>is|are|=|, (?:and )?(?:together|altogether|in total|in all|total)|,) ABOUT#m(?P<total>\d+) (?P<rest>[^#]*)$",
        )
    });
    let wrong = |found: Captures<'_>| {
        let (parts, total) = (claims.amounts(&found["parts"])?, claims.group(&found, "total")?);
        let words: Vec<&str> = found["parts"].split(' ').collect();
        let is_all = claims.is_all(found.name("rest")?.start())
            || found["link"].starts_with(", ")
            || words.first() == Some(&"together")
            || ["add up to", "adds up to", "sum to", "sums to"]
                .iter()
                .any(|link| claims.sentence.contains(link));
        let is_other = words.iter().any(|word| {
            ["of", "to", "at", "between", "least", "most", "+", "-", "*", "/", "(", "than", "not"]
                .contains(word)
        });
        if !is_all || is_other || parts.len() < 2 || !same(parts[0].0, total.0) {
            return None;
        }
        claims.wrong(&added(&parts), total, found.name("about").is_some())
    };
    LAST.captures(&claims.shape).and_then(wrong).into_iter().collect()
}

/// `EUR 6.4 million, of which EUR 3.2 million …`: the parts may be less, and not more.
fn of_which(claims: &Claims<'_>) -> Vec<String> {
    static WHOLE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"#m(?P<whole>\d+) (?:\w+ ){0,3}(?:, )?of which (?P<parts>.*)$"));
    let wrong = |found: Captures<'_>| {
        let (whole, parts) = (claims.group(&found, "whole")?, claims.amounts(&found["parts"])?);
        if parts.is_empty() || !same(parts[0].0, whole.0) || found["parts"].contains(" of ") {
            return None;
        }
        let sum = parts.iter().try_fold(Number::from(0), |sum, part| sum.plus(part.0.number))?;
        let most = whole.0.number.plus(whole.0.rounding(claims.sentence, whole.1))?;
        (sum > most).then(|| format!("its parts come to {sum}, more than {}", whole.0.number))
    };
    WHOLE.captures(&claims.shape).and_then(wrong).into_iter().collect()
}
