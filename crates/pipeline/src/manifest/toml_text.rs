//! From the text of one TOML file to a tree of nodes, or to its syntax faults with the places that matter.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::diagnostic::Diagnostic;
use super::place::{Entry, Kind, Node, SourceSpan};
use super::syntax::{self, Syntax, Words};
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
    let spans = errors.iter().map(|error| error.span().unwrap_or(0..0));
    let mut found = syntax::faults(text, table.get_ref(), spans);
    // A file that is no TOML at all has a fault on every line, so nothing here may look at all of it for each.
    let newlines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_of = |at: usize| newlines.partition_point(|&newline| newline < at);
    let brackets = Brackets::new(text);
    // Of several on a line the one about the list around it is the cause.
    found.sort_by_key(|(span, fault)| (line_of(span.start), fault.rank(), span.start));
    let mut faults: Vec<Diagnostic> = Vec::new();
    let mut seen: Vec<usize> = Vec::new();
    let mut last_line = None;
    // Under a header that was given before, every key may well have been.
    let mut doubled: Option<Range<usize>> = None;
    for (span, syntax) in found {
        let Range { start, end } = span;
        let line = line_of(start);
        let opener = brackets.open_at(start);
        // One on each line; and once a list is broken, what is read as part of it means nothing.
        if last_line == Some(line) || opener.is_some_and(|opener| seen.iter().any(|&other| other >= opener)) {
            continue;
        }
        if syntax == Syntax::Duplicate {
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
        let Words { message, wanted, hint } = syntax.words(text, start..end);
        let mut fault = Diagnostic::at(place(start, end), message).maybe_hint(hint);
        fault.wanted = wanted;
        if syntax == Syntax::Duplicate
            && let Some(first) = first_of(text, &text[start..end], start)
        {
            fault = fault.related(place(first.start, first.end), "first given here");
        }
        if let Some(opener) = opener
            && syntax.is_about_its_list()
            && line_of(opener) != line
        {
            fault = Diagnostic::at(place(opener, opener + 1), "a list or table that does not end")
                .wanted("opened here")
                .related(place(start, end), "read as part of it")
                .hint("close it before this");
        }
        if matches!(syntax, Syntax::OpenText { several: true, .. })
            && let Some(opener) = open_text(text, start)
        {
            fault.at = place(opener, opener + 3).into();
            fault.wanted = Some("opened here".to_owned());
        }
        faults.push(fault);
    }
    Err(faults)
}

/// Which bracket of a value is open where: the outermost one from each place on where that is another.
struct Brackets(Vec<(usize, Option<usize>)>);

impl Brackets {
    fn new(text: &str) -> Brackets {
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
