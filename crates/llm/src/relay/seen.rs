//! What is read of an answer while it passes: how it ended, what it used, and its text for those who look at the ledger.

use serde_json::{Value, json};

use super::Route;
use crate::classify::{self, Said};
use crate::{Usage, anthropic, openai};

/// What is to be done with an event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It goes on at once.
    On,
    /// With it the answer is whole: it goes on once the answer is on disk.
    Held,
    /// The client did not ask for it.
    Dropped,
}

/// What was read of an answer.
#[derive(Debug)]
pub struct Seen {
    route: Route,
    /// The usage comes in an event of its own, which the client did not ask for.
    drop_usage: bool,
    /// Its text.
    pub text: String,
    /// The tools it calls.
    pub tools: Vec<String>,
    /// What it used, as its server told.
    pub usage: Usage,
    /// The model that answered.
    pub model: Option<String>,
    /// The server's id of the call.
    pub id: Option<String>,
    /// The server's word for how it ended.
    pub finish: Option<String>,
    /// The error that came in the place of its end.
    pub error: Option<Said>,
}

impl Seen {
    /// Nothing yet.
    pub fn new(route: Route, drop_usage: bool) -> Seen {
        Seen {
            route,
            drop_usage,
            text: String::new(),
            tools: Vec::new(),
            usage: Usage { calls: 1, ..Usage::default() },
            model: None,
            id: None,
            finish: None,
            error: None,
        }
    }

    /// Whether its server said that it came to its end.
    pub fn is_whole(&self) -> bool {
        self.finish.is_some() && self.error.is_none()
    }

    /// Its text, or in few words what it is instead.
    pub fn shown(&self) -> String {
        match (self.text.is_empty(), self.tools.is_empty()) {
            (true, false) => format!("[calls {}]", self.tools.join(", ")),
            _ => self.text.clone(),
        }
    }

    /// Takes in an event of a stream.
    pub fn event(&mut self, name: &str, data: &[u8]) -> Pass {
        let done = data.trim_ascii() == b"[DONE]";
        let Some(value) = serde_json::from_slice::<Value>(data).ok().filter(|_| !done) else {
            return if done { Pass::Held } else { Pass::On };
        };
        if name == "error" || value.get("error").is_some_and(classify::is_error) {
            self.error = Some(Said::of(&value).unwrap_or_default());
            return Pass::On;
        }
        let pass = match self.route {
            Route::Messages => self.message_event(&value),
            Route::Responses => self.response_event(&value),
            _ => self.chunk(&value),
        };
        // Nothing that follows the end goes on before it.
        if self.finish.is_some() && pass == Pass::On { Pass::Held } else { pass }
    }

    /// Takes in an answer in one piece.
    pub fn whole(&mut self, value: &Value) {
        if value.get("error").is_some_and(classify::is_error) || value["type"] == "error" {
            self.error = Some(Said::of(value).unwrap_or_default());
            return;
        }
        self.name(value);
        match self.route {
            Route::Messages => {
                for block in value["content"].as_array().into_iter().flatten() {
                    self.block(block);
                }
                self.finish = text(value, "/stop_reason");
                anthropic::take_usage(&value["usage"], &mut self.usage);
            }
            Route::Responses => self.response(value),
            Route::Embeddings => {
                let count = value["data"].as_array().map_or(0, Vec::len);
                self.text = format!("[{count} embeddings]");
                self.finish = Some("stop".to_owned());
                openai::take_usage(&value["usage"], &mut self.usage);
            }
            Route::CountTokens => self.finish = Some("stop".to_owned()),
            Route::Chat | Route::Models => {
                let choice = &value["choices"][0];
                self.delta(&choice["message"]);
                self.finish = text(choice, "/finish_reason");
                openai::take_usage(&value["usage"], &mut self.usage);
            }
        }
    }

    fn name(&mut self, value: &Value) {
        self.id = text(value, "/id").or(self.id.take());
        self.model = text(value, "/model").or(self.model.take());
    }

