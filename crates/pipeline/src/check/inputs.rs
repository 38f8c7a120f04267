//! Rules that look at more than the answer: ids that must be among those of an input, conditions over
//! answer and inputs. What they look at is read when the task is judged, with its prompt; where it is
//! not at hand (an answer adopted by `touch`, say) they are passed over.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use minijinja::Value as Seen;
use serde_json::Value;

use super::{MOST, Valid, Violation, ViolationKind};
use crate::items::{canonical, select};
use crate::manifest::diagnostic::worth_a_search;
use crate::manifest::nearest;
use crate::manifest::types::{Check, Requirement};
use crate::template::{self as render, Source};

/// Most ids told to a model that named none of them.
const MOST_IDS: usize = 40;

/// What the rules of one task see.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// The context of conditions, without the answer.
    context: BTreeMap<String, Seen>,
    /// Ids by their source, as the rule writes it.
    ids: BTreeMap<String, BTreeSet<String>>,
}

/// The input (or `item`) and the pointer of a source of ids; no input means the answer.
pub(super) fn ref_parts(source: &str) -> (Option<&str>, &str) {
    match source.split_once(':') {
        Some((input, pointer)) if !input.contains('/') => (Some(input), pointer),
        _ => (None, source),
    }
}

/// The names rules use beside the answer.
pub(super) fn names(check: &Check) -> BTreeSet<String> {
    let inputs = check.refs.values().filter_map(|source| ref_parts(source).0).map(str::to_owned);
    let conditions = check.require.iter().flat_map(names_of);
    inputs.chain(conditions).filter(|name| name.split('.').next() != Some("answer")).collect()
}

/// The names a requirement uses.
fn names_of(rule: &Requirement) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Some(condition) = condition(rule) {
        names.extend(render::undeclared_in_condition(&condition).unwrap_or_default());
    }
    names.extend(render::undeclared(&message(rule)).unwrap_or_default());
    names
}

/// Whether a requirement looks at members of the answer.
pub(super) fn looks_inside(rule: &Requirement) -> bool {
    names_of(rule).iter().any(|name| name.starts_with("answer."))
}

fn condition(rule: &Requirement) -> Option<Source> {
    rule.that.as_ref().map(|that| Source::new("check.require", that.as_str()))
}

fn message(rule: &Requirement) -> Source {
    Source::new("check.require", rule.message.as_str()).trimmed(true)
}

impl Given {
    /// What a check looks at; none if it looks at nothing but the answer.
    pub(super) fn of(check: &Check, context: &BTreeMap<String, Seen>) -> Option<Given> {
        let names = names(check);
        if names.is_empty() {
            return None;
        }
        let conditions: BTreeSet<String> = check.require.iter().flat_map(names_of).collect();
        let top = |name: &String| conditions.iter().any(|used| used.split('.').next() == Some(name));
        let seen = context.iter().filter(|(name, _)| top(name)).map(|(name, value)| match name.as_str() {
            "vars" if !conditions.contains("vars") => (name.clone(), members(value, &conditions)),
            _ => (name.clone(), value.clone()),
        });
        let seen: BTreeMap<String, Seen> = seen.collect();
        let mut ids = BTreeMap::new();
        for source in check.refs.values() {
            if let (Some(input), pointer) = ref_parts(source)
                && let Some(value) = context.get(input).and_then(|seen| serde_json::to_value(seen).ok())
                && !value.is_null()
            {
                ids.insert(source.clone(), ids_at(&value, pointer));
            }
        }
        Some(Given { context: seen, ids })
    }

    /// A text of what is given; the same for the same.
    pub(super) fn canonical(&self) -> String {
        let context = self.context.iter().map(|(name, seen)| {
            let value = serde_json::to_value(seen).unwrap_or_default();
            format!("{name}={}\n", canonical(&value))
        });
        let ids = self.ids.iter().map(|(source, ids)| format!("{source}={ids:?}\n"));
        context.chain(ids).collect()
    }
}

/// Of `vars` those that are used.
fn members(vars: &Seen, used: &BTreeSet<String>) -> Seen {
    let names = used.iter().filter_map(|name| name.strip_prefix("vars.")?.split('.').next());
    let of = |name: &str| Some((name.to_owned(), vars.get_attr(name).ok()?));
    names.filter_map(of).collect::<BTreeMap<String, Seen>>().into()
}

/// The ids a pointer leads to; of a list its elements.
fn ids_at(value: &Value, pointer: &str) -> BTreeSet<String> {
    let found = select(value, pointer).unwrap_or_default();
    found.into_iter().flat_map(|(_, value)| flat(value)).map(|(_, id)| id).collect()
}

