//! When a usage limit is over, as a server or a program says it in a text: fields of JSON, times of day with or without
//! a zone, dates, spans, seconds since 1970.
//!
//! What is found is only a wait: bounded like that of a header, and none where the text names no time that can be read.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};
use regex::{Captures, Regex};

use super::retry_after::{iso_duration, wait_of};

/// Bytes of a text that are read: its last ones.
const READ: usize = 16 * 1024;
/// A moment that is over for so long is that of the next day or year; before, it is now.
const JUST_OVER: f64 = 120.0;
/// How long a limit is left alone whose moment is just over.
const SOON: f64 = 60.0;
/// Characters after a word of a reset in which its time is looked for.
const NEAR: usize = 80;

static FIELD_IN: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r#"(?i)\\?"(?:resets_in_seconds|reset_in_seconds|retry_after_seconds|retry_?after|retrydelay)\\?"\s*:\s*\\?"?(\d+(?:\.\d+)?)s?\b"#,
    )
});
static FIELD_IN_MS: LazyLock<Regex> =
    LazyLock::new(|| read(r#"(?i)\\?"(?:retry_?after|resets?_?in)_?ms\\?"\s*:\s*\\?"?(\d+(?:\.\d+)?)\b"#));
static FIELD_AT: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r#"(?i)\\?"(?:resets_at|resetsat|reset_at|resetat|reset_time|resettime)\\?"\s*:\s*\\?"?([0-9][0-9:.TZ+-]*)"#,
    )
});
static EPOCH: LazyLock<Regex> = LazyLock::new(|| read(r"(?i)limit[^|\n]{0,60}\|\s*(1\d{9}(?:\d{3})?)\b"));
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"(?i)\b(?:resets?|resetting|try again|retry|access(?: resets)?|renews?|refresh(?:es)?|available again|again|until|wait|lifted)\b",
    )
});
static LEAD: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r#"^(?i)(?:[\s:·∙|="'’,~-]+|(?:will|be|is|at|on|in|after|again|by|the|from|next|your|quota|limit|time|access|about|around|approximately)\b)+"#,
    )
});
static SPAN: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)(?:(\d+(?:\.\d+)?|(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half\s+an?)\b)\s*(milliseconds?|ms|months?|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w)(?:[\s,]+and\s+|[\s,]*)?\b?)",
    )
});
static LEFT: LazyLock<Regex> = LazyLock::new(|| read(r"^(\d{1,3}):([0-5]\d)(?::([0-5]\d))?\b"));
static IN: LazyLock<Regex> = LazyLock::new(|| read(r"(?i)\bin\b"));
static ISO: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)(\d{4}-\d\d-\d\d)(?:(?:t|\s+at\s+|,?\s+)(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(z\b|[+-]\d\d:?\d\d)?)?",
    )
});
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?(?:(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(\d{1,2})(?:st|nd|rd|th)?|(\d{1,2})(?:st|nd|rd|th)?\s+(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?)(?:,?\s+(20\d\d))?(?:,|\s+at)*\s*",
    )
});
static DAY: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)(today|tomorrow|mon(?:day)?|tue(?:s|sday)?|wed(?:nesday)?|thu(?:rs|rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)\b(?:,|\s+at)*\s*",
    )
});
static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)(?:(midnight|noon)|(\d{1,2})(?::(\d\d))?(?::\d\d)?\s*([ap])\.?m\b\.?|(\d{1,2}):(\d\d)(?::\d\d)?)",
    )
});
static ZONE: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)[\s,]*\(?\s*(?:([a-z]+(?:/[a-z0-9_+-]+){1,2})|(?:(?:utc|gmt)?([+-]\d{1,2})(?::?(\d\d))?)|([a-z]{1,8})\b)",
    )
});

static NOTICE: LazyLock<Regex> = LazyLock::new(|| {
    read(
        r"^(?i)(?:(?:claude|codex|gemini|ai|\d+-hour|session|daily|weekly|monthly|opus|sonnet|haiku|usage|rate)\s+)+limit reached\b|^(?i)limit reached\s*[·∙|]|^(?i)you(?:['’]ve| have) (?:hit|reached|exceeded|exhausted) your\b[^.,:;\n]{0,60}\b(?:limits?|capacity|quota|budget)\b|^(?i)you['’]re out of (?:extra usage|usage credits|credits)\b|^(?i)your (?:org|organization|workspace) is out of (?:usage|credits)\b",
    )
});
/// No notice of a limit has more characters.
const SHORT: usize = 240;

