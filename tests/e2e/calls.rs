//! Calls as a build makes them: what is sent, how long is waited, what is tried again and what is not.

use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space, counts, patiently};

const ONE: &str = r#"
[task.a]
outputs = ["a.txt"]
prompt = "TASK=a\nAnswer."
"#;

const TWO: &str = r#"
[task.a]
outputs = ["a.txt"]
prompt = "TASK=a\nAnswer."

[task.b]
outputs = ["b.txt"]
prompt = "TASK=b\nAnswer."
"#;

fn one_with(server: &FakeLlm, keys: &str) -> Space {
    let space = Space::new();
    space.pipeline_with(server, keys, ONE);
    space
}

#[test]
fn what_is_sent() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline_with(
        &server,
        "headers = { X-Team = \"bridges\" }",
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json"]
system = "You are an analyst."
prompt = "TASK=a\nJudge {{ plan }}"
schema = "a.schema.json"
params = { temperature = 0.2, max_tokens = 400, seed = 7 }
params_extra = { top_k = 5 }
"#,
    );
    space.write("plan.txt", "a bridge");
    space.write(
        "a.schema.json",
        r#"{"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}"#,
    );
    space.build();
    let call = server.last("a");
    assert_eq!(call.messages[0], ("system".to_owned(), "You are an analyst.".to_owned()));
    assert_eq!(call.messages.last().expect("a message").0, "user");
    assert!(call.prompt.starts_with("TASK=a\nJudge a bridge"));
    assert_eq!((&call.body["model"], &call.body["stream"]), (&json!("fake-1"), &json!(true)));
    assert_eq!(
        (&call.body["temperature"], &call.body["seed"], &call.body["top_k"]),
        (&json!(0.2), &json!(7), &json!(5))
    );
    assert!(call.body["max_tokens"] == 400 || call.body["max_completion_tokens"] == 400, "{:#}", call.body);
    assert_eq!(call.schema.expect("a schema")["properties"]["title"]["type"], "string");
    assert_eq!(call.headers.get("x-team").map(String::as_str), Some("bridges"));
    assert_eq!(call.headers.get("authorization"), None);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    patiently(|slow| {
        let server = FakeLlm::scripted(|request| match request.task.as_str() {
            "a" => Answer::Hang,
            _ => Answer::Default,
        });
        let space = Space::new();
        space.pipeline_with(&server, &format!("timeouts = {{ first_token = \"{}ms\" }}", 200 * slow), TWO);
        space.run(&["build"]).exits(1).says(&["a", "timeout"]);
        assert_eq!(server.counts(), counts([("a", 2), ("b", 1)]));
        assert_eq!(space.sidecar("a.txt")["failure"]["class"], "timeout");
        assert!(space.is_done("b.txt"));
        server.script(|_| Answer::Default);
        space.build();
        space.assert_nothing_to_do(&server);
    });
}

#[test]
fn a_stream_that_stands_still_is_given_up() {
    patiently(|slow| {
        let server = FakeLlm::scripted(|_| Answer::Half("The first half of it, and then the second.".into()));
        let space = one_with(&server, &format!("timeouts = {{ idle = \"{}ms\" }}", 200 * slow));
        space.run(&["build"]).exits(1).says(&["timeout"]);
        assert_eq!(server.total(), 2);
        assert!(!space.exists("a.txt"));
    });
}

#[test]
fn slow_is_not_dead() {
    patiently(|slow| {
        let text = "Slowly, word by word, the answer comes. ".repeat(4)
            + "But it comes whole, and that is what counts in the end.";
        let server = FakeLlm::scripted({
            let text = text.clone();
            move |_| Answer::Drip(text.clone(), Duration::from_millis(300) * slow)
        });
        // The whole takes longer than any pause may be.
        let space = one_with(
            &server,
            &format!("timeouts = {{ first_token = \"{0}ms\", idle = \"{0}ms\" }}", 1200 * slow),
        );
        space.build();
        assert_eq!((server.total(), space.read("a.txt").trim()), (1, text.as_str()));
        space.assert_nothing_to_do(&server);
    });
}

