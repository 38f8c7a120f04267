//! A chart for a terminal.

use jiff::tz::TimeZone;
use planexe_base::record::State;

use super::{At, Axis, Chart, Row, ServiceRow, WaitFor, utc};
use planexe_base::style::{self, GREY, Rgb, Style, clean, count, pad, truncate};

/// Columns of the state at the right.
const STATE: usize = 15;

/// What a cell of a bar shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Empty,
    Mark,
    Now,
    Planned,
    Expected,
    Done,
    Under,
    Failed,
    Deadline,
    Starting,
    Up,
    Waits,
}

impl Cell {
    fn sign(self) -> &'static str {
        match self {
            Cell::Empty => " ",
            Cell::Mark => "┊",
            Cell::Now => "│",
            Cell::Planned => "░",
            Cell::Expected => "┄",
            Cell::Done => "█",
            Cell::Under => "▓",
            Cell::Failed => "✗",
            Cell::Deadline => "◆",
            Cell::Starting => "▒",
            Cell::Up => "═",
            Cell::Waits => "╌",
        }
    }
}

/// The chart. `verbose` shows every step, else those of a task that press.
pub fn text(chart: &Chart, style: &Style, verbose: bool) -> String {
    let columns = style.columns().min(200);
    let names = (columns * 2 / 5).clamp(12, 48);
    let lane = columns.saturating_sub(names + STATE + 2).max(8);
    let axis = axis_of(chart, lane / 9);
    let mut text = head(chart, style);
    text += &marks(chart, &axis, names, lane, style);
    for row in &chart.rows {
        if row.level > 2 && !verbose && !row.is_pressing() {
            continue;
        }
        text += line(chart, row, &axis, (names, lane), style).trim_end();
        text.push('\n');
    }
    // On an axis of months they would be dots.
    for service in chart.services.iter().filter(|_| !chart.is_planned) {
        text += service_line(service, &axis, (names, lane), style).trim_end();
        text.push('\n');
    }
    text.push('\n');
    text += &foot(chart, style);
    text
}

/// The axis of a chart, with at most so many marks.
pub(super) fn axis_of(chart: &Chart, marks: usize) -> Axis {
    if chart.is_planned {
        return Axis::calendar(chart.whole, marks.max(1));
    }
    let times = chart.services.iter().flat_map(|service| &service.times).map(|time| time.span);
    Axis::of_work(chart.rows.iter().flat_map(|row| [row.actual, row.expected]).flatten().chain(times))
}

fn head(chart: &Chart, style: &Style) -> String {
    let mut text = style.bold(&style.fit(&clean(&chart.title)));
    text.push('\n');
    let mut parts: Vec<String> = vec![format!("{}/{} done", chart.done, chart.all)];
    for state in State::ALL.into_iter().filter(|state| !state.is_complete()) {
        if let Some(count) = chart.counts.get(state.name()) {
            parts.push(style.paint(state.colour(), &format!("{} {count} {}", state.glyph(), state.name())));
        }
    }
    text += &style.wrap(&parts.join("   "), 0);
    text + "\n\n"
}

/// The line of dates above the bars.
fn marks(chart: &Chart, axis: &Axis, names: usize, lane: usize, style: &Style) -> String {
    let mut line = String::new();
    for (place, name) in marks_of(chart, axis) {
        let at = cell(place, lane);
        if style::width(&line) > at || at + style::width(&name) > lane {
            continue;
        }
        line = pad(&line, at) + &name + " ";
    }
    if line.is_empty() {
        return String::new();
    }
    format!("{}{}\n", " ".repeat(names + 1), style.dim(line.trim_end()))
}

/// The names of moments on the axis; of an axis of work, when its parts began.
pub(super) fn marks_of(chart: &Chart, axis: &Axis) -> Vec<(f64, String)> {
    if chart.is_planned {
        return axis.marks.clone();
    }
    let begins = chart.rows.iter().filter_map(|row| row.actual).map(|span| span.from);
    let begins: Option<At> = begins.min();
    let mut marks: Vec<(f64, String)> = begins.map(|at| (axis.place(at), moment(at))).into_iter().collect();
    if chart.rows.iter().any(|row| row.expected.is_some()) {
        marks.push((axis.place(chart.now), "now".to_owned()));
    }
    marks
}

/// A moment in a few letters.
pub(super) fn moment(at: At) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(
        |_| utc(at),
        |at| at.to_zoned_datetime(TimeZone::UTC).strftime("%-d %b %H:%M").to_string(),
    )
}

/// A day in a few letters.
pub(super) fn day(at: At) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| utc(at), |at| at.to_zoned_datetime(TimeZone::UTC).strftime("%-d %b %Y").to_string())
}

fn cell(place: f64, lane: usize) -> usize {
    ((place * lane as f64) as usize).min(lane.saturating_sub(1))
}

fn line(chart: &Chart, row: &Row, axis: &Axis, (names, lane): (usize, usize), style: &Style) -> String {
    let indent = match row.level {
        1 => "",
        2 => "  ",
        _ => "    ",
    };
    let title = row.label();
    let mark = if row.critical { "*" } else { " " };
    let name = pad(&truncate(&format!("{indent}{title}"), names - 2), names - 2);
    let name = if row.level == 1 { style.bold(&name) } else { name };
    let state = match (row.is_sum() && row.all > 1, row.late_days) {
        (true, _) => format!("{} {}/{}", row.state.name(), row.done, row.all),
        (false, Some(late)) if !row.state.is_complete() => format!("{} {late}d late", row.state.name()),
        (false, _) => row.state.name().to_owned(),
    };
    let colour = if row.late_days.is_some() && !row.state.is_complete() { LATE } else { row.state.colour() };
    let state = truncate(&state, STATE - 2).into_owned();
    format!(
        "{name}{} {} {} {}",
        style.paint(colour, mark),
        bar(chart, row, axis, lane, style),
        style.glyph(row.state),
        style.paint(colour, &state)
    )
}

