//! What is wrong with the syntax of a TOML file: a type, by what the parser wanted and what stands there, and its words
//! for someone who does not know the parser. What the parser itself says is shown only where no better is known.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{Expected, ParseError, Source};

/// Deeper than any text that is parsed here.
const DEEP: u32 = 80;

/// Something wrong with the syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Syntax {
    /// A key or table is given twice.
    Duplicate,
    /// A key is used as a table that is given another value, of this kind, elsewhere.
    UsedAsTable(&'static str),
    /// What stands for a value is neither quoted nor anything else.
    NotAValue,
    /// Nearly `true` or `false`.
    NotABool,
    /// A key that no `=` follows.
    NoValue,
    /// A key with a character that wants quotes.
    KeyToBeQuoted,
    /// No key where one belongs.
    EmptyKey,
    /// A string that does not end: with this quote; or a text of several lines.
    OpenText { quote: char, several: bool },
    /// A backslash before a character that has no meaning after it.
    Escape,
    /// A header that does not end.
    OpenHeader { of_list: bool },
    /// A list that does not end.
    OpenList,
    /// A table in braces that does not end.
    OpenTable,
    /// `=` in a list.
    EqualsInList,
    /// Two commas in a row in a list.
    CommaInList(Box<Words>),
    /// Two elements of a list without a comma between them.
    NoComma,
    /// More after a value on its line.
    LeftOver,
    /// A number that begins with a zero.
    LeadingZero,
    /// Nearly a date or a time.
    NotADate,
    /// Something else, in the words of the parser.
    Other(Box<Words>),
}

/// What is said of a fault: the message, what is written beside the caret, something to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) message: String,
    pub(super) wanted: Option<String>,
    pub(super) hint: Option<String>,
}

/// The faults at these places, in their order. `table`: what could be read of the text.
pub(super) fn faults(
    text: &str,
    table: &DeTable<'_>,
    places: impl Iterator<Item = Range<usize>>,
) -> Vec<(Range<usize>, Syntax)> {
    let parsed = Parsed::new(text);
    let mut errors: HashMap<(usize, usize), Vec<&ParseError>> = HashMap::new();
    for error in parsed.errors.iter().rev() {
        let span = error.unexpected().map_or((0, 0), |span| (span.start(), span.end()));
        errors.entry(span).or_default().push(error);
    }
    let mut paths = None;
    places
        .map(|span| {
            let error = errors.get_mut(&(span.start, span.end)).and_then(Vec::pop);
            let syntax = match error {
                Some(error) => Syntax::from_error(text, error),
                None if parsed.dates.contains(&(span.start, span.end)) => Syntax::NotADate,
                // The tokens are in order: it is the same key again, or one that cannot be a table.
                None => {
                    let paths = paths.get_or_insert_with(|| parsed.paths(text));
                    paths
                        .get(&span.start)
                        .and_then(|(path, is_last)| (!is_last).then(|| used_as_table(text, table, path))?)
                        .unwrap_or(Syntax::Duplicate)
                }
            };
            (span.start.min(text.len())..span.end.min(text.len()), syntax)
        })
        .collect()
}

/// What the parser says of a text, by its tokens alone.
struct Parsed {
    events: Vec<Event>,
    errors: Vec<ParseError>,
    /// What begins like a date or a time, from its first byte to its last.
    dates: HashSet<(usize, usize)>,
}

impl Parsed {
    fn new(text: &str) -> Parsed {
        let source = Source::new(text);
        let tokens = source.lex().into_vec();
        let (mut events, mut errors) = (Vec::new(), Vec::new());
        {
            let mut receiver = ValidateWhitespace::new(&mut events, source);
            let mut receiver = RecursionGuard::new(&mut receiver, DEEP);
            parse_document(&tokens, &mut receiver, &mut errors);
        }
        let mut dates = HashSet::new();
        for event in &events {
            let Some(raw) = source.get(event) else { continue };
            let mut decoded = Cow::Borrowed("");
            match event.kind() {
                EventKind::SimpleKey => raw.decode_key(&mut decoded, &mut errors),
                EventKind::Scalar => {
                    let kind = raw.decode_scalar(&mut decoded, &mut errors);
                    if kind == ScalarKind::DateTime {
                        dates.insert((event.span().start(), event.span().end()));
                    }
                }
                _ => {}
            }
        }
        Parsed { events, errors, dates }
    }