/// Whether a text is the notice of a usage limit and nothing else: programs were seen to print one in the place of the answer,
/// and to end well.
pub fn is_notice(text: &str) -> bool {
    let text = text.trim();
    text.len() <= 4 * SHORT && text.chars().count() <= SHORT && NOTICE.is_match(text)
}

/// A pattern of this file.
fn read(pattern: &str) -> Regex {
    Regex::new(pattern).expect("BUG: a fixed pattern")
}

/// How long after `now`, in seconds since 1970, the limit of a text is over. `here`: the zone of times that name none.
pub fn wait_told(text: &str, now: f64, here: &TimeZone) -> Option<Duration> {
    let mut from = text.len().saturating_sub(READ);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let text = &text[from..];
    if let Some(found) = FIELD_IN.captures(text) {
        return wait_of(found[1].parse().ok()?);
    }
    if let Some(found) = FIELD_IN_MS.captures(text) {
        return wait_of(found[1].parse::<f64>().ok()? / 1000.0);
    }
    let at = FIELD_AT.captures(text).and_then(|found| moment(&found[1]));
    let at = at.or_else(|| EPOCH.captures(text).and_then(|found| epoch(&found[1])));
    if let Some(wait) = at.and_then(|at| ahead(at, now)) {
        return wait_of(wait);
    }
    WORD.find_iter(text).find_map(|word| {
        let rest: String = text[word.end()..].chars().take_while(|c| *c != '\n').take(NEAR).collect();
        let (lead, rest) = rest.split_at(LEAD.find(&rest).map_or(0, |lead| lead.end()));
        let left = || if IN.is_match(lead) { left(rest) } else { None };
        let iso = || iso_duration(rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?);
        let wait = span(rest).or_else(iso).or_else(left).or_else(|| ahead(at_of(rest, now, here)?, now))?;
        wait_of(wait)
    })
}

/// Seconds until a moment; none if it is long over.
fn ahead(at: f64, now: f64) -> Option<f64> {
    match at - now {
        ahead if ahead >= SOON => Some(ahead),
        ahead if ahead > -JUST_OVER => Some(ahead.max(SOON)),
        _ => None,
    }
}

fn epoch(digits: &str) -> Option<f64> {
    let number: f64 = digits.parse().ok()?;
    (number > 1e9).then(|| if number > 1e12 { number / 1000.0 } else { number })
}

/// Seconds since 1970 of a number of them, or of a time in RFC 3339.
fn moment(text: &str) -> Option<f64> {
    epoch(text).or_else(|| super::retry_after::moment(text.trim_end_matches('.')))
}

/// The seconds of `2 hours 5 minutes`, `12h34m56s`, `1 day, 3 hours and 2 minutes`.
fn span(text: &str) -> Option<f64> {
    let (mut rest, mut total, mut found) = (text, 0.0, false);
    while let Some(part) = SPAN.captures(rest) {
        // `a while` is no week.
        if rest[part.get(2)?.end()..].starts_with(char::is_alphabetic) {
            break;
        }
        let unit = part[2].to_ascii_lowercase();
        let seconds = match unit.as_bytes() {
            b"ms" => 0.001,
            _ if unit.starts_with("milli") => 0.001,
            _ if unit.starts_with("month") => 30.0 * 86400.0,
            [b's', ..] => 1.0,
            [b'm', ..] => 60.0,
            [b'h', ..] => 3600.0,
            [b'd', ..] => 86400.0,
            _ => 7.0 * 86400.0,
        };
        total += number(&part[1])? * seconds;
        found = true;
        rest = &rest[part.get(0)?.end()..];
    }
    found.then_some(total)
}

/// The number of a span, in digits or as a word.
fn number(text: &str) -> Option<f64> {
    const WORDS: [&str; 12] =
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let word = text.to_ascii_lowercase();
    match WORDS.iter().position(|it| *it == word) {
        Some(at) => Some((at + 1) as f64),
        None if word.starts_with("half") => Some(0.5),
        None if word.starts_with('a') => Some(1.0),
        None => text.parse().ok(),
    }
}

/// The seconds of `02:30:00` and `2:30` where they are what is left, and no time of day.
fn left(text: &str) -> Option<f64> {
    let found = LEFT.captures(text)?;
    let number = |at: usize| found.get(at).map_or(Some(0.0), |it| it.as_str().parse::<f64>().ok());
    Some(number(1)? * 3600.0 + number(2)? * 60.0 + number(3)?)
}

