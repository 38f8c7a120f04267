//! Items in sequence: each instance is given the one before.

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space, counts};

#[test]
fn in_sequence_each_instance_is_given_the_one_before() {
    let server = FakeLlm::scripted(|request| format!("What {} says.", request.task).into());
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{% if previous %}After: {{ previous }}{% else %}The first.{% endif %}"
"#,
    );
    space.write("parts.json", r#"[{"id": "z"}, {"id": "m"}, {"id": "a"}]"#);
    server.hold("z");
    let build = space.spawn(&["build"]);
    server.wait_for_call("z");
    server.release("z");
    build.wait().exits(0);
    assert_eq!(server.order(), ["z", "m", "a"]);
    assert_eq!(server.most_in_flight(), 1);
    assert_eq!(server.last("z").prompt, "TASK=z\nThe first.");
    assert!(server.last("m").prompt.contains("After: What z says."), "{}", server.last("m").prompt);
    assert!(server.last("a").prompt.contains("After: What m says."), "{}", server.last("a").prompt);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_change_in_a_sequence_goes_on_only_as_far_as_answers_differ() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "same" => "Always the same.".into(),
        _ => Answer::Default,
    });
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{{ item.text }} {% if previous %}{{ previous }}{% endif %}"
"#,
    );
    let parts = |first: &str, second: &str| {
        json!([{ "id": "one", "text": first }, { "id": "same", "text": second }, { "id": "last", "text": "x" }]).to_string()
    };
    space.write("parts.json", parts("a", "b"));
    space.build();
    assert_eq!(server.order(), ["one", "same", "last"]);
    space.write("parts.json", parts("changed", "b"));
    space.build();
    assert_eq!(server.counts(), counts([("last", 1), ("one", 2), ("same", 2)]));
    space.write("parts.json", parts("changed", "as well"));
    space.build();
    assert_eq!(server.counts(), counts([("last", 1), ("one", 2), ("same", 3)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_comes_after_an_item_in_a_sequence_is_downstream_of_it() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.part]
foreach = { file = "parts.json" , key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
template = "{{ previous }}{{ key }} "

[task.all]
inputs = ["parts/*.txt"]
outputs = ["all.txt"]
template = "{% for input in inputs %}{{ input }}{% endfor %}"
"#,
    );
    space.write("parts.json", r#"[{"id": "z"}, {"id": "m"}, {"id": "a"}]"#);
    space.build();
    let out = space.run(&["clean", "part[m]", "--downstream", "-n"]).exits(0);
    let out = out.says(&["parts/m.txt", "parts/a.txt", "all.txt"]);
    out.says_nothing_of(&["parts/z.txt"]);
}

#[test]
fn a_failure_in_a_sequence_stops_it_there() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{% if previous %}{{ previous }}{% endif %}"
"#,
    );
    space.write("parts.json", r#"[{"id": "a"}, {"id": "b"}, {"id": "c"}]"#);
    space.run(&["build"]).exits(1).says(&["part[b]"]);
    assert_eq!(server.order(), ["a", "b"]);
    server.script(|_| Answer::Default);
    space.build();
    assert_eq!(server.order(), ["a", "b", "b", "c"]);
    space.assert_nothing_to_do(&server);
}
