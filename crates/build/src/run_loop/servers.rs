//! Servers that are away: their health is asked for until they are found up, and what waits for them goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Build;
use super::inbox::WorkerMessage;
use crate::runner::Job;
use planexe_base::cancel::Level;
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::Event as Input;
use planexe_llm::keys::Site;
use planexe_llm::{Class, Health, Provider, Usage, base_url};
use planexe_pipeline::manifest::types::Api;
use planexe_pipeline::project::Endpoint;

/// Between two looks at a server.
const LOOK: Duration = Duration::from_secs(1);
/// Before the first look, doubled each time that a server was found up and yet took no call.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// Longest time before the first look.
const LONGEST: Duration = Duration::from_secs(30);

/// What a build knows of its servers beside what the engine knows.
#[derive(Default)]
pub(super) struct Servers {
    /// Those that are away, by endpoint.
    awaited: HashMap<usize, Awaited>,
    /// Endpoints that break their calls, once that was said.
    failing: HashSet<usize>,
    /// Endpoints whose cost nobody knows, once that was said.
    uncounted: HashSet<usize>,
    /// Held while the build lives: who looks at servers for it ends with it.
    alive: Arc<()>,
}

impl Servers {
    /// Whether any is away.
    pub(super) fn are_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// A server is away. The pause before it is looked at, unless somebody looks already.
    fn away(&mut self, endpoint: usize, why: &str) -> Option<Duration> {
        let awaited = self.awaited.entry(endpoint).or_insert_with(|| Awaited {
            since: Instant::now(),
            why: String::new(),
            in_vain: 0,
            looked_at: false,
        });
        why.clone_into(&mut awaited.why);
        let looked_at = std::mem::replace(&mut awaited.looked_at, true);
        (!looked_at).then(|| FIRST_LOOK.saturating_mul(1 << awaited.in_vain.min(10)).min(LONGEST))
    }

    /// A server was found up. Whether it takes calls is known once it has answered one.
    fn found_up(&mut self, endpoint: usize) {
        if let Some(awaited) = self.awaited.get_mut(&endpoint) {
            awaited.looked_at = false;
            awaited.in_vain += 1;
        }
    }
}

/// A server that is waited for.
struct Awaited {
    since: Instant,
    /// In a few words, for a progress line.
    why: String,
    /// How often it was found up, and took no call all the same.
    in_vain: u32,
    /// Whether somebody looks.
    looked_at: bool,
}

/// What serves a model of this machine, by its interface and port.
fn what_to_start(endpoint: &Endpoint) -> Option<String> {
    let url = base_url(&endpoint.model);
    let port = Site::of(url).ok().filter(Site::is_loopback)?.port;
    Some(match (endpoint.model.api, port) {
        (Some(Api::Ollama), _) | (_, 11434) => "start it with `ollama serve`".to_owned(),
        (_, 1234) => "start it with `lms server start`, or in LM Studio".to_owned(),
        (_, 8080) => "start it, with llama.cpp `llama-server --port 8080 -m MODEL`".to_owned(),
        (_, 8000) => format!("start it, with vLLM `vllm serve {}`", style::shell_word(endpoint.model_name())),
        _ => format!("start the program that serves `{}`, or mend `base_url`", endpoint.model_name()),
    })
}

/// How often a server is looked at.
struct Rhythm {
    /// The pause before the first look.
    first: Duration,
    /// The pause before each later one.
    again: Duration,
    /// The end of it.
    at_most: Option<Duration>,
}

