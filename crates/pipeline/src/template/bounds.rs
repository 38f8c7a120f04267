//! What a template may take: steps, bytes, time and depth. The template engine counts its steps and nothing else; the
//! rest is counted here, by filters of ours that are put at the places in a template where texts and lists grow.
//!
//! `a ~ b` is compiled as `a|__said ~ b|__said`, `{% set x = … %}` as `{% set x = (…)|__kept %}`, and each turn of a loop
//! looks at the clock. Such a filter gives what it is given, or the error. Errors are told by their place in the template as
//! it was written.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use minijinja::machinery::{Token, WhitespaceConfig, tokenize};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions};

use super::{RenderError, Source};

/// Steps a template may take: far more than any report needs, and still an end.
pub(super) const FUEL: u64 = 10_000_000;
/// Bytes of text it may make in all its steps.
pub(super) const BYTES: u64 = 512 << 20;
/// Items of one list it makes.
const ITEMS: usize = 1_000_000;
/// Values in one value it keeps in a variable, those inside others counted as often as they are there.
const KEPT: u64 = 2_000_000;
/// Lists and objects one inside the other.
const DEEPEST_VALUE: usize = 200;
/// Operators, filters and brackets that one value of an expression goes through.
const OPERATORS: usize = 300;
/// `{% elif %}` in one template.
const ELIFS: usize = 300;
/// Time it may take.
pub(super) const TIME: Duration = Duration::from_secs(20);
/// A template with no more operators than that in an expression needs little stack.
const FEW_OPERATORS: usize = 40;
/// Columns and blanks that a filter may put before or around something.
const COLUMNS: usize = 10_000;
/// Words that `mentions` looks for.
pub const WORDS: usize = 10_000;

thread_local! {
    /// Bytes that the template being rendered on this thread may still make.
    static LEFT: Cell<u64> = const { Cell::new(BYTES) };
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A template begins on this thread.
pub(super) fn begin() {
    LEFT.set(BYTES);
    END.set(Instant::now().checked_add(TIME));
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Counts bytes of text that are made.
pub(super) fn charge(bytes: u64) -> Result<(), Error> {
    let left = LEFT.get().checked_sub(bytes);
    LEFT.set(left.unwrap_or(0));
    match left {
        Some(_) => Ok(()),
        None => {
            Err(wrong(format!("the template makes more than {} MiB of text in all its steps", BYTES >> 20)))
        }
    }
}

fn look_at_clock() -> Result<bool, Error> {
    match END.get() {
        Some(end) if Instant::now() >= end => {
            Err(wrong(format!("the template takes longer than {} s", TIME.as_secs())))
        }
        _ => Ok(true),
    }
}

/// Values in a value and bytes it has when written, those inside others counted as often as they are there.
#[derive(Default)]
struct Weight {
    values: u64,
    bytes: u64,
}

impl Weight {
    fn add(&mut self, value: &Value, depth: usize, most: u64) -> Result<(), Error> {
        self.values += 1;
        if self.values > most || self.bytes > LEFT.get() {
            return Err(wrong("a value of the template is too large: the same is in it too many times"));
        }
        if depth > DEEPEST_VALUE {
            return Err(wrong(format!("a value of the template is more than {DEEPEST_VALUE} lists deep")));
        }
        match value.kind() {
            ValueKind::String => self.bytes += value.as_str().map_or(0, str::len) as u64,
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.bytes += 2 + depth as u64;
                    self.add(&item, depth + 1, most)?;
                }
            }
            ValueKind::Map => {
                if depth > 0 && is_namespace(value) {
                    return Err(wrong("a namespace cannot be put into a value"));
                }
                for key in value.try_iter()? {
                    self.bytes += 4 + depth as u64;
                    self.add(&value.get_item(&key)?, depth + 1, most)?;
                    self.add(&key, depth + 1, most)?;
                }
            }
            _ => self.bytes += 8,
        }
        Ok(())
    }
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// A list that is no longer than lists may be.
fn short(value: &Value) -> Result<(), Error> {
    let length = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => match value.len() {
            Some(length) => length,
            None => value.try_iter()?.take(ITEMS + 1).count(),
        },
        _ => 0,
    };
    match length > ITEMS {
        true => Err(wrong(format!("a list of the template has more than {ITEMS} items"))),
        false => Ok(()),
    }
}