    fn chunk(&mut self, value: &Value) -> Pass {
        self.name(value);
        let has_usage = value.get("usage").is_some_and(Value::is_object);
        if has_usage {
            openai::take_usage(&value["usage"], &mut self.usage);
        }
        let choices = value["choices"].as_array().map_or(&[][..], Vec::as_slice);
        if choices.is_empty() && has_usage && self.drop_usage {
            return Pass::Dropped;
        }
        for choice in choices.iter().filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
            self.delta(&choice["delta"]);
            self.finish = text(choice, "/finish_reason").or(self.finish.take());
        }
        Pass::On
    }

    fn delta(&mut self, delta: &Value) {
        if let Some(piece) = delta["content"].as_str() {
            self.text.push_str(piece);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.tools.extend(text(call, "/function/name").filter(|name| !name.is_empty()));
        }
    }

    fn message_event(&mut self, value: &Value) -> Pass {
        match value["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.name(&value["message"]);
                anthropic::take_usage(&value["message"]["usage"], &mut self.usage);
            }
            "content_block_start" => self.block(&value["content_block"]),
            "content_block_delta" => self.block(&value["delta"]),
            "message_delta" => {
                anthropic::take_usage(&value["usage"], &mut self.usage);
                self.finish = text(value, "/delta/stop_reason").or(self.finish.take());
            }
            "message_stop" => return Pass::Held,
            _ => {}
        }
        Pass::On
    }

    fn block(&mut self, block: &Value) {
        match block["type"].as_str().unwrap_or_default() {
            "text" | "text_delta" => self.text.push_str(block["text"].as_str().unwrap_or_default()),
            "tool_use" => self.tools.extend(text(block, "/name")),
            _ => {}
        }
    }

    fn response_event(&mut self, value: &Value) -> Pass {
        match value["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" => self.text.push_str(value["delta"].as_str().unwrap_or_default()),
            "response.completed" | "response.incomplete" | "response.failed" => {
                // What the deltas brought comes once more, as a whole.
                self.text.clear();
                self.name(&value["response"]);
                self.response(&value["response"]);
                return Pass::Held;
            }
            _ => {}
        }
        Pass::On
    }

    fn response(&mut self, response: &Value) {
        for item in response["output"].as_array().into_iter().flatten() {
            match item["type"].as_str().unwrap_or_default() {
                "message" => {
                    for part in item["content"].as_array().into_iter().flatten() {
                        self.text.push_str(part["text"].as_str().unwrap_or_default());
                    }
                }
                "function_call" | "custom_tool_call" => self.tools.extend(text(item, "/name")),
                kind if kind.ends_with("_call") => self.tools.push(kind.to_owned()),
                _ => {}
            }
        }
        self.finish = text(response, "/status").or_else(|| Some("completed".to_owned()));
        if self.finish.as_deref() == Some("failed") {
            self.error = Said::of(&json!({ "error": response["error"] })).or_else(|| Some(Said::default()));
        }
        let usage = &response["usage"];
        let number = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
        let old = self.usage;
        self.usage = Usage {
            input_tokens: number("/input_tokens").unwrap_or(old.input_tokens),
            output_tokens: number("/output_tokens").unwrap_or(old.output_tokens),
            cached_tokens: number("/input_tokens_details/cached_tokens").unwrap_or(old.cached_tokens),
            cache_write_tokens: number("/input_tokens_details/cache_write_tokens")
                .unwrap_or(old.cache_write_tokens),
            thinking_tokens: number("/output_tokens_details/reasoning_tokens").unwrap_or(old.thinking_tokens),
            cost_usd: usage["cost"].as_f64().unwrap_or(old.cost_usd),
            calls: 1,
        }
        .believed();
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(route: Route, drop_usage: bool, events: &[(&str, &str)]) -> (Seen, Vec<Pass>) {
        let mut seen = Seen::new(route, drop_usage);
        let passes = events.iter().map(|(name, data)| seen.event(name, data.as_bytes())).collect();
        (seen, passes)
    }

    #[test]
    fn the_end_of_an_answer_is_held() {
        use Pass::{Dropped, Held, On};
        let (seen, passes) = all(
            Route::Chat,
            true,
            &[
                ("", r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}"#),
                ("", r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#),
                ("", r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#),
                ("", "[DONE]"),
            ],
        );
        assert_eq!(passes, [On, Held, Dropped, Held]);
        assert!(seen.is_whole() && seen.text == "a" && seen.usage.input_tokens == 7);
        let (seen, passes) = all(
            Route::Messages,
            false,
            &[
                (
                    "message_start",
                    r#"{"type":"message_start","message":{"id":"m1","model":"c","usage":{"input_tokens":5,"cache_read_input_tokens":3}}}"#,
                ),
                (
                    "content_block_start",
                    r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"bash"}}"#,
                ),
                ("ping", r#"{"type":"ping"}"#),
                (
                    "message_delta",
                    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
                ),
                ("message_stop", r#"{"type":"message_stop"}"#),
            ],
        );
        assert_eq!(passes, [On, On, On, Held, Held]);
        assert_eq!((seen.usage.input_tokens, seen.usage.cached_tokens, seen.usage.output_tokens), (8, 3, 9));
        assert_eq!(seen.shown(), "[calls bash]");
        let (seen, passes) = all(
            Route::Responses,
            false,
            &[
                ("response.output_text.delta", r#"{"type":"response.output_text.delta","delta":"x"}"#),
                (
                    "response.completed",
                    r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"xy"}]}],"usage":{"input_tokens":4,"output_tokens":2,"input_tokens_details":{"cached_tokens":1}}}}"#,
                ),
            ],
        );
        assert_eq!((passes[1], seen.text.as_str(), seen.usage.cached_tokens), (Held, "xy", 1));
        let (seen, _) = all(
            Route::Messages,
            false,
            &[("error", r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#)],
        );
        assert!(!seen.is_whole() && seen.error.is_some());
    }

    #[test]
    fn an_answer_in_one_piece_says_what_it_is() {
        let whole = |route, value: Value| {
            let mut seen = Seen::new(route, false);
            seen.whole(&value);
            let usage = seen.usage.input_tokens;
            (seen.shown(), usage, seen.is_whole(), seen.error.map(|error| error.message))
        };
        let call = |kind: &str| json!({ "type": kind, "name": "run" });
        for (route, value, wanted) in [
            (
                Route::Embeddings,
                json!({ "data": [{}, {}], "usage": { "prompt_tokens": 5 } }),
                ("[2 embeddings]", 5, true, None),
            ),
            (Route::CountTokens, json!({ "input_tokens": 9 }), ("", 0, true, None)),
            (
                Route::Chat,
                json!({ "choices": [{ "message": { "tool_calls": [{ "function": { "name": "run" } }, {}] }, "finish_reason": "tool_calls" }] }),
                ("[calls run]", 0, true, None),
            ),
            (
                Route::Responses,
                json!({ "output": [call("reasoning"), call("function_call"), call("web_search_call")], "usage": { "input_tokens": 3 } }),
                ("[calls run, web_search_call]", 3, true, None),
            ),
            (
                Route::Responses,
                json!({ "status": "failed", "error": { "message": "no" } }),
                ("", 0, false, Some("no")),
            ),
            (Route::Chat, json!({ "error": { "message": "busy" } }), ("", 0, false, Some("busy"))),
            (
                Route::Messages,
                json!({ "type": "error", "error": { "type": "api_error", "message": "x" } }),
                ("", 0, false, Some("x")),
            ),
            (
                Route::Messages,
                json!({ "content": [{ "type": "thinking" }, { "type": "text", "text": "a" }], "stop_reason": "end_turn" }),
                ("a", 0, true, None),
            ),
        ] {
            let found = whole(route, value.clone());
            let found = (found.0.as_str(), found.1, found.2, found.3.as_deref());
            assert_eq!(found, wanted, "{value}");
        }
    }
}
