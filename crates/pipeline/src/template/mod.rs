//! Templates: prompts, output templates, gates and conditions. The same source and the same
//! context give the same bytes; there is no clock, no file and no chance in here.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use bounds::{Counted, counted};
use planexe_base::time_boxed::{self as apart, Left};
use strict_compare as order;

mod bounds;
mod condition;
mod figures;
pub mod filters;
mod format;
pub mod strict_compare;
mod tags;
mod words;

pub use bounds::WORDS;
pub use condition::{condition, condition_of, eval_condition, undeclared_in_condition};
pub use format::slug;
pub use tags::find_name;
use tags::lint;
use words::in_words;

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
    let counted = counted(source, false)?;
    if !counted.deep {
        return render_here(source, &counted, context, html, largest);
    }
    let (here, context) = (source.clone(), context.clone());
    apart_from(source, move || render_here(&here, &counted, &context, html, largest))
}

/// Does it on a stack of its own, from which a template that is deep or takes too long is left.
fn apart_from<T: Send + 'static>(
    source: &Source,
    work: impl FnOnce() -> Result<T, RenderError> + Send + 'static,
) -> Result<T, RenderError> {
    // What counts its own time comes to its end before that.
    apart::run(bounds::TIME + bounds::TIME / 4, &|| false, work).unwrap_or_else(|left| {
        let message = match left {
            Left::TimeOver | Left::Unwanted => {
                format!("the template takes longer than {} s", bounds::TIME.as_secs())
            }
            Left::NoThread => {
                "no thread can be had to render the template: is there no memory (`ulimit -v`)?".to_owned()
            }
            Left::Failed => "the template cannot be rendered: the engine broke down".to_owned(),
        };
        let name = source.name.clone();
        Err(RenderError { message, name, line: Some(1), span: None, hint: None })
    })
}

fn render_here(
    source: &Source,
    counted: &Counted,
    context: &Value,
    html: bool,
    largest: usize,
) -> Result<String, RenderError> {
    let told =
        |error: &minijinja::Error| in_words(source, error, Some(context), |range| counted.place(range));
    let env = environment(html, source.trim);
    let template = match env.template_from_named_str(&source.name, &counted.text) {
        Ok(template) => template,
        Err(error) => return Err(unreadable(source, env).unwrap_or_else(|| told(&error))),
    };
    let mut text = Text { bytes: Vec::new(), room: largest, full: false };
    bounds::begin();
    let made = template.render_captured_to(context, &mut text).map(drop);
    match made {
        Err(error) if text.full => Err(RenderError {
            message: format!("the text is larger than {} MiB", largest >> 20),
            name: source.name.clone(),
            line: error.line().or(Some(1)),
            span: None,
            hint: None,
        }),
        Err(error) => Err(told(&error)),
        Ok(()) => Ok(String::from_utf8(text.bytes).expect("BUG: a template made a text that is not UTF-8")),
    }
}

/// Why a template cannot be read, in its own words and not in those it is compiled in.
fn unreadable(source: &Source, env: &Environment<'_>) -> Option<RenderError> {
    let error = env.template_from_named_str(&source.name, &source.text).err()?;
    Some(in_words(source, &error, None, Range::clone))
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
    let here = source.clone();
    let names = move || {
        let env = environment(false, here.trim);
        let template = env
            .template_from_named_str(&here.name, &here.text)
            .map_err(|error| in_words(&here, &error, None, Range::clone))?;
        lint(&here, env)?;
        let is_given = |name: &str| means_something(name.split('.').next().unwrap_or(name));
        Ok(template.undeclared_variables(true).into_iter().filter(|name| !is_given(name)).collect())
    };
    if counted(source, false)?.deep { apart_from(source, names) } else { names() }
}

/// Whether a name means something in every template, so that no input can be called so.
pub fn means_something(name: &str) -> bool {
    matches!(name, "loop" | "self" | "super" | "caller" | "not")
        || matches!(name, "true" | "True" | "false" | "False" | "none" | "None")
        || environment(false, false).globals().any(|(known, _)| known == name)
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
    env.set_fuel(Some(bounds::FUEL));
    env.set_recursion_limit(100);
    env.set_debug(true);
    env.remove_global("debug");
    env.set_formatter(|out, state, value| {
        bounds::said(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    if html {
        env.set_formatter(|out, state, value| {
            match bounds::said(value).map(|()| value.as_str().map(printable))? {
                Some(Cow::Owned(text)) if value.is_safe() => {
                    minijinja::escape_formatter(out, state, &Value::from_safe_string(text))
                }
                Some(Cow::Owned(text)) => minijinja::escape_formatter(out, state, &Value::from(text)),
                _ => minijinja::escape_formatter(out, state, value),
            }
        });
    }
    bounds::add(&mut env);
    env.add_filter("tojson", format::tojson);
    env.add_filter("printable", |text: String| printable(&text).into_owned());
    env.add_filter("slug", |text: String| slug(&text));
    env.add_filter("words", format::words);
    env.add_filter("group_digits", format::group_digits);
    env.add_filter("number", format::number);
    env.add_filter("percent", format::percent);
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
    fn json_in_html_ends_no_script() {
        let source = Source::new("t.html", "<script>x = {{ x|tojson }}</script>{{ x }}");
        let hostile = "</script>'&\u{2028}\u{2029}";
        let page = render(&source, &context! { x => hostile }, true).unwrap();
        let (script, rest) = page.split_once("</script>").unwrap();
        assert_eq!(script, r#"<script>x = "\u003c/script\u003e\u0027\u0026\u2028\u2029""#);
        assert!(!rest.contains('<'), "{rest}");
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
