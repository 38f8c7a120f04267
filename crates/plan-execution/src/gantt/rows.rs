//! From tasks and a schedule to rows.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::schedule::Schedule;
use super::{At, Chart, DAY, Row, ServiceRow, Span, WaitTime};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_ui::views::TaskView;

/// What a chart is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What the pipeline is called.
    pub title: String,
    /// The phase of the run.
    pub phase: RunPhase,
    /// The moment.
    pub now: At,
    /// The tasks, in topological order, instances after their fan-out.
    pub tasks: &'a [TaskView],
    /// Descriptions by task.
    pub titles: &'a HashMap<String, String>,
    /// Tasks that only stand for others.
    pub groups: &'a HashSet<String>,
    /// When tasks that are to come would run, from what they took before.
    pub expected: &'a HashMap<String, Span>,
    /// The schedule.
    pub schedule: Option<&'a Schedule>,
    /// The names of executors by task; of a fan-out by its name.
    pub executors: &'a HashMap<String, String>,
    /// Servers that the build started.
    pub services: Vec<ServiceRow>,
    /// Times in which tasks waited.
    pub waits: HashMap<String, Vec<WaitTime>>,
}

/// The chart.
pub fn chart(facts: &Facts<'_>) -> Chart {
    let mut rows = match facts.schedule {
        Some(schedule) => planned(facts, schedule),
        None => as_declared(facts, |_| true),
    };
    sum_up(&mut rows);
    for row in &mut rows {
        row.late_days = late(row, facts.now);
        let task = row.task.as_deref().and_then(|task| task.split('[').next());
        row.waits = row.task.as_ref().and_then(|task| facts.waits.get(task)).cloned().unwrap_or_default();
        row.executor = task.and_then(|task| facts.executors.get(task)).cloned();
    }
    let of_row = |row: &Row| [row.planned, row.actual, row.expected];
    let times = facts.services.iter().flat_map(|service| &service.times).map(|time| time.span);
    let times = times.filter(|_| facts.schedule.is_none());
    let spans = rows.iter().flat_map(of_row).flatten().chain(times);
    let mut whole = spans.reduce(Span::with).unwrap_or(Span::new(facts.now, facts.now + 1));
    if facts.schedule.is_some() {
        let deadlines = rows.iter().filter_map(|row| row.deadline);
        whole.to = deadlines.fold(whole.to, At::max).max(facts.now);
        whole.from = whole.from.min(facts.now);
    }
    let families: HashSet<&str> = facts.tasks.iter().filter_map(|task| task.family.as_deref()).collect();
    let stands_for_others =
        |task: &TaskView| facts.groups.contains(&task.task) || families.contains(task.task.as_str());
    let counted = || facts.tasks.iter().filter(|task| !stands_for_others(task));
    let mut counts: IndexMap<&'static str, u32> = IndexMap::new();
    for state in State::ALL {
        let count = counted().filter(|task| task.state == state).count() as u32;
        if count > 0 {
            counts.insert(state.name(), count);
        }
    }
    let titled = facts.schedule.map(|schedule| schedule.title.clone()).filter(|title| !title.is_empty());
    Chart {
        title: titled.unwrap_or_else(|| facts.title.clone()),
        phase: facts.phase,
        is_planned: facts.schedule.is_some(),
        now: facts.now,
        whole,
        services: facts.services.clone(),
        counts,
        done: counted().filter(|task| task.state.is_complete()).count() as u32,
        all: counted().count() as u32,
        rows,
    }
}

fn row(level: u8, task: Option<&TaskView>, title: String) -> Row {
    Row {
        level,
        task: task.map(|task| task.task.clone()),
        executor: None,
        title,
        state: task.map_or(State::Pending, |task| task.state),
        done: 0,
        all: 0,
        planned: None,
        actual: None,
        expected: None,
        waits: Vec::new(),
        critical: false,
        deadline: None,
        deadline_reason: None,
        owner: None,
        late_days: None,
    }
}

/// When a task was worked on last.
fn actual(task: &TaskView, now: At) -> Option<Span> {
    let at = |text: &Option<String>| -> Option<At> {
        text.as_ref()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    };
    let from = at(&task.last.started_utc)?;
    match task.state {
        State::Running | State::Merging => Some(Span::new(from, now)),
        _ => Some(Span::new(from, at(&task.last.ended_utc)?)),
    }
}

