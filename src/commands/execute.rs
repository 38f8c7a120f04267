//! `planexe execute`: makes a finished plan into a project of work.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use signal_hook::consts::SIGINT;

use crate::commands::{Session, complain};
use crate::ops::execute::{ExecuteOptions, Executed, execute};
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::signals;
use planexe_base::style::{clean, count};
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_plan_execution::rules::{Approve, By};

/// Lines of what could not be used that are told.
const TOLD: usize = 8;

/// Who does what no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A model writes what each step is to deliver.
    Ai,
    /// A person does each step.
    Human,
}

/// What needs a person's approval before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ApproveArg {
    /// Each phase.
    Phases,
}

/// What `planexe execute` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ExecuteArgs {
    /// The run of the plan [default: the one here or above, or that of -C]
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// The folder of the project: a new one, or an existing project to update [default: RUN-execution]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,

    /// Assign every step to ai or human, instead of by the rule
    #[arg(long, value_name = "WHO", value_enum, hide_possible_values = true)]
    pub kind: Option<KindArg>,

    /// Have a person let each phase begin
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    #[arg(help = "Require manual approval before each: phases")]
    pub approve: Option<ApproveArg>,

    /// Make the project a git repository, and commit every completed step
    #[arg(long)]
    pub git: bool,

    /// Continue despite a no-go, and overwrite files edited by hand (their contents go to history) and links
    #[arg(long)]
    pub force: bool,

    /// Show what would be made; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Makes the project.
pub fn run(session: &Session, args: &ExecuteArgs) -> Result<u8, Error> {
    if args.git && !args.dry_run {
        end_git_too()?;
    }
    let executed = execute(session, &args.options())?;
    if session.globals.json {
        session.print_answer(&fs::resolved(&executed.dir), &executed.view)?;
    } else {
        tell(session, &executed);
    }
    Ok(exit::DONE)
}

/// From now on no git outlives planexe: a first Ctrl-C lets it finish, a second one or another signal ends both.
fn end_git_too() -> Result<(), Error> {
    let signals = signals::listen()?;
    let tell = move || {
        if signals.forever().any(|signal| signal == SIGINT) {
            complain("stopping: git will finish first; press Ctrl-C again to stop at once");
        }
    };
    // Where there is no thread for it, a first Ctrl-C ends both, as nobody listens.
    let _ = std::thread::Builder::new().name("stopping".to_owned()).spawn(tell);
    Ok(())
}

impl ExecuteArgs {
    fn options(&self) -> ExecuteOptions {
        ExecuteOptions {
            run: self.run.clone(),
            into: self.into.clone(),
            kind: self.kind.map(|kind| match kind {
                KindArg::Ai => By::Ai,
                KindArg::Human => By::Human,
            }),
            approve: self.approve.map(|ApproveArg::Phases| Approve::Phases),
            git: self.git,
            force: self.force,
            dry_run: self.dry_run,
        }
    }
}

fn tell(session: &Session, Executed { dir, is_new, view }: &Executed) {
    let shown = shown_path(dir);
    let made = match (view.dry_run, is_new) {
        (true, _) => "would make",
        (false, true) => "made",
        (false, false) if view.written.is_empty() && view.removed.is_empty() => "nothing to change in",
        (false, false) => "made again",
    };
    session.say(&format!(
        "{made} the project `{shown}`: {} in {} and {}",
        count(view.steps as u64, "step"),
        count(view.tasks as u64, "task"),
        count(view.phases as u64, "phase"),
    ));
    session.say(&format!(
        "  {} for a model to write, {} for a program, {} for a person",
        view.ai, view.command, view.human
    ));
    for line in view.dropped.iter().take(TOLD) {
        session.complain(&format!("warning: not used: {}", clean(line)));
    }
    if view.dropped.len() > TOLD {
        session.complain(&format!("warning: and {} more, see README.md there", view.dropped.len() - TOLD));
    }
    if !is_new && !view.written.is_empty() {
        let removed =
            if view.removed.is_empty() { String::new() } else { format!(", {} removed", view.removed.len()) };
        session.say(&format!(
            "  {} written, {} as they were{removed}",
            count(view.written.len() as u64, "file"),
            view.unchanged
        ));
    }
    for path in &view.overwritten {
        session
            .complain(&format!("warning: `{}` was edited by hand: what it held is in history", clean(path)));
    }
    for path in &view.links {
        let path = clean(path);
        session.complain(&format!("warning: `{path}` was a link: what it leads to is left alone"));
    }
    session.say("next:");
    for step in &view.next {
        session.say(&format!("  {step}"));
    }
}
