//! `planexe restore`: brings former outputs back.

use clap::Args;

use crate::commands::{LockArgs, Session};
use crate::ops::restore::{Back, Chosen, GONE, RestoreView, to_checkpoint, to_versions};
use planexe_base::exit::{self, Error};
use planexe_base::style::{bytes, clean, count};
use planexe_query::history_view::{self, Version, why_text};
use planexe_store::rewind::Rewind;
use planexe_ui::views::{shell_word, time};

/// What `planexe restore` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RestoreArgs {
    /// The tasks; `TASK@N` for the Nth version as `planexe history` counts them [default: the latest that differs]
    #[arg(value_name = "TASK[@N]", required_unless_present = "checkpoint")]
    pub tasks: Vec<String>,

    /// All outputs as they were at a checkpoint
    #[arg(long, value_name = "ID", conflicts_with = "tasks")]
    pub checkpoint: Option<String>,

    /// Only show what would change
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// Brings former outputs back.
pub fn run(session: &Session, args: &RestoreArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let mut lock =
        if args.dry_run { None } else { Some(session.lock(&opened, args.lock.wait, args.lock.no_lock)?) };
    let run_dir = opened.store.run_dir();
    let typed = args.checkpoint.is_none().then_some(&args.tasks[..]);
    let view = match &args.checkpoint {
        Some(id) => {
            let (view, plan) = to_checkpoint(session, &opened, id, lock.as_mut())?;
            if !session.globals.json {
                tell_checkpoint(session, &plan, args.dry_run)?;
            }
            view
        }
        None => {
            let (view, chosen) = to_versions(session, &opened, &args.tasks, lock.as_mut())?;
            if !session.globals.json {
                tell_versions(session, &chosen, args.dry_run)?;
            }
            view
        }
    };
    if session.globals.json {
        session.print_answer(run_dir, &view)?;
    } else {
        tell_stale(session, &view, typed);
    }
    Ok(exit::DONE)
}

fn tell_versions(session: &Session, chosen: &[Chosen], dry_run: bool) -> Result<(), Error> {
    for (_, version) in chosen {
        session.print(&told(version, dry_run))?;
    }
    Ok(())
}

fn told(version: &Version, dry_run: bool) -> String {
    let entry = &version.entry;
    let verb = if dry_run { "would restore" } else { "restored" };
    let from = match &version.name {
        Some(name) => format!("{} of {} ({})", clean(name), time(&entry.at), why_text(entry.why)),
        None => format!("what was recorded {}, before it was edited by hand", time(&entry.at)),
    };
    let files: Vec<String> = entry
        .outputs
        .iter()
        .map(|output| format!("{} ({})", clean(&output.path), bytes(output.bytes)))
        .collect();
    format!("{verb} {}: {from}\n", files.join(", "))
}

fn tell_checkpoint(session: &Session, plan: &Rewind, dry_run: bool) -> Result<(), Error> {
    if plan.back.is_empty() && plan.pending.is_empty() {
        session.say("all outputs are as they were then");
    }
    let (restored, made_pending) =
        if dry_run { ("would restore", "would be pending") } else { ("restored", "pending") };
    for checkpoint in &plan.back {
        let files: Vec<String> = checkpoint.outputs.iter().map(|output| clean(&output.path)).collect();
        session.print(&format!("{restored} {}\n", files.join(", ")))?;
    }
    for (task, _) in &plan.pending {
        session.print(&format!("{made_pending}: {}\n", clean(task)))?;
    }
    let later = count(plan.dropped as u64, "later checkpoint");
    let went = if dry_run { "would be dropped" } else { "dropped" };
    session.say(&format!(
        "checkpoint {} ({}, {}); {later} {went}",
        plan.to.id,
        clean(&plan.to.task),
        time(&plan.to.time_utc)
    ));
    Ok(())
}

/// Says what the next build makes of it, and how to keep it all the same.
fn tell_stale(session: &Session, view: &RestoreView, typed: Option<&[String]>) {
    if !view.git_stays.is_empty() {
        session.say(&format!(
            "note: git is not moved: what was merged of {} stays on its base; `git log` has it, and `git revert -m 1 COMMIT` takes \
             a merge back",
            clean(&view.git_stays.join(", "))
        ));
    }
    let gone: Vec<&Back> = view.restored.iter().filter(|back| back.stale.as_deref() == Some(GONE)).collect();
    let and_more = |all: &[&Back]| match all.len() {
        0 | 1 => (String::new(), "is", "it"),
        n => (format!(" and {}", count(n as u64 - 1, "other")), "are", "them"),
    };
    if let Some(first) = gone.first() {
        let (more, are, them) = and_more(&gone);
        session.say(&format!(
            "note: {}{more} {are} not in the pipeline, so no build makes or reads {them}",
            clean(&first.task)
        ));
    }
    let stale: Vec<&Back> =
        view.restored.iter().filter(|back| back.stale.as_deref().is_some_and(|why| why != GONE)).collect();
    let Some(first) = stale.first() else { return };
    let (more, _, them) = and_more(&stale);
    let keep = match typed {
        Some(typed) if stale.iter().all(|back| back.touchable) => {
            let name = |typed: &String| {
                shell_word(history_view::split(typed).map_or(typed.as_str(), |(name, _)| name))
            };
            let names: Vec<String> = typed.iter().map(name).collect();
            format!("; `planexe touch {}` keeps {them}", names.join(" "))
        }
        _ => String::new(),
    };
    session.say(&format!(
        "note: the next build makes {}{more} again ({}){keep}",
        clean(&first.task),
        clean(first.stale.as_deref().unwrap_or_default())
    ));
}