/// The texts of a value or of the elements of a list, each with what is added to its pointer.
fn flat(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    match value {
        Value::Array(list) => {
            list.iter().enumerate().map(|(n, item)| (format!("/{n}"), text(item))).collect()
        }
        other => vec![(String::new(), text(other))],
    }
}

/// `check.refs`: every id is one there is.
pub(super) fn refs(
    rules: &IndexMap<String, String>,
    given: Option<&Given>,
    root: &Value,
    found: &mut Vec<Violation>,
) {
    for (pointer, source) in rules {
        let own;
        let ids = match ref_parts(source) {
            (None, within) => {
                own = ids_at(root, within);
                Some(&own)
            }
            (Some(_), _) => given.and_then(|given| given.ids.get(source)),
        };
        let Some(ids) = ids else { continue };
        for (path, value) in select(root, pointer).unwrap_or_default() {
            for (more, id) in flat(value) {
                if id.is_empty() || ids.contains(&id) {
                    continue;
                }
                // No more are told.
                if found.len() >= MOST {
                    return;
                }
                let mut known =
                    ids.iter().take(MOST_IDS).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
                if ids.len() > MOST_IDS {
                    known.push_str(&format!(" and {} more", ids.len() - MOST_IDS));
                }
                let near = match worth_a_search(found.len(), ids.len()) {
                    true => nearest(&id, ids.iter().map(String::as_str)),
                    false => None,
                };
                let hint = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
                let message = match ids.is_empty() {
                    true => "names an id, and there is none: leave it empty".to_owned(),
                    false => format!("is none of the ids there are{hint}; wanted one of {known}"),
                };
                let violation = Violation::new(format!("{path}{more}"), ViolationKind::Check, message);
                found.push(violation.found(&Value::from(id)));
            }
        }
    }
}

/// Makes the ids of a made-up answer some of those there are; `pick` gives a number below its argument.
pub(super) fn mend_refs(
    rules: &IndexMap<String, String>,
    given: Option<&Given>,
    root: &mut Value,
    pick: &mut dyn FnMut(usize) -> usize,
) {
    for (pointer, source) in rules {
        let ids: Vec<String> = match ref_parts(source) {
            (None, within) => ids_at(root, within).into_iter().collect(),
            (Some(_), _) => match given.and_then(|given| given.ids.get(source)) {
                Some(ids) => ids.iter().cloned().collect(),
                None => continue,
            },
        };
        let found = select(root, pointer).unwrap_or_default();
        let places: Vec<String> = found
            .into_iter()
            .flat_map(|(path, value)| flat(value).into_iter().map(move |(more, _)| format!("{path}{more}")))
            .collect();
        let first = pick(ids.len());
        for (n, place) in places.iter().enumerate() {
            // One after the other, so that a list of ids names each once.
            let id = ids.get((first + n) % ids.len().max(1)).cloned().unwrap_or_default();
            if let Some(value) = root.pointer_mut(place) {
                *value = Value::String(id);
            }
        }
    }
}

