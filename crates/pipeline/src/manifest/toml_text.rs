//! From the text of one TOML file to a tree of nodes, or to its syntax faults in plain words.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::diagnostic::Diagnostic;
use super::place::{Entry, Kind, Node, SourceSpan};
use planexe_base::cores;

/// Largest file that is read.
pub const LARGEST_FILE: u64 = 64 << 20;

/// Deepest nesting of tables and lists.
pub const DEEPEST: usize = 64;

/// Most keys and values of a pipeline, in all its files: each takes some hundred bytes, far more than in the file.
pub const MOST_VALUES: usize = 1_500_000;

/// Most syntax faults shown for one file: after the first, the parser is guessing.
const MOST_SYNTAX_FAULTS: usize = 5;

/// Reads a file's bytes as text.
pub(super) fn decode(bytes: Vec<u8>, path: &Path) -> Result<String, String> {
    let name = super::diagnostic::shown_path(path);
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("`{name}` is larger than {} MiB", LARGEST_FILE >> 20));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Err(format!("`{name}` is not UTF-8: byte 0x{:02x} in line {line}", bytes[at]))
        }
    }
}

/// The tree of one file. `source` is its index among the files read.
pub(super) fn parse(text: &str, source: u32) -> Result<Node, Vec<Diagnostic>> {
    parse_within(text, source, &mut { MOST_VALUES })
}

/// [`parse`] of one of several files, which may hold so many keys and values more.
pub(super) fn parse_within(text: &str, source: u32, left: &mut usize) -> Result<Node, Vec<Diagnostic>> {
    let place =
        |start: usize, end: usize| SourceSpan { source, start: start as u32, end: end.max(start) as u32 };
    if text.len() as u64 > LARGEST_FILE {
        let message = format!("the file is larger than {} MiB", LARGEST_FILE >> 20);
        return Err(vec![Diagnostic::at(place(0, 0), message)]);
    }
    if let Some(at) = text.find('\0') {
        return Err(vec![
            Diagnostic::at(place(at, at + 1), "a NUL character in the file")
                .wanted("not text")
                .hint("is this really a TOML file? UTF-16 must be saved as UTF-8"),
        ]);
    }
    match beyond_limits(text, left) {
        None => {}
        Some((Limit::Depth, at)) => {
            let message = format!("nested more than {DEEPEST} levels deep");
            return Err(vec![Diagnostic::at(place(at.start, at.end), message).wanted("too deep")]);
        }
        Some((Limit::Values, at)) => {
            let message = format!("the pipeline holds more than {MOST_VALUES} keys and values");
            return Err(vec![
                Diagnostic::at(place(at.start, at.end), message)
                    .wanted("too many")
                    .hint("write data into a file, and let tasks read it: `inputs = [\"data.json\"]`"),
            ]);
        }
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(Piece { source, at: 0 }.root(table));
    }
    let mut found: Vec<(usize, usize, &str)> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            (span.start.min(text.len()), span.end.min(text.len()), error.message())
        })
        .collect();
    // A file that is no TOML at all has a fault on every line, so nothing here may look at all of it for each.
    let newlines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_of = |at: usize| newlines.partition_point(|&newline| newline < at);
    let brackets = Brackets::of(text);
    // Of several on a line the one about the list around it is the cause.
    found.sort_by_key(|(start, _, message)| (line_of(*start), rank(message), *start));
    let mut faults: Vec<Diagnostic> = Vec::new();
    let mut seen: Vec<usize> = Vec::new();
    let mut last_line = None;
    // Under a header that was given before, every key may well have been.
    let mut doubled: Option<Range<usize>> = None;
    for (start, end, message) in found {
        let line = line_of(start);
        let opener = brackets.open_at(start);
        // One on each line; and once a list is broken, what is read as part of it means nothing.
        if last_line == Some(line) || opener.is_some_and(|opener| seen.iter().any(|&other| other >= opener)) {
            continue;
        }
        if message == "duplicate key" {
            let line_start = line.checked_sub(1).map_or(0, |before| newlines[before] + 1);
            if text[line_start..].trim_start().starts_with('[') {
                let next = text[start..].find("\n[").map_or(text.len(), |at| start + at);
                doubled = Some(start..next);
            } else if doubled.as_ref().is_some_and(|table| table.contains(&start)) {
                continue;
            }
        }
        if faults.len() == MOST_SYNTAX_FAULTS {
            break;
        }
        last_line = Some(line);
        seen.push(start);
        let (words, wanted, hint) = in_words(text, message, start, end);
        let mut fault = Diagnostic::at(place(start, end), words).maybe_hint(hint);
        fault.wanted = wanted;
        if message == "duplicate key"
            && let Some(first) = first_of(text, &text[start..end], start)
        {
            fault = fault.related(place(first.start, first.end), "first given here");
        }
        if let Some(opener) = opener
            && (message.contains("in array") || message.starts_with("unclosed"))
            && line_of(opener) != line
        {
            fault = Diagnostic::at(place(opener, opener + 1), "a list or table that does not end")
                .wanted("opened here")
                .related(place(start, end), "read as part of it")
                .hint("close it before this");
        }
        if message.starts_with("invalid multi-line")
            && let Some(opener) = open_text(text, start)
        {
            fault.at = place(opener, opener + 3).into();
            fault.wanted = Some("opened here".to_owned());
        }
        faults.push(fault);
    }
    Err(faults)
}

