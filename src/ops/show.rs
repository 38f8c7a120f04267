//! What a task was sent and what came back.

use crate::ops::Session;
use crate::ops::status::Seen;
use planexe_base::exit::Error;
use planexe_base::fs;
use planexe_base::record::{Marker, State};
use planexe_engine::graph::TaskId;
use planexe_pipeline::open::Opened;
use planexe_query::prompt_parts::{Given, prompt_parts};
use planexe_store::task_dir_name;
use planexe_ui::views::{ShowView, call_views};

/// The most of a command's log that is shown.
const LOG: u64 = 4 << 20;

/// Everything but the texts of a call.
pub fn view(session: &Session, opened: &Opened, seen: &Seen, id: TaskId) -> ShowView {
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
        state: standing.map_or(State::Pending, |view| view.state),
        by: standing.and_then(|view| view.by.clone()),
        by_user: standing.and_then(|view| view.by_user.clone()),
        calls: call_views(&calls, in_use.as_deref()),
        shown: None,
        system: sent.map(|prepared| prepared.system.to_string()).filter(|text| !text.is_empty()),
        prompt: sent.map(|prepared| prepared.prompt.to_string()),
        parts: Vec::new(),
        answer: None,
        log,
        outputs: standing.map(|view| view.result.outputs.clone()).unwrap_or_default(),
        isolation: standing.and_then(|view| view.isolation.clone()),
    }
}

/// Which lines of the prompt came from which input. What an evaluator is asked has inputs of its own, and is left out.
pub fn add_parts(view: &mut ShowView, opened: &Opened, seen: &Seen, id: TaskId) {
    let task = &seen.survey.graph[id];
    let prepared = seen.survey.judgements.get(&id).and_then(|judgement| judgement.prepared.as_ref());
    let own = opened.project.spec(task).recipe.prompt();
    let shown = view.shown.and_then(|number| view.calls.get(number - 1));
    if shown.is_some_and(|call| call.evaluation) {
        return;
    }
    let (Some(text), Some(own), Some(prepared)) = (&view.prompt, own, prepared) else { return };
    let mut given: Vec<Given> = prepared
        .inputs
        .texts(&opened.project)
        .map(|(name, text, json)| Given { name: name.to_owned(), text, json })
        .collect();
    if let Some(item) = &task.item {
        let text = serde_json::to_string(&item.value).unwrap_or_default();
        given.push(Given { name: "item".into(), text, json: true });
    }
    view.parts = prompt_parts(text, &own.prompt.source.text, &given);
}

/// Puts the texts of a call in: the one that was asked for, the one in use, or the last.
pub fn choose(
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
