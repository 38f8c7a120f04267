//! JSON as models write it: found in an answer, read with its duplicate keys noticed, and written
//! out again with nothing changed but its spacing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::MOST;
use crate::items::escape;

/// Why no JSON was found in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoJson {
    /// There is none at all.
    None,
    /// It ends in the middle.
    Cut,
    /// It is not valid; a message with its line.
    Invalid(String),
    /// There are several, and nothing says which is meant.
    Several(usize),
}

impl fmt::Display for NoJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoJson::None => f.write_str("the answer contains no JSON"),
            NoJson::Cut => f.write_str("the JSON ends in the middle"),
            NoJson::Invalid(message) => write!(f, "the JSON is not valid: {message}"),
            NoJson::Several(count) => write!(f, "the answer contains {count} JSON values, wanted one"),
        }
    }
}

/// The one outermost JSON value of a text, as it stands there: code fences, prose around it and
/// `<think>` blocks are passed over. Nothing is repaired: a value that is cut off or broken is an
/// error, never the part of it that happens to be whole.
pub fn extract_json(text: &str) -> Result<&str, NoJson> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if is_json(text) {
        return Ok(text);
    }
    let text = after_thinking(text)?;
    if is_json(text) {
        return Ok(text.trim());
    }
    let mut found: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '[']) {
        rest = &rest[at..];
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        match stream.next() {
            Some(Ok(_)) => {
                let end = stream.byte_offset();
                found.push(&rest[..end]);
                rest = &rest[end..];
            }
            Some(Err(error)) if looks_like_json(rest) => {
                return Err(match error.classify() {
                    serde_json::error::Category::Eof => NoJson::Cut,
                    _ => NoJson::Invalid(plain_message(&error)),
                });
            }
            _ => rest = &rest[1..],
        }
    }
    // `[1]` in prose is a footnote, not an answer, if there is an object too.
    if found.len() > 1 && found.iter().any(|json| json.starts_with('{')) {
        let is_note = |json: &&str| json.starts_with('[') && !json.contains(['{', '"']);
        found.retain(|json| !is_note(json));
    }
    match found.len() {
        1 => Ok(found[0]),
        0 => fenced(text).ok_or(NoJson::None),
        count => {
            // The same value twice (a draft, then the answer) is one.
            if found.iter().all(|json| read(json).ok().map(|r| r.0) == read(found[0]).ok().map(|r| r.0)) {
                return Ok(found[count - 1]);
            }
            Err(NoJson::Several(count))
        }
    }
}

fn is_json(text: &str) -> bool {
    !text.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A scalar alone in a code fence.
fn fenced(text: &str) -> Option<&str> {
    let start = text.find("```")?;
    let body = &text[start + 3..];
    let body = &body[body.find('\n')? + 1..];
    let inside = body[..body.find("```")?].trim();
    is_json(inside).then_some(inside)
}

/// What follows the reasoning some servers leave in the text.
pub fn after_thinking(text: &str) -> Result<&str, NoJson> {
    for (open, close) in
        [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>")]
    {
        if text.trim_start().starts_with(open) {
            return match text.find(close) {
                Some(at) => Ok(&text[at + close.len()..]),
                None => Err(NoJson::Cut),
            };
        }
        // Templates that open the block in the prompt leave only its end.
        if let Some(at) = text.find(close)
            && !text[..at].contains(open)
            && !text[..at].trim_start().starts_with(['{', '['])
        {
            return Ok(&text[at + close.len()..]);
        }
    }
    Ok(text)
}

/// Whether a bracket opens a value rather than an aside.
fn looks_like_json(text: &str) -> bool {
    let mut chars = text.chars();
    let open = chars.next();
    let next = chars.find(|c| !c.is_whitespace());
    match open {
        Some('{') => matches!(next, Some('"' | '}') | None),
        _ => matches!(next, Some('{' | '[' | '"') | None),
    }
}

fn plain_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.find(" at line ") {
        Some(at) => format!("{} (line {}, column {})", &text[..at], error.line(), error.column()),
        None => text,
    }
}

/// A value read from JSON, with the pointers of keys that were given twice (the last counts).
pub fn read(text: &str) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut twice = Vec::new();
    let mut path = String::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed { path: &mut path, twice: &mut twice }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice))
}