/// What is about to be a part of a text.
pub(super) fn said(value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => charge(text.len() as u64),
        None => {
            let mut weight = Weight::default();
            weight.add(value, 0, 10 * KEPT)?;
            charge(weight.bytes)
        }
    }
}

/// What is about to be added to something.
fn held(value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => charge(text.len() as u64),
        None => short(value),
    }
}

/// What is about to be in a variable. A list that is made as it is read is made now: else each would hold the one before.
fn kept(value: &Value, in_namespace: bool) -> Result<Value, Error> {
    look_at_clock()?;
    if in_namespace && is_namespace(value) {
        return Err(wrong("a namespace cannot be put into a value"));
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        short(value)?;
        Weight::default().add(value, 0, KEPT)?;
    }
    if value.kind() == ValueKind::Iterable {
        let list: Vec<Value> = value.try_iter()?.collect();
        charge(list.len() as u64)?;
        return Ok(Value::from(list));
    }
    Ok(value.clone())
}

/// Adds to an environment what is put into templates, and has the engine's own filters keep to the bounds.
pub(super) fn add(env: &mut Environment<'_>) {
    env.add_filter("__said", |value: &Value| said(value).map(|()| value.clone()));
    env.add_filter("__held", |value: &Value| held(value).map(|()| value.clone()));
    env.add_filter("__kept", |value: &Value| kept(value, false));
    env.add_filter("__kept_in", |value: &Value| kept(value, true));
    env.add_filter("__factor", |value: &Value| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => Err(wrong("`*` repeats a text; it repeats no list")),
        _ => held(value).map(|()| value.clone()),
    });
    // The text that stands in a loop may be held in a variable, turn by turn.
    env.add_function("__turn", |bytes: u64| charge(bytes).and_then(|()| look_at_clock()));
    env.add_function("namespace", |defaults: Option<Value>| {
        if let Some(defaults) = &defaults {
            Weight::default().add(defaults, 0, KEPT)?;
            for key in defaults.try_iter().into_iter().flatten() {
                kept(&defaults.get_item(&key)?, true)?;
            }
        }
        functions::namespace(defaults)
    });
    macro_rules! bounded {
        ($($name:ident $room:expr;)*) => {$({
            let hidden = concat!("__", stringify!($name));
            env.add_filter(hidden, filters::$name);
            env.add_filter(stringify!($name), move |state: &State<'_, '_>, args: &[Value]| {
                bounded(state, hidden, args, $room)
            });
        })*};
    }
    bounded! {
        upper said_all; lower said_all; title said_all; capitalize said_all; trim said_all; string said_all;
        escape said_all; pprint said_all; replace replaced; join joined; indent indented; format formatted;
        split said_all; lines said_all; list short_all; items short_all; dictsort short_all; reverse said_or_short;
        sort short_all; unique short_all; batch filled; slice filled; sum short_all; map short_all; select short_all;
        selectattr short_all; reject short_all; rejectattr short_all; groupby short_all; chain short_all;
        zip short_all; min short_all; max short_all; safe said_all;
    }
    env.add_filter("e", |state: &State<'_, '_>, args: &[Value]| bounded(state, "__escape", args, said_all));
    env.add_filter("count", |state: &State<'_, '_>, args: &[Value]| {
        bounded(state, "__length", args, short_all)
    });
    env.add_filter("__length", filters::length);
}

