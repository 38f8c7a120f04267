//! What to do after a failed call: a pure policy over budgets, so that every rule is a row of a table.
//!
//! Each family of failures has a budget of its own, per endpoint. Waiting (a loading server, a rate limit)
//! is bounded by time and uses no attempt; retries by number; re-asks by number; and when one endpoint's
//! budget is spent the next model of the task's list has its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rng::Rng;
use super::{CallError, Class, UNREACHABLE};
use crate::config::Retry;

/// The numbers of one task on one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Attempts in all on failures that may pass, the first included (4).
    pub max_attempts: u32,
    /// First pause (1 s); each further one doubles it.
    pub base: Duration,
    /// Longest pause of our own (60 s); a server may ask for more.
    pub max: Duration,
    /// How often an invalid answer is asked for again (2).
    pub max_validation_retries: u32,
    /// How long a server that is away or loading is waited for (10 min: a restart and a large model). A table's `wait` sets
    /// this and bounds the two below.
    pub wait_for_server: Duration,
    /// How long rate limits are waited out where another model could answer instead (15 min).
    pub wait_for_limit: Duration,
    /// How long they are waited out where none could (6 h: a quota that resets during the night).
    pub wait_for_only: Duration,
}

pub use planexe_base::limits::{WAIT_FOR_LIMIT, is_long};

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            max_attempts: 4,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            max_validation_retries: 2,
            wait_for_server: Duration::from_secs(10 * 60),
            wait_for_limit: WAIT_FOR_LIMIT,
            wait_for_only: Duration::from_secs(6 * 3600),
        }
    }
}

impl Policy {
    /// The defaults, changed key by key by the model's table and then by the task's.
    pub fn of(model: Option<&Retry>, task: Option<&Retry>, max_validation_retries: Option<u32>) -> Policy {
        let mut policy = Policy::default();
        for table in [model, task].into_iter().flatten() {
            policy.max_attempts = table.max_attempts.unwrap_or(policy.max_attempts).max(1);
            policy.base = table.base.map_or(policy.base, |span| span.0);
            policy.max = table.max.map_or(policy.max, |span| span.0);
            if let Some(wait) = table.wait {
                policy.wait_for_server = wait.0;
                policy.wait_for_limit = WAIT_FOR_LIMIT.min(wait.0);
                policy.wait_for_only = wait.0;
            }
        }
        policy.max_validation_retries = max_validation_retries.unwrap_or(policy.max_validation_retries);
        policy
    }
}

/// What the policy knows about one model of a task's list.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts<'a> {
    /// The name tasks call it by.
    pub name: &'a str,
    /// Tokens it can hold, prompt and answer together.
    pub context_window: Option<u64>,
    /// Most tokens it may answer with.
    pub max_output: Option<u64>,
    /// Closed for the run by a failure that no call will mend.
    pub closed: bool,
    /// The budgets that apply to this endpoint.
    pub policy: Policy,
}

/// A failure, and what was asked.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// The failure to decide on.
    pub error: &'a CallError,
    /// Which model of the list it was.
    pub model: usize,
    /// Tokens of the prompt, as estimated or told.
    pub prompt_tokens: u64,
    /// `max_tokens` as asked.
    pub max_tokens: Option<u64>,
    /// Whether the endpoint has answered in this build: then one that cannot be reached is an outage, not a
    /// wrong address.
    pub answered: bool,
}

impl Failed<'_> {
    /// Whether the server is away or loading: it is waited for, and nothing was paid.
    pub fn is_outage(&self) -> bool {
        let code = self.error.code.as_deref();
        match self.error.class {
            Class::ServerLoading => true,
            Class::Connection => self.answered && code == Some(UNREACHABLE),
            Class::Timeout => self.answered && code == Some("connect"),
            _ => false,
        }
    }

    /// Whether a server that has answered has too much to do, or cannot reach its model: that passes, and is no fault of
    /// the request.
    fn is_overload(&self) -> bool {
        let error = self.error;
        let says_so = error.code.as_deref().is_some_and(|code| code.contains("overloaded"));
        self.answered
            && error.class == Class::ServerError
            && (says_so || matches!(error.status, Some(502 | 503 | 529)))
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// The endpoint is not ready: hold, then the same again. Uses no attempt; a task's clock stands.
    Wait {
        /// How long, at least.
        r#for: Duration,
        /// Whether the server is away or loading: one that is found up earlier may be asked earlier.
        outage: bool,
        /// How long it is waited for at most, from now.
        left: Duration,
    },
    /// Its usage limit is over after so long, by the server's own word: no task asks it until then. Uses no attempt.
    Park {
        /// How long it is left alone.
        r#for: Duration,
    },
    /// The same again after a pause.
    Retry {
        /// How long, at least.
        after: Duration,
        /// Whether to draw differently (another `seed`): the same draw would go wrong the same way.
        vary: bool,
    },
    /// The same at once, in the form the server takes. Uses no attempt.
    Adapted,
    /// Ask again, with what was wrong (a rejected answer) or with room for a longer answer.
    Reask {
        /// The `max_tokens` to ask with; None to leave it.
        max_tokens: Option<u64>,
    },
    /// Ask the next model of the task's list.
    Fallback {
        /// Its place in the list.
        model_index: usize,
        /// Whether the one that failed is closed for the run.
        endpoint_closed: bool,
    },
    /// A model that holds more.
    LargerContext {
        /// Its place in the list.
        model_index: usize,
    },
    /// No model is left: the task fails.
    GiveUp {
        /// Whether the endpoint that failed is closed for the run.
        endpoint_closed: bool,
    },
}

