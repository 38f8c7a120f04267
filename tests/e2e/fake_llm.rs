//! The scripted server itself, over a plain connection: what the other tests rely on.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm};

/// A client that keeps its connection.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn new(server: &FakeLlm) -> Client {
        let stream = TcpStream::connect(server.address()).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Client { stream }
    }

    fn send(&mut self, body: &Value) {
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(format!("{head}{body}").as_bytes()).expect("write");
    }

    /// Reads until `end` has come.
    fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 512];
        while !text.contains(end) {
            let read = self.stream.read(&mut buffer).expect("read");
            assert!(read > 0, "closed before `{end}`: {text}");
            text.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
        }
        text
    }

    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8(bytes).expect("text")
    }
}

fn ask(prompt: &str) -> Value {
    json!({
        "model": "fake-1", "stream": true, "stream_options": { "include_usage": true },
        "messages": [{ "role": "system", "content": "be brief" }, { "role": "user", "content": prompt }],
    })
}

/// The text in a stream of events.
fn text_of(stream: &str) -> String {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: {"));
    data.map(|data| serde_json::from_str::<Value>(&format!("{{{data}")).expect("JSON"))
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn streams_text_usage_and_the_end_marker_and_keeps_the_connection() {
    let server = FakeLlm::new();
    let mut client = Client::new(&server);
    let mut texts = Vec::new();
    for prompt in ["TASK=swot\none", "TASK=swot\none", "TASK=swot\ntwo"] {
        client.send(&ask(prompt));
        let stream = client.read_until("\r\n0\r\n\r\n");
        assert!(stream.contains("text/event-stream"), "{stream}");
        assert!(stream.contains(r#""finish_reason":"stop""#), "{stream}");
        assert!(stream.contains(r#""prompt_tokens""#), "{stream}");
        assert!(stream.contains("data: [DONE]"), "{stream}");
        texts.push(text_of(&stream));
    }
    assert_eq!(texts[0], texts[1], "the same prompt, the same answer");
    assert_ne!(texts[0], texts[2]);
    assert_eq!(server.counts(), BTreeMap::from([("swot".to_owned(), 3)]));
    assert_eq!((server.requests(), server.last("swot").nth), (3, 2));
    assert_eq!(server.last("swot").prompt, "TASK=swot\ntwo");
    assert_eq!(server.last("swot").system, "be brief");
}

#[test]
fn answers_in_one_piece_if_no_stream_is_asked() {
    let server = FakeLlm::scripted(|request| format!("said {}", request.nth).into());
    let mut client = Client::new(&server);
    client.send(&json!({ "messages": [{ "role": "user", "content": "TASK=a" }] }));
    let answer = client.read_until("total_tokens");
    assert!(answer.contains(r#""content":"said 0""#), "{answer}");
    assert!(answer.contains(r#""finish_reason":"stop""#), "{answer}");
}

#[test]
fn a_schema_gets_a_value_that_satisfies_it() {
    let schema = json!({
        "$defs": { "kind": { "enum": ["low", "high"] } },
        "type": "object", "required": ["name", "risks"], "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "minLength": 30 },
            "risks": { "type": "array", "minItems": 2, "items": {
                "type": "object", "required": ["kind", "weight"],
                "properties": { "kind": { "$ref": "#/$defs/kind" }, "weight": { "type": "integer", "minimum": 3 } }
            } },
            "note": { "anyOf": [{ "type": "null" }, { "type": "string" }] },
        },
    });
    let server = FakeLlm::new();
    let mut client = Client::new(&server);
    let mut body = ask("TASK=a");
    body["response_format"] =
        json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
    client.send(&body);
    let value: Value = serde_json::from_str(&text_of(&client.read_until("[DONE]"))).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert!(validator.is_valid(&value), "{value}");
    assert_eq!(server.last("a").schema, Some(schema));
}

#[test]
fn a_held_call_waits_for_its_release_and_others_do_not() {
    let server = FakeLlm::new();
    server.hold("slow");
    let (mut slow, mut fast) = (Client::new(&server), Client::new(&server));
    slow.send(&ask("TASK=slow"));
    server.wait_for_call("slow");
    fast.send(&ask("TASK=fast"));
    fast.read_until("[DONE]");
    assert_eq!(server.most_in_flight(), 2);
    slow.stream.set_nonblocking(true).expect("nonblocking");
    assert!(slow.stream.read(&mut [0]).is_err(), "an answer to a held call");
    slow.stream.set_nonblocking(false).expect("blocking");
    server.release("slow");
    slow.read_until("[DONE]");
}

#[test]
fn a_held_call_that_is_given_up_is_noticed() {
    let server = FakeLlm::new();
    server.hold_all();
    let mut client = Client::new(&server);
    client.send(&ask("TASK=a"));
    server.wait_for_call("a");
    drop(client);
    server.wait_for_hang_up("a");
}

#[test]
fn half_an_answer_waits_in_the_middle() {
    let server = FakeLlm::scripted(|_| Answer::Half("the first part and the second part".into()));
    let mut client = Client::new(&server);
    client.send(&ask("TASK=a"));
    server.wait_for_half("a");
    let first = client.read_until("part");
    assert!(!first.contains("second"), "{first}");
    server.release("a");
    assert!(client.read_until("[DONE]").contains("second"));
}

#[test]
fn faults_come_as_scripted() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "limit" => Answer::Http(429, vec![("Retry-After", "1".into())], "{}".into()),
        "wrong" => Answer::error(400, "no"),
        "close" => Answer::Close,
        "cut" => Answer::Cut("a long enough text to be cut somewhere in the middle of it".into()),
        "length" => Answer::Finish("cut short".into(), "length"),
        "drip" => Answer::Drip("drop by drop".into(), Duration::from_millis(1)),
        _ => Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\nrubbish".to_vec()),
    });
    let say = |task: &str| {
        let mut client = Client::new(&server);
        client.send(&ask(&format!("TASK={task}")));
        client.stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        client.rest()
    };
    let limit = say("limit");
    assert!(limit.starts_with("HTTP/1.1 429") && limit.contains("Retry-After: 1"), "{limit}");
    assert!(say("wrong").contains(r#""message":"no""#));
    assert_eq!(say("close"), "");
    let cut = say("cut");
    assert!(cut.contains("a long") && !cut.contains("middle") && !cut.contains("DONE"), "{cut}");
    assert!(say("length").contains(r#""finish_reason":"length""#));
    assert_eq!(text_of(&say("drip")), "drop by drop");
    assert!(say("raw").ends_with("rubbish"));
    assert_eq!(server.total(), 7);
}

#[test]
fn what_is_no_call_is_counted_apart() {
    let server = FakeLlm::new();
    let mut client = Client::new(&server);
    client.stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    assert!(client.read_until("fake-1").contains("200"));
    assert_eq!(
        (server.total(), server.requests(), server.others()),
        (0, 1, vec!["GET /v1/models".to_owned()])
    );
}

#[test]
fn it_ends_with_its_connections_when_dropped() {
    let server = FakeLlm::new();
    server.hold_all();
    let mut client = Client::new(&server);
    client.send(&ask("TASK=a"));
    server.wait_for_call("a");
    drop(server);
    assert_eq!(client.rest(), "");
}
