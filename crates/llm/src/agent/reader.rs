//! What agents print, line by line: pieces of the answer as they come, and at the end the answer, its cost, or why there
//! is none. A line that is no JSON, or of an unknown type, says nothing.

use serde_json::Value;

use super::Kind;
use crate::Usage;
use crate::command::Lines;

/// A longer line is not an answer.
const LINE: usize = 8 << 20;

/// What the lines said.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The answer.
    pub(super) answer: Option<String>,
    /// Pieces of it, as they came.
    pub(super) written: String,
    pub(super) reasoning: String,
    pub(super) usage: Usage,
    pub(super) session: Option<String>,
    pub(super) model: Option<String>,
    /// Why the model stopped.
    pub(super) finish: Option<String>,
    /// What went wrong, in the agent's words.
    pub(super) error: Option<String>,
    pub(super) http_status: Option<u16>,
    /// A line about a limit that is reached.
    pub(super) limit: String,
    /// The line that ends every answer, or says why there is none, was there.
    pub(super) is_whole: bool,
    /// What cannot be read: the line that is to end the answer, or, if no line is known, the first one.
    pub(super) unread: Option<String>,
    /// What is wrong with a line that may have held a piece of the answer.
    pub(super) damage: Option<&'static str>,
    /// A line was of a known type.
    is_known: bool,
}

impl Found {
    /// Keeps a line that cannot be read.
    fn puzzles(&mut self, line: &str) {
        self.unread.get_or_insert_with(|| line.trim().chars().take(200).collect());
    }
}

/// Reads an agent's lines.
pub(crate) struct Reader {
    kind: Kind,
    rest: Vec<u8>,
    found: Found,
}

impl Reader {
    pub(super) fn new(kind: Kind) -> Reader {
        Reader { kind, rest: Vec::new(), found: Found::default() }
    }

    /// Nothing more comes.
    pub(super) fn end(mut self) -> Found {
        self.take(b"\n");
        self.found
    }

    fn line(&mut self, line: &Value, new: &mut String) {
        match self.kind {
            Kind::Claude => self.claude(line, new),
            Kind::Codex => self.codex(line, new),
            Kind::Gemini => self.gemini(line, new),
        }
    }

    fn claude(&mut self, line: &Value, new: &mut String) {
        let found = &mut self.found;
        match line["type"].as_str().unwrap_or_default() {
            "system" if line["subtype"] == "init" => {
                found.session = text(&line["session_id"]);
                found.model = text(&line["model"]);
            }
            "stream_event" => {
                let delta = &line["event"]["delta"];
                for piece in [&delta["text"], &delta["partial_json"]] {
                    new.push_str(piece.as_str().unwrap_or_default());
                }
                found.reasoning.push_str(delta["thinking"].as_str().unwrap_or_default());
            }
            "rate_limit_event" if line["rate_limit_info"]["status"] == "rejected" => {
                found.limit = line.to_string();
            }
            "result" => {
                found.is_whole = true;
                found.finish = text(&line["stop_reason"]);
                found.session = text(&line["session_id"]).or(found.session.take());
                found.http_status = line["api_error_status"].as_u64().and_then(|it| it.try_into().ok());
                let result = text(&line["result"]);
                let failed = line["is_error"] == true || line["subtype"] != "success";
                let says = ["subtype", "result", "errors"].iter().any(|key| !line[key].is_null());
                if !says && line["is_error"] != true {
                    found.puzzles(&line.to_string());
                } else if failed {
                    let subtype = text(&line["subtype"]).filter(|it| it != "success");
                    let errors = line["errors"].as_array().map(|all| all.iter().filter_map(text).collect());
                    let said: Vec<String> = errors.unwrap_or_default();
                    let said = (!said.is_empty()).then(|| said.join("; "));
                    found.error = result.or(said).or(subtype).or_else(|| Some(without_words(line)));
                } else {
                    // The whole answer is in this line.
                    (found.unread, found.damage) = (None, None);
                    let structured = &line["structured_output"];
                    found.answer = if structured.is_null() { result } else { Some(structured.to_string()) };
                }
                found.usage = claude_usage(line);
            }
            _ => {}
        }
    }

