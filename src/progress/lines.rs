//! The lines a build leaves behind, one for each event worth one; shared by the plain and the live display.

use crate::event::Kind;
use crate::record::StatusUsage;
use crate::report::reason_of;
use crate::style::{self, Shown, Style, clean, pad, pad_left};

/// The line of an event, without its line end. `None` for events that leave no line.
pub(super) fn of_event(kind: &Kind, style: &Style, explain: bool) -> Option<String> {
    let line = match kind {
        Kind::TaskStale { task, reasons } if explain => {
            row(style, Shown::Stale, task, &format!("stale: {}", clean(&reasons.join("; "))))
        }
        Kind::TaskCompleted { task, .. } => return Some(completed(kind, task, style)),
        Kind::TaskRetrying { task, attempt, failure, next } => {
            let what = format!("attempt {attempt} failed: {}; {}", reason_of(failure), clean(next));
            row(style, Shown::Pending, task, &what)
        }
        Kind::TaskFailed { task, failure, blocked, .. } => {
            let blocks = match blocked {
                0 => String::new(),
                blocked => format!(" (blocks {})", style::count(u64::from(*blocked), "task")),
            };
            row(style, Shown::Failed, task, &format!("{}{blocks}", reason_of(failure)))
        }
        Kind::TaskSkipped { task } => row(style, Shown::Skipped, task, "skipped"),
        Kind::TaskWaiting { task, message } => {
            row(style, Shown::Waiting, task, &format!("waits for a person: {}", clean(message)))
        }
        Kind::TaskStopped { task } => row(style, Shown::Stopped, task, "stopped"),
        Kind::TaskStalled { task, idle_s } => {
            row(style, Shown::Damaged, task, &format!("no progress for {}", style::elapsed(*idle_s)))
        }
        Kind::Note { task, message, warning } => {
            let about = task.as_ref().map(|task| clean(task) + ": ").unwrap_or_default();
            let label = if *warning { style.paint(style::YELLOW, "warning:") } else { style.dim("note:") };
            format!("{label} {about}{}", clean(message))
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

/// Columns given to names.
pub(super) fn name_columns(style: &Style) -> usize {
    (style.columns() / 3).clamp(12, 30)
}

/// Glyph, name, and the rest.
pub(super) fn row(style: &Style, state: Shown, task: &str, rest: &str) -> String {
    let line = format!("{} {}  {rest}", style.glyph(state), pad(&clean(task), name_columns(style)));
    line.trim_end().to_owned()
}

fn completed(kind: &Kind, task: &str, style: &Style) -> String {
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
    let name = pad(&clean(task), name_columns(style));
    format!(
        "{} {}",
        style.glyph(Shown::Done),
        join_fitting(name, &fields, style.width.map(|width| width - 2))
    )
    .trim_end()
    .to_owned()
}

/// Tokens and money, if any were spent.
pub(super) fn figures(usage: &StatusUsage) -> Vec<String> {
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
