//! An answer as it comes: streamed in chunks or in one piece, in the fields that servers use.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use crate::classify::{self, Said};
use crate::http::{Exchange, Format};
use crate::stream::Event;
use crate::whole::{Draft, Finish};
use crate::{CallError, Class, Reply};

/// Reads an answer, streamed or in one piece. `flex`: it was asked for at half the price, and the answer says whether it was
/// given so.
pub(super) fn read(
    mut exchange: Exchange<'_>,
    price: Option<crate::config::Price>,
    flex: bool,
) -> Result<Reply, CallError> {
    let mut draft = Draft::new(exchange.started);
    let mut ending = Ending::default();
    let result = match exchange.format() {
        Ok(Format::Events) => events(&mut exchange, &mut draft, &mut ending),
        Ok(Format::Json) => {
            let (body, fault) = exchange.lines.rest(crate::stream::BODY_CAP as usize + 1);
            match fault {
                Some(fault) => Err(exchange.fault(fault, !body.is_empty())),
                None => chunks(&exchange, &body, &mut draft, &mut ending),
            }
        }
        Ok(Format::Empty) => {
            let empty = CallError::new(Class::EmptyResponse, "the server answered 200 and nothing else");
            Err(exchange.ended().unwrap_or(empty))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        return Err(draft.fail(error));
    }
    if let Some(error) = exchange.ended().filter(|_| draft.finish.is_none()) {
        return Err(draft.fail(error));
    }
    let Some(word) = draft.finish.clone() else { return Err(draft.unfinished("a finish reason")) };
    // Gateways hand on other vendors' words as they are: `STOP`, `MAX_TOKENS`, `SAFETY`, `COMPLETE`.
    let finish = match word.to_ascii_lowercase().as_str() {
        _ if !ending.refusal.is_empty() => Finish::Refused(ending.refusal),
        "stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn" | "stop_token" | "complete"
        | "completed" => Finish::Stop,
        "length" | "max_tokens" | "model_length" | "max_output_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::Context,
        "content_filter" | "refusal" | "safety" => Finish::Refused(String::new()),
        "tool_calls" | "function_call" | "tool_use" => Finish::Tool,
        _ => Finish::Other(word),
    };
    let server_cost = draft.usage.cost_usd;
    let mut reply = draft.finished(finish, price)?;
    if price.is_none() {
        reply.usage.cost_usd = server_cost;
    } else if flex && ending.flex {
        reply.usage.cost_usd /= 2.0;
    }
    Ok(reply)
}

#[derive(Default)]
struct Ending {
    refusal: String,
    /// It was served in the tier `flex`.
    flex: bool,
    /// Tokens of the prompt that the server has read.
    read: u64,
    /// The text comes in deltas. Some add the message so far to each (Perplexity), or the whole to the last.
    deltas: bool,
}

fn events(exchange: &mut Exchange<'_>, draft: &mut Draft, ending: &mut Ending) -> Result<(), CallError> {
    let mut event = Event::default();
    loop {
        match event.read(&mut exchange.lines) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // After the finish reason nothing of worth can be lost but the usage; yet a reset is a cut.
            Err(fault) => return Err(exchange.fault(fault, draft.any())),
        }
        if event.data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        if event.data.trim_ascii().is_empty() {
            continue;
        }
        if event.name == "error" {
            let text = String::from_utf8_lossy(&event.data);
            let said = Said::read(&text).unwrap_or_default();
            return Err(exchange.said(&said, &event.data));
        }
        chunks(exchange, &event.data, draft, ending)?;
    }
}

