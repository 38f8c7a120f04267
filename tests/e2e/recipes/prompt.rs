//! Prompts: several outputs of one answer, answers that are none, and the next model.

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, space};

#[test]
fn several_outputs_of_one_answer() {
    let server = FakeLlm::scripted(|_| json!({ "z": "last letter", "a": ["one", "two"] }).into());
    let space = space(
        &server,
        r#"
[task.swot]
inputs = ["plan.txt"]
outputs = ["swot.json", { path = "swot.md", template = "swot.md.j2" }, { path = "n/swot.txt", template = "{{ answer.z }} of {{ plan }}" }]
prompt = "TASK=swot\n{{ plan }}"
schema = "swot.schema.json"
"#,
    );
    space.write("swot.md.j2", "{% for item in answer.a %}* {{ item }}\n{% endfor %}");
    space.write("swot.schema.json", r#"{"type": "object", "required": ["a", "z"]}"#);
    space.build();
    assert_eq!(
        space.read("swot.json"),
        "{\n  \"z\": \"last letter\",\n  \"a\": [\n    \"one\",\n    \"two\"\n  ]\n}\n"
    );
    assert_eq!(space.read("swot.md").trim_end(), "* one\n* two");
    assert_eq!(space.read("n/swot.txt").trim_end(), "last letter of Build a bridge.");
    assert!(space.is_done("swot.json") && !space.is_done("swot.md"));
    assert_eq!(space.done("swot.json")["outputs"].as_array().map(Vec::len), Some(3));
    assert_eq!(server.total(), 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_answer_in_a_fence_is_read_and_a_wrong_one_is_asked_for_again_with_what_was_wrong() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => "```json\n{\"title\": \"no score\"}\n```\n".into(),
        _ => json!({ "title": "Whole", "score": 3 }).into(),
    });
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json"]
prompt = "TASK=a\n{{ plan }}"
schema = "a.schema.json"
"#,
    );
    space.write(
        "a.schema.json",
        r#"{"type": "object", "required": ["title", "score"], "properties": {"title": {"type": "string"}, "score": {"type": "integer"}}}"#,
    );
    space.build();
    assert_eq!(server.total(), 2);
    let again = server.last("a").messages;
    let all: String = again.iter().map(|(_, text)| text.as_str()).collect();
    assert!(
        all.contains("no score") && all.contains("score"),
        "the rejected answer and the fault: {again:?}"
    );
    assert!(again.len() > 1, "{again:?}");
    assert_eq!(space.json("a.json"), json!({ "title": "Whole", "score": 3 }));
    space.assert_nothing_to_do(&server);

    // A rejected answer is never reused, an accepted one is.
    space.remove("a.json");
    space.build();
    assert_eq!((server.total(), space.json("a.json")), (2, json!({ "title": "Whole", "score": 3 })));
}

#[test]
fn an_answer_that_stays_wrong_fails_with_what_is_missing() {
    let server = FakeLlm::scripted(|_| json!({ "title": "no score" }).into());
    let space = space(
        &server,
        r#"
[task.a]
outputs = ["a.json"]
prompt = "TASK=a\nAnswer."
schema = "a.schema.json"
max_validation_retries = 1
"#,
    );
    space.write("a.schema.json", r#"{"type": "object", "required": ["title", "score"]}"#);
    space.run(&["build"]).exits(1).says(&["a", "score"]);
    assert_eq!(server.total(), 2);
    assert!(!space.exists("a.json"));
    let failure = space.sidecar("a.json")["failure"].clone();
    assert_eq!(failure["class"], "validation", "{failure:#}");
    assert!(failure["missing_fields"].to_string().contains("score"), "{failure:#}");
    let logged = space.lines("failures.jsonl");
    let last = logged.last().expect("a line in failures.jsonl");
    assert_eq!(last["task"], "a");
    assert!(last["missing_fields"].to_string().contains("score"), "{last:#}");
    assert!(last["error_id"].is_string() && last["error_id"] == failure["error_id"], "{last:#} {failure:#}");
    server.script(|_| json!({ "title": "x", "score": 1 }).into());
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_answer_that_is_no_whole_answer_is_never_an_output() {
    for (answer, calls) in [
        (Answer::Finish("Half of the thought that the".into(), "length"), 1..=9),
        (Answer::Cut("The first half of an answer, and the second.".into()), 2..=2),
        (Answer::Text(String::new()), 1..=9),
        (Answer::Text("   \n ".into()), 1..=9),
        (Answer::Close, 2..=2),
        (Answer::error(500, "broken"), 2..=2),
        (Answer::error(400, "what is that"), 1..=1),
        (Answer::error(401, "who are you"), 1..=1),
        (
            Answer::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: rubbish\n\n".to_vec(),
            ),
            1..=9,
        ),
        (Answer::Http(302, vec![("Location", "http://127.0.0.1:1/".into())], String::new()), 1..=2),
    ] {
        let said = format!("{answer:?}");
        let server = FakeLlm::scripted(move |_| answer.clone());
        let space = space(&server, "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nAnswer.\"\n");
        let out = space.run(&["build"]).exits(1);
        assert!(calls.contains(&server.total()), "{said}: {} calls\n{out}", server.total());
        assert!(!space.exists("a.txt") && !space.is_done("a.txt"), "{said}");
        assert_eq!(space.state("a"), "failed", "{said}");
        server.script(|_| Answer::Default);
        let before = server.total();
        space.build();
        assert_eq!(server.total(), before + 1, "{said}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn a_failed_call_falls_back_to_the_next_model() {
    let server = FakeLlm::scripted(|request| match request.body["model"].as_str() {
        Some("fake-1") => Answer::error(404, "model fake-1 not found"),
        _ => Answer::Default,
    });
    let space = space(
        &server,
        &format!(
            r#"
[models.second]
api = "openai"
base_url = "{}"
model = "fake-2"

[task.a]
model = ["fake", "second"]
outputs = ["a.txt"]
prompt = "TASK=a\nAnswer."
"#,
            server.base_url()
        ),
    );
    space.build();
    let models: Vec<Value> = server.calls().into_iter().map(|call| call.body["model"].clone()).collect();
    assert_eq!(models, ["fake-1", "fake-2"]);
    assert!(
        space.status("a")["model"].to_string().contains("second") || space.status("a")["model"] == "fake-2"
    );
    space.assert_nothing_to_do(&server);
    // An answer of any listed model is kept.
    space.remove("a.txt");
    space.build();
    assert_eq!(server.total(), 2);
}