/// Which of several errors on a line is told.
fn rank(message: &str) -> usize {
    if message.contains("in array") {
        0
    } else if message.starts_with("invalid unquoted key") {
        2
    } else {
        1
    }
}

/// Which bracket of a value is open where: the outermost one from each place on where that is another.
struct Brackets(Vec<(usize, Option<usize>)>);

impl Brackets {
    fn of(text: &str) -> Brackets {
        let mut changes: Vec<(usize, Option<usize>)> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        // A bracket at the start of a line opens a header, not a value.
        let mut value = false;
        for token in toml_parser::Source::new(text).lex() {
            match token.kind() {
                TokenKind::Equals => value = true,
                TokenKind::Newline if open.is_empty() => value = false,
                TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket if value => {
                    open.push(token.span().start())
                }
                TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                    open.pop();
                }
                _ => continue,
            }
            let outermost = open.first().copied();
            if changes.last().is_none_or(|&(_, before)| before != outermost) {
                changes.push((token.span().start(), outermost));
            }
        }
        Brackets(changes)
    }

    /// The bracket that is still open at a byte.
    fn open_at(&self, at: usize) -> Option<usize> {
        let after = self.0.partition_point(|&(start, _)| start < at);
        self.0.get(after.checked_sub(1)?)?.1
    }
}

/// Where the string of several lines starts that is still open at a byte.
fn open_text(text: &str, at: usize) -> Option<usize> {
    toml_parser::Source::new(text)
        .lex()
        .filter(|token| matches!(token.kind(), TokenKind::MlBasicString | TokenKind::MlLiteralString))
        .map(|token| token.span().start())
        .take_while(|&start| start < at)
        .last()
}

/// What a text may not have more of.
enum Limit {
    Depth,
    Values,
}

/// Where nesting of brackets, or the dots of one key, or keys and values pass their limits. `left`: so many keys and values
/// may come, less those that did. Looked for in the tokens: it is the tree that would take the memory.
fn beyond_limits(text: &str, left: &mut usize) -> Option<(Limit, Range<usize>)> {
    let mut open = 0usize;
    let mut dots = 0usize;
    let mut in_value = false;
    for token in toml_parser::Source::new(text).lex() {
        let kind = token.kind();
        // A key and its value; an item; the first item of a list or table; a further key of a dotted one.
        let more = match kind {
            TokenKind::Equals => 2,
            TokenKind::Comma => 1,
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket if in_value => 1,
            TokenKind::Dot if !in_value => 1,
            _ => 0,
        };
        match kind {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => open = open.saturating_sub(1),
            TokenKind::Dot => dots += 1,
            TokenKind::Newline | TokenKind::Comma | TokenKind::Equals => dots = 0,
            _ => {}
        }
        match kind {
            TokenKind::Equals => in_value = true,
            TokenKind::Newline if open == 0 => in_value = false,
            _ => {}
        }
        let at = || token.span().start()..token.span().end();
        if open + dots > DEEPEST {
            return Some((Limit::Depth, at()));
        }
        match left.checked_sub(more) {
            Some(rest) => *left = rest,
            None => return Some((Limit::Values, at())),
        }
    }
    None
}

