//! The rooms of a report: one for each task, with its prompt, its answer and its attempts.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::{escape, escape_lines};
use super::text::{coloured, cut, parted};
use super::{Report, Room, short, sign};
use crate::views::{ExplainView, ShowView, TaskView, imported_from, time};
use planexe_base::style::{clean, clean_lines, count, elapsed, money};

/// Beyond so many bytes rooms are shown without their texts.
const ROOMY: usize = 8 << 20;

/// Beyond so many bytes no further room is shown.
const FULL: usize = 10 << 20;

pub(super) fn rooms_of(out: &mut String, report: &Report) {
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
            "<p class=\"note\">To keep this file small, {} {} texts. <code>planexe -C {} show TASK</code> shows them.</p>",
            count(bare.into(), "task"),
            if bare == 1 { "is told without its" } else { "are told without their" },
            escape(&report.typed)
        );
    }
    if left > 0 {
        let _ = writeln!(
            out,
            "<p class=\"note\">To keep this file small, {} {} left out: those that are done first. <code>planexe -C {} status -v</code> lists all.</p>",
            count(left as u64, "task"),
            if left == 1 { "is" } else { "are" },
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
            let _ =
                write!(out, "<li><code>{}</code> {}</li>", escape(&output.path), count(output.bytes, "byte"));
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