/// Takes in one chunk (or several, from servers that put no empty line between them).
fn chunks(
    exchange: &Exchange<'_>,
    data: &[u8],
    draft: &mut Draft,
    ending: &mut Ending,
) -> Result<(), CallError> {
    let values = serde_json::Deserializer::from_slice(data).into_iter::<Chunk<'_>>();
    for chunk in values {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Err(exchange.bad_json(data, &error)),
        };
        if let Some(error) = chunk.error.filter(classify::is_error) {
            let mut said = Said::of(&json!({ "error": error })).unwrap_or_default();
            if said == Said::default() {
                said.message = error.to_string();
            }
            return Err(exchange.said(&said, data));
        }
        // Older vLLM: a flat error.
        if chunk.object.is_some_and(|object| object.0 == "error") {
            let said = serde_json::from_slice(data).ok().and_then(|value: Value| Said::of(&value));
            return Err(exchange.said(&said.unwrap_or_default(), data));
        }
        if let Some(progress) = chunk.prompt_progress {
            let number = |name: &str| progress.get(name).and_then(Value::as_u64).unwrap_or(0);
            // The same figure again is no progress.
            if number("processed") > ending.read {
                ending.read = number("processed");
                exchange.reading(ending.read, number("total"));
            }
        }
        ending.flex |= chunk.service_tier.is_some_and(|tier| tier.0 == "flex");
        if draft.id.is_none() {
            draft.id = chunk.id.map(Text::into_owned).filter(|id| !id.is_empty());
        }
        if draft.model.is_none() {
            draft.model = chunk.model.map(Text::into_owned).filter(|model| !model.is_empty());
        }
        if let Some(usage) = chunk.usage {
            take_usage(&usage, &mut draft.usage);
        }
        for (place, choice) in (0..).zip(chunk.choices.unwrap_or_default()) {
            if choice.index.unwrap_or(place) != 0 {
                continue;
            }
            ending.deltas |= choice.delta.as_ref().is_some_and(Delta::says_something);
            let message = choice.message.filter(|_| !ending.deltas);
            for delta in [choice.delta, message].into_iter().flatten() {
                // Some send both names with the same text.
                let mut thoughts = [delta.reasoning_content, delta.reasoning].into_iter().flatten();
                if let Some(Text(thought)) = thoughts.find(|text| !text.is_empty()) {
                    exchange.content(thought.len());
                    draft.push_reasoning(&thought)?;
                }
                if let Some(Text(text)) = delta.content.filter(|text| !text.is_empty()) {
                    exchange.text(&text);
                    draft.push(&text)?;
                }
                if let Some(Text(refusal)) = delta.refusal.filter(|text| !text.is_empty()) {
                    exchange.content(refusal.len());
                    ending.refusal.push_str(&refusal);
                }
                // Some send an empty list with every piece, and with no piece at all.
                if delta
                    .tool_calls
                    .is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty()))
                {
                    exchange.content(0);
                }
            }
            if let Some(error) = choice.error.filter(classify::is_error) {
                let said = Said::of(&json!({ "error": error })).unwrap_or_default();
                return Err(exchange.said(&said, data));
            }
            if let Some(finish) = choice.finish_reason.filter(|finish| !finish.is_empty()) {
                draft.finish = Some(finish.into_owned());
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    service_tier: Option<Text<'a>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    prompt_progress: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<i64>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(default)]
    error: Option<Value>,
}

impl Delta<'_> {
    fn says_something(&self) -> bool {
        [&self.content, &self.reasoning_content, &self.reasoning, &self.refusal]
            .into_iter()
            .flatten()
            .any(|text| !text.is_empty())
    }
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
    #[serde(default)]
    tool_calls: Option<Value>,
}

/// Takes in usage as the many servers write it; what is missing or of another type changes nothing.
pub(crate) fn take_usage(from: &Value, usage: &mut crate::Usage) {
    let number = |pointer: &str| from.pointer(pointer).and_then(Value::as_u64);
    usage.input_tokens = number("/prompt_tokens").unwrap_or(usage.input_tokens);
    usage.output_tokens = number("/completion_tokens").unwrap_or(usage.output_tokens);
    // Cached ones are among `prompt_tokens` here. DeepSeek names them its own way.
    usage.cached_tokens = number("/prompt_tokens_details/cached_tokens")
        .or_else(|| number("/prompt_cache_hit_tokens"))
        .unwrap_or(usage.cached_tokens);
    usage.cache_write_tokens =
        number("/prompt_tokens_details/cache_write_tokens").unwrap_or(usage.cache_write_tokens);
    usage.thinking_tokens =
        number("/completion_tokens_details/reasoning_tokens").unwrap_or(usage.thinking_tokens);
    usage.cost_usd = from.get("cost").and_then(Value::as_f64).unwrap_or(usage.cost_usd);
    *usage = usage.believed();
}

/// A text that may be a string, a number, null, or a list of parts with the text in them.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed("")))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let mut all = String::new();
                while let Some(Text(part)) = parts.next_element()? {
                    all.push_str(&part);
                }
                Ok(Text(Cow::Owned(all)))
            }
            // A part: `{"type": "text", "text": "…"}`; others (thinking, images) hold no answer.
            fn visit_map<A: MapAccess<'de>>(self, mut part: A) -> Result<Self::Value, A::Error> {
                let mut text = Cow::Borrowed("");
                while let Some(key) = part.next_key::<Cow<'de, str>>()? {
                    if key == "text" {
                        text = part.next_value_seed(TextSeed)?.0;
                    } else {
                        part.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Text(text))
            }
        }
        struct TextSeed;
        impl<'de> DeserializeSeed<'de> for TextSeed {
            type Value = Text<'de>;
            fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                Text::deserialize(deserializer)
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}
