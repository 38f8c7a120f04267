//! Where a moment lies between the left and the right edge of a chart: evenly by the calendar, or with the times left out
//! in which nothing happened.

use jiff::ToSpan;
use jiff::tz::TimeZone;

use super::{At, Span};

/// A rest no longer than this stays as it was.
const REST: At = 10_000;

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Pieces of time and where each lies, from 0 to 1.
    pieces: Vec<(Span, f64, f64)>,
    /// Moments worth a mark, and their names.
    pub marks: Vec<(f64, String)>,
    /// Where time was left out.
    pub gaps: Vec<f64>,
}

impl Axis {
    /// An axis of the calendar, with at most so many marks.
    pub fn calendar(whole: Span, most: usize) -> Axis {
        let mut axis = Axis { pieces: vec![(whole, 0.0, 1.0)], marks: Vec::new(), gaps: Vec::new() };
        axis.marks = marks(whole, most).into_iter().map(|(at, name)| (axis.place(at), name)).collect();
        axis
    }

    /// An axis on which a time without any of these spans takes little room.
    pub fn of_work(spans: impl IntoIterator<Item = Span>) -> Axis {
        let mut spans: Vec<Span> = spans.into_iter().collect();
        spans.sort_by_key(|span| span.from);
        let mut busy: Vec<Span> = Vec::new();
        for span in spans {
            match busy.last_mut() {
                Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
                _ => busy.push(span),
            }
        }
        let all: At = busy.iter().map(|span| span.to - span.from).sum::<At>().max(1);
        // A short rest stays, in proportion; a longer one is a mark.
        let mut joined: Vec<Span> = Vec::new();
        for span in busy {
            match joined.last_mut() {
                Some(last) if span.from - last.to <= (all / 20).max(REST) => last.to = span.to,
                _ => joined.push(span),
            }
        }
        let gap = 0.02;
        let lengths: At = joined.iter().map(|span| span.to - span.from).sum::<At>().max(1);
        let room = 1.0 - (gap * joined.len().saturating_sub(1) as f64).min(0.5);
        let gap = (1.0 - room) / joined.len().saturating_sub(1).max(1) as f64;
        let mut axis = Axis { pieces: Vec::new(), marks: Vec::new(), gaps: Vec::new() };
        let mut left = 0.0;
        for (n, span) in joined.iter().enumerate() {
            if n > 0 {
                axis.gaps.push(left + gap / 2.0);
                left += gap;
            }
            let right = left + room * (span.to - span.from) as f64 / lengths as f64;
            axis.pieces.push((*span, left, right));
            left = right;
        }
        axis
    }

    /// Where a moment lies, from 0 to 1.
    pub fn place(&self, at: At) -> f64 {
        let mut place = 0.0;
        for (span, left, right) in &self.pieces {
            if at <= span.from {
                return if at == span.from { *left } else { place };
            }
            if at <= span.to {
                let part = (at - span.from) as f64 / (span.to - span.from).max(1) as f64;
                return left + (right - left) * part;
            }
            place = *right;
        }
        place
    }
}

/// The beginnings of years, quarters or months, whichever are as many as there is room for.
fn marks(whole: Span, most: usize) -> Vec<(At, String)> {
    let zoned =
        |at: At| jiff::Timestamp::from_millisecond(at).map(|at| at.to_zoned_datetime(TimeZone::UTC)).ok();
    let Some((first, last)) = zoned(whole.from).zip(zoned(whole.to)) else { return Vec::new() };
    let (first, last) = (first.date(), last.date());
    let months = (i64::from(last.year()) - i64::from(first.year())) * 12 + i64::from(last.month())
        - i64::from(first.month());
    let days = (whole.to - whole.from) / super::DAY;
    if days <= 31 {
        let step = [1, 2, 7, 14].into_iter().find(|step| days / step <= most as i64).unwrap_or(31);
        let first = whole.from.div_euclid(super::DAY) * super::DAY;
        let starts = (0..=days).step_by(step as usize).map(|n| (first + n * super::DAY).max(whole.from));
        return starts.filter_map(|at| Some((at, zoned(at)?.strftime("%-d %b").to_string()))).collect();
    }
    let steps = [1, 2, 3, 6, 12, 24, 60, 120, 600, 3000, 12_000];
    let step = steps.into_iter().find(|step| months / step <= most as i64).unwrap_or(60_000);
    let mut marks = Vec::new();
    let mut day = first.first_of_month();
    while day <= last && marks.len() <= 2 * most {
        let month = i64::from(day.year()) * 12 + i64::from(day.month()) - 1;
        if day >= first && month % step == 0 {
            let name = match step {
                step if step >= 12 || day.month() == 1 => day.strftime("%Y"),
                _ if marks.is_empty() => day.strftime("%b %Y"),
                _ => day.strftime("%b"),
            };
            if let Ok(at) = day.to_zoned_datetime(TimeZone::UTC) {
                marks.push((at.timestamp().as_millisecond(), name.to_string()));
            }
        }
        match day.checked_add(1.month()) {
            Ok(next) => day = next,
            Err(_) => break,
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_rest_takes_little_room() {
        let axis = Axis::of_work([
            Span::new(0, 100_000),
            Span::new(50_000, 200_000),
            Span::new(1_000_000_000, 1_000_200_000),
        ]);
        assert_eq!((axis.place(0), axis.place(2_000_000_000)), (0.0, 1.0));
        assert!((axis.place(100_000) - 0.245).abs() < 0.001, "{}", axis.place(100_000));
        assert!((axis.place(1_000_000_000) - 0.51).abs() < 0.001);
        assert!((axis.place(500_000_000) - 0.49).abs() < 0.001);
        assert_eq!(axis.gaps.len(), 1);
        let empty = Axis::of_work([]);
        assert_eq!(empty.place(5), 0.0);
    }

    #[test]
    fn marks_are_as_many_as_there_is_room_for() {
        let day = |year: i16, month: i8, day: i8| -> At {
            jiff::civil::date(year, month, day)
                .to_zoned_datetime(TimeZone::UTC)
                .unwrap()
                .timestamp()
                .as_millisecond()
        };
        let names = |from, to, most| -> Vec<String> {
            Axis::calendar(Span::new(from, to), most).marks.into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names(day(2027, 1, 1), day(2027, 4, 1), 6), ["2027", "Feb", "Mar", "Apr"]);
        assert_eq!(
            names(day(2026, 11, 20), day(2029, 11, 30), 6),
            ["2027", "Jul", "2028", "Jul", "2029", "Jul"]
        );
        assert_eq!(names(day(2027, 3, 1), day(2027, 3, 5), 6), ["1 Mar", "2 Mar", "3 Mar", "4 Mar", "5 Mar"]);
        let many = names(day(1, 1, 1), day(9000, 1, 1), 6);
        assert!(many.len() <= 12, "{many:?}");
    }
}
