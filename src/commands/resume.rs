//! `planexe resume`: says where a run goes on, then builds; or lets a paused build go on.

use clap::Args;

use crate::commands::Session;
use crate::commands::args::HowArgs;
use crate::ops::build::{Targets, ask_only, run_on};
use crate::ops::resume::refuse;
use crate::ops::status::{every_task, look};
use crate::ops::stop::building;
use planexe_base::exit::Error;
use planexe_engine::graph::TaskId;
use planexe_query::resume::resume_view;
use planexe_store::control::Control;
use planexe_store::index::Index;
use planexe_store::{LockError, Owner, Store};

/// What `planexe resume` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ResumeArgs {
    /// Only show where it would continue; changes nothing in the run, not even a time stamp
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
    if let Some(executor) = &args.how.executor {
        run_on(session, &mut opened, executor)?;
    }
    let (project, store) = (&opened.project, &opened.store);
    let seen = look(session, &opened, &Index::load(store), &every_task(&opened));
    if let Some(owner) = seen.owner.as_ref().filter(|_| !args.how.wait && !args.how.no_lock) {
        return Err(session.lock_error(&LockError::Held { owner: Some(owner.clone()) }));
    }
    refuse(&seen, args.force)?;
    let targets = project.default.iter().map(|&id| (id, None)).collect();
    let what = Targets { targets, ..Targets::default() };
    if dry_run {
        return session.show_plan(&opened, &what, &args.how, false);
    }
    let targets: Vec<TaskId> = project.default.clone();
    let header = resume_view(project, store, &seen.survey, &seen.standing, seen.phase, &targets);
    session.say(&header.text(&session.err));
    session.build(&opened, what, &args.how)
}

/// A build holds: lets it go on.
fn unpause(session: &Session, store: &Store, owner: &Owner, dry_run: bool) -> Result<u8, Error> {
    let build = format!("the build of process {}", owner.pid);
    if dry_run {
        return session.tell_steered(
            "resume",
            Some(owner.pid),
            &format!("{build} is paused and would continue"),
        );
    }
    store.ask(&Control::Pause(false))?;
    session.tell_steered("resume", Some(owner.pid), &format!("{build} continues"))
}
