//! What comes back: answers that are whole, answers that are none, refusals, in every dialect.

use std::ops::Add;

use super::*;

#[test]
fn openai_answers() {
    let ok = || delta("Hel") + &delta("lo") + &finish("stop");
    let whole = r#"{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":5}}"#;
    #[rustfmt::skip]
    let rows = vec![
        row("streamed", OPENAI, events(&(ok() + USAGE + DONE)), Text("Hello")),
        row("in chunks", OPENAI, chunked((ok() + USAGE + DONE).as_bytes(), true), Text("Hello")),
        row("no [DONE], a clean end", OPENAI, events(&ok()), Text("Hello")),
        row("no [DONE], chunked, a clean end", OPENAI, chunked(ok().as_bytes(), true), Text("Hello")),
        row("CRLF and comments", OPENAI, events(&format!(": hi\r\n\r\n{}", ok().replace('\n', "\r\n"))), Text("Hello")),
        row("data without a space", OPENAI, events(&ok().replace("data: ", "data:")), Text("Hello")),
        row("no empty lines between", OPENAI, events(&ok().replace("\n\n", "\n")), Text("Hello")),
        row("no content type", OPENAI, vec![send(format!("HTTP/1.1 200 OK\r\n\r\n{}", ok()))], Text("Hello")),
        row("events called JSON", OPENAI, closed("application/json", &ok()), Text("Hello")),
        row("stream ignored", OPENAI, json_of(200, "", whole), Text("Hello")),
        row(
            "content in parts",
            OPENAI,
            events(&(r#"data: {"choices":[{"delta":{"content":[{"type":"text","text":"Hello"}]},"finish_reason":"stop"}]}"#.to_owned() + "\n\n")),
            Text("Hello"),
        ),
        row(
            "content that is no string",
            OPENAI,
            events(&[r#""n: ""#, "1", "-2", "0.5", "true", "null"].map(|content| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{content}}}}}]}}\n\n")).concat().add(&finish("stop"))),
            Text("n: 1-20.5true"),
        ),
        row(
            "null everywhere, another choice, unknown members",
            OPENAI,
            events(&(r#"data: {"id":null,"model":null,"usage":null,"error":null,"x":{},"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":null},"finish_reason":null},{"index":1,"delta":{"content":"no"}}]}"#.to_owned() + "\n\n" + &ok())),
            Text("Hello"),
        ),
        row("thought in tags", OPENAI, events(&(delta("<think>hm") + &delta("</think>\n\nHello") + &finish("stop"))), Text("Hello")),
        row(
            "openrouter's comments",
            OPENAI,
            events(&format!(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n{}{USAGE}{DONE}", ok())),
            Text("Hello"),
        ),
        row(
            "llama.cpp, blanks in JSON and huge numbers",
            LLAMA,
            events(&(delta("{ \"x\" :1616123616161611}") + &finish("stop") + DONE)),
            Text("{ \"x\" :1616123616161611}"),
        ),
        row(
            "drops, slow but alive",
            "api = \"openai\"\ntimeouts = { idle = \"4s\" }",
            vec![
                send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
                send(delta("Hel")),
                Step::Pause(Duration::from_millis(1100)),
                send(&delta("lo").as_bytes()[..9]),
                Step::Pause(Duration::from_millis(1100)),
                send(&delta("lo").as_bytes()[9..]),
                Step::Pause(Duration::from_millis(1100)),
                send(delta(" all")),
                Step::Pause(Duration::from_millis(1100)),
                send(finish("stop")),
            ],
            Text("Hello all"),
        ),
    ];
    check(rows);
}

#[test]
fn openai_answers_that_are_none() {
    let flood = " \n".repeat(2000);
    let first = "api = \"openai\"\ntimeouts = { first_token = \"300ms\" }";
    let idle = "api = \"openai\"\ntimeouts = { idle = \"300ms\" }";
    let head = || send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let reasoning = |text: &str| {
        format!("data: {}\n\n", json!({ "choices": [{ "delta": { "reasoning_content": text } }] }))
    };
    #[rustfmt::skip]
    let rows = vec![
        row("cut, closed", OPENAI, events(&delta("Hel")), Error(Class::Cut, "finish reason", "Hel")),
        row("cut, broken chunk", OPENAI, chunked(delta("Hel").as_bytes(), false), Error(Class::Cut, "broke", "Hel")),
        row(
            "a finish reason and then a broken end",
            OPENAI,
            chunked((delta("Hel") + &finish("stop")).as_bytes(), false),
            Error(Class::Cut, "broke", "Hel"),
        ),
        row("[DONE] without a finish reason", OPENAI, events(&(delta("Hel") + DONE)), Error(Class::Cut, "finish reason", "Hel")),
        row("one empty chunk, then the end", OPENAI, events(&delta("")), Error(Class::Cut, "without an answer", "")),
        row("length", OPENAI, events(&(delta("{\"a\":") + &finish("length") + USAGE + DONE)), Error(Class::Truncated, "after 5 tokens", "{\"a\":")),
        row(
            "length, all reasoning",
            OPENAI,
            events(&(reasoning("hm") + &finish("length"))),
            Error(Class::Truncated, "spent on reasoning", ""),
        ),
        row("filtered", OPENAI, events(&(delta("He") + &finish("content_filter"))), Error(Class::Refusal, "declined", "He")),
        row(
            "refused",
            OPENAI,
            events(&(r#"data: {"choices":[{"delta":{"refusal":"I cannot."},"finish_reason":"stop"}]}"#.to_owned() + "\n\n")),
            Error(Class::Refusal, "I cannot.", ""),
        ),
        row("a tool", OPENAI, events(&finish("tool_calls")), Error(Class::EmptyResponse, "tool", "")),
        row("an unknown finish", OPENAI, events(&(delta("He") + &finish("abort"))), Error(Class::Cut, "abort", "He")),
        row("no content", OPENAI, events(&(finish("stop") + DONE)), Error(Class::EmptyResponse, "empty", "")),
        row("only blanks", OPENAI, events(&(delta(" \n") + &finish("stop"))), Error(Class::EmptyResponse, "empty", " \n")),
        row("only reasoning", OPENAI, events(&(reasoning("hm") + &finish("stop"))), Error(Class::EmptyResponse, "reasoning", "")),
        row("nothing", OPENAI, events(""), Error(Class::EmptyResponse, "nothing else", "")),
        row("nothing, of length 0", OPENAI, json_of(200, "", ""), Error(Class::EmptyResponse, "nothing else", "")),
        row("JSON cut short", OPENAI, json_of(200, "", r#"{"choices":[{"message":{"content":"He"#), Error(Class::Cut, "middle", "")),
        row("JSON broken", OPENAI, json_of(200, "", r#"{"choices":[{"message":}]}"#), Error(Class::BadData, "not the JSON", "")),
        row("an event broken", OPENAI, events(&(delta("He") + "data: {\"choices\" 5}\n\n")), Error(Class::BadData, "not the JSON", "He")),
        row(
            "a length that is too long",
            OPENAI,
            vec![send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"choices\":[]")],
            Error(Class::Cut, "broke", ""),
        ),
        row(
            "a length that is too short",
            OPENAI,
            vec![send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 150\r\n\r\n{}{}", delta("Hello"), finish("stop")))],
            Error(Class::Cut, "middle", "Hello"),
        ),
        row("a web page", OPENAI, closed("text/html", "<html><title>Sign in</title></html>"), Error(Class::BadData, "Sign in", "")),
        row("plain text", OPENAI, closed("text/plain", "what?"), Error(Class::BadData, "text/plain", "")),
        row(
            "bad UTF-8",
            OPENAI,
            vec![head(), send(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"},\"finish_reason\":\"stop\"}]}\n\n".to_vec())],
            Error(Class::BadData, "UTF-8", ""),
        ),
        row("half a surrogate pair", OPENAI, events(&format!("{}data: {}\n\n", delta("a"), r#"{"choices":[{"delta":{"content":"\ud800"}}]}"#)), Error(Class::BadData, "not the JSON", "a")),
        row("NUL", OPENAI, events(&(delta("a\0b") + &finish("stop"))), Error(Class::BadData, "NUL", "a\0b")),
        row("white space flood", OPENAI, events(&(delta("{") + &delta(&flood))), Error(Class::Degenerate, "white space", Box::leak(format!("{{{flood}").into_boxed_str()))),
        row("endless line", OPENAI, vec![head(), send("data: "), Step::Repeat(Box::leak("x".repeat(1 << 20).into_boxed_str()), Duration::ZERO)], Error(Class::BadData, "larger than 8 MiB", "")),
        row("endless comments", OPENAI, vec![head(), Step::Repeat(Box::leak(": x\n\n".repeat(1 << 18).into_boxed_str()), Duration::ZERO)], Error(Class::BadData, "larger than 16 MiB", "")),
        row("an error event", OPENAI, events(&(delta("He") + "event: error\ndata: {\"error\":{\"message\":\"Trying to keep the first 9000 tokens when context the overflows.\"}}\n\n")), Error(Class::ContextOverflow, "Trying", "He")),
        row("an error in a 200", OPENAI, json_of(200, "", r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow down"}}}"#), Error(Class::RateLimit, "slow down", "")),
        row("an error in the stream", OPENAI, events(&(delta("He") + "data: {\"error\":{\"code\":\"502\",\"message\":\"Provider disconnected\"}}\n\n" + DONE)), Error(Class::ServerError, "disconnected", "He")),
        row("an error that is a string", OPENAI, events("data: {\"error\":\"Context size has been exceeded.\"}\n\n"), Error(Class::ContextOverflow, "Context size", "")),
        row("an old vLLM's error", OPENAI, events("data: {\"object\":\"error\",\"message\":\"This model's maximum context length is 4096\",\"code\":400}\n\n"), Error(Class::ContextOverflow, "maximum context", "")),
        row("finish reason error", OPENAI, events(&(delta("He") + "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\",\"error\":{\"code\":503,\"message\":\"overloaded\"}}]}\n\n")), Error(Class::ServerError, "overloaded", "He")),
        row("a reset", OPENAI, vec![Step::Reset], Error(Class::Connection, "closed the connection", "")),
        row("closed without a byte", OPENAI, vec![], Error(Class::Connection, "closed the connection", "")),
        row("half a head", OPENAI, vec![send("HTTP/1.1 200 OK\r\ncontent-ty")], Error(Class::Connection, "closed the connection", "")),
        row("not HTTP", OPENAI, vec![send("SSH-2.0-OpenSSH_9\r\n\r\n")], Error(Class::Connection, "HTTP", "")),
        row("a head without end", OPENAI, vec![send(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000)))], Error(Class::BadData, "headers", "")),
        row("silent from the start", first, vec![Step::Hold], Error(Class::Timeout, "first_token", "")),
        row("silent after the head", first, vec![head(), Step::Hold], Error(Class::Timeout, "first_token", "")),
        row("keep-alives, no content", first, vec![head(), Step::Repeat(":\n\n", Duration::from_millis(20))], Error(Class::Timeout, "first_token", "")),
        row("an empty role chunk, no content", first, vec![head(), send(delta("")), Step::Hold], Error(Class::Timeout, "first_token", "")),
        row("silent after content", idle, vec![head(), send(delta("He")), Step::Hold], Error(Class::Timeout, "idle", "He")),
        row("keep-alives after content", idle, vec![head(), send(delta("He")), Step::Repeat(": ping\n\n", Duration::from_millis(20))], Error(Class::Timeout, "idle", "He")),
    ];
    check(rows);
}

#[test]
fn refusals_by_status() {
    let error = |message: &str| format!(r#"{{"error":{{"message":"{message}","type":"x","code":null}}}}"#);
    let mut rows = Vec::new();
    for (name, status, class) in [
        ("400", 400, Class::BadRequest),
        ("401", 401, Class::Auth),
        ("402", 402, Class::Quota),
        ("403", 403, Class::Auth),
        ("404", 404, Class::Config),
        ("405", 405, Class::BadRequest),
        ("408", 408, Class::ServerError),
        ("409", 409, Class::ServerError),
        ("413", 413, Class::BadRequest),
        ("422", 422, Class::BadRequest),
        ("429", 429, Class::RateLimit),
        ("499", 499, Class::ServerError),
        ("500", 500, Class::ServerError),
        ("502", 502, Class::ServerError),
        ("503", 503, Class::ServerError),
        ("529", 529, Class::ServerError),
    ] {
        for table in [OPENAI, "api = \"anthropic\"", "api = \"ollama\""] {
            rows.push(row(
                name,
                table,
                json_of(status, "", &error("no such luck")),
                Error(class, "no such luck", ""),
            ));
            rows.push(row(name, table, json_of(status, "", ""), Error(class, "HTTP", "")));
        }
    }
    rows.push(row(
        "redirect",
        OPENAI,
        json_of(307, "location: http://elsewhere/v1\r\n", ""),
        Error(Class::Config, "http://elsewhere/v1", ""),
    ));
    rows.push(row(
        "302",
        OPENAI,
        json_of(302, "location: http://elsewhere/\r\n", ""),
        Error(Class::Config, "redirect", ""),
    ));
    rows.push(row(
        "loading",
        LLAMA,
        json_of(503, "", r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#),
        Error(Class::ServerLoading, "Loading", ""),
    ));
    rows.push(row(
        "llama.cpp overflow",
        LLAMA,
        json_of(400, "", r#"{"error":{"code":400,"message":"request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9412,"n_ctx":8192}}"#),
        Error(Class::ContextOverflow, "a context of 8192", ""),
    ));
    rows.push(row("a gateway's page", OPENAI, vec![send("HTTP/1.1 502 Bad\r\ncontent-type: text/html\r\n\r\n<html><head><title>502 Bad Gateway</title></head>")], Error(Class::ServerError, "502 Bad Gateway", "")));
    check(rows);
}

#[test]
fn waits_asked_for_are_kept() {
    for (headers, body, wanted) in [
        ("", "", None),
        ("retry-after: 7\r\n", "", Some(7.0)),
        ("retry-after-ms: 1500\r\nretry-after: 2\r\n", "", Some(1.5)),
        (
            "date: Sat, 21 Nov 2026 08:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 08:01:00 GMT\r\n",
            "",
            Some(60.0),
        ),
        ("x-ratelimit-reset-tokens: 6m0s\r\nx-ratelimit-remaining-tokens: 0\r\n", "", Some(360.0)),
        ("", r#"{"error":{"message":"x","metadata":{"retry_after":3}}}"#, Some(3.0)),
    ] {
        let (port, server) = serve(vec![json_of(429, headers, body)]);
        let error = call(&*provider_of(OPENAI, port), &request()).unwrap_err();
        server.join().unwrap();
        assert_eq!(error.retry_after.map(|wait| wait.as_secs_f64()), wanted, "{headers}{body}");
    }
}

#[test]
fn anthropic_answers() {
    const TABLE: &str = "api = \"anthropic\"";
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",\"usage\":{\"input_tokens\":7,\"cache_read_input_tokens\":3,\"cache_creation_input_tokens\":1,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";
    let block = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let text = |text: &str| {
        format!(
            "event: content_block_delta\ndata: {}\n\n",
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })
        )
    };
    let stop = |reason: &str| {
        format!(
            "event: message_delta\ndata: {}\n\n",
            json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 9 } })
        )
    };
    let end = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let ok = |reason: &str| format!("{start}{block}{}{}{}{end}", text("Hel"), text("lo"), stop(reason));
    let whole = |reason: &str| {
        format!(
            r#"{{"id":"m","type":"message","model":"c","content":[{{"type":"thinking","thinking":"hm"}},{{"type":"text","text":"Hello"}}],"stop_reason":"{reason}","usage":{{"input_tokens":7,"output_tokens":9}}}}"#
        )
    };
    #[rustfmt::skip]
    let rows = vec![
        row("streamed", TABLE, events(&ok("end_turn")), Text("Hello")),
        row("stream ignored", TABLE, json_of(200, "", &whole("end_turn")), Text("Hello")),
        row(
            "cut",
            TABLE,
            events(&format!("{start}{block}{}", text("Hel"))),
            Error(Class::Cut, "message_stop", "Hel"),
        ),
        row(
            "no message_stop",
            TABLE,
            events(&format!("{start}{}{}", text("Hel"), stop("end_turn"))),
            Error(Class::Cut, "message_stop", "Hel"),
        ),
        row(
            "no stop reason",
            TABLE,
            events(&format!("{start}{}{end}", text("Hel"))),
            Error(Class::Cut, "stop reason", "Hel"),
        ),
        row("length", TABLE, events(&ok("max_tokens")), Error(Class::Truncated, "after 9 tokens", "Hello")),
        row(
            "length, in one piece",
            TABLE,
            json_of(200, "", &whole("max_tokens")),
            Error(Class::Truncated, "9 tokens", "Hello"),
        ),
        row(
            "context full",
            TABLE,
            events(&ok("model_context_window_exceeded")),
            Error(Class::ContextOverflow, "context", "Hello"),
        ),
        row("refusal", TABLE, events(&ok("refusal")), Error(Class::Refusal, "declined", "Hello")),
        row("pause", TABLE, events(&ok("pause_turn")), Error(Class::Cut, "pause_turn", "Hello")),
        row(
            "refusal with a reason",
            TABLE,
            events(&ok("refusal").replace(r#""stop_reason":"refusal""#, r#""stop_details":{"explanation":"about locks"},"stop_reason":"refusal""#)),
            Error(Class::Refusal, "about locks", "Hello"),
        ),
        row(
            "an error without a type of event",
            TABLE,
            events(&format!("{start}{}data: {{\"error\":{{\"code\":500,\"message\":\"out of memory\"}}}}\n\n", text("Hel"))),
            Error(Class::ServerError, "out of memory", "Hel"),
        ),
        row(
            "the input of a tool is no answer",
            TABLE,
            events(&format!("{start}event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"input_json_delta\",\"partial_json\":\"{{}}\"}}}}\n\n{}{}{end}", text("Hello"), stop("end_turn"))),
            Text("Hello"),
        ),
        row("cut in one piece", TABLE, vec![send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"type\":")], Error(Class::Cut, "", "")),
        row("an error in one piece", TABLE, json_of(200, "", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#), Error(Class::ServerError, "Overloaded", "")),
        row(
            "tool",
            TABLE,
            events(&format!("{start}{}{end}", stop("tool_use"))),
            Error(Class::EmptyResponse, "tool", ""),
        ),
        row(
            "empty",
            TABLE,
            events(&format!("{start}{block}{}{end}", stop("end_turn"))),
            Error(Class::EmptyResponse, "empty", ""),
        ),
        row(
            "overloaded on the way",
            TABLE,
            events(&format!(
                "{start}{block}{}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n",
                text("Hel")
            )),
            Error(Class::ServerError, "Overloaded", "Hel"),
        ),
        row(
            "llama.cpp's overflow, not in the envelope",
            TABLE,
            json_of(
                400,
                "",
                r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens)","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            ),
            Error(Class::ContextOverflow, "exceeds", ""),
        ),
        row(
            "too long",
            TABLE,
            json_of(
                400,
                "",
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            ),
            Error(Class::ContextOverflow, "210000", ""),
        ),
        row(
            "pings alone are no content",
            "api = \"anthropic\"\ntimeouts = { first_token = \"300ms\" }",
            vec![
                send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
                send(start),
                Step::Repeat("event: ping\ndata: {\"type\":\"ping\"}\n\n", Duration::from_millis(20)),
            ],
            Error(Class::Timeout, "first_token", ""),
        ),
    ];
    check(rows);
    let (port, server) = serve(vec![events(&ok("end_turn"))]);
    let reply =
        call(&*provider_of("api = \"anthropic\"\nprice = { input = 1.0, output = 10.0 }", port), &request())
            .unwrap();
    server.join().unwrap();
    let usage = reply.usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.calls), (11, 3, 9, 1));
    assert_eq!(usage.cache_write_tokens, 1);
    assert!((usage.cost_usd - 101e-6).abs() < 1e-12, "{}", usage.cost_usd);
    assert_eq!((reply.id.as_deref(), reply.model.as_deref()), (Some("msg_1"), Some("claude-x")));
}

#[test]
fn ollama_answers() {
    const TABLE: &str = "api = \"ollama\"";
    let line = |text: &str| {
        format!(
            "{}\n",
            json!({ "model": "q", "message": { "role": "assistant", "content": text }, "done": false })
        )
    };
    let done = |reason: Value| {
        format!(
            "{}\n",
            json!({ "model": "q", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": reason, "prompt_eval_count": 12, "eval_count": 4 })
        )
    };
    let lines = |body: &str| closed("application/x-ndjson", body);
    let equal = line("no").repeat(31);
    #[rustfmt::skip]
    let rows = vec![
        row("streamed", TABLE, lines(&(line("Hel") + &line("lo") + &done(json!("stop")))), Text("Hello")),
        row("without a reason", TABLE, lines(&(line("Hello") + &done(json!(null)))), Text("Hello")),
        row(
            "in one piece",
            TABLE,
            json_of(200, "", r#"{"message":{"content":"Hello"},"done":true,"done_reason":"stop"}"#),
            Text("Hello"),
        ),
        row("cut", TABLE, lines(&line("Hel")), Error(Class::Cut, "done: true", "Hel")),
        row(
            "length",
            TABLE,
            lines(&(line("Hel") + &done(json!("length")))),
            Error(Class::Truncated, "after 4 tokens", "Hel"),
        ),
        row("empty", TABLE, lines(&done(json!("stop"))), Error(Class::EmptyResponse, "empty", "")),
        row("loaded only", TABLE, lines(&done(json!("load"))), Error(Class::EmptyResponse, "empty", "")),
        row(
            "an error line",
            TABLE,
            lines(&(line("Hel") + "{\"error\":\"model runner has unexpectedly stopped\"}\n")),
            Error(Class::ServerError, "unexpectedly", "Hel"),
        ),
        row(
            "31 equal tokens and no end",
            TABLE,
            lines(&equal),
            Error(Class::Degenerate, "31 equal", Box::leak("no".repeat(31).into_boxed_str())),
        ),
        row(
            "unknown model",
            TABLE,
            json_of(404, "", r#"{"error":"model \"m\" not found, try pulling it first"}"#),
            Error(Class::ModelNotFound, "pulling", ""),
        ),
        row(
            "queue full",
            TABLE,
            json_of(
                503,
                "",
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            ),
            Error(Class::RateLimit, "busy", ""),
        ),
        row(
            "runner away",
            TABLE,
            json_of(400, "", r#"{"error":"dial tcp 127.0.0.1:41641: connect: connection refused"}"#),
            Error(Class::ServerLoading, "dial tcp", ""),
        ),
        row(
            "overflow",
            TABLE,
            json_of(
                400,
                "",
                r#"{"error":"the prompt is longer than the context length currently available to the model"}"#,
            ),
            Error(Class::ContextOverflow, "longer", ""),
        ),
        row("events", TABLE, events(&(delta("Hel") + DONE)), Error(Class::BadData, "openai", "")),
    ];
    check(rows);
}
