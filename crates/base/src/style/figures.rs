//! Figures as people read them: time, tokens, bytes, money, counts.

/// A length of time: `4.2s`, `3m 12s`, `1h 05m`.
pub fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let tenths = (seconds * 10.0).round() as u64;
    let whole = seconds.round() as u64;
    match whole {
        _ if tenths < 600 => format!("{}.{}s", tenths / 10, tenths % 10),
        0..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("{}h {:02}m", minutes / 60, minutes % 60)
        }
    }
}

/// A length of time as it counts up: whole seconds, `12s`, `3m 12s`, `1h 05m`.
pub fn elapsed(seconds: f64) -> String {
    let whole = if seconds.is_finite() { seconds.max(0.0) as u64 } else { 0 };
    if whole < 60 { format!("{whole}s") } else { duration(whole as f64) }
}

/// A number of tokens: `412`, `1.9k`, `182k`, `1.2M`.
pub fn tokens(count: u64) -> String {
    let scaled = |unit: f64| count as f64 / unit;
    match count {
        0..1_000 => count.to_string(),
        1_000..99_950 => format!("{:.1}k", scaled(1e3)),
        99_950..999_500 => format!("{:.0}k", scaled(1e3)),
        999_500..99_950_000 => format!("{:.1}M", scaled(1e6)),
        _ => format!("{:.0}M", scaled(1e6)),
    }
}

/// A size: `412 B`, `1.9 kB`, `3.2 MB`.
pub fn bytes(size: u64) -> String {
    let mut scaled = size as f64;
    if size < 1000 {
        return format!("{size} B");
    }
    for unit in ["kB", "MB", "GB"] {
        scaled /= 1000.0;
        if scaled < 999.5 {
            return if scaled < 9.95 { format!("{scaled:.1} {unit}") } else { format!("{scaled:.0} {unit}") };
        }
    }
    format!("{:.1} TB", scaled / 1000.0)
}

/// An amount of USD: `$0`, `$0.0004`, `$0.42`, `$12.30`.
pub fn money(usd: f64) -> String {
    match usd {
        _ if !usd.is_finite() || usd <= 0.0 => "$0".to_owned(),
        _ if usd < 0.0001 => "<$0.0001".to_owned(),
        _ if usd < 0.00995 => format!("${usd:.4}"),
        _ => format!("${usd:.2}"),
    }
}

/// `1 task`, `3 tasks`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (3_200_000_000, "3.2 GB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn figures() {
        for (seconds, text) in [
            (0.0, "0.0s"),
            (4.23, "4.2s"),
            (59.94, "59.9s"),
            (59.96, "1m 00s"),
            (192.0, "3m 12s"),
            (3599.6, "1h 00m"),
            (3900.0, "1h 05m"),
            (93_600.0, "26h 00m"),
            (-1.0, "0.0s"),
            (f64::NAN, "0.0s"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        for (seconds, text) in [(0.9, "0s"), (59.9, "59s"), (60.0, "1m 00s")] {
            assert_eq!(elapsed(seconds), text, "{seconds}");
        }
        for (number, text) in [
            (999, "999"),
            (1_900, "1.9k"),
            (12_345, "12.3k"),
            (99_960, "100k"),
            (182_000, "182k"),
            (999_600, "1.0M"),
            (1_234_567, "1.2M"),
            (250_000_000, "250M"),
        ] {
            assert_eq!(tokens(number), text, "{number}");
        }
        for (usd, text) in [
            (0.0, "$0"),
            (0.00001, "<$0.0001"),
            (0.0004, "$0.0004"),
            (0.00999, "$0.01"),
            (0.42, "$0.42"),
            (12.3, "$12.30"),
        ] {
            assert_eq!(money(usd), text, "{usd}");
        }
        assert_eq!((count(1, "task"), count(3, "task")), ("1 task".into(), "3 tasks".into()));
    }
}
