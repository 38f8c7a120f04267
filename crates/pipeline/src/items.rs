//! The items of a fan-out: found in a JSON value, named by keys that are safe in paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde_json::Value;

/// Why a list of items or their keys could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// What was found and wanted.
    pub message: String,
    /// Something to do about it.
    pub hint: Option<String>,
}

impl ItemError {
    fn new(message: impl Into<String>) -> ItemError {
        ItemError { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> ItemError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ItemError {}

/// A value with the JSON pointer that leads to it.
type Found<'a> = (String, &'a Value);

/// The items at a JSON pointer, in which `*` stands for every element (or member). A pointer that
/// ends in `*` gives those elements; any other must lead to lists, whose elements are the items.
pub fn items<'a>(value: &'a Value, pointer: Option<&str>) -> Result<Vec<&'a Value>, ItemError> {
    let steps = steps(pointer.unwrap_or(""))?;
    let mut here: Vec<Found<'_>> = vec![(String::new(), value)];
    for step in &steps {
        let mut next = Vec::new();
        for (at, value) in here {
            next.extend(follow(&at, value, step).ok_or_else(|| leads_nowhere(&at, value, step))?);
        }
        here = next;
    }
    if steps.last().is_some_and(|step| step == "*") {
        return Ok(here.into_iter().map(|(_, value)| value).collect());
    }
    let mut found = Vec::new();
    for (at, value) in here {
        match value {
            Value::Array(list) => found.extend(list),
            other => return Err(not_a_list(&at, other)),
        }
    }
    Ok(found)
}

/// The values a JSON pointer with `*` leads to, each with its own pointer; what is not there is
/// passed over.
pub fn select<'a>(value: &'a Value, pointer: &str) -> Result<Vec<(String, &'a Value)>, ItemError> {
    let mut here: Vec<Found<'_>> = vec![(String::new(), value)];
    for step in steps(pointer)? {
        here = here.iter().filter_map(|(at, value)| follow(at, value, &step)).flatten().collect();
    }
    Ok(here)
}

