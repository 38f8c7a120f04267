use super::*;
use crate::check::{ViolationKind, validate};
use serde_json::json;

fn compiled(check: Value, banned: Option<&str>) -> CompiledCheck {
    let check: Check = serde_json::from_value(check).unwrap();
    let banned = banned.map(words::listed).unwrap_or_default();
    CompiledCheck::compile(&check, &WordLists { banned, ..WordLists::default() }).unwrap()
}

fn paths(check: Value, banned: Option<&str>, answer: &str) -> Vec<String> {
    match validate(answer, None, Some(&compiled(check, banned))) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.into_iter().map(|violation| violation.path).collect(),
    }
}

#[test]
fn rules() {
    let answer = json!({
        "s": ["a", "b"], "t": [{"n": "x"}, {"n": "X "}, {"n": "TBD"}], "v": "go", "e": "", "d": "2024-01-02", "nil": null,
        "o": {"a": 1, "b": false}, "hollow": {"a": "", "b": ["TBD", null]}, "n": [1, 2, 1]
    })
    .to_string();
    for (check, wanted) in [
        (json!({"min_items": {"/s": 2}}), vec![]),
        (json!({"min_items": {"/s": 3}}), vec!["/s"]),
        (json!({"min_items": {"/none": 1}}), vec!["/none"]),
        (json!({"min_items": {"/v": 1}}), vec!["/v"]),
        (json!({"max_items": {"/s": 1}}), vec!["/s"]),
        (json!({"non_empty": ["/e", "/nil", "/none", "/v"]}), vec!["/e", "/nil", "/none"]),
        (json!({"non_empty": ["/t/*/n"]}), vec!["/t/2/n"]),
        (json!({"one_of": {"/v": ["go", "no-go"]}}), vec![]),
        (json!({"one_of": {"/v": ["no-go"]}}), vec!["/v"]),
        (json!({"one_of": {"/n/*": [1.0, 2]}}), vec![]),
        (json!({"one_of": {"/n/*": [2, "1"]}}), vec!["/n/0", "/n/2"]),
        (json!({"unique": ["/t/*/n"]}), vec!["/t/1/n"]),
        (json!({"unique": ["/s"]}), vec![]),
        (json!({"matches": {"/d": r"^\d{4}-\d{2}-\d{2}$"}}), vec![]),
        (json!({"matches": {"/v": "^no"}}), vec!["/v"]),
        (json!({"min_words": 100}), vec![""]),
        (json!({"max_words": 7, "min_items": {"/s": 1}}), vec![""]),
        (json!({"max_words": 8, "min_items": {"/s": 1}}), vec![]),
        (json!({"min_items": {"/o": 2}, "max_items": {"/o": 2}}), vec![]),
        (json!({"max_items": {"/o": 1}}), vec!["/o"]),
        (json!({"non_empty": ["/o", "/hollow", "/s"]}), vec!["/hollow"]),
        (json!({"unique": ["/n"]}), vec!["/n/2"]),
        (json!({"matches": {"/n/0": "^2"}}), vec!["/n/0"]),
        (json!({"matches": {"": "^\\["}}), vec![""]),
    ] {
        assert_eq!(paths(check.clone(), None, &answer), wanted, "{check}");
    }
}

#[test]
fn a_banned_word_is_named_once_with_its_place() {
    let answer = json!({"a": ["fine", "pure synergy, all of it"], "b": "synergy again"}).to_string();
    let violations =
        validate(&answer, None, Some(&compiled(json!({"min_items": {"/a": 1}}), Some("synergy"))))
            .unwrap_err();
    let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(violations.len(), 1, "{said:?}");
    assert_eq!(violations[0].path, "/a/1");
    assert!(said[0].contains("contains `synergy`"), "{said:?}");
}

#[test]
fn rules_of_text() {
    let answer = "We leverage synergy.\nA game changer, it is.";
    assert_eq!(paths(json!({"min_words": 8, "max_words": 8}), None, answer), Vec::<String>::new());
    assert_eq!(paths(json!({"max_words": 3}), None, answer), [""]);
    let banned = "# words\nSynergy\ngame   changer\nlever\n\nC++\n";
    let violations = validate(answer, None, Some(&compiled(json!({}), Some(banned)))).unwrap_err();
    let words: Vec<&str> =
        violations.iter().map(|violation| violation.message.split('`').nth(1).unwrap()).collect();
    assert_eq!(words, ["Synergy", "game   changer"]);
    assert!(violations.iter().all(|violation| violation.kind == ViolationKind::Check));
    assert_eq!(paths(json!({}), Some("c++"), "uses C++ here").len(), 1);
    assert_eq!(paths(json!({}), Some("双赢"), "这是双赢局面").len(), 1);
    assert_eq!(paths(json!({"min_words": 3, "max_words": 3}), None, "这是双赢局面"), Vec::<String>::new());
    assert_eq!(paths(json!({"matches": {"": "(?m)^# "}}), None, "text\n# Title"), Vec::<String>::new());
    assert_eq!(paths(json!({"non_empty": [""]}), None, "N/A"), [""]);
    let one_of = json!({"one_of": {"": ["yes", "no"]}});
    assert_eq!(paths(one_of.clone(), None, "yes\n"), Vec::<String>::new());
    assert_eq!(paths(one_of, None, "perhaps"), [""]);
    assert_eq!(paths(json!({"one_of": {"": [1, 2]}}), None, "2"), Vec::<String>::new());
    let number = json!({"texts": {"": {"number": true}}});
    assert_eq!(paths(number.clone(), None, "5 of them"), Vec::<String>::new());
    assert_eq!(paths(number, None, "some of them"), [""]);
}

#[test]
fn rules_that_cannot_be() {
    let check: Check = serde_json::from_value(
        json!({"min_items": {"strengths": 1}, "matches": {"/a": "("}, "unique": ["$.x"]}),
    )
    .unwrap();
    let errors = CompiledCheck::compile(&check, &WordLists::default()).unwrap_err();
    assert_eq!(errors.len(), 3);
    assert_eq!(errors[0].hint.as_deref(), Some("did you mean \"/strengths\"?"));
    assert_eq!(errors[2].key, ("matches", Some("/a".to_owned())));
}
