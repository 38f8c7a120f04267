//! The wall clock, in the form records use, and what tells that no clock ran.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A pause longer than meant by less than this is a busy machine's.
const LATE: Duration = Duration::from_secs(1);

/// How long this process stood still (Ctrl-Z, a machine that was paused) between two looks at something, so long apart and
/// `meant` to be no longer than that; zero if that was about as meant. Nobody was listened to meanwhile, so nobody's
/// silence counts.
pub fn stood_still(apart: Duration, meant: Duration) -> Duration {
    let late = apart.saturating_sub(meant);
    if late >= LATE { late } else { Duration::ZERO }
}

/// Now, RFC 3339 in UTC with milliseconds: `2026-03-01T22:15:04.123Z`.
pub fn now_utc() -> String {
    format_utc(SystemTime::now())
}

/// A time, RFC 3339 in UTC with milliseconds.
pub fn format_utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let timestamp = jiff::Timestamp::from_millisecond(since.as_millis().min(i64::MAX as u128) as i64)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

/// The seconds from one recorded time to another, if both can be read.
pub fn seconds_between(from: &str, to: &str) -> Option<f64> {
    let from: jiff::Timestamp = from.parse().ok()?;
    let to: jiff::Timestamp = to.parse().ok()?;
    Some((to.as_millisecond() - from.as_millisecond()) as f64 / 1000.0)
}

/// A recorded time in microseconds since 1970.
pub fn microseconds(at: &str) -> Option<i64> {
    at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}
