//! A plan that begins on another day than it was written for: its dates move with it, those of its preparation included.
//! Dates that were given stay, and so does what was before.

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::{Span, ToSpan};
use regex::{Captures, Regex};
use serde_json::Value;

use super::dates::{MONTHS, month_number};

/// A date as texts write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Day(Date),
    /// The first day of the month.
    Month(Date),
    /// The first day of the quarter.
    Quarter(Date),
}

/// From which day to which a plan is moved, and what stays.
#[derive(Debug, Clone)]
pub struct Move {
    from: Date,
    to: Date,
    stays: Vec<Named>,
    /// Earlier dates are history.
    first: Date,
}

/// How long before its start a plan is prepared, in months: what is decided and appointed then moves as well.
const PREPARED: i32 = 6;

const MONTH: &str = r"(?:January|February|March|April|May|June|July|August|September|October|November|December|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)";

/// Dates and spans of them. A span comes first: the year of its end is that of its beginning, too.
static DATES: LazyLock<Regex> = LazyLock::new(|| {
    let day = r"\d{1,2}(?:st|nd|rd|th|\.)?";
    let to = r"\s*(?:to|until|till|through|and|-|–|—)\s*";
    Regex::new(&format!(
        r"(?x)
          \b (?P<y>\d{{4}}) - (?P<m>\d{{2}}) (?: - (?P<d>\d{{2}}) )? \b
        | \b (?P<d1>{day}) (?: \s+ (?P<m1>{MONTH}) \.? )? {to} (?P<d2>{day}) \s+ (?P<m2>{MONTH}) \.? ,? \s+ (?P<y2>\d{{4}}) \b
        | \b (?P<d3>{day}) \s+ (?:of \s+)? (?P<m3>{MONTH}) \.? ,? \s+ (?P<y3>\d{{4}}) \b
        | \b (?P<m4>{MONTH}) \.? \s+ (?P<d4>\d{{1,2}}) (?:st|nd|rd|th)? , \s* (?P<y4>\d{{4}}) \b
        | \b (?P<m5>{MONTH}) \.? {to} (?P<m6>{MONTH}) \.? ,? \s+ (?P<y6>\d{{4}}) \b
        | \b (?P<m7>{MONTH}) \.? ,? \s+ (?:of \s+)? (?P<y7>\d{{4}}) \b
        | \b Q (?P<q8>[1-4]) \s* [/\ ] \s* (?P<y8>\d{{4}}) \b
        | \b (?P<y9>\d{{4}}) [-\s/] Q (?P<q9>[1-4]) \b"
    ))
    .expect("a pattern")
});

fn date(year: &str, month: i8, day: &str) -> Option<Date> {
    let day = day.trim_end_matches(|c: char| !c.is_ascii_digit());
    Date::new(year.parse().ok()?, month, day.parse().ok()?).ok()
}

fn first_of(year: i16, month: i8) -> Option<Date> {
    Date::new(year, month, 1).ok()
}

/// What one match of [`DATES`] names: one date, or both ends of a span.
fn named(found: &Captures<'_>) -> Option<Vec<Named>> {
    let text = |name: &str| found.name(name).map(|part| part.as_str());
    let quarter = |year: &str, quarter: &str| {
        first_of(year.parse().ok()?, (quarter.parse::<i8>().ok()? - 1) * 3 + 1).map(Named::Quarter)
    };
    if let Some(year) = text("y") {
        let month = text("m")?.parse().ok()?;
        return Some(vec![match text("d") {
            Some(day) => Named::Day(date(year, month, day)?),
            None => Named::Month(first_of(year.parse().ok()?, month)?),
        }]);
    }
    if let Some(year) = text("y2") {
        let last = month_number(text("m2")?)?;
        let first = text("m1").map_or(Some(last), month_number)?;
        let end = date(year, last, text("d2")?)?;
        let start = date(&before(year, first > last)?, first, text("d1")?)?;
        return Some(vec![Named::Day(start), Named::Day(end)]);
    }
    if let Some(year) = text("y3") {
        return Some(vec![Named::Day(date(year, month_number(text("m3")?)?, text("d3")?)?)]);
    }
    if let Some(year) = text("y4") {
        return Some(vec![Named::Day(date(year, month_number(text("m4")?)?, text("d4")?)?)]);
    }
    if let Some(year) = text("y6") {
        let (first, last) = (month_number(text("m5")?)?, month_number(text("m6")?)?);
        let start = first_of(before(year, first > last)?.parse().ok()?, first)?;
        return Some(vec![Named::Month(start), Named::Month(first_of(year.parse().ok()?, last)?)]);
    }
    if let Some(year) = text("y7") {
        return Some(vec![Named::Month(first_of(year.parse().ok()?, month_number(text("m7")?)?)?)]);
    }
    match (text("y8"), text("y9")) {
        (Some(year), _) => Some(vec![quarter(year, text("q8")?)?]),
        (_, Some(year)) => Some(vec![quarter(year, text("q9")?)?]),
        _ => None,
    }
}

