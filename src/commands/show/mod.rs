//! `planexe show`: the prompt a task was sent, its answers and their verdicts, what its command said.

use clap::Args;

use crate::commands::Session;
use crate::ops::explain::instance;
use crate::ops::names::find_task;
use crate::ops::show::{add_parts, choose, view};
use crate::ops::status::look;
use planexe_base::exit::{self, Error};
use planexe_base::style::clean_lines;
use planexe_engine::graph::Kind;
use planexe_store::index::Index;

mod follow;

use follow::follow;

/// What `planexe show` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ShowArgs {
    /// The task, an output of it, or one instance: `review[ann]`
    #[arg(value_name = "TASK")]
    pub task: String,

    /// The call to show, by its number in the list [default: the one in use, else the last]
    #[arg(long, value_name = "N")]
    pub call: Option<usize>,

    /// Print only the prompt
    #[arg(long, group = "only")]
    pub prompt: bool,

    /// Print only the system prompt
    #[arg(long, group = "only")]
    pub system: bool,

    /// Print only the answer, as received
    #[arg(long, group = "only")]
    pub answer: bool,

    /// Print only the command's output
    #[arg(long, group = "only")]
    pub log: bool,

    /// Follow the answer, or the command's output, as it is written, until the task ends
    #[arg(long, conflicts_with_all = ["only", "call"])]
    pub follow: bool,
}

/// Shows what is kept of a task.
pub fn run(session: &Session, args: &ShowArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let named = find_task(&opened, &args.task)?;
    let seen = look(session, &opened, &Index::load(&opened.store), &[(named.task, None)]);
    let id = instance(&seen.survey.graph, &named)?;
    let task = &seen.survey.graph[id];
    if task.kind == Kind::Family {
        let first = seen.survey.graph.instances(id).first().map(|id| seen.survey.graph[*id].name.clone());
        let error = Error::usage(format!("`{}` is a fan-out: name one of its items", task.name));
        let hint = |name| format!("`planexe show {}`", planexe_ui::views::shell_word(name));
        return Err(first.iter().fold(error, |error, name| error.hint(hint(name))));
    }
    if args.follow {
        let complete = seen.standing.of(id).is_some_and(|view| view.state.is_complete());
        return follow(session, &opened, task, complete);
    }
    let mut view = view(session, &opened, &seen, id);
    let calls = opened.store.calls().list(&task.name)?;
    choose(&mut view, &calls, args.call)?;
    add_parts(&mut view, &opened, &seen, id);
    for (wanted, body, name) in [
        (args.prompt, &view.prompt, "prompt"),
        (args.system, &view.system, "system prompt"),
        (args.answer, &view.answer, "answer"),
        (args.log, &view.log, "log"),
    ] {
        if wanted {
            let missing = || Error::usage(format!("no {name} of `{}` is kept", task.name)).code("not_kept");
            let body = body.as_ref().ok_or_else(missing)?;
            // Into a file or a program as it came; a terminal is not to be steered by it.
            let body = if session.out_is_terminal() { clean_lines(body) } else { body.clone() };
            session.print(&body)?;
            return Ok(exit::DONE);
        }
    }
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out))?;
    }
    Ok(exit::DONE)
}
