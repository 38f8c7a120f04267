//! The lines a build leaves behind, one for each event worth one; shared by the plain and the live display.

use crate::views::reason_of;
use planexe_base::call::Usage;
use planexe_base::event::{Event, Kind, Summary};
use planexe_base::record::State;
use planexe_base::style::{self, Style, clean, pad, pad_left};

/// The line of an event, without its line end. `None` for events that leave no line.
pub(super) fn of_event(kind: &Kind, style: &Style, names: NameColumns, explain: bool) -> Option<String> {
    let line = match kind {
        Kind::TaskStale { task, reasons } if explain => {
            row(style, names, State::Stale, task, &format!("stale: {}", clean(&reasons.join("; "))))
        }
        Kind::TaskCompleted { task, .. } => return Some(completed(kind, task, style, names)),
        Kind::TaskRetrying { task, attempt, failure, next, waits } => {
            let how = if *waits { "waits" } else { "failed" };
            let what = format!("attempt {attempt} {how}: {}; {}", reason_of(failure), clean(next));
            row(style, names, State::Pending, task, &what)
        }
        Kind::TaskFailed { task, failure, blocked, .. } => {
            let blocks = match blocked {
                0 => String::new(),
                blocked => format!(" (blocks {})", style::count(u64::from(*blocked), "task")),
            };
            row(style, names, State::Failed, task, &format!("{}{blocks}", reason_of(failure)))
        }
        Kind::TaskSkipped { task } => row(style, names, State::Skipped, task, "skipped"),
        Kind::TaskWaiting { task, message } => {
            // What to do about it is said at the end.
            let message = format!("waits for a person: {}", clean(&message.text));
            row(style, names, State::Waiting, task, &message)
        }
        Kind::TaskStopped { task } => row(style, names, State::Stopped, task, "stopped"),
        Kind::TaskStalled { task, idle_s } => {
            row(style, names, State::Damaged, task, &format!("no progress for {}", style::elapsed(*idle_s)))
        }
        Kind::TaskRescued { task, score, .. } => {
            let score = score.map_or(String::new(), |score| format!(", score {score}"));
            let star = style.paint(style::GREEN, "*");
            let rest = format!("rescued by its evaluation{score}");
            row(style, names, State::Done, task, &rest).replacen(' ', &format!("{star} "), 1)
        }
        Kind::Note { task, message, warning } => {
            let about = task.as_ref().map(|task| clean(task) + ": ").unwrap_or_default();
            let label = if *warning { style.paint(style::YELLOW, "warning:") } else { style.dim("note:") };
            format!("{label} {about}{}", clean(message))
        }
        Kind::ModelParked { model, until_utc, message } => {
            let label = style.paint(style::YELLOW, "= parked:");
            let until = crate::views::time(until_utc);
            format!("{label} {} takes no calls until {until}: {}", clean(model), clean(message))
        }
        Kind::ModelResumed { model } => {
            format!("{} {} answers again", style.paint(style::BLUE, "= usage limit over:"), clean(model))
        }
        Kind::BatchSubmitted { model, calls, .. } => {
            let calls = style::count(*calls, "call");
            format!("{} {calls} of {}", style.paint(style::BLUE, "= batch submitted:"), clean(model))
        }
        Kind::BatchEnded { model, calls, answered, .. } => {
            let label = style.paint(style::BLUE, "= batch ended:");
            let calls = style::count(*calls, "call");
            format!("{label} {answered} of {calls} of {} answered", clean(model))
        }
        Kind::BatchStuck { message, .. } => {
            format!("{} {}", style.paint(style::YELLOW, "warning:"), clean(message))
        }
        Kind::ServiceChanged { service, state, message, .. } => {
            let (colour, glyph) = if state == "failed" { (style::RED, "✗") } else { (style::BLUE, "=") };
            let label = style.paint(colour, &format!("{glyph} service {}:", clean(service)));
            format!("{label} {}, {}", clean(state), clean(message))
        }
        Kind::PipelinePaused { message } => {
            format!("{} {}", style.paint(style::BLUE, "= paused:"), clean(message))
        }
        Kind::TaskStale { .. }
        | Kind::PipelineStarted { .. }
        | Kind::TaskStarted { .. }
        | Kind::TaskProgress { .. }
        | Kind::PipelineCompleted { .. }
        | Kind::PipelineFailed { .. }
        | Kind::PipelineStopped { .. } => return None,
    };
    Some(line)
}

/// Lays events out one by one, as a list read later: with their times, and none left out.
#[derive(Debug)]
pub struct EventLines {
    names: NameColumns,
}

impl EventLines {
    /// None shown yet.
    #[expect(clippy::new_without_default, reason = "a list is begun, not defaulted")]
    pub fn new() -> EventLines {
        EventLines { names: NameColumns::new() }
    }

