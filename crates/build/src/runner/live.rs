//! What a running attempt is doing, readable from another thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::waits::Waits;
use planexe_base::cancel::{Cancel, Level};
use planexe_base::event::Queued;
use planexe_base::message::Message;
use planexe_llm::{CallProgress, Usage};

/// What a running attempt is doing, readable from another thread.
#[derive(Debug)]
pub struct Live {
    /// Start of the attempt.
    pub started: Instant,
    /// Its call.
    pub call: CallProgress,
    /// Ends this attempt alone.
    pub cancel: Cancel,
    stage: Mutex<Stage>,
    /// A sum that changes with what its program writes.
    growth: AtomicU64,
    /// Why it is ended alone.
    ended: Mutex<Option<EndedAlone>>,
    /// What the calls of its own program used, those that were answered from what is kept included; and those that were
    /// refused for good.
    calls: Mutex<(Usage, bool)>,
    /// The usage limit that its program met, unless a call was answered after it.
    limited: Mutex<Option<Limited>>,
    /// How those calls wait for their turns.
    pub waits: Waits,
    /// Bytes that went through for its program.
    relayed: AtomicU64,
    /// It is its task's evaluator that is at work.
    evaluates: bool,
    /// The batch its call is in, in words.
    batch: Mutex<Option<Arc<str>>>,
    /// How long it waited for batches, in milliseconds: no limit counts that.
    waited: AtomicU64,
    /// Where its program is, if an executor has it.
    at: Mutex<Option<String>>,
    /// When it waited in a queue.
    queued: Mutex<Option<Queued>>,
    /// What service it waits for, in words.
    serves: Mutex<Option<String>>,
    /// What its program says, and how much of it was taken.
    said: Mutex<Option<(Arc<File>, u64)>>,
}

/// How far an attempt is: another one means that it got on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The phase of its call, and the tokens and bytes of the answer.
    call: (u64, u64, u64),
    /// Tokens of the prompt that were read.
    prompt_read: u64,
    /// See [`Live::growth`].
    growth: u64,
}

/// A usage limit that a program met.
#[derive(Debug, Clone)]
pub struct Limited {
    /// What its server said.
    pub message: Message,
    /// When it is over.
    pub until: SystemTime,
}

/// Why one attempt is ended while the build goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EndedAlone {
    /// No progress for so long.
    Stalled(Duration),
    /// What it is made from was edited meanwhile.
    Edited,
    /// Somebody wants it tried anew.
    Retried,
}

/// What an attempt is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// About to begin.
    #[default]
    Starting,
    /// A call is open; so many answers were rejected before it.
    Asking {
        /// Rejected answers the call carries.
        rejected: u32,
    },
    /// Schema and checks.
    Checking,
    /// A kept answer is used.
    Reusing,
    /// Outputs and records are written.
    Saving,
    /// A program is at work.
    Running,
    /// A template is rendered.
    Rendering,
}

/// What an attempt is doing at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// Stable: `starting`, `service`, `batch`, `connecting`, `prompt`, `answer`, `checking`, `saving`, `running`, `rendering`.
    pub phase: &'static str,
    /// In a few words: "writing, 412 tokens".
    pub text: String,
    /// Pieces of an answer so far, which is close to tokens.
    pub tokens: u64,
}

impl Default for Live {
    fn default() -> Self {
        Live::under(&Cancel::new())
    }
}

