//! Rules on pieces of an answer: estimates whose bounds make sense, texts that are concrete.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde_json::Value;

use super::hollow::is_hollow;
use super::{Violation, ViolationKind};
use crate::items::select;
use crate::manifest::types::{RangeRule, TextRule};
use crate::text as words;
use planexe_base::style;

fn broken(path: &str, message: String) -> Violation {
    Violation::new(path, ViolationKind::Check, message)
}

/// `check.ranges`: bounds present, in order, within limits, not so far apart that they say nothing,
/// and resting on something.
pub(super) fn ranges(rules: &[RangeRule], root: &Value, found: &mut Vec<Violation>) {
    for rule in rules {
        let estimates = select(root, &rule.at).unwrap_or_default();
        if estimates.is_empty() && !rule.at.contains('*') {
            found.push(Violation::new(
                &rule.at,
                ViolationKind::Missing,
                "wanted an estimate with its bounds",
            ));
        }
        for (path, estimate) in estimates {
            range(rule, &path, estimate, found);
        }
    }
}

fn range(rule: &RangeRule, path: &str, estimate: &Value, found: &mut Vec<Violation>) {
    let mut member = |name: &str| {
        let at = format!("{path}/{name}");
        let value = estimate.get(name).unwrap_or(&Value::Null);
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        };
        if number.is_none() {
            let kind = if value.is_null() { ViolationKind::Missing } else { ViolationKind::Check };
            found.push(Violation::new(at, kind, "wanted a number").found(value));
        }
        number
    };
    let (low, high) = (member(&rule.low), member(&rule.high));
    let likely = rule.likely.as_deref().map(&mut member);
    if let Some(evidence) = &rule.evidence
        && estimate.get(evidence).is_none_or(is_hollow)
    {
        let message = "is empty or a placeholder, wanted what the estimate rests on".to_owned();
        found.push(broken(&format!("{path}/{evidence}"), message));
    }
    let (Some(low), Some(high)) = (low, high) else { return };
    let (low_at, high_at) = (format!("{path}/{}", rule.low), format!("{path}/{}", rule.high));
    if let Some(least) = rule.min.filter(|&least| low < least) {
        found.push(broken(&low_at, format!("is {low}, wanted at least {least}")));
    }
    if let Some(most) = rule.max.filter(|&most| high > most) {
        found.push(broken(&high_at, format!("is {high}, wanted at most {most}")));
    }
    if low > high {
        found.push(broken(&high_at, format!("is {high}, below `{}`, which is {low}", rule.low)));
        return;
    }
    if let (Some(name), Some(Some(likely))) = (&rule.likely, likely)
        && !(low..=high).contains(&likely)
    {
        let message = format!("is {likely}, wanted from {low} (`{}`) to {high} (`{}`)", rule.low, rule.high);
        found.push(broken(&format!("{path}/{name}"), message));
    }
    if let Some(ratio) = rule.max_ratio
        && low > 0.0
        && high / low > ratio
    {
        let message = format!(
            "is {high}, {:.0} times `{}`, wanted at most {ratio} times: so wide a range says nothing",
            high / low,
            rule.low
        );
        found.push(broken(&high_at, message));
    }
}

/// Makes the bounds of a made-up answer fit: in order, within the limits, not too far apart.
pub(super) fn mend_ranges(rules: &[RangeRule], root: &mut Value) {
    for rule in rules {
        let found = select(root, &rule.at).unwrap_or_default();
        let places: Vec<String> = found.into_iter().map(|(path, _)| path).collect();
        for place in places {
            let Some(Value::Object(estimate)) = root.pointer_mut(&place) else { continue };
            let number = |name: &String| estimate.get(name).and_then(Value::as_f64).unwrap_or(1.0);
            let mut all = [number(&rule.low), rule.likely.as_ref().map_or(1.0, number), number(&rule.high)];
            all.sort_by(f64::total_cmp);
            let low = all[0].max(rule.min.unwrap_or(all[0]));
            let most = rule.max.unwrap_or(f64::MAX).min(low * rule.max_ratio.unwrap_or(f64::MAX));
            let high = if low > 0.0 { all[2].max(low).min(most) } else { all[2].max(low) };
            let likely = all[1].clamp(low, high.max(low));
            for (name, value) in
                [(Some(&rule.low), low), (rule.likely.as_ref(), likely), (Some(&rule.high), high)]
            {
                if let Some(name) = name {
                    let whole = value.fract() == 0.0;
                    let value = if whole { Value::from(value as i64) } else { Value::from(value) };
                    estimate.insert(name.clone(), value);
                }
            }
        }
    }
}