/// Seconds since 1970 of the moment a text begins with.
fn at_of(text: &str, now: f64, here: &TimeZone) -> Option<f64> {
    if let Some(found) = ISO.captures(text) {
        let rest = &text[found.get(0)?.end()..];
        let date: Date = found[1].parse().ok()?;
        let time = found.get(2).map_or(Some(Time::midnight()), |time| time.as_str().parse().ok())?;
        let zone = match found.get(3).map(|zone| zone.as_str()) {
            Some("Z" | "z") => TimeZone::UTC,
            Some(offset) => offset_of(offset)?,
            None => zone_of(rest, here)?,
        };
        return seconds(date.to_datetime(time), &zone);
    }
    if let Some(digits) = text.split(|c: char| !c.is_ascii_digit()).next().filter(|it| it.len() >= 10) {
        return epoch(digits);
    }
    let (date, rest) = match DATE.captures(text) {
        Some(found) => (Some(found), &text[DATE.find(text)?.end()..]),
        None => (None, text),
    };
    let day = if date.is_none() { DAY.captures(rest) } else { None };
    let rest = day.as_ref().and_then(|day| day.get(0)).map_or(rest, |day| &rest[day.end()..]);
    let clock = CLOCK.captures(rest);
    let after = clock.as_ref().and_then(|it| it.get(0)).map_or(rest, |it| &rest[it.end()..]);
    let zone = zone_of(after, here)?;
    let today = Timestamp::from_second(now as i64).ok()?.to_zoned_datetime(zone.clone()).datetime();
    let time = match &clock {
        Some(clock) => time_of(clock)?,
        None if date.is_some() || day.is_some() => Time::midnight(),
        None => return None,
    };
    let at = |date: Date| seconds(date.to_datetime(time), &zone);
    if let Some(date) = date {
        return of_date(&date, today.date(), now, at);
    }
    if let Some(day) = day {
        let (days, is_weekly) = days_until(&day[1], today)?;
        let on = |days: i64| at(today.date().checked_add(Span::new().days(days)).ok()?);
        let this = on(days)?;
        // A day of the week whose time is past is that of the next week.
        return if is_weekly && this <= now - JUST_OVER { on(days + 7) } else { Some(this) };
    }
    let this = at(today.date())?;
    if this > now - JUST_OVER { Some(this) } else { at(today.date().tomorrow().ok()?) }
}

/// The moment of a day and month: of this year, or of the next where this one is over.
fn of_date(found: &Captures<'_>, today: Date, now: f64, at: impl Fn(Date) -> Option<f64>) -> Option<f64> {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let name = found.get(1).or(found.get(4))?.as_str().to_ascii_lowercase();
    let month = (MONTHS.find(&name)? / 3 + 1) as i8;
    let day: i8 = found.get(2).or(found.get(3))?.as_str().parse().ok()?;
    if let Some(year) = found.get(5) {
        return at(Date::new(year.as_str().parse().ok()?, month, day).ok()?);
    }
    let this = at(Date::new(today.year(), month, day).ok()?)?;
    if this > now - 86400.0 { Some(this) } else { at(Date::new(today.year() + 1, month, day).ok()?) }
}

/// Days until a day, today included, and whether it comes again each week.
fn days_until(day: &str, today: DateTime) -> Option<(i64, bool)> {
    let day = day.to_ascii_lowercase();
    match day.as_str() {
        "today" => return Some((0, false)),
        "tomorrow" => return Some((1, false)),
        _ => {}
    }
    let at =
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|name| day.starts_with(name))?;
    Some(((at as i64 - i64::from(today.date().weekday().to_monday_zero_offset())).rem_euclid(7), true))
}

fn time_of(found: &Captures<'_>) -> Option<Time> {
    let number = |at: usize| found.get(at).map_or(Some(0), |it| it.as_str().parse::<i8>().ok());
    let (hour, minute) = match (found.get(1), found.get(4)) {
        (Some(word), _) => (if word.as_str().eq_ignore_ascii_case("noon") { 12 } else { 0 }, 0),
        (None, Some(half)) => {
            let hour = number(2)?;
            if !(1..=12).contains(&hour) {
                return None;
            }
            (hour % 12 + if half.as_str().eq_ignore_ascii_case("p") { 12 } else { 0 }, number(3)?)
        }
        (None, None) => (number(5)?, number(6)?),
    };
    Time::new(hour, minute, 0, 0).ok()
}

