//! Paths of inputs and outputs as they are written: what may stand in one, `{{ vars.X }}` and
//! `{{ key }}` in it, and its normal form.

use std::borrow::Cow;

use serde_json::Value;

use super::types::Map;
use planexe_base::pattern::{Glob, LONGEST, fold_case, normal};

/// A piece of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text as it is.
    Text(&'a str),
    /// `{{ key }}`
    Key,
    /// `{{ vars.NAME }}`
    Var(&'a str),
}

/// What is wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFault {
    /// What was found.
    pub message: String,
    /// What was wanted, if that says more.
    pub wanted: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl PathFault {
    fn new(message: impl Into<String>, wanted: impl Into<String>) -> PathFault {
        PathFault { message: message.into(), wanted: Some(wanted.into()), hint: None }
    }
}

/// The pieces of a path.
pub fn pieces(path: &str) -> Result<Vec<Piece<'_>>, PathFault> {
    let mut found = Vec::new();
    let mut rest = path;
    const WANTED: &str = "paths may contain only `{{ key }}` and `{{ vars.NAME }}`";
    while let Some(at) = rest.find('{') {
        let (text, tail) = rest.split_at(at);
        if tail.starts_with("{%") || tail.starts_with("{#") {
            return Err(PathFault::new(format!("template statements in the path `{path}`"), WANTED));
        }
        if !tail.starts_with("{{") {
            found.push(Piece::Text(&rest[..at + 1]));
            rest = &rest[at + 1..];
            continue;
        }
        if !text.is_empty() {
            found.push(Piece::Text(text));
        }
        let Some(end) = tail.find("}}") else {
            return Err(PathFault::new(format!("`{{{{` without `}}}}` in the path `{path}`"), WANTED));
        };
        let inside = tail[2..end].trim();
        match inside.strip_prefix("vars.") {
            Some(name) if !name.is_empty() && !name.contains([' ', '|', '.', '(', '[']) => {
                found.push(Piece::Var(name))
            }
            _ if inside == "key" => found.push(Piece::Key),
            _ => return Err(PathFault::new(format!("`{{{{ {inside} }}}}` in the path `{path}`"), WANTED)),
        }
        rest = &tail[end + 2..];
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    Ok(found)
}

/// Puts the vars in; `{{ key }}` is left for the instances, written just so.
pub fn substitute_vars<'p>(path: &'p str, vars: &Map<Value>) -> Result<Cow<'p, str>, PathFault> {
    if !path.contains('{') {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::new();
    for piece in pieces(path)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Key => out.push_str("{{ key }}"),
            Piece::Var(name) => match vars.get(name) {
                Some(Value::String(text)) => out.push_str(text),
                Some(Value::Number(number)) => out.push_str(&number.to_string()),
                Some(Value::Bool(truth)) => out.push_str(if *truth { "true" } else { "false" }),
                Some(_) => {
                    return Err(PathFault::new(
                        format!("`vars.{name}` in the path `{path}` is not a string"),
                        "wanted a string or a number",
                    ));
                }
                None => {
                    let hint = match super::suggest(name, vars.keys().map(String::as_str)) {
                        Some(hint) => hint,
                        None => format!("add `{name} = \"…\"` to `[vars]`"),
                    };
                    let message = format!("no `{name}` in `[vars]`, used in the path `{path}`");
                    return Err(PathFault {
                        hint: Some(hint),
                        ..PathFault::new(message, "no such variable")
                    });
                }
            },
        }
    }
    Ok(Cow::Owned(out))
}

/// Whether a path has `{{ key }}` in it.
pub fn has_key(path: &str) -> bool {
    path.contains('{') && pieces(path).is_ok_and(|pieces| pieces.contains(&Piece::Key))
}

