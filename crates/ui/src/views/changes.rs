//! How one content differs from another: JSON by its paths, text by its lines and, in colour, by its words.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices_deadline};

use planexe_base::style::{self, CYAN, GREEN, RED, Style, YELLOW, clean};
use planexe_pipeline::items::{canonical, escape};

/// So long two contents are compared: with many thousand changed lines it would else take minutes. What is left then
/// counts as changed.
const LONGEST: Duration = Duration::from_secs(1);

fn deadline() -> Instant {
    Instant::now() + LONGEST
}

/// Two texts compared by lines.
pub fn lines<'a>(old: &'a str, new: &'a str) -> TextDiff<'a, 'a, str> {
    TextDiff::configure().deadline(deadline()).diff_lines(old, new)
}

/// A difference between two JSON values.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// JSON pointer: into the new value, for what is gone into the old one.
    pub path: String,
    /// The value before; none if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The value now; none if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// All differences of two JSON values, in the order of the new one.
pub fn json_changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", (old, new), deadline(), &mut changes);
    changes
}

fn compare(path: &str, (old, new): (&Value, &Value), until: Instant, changes: &mut Vec<Change>) {
    match (old, new) {
        (Value::Object(before), Value::Object(now)) => {
            for (key, old) in before {
                let path = format!("{path}/{}", escape(key));
                match now.get(key) {
                    Some(new) => compare(&path, (old, new), until, changes),
                    None => changes.push(Change { path, old: Some(old.clone()), new: None }),
                }
            }
            for (key, new) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
                let path = format!("{path}/{}", escape(key));
                changes.push(Change { path, old: None, new: Some(new.clone()) });
            }
        }
        (Value::Array(before), Value::Array(now)) => compare_lists(path, (before, now), until, changes),
        _ if canonical(old) == canonical(new) => {}
        _ => changes.push(Change { path: path.to_owned(), old: Some(old.clone()), new: Some(new.clone()) }),
    }
}

/// Lists are aligned first, so that one item put in does not change all that follow.
fn compare_lists(path: &str, (before, now): (&[Value], &[Value]), until: Instant, changes: &mut Vec<Change>) {
    let texts = |list: &[Value]| list.iter().map(canonical).collect::<Vec<_>>();
    let gone = |at: usize| Change { path: format!("{path}/{at}"), old: Some(before[at].clone()), new: None };
    let new = |at: usize| Change { path: format!("{path}/{at}"), old: None, new: Some(now[at].clone()) };
    let (was, is) = (texts(before), texts(now));
    for op in capture_diff_slices_deadline(Algorithm::Patience, &was, &is, Some(until)) {
        match op {
            DiffOp::Equal { .. } => {}
            DiffOp::Delete { old_index, old_len, .. } => {
                changes.extend((old_index..old_index + old_len).map(gone))
            }
            DiffOp::Insert { new_index, new_len, .. } => {
                changes.extend((new_index..new_index + new_len).map(new))
            }
            DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                let both = old_len.min(new_len);
                for n in 0..both {
                    let path = format!("{path}/{}", new_index + n);
                    compare(&path, (&before[old_index + n], &now[new_index + n]), until, changes);
                }
                changes.extend((old_index + both..old_index + old_len).map(gone));
                changes.extend((new_index + both..new_index + new_len).map(new));
            }
        }
    }
}

/// The changes for people: one a line, changed strings word by word.
pub fn json_text(changes: &[Change], style: &Style) -> String {
    let (mut text, until) = (String::new(), deadline());
    for change in changes {
        let path = if change.path.is_empty() { "(all of it)".to_owned() } else { clean(&change.path) };
        let (mark, colour, what) = match (&change.old, &change.new) {
            (None, Some(new)) => ('+', GREEN, shown(new)),
            (Some(old), None) => ('-', RED, shown(old)),
            (Some(Value::String(old)), Some(Value::String(new))) => {
                ('~', YELLOW, words((old, new), until, style))
            }
            (Some(old), Some(new)) => {
                let (old, new) = (style.paint(RED, &shown(old)), style.paint(GREEN, &shown(new)));
                ('~', YELLOW, format!("{old} -> {new}"))
            }
            (None, None) => continue,
        };
        let what = if mark == '~' { what } else { style.paint(colour, &what) };
        text += &format!("{} {what}\n", style.paint(colour, &format!("{mark} {path}")));
    }
    text
}

