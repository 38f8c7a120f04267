//! A run as one file: what `planexe report --html` writes. It has no script and loads nothing; its size is bounded.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::{COMMON, TONES, escape, escape_lines, graph, timeline, tone, word};
use crate::views::timeline::Timeline;
use crate::views::{
    ExplainView, FailuresView, GraphView, PromptPart, ShowView, StatusView, TaskView, UsageView,
    imported_from, shell_word, time,
};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_base::style::{clean, clean_lines, count, elapsed, money};

const STYLE: &str = include_str!("report.css");

/// Longest text that is shown whole, in bytes.
const LONGEST: usize = 48 << 10;
/// Beyond so many bytes rooms are shown without their texts.
const ROOMY: usize = 8 << 20;
/// Beyond so many bytes no further room is shown.
const FULL: usize = 10 << 20;
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

fn rooms_of(out: &mut String, report: &Report) {
    *out += "<h2 id=\"tasks\">Tasks</h2>\n";
    let tasks: HashMap<&str, &TaskView> =
        report.status.tasks.iter().map(|task| (task.task.as_str(), task)).collect();
    let (mut bare, mut left) = (0, report.left_out);
    for (at, room) in report.rooms.iter().enumerate() {
        if out.len() > FULL {
            left += 1;
            continue;
        }
        let whole = out.len() <= ROOMY;
        bare += u32::from(!whole);
        one(out, at, room, tasks.get(room.explain.task.as_str()).copied(), whole);
    }
    if bare > 0 {
        let _ = writeln!(
            out,
            "<p class=\"note\">To keep this file small, {bare} tasks are told without their texts. <code>planexe -C {} show TASK</code> shows them.</p>",
            escape(&report.typed)
        );
    }
    if left > 0 {
        let _ = writeln!(
            out,
            "<p class=\"note\">To keep this file small, {left} tasks are left out: those that are done first. <code>planexe -C {} status -v</code> lists all.</p>",
            escape(&report.typed)
        );
    }
}

fn one(out: &mut String, at: usize, room: &Room, task: Option<&TaskView>, whole: bool) {
    let Room { explain, show } = room;
    let used = task.and_then(|task| task.result.usage.as_ref());
    let mut end = Vec::new();
    if let Some(model) = task.and_then(|task| task.last.model.as_deref()) {
        end.push(clean(model));
    }
    if let Some(seconds) = task.and_then(|task| task.last.duration_s) {
        end.push(elapsed(seconds));
    }
    if let Some(usd) = used.map(|used| used.cost_usd).filter(|usd| *usd > 0.0) {
        end.push(money(usd));
    }
    let _ = write!(
        out,
        "<details><summary>{} <b>{}</b> <span class=\"sub\">{}</span><span class=\"end\">{}</span></summary>\n<div class=\"room\" id=\"t{at}\">\n",
        sign(explain.state),
        escape(&explain.task),
        escape(explain.recipe.as_deref().unwrap_or_default()),
        escape(&end.join(" · "))
    );
    if let Some(text) = &explain.description {
        let _ = writeln!(out, "<p>{}</p>", escape(&cut(text, 800)));
    }
    why(out, explain, task);
    attempts(out, show);
    if let Some(used) = used.filter(|used| used.calls > 0) {
        let _ = writeln!(
            out,
            "<h3>Cost</h3><p>{}, {} tokens in, {} out, {}</p>",
            count(used.calls, "call"),
            short(used.input_tokens),
            short(used.output_tokens),
            money(used.cost_usd)
        );
    }
    if !show.outputs.is_empty() {
        *out += "<h3>Outputs</h3><ul>";
        for output in show.outputs.iter().take(20) {
            let _ = write!(out, "<li><code>{}</code> {} bytes</li>", escape(&output.path), output.bytes);
        }
        *out += "</ul>\n";
    }
    if whole {
        let what = if show.shown.is_some() { "was sent" } else { "would be sent now" };
        for (head, text, parts) in [
            (format!("System prompt: what {what}"), &show.system, &[][..]),
            (format!("Prompt: what {what}"), &show.prompt, &show.parts),
            ("Answer".to_owned(), &show.answer, &[]),
            ("Log".to_owned(), &show.log, &[]),
        ] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                let _ = writeln!(
                    out,
                    "<details><summary>{head}</summary><div class=\"room\">{}</div></details>",
                    parted(text, parts)
                );
            }
        }
    }
    *out += "</div></details>\n";
}

