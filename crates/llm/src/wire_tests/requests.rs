//! What is sent: to each server in the form it wants, and in another once it has refused one.

use super::*;

/// The JSON body of a request, and its head in lower case.
fn parts(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
}

fn asked(table: &str, request: &Request, answer: Vec<Step>) -> (String, Value) {
    let (port, server) = serve(vec![answer]);
    call(&*provider_of(table, port), request).unwrap();
    parts(&server.join().unwrap()[0])
}

#[test]
fn requests_are_as_each_server_wants_them() {
    let mut full = request();
    full.schema =
        Some(json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 1 } } }));
    full.params.insert("max_tokens".into(), json!(100));
    full.params.insert("temperature".into(), json!(0.2));
    full.params.insert("stop".into(), json!("END"));
    full.params_extra.insert("top_k".into(), json!(5));
    full.rejected.push(Rejected { answer: "{}".into(), feedback: "`a` is missing".into() });
    full.rejected.push(Rejected { answer: " ".into(), feedback: "that was empty".into() });
    let ok = || events(&(delta("{\"a\":1}") + &finish("stop")));
    let turns = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "What of it?" },
        { "role": "assistant", "content": "{}" },
        { "role": "user", "content": "`a` is missing\n\nthat was empty" },
    ]);

    let (head, body) = asked(
        "api = \"openai\"\nserver = \"openai\"\napi_key_env = \"SOME_KEY\"\nheaders = { X-Team = \"plans\" }",
        &full,
        ok(),
    );
    assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
    for wanted in [
        "authorization: bearer sk-very-secret",
        "x-team: plans",
        "content-type: application/json",
        "user-agent: planexe/",
    ] {
        assert!(head.contains(wanted), "{wanted} in {head}");
    }
    assert!(!head.contains("transfer-encoding") && !head.contains("gzip"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "m", "messages": turns, "max_completion_tokens": 100, "temperature": 0.2, "stop": "END",
            "response_format": { "type": "json_schema", "json_schema": { "name": "swot_analysis", "schema": {
                "type": "object",
                "properties": { "a": { "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "null" }] } },
                "additionalProperties": false, "required": ["a"]
            }, "strict": true } },
            "stream": true, "stream_options": { "include_usage": true }, "top_k": 5
        })
    );

    let (_, body) = asked(LLAMA, &full, ok());
    assert_eq!(body["max_tokens"], 100);
    assert_eq!(body["return_progress"], true);
    assert_eq!(body["response_format"]["json_schema"]["schema"], *full.schema.as_ref().unwrap());
    assert!(asked(OPENAI, &full, ok()).1.get("return_progress").is_none());

    let message =
        r#"{"type":"message","content":[{"type":"text","text":"{\"a\":1}"}],"stop_reason":"end_turn"}"#;
    let (head, body) =
        asked("api = \"anthropic\"\napi_key_env = \"SOME_KEY\"", &full, json_of(200, "", message));
    assert!(head.starts_with("post /v1/messages http/1.1\r\n"), "{head}");
    assert!(
        head.contains("x-api-key: sk-very-secret") && head.contains("anthropic-version: 2023-06-01"),
        "{head}"
    );
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "m", "max_tokens": 100, "system": "Be brief.", "messages": turns.as_array().unwrap()[1..],
            "temperature": 0.2, "stop_sequences": ["END"],
            "output_config": { "format": { "type": "json_schema", "schema": {
                "type": "object",
                "properties": { "a": { "type": "integer", "description": "{minimum: 1}" } },
                "additionalProperties": false
            } } },
            "stream": true, "top_k": 5
        })
    );

    let (head, body) = asked(
        "api = \"ollama\"\ncontext_window = 8192",
        &full,
        json_of(200, "", r#"{"message":{"content":"{\"a\":1}"},"done":true,"done_reason":"stop"}"#),
    );
    assert!(head.starts_with("post /api/chat http/1.1\r\n"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "m", "messages": turns, "stream": true, "truncate": false, "shift": false,
            "format": full.schema, "top_k": 5,
            "options": { "num_ctx": 8192, "num_predict": 100, "temperature": 0.2, "stop": "END" }
        })
    );
}

