//! A run as one file: what `planexe report --html` writes. It has no script and loads nothing; its size is bounded.

mod rooms;
mod text;

use std::collections::HashMap;
use std::fmt::Write as _;

use super::{COMMON, TONES, escape, escape_lines, graph, timeline, tone, word};
use crate::views::timeline::Timeline;
use crate::views::{
    ExplainView, FailuresView, GraphView, ShowView, StatusView, TaskView, UsageView, shell_word, time,
};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_base::style::{clean_lines, elapsed, money};
use rooms::rooms_of;
use text::{LONGEST, block, cut};

const STYLE: &str = include_str!("report.css");

/// Lines of a list at most.
const LINES: usize = 200;

/// A run, as gathered for its report.
#[derive(Debug)]
pub struct Report {
    /// As `status` tells it.
    pub status: StatusView,
    /// As `graph` tells it, judged.
    pub graph: GraphView,
    /// When it did what.
    pub timeline: Timeline,
    /// As `failures` tells it.
    pub failures: FailuresView,
    /// As `usage` tells it.
    pub usage: UsageView,
    /// Tasks, each with why it ran and what was said.
    pub rooms: Vec<Room>,
    /// Tasks for which there is no room.
    pub left_out: usize,
    /// The plan: its file and its text.
    pub plan: Option<(String, String)>,
    /// The folder, as commands name it.
    pub typed: String,
    /// When it was gathered.
    pub made_utc: String,
}

/// A task.
#[derive(Debug)]
pub struct Room {
    /// Why it ran, or would.
    pub explain: ExplainView,
    /// What it was sent and what came back.
    pub show: ShowView,
}

/// The page.
pub fn html(report: &Report) -> String {
    let status = &report.status;
    let rooms = report.rooms.iter().enumerate();
    let mut places: HashMap<String, String> =
        rooms.map(|(at, room)| (room.explain.task.clone(), format!("#t{at}"))).collect();
    // The box of a fan-out leads to the first of its items that is told.
    for task in &status.tasks {
        if let (Some(family), Some(place)) = (&task.family, places.get(&task.task).cloned()) {
            places.entry(family.clone()).or_insert(place);
        }
    }
    let title = status.run.label.as_deref().unwrap_or(&status.run.pipeline);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>{0}: {1}</title>\n<style>\n{TONES}{COMMON}{STYLE}{2}{3}</style>\n</head>\n<body>\n<header>\n<h1>{0}</h1>\n<p class=\"sub\">{4}</p>\n",
        escape(title),
        status.run.phase,
        graph::STYLE,
        timeline::STYLE,
        escape(&about(report))
    );
    out += "</header>\n<nav aria-label=\"Parts of this page\"><ul>";
    for (id, name) in parts(report) {
        let _ = write!(out, "<li><a href=\"#{id}\">{name}</a></li>");
    }
    out += "</ul></nav>\n<main>\n";
    overview(&mut out, report, &places);
    attention(&mut out, report, &places);
    out += "<h2 id=\"graph\">Graph</h2>\n<p class=\"sub\">From the top down. The critical path, which took longest, has an orange line. A box leads to its task.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Graph\">\n";
    out += &graph::svg(&report.graph, Some(&places));
    out += "</div>\n";
    if report.timeline.start().is_some() {
        out += "<h2 id=\"timeline\">Timeline</h2>\n<p class=\"sub\">Calls by slot, waits apart. Times in which nothing was recorded are cut short.</p>\n<div class=\"scroll wide\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline\">\n";
        out += &timeline::svg(&report.timeline, &places, timeline::WIDTH);
        out += "</div>\n";
    }
    usage(&mut out, report);
    failed_attempts(&mut out, report, &places);
    rooms_of(&mut out, report);
    if let Some((file, text)) = &report.plan {
        let _ =
            write!(out, "<h2 id=\"plan\">Plan</h2>\n<p class=\"sub\">{}</p>\n{}", escape(file), block(text));
    }
    let _ = write!(
        out,
        "</main>\n<footer><p>Made by planexe {} at {} from the records of the run. Keys are left out. A text longer than {} KiB is cut.</p></footer>\n</body>\n</html>\n",
        escape(&status.server.version),
        escape(&time(&report.made_utc)),
        LONGEST >> 10
    );
    out
}

