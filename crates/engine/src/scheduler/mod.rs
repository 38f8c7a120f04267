//! The scheduler: a state machine without I/O. Events and the time go in, actions come out.
//!
//! A task is judged when everything it needs is settled, never before: its inputs may come out
//! unchanged, and then nothing after it is paid for again. What is stale waits for its slots and
//! starts, the one with the longest remaining path first. The same engine runs a build, tells what
//! one would do ([`Mode::Plan`]) and is driven over random graphs by the seeded simulation in its tests.

mod alike;
mod fanout;
mod lanes;
mod protocol;
mod queue;
mod reopen;
mod settle;
mod told;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::graph::{Graph, Kind, TaskId, Why};
use crate::slots::{CallEnd, Needs, Slots};
use alike::Follower;
use planexe_base::call::Usage;
use planexe_base::cancel::Level;
use planexe_base::failure_class::Class;
use planexe_base::limits::Start;
use planexe_base::prefix::{Book, Division};
use queue::Candidate;

pub use fanout::needed;
pub use protocol::{
    Action, AttemptEnd, Event, Judged, Mode, OnFailure, Options, Queue, Resolution, ServiceIs, Target,
    TaskInfo, Work,
};
pub use reopen::Reopened;

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Some needs are not settled.
    Waiting,
    Judging,
    /// Stale, waiting for slots.
    Ready,
    Running,
    /// Between two attempts.
    Backoff(Duration),
    /// Made, and waiting for the others of its lane.
    Held,
    /// A family between its expansion and the end of its instances.
    Collecting,
    Settled(Resolution),
}

#[derive(Debug, Clone)]
struct Node {
    phase: Phase,
    wanted: bool,
    unmet: u32,
    /// A need is not up to date (plan).
    upstream_stale: bool,
    expanded: bool,
    /// Instances not settled yet.
    left: u32,
    attempts: u32,
    work: Work,
    /// Position in `work.endpoints` to ask next.
    endpoint: usize,
    /// Its pause is one for a server that is away.
    outage: bool,
    held: Option<Needs>,
    /// The endpoint its last attempt asked.
    held_endpoint: Option<usize>,
    /// How the prompt of its last attempt is divided.
    division: Division,
    /// The endpoint whose book has its prompt.
    counted: Option<usize>,
    /// How its call ended, once told.
    call: Option<CallEnd>,
    /// Something it needs is made anew: however its attempt ends, it is judged again.
    outdated: bool,
    /// Seconds it is expected to take; a fan-out: one instance.
    expected: f64,
    /// Longest remaining path, seconds, itself included.
    remaining: f64,
}

/// The scheduler's state: each task's phase, and what is left of slots and limits.
pub struct Engine {
    graph: Graph,
    mode: Mode,
    options: Options,
    infos: Vec<TaskInfo>,
    nodes: Vec<Node>,
    slots: Slots,
    /// Ready tasks by what they compete for.
    ready: HashMap<Needs, BinaryHeap<Candidate>>,
    backoff: BinaryHeap<Reverse<(Duration, TaskId)>>,
    actions: VecDeque<Action>,
    closed: HashSet<usize>,
    wanted_keys: HashMap<TaskId, HashSet<String>>,
    /// Seconds that instances took before, by name.
    past: HashMap<String, f64>,
    level: Level,
    paused: bool,
    failed: bool,
    active: usize,
    /// Of those the ones with an attempt.
    at_work: usize,
    /// Who is at work in a lane.
    lanes: HashMap<usize, TaskId>,
    /// Whose turn it is in a lane, and the tasks before it.
    turns: HashMap<usize, (TaskId, Vec<bool>)>,
    /// By endpoint: which prompts begin alike, and what its server has in its cache.
    books: Vec<Option<Book>>,
    /// Running tasks that bring something there.
    leaders: Vec<TaskId>,
    /// Ready tasks that wait for the first token of one of them.
    followers: Vec<Follower>,
}

