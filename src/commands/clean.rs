//! `planexe clean`: makes tasks be made again, their outputs kept in history.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::{LockArgs, Session};
use crate::ops::clean::{CleanOptions, Goes, Going};
use crate::ops::names::find_parts;
use planexe_base::exit::{self, Error};
use planexe_base::style::{clean as harmless, count};
use planexe_query::selection::Units;
use planexe_ui::views::shell_word;

/// So many tasks are named to be restored.
const NAMED: usize = 8;

/// What `planexe clean` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CleanArgs {
    /// The tasks
    #[arg(value_name = "TASK", required_unless_present_any = ["orphans", "all"])]
    pub tasks: Vec<String>,

    /// Also everything downstream
    #[arg(long, visible_alias = "cascade")]
    pub downstream: bool,

    /// Files of tasks and items that are no longer in the pipeline
    #[arg(long)]
    pub orphans: bool,

    /// Every task
    #[arg(long, conflicts_with_all = ["tasks", "downstream"])]
    pub all: bool,

    /// Only list the files
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

impl CleanArgs {
    fn options(&self) -> CleanOptions {
        CleanOptions {
            tasks: self.tasks.clone(),
            downstream: self.downstream,
            orphans: self.orphans,
            all: self.all,
            dry_run: self.dry_run,
            lock: self.lock.options(),
        }
    }
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View<'a> {
    /// Whether it was done.
    cleaned: bool,
    /// What goes.
    tasks: &'a [Goes],
    /// Tasks that are done and that the next build makes again if what they read comes out different.
    remade_if_changed: &'a [String],
}

/// Cleans.
pub fn run(session: &Session, args: &CleanArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let ask = !args.dry_run && !args.yes;
    // An unknown name is told before the lack of a terminal.
    find_parts(&opened, &Units::new(&opened.project, &opened.store), &args.tasks)?;
    if ask && !session.in_is_terminal {
        return Err(Error::usage("there is no terminal to ask on, so nothing was cleaned")
            .code("needs_yes")
            .hint("`-y` cleans without asking; `--dry-run` lists what would go"));
    }
    let going = Going::find(session, &opened, &args.options())?;
    let (goes, remade) = (going.goes.clone(), going.remade.clone());
    let view = |cleaned| View { cleaned, tasks: &goes, remade_if_changed: &remade };
    if goes.is_empty() {
        session.say("nothing to clean");
    } else if args.dry_run || ask {
        let list = list(&goes);
        match args.dry_run {
            true if session.globals.json => {}
            true => session.print(&list)?,
            false => session.complain(list.trim_end()),
        }
        warn(session, &remade);
    }
    if goes.is_empty() || args.dry_run {
        if session.globals.json {
            session.print_answer(opened.store.run_dir(), &view(false))?;
        }
        return Ok(exit::DONE);
    }
    if ask && !session.confirm("Proceed?") {
        session.say("nothing was cleaned");
        return Ok(exit::STOPPED);
    }
    going.carry_out(session, &opened)?;
    if session.globals.json {
        session.print_answer(opened.store.run_dir(), &view(true))?;
    } else {
        if !ask {
            session.print(&list(&goes).replacen("Would delete:", "Deleted:", 1))?;
            warn(session, &remade);
        }
        session.say(&told(&goes));
    }
    Ok(exit::DONE)
}

fn list(goes: &[Goes]) -> String {
    let mut text = String::from("Would delete:\n");
    for one in goes {
        for file in &one.files {
            text += &format!("  {}\n", harmless(file));
        }
        if one.files.is_empty() {
            let answers = count(one.answers as u64, "kept answer");
            text += &format!("  {answers} of {}\n", harmless(&one.task));
        }
    }
    text
}

fn warn(session: &Session, remade: &[String]) {
    if !remade.is_empty() {
        session.say(&format!(
            "warning: a bare `planexe build` also makes again what reads it, if its content comes out different: {}",
            harmless(&remade.join(", "))
        ));
    }
}

fn told(goes: &[Goes]) -> String {
    let files: usize = goes.iter().map(|one| one.files.len()).sum();
    let tasks = count(goes.len() as u64, "task");
    let mut text = format!("cleaned {tasks}, {}", count(files as u64, "file"));
    let back: Vec<&Goes> =
        goes.iter().filter(|one| one.files.iter().any(|file| one.outputs.contains(file))).collect();
    let family = |one: &Goes| one.task.split('[').next().unwrap_or_default().to_owned();
    // Several items of a fan-out by its name.
    let mut names: Vec<(String, &str, usize)> = Vec::new();
    for one in &back {
        let name = family(one);
        match names.iter().position(|(known, ..)| *known == name) {
            Some(at) => names[at].2 += 1,
            None if names.len() > NAMED => break,
            None => names.push((name, &one.task, 1)),
        }
    }
    let words: Vec<String> = names
        .iter()
        .map(|(name, task, items)| shell_word(if *items == 1 { task } else { name.as_str() }))
        .collect();
    match (back.len(), words.len()) {
        (0, _) => {}
        (1, _) => text += &format!("; `planexe restore {}` brings it back", words[0]),
        (_, ..=NAMED) => text += &format!("; `planexe restore {}` brings them back", words.join(" ")),
        _ => text += &format!("; `planexe restore {}` brings that one back, and so each", words[0]),
    }
    text
}
