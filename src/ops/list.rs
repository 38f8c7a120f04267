//! The runs in a folder, in a few words each.

use crate::ops::Base;
use crate::ops::plan_input::plan_file;
use crate::ops::status::{every_task, look, view};
use planexe_base::run_phase::RunPhase;
use planexe_pipeline::open::Opened;
use planexe_pipeline::runs::Found;
use planexe_store::index::Index;
use planexe_store::{RunLock, Store};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// So many runs are looked at at once.
const LOOKERS: usize = 4;

/// So much of a plan is shown.
const EXCERPT: usize = 120;

/// A run, in a few words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct RunRow {
    /// The name of its folder.
    pub plan_id: String,
    /// As in `status`; none if its pipeline cannot be read.
    pub phase: Option<RunPhase>,
    /// Steps that are done.
    pub steps_completed: u32,
    /// All steps.
    pub steps_total: u32,
    /// When it was made.
    pub created_utc: Option<String>,
    /// When anything last moved.
    pub last_progress_at: Option<String>,
    /// Name of the pipeline.
    pub pipeline: Option<String>,
    /// The profile it is built with.
    pub profile: Option<String>,
    /// A name for people.
    pub label: Option<String>,
    /// The run it was made from.
    pub parent: Option<String>,
    /// What it has cost so far, USD.
    pub cost_usd: Option<f64>,
    /// How the plan begins.
    pub prompt_excerpt: Option<String>,
    /// Why it failed, or cannot be read.
    pub problem: Option<String>,
}

/// Runs in a few words each, some at once.
pub fn rows(base: &Base, found: Vec<Found>) -> Vec<RunRow> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(vec![RunRow::default(); found.len()]);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(found) = found.get(at) else { break };
            let row = row(base, found);
            rows.lock()[at] = row;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..LOOKERS.min(found.len()) {
            // As deep as on the main thread: a run of any size can be looked at.
            let _ = std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, work);
        }
        work();
    });
    rows.into_inner()
}

fn row(base: &Base, found: &Found) -> RunRow {
    let session = base.session(&found.dir);
    let mut row =
        RunRow { plan_id: found.id.clone(), created_utc: found.created.clone(), ..RunRow::default() };
    match session.open(false) {
        Ok(opened) => {
            let seen = look(&session, &opened, &Index::load(&opened.store), &every_task(&opened));
            let status = view(&session, &opened, &seen);
            row.phase = Some(status.run.phase);
            row.steps_completed = status.steps_completed;
            row.steps_total = status.steps_total;
            row.last_progress_at = status.last_progress_at;
            row.pipeline = Some(status.run.pipeline);
            row.profile = opened.project.profile.clone();
            row.label = status.run.label;
            row.parent = status.run.parent;
            row.cost_usd = status.cost_usd;
            row.prompt_excerpt = excerpt(&opened);
            row.problem =
                status.error.map(|error| format!("{}: {}", error.failed_step, error.message.to_lines()));
        }
        // A build that goes on is seen all the same.
        Err(error) => {
            let store = Store::open(&found.dir);
            let building = RunLock::owner(&found.dir).is_some_and(|owner| owner.is_building());
            let recorded = store.read_run();
            row.phase = building.then_some(RunPhase::Running);
            row.pipeline = recorded.as_ref().and_then(|run| run.pipeline.clone());
            row.steps_total = recorded.and_then(|run| run.steps_total).unwrap_or(0);
            row.problem = error.message.lines().next().map(str::to_owned);
        }
    }
    row
}

/// How the plan begins, in one line.
pub fn excerpt(opened: &Opened) -> Option<String> {
    let plan = plan_file(opened)?;
    let (bytes, _) = planexe_base::fs::read_range(&plan, 0, 4 * EXCERPT as u64).ok()?;
    let text = String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(EXCERPT).collect();
    Some(if short.len() < text.len() { short + "…" } else { short })
}