    /// By the byte at which it starts, each key outside values in braces: the keys before it and itself, from the top; and
    /// whether it is the last of its own.
    fn paths(&self, text: &str) -> HashMap<usize, (Vec<String>, bool)> {
        let source = Source::new(text);
        let mut found = HashMap::new();
        let (mut header, mut keys): (Vec<String>, Vec<(usize, String)>) = (Vec::new(), Vec::new());
        let (mut in_header, mut depth) = (false, 0usize);
        for event in &self.events {
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                    (in_header, depth) = (true, 0);
                    header.clear();
                    keys.clear();
                }
                EventKind::InlineTableOpen | EventKind::ArrayOpen => depth += 1,
                EventKind::InlineTableClose | EventKind::ArrayClose => depth = depth.saturating_sub(1),
                EventKind::SimpleKey if depth == 0 => {
                    let mut name = Cow::Borrowed("");
                    if let Some(raw) = source.get(event) {
                        raw.decode_key(&mut name, &mut ());
                    }
                    keys.push((event.span().start(), name.into_owned()));
                }
                EventKind::StdTableClose | EventKind::ArrayTableClose | EventKind::KeyValSep
                    if depth == 0 =>
                {
                    let mut path = header.clone();
                    let last = keys.len();
                    for (n, (start, name)) in keys.drain(..).enumerate() {
                        path.push(name);
                        found.insert(start, (path.clone(), n + 1 == last));
                    }
                    if std::mem::take(&mut in_header) {
                        header = path;
                    }
                }
                EventKind::Newline if depth == 0 => keys.clear(),
                _ => {}
            }
        }
        found
    }
}

/// That what stands at a path is no table that could be added to, if so.
fn used_as_table(text: &str, table: &DeTable<'_>, path: &[String]) -> Option<Syntax> {
    let mut table = table;
    for (n, name) in path.iter().enumerate() {
        let value = table.get(name.as_str())?;
        let kind = match value.get_ref() {
            DeValue::Table(inner) => {
                if text.get(value.span()).is_some_and(|text| text.starts_with('{')) {
                    "inline"
                } else {
                    table = inner;
                    continue;
                }
            }
            // Of tables: the last one goes on.
            DeValue::Array(items) => match items.iter().next_back().map(|item| item.get_ref()) {
                Some(DeValue::Table(inner)) if n + 1 < path.len() => {
                    table = inner;
                    continue;
                }
                _ => "array",
            },
            other => other.type_str(),
        };
        return Some(Syntax::UsedAsTable(kind));
    }
    None
}

impl Syntax {
    /// By what was wanted instead, and by what stands there.
    fn from_error(text: &str, error: &ParseError) -> Syntax {
        let at = |span: Option<toml_parser::Span>| {
            span.and_then(|span| text.get(span.start()..span.end())).unwrap_or("")
        };
        let (found, context) = (at(error.unexpected()), at(error.context()));
        let starts = |quotes: &str| context.starts_with(quotes);
        let quoted = starts("\"").then_some('"').or_else(|| starts("'").then_some('\''));
        let other = || Box::new(Words::of_parser(error));
        match error.expected().unwrap_or(&[]) {
            [Expected::Literal("=")] if !starts("{") => Syntax::NoValue,
            [Expected::Literal("]]")] => Syntax::OpenHeader { of_list: true },
            [Expected::Literal("]")] if starts("[[") => Syntax::OpenHeader { of_list: true },
            [Expected::Literal("]")] if context == "[" => Syntax::OpenList,
            [Expected::Literal("]")] => Syntax::OpenHeader { of_list: false },
            [Expected::Literal("}")] if context == "{" => Syntax::OpenTable,
            [Expected::Description(_), Expected::Literal("]")] if found == "=" => Syntax::EqualsInList,
            [Expected::Description(_)] if found == "," && context == "[" => Syntax::CommaInList(other()),
            [Expected::Literal(",")] if context == "[" => Syntax::NoComma,
            [Expected::Literal("\n"), Expected::Literal("#")] => Syntax::LeftOver,
            [_, _, Expected::Literal("-"), Expected::Literal("_")] if context.is_empty() => Syntax::EmptyKey,
            [_, _, Expected::Literal("-"), Expected::Literal("_")] => Syntax::KeyToBeQuoted,
            // A value that is not there, as the parser goes on.
            [Expected::Literal("'")] if context.is_empty() => {
                Syntax::OpenText { quote: '\'', several: false }
            }
            [Expected::Literal("true" | "false")] => Syntax::NotABool,
            [Expected::Literal("b"), .., Expected::Literal("U")] => Syntax::Escape,
            _ if let Some(quote) = quoted
                && is_broken(text, error, quote) =>
            {
                let several = starts("\"\"\"") || starts("'''");
                Syntax::OpenText { quote, several }
            }
            [Expected::Description(_)] if found == context => Syntax::NotAValue,
            [] if !found.is_empty() && found.bytes().all(|byte| byte == b'0') => Syntax::LeadingZero,
            _ => Syntax::Other(other()),
        }
    }

