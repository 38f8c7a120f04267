//! The rules of `[task.X.check]`: what a schema cannot say, or not simply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::Value;

use super::hollow::is_hollow;
use super::measure::LONGEST_PATTERN;
use super::{Valid, Violation, ViolationKind, shortened};
use crate::check::inputs::{self as given, Given};
use crate::check::ranges_texts as pieces;
use crate::figures::{self, Ledger};
use crate::items::{canonical, select, steps};
use crate::manifest::types::Check;
use crate::text::{self as words, Phrases};
use planexe_base::style;

/// Why a check cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The key of the check, and within it the pointer.
    pub key: (&'static str, Option<String>),
    /// For a list, which element.
    pub index: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// Something to type.
    pub hint: Option<String>,
}

/// Checks ready to be used.
#[derive(Clone)]
pub struct CompiledCheck {
    check: Arc<Check>,
    matches: Vec<(String, Regex)>,
    words: Arc<WordLists>,
    banned: Arc<Phrases>,
    /// What the rules that look at inputs see; none if the inputs are not at hand.
    given: Option<Arc<Given>>,
}

impl fmt::Debug for CompiledCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledCheck").field("check", &self.check).finish_non_exhaustive()
    }
}

/// The words a check bans and allows, as its files list them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WordLists {
    /// `banned_words`
    pub banned: Vec<String>,
    /// `allowed_words`
    pub allowed: Vec<String>,
}