/// The zone a text begins with; `here` where it names none. None for one that is not known.
fn zone_of(text: &str, here: &TimeZone) -> Option<TimeZone> {
    let Some(found) = ZONE.captures(text) else { return Some(here.clone()) };
    if let Some(name) = found.get(1) {
        return TimeZone::get(name.as_str()).ok();
    }
    if let Some(hours) = found.get(2) {
        let minutes = found.get(3).map_or("00", |it| it.as_str());
        return offset_of(&format!("{}:{minutes}", hours.as_str()));
    }
    let hours = match found.get(4)?.as_str().to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "wet" => 0,
        "bst" | "west" | "cet" => 1,
        "cest" | "eet" => 2,
        "eest" | "msk" => 3,
        "ist" => return offset_of("+05:30"),
        "jst" | "kst" => 9,
        "edt" => -4,
        "est" | "cdt" => -5,
        "cst" | "mdt" => -6,
        "mst" | "pdt" => -7,
        "pst" => -8,
        "pt" | "pacific" => return TimeZone::get("America/Los_Angeles").ok(),
        "et" | "eastern" => return TimeZone::get("America/New_York").ok(),
        _ => return Some(here.clone()),
    };
    Some(TimeZone::fixed(Offset::from_hours(hours).ok()?))
}

/// `+02:00`, `+0200`, `-5:30`.
fn offset_of(text: &str) -> Option<TimeZone> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = digits.split_at(digits.len().checked_sub(2)?);
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
    Some(TimeZone::fixed(Offset::from_seconds(sign * seconds).ok()?))
}