struct Seed<'a> {
    path: &'a mut String,
    twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let length = self.path.len();
        loop {
            self.path.push('/');
            self.path.push_str(&items.len().to_string());
            let next = list.next_element_seed(Seed { path: self.path, twice: self.twice })?;
            self.path.truncate(length);
            match next {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let length = self.path.len();
        while let Some(key) = map.next_key::<String>()? {
            self.path.push('/');
            self.path.push_str(&escape(&key));
            let value = map.next_value_seed(Seed { path: self.path, twice: self.twice })?;
            // More than are told are not noted: each takes as much memory as its place is long.
            if members.contains_key(&key) && self.twice.len() < MOST {
                self.twice.push(self.path.clone());
            }
            self.path.truncate(length);
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

/// Valid JSON in two-space indent with a final newline. Strings, numbers and the order of keys are
/// copied as they are: nothing an answer says is changed by being written.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 5 / 4 + 1);
    let mut depth = 0usize;
    let bytes = json.as_bytes();
    let mut at = 0;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str("  ");
        }
    };
    while at < bytes.len() {
        let byte = bytes[at];
        match byte {
            b'"' => {
                let start = at;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                out.push_str(&json[start..at]);
                continue;
            }
            b'{' | b'[' => {
                let close = if byte == b'{' { b'}' } else { b']' };
                let next =
                    bytes[at + 1..].iter().position(|b| !b.is_ascii_whitespace()).map(|skip| at + 1 + skip);
                out.push(byte as char);
                if let Some(next) = next.filter(|&next| bytes[next] == close) {
                    out.push(close as char);
                    at = next;
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte as char);
            }
            b',' => {
                out.push(',');
                line(&mut out, depth);
            }
            b':' => out.push_str(": "),
            b if b.is_ascii_whitespace() => {}
            _ => {
                let start = at;
                while at < bytes.len()
                    && !matches!(bytes[at], b',' | b'}' | b']' | b':')
                    && !bytes[at].is_ascii_whitespace()
                {
                    at += 1;
                }
                out.push_str(&json[start..at]);
                continue;
            }
        }
        at += 1;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_answers() {
        for (answer, wanted) in [
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("\u{feff} [1, 2]\n", "[1, 2]"),
            ("```json\n{\"a\": 1}\n```", r#"{"a": 1}"#),
            ("Here it is:\n```\n{\"a\": \"}\"}\n```\nHope that helps! {smile}", r#"{"a": "}"}"#),
            ("As in [1], the set {x, y} gives {\"a\": [2]} .", r#"{"a": [2]}"#),
            ("<think>maybe {\"b\": 2}?</think>\n{\"a\": 1}", r#"{"a": 1}"#),
            ("maybe {\"b\": 2}?\n</think>\n{\"a\": 1}", r#"{"a": 1}"#),
            ("{\"a\": \"</think>\"}", "{\"a\": \"</think>\"}"),
            ("text {\"a\": \"<think>\"}", "{\"a\": \"<think>\"}"),
            ("```\n42\n```", "42"),
            ("\"just text\"", "\"just text\""),
            ("draft {\"a\": 1} final { \"a\": 1 }", "{ \"a\": 1 }"),
            ("{\"a\": {\"b\": []}}", "{\"a\": {\"b\": []}}"),
        ] {
            assert_eq!(extract_json(answer), Ok(wanted), "{answer}");
        }
        for (answer, wanted) in [
            ("no json here", NoJson::None),
            ("", NoJson::None),
            ("{\"a\": {\"b\": 1}", NoJson::Cut),
            ("```json\n[{\"a\": 1}, {\"a\"", NoJson::Cut),
            ("{\"a\": \"x", NoJson::Cut),
            ("<think>so", NoJson::Cut),
            ("{", NoJson::Cut),
            ("{\"a\": 1} and {\"a\": 2}", NoJson::Several(2)),
        ] {
            assert_eq!(extract_json(answer), Err(wanted), "{answer}");
        }
        for broken in ["{\"a\": {\"b\": 1},}", "[{\"a\": 1} {\"a\": 2}]", "{\"a\": nope, \"b\": {\"c\": 1}}"]
        {
            assert!(matches!(extract_json(broken), Err(NoJson::Invalid(_))), "{broken}");
        }
    }

    #[test]
    fn written_again_nothing_is_lost() {
        let json = r#" {"z":1.10,"a":[ ],"s":"q\"{,}\u00e9", "o":{ },"n":[1e5,123456789012345678901234567890,{"k":null}]} "#;
        let pretty_json = pretty(json);
        assert_eq!(
            pretty_json,
            "{\n  \"z\": 1.10,\n  \"a\": [],\n  \"s\": \"q\\\"{,}\\u00e9\",\n  \"o\": {},\n  \"n\": [\n    1e5,\n    \
             123456789012345678901234567890,\n    {\n      \"k\": null\n    }\n  ]\n}\n"
        );
        assert_eq!(pretty(&pretty_json), pretty_json);
        assert_eq!(read(json).unwrap().0, read(&pretty_json).unwrap().0);
    }

    #[test]
    fn duplicate_keys_are_seen() {
        let (value, twice) = read(r#"{"a": [{"b": 1, "b": 2}], "a/b": 1, "a/b": 2}"#).unwrap();
        assert_eq!(twice, ["/a/0/b", "/a~1b"]);
        assert_eq!(value["a"][0]["b"], 2);
    }

    #[test]
    fn depth_has_an_end() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(extract_json(&"[".repeat(100_000)).is_err());
        assert!(extract_json(&"{\"a\":".repeat(100_000)).is_err());
    }
}
