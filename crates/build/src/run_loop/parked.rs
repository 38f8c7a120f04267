//! Models whose usage limit is not over: no task asks them until their reset, then one call finds out. They are kept on
//! disk, so that the next build knows them too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::{Build, Stopped};
use crate::runner::Job;
use crate::runner::providers::id_of;
use planexe_base::cancel::Level;
use planexe_base::clock;
use planexe_base::event::Kind;
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_engine::graph::TaskId;
use planexe_engine::scheduler::Event as Input;
use planexe_llm::retry::Policy;
use planexe_pipeline::project::Endpoint;
use planexe_store::parked::ParkedModel;

/// A reset that is put off by less was told already.
const SAME: Duration = Duration::from_secs(60);

/// Models that take no calls until a time, by endpoint.
#[derive(Default)]
pub(super) struct Parked(BTreeMap<usize, Park>);

struct Park {
    /// By the clock of the wall: a computer that sleeps gets there too.
    until: SystemTime,
    seen_utc: String,
    /// Since when this build waits for it.
    since: Instant,
    why: String,
    /// It was said that it is waited for.
    told: bool,
    /// Somebody wants to know now whether it is over (`--before-reset`).
    doubted: bool,
}

impl Park {
    fn is_over(&self) -> bool {
        self.doubted || SystemTime::now() >= self.until
    }