impl Engine {
    /// A machine over a graph; `infos` by declaration. Nothing is wanted yet.
    pub fn new(graph: Graph, mode: Mode, options: Options, infos: Vec<TaskInfo>, slots: Slots) -> Engine {
        let mut engine = Engine {
            nodes: Vec::with_capacity(graph.len()),
            graph,
            mode,
            options,
            infos,
            slots,
            ready: HashMap::new(),
            backoff: BinaryHeap::new(),
            actions: VecDeque::new(),
            closed: HashSet::new(),
            wanted_keys: HashMap::new(),
            past: HashMap::new(),
            level: Level::Running,
            paused: false,
            failed: false,
            active: 0,
            at_work: 0,
            lanes: HashMap::new(),
            turns: HashMap::new(),
            books: Vec::new(),
            leaders: Vec::new(),
            followers: Vec::new(),
        };
        engine.nodes.resize(engine.graph.len(), Engine::new_node(false));
        engine.measure_paths();
        engine
    }

    /// Tells how long instances took before, by name: the longest of a fan-out start first.
    pub fn know(&mut self, past: HashMap<String, f64>) {
        self.past = past;
    }

    fn new_node(wanted: bool) -> Node {
        Node {
            phase: Phase::Waiting,
            wanted,
            unmet: 0,
            upstream_stale: false,
            expanded: false,
            left: 0,
            attempts: 0,
            work: Work::default(),
            endpoint: 0,
            outage: false,
            held: None,
            held_endpoint: None,
            division: Division::default(),
            counted: None,
            call: None,
            outdated: false,
            expected: 0.0,
            remaining: 0.0,
        }
    }

    /// The longest remaining path of every task, from expected durations. What is before a fan-out counts it as
    /// one instance, whether its items are known or not.
    fn measure_paths(&mut self) {
        for &id in self.graph.order().iter().rev() {
            let readers = self.graph[id].readers.iter();
            let declared =
                readers.filter(|reader| !matches!(self.graph[**reader].kind, Kind::Instance { .. }));
            let after = declared.map(|reader| self.nodes[reader.index()].remaining).fold(0.0, f64::max);
            self.nodes[id.index()].remaining = after + self.info(id).expected_s;
            self.nodes[id.index()].expected = self.info(id).expected_s;
            let instances = self.graph.instances(id);
            for (instance, (expected, remaining)) in instances.iter().zip(self.durations_of(id, instances)) {
                let node = &mut self.nodes[instance.index()];
                (node.expected, node.remaining) = (expected, remaining);
            }
        }
    }

    /// Better knowledge of what declarations take: by number, from the seconds expected so far. What is ready
    /// keeps its place.
    pub fn expect(&mut self, seconds: impl Fn(usize, f64) -> f64) {
        for (decl, info) in self.infos.iter_mut().enumerate() {
            info.expected_s = seconds(decl, info.expected_s);
        }
        self.measure_paths();
    }

    fn info(&self, id: TaskId) -> TaskInfo {
        self.infos.get(self.graph[id].decl).copied().unwrap_or_default()
    }

    /// Asks for tasks, and with them all they need.
    pub fn want(&mut self, targets: &[Target]) {
        let ids: Vec<TaskId> = targets.iter().map(|(id, _)| *id).collect();
        let mask = if self.options.only {
            let mut mask = vec![false; self.graph.len()];
            for id in &ids {
                mask[id.index()] = true;
            }
            mask
        } else {
            self.graph.upstream(&ids)
        };
        for (node, wanted) in self.nodes.iter_mut().zip(mask) {
            node.wanted |= wanted;
        }
        for (id, keys) in targets {
            if let Some(keys) = keys {
                self.wanted_keys.entry(*id).or_default().extend(keys.iter().cloned());
            }
        }
        let wanted: Vec<TaskId> = self.graph.ids().filter(|id| self.nodes[id.index()].wanted).collect();
        for &id in &wanted {
            self.count_needs(id);
        }
        // Only now: a group may settle at once, and what waits for it too must know what else it waits for.
        for id in wanted {
            self.advance(id);
        }
    }

    /// Counts the needs that are not settled well; `--only` takes what is needed as it is.
    fn count_needs(&mut self, id: TaskId) {
        let mut unmet = 0;
        for need in &self.graph[id].needs {
            let node = &self.nodes[need.task.index()];
            if !node.wanted {
                continue;
            }
            let met = match (&node.phase, need.why) {
                (_, Why::Expanded) => node.expanded || matches!(node.phase, Phase::Settled(_)),
                (Phase::Settled(Resolution::Skipped), why) => spoils(Resolution::Skipped, why).is_none(),
                (Phase::Settled(settled), _) => settled.satisfies(),
                (Phase::Held, _) => self.is_held_for(need.task, id),
                _ => false,
            };
            unmet += u32::from(!met);
        }
        self.nodes[id.index()].unmet = unmet;
    }