impl Live {
    /// Of an attempt in a build.
    pub fn under(cancel: &Cancel) -> Live {
        Live {
            started: Instant::now(),
            call: CallProgress::default(),
            cancel: cancel.of_one(),
            stage: Mutex::default(),
            growth: AtomicU64::new(0),
            ended: Mutex::default(),
            calls: Mutex::default(),
            limited: Mutex::default(),
            waits: Waits::default(),
            relayed: AtomicU64::new(0),
            evaluates: false,
            batch: Mutex::default(),
            waited: AtomicU64::new(0),
            at: Mutex::default(),
            queued: Mutex::default(),
            serves: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// The same for an evaluation.
    pub fn evaluating(self) -> Live {
        Live { evaluates: true, ..self }
    }

    /// Its call is in a batch, in words; none if it is in none.
    pub fn in_batch(&self, batch: Option<Arc<str>>) {
        *self.batch.lock() = batch;
    }

    /// Whether it is.
    pub fn is_in_batch(&self) -> bool {
        self.batch.lock().is_some()
    }

    /// It waited for a batch so long.
    pub fn waited(&self, time: Duration) {
        self.waited.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long it waited for batches, and for turns of its program's calls.
    pub fn time_waited(&self) -> Duration {
        Duration::from_millis(self.waited.load(Ordering::Relaxed)) + self.waits.time()
    }

    /// Whether something is at work that tells of no progress, or nothing can be for now.
    pub fn is_waiting(&self) -> bool {
        self.is_in_batch() || self.waits.is_waiting()
    }

    /// A call of its program was answered.
    pub fn called(&self, usage: &Usage) {
        self.calls.lock().0.add(usage);
    }

    /// What the calls of its program used.
    pub fn calls(&self) -> Usage {
        self.calls.lock().0
    }

    /// What they used, to be counted elsewhere from now on.
    pub fn take_calls(&self) -> Usage {
        std::mem::take(&mut self.calls.lock().0)
    }

    /// A call of its program was refused, since a limit of the build is reached.
    pub fn refuse(&self) {
        self.calls.lock().1 = true;
    }

    /// Whether one was.
    pub fn is_refused(&self) -> bool {
        self.calls.lock().1
    }

    /// A call of its program was refused for a usage limit. What its server said first is kept.
    pub fn limit(&self, limited: Limited) {
        let mut known = self.limited.lock();
        let message = known.take().map_or(limited.message, |first| first.message);
        *known = Some(Limited { message, ..limited });
    }

    /// One was answered: no limit holds it.
    pub fn unlimit(&self) {
        *self.limited.lock() = None;
    }

    /// The usage limit that its program came to its end with.
    pub fn take_limit(&self) -> Option<Limited> {
        self.limited.lock().take()
    }

    /// Bytes went through for its program, which is progress.
    pub fn relay(&self, bytes: usize) {
        self.relayed.fetch_add(bytes as u64 + 1, Ordering::Relaxed);
    }

    /// How many did.
    pub fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }

    /// Its program has written so much, or something else.
    pub fn grown(&self, sum: u64) {
        self.growth.store(sum, Ordering::Relaxed);
    }

    /// Changes whenever the attempt gets on.
    pub fn mark(&self) -> Mark {
        let (call, (prompt_read, _)) = (self.call.snapshot(), self.call.prefill());
        Mark { call, prompt_read, growth: self.growth.load(Ordering::Relaxed) }
    }

    /// Ends the attempt, and no other.
    pub fn end(&self, why: EndedAlone) {
        self.ended.lock().get_or_insert(why);
        self.cancel.raise(Level::Killing);
    }

    /// Why it was ended alone, if it was.
    pub fn ended(&self) -> Option<EndedAlone> {
        *self.ended.lock()
    }

    /// Says what it is at.
    pub fn enter(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    /// Says where its program is.
    pub fn at(&self, place: String) {
        *self.at.lock() = Some(place);
    }

    /// Says when it waited in a queue.
    pub fn queued(&self, queued: Option<Queued>) {
        *self.queued.lock() = queued;
    }

    /// When it waited in a queue, if it did.
    pub fn take_queued(&self) -> Option<Queued> {
        self.queued.lock().take()
    }

    /// Says what service it waits for; none once it is there.
    pub fn serves(&self, service: Option<String>) {
        *self.serves.lock() = service;
    }

    /// What its program says is in this file.
    pub fn says_into(&self, said: Arc<File>) {
        *self.said.lock() = Some((said, 0));
    }

    /// What its program said since it was last asked, at most 1 MiB at a time.
    pub fn take_said(&self) -> Vec<u8> {
        let mut said = self.said.lock();
        let Some((file, taken)) = said.as_mut() else { return Vec::new() };
        let length = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(*taken);
        let mut bytes = vec![0; length.min(1 << 20) as usize];
        match file.read_at(&mut bytes, *taken) {
            Ok(read) => bytes.truncate(read),
            Err(_) => bytes.clear(),
        }
        *taken += bytes.len() as u64;
        bytes
    }

    /// What it is doing.
    pub fn doing(&self) -> Doing {
        if let Some(text) = self.serves.lock().clone() {
            return Doing { phase: "service", text, tokens: 0 };
        }
        let stage = *self.stage.lock();
        let (call, tokens, _) = self.call.snapshot();
        let (phase, text) = match stage {
            Stage::Starting => ("starting", String::new()),
            Stage::Checking => ("checking", "checking".to_owned()),
            Stage::Reusing => ("saving", "using the kept answer".to_owned()),
            Stage::Saving => ("saving", "saving".to_owned()),
            Stage::Running => {
                let at = self.at.lock().clone();
                let running = match self.waits.is_waiting() {
                    true => "waiting for its model".to_owned(),
                    false => at.unwrap_or_else(|| "running".to_owned()),
                };
                match self.calls().calls {
                    0 => ("running", running),
                    calls => ("running", format!("{running}, {}", planexe_base::style::count(calls, "call"))),
                }
            }
            Stage::Rendering => ("rendering", "rendering".to_owned()),
            Stage::Asking { rejected } => {
                let again = match rejected {
                    0 => String::new(),
                    n => format!("asking again ({n}), "),
                };
                let batch = self.batch.lock().as_ref().map(ToString::to_string);
                let (phase, text) = match (call, self.call.prefill()) {
                    _ if batch.is_some() => ("batch", batch.unwrap_or_default()),
                    (0, _) => ("connecting", "connecting".to_owned()),
                    (1, (read, of)) if of > 0 => {
                        ("prompt", format!("reading the prompt, {} of {of} tokens", read.min(of)))
                    }
                    (1, _) => ("prompt", "waiting for the first token".to_owned()),
                    (_, _) => ("answer", format!("writing, {}", planexe_base::style::count(tokens, "token"))),
                };
                (phase, again + &text)
            }
        };
        let text = match (self.evaluates, text.as_str()) {
            (true, "") => "evaluation".to_owned(),
            (true, text) => format!("evaluation: {text}"),
            (false, _) => text,
        };
        Doing { phase, text, tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_is_told_in_words() {
        let live = Live::default();
        let now = |phase: &str, text: &str| {
            let doing = live.doing();
            assert_eq!((doing.phase, doing.text.as_str()), (phase, text));
        };
        now("starting", "");
        live.enter(Stage::Asking { rejected: 0 });
        now("connecting", "connecting");
        live.call.sent();
        now("prompt", "waiting for the first token");
        live.call.reading(10, 400);
        now("prompt", "reading the prompt, 10 of 400 tokens");
        live.call.wrote("one");
        now("answer", "writing, 1 token");
        live.call.wrote(" two");
        now("answer", "writing, 2 tokens");
        assert_eq!(Live::default().evaluating().doing().text, "evaluation");
        assert_eq!((live.doing().tokens, live.call.take_text().as_str()), (2, "one two"));
        assert_eq!(live.call.take_text(), "");
        live.enter(Stage::Checking);
        now("checking", "checking");
        live.enter(Stage::Asking { rejected: 2 });
        now("answer", "asking again (2), writing, 2 tokens");
    }
}