#[test]
fn the_time_of_a_task_bounds_its_calls() {
    patiently(|slow| {
        let server = FakeLlm::scripted(|request| match request.task.as_str() {
            "a" => Answer::Hang,
            _ => Answer::Default,
        });
        let time = 0.3 * f64::from(slow);
        let space = Space::new();
        space.pipeline_with(&server, "", &format!("[timeouts]\na = {time}\n{TWO}"));
        space.run(&["build"]).exits(1).says(&["a", "timeout"]);
        assert_eq!(space.sidecar("a.txt")["failure"]["class"], "timeout");
        assert!(space.is_done("b.txt"));
        space.edit("pipeline.toml", &format!("a = {time}"), "a = 3000");
        space.run(&["build", "-q", "b"]).exits(0);
    });
}

#[test]
fn a_full_queue_is_waited_for_and_uses_no_attempt() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0..3 => Answer::Http(
            429,
            vec![("Retry-After", "0".into())],
            r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#.into(),
        ),
        _ => Answer::Default,
    });
    let space = one_with(&server, "");
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 1");
    space.build();
    assert_eq!(server.total(), 4);
    assert_eq!(space.status("a")["attempt"], 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_model_that_is_being_loaded_is_waited_for() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0..2 => Answer::Http(
            503,
            vec![],
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#.into(),
        ),
        _ => Answer::Default,
    });
    let space = one_with(&server, "");
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 1");
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_passes_by_itself_is_tried_again_within_the_attempts() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => Answer::error(500, "broken"),
        1 => Answer::Close,
        2 => Answer::Cut("An answer that is cut somewhere in the middle of it.".into()),
        _ => Answer::Default,
    });
    let space = one_with(&server, "");
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 4");
    space.build();
    assert_eq!(server.total(), 4);
    assert!(space.read("a.txt").contains("to a"));
    let failures = space.lines("failures.jsonl");
    assert!(failures.len() <= 3, "{failures:#?}");
    let metrics = space.lines("usage_metrics.jsonl");
    assert_eq!(metrics.iter().filter(|line| line["success"] == true).count(), 1, "{metrics:#?}");
    assert_eq!(metrics.len(), 4, "a line a call: {metrics:#?}");
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_will_not_pass_closes_the_endpoint() {
    let server = FakeLlm::scripted(|_| Answer::error(401, "wrong key"));
    let space = Space::new();
    space.pipeline_with(&server, "", TWO);
    space.run(&["build", "-j1"]).exits(1).says(&["a", "b", "wrong key"]);
    assert_eq!(server.total(), 1, "nobody asks again at a closed door");
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "auth");
}

#[test]
fn a_cut_off_answer_is_named_as_such() {
    let server = FakeLlm::scripted(|_| Answer::Finish("Half of the thought that the".into(), "length"));
    let space = one_with(&server, "");
    space.run(&["build"]).exits(1).says(&["truncated"]);
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "truncated");
}

#[test]
fn a_prompt_too_long_is_not_sent_or_named_by_the_server() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline_with(
        &server,
        "context_window = 2000",
        "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ plan }}\"\n",
    );
    let long: String = (0..20_000).map(|n| format!("word{n} ")).collect();
    space.write("plan.txt", long);
    space.run(&["build"]).exits(1).says(&["a", "context"]);
    assert_eq!(server.total(), 0, "its size is known before it is sent");
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "context_overflow");

    server.script(|_| {
        let body = json!({ "error": { "message": "This model's maximum context length is 2000 tokens", "type": "invalid_request_error", "code": "context_length_exceeded" } });
        Answer::Http(400, vec![], body.to_string())
    });
    space.edit("pipeline.toml", "context_window = 2000\n", "");
    space.run(&["build"]).exits(1).says(&["a", "context"]);
    assert_eq!(
        (server.total(), &space.sidecar("a.txt")["failure"]["class"]),
        (1, &json!("context_overflow"))
    );
}

