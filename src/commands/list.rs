//! `planexe list`: the runs in a folder.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::list::{RunRow, rows};
use planexe_base::exit::{self, Error};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_base::style::{Rgb, Style, clean, money};
use planexe_pipeline::runs::Runs;
use planexe_ui::views::{Server, table, time};

/// What `planexe list` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// The folder of the runs [default: runs, if it exists, else this folder]
    #[arg(value_name = "ROOT")]
    pub root: Option<PathBuf>,

    /// List archived runs instead
    #[arg(long)]
    pub archived: bool,

    /// Only the newest N
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View<'a> {
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
    let runs = Runs::new(&root);
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
fn colour(phase: Option<RunPhase>) -> Rgb {
    let like = match phase {
        Some(RunPhase::Completed) => State::Done,
        Some(RunPhase::Running) => State::Running,
        Some(RunPhase::Failed) | None => State::Failed,
        Some(RunPhase::NeverStarted) => State::Pending,
        Some(_) => State::Stopped,
    };
    like.colour()
}

fn line(row: &RunRow, style: &Style) -> Vec<String> {
    let phase = row.phase.map_or("unreadable".to_owned(), |phase| phase.to_string());
    let problem = row.problem.as_ref().filter(|_| row.phase.is_none());
    let what = problem.or(row.label.as_ref()).or(row.prompt_excerpt.as_ref()).map(|text| clean(text));
    vec![
        clean(&row.plan_id),
        style.paint(colour(row.phase), &phase),
        format!("{}/{}", row.steps_completed, row.steps_total),
        row.cost_usd.filter(|usd| *usd > 0.0).map_or(String::new(), money),
        row.created_utc.as_deref().map_or(String::new(), |at| time(at).chars().take(16).collect()),
        what.unwrap_or_default(),
    ]
}
