//! What makes an answer one: the text gathered so far, and the judgement at its end. Every HTTP dialect
//! gathers into a [`Draft`] and hands in how its server said the answer ended.

use std::time::Instant;

use super::degenerate::{Detector, REASONING_BYTES};
use super::{CallError, Class, ONLY_REASONING, Reply, Usage};
use crate::config::Price;

/// How a server said an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Finish {
    /// The model came to its end.
    Stop,
    /// The bound on tokens did.
    Length,
    /// The context was full.
    Context,
    /// The model or a filter declined; in its own words, if there are any.
    Refused(String),
    /// It asked for a tool, which nobody offered.
    Tool,
    /// Anything else, which proves nothing.
    Other(String),
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub text: String,
    pub reasoning: String,
    pub usage: Usage,
    pub model: Option<String>,
    pub id: Option<String>,
    /// The server's word for how it ended.
    pub finish: Option<String>,
    pub first_token_s: Option<f64>,
    started: Instant,
    answer: Detector,
    thought: Detector,
    /// How often the last piece has come in a row.
    last: (String, u32),
}

impl Draft {
    pub(super) fn new(started: Instant) -> Draft {
        Draft {
            text: String::new(),
            reasoning: String::new(),
            usage: Usage { calls: 1, ..Usage::default() },
            model: None,
            id: None,
            finish: None,
            first_token_s: None,
            started,
            answer: Detector::default(),
            thought: Detector::default(),
            last: (String::new(), 0),
        }
    }

    /// Whether anything came, reasoning included.
    pub(super) fn any(&self) -> bool {
        !self.text.is_empty() || !self.reasoning.is_empty()
    }

    /// Adds a piece of the answer; an error if the text has become a loop.
    pub(super) fn push(&mut self, piece: &str) -> Result<(), CallError> {
        self.note(piece);
        self.text.push_str(piece);
        match self.answer.grown(&self.text, piece) {
            Some(why) => Err(CallError::new(Class::Degenerate, format!("stopped early: {why}"))),
            None => Ok(()),
        }
    }

    /// Adds a piece of reasoning; an error if it has become a loop, or leads nowhere.
    pub(super) fn push_reasoning(&mut self, piece: &str) -> Result<(), CallError> {
        self.note(piece);
        self.reasoning.push_str(piece);
        let why = match self.thought.grown(&self.reasoning, piece) {
            Some(why) => why,
            None if self.text.is_empty() && self.reasoning.len() > REASONING_BYTES => {
                format!("{} bytes of reasoning without a word of an answer", self.reasoning.len())
            }
            None => return Ok(()),
        };
        Err(CallError::new(Class::Degenerate, format!("stopped early, in reasoning: {why}")))
    }

    fn note(&mut self, piece: &str) {
        self.first_token_s.get_or_insert_with(|| self.started.elapsed().as_secs_f64());
        if self.last.0 == piece {
            self.last.1 += 1;
        } else {
            self.last.0.clear();
            self.last.0.push_str(piece);
            self.last.1 = 1;
        }
    }

    /// Puts what had arrived beside an error.
    pub(super) fn fail(self, mut error: CallError) -> CallError {
        error.partial = self.text;
        error.usage = self.usage;
        error
    }

    /// The error of a stream that ended without saying how the answer did. Ollama ends so after some
    /// thirty equal tokens; that is a loop, not a cut.
    pub(super) fn unfinished(self, wanted: &str) -> CallError {
        let error = if self.last.1 >= 28 {
            CallError::new(
                Class::Degenerate,
                format!("the server stopped after {} equal pieces", self.last.1),
            )
        } else if self.any() {
            CallError::new(Class::Cut, format!("the answer was cut off: the stream ended without {wanted}"))
        } else {
            CallError::new(Class::Cut, format!("the stream ended without an answer and without {wanted}"))
        };
        self.fail(error)
    }

