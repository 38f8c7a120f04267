//! What the page asks for. Each answer is what the command of the same name prints with `--json`.

use serde_json::{Value, json};

use super::http::{Answer, Refused, Request};
use super::{Server, Subject};
use crate::ops::Session;
use crate::ops::explain::instance;
use crate::ops::list::rows;
use crate::ops::names::find_task;
use crate::ops::plan_input::plan_file;
use crate::ops::report::{failures, judged_graph, room};
use crate::ops::status::{Seen, every_task, look, view};
use planexe_base::exit::Error;
use planexe_base::fs;
use planexe_engine::graph::{Graph, Kind, TaskId};
use planexe_pipeline::open::Opened;
use planexe_pipeline::runs::Runs;
use planexe_query::history_view;
use planexe_query::selection::Units;
use planexe_query::timeline::timeline;
use planexe_store::index::Index;
use planexe_ui::page;
use planexe_ui::views::{GraphView, StatusView, UsageView, diff};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most of a text that is sent.
const LONGEST: usize = 1 << 20;
/// What was seen is true for so long.
const MOMENT: Duration = Duration::from_millis(200);
/// The most of a plan.
const PLAN: u64 = 4 << 20;

/// Answers what is only read.
pub(super) fn answer(server: &Server, request: &Request, name: &str) -> Result<Answer, Refused> {
    match name {
        "about" => about(server),
        "runs" => runs(server),
        "status" | "graph" | "graph.svg" | "timeline" | "timeline.svg" | "failures" | "usage" | "task"
        | "plan" => {
            let session = server.session(request)?;
            let answered =
                session.open(false).and_then(|opened| of_run(server, &session, &opened, request, name));
            answered.map_err(|error| Refused::from_error(&error))
        }
        _ => Err(Refused::new(404, "there is nothing of this name")),
    }
}

/// What was seen of a run.
pub(super) struct Looked {
    run: PathBuf,
    begun: Instant,
    ended: Instant,
    status: Arc<StatusView>,
    graph: Arc<GraphView>,
}

/// How a run stands: as seen since this was asked, or a moment before. So a page and its picture cost one look, and so do
/// two pages.
fn stand(server: &Server, session: &Session, opened: &Opened) -> (Arc<StatusView>, Arc<GraphView>) {
    let asked = Instant::now();
    let run = opened.store.run_dir();
    let mut looked = server.looked.lock();
    if let Some(known) = looked.as_ref().filter(|known| known.run == run)
        && (known.begun >= asked || known.ended.elapsed() < MOMENT)
    {
        return (known.status.clone(), known.graph.clone());
    }
    let begun = Instant::now();
    let status =
        view(session, opened, &look(session, opened, &Index::load(&opened.store), &every_task(opened)));
    let graph = Arc::new(judged_graph(session, opened, &status));
    let status = Arc::new(status);
    let (run, ended) = (run.to_owned(), Instant::now());
    *looked = Some(Looked { run, begun, ended, status: status.clone(), graph: graph.clone() });
    (status, graph)
}

fn about(server: &Server) -> Result<Answer, Refused> {
    let many = matches!(server.subject, Subject::Runs(_));
    let session = server.base.session(".".as_ref());
    Answer::json(&json!({
        "schema": planexe_ui::views::SCHEMA,
        "server": session.server(),
        "runs": many,
        "allow_changes": server.may_change,
    }))
}

fn runs(server: &Server) -> Result<Answer, Refused> {
    let Subject::Runs(root) = &server.subject else {
        return Err(Refused::new(404, "this server was started for one run"));
    };
    let found = Runs::new(root).list(false).map_err(|error| Refused::from_error(&Error::from(error)))?;
    let total = found.len();
    let session = server.base.session(root);
    Answer::json(&json!({
        "schema": planexe_ui::views::SCHEMA,
        "server": session.server(),
        "root": root.display().to_string(),
        "total": total,
        "runs": rows(&server.base, found.into_iter().take(500).collect()),
    }))
}

