//! What follows a failure that this model will not mend: the next one of the list, one that holds more, more
//! room for the answer, the answer asked for again with what was wrong. Every request is counted, by model.

use serde_json::{Value, json};

use crate::support::wire::Dialect::{self, Anthropic, Openai};
use crate::support::wire::{Asked, Step, Wire, reply};
use crate::support::{Space, until};

const TEXT: &str = "It will hold.";

/// Three models at one server, told apart by the name they are asked by, and a task that may ask them all.
fn space(server: &Wire, keys: [&str; 3], task: &str) -> Space {
    let space = Space::new();
    let model = |name: &str, keys: &str| {
        format!(
            "[models.{name}]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"{name}\"\nretry = {{ max_attempts = 2, base = \"1ms\", max = \"2ms\" }}\n{keys}\n",
            server.base_url(Openai)
        )
    };
    let models = model("first", keys[0]) + &model("second", keys[1]) + &model("third", keys[2]);
    let task = format!(
        "{models}[defaults]\nmodel = [\"first\", \"second\", \"third\"]\n[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"Will it hold? {{{{ plan }}}}\"\n{task}\n"
    );
    space.write("pipeline.toml", task);
    space.write("plan.txt", "A bridge.");
    let schema = json!({ "type": "object", "required": ["x", "n"], "properties": { "x": { "type": "string" }, "n": { "type": "integer" } } });
    space.write("a.schema.json", schema.to_string());
    space
}

fn asked(server: &Wire) -> Vec<String> {
    server.posts().iter().map(|asked| asked.body["model"].as_str().unwrap_or("?").to_owned()).collect()
}

/// A server that answers one model so, and all others well.
fn but(name: &'static str, fault: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Wire {
    Wire::new(move |asked| match asked.body["model"] == name {
        true => fault(asked),
        false => Openai.answer(TEXT),
    })
}

fn error(status: u16, kind: &'static str, message: &'static str) -> impl Fn(&Asked) -> Vec<Step> {
    move |_| reply(status, "", &Openai.error(kind, message))
}

#[test]
fn what_this_model_will_not_mend_goes_to_the_next() {
    type Fault = Box<dyn Fn(&Asked) -> Vec<Step> + Send + Sync>;
    let rows: Vec<(&str, Fault, &[&str])> = vec![
        ("auth", Box::new(error(401, "x", "wrong key")), &["first", "second"]),
        ("quota", Box::new(error(429, "insufficient_quota", "no money")), &["first", "second"]),
        ("model", Box::new(error(404, "x", "model `first` not found")), &["first", "second"]),
        ("request", Box::new(error(400, "x", "no such field")), &["first", "second"]),
        ("refusal", Box::new(|_| Openai.ended("I cannot", "refusal")), &["first", "second"]),
        ("broken", Box::new(error(500, "x", "it broke")), &["first", "first", "second"]),
        ("cut", Box::new(|_| Openai.stream(Openai.piece("It will"))), &["first", "first", "second"]),
        ("empty", Box::new(|_| Openai.ended("", "stop")), &["first", "first", "second"]),
        (
            "a limit for hours",
            Box::new(|_| reply(429, "retry-after: 7200\r\n", &Openai.error("x", "slow down"))),
            &["first", "second"],
        ),
    ];
    for (name, fault, wanted) in rows {
        let server = but("first", fault);
        let space = space(&server, [""; 3], "");
        space.build();
        assert_eq!(asked(&server), wanted, "{name}");
        assert_eq!(space.done("a.txt")["made_with"]["model"], "second", "{name}");
        assert_eq!(space.read("a.txt").trim(), TEXT, "{name}");
        // Nothing is stale because the second answered.
        space.build();
        assert_eq!(server.count(), wanted.len(), "{name}");
    }
}

