//! Servers of `[services]` on a chart: when each was started, was ready and ended, in the last build that had it.

use indexmap::IndexMap;
use planexe_ui::views::timeline::{Slice, Timeline};
use schemars::JsonSchema;
use serde::Serialize;

use super::{At, Span};

/// A server, below the tasks.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ServiceRow {
    /// Its name in the pipeline.
    pub service: String,
    /// `starting`, `up`, `stopped`, `failed` or `interrupted`: the build was killed.
    pub state: String,
    /// How often it was started; 0 of one that somebody else keeps.
    pub starts: u32,
    /// Its times, one after the other.
    pub times: Vec<ServiceTime>,
}

/// A time in which a server was starting, or up.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ServiceTime {
    /// Whether it was ready.
    pub ready: bool,
    /// Whether it was in the queue of its executor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub queued: bool,
    /// From when to when.
    pub span: Span,
}

impl ServiceRow {
    /// How it stands, in a few words.
    pub(super) fn word(&self) -> String {
        match self.starts {
            0 | 1 => self.state.clone(),
            starts => format!("{} ×{starts}", self.state),
        }
    }
}

/// The servers of a run. `now`: until then lasts what is under way.
pub fn services(timeline: &Timeline, now: At) -> Vec<ServiceRow> {
    let mut of: IndexMap<&str, Vec<&Slice>> = IndexMap::new();
    for slice in &timeline.services {
        of.entry(&slice.name).or_default().push(slice);
    }
    let row = |(name, slices): (&str, Vec<&Slice>)| {
        let last = slices.last()?;
        let builds = timeline.builds.iter().map(|build| build.from);
        let began = builds.filter(|from| *from <= last.from).max().unwrap_or(last.from);
        let of_build = || slices.iter().filter(|slice| slice.from >= began);
        let time = |slice: &&Slice| {
            let to = if slice.outcome == "running" { now } else { slice.to / 1000 };
            ServiceTime {
                ready: slice.kind == "service",
                queued: slice.kind == "queue",
                span: Span::new(slice.from / 1000, to),
            }
        };
        let state = match (last.outcome.as_str(), last.kind) {
            ("running", "service") => "up",
            ("running", _) => "starting",
            (how, _) => how,
        };
        Some(ServiceRow {
            service: name.to_owned(),
            state: state.to_owned(),
            starts: of_build().filter(|slice| slice.kind == "starting").count() as u32,
            times: of_build().map(time).collect(),
        })
    };
    of.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_build_counts_and_a_restart_is_a_start() {
        let slice = |kind, from: i64, to: i64, outcome: &str| Slice {
            kind,
            name: "llm".to_owned(),
            from: from * 1000,
            to: to * 1000,
            outcome: outcome.to_owned(),
            ..Slice::default()
        };
        let timeline = Timeline {
            builds: vec![slice("build", 0, 50, "completed"), slice("build", 100, 200, "running")],
            services: vec![
                slice("starting", 1, 10, "ready"),
                slice("service", 10, 40, "stopped"),
                slice("starting", 110, 120, "ready"),
                slice("service", 120, 130, "ended"),
                slice("starting", 130, 140, "ready"),
                slice("service", 140, 150, "running"),
            ],
            ..Timeline::default()
        };
        let rows = services(&timeline, 300);
        assert_eq!((rows.len(), rows[0].starts, rows[0].word().as_str()), (1, 2, "up ×2"));
        let times: Vec<(bool, i64, i64)> =
            rows[0].times.iter().map(|time| (time.ready, time.span.from, time.span.to)).collect();
        assert_eq!(times, [(false, 110, 120), (true, 120, 130), (false, 130, 140), (true, 140, 300)]);
    }
}
