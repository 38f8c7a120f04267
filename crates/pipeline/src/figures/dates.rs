//! Dates that a text gives beside a month: `Month 6 (September 2027)`, `Month 3 of phase 2 (2028-05-01)`. A month is counted
//! from the start of the plan, or of the phase it names. And dates beside a day of the week that they are not.

use std::sync::LazyLock;

use jiff::ToSpan;
use jiff::civil::Date;
use regex::Regex;

use super::TextFault;
use super::claims::fault;
use super::languages::Languages;
use super::named::{Found, Named, dates};
use super::unit::in_number;

/// A part of a plan with a start of its own.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What texts call it: `phase 2`, `operation`.
    pub names: Vec<String>,
    /// Its first day.
    pub start: Date,
}

/// What months are counted from.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// The first day of the plan: Month 0.
    pub start: Date,
    /// Its phases.
    pub phases: Vec<Phase>,
}

/// `Month 3`, `Month 3 of phase 2`, `3 months after the start of phase 2`.
static COUNT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x) \b (?:
          [Mm]onth \s+ (?P<n>\d{1,3}) \b (?: \s+ (?:of|after|into|in) \s+ (?P<of>[^()\[\],.;:|=–—]{1,70}) )?
        | (?P<m>\d{1,3}|(?i:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)) \s+ months? \s+ (?:after|into)
          \s+ (?P<after>[^()\[\],.;:|=–—]{1,70}) )",
    )
    .expect("a pattern")
});

/// What stands between a month and the date it is said to be.
static LINK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?x)^ [\ *_]* (?: [(\[,:=–—|] | \ -\  | \ is\ ) [\ *_]* (?: (?:i\.e\.|that\ is|or|in|by|is|=|about|from|until) ,? \s+ )* $")
        .expect("a pattern")
});

const NUMBERS: [&str; 12] =
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// A name in small letters, its numbers in digits, without an article.
fn plain(name: &str) -> String {
    let words =
        name.split(|c: char| c.is_whitespace() || c == '*' || c == '_').filter(|word| !word.is_empty());
    let words = words.map(str::to_lowercase).map(|word| {
        let number = NUMBERS.iter().position(|number| *number == word);
        number.map_or(word, |at| (at + 1).to_string())
    });
    let name = words.collect::<Vec<_>>().join(" ");
    let name = name.strip_prefix("the ").unwrap_or(&name);
    let name = name.strip_prefix("start of ").or(name.strip_prefix("beginning of ")).unwrap_or(name);
    name.strip_prefix("the ").unwrap_or(name).to_owned()
}

/// What a month is counted from.
enum From {
    Start,
    Phase(String, Date),
    /// Something that is not known here.
    Else,
}

impl Calendar {
    /// Dates beside a month that is another one, and beside a day of the week that they are not.
    pub fn faults(&self, text: &str) -> Vec<TextFault> {
        let languages = Languages::new(None);
        let mut found = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let dates: Vec<Found<'_>> = dates(line, &languages).collect();
            for date in &dates {
                if let (Some((row, said)), [Named::Day(day)]) = (date.day_of_the_week(), &date.dates[..]) {
                    let is = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or(said);
                    if is != said {
                        found.push(fault(n + 1, &line[date.range()], format!("is a {}", row.days[is])));
                    }
                }
            }
            for count in COUNT.captures_iter(line) {
                let all = count.get(0).map(|all| all.range()).unwrap_or_default();
                let group = |name: &str| count.name(name).map(|part| part.as_str());
                let months = group("n").or(group("m")).and_then(|text| {
                    let word = NUMBERS.iter().position(|number| number.eq_ignore_ascii_case(text));
                    word.map_or_else(|| text.parse().ok(), |at| i64::try_from(at + 1).ok())
                });
                let Some(months) = months else { continue };
                let (from, end) = match count.name("of").or(count.name("after")) {
                    // Of the words behind it, those up to the date: `phase 2 is May 2027`.
                    Some(name) => match self.named(name.as_str()) {
                        Some((from, length)) => (from, name.start() + length),
                        None => continue,
                    },
                    None => (self.before(&line[..all.start]), all.end),
                };
                let (name, start) = match from {
                    From::Start => ("the start".to_owned(), self.start),
                    From::Phase(name, start) => (format!("the start of {name}"), start),
                    // Of a phase that is not known nothing is said.
                    From::Else => continue,
                };
                let behind =
                    dates.iter().find(|date| date.start() >= end && LINK.is_match(&line[end..date.start()]));
                // `May 2027 (Month 3 of phase 2)`.
                let before = || {
                    dates.iter().find(|date| {
                        date.range().end <= all.start
                            && line[date.range().end..all.start].trim() == "("
                            && line[end..].starts_with(')')
                    })
                };
                let Some(date) = behind.or_else(before) else { continue };
                let [named] = &date.dates[..] else { continue };
                let Ok(due) = start.checked_add(months.months()) else { continue };
                let holds = match named {
                    Named::Day(day) | Named::Month(day) => day.first_of_month() == due.first_of_month(),
                    Named::Quarter(first) => {
                        *first <= due && first.checked_add(3.months()).is_ok_and(|next| due < next)
                    }
                };
                if !holds {
                    let said = all.start.min(date.start())..end.max(date.range().end);
                    let due = format!("{:04}-{:02}", due.year(), due.month());
                    let message = format!(
                        "is {due}, {months} {} from {name} ({start})",
                        in_number("months", months == 1)
                    );
                    found.push(fault(n + 1, &line[said], message));
                }
            }
        }
        found
    }

    /// The phase that words begin with, and how many bytes they are; none if it is not known.
    fn named(&self, words: &str) -> Option<(From, usize)> {
        let ends =
            words.char_indices().map(|(at, _)| at).filter(|&at| words[at..].starts_with([' ', '*', '_']));
        let mut ends: Vec<usize> = ends.chain([words.len()]).collect();
        ends.reverse();
        ends.into_iter().find_map(|end| {
            let name = words[..end].trim_matches(|c: char| c.is_whitespace() || c == '*' || c == '_');
            let wanted = plain(name);
            if ["start", "start of work", "work", "project", "plan"].contains(&wanted.as_str()) {
                return Some((From::Start, end));
            }
            let phase = self.phase(&wanted)?;
            let shown =
                name.split_whitespace().filter(|word| !["the", "start", "beginning", "of"].contains(word));
            Some((From::Phase(shown.collect::<Vec<_>>().join(" "), phase.start), end))
        })
    }

    fn phase(&self, wanted: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.names.iter().any(|name| plain(name) == wanted))
    }

    /// What stands before a month may be the phase it is counted in: `Phase 2, Month 3`.
    fn before(&self, text: &str) -> From {
        let text = text.trim_end_matches(|c: char| c.is_whitespace() || ",:;–—-*_|(".contains(c));
        let words: Vec<&str> = text.split_whitespace().collect();
        for count in 1..=words.len().min(8) {
            let name = words[words.len() - count..].join(" ");
            if let Some(phase) = self.phase(&plain(name.trim_start_matches(|c: char| !c.is_alphanumeric()))) {
                return From::Phase(name, phase.start);
            }
        }
        let last: Vec<String> = words.iter().rev().take(2).map(|word| word.to_lowercase()).collect();
        match &last[..] {
            [_, phase] if phase.trim_start_matches(|c: char| !c.is_alphanumeric()) == "phase" => From::Else,
            _ => From::Start,
        }
    }
}