/// What one task has used up so far. Kept beside the task so that a kill does not refill it; a final
/// failure starts a new one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budgets {
    endpoints: BTreeMap<String, Used>,
}

/// What was used on one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Used {
    /// Failed attempts of the retry family.
    attempts: u32,
    /// Of these, by class, for classes that are tried again only once.
    once: BTreeMap<Class, u32>,
    /// Answers rejected and asked for again.
    reasks: u32,
    /// Answers cut at their length and asked for again.
    longer: u32,
    /// The `max_tokens` the last of them was asked for with.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<u64>,
    /// When the present wait began.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_since: Option<Duration>,
    /// Waits in a row.
    waits: u32,
    /// Left for another model.
    left: bool,
}

/// Shortest pause between two calls to a server that is away.
const LOOK_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two calls to a server that is away. Its health is asked for more often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A limit that names no time is asked about at least this seldom in the end.
const LIMIT_MOST: Duration = Duration::from_secs(30);
/// How often an answer cut at its length is asked for with more room.
const LONGER_ASKS: u32 = 2;

impl Used {
    /// Counts a failed attempt; the pause before the next one, if there are attempts left.
    fn attempt(&mut self, error: &CallError, policy: &Policy, rng: &mut Rng) -> Option<Duration> {
        self.attempts += 1;
        if self.attempts >= policy.max_attempts {
            return None;
        }
        let pause = doubled(policy.base, self.attempts - 1, policy.max).mul_f64(rng.unit());
        Some(pause.max(error.retry_after.unwrap_or_default()))
    }

    /// Another attempt after a failure that may pass, as long as there are any and it makes sense here.
    fn retry(&mut self, error: &CallError, policy: &Policy, has_other: bool, rng: &mut Rng) -> Option<Next> {
        let again = self.once.entry(error.class).or_default();
        *again += 1;
        // A clock that ran out on content, or an answer gone wrong, is tried once more, not thrice.
        let often = match error.class {
            Class::ServerError | Class::Connection => true,
            Class::Timeout => error.code.as_deref() == Some("connect"),
            // The line may be bad, not the model: another one goes first, if there is one.
            Class::Cut | Class::BadData => !has_other,
            _ => false,
        };
        let makes_sense = often || *again <= 1;
        let patience = if has_other { policy.wait_for_limit } else { policy.wait_for_only };
        let too_long = error.retry_after.is_some_and(|asked| asked > patience);
        let after = self.attempt(error, policy, rng)?;
        let vary = matches!(error.class, Class::Degenerate | Class::EmptyResponse | Class::Cut);
        (makes_sense && !too_long).then_some(Next::Retry { after, vary })
    }

