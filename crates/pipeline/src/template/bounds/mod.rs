//! What a template may take: steps, bytes, time and depth. The template engine counts its steps and nothing else; the
//! rest is counted here, by filters of ours that are put at the places in a template where texts and lists grow.
//!
//! `a ~ b` is compiled as `a|__said ~ b|__said`, `{% set x = … %}` as `{% set x = (…)|__kept %}`, and each turn of a loop
//! looks at the clock. Such a filter gives what it is given, or the error. Errors are told by their place in the template as
//! it was written.

use std::cell::Cell;
use std::time::{Duration, Instant};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions};

mod counted;

pub(super) use counted::{Counted, counted};

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
/// Time it may take.
pub(super) const TIME: Duration = Duration::from_secs(20);
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

#[cfg(test)]
mod tests {

    use crate::template::{Source, eval_condition, render, undeclared};

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
