//! A chart as a page: one file, no script, nothing loaded, light and dark, for a wide screen, a phone and paper. Every
//! text is escaped.

use std::fmt::Write as _;

use super::text::{axis_of, day, marks_of, moment};
use super::{Axis, Chart, Row, Span};
use planexe_base::style::{DisplayState, clean};

const STYLE: &str = include_str!("page.css");

/// The page. `again`: seconds after which a browser loads it anew.
pub fn html(chart: &Chart, again: Option<u32>) -> String {
    let axis = axis_of(chart, 12);
    let title = escape(&chart.title);
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n";
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n";
    if let Some(seconds) = again {
        let _ = writeln!(page, "<meta http-equiv=\"refresh\" content=\"{seconds}\">");
    }
    let _ = write!(
        page,
        "<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1 dir=\"auto\">{title}</h1>\n"
    );
    let part = if chart.all > 0 { 100.0 * f64::from(chart.done) / f64::from(chart.all) } else { 0.0 };
    let _ = writeln!(
        page,
        "<div class=\"all\" role=\"img\" aria-label=\"{} of {} done\"><i style=\"width:{part:.1}%\"></i></div>",
        chart.done, chart.all
    );
    let _ = write!(page, "<p class=\"counts\"><b>{} of {} done</b>", chart.done, chart.all);
    for state in DisplayState::ALL.into_iter().filter(|state| !state.is_complete()) {
        if let Some(count) = chart.counts.get(state.word()) {
            let _ = write!(
                page,
                " <span class=\"chip {}\">{} {count} {}</span>",
                class(state),
                state.glyph(),
                word(state)
            );
        }
    }
    let range = match chart.is_planned {
        true => {
            format!("{} to {}, shown on {}", day(chart.whole.from), day(chart.whole.to - 1), day(chart.now))
        }
        false => format!("shown at {} UTC", moment(chart.now)),
    };
    let _ = write!(page, "</p>\n<p class=\"range\">{range}</p>\n</header>\n<div class=\"chart\">\n");
    overlay(&mut page, chart, &axis);
    rows(&mut page, chart, &axis);
    page += "</div>\n<footer>";
    page += match chart.is_planned {
        true => {
            "<span><i class=\"key plan\"></i>planned</span><span><i class=\"key act done\"></i>done</span><span><i class=\"key act running\"></i>under way</span><span><i class=\"key today\"></i>today</span><span><i class=\"key due\"></i>must be done by</span><span><em></em>critical path</span>"
        }
        false => {
            "<span><i class=\"key act done\"></i>done</span><span><i class=\"key act running\"></i>under way</span><span><i class=\"key plan\"></i>expected</span><span>times without work are left out</span>"
        }
    };
    page += "</footer>\n</main>\n</body>\n</html>\n";
    page
}

/// The lines behind all rows, and the names above them.
fn overlay(page: &mut String, chart: &Chart, axis: &Axis) {
    *page += "<div class=\"row marks\"><div class=\"name\"></div><div class=\"lane\">";
    for (place, name) in marks_of(chart, axis) {
        // What begins near the right edge is written to the left of its line.
        let side = if place > 0.96 { "left" } else { "" };
        // A phone has room for the years.
        let year = if name.chars().rev().take(4).all(|c| c.is_ascii_digit()) || !chart.is_planned {
            " year"
        } else {
            ""
        };
        let _ = write!(
            page,
            "<b class=\"{side}{year}\" style=\"left:{:.2}%\">{}</b>",
            place * 100.0,
            escape(&name)
        );
    }
    *page += "</div><div class=\"state\"></div></div>\n<div class=\"row lines\" aria-hidden=\"true\"><div class=\"name\"></div><div class=\"lane\">";
    for (place, _) in &axis.marks {
        let _ = write!(page, "<i style=\"left:{:.2}%\"></i>", place * 100.0);
    }
    for place in &axis.gaps {
        let _ = write!(page, "<i class=\"gap\" style=\"left:{:.2}%\"></i>", place * 100.0);
    }
    if chart.is_planned {
        let _ = write!(page, "<i class=\"today\" style=\"left:{:.2}%\"></i>", axis.place(chart.now) * 100.0);
    }
    *page += "</div><div class=\"state\"></div></div>\n";
}

