//! Filters and tests of templates that read and weigh data: JSON, JSON lines and TOML inside a text, digests, days,
//! words. Like all of a template they know no clock, no file and no chance.

use jiff::civil::Date;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use crate::items::canonical;
use crate::template::{WORDS, figures};
use crate::text::{self as words, Phrases};

/// Their names, for suggestions.
pub const NAMES: [&str; 23] = [
    "addresses",
    "arithmetic",
    "counted",
    "date_faults",
    "days_until",
    "digest",
    "edited",
    "fact_faults",
    "facts",
    "fromjson",
    "fromjsonl",
    "fromtoml",
    "given_dates",
    "gone",
    "last_day",
    "line_with",
    "mentions",
    "misstated",
    "moved",
    "printable",
    "sources",
    "still",
    "uncited",
];

/// Adds them to an environment.
pub fn add(env: &mut Environment<'_>) {
    env.add_filter("fromjson", from_json);
    env.add_filter("fromjsonl", from_json_lines);
    env.add_filter("fromtoml", from_toml);
    env.add_filter("digest", digest);
    env.add_filter("days_until", days_until);
    env.add_filter("mentions", mentions);
    figures::add(env);
    env.add_test("date", |value: &Value| value.as_str().is_some_and(|text| date(text).is_some()));
}

pub(super) fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The value a JSON text holds.
fn from_json(text: String) -> Result<Value, Error> {
    let text = text.trim_start_matches('\u{feff}');
    let value: Json =
        serde_json::from_str(text).map_err(|error| wrong(format!("not valid JSON: {error}")))?;
    Ok(Value::from_serialize(value))
}

/// The values of a text with one JSON value a line; empty lines are passed over.
fn from_json_lines(text: String) -> Result<Value, Error> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let values = lines.filter(|(_, line)| !line.trim().is_empty()).map(|(n, line)| {
        let value: Json = serde_json::from_str(line).map_err(|error| {
            let error = error.to_string();
            let why = error.split(" at line ").next().unwrap_or_default();
            wrong(format!("line {} is not valid JSON: {why}", n + 1))
        })?;
        Ok(Value::from_serialize(value))
    });
    Ok(Value::from(values.collect::<Result<Vec<Value>, Error>>()?))
}

/// The table a TOML text holds; dates and times are texts.
fn from_toml(text: String) -> Result<Value, Error> {
    let table: toml::Table =
        text.trim_start_matches('\u{feff}').parse().map_err(|error: toml::de::Error| {
            let at = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = at.map(|line| format!("line {line}: ")).unwrap_or_default();
            wrong(format!("not valid TOML: {line}{}", error.message()))
        })?;
    Ok(Value::from_serialize(json_of(toml::Value::Table(table))))
}

fn json_of(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => Json::from(number),
        // `inf` and `nan`, which JSON has not, come out as null.
        toml::Value::Float(number) => Json::from(number),
        toml::Value::Boolean(truth) => Json::Bool(truth),
        toml::Value::Datetime(time) => Json::String(time.to_string()),
        toml::Value::Array(list) => Json::Array(list.into_iter().map(json_of).collect()),
        toml::Value::Table(table) => {
            Json::Object(table.into_iter().map(|(key, value)| (key, json_of(value))).collect::<Map<_, _>>())
        }
    }
}

/// The blake3 digest of a text, or of any other value as JSON with its keys in order; the first `length` digits of it.
fn digest(value: &Value, length: Option<usize>) -> Result<String, Error> {
    let hash = match value.as_str() {
        Some(text) => blake3::hash(text.as_bytes()),
        None => {
            let json = serde_json::to_value(value)
                .map_err(|error| wrong(format!("`digest` wants a text or data: {error}")))?;
            blake3::hash(canonical(&json).as_bytes())
        }
    };
    let mut hex = hash.to_hex().to_string();
    hex.truncate(length.unwrap_or(64).clamp(1, 64));
    Ok(hex)
}

/// The calendar date a text begins with: `2026-11-23`, also before a time of day.
fn date(text: &str) -> Option<Date> {
    let text = text.trim();
    let (day, rest) = text.split_at_checked(10)?;
    (rest.is_empty() || rest.starts_with(['T', 't', ' '])).then(|| day.parse().ok())?
}

/// Days from one date to another; below zero if that comes before.
fn days_until(from: &Value, to: &Value) -> Result<i64, Error> {
    let read = |value: &Value| {
        let found = value.as_str().and_then(date);
        found.ok_or_else(|| wrong(format!("`{value}` is not a date; wanted one like `2026-11-23`")))
    };
    let (from, to) = (read(from)?, read(to)?);
    let since = to.since(from).map_err(|error| wrong(error.to_string()))?;
    Ok(i64::from(since.get_days()))
}

