//! A plan that begins on another day than it was written for: its dates move with it, those of its preparation included.
//! Dates that were given stay, and so does what was before.

use jiff::civil::Date;
use jiff::{Span, ToSpan};
use serde_json::Value;

use super::languages::Languages;
use super::named::{Found, Named, dates};

/// From which day to which a plan is moved, and what stays.
#[derive(Debug, Clone)]
pub struct Move {
    from: Date,
    to: Date,
    stays: Vec<Named>,
    /// Earlier dates are history.
    first: Date,
    languages: Languages,
}

/// How long before its start a plan is prepared, in months: what is decided and appointed then moves as well.
const PREPARED: i32 = 6;

/// The dates a text names, as `2029-06-01` and `2029-06`; not those that name `start`, nor quarters.
pub fn dates_of(text: &str, start: Date) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for found in dates(text, &Languages::new(None)) {
        for named in found.dates {
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

/// The last day of the first date, month, quarter or span that a text names.
pub fn last_day(text: &str) -> Option<Date> {
    let languages = Languages::new(None);
    let named = *dates(text, &languages).next()?.dates.last()?;
    let months = match named {
        Named::Day(day) => return Some(day),
        Named::Month(_) => 1,
        Named::Quarter(_) => 3,
    };
    let (Named::Month(first) | Named::Quarter(first) | Named::Day(first)) = named;
    first.checked_add(months.months()).and_then(|next| next.yesterday()).ok()
}

fn first_day(day: Date) -> Date {
    day.first_of_month()
}

impl Move {
    /// A move from one day to another. `stays`: dates as [`dates_of`] gives them. `language`: the one of the texts, in
    /// English, by itself or as a code; month names are read in it and in English.
    pub fn new(from: Date, to: Date, stays: &[String], language: Option<&str>) -> Move {
        let all = Languages::new(None);
        let stays =
            stays.iter().flat_map(|text| dates(text, &all).flat_map(|found| found.dates).collect::<Vec<_>>());
        let first = from.checked_sub(PREPARED.months()).unwrap_or(from);
        Move { from, to, stays: stays.collect(), first, languages: Languages::new(language) }
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
                    Some(Named::Quarter(Date::new(middle.year(), (middle.month() - 1) / 3 * 3 + 1, 1).ok()?))
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
        let (mut out, mut at) = (String::new(), 0);
        for found in dates(text, &self.languages) {
            let Some(written) = self.written(&found) else { continue };
            out.push_str(&text[at..found.range().start]);
            out.push_str(&written);
            at = found.range().end;
        }
        out.push_str(&text[at..]);
        out
    }

    /// What stands in the place of dates; none if they stay.
    fn written(&self, found: &Found<'_>) -> Option<String> {
        let moved: Vec<Option<Named>> = found.dates.iter().map(|named| self.of(*named)).collect();
        if moved.iter().all(Option::is_none) {
            return None;
        }
        let now: Vec<Named> =
            found.dates.iter().zip(&moved).map(|(was, moved)| moved.unwrap_or(*was)).collect();
        found.with(&now)
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
        let half_a_year = Move::new(day("2027-03-01"), day("2027-09-01"), &[], None);
        for (text, wanted) in [
            ("2027-03-01", "2027-09-01"),
            ("by 2027-08-31.", "by 2028-02-29."),
            ("in 2027-07, that is", "in 2028-01, that is"),
            ("on 15 September 2027 and 1st of March 2027", "on 15 March 2028 and 1st of September 2027"),
            ("on March 15, 2027", "on September 15, 2027"),
            ("May 2027, Sept. 2027", "November 2027, Mar. 2028"),
            ("Mar 2027", "Sep 2027"),
            ("Q2 2027 or 2027-Q4", "Q4 2027 or 2028-Q2"),
            ("March to May 2027", "September to November 2027"),
            ("June to August 2027", "December 2027 to February 2028"),
            ("from November to February 2028", "from May to August 2028"),
            ("1 to 15 June 2027", "1 to 15 December 2027"),
            ("20 June – 10 August 2027", "20 December 2027 – 10 February 2028"),
            ("Monday, 1 March 2027; Tue 2 March 2027", "Wednesday, 1 September 2027; Thu 2 September 2027"),
            ("10 lots 2027-03-01", "10 lots 2027-09-01"),
            ("on 01.03.2027 and 1.3.2027", "on 01.09.2027 and 1.9.2027"),
            ("the 2nd quarter of 2027", "the 4th quarter of 2027"),
            ("decide by 31 January 2027", "decide by 31 July 2027"),
            // History, or no date.
            (
                "20 June to 10 August 2027, 01/03/2027, in June",
                "20 December 2027 to 10 February 2028, 01/03/2027, in June",
            ),
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

    /// Half a year later, in every language of the table; the first three are forms of English.
    #[test]
    fn dates_move_in_other_languages() {
        for (language, text, wanted) in [
            (
                "German",
                "Montag, den 1. März 2027, im Mai 2027",
                "Mittwoch, den 1. September 2027, im November 2027",
            ),
            ("Deutsch", "1. bis 15. Juni 2027; 2. Quartal 2027", "1. bis 15. Dezember 2027; 4. Quartal 2027"),
            ("de", "April bis August 2027, 01.03.2027", "Oktober 2027 bis Februar 2028, 01.09.2027"),
            ("French", "lundi 1er mars 2027, T2 2027", "mercredi 1er septembre 2027, T4 2027"),
            ("fr", "Août 2027, du 3 au 20 juin 2027", "Février 2028, du 3 au 20 décembre 2027"),
            ("Spanish", "el lunes 1 de marzo de 2027", "el miércoles 1 de septiembre de 2027"),
            (
                "español",
                "20 de junio a 10 de agosto de 2027",
                "20 de diciembre de 2027 a 10 de febrero de 2028",
            ),
            ("Italian", "lunedì 1 marzo 2027, maggio 2027", "mercoledì 1 settembre 2027, novembre 2027"),
            ("Portuguese", "1º de março de 2027 (segunda-feira)", "1º de setembro de 2027 (segunda-feira)"),
            (
                "Brazilian Portuguese",
                "segunda-feira, 1 de março de 2027",
                "quarta-feira, 1 de setembro de 2027",
            ),
            ("Dutch", "maandag 1 maart 2027, augustus 2027", "woensdag 1 september 2027, februari 2028"),
            ("Danish", "mandag den 1. marts 2027, maj 2027", "onsdag den 1. september 2027, november 2027"),
            ("Swedish", "måndag 1 mars 2027, augusti 2027", "onsdag 1 september 2027, februari 2028"),
            ("Norwegian", "mandag 1. mars 2027, juni 2027", "onsdag 1. september 2027, desember 2027"),
            ("Polish", "poniedziałek, 1 marca 2027", "środa, 1 września 2027"),
            ("polski", "marzec 2027, w maju 2027 r.", "wrzesień 2027, w listopadzie 2027 r."),
            // English names are read as well; those of a language that is not spoken here are not.
            ("German", "March 2027, mars 2027", "September 2027, mars 2027"),
            ("English", "to Mars 2027, may 2027, T2 2027", "to Mars 2027, may 2027, T2 2027"),
            // A language that is not in the table: any of the table.
            ("Klingon", "mars 2027, März 2027", "septembre 2027, September 2027"),
        ] {
            let moved = Move::new(day("2027-03-01"), day("2027-09-01"), &[], Some(language));
            assert_eq!(moved.text(text), wanted, "{language}");
        }
        assert_eq!(dates_of("am 1. Juni 2029, w maju 2028", day("2027-03-01")), ["2029-06-01", "2028-05"]);
    }

    #[test]
    fn days_are_counted_where_the_day_of_the_month_is_another() {
        let by_days = Move::new(day("2027-03-01"), day("2027-04-12"), &[], None);
        assert_eq!(by_days.text("2027-03-01, 2027-06-01, May 2027"), "2027-04-12, 2027-07-13, June 2027");
        let back = Move::new(day("2027-03-01"), day("2026-03-01"), &[], None);
        assert_eq!(back.text("2028-02-29 and 1 March 2027"), "2027-02-28 and 1 March 2026");
        let none = Move::new(day("2027-03-01"), day("2027-03-01"), &[], None);
        assert!(!none.is_one());
        assert_eq!(none.text("1 to 15 June 2027"), "1 to 15 June 2027");
    }

    #[test]
    fn what_was_given_stays() {
        let plan = "Start on 1 March 2027, open on 1 June 2029, before July 2029; 3 to 5 May 2028.";
        let stays = dates_of(plan, day("2027-03-01"));
        assert_eq!(stays, ["2029-06-01", "2029-07", "2028-05-03", "2028-05-05"]);
        let moved = Move::new(day("2027-03-01"), day("2027-09-01"), &stays, None);
        for (text, wanted) in [
            ("1 March 2027 to 1 June 2029", "1 September 2027 to 1 June 2029"),
            ("June 2029, 2029-06, 2 June 2029", "June 2029, 2029-06, 2 December 2029"),
            ("15 July 2029", "15 July 2029"),
            ("April to June 2029", "October to June 2029"),
        ] {
            assert_eq!(moved.text(text), wanted);
        }
        let mut value = serde_json::json!({"2027-03-01": ["2027-03-01", 2027, null, {"a": "2029-06-01"}]});
        moved.value(&mut value);
        assert_eq!(value, serde_json::json!({"2027-03-01": ["2027-09-01", 2027, null, {"a": "2029-06-01"}]}));
    }
}
