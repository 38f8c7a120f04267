//! When a run did what: attempts and calls by slot, and waits apart from them; also as a trace for Perfetto.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::views::Server;
use planexe_base::style::clean;

/// Microseconds since 1970.
pub type Micros = i64;

/// What a run did, in the order of time. All of it is from records, so the same records give the same timeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Timeline {
    /// Builds.
    pub builds: Vec<Slice>,
    /// Attempts, each with its slot; those of one slot do not overlap.
    pub attempts: Vec<Slice>,
    /// Calls to models, each within its attempt.
    pub calls: Vec<Slice>,
    /// Times in which a task waited, by rows of their own.
    pub waits: Vec<Slice>,
    /// Servers of `[services]`: their starts, and the times they were up; a row for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Slice>,
    /// What all calls had cost by then, in USD.
    pub cost: Vec<(Micros, f64)>,
}

/// A piece of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Slice {
    /// Its slot, from 0.
    pub slot: usize,
    /// The task, the pipeline or the service.
    pub name: String,
    /// `build`, `attempt`, `evaluation`, `call`; of waits `retry`, `server`, `person`, `queue`, `paused`; of services `queue`, `starting`, `service`.
    pub kind: &'static str,
    /// Its beginning.
    pub from: Micros,
    /// Its end; so far, if it is under way.
    pub to: Micros,
    /// How it ended: `done`, `failed`, a class of failure, `running`.
    pub outcome: String,
    /// Attempt of the task; 0 for what is none.
    pub attempt: u32,
    /// The model, if one was asked.
    pub model: Option<String>,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// USD.
    pub cost_usd: f64,
}

impl Timeline {
    /// The first moment there is.
    pub fn start(&self) -> Option<Micros> {
        self.all().map(|slice| slice.from).min()
    }

    /// All slices, calls within their attempts.
    pub fn all(&self) -> impl Iterator<Item = &Slice> {
        let all = self.builds.iter().chain(&self.attempts).chain(&self.calls).chain(&self.waits);
        all.chain(&self.services)
    }

    /// How many calls were under way, at each moment at which that changed.
    pub fn in_flight(&self) -> Vec<(Micros, i64)> {
        let mut changes: BTreeMap<Micros, i64> = BTreeMap::new();
        for call in &self.calls {
            *changes.entry(call.from).or_default() += 1;
            *changes.entry(call.to).or_default() -= 1;
        }
        let mut now = 0;
        let changed = changes.into_iter().filter(|(_, change)| *change != 0);
        changed
            .map(|(at, change)| {
                (at, {
                    now += change;
                    now
                })
            })
            .collect()
    }
}

/// Several runs as Chrome's trace format has them, which Perfetto and `chrome://tracing` open: a process for each run, by
/// its name; a thread for each slot, and threads of their own for waits and services. Times are microseconds since the first event.
pub fn chrome(server: Server, runs: &[(String, Timeline)]) -> ChromeTrace {
    let start = runs.iter().filter_map(|(_, timeline)| timeline.start()).min().unwrap_or(0);
    let mut events = Vec::new();
    for (pid, (name, timeline)) in (1..).zip(runs) {
        timeline.add_chrome(&mut events, pid, name, start);
    }
    ChromeTrace {
        trace_events: events,
        display_time_unit: "ms",
        other_data: json!({"schema": crate::views::SCHEMA, "server": server, "started_us": start}),
    }
}

impl Timeline {
    fn add_chrome(&self, events: &mut Vec<Value>, pid: usize, name: &str, start: Micros) {
        let slots = |of: &[Slice]| of.iter().map(|slice| slice.slot + 1).max().unwrap_or(0);
        let calls = slots(&self.attempts).max(slots(&self.calls));
        events.push(
            json!({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": clean(name)}}),
        );
        events.push(json!({"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}));
        let mut named = |tid: usize, name: String| {
            events.push(
                json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}),
            );
            events.push(json!({"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}));
        };
        named(0, "builds".to_owned());
        (1..=calls).for_each(|slot| named(slot, format!("slot {slot}")));
        (1..=slots(&self.waits)).for_each(|wait| named(calls + wait, format!("wait {wait}")));
        let waits = calls + slots(&self.waits);
        let mut services = BTreeMap::new();
        for slice in &self.services {
            services.entry(slice.slot).or_insert(&slice.name);
        }
        for (slot, name) in services {
            named(waits + slot + 1, format!("service {}", clean(name)));
        }
        let mut slices: Vec<(usize, &Slice)> = Vec::new();
        slices.extend(self.builds.iter().map(|slice| (0, slice)));
        slices.extend(self.attempts.iter().chain(&self.calls).map(|slice| (slice.slot + 1, slice)));
        slices.extend(self.waits.iter().map(|slice| (calls + slice.slot + 1, slice)));
        slices.extend(self.services.iter().map(|slice| (waits + slice.slot + 1, slice)));
        // What encloses another comes first.
        slices.sort_by_key(|(tid, slice)| (slice.from, -slice.to, *tid));
        events.extend(slices.into_iter().map(|(tid, slice)| slice.chrome(start, pid, tid, tid > waits)));
        let counter = |name: &str, at: Micros, key: &str, value: Value| json!({"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": at - start, "args": {key: value}});
        let flights = self.in_flight();
        events.extend(flights.iter().map(|(at, n)| counter("calls in flight", *at, "calls", json!(n))));
        events.extend(self.cost.iter().map(|(at, usd)| counter("cost", *at, "usd", json!(usd))));
    }
}

/// A trace: the top level of Chrome's format.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChromeTrace {
    trace_events: Vec<Value>,
    display_time_unit: &'static str,
    other_data: Value,
}

impl Slice {
    fn chrome(&self, start: Micros, pid: usize, tid: usize, is_service: bool) -> Value {
        let name = match self.kind {
            "call" => format!("call: {}", self.model.as_deref().map(clean).unwrap_or_default()),
            "build" | "attempt" => clean(&self.name),
            kind => format!("{kind}: {}", clean(&self.name)),
        };
        let mut args = json!({"task": self.name, "outcome": self.outcome});
        if is_service {
            args = json!({"service": self.name, "outcome": self.outcome});
        } else if self.kind == "build" {
            args = json!({"pipeline": self.name, "outcome": self.outcome});
        }
        if self.attempt > 0 {
            args["attempt"] = json!(self.attempt);
        }
        if let Some(model) = &self.model {
            args["model"] = json!(model);
            args["input_tokens"] = json!(self.input_tokens);
            args["output_tokens"] = json!(self.output_tokens);
            args["cost_usd"] = json!(self.cost_usd);
        }
        json!({
            "ph": "X", "name": name, "cat": self.kind, "pid": pid, "tid": tid,
            "ts": self.from - start, "dur": self.to - self.from, "args": args,
        })
    }
}