/// Has a filter of the engine do its work, and counts what it makes.
fn bounded(
    state: &State<'_, '_>,
    name: &str,
    args: &[Value],
    room: fn(&[Value]) -> Result<(), Error>,
) -> Result<Value, Error> {
    look_at_clock()?;
    room(args)?;
    let made = state.apply_filter(name, args)?;
    match made.as_str() {
        Some(text) => charge(text.len() as u64)?,
        None => {
            short(&made)?;
            charge(made.len().map_or(0, |length| 8 * length as u64))?;
        }
    }
    Ok(made)
}

fn said_all(args: &[Value]) -> Result<(), Error> {
    args.iter().try_for_each(said)
}

fn short_all(args: &[Value]) -> Result<(), Error> {
    args.iter().try_for_each(short)
}

fn said_or_short(args: &[Value]) -> Result<(), Error> {
    args.iter().try_for_each(held)
}

fn text_length(value: Option<&Value>) -> u64 {
    value.map_or(0, |value| value.as_str().map_or_else(|| value.to_string().len(), str::len) as u64)
}

/// The first text has the second replaced by the third: at each of its places, if that is none.
fn replaced(args: &[Value]) -> Result<(), Error> {
    said_all(args)?;
    let (text, from, to) = (text_length(args.first()), text_length(args.get(1)), text_length(args.get(2)));
    let places = match (args.first().and_then(Value::as_str), args.get(1).and_then(Value::as_str)) {
        (Some(text), Some(from)) if !from.is_empty() => text.matches(from).count() as u64,
        _ => (text + 1) / from.max(1) + 1,
    };
    charge(places.saturating_mul(to))
}

fn joined(args: &[Value]) -> Result<(), Error> {
    short_all(args)?;
    said_all(args)?;
    let between = args.get(1).filter(|joiner| joiner.as_str().is_some());
    let items = args.first().and_then(Value::len).unwrap_or(ITEMS) as u64;
    charge(text_length(between).saturating_mul(items))
}

/// The number at a place of the arguments, or under a name.
fn number(args: &[Value], at: usize, name: &str) -> Result<usize, Error> {
    let named = args.last().filter(|last| last.is_kwargs()).map(|last| Kwargs::try_from(last.clone()));
    let named = named.transpose()?.and_then(|named| named.get::<Option<Value>>(name).ok().flatten());
    let value = named.or_else(|| args.get(at).filter(|value| !value.is_kwargs()).cloned());
    match value.filter(|value| value.kind() == ValueKind::Number) {
        Some(value) => match usize::try_from(value.clone()).ok().filter(|&number| number <= COLUMNS) {
            Some(number) => Ok(number),
            None => Err(wrong(format!("{value} is not a number from 0 to {COLUMNS}"))),
        },
        None => Ok(0),
    }
}

fn indented(args: &[Value]) -> Result<(), Error> {
    said_all(&args[..args.len().min(1)])?;
    let lines = args.first().and_then(Value::as_str).map_or(0, |text| text.matches('\n').count() + 1);
    charge(number(args, 1, "width")? as u64 * lines as u64)
}

fn filled(args: &[Value]) -> Result<(), Error> {
    short_all(args)?;
    number(args, 1, "count").map(drop)
}

/// The widths and precisions that stand in the pattern, or are given as `*`.
fn formatted(args: &[Value]) -> Result<(), Error> {
    said_all(args)?;
    let Some((pattern, values)) = args.split_first() else { return Ok(()) };
    let pattern = pattern.as_str().unwrap_or("");
    let wide = |message: String| wrong(format!("{message}, at most {COLUMNS} columns can be"));
    let mut fields = 0;
    for field in pattern.split('%').skip(1) {
        fields += 1;
        let end = field.find(|c: char| c.is_ascii_alphabetic() || c == ')').unwrap_or(field.len());
        let longest = field[..end].split(|c: char| !c.is_ascii_digit()).map(|digits| {
            let digits = digits.trim_start_matches('0');
            if digits.len() > 6 { usize::MAX } else { digits.parse().unwrap_or(0) }
        });
        if longest.max().unwrap_or(0) > COLUMNS {
            return Err(wide(format!(
                "`%{}` is too wide",
                field[..end].chars().take(20).collect::<String>()
            )));
        }
        if field[..end].contains('*') {
            for value in values.iter().filter(|value| value.kind() == ValueKind::Number) {
                if f64::try_from(value.clone()).is_ok_and(|number| number.abs() > COLUMNS as f64) {
                    return Err(wide(format!("`*` with {value} is too wide")));
                }
            }
        }
    }
    charge(fields * 16)
}