impl CompiledCheck {
    /// Compiles the checks of a task, with the words its files list.
    pub fn compile(check: &Check, words: &WordLists) -> Result<CompiledCheck, Vec<RuleError>> {
        let mut errors = Vec::new();
        let mut errors_of_refs = Vec::new();
        let mut pointer = |key: &'static str, index: Option<usize>, text: &str| {
            if let Err(error) = steps(text) {
                errors.push(RuleError {
                    key: (key, index.is_none().then(|| text.to_owned())),
                    index,
                    message: error.message,
                    hint: error.hint,
                });
            }
        };
        check.min_items.keys().for_each(|key| pointer("min_items", None, key));
        check.max_items.keys().for_each(|key| pointer("max_items", None, key));
        check.one_of.keys().for_each(|key| pointer("one_of", None, key));
        check.matches.keys().for_each(|key| pointer("matches", None, key));
        check.texts.keys().for_each(|key| pointer("texts", None, key));
        check.facts.iter().for_each(|key| pointer("facts", None, key));
        for (key, source) in &check.refs {
            pointer("refs", None, key);
            let (_, within) = given::ref_parts(source);
            if let Err(error) = steps(within) {
                errors_of_refs.push(RuleError {
                    key: ("refs", Some(key.clone())),
                    index: None,
                    message: format!("of `{source}`: {}", error.message),
                    hint: Some("write \"input:/list/*/id\"; without `input:` it is in the answer".to_owned()),
                });
            }
        }
        check.non_empty.iter().enumerate().for_each(|(index, text)| pointer("non_empty", Some(index), text));
        check.unique.iter().enumerate().for_each(|(index, text)| pointer("unique", Some(index), text));
        check.ranges.iter().enumerate().for_each(|(index, rule)| pointer("ranges", Some(index), &rule.at));
        errors.append(&mut errors_of_refs);
        let mut matches = Vec::new();
        for (at, pattern) in &check.matches {
            if pattern.len() > LONGEST_PATTERN {
                errors.push(RuleError {
                    key: ("matches", Some(at.clone())),
                    index: None,
                    message: format!(
                        "the pattern has {} bytes, at most {LONGEST_PATTERN} can be",
                        pattern.len()
                    ),
                    hint: None,
                });
                continue;
            }
            match RegexBuilder::new(pattern).size_limit(4 << 20).build() {
                Ok(regex) => matches.push((at.clone(), regex)),
                Err(error) => {
                    let text = error.to_string();
                    let last = text.lines().rfind(|line| line.starts_with("error: ")).unwrap_or(&text);
                    errors.push(RuleError {
                        key: ("matches", Some(at.clone())),
                        index: None,
                        message: match &error {
                            regex::Error::CompiledTooBig(limit) => {
                                format!("too large when compiled: more than {} KiB", limit >> 10)
                            }
                            _ => format!("not a regular expression: {}", last.trim_start_matches("error: ")),
                        },
                        hint: None,
                    });
                }
            }
        }
        if errors.is_empty() {
            let banned = Arc::new(Phrases::new(&words.banned, &words.allowed));
            let words = Arc::new(words.clone());
            Ok(CompiledCheck { check: Arc::new(check.clone()), matches, words, banned, given: None })
        } else {
            Err(errors)
        }
    }

    /// Whether a small answer is held against it in no time to speak of. What conditions and ids are taken from may be
    /// large, and so may the list of words.
    pub(super) fn is_quick(&self) -> bool {
        self.check.require.is_empty() && self.check.refs.is_empty() && self.words.banned.len() <= 100
    }

    /// The same rules but those on wording (texts, banned words), which a model is asked for: what somebody else wrote is
    /// worded as it is.
    pub fn without_wording(&self) -> CompiledCheck {
        let mut check = (*self.check).clone();
        check.texts.clear();
        let banned = Arc::new(Phrases::new(&[], &[]));
        CompiledCheck { check: Arc::new(check), words: Arc::default(), banned, ..self.clone() }
    }

    /// The words it bans and allows.
    pub fn words(&self) -> &WordLists {
        &self.words
    }

    /// Whether a rule looks at members of the answer, so that it must be JSON.
    pub fn looks_inside(&self) -> bool {
        let check = &self.check;
        !check.min_items.is_empty()
            || !check.max_items.is_empty()
            || check
                .one_of
                .iter()
                .any(|(at, allowed)| !at.is_empty() || !allowed.iter().all(Value::is_string))
            || check.non_empty.iter().any(|at| !at.is_empty())
            || check.unique.iter().any(|at| !at.is_empty())
            || check.matches.keys().any(|at| !at.is_empty())
            || check.require.iter().any(given::looks_inside)
            || check.facts.is_some()
            || check.texts.keys().any(|at| !at.is_empty())
            || !(check.refs.is_empty() && check.ranges.is_empty())
    }

    /// The names of inputs, `vars` and `item` that rules look at; of members the whole path.
    pub fn names(&self) -> BTreeSet<String> {
        given::names(&self.check)
    }

    /// The same rules with what they look at, and a text that differs if that differs. None if no
    /// rule looks at anything but the answer.
    pub fn with(&self, context: &BTreeMap<String, minijinja::Value>) -> Option<(CompiledCheck, String)> {
        let given = Given::of(&self.check, context)?;
        let text = given.canonical();
        Some((CompiledCheck { given: Some(Arc::new(given)), ..self.clone() }, text))
    }

    /// What an answer does not satisfy.
    pub fn violations(&self, answer: &Valid) -> Vec<Violation> {
        let check = &self.check;
        let whole = Value::String(answer.text.trim().to_owned());
        let root = answer.value.as_ref().unwrap_or(&whole);
        let mut found = Vec::new();
        for (pointer, &least) in &check.min_items {
            at_least(pointer, least, root, &mut found);
        }
        for (pointer, &most) in &check.max_items {
            at_most(pointer, most, root, &mut found);
        }
        for pointer in &check.non_empty {
            non_empty(pointer, root, &mut found);
        }
        for (pointer, allowed) in &check.one_of {
            one_of(pointer, allowed, root, &mut found);
        }
        for pointer in &check.unique {
            unique(pointer, root, &mut found);
        }
        if check.min_words.is_some() || check.max_words.is_some() {
            let count = words_of(answer);
            if let Some(least) = check.min_words.filter(|&least| count < least) {
                found.push(broken(
                    "",
                    format!("has {}, wanted at least {least}", style::count(count, "word")),
                ));
            }
            if let Some(most) = check.max_words.filter(|&most| count > most) {
                found.push(broken("", format!("has {}, wanted at most {most}", style::count(count, "word"))));
            }
        }
        for (pointer, regex) in &self.matches {
            matches(pointer, regex, answer, root, &mut found);
        }
        pieces::ranges(&check.ranges, root, &mut found);
        pieces::texts(&check.texts, root, &mut found);
        if let Some(pointer) = &check.facts {
            facts(pointer, root, &mut found);
        }
        if check.arithmetic {
            arithmetic(root, "", &mut found);
        }
        given::refs(&check.refs, self.given.as_deref(), root, &mut found);
        given::requirements(&check.require, self.given.as_deref(), answer, &mut found);
        banned(&self.banned, answer, &mut found);
        found
    }
}

