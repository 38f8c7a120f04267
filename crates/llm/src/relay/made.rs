//! Between a client's words and ours: what it asks, for models that have no server, and their answer in its dialect.

use serde_json::{Map, Value, json};

use super::seen::Seen;
use super::{Route, Wire, is_streamed};
use crate::{Reply, Request, Usage, estimate};

/// What a client asks, as a prompt: its system prompt, and all that was said, or only what was said last.
pub fn request(route: Route, body: &Map<String, Value>, all: bool) -> Request {
    let mut system = Vec::new();
    let mut said: Vec<(String, String)> = Vec::new();
    let member = |name: &str| body.get(name).unwrap_or(&Value::Null);
    for name in ["system", "instructions"] {
        system.extend(Some(text_of(member(name))).filter(|text| !text.is_empty()));
    }
    let turns = match route {
        Route::Responses | Route::Embeddings => member("input"),
        _ => member("messages"),
    };
    match turns {
        Value::Array(turns) => {
            for turn in turns {
                let text = text_of(turn);
                match turn["role"].as_str().unwrap_or("user") {
                    "system" | "developer" => system.push(text),
                    role => said.push((role.to_owned(), text)),
                }
            }
        }
        other => said.push(("user".to_owned(), text_of(other))),
    }
    if !all {
        // What the model said itself is in the call before.
        let from = said.iter().rposition(|(role, _)| role == "assistant").map_or(0, |at| at + 1);
        said.drain(..from);
    }
    let prompt = match said.as_slice() {
        [(_, text)] => text.clone(),
        said => said.iter().map(|(role, text)| format!("{role}: {text}")).collect::<Vec<_>>().join("\n\n"),
    };
    let schema =
        ["/response_format/json_schema/schema", "/text/format/schema", "/output_config/format/schema"]
            .into_iter()
            .find_map(|pointer| {
                let (name, rest) = pointer[1..].split_once('/')?;
                body.get(name)?.pointer(&format!("/{rest}")).cloned()
            });
    Request { system: system.join("\n\n"), prompt, schema, ..Request::default() }
}

/// The text in a turn, a part, or a list of them; what is no text is named.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(text_of).filter(|text| !text.is_empty());
            texts.collect::<Vec<_>>().join("\n")
        }
        Value::Object(object) => {
            for name in ["text", "content", "output"] {
                if let Some(inner) = object.get(name).filter(|inner| !inner.is_null()) {
                    return text_of(inner);
                }
            }
            match object.get("type").and_then(Value::as_str) {
                Some(kind) => format!("[{kind}]"),
                None => String::new(),
            }
        }
        _ => String::new(),
    }
}

/// Tokens of a request, estimated, in Anthropic's words.
pub fn count(body: &Map<String, Value>) -> Vec<u8> {
    let tokens = estimate::request_tokens(&request(Route::Messages, body, true));
    json!({ "input_tokens": tokens }).to_string().into_bytes()
}

/// The text of an answer as it went over the wire, for the ledger.
pub fn shown(route: Route, wire: &Wire) -> String {
    let mut seen = Seen::new(route, false);
    match serde_json::from_str::<Value>(&wire.body) {
        Ok(value) => seen.whole(&value),
        Err(_) => {
            for event in wire.body.split("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let Some(data) = field("data:") {
                    seen.event(field("event:").unwrap_or_default(), data.as_bytes());
                }
            }
        }
    }
    seen.shown()
}

/// An answer of a model without a server as its client wants it; none for what only a server can answer.
pub fn answer(route: Route, body: &Map<String, Value>, model: &str, reply: &Reply) -> Option<Wire> {
    let whole = whole(route, model, reply)?;
    let streamed = is_streamed(body);
    let body = match (streamed, route) {
        (false, _) => whole.to_string(),
        (true, Route::Chat) => {
            let usage = body.get("stream_options").is_some_and(|options| options["include_usage"] == true);
            chunks(&whole, &reply.text, usage)
        }
        (true, Route::Responses) => response_events(&whole, &reply.text),
        (true, _) => message_events(&whole, &reply.text),
    };
    Some(Wire {
        route: route.path().to_owned(),
        digest: String::new(),
        status: 200,
        content_type: if streamed { "text/event-stream" } else { "application/json" }.to_owned(),
        body,
    })
}

fn whole(route: Route, model: &str, reply: &Reply) -> Option<Value> {
    let Usage { input_tokens, output_tokens, .. } = reply.usage;
    let (text, id) = (&reply.text, reply.id.as_deref().unwrap_or("planexe"));
    Some(match route {
        Route::Chat => json!({
            "id": format!("chatcmpl-{id}"), "object": "chat.completion", "created": 0, "model": model,
            "choices": [{
                "index": 0, "finish_reason": "stop", "logprobs": null,
                "message": { "role": "assistant", "content": text, "refusal": null }
            }],
            "usage": {
                "prompt_tokens": input_tokens, "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens
            }
        }),
        Route::Responses => json!({
            "id": format!("resp_{id}"), "object": "response", "created_at": 0, "status": "completed", "model": model,
            "error": null, "incomplete_details": null, "instructions": null, "metadata": {},
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "temperature": null, "top_p": null,
            "output": [{
                "id": format!("msg_{id}"), "type": "message", "role": "assistant", "status": "completed",
                "content": [{ "type": "output_text", "text": text, "annotations": [] }]
            }],
            "usage": {
                "input_tokens": input_tokens, "input_tokens_details": { "cached_tokens": 0 },
                "output_tokens": output_tokens, "output_tokens_details": { "reasoning_tokens": 0 },
                "total_tokens": input_tokens + output_tokens
            }
        }),
        Route::Messages => json!({
            "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model,
            "content": [{ "type": "text", "text": text }],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": input_tokens, "output_tokens": output_tokens }
        }),
        Route::Embeddings | Route::Models | Route::CountTokens => return None,
    })
}