/// Makes the texts of a made-up answer long and short enough, with a number where one is wanted.
pub(super) fn mend_texts(rules: &IndexMap<String, TextRule>, root: &mut Value) {
    for (pointer, rule) in rules {
        let found = select(root, pointer).unwrap_or_default();
        let mut places: Vec<String> = Vec::new();
        for (path, value) in found {
            match value {
                Value::Array(list) => places.extend((0..list.len()).map(|n| format!("{path}/{n}"))),
                _ => places.push(path),
            }
        }
        for (n, place) in places.iter().enumerate() {
            let Some(Value::String(text)) = root.pointer_mut(place) else { continue };
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            if rule.number {
                words.push((n + 1).to_string());
            }
            while (words.len() as u64) < rule.min_words.unwrap_or(0) {
                words.push(format!("point{}", n * 100 + words.len()));
            }
            let most = rule.max_words.unwrap_or(u64::MAX).max(1) as usize;
            let cut = words.len().saturating_sub(most);
            words.drain(..cut);
            *text = words.join(" ");
        }
    }
}

/// `check.texts`: long enough to say something, short enough to be read, with a number where one is
/// wanted, and not the same words again in the next of the list.
pub(super) fn texts(rules: &IndexMap<String, TextRule>, root: &Value, found: &mut Vec<Violation>) {
    for (pointer, rule) in rules {
        // A pointer to a list means its elements.
        let mut texts: Vec<(String, &str)> = Vec::new();
        for (path, value) in select(root, pointer).unwrap_or_default() {
            let elements: Vec<(String, &Value)> = match value {
                Value::Array(list) => {
                    list.iter().enumerate().map(|(n, item)| (format!("{path}/{n}"), item)).collect()
                }
                other => vec![(path, other)],
            };
            for (path, value) in elements {
                match value {
                    Value::String(text) => texts.push((path, text)),
                    other => found.push(broken(&path, "wanted a text".to_owned()).found(other)),
                }
            }
        }
        for (path, text) in &texts {
            let count = words::count(text);
            let has = || format!("has {}", style::count(count, "word"));
            if let Some(least) = rule.min_words.filter(|&least| count < least) {
                let message = format!("{}, wanted at least {least}: what exactly is done?", has());
                found.push(broken(path, message).found(&Value::from(*text)));
            }
            if let Some(most) = rule.max_words.filter(|&most| count > most) {
                found.push(broken(path, format!("{}, wanted at most {most}", has())));
            }
            if rule.number && !text.contains(|c: char| c.is_numeric()) {
                let message = "names no number; wanted an amount, a date or a count".to_owned();
                found.push(broken(path, message).found(&Value::from(*text)));
            }
        }
        if let Some(most) = rule.alike {
            too_alike(&texts, most, found);
        }
    }
}

