//! Comparisons in conditions: `score < 80` says nothing if the score is the text `"5"`, and the template engine answers all the
//! same, by what kind of value comes first. A gate would be passed by that. So a condition is looked at once more, with
//! each `<`, `<=`, `>`, `>=` in it made a call that wants two values of one kind.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

/// The operators, and the filters that stand for them.
const OPERATORS: [(&str, &str); 4] = [("<", "__lt"), ("<=", "__le"), (">", "__gt"), (">=", "__ge")];

/// How the error of such a filter begins.
const MISMATCH: &str = "it compares ";

/// Adds the filters to an environment.
pub fn add(env: &mut Environment<'_>) {
    for (operator, name) in OPERATORS {
        env.add_filter(name, move |left: &Value, right: &Value| compare(operator, left, right));
    }
}

/// What is wrong, if an error is that of a comparison.
pub fn mismatch(error: &Error) -> Option<&str> {
    error.detail().filter(|detail| detail.starts_with(MISMATCH))
}

fn compare(operator: &str, left: &Value, right: &Value) -> Result<bool, Error> {
    if left.kind() != right.kind() || left.is_none() {
        let shown = |value: &Value| match value.kind() {
            ValueKind::Number => format!("the number {value}"),
            ValueKind::String => {
                format!("the text {:?}", value.to_string().chars().take(40).collect::<String>())
            }
            ValueKind::None | ValueKind::Undefined => "nothing".to_owned(),
            ValueKind::Bool => format!("the truth value {value}"),
            kind => format!("a {kind}"),
        };
        let message = format!("{MISMATCH}{} with {}", shown(left), shown(right));
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(match operator {
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        _ => left >= right,
    })
}

/// An expression with its comparisons made calls; none if there are none.
pub fn with_calls(expression: &str) -> Option<String> {
    if !expression.contains(['<', '>']) {
        return None;
    }
    let tokens = tokens(expression)?;
    let made = rewritten(&tokens);
    (made.replace(' ', "") != expression.replace(' ', "")).then_some(made)
}

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A word, number, text or sign.
    Plain(String),
    /// What stands in brackets.
    Group(char, Vec<Token>, char),
}

/// The pieces of an expression; none if it is not understood.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut open: Vec<(char, Vec<Token>)> = Vec::new();
    let mut here: Vec<Token> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            '(' | '[' | '{' => {
                open.push((c, std::mem::take(&mut here)));
                rest = &rest[1..];
                continue;
            }
            ')' | ']' | '}' => {
                let (began, before) = open.pop()?;
                let inside = std::mem::replace(&mut here, before);
                here.push(Token::Group(began, inside, c));
                rest = &rest[1..];
                continue;
            }
            '"' | '\'' => {
                let mut escaped = false;
                let end = rest[1..].find(|other: char| {
                    let ends = other == c && !escaped;
                    escaped = other == '\\' && !escaped;
                    ends
                })?;
                end + 2
            }
            c if c.is_alphanumeric() || c == '_' => {
                let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
                rest.find(|c| !part(c)).unwrap_or(rest.len())
            }
            _ if ["<=", ">=", "==", "!=", "//", "**"].iter().any(|sign| rest.starts_with(sign)) => 2,
            c => c.len_utf8(),
        };
        here.push(Token::Plain(rest[..length].to_owned()));
        rest = &rest[length..];
    }
    open.is_empty().then_some(here)
}

fn is(token: Option<&Token>, words: &[&str]) -> bool {
    matches!(token, Some(Token::Plain(text)) if words.contains(&text.as_str()))
}

fn rewritten(tokens: &[Token]) -> String {
    let mut made: Vec<String> = Vec::new();
    let mut from = 0;
    for at in 0..=tokens.len() {
        // What binds less than a comparison parts one from the next; the `not` of `is not` and `not in` does not.
        let parts = match tokens.get(at) {
            None => true,
            not if is(not, &["not"]) => {
                let within = at > from && is(tokens.get(at - 1), &["is"]) || is(tokens.get(at + 1), &["in"]);
                !within
            }
            token => is(token, &["and", "or", "if", "else", ",", ":", "="]),
        };
        if parts {
            if from < at {
                made.push(one(&tokens[from..at]));
            }
            made.extend(tokens.get(at).map(text_of));
            from = at + 1;
        }
    }
    made.join(" ")
}

/// At most one comparison.
fn one(tokens: &[Token]) -> String {
    let compares = |token: &&Token| is(Some(token), &["<", "<=", ">", ">=", "==", "!=", "in"]);
    let text = |tokens: &[Token]| tokens.iter().map(text_of).collect::<Vec<_>>().join(" ");
    let at = tokens.iter().position(|token| compares(&token));
    if let Some(at) = at.filter(|_| tokens.iter().filter(compares).count() == 1)
        && let Token::Plain(sign) = &tokens[at]
        && let Some((_, name)) = OPERATORS.iter().find(|(operator, _)| operator == sign)
    {
        return format!("(({})|{name}({}))", text(&tokens[..at]), text(&tokens[at + 1..]));
    }
    text(tokens)
}

fn text_of(token: &Token) -> String {
    match token {
        Token::Plain(text) => text.clone(),
        Token::Group(open, inside, close) => format!("{open}{}{close}", rewritten(inside)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_become_calls() {
        for (from, to) in [
            ("a.s < 80", Some("((a.s)|__lt(80))")),
            (
                "a and b.c | length >= 2 or not d > -1",
                Some("a and ((b.c | length)|__ge(2)) or not ((d)|__gt(- 1))"),
            ),
            ("(a < 1) and x[b > 2]", Some("(((a)|__lt(1))) and x [((b)|__gt(2))]")),
            (
                "a < 1 if b is not none else c not in d",
                Some("((a)|__lt(1)) if b is not none else c not in d"),
            ),
            ("f(x, y=a < 3)", Some("f (x , y = ((a)|__lt(3)))")),
            ("a == '<' and b != \"it's > that\"", None),
            ("a < b < c", None),
            ("a == 1", None),
            ("(a < 1", None),
        ] {
            assert_eq!(with_calls(from).as_deref(), to, "{from}");
        }
    }
}
