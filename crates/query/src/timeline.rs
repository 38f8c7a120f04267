//! When a run did what, from `events.jsonl` and `usage_metrics.jsonl`.

use std::collections::{BTreeMap, HashMap};

use planexe_base::call::Usage;
use planexe_base::clock::microseconds;
use planexe_base::event::{Event, Kind, Queued, Summary};
use planexe_base::fs::FsError;
use planexe_store::Store;
use planexe_store::usage::UsageLine;
use planexe_ui::views::timeline::{Micros, Slice, Timeline};

/// The timeline of a run. What is under way goes up to the last that was recorded. Either log may be missing.
pub fn timeline(store: &Store) -> Result<Timeline, FsError> {
    Ok(of(&store.events()?, &store.usage_lines()?))
}

fn of(events: &[Event], calls: &[UsageLine]) -> Timeline {
    let mut gathered = Gathered::default();
    for event in events {
        // A clock that was set back makes no time run backward here.
        let Some(at) = microseconds(&event.timestamp_utc) else { continue };
        gathered.now = gathered.now.max(at);
        gathered.take(&event.kind);
    }
    gathered.now =
        calls.iter().filter_map(|call| microseconds(&call.timestamp)).fold(gathered.now, Micros::max);
    gathered.end_of_log();
    let mut all = gathered.all;
    for slices in [&mut all.builds, &mut all.attempts, &mut all.waits, &mut all.services] {
        slices.sort_by(|a, b| (a.from, a.to, &a.name).cmp(&(b.from, b.to, &b.name)));
    }
    slot(&mut all.attempts);
    slot(&mut all.waits);
    add_calls(&mut all, calls);
    all
}

#[derive(Default)]
struct Gathered {
    all: Timeline,
    now: Micros,
    build: Option<Slice>,
    /// By task: what is open of it.
    open: BTreeMap<String, (Slice, bool)>,
    /// By task: a person who is waited for, also between builds, and since when the task runs again.
    asked: BTreeMap<String, (Slice, Option<Micros>)>,
    paused: Option<Slice>,
    /// By service: what is open of it, and how often it was started.
    services: BTreeMap<String, Slice>,
    /// The row of each service.
    rows: Vec<String>,
}

impl Gathered {
    fn take(&mut self, kind: &Kind) {
        match kind {
            Kind::PipelineStarted { pipeline, .. } => {
                // Of a build that was killed no end is recorded.
                self.end_all("interrupted");
                self.build =
                    Some(Slice { kind: "build", from: self.now, name: pipeline.clone(), ..Slice::default() });
            }
            Kind::PipelineCompleted { summary } => self.end_build("completed", summary),
            Kind::PipelineFailed { summary } => self.end_build("failed", summary),
            Kind::PipelineStopped { summary, .. } => self.end_build("stopped", summary),
            Kind::PipelinePaused { .. } => {
                if self.paused.is_none() {
                    let name = self.build.as_ref().map(|build| build.name.clone()).unwrap_or_default();
                    self.paused = Some(Slice { kind: "paused", from: self.now, name, ..Slice::default() });
                }
            }
            Kind::TaskStarted { task, attempt, model, recipe } => {
                self.end_pause("resumed");
                self.end(task, "begun again", None);
                if let Some((_, again)) = self.asked.get_mut(task) {
                    *again = Some(self.now);
                }
                let kind = if recipe == "eval" { "evaluation" } else { "attempt" };
                self.begin(task, kind, *attempt, model.clone());
            }
            Kind::TaskRetrying { task, attempt, failure, waits, .. } => {
                self.end(task, failure.class.name(), None);
                self.begin(task, if *waits { "server" } else { "retry" }, *attempt, None);
            }
            Kind::TaskWaiting { task, .. } => {
                self.end(task, "waiting", None);
                let slice = Slice { kind: "person", name: task.clone(), from: self.now, ..Slice::default() };
                // What was asked in an earlier build is still asked.
                self.asked.entry(task.clone()).or_insert((slice, None)).1 = None;
            }
            Kind::TaskCompleted { task, usage, reused, passed_utc, queued, .. } => {
                self.end_asked(task, passed_utc.as_deref());
                self.end_queued(task, queued.as_ref());
                self.end(task, if *reused { "reused" } else { "done" }, Some(usage));
            }
            Kind::TaskRescued { task, .. } => self.end(task, "rescued", None),
            Kind::TaskFailed { task, failure, queued, .. } => {
                self.end_asked(task, None);
                self.end_queued(task, queued.as_ref());
                self.end(task, failure.class.name(), None);
            }
            Kind::TaskSkipped { task } => {
                self.end_asked(task, None);
                self.end(task, "skipped", None);
            }
            Kind::TaskStopped { task } => self.end(task, "stopped", None),
            Kind::ServiceChanged { service, state, queued, .. } => {
                self.service(service, state, queued.as_ref());
            }
            Kind::TaskStale { .. }
            | Kind::TaskProgress { .. }
            | Kind::TaskStalled { .. }
            | Kind::ModelParked { .. }
            | Kind::ModelResumed { .. }
            | Kind::BatchSubmitted { .. }
            | Kind::BatchEnded { .. }
            | Kind::BatchStuck { .. }
            | Kind::Note { .. } => {}
        }
    }

