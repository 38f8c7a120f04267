//! Dates as texts write them: days, months and quarters, alone or as the ends of a span.

use std::ops::Range;
use std::sync::LazyLock;

use jiff::civil::Date;
use regex::{Captures, Regex};

use super::languages::{Languages, Row, cased};

/// A date of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Day(Date),
    /// The first day of the month.
    Month(Date),
    /// The first day of the quarter.
    Quarter(Date),
}

/// Dates and spans of them. A span comes first: the year of its end is that of its beginning, too. `w` is what may be a day
/// of the week; `d` a day, `m` what may be a month, `n` a month in digits, `q` a quarter, `y` a year.
static DATES: LazyLock<Regex> = LazyLock::new(|| {
    let nth = r"(?:st|nd|rd|th|er|\.º|º|°|ª|\.)?";
    let [d1, d2, d3, d4] = [1, 2, 3, 4].map(|n| format!(r"(?P<d{n}>\d{{1,2}}{nth})"));
    let [m1, m2, m3, m4, m5, m6, m7] = [1, 2, 3, 4, 5, 6, 7].map(|n| format!(r"(?P<m{n}>\p{{L}}{{3,12}})"));
    let to = r"\s*(?:to|until|till|through|and|bis|au|al|a|até|tot|til|till|do|-|–|—)\s*";
    let of = r"(?:(?:of|de|di)\s+)?";
    let year = r"\.? ,? \s+ (?:(?:of|de|del)\s+)?";
    Regex::new(&format!(
        r"(?x)
          (?: \b (?P<w>\p{{L}}{{3,13}} (?:-feira)? ) [.,]? \s+ (?:(?:the|den|dem|le|il|el)\s+)? )?
          (?:
          \b (?P<q10>[1-4]{nth}) \s+ (?:[Qq]uarter|[Qq]uartal|[Tt]rimestre|kwartaal|kvartal|kwartał) \s+ (?:(?:of|de|del)\s+)? (?P<y10>\d{{4}}) \b
        | \b (?P<y>\d{{4}}) - (?P<n>\d{{2}}) (?: - (?P<d>\d{{2}}) )? \b
        | \b (?P<d0>\d{{1,2}}) \. (?P<n0>\d{{1,2}}) \. (?P<y0>\d{{4}}) \b
        | \b {d1} (?: \s+ {of} {m1} \.? )? (?P<to>{to}) {d2} \s+ {of} {m2} {year} (?P<y2>\d{{4}}) \b
        | \b {d3} \s+ {of} {m3} {year} (?P<y3>\d{{4}}) \b
        | \b {m4} \.? \s+ {d4} , \s* (?P<y4>\d{{4}}) \b
        | \b {m5} \.? {to} {m6} {year} (?P<y6>\d{{4}}) \b
        | \b {m7} {year} (?P<y7>\d{{4}}) \b
        | \b (?P<q8t>[QT]) (?P<q8>[1-4]) \s* [/\ ] \s* (?P<y8>\d{{4}}) \b
        | \b (?P<y9>\d{{4}}) [-\s/] Q (?P<q9>[1-4]) \b
          )"
    ))
    .expect("a pattern")
});

/// A date of a text, or both ends of a span, and where its parts stand.
#[derive(Debug)]
pub(super) struct Found<'t> {
    found: Captures<'t>,
    languages: &'t Languages,
    pub dates: Vec<Named>,
}

/// The dates of a text in some languages.
pub(super) fn dates<'t>(text: &'t str, languages: &'t Languages) -> impl Iterator<Item = Found<'t>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = DATES.captures_at(text, at) {
            let all = found.get(0)?.range();
            let mut found = Found { found, languages, dates: Vec::new() };
            if let Some(dates) = found.named() {
                found.dates = dates;
                at = all.end;
                return Some(found);
            }
            // What looks like a date may hold one: `10 lots 2027-03-01`. `32 May 2027` holds none.
            let is_month = ["m3", "m4"].iter().any(|name| found.month(name).is_some());
            let first = text[all.start..].chars().next().map_or(1, char::len_utf8);
            at = if is_month { all.end } else { all.start + first };
        }
        None
    })
}

fn first_of(year: &str, month: i8) -> Option<Date> {
    Date::new(year.parse().ok()?, month, 1).ok()
}