/// Which of some words and phrases a text holds, each as a whole, whatever its case; with `except=` those that occur
/// only inside certain others do not count. Words are a list, or the text of a file with one a line.
fn mentions(text: String, words: &Value, kwargs: Kwargs) -> Result<Vec<String>, Error> {
    let except: Option<Value> = kwargs.get("except")?;
    kwargs.assert_all_used()?;
    let except = except.as_ref().map(list_of_words).transpose()?;
    let phrases = Phrases::new(&list_of_words(words)?, &except.unwrap_or_default());
    Ok(phrases.found_in(&text).map(|(word, _)| word.to_owned()).collect())
}

fn list_of_words(words: &Value) -> Result<Vec<String>, Error> {
    let list: Vec<String> = match words.as_str() {
        Some(text) => words::listed(text),
        None => words.try_iter()?.take(WORDS + 1).map(|word| word.to_string()).collect(),
    };
    match list.len() > WORDS {
        true => Err(wrong(format!("`mentions` looks for at most {WORDS} words"))),
        false => Ok(list),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use crate::template::{RenderError, Source, render};

    fn text(source: &str) -> Result<String, RenderError> {
        let context = context! {
            lines => "{\"a\": 1}\n\n{\"a\": 2.5}\n",
            torn => "{\"a\": 1}\n{\"a\":",
            table => "name = \"x\"\nday = 2026-11-23\n[[list]]\nn = 1\n",
            words => vec!["dive", "synergy"],
        };
        render(&Source::new("t", source), &context, false)
    }

    #[test]
    fn data_in_texts() {
        for (source, wanted) in [
            ("{{ ('[1, {\"b\": 2}]' | fromjson)[1].b }}", "2"),
            ("{{ lines | fromjsonl | map(attribute='a') | sum }}", "3.5"),
            ("{{ '' | fromjsonl | length }}", "0"),
            ("{{ (table | fromtoml).day }} {{ (table | fromtoml).list[0].n }}", "2026-11-23 1"),
            ("{{ table | fromtoml | tojson }}", r#"{"name":"x","day":"2026-11-23","list":[{"n":1}]}"#),
            ("{{ 'abc' | digest(12) }}", "6437b3ac3846"),
            ("{{ 'abc' | digest | length }}", "64"),
            ("{{ ({'b': 1, 'a': 2} | digest) == ({'a': 2, 'b': 1} | digest) }}", "True"),
            ("{{ (['a', 'bc'] | digest) == (['ab', 'c'] | digest) }}", "False"),
            ("{{ '2026-02-27' | days_until('2026-03-01') }}", "2"),
            ("{{ '2024-02-27T23:59:59Z' | days_until('2024-03-01') }}", "3"),
            ("{{ '2027-01-01' | days_until('2026-01-01') }}", "-365"),
            (
                "{{ '2026-11-23' is date }} {{ '2026-02-30' is date }} {{ 'soon' is date }} {{ 3 is date }}",
                "True False False False",
            ),
            ("{{ 'A deep dive.' | mentions(words) | join }}", "dive"),
            ("{{ 'A deep dive.' | mentions('# none\nA\n\ndeep  dive') | join(',') }}", "A,deep  dive"),
            ("{{ 'A deep dive.' | mentions(words, except=['deep dive']) | length }}", "0"),
        ] {
            assert_eq!(text(source).as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn each_filter_of_the_page_of_templates_is_there_and_suggested() {
        let page = include_str!("../../../../docs/templates.md");
        let tables = page.split("| filter | |").skip(1).flat_map(|rest| {
            let rows = rest.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with('|'));
            rows.filter(|row| row.starts_with("| `")).collect::<Vec<_>>()
        });
        let names: Vec<&str> = tables
            .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
            .map(|name| name.split('(').next().unwrap_or_default())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            if let Err(error) = text(&format!("{{{{ 'x' | {name} }}}}")) {
                assert!(!error.message.contains("unknown filter"), "{error}");
            }
            let error = text(&format!("{{{{ 'x' | {name}q }}}}")).expect_err(name);
            assert_eq!(error.hint, Some(format!("did you mean `{name}`?")), "{error}");
        }
    }

    #[test]
    fn what_is_no_data_is_told_with_its_line() {
        for (source, wanted) in [
            ("{{ torn | fromjsonl }}", "line 2 is not valid JSON"),
            ("{{ '{' | fromjson }}", "not valid JSON"),
            ("{{ 'a = 1\nb =' | fromtoml }}", "not valid TOML: line 2"),
            ("{{ 'soon' | days_until('2026-01-01') }}", "`soon` is not a date"),
            ("{{ '2026-01-01' | days_until('2026-02-30') }}", "`2026-02-30` is not a date"),
        ] {
            let error = text(source).expect_err(source);
            assert!(error.message.contains(wanted), "{source}: {}", error.message);
        }
    }
}
