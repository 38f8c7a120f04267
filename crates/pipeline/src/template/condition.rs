//! Conditions: `"{{ … }}"`, one expression that is true or false.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::Value;

use super::bounds::{self, counted};
use super::words::{in_words, nearest_member};
use super::{RenderError, Source, apart_from, environment, undeclared};
use crate::template::strict_compare as order;

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
    let inner = Source::new(source.name.clone(), inside).trimmed(source.trim);
    if counted(&inner, true)?.deep {
        let (source, context) = (source.clone(), context.clone());
        return apart_from(&inner, move || truth(&source, &context));
    }
    truth(source, context)
}

fn truth(source: &Source, context: &Value) -> Result<bool, RenderError> {
    let inside = condition(source)?;
    let inner = Source::new(source.name.clone(), inside).trimmed(source.trim);
    let env = environment(false, source.trim);
    let compiled = counted(&inner, true)?;
    let told =
        |error: &minijinja::Error| in_words(&inner, error, Some(context), |range| compiled.place(range));
    if let Err(error) = env.compile_expression(inside) {
        return Err(in_words(&inner, &error, Some(context), Range::clone));
    }
    bounds::begin();
    let expression = env.compile_expression(&compiled.text).map_err(|error| told(&error))?;
    let value = expression.eval(context).map_err(|error| told(&error))?;
    if let Some(calls) = order::with_calls(&compiled.text)
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

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

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
}
