//! Lengths of time, as they are written in `pipeline.toml`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time: `"90s"`, `"15m"`, `"1h30m"`, `"500ms"`, or a number of seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// The same, from whole seconds.
    pub const fn secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    /// Reads `"90s"`, `"15m"`, `"1h30m"`, `"500ms"`, `"2d"` or `"90"` (seconds).
    pub fn parse(text: &str) -> Result<Span, String> {
        let wanted = || format!("`{text}` is not a duration; wanted one like \"90s\", \"15m\" or \"1h30m\"");
        let mut total = 0f64;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wanted());
        }
        if let Ok(seconds) = rest.parse::<f64>() {
            return Span::from_secs_f64(seconds).ok_or_else(wanted);
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wanted)?;
            let number: f64 = rest[..digits].parse().map_err(|_| wanted())?;
            rest = &rest[digits..];
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            total += number
                * match &rest[..end] {
                    "ms" => 0.001,
                    "s" | "sec" => 1.0,
                    "m" | "min" => 60.0,
                    "h" => 3600.0,
                    "d" => 86400.0,
                    _ => return Err(wanted()),
                };
            rest = rest[end..].trim_start();
        }
        Span::from_secs_f64(total).ok_or_else(wanted)
    }

    fn from_secs_f64(seconds: f64) -> Option<Span> {
        Duration::try_from_secs_f64(seconds).ok().map(Span)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"90s\" or \"15m\", or a number of seconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Span, E> {
                self.visit_f64(seconds as f64)
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span::secs(seconds))
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Span, E> {
                Span::from_secs_f64(seconds).ok_or_else(|| {
                    let shown =
                        if seconds.abs() < 1e15 { format!("{seconds}") } else { format!("{seconds:e}") };
                    E::custom(format!("`{shown}` is not a duration; wanted a number of seconds like `90`"))
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: \"90s\", \"15m\", \"1h30m\", \"500ms\", or a number of seconds.",
            "anyOf": [
                { "type": "string", "pattern": "^([0-9.]+(ms|s|sec|m|min|h|d)? ?)+$" },
                { "type": "number", "minimum": 0 }
            ]
        })
    }
}
