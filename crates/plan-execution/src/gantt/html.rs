//! A chart as a page: one file, no script, nothing loaded, light and dark, for a wide screen, a phone and paper. The
//! template escapes every text.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use planexe_base::record::State;
use serde::Serialize;

use super::text::{axis_of, day, marks_of, moment};
use super::{Axis, Chart, Row, ServiceRow, ServiceTime, Span, WaitTime};
use planexe_base::style::clean;
use planexe_ui::page::TONES;

const STYLE: &str = include_str!("page.css");
const PAGE: &str = include_str!("page.html");

/// A state that not all tasks are in, and how many are.
#[derive(Serialize)]
struct Chip {
    class: &'static str,
    glyph: &'static str,
    count: u32,
    word: &'static str,
}

/// A name above the rows.
#[derive(Serialize)]
struct Mark {
    class: String,
    left: String,
    name: String,
}

/// A row as the page has it.
#[derive(Serialize)]
struct Line {
    class: String,
    title: String,
    critical: bool,
    owner: Option<String>,
    bars: Vec<Bar>,
    due: Option<Due>,
    glyph: &'static str,
    state: String,
    /// Those that can be folded into it.
    steps: Vec<Line>,
    /// They are not folded.
    open: bool,
}

#[derive(Serialize)]
struct Bar {
    kind: &'static str,
    left: String,
    width: String,
    about: String,
}

#[derive(Serialize)]
struct Due {
    left: String,
    why: String,
}

/// The page. `again`: seconds after which a browser loads it anew.
pub fn html(chart: &Chart, again: Option<u32>) -> String {
    let axis = axis_of(chart, 12);
    let part = if chart.all > 0 { 100.0 * f64::from(chart.done) / f64::from(chart.all) } else { 0.0 };
    let open = State::ALL.into_iter().filter(|state| !state.is_complete());
    let chips = open.filter_map(|state| {
        let count = *chart.counts.get(state.name())?;
        Some(Chip { class: state.name(), glyph: state.glyph(), count, word: word(state) })
    });
    let range = match chart.is_planned {
        true => {
            format!("{} to {}, shown on {}", day(chart.whole.from), day(chart.whole.to - 1), day(chart.now))
        }
        false => format!("shown at {} UTC", moment(chart.now)),
    };
    let waits = chart.rows.iter().any(|row| !row.waits.is_empty())
        || chart.services.iter().flat_map(|service| &service.times).any(|time| time.queued);
    let values = context! {
        again,
        title => clean(&chart.title),
        css => format!("{TONES}{STYLE}"),
        done => chart.done,
        all => chart.all,
        part => format!("{part:.1}"),
        chips => chips.collect::<Vec<_>>(),
        range,
        marks => marks(chart, &axis),
        lines => axis.marks.iter().map(|(place, _)| percent(*place)).collect::<Vec<_>>(),
        gaps => axis.gaps.iter().map(|place| percent(*place)).collect::<Vec<_>>(),
        is_planned => chart.is_planned,
        today => percent(axis.place(chart.now)),
        rows => lines(chart, &axis),
        services => service_lines(chart, &axis),
        waits => waits,
    };
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_keep_trailing_newline(true);
    env.render_str(PAGE, values).expect("BUG: the page's template takes what it is given")
}

fn percent(place: f64) -> String {
    format!("{:.2}", place * 100.0)
}

/// The names above the rows.
fn marks(chart: &Chart, axis: &Axis) -> Vec<Mark> {
    let mark = |(place, name): (f64, String)| {
        // What begins near the right edge is written to the left of its line.
        let side = if place > 0.96 { "left" } else { "" };
        // A phone has room for the years.
        let is_year = name.chars().rev().take(4).all(|c| c.is_ascii_digit()) || !chart.is_planned;
        let year = if is_year { " year" } else { "" };
        Mark { class: format!("{side}{year}"), left: percent(place), name: clean(&name) }
    };
    marks_of(chart, axis).into_iter().map(mark).collect()
}

/// The rows; steps can be folded into their task.
fn lines(chart: &Chart, axis: &Axis) -> Vec<Line> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while at < chart.rows.len() {
        let row = &chart.rows[at];
        let below = chart.rows[at + 1..].iter().take_while(|other| other.level > row.level.max(2)).count();
        let below = if row.level == 2 { below } else { 0 };
        let steps = &chart.rows[at + 1..at + 1 + below];
        lines.push(Line {
            open: steps.iter().any(Row::is_pressing),
            steps: steps.iter().map(|step| line(chart, step, axis)).collect(),
            ..line(chart, row, axis)
        });
        at += 1 + below;
    }
    lines
}

