//! `planexe retry`: has failed tasks tried anew, with fresh answers and full budgets.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::args::HowArgs;
use crate::commands::{LockArgs, Session};
use crate::ops::build::{Targets, target_ids};
use crate::ops::retry::{Retried, RetryOptions, TakenUp, retry};
use planexe_base::exit::{self, Error};
use planexe_base::style::clean;
use planexe_build::jobserver::Asks;
use planexe_store::Store;

/// What `planexe retry` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RetryArgs {
    /// The tasks [default: all that failed]
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,

    /// Build at once
    #[arg(long)]
    pub build: bool,

    /// Only show what would be retried
    #[arg(short = 'n', long, conflicts_with = "build")]
    pub dry_run: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    /// Whether it was done.
    done: bool,
    /// Tasks that are tried anew.
    tasks: Vec<String>,
    /// By the build that runs; else by the next one.
    build_runs: bool,
    /// It runs, and has not looked yet: it may be suspended.
    pending: bool,
}

/// Tries anew.
pub fn run(session: &Session, args: &RetryArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let store = &opened.store;
    let options =
        RetryOptions { tasks: args.tasks.clone(), dry_run: args.dry_run, lock: args.lock.options() };
    let Retried { tasks, taken_up } = retry(session, &opened, &options)?;
    if tasks.is_empty() {
        return nothing(session, store);
    }
    // With `--build` the answer is that of the build, unless another one makes it.
    let build_runs = matches!(taken_up, TakenUp::Yes | TakenUp::Asked);
    if session.globals.json && (build_runs || !args.build) {
        let pending = taken_up == TakenUp::Asked;
        session.print_answer(store.run_dir(), &View { done: !args.dry_run, tasks, build_runs, pending })?;
        return Ok(exit::DONE);
    }
    let verb = if args.dry_run { "would be retried" } else { "is retried, with fresh answers" };
    for task in &tasks {
        session.say(&format!("{}: {verb}", clean(task)));
    }
    match taken_up {
        TakenUp::Yes => session.say("the running build continues with it"),
        TakenUp::Asked => session.say(
            "the running build does not answer at the moment: it continues with it when it does (was it suspended? `fg`)",
        ),
        TakenUp::Left => session.say("the running build is past it: it is retried by the next one"),
        TakenUp::No => {}
    }
    if build_runs {
        return Ok(exit::DONE);
    }
    if args.build {
        let how = HowArgs { wait: args.lock.wait, no_lock: args.lock.no_lock, ..HowArgs::default() };
        let what = Targets { targets: target_ids(&opened, &[])?, ..Targets::default() };
        return match session.make_asks {
            Some(asks) => session.show_plan(&opened, &what, &how, asks == Asks::Question),
            None => session.build(&opened, what, &how),
        };
    }
    if !args.dry_run {
        session.say("next: planexe build");
    }
    Ok(exit::DONE)
}

fn nothing(session: &Session, store: &Store) -> Result<u8, Error> {
    session.say("no task failed: there is nothing to retry");
    if session.globals.json {
        let view = View { done: false, tasks: Vec::new(), build_runs: false, pending: false };
        session.print_answer(store.run_dir(), &view)?;
    }
    Ok(exit::DONE)
}
