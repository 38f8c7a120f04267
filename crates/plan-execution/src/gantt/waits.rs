//! Times in which tasks waited, on a chart: for a person, and in the queues of executors.

use std::collections::HashMap;

use planexe_ui::views::TaskView;
use planexe_ui::views::timeline::{Slice, Timeline};
use schemars::JsonSchema;
use serde::Serialize;

use super::{At, Span};

/// What a task waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// A person.
    Person,
    /// The queue of its executor.
    Queue,
}

/// A time in which a task waited.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct WaitTime {
    /// For what.
    pub kind: WaitFor,
    /// From when to when; so far, if it is not over.
    pub span: Span,
}

impl WaitFor {
    /// In words.
    pub(super) fn word(self) -> &'static str {
        match self {
            WaitFor::Person => "waited for a person",
            WaitFor::Queue => "in the queue of its executor",
        }
    }
}

/// The waits of tasks, as their records have them. `now`: until then lasts what is not over.
pub fn waits(timeline: &Timeline, tasks: &[TaskView], now: At) -> HashMap<String, Vec<WaitTime>> {
    let mut of: HashMap<String, Vec<WaitTime>> = HashMap::new();
    let told = |slice: &Slice| {
        let kind = match slice.kind {
            "person" => WaitFor::Person,
            "queue" => WaitFor::Queue,
            _ => return None,
        };
        let to = if slice.outcome == "running" { now } else { slice.to / 1000 };
        Some(WaitTime { kind, span: Span::new(slice.from / 1000, to) })
    };
    for slice in &timeline.waits {
        if let Some(wait) = told(slice) {
            of.entry(slice.name.clone()).or_default().push(wait);
        }
    }
    // Of what is in a queue now the log has nothing yet.
    for task in tasks {
        let Some(executor) = task.executor.as_ref().filter(|executor| executor.host.is_none()) else {
            continue;
        };
        let Ok(since) = executor.since_utc.parse::<jiff::Timestamp>() else { continue };
        let span = Span::new(since.as_millisecond(), now);
        of.entry(task.task.clone()).or_default().push(WaitTime { kind: WaitFor::Queue, span });
    }
    of
}
