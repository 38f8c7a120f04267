//! Calls that are made in batches: pooled, submitted together, and waited for.
//!
//! Each call has a thread that waits in `call`. Whoever waits and finds something due does it for all (`drive`): there is
//! no thread of its own. What is submitted is on disk before the first byte is sent, and a call that an earlier build
//! submitted is found again by its task and by what it asks (`Pool::join`): so nothing is submitted twice. Models of the
//! same server, name and key share their batches.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use super::BuildContext;
use super::live::Live;
use super::providers::id_of;
use planexe_base::cancel::Level;
use planexe_base::fs::FsError;
use planexe_llm::batches::{Answers, Batches as Vendor, Served};
use planexe_llm::ceiling::Reached;
use planexe_llm::config::{BATCH_SHARE, BatchTerms};
use planexe_llm::{CallContext, CallError, Class, Reply, Request, concurrency_online};
use planexe_pipeline::project::Project;
use planexe_store::CallRecord;
use planexe_store::batches::{BatchRecord, BatchedCall};

mod collect;
mod drive;
mod machine;

use drive::Driver;
use machine::Machine;

/// A waiting call looks for a stop at least so often.
const LOOK: Duration = Duration::from_secs(1);
/// How long a build that has nothing else to do waits for its batches, where nothing is said.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// The batches of a build, by endpoint.
pub struct Pooled {
    of: Vec<Arc<Pool>>,
    /// Each once, with the first of its endpoints.
    all: Vec<(usize, Arc<Pool>)>,
    /// Those who wait have waited for as long as they may.
    over: AtomicBool,
}

struct Pool {
    began: Instant,
    terms: BatchTerms,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    loaded: bool,
    /// Somebody is at work for all.
    driven: bool,
    /// Calls in no batch yet, and since when there are any.
    joined: Vec<Joined>,
    since: Option<Duration>,
    /// Nothing else can join.
    flush: bool,
    /// What is gathered is held back until the answers that are out tell what is left of the money.
    held: bool,
    batches: Vec<Batch>,
    /// What came of calls that are waited for.
    ready: HashMap<u64, Ready>,
    last: u64,
    waiting: usize,
    /// Calls that ended and are not counted yet.
    uncounted: usize,
    /// Calls that are made one by one, until they are counted.
    online: u32,
}

struct Joined {
    ticket: u64,
    call: BatchedCall,
    body: Value,
    /// What it may cost, USD.
    cost: f64,
}

struct Batch {
    record: BatchRecord,
    machine: Machine,
    answers: Option<Answers>,
    /// Calls that need it no longer.
    taken: HashSet<String>,
    /// Who waits, by the id of the call.
    asked: HashMap<String, u64>,
    /// What is to be submitted; none of a batch that an earlier build made.
    lines: Vec<(String, Value)>,
    cost: f64,
    /// Its submission was told.
    told: bool,
    /// Why a person must see to it.
    stuck: Option<String>,
    /// In words, for those who wait.
    text: Arc<str>,
}

/// What came of a call.
enum Ready {
    /// By its batch; the batch's key and the call's id.
    Served(Origin, Served),
    /// It is to join the next batch.
    Again,
    /// No batch took it.
    Failed(CallError),
}

/// The call of a batch that an answer is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    endpoint: usize,
    key: String,
    id: String,
}

/// What a call came to.
pub struct Called {
    /// Its answer.
    pub reply: Result<Reply, CallError>,
    /// The call of a batch that is over with it.
    pub origin: Option<Origin>,
    /// It was made by itself, and keeps its place until it is counted.
    pub online: bool,
}

impl Called {
    /// One that is over with no call of a batch.
    pub fn alone(reply: Result<Reply, CallError>) -> Called {
        Called { reply, origin: None, online: false }
    }
}