/// Texts beside each other in one list that have more than a share of their words in common.
fn too_alike(texts: &[(String, &str)], most: f64, found: &mut Vec<Violation>) {
    let list = |path: &str| path.rsplit_once('/').map_or(String::new(), |(list, _)| list.to_owned());
    let words: Vec<(String, BTreeSet<String>)> =
        texts.iter().map(|(path, text)| (list(path), words::distinct(text))).collect();
    for (n, (here, mine)) in words.iter().enumerate() {
        for (m, (there, theirs)) in words[..n].iter().enumerate() {
            if here != there {
                continue;
            }
            let all = mine.union(theirs).count();
            let shared = mine.intersection(theirs).count() as f64 / all.max(1) as f64;
            if all > 0 && shared > most {
                let message = format!(
                    "has {:.0}% of its words in common with `{}`, wanted at most {:.0}%: two that differ",
                    shared * 100.0,
                    texts[m].0,
                    most * 100.0
                );
                found.push(broken(&texts[n].0, message).found(&Value::from(texts[n].1)));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{CompiledCheck, WordLists, validate};
    use crate::manifest::types::Check;
    use planexe_llm::Adjust as _;
    use serde_json::json;

    fn wrong(check: Value, answer: Value) -> Vec<String> {
        let check: Check = serde_json::from_value(check).unwrap();
        let compiled = CompiledCheck::compile(&check, &WordLists::default()).unwrap();
        let found = validate(&answer.to_string(), None, Some(&compiled)).err().unwrap_or_default();
        found.into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn estimates() {
        let rule = json!({"ranges": [{
            "at": "/e/*", "low": "lo", "likely": "mid", "high": "hi", "min": 1, "max": 500, "max_ratio": 10, "evidence": "why",
        }]});
        for (estimate, paths) in [
            (json!({"lo": 2, "mid": 3, "hi": 9, "why": "two offers"}), vec![]),
            (json!({"lo": "2", "mid": 2, "hi": " 20 ", "why": "two offers"}), vec![]),
            (json!({"lo": 2, "mid": 3, "hi": 21, "why": "x"}), vec!["/e/0/hi"]),
            (json!({"lo": 9, "mid": 9, "hi": 8, "why": "x"}), vec!["/e/0/hi"]),
            (json!({"lo": 2, "mid": 10, "hi": 9, "why": "x"}), vec!["/e/0/mid"]),
            (json!({"lo": 0, "mid": 1, "hi": 2, "why": "x"}), vec!["/e/0/lo"]),
            (json!({"lo": 90, "mid": 99, "hi": 501, "why": "x"}), vec!["/e/0/hi"]),
            (json!({"lo": 2, "mid": 3, "hi": 9, "why": "TBD"}), vec!["/e/0/why"]),
            (json!({"lo": 2, "mid": 3, "hi": 9}), vec!["/e/0/why"]),
            (json!({"lo": "few", "hi": 9, "why": "x"}), vec!["/e/0/lo", "/e/0/mid"]),
            (json!("three"), vec!["/e/0/lo", "/e/0/hi", "/e/0/mid", "/e/0/why"]),
        ] {
            assert_eq!(wrong(rule.clone(), json!({"e": [estimate]})), paths, "{estimate}");
        }
        let one = json!({"ranges": [{"at": "/cost", "low": "from", "high": "to"}]});
        assert_eq!(wrong(one.clone(), json!({"cost": {"from": 0, "to": 0}})), [""; 0]);
        assert_eq!(wrong(one, json!({"price": 1})), ["/cost"]);
    }

    #[test]
    fn texts_that_can_be_acted_on() {
        let rule = json!({"texts": {"/l/*/options": {"min_words": 3, "max_words": 8, "alike": 0.7}, "/l/*/then": {"number": true}}});
        let lever = |options: Value, then: &str| json!({"l": [{"options": options, "then": then}]});
        for (answer, paths) in [
            (lever(json!(["rent the north hall", "buy both of the halls"]), "costs 5 more"), vec![]),
            (
                lever(json!(["rent the north hall", "Rent the north hall!"]), "costs 5"),
                vec!["/l/0/options/1"],
            ),
            (lever(json!(["rent", "buy both of the halls"]), "costs 5"), vec!["/l/0/options/0"]),
            (lever(json!(["a b c d e f g h i"]), "costs 5"), vec!["/l/0/options/0"]),
            (lever(json!(["rent the hall"]), "costs more"), vec!["/l/0/then"]),
            (json!({"l": [{"options": 7, "then": "5"}]}), vec!["/l/0/options"]),
            (
                lever(json!([7, "rent the north hall", null]), "costs 5"),
                vec!["/l/0/options/0", "/l/0/options/2"],
            ),
            // Scripts without spaces have words too.
            (lever(json!(["租用北厅五年", "买下两个大厅"]), "5年"), vec![]),
            (lever(json!(["租用北厅五年", "租用北厅，五年。"]), "5年"), vec!["/l/0/options/1"]),
            (lever(json!(["租用", "买下两个大厅"]), "5年"), vec!["/l/0/options/0"]),
        ] {
            assert_eq!(wrong(rule.clone(), answer.clone()), paths, "{answer}");
        }
        // Alike is within a list: two levers may offer the same.
        let same = json!({"options": ["rent the north hall"], "then": "1"});
        assert_eq!(wrong(rule, json!({"l": [same, same]})), [""; 0]);
    }

    #[test]
    fn made_up_answers_are_mended() {
        let rules = json!({
            "ranges": [{"at": "/e/*", "low": "lo", "likely": "mid", "high": "hi", "min": 2, "max": 500, "max_ratio": 10}],
            "texts": {"/t": {"min_words": 4, "max_words": 6, "number": true}},
            "refs": {"/e/*/of": "/names/*", "/also": "/names/*"},
            "one_of": {"/kind": ["a", "b"], "/level/*": [1, 2]},
            "matches": {"/day": r"^\d{4}-\d{2}-\d{2}$"},
        });
        let check: Check = serde_json::from_value(rules.clone()).unwrap();
        let compiled = CompiledCheck::compile(&check, &WordLists::default()).unwrap();
        let mut answer = json!({
            "e": [{"lo": 90, "mid": 1, "hi": 1000, "of": "x"}, {"lo": 3, "mid": 2, "hi": 1, "of": "y"}],
            "t": ["one", "one two three four five six seven"],
            "names": ["a", "b", "c"],
            "also": ["x", "y", "z"],
            "day": "some day",
            "kind": "x",
            "level": [1, 7],
        });
        assert!(!wrong(rules.clone(), answer.clone()).is_empty());
        compiled.adjust(&mut answer, &mut |n| n - 1);
        assert_eq!(wrong(rules, answer.clone()), [""; 0], "{answer}");
        assert_eq!(answer["level"][0], 1, "what is allowed stays");
        // The whole answer, which is a text.
        let check: Check = serde_json::from_value(json!({"one_of": {"": ["yes", "no"]}})).unwrap();
        let mut whole = Value::from("some words");
        CompiledCheck::compile(&check, &WordLists::default()).unwrap().adjust(&mut whole, &mut |n| n - 1);
        assert_eq!(whole, "no");
    }
}