/// The year before, if the span goes over its end.
fn before(year: &str, is_over: bool) -> Option<String> {
    let year: i16 = year.parse().ok()?;
    Some(if is_over { year - 1 } else { year }.to_string())
}

/// The dates a text names, as `2029-06-01` and `2029-06`; not those that name `start`, nor quarters.
pub fn dates_of(text: &str, start: Date) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for found in DATES.captures_iter(text) {
        for named in named(&found).into_iter().flatten() {
            let shown = match named {
                Named::Day(day) if day != start => day.to_string(),
                Named::Month(month) if month != first_day(start) => month.to_string()[..7].to_owned(),
                _ => continue,
            };
            if !all.contains(&shown) {
                all.push(shown);
            }
        }
    }
    all
}

fn first_day(day: Date) -> Date {
    day.first_of_month()
}

impl Move {
    /// A move from one day to another. `stays`: dates as [`dates_of`] gives them.
    pub fn new(from: Date, to: Date, stays: &[String]) -> Move {
        let stays = stays.iter().flat_map(|text| {
            DATES.captures_iter(text).filter_map(|found| named(&found)).flatten().collect::<Vec<_>>()
        });
        let first = from.checked_sub(PREPARED.months()).unwrap_or(from);
        Move { from, to, stays: stays.collect(), first }
    }

    /// Whether anything moves.
    pub fn is_one(&self) -> bool {
        self.from != self.to
    }

    /// A date of the plan, where it is then.
    fn day(&self, day: Date) -> Option<Date> {
        day.checked_add(self.span()?).ok()
    }

    /// Whole months where both days are the same of their months, else days.
    fn span(&self) -> Option<Span> {
        if self.from.day() == self.to.day() {
            let months = |day: Date| i32::from(day.year()) * 12 + i32::from(day.month());
            return Some((months(self.to) - months(self.from)).months());
        }
        Some(self.from.until(self.to).ok()?.get_days().days())
    }

    /// Where a named date is then; none if it stays.
    fn of(&self, named: Named) -> Option<Named> {
        let stays = |is: &dyn Fn(&Named) -> bool| self.stays.iter().any(is);
        match named {
            Named::Day(day) => {
                let is = |other: &Named| {
                    *other == named || matches!(other, Named::Month(month) if *month == first_day(day))
                };
                (day >= self.first && !stays(&is)).then(|| self.day(day).map(Named::Day)).flatten()
            }
            Named::Month(month) => {
                let is = |other: &Named| match other {
                    Named::Day(day) | Named::Month(day) => first_day(*day) == month,
                    Named::Quarter(_) => false,
                };
                let moved = || Some(Named::Month(first_day(self.day(month.checked_add(14.days()).ok()?)?)));
                (month >= first_day(self.first) && !stays(&is)).then(moved).flatten()
            }
            Named::Quarter(first) => {
                let moved = || {
                    let middle = self.day(first.checked_add(45.days()).ok()?)?;
                    Some(Named::Quarter(first_of(middle.year(), (middle.month() - 1) / 3 * 3 + 1)?))
                };
                let last = first.checked_add(3.months()).ok()?;
                (last > self.first).then(moved).flatten()
            }
        }
    }