/// `check.require`: every condition holds.
pub(super) fn requirements(
    rules: &[Requirement],
    given: Option<&Given>,
    answer: &Valid,
    found: &mut Vec<Violation>,
) {
    if rules.is_empty() {
        return;
    }
    let mut context = given.map(|given| given.context.clone()).unwrap_or_default();
    let value = answer.value.as_ref().map(Seen::from_serialize);
    context.insert("answer".to_owned(), value.unwrap_or_else(|| Seen::from(answer.text.trim())));
    let at_hand: BTreeSet<String> = context.keys().cloned().collect();
    let context = Seen::from_iter(context);
    for rule in rules {
        if !names_of(rule).iter().all(|name| at_hand.contains(name.split('.').next().unwrap_or(name))) {
            continue;
        }
        let mut told = |what: &str| {
            let lines = what.lines().map(str::trim).filter(|line| !line.is_empty());
            found.extend(lines.map(|line| Violation::new("", ViolationKind::Check, line)));
        };
        let holds = condition(rule).map(|condition| render::eval_condition(&condition, &context));
        match (holds, render::render(&message(rule), &context, false)) {
            (Some(Ok(true)), _) => {}
            (Some(Ok(false)) | None, Ok(message)) => told(&message),
            (Some(Ok(false)), Err(_)) => told(&rule.message),
            (Some(Err(error)), _) | (None, Err(error)) => {
                told(&format!("it cannot be checked: {}", error.message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{CompiledCheck, WordLists, validate};
    use serde_json::json;

    /// Paths and messages of what is wrong, with `tree` and `limits` as inputs or without any.
    fn wrong(check: Value, answer: Value, inputs: bool) -> Vec<String> {
        let check: Check = serde_json::from_value(check).unwrap();
        let compiled = CompiledCheck::compile(&check, &WordLists::default()).unwrap();
        let tree = json!({"tasks": [{"id": "survey-soil"}, {"id": "sign-lease"}], "none": []});
        let context = BTreeMap::from([
            ("tree".to_owned(), Seen::from_serialize(tree)),
            ("limits".to_owned(), Seen::from_serialize(json!({"broken": [2]}))),
            ("unused".to_owned(), Seen::from("x")),
        ]);
        let with = compiled.with(&context).filter(|_| inputs);
        let compiled = with.map_or(compiled, |(check, _)| check);
        let found = validate(&answer.to_string(), None, Some(&compiled)).err().unwrap_or_default();
        found.into_iter().map(|violation| format!("{} {}", violation.path, violation.message)).collect()
    }

    #[test]
    fn ids_must_be_there() {
        let refs = |answer| wrong(json!({"refs": {"/waits/*": "tree:/tasks/*/id"}}), answer, true);
        assert_eq!(refs(json!({"waits": ["survey-soil", "", "sign-lease"]})), [""; 0]);
        let found = refs(json!({"waits": ["survey-soils"]}));
        assert_eq!(
            found,
            [
                "/waits/0 is none of the ids there are, did you mean `survey-soil`?; wanted one of `sign-lease`, `survey-soil`"
            ]
        );
        let none = json!({"refs": {"/waits/*": "tree:/none/*/id"}});
        assert_eq!(
            wrong(none, json!({"waits": ["a"]}), true),
            ["/waits/0 names an id, and there is none: leave it empty"]
        );
        let own = json!({"refs": {"/steps/*/after": "/steps/*/id"}});
        let steps = |after| json!({"steps": [{"id": "a", "after": ""}, {"id": "b", "after": after}]});
        assert_eq!(wrong(own.clone(), steps("a"), false), [""; 0]);
        assert_eq!(wrong(own.clone(), steps("c"), false).len(), 1);
        // A list of ids is its elements, whether `*` is written or not.
        assert_eq!(wrong(own, json!({"steps": [{"id": "a", "after": ["a", "q"]}]}), false).len(), 1);
    }

    #[test]
    fn conditions_see_answer_and_inputs() {
        let rule = json!({"require": [{
            "that": "{{ answer.option not in limits.broken }}",
            "message": "option {{ answer.option }} breaks a constraint",
        }]});
        assert_eq!(wrong(rule.clone(), json!({"option": 1}), true), [""; 0]);
        assert_eq!(wrong(rule.clone(), json!({"option": 2}), true), [" option 2 breaks a constraint"]);
        // A member that is not there is told, not passed over.
        let whole = json!({"require": [{"that": "{{ answer.a > 1 }}", "message": "a above 1"}]});
        assert_eq!(wrong(whole.clone(), json!({"a": 2}), false), [""; 0]);
        assert!(wrong(whole, json!({"b": 2}), false)[0].starts_with(" it cannot be checked: "));
        // Without a condition each line of the message is a fault, and no line is none.
        let lines = json!({"require": [{"message":
            "{% for option in answer.options if option in limits.broken %}\noption {{ option }} breaks\n{% endfor %}"}]});
        assert_eq!(wrong(lines.clone(), json!({"options": [1, 3]}), true), [""; 0]);
        assert_eq!(
            wrong(lines, json!({"options": [1, 2, 2]}), true),
            [" option 2 breaks", " option 2 breaks"]
        );
        // Without the inputs nothing can be said.
        assert_eq!(wrong(rule, json!({"option": 2}), false), [""; 0]);
    }

    #[test]
    fn what_is_looked_at_is_told() {
        let check: Check = serde_json::from_value(json!({
            "refs": {"/a": "tree:/tasks/*/id", "/b": "/c"},
            "require": [{"that": "{{ answer.x in limits.broken }}", "message": "{{ vars.size }}"}],
        }))
        .unwrap();
        assert_eq!(names(&check).into_iter().collect::<Vec<_>>(), ["limits.broken", "tree", "vars.size"]);
        let compiled = CompiledCheck::compile(&check, &WordLists::default()).unwrap();
        let text = |broken| {
            let limits = Seen::from_serialize(json!({"broken": broken}));
            compiled.with(&BTreeMap::from([("limits".to_owned(), limits)])).unwrap().1
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        // Of `vars` only what is used.
        let with = |size, audience| {
            let vars = Seen::from_serialize(json!({"size": size, "audience": audience}));
            compiled.with(&BTreeMap::from([("vars".to_owned(), vars)])).unwrap().1
        };
        assert_eq!(with("small", "bankers"), with("small", "neighbours"));
        assert_ne!(with("small", "bankers"), with("full", "bankers"));
    }
}