/// Servers, below the tasks; on an axis of months they would be dots.
fn service_lines(chart: &Chart, axis: &Axis) -> Vec<Line> {
    let line = |service: &ServiceRow| {
        let bar = |time: &ServiceTime| {
            let (from, to) = (axis.place(time.span.from), axis.place(time.span.to));
            let (kind, what) = match (time.ready, time.queued) {
                (true, _) => ("act up", "up"),
                (false, true) => ("act waits", "in the queue of its executor"),
                (false, false) => ("act starting", "starting"),
            };
            let about = format!("{what} {} to {} UTC", moment(time.span.from), moment(time.span.to));
            Bar { kind, left: percent(from), width: percent((to - from).max(0.0)), about }
        };
        let state = if service.state == "failed" { State::Failed } else { State::Waiting };
        Line {
            class: format!("row l2 {}", state.name()),
            title: clean(&format!("service {}", service.service)),
            critical: false,
            owner: None,
            bars: service.times.iter().map(bar).collect(),
            due: None,
            glyph: "",
            state: clean(&service.word()),
            steps: Vec::new(),
            open: false,
        }
    };
    chart.services.iter().filter(|_| !chart.is_planned).map(line).collect()
}

fn line(chart: &Chart, row: &Row, axis: &Axis) -> Line {
    let is_late = row.late_days.is_some() && !row.state.is_complete();
    let late = if is_late { " late" } else { "" };
    let about = about(chart, row);
    let bar = |span: Option<Span>, kind: &'static str| {
        let span = span?;
        let (from, to) = (axis.place(span.from), axis.place(span.to));
        let width = percent((to - from).max(0.0));
        Some(Bar { kind, left: percent(from), width, about: clean(&about) })
    };
    let wait = |wait: &WaitTime| {
        let (from, to) = (axis.place(wait.span.from), axis.place(wait.span.to));
        let about =
            format!("{} {} to {} UTC", wait.kind.word(), moment(wait.span.from), moment(wait.span.to));
        Bar { kind: "act waits", left: percent(from), width: percent((to - from).max(0.0)), about }
    };
    let actual = match row.state {
        State::Failed => "act failed",
        state if state.is_complete() || row.is_sum() && row.done > 0 => "act done",
        State::Waiting | State::Stopped => "act waiting",
        _ => "act running",
    };
    let due = row.deadline.map(|at| {
        let why = row.deadline_reason.as_deref().unwrap_or_default();
        Due { left: percent(axis.place(at)), why: clean(&format!("by {}: {why}", day(at - 1))) }
    });
    let mut state = match row.is_sum() && row.all > 1 {
        true => format!("{} {}/{}", word(row.state), row.done, row.all),
        false => word(row.state).to_owned(),
    };
    if let Some(late) = row.late_days.filter(|_| is_late) {
        state += &format!(", {late} d late");
    }
    Line {
        class: format!("row l{} {}{late}", row.level, row.state.name()),
        title: row.label(),
        critical: row.critical,
        owner: row.owner.as_deref().map(clean),
        bars: [bar(row.planned.or(row.expected), "plan"), bar(row.actual, actual)]
            .into_iter()
            .flatten()
            .chain(row.waits.iter().map(wait))
            .collect(),
        due,
        glyph: row.state.glyph(),
        state,
        steps: Vec::new(),
        open: false,
    }
}

/// What a bar is, in words.
fn about(chart: &Chart, row: &Row) -> String {
    let mut words = Vec::new();
    if let Some(span) = row.planned {
        words.push(format!("planned {} to {}", day(span.from), day(span.to - 1)));
    }
    if let Some(span) = row.actual {
        words.push(match row.state.is_complete() {
            true => format!("done {} to {} UTC", moment(span.from), moment(span.to)),
            false => format!("since {} UTC", moment(span.from)),
        });
    }
    if let Some(span) = row.expected.filter(|_| !chart.is_planned) {
        words.push(format!(
            "takes about {}",
            planexe_base::style::duration((span.to - span.from) as f64 / 1000.0)
        ));
    }
    words.join("; ")
}

fn word(state: State) -> &'static str {
    match state {
        State::PendingEval => "pending eval",
        State::FailedPendingEval => "failed, pending eval",
        state => state.name(),
    }
}