fn planned(facts: &Facts<'_>, schedule: &Schedule) -> Vec<Row> {
    let tasks: HashMap<&str, &TaskView> = facts.tasks.iter().map(|task| (task.task.as_str(), task)).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut rows = Vec::new();
    for planned in &schedule.rows {
        let task = planned.task.as_deref().and_then(|name| tasks.get(name)).copied();
        seen.extend(task.map(|task| task.task.as_str()));
        // A group is known by what it stands for.
        let own = task.filter(|task| !facts.groups.contains(&task.task));
        let mut row = row(planned.level, own, planned.title.clone());
        row.planned = planned.span();
        row.actual = own.and_then(|task| actual(task, facts.now));
        row.critical = planned.critical;
        row.deadline = planned.deadline();
        row.deadline_reason = planned.deadline_reason.clone();
        row.owner = planned.owner.clone().filter(|owner| !owner.is_empty());
        rows.push(row);
    }
    let others = as_declared(facts, |task| !seen.contains(task.task.as_str()));
    if !others.is_empty() {
        rows.push(row(1, None, "Not in the schedule".to_owned()));
        rows.extend(others.into_iter().map(|row| Row { level: row.level.max(2), ..row }));
    }
    rows
}

/// The tasks of the pipeline themselves.
fn as_declared(facts: &Facts<'_>, wanted: impl Fn(&TaskView) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for task in facts.tasks.iter().filter(|task| !facts.groups.contains(&task.task) && wanted(task)) {
        let level = if task.family.is_some() { 3 } else { 2 };
        // An item is known by its key.
        let key = task.family.as_ref().and_then(|family| task.task.strip_prefix(family.as_str()));
        let key = key.map(|key| key.trim_start_matches('[').trim_end_matches(']').to_owned());
        let mut row = row(level, Some(task), key.unwrap_or_else(|| task.task.clone()));
        if level == 2 {
            row.owner = facts.titles.get(&task.task).cloned();
        }
        row.actual = actual(task, facts.now);
        if !task.state.is_complete() && !matches!(task.state, State::Running | State::Merging) {
            row.expected = facts.expected.get(&task.task).copied();
        }
        rows.push(row);
    }
    rows
}

/// Rows that stand for those below them get their figures.
fn sum_up(rows: &mut [Row]) {
    let end_of = |rows: &[Row], at: usize| {
        let below = rows[at + 1..].iter().position(|row| row.level <= rows[at].level);
        below.map_or(rows.len(), |n| at + 1 + n)
    };
    // Each task is one, but for a fan-out, which is its items.
    for at in 0..rows.len() {
        let next = rows.get(at + 1);
        let is_family = next.is_some_and(|next| is_item(&rows[at], next));
        rows[at].all = u32::from(rows[at].task.is_some() && !is_family);
        rows[at].done = if rows[at].state.is_complete() { rows[at].all } else { 0 };
    }
    for at in 0..rows.len() {
        let end = end_of(rows, at);
        let (head, below) = rows[at..end].split_first_mut().expect("BUG: a row is there");
        // From top to bottom: those below still count for themselves alone.
        head.all += below.iter().map(|row| row.all).sum::<u32>();
        head.done += below.iter().map(|row| row.done).sum::<u32>();
        let spans = |of: fn(&Row) -> Option<Span>| below.iter().filter_map(of).reduce(Span::with);
        head.actual = [head.actual, spans(|row| row.actual)].into_iter().flatten().reduce(Span::with);
        head.planned = head.planned.or_else(|| spans(|row| row.planned));
        head.expected = head.expected.or_else(|| spans(|row| row.expected));
        if head.task.is_none() {
            let tasks: Vec<&Row> = below.iter().filter(|row| row.task.is_some()).collect();
            head.state = first_to_know(&tasks, head.done == head.all);
        }
    }
}

/// Whether a row is an item of the fan-out in another.
fn is_item(family: &Row, row: &Row) -> bool {
    match (&family.task, &row.task) {
        (Some(family), Some(task)) => {
            task.strip_prefix(family.as_str()).is_some_and(|rest| rest.starts_with('['))
        }
        _ => false,
    }
}

/// The state of several: what fails, then what runs, then who is waited for.
fn first_to_know(rows: &[&Row], all_done: bool) -> State {
    let has = |state: State| rows.iter().any(|row| row.state == state);
    let pressing = [
        State::Failed,
        State::Running,
        State::Merging,
        State::Waiting,
        State::PendingEval,
        State::FailedPendingEval,
        State::Stopped,
        State::Blocked,
        State::Damaged,
        State::Stale,
    ];
    match pressing.into_iter().find(|&state| has(state)) {
        Some(state) => state,
        None if all_done => State::Done,
        None => State::Pending,
    }
}

/// Days something is late: over too late, or not over though it should be.
fn late(row: &Row, now: At) -> Option<i64> {
    let due = row.deadline.or(row.planned.map(|span| span.to))?;
    let is_done = row.state.is_complete() && row.done == row.all;
    let over = if is_done { row.actual?.to } else { now };
    (over > due).then(|| (over - due + DAY - 1) / DAY)
}