impl Pooled {
    /// None is known yet.
    pub fn new(project: &Project) -> Pooled {
        let mut known: BTreeMap<String, Arc<Pool>> = BTreeMap::new();
        let (mut of, mut all) = (Vec::new(), Vec::new());
        for (at, endpoint) in project.endpoints.iter().enumerate() {
            let pool = known.entry(id_of(endpoint)).or_insert_with(|| {
                let pool = Arc::new(Pool {
                    began: Instant::now(),
                    terms: endpoint.model.batch.unwrap_or_default(),
                    state: Mutex::default(),
                    changed: Condvar::new(),
                });
                all.push((at, Arc::clone(&pool)));
                pool
            });
            of.push(Arc::clone(pool));
        }
        Pooled { of, all, over: AtomicBool::new(false) }
    }

    /// How many calls wait for batches.
    pub fn waiting(&self) -> usize {
        self.all.iter().map(|(_, pool)| pool.state.lock().waiting).sum()
    }

    /// Nothing else can join: what is gathered is submitted.
    pub fn flush(&self) {
        for (_, pool) in &self.all {
            let mut state = pool.state.lock();
            if !state.joined.is_empty() && !state.flush {
                state.flush = true;
                pool.changed.notify_all();
            }
        }
    }

    /// Whether all that is waited for is with its vendors, or waits for a person; how long that is waited for at most.
    pub fn patience(&self) -> Option<Duration> {
        let mut patience = Duration::ZERO;
        for (_, pool) in &self.all {
            let state = pool.state.lock();
            let asked = || state.batches.iter().filter(|batch| !batch.asked.is_empty());
            let known = asked().all(|batch| batch.machine.is_seen() || batch.stuck.is_some());
            let held = if state.held { state.joined.len() } else { 0 };
            if !known || state.waiting != held + asked().map(|batch| batch.asked.len()).sum::<usize>() {
                return None;
            }
            if asked().any(|batch| batch.stuck.is_none()) {
                patience = patience.max(pool.terms.wait.map_or(PATIENCE, |span| span.0));
            }
        }
        Some(patience)
    }

    /// Whether all that is waited for waits for a person.
    pub fn is_stuck(&self) -> bool {
        self.all.iter().all(|(_, pool)| {
            let state = pool.state.lock();
            state.batches.iter().all(|batch| batch.asked.is_empty() || batch.stuck.is_some())
        })
    }

    /// Whether calls wait for their batches at this level. The limit of calls lets those that began come to their end, as
    /// it does with any other call, until they have waited for as long as they may.
    fn waits(&self, ctx: &BuildContext, level: Level) -> bool {
        match level {
            Level::Running => true,
            Level::Draining => {
                ctx.providers.ceiling.refused() == Some(Reached::Calls) && !self.over.load(Ordering::SeqCst)
            }
            Level::Killing => false,
        }
    }