impl Build<'_> {
    /// Has the health of a job's server looked at until it is up.
    /// Of one at whose address nothing listens it is told at once what to start, and how long it is waited for.
    pub(super) fn await_server(&mut self, job: &Job, failure: &Failure, left: Duration, is_silent: bool) {
        let Some(endpoint) = self.endpoint_of(job) else { return };
        let why = &failure.message.text;
        if !self.servers.awaited.contains_key(&endpoint) {
            let table = &self.project.endpoints[endpoint];
            let (name, time) = (&table.name, style::duration(left.as_secs_f64()));
            if let Some(start) = what_to_start(table).filter(|_| is_silent) {
                let message = format!(
                    "{why}: {start}. It is waited for, {time} at most (`retry.wait` under [models.{name}])"
                );
                self.ctx.note(None, true, message);
            }
        }
        let Some(first) = self.servers.away(endpoint, why) else { return };
        // Where it does not tell, the pauses of the policy decide when it is asked again.
        let is_up = |provider: &dyn Provider| match provider.health() {
            Health::Up => Some(true),
            Health::Loading(_) | Health::Away(_) => Some(false),
            Health::Unknown => None,
        };
        let rhythm = Rhythm { first, again: LOOK, at_most: None };
        self.look_at(endpoint, rhythm, is_up, WorkerMessage::ServerUp);
    }

    /// Has a server that ran out of time looked at until it is idle, for so long at most: where it does not
    /// tell, the rest ends by the clock alone.
    pub(super) fn await_idle(&mut self, job: &Job, rest: Duration) {
        let Some(endpoint) = self.endpoint_of(job) else { return };
        let pause = FIRST_LOOK.min(rest);
        let is_idle = |provider: &dyn Provider| provider.is_busy().map(|busy| !busy);
        let rhythm = Rhythm { first: pause, again: pause, at_most: Some(rest) };
        self.look_at(endpoint, rhythm, is_idle, WorkerMessage::ServerIdle);
    }

    /// Looks at a server from a thread until what is looked for is found or the time is over, and tells the build;
    /// says nothing once the server does not tell, or the build is over. Without a thread nobody looks.
    fn look_at(
        &self,
        endpoint: usize,
        rhythm: Rhythm,
        found: impl Fn(&dyn Provider) -> Option<bool> + Send + 'static,
        tell: fn(usize) -> WorkerMessage,
    ) {
        let (ctx, alive) = (Arc::downgrade(&self.ctx), Arc::downgrade(&self.servers.alive));
        let (back, began) = (self.inbox.sender(), Instant::now());
        let look = move || {
            let mut pause = rhythm.first;
            while rhythm.at_most.is_none_or(|time| began.elapsed() < time) {
                std::thread::sleep(pause);
                pause = rhythm.again;
                let Some(ctx) = ctx.upgrade().filter(|_| alive.strong_count() > 0) else { return };
                if ctx.cancel.level() > Level::Running {
                    return;
                }
                match ctx.providers.get(endpoint).ok().and_then(&found) {
                    Some(true) => break,
                    Some(false) => {}
                    None => return,
                }
            }
            let _ = back.send(tell(endpoint));
        };
        let _ = std::thread::Builder::new().name("server".into()).stack_size(256 * 1024).spawn(look);
    }

    /// A server was found up: what waits for it goes on.
    pub(super) fn server_up(&mut self, endpoint: usize) {
        self.servers.found_up(endpoint);
        self.ctx.providers.open_again(endpoint);
        self.engine.on(Input::ServerUp(endpoint), self.now());
    }

    /// A server has answered: nobody waits for it any more.
    pub(super) fn answered(&mut self, job: &Job) {
        let Some(endpoint) = self.endpoint_of(job) else { return };
        self.servers.failing.remove(&endpoint);
        if let Some(awaited) = self.servers.awaited.remove(&endpoint) {
            let name = &self.project.endpoints[endpoint].name;
            let time = style::duration(awaited.since.elapsed().as_secs_f64());
            self.ctx.note(None, false, format!("the server of `{name}` is back after {time}"));
        }
    }

    /// What is waited for, if nothing runs.
    pub(super) fn waits_for_server(&self) -> Option<String> {
        let (endpoint, awaited) = self.servers.awaited.iter().min_by_key(|(_, awaited)| awaited.since)?;
        let name = &self.project.endpoints[*endpoint].name;
        let time = style::duration(awaited.since.elapsed().as_secs_f64());
        (self.attempts.count() == 0).then(|| format!("waiting for `{name}` for {time}: {}", awaited.why))
    }

    /// A server that lets one call after the other run out of time, or breaks them, is not tried by every task anew, where
    /// there is another model: said as it begins, and when a call that was to find out ran out of time too.
    pub(super) fn look_at_failing(&mut self, job: &Job, class: Class) {
        let Some(endpoint) = self.endpoint_of(job).filter(|at| self.engine.is_held_long(*at, self.now()))
        else {
            return;
        };
        let prompt = job.asks(self.project);
        if prompt.is_none_or(|prompt| prompt.models.len() < 2) {
            return;
        }
        let name = &self.project.endpoints[endpoint].name;
        let message = match class {
            Class::Timeout => format!(
                "`{name}` lets one call after the other run out of time: tasks that have another model ask that one for the next 15m"
            ),
            Class::ServerError | Class::Cut if self.servers.failing.insert(endpoint) => format!(
                "`{name}` breaks one call after the other: tasks that have another model ask that one, until one of the calls that try it each minute is answered"
            ),
            _ => return,
        };
        self.ctx.note(None, true, message);
    }

    /// A limit on money that cannot be counted is no limit: said once a model.
    pub(super) fn look_at_cost(&mut self, job: &Job, usage: &Usage) {
        let Some(endpoint) = self.endpoint_of(job).filter(|_| self.wanted.max_cost.is_some()) else { return };
        let table = &self.project.endpoints[endpoint];
        let served = matches!(table.model.api, Some(Api::Openai | Api::Anthropic | Api::Ollama));
        let known = table.model.price.is_some() || usage.cost_usd > 0.0;
        if served && !known && self.servers.uncounted.insert(endpoint) {
            let name = &table.name;
            let message = format!(
                "the cost of `{name}` is not known, so the limit does not hold it: set `price` under [models.{name}], 0 if it is free"
            );
            self.ctx.note(None, true, message);
        }
    }

    /// What holds a task that would start otherwise: its server is away.
    pub(super) fn held(&self, id: TaskId) -> Option<String> {
        if let Some(held) = self.held_by_limit(id) {
            return Some(held);
        }
        let endpoint = self.engine.endpoint_of(id)?;
        let awaited = self.servers.awaited.get(&endpoint)?;
        let mut asked = self
            .attempts
            .running()
            .map(|(id, _)| id)
            .filter(|id| self.engine.endpoint_of(*id) == Some(endpoint));
        Some(match asked.next() {
            // It may be up again: one call finds out.
            Some(first) => {
                format!("held until its server has answered {}", self.engine.graph()[first].name)
            }
            None => format!("held until its server answers: {}", awaited.why),
        })
    }

    pub(super) fn endpoint_of(&self, job: &Job) -> Option<usize> {
        job.asks(self.project)?.models.get(job.endpoint).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_looked_at_by_one_thread_and_ever_more_rarely() {
        let mut servers = Servers::default();
        assert_eq!(servers.away(0, "nothing listens"), Some(FIRST_LOOK));
        assert_eq!(servers.away(0, "nothing listens"), None, "somebody looks already");
        assert!(servers.are_awaited());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            servers.found_up(0);
            pauses.extend(servers.away(0, "loading"));
        }
        assert_eq!(pauses[..2], [FIRST_LOOK * 2, FIRST_LOOK * 4]);
        assert_eq!(pauses.last(), Some(&LONGEST));
    }
}
