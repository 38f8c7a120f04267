//! How long a server asks to be left alone: what its headers say, in all forms there are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Header names that tell how long to wait, in the order they are believed.
const WAIT_HEADERS: [&str; 2] = ["retry-after-ms", "retry-after"];

/// Prefixes of headers that tell when an allowance is full again.
const RESET_HEADERS: [&str; 9] = [
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-reset",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-reset",
    "anthropic-ratelimit-unified-reset",
    "ratelimit-reset",
];

/// Seconds since 1970, for the waits a server gives as a moment.
pub(super) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// So many seconds, as a server may ask us to wait: never more than seven days, none if negative.
pub(super) fn wait_of(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(7.0 * 86400.0)))
}

/// No wait has so many seconds: from here on they are those since 1970.
const EPOCHS: f64 = 1e9;

/// How long the headers ask us to wait: `retry-after-ms`, then `retry-after` (seconds or an HTTP date),
/// then the resets of allowances that are used up. `header` looks one up by its lower-case name; `now` is
/// seconds since 1970 by the `date` header or the clock. Never more than seven days, never negative.
pub fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>, now: f64) -> Option<Duration> {
    for name in WAIT_HEADERS {
        let Some(value) = header(name).map(str::trim) else { continue };
        let unit = if name.ends_with("-ms") { 1000.0 } else { 1.0 };
        let wait = match value.parse::<f64>() {
            // Some send the moment.
            Ok(number) if number >= EPOCHS * unit => Some((number / unit - now).max(0.0)),
            Ok(number) => Some(number / unit),
            Err(_) => reset(value, now),
        };
        if let Some(wait) = wait.and_then(wait_of) {
            return Some(wait);
        }
    }
    // Several allowances: only those used up matter; if none says so, the nearest reset.
    let mut spent: Option<f64> = None;
    let mut nearest: Option<f64> = None;
    let by_name = RESET_HEADERS.into_iter().filter_map(|name| {
        let wait = header(name).and_then(|value| reset(value.trim(), now))?;
        let left = header(&name.replace("reset", "remaining"));
        Some((left.is_some_and(|left| left.trim() == "0"), wait))
    });
    for (is_spent, wait) in by_name.chain(header("ratelimit").into_iter().flat_map(allowances)) {
        if is_spent {
            spent = Some(spent.map_or(wait, |had| had.max(wait)));
        }
        nearest = Some(nearest.map_or(wait, |had| had.min(wait)));
    }
    spent.or(nearest).and_then(wait_of)
}

/// Whether each allowance of a `RateLimit` header is used up, and after how many seconds it is full again:
/// `"burst";r=0;t=30, "day";r=100;t=3600` (draft-ietf-httpapi-ratelimit-headers-10), and as in its version 07
/// `limit=100, remaining=0, reset=30`.
fn allowances(value: &str) -> impl Iterator<Item = (bool, f64)> {
    let old = value.contains("reset=");
    let items = value.split(move |c: char| c == ',' && !old);
    items.filter_map(move |item| {
        let number = |names: [&str; 2]| -> Option<u64> {
            let mut parts = item.split([';', ',']).filter_map(|part| part.trim().split_once('='));
            parts
                .find(|(name, _)| names.contains(&name.trim()))
                .and_then(|(_, value)| value.trim().parse().ok())
        };
        let wait = number(["t", "reset"])?;
        Some((number(["r", "remaining"]) == Some(0), wait as f64))
    })
}

/// A reset: a Go duration (`6m0s`, `12ms`), one of ISO 8601 (`PT2H`), RFC 3339, an HTTP date, seconds, or a Unix time in
/// seconds or milliseconds. The result is seconds from now.
fn reset(value: &str, now: f64) -> Option<f64> {
    if let Ok(number) = value.parse::<f64>() {
        return Some(match number {
            n if n > 1e12 => (n / 1000.0 - now).max(0.0),
            n if n > 1e9 => (n - now).max(0.0),
            n => n,
        });
    }
    let span = go_duration(value).or_else(|| iso_duration(value));
    span.or_else(|| moment(value).map(|at| (at - now).max(0.0)))
}