    /// Moves a waiting task on if everything it needs is settled.
    fn advance(&mut self, id: TaskId) {
        let node = &self.nodes[id.index()];
        if !node.wanted || node.unmet > 0 || node.phase != Phase::Waiting {
            return;
        }
        let shallow = node.upstream_stale;
        let action = match self.graph[id].kind {
            Kind::Family => Action::Expand(id),
            Kind::Group => {
                let settled = if shallow { Resolution::DependsOn } else { Resolution::Fresh };
                return self.settle(id, settled);
            }
            Kind::Single | Kind::Instance { .. } => Action::Judge { task: id, shallow },
        };
        self.nodes[id.index()].phase = Phase::Judging;
        self.active += 1;
        self.actions.push_back(action);
    }

    /// Takes in what happened at a time (since any fixed moment).
    pub fn on(&mut self, event: Event, now: Duration) {
        match event {
            Event::Judged(id, judged) => {
                self.active -= 1;
                match judged {
                    Judged::Fresh => self.settle(id, Resolution::Fresh),
                    Judged::Skipped => self.settle(id, Resolution::Skipped),
                    Judged::Failed => self.fail(id),
                    Judged::DependsOn => self.settle(id, Resolution::DependsOn),
                    Judged::Stale(_) if self.mode == Mode::Plan => self.settle(id, Resolution::Stale),
                    Judged::Stale(work) => {
                        let node = &mut self.nodes[id.index()];
                        // One that is judged again begins anew.
                        (node.attempts, node.endpoint) = (0, work.first);
                        if node.work.marks != work.marks {
                            node.counted = None;
                        }
                        node.work = work;
                        self.enqueue_or_hold(id, now);
                    }
                }
            }
            Event::Expanded(id, items) => {
                self.active -= 1;
                match items {
                    Some(items) => self.expand(id, items),
                    None if self.mode == Mode::Plan => self.settle(id, Resolution::DependsOn),
                    None => self.fail(id),
                }
            }
            Event::Ended(id, end) => self.ended(id, end, now),
            Event::Passed(id) => {
                if self.nodes[id.index()].phase == Phase::Settled(Resolution::Waiting) {
                    self.nodes[id.index()].phase = Phase::Waiting;
                    self.advance(id);
                }
            }
            Event::EndpointClosed(endpoint) => {
                self.closed.insert(endpoint);
                self.requeue(endpoint, now);
                self.end_pauses(endpoint, now);
            }
            Event::ServerUp(endpoint) => self.server_up(endpoint, now),
            Event::ServerIdle(endpoint) => self.slots.found_idle(endpoint, now),
            Event::Parked(endpoint, until) => {
                self.slots.park(endpoint, until);
                self.requeue(endpoint, now);
            }
            Event::LimitOver(endpoint) => self.slots.limit_over(endpoint, now),
            Event::Cancel(level) => {
                if level == Level::Killing && self.level < Level::Killing {
                    self.actions.push_back(Action::CancelAll);
                }
                self.level = self.level.max(level);
            }
            Event::Pause(paused) => self.paused = paused,
        }
    }