/// Where a step of a pointer leads from a value at `at`: `*` to each of its elements or members, any other
/// to one. None if there is nothing of that name.
fn follow<'a>(at: &str, value: &'a Value, step: &str) -> Option<Vec<Found<'a>>> {
    let member = |(key, value): (&String, &'a Value)| (format!("{at}/{}", short(&escape(key))), value);
    let element = |(index, value): (usize, &'a Value)| (format!("{at}/{index}"), value);
    match value {
        Value::Array(list) if step == "*" => Some(list.iter().enumerate().map(element).collect()),
        Value::Object(members) if step == "*" && !members.contains_key("*") => {
            Some(members.iter().map(member).collect())
        }
        Value::Array(list) => {
            let index = step.parse::<usize>().ok()?;
            Some(vec![element((index, list.get(index)?))])
        }
        Value::Object(members) => Some(vec![member(members.get_key_value(step)?)]),
        _ => None,
    }
}

/// A step of a pointer as it is told: a key may be a page, and is told with each of thousands of members.
fn short(step: &str) -> &str {
    match step.char_indices().nth(LONGEST_STEP) {
        Some((end, _)) => &step[..end],
        None => step,
    }
}

/// Why a step leads nowhere from a value.
fn leads_nowhere(at: &str, value: &Value, step: &str) -> ItemError {
    match value {
        Value::Object(members) => {
            let error = ItemError::new(format!("no `{step}` in {}", place(at)));
            match crate::manifest::suggest(step, members.keys().map(String::as_str)) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        Value::Array(list) => {
            let length = list.len();
            ItemError::new(format!("{} is a list of {length}, which has no `{step}`", place(at)))
                .hint("`*` stands for every element")
        }
        other => ItemError::new(format!("{} is {}, which has no `{step}`", place(at), kind(other))),
    }
}

/// What to say of a value that should have been a list of items.
fn not_a_list(at: &str, value: &Value) -> ItemError {
    let error = ItemError::new(format!("{} is {}, wanted a list", place(at), kind(value)));
    let Value::Object(members) = value else { return error };
    match members.iter().find(|(_, value)| value.is_array()) {
        Some((key, _)) => error.hint(format!("did you mean `items = \"{at}/{}\"`?", escape(key))),
        None => error.hint(format!("`items = \"{at}/*\"` takes its members")),
    }
}

/// The steps of a JSON pointer.
pub fn steps(pointer: &str) -> Result<Vec<String>, ItemError> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err(ItemError::new(format!("`{pointer}` is not a JSON pointer: it does not start with `/`"))
            .hint(format!("did you mean \"/{}\"?", pointer.trim_start_matches("$.").replace('.', "/"))));
    };
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

/// A key as a step of a JSON pointer.
pub fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

fn place(at: &str) -> String {
    if at.is_empty() { "the file".to_owned() } else { format!("`{at}`") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Groups of `size` items, each a list; the last may be smaller.
pub fn batches(items: &[&Value], size: usize) -> Vec<Value> {
    items
        .chunks(size.max(1))
        .map(|chunk| Value::Array(chunk.iter().map(|item| (*item).clone()).collect()))
        .collect()
}

/// A value as canonical JSON: keys sorted, no spaces. What counts as an instance's input.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// The first `digits` hex digits of a text's blake3.
fn digest(text: &str, digits: usize) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..digits].to_owned()
}

/// The most items of one fan-out. Each is a task that takes about 7 KB: a million would take 7 GB.
pub const MOST: usize = 200_000;

fn bounded(count: usize) -> Result<(), ItemError> {
    if count > MOST {
        return Err(ItemError::new(format!("they are {count}, more than {MOST}")));
    }
    Ok(())
}

/// The keys of items: a member's value, or 12 hex digits of the item's digest. Made safe for paths,
/// all different, in the order of the items. Two items with one key are an error that names both.
pub fn keys(items: &[&Value], member: Option<&str>) -> Result<Vec<String>, ItemError> {
    let hint = "`batch = 100` makes a task of every hundred";
    bounded(items.len()).map_err(|error| error.hint(hint))?;
    let raw = items
        .iter()
        .enumerate()
        .map(|(index, item)| match member {
            None => Ok(digest(&canonical(item), 12)),
            Some(member) => member_key(item, member, index),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, key) in raw.iter().enumerate() {
        if let Some(first) = seen.insert(key, index) {
            return Err(match member {
                Some(member) => ItemError::new(format!(
                    "items {first} and {index} have the same `{member}`, `{}`",
                    crate::manifest::diagnostic::printable(key)
                ))
                .hint("keys must differ: name another member with `key`, or leave `key` out"),
                None => ItemError::new(format!("items {first} and {index} are the same"))
                    .hint("remove one of the two from the list"),
            });
        }
    }
    distinct(&raw)
}

/// The keys of the files a glob matched: the part of each path that the pattern leaves open.
pub fn file_keys(pattern: &str, paths: &[&str]) -> Result<Vec<String>, ItemError> {
    bounded(paths.len())?;
    let wild = pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len());
    let prefix = pattern[..wild].rfind('/').map_or("", |at| &pattern[..at + 1]);
    let last = pattern.rfind(['*', '?', ']', '}']).map_or("", |at| &pattern[at + 1..]);
    let suffix = if last.contains('/') { "" } else { last };
    let raw: Vec<String> = paths
        .iter()
        .map(|path| {
            let open = path.strip_prefix(prefix).unwrap_or(path);
            let open = open.strip_suffix(suffix).filter(|open| !open.is_empty()).unwrap_or(open);
            open.to_owned()
        })
        .collect();
    let same: BTreeSet<&String> = raw.iter().collect();
    if same.len() < raw.len() {
        return distinct(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    }
    distinct(&raw)
}

fn member_key(item: &Value, member: &str, index: usize) -> Result<String, ItemError> {
    let found = if member.starts_with('/') { item.pointer(member) } else { item.get(member) };
    let wanted = "`key` names a member of every item that is a string or a number";
    match found {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(truth)) => Ok(truth.to_string()),
        Some(other) => {
            Err(ItemError::new(format!("`{member}` of item {index} is {}", kind(other))).hint(wanted))
        }
        None => {
            let error = match item {
                Value::Object(_) => ItemError::new(format!("item {index} has no `{member}`")),
                other => ItemError::new(format!("item {index} is {}, which has no `{member}`", kind(other))),
            };
            let near = match item {
                Value::Object(members) => {
                    crate::manifest::suggest(member, members.keys().map(String::as_str))
                }
                _ => None,
            };
            Err(error.hint(near.unwrap_or_else(|| wanted.to_owned())))
        }
    }
}

/// Longest step of a pointer as it is told.
const LONGEST_STEP: usize = 1000;

/// Longest key before its digest.
const LONGEST_KEY: usize = 100;

/// A key reduced to what is safe in a path: `[A-Za-z0-9._-]`, no `.` or `-` first. It may come out
/// empty, or equal to another's: [`keys`] sees to that.
pub fn sanitize_key(key: &str) -> String {
    let mut out = String::new();
    for c in key.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_start_matches(['.', '-']);
    out.chars().take(LONGEST_KEY).collect()
}

/// Safe keys for different raw ones: a key changed or colliding gets 8 hex digits of its digest.
fn distinct(raw: &[String]) -> Result<Vec<String>, ItemError> {
    let reduced: Vec<String> = raw.iter().map(|key| sanitize_key(key)).collect();
    let sidecar = |key: &str| {
        let lower = key.to_lowercase();
        [".done", ".status", "done", "status"].iter().any(|end| lower == *end)
            || lower.ends_with(".done")
            || lower.ends_with(".status")
    };
    let mut suffixed: Vec<bool> = raw
        .iter()
        .zip(&reduced)
        .map(|(raw, reduced)| reduced.is_empty() || raw != reduced || sidecar(reduced))
        .collect();
    let named = |index: usize, suffixed: &[bool]| {
        if !suffixed[index] {
            return reduced[index].clone();
        }
        let base = reduced[index].trim_end_matches(['.', '-']);
        let digits = digest(&raw[index], 8);
        if base.is_empty() { digits } else { format!("{base}-{digits}") }
    };
    // A suffix may itself make a key equal to one that had none, so it is looked at again.
    for _ in 0..3 {
        let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
        for index in 0..raw.len() {
            seen.entry(named(index, &suffixed).to_lowercase()).or_default().push(index);
        }
        let mut clash = false;
        for indices in seen.into_values().filter(|indices| indices.len() > 1) {
            clash = true;
            for index in indices {
                suffixed[index] = true;
            }
        }
        if !clash {
            return Ok((0..raw.len()).map(|index| named(index, &suffixed)).collect());
        }
    }
    Err(ItemError::new("two items have keys that cannot be told apart")
        .hint("name another member with `key`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_by_pointer() {
        let value = json!({"experts": [1, 2], "teams": [{"m": [3, 4]}, {"m": [5]}], "by": {"a": {"n": 1}, "b": {"n": 2}}});
        let get = |pointer| items(&value, Some(pointer)).map(|found| json!(found));
        assert_eq!(get("/experts"), Ok(json!([1, 2])));
        assert_eq!(get("/experts/*"), Ok(json!([1, 2])));
        assert_eq!(get("/teams/*/m"), Ok(json!([3, 4, 5])));
        assert_eq!(get("/by/*"), Ok(json!([{"n": 1}, {"n": 2}])));
        assert_eq!(get("/by/*/n/x").unwrap_err().message, "`/by/a/n` is a number, which has no `x`");
        assert_eq!(get("/expert").unwrap_err().hint.unwrap(), "did you mean `experts`?");
        assert_eq!(get("").unwrap_err().hint.unwrap(), "did you mean `items = \"/experts\"`?");
        assert_eq!(get("experts").unwrap_err().hint.unwrap(), "did you mean \"/experts\"?");
        assert_eq!(get("/teams/1/m"), Ok(json!([5])));
        let missing = get("/teams/2/m").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "`/teams` is a list of 2, which has no `2`; `*` stands for every element"
        );
        assert_eq!(get("/by/a").unwrap_err().hint.unwrap(), "`items = \"/by/a/*\"` takes its members");
        assert_eq!(items(&json!([1]), None).unwrap(), [&json!(1)]);
        assert_eq!(items(&json!({"a": []}), Some("/a")).unwrap(), Vec::<&Value>::new());
    }

    #[test]
    fn what_is_not_there_is_passed_over() {
        let value = json!({"a/b": [{"n": 1}, {"m": 2}, {"n": null}], "by": {"x": {"n": "3"}, "y": true}});
        let found = |pointer| {
            let all = select(&value, pointer).unwrap();
            all.into_iter().map(|(at, value)| format!("{at} = {value}")).collect::<Vec<_>>()
        };
        assert_eq!(found("/a~1b/*/n"), ["/a~1b/0/n = 1", "/a~1b/2/n = null"]);
        assert_eq!(found("/a~1b/1"), ["/a~1b/1 = {\"m\":2}"]);
        assert_eq!(found("/by/*/n"), ["/by/x/n = \"3\""]);
        assert_eq!(found("/by/*"), ["/by/x = {\"n\":\"3\"}", "/by/y = true"]);
        for nothing in ["/c", "/a~1b/9", "/a~1b/x", "/by/y/z"] {
            assert!(found(nothing).is_empty(), "{nothing}");
        }
        assert!(select(&value, "by").is_err());
        for (value, wanted) in
            [(json!(null), "null"), (json!(true), "a truth value"), (json!("x"), "a string")]
        {
            let error = items(&value, None).unwrap_err();
            assert_eq!(error.message, format!("the file is {wanted}, wanted a list"));
        }
    }

    fn keys_of(names: &[&str]) -> Result<Vec<String>, ItemError> {
        let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        keys(&items.iter().collect::<Vec<_>>(), Some("name"))
    }

    #[test]
    fn keys_are_safe_and_differ() {
        assert_eq!(keys_of(&["a", "b.c", "d_e-f"]).unwrap(), ["a", "b.c", "d_e-f"]);
        let odd = keys_of(&["Dr. Jane Doe", "../../etc", "日本", "x.DONE", ".hidden", "-rf", "a/b", "a\\b"])
            .unwrap();
        for key in &odd {
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{key}");
            assert!(!key.starts_with(['.', '-']) && !key.ends_with(".DONE"), "{key}");
        }
        assert!(odd[0].starts_with("Dr.-Jane-Doe-"));
        let clash = keys_of(&["Anna", "anna"]).unwrap();
        assert_ne!(clash[0].to_lowercase(), clash[1].to_lowercase());
        let long = keys_of(&[&"x".repeat(500)]).unwrap();
        assert_eq!(long[0].len(), LONGEST_KEY + 9);
        // A key that looks like another's with its suffix.
        let first = keys_of(&["a b", "z"]).unwrap();
        let both = keys_of(&["a b", &first[0]]).unwrap();
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn duplicates_name_both_items() {
        assert!(keys_of(&["a", "b", "a"]).unwrap_err().message.contains("items 0 and 2"));
        let same = [json!({"x": 1, "y": 2}), json!({"y": 2, "x": 1})];
        let error = keys(&same.iter().collect::<Vec<_>>(), None).unwrap_err();
        assert_eq!(error.message, "items 0 and 1 are the same");
        let other = [json!(1), json!(2)];
        let digests = keys(&other.iter().collect::<Vec<_>>(), None).unwrap();
        assert!(digests.iter().all(|key| key.len() == 12));
        assert!(keys(&[&json!({"a": 1})], Some("name")).is_err());
        assert!(keys(&[&json!({"name": [1]})], Some("name")).is_err());
    }

    #[test]
    fn canonical_json_has_one_form() {
        assert_eq!(
            canonical(&json!({"b": [1, {"d": null, "c": "ü\n"}], "a": 1.5})),
            r#"{"a":1.5,"b":[1,{"c":"ü\n","d":null}]}"#
        );
    }

    #[test]
    fn a_fan_out_has_a_limit() {
        let values: Vec<Value> = (0..=MOST).map(Value::from).collect();
        let all: Vec<&Value> = values.iter().collect();
        let error = keys(&all, None).unwrap_err();
        assert_eq!(error.message, "they are 200001, more than 200000");
        let paths = vec!["docs/a.txt"; MOST + 1];
        assert_eq!(file_keys("docs/*.txt", &paths).unwrap_err().message, error.message);
        // In batches they are few.
        let batched = batches(&all, 100);
        assert_eq!(keys(&batched.iter().collect::<Vec<_>>(), None).unwrap().len(), 2001);
    }

    #[test]
    fn keys_of_files() {
        assert_eq!(file_keys("docs/*.txt", &["docs/a.txt", "docs/b.txt"]).unwrap(), ["a", "b"]);
        let deep = file_keys("docs/**/*.txt", &["docs/a.txt", "docs/x/a.txt"]).unwrap();
        assert_eq!(deep[0], "a");
        assert!(deep[1].starts_with("x-a-"));
    }

    #[test]
    fn batches_keep_the_rest() {
        let items = [json!(1), json!(2), json!(3)];
        assert_eq!(batches(&items.iter().collect::<Vec<_>>(), 2), [json!([1, 2]), json!([3])]);
    }
}
