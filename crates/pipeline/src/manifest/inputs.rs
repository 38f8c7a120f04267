//! What a task's inputs are called in its templates.

use std::borrow::Cow;

use super::names::identifier;
use super::place::TablePath;
use super::types::Inputs;

/// An input with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedInput {
    /// The name templates and commands use.
    pub name: String,
    /// The path or glob, as written.
    pub pattern: String,
    /// Where it stands in the manifest.
    pub key_path: TablePath,
}

/// The inputs of the task whose table is at `task` ([`TablePath::task`]), with their names: those of
/// the table, or made from the files' stems. Two may come out alike; that is for the checks to say.
pub fn named(inputs: &Inputs, task: &TablePath) -> Vec<NamedInput> {
    let at = task.then("inputs");
    match inputs {
        Inputs::List(list) => list
            .iter()
            .enumerate()
            .map(|(index, pattern)| NamedInput {
                name: name_of(pattern),
                pattern: pattern.clone(),
                key_path: at.then(index),
            })
            .collect(),
        Inputs::Table(table) => table
            .iter()
            .map(|(name, pattern)| NamedInput {
                name: name.clone(),
                pattern: pattern.clone(),
                key_path: at.then(name),
            })
            .collect(),
    }
}

/// Where input `n` of the task whose table is at `task` is given: as [`named`] says for all, at the cost of one.
pub fn place(inputs: &Inputs, task: &TablePath, n: usize) -> TablePath {
    let at = task.then("inputs");
    match inputs {
        Inputs::List(_) => at.then(n),
        Inputs::Table(table) => table.keys().nth(n).map_or(at.clone(), |name| at.then(name)),
    }
}

/// [`named`] without places: names and patterns.
pub fn names(inputs: &Inputs) -> Vec<(String, &str)> {
    match inputs {
        Inputs::List(list) => list.iter().map(|pattern| (name_of(pattern), pattern.as_str())).collect(),
        Inputs::Table(table) => {
            table.iter().map(|(name, pattern)| (name.clone(), pattern.as_str())).collect()
        }
    }
}

/// The name of a path or glob given in a list: its stem made an identifier; of a glob the stem
/// without its wildcards, or if nothing is left the nearest folder with a name.
pub fn name_of(pattern: &str) -> String {
    let mut parts = pattern.split('/').rev().filter(|part| !part.is_empty() && *part != "." && *part != "..");
    let file = parts.next().unwrap_or("");
    let stem = match file.rfind('.') {
        Some(at) if at > 0 => &file[..at],
        _ => file,
    };
    let name = identifier(&plain(stem));
    if !name.is_empty() {
        return name;
    }
    parts
        .map(|part| identifier(&plain(part)))
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "input".to_owned())
}

/// A part of a path without wildcards and `{{ … }}`.
fn plain(part: &str) -> Cow<'_, str> {
    if !part.contains(['*', '?', '[', '{']) {
        return Cow::Borrowed(part.trim());
    }
    let mut out = String::new();
    let mut rest = part;
    while let Some(at) = rest.find(['*', '?', '[', '{']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let end = if tail.starts_with("{{") {
            tail.find("}}").map(|end| end + 2)
        } else if tail.starts_with('[') {
            tail.find(']').map(|end| end + 1)
        } else if tail.starts_with('{') {
            tail.find('}').map(|end| end + 1)
        } else {
            Some(1)
        };
        // What is cut out parts two words.
        if !out.is_empty() {
            out.push(' ');
        }
        rest = end.map_or("", |end| &tail[end..]);
    }
    out.push_str(rest);
    Cow::Owned(out.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths_and_globs() {
        for (pattern, name) in [
            ("plan.txt", "plan"),
            ("a/b/Executive Summary.md", "executive_summary"),
            ("wbs.level1.json", "wbs_level1"),
            ("002-raw.json", "_002_raw"),
            ("reviews/*.json", "reviews"),
            ("docs/a*.txt", "a"),
            ("docs/**/*.txt", "docs"),
            ("*.txt", "input"),
            ("reviews/{{ key }}.json", "reviews"),
            ("parts/part-[0-9].md", "part"),
            (".env", "env"),
            ("../shared/brief.txt", "brief"),
        ] {
            assert_eq!(name_of(pattern), name, "{pattern}");
        }
    }
}