/// Seconds of a duration as ISO 8601 has them: `PT2H`, `P1DT30M`. Days have 24 hours; months and years have no length.
pub(super) fn iso_duration(text: &str) -> Option<f64> {
    let span: jiff::Span = Some(text).filter(|text| text.starts_with(['P', 'p']))?.parse().ok()?;
    let seconds = span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).ok()?;
    (seconds >= 0.0).then_some(seconds)
}

/// Seconds of a duration as Go prints it.
fn go_duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

/// Seconds since 1970 of an RFC 3339 time or an HTTP date, in any of its three forms (RFC 9110, 5.6.7).
pub(super) fn moment(text: &str) -> Option<f64> {
    let usual = || jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let old = || {
        let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
        let civil = forms.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
        civil.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(usual).or_else(old)?;
    Some(stamp.as_millisecond() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_all_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(moment(text), Some(784_111_777.0), "{text}");
        }
        assert_eq!(moment("Someday, 06-Nov-94 08:49:37 GMT"), None);
    }

    #[test]
    fn waits_are_read_in_every_form() {
        // 2026-11-21 08:00:00 UTC
        let now = 1_795_248_000.0;
        for (headers, wanted) in [
            (&[("retry-after-ms", "1500"), ("retry-after", "9")][..], Some(1.5)),
            (&[("retry-after", "20")], Some(20.0)),
            (&[("retry-after", "0.5")], Some(0.5)),
            (&[("retry-after", "Sat, 21 Nov 2026 08:00:30 GMT")], Some(30.0)),
            (&[("retry-after", "Sat, 21 Nov 2026 07:00:00 GMT")], Some(0.0)),
            (&[("retry-after", "1795248030")], Some(30.0)),
            (&[("retry-after-ms", "1795248030000")], Some(30.0)),
            (&[("retry-after", "1m30s")], Some(90.0)),
            (&[("retry-after", "PT2H")], Some(7200.0)),
            (&[("retry-after", "P1DT1M")], Some(86_460.0)),
            (&[("retry-after", "P1M")], None),
            (&[("retry-after", "P")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "99999999999")], Some(604_800.0)),
            (&[("x-ratelimit-reset-requests", "6m0s")], Some(360.0)),
            (&[("x-ratelimit-reset-requests", "1d2h")], Some(93_600.0)),
            (&[("x-ratelimit-reset-requests", "12ms"), ("x-ratelimit-reset-tokens", "1m2.5s")], Some(0.012)),
            (
                &[
                    ("x-ratelimit-reset-requests", "12ms"),
                    ("x-ratelimit-reset-tokens", "1m2.5s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                ],
                Some(62.5),
            ),
            (&[("anthropic-ratelimit-tokens-reset", "2026-11-21T08:01:00Z")], Some(60.0)),
            (&[("x-ratelimit-reset", "1795248005000")], Some(5.0)),
            (&[("ratelimit", r#""default";r=0;t=30"#)], Some(30.0)),
            (&[("ratelimit", r#""burst";r=5;t=2, "day"; r=0; t=3600"#)], Some(3600.0)),
            (&[("ratelimit", r#""burst";r=5;t=2, "day";r=9;t=3600"#)], Some(2.0)),
            (&[("ratelimit", "limit=100, remaining=0, reset=50")], Some(50.0)),
            (&[("ratelimit", r#""default";r=0"#)], None),
            (&[("ratelimit", r#""default";r=0;t=-1"#)], None),
            (&[("x-ratelimit-reset", "1795248007")], Some(7.0)),
            (&[], None),
        ] {
            let lookup = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            assert_eq!(retry_after(lookup, now).map(|wait| wait.as_secs_f64()), wanted, "{headers:?}");
        }
    }
}