/// Whether a path (of an input) is a pattern.
pub fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[']) || (path.contains('{') && has_alternatives(path))
}

/// Whether a path has `{a,b}` in it. Braces without a comma are no alternatives, and two are a hole.
fn has_alternatives(path: &str) -> bool {
    let Some(open) = path.find('{') else { return false };
    let (inside, end) = match path[open..].strip_prefix("{{") {
        Some(rest) => ("", rest.find("}}").map(|at| open + at + 4)),
        None => {
            let close = path[open..].find('}').map(|at| open + at);
            (close.map_or("", |close| &path[open + 1..close]), close.map(|close| close + 1))
        }
    };
    inside.contains(',') || end.is_some_and(|end| has_alternatives(&path[end..]))
}

/// Names that planexe itself writes in a run.
const OWN: [&str; 5] =
    ["run.toml", "events.jsonl", "failures.jsonl", "usage_metrics.jsonl", "activity_overview.json"];

/// Checks the path of an output, vars already in: what may be written, and nothing else.
/// `pipeline` is the file name of the pipeline.
pub fn check_output(path: &str, pipeline: &str) -> Result<(), PathFault> {
    let fault = |message: String, wanted: &str| Err(PathFault::new(message, wanted));
    check_text(path, "output")?;
    if path.starts_with('/') {
        return fault(
            format!("the output `{path}` is an absolute path"),
            "wanted a path relative to the run directory",
        );
    }
    if path.starts_with('~') {
        return fault(
            format!("the output `{path}` starts with `~`"),
            "wanted a path relative to the run directory",
        );
    }
    if path.ends_with('/') || path.ends_with("/.") {
        return fault(format!("the output `{path}` is a folder"), "wanted a file");
    }
    if path.split('/').any(|part| part == "..") {
        return fault(format!("the output `{path}` leaves the run directory"), "wanted a path without `..`");
    }
    if path.contains(['*', '?']) {
        return fault(format!("the output `{path}` is a pattern"), "wanted the name of one file");
    }
    let clean = normal(path);
    if clean.is_empty() {
        return fault(format!("the output `{path}` is a folder"), "wanted a file");
    }
    let lower = fold_case(&clean);
    if let Some(part) = lower.split('/').find(|part| matches!(*part, ".planexe" | ".git")) {
        return fault(format!("the output `{path}` is inside `{part}`"), "wanted a path outside it");
    }
    for end in [".done", ".status"] {
        if lower.ends_with(end) {
            return fault(
                format!("the output `{path}` ends like planexe's own sidecars"),
                "wanted a name that does not end in `.DONE` or `.status`",
            );
        }
    }
    if clean.split('/').any(planexe_base::fs::is_temp_name) {
        return fault(
            format!("the output `{path}` is named like planexe's own temporary files"),
            "wanted a name that does not begin with `planexe-tmp-`",
        );
    }
    if OWN.contains(&&*lower) {
        return fault(format!("the output `{path}` is a file planexe writes itself"), "wanted another name");
    }
    if lower == fold_case(pipeline) || lower == "pipeline.toml" {
        return fault(format!("the output `{path}` is the pipeline itself"), "wanted another name");
    }
    if let Some(part) = clean.split('/').find(|part| part.len() > 255) {
        return fault(
            format!("the name `{}…` is {} bytes long", part.chars().take(20).collect::<String>(), part.len()),
            "file systems allow 255",
        );
    }
    Ok(())
}

/// Checks the path or glob of an input, vars already in.
pub fn check_input(path: &str) -> Result<(), PathFault> {
    check_text(path, "input")?;
    if path.ends_with('/') {
        return Err(PathFault::new(
            format!("the input `{path}` is a folder"),
            format!("wanted a file, or a glob like \"{path}*.txt\""),
        ));
    }
    if path.starts_with("~/") {
        return Err(PathFault::new(
            format!("the input `{path}` starts with `~`"),
            "wanted a path relative to the run directory, or the whole path",
        ));
    }
    let clean = normal(path);
    let lower = fold_case(&clean);
    if lower.ends_with(".done") || lower.ends_with(".status") {
        return Err(PathFault::new(
            format!("the input `{path}` is a sidecar of planexe"),
            "wanted the output itself; for order alone use `after`",
        ));
    }
    if lower.split('/').next() == Some(".planexe") {
        return Err(PathFault::new(
            format!("the input `{path}` is inside `.planexe`"),
            "wanted a path outside it",
        ));
    }
    if is_glob(path)
        && let Err(why) = Glob::of_paths(path)
    {
        return Err(PathFault::new(format!("`{path}` is not a pattern: {why}"), "wanted a path or a glob"));
    }
    Ok(())
}

fn check_text(path: &str, what: &str) -> Result<(), PathFault> {
    if path.trim().is_empty() {
        return Err(PathFault::new(format!("an empty path as {what}"), "wanted a path"));
    }
    if path.len() > LONGEST {
        return Err(PathFault::new(
            format!("the path of an {what} has {} bytes", path.len()),
            format!("wanted at most {LONGEST}"),
        ));
    }
    if path.chars().any(char::is_control) {
        return Err(PathFault::new(
            format!("a control character in the path of an {what}"),
            "wanted a plain path",
        ));
    }
    if path.trim() != path {
        return Err(PathFault::new(
            format!("the {what} `{path}` starts or ends with a space"),
            "remove the space",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_may_not_be() {
        for path in [
            "",
            " ",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/",
            ".",
            "a/.",
            ".planexe/x",
            "sub/.git/config",
            "x.DONE",
            "x.status",
            "x.done",
            "run.toml",
            "RUN.toml",
            "events.jsonl",
            "p.toml",
            "*.md",
            "a\nb",
            "~/x",
            "a ",
            "sub/planexe-tmp-a",
            ".planexe-tmp-a",
        ] {
            assert!(check_output(path, "p.toml").is_err(), "{path:?}");
        }
        for path in
            ["a", "a.json", "./a", "sub/a b.md", ".hidden", "a{b}", "reviews/{{ key }}.json", "DONE", "x..y"]
        {
            assert_eq!(check_output(path, "p.toml"), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn patterns_of_inputs() {
        for path in [
            "*.md",
            "a?.md",
            "[ab].md",
            "{a,b}.md",
            "{{ key }}/{a,b}.md",
            "x{1}{2,3}",
            "{{ key }}{{ key }}{,s}",
        ] {
            assert!(is_glob(path), "{path}");
        }
        for path in
            ["a.md", "a{b}.md", "{{ key }}.md", "{{ key }},{{ key }}", "a{b", "a,b}", "{}", "{{ a", "{"]
        {
            assert!(!is_glob(path), "{path}");
        }
    }

    #[test]
    fn vars_go_in_and_the_key_stays() {
        let vars: Map<Value> = [
            ("a".to_owned(), Value::from("x")),
            ("n".to_owned(), Value::from(3)),
            ("l".to_owned(), Value::Array(vec![])),
        ]
        .into_iter()
        .collect();
        let put = |path| substitute_vars(path, &vars);
        assert_eq!(put("r/{{vars.a}}-{{ vars.n }}/{{key}}.md").unwrap(), "r/x-3/{{ key }}.md");
        assert_eq!(put("plain{1}.md").unwrap(), "plain{1}.md");
        assert!(put("{{ vars.b }}").unwrap_err().message.contains("no `b`"));
        assert!(put("{{ vars.l }}").is_err());
        assert!(put("{{ item.name }}").is_err());
        assert!(put("{{ key").is_err());
        assert!(put("{% if x %}").is_err());
        assert_eq!(normal("./a//b/./c"), "a/b/c");
    }
}