    fn left(&self) -> Duration {
        self.until.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

/// A moment to the second, for people.
pub(super) fn shown(at: SystemTime) -> String {
    let utc = clock::format_utc(at);
    format!("{} UTC", utc.get(..19).unwrap_or(&utc).replace('T', " "))
}

impl Build<'_> {
    /// What earlier builds noted. With `--before-reset` one call finds out at once; what is answered is noted no more.
    pub(super) fn take_up_parked(&mut self) {
        let doubted = self.wanted.before_reset;
        for noted in self.ctx.store.read_parked() {
            let is_it = |endpoint: &Endpoint| endpoint.name == noted.model && id_of(endpoint) == noted.id;
            let endpoint = self.project.endpoints.iter().position(is_it);
            let (Some(endpoint), Some(left), Some(until)) = (endpoint, noted.left(), noted.until()) else {
                continue;
            };
            let park = Park {
                until,
                seen_utc: noted.seen_utc,
                since: Instant::now(),
                why: noted.message,
                told: false,
                doubted,
            };
            self.parked.0.insert(endpoint, park);
            self.engine.on(Input::Parked(endpoint, self.now() + left), self.now());
            if doubted {
                self.engine.on(Input::LimitOver(endpoint), self.now());
            }
        }
    }

    /// A call was refused until a time.
    pub(super) fn park(&mut self, job: &Job, failure: &Failure, wait: Duration) {
        let own = || self.project.spec(&job.task).recipe.calls().map(|calls| calls.endpoint);
        let Some(endpoint) = self.endpoint_of(job).or_else(own) else { return };
        self.park_endpoint(endpoint, failure.message.clone(), wait);
    }

    /// The same of an endpoint that any call found refused. `why`: what its server said.
    pub(super) fn park_endpoint(&mut self, endpoint: usize, why: Message, wait: Duration) {
        let Some(until) = SystemTime::now().checked_add(wait) else { return };
        let before = self.parked.0.get(&endpoint);
        let since = before.map_or_else(Instant::now, |before| before.since);
        let is_news = before.is_none_or(|before| before.doubted || until > before.until + SAME);
        let why = why.text;
        if is_news {
            let model = self.project.endpoints[endpoint].name.clone();
            let until_utc = clock::format_utc(until);
            let (seen_utc, why_it) = (clock::now_utc(), why.clone());
            let park = Park { until, seen_utc, since, why: why_it, told: false, doubted: false };
            self.parked.0.insert(endpoint, park);
            self.note_parked();
            self.tell(Kind::ModelParked { model, until_utc, message: why });
        }
    }

    /// A call was answered: perhaps one of a parked model.
    pub(super) fn look_at_parked(&mut self) {
        let over: Vec<usize> =
            self.parked.0.keys().copied().filter(|at| !self.engine.is_parked(*at)).collect();
        for endpoint in over {
            self.parked.0.remove(&endpoint);
            self.note_parked();
            self.tell(Kind::ModelResumed { model: self.project.endpoints[endpoint].name.clone() });
        }
    }

    fn note_parked(&mut self) {
        let noted = self.parked.0.iter().map(|(at, park)| {
            let endpoint = &self.project.endpoints[*at];
            ParkedModel {
                model: endpoint.name.clone(),
                id: id_of(endpoint),
                until_utc: clock::format_utc(park.until),
                seen_utc: park.seen_utc.clone(),
                message: park.why.clone(),
            }
        });
        if let Err(error) = self.ctx.store.write_parked(noted.collect()) {
            self.break_off(error);
        }
    }

    /// Resets that the clock of the wall has reached before the build's own, which stands while the computer sleeps.
    pub(super) fn look_for_resets(&mut self) {
        let over: Vec<usize> =
            self.parked.0.iter().filter(|(_, park)| park.is_over()).map(|(at, _)| *at).collect();
        for endpoint in over {
            self.engine.on(Input::LimitOver(endpoint), self.now());
        }
    }

    /// Ends the build where all that is left waits for a reset that is further away than anybody has patience for.
    pub(super) fn look_for_patience(&mut self) {
        let holds = self.parked.0.is_empty()
            || self.steering.stopped().is_some()
            || self.steering.is_paused()
            || !self.engine.is_idle();
        if holds {
            return;
        }
        let queued = self.engine.queued();
        if queued.is_empty() || queued.iter().any(|(id, _)| self.parked_for(*id).is_none()) {
            return;
        }
        if queued.iter().any(|(id, _)| self.is_patient(*id)) {
            return self.tell_wait();
        }
        self.stop(Stopped::UsageLimit, Level::Draining);
    }

    /// What a task waits for, if that is a reset.
    fn parked_for(&self, id: TaskId) -> Option<&Park> {
        self.parked.0.get(&self.engine.asks(id)?).filter(|park| !park.is_over())
    }

    /// Whether a task waits for its model's reset in this build.
    fn is_patient(&self, id: TaskId) -> bool {
        let (Some(at), Some(park)) = (self.engine.asks(id), self.parked_for(id)) else { return true };
        let spec = self.project.spec(&self.engine.graph()[id]);
        let model = &self.project.endpoints[at].model;
        let policy = Policy::of(model.retry.as_ref(), spec.retry.as_deref(), None);
        self.wanted.at_reset || park.since.elapsed().saturating_add(park.left()) <= policy.wait_for_only
    }

    /// Says once what is waited for.
    fn tell_wait(&mut self) {
        let mut said = Vec::new();
        for (at, park) in self.parked.0.iter_mut().filter(|(_, park)| !park.told) {
            park.told = true;
            let left = style::duration(park.left().as_secs_f64());
            let name = &self.project.endpoints[*at].name;
            said.push(format!(
                "waiting for the usage limit of `{name}`: until {}, {left}",
                shown(park.until)
            ));
        }
        for message in said {
            self.ctx.note(None, false, message);
        }
    }

    /// What a task is held by, if its model is parked.
    pub(super) fn held_by_limit(&self, id: TaskId) -> Option<String> {
        let park = self.parked.0.get(&self.engine.asks(id)?)?;
        Some(match park.is_over() {
            true => "held until one call has found its model's usage limit over".to_owned(),
            false => format!("held by its model's usage limit until {}", shown(park.until)),
        })
    }

    /// What the build waits for, if all that is left waits for a reset: the models, and the first reset.
    pub(super) fn parked_text(&self) -> Option<String> {
        let first = self.parked.0.values().map(|park| park.until).min()?;
        let names: Vec<String> =
            self.parked.0.keys().map(|at| format!("`{}`", self.project.endpoints[*at].name)).collect();
        Some(format!("waiting for the usage limit of {} until {}", names.join(", "), shown(first)))
    }
}
