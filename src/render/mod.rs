//! Templates: prompts, output templates, gates and conditions. The same source and the same
//! context give the same bytes; there is no clock, no file and no chance in here.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use crate::{filters, order};

/// A template's text, and what to call it in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A path as shown to people, or `task.swot.prompt` for inline text.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// Whether a line that holds only a block tag leaves nothing behind.
    pub trim: bool,
}

impl Source {
    /// A source from its name and text.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Source {
        Source { name: name.into(), text: text.into(), trim: false }
    }

    /// The same, with lines of block tags alone leaving nothing behind, or not.
    #[must_use]
    pub fn trimmed(mut self, trim: bool) -> Source {
        self.trim = trim;
        self
    }

    /// Whether a template of this file name makes HTML: `*.html`, `*.htm`, also before `.j2`.
    pub fn is_html_name(name: &str) -> bool {
        let lower = name.to_lowercase();
        let lower =
            [".j2", ".jinja", ".jinja2"].iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
        lower.ends_with(".html") || lower.ends_with(".htm") || lower.ends_with(".xhtml")
    }
}

/// Why a template did not give a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError {
    /// What was found and wanted.
    pub message: String,
    /// The template's name.
    pub name: String,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The bytes of the template that are at fault.
    pub span: Option<std::ops::Range<usize>>,
    /// Something to type.
    pub hint: Option<String>,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.name, self.message)?,
            None => write!(f, "{}: {}", self.name, self.message)?,
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for RenderError {}

/// Steps a template may take: far more than any report needs, and still an end.
const FUEL: u64 = 10_000_000;

/// Largest text a template may make.
const LARGEST: usize = 256 << 20;

/// Renders a template. With `html`, values are escaped.
pub fn render(source: &Source, context: &Value, html: bool) -> Result<String, RenderError> {
    render_within(source, context, html, LARGEST)
}

fn render_within(
    source: &Source,
    context: &Value,
    html: bool,
    largest: usize,
) -> Result<String, RenderError> {
    let env = environment(html, source.trim);
    let template = env
        .template_from_named_str(&source.name, &source.text)
        .map_err(|error| in_words(source, &error, Some(context)))?;
    let mut text = Text { bytes: Vec::new(), room: largest, full: false };
    let made = template.render_captured_to(context, &mut text).map(drop);
    match made {
        _ if text.full => Err(RenderError {
            message: format!("the text is larger than {} MiB", largest >> 20),
            name: source.name.clone(),
            line: None,
            span: None,
            hint: None,
        }),
        Err(error) => Err(in_words(source, &error, Some(context))),
        Ok(()) => Ok(String::from_utf8(text.bytes).expect("BUG: a template made a text that is not UTF-8")),
    }
}

