//! Checks that look at more than the answer: ids of an input, conditions over answer and inputs.

use serde_json::json;

use crate::support::{FakeLlm, Space};

const TREE: &str =
    r#"{"broken": [2], "tasks": [{"id": "survey", "title": "Survey"}, {"id": "build", "title": "Build"}]}"#;

const WAITS: &str = r#"
[task.waits]
inputs = ["tree.json"]
outputs = ["waits.json"]
prompt = "TASK=waits\n{% for task in tree.tasks %}{{ task.title }} {% endfor %}"
[task.waits.check]
refs = { "/waits/*" = "tree:/tasks/*/id" }
require = [{ that = "{{ answer.option not in tree.broken }}", message = "option {{ answer.option }} breaks a constraint" }]
"#;

#[test]
fn an_unknown_id_and_a_broken_constraint_are_asked_again() {
    let server = FakeLlm::scripted(|call| match call.messages.len() {
        1 => json!({"option": 2, "waits": ["surveys"]}).into(),
        _ => json!({"option": 1, "waits": ["survey"]}).into(),
    });
    let space = Space::with(&server, WAITS);
    space.write("tree.json", TREE);
    space.build();
    assert_eq!(server.total(), 2);
    let told = server.last("waits").messages.last().expect("a message").1.clone();
    assert!(told.contains("option 2 breaks a constraint"), "{told}");
    assert!(told.contains("`/waits/0`: is none of the ids there are, did you mean `survey`?"), "{told}");
    assert_eq!(space.json("waits.json")["option"], 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_a_check_looks_at_is_an_input_of_the_task() {
    let server = FakeLlm::scripted(|call| {
        let known = call.messages.iter().any(|(_, text)| text.contains("wanted one of `assay`"));
        json!({"option": 1, "waits": [if known { "assay" } else { "survey" }]}).into()
    });
    let space = Space::with(&server, WAITS);
    space.write("tree.json", TREE);
    space.build();
    assert_eq!(server.total(), 1);

    // The prompt stays the same: titles are as they were. The answer there is holds.
    space.edit("tree.json", r#""id": "build""#, r#""id": "construct""#);
    space.run(&["explain", "waits"]).exits(0).says(&["stale", "check"]);
    space.build();
    assert_eq!(server.total(), 1, "the answer there is satisfies the check");
    space.assert_nothing_to_do(&server);

    // Now the id it names is gone.
    space.edit("tree.json", r#""id": "survey""#, r#""id": "assay""#);
    space.build();
    assert_eq!(space.json("waits.json")["waits"], json!(["assay"]));
    assert_eq!(server.total(), 3, "drawn anew, and asked again once");
    space.assert_nothing_to_do(&server);
}

#[test]
fn estimates_and_texts_are_asked_again() {
    let server = FakeLlm::scripted(|call| {
        match call.messages.len() {
        1 => json!({"days": {"min": 1, "max": 900}, "options": ["wait", "wait"]}).into(),
        _ => json!({"days": {"min": 10, "max": 30}, "options": ["rent the hall for 3 months", "buy both halls now"]}).into(),
    }
    });
    let tasks = r#"
[task.guess]
outputs = ["guess.json"]
prompt = "TASK=guess\nhow long?"
[task.guess.check]
ranges = [{ at = "/days", low = "min", high = "max", max_ratio = 10 }]
texts = { "/options" = { min_words = 3, alike = 0.8 } }
"#;
    let space = Space::with(&server, tasks);
    space.build();
    assert_eq!(server.total(), 2);
    let told = server.last("guess").messages.last().expect("a message").1.clone();
    for words in
        ["`/days/max`: is 900, 900 times `min`", "`/options/0`: has 1 word,", "in common with `/options/0`"]
    {
        assert!(told.contains(words), "no `{words}` in:\n{told}");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_alias_names_a_task_wherever_a_task_is_named() {
    let server = FakeLlm::new();
    let tasks = r#"
[aliases]
"014-2-swot.md" = "swot.txt"
OldSwotTask = "swot"
"016-1-reviews" = "review"
"016-1-{{number}}-review.txt" = "reviews/{{ key }}.txt"

[task.swot]
outputs = ["swot.txt"]
prompt = "TASK=swot\ngo"

[task.people]
outputs = ["people.json"]
template = '["ann", "bob"]'

[task.review]
foreach = { file = "people.json" }
inputs = ["swot.txt"]
outputs = ["reviews/{{ key }}.txt"]
prompt = "TASK=review {{ item }}\n{{ swot }}"
"#;
    let space = Space::with(&server, tasks);
    space.run(&["build", "014-2-swot.md"]).exits(0);
    assert_eq!(server.counts().into_keys().collect::<Vec<_>>(), ["swot"]);
    space.run(&["clean", "016-1-1-review.txt", "--yes"]).exits(2).says(&["has no items yet"]);
    space.build();
    for name in ["014-2-swot.md", "OldSwotTask", "old-swot", "./014-2-swot.md"] {
        space.run(&["explain", name]).exits(0).says(&["swot"]);
    }
    space.run(&["clean", "014-2-swot.md", "--yes"]).exits(0);
    assert!(!space.is_done("swot.txt"));
    space.build();
    assert_eq!(server.count("swot"), 2);
    let item = space.files("reviews").into_iter().find(|name| name.ends_with(".txt")).expect("an item");
    let key = item.trim_start_matches("reviews/").trim_end_matches(".txt").to_owned();
    space.run(&["clean", &format!("016-1-reviews[{key}]"), "--yes"]).exits(0);
    let before = server.total();
    space.build();
    assert_eq!(server.total() - before, 1, "one item alone");
    // By its place in the list, counted from 1.
    let before = server.total();
    let said = space.run(&["clean", "016-1-2-review.txt", "--yes"]).exits(0);
    space.build();
    assert_eq!(server.total() - before, 1, "{said}");
    let last = server.calls().last().expect("a call").prompt.clone();
    assert!(last.contains("bob"), "{last}");
    for none in ["016-1-0-review.txt", "016-1-3-review.txt"] {
        space.run(&["explain", none]).exits(2).says(&["`review`, which has 2, counted from 1"]);
    }
    for no_number in ["016-1--review.txt", "016-1-x-review.txt", "016-1-+1-review.txt"] {
        space.run(&["explain", no_number]).exits(2).says(&["no task or output is called"]);
    }
    space.run(&["explain", "014-9-swot.md"]).exits(2);
    space.assert_nothing_to_do(&server);
}

/// What a user allows goes before what a user bans, and that before a style's list; the lists are inputs of the check.
#[test]
fn words_are_allowed_before_they_are_banned() {
    let server = FakeLlm::scripted(|call| match call.messages.len() {
        1 => "We leverage a deep dive: revolutionary, and a hub.".into(),
        _ => "We use a deep dive and a shed.".into(),
    });
    let tasks = r#"
[vars]
style = "plain"

[task.text]
outputs = ["text.md"]
prompt = "TASK=text\nwrite"
[task.text.check]
banned_words = ["words/{{ vars.style }}.txt", "words/ban.txt"]
allowed_words = "words/include.txt"
"#;
    let space = Space::with(&server, tasks);
    space.write("words/plain.txt", "revolutionary\n");
    space.write("words/pitch.txt", "# nothing\n");
    space.write("words/ban.txt", "leverage\ndive\nhub\n");
    space.write("words/include.txt", "deep dive\nhub\n");
    space.build();
    let told = server.last("text").messages.last().expect("a message").1.clone();
    assert!(told.contains("`leverage`") && told.contains("`revolutionary`"), "{told}");
    assert!(!told.contains("`dive`") && !told.contains("`hub`"), "{told}");
    space.assert_nothing_to_do(&server);
    // A changed list is tried on the answer there is; another style is another list.
    space.write("words/ban.txt", "leverage\n");
    space.run(&["explain", "text"]).exits(0).says(&["check"]);
    space.build();
    space.run(&["build", "-D", "style=pitch"]).exits(0);
    assert_eq!(server.total(), 2);
    space.run(&["build", "-D", "style=none"]).exits(2).says(&["there is no list of words `words/none.txt`"]);
    // What was allowed is banned, and the answer there is has it.
    space.write("words/ban.txt", "dive\n");
    space.write("words/include.txt", "hub\n");
    space.run(&["build"]).exits(1).says(&["contains `dive`, which is not allowed"]);
}

/// `""` is the whole answer, also one that is a text and no JSON.
#[test]
fn a_whole_text_is_one_of_some() {
    let server = FakeLlm::scripted(|call| match call.messages.len() {
        1 => "Perhaps, after lunch.".into(),
        _ => "Yes, 5".into(),
    });
    let tasks = r#"
[task.word]
outputs = ["word.md"]
prompt = "TASK=word\nwrite"
check = { one_of = { "" = ["Yes, 5", "No, 5"] }, texts = { "" = { number = true } } }
"#;
    let space = Space::with(&server, tasks);
    space.build();
    assert_eq!(space.read("word.md"), "Yes, 5\n");
    let told = server.last("word").messages.last().expect("a message").1.clone();
    assert!(told.contains(r#"wanted one of "Yes, 5", "No, 5""#) && !told.contains("JSON"), "{told}");
    assert_eq!(server.total(), 2);
}