    fn begin(&mut self, task: &str, kind: &'static str, attempt: u32, model: Option<String>) {
        let works = matches!(kind, "attempt" | "evaluation");
        let slice = Slice { kind, name: task.to_owned(), from: self.now, attempt, model, ..Slice::default() };
        self.open.insert(task.to_owned(), (slice, works));
    }

    fn end(&mut self, task: &str, outcome: &str, usage: Option<&Usage>) {
        let Some((mut slice, works)) = self.open.remove(task) else { return };
        slice.to = self.now;
        slice.outcome = if works { outcome } else { "over" }.to_owned();
        if let Some(usage) = usage.filter(|_| works) {
            (slice.input_tokens, slice.output_tokens) = (usage.input_tokens, usage.output_tokens);
            slice.cost_usd = usage.cost_usd;
        }
        if works { &mut self.all.attempts } else { &mut self.all.waits }.push(slice);
    }

    /// Nobody is waited for any more: since the person let it pass, if that is recorded, else since it ran again.
    fn end_asked(&mut self, task: &str, passed_utc: Option<&str>) {
        let Some((mut slice, again)) = self.asked.remove(task) else { return };
        let passed = passed_utc.and_then(microseconds).map(|at| at.clamp(slice.from, self.now));
        slice.to = passed.or(again).unwrap_or(self.now);
        slice.outcome = if passed.is_some() { "passed" } else { "over" }.to_owned();
        self.all.waits.push(slice);
    }

    /// The time that the attempt under way was in a queue is a wait, and no part of the attempt.
    fn end_queued(&mut self, task: &str, queued: Option<&Queued>) {
        if let (Some((attempt, _)), Some(queued)) = (self.open.get_mut(task), queued) {
            self.all.waits.extend(in_queue(attempt, queued, self.now));
        }
    }

    /// A service is starting, ready, or neither any more. One that starts while it is up has ended by itself.
    fn service(&mut self, service: &str, state: &str, queued: Option<&Queued>) {
        let of_start = self.services.get_mut(service).filter(|slice| slice.kind == "starting");
        if let (Some(start), Some(queued)) = (of_start, queued) {
            self.all.services.extend(in_queue(start, queued, self.now));
        }
        let mut attempt = 1;
        if let Some(before) = self.services.get(service) {
            attempt = before.attempt + u32::from(state == "starting");
            let outcome = if state == "starting" { "ended" } else { state };
            self.end_service(service, outcome);
        }
        let kind = match state {
            "starting" => "starting",
            "ready" => "service",
            _ => return,
        };
        let row = self.rows.iter().position(|known| known == service).unwrap_or(self.rows.len());
        if row == self.rows.len() {
            self.rows.push(service.to_owned());
        }
        let (name, from) = (service.to_owned(), self.now);
        let slice = Slice { slot: row, kind, name, from, attempt, ..Slice::default() };
        self.services.insert(service.to_owned(), slice);
    }

    fn end_service(&mut self, service: &str, outcome: &str) {
        if let Some(mut slice) = self.services.remove(service) {
            (slice.to, slice.outcome) = (self.now, outcome.to_owned());
            self.all.services.push(slice);
        }
    }

    fn end_pause(&mut self, outcome: &str) {
        if let Some(mut slice) = self.paused.take() {
            (slice.to, slice.outcome) = (self.now, outcome.to_owned());
            self.all.waits.push(slice);
        }
    }

    /// The build has ended. Who is waited for after it, its summary says.
    fn end_build(&mut self, outcome: &str, summary: &Summary) {
        let began = self.build.as_ref().map_or(self.now, |build| build.from);
        for (task, (slice, again)) in std::mem::take(&mut self.asked) {
            if summary.waiting.contains(&task) {
                self.asked.insert(task, (slice, again));
                continue;
            }
            // When it was let pass is not recorded: it was not waited for in this build.
            let to = began.max(slice.from);
            self.all.waits.push(Slice { to, outcome: "over".to_owned(), ..slice });
        }
        self.end_all(outcome);
    }