#[test]
fn an_endless_answer_is_cut_off_by_us() {
    let server = FakeLlm::scripted(|_| {
        Answer::Drip("The same line again and again.\n".repeat(40_000), Duration::ZERO)
    });
    let space = one_with(&server, "");
    space.run(&["build"]).exits(1);
    assert!(!space.exists("a.txt"));
}

#[test]
fn a_finish_reason_and_a_clean_end_count_without_the_last_marker() {
    let stream = |finish: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        let chunk = |delta: &str, reason: &str| {
            format!(
                "data: {{\"id\":\"x\",\"model\":\"fake-1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
            )
        };
        let text = chunk(r#"{"role":"assistant","content":"A whole answer."}"#, "null");
        let end = if finish.is_empty() { String::new() } else { chunk("{}", finish) };
        format!("{head}{text}{end}").into_bytes()
    };
    let whole = stream("\"stop\"");
    let server = FakeLlm::scripted(move |_| Answer::Raw(whole.clone()));
    let space = one_with(&server, "");
    space.build();
    assert_eq!((server.total(), space.read("a.txt").trim()), (1, "A whole answer."));
    space.assert_nothing_to_do(&server);

    let cut = stream("");
    server.script(move |_| Answer::Raw(cut.clone()));
    let space = one_with(&server, "");
    space.run(&["build"]).exits(1);
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "cut");
    assert!(!space.exists("a.txt"));
}

#[test]
fn a_program_as_a_model() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[models.local]
api = "command"
command = ["sh", "-c", "echo >> ../asked.log; printf 'You said: '; cat"]

[defaults]
model = "local"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "Repeat {{ plan }}"
"#,
    );
    space.write("plan.txt", "Build a bridge.");
    space.build();
    assert!(
        space.read("a.txt").contains("You said:") && space.read("a.txt").contains("Repeat Build a bridge.")
    );
    assert_eq!(space.tally("asked"), 1);
    space.assert_nothing_to_do(&server);
    space.remove("a.txt");
    space.build();
    assert_eq!(space.tally("asked"), 1);
}

/// Answers everything that connects with the same bytes.
fn answers_all(answer: &'static str) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            // The end of a request's head, or the first of what is no HTTP.
            while !asked.ends_with(b"\r\n\r\n") && asked.first() != Some(&0x16) {
                match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => asked.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_server_without_tls_and_a_proxy_that_refuses_are_named() {
    let address = answers_all("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
    let model = |base_url: &str| {
        let space = Space::new();
        space.write(
            "pipeline.toml",
            format!(
                "[models.m]\napi = \"openai\"\nmodel = \"x\"\nbase_url = \"{base_url}\"\nretry = {{ max_attempts = 1 }}\n\n[defaults]\nmodel = \"m\"\n{ONE}"
            ),
        );
        space
    };
    let plain = model(&format!("https://{address}/v1"));
    plain.run(&["build"]).exits(1).says(&["config", "speaks no TLS", "http:// and not https://"]);
    for (variable, base_url) in
        [("HTTPS_PROXY", "https://models.example/v1"), ("HTTP_PROXY", "http://models.example/v1")]
    {
        let space = model(base_url);
        space.set_env(variable, format!("http://{address}"));
        space.run(&["build"]).exits(1).says(&["models.example", &format!("by the proxy {address}")]);
    }
    // A proxy that cannot be spoken to is not passed by.
    let space = model("https://models.example/v1");
    space.set_env("ALL_PROXY", format!("socks5://user:hunter2@{address}"));
    let out = space.run(&["build"]).exits(2).says(&[&format!("socks5://{address}"), "NO_PROXY"]);
    assert!(!out.stderr.contains("hunter2"), "{out}");
}
