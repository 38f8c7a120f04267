//! Where in a template the filters that count are put, and the way back to the places it was written at.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use minijinja::machinery::{Token, WhitespaceConfig, tokenize};

use crate::template::{RenderError, Source};

/// Operators, filters and brackets that one value of an expression goes through.
const OPERATORS: usize = 300;
/// `{% elif %}` in one template.
const ELIFS: usize = 300;
/// A template with no more operators than that in an expression needs little stack.
const FEW_OPERATORS: usize = 40;

/// A template as it is compiled.
#[derive(Debug, PartialEq)]
pub(in crate::template) struct Counted {
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
pub(in crate::template) fn counted(source: &Source, expression: bool) -> Result<Counted, RenderError> {
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