fn shown(value: &Value) -> String {
    clean(&value.to_string())
}

/// How many words of what did not change stand around a change.
const AROUND: usize = 8;

/// Two texts in one line: `Build a [-bridge-]{+tunnel+} by 2030`, in colour without the marks.
fn words((old, new): (&str, &str), until: Instant, style: &Style) -> String {
    let diff = TextDiff::configure().deadline(until).diff_words(old, new);
    let ops: Vec<_> = diff.ops().to_vec();
    let mut text = String::new();
    let last = ops.len().saturating_sub(1);
    for (n, op) in ops.iter().enumerate() {
        if op.tag() == similar::DiffTag::Equal {
            let words: Vec<&str> = diff.iter_changes(op).map(|change| change.value()).collect();
            let (head, tail) = (if n == 0 { 0 } else { AROUND * 2 }, if n == last { 0 } else { AROUND * 2 });
            if words.len() > head + tail + AROUND {
                text += &folded(&words[..head].concat());
                text += "…";
                text += &folded(&words[words.len() - tail..].concat());
            } else {
                text += &folded(&words.concat());
            }
            continue;
        }
        let of = |tag: ChangeTag| -> String {
            diff.iter_changes(op).filter(|change| change.tag() == tag).map(|change| change.value()).collect()
        };
        let (gone, come) = (of(ChangeTag::Delete), of(ChangeTag::Insert));
        let marked = |colour, open: &str, body: &str, close: &str| match (body.is_empty(), style.depth) {
            (true, _) => String::new(),
            (_, style::Depth::None) => format!("{open}{}{close}", folded(body)),
            _ => style.paint(colour, &folded(body)),
        };
        text += &marked(RED, "[-", &gone, "-]");
        text += &marked(GREEN, "{+", &come, "+}");
    }
    text
}

/// Text of a file in one line, harmless, with the blanks at its ends.
fn folded(text: &str) -> String {
    let blank = |yes: bool| if yes { " " } else { "" };
    let body = clean(text);
    if body.is_empty() {
        return blank(!text.is_empty()).to_owned();
    }
    let (before, after) = (text.starts_with(char::is_whitespace), text.ends_with(char::is_whitespace));
    format!("{}{body}{}", blank(before), blank(after))
}

/// Two texts as a unified difference with these names; in colour the words that differ stand out.
pub fn text_diff(old: &str, new: &str, names: (&str, &str), style: &Style) -> String {
    let (diff, until) = (lines(old, new), deadline());
    if style.depth == style::Depth::None {
        let text = diff.unified_diff().context_radius(3).header(names.0, names.1).to_string();
        return style::clean_lines(&text);
    }
    let mut text = format!("{}\n", style.bold(&format!("--- {}\n+++ {}", clean(names.0), clean(names.1))));
    for group in diff.grouped_ops(3) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let span = |a: std::ops::Range<usize>, b: std::ops::Range<usize>| {
            let length = b.end - a.start;
            if length == 1 {
                format!("{}", a.start + 1)
            } else {
                format!("{},{length}", a.start + usize::from(length > 0))
            }
        };
        let (old, new) =
            (span(first.old_range(), last.old_range()), span(first.new_range(), last.new_range()));
        text += &format!("{}\n", style.paint(CYAN, &format!("@@ -{old} +{new} @@")));
        for change in group.iter().flat_map(|op| diff.iter_inline_changes_deadline(op, Some(until))) {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ("-", Some(RED)),
                ChangeTag::Insert => ("+", Some(GREEN)),
                ChangeTag::Equal => (" ", None),
            };
            let mut line = String::from(sign);
            for (stands_out, piece) in change.iter_strings_lossy() {
                let piece = style::clean_lines(piece.trim_end_matches('\n'));
                line += &if stands_out { style.bold(&underlined(&piece)) } else { piece };
            }
            text += &colour.map_or(line.clone(), |colour| style.paint(colour, &line));
            text.push('\n');
            if change.missing_newline() {
                text += &format!("{}\n", style.dim("\\ No newline at end of file"));
            }
        }
    }
    text
}