#[test]
fn a_refused_schema_is_asked_for_in_words_once_and_for_good() {
    let mut with_schema = request();
    with_schema.schema = Some(json!({ "type": "object" }));
    let refused = r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#;
    let ok = || events(&(delta("{}") + &finish("stop")));
    let (port, server) = serve(vec![json_of(400, "", refused), ok(), ok()]);
    let provider = provider_of(OPENAI, port);
    assert_eq!(call(&*provider, &with_schema).unwrap().text, "{}");
    assert_eq!(call(&*provider, &with_schema).unwrap().text, "{}");
    let requests: Vec<Value> = server.join().unwrap().iter().map(|request| parts(request).1).collect();
    assert!(requests[0].get("response_format").is_some());
    for later in &requests[1..] {
        assert!(later.get("response_format").is_none());
        assert!(later["messages"][1]["content"].as_str().unwrap().contains("JSON Schema"));
    }

    let (port, server) = serve(vec![json_of(400, "", refused), json_of(400, "", refused)]);
    let error = call(&*provider_of(OPENAI, port), &with_schema).unwrap_err();
    assert_eq!(error.class, Class::BadRequest);
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn max_tokens_is_renamed_when_the_server_says_so() {
    let mut limited = request();
    limited.params.insert("max_tokens".into(), json!(7));
    let refused = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","code":"unsupported_parameter"}}"#;
    let (port, server) = serve(vec![json_of(400, "", refused), events(&(delta("yes") + &finish("stop")))]);
    assert_eq!(call(&*provider_of(OPENAI, port), &limited).unwrap().text, "yes");
    let requests = server.join().unwrap();
    assert_eq!(parts(&requests[1]).1["max_completion_tokens"], 7);
}

#[test]
fn parameters_go_where_each_dialect_has_them() {
    let mut full = request();
    for (name, value) in [
        ("stop", json!(["END", "FIN"])),
        ("reasoning_effort", json!("low")),
        ("seed", json!(7)),
        ("keep_alive", json!("30m")),
    ] {
        full.params.insert(name.into(), value);
    }
    full.params_extra.insert("options".into(), json!({ "num_gpu": 1 }));
    let message = r#"{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}"#;
    let (head, body) = asked("api = \"anthropic\"", &full, json_of(200, "", message));
    assert!(!head.contains("x-api-key") && !head.contains("authorization"), "{head}");
    assert_eq!(body["stop_sequences"], json!(["END", "FIN"]));
    assert_eq!(body["output_config"], json!({ "effort": "low" }));
    assert!(body.get("seed").is_none(), "{body}");

    let done = r#"{"message":{"content":"a"},"done":true,"done_reason":"stop"}"#;
    let (_, body) = asked("api = \"ollama\"", &full, json_of(200, "", done));
    assert_eq!((&body["think"], &body["keep_alive"]), (&json!("low"), &json!("30m")));
    assert_eq!(body["options"], json!({ "stop": ["END", "FIN"], "seed": 7, "num_gpu": 1 }));

    let ok = || events(&(delta("{}") + &finish("stop")));
    full.schema = Some(json!({ "type": "object" }));
    let (_, body) = asked("api = \"openai\"\nserver = \"openrouter\"", &full, ok());
    assert_eq!(body["provider"], json!({ "require_parameters": true }));
    assert!(asked(OPENAI, &full, ok()).1.get("provider").is_none());
}

#[test]
fn a_server_that_says_what_it_is_is_asked_accordingly() {
    let named = |header: &str| {
        vec![send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{header}\r\nconnection: close\r\n\r\n{}{}",
            delta("a"),
            finish("stop")
        ))]
    };
    for (header, progress) in [("server: llama.cpp", true), ("x-litellm-version: 1.2", false)] {
        let (port, server) = serve(vec![named(header), named(header)]);
        let provider = provider_of(OPENAI, port);
        for _ in 0..2 {
            call(&*provider, &request()).unwrap();
        }
        let bodies: Vec<Value> = server.join().unwrap().iter().map(|request| parts(request).1).collect();
        assert!(bodies[0].get("return_progress").is_none(), "{header}");
        assert_eq!(bodies[1].get("return_progress").is_some(), progress, "{header}");
    }
}

#[test]
fn a_schema_that_is_refused_is_put_in_words_in_every_dialect() {
    let mut with_schema = request();
    with_schema.schema = Some(json!({ "type": "object", "properties": { "a": { "type": "integer" } } }));
    let claude = |text: &str| {
        let body = json!({ "type": "message", "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn" });
        json_of(200, "", &body.to_string())
    };
    let llama = |text: &str| {
        let body = json!({ "message": { "content": text }, "done": true, "done_reason": "stop" });
        json_of(200, "", &body.to_string())
    };
    let refused = r#"{"type":"error","error":{"type":"invalid_request_error","message":"output_config.format: this model does not support structured outputs"}}"#;
    let unsupported = r#"{"error":"invalid JSON schema in format"}"#;
    for (table, refusal, answer, member) in [
        ("api = \"anthropic\"", json_of(400, "", refused), claude("{}"), "output_config"),
        ("api = \"ollama\"", json_of(400, "", unsupported), llama("{}"), "format"),
    ] {
        let (port, server) = serve(vec![refusal, answer]);
        assert_eq!(call(&*provider_of(table, port), &with_schema).unwrap().text, "{}", "{table}");
        let bodies: Vec<Value> = server.join().unwrap().iter().map(|request| parts(request).1).collect();
        assert!(bodies[0].get(member).is_some() && bodies[1].get(member).is_none(), "{table}");
        assert!(bodies[1].to_string().contains("JSON Schema"), "{table}");
    }
}
