//! How many tokens a text is, without a tokenizer: counted by kinds of characters, then corrected per model
//! by what its server reported. Used to refuse a prompt that cannot fit before it is paid for, and to
//! notice after a call that the server read less than it was sent.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::batches::{Answers, Batches, Found, Standing, Wanted};
use super::ceiling::Ceiling;
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, Usage, structured};
use crate::attachment;
use crate::config::{Api, Model};
use planexe_base::cancel::Cancel;
use planexe_base::message::Message;

/// Tokens each message costs for its role and separators.
const PER_MESSAGE: u64 = 6;
/// Prompts under this many tokens are not compared with what the server says: templates and rounding
/// outweigh them.
const COMPARED_FROM: u64 = 1_000;

/// Tokens of a text, for a tokenizer of today's usual kind.
///
/// Words of ASCII letters cost one token for the first 6 letters and one for each 4 more, numbers one for
/// each 3 digits, white space one a run except the single space before a word, other ASCII one for each 2,
/// Cyrillic, Greek, Arabic and the like one for each 2.5 characters, Han, kana and Hangul 0.9 each, the
/// rest 1.5. English prose comes to 4.2 characters a token so, JSON to about 3.
pub fn tokens(text: &str) -> u64 {
    #[derive(PartialEq, Clone, Copy)]
    enum Kind {
        Letter,
        Digit,
        Space,
        Mark,
        Alphabet,
        Ideograph,
        Rare,
    }
    let kind_of = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => Kind::Letter,
        '0'..='9' => Kind::Digit,
        c if c.is_whitespace() => Kind::Space,
        c if c.is_ascii() => Kind::Mark,
        '\u{250}'..='\u{10ff}' | '\u{1e00}'..='\u{1fff}' => Kind::Alphabet,
        '\u{2010}'..='\u{206f}' => Kind::Mark,
        '\u{2e80}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' => Kind::Ideograph,
        _ => Kind::Rare,
    };
    let cost = |kind: Kind, run: u64, single_space: bool| -> u64 {
        match kind {
            // In hundredths, so that runs of a fraction add up.
            Kind::Letter => 100 + run.saturating_sub(6) * 25,
            Kind::Digit => run.div_ceil(3) * 100,
            Kind::Space if single_space => 0,
            Kind::Space => 100 + run / 16 * 100,
            Kind::Mark => run * 50 + 25,
            Kind::Alphabet => run * 40 + 20,
            Kind::Ideograph => run * 90,
            Kind::Rare => run * 150,
        }
    };
    let (mut total, mut run, mut current, mut single) = (0u64, 0u64, None, false);
    for c in text.chars() {
        let kind = kind_of(c);
        if current == Some(kind) {
            run += 1;
            single = false;
        } else {
            if let Some(kind) = current {
                total += cost(kind, run, single);
            }
            current = Some(kind);
            run = 1;
            single = c == ' ';
        }
    }
    if let Some(kind) = current {
        total += cost(kind, run, single);
    }
    total.div_ceil(100)
}

/// Tokens of all that a request sends: system, prompt, rejected answers and what was said of them, schema.
pub fn request_tokens(request: &Request) -> u64 {
    let mut total = tokens(&request.system) + tokens(&request.prompt) + 2 * PER_MESSAGE;
    for rejected in &request.rejected {
        total += tokens(&rejected.answer) + tokens(&rejected.feedback) + 2 * PER_MESSAGE;
    }
    total
}

/// Tokens a request may add where the schema travels in the prompt, and of its files about: not counted among what must have been
/// read, but among what must fit.
fn schema_tokens(request: &Request) -> u64 {
    let schema = request.schema.as_ref().map_or(0, |schema| tokens(&structured::in_words(schema)));
    schema + attachment::tokens(&request.files)
}

/// How a model's tokenizer differs from the estimate, learned from what its server reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Reported tokens over estimated ones, a moving average.
    pub ratio: f64,
    /// Calls it rests on.
    pub calls: u32,
}

impl Default for Calibration {
    fn default() -> Calibration {
        Calibration { ratio: 1.0, calls: 0 }
    }
}

