//! Models whose usage limit is not over: no task asks them until their reset, then one call finds out. They are kept on
//! disk, so that the next build knows them too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::{Build, Stopped};
use crate::runner::providers::id_of;
use planexe_base::cancel::Level;
use planexe_base::clock;
use planexe_base::event::Kind;
use planexe_base::limits::is_long;
use planexe_base::message::Message;
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

/// A call that a limit refused.
pub(super) struct Refused {
    pub(super) endpoint: usize,
    /// How long its server asks to be left alone.
    pub(super) asked: Option<Duration>,
    /// What its server said.
    pub(super) why: Message,
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
    /// What earlier builds noted. One call finds out at once with `--before-reset`, and where the reset is over by now;
    /// what is answered is noted no more.
    pub(super) fn take_up_parked(&mut self) {
        let doubted = self.wanted.before_reset;
        for noted in self.ctx.store.read_all_parked() {
            let is_it = |endpoint: &Endpoint| endpoint.name == noted.model && id_of(endpoint) == noted.id;
            let Some(endpoint) = self.project.endpoints.iter().position(is_it) else {
                self.others_parked.push(noted);
                continue;
            };
            let left = noted.left().unwrap_or_default();
            let Some(until) = SystemTime::now().checked_add(left) else { continue };
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

    /// A call ended: one that a limit refused may have parked its endpoint, one that was answered has ended that.
    pub(super) fn look_at_parked(&mut self, refused: Option<Refused>) {
        let over: Vec<usize> =
            self.parked.0.keys().copied().filter(|at| !self.engine.is_parked(*at)).collect();
        for endpoint in over {
            self.parked.0.remove(&endpoint);
            self.note_parked();
            self.tell(Kind::ModelResumed { model: self.project.endpoints[endpoint].name.clone() });
        }
        if let Some(refused) = refused {
            self.park(refused);
        }
    }

    /// The engine decides whether a refusal parks; it is noted and told here.
    fn park(&mut self, refused: Refused) {
        let Refused { endpoint, asked, why } = refused;
        let now = self.now();
        let Some(mut wait) = self.engine.parked_until(endpoint, now).map(|at| at.saturating_sub(now)) else {
            return;
        };
        let before = self.parked.0.get(&endpoint);
        let known = before.filter(|before| before.doubted && !asked.is_some_and(is_long));
        if let Some(left) = known.map(Park::left).filter(|left| *left > wait) {
            // It was asked before its reset, and no other was named.
            wait = left;
            self.engine.on(Input::Parked(endpoint, now + left), now);
        }
        let Some(until) = SystemTime::now().checked_add(wait) else { return };
        let before = self.parked.0.get(&endpoint);
        if before.is_some_and(|before| !before.is_over() && until <= before.until + SAME) {
            return;
        }
        // Who is asked once a minute, as it names no reset, was told at first.
        let is_told = before.is_some_and(|before| !before.doubted && wait <= SAME);
        let since = before.map_or_else(Instant::now, |before| before.since);
        let (seen_utc, why) = (clock::now_utc(), why.text);
        let park = Park { until, seen_utc, since, why: why.clone(), told: is_told, doubted: false };
        self.parked.0.insert(endpoint, park);
        self.note_parked();
        if !is_told {
            let model = self.project.endpoints[endpoint].name.clone();
            self.tell(Kind::ModelParked { model, until_utc: clock::format_utc(until), message: why });
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
        // Those of another profile, or of a pipeline that was edited, are none of this build's; they stay until their reset.
        let others = self.others_parked.iter().filter(|other| other.left().is_some()).cloned();
        if let Err(error) = self.ctx.store.write_parked(noted.chain(others).collect()) {
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