    fn ended(&mut self, id: TaskId, end: AttemptEnd, now: Duration) {
        self.active -= 1;
        self.at_work -= 1;
        let came = matches!(self.nodes[id.index()].call, Some((Ok(_), _)));
        self.lead_no_more(id, came, now);
        if let Some(held) = self.nodes[id.index()].held.take() {
            let call = self.nodes[id.index()].call.take();
            self.slots.release(held, call, now);
            if let Some(endpoint) = held.endpoint.filter(|at| self.slots.is_held_long(*at, now)) {
                self.requeue(endpoint, now);
            }
        }
        let goes_on = match &end {
            AttemptEnd::Retry { .. } => true,
            AttemptEnd::NextPhase(work) => work.lane.is_some(),
            _ => false,
        };
        if !goes_on {
            self.lanes.retain(|_, at_work| *at_work != id);
        }
        let outdated = std::mem::take(&mut self.nodes[id.index()].outdated);
        match end {
            AttemptEnd::Done | AttemptEnd::Failed | AttemptEnd::Waiting if outdated => self.judge_again(id),
            AttemptEnd::Retry { .. } | AttemptEnd::NextPhase(_) if outdated => self.judge_again(id),
            AttemptEnd::Done => self.settle(id, Resolution::Done),
            AttemptEnd::Failed => self.fail(id),
            AttemptEnd::Waiting => self.settle(id, Resolution::Waiting),
            AttemptEnd::Stopped => self.settle(id, Resolution::Stopped),
            AttemptEnd::Rejudge => self.judge_again(id),
            AttemptEnd::NextPhase(work) => {
                let node = &mut self.nodes[id.index()];
                (node.endpoint, node.outage) = (work.first, false);
                node.work = work;
                self.enqueue_or_hold(id, now);
            }
            AttemptEnd::Retry { after, endpoint, outage } => {
                self.nodes[id.index()].endpoint = endpoint;
                self.nodes[id.index()].outage = outage;
                if after.is_zero() {
                    self.enqueue(id, now);
                } else {
                    let until = now.saturating_add(after);
                    self.nodes[id.index()].phase = Phase::Backoff(until);
                    self.backoff.push(Reverse((until, id)));
                }
            }
        }
    }

    /// What is made waits for its lane, if it shares one; all else for its slots.
    fn enqueue_or_hold(&mut self, id: TaskId, now: Duration) {
        match self.nodes[id.index()].work.made && self.info(id).lane.is_some() {
            true => self.hold(id),
            false => self.enqueue(id, now),
        }
    }

    /// The next things to do at a time. Empty until an event or [`Engine::wakeup`] when nothing can start.
    pub fn poll(&mut self, now: Duration) -> Vec<Action> {
        while let Some(&Reverse((until, id))) = self.backoff.peek() {
            if until > now {
                break;
            }
            self.backoff.pop();
            if self.nodes[id.index()].phase == Phase::Backoff(until) {
                // How long a server that is away is left alone is this pause's to say.
                let node = &self.nodes[id.index()];
                if let (true, Some(&endpoint)) = (node.outage, node.work.endpoints.get(node.endpoint)) {
                    self.slots.found_up(endpoint, now);
                }
                self.enqueue(id, now);
            }
        }
        self.lose_patience(now);
        if self.may_start() {
            self.start_ready(now);
        }
        self.actions.drain(..).collect()
    }

    /// Whether new attempts may start at all.
    fn may_start(&self) -> bool {
        let stopped_by_failure = self.failed && self.options.on_failure != OnFailure::KeepGoing;
        self.level == Level::Running && !self.paused && !stopped_by_failure
    }

    /// Sets how many commands may run at once.
    pub fn set_cores(&mut self, cores: u32) {
        self.slots.set_cores(cores);
    }

    /// How a service stands: what it takes of this machine is taken while it is up.
    pub fn service_is(&mut self, service: usize, is: ServiceIs) {
        match is {
            ServiceIs::Up => self.slots.service_up(service),
            ServiceIs::Ending => self.slots.service_ends(service),
            ServiceIs::Gone => self.slots.service_gone(service),
            ServiceIs::Lost => self.slots.service_lost(service),
        }
    }

    /// Whether a task at work needs a service.
    pub fn is_used(&self, service: usize) -> bool {
        self.slots.is_used(service)
    }

    /// Tells how a task's call ended, before [`Event::Ended`]: what its endpoint's limits learn from.
    pub fn call_ended(&mut self, id: TaskId, result: Result<Usage, Class>, retry_after: Option<Duration>) {
        self.nodes[id.index()].call = Some((result, retry_after));
    }

    /// A call that a running task's own program makes: it takes a slot of its endpoint, if it may begin now.
    pub fn begin_call(&mut self, endpoint: usize, tokens: u64, now: Duration) -> Start {
        self.slots.begin_call(endpoint, tokens, now)
    }

    /// Such a call is over.
    pub fn end_call(&mut self, endpoint: usize, end: CallEnd, now: Duration) {
        self.slots.free_endpoint(endpoint, end, now);
    }
}

/// What a bad end of a need makes of its reader.
fn spoils(settled: Resolution, why: Why) -> Option<Resolution> {
    match (settled, why) {
        (Resolution::Failed | Resolution::Blocked, _) => Some(Resolution::Blocked),
        (Resolution::Skipped, Why::Reads) => Some(Resolution::Skipped),
        _ => None,
    }
}