impl Calibration {
    /// Learns from one call. A prompt of a few words, or a count that no tokenizer would give, teaches nothing.
    pub fn learn(&mut self, estimated: u64, reported: u64) {
        let ratio = reported as f64 / estimated.max(1) as f64;
        if estimated < 200 || !(0.4..=3.0).contains(&ratio) {
            return;
        }
        // The first calls weigh as a mean, later ones a fifth each.
        let weight = (1.0 / f64::from(self.calls + 1)).max(0.2);
        self.ratio += (ratio - self.ratio) * weight;
        self.calls = self.calls.saturating_add(1);
    }

    /// An estimate corrected by what was learned.
    pub fn apply(&self, estimated: u64) -> u64 {
        (estimated as f64 * self.ratio) as u64
    }

    /// The share of an estimate that the truth is surely above: a fifth less before anything was
    /// learned, a twentieth less after a few calls.
    fn surely(&self, estimated: u64) -> u64 {
        let share = if self.calls >= 3 { 0.95 } else { 0.8 };
        (self.apply(estimated) as f64 * share) as u64
    }
}

/// A request and its [`request_tokens`], which are counted once: a prompt may be half a megabyte.
#[derive(Clone, Copy)]
struct Estimated<'r> {
    request: &'r Request,
    tokens: u64,
}

impl<'r> Estimated<'r> {
    fn new(request: &'r Request) -> Estimated<'r> {
        Estimated { request, tokens: request_tokens(request) }
    }
}

/// Refuses a request whose prompt surely leaves no room for an answer in the context.
fn preflight(
    Estimated { request, tokens }: Estimated<'_>,
    context_window: Option<u64>,
    max_output: Option<u64>,
    calibration: &Calibration,
) -> Result<(), CallError> {
    let Some(window) = context_window else { return Ok(()) };
    let room = room(request, max_output);
    let surely = calibration.surely(tokens);
    if surely + room <= window {
        return Ok(());
    }
    let with_schema = tokens + schema_tokens(request);
    Err(does_not_fit(&format!("about {} tokens", calibration.apply(with_schema)), window))
}

/// Whether only the server's own tokenizer can say if a prompt fits.
fn is_close(
    Estimated { request, tokens }: Estimated<'_>,
    window: u64,
    max_output: Option<u64>,
    calibration: &Calibration,
) -> bool {
    let expected = calibration.apply(tokens + schema_tokens(request));
    (expected + room(request, max_output)) * 4 > window.saturating_mul(3)
}

/// Tokens kept free for the answer. It needs some; how much of `max_tokens` it will use nobody knows.
fn room(request: &Request, max_output: Option<u64>) -> u64 {
    let asked = ["max_tokens", "max_completion_tokens"]
        .iter()
        .find_map(|name| request.params.get(*name).and_then(serde_json::Value::as_u64));
    asked.or(max_output).unwrap_or(1).clamp(1, 256)
}

fn does_not_fit(size: &str, window: u64) -> CallError {
    CallError::new(
        Class::ContextOverflow,
        Message::new(format!("the prompt is {size}, the context holds {window}: not sent"))
            .hint("shorten the inputs, or name a model with a larger context"),
    )
}

/// Refuses an answer to a prompt of which the server says it read far less than was sent: it was cut on the
/// way, silently, and the answer is about a part of it.
fn postflight(
    request: Estimated<'_>,
    usage: &Usage,
    context_window: Option<u64>,
    calibration: &Calibration,
) -> Result<(), CallError> {
    let expected = calibration.apply(request.tokens);
    let reported = usage.input_tokens;
    // Zero is no report. A cached prefix that a server leaves out of its count makes any count doubtful.
    if reported == 0 || expected < COMPARED_FROM {
        return Ok(());
    }
    let far_below = reported * 2 < expected;
    // A context that is shifted keeps half of itself; one that is cut fills itself.
    let at_boundary = context_window.is_some_and(|window| {
        let near = |boundary: u64| reported.abs_diff(boundary) <= 64;
        near(window / 2) || reported + 8 >= window
    });
    if far_below || (at_boundary && reported * 5 < expected * 4) {
        return Err(CallError::new(
            Class::PromptTruncated,
            Message::new(format!(
                "the server read {reported} tokens of a prompt of about {expected}: the rest was cut off, \
                 and the answer cannot be trusted"
            ))
            .hint("set `context_window` to what the model holds, or load it with a larger context"),
        ));
    }
    Ok(())
}

/// A provider with the checks before and after around it; it learns from each call.
pub(super) struct Checked {
    inner: Box<dyn Provider>,
    api: Option<Api>,
    context_window: Option<u64>,
    max_output: Option<u64>,
    calibration: Mutex<Calibration>,
    /// What the calls of the build may come to: a count by its server is one.
    ceiling: Option<Arc<Ceiling>>,
}

impl Checked {
    pub(super) fn new(
        inner: Box<dyn Provider>,
        model: &Model,
        known: Option<Calibration>,
        ceiling: Option<Arc<Ceiling>>,
    ) -> Checked {
        let calibration = Mutex::new(known.unwrap_or_default());
        Checked {
            inner,
            api: model.api,
            context_window: model.context_window,
            max_output: model.max_output,
            calibration,
            ceiling,
        }
    }