    /// Of several on a line the one of the least rank is told: the one about the list around it is the cause.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Syntax::EqualsInList | Syntax::CommaInList(_) => 0,
            Syntax::KeyToBeQuoted => 2,
            _ => 1,
        }
    }

    /// Whether a list or table that does not end is the likely cause.
    pub(super) fn is_about_its_list(&self) -> bool {
        matches!(
            self,
            Syntax::EqualsInList
                | Syntax::CommaInList(_)
                | Syntax::OpenHeader { .. }
                | Syntax::OpenList
                | Syntax::OpenTable
        )
    }

    /// Its words, for a fault at this place.
    pub(super) fn words(&self, text: &str, at: Range<usize>) -> Words {
        let found = text.get(at.clone()).unwrap_or("");
        let line = text[..at.start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line..].lines().next().unwrap_or("").trim();
        match self {
            Syntax::Duplicate if line.starts_with('[') => {
                let name = line.trim_matches(['[', ']']);
                Words::new(format!("table `{name}` is given twice"), "given before")
                    .hint("merge the two tables, or rename one")
            }
            Syntax::Duplicate => {
                Words::new(format!("key `{found}` is given twice in one table"), "given before")
                    .hint("keep one of the two")
            }
            Syntax::UsedAsTable(kind) => Words::new(
                format!("`{found}` is used as a table here, but is given a value ({kind}) elsewhere"),
                "not a table",
            ),
            Syntax::NotAValue => not_a_value(found),
            Syntax::NotABool => {
                let words = Words::new(format!("`{found}` is not a value"), "wanted `true` or `false`");
                match found.to_lowercase().as_bytes() {
                    [b't', ..] => words.hint("write `true`"),
                    [b'f', ..] => words.hint("write `false`"),
                    _ => words,
                }
            }
            Syntax::NoValue => {
                let is_yaml = line.contains(':') && !line.contains('=');
                Words::new("a key without a value", "wanted `=`").hint(if is_yaml {
                    "TOML writes `key = value`, not `key: value`"
                } else {
                    "write `key = value`; a comment starts with `#`"
                })
            }
            Syntax::KeyToBeQuoted => {
                let words = Words::new(
                    format!("`{found}` in a key without quotes"),
                    "wanted letters (A-Z, a-z), digits, `-` and `_`",
                );
                let header = line.trim().strip_prefix("[task.").and_then(|rest| rest.split(']').next());
                words.hint(match header {
                    // Quotes do not help there.
                    Some(name) if !name.contains('.') => {
                        "the name of a task has no other letters, in quotes neither"
                    }
                    _ => "put the key in quotes",
                })
            }
            Syntax::EmptyKey => Words::new("a key without a name", "wanted a name"),
            Syntax::OpenText { quote, several } => {
                // As it is written in TOML for several lines.
                let quotes = quote.to_string().repeat(3);
                if *several {
                    Words::new("a text of several lines that does not end", format!("wanted `{quotes}`"))
                        .hint(format!("close it with {quotes}"))
                } else {
                    Words::new("a string that does not end", format!("wanted `{quote}`")).hint(format!(
                        "close the quote on this line, or use {quotes}…{quotes} for text of several lines"
                    ))
                }
            }
            Syntax::Escape => Words::new("an unknown escape in a string", "no such escape")
                .hint("write `\\\\` for a backslash, or use 'single quotes', where nothing is escaped"),
            Syntax::OpenHeader { of_list } => Words::new(
                "a table header that does not end",
                if *of_list { "wanted `]]`" } else { "wanted `]`" },
            ),
            Syntax::OpenList => {
                Words::new("a list that does not end", "wanted `]`").hint("close the list with `]`")
            }
            Syntax::OpenTable => {
                Words::new("a table that does not end", "wanted `}`").hint("close the table with `}`")
            }
            Syntax::EqualsInList => {
                Words::new("unexpected `=` in a list", "the list before this is not closed")
                    .hint("close the list with `]`")
            }
            Syntax::NoComma => Words::new("no comma between two elements of a list", "wanted `,`"),
            Syntax::LeftOver => {
                Words::new("something left over after the value", "wanted the end of the line")
                    .hint("start a new line for the next key; a comment starts with `#`")
            }
            Syntax::NotADate => {
                Words::new(format!("`{found}` is no date or time"), "wanted one like `2026-03-01`")
                    .hint(format!("write \"{}\" if it is a string", found.replace('"', "")))
            }
            Syntax::LeadingZero => Words::new("a number with a leading zero", "remove the zero"),
            Syntax::CommaInList(words) | Syntax::Other(words) => (**words).clone(),
        }
    }
}

