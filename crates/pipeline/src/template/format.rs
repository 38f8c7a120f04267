//! Filters that write values: JSON, anchors, excerpts, numbers. Those that read them are in [`crate::template::filters`].

use super::bounds;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Error, ErrorKind, State, Value};

/// `{{ value|tojson }}`, `tojson(indent=2)` or `tojson(true)`. In HTML it is safe inside a script.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => match kwargs.get::<Option<Value>>("indent")? {
            Some(indent) => Some(indent),
            None => kwargs.get::<Option<Value>>("pretty")?,
        },
    };
    kwargs.assert_all_used()?;
    let width = match indent {
        None => None,
        Some(value) if value.kind() == ValueKind::Bool => value.is_true().then_some(2),
        Some(value) => Some(usize::try_from(value)?.min(16)),
    };
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    bounds::said(value)?;
    let failed = |error| {
        Error::new(ErrorKind::InvalidOperation, "the value cannot be written as JSON").with_source(error)
    };
    let text = match width {
        None => serde_json::to_string(value).map_err(failed)?,
        Some(width) => {
            let mut out = Vec::new();
            let indent = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
            serde::Serialize::serialize(value, &mut serializer).map_err(failed)?;
            String::from_utf8_lossy(&out).into_owned()
        }
    };
    if state.auto_escape() == AutoEscape::Html {
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '<' => safe.push_str("\\u003c"),
                '>' => safe.push_str("\\u003e"),
                '&' => safe.push_str("\\u0026"),
                '\'' => safe.push_str("\\u0027"),
                '\u{2028}' => safe.push_str("\\u2028"),
                '\u{2029}' => safe.push_str("\\u2029"),
                _ => safe.push(c),
            }
        }
        return Ok(Value::from_safe_string(safe));
    }
    Ok(Value::from(text))
}

/// A text as an anchor or file name: lower case letters and digits, parted by single `-`.
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// The first `count` words, `…` after them if there are more.
pub(super) fn words(text: String, count: usize) -> String {
    let mut seen = 0;
    let mut inside = false;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            if inside && seen == count && !text[at..].trim().is_empty() {
                return format!("{}…", text[..at].trim_end());
            }
            inside = false;
        } else if !inside {
            inside = true;
            seen += 1;
            if seen > count {
                return format!("{}…", text[..at].trim_end());
            }
        }
    }
    text
}

/// A number with its digits in groups of three: `1234567` is `1,234,567`.
pub(super) fn group_digits(value: &Value, separator: Option<String>) -> Result<String, Error> {
    let text = match value.kind() {
        ValueKind::Number => value.to_string(),
        ValueKind::String if value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_ok()) => {
            value.as_str().unwrap_or("").trim().to_owned()
        }
        kind => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("`group_digits` wants a number, found a {kind}"),
            ));
        }
    };
    let separator = separator.as_deref().unwrap_or(",");
    bounds::charge((text.len() as u64).saturating_mul(1 + separator.len() as u64))?;
    Ok(grouped(&text, separator))
}

fn grouped(text: &str, separator: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push_str(separator);
        }
        out.push(digit);
    }
    out.push_str(rest);
    out
}

/// A number rounded to `digits` (default 0) with its digits grouped.
pub(super) fn number(value: &Value, digits: Option<usize>) -> Result<String, Error> {
    Ok(grouped(&format!("{:.*}", digits.unwrap_or(0).min(20), as_number(value, "number")?), ","))
}

/// A share as a percentage: `0.256` is `26%`, with `percent(1)` `25.6%`.
pub(super) fn percent(value: &Value, digits: Option<usize>) -> Result<String, Error> {
    Ok(format!("{:.*}%", digits.unwrap_or(0).min(20), as_number(value, "percent")? * 100.0))
}

fn as_number(value: &Value, filter: &str) -> Result<f64, Error> {
    let found = match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => value.as_str().and_then(|text| text.trim().parse().ok()),
        _ => None,
    };
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("`{filter}` wants a number, found a {}", value.kind()),
        )
    })
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use crate::template::{Source, render};

    #[test]
    fn what_filters_do_not_take() {
        for (template, wanted) in [
            ("{{ []|group_digits }}", "`group_digits` wants a number, found a sequence"),
            ("{{ 'many'|group_digits }}", "`group_digits` wants a number, found a string"),
            ("{{ 'many'|percent }}", "`percent` wants a number, found a string"),
            ("{{ true|number }}", "`number` wants a number, found a bool"),
        ] {
            let error = render(&Source::new("t", template), &context! {}, false).unwrap_err();
            assert!(error.to_string().contains(wanted), "{template}: {error}");
            assert!(error.to_string().starts_with("t:1: "), "{error}");
        }
    }
}