/// The digits that a day begins with.
fn number(day: &str) -> &str {
    day.trim_end_matches(|c: char| !c.is_ascii_digit())
}

fn date(year: &str, month: i8, day: &str) -> Option<Date> {
    Date::new(year.parse().ok()?, month, number(day).parse().ok()?).ok()
}

/// A day of a month as another one is written: `1st`, `15.`, `03`.
fn nth(day: i8, like: &str) -> String {
    let was = number(like);
    let digits = if was.starts_with('0') { format!("{day:02}") } else { day.to_string() };
    let suffix = match (&like[was.len()..], day) {
        ("st" | "nd" | "rd" | "th", 1 | 21 | 31) => "st",
        ("st" | "nd" | "rd" | "th", 2 | 22) => "nd",
        ("st" | "nd" | "rd" | "th", 3 | 23) => "rd",
        ("st" | "nd" | "rd" | "th", _) => "th",
        // `1er mars`, and `2 mars`.
        ("er" | "º" | "°" | ".º" | "ª", 2..) => "",
        (suffix, _) => suffix,
    };
    digits + suffix
}

/// The year before, if the span goes over its end.
fn before(year: &str, is_over: bool) -> Option<String> {
    let year: i16 = year.parse().ok()?;
    Some(if is_over { year - 1 } else { year }.to_string())
}