/// The rows; steps can be folded into their task.
fn rows(page: &mut String, chart: &Chart, axis: &Axis) {
    let mut at = 0;
    while at < chart.rows.len() {
        let row = &chart.rows[at];
        let below = chart.rows[at + 1..].iter().take_while(|other| other.level > row.level.max(2)).count();
        if row.level != 2 || below == 0 {
            one(page, chart, row, axis, "div");
            at += 1;
            continue;
        }
        let steps = &chart.rows[at + 1..at + 1 + below];
        let open = if steps.iter().any(Row::is_pressing) { " open" } else { "" };
        let _ = writeln!(page, "<details{open}>");
        one(page, chart, row, axis, "summary");
        for step in steps {
            one(page, chart, step, axis, "div");
        }
        *page += "</details>\n";
        at += 1 + below;
    }
}

fn one(page: &mut String, chart: &Chart, row: &Row, axis: &Axis, tag: &str) {
    let is_late = row.late_days.is_some() && !row.state.is_complete();
    let classes = format!("row l{} {}{}", row.level, class(row.state), if is_late { " late" } else { "" });
    let _ =
        write!(page, "<{tag} class=\"{classes}\"><div class=\"name\" dir=\"auto\">{}", escape(&row.title));
    if row.critical {
        *page += "<em title=\"on the critical path\"></em>";
    }
    if let Some(owner) = &row.owner {
        let _ = write!(page, "<small>{}</small>", escape(owner));
    }
    *page += "</div><div class=\"lane\">";
    let about = about(chart, row);
    let mut bar = |span: Option<Span>, kind: &str| {
        let Some(span) = span else { return };
        let (from, to) = (axis.place(span.from) * 100.0, axis.place(span.to) * 100.0);
        let _ = write!(
            page,
            "<i class=\"{kind}\" style=\"left:{from:.2}%;width:{:.2}%\" title=\"{}\"></i>",
            (to - from).max(0.0),
            escape(&about)
        );
    };
    bar(row.planned.or(row.expected), "plan");
    let done = match row.state {
        DisplayState::Failed => "act failed",
        state if state.is_complete() || row.is_sum() && row.done > 0 => "act done",
        DisplayState::Waiting | DisplayState::Stopped => "act waiting",
        _ => "act running",
    };
    bar(row.actual, done);
    if let Some(at) = row.deadline {
        let why = row.deadline_reason.as_deref().unwrap_or_default();
        let told = format!("by {}: {why}", day(at - 1));
        let _ = write!(
            page,
            "<i class=\"due\" style=\"left:{:.2}%\" title=\"{}\"></i>",
            axis.place(at) * 100.0,
            escape(&told)
        );
    }
    let mut state = match row.is_sum() && row.all > 1 {
        true => format!("{} {}/{}", word(row.state), row.done, row.all),
        false => word(row.state).to_owned(),
    };
    if let Some(late) = row.late_days.filter(|_| is_late) {
        let _ = write!(state, ", {late} d late");
    }
    let _ = writeln!(
        page,
        "</div><div class=\"state\"><span aria-hidden=\"true\">{}</span> {state}</div></{tag}>",
        row.state.glyph()
    );
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

fn class(state: DisplayState) -> &'static str {
    state.word()
}

fn word(state: DisplayState) -> &'static str {
    match state {
        DisplayState::PendingEval => "pending eval",
        DisplayState::FailedPendingEval => "failed, pending eval",
        state => state.word(),
    }
}

/// A text as HTML shows it: one line without marks that reorder it, and nothing in it is markup.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