/// Whether a string itself is broken, not one of the characters that are written in it as numbers or line ends.
fn is_broken(text: &str, error: &ParseError, quote: char) -> bool {
    let before = error.unexpected().and_then(|span| text.as_bytes().get(span.start().checked_sub(1)?));
    match error.expected().unwrap_or(&[]) {
        [Expected::Literal("\n")] => before != Some(&b'\r'),
        [Expected::Description(_)] => quote == '\'',
        // It stands where a key belongs.
        [Expected::Description(_), Expected::Description(_), ..] => false,
        _ => true,
    }
}

/// Quotes that a word processor makes of straight ones.
const CURLY: [char; 4] = ['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];

/// A value that is neither quoted nor anything else.
fn not_a_value(found: &str) -> Words {
    match found {
        "" => Words::new("no value after `=`", "wanted a value"),
        "yes" | "no" | "on" | "off" | "Yes" | "No" => Words::new(
            format!("`{found}` is not a value"),
            "wanted `true` or `false`, or quotes around a string",
        ),
        _ if found.starts_with(CURLY) => {
            Words::new("curly quotes do not quote a string", "wanted straight quotes")
                .hint(format!("write \"{}\"", found.trim_matches(CURLY)))
        }
        _ => Words::new(format!("`{found}` is not a value"), "strings are written in quotes")
            .hint(format!("write \"{}\"", found.replace('"', ""))),
    }
}

impl Words {
    fn new(message: impl Into<String>, wanted: impl Into<String>) -> Words {
        Words { message: message.into(), wanted: Some(wanted.into()), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Words {
        Words { hint: Some(hint.into()), ..self }
    }

    /// The parser's own, with what it wanted apart.
    fn of_parser(error: &ParseError) -> Words {
        let name = |expected: &Expected| match expected {
            Expected::Literal("\n") => "newline".to_owned(),
            Expected::Literal("`") => "'`'".to_owned(),
            Expected::Literal(text) if text.chars().all(|c| c.is_ascii_control()) => {
                format!("`{}`", text.escape_debug())
            }
            Expected::Literal(text) => format!("`{text}`"),
            Expected::Description(words) => (*words).to_owned(),
            _ => "etc".to_owned(),
        };
        let wanted = error.expected().map(|all| match all {
            [] => "wanted nothing".to_owned(),
            all => format!("wanted {}", all.iter().map(name).collect::<Vec<_>>().join(", ")),
        });
        Words { message: error.description().to_owned(), wanted, hint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first fault of a text, in words.
    fn first(text: &str) -> String {
        let (table, errors) = DeTable::parse_recoverable(text);
        let spans = errors.iter().map(|error| error.span().unwrap_or(0..0));
        let mut all = faults(text, table.get_ref(), spans);
        all.sort_by_key(|(span, syntax)| (syntax.rank(), span.start));
        let (span, syntax) = all.into_iter().next().expect("a fault");
        let Words { message, wanted, hint } = syntax.words(text, span);
        [Some(message), wanted, hint].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_fault_has_words_of_its_own() {
        let quote = "close the quote on this line, or use";
        for (text, expected) in [
            ("a = 1\na = 2", "key `a` is given twice in one table; given before; keep one of the two"),
            ("[a]\n[a]", "table `a` is given twice; given before; merge the two tables, or rename one"),
            (
                "a = 1\na.b = 2",
                "`a` is used as a table here, but is given a value (integer) elsewhere; not a table",
            ),
            (
                "a = 1\n[a.b]",
                "`a` is used as a table here, but is given a value (integer) elsewhere; not a table",
            ),
            (
                "a = [1]\n[a.b]",
                "`a` is used as a table here, but is given a value (array) elsewhere; not a table",
            ),
            (
                "a = {}\na.b = 1",
                "`a` is used as a table here, but is given a value (inline) elsewhere; not a table",
            ),
            (
                "[[t]]\nx = \"y\"\n[t.x.z]",
                "`x` is used as a table here, but is given a value (string) elsewhere; not a table",
            ),
            ("a =", "no value after `=`; wanted a value"),
            ("a = gpt", "`gpt` is not a value; strings are written in quotes; write \"gpt\""),
            ("a = yes", "`yes` is not a value; wanted `true` or `false`, or quotes around a string"),
            ("a = “x”", "curly quotes do not quote a string; wanted straight quotes; write \"x\""),
            ("a = True", "`True` is not a value; wanted `true` or `false`; write `true`"),
            ("a = falsch", "`falsch` is not a value; wanted `true` or `false`; write `false`"),
            ("a", "a key without a value; wanted `=`; write `key = value`; a comment starts with `#`"),
            ("a.b", "a key without a value; wanted `=`; write `key = value`; a comment starts with `#`"),
            ("a: 1", "a key without a value; wanted `=`; TOML writes `key = value`, not `key: value`"),
            (
                "ä = 1",
                "`ä` in a key without quotes; wanted letters (A-Z, a-z), digits, `-` and `_`; put the key in quotes",
            ),
            (
                "[task.größe]",
                "`öß` in a key without quotes; wanted letters (A-Z, a-z), digits, `-` and `_`; the name of a task has no \
                 other letters, in quotes neither",
            ),
            (
                "a = \"x",
                &format!(
                    "a string that does not end; wanted `\"`; {quote} \"\"\"…\"\"\" for text of several lines"
                ),
            ),
            (
                "a = 'x",
                &format!("a string that does not end; wanted `'`; {quote} '''…''' for text of several lines"),
            ),
            (
                "a = \"\"\"x\ny",
                "a text of several lines that does not end; wanted `\"\"\"`; close it with \"\"\"",
            ),
            ("a = '''x\ny", "a text of several lines that does not end; wanted `'''`; close it with '''"),
            (
                "a = \"x\\qy\"",
                "an unknown escape in a string; no such escape; write `\\\\` for a backslash, or use 'single quotes', where nothing is escaped",
            ),
            ("[a", "a table header that does not end; wanted `]`"),
            ("[[a]", "a table header that does not end; wanted `]]`"),
            ("[[a", "a table header that does not end; wanted `]]`"),
            ("a = [1", "a list that does not end; wanted `]`; close the list with `]`"),
            ("a = {b = 1", "a table that does not end; wanted `}`; close the table with `}`"),
            (
                "a = [1\nb = 2]",
                "unexpected `=` in a list; the list before this is not closed; close the list with `]`",
            ),
            ("a = [1 [2]]", "no comma between two elements of a list; wanted `,`"),
            ("a = [1,,2]", "extra comma in array; wanted value"),
            (
                "a = 'x' y",
                "something left over after the value; wanted the end of the line; start a new line for the next key; a comment starts with `#`",
            ),
            ("a = 012", "a number with a leading zero; remove the zero"),
            (
                "a = 2026-3-1",
                "`2026-3-1` is no date or time; wanted one like `2026-03-01`; write \"2026-3-1\" if it is a string",
            ),
            ("a = +-1", "redundant numeric sign; wanted nothing"),
        ] {
            assert_eq!(first(text), expected, "{text}");
        }
    }
}