fn parts(report: &Report) -> Vec<(&'static str, &'static str)> {
    let mut parts = vec![("overview", "Overview")];
    if needs_somebody(report) {
        parts.push(("next", "What to do"));
    }
    parts.push(("graph", "Graph"));
    if report.timeline.start().is_some() {
        parts.push(("timeline", "Timeline"));
    }
    if report.usage.total.calls > 0 {
        parts.push(("usage", "Cost"));
    }
    if !report.failures.failures.is_empty() {
        parts.push(("failures", "Failed attempts"));
    }
    parts.push(("tasks", "Tasks"));
    if report.plan.is_some() {
        parts.push(("plan", "Plan"));
    }
    parts
}

fn about(report: &Report) -> String {
    let run = &report.status.run;
    let mut words = vec![run.pipeline.clone(), run.dir.clone()];
    if let Some(started) = &run.started_utc {
        words.push(format!("started {}", time(started)));
    }
    if !run.models.is_empty() {
        words.push(run.models.join(", "));
    }
    words.join(" · ")
}

fn phase_tone(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Completed => "done",
        RunPhase::Running => "run",
        RunPhase::Failed => "fail",
        RunPhase::NeverStarted => "off",
        _ => "wait",
    }
}

fn overview(out: &mut String, report: &Report, _: &HashMap<String, String>) {
    let status = &report.status;
    let usage = &report.usage.total;
    *out += "<h2 id=\"overview\">Overview</h2>\n<ul class=\"cards\">\n";
    let mut card = |value: String, name: &str, class: &str| {
        let _ = writeln!(out, "<li><b class=\"{class}\">{value}</b><span>{name}</span></li>");
    };
    let phase = format!("s-{}", phase_tone(status.run.phase));
    card(status.run.phase.to_string(), "state", &phase);
    card(format!("{} of {}", status.steps_completed, status.steps_total), "tasks complete", "");
    card(money(status.cost_usd.unwrap_or(usage.cost_usd)), "cost", "");
    let failed =
        if usage.failed > 0 { format!("calls, {} without an answer", usage.failed) } else { "calls".into() };
    card(usage.calls.to_string(), &failed, "");
    card(format!("{} + {}", short(usage.input_tokens), short(usage.output_tokens)), "tokens in and out", "");
    let builds: i64 = report.timeline.builds.iter().map(|build| build.to - build.from).sum();
    if builds > 0 {
        card(elapsed(builds as f64 / 1e6), "building", "");
    }
    if let Some(eta_s) = status.eta_s {
        card(elapsed(eta_s), "to go", "");
    }
    *out += "</ul>\n";
    let states = State::ALL.iter().filter_map(|state| {
        let count = status.counts.get(state.name()).copied().filter(|count| *count > 0)?;
        Some((*state, count))
    });
    let states: Vec<(State, u32)> = states.collect();
    let all: u32 = states.iter().map(|(_, count)| count).sum();
    *out += "<div class=\"bar\" aria-hidden=\"true\">";
    for (state, count) in &states {
        // A style of an element is of this page, and a number.
        let share = 100.0 * f64::from(*count) / f64::from(all.max(1));
        let _ = write!(out, "<i class=\"b-{}\" style=\"width:{share:.2}%\"></i>", tone(*state));
    }
    *out += "</div>\n<ul class=\"key\">";
    for (state, count) in &states {
        let _ = write!(out, "<li>{} {count}</li>", sign(*state));
    }
    *out += "</ul>\n";
    let quality = &status.quality_summary;
    for (names, what) in [
        (&quality.partial, "done with items missing"),
        (&quality.sample, "done with an answer recorded for another prompt"),
        (&quality.rescued, "accepted by their evaluator in spite of a failure"),
        (&quality.accepted, "accepted by a person as they are"),
        (&quality.warned, "gates with a warning"),
    ] {
        if !names.is_empty() {
            let names = crate::views::some_names(names, 12);
            let _ = writeln!(out, "<p class=\"note warn\">{what}: {}</p>", escape(&names));
        }
    }
}

/// A state, told by shape, word and colour.
fn sign(state: State) -> String {
    format!("<span class=\"s s-{}\">{} {}</span>", tone(state), escape(state.glyph()), word(state))
}

fn needs_somebody(report: &Report) -> bool {
    wants(report).next().is_some() || report.status.error.is_some()
}

/// Tasks that failed, or wait for a person; families are told by their items.
fn wants(report: &Report) -> impl Iterator<Item = &TaskView> {
    let families: std::collections::HashSet<&str> =
        report.status.tasks.iter().filter_map(|task| task.family.as_deref()).collect();
    report.status.tasks.iter().filter(move |task| {
        matches!(task.state, State::Failed | State::Waiting | State::Damaged)
            && !families.contains(task.task.as_str())
    })
}