    /// They have waited for as long as they may.
    pub fn leave(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The build stops: those who wait look up.
    pub fn wake(&self) {
        for (_, pool) in &self.all {
            pool.changed.notify_all();
        }
    }
}

/// Makes a call in a batch, and waits for it.
pub(super) fn call(
    ctx: &BuildContext,
    endpoint: usize,
    request: &Request,
    record: &CallRecord,
    live: &Live,
    context: &CallContext<'_>,
) -> Result<Called, FsError> {
    let pool = &*ctx.pooled.of[endpoint];
    let failed = |error| {
        pool.state.lock().uncounted += 1;
        Ok(Called::alone(Err(error)))
    };
    let provider = match ctx.providers.get(endpoint) {
        Ok(provider) => provider,
        Err(error) => return failed(error),
    };
    let Some(vendor) = provider.batches() else {
        return failed(CallError::new(Class::Config, "its server has no batches"));
    };
    let began = Instant::now();
    let called = loop {
        let body = match vendor.line(request) {
            Ok(body) => body,
            Err(error) => return failed(error),
        };
        let ticket = pool.join(ctx, endpoint, vendor, request, record, body)?;
        match pool.wait(ctx, endpoint, vendor, ticket, live)? {
            None => break Called::alone(Err(CallError::new(Class::Cancelled, "left in its batch"))),
            Some(Ready::Again) => {}
            Some(Ready::Failed(error)) => break Called::alone(Err(error)),
            Some(Ready::Served(origin, served)) => match served {
                Served::Answer(status, body) => match vendor.read(request, status, &body) {
                    // What failed on the server's side may pass by itself.
                    Err(error) if error.class == Class::ServerError => {
                        break pool.online(ctx, endpoint, request, live, context, origin);
                    }
                    reply => break Called { reply, origin: Some(origin), online: false },
                },
                Served::Expired => break pool.online(ctx, endpoint, request, live, context, origin),
                Served::Canceled => {
                    taken(ctx, &origin)?;
                    counted(ctx, endpoint, false);
                }
            },
        }
    };
    live.in_batch(None);
    live.waited(began.elapsed());
    Ok(called)
}

/// What a call that [`call`] made used is counted, whatever came of it. `online`: it was made by itself.
pub(super) fn counted(ctx: &BuildContext, endpoint: usize, online: bool) {
    let pool = &ctx.pooled.of[endpoint];
    let mut state = pool.state.lock();
    state.uncounted = state.uncounted.saturating_sub(1);
    state.online -= u32::from(online);
    pool.changed.notify_all();
}

/// The answer of a call is kept, or is no use: a batch of which all are taken is forgotten.
pub(super) fn taken(ctx: &BuildContext, origin: &Origin) -> Result<(), FsError> {
    let mut state = ctx.pooled.of[origin.endpoint].state.lock();
    let Some(at) = state.batches.iter().position(|batch| batch.record.key == origin.key) else {
        return Ok(());
    };
    let batch = &mut state.batches[at];
    batch.taken.insert(origin.id.clone());
    let all = batch.record.calls.iter().all(|call| batch.taken.contains(&call.id));
    if all {
        state.batches.swap_remove(at);
    }
    drop(state);
    if !all {
        ctx.store.take_batched(&origin.key, &origin.id)?;
        // Whoever took the last one may have removed the files while this one was being written.
        let state = ctx.pooled.of[origin.endpoint].state.lock();
        if state.batches.iter().any(|batch| batch.record.key == origin.key) {
            return Ok(());
        }
    }
    ctx.store.remove_batch(&origin.key)
}

/// Whether two calls ask the same: what a server is asked with (how many tokens, which seed) may differ between builds.
fn asks_the_same(kept: &CallRecord, wanted: &CallRecord) -> bool {
    kept.task == wanted.task
        && kept.digest == wanted.digest
        && kept.evaluation == wanted.evaluation
        && kept.request.system == wanted.request.system
        && kept.request.prompt == wanted.request.prompt
        && kept.request.rejected == wanted.request.rejected
}

/// USD that a call in a batch may cost.
fn cost_of(ctx: &BuildContext, endpoint: usize, vendor: &dyn Vendor, request: &Request) -> f64 {
    let price = ctx.project.endpoints[endpoint].model.price;
    let answer = request.params.get("max_tokens").and_then(Value::as_u64).unwrap_or(1000);
    price.map_or(0.0, |price| price.uncached(vendor.tokens(request), answer) * BATCH_SHARE)
}

impl Pool {
    /// Joins the next batch, or finds the call in one that an earlier build submitted.
    fn join(
        &self,
        ctx: &BuildContext,
        endpoint: usize,
        vendor: &dyn Vendor,
        request: &Request,
        record: &CallRecord,
        body: Value,
    ) -> Result<u64, FsError> {
        let mut state = self.state.lock();
        self.load(ctx, endpoint, &mut state)?;
        state.last += 1;
        state.waiting += 1;
        let ticket = state.last;
        for batch in &mut state.batches {
            let (asked, taken) = (&batch.asked, &batch.taken);
            let is_it = |call: &&BatchedCall| {
                !taken.contains(&call.id)
                    && !asked.contains_key(&call.id)
                    && asks_the_same(&call.record, record)
            };
            let Some(call) = batch.record.calls.iter().find(is_it) else { continue };
            // A kill between the keeping of an answer and the note of it.
            let answer = batch.answers.as_ref().and_then(|answers| answers.get(&call.id));
            if let Some(id) = answer.and_then(Served::id)
                && ctx.store.calls().list(&record.task)?.iter().any(|kept| {
                    kept.record.reply.as_ref().is_some_and(|reply| reply.id.as_deref() == Some(id))
                })
            {
                batch.taken.insert(call.id.clone());
                continue;
            }
            batch.asked.insert(call.id.clone(), ticket);
            let key = batch.record.key.clone();
            drive::distribute(&mut state, endpoint, &key);
            return Ok(ticket);
        }
        let cost = cost_of(ctx, endpoint, vendor, request);
        let call = BatchedCall { id: String::new(), record: record.clone() };
        state.since.get_or_insert(self.began.elapsed());
        state.joined.push(Joined { ticket, call, body, cost });
        Ok(ticket)
    }

