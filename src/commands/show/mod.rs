//! `planexe show`: the prompt a task was sent, its answers and their verdicts, what its command said.

use clap::Args;

use crate::commands::Session;
use crate::ops::explain::instance;
use crate::ops::names::find_task;
use crate::ops::status::look;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::record::Marker;
use planexe_base::style::{DisplayState, clean_lines};
use planexe_engine::graph::{Kind, TaskId};
use planexe_pipeline::open::Opened;
use planexe_store::index::Index;
use planexe_store::task_dir_name;
use planexe_ui::views::{ShowView, call_views};

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

/// The most of a command's log that is shown.
const LOG: u64 = 4 << 20;

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

/// Everything but the texts of a call.
fn view(session: &Session, opened: &Opened, seen: &crate::ops::status::Seen, id: TaskId) -> ShowView {
    let task = &seen.survey.graph[id];
    let standing = seen.standing.of(id);
    let judgement = seen.survey.judgements.get(&id);
    let in_use = judgement.and_then(|judgement| match &judgement.marker {
        Marker::Valid(done) => done.call.clone(),
        _ => None,
    });
    let calls = opened.store.calls().list(&task.name).unwrap_or_default();
    let log = opened.store.planexe_dir().join("logs").join(format!("{}.log", task_dir_name(&task.name)));
    let log = fs::read_tail(&log, LOG).ok().map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned());
    let prepared = judgement.and_then(|judgement| judgement.prepared.as_ref());
    let recipe = &opened.project.spec(task).recipe;
    let sent = prepared.filter(|_| recipe.prompt().is_some());
    ShowView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        task: task.name.clone(),
        recipe: recipe.name().to_owned(),
        state: standing.map_or(DisplayState::Pending, |view| view.state),
        by: standing.and_then(|view| view.by.clone()),
        by_user: standing.and_then(|view| view.by_user.clone()),
        calls: call_views(&calls, in_use.as_deref()),
        shown: None,
        system: sent.map(|prepared| prepared.system.clone()).filter(|text| !text.is_empty()),
        prompt: sent.map(|prepared| prepared.prompt.clone()),
        answer: None,
        log,
        outputs: standing.map(|view| view.outputs.clone()).unwrap_or_default(),
        isolation: standing.and_then(|view| view.isolation.clone()),
    }
}

/// Puts the texts of a call in: the one that was asked for, the one in use, or the last.
fn choose(
    view: &mut ShowView,
    calls: &[planexe_store::KeptCall],
    wanted: Option<usize>,
) -> Result<(), Error> {
    let number = match wanted {
        Some(number) if (1..=calls.len()).contains(&number) => number,
        Some(number) => {
            let text = format!("`{}` has no call {number}: {} are kept", view.task, calls.len());
            return Err(Error::usage(text).code("not_kept"));
        }
        None => {
            let in_use = view.calls.iter().find(|call| call.verdict == "in_use").map(|call| call.number);
            // What its evaluator was asked is shown by its number.
            let own = view.calls.iter().rev().find(|call| !call.evaluation).map(|call| call.number);
            match in_use.or(own).or(view.calls.last().map(|call| call.number)) {
                Some(number) => number,
                None => return Ok(()),
            }
        }
    };
    let record = &calls[number - 1].record;
    view.shown = Some(number);
    view.system = Some(record.request.system.clone()).filter(|text| !text.is_empty());
    view.prompt = Some(record.request.prompt.clone());
    view.answer = match (&record.reply, &record.error) {
        (Some(reply), _) => Some(reply.text.clone()),
        (None, Some(error)) => Some(error.partial.clone()).filter(|text| !text.is_empty()),
        (None, None) => None,
    };
    Ok(())
}