    /// A wait for a server that is away or loading, as long as the policy has patience. It uses no attempt.
    fn wait_for_server(&mut self, error: &CallError, policy: &Policy, now: Duration) -> Option<Next> {
        let waited = now.saturating_sub(*self.waiting_since.get_or_insert(now));
        if waited >= policy.wait_for_server {
            return None;
        }
        let left = policy.wait_for_server - waited;
        // Whether one that cannot be reached is there again, its health tells; nothing is
        // tried meanwhile. One that answers, if only that it is loading, is asked now and then.
        let look = match error.status {
            None => left,
            Some(_) => doubled(policy.base.max(LOOK_FIRST), self.waits, LOOK_AGAIN),
        };
        self.waits += 1;
        let asked = error.retry_after.unwrap_or_default();
        let pause = look.max(asked).min(left.max(Duration::from_millis(1)));
        Some(Next::Wait { r#for: pause, outage: true, left })
    }

    /// A wait for a server that says "slow down", as long as the policy has patience. It uses no attempt. Else whether
    /// nobody has the patience, whatever other models there are.
    fn wait_for_limit(
        &mut self,
        error: &CallError,
        policy: &Policy,
        has_other: bool,
        now: Duration,
        rng: &mut Rng,
    ) -> Result<Next, bool> {
        let waited = now.saturating_sub(*self.waiting_since.get_or_insert(now));
        // Waits are not counted, so they must not come thick however short the pauses are set.
        let (base, max) = (policy.base.max(LOOK_FIRST), policy.max.max(LIMIT_MOST));
        let pause = doubled(base, self.waits, max);
        self.waits = self.waits.saturating_add(1);
        let is_limit = error.class == Class::RateLimit;
        if let Some(asked) = error.retry_after.filter(|asked| is_limit && is_long(*asked)) {
            let patient = !has_other || waited + asked <= policy.wait_for_limit;
            return if patient { Ok(Next::Park { r#for: asked }) } else { Err(false) };
        }
        // A little more than asked, not all at the same moment.
        let wait = match error.retry_after.filter(|asked| !asked.is_zero()) {
            None => pause.mul_f64(0.5 + 0.5 * rng.unit()),
            Some(asked) => asked.mul_f64(1.0 + 0.1 * rng.unit()),
        };
        let bound = if has_other { policy.wait_for_limit } else { policy.wait_for_only };
        match waited + wait {
            all if all <= bound => Ok(Next::Wait { r#for: wait, outage: false, left: bound - waited }),
            all => Err(all > policy.wait_for_only),
        }
    }
}

impl Budgets {
    /// Decides, and counts what the decision uses. `now` is a time since any epoch that stays the same
    /// while the budgets live; `models` are the task's, in order of fallback.
    pub fn next(
        &mut self,
        failed: &Failed<'_>,
        models: &[ModelFacts<'_>],
        now: Duration,
        rng: &mut Rng,
    ) -> Next {
        let error = failed.error;
        let Some(model) = models.get(failed.model) else { return Next::GiveUp { endpoint_closed: false } };
        let policy = &model.policy;
        let other = self.other(failed, models, |_| true);
        let used = self.endpoints.entry(model.name.to_owned()).or_default();
        if error.class != Class::RateLimit && !failed.is_outage() && !failed.is_overload() {
            used.waiting_since = None;
            used.waits = 0;
        }
        match error.class {
            _ if error.adapted => Next::Adapted,

            // The server knows better than its status: its own client obeys these two. That does not wait for resets.
            Class::RateLimit | Class::ServerError
                if error.should_retry == Some(false) && !names_reset(error) =>
            {
                self.leave(failed, models, other, false)
            }
            Class::BadRequest if error.should_retry == Some(true) => {
                let again = used.attempt(error, policy, rng).map(|after| Next::Retry { after, vary: false });
                again.unwrap_or_else(|| self.leave(failed, models, other, false))
            }

            Class::Cancelled => Next::GiveUp { endpoint_closed: false },

            _ if failed.is_outage() => {
                let wait = used.wait_for_server(error, policy, now);
                // The others need not wait as long each: it is closed to all until it is found up.
                wait.unwrap_or_else(|| self.leave(failed, models, other, true))
            }
            Class::RateLimit => {
                let wait = used.wait_for_limit(error, policy, other.is_some(), now, rng);
                // The others need not wait as long each, as with a server that is away.
                wait.unwrap_or_else(|in_vain| self.leave(failed, models, other, in_vain))
            }

            Class::ServerLoading
            | Class::ServerError
            | Class::Connection
            | Class::Timeout
            | Class::Cut
            | Class::EmptyResponse
            | Class::Degenerate
            | Class::BadData => {
                if error.code.as_deref() == Some("task") {
                    return Next::GiveUp { endpoint_closed: false };
                }
                let mut again = used.retry(error, policy, other.is_some(), rng);
                // Nothing else can be asked: what would fail here in seconds may be answered in an hour.
                if again.is_none() && other.is_none() && failed.is_overload() {
                    again = used.wait_for_limit(error, policy, false, now, rng).ok();
                }
                again.unwrap_or_else(|| self.leave(failed, models, other, false))
            }

            Class::Validation => {
                if used.reasks < policy.max_validation_retries {
                    used.reasks += 1;
                    return Next::Reask { max_tokens: None };
                }
                self.leave(failed, models, other, false)
            }

            Class::Truncated => {
                if used.longer < LONGER_ASKS
                    && let Some(room) = more_room(failed, model)
                {
                    used.longer += 1;
                    used.room = Some(room);
                    return Next::Reask { max_tokens: Some(room) };
                }
                self.larger(failed, models).unwrap_or_else(|| self.leave(failed, models, other, false))
            }

            Class::ContextOverflow | Class::PromptTruncated => {
                let larger = self.larger(failed, models);
                larger.unwrap_or(Next::GiveUp { endpoint_closed: false })
            }

            Class::Refusal | Class::BadRequest | Class::NotRecorded => {
                self.leave(failed, models, other, false)
            }

            Class::Auth | Class::Quota | Class::ModelNotFound | Class::Config => {
                self.leave(failed, models, other, true)
            }
        }
    }

    /// The model to begin with: the first that is neither closed nor left. None if there is none.
    pub fn first(&self, models: &[ModelFacts<'_>]) -> Option<usize> {
        models.iter().position(|model| !model.closed && !self.has_left(model.name))
    }

    /// Begins waits anew: time that passed while no build ran was not waited.
    pub fn resumed(&mut self) {
        for used in self.endpoints.values_mut() {
            used.waiting_since = None;
        }
    }

    /// The `max_tokens` that a cut answer was last asked for with, if one was.
    pub fn room(&self) -> Option<u64> {
        self.endpoints.values().filter_map(|used| used.room).max()
    }

    /// Answers of an endpoint that were rejected and asked for again.
    pub fn reasks(&self, endpoint: &str) -> u32 {
        self.endpoints.get(endpoint).map_or(0, |used| used.reasks)
    }

    /// Counts an answer that was rejected by a build that was killed before it could count it.
    pub fn add_reask(&mut self, endpoint: &str) {
        self.endpoints.entry(endpoint.to_owned()).or_default().reasks += 1;
    }

    /// Whether a model was left for another.
    pub fn has_left(&self, name: &str) -> bool {
        self.endpoints.get(name).is_some_and(|used| used.left)
    }

    /// The next model that is open, was not left, is not this one, could hold the prompt, and fits.
    fn other(
        &self,
        failed: &Failed<'_>,
        models: &[ModelFacts<'_>],
        fits: impl Fn(&ModelFacts<'_>) -> bool,
    ) -> Option<usize> {
        (0..models.len()).find(|index| {
            let model = &models[*index];
            *index != failed.model
                && !model.closed
                && !self.has_left(model.name)
                && model.context_window.is_none_or(|window| window > failed.prompt_tokens)
                && fits(model)
        })
    }

    fn leave(
        &mut self,
        failed: &Failed<'_>,
        models: &[ModelFacts<'_>],
        other: Option<usize>,
        endpoint_closed: bool,
    ) -> Next {
        self.mark_left(failed, models);
        // Left alone for longer than anybody waits: no other task waits for it either.
        let patience = models[failed.model].policy.wait_for_only;
        // A limit parks it for all, without closing it.
        let alone = failed.error.class != Class::RateLimit;
        let endpoint_closed =
            endpoint_closed || alone && failed.error.retry_after.is_some_and(|asked| asked > patience);
        match other {
            Some(model_index) => Next::Fallback { model_index, endpoint_closed },
            None => Next::GiveUp { endpoint_closed },
        }
    }

    fn larger(&mut self, failed: &Failed<'_>, models: &[ModelFacts<'_>]) -> Option<Next> {
        let has = models[failed.model].context_window.unwrap_or(0);
        // One whose context nobody knows may be larger.
        let model_index =
            self.other(failed, models, |model| model.context_window.is_none_or(|window| window > has))?;
        self.mark_left(failed, models);
        Some(Next::LargerContext { model_index })
    }

    fn mark_left(&mut self, failed: &Failed<'_>, models: &[ModelFacts<'_>]) {
        self.endpoints.entry(models[failed.model].name.to_owned()).or_default().left = true;
    }
}

/// Whether a limit names a reset that is waited for.
fn names_reset(error: &CallError) -> bool {
    error.class == Class::RateLimit && error.retry_after.is_some_and(is_long)
}

/// `base` doubled `times`, at most `max`.
fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    base.saturating_mul(2u32.saturating_pow(times.min(30))).min(max)
}

/// A `max_tokens` with room for an answer that was cut: twice what it had, within what the model may
/// answer and its context can hold. None if that is not more.
fn more_room(failed: &Failed<'_>, model: &ModelFacts<'_>) -> Option<u64> {
    let had = failed.max_tokens.unwrap_or(0).max(failed.error.usage.output_tokens);
    let context = model.context_window.map(|window| window.saturating_sub(failed.prompt_tokens));
    let most = match (model.max_output, context) {
        (Some(output), Some(context)) => output.min(context),
        (Some(most), None) | (None, Some(most)) => most,
        // Nobody knows a bound: one doubling is worth a try, if there is something to double.
        (None, None) if had > 0 => had.saturating_mul(2),
        (None, None) => return None,
    };
    let room = if had == 0 { most } else { had.saturating_mul(2).min(most) };
    // A tenth more would only be cut again.
    (room > had + had / 10).then_some(room)
}

#[cfg(test)]
mod tests;