/// The text a template makes, as far as there is room: a loop over a large input would else take all memory.
struct Text {
    bytes: Vec<u8>,
    room: usize,
    /// More was to come.
    full: bool,
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full |= bytes.len() > self.room - self.bytes.len();
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names a template uses and does not set itself; of members the whole path (`vars.audience`).
/// Fails if the template cannot be parsed, uses a filter or test there is none of, or wants another file.
pub fn undeclared(source: &Source) -> Result<BTreeSet<String>, RenderError> {
    let env = environment(false, source.trim);
    let template = env
        .template_from_named_str(&source.name, &source.text)
        .map_err(|error| in_words(source, &error, None))?;
    lint(source, env)?;
    let is_given = |name: &str| means_something(name.split('.').next().unwrap_or(name));
    Ok(template.undeclared_variables(true).into_iter().filter(|name| !is_given(name)).collect())
}

/// Whether a name means something in every template, so that no input can be called so.
pub fn means_something(name: &str) -> bool {
    matches!(name, "loop" | "self" | "super" | "caller" | "not")
        || matches!(name, "true" | "True" | "false" | "False" | "none" | "None")
        || environment(false, false).globals().any(|(known, _)| known == name)
}

/// The expression inside `"{{ … }}"`, if the text is one and nothing else.
pub fn condition_of(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inside = inside.strip_prefix('-').unwrap_or(inside);
    let inside = inside.strip_suffix('-').unwrap_or(inside);
    (!inside.contains("{{") && !inside.contains("}}") && !inside.trim().is_empty()).then_some(inside.trim())
}

/// Whether a condition `"{{ … }}"` is true. Empty values are false, and so are the strings
/// `false`, `no` and `0`, since a model may write them.
pub fn eval_condition(source: &Source, context: &Value) -> Result<bool, RenderError> {
    let inside = condition(source)?;
    let env = environment(false, source.trim);
    let inner = Source::new(source.name.clone(), inside);
    let expression =
        env.compile_expression(inside).map_err(|error| in_words(&inner, &error, Some(context)))?;
    let value = expression.eval(context).map_err(|error| in_words(&inner, &error, Some(context)))?;
    if let Some(calls) = order::with_calls(inside)
        && let Err(error) = env.compile_expression(&calls).and_then(|again| again.eval(context))
        && let Some(why) = order::mismatch(&error)
    {
        return Err(RenderError {
            message: format!("`{inside}` cannot be told: {why}"),
            name: source.name.clone(),
            line: None,
            span: None,
            hint: Some("`| float` makes a number of a text; a schema has it be one".to_owned()),
        });
    }
    if value.is_undefined() {
        return Err(RenderError {
            message: format!("`{inside}` is undefined{}", nearest_member(inside, Some(context)).0),
            name: source.name.clone(),
            line: None,
            span: None,
            hint: nearest_member(inside, Some(context)).1,
        });
    }
    Ok(match value.as_str() {
        Some(text) => {
            !matches!(text.trim().to_lowercase().as_str(), "" | "false" | "no" | "0" | "none" | "null")
        }
        None => value.is_true(),
    })
}

/// [`condition_of`] a source, or why it is none.
pub fn condition(source: &Source) -> Result<&str, RenderError> {
    condition_of(&source.text).ok_or_else(|| not_a_condition(source))
}

/// The names a condition uses, as [`undeclared`] gives them.
pub fn undeclared_in_condition(source: &Source) -> Result<BTreeSet<String>, RenderError> {
    condition(source)?;
    undeclared(source)
}

fn not_a_condition(source: &Source) -> RenderError {
    RenderError {
        message: "a condition is one expression in braces".to_owned(),
        name: source.name.clone(),
        line: None,
        span: None,
        hint: Some(match source.text.trim() {
            text if !text.contains("{{") && !text.contains("{%") && !text.is_empty() => {
                format!("write \"{{{{ {text} }}}}\"")
            }
            _ => "write \"{{ assessment.verdict == 'no-go' }}\"".to_owned(),
        }),
    }
}

/// The environment templates are made in. There are four of them, each made once: to make one takes longer than
/// to parse and render most templates, and a pipeline has a template for every task.
fn environment<'a>(html: bool, trim: bool) -> &'a Environment<'a> {
    static MADE: [OnceLock<Environment<'static>>; 4] = [const { OnceLock::new() }; 4];
    MADE[usize::from(html) + 2 * usize::from(trim)].get_or_init(|| new_environment(html, trim))
}

fn new_environment(html: bool, trim: bool) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(move |_| if html { AutoEscape::Html } else { AutoEscape::None });
    env.set_keep_trailing_newline(true);
    env.set_trim_blocks(trim);
    env.set_lstrip_blocks(trim);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(100);
    env.set_debug(true);
    env.remove_global("debug");
    if html {
        env.set_formatter(|out, state, value| match value.as_str().map(printable) {
            Some(Cow::Owned(text)) if value.is_safe() => {
                minijinja::escape_formatter(out, state, &Value::from_safe_string(text))
            }
            Some(Cow::Owned(text)) => minijinja::escape_formatter(out, state, &Value::from(text)),
            _ => minijinja::escape_formatter(out, state, value),
        });
    }
    env.add_filter("tojson", tojson);
    env.add_filter("printable", |text: String| printable(&text).into_owned());
    env.add_filter("slug", |text: String| slug(&text));
    env.add_filter("words", words);
    env.add_filter("group_digits", group_digits);
    env.add_filter("number", number);
    env.add_filter("percent", percent);
    filters::add(&mut env);
    order::add(&mut env);
    env
}

/// A text without the characters that no reader sees and that steer what shows it: control characters, which
/// may begin a sequence for a terminal, and marks that reorder what stands beside them. In HTML every value is
/// made so.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| match c {
        '\n' | '\r' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    };
    match text.contains(steers) {
        true => Cow::Owned(text.replace(steers, "")),
        false => Cow::Borrowed(text),
    }
}