fn underlined(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\x1b[4m{text}\x1b[24m") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_everything_changed_it_is_told_soon() {
        let text = |seed: u64| -> String { (0..20_000).map(|n| format!("{}\n", n * seed)).collect() };
        let (old, new) = (text(7), text(11));
        let style = Style { depth: style::Depth::True, width: None };
        let began = Instant::now();
        for style in [&Style::PLAIN, &style] {
            let diff = text_diff(&old, &new, ("old", "new"), style);
            assert!(diff.lines().count() > 20_000);
        }
        let list = |text: &str| Value::from(text.lines().collect::<Vec<_>>());
        let changes = json_changes(&list(&old), &list(&new));
        assert!(changes.len() > 10_000 && json_text(&changes, &style).lines().count() == changes.len());
        assert!(began.elapsed() < 30 * LONGEST, "{:?}", began.elapsed());
    }

    fn by_paths(old: Value, new: Value) -> Vec<String> {
        json_text(&json_changes(&old, &new), &Style::PLAIN).lines().map(str::to_owned).collect()
    }

    #[test]
    fn json_by_paths() {
        let old = json!({"title": "Build a bridge by 2030", "cost": 1, "gone": {"a": 1}, "same": [1, 2]});
        let new = json!({"title": "Build a tunnel by 2030", "cost": 2, "same": [1, 2], "new/key": null});
        assert_eq!(
            by_paths(old, new),
            [
                "~ /title Build a [-bridge-]{+tunnel+} by 2030",
                "~ /cost 1 -> 2",
                "- /gone {\"a\":1}",
                "+ /new~1key null",
            ]
        );
        assert!(by_paths(json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1})).is_empty());
        assert_eq!(by_paths(json!(1), json!([1])), ["~ (all of it) 1 -> [1]"]);
    }

    #[test]
    fn one_item_put_in_is_one_change() {
        let old = json!([{"n": "a"}, {"n": "b"}, {"n": "c"}]);
        assert_eq!(
            by_paths(old.clone(), json!([{"n": "x"}, {"n": "a"}, {"n": "b"}, {"n": "c"}])),
            ["+ /0 {\"n\":\"x\"}"]
        );
        assert_eq!(by_paths(old.clone(), json!([{"n": "a"}, {"n": "c"}])), ["- /1 {\"n\":\"b\"}"]);
        assert_eq!(by_paths(old, json!([{"n": "a"}, {"n": "B"}, {"n": "c"}])), ["~ /1/n [-b-]{+B+}"]);
    }

    #[test]
    fn what_did_not_change_is_left_out_of_long_texts() {
        let old = "word ".repeat(100) + "old " + &"word ".repeat(100);
        let text = words((&old, &old.replace("old", "new")), deadline(), &Style::PLAIN);
        assert!(text.contains("[-old-]{+new+}") && text.contains('…') && text.len() < 200, "{text}");
    }

    #[test]
    fn texts_by_lines() {
        let text = text_diff("a\nb\nc\n", "a\nB\nc", ("x@1", "x"), &Style::PLAIN);
        assert!(text.starts_with("--- x@1\n+++ x\n@@ -1,3 +1,3 @@\n a\n-b\n"), "{text}");
        assert_eq!(text_diff("a\n", "a\n", ("x", "y"), &Style::PLAIN), "");
        // A model's text cannot steer the terminal.
        let text = text_diff("a\n", "\x1b[2Jb\x07\n", ("x", "y"), &Style::PLAIN);
        assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
        let style = Style { depth: style::Depth::True, width: None };
        let text = text_diff("one two\n", "one three\n", ("x", "y"), &style);
        assert!(text.contains("\x1b[4mthree\x1b[24m"), "{text:?}");
    }
}