    /// No more is recorded.
    fn end_of_log(&mut self) {
        for (mut slice, _) in std::mem::take(&mut self.asked).into_values() {
            (slice.to, slice.outcome) = (self.now, "running".to_owned());
            self.all.waits.push(slice);
        }
        self.end_all("running");
    }

    /// The build has ended, or no more is recorded.
    fn end_all(&mut self, outcome: &str) {
        self.end_pause(outcome);
        while let Some(task) = self.open.keys().next().cloned() {
            self.end(&task, if outcome == "running" { outcome } else { "interrupted" }, None);
        }
        while let Some(service) = self.services.keys().next().cloned() {
            self.end_service(&service, if outcome == "running" { outcome } else { "interrupted" });
        }
        if let Some(mut build) = self.build.take() {
            (build.to, build.outcome) = (self.now, outcome.to_owned());
            self.all.builds.push(build);
        }
    }
}

/// Takes the time in a queue off the beginning of a slice, as one of its own. The clocks of the two machines may differ.
fn in_queue(slice: &mut Slice, queued: &Queued, now: Micros) -> Option<Slice> {
    let [from, to] = [&queued.submitted_utc, &queued.began_utc].map(|at| microseconds(at));
    let (from, to) = (from?.clamp(slice.from, now), to?.clamp(slice.from, now));
    let waited = Slice { kind: "queue", from, to, outcome: "over".to_owned(), ..slice.clone() };
    (from < to).then(|| {
        slice.from = to;
        waited
    })
}

/// Gives each slice, sorted by their beginnings, the lowest slot that is free.
fn slot(slices: &mut [Slice]) {
    let mut ends: Vec<Micros> = Vec::new();
    for slice in slices {
        slice.slot = ends.iter().position(|end| *end <= slice.from).unwrap_or(ends.len());
        if slice.slot == ends.len() {
            ends.push(0);
        }
        ends[slice.slot] = slice.to;
    }
}

/// Calls have their own log. Each is put into its attempt, where there is one; the two logs' clocks differ by up to some
/// milliseconds. What has no attempt stands in one of its own.
fn add_calls(all: &mut Timeline, lines: &[UsageLine]) {
    let mut attempts: HashMap<(&str, u32), Vec<usize>> = HashMap::new();
    for (at, attempt) in all.attempts.iter().enumerate() {
        attempts.entry((&attempt.name, attempt.attempt)).or_default().push(at);
    }
    let mut within: Vec<(Option<usize>, Slice)> = Vec::new();
    for line in lines {
        let Some(to) = microseconds(&line.timestamp) else { continue };
        let seconds = if line.duration_seconds.is_finite() { line.duration_seconds.max(0.0) } else { 0.0 };
        let from = to.saturating_sub((seconds * 1e6).round() as Micros);
        let call = Slice {
            kind: "call",
            name: line.task.clone(),
            from,
            to,
            outcome: line.error.as_ref().map_or("done", |class| class.name()).to_owned(),
            attempt: line.attempt,
            model: Some(line.model.clone()),
            input_tokens: line.input_tokens,
            output_tokens: line.output_tokens,
            cost_usd: line.cost_usd,
            ..Slice::default()
        };
        // The attempt that it shares the most time with; a call that took none, the one it lies in.
        let candidates = attempts.get(&(line.task.as_str(), line.attempt)).into_iter().flatten();
        let shared = |at: &usize| all.attempts[*at].to.min(to) - all.attempts[*at].from.max(from);
        let best = candidates.copied().max_by_key(shared).filter(|at| shared(at) >= 0);
        within.push((best, call));
    }
    within.sort_by_key(|(attempt, call)| (call.to, call.from, *attempt));
    let mut cost = 0.0;
    let mut ends: HashMap<usize, Micros> = HashMap::new();
    let mut alone = Vec::new();
    for (attempt, mut call) in within {
        cost += call.cost_usd;
        all.cost.push((call.to, cost));
        match attempt {
            Some(at) => {
                let attempt = &all.attempts[at];
                let first = ends.get(&at).copied().unwrap_or(attempt.from);
                (call.from, call.to) =
                    (call.from.max(first).min(attempt.to), call.to.min(attempt.to).max(first));
                call.from = call.from.min(call.to);
                call.slot = attempt.slot;
                ends.insert(at, call.to);
                all.calls.push(call);
            }
            None => alone.push(call),
        }
    }
    let base = all.attempts.iter().map(|attempt| attempt.slot + 1).max().unwrap_or(0);
    alone.sort_by_key(|call| (call.from, call.to));
    slot(&mut alone);
    all.calls.extend(alone.into_iter().map(|call| Slice { slot: call.slot + base, ..call }));
    all.calls.sort_by_key(|a| (a.from, a.to, a.slot));
}
