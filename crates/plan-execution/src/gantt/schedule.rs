//! A schedule: the file that `[pipeline] schedule` names. Its texts may be a model's; they are only shown.

use jiff::civil::Date;
use serde::Deserialize;

use super::{At, DAY, Span};

/// Most rows that are shown.
const MOST: usize = 50_000;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Schedule {
    /// Version of the format.
    pub schema: u32,
    /// What is carried out.
    #[serde(default)]
    pub title: String,
    /// Its rows, in order.
    pub rows: Vec<Planned>,
}

/// A row of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Planned {
    /// 1 to 3: those of a higher level belong to the last one of a lower.
    pub level: u8,
    /// A task of the pipeline.
    pub task: Option<String>,
    /// What it is called.
    pub title: String,
    /// The first day, `2027-03-01`.
    pub start: Option<String>,
    /// The last day.
    pub finish: Option<String>,
    /// Whether the end hangs on it.
    pub critical: bool,
    /// A day that must be kept.
    pub deadline: Option<String>,
    /// Why.
    pub deadline_reason: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

impl Schedule {
    /// Reads the bytes of the file.
    pub fn read(bytes: &[u8]) -> Result<Schedule, String> {
        let mut schedule: Schedule = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if schedule.schema != 1 {
            return Err(format!("`schema` is {}, and 1 is the one known", schedule.schema));
        }
        if schedule.rows.len() > MOST {
            return Err(format!("it has {} rows; {MOST} are the most", schedule.rows.len()));
        }
        for row in &mut schedule.rows {
            row.level = row.level.clamp(1, 3);
        }
        Ok(schedule)
    }
}

impl Planned {
    /// From the first moment of its first day to the last one of its last.
    pub fn span(&self) -> Option<Span> {
        let start = day(self.start.as_deref()?)?;
        let finish = self.finish.as_deref().and_then(day).unwrap_or(start).max(start);
        Some(Span::new(start, finish + DAY))
    }

    /// The end of the day that must be kept.
    pub fn deadline(&self) -> Option<At> {
        Some(day(self.deadline.as_deref()?)? + DAY)
    }
}

/// The first second of a day, if it is one.
fn day(text: &str) -> Option<At> {
    let date: Date = text.parse().ok()?;
    Some(date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_nonsense_is_none() {
        let row = |start: &str, finish: &str| Planned {
            start: Some(start.to_owned()),
            finish: Some(finish.to_owned()),
            ..Planned::default()
        };
        assert_eq!(row("1970-01-02", "1970-01-03").span(), Some(Span { from: DAY, to: 3 * DAY }));
        assert_eq!(row("1970-01-02", "1969-01-03").span(), Some(Span { from: DAY, to: 2 * DAY }));
        assert_eq!(row("soon", "1969-01-03").span(), None);
        assert!(Schedule::read(b"{\"schema\": 2, \"rows\": []}").unwrap_err().contains("1 is the one known"));
        assert!(Schedule::read(b"[").is_err());
        let read =
            Schedule::read(b"{\"schema\": 1, \"rows\": [{\"level\": 200, \"title\": \"x\"}]}").unwrap();
        assert_eq!(read.rows[0].level, 3);
    }
}
