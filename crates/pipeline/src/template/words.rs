//! The template engine's errors in our words: what is undefined, and what may be meant.

use std::ops::Range;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::tags::known_filters;
use super::{RenderError, Source};

/// minijinja's error in our words.
///
/// `place` gives the place in the source of one in the text that was compiled.
pub(super) fn in_words(
    source: &Source,
    error: &Error,
    context: Option<&Value>,
    place: impl Fn(&Range<usize>) -> Range<usize>,
) -> RenderError {
    let span =
        error.range().map(|range| place(&range)).filter(|range| source.text.get(range.clone()).is_some());
    let snippet =
        span.clone().and_then(|range| source.text.get(range)).map(str::trim).filter(|text| text.len() < 200);
    let detail = error.detail().unwrap_or("");
    let mut hint = None;
    let message = match error.kind() {
        ErrorKind::UndefinedError => match snippet {
            // What a filter was given, and not the filter.
            Some(filter) if known_filters().any(|known| known == filter) => {
                format!("what `{filter}` is given is undefined")
            }
            Some(snippet) => {
                let (extra, near) = nearest_member(snippet, context);
                hint = near;
                format!("`{snippet}` is undefined{extra}")
            }
            None => "a value is undefined".to_owned(),
        },
        ErrorKind::SyntaxError => format!("the template cannot be read: {detail}"),
        ErrorKind::TemplateNotFound => {
            "a template is one file: `include`, `import` and `extends` are not available".to_owned()
        }
        ErrorKind::OutOfFuel => "the template takes too many steps".to_owned(),
        ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod => {
            hint = snippet
                .and_then(|snippet| crate::manifest::nearest(snippet, known_filters()))
                .map(|near| format!("did you mean `{near}`?"));
            detail.to_owned()
        }
        kind if detail.is_empty() => kind.to_string(),
        _ => detail.to_owned(),
    };
    RenderError { message, name: source.name.clone(), line: error.line(), span, hint }
}

/// For an undefined `a.b.c`: where along it the path ends, and what is there that may be meant.
pub(super) fn nearest_member(expression: &str, context: Option<&Value>) -> (String, Option<String>) {
    let nothing = (String::new(), None);
    let Some(context) = context else { return nothing };
    let path: Vec<&str> = expression.split('.').map(str::trim).collect();
    if !path.iter().all(|part| crate::manifest::names::is_identifier(part)) {
        return nothing;
    }
    let mut here = context.clone();
    let mut walked: Vec<&str> = Vec::new();
    for part in path {
        let next = here.get_attr(part).unwrap_or(Value::UNDEFINED);
        if !next.is_undefined() {
            here = next;
            walked.push(part);
            continue;
        }
        let members: Vec<String> = match here.kind() {
            ValueKind::Map => here
                .try_iter()
                .map(|keys| keys.filter_map(|key| key.as_str().map(str::to_owned)).collect())
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let extra = match (walked.is_empty(), here.kind()) {
            (true, _) => String::new(),
            (false, ValueKind::Map) => format!(": `{}` has no `{part}`", walked.join(".")),
            (false, kind) => format!(": `{}` is a {kind}, which has no members", walked.join(".")),
        };
        return (extra, crate::manifest::suggest(part, members.iter().map(String::as_str)));
    }
    nothing
}