    fn codex(&mut self, line: &Value, new: &mut String) {
        let found = &mut self.found;
        let item = &line["item"];
        match (line["type"].as_str().unwrap_or_default(), item["type"].as_str().unwrap_or_default()) {
            ("thread.started", _) => found.session = text(&line["thread_id"]),
            ("item.completed", "agent_message") => {
                // It may say what it does before it answers: the last one is the answer.
                found.answer = text(&item["text"]);
                new.push_str(item["text"].as_str().unwrap_or_default());
            }
            ("item.completed", "reasoning") => {
                found.reasoning.push_str(item["text"].as_str().unwrap_or_default());
            }
            ("turn.completed", _) => {
                let usage = &line["usage"];
                found.is_whole = true;
                found.error = None;
                found.usage = Usage {
                    input_tokens: number(&usage["input_tokens"]),
                    output_tokens: number(&usage["output_tokens"]),
                    cached_tokens: number(&usage["cached_input_tokens"]),
                    cache_write_tokens: number(&usage["cache_write_input_tokens"]),
                    thinking_tokens: number(&usage["reasoning_output_tokens"]),
                    ..Usage::default()
                };
            }
            ("turn.failed", _) => {
                found.is_whole = true;
                let said = text(&line["error"]["message"]).or(found.error.take());
                found.error = said.or_else(|| Some(without_words(line)));
            }
            ("error", _) => found.error = text(&line["message"]),
            _ => {}
        }
    }

    fn gemini(&mut self, line: &Value, new: &mut String) {
        let found = &mut self.found;
        match line["type"].as_str().unwrap_or_default() {
            "init" => {
                found.session = text(&line["session_id"]);
                found.model = text(&line["model"]);
            }
            "message" if line["role"] == "assistant" => {
                let piece = line["content"].as_str().unwrap_or_default();
                new.push_str(piece);
                found.answer.get_or_insert_default().push_str(piece);
            }
            "error" => found.error = text(&line["message"]),
            "result" => {
                found.is_whole = true;
                let stats = &line["stats"];
                found.usage = Usage {
                    input_tokens: number(&stats["input_tokens"]),
                    output_tokens: number(&stats["output_tokens"]),
                    cached_tokens: number(&stats["cached"]),
                    ..Usage::default()
                };
                if line["status"] == "success" {
                    (found.error, found.unread) = (None, None);
                } else {
                    let said = text(&line["error"]["message"]).or(found.error.take());
                    if said.is_none() && line["status"].is_null() {
                        found.puzzles(&line.to_string());
                    } else {
                        found.error = said.or_else(|| Some(without_words(line)));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Lines for Reader {
    fn take(&mut self, bytes: &[u8]) -> String {
        // What was there has no end of a line.
        let mut look = self.rest.len();
        self.rest.extend_from_slice(bytes);
        let mut new = String::new();
        let mut from = 0;
        while let Some(end) = self.rest[look..].iter().position(|byte| *byte == b'\n') {
            let bytes = &self.rest[from..look + end];
            if std::str::from_utf8(bytes).is_err() {
                self.found.damage = Some("a line of its output is not valid UTF-8");
            }
            let line: Value = serde_json::from_slice(bytes).unwrap_or_default();
            match line["type"].is_string() {
                true => {
                    if !std::mem::replace(&mut self.found.is_known, true) {
                        self.found.unread = None;
                    }
                }
                false if !self.found.is_known && !bytes.trim_ascii().is_empty() => {
                    self.found.puzzles(&String::from_utf8_lossy(bytes));
                }
                false => {}
            }
            self.line(&line, &mut new);
            from = look + end + 1;
            look = from;
        }
        self.rest.drain(..from);
        if self.rest.len() > LINE {
            self.found.damage = Some("a line of its output is longer than 8 MiB");
            self.rest.clear();
        }
        self.found.written.push_str(&new);
        new
    }

    fn written(&self) -> &str {
        &self.found.written
    }

    fn is_whole(&self) -> bool {
        self.found.is_whole
    }
}

/// What is told of a failure for which an agent has no words: its line.
fn without_words(line: &Value) -> String {
    let line: String = line.to_string().chars().take(200).collect();
    format!("it failed without a word: {line}")
}

/// All calls it made, by model; its `usage` is that of the last one.
fn claude_usage(line: &Value) -> Usage {
    let mut usage = Usage { cost_usd: line["total_cost_usd"].as_f64().unwrap_or(0.0), ..Usage::default() };
    for of_model in line["modelUsage"].as_object().into_iter().flat_map(|models| models.values()) {
        let (read, written) =
            (number(&of_model["cacheReadInputTokens"]), number(&of_model["cacheCreationInputTokens"]));
        usage.add(&Usage {
            input_tokens: number(&of_model["inputTokens"]).saturating_add(read).saturating_add(written),
            output_tokens: number(&of_model["outputTokens"]),
            cached_tokens: read,
            cache_write_tokens: written,
            ..Usage::default()
        });
    }
    usage
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
