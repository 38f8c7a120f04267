//! Dates that a text gives beside a month: `Month 6 (September 2027)`, `Month 3 of phase 2 (2028-05-01)`. A month is counted
//! from the start of the plan, or of the phase it names.

use std::sync::LazyLock;

use jiff::ToSpan;
use jiff::civil::Date;
use regex::{Captures, Regex};

use super::TextFault;
use super::claims::fault;

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

pub(super) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The number of a month by its name, or the first three letters or more of it.
pub(super) fn month_number(name: &str) -> Option<i8> {
    let name = name.to_lowercase();
    let at = MONTHS.iter().position(|month| month.starts_with(&name) && name.len() >= 3)?;
    i8::try_from(at + 1).ok()
}

static CLAIM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x) \b Month \s+ (\d{1,3}) \b (?: \s+ (?:of|after) \s+ (?:the\s+)? ([A-Za-z][^(),.;:]{0,60}?) )?
        \s* [(,] \s* (?: (\d{4})-(\d{2})(?:-\d{2})? | (?:\d{1,2}\s+)? ([A-Z][a-z]+) \s+ (\d{4}) ) \b",
    )
    .expect("a pattern")
});

impl Calendar {
    /// Dates beside a month that is another one.
    pub fn faults(&self, text: &str) -> Vec<TextFault> {
        let mut found = Vec::new();
        for (n, line) in text.lines().enumerate() {
            for claim in CLAIM.captures_iter(line) {
                if let Some(message) = self.wrong(&claim) {
                    found.push(fault(n + 1, &claim[0], message));
                }
            }
        }
        found
    }

    fn wrong(&self, claim: &Captures<'_>) -> Option<String> {
        let text = |n: usize| claim.get(n).map(|found| found.as_str());
        let count: i64 = text(1)?.parse().ok()?;
        let (from, start) = match text(2) {
            None => ("the start".to_owned(), self.start),
            Some(name) => {
                let wanted = name.trim().to_lowercase();
                let is_it = |phase: &&Phase| phase.names.iter().any(|name| name.to_lowercase() == wanted);
                // Of a phase that is not known nothing is said.
                let phase = self.phases.iter().find(is_it)?;
                (format!("the start of {}", name.trim()), phase.start)
            }
        };
        let (year, month): (i16, i8) = match text(3) {
            Some(year) => (year.parse().ok()?, text(4)?.parse().ok()?),
            None => (text(6)?.parse().ok()?, month_number(text(5)?)?),
        };
        let due = start.checked_add(count.months()).ok()?;
        if (due.year(), due.month()) == (year, month) {
            return None;
        }
        Some(format!("is {:04}-{:02}, {count} months from {from} ({start})", due.year(), due.month()))
    }
}