    /// Judges an answer whose server has said how it ended.
    pub(super) fn finished(mut self, finish: Finish, price: Option<Price>) -> Result<Reply, CallError> {
        if let Some(price) = price {
            self.usage.cost_usd = cost(&self.usage, &price);
        }
        self.split_thought();
        let class_and_why = match &finish {
            Finish::Stop if self.text.trim().is_empty() => Some((
                Class::EmptyResponse,
                match self.reasoning.len() {
                    0 => "the answer is empty".to_owned(),
                    bytes => format!("{bytes} bytes of reasoning, and no answer after them"),
                },
            )),
            Finish::Stop if self.text.contains('\0') => {
                Some((Class::BadData, "the answer has NUL characters in it".to_owned()))
            }
            Finish::Stop => None,
            Finish::Length => {
                let tokens = match self.usage.output_tokens {
                    0 => String::new(),
                    tokens => format!(" after {tokens} tokens"),
                };
                let thought = if self.text.trim().is_empty() && !self.reasoning.is_empty() {
                    ", all of them spent on reasoning"
                } else {
                    ""
                };
                Some((Class::Truncated, format!("the answer was cut at its length limit{tokens}{thought}")))
            }
            Finish::Context => {
                Some((Class::ContextOverflow, "the answer filled the model's context before it ended".into()))
            }
            Finish::Refused(why) if why.trim().is_empty() => {
                Some((Class::Refusal, "the model or a content filter declined to answer".into()))
            }
            Finish::Refused(why) => {
                Some((Class::Refusal, format!("declined: {}", super::one_line(why, None))))
            }
            Finish::Tool => Some((
                Class::EmptyResponse,
                "the model called a tool instead of answering; none was offered".to_owned(),
            )),
            Finish::Other(word) => Some((
                Class::Cut,
                format!(
                    "the answer ended by `{}`, which proves no whole answer",
                    super::one_line(word, None)
                ),
            )),
        };
        if let Some((class, why)) = class_and_why {
            let mut error = CallError::new(class, why);
            if class == Class::EmptyResponse && !self.reasoning.is_empty() {
                error.code = Some(ONLY_REASONING.to_owned());
            }
            return Err(self.fail(error));
        }
        Ok(Reply {
            text: self.text,
            reasoning: self.reasoning,
            usage: self.usage,
            model: self.model,
            finish: self.finish,
            id: self.id,
            sample: false,
            first_token_s: self.first_token_s,
            duration_s: self.started.elapsed().as_secs_f64(),
        })
    }

    /// Moves a leading `<think>…</think>` of servers that do not tell reasoning apart.
    fn split_thought(&mut self) {
        let Some(rest) = self.text.trim_start().strip_prefix("<think>") else { return };
        let (thought, answer) = match rest.split_once("</think>") {
            Some((thought, answer)) => (thought.trim().to_owned(), answer.trim_start().to_owned()),
            None => (rest.trim().to_owned(), String::new()),
        };
        self.reasoning.push_str(&thought);
        self.text = answer;
    }
}

/// USD by a price table per million tokens. Cached tokens are among those of the prompt, whatever the server counts: they
/// are never more.
pub fn cost(usage: &Usage, price: &Price) -> f64 {
    let cached = usage.cached_tokens.min(usage.input_tokens);
    let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
    let at = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
    at(cached, price.cached.unwrap_or(price.input))
        + at(written, price.cache_write.unwrap_or(price.input))
        + price.uncached(usage.input_tokens - cached - written, usage.output_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_have_a_price_of_their_own() {
        let used = |input_tokens, cached_tokens, cache_write_tokens| Usage {
            input_tokens,
            cached_tokens,
            cache_write_tokens,
            output_tokens: 1_000_000,
            ..Usage::default()
        };
        let full = Price { input: 3.0, output: 15.0, cached: None, cache_write: None };
        let cached = Price { cached: Some(0.3), cache_write: Some(3.75), ..full };
        for (usage, price, wanted) in [
            (used(2_000_000, 1_000_000, 500_000), full, 6.0 + 15.0),
            (used(2_000_000, 1_000_000, 500_000), cached, 0.3 + 0.5 * 3.75 + 0.5 * 3.0 + 15.0),
            (used(2_000_000, 0, 0), cached, 6.0 + 15.0),
            // What a server tells need not add up: nothing is billed twice, or below nothing.
            (used(1_000_000, 5_000_000, 5_000_000), cached, 0.3 + 15.0),
            (used(2_000_000, 1_000_000, 0), Price { cached: Some(0.0), ..full }, 3.0 + 15.0),
        ] {
            assert!((cost(&usage, &price) - wanted).abs() < 1e-9, "{usage:?} {price:?}");
        }
    }
}