fn linked(name: &str, places: &HashMap<String, String>) -> String {
    match places.get(name) {
        Some(place) => format!("<a href=\"{}\">{}</a>", escape(place), escape(name)),
        None => escape(name),
    }
}

fn attention(out: &mut String, report: &Report, places: &HashMap<String, String>) {
    if !needs_somebody(report) {
        return;
    }
    *out += "<h2 id=\"next\">What to do</h2>\n";
    let planexe = |command: String| format!("planexe -C {} {command}", report.typed);
    let all = wants(report).count();
    for task in wants(report).take(LINES) {
        let name = linked(&task.task, places);
        let typed = shell_word(&task.task);
        if task.state == State::Waiting {
            let asked = task.doing.as_deref().map(clean_lines).unwrap_or_default();
            let _ = writeln!(
                out,
                "<div class=\"note wait\">{} {name}<p>{}</p><p><code>{}</code></p></div>",
                sign(task.state),
                escape_lines(&asked),
                escape(&planexe(format!("done {typed}")))
            );
            continue;
        }
        let failure = task.result.failure.as_ref();
        let why = failure.map_or_else(
            || task.reasons.iter().map(|reason| reason.message.clone()).collect::<Vec<_>>().join("; "),
            |failure| format!("{}: {}", failure.class.name(), failure.message.to_lines()),
        );
        let next = match task.state {
            State::Failed => planexe(format!("retry {typed}")),
            _ => planexe(format!("explain {typed}")),
        };
        let _ = writeln!(
            out,
            "<div class=\"note fail\">{} {name}<p>{}</p><p><code>{}</code> <code>{}</code></p></div>",
            sign(task.state),
            escape_lines(&clean_lines(&why)),
            escape(&next),
            escape(&planexe(format!("explain {typed}")))
        );
    }
    if all > LINES {
        let _ = writeln!(
            out,
            "<p>{} more are left out; <code>{}</code> lists them.</p>",
            all - LINES,
            escape(&planexe("status".into()))
        );
    }
    if let Some(error) = report.status.error.as_ref().filter(|_| all == 0) {
        let _ = writeln!(
            out,
            "<div class=\"note fail\"><p>{}: {}</p><p><code>{}</code></p></div>",
            escape(&error.failed_step),
            escape_lines(&clean_lines(&error.message.to_lines())),
            escape(&error.next)
        );
    }
}

fn usage(out: &mut String, report: &Report) {
    if report.usage.total.calls == 0 {
        return;
    }
    *out += "<h2 id=\"usage\">Cost</h2>\n";
    for (head, rows) in [("model", &report.usage.by_model), ("task", &report.usage.by_task)] {
        let _ = write!(
            out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Cost by {head}\"><table><thead><tr><th scope=\"col\">{head}</th><th scope=\"col\" class=\"n\">calls</th><th scope=\"col\" class=\"n\">failed</th><th scope=\"col\" class=\"n\">in</th><th scope=\"col\" class=\"n\">out</th><th scope=\"col\" class=\"n\">time</th><th scope=\"col\" class=\"n\">cost</th></tr></thead><tbody>"
        );
        for row in rows.iter().take(20) {
            let _ = write!(
                out,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escape(&row.name),
                row.calls,
                row.failed,
                short(row.input_tokens),
                short(row.output_tokens),
                elapsed(row.duration_s),
                money(row.cost_usd)
            );
        }
        *out += "</tbody></table></div>\n";
        if rows.len() > 20 {
            let _ = writeln!(out, "<p class=\"sub\">The 20 costliest of {}.</p>", rows.len());
        }
    }
}

fn failed_attempts(out: &mut String, report: &Report, places: &HashMap<String, String>) {
    let failures = &report.failures.failures;
    if failures.is_empty() {
        return;
    }
    *out += "<h2 id=\"failures\">Failed attempts</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Failed attempts\"><table><thead><tr><th scope=\"col\">when</th><th scope=\"col\">task</th><th scope=\"col\">class</th><th scope=\"col\">what was said</th></tr></thead><tbody>";
    let first = failures.len().saturating_sub(LINES);
    for failure in &failures[first..] {
        let said = failure.message.to_lines();
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&time(&failure.timestamp_utc)),
            linked(&failure.task, places),
            escape(failure.class.name()),
            escape(&cut(&said, 600))
        );
    }
    *out += "</tbody></table></div>\n";
    if first > 0 {
        let _ = writeln!(out, "<p class=\"sub\">The last {LINES} of {}.</p>", failures.len());
    }
}

/// A large number in few digits.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{:.0}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}