/// A template as it is compiled.
#[derive(Debug, PartialEq)]
pub(super) struct Counted {
    /// The text, with the filters.
    pub text: String,
    /// Where something was put in, in the text as written, and how many bytes.
    put: Vec<(usize, usize)>,
    /// It needs a stack of its own.
    pub deep: bool,
}

impl Counted {
    /// The place in the text as written of one in the text as compiled.
    pub fn place(&self, range: &Range<usize>) -> Range<usize> {
        let written = |at: usize| {
            let mut shift = 0;
            for &(place, bytes) in &self.put {
                if place + shift >= at {
                    break;
                }
                shift += bytes.min(at - place - shift);
            }
            at - shift
        };
        let start = written(range.start);
        start..written(range.end).max(start)
    }
}

/// Something put into a template, and where.
type Put = (usize, Cow<'static, str>);

/// Words that are no value.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "not" | "and" | "or" | "in" | "is" | "if" | "else" | "elif" | "set" | "for" | "with" | "recursive"
    )
}

fn ends_value(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => !is_keyword(word),
        Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => true,
        Token::ParenClose | Token::BracketClose | Token::BraceClose => true,
        _ => false,
    }
}

/// Counts what stands in the tags of a template before anything goes down into it, and puts the filters in. One that
/// cannot be read is left as it is: who compiles it says why.
pub(super) fn counted(source: &Source, expression: bool) -> Result<Counted, RenderError> {
    let text: &str = &source.text;
    let as_it_is = |deep| Counted { text: text.to_owned(), put: Vec::new(), deep };
    if !expression && !text.contains("{{") && !text.contains("{%") {
        return Ok(as_it_is(false));
    }
    let spaces = WhitespaceConfig {
        keep_trailing_newline: true,
        lstrip_blocks: source.trim,
        trim_blocks: source.trim,
    };
    let mut tokens: Vec<(Token<'_>, Range<usize>)> = Vec::new();
    let mut whole = true;
    for token in tokenize(text, expression, Default::default(), spaces) {
        match token {
            Ok((token, span)) => tokens.push((token, span.start_offset as usize..span.end_offset as usize)),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let deep = depth(source, &tokens)?;
    if !whole {
        return Ok(as_it_is(deep));
    }
    let loops = if deep { text_in_loops(&tokens) } else { HashMap::new() };
    let mut put: Vec<Put> = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].0 {
            Token::Tilde => around(&tokens, at, "|__said", &mut put),
            Token::Plus => around(&tokens, at, "|__held", &mut put),
            Token::Mul => around(&tokens, at, "|__factor", &mut put),
            Token::BlockStart => in_statement(text, &tokens, at, &loops, &mut put),
            _ => {}
        }
    }
    if put.is_empty() {
        return Ok(as_it_is(deep));
    }
    // Those at one place in the order in which they were found.
    put.sort_by_key(|(place, _)| *place);
    put.dedup();
    let mut made = String::with_capacity(text.len() + 16 * put.len());
    let mut from = 0;
    for (place, what) in &put {
        made.push_str(&text[from..*place]);
        made.push_str(what);
        from = *place;
    }
    made.push_str(&text[from..]);
    Ok(Counted { text: made, put: put.into_iter().map(|(place, what)| (place, what.len())).collect(), deep })
}

/// Whether anything in a template is deep; an error if it is too deep.
fn depth(source: &Source, tokens: &[(Token<'_>, Range<usize>)]) -> Result<bool, RenderError> {
    let too_much = |at: &Range<usize>, message: String| RenderError {
        message,
        name: source.name.clone(),
        line: Some(source.text[..at.start.min(source.text.len())].matches('\n').count() + 1),
        span: Some(at.clone()).filter(|at| source.text.get(at.clone()).is_some()),
        hint: Some("take it apart with `{% set part = … %}`".to_owned()),
    };
    let (mut deep, mut elifs) = (false, 0);
    // Operators within each bracket that is open, since its last comma.
    let mut open: Vec<usize> = vec![0];
    for (at, (token, span)) in tokens.iter().enumerate() {
        let here = open.last_mut().expect("BUG: the outermost is never closed");
        match token {
            Token::VariableStart | Token::BlockStart => {
                open = vec![0];
                if let (Token::BlockStart, Some((Token::Ident(word), _))) = (token, tokens.get(at + 1)) {
                    deep |= matches!(*word, "set" | "macro" | "call" | "filter" | "block");
                    elifs += usize::from(*word == "elif");
                    if elifs > ELIFS {
                        return Err(too_much(span, format!("the template has more than {ELIFS} `elif`")));
                    }
                }
                continue;
            }
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => continue,
            Token::Comma => *here = 0,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                *here += 1;
                open.push(0);
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                if open.len() > 1 {
                    open.pop();
                }
            }
            Token::Ident("recursive") => deep = true,
            Token::Ident(word) if is_keyword(word) => *here += 1,
            Token::Ident(_) | Token::Str(_) | Token::String(_) => {}
            Token::Int(_) | Token::Int128(_) | Token::Float(_) => {}
            _ => *here += 1,
        }
        // Only one that was just added can make it too many.
        if open.len() > OPERATORS || *open.last().unwrap_or(&0) + open.len() > FEW_OPERATORS {
            let operators: usize = open.iter().sum();
            deep |= operators > FEW_OPERATORS;
            if operators > OPERATORS {
                let message =
                    format!("an expression with more than {OPERATORS} operators, filters and brackets");
                return Err(too_much(span, message));
            }
        }
    }
    Ok(deep || elifs > FEW_OPERATORS)
}

/// Puts a filter after both values of an operator.
fn around(tokens: &[(Token<'_>, Range<usize>)], at: usize, filter: &'static str, put: &mut Vec<Put>) {
    let Some((before, place)) = at.checked_sub(1).map(|before| &tokens[before]) else { return };
    if !ends_value(before) {
        return;
    }
    put.push((place.end, filter.into()));
    let mut next = at + 1;
    let is =
        |at: usize, wanted: fn(&Token<'_>) -> bool| tokens.get(at).is_some_and(|(token, _)| wanted(token));
    let opens = |token: &Token<'_>| matches!(token, Token::ParenOpen | Token::BracketOpen | Token::BraceOpen);
    let closes =
        |token: &Token<'_>| matches!(token, Token::ParenClose | Token::BracketClose | Token::BraceClose);
    let past_group = |from: usize| {
        let mut depth = 0usize;
        for (at, (token, _)) in tokens.iter().enumerate().skip(from) {
            depth += usize::from(opens(token));
            depth = depth.saturating_sub(usize::from(closes(token)));
            if depth == 0 {
                return at + 1;
            }
        }
        tokens.len()
    };
    while is(next, |token| matches!(token, Token::Minus)) {
        next += 1;
    }
    next = if is(next, opens) { past_group(next) } else { next + 1 };
    loop {
        if is(next, |token| matches!(token, Token::Str(_) | Token::String(_))) {
            next += 1;
        } else if is(next, |token| matches!(token, Token::Dot | Token::Pipe)) {
            next += 2;
        } else if is(next, |token| matches!(token, Token::ParenOpen | Token::BracketOpen)) {
            next = past_group(next);
        } else {
            break;
        }
    }
    if let Some((last, place)) = tokens.get(next - 1)
        && ends_value(last)
    {
        put.push((place.end, filter.into()));
    }
}

/// The bytes of text that stand in each loop, by the beginning of its tag.
fn text_in_loops(tokens: &[(Token<'_>, Range<usize>)]) -> HashMap<usize, usize> {
    let mut found = HashMap::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (at, (token, place)) in tokens.iter().enumerate() {
        match (token, tokens.get(at + 1)) {
            (Token::TemplateData(_), _) => {
                if let Some((_, bytes)) = open.last_mut() {
                    *bytes += place.len();
                }
            }
            (Token::BlockStart, Some((Token::Ident("for"), _))) => open.push((at, 0)),
            (Token::BlockStart, Some((Token::Ident("endfor"), _))) => {
                found.extend(open.pop());
            }
            _ => {}
        }
    }
    found
}

/// What is kept is looked at, and each turn of a loop looks at the clock.
fn in_statement(
    text: &str,
    tokens: &[(Token<'_>, Range<usize>)],
    start: usize,
    loops: &HashMap<usize, usize>,
    put: &mut Vec<Put>,
) {
    let Some((Token::Ident(word @ ("set" | "for")), _)) = tokens.get(start + 1) else { return };
    let rest = || tokens.iter().enumerate().skip(start + 2);
    let Some((end, (_, mark))) = rest().find(|(_, (token, _))| matches!(token, Token::BlockEnd)) else {
        return;
    };
    if *word == "for" {
        // The blanks after it go, or stay, as after the tag itself.
        let blanks = match text.as_bytes().get(mark.start) {
            Some(b'-') => "-",
            Some(b'+') => "+",
            _ => "",
        };
        let bytes = loops.get(&start).copied().unwrap_or(0);
        put.push((mark.end, format!("{{% if __turn({bytes}) %}}{{% endif {blanks}%}}").into()));
        return;
    }
    let assign =
        rest().take_while(|(at, _)| *at < end).find(|(_, (token, _))| matches!(token, Token::Assign));
    if let Some((assign, (_, place))) = assign.filter(|(at, _)| at + 1 < end) {
        let in_namespace = tokens[start + 2..assign].iter().any(|(token, _)| matches!(token, Token::Dot));
        put.push((place.end, "(".into()));
        let filter = if in_namespace { ")|__kept_in" } else { ")|__kept" };
        put.push((tokens[end - 1].1.end, filter.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{eval_condition, render, undeclared};

    #[test]
    fn what_is_put_in_changes_nothing() {
        let context = minijinja::context! { a => "x", n => 3, list => vec![1, 2], o => minijinja::context! { b => "y" } };
        for (template, wanted) in [
            ("{{ a ~ o.b ~ (1 + 2 * n) }}", "xy7"),
            ("{{ (a ~ o['b'])|upper ~ -n ~ \"t\" \"u\" }}", "XY-3tu"),
            ("{{ n + -1 }} {{ -n * 2 }} {{ 2 ** 2 * n }} {{ 7 / 2 * 2 }}", "2 -6 12 7.0"),
            ("{{ list + [3]|list }} {{ list|length + 1 }} {{ 'ab' * 2 }}", "[1, 2, 3] 3 abab"),
            ("{{ a is defined ~ 1 }} {{ n is divisibleby 3 ~ a }}", "True1 Truex"),
            (
                "{% set x = a ~ 1 %}{% set ns = namespace(t='', l=[]) %}{% for i in list %}{% set ns.t = ns.t ~ i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ x }}{{ ns.t }}{{ ns.l }}",
                "x112[1, 2]",
            ),
            ("{% set p, q = 1, a + 'b' %}{{ p }}{{ q }}{% set t = 1, %}{{ t|length }}", "1xb1"),
            (
                "{% for i in list -%}\n  {{ i }}\n{%- endfor %}|{% for i in list %}\n{{ i }}{% else %}-{% endfor %}",
                "12|\n1\n2",
            ),
            ("{% macro m(x, y=1 + 1) %}{{ x * y }}{% endmacro %}{{ m(*[2]) + m(x=2, y=3) }}", "46"),
            ("{{ {'a': 1 + 1}.a }}{{ list[0 + 1:] }}{{ missing|default(a + 'z') }}", "2[2]xz"),
            (
                "{{ 'a-b'|replace('-', '+') }} {{ 'a\nb'|indent(2) }} {{ '%05.1f|%-3s|%s'|format(1.25, 'a', n) }}",
                "a+b a\n  b 001.2|a  |3",
            ),
            (
                "{{ [1, 2, 3]|batch(2)|list }} {{ list|map('string')|join(', ') }} {{ [3, 1]|sort|first }} {{ list|count }}",
                "[[1, 2], [3]] 1, 2 1 2",
            ),
            (
                "{{ '<'|e }}{{ list|pprint|length > 0 }}{{ {'b': 1}|items|list }}{{ {'b': 1}|dictsort }}",
                "&lt;True[[\"b\", 1]][[\"b\", 1]]",
            ),
        ] {
            let made = render(&Source::new("t", template), &context, false);
            assert_eq!(made.as_deref(), Ok(wanted), "{template}");
        }
        for (source, trim, wanted) in [
            ("{% for i in [1] %}\n  a\n{% endfor %}\nb", true, "  a\nb"),
            ("{% for i in [1] +%}\na{% endfor %}", true, "\na"),
        ] {
            let made = render(&Source::new("t", source).trimmed(trim), &context, false);
            assert_eq!(made.as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn errors_are_told_where_they_are_written() {
        for (template, line, span) in [
            ("{% set x = 1 ~ 2 %}\n{% for i in [1] %}{{ i + nope }}{% endfor %}", 2, "nope"),
            ("{{ 'a' ~ 'b' }}\n\n{{ 1 ~ ' ' ~ nope.x }}", 3, "nope"),
            ("{{ 1 * 'x' * 2 + nope }}", 1, "nope"),
        ] {
            let error = render(&Source::new("t", template), &minijinja::context! {}, false).unwrap_err();
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.span.clone().is_some_and(|at| template[at].contains(span)), "{error:?}");
            assert!(!error.message.contains("__"), "{error}");
        }
    }

    #[test]
    fn nothing_in_a_template_blows_up() {
        let again = |what: &str, n: usize| what.repeat(n);
        let doubling = |step: &str| {
            format!(
                "{{% set ns = namespace(x='aaaaaaaaaaaaaaaa', l=[1]) %}}\n{{% for i in range(60) %}}{step}{{% endfor %}}{{{{ ns.x|length }}}}"
            )
        };
        let nested = |step: &str| {
            format!(
                "{{% set ns = namespace(x=[1], d={{}}) %}}\n{{% for i in range(100000) %}}{step}{{% endfor %}}{{{{ ns.x|length }}}}"
            )
        };
        for template in [
            format!("{{{{ 1{} }}}}", again("+1", 100_000)),
            format!("{{{{ {}1 }}}}", again("not ", 100_000)),
            format!("{{{{ {}1 }}}}", again("-", 100_000)),
            format!("{{{{ {}1{} }}}}", again("(", 100_000), again(")", 100_000)),
            format!("{{{{ {}1{} }}}}", again("[", 100_000), again("]", 100_000)),
            format!("{{{{ x{} }}}}", again("|upper", 100_000)),
            format!("{{{{ x{} }}}}", again(".a", 100_000)),
            format!("{{{{ x{} }}}}", again("[0]", 100_000)),
            format!("{{{{ 1{} }}}}", again(" if 1 else 2", 100_000)),
            format!("{{{{ 1{} }}}}", again(" < 1", 100_000)),
            format!("{{{{ 1{} }}}}", again(" is string", 100_000)),
            again("{% if 1 %}", 100_000),
            format!("{{% if 0 %}}{}{{% endif %}}", again("{% elif 0 %}", 100_000)),
            "{{ 'a\nb'|indent(4000000000) }}".to_owned(),
            "{{ 'a\nb'|indent(width=4000000000) }}".to_owned(),
            "{{ [1]|batch(4000000000, 'x')|length }}".to_owned(),
            "{{ [1]|slice(4000000000, 'x')|list|length }}".to_owned(),
            "{{ '%999999999d'|format(1) }}".to_owned(),
            "{{ '%.99999d'|format(1) }}".to_owned(),
            "{{ '%*d'|format(999999999, 1) }}".to_owned(),
            "{{ ([1] * 10000000000)|list|length }}".to_owned(),
            "{{ (10000000000 * [1])|length }}".to_owned(),
            "{{ 'abcdefgh' * 99999999999 }}".to_owned(),
            "{{ range(1000000000)|list|length }}".to_owned(),
            "{{ range(100000)|join('x' * 100000) }}".to_owned(),
            "{{ ('x' * 1000000)|replace('x', 'y' * 10000) }}".to_owned(),
            "{{ ('x' * 1000000)|replace('', 'y' * 10000) }}".to_owned(),
            "{% set big = 'x' * 10000000 %}{{ range(100000)|map('replace', '1', big)|list|length }}"
                .to_owned(),
            doubling("{% set ns.x = ns.x ~ ns.x %}"),
            doubling("{% set ns.x = ns.x + ns.x %}"),
            doubling("{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
            doubling("{% set ns.l = ns.l + ns.l %}"),
            doubling("{% set ns.l = [ns.l, ns.l] %}"),
            doubling("{% set ns.l = {'a': ns.l, 'b': ns.l} %}"),
            doubling("{% set ns.x = [ns.x, ns.x]|join %}"),
            doubling("{% set ns.x = ns.x|replace('a', 'aa') %}"),
            again("{% set x = (x|default('a')) ~ (x|default('b')) %}", 60),
            nested("{% set ns.x = [ns.x] %}"),
            nested("{% set ns.x = ns.x[0:] %}{% set ns.x = [ns.x, 1] %}"),
            "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}".to_owned(),
            "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}{{ ns }}".to_owned(),
            "{% set a = namespace(x=1) %}{% set b = namespace(x=a) %}{{ b }}".to_owned(),
            "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".to_owned(),
            "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}".to_owned(),
            format!(
                "{{% set x %}}{{% for i in range(100000) %}}{}{{% endfor %}}{{% endset %}}{{{{ x|length }}}}",
                again("0123456789", 10_000)
            ),
        ] {
            let source = Source::new("t", template.as_str());
            let _ = undeclared(&source);
            let error = render(&source, &minijinja::context! { x => "x" }, false);
            let start: String = template.chars().take(150).collect();
            let error = error.map(|text| text.len()).expect_err(&start);
            assert!(error.line.is_some(), "{start}: {error}");
            if let Some(inside) = super::super::condition_of(&template) {
                assert!(
                    eval_condition(
                        &Source::new("t", format!("{{{{ {inside} }}}}")),
                        &minijinja::context! { x => "x" }
                    )
                    .is_err()
                );
            }
        }
    }

    #[test]
    fn long_texts_with_few_tags_are_fine() {
        let lines = "a line\n".repeat(70_000);
        let source = Source::new("t", format!("{lines}{{{{ x }}}}\n{lines}"));
        let made = render(&source, &minijinja::context! { x => "x" }, false);
        assert_eq!(made.map(|text| text.len()), Ok(2 * lines.len() + 2));
        let names: Vec<String> = (0..50_000).map(|n| format!("'n{n}'")).collect();
        let source = Source::new("t", format!("{{{{ [{}]|length }}}}", names.join(", ")));
        assert_eq!(render(&source, &minijinja::context! {}, false).as_deref(), Ok("50000"));
    }
}