/// Which models were left survives a kill, as what was used up of every budget does.
#[test]
fn a_model_that_was_left_is_not_asked_again_after_a_kill() {
    let held = std::sync::atomic::AtomicBool::new(false);
    let server = Wire::new(move |asked| match asked.body["model"].as_str() {
        Some("first") => reply(400, "", &Openai.error("x", "no such field")),
        _ if !held.swap(true, std::sync::atomic::Ordering::Relaxed) => vec![Step::Hold],
        _ => Openai.answer(TEXT),
    });
    let space = space(&server, [""; 3], "");
    let build = space.spawn(&["build"]);
    until("the second model to be asked", || (server.count() == 2).then_some(()));
    build.kill9();
    // Who looks is told.
    let told = space.run(&["explain", "a", "--json"]).exits(0).json();
    assert_eq!(told["asks"]["left"], serde_json::json!(["first"]), "{told}");
    space.run(&["explain", "a"]).exits(0).says(&["Asks second", "and first failed at it", "ask second"]);
    space.run(&["build", "-n"]).exits(0).says(&["second (after first)"]);
    space.build();
    assert_eq!(asked(&server), ["first", "second", "second"]);
    // What was used up on another prompt says nothing of this one.
    space.write("plan.txt", "A longer bridge.");
    space.build();
    assert_eq!(asked(&server)[3..], ["first", "second"]);
}

#[test]
fn a_closed_model_is_asked_by_no_other_task() {
    let server = but("first", error(401, "x", "wrong key"));
    let space = space(&server, [""; 3], "");
    for name in ["b", "c", "d"] {
        let task = format!(
            "\n[task.{name}]\ninputs = [\"a.txt\"]\noutputs = [\"{name}.txt\"]\nprompt = \"{name} {{{{ a }}}}\"\n"
        );
        space.write("pipeline.toml", space.read("pipeline.toml") + &task);
    }
    space.build();
    assert_eq!(asked(&server).iter().filter(|name| *name == "first").count(), 1);
    assert_eq!(server.count(), 5);
}

/// Those that were not asked say why, the cause first, and what to do.
#[test]
fn tasks_of_a_closed_model_name_the_cause_and_a_remedy() {
    let server = Wire::new(|_| reply(404, "", &Openai.error("x", "model not found, pull it")));
    let space = space(&server, ["max_concurrent = 1"; 3], "model = \"first\"");
    let task = "\n[task.b]\noutputs = [\"b.txt\"]\nmodel = \"first\"\nprompt = \"b it is\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + task);
    space.run(&["build"]).exits(1);
    assert_eq!(server.count(), 1);
    let said = space.sidecar("b.txt")["failure"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.starts_with("HTTP 404: model not found"), "{said}");
    assert!(said.contains("`first` takes no more calls in this build"), "{said}");
    assert!(said.contains("hint: `planexe doctor` lists the models"), "{said}");
}

/// What waits for its turn at a model with a limit for hours goes to the next one as the task that met the limit does.
#[test]
fn a_limit_for_hours_holds_up_no_task_that_has_another_model() {
    for asked in ["7200", "86400"] {
        let limit = format!("retry-after: {asked}\r\n");
        let server = but("first", move |_| reply(429, &limit, &Openai.error("x", "slow down")));
        let space = space(&server, ["max_concurrent = 1"; 3], "");
        for name in ["b", "c", "d"] {
            let task = format!("\n[task.{name}]\noutputs = [\"{name}.txt\"]\nprompt = \"{name} it is\"\n");
            space.write("pipeline.toml", space.read("pipeline.toml") + &task);
        }
        space.build();
        assert_eq!(self::asked(&server).iter().filter(|name| *name == "first").count(), 1);
        assert_eq!(server.count(), 5);
    }
}

