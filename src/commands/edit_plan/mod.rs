//! `planexe edit-plan`: edits the plan, shows which tasks that makes stale before anything runs, and keeps those
//! the user says to keep.
//!
//! The text is edited beside the plan, under `.planexe/edit/`, and judged from there. Until the question is
//! answered nothing else changes.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::{LockArgs, Session};
use crate::ops::edit_plan::{Answer, Found, PlanChange};
use crate::ops::names::find_task;
use crate::ops::plan_input::editable_plan;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs;
use planexe_base::style::clean;
use planexe_pipeline::open::Opened;
use planexe_query::selection::Unit;
use planexe_ui::views::edit_plan::EditPlanView;
use planexe_ui::views::shell_word;

mod editing;

use editing::{Edit, finish_in_peace};

/// What `planexe edit-plan` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct EditPlanArgs {
    /// Take the new text from a file (`-`: standard input) instead of an editor
    #[arg(long, value_name = "FILE")]
    pub set: Option<PathBuf>,

    /// Run everything again that the edit makes stale
    #[arg(long, group = "what")]
    pub all: bool,

    /// Keep everything that the edit makes stale, and mark it done for the new text
    #[arg(long, group = "what")]
    pub none: bool,

    /// Run TASK and everything downstream again, and keep the rest of what the edit makes stale
    #[arg(long, value_name = "TASK", group = "what")]
    pub invalidate_from: Option<String>,

    /// Run these again, and keep the rest of what the edit makes stale; may be repeated
    #[arg(long, value_name = "TASK", group = "what")]
    pub remake: Vec<String>,

    /// Only show what the edit makes stale; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Skip the prompt; implies --all unless another choice is given
    #[arg(short, long)]
    pub yes: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// Edits the plan.
pub fn run(session: &Session, args: &EditPlanArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let plan = editable_plan(&opened)?;
    let asked = asked_for(session, &opened, args)?;
    let mut lock = match args.dry_run {
        true => None,
        false => Some(session.lock(&opened, args.lock.wait, args.lock.no_lock)?),
    };
    let old = fs::linked::read(&opened.store.path(&plan))?;
    if let Some(lock) = &mut lock {
        session.announce(&opened, lock, "planexe edit-plan")?;
    }
    let mut edit = Edit::begin(session, &opened, &plan, &old, args.dry_run)?;
    let new = edit.new_text(session, args.set.as_deref(), &old)?;
    if new == old {
        if session.globals.json {
            session.print_answer(opened.store.run_dir(), &EditPlanView::unchanged(&plan))?;
        }
        session.say("the plan is as it was: nothing was changed");
        return Ok(exit::DONE);
    }
    if args.set.is_none() && new.trim_ascii().is_empty() {
        return Err(Error::new(Kind::Task, "the edited plan is empty: nothing was changed").code("empty"));
    }
    // A prompt could not show it. A plan that is no text is another matter.
    if let (Ok(_), Err(error)) = (str::from_utf8(&old), str::from_utf8(&new)) {
        let at = error.valid_up_to();
        let message = format!("the new plan is not UTF-8 at byte {at}: nothing was changed");
        return Err(edit.keep_text(Error::usage(message).code("not_utf8")));
    }
    let change = PlanChange { session, opened: &opened, plan: &plan, old: &old, new: &new };
    let dialogue = Dialogue { session, change };
    if args.dry_run {
        dialogue.only_show(&edit.path, asked)?;
        return Ok(exit::DONE);
    }
    let made = dialogue.make(&edit.path, asked).map_err(|error| edit.keep_text(error))?;
    drop(edit);
    drop(lock);
    match made {
        Some(made) => dialogue.tell(made),
        None => {
            session.say("nothing was changed");
            Ok(exit::STOPPED)
        }
    }
}

/// What the command line says is to be made again, if it does; an error if nobody else can.
fn asked_for(session: &Session, opened: &Opened, args: &EditPlanArgs) -> Result<Option<Answer>, Error> {
    let asked = answer_of(args);
    for name in asked.iter().flat_map(Answer::names) {
        find_task(opened, name)?;
    }
    let can_ask = session.in_is_terminal && args.set.as_deref() != Some(Path::new("-"));
    if asked.is_none() && !args.dry_run && !can_ask {
        return Err(Error::usage("there is no terminal to ask on, so nothing was changed").code("needs_yes").hint(
            "say what to make again: `--all`, `--none`, `--invalidate-from TASK`, `--remake TASK`; `-n` only shows",
        ));
    }
    Ok(asked)
}

fn answer_of(args: &EditPlanArgs) -> Option<Answer> {
    match (&args.invalidate_from, args.none, args.all || args.yes) {
        (Some(task), ..) => Some(Answer::From(task.clone())),
        _ if !args.remake.is_empty() => Some(Answer::Remake(args.remake.clone())),
        (_, true, _) => Some(Answer::None),
        (.., true) => Some(Answer::All),
        _ => None,
    }
}