impl<'t> Found<'t> {
    fn text(&self, name: &str) -> Option<&'t str> {
        self.found.name(name).map(|part| part.as_str())
    }

    /// Where it stands.
    pub fn range(&self) -> Range<usize> {
        self.found.get(0).map(|all| all.range()).unwrap_or_default()
    }

    /// Where it stands, without a day of the week before it.
    pub fn start(&self) -> usize {
        let names = ["y", "d0", "d1", "d3", "m4", "m5", "m7", "q8t", "y9", "q10"];
        let start = names.iter().find_map(|name| self.found.name(name));
        start.map_or(self.range().start, |part| part.start())
    }

    fn month(&self, group: &str) -> Option<i8> {
        Some(self.languages.month(self.text(group)?)?.1)
    }

    fn named(&self) -> Option<Vec<Named>> {
        let text = |name: &str| self.text(name);
        if let Some(year) = text("y") {
            let month = text("n")?.parse().ok()?;
            return Some(vec![match text("d") {
                Some(day) => Named::Day(date(year, month, day)?),
                None => Named::Month(first_of(year, month)?),
            }]);
        }
        if let Some(year) = text("y0") {
            return Some(vec![Named::Day(date(year, text("n0")?.parse().ok()?, text("d0")?)?)]);
        }
        if let Some(year) = text("y2") {
            let last = self.month("m2")?;
            let first = if text("m1").is_some() { self.month("m1")? } else { last };
            let end = date(year, last, text("d2")?)?;
            let start = date(&before(year, first > last)?, first, text("d1")?)?;
            return Some(vec![Named::Day(start), Named::Day(end)]);
        }
        if let Some(year) = text("y3") {
            return Some(vec![Named::Day(date(year, self.month("m3")?, text("d3")?)?)]);
        }
        if let Some(year) = text("y4") {
            return Some(vec![Named::Day(date(year, self.month("m4")?, text("d4")?)?)]);
        }
        if let Some(year) = text("y6") {
            let (first, last) = (self.month("m5")?, self.month("m6")?);
            let start = first_of(&before(year, first > last)?, first)?;
            return Some(vec![Named::Month(start), Named::Month(first_of(year, last)?)]);
        }
        if let Some(year) = text("y7") {
            return Some(vec![Named::Month(first_of(year, self.month("m7")?)?)]);
        }
        // T stands for a quarter where it is called trimestre.
        let quarterly = ["fr", "es", "it", "pt"].iter().any(|code| self.languages.has(code));
        if text("q8t") == Some("T") && !quarterly {
            return None;
        }
        let (quarter, year) =
            ["8", "9", "10"].iter().find_map(|n| Some((text(&format!("q{n}"))?, text(&format!("y{n}"))?)))?;
        Some(vec![Named::Quarter(first_of(year, (number(quarter).parse::<i8>().ok()? - 1) * 3 + 1)?)])
    }

    /// The number of the day of the week that stands before it, from 0 on, and the names of its language.
    pub fn day_of_the_week(&self) -> Option<(&'static Row, usize)> {
        self.languages.day(self.text("w")?)
    }

    /// It with other dates, as many as there are: everything else stays as it is written.
    pub fn with(&self, now: &[Named]) -> Option<String> {
        let all = self.found.get(0)?;
        let mut text = all.as_str().to_owned();
        let mut puts = self.puts(now)?;
        puts.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        for (range, new) in puts {
            text.replace_range(range.start - all.start()..range.end - all.start(), &new);
        }
        Some(text)
    }

    /// What is put where.
    fn puts(&self, now: &[Named]) -> Option<Vec<(Range<usize>, String)>> {
        let mut puts: Vec<(Range<usize>, String)> = Vec::new();
        let mut put = |group: &str, new: String| {
            if let Some(part) = self.found.name(group) {
                puts.push((part.range(), new));
            }
        };
        let name = |group: &str, date: &Date| {
            let like = self.text(group)?;
            let (row, _) = self.languages.month(like)?;
            Some(cased(row.months[usize::try_from(date.month() - 1).ok()?], like))
        };
        let padded = |n: i8, like: &str| if like.len() == 2 { format!("{n:02}") } else { n.to_string() };
        match now {
            [Named::Day(day)] => {
                if self.text("y").is_some() {
                    put("y", day.year().to_string());
                    put("n", format!("{:02}", day.month()));
                    put("d", format!("{:02}", day.day()));
                } else if let Some(month) = self.text("n0") {
                    put("y0", day.year().to_string());
                    put("n0", padded(day.month(), month));
                    put("d0", padded(day.day(), month));
                } else {
                    let n = if self.text("y3").is_some() { 3 } else { 4 };
                    put(&format!("d{n}"), nth(day.day(), self.text(&format!("d{n}"))?));
                    put(&format!("m{n}"), name(&format!("m{n}"), day)?);
                    put(&format!("y{n}"), day.year().to_string());
                }
                if let (Some(was), Some((row, _))) = (self.text("w"), self.day_of_the_week()) {
                    let at = usize::try_from(day.weekday().to_monday_zero_offset()).ok()?;
                    put("w", cased(row.days[at], was));
                }
            }
            [Named::Month(month)] if self.text("y").is_some() => {
                put("n", format!("{:02}", month.month()));
                put("y", month.year().to_string());
            }
            [Named::Month(month)] => {
                put("m7", name("m7", month)?);
                put("y7", month.year().to_string());
            }
            [Named::Quarter(first)] => {
                for n in ["8", "9", "10"] {
                    let Some(was) = self.text(&format!("q{n}")) else { continue };
                    put(&format!("q{n}"), nth((first.month() - 1) / 3 + 1, was));
                    put(&format!("y{n}"), first.year().to_string());
                }
            }
            // The first end has the month and the year of the second one, unless it needs its own.
            [Named::Day(start), Named::Day(end)] => {
                let (d2, m2, y2) = (self.found.name("d2")?, self.found.name("m2")?, self.found.name("y2")?);
                let all = self.found.get(0)?;
                let between = |from: usize, to: usize| &all.as_str()[from - all.start()..to - all.start()];
                let mut first = nth(start.day(), self.text("d1")?);
                if start.first_of_month() != end.first_of_month() || self.text("m1").is_some() {
                    first += between(d2.end(), m2.start());
                    first += &name("m2", start)?;
                }
                if start.year() != end.year() {
                    first += between(m2.end(), y2.start());
                    first += &start.year().to_string();
                }
                puts.push((self.found.name("d1")?.start()..self.found.name("to")?.start(), first));
                puts.push((d2.range(), nth(end.day(), d2.as_str())));
                puts.push((m2.range(), name("m2", end)?));
                puts.push((y2.range(), end.year().to_string()));
            }
            [Named::Month(start), Named::Month(end)] => {
                let own =
                    if start.year() == end.year() { String::new() } else { format!(" {}", start.year()) };
                put("m5", name("m5", start)? + &own);
                put("m6", name("m6", end)?);
                put("y6", end.year().to_string());
            }
            _ => return None,
        }
        Some(puts)
    }
}