    /// Waits until there is something; none if the build stops, or the attempt is ended.
    fn wait(
        &self,
        ctx: &BuildContext,
        endpoint: usize,
        vendor: &dyn Vendor,
        ticket: u64,
        live: &Live,
    ) -> Result<Option<Ready>, FsError> {
        let mut state = self.state.lock();
        loop {
            if let Some(ready) = state.ready.remove(&ticket) {
                state.waiting -= 1;
                state.uncounted += usize::from(!matches!(ready, Ready::Again));
                return Ok(Some(ready));
            }
            if !ctx.pooled.waits(ctx, live.cancel.level()) {
                state.waiting -= 1;
                state.uncounted += 1;
                state.joined.retain(|joined| joined.ticket != ticket);
                for batch in &mut state.batches {
                    batch.asked.retain(|_, asked| *asked != ticket);
                }
                return Ok(None);
            }
            let text = state.batches.iter().find(|batch| batch.asked.values().any(|asked| *asked == ticket));
            live.in_batch(Some(text.map_or_else(|| "gathering a batch".into(), |batch| batch.text.clone())));
            let now = self.began.elapsed();
            let due = self.due(&state);
            if !state.driven && due.is_some_and(|due| due <= now) {
                state.driven = true;
                drop(state);
                let driven = Driver { pool: self, ctx, endpoint, vendor }.drive();
                state = self.state.lock();
                state.driven = false;
                self.changed.notify_all();
                if let Err(error) = driven {
                    state.waiting -= 1;
                    return Err(error);
                }
                continue;
            }
            let nap = due.map_or(LOOK, |due| due.saturating_sub(now).min(LOOK));
            let nap = if state.driven { LOOK } else { nap.max(Duration::from_millis(1)) };
            self.changed.wait_for(&mut state, nap);
        }
    }

    /// Asks by itself, at the full price, when it is its turn and if the limits let it through. Only an answer is over
    /// with the call of its batch: one that fails is asked online again.
    fn online(
        &self,
        ctx: &BuildContext,
        endpoint: usize,
        request: &Request,
        live: &Live,
        context: &CallContext<'_>,
        origin: Origin,
    ) -> Called {
        let model = &ctx.project.endpoints[endpoint].model;
        let most = concurrency_online(model).max(1);
        let mut state = self.state.lock();
        while state.online >= most && live.cancel.level() < Level::Draining {
            self.changed.wait_for(&mut state, LOOK);
        }
        // Its batch cost less than it will, or nothing.
        if live.cancel.level() >= Level::Draining || !ctx.providers.ceiling.may_submit() {
            return Called::alone(Err(CallError::new(Class::Cancelled, "not asked")));
        }
        state.online += 1;
        drop(state);
        live.in_batch(None);
        let reply = ctx.providers.get(endpoint).and_then(|provider| provider.call(request, context));
        let origin = reply.is_ok().then_some(origin);
        Called { reply, origin, online: true }
    }
}