fn of_run(
    server: &Server,
    session: &Session,
    opened: &Opened,
    request: &Request,
    name: &str,
) -> Result<Answer, Error> {
    let bug = |refused: Refused| Error::from(std::io::Error::other(format!("{refused:?}")));
    let answer = |value: &Value| Answer::json(value).map_err(bug);
    let svg = |text: String| Answer::text(200, "image/svg+xml", text);
    let stand = || stand(server, session, opened);
    match name {
        "status" => {
            let mut status = stand().0.as_ref().clone();
            // Fan-outs of many: what each item rests on is told by its room.
            if status.tasks.len() > 500 {
                for task in status.tasks.iter_mut().filter(|task| task.family.is_some()) {
                    task.result.outputs.clear();
                    task.reasons.truncate(1);
                    task.depends_on.truncate(1);
                }
            }
            Answer::json(&status).map_err(bug)
        }
        "graph" => Answer::json(stand().1.as_ref()).map_err(bug),
        "graph.svg" => {
            let graph = stand().1;
            let links = graph.nodes.iter().map(|node| (node.task.clone(), format!("#task={}", node.task)));
            Ok(svg(page::graph::svg(&graph, Some(&links.collect()))))
        }
        "timeline" => Answer::json(&timeline(&opened.store)?).map_err(bug),
        "timeline.svg" => {
            let timeline = timeline(&opened.store)?;
            let names = timeline.attempts.iter().map(|slice| slice.name.clone());
            let links: HashMap<String, String> =
                names.map(|name| (name.clone(), format!("#task={name}"))).collect();
            // As wide as the page that shows it, or wider, to look closer.
            let width = request.query("width").and_then(|width| width.parse::<f64>().ok());
            let width = width.map_or(page::timeline::WIDTH, |width| width.clamp(600.0, 24_000.0));
            Ok(svg(page::timeline::svg(&timeline, &links, width)))
        }
        "failures" => Answer::json(&failures(session, opened)?).map_err(bug),
        "usage" => Answer::json(&UsageView::new(session.server(), &opened.store.usage_lines()?)).map_err(bug),
        "plan" => {
            let plan = plan_file(opened).and_then(|file| {
                let (bytes, _) = fs::read_range(&file, 0, PLAN).ok()?;
                let name = file.strip_prefix(opened.store.run_dir()).unwrap_or(&file).display().to_string();
                Some(json!({ "plan": name, "text": String::from_utf8_lossy(&bytes) }))
            });
            answer(&plan.unwrap_or_else(|| json!({ "plan": null, "text": null })))
        }
        _ => {
            let wanted = request.needs("task").map_err(|_| Error::usage("`task` is missing"))?;
            let named = find_task(opened, &wanted)?;
            let seen = look(session, opened, &Index::load(&opened.store), &[(named.task, None)]);
            answer(&task(session, opened, &seen, &named)?)
        }
    }
}

/// The room of a task: `explain --json`, `show --json`, the answer as far as it is written, its difference to the one
/// before, and the versions that `restore` can bring back.
fn task(
    session: &Session,
    opened: &Opened,
    seen: &Seen,
    named: &planexe_pipeline::open::Named,
) -> Result<Value, Error> {
    let id = instance(&seen.survey.graph, named)?;
    let store = &opened.store;
    let name = seen.survey.graph[id].name.clone();
    let mut room = room(session, opened, seen, id)?;
    for text in [&mut room.show.prompt, &mut room.show.system, &mut room.show.answer, &mut room.show.log] {
        if let Some(text) = text.as_mut().filter(|text| text.len() > LONGEST) {
            let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let left = text.len() - end;
            text.truncate(end);
            *text += &format!("… ({} more)", planexe_base::style::count(left as u64, "byte"));
        }
    }
    let view = seen.standing.of(id);
    let is_family = seen.survey.graph[id].kind == Kind::Family;
    let at_work = seen.builder().is_some() && view.is_some_and(|view| view.phase.is_some());
    let live = view.filter(|_| at_work).and_then(|view| {
        let (bytes, _) =
            fs::read_tail(&store.live_text_path(&name, view.last.attempt), LONGEST as u64).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    });
    let mut changed = None;
    let calls = store.calls().list(&name)?;
    if let (Some(shown), Some(answer)) = (room.show.shown, &room.show.answer) {
        let before = calls[..shown - 1].iter().rev().filter(|call| !call.record.evaluation);
        changed = before
            .filter_map(|call| call.record.reply.as_ref())
            .next()
            .map(|reply| diff(&reply.text, answer));
    }
    let units = Units::new(&opened.project, store);
    let mut versions = Vec::new();
    if !is_family {
        for kept in history_view::kept(&units, store, Some(named), &name)? {
            versions.extend(kept.entries.iter().enumerate().map(|(at, entry)| {
                json!({ "version": format!("{}@{}", kept.name, at + 1), "time_utc": entry.at, "why": entry.why })
            }));
        }
    }
    Ok(json!({
        "task": view,
        "explain": room.explain,
        "show": room.show,
        "live": live,
        "changed": changed.filter(|changed| !changed.is_empty()),
        "versions": versions,
        "needs": needs(&seen.survey.graph, id),
    }))
}

/// Declared tasks that a task is made from.
fn needs(graph: &Graph, id: TaskId) -> Vec<String> {
    let mut found: Vec<TaskId> = graph[id].needs.iter().map(|need| need.task).collect();
    for need in &mut found {
        if let Kind::Instance { family } = graph[*need].kind {
            *need = family;
        }
    }
    found.sort_by_key(|need| graph[*need].step);
    found.dedup();
    found.retain(|need| *need != id);
    found.into_iter().map(|need| graph[need].name.clone()).collect()
}
