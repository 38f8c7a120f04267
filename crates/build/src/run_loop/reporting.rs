//! Telling what happens: events to the log and to whoever watches, and the state now and then.

use std::mem;

use super::Build;
use super::sharing::Sharing;
use crate::eta;
use crate::runner;
use planexe_base::cancel::Level;
use planexe_base::event::Kind;
use planexe_base::record::Marker;
use planexe_engine::graph::{Kind as NodeKind, TaskId};
use planexe_engine::scheduler::Resolution;
use planexe_ui::progress::{Running, Sink, Snapshot};

/// Who is told what happens.
pub(super) struct Reporting<'a> {
    sink: &'a mut dyn Sink,
    sharing: Sharing,
    /// What happened before the build wrote anything: its log has no beginning yet.
    early: Vec<Kind>,
}

impl<'a> Reporting<'a> {
    pub(super) fn new(sink: &'a mut dyn Sink) -> Reporting<'a> {
        Reporting { sink, sharing: Sharing::new(), early: Vec::new() }
    }

    /// Other processes.
    pub(super) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// Other processes.
    pub(super) fn sharing_mut(&mut self) -> &mut Sharing {
        &mut self.sharing
    }
}

impl Build<'_> {
    /// Events of runners, in the order they happened.
    pub(super) fn drain_events(&mut self) {
        while let Some(kind) = self.inbox.event() {
            self.tell(kind);
        }
    }

    /// Tells an event to the log and to whoever watches.
    pub(super) fn tell(&mut self, kind: Kind) {
        let event = runner::stamp(kind);
        self.reporting.sink.done(self.tally.finished());
        if self.records.is_begun()
            && !matches!(event.kind, Kind::TaskProgress { .. })
            && let Some(error) = self.ctx.logs.event(&event)
        {
            let message = format!("events cannot be logged, the build continues: {error}");
            self.reporting.sink.event(&runner::stamp(Kind::Note { task: None, message, warning: true }));
        }
        self.reporting.sink.event(&event);
    }

    /// [`Build::tell`], for what may happen before anything is written.
    pub(super) fn tell_after_begin(&mut self, kind: Kind) {
        match self.records.is_begun() {
            true => self.tell(kind),
            false => self.reporting.early.push(kind),
        }
    }

    /// Tells what happened early: after the beginning, or at the end of a build that wrote nothing.
    pub(super) fn tell_early(&mut self) {
        for kind in mem::take(&mut self.reporting.early) {
            self.tell(kind);
        }
    }

    /// Shows progress.
    pub(super) fn tick(&mut self) {
        let snapshot = self.snapshot();
        self.reporting.sink.tick(&snapshot);
    }

    fn snapshot(&self) -> Snapshot {
        let graph = self.engine.graph();
        let shown = self.attempts.running().map(|(id, attempt)| attempt.shown(&graph[id].name));
        let mut running: Vec<Running> = shown.collect();
        running.sort_by(|a, b| b.elapsed_s.total_cmp(&a.elapsed_s));
        let mut snapshot = Snapshot { elapsed_s: self.now().as_secs_f64(), running, ..Snapshot::default() };
        for id in graph.ids().filter(|&id| self.engine.is_wanted(id)) {
            let settled = self.engine.settled(id);
            // A fan-out of no items is done, and nothing to count.
            let empty = matches!(graph[id].kind, NodeKind::Family)
                && matches!(settled, Some(Resolution::Fresh | Resolution::Done));
            if empty || !self.counts(id) {
                continue;
            }
            snapshot.total += 1;
            match settled {
                Some(Resolution::Fresh | Resolution::Done | Resolution::Skipped | Resolution::Partial) => {
                    snapshot.done += 1;
                }
                Some(Resolution::Failed) => snapshot.failed += 1,
                Some(Resolution::Blocked) => snapshot.blocked += 1,
                Some(Resolution::Waiting) => snapshot.waiting += 1,
                _ => {}
            }
        }
        snapshot.eta_s = self.time_left();
        snapshot.usage = self.ctx.providers.spent();
        snapshot.hold = if self.steering.is_paused() {
            Some("paused".into())
        } else if self.ctx.cancel.level() > Level::Running {
            Some("stopping".into())
        } else {
            self.waits_for_server().or_else(|| self.parked_text().filter(|_| self.engine.is_idle()))
        };
        snapshot
    }

    /// Seconds to go, once something runs.
    fn time_left(&self) -> Option<f64> {
        let graph = self.engine.graph();
        let left = |id: TaskId| {
            let over = !self.engine.is_wanted(id) || self.engine.settled(id).is_some();
            if over || graph[id].kind == NodeKind::Group {
                return 0.0;
            }
            let spent = self.attempts.at_work(id).map_or(0.0, |attempt| attempt.elapsed().as_secs_f64());
            (self.engine.expected_s(id) - spent).max(0.0)
        };
        self.records
            .is_begun()
            .then(|| eta::time_left(self.project, graph, self.engine.at_once(), left))
            .filter(|seconds| *seconds > 0.0)
    }

    /// After `--only`: readers of what changed are stale now.
    pub(super) fn tell_readers(&mut self) {
        let graph = self.engine.graph();
        let mut readers: Vec<String> = Vec::new();
        for &id in self.tally.changed() {
            let family = match graph[id].kind {
                NodeKind::Instance { family } => Some(family),
                _ => None,
            };
            for reader in graph[id].readers.iter().chain(family.iter().flat_map(|f| &graph[*f].readers)) {
                let name = &graph[*reader].name;
                if !self.engine.is_wanted(*reader) && !readers.contains(name) && self.read_other(*reader, id)
                {
                    readers.push(name.clone());
                }
            }
        }
        if !readers.is_empty() {
            let message = format!("made alone; what reads it is stale now: `{}`", readers.join("`, `"));
            self.tell(Kind::Note { task: None, message, warning: true });
        }
    }

    /// Whether a task is recorded as made from other outputs of `source` than there are now. A fan-out may be.
    fn read_other(&self, reader: TaskId, source: TaskId) -> bool {
        let graph = self.engine.graph();
        if graph[reader].kind == NodeKind::Family {
            return true;
        }
        let marker = |id: TaskId| Some(self.ctx.store.read_done(graph[id].outputs.first()?));
        let (Some(Marker::Valid(made)), Some(Marker::Valid(now))) = (marker(reader), marker(source)) else {
            return false;
        };
        made.inputs.iter().any(|input| {
            now.outputs.iter().any(|output| output.path == input.path && output.blake3 != input.blake3)
        })
    }
}