/// A server that takes calls and answers none costs three of them, not two of every task.
#[test]
fn a_server_that_answers_nobody_holds_up_no_task_that_has_another_model() {
    let server = but("first", |_| vec![Step::Hold]);
    let keys = ["max_concurrent = 1\ntimeouts = { first_token = \"1s\" }", "", ""];
    let space = space(&server, keys, "");
    for name in ["b", "c", "d"] {
        let task = format!("\n[task.{name}]\noutputs = [\"{name}.txt\"]\nprompt = \"{name} it is\"\n");
        space.write("pipeline.toml", space.read("pipeline.toml") + &task);
    }
    space.build().says(&["`first` lets one call after the other run out of time"]);
    assert_eq!(self::asked(&server).iter().filter(|name| *name == "first").count(), 3);
    assert_eq!(server.count(), 7);
}

/// A limit that nobody waits for ends the build, at once and not the next day; a server that breaks for so long fails all
/// that have no other model.
#[test]
fn a_limit_until_tomorrow_ends_the_build_that_has_no_other_model() {
    for (status, code) in [(429, 3), (503, 1)] {
        let server =
            Wire::new(move |_| reply(status, "retry-after: 86400\r\n", &Openai.error("x", "slow down")));
        let space = space(&server, ["max_concurrent = 1"; 3], "model = \"first\"");
        for name in ["b", "c"] {
            let task = format!(
                "\n[task.{name}]\noutputs = [\"{name}.txt\"]\nmodel = \"first\"\nprompt = \"{name} it is\"\n"
            );
            space.write("pipeline.toml", space.read("pipeline.toml") + &task);
        }
        let said = if code == 3 {
            "what is left waits for a usage limit"
        } else {
            "takes no more calls in this build"
        };
        space.run(&["build"]).exits(code).says(&[said, "slow down"]);
        assert_eq!(server.count(), 1, "{status}");
        if status == 503 {
            assert_eq!(space.sidecar("c.txt")["failure"]["class"], "server_error");
        }
    }
}

