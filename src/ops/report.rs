//! A run gathered for a page: what `status`, `graph`, `trace`, `failures`, `usage`, `explain` and `show` tell of it.

use std::collections::HashSet;

use crate::ops::Session;
use crate::ops::plan_input::plan_file;
use crate::ops::show;
use crate::ops::status::{Seen, every_task, look, view};
use planexe_base::clock;
use planexe_base::exit::Error;
use planexe_base::fs;
use planexe_base::record::State;
use planexe_base::style::shell_path;
use planexe_engine::graph::{Kind, TaskId};
use planexe_pipeline::open::Opened;
use planexe_query::explain::{Sources, explain};
use planexe_query::graph_view;
use planexe_query::timeline::timeline;
use planexe_store::index::Index;
use planexe_ui::page::report::{Report, Room};
use planexe_ui::views::{FailuresView, GraphView, StatusView, UsageView};

/// Rooms at most: tasks that need somebody first.
const ROOMS: usize = 1_000;
/// The most of a plan that is shown.
const PLAN: u64 = 1 << 20;

/// The graph of a run, judged.
pub fn judged_graph(session: &Session, opened: &Opened, status: &StatusView) -> GraphView {
    let mut graph = graph_view::view(session.server(), &opened.project, &[]);
    graph_view::judge(&mut graph, &status.tasks);
    graph
}

/// Its failed attempts.
pub fn failures(session: &Session, opened: &Opened) -> Result<FailuresView, Error> {
    let mut failures = opened.store.failure_lines()?;
    failures.sort_by(|a, b| a.timestamp_utc.cmp(&b.timestamp_utc));
    Ok(FailuresView::new(session.server(), failures, &opened.store.usage_lines()?))
}

/// What a task was sent, what came back, and why it ran or would.
pub fn room(session: &Session, opened: &Opened, seen: &Seen, id: TaskId) -> Result<Room, Error> {
    let sources = Sources {
        project: &opened.project,
        store: &opened.store,
        survey: &seen.survey,
        standing: &seen.standing,
    };
    let mut show = show::view(session, opened, seen, id);
    let calls = opened.store.calls().list(&seen.survey.graph[id].name)?;
    show::choose(&mut show, &calls, None)?;
    show::add_parts(&mut show, opened, seen, id);
    Ok(Room { explain: explain(&sources, id, session.server()), show })
}

/// Gathers the whole run.
pub fn report(session: &Session, opened: &Opened) -> Result<Report, Error> {
    let seen = look(session, opened, &Index::load(&opened.store), &every_task(opened));
    let status = view(session, opened, &seen);
    let graph = &seen.survey.graph;
    let families: HashSet<&str> = status.tasks.iter().filter_map(|task| task.family.as_deref()).collect();
    let mut ids = Vec::new();
    for &id in graph.order() {
        let instances = graph.instances(id);
        ids.extend(instances.iter().copied());
        if graph[id].kind != Kind::Group && !families.contains(graph[id].name.as_str()) {
            ids.push(id);
        }
    }
    let mut known = HashSet::new();
    ids.retain(|id| known.insert(*id));
    let all = ids.len();
    if all > ROOMS {
        let urgency = |id: &TaskId| match seen.standing.of(*id).map(|task| task.state) {
            Some(State::Failed | State::Waiting | State::Damaged) => 0,
            Some(State::Running | State::Stopped) => 1,
            Some(State::Done) => 3,
            _ => 2,
        };
        ids.sort_by_key(urgency);
        ids.truncate(ROOMS);
    }
    let rooms = ids.iter().map(|id| room(session, opened, &seen, *id)).collect::<Result<Vec<_>, _>>()?;
    let plan = plan_file(opened).and_then(|file| {
        let (bytes, _) = fs::read_range(&file, 0, PLAN).ok()?;
        let name = file.strip_prefix(opened.store.run_dir()).unwrap_or(&file).display().to_string();
        Some((name, String::from_utf8_lossy(&bytes).into_owned()))
    });
    Ok(Report {
        graph: judged_graph(session, opened, &status),
        timeline: timeline(&opened.store)?,
        failures: failures(session, opened)?,
        usage: UsageView::new(session.server(), &opened.store.usage_lines()?),
        left_out: all - rooms.len(),
        rooms,
        plan,
        typed: shell_path(opened.store.run_dir()),
        made_utc: clock::now_utc(),
        status,
    })
}
