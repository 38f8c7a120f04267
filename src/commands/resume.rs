//! `planexe resume`: says where a run goes on, then builds; or lets a paused build go on.

use clap::Args;

use crate::commands::Session;
use crate::commands::build::{HowArgs, What, ask_only, carry_out};
use crate::commands::plan;
use crate::commands::status::{Seen, every_task, look};
use crate::commands::stop::{building, tell};
use planexe_base::exit::{Error, Kind};
use planexe_base::style::{self, Shown};
use planexe_engine::graph::TaskId;
use planexe_query::resume::resume_view;
use planexe_store::control::Control;
use planexe_store::index::Index;
use planexe_store::{LockError, Owner, Store};

/// What `planexe resume` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ResumeArgs {
    /// Only say where it would go on: changes nothing in the run, not even a time stamp
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Go on with a run that was aborted
    #[arg(long)]
    pub force: bool,

    /// How the build is carried out.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Resumes.
pub fn run(session: &Session, args: &ResumeArgs) -> Result<u8, Error> {
    let dry_run = args.dry_run || session.make_asks.is_some();
    let opened = session.open(false);
    let records = match &opened {
        Ok(opened) => opened.store.clone(),
        Err(_) => session.records(false)?,
    };
    if let Some(owner) = building(&records).filter(|_| records.is_paused()) {
        return unpause(session, &records, &owner, dry_run);
    }
    let mut opened = opened?;
    if let Some(model) = &args.how.model {
        ask_only(&mut opened, model)?;
    }
    let (project, store) = (&opened.project, &opened.store);
    let seen = look(session, &opened, &Index::load(store), &every_task(&opened));
    if let Some(owner) = seen.owner.as_ref().filter(|_| !args.how.wait && !args.how.no_lock) {
        return Err(session.lock_error(&LockError::Held { owner: Some(owner.clone()) }));
    }
    refuse(&seen, args.force)?;
    let targets = project.default.iter().map(|&id| (id, None)).collect();
    let what = What { targets, ..What::default() };
    if dry_run {
        return plan::run(session, &opened, &what, &args.how, false);
    }
    let targets: Vec<TaskId> = project.default.clone();
    let header = resume_view(project, store, &seen.survey, &seen.standing, seen.phase, &targets);
    session.say(&header.text(&session.err));
    carry_out(session, &opened, what, &args.how)
}

/// A build holds: lets it go on.
fn unpause(session: &Session, store: &Store, owner: &Owner, dry_run: bool) -> Result<u8, Error> {
    let build = format!("the build of process {}", owner.pid);
    if dry_run {
        return tell(session, "resume", Some(owner.pid), &format!("{build} is paused and would go on"));
    }
    store.ask(&Control::Pause(false))?;
    tell(session, "resume", Some(owner.pid), &format!("{build} goes on"))
}

/// Runs with which there is nothing to go on: each with a code and the next command to type.
pub fn refuse(seen: &Seen, force: bool) -> Result<(), Error> {
    match seen.phase {
        "never_started" => Err(Error::new(Kind::Refused, "the run was never started")
            .code("never_started")
            .hint("`planexe build` starts it")),
        "aborted" if !force => Err(Error::new(Kind::Refused, "the run was aborted")
            .code("aborted")
            .hint("`planexe resume --force` goes on with it all the same")),
        "completed" => {
            let stale =
                |task: &&planexe_ui::views::TaskView| matches!(task.state, Shown::Stale | Shown::Damaged);
            let error = |message: String| Error::new(Kind::Refused, message).code("already_complete");
            let is_partial = seen.standing.declared().any(|task| task.partial == Some(true));
            Err(match seen.standing.declared().filter(stale).count() {
                0 if is_partial => error("the run is complete, but for items that failed".to_owned())
                    .hint("`planexe build` tries those again"),
                0 => error("the run is complete".to_owned()).hint("`planexe build -B` makes all of it again"),
                count => error(format!(
                    "the run is complete, and {} stale since",
                    match count {
                        1 => "1 task is".to_owned(),
                        many => format!("{} are", style::count(many as u64, "task")),
                    }
                ))
                .hint("`planexe build` makes what is stale"),
            })
        }
        _ => Ok(()),
    }
}