#[test]
fn an_overflow_goes_to_a_model_that_holds_more() {
    let message = r#"{"error":{"message":"This model's maximum context length is 4096 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let server = but("first", move |_| reply(400, "", message));
    let keys = ["context_window = 4096", "context_window = 4096", "context_window = 128000"];
    let of_server = space(&server, keys, "");
    of_server.build();
    assert_eq!(asked(&server), ["first", "third"], "the second holds no more than the first");
    // Known before it is sent.
    let whole = Openai.opening() + &Openai.piece(TEXT) + &Openai.finish_with("stop", 8600) + Openai.end();
    let server = Wire::new(move |_| Openai.stream(whole.clone()));
    let known = space(&server, keys, "");
    known.write("plan.txt", "A bridge of many words. ".repeat(1500));
    known.build();
    assert_eq!(asked(&server), ["third"]);
    // None holds it: named, and nothing paid.
    let server = Wire::new(|_| Openai.answer(TEXT));
    let none = space(&server, ["context_window = 4096"; 3], "");
    none.write("plan.txt", "A bridge of many words. ".repeat(1500));
    none.run(&["build"]).exits(1).says(&["context_overflow", "4096"]);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_cut_answer_gets_more_room_then_a_larger_model() {
    let max_tokens = |asked: &Asked| asked.body["max_tokens"].as_u64();
    // Room for twice as much, twice; the third time it is enough.
    let server = Wire::new(move |asked| match max_tokens(asked) {
        Some(400) => Openai.answer(TEXT),
        _ => Openai.ended("It will", "length"),
    });
    let grows = space(&server, ["max_output = 4000"; 3], "params = { max_tokens = 100 }");
    grows.build();
    let sizes: Vec<_> = server.posts().iter().map(max_tokens).collect();
    assert_eq!((asked(&server), sizes), (vec!["first".to_owned(); 3], vec![Some(100), Some(200), Some(400)]));
    // No more than the model may answer; then to one that holds more, or the next.
    let server = but("first", |_| Openai.ended("It will", "length"));
    let moves = space(
        &server,
        ["max_output = 150\ncontext_window = 8000", "context_window = 8000", "context_window = 64000"],
        "params = { max_tokens = 100 }",
    );
    moves.build();
    let sizes: Vec<_> = server.posts().iter().map(max_tokens).collect();
    assert_eq!(asked(&server), ["first", "first", "third"]);
    assert_eq!(sizes[..2], [Some(100), Some(150)]);
}

#[test]
fn a_rejected_answer_is_asked_for_again_with_what_was_wrong() {
    for dialect in [Openai, Anthropic] {
        let server = Wire::new(move |asked| match asked.nth {
            0 => dialect.answer("{\"x\": 5}"),
            1 => dialect.answer("Sure! ```json\n{\"x\": \"b\", \"n\": \"many\"}\n```"),
            _ => dialect.answer("{\"x\": \"b\", \"n\": 3}"),
        });
        let space = super::faults::space(&server, dialect, "");
        let schema = json!({ "type": "object", "required": ["x", "n"], "properties": { "x": { "type": "string" }, "n": { "type": "integer" } } });
        space.write("text.schema.json", schema.to_string());
        space.write("pipeline.toml", space.read("pipeline.toml") + "schema = \"text.schema.json\"\n");
        space.build();
        assert_eq!(server.count(), 3);
        let turns = |asked: &Asked| -> Vec<(String, String)> {
            let messages = asked.body["messages"].as_array().expect("messages");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
        };
        let last = turns(&server.posts()[2]);
        let roles: Vec<&str> = last.iter().map(|(role, _)| role.as_str()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"], "{dialect:?}");
        assert!(last[1].1.contains("\"x\": 5") && last[3].1.contains("many"), "{last:?}");
        // The path and what is wrong there; what is missing by its name.
        assert!(last[2].1.contains("/x") && last[2].1.contains('n'), "{}", last[2].1);
        assert!(last[4].1.contains("/n") && last[4].1.contains("many"), "{}", last[4].1);
        let failures = space.lines("failures.jsonl");
        assert_eq!(failures.len(), 2);
        assert_eq!(
            (&failures[0]["missing_fields"], &failures[0]["invalid_fields"]),
            (&json!(["n"]), &json!(["x"]))
        );
        assert_eq!(
            (&failures[1]["missing_fields"], &failures[1]["invalid_fields"]),
            (&json!([]), &json!(["n"]))
        );
    }
}

#[test]
fn rejected_for_good_goes_to_the_next_model_without_the_old_talk() {
    let server = Wire::new(|asked| match asked.body["model"] == "second" {
        true => Openai.answer("{\"x\": \"b\", \"n\": 3}"),
        false => Openai.answer("no JSON at all"),
    });
    let space = space(&server, [""; 3], "schema = \"a.schema.json\"\nmax_validation_retries = 1");
    space.build();
    assert_eq!(asked(&server), ["first", "first", "second"]);
    let last = server.posts()[2].body["messages"].as_array().expect("messages").len();
    assert_eq!(last, 1, "the second model does not see what the first said");
}

/// The dialects a list may mix.
#[test]
fn a_list_may_mix_dialects() {
    let server = Wire::new(|asked| match asked.line.as_str() {
        "POST /v1/messages" => Anthropic.answer(TEXT),
        _ => reply(529, "", &Dialect::Openai.error("overloaded_error", "Overloaded")),
    });
    let space = space(&server, [""; 3], "");
    space.edit(
        "pipeline.toml",
        "model = [\"first\", \"second\", \"third\"]",
        "model = [\"first\", \"claude\"]",
    );
    let claude = format!(
        "\n[models.claude]\napi = \"anthropic\"\nmodel = \"claude\"\nbase_url = \"{}\"\n",
        server.base_url(Anthropic)
    );
    space.write("pipeline.toml", space.read("pipeline.toml") + &claude);
    space.build();
    assert_eq!(asked(&server), ["first", "first", "claude"]);
}