/// The place where a key that is given twice was given first, by a look at the lines before.
fn first_of(text: &str, key: &str, before: usize) -> Option<std::ops::Range<usize>> {
    let line_start = text[..before].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next()?.trim();
    let mut at = 0;
    let mut found = None;
    for other in text[..line_start].split_inclusive('\n') {
        let trimmed = other.trim_start();
        let indent = other.len() - trimmed.len();
        if line.starts_with('[') {
            if trimmed.trim_end() == line {
                found = other.find(key).map(|offset| at + offset..at + offset + key.len());
            }
        } else if trimmed.starts_with('[') && !trimmed.contains(',') && !trimmed.contains('"') {
            // A new table: what came before is of another.
            found = None;
        } else if let Some(rest) = trimmed.strip_prefix(key)
            && rest.trim_start().starts_with('=')
        {
            found = Some(at + indent..at + indent + key.len());
        }
        at += other.len();
    }
    found
}

/// What the parser says, up to ", expected"; and in plain words: message, caret label, hint.
type Words = (&'static str, &'static str, &'static str, Option<&'static str>);

/// Errors whose words are always the same.
const IN_WORDS: &[Words] = &[
    (
        "key with no value",
        "a key without a value",
        "wanted `=`",
        Some("write `key = value`; a comment starts with `#`"),
    ),
    (
        "invalid basic string",
        "a string that does not end",
        "wanted `\"`",
        Some("close the quote on this line, or use \"\"\"…\"\"\" for text of several lines"),
    ),
    (
        "invalid literal string",
        "a string that does not end",
        "wanted `'`",
        Some("close the quote on this line, or use '''…''' for text of several lines"),
    ),
    (
        "invalid multi-line basic string",
        "a text of several lines that does not end",
        "wanted `\"\"\"`",
        Some("close it with \"\"\""),
    ),
    (
        "invalid multi-line literal string",
        "a text of several lines that does not end",
        "wanted `'''`",
        Some("close it with '''"),
    ),
    (
        "missing escaped value",
        "an unknown escape in a string",
        "no such escape",
        Some("write `\\\\` for a backslash, or use 'single quotes', where nothing is escaped"),
    ),
    ("unclosed table", "a table header that does not end", "wanted `]`", None),
    ("unclosed array of tables", "a table header that does not end", "wanted `]]`", None),
    ("unclosed array", "a list that does not end", "wanted `]`", Some("close the list with `]`")),
    ("unclosed inline table", "a table that does not end", "wanted `}`", Some("close the table with `}`")),
    (
        "unexpected `=` in array",
        "unexpected `=` in a list",
        "the list before this is not closed",
        Some("close the list with `]`"),
    ),
    ("missing comma between array elements", "no comma between two elements of a list", "wanted `,`", None),
    (
        "unexpected key or value",
        "something left over after the value",
        "wanted the end of the line",
        Some("start a new line for the next key; a comment starts with `#`"),
    ),
    ("unquoted keys cannot be empty", "a key without a name", "wanted a name", None),
    ("unexpected leading zero", "a number with a leading zero", "remove the zero", None),
];