/// A change of the plan, with who is asked about it.
struct Dialogue<'a> {
    session: &'a Session,
    change: PlanChange<'a>,
}

/// What a change came to.
struct Made {
    view: EditPlanView,
    /// What is made again though the edit does not touch it.
    again: Vec<Unit>,
}

impl Dialogue<'_> {
    /// `--dry-run`: tells what would be, and changes nothing.
    fn only_show(&self, edited: &Path, asked: Option<Answer>) -> Result<(), Error> {
        let session = self.session;
        let (found, mut view) = self.change.look(edited)?;
        if !session.globals.json {
            self.show(&view, false)?;
        }
        let again = match &asked {
            Some(answer) => found.settle(self.change.opened, &mut view, answer)?,
            None => Vec::new(),
        };
        if session.globals.json {
            session.print_answer(self.change.opened.store.run_dir(), &view)?;
        } else if asked.is_some() {
            session.print(&view.kept_text("would be kept"))?;
            session.print(&again_text(&again, "would be made again"))?;
        }
        Ok(())
    }

    /// Shows what the change makes stale, asks what of it is made again unless that was said, and changes the plan;
    /// none if nothing is to be changed. After an error the plan is as it was, or has its new text.
    fn make(&self, edited: &Path, asked: Option<Answer>) -> Result<Option<Made>, Error> {
        let (found, mut view) = self.change.look(edited)?;
        if !self.session.globals.json {
            self.show(&view, asked.is_none())?;
        }
        let again = match asked {
            Some(answer) => Some(found.settle(self.change.opened, &mut view, &answer)?),
            None => self.ask(&found, &mut view)?,
        };
        let Some(again) = again else { return Ok(None) };
        finish_in_peace();
        self.change.apply(&found, &view, &again)?;
        view.changed = true;
        Ok(Some(Made { view, again }))
    }

    fn show(&self, view: &EditPlanView, asking: bool) -> Result<(), Error> {
        let session = self.session;
        let on_terminal = session.in_is_terminal && !session.out_is_terminal();
        let shown = view.text(if on_terminal { &session.err } else { &session.out });
        if asking {
            session.complain(shown.trim_end())
        } else {
            session.print(&shown)?
        }
        Ok(())
    }

    /// Asks what is to be made again, until that can be done; none if nothing is to be changed. Returns what is made
    /// again though the edit does not touch it.
    fn ask(&self, found: &Found, view: &mut EditPlanView) -> Result<Option<Vec<Unit>>, Error> {
        let session = self.session;
        if found.is_empty() {
            return Ok(session.confirm("Change the plan?").then(Vec::new));
        }
        loop {
            let mut stderr = io::stderr().lock();
            let question =
                "Make again: (a)ll, (n)one, (f)rom TASK on, or tasks by name; (q)uit changes nothing: ";
            if write!(stderr, "{question}").and_then(|()| stderr.flush()).is_err() {
                return Ok(None);
            }
            drop(stderr);
            let mut line = String::new();
            if io::stdin().lock().read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let words: Vec<&str> = line.split([' ', ',']).map(str::trim).filter(|w| !w.is_empty()).collect();
            let answer = match words[..] {
                [] => continue,
                ["a" | "all"] => Answer::All,
                ["n" | "none"] => Answer::None,
                ["q" | "quit"] => return Ok(None),
                ["f" | "from", task] => Answer::From(task.to_owned()),
                _ => Answer::Remake(words.iter().map(|&word| word.to_owned()).collect()),
            };
            match found.settle(self.change.opened, view, &answer) {
                Ok(again) => return Ok(Some(again)),
                Err(error) => {
                    session.complain(&error.to_string());
                    error.hints.iter().for_each(|hint| session.complain(session.hint_here(hint).text()));
                }
            }
        }
    }

    /// Tells what was done, and what comes next.
    fn tell(&self, Made { view, again }: Made) -> Result<u8, Error> {
        let session = self.session;
        if session.globals.json {
            session.print_answer(self.change.opened.store.run_dir(), &view)?;
            return Ok(exit::DONE);
        }
        session.print(&view.kept_text("kept, marked done on the new text"))?;
        session.print(&again_text(&again, "to be made again, as asked"))?;
        session.say(&format!(
            "`{}` is changed; the former one is in history (`planexe restore {}`); {}",
            clean(self.change.plan),
            shell_word(self.change.plan),
            match view.stale.len() - view.kept.len() {
                0 => "nothing needs to be made again for it".to_owned(),
                _ => "`planexe build` makes again what is stale".to_owned(),
            }
        ));
        Ok(exit::DONE)
    }
}

/// A line for each task that is made again because it was named.
fn again_text(again: &[Unit], how: &str) -> String {
    again.iter().map(|unit| format!("{}: {how}\n", clean(&unit.name))).collect()
}