fn why(out: &mut String, explain: &ExplainView, task: Option<&TaskView>) {
    *out += "<h3>Why</h3>";
    let mut lines: Vec<String> = explain.reasons.iter().map(|reason| clean(&reason.message)).collect();
    if !explain.blocked_by.is_empty() {
        lines.push(format!("blocked by {}", crate::views::some_names(&explain.blocked_by, 8)));
    }
    if !explain.depends_on.is_empty() {
        lines.push(format!("depends on {}", crate::views::some_names(&explain.depends_on, 8)));
    }
    if let Some(asked) = &explain.asked {
        lines.push(format!("asked of a person: {}", cut(asked, 2000)));
    }
    if let Some(warning) = &explain.warning {
        lines.push(format!("warning: {}", cut(warning, 800)));
    }
    if let Some(failure) = &explain.failure {
        lines.push(format!("{}: {}", failure.class.name(), cut(&failure.message.to_lines(), 2000)));
    }
    if lines.is_empty() {
        lines.push("nothing it is made from changed".to_owned());
    }
    if let Some(done) = &explain.completed_utc {
        let by = match &explain.imported {
            Some(imported) => Some(format!(", {}", imported_from(imported))),
            None => {
                explain.by_user.as_deref().or(explain.by.as_deref()).map(|by| format!(" by {}", clean(by)))
            }
        };
        lines.push(format!("completed {}{}", time(done), by.unwrap_or_default()));
    }
    lines.extend(explain.next.iter().map(|next| format!("the next build would {}", clean(next))));
    if let Some(eval) = task.and_then(|task| task.quality.eval.as_ref()).filter(|eval| !eval.is_null()) {
        let part =
            |name: &str| eval.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        let score = part("score").map(|score| format!("evaluator: score {score}"));
        let notes = part("notes").filter(|notes| !notes.is_empty() && notes != "null" && notes != "[]");
        lines.extend(
            score.map(|score| notes.map_or(score.clone(), |notes| format!("{score}: {}", cut(&notes, 800)))),
        );
    }
    *out += "<ul>";
    for line in lines {
        let _ = write!(out, "<li>{}</li>", escape_lines(&clean_lines(&line)));
    }
    *out += "</ul>\n";
    for diff in explain.reasons.iter().filter_map(|reason| reason.diff.as_ref()) {
        *out += &coloured(diff);
    }
}

fn attempts(out: &mut String, show: &ShowView) {
    if show.calls.is_empty() {
        return;
    }
    *out += "<h3>Attempts and verdicts</h3><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Attempts\"><table><thead><tr><th scope=\"col\">call</th><th scope=\"col\">attempt</th><th scope=\"col\">model</th><th scope=\"col\">verdict</th><th scope=\"col\" class=\"n\">in</th><th scope=\"col\" class=\"n\">out</th><th scope=\"col\" class=\"n\">time</th></tr></thead><tbody>";
    for call in show.calls.iter().rev().take(30) {
        let mut verdict = call.verdict.replace('_', " ");
        if let Some(why) = &call.why {
            let _ = write!(verdict, ": {}", cut(why, 400));
        }
        let of = if call.evaluation { " (evaluation)" } else { "" };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}{of}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            call.number,
            call.attempt,
            escape(&call.model),
            escape(&verdict),
            short(call.input_tokens),
            short(call.output_tokens),
            call.duration_s.map(elapsed).unwrap_or_default()
        );
    }
    *out += "</tbody></table></div>\n";
}

/// A text as it is, cut where it is long.
fn block(text: &str) -> String {
    format!("<pre tabindex=\"0\">{}</pre>\n", escape_lines(&clean_lines(&cut(text, LONGEST))))
}

/// A prompt, with what came from an input marked by the input's name.
fn parted(text: &str, parts: &[PromptPart]) -> String {
    let text = cut(text, LONGEST);
    let lines: Vec<&str> = text.lines().collect();
    let mut out = "<pre tabindex=\"0\">".to_owned();
    let mut write = |lines: &[&str], input: Option<&str>| {
        let text = escape_lines(&clean_lines(&lines.join("\n")));
        let _ = match input {
            _ if lines.is_empty() => Ok(()),
            None => writeln!(out, "{text}"),
            Some(input) => {
                write!(out, "<span class=\"from\"><b>{}</b>{text}</span>", escape(&clean(input)))
            }
        };
    };
    let mut at = 0;
    for part in parts {
        let (from, to) = (part.first_line.saturating_sub(1).max(at), part.last_line.min(lines.len()));
        if from < to {
            write(&lines[at..from], None);
            write(&lines[from..to], Some(&part.input));
            at = to;
        }
    }
    write(&lines[at.min(lines.len())..], None);
    out + "</pre>\n"
}

fn coloured(diff: &str) -> String {
    let mut out = "<pre tabindex=\"0\">".to_owned();
    for line in clean_lines(&cut(diff, LONGEST)).lines() {
        let line_of = |class: &str| format!("<span class=\"{class}\">{}</span>\n", escape_lines(line));
        out += &match line.chars().next() {
            Some('+') => line_of("add"),
            Some('-') => line_of("del"),
            _ => format!("{}\n", escape_lines(line)),
        };
    }
    out + "</pre>\n"
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}… ({} bytes more are left out)", &text[..end], text.len() - end)
}

/// A large number in few digits.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{:.0}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}