fn chunks(whole: &Value, text: &str, usage: bool) -> String {
    let chunk = |choices: Value, usage: &Value| {
        json!({
            "id": whole["id"], "object": "chat.completion.chunk", "created": 0, "model": whole["model"],
            "choices": choices, "usage": usage
        })
    };
    let choice =
        |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let mut all = vec![
        chunk(choice(json!({ "role": "assistant", "content": text }), Value::Null), &Value::Null),
        chunk(choice(json!({}), json!("stop")), &Value::Null),
    ];
    if usage {
        all.push(chunk(json!([]), &whole["usage"]));
    }
    let lines = all.iter().map(|chunk| format!("data: {chunk}\n\n"));
    lines.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

fn events(all: &[Value]) -> String {
    let kind = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
    all.iter().map(|event| format!("event: {}\ndata: {event}\n\n", kind(event))).collect()
}

fn response_events(whole: &Value, text: &str) -> String {
    let mut begun = whole.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let item = &whole["output"][0];
    let mut open = item.clone();
    open["status"] = json!("in_progress");
    open["content"] = json!([]);
    let part = json!({ "type": "output_text", "text": "", "annotations": [] });
    let place = |kind: &str, more: Value| {
        let mut event = json!({ "type": kind, "item_id": item["id"], "output_index": 0, "content_index": 0 });
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        event
    };
    let mut all = vec![
        json!({ "type": "response.created", "response": begun }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": open }),
        place("response.content_part.added", json!({ "part": part })),
        place("response.output_text.delta", json!({ "delta": text, "logprobs": [] })),
        place("response.output_text.done", json!({ "text": text, "logprobs": [] })),
        place("response.content_part.done", json!({ "part": item["content"][0] })),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "response": whole }),
    ];
    for (number, event) in all.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events(&all)
}

fn message_events(whole: &Value, text: &str) -> String {
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["usage"]["output_tokens"] = json!(0);
    events(&[
        json!({ "type": "message_start", "message": begun }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": whole["usage"]["output_tokens"] }
        }),
        json!({ "type": "message_stop" }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn an_answer_that_is_made_reads_like_one_that_passed() {
        let reply = Reply {
            text: "yes\n\"no\"".into(),
            usage: Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() },
            ..Reply::default()
        };
        for route in [Route::Chat, Route::Responses, Route::Messages] {
            let wire = answer(route, &map(json!({})), "m", &reply).unwrap();
            let mut seen = Seen::new(route, false);
            seen.whole(&serde_json::from_str(&wire.body).unwrap());
            assert!(seen.is_whole() && seen.text == reply.text && seen.usage.output_tokens == 4, "{route:?}");
            let asked = map(json!({ "stream": true, "stream_options": { "include_usage": true } }));
            let wire = answer(route, &asked, "m", &reply).unwrap();
            let mut seen = Seen::new(route, false);
            for event in wire.body.split("\n\n").filter(|event| !event.is_empty()) {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                seen.event(field("event: ").unwrap_or(""), field("data: ").unwrap().as_bytes());
            }
            assert!(seen.is_whole() && seen.text == reply.text, "{route:?}: {}", wire.body);
            assert_eq!((seen.usage.input_tokens, seen.usage.output_tokens), (3, 4), "{route:?}");
        }
    }

    #[test]
    fn a_clients_words_are_found_in_every_dialect() {
        let chat = map(json!({ "messages": [
            { "role": "system", "content": "be brief" }, { "role": "user", "content": "one" },
            { "role": "assistant", "content": "two" },
            { "role": "user", "content": [{ "type": "text", "text": "three" }, { "type": "image_url", "image_url": {} }] },
        ] }));
        let all = request(Route::Chat, &chat, true);
        assert_eq!(
            (all.system.as_str(), all.prompt.as_str()),
            ("be brief", "user: one\n\nassistant: two\n\nuser: three\n[image_url]")
        );
        assert_eq!(request(Route::Chat, &chat, false).prompt, "three\n[image_url]");
        let response = map(json!({ "instructions": "s", "input": "hello" }));
        let one = request(Route::Responses, &response, true);
        assert_eq!((one.system.as_str(), one.prompt.as_str()), ("s", "hello"));
        let message = map(
            json!({ "system": [{ "type": "text", "text": "s" }], "messages": [{ "role": "user", "content": "q" }] }),
        );
        assert_eq!(request(Route::Messages, &message, true).system, "s");
    }

    #[test]
    fn what_was_kept_of_an_answer_is_shown_as_its_text() {
        let wire = |body: &str| Wire { body: body.to_owned(), ..Wire::default() };
        let delta = |text: &str| {
            format!("event: x\ndata: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] }))
        };
        let streamed = format!(": sign of life\n\n{}{}data: [DONE]\n\n", delta("a"), delta("b"));
        assert_eq!(shown(Route::Chat, &wire(&streamed)), "ab");
        assert_eq!(shown(Route::Chat, &wire(r#"{"choices":[{"message":{"content":"c"}}]}"#)), "c");
        assert_eq!(shown(Route::Chat, &wire("neither")), "");
        let body = map(
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Say it." }, {}] }] }),
        );
        let counted: Value = serde_json::from_slice(&count(&body)).unwrap();
        assert!(counted["input_tokens"].as_u64() > Some(0), "{counted}");
        for route in [Route::Embeddings, Route::Models, Route::CountTokens] {
            assert_eq!(
                answer(route, &body, "m", &Reply::default()).map(|wire| wire.body),
                None,
                "{}",
                route.path()
            );
        }
    }
}