    /// The line of an event, without its line end.
    pub fn line(&mut self, event: &Event, style: &Style) -> String {
        self.names.meet(&event.kind);
        let utc = clean(&event.timestamp_utc);
        let when = utc.get(..19).map_or_else(|| utc.clone(), |when| when.replace('T', " "));
        let inner = Style { width: style.width.map(|width| width.saturating_sub(21)), ..*style };
        let what = of_event(&event.kind, &inner, self.names, true)
            .unwrap_or_else(|| self.other(&event.kind, &inner));
        style.fit(&format!("{}  {what}", style.dim(&when))).into_owned()
    }

    /// Events that leave no line in a build.
    fn other(&self, kind: &Kind, style: &Style) -> String {
        match kind {
            Kind::TaskStarted { task, attempt, model, recipe } => {
                let what = clean(model.as_ref().unwrap_or(recipe));
                let eval = if recipe == "eval" && model.is_some() { ", evaluation" } else { "" };
                let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                row(style, self.names, State::Running, task, &format!("started: {what}{eval}{attempt}"))
            }
            Kind::TaskProgress { task, doing } => row(style, self.names, State::Running, task, &clean(doing)),
            Kind::PipelineStarted { pipeline, steps_total, .. } => {
                format!(
                    "build started: {}, {}",
                    clean(pipeline),
                    style::count(u64::from(*steps_total), "task")
                )
            }
            Kind::PipelineCompleted { summary } => format!("build completed: {}", ran(summary)),
            Kind::PipelineFailed { summary } => {
                format!("build failed: {}{}", failed(summary), ran(summary))
            }
            Kind::PipelineStopped { summary, message } => {
                format!("build stopped ({}): {}{}", clean(message), failed(summary), ran(summary))
            }
            _ => String::new(),
        }
    }
}

fn failed(summary: &Summary) -> String {
    match summary.failed.len() {
        0 => String::new(),
        n => format!("{n} failed, "),
    }
}

fn ran(summary: &Summary) -> String {
    let tasks = style::count(u64::from(summary.ran), "task");
    format!("{tasks} ran in {}", style::duration(summary.duration_s))
}

/// Columns given to names: a share of the width at first, more as longer names are met, so that what follows them
/// stays in one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameColumns(usize);

impl NameColumns {
    pub(super) fn new() -> NameColumns {
        NameColumns(0)
    }

    /// A task is about to be shown.
    pub(super) fn meet(&mut self, kind: &Kind) {
        if let Kind::TaskStarted { task, .. } | Kind::TaskStale { task, .. } = kind {
            self.0 = self.0.max(style::width(&clean(task)));
        }
    }

    /// For a width.
    pub(super) fn at(self, style: &Style) -> usize {
        let least = (style.columns() / 3).clamp(12, 26);
        let most = style.width.map_or(48, |width| (width * 9 / 20).min(48));
        self.0.clamp(least, most.max(least))
    }
}

/// Glyph, name, and the rest.
pub(super) fn row(style: &Style, names: NameColumns, state: State, task: &str, rest: &str) -> String {
    let line = format!("{} {}  {rest}", style.glyph(state), pad(&clean(task), names.at(style)));
    line.trim_end().to_owned()
}

fn completed(kind: &Kind, task: &str, style: &Style, names: NameColumns) -> String {
    let Kind::TaskCompleted { attempt, duration_s, usage, reused, unchanged, sample, partial, .. } = kind
    else {
        return String::new();
    };
    let mut fields = vec![pad_left(&style::duration(*duration_s), 7)];
    if *reused {
        fields.push("kept answer".to_owned());
    }
    fields.extend(figures(usage));
    if *attempt > 1 {
        fields.push(format!("attempt {attempt}"));
    }
    for (flag, word) in [(*partial, "partial"), (*sample, "sample answer"), (*unchanged, "unchanged")] {
        if flag {
            fields.push(word.to_owned());
        }
    }
    let name = pad(&clean(task), names.at(style));
    format!(
        "{} {}",
        style.glyph(State::Done),
        join_fitting(name, &fields, style.width.map(|width| width - 2))
    )
    .trim_end()
    .to_owned()
}

/// Tokens and money, if any were spent.
pub(super) fn figures(usage: &Usage) -> Vec<String> {
    let mut fields = Vec::new();
    let all = usage.input_tokens + usage.output_tokens;
    if all > 0 {
        fields.push(pad_left(&format!("{} tok", style::tokens(all)), 8));
    }
    if usage.cost_usd > 0.0 {
        fields.push(style::money(usage.cost_usd));
    }
    fields
}

/// Joins fields by two spaces, leaving out those that no longer fit.
pub(super) fn join_fitting(start: String, fields: &[String], columns: Option<usize>) -> String {
    let mut line = start;
    let mut used = style::width(&line);
    for field in fields.iter().filter(|field| !field.is_empty()) {
        let more = style::width(field) + 2;
        if columns.is_none_or(|columns| used + more <= columns) {
            line += "  ";
            line += field;
            used += more;
        }
    }
    line
}