/// Quotes that a word processor makes of straight ones.
const CURLY: [char; 4] = ['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];

/// A syntax error in words for someone who does not know the parser: message, caret label, hint.
fn in_words(text: &str, message: &str, start: usize, end: usize) -> (String, Option<String>, Option<String>) {
    let found = text.get(start..end).unwrap_or("");
    let line = text[..start.min(text.len())].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line..].lines().next().unwrap_or("").trim();
    let (short, expected) = match message.split_once(", expected ") {
        Some((short, expected)) => (short, Some(expected)),
        None => (message, None),
    };
    let say = |message: String, wanted: &str, hint: Option<String>| (message, Some(wanted.to_owned()), hint);
    let hint = |hint: &str| Some(hint.to_owned());
    match short {
        "duplicate key" if line.starts_with('[') => say(
            format!("table `{}` is given twice", line.trim_matches(['[', ']'])),
            "given before",
            hint("merge the two tables, or rename one"),
        ),
        "duplicate key" => say(
            format!("key `{found}` is given twice in one table"),
            "given before",
            hint("keep one of the two"),
        ),
        "string values must be quoted" => not_a_string(found),
        "invalid boolean" => say(
            format!("`{found}` is not a value"),
            "wanted `true` or `false`",
            match found.to_lowercase().as_bytes() {
                [b't', ..] => hint("write `true`"),
                [b'f', ..] => hint("write `false`"),
                _ => None,
            },
        ),
        "key with no value" if line.contains(':') && !line.contains('=') => say(
            "a key without a value".to_owned(),
            "wanted `=`",
            hint("TOML writes `key = value`, not `key: value`"),
        ),
        "invalid unquoted key" => say(
            format!("`{found}` in a key without quotes"),
            "wanted letters, digits, `-` and `_`",
            hint("put the key in quotes"),
        ),
        _ => {
            if let Some((_, message, wanted, hint)) = IN_WORDS.iter().find(|(known, ..)| *known == short) {
                return say((*message).to_owned(), wanted, hint.map(str::to_owned));
            }
            if let Some(kind) = short.strip_prefix("cannot extend value of type ") {
                let kind = kind.split(' ').next().unwrap_or("");
                let message =
                    format!("`{found}` is used as a table here, but is given a value ({kind}) elsewhere");
                return say(message, "not a table", None);
            }
            (short.to_owned(), expected.map(|expected| format!("wanted {expected}")), None)
        }
    }
}

/// A value that is neither quoted nor anything else: message, caret label, hint.
fn not_a_string(found: &str) -> (String, Option<String>, Option<String>) {
    let (message, wanted, hint) = match found {
        "" => ("no value after `=`".to_owned(), "wanted a value", None),
        "yes" | "no" | "on" | "off" | "Yes" | "No" => {
            (format!("`{found}` is not a value"), "wanted `true` or `false`, or quotes around a string", None)
        }
        _ if found.starts_with(CURLY) => (
            "curly quotes do not quote a string".to_owned(),
            "wanted straight quotes",
            Some(format!("write \"{}\"", found.trim_matches(CURLY))),
        ),
        _ => (
            format!("`{found}` is not a value"),
            "strings are written in quotes",
            Some(format!("write \"{}\"", found.replace('"', ""))),
        ),
    };
    (message, Some(wanted.to_owned()), hint)
}

/// What is parsed at once: a file, or some of a long one from this byte on.
#[derive(Clone, Copy)]
struct Piece {
    source: u32,
    at: u32,
}

impl Piece {
    fn place(self, span: Range<usize>) -> SourceSpan {
        SourceSpan { source: self.source, start: self.at + span.start as u32, end: self.at + span.end as u32 }
    }

    fn root(self, table: Spanned<DeTable<'_>>) -> Node {
        let start = table.span().start;
        Node { place: self.place(start..start), kind: self.table(table.into_inner()) }
    }

    fn table(self, table: DeTable<'_>) -> Kind {
        let entry = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
            let place = self.place(key.span());
            (key.into_inner().into_owned(), Entry { key: place, value: self.node(value) })
        };
        Kind::Table(match table.len() {
            ..cores::WORTH_IT => table.into_iter().map(entry).collect(),
            _ => {
                let entries: Vec<_> = table.into_iter().collect();
                entries.into_par_iter().map(entry).collect::<Vec<_>>().into_iter().collect()
            }
        })
    }

    fn node(self, value: Spanned<DeValue<'_>>) -> Node {
        Node { place: self.place(value.span()), kind: self.kind(value.into_inner()) }
    }

    fn kind(self, value: DeValue<'_>) -> Kind {
        match value {
            DeValue::String(text) => Kind::Text(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Kind::Integer(number),
                Err(_) => Kind::Huge(number.to_string()),
            },
            DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => Kind::Bool(truth),
            DeValue::Datetime(date) => Kind::Datetime(date.to_string()),
            DeValue::Array(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => self.table(table),
        }
    }
}
