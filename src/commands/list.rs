//! `planexe list`: the runs in a folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use serde::Serialize;

use crate::commands::status::{every_task, look, view};
use crate::commands::{Base, Session};
use planexe_base::exit::{self, Error};
use planexe_base::style::{Rgb, Shown, Style, clean, money};
use planexe_pipeline::open::Opened;
use planexe_pipeline::runs::{Found, Runs};
use planexe_store::index::Index;
use planexe_store::{RunLock, Store};
use planexe_ui::views::{Server, table, time};

/// So many runs are looked at at once.
const LOOKERS: usize = 4;
/// So much of a plan is shown.
const EXCERPT: usize = 120;

/// What `planexe list` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// The folder that holds the runs [default: runs, if it is there, else this folder]
    #[arg(value_name = "ROOT")]
    pub root: Option<PathBuf>,

    /// Those put aside by `planexe archive` instead
    #[arg(long)]
    pub archived: bool,

    /// Only the newest N
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// A run, in a few words.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunRow {
    /// The name of its folder.
    pub plan_id: String,
    /// As in `status`; none if its pipeline cannot be read.
    pub phase: Option<String>,
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

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View<'a> {
    schema: u32,
    server: Server,
    /// The folder.
    root: String,
    /// How many there are in all.
    total: usize,
    runs: &'a [RunRow],
}

/// Lists runs.
pub fn run(session: &Session, args: &ListArgs) -> Result<u8, Error> {
    let root = args.root.clone().unwrap_or_else(|| {
        let usual = PathBuf::from("runs");
        if usual.is_dir() { usual } else { PathBuf::from(".") }
    });
    if !root.is_dir() {
        return Err(Error::usage(format!("there is no folder `{}`", root.display()))
            .code("no_folder")
            .hint("`planexe new runs/NAME` makes a run in the folder `runs`"));
    }
    let runs = Runs::of(&root);
    let found = runs.list(args.archived)?;
    let total = found.len();
    let rows = rows(&session.base(), found.into_iter().take(args.limit.unwrap_or(usize::MAX)).collect());
    if session.globals.json {
        let (schema, server, root) =
            (planexe_ui::views::SCHEMA, session.server(), runs.root().display().to_string());
        session.print_json(&View { schema, server, root, total, runs: &rows })?;
        return Ok(exit::DONE);
    }
    if rows.is_empty() {
        let which = if args.archived { "archived runs" } else { "runs" };
        session.say(&format!("no {which} in `{}`", clean(&root.display().to_string())));
        return Ok(exit::DONE);
    }
    let head = ["run", "phase", "done", "cost", "made", "plan"].map(|head| session.out.dim(head)).to_vec();
    let lines = rows.iter().map(|row| line(row, &session.out));
    let mut lines: Vec<Vec<String>> = std::iter::once(head).chain(lines).collect();
    // Local models cost nothing.
    if lines[1..].iter().all(|cells| cells[3].is_empty()) {
        lines.iter_mut().for_each(|cells| drop(cells.remove(3)));
    }
    session.print(&table(&lines, &session.out))?;
    if rows.len() < total {
        session.say(&format!("{} of {total}", rows.len()));
    }
    Ok(exit::DONE)
}

/// The colour that `status` gives a state like this.
fn colour(phase: &str) -> Rgb {
    let like = match phase {
        "completed" => Shown::Done,
        "running" => Shown::Running,
        "failed" | "unreadable" => Shown::Failed,
        "never_started" => Shown::Pending,
        _ => Shown::Stopped,
    };
    like.colour()
}

fn line(row: &RunRow, style: &Style) -> Vec<String> {
    let phase = row.phase.as_deref().unwrap_or("unreadable");
    let problem = row.problem.as_ref().filter(|_| row.phase.is_none());
    let what = problem.or(row.label.as_ref()).or(row.prompt_excerpt.as_ref()).map(|text| clean(text));
    vec![
        clean(&row.plan_id),
        style.paint(colour(phase), &phase.replace('_', " ")),
        format!("{}/{}", row.steps_completed, row.steps_total),
        row.cost_usd.filter(|usd| *usd > 0.0).map_or(String::new(), money),
        row.created_utc.as_deref().map_or(String::new(), |at| time(at).chars().take(16).collect()),
        what.unwrap_or_default(),
    ]
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
            rows.lock().unwrap_or_else(PoisonError::into_inner)[at] = row;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..LOOKERS.min(found.len()) {
            // As deep as on the main thread: a run of any size can be looked at.
            let _ = std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, work);
        }
        work();
    });
    rows.into_inner().unwrap_or_else(PoisonError::into_inner)
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
            row.problem = status.error.map(|error| format!("{}: {}", error.failed_step, error.message));
        }
        // A build that goes on is seen all the same.
        Err(error) => {
            let store = Store::open(&found.dir);
            let building = RunLock::owner(&found.dir).is_some_and(|owner| owner.is_building());
            let recorded = store.read_run();
            row.phase = building.then(|| "running".to_owned());
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

/// The file of the plan, if the pipeline says which, and it is in the run.
pub fn plan_file(opened: &Opened) -> Option<PathBuf> {
    let tables = &opened.project.tables;
    let plan = tables.pipeline.plan.as_deref()?;
    let plan = planexe_pipeline::manifest::paths::substitute_vars(plan, &tables.vars).ok()?;
    let path = opened.store.path(&plan);
    (path.is_file() && planexe_base::fs::resolves_inside(opened.store.run_dir(), Path::new(&path)))
        .then_some(path)
}
