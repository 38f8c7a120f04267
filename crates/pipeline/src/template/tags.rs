//! What stands in the tags of a template: its statements, filters and tests, found in the text and looked up before
//! anything is rendered.

use minijinja::{Environment, ErrorKind, Value};

use super::{RenderError, Source};
use crate::template::filters;

/// Parses as a template would, for text at hand.
pub(super) fn lint(source: &Source, env: &Environment<'_>) -> Result<(), RenderError> {
    let state = env.empty_state();
    for (span, word) in tags(&source.text) {
        let problem = match word {
            Word::Statement(name @ ("include" | "import" | "from" | "extends")) => Some((
                format!("`{{% {name} %}}` is not available"),
                Some("a template is one file; repeat the part, or use a macro".to_owned()),
            )),
            Word::Filter(name) => match state.apply_filter(name, &[]) {
                Err(error) if error.kind() == ErrorKind::UnknownFilter => Some((
                    format!("unknown filter `{name}`"),
                    crate::manifest::nearest(name, known_filters())
                        .map(|near| format!("did you mean `{near}`?")),
                )),
                _ => None,
            },
            Word::Test(name) => match state.perform_test(name, &[Value::from("")]) {
                Err(error) if error.kind() == ErrorKind::UnknownTest => {
                    Some((format!("unknown test `{name}`"), None))
                }
                _ => None,
            },
            Word::Statement(_) => None,
        };
        if let Some((message, hint)) = problem {
            let line = source.text[..span.start].matches('\n').count() + 1;
            return Err(RenderError {
                message,
                name: source.name.clone(),
                line: Some(line),
                span: Some(span),
                hint,
            });
        }
    }
    Ok(())
}

/// Those of minijinja, and ours for texts and numbers.
const FILTERS: [&str; 51] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "default",
    "dictsort",
    "escape",
    "first",
    "float",
    "format",
    "group_digits",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "number",
    "percent",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "slug",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "words",
    "zip",
];

/// Filters worth suggesting.
pub(super) fn known_filters() -> impl Iterator<Item = &'static str> {
    FILTERS.into_iter().chain(filters::NAMES)
}

/// Where a template's tags first use a name (`plan`, or `vars.audience`).
pub fn find_name(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let part = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let mut from = 0;
    while let Some(open) = text[from..].find(['{']).map(|at| from + at) {
        let close = match text.as_bytes().get(open + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            _ => {
                from = open + 1;
                continue;
            }
        };
        let end = text[open..].find(close).map_or(text.len(), |at| open + at);
        let mut at = open;
        while let Some(start) = text[at..end].find(name).map(|found| at + found) {
            let stop = start + name.len();
            let bytes = text.as_bytes();
            let before = start.checked_sub(1).map(|i| bytes[i]);
            if !part(before) && before != Some(b'.') && !part(bytes.get(stop).copied()) {
                return Some(start..stop);
            }
            at = stop;
        }
        from = end.max(open + 2);
    }
    None
}

enum Word<'a> {
    Statement(&'a str),
    Filter(&'a str),
    Test(&'a str),
}

/// Statements, filters and tests in the tags of a template.
fn tags(text: &str) -> Vec<(std::ops::Range<usize>, Word<'_>)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    let word_at = |from: usize| {
        let start = from + text[from..].len() - text[from..].trim_start().len();
        let len = text[start..].bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        start..start + len
    };
    let mut raw = false;
    while let Some(open) = text[at..].find('{').map(|open| at + open) {
        let kind = bytes.get(open + 1).copied();
        let (end, statement) = match kind {
            Some(b'#') => {
                at = text[open..].find("#}").map_or(text.len(), |end| open + end + 2);
                continue;
            }
            Some(b'%') => ("%}", true),
            Some(b'{') => ("}}", false),
            _ => {
                at = open + 1;
                continue;
            }
        };
        let mut here = open + 2;
        if bytes.get(here).is_some_and(|b| matches!(b, b'-' | b'+')) {
            here += 1;
        }
        if statement {
            let range = word_at(here);
            let name = &text[range.clone()];
            match name {
                "raw" => raw = true,
                "endraw" => raw = false,
                _ if !raw => found.push((range.clone(), Word::Statement(name))),
                _ => {}
            }
            here = range.end;
        }
        let mut quote = None;
        while here < bytes.len() {
            let byte = bytes[here];
            match quote {
                Some(_) if byte == b'\\' => here += 1,
                Some(mark) if byte == mark => quote = None,
                Some(_) => {}
                None if text.as_bytes()[here..].starts_with(end.as_bytes()) => break,
                None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
                None if byte == b'|' && !raw => {
                    let range = word_at(here + 1);
                    if !range.is_empty() {
                        found.push((range.clone(), Word::Filter(&text[range])));
                    }
                }
                None if !raw && text.is_char_boundary(here) && is_word(text, here, "is") => {
                    let mut range = word_at(here + 2);
                    if &text[range.clone()] == "not" {
                        range = word_at(range.end);
                    }
                    if !range.is_empty() {
                        found.push((range.clone(), Word::Test(&text[range])));
                    }
                }
                None => {}
            }
            here += 1;
        }
        at = (here + 2).min(text.len());
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    found
}

/// Whether a word stands alone at a byte.
fn is_word(text: &str, at: usize, word: &str) -> bool {
    let bytes = text.as_bytes();
    let plain =
        |byte: Option<&u8>| byte.is_none_or(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'.'));
    bytes[at..].starts_with(word.as_bytes())
        && plain(at.checked_sub(1).and_then(|before| bytes.get(before)))
        && bytes.get(at + word.len()).is_some_and(u8::is_ascii_whitespace)
}