/// Parses as a template would, for text at hand.
fn lint(source: &Source, env: &Environment<'_>) -> Result<(), RenderError> {
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

/// Filters worth suggesting.
fn known_filters() -> impl Iterator<Item = &'static str> {
    FILTERS.into_iter().chain(filters::NAMES)
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

/// minijinja's error in our words.
fn in_words(source: &Source, error: &Error, context: Option<&Value>) -> RenderError {
    let span = error.range().filter(|range| source.text.get(range.clone()).is_some());
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
fn nearest_member(expression: &str, context: Option<&Value>) -> (String, Option<String>) {
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

/// `{{ value|tojson }}`, `tojson(indent=2)` or `tojson(true)`. In HTML it is safe inside a script.
fn tojson(
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
fn words(text: String, count: usize) -> String {
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
fn group_digits(value: &Value, separator: Option<String>) -> Result<String, Error> {
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
    Ok(grouped(&text, separator.as_deref().unwrap_or(",")))
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
fn number(value: &Value, digits: Option<usize>) -> Result<String, Error> {
    Ok(grouped(&format!("{:.*}", digits.unwrap_or(0).min(20), as_number(value, "number")?), ","))
}

/// A share as a percentage: `0.256` is `26%`, with `percent(1)` `25.6%`.
fn percent(value: &Value, digits: Option<usize>) -> Result<String, Error> {
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
    use super::*;
    use minijinja::context;

    fn text(template: &str, context: Value) -> Result<String, RenderError> {
        render(&Source::new("t", template), &context, false)
    }

    #[test]
    fn what_templates_give() {
        let json: serde_json::Value =
            serde_json::from_str(r#"{"z": 1, "a": [1.5, 9007199254740993, "<b>"]}"#).unwrap();
        let context = context! { plan => "Grow.", j => json, n => 1234567, s => 0.256 };
        for (template, wanted) in [
            ("{{ plan }}\n", "Grow.\n"),
            ("{{ j }}", r#"{"z": 1, "a": [1.5, 9007199254740993, "<b>"]}"#),
            ("{{ j|tojson }}", r#"{"z":1,"a":[1.5,9007199254740993,"<b>"]}"#),
            ("{{ j.a|tojson(indent=2) }}", "[\n  1.5,\n  9007199254740993,\n  \"<b>\"\n]"),
            ("{{ j.a[1] }}", "9007199254740993"),
            ("{% for x in j.a %}- {{ x }}\n{% endfor %}", "- 1.5\n- 9007199254740993\n- <b>\n"),
            ("  {% if plan %}\nyes\n  {% endif %}\n", "  \nyes\n  \n"),
            (
                "{{ n|group_digits }} {{ n|number(2) }} {{ s|percent }} {{ s|percent(1) }}",
                "1,234,567 1,234,567.00 26% 25.6%",
            ),
            ("{{ 'Ärger & Frust!'|slug }}", "ärger-frust"),
            ("{{ 'one two  three four'|words(2) }}|{{ 'a b'|words(2) }}", "one two…|a b"),
            ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
            ("{{ missing|default('x') }}", "x"),
            ("{{ '-1234567.5'|group_digits }} {{ n|group_digits(' ') }}", "-1,234,567.5 1 234 567"),
            ("{{ ' 0.5 '|percent }} {{ '12'|number(1) }}", "50% 12.0"),
            ("{{ 'one two'|words(2) }}|{{ ''|words(2) }}", "one two|"),
        ] {
            assert_eq!(text(template, context.clone()).as_deref(), Ok(wanted), "{template}");
        }
        for (template, wanted) in [
            (
                "{% for x in j.a %}\n  - {{ x }}\n{% endfor %}\nend\n",
                "  - 1.5\n  - 9007199254740993\n  - <b>\nend\n",
            ),
            ("  {% if plan %}\nyes\n  {% endif %}\n", "yes\n"),
        ] {
            let source = Source::new("t", template).trimmed(true);
            assert_eq!(render(&source, &context, false).as_deref(), Ok(wanted), "{template}");
        }
        let html = render(&Source::new("t", "{{ j.a[2] }} {{ j.a|tojson }}"), &context, true).unwrap();
        assert_eq!(html, "&lt;b&gt; [1.5,9007199254740993,\"\\u003cb\\u003e\"]");
    }

    #[test]
    fn a_text_that_never_ends_takes_no_more_memory_than_it_may() {
        let context = context! { doc => "x".repeat(1 << 20) };
        let source = Source::new("t", "{% for i in range(100000) %}{{ doc }}{% endfor %}");
        let error = render_within(&source, &context, false, 3 << 20).unwrap_err();
        assert_eq!(error.message, "the text is larger than 3 MiB");
        let source = Source::new("t", "{{ doc }}{{ doc }}{{ doc }}");
        assert_eq!(render_within(&source, &context, false, 3 << 20).map(|text| text.len()), Ok(3 << 20));
    }

    #[test]
    fn what_is_undefined_is_named() {
        let context = context! { purpose => context! { audience => "board", aim => "x" }, plan => "p" };
        let error = text("a\n{{ purpose.audiense }}", context.clone()).unwrap_err();
        assert_eq!(error.line, Some(2));
        assert_eq!(error.message, "`purpose.audiense` is undefined: `purpose` has no `audiense`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `audience`?"));
        let error = text("{{ plann }}", context.clone()).unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.hint.as_deref()),
            ("`plann` is undefined", Some("did you mean `plan`?"))
        );
        let error = text("{{ plan.x }}", context.clone()).unwrap_err();
        assert!(error.message.contains("`plan` is a string"), "{error}");
        assert!(text("{% for %}", context.clone()).unwrap_err().message.contains("cannot be read"));
        assert!(
            text(
                "{% for i in range(10000) %}{% for j in range(100000) %}{{ j }}{% endfor %}{% endfor %}",
                context
            )
            .is_err()
        );
    }

    #[test]
    fn names_a_template_wants() {
        let names = |template: &str| {
            undeclared(&Source::new("t", template))
                .map(|names| names.into_iter().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            names("{{ a.b.c }} {% for x in list %}{{ x.y }}{{ loop.index }}{% endfor %} {{ range(3) }}"),
            Ok("a.b.c list".into())
        );
        assert_eq!(names("{% set q = 1 %}{{ q }} {# {{ z|nope }} #}"), Ok("".into()));
        assert_eq!(names("{% raw %}{{ x|nope }}{% endraw %}"), Ok("".into()));
        let error = undeclared(&Source::new("t", "x\n{{ a|tojsn }}")).unwrap_err();
        assert_eq!(
            (error.line, error.message.as_str(), error.hint.as_deref()),
            (Some(2), "unknown filter `tojsn`", Some("did you mean `tojson`?"))
        );
        assert!(
            undeclared(&Source::new("t", "{% include 'x' %}")).unwrap_err().message.contains("not available")
        );
        assert!(undeclared(&Source::new("t", "{{ a is emty }}")).is_err());
        assert!(undeclared(&Source::new("t", "{{ a is not none and 'x | nope' }}")).is_ok());
        assert!(undeclared(&Source::new("t", "{{ ä|upper }} ü {% if ö is defined %}…{% endif %}")).is_err());
        assert!(undeclared(&Source::new("t", "{{ 'ä' is string }} {{ x is ä }}")).is_err());
    }

    #[test]
    fn what_filters_do_not_take() {
        for (template, wanted) in [
            ("{{ []|group_digits }}", "`group_digits` wants a number, found a sequence"),
            ("{{ 'many'|group_digits }}", "`group_digits` wants a number, found a string"),
            ("{{ 'many'|percent }}", "`percent` wants a number, found a string"),
            ("{{ true|number }}", "`number` wants a number, found a bool"),
        ] {
            let error = text(template, context! {}).unwrap_err();
            assert!(error.to_string().contains(wanted), "{template}: {error}");
            assert!(error.to_string().starts_with("t:1: "), "{error}");
        }
    }

    #[test]
    fn json_in_html_ends_no_script() {
        let source = Source::new("t.html", "<script>x = {{ x|tojson }}</script>{{ x }}");
        let hostile = "</script>'&\u{2028}\u{2029}";
        let page = render(&source, &context! { x => hostile }, true).unwrap();
        let (script, rest) = page.split_once("</script>").unwrap();
        assert_eq!(script, r#"<script>x = "\u003c/script\u003e\u0027\u0026\u2028\u2029""#);
        assert!(!rest.contains('<'), "{rest}");
    }

    #[test]
    fn conditions() {
        let context =
            context! { a => context! { verdict => "no-go", n => 0, list => Vec::<i32>::new() }, t => " No " };
        let is = |text: &str| eval_condition(&Source::new("t", text), &context);
        for (condition, wanted) in [
            ("{{ a.verdict == 'no-go' }}", true),
            ("{{ a.n }}", false),
            ("{{ a.n == 0 and not a.list }}", true),
            ("{{ t }}", false),
            ("{{ 'false' }}", false),
            ("{{ a.verdict }}", true),
            ("{{- a.list | length > 0 -}}", false),
        ] {
            assert_eq!(is(condition), Ok(wanted), "{condition}");
        }
        assert_eq!(is("a.n").unwrap_err().hint.as_deref(), Some("write \"{{ a.n }}\""));
        assert!(is("{{ a.nope }}").is_err());
        assert!(is("{{ nope.x }}").is_err());
        assert!(is("{{ a.n }} {{ a.n }}").is_err());
        assert_eq!(is("{{ a.nope | float }}").unwrap_err().message, "what `float` is given is undefined");
        // A text is neither above nor below a number; what is asked before is not overlooked.
        let error = is("{{ a.n < 3 and a.verdict < 80 }}").unwrap_err();
        let wanted =
            "`a.n < 3 and a.verdict < 80` cannot be told: it compares the text \"no-go\" with the number 80";
        assert_eq!(error.message, wanted);
        assert!(is("{{ none > 1 }}").is_err());
        assert_eq!(is("{{ a.verdict is number and a.verdict < 80 }}"), Ok(false));
        assert_eq!(is("{{ a.verdict < 'z' }}"), Ok(true));
        assert_eq!(is("{{ '5' | float < 80 and [1, 2] | select('gt', 1) | list | length >= 1 }}"), Ok(true));
        assert!(is("").is_err());
    }

    #[test]
    fn no_template_makes_it_panic() {
        let good = "{% for x in list %}ä{{ x|tojson }} {{ 'ö' ~ y is not none }}{# c #}{% raw %}{{ ü }}{% endraw %}{% endfor %}{{- z.a -}}";
        let chars: Vec<char> = good.chars().collect();
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..1000 {
            let mut text = chars.clone();
            text.push(' ');
            for _ in 0..3 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = (seed % text.len() as u64) as usize;
                match (seed >> 20) % 3 {
                    0 => {
                        text[at] =
                            ['{', '}', '%', '|', '\'', '"', '\\', 'ß', ' ', '#'][(seed >> 24) as usize % 10]
                    }
                    1 if text.len() > 1 => drop(text.remove(at)),
                    _ => text.truncate(at.max(1)),
                }
            }
            let source = Source::new("t", text.into_iter().collect::<String>());
            let _ = undeclared(&source);
            let _ = render(&source, &context! { list => vec![1], y => 2, z => context! { a => 1 } }, true);
            let _ = eval_condition(&source, &context! {});
            let _ = find_name(&source.text, "x");
        }
    }

    #[test]
    fn nothing_in_a_page_steers_what_shows_it() {
        let evil = "a\u{1b}[31m\u{202e}b\u{2066}\u{0}\u{9b}c\td\ne \u{5d0}\u{200f}";
        let context = context! { evil };
        let html =
            render(&Source::new("t", "{{ evil }}{{ evil|safe }}{{ evil|tojson }}"), &context, true).unwrap();
        assert!(!html.contains(['\u{1b}', '\u{202e}', '\u{2066}', '\u{0}', '\u{9b}']), "{html:?}");
        assert!(html.starts_with("a[31mbc\td\ne \u{5d0}\u{200f}a[31mbc"), "{html:?}");
        // Elsewhere where it is asked for: a prompt may be about such text.
        assert_eq!(text("{{ evil }}", context.clone()).as_deref(), Ok(evil));
        assert_eq!(text("{{ evil|printable }}", context).as_deref(), Ok("a[31mbc\td\ne \u{5d0}\u{200f}"));
    }

    #[test]
    fn html_names() {
        for (name, html) in
            [("a.html.j2", true), ("a.HTM", true), ("a.htm.j2", true), ("a.md.j2", false), ("html", false)]
        {
            assert_eq!(Source::is_html_name(name), html, "{name}");
        }
    }
}