    /// A text with its dates moved, each as it was written.
    pub fn text(&self, text: &str) -> String {
        if !self.is_one() {
            return text.to_owned();
        }
        DATES
            .replace_all(text, |found: &Captures<'_>| {
                self.written(found).unwrap_or_else(|| found[0].to_owned())
            })
            .into_owned()
    }

    /// What stands in the place of a match; none if it stays.
    fn written(&self, found: &Captures<'_>) -> Option<String> {
        let text = |name: &str| found.name(name).map(|part| part.as_str());
        let all = named(found)?;
        let moved: Vec<Option<Named>> = all.iter().map(|named| self.of(*named)).collect();
        if moved.iter().all(Option::is_none) {
            return None;
        }
        let now: Vec<Named> = all.iter().zip(&moved).map(|(was, moved)| moved.unwrap_or(*was)).collect();
        let name = |month: i8, like: &str| {
            let name = MONTHS[usize::try_from(month - 1).unwrap_or_default()];
            let name = name[..1].to_uppercase() + &name[1..];
            if like.len() <= 3 && like != "May" { name[..3].to_owned() } else { name }
        };
        match now.as_slice() {
            [Named::Day(day)] if text("y").is_some() => Some(day.to_string()),
            [Named::Month(month)] if text("y").is_some() => Some(month.to_string()[..7].to_owned()),
            [Named::Day(day)] if text("y3").is_some() => {
                Some(format!("{} {} {}", day.day(), name(day.month(), text("m3")?), day.year()))
            }
            [Named::Day(day)] => {
                Some(format!("{} {}, {}", name(day.month(), text("m4")?), day.day(), day.year()))
            }
            [Named::Month(month)] => Some(format!("{} {}", name(month.month(), text("m7")?), month.year())),
            [Named::Quarter(first)] => {
                let quarter = (first.month() - 1) / 3 + 1;
                Some(match text("q8") {
                    Some(_) => format!("Q{quarter} {}", first.year()),
                    None => format!("{}-Q{quarter}", first.year()),
                })
            }
            // Both ends in full: the year of one may no longer be that of the other.
            [Named::Day(start), Named::Day(end)] => {
                let like = text("m2")?;
                let one = |day: &Date| format!("{} {} {}", day.day(), name(day.month(), like), day.year());
                Some(format!("{} to {}", one(start), one(end)))
            }
            [Named::Month(start), Named::Month(end)] => {
                let one = |day: &Date| {
                    format!("{} {}", name(day.month(), text("m6").unwrap_or("May ")), day.year())
                };
                Some(format!("{} to {}", one(start), one(end)))
            }
            _ => None,
        }
    }

    /// All texts of a value, moved; keys, numbers and everything else stay.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(list) => list.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => members.values_mut().for_each(|item| self.value(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn dates_move_as_they_are_written() {
        let half_a_year = Move::new(day("2027-03-01"), day("2027-09-01"), &[]);
        for (text, wanted) in [
            ("2027-03-01", "2027-09-01"),
            ("by 2027-08-31.", "by 2028-02-29."),
            ("in 2027-07, that is", "in 2028-01, that is"),
            ("on 15 September 2027 and 1st of March 2027", "on 15 March 2028 and 1 September 2027"),
            ("on March 15, 2027", "on September 15, 2027"),
            ("May 2027, Sept. 2027", "November 2027, March 2028"),
            ("Mar 2027", "Sep 2027"),
            ("Q2 2027 or 2027-Q4", "Q4 2027 or 2028-Q2"),
            ("March to May 2027", "September 2027 to November 2027"),
            ("from November to February 2028", "from May 2028 to August 2028"),
            ("1 to 15 June 2027", "1 December 2027 to 15 December 2027"),
            ("20 June – 10 August 2027", "20 December 2027 to 10 February 2028"),
            ("decide by 31 January 2027", "decide by 31 July 2027"),
            // History, or no date.
            (
                "since 2019, voted on 12 February 2026 (2026-08)",
                "since 2019, voted on 12 February 2026 (2026-08)",
            ),
            (
                "2027-13-01 32 May 2027 EN 1992-1 2027 a 4,200 m²",
                "2027-13-01 32 May 2027 EN 1992-1 2027 a 4,200 m²",
            ),
        ] {
            assert_eq!(half_a_year.text(text), wanted);
        }
    }

    #[test]
    fn days_are_counted_where_the_day_of_the_month_is_another() {
        let by_days = Move::new(day("2027-03-01"), day("2027-04-12"), &[]);
        assert_eq!(by_days.text("2027-03-01, 2027-06-01, May 2027"), "2027-04-12, 2027-07-13, June 2027");
        let back = Move::new(day("2027-03-01"), day("2026-03-01"), &[]);
        assert_eq!(back.text("2028-02-29 and 1 March 2027"), "2027-02-28 and 1 March 2026");
        let none = Move::new(day("2027-03-01"), day("2027-03-01"), &[]);
        assert!(!none.is_one());
        assert_eq!(none.text("1 to 15 June 2027"), "1 to 15 June 2027");
    }

    #[test]
    fn what_was_given_stays() {
        let plan = "Start on 1 March 2027, open on 1 June 2029, before July 2029; 3 to 5 May 2028.";
        let stays = dates_of(plan, day("2027-03-01"));
        assert_eq!(stays, ["2029-06-01", "2029-07", "2028-05-03", "2028-05-05"]);
        let moved = Move::new(day("2027-03-01"), day("2027-09-01"), &stays);
        for (text, wanted) in [
            ("1 March 2027 to 1 June 2029", "1 September 2027 to 1 June 2029"),
            ("June 2029, 2029-06, 2 June 2029", "June 2029, 2029-06, 2 December 2029"),
            ("15 July 2029", "15 July 2029"),
            ("April to June 2029", "October 2029 to June 2029"),
        ] {
            assert_eq!(moved.text(text), wanted);
        }
        let mut value = serde_json::json!({"2027-03-01": ["2027-03-01", 2027, null, {"a": "2029-06-01"}]});
        moved.value(&mut value);
        assert_eq!(value, serde_json::json!({"2027-03-01": ["2027-09-01", 2027, null, {"a": "2029-06-01"}]}));
    }
}