/// A made-up answer passes the rules on ids, estimates, texts, allowed values and common patterns.
impl planexe_llm::Adjust for CompiledCheck {
    fn adjust(&self, value: &mut Value, pick: &mut dyn FnMut(usize) -> usize) {
        given::mend_refs(&self.check.refs, self.given.as_deref(), value, pick);
        pieces::mend_ranges(&self.check.ranges, value);
        pieces::mend_texts(&self.check.texts, value);
        for (pointer, allowed) in &self.check.one_of {
            let mut wrong = Vec::new();
            one_of(pointer, allowed, value, &mut wrong);
            for Violation { path, .. } in wrong {
                if let Some(value) = value.pointer_mut(&path).filter(|_| !allowed.is_empty()) {
                    *value = allowed[pick(allowed.len())].clone();
                }
            }
        }
        for (pointer, regex) in &self.matches {
            let found = select(value, pointer).unwrap_or_default();
            let wrong =
                found.iter().filter(|(_, value)| value.as_str().is_some_and(|text| !regex.is_match(text)));
            let places: Vec<String> = wrong.map(|(path, _)| path.clone()).collect();
            for place in places {
                let day = format!("2027-{:02}-{:02}", pick(12) + 1, pick(28) + 1);
                let number = pick(100).to_string();
                // What patterns mostly ask for: a day, a month, a year, a time, a number, a slug, a word.
                let tries = [&day, &day[..7], &day[..4], "09:30", &number, "first-word", "word", "WORD", ""];
                if let Some(fits) = tries.into_iter().find(|text| regex.is_match(text))
                    && let Some(value) = value.pointer_mut(&place)
                {
                    *value = Value::from(fits);
                }
            }
        }
    }
}

/// `check.arithmetic`: what the texts of an answer state adds up.
fn arithmetic(value: &Value, path: &str, found: &mut Vec<Violation>) {
    match value {
        Value::String(text) => found.extend(figures::arithmetic(text).into_iter().map(|fault| {
            let line = if text.contains('\n') { format!("line {}: ", fault.line) } else { String::new() };
            broken(path, format!("{line}{}", fault.message)).found(&Value::from(fault.said))
        })),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, item)| arithmetic(item, &format!("{path}/{n}"), found));
        }
        Value::Object(members) => {
            let step = |key: &str| key.replace('~', "~0").replace('/', "~1");
            members.iter().for_each(|(key, item)| arithmetic(item, &format!("{path}/{}", step(key)), found));
        }
        _ => {}
    }
}

/// `check.facts`: facts agree with their formulas, units, ranges and dates.
fn facts(pointer: &str, root: &Value, found: &mut Vec<Violation>) {
    let lists = at(root, pointer);
    if lists.is_empty() {
        found.push(broken(pointer, "wanted a list of facts, and nothing is there".to_owned()));
    }
    for (path, list) in lists {
        let faults = Ledger::read(list).err().unwrap_or_default();
        found.extend(faults.into_iter().map(|fault| {
            let member = if fault.member.is_empty() { String::new() } else { format!("/{}", fault.member) };
            let place =
                if list.is_array() { format!("{path}/{}{member}", fault.index) } else { path.clone() };
            broken(&place, fault.message)
        }));
    }
}

fn broken(path: &str, message: String) -> Violation {
    Violation::new(path, ViolationKind::Check, message)
}

/// The values a pointer leads to, each with its own pointer.
fn at<'a>(root: &'a Value, pointer: &str) -> Vec<(String, &'a Value)> {
    select(root, pointer).unwrap_or_default()
}

/// How many items a list or object has; none of anything else.
fn length(value: &Value) -> Option<u64> {
    match value {
        Value::Array(list) => Some(list.len() as u64),
        Value::Object(members) => Some(members.len() as u64),
        _ => None,
    }
}

fn items(limit: u64) -> &'static str {
    if limit == 1 { "item" } else { "items" }
}

fn at_least(pointer: &str, least: u64, root: &Value, found: &mut Vec<Violation>) {
    let values = at(root, pointer);
    if values.is_empty() && !pointer.contains('*') {
        let wanted = format!("wanted a list of at least {least} {}", items(least));
        found.push(Violation::new(pointer, ViolationKind::Missing, wanted));
    }
    for (path, value) in values {
        match length(value) {
            None => found.push(broken(&path, "wanted a list".to_owned()).found(value)),
            Some(count) if count < least => {
                found.push(broken(&path, format!("has {count}, wanted at least {least} {}", items(least))));
            }
            Some(_) => {}
        }
    }
}