/// A server: when it was starting, and when it was up.
fn service_line(service: &ServiceRow, axis: &Axis, (names, lane): (usize, usize), style: &Style) -> String {
    let name = format!("  service {}", clean(&service.service));
    let name = pad(&truncate(&name, names - 2), names - 2);
    let mut cells = vec![Cell::Empty; lane];
    for gap in &axis.gaps {
        cells[cell(*gap, lane)] = Cell::Mark;
    }
    // A short start is seen beside a long time of being up.
    for ready in [true, false] {
        for time in service.times.iter().filter(|time| time.ready == ready) {
            let cell = match (ready, time.queued) {
                (true, _) => Cell::Up,
                (false, true) => Cell::Waits,
                (false, false) => Cell::Starting,
            };
            fill(&mut cells, axis, time.span, cell);
        }
    }
    let colour = if service.state == "failed" { State::Failed.colour() } else { State::Waiting.colour() };
    let signs: String = cells.iter().map(|cell| cell.sign()).collect();
    let word = service.word();
    format!("{name}  {}   {}", style.paint(colour, &signs), style.paint(colour, &truncate(&word, STATE - 2)))
}

/// Draws a span.
fn fill(cells: &mut [Cell], axis: &Axis, span: super::Span, with: Cell) {
    let lane = cells.len();
    let from = cell(axis.place(span.from), lane);
    let to = ((axis.place(span.to) * lane as f64).round() as usize).clamp(from + 1, lane.max(from + 1));
    for one in cells.iter_mut().take(to).skip(from) {
        *one = with;
    }
}

/// What is late.
const LATE: Rgb = Rgb(220, 60, 60);

fn bar(chart: &Chart, row: &Row, axis: &Axis, lane: usize, style: &Style) -> String {
    let mut cells = vec![Cell::Empty; lane];
    for gap in &axis.gaps {
        cells[cell(*gap, lane)] = Cell::Mark;
    }
    if chart.is_planned {
        cells[cell(axis.place(chart.now), lane)] = Cell::Now;
    }
    let mut draw = |span: Option<super::Span>, with: Cell| {
        if let Some(span) = span {
            fill(&mut cells, axis, span, with);
        }
    };
    draw(row.planned, Cell::Planned);
    draw(row.expected, Cell::Expected);
    let waits = |kind: WaitFor| row.waits.iter().filter(move |wait| wait.kind == kind).map(|wait| wait.span);
    waits(WaitFor::Person).for_each(|span| draw(Some(span), Cell::Waits));
    let done = match row.state {
        State::Failed | State::Blocked if !row.is_sum() => Cell::Failed,
        state if state.is_complete() => Cell::Done,
        _ if row.is_sum() && row.done > 0 => Cell::Done,
        _ => Cell::Under,
    };
    draw(row.actual, done);
    // An attempt begins when it is handed over.
    waits(WaitFor::Queue).for_each(|span| draw(Some(span), Cell::Waits));
    if let Some(at) = row.deadline {
        cells[cell(axis.place(at), lane)] = Cell::Deadline;
    }
    let mut text = String::new();
    let mut rest = &cells[..];
    while let Some(&first) = rest.first() {
        let same = rest.iter().take_while(|&&cell| cell == first).count();
        let signs = first.sign().repeat(same);
        text += &match first {
            Cell::Empty => signs,
            Cell::Mark | Cell::Now => style.paint(GREY, &signs),
            Cell::Starting | Cell::Up => signs,
            Cell::Deadline => style.paint(if row.late_days.is_some() { LATE } else { GREY }, &signs),
            Cell::Done => style.paint(State::Done.colour(), &signs),
            Cell::Failed => style.paint(State::Failed.colour(), &signs),
            Cell::Waits => style.paint(State::Waiting.colour(), &signs),
            Cell::Under => style.paint(row.state.colour(), &signs),
            Cell::Planned | Cell::Expected => match row.state.is_complete() {
                true => style.dim(&signs),
                false => style.paint(row.state.colour(), &signs),
            },
        };
        rest = &rest[same..];
    }
    text
}

fn foot(chart: &Chart, style: &Style) -> String {
    let signs = match chart.is_planned {
        true => "░ planned   █ done   ▓ under way   │ today   ◆ must be done by   * critical path",
        false => "█ done   ▓ under way   ┄ expected   ┊ nothing ran",
    };
    let signs = match chart.is_planned || chart.services.is_empty() {
        true => signs.to_owned(),
        false => format!("{signs}   ▒ starting   ═ up"),
    };
    let signs = match chart.rows.iter().all(|row| row.waits.is_empty())
        && !chart.services.iter().flat_map(|service| &service.times).any(|time| time.queued)
    {
        true => signs,
        false => format!("{signs}   ╌ waited for a person or in a queue"),
    };
    let mut text = style.dim(&style.wrap(&signs, 0)) + "\n";
    let late =
        chart.rows.iter().filter(|row| row.level == 2 && row.late_days.is_some() && !row.state.is_complete());
    let late = late.count() as u64;
    if late > 0 {
        text += &format!("{} late\n", count(late, "task"));
    }
    if chart.is_planned {
        text += &style.dim(&format!("{} to {}\n", day(chart.whole.from), day(chart.whole.to - 1)));
    }
    text
}