    /// LM Studio answers a prompt that does not fit with 200 and nothing: nothing, to a prompt that all but
    /// fills the context, is taken for that.
    fn overflowed(&self, request: Estimated<'_>, mut error: CallError, known: &Calibration) -> CallError {
        let Some(window) = self.context_window else { return error };
        let nothing = error.class == Class::EmptyResponse && error.partial.is_empty();
        let expected = known.apply(request.tokens);
        if nothing && expected * 10 > window.saturating_mul(9) {
            error.class = Class::ContextOverflow;
            error.message.text +=
                &format!("; the prompt is about {expected} tokens, the context holds {window}");
        }
        error
    }

    fn known(&self) -> Calibration {
        *self.calibration.lock()
    }
}

impl Checked {
    /// Refuses what was cut on the way, and learns from the rest.
    fn after(&self, request: Estimated<'_>, reply: Reply, known: &Calibration) -> Result<Reply, CallError> {
        if let Err(mut error) = postflight(request, &reply.usage, self.context_window, known) {
            error.partial = reply.text;
            error.usage = reply.usage;
            return Err(error);
        }
        // How a server counts images is no matter of its tokenizer.
        if reply.usage.input_tokens > 0 && request.request.files.is_empty() {
            self.calibration.lock().learn(request.tokens, reply.usage.input_tokens);
        }
        Ok(reply)
    }

    fn pooled(&self) -> Result<&dyn Batches, CallError> {
        let none = || CallError::new(Class::Config, "its server has no batches");
        self.inner.batches().ok_or_else(none)
    }
}

impl Batches for Checked {
    fn line(&self, request: &Request) -> Result<Value, CallError> {
        if let Some(api) = self.api {
            attachment::refuse(api, &request.files)?;
        }
        preflight(Estimated::new(request), self.context_window, self.max_output, &self.known())?;
        self.pooled()?.line(request)
    }

    fn tokens(&self, request: &Request) -> u64 {
        self.known().apply(request_tokens(request) + schema_tokens(request))
    }

    fn prepare(&self, key: &str, lines: &[(String, Value)], cancel: &Cancel) -> Result<String, CallError> {
        self.pooled()?.prepare(key, lines, cancel)
    }

    fn submit(
        &self,
        key: &str,
        file: &str,
        lines: &[(String, Value)],
        cancel: &Cancel,
    ) -> Result<String, CallError> {
        self.pooled()?.submit(key, file, lines, cancel)
    }

    fn find(&self, wanted: &Wanted<'_>, cancel: &Cancel) -> Result<Found, CallError> {
        self.pooled()?.find(wanted, cancel)
    }

    fn look(&self, id: &str, cancel: &Cancel) -> Result<Standing, CallError> {
        self.pooled()?.look(id, cancel)
    }

    fn results(&self, standing: &Standing, cancel: &Cancel) -> Result<Answers, CallError> {
        self.pooled()?.results(standing, cancel)
    }

    fn cancel(&self, id: &str, cancel: &Cancel) -> Result<(), CallError> {
        self.pooled()?.cancel(id, cancel)
    }