fn at_most(pointer: &str, most: u64, root: &Value, found: &mut Vec<Violation>) {
    for (path, value) in at(root, pointer) {
        match length(value) {
            None => found.push(broken(&path, "wanted a list".to_owned()).found(value)),
            Some(count) if count > most => {
                found.push(broken(&path, format!("has {count}, wanted at most {most} {}", items(most))));
            }
            Some(_) => {}
        }
    }
}

fn non_empty(pointer: &str, root: &Value, found: &mut Vec<Violation>) {
    let values = at(root, pointer);
    if values.is_empty() && !pointer.contains('*') {
        found.push(Violation::new(pointer, ViolationKind::Missing, "must be there and not be empty"));
    }
    for (path, value) in values.into_iter().filter(|(_, value)| is_hollow(value)) {
        found.push(broken(&path, "is empty or a placeholder, wanted content".to_owned()).found(value));
    }
}

fn one_of(pointer: &str, allowed: &[Value], root: &Value, found: &mut Vec<Violation>) {
    // A model writes `1.0` where 1 is allowed, and means it.
    let same = |a: &Value, b: &Value| a == b || a.as_f64().is_some_and(|number| b.as_f64() == Some(number));
    let is_allowed = |value: &Value| allowed.iter().any(|one| same(one, value));
    for (path, value) in at(root, pointer).into_iter().filter(|(_, value)| !is_allowed(value)) {
        let list = allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        found.push(broken(&path, format!("wanted one of {}", shortened(&list))).found(value));
    }
}

fn unique(pointer: &str, root: &Value, found: &mut Vec<Violation>) {
    let mut values = at(root, pointer);
    // A pointer to a list means its elements.
    if let [(path, Value::Array(list))] = values.as_slice() {
        values = list.iter().enumerate().map(|(index, item)| (format!("{path}/{index}"), item)).collect();
    }
    let mut seen: HashMap<String, String> = HashMap::new();
    for (path, value) in values {
        let key = match value {
            Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase(),
            other => canonical(other),
        };
        if let Some(first) = seen.get(&key) {
            let message = format!("is the same as `{first}`, wanted values that differ");
            found.push(broken(&path, message).found(value));
        } else {
            seen.insert(key, path);
        }
    }
}

fn matches(pointer: &str, regex: &Regex, answer: &Valid, root: &Value, found: &mut Vec<Violation>) {
    let wanted = || format!("wanted text that matches `{}`", shortened(regex.as_str()));
    if pointer.is_empty() {
        if !regex.is_match(answer.text.trim_end()) {
            found.push(broken("", wanted()));
        }
        return;
    }
    for (path, value) in at(root, pointer) {
        let fits = match value {
            Value::String(text) => regex.is_match(text),
            other => regex.is_match(&other.to_string()),
        };
        if !fits {
            found.push(broken(&path, wanted()).found(value));
        }
    }
}

/// The first place of each word that is not allowed.
fn banned(phrases: &Phrases, answer: &Valid, found: &mut Vec<Violation>) {
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut look = |path: &str, text: &str| {
        for (word, hit) in phrases.found_in(text) {
            if told.insert(word.to_owned()) {
                let near = Value::String(around(text, hit));
                found.push(broken(path, format!("contains `{word}`, which is not allowed")).found(&near));
            }
        }
    };
    match &answer.value {
        None => look("", &answer.text),
        Some(value) => strings(value, &mut String::new(), &mut look),
    }
}

/// The words around a place.
fn around(text: &str, hit: Range<usize>) -> String {
    let start = text[..hit.start].char_indices().rev().nth(30).map_or(0, |(at, _)| at);
    let end = text[hit.end..].char_indices().nth(30).map_or(text.len(), |(at, _)| hit.end + at);
    text[start..end].to_owned()
}

/// Calls back with every string of a value and its pointer.
fn strings(value: &Value, path: &mut String, found: &mut dyn FnMut(&str, &str)) {
    let length = path.len();
    match value {
        Value::String(text) => found(path, text),
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                path.push_str(&format!("/{index}"));
                strings(item, path, found);
                path.truncate(length);
            }
        }
        Value::Object(members) => {
            for (key, item) in members {
                path.push('/');
                path.push_str(&crate::items::escape(key));
                strings(item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The words of an answer: of its text, or of all strings in its JSON.
fn words_of(answer: &Valid) -> u64 {
    match &answer.value {
        None => words::count(&answer.text),
        Some(value) => {
            let mut count = 0;
            strings(value, &mut String::new(), &mut |_, text| count += words::count(text));
            count
        }
    }
}

#[cfg(test)]
mod tests;