fn seconds(at: DateTime, zone: &TimeZone) -> Option<f64> {
    Some(at.to_zoned_datetime(zone.clone()).ok()?.timestamp().as_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 14:00:00 UTC, a Monday.
    const NOW: f64 = 1_795_442_400.0;

    #[test]
    fn every_printed_form_is_read() {
        const H: f64 = 3600.0;
        const D: f64 = 24.0 * H;
        #[rustfmt::skip]
        let rows: &[(&str, Option<f64>)] = &[
            // Claude Code
            ("You've hit your session limit · resets 3:30pm (Europe/Berlin)", Some(0.5 * H)),
            ("You've hit your session limit · resets 5pm (Europe/Berlin)", Some(2.0 * H)),
            ("You've hit your weekly limit · resets Nov 27, 3pm (UTC)", Some(4.0 * D + H)),
            ("You've hit your limit · resets Jan 2, 2027, 3pm (America/New_York)", Some(7.0 * D)),
            ("Claude AI usage limit reached|1795446000", Some(H)),
            ("Claude AI usage limit reached|1795446000000", Some(H)),
            ("5-hour limit reached ∙ resets 1pm", Some(23.0 * H)),
            ("resets at 1:00 PM", Some(23.0 * H)),
            // just over: soon, not tomorrow
            ("resets 2pm", Some(60.0)),
            ("resets 1:59pm", Some(60.0)),
            ("resets 1:57pm", Some(D - 180.0)),
            // Codex
            ("You've hit your usage limit. Upgrade to Pro or try again at Nov 24th, 2026 2:00 PM.", Some(D)),
            ("You've hit your usage limit. Try again in 2 days 3 hours 5 minutes.", Some(2.0 * D + 3.0 * H + 300.0)),
            ("You've hit your usage limit. Try again in 1 hour and 5 minutes.", Some(H + 300.0)),
            ("try again at 3:45 PM", Some(1.75 * H)),
            (r#"{"error":{"type":"usage_limit_reached","resets_at":1795446000,"resets_in_seconds":3600}}"#, Some(H)),
            (r#"{"rate_limit_info":{"status":"rejected","resetsAt":1795446000}}"#, Some(H)),
            // Gemini
            ("You have exhausted your capacity on this model. Your quota will reset after 12h34m56s.", Some(12.0 * H + 34.0 * 60.0 + 56.0)),
            ("Usage limit reached for gemini-3-pro.\nAccess resets at 4:00 PM CET.", Some(H)),
            (r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}"#, Some(34.5)),
            // vendors
            ("You will regain access on 2026-11-25 at 00:00 UTC.", Some(34.0 * H)),
            ("Rate limit reached. Please try again in 20s.", Some(20.0)),
            ("Please try again in 6m0s.", Some(360.0)),
            ("Please retry after 250ms", Some(0.25)),
            ("try again at 2026-11-23T15:00:00Z", Some(H)),
            ("try again at 2026-11-23T17:00:00+02:00", Some(H)),
            ("try again at 2026-11-23 17:00 (Europe/Helsinki)", Some(H)),
            ("resets at 1795446000", Some(H)),
            ("resets in 2 hours 5 minutes", Some(2.0 * H + 300.0)),
            ("resets in: 02:05:10", Some(2.0 * H + 310.0)),
            ("resets in 2:05", Some(2.0 * H + 300.0)),
            ("Try again in ~2 hours.", Some(2.0 * H)),
            ("Try again in an hour.", Some(H)),
            ("try again in an hour and a minute", Some(H + 60.0)),
            ("Try again in two hours.", Some(2.0 * H)),
            ("Try again in about half an hour.", Some(0.5 * H)),
            ("resets in Three days and one hour", Some(3.0 * D + H)),
            ("try again after PT2H30M.", Some(2.5 * H)),
            ("resets in a while", None),
            ("try again in 3 ways", None),
            ("Please wait 2 hours before trying again.", Some(2.0 * H)),
            ("The limit will be lifted at 16:00 UTC", Some(2.0 * H)),
            (r#"{"error":{"retry_after":7200}}"#, Some(2.0 * H)),
            (r#"{"error":{"retryAfter":"7200"}}"#, Some(2.0 * H)),
            (r#"{"error":{"retry_after_ms":7200000,"message":"wait"}}"#, Some(2.0 * H)),
            ("resets in 2 months", Some(7.0 * D)),
            ("resets again", None),
            ("Try again as an admin", None),
            ("limit resets tomorrow at 2pm UTC", Some(D)),
            ("resets Thursday at 14:00", Some(3.0 * D)),
            ("Weekly limit reached ∙ resets Mon 3pm", Some(H)),
            ("Weekly limit reached ∙ resets Mon 9:00am", Some(7.0 * D - 5.0 * H)),
            ("resets today at 9am", None),
            ("resets 24 Nov at 14:00 GMT+1", Some(23.0 * H)),
            ("resets at midnight UTC", Some(10.0 * H)),
            ("resets Jan 3 at 10am", Some(7.0 * D)),
            // absurd, forged, or nothing at all
            ("resets in 99999999999999999999 days", Some(7.0 * D)),
            ("usage limit reached|1999999999", Some(7.0 * D)),
            ("usage limit reached|1000000000", None),
            ("resets 2020-01-01T00:00:00Z", None),
            ("resets 25pm", None),
            ("resets 3pm (Atlantis/City)", None),
            ("resets Feb 31 at 3pm", None),
            ("try again later", None),
            ("again and again, 3 times", None),
            ("until the 3rd", None),
            ("", None),
        ];
        for (text, wanted) in rows {
            let found = wait_told(text, NOW, &TimeZone::UTC).map(|wait| wait.as_secs_f64());
            assert_eq!(found, *wanted, "{text}");
        }
    }

    #[test]
    fn only_a_text_that_is_nothing_else_is_a_notice() {
        let long = format!("You've hit your usage limit. {}", "It was to be expected. ".repeat(20));
        for (text, wanted) in [
            ("Claude AI usage limit reached|1795446000", true),
            ("You've hit your session limit · resets 3:30pm (Europe/Berlin)\n", true),
            ("You’ve hit your limit · resets 3pm", true),
            ("5-hour limit reached ∙ resets 1pm", true),
            ("You have exhausted your capacity on this model.", true),
            ("Usage limit reached for gemini-3-pro.\nAccess resets at 4:00 PM CET.", true),
            ("You're out of extra usage · resets 9pm", true),
            ("You’re out of usage credits", true),
            ("Your workspace is out of credits. Add credits to continue.", true),
            ("Sonnet limit reached · resets 9pm", true),
            ("Limit reached · resets 2am (America/Toronto) · /upgrade to Max 20x", true),
            ("You have exhausted your daily quota on this model.", true),
            ("Limit reached on the third day of the climb.", false),
            ("You are out of credits: that is what the teller says.", false),
            ("The usage limit is reached in May.", false),
            ("You have reached your goal: the limit of five halls.", false),
            ("You have hit your stride.", false),
            ("Say: you've hit your usage limit.", false),
            (long.as_str(), false),
            ("", false),
        ] {
            assert_eq!(is_notice(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_that_of_here() {
        let berlin = TimeZone::get("Europe/Berlin").expect("the zone");
        for (text, wanted) in
            [("resets 4pm", 3600.0), ("resets 4pm UTC", 7200.0), ("try again at 16:00", 3600.0)]
        {
            let found = wait_told(text, NOW, &berlin).map(|wait| wait.as_secs_f64());
            assert_eq!(found, Some(wanted), "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let long = "resets ".repeat(20_000);
        for text in [
            long.as_str(),
            "resets ·é",
            "limit|",
            "try again at 99:99",
            "resets 0am",
            "resets 2026-99-99T00:00Z",
        ] {
            assert_eq!(wait_told(text, NOW, &TimeZone::UTC), None, "{}", &text[..8.min(text.len())]);
        }
    }
}