    fn read(&self, request: &Request, status: u16, body: &Value) -> Result<Reply, CallError> {
        let known = self.known();
        let reply = self.pooled()?.read(request, status, body);
        let estimated = Estimated::new(request);
        self.after(estimated, reply.map_err(|error| self.overflowed(estimated, error, &known))?, &known)
    }
}

impl Provider for Checked {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        if let Some(api) = self.api {
            attachment::refuse(api, &request.files)?;
        }
        let known = self.known();
        let estimated = Estimated::new(request);
        preflight(estimated, self.context_window, self.max_output, &known)?;
        if let Some(window) = self.context_window
            && is_close(estimated, window, self.max_output, &known)
            && self.ceiling.as_ref().is_none_or(|ceiling| ceiling.begin_if_room())
            && let Some(count) = self.inner.count_tokens(request)
            && count.saturating_add(room(request, self.max_output)) > window
        {
            return Err(does_not_fit(&format!("{count} tokens by its server's own count"), window));
        }
        let reply =
            self.inner.call(request, context).map_err(|error| self.overflowed(estimated, error, &known))?;
        self.after(estimated, reply, &known)
    }

    fn batches(&self) -> Option<&dyn Batches> {
        self.inner.batches().map(|_| self as &dyn Batches)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn is_busy(&self) -> Option<bool> {
        self.inner.is_busy()
    }

    fn calibration(&self) -> Option<Calibration> {
        Some(self.known()).filter(|known| known.calls > 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(prompt: &str) -> Request {
        Request { task: "t".into(), prompt: prompt.into(), ..Request::default() }
    }

    #[test]
    fn estimates_are_near_for_every_script() {
        // Token counts are the range of today's common tokenizers for such text.
        for (text, least, most) in [
            ("The quick brown fox jumps over the lazy dog.", 9, 12),
            ("Strengths, weaknesses, opportunities and threats of the organisation.", 11, 17),
            (r#"{"name": "Ada", "age": 36, "tags": ["a", "b"]}"#, 15, 26),
            ("Быстрая коричневая лиса прыгает через ленивую собаку", 12, 26),
            ("素早い茶色の狐がのろまな犬を飛び越える", 14, 26),
            ("2026-11-21 08:00:00", 8, 14),
            ("                                                                ", 1, 6),
            ("", 0, 0),
        ] {
            let got = tokens(text);
            assert!((least..=most).contains(&got), "{text}: {got}");
        }
    }

    #[test]
    fn calibration_follows_the_server() {
        let mut calibration = Calibration::default();
        for _ in 0..20 {
            calibration.learn(1000, 1300);
        }
        assert!((calibration.ratio - 1.3).abs() < 0.01);
        calibration.learn(1000, 10);
        calibration.learn(10, 1000);
        assert!((calibration.ratio - 1.3).abs() < 0.01);
        let text = serde_json::to_string(&calibration).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), calibration);
    }

    #[test]
    fn a_prompt_that_cannot_fit_is_not_sent() {
        let prompt = request(&"word ".repeat(10_000));
        let none = Calibration::default();
        for (window, wanted) in
            [(None, true), (Some(16_384), true), (Some(8_200), true), (Some(4_096), false)]
        {
            assert_eq!(preflight(Estimated::new(&prompt), window, None, &none).is_ok(), wanted, "{window:?}");
        }
        let error = preflight(Estimated::new(&prompt), Some(4096), None, &none).unwrap_err();
        assert_eq!(error.class, Class::ContextOverflow);
        let learned = Calibration { ratio: 1.0, calls: 10 };
        assert!(preflight(Estimated::new(&prompt), Some(8_200), None, &learned).is_err());
        let mut asking = request(&"word ".repeat(9_900));
        asking.params.insert("max_tokens".into(), json!(100_000));
        assert!(preflight(Estimated::new(&asking), Some(10_240), None, &learned).is_ok());
    }

    #[test]
    fn a_prompt_that_was_cut_is_noticed() {
        let none = Calibration::default();
        for (words, reported, window, wanted) in [
            (10_000, 10_100, Some(16_384), true),
            (10_000, 6_000, Some(16_384), true),
            (10_000, 4_900, Some(16_384), false),
            (10_000, 2_050, Some(4_096), false),
            (10_000, 7_300, Some(14_600), false),
            (10_000, 7_300, None, true),
            (10_000, 0, Some(4_096), true),
            (500, 10, Some(4_096), true),
            (2_000, 2_048, Some(4_096), true),
        ] {
            let usage = Usage { input_tokens: reported, ..Usage::default() };
            let sent = request(&"word ".repeat(words));
            let got = postflight(Estimated::new(&sent), &usage, window, &none);
            assert_eq!(got.is_ok(), wanted, "{words} words, {reported} read, {window:?}: {got:?}");
        }
    }
}
